"""Output directory of a training run: its files and its logs (progress bar, history.csv, TensorBoard)."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.files.outdir import OutputDirectory, holding_lease
from obiwan.dplearn.running.quiet import without_notes

RUN, RESULT, SCORES = "run.json", "result.json", "scores_test.fits"
BEST, LAST = "best.keras", "last.keras"
HISTORY, CHECKPOINTS, TENSORBOARD = "history.csv", "checkpoints", "tensorboard"
KERAS_OF_OLD = {"floatx": "float32"}  #: of runs whose `RUN` does not tell
SCRATCH = ".scratch"  # while a run goes on
OURS = (RUN, RESULT, BEST, LAST, SCORES, HISTORY, CHECKPOINTS, TENSORBOARD)  # all that a run writes

log = logging.getLogger(__name__)


def _request(record: dict[str, Any]) -> dict[str, Any]:
    """What a record of any version asks for; a backend that it names is no part of that."""
    if not record:
        return record
    keras = {name: value for name, value in record.get("keras", KERAS_OF_OLD).items() if name != "backend"}
    return {**record, "keras": keras}


def run_directory(outdir: Path) -> OutputDirectory:
    """The output directory of one training, of ``cnn`` or of a network trained again."""
    return OutputDirectory(
        outdir,
        "run",
        ModelError,
        owned=re.compile("|".join(map(re.escape, OURS))),
        records=(RUN,),
        final=RESULT,
        scratch=SCRATCH,
        identify=_request,
    )


def history_table(history: Sequence[dict[str, float]]) -> str:
    """A run's history as CSV, a row per epoch."""
    names = list(history[0])
    rows = [",".join(f"{row[name]:.9g}" for name in names) for row in history]
    return "\n".join([",".join(names), *rows]) + "\n"


class Logs:
    """A log that keeps silent, and the interface of all logs."""

    def begin_epoch(self, epoch: int, epochs: int, steps: int, batch_size: int) -> None:
        """An epoch (from 0) begins or goes on."""

    def step(self, step: int, loss: float, accuracy: float) -> None:
        """A step is taken: its number in the epoch, and the epoch's means so far."""

    def end_epoch(self, history: Sequence[dict[str, float]]) -> None:
        """An epoch has ended; the last row of the history is its own."""


class RunLogs(Logs):
    """A Keras progress bar with images/s, ``history.csv`` and TensorBoard files.

    Parameters
    ----------
    outdir : Path
        Where the files go.
    quiet : bool
        No bar.
    scratch : Path, optional
        Where ``history.csv`` is written before it is renamed.
    """

    def __init__(self, outdir: Path, *, quiet: bool = False, scratch: Path | None = None) -> None:
        self.outdir, self.quiet, self.scratch = outdir, quiet, scratch
        self.writer = None
        try:
            with without_notes():
                import tensorflow as tf
        except ImportError:
            log.info("no TensorBoard logs: TensorFlow, which writes them, is not installed")
        else:
            self.writer = tf.summary.create_file_writer(str(outdir / TENSORBOARD))

    def begin_epoch(self, epoch: int, epochs: int, steps: int, batch_size: int) -> None:
        """Open the bar."""
        from keras.utils import Progbar

        self.batch_size, self.taken, self.started = batch_size, 0, time.monotonic()
        if not self.quiet:
            log.info("Epoch %d/%d", epoch + 1, epochs)
        # A bar is redrawn on a terminal; in a file, one line an epoch is enough.
        verbose = 0 if self.quiet else 1 if sys.stdout.isatty() else 2
        self.bar = Progbar(steps, verbose=verbose, stateful_metrics=["loss", "accuracy", "img/s"])

    def step(self, step: int, loss: float, accuracy: float) -> None:
        """Move the bar."""
        self.taken += 1  # a resumed epoch does not start at 0
        rate = self.taken * self.batch_size / max(time.monotonic() - self.started, 1e-9)
        self.bar.update(step, [("loss", loss), ("accuracy", accuracy), ("img/s", round(rate, 1))])

    def end_epoch(self, history: Sequence[dict[str, float]]) -> None:
        """Log the validation and write the files anew."""
        row = history[-1]
        if not self.quiet:
            words = (row["val_loss"], row["val_accuracy"], row["val_auc"])
            log.info("   validation: loss %.4f, accuracy %.3f, AUC %.3f", *words)
        with (
            holding_lease(self.scratch, self.outdir),
            atomic_write(self.outdir / HISTORY, self.scratch) as beside,
        ):
            beside.write_text(history_table(history), encoding="utf-8")
        if self.writer is not None:
            import tensorflow as tf

            with self.writer.as_default(step=int(row["epoch"])):
                for name, value in row.items():
                    tf.summary.scalar(name, value)
            self.writer.flush()
