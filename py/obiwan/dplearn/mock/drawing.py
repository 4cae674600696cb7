"""Drawing of the mock survey: skies without objects, and objects painted into them as `inject` paints.

Real objects are painted into an empty sky, and injections into what results, by the code of
`obiwan.dplearn.injection.painting`: with its truncated profiles, photon noise and inverse variances.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from obiwan.dplearn.injection.models import sersic
from obiwan.dplearn.injection.painting import SATURATION_FILL, Band, paint
from obiwan.dplearn.injection.psf import BandPsf
from obiwan.dplearn.injection.stars import moffat
from obiwan.dplearn.mock.bricks import SATUR, Brick, Conditions, Exposure
from obiwan.dplearn.mock.config import PIXEL_SCALE
from obiwan.dplearn.mock.profiles import moffat_scale
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.coadds import Frame
from obiwan.dplearn.survey.cutouts import overlap
from obiwan.dplearn.survey.rendering import FWHM, MOFFAT_BETA

REACH = 64  #: pixels beyond a coadd's edge from which objects are drawn
SATURATION_RADIUS = 7.0


@dataclass(frozen=True)
class Observed:
    """One band of a brick, as objects are drawn in it.

    Attributes
    ----------
    seed : int
        Of the survey.
    brick : Brick
    conditions : Conditions
    band : int
        Index among the bands of the brick.
    """

    seed: int
    brick: Brick
    conditions: Conditions
    band: int

    @property
    def name(self) -> str:
        """Name of the band."""
        return self.brick.bands[self.band]

    @property
    def fwhm(self) -> float:
        """Width of the PSF (arcsec)."""
        return self.conditions.fwhm[self.band]

    @property
    def balance(self) -> float:
        """Nanomaggies per pixel whose photon noise is that of the sky."""
        at = self.conditions
        return at.sigma[self.band] ** 2 * at.gain[self.band] * at.nobs[self.band]


def saturate(exposure: Exposure, objects: Array) -> None:
    """Set, in place, the saturation bit in the cores of saturated stars."""
    size = exposure.mask.shape[0]
    for row in objects[objects["saturated"]]:
        yy, xx = np.ogrid[:size, :size]
        exposure.mask[(xx - row["x"]) ** 2 + (yy - row["y"]) ** 2 < SATURATION_RADIUS**2] |= SATUR


def empty_sky(rng: np.random.Generator, exposure: Exposure) -> tuple[Array, Array]:
    """Image and inverse variance of a sky without objects.

    Returns
    -------
    image : ndarray of float32
        Noise of the sky; 0 where nothing was observed, and the pipeline's fill where all is saturated.
    invvar : ndarray of float32
        One over the variance of the noise; 0 where nothing was observed, or pixels are masked.
    """
    noise = rng.standard_normal(exposure.variance.shape, dtype=np.float32)
    image, invvar = np.sqrt(exposure.variance) * noise, 1 / exposure.variance
    image[(exposure.mask & SATUR) > 0] = SATURATION_FILL
    image[exposure.nobs == 0] = 0.0
    invvar[(exposure.nobs == 0) | (exposure.mask != 0)] = 0.0
    return image, invvar


@lru_cache(maxsize=16)
def psf_image(fwhm: float) -> Array:
    """Image of the PSF: a Moffat profile of index `MOFFAT_BETA` and a width in arcsec, pixel included."""
    return moffat((PIXEL_SCALE / moffat_scale(fwhm)) ** 2, MOFFAT_BETA)


def _sources(objects: Array, at: Observed) -> Array:
    """Objects as a table of sources that `inject` draws: their light in one band."""
    columns = {name: objects[name] for name in ("ra", "dec", "y")}
    columns |= {
        # Their own numbers are unique within their brick, and some are of its neighbours.
        "id": np.arange(len(objects)),
        "x": objects["x"] + objects["light_dx"][:, at.band],
        f"flux_{at.name}": objects["light_flux"][:, at.band],
    }
    light = {"sersic": "light_sersic", "shape_r": "light_r", "shape_e1": "e1", "shape_e2": "e2"}
    columns |= {name: objects[own] for name, own in light.items()}
    out = np.empty(len(objects), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        out[name] = values
    return out


def add_objects(image: Array, invvar: Array, objects: Array, at: Observed, run: str) -> tuple[Array, Array]:
    """Image and inverse variance of a band with objects in it; what falls outside is lost.

    Parameters
    ----------
    image, invvar : ndarray of float32, shape (ny, nx)
        Before.
    objects : ndarray of `obiwan.dplearn.mock.sky.object_dtype`
        Of which all have the same PSF, and the same fraction of photon noise.
    at : Observed
    run : str
        Of the injection, or of the release: each draws photons of its own.

    Returns
    -------
    ndarray of float32, shape (ny, nx)
        Twice.
    """
    if not len(objects):
        return image, invvar
    (width,), (shot,) = (np.unique(objects[name]) for name in ("light_psf", "light_shot"))
    psf = BandPsf("moffat", image=psf_image(at.fwhm * float(width)))
    frame = Frame(at.brick.wcs(), image.shape, at.brick.box, 0)
    band = Band(at.brick.name, at.name, frame, PIXEL_SCALE, image, invvar, psf, (), at.balance)
    rows = _sources(objects, at)
    total, lowered = paint(band, rows, sersic, at.seed, run, noise=True)
    if shot < 1:
        quiet, _ = paint(band, rows, sersic, at.seed, run, noise=False)
        total = quiet + np.float32(shot) * (total - quiet)
    for row in objects[objects["light_dip"] > 0]:
        _dip(lowered, row, at.fwhm)
    return total, lowered


def _dip(invvar: Array, row: Array, fwhm: float) -> None:
    """Multiply ``invvar``, in place, by 1 - an object's dip * Gaussian PSF around its true position."""
    sigma = fwhm / PIXEL_SCALE / FWHM
    side, size = 2 * int(np.ceil(5 * sigma)) + 1, invvar.shape[0]
    ys, xs = (overlap(round(float(row[axis])), size, side)[0] for axis in ("y", "x"))
    yy, xx = np.ogrid[ys, xs]
    radius2 = (xx - row["x"]) ** 2 + (yy - row["y"]) ** 2
    invvar[ys, xs] *= (1.0 - row["light_dip"] * np.exp(-0.5 * radius2 / sigma**2)).astype(np.float32)
