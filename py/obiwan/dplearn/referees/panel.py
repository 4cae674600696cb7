"""Panel of referees: the members' log odds, combined by a logistic regression on the validation split.

The combination is declared before the test split is scored; members' own AUCs describe and do not decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from obiwan.dplearn.referees.scores import logistic
from obiwan.dplearn.stampspec import Array

STRENGTH = 1.0  #: inverse of the ridge penalty on the members' log odds
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
    """Combine members by a logistic regression.

    Parameters
    ----------
    members : sequence of str
        Names.
    probabilities : ndarray, shape (members, n)
        Of being fake, on the validation split.
    labels : ndarray, shape (n,)
        Real = 0, fake = 1.
    """
    weights, intercept = logistic(log_odds(probabilities).T, labels, STRENGTH)
    return Panel(tuple(members), tuple(float(weight) for weight in weights), intercept)
