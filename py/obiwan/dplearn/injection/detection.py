"""Detection and measurement of all sources of a coadd with sep, the Source Extractor library.

One catalogue for both classes: every source, injected or real, is found, centred and measured by the same
calls.  Detection is on the sum of the bands' images in units of their noise; apertures and sizes are measured
on the sum with one weight a band, in which a star has the same profile whatever its flux.  There is no
fit and no type.

Sources of the parameters: a comparison with tractor catalogues of real regions (threshold 5 and at least 3
pixels; cleaning loses most sources of such a sum); aperture and minimum radius of Source Extractor's manual
(``MAG_AUTO``).  The window of positions (``XWIN_IMAGE``) is as wide as the PSF: one that follows the source
wanders with its Kron radius, by half a pixel for faint ones where invvar is merely quantised anew.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from obiwan.dplearn.errors import CoaddError, DplearnError, explained
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.rendering import FWHM

THRESHOLD, LEAST_AREA = 5.0, 3  #: sigma of a pixel of the sum, and pixels above it
KRON_FACTOR, KRON_LEAST = 2.5, 3.5  #: of ``flux_auto``: times the Kron radius; not less than this (pixels)
_KRON_SEARCH = 6.0  # of Source Extractor, in units of the ellipse
_STRAYED = 3.0  # pixels from the detected position, beyond which a windowed one is not believed
_GROWTH = 3.0  # times the Kron ellipse: how far the radius of half the light is looked for
_PIXSTACK, _SUBOBJECTS = (300_000, 10_000_000), 8192  # of sep: active pixels, and pieces of one blend

Plane = Callable[[str, str], Array]  # kind and band to pixels


def measure(read: Plane, bands: Sequence[str], fwhm: float, what: str) -> tuple[Array, Array, Array]:
    """Find and measure the sources of a coadd.

    Parameters
    ----------
    read : callable
        ``read(kind, band)`` gives the pixels of ``image`` and ``invvar``, float32 of shape (ny, nx).
    bands : sequence of str
    fwhm : float
        Of the PSF (pixels): as wide is the window in which positions are measured.
    what : str
        How messages name the coadd.

    Returns
    -------
    sources : ndarray
        Columns x, y (0-based pixels), a, b, theta (pixels; from +x to +y), radius (pixels, of half the
        light), snr (of the brightest pixel in the sum of the bands), flag (of sep).
    flux, flux_ivar : ndarray, shape (n, bands)
        Nanomaggies in one ellipse for all bands, and the inverse of their variance; 0 where nothing was
        observed.

    Raises
    ------
    CoaddError
        If sep cannot take the image apart.
    DplearnError
        If sep is not installed.
    """
    sep = require_sep()
    images, weights = [], []
    for band in bands:
        image, ivar = read("image", band), read("invvar", band)
        good = (ivar > 0) & np.isfinite(ivar) & np.isfinite(image)
        images.append(np.where(good, image, np.float32(0)))
        weights.append(np.where(good, ivar, np.float32(0)))
    total, err, light, blank = summed(images, weights)
    sep.set_extract_pixstack(int(np.clip(total.size, *_PIXSTACK)))
    sep.set_sub_object_limit(_SUBOBJECTS)
    with explained(f"{what}: sep cannot find sources", "leave the brick out with --bricks", CoaddError):
        # err is an array: a number would turn the matched filter into a convolution.
        found = sep.extract(total, THRESHOLD, err=err, mask=blank, minarea=LEAST_AREA, clean=False)
        return _measured(sep, found, light, blank, images, weights, fwhm)


def require_sep() -> Any:
    """The module ``sep``, which only an extra installs.

    Raises
    ------
    DplearnError
        If it is not there.
    """
    try:
        return importlib.import_module("sep")
    except ImportError as error:
        msg = f"the catalogue of injected coadds needs sep: pip install 'obiwan-dplearn[inject]' ({error})"
        raise DplearnError(msg) from error


def summed(images: Sequence[Array], weights: Sequence[Array]) -> tuple[Array, Array, Array, Array]:
    """Sums of the bands that sources are found and measured on.

    Parameters
    ----------
    images, weights : sequence of ndarray, shape (ny, nx)
        Nanomaggies, and inverse variances, 0 where nothing was observed.

    Returns
    -------
    total : ndarray
        Sum of image over noise, pixel by pixel.
    err : ndarray
        Its noise: the root of the number of bands.
    light : ndarray
        Sum of the images, each over the median noise of its band.
    blank : ndarray of bool
        Pixels that no band observed.
    """
    total, light = np.zeros((2, *images[0].shape), np.float32)
    number = np.zeros(images[0].shape, np.float32)
    for image, ivar in zip(images, weights, strict=True):
        seen = ivar > 0
        if seen.any():
            total += image * np.sqrt(ivar)
            light += image * np.float32(np.sqrt(np.median(ivar[seen])))
            number += seen
    return total, np.sqrt(np.maximum(number, 1)), light, number == 0


def _measured(
    sep: Any,
    found: Array,
    light: Array,
    blank: Array,
    images: Sequence[Array],
    weights: Sequence[Array],
    fwhm: float,
) -> tuple[Array, Array, Array]:
    """Positions, radii and fluxes of what was found."""
    names = ("x", "y", "a", "b", "theta", "radius", "snr")
    rows = np.zeros(len(found), dtype=[*((name, "f8") for name in names), ("flag", "i4")])
    flux, ivar = np.zeros((2, len(found), len(images)))
    if not len(found):
        return rows, flux, ivar
    for name in ("x", "y", "a", "b", "flag"):
        rows[name] = found[name]
    rows["theta"] = np.clip(found["theta"], -np.pi / 2, np.pi / 2)  # of single precision: a hair beyond
    rows["b"] = np.maximum(rows["b"], 1e-3 * rows["a"])
    rows["snr"] = found["peak"]
    ellipse = [rows[name] for name in ("x", "y", "a", "b", "theta")]
    kron, _ = sep.kron_radius(light, *ellipse, _KRON_SEARCH, mask=blank)
    kron = np.where(np.isfinite(kron), KRON_FACTOR * kron, 0)
    stretch = np.sqrt(rows["a"] * rows["b"])
    kron = np.maximum(kron, KRON_LEAST / stretch)
    for k, (image, weight) in enumerate(zip(images, weights, strict=True)):
        seen = weight > 0
        sigma = np.where(seen, 1 / np.sqrt(np.where(seen, weight, 1)), np.float32(0))
        value, error, _ = sep.sum_ellipse(image, *ellipse, kron, err=sigma, mask=~seen)
        known = (error > 0) & np.isfinite(value)
        flux[:, k] = np.where(known, value, 0)
        ivar[:, k] = np.where(known, 1 / np.where(known, error, 1) ** 2, 0)
    all_light, _, _ = sep.sum_ellipse(light, *ellipse, kron, mask=blank)
    radius, _ = sep.flux_radius(
        light, rows["x"], rows["y"], _GROWTH * kron * stretch, 0.5, normflux=all_light, mask=blank, subpix=5
    )
    rows["radius"] = np.where(np.isfinite(radius) & (radius > 0), radius, stretch)
    x, y, _ = sep.winpos(light, rows["x"], rows["y"], fwhm / FWHM, mask=blank)
    kept = (np.hypot(x - rows["x"], y - rows["y"]) < _STRAYED) & np.isfinite(x + y)
    rows["x"], rows["y"] = np.where(kept, x, rows["x"]), np.where(kept, y, rows["y"])
    return rows, flux, ivar
