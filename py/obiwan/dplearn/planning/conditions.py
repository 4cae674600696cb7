"""Conditions on measured quantities, such as ``mag_r<22``, as cuts for both classes.

A condition is ``QUANTITY<NUMBER``, with ``<``, ``<=``, ``>`` or ``>=``.  Quantities, all of the catalogue:

- ``mag_r``: AB magnitude corrected for extinction; ``g-r``: a colour of these;
- ``flux_r``: observed nanomaggies; ``snr_r``: flux over its error; ``snr``: of the bands of the stamps
  together, root of the sum of squares;
- ``shape_r``: half-light radius in arcsec; ``size``: that over half the FWHM of the PSF, the mean of the
  stamps' bands;
- ``ellipticity``; ``ebv``; ``psfsize_r`` (arcsec); ``nobs_r``; ``maskbits``.

A source of which a quantity is not known fails.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from obiwan.dplearn.errors import SelectionError
from obiwan.dplearn.stampspec import FILTERS, Array
from obiwan.dplearn.survey.sources import Sources

_BAND = f"[{''.join(FILTERS)}]"
_PER_BAND = ("mag", "flux", "snr", "psfsize", "nobs")
_WHOLE = ("snr", "shape_r", "size", "ellipticity", "ebv", "maskbits")
_CONDITION = re.compile(r"\s*([\w-]+)\s*(<=|>=|<|>)\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*")
_COLOUR = re.compile(f"({_BAND})-({_BAND})")
_OF_BAND = re.compile(f"({'|'.join(_PER_BAND)})_({_BAND})")
QUANTITIES = "mag_B, flux_B, snr_B, psfsize_B, nobs_B for a band B, B-B (a colour), " + ", ".join(_WHOLE)


@dataclass(frozen=True)
class Condition:
    """One comparison of a quantity with a number.

    Attributes
    ----------
    text : str
        As it was given, without blanks.
    quantity : str
    below, equal : bool
        Which side of the limit passes, and whether the limit does.
    limit : float
    """

    text: str
    quantity: str
    below: bool
    equal: bool
    limit: float

    def mask(self, sources: Sources, bands: tuple[str, ...]) -> Array:
        """Whether each source fulfils it.

        Parameters
        ----------
        sources : Sources
        bands : tuple of str
            Of the stamps.

        Raises
        ------
        SelectionError
            If the catalogue has no such band.
        """
        values = _values(self.quantity, sources, bands)
        with np.errstate(invalid="ignore"):
            passed = values < self.limit if self.below else values > self.limit
            return np.asarray(passed | (values == self.limit) if self.equal else passed)


def parse_condition(text: str) -> Condition | None:
    """Condition that a text states; None where it is none.

    Raises
    ------
    ValueError
        If there is no such quantity, or the limit is no number.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        return None
    quantity, sign, limit = found.groups()
    if not (quantity in _WHOLE or _COLOUR.fullmatch(quantity) or _OF_BAND.fullmatch(quantity)):
        msg = f"--select {text.strip()}: no quantity {quantity}; there are {QUANTITIES}"
        raise ValueError(msg)
    return Condition("".join(text.split()), quantity, sign[0] == "<", sign[-1] == "=", float(limit))


def _values(quantity: str, sources: Sources, bands: tuple[str, ...]) -> Array:
    """A quantity of every source; NaN where it is not known."""
    if colour := _COLOUR.fullmatch(quantity):
        blue, red = (_of_band("mag", band, sources) for band in colour.groups())
        return np.asarray(blue - red)
    if one := _OF_BAND.fullmatch(quantity):
        return _of_band(one[1], one[2], sources)
    if quantity == "snr":
        return np.asarray(np.sqrt(np.sum([_of_band("snr", band, sources) ** 2 for band in bands], axis=0)))
    if quantity == "size":
        widths = np.mean([_of_band("psfsize", band, sources) for band in bands], axis=0)
        return np.asarray(2 * sources.shape_r / np.where(widths > 0, widths, np.nan))
    if quantity == "ellipticity":
        return np.hypot(sources.e1, sources.e2)
    return np.asarray(getattr(sources, quantity), dtype=np.float64)


def _of_band(name: str, band: str, sources: Sources) -> Array:
    """A quantity of one band."""
    if band not in sources.bands:
        there = ", ".join(sources.bands)
        msg = f"--select asks for {name}_{band}, and the catalogue has the bands {there}"
        raise SelectionError(msg)
    if name == "snr":
        ivar = sources.of_band("flux_ivar", band)
        return np.asarray(sources.of_band("flux", band) * np.sqrt(np.where(ivar >= 0, ivar, np.nan)))
    values = np.asarray(sources.of_band(name, band), dtype=np.float64)
    return np.where(values < 0, np.nan, values) if name == "nobs" else values
