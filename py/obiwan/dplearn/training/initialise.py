"""Initial weights, scaled on training stamps so that learning can begin.

Seven-pixel average pools take most of an image's variance away, three times over; a network that is
drawn without regard to this starts with outputs that hardly depend on its input.  As in Salimans &
Kingma (2016, arXiv:1602.07868, section 3) and Mishkin & Matas (2016, arXiv:1511.06422), each convolution
and dense layer is rescaled in turn, so that over the sample every map's values before the ReLU have mean
0 and variance 1.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from obiwan.dplearn.training.model import scaling_of
from obiwan.dplearn.training.scaling import fit_scaling

LAST_GAIN = 0.25
"""Scatter of the logits at the start: small, so that the first loss is close to ln 2 whatever the draw."""


def _apply(layer: Any, values: NDArray[np.float32], batch: int = 32) -> NDArray[np.float32]:
    """A layer's output on an array, by batches."""
    parts = (layer(ops.convert_to_tensor(values[i : i + batch])) for i in range(0, len(values), batch))
    return np.concatenate([ops.convert_to_numpy(part) for part in parts])


def _standardise(layer: Any, values: NDArray[np.float32], gain: float) -> None:
    """Rescale a layer so that each map before the activation has mean 0 and standard deviation `gain`."""
    activation, layer.activation = layer.activation, keras.activations.linear
    try:
        linear = _apply(layer, values)
    finally:
        layer.activation = activation
    axes = tuple(range(linear.ndim - 1))
    mean = linear.mean(axes, dtype=np.float64)
    factor = gain / np.maximum(linear.std(axes, dtype=np.float64), 1e-6)
    kernel, bias = (ops.convert_to_numpy(weight) for weight in layer.weights)
    layer.weights[0].assign((kernel * factor).astype(np.float32))
    layer.weights[1].assign(((bias - mean) * factor).astype(np.float32))


def prepare(model: Any, stamps: NDArray[np.float32], balance: int = 256) -> None:
    """Fit a new network's scaling and, where it is a plain chain of layers, its first weights.

    Parameters
    ----------
    model : keras.Model
        From `obiwan.dplearn.training.model.build_network`, untrained; changed in place.
    stamps : ndarray
        Raw training stamps, shape (n, size, size, channels).
    balance : int
        How many of them the weights are fitted on.  A network with branches normalises inside and keeps
        its draw but for the last layer.
    """
    scaling = scaling_of(model)
    if scaling is not None:
        fit_scaling(scaling, stamps)
    chain = model.layers[1:]  # after the input
    if any(isinstance(layer, keras.layers.Add) for layer in chain):
        return
    values = stamps[:balance]
    for layer in chain:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            _standardise(layer, values, LAST_GAIN if layer is chain[-1] else 1.0)
        values = _apply(layer, values)
