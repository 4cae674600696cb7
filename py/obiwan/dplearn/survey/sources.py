"""Source table: the one record that every catalogue, truth table and user's table is read into."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from obiwan.dplearn.stampspec import FILTERS, Array

_UNITS = {
    **dict.fromkeys(("ra", "dec", "truth_ra", "truth_dec"), "deg"),
    **dict.fromkeys(("ra_ivar", "dec_ivar"), "1/deg^2"),
    **dict.fromkeys(("x", "y", "truth_dx", "truth_dy"), "pixel"),
    **dict.fromkeys(("match_dist", "shape_r", "shapeexp_r", "shapedev_r", "psfsize"), "arcsec"),
    **dict.fromkeys(("flux_ivar", "psfdepth", "galdepth"), "1/nanomaggy^2"),
    **{"flux": "nanomaggy", "truth_flux": "nanomaggy", "mag": "mag", "ebv": "mag"},
}
PER_BAND = ("flux", "flux_ivar", "mw_transmission", "nobs", "psfsize", "psfdepth")  #: one column a band


def unit_of(column: str) -> str:
    """Unit of a column of a catalogue, by its name or by that of its quantity in one band; else nothing."""
    stem, _, band = column.rpartition("_")
    return _UNITS.get(column, _UNITS.get(stem, "") if band in FILTERS else "")


@dataclass(frozen=True)
class Sources:
    """A catalogue: one row per source, whatever it was read from.

    What a table does not have is NaN (``nobs`` -1, ``type`` empty).

    Attributes
    ----------
    bands : tuple of str
        Filters of the columns of `PER_BAND`, by increasing wavelength.
    id : ndarray of int64, shape (n,)
    ra, dec : ndarray, shape (n,)
        Degrees.
    type : ndarray of str, shape (n,)
        Tractor type in capitals, without blanks; of truth rows the type of the same profile.
    flux, flux_ivar : ndarray, shape (n, bands)
        Observed nanomaggies and 1/nanomaggies**2.
    mw_transmission : ndarray, shape (n, bands)
        Galactic transmission, 0 to 1.
    nobs : ndarray of int, shape (n, bands)
    psfsize : ndarray, shape (n, bands)
        PSF FWHM in arcsec.
    psfdepth : ndarray, shape (n, bands)
        1/nanomaggies**2.
    shape_r : ndarray, shape (n,)
        Half-light radius in arcsec; 0 for point sources.
    e1, e2, sersic, ebv : ndarray, shape (n,)
    maskbits : ndarray of int32, shape (n,)
        0 where the catalogue has none.
    primary : ndarray of bool, shape (n,)
        ``brick_primary``; True where the table has no such column.
    injected : ndarray of bool, shape (n,)
        For truth rows: really put into the images.  True elsewhere.
    """

    bands: tuple[str, ...]
    id: Array
    ra: Array
    dec: Array
    type: Array
    flux: Array
    flux_ivar: Array
    mw_transmission: Array
    nobs: Array
    psfsize: Array
    psfdepth: Array
    shape_r: Array
    e1: Array
    e2: Array
    sersic: Array
    ebv: Array
    maskbits: Array
    primary: Array
    injected: Array

    def __len__(self) -> int:
        return len(self.id)

    def take(self, index: Array) -> Sources:
        """Rows by index or mask."""
        names = [field.name for field in fields(self) if field.name != "bands"]
        return Sources(self.bands, **{name: getattr(self, name)[index] for name in names})

    def of_band(self, quantity: str, band: str) -> Array:
        """A quantity in one band, shape (n,); NaN (``nobs`` -1) where the table lacks the band.

        Parameters
        ----------
        quantity : str
            One of `PER_BAND`, or ``mag``.
        band : str
        """
        if band not in self.bands:
            return np.full(len(self), -1 if quantity == "nobs" else np.nan)
        column: Array = getattr(self, quantity)[:, self.bands.index(band)]
        return column

    def in_bands(self, bands: tuple[str, ...]) -> Sources:
        """The same sources with the columns of exactly these bands, in this order."""
        columns = {
            name: np.array([self.of_band(name, band) for band in bands]).reshape(len(bands), len(self)).T
            for name in PER_BAND
        }
        return replace(self, bands=tuple(bands), **{**columns, "nobs": columns["nobs"].astype(np.int32)})

    @property
    def mag(self) -> Array:
        """AB magnitudes corrected for Galactic extinction, shape (n, bands).

        ``22.5 - 2.5 log10(flux / mw_transmission)``; NaN where the flux is not positive.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = self.flux / self.mw_transmission
            return np.where(ratio > 0, 22.5 - 2.5 * np.log10(np.where(ratio > 0, ratio, 1.0)), np.nan)


def blank_sources(n: int, bands: tuple[str, ...]) -> Sources:
    """Sources, `n` of them, of which nothing is known."""
    unknown = ("ra", "dec", "shape_r", "e1", "e2", "sersic", "ebv")
    per_band = {name: np.full((n, len(bands)), np.nan) for name in PER_BAND}
    return Sources(
        bands=tuple(bands),
        id=np.arange(n, dtype=np.int64),
        type=np.full(n, "", dtype="U4"),
        **{**per_band, "nobs": np.full((n, len(bands)), -1, dtype=np.int32)},
        **{name: np.full(n, np.nan) for name in unknown},
        maskbits=np.zeros(n, dtype=np.int32),
        primary=np.ones(n, dtype=bool),
        injected=np.ones(n, dtype=bool),
    )
