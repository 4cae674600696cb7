"""The result on the test split, which a trained network sees once: scored, put in words and numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obiwan.dplearn.files.lease import holding_lease
from obiwan.dplearn.training import scoring
from obiwan.dplearn.training.distributed import World
from obiwan.dplearn.training.rundir import SCORES
from obiwan.dplearn.training.scoring import Scores
from obiwan.dplearn.training.testlog import record_evaluation
from obiwan.dplearn.trainingset.stampset import StampSet
from obiwan.dplearn.twosample import Answer, answer

if TYPE_CHECKING:
    from obiwan.dplearn.training.trainer import Fitted


@dataclass(frozen=True)
class Result:
    """What is said at the end, as ``result.json`` has it.

    Attributes
    ----------
    lines : tuple of str
        The text that is printed.
    numbers : dict
        The same for programs.
    """

    lines: tuple[str, ...]
    numbers: dict[str, Any]


def _verdict(found: Answer, fitted: Fitted) -> tuple[str, ...]:
    """The result in plain words."""
    if found.tells:
        return ("The network can tell fakes from real galaxies.",)
    if not fitted.learnt:
        return (
            "The network did not learn: its loss never left ln 2 = 0.693, in training or in validation.",
            "This says nothing about the fakes.  Use more examples or epochs, or another --learning-rate.",
        )
    return (
        "The network cannot tell fakes from real galaxies on examples it has not seen.",
        f"That does not prove them alike: an AUC up to {found.auc.high:.3f} is compatible with this test.",
    )


def score_test(
    fitted: Fitted, training_set: StampSet, outdir: Path, world: World, scratch: Path | None
) -> Scores:
    """Score the test split once for a model, every rank its share; the first writes the scores down."""
    checksum = scoring.model_checksum(fitted.model)
    with world.together():
        kept = scoring.read_scores(outdir / SCORES, checksum, training_set.checksum) if world.leads else None
    kept = world.share(kept)
    if isinstance(kept, scoring.Scores):
        return kept
    scores = scoring.score_split(fitted.model, training_set, "test", world=world)
    if world.leads:
        with holding_lease(scratch, outdir):
            scoring.write_scores(outdir / SCORES, scores, scratch)
    return scores


def summarise(fitted: Fitted, training_set: StampSet, scores: Scores) -> Result:
    """Put the result on the test split in words and numbers."""
    looks = record_evaluation(training_set, scores)
    bricks = scoring.bricks_of(training_set, scores)
    found = answer(scores.label, scores.score, bricks)
    basis = f"{found.bricks} bricks" if found.bricks else "the examples taken one by one"
    lines = [
        f"Held-out result: {found.real + found.fake} test examples ({found.real} real, {found.fake} fake), "
        f"scored with the weights of epoch {fitted.progress.best_epoch}, the best in validation",
        f"  accuracy  {found.accuracy}; guessing the most numerous class: {found.majority:.3f}",
        f"  AUC       {found.auc}, from {basis}; guessing: 0.500",
        *_verdict(found, fitted),
    ]
    if looks is not None and looks > 1:
        lines.append(f"This test split has now been looked at by {looks} different models: allow for that.")
    numbers = {
        **asdict(found),
        "learnt": fitted.learnt,
        "looks": looks,
        "model": scores.model,
        "data": scores.data,
    }
    return Result(tuple(lines), numbers)
