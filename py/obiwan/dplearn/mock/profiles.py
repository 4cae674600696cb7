"""Shapes of galaxies as matrices, and Fourier transforms of Sersic and Moffat profiles."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline
from scipy.special import gamma, gammaincinv, j0

from obiwan.dplearn.survey.differences import SERSIC_RANGE
from obiwan.dplearn.survey.rendering import MOFFAT_BETA, axis_ratio

Floats = NDArray[np.float64]

EXPONENTIAL = 1.6783469900166605  #: half-light radius of an exponential in units of its scale
#: Limits of a fitted shape: minor over major axis, mean square (arcsec^2)
LEAST_AXIS_RATIO, LARGEST = 0.15, 25.0


def ellipse(radius: Floats, e1: Floats, e2: Floats) -> Floats:
    """Shape matrix of half-light ellipses, from the tractor's parameters; axes of pixels, shape (n, 3)."""
    ratio2 = axis_ratio(e1, e2) ** 2
    mean, half = radius**2 * (1 + ratio2) / 2, radius**2 * (1 - ratio2) / 2
    modulus = np.maximum(np.hypot(e1, e2), 1e-12)
    # Twice the position angle runs from +y through -x: cosines count along y, and x y falls.
    return np.stack([mean - half * e1 / modulus, mean + half * e1 / modulus, -half * e2 / modulus], 1)


def radius_of(shape: Floats) -> tuple[Floats, Floats, Floats]:
    """The inverse of `ellipse`: half-light radius along the major axis (arcsec), e1 and e2."""
    mean, difference = (shape[:, 0] + shape[:, 1]) / 2, (shape[:, 1] - shape[:, 0]) / 2
    half = np.hypot(difference, shape[:, 2])
    major, minor = np.sqrt(np.maximum(mean + half, 0)), np.sqrt(np.maximum(mean - half, 0))
    ellipticity = (major - minor) / np.maximum(major + minor, 1e-12)
    direction = ellipticity / np.maximum(half, 1e-12)
    return major, difference * direction, -shape[:, 2] * direction


def possible(shape: Floats) -> Floats:
    """The nearest shape that a galaxy can have."""
    ratio2 = LEAST_AXIS_RATIO**2
    mean = np.clip((shape[:, 0] + shape[:, 1]) / 2, 0, LARGEST)
    difference = (shape[:, 0] - shape[:, 1]) / 2
    half = np.hypot(difference, shape[:, 2])
    kept = np.minimum(1, mean * (1 - ratio2) / (1 + ratio2) / np.maximum(half, 1e-12))
    return np.stack([mean + difference * kept, mean - difference * kept, shape[:, 2] * kept], 1)


@cache
def _table() -> tuple[RectBivariateSpline, float, float]:
    """ln(-ln(G) / q^2) over index and ln q^2, for the transform G of Sersic profiles of half-light radius 1.

    Also the least and the largest ln q^2.
    """
    indices, logs = np.arange(SERSIC_RANGE[0], SERSIC_RANGE[1] + 0.01, 0.25), np.linspace(-7.0, 6.5, 55)
    frequencies = np.exp(logs / 2)
    found = np.empty((len(indices), len(logs)))
    nodes, weights = np.polynomial.legendre.leggauss(400)
    for row, index in zip(found, indices, strict=True):
        scale = gammaincinv(2 * index, 0.5)
        # The fraction of light within t = b r^(1/n) is the incomplete gamma function: integrate over t.
        most = scale + 8 * np.sqrt(2 * index) + 24
        t, step = most / 2 * (nodes + 1), most / 2 * weights
        light = t ** (2 * index - 1) * np.exp(-t) / gamma(2 * index) * step
        transform = j0(frequencies[:, None] * (t / scale) ** index) @ light / light.sum()
        row[:] = np.log(-np.log(np.clip(transform, 1e-9, 1 - 1e-9)) / frequencies**2)
    return RectBivariateSpline(indices, logs, found), logs[0], logs[-1]


def sersic_transform(q2: Floats, index: Floats | float) -> tuple[Floats, Floats, Floats]:
    """Fourier transform of Sersic profiles of unit flux and half-light radius 1, and its slopes.

    Parameters
    ----------
    q2 : ndarray
        Squared frequency times squared radius.
    index : ndarray or float
        1, or an array that goes with q2.

    Returns
    -------
    tuple of ndarray
        The transform; its slope in q^2; its slope in the index.
    """
    if isinstance(index, float) and index == 1.0:
        base = 1 / (1 + q2 / EXPONENTIAL**2)
        value = base * np.sqrt(base)
        return value, -1.5 / EXPONENTIAL**2 * value * base, np.zeros(())
    spline, low, high = _table()
    logs = np.log(np.maximum(q2, 1e-12))
    inside = np.clip(logs, low, high)
    n = np.broadcast_to(index, q2.shape)
    rate = np.exp(spline.ev(n, inside))
    value = np.exp(-rate * q2)
    slope = np.where(logs == inside, spline.ev(n, inside, dy=1), 0.0)
    return value, -value * rate * (1 + slope), -value * rate * q2 * spline.ev(n, inside, dx=1)


def moffat_scale(fwhm: Any) -> Any:
    """Scale radius of the PSF, a Moffat profile of index `MOFFAT_BETA`."""
    return fwhm / (2 * np.sqrt(2 ** (1 / MOFFAT_BETA) - 1))


def moffat_transform(fwhm: Floats, k: Floats) -> Floats:
    """Fourier transform of the PSF: exp(-x) (1 + x + x^2 / 3) at x = scale k, for the index 3.5."""
    x = moffat_scale(fwhm) * k
    return np.asarray(np.exp(-x) * (1 + x + x**2 / 3))
