"""Clusters of examples that are not independent: bricks, cells of the sky, bricks that share exposures.

The one place that decides what intervals, sign flips and controls take for independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    names : ndarray of str, shape (n,)
        Cluster of each example: its brick, its cell, or the first brick of those linked by shared exposures.
    by : ClusteredBy
    count : int
        Number of clusters.
    bricks : int
        Number of bricks.
    linked : int
        Number of clusters that the bricks would make by cells or shared exposures: fewer than `count` where
        a class is in too few of them, or one holds most bricks.
    """

    names: Array
    by: ClusteredBy
    count: int
    bricks: int
    linked: int


def cluster(bricks: Array, labels: Array, exposures: Array, cells: Mapping[str, str], least: int) -> Clusters:
    """Decide which examples are independent of each other.

    Parameters
    ----------
    bricks : ndarray of str, shape (n,)
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
    names, brick = np.unique(bricks, return_inverse=True)
    if cells:
        by, linked = ClusteredBy.CELL, np.array([cells.get(str(name), str(name)) for name in names])
    else:
        by, linked = ClusteredBy.EXPOSURES, names[_first_linked(names, exposures)]
    sizes, holding = np.unique(linked, return_counts=True)[1], linked[brick.ravel()]
    rarer = min(len(np.unique(holding[labels == value])) for value in np.unique(labels))
    useless = rarer < least or sizes.max() > MOST * len(names)
    if useless or (by is ClusteredBy.EXPOSURES and len(sizes) == len(names)):
        by = ClusteredBy.BRICK
    chosen = names if by is ClusteredBy.BRICK else linked
    return Clusters(chosen[brick.ravel()], by, len(np.unique(chosen)), len(names), len(sizes))


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
