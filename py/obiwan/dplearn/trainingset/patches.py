"""Patches of stamps: pixels as integers on the grids of the coadds that they were cut from, and back.

A patch is the part of a stamp that lies in one tile of the coadd.  With the scale, zero point and dither of
the tile (`obiwan.dplearn.survey.quantisation`) each of its pixels is a small integer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.quantisation import RANDOMS, TileGrid, subtract_dither

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
    """A table of patches, ready for arithmetic.

    Parameters
    ----------
    table : ndarray of `patch_dtype`, shape (n,)
        Sorted by stamp.
    size : int
        Pixels on a side of a stamp.
    """

    def __init__(self, table: Array, size: int) -> None:
        channels = table.dtype["scale"].shape[0]
        self._places = list(zip(*(table[name].tolist() for name in ("y0", "y1", "x0", "x1")), strict=True))
        self._tiles = list(zip(table["first"].tolist(), table["width"].tolist(), strict=True))
        self._seeds = table["seed"].tolist()
        self._scales, self._zeros = (table[name][:, :, None, None] for name in ("scale", "zero"))
        with np.errstate(divide="ignore", invalid="ignore"):
            self._inverses = 1 / self._scales
            base = np.where(table["scale"] > 0, np.rint(-table["zero"] / table["scale"]), 0)
        self._bases = base.tolist()  # the integers that stand for 0
        self._ends = np.searchsorted(table["stamp"], np.arange(2**16 + 1))
        self._space = np.empty((2, channels, size, size), np.float64)

    def of_stamp(self, stamp: int) -> range:
        """Numbers of the patches of a stamp."""
        return range(int(self._ends[stamp]), int(self._ends[stamp + 1]))

    def place(self, patch: int) -> tuple[slice, slice]:
        """The part of a stamp that a patch is, [y, x]."""
        y0, y1, x0, x1 = self._places[patch]
        return slice(y0, y1), slice(x0, x1)

    def _offsets(self, patch: int) -> Array:
        """What is added to its integers: those that stand for 0, less the dither; (channels, y, x)."""
        (y0, y1, x0, x1), (first, width) = self._places[patch], self._tiles[patch]
        out = self._space[0, :, : y1 - y0, : x1 - x0]
        for channel, (seed, base) in enumerate(zip(self._seeds[patch], self._bases[patch], strict=True)):
            if seed < 0:
                out[channel] = base
            else:
                subtract_dither(base, seed, first, width, out[channel])
        return out

    def values(self, patch: int, integers: Array, out: Array) -> None:
        """Pixels of a patch from its integers; both of shape (channels, y, x), `out` of float64."""
        np.add(integers, self._offsets(patch), out=out)
        out *= self._scales[patch]
        out += self._zeros[patch]

    def integers(self, patch: int, values: Array, out: Array) -> Array:
        """Integers nearest to the pixels of a patch, written into `out`, and the float32 that they give back.

        Where the two differ the integers mean nothing: those pixels are not on the grid of the tile.
        """
        again = self._space[1, :, : values.shape[1], : values.shape[2]]
        with np.errstate(all="ignore"):
            np.subtract(values, self._zeros[patch], out=again)
            again *= self._inverses[patch]
            again -= self._offsets(patch)
            out[...] = np.rint(again, out=again)
            self.values(patch, out, again)
            return again.astype(np.float32)
