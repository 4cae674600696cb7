"""Integrated gradients: how much each pixel of a cutout adds to a network's log odds."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from obiwan.dplearn.conventions import BANDS, Array
from obiwan.dplearn.errors import ModelError

Gradient = Callable[[Array], Array]

STEPS = 16  #: points on the way from the empty stamp
BATCH = 128


def split_network(model: Any) -> tuple[Any, Any]:
    """A network in two: its scaling, and what it makes of scaled cutouts.

    Parameters
    ----------
    model : keras.Model
        A network of this package.

    Returns
    -------
    scale : keras.Model
        From raw to scaled cutouts (`obiwan.dplearn.training.scaling.CutoutScaling`), shape (n, 64, 64, 6).
    odds : keras.Model
        From scaled cutouts to ln(P(fake) / P(real)), shape (n, 1), without the softmax that would saturate.

    Raises
    ------
    ModelError
        If the network does not begin with a scaling and end in a softmax.
    """
    import keras

    from obiwan.dplearn.training.scaling import CutoutScaling

    scaling = next((layer for layer in model.layers if isinstance(layer, CutoutScaling)), None)
    last = model.layers[-1]
    if scaling is None or getattr(last, "activation", None) is not keras.activations.softmax:
        msg = (
            f"{model.name}: attribution needs a network with this package's scaling and a softmax at its end"
        )
        raise ModelError(msg)
    kernel, bias = last.get_weights()
    difference = keras.layers.Dense(1, name="log_odds")
    odds = keras.Model(scaling.output, difference(last.input))
    difference.set_weights([kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]])
    return keras.Model(model.input, scaling.output), odds


def outputs(model: Any, inputs: Array) -> Array:
    """What a model gives for an array, batch by batch."""
    import keras

    parts = [
        keras.ops.convert_to_numpy(model(inputs[start : start + BATCH], training=False))
        for start in range(0, len(inputs), BATCH)
    ]
    return np.concatenate(parts)


def gradient_of(model: Any) -> Gradient:
    """The gradient of the sum of a model's outputs with respect to its input, on any Keras backend.

    Raises
    ------
    ModelError
        If the backend has no gradients.
    """
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        tf: Any = importlib.import_module("tensorflow")

        @tf.function(reduce_retracing=True)
        def compiled(x: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                total = tf.reduce_sum(model(x, training=False))
            return tape.gradient(total, x)

        return lambda x: np.asarray(compiled(tf.constant(x)))
    if backend == "jax":
        jax: Any = importlib.import_module("jax")
        state = [
            [v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables)
        ]
        gradient = jax.jit(jax.grad(lambda x: model.stateless_call(*state, x, training=False)[0].sum()))
        return lambda x: np.asarray(gradient(x))
    if backend == "torch":

        def backward(x: Array) -> Array:
            tensor: Any = keras.ops.convert_to_tensor(x).requires_grad_()
            model(tensor, training=False).sum().backward()
            return np.asarray(tensor.grad.cpu())

        return backward
    msg = f"the Keras backend {backend} has no gradients; attribution needs tensorflow, jax or torch"
    raise ModelError(msg)


def empty_stamps(scaled: Array) -> Array:
    """Where attribution starts from: no light, and each noise plane at its median.

    Parameters
    ----------
    scaled : ndarray, shape (n, 64, 64, 6)
        Scaled cutouts: asinh of signal over noise in the first three planes, the logarithm of the inverse
        variance in the others, both exactly 0 where there is no data.

    Returns
    -------
    ndarray
        The same shape and, where there is no data, the same.
    """
    noise = scaled[..., len(BANDS) :]
    valid = noise != 0
    flat = np.where(valid, noise, np.nan).reshape(len(scaled), -1, len(BANDS))
    flat[:, 0] = np.where(valid.any((1, 2)), flat[:, 0], 0.0)  # a plane without data has no median
    median = np.nanmedian(flat, axis=1)[:, None, None, :]
    empty = np.zeros_like(scaled)
    empty[..., len(BANDS) :] = np.where(valid, median, 0.0)
    return empty


def integrated_gradients(gradient: Gradient, scaled: Array, steps: int = STEPS) -> Array:
    """Attribution of each pixel of each plane, by the midpoint rule.

    Parameters
    ----------
    gradient : callable
        Of the log odds with respect to scaled cutouts (`gradient_of`).
    scaled : ndarray, shape (n, 64, 64, 6)
    steps : int

    Returns
    -------
    ndarray, shape (n, 64, 64, 6)
        Log odds; pixels where the stamp and the empty stamp agree have none.
    """
    out = np.empty(scaled.shape, np.float32)
    for start in range(0, len(scaled), BATCH):
        part = scaled[start : start + BATCH]
        empty = empty_stamps(part)
        added = part - empty
        total = np.zeros(part.shape, np.float64)
        for step in range(steps):
            total += gradient(empty + np.float32((step + 0.5) / steps) * added)
        out[start : start + BATCH] = total / steps * added
    return out
