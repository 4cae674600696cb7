"""What one process of create_training does alone, against its number of runs and of examples.

It finds the files of all runs and of the release, decides which eligible examples are used and where they go,
makes the tasks of the workers, and writes ``sources.fits``.  Both are measured on bricks without images, for
each number in a process of its own; straight lines give seconds, the largest number gives bytes.

    python tests/benchmarks/assembly.py [--workdir DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from obiwan.dplearn.planning.assembly import assemble
from obiwan.dplearn.planning.bricks import BrickPlan
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.inputs import resolve_inputs
from obiwan.dplearn.planning.store import RowStore
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.examples import blank_examples, write_sources

SIDE = 0.25  # of a brick, degrees
EACH = 128  # eligible examples of each class in a brick
RUN = "file0_rs0_skip0"
RUNS, BRICKS = (2500, 5000, 10000, 20000, 40000), (500, 1000, 2000, 4000, 8000, 16000)
DIRECTORIES = 360  # of a release: one for each degree of right ascension


def peak() -> float:
    """Peak memory of this process, MB; `resource` would tell that of the process it was forked from."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


def apart(program: str, *words: object) -> dict[str, float]:
    """What a program prints last, run in a process of its own, whose peak memory is its own."""
    command = [sys.executable, program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


# --- finding ------------------------------------------------------------------------------------------


def empty_tree(tree: Path, count: int) -> None:
    """The files of so many runs that are looked for, with nothing in them."""
    for i in range(count):
        brick = brick_name(i)
        for kind in ("sim", "tractor", "coadd"):
            (tree / RUN / kind / brick[:3]).mkdir(parents=True, exist_ok=True)
        (tree / RUN / "sim" / brick[:3] / f"injected-{brick}.fits").touch()
        (tree / RUN / "tractor" / brick[:3] / f"tractor-{brick}.fits").touch()
    brick = brick_name(0)
    first = tree / RUN / "coadd" / brick[:3] / brick
    first.mkdir()
    (first / f"legacysurvey-{brick}-image-g.fits.fz").touch()


def brick_name(i: int) -> str:
    """A brick in one of `DIRECTORIES`."""
    return f"{i % DIRECTORIES:03d}{i // DIRECTORIES:04d}p"


def empty_release(tree: Path, count: int) -> None:
    """A data release of the same bricks, with which no catalogue of the runs is looked into."""
    for i in range(count):
        brick = brick_name(i)
        (tree / "tractor" / brick[:3]).mkdir(parents=True, exist_ok=True)
        (tree / "tractor" / brick[:3] / f"tractor-{brick}.fits").touch()


def find(count: int, workdir: Path) -> dict[str, float]:
    """Find the files of so many runs; seconds of processor, peak memory (MB)."""
    with tempfile.TemporaryDirectory(dir=workdir) as directory:
        tree, release = Path(directory) / "runs", Path(directory) / "release"
        empty_tree(tree, count)
        empty_release(release, count)
        before, start = peak(), time.process_time()
        inputs = resolve_inputs(fake=[tree], real=[release], config=TrainingConfig())
        found = {"seconds": time.process_time() - start, "memory": peak() - before}
        return {**found, "number": len(inputs.bricks)}


# --- deciding -----------------------------------------------------------------------------------------


def touching_bricks(count: int) -> Iterator[BrickPlan]:
    """Plans of bricks that fill a square on the sky, with their examples anywhere in them."""
    rng, side = np.random.default_rng(5), int(np.ceil(np.sqrt(count)))
    flows = {name: {"rows": EACH} for name in ("real", "fake")}
    for column in range(side):
        for row in range(min(side, count - column * side)):
            name, corner = f"{column:04d}p{row:03d}", np.array([[column], [row]])
            rows = blank_examples(2 * EACH, StampSpec())
            rows["brick"], rows["run"], rows["label"] = name, RUN, np.arange(2 * EACH) % 2
            rows["id"] = np.arange(2 * EACH)
            rows["ra"], rows["dec"] = SIDE * (rng.random((2, 2 * EACH)) + corner)
            yield BrickPlan(name, rows, flows, ())


def decide(count: int, workdir: Path) -> dict[str, float]:
    """Receive plans of touching bricks from a worker, decide, hand out and write down.

    Returns seconds of processor and peak memory (MB).
    """
    receiving = 0.0
    before = peak()
    with RowStore(workdir, StampSpec()) as store:
        for plan in touching_bricks(count):
            sent = pickle.dumps(plan)
            start = time.process_time()
            store.append(pickle.loads(sent))
            receiving += time.process_time() - start
        start = time.process_time() - receiving
        eligible = store.eligible()
    planned = assemble(eligible, TrainingConfig())
    planned.crc32  # noqa: B018 - which reads every row, as `begin` does
    for number in range(len(planned.groups)):
        pickle.dumps(planned.rows(number))  # as a task goes to a worker
    with tempfile.TemporaryDirectory(dir=workdir) as directory:
        write_sources(Path(directory) / "sources.fits", Path(directory), planned.spec, planned)
    seconds = time.process_time() - start
    mapped = eligible.rows.nbytes / 2**20  # of the file: the system takes them back where memory is short
    return {
        "seconds": seconds,
        "memory": peak() - before - mapped,
        "number": len(eligible),
        "used": len(planned),
    }


# --- both ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A straight line through measurements."""

    seconds: float  # each
    bytes: float  # each
    spread: float  # largest deviation of a measured time, as a fraction


def line(found: list[dict[str, float]]) -> Line:
    """Seconds in proportion to the number; memory of the largest, which is an upper limit for each."""
    number, seconds, memory = (
        np.array([one[name] for one in found]) for name in ("number", "seconds", "memory")
    )
    each = float(np.mean(seconds / number))
    return Line(
        each,
        float(memory[-1] * 2**20 / number[-1]),
        float(np.abs(each * number / seconds - 1).max()),
    )


def measure(title: str, flag: str, numbers: tuple[int, ...], workdir: Path) -> Line:
    """Measure one of the two against numbers of bricks, and print it."""
    print(f"\n{title}")
    print(f"   {'number':>10} {'seconds':>8} {'MB':>7}")
    found = []
    for number in numbers:
        one = apart(__file__, flag, number, "--workdir", workdir)
        print(f"   {one['number']:10,} {one['seconds']:8.2f} {one['memory']:7.1f}", flush=True)
        found.append(one)
    fitted = line(found)
    print(f"   each {fitted.seconds * 1e6:.1f} us (within {fitted.spread:.0%}) and {fitted.bytes:,.0f} bytes")
    return fitted


def finding(workdir: Path) -> Line:
    """What finding the files of a run costs."""
    return measure("finding the files of runs, each of another brick", "--find", RUNS, workdir)


def deciding(workdir: Path) -> Line:
    """What deciding on an example costs."""
    title = f"deciding on eligible examples, {2 * EACH} in each of touching bricks"
    return measure(title, "--decide", BRICKS, workdir)


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--find", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--decide", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.find or options.decide:
        function = find if options.find else decide
        print(json.dumps(function(options.find or options.decide, options.workdir)))
        return
    finding(options.workdir)
    deciding(options.workdir)


if __name__ == "__main__":
    main()
