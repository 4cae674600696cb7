"""Held-out result: what a trained network reaches on the test set, which it scores once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obiwan.dplearn.files.lease import holding_lease
from obiwan.dplearn.referees import scoring
from obiwan.dplearn.referees.network import model_checksum
from obiwan.dplearn.referees.testlog import record_evaluation
from obiwan.dplearn.training.distributed import World
from obiwan.dplearn.training.rundir import SCORES
from obiwan.dplearn.trainingset.stampset import StampSet
from obiwan.dplearn.twosample import Answer, answer

if TYPE_CHECKING:
    from obiwan.dplearn.training.trainer import Fitted


@dataclass(frozen=True)
class HeldOut:
    """What a network reached on the test set; named as in ``result.json``.

    Attributes
    ----------
    answer : Answer
        Accuracy, AUC, what guessing gets, numbers of examples and bricks.
    best_epoch : int
        The epoch, from 1, whose weights were best in validation.
    learnt : bool
        Whether the network fitted its training set at all.
    looks : int or None
        How many networks have scored this test set; None where that is not known.
    model, data : str
        Checksums of the network and of the training set.
    """

    answer: Answer
    best_epoch: int
    learnt: bool
    looks: int | None
    model: str
    data: str

    def to_dict(self) -> dict[str, Any]:
        """The numbers, those of `answer` among the others."""
        numbers = asdict(self)
        return {**numbers.pop("answer"), **numbers}


def score_test(
    fitted: Fitted, stamp_set: StampSet, outdir: Path, world: World, scratch: Path | None
) -> scoring.Scores:
    """Score the test set, every rank a part, unless the scores of these weights are there."""
    model, checksum = fitted.model, model_checksum(fitted.model)
    with world.together():
        kept = scoring.read_scores(outdir / SCORES, checksum, stamp_set.checksum) if world.leads else None
    kept = world.share(kept)
    if isinstance(kept, scoring.Scores):
        return kept
    scores = scoring.score_with(
        lambda x, _: model.predict_on_batch(x)[:, 1], checksum, stamp_set, "test", world
    )
    if world.leads:
        with holding_lease(scratch, outdir):
            scoring.write_scores(outdir / SCORES, scores, scratch)
    return scores


def summarise(fitted: Fitted, stamp_set: StampSet, scores: scoring.Scores) -> HeldOut:
    """Record the evaluation in the test-set log, and find what the network reached."""
    looks = record_evaluation(stamp_set, scores)
    found = answer(scores.label, scores.score, scoring.bricks_of(stamp_set, scores))
    best, learnt = fitted.progress.best_epoch, fitted.learnt
    return HeldOut(found, best, learnt, looks, scores.model, scores.data)
