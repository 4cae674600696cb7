"""Options that decide what a training set contains."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

from obiwan.dplearn.planning.selection import SELECTIONS, find_selection
from obiwan.dplearn.stampspec import FILTERS, IMAGE, IVAR, StampSpec

INJECTION_REACH = 5.0  #: arcsec; reals lie farther than this (or the match radius) from injections
SIZES = (16, 256)  #: smallest and largest stamp, pixels on a side
_STAMP = StampSpec()


def _option(default: Any, text: str, *choices: str, metavar: str | None = None) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices or None, "metavar": metavar})


@dataclass(frozen=True)
class TrainingConfig:
    """The options that decide what a training set contains; stored in its manifest.

    Attributes
    ----------
    bands, planes, size
        Of the stamps, as in `StampSpec`; bands in any order.
    shard_size : int or None
        Examples per file; None for as many as keep it near 50 MB.

    Raises
    ------
    ValueError
        If an option is not among its choices or out of range.
    """

    bands: tuple[str, ...] = _option(_STAMP.bands, "bands that are cut out", *FILTERS)
    planes: tuple[str, ...] = _option(
        _STAMP.planes, "planes of each band: images with their inverse variances, or alone", IMAGE, IVAR
    )
    size: int = _option(_STAMP.size, "pixels on a side of a cutout, even")
    select: str = _option(
        "elg", f"cuts for both classes: {', '.join(SELECTIONS)}, or your own", metavar="NAME|module:function"
    )
    reals_from: str = _option(
        "injected",
        "coadds that reals are cut from; release warns, its coadds differ from injected ones",
        *("release", "injected"),
    )
    centers: str = _option(
        "tractor", "centre fakes on the matched tractor position or on their truth", "tractor", "truth"
    )
    match_radius: float = _option(1.5, "mutual-nearest match of truth and tractor, arcsec")
    allow_injected_neighbours: bool = _option(False, "allow other injections in the stamps of both classes")
    balance: str = _option(
        "brick",
        "equal numbers of both classes within each brick, overall, or as they come",
        *("brick", "global", "none"),
    )
    split: str = _option("brick", "split by brick, or (for trees of one brick) by object", "brick", "object")
    test_fraction: float = _option(0.2, "fraction of bricks for the test split")
    val_fraction: float = _option(0.1, "fraction of the other bricks for the validation split")
    edge: str = _option("drop", "drop stamps that reach beyond the coadd, or pad them with 0", "drop", "pad")
    shard_size: int | None = _option(None, "examples per file")
    seed: int = _option(2018, "seed of every random choice")

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", self.spec.bands)
        object.__setattr__(self, "planes", self.spec.planes)
        rules = [
            (
                getattr(self, item.name) in item.metadata["choices"],
                item.name,
                f"one of {', '.join(item.metadata['choices'])}",
            )
            for item in fields(self)
            if item.metadata["choices"] and isinstance(item.default, str)
        ]
        even = self.size % 2 == 0 and SIZES[0] <= self.size <= SIZES[1]
        rules += [
            (even, "size", f"even and between {SIZES[0]} and {SIZES[1]} pixels"),
            (0 < self.match_radius < 60, "match_radius", "between 0 and 60 arcsec"),
            (0 < self.test_fraction < 1, "test_fraction", "between 0 and 1"),
            (0 < self.val_fraction < 1, "val_fraction", "between 0 and 1"),
            (self.shard_size is None or 1 <= self.shard_size <= 8192, "shard_size", "1 to 8192"),
            (self.seed >= 0, "seed", "0 or more"),
        ]
        for kept, name, rule in rules:
            if not kept:
                msg = f"{name} must be {rule}, got {getattr(self, name)!r}"
                raise ValueError(msg)
        find_selection(self.select, self.spec.bands)

    @cached_property
    def spec(self) -> StampSpec:
        """The stamps that are cut."""
        return StampSpec(tuple(self.bands), tuple(self.planes), self.size)

    @property
    def shard_rows(self) -> int:
        """Examples per file."""
        return self.shard_size or self.spec.stamps_per_file

    def to_manifest(self) -> dict[str, Any]:
        """The options as a manifest stores them, all of them settled."""
        listed = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }
        return {**listed, "shard_size": self.shard_rows}
