"""Does feeding limit training? Images/s from disk against the same step on a resident batch.

    bin/benchmark feeding -- [--examples 8192] [--epochs 5] [--block 32] [--arch lenet5] [--batch-size 16]
                             [--shards packed]

Whole epochs are run as a training does: read, checked, shuffled, copied, fed, logged; the first window of
an epoch, which nothing can hide, included.  Every block of steps stands beside an equal block on a batch
that stays in memory, and which of the two comes first alternates, so that a busy machine slows both alike.
Each epoch gives two ratios, of all its blocks: by the clock, and of processor time (all threads).  On a
quiet machine the clock says what a user sees; on a busy one it flatters the loop, whose reading thread gets
a share of its own, and the processor time tells what feeding costs.  The smaller median must reach 0.95.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from typing import Any

from obiwan.dplearn.training.rundir import RunLogs
from obiwan.dplearn.training.settings import FeedConfig, RunConfig, network_config
from obiwan.dplearn.training.steps import Step, make_step
from obiwan.dplearn.training.trainer import Trainer
from obiwan.dplearn.trainingset.shards import FORMS, NPY, PACKED
from obiwan.dplearn.trainingset.stampset import open_training_set
from planted import Planted, write_set
from quantised import pack_set

REQUIRED = 0.95
KINDS = ("clock", "processor")


@dataclass
class Spent:
    """Seconds by the clock and of processor time."""

    clock: float = 0.0
    processor: float = 0.0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Add what passes inside."""
        clock, processor = time.perf_counter(), time.process_time()
        yield
        self.clock += time.perf_counter() - clock
        self.processor += time.process_time() - processor


@dataclass
class Epoch:
    """What an epoch took from disk, and what as many steps took on a batch in memory."""

    disk: Spent
    memory: Spent

    def ratio(self, kind: str) -> float:
        """Speed from disk in units of the speed in memory, by ``clock`` or ``processor``."""
        return float(getattr(self.memory, kind) / getattr(self.disk, kind))


def take_steps(trainer: Trainer, step: Step, batches: Iterator[Any], count: int) -> None:
    """`count` steps, with what a run does beside them."""
    done = 0
    for x, y in islice(batches, count):
        loss, accuracy = step(x, y)
        done += 1
        trainer.logs.step(done, loss, accuracy)
    if done < count:
        msg = f"batches ended {count - done} steps early"
        raise RuntimeError(msg)


def one_epoch(trainer: Trainer, step: Step, resident: tuple[Any, Any], epoch: int, block: int) -> Epoch:
    """One epoch from disk and as many steps on a resident batch, block by block in turn."""
    sources = (trainer.batches.epoch(epoch), repeat(resident))
    spent = (Spent(), Spent())
    for number, start in enumerate(range(0, trainer.batches.steps, block)):
        count = min(block, trainer.batches.steps - start)
        for kind in (number % 2, 1 - number % 2):
            with spent[kind].counting():
                take_steps(trainer, step, sources[kind], count)
    return Epoch(*spent)


def measure(data: Path, outdir: Path, options: argparse.Namespace) -> tuple[int, list[Epoch]]:
    """Images in an epoch, and what each epoch took."""
    feed = FeedConfig(batch_size=options.batch_size)
    config = RunConfig(network_config(options.arch), feed, epochs=options.epochs + 1)
    trainer = Trainer(config, open_training_set(data), outdir, logs=RunLogs(outdir, quiet=True))
    trainer.begin()
    step = make_step(trainer.model, trainer.optimizer, trainer.world)
    trainer.logs.begin_epoch(0, options.epochs, trainer.batches.steps, options.batch_size)
    resident = next(trainer.batches.epoch(0))
    take_steps(trainer, step, trainer.batches.epoch(0), 16)  # compile, and let the allocators settle
    epochs = []
    for number in range(options.epochs):
        epochs.append(one_epoch(trainer, step, resident, number, options.block))
        words = ", ".join(f"{kind} {epochs[-1].ratio(kind):.3f}" for kind in KINDS)
        print(f"   epoch {number + 1} of {options.epochs}: {words}", flush=True)
    return trainer.batches.steps * options.batch_size, epochs


def main() -> int:
    """Measure and print the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--examples", type=int, default=8192)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--block", type=int, default=32, help="steps in a block")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--arch", default="lenet5")
    parser.add_argument("--shards", default=NPY, choices=FORMS, help="form of the shards")
    parser.add_argument("--data", type=Path, help="a training set (default: one is made)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        data = options.data or Path(scratch) / "set"
        if options.data is None:
            write_set(data, Planted(), {"train": options.examples, "val": 2, "test": 2}, seed=1)
            if options.shards == PACKED:
                pack_set(data)
        images, epochs = measure(data, Path(scratch), options)
    for name in ("disk", "memory"):
        rates = [images / getattr(epoch, name).clock for epoch in epochs]
        print(f"{name:<10}{statistics.median(rates):7.1f} img/s   ({min(rates):.1f} to {max(rates):.1f})")
    least = math.inf
    for kind in KINDS:
        ratios = [epoch.ratio(kind) for epoch in epochs]
        print(f"{kind:<10}{statistics.median(ratios):7.3f}         ({min(ratios):.3f} to {max(ratios):.3f})")
        least = min(least, statistics.median(ratios))
    verdict = "enough" if least >= REQUIRED else "TOO LITTLE"
    print(f"ratio     {least:7.3f}         {verdict}: at least {REQUIRED}")
    return 0 if least >= REQUIRED else 1


if __name__ == "__main__":
    raise SystemExit(main())
