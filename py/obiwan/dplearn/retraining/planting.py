"""Planting in stamps: what is added to the pixels of an example so that its galaxy is another.

To the image planes ``changed model - model`` is added, two noiseless renderings of the galaxy that the
catalogue has fitted.  The pixels themselves are never interpolated, convolved or rescaled: a network would
find their smoothing.  The inverse variances stay as they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.cutouts import centre_pixel
from obiwan.dplearn.survey.differences import SERSIC_RANGE, Difference
from obiwan.dplearn.survey.rendering import Galaxy, render

LARGEST = 4.0  #: half-light radius (arcsec): a quarter of a documented stamp
THINNEST = 0.8  #: ellipticity: an axis ratio of 1 : 9
FOLDING = 0.02  #: of `render`: the transforms of large galaxies of high index would take gigabytes with less
SERSIC_STEP = 0.1  #: to which fitted indices are rounded: GalSim makes a table of 0.1 s for each index


def _point_sources(rows: Array) -> NDArray[np.bool_]:
    return np.asarray(np.char.strip(rows["type"]) == b"PSF")


def galaxies_known(rows: Array, spec: StampSpec) -> NDArray[np.bool_]:
    """Which rows of an example table have all that a rendering needs, by the same rule for both classes.

    Parameters
    ----------
    rows : structured ndarray, shape (n,)
    spec : StampSpec

    Returns
    -------
    ndarray of bool, shape (n,)
        Position, flux and PSF width in every band and, unless it is a point source, size (up to `LARGEST`),
        shape (up to `THINNEST`) and index; the composite profiles of releases before DR9 have no single one.
    """
    flux, fwhm = spec.per_band(rows, "flux"), spec.per_band(rows, "psfsize")
    known = np.isfinite(rows["x"]) & np.isfinite(rows["y"]) & np.isfinite(flux + fwhm).all(axis=-1)
    with np.errstate(invalid="ignore"):
        known &= (fwhm > 0).all(axis=-1)
        shape = (rows["shape_r"] >= 0) & (rows["shape_r"] <= LARGEST) & (rows["sersic"] >= 0)
        shape &= np.hypot(rows["e1"], rows["e2"]) <= THINNEST
    return np.asarray(known & (shape | _point_sources(rows)))


def galaxy_of(row: Any, spec: StampSpec) -> Galaxy:
    """The model of a row for which `galaxies_known`, on its stamp."""
    flux, fwhm = (tuple(float(row[c]) for c in spec.columns(name)) for name in ("flux", "psfsize"))
    x, y = (float(row[name] - centre_pixel(row[name]) + spec.centre) for name in ("x", "y"))
    if row["type"].strip() == b"PSF":
        return Galaxy(flux, fwhm, x, y)
    sersic = round(float(row["sersic"]) / SERSIC_STEP) * SERSIC_STEP
    if row["sersic"] > 0:
        sersic = round(min(max(sersic, SERSIC_RANGE[0]), SERSIC_RANGE[1]), 6)
    return Galaxy(flux, fwhm, x, y, float(row["shape_r"]), sersic, float(row["e1"]), float(row["e2"]))


def model_of(galaxy: Galaxy, spec: StampSpec) -> Array:
    """Noiseless images of a galaxy on a stamp, shape (size, size, bands), nanomaggies per pixel."""
    return render(galaxy, spec.size, spec.pixel_scale, folding=FOLDING)


def planted(galaxy: Galaxy, difference: Difference, spec: StampSpec) -> NDArray[np.float32]:
    """Changed model less model: what is added to the images of an example.

    Returns
    -------
    ndarray of float32, shape (size, size, bands)
        Nanomaggies per pixel.
    """
    changed = difference.apply(galaxy)
    if replace(changed, flux=galaxy.flux) == galaxy:  # one shape with two fluxes: one rendering tells both
        fluxes = zip(changed.flux, galaxy.flux, strict=True)
        added = model_of(replace(galaxy, flux=tuple(after - before for after, before in fluxes)), spec)
    else:
        added = model_of(changed, spec) - model_of(galaxy, spec)
    return np.asarray(added, np.float32)


def plant_in(x: Array, changed: NDArray[np.bool_], added: Array, spec: StampSpec) -> Array:
    """Add the differences to the stamps of the changed half, in place.

    Parameters
    ----------
    x : ndarray, shape (n, size, size, channels)
        Stamps.
    changed : ndarray of bool, shape (n,)
        Which.
    added : ndarray, shape (m, size, size, bands)
        What is added to these, in order.
    spec : StampSpec

    Returns
    -------
    ndarray
        `x`.  Pixels without data stay as they are: those of inverse variance 0 or, where there are no inverse
        variances, those that are 0, as beyond the edge of a coadd.
    """
    for row, addition in zip(np.flatnonzero(changed), added, strict=True):
        image, ivar = spec.image(x[row]), spec.ivar(x[row])
        image += np.where(image != 0 if ivar is None else ivar > 0, addition, 0)
    return x
