"""PSFEx models: polynomials of PSF images over the CCD, in the two layouts that releases have.

DR9 and later have a table per exposure with a row per CCD, whose columns hold what older files, one a CCD,
have in the header.  The PSF at (x, y) is sum b_i dx^j dy^k with dx = (x - polzero1) / polscal1 and likewise
dy, in the order 1, dx, dx^2, ..., dy, dx dy, ... (PSFEx manual).  It contains the pixel, and its centroid is
left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.errors import CoaddError
from obiwan.dplearn.files.fits import check_not_truncated, open_fits, reading
from obiwan.dplearn.injection.exposures import Exposure
from obiwan.dplearn.injection.resampling import resample
from obiwan.dplearn.stampspec import Array

NORM_TOLERANCE = 0.01  #: by which sqrt(sum psf^2) may differ from the pipeline's ``psfnorm``
_REMEDY = "give the calibrations of this release with --calib, or choose another --psf"


@dataclass(frozen=True)
class PsfexModel:
    """PSF of one CCD image as a polynomial in the position.

    Attributes
    ----------
    path : Path
    basis : ndarray, shape (terms, size, size)
        Images; their middle pixel is the position.
    degree : int
    zero, scale : tuple of float
        Of x and y.
    sampling : float
        CCD pixels per pixel of the images.
    """

    path: Path
    basis: Array
    degree: int
    zero: tuple[float, float]
    scale: tuple[float, float]
    sampling: float

    def terms(self, x: float, y: float) -> Array:
        """Values of the polynomial's terms at a CCD position, shape (terms,)."""
        dx, dy = (x - self.zero[0]) / self.scale[0], (y - self.zero[1]) / self.scale[1]
        powers = [(j, k) for k in range(self.degree + 1) for j in range(self.degree + 1 - k)]
        return np.array([dx**j * dy**k for j, k in powers])

    def norm(self, x: float, y: float) -> float:
        """sqrt(sum psf^2) of the PSF on CCD pixels at a position."""
        basis = self.basis if self.sampling == 1 else resample(self.basis, np.eye(2) / self.sampling)
        psf = np.tensordot(self.terms(x, y), basis, 1)
        return float(np.sqrt((psf**2).sum()) / psf.sum())


def _paths(calib: Path, exposure: Exposure) -> Iterator[Path]:
    """Where the releases have the PSFEx file of an exposure (legacypipe ``image.py``)."""
    image = exposure.image
    for suffix in (".fz", ".fits", f".{exposure.ccdname}"):
        image = image.removesuffix(suffix)
    place, stem = Path(image), Path(image).name
    number = f"{exposure.expnum:08d}"
    yield calib / "psfex" / place.parent / f"{stem}-psfex.fits"
    yield calib / "psfex-single" / place.parent / stem / f"{stem}-{exposure.ccdname}-psfex.fits"
    old, name = calib / exposure.camera, f"{exposure.camera}-{number}"
    yield old / "psfex-merged" / number[:5] / f"{name}.fits"
    yield old / "psfex" / number[:5] / number / f"{name}-{exposure.ccdname}.fits"


def find_psfex(calib: Path, exposure: Exposure) -> Path | None:
    """The PSFEx file of an exposure, below a directory of calibrations or one in it; None if absent."""
    found = next((path for path in _paths(calib, exposure) if path.is_file()), None)
    if found is None and calib.is_dir():
        inner = (child for child in sorted(calib.iterdir()) if child.is_dir())
        found = next((path for one in inner for path in _paths(one, exposure) if path.is_file()), None)
    return found


def read_psfex(calib: Path, exposure: Exposure) -> PsfexModel:
    """Read the PSF of an exposure, and test it against the pipeline's ``psfnorm``.

    Raises
    ------
    CoaddError
        If there is no file, it is damaged, lacks the CCD, or its PSF is another one than the pipeline's.
    """
    path = find_psfex(calib, exposure)
    name = f"{exposure.camera} {exposure.expnum} {exposure.ccdname}"
    if path is None:
        first = next(_paths(calib, exposure))
        msg = f"{calib}: no PSFEx file of {name}, such as {first.relative_to(calib)}; {_REMEDY}"
        raise CoaddError(msg)
    with reading(f"{path}: cannot read the PSFEx model of {name}", _REMEDY, CoaddError):
        with open_fits(path) as file:
            check_not_truncated(file, path)
            header, rows = file[1].read_header(), file[1].read()
        model = _model(path, header, rows, exposure)
    height, width = exposure.shape
    norm = model.norm(width // 2, height // 2)
    if not abs(norm / exposure.psfnorm - 1) < NORM_TOLERANCE:
        found = f"a norm of {norm:.4f}, not the CCD table's {exposure.psfnorm:.4f}"
        msg = f"{path}: the PSF of {name} has {found}; {_REMEDY}"
        raise CoaddError(msg)
    return model


def _model(path: Path, header: Mapping[str, Any], rows: Array, exposure: Exposure) -> PsfexModel:
    """The model in a table; ValueError or KeyError where it makes no sense."""
    names = {name.lower(): name for name in rows.dtype.names or ()}
    if "ccdname" in names:
        ccds = np.char.strip(np.asarray(rows[names["ccdname"]]).astype("U"))
        mine = np.flatnonzero((ccds == exposure.ccdname) & (rows[names["expnum"]] == exposure.expnum))
        if not len(mine):
            msg = "no row of this CCD"
            raise ValueError(msg)
        rows = rows[mine[0] : mine[0] + 1]

    def value(name: str, absent: float | None = None) -> float:
        if name in names:
            return float(rows[names[name]][0])
        found = header.get(name.upper(), absent)
        if found is None:
            msg = f"no {name}"
            raise ValueError(msg)
        return float(found)

    degree = int(value("poldeg1", 0.0))
    terms = (degree + 1) * (degree + 2) // 2
    basis = np.asarray(rows[names["psf_mask"]][0], np.float64)
    # Tables are padded to the largest CCD.
    height, width = (int(value(f"psfaxis{axis}", basis.shape[-axis])) for axis in (2, 1))
    basis = basis[:terms, :height, :width]
    if len(basis) != terms or not np.isfinite(basis).all() or height != width or height % 2 == 0:
        msg = f"images of shape {basis.shape} for a polynomial of degree {degree}"
        raise ValueError(msg)
    place = {axis: (value(f"polzero{axis}", 0.0), value(f"polscal{axis}", 1.0)) for axis in (1, 2)}
    zero, scale = zip(place[1], place[2], strict=True)
    return PsfexModel(path, basis, degree, zero, scale, value("psf_samp"))
