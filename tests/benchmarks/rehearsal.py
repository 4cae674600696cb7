"""The scaled rehearsal: hundreds of bricks, and what they say of 60 million cutouts.

Planning is measured on trees of more and more bricks, and of more and more catalogue rows a brick, each in a
process of its own; a straight line through seconds says what a brick and a row cost.  What one process does
alone is measured by `assembly.py`.  Then the whole of create_training makes all cutouts with 1 and with 2
workers, and some groups of them are made by the peers of `extraction.py`, in turn.  Bricks of the survey's
size say what a cutout costs there.

    python tests/benchmarks/rehearsal.py [--workdir DIR] [--bricks 400] [--rows 2500]

It takes about 12 GB in the work directory.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import assembly
import full_bricks
import numpy as np
from assembly import Line, apart, peak
from extraction import (
    astropy_sections,
    cutout2d,
    fitsio_sections,
    floor,
    hdf5_2018,
    interleave,
    ours,
    plan,
    table,
)
from small_bricks import Size, bricks_of, build

from obiwan.dplearn import create_training
from obiwan.dplearn.cutting.extraction import GroupTask, Tasks
from obiwan.dplearn.planning.assembly import assemble
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.inputs import Inputs, resolve_inputs
from obiwan.dplearn.planning.plan import Plan
from obiwan.dplearn.stampspec import StampSpec

SURVEY = {"cutouts": 60e6, "brick-runs": 300e3, "rows": 300e3 * 4000, "bytes": 60e6 * 64 * 64 * 6 * 4}
CORES = 128  # of a node
NODE_RATE, FILES_RATE = 5e9, 100e9  # bytes/s that a parallel file system may take; assumed
FULL = 4  # bricks of the survey's size
PARTS = ("metadata", "workers", "peers", "survey")
FLAGS = ("--allow-injected-neighbours",)


def config() -> TrainingConfig:
    """What the rehearsal asks for."""
    return TrainingConfig(allow_injected_neighbours=True)


# --- planning -----------------------------------------------------------------------------------------


def plan_here(tree: Path, names: list[str]) -> dict[str, float]:
    """Plan some bricks of a tree in this process; seconds of processor, peak memory (MB), examples."""
    marks = [(time.process_time(), peak())]

    def mark(*_: object) -> None:
        marks.append((time.process_time(), peak()))

    inputs = resolve_inputs(fake=[tree], bricks=names, config=config())
    mark()

    def after_bricks(*words: Any) -> Plan:
        mark()
        return assemble(*words)

    create_training.assemble = after_bricks
    planned = quietly_planned(inputs, tree.parent)
    mark()
    planned.crc32  # noqa: B018 - which reads every row once more, as `begin` does
    mark()
    find, bricks, decide, read = (b[0] - a[0] for a, b in itertools.pairwise(marks))
    used = marks[-1][1] - marks[0][1]
    return {
        "find": find,
        "bricks": bricks,
        "assemble": decide + read,
        "memory": used,
        "examples": len(planned),
    }


def quietly_planned(inputs: Inputs, directory: Path) -> Plan:
    """The plan of all bricks, without a progress bar or a cut flow."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        return create_training.plan(inputs, config(), None, directory)


def plan_apart(tree: Path, names: list[str]) -> dict[str, float]:
    """As `plan_here`, in a process of its own."""
    return apart(__file__, "--plan", tree, json.dumps(names))


@dataclass(frozen=True)
class Costs:
    """What planning costs, on whichever worker."""

    brick: float  # seconds, with its rows
    row: float  # seconds


def planning(workdir: Path, size: Size) -> Costs:
    """Measure planning against bricks and against rows, print both, and fit straight lines."""
    print("\nplanning in one process (processor seconds; memory above that of the imports)")
    print(
        f"   {'bricks':>7} {'rows':>10} {'examples':>9} {'find':>7} {'bricks':>8} {'assemble':>9} {'MB':>7}"
    )
    tree = build(workdir, size)
    runs = [(tree, n, size.rows) for n in sorted({max(3, size.bricks // k) for k in (16, 8, 4, 2, 1)})]
    few = max(10, size.bricks // 10)
    for rows in (size.rows * 2, size.rows * 4):
        runs.append((build(workdir, Size(few, rows, size.each)), few, rows))
    found = []
    for where, n, rows in runs:
        one = plan_apart(where, [brick.name for brick in bricks_of(size)[:n]] if where == tree else [])
        found.append((n, n * rows, one))
        cells = f"{n:7,} {n * rows:10,} {one['examples']:9,} {one['find']:7.2f} {one['bricks']:8.2f}"
        print(f"   {cells} {one['assemble']:9.2f} {one['memory']:7.1f}", flush=True)
    n, rows, seconds = (
        np.array(v, float) for v in zip(*((a, b, c["bricks"]) for a, b, c in found), strict=True)
    )
    (brick, row), *_ = np.linalg.lstsq(np.stack([n, rows], 1) / seconds[:, None], np.ones(len(n)))
    spread = float(np.abs(brick * n / seconds + row * rows / seconds - 1).max())
    print(f"   a brick costs {brick * 1e3:.1f} ms and a row {row * 1e6:.2f} us (within {spread:.0%})")
    return Costs(float(brick), float(row))


# --- extraction ---------------------------------------------------------------------------------------


class Watch:
    """Peak resident memory of the processes below one, looked up ten times a second."""

    def __init__(self, process: int) -> None:
        self.process, self.peaks = process, Counter[int]()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/status"):
                try:
                    text = path.read_text()
                except OSError:
                    continue
                number = int(path.parent.name)
                if number == self.process or f"\nPPid:\t{self.process}\n" in text:
                    found = re.search(r"VmHWM:\s+(\d+) kB", text)
                    self.peaks[number] = max(self.peaks[number], int(found[1]) // 1024 if found else 0)


def whole(tree: Path, outdir: Path, jobs: int) -> dict[str, float]:
    """Run create_training as a user does, with this many workers; its speed and memory."""
    shutil.rmtree(outdir, ignore_errors=True)
    words = [sys.executable, "-m", "obiwan.dplearn.create_training", "--fake", str(tree), *FLAGS]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        command = [*words, "--outdir", str(outdir), "--jobs", str(jobs)]
        with (
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors) as process,
            Watch(process.pid) as watch,
        ):
            status = process.wait()
        if status:
            errors.seek(0)
            raise SystemExit(errors.read().decode())
    clock = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shards = json.loads((outdir / "manifest.json").read_text())["shards"]
    cutouts = sum(shard["rows"] for shard in shards)
    peaks = watch.peaks
    return {
        "cutouts": cutouts,
        "shards": len(shards),
        "bytes": sum(path.stat().st_size for path in outdir.iterdir()),
        "clock": clock,
        "processor": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "driver": peaks.pop(process.pid, 0),
        "worker": max(peaks.values(), default=0),
    }


def workers(tree: Path, workdir: Path) -> None:
    """The whole command with 1 and 2 workers."""
    print("\ncreate_training from end to end, planning included")
    head = f"{'workers':>7} {'cutouts':>9} {'cutouts/s':>10} {'shards/s':>9} {'MB/s':>6}"
    print(f"   {head} {'us of processor':>16} peak MB")
    results = []
    for jobs in (1, 2):
        one = whole(tree, workdir / "set", jobs)
        shutil.rmtree(workdir / "set")
        rates = [one[name] / one["clock"] for name in ("cutouts", "shards", "bytes")]
        memory = f"{one['driver']:.0f} driver" + (f", {one['worker']:.0f} a worker" if jobs > 1 else "")
        each = one["processor"] / one["cutouts"] * 1e6
        line = f"{jobs:7} {one['cutouts']:9,} {rates[0]:10,.0f} {rates[1]:9.2f} {rates[2] / 1e6:6.0f}"
        print(f"   {line} {each:16,.0f} {memory}", flush=True)
        results.append(one)
    print(f"   two workers against one: {results[0]['clock'] / results[1]['clock']:.2f}")


def tasks_of(tree: Path, names: list[str]) -> list[GroupTask]:
    """The extraction tasks of some bricks."""
    inputs = resolve_inputs(fake=[tree], bricks=names, config=config())
    planned = quietly_planned(inputs, tree.parent)
    return list(Tasks(planned, inputs, StampSpec(), Path(), Path()))


def peers(tasks: list[GroupTask], scratch: Path, rounds: int, title: str) -> float:
    """Time our extraction and its peers in turn; returns seconds of processor that a cutout takes us."""
    ways = {
        "extraction, one worker": ours,
        "lean floor": floor,
        "fitsio, a window for each source": fitsio_sections,
        "astropy, a section for each source": astropy_sections,
        "Cutout2D loop": cutout2d,
        "2018: HDF5 group per source, repacked": hdf5_2018,
    }
    total = sum(len(task.rows) for task in tasks)
    times = interleave(ways, tasks, scratch, rounds)
    table(f"{title}: {total:,} cutouts, in units of ours", times, "extraction, one worker")
    clock, processor = np.median(np.array(times["extraction, one worker"]), axis=0)
    rate, alone = total / clock, total / processor
    print(f"   ours: {rate:,.0f} cutouts/s, {alone:,.0f} in a second of processor; figures to beat:")
    print(f"   0.17/s (2018, as documented): {rate / 0.17:,.0f} times; 566/s (Cutana): {rate / 566:.1f}")
    return float(processor) / total


# --- metadata -----------------------------------------------------------------------------------------


def metadata(tree: Path, names: list[str], workdir: Path) -> None:
    """Count the system calls that a parallel file system's metadata server sees, by strace."""
    if shutil.which("strace") is None:
        print("\nmetadata operations: not counted, for there is no strace")
        return
    outdir, log = workdir / "traced", workdir / "strace.log"
    words = ["strace", "-f", "-qq", "-y", "-e", "trace=%file,getdents64,flock,fcntl,fsync", "-o", str(log)]
    words += [sys.executable, "-m", "obiwan.dplearn.create_training", "--fake", str(tree), *FLAGS]
    words += ["--outdir", str(outdir), "--shard-size", "64", "--bricks", *names]
    shutil.rmtree(outdir, ignore_errors=True)
    subprocess.run(words, check=True, capture_output=True)
    shards = len(json.loads((outdir / "manifest.json").read_text())["shards"])
    written, read, locks = Counter[str](), Counter[str](), 0
    for line in log.read_text(errors="replace").splitlines():
        call = re.match(r"\d+ +(\w+)\(", line)
        if call is None:
            continue
        if call[1] in {"flock", "fcntl"}:
            locks += call[1] == "flock" or "F_SETLK" in line
            continue
        if str(outdir) in line:
            written[call[1]] += 1
        elif str(tree) in line:
            read[call[1]] += 1
    shutil.rmtree(outdir)
    log.unlink()
    print(f"\nmetadata operations, {len(names)} bricks and {shards} shards (each two files)")
    for title, counts, per in (
        ("training set, a shard", written, shards),
        ("inputs, a brick", read, len(names)),
    ):
        parts = ", ".join(f"{name} {count / per:.2f}" for name, count in counts.most_common())
        print(f"   {title}: {sum(counts.values()) / per:.1f} ({parts})")
    print(f"   locks of files: {locks}")


# --- sixty million ------------------------------------------------------------------------------------


def survey(costs: Costs, finding: Line, deciding: Line, full: Path, cutting: float) -> None:
    """What the measured costs make of the whole survey, on nodes whose cores are like these."""
    brick = plan_apart(full, [])["bricks"] / FULL  # with planes of the survey's size
    work = [brick * SURVEY["brick-runs"] + costs.row * SURVEY["rows"], cutting * SURVEY["cutouts"]]
    alone = (finding.seconds * SURVEY["brick-runs"] + deciding.seconds * SURVEY["cutouts"]) / 3600
    memory = finding.bytes * SURVEY["brick-runs"] + deciding.bytes * SURVEY["cutouts"]
    total = f"{SURVEY['cutouts']:,.0f} cutouts, {SURVEY['bytes'] / 1e12:.1f} TB"
    print(f"\n{total}, {CORES} workers a node; a full-size brick is planned in {brick * 1e3:.0f} ms;")
    print(
        f"   files take {NODE_RATE / 1e9:.0f} GB/s from a node, {FILES_RATE / 1e9:.0f} GB/s in all (assumed)"
    )
    print(
        f"   {'nodes':>6} {'plan, h':>8} {'one process, h':>15} {'cut, h':>7} {'write, h':>9} {'sum, h':>7}"
    )
    for nodes in (1, 10, 100):
        plan_h, cut_h = (seconds / nodes / CORES / 3600 for seconds in work)
        write_h = SURVEY["bytes"] / min(nodes * NODE_RATE, FILES_RATE) / 3600
        hours = plan_h + alone + max(cut_h, write_h)
        print(f"   {nodes:6} {plan_h:8.3f} {alone:15.3f} {cut_h:7.3f} {write_h:9.3f} {hours:7.2f}")
    print(f"   memory: {memory / 1e9:.1f} GB in the process that hands out the work")


def main() -> None:
    """Run the rehearsal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--workdir", type=Path, help="where trees are kept between runs, and sets for a while"
    )
    parser.add_argument("--bricks", type=int, default=400)
    parser.add_argument("--rows", type=int, default=2500, help="of the catalogue of a brick")
    parser.add_argument("--each", type=int, default=128, help="examples of each class in a brick")
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison with peers")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--plan", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plan:
        print(json.dumps(plan_here(Path(options.plan[0]), json.loads(options.plan[1]))))
        return
    workdir = options.workdir or Path(tempfile.gettempdir()) / "obiwan-dplearn-rehearsal"
    workdir.mkdir(parents=True, exist_ok=True)
    size = Size(options.bricks, options.rows, options.each)
    need, free = 2.3 * size.bricks * size.each * 98304 + 4e6 * size.bricks, shutil.disk_usage(workdir).free
    if free < need:
        raise SystemExit(f"{workdir}: {free / 1e9:.0f} GB are free, and {need / 1e9:.0f} are needed")
    names = [brick.name for brick in bricks_of(size)]
    tree = build(workdir, size)
    print(f"{size.bricks} bricks, {size.bricks * size.rows:,} catalogue rows")
    if "metadata" in options.only:
        metadata(tree, names[:40], workdir)
    if "workers" in options.only:
        workers(tree, workdir)
    if "peers" in options.only:
        peers(tasks_of(tree, names[:40]), workdir, options.rounds, "small bricks")
    if "survey" in options.only:
        costs = planning(workdir, size)
        full = full_bricks.build(workdir, FULL, 100)
        title = "bricks and numbers as in the survey"
        cutting = peers(plan(full), workdir, max(1, options.rounds // 2), title)
        survey(costs, assembly.finding(workdir), assembly.deciding(workdir), full, cutting)
    if options.workdir is None:
        print(f"\nthe trees are kept in {workdir} for the next run")


if __name__ == "__main__":
    main()
