"""The Keras network as a referee; nothing outside this module and `training` knows Keras."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.files.atomic import read_json
from obiwan.dplearn.running.backends import settle_keras
from obiwan.dplearn.running.profiles import ONE_THREAD
from obiwan.dplearn.running.quiet import without_notes
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.training.rundir import HISTORY, RESULT, RUN
from obiwan.dplearn.training.validation import has_learnt, measure
from obiwan.dplearn.trainingset.stampset import StampSet

LEARNT_SHARDS = 4  #: training shards that are scored to see whether a network without a record learnt

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkReferee:
    """A trained network that scores stamps.

    Attributes
    ----------
    path : Path
        Its ``.keras`` file.
    model : keras.Model
    stamp_set : StampSet
        What it is to score.
    """

    path: Path
    model: Any
    stamp_set: StampSet

    @cached_property
    def kernels(self) -> NDArray[np.float32]:
        """Weights of all its kernels, less the mean of each, in one row."""
        from keras import ops

        arrays = (ops.convert_to_numpy(one.value) for one in self.model.trainable_weights)
        return np.concatenate([np.ravel(one - one.mean()) for one in arrays if one.ndim > 1])

    @property
    def name(self) -> str:
        """The last two parts of its path: enough to distinguish runs, and nothing about the machine."""
        return "/".join(self.path.absolute().parts[-2:])

    @property
    def arch(self) -> str:
        """Name of its architecture."""
        return str(self.model.name).replace("_", "-")

    @cached_property
    def checksum(self) -> str:
        """See `model_checksum`."""
        return model_checksum(self.model)

    @cached_property
    def run(self) -> dict[str, Any]:
        """The content of its run's ``run.json``; empty where there is none."""
        return read_record(self.path.parent / RUN)

    @cached_property
    def history(self) -> Mapping[str, list[float]]:
        """The columns of its run's ``history.csv``, a value per epoch; empty where there is none."""
        return read_history(self.path.parent / HISTORY)

    @cached_property
    def learnt(self) -> bool:
        """Whether it learnt: as its run recorded it, else from its loss on training and validation set."""
        record = read_record(self.path.parent / RESULT)
        if record.get("model") == self.checksum and isinstance(record.get("learnt"), bool):
            return bool(record["learnt"])
        log.info("%s: no record of its training; measuring its loss", self.path)
        part = self.stamp_set.only(self.stamp_set.split("train")[:LEARNT_SHARDS])
        history = {
            "loss": measure(self.model, part, "train")["loss"],
            "val_loss": measure(self.model, self.stamp_set, "val")["loss"],
        }
        return has_learnt([history], {"train": part.count("train"), "val": self.stamp_set.count("val")})

    def portable(self) -> StoredNetwork | None:
        """The network by its file; None where there is an accelerator, which all workers would want."""
        import keras

        if keras.distribution.list_devices("gpu") or keras.distribution.list_devices("tpu"):
            return None
        backend = keras.backend.backend()
        return StoredNetwork(self.path.absolute(), self.name, self.checksum, self.learnt, backend)

    def predict(self, stamps: NDArray[np.float32], rows: Array | None = None) -> NDArray[np.float32]:  # noqa: ARG002
        """Probabilities of being fake, shape (n,); pixels alone count."""
        return _probabilities(self.model, stamps)


def _probabilities(model: Any, stamps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of being fake that a Keras model gives stamps, shape (n,)."""
    return np.asarray(model.predict_on_batch(stamps)[:, 1], np.float32)


@dataclass(frozen=True)
class StoredNetwork:
    """A network by its file, for workers, each of which loads it once.

    Attributes
    ----------
    path : Path
    name, checksum : str
    learnt : bool
    backend : str
        Of Keras, the same everywhere: the environment of other nodes may ask for another.
    """

    path: Path
    name: str
    checksum: str
    learnt: bool
    backend: str

    def predict(self, stamps: NDArray[np.float32], rows: Array | None = None) -> NDArray[np.float32]:  # noqa: ARG002
        """Probabilities of being fake, shape (n,); pixels alone count.

        Raises
        ------
        ModelError
            If the file has become that of another network.
        """
        return _probabilities(_loaded(self.path, self.checksum, self.backend), stamps)


@cache
def _loaded(path: Path, checksum: str, backend: str) -> Any:
    """A network in a worker, on one thread: there are processes enough."""
    os.environ |= {**ONE_THREAD, "KERAS_BACKEND": backend}
    settle_keras(os.environ)  # of MPI ranks the first alone has done so
    with without_notes():
        from obiwan.dplearn.training.model import load_network

    model = load_network(path)
    if model_checksum(model) != checksum:
        msg = f"{path}: was replaced while it was used; start again"
        raise ModelError(msg)
    return model


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


def load_network_referee(path: Path, stamp_set: StampSet) -> NetworkReferee:
    """Load a network for the stamps of a training set.

    Parameters
    ----------
    path : Path
        A ``.keras`` file.
    stamp_set : StampSet
        What it is to score.

    Raises
    ------
    ModelError
        If the file is absent, or no network for these stamps.
    """
    with without_notes():
        from obiwan.dplearn.training.model import check_spec, load_network

    model = load_network(path)
    check_spec(path, model, stamp_set.spec)
    return NetworkReferee(path, model, stamp_set)


def read_record(path: Path) -> dict[str, Any]:
    """A JSON file that a training run left beside its model; empty where there is none that can be read."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}


def read_history(path: Path) -> dict[str, list[float]]:
    """Columns of a ``history.csv``; empty where there is none that can be read."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else ())}
    except (OSError, ValueError, TypeError):
        return {}
