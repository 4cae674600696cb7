"""Numbers of an evaluation, from scores, measurements and rows of examples: no files, no figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from obiwan.dplearn.controls import metadata
from obiwan.dplearn.controls.covariates import Covariates, Quantity, quantities
from obiwan.dplearn.controls.records import Control
from obiwan.dplearn.evaluation.bins import Bins, auc_at_percentiles, bin_everything, corrected_together
from obiwan.dplearn.evaluation.ensemble import Scored
from obiwan.dplearn.evaluation.exhibits import Exhibits
from obiwan.dplearn.evaluation.notices import Fact
from obiwan.dplearn.evaluation.occlusion import Occlusion
from obiwan.dplearn.evaluation.ruling import Ruling
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.trainingset.clusters import ClusteredBy, factorised
from obiwan.dplearn.twosample import calibration, ranking, resampling, summary
from obiwan.dplearn.twosample.ranking import Estimate
from obiwan.dplearn.twosample.ranks import count_different
from obiwan.dplearn.twosample.verdict import PositiveControl, Verdict, decide

LEVEL = 0.05
DRAWS = 2000  #: permutations
BY_PERCENTILE = "percentile"  #: key of the bins at percentiles in brightness


@dataclass(frozen=True)
class Answer:
    """AUC, accuracy and tests of the scores of some referees.

    Attributes
    ----------
    auc : Estimate
        AUC with the interval of `ranking.auc_interval`.
    accuracy : AccuracyTest
        Of calling fake what scores above 0.5.
    singles : tuple of Estimate
        AUC of each of them.
    permutation_p, flip_p : float
        Labels exchanged within bricks; labels of whole bricks swapped.
    design_effect : float
        Of sharing bricks; NaN for one brick.
    bricks : int
        That the test examples come from.
    rests_on_bricks : bool
        Whether the intervals do, or on groups of bricks.
    clusters : int
        That they rest on; as many as bricks where these are not grouped.
    clustered_by : ClusteredBy
        What bricks of a group have in common.
    """

    auc: Estimate
    accuracy: summary.AccuracyTest
    singles: tuple[Estimate, ...]
    permutation_p: float
    flip_p: float
    design_effect: float
    bricks: int
    rests_on_bricks: bool
    clusters: int
    clustered_by: ClusteredBy


@dataclass(frozen=True)
class Calibration:
    """Whether scores mean what they say, and what they prove about the populations.

    Attributes
    ----------
    raw, recalibrated : calibration.Reliability
        As scored, and after a recalibration that was fitted on the validation split.
    bounds_raw, bounds : calibration.Bounds
        The same.
    helps : bool
        Whether recalibration lowers the cross-entropy on the validation split (cross-fitted there).
    """

    raw: calibration.Reliability
    recalibrated: calibration.Reliability
    bounds_raw: calibration.Bounds
    bounds: calibration.Bounds
    helps: bool


@dataclass(frozen=True)
class Conditional:
    """The network's AUC at equal magnitude, colour and size, where these are known.

    Attributes
    ----------
    names : tuple of str
        What is held equal.
    unknown : tuple of str
        What should be, and is not known for most examples of both classes.
    strata : int
        Of the propensity score.
    stratified : Estimate or None
        AUC within strata; None where it could not be had, for which `reason` has the reason.
    stratified_p : float
        Labels exchanged within bricks and strata; NaN without strata.
    reason : str
    """

    names: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    strata: int = 0
    stratified: Estimate | None = None
    stratified_p: float = float("nan")
    reason: str = ""


@dataclass(frozen=True)
class Baseline:
    """What measured quantities alone tell.

    Attributes
    ----------
    result : metadata.MetadataResult
        Cross-fitted over all examples that were measured.
    test_auc : Estimate
        Of its scores on the test examples.
    examples : int
        How many it was cross-fitted over.
    scores : ndarray, shape (n,)
        On the test examples; NaN where not measured.
    left_out : tuple of str
        Covariates that are unknown for most examples of a class.
    """

    result: metadata.MetadataResult
    test_auc: Estimate
    examples: int
    scores: Array
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """Everything that a report says.

    Attributes
    ----------
    settings : dict
        Margin, level, seed.
    spec : StampSpec
    data : dict
        What the manifest says of the training set.
    scored : Scored
    columns : Covariates
        Of the test examples.
    networks : Scored or None
        The networks' own scores on the whole test split, where a panel is tested.
    verdict : Verdict
        Of the panel's test alone, or of the networks where there is no panel.
    ruling : Ruling
        The answer: the verdict, the controls and what was planted, combined.
    answer, calibration, conditional, baseline
        See their classes.
    network : Answer or None
        Of these networks.
    network_verdict : Verdict or None
        Of these networks alone.
    controls : tuple of Control
    control_examples, control_tests : int
        Examples that the controls were run on, and test examples among them, which `conditional` is of, too.
    bins : tuple of Bins
        The last of them at percentiles in brightness.
    occlusion : Occlusion or None
        None where every score is the same, and in evaluations that were made of scores alone.
    exhibits : Exhibits or None
        None in evaluations that were made of scores alone.
    ideal : tuple of ndarray or None
        Signal to noise and AUC of the ideal observer, for a mock whose planted offset is known.
    ablations, sensitivity : tuple
        Results of retraining; empty where none was asked for.
    detections : tuple of Detection
        Of planted differences; empty without a panel.
    not_run, cautions, mock : tuple of Fact
        What could have been run and was not; what limits the result; what is to be said of the mock survey
        that the training set was cut from.
    versions : dict
    """

    settings: dict[str, Any]
    spec: StampSpec
    data: dict[str, Any]
    scored: Scored
    columns: Covariates
    verdict: Verdict
    ruling: Ruling
    answer: Answer
    calibration: Calibration
    conditional: Conditional
    baseline: Baseline | None
    controls: tuple[Control, ...]
    control_examples: int
    control_tests: int
    bins: tuple[Bins, ...]
    networks: Scored | None = None
    network: Answer | None = None
    network_verdict: Verdict | None = None
    occlusion: Occlusion | None = None
    exhibits: Exhibits | None = None
    ideal: tuple[Array, Array] | None = None
    ablations: tuple[Any, ...] = ()
    sensitivity: tuple[Any, ...] = ()
    detections: tuple[Any, ...] = ()
    not_run: tuple[Fact, ...] = ()
    cautions: tuple[Fact, ...] = ()
    mock: tuple[Fact, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)


def strata_keys(spec: StampSpec) -> tuple[str, ...]:
    """Keys of the covariates that propensity strata hold equal: magnitude, colours and size."""
    return (f"mag_{spec.reference}", *(f"{blue}_{red}" for blue, red in spec.colours), "shape_r")


def answer(scored: Scored, seed: int) -> Answer:
    """AUC and accuracy of the combined score with their intervals and tests."""
    labels, ranks, bricks, clusters = scored.labels, scored.ranks, scored.bricks, scored.clusters
    usable = summary.usable_bricks(labels, clusters)
    streams = [np.random.default_rng([seed, purpose]) for purpose in (1, 2)]
    return Answer(
        auc=ranking.auc_interval(labels, ranks, usable),
        accuracy=summary.accuracy_test(labels, scored.scores > 0.5, clusters),
        singles=tuple(ranking.auc_interval(labels, single, usable) for single in scored.single_ranks),
        permutation_p=resampling.permutation_test(labels, ranks, bricks, draws=DRAWS, rng=streams[0]),
        flip_p=resampling.flip_test(labels, ranks, clusters, draws=DRAWS, rng=streams[1]),
        design_effect=float("nan") if usable is None else ranking.design_effect(labels, ranks, usable),
        bricks=len(scored.brick_names),
        rests_on_bricks=usable is not None,
        clusters=count_different(clusters),
        clustered_by=ClusteredBy.BRICK if scored.grouped is None else scored.grouped.by,
    )


def calibrate(scored: Scored) -> Calibration:
    """Reliability and bounds, before and after recalibration on the validation split."""
    better = calibration.recalibrate(scored.val_labels, scored.val_scores)
    probabilities, labels, clusters = (scored.scores, better(scored.scores)), scored.labels, scored.clusters
    curves = [calibration.reliability(labels, p) for p in probabilities]
    given = zip(probabilities, (scored.ranks, None), strict=True)  # recalibrated ones have ties
    bounds = [calibration.bounds(labels, p, clusters, ranks=ranks) for p, ranks in given]
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
    held, unknown = tuple(chosen), tuple(name for name in names if name not in chosen)
    if not chosen:
        return Conditional((), unknown)
    strata = metadata.propensity_strata(metadata.propensity(chosen, scored.labels))
    inside = strata >= 0
    parts = (scored.labels, scored.scores, scored.bricks, strata)
    labels, scores, bricks, strata = (part[inside] for part in parts)
    usable = summary.usable_bricks(scored.labels, scored.clusters)
    own, count = None if usable is None else usable[inside], len(np.unique(strata))
    try:
        auc = ranking.stratified_auc(labels, scores, strata, own)
    except ValueError as error:
        return Conditional(held, unknown, count, reason=str(error))
    rng, exchanged = np.random.default_rng([seed, 3]), (labels, scores, bricks, strata)
    p = resampling.permutation_test(*exchanged, draws=DRAWS, rng=rng)
    return Conditional(held, unknown, count, auc, p)


def baseline(
    columns: Mapping[str, Array], rows: Array, tests: Array, seed: int, clusters: Array, scored: int
) -> Baseline | None:
    """What a classifier makes of measured quantities alone; None where nothing is known of the examples.

    Parameters
    ----------
    columns : mapping
        Covariates of all measured examples, each of shape (m,).
    rows : structured ndarray, shape (m,)
        Of the example table, those of the test split first.
    tests : ndarray of int
        Positions of these among the scored test examples.
    seed : int
    clusters : ndarray, shape (m,)
        Bricks or groups of bricks: a classifier has not seen the cluster of an example that it scores.
    scored : int
        Scored test examples.
    """
    known = metadata.comparable(columns, rows["label"])
    if not known:
        return None
    result = metadata.metadata_classifier(known, rows["label"], clusters, seed=seed)
    count, scores = len(tests), np.full(scored, np.nan)
    scores[tests] = result.scores[:count]
    own = (part[:count] for part in (rows["label"], result.scores, clusters))
    tested = metadata.cross_fitted_auc(*own, folds=result.folds, share=count / len(rows))
    left_out = tuple(name for name in columns if name not in known)
    return Baseline(result, tested.interval(), len(rows), scores, left_out)


def where(scored: Scored, columns: Mapping[str, Array], spec: StampSpec) -> tuple[Bins, ...]:
    """AUC in bins of everything that is shown, and at percentiles in brightness, all corrected together.

    Depth and PSF width are binned in the reference band only: the other bands correlate with it, and more
    bins cost power.

    Parameters
    ----------
    scored : Scored
    columns : mapping
        Covariates of the test examples.
    spec : StampSpec
    """
    known = {one.key: one for one in quantities(spec)}
    reference = (f"{stem}_{spec.reference}" for stem in ("psfdepth", "psfsize"))
    binned = (*spec.columns("mag"), "sn", "shape_r", *reference, "ebv", "edge")
    given = (scored.labels, scored.ranks, scored.clusters)
    tables = [*bin_everything(((known[key], columns[key]) for key in binned), *given)]
    cameras, camera = factorised(scored.rows["camera"])  # empty where not known
    if len({*cameras.tolist()} - {""}) > 1:
        tables += bin_everything([(Quantity("camera", "camera"), cameras[camera])], *given)
    magnitude = columns[f"mag_{spec.bluest}"]
    bins = auc_at_percentiles(magnitude, *given)
    unknown = int(np.count_nonzero(~np.isfinite(magnitude)))
    by_percentile = Quantity(BY_PERCENTILE, "percentile in brightness", spec.bluest)
    return corrected_together([*tables, Bins(BY_PERCENTILE, by_percentile, bins, unknown)])


def verdict_of(scored: Scored, margin: float, positive: PositiveControl | None) -> Verdict:
    """The verdict on the mean score."""
    given, learnt = (scored.labels, scored.ranks, scored.clusters), scored.learnt
    return decide(*given, margin=margin, level=LEVEL, learnt=learnt, positive=positive)
