"""Truth tables: what was injected (as legacysim and obiwan tell it), and what is really there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.mock.bricks import Brick, Conditions
from obiwan.dplearn.mock.writers import Card, brick_cards, write_table
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.rendering import circularised

PLACE = {"ra": "ra", "dec": "dec", "bx": "x", "by": "y"}
SHAPE = {"sersic": "sersic", "shape_r": "shape_r", "shape_e1": "e1", "shape_e2": "e2"}
#: Columns of a truth table that no band has, and those of `sky.object_dtype` that they hold
LIGHT = {
    **{"light_sersic": "light_sersic", "light_shape_r": "light_r"},
    **{"light_dx": "light_dx", "light_psf": "light_psf"},
}


def _table(n: int, columns: dict[str, Any]) -> Array:
    """A table of zeros with columns of these types."""
    return np.zeros(n, dtype=np.dtype(list(columns.items())))


def _numbers(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "f8")


def truth_columns(objects: Array, brick: Brick, conditions: Conditions) -> Array:
    """Return what was asked for (legacysim's columns) and, as ``light_*``, what was drawn."""
    columns = {"id": "i8", **_numbers(*PLACE)}
    for band in brick.bands:
        columns |= {f"mw_transmission_{band}": "f4", f"flux_{band}": "f8"}
    columns |= {**_numbers(*SHAPE), "brickname": "S8"}
    out = _table(len(objects), columns | _numbers(*(f"light_flux_{band}" for band in brick.bands), *LIGHT))
    for name, source in {"id": "id", **PLACE, **SHAPE, **LIGHT}.items():
        out[name] = objects[source]
    for k, band in enumerate(brick.bands):
        out[f"mw_transmission_{band}"] = conditions.transmission()[k]
        out[f"flux_{band}"], out[f"light_flux_{band}"] = objects["flux"][:, k], objects["light_flux"][:, k]
    out["brickname"] = brick.name.encode()
    return out


def condition_cards(conditions: Conditions) -> list[Card]:
    """Cards FWHM_x, SKYSIG_x, GAIN_x, NOBS_x and EBV, from which stamps and noise can be computed again."""
    cards: list[Card] = [("EBV", conditions.ebv, "E(B-V), mag")]
    for k, band in enumerate(conditions.bands):
        cards += [
            (f"FWHM_{band.upper()}", conditions.fwhm[k], "Moffat 3.5 FWHM (arcsec)"),
            (f"SKYSIG_{band.upper()}", conditions.sigma[k], "sky noise per pixel at NOBS (nmgy)"),
            (f"GAIN_{band.upper()}", conditions.gain[k], "electrons per nanomaggy per exposure"),
            (f"NOBS_{band.upper()}", conditions.nobs[k], "exposures over most of the brick"),
            (f"EXTC_{band.upper()}", conditions.filters[k].extinction, "A / E(B-V)"),
        ]
    return cards


def write_injected(
    folder: Path, truth: Array, collided: Array, brick: Brick, conditions: Conditions, seed: int
) -> None:
    """Write legacysim's truth, injected-B.fits: every row asked for; the collided were not injected."""
    columns = {name: truth.dtype[name] for name in truth.dtype.names or ()}
    light = {name: columns.pop(name) for name in [*columns] if name.startswith("light_")}
    out = _table(len(truth), {**columns, "seed": "i8", "collided": "?", **light})
    for name in (*columns, *light):
        out[name] = truth[name]
    out["seed"], out["collided"] = seed + np.arange(len(truth)), collided
    kind = ("PRODTYPE", "injected", "DESI data product type")
    cards = [*brick_cards(brick, "dr9", True), *condition_cards(conditions), kind]
    write_table(folder / f"injected-{brick.name}.fits", out, cards)


def write_simcat(folder: Path, truth: Array, collided: Array, on_ccd: Array, brick: Brick) -> None:
    """Write what kenobi.py writes for one run: simcat, metacat, sim_ids_added and, if any, skippedids.

    x, y are 1-based; rhalf is that of the round galaxy that galsim sheared, e1, e2 are galsim's
    (1 - q^2) / (1 + q^2) in the pixel frame; stars have n = rhalf = 0.
    """
    rows = truth[~collided]
    columns = {"id": "i8", **_numbers("ra", "dec", "x", "y")}
    for band in brick.bands:
        columns |= {f"{band}flux": "f8", f"mw_transmission_{band}": "f4"}
    out = _table(len(rows), columns | _numbers("n", "rhalf", "e1", "e2"))
    for name, source in {"id": "id", "ra": "ra", "dec": "dec", "n": "sersic"}.items():
        out[name] = rows[source]
    out["rhalf"] = circularised(rows["shape_r"], rows["shape_e1"], rows["shape_e2"])
    out["x"], out["y"] = rows["bx"] + 1.0, rows["by"] + 1.0
    for band in brick.bands:
        out[f"{band}flux"] = rows[f"flux_{band}"]
        out[f"mw_transmission_{band}"] = rows[f"mw_transmission_{band}"]
    shear2 = rows["shape_e1"] ** 2 + rows["shape_e2"] ** 2
    for name in ("e1", "e2"):
        out[name] = -2 * rows[f"shape_{name}"] / (1 + shear2)
    write_table(folder / f"simcat-elg-{brick.name}.fits", out)
    meta = _table(1, {"brickname": "S8", "objtype": "S3", "nobj": "i8", "zoom": ("i8", (4,))})
    meta[0] = (brick.name.encode(), b"elg", len(out), [0, brick.size, 0, brick.size])
    write_table(folder / f"metacat-elg-{brick.name}.fits", meta)
    _write_ids(folder / "sim_ids_added.fits", "id", rows["id"][on_ccd[~collided]])
    if collided.any():
        _write_ids(folder / f"skippedids-elg-{brick.name}.fits", "ids", truth["id"][collided])


def _write_ids(path: Path, column: str, ids: Array) -> None:
    table = _table(len(ids), {column: "i8"})
    table[column] = ids
    write_table(path, table)
