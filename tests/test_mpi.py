"""create_training on real MPI ranks: same bytes, one voice, and no rank that waits for ever."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import fitsio
import pytest

from obiwan.dplearn.create_training import main
from synthetic import Survey, bricks_apart, content_of, survey

pytest.importorskip("mpi4py", reason="mpi4py is not installed (the extra `mpi`)")


@pytest.fixture(scope="module")
def mpirun() -> list[str]:
    """The launcher's words before the number of ranks: the environment's own, or the machine's."""
    beside = Path(sys.executable).parent
    found = shutil.which("mpirun", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip("no mpirun on this machine")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return [found, "--oversubscribe"] if "Open MPI" in version or "OpenRTE" in version else [found]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Survey:
    """Three bricks of one run."""
    return survey(tmp_path_factory.mktemp("survey"), bricks=bricks_apart(3), runs=1)


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory) -> Path:
    """The training set as one process makes it."""
    outdir = tmp_path_factory.mktemp("whole") / "out"
    assert main(words(made, outdir)) == 0
    return outdir


def words(made: Survey, outdir: Path, *more: str) -> list[str]:
    trees = ["--fake", str(made.fake), "--real", str(made.real)]
    return [*trees, "--outdir", str(outdir), "--shard-size", "5", *more]


@pytest.fixture
def ranks(mpirun, root, tmp_path):
    """Run create_training on a number of ranks."""

    def run(number: int, *given: str) -> subprocess.CompletedProcess[str]:
        command = [*mpirun, "-n", str(number), sys.executable, "-m", "obiwan.dplearn.create_training", *given]
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(root / "py"), str(tmp_path)]),
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=120
        )

    return run


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What create_training says is wrong; it may stand in a line that a progress bar began."""
    assert "Traceback" not in done.stderr
    name = "create_training: error: "
    return [name + line.partition(name)[2] for line in done.stderr.splitlines() if name in line]


def test_same_bytes_as_one_process_and_one_voice(made, whole, ranks, tmp_path, capsys):
    done = ranks(3, "--mpi", *words(made, tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert content_of(tmp_path / "out") == content_of(whole)
    assert main(words(made, tmp_path / "serial")) == 0
    alone = capsys.readouterr().out.replace(str(tmp_path / "serial"), str(tmp_path / "out"))
    assert done.stdout == alone
    said = Counter(line for line in done.stderr.split("\n") if line.strip() and "\r" not in line)
    assert max(said.values(), default=1) == 1, done.stderr


@pytest.mark.slow
def test_a_damaged_group_is_told_and_made_up_for(made, whole, ranks, tmp_path):
    mine = Survey(tmp_path / "injected", made.real, made.kind, made.scenes, made.runs)
    shutil.copytree(made.fake, mine.fake)
    _, _, place = next(mine.places())
    path = place.plane("image", "r")
    sound = path.read_bytes()
    with fitsio.FITS(str(path)) as file:
        begin = file[1].get_offsets()["data_start"]
    path.write_bytes(sound[:begin] + b"\xff" * (len(sound) - begin))  # which only cutting finds out
    done = ranks(2, "--mpi", *words(mine, tmp_path / "out"))
    assert done.returncode == 1, done.stderr
    (line,) = errors(done)
    assert "1 of 3 groups of bricks failed" in line
    assert f"brick {place.brick}" in line
    assert str(path) in line
    assert list((tmp_path / "out").glob("x*.npy"))
    path.write_bytes(sound)
    done = ranks(3, "--mpi", *words(mine, tmp_path / "out"))  # with another number
    assert done.returncode == 0, done.stderr
    assert content_of(tmp_path / "out") == content_of(whole)


KILLER = """
import os, signal
from obiwan.dplearn.running.launch import launched

def all_rows(sources):
    if launched(os.environ).rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return sources.ra == sources.ra
"""


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_job(made, ranks, tmp_path):
    (tmp_path / "killer.py").write_text(KILLER)
    done = ranks(3, "--mpi", *words(made, tmp_path / "out", "--select", "killer:all_rows"))
    assert done.returncode not in (0, None)
    assert errors(done) == [
        "create_training: error: ended by SIGTERM: a rank died, or time is up; "
        "start it again to go on where it stopped"
    ]
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        (["--mpi", "--layout", "obiwan"], 1, "no runs"),
        (["--mpi", "--shard-size", "0"], 2, "shard_size"),
        ([], 2, "2 ranks were started, and each would do the whole work: give --mpi"),
    ],
)
def test_what_is_wrong_is_said_once(more, status, message, made, ranks, tmp_path):
    done = ranks(2, *words(made, tmp_path / "out", *more))
    assert done.returncode == status, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "create_training: error: " in line]
    assert message in line
    assert not (tmp_path / "out").exists()
