"""What the command lines share: TOML configs, one-line errors, exit statuses."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import obiwan.dplearn
from obiwan.dplearn.create_training import build_parser
from obiwan.dplearn.errors import DplearnError
from obiwan.dplearn.running import cli, programs

PROGRAMS = ("inject", "create_training", "measure", "cnn", "tune", "evaluate", "mock.__main__", "mosaic")
PROGRAMS = (*PROGRAMS, "shards", "export")


def parser_of(program: str) -> argparse.ArgumentParser:
    module = importlib.import_module(f"obiwan.dplearn.{program}")
    return module.parser() if program.startswith("mock") else module.build_parser()


def wide_help(program: str, capsys, monkeypatch) -> str:
    """Text of ``--help`` with a line for each option."""
    monkeypatch.setenv("COLUMNS", "4000")
    with pytest.raises(SystemExit):
        importlib.import_module(f"obiwan.dplearn.{program}").main(["--help"])
    return re.sub(r"\n {8,}", "  ", capsys.readouterr().out)


def write(tmp_path, text: str) -> str:
    path = tmp_path / "options.toml"
    path.write_text(text)
    return str(path)


TOML = """
# a training set
fake = ["a", "b"]
outdir = "out"
seed = 7
test-fraction = 0.25
match_radius = 1.0
allow-injected-neighbours = true
overwrite = false
"""


def test_config_file_and_flags_that_win(tmp_path):
    path = write(tmp_path, TOML)
    options = cli.parse(build_parser(), ["--config", path])
    assert [str(word) for word in options.fake] == ["a", "b"]
    assert (options.seed, options.test_fraction, options.match_radius) == (7, 0.25, 1.0)
    assert (options.allow_injected_neighbours, options.overwrite) == (True, False)
    assert options.val_fraction == 0.1  # the program's default
    options = cli.parse(build_parser(), ["--seed", "9", f"--config={path}", "--fake", "c", "--overwrite"])
    assert (options.seed, [str(word) for word in options.fake]) == (9, ["c"])
    assert options.overwrite
    assert options.test_fraction == 0.25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sead = 7", "unknown option 'sead'"),
        ("seed = 'seven'", "invalid int value"),
        ("jobs = 'many'", "invalid jobs value"),
        ("balance = 'all'", "invalid choice"),
        ("seed = ", "not valid TOML"),
        ("outdir = false", "outdir: it is no switch"),
        ("overwrite = 1", "overwrite: it is a switch"),
        ("fake = [['a']]", "fake: a list holds words"),
        ("config = 'other.toml'", "unknown option 'config'"),
        ("jobs = 3000000000", "must be 1 to 4096"),
        ("[seed]\nvalue = 1", "is a table"),
    ],
)
def test_bad_config(text, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.parse(build_parser(), ["--config", write(tmp_path, text)])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_given_twice_it_adds_up_and_replaces_the_files(tmp_path):
    path = write(tmp_path, 'fake = ["a", "b"]\nreal = ["r"]\noutdir = "out"')
    for given in (["--fake", "c", "d", "--fake", "e"], ["--fake=c", "--fake", "d", "e"]):
        options = cli.parse(build_parser(), ["--config", path, *given])
        assert [str(word) for word in options.fake] == ["c", "d", "e"]
        assert [str(word) for word in options.real] == ["r"]
    assert build_parser().get_default("fake") == []  # as before


@pytest.mark.parametrize("program", PROGRAMS)
def test_flags_of_many_values_add_up_in_every_program(program):
    parser = parser_of(program)
    many = [action for action in parser._actions if action.nargs in ("+", "*")]
    assert many or program in ("mock.__main__", "mosaic", "export")
    replacing = {action.dest for action in many if not isinstance(action, argparse._ExtendAction)}
    assert all(parser.get_default(name) for name in replacing)  # to a default nobody wants to add


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_is_missing_is_told_at_once(program, capsys):
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(f"obiwan.dplearn.{program}").main([])
    assert caught.value.code == 2
    assert re.search("arguments are required: .*--outdir", capsys.readouterr().err)


def test_config_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "windows.toml"
    path.write_bytes('outdir = "out"\r\nseed = 7\r\n'.encode("utf-8-sig"))
    assert cli.parse(build_parser(), ["--config", str(path)]).seed == 7


def test_absent_config(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.parse(build_parser(), ["--config", str(tmp_path / "absent.toml")])
    assert caught.value.code == 2
    assert "absent.toml: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (DplearnError("brick 1 is\n broken"), 1, "prog: error: brick 1 is broken"),
        (OSError(28, "No space left on device", "/x/y"), 1, "No space left on device: /x/y"),
        (KeyboardInterrupt(), 130, "start it again"),
    ],
)
def test_errors_are_one_line(error, status, words, capsys):
    def program() -> int:
        raise error

    assert cli.run(program, "prog") == status
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_verbose_shows_the_traceback(capsys):
    def program() -> int:
        msg = "broken"
        raise DplearnError(msg)

    assert cli.run(program, "prog", verbose=True) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.rstrip().endswith("prog: error: broken")


def test_faults_of_the_program_are_not_hidden():
    def program() -> int:
        return {}["a fault"]

    with pytest.raises(KeyError):
        cli.run(program, "prog")


def test_success(capsys):
    assert cli.run(lambda: 0, "prog") == 0
    cli.say("done")
    assert capsys.readouterr().out == "done\n"


# `tune` has a default that argparse does not know
@pytest.mark.parametrize("program", [name for name in PROGRAMS if name != "tune"])
def test_help_tells_each_default_once(program, capsys, monkeypatch):
    parser, text = parser_of(program), wide_help(program, capsys, monkeypatch)
    told = dict(re.findall(r"^ +(--[\w-]+).*\(default: (.*)\)$", text, re.MULTILINE))
    for action in parser._actions:
        value = action.default
        if action.option_strings and value not in (None, False, [], argparse.SUPPRESS):
            shown = " ".join(value) if isinstance(value, (list, tuple)) else str(value)
            assert told[action.option_strings[-1]] == shown
    assert "[%" not in text
    assert re.findall(r"\(default [^)]*|by default(?!;)", text) == []  # one style
    assert all(line.count("default: ") <= 1 for line in text.splitlines())


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_lists_what_an_option_may_be(program, capsys, monkeypatch):
    parser, text = parser_of(program), wide_help(program, capsys, monkeypatch)
    for action in (action for action in parser._actions if action.choices):
        (line,) = re.findall(rf"^ +{action.option_strings[-1]} .*", text, re.MULTILINE)
        assert [choice for choice in action.choices if str(choice) not in line] == []


def test_the_command_starts_every_program(run_python):
    listed = run_python("-m", "obiwan.dplearn", "--help").stdout
    for name in programs.PROGRAMS:
        word = name.replace("_", "-")
        assert f"  {word} " in listed
        assert programs.summary(name) in listed
    for word in ("create-training", "create_training", "mock"):
        said = run_python("-m", "obiwan.dplearn", word, "--version")
        assert (said.returncode, said.stdout) == (0, f"obiwan.dplearn {obiwan.dplearn.__version__}\n")
    unknown = run_python("-m", "obiwan.dplearn", "teapot")
    assert unknown.returncode == 2
    assert "no program 'teapot'; there are inject, create-training, measure" in unknown.stderr


def test_keywords_are_options():
    parser = build_parser()
    given = {
        "fake": ["a", Path("b")],
        "outdir": "c",
        "overwrite": True,
        "test_fraction": 0.25,
        "layout": None,
    }
    options = cli.parse_keywords(parser, given)
    assert (options.fake, options.outdir) == ([Path("a"), Path("b")], Path("c"))
    assert (options.overwrite, options.test_fraction, options.layout) == (True, 0.25, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "required: --outdir"),
        ({"outdir": "c", "sead": 7}, "unknown option 'sead'"),
        ({"outdir": "c", "overwrite": 1}, "overwrite: it is a switch"),
        ({"outdir": "c", "balance": "all"}, "invalid choice"),
    ],
)
def test_bad_keywords_are_raised(given, message, capsys):
    with pytest.raises(ValueError, match=message):
        cli.parse_keywords(build_parser(), given)
    assert capsys.readouterr() == ("", "")


def test_every_long_flag_is_a_key():
    parser = argparse.ArgumentParser()
    cli.add_config_option(parser)
    parser.add_argument("--some-thing", type=int)
    assert cli.parse(parser, ["--some-thing", "3"]).some_thing == 3


@pytest.mark.parametrize("program", ["", *(f".{name.removesuffix('.__main__')}" for name in PROGRAMS)])
def test_each_program_says_its_version_and_has_help_without_docstrings(program, run_python):
    said = run_python("-m", f"obiwan.dplearn{program}", "--version")
    assert (said.returncode, said.stdout) == (0, f"obiwan.dplearn {obiwan.dplearn.__version__}\n")
    assert run_python("-OO", "-m", f"obiwan.dplearn{program}", "--help").returncode == 0


def test_a_tilde_is_the_home_directory_in_every_path(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "fake = ['~/a', 'b']\noutdir = '~/t'\nbricks = ['~/list', '1500p020']")
    options = cli.parse(
        build_parser(), ["--config", "~/options.toml", "--real=~/r", "--real-table", "~/r.fits"]
    )
    assert options.outdir == tmp_path / "t"
    assert options.fake == [tmp_path / "a", Path("b")]
    assert options.bricks == [str(tmp_path / "list"), "1500p020"]
    assert (options.real, options.real_table) == ([tmp_path / "r"], tmp_path / "r.fits")
    with pytest.raises(SystemExit) as caught:
        cli.parse(build_parser(), ["--outdir", "~nobody-of-this-name/t"])
    assert caught.value.code == 2
    assert "home" in capsys.readouterr().err


SPEAKS = """
import sys, time
from pathlib import Path
from obiwan.dplearn.running import cli
import argparse
def work():
    Path("work").write_text("begun")
    while Path("wait").exists():
        time.sleep(0.01)
    for i in range(3):
        cli.say("word")
        print("word", file=sys.stderr)
        print("word", flush=True)
    Path("work").write_text("done")
    return 0
parser = argparse.ArgumentParser()
cli.add_config_option(parser)
cli.parse(parser, [])
sys.exit(cli.run(work, "prog"))
"""


@pytest.mark.parametrize(
    "shell",
    [
        "{} | true; exit ${{PIPESTATUS[0]}}",
        "{} 2>&1 | true; exit ${{PIPESTATUS[0]}}",
        "{} >&-",
        "{} 2>&-",
        "{} <&- >&- 2>&-",
    ],
)
def test_work_is_done_whoever_reads(shell, tmp_path):
    (tmp_path / "prog.py").write_text(SPEAKS)
    (tmp_path / "wait").touch()
    words = ["bash", "-c", shell.format(f"{sys.executable} prog.py")]
    environ = {**os.environ, "PYTHONPATH": str(Path(obiwan.dplearn.__file__).parents[2])}
    with subprocess.Popen(words, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "work").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.2)  # `true` has ended
        (tmp_path / "wait").unlink()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert (tmp_path / "work").read_text() == "done"
    assert "Error" not in said


@pytest.mark.parametrize("shell", ["{} | true; exit ${{PIPESTATUS[0]}}", "{} >&-"])
@pytest.mark.parametrize("words", ["", "--version", ".mock --help", ".cnn --version", ".evaluate --help"])
def test_what_a_program_says_of_itself_needs_no_reader(words, shell, tmp_path):
    program, _, options = words.rpartition(" ") if words.startswith(".") else ("", "", words)
    words = ["bash", "-c", shell.format(f"{sys.executable} -m obiwan.dplearn{program} {options}")]
    environ = {**os.environ, "PYTHONPATH": str(Path(obiwan.dplearn.__file__).parents[2])}
    done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_preflight_on_a_full_disk(tmp_path):
    environ = {**os.environ, "PYTHONPATH": str(Path(obiwan.dplearn.__file__).parents[2])}
    words = ["bash", "-c", f"{sys.executable} -m obiwan.dplearn > /dev/full"]
    done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    said = "preflight: error: cannot write the report (No space left on device)\n"
    assert (done.returncode, done.stderr) == (1, said)
