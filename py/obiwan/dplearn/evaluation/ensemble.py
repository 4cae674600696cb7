"""Trained networks as a test uses them: loaded, checked, and their scores taken from disk where they are."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.evaluation.records import ModelInfo, Scored
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.training.rundir import SCORES
from obiwan.dplearn.trainingset.stampset import StampSet

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """A loaded network.

    Attributes
    ----------
    path : Path
    referee : NetworkReferee
    info : ModelInfo
    """

    path: Path
    referee: Any
    info: ModelInfo

    @property
    def model(self) -> Any:
        """The Keras model."""
        return self.referee.model


def _feed(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a run's examples were put in batches; empty where its record does not say."""
    feed = run.get("feed")
    return feed if isinstance(feed, dict) else {}


def _training_words(run: Mapping[str, Any]) -> str:
    """How a network was trained, as far as the record of its run says."""
    feed = _feed(run)
    named = (
        ("epochs", run.get("epochs")),
        ("batch", feed.get("batch_size")),
        ("learning rate", run.get("learning_rate")),
        ("seed", feed.get("seed")),
    )
    words = [f"{name} {value:g}" for name, value in named if isinstance(value, (int, float))]
    return ", ".join([*words, "flipped and turned"] if feed.get("augment") is True else words)


def load_members(paths: Sequence[Path], training_set: StampSet) -> tuple[Member, ...]:
    """Load networks and find out what is known of them.

    Parameters
    ----------
    paths : sequence of Path
        ``.keras`` files.
    training_set : StampSet
        On which they will be tested.

    Raises
    ------
    ModelError
        If a file is absent, no network for cutouts of this package, or computes what another one does.
    """
    from obiwan.dplearn.referees.network import load_network_referee

    members: list[Member] = []
    for path in paths:
        referee = load_network_referee(path, training_set)
        same = next((m for m in members if m.info.checksum == referee.checksum), None)
        if same is not None:
            msg = f"{path}: the same network as {same.path}; name each --model once"
            raise ModelError(msg)
        info = ModelInfo(
            name=referee.name,
            checksum=referee.checksum,
            arch=referee.arch,
            learnt=referee.learnt,
            trained_on=str(referee.run.get("data", "")),
            training=_training_words(referee.run),
            augmented=_feed(referee.run).get("augment") is True,
        )
        members.append(Member(path, referee, info))
    return tuple(members)


def _test_scores(member: Member, training_set: StampSet) -> tuple[Any, Path | None]:
    """Scores of the test split: those that lie beside the model, or new ones and where they belong."""
    from obiwan.dplearn.referees import scoring

    key = (member.info.checksum, training_set.checksum)
    first = member.path.parent / SCORES
    own = first.with_name(f"{first.stem}_{member.path.stem}{first.suffix}")
    for path in (first, own):
        kept = scoring.read_scores(path, *key)
        if kept is not None and kept.split == "test":
            log.info("%s: its scores are in %s", member.path, path)
            return kept, None
    log.info("%s: scoring the test split", member.path)
    scores = scoring.score_split(member.referee, training_set, "test")
    return scores, own if first.exists() else first


def _keep(path: Path, scores: Any) -> None:
    """Put scores beside their model, if that can be written."""
    from obiwan.dplearn.referees.scoring import write_scores

    try:
        write_scores(path, scores)
    except OSError as error:
        log.warning("warning: %s: the scores are not kept (%s)", path, error)


def _aligned(scores: Any, training_set: StampSet) -> Array:
    """Scores in the order of the rows of their split."""
    return np.asarray(scores.score[training_set.aligned(scores.split, scores.table)], np.float64)


def _check_finite(path: Path, scores: Array) -> None:
    """Refuse a network that gives anything but numbers."""
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    if bad:
        msg = f"{path}: {bad} of {len(scores)} scores are not finite: the network is broken; train again"
        raise ModelError(msg)


def scores_of(path: Path, training_set: StampSet, split: str) -> Array:
    """Scores that a network gives a split, in the order of its rows of the source table.

    Raises
    ------
    ModelError
        If there is no such network, or its scores are not finite, or not those of the rows.
    """
    from obiwan.dplearn.referees.network import load_network_referee
    from obiwan.dplearn.referees.scoring import score_split

    scores = score_split(load_network_referee(path, training_set), training_set, split)
    _check_finite(path, scores.score)
    return _aligned(scores, training_set)


def score_members(members: Sequence[Member], training_set: StampSet) -> Scored:
    """Score the test and the validation split with every network; counts the looks at the test split.

    Parameters
    ----------
    members : sequence of Member
    training_set : StampSet

    Raises
    ------
    ModelError
        If scores are not finite, or not those of the table's rows.
    """
    from obiwan.dplearn.referees import scoring
    from obiwan.dplearn.referees.testlog import record_evaluation

    rows, val_rows = (training_set.rows(split) for split in ("test", "val"))
    singles, validation = [], []
    for member in members:
        scores, place = _test_scores(member, training_set)
        _check_finite(member.path, scores.score)
        singles.append(_aligned(scores, training_set))
        record_evaluation(training_set, scores)  # before anything of it is seen
        if place is not None:
            _keep(place, scores)
        held = scoring.score_split(member.referee, training_set, "val")
        _check_finite(member.path, held.score)
        validation.append(_aligned(held, training_set))
    return Scored(
        rows=rows,
        singles=np.stack(singles),
        val_labels=np.asarray(val_rows["label"]),
        val_scores=np.mean(validation, axis=0),
        models=tuple(member.info for member in members),
    )
