"""Measurements of stamps: numbers taken from the pixels of every stamp in the same way, whatever its class.

Where the light is, how wide, how noisy; how ivar behaves; what else is in the stamp.  Nothing here knows a
label or a catalogue's flux and shape.  Lengths are pixels, fluxes nanomaggies.  The expected position is the
only thing taken from the example table: the stamp of a source at (x, y) has ``floor(x + 0.5)`` in its centre
pixel, so the source itself is expected at ``x - floor(x + 0.5)`` from that pixel's centre.

Stamps without ivar planes take their noise from their own sky: the ivar of a band is the inverse square of
1.4826 times the median absolute deviation of the annulus, and 0 where the image is exactly 0, which is where
there are no data.  What judges ivar itself (`NEED_IVAR`) is then NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.lib.recfunctions import repack_fields
from numpy.typing import NDArray

from obiwan.dplearn.controls import centroids
from obiwan.dplearn.controls.centroids import BOX, NEED, REACH, WINDOW
from obiwan.dplearn.galaxyfit.noise import ivar_of_sky, lower_median
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.cutouts import centre_pixel
from obiwan.dplearn.trainingset.shardwise import on_shards
from obiwan.dplearn.trainingset.stampset import StampSet

Floats = NDArray[np.float32]
Named = Iterator[tuple[str, Floats]]

NARROW = 1.25  #: sigma of the window that measures concentration (px)
LEAST_SNR = 5.0  #: of the light in the window, for a position or a shape
INNER, OUTER = 14.0, 22.0  #: radii between which pixels stand for the surroundings
OUTSKIRTS = 16.0  #: light beyond this radius is that of neighbours (px)
FAR = 17  #: rows at least so far from the centre are looked at for quantisation (px); for noise, one more
CHUNK = 64  #: stamps of the default size at a time: what is worked on stays in the processor's cache

_STEMS = (
    *("dx", "dy", "snr", "core", "width", "conc", "e1", "e2"),
    *("sky", "dip", "slope", "noise_core", "noise_sky"),
    *("blank", "blank_core", "light", "distinct", "ivar_distinct", "ivar_step"),
)
#: Measurements of a band that need its ivar plane.
NEED_IVAR = frozenset({"dip", "slope", "noise_core", "noise_sky", "ivar_distinct", "ivar_step"})
_DIFFERENCE, _SQUARES = (1, -4, 6, -4, 1), (1, 16, 36, 16, 1)
_RARE = 25.0  #: a squared difference beyond so many variances is no noise


def measure_dtype(spec: StampSpec) -> np.dtype[np.void]:
    """Type of what is measured of a stamp; what cannot be measured is NaN.

    In each band (suffix _g, _r, ...):

    =============  ===========================================================================================
    dx, dy         centre of the light less where it is expected (px)
    snr, core      signal to noise of the light in the Gaussian window of 2.5 px; that light (nanomaggies)
    width, conc    sigma of the light (px); the light in a window of 1.25 px over that in one of 2.5 px
    e1, e2         (Qxx - Qyy) / (Qxx + Qyy) and 2 Qxy / (Qxx + Qyy) of the windowed second moments
    sky            median of the annulus in units of a pixel's noise
    dip            ivar in the window over the median of the annulus, less 1
    slope          excess of 1/ivar in the window over the annulus, per excess of flux: 1/gain (nanomaggies)
    noise_core     variance of pixels (by fourth differences) over what ivar says, within 4 px
    noise_sky      the same at the stamp's lower and upper edge
    blank          fraction of the stamp's pixels without data
    blank_core     the same within 6 px
    light          sum of the image beyond 16 px (nanomaggies)
    distinct       different values over pixels in rows of the image far from the centre
    ivar_distinct  the same of ivar
    ivar_step      log10 of the least step between values in a row of ivar, over the greatest
    =============  ===========================================================================================

    Of the whole: ``phase_x``, ``phase_y``, the expected position in its pixel (-0.5 to 0.5); ``peaks``, the
    number of neighbours in the stamp; ``nearest``, the distance to the nearest of them (px; that of the
    corner if there is none).
    """
    per_band = [(name, "f4") for stem in _STEMS for name in spec.columns(stem)]
    return np.dtype([*per_band, *((name, "f4") for name in ("phase_x", "phase_y", "peaks", "nearest"))])


@dataclass(frozen=True)
class _Regions:
    """Pixels of a stamp that measurements are taken from; small stamps have no room for some of them.

    Attributes
    ----------
    centre : int
        Index of the centre pixel along either axis.
    ring, near, outside : ndarray of int
        Flat indices: every other pixel of the annulus, those within `NEED`, those beyond `OUTSKIRTS`.
    far : ndarray of int
        Every other row at least `FAR` from the centre.
    edges : tuple of slice
        Rows at the lower and at the upper edge; fourth differences need five in each.
    box, core : slice
        Along either axis: where windows are evaluated, and around the pixels within 4 px.
    """

    centre: int
    ring: Array
    near: Array
    outside: NDArray[np.float32]
    far: Array
    edges: tuple[slice, ...]
    box: slice
    core: slice

    @classmethod
    @cache
    def of(cls, size: int) -> _Regions:
        """The regions of a stamp of this size (pixels on a side)."""
        centre, radius = size // 2, centroids.radii(size)
        half = min(BOX, size - 1 - centre)
        edges = (slice(0, max(0, centre - FAR - 1)), slice(min(size, centre + FAR + 1), size))
        return cls(
            centre=centre,
            ring=np.flatnonzero((radius >= min(INNER, centre - 2)) & (radius <= OUTER))[::2],
            near=np.flatnonzero(radius <= NEED),
            outside=(radius > OUTSKIRTS).astype(np.float32).ravel(),
            far=np.r_[0 : max(0, centre - FAR + 1) : 2, centre + FAR : size : 2],
            edges=tuple(edge for edge in edges if edge.stop - edge.start >= len(_DIFFERENCE)),
            box=slice(centre - half, centre + half + 1),
            core=slice(centre - 6, centre + 7),
        )


def measure_stamps(stamps: Floats, rows: Array, spec: StampSpec) -> Array:
    """Measure stamps.

    Parameters
    ----------
    stamps : ndarray of float32, shape (n, size, size, channels)
        As shards hold them; at least 16 pixels on a side.
    rows : ndarray, shape (n,)
        Their rows of the example table; only ``x`` and ``y`` are used.
    spec : StampSpec

    Returns
    -------
    ndarray of `measure_dtype`, shape (n,)
    """
    out = np.full(len(stamps), np.nan, dtype=measure_dtype(spec))
    regions = _Regions.of(spec.size)
    for start in range(0, len(stamps), CHUNK):
        part = slice(start, start + CHUNK)
        expected = np.stack([rows[k][part] - centre_pixel(rows[k][part]) for k in ("x", "y")], axis=1)
        planes = np.ascontiguousarray(stamps[part].transpose(0, 3, 1, 2))
        image, ivar = planes[:, : len(spec.bands)], planes[:, len(spec.bands) :]
        with np.errstate(all="ignore"):  # nothing seen, or ivar 0: the result is NaN, and so it is kept
            if not spec.has_ivar:
                ivar = ivar_of_sky(image, regions.ring)
            for name, values in _measure(image, ivar, expected.astype(np.float32), regions):
                if values.ndim == 1:
                    out[name][part] = values
                elif spec.has_ivar or name not in NEED_IVAR:
                    for k, band in enumerate(spec.bands):
                        out[f"{name}_{band}"][part] = values[:, k]
    return out


def measure_split(stamp_set: StampSet, split: str, executor: Executor | None = None) -> Array:
    """Measure every stamp of a split, a shard at a time.

    Parameters
    ----------
    stamp_set : StampSet
    split : str
        ``train``, ``val`` or ``test``.
    executor : Executor, optional
        Workers that share the shards; this process by default.

    Returns
    -------
    ndarray of `measure_dtype`
        In the order of `StampSet.rows`.

    Raises
    ------
    TrainingSetError
        If a shard cannot be read, or the table does not have the rows of the shards.
    """
    places = repack_fields(stamp_set.rows(split)[["x", "y"]])
    found = on_shards(
        partial(measure_stamps, spec=stamp_set.spec), stamp_set, split, places, executor, "measure"
    )
    return np.concatenate([np.empty(0, measure_dtype(stamp_set.spec)), *(part for _, part in found)])


def _measure(image: Floats, ivar: Floats, expected: Floats, regions: _Regions) -> Named:
    """Everything measured of some stamps, name by name; arrays of shape (n,) or (n, bands).

    `image` and `ivar` are planes of shape (n, bands, size, size).
    """
    flat_image, flat_ivar = (planes.reshape(*planes.shape[:2], -1) for planes in (image, ivar))
    blank_core = (flat_ivar[..., regions.near] <= 0).mean(-1, dtype=np.float32)
    whole = blank_core == 0
    yield "phase_x", expected[:, 0]
    yield "phase_y", expected[:, 1]
    yield "blank", (flat_ivar <= 0).mean(-1, dtype=np.float32)
    yield "blank_core", blank_core
    if regions.outside.any():
        yield "light", flat_image @ regions.outside
    count, to_neighbour = centroids.neighbours(image, ivar)
    yield "peaks", count
    corner = np.float32(np.hypot(regions.centre, regions.centre))
    yield "nearest", np.minimum(np.hypot(*to_neighbour.T), corner)
    valid = flat_ivar[..., regions.ring] > 0
    sky, ivar_sky = (lower_median(flat[..., regions.ring], valid) for flat in (flat_image, flat_ivar))
    yield "sky", sky * np.sqrt(ivar_sky)
    box = image[..., regions.box, regions.box] - np.nan_to_num(sky)[..., None, None]
    yield from _light(box, ivar[..., regions.box, regions.box], whole, ivar_sky, expected, to_neighbour)
    core = regions.core
    in_core = centroids.radii(9) <= 4
    found, claimed = _scatter(image[..., core, core], ivar[..., core, core], in_core)
    yield "noise_core", np.where(whole & (claimed > 0), found / claimed, np.nan)
    if regions.edges:
        parts = [_scatter(image[..., edge, :], ivar[..., edge, :]) for edge in regions.edges]
        found, claimed = (sum(both) for both in zip(*parts, strict=True))
        yield "noise_sky", np.where(claimed > 0, found / claimed, np.nan)
    yield from _levels(image[..., regions.far, :], ivar[..., regions.far, :])


def _light(
    image: Floats, ivar: Floats, whole: Array, ivar_sky: Floats, expected: Floats, to_neighbour: Floats
) -> Named:
    """Position and shape of the light, and ivar under it; planes of shape (n, bands, pixels, pixels)."""
    pixels = image.shape[-1]
    valid = ivar > 0  # what is blank is far from the centre, or nothing is said of this band
    image, variance = np.where(valid, image, 0), np.where(valid, 1 / ivar, 0)
    centre = centroids.settle(image, expected, to_neighbour)
    weight = centroids.windows(centre, to_neighbour, pixels)
    snr = (weight * image).sum((2, 3)) / np.sqrt((weight**2 * variance).sum((2, 3)))
    moved = centre - expected[:, None]
    found = whole & (snr >= LEAST_SNR) & (np.hypot(moved[..., 0], moved[..., 1]) <= REACH)
    # What has no centre of its own is measured where it is expected.
    centre = np.where(found[..., None], centre, expected[:, None])
    weight = centroids.windows(centre, to_neighbour, pixels)
    norm = (weight * valid).sum((2, 3))
    seen = centroids.moments(image, weight, centre)
    narrow = (centroids.windows(centre, to_neighbour, pixels, NARROW) * image).sum((2, 3))
    yield "dx", np.where(found, moved[..., 0], np.nan)
    yield "dy", np.where(found, moved[..., 1], np.nan)
    yield "snr", np.where(whole, snr, np.nan)
    yield "core", np.where(whole, seen.light, np.nan)
    yield "conc", np.where(found, narrow / seen.light, np.nan)
    total = seen.xx + seen.yy  # the window, as if the light were Gaussian, is taken out of the width only
    yield "width", np.where(found, np.sqrt(total / 2 * WINDOW**2 / (WINDOW**2 - total / 2)), np.nan)
    yield "e1", np.where(found, (seen.xx - seen.yy) / total, np.nan)
    yield "e2", np.where(found, 2 * seen.xy / total, np.nan)
    yield "dip", np.where(whole, (weight * ivar).sum((2, 3)) / norm / ivar_sky - 1, np.nan)
    excess = (weight * variance).sum((2, 3)) / norm - 1 / ivar_sky
    yield "slope", np.where(found, excess / (seen.light / norm), np.nan)


def _along_both(planes: Floats, kernel: tuple[int, ...]) -> Floats:
    """Sums over five pixels with these weights along y, then along x; four pixels fewer on a side."""
    ny, nx = planes.shape[2] - 4, planes.shape[3] - 4
    lines = planes[:, :, :ny] * np.float32(kernel[0])
    for k in range(1, 5):
        lines += planes[:, :, k : k + ny] * np.float32(kernel[k])
    out = lines[..., :nx] * np.float32(kernel[0])
    for k in range(1, 5):
        out += lines[..., k : k + nx] * np.float32(kernel[k])
    return out


def _scatter(image: Floats, ivar: Floats, where: Array | None = None) -> tuple[Floats, Floats]:
    """Squared fourth differences, and what ivar claims for them, summed over a region; each (n, bands).

    [1, -4, 6, -4, 1] in x and in y leaves less than a thousandth of the peak of anything as wide as a PSF
    is; of independent noise it multiplies variances by the squares of the weights.  Squares beyond
    `_RARE` variances count as that much, so that no cosmic ray and no core of a star speaks for its region.
    """
    variance = np.where(ivar > 0, 1 / ivar, np.float32(np.nan))
    claimed = _along_both(variance, _SQUARES)
    known = np.isfinite(claimed) if where is None else np.isfinite(claimed) & where
    claimed = np.where(known, claimed, 0)
    squares = np.where(known, _along_both(image, _DIFFERENCE) ** 2, 0)
    return np.minimum(squares, _RARE * claimed).sum((2, 3)), claimed.sum((2, 3))


def _levels(image: Floats, ivar: Floats) -> Named:
    """Quantisation of values along rows, the tiles of compression; planes of shape (n, bands, rows, size)."""
    if not image.shape[2]:
        return
    valid = ivar > 0
    pixels = valid.sum(-1)
    enough = pixels >= image.shape[-1] // 2
    for name, values in (("distinct", image), ("ivar_distinct", ivar)):
        ordered = np.sort(np.where(valid, values, np.float32(np.nan)), axis=-1)
        gaps = ordered[..., 1:] - ordered[..., :-1]
        share = ((gaps > 0).sum(-1) + 1) / pixels
        yield name, (np.where(enough, share, 0).sum(-1) / enough.sum(-1)).astype(np.float32)
    least = np.where(gaps > 0, gaps, np.float32(np.inf)).min(-1)
    step = np.where(enough & np.isfinite(least), np.log10(least / ivar.max(-1)), np.float32(np.nan))
    yield "ivar_step", lower_median(step, np.isfinite(step))
