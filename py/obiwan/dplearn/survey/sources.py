"""The one record that every catalogue, truth table and user table is read into."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from obiwan.dplearn.conventions import Array


@dataclass(frozen=True)
class Sources:
    """A catalogue: one row per source, whatever it was read from.

    What a table does not have is NaN (``nobs`` -1, ``type`` empty).

    Attributes
    ----------
    id : ndarray of int64, shape (n,)
    ra, dec : ndarray, shape (n,)
        Degrees.
    type : ndarray of str, shape (n,)
        Tractor type in capitals, without blanks; of truth rows the type of the same profile.
    flux, flux_ivar : ndarray, shape (n, 3)
        Observed nanomaggies and 1/nanomaggies**2 in g, r, z.
    mw_transmission : ndarray, shape (n, 3)
        Galactic transmission, 0 to 1.
    nobs : ndarray of int, shape (n, 3)
    psfsize : ndarray, shape (n, 3)
        PSF FWHM in arcsec.
    psfdepth : ndarray, shape (n, 3)
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
        return Sources(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @property
    def mag(self) -> Array:
        """AB magnitudes corrected for Galactic extinction, shape (n, 3).

        ``22.5 - 2.5 log10(flux / mw_transmission)``; NaN where the flux is not positive.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = self.flux / self.mw_transmission
            return np.where(ratio > 0, 22.5 - 2.5 * np.log10(np.where(ratio > 0, ratio, 1.0)), np.nan)


def blank_sources(n: int) -> Sources:
    """Return `n` rows of which nothing is known."""
    one, three = np.full(n, np.nan), np.full((n, 3), np.nan)
    return Sources(
        id=np.arange(n, dtype=np.int64),
        ra=one.copy(),
        dec=one.copy(),
        type=np.full(n, "", dtype="U4"),
        flux=three.copy(),
        flux_ivar=three.copy(),
        mw_transmission=three.copy(),
        nobs=np.full((n, 3), -1, dtype=np.int32),
        psfsize=three.copy(),
        psfdepth=three.copy(),
        shape_r=one.copy(),
        e1=one.copy(),
        e2=one.copy(),
        sersic=one.copy(),
        ebv=one.copy(),
        maskbits=np.zeros(n, dtype=np.int32),
        primary=np.ones(n, dtype=bool),
        injected=np.ones(n, dtype=bool),
    )
