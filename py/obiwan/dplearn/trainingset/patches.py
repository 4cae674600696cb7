"""Patches of stamps: pixels as integers on the grids of the coadds that they were cut from, and back.

A patch is the part of a stamp that lies in one tile of the coadd.  With the scale, zero point and dither of
the tile (`obiwan.dplearn.survey.quantisation`) each of its pixels is a small integer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.quantisation import RANDOMS, TileGrid, dither_of

_PLACE = ("y0", "y1", "x0", "x1", "first", "width")
_MOST = 1 << 26  # pixels of a tile, which may be a whole plane


def patch_dtype(channels: int) -> np.dtype:
    """Columns of a table of patches.

    ``stamp``
        Which stamp it is in, from 0.
    ``y0``, ``y1``, ``x0``, ``x1``
        The pixels ``[y0:y1, x0:x1]`` of the stamp.
    ``first``, ``width``
        Number of its first pixel in the tile, and pixels in a row of the tile.
    ``seed``, ``scale``, ``zero``
        Of the tile, one a channel (`TileGrid`).
    """
    rectangle = [(name, "<u2") for name in ("stamp", "y0", "y1", "x0", "x1")]
    tile = [("seed", "<i2", (channels,)), ("scale", "<f8", (channels,)), ("zero", "<f8", (channels,))]
    return np.dtype([*rectangle, ("first", "<u4"), ("width", "<u2"), *tile])


def stamp_patches(
    stamp: int, corner: tuple[int, int], size: int, grids: Sequence[TileGrid | None]
) -> list[tuple[Any, ...]]:
    """Patches of one stamp, rows of `patch_dtype`.

    Parameters
    ----------
    stamp : int
    corner : tuple of int
        (y, x) of its first pixel in the coadd; it may reach beyond.
    size : int
        Pixels on a side.
    grids : sequence of TileGrid or None
        One a channel.  Those that are tiled otherwise than the first have no part in the patches.
    """
    first = next((grid for grid in grids if grid and grid.known), None)
    if first is None:
        return []
    tiling = (first.shape, first.tile)
    alike = [grid if grid and grid.known and (grid.shape, grid.tile) == tiling else None for grid in grids]
    (ny, nx), (high, wide) = first.shape, first.tile
    across, out = -(-nx // wide), []
    for row in range(max(corner[0], 0) // high, -(-min(corner[0] + size, ny) // high)):
        for column in range(max(corner[1], 0) // wide, -(-min(corner[1] + size, nx) // wide)):
            y0, y1 = max(row * high, corner[0]), min((row + 1) * high, corner[0] + size, ny)
            x0, x1 = max(column * wide, corner[1]), min((column + 1) * wide, corner[1] + size, nx)
            width = min(wide, nx - column * wide)
            begin = (y0 - row * high) * width + x0 - column * wide
            number = row * across + column
            values = [(g.seed(number), g.scale[number], g.zero[number]) if g else (-1, 0, 0) for g in alike]
            place = (y0 - corner[0], y1 - corner[0], x0 - corner[1], x1 - corner[1])
            out.append((stamp, *place, begin, width, *map(tuple, zip(*values, strict=True))))
    return out


def check_patches(table: Array, spec: StampSpec, stamps: int) -> None:
    """Check that patches lie in their stamps, and these in a shard.

    Raises
    ------
    ValueError
        If they do not.
    """
    size = spec.size
    sound = bool(table.ndim == 1 and table.dtype == patch_dtype(len(spec.channels)))
    if sound and len(table):
        inside = all(
            (table[low] < table[high]).all() and table[high].max() <= size
            for low, high in (("y0", "y1"), ("x0", "x1"))
        )
        order = bool((np.diff(table["stamp"].astype(int)) >= 0).all() and table["stamp"][-1] < stamps)
        row = bool((table["x1"] - table["x0"] <= table["width"]).all())
        known = bool(table["first"].max() < _MOST and table["seed"].max() < RANDOMS)
        sound = inside and order and row and known
    if not sound:
        msg = "its table of patches makes no sense"
        raise ValueError(msg)


class Patches:
    """Table of patches, ready for arithmetic on whole stamps.

    A pixel is ``((integer + base) - (dither - 1/2)) * scale + zero`` in double precision, in this order, then
    rounded to float32; the base is the integer that stands for 0.  A pixel in no patch is 0 in rows that have
    one, else the integer itself.

    Parameters
    ----------
    table : ndarray of `patch_dtype`, shape (n,)
        Sorted by stamp, and in a stamp by rows of tiles.
    size : int
        Pixels on a side of a stamp.
    """

    def __init__(self, table: Array, size: int) -> None:
        channels = table.dtype["scale"].shape[0]
        new = np.ones(len(table), bool)  # patches beside each other make a band across the stamp
        new[1:] = np.any([np.diff(table[name].astype(int)) != 0 for name in ("stamp", "y0", "y1")], axis=0)
        band, first = np.cumsum(new) - 1, table[new]
        self._bands = list(zip(first["y0"].tolist(), first["y1"].tolist(), strict=True))
        self._ends = [np.searchsorted(rows["stamp"], np.arange(2**16 + 1)) for rows in (first, table)]
        width = (table["x1"] - table["x0"]).astype(int)
        start = band * size + table["x0"] - (np.cumsum(width) - width)
        at = np.repeat(start, width) + np.arange(width.sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = np.where(table["scale"] > 0, 1 / table["scale"], 0)
            base = np.where(table["scale"] > 0, np.rint(-table["zero"] / table["scale"]), 0)
            numbers = (base, table["scale"], table["zero"], inverse, table["zero"] * inverse + base)
        rows = np.zeros((5, len(first) * size, channels))  # of a band: a number for each column and channel
        for row, values in zip(rows, numbers, strict=True):
            row[at] = np.repeat(values, width, axis=0)
        self._rows = rows.reshape(5, len(first), size * channels)
        self._places = list(zip(*(table[name].tolist() for name in _PLACE), strict=True))
        self._dithered = [
            [(channel, seed) for channel, seed in enumerate(seeds) if seed >= 0]
            for seeds in table["seed"].tolist()
        ]
        self._pixels = np.zeros((size, size, channels))

    def _each_band(self, stamp: int, *numbers: int) -> Iterator[list[Array]]:
        """Pixels of each band of a stamp, (rows, columns * channels), and the rows of these numbers."""
        for band in range(self._ends[0][stamp], self._ends[0][stamp + 1]):
            y0, y1 = self._bands[band]
            pixels = self._pixels[y0:y1].reshape(y1 - y0, -1)
            yield [pixels, *(self._rows[number, band] for number in numbers)]

    def _each_dither(self, stamp: int) -> Iterator[tuple[Array, Array]]:
        """Pixels of a stamp that are dithered, rectangle by rectangle, and their dither less one half."""
        for patch in range(self._ends[1][stamp], self._ends[1][stamp + 1]):
            y0, y1, x0, x1, first, width = self._places[patch]
            for channel, seed in self._dithered[patch]:
                rectangle = self._pixels[y0:y1, x0:x1, channel]
                for rows, dither in dither_of(seed, first, width, (y1 - y0, x1 - x0)):
                    yield rectangle[rows], dither

    def values(self, stamp: int, integers: Array) -> Array:
        """Pixels of a stamp from its integers, (channels, y, x); float64, (y, x, channels), used again."""
        self._pixels[...] = integers.transpose(1, 2, 0)
        for pixels, base in self._each_band(stamp, 0):
            pixels += base
        for pixels, dither in self._each_dither(stamp):
            pixels -= dither
        for pixels, scale, zero in self._each_band(stamp, 1, 2):
            pixels *= scale
            pixels += zero
        return self._pixels

    def integers(self, stamp: int, values: Array) -> Array:
        """Integers nearest to the pixels of a stamp, int32, (channels, y, x); what they give back may differ.

        Parameters
        ----------
        stamp : int
        values : ndarray of float32, shape (y, x, channels)
        """
        with np.errstate(all="ignore"):
            self._pixels[...] = values
            for pixels, inverse, shift in self._each_band(stamp, 3, 4):
                pixels *= inverse
                pixels -= shift
            for pixels, dither in self._each_dither(stamp):
                pixels += dither
            return np.rint(self._pixels, out=self._pixels).transpose(2, 0, 1).astype(np.int32)
