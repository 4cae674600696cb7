"""Everything that determines a training run, apart from its training set; no Keras is needed to say it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

GROUPS = 8  #: of the deep network's group normalisation
MAX_SEED = 2**32 - 1  #: of what Keras takes
LR_SCALINGS = ("sqrt", "linear", "none")


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
    """

    arch: str
    maps: tuple[int, ...]
    kernel_size: int
    pool_size: int
    strides: int
    dense: int

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.arch not in ARCHITECTURES:
            msg = f"arch must be one of {', '.join(ARCHITECTURES)}, got {self.arch!r}"
            raise ValueError(msg)
        if not self.maps or min(self.maps) < 1:
            msg = f"maps must be one or more positive numbers, got {self.maps}"
            raise ValueError(msg)
        for name in ("kernel_size", "pool_size", "strides", "dense"):
            if getattr(self, name) < 1:
                msg = f"{name} must be at least 1, got {getattr(self, name)}"
                raise ValueError(msg)
        if self.arch == "deep" and any(m % GROUPS for m in self.maps):
            msg = f"the maps of the deep network must be multiples of {GROUPS}, got {self.maps}"
            raise ValueError(msg)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "maps": list(self.maps)}


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "lenet5": {"maps": (18, 36, 54), "kernel_size": 7, "pool_size": 7, "strides": 2, "dense": 64},
    "lenet5-2x2": {"maps": (18, 36, 54), "kernel_size": 7, "pool_size": 2, "strides": 2, "dense": 64},
    "deep": {"maps": (24, 48, 96, 96), "kernel_size": 3, "pool_size": 3, "strides": 2, "dense": 64},
}


def network_config(arch: str = "lenet5", **changes: Any) -> NetworkConfig:
    """The configuration of a named network; changes that are None leave its own value.

    Examples
    --------
    >>> network_config("lenet5-2x2", dense=128).dense
    128
    """
    if arch not in ARCHITECTURES:
        msg = f"arch must be one of {', '.join(ARCHITECTURES)}, got {arch!r}"
        raise ValueError(msg)
    unknown = set(changes) - {field.name for field in fields(NetworkConfig)}
    if unknown:
        msg = f"a network has no {', '.join(sorted(unknown))}"
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
    """

    batch_size: int = 16
    seed: int = 1
    window: int = 4
    augment: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        for name, least in (("batch_size", 1), ("seed", 0), ("window", 1)):
            if getattr(self, name) < least:
                msg = f"{name} must be at least {least}, got {getattr(self, name)}"
                raise ValueError(msg)
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
        Share of the steps.
    lr_scaling : str
        How the learning rate grows with the number of ranks (`obiwan.dplearn.training.steps.lr_factor`).
    """

    network: NetworkConfig
    feed: FeedConfig
    epochs: int = 8
    learning_rate: float = 5e-4
    warmup: float = 0.05
    lr_scaling: str = "sqrt"

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        if self.epochs < 1:
            msg = f"epochs must be at least 1, got {self.epochs}"
            raise ValueError(msg)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            msg = f"learning_rate must be positive, got {self.learning_rate}"
            raise ValueError(msg)
        if not 0 <= self.warmup < 1:
            msg = f"warmup must be in [0, 1), got {self.warmup}"
            raise ValueError(msg)
        if self.lr_scaling not in LR_SCALINGS:
            msg = f"lr_scaling must be one of {', '.join(LR_SCALINGS)}, got {self.lr_scaling}"
            raise ValueError(msg)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "network": self.network.to_dict()}
