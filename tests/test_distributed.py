"""Ranks: real ones by both launchers, and what can be known of them without any."""

import contextlib
import importlib.util
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.scaling_model import GRADIENTS, Machine, halving, ring, slowest, table
from numbered_set import make_set
from obiwan.dplearn import cnn
from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.running import launch
from obiwan.dplearn.running import ranks as own_ranks
from obiwan.dplearn.running.launch import Launch, launched
from obiwan.dplearn.running.profiles import local_ranks
from obiwan.dplearn.training import horovod_ranks, jax_ranks
from obiwan.dplearn.training.batches import Batches
from obiwan.dplearn.training.checkpoints import load_checkpoint
from obiwan.dplearn.training.distributed import World
from obiwan.dplearn.training.engines import engine_of, joined
from obiwan.dplearn.training.settings import FeedConfig, RunConfig, network_config
from obiwan.dplearn.training.trainer import Trainer, lr_factor
from obiwan.dplearn.trainingset.stampset import open_training_set
from planted import Planted, write_set
from processes import ENV

TESTS = Path(__file__).parent
BIN = Path(sys.executable).parent
START = """
import os, sys
from obiwan.dplearn.running.ranks import start_ranks
sys.exit(start_ranks(sys.argv[2:], int(sys.argv[1]), os.environ, "start the job again"))
"""
LAUNCHERS = {
    "horovodrun": "--gloo -np {n} -H localhost:{n}",
    "mpirun": "--oversubscribe --bind-to none -np {n}",
}
NETWORK = ["--maps", "3", "4", "--kernel-size", "3", "--dense", "6", "--quiet"]
TINY = network_config("lenet5", maps=(3, 4), kernel_size=3, dense=6)
TIMEOUT = 900  # seconds, on a machine that is busy with ten other things

BACKEND = {"horovod": "tensorflow", "jax": "jax"}  # of each engine

needs_horovod = pytest.mark.skipif(
    importlib.util.find_spec("horovod") is None, reason="no Horovod: bin/install_horovod builds it"
)


def command(launcher, ranks):
    """The launcher of the environment, or else of the machine, with its options for ranks on this machine."""
    if launcher == "ranks":
        return [sys.executable, "-c", START, str(ranks), sys.executable]
    program = shutil.which(launcher, path=os.pathsep.join([str(BIN), os.environ.get("PATH", "")]))
    if program is None:
        pytest.skip(f"no {launcher} here")
    return [program, *LAUNCHERS[launcher].format(n=ranks).split(), sys.executable]


def environment(engine="horovod"):
    launched_by = [name for _, *names in launch.LAUNCHERS for name in names]
    kept = {name: value for name, value in ENV.items() if name not in launched_by}
    proxy = {"http_proxy": "http://127.0.0.1:9"} if engine == "jax" else {}  # where nobody listens
    return {
        **kept,
        **proxy,
        "KERAS_BACKEND": BACKEND[engine],
        "PATH": os.pathsep.join([str(BIN), ENV["PATH"]]),
        "PYTHONPATH": os.pathsep.join([ENV["PYTHONPATH"], str(TESTS)]),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }


def start(launcher, *words, cwd, ranks=2, engine="horovod"):
    pytest.importorskip(engine)
    words = [*command(launcher, ranks), *map(str, words)]
    if launcher == "ranks" and CNN[1] in words:
        words = [sys.executable, *words[words.index("-m") :], "--ranks", str(ranks), "--oversubscribe"]
    return subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(engine),
        cwd=cwd,
    )


def finish(job):
    """Exit status and what was said; a job that hangs fails the test."""
    try:
        out, err = job.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        job.terminate()
        out, err = job.communicate(timeout=30)
        pytest.fail(f"the job hangs:\n{out}\n{err}")
    return job.returncode, out, err


def lines_of(text):
    """Lines without the launcher's ``[0]<stderr>:``."""
    return [re.sub(r"^\[\d+\]<std\w+>:", "", line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "set"
    write_set(directory, Planted("size", 2.5), {"train": 176, "val": 80, "test": 48}, seed=5, rows=32)
    return directory


@pytest.mark.horovod
@pytest.mark.parametrize(
    ("engine", "launcher", "ranks"),
    [
        ("horovod", "horovodrun", 2),
        ("horovod", "mpirun", 3),
        pytest.param("jax", "ranks", 2, marks=pytest.mark.slow),
        pytest.param("jax", "mpirun", 3, marks=pytest.mark.slow),
    ],
)
def test_ranks_are_one_process_with_all_their_batches(engine, launcher, ranks, data, tmp_path):
    program = TESTS / "rank_program.py"
    job = start(launcher, program, data, tmp_path, cwd=tmp_path, ranks=ranks, engine=engine)
    status, out, err = finish(job)
    assert status == 0, out + err
    (line,) = [line for line in lines_of(out) if line.startswith("FOUND ")]
    assert "[Gloo]" not in out
    found = json.loads(line.removeprefix("FOUND "))
    assert found["size"] == ranks

    said = found["messages"]
    assert said["gathered"] == [[rank + 2**-40] * 2 for rank in range(ranks) for _ in range(rank)]
    assert said["shared"] == ["exit 1", 0]
    assert said["refusals"] == [*[len("exit 1")] * (ranks - 1), len("the last rank's")]

    against = found["against"]
    assert against["differed"]  # or the broadcast would have had nothing to do
    assert against["begun"]
    assert against["ended"]
    assert against["moved"] > 1e-3
    assert against["apart"] < 1e-3 * against["moved"]
    metrics = np.array(against["metrics"])
    assert metrics[:, 0] == pytest.approx(metrics[:, 1], rel=1e-4)

    # Died on all ranks and started again, they end with the weights of a run that never did.
    runs = found["interrupted"]
    whole, mortal = runs["whole"], runs["mortal"]
    assert whole["steps"] == 176 // (8 * ranks)
    assert whole["equal"]
    assert mortal["equal"]
    assert (whole["starts"], mortal["starts"] > 2) == (1, True)
    assert mortal["digest"] == whole["digest"]
    assert mortal["history"] == whole["history"]
    assert runs["others"] == ["mortal", "whole"]  # the other ranks wrote nothing


CNN = ["-m", "obiwan.dplearn.cnn", *NETWORK, "--batch-size", "4", "--checkpoint-steps", "3", "--threads", "1"]


def ranks_at_work(job, outdir):
    """The processes of a running job's ranks, by rank, once there is a checkpoint."""
    psutil = pytest.importorskip("psutil")
    deadline = time.monotonic() + TIMEOUT
    ranks = {}
    while not list((outdir / "checkpoints").glob("*.npz")):
        assert job.poll() is None, "the job ended before it wrote a checkpoint"
        assert time.monotonic() < deadline
        for process in psutil.Process(job.pid).children(recursive=True) if len(ranks) < 2 else ():
            with contextlib.suppress(psutil.Error):  # it may be gone
                environ = process.environ()
                names = ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "DPLEARN_RANK")
                rank = next((environ[name] for name in names if name in environ), None)
                if rank and process.cmdline()[:3] == [sys.executable, *CNN[:2]]:  # not the shell around it
                    ranks[int(rank)] = process
        time.sleep(0.02)
    return ranks


@pytest.mark.horovod
@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "first", "then", "second", "others"),
    [
        ("horovod", "horovodrun", "horovod", "mpirun", 1),
        ("horovod", "mpirun", "horovod", "horovodrun", 3),
        ("jax", "ranks", "jax", "mpirun", 1),
        ("jax", "mpirun", "horovod", "mpirun", 3),
        ("horovod", "mpirun", "jax", "ranks", 3),
    ],
)
def test_a_killed_rank_ends_the_job_which_then_goes_on(engine, first, then, second, others, data, tmp_path):
    out = tmp_path / "out"
    words = [*CNN, "--data", data, "--epochs", "6", "--outdir"]
    job = start(first, *words, out, cwd=tmp_path, engine=engine)
    ranks_at_work(job, out)[1].kill()
    killed = time.monotonic()
    status, _, err = finish(job)
    assert status != 0
    assert time.monotonic() - killed < 60
    errors = [line for line in lines_of(err) if "error: " in line and "start" in line]
    if first == "ranks":
        ended = (
            "error: rank 1 of 2 was ended by SIGKILL; start the job again to go on from the last checkpoint"
        )
        assert ended in errors
        errors = [line for line in errors if "was ended by SIGKILL" not in line]
    assert len(errors) == 1, err  # either the message that the rank waits for fails, or the launcher ends it
    assert re.search(r"another rank ended|another rank, which may have died|a rank died", errors[0])
    assert "start the job again" in errors[0] or "start again" in errors[0]
    assert "cnn.py" not in err  # no traceback of ours; horovodrun shows one of its own
    found = load_checkpoint(out / "checkpoints")
    assert found.progress.ranks == 2
    assert not (out / "result.json").exists()
    left = shutil.copytree(out, tmp_path / "left")

    # The same number of ranks goes on where it was, under another launcher.
    status, said, err = finish(start(second, *words, out, cwd=tmp_path, engine=then))
    assert status == 0, err
    lines = lines_of(err)
    moved = f"KERAS_BACKEND {BACKEND[then]} now, {BACKEND[engine]} before: equal up to rounding"
    assert lines.count(moved) == (then != engine)
    assert any(line.startswith("2 ranks: batches of 4 on each, 8 in all; learning rate") for line in lines)
    place = f"going on after {found.progress.epoch} finished epochs and {found.progress.step} steps"
    assert lines.count(place) == 1
    assert not any("begins again" in line for line in lines)
    assert [line.split(" examples")[0] for line in lines_of(said)].count("Held-out result: 48 test") == 1
    assert json.loads((out / "result.json").read_text())["learnt"] in (True, False)
    history = (out / "history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in history[1:]] == [str(epoch) for epoch in range(1, 7)]

    # Another number begins the current epoch again, from the same weights.
    status, said, err = finish(start(second, *words, left, cwd=tmp_path, ranks=others, engine=then))
    assert status == 0, err
    lines = lines_of(err)
    (line,) = [line for line in lines if line.startswith(f"{others} ranks now, 2 before")]
    assert ("begins again" in line) == (found.progress.step > 0)
    assert "Held-out result: 48 test" in said
    assert load_checkpoint(left / "checkpoints").progress.ranks == others
    assert len((data / "test_looks.jsonl").read_text().splitlines()) >= 2


@pytest.mark.horovod
@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "launcher"), [("horovod", "horovodrun"), ("horovod", "mpirun"), ("jax", "ranks")]
)
def test_ranks_whose_time_is_up_keep_their_steps(engine, launcher, data, tmp_path):
    # SLURM's signal goes to every rank; the only checkpoint of the first epoch that is due comes at step 30.
    out = tmp_path / "out"
    words = [*CNN, "--data", data, "--epochs", "2", "--outdir", out]
    words[words.index("--batch-size") + 1] = "1"
    words[words.index("--checkpoint-steps") + 1] = "30"
    job = start(launcher, *words, cwd=tmp_path, engine=engine)
    for process in ranks_at_work(job, out).values():
        process.terminate()
    status, _, err = finish(job)
    assert status != 0
    assert err.count("ended by SIGTERM") == 1, err
    assert "cnn.py" not in err
    found = load_checkpoint(out / "checkpoints").progress
    assert (found.epoch, found.ranks) == (0, 2)
    assert 30 < found.step < 88
    status, said, err = finish(start(launcher, *words, cwd=tmp_path, engine=engine))
    assert status == 0, err
    assert lines_of(err).count(f"going on after 0 finished epochs and {found.step} steps") == 1
    assert "Held-out result: 48 test" in said


@pytest.mark.horovod
@pytest.mark.slow
@needs_horovod
def test_bad_data_is_one_line_from_all_ranks(data, tmp_path):
    spoilt = shutil.copytree(data, tmp_path / "set")
    raw = bytearray((spoilt / "xval_1.npy").read_bytes())
    raw[-1] ^= 1
    (spoilt / "xval_1.npy").write_bytes(raw)
    words = [*CNN, "--data", spoilt, "--outdir", tmp_path / "out", "--epochs", "1"]
    status, _, err = finish(start("mpirun", *words, cwd=tmp_path))
    assert status != 0
    errors = [line for line in err.splitlines() if "error" in line]
    assert len(errors) == 1, err
    assert errors[0].startswith("cnn: error:")
    assert "xval_1.npy: checksum differs" in errors[0]
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.horovod
@needs_horovod
def test_horovod_that_sees_other_ranks_than_the_launcher(data, tmp_path):
    """As when it was built without the MPI of the launcher: each rank would train alone."""
    environ = {**environment(), "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}
    if (BIN / "orted").exists():
        environ["OPAL_PREFIX"] = sys.prefix  # as its mpirun does: a process alone must find the daemon itself
    done = subprocess.run(
        [sys.executable, *CNN, "--data", data, "--outdir", tmp_path / "out", "--epochs", "1"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert done.returncode == 1
    assert "srun started rank 0 of 2, but Horovod sees rank 0 of 1" in done.stderr
    assert not (tmp_path / "out").exists()


# Without ranks


@pytest.mark.parametrize(
    ("kind", "message", "lost"),
    [
        # As Horovod tells of it, as a socket in a compiled operation, and as MPI in one that is not.
        (
            "UnknownError",
            "Horovod has been shut down. This was caused by an exception on one of the ranks",
            True,
        ),
        (
            "UnknownError",
            "Detected at node average: horovod/tensorflow/mpi_ops.py: Connection reset by peer",
            True,
        ),
        ("AbortedError", "{{function_node __wrapped__HorovodAllgather_device_CPU}} ended", True),
        ("ResourceExhaustedError", "failed to allocate memory, in /opt/horovod/venv", False),
        ("UnknownError", "no such file", False),
    ],
)
def test_a_lost_rank_is_told_from_other_errors(kind, message, lost):
    from tensorflow import errors

    assert horovod_ranks.rank_was_lost(getattr(errors, kind)(None, None, message)) == lost
    assert not horovod_ranks.rank_was_lost(ModelError(message))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Launch()),
        ({"DPLEARN_RANK": "1", "DPLEARN_RANKS": "2", "SLURM_PROCID": "0"}, Launch("cnn --ranks", 1, 2)),
        ({"HOROVOD_RANK": "1", "HOROVOD_SIZE": "4"}, Launch("horovodrun", 1, 4)),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, Launch("mpirun", 0, 2)),
        ({"PMI_RANK": "7", "PMI_SIZE": "8"}, Launch("mpiexec", 7, 8)),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "64"}, Launch("srun", 3, 64)),
        # In a batch script, outside any step; and one task.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "64"}, Launch()),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, Launch()),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, Launch()),
    ],
)
def test_launchers_are_recognised(environ, expected):
    assert launched(environ) == expected


def test_one_process_needs_no_horovod(monkeypatch):
    monkeypatch.setitem(sys.modules, "horovod", None)
    with joined(Launch()) as world:
        assert type(world) is World
        with world.together():
            array = world.gather(np.arange(3))
        assert world.share(array) is array
        assert world.average(["gradient"]) == ["gradient"]


@pytest.mark.parametrize(("rank", "error"), [(0, ModelError), (1, SystemExit)])
def test_ranks_without_horovod_are_refused_by_the_first(monkeypatch, rank, error):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(error) as caught, joined(Launch("mpirun", rank, 2)):
        pytest.fail("joined")
    if rank == 0:
        assert "mpirun started 2 ranks" in str(caught.value)
        assert "bin/install_horovod" in str(caught.value)
    else:
        assert caught.value.code == 1


@pytest.mark.parametrize(
    ("asked", "launcher", "backend", "expected"),
    [
        ("auto", "srun", "tensorflow", "horovod"),
        ("horovod", "cnn --ranks", "jax", "--engine horovod needs KERAS_BACKEND=tensorflow, not jax"),
        ("auto", "cnn --ranks", "jax", "jax"),
        ("jax", "mpirun", "jax", "jax"),
        ("jax", "mpirun", "tensorflow", "--engine jax needs KERAS_BACKEND=jax, not tensorflow"),
        ("auto", "mpirun", "torch", "training on 2 ranks needs KERAS_BACKEND=tensorflow or jax, not torch"),
        ("none", "mpirun", "jax", "--engine none does not join the 2 ranks of mpirun"),
        ("auto", "cnn --ranks", "tensorflow", "cnn --ranks needs KERAS_BACKEND=jax"),
    ],
)
def test_engine_by_backend(asked, launcher, backend, expected):
    launch = Launch(launcher, 0, 2)
    if expected in ("horovod", "jax"):
        assert engine_of(asked, launch, backend) == expected
    else:
        with pytest.raises(ModelError, match=re.escape(expected)):
            engine_of(asked, launch, backend)


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_one_process_has_no_engine(backend):
    assert engine_of("auto", Launch(), backend) == engine_of("none", Launch(), backend) == "none"


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        ("Gloo all-reduce failed: Connection closed by peer", True),
        ("ncclRemoteError: remote process exited", True),
        ("RESOURCE_EXHAUSTED: Out of memory", False),
    ],
)
def test_a_lost_rank_of_jax(kind, lost):
    errors = pytest.importorskip("jax").errors
    assert jax_ranks.rank_was_lost(errors.JaxRuntimeError(kind)) == lost
    assert not jax_ranks.rank_was_lost(ModelError(kind))


@pytest.mark.parametrize(
    ("error", "launcher", "address", "remedy"),
    [
        (
            "coordinator_address should be defined.",
            "mpiexec",
            "",
            "set JAX_COORDINATOR_ADDRESS to HOST:PORT of the first rank",
        ),
        ("Failed to start RPC server", "cnn --ranks", "here:1", "has taken here:1 meanwhile: start again"),
        ("no device 3", "cnn --ranks", "here:1", "each rank needs one of its own"),
        ("address in use\nmore", "srun", "here:1", "JAX_COORDINATOR_ADDRESS=here:1: choose another port"),
        (
            "[enforce fail at external/gloo/device.cc:99] rv == 0",
            "srun",
            "here:1",
            "cannot be looked up",
        ),
    ],
)
def test_why_jax_does_not_start(error, launcher, address, remedy, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", address)
    found = jax_ranks._refusal(error, Launch(launcher, 0, 4))
    assert found.startswith(f"training on 4 ranks: JAX does not start ({error.splitlines()[0]}); ")
    assert remedy in found


RANK = """
import os, signal, sys, time
from pathlib import Path
rank, how = int(os.environ["DPLEARN_RANK"]), sys.argv[1]
if rank == 1:
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit({"fails": 3}.get(how, 0))
if how != "ends":
    time.sleep(60)
print(os.environ["DPLEARN_RANKS"], os.environ["JAX_COORDINATOR_ADDRESS"], flush=True)
"""


@pytest.mark.parametrize(
    ("how", "expected", "line"),
    [("ends", 0, ""), ("fails", 3, ""), ("dies", 137, "rank 1 of 2 was ended by SIGKILL; start again")],
)
def test_ranks_of_one_machine_end_together(how, expected, line, monkeypatch, caplog, capfd):
    monkeypatch.setattr(own_ranks, "PATIENCE", 0.2)
    begin = time.monotonic()
    assert own_ranks.start_ranks([sys.executable, "-c", RANK, how], 2, os.environ, "start again") == expected
    assert time.monotonic() - begin < 50
    assert line in caplog.text
    assert bool(line) == bool(caplog.text)
    said = capfd.readouterr().out.split()
    assert said[:1] == (["2"] if how == "ends" else [])


@pytest.mark.parametrize(
    ("states", "expected"), [([0, 0], None), ([0, 3], 1), ([1, -9], 1), ([-6, -9], 1), ([-6, 1], 0)]
)
def test_the_rank_that_fails_first_is_none_that_another_took_along(states, expected):
    """Found ended at one look: JAX aborts (-6) a rank whose coordinator is gone, or it leaves with 1."""
    ranks = [SimpleNamespace(poll=lambda state=state: state) for state in states]
    assert own_ranks._first_failure(ranks) == expected


def test_variables_of_a_rank():
    first, other = (own_ranks.rank_environment(rank, 2, 7001) for rank in range(2))
    assert launched(other) == Launch("cnn --ranks", 1, 2)
    assert local_ranks(other) == 2
    assert {name for name in first if first[name] != other[name]} == {"DPLEARN_RANK", "JAX_LOCAL_DEVICE_IDS"}
    assert first["JAX_COORDINATOR_ADDRESS"] == first["JAX_COORDINATOR_BIND_ADDRESS"] == "127.0.0.1:7001"


TIDY = """
import os, signal, sys, time
signal.signal(getattr(signal, sys.argv[1]), lambda *_: sys.exit(4))
os.write(1, b"here\\n")
time.sleep(30)
"""


@pytest.mark.parametrize(("name", "send"), [("SIGTERM", os.kill), ("SIGINT", os.killpg)])
def test_signals_reach_the_ranks_whose_status_counts(name, send):
    """SIGTERM comes to the one process that was started, Ctrl-C to all of the terminal."""
    words = [sys.executable, "-c", START, "2", sys.executable, "-c", TIDY, name]
    job = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment("jax"), start_new_session=True
    )
    assert [job.stdout.readline() for _ in range(2)] == [b"here\n"] * 2
    send(job.pid, getattr(signal, name))
    _, err = job.communicate(timeout=60)
    assert (job.returncode, err) == (4, b"")


FOLLOWER = """
import os, signal, sys, time
from obiwan.dplearn.running import ranks
signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[1] == "deaf" else lambda *_: sys.exit(4))
ranks.end_with_starter(os.environ, "start the job again", grace=0.5)
assert ranks.STARTER not in os.environ
os.write(1, b"%d\\n" % os.getpid())
time.sleep(60)
"""


def ended_by_itself(processes, seconds):
    """Whether all have ended within so long; those that have not are killed."""
    psutil = pytest.importorskip("psutil")
    _, left = psutil.wait_procs(processes, timeout=seconds)
    for process in left:
        process.kill()
    return not left


@pytest.mark.parametrize("how", ["ends", "deaf"])
def test_ranks_end_when_the_process_that_started_them_is_killed(how):
    psutil = pytest.importorskip("psutil")
    words = [sys.executable, "-c", START, "2", sys.executable, "-c", FOLLOWER, how]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment("jax"), text=True
    ) as job:
        ranks = [psutil.Process(int(job.stdout.readline())) for _ in range(2)]
        job.kill()
        assert ended_by_itself(ranks, 30)
        _, err = job.communicate()
    line = "error: the process that started the ranks was killed, and they end; start the job again\n"
    assert err == line  # of the first rank, by Python's own handler


@pytest.mark.horovod
@pytest.mark.slow
def test_a_training_ends_when_the_process_that_started_its_ranks_is_killed(data, tmp_path):
    """It keeps its steps, and goes on."""
    out = tmp_path / "out"
    words = [*CNN, "--data", data, "--epochs", "200", "--outdir", out]
    job = start("ranks", *words, cwd=tmp_path, engine="jax")
    ranks = ranks_at_work(job, out)
    job.kill()
    assert ended_by_itself(list(ranks.values()), 40)
    _, err = job.communicate()
    assert err.count("error: the process that started the ranks was killed, and they end; start") == 1
    assert "Traceback" not in err
    found = load_checkpoint(out / "checkpoints").progress
    assert (found.ranks, found.epoch * 22 + found.step > 0) == (2, True)


def test_a_process_that_no_other_started_has_nothing_to_wait_for():
    environ = {}
    own_ranks.end_with_starter(environ, "")
    assert environ == {}


@pytest.mark.parametrize("words", [[], ["--oversubscribe"]])
def test_more_ranks_than_processors_are_refused(words, monkeypatch, capsys):
    usable, begun = len(os.sched_getaffinity(0)), []
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)
    monkeypatch.setattr(cnn, "start_ranks", lambda _, ranks, *__: begun.append(ranks) or 0)
    given = ["--data", "set", "--outdir", "out", *words, "--ranks"]
    if usable > 1:
        assert cnn.main([*given, str(usable)]) == 0
    assert cnn.main([*given, str(usable + 1)]) == (not words)
    (*_, line) = capsys.readouterr().err.splitlines() or [""]
    assert begun == [*[usable] * (usable > 1), *[usable + 1] * bool(words)]
    if not words:
        assert line.startswith(f"cnn: error: --ranks {usable + 1}: this process may use {usable} processor")


MISSING = """
import os, sys
from obiwan.dplearn.running import cli
from obiwan.dplearn.running.launch import launched
from obiwan.dplearn.training import engines

engines._LATER = 2.0

def program():
    with engines.joined(launched(os.environ), patience=float(sys.argv[1])):
        return 0

sys.exit(cli.run(program, "cnn"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "launcher", "speaks"),
    [(0, "srun", True), (1, "srun", True), (2, "srun", False), (0, "ranks", True), (1, "ranks", False)],
)
def test_a_rank_that_waits_in_vain_for_the_others(rank, launcher, speaks):
    """No trace of the library; the second speaks where a launcher would have ended it with the first."""
    pytest.importorskip("jax")
    given = own_ranks.rank_environment(rank, 3, own_ranks._free_port())
    if launcher == "srun":
        ours, theirs = (own_ranks.RANK, own_ranks.RANKS), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
        given |= {name: given.pop(own) for own, name in zip(ours, theirs, strict=True)}
    environ = {**environment("jax"), **given}
    begin = time.monotonic()
    words = [sys.executable, "-c", MISSING, "3"]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert time.monotonic() - begin < 120
    said = (
        "error: training on 3 ranks: not all of them have started within 3 s; see what "
        f"{'srun' if launcher == 'srun' else 'cnn --ranks'} says of the others, or give them longer by "
        "--start-timeout\n"
    )
    assert (done.returncode, done.stderr) == (1, said if speaks else "")


@pytest.mark.horovod
@pytest.mark.slow
@needs_horovod
def test_a_rank_of_horovod_that_waits_in_vain_for_the_others():
    """Here for a rendezvous that does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        words = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE")
        given = dict(zip((f"HOROVOD_{word}" for word in words), "020201", strict=True))
        given |= {"HOROVOD_HOSTNAME": "localhost", "HOROVOD_GLOO_IFACE": "lo"}
        given |= {"HOROVOD_CONTROLLER": "gloo", "HOROVOD_CPU_OPERATIONS": "gloo"}
        port = str(deaf.getsockname()[1])
        given |= {"HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1", "HOROVOD_GLOO_RENDEZVOUS_PORT": port}
        words = [sys.executable, "-c", MISSING, "15"]
        environ = {**environment(), **given}
        done = subprocess.run(
            words, env=environ, capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
    assert done.returncode == 1
    assert done.stderr == (
        "error: training on 2 ranks: not all of them have started within 15 s; see what horovodrun says of "
        "the others, or give them longer by --start-timeout\n"
    )


@pytest.mark.parametrize("number", [0, 1, 2**32 - 1, 2**32, 5 * 2**32 + 3])
def test_lengths_of_more_than_four_gigabytes_reach_the_other_ranks(number):
    words = jax_ranks._words(number)
    assert (words.dtype, len(words)) == (np.uint32, 2)
    assert jax_ranks._numbers(words) == [number]
    assert jax_ranks._numbers(np.stack([words, words])) == [number] * 2


def test_long_messages_are_sent_in_pieces(monkeypatch):
    """A rank with another one that has less, and one that has nothing, each message of 5 bytes at most."""
    utils = pytest.importorskip("jax.experimental.multihost_utils")
    others, sent = [np.arange(9, dtype=np.int16), np.empty(0, np.int16)], []
    position = [0]

    def allgather(mine):
        if mine.dtype == np.uint32:
            return np.stack([mine, *(jax_ranks._words(other.nbytes) for other in others)])
        sent.append(len(mine))
        start, position[0] = position[0], position[0] + len(mine)
        rows = [np.frombuffer(other.tobytes(), np.uint8)[start : start + len(mine)] for other in others]
        return np.stack([mine, *(np.pad(row, (0, len(mine) - len(row))) for row in rows)])

    monkeypatch.setattr(utils, "process_allgather", allgather)
    monkeypatch.setattr(jax_ranks, "PIECE", 5)
    mine = np.arange(100, 111, dtype=np.int16)
    assert jax_ranks.JaxWorld(0, 3).gather(mine).tolist() == [*mine, *range(9)]
    assert sent == [5, 5, 5, 5, 2]
    monkeypatch.setattr(utils, "broadcast_one_to_all", lambda one: sent.append(len(one)) or one)
    value = {"weights": list(range(20))}
    assert jax_ranks.JaxWorld(0, 3).share(value) == value
    assert set(sent[6:-1]) == {5}


def test_ranks_end_where_one_of_them_cannot_start(monkeypatch):
    """As where the system has no more processes."""
    started = []

    class Refused(subprocess.Popen):
        def __init__(self, *given, **kept):
            if started:
                raise BlockingIOError(11, "Resource temporarily unavailable")
            super().__init__(*given, **kept)
            started.append(self)

    monkeypatch.setattr(own_ranks.subprocess, "Popen", Refused)
    with pytest.raises(OSError, match="temporarily unavailable"):
        own_ranks.start_ranks([sys.executable, "-c", RANK, "waits"], 2, os.environ, "start again")
    assert started[0].poll() is not None


IN_A_WORLD = """
import atexit, ctypes, os, signal, sys
from obiwan.dplearn.running import cli
from obiwan.dplearn.running.launch import Launch
from obiwan.dplearn.training import jax_ranks
from obiwan.dplearn.training.distributed import World
from obiwan.dplearn.training.engines import joined

def start(launch, _limit):
    atexit.register(jax_ranks._leave_at_once)
    return World(launch.rank, launch.size)

def program():
    with joined(Launch("srun", 0, 2)):
        exec(sys.argv[1])

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has background jobs ignore
jax_ranks.start = start
sys.exit(cli.run(program, "cnn"))
"""


def in_a_world(body):
    """Run a text as the first rank of JAX, which waits for no other."""
    words = [sys.executable, "-c", IN_A_WORLD, body]
    return subprocess.run(words, env=environment("jax"), capture_output=True, text=True, check=False)


def test_the_status_of_an_interrupted_rank_of_jax():
    done = in_a_world("signal.raise_signal(signal.SIGINT)")
    assert done.returncode == 130
    assert done.stderr == "cnn: interrupted; start it again to go on where it stopped\n"


def test_a_rank_that_waits_for_another_says_that_its_time_is_up():
    """The signal comes while the main thread is in a function of C, as an average with a dead rank is.

    One function of C sends and waits: between two, the main thread may act on it, and so does `os.kill`.
    """
    done = in_a_world(
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); "
        "ctypes.CDLL(None).system(b'kill -TERM $PPID; sleep 4')"
    )
    assert done.returncode == 143
    assert done.stderr.startswith(
        "error: training on 2 ranks is ended by SIGTERM while it waits for another rank, which may have "
        "died; start the job again to go on from the last checkpoint\n"
    )


@pytest.mark.parametrize(
    ("environ", "words", "error"),
    [
        ({"KERAS_BACKEND": "jax"}, ["--ranks", "3"], "Keras backend jax (KERAS_BACKEND) is not installed"),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}, [], "Keras backend"),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, [], None),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, ["--ranks", "3"], None),
    ],
)
def test_many_ranks_complain_of_a_missing_backend_once(environ, words, error, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(cnn, "start_ranks", lambda *_: pytest.fail("started"))
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with contextlib.nullcontext() if error else pytest.raises(SystemExit, match="1"):
        assert cnn.main(["--data", "set", "--outdir", "out", *words]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [error in line for line in lines] == [True] * bool(error)


def test_many_ranks_complain_of_a_command_line_once(monkeypatch, capsys):
    for rank in ("0", "1", "2"):
        monkeypatch.setenv("HOROVOD_RANK", rank)
        monkeypatch.setenv("HOROVOD_SIZE", "3")
        with pytest.raises(SystemExit) as caught:
            cnn.main(["--outdir", "out"])
        assert caught.value.code == 2
    assert capsys.readouterr().err.count("required: --data") == 1


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("rows", [[61], [20, 21, 20], [9, 9, 9, 9, 9, 9, 7], [1] * 61])
def test_every_rank_takes_the_same_steps_of_its_own(tmp_path, size, rows):
    training_set = make_set(tmp_path / "set", {"train": rows, "val": [2], "test": [2]})
    config = FeedConfig(batch_size=3, seed=1, window=2)
    used = []
    for epoch in range(2):
        taken = []
        for rank in range(size):
            batches = Batches(training_set, "train", config, World(rank, size))
            assert batches.steps == 61 // (3 * size)
            seen = [x[:, 0, 0, 0] for x, _ in batches.epoch(epoch)]
            assert len(seen) == batches.steps
            taken += np.concatenate(seen).astype(int).tolist()
        assert len(set(taken)) == len(taken) == 3 * size * (61 // (3 * size))
        used.append(taken)
    assert used[0] != used[1]
    assert set(used[0]) != set(used[1])  # the remainder is another one


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("length", [0, 1, 5, 7, 100])
def test_parts_are_the_whole(size, length):
    parts = [World(rank, size).part(range(length)) for rank in range(size)]
    assert [item for part in parts for item in part] == list(range(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_learning_rate_grows_with_the_ranks_and_is_said(data, tmp_path, caplog):
    assert [lr_factor(rule, 4) for rule in ("none", "sqrt", "linear")] == [1, 2, 4]
    config = RunConfig(TINY, FeedConfig(batch_size=4), epochs=3, learning_rate=1e-3)
    with caplog.at_level(logging.INFO):
        trainer = Trainer(config, open_training_set(data), tmp_path / "out", world=World(0, 4))
        trainer.begin()
    assert (
        "4 ranks: batches of 4 on each, 16 in all; learning rate 0.002, sqrt-scaled from 0.001" in caplog.text
    )
    assert "a warm-up over 2 of 33 steps" in caplog.text
    rates = [float(trainer.optimizer._learning_rate(step)) for step in range(34)]
    assert max(rates) == pytest.approx(2e-3)
    assert int(np.argmax(rates)) == 2
    with pytest.raises(ValueError, match="lr_scaling"):
        RunConfig(TINY, FeedConfig(), lr_scaling="cubic")


@pytest.mark.parametrize(("rank", "error"), [(0, ModelError), (1, SystemExit)])
def test_divergence_is_told_once(rank, error, data, tmp_path):
    """The loss is averaged, so that all ranks stop at the same step."""
    config = RunConfig(TINY, FeedConfig(batch_size=4), epochs=1)
    trainer = Trainer(config, open_training_set(data), tmp_path, world=World(rank, 2))
    with pytest.raises(error, match="the loss is nan" if rank == 0 else "1"):
        trainer._check_finite(float("nan"))


def test_the_table_of_the_scaling_model_is_what_the_model_gives():
    text = (TESTS.parent / "doc" / "explanation" / "scaling.rst").read_text()
    head, _, *rows = table(Machine())
    assert len(rows) == 9
    for line in [head, *rows]:
        assert line in text


@pytest.mark.parametrize("ranks", [2, 3, 8, 1024, 4096])
def test_costs_of_averaging(ranks):
    """Against sums over the messages that each algorithm sends."""
    machine = Machine(latency=1e-6, bandwidth=2e9, reduce=1e30)
    by_ring = sum(1e-6 + GRADIENTS / ranks / 2e9 for _ in range(2 * (ranks - 1)))
    assert ring(ranks, GRADIENTS, machine) == pytest.approx(by_ring)
    if ranks & (ranks - 1) == 0:
        halves = [GRADIENTS / 2**k for k in range(1, ranks.bit_length())]
        assert halving(ranks, GRADIENTS, machine) == pytest.approx(2 * sum(1e-6 + n / 2e9 for n in halves))
    waits = [slowest(ranks, 0.03), np.random.default_rng(1).normal(0, 0.03, (2000, ranks)).max(1).mean()]
    assert waits[0] == pytest.approx(waits[1], rel=0.05)


def test_another_number_of_ranks_begins_the_epoch_again(data, tmp_path, caplog):
    """A world of two that exchanges nothing dies in its second epoch, and one process takes over."""
    from rank_program import Death, Mortal

    training_set = open_training_set(data)
    config = RunConfig(TINY, FeedConfig(batch_size=8, seed=2), epochs=2)

    def trainer(world, life):
        return Trainer(
            config, training_set, tmp_path / "out", world=world, checkpoint_steps=2, logs=Mortal(life)
        )

    with pytest.raises(Death):
        trainer(World(0, 2), 11 + 7).fit()
    left = load_checkpoint(tmp_path / "out" / "checkpoints")
    assert (left.progress.epoch, left.progress.step, left.progress.ranks) == (1, 6, 2)

    now = trainer(World(), 10**9)
    with caplog.at_level(logging.INFO):
        now.begin()
    assert "1 ranks now, 2 before: epoch 2 begins again" in caplog.text
    assert (now.progress.epoch, now.progress.step, now.progress.loss_sum) == (1, 0, 0.0)
    assert len(now.progress.history) == 1
    assert int(now.optimizer.iterations) == 22
    for weight, array in zip(now.model.weights, left.weights, strict=True):
        assert np.array_equal(np.asarray(weight), array)

    # It is the newest checkpoint that the next start takes up, although its steps are counted otherwise.
    with pytest.raises(Death):
        trainer(World(0, 4), 3).fit()
    newest = load_checkpoint(tmp_path / "out" / "checkpoints").progress
    assert (newest.epoch, newest.step, newest.ranks) == (1, 2, 4)
    fitted = trainer(World(), 10**9).fit()
    assert [row["epoch"] for row in fitted.progress.history] == [1, 2]
