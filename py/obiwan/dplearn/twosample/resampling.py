"""Intervals and p-values by drawing bricks anew and by exchanging labels.

Everything public here is also in `obiwan.dplearn.twosample`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from obiwan.dplearn.twosample.conditional import stratum_weights, usable_strata
from obiwan.dplearn.twosample.ranking import Estimate, auc, checked, cluster_numbers, clusters_of_rarer

Statistic = Literal["auc", "accuracy", "stratified"]
_AT_ONCE = 2_000_000  # numbers in one block of draws: small enough for the processor's cache to help
_MOST_PAIRED = 1000  # bricks of which all pairs are compared once, instead of all examples in each draw


def _blocks(draws: int, n: int) -> Iterator[int]:
    """Numbers of draws that together make `draws`."""
    size = max(1, _AT_ONCE // n)
    for start in range(0, draws, size):
        yield min(size, draws - start)


def _pairwise(
    fake: NDArray[np.bool_], scores: NDArray[np.float64], groups: NDArray[np.intp]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """AUCs of bricks drawn so many times, shape (draws,): each pair of bricks is compared once."""
    count = int(groups.max()) + 1
    order = np.argsort(scores[fake])  # rising keys are found faster
    keys, owners = scores[fake][order], groups[fake][order]
    wins = np.zeros((count, count))
    by_brick = np.lexsort((scores[~fake], groups[~fake]))
    ends = np.cumsum(np.bincount(groups[~fake], minlength=count))[:-1]
    for brick, reals in enumerate(np.split(scores[~fake][by_brick], ends)):
        below = np.searchsorted(reals, keys, "left") + np.searchsorted(reals, keys, "right")
        wins[:, brick] = np.bincount(owners, below / 2, count)
    n1, n0 = (np.bincount(groups[members], minlength=count) for members in (fake, ~fake))

    def aucs(times: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):  # a draw may have left a class without examples
            return np.asarray(np.einsum("ij,ij->i", times @ wins, times) / ((times @ n1) * (times @ n0)))

    return aucs


def _weighted(
    fake: NDArray[np.bool_], scores: NDArray[np.float64], groups: NDArray[np.intp]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """AUCs as of `_pairwise`, example by example: for as many bricks as examples."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    fake, groups = fake[order], groups[order]

    def aucs(times: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = times[:, groups]
        fakes = np.add.reduceat(weights * fake, starts, axis=1)
        reals = np.add.reduceat(weights * ~fake, starts, axis=1)
        below = np.cumsum(reals, axis=1) - reals / 2
        with np.errstate(invalid="ignore"):
            return np.asarray(np.einsum("ij,ij->i", fakes, below) / (fakes.sum(1) * reals.sum(1)))

    return aucs


def auc_bootstrap(
    labels: NDArray[Any],
    scores: NDArray[Any],
    bricks: NDArray[Any] | None,
    *,
    draws: int = 1000,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Estimate:
    """AUC with the interval that drawing whole bricks anew gives.

    Parameters
    ----------
    labels, scores : ndarray
        One of each per example.
    bricks : ndarray or None
        The brick of each example; whole bricks are drawn with replacement.  None draws examples.
    draws : int
        How often.
    rng : numpy.random.Generator
        What draws.
    level : float
        Coverage.

    Returns
    -------
    Estimate
        Percentiles of the drawn AUCs (Efron & Tibshirani 1993), taken further out than the level says by the
        ratio of Student's to the normal quantile and sqrt(G/(G - 1)) for G bricks (Hesterberg 2015, Am.
        Stat. 69, 371), without which the interval is too narrow for few bricks.

    Raises
    ------
    ValueError
        If a class is found in one brick only.
    """
    fake, scores = checked(labels, scores)
    groups = np.arange(len(fake)) if bricks is None else cluster_numbers(bricks, len(fake))
    count = int(groups.max()) + 1
    freedom = clusters_of_rarer(fake, groups) - 1
    if freedom < 1:
        msg = "all examples of a class are in one brick: its scatter between bricks cannot be drawn"
        raise ValueError(msg)
    aucs_of = _pairwise(fake, scores, groups) if count <= _MOST_PAIRED else _weighted(fake, scores, groups)
    drawn = []
    for size in _blocks(draws, max(count, len(fake))):
        rows = np.arange(size)[:, None] * count
        picks = rng.integers(0, count, (size, count)) + rows
        times = np.bincount(picks.ravel(), minlength=size * count).reshape(size, count)
        drawn.append(aucs_of(times.astype(np.float64)))
    aucs = np.concatenate(drawn)
    aucs = aucs[np.isfinite(aucs)]  # of draws in which both classes are found, by far the most
    wider = student.ppf((1 - level) / 2, freedom) * np.sqrt(count / (count - 1))
    low, high = np.quantile(aucs, [norm.cdf(wider), norm.sf(wider)])
    return Estimate(auc(labels, scores), float(low), float(high))


def _summands(
    fake: NDArray[np.bool_], scores: NDArray[np.float64], strata: NDArray[np.intp], statistic: Statistic
) -> NDArray[np.float64]:
    """What an example adds to the statistic if it is a fake: all three are sums over the fakes."""
    if statistic == "auc":
        return np.asarray(rankdata(scores), np.float64)
    if statistic == "accuracy":
        return np.asarray(scores > 0.5, np.float64)
    used = usable_strata(fake, strata)
    values = np.zeros(len(fake))
    if not used.any():
        return values
    weights = stratum_weights(fake & used, np.where(used, strata, strata.max() + 1))
    for stratum in np.unique(strata[used]):
        here = strata == stratum
        n1 = np.count_nonzero(fake[here])
        values[here] = weights[stratum] * rankdata(scores[here]) / (n1 * (here.sum() - n1))
    return values


def permutation_test(
    labels: NDArray[Any],
    scores: NDArray[Any],
    bricks: NDArray[Any] | None = None,
    strata: NDArray[Any] | None = None,
    *,
    draws: int = 1000,
    rng: np.random.Generator,
    statistic: Statistic = "auc",
) -> float:
    """p-value of the hypothesis that within a brick (and stratum) labels mean nothing.

    Labels are exchanged within each brick and stratum, so that differences between bricks, and between
    strata, count for nothing.  Scores are those of a network trained on other examples and stay as they are.

    Parameters
    ----------
    labels, scores : ndarray
        One of each per example.
    bricks, strata : ndarray, optional
        Where labels may be exchanged; without either, everywhere.
    draws : int
        How often labels are exchanged.
    rng : numpy.random.Generator
        What exchanges them.
    statistic : str
        ``auc``; ``accuracy`` of "fake if the score is above 0.5"; or ``stratified``, the AUC of
        `obiwan.dplearn.twosample.conditional.stratified_auc`.  Large values count against the hypothesis.

    Returns
    -------
    float
        (1 + number of draws with a statistic at least as large as observed)/(draws + 1), which is valid for
        any number of draws (Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9, 39).  1 where every
        brick and stratum holds one class only, for then nothing can be exchanged.
    """
    if statistic not in get_args(Statistic):
        msg = f"statistic must be one of {', '.join(get_args(Statistic))}, got {statistic!r}"
        raise ValueError(msg)
    fake, scores = checked(labels, scores)
    n = len(fake)
    none = np.zeros(n, np.intp)
    groups = none if bricks is None else cluster_numbers(bricks, n)
    layers = none if strata is None else cluster_numbers(strata, n)
    values = _summands(fake, scores, layers, statistic)
    cells = np.unique(np.stack([groups, layers], 1), axis=0, return_inverse=True)[1].ravel()
    by_cell = np.argsort(cells, kind="stable")
    cells, values, chosen = cells[by_cell].astype(np.float64), values[by_cell], np.flatnonzero(fake[by_cell])
    observed = values[chosen].sum()
    observed -= 1e-9 * abs(observed)  # a sum in another order is the same sum
    reached = 0
    for size in _blocks(draws, n):
        order = np.argsort(rng.random((size, n)) + cells, axis=1)
        reached += int((values[order[:, chosen]].sum(1) >= observed).sum())
    return (1 + reached) / (draws + 1)


def flip_test(
    labels: NDArray[Any],
    scores: NDArray[Any],
    bricks: NDArray[Any],
    *,
    draws: int = 1000,
    rng: np.random.Generator,
) -> float:
    """p-value of a wider hypothesis: the classes may differ in a brick, but as often one way as the other.

    All labels of a brick are swapped at once, or not.  This is the conservative companion of
    `permutation_test`: a difference that changes sign from brick to brick counts for nothing, and G bricks
    give no p below 2^-G.

    Parameters
    ----------
    labels, scores, bricks : ndarray
        One of each per example.
    draws : int
        How often the swaps are drawn.
    rng : numpy.random.Generator
        What draws them.

    Returns
    -------
    float
        One-sided p-value of the sum over bricks of n0 n1/(n0 + n1) times the difference of the classes'
        mean ranks, which changes sign with a swap.
    """
    fake, scores = checked(labels, scores)
    groups = cluster_numbers(bricks, len(fake))
    count = int(groups.max()) + 1
    ranks = rankdata(scores)
    n1, n0 = (np.bincount(groups[members], minlength=count) for members in (fake, ~fake))
    r1, r0 = (np.bincount(groups[members], ranks[members], count) for members in (fake, ~fake))
    contrast = (r1 * n0 - r0 * n1) / (n0 + n1)
    reached = 0
    for size in _blocks(draws, count):
        sums = rng.choice([-1.0, 1.0], (size, count)) @ contrast
        reached += int((sums >= contrast.sum() - 1e-9 * np.abs(contrast).sum()).sum())
    return (1 + reached) / (draws + 1)
