"""The batch scripts, run by stand-ins for sbatch, srun and scontrol that start real local ranks."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from obiwan.dplearn.create_training import main
from obiwan.dplearn.training.checkpoints import load_checkpoint
from synthetic import Survey, bricks_apart, content_of, survey

SCRIPTS = ("slurm_cnn.sh", "slurm_create_training.sh")

# Reads the #SBATCH lines as sbatch does, lets its own options win, and runs a *copy* of the script.
SBATCH = """
import os, re, shutil, subprocess, sys
from pathlib import Path

words = sys.argv[1:]
own = [words.pop(0) for _ in range(next(i for i, word in enumerate(words) if not word.startswith("-")))]
script = Path(words.pop(0))
lines = script.read_text().split("set -euo pipefail")[0].splitlines()
own = [line.split()[1] for line in lines if line.startswith("#SBATCH")] + own
options = dict(word.removeprefix("--").partition("=")[::2] for word in own)
nodes, each = int(options["nodes"]), int(options["ntasks-per-node"])
place = Path(os.environ["STUBS"])
spooled = place / "spool" / "job7" / "slurm_script"
spooled.parent.mkdir(parents=True, exist_ok=True)
shutil.copy(script, spooled)
environ = {
    **os.environ,
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": options["job-name"],
    "SLURM_SUBMIT_DIR": os.getcwd(),
    "SLURM_JOB_NUM_NODES": str(nodes),
    "SLURM_NTASKS": str(nodes * each),
    "SLURM_NTASKS_PER_NODE": str(each),
    "SLURM_CPUS_PER_TASK": options["cpus-per-task"],
    "SLURM_PROCID": "0",
    "SLURM_RESTART_COUNT": os.environ.get("RESTARTS", "0"),
}
os.execve(shutil.which("bash"), ["bash", str(spooled), *words], environ)
"""

# Real ranks: by mpirun, under which MPI programs find each other as under srun.  Asked to end, srun kills the
# tasks: it does not pass the signal on.
SRUN = """
import json, os, signal, subprocess, sys
from pathlib import Path

if sys.argv[1:] == ["--mpi=list"]:
    print("MPI plugin types are...\\n\\tpmix\\n\\tnone\\n\\tpmi2")
    sys.exit()
words = sys.argv[1:]
own = [words.pop(0) for _ in range(next(i for i, word in enumerate(words) if not word.startswith("-")))]
names = ("SLURM_CPUS_PER_TASK", "SRUN_CPUS_PER_TASK", "OMP_NUM_THREADS", "PYTHONPATH", "PYTHONSAFEPATH")
said = {"options": own, "command": words, "environ": {name: os.environ.get(name) for name in names}}
place = Path(os.environ["STUBS"])
(place / "srun.json").write_text(json.dumps(said))
words = json.loads(os.environ.get("TASK", "null")) or words
number = os.environ["SLURM_NTASKS"]
if number != "1":
    words = [*json.loads(os.environ["LAUNCHER"]), "-n", number, *words]
step = subprocess.Popen(words, start_new_session=True)

def kill(*_):
    (place / "killed").touch()
    os.killpg(step.pid, signal.SIGKILL)

signal.signal(signal.SIGTERM, kill)
(place / "step.pid").write_text(str(step.pid))
status = step.wait()
sys.exit(status if status >= 0 else 128 - status)
"""

# A signal reaches the tasks, as --batch is not given, and neither srun nor the script.
SCANCEL = """
import os, signal, sys
from pathlib import Path

assert sys.argv[1:] == ["--signal=TERM", os.environ.get("OWN_ID", "7")], sys.argv
step = (Path(os.environ["STUBS"]) / "step.pid").read_text()
tasks = Path(f"/proc/{step}/task/{step}/children").read_text().split()
for task in [step] if os.environ["SLURM_NTASKS"] == "1" else tasks:
    os.kill(int(task), signal.SIGTERM)
"""

SCONTROL = """
import os, sys
from pathlib import Path

told = [word for word in sys.argv[1:] if word != "-o"]
if told == ["show", "job", os.environ.get("OWN_ID", "7")]:
    print(os.environ.get("JOB", "JobId=7 Requeue=1 Restarts=0 TimeLimit=06:00:00 TimeMin=N/A"))
elif told == ["show", "config"]:
    print(f"MpiDefault              = {os.environ.get('MPI_DEFAULT', 'pmix')}")
elif "REFUSES" in os.environ:
    sys.exit("Requested operation is presently disabled")
else:
    (Path(os.environ["STUBS"]) / "queued").write_text(" ".join(told))
"""

# For the time limit: a task that ends on SIGTERM alone, if it does, and leaves a checkpoint, if it does.
PATIENT = """
import os, signal, sys, time
from pathlib import Path

def end(*_):
    (Path(os.environ["STUBS"]) / "ended").touch()
    if "saves" in sys.argv:
        place = Path(os.environ["SCRATCH"]) / "cnn" / "checkpoints"
        place.mkdir(parents=True)
        (place / "step_0000000001.npz").touch()
    if "deaf" not in sys.argv:
        sys.exit(0 if "finishes" in sys.argv else 143)

signal.signal(signal.SIGTERM, end)
(Path(os.environ["STUBS"]) / "started").touch()
time.sleep(60)
"""


@pytest.fixture(scope="module")
def launcher() -> list[str]:
    """What starts ranks here: mpirun, the environment's own or the machine's."""
    beside = Path(sys.executable).parent
    found = shutil.which("mpirun", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip("no mpirun on this machine")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return [found, "--oversubscribe", "--bind-to", "none"] if "Open" in version else [found]


@pytest.fixture
def stubs(tmp_path) -> Path:
    """A directory with the stand-ins, first on the path of `submit`."""
    place = tmp_path / "stubs"
    place.mkdir()
    programs = {"sbatch": SBATCH, "srun": SRUN, "scancel": SCANCEL, "scontrol": SCONTROL}
    for name, program in programs.items():
        (place / name).write_text(f"#!{sys.executable}\n{program}")
        (place / name).chmod(0o755)
    (place / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (place / "python").chmod(0o755)
    return place


@pytest.fixture
def environ(stubs, tmp_path) -> dict[str, str]:
    """Of a user who submits a job."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLURM", "OMPI", "PMI", "HOROVOD", "PYTHON", "KERAS"))
        and not name.endswith("_THREADS")
    }
    return {
        **kept,
        "PATH": f"{stubs}{os.pathsep}{kept['PATH']}",
        "STUBS": str(stubs),
        "SCRATCH": str(tmp_path),
        "LAUNCHER": "[]",
        "OBIWAN_DPLEARN_VENV": str(tmp_path / "no-environment"),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


@pytest.fixture
def submit(environ, root):
    """Submit a script of bin/ from the checkout, with options of sbatch and words for the program."""

    def run(script: str, *options: str, words: tuple[str, ...] = (), cwd: Path = root, **more: str):
        return subprocess.run(
            ["sbatch", *options, str(root / "bin" / script), *words],
            cwd=cwd,
            env={**environ, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run


def headers(script: Path) -> dict[str, str]:
    lines = script.read_text().splitlines()
    return dict(
        line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines if line.startswith("#SBATCH")
    )


@pytest.mark.parametrize("name", [*SCRIPTS, "slurm_tune.sh", "slurm_job.sh"])
def test_bash_reads_it(name, root):
    done = subprocess.run(
        ["bash", "-n", str(root / "bin" / name)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_shellcheck_finds_nothing(root):
    program = shutil.which(
        "shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if program is None:
        pytest.skip("no shellcheck (the extra `test` has it)")
    scripts = sorted(str(path) for path in (root / "bin").iterdir() if path.is_file())
    done = subprocess.run(
        [program, "-x", "-P", "SCRIPTDIR", *scripts], capture_output=True, text=True, check=False, cwd=root
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_headers_stand_where_slurm_reads_them(name, root):
    script = root / "bin" / name
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert os.access(script, os.X_OK)
    assert text.index("set -euo pipefail") > text.rindex("#SBATCH")  # SLURM stops at the first command
    found = headers(script)
    assert found["constraint"] == "cpu"
    assert "requeue" in found
    assert re.fullmatch(r"B:USR1@\d+", found["signal"])
    # All of a Perlmutter CPU node: 256 hardware threads.
    assert int(found["ntasks-per-node"]) * int(found["cpus-per-task"]) == 256
    knl = re.search(r"constraint=knl,quad,cache --ntasks-per-node=(\d+) --cpus-per-task=(\d+)", text)
    assert int(knl[1]) * int(knl[2]) <= 4 * 68


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


def test_create_training_on_three_ranks(made, training, submit, launcher, stubs, tmp_path):
    pytest.importorskip("mpi4py", reason="mpi4py is not installed (the extra `mpi`)")
    given = {"FAKE": str(made.fake), "REAL": str(made.real), "LAUNCHER": json.dumps(launcher)}
    options = ("--nodes=1", "--ntasks-per-node=3", "--cpus-per-task=1")
    done = submit("slurm_create_training.sh", *options, words=("--shard-size", "5"), **given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert content_of(tmp_path / "training") == content_of(training)
    assert done.stdout.index("preflight: ok") < done.stdout.index("after the cut")
    assert done.stdout.count("training set: ") == 1
    said = json.loads((stubs / "srun.json").read_text())
    assert {"--kill-on-bad-exit=1", "--cpu-bind=cores"} <= set(said["options"])
    assert said["environ"]["OMP_NUM_THREADS"] == "1"
    assert said["environ"]["SRUN_CPUS_PER_TASK"] == "1"
    assert "--mpi" in said["command"]
    # Submitted again, with another number of tasks: there is nothing left to do.
    done = submit(
        "slurm_create_training.sh", "--nodes=1", "--ntasks-per-node=1", words=("--shard-size", "5"), **given
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "already holds this training set" in done.stdout
    assert "--mpi" not in json.loads((stubs / "srun.json").read_text())["command"]


def horovod_with_mpi() -> None:
    """Skip where ranks that mpirun starts would not find each other."""
    if importlib.util.find_spec("horovod") is None:
        pytest.skip("Horovod is not installed (bin/install_horovod)")
    from obiwan.dplearn import __main__ as preflight

    if "mpi" not in preflight.controllers(preflight.Package("horovod", "horovod").origin().parent):
        pytest.skip("Horovod was built without MPI")


@pytest.mark.slow
@pytest.mark.horovod
def test_cnn_on_two_ranks_goes_on_when_submitted_again(
    training, submit, environ, launcher, stubs, tmp_path, root
):
    """The time limit comes in the middle of an epoch; the job that is submitted then ends the training."""
    horovod_with_mpi()
    given = {
        "DATA": str(training),
        "OUTDIR": str(tmp_path / "cnn"),
        "LAUNCHER": json.dumps(launcher),
        "PROFILE": "small",
    }
    options = ("--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=1")
    words = ("--batch-size", "2", "--maps", "2", "2", "2", "--dense", "4", "--checkpoint-steps", "1")
    words = (*words, "--epochs", "40")
    checkpoints = tmp_path / "cnn" / "checkpoints"
    command = ["sbatch", *options, str(root / "bin" / "slurm_cnn.sh"), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=root, env={**environ, **given}, **pipes) as job:
        deadline = time.monotonic() + 300
        while not list(checkpoints.glob("*.npz")) and job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        job.send_signal(signal.SIGUSR1)
        out, err = job.communicate(timeout=120)
    assert job.returncode == 0, out + err
    assert "back into the queue, to go on where this stopped" in out
    assert (stubs / "queued").read_text() == "requeue 7"
    assert "Held-out result" not in out
    assert out.index("preflight: ok") < out.index("the time limit is near")
    left = load_checkpoint(checkpoints).progress
    assert (left.ranks, left.epoch + left.step > 0) == (2, True)

    done = submit("slurm_cnn.sh", *options, words=words, RESTARTS="1", **given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"going on after {left.epoch} finished epochs and {left.step} steps" in done.stderr
    assert done.stdout.count("Held-out result") == 1
    assert "2 ranks" in done.stderr
    said = json.loads((stubs / "srun.json").read_text())
    assert {"--kill-on-bad-exit=1", "--cpu-bind=cores"} <= set(said["options"])
    assert said["command"][said["command"].index("--profile") + 1] == "small"
    alone = ("--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=1")
    done = submit("slurm_cnn.sh", *alone, words=words, **given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "this run is finished" in done.stdout


def test_preflight_comes_first(submit, stubs, tmp_path):
    """Where something is missing, no rank is started."""
    environ = {"PYTHONPATH": str(tmp_path / "upstream")}
    (tmp_path / "upstream" / "obiwan").mkdir(parents=True)  # behind ours, and harmless
    done = submit("slurm_cnn.sh", "--nodes=1", "--ntasks-per-node=1", KERAS_BACKEND="abacus", **environ)
    assert done.returncode != 0
    assert "KERAS_BACKEND=abacus is none of" in done.stdout
    assert not (stubs / "srun.json").exists()


def test_the_checkout_must_be_known(submit, stubs, tmp_path, root):
    done = submit("slurm_cnn.sh", cwd=tmp_path)  # SLURM runs a copy, which does not know where it came from
    assert done.returncode == 1
    assert f"error: {tmp_path} is no checkout: submit from one, or set OBIWAN_DPLEARN_DIR" in done.stderr
    (stubs / "srun").write_text("#!/bin/sh\nexit 3\n")
    done = submit(
        "slurm_cnn.sh", "--ntasks-per-node=1", "--nodes=1", cwd=tmp_path, OBIWAN_DPLEARN_DIR=str(root)
    )
    assert done.returncode == 3, done.stderr  # what the step ends with is what the job ends with
    assert "preflight: ok" in done.stdout


def test_setup_file_and_defaults(submit, stubs, tmp_path):
    setup = tmp_path / "setup.sh"
    setup.write_text("unset UNHEARD_OF\necho using $UNHEARD_OF modules\nexport FROM_SETUP=yes\n")
    (stubs / "srun").write_text('#!/bin/sh\necho "$FROM_SETUP" "$@"\n')
    done = submit(
        *("slurm_cnn.sh", "--nodes=1", "--ntasks-per-node=1"),
        words=("--epochs", "3"),
        DPLEARN_SETUP=str(setup),
        SRUN_MPI="pmix",
    )
    assert done.returncode == 0, done.stderr
    expected = (
        f"yes --kill-on-bad-exit=1 --cpu-bind=cores --mpi=pmix python -m obiwan.dplearn.cnn "
        f"--data {tmp_path}/training --outdir {tmp_path}/cnn --profile perlmutter --epochs 3"
    )
    assert done.stdout.splitlines()[-1] == expected
    done = submit("slurm_create_training.sh", "--nodes=1", "--ntasks-per-node=1", REAL="", BRICKS="list.txt")
    assert done.stdout.splitlines()[-1].endswith(
        f"create_training --fake {tmp_path}/obiwan_out --outdir {tmp_path}/training --bricks list.txt"
    )


@pytest.fixture
def stopped(environ, stubs, root):
    """Submit a job, signal its script as SLURM does before the time limit, and return what it says."""

    def run(*task: str, **more: str) -> tuple[int, str, str]:
        words = [sys.executable, "-c", PATIENT, *task]
        given = {**environ, "TASK": json.dumps(words), **more}
        command = ["sbatch", "--nodes=1", "--ntasks-per-node=1", str(root / "bin" / "slurm_cnn.sh")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=root, env=given, **pipes) as job:
            deadline = time.monotonic() + 60
            while not (stubs / "started").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            job.send_signal(signal.SIGUSR1)
            out, err = job.communicate(timeout=60)
        return job.returncode, out, err

    return run


BACK = "back into the queue, to go on where this stopped (SLURM waits two minutes before the next start)"


def test_near_the_time_limit_the_tasks_end_and_the_job_is_requeued(stopped, stubs):
    """SLURM signals the batch shell alone, which lets the tasks save what they have."""
    status, out, err = stopped("saves")
    assert (status, BACK in out) == (0, True), err
    assert (stubs / "queued").read_text() == "requeue 7"
    assert (stubs / "ended").exists()
    assert not (stubs / "killed").exists()  # srun itself was let be


def test_a_step_that_finishes_meanwhile_is_the_end(stopped, stubs):
    status, out, err = stopped("finishes")
    assert (status, "into the queue" in out + err) == (0, False)
    assert not (stubs / "queued").exists()


def test_a_controller_that_does_not_answer_holds_nothing_up(submit, stubs):
    (stubs / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    (stubs / "srun").write_text('#!/bin/sh\necho srun "$@"\n')
    done = submit("slurm_cnn.sh", "--nodes=1", "--ntasks-per-node=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("srun --kill-on-bad-exit=1")


def test_a_task_that_does_not_end_is_killed(stopped, stubs):
    status, out, _ = stopped("saves", "deaf", PATIENCE="2")
    assert (status, BACK in out) == (0, True)
    assert "warning: a task did not end within 2 s and is killed" in out
    assert (stubs / "killed").exists()


@pytest.mark.parametrize(
    ("task", "more", "reason"),
    [
        ("saves", {"RESTARTS": "20"}, "not finished after 20 restarts"),
        ("saves", {"JOB": "JobId=7 Requeue=0 TimeLimit=06:00:00"}, "--no-requeue keeps it out of the queue"),
        (
            "saves",
            {"JOB": "JobId=7 Requeue=1 TimeLimit=00:05:00"},
            "--time=5 is too short for --signal=B:USR1@300",
        ),
        ("", {}, "wrote no checkpoints/step_*.npz in"),
    ],
)
def test_what_is_not_requeued_says_why(task, more, reason, stopped, stubs):
    status, out, err = stopped(task, **more)
    assert status == 1
    assert reason in err
    assert "dplearn-cnn: error: " in err
    assert "back into the queue, to" not in out
    assert (stubs / "ended").exists()
    assert not (stubs / "queued").exists()


def test_slurm_may_refuse_to_requeue(stopped):
    status, _, err = stopped("saves", REFUSES="1")
    assert status == 1
    assert "SLURM refuses to requeue it (Requested operation is presently disabled); submit it again" in err


@pytest.mark.parametrize(
    ("limit", "warned"),
    [
        ("00:05:00", True),
        ("00:05:30", True),
        ("00:06:00", False),
        ("1-00:00:00", False),
        ("UNLIMITED", False),
    ],
)
def test_a_time_limit_below_the_lead_of_the_signal_is_said_at_the_start(limit, warned, submit, stubs):
    (stubs / "srun").write_text("#!/bin/sh\nexit 0\n")
    done = submit("slurm_cnn.sh", "--nodes=1", "--ntasks-per-node=1", JOB=f"JobId=7 TimeLimit={limit}")
    assert done.returncode == 0, done.stderr
    begin, found, _ = done.stdout.partition("is too short for --signal=B:USR1@300")
    assert bool(found) == warned
    assert "preflight" not in begin or not warned


def test_the_task_of_an_array_is_signalled_and_requeued_alone(stopped, stubs):
    array = {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"}
    status, _, err = stopped("saves", OWN_ID="5_3", **array)
    assert status == 0, err
    assert (stubs / "queued").read_text() == "requeue 5_3"


def test_an_array_of_tuning_shares_one_study(submit, stubs, tmp_path, root):
    """Its processes need no MPI, and each joins what is there."""
    assert headers(root / "bin" / "slurm_tune.sh")["array"]
    (stubs / "srun").write_text('#!/bin/sh\necho "$SRUN_CPUS_PER_TASK" "$@"\n')
    array = {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3", "MPI_DEFAULT": "pmi2"}
    done = submit("slurm_tune.sh", "--ntasks-per-node=1", words=("--trials", "9"), **array)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "job 5_3, start 1" in done.stdout
    expected = (
        "32 --kill-on-bad-exit=1 --cpu-bind=cores --mpi=none python -m obiwan.dplearn.tune "
        f"--data {tmp_path}/training --outdir {tmp_path}/tuned --profile perlmutter --resume --trials 9"
    )
    assert done.stdout.splitlines()[-1] == expected


def test_a_missing_environment_is_said(submit, stubs, tmp_path):
    done = submit("slurm_cnn.sh", "--nodes=1", "--ntasks-per-node=1", DPLEARN_SETUP=str(tmp_path / "none.sh"))
    assert done.returncode == 1
    assert f"dplearn-cnn: error: DPLEARN_SETUP: cannot read {tmp_path / 'none.sh'}" in done.stderr
    for name in ("bash", "cat", "sed", "head", "tr", "find", "sort"):
        if not (stubs / name).exists():
            (stubs / name).symlink_to(shutil.which(name))
    (stubs / "python").unlink()
    done = submit("slurm_cnn.sh", "--nodes=1", "--ntasks-per-node=1", PATH=str(stubs))
    assert done.returncode == 1
    assert f"error: no python in {tmp_path / 'no-environment'}/bin or on the PATH" in done.stderr
    assert "OBIWAN_DPLEARN_VENV" in done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("given", "kind"), [({"MPI_DEFAULT": "none"}, "none"), ({"SRUN_MPI": "pmi2"}, "pmi2")]
)
def test_an_srun_that_cannot_start_this_mpi_is_refused(script, given, kind, submit, stubs, launcher):
    """Open MPI without PMIx ends every rank in MPI_Init, with twenty lines of its own."""
    horovod_with_mpi()
    pytest.importorskip("mpi4py", reason="mpi4py is not installed (the extra `mpi`)")
    if "--oversubscribe" not in launcher:
        pytest.skip("the MPI here is not Open MPI")
    done = submit(script, "--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=1", **given)
    assert done.returncode == 1, done.stdout
    assert f"PROBLEM: srun --mpi={kind} cannot start Open MPI" in done.stdout
    assert "set SRUN_MPI=pmix before sbatch" in done.stdout
    assert not (stubs / "srun.json").exists()


@pytest.mark.parametrize(("nodes", "each"), [(2, 1), (1, 2)])
def test_a_backend_without_an_engine_is_refused_several_tasks(nodes, each, submit, stubs):
    options = (f"--nodes={nodes}", f"--ntasks-per-node={each}", "--cpus-per-task=1")
    done = submit("slurm_cnn.sh", *options, KERAS_BACKEND="torch")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "dplearn-cnn: error: KERAS_BACKEND=torch trains in one task, not in 2: give sbatch --nodes=1 "
        "--ntasks-per-node=1, or set KERAS_BACKEND to tensorflow or jax\n"
    )
    assert not (stubs / "srun.json").exists()
    done = submit("slurm_cnn.sh", "--nodes=1", "--ntasks-per-node=1", KERAS_BACKEND="torch")
    assert "trains in one task" not in done.stderr
    assert "horovod is missing" not in done.stdout
