"""Predictions for a whole split, shared over the ranks; the validation loss; whether a network learnt."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.training.batches import in_order
from obiwan.dplearn.training.distributed import SERIAL, World
from obiwan.dplearn.trainingset.stampset import StampSet
from obiwan.dplearn.twosample.ranking import auc

LEARNT = 0.002  #: a loss this far (nats) below that of a constant answer shows that something was learnt
NOISE = 0.1  #: or this over the square root of the number of examples, if that is more

#: From stamps, and which of the split's examples they are, to numbers
Predict: TypeAlias = Callable[[NDArray[np.float32], slice], NDArray[np.float32]]


def predictions(
    predict: Predict,
    stamp_set: StampSet,
    split: str,
    world: World = SERIAL,
    shape: tuple[int, ...] = (),
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Labels and predictions of a split in shard order; each rank predicts its part of the shards.

    The batches are those of one process, so that the answer does not depend on the number of ranks.

    Parameters
    ----------
    predict : callable
    stamp_set : StampSet
    split : str
        ``train``, ``val`` or ``test``.
    world : World, optional
        The ranks that share the work; each gets all predictions.
    shape : tuple of int
        Of one prediction.

    Returns
    -------
    labels : ndarray of uint8, shape (n,)
    outputs : ndarray of float32, shape (n, ...)
    """
    shards = stamp_set.split(split)
    mine = world.part(shards)
    at = sum(shard.rows for shard in shards[: shards.index(mine[0])]) if mine else 0
    labels, outputs = [np.zeros(0, np.uint8)], [np.zeros((0, *shape), np.float32)]
    with world.together():
        for x, y in in_order(stamp_set.only(mine), split):
            outputs.append(np.asarray(predict(x, slice(at, at + len(y))), np.float32))
            labels.append(y)
            at += len(y)
    return world.gather(np.concatenate(labels)), world.gather(np.concatenate(outputs))


def measure(model: Any, stamp_set: StampSet, split: str, world: World = SERIAL) -> dict[str, float]:
    """Measure a network on a split: ``loss`` (nats), ``accuracy`` and ``auc``.

    Parameters
    ----------
    model : keras.Model
    stamp_set, split, world
        As for `predictions`.
    """
    labels, outputs = predictions(lambda x, _: model.predict_on_batch(x), stamp_set, split, world, (2,))
    given = np.maximum(outputs[np.arange(len(labels)), labels].astype(np.float64), 1e-7)
    return {
        "loss": float(-np.log(given).mean()),
        "accuracy": float((outputs.argmax(1) == labels).mean()),
        "auc": auc(labels, outputs[:, 1]) if np.isfinite(outputs).all() else math.nan,
    }


def has_learnt(history: Sequence[Mapping[str, float]], counts: Mapping[str, tuple[int, int]]) -> bool:
    """Whether the loss of any epoch, in training or in validation, was below that of a constant answer.

    Parameters
    ----------
    history : sequence of mapping
        Rows with ``loss`` and ``val_loss`` (nats).
    counts : mapping
        Real and fake examples of the splits ``train`` and ``val``; a constant answer has the entropy of their
        fractions, ln 2 where they are equal.
    """
    for key, split in (("loss", "train"), ("val_loss", "val")):
        n = sum(counts[split])
        constant = -sum(count / n * math.log(count / n) for count in counts[split] if count)
        if min(row[key] for row in history) < constant - max(LEARNT, NOISE / math.sqrt(n)):
            return True
    return False
