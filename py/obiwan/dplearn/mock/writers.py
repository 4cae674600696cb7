"""Write the mock survey as legacypipe, legacysim and the original obiwan write theirs.

No file holds a clock time, host name or path, and dithering is seeded, so equal surveys have equal bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from astropy.table import Table

from obiwan.dplearn.files.fits import open_fits
from obiwan.dplearn.mock.bricks import Brick, Conditions
from obiwan.dplearn.mock.catalog import PER_BAND, SHAPES
from obiwan.dplearn.mock.config import PIXEL_SCALE
from obiwan.dplearn.stampspec import FILTERS, Array
from obiwan.dplearn.survey.rendering import circularised
from obiwan.dplearn.survey.sources import unit_of

TILE = (100, 100)
IMAGE_STEP = -1e-4  #: Absolute quantisation step of images: cfitsio takes a negative level for that
INVVAR_LEVEL = 16.0
DITHER = "SUBTRACTIVE_DITHER_2"

PLACE = {"ra": "ra", "dec": "dec", "bx": "x", "by": "y"}
SHAPE = {"sersic": "sersic", "shape_r": "shape_r", "shape_e1": "e1", "shape_e2": "e2"}
#: Columns of a truth table that no band has, and those of `sky.object_dtype` that they hold
LIGHT = {
    **{"light_sersic": "light_sersic", "light_shape_r": "light_r", "light_psf": "light_psf"},
    **{"light_shot": "light_shot", "light_dip": "light_dip"},
}

Card: TypeAlias = tuple[str, Any, str]  # name, value and comment of a header card


def _header(cards: Iterable[Card]) -> list[dict[str, Any]]:
    """Header cards in the form that fitsio takes."""
    return [{"name": name, "value": value, "comment": comment} for name, value, comment in cards]


def brick_cards(brick: Brick, dialect: str = "release") -> list[Card]:
    """Header cards that say which brick this is, as in the files of the layout of this name.

    Those of ``obiwan`` are of DR5, the others of DR9, to which ``legacysim`` adds one.
    """
    dr9 = dialect != "obiwan"
    edges = zip(("RA min", "RA max", "Dec min", "Dec max"), brick.box, strict=True)
    centre = (("RA", brick.ra), ("Dec", brick.dec))
    cards: list[Card] = [("LEGSIMV", "mock", "legacysim git version")] if dialect == "legacysim" else []
    cards += [
        ("LEGPIPEV", "mock", "legacypipe git version"),
        ("SURVEY", "MOCK", "not the sky: obiwan.dplearn.mock"),
        ("DRVERSIO", 9010 if dr9 else 5000, "LegacySurveys Data Release number"),
        ("BRICK" if dr9 else "BRICKNAM", brick.name, "LegacySurveys brick RRRr[pm]DDd"),
        ("BRICKID", brick.brickid, "LegacySurveys brick id"),
        *((edge.replace(" ", "").upper(), value, f"Brick {edge} (deg)") for edge, value in edges),
    ]
    if not dr9:
        cards += [(f"BRICK{axis.upper()}", value, "Brick center") for axis, value in centre]
    cards += [(f"CENT{axis.upper()}", value, f"Brick center {axis} (deg)") for axis, value in centre]
    for band in brick.bands:
        cards += [
            (f"BRICK_{band.upper()}", True, f"Does band {band} touch this brick?"),
            (f"CAMS_{band.upper()}", "decam", f"Cameras contributing band {band}"),
        ]
    cards.append(("BANDS", "".join(brick.bands), "Bands touching this brick"))
    cards.append(("NBANDS", len(brick.bands), "Number of bands"))
    return cards + [(f"BAND{k}", band, "Band name in this catalog") for k, band in enumerate(brick.bands)]


def wcs_cards(brick: Brick) -> list[Card]:
    """TAN cards of a brick's coadd."""
    step, middle = PIXEL_SCALE / 3600.0, brick.size / 2 + 0.5
    return [
        ("CTYPE1", "RA---TAN", "TANgent plane"),
        ("CTYPE2", "DEC--TAN", "TANgent plane"),
        ("CRVAL1", brick.ra, "Reference RA"),
        ("CRVAL2", brick.dec, "Reference Dec"),
        ("CRPIX1", middle, "Reference x"),
        ("CRPIX2", middle, "Reference y"),
        ("CD1_1", -step, "CD matrix"),
        ("CD1_2", 0.0, "CD matrix"),
        ("CD2_1", 0.0, "CD matrix"),
        ("CD2_2", step, "CD matrix"),
        ("EQUINOX", 2000.0, "WCS epoch"),
    ]


def write_planes(
    folder: Path, brick: Brick, band: str, image: Array, invvar: Array, dialect: str = "release"
) -> None:
    """Write legacysurvey-B-image-x.fits.fz and -invvar-x.fits.fz, compressed as legacypipe does.

    RICE in tiles of 100x100; images with an absolute step of 1e-4 and a dither that keeps exact zeros;
    invvar without dither in DR9 ("q0 16"), with it in DR5 ("qz 16").
    """
    folder.mkdir(parents=True, exist_ok=True)
    common = [*brick_cards(brick, dialect), *wcs_cards(brick), ("FILTERX", band, "Filter short name")]
    dithered = DITHER if dialect == "obiwan" else "NO_DITHER"
    seed = zlib.crc32(f"{brick.name}{band}".encode()) % 10000 + 1
    image_cards: list[Card] = [
        ("PRODTYPE", "image", "NOAO image type"),
        ("MAGZERO", 22.5, "Magnitude zeropoint"),
        ("BUNIT", "nanomaggy", "AB mag = 22.5 - 2.5*log10(nanomaggy)"),
    ]
    invvar_cards: list[Card] = [
        ("PRODTYPE", "wtmap", "NOAO image type"),
        ("BUNIT", "1/nanomaggy^2", "Ivar of ABmag=22.5-2.5*log10(nmgy)"),
    ]
    for kind, plane, cards, level, method in (
        ("image", image, image_cards, IMAGE_STEP, DITHER),
        ("invvar", invvar, invvar_cards, INVVAR_LEVEL, dithered),
    ):
        path = folder / f"legacysurvey-{brick.name}-{kind}-{band}.fits.fz"
        header = _header([*common, ("IMTYPE", kind, "LegacySurveys image type"), *cards])
        how = {"compress": "RICE", "tile_dims": TILE, "qlevel": level, "qmethod": method}
        with open_fits(path, new=True) as fits:
            fits.write(plane, header=header, dither_seed=seed if method == DITHER else None, **how)


def write_table(
    path: Path, table: Array, cards: Iterable[Card] = (), units: Sequence[str] | None = None
) -> None:
    """Write a FITS table: cards in the empty primary HDU, the rows in HDU 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_fits(path, new=True) as fits:
        fits.write(None, header=_header(cards) or None)
        fits.write(table, units=units or [""] * len(table.dtype.names or ()))


def write_tractor(path: Path, table: Array, brick: Brick, dialect: str = "release") -> None:
    """Write a tractor catalogue with the columns of DR9 or, for the dialect of ``obiwan``, of DR5."""
    rows = dr5_columns(table) if dialect == "obiwan" else table
    cards = [*brick_cards(brick, dialect), ("PRODTYPE", "catalog", "NOAO data product type")]
    write_table(path, rows, cards, [unit_of(name) for name in rows.dtype.names or ()])


def table_of(columns: Mapping[str, Array]) -> Array:
    """A structured array of these columns."""
    return np.asarray(Table(columns, copy=False).as_array())


def dr5_columns(table: Array) -> Array:
    """Return the rows with DR5 columns: bands ugrizY, shapeexp_*, shapedev_*, fracdev, type char[4].

    There is no SER in DR5: those rows become COMP, half exponential and half de Vaucouleurs.
    """
    newer = ("shape", "sersic", "maskbits", "fitbits", "ref_")
    columns: dict[str, Array] = {}
    for name in table.dtype.names or ():
        stem = name.rpartition("_")[0]
        if stem in PER_BAND:
            absent = np.full(len(table), stem == "mw_transmission", table.dtype[name])
            columns |= {f"{stem}_{band}": absent for band in FILTERS if f"{stem}_{band}" not in columns}
            columns[name] = table[name]
        elif not name.startswith(newer):
            columns[name] = table[name]
    types = np.char.strip(table["type"])
    columns["type"] = np.where(types == b"SER", b"COMP", np.char.ljust(types, 4))
    columns["release"] = np.full(len(table), 5000, "i2")
    columns["fracdev"] = np.select([types == b"DEV", types == b"SER"], [1.0, 0.5], 0.0).astype("f4")
    columns["fracdev_ivar"] = np.zeros(len(table), "f4")
    for profile, others in (("exp", [b"PSF", b"DEV"]), ("dev", [b"PSF", b"EXP", b"REX"])):
        for name in (shape + end for shape in SHAPES for end in ("", "_ivar")):
            held = np.where(np.isin(types, others), np.float32(0), table[name])
            columns[name.replace("shape", f"shape{profile}")] = held
    return table_of(columns)


def write_ccds(path: Path, brick: Brick, conditions: Conditions) -> None:
    """Write legacysurvey-B-ccds.fits: one row per exposure, DECam in every band."""
    names = {"image_filename": "S40", "image_hdu": "i2", "camera": "S5", "expnum": "i4", "ccdname": "S3"}
    numbers = {"exptime": "f4", "mjd_obs": "f8", "fwhm": "f4", "width": "i2", "height": "i2"}
    place = {"ra": "f8", "dec": "f8", "sig1": "f8", "ccd_cuts": "i2"}
    box = dict.fromkeys(("brick_x0", "brick_x1", "brick_y0", "brick_y1"), "i2")
    rows, centre = [], brick.pointing
    for k, band in enumerate(brick.bands):
        fwhm, sig1 = conditions.fwhm[k] / PIXEL_SCALE, conditions.sigma[k] * conditions.nobs[k] ** 0.5
        for n in range(conditions.nobs[k]):
            expnum = centre.brickid * 100 + len(brick.bands) * n + k
            exposure = (f"decam/mock/c4d_{expnum}_ooi_{band}.fits.fz", 1, "decam", expnum, "N1", band)
            seen = (90.0, 57000.0 + 10 * n + k, fwhm, 2046, 4094, centre.ra, centre.dec, sig1, 0)
            rows.append((*exposure, *seen, 0, brick.size, 0, brick.size))
    fields: list[Any] = list({**names, "filter": "S1", **numbers, **place, **box}.items())
    table = np.array(rows, dtype=fields)
    cards = [*brick_cards(brick), ("PRODTYPE", "ccdinfo", "NOAO data product type")]
    write_table(path, table, cards)


def truth_columns(objects: Array, brick: Brick, conditions: Conditions) -> Array:
    """Return what was asked for (legacysim's columns) and, as ``light_*``, what was drawn."""
    n, names = len(objects), {"id": "id", **PLACE}
    columns = {name: objects[source] for name, source in names.items()}
    for k, band in enumerate(brick.bands):
        columns[f"mw_transmission_{band}"] = np.full(n, conditions.transmission()[k], "f4")
        columns[f"flux_{band}"] = objects["flux"][:, k]
    columns |= {name: objects[source] for name, source in SHAPE.items()}
    columns["brickname"] = np.full(n, brick.name, "S8")
    for name in ("light_flux", "light_dx"):
        columns |= {f"{name}_{band}": objects[name][:, k] for k, band in enumerate(brick.bands)}
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
