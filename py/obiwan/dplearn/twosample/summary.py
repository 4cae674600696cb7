"""Accuracy and AUC of scores, with intervals, tests and the AUC that a test detects.

Labels are 0 (real) and 1 (fake); a score is the higher the more an example looks fake.
`doc/explanation/two-sample-test.rst` says what each number means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, norm
from scipy.stats import t as student

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.twosample.ranking import Estimate, auc_interval, bricks_of_rarer, checked, measure_auc
from obiwan.dplearn.twosample.ranks import cluster_numbers

#: Two-sided level at which a ruling (`obiwan.dplearn.evaluation.ruling`) tests a score, and power is told.
TESTED_AT = 0.04
LEAST_CLUSTERS = 5  #: bricks of which each class must be found in so many, for the interval to rest on bricks
FEW_BRICKS = 10  #: with fewer the width of an interval over bricks is uncertain by more than 20 %


def score_interval(share: float, trials: float, level: float = 0.95, freedom: float = np.inf) -> Estimate:
    """Score interval of a proportion in so many (effective) trials (Wilson 1927, JASA 22, 209).

    With Student's quantile where their number rests on an estimate of so many degrees of freedom.

    Examples
    --------
    >>> score_interval(81 / 263, 263)
    Estimate(value=0.307..., low=0.255..., high=0.366...)
    """
    z2 = float(student.ppf(0.5 + level / 2, freedom)) ** 2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = np.sqrt(z2 * (share * (1 - share) + z2 / (4 * trials)) / trials) / (1 + z2 / trials)
    return Estimate(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def usable_bricks(labels: Array, bricks: Array | None, least: int = LEAST_CLUSTERS) -> Array | None:
    """The bricks if each class is in as many or more, for an interval to rest on; else None."""
    return None if bricks is None or bricks_of_rarer(labels, bricks) < least else bricks


@dataclass(frozen=True)
class AccuracyTest:
    """Accuracy with its test against chance.

    Attributes
    ----------
    accuracy : Estimate
        Fraction of examples called what they are.
    no_information : float
        Accuracy of calling everything by the name of the most numerous class.
    z, p : float
        TPR + TNR - 1 in units of its standard error, and the one-sided probability of that much by chance.
    tpr, tnr : float
        Fraction of the fakes called fake, and of the reals called real.
    p_no_information : float
        One-sided exact binomial probability of so many correct calls at the no-information rate, for
        independent examples.
    """

    accuracy: Estimate
    no_information: float
    z: float
    p: float
    tpr: float
    tnr: float
    p_no_information: float


def accuracy_test(labels: Array, predicted_fake: Array, bricks: Array | None = None) -> AccuracyTest:
    """Accuracy of calls against the no-information rate.

    Parameters
    ----------
    labels : ndarray
        Real = 0, fake = 1.
    predicted_fake : ndarray of bool
        Whether each example is called fake.
    bricks : ndarray, optional
        The brick of each example; used for the interval and z where each class is in at least
        `LEAST_CLUSTERS`.

    Returns
    -------
    AccuracyTest
        z is (TPR + TNR - 1)/sqrt(TPR (1 - TPR)/n1 + TNR (1 - TNR)/n0), for class counts that are fixed and
        not drawn; the usual binomial test against 1/2 is too cautious for calls that favour a class.  With
        bricks its denominator is that of the AUC of the calls, which is (TPR + TNR)/2.  The interval is
        Wilson's, with bricks for as many examples as these are worth, and Student's quantile.
    """
    fake, calls = checked(labels, predicted_fake)
    bricks = usable_bricks(fake, bricks)
    n1, n0, n = int(fake.sum()), int((~fake).sum()), len(fake)
    tpr, tnr = float(calls[fake].mean()), float(1 - calls[~fake].mean())
    correct = (calls == 1) == fake
    most = max(n0, n1) / n
    error = np.sqrt(tpr * (1 - tpr) / n1 + tnr * (1 - tnr) / n0)
    freedom = None
    if bricks is not None:
        measured = measure_auc(labels, calls, bricks)
        error, freedom = 2 * measured.error, measured.freedom
    if error == 0:  # all calls are right, all are wrong, or all are the same: the variance under chance
        error = np.sqrt(calls.mean() * (1 - calls.mean()) * (1 / n0 + 1 / n1))
    constant = calls.min() == calls.max()
    z = 0.0 if constant else float((tpr + tnr - 1) / error)
    chance = 1.0 if constant else float(norm.sf(z) if freedom is None else student.sf(z, freedom))
    exact = float(binom.sf(correct.sum() - 1, n, most))
    return AccuracyTest(_share_interval(correct, bricks), most, z, chance, tpr, tnr, exact)


def _share_interval(correct: Array, bricks: Array | None) -> Estimate:
    """A proportion with its score interval, for as many examples as those in bricks are worth."""
    share, n = float(correct.mean()), len(correct)
    if bricks is None or share in (0, 1):
        return score_interval(share, n)
    sums = np.bincount(cluster_numbers(bricks, n), correct - share)
    effect = (sums @ sums) * len(sums) / (len(sums) - 1) / (n * share * (1 - share))
    return score_interval(share, n / max(1.0, float(effect)), freedom=len(sums) - 1)


def holm(p: Array) -> Array:
    """p-values corrected for their number (Holm 1979, Scand. J. Stat. 6, 65).

    Parameters
    ----------
    p : ndarray
        p-values; NaN for a test that was not run, which does not count.

    Returns
    -------
    ndarray
        Adjusted p-values in the same order: rejecting those below a level errs in any of them at most that
        often.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03, 0.005]))
    array([0.03, 0.06, 0.06, 0.02])
    """
    p = np.asarray(p, np.float64)
    run = ~np.isnan(p)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: run.sum()]  # NaN comes last
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


def detectable_excess(
    real: int,
    fake: int,
    effect: float = 1.0,
    level: float = TESTED_AT,
    power: float = 0.8,
    freedom: float = np.inf,
) -> float:
    """Least excess of the AUC over 0.5 that a two-sided test detects with this power.

    Parameters
    ----------
    real, fake : int
        Test examples of each class.
    effect : float
        The `design_effect` of examples that share bricks.
    level, power : float
        Of the test.
    freedom : float
        Degrees of freedom of the standard error; few bricks need a larger excess.

    Examples
    --------
    >>> round(detectable_excess(20_000, 20_000), 4)
    0.0084
    """
    sigma = np.sqrt(effect * (real + fake + 1) / (12 * real * fake))
    # Student's quantile for the power too is good to a few hundredths of it, down to five bricks.
    return float((student.ppf(1 - level / 2, freedom) + student.ppf(power, freedom)) * sigma)


@dataclass(frozen=True)
class Answer:
    """Accuracy and AUC of a scored split.

    Attributes
    ----------
    real, fake : int
        Examples of each class.
    accuracy : Estimate
        Fraction of examples on their side of a score of 0.5.
    majority : float
        What guessing the most numerous class gets.
    auc : Estimate
        Area under the ROC curve.
    bricks : int
        Bricks that the AUC's interval rests on; 0 where it rests on examples.
    """

    real: int
    fake: int
    accuracy: Estimate
    majority: float
    auc: Estimate
    bricks: int


def answer(labels: Array, scores: Array, bricks: Array | None = None) -> Answer:
    """Accuracy and AUC of probabilities of being fake.

    Parameters
    ----------
    labels, scores : ndarray
        One per example; scores in 0..1.
    bricks : ndarray, optional
        Names; the interval rests on them where each class is found in at least `LEAST_CLUSTERS`.
    """
    fake, scores = checked(labels, scores)
    bricks = usable_bricks(fake, bricks)
    n_fake, n = int(fake.sum()), len(fake)
    return Answer(
        real=n - n_fake,
        fake=n_fake,
        accuracy=_share_interval((scores > 0.5) == fake, bricks),
        majority=max(n_fake, n - n_fake) / n,
        auc=auc_interval(labels, scores, bricks),
        bricks=0 if bricks is None else len(np.unique(bricks)),
    )
