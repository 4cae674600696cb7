"""Coverage: which pixels of a coadd were observed, found without decoding most of them.

CFITSIO quantises a tile of floats from its smallest value upwards and writes that value into the table of
tiles (``fits_quantize_float``), so that a tile whose smallest value is positive is observed everywhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.coadds import read_pixels
from obiwan.dplearn.survey.cutouts import centre_pixel
from obiwan.dplearn.survey.layouts import BrickRun

# Steps from ZZERO to what no pixel is below
_BELOW = {"NO_DITHER": 1.0, "SUBTRACTIVE_DITHER_2": 2147483638.0}
_NULLS = 1e9  # steps: ZZERO is farther from 0 where a tile that is not dithered has pixels without a value


def observed(run: BrickRun, band: str, x: Array, y: Array, shape: tuple[int, int]) -> Array:
    """Whether the inverse variance at the centre pixel of each source is positive.

    Parameters
    ----------
    run : BrickRun
    band : str
    x, y : ndarray, shape (n,)
        0-based positions whose centre pixels lie inside the coadd.
    shape : tuple of int
        (ny, nx) of the coadd.

    Returns
    -------
    ndarray of bool, shape (n,)

    Raises
    ------
    CoaddError
        If the plane cannot be read.
    """
    seen = _in_observed_tiles(run.plane("invvar", band), centre_pixel(x), centre_pixel(y))
    rest = np.flatnonzero(~seen)
    if len(rest):
        seen[rest] = read_pixels(run, band, x[rest], y[rest], shape) > 0
    return seen


def _in_observed_tiles(path: Path, x: Array, y: Array) -> Array:
    """Whether pixels lie in tiles of which the table says that all their pixels are positive."""
    none = np.zeros(len(x), dtype=bool)
    if path.suffix == ".gz":
        return none
    try:
        with fits.open(path, disable_image_compression=True, memmap=True) as hdus:
            header = hdus[1].header
            if "ZBLANK" in header or "ZBLANK" in hdus[1].columns.names:  # there may be pixels without a value
                return none
            below = _BELOW[header["ZQUANTIZ"]]
            scale, zero = (np.array(hdus[1].data[name], np.float64) for name in ("ZSCALE", "ZZERO"))
            tile_x, tile_y, width = (int(header[name]) for name in ("ZTILE1", "ZTILE2", "ZNAXIS1"))
    except (OSError, IndexError, KeyError, ValueError, TypeError):  # `read_pixels` says what is wrong
        return none
    sure = (scale > 0) & (zero - below * scale > 0) & (zero < (below + _NULLS) * scale)
    return np.asarray(sure[y // tile_y * -(-width // tile_x) + x // tile_x])
