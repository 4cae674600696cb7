"""The classes made alike in chosen quantities: weights, and a score to make strata of.

What remains of the network's AUC then is not that the fakes are brighter, redder or larger
(``doc/explanation/sensitivity.rst``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.controls.metadata import cross_fit, folds_of
from obiwan.dplearn.controls.pairing import checked_table
from obiwan.dplearn.conventions import Array
from obiwan.dplearn.twosample import effective_number

CLIP = 10.0  #: largest weight, and inverse of the smallest


@dataclass(frozen=True)
class Balance:
    """Weights that give the reals the fakes' distribution of the covariates.

    Attributes
    ----------
    weights : ndarray, shape (n,)
        Of fakes 1; of reals the density ratio fake / real, within ``1/CLIP..CLIP``, of mean 1.
    effective_real : float
        Effective number of reals, ``(sum w)**2 / sum w**2`` (Kish 1965).
    real, fake : int
        Examples.
    clipped : int
        Reals whose ratio was out of range.
    before, after : dict
        Covariate to difference of the classes' means in units of the pooled standard deviation, unweighted
        and weighted; above 0.1 in absolute value a covariate is usually called unbalanced.
    """

    weights: NDArray[np.float64]
    effective_real: float
    real: int
    fake: int
    clipped: int
    before: dict[str, float]
    after: dict[str, float]


def _differences(
    covariates: Mapping[str, Array], fake: NDArray[np.bool_], weights: NDArray[np.float64]
) -> dict[str, float]:
    """Standardised mean difference, fakes less reals, of each covariate over its finite values."""
    found = {}
    for name, values in covariates.items():
        values = np.asarray(values, np.float64)
        moments = []
        for members in (fake, ~fake):
            good = members & np.isfinite(values)
            total = weights[good].sum()
            if not total > 0:
                break
            mean = (weights[good] @ values[good]) / total
            moments.append((mean, np.var(values[good])))
        if len(moments) < 2:
            found[name] = float("nan")
            continue
        (a, va), (b, vb) = moments
        scatter = np.sqrt((va + vb) / 2)
        found[name] = float((a - b) / scatter) if scatter > 0 else 0.0
    return found


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


def balancing_weights(covariates: Mapping[str, Array], label: Array, bricks: Array, *, seed: int) -> Balance:
    """Weigh the reals so that their covariates are distributed like the fakes'.

    Parameters
    ----------
    covariates, label, bricks, seed
        As for `metadata_classifier`; few covariates (magnitude, colour, size) give the better weights.

    Returns
    -------
    Balance
        Whose ``weights`` go into a weighted AUC.

    Notes
    -----
    The density ratio is ``p / (1 - p)`` of a cross-fitted classifier in which both classes weigh the same
    (Sugiyama, Suzuki & Kanamori 2012, Density Ratio Estimation in Machine Learning, chapter 4).  It is
    clipped, and what is left of the differences is told in ``after``.
    """
    table, fake = checked_table(covariates, label)
    folds, _ = folds_of(fake, np.asarray(bricks), seed)
    scores = cross_fit(table, fake, folds, seed)[0]
    ratio = scores / np.maximum(1 - scores, 1e-12)
    kept = np.clip(ratio, 1 / CLIP, CLIP)
    reals = ~fake
    weights = np.where(fake, 1.0, kept / kept[reals].mean())
    real_weights = weights[reals]
    return Balance(
        weights=weights,
        effective_real=effective_number(real_weights),
        real=int(reals.sum()),
        fake=int(fake.sum()),
        clipped=int(np.count_nonzero(kept[reals] != ratio[reals])),
        before=_differences(covariates, fake, np.ones(len(fake))),
        after=_differences(covariates, fake, weights),
    )
