"""How one number differs between two classes whose examples share bricks.

Errors are clustered by what whole bricks contribute, as in
`obiwan.dplearn.twosample.ranking.clustered_variance`: a quantity that is nearly the same all over a brick
is worth no more than the bricks, and where both classes are found in every brick, what the brick does to
both of them cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, ncx2, rankdata

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.twosample.ranking import Estimate, Measured
from obiwan.dplearn.twosample.ranks import cluster_numbers

HUBER = 1.5  #: residuals beyond so many robust standard deviations pull no harder
DRAWS = 5000  #: tables drawn for an association in which too few are expected in a cell
_BLOCK = 500  # of them at a time
_LEAST_EXPECTED = 5.0  #: in every cell, for chi-square to be used instead
_EVERY = (0.95, -np.inf, np.inf)  # coverage, and the range of numbers that have none
MOMENTS = ("location", "spread", "skewness")  #: of ranks, that are compared


@dataclass(frozen=True)
class Contrast:
    """One difference between the classes.

    Attributes
    ----------
    name : str
        What differs: one of `MOMENTS`, or a value of a label.
    difference : Measured
        Fake less real, with its clustered error.
    pulls : ndarray, shape (n,)
        What each example adds to the difference; their sum is the difference.
    """

    name: str
    difference: Measured
    pulls: Array

    @property
    def interval(self) -> Estimate:
        """95 % interval of the difference."""
        return self.difference.interval(*_EVERY)


def _scale(residuals: Array) -> float:
    """Robust standard deviation: 1.4826 times the median absolute deviation; 0 of values that are equal."""
    return 1.4826 * float(np.median(np.abs(residuals))) or float(np.std(residuals))


def location(values: Array, scale: float | None = None) -> tuple[float, Array]:
    """Huber's M-estimate of location, and what each value adds to its error.

    Values within `HUBER` robust standard deviations (1.4826 times the median absolute deviation) count as in
    a mean, those beyond as if they were there: blends and cosmic rays cannot carry it off.

    Parameters
    ----------
    values : ndarray, shape (n,)
    scale : float, optional
        Robust standard deviation; that of the values themselves by default.  The error takes it as known.

    Examples
    --------
    >>> location(np.array([1.0, 2.0, 3.0, 4.0, 1000.0]))[0]
    3.05...
    """
    centre = float(np.median(values))
    scale = _scale(values - centre) if scale is None else scale
    if scale == 0:
        return centre, np.zeros(len(values))
    for _ in range(50):
        residual = (values - centre) / scale
        pull = np.clip(residual, -HUBER, HUBER)
        step = scale * float(pull.mean()) / max(float((np.abs(residual) < HUBER).mean()), 0.1)
        centre += step
        if abs(step) < 1e-9 * scale:
            break
    free = max(float((np.abs(residual) < HUBER).mean()), 0.1)
    return centre, scale * (pull - pull.mean()) / free / len(values)


def _pulls(influence: Array, places: tuple[float, float], fake: Array) -> Array:
    """What examples add to the difference of two places, if the middle of both is where it is 0."""
    middle = (places[0] + places[1]) / 2
    count = np.where(fake, fake.sum(), (~fake).sum())
    sign = np.where(fake, 1.0, -1.0)
    return np.asarray(influence + sign * (np.where(fake, places[1], places[0]) - middle) / count)


def shift(values: Array, fake: Array, bricks: Array | None) -> tuple[Contrast, Estimate, Estimate]:
    """Compare the locations of the two classes.

    Both have one scale, that of residuals from the medians of their classes.  With a scale of its own each
    location of a skewed quantity would vary with the error of that scale, which the clustered error does not
    contain, and which cancels in the difference if the scale is one.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        Finite.
    fake : ndarray of bool, shape (n,)
    bricks : ndarray, shape (n,), optional
        What errors rest on; single examples without.

    Returns
    -------
    difference : Contrast
        Fake less real.
    real, fake : Estimate
        Each class, with 95 % intervals.
    """
    places, ends, sums = list[float](), list[Estimate](), np.zeros(len(values))
    scale = _scale(values - np.where(fake, np.median(values[fake]), np.median(values[~fake])))
    for members, sign in ((~fake, -1), (fake, 1)):
        influence = np.zeros(len(values))
        place, influence[members] = location(values[members], scale)
        places.append(place)
        ends.append(Measured.of(place, influence, fake, bricks).interval(*_EVERY))
        sums += sign * influence
    # Quantities that take one value in each class: no scatter, and nothing to doubt.
    apart = Measured.of(places[1] - places[0], sums, fake, bricks, 1e-12)
    return Contrast(MOMENTS[0], apart, _pulls(sums, (places[0], places[1]), fake)), ends[0], ends[1]


def place(values: Array, bricks: Array | None) -> Contrast:
    """Location of one class, as a difference from 0.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        Finite.
    bricks : ndarray, shape (n,), optional
        Two at least, on which the error rests; single examples without.

    Examples
    --------
    >>> found = place(np.array([0.9, 1.1, 1.0, 1.0]), None)
    >>> round(found.difference.value, 3), found.difference.freedom, round(float(found.pulls.sum()), 3)
    (1.0, 3, 1.0)
    """
    value, influence = location(values)
    groups = cluster_numbers(bricks, len(values))
    sums = np.bincount(groups, influence)
    error = float(np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()))
    return Contrast(
        MOMENTS[0], Measured(value, max(error, 1e-12), len(sums) - 1), influence + value / len(values)
    )


def moments(values: Array, fake: Array, bricks: Array | None) -> tuple[Contrast, ...]:
    """Compare location, spread and skewness of the ranks of the two classes.

    Ranks of all examples together, as u in 0..1, are compared by their first three Legendre polynomials,
    the components of Neyman's (1937, Skand. Aktuarietidskr. 20, 149) smooth test.  Each is a difference of
    means in units of an AUC: for the location it is the AUC of the number by itself, less 0.5; the others
    are scaled to the same variance.

    Examples
    --------
    >>> found = moments(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True]), None)
    >>> [round(one.difference.value, 3) for one in found]
    [0.25, 0.0, 0.203]
    """
    u = (rankdata(values) - 0.5) / len(values)
    polynomials = (2 * u - 1, 6 * u**2 - 6 * u + 1, 20 * u**3 - 30 * u**2 + 12 * u - 1)
    scaled = (np.sqrt((2 * k + 1) / 12) * one for k, one in enumerate(polynomials, 1))
    return tuple(_means(name, one, fake, bricks) for name, one in zip(MOMENTS, scaled, strict=True))


def fractions(keys: Array, fake: Array, bricks: Array | None) -> tuple[Contrast, ...]:
    """Compare the fraction of each value of a label, with clustered errors.

    Chi-square would take the examples of a brick for independent.
    """
    kinds = np.unique(keys)
    names = [kind.decode() if isinstance(kind, bytes) else str(kind) for kind in kinds.tolist()]
    return tuple(
        _means(name.strip(), (keys == kind).astype(float), fake, bricks)
        for name, kind in zip(names, kinds, strict=True)
    )


def _means(name: str, values: Array, fake: Array, bricks: Array | None) -> Contrast:
    """Difference of the means of quantities of order 1, uncertain by half an example at least."""
    places = (float(values[~fake].mean()), float(values[fake].mean()))
    count = np.where(fake, fake.sum(), (~fake).sum())
    influence = (values - np.where(fake, places[1], places[0])) / np.where(fake, count, -count)
    least = 0.5 / int(count.min())
    apart = Measured.of(places[1] - places[0], influence, fake, bricks, least)
    return Contrast(name, apart, _pulls(influence, places, fake))


def association(keys: Array, fake: Array, rng: np.random.Generator) -> tuple[Estimate, float]:
    """Whether the fraction of injected galaxies depends on a label such as the brick.

    Parameters
    ----------
    keys : ndarray, shape (n,)
        The label of each example.
    fake : ndarray of bool, shape (n,)
    rng : numpy.random.Generator
        For tables drawn with the same margins, where chi-square would not do.

    Returns
    -------
    effect : Estimate
        Cramer's V free of the bias that chance gives it (Bergsma 2013, J. Korean Stat. Soc. 42, 323); its
        95 % interval is that of the noncentrality of chi-square (Steiger 2004, Psychol. Methods 9, 164).
    p : float
    """
    key = np.unique(keys, return_inverse=True)[1].ravel()
    total = np.bincount(key)
    n, fakes = len(key), int(fake.sum())
    share = fakes / n
    if len(total) == 1:
        return Estimate(0.0, 0.0, 0.0), 1.0

    def statistic(fakes_in: Array) -> Any:
        return ((fakes_in - total * share) ** 2 / (total * share * (1 - share))).sum(-1)

    found = float(statistic(np.bincount(key[fake], minlength=len(total))))
    columns = len(total) - 1
    excess = max(0.0, found / n - columns / (n - 1))
    low, high = (np.sqrt(noncentrality(found, columns, tail) / n) for tail in (0.975, 0.025))
    value = float(np.sqrt(excess / max(1 - 1 / (n - 1), 0.5)))
    effect = Estimate(value, min(float(low), value), max(float(high), value))
    if total.min() * min(share, 1 - share) >= _LEAST_EXPECTED:
        return effect, float(chi2.sf(found, columns))
    above = 0
    for _ in range(DRAWS // _BLOCK):
        drawn = rng.multivariate_hypergeometric(total, fakes, _BLOCK)
        above += int((statistic(drawn) >= found * (1 - 1e-12)).sum())
    return effect, (1 + above) / (1 + DRAWS)


def noncentrality(statistic: float, freedom: int, below: float) -> float:
    """Noncentrality with which chi-square is below the statistic with this probability; not below 0.

    Examples
    --------
    >>> round(noncentrality(20.0, 3, 0.975), 2), noncentrality(1.0, 3, 0.975)
    (4.82, 0.0)
    """
    if chi2.cdf(statistic, freedom) <= below:
        return 0.0
    most = (np.sqrt(statistic) + 10) ** 2 + freedom
    return float(brentq(lambda one: float(ncx2.cdf(statistic, freedom, one)) - below, 0.0, most))
