"""Coadds of an injection run: planes written as the pipeline writes them, other files copied."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn import __version__
from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.files.fits import open_fits
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.coadds import open_image
from obiwan.dplearn.survey.layouts import BrickRun
from obiwan.dplearn.survey.sources import unit_of

_DITHER, _PLAIN = "SUBTRACTIVE_DITHER_2", "NO_DITHER"
#: Compression of legacypipe: steps of 1e-4 nanomaggies ("qz -1e-4"), invvar in 1/16 of its noise ("q0 16")
_QUANTISATION = {"image": (-1e-4, _DITHER), "invvar": (16.0, _PLAIN)}
_TILE = (100, 100)
_SUMS = ("CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM")  # of other pixels; CFITSIO's own hold the time
#: Products of a brick that injection leaves as they are, with a plane a band or one for all
COPIED = ("nexp", "psfsize", "depth", "galdepth")
COPIED_ONCE = ("maskbits", "ccds")

_OWN = ("brickname", "collided", "bx", "by")  #: columns of the truth that are written here


def write_plane(release: BrickRun, run: BrickRun, kind: str, band: str, plane: Array, scratch: Path) -> None:
    """Write an image or inverse variance with the release's header, compressed as the pipeline does.

    The dither is another one than the release's: with the same, rounding would change all pixels of a tile
    alike; with another it is random, within half a step.
    """
    path = release.plane(kind, band)
    with open_image(release, path) as (_, hdu):
        header = hdu.read_header()
    seed = int(header.get("ZDITHER0") or zlib.crc32(f"{run.brick}{band}".encode())) % 10000 + 1
    for name in _SUMS:
        if name in header:
            header.delete(name)
    level, method = _QUANTISATION[kind]
    target = run.coadd / f"legacysurvey-{run.brick}-{kind}-{band}.fits.fz"
    target.parent.mkdir(parents=True, exist_ok=True)
    how = {"compress": "RICE", "tile_dims": _TILE, "qlevel": level, "qmethod": method}
    with atomic_write(target, scratch) as beside, open_fits(beside, new=True) as file:
        file.write(
            np.ascontiguousarray(plane, np.float32),
            header=header,
            dither_seed=seed if method == _DITHER else None,
            **how,
        )


def products(release: BrickRun, bands: tuple[str, ...], *more: str) -> list[Path]:
    """Files that the release has of masks, exposures, PSF sizes and depths of a brick, and of more kinds."""
    stem = f"legacysurvey-{release.brick}-"
    wanted = [f"{stem}{kind}-{band}." for kind in (*COPIED, *more) for band in bands]
    wanted += [f"{stem}{kind}." for kind in COPIED_ONCE]
    return [path for path in sorted(release.coadd.iterdir()) if path.name.startswith(tuple(wanted))]


def copy_products(release: BrickRun, run: BrickRun, bands: tuple[str, ...], scratch: Path) -> None:
    """Copy what the release has of masks, exposures, PSF sizes and depths of a brick."""
    run.coadd.mkdir(parents=True, exist_ok=True)
    for path in products(release, bands):
        with atomic_write(run.coadd / path.name, scratch) as beside:
            shutil.copyfile(path, beside)


def write_truth(run: BrickRun, rows: Array, facts: dict[str, Any], scratch: Path) -> None:
    """Write the table of injected sources as legacysim does: ``bx``, ``by``, brick name, collided.

    Parameters
    ----------
    run : BrickRun
    rows : ndarray
        Sources that were drawn.
    facts : dict
        Header cards: how they were drawn.
    scratch : Path
    """
    renamed = {"x": "bx", "y": "by"}  # columns of the user with the names of ours are left out
    names = [name for name in rows.dtype.names or () if name.lower() not in _OWN]
    kinds = [(renamed.get(name, name), rows.dtype[name]) for name in names]
    table = np.zeros(len(rows), [*kinds, ("brickname", "S8"), ("collided", "?")])
    for name in names:
        table[renamed.get(name, name)] = rows[name]
    table["brickname"] = run.brick
    path = run.truth
    if path is None:
        msg = f"{run.label}: a tree without a place for the truth"
        raise ValueError(msg)
    path.parent.mkdir(parents=True, exist_ok=True)
    cards = [{"name": name.upper(), "value": value} for name, value in facts.items()]
    cards = [{"name": "INJECTOR", "value": f"obiwan.dplearn.inject {__version__}"}, *cards]
    with atomic_write(path, scratch) as beside, open_fits(beside, new=True) as file:
        file.write(None, header=cards)
        file.write(table, units=[unit_of(name) for name in table.dtype.names or ()])
