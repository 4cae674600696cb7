"""Photon noise and inverse variances of injected light, exposure by exposure.

The variance of an exposure's pixel is s / n2e for s nanomaggies and n2e electrons per nanomaggy; on the coadd
it is L sb / n2e with L = sb s.  Adding it to each exposure's part of the inverse variance, f_i invvar, gives
invvar' = sum_i 1 / (1 / (f_i invvar) + L_i sb_i / n2e_i).
"""

from __future__ import annotations

import numpy as np

from obiwan.dplearn.injection.resampling import ORDER, interpolate
from obiwan.dplearn.stampspec import Array

_TILE = 50  # pixels on a side of the areas within which the sky noise is taken for constant
# Standard deviations of the sky noise: of pixels whose noise tells the gain; the second where these are few
_BRIGHT = (10.0, 5.0)
_LEAST = 30  # such pixels
_FEW = 0.01  # photons expected in a pixel, below which they are left out: less than 1e-4 of the sky's noise


def photon_noise(rng: np.random.Generator, light: Array, scaling: float, electrons: float) -> Array:
    """Photon noise of light in one exposure, resampled to the coadd as the pipeline resamples.

    Pixels in which hardly a photon is expected have none.  The pixels of the CCD lie at random offsets on the
    coadd's grid, along whose axes they are taken to be.

    Parameters
    ----------
    rng : Generator
    light : ndarray, shape (ny, nx)
        Noiseless light on the coadd's grid (nanomaggies per pixel).
    scaling : float
        Area of a coadd pixel over that of a CCD pixel.
    electrons : float
        Per nanomaggy.

    Returns
    -------
    ndarray, shape (ny, nx)
    """
    seen = light > _FEW * scaling / electrons
    lines, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
    noise = np.zeros(light.shape, np.float32)
    if len(lines):
        box = slice(lines[0], lines[-1] + 1), slice(columns[0], columns[-1] + 1)
        noise[box] = _resampled_photons(rng, light[box], scaling, electrons)
    return noise


def _resampled_photons(rng: np.random.Generator, light: Array, scaling: float, electrons: float) -> Array:
    """Photons of every pixel less those expected, resampled to the coadd."""
    step = scaling**-0.5  # coadd pixels per CCD pixel
    starts = [(phase - ORDER) * step for phase in rng.random(2)]
    on_coadd = [
        start + step * np.arange(int(np.ceil(n / step)) + 2 * ORDER)
        for start, n in zip(starts, light.shape, strict=True)
    ]
    on_ccd = [(np.arange(n) - start) / step for start, n in zip(starts, light.shape, strict=True)]
    expected = np.maximum(interpolate(light, *on_coadd), 0) * (electrons / scaling)
    photons = rng.poisson(expected) - expected
    return interpolate(photons, *on_ccd) * (scaling / electrons)


def photons_on_grid(rng: np.random.Generator, light: Array, electrons: float) -> Array:
    """Photon noise of light on the coadd's own grid, independent in each pixel, as its invvar states it.

    For coadds of which nothing tells how they were resampled.  Where nothing was observed, which gives an
    infinite number of electrons per nanomaggy, there is none.
    """
    if not np.isfinite(electrons):
        return np.zeros_like(light)
    expected = np.maximum(light, 0) * electrons
    return np.asarray((rng.poisson(expected) - expected) / electrons)


def invvar_of(sky: Array, light: Array, fraction: float, variance: float) -> Array:
    """Inverse variance of one exposure's part of a coadd, with the photon noise of added light.

    Parameters
    ----------
    sky : ndarray
        Variance of the coadd before; infinite where masked.
    light : ndarray
        Noiseless, in this exposure.
    fraction : float
        Of the coadd's weight, that of the exposure.
    variance : float
        sb / n2e: variance of a coadd pixel per nanomaggy.
    """
    return np.asarray(1 / (sky / fraction + np.maximum(light, 0) * variance))


def fit_electrons(image: Array, invvar: Array) -> float | None:
    """Nanomaggies per pixel at which photon noise equals the sky's, from the noise of bright pixels.

    Where all exposures of a pixel are alike, 1 / invvar = v (1 + image / m), with v the variance of the sky:
    m = v n2e does not depend on their number.  Both are fitted, tile by tile; m is the median of tiles,
    weighted by their light, for the number of exposures changes within some of them.

    Returns
    -------
    float or None
        m; None where too few pixels are bright.
    """
    found = (_fit_beyond(image, invvar, bright) for bright in _BRIGHT)
    return next((one for one in found if one is not None), None)


def _fit_beyond(image: Array, invvar: Array, least: float) -> float | None:
    """The fit with pixels that are brighter than so many standard deviations."""
    slopes, weights, count = [], [], 0
    for y in range(0, image.shape[0], _TILE):
        for x in range(0, image.shape[1], _TILE):
            cut = slice(y, y + _TILE), slice(x, x + _TILE)
            good = invvar[cut] > 0
            light, variance = image[cut][good].astype(float), 1 / invvar[cut][good].astype(float)
            if not len(light):
                continue
            sky = np.median(variance[light <= np.median(light)])
            bright = light > least * np.sqrt(sky)
            if bright.any():
                weights.append(float((light[bright] ** 2).sum()))
                slopes.append(float((light[bright] * (variance[bright] / sky - 1)).sum()) / weights[-1])
                count += int(bright.sum())
    if count < _LEAST:
        return None
    order = np.argsort(slopes)
    half = np.searchsorted(np.cumsum(np.array(weights)[order]), sum(weights) / 2)
    slope = slopes[order[half]]
    return 1 / slope if slope > 0 else None
