"""Ranks of one thread against one process, under Horovod and JAX, in images/s, from disk to checkpoint.

    bin/benchmark ranks -- [--rounds 7] [--seconds 3] [--batch-size 16] [--launchers horovodrun mpirun jax]
                           [--vary "mpirun --bind-to core" "horovodrun HOROVOD_CYCLE_TIME=1" ...]
                           [--table doc/_static/ranks.csv]

All jobs are started first, and then run in turn, a few seconds at a time, while the others are stopped by a
signal: what else the machine does slows all of them alike.  A job is a real run: it reads, checks and
shuffles, keeps its books, validates and writes checkpoints.  The least required of a launcher of
Horovod is 0.95 of one process of two threads; of JAX, 0.9 of as many times its one process of one thread.
A process alone that takes the batches of both ranks at once is measured for comparison.  With --vary more
jobs take part, with other settings than the package's, to find out what each of them is worth.

Beside images/s stands the processor time of an image, which a busy machine changes less.  It shows work
that is done twice and waiting that looks again and again; not the waiting that sleeps.  Processors that
others took during the turns, launchers and hypervisor included, are printed and stand in the table.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from planted import Planted, write_set
from tables import write_csv

REQUIRED, REQUIRED_OF_JAX = 0.95, 0.9
WARM = 6  # steps before a job counts as started: TensorFlow compiles and allocates
SETTLE = 0.3  # seconds at the beginning of a turn that do not count
LAUNCH = {
    "horovodrun": "horovodrun --gloo -np {n} -H localhost:{n}",
    "mpirun": "mpirun --oversubscribe {options} -np {n}",
    "jax": "",  # the program starts its ranks itself
}
BINDING = "--bind-to none"  # of mpirun
ONE, WHOLE = "one process", "one, all ranks' batch"
THREAD, THREAD_OF_JAX, OF_JAX = "one thread", "one thread, jax", "jax"
ON_JAX = ("KERAS_BACKEND=jax", "NPROC=1")


@dataclass(frozen=True)
class Job:
    """A training job: its name, how it is launched, ranks, threads of each and batch of each.

    To the launcher's words come those of `options`, to the environment those of `variables`.
    """

    name: str
    launcher: str
    ranks: int
    threads: int
    batch: int
    options: str = BINDING
    variables: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """Of one step of all ranks."""
        return self.ranks * self.batch


class Turn(NamedTuple):
    """What a job did in a turn."""

    rate: float  # images/s
    cost: float  # processor time of an image, ms
    others: float  # processors that other programs used


def variant(words: str, ranks: int, batch: int) -> Job:
    """A job with settings of its own: a launcher, then NAME=VALUE for the environment, options for mpirun."""
    launcher, *rest = shlex.split(words)
    if launcher not in LAUNCH:
        raise SystemExit(f"--vary {words!r} does not begin with one of {', '.join(LAUNCH)}")
    variables = tuple(word for word in rest if "=" in word and not word.startswith("-"))
    options = " ".join(word for word in rest if word not in variables) or BINDING
    return Job(words, launcher, ranks, 1, batch, options, variables)


def work(data: Path, place: Path, batch: int) -> None:
    """What each rank does: train, noting the time of each step, until it is ended."""
    from obiwan.dplearn.running import profiles
    from obiwan.dplearn.running.launch import launched
    from obiwan.dplearn.training import jax_ranks
    from obiwan.dplearn.training.engines import joined

    os.environ.update(profiles.settings(None, None, os.environ))
    jax_ranks.HEARTBEAT = 7200  # a job that is stopped does not answer
    launch = launched(os.environ)
    (place / f"rank_{launch.rank}").write_text(str(os.getpid()))
    with joined(launch) as world:
        from obiwan.dplearn.training.rundir import Logs
        from obiwan.dplearn.training.settings import FeedConfig, RunConfig, network_config
        from obiwan.dplearn.training.trainer import Trainer
        from obiwan.dplearn.trainingset.stampset import open_training_set

        class Times(Logs):
            """The clock at each step, since the machine was started, eight bytes a step."""

            def __init__(self) -> None:
                self.stream = (place / "times").open("ab", buffering=0)

            def step(self, *_: float) -> None:
                """A step is done."""
                self.stream.write(np.float64(time.monotonic()).tobytes())

        config = RunConfig(network_config("lenet5"), FeedConfig(batch_size=batch), epochs=100_000)
        logs = Times() if world.leads else Logs()
        Trainer(config, open_training_set(data), place / "run", world=world, logs=logs).fit()


class Running:
    """A job whose processes can be stopped and let go on."""

    def __init__(self, job: Job, data: Path, place: Path) -> None:
        self.job, self.place = job, place
        place.mkdir()
        words = [sys.executable, __file__, "--work", str(data), str(place), str(job.batch)]
        if job.launcher == OF_JAX:
            words += ["--start", str(job.ranks)]
        elif job.launcher:
            given = LAUNCH[job.launcher].format(n=job.ranks, options=job.options)
            words = [*shlex.split(given), *words]
        environ = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "OMP_NUM_THREADS": str(job.threads),
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "HOROVOD_GLOO_TIMEOUT_SECONDS": "7200",  # a job that is stopped does not answer
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            **dict(word.split("=", 1) for word in job.variables),
        }
        with (place / "log").open("w") as log:
            self.process = subprocess.Popen(words, env=environ, stdout=log, stderr=log)

    def times(self) -> np.ndarray:
        """The clock at each step so far."""
        path = self.place / "times"
        raw = path.read_bytes() if path.exists() else b""
        return np.frombuffer(raw[: len(raw) // 8 * 8])

    def wait_until_it_trains(self, limit: float = 1200.0) -> None:
        """Until a few steps are done."""
        end = time.monotonic() + limit
        while len(self.times()) < WARM:
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{self.job.name} does not train:\n" + (self.place / "log").read_text())
            time.sleep(0.1)

    def ids(self) -> list[int]:
        """Process numbers of the ranks."""
        return [int((self.place / f"rank_{rank}").read_text()) for rank in range(self.job.ranks)]

    def signal(self, number: signal.Signals) -> None:
        """To every rank."""
        for process in self.ids():
            os.kill(process, number)

    def seconds(self) -> float:
        """Processor time that the ranks have used so far."""
        try:
            texts = [Path(f"/proc/{process}/stat").read_text() for process in self.ids()]
        except FileNotFoundError:
            raise SystemExit(f"{self.job.name} has ended:\n{(self.place / 'log').read_text()}") from None
        fields = [text.rpartition(")")[2].split() for text in texts]
        return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Kill the ranks, and with them the launcher."""
        try:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
        except (OSError, FileNotFoundError):
            pass
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def turn(running: Running, seconds: float) -> Turn:
    """Let a job go on for a while; the rate is by its first and its last step."""
    running.signal(signal.SIGCONT)
    time.sleep(SETTLE)
    begin, own, busy = time.monotonic(), running.seconds(), busy_seconds()
    time.sleep(seconds)
    own, busy = running.seconds() - own, busy_seconds() - busy
    end = time.monotonic()
    running.signal(signal.SIGSTOP)
    times = running.times()
    inside = times[(times > begin) & (times < end)]
    others = max(0.0, busy - own) / (end - begin)
    if len(inside) < 2:
        return Turn(float("nan"), float("nan"), others)
    rate = running.job.images * (len(inside) - 1) / float(inside[-1] - inside[0])
    return Turn(rate, 1e3 * own / (rate * (end - begin)), others)


def busy_seconds(text: str | None = None) -> float:
    """Processor time that the machine has used so far, on all processors, from ``/proc/stat``."""
    words = (Path("/proc/stat").read_text() if text is None else text).split("\n", 1)[0].split()[1:9]
    idle, waiting = map(int, words[3:5])
    return (sum(map(int, words)) - idle - waiting) / os.sysconf("SC_CLK_TCK")


def turns(jobs: Sequence[Running], rounds: int, seconds: float) -> Iterator[dict[str, Turn]]:
    """Rounds in which every job has its turn, there and back again: turns by the job's name."""
    for number in range(rounds):
        order = jobs if number % 2 == 0 else list(reversed(jobs))
        yield {running.job.name: turn(running, seconds) for running in order}


def jobs_of(options: argparse.Namespace) -> list[Job]:
    """The jobs that take part."""
    batch, n = options.batch_size, options.ranks
    jobs = [Job(ONE, "", 1, n, batch), Job(WHOLE, "", 1, n, n * batch), Job(THREAD, "", 1, 1, batch)]
    jobs += [Job(launcher, launcher, n, 1, batch) for launcher in options.launchers if launcher != OF_JAX]
    if OF_JAX in options.launchers:
        jobs.append(Job(THREAD_OF_JAX, "", 1, 1, batch, variables=ON_JAX))
        jobs.append(Job(OF_JAX, OF_JAX, n, 1, batch, variables=ON_JAX))
    return jobs + [variant(words, n, batch) for words in options.vary]


def measure(options: argparse.Namespace, jobs: Sequence[Job], scratch: Path) -> list[dict[str, Turn]]:
    """Start all jobs, give them their turns, end them."""
    data = options.data or scratch / "set"
    if options.data is None:
        write_set(data, Planted(), {"train": options.examples, "val": 64, "test": 2}, seed=1)
    running: list[Running] = []
    try:
        for number, job in enumerate(jobs):
            running.append(Running(job, data, scratch / str(number)))
            running[-1].wait_until_it_trains()
            running[-1].signal(signal.SIGSTOP)
        return list(turns(running, options.rounds, options.seconds))
    finally:
        for each in running:
            each.end()


def known(values: Iterable[float]) -> list[float]:
    """Values of the turns in which a job took steps enough; none at all are told as NaN."""
    return [value for value in values if math.isfinite(value)] or [math.nan]


def ratio(rounds: Sequence[dict[str, Turn]], name: str, other: str) -> float:
    """Images/s of a job over those of another one; the median of the rounds."""
    return median(known(found[name].rate / found[other].rate for found in rounds))


def cost(rounds: Sequence[dict[str, Turn]], name: str) -> float:
    """Processor time of an image (ms); the median of the rounds."""
    return median(known(found[name].cost for found in rounds))


def table(rounds: Sequence[dict[str, Turn]]) -> list[str]:
    """Lines: a row for each job."""
    names = list(rounds[0])
    width = max(map(len, names))
    lines = [
        f"{'':{width}}  images/s (rounds)         ms of processor   of one process (rounds)   same, "
        "batch of all ranks"
    ]
    for name in names:
        rates = known(found[name].rate for found in rounds)
        ratios = known(found[name].rate / found[ONE].rate for found in rounds)
        lines.append(
            f"{name:{width}}  {median(rates):6.1f} ({min(rates):5.1f} to {max(rates):5.1f})"
            f"  {cost(rounds, name):15.2f}"
            f"   {median(ratios):6.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
            f"  {ratio(rounds, name, WHOLE):14.3f}"
        )
    return lines


def rows_of(rounds: Sequence[dict[str, Turn]], jobs: Sequence[Job]) -> list[dict[str, object]]:
    """Rows of the table: medians over the rounds, also of the ratios to one process of one thread."""
    rows: list[dict[str, object]] = []
    for job in jobs:
        rates = known(found[job.name].rate for found in rounds)
        engine = THREAD_OF_JAX if set(ON_JAX) <= set(job.variables) else THREAD
        alone = engine in rounds[0]
        rows.append(
            {
                "job": job.name,
                "ranks": job.ranks,
                "threads of each": job.threads,
                "batch of each": job.batch,
                "images/s": f"{median(rates):.1f}",
                "least": f"{min(rates):.1f}",
                "most": f"{max(rates):.1f}",
                "ms of processor": f"{cost(rounds, job.name):.2f}",
                "of as many times one thread": f"{ratio(rounds, job.name, engine) / job.ranks:.3f}"
                if alone and job.threads == 1
                else "",
                "of one thread of TensorFlow": f"{ratio(rounds, job.name, THREAD):.3f}",
                "others": f"{median(found[job.name].others for found in rounds):.2f}",
                "rounds": len(rounds),
            }
        )
    return rows


def of_jax(rounds: Sequence[dict[str, Turn]], ranks: int) -> list[str]:
    """Lines: its ranks against as many times one process, and its one process against TensorFlow's."""
    costs = {name: cost(rounds, name) for name in (THREAD, THREAD_OF_JAX, OF_JAX)}
    return [
        f"jax, {ranks} ranks over {ranks} times one thread: "
        f"{ratio(rounds, OF_JAX, THREAD_OF_JAX) / ranks:.3f} in images/s, "
        f"{costs[THREAD_OF_JAX] / costs[OF_JAX]:.3f} in processor time",
        f"jax over TensorFlow, one thread: {ratio(rounds, THREAD_OF_JAX, THREAD):.3f} in images/s, "
        f"{costs[THREAD] / costs[THREAD_OF_JAX]:.3f} in processor time",
    ]


def main() -> int:
    """Measure and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--examples", type=int, default=4096)
    parser.add_argument("--data", type=Path, help="a training set (default: one is made)")
    parser.add_argument("--launchers", nargs="+", choices=list(LAUNCH), default=list(LAUNCH))
    parser.add_argument("--vary", nargs="+", default=[], metavar="WORDS", help="jobs with other settings")
    parser.add_argument("--table", type=Path, help="CSV file to write")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if options.start:
        from obiwan.dplearn.running.ranks import start_ranks

        words = [sys.executable, __file__, "--work", *options.work]
        return start_ranks(words, options.start, os.environ, "")
    if options.work:
        data, place, batch = options.work
        work(Path(data), Path(place), int(batch))
        return 0
    if shutil.which("mpirun", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") is None:
        options.launchers = [launcher for launcher in options.launchers if launcher != "mpirun"]
    load, jobs = os.getloadavg()[0], jobs_of(options)
    with tempfile.TemporaryDirectory() as scratch:
        rounds = measure(options, jobs, Path(scratch))
    if options.table:
        from benchmarks.panel import version  # not in the ranks, which measure nothing else

        write_csv(options.table, [{**row, "version": version()} for row in rows_of(rounds, jobs)])
    for line in table(rounds):
        print(line)
    found = {name: ratio(rounds, name, ONE) / REQUIRED for name in options.launchers if name != OF_JAX}
    if OF_JAX in options.launchers:
        for line in of_jax(rounds, options.ranks):
            print(line)
        found[OF_JAX] = ratio(rounds, OF_JAX, THREAD_OF_JAX) / options.ranks / REQUIRED_OF_JAX
    worst = min(found, key=lambda name: found[name])
    verdict = "enough" if found[worst] >= 1 else "TOO LITTLE"
    print(f"least of what is required: {worst}, {found[worst]:.3f} times   {verdict}")
    others = median(one.others for found in rounds for one in found.values())
    print(f"load of the machine before: {load:.1f}; processors that others took meanwhile: {others:.2f}")
    return 0 if found[worst] >= 1 else 1


if __name__ == "__main__":
    raise SystemExit(main())
