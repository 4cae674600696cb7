"""Truth tables: what was injected (as legacysim and obiwan tell it), and what is really there."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from obiwan.dplearn.mock.bricks import Brick, Conditions
from obiwan.dplearn.mock.writers import Card, brick_cards, table_of, write_table
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.rendering import circularised

PLACE = {"ra": "ra", "dec": "dec", "bx": "x", "by": "y"}
SHAPE = {"sersic": "sersic", "shape_r": "shape_r", "shape_e1": "e1", "shape_e2": "e2"}
#: Columns of a truth table that no band has, and those of `sky.object_dtype` that they hold
LIGHT = {
    **{"light_sersic": "light_sersic", "light_shape_r": "light_r"},
    **{"light_dx": "light_dx", "light_psf": "light_psf"},
}


def truth_columns(objects: Array, brick: Brick, conditions: Conditions) -> Array:
    """Return what was asked for (legacysim's columns) and, as ``light_*``, what was drawn."""
    n, names = len(objects), {"id": "id", **PLACE}
    columns = {name: objects[source] for name, source in names.items()}
    for k, band in enumerate(brick.bands):
        columns[f"mw_transmission_{band}"] = np.full(n, conditions.transmission()[k], "f4")
        columns[f"flux_{band}"] = objects["flux"][:, k]
    columns |= {name: objects[source] for name, source in SHAPE.items()}
    columns["brickname"] = np.full(n, brick.name, "S8")
    columns |= {f"light_flux_{band}": objects["light_flux"][:, k] for k, band in enumerate(brick.bands)}
    return table_of(columns | {name: objects[source] for name, source in LIGHT.items()})


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
    path: Path, truth: Array, collided: Array, brick: Brick, conditions: Conditions, seed: int
) -> None:
    """Write legacysim's truth, injected-B.fits: every row asked for; the collided were not injected."""
    columns = {name: truth[name] for name in truth.dtype.names or ()}
    light = {name: columns.pop(name) for name in [*columns] if name.startswith("light_")}
    flags = {"seed": seed + np.arange(len(truth)), "collided": collided}
    kind = ("PRODTYPE", "injected", "DESI data product type")
    cards = [*brick_cards(brick, "legacysim"), *condition_cards(conditions), kind]
    write_table(path, table_of({**columns, **flags, **light}), cards)


def write_simcat(path: Path, truth: Array, collided: Array, on_ccd: Array, brick: Brick) -> None:
    """Write what kenobi.py writes for one run: simcat, metacat, sim_ids_added and, if any, skippedids.

    x, y are 1-based; rhalf is that of the round galaxy that galsim sheared, e1, e2 are galsim's
    (1 - q^2) / (1 + q^2) in the pixel frame; stars have n = rhalf = 0.
    """
    rows = truth[~collided]
    columns = {name: rows[name] for name in ("id", "ra", "dec")}
    columns |= {"x": rows["bx"] + 1.0, "y": rows["by"] + 1.0}
    for band in brick.bands:
        columns[f"{band}flux"] = rows[f"flux_{band}"]
        columns[f"mw_transmission_{band}"] = rows[f"mw_transmission_{band}"]
    columns["n"] = rows["sersic"]
    columns["rhalf"] = circularised(rows["shape_r"], rows["shape_e1"], rows["shape_e2"])
    shear2 = rows["shape_e1"] ** 2 + rows["shape_e2"] ** 2
    columns |= {name: -2 * rows[f"shape_{name}"] / (1 + shear2) for name in ("e1", "e2")}
    box = np.array([[0, brick.size, 0, brick.size]])
    meta = {"brickname": np.array([brick.name], "S8"), "objtype": np.array([b"elg"])}
    tables = {
        path.name: columns,
        f"metacat-elg-{brick.name}.fits": {**meta, "nobj": np.array([len(rows)]), "zoom": box},
        "sim_ids_added.fits": {"id": rows["id"][on_ccd[~collided]]},
        f"skippedids-elg-{brick.name}.fits": {"ids": truth["id"][collided]},
    }
    for name, table in tables.items():
        if collided.any() or not name.startswith("skippedids"):
            write_table(path.parent / name, table_of(table))
