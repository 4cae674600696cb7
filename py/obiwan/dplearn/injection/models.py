"""Models of what is injected: a Sersic galaxy, a star, FITS stamps, or the user's function.

Each gives the `Light` of one source in one band: a transform that is multiplied by the PSF's, or pixels of
the coadd's grid that are drawn as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from obiwan.dplearn.injection.config import is_function
from obiwan.dplearn.injection.light import half_light_ellipse, sersic_radius, sersic_transform
from obiwan.dplearn.injection.sersic import SERSIC_LIMITS
from obiwan.dplearn.running.functions import load_function
from obiwan.dplearn.stampspec import Array

if TYPE_CHECKING:
    import galsim


@dataclass(frozen=True)
class Light:
    """Light of one source in one band, before the PSF.

    Attributes
    ----------
    radius : float
        Pixels from the position beyond which there is nothing.
    transform : callable or None
        Of the size of a grid: the transform in nanomaggies, in the order of ``rfft2``, or a flux for a point.
    image : ndarray or None
        Nanomaggies per pixel on the coadd's grid, its pixel ``[ny // 2, nx // 2]`` on that of the source.
    """

    radius: float
    transform: Callable[[int], Array | float] | None = None
    image: Array | None = None


class Model(Protocol):
    """Model of injected objects: what is drawn for a row of the table of sources."""

    def __call__(self, row: Any, band: str, jacobian: Array, rng: np.random.Generator, /) -> Light:
        """Light of a row in a band.

        Parameters
        ----------
        row : numpy record
        band : str
        jacobian : ndarray, shape (2, 2)
            Pixels (x, y) per arcsec to the east and north.
        rng : Generator
            Of this source, in the same state for every band.
        """
        ...


#: What each model needs of a table of sources
NEEDS = {"sersic": ("flux", "sersic", "shape_r"), "star": ("flux",), "stamps": ("stamp",)}


def star(row: Any, band: str, *_: Any) -> Light:
    """Point source."""
    flux = float(row[f"flux_{band}"])
    return Light(0.0, lambda _: flux)


def sersic(row: Any, band: str, jacobian: Array, *_: Any) -> Light:
    """Truncated Sersic galaxy in the tractor's conventions; a point source where radius or index is 0."""
    flux, index, radius = (float(row[name]) for name in (f"flux_{band}", "sersic", "shape_r"))
    if radius == 0 or index == 0:
        return star(row, band)
    e1, e2 = float(row["shape_e1"]), float(row["shape_e2"])
    least, most = SERSIC_LIMITS
    if not (least <= index <= most and 0 < radius < np.inf and np.hypot(e1, e2) < 1):
        msg = f"sersic {index:g} (from {least} to {most}), shape_r {radius:g}, ellipticity {e1:g}, {e2:g}"
        raise ValueError(msg)
    ellipse = half_light_ellipse(jacobian, radius, e1, e2)
    return Light(sersic_radius(ellipse, index), lambda size: flux * sersic_transform(ellipse, index, size))


@lru_cache(maxsize=64)
def _read_stamp(path: Path) -> tuple[Array, float]:
    """Image of a FITS file and its pixel scale in arcsec.

    Raises
    ------
    OSError, ValueError
        If it has no image of finite pixels, or its header no pixel scale.
    """
    with fits.open(path.absolute(), memmap=False) as hdus:
        for hdu in hdus:
            if hdu.is_image and len(hdu.shape) == 2:
                pixels, header = np.array(hdu.data, dtype=np.float64), hdu.header
                break
        else:
            msg = f"{path}: no two-dimensional image in it"
            raise ValueError(msg)
    scale = header.get("PIXSCALE")
    if scale is None and (wcs := WCS(header).celestial).naxis:
        scale = 3600 * np.mean(proj_plane_pixel_scales(wcs))
    if scale is None or not 0 < float(scale) < np.inf:
        msg = f"{path}: no pixel scale; give the card PIXSCALE, in arcsec, or a WCS"
        raise ValueError(msg)
    if not np.isfinite(pixels).all():
        msg = f"{path}: pixels that are not finite"
        raise ValueError(msg)
    return pixels, float(scale)


def _path(word: bytes | str) -> Path:
    """Path of a stamp, from a cell of a table."""
    return Path((word.decode() if isinstance(word, bytes) else str(word)).strip())


def stamp_files(columns: Mapping[str, Array]) -> list[Path]:
    """Files that the columns ``stamp``, ``stamp_g``, ... of a table name, those that there are."""
    named = (values for name, values in columns.items() if name.partition("_")[0] == "stamp")
    paths = {_path(word) for values in named for word in np.unique(values)}
    return [path for path in sorted(paths) if path.is_file()]


def _column(row: Any, band: str) -> str:
    """The column that names a row's stamp in a band."""
    return next(name for name in (f"stamp_{band}", "stamp") if name in row.dtype.names)


def stamps(row: Any, band: str, jacobian: Array, *_: Any) -> Light:
    """FITS image of the user, with pixels of any scale; its axes are those of the coadd.

    With a column ``flux_<band>`` the image has that flux, else its own in nanomaggies.
    """
    import galsim

    pixels, scale = _read_stamp(_path(row[_column(row, band)]))
    name = f"flux_{band}"
    flux = float(row[name]) if name in row.dtype.names and np.isfinite(row[name]) else float(pixels.sum())
    return _of_galsim(galsim.InterpolatedImage(galsim.Image(pixels, scale=scale), flux=flux), jacobian)


def _of_galsim(profile: galsim.GSObject, jacobian: Array) -> Light:
    """A profile of GalSim in arcsec on the coadd's axes: x to the right (west), y up (north)."""
    if not np.isfinite(profile.flux):  # GalSim draws it with a flux of 1
        msg = f"its flux is {profile.flux}"
        raise ValueError(msg)
    scale = 1 / float(np.sqrt(abs(np.linalg.det(jacobian))))

    def transform(size: int) -> Array:
        import galsim

        grid = galsim.ImageCD(galsim.BoundsI(-(size // 2), size // 2, -(size // 2), size // 2))
        profile.drawKImage(image=grid, scale=2 * np.pi / (size * scale))
        waves = np.fft.ifftshift(grid.array[:-1, :-1])
        return np.asarray(waves[:, : size // 2 + 1])

    return Light(float(np.pi / (profile.stepk * scale)), transform)


def users(word: str, row: Any, band: str, jacobian: Array, rng: np.random.Generator) -> Light:
    """What the user's ``function(row, band, rng)`` returns: an object of GalSim, or an array."""
    given = load_function(word, "--model")(row, band, rng)
    if hasattr(given, "drawKImage"):
        return _of_galsim(given, jacobian)
    image = np.asarray(given)
    if image.dtype.kind not in "buif" or image.ndim != 2 or not image.size:
        what = f"{type(given).__name__}, an array of shape {image.shape} and type {image.dtype}"
        msg = f"it gave {what}; return real numbers in two dimensions, or an object of GalSim"
        raise ValueError(msg)
    image = image.astype(float)
    if not np.isfinite(image).all():
        msg = "it gave pixels that are not finite"
        raise ValueError(msg)
    return Light(max(image.shape) / 2, image=image)


def model_named(word: str) -> Model:
    """The model of ``--model``."""
    if is_function(word):
        load_function(word, "--model")
        return partial(users, word)
    return {"sersic": sersic, "star": star, "stamps": stamps}[word]
