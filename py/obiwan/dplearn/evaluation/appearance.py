"""Appearance of the classes: mean stamps, radial profiles and noise of real and injected galaxies.

Everything is measured in the same way in a sample of either class.  Errors rest on whole bricks where the
test's do: what a brick does to both classes cancels in their difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter, uniform_filter
from scipy.stats import norm
from scipy.stats import t as student

from obiwan.dplearn.controls.centroids import radii
from obiwan.dplearn.controls.measure import LEAST_SNR, OUTSKIRTS
from obiwan.dplearn.galaxyfit.noise import lower_median
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.cutouts import centre_pixel
from obiwan.dplearn.twosample.ranks import cluster_numbers

LEAST_SN = 40.0  #: of the light in the window, all bands together, for a galaxy that is averaged
ENOUGH = 100  #: galaxies of each class; where fewer are so bright, the limit is lower
MOST, NOISE = 600, 250  #: galaxies of each class that are averaged; stamps of each whose noise is measured
CLIPPED = 2.0  #: per cent of the values of a pixel, at either end, that count as the next ones: neighbours
LAGS = 6  #: pixels apart
FAR = 4.0  #: sigmas of the sky beyond which a pixel, or a block of them, is light and no noise
BLOCK = 3  #: pixels on a side
RINGS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20)  #: radii between which rings lie (px)


@dataclass(frozen=True)
class Compared:
    """Means of both classes on a grid, with their standard errors.

    Attributes
    ----------
    mean, error : ndarray, shape (2, ...)
        Real, injected.
    difference_error, ratio_error : ndarray, shape (...)
        Of injected less real, and of injected over real.
    freedom : int
        Degrees of freedom of the errors.
    """

    mean: Array
    error: Array
    difference_error: Array
    ratio_error: Array
    freedom: int

    @property
    def sigmas(self) -> Array:
        """Difference of the classes, injected less real, as a normal deviate as rare as Student's t."""
        with np.errstate(all="ignore"):
            t = (self.mean[1] - self.mean[0]) / self.difference_error
            tail = np.maximum(student.sf(np.abs(t), self.freedom), np.finfo(float).tiny)
            return np.asarray(np.sign(t) * norm.isf(tail))

    @property
    def half(self) -> float:
        """Half of a 95 % interval in units of the error."""
        return float(student.ppf(0.975, self.freedom))

    @property
    def ratio(self) -> Array:
        """Mean of injected galaxies over that of real ones."""
        with np.errstate(all="ignore"):
            return np.asarray(self.mean[1] / self.mean[0])


@dataclass(frozen=True)
class Drawn:
    """Examples of both classes that are looked at.

    Attributes
    ----------
    stamps : ndarray of float32, shape (n, size, size, channels)
    rows : structured ndarray, shape (n,)
    measured : ndarray of `obiwan.dplearn.controls.measure.measure_dtype`, shape (n,)
    bricks : ndarray, shape (n,), or None
        What errors rest on; single examples without.
    """

    stamps: Array
    rows: Array
    measured: Array
    bricks: Array | None

    @property
    def fake(self) -> Array:
        """Whether each is an injection."""
        return np.asarray(self.rows["label"] == 1)

    @property
    def counts(self) -> tuple[int, int]:
        """Real and injected examples."""
        return int((~self.fake).sum()), int(self.fake.sum())


@dataclass(frozen=True)
class Appearance:
    """Appearance of real and injected galaxies.

    Attributes
    ----------
    counts, noise_counts : tuple of int
        Real and injected galaxies that are averaged, and stamps whose noise is measured.
    least_sn : float
        Signal to noise above which galaxies are averaged.
    pixels : Compared
        Mean stamps, shape (size, size, bands), each galaxy divided by its light in a window of 2.5 pixels.
    radius : ndarray, shape (rings,)
        Middle of each ring (px).
    profiles : Compared
        Mean of the same in rings around the expected position, shape (rings, bands).
    lags : ndarray of int
        Distances along rows and columns (px).
    noise : Compared
        Correlation of the sky's pixels at these distances, shape (lags, bands).
    """

    counts: tuple[int, int]
    least_sn: float
    pixels: Compared
    radius: Array
    profiles: Compared
    noise_counts: tuple[int, int]
    lags: Array
    noise: Compared


def appearance(galaxies: Drawn, least_sn: float, sky: Drawn, spec: StampSpec) -> Appearance:
    """Mean stamps and profiles of bright galaxies, and the noise of any stamps.

    Parameters
    ----------
    galaxies : Drawn
        Those of `bright`, some of either class.
    least_sn : float
        Signal to noise that they exceed.
    sky : Drawn
        Those of `sample`.
    spec : StampSpec
    """
    images = normalised(galaxies.stamps, galaxies.measured, spec)
    edges = np.array([edge for edge in RINGS if edge < spec.size // 2], float)
    rings, lags = profiles(images, galaxies.rows, edges), np.arange(1, LAGS + 1)
    given = (galaxies.fake, galaxies.bricks)
    return Appearance(
        counts=galaxies.counts,
        least_sn=least_sn,
        pixels=compare(clipped(images), *given),
        radius=(edges[1:] + edges[:-1]) / 2,
        profiles=compare(clipped(rings), *given),
        noise_counts=sky.counts,
        lags=lags,
        noise=compare(autocorrelation(sky.stamps, spec, lags), sky.fake, sky.bricks),
    )


def compare(values: Array, fake: Array, bricks: Array | None) -> Compared:
    """Means of both classes with errors from what whole bricks, else single examples, contribute.

    Parameters
    ----------
    values : ndarray, shape (n, ...)
        NaN where not measured.
    fake : ndarray of bool, shape (n,)
    bricks : ndarray, shape (n,), optional
        What errors rest on; single examples without.
    """
    groups = cluster_numbers(bricks, len(values))
    order, count = np.argsort(groups, kind="stable"), int(groups.max()) + 1
    starts = np.searchsorted(groups[order], np.arange(count))
    means, sums, holding = [], [], []
    for members in (~fake, fake):
        holding.append(len(np.unique(groups[members])))
        mine = members.reshape(-1, *[1] * (values.ndim - 1)) & np.isfinite(values)
        number = mine.sum(0)
        with np.errstate(all="ignore"):
            mean = np.where(mine, values, 0).sum(0, dtype=np.float64) / number
            influence = np.where(mine, (values - mean) / number, 0)
        means.append(mean)
        sums.append(np.add.reduceat(influence[order], starts, axis=0))
    own, both = ([one / max(one - 1, 1) for one in some] for some in (holding, [count]))

    def variance(scale: Array | float) -> Array:
        real, injected = sums[0] * scale, sums[1]  # as `twosample.ranking.clustered_variance` has it
        alone = own[0] * (real**2).sum(0) + own[1] * (injected**2).sum(0)
        return np.asarray(np.maximum(alone - 2 * both[0] * (real * injected).sum(0), 0))

    with np.errstate(all="ignore"):
        ratio = np.sqrt(variance(means[1] / means[0])) / np.abs(means[0])
    errors = np.sqrt(np.stack([k * (one**2).sum(0) for k, one in zip(own, sums, strict=True)]))
    freedom = max(min(holding) - 1, 1)  # of the class that is in fewer
    return Compared(np.stack(means), errors, np.sqrt(variance(1.0)), ratio, freedom)


def bright(measured: Array, label: Array, spec: StampSpec, seed: int) -> tuple[Array, float]:
    """Bright galaxies of both classes: positions, and the signal to noise that they exceed.

    Parameters
    ----------
    measured : ndarray of `obiwan.dplearn.controls.measure.measure_dtype`, shape (n,)
    label : ndarray, shape (n,)
    spec : StampSpec
    seed : int
        Of the draw where a class has more than `MOST`.
    """
    per_band = spec.per_band(measured, "snr").astype(np.float64)
    core = spec.per_band(measured, "core")
    seen = (np.nan_to_num(per_band) >= LEAST_SNR).all(-1) & (core > 0).all(-1)
    signal = np.where(seen, np.sqrt((np.nan_to_num(per_band) ** 2).sum(-1)), 0)
    ranked = [np.sort(signal[(label == value) & seen])[::-1] for value in (0, 1)]
    if not all(map(len, ranked)):
        return np.empty(0, int), LEAST_SN
    limit = min(LEAST_SN, *(float(one[: ENOUGH + 1][-1]) for one in ranked))
    return sample(signal >= limit, label, MOST, seed), limit


def sample(wanted: Array, label: Array, most: int, seed: int) -> Array:
    """Positions of the wanted examples, at most so many of each class."""
    rng = np.random.default_rng([seed, 53])
    drawn = [rng.permutation(np.flatnonzero(wanted & (label == value)))[:most] for value in (0, 1)]
    return np.sort(np.concatenate(drawn))


def normalised(stamps: Array, measured: Array, spec: StampSpec) -> Array:
    """Images of stamps over the light in the window, NaN where there are no data.

    Parameters
    ----------
    stamps : ndarray of float32, shape (n, size, size, channels)
    measured : ndarray of `obiwan.dplearn.controls.measure.measure_dtype`, shape (n,)
    spec : StampSpec
    """
    image, ivar = spec.image(stamps), spec.ivar(stamps)
    valid = image != 0 if ivar is None else ivar > 0
    core = spec.per_band(measured, "core")[:, None, None, :]
    return np.where(valid, image / core, np.float32(np.nan))


def clipped(values: Array) -> Array:
    """Values of each pixel within all but `CLIPPED` per cent of them at either end, the classes together."""
    low, high = np.nanpercentile(values, (CLIPPED, 100 - CLIPPED), axis=0)
    return np.clip(values, low.astype(values.dtype), high.astype(values.dtype))


def profiles(images: Array, rows: Array, edges: Sequence[float] | Array) -> Array:
    """Means in rings around the expected position, shape (n, rings, bands).

    Parameters
    ----------
    images : ndarray, shape (n, size, size, bands)
        NaN where there are no data.
    rows : structured ndarray, shape (n,)
        With ``x`` and ``y``.
    edges : sequence of float
        Radii between which rings lie (px).
    """
    size = images.shape[1]
    offset = [rows[axis] - centre_pixel(rows[axis]) for axis in ("x", "y")]
    along = [(np.arange(size) - size // 2)[None] - one[:, None] for one in offset]
    radius = np.hypot(along[0][:, None, :], along[1][:, :, None])
    out = np.full((len(images), len(edges) - 1, images.shape[-1]), np.nan, np.float32)
    known = np.isfinite(images)
    filled = np.where(known, images, 0)
    for ring in range(len(edges) - 1):
        inside = ((radius >= edges[ring]) & (radius < edges[ring + 1]))[..., None]
        number = (inside & known).sum((1, 2))
        with np.errstate(all="ignore"):
            out[:, ring] = np.where(number > 0, (filled * inside).sum((1, 2)) / number, np.nan)
    return out


def autocorrelation(stamps: Array, spec: StampSpec, lags: Sequence[int] | Array) -> Array:
    """Correlation of pixels of the sky some pixels apart in a row or a column, shape (n, lags, bands).

    Parameters
    ----------
    stamps : ndarray of float32, shape (n, size, size, channels)
    spec : StampSpec
    lags : sequence of int
    """
    image, ivar = np.moveaxis(spec.image(stamps), -1, 1), spec.ivar(stamps)
    outside = radii(spec.size) > min(OUTSKIRTS, spec.size / 4)
    valid = (image != 0 if ivar is None else np.moveaxis(ivar, -1, 1) > 0) & outside
    values, known = image[..., outside], valid[..., outside]
    with np.errstate(all="ignore"):
        middle = lower_median(values, known)[..., None]
        sigma = 1.4826 * lower_median(np.abs(values - middle), known)[..., None]
        z = np.where(valid, (image - middle[..., None]) / sigma[..., None], 0)
        seen = valid & ~_light(z, valid, outside) & np.isfinite(z)
        z -= (z * seen).sum((2, 3), keepdims=True) / seen.sum((2, 3), keepdims=True)
    z = np.where(seen, z, 0)
    out = np.full((len(stamps), len(lags), len(spec.bands)), np.nan, np.float32)
    for k, lag in enumerate(lags):
        product, square = np.zeros(z.shape[:2]), np.zeros(z.shape[:2])
        for planes, known in ((z, seen), (z.swapaxes(2, 3), seen.swapaxes(2, 3))):
            one, other = planes[..., lag:], planes[..., :-lag]
            both = known[..., lag:] & known[..., :-lag]
            product += (one * other).sum((2, 3))
            square += (both * (one**2 + other**2)).sum((2, 3)) / 2
        with np.errstate(all="ignore"):
            out[:, k] = np.where(square > 0, product / square, np.nan)
    return out


def _light(z: Array, valid: Array, outside: Array) -> Array:
    """Pixels that hold light of objects: around those that stand out, alone or with their neighbours."""
    axes = (2, 3)
    together = np.abs(uniform_filter(z, BLOCK, axes=axes))  # of noise, wider where pixels correlate
    scatter = 1.4826 * lower_median(together[..., outside], valid[..., outside])[..., None, None]
    found = (np.abs(z) > FAR) | (together > FAR * scatter)
    return np.asarray(maximum_filter(found, 2 * BLOCK + 1, axes=axes))
