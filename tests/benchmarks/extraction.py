"""Speed and memory of create_training on full-size bricks, in units of a lean floor.

Every way to make the cutouts runs in turn, round after round, in one process with the coadds in the page
cache.  Printed are medians over the rounds, by the clock and in processor time (user and system, all
threads), in units of the floor of the same round: on a shared machine only ratios mean something, and
those of processor time suffer least from what else is running.

    python tests/benchmarks/extraction.py [--scratch DIR] [--bricks 4] [--sources 2000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fitsio
import h5py
import numpy as np
from astropy.io import fits
from astropy.nddata import Cutout2D
from full_bricks import build

from obiwan.dplearn import create_training
from obiwan.dplearn.cutting import grids
from obiwan.dplearn.cutting.extraction import GroupTask, Tasks, extract_group, row_keys
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.stampspec import StampSpec

PLANES = [(kind, band) for kind in ("image", "invvar") for band in StampSpec().bands]
SHARD = 512
WHAT = ("dense", "sparse", "forms", "memory")
Times = dict[str, list[tuple[float, float]]]  # clock and processor seconds, round by round


# --- peers: each makes all cutouts of some tasks, as 512-row npy files --------------------------------


def _coadds(task: GroupTask) -> list[tuple[list[Path], np.ndarray]]:
    """The six files of every coadd of a task, with its rows."""
    keys = row_keys(task.rows)
    out = []
    for key, run in task.runs.items():
        rows = task.rows[[k == key for k in keys]]
        out.append(([run.plane(kind, band) for kind, band in PLANES], rows))
    return out


def _decode(path: Path) -> np.ndarray:
    with fits.open(path, memmap=False) as hdus:
        return np.asarray(hdus[1].data, dtype=np.float32)


def _corner(rows: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.floor(rows[axis] + 0.5).astype(int) - 32 for axis in ("x", "y"))


def floor(tasks: list[GroupTask], out: Path, buffer: np.ndarray) -> None:
    """Decode each needed plane once, copy through one reused 512-row buffer, write: as lean as can be."""
    number = 0
    stamp, planes = np.empty((6, 64, 64), np.float32), []
    for task in tasks:
        for paths, rows in _coadds(task):
            planes.clear()  # before decoding: fresh memory is dear
            planes.extend(_decode(path) for path in paths)
            left, low = _corner(rows)
            for first in range(0, len(rows), SHARD):
                n = min(SHARD, len(rows) - first)
                for i in range(n):
                    x, y = left[first + i], low[first + i]
                    for channel, plane in enumerate(planes):
                        stamp[channel] = plane[y : y + 64, x : x + 64]
                    buffer[i] = stamp.transpose(1, 2, 0)
                np.save(out / f"x_{number}.npy", buffer[:n])
                np.save(out / f"y_{number}.npy", rows["label"][first : first + n])
                number += 1


def cutout2d(tasks: list[GroupTask], out: Path, buffer: np.ndarray) -> None:
    """A Cutout2D for every source and plane."""
    number = 0
    for task in tasks:
        for paths, rows in _coadds(task):
            planes = [_decode(path) for path in paths]
            for first in range(0, len(rows), SHARD):
                part = rows[first : first + SHARD]
                for i, row in enumerate(part):
                    centre = (np.floor(row["x"] + 0.5), np.floor(row["y"] + 0.5))
                    for channel, plane in enumerate(planes):
                        cutout = Cutout2D(plane, centre, 64, mode="partial", fill_value=0.0)
                        buffer[i, :, :, channel] = cutout.data
                np.save(out / f"x_{number}.npy", buffer[: len(part)])
                np.save(out / f"y_{number}.npy", part["label"])
                number += 1


def _sections(
    tasks: list[GroupTask], out: Path, buffer: np.ndarray, opened: Callable[[Path], tuple[Any, Any]]
) -> None:
    """Read a window of each open file for every source, and leave it to the library what it decodes.

    `opened` gives the file of a plane, to be closed, and what gives a window of its image.
    """
    number = 0
    for task in tasks:
        for paths, rows in _coadds(task):
            with contextlib.ExitStack() as stack:
                files, planes = zip(*map(opened, paths), strict=True)
                for file in files:
                    stack.callback(file.close)
                left, low = _corner(rows)
                for first in range(0, len(rows), SHARD):
                    n = min(SHARD, len(rows) - first)
                    for i in range(n):
                        x, y = left[first + i], low[first + i]
                        for channel, plane in enumerate(planes):
                            buffer[i, :, :, channel] = plane[y : y + 64, x : x + 64]
                    np.save(out / f"x_{number}.npy", buffer[:n])
                    np.save(out / f"y_{number}.npy", rows["label"][first : first + n])
                    number += 1


def fitsio_sections(tasks: list[GroupTask], out: Path, buffer: np.ndarray) -> None:
    """``hdu[y0:y1, x0:x1]`` of fitsio, which decodes the tiles that the window touches."""

    def opened(path: Path) -> tuple[Any, Any]:
        file = fitsio.FITS(str(path))
        return file, file[1]

    _sections(tasks, out, buffer, opened)


def astropy_sections(tasks: list[GroupTask], out: Path, buffer: np.ndarray) -> None:
    """``hdu.section[y0:y1, x0:x1]`` of astropy, which does the same."""

    def opened(path: Path) -> tuple[Any, Any]:
        file = fits.open(path)
        return file, file[1].section

    _sections(tasks, out, buffer, opened)


def hdf5_2018(tasks: list[GroupTask], out: Path, _buffer: np.ndarray) -> None:
    """The 2018 way: fitsio, an HDF5 group per source with two datasets, all repacked into npy."""
    number = 0
    for task in tasks:
        for paths, rows in _coadds(task):
            images = [fitsio.FITS(str(path))[1].read() for path in paths]
            left, low = _corner(rows)
            path = out / "stamps.hdf5"
            with h5py.File(path, "w") as file:
                for i, (x, y) in enumerate(zip(left, low, strict=True)):
                    window = (slice(y, y + 64), slice(x, x + 64))
                    stamp = [plane[window] for plane in images]
                    group = f"{i}/{rows['label'][i]}"
                    file.create_dataset(f"{group}/img", data=np.array(stamp[:3]).T)
                    file.create_dataset(f"{group}/ivar", data=np.array(stamp[3:]).T)
            with h5py.File(path, "r") as file:
                names = [f"{i}/{label}" for i, label in enumerate(rows["label"])]
                for first in range(0, len(rows), SHARD):
                    stamps = [
                        np.stack([file[f"{name}/img"][...], file[f"{name}/ivar"][...]], axis=-1)
                        for name in names[first : first + SHARD]
                    ]
                    x = np.array(stamps).reshape(-1, 64, 64, 6)
                    np.save(out / f"x_{number}.npy", x)
                    np.save(out / f"y_{number}.npy", rows["label"][first : first + SHARD])
                    number += 1
            path.unlink()


def ours(tasks: list[GroupTask], out: Path, _buffer: np.ndarray) -> None:
    """`extract_group`, as one worker runs it."""
    (out / ".work").mkdir()
    for task in tasks:
        extract_group(replace(task, directory=out, scratch=out / ".work"))


def ours_packed(tasks: list[GroupTask], out: Path, buffer: np.ndarray) -> None:
    """The same with packed shards, the grids of the coadds read anew."""
    grids._grids.cache_clear()
    ours([replace(task, packed=True) for task in tasks], out, buffer)


def command(tree: Path) -> Callable[..., None]:
    """The whole of create_training in this process, planning included."""

    def whole(_tasks: list[GroupTask], out: Path, _buffer: np.ndarray) -> None:
        words = ["--fake", str(tree), "--outdir", str(out / "set"), "--select", "none"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
            status = create_training.main([*words, "--allow-injected-neighbours"])
        if status:
            raise SystemExit(errors.getvalue())

    return whole


# --- measuring ----------------------------------------------------------------------------------------


def plan(tree: Path) -> list[GroupTask]:
    """The tasks that create_training would extract."""
    config = TrainingConfig(select="none", allow_injected_neighbours=True, shard_size=SHARD)
    inputs = create_training.resolve_inputs(fake=[tree], config=config)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        planned = create_training.plan(inputs, config, None, Path(tempfile.gettempdir()))
    return list(Tasks(planned, inputs, StampSpec(), Path(), Path()))


def timed(
    way: Callable[..., None], tasks: list[GroupTask], scratch: Path, buffer: np.ndarray
) -> tuple[float, float]:
    """Clock and processor seconds that one way takes; what it wrote is removed."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        clock, processor = time.perf_counter(), time.process_time()
        way(tasks, Path(name), buffer)
        return time.perf_counter() - clock, time.process_time() - processor


def interleave(
    ways: dict[str, Callable[..., None]], tasks: list[GroupTask], scratch: Path, rounds: int
) -> Times:
    """Run the ways in turn, round after round; a first round warms caches and is not counted."""
    buffer = np.zeros((SHARD, 64, 64, 6), np.float32)
    times: Times = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            seconds = timed(way, tasks, scratch, buffer)
            if turn:
                times[name].append(seconds)
        print(
            f"   round {turn} of {rounds}" + (" (warm-up)" if not turn else ""), file=sys.stderr, flush=True
        )
    return times


def table(title: str, times: Times, unit: str) -> None:
    """Print every way in units of one of them, round by round, so that slow spells fall out."""
    print(f"\n{title}")
    print(f"   {'':<40} {'clock':>7} {'(range)':>13} {'processor':>10} {'(range)':>13} {'processor s':>12}")
    for name, rounds in times.items():
        cells = []
        for kind in (0, 1):
            ratios = [a[kind] / b[kind] for a, b in zip(rounds, times[unit], strict=True)]
            span = f"({min(ratios):.2f}-{max(ratios):.2f})"
            cells.append(f"{statistics.median(ratios):{7 + 3 * kind}.2f} {span:>13}")
        seconds = statistics.median(processor for _, processor in rounds)
        print(f"   {name:<40} {' '.join(cells)} {seconds:12.2f}", flush=True)


def compare_dense(tree: Path, tasks: list[GroupTask], scratch: Path, rounds: int) -> None:
    """All ways on all bricks, and extraction by the kind of group."""
    ways = {
        "lean floor": floor,
        "extraction, one worker": ours,
        "whole create_training": command(tree),
        "fitsio, a window for each source": fitsio_sections,
        "astropy, a section for each source": astropy_sections,
        "Cutout2D loop": cutout2d,
        "2018: HDF5 group per source, repacked": hdf5_2018,
    }
    total = sum(len(task.rows) for task in tasks)
    coadds = sum(len(task.runs) for task in tasks)
    table(
        f"{total:,} cutouts of {coadds} bricks, in units of the lean floor",
        interleave(ways, tasks, scratch, rounds),
        "lean floor",
    )
    for many in (False, True):
        some = [task for task in tasks if (len(task.runs) > 1) is many][:1]
        if some:
            two = {name: ways[name] for name in ("lean floor", "extraction, one worker")}
            title = f"one group of {len(some[0].rows):,} cutouts from {len(some[0].runs)} brick(s)"
            table(title, interleave(two, some, scratch, rounds), "lean floor")


def compare_sparse(task: GroupTask, scratch: Path, rounds: int) -> None:
    """Few sources in a brick: windows against decoding its planes."""
    key = row_keys(task.rows)[0]
    mine = np.flatnonzero([k == key for k in row_keys(task.rows)])
    for n in (20, 60, 150, 300):
        rows = np.sort(task.rows[mine][:n], order=["shard", "row"])
        few = replace(task, rows=rows, runs={key: task.runs[key]})
        ways = {"decode all, copy, write": floor, "extraction, one worker": ours}
        times = interleave(ways, [few], scratch, rounds)
        table(f"a sparse brick: {n} cutouts", times, "decode all, copy, write")


def compare_forms(task: GroupTask, scratch: Path, rounds: int) -> None:
    """Packed shards against npy, from few to many sources in a brick."""
    key = row_keys(task.rows)[0]
    mine = np.flatnonzero([k == key for k in row_keys(task.rows)])
    for n in (200, 1000, len(mine)):
        rows = np.sort(task.rows[mine][:n], order=["shard", "row"])
        some = replace(task, rows=rows, runs={key: task.runs[key]})
        ways = {"npy shards": ours, "packed shards": ours_packed}
        table(f"one brick: {n:,} cutouts", interleave(ways, [some], scratch, rounds), "npy shards")


def worker(pickled: Path, out: Path) -> None:
    """Extract one task in this process and print its peak memory (MB); run as a subprocess."""
    import resource

    (out / ".work").mkdir(exist_ok=True)
    extract_group(replace(pickle.loads(pickled.read_bytes()), directory=out, scratch=out / ".work"))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def memory(tasks: list[GroupTask], scratch: Path) -> None:
    """Peak memory of a fresh worker on the largest groups there can be."""
    every = np.concatenate([task.rows for task in tasks])
    keys = list(dict.fromkeys(row_keys(every)))
    runs = {key: run for task in tasks for key, run in task.runs.items()}
    largest = {}
    for title, coadds, n in (
        ("8,192 cutouts of 20 coadds", 20, 8192),
        ("8,192 cutouts of 2 coadds", 2, 8192),
        ("16,384 cutouts of one coadd", 1, 16384),
    ):
        rows = np.resize(every, n)
        rows["split"], rows["shard"], rows["row"] = b"train", np.arange(n) // SHARD + 1, np.arange(n) % SHARD
        number = np.arange(n) % coadds
        rows["brick"], rows["run"] = keys[0][1].encode(), np.char.add("run", number.astype(str)).astype("S")
        files = {
            (0, keys[0][1], f"run{i}"): runs[keys[i % len(keys)]] for i in range(coadds)
        }  # the same files under several names will do
        largest[title] = GroupTask(0, scratch, scratch / ".work", StampSpec(), rows, files)
    print("\npeak memory of one worker (limit 1,500 MB)")
    for title, task in largest.items():
        with tempfile.TemporaryDirectory(dir=scratch) as name:
            pickled = Path(name) / "task.pickle"
            pickled.write_bytes(pickle.dumps(task))
            words = [sys.executable, __file__, "--worker", str(pickled), name]
            done = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ)
        print(f"   {title:<44} {int(done.stdout.split()[-1]):>7,} MB")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scratch", type=Path, help="where the bricks are kept between runs (250 MB each)")
    parser.add_argument("--bricks", type=int, default=4)
    parser.add_argument("--sources", type=int, default=2000, help="of each class in each brick")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=WHAT, default=None)
    parser.add_argument("--worker", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(*options.worker)
        return
    scratch = options.scratch or Path(tempfile.gettempdir()) / "obiwan-dplearn-benchmark"
    scratch.mkdir(parents=True, exist_ok=True)
    tree = build(scratch, options.bricks, options.sources)
    tasks = plan(tree)
    wanted = options.only or WHAT
    if "dense" in wanted:
        compare_dense(tree, tasks, scratch, options.rounds)
    if "sparse" in wanted:
        compare_sparse(tasks[0], scratch, options.rounds)
    if "forms" in wanted:
        compare_forms(max(tasks, key=lambda task: len(task.rows)), scratch, options.rounds)
    if "memory" in wanted:
        memory(tasks, scratch)
    if options.scratch is None:
        print(f"\nthe bricks are kept in {scratch} for the next run")
    for path in scratch.glob("tmp*"):
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main()
