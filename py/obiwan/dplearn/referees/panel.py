"""Panel of referees: the members' log odds, combined by a logistic regression on the validation split.

Few validation stamps say little of which member to believe.  The weights therefore have a prior, equal for
all members' log odds in units of their spread, that is worth a fixed number of stamps.

The combination is declared before the test split is scored; members' own AUCs describe and do not decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from obiwan.dplearn.stampspec import Array

PRIOR_STAMPS = 100  #: validation stamps that the prior of the weights is worth
PRIOR_WEIGHT = 0.5  #: sum of the members' weights in the prior, for log odds of unit spread
LIMIT = 8.0  #: log odds beyond which a member is not believed


@dataclass(frozen=True)
class Panel:
    """Combination of referees.

    Attributes
    ----------
    members : tuple of str
        Names.
    weights : tuple of float
        Of their log odds.
    intercept : float
    """

    members: tuple[str, ...]
    weights: tuple[float, ...]
    intercept: float

    def score(self, probabilities: Array) -> Array:
        """Probabilities of being fake, shape (n,), from those of the members, shape (members, n)."""
        return np.asarray(expit(log_odds(probabilities).T @ np.array(self.weights) + self.intercept))


def log_odds(probabilities: Array) -> Array:
    """Log odds of probabilities, at most `LIMIT`."""
    limit = expit(LIMIT)
    return np.asarray(logit(np.clip(np.asarray(probabilities, np.float64), 1 - limit, limit)))


def fit_panel(members: Sequence[str], probabilities: Array, labels: Array) -> Panel:
    """Combine members by a logistic regression with a prior on the weights.

    Parameters
    ----------
    members : sequence of str
        Names.
    probabilities : ndarray, shape (members, n)
        Of being fake, on the validation split.
    labels : ndarray, shape (n,)
        Real = 0, fake = 1.

    Notes
    -----
    Members differ in how far they shrink their log odds, so these are divided by their standard deviation.
    The prior is Gaussian around equal weights.  Its precision is `PRIOR_STAMPS` / 4, for a stamp tells of the
    weight of a number of unit variance with an information of at most 1/4.  A member that says the same of
    all stamps has no weight.
    """
    odds = log_odds(probabilities).T
    spread = odds.std(0)
    scale = np.divide(1, spread, out=np.zeros(len(spread)), where=spread > 0)
    weights, intercept = _logistic(odds * scale, labels, PRIOR_WEIGHT / len(spread), PRIOR_STAMPS / 4)
    return Panel(tuple(members), tuple(float(weight) for weight in weights * scale), intercept)


def _logistic(numbers: Array, labels: Array, centre: float, precision: float) -> tuple[Array, float]:
    """Coefficients and intercept of a logistic regression, the coefficients with a Gaussian prior.

    Parameters
    ----------
    numbers : ndarray, shape (n, k)
    labels : ndarray, shape (n,)
        0 or 1.
    centre, precision : float
        Of the prior of each coefficient.
    """

    def loss(line: Array) -> tuple[float, Array]:
        """Minus the log posterior of coefficients and intercept, and its gradient."""
        odds, aside = numbers @ line[:-1] + line[-1], line[:-1] - centre
        wrong = expit(odds) - labels
        value = (np.logaddexp(0, odds) - labels * odds).sum() + precision / 2 * aside @ aside
        return value, np.append(numbers.T @ wrong + precision * aside, wrong.sum())

    start = np.append(np.full(numbers.shape[1], centre), 0.0)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-13, "gtol": 1e-8})
    return found.x[:-1], float(found.x[-1])
