"""Stratified AUC: the AUC among examples that are alike in other quantities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.twosample.ranking import (
    Estimate,
    Measured,
    checked,
    cluster_numbers,
    placements,
)


def usable_strata(fake: NDArray[np.bool_], strata: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Mask of examples in strata with two or more of each class: fewer have no variance."""
    counts = [np.bincount(strata[members], minlength=strata.max() + 1) for members in (fake, ~fake)]
    return np.minimum(*counts)[strata] >= 2


def stratum_weights(fake: NDArray[np.bool_], strata: NDArray[np.intp]) -> NDArray[np.float64]:
    """Weights of the strata that sum to one, n0 n1/(n0 + n1 + 1) (van Elteren 1960), shape (strata,)."""
    n1, n0 = (np.bincount(strata[members], minlength=strata.max() + 1) for members in (fake, ~fake))
    weights = n0 * n1 / (n0 + n1 + 1)
    return np.asarray(weights / weights.sum())


def stratified_auc(
    labels: NDArray[Any],
    scores: NDArray[Any],
    strata: NDArray[Any],
    bricks: NDArray[Any] | None = None,
    level: float = 0.95,
) -> Estimate:
    """Average of the AUC within strata: fakes are compared with reals of their own stratum only.

    Parameters
    ----------
    labels, scores : ndarray
        One of each per example.
    strata : ndarray
        The stratum of each example, for instance its bin of magnitude.  Strata with fewer than two of a class
        are left out.
    bricks : ndarray, optional
        The brick of each example; one brick may reach into many strata.
    level : float
        Coverage.

    Returns
    -------
    Estimate
        The sum of w_s AUC_s with w_s proportional to n0 n1/(n0 + n1 + 1), the weights of van Elteren (1960,
        Bull. Inst. Int. Stat. 37, 351) that are best against a shift common to all strata; the interval is
        that of `auc_interval` with the contributions of all strata to a brick added up.

    Raises
    ------
    ValueError
        If no stratum has two of each class, or there are too few bricks.
    """
    fake, scores = checked(labels, scores)
    numbers = cluster_numbers(strata, len(fake))
    used = usable_strata(fake, numbers)
    if not used.any():
        msg = "no stratum holds two examples of each class: use fewer and wider strata"
        raise ValueError(msg)
    fake, scores, numbers = fake[used], scores[used], np.unique(numbers[used], return_inverse=True)[1].ravel()
    bricks = None if bricks is None else np.asarray(bricks)[used]
    weights = stratum_weights(fake, numbers)
    value, influence = 0.0, np.empty(len(fake))
    order = np.argsort(numbers, kind="stable")
    for stratum, rows in enumerate(np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)):
        here = fake[rows]
        placed = placements(here, scores[rows])
        own = float(placed[here].mean())
        n = np.where(here, here.sum(), (~here).sum())
        value += weights[stratum] * own
        influence[rows] = weights[stratum] * (placed - own) / np.sqrt(n * (n - 1.0))
    least = 1 / (2 * int(min(fake.sum(), (~fake).sum())))
    groups = None if bricks is None else cluster_numbers(bricks, len(fake))
    return Measured.of(value, influence, fake, groups, least).interval(level)
