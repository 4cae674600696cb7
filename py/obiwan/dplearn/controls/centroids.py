"""Centroids and windowed moments: where the light of a stamp is, and how wide.

Moments are taken in Gaussian windows that follow the light.  Arrays hold planes, ``[example, band, y, x]``;
positions are (x, y) in pixels from the centre of the stamp's centre pixel, shape ``(n, bands, 2)``: the
bands of an example are measured independently.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, uniform_filter

from obiwan.dplearn.stampspec import Array

Floats = NDArray[np.float32]

WINDOW = 2.5  #: sigma of the Gaussian window (px): that of a small galaxy in the seeing of the surveys
BOX = 12  #: half of the box in which windows are evaluated (px); 4.8 sigma
NEED = 6.0  #: pixels around the centre without which nothing is measured there (px)
REACH = 4.0  #: a centre further than this from where it is expected is another object's (px)
NEIGHBOUR_SNR = 6.0  #: of a 5x5 sum over all bands, for a peak to count as a neighbour
ITERATIONS = 7


class Moments(NamedTuple):
    """Windowed light and its moments about the window's centre; each of shape (n, bands), pixels."""

    light: Floats
    x: Floats
    y: Floats
    xx: Floats
    yy: Floats
    xy: Floats


def radii(size: int) -> Array:
    """Distance of each pixel of a stamp from its centre pixel (px), shape (size, size)."""
    offset = np.arange(size) - size // 2
    return np.hypot(offset[:, None], offset[None, :])


def neighbours(image: Floats, ivar: Floats) -> tuple[Floats, Floats]:
    """Find other objects in stamps: peaks of the sum of all bands, each in units of its noise.

    Parameters
    ----------
    image, ivar : ndarray of float32, shape (n, bands, size, size)

    Returns
    -------
    count : ndarray, shape (n,)
        Peaks at least `NEED` from the centre.
    vector : ndarray, shape (n, 2)
        From the centre to the nearest of them (px); infinite where there is none.
    """
    bands, size = image.shape[1], image.shape[-1]
    radius, centre = radii(size), size // 2
    noise = np.sqrt(np.maximum(ivar, 0))
    signal = image[:, 0] * noise[:, 0]
    for k in range(1, bands):
        signal += image[:, k] * noise[:, k]
    # A mean over 25 pixels has a fifth of one's noise, a sum of so many bands the root of their number of it.
    smooth = uniform_filter(signal, (1, 5, 5), mode="constant") * np.float32(5 / np.sqrt(bands))
    which, py, px = np.nonzero((smooth > NEIGHBOUR_SNR) & (radius >= NEED))
    high = smooth[which, py, px]
    peak = high >= maximum_filter(smooth, (1, 5, 5))[which, py, px]
    which, py, px = which[peak], py[peak], px[peak]
    order = np.lexsort((radius[py, px], which))
    first, index = np.unique(which[order], return_index=True)
    vector = np.full((len(image), 2), np.inf, np.float32)
    vector[first] = np.stack([px - centre, py - centre], 1)[order[index]]
    return np.bincount(which, minlength=len(image)).astype(np.float32), vector


def _offsets(centre: Floats, pixels: int) -> tuple[Floats, Floats]:
    """Distance in x and in y of the columns and rows of a box from each centre, shape (n, bands, pixels)."""
    grid = np.arange(-(pixels // 2), pixels // 2 + 1, dtype=np.float32)
    return grid - centre[..., :1], grid - centre[..., 1:]


def windows(centre: Floats, to_neighbour: Floats, pixels: int, sigma: float = WINDOW) -> Floats:
    """Gaussian windows of unit height, without what lies nearer to a neighbour than to the centre.

    The mirror image of what is left out is left out as well: a window must be symmetric about its
    centre, or the wings of the object itself would pull at it.

    Parameters
    ----------
    centre : ndarray, shape (n, bands, 2)
    to_neighbour : ndarray, shape (n, 2)
        As from `neighbours`.
    pixels : int
        On a side of the box, odd.
    sigma : float
        Pixels.

    Returns
    -------
    ndarray of float32, shape (n, bands, pixels, pixels)
    """
    dx, dy = _offsets(centre, pixels)
    wx, wy = (np.exp(-0.5 * (d / np.float32(sigma)) ** 2) for d in (dx, dy))
    weight = wy[..., :, None] * wx[..., None, :]
    close = np.flatnonzero(np.hypot(*to_neighbour.T) < 2 * BOX)
    away = to_neighbour[close, None] - centre[close]
    half = 0.5 * (away**2).sum(-1)[..., None, None]
    along_y = away[..., 1, None] * dy[close]
    along_x = away[..., 0, None] * dx[close]
    weight[close] *= np.abs(along_y[..., :, None] + along_x[..., None, :]) <= half
    return np.asarray(weight, np.float32)


def moments(image: Floats, weight: Floats, centre: Floats) -> Moments:
    """Moments of the light in windows.

    Parameters
    ----------
    image, weight : ndarray, shape (n, bands, pixels, pixels)
    centre : ndarray, shape (n, bands, 2)
    """
    seen = weight * image
    dx, dy = _offsets(centre, image.shape[-1])
    columns, lines = seen.sum(2), seen.sum(3)
    light = columns.sum(-1)
    mixed = ((dy[..., None, :] @ seen)[..., 0, :] * dx).sum(-1)
    with np.errstate(all="ignore"):
        x, xx = ((columns * dx**power).sum(-1) / light for power in (1, 2))
        y, yy = ((lines * dy**power).sum(-1) / light for power in (1, 2))
        return Moments(light, x, y, xx, yy, mixed / light)


def settle(image: Floats, expected: Floats, to_neighbour: Floats) -> Floats:
    """Centres of the light: where the first moments in the window vanish.

    As with SExtractor's XWIN the window follows the light, which frees the result of the window's first
    place.  A Gaussian of variance s seen through a window of variance w shows w / (s + w) of its
    displacement, and its windowed second moment is s w / (s + w): each step is the first moment over the
    fraction that the second moment tells.

    Parameters
    ----------
    image : ndarray of float32, shape (n, bands, pixels, pixels)
        Free of sky.
    expected : ndarray, shape (n, 2)
        Where to begin.
    to_neighbour : ndarray, shape (n, 2)
        As from `neighbours`.

    Returns
    -------
    ndarray, shape (n, bands, 2)
        Not more than twice `REACH` from `expected`.
    """
    start = np.repeat(expected[:, None], image.shape[1], axis=1)
    centre = start.copy()
    for _ in range(ITERATIONS):
        seen = moments(image, windows(centre, to_neighbour, image.shape[-1]), centre)
        for k, (first, second) in enumerate(((seen.x, seen.xx), (seen.y, seen.yy))):
            share = np.clip(np.nan_to_num(1 - second / WINDOW**2), 0.25, 1)
            with np.errstate(all="ignore"):
                centre[..., k] += np.clip(np.nan_to_num(first / share), -1, 1)
        np.clip(centre, start - 2 * REACH, start + 2 * REACH, out=centre)
    return centre
