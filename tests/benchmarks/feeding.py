"""Does feeding limit training? Images/s from disk against the same step on a resident batch.

    bin/benchmark feeding -- [--examples 4096] [--rounds 12] [--steps 24] [--arch lenet5] [--batch-size 16]

Rounds of both alternate in one process, so that a busy machine slows both; the ratio is of the medians.
The loop reads, checks, shuffles and keeps its books as a real run does; the least required is 0.95.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

import numpy as np
from planted import Planted, write_set

from obiwan.dplearn.batches import FeedConfig
from obiwan.dplearn.logs import RunLogs
from obiwan.dplearn.model import network_config
from obiwan.dplearn.shards import open_training_set
from obiwan.dplearn.training import RunConfig, Trainer, make_step

REQUIRED = 0.95


def measure(data: Path, outdir: Path, options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Images/s of rounds of the loop, and of rounds on one batch that stays in memory."""
    feed = FeedConfig(batch_size=options.batch_size)
    config = RunConfig(network_config(options.arch), feed, epochs=1000)
    trainer = Trainer(config, open_training_set(data), outdir, logs=RunLogs(outdir, quiet=True))
    trainer.begin()
    step = make_step(trainer.model, trainer.optimizer, trainer.world)
    endless = (batch for epoch in range(1000) for batch in trainer.batches.epoch(epoch))
    resident = next(endless)
    for _ in range(8):  # compile, and let the allocators settle
        step(*resident)
    fed, held = [], []
    for _ in range(options.rounds):
        start = time.perf_counter()
        for _ in range(options.steps):
            step(*resident)
        middle = time.perf_counter()
        for number in range(options.steps):
            loss, accuracy = step(*next(endless))
            trainer.logs.step(number + 1, loss, accuracy)
        end = time.perf_counter()
        images = options.steps * options.batch_size
        held.append(images / (middle - start))
        fed.append(images / (end - middle))
    return fed, held


def main() -> int:
    """Measure and print the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--examples", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--arch", default="lenet5")
    parser.add_argument("--data", type=Path, help="a training set (default: one is made)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        data = options.data or Path(scratch) / "set"
        if options.data is None:
            write_set(data, Planted(), {"train": options.examples, "val": 2, "test": 2}, seed=1)
        fed, held = measure(data, Path(scratch), options)
    ratio = float(np.median(fed) / np.median(held))
    verdict = "enough" if ratio >= REQUIRED else "TOO LITTLE"
    print(f"from disk {np.median(fed):7.1f} img/s   (rounds {min(fed):.1f} to {max(fed):.1f})")
    print(f"resident  {np.median(held):7.1f} img/s   (rounds {min(held):.1f} to {max(held):.1f})")
    print(f"ratio     {ratio:7.3f}   {verdict}, at least {REQUIRED} is required")
    return 0 if ratio >= REQUIRED else 1


if __name__ == "__main__":
    raise SystemExit(main())
