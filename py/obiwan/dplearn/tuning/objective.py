"""Objective of a trial: the AUC of the validation split, mean over the folds and seeds that are asked for.

The shards of the test split are never opened: neither their files nor their rows are part of the data here.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from obiwan.dplearn.errors import DivergedError, ModelError, TrainingSetError, explained
from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.files.outdir import holding_lease
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.training.batches import check_splits, with_fitting_batches
from obiwan.dplearn.training.rundir import BEST, CHECKPOINTS, HISTORY, LAST, Logs, history_table
from obiwan.dplearn.training.settings import RunConfig
from obiwan.dplearn.trainingset.manifest import SOURCES
from obiwan.dplearn.trainingset.shards import check_files
from obiwan.dplearn.trainingset.stampset import StampSet, open_training_set
from obiwan.dplearn.trainingset.views import FOLDED, brick_folds
from obiwan.dplearn.twosample.ranking import auc
from obiwan.dplearn.twosample.summary import usable_bricks

SCORES = "scores_val.npz"  #: labels and scores of the validation split, of one training
LEAST = 2  #: validation examples of a class: of fewer there is no variance

Epochs = Callable[[Sequence[float]], None]  #: called with the validation AUC of all epochs of a training
EpochEnded = Callable[[int, Sequence[float]], None]  #: the same, with the number of the training before them
log = logging.getLogger(__name__)


class TrialFailedError(Exception):
    """Settings that cannot be trained; the message says why."""


def open_for_tuning(directory: Path) -> tuple[StampSet, StampSet]:
    """A training set, whose files are not looked at, and its splits ``train`` and ``val``.

    Raises
    ------
    TrainingSetError
        If there is no finished training set, a split lacks a class, or a file of these two is missing.
    """
    whole = open_training_set(directory, files=False)
    check_splits(whole)
    if min(whole.count("val")) < LEAST:
        msg = f"{directory}: the val split has fewer than {LEAST} examples of a class; make a larger set"
        raise TrainingSetError(msg)
    used = whole.only(shard for shard in whole.shards if shard.split in FOLDED)
    for shard in used.shards:
        check_files(directory, used.spec, shard)
    return whole, used


def validation_bricks(stamp_set: StampSet) -> Array | None:
    """The brick of each validation example; None where an interval has to rest on single examples.

    Raises
    ------
    TrainingSetError
        If the example table is not that of the set.
    """
    if not (stamp_set.directory / SOURCES).is_file():
        return None
    return usable_bricks(stamp_set.rows("val")["label"], stamp_set.bricks("val"))


@dataclass(frozen=True)
class Fold:
    """Examples of some trainings: the training and the validation split, or one fold of both.

    Attributes
    ----------
    name : str
        What the directories of these trainings begin with; empty without folds.
    stamp_set : StampSet
    bricks : ndarray or None
        The brick of each validation example; None where an interval has to rest on single examples.
    """

    name: str
    stamp_set: StampSet
    bricks: Array | None

    def place(self, trial: Path, seed: int) -> Path:
        """Directory of one training of a trial."""
        return trial / f"{self.name}seed_{seed}"


def folds_of(stamp_set: StampSet, count: int, seed: int) -> tuple[Fold, ...]:
    """Folds of a training set, or its own splits if one is asked for.

    Parameters
    ----------
    stamp_set : StampSet
        With the splits `FOLDED`.
    count, seed : int
        As for `obiwan.dplearn.trainingset.views.brick_folds`.

    Raises
    ------
    TrainingSetError
        If the bricks do not suffice, or a fold lacks examples of a class.
    """
    if count == 1:
        return (Fold("", stamp_set, validation_bricks(stamp_set)),)
    found = []
    for number, view in enumerate(brick_folds(stamp_set, count, seed), 1):
        if min(view.count("val")) < LEAST or min(view.count("train")) < 1:
            msg = (
                f"{stamp_set.directory}: fold {number} of {count} has fewer than {LEAST} examples of a "
                "class; use fewer --folds or a larger set"
            )
            raise TrainingSetError(msg)
        found.append(Fold(f"fold_{number}_", view, validation_bricks(view)))
    return tuple(found)


class _TrialLogs(Logs):
    """A log that tells the study of every epoch."""

    def __init__(self, name: str, epochs: int, ended: Epochs) -> None:
        self.name, self.epochs, self.ended = name, epochs, ended

    def end_epoch(self, history: Sequence[dict[str, float]]) -> None:
        """Log the newest validation AUC, and tell the study."""
        aucs = [row["val_auc"] for row in history]
        log.info("%s: epoch %d/%d, validation AUC %.3f", self.name, len(aucs), self.epochs, aucs[-1])
        self.ended(aucs)


def read_scores(directory: Path) -> tuple[Array, Array]:
    """Labels and scores, shape (n,), of the validation split that a finished training left.

    Raises
    ------
    OSError, ModelError
        If the file is not there, or cannot be read.
    """
    path = directory / SCORES
    with path.open("rb") as stream, explained(f"{path}: not readable", "remove it", ModelError):
        content = np.load(stream, allow_pickle=False)
        return content["label"], content["score"]


@dataclass(frozen=True)
class Objective:
    """Validation AUC of some settings: trains a network for each fold and seed, in a directory of its own.

    A training that was interrupted goes on from its last checkpoint.

    Attributes
    ----------
    folds : tuple of Fold
    seeds : tuple of int
    """

    folds: tuple[Fold, ...]
    seeds: tuple[int, ...]

    def __call__(self, config: RunConfig, place: Path, scratch: Path, ended: EpochEnded) -> float:
        """Mean validation AUC.

        Parameters
        ----------
        config : RunConfig
            Settings; the seed is replaced.
        place, scratch : Path
            Directory of the trial, and its lease.
        ended : callable
            Called after every epoch; what it raises ends the trial there, with a checkpoint.

        Raises
        ------
        TrialFailedError
            If the settings cannot be trained: the loss diverges, or memory does not suffice.
        LeaseLostError
            If another process has taken the trial over.
        """
        try:
            config.network.check_size(self.folds[0].stamp_set.spec.size)
            values = []
            for number, (fold, seed) in enumerate(product(self.folds, self.seeds)):
                one = replace(config, feed=replace(config.feed, seed=seed))
                place_of_one = fold.place(place, seed)
                values.append(_train(one, fold.stamp_set, place_of_one, scratch, partial(ended, number)))
        except (DivergedError, MemoryError, ValueError) as error:
            raise TrialFailedError(str(error) or type(error).__name__) from error
        except Exception as error:
            from obiwan.dplearn.training.steps import out_of_memory

            if out_of_memory(error):
                msg = "out of memory"
                raise TrialFailedError(msg) from error
            raise
        return math.fsum(values) / len(values)


def _train(config: RunConfig, stamp_set: StampSet, outdir: Path, scratch: Path, ended: Epochs) -> float:
    """Validation AUC of one training, with its best weights; scores and history stay."""
    if not (outdir / SCORES).is_file():
        _fit(config, stamp_set, outdir, scratch, ended)
    for name in (CHECKPOINTS, BEST, LAST):
        left = outdir / name
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return auc(*read_scores(outdir))


def _fit(config: RunConfig, stamp_set: StampSet, outdir: Path, scratch: Path, ended: Epochs) -> None:
    """Train to the end and write the scores."""
    import keras

    from obiwan.dplearn.training.trainer import Trainer
    from obiwan.dplearn.training.validation import predictions

    keras.backend.clear_session()  # a process trains many networks
    config = with_fitting_batches(config, stamp_set)
    logs = _TrialLogs(f"{outdir.parent.name}/{outdir.name}", config.epochs, ended)
    with holding_lease(scratch, outdir):
        outdir.mkdir(exist_ok=True)
    fitted = Trainer(config, stamp_set, outdir, logs=logs, scratch=scratch).fit()
    history = fitted.progress.history
    ended([row["val_auc"] for row in history])  # of an epoch before whose end a process died
    label, score = predictions(lambda x, _: fitted.model.predict_on_batch(x)[:, 1], stamp_set, "val")
    with holding_lease(scratch, outdir):
        with atomic_write(outdir / HISTORY, scratch) as beside:
            beside.write_text(history_table(history), encoding="utf-8")
        with atomic_write(outdir / SCORES, scratch) as beside:
            np.savez(beside, label=label, score=score)
