"""Trained networks as a test uses them: loaded, checked, and their scores taken from disk where they are."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.conventions import Array
from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.evaluation.records import ModelInfo, Scored
from obiwan.dplearn.files.atomic import read_json
from obiwan.dplearn.running.quiet import without_notes
from obiwan.dplearn.training.rundir import RESULT, RUN, SCORES
from obiwan.dplearn.trainingset.stampset import StampSet

log = logging.getLogger(__name__)

LEARNT_SHARDS = 4  #: training shards that are scored to see whether a network without a record learnt


@dataclass(frozen=True)
class Member:
    """A loaded network.

    Attributes
    ----------
    path : Path
    model : keras.Model
    info : ModelInfo
    """

    path: Path
    model: Any
    info: ModelInfo


def short_name(path: Path) -> str:
    """The last two parts of a path: enough to tell runs apart, and nothing about the machine."""
    return "/".join(path.absolute().parts[-2:])


def _record(path: Path) -> dict[str, Any]:
    """A JSON file that a training run left beside its model; empty where there is none that can be read."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}


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


def _has_learnt(path: Path, model: Any, checksum: str, training_set: StampSet) -> bool:
    """Whether a network learnt: as its run recorded it, else from its loss on training and validation."""
    record = _record(path.parent / RESULT)
    if record.get("model") == checksum and isinstance(record.get("learnt"), bool):
        return bool(record["learnt"])
    from obiwan.dplearn.training.scoring import measure
    from obiwan.dplearn.training.trainer import has_learnt

    log.info("%s: no record of its training; looking at its loss", path)
    part = training_set.only(training_set.split("train")[:LEARNT_SHARDS])
    history = {
        "loss": measure(model, part, "train")["loss"],
        "val_loss": measure(model, training_set, "val")["loss"],
    }
    return has_learnt([history], {"train": part.count("train"), "val": training_set.count("val")})


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
    with without_notes():
        from obiwan.dplearn.training.model import load_network
        from obiwan.dplearn.training.scoring import model_checksum

    members: list[Member] = []
    for path in paths:
        model = load_network(path)
        checksum = model_checksum(model)
        same = next((m for m in members if m.info.checksum == checksum), None)
        if same is not None:
            msg = f"{path}: the same network as {same.path}; name each --model once"
            raise ModelError(msg)
        run = _record(path.parent / RUN)
        info = ModelInfo(
            name=short_name(path),
            checksum=checksum,
            arch=str(model.name).replace("_", "-"),
            learnt=_has_learnt(path, model, checksum, training_set),
            trained_on=str(run.get("data", "")),
            training=_training_words(run),
            augmented=_feed(run).get("augment") is True,
        )
        members.append(Member(path, model, info))
    return tuple(members)


def _test_scores(member: Member, training_set: StampSet) -> tuple[Any, Path | None]:
    """Scores of the test split: those that lie beside the model, or new ones and where they belong."""
    from obiwan.dplearn.training import scoring

    key = (member.info.checksum, training_set.checksum)
    first = member.path.parent / SCORES
    own = first.with_name(f"{first.stem}_{member.path.stem}{first.suffix}")
    for path in (first, own):
        kept = scoring.read_scores(path, *key)
        if kept is not None and kept.split == "test":
            log.info("%s: its scores are in %s", member.path, path)
            return kept, None
    log.info("%s: scoring the test split", member.path)
    scores = scoring.score_split(member.model, training_set, "test")
    return scores, own if first.exists() else first


def _keep(path: Path, scores: Any) -> None:
    """Put scores beside their model, if that can be written."""
    from obiwan.dplearn.training.scoring import write_scores

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
    with without_notes():
        from obiwan.dplearn.training.model import load_network
        from obiwan.dplearn.training.scoring import score_split

    scores = score_split(load_network(path), training_set, split)
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
    from obiwan.dplearn.training import scoring
    from obiwan.dplearn.training.testlog import record_evaluation

    rows, val_rows = (training_set.rows(split) for split in ("test", "val"))
    singles, validation = [], []
    for member in members:
        scores, place = _test_scores(member, training_set)
        _check_finite(member.path, scores.score)
        singles.append(_aligned(scores, training_set))
        record_evaluation(training_set, scores)  # before anything of it is seen
        if place is not None:
            _keep(place, scores)
        held = scoring.score_split(member.model, training_set, "val")
        _check_finite(member.path, held.score)
        validation.append(_aligned(held, training_set))
    return Scored(
        rows=rows,
        singles=np.stack(singles),
        val_labels=np.asarray(val_rows["label"]),
        val_scores=np.mean(validation, axis=0),
        models=tuple(member.info for member in members),
    )
