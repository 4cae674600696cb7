"""Write the mock survey as legacypipe, legacysim and the original obiwan write theirs.

No file holds a clock time, host name or path, and dithering is seeded, so equal surveys have equal bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import fitsio
import numpy as np

from obiwan.dplearn.mock.bricks import Brick, Conditions
from obiwan.dplearn.mock.catalog import PER_BAND, SHAPES
from obiwan.dplearn.mock.config import PIXEL_SCALE
from obiwan.dplearn.stampspec import FILTERS, Array

TILE = (100, 100)
IMAGE_STEP = -1e-4  #: Absolute quantisation step of images: cfitsio takes a negative level for that
INVVAR_LEVEL = 16.0
DITHER = "SUBTRACTIVE_DITHER_2"

Card: TypeAlias = tuple[str, Any, str]  # name, value and comment of a header card


def _header(cards: Iterable[Card]) -> list[dict[str, Any]]:
    """Header cards in the form that fitsio takes."""
    return [{"name": name, "value": value, "comment": comment} for name, value, comment in cards]


def brick_cards(brick: Brick, era: str, simulated: bool) -> list[Card]:
    """Header cards that say which brick this is, in the dialect of ``era`` ("dr9" or "dr5").

    ``simulated`` adds what legacysim adds.
    """
    dr9 = era == "dr9"
    edges = zip(("RA min", "RA max", "Dec min", "Dec max"), brick.box, strict=True)
    centre = (("RA", brick.ra), ("Dec", brick.dec))
    cards: list[Card] = [("LEGSIMV", "mock", "legacysim git version")] if simulated and dr9 else []
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
    folder: Path,
    brick: Brick,
    band: str,
    image: Array,
    invvar: Array,
    era: str = "dr9",
    simulated: bool = False,
) -> None:
    """Write legacysurvey-B-image-x.fits.fz and -invvar-x.fits.fz, compressed as legacypipe does.

    RICE in tiles of 100x100; images with an absolute step of 1e-4 and a dither that keeps exact zeros;
    invvar without dither in DR9 ("q0 16"), with it in DR5 ("qz 16").
    """
    folder.mkdir(parents=True, exist_ok=True)
    common = [*brick_cards(brick, era, simulated), *wcs_cards(brick), ("FILTERX", band, "Filter short name")]
    image_cards: list[Card] = [
        ("PRODTYPE", "image", "NOAO image type"),
        ("MAGZERO", 22.5, "Magnitude zeropoint"),
        ("BUNIT", "nanomaggy", "AB mag = 22.5 - 2.5*log10(nanomaggy)"),
    ]
    invvar_cards: list[Card] = [
        ("PRODTYPE", "wtmap", "NOAO image type"),
        ("BUNIT", "1/nanomaggy^2", "Ivar of ABmag=22.5-2.5*log10(nmgy)"),
    ]
    seed = zlib.crc32(f"{brick.name}{band}".encode()) % 10000 + 1
    for kind, plane, cards, level, method in (
        ("image", image, image_cards, IMAGE_STEP, DITHER),
        ("invvar", invvar, invvar_cards, INVVAR_LEVEL, "NO_DITHER" if era == "dr9" else DITHER),
    ):
        path = folder / f"legacysurvey-{brick.name}-{kind}-{band}.fits.fz"
        header = _header([*common, ("IMTYPE", kind, "LegacySurveys image type"), *cards])
        how = {"compress": "RICE", "tile_dims": TILE, "qlevel": level, "qmethod": method}
        with fitsio.FITS(str(path), "rw", clobber=True) as fits:
            fits.write(plane, header=header, dither_seed=seed if method == DITHER else None, **how)


def write_table(
    path: Path, table: Array, cards: Iterable[Card] = (), units: Sequence[str] | None = None
) -> None:
    """Write a FITS table: cards in the empty primary HDU, the rows in HDU 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with fitsio.FITS(str(path), "rw", clobber=True) as fits:
        fits.write(None, header=_header(cards) or None)
        fits.write(table, units=units or [""] * len(table.dtype.names or ()))


def _unit(name: str) -> str:
    """The unit of a column of a tractor catalogue."""
    if name.startswith("flux_ivar_") or "depth_" in name:
        return "1/nanomaggy^2"
    if name.startswith("flux_"):
        return "nanomaggy"
    if name.startswith("psfsize_") or name in ("shape_r", "shapeexp_r", "shapedev_r"):
        return "arcsec"
    units = {"ra": "deg", "dec": "deg", "ra_ivar": "1/deg^2", "dec_ivar": "1/deg^2", "ebv": "mag"}
    return units.get(name, "")


def write_tractor(path: Path, table: Array, brick: Brick, era: str = "dr9", simulated: bool = False) -> None:
    """Write a tractor catalogue with the columns of DR9, or those of DR5 for ``era`` "dr5"."""
    rows = table if era == "dr9" else dr5_columns(table)
    cards = [*brick_cards(brick, era, simulated), ("PRODTYPE", "catalog", "NOAO data product type")]
    write_table(path, rows, cards, [_unit(name) for name in rows.dtype.names or ()])


def dr5_columns(table: Array) -> Array:
    """Return the rows with DR5 columns: bands ugrizY, shapeexp_*, shapedev_*, fracdev, type char[4].

    There is no SER in DR5: those rows become COMP, half exponential and half de Vaucouleurs.
    """
    shapes = [name + end for name in SHAPES for end in ("", "_ivar")]
    out = np.zeros(len(table), dtype=_dr5_fields(table.dtype, shapes))
    for column in set(out.dtype.names or ()) & set(table.dtype.names or ()):
        out[column] = table[column]
    types = np.char.strip(table["type"])
    composite = types == b"SER"
    out["type"] = np.where(composite, b"COMP", np.char.ljust(types, 4))
    out["release"] = 5000
    for band in FILTERS:
        if f"flux_{band}" not in (table.dtype.names or ()):
            out[f"mw_transmission_{band}"] = 1.0
    for profile, others in (("exp", [b"PSF", b"DEV"]), ("dev", [b"PSF", b"EXP", b"REX"])):
        held = ~np.isin(types, others)
        for shape in shapes:
            out[shape.replace("shape", f"shape{profile}")] = np.where(held, table[shape], 0.0)
    out["fracdev"] = np.select([types == b"DEV", composite], [1.0, 0.5], 0.0)
    return out


def _dr5_fields(dtype: np.dtype[np.void], shapes: Sequence[str]) -> list[Any]:
    """Columns of DR5 for those of DR9: each per-band column six times, the new ones left out."""
    newer = ("shape", "sersic", "maskbits", "fitbits", "ref_")
    fields: dict[str, Any] = {}
    for name in dtype.names or ():
        stem = name.rpartition("_")[0]
        if stem in PER_BAND:
            fields |= {f"{stem}_{band}": dtype[name] for band in FILTERS}
        elif not name.startswith(newer):
            fields[name] = "S4" if name == "type" else dtype[name]
    fields |= dict.fromkeys(("fracdev", "fracdev_ivar"), "f4")
    fields |= {
        shape.replace("shape", f"shape{profile}"): "f4" for profile in ("exp", "dev") for shape in shapes
    }
    return list(fields.items())


def write_ccds(path: Path, brick: Brick, conditions: Conditions) -> None:
    """Write legacysurvey-B-ccds.fits: one row per exposure, DECam in every band."""
    names = {"image_filename": "S40", "image_hdu": "i2", "camera": "S5", "expnum": "i4", "ccdname": "S3"}
    numbers = {"exptime": "f4", "mjd_obs": "f8", "fwhm": "f4", "width": "i2", "height": "i2"}
    place = {"ra": "f8", "dec": "f8", "sig1": "f8", "ccd_cuts": "i2"}
    box = dict.fromkeys(("brick_x0", "brick_x1", "brick_y0", "brick_y1"), "i2")
    rows = []
    for k, band in enumerate(brick.bands):
        fwhm, sig1 = conditions.fwhm[k] / PIXEL_SCALE, conditions.sigma[k] * conditions.nobs[k] ** 0.5
        for n in range(conditions.nobs[k]):
            expnum = brick.brickid * 10 + len(brick.bands) * n + k
            exposure = (f"decam/mock/c4d_{expnum}_ooi_{band}.fits.fz", 1, "decam", expnum, "N1", band)
            seen = (90.0, 57000.0 + 10 * n + k, fwhm, 2046, 4094, brick.ra, brick.dec, sig1, 0)
            rows.append((*exposure, *seen, 0, brick.size, 0, brick.size))
    fields: list[Any] = list({**names, "filter": "S1", **numbers, **place, **box}.items())
    table = np.array(rows, dtype=fields)
    cards = [*brick_cards(brick, "dr9", False), ("PRODTYPE", "ccdinfo", "NOAO data product type")]
    write_table(path, table, cards)
