"""Training step: gradients, their average over the ranks, Adam and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.training.distributed import World

Step = Callable[[NDArray[np.float32], NDArray[np.uint8]], tuple[float, float]]


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


def make_step(model: Any, optimizer: Any, world: World) -> Step:
    """A train step: batch in; loss and accuracy, over the batches of all ranks, out.

    On TensorFlow the gradients pass through `World.average` between tape and optimizer; the
    other backends train in one process, by Keras' own step.
    """
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_step(model, optimizer, world)
    if world.size > 1:
        msg = f"training on {world.size} ranks needs KERAS_BACKEND=tensorflow, not {keras.backend.backend()}"
        raise ModelError(msg)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["sparse_categorical_accuracy"])

    def step(x: NDArray[np.float32], y: NDArray[np.uint8]) -> tuple[float, float]:
        loss, accuracy = model.train_on_batch(x, y.astype(np.int32))
        return float(loss), float(accuracy)

    return step


def _tensorflow_step(model: Any, optimizer: Any, world: World) -> Step:
    """The step as one compiled function."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def compiled(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            probabilities = model(x, training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, probabilities))
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        right = tf.equal(tf.argmax(probabilities, -1, output_type=tf.int32), y)
        metrics = tf.stack([loss, tf.reduce_mean(tf.cast(right, loss.dtype))])
        # The metrics travel with the gradients: a loss that is no number is so on every rank at one step.
        *gradients, metrics = world.average([*gradients, metrics])
        optimizer.apply(gradients, variables)
        return metrics

    def step(x: NDArray[np.float32], y: NDArray[np.uint8]) -> tuple[float, float]:
        loss, accuracy = compiled(tf.constant(x), tf.constant(y.astype(np.int32))).numpy()
        return float(loss), float(accuracy)

    return step
