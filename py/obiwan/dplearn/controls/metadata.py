"""Metadata: what a classifier and a propensity score tell of the classes without a look at the pixels.

A gradient-boosted classifier on the measured quantities is the baseline of the network's AUC: where it is
above 0.5 the samples are not matched, and the network's AUC is to be read within strata of a propensity
score, where they are alike (``doc/explanation/sensitivity.rst``).  Which quantities those are is for the
caller to say: only such as are measured the same way for both classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit, logit

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.trainingset.visibility import known_to_both
from obiwan.dplearn.twosample.ranking import Estimate, Measured, auc, measure_auc
from obiwan.dplearn.twosample.summary import usable_bricks

PER_STRATUM = 60  #: examples of equal propensity
FOLDS = 5  #: parts of the cross-fit; fewer where there are fewer bricks
IMPORTANCE_ROWS = 20_000  #: examples that importances are measured on, at most
SETTINGS: dict[str, Any] = {
    **{"learning_rate": 0.05, "max_iter": 150, "max_leaf_nodes": 15, "min_samples_leaf": 20},
    **{"l2_regularization": 1.0, "early_stopping": False},
}  #: of the gradient boosting, which takes NaN for what it is

Fold = tuple[Array, Array]
_Fit = tuple[Callable[[Array], Array], Array]  # a classifier's scores, and rows it has not seen


@dataclass(frozen=True)
class MetadataResult:
    """What a classifier reaches on measured quantities alone.

    Attributes
    ----------
    names : tuple of str
        The covariates it was given.
    scores : ndarray, shape (n,)
        Probability of being fake, from a classifier that has not seen the example's brick.
    auc : Estimate
        Of these scores, by `cross_fitted_auc`.
    importance : dict
        Covariate to the loss of AUC when its values are shuffled among held-out examples; the largest first.
        Covariates that say the same share it: none of them need be large.
    by : str
        ``"bricks"`` or ``"examples"``: what the parts of the cross-fit were made of.  They are examples where
        bricks are too few for each part to leave both classes to train on.
    folds : int
        Number of parts.
    p : float
        One-sided p-value of an AUC of 0.5.
    """

    names: tuple[str, ...]
    scores: Array
    auc: Estimate
    importance: dict[str, float]
    by: str
    folds: int
    p: float


def table_of(covariates: Mapping[str, Array], label: Array) -> tuple[Array, Array]:
    """Covariates as columns, NaN where not finite, and which examples are fake."""
    table = np.stack([np.asarray(values, np.float64) for values in covariates.values()], axis=1)
    return np.where(np.isfinite(table), table, np.nan), np.asarray(label) == 1


def folds_of(fake: Array, bricks: Array, seed: int) -> tuple[list[Fold], str]:
    """Parts of a cross-fit: whole bricks, or examples where these leave a part without both classes."""
    from sklearn.model_selection import GroupKFold, StratifiedKFold

    count = min(FOLDS, len(np.unique(bricks)))
    if count > 1:
        parts = list(GroupKFold(count).split(fake, groups=bricks))
        if all(fake[train].any() and not fake[train].all() for train, _ in parts):
            return parts, "bricks"
    count = int(min(FOLDS, fake.sum(), (~fake).sum()))
    splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    return list(splitter.split(fake, fake)), "examples"


def _cross_fit(table: Array, fake: Array, folds: Sequence[Fold], seed: int) -> tuple[Array, list[_Fit]]:
    """Scores of every example from the classifier that has not seen it, and the classifiers.

    A score is the probability of being fake as if both classes were equally many: the log-odds of a fake
    among what the classifier was trained on are taken off.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    def fitted(train: Array) -> Callable[[Array], Array]:
        classifier = HistGradientBoostingClassifier(**SETTINGS, random_state=seed)
        classifier.fit(table[train], fake[train])
        prior = logit(float(fake[train].mean()))
        return lambda some: np.asarray(expit(classifier.decision_function(some) - prior), np.float64)

    fits = [(fitted(train), held_out) for train, held_out in folds]
    scores = np.empty(len(fake))
    for score, rows in fits:
        scores[rows] = score(table[rows])
    return scores, fits


def _importance(
    table: Array, fake: Array, scores: Array, fits: Sequence[_Fit], rng: np.random.Generator
) -> Array:
    """Loss of AUC when each column is shuffled among the held-out examples of each part."""
    share = min(1.0, IMPORTANCE_ROWS / len(table))
    chosen = [(score, rows[rng.random(len(rows)) < share]) for score, rows in fits]
    chosen = [(score, rows) for score, rows in chosen if len(rows)]
    used = np.concatenate([rows for _, rows in chosen])
    if len(np.unique(fake[used])) < 2:
        return np.zeros(table.shape[1])
    whole, losses = auc(fake[used], scores[used]), []
    for column in range(table.shape[1]):
        parts = []
        for score, rows in chosen:
            shuffled = table[rows].copy()
            shuffled[:, column] = rng.permutation(shuffled[:, column])
            parts.append(score(shuffled))
        losses.append(whole - auc(fake[used], np.concatenate(parts)))
    return np.array(losses)


def cross_fitted_auc(
    label: Array, scores: Array, bricks: Array, *, folds: int, share: float = 1.0
) -> Measured:
    """AUC of cross-fitted scores, with an error that knows that the classifiers share training examples.

    Parameters
    ----------
    label, scores, bricks : ndarray, shape (n,)
        Of the examples that the AUC is taken over.
    folds : int
        Parts of the cross-fit.
    share : float
        What part these examples are of all that were cross-fitted.

    Returns
    -------
    Measured
        The error of `obiwan.dplearn.twosample.ranking.auc_interval`, which takes the classifier as given,
        times ``sqrt(1 + share folds / (folds - 1))``: the correction of Nadeau & Bengio (2003, Machine
        Learning 52, 239) for parts that serve each other as training sets.

    Notes
    -----
    Where a score is a sum over training examples, each pair of examples of different parts enters the AUC
    twice, as training and as held-out example, and the variance is ``1 + share`` times that of a given
    classifier.  Classifiers that select quantities need up to 2.3 times with five parts
    (``doc/explanation/sensitivity.rst``).
    """
    measured = measure_auc(label, scores, usable_bricks(label, bricks))
    wider = float(np.sqrt(1 + share * folds / (folds - 1)))
    return replace(measured, error=measured.error * wider)


def comparable(covariates: Mapping[str, Array], label: Array) -> dict[str, Array]:
    """Those covariates that are known for most examples of either class.

    Of the others it would be their absence that tells the classes: what a user's table of one class lacks,
    the catalogue of the other has.
    """
    return {
        name: values
        for name, values in covariates.items()
        if known_to_both(np.isfinite(np.asarray(values, float)), np.asarray(label))
    }


def metadata_classifier(
    covariates: Mapping[str, Array], label: Array, bricks: Array, *, seed: int
) -> MetadataResult:
    """Tell the classes apart by measured quantities alone, cross-fitted by brick.

    Parameters
    ----------
    covariates : mapping of str to ndarray, shape (n,)
        Quantities measured in the same way for both classes; what is not finite counts as missing.
    label : ndarray, shape (n,)
        Real = 0, fake = 1; two examples of each at least.
    bricks : ndarray, shape (n,)
        Names; a brick's examples are always scored by a classifier trained on other bricks.
    seed : int
        Of the shuffles; equal seeds give equal results.

    Notes
    -----
    `sklearn.ensemble.HistGradientBoostingClassifier`, settings fixed beforehand.  A leaf holds at least 20
    examples: with fewer than some 50 the scores are constant and the AUC is 0.5, for want of data.  The share
    of fakes in the training bricks is divided out of the scores, so that the AUC does not feel how it varies.
    """
    table, fake = table_of(covariates, label)
    bricks = np.asarray(bricks)
    folds, by = folds_of(fake, bricks, seed)
    scores, fits = _cross_fit(table, fake, folds, seed)
    losses = _importance(table, fake, scores, fits, np.random.default_rng([seed, 1]))
    names = tuple(covariates)
    tested = cross_fitted_auc(fake, scores, bricks, folds=len(folds))
    order = sorted(range(len(names)), key=lambda i: (-losses[i], names[i]))
    return MetadataResult(
        names=names,
        scores=scores,
        auc=tested.interval(),
        importance={names[i]: float(losses[i]) for i in order},
        by=by,
        folds=len(folds),
        p=tested.p_value(),
    )


def propensity(covariates: Mapping[str, Array], label: Array) -> Array:
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

    table, fake = table_of(covariates, label)
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
