"""Write the mock survey as legacypipe, legacysim and the original obiwan write theirs.

No file holds a clock time, host name or path, and dithering is seeded, so equal surveys have equal bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.mock.bricks import Brick, Conditions
from obiwan.dplearn.mock.catalog import PER_BAND, SHAPES
from obiwan.dplearn.mock.config import PIXEL_SCALE
from obiwan.dplearn.stampspec import FILTERS

TILE = (100, 100)
IMAGE_STEP = -1e-4
"""Absolute quantisation step of images: cfitsio takes a negative level for that."""
INVVAR_LEVEL = 16.0

Card = dict[str, Any]


def card(name: str, value: Any, comment: str = "") -> Card:
    """Return one header card in the form that fitsio takes."""
    return {"name": name, "value": value, "comment": comment}


def brick_cards(brick: Brick, era: str, simulated: bool) -> list[Card]:
    """Header cards that say which brick this is, in the dialect of ``era`` ("dr9" or "dr5").

    ``simulated`` adds what legacysim adds.
    """
    ramin, ramax, decmin, decmax = brick.box
    cards = [card("LEGSIMV", "mock", "legacysim git version")] if simulated and era == "dr9" else []
    cards += [
        card("LEGPIPEV", "mock", "legacypipe git version"),
        card("SURVEY", "MOCK", "not the sky: obiwan.dplearn.mock"),
        card("DRVERSIO", 9010 if era == "dr9" else 5000, "LegacySurveys Data Release number"),
        card("BRICK" if era == "dr9" else "BRICKNAM", brick.name, "LegacySurveys brick RRRr[pm]DDd"),
        card("BRICKID", brick.brickid, "LegacySurveys brick id"),
        card("RAMIN", ramin, "Brick RA min (deg)"),
        card("RAMAX", ramax, "Brick RA max (deg)"),
        card("DECMIN", decmin, "Brick Dec min (deg)"),
        card("DECMAX", decmax, "Brick Dec max (deg)"),
    ]
    if era == "dr5":
        cards += [card("BRICKRA", brick.ra, "Brick center"), card("BRICKDEC", brick.dec, "Brick center")]
    cards += [
        card("CENTRA", brick.ra, "Brick center RA (deg)"),
        card("CENTDEC", brick.dec, "Brick center Dec (deg)"),
    ]
    for band in brick.bands:
        cards += [
            card(f"BRICK_{band.upper()}", True, f"Does band {band} touch this brick?"),
            card(f"CAMS_{band.upper()}", "decam", f"Cameras contributing band {band}"),
        ]
    cards += [
        card("BANDS", "".join(brick.bands), "Bands touching this brick"),
        card("NBANDS", len(brick.bands), "Number of bands"),
    ]
    return cards + [card(f"BAND{k}", band, "Band name in this catalog") for k, band in enumerate(brick.bands)]


def wcs_cards(brick: Brick) -> list[Card]:
    """TAN cards of a brick's coadd."""
    step, middle = PIXEL_SCALE / 3600.0, brick.size / 2 + 0.5
    values: dict[str, tuple[Any, str]] = {
        "CTYPE1": ("RA---TAN", "TANgent plane"),
        "CTYPE2": ("DEC--TAN", "TANgent plane"),
        "CRVAL1": (brick.ra, "Reference RA"),
        "CRVAL2": (brick.dec, "Reference Dec"),
        "CRPIX1": (middle, "Reference x"),
        "CRPIX2": (middle, "Reference y"),
        **{name: (cd, "CD matrix") for name, cd in (("CD1_1", -step), ("CD1_2", 0.0))},
        **{name: (cd, "CD matrix") for name, cd in (("CD2_1", 0.0), ("CD2_2", step))},
        "EQUINOX": (2000.0, "WCS epoch"),
    }
    return [card(name, *value) for name, value in values.items()]


def write_planes(
    folder: Path,
    brick: Brick,
    band: str,
    image: NDArray[np.float32],
    invvar: NDArray[np.float32],
    era: str = "dr9",
    simulated: bool = False,
) -> None:
    """Write legacysurvey-B-image-x.fits.fz and -invvar-x.fits.fz, compressed as legacypipe does.

    RICE in tiles of 100x100; images with an absolute step of 1e-4 and a dither that keeps exact zeros;
    invvar without dither in DR9 ("q0 16"), with it in DR5 ("qz 16").
    """
    folder.mkdir(parents=True, exist_ok=True)
    common = [
        *brick_cards(brick, era, simulated),
        *wcs_cards(brick),
        card("FILTERX", band, "Filter short name"),
    ]
    image_cards = [
        card("IMTYPE", "image", "LegacySurveys image type"),
        card("PRODTYPE", "image", "NOAO image type"),
        card("MAGZERO", 22.5, "Magnitude zeropoint"),
        card("BUNIT", "nanomaggy", "AB mag = 22.5 - 2.5*log10(nanomaggy)"),
    ]
    invvar_cards = [
        card("IMTYPE", "invvar", "LegacySurveys image type"),
        card("PRODTYPE", "wtmap", "NOAO image type"),
        card("BUNIT", "1/nanomaggy^2", "Ivar of ABmag=22.5-2.5*log10(nmgy)"),
    ]
    seed = zlib.crc32(f"{brick.name}{band}".encode()) % 10000 + 1
    dither = "SUBTRACTIVE_DITHER_2"
    for kind, plane, cards, level, method in (
        ("image", image, image_cards, IMAGE_STEP, dither),
        ("invvar", invvar, invvar_cards, INVVAR_LEVEL, "NO_DITHER" if era == "dr9" else dither),
    ):
        path = folder / f"legacysurvey-{brick.name}-{kind}-{band}.fits.fz"
        with fitsio.FITS(str(path), "rw", clobber=True) as fits:
            fits.write(
                plane,
                header=[*common, *cards],
                compress="RICE",
                tile_dims=TILE,
                qlevel=level,
                qmethod=method,
                dither_seed=seed if method == dither else None,
            )


def write_table(
    path: Path,
    table: NDArray[np.void],
    primary: list[Card] | None = None,
    units: dict[str, str] | None = None,
) -> None:
    """Write a FITS table: ``primary`` cards in the empty primary HDU, the rows in HDU 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = table.dtype.names or ()
    with fitsio.FITS(str(path), "rw", clobber=True) as fits:
        fits.write(None, header=primary)
        fits.write(table, units=[(units or {}).get(name, "") for name in names])


def _units(names: Sequence[str]) -> dict[str, str]:
    out = {"ra": "deg", "dec": "deg", "ra_ivar": "1/deg^2", "dec_ivar": "1/deg^2", "ebv": "mag"}
    for name in names:
        if name.startswith("flux_ivar_") or "depth_" in name:
            out[name] = "1/nanomaggy^2"
        elif name.startswith("flux_"):
            out[name] = "nanomaggy"
        elif name.startswith("psfsize_") or name in ("shape_r", "shapeexp_r", "shapedev_r"):
            out[name] = "arcsec"
    return out


def write_tractor(
    path: Path, table: NDArray[np.void], brick: Brick, era: str = "dr9", simulated: bool = False
) -> None:
    """Write a tractor catalogue with the columns of DR9, or those of DR5 for ``era`` "dr5"."""
    rows = table if era == "dr9" else dr5_columns(table)
    cards = [*brick_cards(brick, era, simulated), card("PRODTYPE", "catalog", "NOAO data product type")]
    write_table(path, rows, cards, _units(rows.dtype.names or ()))


def dr5_columns(table: NDArray[np.void]) -> NDArray[np.void]:
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
    rows = [(k, n) for k in range(len(brick.bands)) for n in range(conditions.nobs[k])]
    fields: list[Any] = list({**names, "filter": "S1", **numbers, **place, **box}.items())
    table = np.zeros(len(rows), dtype=fields)
    for row, (k, n) in zip(table, rows, strict=True):
        band, expnum = brick.bands[k], brick.brickid * 10 + len(brick.bands) * n + k
        row["image_filename"] = f"decam/mock/c4d_{expnum}_ooi_{band}.fits.fz".encode()
        row["image_hdu"], row["camera"], row["expnum"], row["ccdname"] = 1, b"decam", expnum, b"N1"
        row["filter"], row["exptime"], row["mjd_obs"] = band.encode(), 90.0, 57000.0 + 10 * n + k
        row["fwhm"], row["width"], row["height"] = conditions.fwhm[k] / PIXEL_SCALE, 2046, 4094
        row["ra"], row["dec"] = brick.ra, brick.dec
        row["sig1"] = conditions.sigma[k] * conditions.nobs[k] ** 0.5
        row["brick_x1"] = row["brick_y1"] = brick.size
    cards = [*brick_cards(brick, "dr9", False), card("PRODTYPE", "ccdinfo", "NOAO data product type")]
    write_table(path, table, cards)
