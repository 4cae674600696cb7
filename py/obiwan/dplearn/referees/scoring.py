"""Scores of a split: made by any referee, written to FITS and read again."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.files.fits import check_not_truncated, open_fits, reading
from obiwan.dplearn.referees.protocol import Portable, Referee
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.training.batches import BATCH
from obiwan.dplearn.training.distributed import SERIAL, World
from obiwan.dplearn.training.validation import Predict, predictions
from obiwan.dplearn.trainingset.manifest import SOURCES
from obiwan.dplearn.trainingset.shardwise import on_shards
from obiwan.dplearn.trainingset.stampset import Labels, Stamps, StampSet
from obiwan.dplearn.trainingset.visibility import visible_rows

WORTH = 20_000  #: stamps of a split from which workers score: each needs ten seconds to load a network
_COLUMNS = {"shard": "i4", "row": "i4", "label": "u1", "score": "f4"}


@dataclass(frozen=True)
class Scores:
    """Scores of a split in shard order.

    Attributes
    ----------
    split : str
        ``train``, ``val`` or ``test``.
    shard, row : ndarray
        Where each example is: number of its shard, row in it from 0.
    label : ndarray
        Real = 0, fake = 1.
    score : ndarray
        From 0 (real) to 1 (fake), float32.
    model, data : str
        Checksums of the referee and of the training set.
    """

    split: str
    shard: NDArray[np.int32]
    row: NDArray[np.int32]
    label: NDArray[np.uint8]
    score: NDArray[np.float32]
    model: str
    data: str

    @property
    def table(self) -> NDArray[np.void]:
        """Shard, row, label and score as one structured array."""
        out = np.empty(len(self.score), list(_COLUMNS.items()))
        for name in _COLUMNS:
            out[name] = getattr(self, name)
        return out


def _scored(referee: Referee, stamps: Stamps, rows: Array) -> NDArray[np.float32]:
    """Scores of stamps, one each.

    Raises
    ------
    ModelError
        If they are not.
    """
    scores = np.asarray(referee.predict(stamps, rows), np.float32)
    if scores.shape != (len(stamps),):
        msg = f"referee {referee.name}: {len(stamps)} stamps have scores of shape {scores.shape}"
        raise ModelError(msg)
    return scores


def _scored_in_batches(referee: Referee, stamps: Stamps, rows: Array) -> NDArray[np.float32]:
    """Scores of the stamps of a shard, in the batches of one process."""
    parts = (slice(start, start + BATCH) for start in range(0, len(rows), BATCH))
    return np.concatenate([_scored(referee, stamps[part], rows[part]) for part in parts])


def score_split(
    referee: Referee,
    stamp_set: StampSet,
    split: str,
    world: World = SERIAL,
    executor: Executor | None = None,
) -> Scores:
    """Score every example of a split.

    Parameters
    ----------
    referee : Referee
        Sees pixels and `StampSet.visible` rows, never a label.
    stamp_set : StampSet
    split : str
        ``train``, ``val`` or ``test``.
    world : World, optional
        The ranks that share the work; each gets all scores.
    executor : Executor, optional
        Workers that share the shards of a large split, if the referee can be sent to them (`Portable`); they
        give the same scores.

    Raises
    ------
    ModelError
        If the referee does not give one score a stamp.
    """
    rows, columns = stamp_set.rows(split), stamp_set.read_columns()
    worth = executor is not None and len(rows) >= WORTH
    sent = referee.portable() if worth and isinstance(referee, Portable) else None
    if sent is not None:
        work = partial(_scored_in_batches, sent)
        found = on_shards(work, stamp_set, split, visible_rows(rows, columns), executor, "score")
        labels, scores = (np.concatenate(some) for some in zip(*found, strict=True))
        return _scores_of(labels, scores, referee.checksum, stamp_set, split)

    def predict(stamps: Stamps, here: slice) -> NDArray[np.float32]:
        return _scored(referee, stamps, visible_rows(rows[here], columns))

    return score_with(predict, referee.checksum, stamp_set, split, world)


def score_with(
    predict: Predict, checksum: str, stamp_set: StampSet, split: str, world: World = SERIAL
) -> Scores:
    """Score a split with a function of the pixels, for sets without an example table too.

    Parameters
    ----------
    predict : callable
        From stamps, and which of the split's examples they are, to scores, shape (n,).
    checksum : str
        Name of what it computes.
    stamp_set, split, world
        As for `score_split`.
    """
    labels, scores = predictions(predict, stamp_set, split, world)
    return _scores_of(labels, scores, checksum, stamp_set, split)


def _scores_of(
    labels: Labels, scores: NDArray[np.float32], checksum: str, stamp_set: StampSet, split: str
) -> Scores:
    """Scores of a split in the order of its shards."""
    shards = stamp_set.split(split)
    return Scores(
        split=split,
        shard=np.repeat([s.number for s in shards], [s.rows for s in shards]).astype(np.int32),
        row=np.concatenate([np.arange(s.rows, dtype=np.int32) for s in shards]),
        label=labels,
        score=scores,
        model=checksum,
        data=stamp_set.checksum,
    )


def write_scores(path: Path, scores: Scores, scratch: Path | None = None) -> None:
    """Write scores as a FITS table (columns shard, row, label, score), completely or not at all."""
    with atomic_write(path, scratch) as beside, open_fits(beside, new=True) as file:
        header = {"SPLIT": scores.split, "MODEL": scores.model, "TRAINSET": scores.data}
        file.write(scores.table, header=header, extname="SCORES")


def read_scores(path: Path, model: str, data: str) -> Scores | None:
    """Read scores; None where there is no file, or that of another referee or training set.

    Parameters
    ----------
    path : Path
        What `write_scores` wrote.
    model, data : str
        Checksums of the referee and of the training set.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    if not path.is_file():
        return None
    with reading(f"{path}: not a readable table of scores", "remove it and start again", ModelError):
        with open_fits(path) as file:
            check_not_truncated(file, path)
            table, header = file["SCORES"].read(), file["SCORES"].read_header()
        if (str(header["MODEL"]).strip(), str(header["TRAINSET"]).strip()) != (model, data):
            return None
        columns = {name: np.ascontiguousarray(table[name]).astype(kind) for name, kind in _COLUMNS.items()}
        return Scores(split=str(header["SPLIT"]).strip(), model=model, data=data, **columns)


def bricks_of(stamp_set: StampSet, scores: Scores) -> NDArray[np.str_] | None:
    """The brick of each scored example; None where the training set has no example table.

    Raises
    ------
    TrainingSetError
        If the table cannot be read, is not the one of the manifest, or not of these examples.
    """
    if not (stamp_set.directory / SOURCES).is_file():
        return None
    bricks = stamp_set.bricks(scores.split)
    found = np.empty_like(bricks)
    found[stamp_set.aligned(scores.split, scores.table)] = bricks
    return found
