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

from obiwan.dplearn.mock_bricks import BANDS, EXTINCTION, PIXEL_SCALE, Brick, Conditions

TILE = (100, 100)
IMAGE_STEP = -1e-4
"""Absolute quantisation step of images: cfitsio takes a negative level for that."""
INVVAR_LEVEL = 16.0

Card = dict[str, Any]


def _card(name: str, value: Any, comment: str = "") -> Card:
    return {"name": name, "value": value, "comment": comment}


def brick_cards(brick: Brick, era: str, simulated: bool) -> list[Card]:
    """Header cards that say which brick this is, in the dialect of ``era`` ("dr9" or "dr5").

    ``simulated`` adds what legacysim adds.
    """
    ramin, ramax, decmin, decmax = brick.box
    cards = [_card("LEGSIMV", "mock", "legacysim git version")] if simulated and era == "dr9" else []
    cards += [
        _card("LEGPIPEV", "mock", "legacypipe git version"),
        _card("SURVEY", "MOCK", "not the sky: obiwan.dplearn.mock"),
        _card("DRVERSIO", 9010 if era == "dr9" else 5000, "LegacySurveys Data Release number"),
        _card("BRICK" if era == "dr9" else "BRICKNAM", brick.name, "LegacySurveys brick RRRr[pm]DDd"),
        _card("BRICKID", brick.brickid, "LegacySurveys brick id"),
        _card("RAMIN", ramin, "Brick RA min (deg)"),
        _card("RAMAX", ramax, "Brick RA max (deg)"),
        _card("DECMIN", decmin, "Brick Dec min (deg)"),
        _card("DECMAX", decmax, "Brick Dec max (deg)"),
    ]
    if era == "dr5":
        cards += [_card("BRICKRA", brick.ra, "Brick center"), _card("BRICKDEC", brick.dec, "Brick center")]
    cards += [_card("CENTRA", brick.ra, "Brick center RA (deg)"), _card("CENTDEC", brick.dec, "Brick center Dec (deg)")]
    for band in BANDS:
        cards += [
            _card(f"BRICK_{band.upper()}", True, f"Does band {band} touch this brick?"),
            _card(f"CAMS_{band.upper()}", "decam", f"Cameras contributing band {band}"),
        ]
    cards += [_card("BANDS", "grz", "Bands touching this brick"), _card("NBANDS", 3, "Number of bands")]
    return cards + [_card(f"BAND{k}", band, "Band name in this catalog") for k, band in enumerate(BANDS)]


def wcs_cards(brick: Brick) -> list[Card]:
    """TAN cards of a brick's coadd."""
    step, middle = PIXEL_SCALE / 3600.0, brick.size / 2 + 0.5
    values: list[tuple[str, Any, str]] = [
        ("CTYPE1", "RA---TAN", "TANgent plane"), ("CTYPE2", "DEC--TAN", "TANgent plane"),
        ("CRVAL1", brick.ra, "Reference RA"), ("CRVAL2", brick.dec, "Reference Dec"),
        ("CRPIX1", middle, "Reference x"), ("CRPIX2", middle, "Reference y"),
        ("CD1_1", -step, "CD matrix"), ("CD1_2", 0.0, "CD matrix"),
        ("CD2_1", 0.0, "CD matrix"), ("CD2_2", step, "CD matrix"), ("EQUINOX", 2000.0, "WCS epoch"),
    ]
    return [_card(*value) for value in values]


def write_planes(
    folder: Path, brick: Brick, band: str, image: NDArray[np.float32], invvar: NDArray[np.float32],
    era: str = "dr9", simulated: bool = False,
) -> None:
    """Write legacysurvey-B-image-x.fits.fz and -invvar-x.fits.fz, compressed as legacypipe does.

    RICE in tiles of 100x100; images with an absolute step of 1e-4 and a dither that keeps exact zeros;
    invvar without dither in DR9 ("q0 16"), with it in DR5 ("qz 16").
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"legacysurvey-{brick.name}"
    common = [*brick_cards(brick, era, simulated), *wcs_cards(brick), _card("FILTERX", band, "Filter short name")]
    image_cards = [
        _card("IMTYPE", "image", "LegacySurveys image type"), _card("PRODTYPE", "image", "NOAO image type"),
        _card("MAGZERO", 22.5, "Magnitude zeropoint"),
        _card("BUNIT", "nanomaggy", "AB mag = 22.5 - 2.5*log10(nanomaggy)"),
    ]
    invvar_cards = [
        _card("IMTYPE", "invvar", "LegacySurveys image type"), _card("PRODTYPE", "wtmap", "NOAO image type"),
        _card("BUNIT", "1/nanomaggy^2", "Ivar of ABmag=22.5-2.5*log10(nmgy)"),
    ]
    seed = zlib.crc32(f"{brick.name}{band}".encode()) % 10000 + 1
    method = "NO_DITHER" if era == "dr9" else "SUBTRACTIVE_DITHER_2"
    _compress(folder / f"{stem}-image-{band}.fits.fz", image, [*common, *image_cards],
              IMAGE_STEP, "SUBTRACTIVE_DITHER_2", seed)
    _compress(folder / f"{stem}-invvar-{band}.fits.fz", invvar, [*common, *invvar_cards],
              INVVAR_LEVEL, method, seed)


def _compress(
    path: Path, plane: NDArray[np.float32], cards: list[Card], level: float, method: str, seed: int
) -> None:
    with fitsio.FITS(str(path), "rw", clobber=True) as fits:
        fits.write(
            plane, header=cards, compress="RICE", tile_dims=TILE, qlevel=level, qmethod=method,
            dither_seed=seed if method != "NO_DITHER" else None,
        )


def write_table(path: Path, table: NDArray[np.void], primary: list[Card] | None = None,
                units: dict[str, str] | None = None) -> None:
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


def write_tractor(path: Path, table: NDArray[np.void], brick: Brick, era: str = "dr9",
                  simulated: bool = False) -> None:
    """Write a tractor catalogue with the columns of DR9, or those of DR5 for ``era`` "dr5"."""
    rows = table if era == "dr9" else dr5_columns(table)
    cards = [*brick_cards(brick, era, simulated), _card("PRODTYPE", "catalog", "NOAO data product type")]
    write_table(path, rows, cards, _units(rows.dtype.names or ()))


def dr5_columns(table: NDArray[np.void]) -> NDArray[np.void]:
    """Return the rows with DR5 columns: bands ugrizY, shapeexp_*, shapedev_*, fracdev, type char[4].

    There is no SER in DR5: those rows become COMP, half exponential and half de Vaucouleurs.
    """
    fields: list[Any] = []
    for name in table.dtype.names or ():
        kind = table.dtype[name]
        if name == "type":
            fields.append(("type", "S4"))
        elif name.endswith("_g"):
            fields += [(f"{name[:-1]}{band}", kind) for band in "ugrizY"]
        elif not name.endswith(("_r", "_z")) and not name.startswith(("shape", "sersic", "maskbits", "fitbits", "ref_")):
            fields.append((name, kind))
    shapes = ("r", "r_ivar", "e1", "e1_ivar", "e2", "e2_ivar")
    fields += [("fracdev", "f4"), ("fracdev_ivar", "f4")]
    fields += [(f"shape{kind}_{name}", "f4") for kind in ("exp", "dev") for name in shapes]
    out = np.zeros(len(table), dtype=fields)
    for name in set(out.dtype.names or ()) & set(table.dtype.names or ()):
        out[name] = table[name]
    kinds = np.char.strip(table["type"])
    composite = kinds == b"SER"
    out["type"] = np.where(composite, b"COMP", np.char.ljust(kinds, 4))
    out["release"] = 5000
    for band in "uiY":
        out[f"mw_transmission_{band}"] = 1.0
    for kind, held in (("exp", np.isin(kinds, [b"EXP", b"REX", b"SER"])), ("dev", np.isin(kinds, [b"DEV", b"SER"]))):
        for name in shapes:
            out[f"shape{kind}_{name}"] = np.where(held, table[f"shape_{name}"], 0.0)
    out["fracdev"] = np.select([kinds == b"DEV", composite], [1.0, 0.5], 0.0)
    return out


def write_ccds(path: Path, brick: Brick, conditions: Conditions) -> None:
    """Write legacysurvey-B-ccds.fits: one row per exposure, DECam in every band."""
    rows = [(k, n) for k in range(3) for n in range(conditions.nobs[k])]
    table = np.zeros(len(rows), dtype=[
        ("image_filename", "S40"), ("image_hdu", "i2"), ("camera", "S5"), ("expnum", "i4"), ("ccdname", "S3"),
        ("filter", "S1"), ("exptime", "f4"), ("mjd_obs", "f8"), ("fwhm", "f4"), ("width", "i2"), ("height", "i2"),
        ("ra", "f8"), ("dec", "f8"), ("sig1", "f8"), ("ccd_cuts", "i2"), ("brick_x0", "i2"), ("brick_x1", "i2"),
        ("brick_y0", "i2"), ("brick_y1", "i2"),
    ])
    for row, (k, n) in zip(table, rows, strict=True):
        expnum = brick.brickid * 10 + 3 * n + k
        row["image_filename"] = f"decam/mock/c4d_{expnum}_ooi_{BANDS[k]}.fits.fz".encode()
        row["image_hdu"], row["camera"], row["expnum"], row["ccdname"] = 1, b"decam", expnum, b"N1"
        row["filter"], row["exptime"], row["mjd_obs"] = BANDS[k].encode(), 90.0, 57000.0 + 10 * n + k
        row["fwhm"], row["width"], row["height"] = conditions.fwhm[k] / PIXEL_SCALE, 2046, 4094
        row["ra"], row["dec"], row["sig1"] = brick.ra, brick.dec, conditions.sigma[k] * conditions.nobs[k] ** 0.5
        row["brick_x1"] = row["brick_y1"] = brick.size
    cards = [*brick_cards(brick, "dr9", False), _card("PRODTYPE", "ccdinfo", "NOAO data product type")]
    write_table(path, table, cards)


def truth_columns(objects: NDArray[np.void], brick: Brick, conditions: Conditions) -> NDArray[np.void]:
    """Return what was asked for (legacysim's columns) and, as ``light_*``, what was drawn."""
    transmission = conditions.transmission()
    out = np.zeros(len(objects), dtype=[
        ("id", "i8"), ("ra", "f8"), ("dec", "f8"), ("bx", "f8"), ("by", "f8"),
        *[(f"{n}_{b}", k) for b in BANDS for n, k in (("mw_transmission", "f4"), ("flux", "f8"))],
        ("sersic", "f8"), ("shape_r", "f8"), ("shape_e1", "f8"), ("shape_e2", "f8"), ("brickname", "S8"),
        *[(f"light_flux_{b}", "f8") for b in BANDS],
        ("light_sersic", "f8"), ("light_shape_r", "f8"), ("light_dx", "f8"), ("light_psf", "f8"),
    ])
    pairs = (("id", "id"), ("ra", "ra"), ("dec", "dec"), ("bx", "x"), ("by", "y"), ("sersic", "sersic"),
             ("shape_r", "shape_r"), ("shape_e1", "e1"), ("shape_e2", "e2"), ("light_sersic", "light_sersic"),
             ("light_shape_r", "light_r"), ("light_dx", "light_dx"), ("light_psf", "light_psf"))
    for name, source in pairs:
        out[name] = objects[source]
    for k, band in enumerate(BANDS):
        out[f"mw_transmission_{band}"] = transmission[k]
        out[f"flux_{band}"], out[f"light_flux_{band}"] = objects["flux"][:, k], objects["light_flux"][:, k]
    out["brickname"] = brick.name.encode()
    return out


def condition_cards(conditions: Conditions) -> list[Card]:
    """Cards FWHM_x, SKYSIG_x, GAIN_x, NOBS_x and EBV, from which stamps and noise can be computed again."""
    cards = [_card("EBV", conditions.ebv, "E(B-V), mag")]
    for k, band in enumerate("GRZ"):
        cards += [
            _card(f"FWHM_{band}", conditions.fwhm[k], "Moffat 3.5 FWHM (arcsec)"),
            _card(f"SKYSIG_{band}", conditions.sigma[k], "sky noise per pixel at NOBS (nmgy)"),
            _card(f"GAIN_{band}", conditions.gain[k], "electrons per nanomaggy per exposure"),
            _card(f"NOBS_{band}", conditions.nobs[k], "exposures over most of the brick"),
            _card(f"EXTC_{band}", EXTINCTION[k], "A / E(B-V)"),
        ]
    return cards


def write_injected(path: Path, truth: NDArray[np.void], collided: NDArray[np.bool_], brick: Brick,
                   conditions: Conditions, seed: int) -> None:
    """Write legacysim's truth, injected-B.fits: every row asked for; the collided were not injected."""
    names = [n for n in truth.dtype.names or () if not n.startswith("light_")]
    light = [n for n in truth.dtype.names or () if n.startswith("light_")]
    order: list[Any] = [(n, truth.dtype[n]) for n in names] + [("seed", "i8"), ("collided", "?")]
    out = np.zeros(len(truth), dtype=order + [(n, truth.dtype[n]) for n in light])
    for name in [*names, *light]:
        out[name] = truth[name]
    out["seed"], out["collided"] = seed + np.arange(len(truth)), collided
    cards = [*brick_cards(brick, "dr9", True), *condition_cards(conditions),
             _card("PRODTYPE", "injected", "DESI data product type")]
    write_table(path, out, cards)


def write_simcat(folder: Path, truth: NDArray[np.void], collided: NDArray[np.bool_], on_ccd: NDArray[np.bool_],
                 brick: Brick) -> None:
    """Write what kenobi.py writes for one run: simcat, metacat, sim_ids_added and, if any, skippedids.

    x, y are 1-based.  e1, e2 are galsim's (1 - q^2) / (1 + q^2) in the pixel frame.  A star has n = rhalf = 0.
    """
    rows = truth[~collided]
    out = np.zeros(len(rows), dtype=[
        ("id", "i8"), ("ra", "f8"), ("dec", "f8"), ("x", "f8"), ("y", "f8"),
        *[f for b in BANDS for f in ((f"{b}flux", "f8"), (f"mw_transmission_{b}", "f4"))],
        ("n", "f8"), ("rhalf", "f8"), ("e1", "f8"), ("e2", "f8"),
    ])
    for name, source in (("id", "id"), ("ra", "ra"), ("dec", "dec"), ("n", "sersic"), ("rhalf", "shape_r")):
        out[name] = rows[source]
    out["x"], out["y"] = rows["bx"] + 1.0, rows["by"] + 1.0
    for band in BANDS:
        out[f"{band}flux"], out[f"mw_transmission_{band}"] = rows[f"flux_{band}"], rows[f"mw_transmission_{band}"]
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
