"""Geometry of stamps, then copying; pure functions.

Pixels are 0-based with centres at integers, arrays are ``[y, x]``.  The stamp of a source at
(x, y) has its centre pixel at ``c = floor(x + 0.5)`` and covers ``[c - 32, c + 32)``: half-integer
positions round up, in both axes, for both classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.conventions import BANDS, STAMP, Array

HALF = STAMP // 2


def centre_pixel(position: Array) -> Array:
    """Integer pixel that holds each 0-based position: ``floor(position + 0.5)``."""
    return np.floor(np.asarray(position) + 0.5).astype(np.int64)


def stamp_inside(x: Array, y: Array, shape: tuple[int, int]) -> Array:
    """Whether each source's whole stamp lies in an image of this shape (ny, nx)."""
    cx, cy = centre_pixel(x), centre_pixel(y)
    ny, nx = shape
    return (cx >= HALF) & (cx + HALF <= nx) & (cy >= HALF) & (cy + HALF <= ny)


def centre_inside(x: Array, y: Array, shape: tuple[int, int]) -> Array:
    """Whether each source's centre pixel lies in an image of this shape (ny, nx)."""
    cx, cy = centre_pixel(x), centre_pixel(y)
    ny, nx = shape
    return (cx >= 0) & (cx < nx) & (cy >= 0) & (cy < ny)


def overlap(centre: int, size: int) -> tuple[slice, slice]:
    """Slices along one axis: what of the image a stamp covers, and where in the stamp it goes.

    Parameters
    ----------
    centre : int
        Centre pixel.
    size : int
        Length of the image along this axis.

    Returns
    -------
    in_image, in_stamp : slice
        Of equal length; empty if the stamp misses the image.

    Examples
    --------
    >>> overlap(100, 200)
    (slice(68, 132, None), slice(0, 64, None))
    >>> overlap(10, 200)
    (slice(0, 42, None), slice(22, 64, None))
    """
    start, stop = centre - HALF, centre + HALF
    low, high = min(max(start, 0), size), max(min(stop, size), 0)
    high = max(high, low)
    return slice(low, high), slice(low - start, high - start)


def cut_stamps(
    planes: Sequence[Array] | Array, x: Array, y: Array, out: NDArray[np.float32], rows: Array
) -> NDArray[np.bool_]:
    """Copy stamps out of co-registered planes.

    Parameters
    ----------
    planes : sequence of ndarray, shape (ny, nx), or ndarray, shape (channels, ny, nx)
        In channel order.
    x, y : ndarray, shape (n,)
        0-based positions of the sources.
    out : ndarray of float32, shape (m, 64, 64, len(planes))
        Written in place; pixels outside the planes become 0 (image 0 and ivar 0 say "no data").
    rows : ndarray of int, shape (n,)
        Row of `out` for each source.

    Returns
    -------
    ndarray of bool, shape (n,)
        Whether the whole stamp lay inside the planes.
    """
    ny, nx = planes[0].shape
    whole = stamp_inside(x, y, (ny, nx))
    cx, cy = centre_pixel(x), centre_pixel(y)
    stamp = np.empty((len(planes), STAMP, STAMP), dtype=np.float32)
    for i in np.lexsort((cx, cy // STAMP)):  # neighbours on the sky share what the processor has at hand
        (from_y, to_y), (from_x, to_x) = overlap(int(cy[i]), ny), overlap(int(cx[i]), nx)
        if not whole[i]:
            stamp[...] = 0
        for channel, plane in enumerate(planes):
            stamp[channel, to_y, to_x] = plane[from_y, from_x]
        out[rows[i]] = stamp.transpose(1, 2, 0)  # at once: channel by channel takes twice as long
    return whole


def clean_stamps(stamps: NDArray[np.float32]) -> tuple[int, int]:
    """Replace, in place, what is no measurement: non-finite pixels and negative inverse variances.

    A pixel that is not finite in the image or in the invvar of a band becomes 0 in both; a negative
    invvar (normal in DR5 to DR8, whose compression dithered around 0) becomes 0.

    Parameters
    ----------
    stamps : ndarray of float32, shape (n, 64, 64, 6)

    Returns
    -------
    not_finite, negative : int
        How many band-pixels were changed for each reason.
    """
    image, ivar = stamps[..., : len(BANDS)], stamps[..., len(BANDS) :]
    bad = ~(np.isfinite(image) & np.isfinite(ivar))
    negative = ~bad & (ivar < 0)
    image[bad] = 0
    ivar[bad | negative] = 0
    return int(np.count_nonzero(bad)), int(np.count_nonzero(negative))
