"""Objective of a trial: the AUC of the validation split, mean over the seeds that are asked for.

The shards of the test split are never opened: neither their files nor their rows are part of the data here.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from obiwan.dplearn.twosample.ranking import auc
from obiwan.dplearn.twosample.summary import usable_bricks

SCORES = "scores_val.npz"  #: labels and scores of the validation split, of one training
USED = ("train", "val")  #: splits
LEAST = 2  #: validation examples of a class: of fewer there is no variance

EpochEnded = Callable[[int, Sequence[float]], None]  #: number of the training; validation AUC of its epochs
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
    used = whole.only(shard for shard in whole.shards if shard.split in USED)
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


class _TrialLogs(Logs):
    """A log that tells the study of every epoch."""

    def __init__(self, name: str, epochs: int, ended: Callable[[Sequence[float]], None]) -> None:
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
    """Validation AUC of some settings: trains a network for each seed, in directories ``seed_N``.

    A training that was interrupted goes on from its last checkpoint.

    Attributes
    ----------
    stamp_set : StampSet
        With the splits ``train`` and ``val``.
    seeds : tuple of int
    """

    stamp_set: StampSet
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
            config.network.check_size(self.stamp_set.spec.size)
            values = []
            for number, seed in enumerate(self.seeds):
                one = replace(config, feed=replace(config.feed, seed=seed))
                values.append(self._train(one, place / f"seed_{seed}", scratch, number, ended))
        except (DivergedError, MemoryError, ValueError) as error:
            raise TrialFailedError(str(error) or type(error).__name__) from error
        except Exception as error:
            from obiwan.dplearn.training.steps import out_of_memory

            if out_of_memory(error):
                msg = "out of memory"
                raise TrialFailedError(msg) from error
            raise
        return math.fsum(values) / len(values)

    def _train(self, config: RunConfig, outdir: Path, scratch: Path, number: int, ended: EpochEnded) -> float:
        """Validation AUC of one training, with its best weights; scores and history stay."""
        if not (outdir / SCORES).is_file():
            self._fit(config, outdir, scratch, number, ended)
        for name in (CHECKPOINTS, BEST, LAST):
            left = outdir / name
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        return auc(*read_scores(outdir))

    def _fit(self, config: RunConfig, outdir: Path, scratch: Path, number: int, ended: EpochEnded) -> None:
        """Train to the end and write the scores."""
        import keras

        from obiwan.dplearn.training.trainer import Trainer
        from obiwan.dplearn.training.validation import predictions

        keras.backend.clear_session()  # a process trains many networks
        config = with_fitting_batches(config, self.stamp_set)
        name = f"{outdir.parent.name}/{outdir.name}"
        logs = _TrialLogs(name, config.epochs, lambda aucs: ended(number, aucs))
        with holding_lease(scratch, outdir):
            outdir.mkdir(exist_ok=True)
        fitted = Trainer(config, self.stamp_set, outdir, logs=logs, scratch=scratch).fit()
        history = fitted.progress.history
        ended(number, [row["val_auc"] for row in history])  # of an epoch before whose end a process died
        label, score = predictions(lambda x, _: fitted.model.predict_on_batch(x)[:, 1], self.stamp_set, "val")
        with holding_lease(scratch, outdir):
            with atomic_write(outdir / HISTORY, scratch) as beside:
                beside.write_text(history_table(history), encoding="utf-8")
            with atomic_write(outdir / SCORES, scratch) as beside:
                np.savez(beside, label=label, score=score)
