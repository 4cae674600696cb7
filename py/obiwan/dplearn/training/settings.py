"""Settings of a training run: network, batches, learning rate, and their command-line options."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.running.cli import between, chosen, option, positive

GROUPS = 8  #: of the deep network's group normalisation
MAX_SEED = 2**32 - 1  #: of what Keras takes
LR_SCALINGS = ("sqrt", "linear", "none")
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "lenet5": {"maps": (18, 36, 54), "kernel_size": 7, "pool_size": 7, "strides": 2, "dense": 64},
    "lenet5-2x2": {"maps": (18, 36, 54), "kernel_size": 7, "pool_size": 2, "strides": 2, "dense": 64},
    "deep": {"maps": (24, 48, 96, 96), "kernel_size": 3, "pool_size": 3, "strides": 2, "dense": 64},
}


def _check(config: Any) -> None:
    """Raise a ValueError for a field that the command line would refuse as well."""
    for own in fields(config):
        value, kind = getattr(config, own.name), own.metadata.get("type", str)
        choices = own.metadata.get("choices", (value,))
        if value not in choices:
            msg = f"{own.name} must be one of {', '.join(choices)}, got {value!r}"
            raise ValueError(msg)
        try:
            for one in value if isinstance(value, tuple) else (value,):
                kind(json.dumps(one, default=str))  # a string in quotes is no number
        except argparse.ArgumentTypeError as error:
            msg = f"{own.name} {error}"
            raise ValueError(msg) from None


@dataclass(frozen=True)
class NetworkConfig:
    """What a network is made of.

    Attributes
    ----------
    arch : str
        ``lenet5`` (the table of the docs), ``lenet5-2x2`` (the 2018 code: 2x2 pools) or ``deep``
        (a residual network with group normalisation).
    maps : tuple of int
        Feature maps of each convolution (of each stage, for ``deep``).
    kernel_size, pool_size : int
        Sides (pixels) of the convolutions and of the pools.
    strides : int
        Of the pools (of the stages, for ``deep``).
    dense : int
        Units of the fully connected layer.

    Raises
    ------
    ValueError
        For what cannot be built.
    """

    arch: str = option(
        "the documented LeNet-5, the 2018 code's with 2x2 pools, or a residual network",
        choices=list(ARCHITECTURES),
        default="lenet5",
    )
    maps: tuple[int, ...] = option(
        "feature maps of each convolution", nargs="+", action="extend", type=positive, metavar="N"
    )
    kernel_size: int = option("side of the convolutions, pixels", type=positive, metavar="N")
    pool_size: int = option("side of the average pools, pixels", type=positive, metavar="N")
    strides: int = option("step of the pools, pixels", type=positive, metavar="N")
    dense: int = option("units of the fully connected layer", type=positive, metavar="N")

    def __post_init__(self) -> None:
        object.__setattr__(self, "maps", tuple(self.maps))
        _check(self)
        unit = GROUPS if self.arch == "deep" else 1
        if not self.maps or any(m % unit for m in self.maps):
            msg = f"maps must be one or more, of the deep network multiples of {GROUPS}, got {self.maps}"
            raise ValueError(msg)

    def check_size(self, size: int) -> None:
        """Refuse stamps that cannot be pooled so often.

        Raises
        ------
        ValueError
            If a pool would be left with one pixel.
        """
        pools = len(self.maps)
        if size <= self.strides ** (pools - 1):
            msg = f"{size} px stamps cannot be pooled {pools} times by {self.strides}; use fewer --maps"
            raise ValueError(msg)


def network_config(arch: str = "lenet5", **changes: Any) -> NetworkConfig:
    """The configuration of a named network; changes that are None leave its own value.

    Raises
    ------
    ValueError, TypeError
        For an unknown network, or what it has not or cannot have.

    Examples
    --------
    >>> network_config("lenet5-2x2", dense=128).dense
    128
    """
    given = {name: value for name, value in changes.items() if value is not None}
    own = ARCHITECTURES.get(arch, ARCHITECTURES["lenet5"])  # an unknown name is refused by its field
    return NetworkConfig(arch, **{**own, **given})


@dataclass(frozen=True)
class FeedConfig:
    """How examples are put in batches.

    Attributes
    ----------
    batch_size : int
        Examples per step and rank.
    seed : int
        Of the shuffles.
    window : int
        Shards mixed at a time; memory holds twice as many (50 MB each), from epoch to epoch the same.
    augment : bool
        Flip and turn each stamp at random, by quarter turns.

    Raises
    ------
    ValueError
        For numbers that mean nothing.
    """

    batch_size: int = option("examples a step and rank", 16, type=positive, metavar="N")
    seed: int = option("of weights and shuffles", 1, type=between(0, MAX_SEED), metavar="N")
    window: int = field(default=4, metadata={"type": positive})
    augment: bool = option(
        "random flips and quarter turns: eight times the data, but they hide every systematic that has a "
        "direction (a centroid offset, say), so they are off by default; turn them on for few examples, "
        "once centroids are known to agree",
        value=False,
        action="store_true",
    )

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class RunConfig:
    """All that determines a run's result, apart from its training set.

    Attributes
    ----------
    network : NetworkConfig
        What is trained.
    feed : FeedConfig
        How it is fed; the seed there is also that of the first weights.
    epochs : int
        Passes over the training split.
    learning_rate : float
        Adam's on one rank, at its highest: it rises linearly from 0 over the first `warmup` of the steps,
        then falls to 0 as a half cosine.
    warmup : float
        Fraction of the steps.
    lr_scaling : str
        How the learning rate grows with the number of ranks (`obiwan.dplearn.training.trainer.lr_factor`).

    Raises
    ------
    ValueError
        For numbers that mean nothing.
    """

    network: NetworkConfig
    feed: FeedConfig
    epochs: int = option("passes over the data", 8, type=positive, metavar="N")
    learning_rate: float = option(
        "Adam's highest: after a warm-up over 5 %% of the steps, before a cosine decay",
        5e-4,
        type=float,
        metavar="X",
    )
    warmup: float = 0.05
    lr_scaling: str = option(
        "how the learning rate grows with the number of ranks; sqrt suits Adam", "sqrt", choices=LR_SCALINGS
    )

    def __post_init__(self) -> None:
        _check(self)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            msg = f"learning_rate must be positive, got {self.learning_rate}"
            raise ValueError(msg)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found


def run_config(options: argparse.Namespace, size: int) -> RunConfig:
    """The configuration that a command line asks for, for stamps of so many pixels on a side.

    Raises
    ------
    ModelError
        If the options ask for what cannot be.
    """
    network, feed, run = (chosen(kind, options) for kind in (NetworkConfig, FeedConfig, RunConfig))
    try:
        config = RunConfig(network_config(**network), FeedConfig(**feed), **run)
        config.network.check_size(size)
    except ValueError as error:
        raise ModelError(str(error)) from None
    return config
