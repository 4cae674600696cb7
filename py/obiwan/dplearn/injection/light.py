"""Light of a model on the coadd grid: a product of Fourier transforms, moved to a sub-pixel position.

A coadd's PSF contains the pixel, so that nothing is convolved with a pixel here.  Positions are 0-based coadd
pixels with centres at integers; sky offsets are arcseconds to the east and north.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2

from obiwan.dplearn.injection.sersic import transform
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.coadds import Frame
from obiwan.dplearn.survey.cutouts import centre_pixel
from obiwan.dplearn.survey.rendering import axis_ratio, truncation

LEAST_SIZE = 64  #: pixels on a side of the smallest grid
LARGEST_SIZE = 2048  #: of the largest: what needs more is no object of a brick
REACH = 16  #: pixels beyond a model's own edge that its grid leaves to the PSF
_STEP = 1.0  # arcsec, of finite differences on the sky


def jacobians(frame: Frame, ra: Array, dec: Array) -> Array:
    """Derivatives of pixel positions by sky offsets (east, north; arcsec), shape (n, 2, 2), rows x and y."""
    step = _STEP / 3600
    east = frame.pixels(ra + step / np.cos(np.radians(dec)), dec)
    west = frame.pixels(ra - step / np.cos(np.radians(dec)), dec)
    north, south = frame.pixels(ra, dec + step), frame.pixels(ra, dec - step)
    columns = [
        np.stack([a - b for a, b in zip(*pair, strict=True)], -1) for pair in ((east, west), (north, south))
    ]
    return np.asarray(np.stack(columns, -1) / (2 * _STEP))


def grid_size(radius: float, psf: int) -> int:
    """Pixels on a side of the grid for a model that ends at a radius, and a PSF image of some size."""
    least = max(LEAST_SIZE, psf, int(np.ceil(2 * (radius + REACH))))
    return 2 * int(next_fast_len((least + 1) // 2, real=True))


@lru_cache(maxsize=32)
def frequencies(size: int) -> tuple[Array, Array]:
    """Cycles per pixel along x, shape (1, size // 2 + 1), and y, shape (size, 1), in the order of `rfft2`."""
    along_x, along_y = (found(size).astype(np.float32) for found in (np.fft.rfftfreq, np.fft.fftfreq))
    return along_x[None, :], along_y[:, None]


def half_light_ellipse(jacobian: Array, radius: float, e1: float, e2: float) -> Array:
    """Axes of the half-light ellipse in pixels, shape (2, 2), a column each.

    Parameters
    ----------
    jacobian : ndarray, shape (2, 2)
        Of `jacobians`.
    radius, e1, e2 : float
        The tractor's: half-light radius along the major axis (arcsec) and ellipticity, whose position angle
        runs from north through east.
    """
    angle = 0.5 * np.arctan2(e2, e1)
    major, minor = radius, radius * float(axis_ratio(e1, e2))
    axes = np.array([[np.sin(angle), np.cos(angle)], [np.cos(angle), -np.sin(angle)]]).T * (major, minor)
    return np.asarray(jacobian @ axes)


def sersic_radius(ellipse: Array, sersic: float) -> float:
    """Largest distance in x or y, in pixels, at which the truncated profile has light."""
    return truncation(sersic) * float(np.hypot(*ellipse.T).max())


def sersic_transform(ellipse: Array, sersic: float, size: int) -> Array:
    """Transform of a truncated Sersic profile of unit flux on a grid, in the order of `rfft2`."""
    kx, ky = frequencies(size)
    # |A^T k|^2 of the axes A is a quadratic form, of which only the mixed term is not separable.
    (xx, xy), (_, yy) = ((2 * np.pi) ** 2 * ellipse @ ellipse.T).tolist()
    square = (2 * xy * ky) * kx
    square += xx * kx**2
    square += yy * ky**2
    return transform(np.sqrt(np.maximum(square, 0, out=square), out=square), sersic)


def moved(model: Array | float, x: float, y: float, size: int) -> Array:
    """Transform of a model moved by (x, y) pixels from the grid's middle pixel, ``size // 2``."""
    kx, ky = frequencies(size)
    turns = (-2j * np.pi * (x + size // 2), -2j * np.pi * (y + size // 2))
    along_x, along_y = (
        np.exp(turn * k.astype(float)).astype(np.complex64) for turn, k in zip(turns, (kx, ky), strict=True)
    )
    spectrum = along_y * along_x
    spectrum *= model
    return spectrum


def psf_transform(psf: Array, size: int) -> Array:
    """Transform, in the order of `rfft2`, of a PSF image around its middle pixel (of an odd number)."""
    middle = psf.shape[-1] // 2
    padded = np.zeros((size, size), np.float32)
    padded[: len(psf), : len(psf)] = psf
    return np.asarray(rfft2(np.roll(padded, (-middle, -middle), (0, 1)), overwrite_x=True))


def through(psf: Array, spectrum: Array, size: int) -> Array:
    """Image, shape (size, size), of a transform seen through a PSF of this transform."""
    return np.asarray(irfft2(psf * spectrum, s=(size, size), overwrite_x=True))


def split_position(value: float) -> tuple[int, float]:
    """The pixel that holds a position along one axis, and the offset from its centre."""
    pixel = int(centre_pixel(np.array([value]))[0])
    return pixel, value - pixel
