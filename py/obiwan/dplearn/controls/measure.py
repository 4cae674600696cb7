"""Numbers measured on every cutout in the same way, whatever its class.

Where the light is, how wide, how noisy; how ivar behaves; what else is in the stamp.  Nothing here knows a
label or a catalogue's flux and shape.  Lengths are pixels, fluxes nanomaggies.  The expected position is the
only thing taken from the source table: the stamp of a source at (x, y) has ``floor(x + 0.5)`` in its pixel
32, so the source itself is expected at ``x - floor(x + 0.5)`` from that pixel's centre.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.controls import centroids
from obiwan.dplearn.controls.centroids import BOX, NEED, RADIUS, REACH, WINDOW, Moments
from obiwan.dplearn.conventions import BANDS, STAMP, Array
from obiwan.dplearn.running.executors import progress_bar
from obiwan.dplearn.survey.cutouts import HALF, centre_pixel
from obiwan.dplearn.trainingset.stampset import StampSet

Floats = NDArray[np.float32]
Named = Iterator[tuple[str, Floats]]

NARROW = 1.25  #: sigma of the window that measures concentration (px)
LEAST_SNR = 5.0  #: of the light in the window, for a position or a shape
INNER, OUTER = 14.0, 22.0  #: radii between which pixels stand for the surroundings
OUTSKIRTS = 16.0  #: light beyond this radius is that of neighbours (px)
CHUNK = 64  #: stamps at a time: what is worked on stays in the processor's cache

_PER_BAND = (
    *("dx", "dy", "snr", "core", "width", "conc", "e1", "e2"),
    *("sky", "dip", "slope", "noise_core", "noise_sky"),
    *("blank", "blank_core", "light", "distinct", "ivar_distinct", "ivar_step"),
)
MEASURE_DTYPE = np.dtype(
    [
        *[(f"{stem}_{band}", "f4") for stem in _PER_BAND for band in BANDS],
        *[(name, "f4") for name in ("phase_x", "phase_y", "peaks", "nearest")],
    ]
)
"""What is measured of an example; what cannot be measured is NaN.

In each band (suffix _g, _r, _z):

=============  ==============================================================================================
dx, dy         centre of the light less where it is expected (px)
snr, core      signal to noise of the light in the Gaussian window of 2.5 px; that light (nanomaggies)
width, conc    sigma of the light (px); the light in a window of 1.25 px over that in one of 2.5 px
e1, e2         (Qxx - Qyy) / (Qxx + Qyy) and 2 Qxy / (Qxx + Qyy) of the windowed second moments
sky            median of the annulus in units of a pixel's noise
dip            ivar in the window over the median of the annulus, less 1
slope          excess of 1/ivar in the window over the annulus, per excess of flux: 1/gain (nanomaggies)
noise_core     variance of pixels (by fourth differences) over what ivar says, within 4 px
noise_sky      the same at the stamp's lower and upper edge
blank          fraction of the stamp's pixels with ivar = 0
blank_core     the same within 6 px
light          sum of the image beyond 16 px (nanomaggies)
distinct       different values over pixels in rows of the image far from the centre
ivar_distinct  the same of ivar
ivar_step      log10 of the least step between values in a row of ivar, over the greatest
=============  ==============================================================================================

Of the whole: ``phase_x``, ``phase_y``, the expected position in its pixel (-0.5 to 0.5); ``peaks``, the
number of neighbours in the stamp; ``nearest``, the distance to the nearest of them (px; 45 if there is none).
"""

_ring = np.flatnonzero((RADIUS >= INNER) & (RADIUS <= OUTER))[::2]
_near = np.flatnonzero(RADIUS <= NEED)
_outside = (RADIUS > OUTSKIRTS).astype(np.float32).ravel()
_far_rows = np.r_[0:16:2, 49:64:2]
_box = slice(HALF - BOX, HALF + BOX + 1)
_NOWHERE = np.float32(np.hypot(HALF, HALF))
_DIFFERENCE, _SQUARES = (1, -4, 6, -4, 1), (1, 16, 36, 16, 1)
_RARE = 25.0  #: a squared difference beyond so many variances is no noise


def measure_stamps(x: Floats, rows: Array) -> Array:
    """Measure cutouts.

    Parameters
    ----------
    x : ndarray of float32, shape (n, 64, 64, 6)
        Cutouts as shards hold them.
    rows : ndarray, shape (n,)
        Their rows of the source table; only ``x`` and ``y`` are used.

    Returns
    -------
    ndarray of MEASURE_DTYPE, shape (n,)

    Raises
    ------
    ValueError
        If there are not as many rows as cutouts.
    """
    if len(x) != len(rows):
        msg = f"{len(x)} cutouts but {len(rows)} rows of the source table"
        raise ValueError(msg)
    out = np.full(len(x), np.nan, dtype=MEASURE_DTYPE)
    for start in range(0, len(x), CHUNK):
        part = slice(start, start + CHUNK)
        expected = np.stack([rows[k][part] - centre_pixel(rows[k][part]) for k in ("x", "y")], axis=1)
        planes = np.ascontiguousarray(x[part].transpose(0, 3, 1, 2))
        with np.errstate(all="ignore"):  # nothing seen, or ivar 0: the result is NaN, and so it is kept
            for name, values in _measure(planes[:, :3], planes[:, 3:], expected.astype(np.float32)):
                if values.ndim == 1:
                    out[name][part] = values
                else:
                    for k, band in enumerate(BANDS):
                        out[f"{name}_{band}"][part] = values[:, k]
    return out


def measure_split(training_set: StampSet, split: str) -> Array:
    """Measure every cutout of a split, a shard at a time.

    Parameters
    ----------
    training_set : StampSet
        Where the cutouts are.
    split : str
        ``train``, ``val`` or ``test``.

    Returns
    -------
    ndarray of MEASURE_DTYPE
        In the order of `StampSet.rows`.

    Raises
    ------
    TrainingSetError
        If the table does not have the rows of the shards.
    """
    rows = training_set.rows(split)
    out = np.empty(len(rows), dtype=MEASURE_DTYPE)
    start = 0
    with progress_bar(len(rows), f"measure {split}", "cutout", unit_scale=True) as bar:
        for shard in training_set.split(split):
            part = slice(start, start + shard.rows)
            out[part] = measure_stamps(training_set.read(shard)[0], rows[part])
            start += shard.rows
            bar.update(shard.rows)
    return out


def _measure(image: Floats, ivar: Floats, expected: Floats) -> Named:
    """Everything measured of some stamps, name by name; arrays of shape (n,) or (n, 3).

    `image` and `ivar` are planes of shape (n, 3, 64, 64).
    """
    flat_image, flat_ivar = (planes.reshape(len(planes), 3, -1) for planes in (image, ivar))
    blank_core = (flat_ivar[..., _near] <= 0).mean(-1, dtype=np.float32)
    whole = blank_core == 0
    yield "phase_x", expected[:, 0]
    yield "phase_y", expected[:, 1]
    yield "blank", (flat_ivar <= 0).mean(-1, dtype=np.float32)
    yield "blank_core", blank_core
    yield "light", flat_image @ _outside
    count, to_neighbour = centroids.neighbours(image, ivar)
    yield "peaks", count
    yield "nearest", np.minimum(np.hypot(*to_neighbour.T), _NOWHERE)
    valid = flat_ivar[..., _ring] > 0
    sky, ivar_sky = _median(flat_image[..., _ring], valid), _median(flat_ivar[..., _ring], valid)
    yield "sky", sky * np.sqrt(ivar_sky)
    box = image[..., _box, _box] - np.nan_to_num(sky)[..., None, None]
    yield from _light(box, ivar[..., _box, _box], whole, ivar_sky, expected, to_neighbour)
    core = slice(HALF - 6, HALF + 7)
    in_core = RADIUS[HALF - 4 : HALF + 5, HALF - 4 : HALF + 5] <= 4
    found, claimed = _scatter(image[..., core, core], ivar[..., core, core], in_core)
    yield "noise_core", np.where(whole & (claimed > 0), found / claimed, np.nan)
    parts = [_scatter(image[..., k, :], ivar[..., k, :]) for k in (slice(0, 14), slice(STAMP - 14, STAMP))]
    found, claimed = (a + b for a, b in zip(*parts, strict=True))
    yield "noise_sky", np.where(claimed > 0, found / claimed, np.nan)
    yield from _levels(image[..., _far_rows, :], ivar[..., _far_rows, :])


def _light(
    image: Floats, ivar: Floats, whole: Array, ivar_sky: Floats, expected: Floats, to_neighbour: Floats
) -> Named:
    """Position and shape of the light, and ivar under it; planes of shape (n, 3, 25, 25)."""
    valid = ivar > 0  # what is blank is far from the centre, or nothing is said of this band
    image, variance = np.where(valid, image, 0), np.where(valid, 1 / ivar, 0)
    centre = centroids.settle(image, expected, to_neighbour)
    weight = centroids.windows(centre, to_neighbour)
    snr = (weight * image).sum((2, 3)) / np.sqrt((weight**2 * variance).sum((2, 3)))
    moved = centre - expected[:, None]
    found = whole & (snr >= LEAST_SNR) & (np.hypot(moved[..., 0], moved[..., 1]) <= REACH)
    # What has no centre of its own is measured where it is expected.
    centre = np.where(found[..., None], centre, expected[:, None])
    weight = centroids.windows(centre, to_neighbour)
    norm = (weight * valid).sum((2, 3))
    seen = centroids.moments(image, weight, centre)
    narrow = (centroids.windows(centre, to_neighbour, NARROW) * image).sum((2, 3))
    yield "dx", np.where(found, moved[..., 0], np.nan)
    yield "dy", np.where(found, moved[..., 1], np.nan)
    yield "snr", np.where(whole, snr, np.nan)
    yield "core", np.where(whole, seen.light, np.nan)
    yield "conc", np.where(found, narrow / seen.light, np.nan)
    for name, values in _shape(seen):
        yield name, np.where(found, values, np.nan)
    yield "dip", np.where(whole, (weight * ivar).sum((2, 3)) / norm / ivar_sky - 1, np.nan)
    excess = (weight * variance).sum((2, 3)) / norm - 1 / ivar_sky
    yield "slope", np.where(found, excess / (seen.light / norm), np.nan)


def _shape(seen: Moments) -> Named:
    """Width and ellipticity; the window, as if the light were Gaussian, is taken out of the width only."""
    total = seen.xx + seen.yy
    yield "width", np.sqrt(total / 2 * WINDOW**2 / (WINDOW**2 - total / 2))
    yield "e1", (seen.xx - seen.yy) / total
    yield "e2", 2 * seen.xy / total


def _median(values: Floats, valid: Array) -> Floats:
    """Lower median along the last axis of what is valid; NaN where nothing is."""
    ordered = np.sort(np.where(valid, values, np.float32(np.nan)), axis=-1)  # NaN last
    middle = np.maximum(valid.sum(-1) - 1, 0) // 2
    return np.asarray(np.take_along_axis(ordered, middle[..., None], -1)[..., 0], np.float32)


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
    """Squared fourth differences, and what ivar claims for them, summed over a region; each (n, 3).

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
    """How coarsely values are quantised along rows, the tiles of compression; planes (n, 3, rows, 64)."""
    valid = ivar > 0
    pixels = valid.sum(-1)
    enough = pixels >= HALF
    for name, values in (("distinct", image), ("ivar_distinct", ivar)):
        ordered = np.sort(np.where(valid, values, np.float32(np.nan)), axis=-1)
        gaps = ordered[..., 1:] - ordered[..., :-1]
        share = ((gaps > 0).sum(-1) + 1) / pixels
        yield name, (np.where(enough, share, 0).sum(-1) / enough.sum(-1)).astype(np.float32)
    least = np.where(gaps > 0, gaps, np.float32(np.inf)).min(-1)
    step = np.where(enough & np.isfinite(least), np.log10(least / ivar.max(-1)), np.float32(np.nan))
    yield "ivar_step", _median(step, np.isfinite(step))
