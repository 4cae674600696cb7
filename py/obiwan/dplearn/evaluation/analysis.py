"""All numbers of an evaluation, from scores, measurements and rows of examples: no files, no figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from obiwan.dplearn import twosample
from obiwan.dplearn.controls import balance as balancing
from obiwan.dplearn.controls import covariates, metadata, pairing
from obiwan.dplearn.conventions import Array
from obiwan.dplearn.evaluation.bins import Bins, auc_at_percentiles, bin_everything, corrected_together
from obiwan.dplearn.evaluation.records import (
    BY_PERCENTILE,
    Baseline,
    Calibration,
    Conditional,
    NetworkAnswer,
    Scored,
)
from obiwan.dplearn.retraining.ablations import A_A, AblationResult
from obiwan.dplearn.twosample import calibration
from obiwan.dplearn.twosample.verdict import SensitivitySummary, Verdict, decide

LEVEL = 0.05
DRAWS = 2000  #: of permutations and bootstraps
#: The quantities of the report's bins, in its order; those of `obiwan.dplearn.controls.covariates`.  Depth
#: and PSF width of r stand for those of the other bands, which rise and fall with them: every further bin
#: makes the correction of all others harsher.
BINNED = ("mag_g", "mag_r", "mag_z", "sn", "shape_r", "psfdepth_r", "psfsize_r", "ebv", "edge")
LEAST_PAIRS = 20
PER_STRATUM = 60


def answer(scored: Scored, seed: int) -> NetworkAnswer:
    """The network's AUC and accuracy with their intervals and tests."""
    labels, scores, bricks = scored.labels, scored.scores, scored.bricks
    usable = twosample.usable_bricks(labels, bricks)
    streams = [np.random.default_rng([seed, purpose]) for purpose in range(3)]
    one = len(np.unique(bricks)) == 1
    return NetworkAnswer(
        auc=twosample.auc_interval(labels, scores, usable),
        bootstrap=twosample.auc_bootstrap(labels, scores, usable, draws=DRAWS, rng=streams[0]),
        accuracy=twosample.accuracy_test(labels, scores > 0.5, bricks),
        singles=tuple(twosample.auc_interval(labels, single, usable) for single in scored.singles),
        permutation_p=twosample.permutation_test(labels, scores, bricks, draws=DRAWS, rng=streams[1]),
        flip_p=twosample.flip_test(labels, scores, bricks, draws=DRAWS, rng=streams[2]),
        design_effect=float("nan") if usable is None else twosample.design_effect(labels, scores, usable),
        bricks=1 if one else len(np.unique(bricks)),
        rests_on_bricks=usable is not None,
        caveat=twosample.brick_caveat(labels, bricks),
    )


def calibrate(scored: Scored) -> Calibration:
    """Reliability and bounds, before and after recalibration on the validation split."""
    better = calibration.recalibrate(scored.val_labels, scored.val_scores)
    probabilities = (scored.scores, better(scored.scores))
    curves = [calibration.reliability(scored.labels, p) for p in probabilities]
    bounds = [calibration.bounds(scored.labels, p, scored.bricks) for p in probabilities]
    helps = calibration.recalibration_helps(scored.val_labels, scored.val_scores)
    return Calibration(curves[0], curves[1], bounds[0], bounds[1], helps)


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


def conditional(scored: Scored, columns: Mapping[str, Array], seed: int) -> Conditional:
    """AUC within strata, with weights, and of matched pairs."""
    names = pairing.MATCH_ON
    chosen = metadata.comparable({name: columns[name] for name in names}, scored.labels)
    known = list(chosen)
    labels, scores, bricks = scored.labels, scored.scores, scored.bricks
    usable = twosample.usable_bricks(labels, bricks)
    notes: list[str] = []
    if len(known) < len(names):
        notes.append(
            "not known for most examples of both classes: " + ", ".join(n for n in names if n not in known)
        )
    if not known:
        return Conditional((), 0, None, None, None, float("nan"), None, 0, tuple(notes))
    balance = balancing.balancing_weights(chosen, labels, bricks, seed=seed)
    strata = propensity_strata(balancing.propensity(chosen, labels))
    inside = strata >= 0
    own = None if usable is None else usable[inside]
    stratified, p = None, float("nan")
    try:
        stratified = twosample.stratified_auc(labels[inside], scores[inside], strata[inside], own)
        rng = np.random.default_rng([seed, 3])
        drawn = (labels[inside], scores[inside], bricks[inside], strata[inside])
        p = twosample.permutation_test(*drawn, draws=DRAWS, rng=rng, statistic="stratified")
    except ValueError as error:
        notes.append(f"no AUC within strata: {error}")
    pairs = pairing.matched_pairs(chosen, labels, bricks, names=known, seed=seed)
    rows = pairs.rows
    matched = None
    if len(pairs.real) >= LEAST_PAIRS:
        matched = twosample.auc_interval(
            labels[rows], scores[rows], twosample.usable_bricks(labels[rows], bricks[rows])
        )
    else:
        notes.append(f"only {len(pairs.real)} matched pairs: no AUC of them")
    return Conditional(
        names=tuple(known),
        strata=len(np.unique(strata[inside])),
        stratified=stratified,
        weighted=twosample.weighted_auc(labels, scores, balance.weights, usable),
        matched=matched,
        stratified_p=p,
        balance=balance,
        pairs=len(pairs.real),
        notes=tuple(notes),
    )


def baseline(columns: Mapping[str, Array], rows: Array, in_test: Array, seed: int) -> Baseline | None:
    """What a classifier makes of measured quantities alone; None where nothing is known of the examples.

    Parameters
    ----------
    columns : mapping
        Covariates of all measured examples, each of shape (m,).
    rows : ndarray of EXAMPLE_DTYPE, shape (m,)
    in_test : ndarray of bool, shape (m,)
        Which are the test examples, in the order of `Scored`.
    seed : int
    """
    known = metadata.comparable(columns, rows["label"])
    if not known:
        return None
    bricks = np.char.strip(rows["brick"].astype(str))
    result = metadata.metadata_classifier(known, rows["label"], bricks, seed=seed)
    labels, scores = rows["label"][in_test], result.scores[in_test]
    tested = metadata.cross_fitted_auc(
        labels, scores, bricks[in_test], folds=result.folds, share=len(labels) / len(rows)
    )
    left_out = tuple(name for name in columns if name not in known)
    return Baseline(result, tested, len(rows), scores, left_out)


def where(scored: Scored, columns: Mapping[str, Array]) -> tuple[Bins, ...]:
    """AUC in bins of everything that is shown, and at percentiles in brightness, all corrected together.

    Parameters
    ----------
    scored : Scored
    columns : mapping
        Covariates of the test examples.
    """
    shown: dict[str, Array] = {key: columns[key] for key in BINNED}
    words = {key: covariates.LABELS[key] for key in BINNED}
    cameras = np.char.strip(scored.rows["camera"].astype(str))  # empty where not known
    if len(np.unique(cameras[np.char.str_len(cameras) > 0])) > 1:
        shown["camera"], words["camera"] = cameras, ("camera", "")
    tables = bin_everything(shown, words, scored.labels, scored.scores, scored.bricks)
    bins = auc_at_percentiles(columns["mag_g"], scored.labels, scored.scores, scored.bricks)
    unknown = int(np.count_nonzero(~np.isfinite(columns["mag_g"])))
    return corrected_together([*tables, Bins(BY_PERCENTILE, "percentile in brightness", "", bins, unknown)])


def alarms(ablations: Sequence[AblationResult]) -> tuple[str, ...]:
    """What must be read before anything else: halves of one class, drawn at random, that are told apart."""
    broken = [
        result
        for result in ablations
        if result.name in A_A and not result.auc.low <= twosample.GUESS <= result.auc.high
    ]
    return tuple(
        f"The test itself is broken: in {result.name}, halves of one class that were drawn at random, the "
        f"network tells them apart (AUC {result.auc}), so believe nothing below before that is understood; "
        "by chance it comes out once in twenty times."
        for result in broken
    )


def verdict_of(
    scored: Scored,
    margin: float,
    sensitivity: SensitivitySummary | None,
    ablations: Sequence[AblationResult] = (),
) -> Verdict:
    """The verdict on the mean score, after the alarms."""
    found = decide(
        scored.labels,
        scored.scores,
        scored.bricks,
        margin=margin,
        level=LEVEL,
        learnt=scored.learnt,
        sensitivity=sensitivity,
    )
    return replace(found, explanation=(*alarms(ablations), *found.explanation))
