"""What is shipped: the wheel, the declared needs, the programs of ``bin/`` and the files of ``etc/``."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from obiwan.dplearn import __version__
from obiwan.dplearn.running import cli

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11", "3.12", "3.13")
SOURCED = [ROOT / "bin" / name for name in ("environment.sh", "slurm_job.sh")]  # by the others
PROGRAMS = sorted(path for path in (ROOT / "bin").iterdir() if path not in SOURCED)
SHELL = [*SOURCED, *PROGRAMS, ROOT / ".ci" / "run"]
CONFIGURED = ("create_training", "cnn", "evaluate")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built from a copy so that the tree stays as it is."""
    pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools 77")
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "py", source / "py", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "setup.py", "README.rst", "LICENSE.rst"):
        shutil.copy(ROOT / name, source / name)
    # Things that lie about in a user's tree and must not be shipped.
    (source / "py" / "stray").mkdir()
    (source / "py" / "stray" / "__init__.py").touch()
    (source / "tests").mkdir()
    (source / "tests" / "__init__.py").touch()
    code = "import setuptools.build_meta as b; print(b.build_wheel('dist'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(source / "dist" / done.stdout.split()[-1]) as archive:
        yield archive


def test_wheel_holds_the_package_and_nothing_else(wheel):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    source = Path(wheel.filename).parents[1] / "py"
    modules = {
        str(path.relative_to(source))
        for path in (source / "obiwan").rglob("*")
        if path.suffix in (".py", ".toml") or path.name == "py.typed" or path.parent.name == "html"
    }
    assert names == modules
    assert all(name == "obiwan/__init__.py" or name.startswith("obiwan/dplearn/") for name in names)


def test_wheel_says_what_it_is(wheel):
    info = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = message_from_bytes(wheel.read(info))
    assert metadata["Name"] == "obiwan-dplearn"
    assert Version(metadata["Version"]) == Version(__version__)
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra")) >= {
        "train",
        "figures",
        "horovod",
        "mpi",
        "test",
        "docs",
    }


def requirements() -> list[Requirement]:
    lines = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    every = [Requirement(line) for line in [*PROJECT["dependencies"], *lines]]
    return [need for need in every if canonicalize_name(need.name) != PROJECT["name"]]


def pins(python: str) -> dict[str, Version]:
    """The constraints that hold for a version of Python on Linux."""
    found: dict[str, Version] = {}
    environment = {**default_environment(), "python_version": python, "sys_platform": "linux"}
    for line in (ROOT / "etc" / "constraints.txt").read_text().splitlines():
        text = line.split("#")[0].strip()
        if not text:
            continue
        pin = Requirement(text)
        if pin.marker is None or pin.marker.evaluate(environment):
            (specifier,) = pin.specifier
            assert specifier.operator == "==", line
            assert canonicalize_name(pin.name) not in found, f"{pin.name} twice for Python {python}"
            found[canonicalize_name(pin.name)] = Version(specifier.version)
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_cover_the_declared_needs(python):
    pinned = pins(python)
    for need in requirements():
        name = canonicalize_name(need.name)
        assert name in pinned, f"{name} is not in etc/constraints.txt for Python {python}"
        assert need.specifier.contains(pinned[name]), f"{name}: {pinned[name]} is not {need.specifier}"


def containerfile() -> list[tuple[str, str]]:
    """Instructions of the recipe, with what follows them."""
    text = (ROOT / "etc" / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, rest in lines]


def test_the_image_has_a_python_and_extras_of_ours(wheel):
    given = containerfile()
    (image,) = [rest for word, rest in given if word == "FROM"]
    assert re.fullmatch(r"docker\.io/library/python:(\d+\.\d+)-slim", image)[1] in PYTHONS
    (extras,) = [
        rest.partition("=")[2] for word, rest in given if word == "ARG" and rest.startswith("EXTRAS")
    ]
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    (copied,) = [rest.split() for word, rest in given if word == "COPY"]
    assert copied[::2] == ["etc/constraints.txt", "/tmp/"]
    assert Path(wheel.filename).match(copied[1].partition("/")[2])


def test_the_commands_of_the_image(wheel, tmp_path):
    """With a pip that tells what it is given."""
    (tmp_path / "bin").mkdir()
    for name in ("pip", "dplearn"):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho {name} "$@" >>"$LOG"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    shutil.copy(wheel.filename, tmp_path)
    for rest in (rest for word, rest in containerfile() if word == "RUN"):
        environ = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOG": str(tmp_path / "log")}
        environ |= {"EXTRAS": "train-jax,figures", "MORE": "jax[cuda13]"}
        command = ["sh", "-euc", rest.replace("/tmp/", f"{tmp_path}/")]
        subprocess.run(command, env=environ, cwd=tmp_path, check=True, timeout=60)
    name = Path(wheel.filename).name
    pip, started = (tmp_path / "log").read_text().splitlines()
    assert pip.split() == [
        *("pip", "install", "--no-cache-dir", "--constraint", f"{tmp_path}/constraints.txt"),
        *(f"{tmp_path}/{name}[train-jax,figures]", "jax[cuda13]"),
    ]
    assert started == "dplearn --help"
    (entry,) = [rest for word, rest in containerfile() if word == "ENTRYPOINT"]
    assert entry == '["dplearn"]'
    assert PROJECT["scripts"] == {"dplearn": "obiwan.dplearn.__main__:command"}


def test_classifiers_name_the_supported_pythons():
    named = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: Python :: 3." in line}
    assert named == set(PYTHONS)


@pytest.mark.parametrize("program", [*PROGRAMS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_programs_are_executable(program):
    assert os.access(program, os.X_OK)
    assert program.read_text().startswith("#!/usr/bin/env ")


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.name)
def test_shell_scripts_parse(script):
    subprocess.run(["bash", "-n", script], check=True, timeout=30)


@pytest.mark.parametrize("program", CONFIGURED)
def test_example_configs_name_options_that_exist(program):
    entries = tomllib.loads((ROOT / "etc" / f"{program}.toml").read_text())
    parser = importlib.import_module(f"obiwan.dplearn.{program}").build_parser()
    known = {word for action in parser._actions for word in action.option_strings}
    assert {"--" + key.replace("_", "-") for key in entries} <= known


@pytest.mark.parametrize("program", CONFIGURED)
def test_example_configs_are_accepted(program):
    """Every value passes the checks of its option."""
    parser = importlib.import_module(f"obiwan.dplearn.{program}").build_parser()
    options = cli.parse(parser, ["--config", str(ROOT / "etc" / f"{program}.toml"), "--outdir", "somewhere"])
    assert str(options.outdir) == "somewhere"


def test_every_toml_file_has_a_program():
    assert {path.stem for path in (ROOT / "etc").glob("*.toml")} == set(CONFIGURED)


def test_brick_list_reads():
    lines = (ROOT / "etc" / "cnn_bricks.txt").read_text().splitlines()
    bricks = [line for line in (line.split("#")[0].strip() for line in lines) if line]
    assert len(bricks) == 2
    assert all(re.fullmatch(r"\d{4}[pm]\d{3}", brick) for brick in bricks)


MODULE_STUBS = """
proc module-whatis args {}
proc conflict args {}
proc module-info args { return 1 }
proc prepend-path {name value} { puts "prepend $name $value" }
proc setenv {name value} { puts "set $name $value" }
"""


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="no tclsh to read the modulefile with")
def test_modulefile_puts_our_py_first(tmp_path):
    text = (ROOT / "etc" / "obiwan-dplearn.module").read_text()
    assert text.startswith("#%Module")
    script = tmp_path / "module.tcl"
    script.write_text(MODULE_STUBS + text.replace("/path/to/obiwan-dplearn", str(ROOT)))
    done = subprocess.run(["tclsh", script], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    assert f"prepend PYTHONPATH {ROOT / 'py'}" in done.stdout.splitlines()


def test_typed_marker_is_there():
    assert (ROOT / "py" / "obiwan" / "dplearn" / "py.typed").is_file()


def bash(code: str, venv: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run shell code that has sourced ``bin/environment.sh``, with the environment in ``venv``."""
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail; source {ROOT}/bin/environment.sh; {code}", "program"],
        env={**os.environ, "OBIWAN_DPLEARN_VENV": str(venv), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


# In place of pip: one tells what would be installed, the other is killed in the middle.
TELL = 'install() { echo "installs $1"; }; '
DIE = 'install() { touch "$unfinished"; kill -9 $BASHPID; }; '


@pytest.fixture
def own_venv(tmp_path):
    """An environment that the scripts take for their own: this interpreter by another name."""
    venv = tmp_path / "venv"
    subprocess.run(
        [sys.executable, "-m", "venv", "--symlinks", "--without-pip", venv], check=True, timeout=60
    )
    (venv / ".made-by-obiwan-dplearn").touch()
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "pip.py").touch()  # a real one takes seconds to put there, and nothing is installed with it
    return venv


def test_environment_is_installed_once(own_venv):
    first = bash(
        TELL + "make_environment a,b; make_environment a,b; make_environment c; make_environment a,b",
        own_venv,
    )
    assert first.returncode == 0, first.stderr
    assert first.stdout.split("\n") == ["installs a,b", "installs c", ""]
    assert bash(TELL + "make_environment a,b", own_venv).stdout == ""


def test_environment_is_installed_again_when_the_needs_change(own_venv):
    other = "fingerprint() { echo other; }; "
    assert (
        bash(TELL + "make_environment a; make_environment b", own_venv).stdout.split("\n")[1] == "installs b"
    )
    assert bash(TELL + other + "make_environment a", own_venv).stdout == "installs a\n"
    # What was installed for the earlier needs is no longer vouched for.
    assert bash(TELL + "make_environment b", own_venv).stdout == "installs b\n"


def test_environment_of_a_killed_installation_is_not_trusted(own_venv):
    assert bash(DIE + "make_environment a", own_venv).returncode != 0
    (own_venv / "half-copied").touch()
    done = bash(TELL + "create_venv() { ls -A $venv || echo creates; }; ensure_venv", own_venv)
    assert "making it again" in done.stdout
    assert done.stdout.endswith("creates\n")  # and `ls` finds nothing


def test_environment_without_its_python_is_made_again(own_venv):
    (own_venv / "bin" / "python").unlink()
    done = bash(TELL + "create_venv() { echo creates; }; ensure_venv", own_venv)
    assert done.stdout.endswith("creates\n")


def test_environment_leaves_the_users_directories_alone(tmp_path):
    (tmp_path / "precious").write_text("data")
    done = bash(TELL + "make_environment a", tmp_path)
    assert done.returncode == 1
    assert "was not made by this program" in done.stderr
    assert (tmp_path / "precious").read_text() == "data"


def test_environment_does_not_let_the_users_path_in(own_venv, tmp_path):
    code = TELL + 'make_environment a >/dev/null; "$python" -c "import obiwan; print(obiwan.__file__)"'
    (tmp_path / "obiwan").mkdir()
    (tmp_path / "obiwan" / "__init__.py").touch()
    done = bash(code, own_venv, PYTHONPATH=str(tmp_path))
    assert done.stdout.strip() == str(ROOT / "py" / "obiwan" / "__init__.py")


def test_missing_python_is_said(tmp_path):
    done = bash("make_environment a", tmp_path / "venv", PYTHON="no-such-python")
    assert done.returncode == 1
    assert "program: error: needs Python 3.11 to 3.13 (no-such-python)" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            'case "$2" in *ensurepip*) exit 1;; esac',
            "lacks ensurepip; on Debian and Ubuntu: apt-get install python3-venv",
        ),
        ('case "$1" in -V) echo Python 3.6.8;; *) exit 1;; esac', "found only"),
    ],
)
def test_unfit_python_is_said(tmp_path, answers, message):
    stub = tmp_path / "python"
    stub.write_text(f"#!/usr/bin/env bash\n{answers}\n")
    stub.chmod(0o755)
    done = bash("make_environment a", tmp_path / "venv", PYTHON=str(stub))
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "venv").exists()


def test_demo_refuses_unknown_options():
    done = subprocess.run(
        [ROOT / "bin" / "demo", "--teapot"], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert "unknown option --teapot" in done.stderr


def test_citation_is_complete():
    """What the Citation File Format 1.2.0 requires, and agrees with the package."""
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(found)
    assert found["cff-version"] == "1.2.0"
    assert (found["version"], found["license"]) == (__version__, PROJECT["license"])
    assert [author["name"] for author in found["authors"]] == [one["name"] for one in PROJECT["authors"]]
    assert all({"type", "title", "authors"} <= set(one) for one in found["references"])


@pytest.mark.parametrize("program", ["test", "demo", "benchmark"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_only_helps(program, flag, tmp_path):
    venv = tmp_path / "venv"
    done = subprocess.run(
        [ROOT / "bin" / program, flag],
        env={**os.environ, "OBIWAN_DPLEARN_VENV": str(venv)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"bin/{program}" in done.stdout
    assert "set -e" not in done.stdout
    assert not venv.exists()


def test_console_script_is_the_packages_command():
    assert PROJECT["scripts"] == {"dplearn": "obiwan.dplearn.__main__:command"}


def test_benchmark_lists_what_there_is():
    done = subprocess.run(
        [ROOT / "bin" / "benchmark"], capture_output=True, text=True, check=True, timeout=30
    )
    named = set(re.findall(r"^   (\w+)", done.stdout, re.MULTILINE))
    programs = (ROOT / "tests" / "benchmarks").glob("*.py")
    assert named == {path.stem for path in programs if "\nif __name__ == " in path.read_text()}
