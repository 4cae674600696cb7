"""How one number differs between two classes whose examples share bricks.

The tests are studentised by what whole bricks contribute, as in
`obiwan.dplearn.twosample.ranking.clustered_variance`: a quantity that is nearly the same all over a brick
is worth no more than the bricks, and where both classes are found in every brick, what the brick does to
both of them cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, rankdata

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.twosample import usable_bricks
from obiwan.dplearn.twosample.ranking import Estimate, Measured, clusters_of_rarer

Floats = NDArray[np.float64]

HUBER = 1.5  #: residuals beyond so many robust standard deviations pull no harder
DRAWS = 5000  #: tables drawn for an association in which too few are expected in a cell
_BLOCK = 500  # of them at a time
_LEAST_EXPECTED = 5.0  #: in every cell, for chi-square to be used instead


@dataclass(frozen=True)
class Groups:
    """Which examples are fake, and which are not independent of one another.

    Attributes
    ----------
    fake : ndarray of bool, shape (n,)
    number : ndarray of int or None
        The brick of each example, from 0; None where intervals rest on single examples.
    """

    fake: NDArray[np.bool_]
    number: NDArray[np.intp] | None

    @classmethod
    def of(cls, label: Array, bricks: Array) -> Groups:
        """Cluster by brick where each class is found in enough of them, else not at all."""
        used = usable_bricks(label, bricks)
        number = None if used is None else np.unique(used, return_inverse=True)[1].ravel()
        return cls(np.asarray(label) == 1, number)

    def freedom(self) -> int:
        """Degrees of freedom: one less than the clusters of the class that is found in fewer."""
        return clusters_of_rarer(self.fake, self.number) - 1

    def difference(self, value: float, influence: Floats, least: float = 0.0) -> Measured:
        """An estimate with its standard error (not below `least`) from what each example adds to it."""
        return Measured.of(value, influence, self.fake, self.number, least)


@dataclass(frozen=True)
class Shift:
    """Where a quantity lies in each class.

    Attributes
    ----------
    difference, real, fake : Estimate
        Fake less real, and each class, with 95 % intervals.
    p : float
        Two-sided, for no difference.
    """

    difference: Estimate
    real: Estimate
    fake: Estimate
    p: float


def location(values: Floats) -> tuple[float, Floats]:
    """Huber's M-estimate of location, and what each value adds to its error.

    Values within `HUBER` robust standard deviations (1.4826 times the median absolute deviation) count as in
    a mean, those beyond as if they were there: blends and cosmic rays cannot carry it off.

    Examples
    --------
    >>> location(np.array([1.0, 2.0, 3.0, 4.0, 1000.0]))[0]
    3.05...
    """
    centre = float(np.median(values))
    scale = 1.4826 * float(np.median(np.abs(values - centre))) or float(np.std(values))
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


def shift(values: Floats, groups: Groups) -> Shift:
    """Compare the locations of the two classes.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        Finite.
    groups : Groups
        Of the same examples.
    """
    influence = np.zeros(len(values))
    found = {}
    for fake in (False, True):
        members = groups.fake == fake
        found[fake], influence[members] = location(values[members])
    own = {fake: np.where(groups.fake == fake, influence, 0) for fake in found}
    one = {fake: groups.difference(found[fake], own[fake]).interval(0.95, -np.inf, np.inf) for fake in found}
    # Quantities that take one value in each class: no scatter, and nothing to doubt.
    apart = groups.difference(found[True] - found[False], np.where(groups.fake, influence, -influence), 1e-12)
    return Shift(
        apart.interval(0.95, -np.inf, np.inf), one[False], one[True], apart.p_value(0.0, "two-sided")
    )


def ks_distance(values: Floats, fake: NDArray[np.bool_]) -> float:
    """Greatest distance between the classes' cumulative distributions (Kolmogorov and Smirnov).

    Examples
    --------
    >>> ks_distance(np.array([1.0, 1.0, 2.0, 2.0]), np.array([False, False, False, True]))
    0.666...
    """
    fakes, reals = _cumulative(values, fake)
    return float(np.abs(fakes / fakes[-1] - reals / reals[-1]).max())


def distance_beyond_chance(values: Floats, fake: NDArray[np.bool_]) -> float:
    """Kolmogorov-Smirnov distance less what chance gives to equal distributions, in squares; not below 0.

    Two hundred examples of a class are by chance some 0.09 apart: what is called an effect must not be the
    number of examples.  The mean square of the distance under the null is pi^2/12 (1/n0 + 1/n1) where values
    are continuous; where they are few, it is no more than the sum of F (1 - F) over the steps of the common
    distribution F, times the same.

    Examples
    --------
    >>> distance_beyond_chance(np.array([1.0, 1.0, 2.0, 2.0] * 50), np.arange(200) < 100)
    0.0
    >>> round(distance_beyond_chance(np.array([1.0, 2.0] * 50), np.arange(100) % 2 == 0), 3)
    0.995
    """
    fakes, reals = _cumulative(values, fake)
    common = (fakes + reals) / len(values)
    scatter = min(np.pi**2 / 12, float((common * (1 - common)).sum()))
    squared = ks_distance(values, fake) ** 2 - scatter * (1 / fakes[-1] + 1 / reals[-1])
    return float(np.sqrt(max(squared, 0.0)))


def _cumulative(values: Floats, fake: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """How many fakes and reals have a value up to each of those that occur."""
    level = np.unique(values, return_inverse=True)[1].ravel()
    fakes, reals = (np.bincount(level[members], minlength=level.max() + 1) for members in (fake, ~fake))
    return np.cumsum(fakes), np.cumsum(reals)


def distribution_pvalue(values: Floats, groups: Groups) -> float:
    """Probability, were the two distributions equal, of a difference as clear as this one.

    Ranks of all examples together, as u in 0..1, are compared by their first three Legendre polynomials:
    location, spread and skewness, the components of Neyman's (1937) smooth test.  Each is a
    difference of means with a clustered error; the least of the three p-values is multiplied by 3.
    """
    u = (rankdata(values) - 0.5) / len(values)
    components = (2 * u - 1, 6 * u**2 - 6 * u + 1, 20 * u**3 - 30 * u**2 + 12 * u - 1)
    return min(1.0, 3 * min(_mean_pvalue(component, groups) for component in components))


def composition_pvalue(keys: Array, groups: Groups) -> float:
    """Probability, were all values of a label equally frequent in both classes, of such a difference.

    The share of each is compared with a clustered error, and the least p-value multiplied by their number
    (Bonferroni).  Chi-square would take the examples of a brick for independent.
    """
    kinds = np.unique(keys)
    if len(kinds) == 1:
        return 1.0
    return min(1.0, len(kinds) * min(_mean_pvalue((keys == k).astype(float), groups) for k in kinds))


def _mean_pvalue(values: Floats, groups: Groups) -> float:
    """Two-sided, for equal means of quantities of order 1, uncertain by half an example at least."""
    fakes, reals = groups.fake.sum(), (~groups.fake).sum()
    means = {fake: float(values[groups.fake == fake].mean()) for fake in (False, True)}
    rest = values - np.where(groups.fake, means[True], means[False])
    influence = rest / np.where(groups.fake, fakes, -reals)
    least = 0.5 / min(fakes, reals)
    return groups.difference(means[True] - means[False], influence, least).p_value(0.0, "two-sided")


def association(keys: Array, fake: NDArray[np.bool_], rng: np.random.Generator) -> tuple[float, float]:
    """Whether the share of fakes depends on a label such as the brick.

    Parameters
    ----------
    keys : ndarray, shape (n,)
        The label of each example.
    fake : ndarray of bool, shape (n,)
    rng : numpy.random.Generator
        For tables drawn with the same margins, where chi-square would not do.

    Returns
    -------
    effect : float
        Cramer's V free of the bias that chance gives it (Bergsma 2013, J. Korean Stat. Soc. 42, 323).
    p : float
    """
    key = np.unique(keys, return_inverse=True)[1].ravel()
    total = np.bincount(key)
    n, fakes = len(key), int(fake.sum())
    share = fakes / n
    if len(total) == 1:
        return 0.0, 1.0

    def statistic(fakes_in: Array) -> Any:
        return ((fakes_in - total * share) ** 2 / (total * share * (1 - share))).sum(-1)

    found = float(statistic(np.bincount(key[fake], minlength=len(total))))
    columns = len(total) - 1
    excess = max(0.0, found / n - columns / (n - 1))
    effect = np.sqrt(excess / max(1 - 1 / (n - 1), 0.5))
    if total.min() * min(share, 1 - share) >= _LEAST_EXPECTED:
        return float(effect), float(chi2.sf(found, columns))
    above = 0
    for _ in range(DRAWS // _BLOCK):
        drawn = rng.multivariate_hypergeometric(total, fakes, _BLOCK)
        above += int((statistic(drawn) >= found * (1 - 1e-12)).sum())
    return float(effect), (1 + above) / (1 + DRAWS)
