"""What `test_training` runs in a Python of its own, on one thread: a whole run, and runs that die.

    python resume_program.py DATA OUTDIR

The latter die after so many steps and are started again until they end; a death is an exception out of the
loop.  Prints, as one line of JSON, the results by name and the numbers of the steps of the run that died in a
validation.
"""

import hashlib
import json
import sys
from pathlib import Path

from obiwan.dplearn.training import trainer as module
from obiwan.dplearn.training.rundir import Logs
from obiwan.dplearn.training.settings import FeedConfig, RunConfig, network_config
from obiwan.dplearn.training.trainer import Trainer
from obiwan.dplearn.trainingset.stampset import open_training_set

taken = []  # numbers of the steps of any run


class Death(BaseException):
    """The end of a run before its time."""


class Mortal(Logs):
    """A log that ends its run after so many steps and epochs."""

    def __init__(self, life):
        self.life = life

    def step(self, number, *_):
        taken.append(number)
        self._grow_older()

    def end_epoch(self, _history):
        self._grow_older()

    def _grow_older(self):
        self.life -= 1
        if self.life == 0:
            raise Death


def run(data, outdir, life, damage=False):
    """Start a run again until it ends; after its first death the newest checkpoint may be damaged."""
    network = network_config("lenet5", maps=(3, 4), kernel_size=3, dense=6)
    feed = FeedConfig(batch_size=8, seed=2, augment=True, window=2)
    config = RunConfig(network, feed, epochs=3, learning_rate=2e-3)
    starts = 0
    while True:
        starts += 1
        trainer = Trainer(config, data, outdir, checkpoint_steps=5, logs=Mortal(life))
        try:
            fitted = trainer.fit()
            break
        except Death:
            newest = sorted((outdir / "checkpoints").glob("*.npz"))
            if damage and starts == 1:
                newest[-1].write_bytes(newest[-1].read_bytes()[:3000])
    digest = hashlib.sha256()
    for variable in [*fitted.model.weights, *trainer.optimizer.variables]:
        digest.update(variable.numpy().tobytes())
    return {
        "digest": digest.hexdigest(),
        "history": fitted.progress.history,
        "starts": starts,
        "best": fitted.progress.best_epoch,
        "learnt": fitted.learnt,
    }


def dying_in_the_second_validation(data, outdir):
    """A run that dies there; the epoch before must not be trained again."""
    measure, deaths = module.measure, iter([False, True])

    def dying(*given, **more):
        if next(deaths, False):
            raise Death
        return measure(*given, **more)

    taken.clear()
    module.measure = dying
    return run(data, outdir, 10**9)


def main():
    """Do it all."""
    data, outdir = open_training_set(Path(sys.argv[1])), Path(sys.argv[2])
    results = {"whole": run(data, outdir / "whole", 10**9), "again": run(data, outdir / "whole", 10**9)}
    for life in (9, 13):
        results[str(life)] = run(data, outdir / str(life), life)
    results["validating"] = dying_in_the_second_validation(data, outdir / "validating")
    steps_taken = list(taken)
    results["damaged"] = run(data, outdir / "damaged", 19, damage=True)
    print(json.dumps([results, steps_taken]))


if __name__ == "__main__":
    main()
