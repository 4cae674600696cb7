"""The options that decide what a training set contains."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from obiwan.dplearn.planning.selection import find_selection

INJECTION_REACH = 5.0  #: arcsec; reals lie farther than this (or the match radius) from injections


def _option(default: Any, *choices: str) -> Any:
    return field(default=default, metadata={"choices": choices})


@dataclass(frozen=True)
class TrainingConfig:
    """The options that decide what a training set contains; stored in its manifest.

    Raises
    ------
    ValueError
        If an option is not among its choices or out of range.
    """

    select: str = "elg"
    reals_from: str = _option("injected", "release", "injected")
    centers: str = _option("tractor", "tractor", "truth")
    match_radius: float = 1.5
    allow_injected_neighbours: bool = False
    balance: str = _option("brick", "brick", "global", "none")
    split: str = _option("brick", "brick", "object")
    test_fraction: float = 0.2
    val_fraction: float = 0.1
    edge: str = _option("drop", "drop", "pad")
    shard_size: int = 512
    seed: int = 2018

    def __post_init__(self) -> None:
        for item in fields(self):
            choices = item.metadata.get("choices")
            value = getattr(self, item.name)
            if choices and value not in choices:
                msg = f"{item.name} must be one of {', '.join(choices)}, got {value!r}"
                raise ValueError(msg)
        if not 0 < self.match_radius < 60:
            msg = f"match_radius must lie between 0 and 60 arcsec, got {self.match_radius}"
            raise ValueError(msg)
        if not (0 < self.test_fraction < 1 and 0 < self.val_fraction < 1):
            got = f"{self.test_fraction}, {self.val_fraction}"
            msg = f"test_fraction and val_fraction must lie between 0 and 1, got {got}"
            raise ValueError(msg)
        if not 1 <= self.shard_size <= 8192:
            msg = f"shard_size must be 1 to 8192, got {self.shard_size}"
            raise ValueError(msg)
        if self.seed < 0:
            msg = f"seed must not be negative, got {self.seed}"
            raise ValueError(msg)
        find_selection(self.select)
