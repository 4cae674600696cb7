"""Scores of any number of referees: checked, recorded in the test-set log, aligned with the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.evaluation.records import ModelInfo, Scored
from obiwan.dplearn.referees import scoring
from obiwan.dplearn.referees.protocol import Referee
from obiwan.dplearn.referees.testlog import record_evaluation
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.trainingset.stampset import StampSet

Keep = Callable[[Any, scoring.Scores], None]
Kept = Callable[[Any, StampSet], scoring.Scores | None]


def info_of(referee: Referee) -> ModelInfo:
    """What is known of a referee; of a network also how it was trained, as far as its run's record says."""
    run: Mapping[str, Any] = getattr(referee, "run", {})
    feed = run.get("feed")
    feed = feed if isinstance(feed, dict) else {}
    named = {
        "epochs": run.get("epochs"),
        "batch": feed.get("batch_size"),
        "learning rate": run.get("learning_rate"),
        "seed": feed.get("seed"),
    }
    return ModelInfo(
        name=referee.name,
        checksum=referee.checksum,
        arch=str(getattr(referee, "arch", "")),
        learnt=referee.learnt,
        trained_on=str(run.get("data", "")),
        settings={name: value for name, value in named.items() if isinstance(value, int | float)},
        augmented=feed.get("augment") is True,
    )


def scores_of(referee: Referee, stamp_set: StampSet, split: str) -> Array:
    """Scores that a referee gives a split, in the order of its rows.

    Raises
    ------
    ModelError
        If scores are not finite.
    """
    return _aligned(_checked(referee, scoring.score_split(referee, stamp_set, split)), stamp_set)


def score_all(
    referees: Sequence[Referee], stamp_set: StampSet, kept: Kept | None = None, keep: Keep | None = None
) -> Scored:
    """Score the test and the validation split with every referee; each is recorded in the test-set log.

    Parameters
    ----------
    referees : sequence of Referee
    stamp_set : StampSet
    kept : callable, optional
        Finds scores of the test split that a referee gave before.
    keep : callable, optional
        Keeps new ones.

    Raises
    ------
    ModelError
        If scores are not finite.
    """
    singles, validation = [], []
    for referee in referees:
        found = None if kept is None else kept(referee, stamp_set)
        scores = scoring.score_split(referee, stamp_set, "test") if found is None else found
        singles.append(_aligned(_checked(referee, scores), stamp_set))
        record_evaluation(stamp_set, scores)  # before anything of it is seen
        if found is None and keep is not None:
            keep(referee, scores)
        validation.append(scores_of(referee, stamp_set, "val"))
    return Scored(
        rows=stamp_set.rows("test"),
        singles=np.stack(singles),
        val_labels=np.asarray(stamp_set.rows("val")["label"]),
        val_scores=np.mean(validation, axis=0),
        models=tuple(info_of(referee) for referee in referees),
    )


def _checked(referee: Referee, scores: scoring.Scores) -> scoring.Scores:
    """The same scores, all of them finite."""
    bad = int(np.count_nonzero(~np.isfinite(scores.score)))
    if bad:
        where = getattr(referee, "path", referee.name)
        msg = (
            f"{where}: {bad} of {len(scores.score)} scores are not finite: the network is broken; train again"
        )
        raise ModelError(msg)
    return scores


def _aligned(scores: scoring.Scores, stamp_set: StampSet) -> Array:
    """Scores in the order of the rows of their split."""
    return np.asarray(scores.score[stamp_set.aligned(scores.split, scores.table)], np.float64)
