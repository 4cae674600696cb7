"""Lanczos resampling of order 3, as in the pipeline: under an affine map, or along lines and columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from obiwan.dplearn.stampspec import Array

ORDER = 3
_TAPS = np.arange(1 - ORDER, ORDER + 1)
_SIGNS = (-1.0) ** _TAPS
_PHASES = 1024  # of a pixel, for which weights are kept
_DENSE = 256  # samples, up to which a dense matrix is faster


def _taps(targets: Array) -> tuple[Array, Array]:
    """Samples around each position, and their weights, which sum to 1; one axis more, of 6.

    A Lanczos kernel is sinc(d) sinc(d / 3); sin(pi d) is the same for all six but for its sign.
    """
    first = np.floor(targets)
    offset = np.clip(targets - first, 1e-9, 1 - 1e-9)[..., None] - _TAPS
    weights = _SIGNS * np.sin(offset * (np.pi / ORDER)) / offset**2
    return first.astype(np.intp)[..., None] + _TAPS, weights / weights.sum(-1, keepdims=True)


_KERNEL = _taps(np.arange(_PHASES) / _PHASES)[1].astype(np.float32)


def matrix(targets: Array, n: int) -> Any:
    """Matrix that interpolates n samples, at pixels 0 to n - 1, along one axis; beyond them they are 0.

    Positions are rounded to 1/1024 of a pixel.

    Parameters
    ----------
    targets : ndarray, shape (m,)
        Positions in pixels.
    n : int

    Returns
    -------
    ndarray or scipy.sparse.csr_array of float32, shape (m, n)
        Sparse where that is faster.
    """
    steps = np.rint(np.asarray(targets) * _PHASES).astype(np.intp)
    samples, weights = (steps // _PHASES)[:, None] + _TAPS, _KERNEL[steps % _PHASES]
    rows = np.arange(len(targets))[:, None]
    if n > _DENSE:
        inside = (samples >= 0) & (samples < n)
        place = np.broadcast_to(rows, samples.shape)[inside], samples[inside]
        return csr_array((weights[inside], place), shape=(len(targets), n))
    out = np.zeros((len(targets), n + 2), np.float32)
    # What lies beyond goes into two columns that are cut off.
    out[rows, np.clip(samples, -1, n) + 1] = weights
    return out[:, 1:-1]


def interpolate(image: Array, lines: Array, columns: Array) -> Array:
    """Image (float32) at the crossings of lines and columns, which are positions in its pixels."""
    ny, nx = image.shape
    return np.asarray(matrix(lines, ny) @ np.asarray(image, np.float32) @ matrix(columns, nx).T)


def resample(images: Array, jacobian: Array, largest: int = 63) -> Array:
    """Images on another grid around the same middle pixel.

    Parameters
    ----------
    images : ndarray, shape (n, m, m)
        Of an odd number of pixels; outside they are 0.
    jacobian : ndarray, shape (2, 2)
        Pixels (x, y) of the images per pixel of the new grid.
    largest : int
        Most pixels on a side of the new grid.

    Returns
    -------
    ndarray, shape (n, k, k)
        Values at the new pixels, not their integrals; k is odd.
    """
    middle = images.shape[-1] // 2
    reach = int(np.ceil(middle / np.sqrt(abs(np.linalg.det(jacobian)))))
    half = min(reach, largest // 2)
    v, u = np.mgrid[-half : half + 1, -half : half + 1]
    x, y = np.tensordot(jacobian, np.stack([u, v]), 1)
    (columns, along_x), (lines, along_y) = _taps(x), _taps(y)
    pad = ORDER + int(np.ceil(max(np.abs(x).max(), np.abs(y).max(), middle))) - middle
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((len(images), *x.shape))
    for j in range(2 * ORDER):
        for i in range(2 * ORDER):
            picked = padded[:, lines[..., j] + middle + pad, columns[..., i] + middle + pad]
            out += along_y[..., j] * along_x[..., i] * picked
    return out
