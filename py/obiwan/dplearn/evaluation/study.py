"""Evaluation of referees on a training set: all numbers of a report.

Nothing here knows what a referee is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from obiwan.dplearn.controls.battery import run_controls
from obiwan.dplearn.evaluation import analysis, notices
from obiwan.dplearn.evaluation.context import check_set, data_summary, software
from obiwan.dplearn.evaluation.ensemble import Keep, Kept, score_all
from obiwan.dplearn.evaluation.records import Evaluation, Scored
from obiwan.dplearn.evaluation.samples import control_set, ideal_curve, occlusion_of, planted_offset
from obiwan.dplearn.referees.protocol import Referee
from obiwan.dplearn.referees.testlog import Ledger, record_report, record_retraining
from obiwan.dplearn.retraining.ablations import A_A, AblationResult
from obiwan.dplearn.retraining.sensitivity import SensitivityResult, SensitivitySummary, summarise
from obiwan.dplearn.trainingset.stampset import StampSet

if TYPE_CHECKING:
    from obiwan.dplearn.survey.differences import Difference

Retraining = tuple[tuple[AblationResult, ...], tuple[SensitivityResult, ...]]


@dataclass(frozen=True)
class Request:
    """What is asked of an evaluation.

    Attributes
    ----------
    margin : float
        AUCs within 0.5 +- margin count as equivalent.
    seed : int
        Of draws and splits.
    ablations : tuple of str
        That are to be run.
    planted : tuple of Difference
        For the sensitivity test.
    mock : Path or None
        The mock survey that the training set was cut from.
    """

    margin: float = 0.02
    seed: int = 1
    ablations: tuple[str, ...] = ()
    planted: tuple[Difference, ...] = ()
    mock: Path | None = None


def ledger(
    stamp_set: StampSet, referees: Sequence[Referee], margin: float, ablations: Sequence[str]
) -> Ledger | None:
    """Record this evaluation, and what was retrained for it, in the test-set log; returns the log."""
    for name in ablations:
        if name not in A_A:  # whose labels are not those of real and fake
            record_retraining(stamp_set, referees[0].checksum, name)
    return record_report(stamp_set, [referee.checksum for referee in referees], margin)


def evaluate_referees(
    stamp_set: StampSet,
    referees: Sequence[Referee],
    request: Request,
    *,
    retrain: Callable[[Request], Retraining] | None = None,
    kept: Kept | None = None,
    keep: Keep | None = None,
) -> Evaluation:
    """Evaluate referees on the test split of a training set.

    Parameters
    ----------
    stamp_set : StampSet
    referees : sequence of Referee
        Their mean score is tested; occlusion is of the first.
    request : Request
    retrain : callable, optional
        Runs the ablations and planted differences of the request.
    kept, keep : callable, optional
        As for `score_all`.

    Raises
    ------
    TrainingSetError
        If a split lacks a class, or the mock survey is another one.
    ModelError
        If scores are not finite.
    """
    check_set(stamp_set)
    offset, of_mock = planted_offset(request.mock, stamp_set)
    scored = score_all(referees, stamp_set, kept, keep)
    ablations, sensitivity = retrain(request) if retrain is not None else ((), ())
    scored = replace(scored, ledger=ledger(stamp_set, referees, request.margin, request.ablations))
    found = _judge(stamp_set, referees[0], scored, request, summarise(sensitivity) if sensitivity else None)
    curve = None
    if offset is not None:
        curve = ideal_curve(stamp_set, scored, found.columns["sn"], offset, request.seed)
    return replace(
        found,
        ideal=curve,
        ablations=ablations,
        sensitivity=sensitivity,
        not_run=notices.not_run(
            len(referees), request.ablations, request.planted, found.controls, found.spec
        ),
        cautions=notices.cautions(scored, found.data),
        mock=of_mock,
    )


def _judge(
    stamp_set: StampSet,
    first: Referee,
    scored: Scored,
    request: Request,
    positive: SensitivitySummary | None,
) -> Evaluation:
    """What follows from scores and stamps, and the verdict."""
    spec, seed = stamp_set.spec, request.seed
    sample = control_set(stamp_set)
    columns, labels = sample.of_test, sample.rows["label"]
    bricks = np.char.strip(sample.rows["brick"].astype(str))
    varied = np.ptp(scored.singles[0]) > 0  # a constant score has no parts
    return Evaluation(
        settings={"margin": request.margin, "level": analysis.LEVEL, "seed": seed},
        spec=spec,
        data=data_summary(stamp_set),
        scored=scored,
        columns=columns,
        verdict=analysis.verdict_of(scored, request.margin, positive),
        answer=analysis.answer(scored, seed),
        calibration=analysis.calibrate(scored),
        conditional=analysis.conditional(scored, columns, analysis.held_equal(spec), seed),
        baseline=analysis.baseline(sample.columns, sample.rows, sample.in_test, seed),
        controls=run_controls(sample.rows, sample.measured, labels, bricks, spec),
        control_examples=len(sample.rows),
        bins=analysis.where(scored, columns, spec),
        occlusion=occlusion_of(first, stamp_set, scored, seed) if varied else None,
        versions=software(),
    )
