"""Score a split with a trained model, keep the scores, and find what each of them belongs to."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.files.fits import check_not_truncated, reading
from obiwan.dplearn.training.batches import in_order
from obiwan.dplearn.training.distributed import World
from obiwan.dplearn.trainingset.manifest import SOURCES
from obiwan.dplearn.trainingset.stampset import StampSet
from obiwan.dplearn.twosample import auc


def model_checksum(model: Any) -> str:
    """A name for what a model computes: SHA-256 over its layers and weights, sixteen hex digits.

    Unlike a checksum of the ``.keras`` file it does not change with the time at which the file was written.
    """
    from keras import ops

    layers = [(layer["class_name"], layer["config"].get("name")) for layer in model.get_config()["layers"]]
    digest = hashlib.sha256(json.dumps(layers).encode())
    for weight in model.weights:
        array = np.ascontiguousarray(ops.convert_to_numpy(weight.value))
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Scores:
    """Scores of a split in shard order.

    Attributes
    ----------
    split : str
        Which.
    shard, row : ndarray
        Where each example stands: number of its shard, row in it from 0.
    label : ndarray
        Real = 0, fake = 1.
    score : ndarray
        Probability of being fake, float32.
    model, data : str
        Checksums of the model (`model_checksum`) and of the training set.
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
        out = np.empty(len(self.score), [("shard", "i4"), ("row", "i4"), ("label", "u1"), ("score", "f4")])
        for name in out.dtype.names or ():
            out[name] = getattr(self, name)
        return out


def probabilities(
    model: Any, batches: Iterable[tuple[Any, Any]]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Labels, shape (n,), and probabilities of (real, fake), shape (n, 2), of batches of raw cutouts."""
    labels, outputs = [], []
    for x, y in batches:
        outputs.append(np.asarray(model.predict_on_batch(x), np.float32))
        labels.append(y)
    return np.concatenate(labels), np.concatenate(outputs)


def shared_probabilities(
    model: Any, training_set: StampSet, split: str, world: World, size: int = 128
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """As `probabilities`, of a whole split in shard order; each rank scores its share of the shards.

    The batches are those of one process, so that the answer does not depend on the number of ranks.
    """
    mine = training_set.only(world.part(training_set.split(split)))
    with world.together():
        labels, outputs = np.zeros(0, np.uint8), np.zeros((0, 2), np.float32)
        if mine.shards:
            labels, outputs = probabilities(model, in_order(mine, split, size))
    return world.gather(labels), world.gather(outputs)


def measure(model: Any, training_set: StampSet, split: str, world: World | None = None) -> dict[str, float]:
    """How good a model is on a split: ``loss`` (nats), ``accuracy`` and ``auc``.

    Parameters
    ----------
    model, training_set, split, world
        As for `score_split`.
    """
    labels, outputs = shared_probabilities(model, training_set, split, world or World())
    given = np.maximum(outputs[np.arange(len(labels)), labels].astype(np.float64), 1e-7)
    return {
        "loss": float(-np.log(given).mean()),
        "accuracy": float((outputs.argmax(1) == labels).mean()),
        "auc": auc(labels, outputs[:, 1]) if np.isfinite(outputs).all() else math.nan,
    }


def score_split(
    model: Any, training_set: StampSet, split: str, batch: int = 128, world: World | None = None
) -> Scores:
    """Score every example of a split with a model that takes raw cutouts.

    Parameters
    ----------
    model : keras.Model
        From `obiwan.dplearn.training.model.build_network` or a ``.keras`` file.
    training_set : StampSet
        Where the split is.
    split : str
        ``train``, ``val`` or ``test``.
    batch : int
        Cutouts at a time.
    world : World, optional
        The ranks that share the work; each gets all scores.
    """
    labels, outputs = shared_probabilities(model, training_set, split, world or World(), batch)
    shards = training_set.split(split)
    return Scores(
        split=split,
        shard=np.repeat([s.number for s in shards], [s.rows for s in shards]).astype(np.int32),
        row=np.concatenate([np.arange(s.rows, dtype=np.int32) for s in shards]),
        label=labels,
        score=outputs[:, 1],
        model=model_checksum(model),
        data=training_set.checksum,
    )


def write_scores(path: Path, scores: Scores, scratch: Path | None = None) -> None:
    """Write scores as a FITS table (columns shard, row, label, score), whole or not at all."""
    names = ("shard", "row", "label", "score")
    with atomic_write(path, scratch) as beside, fitsio.FITS(str(beside), "rw", clobber=True) as file:
        header = {"SPLIT": scores.split, "MODEL": scores.model, "TRAINSET": scores.data}
        file.write(
            [getattr(scores, name) for name in names], names=list(names), header=header, extname="SCORES"
        )


def read_scores(path: Path, model: str, data: str) -> Scores | None:
    """Scores from a file, if they are there and of this model and training set.

    Parameters
    ----------
    path : Path
        What `write_scores` wrote.
    model, data : str
        The checksums that the scores must carry.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    if not path.is_file():
        return None
    with reading(f"{path}: not a readable table of scores", "remove it and start again", ModelError):
        with fitsio.FITS(str(path)) as file:
            check_not_truncated(file, path)
            table, header = file["SCORES"].read(), file["SCORES"].read_header()
        if (str(header["MODEL"]).strip(), str(header["TRAINSET"]).strip()) != (model, data):
            return None
        types = {"shard": "i4", "row": "i4", "label": "u1", "score": "f4"}
        columns = {name: np.ascontiguousarray(table[name]).astype(kind) for name, kind in types.items()}
        return Scores(split=str(header["SPLIT"]).strip(), model=model, data=data, **columns)


def bricks_of(training_set: StampSet, scores: Scores) -> NDArray[np.str_] | None:
    """The brick of each scored example; None where the training set has no example table.

    Raises
    ------
    TrainingSetError
        If the table cannot be read, is not the one that the manifest vouches for, or not of these examples.
    """
    if not (training_set.directory / SOURCES).is_file():
        return None
    bricks = training_set.bricks(scores.split)
    found = np.empty_like(bricks)
    found[training_set.aligned(scores.split, scores.table)] = bricks
    return found
