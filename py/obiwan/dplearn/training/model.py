"""Networks: the LeNet-5 of the docs, its 2018 twin and a deeper relative.

All take raw stamps, shape (n, size, size, channels) in nanomaggies and 1/nanomaggies**2, and give the
probabilities of (real, fake), shape (n, 2).
"""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from obiwan.dplearn.errors import ModelError, explained
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.training.scaling import CutoutScaling, scaling_of
from obiwan.dplearn.training.settings import GROUPS, NetworkConfig

CLASSES = 2  #: outputs: real, fake


@keras.saving.register_keras_serializable(package="obiwan.dplearn")
class MeanPooling(layers.Layer):
    """Average pooling with 'same' padding that never counts, on every Keras backend.

    Keras' own layer with ``padding="same"`` leaves the padding's treatment to the backend (torch
    replicates the edge).  Here zeros are padded, an unpadded pool is taken, and its average is
    corrected to the number of pixels that are inside the image.

    Parameters
    ----------
    pool_size, strides : int
        Side of the window and step (pixels).
    """

    def __init__(self, pool_size: int, strides: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pool_size = pool_size
        self.strides = strides

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Work out the padding and the correction for this input size."""
        pads, inverse = zip(*(self._axis(size) for size in input_shape[1:3]), strict=True)
        self._pads = ((0, 0), *pads, (0, 0))
        self._correction = np.outer(inverse[0], inverse[1])[None, :, :, None].astype(np.float32)

    def _axis(self, size: int) -> tuple[tuple[int, int], Any]:
        """Padding before and after one axis, and window length over pixels inside, per output pixel."""
        out = -(-size // self.strides)
        total = max((out - 1) * self.strides + self.pool_size - size, 0)
        first = np.arange(out) * self.strides - total // 2
        inside = np.minimum(first + self.pool_size, size) - np.maximum(first, 0)
        return (total // 2, total - total // 2), self.pool_size / inside

    def call(self, images: Any) -> Any:
        """Pooled images, shape (n, ceil(y / strides), ceil(x / strides), maps)."""
        padded = ops.pad(images, self._pads)
        pooled = ops.average_pool(padded, self.pool_size, self.strides, "valid", data_format="channels_last")
        return pooled * ops.convert_to_tensor(self._correction, pooled.dtype)

    def get_config(self) -> dict[str, Any]:
        """What `keras.saving` needs to make the layer again."""
        return {**super().get_config(), "pool_size": self.pool_size, "strides": self.strides}


def _convolution(maps: int, size: int, **kwargs: Any) -> Any:
    """A 'same' convolution on channels-last images, whatever keras.json says."""
    return layers.Conv2D(
        maps, size, padding="same", data_format="channels_last", kernel_initializer="he_normal", **kwargs
    )


def _lenet5(config: NetworkConfig, images: Any) -> Any:
    """Convolution and pooling by turns; the ReLU after a pool of positive numbers changes nothing."""
    for index, maps in enumerate(config.maps, 1):
        convolution = _convolution(maps, config.kernel_size, activation="relu", name=f"convolution_{index}")
        images = convolution(images)
        images = MeanPooling(config.pool_size, config.strides, name=f"pooling_{index}")(images)
    return layers.Flatten(data_format="channels_last", name="flatten")(images)


def _residual(images: Any, maps: int, size: int, name: str) -> Any:
    """A pre-activation residual block: normalise, ReLU, convolve, twice."""
    branch = images
    for step in (1, 2):
        branch = layers.GroupNormalization(GROUPS, name=f"{name}_norm_{step}")(branch)
        branch = layers.ReLU(name=f"{name}_relu_{step}")(branch)
        branch = _convolution(maps, size, name=f"{name}_convolution_{step}")(branch)
    return layers.Add(name=f"{name}_add")([images, branch])


def _deep(config: NetworkConfig, images: Any) -> Any:
    """A residual network: a wide first convolution, then stages of pooling, 1x1 convolution, residual block.

    Statistics of a batch appear nowhere: group normalisation sees one image at a time, so that training and
    scoring, one rank and many, compute the same function.
    """
    images = _convolution(config.maps[0], 5, name="stem")(images)
    for index, maps in enumerate(config.maps, 1):
        images = MeanPooling(config.pool_size, config.strides, name=f"pooling_{index}")(images)
        if index > 1:
            images = _convolution(maps, 1, name=f"widen_{index}")(images)
        images = _residual(images, maps, config.kernel_size, f"stage_{index}")
    images = layers.ReLU(name="last_relu")(layers.GroupNormalization(GROUPS, name="last_norm")(images))
    return layers.Flatten(data_format="channels_last", name="flatten")(images)


def build_network(config: NetworkConfig, spec: StampSpec) -> Any:
    """Build a network, its weights random (`keras.utils.set_random_seed`), its scaling not yet fitted.

    Parameters
    ----------
    config : NetworkConfig
    spec : StampSpec
        The stamps that it takes.

    Returns
    -------
    keras.Model
        From raw stamps, shape (n, size, size, channels), to probabilities (real, fake), shape (n, 2).

    Raises
    ------
    ValueError
        If the stamps are too small for the pools.
    """
    config.check_size(spec.size)
    cutouts = keras.Input(spec.shape, name="cutouts")
    images = CutoutScaling(spec.bands, spec.planes, name="scaling")(cutouts)
    features = _deep(config, images) if config.arch == "deep" else _lenet5(config, images)
    dense = layers.Dense(config.dense, activation="relu", kernel_initializer="he_normal", name="dense")
    hidden = dense(features)
    output = layers.Dense(CLASSES, activation="softmax", name="probabilities")(hidden)
    return keras.Model(cutouts, output, name=config.arch.replace("-", "_"))


def number_type() -> dict[str, str]:
    """Number type of Keras, which belongs to a run; its backend does not: a run may go on under another."""
    return {"floatx": keras.config.floatx()}


def keras_settings() -> dict[str, str]:
    """Backend and number type of Keras, on which the last digits of results depend."""
    return {"backend": keras.backend.backend(), **number_type()}


def newer_keras(path: Path) -> str | None:
    """Version of the Keras that saved a file, where it is newer than the one here; None otherwise."""
    try:
        with zipfile.ZipFile(path) as archive:
            version = str(json.loads(archive.read("metadata.json"))["keras_version"])
    except Exception:  # zipfile raises many kinds; loading says what is wrong
        return None
    saved, here = (
        [int(part) for part in re.findall(r"\d+", one)[:3]] for one in (version, keras.__version__)
    )
    return version if saved > here else None


def load_network(path: Path) -> Any:
    """Load a saved ``.keras`` file; importing this module is what makes Keras know the layers in it.

    Raises
    ------
    ModelError
        If it is absent, saved by a newer Keras that this one cannot read, or not a model of this package.
    """
    if not path.is_file():
        msg = f"{path}: no such file; train a model with python -m obiwan.dplearn.cnn"
        raise ModelError(msg)
    what, remedy = f"{path}: not a readable model", "train it again"
    if (version := newer_keras(path)) is not None:
        what, remedy = f"{path}: saved by Keras {version}, here is {keras.__version__}", "update Keras"
    with explained(what, remedy, ModelError):
        # Safe: a layer that is a piece of program (a Lambda) is refused, not run.
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    if model.output_shape[1:] != (CLASSES,) or spec_of(model) is None:
        msg = f"{path}: takes {model.input_shape} and gives {model.output_shape}, not stamps and two classes"
        raise ModelError(msg)
    return model


def spec_of(model: Any) -> StampSpec | None:
    """The stamps that a network takes; None where it is none of this package."""
    scaling, sides = scaling_of(model), model.input_shape[1:3]
    if scaling is None or sides[0] != sides[1]:
        return None
    return replace(scaling.spec, size=sides[0])


def check_spec(path: Path, model: Any, spec: StampSpec) -> None:
    """Refuse a network of other stamps.

    Raises
    ------
    ModelError
        Naming both.
    """
    own = spec_of(model)
    if own is None or (own.channels, own.size) != (spec.channels, spec.size):
        takes, holds = (
            f"{' '.join(one.planes)} of {' '.join(one.bands)} at {one.size} px" if one else "no stamps"
            for one in (own, spec)
        )
        msg = f"{path}: takes {takes}, but this set holds {holds}; train one on it"
        raise ModelError(msg)
