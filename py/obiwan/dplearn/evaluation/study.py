"""Evaluation of referees on a training set: all numbers of a report.

Nothing here knows what a referee is made of.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.evaluation import analysis, notices
from obiwan.dplearn.evaluation.decision import decided, of_networks
from obiwan.dplearn.evaluation.description import data_summary
from obiwan.dplearn.evaluation.ensemble import Scored
from obiwan.dplearn.evaluation.equal import Evidence
from obiwan.dplearn.evaluation.exhibits import exhibits_of
from obiwan.dplearn.evaluation.ideal import EXAMPLES, offset_curve, planted_offset
from obiwan.dplearn.evaluation.judging import Planting, judge_set
from obiwan.dplearn.evaluation.measuring import ControlSample, control_sample
from obiwan.dplearn.evaluation.occlusion import Occlusion, occlude
from obiwan.dplearn.referees.jury import NETWORK, Jury, Sample
from obiwan.dplearn.referees.network import NetworkReferee
from obiwan.dplearn.referees.protocol import Referee
from obiwan.dplearn.referees.testlog import Ledger, record_report, record_retraining
from obiwan.dplearn.retraining.ablations import A_A, AblationResult, run_ablation, run_quick_ablation
from obiwan.dplearn.retraining.margins import margin_of, missing_kinds
from obiwan.dplearn.retraining.runs import run_config_of
from obiwan.dplearn.retraining.sensitivity import SensitivityResult, run_sensitivity, summarise
from obiwan.dplearn.running.software import software
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.differences import Difference
from obiwan.dplearn.training.batches import check_splits
from obiwan.dplearn.trainingset.stampset import StampSet
from obiwan.dplearn.trainingset.visibility import visible_rows
from obiwan.dplearn.twosample.signflips import LEAST_FLIPPED
from obiwan.dplearn.twosample.summary import LEAST_CLUSTERS

OCCLUSION_EXAMPLES = 400  #: of the test split, half of each class
LEAST_TEST = 2  #: test examples of each class without which there is no variance
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What is asked of an evaluation.

    Attributes
    ----------
    margin : float
        AUCs within 0.5 +- margin count as equivalent.
    declared : tuple of Difference
        Amplitudes whose AUC on this set is the margin instead.
    seed : int
        Of draws and splits.
    ablations : tuple of str
        That are to be run.
    planted : tuple of Difference
        For the sensitivity test.
    mock : Path or None
        The mock survey that the training set was cut from.
    jury : Jury
        Which referees make the panel; the networks alone are tested without one.
    planting : Planting
        Kinds of difference of which the smallest that a panel detects is found.
    ablate_network : bool
        Train the network again for ablations, too, where a panel's quick members are.
    """

    margin: float = 0.02
    declared: tuple[Difference, ...] = ()
    seed: int = 1
    ablations: tuple[str, ...] = ()
    planted: tuple[Difference, ...] = ()
    mock: Path | None = None
    jury: Jury = field(default_factory=lambda: Jury((NETWORK,)))
    planting: Planting = field(default_factory=Planting)
    ablate_network: bool = False


def check_set(stamp_set: StampSet) -> None:
    """Check that every split holds both classes, and the test split two of each: else there is no interval.

    Raises
    ------
    TrainingSetError
    """
    check_splits(stamp_set)
    real, fake = stamp_set.count("test")
    if min(real, fake) < LEAST_TEST:
        msg = (
            f"{stamp_set.directory}: {real} real and {fake} fake test examples; {LEAST_TEST} of each are "
            "needed for an interval: make a set with more bricks"
        )
        raise TrainingSetError(msg)


def ledger(
    stamp_set: StampSet, checksums: Sequence[str], margin: float, ablations: Sequence[str]
) -> Ledger | None:
    """Record this evaluation, and what was retrained for it, in the test-set log; returns the log."""
    for name in ablations:
        if name not in A_A:  # whose labels are not those of real and fake
            record_retraining(stamp_set, checksums[0], name)
    return record_report(stamp_set, checksums, margin)


def _retrain(
    stamp_set: StampSet,
    first: Referee | None,
    request: Request,
    outdir: Path | None,
    executor: Executor | None,
    *,
    overwrite: bool,
) -> tuple[tuple[AblationResult, ...], tuple[SensitivityResult, ...]]:
    """Train again for ablations and planted differences; finished networks in `outdir` are read."""
    jury = request.jury
    quick = [] if jury.alone else list(request.ablations)
    slow = request.ablations if jury.alone or request.ablate_network else ()
    ablations = [run_quick_ablation(name, stamp_set, jury, executor) for name in quick]
    if not (slow or request.planted) or outdir is None or not isinstance(first, NetworkReferee):
        return tuple(ablations), ()
    given = (stamp_set, run_config_of(first.path), outdir)
    ablations += [run_ablation(name, *given, overwrite=overwrite) for name in slow]
    sensitivity = tuple(run_sensitivity(one, *given, overwrite=overwrite) for one in request.planted)
    return tuple(ablations), sensitivity


def evaluate_referees(
    stamp_set: StampSet,
    referees: Sequence[Referee],
    request: Request,
    outdir: Path | None = None,
    *,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> analysis.Evaluation:
    """Evaluate referees on the test split of a training set.

    Parameters
    ----------
    stamp_set : StampSet
    referees : sequence of Referee
        Trained networks.  Their mean score is a member of the panel or, where there is no other, tested by
        itself; occlusion is of the first.
    request : Request
    outdir : Path, optional
        Where members of the panel are kept, and where the first network is trained again for the ablations
        and planted differences of the request; none are run without it.
    overwrite : bool
        Replace there what is of another network or training set; else that is an error.
    executor : Executor, optional
        Workers that measure and score stamps.

    Raises
    ------
    TrainingSetError
        If a split lacks a class, stamps cannot be measured, or the mock survey is another one.
    ModelError
        If scores are not finite, or the settings of a network that is to be trained again are not known.
    """
    check_set(stamp_set)
    spec, seed, first = stamp_set.spec, request.seed, next(iter(referees), None)
    offset, of_mock = planted_offset(request.mock, stamp_set)
    judged = judge_set(stamp_set, referees, request.jury, request.planting, executor, outdir)
    if request.declared:
        request = replace(request, margin=margin_of(judged.detections, request.declared))
    ablations, sensitivity = _retrain(stamp_set, first, request, outdir, executor, overwrite=overwrite)
    names, by_network = [one.name for one in ablations], summarise(sensitivity) if sensitivity else None
    known = ledger(stamp_set, judged.checksums, request.margin, names)
    scored, networks = replace(judged.scored, ledger=known), judged.networks
    sample = control_sample(judged.stamp_set, judged.samples, request.jury, executor)
    evidence, columns = _evidence(sample, judged.samples), sample.covariates_of(scored.rows)
    data, some, held = data_summary(stamp_set), sample.tests, analysis.strata_keys(spec)
    planted, settings = (*sensitivity, *judged.detections), _settings(request)
    missing = missing_kinds(judged.detections or sensitivity, spec)
    return analysis.Evaluation(
        settings=settings,
        spec=spec,
        data=data,
        scored=scored,
        columns=columns,
        **decided(scored, evidence, judged.detected or by_network, missing, settings),
        answer=analysis.answer(scored, seed),
        **of_networks(networks, by_network, settings),
        calibration=analysis.calibrate(scored),
        conditional=analysis.conditional(scored.take(some), columns.take(some), held, seed),
        bins=analysis.where(scored, columns, spec),
        occlusion=_occlusion(sample.stamp_set, first, networks or scored, seed),
        exhibits=exhibits_of(judged.stamp_set, scored, sample, referees, seed),
        ideal=_ideal(sample.stamp_set, offset, columns.take(some)["sn"], seed),
        ablations=ablations,
        sensitivity=sensitivity,
        detections=judged.detections,
        not_run=notices.sampled(len(some), len(scored.rows), sum(stamp_set.count("test")))
        + notices.unknown_exposures(data)
        + notices.not_run(len(referees), names, planted, evidence.controls, spec),
        cautions=notices.cautions(scored, data, networks),
        mock=of_mock,
        versions=software(),
    )


def _evidence(sample: ControlSample, samples: Mapping[str, Sample]) -> Evidence:
    """Controls of a measured sample, and of the galaxy fits that a panel has made of it."""
    clusters = sample.stamp_set.clusters(sample.rows, LEAST_FLIPPED).names
    measured = (sample.rows, sample.measured, sample.stamp_set.spec)
    return Evidence.of(*measured, clusters, sample.tests, samples)


def _settings(request: Request) -> dict[str, Any]:
    """Settings that a report states."""
    declared = {"declared": " ".join(map(str, request.declared))} if request.declared else {}
    return {"margin": request.margin, **declared, "level": analysis.LEVEL, "seed": request.seed}


def _some_tests(stamp_set: StampSet, count: int, seed: int) -> tuple[Array, Array, Array]:
    """Positions, rows and stamps of random test examples, at most half of `count` of each class."""
    rng, rows = np.random.default_rng([seed, 40]), stamp_set.rows("test")
    drawn = [rng.permutation(np.flatnonzero(rows["label"] == value))[: count // 2] for value in (0, 1)]
    chosen = np.sort(np.concatenate(drawn))
    return chosen, rows[chosen], stamp_set.stamps("test", chosen)


def _occlusion(stamp_set: StampSet, first: Referee | None, scored: Scored, seed: int) -> Occlusion | None:
    """AUC of a referee by parts of the stamp, on some test examples."""
    if first is None or np.ptp(scored.singles[0]) == 0:  # a constant score has no parts
        return None
    chosen, rows, stamps = _some_tests(stamp_set, OCCLUSION_EXAMPLES, seed)
    log.info("occlusion: scoring parts of %d test examples with %s", len(chosen), first.name)
    seen = visible_rows(rows, stamp_set.read_columns())
    clusters = stamp_set.clusters(stamp_set.rows("test"), LEAST_CLUSTERS).numbers[chosen]
    return occlude(first.predict, stamps, rows, stamp_set.spec, seen=seen, clusters=clusters, seed=seed)


def _ideal(
    stamp_set: StampSet, offset: float | None, signal_to_noise: Array, seed: int
) -> tuple[Array, Array] | None:
    """Signal to noise and AUC of the ideal observer of an offset, from some test examples."""
    if offset is None:
        return None
    chosen, rows, stamps = _some_tests(stamp_set, EXAMPLES, seed)
    log.info("ideal observer: rendering %d test examples", len(chosen))
    return offset_curve(offset, rows, stamps, signal_to_noise[chosen], stamp_set.spec)
