"""Scene of an injection: one brick of a data release, with its frame on the sky, bands and catalogue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from obiwan.dplearn.errors import CatalogError
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.catalogs import read_tractor
from obiwan.dplearn.survey.coadds import Frame, read_frame, read_plane
from obiwan.dplearn.survey.layouts import BrickRun
from obiwan.dplearn.survey.sources import Sources

Box = tuple[float, float, float, float]  #: RA min, RA max, Dec min, Dec max (degrees)
_SQUARE_DEGREE = (180 / np.pi) ** 2  # of a steradian


def box_width(box: Box) -> float:
    """Width of a primary area in right ascension (degrees); a cap at a pole has all."""
    return (box[1] - box[0]) % 360 or 360.0


@dataclass(frozen=True)
class Scene:
    """One brick of a release, into whose coadds objects are injected.

    Attributes
    ----------
    run : BrickRun
        Its files.
    frame : Frame
        WCS, shape and primary area of its coadds.
    bands : tuple of str
    catalog : Sources or None
        The tractor catalogue of the release; None where there is none.
    """

    run: BrickRun
    frame: Frame
    bands: tuple[str, ...]
    catalog: Sources | None = None

    @property
    def brick(self) -> str:
        """Name of the brick."""
        return self.run.brick

    @property
    def box(self) -> Box:
        """RA min, RA max, Dec min, Dec max of the primary area; of the coadd where its header is silent."""
        if self.frame.box is not None:
            return self.frame.box
        ny, nx = self.frame.shape
        x, y = np.array([0, nx - 1, nx - 1, 0]), np.array([0, 0, ny - 1, ny - 1])
        ra, dec = self.frame.wcs.all_pix2world(x, y, 0)
        offset = (ra - ra[0] + 180) % 360 - 180
        return (ra[0] + offset.min()) % 360, (ra[0] + offset.max()) % 360, dec.min(), dec.max()

    @property
    def area(self) -> float:
        """Area of the primary box in square degrees."""
        *_, dec_min, dec_max = self.box
        height = np.sin(np.radians(dec_max)) - np.sin(np.radians(dec_min))
        return float(np.radians(box_width(self.box)) * height * _SQUARE_DEGREE)

    def psfsize(self, band: str) -> float | None:
        """FWHM of the PSF in arcsec: the median of the release's map, or else of its catalogue.

        Parameters
        ----------
        band : str

        Returns
        -------
        float or None
            None where neither tells.
        """
        if self.run.has_map("psfsize", band):
            sizes = read_plane(self.run, "psfsize", band)
        else:
            sizes = np.empty(0) if self.catalog is None else self.catalog.of_band("psfsize", band)
        sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
        return float(np.median(sizes)) if len(sizes) else None

    def near(self, quantity: str, ra: Array, dec: Array) -> Array:
        """A quantity of the release's catalogue at positions: that of the nearest source.

        Parameters
        ----------
        quantity : str
            Of `Sources`: one with a column a band, such as ``mw_transmission``, or ``ebv``.
        ra, dec : ndarray, shape (n,)
            Degrees.

        Returns
        -------
        ndarray, shape (n, bands) or (n,)
            NaN (``nobs`` -1) where the catalogue does not tell.
        """
        known = None if self.catalog is None or not len(self.catalog) else self.catalog.in_bands(self.bands)
        if known is None:
            shape = (len(ra),) if quantity == "ebv" else (len(ra), len(self.bands))
            return np.full(shape, -1 if quantity == "nobs" else np.nan)
        values = getattr(known, quantity)
        told = np.flatnonzero(np.isfinite(values).reshape(len(known), -1).all(axis=1))
        told = told if len(told) else np.arange(len(known))
        stretch = np.cos(np.radians(known.dec.mean()))

        def plane(ra: Array, dec: Array) -> Array:
            return np.stack([((ra - known.ra[0] + 180) % 360 - 180) * stretch, dec], axis=1)

        tree = cKDTree(plane(known.ra[told], known.dec[told]))
        return np.asarray(values[told[tree.query(plane(ra, dec))[1]]])


def open_scene(run: BrickRun, bands: tuple[str, ...]) -> Scene:
    """Read what is known of one brick of a release before its planes are decoded.

    Parameters
    ----------
    run : BrickRun
    bands : tuple of str
        Of which image and inverse variance must be there.

    Raises
    ------
    CoaddError, CatalogError
        If a plane is missing or unusable, or the catalogue cannot be read.
    """
    spec = StampSpec(bands)
    frame = read_frame(run, spec)
    try:
        catalog = read_tractor(run.tractor).sources if run.tractor and run.tractor.is_file() else None
    except CatalogError as error:
        msg = f"{run.label}: {error}"
        raise CatalogError(msg) from error
    return Scene(run, frame, spec.bands, catalog)
