"""Where the light of a stamp is, and how wide: moments in Gaussian windows that follow it.

Arrays hold planes, ``[example, band, y, x]``; positions are (x, y) in pixels from the centre of the stamp's
pixel 32, shape ``(n, 3, 2)``: an example's bands are measured by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, uniform_filter

from obiwan.dplearn.conventions import BANDS, STAMP
from obiwan.dplearn.survey.cutouts import HALF

Floats = NDArray[np.float32]

WINDOW = 2.5  #: sigma of the Gaussian window (px): that of a small galaxy in the seeing of the surveys
BOX = 12  #: half of the box in which windows are evaluated (px); 4.8 sigma
NEED = 6.0  #: pixels around the centre without which nothing is measured there (px)
REACH = 4.0  #: a centre further than this from where it is expected is another object's (px)
NEIGHBOUR_SNR = 6.0  #: of a 5x5 sum over the three bands, for a peak to count as a neighbour
ITERATIONS = 7

_grid = np.arange(-BOX, BOX + 1, dtype=np.float32)
_offset = np.arange(STAMP) - HALF
RADIUS = np.hypot(_offset[:, None], _offset[None, :])  #: of each pixel of a stamp from its pixel 32 (px)


@dataclass(frozen=True)
class Moments:
    """Windowed light and its moments about the window's centre; each of shape (n, 3), pixels."""

    light: Floats
    x: Floats
    y: Floats
    xx: Floats
    yy: Floats
    xy: Floats


def neighbours(image: Floats, ivar: Floats) -> tuple[Floats, Floats]:
    """Find other objects in stamps: peaks of the sum of the three bands, each in units of its noise.

    Parameters
    ----------
    image, ivar : ndarray of float32, shape (n, 3, 64, 64)

    Returns
    -------
    count : ndarray, shape (n,)
        Peaks at least `NEED` from the centre.
    vector : ndarray, shape (n, 2)
        From the centre to the nearest of them (px); infinite where there is none.
    """
    noise = np.sqrt(np.maximum(ivar, 0))
    signal = image[:, 0] * noise[:, 0]
    for k in range(1, len(BANDS)):
        signal += image[:, k] * noise[:, k]
    # A mean over 25 pixels has a fifth of one's noise, a sum of three bands sqrt(3) of it.
    smooth = uniform_filter(signal, (1, 5, 5), mode="constant") * np.float32(5 / np.sqrt(3))
    which, py, px = np.nonzero((smooth > NEIGHBOUR_SNR) & (RADIUS >= NEED))
    high = smooth[which, py, px]
    peak = high >= maximum_filter(smooth, (1, 5, 5))[which, py, px]
    which, py, px = which[peak], py[peak], px[peak]
    order = np.lexsort((RADIUS[py, px], which))
    first, index = np.unique(which[order], return_index=True)
    vector = np.full((len(image), 2), np.inf, np.float32)
    vector[first] = np.stack([px - HALF, py - HALF], 1)[order[index]]
    return np.bincount(which, minlength=len(image)).astype(np.float32), vector


def windows(centre: Floats, to_neighbour: Floats, sigma: float = WINDOW) -> Floats:
    """Gaussian windows of unit height, without what lies nearer to a neighbour than to the centre.

    The mirror image of what is left out is left out as well: a window must be symmetric about its
    centre, or the wings of the object itself would pull at it.

    Parameters
    ----------
    centre : ndarray, shape (n, 3, 2)
    to_neighbour : ndarray, shape (n, 2)
        As from `neighbours`.
    sigma : float
        Pixels.

    Returns
    -------
    ndarray of float32, shape (n, 3, 25, 25)
    """
    dx, dy = (_grid - centre[..., k : k + 1] for k in (0, 1))
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
    """Moments of the light in windows; `image` and `weight` of shape (n, 3, 25, 25), `centre` (n, 3, 2)."""
    seen = weight * image
    dx, dy = (_grid - centre[..., k : k + 1] for k in (0, 1))
    columns, lines = seen.sum(2), seen.sum(3)
    light = columns.sum(-1)
    mixed = ((dy[..., None, :] @ seen)[..., 0, :] * dx).sum(-1)
    with np.errstate(all="ignore"):
        return Moments(
            light=light,
            x=(columns * dx).sum(-1) / light,
            y=(lines * dy).sum(-1) / light,
            xx=(columns * dx**2).sum(-1) / light,
            yy=(lines * dy**2).sum(-1) / light,
            xy=mixed / light,
        )


def settle(image: Floats, expected: Floats, to_neighbour: Floats) -> Floats:
    """Centres of the light: where the first moments in the window vanish.

    As with SExtractor's XWIN the window follows the light, which frees the result of the window's first
    place.  A Gaussian of variance s seen through a window of variance w shows w / (s + w) of its
    displacement, and its windowed second moment is s w / (s + w): each step is the first moment over the
    share that the second moment tells.

    Parameters
    ----------
    image : ndarray of float32, shape (n, 3, 25, 25)
        Free of sky.
    expected : ndarray, shape (n, 2)
        Where to begin.
    to_neighbour : ndarray, shape (n, 2)
        As from `neighbours`.

    Returns
    -------
    ndarray, shape (n, 3, 2)
        Not more than twice `REACH` from `expected`.
    """
    start = np.repeat(expected[:, None], len(BANDS), axis=1)
    centre = start.copy()
    for _ in range(ITERATIONS):
        seen = moments(image, windows(centre, to_neighbour), centre)
        for k, (first, second) in enumerate(((seen.x, seen.xx), (seen.y, seen.yy))):
            share = np.clip(np.nan_to_num(1 - second / WINDOW**2), 0.25, 1)
            with np.errstate(all="ignore"):
                centre[..., k] += np.clip(np.nan_to_num(first / share), -1, 1)
        np.clip(centre, start - 2 * REACH, start + 2 * REACH, out=centre)
    return centre
