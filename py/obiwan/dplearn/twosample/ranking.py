"""Area under the ROC curve (AUC), also within strata, its error, and the design effect of shared bricks.

Labels are 0 (real) and 1 (fake); a score is the higher the more an example looks fake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import mannwhitneyu
from scipy.stats import t as student

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.twosample.ranks import cluster_numbers, count_different, placements

GUESS = 0.5  #: AUC of a score without information


@dataclass(frozen=True)
class Estimate:
    """A number and its interval.

    Attributes
    ----------
    value, low, high : float
        The estimate and the ends of the interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """A number with its standard error.

    Attributes
    ----------
    value, error : float
        The estimate and its standard error.
    freedom : int
        Degrees of freedom of the standard error.
    """

    value: float
    error: float
    freedom: int

    @classmethod
    def of(
        cls, value: float, influence: Array, fake: Array, clusters: Array | None, least: float = 0.0
    ) -> Measured:
        """A number with the error that `clustered_variance` gives it, no less than `least`."""
        groups = cluster_numbers(clusters, len(fake))
        error = float(np.sqrt(clustered_variance(fake, influence, groups)))
        # Where the fakes are in 5 bricks and the reals in 60 others, it is the 5 that limit.
        return cls(value, max(error, least), bricks_of_rarer(fake, groups) - 1)

    def interval(self, level: float = 0.95, least: float = 0.0, most: float = 1.0) -> Estimate:
        """Student's interval of this coverage, cut at the ends of the possible range."""
        half = float(student.ppf(0.5 + level / 2, self.freedom)) * self.error
        return Estimate(self.value, max(least, self.value - half), min(most, self.value + half))

    def p_value(self, null: float = GUESS, alternative: str = "greater") -> float:
        """Probability of a value as far from `null` as this one, were `null` the truth."""
        distance = (self.value - null) / self.error
        above, below = (float(tail(distance, self.freedom)) for tail in (student.sf, student.cdf))
        return {"greater": above, "less": below, "two-sided": 2 * min(above, below)}[alternative]


def checked(labels: Array, scores: Array) -> tuple[Array, Array]:
    """Labels as booleans (fake), and scores as float64, or as they are where they are whole numbers (ranks).

    Raises
    ------
    ValueError
        If a label is neither 0 nor 1, a class is absent, or a score is not finite.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    fake = labels == 1
    if not (fake | (labels == 0)).all() or fake.all() or not fake.any():
        msg = "labels must be 0 and 1, with at least one of each"
        raise ValueError(msg)
    if scores.dtype.kind in "biu":
        return fake, scores
    scores = scores.astype(np.float64, copy=False)
    if not np.isfinite(scores).all():
        msg = f"{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} scores are not finite"
        raise ValueError(msg)
    return fake, scores


def bricks_of_rarer(labels: Array, bricks: Array) -> int:
    """Number of bricks of the class that is found in fewer."""
    fake, bricks = np.asarray(labels) == 1, np.asarray(bricks)
    return min(count_different(bricks[members]) for members in (fake, ~fake))


def clustered_variance(fake: Array, influence: Array, groups: Array) -> float:
    """Variance of an estimate that is the truth plus the sum of one independent contribution per group.

    Obuchowski's (1997, Biometrics 53, 567) sum over clusters of what fakes and reals of the cluster
    contribute, with the covariance of the two; of single examples DeLong's (1988, Biometrics 44, 837).

    Parameters
    ----------
    fake : ndarray of bool, shape (n,)
        The class.
    influence : ndarray, shape (n,)
        What each example adds to the estimate; sums to zero over each class.
    groups : ndarray of int, shape (n,)
        The cluster of each example, from 0.

    Raises
    ------
    ValueError
        If the examples of a class are all in one cluster.
    """
    count = int(groups.max()) + 1
    sums, factors = [], []
    for name, members in (("fake", fake), ("real", ~fake)):
        holding = np.count_nonzero(np.bincount(groups[members]))
        if holding < 2:
            msg = f"{name} examples: there is one, or all are in one cluster; no variance can be estimated"
            raise ValueError(msg)
        sums.append(np.bincount(groups[members], influence[members], count))
        factors.append(holding / (holding - 1))
    (a, b), (ca, cb) = sums, factors
    return max(0.0, float(ca * (a @ a) + cb * (b @ b) + 2 * count / (count - 1) * (a @ b)))


def _auc_influence(fake: Array, scores: Array) -> tuple[float, Array]:
    """The AUC, and what each example adds to its error."""
    placed = placements(fake, scores)
    value = float(placed[fake].mean())
    return value, (placed - value) / np.where(fake, fake.sum(), (~fake).sum())


def auc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve by mid-ranks: the probability that a fake scores above a real one, ties half.

    Examples
    --------
    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    fake, scores = checked(labels, scores)
    return float(placements(fake, scores)[fake].mean())


def measure_auc(labels: Array, scores: Array, clusters: Array | None = None) -> Measured:
    """AUC with the standard error of `auc_interval`."""
    fake, scores = checked(labels, scores)
    value, influence = _auc_influence(fake, scores)
    # A perfect separation has no spread to estimate from: no less than one example's worth of doubt.
    least = 1 / (2 * int(min(fake.sum(), (~fake).sum())))
    return Measured.of(value, influence, fake, clusters, least)


def auc_interval(
    labels: Array, scores: Array, clusters: Array | None = None, level: float = 0.95
) -> Estimate:
    """AUC with an interval that allows for correlations within bricks.

    Parameters
    ----------
    labels, scores : ndarray
        One of each per example.
    clusters : ndarray, optional
        The brick of each example; examples of one brick share sky, depth and PSF and are not independent.
        Without it every example stands for itself.
    level : float
        Coverage.

    Returns
    -------
    Estimate
        The interval is DeLong's (DeLong et al. 1988, Biometrics 44, 837), in Obuchowski's form for clustered
        data (1997, Biometrics 53, 567) with Student's t for the number of clusters that hold the class
        which is found in fewer.

    Raises
    ------
    ValueError
        If there are not two classes, or too few clusters for a variance.
    """
    return measure_auc(labels, scores, clusters).interval(level)


def auc_difference(labels: Array, scores: Array, others: Array, clusters: Array | None = None) -> Measured:
    """Difference of two AUCs on the same examples, paired; each is a mean over trainings.

    Parameters
    ----------
    labels : ndarray, shape (n,)
    scores, others : ndarray, shape (trainings, n)
        Scores of networks of one kind and of another, trained with the same seeds.
    clusters : ndarray, optional
        As in `auc_interval`.

    Returns
    -------
    Measured
        Of `scores` less `others`.  The variance is DeLong's for correlated AUCs, in Obuchowski's form, and
        with two or more trainings that of their differences over their number; the degrees of freedom of
        the sum are those of Satterthwaite (1946, Biometrics Bulletin 2, 110).
    """
    fake = np.asarray(labels) == 1
    pairs = [[_auc_influence(*checked(labels, one)) for one in some] for some in (scores, others)]
    values = np.array([[value for value, _ in some] for some in pairs])
    influence = np.mean([[part for _, part in some] for some in pairs], axis=1)
    differences, n = values[0] - values[1], len(values[0])
    found = Measured.of(float(differences.mean()), influence[0] - influence[1], fake, clusters)
    if n == 1:
        return found
    own, between = found.error**2, float(differences.var(ddof=1)) / n
    if own + between == 0:
        return found
    freedom = (own + between) ** 2 / (own**2 / found.freedom + between**2 / (n - 1))
    return Measured(found.value, float(np.sqrt(own + between)), max(1, int(freedom)))


def mean_of(parts: Sequence[Measured]) -> Measured:
    """Mean of measurements on different clusters, whose errors are independent (freedom of Satterthwaite)."""
    variances = np.array([part.error**2 for part in parts])
    freedoms = np.array([part.freedom for part in parts])
    value, total = float(np.mean([part.value for part in parts])), float(variances.sum())
    freedom = total**2 / float((variances**2 / freedoms).sum()) if total > 0 else freedoms.min()
    return Measured(value, float(np.sqrt(total)) / len(parts), max(1, int(freedom)))


def auc_pvalue(
    labels: Array, scores: Array, clusters: Array | None = None, alternative: str = "greater"
) -> float:
    """p-value of the hypothesis that the AUC is 0.5.

    Without clusters the rank-sum test of Mann & Whitney (1947) by SciPy, whose variance under the
    hypothesis is (n + 1)/(12 n0 n1) less what ties take; with clusters Student's t on the standard error of
    `auc_interval`. The hypothesis with clusters is wider: a class may look more fake in one brick and less
    in another, as long as that averages out over the sky.

    Parameters
    ----------
    labels, scores, clusters : ndarray
        As in `auc_interval`.
    alternative : str
        ``greater`` (fakes score higher), ``less`` or ``two-sided``.
    """
    if clusters is not None:
        return measure_auc(labels, scores, clusters).p_value(GUESS, alternative)
    fake, scores = checked(labels, scores)
    if np.ptp(scores) == 0:
        return 1.0
    return float(
        mannwhitneyu(scores[fake], scores[~fake], alternative=alternative, method="asymptotic").pvalue
    )


def design_effect(labels: Array, scores: Array, bricks: Array) -> float:
    """Design effect: the variance of the AUC with bricks over that of independent examples.

    Above 1 where examples of a brick err together, below where fakes and reals of a brick move together and
    the comparison gains.  1 where there is no spread (constant scores, perfect separation).
    """
    fake, scores = checked(labels, scores)
    influence = _auc_influence(fake, scores)[1]
    numbers = (cluster_numbers(clusters, len(fake)) for clusters in (None, bricks))
    alone, clustered = (clustered_variance(fake, influence, groups) for groups in numbers)
    return clustered / alone if alone > 0 else 1.0


def usable_strata(fake: Array, strata: Array) -> Array:
    """Mask of examples in strata with two or more of each class: fewer have no variance."""
    counts = [np.bincount(strata[members], minlength=strata.max() + 1) for members in (fake, ~fake)]
    return np.minimum(*counts)[strata] >= 2


def stratified_auc(
    labels: Array, scores: Array, strata: Array, bricks: Array | None = None, level: float = 0.95
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
    fake, scores, numbers = fake[used], scores[used], numbers[used]
    bricks = None if bricks is None else np.asarray(bricks)[used]
    placed = placements(fake, scores, numbers)
    n1, n0 = (np.bincount(numbers[members], minlength=numbers.max() + 1) for members in (fake, ~fake))
    used, weight = n1 > 0, n0 * n1 / (n0 + n1 + 1)
    own = np.bincount(numbers[fake], placed[fake], len(n1)) / np.maximum(n1, 1)
    value, weights = (weight * own)[used].sum(), weight[used].sum()
    n = np.where(fake, n1[numbers], n0[numbers])
    influence = weight[numbers] * (placed - own[numbers]) / np.sqrt(n * (n - 1.0))
    least = 1 / (2 * int(min(fake.sum(), (~fake).sum())))
    return Measured.of(value / weights, influence / weights, fake, bricks, least).interval(level)
