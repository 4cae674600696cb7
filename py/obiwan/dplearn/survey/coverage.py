"""Coverage: which pixels of a coadd were observed, and which file says so.

A pixel was observed in a band where ``nexp`` is positive; without that map, where ``depth`` is; without
either, where the inverse variance is not 0, if its compression keeps zeros.  ``SUBTRACTIVE_DITHER_1`` does
not: it turns 0 into anything within half a step of it, and half of that is positive (fitsio issue 450).

Only maps of the same run are asked.  Those of another tree count other exposures: the same only where it has
the same CCDs and masks, which no file says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from obiwan.dplearn.errors import CoaddError
from obiwan.dplearn.files.fits import fingerprint
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.coadds import open_image, read_pixels, read_plane
from obiwan.dplearn.survey.cutouts import centre_pixel
from obiwan.dplearn.survey.layouts import BrickRun
from obiwan.dplearn.survey.quantisation import NO_DITHER, read_grid
from obiwan.dplearn.survey.writers import PLAIN

MAPS = ("nexp", "depth")  #: maps that are positive where a pixel was observed, best first
THRESHOLD = "threshold"  #: what decides where neither a map nor a compression that keeps zeros does
_EXACT = frozenset({PLAIN, "NONE"})
_KEEP_ZEROS = _EXACT | {NO_DITHER, "SUBTRACTIVE_DITHER_2"}
# Steps from ZZERO to what no pixel is below
_BELOW = {NO_DITHER: 1.0, "SUBTRACTIVE_DITHER_2": 2147483638.0}
_NULLS = 1e9  # steps: ZZERO is farther from 0 where a tile that is not dithered has pixels without a value
_ROUNDING = 1.01  # of float32, beside half a step
_GAP = 3.0  # dithered zeros stand clear of what was observed where hardly any pixel is within this factor
_AS_MANY = 4.0  # times as many values of one sign as of the other, at most, are dithered zeros
_ASKED = {
    "nexp": "nexp maps",
    "depth": "depth maps",
    "invvar": "the inverse variances",
    THRESHOLD: "a threshold on the inverse variances, for there are no nexp or depth maps",
}
_FEW = 1e-3  # of the observed pixels: that many may stand in the gap (cores of stars, whose noise is large)


@dataclass(frozen=True, order=True)
class DitheredFile:
    """A plane in whose file zeros are no longer 0.

    Attributes
    ----------
    file : str
        Its path from the name of its tree on.
    quantisation : str
        As its header has it (``ZQUANTIZ``).
    source : str
        What decides which of its pixels were observed: ``nexp``, ``depth``, ``invvar`` or ``threshold``.
    """

    file: str
    quantisation: str
    source: str


@dataclass(frozen=True)
class Coverage:
    """Coverage of one band of a coadd: what says which pixels were observed.

    Attributes
    ----------
    run : BrickRun
    band : str
    source : str
        ``nexp``, ``depth``, ``invvar`` or ``threshold``.
    path : Path
        The file that says it; for a threshold that of the inverse variance.
    dithered : tuple of DitheredFile
        Those of its planes that do not keep zeros.  Where there are none, unobserved pixels have an inverse
        variance of 0 in the file.
    signed : bool
        Whether an inverse variance below 0 was observed too: ``SUBTRACTIVE_DITHER_2`` keeps zeros, and moves
        small values across.  Elsewhere no pipeline makes one.
    """

    run: BrickRun
    band: str
    source: str
    path: Path
    dithered: tuple[DitheredFile, ...]
    signed: bool = False

    @property
    def content(self) -> int:
        """Names what is in the file that says it (`fingerprint`), where stamps depend on it; else 0."""
        return fingerprint(self.path, (0, 0)) if self.dithered else 0


def find_coverage(run: BrickRun, band: str) -> Coverage:
    """Decide what says which pixels of a band were observed.

    Parameters
    ----------
    run : BrickRun
    band : str

    Raises
    ------
    CoaddError
        If a plane is missing or cannot be read.
    """
    methods = {kind: _quantisation(run, kind, band) for kind in ("image", "invvar")}
    lost = {kind for kind, method in methods.items() if method not in _KEEP_ZEROS}
    paths = {name: path for name in MAPS if (path := _map(run, name, band))}
    if methods["invvar"] in _EXACT and _holds_dithered_zeros(run, band):
        lost.add("invvar")
    paths[THRESHOLD if "invvar" in lost else "invvar"] = run.plane("invvar", band)
    source, path = next(iter(paths.items()))
    names = {kind: run.plane(kind, band).relative_to(run.root.path).as_posix() for kind in sorted(lost)}
    dithered = (DitheredFile(f"{run.root.name}/{names[kind]}", methods[kind], source) for kind in names)
    return Coverage(run, band, source, path, tuple(dithered), methods["invvar"] == "SUBTRACTIVE_DITHER_2")


def _quantisation(run: BrickRun, kind: str, band: str) -> str:
    with open_image(run, run.plane(kind, band)) as (_, hdu):
        header = hdu.read_header()
    return str(header.get("ZQUANTIZ") or (NO_DITHER if header.get("ZIMAGE") else PLAIN)).strip()


def _map(run: BrickRun, name: str, band: str) -> Path | None:
    try:
        return run.plane(name, band)
    except CoaddError:
        return None


def _holds_dithered_zeros(run: BrickRun, band: str) -> bool:
    """Whether an inverse variance has small values of both signs, about as many of each.

    A file without quantisation that holds some was unpacked from a dithered one, of which its header does not
    tell: a map says which pixels were observed, else a threshold.  Pipelines make no negative values.
    """
    ivar = read_plane(run, "invvar", band)
    with np.errstate(invalid="ignore"):
        negative = np.count_nonzero(ivar < 0)
        positive = np.count_nonzero((ivar > 0) & (ivar <= -np.nanmin(ivar, initial=0)))
    return bool(negative > 0 and negative <= _AS_MANY * positive <= _AS_MANY**2 * negative)


def observed(coverage: Coverage, x: Array, y: Array, shape: tuple[int, int]) -> Array:
    """Whether the centre pixel of each source was observed in a band.

    Parameters
    ----------
    coverage : Coverage
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
        If a plane cannot be read, has another shape, or does not tell.
    """
    run, band, source = coverage.run, coverage.band, coverage.source
    seen = np.zeros(len(x), dtype=bool)
    if not coverage.dithered:
        seen = _in_observed_tiles(run.plane("invvar", band), centre_pixel(x), centre_pixel(y))
    rest = np.flatnonzero(~seen)
    if len(rest) and source == THRESHOLD:
        seen[rest] = observed_plane(coverage, shape)[centre_pixel(y[rest]), centre_pixel(x[rest])]
    elif len(rest):
        _check_shape(coverage, shape)
        seen[rest] = _positive(coverage, read_pixels(run, source, band, x[rest], y[rest], shape))
    return seen


def _in_observed_tiles(path: Path, x: Array, y: Array) -> Array:
    """Whether pixels lie in tiles of which the table says that all their pixels are positive.

    CFITSIO quantises a tile of floats from its smallest value upwards and writes that value into the table
    (``fits_quantize_float``).  Where it is positive and zeros are kept, no pixel of the tile was 0, and the
    pipeline counts an exposure wherever the inverse variance is positive: no map needs to be decoded.
    Elsewhere one must be, for a tile's pixels may be 0 because they are below half a step.
    """
    table = read_grid(path)
    if table is None or table.nulls or table.method not in _BELOW:
        return np.zeros(len(x), dtype=bool)
    scale, zero, below = table.scale, table.zero, _BELOW[table.method]
    sure = (scale > 0) & (zero - below * scale > 0) & (zero < (below + _NULLS) * scale)
    return np.asarray(sure[table.of(x, y)])


def _positive(coverage: Coverage, values: Array) -> Array:
    """Whether values of a map or an inverse variance say that a pixel was observed."""
    signed = coverage.source == "invvar" and coverage.signed
    return np.asarray((values != 0) & np.isfinite(values) if signed else values > 0)


def _check_shape(coverage: Coverage, shape: tuple[int, int]) -> None:
    with open_image(coverage.run, coverage.path) as (_, hdu):
        other = tuple(map(int, hdu.get_dims()))
    if other != shape:
        msg = (
            f"{coverage.run.label}: coadd shapes disagree: {coverage.path} is {other}, the images "
            f"are {shape}; restore the files of one run together, or leave the brick out with --bricks"
        )
        raise CoaddError(msg)


def observed_plane(coverage: Coverage, shape: tuple[int, int]) -> Array:
    """Whether each pixel of a band was observed.

    Parameters
    ----------
    coverage : Coverage
    shape : tuple of int
        (ny, nx) of the coadd.

    Returns
    -------
    ndarray of bool, shape (ny, nx)

    Raises
    ------
    CoaddError
        If the plane cannot be read, has another shape, or zeros do not stand clear of what was observed.
    """
    run, band, source = coverage.run, coverage.band, coverage.source
    if source != THRESHOLD:
        _check_shape(coverage, shape)
        return _positive(coverage, read_plane(run, source, band))
    seen = above_dithered_zeros(read_plane(run, "invvar", band), _half_steps(coverage.path, shape))
    if seen is None:
        msg = (
            f"{run.label}: {coverage.path} does not keep zeros, and its unobserved pixels do not stand clear "
            f"of the others; put this run's nexp or depth map of band {band} beside it, or leave the brick "
            "out with --bricks"
        )
        raise CoaddError(msg)
    return seen


def _half_steps(path: Path, shape: tuple[int, int]) -> Array:
    """Half a step of the quantisation at each pixel: how far from 0 its own dither may have put a zero."""
    table = read_grid(path)
    if table is None:
        return np.zeros(shape)
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.asarray(table.scale[table.of(x, y)] / 2 * _ROUNDING)


def above_dithered_zeros(ivar: Array, half_step: Array) -> Array | None:
    """Observed pixels of an inverse variance whose zeros were dithered.

    Parameters
    ----------
    ivar, half_step : ndarray, shape (ny, nx)
        Values, and how far from 0 the quantisation may have put a 0.

    Returns
    -------
    ndarray of bool, shape (ny, nx), or None
        None where observed pixels do not stand clear of dithered zeros.
    """
    with np.errstate(invalid="ignore"):
        edge, lowest = half_step, -float(np.nanmin(ivar, initial=0))
        if (ivar < -half_step).any():  # dithered by an earlier writer, by steps that only the negatives show
            edge = np.maximum(half_step, 2 * lowest)
        seen = ivar > edge
        in_gap = seen & (ivar <= _GAP * edge)
    clear = np.count_nonzero(in_gap) <= _FEW * np.count_nonzero(seen)
    return seen if clear and (seen.any() or lowest == 0) else None


def not_kept(run: BrickRun, spec: StampSpec) -> list[Coverage]:
    """Coverage of the bands in which a plane that is cut does not keep zeros.

    In these, pixels that were not observed are to be 0 in all planes.  In others the files say it: the
    inverse variance is 0, and the image is what the pipeline puts where no exposure counts.
    """
    bands = spec.bands
    if not spec.has_ivar:
        bands = tuple(band for band in bands if _quantisation(run, "image", band) not in _KEEP_ZEROS)
    return [one for band in bands if (one := find_coverage(run, band)).dithered]


def content_of(coverages: Iterable[Coverage]) -> bytes:
    """Fingerprints of the files that stamps depend on beside the planes that are cut."""
    return b"".join(b"%d" % one.content for one in coverages if one.dithered)


def of_dithered(files: Sequence[DitheredFile]) -> str:
    """One line on the files that do not keep zeros: the first, how many, and what was asked instead."""
    more = f" and {len(files) - 1} more file(s)" if len(files) > 1 else ""
    methods = ", ".join(sorted({one.quantisation for one in files}))
    sources = Counter(one.source for one in files)
    asked = ", ".join(f"{_ASKED[source]} ({number})" for source, number in sorted(sources.items()))
    return (
        f"{files[0].file}{more}: zeros are not kept ({methods}), so that unobserved pixels look observed; "
        f"what was observed follows from {asked}, and other pixels are 0 in the stamps"
    )
