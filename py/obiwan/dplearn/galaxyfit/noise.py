"""Pixels of stamps as a fit needs them: images, inverse variances and the noise of the surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from obiwan.dplearn.galaxyfit.model import Grid
from obiwan.dplearn.stampspec import Array, StampSpec

INNER, OUTER = 16.0, 26.0  #: radii of the ring that stands for the surroundings (px)
MOST_SIGMAS = 1e8  #: an image value beyond so many times its noise is damage
MOST_IVAR = 1e16  #: and so is an inverse variance beyond this (1/nanomaggies^2)
_MAD = 1.4826  #: standard deviation of a Gaussian in units of its median absolute deviation


@dataclass(frozen=True)
class Pixels:
    """Pixels of n stamps in all bands; weights are 0 where there are no data.

    Attributes
    ----------
    image, weight : ndarray of float32, shape (n, bands, pixels)
        Of the fitted pixels (`obiwan.dplearn.galaxyfit.model.Grid`): nanomaggies, 1/nanomaggies^2.
    ring_ivar : ndarray of float32, shape (n, bands)
        Median inverse variance of the ring; that of the fitted pixels where the ring has no data, else 1.
    ring_image : ndarray of float32, shape (n, bands)
        Median of the ring's image; 0 where it has no data.
    """

    image: Array
    weight: Array
    ring_ivar: Array
    ring_image: Array


@cache
def _ring(size: int) -> Array:
    """Flat indices of the ring's pixels; narrower in small stamps."""
    line = np.arange(size) - size // 2
    radius = np.hypot(line[:, None], line)
    return np.flatnonzero((radius >= min(INNER, size // 2 - 2)) & (radius <= OUTER))


def lower_median(values: Array, valid: Array) -> Array:
    """Lower median along the last axis of what is valid; NaN where nothing is."""
    ordered = np.sort(np.where(valid, values, np.float32(np.nan)), axis=-1)  # NaN last
    middle = np.maximum(valid.sum(-1) - 1, 0) // 2
    return np.asarray(np.take_along_axis(ordered, middle[..., None], -1)[..., 0], np.float32)


def ivar_of_sky(image: Array, ring: Array) -> Array:
    """Inverse variances of images without ivar planes, from the scatter of a ring.

    Parameters
    ----------
    image : ndarray of float32, shape (n, bands, size, size)
    ring : ndarray of int
        Flat indices of the ring's pixels.

    Returns
    -------
    ndarray of float32, shape (n, bands, size, size)
        Inverse square of 1.4826 times the median absolute deviation; 0 where the image is exactly 0, which is
        where there are no data.
    """
    values = image.reshape(*image.shape[:2], -1)[..., ring]
    valid = values != 0
    deviation = np.abs(values - lower_median(values, valid)[..., None])
    with np.errstate(divide="ignore"):
        ivar = (_MAD * lower_median(deviation, valid)) ** -2
    ivar = np.nan_to_num(ivar, posinf=0.0)[..., None, None]
    return np.where(image != 0, ivar, np.float32(0)).astype(np.float32)


def pixels_of(stamps: Array, spec: StampSpec) -> Pixels:
    """Pixels of stamps, shape (n, size, size, channels), for the fit.

    Without weight is what has no inverse variance, is not finite, or is beyond `MOST_SIGMAS` or
    `MOST_IVAR`.
    """
    grid, ring, bands = Grid.of(spec.size), _ring(spec.size), len(spec.bands)
    planes = np.ascontiguousarray(np.moveaxis(stamps, -1, 1), dtype=np.float32)
    image = planes[:, :bands]
    weight = planes[:, bands:] if spec.has_ivar else ivar_of_sky(image, ring)
    inner_image, inner_weight = _usable(*(part[..., grid.box, grid.box] for part in (image, weight)))
    flat_image, flat_weight = (part.reshape(*part.shape[:2], -1)[..., ring] for part in (image, weight))
    ring_image, ring_weight = _usable(flat_image, flat_weight)
    known = ring_weight > 0
    ivar = lower_median(ring_weight, known)
    ivar = np.where(np.isnan(ivar), lower_median(inner_weight, inner_weight > 0), ivar)
    return Pixels(
        image=inner_image,
        weight=inner_weight,
        ring_ivar=np.nan_to_num(ivar, nan=1.0),
        ring_image=np.nan_to_num(lower_median(ring_image, known)),
    )


def _usable(image: Array, weight: Array) -> tuple[Array, Array]:
    """Image and weight, shape (n, bands, pixels), with 0 in both where the pixel cannot be used."""
    image, weight = (part.reshape(*part.shape[:2], -1) for part in (image, weight))
    with np.errstate(invalid="ignore", over="ignore"):
        usable = (weight > 0) & (np.abs(image) * np.sqrt(weight) < MOST_SIGMAS)  # false for NaN
    usable &= weight < MOST_IVAR
    return np.where(usable, image, np.float32(0)), np.where(usable, weight, np.float32(0))
