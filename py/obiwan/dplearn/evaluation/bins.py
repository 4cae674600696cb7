"""Where the classes differ: AUC in bins of brightness, size, seeing and other measured quantities.

Edges come from both classes together, so that no bin is drawn with regard to the label.  Every bin is one
more look at the same test, so p-values are corrected (Holm 1979, Scand. J. Statist. 6, 65) over all bins
of all quantities that are shown side by side.

Where the test rests on whole bricks, so does every bin: depth, PSF width and extinction hardly vary within
a brick, and a bin of three bricks that took its examples for independent would mistake an odd brick for a
trend.  Bins of such quantities are therefore fewer, and one that still has too few bricks has no AUC.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from obiwan.dplearn.controls.covariates import Quantity
from obiwan.dplearn.evaluation.gallery import PERCENTILES
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.twosample.ranking import GUESS, Estimate, auc_pvalue, measure_auc
from obiwan.dplearn.twosample.ranks import count_different
from obiwan.dplearn.twosample.summary import holm, usable_bricks

LEAST = 20  #: examples of each class below which a bin has no AUC: its standard error would exceed 0.09
LEAST_VALUES = 5  #: different values of a quantity that make a trend; fewer bricks have fewer depths
PER_BIN = 120  #: examples that a quantile bin should hold; small tests have fewer bins
MOST_BINS = 6
#: Width (per cent of the examples) of a percentile's window, and what it should hold where that widens it.
WINDOW, WIDEST_WINDOW, PER_WINDOW = 10.0, 20.0, 60


@dataclass(frozen=True)
class Bin:
    """One bin of a quantity.

    Attributes
    ----------
    name : str
        What it is called; empty for an interval, which its ends describe.
    low, high : float
        Its ends, the upper one outside except in the last bin.
    middle : float
        Median of the quantity in it.
    real, fake, bricks : int
        Examples of each class, and bricks that they come from.
    auc : Estimate or None
        None where a class has fewer than `LEAST` examples, or is found in fewer than `LEAST_CLUSTERS` bricks
        of a test that rests on bricks.
    p, p_holm : float
        Of the AUC's difference from 0.5, two-sided, before and after correction; NaN without an AUC.
    """

    name: str
    low: float
    high: float
    middle: float
    real: int
    fake: int
    bricks: int
    auc: Estimate | None
    p: float
    p_holm: float

    @property
    def differs(self) -> bool:
        """Whether the AUC differs from 0.5 at 5 %, all bins considered."""
        return self.auc is not None and self.p_holm < 0.05


@dataclass(frozen=True)
class Bins:
    """All bins of one quantity.

    Attributes
    ----------
    key : str
        Of the quantity.
    quantity : Quantity
    bins : tuple of Bin
        Empty where the quantity is not known or the same everywhere.
    unknown : int
        Examples for which it is not known.
    values : int
        How many different values it has; 0 where that says nothing, as of names and percentiles.
    """

    key: str
    quantity: Quantity
    bins: tuple[Bin, ...]
    unknown: int = 0
    values: int = 0

    @property
    def coarse(self) -> bool:
        """Whether so few values, those of single bricks, make no trend."""
        return 0 < self.values < LEAST_VALUES


def _one_bin(
    values: Array, inside: Array, labels: Array, scores: Array, bricks: Array, ends: tuple[str, float, float]
) -> Bin:
    """A bin of the examples that are inside, before any correction for there being others."""
    label, score, brick = labels[inside], scores[inside], bricks[inside]
    fake = int(np.count_nonzero(label))
    real = len(label) - fake
    middle = float(np.median(values[inside])) if len(label) else float("nan")
    found, p = None, float("nan")
    clusters = usable_bricks(label, brick)
    if min(real, fake) >= LEAST and (clusters is not None or usable_bricks(labels, bricks) is None):
        measured = measure_auc(label, score, clusters)
        found = measured.interval()
        p = measured.p_value(GUESS, "two-sided")
        if clusters is None:
            p = auc_pvalue(label, score, alternative="two-sided")
    return Bin(*ends, middle, real, fake, count_different(brick), found, p, p)


def quantile_edges(values: Array, number: int) -> Array:
    """Edges of bins that hold equally many examples, themselves values; fewer bins where values repeat.

    Parameters
    ----------
    values : ndarray
        Finite.
    number : int
        Of bins.
    """
    return np.unique(np.quantile(values, np.linspace(0, 1, number + 1), method="inverted_cdf"))


def auc_by(
    values: Array, labels: Array, scores: Array, bricks: Array, edges: Sequence[float] | Array | None = None
) -> tuple[Bin, ...]:
    """AUC in bins of a quantity.

    Parameters
    ----------
    values : ndarray, shape (n,)
        The quantity; examples where it is not finite are in no bin.
    labels, scores, bricks : ndarray, shape (n,)
        0 real and 1 fake; P(fake), its dense ranks or anything that rises with it; names or numbers.
    edges : sequence of float, optional
        Ends of the bins, rising; by default those of quantile bins, as many as leave `PER_BIN` in each and,
        where the test rests on bricks, enough of those; from 2 to `MOST_BINS`.

    Returns
    -------
    tuple of Bin
        Not corrected; empty where the quantity is nowhere known or the same everywhere.
    """
    values = np.asarray(values, float)
    edges = _edges(values, labels, bricks) if edges is None else np.asarray(edges, float)
    return tuple(
        _one_bin(values, inside, labels, scores, bricks, ("", low, high))
        for low, high, inside in _members(values, edges)
    )


def _members(values: Array, edges: Array) -> Iterator[tuple[float, float, Array]]:
    """Ends of each bin, and which examples are in it; the upper end is in the last one only."""
    for low, high in pairwise(edges.tolist()):
        yield low, high, (values >= low) & (values <= high if high == edges[-1] else values < high)


def _edges(values: Array, labels: Array, bricks: Array) -> Array:
    """Edges of as many quantile bins as have the examples and the bricks that they need."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.empty(0)
    on_bricks = usable_bricks(labels, bricks) is not None
    for number in range(int(np.clip(len(known) // PER_BIN, 2, MOST_BINS)), 1, -1):
        edges = quantile_edges(known, number)
        members = _members(values, edges)
        enough = (usable_bricks(labels[i], bricks[i]) is not None for _, _, i in members)
        if not on_bricks or all(enough):
            break
    return edges


def auc_by_name(names: Array, labels: Array, scores: Array, bricks: Array) -> tuple[Bin, ...]:
    """AUC for each value of a quantity that is a word, such as the camera; empty words are in no bin."""
    different, values = np.unique(names, return_inverse=True)
    values = values.ravel().astype(float)
    return tuple(
        _one_bin(values, values == number, labels, scores, bricks, (name, float(number), float(number)))
        for number, name in enumerate(different.tolist())
        if name
    )


def auc_at_percentiles(magnitude: Array, labels: Array, scores: Array, bricks: Array) -> tuple[Bin, ...]:
    """AUC around percentiles in brightness: of the brightest, the median, the faintest examples.

    Parameters
    ----------
    magnitude : ndarray, shape (n,)
        Not finite: in no bin.
    labels, scores, bricks : ndarray, shape (n,)

    Returns
    -------
    tuple of Bin
        One for each of `PERCENTILES`, 99 the brightest.  Each stands for the tenth of all examples around it
        (of small tests up to a fifth), which at the ends is the brightest or the faintest tenth.
    """
    magnitude = np.asarray(magnitude, float)
    known = np.flatnonzero(np.isfinite(magnitude))
    order = known[np.argsort(magnitude[known], kind="stable")]
    half = np.clip(100 * PER_WINDOW / max(1, len(order)), WINDOW, WIDEST_WINDOW) / 2
    found = []
    for percentile in PERCENTILES:
        middle = np.clip(100 - percentile, half, 100 - half)
        first, last = (round((middle + side * half) / 100 * len(order)) for side in (-1, 1))
        inside = np.zeros(len(magnitude), bool)
        inside[order[first:last]] = True
        spread = magnitude[inside]
        low, high = (float(f(spread)) if len(spread) else np.nan for f in (np.min, np.max))
        found.append(_one_bin(magnitude, inside, labels, scores, bricks, (f"{percentile:g}", low, high)))
    return tuple(found)


def corrected(bins: Sequence[Bin]) -> tuple[Bin, ...]:
    """The same bins with their p-values corrected for there being so many."""
    adjusted = holm(np.array([b.p for b in bins], float)).tolist()
    return tuple(replace(b, p_holm=p) for b, p in zip(bins, adjusted, strict=True))


def corrected_together(tables: Sequence[Bins]) -> tuple[Bins, ...]:
    """Tables of bins with the p-values of all of them corrected as one family."""
    every = iter(corrected([b for table in tables for b in table.bins]))
    return tuple(replace(table, bins=tuple(next(every) for _ in table.bins)) for table in tables)


def bin_everything(
    columns: Iterable[tuple[Quantity, Array]], labels: Array, scores: Array, bricks: Array
) -> tuple[Bins, ...]:
    """AUC in bins of each of several quantities, not corrected.

    Parameters
    ----------
    columns : iterable of (Quantity, ndarray)
        Values of shape (n,): numbers, or words such as the camera's name.
    labels, scores, bricks : ndarray, shape (n,)
    """
    tables = []
    for quantity, values in columns:
        if values.dtype.kind in "US":
            bins, different = auc_by_name(values, labels, scores, bricks), 0
            unknown = int(np.count_nonzero(np.char.str_len(values) == 0))
        else:
            bins = auc_by(values, labels, scores, bricks)
            unknown = int(np.count_nonzero(~np.isfinite(values)))
            different = len(np.unique(values[np.isfinite(values)]))
        tables.append(Bins(quantity.key, quantity, bins, unknown, different))
    return tuple(tables)
