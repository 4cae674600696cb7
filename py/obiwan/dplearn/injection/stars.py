"""Empirical PSF of a coadd, a stack of the brick's point sources; the Moffat profile of equal noise area."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from obiwan.dplearn.injection.resampling import ORDER, interpolate
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.cutouts import centre_pixel, stamp_inside
from obiwan.dplearn.survey.rendering import FWHM
from obiwan.dplearn.survey.sources import Sources

SIZE = 63  #: pixels on a side of a PSF image, as of the PSFEx models of DECam
LEAST_STARS = 3
LEAST_SNR = 50.0  #: of a star that is stacked
ISOLATION = 5.0  #: arcsec to the next source of at least `FAINT` of a star's flux
FAINT = 0.02
MOFFAT_INDEX = 3.0
_CORE = 21  # pixels on a side that must be observed
_CLIP, _RING = 5.0, 3.0  # standard deviations: of a pixel of a star; of the mean light at a radius


def moffat(scaling: float, index: float) -> Array:
    """Moffat profile of unit sum on the grid of a PSF image: (1 + r^2 scaling)^-index at r pixels."""
    v, u = np.mgrid[-(SIZE // 2) : SIZE // 2 + 1, -(SIZE // 2) : SIZE // 2 + 1]
    image = (1 + (u**2 + v**2) * scaling) ** -index
    return np.asarray(image / image.sum())


def moffat_image(fwhm: float) -> Array:
    """Moffat profile whose noise area is that of a Gaussian of a FWHM in pixels, as ``psfsize`` is defined.

    The noise area 1 / integral(psf^2) is 4 pi sigma^2 for a Gaussian, and pi a^2 (2 b - 1) / (b - 1)^2 for a
    Moffat profile of index b and scale a.
    """
    sigma, index = fwhm / FWHM, MOFFAT_INDEX
    scale2 = 4 * sigma**2 * (index - 1) ** 2 / (2 * index - 1)
    return moffat(1 / scale2, index)


def good_stars(sources: Sources, band: str, x: Array, y: Array, pixel_scale: float) -> Array:
    """Rows of isolated, unmasked point sources with a signal-to-noise ratio of at least `LEAST_SNR`.

    Parameters
    ----------
    sources : Sources
        Of a tractor catalogue.
    band : str
    x, y : ndarray, shape (n,)
        Their pixels.
    pixel_scale : float
        Arcseconds per pixel.
    """
    flux = sources.of_band("flux", band)
    with np.errstate(invalid="ignore"):
        snr = flux * np.sqrt(sources.of_band("flux_ivar", band))
    rows = np.flatnonzero((sources.type == "PSF") & (sources.maskbits == 0) & (snr > LEAST_SNR))
    near = cKDTree(np.column_stack([x, y])).query_ball_point(
        np.column_stack([x, y])[rows], ISOLATION / pixel_scale
    )
    alone = [(flux[beside] > FAINT * flux[row]).sum() == 1 for row, beside in zip(rows, near, strict=True)]
    return np.asarray(rows[np.array(alone, bool)])


def stack(
    image: Array, invvar: Array, x: Array, y: Array, flux: Array, others: Array
) -> tuple[Array, int] | None:
    """PSF image from stars: the weighted mean of their pixels over their fluxes, in the wings by radius.

    Parameters
    ----------
    image, invvar : ndarray, shape (ny, nx)
    x, y, flux : ndarray, shape (n,)
        Positions and fluxes of the stars.
    others : ndarray, shape (m, 2)
        Positions of all sources: pixels that are nearer to another one are left out.

    Returns
    -------
    tuple or None
        Image of shape (`SIZE`, `SIZE`) and the number of stars; None if there are too few.
    """
    tree, found = cKDTree(others), []
    for one in np.flatnonzero(stamp_inside(x, y, image.shape, SIZE)):
        cx, cy = int(centre_pixel(x[one])), int(centre_pixel(y[one]))
        cut = slice(cy - SIZE // 2, cy + SIZE // 2 + 1), slice(cx - SIZE // 2, cx + SIZE // 2 + 1)
        v, u = np.mgrid[cut]
        own = np.hypot(u - x[one], v - y[one])
        weight = np.where(
            tree.query(np.column_stack([u.ravel(), v.ravel()]))[0].reshape(own.shape) < own - 0.5,
            0,
            invvar[cut],
        )
        inner = slice(SIZE // 2 - _CORE // 2, SIZE // 2 + _CORE // 2 + 1)
        if (invvar[cut][inner, inner] <= 0).any():
            continue
        moved = np.arange(SIZE) + y[one] - cy, np.arange(SIZE) + x[one] - cx
        usable = interpolate((weight <= 0).astype(float), *moved) < 0.01
        usable[:ORDER] = usable[-ORDER:] = usable[:, :ORDER] = usable[:, -ORDER:] = False
        shifted = interpolate(np.where(weight > 0, image[cut], 0), *moved)
        sky = float(np.median(invvar[cut][invvar[cut] > 0]))
        found.append((shifted / flux[one], usable * flux[one] ** 2 * sky))
    if len(found) < LEAST_STARS:
        return None
    values, weights = (np.array(part) for part in zip(*found, strict=True))
    unseen = weights.sum(0) == 0
    middle = np.nanmedian(np.where((weights > 0) | unseen, values, np.nan), axis=0)
    weights *= (values - middle) ** 2 * weights < _CLIP**2 + (0.1 * middle) ** 2 * weights
    total = weights.sum(0)
    mean = np.divide((values * weights).sum(0), total, out=np.zeros_like(total), where=total > 0)
    return _smooth_wings(mean, total), len(found)


def _smooth_wings(mean: Array, weight: Array) -> Array:
    """Replace what lies beyond twice the width by its mean at that radius, where single pixels are noise."""
    v, u = np.mgrid[-(SIZE // 2) : SIZE // 2 + 1, -(SIZE // 2) : SIZE // 2 + 1]
    radius = np.hypot(u, v)
    ring = np.rint(radius).astype(int)
    total = np.maximum(np.bincount(ring.ravel(), weight.ravel()), 1e-30)
    profile = np.bincount(ring.ravel(), (mean * weight).ravel()) / total
    # Where a ring is no longer significant, what is left is sky and faint sources.
    seen = (profile > _RING * total**-0.5) & (np.arange(len(profile)) <= SIZE // 2 - ORDER)
    profile *= np.cumprod(seen)
    half = int(np.argmax(profile < profile[0] / 2))  # half the FWHM
    wings = np.interp(radius, np.arange(len(profile)), profile)
    blend = np.clip((radius - 3 * half) / half, 0, 1)
    return np.asarray((1 - blend) * mean + blend * wings)
