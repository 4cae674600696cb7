"""What `test_tuning` runs in processes of its own: a study whose objective is a formula.

    python tune_program.py OUTDIR TRIALS PAUSE

Each epoch takes PAUSE seconds, leaves a checkpoint and adds a line to ``epochs.log`` in OUTDIR.
"""

import math
import sys
import time
from pathlib import Path

from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.files.outdir import holding_lease
from obiwan.dplearn.tuning.leases import Timing
from obiwan.dplearn.tuning.space import read_space
from obiwan.dplearn.tuning.study import Worker, open_study

TIMING = Timing(beat=0.2, patience=2.0, grace=0.5, lock=3)
SPACE = """
epochs = { low = 2, high = 5 }
[lenet5]
width = { low = 6, high = 36, step = 6 }
"""


def value_of(config):
    """Stands for a validation AUC: best at a learning rate of 1e-3 and few epochs."""
    return 0.9 - 0.1 * (math.log10(config.learning_rate) + 3) ** 2 - 0.01 * config.epochs


class Formula:
    """An objective that is resumed epoch by epoch."""

    def __init__(self, pause=0.0, log=None):
        self.pause, self.log = pause, log

    def __call__(self, config, place, scratch, ended):
        outdir = place / "seed_1"
        with holding_lease(scratch, place):
            outdir.mkdir(exist_ok=True)
        for epoch in range(len(list(outdir.glob("step_*.npz"))) + 1, config.epochs + 1):
            if self.log is not None:
                with self.log.open("a") as stream:
                    stream.write(f"{place.name} {epoch}\n")
            time.sleep(self.pause)
            with (
                holding_lease(scratch, place),
                atomic_write(outdir / f"step_{epoch:010d}.npz", scratch) as beside,
            ):
                beside.touch()
            ended(0, [value_of(config) * one / config.epochs for one in range(1, epoch + 1)])
        return value_of(config)


def worker(outdir, objective, pruner="none", **more):
    """A process of the study."""
    outdir.mkdir(parents=True, exist_ok=True)
    file = outdir / "space.toml"
    if not file.exists():
        with atomic_write(file) as beside:
            beside.write_text(SPACE)
    space = read_space(file, ("lenet5", "deep"))
    study = open_study(outdir, space, pruner=pruner, seed=3, timing=TIMING)
    return Worker(study, space, objective, outdir, **{"timing": TIMING, **more})


def main():
    """Work until the budget is met."""
    outdir, trials, pause = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    worker(outdir, Formula(pause, outdir / "epochs.log")).work(trials)


if __name__ == "__main__":
    main()
