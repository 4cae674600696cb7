"""Catalogue of a coadd that objects were injected into: one for both classes, in the columns of tractor's.

It stands where a tractor catalogue would, and its header says that sep made it (`MADE_BY`).  Positions,
fluxes and sizes are measured on the written coadds; PSF size, depth and exposures are those of the release's
maps, or of its nearest catalogued source where it has none, as extinction always is.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.files.fits import open_fits
from obiwan.dplearn.injection.detection import KRON_FACTOR, LEAST_AREA, THRESHOLD, measure
from obiwan.dplearn.injection.placement import MASKBITS
from obiwan.dplearn.injection.scene import Scene
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.catalogs import MADE_BY, SEP
from obiwan.dplearn.survey.coadds import open_image, read_pixels, read_plane
from obiwan.dplearn.survey.cutouts import stamp_inside
from obiwan.dplearn.survey.layouts import BrickRun
from obiwan.dplearn.survey.sources import unit_of

#: Quantities of a band that a map of the release has, and what the maps are called
MAPS = {"psfsize": "psfsize", "psfdepth": "depth", "nobs": "nexp"}
_PIXEL = StampSpec.pixel_scale
_TYPICAL = 5.0  # pixels: FWHM of a PSF of which nothing is known
_CARDS = ("SURVEY", "DRVERSIO", "LSDR", "BRICK", "BRICKNAM", "BRICKID", "RAMIN", "RAMAX", "DECMIN", "DECMAX")


def write_catalogue(run: BrickRun, scene: Scene, path: Path) -> int:
    """Detect and measure the sources of the coadds of one run, and write their catalogue.

    Parameters
    ----------
    run : BrickRun
        Whose coadds are written.
    scene : Scene
        The brick of the release that was injected into.
    path : Path
        Where the table goes.

    Returns
    -------
    int
        Number of sources.

    Raises
    ------
    CoaddError
        If a plane cannot be read, or sep cannot take the coadd apart.
    """
    rows, flux, ivar = measure(partial(read_plane, run), scene.bands, psf_width(scene), run.label)
    inside = stamp_inside(rows["x"], rows["y"], scene.frame.shape, 1)
    table = _table(rows[inside], flux[inside], ivar[inside], scene)
    names = table.dtype.names or ()
    header = [{"name": name, "value": value} for name, value in _cards(run, scene).items()]
    with open_fits(path, new=True) as file:
        file.write(None, header=header)
        file.write(table, units=[unit_of(name) for name in names])
    return len(table)


def psf_width(scene: Scene) -> float:
    """FWHM of the PSF in pixels, the mean of bands: that of the release, or else a typical one."""
    widths = [width for band in scene.bands if (width := scene.psfsize(band)) is not None]
    return float(np.mean(widths)) / _PIXEL if widths else _TYPICAL


def _table(rows: Array, flux: Array, ivar: Array, scene: Scene) -> Array:
    """Rows of the catalogue from what was measured."""
    n, bands = len(rows), scene.bands
    ra, dec = scene.frame.wcs.all_pix2world(rows["x"], rows["y"], 0) if n else (np.empty(0), np.empty(0))
    primary = scene.frame.primary(ra, dec)
    e1, e2 = ellipticity(rows["a"], rows["b"], rows["theta"])
    columns: dict[str, Array] = {
        "objid": np.arange(n, dtype=np.int32),
        "brickname": np.full(n, scene.brick, "S8" if len(scene.brick) <= 8 else None).astype("S"),
        "brick_primary": np.ones(n, bool) if primary is None else primary,
        "ra": ra,
        "dec": dec,
        "bx": rows["x"],
        "by": rows["y"],
        "ebv": scene.near("ebv", ra, dec).astype("f4"),
        MASKBITS: _maskbits(rows, scene),
    }
    transmission = scene.near("mw_transmission", ra, dec)
    maps = {name: _map(name, rows, ra, dec, scene) for name in MAPS}
    for k, band in enumerate(bands):
        columns[f"flux_{band}"], columns[f"flux_ivar_{band}"] = flux[:, k], ivar[:, k]
        columns[f"mw_transmission_{band}"] = transmission[:, k]
        columns |= {f"{name}_{band}": values[:, k] for name, values in maps.items()}
    columns |= {"shape_r": _PIXEL * rows["radius"], "shape_e1": e1, "shape_e2": e2}
    columns |= {"snr": rows["snr"], "sep_flag": rows["flag"]}
    kinds = [(name, _kind(name, values)) for name, values in columns.items()]
    table = np.zeros(n, dtype=kinds)
    for name, values in columns.items():
        table[name] = values
    return table


def _kind(name: str, values: Array) -> str:
    """Type of a column: single precision but for positions, as in tractor catalogues."""
    if name.startswith("nobs"):
        return "i2"
    single = values.dtype == np.float64 and name not in {"ra", "dec", "bx", "by"}
    return "f4" if single else values.dtype.str


def ellipticity(a: Array, b: Array, theta: Array) -> tuple[Array, Array]:
    """Tractor's ellipticity of an ellipse on the coadd.

    Parameters
    ----------
    a, b : ndarray, shape (n,)
        Semi-axes.
    theta : ndarray, shape (n,)
        Radians of the major axis from +x towards +y, that is from west towards north.

    Returns
    -------
    e1, e2 : ndarray, shape (n,)
        ``(a - b) / (a + b)`` times cosine and sine of twice the angle from north towards east.
    """
    e = (a - b) / np.where(a + b > 0, a + b, 1)
    return -e * np.cos(2 * theta), -e * np.sin(2 * theta)


def _map(name: str, rows: Array, ra: Array, dec: Array, scene: Scene) -> Array:
    """A quantity at each source and band: of the release's maps, else of its catalogue."""
    values = scene.near(name, ra, dec)
    for k, band in enumerate(scene.bands):
        if scene.run.has_map(MAPS[name], band) and len(rows):
            values[:, k] = read_pixels(scene.run, MAPS[name], band, rows["x"], rows["y"], scene.frame.shape)
    return values


def _maskbits(rows: Array, scene: Scene) -> Array:
    """``maskbits`` at each source, 0 where the release has no such map."""
    if not scene.run.has_map(MASKBITS) or not len(rows):
        return np.zeros(len(rows), np.int32)
    return read_pixels(scene.run, MASKBITS, "", rows["x"], rows["y"], scene.frame.shape).astype(np.int32)


def _cards(run: BrickRun, scene: Scene) -> Mapping[str, Any]:
    """Header cards: what made the catalogue, and of the brick what its coadds say."""
    with open_image(run, run.plane("image", scene.bands[0])) as (_, hdu):
        header = hdu.read_header()
    names = [*_CARDS, *(f"{stem}_{band.upper()}" for band in scene.bands for stem in ("BRICK", "CAMS"))]
    told = {name: header[name] for name in names if header.get(name) is not None}
    made = {MADE_BY: f"{SEP} {version(SEP)}", "THRESH": THRESHOLD, "MINAREA": LEAST_AREA, "KRON": KRON_FACTOR}
    return {**told, **made}
