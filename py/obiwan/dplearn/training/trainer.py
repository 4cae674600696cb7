"""Training run: steps, epochs, validation, checkpoints, logs.

A run is a function of its `RunConfig` and its training set.  Interrupted anywhere and started again, it goes
on from its last checkpoint, in the middle of an epoch too, and ends with the weights of a run that was not.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import keras
from keras import ops
from numpy.typing import NDArray

from obiwan.dplearn.errors import DivergedError
from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.files.outdir import holding_lease
from obiwan.dplearn.running.interruptions import deferred
from obiwan.dplearn.running.quiet import without_notes
from obiwan.dplearn.training import checkpoints
from obiwan.dplearn.training.batches import Batch, Batches, sample
from obiwan.dplearn.training.distributed import SERIAL, World
from obiwan.dplearn.training.model import build_network
from obiwan.dplearn.training.rundir import BEST, CHECKPOINTS, LAST, Logs
from obiwan.dplearn.training.scaling import prepare
from obiwan.dplearn.training.settings import RunConfig
from obiwan.dplearn.training.steps import Step, make_step
from obiwan.dplearn.training.validation import has_learnt, measure
from obiwan.dplearn.trainingset.stampset import StampSet

log = logging.getLogger(__name__)

SAMPLE = 512  #: training stamps that the input scaling is fitted on


def lr_factor(scaling: str, ranks: int) -> float:
    """Factor by which the learning rate grows with the batch, which is `ranks` times that of one rank.

    The square root is the rule for Adam and its like, whose steps are measured in units of the gradient's own
    scatter (Krizhevsky 2014, arXiv:1404.5997; Malladi et al. 2022, arXiv:2205.10287); the linear one is
    for plain gradient descent (Goyal et al. 2017, arXiv:1706.02677).

    Examples
    --------
    >>> lr_factor("sqrt", 16), lr_factor("linear", 16), lr_factor("none", 16)
    (4.0, 16.0, 1.0)
    """
    return {"sqrt": math.sqrt(ranks), "linear": float(ranks), "none": 1.0}[scaling]


def make_optimizer(learning_rate: float, warmup: float, steps: int) -> Any:
    """Adam with a learning rate that rises linearly from 0, then falls to 0 as a half cosine.

    Parameters
    ----------
    learning_rate : float
        The highest.
    warmup : float
        Fraction of the steps in which it rises.
    steps : int
        Of the whole run.
    """
    warm = max(1, round(warmup * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm), warmup_target=learning_rate, warmup_steps=warm
    )
    return keras.optimizers.Adam(schedule)


@dataclass(frozen=True)
class Fitted:
    """A finished fit.

    Attributes
    ----------
    model : keras.Model
        With the weights that were best on the validation split.
    progress : checkpoints.Progress
        History, and which epoch was best.
    learnt : bool
        Whether the loss ever left that of a constant answer (`has_learnt`).
    """

    model: Any
    progress: checkpoints.Progress
    learnt: bool


def _reproducible(path: Path) -> None:
    """Write a ``.keras`` file anew without what differs between equal runs: times, addresses in memory."""
    numbers: dict[Any, int] = {}

    def plain(entry: dict[str, Any]) -> dict[str, Any]:
        entry.pop("date_saved", None)
        if "shared_object_id" in entry:  # Python's id() of an object that several layers share
            entry["shared_object_id"] = numbers.setdefault(entry["shared_object_id"], len(numbers))
        return entry

    with ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with ZipFile(path, "w") as file:
        for name, content in parts.items():
            text = json.dumps(json.loads(content, object_hook=plain)) if name.endswith(".json") else content
            file.writestr(ZipInfo(name), text)  # which has a date of its own, and always the same


def save_model(model: Any, path: Path, scratch: Path | None = None) -> None:
    """Write a ``.keras`` file that scores raw stamps by itself, completely or not at all.

    Equal models give equal bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, scratch) as beside:
        model.save(beside, include_optimizer=False)
        _reproducible(beside)


class Trainer:
    """One run, from its first weights or its last checkpoint to its end.

    Parameters
    ----------
    config : RunConfig
    stamp_set : StampSet
    outdir : Path
        Where checkpoints and models are kept.
    world : World
        Which rank of how many this is.
    checkpoint_steps : int
        Steps between checkpoints; there is one before and one after each validation besides.
    logs : Logs, optional
        What is told of the progress.
    scratch : Path, optional
        Where files are written before they are renamed; see `obiwan.dplearn.files.outdir`.

    Raises
    ------
    LeaseLostError
        From `fit`, if the scratch directory is taken away.
    """

    def __init__(
        self,
        config: RunConfig,
        stamp_set: StampSet,
        outdir: Path,
        *,
        world: World = SERIAL,
        checkpoint_steps: int = 500,
        logs: Logs | None = None,
        scratch: Path | None = None,
    ) -> None:
        self.config, self.stamp_set, self.outdir, self.scratch = config, stamp_set, outdir, scratch
        self.world, self.logs, self.checkpoint_steps = world, logs or Logs(), checkpoint_steps
        self.batches = Batches(stamp_set, "train", config.feed, self.world)
        with without_notes():  # it seeds TensorFlow, too, where that is installed
            keras.utils.set_random_seed(config.feed.seed)
        self.model = build_network(config.network, stamp_set.spec)
        self.steps = self.batches.steps * config.epochs
        self.learning_rate = config.learning_rate * lr_factor(config.lr_scaling, self.world.size)
        self.optimizer = make_optimizer(self.learning_rate, config.warmup, self.steps)
        self.optimizer.build(self.model.trainable_variables)
        self.progress = checkpoints.Progress(ranks=self.world.size, backend=keras.backend.backend())
        self.best: list[NDArray[Any]] = []

    def begin(self) -> None:
        """Take up the last checkpoint, or fit the scaling and the first weights."""
        ranks, batch, config = self.world.size, self.config.feed.batch_size, self.config
        if ranks > 1:
            log.info(
                "%d ranks: batches of %d on each, %d in all; learning rate %.3g, %s-scaled from %.3g, "
                "after a warm-up over %d of %d steps",
                *(ranks, batch, batch * ranks, self.learning_rate, config.lr_scaling, config.learning_rate),
                *(round(config.warmup * self.steps), self.steps),
            )
        with self.world.together():
            if self.world.leads:
                self._begin()
        self.progress, self.best = self.world.share((self.progress, self.best))
        self.world.broadcast([*self.model.weights, *self.optimizer.variables])

    def _begin(self) -> None:
        """What the first rank does for all."""
        found = checkpoints.load_checkpoint(self.outdir / CHECKPOINTS)
        if found is None:
            prepare(self.model, sample(self.stamp_set, "train", SAMPLE, self.config.feed.seed))
            return
        self.progress, self.best = found.progress, found.best
        checkpoints.assign(self.model.weights, found.weights)
        checkpoints.assign(self.optimizer.variables, found.optimizer)
        done, ranks, backend = self.progress.epoch, self.world.size, keras.backend.backend()
        log.info("going on after %d finished epochs and %d steps", done, self.progress.step)
        if (before := self.progress.backend) not in (backend, ""):
            log.info("KERAS_BACKEND %s now, %s before: equal up to rounding", backend, before)
        self.progress = replace(self.progress, backend=backend)
        if self.progress.ranks != ranks:
            # A place in one order of examples is none in another.  The weights keep what they have learnt,
            # and the learning rate goes to where its schedule, of other steps now, has this epoch begin.
            again = f": epoch {done + 1} begins again" if self.progress.step else ""
            log.info("%d ranks now, %d before%s", ranks, self.progress.ranks, again)
            self.progress = replace(self.progress, step=0, loss_sum=0.0, correct=0.0, ranks=ranks)
            self.optimizer.iterations.assign(done * self.batches.steps)

    def fit(self) -> Fitted:
        """Train to the end; returns the model with its best weights."""
        self.begin()
        step = make_step(self.model, self.optimizer, self.world)
        batches = self.batches.epochs(self.progress.epoch, self.config.epochs, self.progress.step)
        while self.progress.epoch < self.config.epochs:
            self._epoch(step, batches)
            self._finish_epoch()
        checkpoints.assign(self.model.weights, self.best)
        self._save_model(BEST)
        counts = {split: self.stamp_set.count(split) for split in ("train", "val")}
        return Fitted(self.model, self.progress, has_learnt(self.progress.history, counts))

    def _epoch(self, step: Step, batches: Iterator[Batch]) -> None:
        """The rest of the current epoch, whose batches come next.

        SIGTERM ends it between two steps, with a checkpoint of its own, or in the validation, which has one.
        """
        progress, steps = self.progress, self.batches.steps
        batch = self.config.feed.batch_size * self.world.size
        self.logs.begin_epoch(progress.epoch, self.config.epochs, steps, batch)
        with deferred() as asked_to_end:
            for x, y in islice(batches, steps - progress.step):
                loss, accuracy = step(x, y)
                self._check_finite(loss)
                progress.step += 1
                progress.loss_sum += loss
                progress.correct += accuracy
                taken = progress.step
                self.logs.step(taken, progress.loss_sum / taken, progress.correct / taken)
                ending = asked_to_end() and self.world.leads  # the others end when it is gone
                # The last step's is for a death in the validation that follows, which may take long.
                if ending or taken % self.checkpoint_steps == 0 or taken == steps:
                    self._save()
                if ending:
                    break

    def _finish_epoch(self) -> None:
        """Validate, remember the best, log, checkpoint."""
        progress, steps = self.progress, self.batches.steps
        found = measure(self.model, self.stamp_set, "val", self.world)
        row = {
            "epoch": progress.epoch + 1,
            "loss": progress.loss_sum / steps,
            "accuracy": progress.correct / steps,
            **{f"val_{name}": value for name, value in found.items()},
            "learning_rate": float(ops.convert_to_numpy(self.optimizer.learning_rate)),
        }
        self._check_finite(row["val_loss"])
        if progress.best_loss is None or row["val_loss"] < progress.best_loss:
            progress.best_loss, progress.best_epoch = row["val_loss"], progress.epoch + 1
            self.best = checkpoints.values(self.model.weights)
            self._save_model(BEST)
        self._save_model(LAST)
        history = [*progress.history, row]
        self.progress = replace(
            progress, epoch=progress.epoch + 1, step=0, loss_sum=0.0, correct=0.0, history=history
        )
        self._save()
        self.logs.end_epoch(history)

    def _write(self, write: Callable[..., None], *given: Any) -> None:
        """Write a file through the scratch directory, on the first rank."""
        if self.world.leads:
            with holding_lease(self.scratch, self.outdir):
                write(*given, self.scratch)

    def _save(self) -> None:
        """Write a checkpoint."""
        number = self.progress.epoch * self.batches.steps + self.progress.step
        weights, optimizer = map(checkpoints.values, (self.model.weights, self.optimizer.variables))
        state = checkpoints.Checkpoint(self.progress, weights, optimizer, self.best)
        self._write(checkpoints.save_checkpoint, self.outdir / CHECKPOINTS, state, number)

    def _save_model(self, name: str) -> None:
        """Write the model with its present weights."""
        self._write(save_model, self.model, self.outdir / name)

    def _check_finite(self, loss: float) -> None:
        """End a run whose loss is no longer a number, on all ranks at once; the first says so."""
        if math.isfinite(loss):
            return
        if not self.world.leads:
            raise SystemExit(1)
        where = f"epoch {self.progress.epoch + 1}, step {self.progress.step + 1}"
        msg = (
            f"{self.outdir}: the loss is {loss} at {where}: training has diverged; "
            "start again with a lower --learning-rate and --overwrite"
        )
        raise DivergedError(msg)
