"""Geometry of stamps: centre pixels, windows and their overlap with an image; copying and cleaning.

Pixels are 0-based with centres at integers, arrays are ``[y, x]``.  The stamp of a source at (x, y) has its
centre pixel at ``c = floor(x + 0.5)`` and covers ``[c - size // 2, c - size // 2 + size)``: half-integer
positions round up, in both axes, for both classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.stampspec import Array, StampSpec


def centre_pixel(position: Array) -> Array:
    """Integer pixel that holds each 0-based position: ``floor(position + 0.5)``."""
    return np.floor(np.asarray(position) + 0.5).astype(np.int64)


def stamp_inside(x: Array, y: Array, shape: tuple[int, int], size: int) -> Array:
    """Whether each source's whole stamp of `size` pixels a side lies in an image of this shape (ny, nx).

    Of one pixel: whether its centre pixel does.
    """
    left, low = centre_pixel(x) - size // 2, centre_pixel(y) - size // 2
    ny, nx = shape
    return (left >= 0) & (left + size <= nx) & (low >= 0) & (low + size <= ny)


def overlap(centre: int, n: int, size: int) -> tuple[slice, slice]:
    """Slices along one axis: what of the image a stamp covers, and where in the stamp it goes.

    Parameters
    ----------
    centre : int
        Centre pixel.
    n : int
        Length of the image along this axis.
    size : int
        Length of the stamp.

    Returns
    -------
    in_image, in_stamp : slice
        Of equal length; empty if the stamp misses the image.

    Examples
    --------
    >>> overlap(100, 200, 64)
    (slice(68, 132, None), slice(0, 64, None))
    >>> overlap(10, 200, 65)
    (slice(0, 43, None), slice(22, 65, None))
    """
    start = centre - size // 2
    low, high = min(max(start, 0), n), min(max(start + size, 0), n)
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
    out : ndarray of float32, shape (m, size, size, len(planes))
        Written in place; pixels outside the planes become 0 (image 0 and ivar 0 say "no data").
    rows : ndarray of int, shape (n,)
        Row of `out` for each source.

    Returns
    -------
    ndarray of bool, shape (n,)
        Whether the whole stamp lay inside the planes.
    """
    ny, nx = planes[0].shape
    size = out.shape[1]
    whole = stamp_inside(x, y, (ny, nx), size)
    cx, cy = centre_pixel(x), centre_pixel(y)
    stamp = np.empty((len(planes), size, size), dtype=np.float32)
    for i in np.lexsort((cx, cy // size)):  # neighbours on the sky share what the processor has at hand
        (from_y, to_y), (from_x, to_x) = overlap(int(cy[i]), ny, size), overlap(int(cx[i]), nx, size)
        if not whole[i]:
            stamp[...] = 0
        for channel, plane in enumerate(planes):
            stamp[channel, to_y, to_x] = plane[from_y, from_x]
        out[rows[i]] = stamp.transpose(1, 2, 0)  # at once: channel by channel takes twice as long
    return whole


def clean_stamps(stamps: NDArray[np.float32], spec: StampSpec) -> tuple[int, int]:
    """Replace, in place, what is no measurement: non-finite pixels and negative inverse variances.

    A pixel that is not finite in the image or in the invvar of a band becomes 0 in both; a negative
    invvar (normal in DR5 to DR8, whose compression dithered around 0) becomes 0.

    Parameters
    ----------
    stamps : ndarray of float32, shape (n, size, size, channels)
    spec : StampSpec

    Returns
    -------
    not_finite, negative : int
        How many band-pixels were changed for each reason.
    """
    image, ivar = spec.image(stamps), spec.ivar(stamps)
    bad = ~np.isfinite(image)
    if ivar is None:
        image[bad] = 0
        return int(np.count_nonzero(bad)), 0
    bad |= ~np.isfinite(ivar)
    negative = ~bad & (ivar < 0)
    image[bad] = 0
    ivar[bad | negative] = 0
    return int(np.count_nonzero(bad)), int(np.count_nonzero(negative))
