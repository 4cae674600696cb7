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

from obiwan.dplearn.controls.measure import measure_split
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.evaluation import analysis, notices
from obiwan.dplearn.evaluation.decision import decided, of_networks
from obiwan.dplearn.evaluation.description import data_summary, software
from obiwan.dplearn.evaluation.ensemble import Scored
from obiwan.dplearn.evaluation.equal import Evidence
from obiwan.dplearn.evaluation.exhibits import exhibits_of
from obiwan.dplearn.evaluation.ideal import EXAMPLES, offset_curve, planted_offset
from obiwan.dplearn.evaluation.judging import Judged, Planting, judge_set
from obiwan.dplearn.evaluation.occlusion import Occlusion, occlude
from obiwan.dplearn.referees.jury import NETWORK, Jury, Sample
from obiwan.dplearn.referees.network import NetworkReferee
from obiwan.dplearn.referees.protocol import Referee
from obiwan.dplearn.referees.testlog import Ledger, record_report, record_retraining
from obiwan.dplearn.retraining.ablations import A_A, AblationResult, run_ablation, run_quick_ablation
from obiwan.dplearn.retraining.margins import margin_of, missing_kinds
from obiwan.dplearn.retraining.runs import run_config_of
from obiwan.dplearn.retraining.sensitivity import SensitivityResult, run_sensitivity, summarise
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.differences import Difference
from obiwan.dplearn.training.batches import check_splits
from obiwan.dplearn.trainingset.stampset import StampSet
from obiwan.dplearn.twosample.signflips import LEAST_FLIPPED
from obiwan.dplearn.twosample.summary import LEAST_CLUSTERS

CONTROL_EXAMPLES = 50_000  #: that the controls are run on, at most but for the test split
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


def _light(part: StampSet, split: str, known: Sample | None) -> Array:
    """Measurements of the shards of a split: those of a panel's sample where it has all of them."""
    wanted = [shard.number for shard in part.split(split)]
    if known is None or not set(wanted) <= {shard.number for shard in known.stamp_set.shards}:
        return measure_split(part, split)
    return known.measured.light[np.isin(known.stamp_set.rows(split)["shard"], wanted)]


def control_set(stamp_set: StampSet, known: Mapping[str, Sample]) -> tuple[Array, Array, int]:
    """Rows and measurements of the examples that the controls are run on, and how many of them are tests.

    What a panel has measured, `known` by split, is not measured again.

    Controls learn nothing, so training examples serve as well as others: the test split first, then
    validation and training shards up to `CONTROL_EXAMPLES`.
    """
    left, rows, measured = CONTROL_EXAMPLES, [], []
    for split in ("test", "val", "train"):
        shards = []
        for shard in stamp_set.split(split):
            if split == "test" or shard.rows <= left:
                shards.append(shard)
                left -= shard.rows
        part = stamp_set.only(shards)
        rows.append(part.rows(split))
        measured.append(_light(part, split, known.get(split)))
    return np.concatenate(rows), np.concatenate(measured), len(rows[0])


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
        Workers that measure stamps for the panel.

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
    names = [result.name for result in ablations]
    by_network = summarise(sensitivity) if sensitivity else None
    known = ledger(stamp_set, judged.checksums, request.margin, names)
    scored, networks = replace(judged.scored, ledger=known), judged.networks
    evidence, measured, tests = _evidence(judged)
    data, columns = data_summary(stamp_set), {key: v[:tests] for key, v in evidence.columns.items()}
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
        conditional=analysis.conditional(scored, columns, analysis.strata_keys(spec), seed),
        bins=analysis.where(scored, columns, spec),
        occlusion=_occlusion(judged.stamp_set, first, networks or scored, seed),
        exhibits=exhibits_of(judged.stamp_set, scored, measured, referees, seed),
        ideal=_ideal(judged.stamp_set, offset, columns["sn"], seed),
        ablations=ablations,
        sensitivity=sensitivity,
        detections=judged.detections,
        not_run=notices.sampled(len(scored.rows), sum(stamp_set.count("test")))
        + notices.unknown_exposures(data)
        + notices.not_run(len(referees), names, planted, evidence.controls, spec),
        cautions=notices.cautions(scored, data, networks),
        mock=of_mock,
        versions=software(),
    )


def _evidence(judged: Judged) -> tuple[Evidence, Array, int]:
    """Controls, the measurements that they are of, and how many of these are of test examples."""
    rows, measured, tests = control_set(judged.stamp_set, judged.samples)
    clusters = judged.stamp_set.clusters(rows, LEAST_FLIPPED).names
    evidence = Evidence.of(rows, measured, judged.stamp_set.spec, clusters, judged.samples)
    return evidence, measured, tests


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
    seen = stamp_set.visible("test")[chosen]
    clusters = stamp_set.clusters(stamp_set.rows("test"), LEAST_CLUSTERS).names[chosen]
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
