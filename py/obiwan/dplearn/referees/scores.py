"""Logistic referee: a logistic regression on scores of the population and of the noise.

For small differences of means, variances and noise it is near the ideal observer
(`obiwan.dplearn.referees.population`), and 2,000 training stamps suffice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from obiwan.dplearn.referees.features import Scaling, leftover_numbers, score_numbers
from obiwan.dplearn.referees.measured import Measured
from obiwan.dplearn.referees.numbers import MeasuredReferee, arrays_of, fields_of
from obiwan.dplearn.referees.population import Population, population_from
from obiwan.dplearn.stampspec import Array, StampSpec

STRENGTH = 0.002  #: inverse of the ridge penalty on coefficients of numbers of unit variance
#: Scale of what the fit leaves: a penalty 6 times as large.  Most of the numbers are such, and say nothing of
#: most differences; half of this scale would cost half of the d'^2 of an offset between bands, twice as much
#: some of that of a PSF difference.
LEFTOVER_SCALE = 0.4


@dataclass(frozen=True)
class ScoresReferee(MeasuredReferee):
    """Logistic regression on population and noise scores.

    Attributes
    ----------
    spec : StampSpec
    prior : tuple of str
        See `MeasuredReferee`.
    population : Population
        Of the training set.
    scaling, leftovers : Scaling
        Of the scores, and of what the fit leaves, the latter with a variance of `LEFTOVER_SCALE` squared.
    weights : ndarray, shape (k,)
        Coefficients of the scaled numbers.
    intercept : float
    learnt : bool
    """

    kind = "scores"

    spec: StampSpec
    prior: tuple[str, ...]
    population: Population
    scaling: Scaling
    leftovers: Scaling
    weights: Array
    intercept: float
    learnt: bool

    @classmethod
    def train(
        cls,
        measured: Measured,
        labels: Array,
        seed: int,  # noqa: ARG003
        population: Population | None = None,
    ) -> Self:
        """See `MeasuredReferee.train`."""
        population = population or measured.population
        scaling = Scaling.of(score_numbers(measured, population))
        leftovers = Scaling.of(leftover_numbers(measured))
        leftovers = replace(leftovers, deviation=leftovers.deviation / LEFTOVER_SCALE)
        numbers = _numbers(measured, population, scaling, leftovers)
        weights, intercept = logistic(numbers, labels, STRENGTH)
        # It is the optimum of a convex loss; on large sets of equal classes that gains next to nothing.
        learnt = bool(np.ptp(numbers @ weights + intercept) > 0)
        return cls(
            measured.fits.spec, measured.prior, population, scaling, leftovers, weights, intercept, learnt
        )

    def logits(self, measured: Measured) -> Array:
        """See `MeasuredReferee.logits`."""
        numbers = _numbers(measured, self.population, self.scaling, self.leftovers)
        return np.asarray(numbers @ self.weights + self.intercept)

    @property
    def content(self) -> Mapping[str, Array]:
        """See `MeasuredReferee.content`."""
        line = {"weights": self.weights, "intercept": np.asarray(self.intercept)}
        parts = ("population", "scaling", "leftovers")
        return line | {k: v for part in parts for k, v in arrays_of(getattr(self, part), part).items()}

    @classmethod
    def of(
        cls, spec: StampSpec, content: Mapping[str, Array], *, prior: tuple[str, ...], learnt: bool
    ) -> Self:
        """See `MeasuredReferee.of`."""
        population = population_from(fields_of(content, "population"))
        scaling, leftovers = (Scaling(**fields_of(content, part)) for part in ("scaling", "leftovers"))
        weights, intercept = content["weights"], float(content["intercept"])
        return cls(spec, prior, population, scaling, leftovers, weights, intercept, learnt)


def _numbers(measured: Measured, population: Population, scaling: Scaling, leftovers: Scaling) -> Array:
    """Scaled numbers of stamps, shape (n, k)."""
    scores = scaling.apply(score_numbers(measured, population))
    return np.hstack([scores, leftovers.apply(leftover_numbers(measured))])


def logistic(numbers: Array, labels: Array, strength: float) -> tuple[Array, float]:
    """Coefficients and intercept of a logistic regression with a ridge penalty.

    Parameters
    ----------
    numbers : ndarray, shape (n, k)
    labels : ndarray, shape (n,)
        0 or 1.
    strength : float
        Inverse of the penalty, scikit-learn's ``C``.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=1000).fit(numbers, labels)
    return np.asarray(model.coef_[0]), float(model.intercept_[0])
