"""Cutouts of known galaxies with their rows of a source table, for the tests of what is measured on them.

Everything is a sum of Gaussians that are round or stretched along an axis, so that thousands take a second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.examples import blank_examples

BRICKS = 20
SHOT = 1e-4  #: variance per flux (nanomaggies) that both classes have
FIELD = 640  #: pixels on a side of the coadds
SKY = np.array([0.004, 0.006, 0.013])  #: noise per pixel in g, r, z (nanomaggies)
SEEING = np.array([2.1, 1.9, 1.8])  #: sigma of the PSF in g, r, z (px)
NOISE = {**dict(zip("grz", SKY, strict=True)), "i": 0.009}
GRZ = StampSpec()


@dataclass(frozen=True)
class Galaxies:
    """Parameters of n galaxies: (n, bands) fluxes (nanomaggies) and PSF sigmas (px), else (n,).

    `x`, `y` are positions in the centre pixel (px), `size` the sigma of the light (px), `e` how much it is
    stretched along x, `tail` the share of the light in a component three times as wide.
    """

    brick: np.ndarray
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    size: np.ndarray
    e: np.ndarray
    tail: np.ndarray
    psf: np.ndarray
    bands: tuple[str, ...] = GRZ.bands

    def __len__(self) -> int:
        return len(self.x)


def galaxies(n: int, seed: int, bright: float = 1.0) -> Galaxies:
    """Draw n galaxies of one population."""
    rng = np.random.default_rng(seed)
    brick = rng.integers(0, BRICKS, n)
    colour = rng.normal((0.6, 0.7), 0.2, (n, 2))
    r = bright * rng.lognormal(0.5, 0.5, n)
    flux = r[:, None] * 10 ** (0.4 * np.stack([-colour[:, 0], np.zeros(n), colour[:, 1]], 1))
    return Galaxies(
        brick=brick,
        x=rng.uniform(-0.5, 0.5, n),
        y=rng.uniform(-0.5, 0.5, n),
        flux=flux,
        size=1.6 * rng.lognormal(0, 0.3, n),
        e=rng.normal(0, 0.15, n),
        tail=np.full(n, 0.1),
        psf=SEEING * (0.95 + 0.1 * brick[:, None] / BRICKS),
    )


def in_bands(sample: Galaxies, bands: tuple[str, ...]) -> Galaxies:
    """The same galaxies in other bands; i lies between r and z."""
    columns = {band: (sample.flux[:, k], sample.psf[:, k]) for k, band in enumerate(sample.bands)}
    columns["i"] = (np.sqrt(columns["r"][0] * columns["z"][0]), (columns["r"][1] + columns["z"][1]) / 2)
    flux, psf = (np.stack([columns[band][k] for band in bands], 1) for k in (0, 1))
    return replace(sample, flux=flux, psf=psf, bands=bands)


def light(sample: Galaxies, size: int = GRZ.size) -> np.ndarray:
    """Images without noise, (n, size, size, bands), nanomaggies."""
    bands = len(sample.bands)
    out = np.zeros((len(sample), size, size, bands), np.float32)
    grid = np.arange(size) - size // 2
    for share, wide in ((1 - sample.tail, 1.0), (sample.tail, 3.0)):
        variance = (wide * sample.size) ** 2
        for band in range(bands):
            lines = []
            for at, stretch in ((sample.y, 1 - sample.e), (sample.x, 1 + sample.e)):
                v = (variance * stretch + sample.psf[:, band] ** 2)[:, None]
                lines.append(np.exp(-0.5 * (grid - at[:, None]) ** 2 / v) / np.sqrt(2 * np.pi * v))
            lines[0] *= (share * sample.flux[:, band])[:, None]
            out[..., band] += lines[0].astype(np.float32)[:, :, None] * lines[1].astype(np.float32)[:, None]
    return out


def beside(sample: Galaxies, seed: int, nearest: float = 7.0) -> Galaxies:
    """A neighbour of each, nothing planted in it, at a random place not nearer than so many pixels."""
    rng = np.random.default_rng(seed)
    angle, distance = rng.uniform(0, 2 * np.pi, len(sample)), rng.uniform(nearest, 30, len(sample))
    other = in_bands(galaxies(len(sample), seed), sample.bands)
    return replace(other, x=distance * np.cos(angle), y=distance * np.sin(angle), psf=sample.psf)


def cut(
    sample: Galaxies,
    seed: int,
    *,
    shot: float = 1.0,
    dip: float = 0.0,
    nearest: float | None = 7.0,
    size: int = GRZ.size,
) -> np.ndarray:
    """Cutouts, (n, size, size, 2 bands): galaxies, neighbours, noise of sky and photons, and its ivar.

    Parameters
    ----------
    sample, seed
        What to draw.
    shot : float
        Amplitude of the galaxies' own shot noise; ivar takes it to be 1.
    dip : float
        Fraction by which ivar dips at the centre, as wide as a PSF.
    nearest : float or None
        Distance from which on there are neighbours (px); None for none.
    size : int
        Pixels on a side.
    """
    rng = np.random.default_rng([seed, 1])
    own = light(sample, size)
    around = np.zeros_like(own) if nearest is None else light(beside(sample, seed, nearest), size)
    sky = np.array([NOISE[band] ** 2 for band in sample.bands], np.float32)
    noise = np.sqrt(sky + np.float32(SHOT) * (around + own * np.float32(shot) ** 2))
    image = own + around + noise * rng.standard_normal(own.shape, np.float32)
    grid = np.arange(size) - size // 2
    psf = np.exp(-0.125 * (grid[:, None] ** 2 + grid[None, :] ** 2)).astype(np.float32)
    flat = 1 + 0.01 * rng.standard_normal(own.shape, np.float32)  # no real ivar is smooth
    ivar = flat * (1 - np.float32(dip) * psf[:, :, None]) / (sky + np.float32(SHOT) * (own + around))
    return np.concatenate([image, ivar], axis=-1)


def rows_of(sample: Galaxies, label: int, seed: int) -> np.ndarray:
    """Rows of a source table that say what a fit of these galaxies would, positions included."""
    rng = np.random.default_rng([seed, 2])
    n, number = len(sample), sample.brick
    rows = blank_examples(n, StampSpec(sample.bands))
    rows["split"], rows["shard"], rows["row"] = b"train", 1 + np.arange(n) % 4, np.arange(n)
    rows["label"] = label
    rows["brick"] = np.array([f"{1000 + i:04d}p050".encode() for i in range(BRICKS)])[number]
    rows["run"] = np.array([b"rs0", b"rs1", b"rs2"])[rng.integers(0, 3, n)]
    rows["id"], rows["mag_source"], rows["type"] = np.arange(n), b"measured", b"REX"
    rows["x"] = rng.integers(40, FIELD - 40, n) + sample.x
    rows["y"] = rng.integers(40, FIELD - 40, n) + sample.y
    for k, band in enumerate(sample.bands):
        error = 4 * NOISE[band] * sample.psf[:, k]
        flux = np.maximum(sample.flux[:, k] + error * rng.normal(size=n), error)
        rows[f"flux_{band}"], rows[f"flux_ivar_{band}"] = flux, error**-2
        rows[f"mag_{band}"] = 22.5 - 2.5 * np.log10(flux)
        rows[f"psfsize_{band}"] = sample.psf[:, k] * 2.3548 * GRZ.pixel_scale
        rows[f"psfdepth_{band}"] = error**-2
        rows[f"nobs_{band}"] = 2 + np.arange(len(rows)) % 3
        rows[f"mw_transmission_{band}"] = 0.9
    rows["shape_r"] = sample.size * GRZ.pixel_scale * rng.lognormal(0, 0.1, n)
    rows["e1"], rows["e2"] = sample.e + 0.05 * rng.normal(size=n), 0.05 * rng.normal(size=n)
    rows["ebv"], rows["sersic"] = 0.02 + 0.001 * number, 1
    if label:  # found where, and as bright as, they were put in
        scatter = np.random.default_rng([seed, 3]).normal(0, 0.04, (2 + len(sample.bands), n))
        rows["truth_dx"], rows["truth_dy"] = scatter[:2]
        for k, band in enumerate(sample.bands):
            rows[f"truth_flux_{band}"] = rows[f"flux_{band}"] * np.exp(scatter[2 + k])
    return rows
