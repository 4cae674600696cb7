"""Stamp specification: the bands, planes, size and pixel scale of a set of stamps.

A stamp is an image cutout with its inverse variances, axes ``[y, x, channel]``; its channels are the
image planes of all bands, then the inverse variance planes of all bands.  Pixels are 0-based with centres
at integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # of numbers or records whose type the docstring tells

FILTERS = ("u", "g", "r", "i", "z", "Y")  #: filters of the cameras, by increasing wavelength
IMAGE, IVAR = "image", "ivar"
SPLITS = ("train", "val", "test")
FILE_BYTES = 512 * 64 * 64 * 6 * 4  #: the size of a shard's pixels: 50 MB
_PLANES = ((IMAGE, IVAR), (IMAGE,))


@dataclass(frozen=True)
class StampSpec:
    """Specification of stamps, as a training set's manifest records it.

    Parameters
    ----------
    bands : tuple of str
        Filters, in any order; stored by increasing wavelength.
    planes : tuple of str
        ``("image", "ivar")``, or ``("image",)`` for stamps without inverse variances.
    size : int
        Pixels on a side.
    pixel_scale : float
        Arcseconds per pixel.
    labels : tuple of str
        Class names; their positions are the labels in the files.

    Raises
    ------
    ValueError
        If a band is unknown or given twice, or the planes, size, scale or labels make no sense.
    """

    bands: tuple[str, ...] = ("g", "r", "z")
    planes: tuple[str, ...] = (IMAGE, IVAR)
    size: int = 64
    pixel_scale: float = 0.262
    labels: tuple[str, ...] = ("real", "fake")

    def __post_init__(self) -> None:
        bands, planes = tuple(self.bands), tuple(self.planes)
        if not bands or not set(bands) <= set(FILTERS) or len(set(bands)) < len(bands):
            msg = f"bands must be different ones of {' '.join(FILTERS)}, got {' '.join(map(str, bands))}"
            raise ValueError(msg)
        if planes not in _PLANES:
            msg = f"planes must be 'image ivar' or 'image', got {' '.join(map(str, planes))!r}"
            raise ValueError(msg)
        if self.size < 1 or not 0 < self.pixel_scale < np.inf:
            msg = f"size and pixel_scale must be positive, got {self.size} and {self.pixel_scale}"
            raise ValueError(msg)
        if len(self.labels) != 2:
            msg = f"there must be two labels, got {self.labels}"
            raise ValueError(msg)
        object.__setattr__(self, "bands", tuple(band for band in FILTERS if band in bands))
        object.__setattr__(self, "planes", planes)
        object.__setattr__(self, "labels", tuple(self.labels))

    @property
    def has_ivar(self) -> bool:
        """Whether stamps have inverse variance planes."""
        return IVAR in self.planes

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names in order, such as ``g``, ``r``, ``ivar_g``, ``ivar_r``.

        Examples
        --------
        >>> StampSpec(("r", "g")).channels
        ('g', 'r', 'ivar_g', 'ivar_r')
        """
        prefixes = {IMAGE: "", IVAR: "ivar_"}
        return tuple(f"{prefixes[plane]}{band}" for plane in self.planes for band in self.bands)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one stamp: (size, size, channels)."""
        return (self.size, self.size, len(self.channels))

    @property
    def centre(self) -> int:
        """Index of the centre pixel along either axis, which holds the source: ``size // 2``."""
        return self.size // 2

    @property
    def stamp_bytes(self) -> int:
        """Bytes of one stamp in float32."""
        return int(np.prod(self.shape)) * 4

    @property
    def stamps_per_file(self) -> int:
        """Default number of stamps in a shard: as many as keep it near 50 MB (512 of 64x64x6)."""
        return max(1, FILE_BYTES // self.stamp_bytes)

    @property
    def stamps_per_group(self) -> int:
        """Most examples in a group of bricks that share their shards: 16 shards of the default size."""
        return 16 * self.stamps_per_file

    @property
    def reference(self) -> str:
        """The reference band: r where there is one, else the middle one in wavelength."""
        return "r" if "r" in self.bands else self.bands[(len(self.bands) - 1) // 2]

    @property
    def bluest(self) -> str:
        """The band of shortest wavelength, in whose magnitude examples are ranked."""
        return self.bands[0]

    @property
    def colours(self) -> tuple[tuple[str, str], ...]:
        """Pairs of bands that are neighbours in wavelength.

        Examples
        --------
        >>> StampSpec(("g", "r", "z")).colours
        (('g', 'r'), ('r', 'z'))
        """
        return tuple(zip(self.bands, self.bands[1:], strict=False))

    @property
    def label_of(self) -> dict[str, int]:
        """Class name to label."""
        return {name: value for value, name in enumerate(self.labels)}

    def image(self, stamps: Array) -> Array:
        """Image planes of stamps, a view of shape (..., bands)."""
        return stamps[..., : len(self.bands)]

    def ivar(self, stamps: Array) -> Array | None:
        """Inverse variance planes of stamps, a view of shape (..., bands); None where there are none."""
        return stamps[..., len(self.bands) :] if self.has_ivar else None

    def per_band(self, rows: Array, quantity: str) -> Array:
        """A quantity of all bands, shape (n, bands), from the columns ``<quantity>_<band>`` of a table."""
        return np.stack([rows[name] for name in self.columns(quantity)], axis=-1)

    def columns(self, quantity: str) -> tuple[str, ...]:
        """Names of a quantity's columns, one a band."""
        return tuple(f"{quantity}_{band}" for band in self.bands)

    def to_manifest(self) -> dict[str, Any]:
        """The entries of a manifest that hold this specification."""
        return {
            "bands": list(self.bands),
            "planes": list(self.planes),
            "channels": list(self.channels),
            "stamp": self.size,
            "pixel_scale": self.pixel_scale,
            "labels": self.label_of,
        }

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> StampSpec:
        """Read the specification of a manifest.

        Raises
        ------
        ValueError, KeyError, TypeError
            If an entry is missing or makes no sense.
        """
        labels: Mapping[str, int] = manifest["labels"]
        spec = cls(
            bands=_names(manifest["bands"]),
            planes=_names(manifest["planes"]),
            size=int(manifest["stamp"]),
            pixel_scale=float(manifest["pixel_scale"]),
            labels=tuple(sorted(labels, key=lambda name: labels[name])),
        )
        for key, value in spec.to_manifest().items():
            if manifest[key] != value:
                msg = f"{key} is {manifest[key]!r} where the other entries ask for {value!r}"
                raise ValueError(msg)
        return spec


def _names(value: Iterable[Any]) -> tuple[str, ...]:
    """Names from a JSON list; a string is no list."""
    if not isinstance(value, list):
        msg = f"{value!r} is no list"
        raise TypeError(msg)
    return tuple(str(name) for name in value)
