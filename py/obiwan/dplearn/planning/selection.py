"""Named cuts, the same for both classes, each of them counted.

A selection is a function from `Sources` to an ordered mapping of cut names to masks.  It may use any band
of the catalogue, cut out or not.  What a table does not tell (NaN, or ``nobs`` of -1) passes quality cuts
and fails measured ones, for either class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from obiwan.dplearn.errors import SelectionError, explained
from obiwan.dplearn.planning.conditions import parse_condition
from obiwan.dplearn.planning.cutflow import CutFlow, count
from obiwan.dplearn.running.functions import load_function
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.sources import Sources

Cuts = dict[str, Array]
Selection = Callable[[Sources], Mapping[str, Array]]

# The colour box of the 2018 training set, padded by a perpendicular distance of 0.5 mag
# (obiwan create_training.py, lines 266-285 and 383-386; doc/explanation/data-model.rst writes it out).
_PAD = 0.5
_FAINT = (24.5, 23.9, 23.0)
_BRIGHT = (20.6766, 20.4659, 19.4391)
_RADIUS = (0.262 / 2, 2.0)  # arcsec
_COLOURS = ("g", "r", "z")  # in which that box is defined, whatever is cut out


def _flux_quality(sources: Sources) -> Cuts:
    bands = ", ".join(sources.bands)
    return {
        f"flux > 0 in {bands}": np.all(sources.flux > 0, axis=1),
        f"flux_ivar > 0 in {bands}": np.all(~(sources.flux_ivar <= 0), axis=1),
    }


def _elg(sources: Sources, types: tuple[str, ...]) -> Cuts:
    missing = [band for band in _COLOURS if band not in sources.bands]
    if missing:
        msg = (
            f"the elg cuts need magnitudes in {', '.join(_COLOURS)}, and the catalogue has none in "
            f"{', '.join(missing)}; give another --select"
        )
        raise SelectionError(msg)
    sources = sources.in_bands(_COLOURS)
    g, r, z = sources.mag.T
    with np.errstate(invalid="ignore"):
        # Point sources have no radius; the 2018 code gave them half the mean PSF FWHM.
        radius = np.where(sources.type == "PSF", sources.psfsize.mean(axis=1) / 2, sources.shape_r)
        first = g - r <= 1.15 * (r - z) - 0.15 + _PAD * np.hypot(1, 1.15)
        second = g - r <= -1.2 * (r - z) + 1.6 + _PAD * np.hypot(1, 1.2)
        box = (r - z >= 0.3 - _PAD) & (r - z <= 1.6 + _PAD)
        faint = (g < _FAINT[0]) & (r < _FAINT[1]) & (z < _FAINT[2])
        bright = (g >= _BRIGHT[0]) & (r >= _BRIGHT[1]) & (z >= _BRIGHT[2])
        size = (radius >= _RADIUS[0]) & (radius <= _RADIUS[1])
    return {
        "nobs >= 1 in g, r, z": (sources.nobs != 0).all(axis=1),
        **_flux_quality(sources),
        f"type in {', '.join(types)}": np.isin(sources.type, types),
        'half-light radius 0.131" to 2"': size,
        "elg colour box": first & second & box,
        "fainter than g 20.68, r 20.47, z 19.44": bright,
        "brighter than g 24.5, r 23.9, z 23.0": faint,
    }


def _of_types(sources: Sources, name: str, types: tuple[str, ...]) -> Cuts:
    return {**_flux_quality(sources), name: np.isin(sources.type, types)}


_EXTENDED = ("SIMP", "REX", "EXP", "DEV", "SER", "COMP")
SELECTIONS: dict[str, Selection] = {
    # Emission-line galaxy candidates as in 2018, with SIMP (the eBOSS-era round model).
    "elg": partial(_elg, types=("PSF", "SIMP", "REX", "EXP")),
    # As the 2018 code did, to the letter: SIMP falls out.
    "elg2018": partial(_elg, types=("PSF", "REX", "EXP")),
    # Point sources, and extended ones of any profile, with measured flux in all bands of the stamps.
    "psf": partial(_of_types, name="type is PSF", types=("PSF",)),
    "galaxies": partial(_of_types, name="type is extended", types=_EXTENDED),
    # Nothing beyond the eligibility that every example needs.
    "none": lambda _: {},
}
_IN_STAMPS = ("psf", "galaxies")  #: selections that look at the bands of the stamps alone


def find_selection(name: str, bands: tuple[str, ...]) -> Selection:
    """Look up selections by name, read conditions, or import a user's own.

    Parameters
    ----------
    name : str
        One or more, separated by commas: one of `SELECTIONS`; a condition on a measured quantity such as
        ``mag_r<22`` (`obiwan.dplearn.planning.conditions`); or ``module:function``, a function that takes
        `Sources` and returns a boolean mask or a mapping of cut names to masks.
    bands : tuple of str
        Of the stamps.

    Raises
    ------
    ValueError
        If there is no such selection, quantity, module or function.  The selection that is returned raises
        `SelectionError` where the user's function fails, or the catalogue has not what a selection needs.
    """
    parts = [(word, _find_one(word, bands)) for word in name.split(",")]

    def together(sources: Sources) -> Mapping[str, Array]:
        cuts: dict[str, Array] = {}
        for word, part in parts:
            for cut, mask in part(sources).items():
                cuts[f"{cut} ({word})" if cut in cuts else cut] = mask
        return cuts

    return parts[0][1] if len(parts) == 1 else together


def _find_one(name: str, bands: tuple[str, ...]) -> Selection:
    """One selection of `find_selection`."""
    if condition := parse_condition(name):
        return lambda sources: {condition.text: condition.mask(sources, bands)}
    if name in SELECTIONS:
        return partial(_by_type, name, bands) if name != "none" else SELECTIONS[name]
    if ":" not in name:
        what = "and neither a condition such as mag_r<22 nor module:function"
        msg = f"--select {name}: not one of {', '.join(SELECTIONS)}, {what}"
        raise ValueError(msg)
    function = load_function(name, "--select")

    def selection(sources: Sources) -> Mapping[str, Array]:
        with explained(f"--select {name}: the function failed", "correct it", SelectionError):
            result = function(sources)
        return result if isinstance(result, Mapping) else {name: result}

    return selection


def _by_type(name: str, bands: tuple[str, ...], sources: Sources) -> Mapping[str, Array]:
    """A selection that asks for tractor's types, which not every catalogue has."""
    if len(sources) and not (sources.type != "").any():
        msg = (
            f"--select {name} needs the types of tractor, and this catalogue has none; give conditions on "
            "what is measured, such as 'mag_r<22,snr_r>10,size<1.4', or none"
        )
        raise SelectionError(msg)
    return SELECTIONS[name](sources.in_bands(bands) if name in _IN_STAMPS else sources)


def apply_cuts(sources: Sources, selection: Selection, keep: Array, flow: CutFlow) -> Array:
    """Apply a selection to the rows still kept, counting after each cut.

    Parameters
    ----------
    sources : Sources
    selection : callable
    keep : ndarray of bool, shape (n,)
        Rows that earlier cuts kept.
    flow : dict
        Cut flow of this class, cut name to number of survivors; extended in place.

    Returns
    -------
    ndarray of bool, shape (n,)

    Raises
    ------
    SelectionError
        If a user's selection returns something else than one truth value per row.
    """
    for name, mask in selection(sources).items():
        values = np.asarray(mask)
        if values.shape != keep.shape or values.dtype != bool:
            msg = f"selection cut {name!r} gave {values.dtype} {values.shape}, expected bool {keep.shape}"
            raise SelectionError(msg)
        keep = keep & values
        count(flow, name, keep)
    return keep
