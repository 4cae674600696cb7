"""What each rank does in `test_distributed`: started by a real launcher, told where a training set is.

    horovodrun -np 2 python rank_program.py DATA OUTDIR

The first rank prints what was found, as one line of JSON.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.running.launch import launched
from obiwan.dplearn.training import jax_ranks
from obiwan.dplearn.training.distributed import World
from obiwan.dplearn.training.engines import joined
from obiwan.dplearn.training.rundir import Logs

BATCH, STEPS = 4, 6


def digest(arrays):
    """A checksum of arrays as 32 bytes."""
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(np.ascontiguousarray(array).tobytes())
    return np.frombuffer(whole.digest(), np.uint8)


def equal_on_all(world, arrays):
    """Whether arrays are the same on all ranks, to the last bit."""
    found = world.gather(digest(arrays)[None])
    assert len(found) == world.size
    return bool((found == found[0]).all())


def messages(world):
    """Gathering, sharing, agreeing; JAX's in pieces of 7 bytes."""
    usual, jax_ranks.PIECE = jax_ranks.PIECE, 7
    mine = np.full((world.rank, 2), world.rank + 2**-40)  # 64 bits; nothing from the first rank
    joined_up = world.gather(mine)
    with world.together():
        pass
    refused = ""
    try:
        with world.together():
            if world.rank == world.size - 1:
                msg = "the last rank's"
                raise ModelError(msg)
    except ModelError as error:
        refused = str(error)
    except SystemExit as error:
        refused = f"exit {error.code}"
    words = world.share([refused, world.rank] if world.leads else None)
    jax_ranks.PIECE = usual
    return {
        "gathered": joined_up.tolist(),
        "shared": words,
        "refusals": world.gather(np.array([len(refused)], np.int32)).tolist(),
    }


def against_one_process(world):
    """Steps of all ranks, each on its part of a batch, beside steps of this process alone on all of it."""
    import keras

    from obiwan.dplearn.stampspec import StampSpec
    from obiwan.dplearn.training.checkpoints import assign, values
    from obiwan.dplearn.training.model import build_network
    from obiwan.dplearn.training.scaling import prepare
    from obiwan.dplearn.training.settings import network_config
    from obiwan.dplearn.training.steps import make_step
    from obiwan.dplearn.training.trainer import make_optimizer

    def batch(number, size):
        rng = np.random.default_rng([17, number])
        labels = rng.integers(2, size=size).astype(np.uint8)
        bright = 1 + 0.5 * labels[:, None, None, None]
        return (rng.normal(0, bright, (size, 64, 64, 6)) + 3).astype(np.float32), labels

    models = []
    for _ in range(2):
        keras.utils.set_random_seed(
            1000 + world.rank
        )  # other first weights on each rank: the broadcast must mend it
        model = build_network(network_config("lenet5", maps=(3, 4), kernel_size=3, dense=6), StampSpec())
        prepare(model, batch(world.rank, 32)[0])
        optimizer = make_optimizer(1e-2, 0.2, STEPS)
        optimizer.build(model.trainable_variables)
        models.append((model, optimizer))
    (shared, optimizer), (alone, other) = models
    differed = not equal_on_all(world, values(shared.weights))
    world.broadcast([*shared.weights, *optimizer.variables])
    begun = equal_on_all(world, values(shared.weights))
    assign(alone.weights, values(shared.weights))
    first = values(shared.trainable_variables)
    together, single = make_step(shared, optimizer, world), make_step(alone, other, World())
    metrics = []
    for number in range(STEPS):
        x, y = batch(100 + number, BATCH * world.size)
        mine = slice(world.rank * BATCH, (world.rank + 1) * BATCH)
        metrics.append([together(x[mine], y[mine]), single(x, y)])
    moved = [np.abs(a - b).max() for a, b in zip(values(shared.trainable_variables), first, strict=True)]
    apart = [
        np.abs(a - b).max()
        for a, b in zip(values(shared.trainable_variables), values(alone.trainable_variables), strict=True)
    ]
    return {
        "differed": differed,
        "begun": begun,
        "ended": equal_on_all(world, [*values(shared.weights), *values(optimizer.variables)]),
        "moved": float(min(moved)),
        "apart": float(max(world.gather(np.array([max(apart)], np.float32)))),
        "metrics": metrics,
    }


class Death(BaseException):
    """The end of a run before its time."""


class Mortal(Logs):
    """A log that ends its run after so many steps."""

    def __init__(self, life):
        self.life = life

    def step(self, *_):
        self.life -= 1
        if self.life == 0:
            raise Death


def interrupted(world, data, outdir):
    """A whole run, and one that dies again and again on all ranks."""
    from obiwan.dplearn.training.checkpoints import values
    from obiwan.dplearn.training.settings import FeedConfig, RunConfig, network_config
    from obiwan.dplearn.training.trainer import Trainer
    from obiwan.dplearn.trainingset.stampset import open_training_set

    network = network_config("lenet5", maps=(3, 4), kernel_size=3, dense=6)
    config = RunConfig(network, FeedConfig(batch_size=8, seed=2, window=2), epochs=2, learning_rate=2e-3)
    training_set = open_training_set(data)
    found = {}
    for name, life in (("whole", 10**9), ("mortal", 7)):
        starts, trainer = 0, None
        while True:
            starts += 1
            place = outdir / name if world.leads else outdir / f"never-{world.rank}"
            trainer = Trainer(config, training_set, place, world=world, checkpoint_steps=5, logs=Mortal(life))
            try:
                fitted = trainer.fit()
                break
            except Death:
                pass
        state = [*values(fitted.model.weights), *values(trainer.optimizer.variables)]
        found[name] = {
            "starts": starts,
            "digest": digest(state).tobytes().hex(),
            "equal": equal_on_all(world, state),
            "history": fitted.progress.history,
            "steps": trainer.batches.steps,
        }
    found["others"] = sorted(path.name for path in outdir.iterdir())
    return found


def main():
    """Do it all."""
    data, outdir = Path(sys.argv[1]), Path(sys.argv[2])
    with joined(launched(os.environ)) as world:
        found = {
            "size": world.size,
            "messages": messages(world),
            "against": against_one_process(world),
            "interrupted": interrupted(world, data, outdir),
        }
        if world.leads:
            print("FOUND " + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
