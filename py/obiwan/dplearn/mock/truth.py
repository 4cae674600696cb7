"""Truth tables: what was injected (as legacysim and obiwan tell it), and what is really there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.mock.bricks import Brick, Conditions
from obiwan.dplearn.mock.writers import Card, brick_cards, card, write_table
from obiwan.dplearn.survey.rendering import circularised

COLUMNS = {
    **{name: name for name in ("id", "ra", "dec")},
    **{"bx": "x", "by": "y", "sersic": "sersic", "shape_r": "shape_r", "shape_e1": "e1", "shape_e2": "e2"},
    **{"light_sersic": "light_sersic", "light_shape_r": "light_r"},
    **{"light_dx": "light_dx", "light_psf": "light_psf"},
}
"""Columns of a truth table that are not of a band, and those of `sky.object_dtype` that they hold."""

SHAPES = ("n", "rhalf", "e1", "e2")
"""Columns of the original obiwan's truth that tell a galaxy's shape."""


def truth_columns(objects: NDArray[np.void], brick: Brick, conditions: Conditions) -> NDArray[np.void]:
    """Return what was asked for (legacysim's columns) and, as ``light_*``, what was drawn."""
    bands, names = brick.bands, list(COLUMNS)
    per_band = [(f"{n}_{b}", k) for b in bands for n, k in (("mw_transmission", "f4"), ("flux", "f8"))]
    fields: list[Any] = [("id", "i8"), *((name, "f8") for name in names[1:5]), *per_band]
    fields += [*((name, "f8") for name in names[5:9]), ("brickname", "S8")]
    fields += [(name, "f8") for name in (*(f"light_flux_{band}" for band in bands), *names[9:])]
    out = np.zeros(len(objects), dtype=fields)
    for name, source in COLUMNS.items():
        out[name] = objects[source]
    for k, band in enumerate(bands):
        out[f"mw_transmission_{band}"] = conditions.transmission()[k]
        out[f"flux_{band}"], out[f"light_flux_{band}"] = objects["flux"][:, k], objects["light_flux"][:, k]
    out["brickname"] = brick.name.encode()
    return out


def condition_cards(conditions: Conditions) -> list[Card]:
    """Cards FWHM_x, SKYSIG_x, GAIN_x, NOBS_x and EBV, from which stamps and noise can be computed again."""
    cards = [card("EBV", conditions.ebv, "E(B-V), mag")]
    for k, band in enumerate(conditions.bands):
        values = (
            ("FWHM", conditions.fwhm[k], "Moffat 3.5 FWHM (arcsec)"),
            ("SKYSIG", conditions.sigma[k], "sky noise per pixel at NOBS (nmgy)"),
            ("GAIN", conditions.gain[k], "electrons per nanomaggy per exposure"),
            ("NOBS", conditions.nobs[k], "exposures over most of the brick"),
            ("EXTC", conditions.filters[k].extinction, "A / E(B-V)"),
        )
        cards += [card(f"{name}_{band.upper()}", value, comment) for name, value, comment in values]
    return cards


def write_injected(
    path: Path,
    truth: NDArray[np.void],
    collided: NDArray[np.bool_],
    brick: Brick,
    conditions: Conditions,
    seed: int,
) -> None:
    """Write legacysim's truth, injected-B.fits: every row asked for; the collided were not injected."""
    columns = list(truth.dtype.names or ())
    asked = [(name, truth.dtype[name]) for name in columns if not name.startswith("light_")]
    light = [(name, truth.dtype[name]) for name in columns if name.startswith("light_")]
    fields: list[Any] = [*asked, ("seed", "i8"), ("collided", "?"), *light]
    out = np.zeros(len(truth), dtype=fields)
    for name in columns:
        out[name] = truth[name]
    out["seed"], out["collided"] = seed + np.arange(len(truth)), collided
    cards = [
        *brick_cards(brick, "dr9", True),
        *condition_cards(conditions),
        card("PRODTYPE", "injected", "DESI data product type"),
    ]
    write_table(path, out, cards)


def write_simcat(
    folder: Path,
    truth: NDArray[np.void],
    collided: NDArray[np.bool_],
    on_ccd: NDArray[np.bool_],
    brick: Brick,
) -> None:
    """Write what kenobi.py writes for one run: simcat, metacat, sim_ids_added and, if any, skippedids.

    x, y are 1-based; rhalf is that of the round galaxy that galsim sheared, e1, e2 are galsim's
    (1 - q^2) / (1 + q^2) in the pixel frame; stars have n = rhalf = 0.
    """
    rows = truth[~collided]
    per_band = [f for b in brick.bands for f in ((f"{b}flux", "f8"), (f"mw_transmission_{b}", "f4"))]
    before, after = ([(name, "f8") for name in names] for names in (("ra", "dec", "x", "y"), SHAPES))
    fields: list[Any] = [("id", "i8"), *before, *per_band, *after]
    out = np.zeros(len(rows), dtype=fields)
    for name, source in (("id", "id"), ("ra", "ra"), ("dec", "dec"), ("n", "sersic")):
        out[name] = rows[source]
    out["rhalf"] = circularised(rows["shape_r"], rows["shape_e1"], rows["shape_e2"])
    out["x"], out["y"] = rows["bx"] + 1.0, rows["by"] + 1.0
    for band in brick.bands:
        out[f"{band}flux"] = rows[f"flux_{band}"]
        out[f"mw_transmission_{band}"] = rows[f"mw_transmission_{band}"]
    shear2 = rows["shape_e1"] ** 2 + rows["shape_e2"] ** 2
    out["e1"], out["e2"] = -2 * rows["shape_e1"] / (1 + shear2), -2 * rows["shape_e2"] / (1 + shear2)
    write_table(folder / f"simcat-elg-{brick.name}.fits", out)
    meta = np.zeros(1, dtype=[("brickname", "S8"), ("objtype", "S3"), ("nobj", "i8"), ("zoom", "i8", (4,))])
    meta["brickname"], meta["objtype"], meta["nobj"] = brick.name.encode(), b"elg", len(out)
    meta["zoom"] = [0, brick.size, 0, brick.size]
    write_table(folder / f"metacat-elg-{brick.name}.fits", meta)
    added = np.zeros(int(on_ccd[~collided].sum()), dtype=[("id", "i8")])
    added["id"] = rows["id"][on_ccd[~collided]]
    write_table(folder / "sim_ids_added.fits", added)
    if collided.any():
        skipped = np.zeros(int(collided.sum()), dtype=[("ids", "i8")])
        skipped["ids"] = truth["id"][collided]
        write_table(folder / f"skippedids-elg-{brick.name}.fits", skipped)
