"""The eligible examples of all bricks: their labels in memory, everything else in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from obiwan.dplearn.conventions import Array
from obiwan.dplearn.planning.bricks import BrickPlan
from obiwan.dplearn.planning.rowfile import RowFile
from obiwan.dplearn.planning.sky import REACH, unit_vectors


@dataclass(frozen=True, slots=True)
class Filed:
    """One brick whose examples are in the file.

    Attributes
    ----------
    brick : str
    first : int
        Place in the file of its first example; the others follow.
    label : ndarray of uint8
        Of each example.
    centre : tuple of float
        Unit vector to the middle of its examples.
    radius : float
        Of the sphere around it in which they are, as a distance of unit vectors.
    notes : tuple of str
    coadds : int
        As in `BrickPlan`.
    """

    brick: str
    first: int
    label: Array
    centre: tuple[float, ...]
    radius: float
    notes: tuple[str, ...]
    coadds: int


def filed(plan: BrickPlan, file: RowFile) -> Filed:
    """Put the examples of a brick into the file."""
    vectors = unit_vectors(plan.rows["ra"], plan.rows["dec"])
    centre = vectors.mean(0) if len(vectors) else np.zeros(3)
    radius = float(np.sqrt(((vectors - centre) ** 2).sum(1)).max(initial=0))
    first = file.append(plan.rows)
    label = plan.rows["label"].copy()
    return Filed(plan.brick, first, label, tuple(centre), radius, plan.notes, plan.coadds)


class Eligible:
    """The eligible examples of all bricks, brick after brick.

    Parameters
    ----------
    bricks : sequence of Filed
        Sorted by brick.
    file : RowFile

    Attributes
    ----------
    names : list of str
        Of the bricks.
    sizes : ndarray of int
        Number of examples of each brick.
    label : ndarray of uint8
        Of all examples, one brick after the other.
    coadds : ndarray of uint32
        What names the content of each brick's coadds.
    """

    def __init__(self, bricks: Sequence[Filed], file: RowFile) -> None:
        self.names = [one.brick for one in bricks]
        self.sizes = np.array([len(one.label) for one in bricks], dtype=np.int64)
        self.label = np.concatenate([np.empty(0, np.uint8), *(one.label for one in bricks)])
        self.coadds = np.array([one.coadds for one in bricks], dtype="<u4")
        self._file = file
        self._first = np.array([one.first for one in bricks], dtype=np.int64)
        self._starts = np.r_[0, np.cumsum(self.sizes)]
        self._centre = np.array([one.centre for one in bricks], dtype=np.float64).reshape(-1, 3)
        self._radius = np.array([one.radius for one in bricks], dtype=np.float64)
        self._tree = cKDTree(self._centre) if len(bricks) else None

    def __len__(self) -> int:
        return len(self.label)

    def where(self, brick: int) -> slice:
        """Where the examples of a brick, given by its position in `names`, are among all."""
        return slice(int(self._starts[brick]), int(self._starts[brick + 1]))

    def rows(self, brick: int) -> Array:
        """Everything that is known of the examples of a brick: rows of EXAMPLE_DTYPE."""
        return self._file.read(int(self._first[brick]), int(self.sizes[brick]))

    def near(self, brick: int) -> list[int]:
        """Positions of the bricks, itself among them, whose stamps may share sky with those of this one."""
        if self._tree is None:
            return []
        reach = self._radius[brick] + self._radius.max() + REACH
        found = np.array(sorted(self._tree.query_ball_point(self._centre[brick], reach)))
        distance = np.sqrt(((self._centre[found] - self._centre[brick]) ** 2).sum(1))
        touching = distance <= self._radius[brick] + self._radius[found] + REACH
        return [int(i) for i in found[touching] if self.sizes[i]]
