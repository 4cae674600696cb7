"""Clusters of examples that are not independent: bricks, cells of the sky, bricks that share exposures.

The one place that decides what intervals, sign flips and controls take for independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from obiwan.dplearn.stampspec import Array

MOST = 0.5  #: part of the bricks in one cluster above which clusters are no use


class ClusteredBy(StrEnum):
    """What examples of one cluster have in common."""

    BRICK = "brick"
    CELL = "cell"
    EXPOSURES = "exposures"


@dataclass(frozen=True)
class Clusters:
    """Clusters of examples.

    Attributes
    ----------
    kinds : ndarray of str, shape (count,)
        Names of the clusters, sorted: bricks, cells, or the first brick of those linked by shared exposures.
    numbers : ndarray of int, shape (n,)
        Cluster of each example, as a position in `kinds`.
    by : ClusteredBy
    count : int
        Number of clusters.
    bricks : int
        Number of bricks.
    linked : int
        Number of clusters that the bricks would make by cells or shared exposures: fewer than `count` where
        a class is in too few of them, or one holds most bricks.
    """

    kinds: Array
    numbers: Array
    by: ClusteredBy
    count: int
    bricks: int
    linked: int

    @property
    def names(self) -> Array:
        """Name of each example's cluster, shape (n,)."""
        return np.asarray(self.kinds[self.numbers])

    def take(self, chosen: Array | slice) -> Clusters:
        """The same clusters of some examples."""
        return replace(self, numbers=self.numbers[chosen])


def factorised(names: Array) -> tuple[Array, Array]:
    """Different names, sorted, and the position of each example's name among them.

    Parameters
    ----------
    names : ndarray of bytes or str, shape (n,)
        Blanks around them do not count.

    Examples
    --------
    >>> kinds, numbers = factorised(np.array([b"b", b"a ", b"b"]))
    >>> kinds.tolist(), numbers.tolist()
    (['a', 'b'], [1, 0, 1])
    """
    first, numbers = _one_of_each(names)
    kinds, place = np.unique(np.char.strip(names[first].astype(str)), return_inverse=True)
    return kinds, place.ravel()[numbers]


def _one_of_each(names: Array) -> tuple[Array, Array]:
    """Position of one example of each name, and which of these each example is like.

    Bytes are compared as whole numbers, made of eight of them: sorting millions of texts takes ten times as
    long.
    """
    if names.dtype.kind == "S":
        size = -(-names.dtype.itemsize // 8) * 8
        words = np.ascontiguousarray(names, f"S{size}").view(np.uint64).reshape(-1, size // 8)
        mixed = np.zeros(len(names), np.uint64)
        for word in words.T:
            mixed = (mixed ^ word) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        _, first, numbers = np.unique(mixed, return_index=True, return_inverse=True)
        if (names[first][numbers.ravel()] == names).all():  # no two names have one number
            return first, numbers.ravel()
    _, first, numbers = np.unique(names, return_index=True, return_inverse=True)
    return first, numbers.ravel()


def cluster(bricks: Array, labels: Array, exposures: Array, cells: Mapping[str, str], least: int) -> Clusters:
    """Decide which examples are independent of each other.

    Parameters
    ----------
    bricks : ndarray of str or bytes, shape (n,)
        Brick of each example.
    labels : ndarray, shape (n,)
        Class of each example.
    exposures : ndarray of `BRICK_EXPOSURE`
        Of these and other bricks; bricks without any are linked to no other.
    cells : mapping
        Brick to cell of the sky, of a set that is split by cells; else nothing.
    least : int
        Clusters of each class without which there is no interval.

    Returns
    -------
    Clusters
        By cell, if the set is split by cells; else bricks that share exposures are one cluster, and so are
        those that are linked by others.  Bricks are the clusters where a class would be in fewer than
        `least`, or one cluster had more than `MOST` of the bricks: exposures overlap all over a survey.
    """
    names, brick = factorised(bricks)
    if cells:
        by, linked = ClusteredBy.CELL, np.array([cells.get(str(name), str(name)) for name in names])
    else:
        by, linked = ClusteredBy.EXPOSURES, names[_first_linked(names, exposures)]
    _, number, sizes = np.unique(linked, return_inverse=True, return_counts=True)
    examples = (np.bincount(number[brick[labels == value]]) for value in np.unique(labels))
    rarer = min(np.count_nonzero(one) for one in examples)
    useless = rarer < least or sizes.max() > MOST * len(names)
    if useless or (by is ClusteredBy.EXPOSURES and len(sizes) == len(names)):
        by = ClusteredBy.BRICK
    chosen = names if by is ClusteredBy.BRICK else linked
    kinds, number = np.unique(chosen, return_inverse=True)
    return Clusters(kinds, number.ravel()[brick], by, len(kinds), len(names), len(sizes))


def _first_linked(names: Array, exposures: Array) -> Array:
    """Position of the first brick that each of the named ones is linked to, by shared exposures."""
    own = np.isin(exposures["brick"], names.astype("S"))
    row = np.searchsorted(names, exposures["brick"][own].astype(str))
    taken = np.unique(exposures[["camera", "expnum"]][own], return_inverse=True)[1].ravel()
    nodes = len(names) + int(taken.max(initial=-1)) + 1
    graph = coo_array((np.ones(len(row)), (row, len(names) + taken)), shape=(nodes, nodes))
    part = connected_components(graph, directed=False)[1][: len(names)]
    return np.unique(part, return_index=True)[1][np.unique(part, return_inverse=True)[1].ravel()]


def sharing_exposures(bricks: Array, others: Array, exposures: Array) -> tuple[int, int]:
    """Number of these bricks whose exposures are known, and of those that share one with others.

    Parameters
    ----------
    bricks, others : ndarray of str
        Names of the bricks of two splits.
    exposures : ndarray of `BRICK_EXPOSURE`
    """
    mine, theirs = (np.isin(exposures["brick"], np.unique(some).astype("S")) for some in (bricks, others))
    keys = exposures[["camera", "expnum"]]
    shared = exposures["brick"][mine & np.isin(keys, np.unique(keys[theirs]))]
    return len(np.unique(exposures["brick"][mine])), len(np.unique(shared))
