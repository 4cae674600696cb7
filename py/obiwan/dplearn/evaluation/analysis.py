"""All numbers of an evaluation, from scores, measurements and rows of examples: no files, no figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from obiwan.dplearn.controls import metadata
from obiwan.dplearn.controls.covariates import Quantity, quantities
from obiwan.dplearn.controls.metadata import propensity, propensity_strata
from obiwan.dplearn.evaluation.bins import Bins, auc_at_percentiles, bin_everything, corrected_together
from obiwan.dplearn.evaluation.records import (
    BY_PERCENTILE,
    Baseline,
    Calibration,
    Conditional,
    NetworkAnswer,
    Scored,
)
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.twosample import calibration, ranking, resampling, summary
from obiwan.dplearn.twosample.verdict import PositiveControl, Verdict, decide

LEVEL = 0.05
DRAWS = 2000  #: permutations


def binned(spec: StampSpec) -> tuple[str, ...]:
    """Keys of the covariates in whose bins an AUC is taken, in the order of the report.

    Depth and PSF width are binned in the reference band only: the other bands correlate with it, and more
    bins cost power.
    """
    reference = (f"{stem}_{spec.reference}" for stem in ("psfdepth", "psfsize"))
    return (*spec.columns("mag"), "sn", "shape_r", *reference, "ebv", "edge")


def held_equal(spec: StampSpec) -> tuple[str, ...]:
    """Keys of the covariates that propensity strata hold equal: magnitude, colours and size."""
    return (f"mag_{spec.reference}", *(f"{blue}_{red}" for blue, red in spec.colours), "shape_r")


def answer(scored: Scored, seed: int) -> NetworkAnswer:
    """The network's AUC and accuracy with their intervals and tests."""
    labels, scores, bricks = scored.labels, scored.scores, scored.bricks
    usable = summary.usable_bricks(labels, bricks)
    streams = [np.random.default_rng([seed, purpose]) for purpose in (1, 2)]
    return NetworkAnswer(
        auc=ranking.auc_interval(labels, scores, usable),
        accuracy=summary.accuracy_test(labels, scores > 0.5, bricks),
        singles=tuple(ranking.auc_interval(labels, single, usable) for single in scored.singles),
        permutation_p=resampling.permutation_test(labels, scores, bricks, draws=DRAWS, rng=streams[0]),
        flip_p=resampling.flip_test(labels, scores, bricks, draws=DRAWS, rng=streams[1]),
        design_effect=float("nan") if usable is None else ranking.design_effect(labels, scores, usable),
        bricks=len(np.unique(bricks)),
        rests_on_bricks=usable is not None,
    )


def calibrate(scored: Scored) -> Calibration:
    """Reliability and bounds, before and after recalibration on the validation split."""
    better = calibration.recalibrate(scored.val_labels, scored.val_scores)
    probabilities = (scored.scores, better(scored.scores))
    curves = [calibration.reliability(scored.labels, p) for p in probabilities]
    bounds = [calibration.bounds(scored.labels, p, scored.bricks) for p in probabilities]
    helps = calibration.recalibration_helps(scored.val_labels, scored.val_scores)
    return Calibration(curves[0], curves[1], bounds[0], bounds[1], helps)


def conditional(scored: Scored, columns: Mapping[str, Array], names: Sequence[str], seed: int) -> Conditional:
    """AUC within strata of the propensity score.

    Parameters
    ----------
    scored : Scored
    columns : mapping
        Covariates of the test examples.
    names : sequence of str
        Keys of those that are to be equal.
    seed : int
        Of the permutations.
    """
    chosen = metadata.comparable({name: columns[name] for name in names}, scored.labels)
    unknown = tuple(name for name in names if name not in chosen)
    if not chosen:
        return Conditional((), unknown)
    strata = propensity_strata(propensity(chosen, scored.labels))
    inside = strata >= 0
    labels, scores, bricks = (part[inside] for part in (scored.labels, scored.scores, scored.bricks))
    usable = summary.usable_bricks(scored.labels, scored.bricks)
    own = None if usable is None else usable[inside]
    strata = strata[inside]
    try:
        stratified = ranking.stratified_auc(labels, scores, strata, own)
    except ValueError as error:
        return Conditional(tuple(chosen), unknown, len(np.unique(strata)), reason=str(error))
    rng = np.random.default_rng([seed, 3])
    p = resampling.permutation_test(labels, scores, bricks, strata, draws=DRAWS, rng=rng)
    return Conditional(tuple(chosen), unknown, len(np.unique(strata)), stratified, p)


def baseline(columns: Mapping[str, Array], rows: Array, in_test: Array, seed: int) -> Baseline | None:
    """What a classifier makes of measured quantities alone; None where nothing is known of the examples.

    Parameters
    ----------
    columns : mapping
        Covariates of all measured examples, each of shape (m,).
    rows : structured ndarray, shape (m,)
        Of the example table.
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


def where(scored: Scored, columns: Mapping[str, Array], spec: StampSpec) -> tuple[Bins, ...]:
    """AUC in bins of everything that is shown, and at percentiles in brightness, all corrected together.

    Parameters
    ----------
    scored : Scored
    columns : mapping
        Covariates of the test examples.
    spec : StampSpec
    """
    known = {one.key: one for one in quantities(spec)}
    shown: list[tuple[Quantity, Array]] = [(known[key], columns[key]) for key in binned(spec)]
    cameras = np.char.strip(scored.rows["camera"].astype(str))  # empty where not known
    if len(np.unique(cameras[np.char.str_len(cameras) > 0])) > 1:
        shown.append((Quantity("camera", "camera"), cameras))
    tables = bin_everything(shown, scored.labels, scored.scores, scored.bricks)
    magnitude = columns[f"mag_{spec.bluest}"]
    bins = auc_at_percentiles(magnitude, scored.labels, scored.scores, scored.bricks)
    unknown = int(np.count_nonzero(~np.isfinite(magnitude)))
    by_percentile = Quantity(BY_PERCENTILE, "percentile in brightness", spec.bluest)
    return corrected_together([*tables, Bins(BY_PERCENTILE, by_percentile, bins, unknown)])


def verdict_of(scored: Scored, margin: float, positive: PositiveControl | None) -> Verdict:
    """The verdict on the mean score."""
    return decide(
        scored.labels,
        scored.scores,
        scored.bricks,
        margin=margin,
        level=LEVEL,
        learnt=scored.learnt,
        positive=positive,
    )
