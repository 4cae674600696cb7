"""bin/install_horovod, without building: what it refuses, what it keeps, and that it is quick again."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata, util
from pathlib import Path

import pytest

pytestmark = pytest.mark.horovod

needs_tensorflow = pytest.mark.skipif(util.find_spec("tensorflow") is None, reason="no TensorFlow")


@pytest.fixture
def install(root, tmp_path):
    """Run the program; a build would fail at once, for there is no compiler."""

    def run(*words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "MAKEFLAGS")}
        return subprocess.run(
            ["bash", str(root / "bin" / "install_horovod"), *map(str, words)],
            env={**kept, "CXX": "no-such-compiler", "PYTHONPATH": "", **environ},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run


@pytest.fixture
def beside(tmp_path) -> Path:
    """The interpreter of a new environment that sees what is installed in this one."""
    place = tmp_path / "environment"
    venv.create(place, symlinks=True)
    site = sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)})
    (Path(site) / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin" / "python"


def error(done: subprocess.CompletedProcess[str]) -> str:
    (line,) = [line for line in done.stderr.splitlines() if "error: " in line]
    assert line.startswith("install_horovod: error: ")
    assert done.returncode == 1
    return line


def test_what_is_refused(install, tmp_path):
    assert "unknown option --mpi" in error(install("--mpi"))
    assert "--python needs a value" in error(install("--python"))
    assert "no Python at /nowhere/python" in error(install("--python", "/nowhere/python"))
    bare = tmp_path / "bare"
    venv.create(bare, symlinks=True)
    assert "no TensorFlow beside" in error(install("--python", bare / "bin" / "python"))
    done = install("--help")
    assert done.returncode == 0
    assert "HOROVOD_WITHOUT_MPI=1" in done.stdout
    assert "#" not in done.stdout


@needs_tensorflow
def test_a_missing_compiler_is_named(install, beside, tmp_path):
    """And nothing is left behind that another start would take for whole."""
    done = install("--python", beside, XDG_CACHE_HOME=str(tmp_path / "cache"))
    line = error(done)
    assert "needs a C++ compiler, and there is no no-such-compiler on the PATH" in line
    assert "apt-get install g++" in line
    assert not list((tmp_path / "cache").rglob("*.whl"))
    assert not (beside.parents[1] / ".horovod").exists()


@pytest.fixture
def built() -> str:
    """What the program says of the environment of these tests, if bin/test made it."""
    if not (Path(sys.prefix) / ".horovod").exists():
        pytest.skip("Horovod was not installed here by bin/install_horovod")
    tensorflow = max(map(metadata.version, metadata.packages_distributions()["tensorflow"]))
    return f"Horovod {metadata.version('horovod')} for TensorFlow {tensorflow}"


def test_the_second_time_it_is_there(install, built):
    done = install("--python", sys.executable)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{built} is in {sys.prefix}, with Gloo")
    assert "needs" not in done.stderr


@pytest.mark.slow
def test_another_environment_gets_the_wheel_that_was_kept(install, built, beside):
    """With the same Python, TensorFlow and MPI; there is no compiler that could build a second one."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = install("--python", beside, PATH=path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Installed {built} in {beside.parents[1]}, with Gloo")
    (found,) = beside.parents[1].glob("lib/python*/site-packages/horovod/__init__.py")
    said = subprocess.run(
        [beside, "-c", "import horovod; print(horovod.__file__)"], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"{found}\n"
    assert " is in " in install("--python", beside, PATH=path).stdout
