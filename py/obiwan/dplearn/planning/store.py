"""Store of eligible examples: the rows of all bricks in a file without a name, their labels in memory.

A row of ``sources.fits`` has about 250 bytes, and sixty million of them would fill a node's memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from obiwan.dplearn.planning.bricks import BrickPlan
from obiwan.dplearn.planning.cutflow import Flows, added
from obiwan.dplearn.planning.matching import unit_vectors
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.coverage import DitheredFile
from obiwan.dplearn.survey.writers import Writer
from obiwan.dplearn.trainingset.examples import example_dtype


@dataclass(frozen=True, slots=True)
class StoredBrick:
    """One brick whose examples are in a store.

    Attributes
    ----------
    name : str
    first : int
        Position in the store of its first example; the others follow.
    label : ndarray of uint8
        Of each example.
    centre : tuple of float
        Unit vector to the middle of its examples.
    radius : float
        Of the sphere around it in which they are, as a distance of unit vectors.
    notes : tuple of str
    coadds : int
    exposures : ndarray or None
        As in `BrickPlan`.
    place : tuple of float
        RA and Dec of the middle of its coadds, degrees.
    """

    name: str
    first: int
    label: Array
    centre: tuple[float, ...]
    radius: float
    notes: tuple[str, ...]
    coadds: int
    exposures: Array | None
    place: tuple[float, float]


class RowStore:
    """Plans of bricks, appended in any order.  A context manager, which closes the file of their rows.

    Parameters
    ----------
    directory : Path
        On whose file system the rows are kept; the file has no name there and ends with the program.
    spec : StampSpec
    """

    def __init__(self, directory: Path, spec: StampSpec) -> None:
        self._directory, self._dtype, self._length = directory, example_dtype(spec), 0
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - closed by __exit__
        self._bricks: list[StoredBrick] = []
        self.flows: Flows = {name: {} for name in spec.labels}
        self.writers: dict[str, set[Writer]] = {name: set() for name in spec.labels}
        self.dithered: set[DitheredFile] = set()
        self.damaged: dict[str, str] = {}

    def __enter__(self) -> RowStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, plan: BrickPlan) -> None:
        """Store what is known of a brick.

        Raises
        ------
        OSError
            If the disk is full; it names the directory.
        """
        data = np.ascontiguousarray(plan.rows).view(np.uint8).data
        try:
            while data:  # an unbuffered write may be partial
                data = data[self._file.write(data) :]
        except OSError as error:
            error.filename = str(self._directory)  # the file itself has no name
            raise
        vectors = unit_vectors(plan.rows["ra"], plan.rows["dec"])
        centre = vectors.mean(0) if len(vectors) else np.zeros(3)
        radius = float(np.sqrt(((vectors - centre) ** 2).sum(1)).max(initial=0))
        label = plan.rows["label"].copy()
        where = (plan.brick, self._length, label, tuple(centre), radius)
        brick = StoredBrick(*where, plan.notes, plan.coadds, plan.exposures, plan.centre)
        self._bricks.append(brick)
        if plan.damage:
            self.damaged[plan.brick] = plan.damage
        self._length += len(label)
        for name in self.flows:
            self.flows[name] = added(self.flows[name], plan.flows[name])
            self.writers[name] |= plan.writers.get(name, frozenset())
        self.dithered |= plan.dithered

    def eligible(self) -> Eligible:
        """The examples of all bricks that were appended; they outlive the store."""
        rows = np.empty(0, self._dtype)
        if self._length:  # not mapped for writing, which some parallel file systems refuse
            rows = np.asarray(np.memmap(self._file, self._dtype, "r", shape=(self._length,)))
        bricks = sorted(self._bricks, key=lambda brick: brick.name)
        damaged = dict(sorted(self.damaged.items()))
        return Eligible(bricks, rows, self.flows, self.writers, sorted(self.dithered), damaged)


class Eligible:
    """The eligible examples of all bricks, brick after brick.

    Parameters
    ----------
    bricks : sequence of StoredBrick
        Sorted by brick.
    rows : ndarray of `example_dtype`
        Of all bricks.
    flows : dict
        Cut flow of all bricks together, per class name in the order of the labels.
    writers : dict
        Per class name the writers of the coadds that its examples are in.
    dithered : sequence of DitheredFile
        As in `BrickPlan`, of all bricks.
    damaged : dict
        Names of the bricks that were left out as damaged, with the reason.

    Attributes
    ----------
    names : list of str
        Of the bricks.
    sizes : ndarray of int
        Number of examples of each brick.
    first : ndarray of int
        Position in `rows` of each brick's first example.
    label : ndarray of uint8
        Of all examples, one brick after the other.
    coadds : ndarray of uint32
        What names the content of each brick's coadds.
    exposures : list of ndarray or None
        Of each brick, as in `BrickPlan`.
    places : ndarray, shape (bricks, 2)
        RA and Dec of the middle of each brick's coadds, degrees.
    notes : list of str
        What was left out and why.
    """

    def __init__(
        self,
        bricks: Sequence[StoredBrick],
        rows: Array,
        flows: Flows,
        writers: dict[str, set[Writer]],
        dithered: Sequence[DitheredFile] = (),
        damaged: dict[str, str] | None = None,
    ) -> None:
        self.rows, self.flows, self.writers, self.dithered = rows, flows, writers, dithered
        self.damaged = damaged or {}
        self.names = [one.name for one in bricks]
        self.sizes = np.array([len(one.label) for one in bricks], dtype=np.int64)
        self.first = np.array([one.first for one in bricks], dtype=np.int64)
        self.label = np.concatenate([np.empty(0, np.uint8), *(one.label for one in bricks)])
        self.coadds = np.array([one.coadds for one in bricks], dtype="<u4")
        self.exposures = [one.exposures for one in bricks]
        self.places = np.array([one.place for one in bricks], dtype=np.float64).reshape(-1, 2)
        self.notes = [note for one in bricks for note in one.notes]
        self._starts = np.r_[0, np.cumsum(self.sizes)]
        self._centre = np.array([one.centre for one in bricks], dtype=np.float64).reshape(-1, 3)
        self._radius = np.array([one.radius for one in bricks], dtype=np.float64)
        self._tree: Any = cKDTree(self._centre) if len(bricks) else None

    def __len__(self) -> int:
        return len(self.label)

    def where(self, brick: int) -> slice:
        """Positions, among all, of the examples of a brick, which is given by its position in `names`."""
        return slice(int(self._starts[brick]), int(self._starts[brick + 1]))

    def rows_of(self, brick: int) -> Array:
        """Rows of the examples of a brick."""
        first = int(self.first[brick])
        return self.rows[first : first + int(self.sizes[brick])]

    def near(self, brick: int, reach: float) -> list[int]:
        """Positions of the bricks, itself among them, with examples within `reach` of one of this brick."""
        within = self._radius[brick] + self._radius.max() + reach
        found = np.array(sorted(self._tree.query_ball_point(self._centre[brick], within)))
        distance = np.sqrt(((self._centre[found] - self._centre[brick]) ** 2).sum(1))
        touching = distance <= self._radius[brick] + self._radius[found] + reach
        return [int(i) for i in found[touching] if self.sizes[i]]
