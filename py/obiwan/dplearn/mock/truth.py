"""Write what was injected, and what is really there: truth tables of legacysim, obiwan and the mock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.conventions import BANDS
from obiwan.dplearn.mock.bricks import EXTINCTION, Brick, Conditions
from obiwan.dplearn.mock.writers import Card, brick_cards, card, write_table
from obiwan.dplearn.survey.rendering import circularised


def truth_columns(objects: NDArray[np.void], brick: Brick, conditions: Conditions) -> NDArray[np.void]:
    """Return what was asked for (legacysim's columns) and, as ``light_*``, what was drawn."""
    transmission = conditions.transmission()
    out = np.zeros(
        len(objects),
        dtype=[
            ("id", "i8"),
            ("ra", "f8"),
            ("dec", "f8"),
            ("bx", "f8"),
            ("by", "f8"),
            *[(f"{n}_{b}", k) for b in BANDS for n, k in (("mw_transmission", "f4"), ("flux", "f8"))],
            ("sersic", "f8"),
            ("shape_r", "f8"),
            ("shape_e1", "f8"),
            ("shape_e2", "f8"),
            ("brickname", "S8"),
            *[(f"light_flux_{b}", "f8") for b in BANDS],
            ("light_sersic", "f8"),
            ("light_shape_r", "f8"),
            ("light_dx", "f8"),
            ("light_psf", "f8"),
        ],
    )
    pairs = (
        ("id", "id"),
        ("ra", "ra"),
        ("dec", "dec"),
        ("bx", "x"),
        ("by", "y"),
        ("sersic", "sersic"),
        ("shape_r", "shape_r"),
        ("shape_e1", "e1"),
        ("shape_e2", "e2"),
        ("light_sersic", "light_sersic"),
        ("light_shape_r", "light_r"),
        ("light_dx", "light_dx"),
        ("light_psf", "light_psf"),
    )
    for name, source in pairs:
        out[name] = objects[source]
    for k, band in enumerate(BANDS):
        out[f"mw_transmission_{band}"] = transmission[k]
        out[f"flux_{band}"], out[f"light_flux_{band}"] = objects["flux"][:, k], objects["light_flux"][:, k]
    out["brickname"] = brick.name.encode()
    return out


def condition_cards(conditions: Conditions) -> list[Card]:
    """Cards FWHM_x, SKYSIG_x, GAIN_x, NOBS_x and EBV, from which stamps and noise can be computed again."""
    cards = [card("EBV", conditions.ebv, "E(B-V), mag")]
    for k, band in enumerate("GRZ"):
        cards += [
            card(f"FWHM_{band}", conditions.fwhm[k], "Moffat 3.5 FWHM (arcsec)"),
            card(f"SKYSIG_{band}", conditions.sigma[k], "sky noise per pixel at NOBS (nmgy)"),
            card(f"GAIN_{band}", conditions.gain[k], "electrons per nanomaggy per exposure"),
            card(f"NOBS_{band}", conditions.nobs[k], "exposures over most of the brick"),
            card(f"EXTC_{band}", EXTINCTION[k], "A / E(B-V)"),
        ]
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
    names = [n for n in truth.dtype.names or () if not n.startswith("light_")]
    light = [n for n in truth.dtype.names or () if n.startswith("light_")]
    order: list[Any] = [(n, truth.dtype[n]) for n in names] + [("seed", "i8"), ("collided", "?")]
    out = np.zeros(len(truth), dtype=order + [(n, truth.dtype[n]) for n in light])
    for name in [*names, *light]:
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
    out = np.zeros(
        len(rows),
        dtype=[
            ("id", "i8"),
            ("ra", "f8"),
            ("dec", "f8"),
            ("x", "f8"),
            ("y", "f8"),
            *[f for b in BANDS for f in ((f"{b}flux", "f8"), (f"mw_transmission_{b}", "f4"))],
            ("n", "f8"),
            ("rhalf", "f8"),
            ("e1", "f8"),
            ("e2", "f8"),
        ],
    )
    for name, source in (("id", "id"), ("ra", "ra"), ("dec", "dec"), ("n", "sersic")):
        out[name] = rows[source]
    out["rhalf"] = circularised(rows["shape_r"], rows["shape_e1"], rows["shape_e2"])
    out["x"], out["y"] = rows["bx"] + 1.0, rows["by"] + 1.0
    for band in BANDS:
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
