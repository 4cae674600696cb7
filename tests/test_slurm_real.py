"""Both batch scripts on a real SLURM, which these tests start on this machine: `slurm_cluster`."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from obiwan.dplearn.create_training import main
from obiwan.dplearn.training.checkpoints import load_checkpoint
from slurm_cluster import Cluster, cluster, wait_until, why_not
from synthetic import Survey, bricks_apart, content_of, survey
from test_slurm import horovod_with_mpi

pytestmark = pytest.mark.slow

TINY = ("--batch-size", "2", "--maps", "2", "2", "2", "--dense", "4", "--epochs", "100000")
TWO_TASKS = ("--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=1")


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    """Two nodes, for this module; its files have short names, for sockets are among them."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    pytest.importorskip("mpi4py", reason="mpi4py is not installed (the extra `mpi`)")
    place = Path(tempfile.mkdtemp(prefix="slurm"))
    try:
        with cluster(place) as made:
            if "pmix" not in made.call("srun", "--mpi=list").stdout:
                pytest.skip("this SLURM has no PMIx")
            yield made
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Survey:
    """Three bricks of one run."""
    return survey(tmp_path_factory.mktemp("survey"), bricks=bricks_apart(3), runs=1)


@pytest.fixture(scope="module")
def training(made, tmp_path_factory) -> Path:
    """Their training set, made by one process."""
    outdir = tmp_path_factory.mktemp("training") / "training"
    words = ["--fake", str(made.fake), "--real", str(made.real), "--outdir", str(outdir)]
    assert main([*words, "--shard-size", "5"]) == 0
    return outdir


class Job:
    """A submitted job: its id, its log and its output directory."""

    def __init__(self, slurm: Cluster, number: str, place: Path):
        self.slurm, self.number, self.place = slurm, number, place

    @property
    def log(self) -> str:
        """What it has said; a progress bar's lines are replaced, and not ended."""
        path = self.place / "job.log"
        return path.read_text() if path.exists() else ""

    def says(self, text: str, seconds: float = 120) -> None:
        """Wait until it says something; its whole log is the error of one that never does."""
        try:
            wait_until(lambda: text in self.log or self.over, seconds, text)
        except TimeoutError:
            pytest.fail(f"{text!r} is not in:\n{self.log}")
        assert text in self.log, self.log

    @property
    def over(self) -> bool:
        return self.slurm.state(self.number) in ("FAILED", "COMPLETED", "CANCELLED", "TIMEOUT", "NODE_FAIL")

    def starts_again(self) -> None:
        """Release a requeued job, which would wait for two minutes."""
        wait_until(lambda: self.slurm.state(self.number) == "PENDING", 60, "the requeued job")
        assert self.slurm.call("scontrol", "update", f"jobid={self.number}", "starttime=now").returncode == 0

    def rank(self, number: int) -> int:
        """The process of a rank."""
        of_rank = {"SLURM_JOB_ID": self.number, "SLURM_STEP_ID": "0", "SLURM_PROCID": str(number)}
        wanted = {f"{name}={value}".encode() for name, value in of_rank.items()}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if wanted <= set((path / "environ").read_bytes().split(b"\0")):
                    return int(path.name)
            except OSError:
                continue
        pytest.fail(f"no rank {number} of job {self.number}")


@pytest.fixture
def submit(slurm, root, tmp_path):
    """Submit a script of bin/ as a user does, with options of sbatch and words for the program."""

    def run(script: str, *options: str, words: tuple[str, ...] = (), **environ: str) -> Job:
        setup = tmp_path / "setup.sh"
        setup.write_text(f"export PATH={Path(sys.executable).parent}:$PATH\n")
        given = {"DPLEARN_SETUP": str(setup), "OUTDIR": str(tmp_path / "out"), **environ}
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            given.setdefault(name, "1")
        words = (
            "--parsable",
            f"--output={tmp_path / 'job.log'}",
            *options,
            str(root / "bin" / script),
            *words,
        )
        done = slurm.call("sbatch", *words, cwd=root, **given)
        assert done.returncode == 0, done.stderr
        return Job(slurm, done.stdout.strip(), tmp_path)

    return run


def test_create_training_on_two_nodes(made, training, submit, tmp_path):
    job = submit(
        "slurm_create_training.sh",
        *("--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=1"),
        words=("--shard-size", "5"),
        **{"FAKE": str(made.fake), "REAL": str(made.real), "SRUN_MPI": "pmix"},
    )
    assert job.slurm.end_of(job.number) == "COMPLETED", job.log
    assert content_of(tmp_path / "out") == content_of(training)
    assert "4 tasks of 1 CPUs on 2 node(s)" in job.log


def test_a_wrong_mpi_is_refused_before_the_ranks_start(made, submit, tmp_path):
    given = {"FAKE": str(made.fake), "REAL": str(made.real)}
    job = submit("slurm_create_training.sh", *TWO_TASKS, **given)  # the default of this SLURM is none
    assert job.slurm.end_of(job.number) == "FAILED"
    assert "PROBLEM: srun --mpi=none cannot start Open MPI" in job.log
    assert "SRUN_MPI=pmix" in job.log
    assert "MPI_ERRORS_ARE_FATAL" not in job.log
    # A bare srun gets as far as the first rank, which says the same.
    words = ("--mpi", "--fake", str(made.fake), "--outdir", str(tmp_path / "out"))
    command = ("srun", "-n2", "--mpi=pmi2", sys.executable, "-m", "obiwan.dplearn.create_training", *words)
    done = job.slurm.call(*command, PYTHONPATH=str(Path(main.__code__.co_filename).parents[2]))
    assert done.returncode == 1
    assert done.stderr.count("--mpi: srun --mpi=pmi2 cannot start Open MPI") == 1
    assert "MPI_ERRORS_ARE_FATAL" not in done.stderr


@pytest.mark.horovod
def test_the_time_limit_a_requeue_and_a_killed_rank(training, submit, tmp_path):
    horovod_with_mpi()
    given = {"DATA": str(training), "SRUN_MPI": "pmix", "PROFILE": "small"}
    limit = ("--time=2", "--signal=B:USR1@40")
    job = submit("slurm_cnn.sh", *TWO_TASKS, *limit, words=(*TINY, "--checkpoint-steps", "100000"), **given)
    job.says("the time limit is near: ending the step", 150)
    job.says("back into the queue, to go on where this stopped")
    assert job.log.count("cnn: error: ended by SIGTERM: a rank died, or time is up") == 1
    left = load_checkpoint(tmp_path / "out" / "checkpoints").progress
    assert left.epoch + left.step > 0
    job.starts_again()
    job.says(f"going on after {left.epoch} finished epochs and {left.step} steps")
    assert "start 2: 2 tasks" in job.log
    job.says(f"Epoch {left.epoch + 2}/")
    os.kill(job.rank(1), signal.SIGKILL)
    assert job.slurm.end_of(job.number, 60) == "FAILED"
    said = job.log.partition("going on after")[2]
    assert re.search(r"ended by SIGTERM|another rank ended", said), said
    assert job.log.count("back into the queue") == 1
    now = load_checkpoint(tmp_path / "out" / "checkpoints").progress
    assert (now.epoch, now.step) > (left.epoch, left.step)


def test_ranks_of_jax(training, submit, tmp_path):
    """Without any PMI."""
    pytest.importorskip("jax")
    given = {"DATA": str(training), "PROFILE": "small", "KERAS_BACKEND": "jax"}
    words = (*TINY, "--epochs", "2")
    two_nodes = ("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1")
    job = submit("slurm_cnn.sh", *two_nodes, words=words, **given)
    assert job.slurm.end_of(job.number, 1500) == "COMPLETED", job.log
    assert "2 ranks: batches of 2 on each, 4 in all" in job.log
    assert job.log.count("Held-out result: ") == 1
    found = load_checkpoint(tmp_path / "out" / "checkpoints").progress
    assert (found.epoch, found.ranks, found.backend) == (2, 2, "jax")


def test_an_array_tunes_one_study(training, submit, tmp_path):
    pytest.importorskip("optuna")
    (tmp_path / "space.toml").write_text(
        "epochs = 1\nbatch-size = 2\naugment = false\n[lenet5]\nwidth = { low = 2, high = 4, step = 2 }\n"
        "depth = 2\nkernel-size = 3\npool-size = 2\nstrides = 2\ndense = [4, 8]\n"
    )
    options = ("--array=0-1", "--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=1")
    words = ("--trials", "4", "--network", "lenet5", "--space", str(tmp_path / "space.toml"))
    job = submit("slurm_tune.sh", *options, words=words, DATA=str(training), PROFILE="small")
    for element in ("0", "1"):
        assert job.slurm.end_of(f"{job.number}_{element}", 1500) == "COMPLETED", job.log
    with (tmp_path / "out" / "trials.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3"]
    assert {row["state"].lower() for row in rows} == {"complete"}
    assert (tmp_path / "out" / "best.toml").is_file()


@pytest.mark.horovod
def test_ranks_that_hang_and_a_cancellation(training, submit):
    """The signal of the time limit is sent by hand: what matters comes after it."""
    horovod_with_mpi()
    given = {"DATA": str(training), "SRUN_MPI": "pmix", "PROFILE": "small", "PATIENCE": "5"}
    job = submit("slurm_cnn.sh", *TWO_TASKS, "--time=30", words=TINY, **given)
    job.says("Epoch 3/")
    for rank in (0, 1):
        os.kill(job.rank(rank), signal.SIGSTOP)
    assert job.slurm.call("scancel", "--batch", "--signal=USR1", job.number).returncode == 0
    job.says("a task did not end within 5 s and is killed", 30)
    job.says("back into the queue, to go on where this stopped", 60)
    job.starts_again()
    job.says("start 2: 2 tasks")
    assert job.slurm.call("scancel", job.number).returncode == 0
    assert job.slurm.end_of(job.number, 60) == "CANCELLED"
    assert job.log.count("back into the queue") == 1
