"""Quantisation of a compressed coadd: the integers, scales and dither behind its pixels.

A tile-compressed FITS image holds an integer for every pixel, a scale and a zero point for every tile, and a
known dither: a pixel is ``(integer - dither + 1/2) * scale + zero``, in double precision, or without dither
``integer * scale + zero`` (FITS standard 4.0, section 10.2; Pence, Seaman & White 2009, PASP 121, 414;
White, Greenfield, Pence, Tody & Seaman 2012, "Tiled image convention", appendix on dithering).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from obiwan.dplearn.stampspec import Array

RANDOMS = 10_000  #: random numbers of the convention
NO_DITHER = "NO_DITHER"  #: what a compressed plane has that names no method (FITS standard 4.0, 10.2)
_DITHERED = ("SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2")


@dataclass(frozen=True)
class TileGrid:
    """Grid of values that the pixels of one plane can have, tile by tile, as its file has it.

    Attributes
    ----------
    method : str
        ``ZQUANTIZ``.
    shape : tuple of int
        (ny, nx) of the plane.
    tile : tuple of int
        (ny, nx) of a tile; those at the upper edges may be smaller.
    scale, zero : ndarray of float64, shape (tiles,)
        Of every tile, row by row; a scale of 0 where a tile is not quantised.
    first : int
        Index of the random number at which the dither of the first tile starts, from 0.
    nulls : bool
        Whether there may be pixels without a value.
    """

    method: str
    shape: tuple[int, int]
    tile: tuple[int, int]
    scale: NDArray[np.float64]
    zero: NDArray[np.float64]
    first: int = 0
    nulls: bool = False

    @property
    def known(self) -> bool:
        """Whether its method is one of those that this module undoes."""
        return self.method in (*_DITHERED, NO_DITHER)

    def of(self, x: Array, y: Array) -> Array:
        """Number of the tile of each pixel."""
        return np.asarray(y // self.tile[0] * -(-self.shape[1] // self.tile[1]) + x // self.tile[1])

    def seed(self, tile: int) -> int:
        """Index of the random number at which the dither of a tile starts; -1 without dither."""
        return (self.first + tile) % RANDOMS if self.method in _DITHERED else -1


def read_grid(path: Path) -> TileGrid | None:
    """Grid of the image in a file; None where it has no table of tiles that can be read."""
    if path.suffix == ".gz":
        return None
    try:
        with fits.open(path.absolute(), disable_image_compression=True, memmap=True) as hdus:  # no URL
            header, columns = hdus[1].header, hdus[1].columns
            kind, begin = columns.dtype.newbyteorder(">"), hdus[1].fileinfo()["datLoc"]
            if kind.itemsize != header["NAXIS1"]:
                return None
            table = np.fromfile(path, kind, header["NAXIS2"], offset=begin)  # astropy's takes thrice the time
            scale, zero = (table[name].astype(np.float64) for name in ("ZSCALE", "ZZERO"))
            shape, tile = ((int(header[f"{name}2"]), int(header[f"{name}1"])) for name in ("ZNAXIS", "ZTILE"))
            if len(scale) != -(-shape[0] // tile[0]) * -(-shape[1] // tile[1]):
                return None
            method = str(header.get("ZQUANTIZ") or NO_DITHER).strip()
            first = (int(header.get("ZDITHER0") or 1) - 1) % RANDOMS
            return TileGrid(
                method, shape, tile, scale, zero, first, "ZBLANK" in header or "ZBLANK" in columns.names
            )
    except Exception:  # such as astropy's VerifyError, or an image that is not compressed
        return None  # whoever decodes the plane says what is wrong


@lru_cache(maxsize=1)
def _randoms() -> tuple[Array, list[int]]:
    """Random numbers of the convention less one half, and where the dither of each seed starts."""
    values, seed = np.empty(RANDOMS, np.float32), 1
    for index in range(RANDOMS):  # the generator of Park & Miller (1988)
        seed = 16807 * seed % 2147483647
        values[index] = seed / 2147483647
    return values.astype(np.float64) - 0.5, (values * np.float32(500)).astype(int).tolist()


def _line(seed: int, begin: int, end: int) -> Array:
    """Dither of some pixels of a tile; at the end of the table it goes on where the next seed starts."""
    randoms, starts = _randoms()
    parts = []
    while end > 0:
        part = randoms[starts[seed] :]
        parts.append(part[max(begin, 0) : end])
        begin, end, seed = begin - len(part), end - len(part), (seed + 1) % RANDOMS
    return np.concatenate(parts)


def dither_of(seed: int, first: int, width: int, shape: tuple[int, int]) -> list[tuple[slice, Array]]:
    """Dither of each pixel of a rectangle of a tile, less one half, in one or two parts.

    Parameters
    ----------
    seed : int
        Of the tile (`TileGrid.seed`), not negative.
    first, width : int
        Number of the first pixel of the rectangle in the tile, and pixels in a row of the tile.
    shape : tuple of int
        (y, x) of the rectangle.

    Returns
    -------
    list of (slice, ndarray)
        Some rows of the rectangle, and the dither of their pixels, float64, shape (rows, x): first those in
        the table of random numbers, a view of it, then those that go beyond its end.
    """
    (high, wide), (randoms, starts) = shape, _randoms()
    begin = starts[seed] + first
    inside = min(high, max(0, (RANDOMS - begin) // width))
    parts = []
    if inside:
        line = randoms[begin : begin + inside * width]
        parts.append((slice(inside), line.reshape(inside, width)[:, :wide]))
    if inside < high:
        line = _line(seed, first + inside * width, first + high * width)
        parts.append((slice(inside, high), line.reshape(high - inside, width)[:, :wide]))
    return parts
