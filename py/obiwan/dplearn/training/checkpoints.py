"""Checkpoints: what a training run needs to go on where it stopped, written atomically."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.files.atomic import atomic_write

log = logging.getLogger(__name__)

KEPT = 2  #: checkpoints on disk: the newest, and the one to fall back to
NAME = re.compile(r"step_(\d{10})\.npz")  #: of checkpoints; other files are left untouched
KINDS = ("weights", "optimizer", "best")  #: of arrays in a checkpoint
DAMAGED = ".damaged"  #: is appended to the name of one that cannot be used


@dataclass
class Progress:
    """Where a run stands.

    Attributes
    ----------
    epoch, step : int
        Epochs finished, and steps taken in the current one.
    loss_sum, correct : float
        Of the current epoch's steps: sum of the losses, and of the accuracies.
    best_epoch : int
        Epoch (from 1) with the least validation loss so far; 0 before the first.
    best_loss : float
        That loss; None before the first.
    history : list of dict
        A row per finished epoch.
    ranks : int
        How many train; a step is one of all of them together.
    backend : str
        Of Keras; empty in checkpoints of versions that did not tell.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: float = 0.0
    best_epoch: int = 0
    best_loss: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    ranks: int = 1
    backend: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """A run's progress and its numbers.

    Attributes
    ----------
    progress : Progress
        Where it stands.
    weights, optimizer, best : list of ndarray
        The model's weights, the optimizer's variables (its step count among them, which is what the
        learning-rate schedule depends on), and the best weights so far (empty in the first epoch).
    """

    progress: Progress
    weights: list[NDArray[Any]]
    optimizer: list[NDArray[Any]]
    best: list[NDArray[Any]]


def save_checkpoint(
    directory: Path, checkpoint: Checkpoint, number: int, scratch: Path | None = None
) -> None:
    """Write a checkpoint and remove all but the newest `KEPT`.

    Parameters
    ----------
    directory : Path
        Where checkpoints are; made if need be.
    checkpoint : Checkpoint
        What to keep.
    number : int
        Steps taken since the run began.  It is raised where an earlier checkpoint's is larger (other ranks
        count other steps), for the newest has the largest; one of the same number is replaced.
    scratch : Path, optional
        As in `obiwan.dplearn.files.atomic.atomic_write`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for newest in _checkpoints(directory)[-1:]:
        last = int(newest.stem.removeprefix("step_"))
        number = number if number >= last else last + 1
    state = np.frombuffer(json.dumps(asdict(checkpoint.progress)).encode(), np.uint8)
    arrays = {f"{kind}_{i:04d}": a for kind in KINDS for i, a in enumerate(getattr(checkpoint, kind))}
    with atomic_write(directory / f"step_{number:010d}.npz", scratch, synced=True) as beside:
        np.savez(beside, state=state, **arrays)
    for old in _checkpoints(directory)[:-KEPT]:
        old.unlink()


def _checkpoints(directory: Path) -> list[Path]:
    """The checkpoints of a directory, the newest last."""
    found = directory.iterdir() if directory.is_dir() else ()
    return sorted(path for path in found if NAME.fullmatch(path.name))


def _read(path: Path) -> Checkpoint:
    """Read a checkpoint; whatever is raised is damage."""
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        names = sorted(file.files)
        # The zip's own checksums are verified as each array is read.
        kinds = {kind: [file[name] for name in names if name.startswith(kind)] for kind in KINDS}
        return Checkpoint(Progress(**json.loads(file["state"].tobytes())), **kinds)


def load_checkpoint(directory: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read; None where there is none.

    One that cannot is passed over with a warning and keeps another name: what it held is trained again.
    """
    for path in reversed(_checkpoints(directory)):
        try:
            return _read(path)
        except MemoryError:
            raise
        except Exception as error:  # zipfile's, zlib's, numpy's, tokenize's: damage has many names
            log.warning("%s: damaged (%s); going back to the one before it", path, error)
            if not isinstance(error, OSError):  # a disk's error may pass
                path.replace(path.with_name(path.name + DAMAGED))
    return None


def values(variables: Sequence[Any]) -> list[NDArray[Any]]:
    """The values of Keras variables as arrays of their own."""
    from keras import ops

    return [np.array(ops.convert_to_numpy(variable.value)) for variable in variables]


def assign(variables: Sequence[Any], arrays: Sequence[NDArray[Any]]) -> None:
    """Give Keras variables their values."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
