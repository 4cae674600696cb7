"""Extraction of stamps into shards: independent tasks, each owning its shards, with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.cutting.grids import Key, row_keys, shard_patches
from obiwan.dplearn.errors import CoaddError
from obiwan.dplearn.files.atomic import write_json
from obiwan.dplearn.files.outdir import holding_lease
from obiwan.dplearn.planning.inputs import Inputs
from obiwan.dplearn.planning.plan import Plan
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.coadds import plane_names, read_planes, read_windows, windows_pay
from obiwan.dplearn.survey.coverage import Coverage, not_kept, observed_plane
from obiwan.dplearn.survey.cutouts import clean_stamps, cut_stamps
from obiwan.dplearn.survey.layouts import BrickRun
from obiwan.dplearn.trainingset.manifest import WORK
from obiwan.dplearn.trainingset.shards import Shard, write_shard


@dataclass(frozen=True)
class GroupTask:
    """One group of bricks of one split: the unit of extraction.

    Attributes
    ----------
    number : int
        From 0, over all splits.
    directory : Path
        The training set.
    scratch : Path
        The run's own directory, through which its files are written.
    spec : StampSpec
    rows : ndarray of `example_dtype`
        The group's examples, sorted by shard and row.
    runs : dict
        Files of every coadd that the rows name.
    coadds : int
        Names what was in the coadds of its bricks when they were planned.
    packed : bool
        Whether its shards are packed.
    """

    number: int
    directory: Path
    scratch: Path
    spec: StampSpec
    rows: Array
    runs: dict[Key, BrickRun]
    coadds: int = 0
    packed: bool = False

    @property
    def receipt(self) -> Path:
        """Receipt: the file that says that this group's shards are all written."""
        return self.directory / WORK / f"group-{self.number:06d}.json"


class Tasks(Sequence[GroupTask]):
    """Extraction tasks, each made when it is asked for, for together their rows are many.

    Parameters
    ----------
    planned : Plan
    inputs : Inputs
    spec : StampSpec
    directory, scratch, packed
        As in `GroupTask`.
    """

    def __init__(
        self,
        planned: Plan,
        inputs: Inputs,
        spec: StampSpec,
        directory: Path,
        scratch: Path,
        *,
        packed: bool = False,
    ) -> None:
        self.planned, self.spec, self.directory, self.scratch = planned, spec, directory, scratch
        self.packed = packed
        self._bricks = {one.brick: (*one.runs, *one.releases) for one in inputs.bricks}

    def __len__(self) -> int:
        return len(self.planned.groups)

    def __getitem__(self, number: Any) -> Any:
        """The task of this number."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        rows = self.planned.rows(number)
        keys = set(row_keys(rows))
        found = [run for brick in {key[1] for key in keys} for run in self._bricks[brick]]
        runs = {(run.root.index, run.brick, run.run): run for run in found}
        mine = {key: runs[key] for key in keys}
        coadds = self.planned.coadds(number)
        place = (self.directory, self.scratch)
        return GroupTask(number, *place, self.spec, rows, mine, coadds, self.packed)

    def size(self, number: int) -> int:
        """Number of examples of a task."""
        return self.planned.groups[number].size


@dataclass(frozen=True)
class Receipt:
    """Receipt of a finished group: its shards, and how many pixels had to be cleaned."""

    shards: tuple[Shard, ...]
    not_finite: int
    negative_invvar: int

    def to_json(self) -> dict[str, Any]:
        """Content of the receipt's file."""
        return {**asdict(self), "shards": [shard.to_manifest() for shard in self.shards]}

    @property
    def examples(self) -> int:
        """Number of examples in the group."""
        return sum(shard.rows for shard in self.shards)


@lru_cache(maxsize=1)
def _row_buffer(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """One buffer per process, used again by every group: fresh memory costs as much as the copying.

    It has one size for nearly all groups; what is never written to takes no memory.
    """
    return np.empty(shape, dtype="<f4")


@lru_cache(maxsize=1)
def _plane_buffer(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The planes of one coadd, used again by every coadd of this shape."""
    return np.empty(shape, dtype=np.float32)


def _needs_cleaning(pixels: Array, invvar: Array | None) -> bool:
    """Whether any pixel is not finite or any invvar negative; a sum carries NaN and infinity along."""
    with np.errstate(invalid="ignore", over="ignore"):
        if not np.isfinite(pixels.sum()):
            return True
    return invvar is not None and bool(invvar.size and invvar.min() < 0)


class _CoaddCutter:
    """Cuts stamps from coadds, remembering the planes of the last one."""

    def __init__(self, runs: dict[Key, BrickRun], spec: StampSpec, totals: dict[Key, int]) -> None:
        self._runs, self._spec, self._totals = runs, spec, totals
        self._by_windows: dict[Key, bool] = {}
        self._coverages: dict[Key, list[Coverage]] = {}
        self._decoded: tuple[Key | None, Array, bool] = (None, np.empty(0), False)  # key, planes, unclean
        self.not_finite = self.negative = 0

    def cut(self, key: Key, x: Array, y: Array, out: NDArray[np.float32], at: Array) -> None:
        """Stamps at pixel positions of a brick and run, written into rows of an array."""
        run, spec = self._runs[key], self._spec
        if key not in self._by_windows:
            self._coverages[key] = not_kept(run, spec)
            pay = not self._coverages[key] and windows_pay(self._totals[key], run, spec)
            self._by_windows[key] = pay
        if self._by_windows[key]:
            read_windows(run, spec, x, y, out, at)
            stamps = out[at]
            unclean = _needs_cleaning(stamps, spec.ivar(stamps))
        else:
            planes, unclean = self._planes(key)
            cut_stamps(planes, x, y, out, at)
        for i in at if unclean else ():
            not_finite, negative = clean_stamps(out[i : i + 1], spec)
            self.not_finite += not_finite
            self.negative += negative

    def _planes(self, key: Key) -> tuple[Array, bool]:
        """Planes of a coadd, and whether they need cleaning; those of the last coadd are kept."""
        if key != self._decoded[0]:
            self._decoded = (None, np.empty(0), False)  # its memory is used again, also where reading fails
            planes = read_planes(self._runs[key], self._spec, _plane_buffer)
            for coverage in self._coverages[key]:
                unobserved = ~observed_plane(coverage, planes.shape[1:])
                for channel, (_, band) in enumerate(plane_names(self._spec)):
                    if band == coverage.band:
                        planes[channel][unobserved] = 0
            invvar = planes[len(self._spec.bands) :] if self._spec.has_ivar else None
            self._decoded = (key, planes, _needs_cleaning(planes, invvar))
        return self._decoded[1:]


def _batches(rows: Array, capacity: int) -> Iterator[list[Array]]:
    """Consecutive whole shards, as row numbers, that fit the buffer together."""
    shards = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows["shard"])) + 1)
    batch: list[Array] = []
    for shard in shards:
        if batch and sum(map(len, batch)) + len(shard) > capacity:
            yield batch
            batch = []
        batch.append(shard)
    yield batch


def extract_group(task: GroupTask) -> Receipt:
    """Cut and write all shards of one group, then its receipt.

    The planes of a coadd are decoded once (or, for few stamps, only the tiles under them are read).
    Memory is bounded by one coadd's planes plus a buffer of `StampSpec.stamps_per_group` examples.

    Raises
    ------
    CoaddError
        If planes cannot be read, a line for each coadd; the group then has no receipt.
    OSError
        If a file cannot be written.
    LeaseLostError
        If another run has begun in the directory.
    """
    rows, spec = task.rows, task.spec
    coadds, code, count = np.unique(rows[["root", "brick", "run"]], return_inverse=True, return_counts=True)
    totals = dict(zip(row_keys(coadds), count.tolist(), strict=True))
    largest = int(np.bincount(rows["shard"]).max())
    # With one coadd the planes stay at hand, and a buffer of one shard will do.
    capacity = largest if len(totals) == 1 else max(largest, min(len(rows), spec.stamps_per_group))
    buffer = _row_buffer((max(capacity, spec.stamps_per_group), *spec.shape))
    cutter = _CoaddCutter(task.runs, spec, totals)
    split = rows["split"][0].decode("ascii")
    written: list[Shard] = []
    damaged: dict[Key, CoaddError] = {}
    for batch in _batches(rows, capacity):
        members = np.concatenate(batch)
        first = members[0]
        for number, key in enumerate(totals):
            chosen = members[code[members] == number]
            if len(chosen) and key not in damaged:
                try:
                    cutter.cut(key, rows["x"][chosen], rows["y"][chosen], buffer, chosen - first)
                except CoaddError as error:  # go on, so that all that is damaged is known at once
                    damaged[key] = error
        for shard in batch if not damaged else ():
            x = buffer[shard[0] - first : shard[-1] + 1 - first]
            y = np.ascontiguousarray(rows["label"][shard])
            name = int(rows["shard"][shard[0]])
            patches = shard_patches(rows[shard], task.runs, spec) if task.packed else None
            with holding_lease(task.scratch, task.directory):
                written.append(write_shard(task.directory, spec, split, name, x, y, task.scratch, patches))
    if damaged:
        raise CoaddError("\n".join(str(error) for error in damaged.values()))
    receipt = Receipt(tuple(written), cutter.not_finite, cutter.negative)
    with holding_lease(task.scratch, task.directory):
        write_json(task.receipt, {**receipt.to_json(), "coadds_crc32": task.coadds}, task.scratch)
    return receipt
