"""Detection power of a test set against the amplitude of a planted difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from obiwan.dplearn.retraining.detectable import Detection, d_prime
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.differences import FACTOR, KINDS
from obiwan.dplearn.twosample.ranking import GUESS, Estimate

POWER = 0.8  #: with which the least detectable AUC is detected
POINTS = 61
BEYOND = 2.0  #: the curve ends at so many times the detectable amplitude


@dataclass(frozen=True)
class PowerCurve:
    """Probability of detection by the amplitude of one kind of difference.

    Attributes
    ----------
    kind : str
    amplitude : ndarray, shape (n,)
        In the unit of the kind, from none.
    power, low, high : ndarray, shape (n,)
        With the curves of the ends of the interval of the AUC that was measured.
    at : Estimate
        Amplitude that is detected with a power of 80 %.
    """

    kind: str
    amplitude: Array
    power: Array
    low: Array
    high: Array
    at: Estimate


def power_curve(found: Detection, detectable: float, level: float) -> PowerCurve | None:
    """Power against amplitude; None where the planted difference was not detected.

    d' is in proportion to the amplitude (to its logarithm where it is a factor), and the standard error of
    the AUC is that of the null hypothesis.

    Parameters
    ----------
    found : Detection
    detectable : float
        AUC that the test set detects with a power of 80 %.
    level : float
        Two-sided level of the test.
    """
    if not found.detected:
        return None
    at = found.at(detectable)
    factor = KINDS[found.kind].unit == FACTOR
    seen = [d_prime(auc) for auc in (found.auc.value, found.auc.low, found.auc.high)]
    planted, end = (np.log(found.amplitude), np.log(at.value)) if factor else (found.amplitude, at.value)
    steps = np.linspace(0, BEYOND * end, POINTS)
    beyond = norm.ppf(1 - level / 2)
    error = (detectable - GUESS) / (beyond + norm.ppf(POWER))
    power, low, high = (
        np.asarray(norm.cdf((norm.cdf(d * steps / planted / np.sqrt(2)) - GUESS) / error - beyond))
        for d in seen
    )
    return PowerCurve(found.kind, np.exp(steps) if factor else steps, power, low, high, at)
