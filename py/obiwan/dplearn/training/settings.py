"""Settings of a training run: network, batches, learning rate, and their command-line options."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from obiwan.dplearn.running.cli import between, option, positive

GROUPS = 8  #: of the deep network's group normalisation
MAX_SEED = 2**32 - 1  #: of what Keras takes
LR_SCALINGS = ("sqrt", "linear", "none")
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "lenet5": {"maps": (18, 36, 54), "kernel_size": 7, "pool_size": 7, "strides": 2, "dense": 64},
    "lenet5-2x2": {"maps": (18, 36, 54), "kernel_size": 7, "pool_size": 2, "strides": 2, "dense": 64},
    "deep": {"maps": (24, 48, 96, 96), "kernel_size": 3, "pool_size": 3, "strides": 2, "dense": 64},
}


def _refuse_below(config: Any, **least: float) -> None:
    """Raise a ValueError for a number that is too small."""
    for name, value in least.items():
        if getattr(config, name) < value:
            msg = f"{name} must be at least {value}, got {getattr(config, name)}"
            raise ValueError(msg)


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
        if not self.maps or min(self.maps) < 1:
            msg = f"maps must be one or more positive numbers, got {self.maps}"
            raise ValueError(msg)
        _refuse_below(self, kernel_size=1, pool_size=1, strides=1, dense=1)
        if self.arch == "deep" and any(m % GROUPS for m in self.maps):
            msg = f"the maps of the deep network must be multiples of {GROUPS}, got {self.maps}"
            raise ValueError(msg)

    def check_size(self, size: int) -> None:
        """Refuse stamps that cannot be pooled so often.

        Raises
        ------
        ValueError
            If a pool would be left with one pixel.
        """
        pools, side = len(self.maps), size
        for _ in range(pools):
            if side == 1:
                msg = f"{size} px stamps cannot be pooled {pools} times by {self.strides}; use fewer --maps"
                raise ValueError(msg)
            side = -(-side // self.strides)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "maps": list(self.maps)}


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
    if arch not in ARCHITECTURES:
        msg = f"arch must be one of {', '.join(ARCHITECTURES)}, got {arch!r}"
        raise ValueError(msg)
    given = {name: value for name, value in changes.items() if value is not None}
    return NetworkConfig(**{"arch": arch, **ARCHITECTURES[arch], **given})


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
    window: int = 4
    augment: bool = option(
        "random flips and quarter turns: eight times the data, but they hide every systematic that has a "
        "direction (a centroid offset, say), so they are off by default; turn them on for few examples, "
        "once centroids are known to agree",
        value=False,
        action="store_true",
    )

    def __post_init__(self) -> None:
        _refuse_below(self, batch_size=1, seed=0, window=1)
        if self.seed > MAX_SEED:
            msg = f"seed must be at most {MAX_SEED}, got {self.seed}"
            raise ValueError(msg)


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
        How the learning rate grows with the number of ranks (`obiwan.dplearn.training.steps.lr_factor`).

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
        _refuse_below(self, epochs=1)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            msg = f"learning_rate must be positive, got {self.learning_rate}"
            raise ValueError(msg)
        if self.lr_scaling not in LR_SCALINGS:
            msg = f"lr_scaling must be one of {', '.join(LR_SCALINGS)}, got {self.lr_scaling}"
            raise ValueError(msg)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "network": self.network.to_dict()}
