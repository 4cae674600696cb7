"""Cutouts of a known population with one planted difference, as a training set on disk.

The galaxies are exponential discs, as sums of Gaussians (Hogg & Lang 2013, PASP 125, 719, table 1),
seen through a two-Gaussian PSF that already contains the pixel, on Gaussian sky noise, in any bands.  FWHM
scatters by 5 % from galaxy to galaxy, noise by 10 %.
Everything is analytic, so that `ideal` can say what the best possible observer would reach.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.files.atomic import write_json
from obiwan.dplearn.stampspec import SPLITS, StampSpec
from obiwan.dplearn.trainingset import manifest as manifests
from tables import write_shard

GRZ = StampSpec()
PIXEL = GRZ.pixel_scale
FWHM = {"u": 1.4, "g": 1.3, "r": 1.2, "i": 1.15, "z": 1.1, "Y": 1.1}  # of the PSF's core, arcsec
SKY = {"u": 0.004, "g": 0.004, "r": 0.006, "i": 0.009, "z": 0.013, "Y": 0.03}  # noise a pixel, nanomaggies
MAG = {"u": 1.8, "g": 0.6, "r": 0.0, "i": -0.25, "z": -0.5, "Y": -0.6}  # of a galaxy, relative to r
EXP_AMPLITUDE = np.array([2.34853813e-03, 3.07995260e-02, 2.23364214e-01, 1.17949102, 4.33873750, 5.99820770])
EXP_VARIANCE = np.array(
    [1.20078965e-03, 8.84526493e-03, 3.91463084e-02, 1.39976817e-01, 4.60962500e-01, 1.50159566]
)
DEV_AMPLITUDE = np.array(
    [
        4.26347652e-02,
        2.40127183e-01,
        6.85907632e-01,
        1.51937350,
        2.83627243,
        4.46467501,
        5.72440830,
        5.60989349,
    ]
)
DEV_VARIANCE = np.array(
    [
        2.23759216e-04,
        1.00220099e-03,
        4.18731126e-03,
        1.69432589e-02,
        6.84850479e-02,
        2.87207080e-01,
        1.33320254,
        8.40215071,
    ]
)
WINGS, WINGS_WIDTH = 0.2, 2.0  # of the PSF: fraction of the light, sigma in units of the core's
CLUMP_RADII = (2.0, 5.0)  # distance of a clump from the galaxy's centre (pixels)


@dataclass(frozen=True)
class Population:
    """What both classes share.

    Attributes
    ----------
    median_snr, snr_scatter : float
        Matched-filter S/N over the bands: log-normal, scatter in natural-log units.
    median_size, size_scatter : float
        Half-light radius (arcsec): log-normal.
    colour_scatter : float
        Scatter (mag) of the colours of neighbouring bands (g-r about 0.6, r-z about 0.5).
    ellipticity : float
        Rayleigh scale of |e|, e = (a^2 - b^2) / (a^2 + b^2), cut at 0.7.
    """

    median_snr: float = 40.0
    snr_scatter: float = 0.5
    median_size: float = 0.6
    size_scatter: float = 0.3
    colour_scatter: float = 0.15
    ellipticity: float = 0.2


@dataclass(frozen=True)
class Sample:
    """Parameters of n galaxies; arrays of length n, or (n, bands) where a value is per band.

    Attributes
    ----------
    flux : ndarray
        (n, bands), nanomaggies.
    x, y : ndarray
        Position of the light relative to the central pixel's centre (pixels).
    size : ndarray
        Half-light radius (arcsec).
    e1, e2 : ndarray
        Ellipticity.
    dev : ndarray
        Fraction of the light in a de Vaucouleurs profile of the same size.
    sigma : ndarray
        (n, bands), sigma of the PSF's core (pixels).
    sky : ndarray
        (n, bands), noise per pixel (nanomaggies).
    wings : ndarray
        Fraction of the PSF's light in its wide Gaussian.
    shift : ndarray
        (n, bands), offset of a band's light along x (pixels).
    clump : ndarray
        Fraction of the light in a point source beside the centre.
    clump_x, clump_y : ndarray
        Position of this point source relative to the galaxy's (pixels).
    """

    flux: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    size: NDArray[np.float64]
    e1: NDArray[np.float64]
    e2: NDArray[np.float64]
    dev: NDArray[np.float64]
    sigma: NDArray[np.float64]
    sky: NDArray[np.float64]
    wings: NDArray[np.float64]
    shift: NDArray[np.float64]
    clump: NDArray[np.float64]
    clump_x: NDArray[np.float64]
    clump_y: NDArray[np.float64]

    def __len__(self) -> int:
        """Number of galaxies."""
        return len(self.x)

    def take(self, rows: slice) -> Sample:
        """Some of the galaxies."""
        return Sample(**{name: value[rows] for name, value in vars(self).items()})


DIFFERENCES = (
    *("none", "offset", "size", "psf", "flux", "colour", "profile", "shot", "dip"),
    *("band_offset", "wings", "clump", "correlation"),
)


@dataclass(frozen=True)
class Planted:
    """How the fakes differ: a kind of `DIFFERENCES` and its amplitude.

    ``offset``: pixels along x; ``size``, ``psf`` (FWHM), ``flux``: factors; ``colour``: mag added to g;
    ``profile``: fraction of de Vaucouleurs light; ``shot``: the reals' extra variance per flux
    (nanomaggies; missing in fakes, and known to neither ivar plane); ``dip``: fraction by which a fake's
    ivar dips at its peak; ``band_offset``: pixels along x in the first band; ``wings``: fraction of the
    light in the PSF's wide Gaussian (`WINGS` in the reals); ``clump``: fraction of the light in a point
    source at `CLUMP_RADII`; ``correlation``: of the noise of neighbouring pixels of a row.
    """

    kind: str = "none"
    amplitude: float = 0.0


def draw_population(
    n: int, population: Population, rng: np.random.Generator, spec: StampSpec = GRZ
) -> Sample:
    """Parameters of n galaxies of a population."""
    bands, middle = spec.bands, spec.bands.index(spec.reference)
    fwhm = np.array([FWHM[band] for band in bands]) * rng.lognormal(0, 0.05, (n, 1))
    sky = np.array([SKY[band] for band in bands]) * rng.lognormal(0, 0.1, (n, len(bands)))
    modulus = np.minimum(rng.rayleigh(population.ellipticity, n), 0.7)
    angle = rng.uniform(0, 2 * np.pi, n)
    colours = [MAG[blue] - MAG[red] for blue, red in spec.colours]
    colour = rng.normal(colours, population.colour_scatter, (n, len(colours)))
    bluer, redder = -colour[:, :middle][:, ::-1].cumsum(1)[:, ::-1], colour[:, middle:].cumsum(1)
    flux = 10 ** (0.4 * np.concatenate([bluer, np.zeros((n, 1)), redder], 1))
    phase = rng.uniform(-0.5, 0.5, (2, n))
    beside = rng.spawn(1)[0]  # a stream of its own: the other draws are the same as without clumps
    radius, towards = np.sqrt(beside.uniform(*np.square(CLUMP_RADII), n)), beside.uniform(0, 2 * np.pi, n)
    sample = Sample(
        flux=flux,
        x=phase[0],
        y=phase[1],
        size=population.median_size * rng.lognormal(0, population.size_scatter, n),
        e1=modulus * np.cos(angle),
        e2=modulus * np.sin(angle),
        dev=np.zeros(n),
        sigma=fwhm / PIXEL / 2.3548,
        sky=sky,
        wings=np.full(n, WINGS),
        shift=np.zeros((n, len(bands))),
        clump=np.zeros(n),
        clump_x=radius * np.cos(towards),
        clump_y=radius * np.sin(towards),
    )
    wanted = population.median_snr * rng.lognormal(0, population.snr_scatter, n)
    return replace(sample, flux=flux * (wanted / signal_to_noise(sample, spec.size))[:, None])


def signal_to_noise(sample: Sample, size: int = GRZ.size) -> NDArray[np.float64]:
    """Matched-filter S/N over the bands, from the noiseless images."""
    snr = np.empty(len(sample))
    for start in range(0, len(sample), 512):
        rows = slice(start, start + 512)
        image = noiseless(sample.take(rows), size) / sample.sky[rows][:, None, None, :]
        snr[rows] = np.sqrt(np.einsum("nyxc,nyxc->n", image, image))
    return snr


def _blue(sample: Sample, value: float, others: float) -> NDArray[np.float64]:
    """A value in the first band, and another one in the others."""
    return np.array([value, *np.full(sample.flux.shape[1] - 1, others)])


def plant(sample: Sample, planted: Planted) -> Sample:
    """The fakes' parameters: the population's with the difference in them."""
    amplitude = planted.amplitude
    if planted.kind == "offset":
        return replace(sample, x=sample.x + amplitude)
    if planted.kind == "size":
        return replace(sample, size=sample.size * amplitude)
    if planted.kind == "psf":
        return replace(sample, sigma=sample.sigma * amplitude)
    if planted.kind == "flux":
        return replace(sample, flux=sample.flux * amplitude)
    if planted.kind == "colour":
        return replace(sample, flux=sample.flux * _blue(sample, 10 ** (-0.4 * amplitude), 1.0))
    if planted.kind == "profile":
        return replace(sample, dev=np.full(len(sample), amplitude))
    if planted.kind == "band_offset":
        return replace(sample, shift=sample.shift + _blue(sample, amplitude, 0.0))
    if planted.kind in ("wings", "clump"):
        return replace(sample, **{planted.kind: np.full(len(sample), amplitude)})
    return sample


def _gaussian(
    sample: Sample, variance: NDArray[np.float64], band: int, width: float, size: int
) -> NDArray[np.float32]:
    """Unit-flux elliptical Gaussians of given variance (pixel^2, if round), seen through the PSF."""
    beyond = (width * sample.sigma[:, band]) ** 2
    vxx = variance * (1 + sample.e1) + beyond
    vyy = variance * (1 - sample.e1) + beyond
    vxy = variance * sample.e2
    det = vxx * vyy - vxy**2
    grid = np.arange(size) - size // 2
    dx = (grid - (sample.x + sample.shift[:, band])[:, None]).astype(np.float32)[:, None, :]
    dy = (grid - sample.y[:, None]).astype(np.float32)[:, :, None]
    a, b, c = (np.float32(-0.5) * (v / det).astype(np.float32)[:, None, None] for v in (vyy, -2 * vxy, vxx))
    exponent = a * dx**2 + (b * dx) * dy + c * dy**2
    return np.exp(exponent) * (1 / (2 * np.pi * np.sqrt(det))).astype(np.float32)[:, None, None]


def noiseless(sample: Sample, size: int = GRZ.size) -> NDArray[np.float32]:
    """Images without noise, shape (n, size, size, bands), nanomaggies."""
    out = np.zeros((len(sample), size, size, sample.flux.shape[1]), np.float32)
    scale = (sample.size / PIXEL) ** 2
    disc = 1 - sample.clump
    profiles = ((1 - sample.dev, EXP_AMPLITUDE, EXP_VARIANCE), (sample.dev, DEV_AMPLITUDE, DEV_VARIANCE))
    for share, amplitudes, variances in profiles:
        if not share.any():
            continue
        for amplitude, variance in zip(amplitudes / amplitudes.sum(), variances, strict=True):
            _add_light(out, sample, share * amplitude * disc, variance * scale)
    if sample.clump.any():
        beside = replace(sample, x=sample.x + sample.clump_x, y=sample.y + sample.clump_y)
        _add_light(out, beside, sample.clump, 0 * scale)
    return out


def _add_light(
    out: NDArray[np.float32], sample: Sample, share: NDArray[np.float64], variance: NDArray[np.float64]
) -> None:
    """Add a Gaussian of a share of each galaxy's light, seen through the PSF."""
    for fraction, width in ((1 - sample.wings, 1.0), (sample.wings, WINGS_WIDTH)):
        for band in range(out.shape[-1]):
            weight = (share * fraction * sample.flux[:, band]).astype(np.float32)
            out[..., band] += weight[:, None, None] * _gaussian(sample, variance, band, width, out.shape[1])


def correlated(noise: NDArray[np.float32], correlation: float) -> NDArray[np.float32]:
    """White noise made correlated: so much between neighbours of a row (axis 2), which is closed."""
    own = np.sqrt((1 + np.sqrt(1 - 4 * correlation**2)) / 2)
    return np.float32(own) * noise + np.float32(correlation / own) * np.roll(noise, 1, axis=2)


def observe(
    sample: Sample,
    rng: np.random.Generator,
    *,
    shot: float = 0.0,
    dip: float = 0.0,
    correlation: float = 0.0,
    spec: StampSpec = GRZ,
) -> NDArray[np.float32]:
    """Stamps as a training set holds them, shape (n, size, size, channels).

    Parameters
    ----------
    sample : Sample
        The galaxies.
    rng : numpy.random.Generator
        For the noise.
    shot : float
        Extra variance per flux (nanomaggies), not told to the ivar planes.
    dip : float
        Fraction by which ivar falls at the peak of the image.
    correlation : float
        Of the noise of neighbouring pixels of a row, not told to the ivar planes.
    """
    image = noiseless(sample, spec.size)
    sky = sample.sky.astype(np.float32)[:, None, None, :]
    noise = correlated(rng.standard_normal(image.shape, np.float32), correlation)
    noise *= np.sqrt(sky**2 + np.float32(shot) * image)
    peak = image.max((1, 2), keepdims=True)
    ivar = np.broadcast_to(1 / sky**2, image.shape) * (1 - np.float32(dip) * image / peak)
    return np.concatenate([image + noise, ivar][: len(spec.planes)], axis=-1)


def observe_class(
    sample: Sample, label: int, planted: Planted, rng: np.random.Generator, spec: StampSpec = GRZ
) -> NDArray[np.float32]:
    """Stamps of one class (0 real, 1 fake): what is planted in noise and ivar is planted here."""
    own = {"shot": 0, "dip": 1, "correlation": 1}  # the class that differs from a plain observation
    differs = {planted.kind: planted.amplitude} if own.get(planted.kind) == label else {}
    return observe(sample, rng, **differs, spec=spec)


def draw(
    n: int,
    planted: Planted,
    rng: np.random.Generator,
    population: Population | None = None,
    spec: StampSpec = GRZ,
) -> tuple[NDArray[np.float32], NDArray[np.uint8], Sample]:
    """Draw n examples, the two classes in random order: cutouts, labels, parameters."""
    sample = draw_population(n, population or Population(), rng, spec)
    y = rng.permutation(np.arange(n) % 2).astype(np.uint8)
    fake = y.astype(bool)
    changed = plant(sample, planted)
    merged = Sample(
        **{
            name: np.where(fake.reshape(-1, *[1] * (value.ndim - 1)), getattr(changed, name), value)
            for name, value in vars(sample).items()
        }
    )
    x = np.empty((n, *spec.shape), np.float32)
    for label in (0, 1):
        rows = np.flatnonzero(y == label)
        part = Sample(**{name: value[rows] for name, value in vars(merged).items()})
        x[rows] = observe_class(part, label, planted, rng, spec)
    return x, y, merged


def write_set(
    directory: Path,
    planted: Planted,
    counts: dict[str, int],
    seed: int,
    *,
    rows: int = 512,
    spec: StampSpec = GRZ,
) -> dict[str, Sample]:
    """Write a training set with a planted difference; returns the parameters by split.

    The first n training examples are the same whatever number is asked for: each shard has its own stream.
    """
    (directory / manifests.WORK).mkdir(parents=True, exist_ok=True)
    entries, samples = [], {}
    for index, split in enumerate(SPLITS):
        parts = []
        for number, start in enumerate(range(0, counts[split], rows), 1):
            rng = np.random.default_rng([seed, index, number])
            x, y, sample = draw(rows, planted, rng, spec=spec)
            keep = min(rows, counts[split] - start)
            entries.append(write_shard(directory, split, number, x[:keep], y[:keep], spec))
            parts.append(sample.take(slice(0, keep)))
        samples[split] = Sample(
            **{name: np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])}
        )
    manifest = {
        "format": manifests.FORMAT,
        "format_version": manifests.FORMAT_VERSION,
        **spec.to_manifest(),
        "planted": vars(planted),
        "shards": [asdict(entry) for entry in entries],
    }
    manifest["manifest_crc32"] = manifests.manifest_checksum(manifest)
    write_json(directory / manifests.MANIFEST, manifest, directory / manifests.WORK)
    (directory / manifests.WORK).rmdir()
    return samples
