"""Ctrl-C: one line and exit status 130, whenever it comes and whatever libraries make of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import obiwan.dplearn
from obiwan.dplearn import mosaic
from obiwan.dplearn.mock import __main__ as mock

PROGRAMS = ["", ".create_training", ".measure", ".cnn", ".evaluate", ".mock", ".mosaic"]
STARTED = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.{}); os.execv(sys.argv[1], sys.argv[1:])"
)
ENV = {**os.environ, "PYTHONPATH": str(Path(obiwan.dplearn.__file__).parents[2])}


def interrupted(place: Path, *words: str, when: str, times: int = 1) -> tuple[int, list[str]]:
    """Start Python as a terminal does, and interrupt it whenever a line of stderr has the words.

    Returns its status and what it wrote to stderr afterwards, apart from the list of imports.
    """
    command = [sys.executable, "-c", STARTED.format("SIG_DFL"), sys.executable, *words]
    said = []
    with subprocess.Popen(
        command, cwd=place, env=ENV, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        for line in process.stderr:
            if times and line.rstrip().endswith(when):
                process.send_signal(signal.SIGINT)
                times -= 1
            elif not line.startswith("import time:") and line.strip():
                said.append(line.rstrip())
    assert times == 0
    return process.returncode, said


@pytest.mark.parametrize("module", [" obiwan.dplearn", " numpy.version"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_while_modules_are_imported(program, module, tmp_path):
    words = ["-X", "importtime", "-m", f"obiwan.dplearn{program}"]
    options = ["--load"] if not program else ["--outdir", "out"]
    status, said = interrupted(tmp_path, *words, *options, when=module)
    name = program.removeprefix(".") or "dplearn"
    assert (status, said) == (130, [f"{name}: interrupted; start it again"])


PROGRAM = """
import sys, time
from obiwan.dplearn.running import cli
from obiwan.dplearn.running.quiet import without_notes

def wait():
    print("now", file=sys.stderr, flush=True)
    time.sleep(60)

class Closing:
    def __del__(self):  # what is raised here is not handed on
        wait()

def plain():
    wait()

def turned_into_another_error():
    try:
        wait()
    except KeyboardInterrupt:
        raise ImportError("numpy.core.multiarray failed to import") from None

def lost():
    Closing()
    time.sleep(60)

def held_up():
    while True:
        try:
            wait()
        except KeyboardInterrupt:
            pass

def lost_while_notes_are_left_out():
    print("now", file=sys.stderr, flush=True)
    with without_notes():
        Closing()
    time.sleep(60)

sys.exit(cli.run(globals()[sys.argv[1]], "prog", again="do this"))
"""


@pytest.mark.parametrize(
    ("way", "times"),
    [
        ("plain", 1),
        ("turned_into_another_error", 1),
        ("lost", 1),
        ("held_up", 2),
        ("lost_while_notes_are_left_out", 1),
    ],
)
def test_whatever_libraries_make_of_it(way, times, tmp_path):
    (tmp_path / "prog.py").write_text(PROGRAM)
    status, said = interrupted(tmp_path, "prog.py", way, when="now", times=times)
    assert (status, said) == (130, ["prog: interrupted; do this"])


def test_what_to_do_after_it(tmp_path, capsys, monkeypatch):
    """The mock's and the mosaic's work begins anew."""

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mock, "make_survey", stopped)
    assert mock.main(["--outdir", str(tmp_path / "mock")]) == 130
    assert capsys.readouterr().err == "mock: interrupted; start it again with --overwrite\n"
    monkeypatch.setattr(mosaic, "draw", stopped)
    assert mosaic.main(["--data", "x", "--outdir", "y"]) == 130
    assert capsys.readouterr().err == "mosaic: interrupted; start it again\n"


def test_it_stays_ignored_under_nohup(tmp_path):
    """Background jobs of a shell without job control, too."""
    (tmp_path / "prog.py").write_text(
        "import signal, time\n"
        "from obiwan.dplearn.running import cli\n"
        "cli.run(lambda: signal.raise_signal(signal.SIGINT) or 0, 'prog')\n"
    )
    command = [sys.executable, "-c", STARTED.format("SIG_IGN"), sys.executable, "prog.py"]
    done = subprocess.run(command, cwd=tmp_path, env=ENV, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


FAILED = """
import os, signal, sys
from obiwan.dplearn.errors import DplearnError
from obiwan.dplearn.running import cli

class Reader:  # something that the error's frames hold, and that takes its time to close
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

def program():
    reader = Reader()
    raise DplearnError("another rank ended; start the job again")

sys.exit(cli.run(program, "cnn"))
"""


def test_a_program_that_has_said_why_it_ends_says_nothing_more():
    """A launcher that sees one rank end sends SIGTERM to the others, which may have failed by then too."""
    done = subprocess.run(
        [sys.executable, "-c", FAILED], env=ENV, capture_output=True, text=True, check=False
    )
    assert done.stderr == "cnn: error: another rank ended; start the job again\n"
    assert done.returncode == 1
