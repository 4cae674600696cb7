"""Referee of boosted trees, on all numbers of a stamp: what single numbers do not show, pairs of them may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.referees.features import all_numbers
from obiwan.dplearn.referees.measured import Measured
from obiwan.dplearn.referees.numbers import MeasuredReferee, arrays_of, fields_of, fitted
from obiwan.dplearn.referees.population import Population, population_from
from obiwan.dplearn.stampspec import Array, StampSpec

TREES = 200
#: Few leaves and half of the numbers a split: most of 200 numbers say nothing of any one difference.
SETTINGS = {
    "objective": "binary",
    "num_leaves": 8,
    "learning_rate": 0.04,
    "min_data_in_leaf": 40,
    "lambda_l2": 5.0,
    "feature_fraction_bynode": 0.5,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True)
class TreesReferee(MeasuredReferee):
    """Boosted trees on all numbers (LightGBM).

    Attributes
    ----------
    spec : StampSpec
    prior : tuple of str
        See `MeasuredReferee`.
    population : Population
        Of the training set.
    text : str
        The trees, in LightGBM's text format.
    learnt : bool
    """

    kind = "trees"

    spec: StampSpec
    prior: tuple[str, ...]
    population: Population
    text: str
    learnt: bool

    @classmethod
    def train(
        cls, measured: Measured, labels: Array, seed: int, population: Population | None = None
    ) -> Self:
        """See `MeasuredReferee.train`."""
        gbm = lightgbm()
        population = population or measured.population
        numbers = finite(all_numbers(measured, population))
        settings = {**SETTINGS, "seed": seed, "num_threads": 1}
        booster = gbm.train(settings, gbm.Dataset(numbers, labels, params={"verbosity": -1}), TREES)
        learnt = fitted(labels, booster.predict(numbers, raw_score=True))
        return cls(measured.fits.spec, measured.prior, population, booster.model_to_string(), learnt)

    @cached_property
    def _booster(self) -> Any:
        return lightgbm().Booster(model_str=self.text)

    def logits(self, measured: Measured) -> Array:
        """See `MeasuredReferee.logits`."""
        numbers = finite(all_numbers(measured, self.population))
        return np.asarray(self._booster.predict(numbers, raw_score=True, num_threads=1), np.float64)

    @property
    def content(self) -> Mapping[str, Array]:
        """See `MeasuredReferee.content`."""
        return {
            "text": np.frombuffer(self.text.encode(), np.uint8),
            **arrays_of(self.population, "population"),
        }

    @classmethod
    def of(
        cls, spec: StampSpec, content: Mapping[str, Array], *, prior: tuple[str, ...], learnt: bool
    ) -> Self:
        """See `MeasuredReferee.of`."""
        population = population_from(fields_of(content, "population"))
        return cls(spec, prior, population, content["text"].tobytes().decode(), learnt)


def finite(numbers: Array) -> Array:
    """Numbers with NaN for whatever is not finite, which trees take for unknown."""
    return np.where(np.isfinite(numbers), numbers, np.nan)


def lightgbm() -> Any:
    """The module ``lightgbm``.

    Raises
    ------
    ModelError
        If it is absent, or the OpenMP library that it needs is.
    """
    try:
        import lightgbm as module
    except (ImportError, OSError) as error:
        msg = f"lightgbm cannot be loaded ({error}); pip install lightgbm, or leave trees out of --referees"
        raise ModelError(msg) from None
    return module
