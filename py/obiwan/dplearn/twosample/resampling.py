"""Permutation tests: p-values from exchanging labels within bricks, and of whole bricks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import norm

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.twosample.ranking import checked, usable_strata
from obiwan.dplearn.twosample.ranks import Strata, cluster_numbers, numbered

DRAWN = (
    100_000  #: examples of which labels are exchanged by drawing; of more by the moments of their rank sums
)
_AT_ONCE = 2_000_000  # numbers in one block of draws: small enough for the processor's cache to help


def _blocks(draws: int, n: int) -> Iterator[int]:
    """Numbers of draws that together make `draws`."""
    size = max(1, _AT_ONCE // n)
    for start in range(0, draws, size):
        yield min(size, draws - start)


def _summands(fake: Array, scores: Array, strata: Array) -> Array:
    """What each example adds, if it is a fake, to a sum that rises with the AUC within strata."""
    order = Strata.of(scores, strata)
    shares = order.midranks() / (order.counts()[order.number] + 1)  # with the weights of `stratified_auc`
    return np.where(usable_strata(fake, order.number), shares, 0.0)


def _tail(fake: Array, values: Array, cells: Array) -> float:
    """Probability of a sum over fakes no less than observed, where labels are exchanged within cells.

    From the first three moments of the sum of a sample drawn without replacement from each cell (Cochran
    1977, Sampling Techniques, chapter 2), by the first term of Edgeworth's series.
    """
    total, fakes = np.bincount(cells), np.bincount(cells[fake], minlength=int(cells.max()) + 1)
    one = np.zeros(len(total))
    one[cells] = values
    distance = values - one[cells]  # 0, and not what rounding leaves, where all of a cell are equal
    distance -= (np.bincount(cells, distance) / total)[cells]
    second, third = (np.bincount(cells, distance**power) / total for power in (2, 3))
    mixed = fakes * (total - fakes) / np.maximum(total - 1, 1)
    variance = (mixed * second).sum()
    if variance <= 0:
        return 1.0
    skewness = (mixed * (total - 2 * fakes) / np.maximum(total - 2, 1) * third).sum() / variance**1.5
    z = float(distance[fake].sum() / np.sqrt(variance))
    return float(np.clip(norm.sf(z) + skewness / 6 * (z**2 - 1) * norm.pdf(z), 0, 1))


def permutation_test(
    labels: Array,
    scores: Array,
    bricks: Array | None = None,
    strata: Array | None = None,
    *,
    draws: int = 1000,
    rng: np.random.Generator,
) -> float:
    """p-value of the hypothesis that labels are exchangeable within a brick (and stratum).

    Labels are exchanged within each brick and stratum, so that differences between bricks, and between
    strata, count for nothing.  Scores are those of a network trained on other examples and stay as they are.

    Parameters
    ----------
    labels, scores : ndarray
        One of each per example.
    bricks, strata : ndarray, optional
        Where labels may be exchanged; without either, everywhere.  The statistic is the AUC, with strata that
        of `obiwan.dplearn.twosample.ranking.stratified_auc`; large values count against the hypothesis.
    draws : int
        How often labels are exchanged.
    rng : numpy.random.Generator
        What exchanges them.

    Returns
    -------
    float
        (1 + number of draws with a statistic at least as large as observed)/(draws + 1), which is valid for
        any number of draws (Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9, 39).  Of more than `DRAWN`
        examples nothing is drawn: the probability follows from the moments of the rank sums of the bricks,
        and is no less than 1/(draws + 1) either.  1 where every brick and stratum holds one class only, for
        then nothing can be exchanged.
    """
    fake, scores = checked(labels, scores)
    n = len(fake)
    none = np.zeros(n, np.intp)
    groups = none if bricks is None else cluster_numbers(bricks, n)
    layers = none if strata is None else cluster_numbers(strata, n)
    values = _summands(fake, scores, layers)
    cells = numbered(groups * (int(layers.max()) + 1) + layers)
    if n > DRAWN:
        return max(_tail(fake, values, cells), 1 / (draws + 1))
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
    labels: Array, scores: Array, bricks: Array, *, draws: int = 1000, rng: np.random.Generator
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
    ranks = Strata.of(scores).midranks()
    n1, n0 = (np.bincount(groups[members], minlength=count) for members in (fake, ~fake))
    r1, r0 = (np.bincount(groups[members], ranks[members], count) for members in (fake, ~fake))
    contrast = (r1 * n0 - r0 * n1) / (n0 + n1)
    reached = 0
    for size in _blocks(draws, count):
        sums = rng.choice([-1.0, 1.0], (size, count)) @ contrast
        reached += int((sums >= contrast.sum() - 1e-9 * np.abs(contrast).sum()).sum())
    return (1 + reached) / (draws + 1)
