"""Raw cutouts in, numbers of order one out: the first layer of every network of the package.

Raw pixels span seven decades between flux and inverse variance.  An image becomes its signal-to-noise
per pixel, ``asinh(image * sqrt(ivar))``, linear in the noise and logarithmic in bright cores; an inverse
variance becomes the logarithm of the noise relative to the training set's.  The layer is part of the saved
model, and so are its statistics, so that a ``.keras`` file scores raw cutouts by itself.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from obiwan.dplearn.conventions import BANDS, CHANNELS

NOISE_UNIT = 2.0
"""What divides ln(ivar / the training set's).

Not its scatter: an ivar plane is much the same all over a stamp, so the pools leave it while the galaxy
fades.  With planes of unit variance (and Adam at 1e-3) the documented network stayed at ln 2; with this
unit it had an AUC of 0.79 after one epoch of 8,192 examples.
"""

_LEAST_IVAR = 1e-12  # where a logarithm is taken of a pixel without data, before it is masked


@keras.saving.register_keras_serializable(package="obiwan.dplearn")
class CutoutScaling(keras.layers.Layer):
    """Scale raw cutouts, shape (n, y, x, 6) in nanomaggies and 1/nanomaggies**2.

    A pixel without data (ivar = 0) is 0 in both planes of its band: no signal, and the usual noise.

    Attributes
    ----------
    signal_rms : keras.Variable
        Shape (3,): root mean square of ``asinh(image * sqrt(ivar))`` over training pixels with data.
    log_ivar : keras.Variable
        Shape (3,): mean of ``ln(ivar)`` over the same pixels.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the statistics' variables; the channels must be those of the training set."""
        if input_shape[-1] != len(CHANNELS):
            msg = f"cutouts must have the {len(CHANNELS)} channels {CHANNELS}, got {input_shape[-1]}"
            raise ValueError(msg)
        shape = (len(BANDS),)
        self.signal_rms = self.add_weight(shape=shape, initializer="ones", trainable=False, name="signal_rms")
        self.log_ivar = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="log_ivar")

    def call(self, cutouts: Any) -> Any:
        """Scaled cutouts, same shape."""
        image, ivar = cutouts[..., : len(BANDS)], cutouts[..., len(BANDS) :]
        snr = image * ops.sqrt(ops.maximum(ivar, 0.0))
        size = ops.abs(snr)
        # TensorFlow's own arcsinh takes ten times as long, a twentieth of a training step.
        signal = ops.sign(snr) * ops.log(size + ops.sqrt(size * size + 1.0)) / self.signal_rms
        noise = (ops.log(ops.maximum(ivar, _LEAST_IVAR)) - self.log_ivar) / NOISE_UNIT
        valid = ops.cast(ivar > 0, noise.dtype)
        return ops.concatenate([signal, noise * valid], axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Scaling keeps the shape."""
        return input_shape


def fit_scaling(layer: CutoutScaling, cutouts: NDArray[np.float32]) -> None:
    """Set a scaling layer's statistics from training cutouts.

    Parameters
    ----------
    layer : CutoutScaling
        The layer, built.
    cutouts : ndarray
        Raw training cutouts, shape (n, 64, 64, 6); a few hundred suffice.

    Raises
    ------
    ValueError
        If no pixel of some band has data.
    """
    rms, log_ivar = [], []
    for band, name in enumerate(BANDS):
        ivar = cutouts[..., len(BANDS) + band]
        valid = ivar > 0
        if not valid.any():
            msg = f"no pixel of band {name} has data in the {len(cutouts)} sampled training cutouts"
            raise ValueError(msg)
        ivar = ivar[valid].astype(np.float64)
        signal = np.arcsinh(cutouts[..., band][valid] * np.sqrt(ivar))
        rms.append(max(float(np.sqrt(np.mean(signal**2))), 1e-6))
        log_ivar.append(float(np.mean(np.log(ivar))))
    layer.signal_rms.assign(np.array(rms, np.float32))
    layer.log_ivar.assign(np.array(log_ivar, np.float32))
