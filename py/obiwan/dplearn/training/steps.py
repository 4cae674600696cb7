"""Training step: a batch in, weights moved, loss and accuracy out; a function for each Keras backend.

All take gradients of the mean cross-entropy, average them over the ranks (`World.average`), and hand them
to the optimizer.  The metrics travel with the gradients: a loss that is no number is so on every rank at
one step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.training.distributed import World

Step = Callable[[NDArray[np.float32], NDArray[np.uint8]], tuple[float, float]]


def _loss_and_metrics(y: Any, probabilities: Any) -> tuple[Any, Any]:
    """Mean cross-entropy (nats), and an array of it and the accuracy."""
    loss = ops.mean(keras.losses.sparse_categorical_crossentropy(y, probabilities))
    right = ops.equal(ops.cast(ops.argmax(probabilities, -1), "int32"), y)
    return loss, ops.stack([loss, ops.mean(ops.cast(right, loss.dtype))])


def _tensorflow_step(model: Any, optimizer: Any, world: World) -> Callable[..., Any]:
    """The step as one compiled function."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def compiled(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss, metrics = _loss_and_metrics(y, model(x, training=True))
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        *gradients, metrics = world.average([*gradients, metrics])
        optimizer.apply(gradients, variables)
        return metrics

    return lambda x, y: compiled(tf.constant(x), tf.constant(y)).numpy()


def _jax_step(model: Any, optimizer: Any, world: World) -> Callable[..., Any]:
    """Two compiled functions, gradients and update, with the average of one flat array between them.

    The state is read from the variables before each step and written back after it.  Weights that are not
    trained are the statistics of the scaling, which no step changes.
    """
    import jax
    from jax.flatten_util import ravel_pytree

    def state_of(variables: Any) -> list[Any]:
        return [variable.value for variable in variables]

    def loss_of(weights: Any, fixed: Any, x: Any, y: Any) -> tuple[Any, Any]:
        probabilities, _ = model.stateless_call(weights, fixed, x, training=True)
        return _loss_and_metrics(y, probabilities)

    _, parts_of = ravel_pytree((state_of(model.trainable_variables), np.zeros(2, np.float32)))

    @jax.jit
    def gradients(weights: Any, fixed: Any, x: Any, y: Any) -> Any:
        return ravel_pytree(jax.grad(loss_of, has_aux=True)(weights, fixed, x, y))[0]

    @jax.jit
    def update(weights: Any, state: Any, averaged: Any) -> Any:
        found, metrics = parts_of(averaged)
        return *optimizer.stateless_apply(state, found, weights), metrics

    def step(x: Any, y: Any) -> Any:
        weights = state_of(model.trainable_variables)
        flat = gradients(weights, state_of(model.non_trainable_variables), x, y)
        new = update(weights, state_of(optimizer.variables), *world.average([flat]))
        for variables, values in zip((model.trainable_variables, optimizer.variables), new[:2], strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        return np.asarray(new[2])

    return step


def _torch_step(model: Any, optimizer: Any, world: World) -> Callable[..., Any]:
    """The step as it is written, not compiled."""
    import torch

    def step(x: Any, y: Any) -> Any:
        variables = model.trainable_variables
        probabilities = model(ops.convert_to_tensor(x), training=True)
        loss, metrics = _loss_and_metrics(ops.convert_to_tensor(y), probabilities)
        gradients = torch.autograd.grad(loss, [variable.value for variable in variables])
        *gradients, metrics = world.average([*gradients, metrics])
        with torch.no_grad():
            optimizer.apply(gradients, variables)
        return ops.convert_to_numpy(metrics)

    return step


STEPS = {"tensorflow": _tensorflow_step, "jax": _jax_step, "torch": _torch_step}  #: by the backend of Keras


def make_step(model: Any, optimizer: Any, world: World) -> Step:
    """A train step: batch in; loss and accuracy, over the batches of all ranks, out.

    Parameters
    ----------
    model : keras.Model
    optimizer : keras.Optimizer
        Built for the model's trainable variables.
    world : World
        Of the engine that goes with the backend.

    Raises
    ------
    ModelError
        If the backend does not train.
    """
    backend = keras.backend.backend()
    if backend not in STEPS:
        msg = f"Keras backend {backend} does not train; set KERAS_BACKEND to {', '.join(STEPS)}"
        raise ModelError(msg)
    compute = STEPS[backend](model, optimizer, world)

    def step(x: NDArray[np.float32], y: NDArray[np.uint8]) -> tuple[float, float]:
        loss, accuracy = compute(x, y.astype(np.int32))
        return float(loss), float(accuracy)

    return step


def out_of_memory(error: Exception) -> bool:
    """Whether an exception says, as each backend does, that the memory of its device does not suffice."""
    kinds = ("ResourceExhaustedError", "OutOfMemoryError")  # TensorFlow's, PyTorch's
    return type(error).__name__ in kinds or "RESOURCE_EXHAUSTED" in str(error)
