"""Propensity score: how fake a few quantities alone make an example look, and strata of equal scores.

What remains of the network's AUC within strata is not that injected galaxies are brighter, redder or larger
(``doc/explanation/sensitivity.rst``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.controls.metadata import checked_table
from obiwan.dplearn.stampspec import Array

PER_STRATUM = 60  #: examples


def propensity(covariates: Mapping[str, Array], label: Array) -> NDArray[np.float64]:
    """How fake a few covariates alone make each example look, by which examples are put into strata.

    Parameters
    ----------
    covariates, label
        As for `metadata_classifier`; few covariates.

    Returns
    -------
    ndarray, shape (n,)
        Logistic regression on the covariates' normal scores, their squares and products; NaN where one is
        unknown.  With so few parameters it is fitted on all examples, as is usual for strata (Rosenbaum &
        Rubin 1984, JASA 79, 516): the scatter of cross-fitted scores would leave part of a difference.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, QuantileTransformer

    table, fake = checked_table(covariates, label)
    complete = np.isfinite(table).all(axis=1)
    found = np.full(len(fake), np.nan)
    if len(np.unique(fake[complete])) < 2:
        return found
    model = make_pipeline(
        QuantileTransformer(
            n_quantiles=min(200, int(complete.sum())), output_distribution="normal", subsample=None
        ),
        PolynomialFeatures(2, include_bias=False),
        LogisticRegression(max_iter=1000),
    )
    model.fit(table[complete], fake[complete])
    found[complete] = model.predict_proba(table[complete])[:, 1]
    return found


def propensity_strata(propensity: Array, per_stratum: int = PER_STRATUM) -> Array:
    """Strata of examples that quantities say equally much about: quantiles of the propensity score.

    Within a stratum the classes have the same distribution of these quantities (Rosenbaum & Rubin 1983,
    Biometrika 70, 41), the better the narrower it is: there are the more of them the more examples there are.

    Parameters
    ----------
    propensity : ndarray, shape (n,)
        How fake the quantities that are to be equal make an example look; NaN where one is not known.
    per_stratum : int
        Examples that a stratum should hold; there are at least five strata.

    Returns
    -------
    ndarray of int, shape (n,)
        -1 where the score is NaN.
    """
    known = np.isfinite(propensity)
    strata = np.full(len(propensity), -1)
    if known.any():
        parts = max(5, int(known.sum()) // per_stratum)
        inner = np.quantile(propensity[known], np.linspace(0, 1, parts + 1)[1:-1])
        strata[known] = np.searchsorted(inner, propensity[known], side="right")
    return strata
