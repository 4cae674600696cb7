"""Training on one GPU by batch size: images/s, the share of the feed, mixed precision and its effect on AUC.

    KERAS_BACKEND=jax bin/benchmark gpu -- [--batches 16 64 256 1024 4096] [--seconds 10] [--seeds 3]
                                           [--arch lenet5] [--data DIR]

Every step is one of a real run: its batch comes from disk, its loss goes to the books.  The share of the feed
is the time that a step waits for its batch.  Under mixed precision (bfloat16, weights in float32) the stamps
are still scaled in float32, since they span seven decades.  Without a GPU it measures the processor, and
says so.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import keras

from obiwan.dplearn.training import model as networks
from obiwan.dplearn.training.batches import with_fitting_batches
from obiwan.dplearn.training.settings import FeedConfig, RunConfig, network_config
from obiwan.dplearn.training.steps import make_step
from obiwan.dplearn.training.trainer import Trainer
from obiwan.dplearn.trainingset.stampset import StampSet, open_training_set
from planted import Planted, write_set

PRECISIONS = ("float32", "mixed_bfloat16")
WARM = 3  # steps before the clock is started: compiling, allocating


@dataclass(frozen=True)
class Rate:
    """What was measured of a batch size."""

    images: float  # a second
    waiting: float  # fraction of the time in which the device waits for a batch


def device() -> str:
    """Name of the card that the backend of Keras trains on, or of the processor."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        found = jax.devices()[0]
        return found.device_kind if found.platform == "gpu" else ""
    if backend == "torch":
        import torch

        return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
    import tensorflow as tf

    cards = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(cards[0]).get("device_name")) if cards else ""


def endless(trainer: Trainer) -> Iterator[Any]:
    """Batches of one epoch after the other."""
    epoch = 0
    while True:
        yield from trainer.batches.epoch(epoch)
        epoch += 1


def rate(trainer: Trainer, seconds: float) -> Rate:
    """Train for a while."""
    trainer.begin()
    step, batches = make_step(trainer.model, trainer.optimizer, trainer.world), endless(trainer)
    for _ in range(WARM):
        step(*next(batches))
    begin = now = time.monotonic()
    images, waited = 0, 0.0
    while now - begin < seconds:
        x, y = next(batches)
        waited += time.monotonic() - now
        step(x, y)
        images, now = images + len(y), time.monotonic()
    return Rate(images / (now - begin), waited / (now - begin))


def trainer_of(
    options: argparse.Namespace, data: StampSet, place: Path, batch: int, seed: int = 1
) -> Trainer:
    """A run that has not begun."""
    feed = FeedConfig(batch_size=batch, seed=seed)
    config = RunConfig(network_config(options.arch), feed, epochs=options.epochs)
    return Trainer(with_fitting_batches(config, data), data, place)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64, 256, 1024, 4096])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--examples", type=int, default=16384, help="of a set that is made")
    parser.add_argument("--epochs", type=int, default=4, help="of the networks whose AUC is told")
    parser.add_argument("--seeds", type=int, default=3, help="of these networks, for each precision")
    parser.add_argument("--arch", default="lenet5")
    parser.add_argument("--data", type=Path, help="a training set (default: one is made)")
    options = parser.parse_args()
    card = device()
    print(f"{card or 'no GPU: the processor'}; Keras {keras.__version__} on {keras.backend.backend()}")
    scaling = networks.CutoutScaling
    networks.CutoutScaling = functools.partial(scaling, dtype="float32")
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.data or Path(scratch) / "set"
        if options.data is None:
            counts = {"train": options.examples, "val": options.examples // 4, "test": 2}
            write_set(directory, Planted("size", 1.2), counts, seed=1)
        data = open_training_set(directory)
        print(f"{'batch':>6}  {'precision':15} {'images/s':>9}  waiting for the feed")
        for precision in PRECISIONS:
            keras.config.set_dtype_policy(precision)
            for batch in (one for one in options.batches if one <= sum(data.count("train"))):
                found = rate(trainer_of(options, data, Path(scratch), batch), options.seconds)
                print(f"{batch:6}  {precision:15} {found.images:9.0f}  {found.waiting:.2f}", flush=True)
        for precision in PRECISIONS if options.seeds else ():
            keras.config.set_dtype_policy(precision)
            aucs = []
            for seed in range(1, options.seeds + 1):
                place = Path(scratch) / f"{precision}_{seed}"
                fitted = trainer_of(options, data, place, 64, seed).fit()
                aucs.append(max(row["val_auc"] for row in fitted.progress.history))
            scatter = f" (scatter {stdev(aucs):.4f})" if len(aucs) > 1 else ""
            print(
                f"{precision:15} validation AUC {mean(aucs):.4f}{scatter}, of {len(aucs)} seeds", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
