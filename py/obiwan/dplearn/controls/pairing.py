"""Pairs of a real and a fake that are alike in magnitude, colour and size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import median_abs_deviation

from obiwan.dplearn.conventions import Array

MATCH_ON = ("mag_r", "g_r", "r_z", "shape_r")  #: magnitude, colour and size
CALIPER = 0.2  #: standard deviations (Austin 2011, Pharmaceutical Statistics 10, 150)


@dataclass(frozen=True)
class Matches:
    """Pairs of a real and a fake that are alike.

    Attributes
    ----------
    real, fake : ndarray of int, shape (pairs,)
        Rows of the two partners.
    within : int
        Pairs from one brick.
    names : tuple of str
        What they were matched on.
    caliper : float
        The largest difference in any of these, in standard deviations.
    """

    real: NDArray[np.int64]
    fake: NDArray[np.int64]
    within: int
    names: tuple[str, ...]
    caliper: float

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of all partners, in order."""
        return np.sort(np.concatenate([self.real, self.fake]))


def _table(covariates: Mapping[str, Array]) -> NDArray[np.float64]:
    """Covariates as columns; what is not finite is NaN."""
    if not covariates:
        msg = "no covariates were given"
        raise ValueError(msg)
    columns = np.stack([np.asarray(values, np.float64) for values in covariates.values()], axis=1)
    columns[~np.isfinite(columns)] = np.nan
    return columns


def checked_table(
    covariates: Mapping[str, Array], label: Array
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The table and the labels, of equal length and with at least two examples of each class."""
    table, fake = _table(covariates), np.asarray(label) == 1
    if len(table) != len(fake):
        msg = f"{len(table)} rows of covariates but {len(fake)} labels"
        raise ValueError(msg)
    if min(fake.sum(), (~fake).sum()) < 2:
        msg = f"{(~fake).sum()} real and {fake.sum()} fake examples: two of each are needed"
        raise ValueError(msg)
    return table, fake


def _pair(points: Array, real: Array, fake: Array) -> Iterator[tuple[Array, Array]]:
    """Pairs no further apart than 1 in any coordinate: each real takes the nearest fake that wants it."""
    while len(real) and len(fake):
        distance, index = cKDTree(points[real]).query(points[fake], p=np.inf, distance_upper_bound=1.0)
        wanting = np.flatnonzero(np.isfinite(distance))
        if not len(wanting):
            return
        order = wanting[np.lexsort((wanting, distance[wanting]))]
        taken, first = np.unique(index[order], return_index=True)
        given = order[first]
        yield real[taken], fake[given]
        real, fake = np.delete(real, taken), fake[np.setdiff1d(wanting, given)]


def _by_brick(bricks: Array) -> list[NDArray[np.int64]]:
    """Rows of each brick."""
    codes = np.unique(bricks, return_inverse=True)[1].ravel()
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])


def matched_pairs(
    covariates: Mapping[str, Array],
    label: Array,
    bricks: Array,
    *,
    names: Sequence[str] = MATCH_ON,
    caliper: float = CALIPER,
    seed: int,
) -> Matches:
    """Match fakes and reals one to one, without replacement, at equal magnitude, colour and size.

    Pairs are sought within each brick first, then, among those who found nobody, over all bricks.

    Parameters
    ----------
    covariates, label, bricks
        As for `obiwan.dplearn.controls.metadata.metadata_classifier`.
    names : sequence of str
        What to match on; an example that lacks one of these has no partner.
    caliper : float
        Largest difference in each, in robust standard deviations of all examples (1.4826 times the median
        absolute deviation, which catastrophic fits do not widen).
    seed : int
        Decides between partners that are equally near.

    Raises
    ------
    ValueError
        If a name is not among the covariates or the caliper is not positive.
    """
    missing = [name for name in names if name not in covariates]
    if missing or not names:
        msg = f"to match on: {', '.join(names) or 'nothing'}; not among the covariates: {', '.join(missing)}"
        raise ValueError(msg)
    if not caliper > 0:
        msg = f"caliper must be positive, got {caliper}"
        raise ValueError(msg)
    table, fake = checked_table({name: covariates[name] for name in names}, label)
    complete = np.asarray(np.isfinite(table).all(axis=1))
    scatter = np.ones(len(names))
    if complete.any():
        scatter = median_abs_deviation(table[complete], axis=0, scale="normal")
        scatter = np.where(scatter > 0, scatter, table[complete].std(axis=0))
    points = table / np.where(scatter > 0, scatter, 1.0) / caliper
    points = points + np.random.default_rng([seed, 2]).uniform(-1e-6, 1e-6, points.shape)
    alone = complete.copy()
    groups = [*_by_brick(np.asarray(bricks)), np.arange(len(fake))]
    nobody = np.empty(0, np.int64)
    pairs, within = [(nobody, nobody)], 0
    for index, group in enumerate(groups):
        rows = group[alone[group]]
        for real, partner in _pair(points, rows[~fake[rows]], rows[fake[rows]]):
            alone[real] = alone[partner] = False
            pairs.append((real, partner))
            within += len(real) if index < len(groups) - 1 else 0
    real, partner = (np.concatenate(side) for side in zip(*pairs, strict=True))
    order = np.argsort(real)
    return Matches(real[order], partner[order], within, tuple(names), caliper)
