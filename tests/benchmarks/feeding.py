"""Does feeding limit training? Images/s from disk against the same step on a resident batch.

    bin/benchmark feeding -- [--examples 8192] [--epochs 5] [--block 32] [--arch lenet5] [--batch-size 16]
                             [--shards npy packed] [--data DIR...]

Whole epochs are run as a training does: read, checked, shuffled, copied, fed, logged; the first window,
which nothing can hide, included.  Every block of steps of each set stands beside an equal block on
a batch that stays in memory, in an order that rotates, so that a busy machine slows all alike.
Each epoch gives two ratios a set, of all its blocks: by the clock, and of processor time (all threads).  On a
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
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, product, repeat
from pathlib import Path
from typing import Any

from obiwan.dplearn.training.batches import Batch, Batches
from obiwan.dplearn.training.rundir import RunLogs
from obiwan.dplearn.training.settings import FeedConfig, RunConfig, network_config
from obiwan.dplearn.training.steps import Step, make_step
from obiwan.dplearn.training.trainer import Trainer
from obiwan.dplearn.trainingset.shards import FORMS, PACKED
from obiwan.dplearn.trainingset.stampset import open_training_set
from planted import Planted, write_set
from quantised import pack_set

REQUIRED = 0.95
KINDS = ("clock", "processor")
MEMORY = "memory"


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
    """What an epoch took from each set on disk, and what as many steps took on a batch in memory."""

    disk: dict[str, Spent]
    memory: Spent

    def ratio(self, name: str, kind: str) -> float:
        """Speed from a set in units of the speed in memory, by ``clock`` or ``processor``."""
        return float(getattr(self.memory, kind) / getattr(self.disk[name], kind))


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


def one_epoch(
    trainer: Trainer, step: Step, resident: Batch, feeds: dict[str, Iterator[Batch]], block: int
) -> Epoch:
    """One epoch of each set and as many steps on a resident batch, block by block in turn."""
    sources: dict[str, Iterator[Batch]] = {MEMORY: repeat(resident), **feeds}
    spent, names = {name: Spent() for name in sources}, deque(sources)
    for start in range(0, trainer.batches.steps, block):
        count = min(block, trainer.batches.steps - start)
        for name in names:
            with spent[name].counting():
                take_steps(trainer, step, sources[name], count)
        names.rotate()
    return Epoch({name: spent[name] for name in feeds}, spent[MEMORY])


def measure(sets: dict[str, Path], outdir: Path, options: argparse.Namespace) -> tuple[int, list[Epoch]]:
    """Images in an epoch, and what each epoch took."""
    feed = FeedConfig(batch_size=options.batch_size)
    config = RunConfig(network_config(options.arch), feed, epochs=options.epochs + 1)
    feeds = {
        name: Batches(open_training_set(path), "train", feed).epochs(0, options.epochs)
        for name, path in sets.items()
    }
    first = next(iter(sets.values()))
    trainer = Trainer(config, open_training_set(first), outdir, logs=RunLogs(outdir, quiet=True))
    trainer.begin()
    step = make_step(trainer.model, trainer.optimizer, trainer.world)
    trainer.logs.begin_epoch(0, options.epochs, trainer.batches.steps, options.batch_size)
    resident = next(trainer.batches.epoch(0))
    take_steps(trainer, step, trainer.batches.epoch(0), 16)  # compile, and let the allocators settle
    epochs = []
    for number in range(options.epochs):
        epochs.append(one_epoch(trainer, step, resident, feeds, options.block))
        words = (f"{name}, {kind} {epochs[-1].ratio(name, kind):.3f}" for name in sets for kind in KINDS)
        print(f"   epoch {number + 1} of {options.epochs}: {'; '.join(words)}", flush=True)
    return trainer.batches.steps * options.batch_size, epochs


def make_sets(scratch: Path, examples: int, forms: list[str]) -> dict[str, Path]:
    """A training set in each form."""
    sets = {form: scratch / form for form in forms}
    for form, path in sets.items():
        write_set(path, Planted(), {"train": examples, "val": 2, "test": 2}, seed=1)
        if form == PACKED:
            pack_set(path)
    return sets


def main() -> int:
    """Measure and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--examples", type=int, default=8192)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--block", type=int, default=32, help="steps in a block")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--arch", default="lenet5")
    parser.add_argument("--shards", nargs="+", default=list(FORMS), choices=FORMS, help="forms of the shards")
    parser.add_argument("--data", nargs="+", type=Path, help="training sets (default: they are made)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        sets = {str(path): path for path in options.data or ()}
        sets = sets or make_sets(scratch, options.examples, options.shards)
        images, epochs = measure(sets, scratch, options)
    spent = {name: [epoch.disk[name] for epoch in epochs] for name in sets}
    for name, all_spent in {MEMORY: [epoch.memory for epoch in epochs], **spent}.items():
        rates = [images / one.clock for one in all_spent]
        print(f"{name:<10}{statistics.median(rates):7.1f} img/s   ({min(rates):.1f} to {max(rates):.1f})")
    least = math.inf
    for name, kind in product(sets, KINDS):
        ratios = [epoch.ratio(name, kind) for epoch in epochs]
        words = f"{statistics.median(ratios):7.3f}         ({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"{name}, {kind:<10}{words}")
        least = min(least, statistics.median(ratios))
    verdict = "enough" if least >= REQUIRED else "TOO LITTLE"
    print(f"ratio     {least:7.3f}         {verdict}: at least {REQUIRED}")
    return 0 if least >= REQUIRED else 1


if __name__ == "__main__":
    raise SystemExit(main())
