"""Exposures of a brick: weights, gains, pixel scales and positions on the CCD, from its CCD table.

Formulae: a coadd is sum(w sb s) / sum(w) over exposures s resampled to its grid, with w = 1 / (sig1 sb)^2 and
sb the ratio of the areas of coadd and CCD pixels by the header's CD matrix (legacypipe ``coadds.py``).  An
exposure has 10^((zp - 22.5) / 2.5) G electrons per nanomaggy: for DECam zp = ccdzpt + 2.5 log10(exptime) and
G is the gain; for BASS and MzLS zp = ccdzpt and G = exptime (``legacyzpts``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.errors import CoaddError
from obiwan.dplearn.files.fits import check_not_truncated, open_fits, reading
from obiwan.dplearn.stampspec import Array

DECAM_GAIN = 4.0  #: electrons per unit of a DECam image, where neither table nor option has another
#: Area of a pixel on the sky over that by the CD matrix, a + b r^2 at r degrees from the reference point: the
#: optical distortion, which CCD tables leave out.  Fitted to the TPV headers of 35 public images, to 1e-3.
_DISTORTION = {"decam": (1.0112, -0.0136), "90prime": (1.0113, -0.067), "mosaic": (1.0173, -0.429)}
_PLACE = ("crpix1", "crpix2", "crval1", "crval2", "cd1_1", "cd1_2", "cd2_1", "cd2_2", "width", "height")
_NEEDED = (
    "filter",
    "camera",
    "image_filename",
    "ccdname",
    "expnum",
    "exptime",
    "ccdzpt",
    "sig1",
    "psfnorm",
    *_PLACE,
)


@dataclass(frozen=True)
class Exposure:
    """One CCD image that contributes to a coadd.

    Attributes
    ----------
    camera, image, ccdname : str
        ``image`` is the file's path below the survey's images.
    expnum : int
    band : str
    crpix, crval : tuple of float
        Of its TAN projection (1-based pixels, degrees); positions are good to some 20 pixels only.
    cd : ndarray, shape (2, 2)
        Degrees per pixel.
    shape : tuple of int
        (height, width).
    sig1, psfnorm : float
        Noise of a pixel (nanomaggies), and sqrt(sum psf^2), as the pipeline measured them.
    electrons : float
        Per nanomaggy.
    """

    camera: str
    image: str
    ccdname: str
    expnum: int
    band: str
    crpix: tuple[float, float]
    crval: tuple[float, float]
    cd: Array
    shape: tuple[int, int]
    sig1: float
    psfnorm: float
    electrons: float

    @property
    def pixel_scale(self) -> float:
        """Arcseconds per pixel by the CD matrix: what the pipeline scales surface brightness by."""
        return 3600 * float(np.sqrt(abs(np.linalg.det(self.cd))))

    def scaling(self, pixel_scale: float) -> float:
        """Area of a coadd pixel over that of one of the CCD."""
        return (pixel_scale / self.pixel_scale) ** 2

    def weight(self, pixel_scale: float) -> float:
        """Weight in a coadd with pixels of this scale."""
        return 1 / (self.sig1 * self.scaling(pixel_scale)) ** 2

    def pixels(self, ra: Array | float, dec: Array | float) -> Array:
        """0-based CCD pixels (x, y) of sky positions in degrees, shape (..., 2), by a gnomonic projection."""
        ra, dec, (ra0, dec0) = np.radians(ra), np.radians(dec), np.radians(self.crval)
        cos = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
        xi = np.cos(dec) * np.sin(ra - ra0) / cos
        eta = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / cos
        plane = np.degrees(np.stack([xi, eta], -1))
        return np.asarray(plane @ np.linalg.inv(self.cd).T + np.array(self.crpix) - 1)

    def distortion(self, pixels: Array) -> float:
        """Area on the sky of a CCD pixel over that by the CD matrix, at a position (x, y)."""
        constant, slope = _DISTORTION.get(self.camera, (1.0, 0.0))
        offset = self.cd @ (pixels + 1 - np.array(self.crpix))
        return constant + slope * float(offset @ offset)

    def covers(self, pixels: Array) -> Array:
        """Whether CCD pixels lie on the CCD."""
        return np.asarray(((pixels >= -0.5) & (pixels < np.array(self.shape[::-1]) - 0.5)).all(-1))


def read_exposures(path: Path, band: str, gain: float | None = None) -> tuple[Exposure, ...] | None:
    """Exposures in one band of a brick, from its ``-ccds.fits``.

    Parameters
    ----------
    path : Path
    band : str
    gain : float, optional
        Of DECam, in place of that of the table.

    Returns
    -------
    tuple of Exposure or None
        None where there is no table, or it lacks a column that is needed.

    Raises
    ------
    CoaddError
        If the table cannot be read, or holds a number that cannot be.
    """
    if not path.is_file():
        return None
    remedy = "restore the file, or leave the brick out with --bricks"
    with reading(f"{path}: cannot read the CCD table", remedy, CoaddError), open_fits(path) as file:
        check_not_truncated(file, path)
        rows = file[1].read()
    names = {name.lower(): name for name in rows.dtype.names or ()}
    if not set(_NEEDED) <= set(names):
        return None
    mine = [row for row in rows if _text(row[names["filter"]]) == band]
    return tuple(_exposure(path, {low: row[name] for low, name in names.items()}, gain) for row in mine)


def _text(value: bytes | str) -> str:
    return (value.decode() if isinstance(value, bytes) else str(value)).strip()


def _exposure(path: Path, row: dict[str, Any], gain: float | None) -> Exposure:
    """One row of a CCD table."""
    camera, exptime = _text(row["camera"]), float(row["exptime"])
    own = float(row.get("gain", np.nan))
    if camera == "decam":
        zeropoint = float(row["ccdzpt"]) + 2.5 * np.log10(exptime)
        factor = gain or (own if own > 0 else DECAM_GAIN)
    else:
        zeropoint, factor = float(row["ccdzpt"]), exptime
    dec = float(row["crval2"]) + float(row.get("ccddecoff", 0)) / 3600
    ra = float(row["crval1"]) + float(row.get("ccdraoff", 0)) / 3600 / np.cos(np.radians(dec))
    found = Exposure(
        camera=camera,
        image=_text(row["image_filename"]),
        ccdname=_text(row["ccdname"]),
        expnum=int(row["expnum"]),
        band=_text(row["filter"]),
        crpix=(float(row["crpix1"]), float(row["crpix2"])),
        crval=(ra, dec),
        cd=np.array([[row["cd1_1"], row["cd1_2"]], [row["cd2_1"], row["cd2_2"]]], float),
        shape=(int(row["height"]), int(row["width"])),
        sig1=float(row["sig1"]),
        psfnorm=float(row["psfnorm"]),
        electrons=float(10 ** ((zeropoint - 22.5) / 2.5) * factor),
    )
    numbers = [found.pixel_scale, found.sig1, found.psfnorm, found.electrons]
    if not (np.isfinite(numbers).all() and min(numbers) > 0):
        lacks = "no CD matrix, sig1, psfnorm or zero point"
        msg = f"{path}: exposure {found.expnum} {found.ccdname} has {lacks}; "
        msg += "restore the file, or leave the brick out with --bricks"
        raise CoaddError(msg)
    return found
