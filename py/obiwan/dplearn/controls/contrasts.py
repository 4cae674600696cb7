"""How one number differs between two classes whose examples share bricks.

The tests are studentised by what whole bricks contribute, as in
`obiwan.dplearn.twosample.ranking.clustered_variance`: a quantity that is nearly the same all over a brick
is worth no more than the bricks, and where both classes are found in every brick, what the brick does to
both of them cancels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import chi2, ks_2samp, rankdata

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.twosample.ranking import Estimate, Measured

HUBER = 1.5  #: residuals beyond so many robust standard deviations pull no harder
DRAWS = 5000  #: tables drawn for an association in which too few are expected in a cell
_BLOCK = 500  # of them at a time
_LEAST_EXPECTED = 5.0  #: in every cell, for chi-square to be used instead


def location(values: Array) -> tuple[float, Array]:
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


def shift(values: Array, fake: Array, bricks: Array | None) -> tuple[Estimate, Estimate, Estimate, float]:
    """Compare the locations of the two classes.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        Finite.
    fake : ndarray of bool, shape (n,)
    bricks : ndarray, shape (n,), optional
        What errors rest on; single examples without.

    Returns
    -------
    difference, real, fake : Estimate
        Fake less real, and each class, with 95 % intervals.
    p : float
        Two-sided, for no difference.
    """
    every, places, sums, difference = (0.95, -np.inf, np.inf), [], np.zeros(len(values)), 0.0
    for members, sign in ((~fake, -1), (fake, 1)):
        influence = np.zeros(len(values))
        place, influence[members] = location(values[members])
        places.append(Measured.of(place, influence, fake, bricks).interval(*every))
        sums += sign * influence
        difference += sign * place
    # Quantities that take one value in each class: no scatter, and nothing to doubt.
    apart = Measured.of(difference, sums, fake, bricks, 1e-12)
    return apart.interval(*every), places[0], places[1], apart.p_value(0.0, "two-sided")


def distance_beyond_chance(values: Array, fake: Array) -> float:
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
    common = np.cumsum(np.unique(values, return_counts=True)[1]) / len(values)
    scatter = min(np.pi**2 / 12, float((common * (1 - common)).sum()))
    distance = ks_2samp(values[fake], values[~fake], method="asymp").statistic
    squared = distance**2 - scatter * (1 / fake.sum() + 1 / (~fake).sum())
    return float(np.sqrt(max(squared, 0.0)))


def distribution_pvalue(values: Array, fake: Array, bricks: Array | None) -> float:
    """Probability, were the two distributions equal, of a difference as clear as this one.

    Ranks of all examples together, as u in 0..1, are compared by their first three Legendre polynomials:
    location, spread and skewness, the components of Neyman's (1937) smooth test.  Each is a
    difference of means with a clustered error; the least of the three p-values is multiplied by 3.
    """
    u = (rankdata(values) - 0.5) / len(values)
    components = (2 * u - 1, 6 * u**2 - 6 * u + 1, 20 * u**3 - 30 * u**2 + 12 * u - 1)
    return min(1.0, 3 * min(_mean_pvalue(component, fake, bricks) for component in components))


def composition_pvalue(keys: Array, fake: Array, bricks: Array | None) -> float:
    """Probability, were all values of a label equally frequent in both classes, of such a difference.

    The share of each is compared with a clustered error, and the least p-value multiplied by their number
    (Bonferroni).  Chi-square would take the examples of a brick for independent.
    """
    kinds = np.unique(keys)
    if len(kinds) == 1:
        return 1.0
    return min(1.0, len(kinds) * min(_mean_pvalue((keys == k).astype(float), fake, bricks) for k in kinds))


def _mean_pvalue(values: Array, fake: Array, bricks: Array | None) -> float:
    """Two-sided, for equal means of quantities of order 1, uncertain by half an example at least."""
    fakes, reals = values[fake], values[~fake]
    rest = values - np.where(fake, fakes.mean(), reals.mean())
    influence = rest / np.where(fake, len(fakes), -len(reals))
    least, apart = 0.5 / min(len(fakes), len(reals)), float(fakes.mean() - reals.mean())
    return Measured.of(apart, influence, fake, bricks, least).p_value(0.0, "two-sided")


def association(keys: Array, fake: Array, rng: np.random.Generator) -> tuple[float, float]:
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
