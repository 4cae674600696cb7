"""Options that decide what a training set contains."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from obiwan.dplearn.planning.selection import SELECTIONS, find_selection
from obiwan.dplearn.running.cli import option
from obiwan.dplearn.stampspec import FILTERS, IMAGE, IVAR, StampSpec
from obiwan.dplearn.trainingset.shards import FORMS, NPY, PACKED

INJECTION_REACH = 5.0  #: arcsec; reals lie farther than this (or the match radius) from injections
SIZES = (16, 256)  #: smallest and largest stamp, pixels on a side
_STAMP = StampSpec()


def _one(text: str, value: Any, **keywords: Any) -> Any:
    """An option of the type of its default value."""
    return option(text, value, **{"type": type(value), **keywords})


def _several(text: str, value: tuple[str, ...], *choices: str) -> Any:
    """An option of one or more words, which take the place of its default value."""
    text = f"{text} (default: {' '.join(value)})"
    return option(text, value, default=None, nargs="+", action="extend", choices=choices)


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

    bands: tuple[str, ...] = _several("bands that are cut out", _STAMP.bands, *FILTERS)
    planes: tuple[str, ...] = _several(
        "planes of each band: images with their inverse variances, or alone", _STAMP.planes, IMAGE, IVAR
    )
    size: int = _one("pixels on a side of a cutout, even", _STAMP.size)
    select: str = _one(
        f"cuts for both classes: {', '.join(SELECTIONS)}, conditions on quantities (mag_r<22,size<1.4), "
        "or your own; several with commas",
        "elg",
        metavar="CUTS",
    )
    reals_from: str = _one(
        "coadds that real galaxies are cut from; release warns, its coadds differ from injected ones",
        "injected",
        choices=("release", "injected"),
    )
    centers: str = _one(
        "centre injected galaxies on the matched tractor position or on their truth",
        "tractor",
        choices=("tractor", "truth"),
    )
    match_radius: float = _one("mutual-nearest match of truth and tractor, arcsec", 1.5)
    allow_injected_neighbours: bool = option(
        "allow other injections in the stamps of both classes", value=False, action="store_true"
    )
    balance: str = _one(
        "equal numbers of both classes within each brick, overall, or as they come",
        "brick",
        choices=("brick", "global", "none"),
    )
    split: str = _one(
        "split by brick, by cells of the sky, or (for trees of one brick) by object",
        "brick",
        choices=("brick", "sky", "object"),
    )
    cell_size: float = _one("degrees on a side of the cells of --split sky", 2.0)
    test_fraction: float = _one("fraction of bricks (or cells) for the test split", 0.2)
    val_fraction: float = _one("fraction of the others for the validation split", 0.1)
    assume_all_blobs: bool = option(
        "take real galaxies from injection runs that seem to have fitted only blobs with an injection",
        value=False,
        action="store_true",
    )
    skip_damaged: bool = option(
        "leave out bricks with a missing or damaged file, or that a table names and no tree has; reads all "
        "planes twice",
        value=False,
        action="store_true",
    )
    edge: str = _one(
        "drop stamps that reach beyond the coadd, or pad them with 0", "drop", choices=("drop", "pad")
    )
    shard_size: int | None = _one(
        "examples per file (default: as many as keep a file near 50 MB)", None, type=int
    )
    shards: str = _one(
        "files of stamps: plain npy, or packed without loss, four times smaller",
        NPY,
        choices=FORMS,
    )
    seed: int = _one("seed of every random choice", 2018)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", self.spec.bands)
        object.__setattr__(self, "planes", self.spec.planes)
        rules = [
            (getattr(self, own.name) in choices, own.name, f"one of {', '.join(choices)}")
            for own in fields(self)
            if isinstance(own.default, str) and (choices := own.metadata.get("choices"))
        ]
        even = self.size % 2 == 0 and SIZES[0] <= self.size <= SIZES[1]
        rules += [
            (even, "size", f"even and between {SIZES[0]} and {SIZES[1]} pixels"),
            (0 < self.match_radius < 60, "match_radius", "between 0 and 60 arcsec"),
            (0 < self.test_fraction < 1, "test_fraction", "between 0 and 1"),
            (0 < self.val_fraction < 1, "val_fraction", "between 0 and 1"),
            (0 < self.cell_size <= 90, "cell_size", "between 0 and 90 degrees"),
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
    def packed(self) -> bool:
        """Whether shards are packed."""
        return self.shards == PACKED

    @property
    def shard_rows(self) -> int:
        """Examples per file."""
        return self.shard_size or self.spec.stamps_per_file

    def to_manifest(self) -> dict[str, Any]:
        """The options as a manifest stores them, all of them settled, without the default form of shards."""
        settled = {"bands": list(self.bands), "planes": list(self.planes), "shard_size": self.shard_rows}
        options = {**asdict(self), **settled}
        del options["shards"]
        return options if self.shards == NPY else {"shards": self.shards, **options}
