"""Programs are killed at random moments and started again: is the end that of a run that was left alone?

    python tests/benchmarks/faults.py [--kills 50] [--training 10] [--seed 1]

Each time the driver, one of its two workers, or all of them are killed with SIGKILL, or the driver is ended
with SIGTERM, at a random moment of a run of create_training; then the same command goes on, by chance with
another number of workers.  It is the kills that are counted; the SIGTERMs come on top.  After some of one
directory it is compared with the undisturbed run, byte by byte.  For cnn the weights at the end are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from obiwan.dplearn.trainingset.shards import FORMS, NPY
from planted import Planted, write_set
from synthetic import Survey, bricks_apart, content_of, survey

ROOT = Path(__file__).resolve().parents[2]
WAYS = ("driver", "worker", "all", "SIGTERM")
ENVIRON = {
    **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
    **{"PYTHONPATH": str(ROOT / "py"), "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"},
    **{"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"},
}


def start(program: str, words: Sequence[str]) -> subprocess.Popen[str]:
    """Start a program of the package in a process group of its own."""
    command = [sys.executable, "-m", f"obiwan.dplearn.{program}", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=ENVIRON, start_new_session=True, **pipes)


def workers_of(process: int) -> list[int]:
    """The worker processes that a driver has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            command = (path / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == process and b"spawn_main" in command:
            found.append(int(path.name))
    return found


def strike(process: subprocess.Popen[str], way: str, rng: random.Random) -> str:
    """End a running program in one of the `WAYS`; which it was: where no worker is, the driver is killed."""
    if way == "all":
        os.killpg(process.pid, signal.SIGKILL)
    elif way == "SIGTERM":
        process.terminate()
    elif way == "worker":
        # Nothing goes on while /proc is read, which takes as long as a worker takes for its last task.
        os.killpg(process.pid, signal.SIGSTOP)
        workers = workers_of(process.pid)
        os.kill(rng.choice(workers) if workers else process.pid, signal.SIGKILL)
        os.killpg(process.pid, signal.SIGCONT)
        return "worker" if workers else "driver"
    else:
        process.kill()
    return way


def disturbed(
    program: str, words: Sequence[str], moment: float | Callable[[], bool], way: str, rng: random.Random
) -> tuple[int, str]:
    """Run a program that is struck after so many seconds, or when that is so.

    Returns its status (0: it had ended before), and which of the `WAYS` it was.
    """
    process = start(program, words)
    while callable(moment) and process.poll() is None and not moment():
        time.sleep(0.001)
    try:
        _, said = process.communicate(timeout=0 if callable(moment) else moment)
    except subprocess.TimeoutExpired:
        way = strike(process, way, rng)
        _, said = process.communicate(timeout=300)
    status = process.returncode
    if "Traceback" in said or status not in (0, 1, 128 + signal.SIGTERM, -signal.SIGKILL, -signal.SIGTERM):
        after = "at its moment" if callable(moment) else f"after {moment:.2f} s"
        raise SystemExit(f"{way} {after}: status {status}\n{said}")
    return status, way


def kills(hits: Counter[str]) -> int:
    """How many of the hits were by SIGKILL, which leaves a program no time to put anything in order."""
    return sum(number for way, number in hits.items() if way != "SIGTERM")


def undisturbed(program: str, words: Sequence[str]) -> float:
    """Run a program to its end; its seconds."""
    begin = time.monotonic()
    process = start(program, words)
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"{program} {' '.join(words)}: status {process.returncode}\n{said}")
    return time.monotonic() - begin


def stamps_words(made: Survey, outdir: Path, jobs: int, form: str = NPY) -> list[str]:
    """The command line of create_training on a synthetic survey; small shards, so that there are many."""
    given = ["--fake", str(made.fake), "--real", str(made.real), "--outdir", str(outdir)]
    return [*given, "--shard-size", "2", "--jobs", str(jobs), "--shards", form]


def stamps(made: Survey, base: Path, wanted: int, rng: random.Random, form: str) -> Counter[str]:
    """Disturb and restart create_training until there were so many kills; what was hit how often."""
    seconds = undisturbed("create_training", stamps_words(made, base / "whole", 2, form))
    whole, hits, number = content_of(base / "whole"), Counter[str](), 0
    while kills(hits) < wanted:
        number += 1
        outdir = base / f"struck{number}"
        for _ in range(rng.randint(1, 4)):
            way, jobs = rng.choice(WAYS), rng.choice((1, 2, 2))
            # A part of the time is that of the imports, which needs fewer tries.
            words = stamps_words(made, outdir, jobs, form)
            moment = rng.uniform(0.4, 1.1) * seconds
            status, hit = disturbed("create_training", words, moment, way, rng)
            if status == 0:
                break
            hits[hit] += 1
            if (outdir / "manifest.json").exists() and not whole.items() <= content_of(outdir).items():
                raise SystemExit(f"{outdir}: a manifest, but not the files that it names")
        undisturbed("create_training", stamps_words(made, outdir, 1, form))
        if content_of(outdir) != whole:
            raise SystemExit(f"{outdir}: differs from the undisturbed run")
        shutil.rmtree(outdir)
    return hits


def training_words(data: Path, outdir: Path) -> list[str]:
    """The command line of a tiny training with a checkpoint every other step."""
    network = ["--maps", "3", "4", "--kernel-size", "3", "--dense", "6", "--quiet", "--threads", "1"]
    steps = ["--batch-size", "2", "--epochs", "6", "--checkpoint-steps", "2"]
    return ["--data", str(data), "--outdir", str(outdir), *network, *steps]


def weights(outdir: Path) -> str:
    """The checksum of a run's weights."""
    return str(json.loads((outdir / "result.json").read_text(encoding="utf-8"))["model"])


def training(base: Path, wanted: int, rng: random.Random) -> Counter[str]:
    """Disturb and restart cnn until there were so many kills."""
    write_set(base / "set", Planted("size", 2.5), {"train": 96, "val": 32, "test": 32}, seed=5, rows=32)
    seconds = undisturbed("cnn", training_words(base / "set", base / "untouched"))
    hits, number = Counter[str](), 0
    while kills(hits) < wanted:
        number += 1
        outdir = base / f"trained{number}"
        for _ in range(rng.randint(1, 3)):
            way = rng.choice(("driver", "SIGTERM"))
            moment = rng.uniform(0.5, 1.1) * seconds
            status, hit = disturbed("cnn", training_words(base / "set", outdir), moment, way, rng)
            if status == 0:
                break
            hits[hit] += 1
        undisturbed("cnn", training_words(base / "set", outdir))
        if weights(outdir) != weights(base / "untouched"):
            raise SystemExit(f"{outdir}: other weights than the undisturbed run")
    return hits


def told(hits: Counter[str]) -> str:
    """Hits in words."""
    return f"{sum(hits.values())} ({', '.join(f'{way} {n}' for way, n in sorted(hits.items()))})"


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--kills", type=int, default=50, help="of create_training, by SIGKILL; SIGTERMs come on top"
    )
    parser.add_argument("--training", type=int, default=10, help="kills of cnn")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        made = survey(Path(name) / "survey", bricks=bricks_apart(6))
        for form in FORMS if options.kills else ():
            hits = stamps(made, Path(name) / form, -(-options.kills // len(FORMS)), rng, form)
            said = f"create_training --shards {form} struck {told(hits)}"
            print(f"{said}: every restart ended with the same bytes", flush=True)
        if options.training:
            hits = training(Path(name), options.training, rng)
            print(f"cnn struck {told(hits)}: every restart ended with the same weights", flush=True)


if __name__ == "__main__":
    main()
