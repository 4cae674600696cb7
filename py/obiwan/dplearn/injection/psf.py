"""PSF of a coadd at a source, exposure by exposure where they are known, from the best that there is.

The kinds, in the order in which ``auto`` takes them: ``copsf`` images among the release's coadds; ``psfex``,
the models of the exposures, resampled to the coadd's grid; ``stars``, a stack of the brick's point sources;
``moffat``, a profile with the noise area of ``psfsize``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.errors import CatalogError, CoaddError, explained
from obiwan.dplearn.injection.config import AUTO, PSF_KINDS, is_function
from obiwan.dplearn.injection.exposures import Exposure
from obiwan.dplearn.injection.light import psf_transform
from obiwan.dplearn.injection.psfex import PsfexModel, find_psfex, read_psfex
from obiwan.dplearn.injection.resampling import resample
from obiwan.dplearn.injection.scene import Scene
from obiwan.dplearn.injection.stars import SIZE, good_stars, moffat_image, stack
from obiwan.dplearn.running.functions import load_function
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.coadds import read_plane

_REMEDY = "choose another --psf, or leave the brick out with --bricks"


@dataclass(frozen=True)
class PsfexLayer:
    """PSF of one exposure on a coadd's grid: a polynomial whose terms are images.

    Attributes
    ----------
    model : PsfexModel
    basis : ndarray, shape (terms, n, n)
        Resampled to the coadd.
    light : float
        Sum of the PSF on the coadd: the area of a CCD pixel on the sky over that by the header, by which the
        pipeline scales surface brightness.
    """

    model: PsfexModel
    basis: Array
    light: float

    def at(self, x: float, y: float) -> Array:
        """PSF image at a CCD position."""
        image = np.tensordot(self.model.terms(x, y), self.basis, 1)
        return np.asarray(image * (self.light / image.sum()))


@dataclass(frozen=True)
class BandPsf:
    """PSF of one band of a brick.

    Attributes
    ----------
    kind : str
        One of `PSF_KINDS`, or the user's ``module:function``.
    rests_on : int or None
        How many exposures' models or stars it comes from.
    layers : tuple of PsfexLayer
        One an exposure; empty where all exposures share one image.
    image : ndarray or None, shape (n, n)
        The PSF everywhere in the brick.
    function : callable or None
        Of the user: PSF image at a position (x, y).
    """

    kind: str
    rests_on: int | None = None
    layers: tuple[PsfexLayer, ...] = ()
    image: Array | None = None
    function: Callable[[float, float], Array] | None = None
    _transforms: dict[int, Array] = field(default_factory=dict, compare=False)

    def transform(self, psf: Array, size: int) -> Array:
        """Transform of a PSF image on a grid; that of the image of the whole brick is made once."""
        if psf is not self.image:
            return psf_transform(psf, size)
        if size not in self._transforms:
            self._transforms[size] = psf_transform(psf, size)
        return self._transforms[size]

    def at(self, x: float, y: float, exposures: Array, positions: Array) -> list[Array]:
        """PSF images at a source.

        Parameters
        ----------
        x, y : float
            Coadd pixels.
        exposures : ndarray of int, shape (k,)
            Which exposures have the source.
        positions : ndarray, shape (k, 2)
            On their CCDs.

        Returns
        -------
        list of ndarray, shape (n, n)
            One an exposure; a single one where they do not differ.
        """
        if self.layers:
            return [self.layers[i].at(*place) for i, place in zip(exposures, positions, strict=True)]
        if self.function is not None:
            return [self.function(x, y)]
        return [] if self.image is None else [self.image]


@dataclass(frozen=True)
class PsfRequest:
    """Request for the PSF of a band: files of one brick, and options.

    Attributes
    ----------
    label : str
        How messages name brick and band.
    scene : Scene
    band : str
    pixel_scale : float
        Of the coadd, arcsec.
    exposures : tuple of Exposure
    calib : Path or None
        Directory of calibrations.
    image, invvar : ndarray
        Planes of the release.
    """

    label: str
    scene: Scene
    band: str
    pixel_scale: float
    exposures: tuple[Exposure, ...]
    calib: Path | None
    image: Array
    invvar: Array


def _copsf(request: PsfRequest) -> BandPsf | None:
    """The release's own image of the coadd's PSF."""
    run = request.scene.run
    if not run.has_map("copsf", request.band):
        return None
    image = read_plane(run, "copsf", request.band)
    return BandPsf("copsf", image=_checked(image, f"{request.label}: {run.plane('copsf', request.band)}"))


def _checked(image: Array, what: str) -> Array:
    """A PSF image of unit sum, or an error that says what it is."""
    image = np.asarray(image, float)
    square = image.ndim == 2 and image.shape[0] == image.shape[1] and image.shape[0] % 2 == 1
    if not (square and np.isfinite(image).all() and image.sum() > 0):
        needs = "a PSF image is square, of an odd number of finite pixels"
        msg = f"{what}: shape {image.shape}, but {needs}; {_REMEDY}"
        raise CoaddError(msg)
    return np.asarray(image / image.sum())


def _psfex(request: PsfRequest, *, needed: bool) -> BandPsf | None:
    """PSFEx models of all exposures of the band."""
    exposures, calib = request.exposures, request.calib
    if not exposures or calib is None:
        if needed:
            lacking = (
                "no --calib was given"
                if calib is None
                else "its CCD table has no exposure with zero point and psfnorm"
            )
            msg = f"{request.label}: --psf psfex needs calibrations and exposures, but {lacking}; {_REMEDY}"
            raise CoaddError(msg)
        return None
    if not needed and not all(find_psfex(calib, one) for one in exposures):
        return None
    layers = tuple(_layer(request, one, read_psfex(calib, one)) for one in exposures)
    size = max(layer.basis.shape[-1] for layer in layers)
    return BandPsf("psfex", len(layers), tuple(_padded(layer, size) for layer in layers))


def _layer(request: PsfRequest, exposure: Exposure, model: PsfexModel) -> PsfexLayer:
    """A model on the coadd's grid, by the map between the grids at the middle of what they share."""
    ny, nx = request.scene.frame.shape
    height, width = exposure.shape
    corners = np.array([(0, 0), (nx - 1, 0), (0, ny - 1), (nx - 1, ny - 1)], float)
    on_ccd = exposure.pixels(*request.scene.frame.wcs.all_pix2world(corners, 0).T)
    # Corners of the brick on the CCD, kept on it: their mean lies in both.
    middle = np.clip(on_ccd, 0, (width - 1, height - 1)).mean(0)
    coadd = (middle - on_ccd.mean(0)) @ np.linalg.inv(_jacobian(request, exposure, (nx / 2, ny / 2))).T + (
        nx / 2,
        ny / 2,
    )
    jacobian = _jacobian(request, exposure, tuple(coadd)) / np.sqrt(exposure.distortion(middle))
    basis = resample(model.basis, jacobian / model.sampling, SIZE)
    return PsfexLayer(model, basis, exposure.scaling(request.pixel_scale) / abs(np.linalg.det(jacobian)))


def _jacobian(request: PsfRequest, exposure: Exposure, at: tuple[float, float]) -> Array:
    """CCD pixels (x, y) per coadd pixel at a coadd position."""
    x, y = at
    around = np.array([(x + 0.5, y), (x - 0.5, y), (x, y + 0.5), (x, y - 0.5)])
    on_ccd = exposure.pixels(*request.scene.frame.wcs.all_pix2world(around, 0).T)
    return np.stack([on_ccd[0] - on_ccd[1], on_ccd[2] - on_ccd[3]], -1)


def _padded(layer: PsfexLayer, size: int) -> PsfexLayer:
    pad = (size - layer.basis.shape[-1]) // 2
    return PsfexLayer(layer.model, np.pad(layer.basis, ((0, 0), (pad, pad), (pad, pad))), layer.light)


def _stars(request: PsfRequest, *, needed: bool) -> BandPsf | None:
    """Stack of the brick's point sources; None, or an error where it is `needed`, if they are too few."""
    found, sources = None, request.scene.catalog
    if sources is not None and len(sources):
        x, y = request.scene.frame.pixels(sources.ra, sources.dec)
        rows = good_stars(sources, request.band, x, y, request.pixel_scale)
        flux = sources.of_band("flux", request.band)
        places = np.column_stack([x, y])
        found = stack(request.image, request.invvar, x[rows], y[rows], flux[rows], places)
    if found is not None:
        return BandPsf("stars", found[1], image=found[0])
    if needed:
        msg = f"{request.label}: too few isolated point sources of high signal for --psf stars; {_REMEDY}"
        raise CatalogError(msg)
    return None


def _moffat(request: PsfRequest) -> BandPsf:
    """Moffat profile with the noise area of the release's ``psfsize``."""
    width = request.scene.psfsize(request.band)
    if width is None:
        msg = f"{request.label}: neither plane nor catalogue has a psfsize, the width of the PSF; {_REMEDY}"
        raise CoaddError(msg)
    return BandPsf("moffat", image=moffat_image(width / request.pixel_scale))


def _users(request: PsfRequest, word: str) -> BandPsf:
    """The user's function, called as ``function(brick, band, x, y)``."""
    function: Any = load_function(word, "--psf")

    def at(x: float, y: float) -> Array:
        what = f"--psf {word}: {request.label}, x {x:.1f}, y {y:.1f}"
        with explained(what, "correct the function", CoaddError):
            image = np.asarray(function(request.scene.run.brick, request.band, x, y), float)
        return _checked(image, what)

    return BandPsf(word, function=at)


def choose_psf(request: PsfRequest, word: str) -> BandPsf:
    """The PSF of one band of a brick.

    Parameters
    ----------
    request : PsfRequest
    word : str
        One of `PSF_KINDS`, ``auto`` or ``module:function``.

    Raises
    ------
    CoaddError, CatalogError
        If that kind cannot be had, or a file is damaged or of another release.
    """
    if is_function(word):
        return _users(request, word)
    needed = word != AUTO
    makers: dict[str, Callable[[], BandPsf | None]] = {
        "copsf": partial(_copsf, request),
        "psfex": partial(_psfex, request, needed=needed),
        "stars": partial(_stars, request, needed=needed),
        "moffat": partial(_moffat, request),
    }
    for kind in PSF_KINDS if word == AUTO else (word,):
        if (found := makers[kind]()) is not None:
            return found
    msg = f"{request.label}: the release has no copsf image; {_REMEDY}"
    raise CoaddError(msg)
