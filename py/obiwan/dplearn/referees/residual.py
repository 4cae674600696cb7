"""Referee on residuals: a small convolutional network on what the galaxy fit leaves of a stamp.

It is the member of the panel that may see what no number was made for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from obiwan.dplearn.referees.measured import Measured
from obiwan.dplearn.referees.numbers import MeasuredReferee, fitted
from obiwan.dplearn.referees.population import Population
from obiwan.dplearn.running.quiet import without_notes
from obiwan.dplearn.stampspec import Array, StampSpec

MAPS, KERNELS = (24, 32, 32), (5, 3, 3)
DROPOUT, DENSE = 0.3, 32
BATCH, RATE = 128, 3e-3
STEPS, EPOCHS = 400, (6, 20)  #: of training: so many steps where that is between so many epochs
LIMIT = 8.0  #: inputs are clipped: a cosmic ray is worth no more than a bright residual
AT_ONCE = 512  #: stamps scored at a time


@dataclass(frozen=True)
class ResidualReferee(MeasuredReferee):
    """Convolutional network on residuals, squared residuals, model and relative ivar of the central pixels.

    Attributes
    ----------
    spec : StampSpec
    prior : tuple of str
        See `MeasuredReferee`.
    shape : tuple of int
        Of one input: (side, side, maps).
    weights : tuple of ndarray
        Of the network, layer by layer.
    learnt : bool
    """

    kind = "residual"
    residuals: ClassVar[bool] = True

    spec: StampSpec
    prior: tuple[str, ...]
    shape: tuple[int, ...]
    weights: tuple[Array, ...]
    learnt: bool

    @classmethod
    def train(
        cls,
        measured: Measured,
        labels: Array,
        seed: int,
        population: Population | None = None,  # noqa: ARG003
    ) -> Self:
        """See `MeasuredReferee.train`."""
        with without_notes():
            import keras
        images = _images(measured)
        keras.utils.set_random_seed(seed)
        shape = (*images.shape[1:3], int(np.prod(images.shape[3:])))
        model = _network(shape)
        a_round = -(-len(images) // BATCH)
        epochs = int(np.clip(STEPS // a_round, *EPOCHS))
        rate = keras.optimizers.schedules.CosineDecay(RATE, epochs * a_round)
        model.compile(keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy(from_logits=True))
        rng = np.random.default_rng([seed, 23])
        for _ in range(epochs):
            order = rng.permutation(len(images))
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                model.train_on_batch(_inputs(images[batch]), labels[batch, None].astype(np.float32))
        referee = cls(measured.fits.spec, measured.prior, shape, tuple(model.get_weights()), learnt=False)
        learnt = fitted(labels, referee.logits(measured))
        return cls(referee.spec, referee.prior, shape, referee.weights, learnt)

    @cached_property
    def _model(self) -> Any:
        with without_notes():
            model = _network(self.shape)
        model.set_weights(list(self.weights))
        return model

    def logits(self, measured: Measured) -> Array:
        """See `MeasuredReferee.logits`."""
        with without_notes():
            from keras import ops
        images, out = _images(measured), [np.zeros(0)]
        for start in range(0, len(images), AT_ONCE):
            # Called, for TensorFlow would compile predict_on_batch for every number of stamps, and complain.
            batch = self._model(_inputs(images[start : start + AT_ONCE]), training=False)
            out.append(ops.convert_to_numpy(batch)[:, 0].astype(np.float64))
        return np.concatenate(out)

    @property
    def content(self) -> Mapping[str, Array]:
        """See `MeasuredReferee.content`."""
        numbered = {f"weights.{number:02d}": array for number, array in enumerate(self.weights)}
        return {"shape": np.asarray(self.shape), **numbered}

    @classmethod
    def of(
        cls, spec: StampSpec, content: Mapping[str, Array], *, prior: tuple[str, ...], learnt: bool
    ) -> Self:
        """See `MeasuredReferee.of`."""
        weights = [content[name] for name in sorted(content) if name.startswith("weights.")]
        return cls(spec, prior, tuple(int(n) for n in content["shape"]), tuple(weights), learnt)


def _images(measured: Measured) -> Array:
    """The residual images of measurements.

    Raises
    ------
    ValueError
        If they were not kept.
    """
    if measured.residuals is None:
        msg = "the residual images were not kept; measure with residuals=True"
        raise ValueError(msg)
    return measured.residuals


def _inputs(images: Array) -> Array:
    """Inputs of the network, shape (n, side, side, maps), float32."""
    flat = images.astype(np.float32).reshape(*images.shape[:3], -1)
    return np.clip(np.nan_to_num(flat), -LIMIT, LIMIT)


def _network(shape: tuple[int, ...]) -> Any:
    """The network, not trained."""
    import keras

    make = keras.layers
    layers = [keras.Input(shape)]
    for maps, kernel in zip(MAPS, KERNELS, strict=True):
        layers += [make.Conv2D(maps, kernel, padding="same", use_bias=False)]
        # Without it the network hardly learns from 8,192 stamps: AUC 0.67, not 0.82, for another profile.
        layers += [make.BatchNormalization(momentum=0.9), make.ReLU(), make.AveragePooling2D(2)]
    layers += [make.Flatten(), make.Dropout(DROPOUT), make.Dense(DENSE, activation="relu"), make.Dense(1)]
    return keras.Sequential(layers)
