"""Scaling of stamps, and of a new network's first weights: numbers of order one in every layer.

Raw pixels span seven decades between flux and inverse variance.  An image becomes its signal-to-noise
per pixel, ``asinh(image * sqrt(ivar))``, linear in the noise and logarithmic in bright cores; an inverse
variance becomes the logarithm of the noise relative to the training set's.  Of stamps without inverse
variances an image becomes ``asinh(image / sky)``, where sky is the noise of the training set's sky in that
band.  `CutoutScaling`, the first layer of every network, does this.  It is part of the saved model,
and so are its statistics, so that a ``.keras`` file scores raw stamps by itself.

Seven-pixel average pools take most of an image's variance away, three times over; a network that is
drawn without regard to this starts with outputs that hardly depend on its input.  As in Salimans &
Kingma (2016, arXiv:1602.07868, section 3) and Mishkin & Matas (2016, arXiv:1511.06422), each convolution
and dense layer is rescaled in turn, so that over the sample every map's values before the ReLU have mean
0 and variance 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from obiwan.dplearn.stampspec import StampSpec

NOISE_UNIT = 2.0
"""What divides ln(ivar / the training set's).

Not its scatter: an ivar plane is much the same all over a stamp, so the pools leave it while the galaxy
fades.  With planes of unit variance (and Adam at 1e-3) the documented network stayed at ln 2; with this
unit it had an AUC of 0.79 after one epoch of 8,192 examples.
"""

LAST_GAIN = 0.25
"""Scatter of the logits at the start: small, so that the first loss is close to ln 2 whatever the draw."""

_LEAST_IVAR = 1e-12  # where a logarithm is taken of a pixel without data, before it is masked
_LEAST = 1e-6  # of a statistic that divides, relative to its own unit
_NORMAL = 1.4826  # standard deviation of a Gaussian in units of its median absolute deviation
_FIRST = StampSpec()  # what files of versions before the bands were named hold


@keras.saving.register_keras_serializable(package="obiwan.dplearn")
class CutoutScaling(keras.layers.Layer):
    """Scale raw stamps, shape (n, y, x, channels) in nanomaggies and 1/nanomaggies**2.

    A pixel without data (ivar = 0) is 0 in both planes of its band: no signal, and the usual noise.  Of
    stamps without inverse variances, padding is exactly 0 and stays so; a masked pixel keeps the value that
    the coadd gives it.

    Parameters
    ----------
    bands, planes : sequence of str
        As in `StampSpec`; those of g, r, z with inverse variances by default, which older files do not name.

    Attributes
    ----------
    signal_rms : keras.Variable
        Shape (bands,): root mean square of the scaled image over training pixels with data.
    log_ivar : keras.Variable
        Shape (bands,), with inverse variances: mean of ``ln(ivar)`` over the same pixels.
    sky : keras.Variable
        Shape (bands,), without: noise of the training set's sky (nanomaggies).
    """

    def __init__(
        self, bands: Sequence[str] = _FIRST.bands, planes: Sequence[str] = _FIRST.planes, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.spec = StampSpec(tuple(bands), tuple(planes))  # of any size

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the statistics' variables; the channels must be those of the training set."""
        channels, shape = self.spec.channels, (len(self.spec.bands),)
        if input_shape[-1] != len(channels):
            names = ", ".join(channels)
            msg = f"stamps must have the {len(channels)} channels {names}, got {input_shape[-1]}"
            raise ValueError(msg)
        self.signal_rms = self.add_weight(shape=shape, initializer="ones", trainable=False, name="signal_rms")
        name, start = ("log_ivar", "zeros") if self.spec.has_ivar else ("sky", "ones")
        noise = self.add_weight(shape=shape, initializer=start, trainable=False, name=name)
        setattr(self, name, noise)

    def call(self, stamps: Any) -> Any:
        """Scaled stamps, same shape."""
        image, ivar = self.spec.image(stamps), self.spec.ivar(stamps)
        snr = image / self.sky if ivar is None else image * ops.sqrt(ops.maximum(ivar, 0.0))
        size = ops.abs(snr)
        # TensorFlow's own arcsinh takes ten times as long, a twentieth of a training step.
        signal = ops.sign(snr) * ops.log(size + ops.sqrt(size * size + 1.0)) / self.signal_rms
        if ivar is None:
            return signal
        noise = (ops.log(ops.maximum(ivar, _LEAST_IVAR)) - self.log_ivar) / NOISE_UNIT
        valid = ops.cast(ivar > 0, noise.dtype)
        return ops.concatenate([signal, noise * valid], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """What `keras.saving` needs to make the layer again."""
        return {**super().get_config(), "bands": list(self.spec.bands), "planes": list(self.spec.planes)}


def fit_scaling(layer: CutoutScaling, stamps: NDArray[np.float32]) -> None:
    """Set a scaling layer's statistics from training stamps.

    Parameters
    ----------
    layer : CutoutScaling
        The layer, built.
    stamps : ndarray, shape (n, size, size, channels)
        Raw training stamps; a few hundred suffice.

    Raises
    ------
    ValueError
        If no pixel of some band has data.
    """
    image, ivar = layer.spec.image(stamps), layer.spec.ivar(stamps)
    rms, noise = [], []
    for band, name in enumerate(layer.spec.bands):
        pixels = image[..., band]
        sky = np.nan if ivar is not None else sky_noise(pixels)
        valid = pixels != 0 if ivar is None else ivar[..., band] > 0
        if not valid.any() or sky == 0:
            msg = f"no pixel of band {name} has data in the {len(stamps)} sampled training cutouts"
            raise ValueError(msg)
        if ivar is None:
            signal = np.arcsinh(pixels[valid] / sky)
            noise.append(sky)
        else:
            weight = ivar[..., band][valid].astype(np.float64)
            signal = np.arcsinh(pixels[valid] * np.sqrt(weight))
            noise.append(float(np.mean(np.log(weight))))
        rms.append(max(float(np.sqrt(np.mean(signal**2))), _LEAST))
    layer.signal_rms.assign(np.array(rms, np.float32))
    (layer.sky if ivar is None else layer.log_ivar).assign(np.array(noise, np.float32))


def sky_noise(images: NDArray[np.float32]) -> float:
    """Noise of the sky in a band: the median stamp's, from pixels outside the inscribed circle.

    Where no stamp has data there, all pixels count.

    Parameters
    ----------
    images : ndarray, shape (n, size, size)
        Images (nanomaggies); pixels that are exactly 0 are padding and do not count.

    Returns
    -------
    float
        Median over the stamps of 1.4826 times the median absolute deviation; 0 where no pixel has data.
    """
    offset = np.arange(images.shape[1]) - (images.shape[1] - 1) / 2
    outside = images[:, np.hypot(offset[:, None], offset) > images.shape[1] / 2].astype(np.float64)
    if not outside.any():  # the outskirts are masked (an ablation): what is left stands for the sky
        outside = images.reshape(len(images), -1).astype(np.float64)
    skies = [stamp[stamp != 0] for stamp in outside]
    spreads = [np.median(np.abs(sky - np.median(sky))) for sky in skies if len(sky)]
    return _NORMAL * float(np.median(spreads)) if spreads else 0.0


def scaling_of(model: Any) -> CutoutScaling | None:
    """The layer of a network that scales raw stamps; None where there is none."""
    return next((layer for layer in model.layers if isinstance(layer, CutoutScaling)), None)


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
