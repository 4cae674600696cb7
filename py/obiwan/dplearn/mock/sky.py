"""The sky of the mock survey: one population, one position process, one way to draw light.

Both classes come out of the functions here.  What makes the null survey null:

* Injections and real objects are drawn by `draw_population` and rendered by `add_light`.
* Every position is uniform over the primary box, so the sub-pixel phase is uniform too.  Real objects
  keep `HARD_CORE` from one another as a Gibbs process (birth and death).  Injections ignore the real
  objects, as real injections do; those that land within the match radius of a real object are
  dropped later as coincident, and what is left sees exactly the neighbourhood that a member of a
  hard-core Gibbs process sees (Georgii, Nguyen and Zessin).
* The noise of a pixel is Gaussian with variance (sky + light / gain) for the light of either class, and
  invvar is the inverse of that variance for both.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from obiwan.dplearn.mock.bricks import SATUR, Exposure
from obiwan.dplearn.mock.config import PIXEL_SCALE, Plant
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.cutouts import centre_pixel, overlap
from obiwan.dplearn.survey.differences import SERSIC_RANGE
from obiwan.dplearn.survey.rendering import FWHM, Galaxy, along_major, render

DRAWN, DRAWN_SATURATED = 64, 192  #: Pixels on a side of what is drawn of an object, and of a saturated star
#: Nanomaggies of a star with a saturated core, before extinction
SATURATED_STAR = {"g": 700.0, "r": 1500.0, "i": 2000.0, "z": 2500.0}
SATURATION_FILL = 10.0  #: What legacypipe writes into saturated pixels of the image
SATURATION_RADIUS = 7.0
HARD_CORE = 1.5  #: Arcseconds: the default match radius of create_training
STAR_FRACTION, FAINT_FRACTION = 0.05, 0.08
DEVIATES = 14
#: Which of an object's deviates is the noise of its measured flux in a band
FLUX_DEVIATE = {"g": 0, "r": 1, "z": 2, "i": 11}


@cache
def object_dtype(bands: tuple[str, ...]) -> np.dtype[Any]:
    """Record type of an object: what the truth says, what is drawn (light_*), its measurement noise.

    Fluxes are observed nanomaggies, one a band; shape_r and light_r are half-light radii (arcsec, major
    axis); sersic 0 is a point source; e1, e2 follow the tractor; dev holds standard normal deviates.
    light_dx is the offset along x in each band (pixels), light_psf a factor on the PSF's width, light_shot
    the fraction of the shot noise's amplitude that is there, light_dip the depth of the dip in invvar.
    """
    numbers = ("ra", "dec", "x", "y", "sersic", "shape_r", "e1", "e2")
    light = ("light_sersic", "light_r", "light_psf", "light_shot", "light_dip")
    fluxes = [(name, "f8", (len(bands),)) for name in ("flux", "light_flux", "light_dx")]
    others = [("id", "i8"), ("saturated", "?"), ("dev", "f8", (DEVIATES,))]
    return np.dtype([*others, *fluxes, *((name, "f8") for name in (*numbers, *light))])


def draw_population(
    rng: np.random.Generator, number: int, bands: tuple[str, ...], transmission: Array
) -> Array:
    """Draw ``number`` objects without positions: galaxies around the ELG box, and a few stars.

    Of the galaxies 88 % are blue and mostly exponential, 12 % red and de Vaucouleurs, which the ELG
    cuts reject; some are near or below the detection limit.  Stars are brighter than the bright limit of
    those cuts.  The magnitude in i is the mean of those in r and z.  ``transmission``, one value a band, dims
    the light.
    """
    out = np.zeros(number, dtype=object_dtype(bands))
    star = rng.random(number) < STAR_FRACTION
    red = rng.random(number) < 0.12
    faint = rng.random(number) < FAINT_FRACTION
    r_mag = np.where(faint, rng.uniform(23.5, 24.8, number), 20.7 + 3.3 * rng.beta(2.2, 2.6, number))
    r_mag = np.where(star, rng.uniform(18.5, 20.2, number), r_mag)
    g_r = np.where(red | star, rng.normal(1.4, 0.12, number), rng.normal(0.55, 0.18, number))
    r_z = np.where(red | star, rng.normal(1.1, 0.15, number), rng.normal(0.75, 0.25, number))
    magnitude = {"g": r_mag + g_r, "r": r_mag, "i": r_mag - 0.5 * r_z, "z": r_mag - r_z}
    mags = np.stack([magnitude[band] for band in bands], axis=1)
    out["flux"] = 10.0 ** (-0.4 * (mags - 22.5)) * transmission
    radius = np.exp(rng.normal(np.log(0.50), 0.35, number) - 0.10 * (r_mag - 22.5))
    round_ = rng.uniform(0.25, 1.0, number)
    angle = rng.uniform(0.0, np.pi, number)
    ellipticity = np.where(star, 0.0, (1.0 - round_) / (1.0 + round_))
    out["sersic"] = np.where(star, 0.0, np.where(red, 4.0, 1.0))
    out["e1"], out["e2"] = ellipticity * np.cos(2 * angle), ellipticity * np.sin(2 * angle)
    out["shape_r"] = np.where(star, 0.0, along_major(np.clip(radius, 0.15, 1.7), out["e1"], out["e2"]))
    out["dev"] = rng.normal(size=(number, DEVIATES))
    out["light_flux"], out["light_psf"], out["light_shot"] = out["flux"], 1.0, 1.0
    out["light_sersic"], out["light_r"] = out["sersic"], out["shape_r"]
    return out


def plant_differences(objects: Array, plant: Plant, bands: tuple[str, ...]) -> Array:
    """Return a copy of ``objects`` whose light differs as ``plant`` says; the truth says nothing of it."""
    out = objects.copy()
    step = 10.0 ** (0.4 * 0.5e-3 * plant.colour)
    tilt = np.ones(out["flux"].shape[1])
    tilt[0] *= step
    tilt[-1] /= step
    out["light_flux"] = out["flux"] * plant.flux * tilt
    galaxy = out["sersic"] > 0
    out["light_sersic"] = np.where(galaxy, np.clip(out["sersic"] + plant.sersic, *SERSIC_RANGE), 0.0)
    out["light_r"] = out["shape_r"] * plant.size
    out["light_dx"] = plant.shifts(bands)
    out["light_psf"] = plant.psf
    out["light_shot"], out["light_dip"] = 1 - plant.no_shot_noise, plant.ivar_dip
    return out


def hard_core_positions(
    rng: np.random.Generator, expected: float, low: float, high: float, radius: float, sweeps: int = 20
) -> Array:
    """Draw a Gibbs hard-core process in a square: no two points nearer than ``radius``.

    Births and deaths with the acceptance of Geyer and Moller, started from nothing.

    Parameters
    ----------
    rng : Generator
        Source of randomness.
    expected : float
        Number of points that a Poisson process of this activity would have.
    low, high : float
        Edges of the square, in pixels, the same in x and y.
    radius : float
        Smallest distance, in pixels.
    sweeps : int
        Steps per expected point.

    Returns
    -------
    ndarray
        Positions, of shape (n, 2).
    """
    steps = int(sweeps * expected)
    trial = rng.uniform(low, high, (steps, 2))
    birth, accept, pick = rng.random(steps) < 0.5, rng.random(steps), rng.random(steps)
    points = np.empty((steps + 1, 2))
    n = 0
    for k in range(steps):
        if birth[k]:
            if accept[k] < expected / (n + 1) and (
                n == 0 or ((points[:n] - trial[k]) ** 2).sum(axis=1).min() > radius**2
            ):
                points[n] = trial[k]
                n += 1
        elif n and accept[k] < n / expected:
            n -= 1
            points[int(pick[k] * (n + 1))] = points[n]
    return points[:n].copy()


def collisions(x: Array, y: Array, radius: float) -> Array:
    """Flag, greedily in row order, the points nearer than ``radius`` to an earlier unflagged one."""
    flagged = np.zeros(len(x), dtype=np.bool_)
    pairs = sorted(cKDTree(np.column_stack([x, y])).query_pairs(radius), key=lambda p: (p[1], p[0]))
    for first, second in pairs:
        if not flagged[first]:
            flagged[second] = True
    return flagged


def add_light(plane: Array, objects: Array, band: int, fwhm: float) -> None:
    """Add the light of ``objects`` in one band to ``plane``, in place; what falls outside is lost.

    Parameters
    ----------
    plane : ndarray of float32
        Nanomaggies per pixel.
    objects : ndarray of `object_dtype`
    band : int
        Index of the band in their fluxes.
    fwhm : float
        Width of the PSF, pixel included (arcsec).
    """
    height, width = plane.shape
    for row in objects:
        x, y = float(row["x"] + row["light_dx"][band]), float(row["y"])
        size = DRAWN_SATURATED if row["saturated"] else DRAWN
        (cx, cy), middle = centre_pixel(np.array([x, y])).tolist(), size // 2
        (ys, from_y), (xs, from_x) = overlap(cy, height, size), overlap(cx, width, size)
        flux = float(row["light_flux"][band])
        if flux <= 0:
            continue
        radius, sersic, e1, e2 = (float(row[name]) for name in ("light_r", "light_sersic", "e1", "e2"))
        psf, place = fwhm * float(row["light_psf"]), (x - cx + middle, y - cy + middle)
        galaxy = Galaxy((flux,), (psf,), *place, radius, sersic, e1, e2)
        stamp = render(galaxy, size, PIXEL_SCALE, dtype=np.float32)[..., 0]
        # The transform rings at 1e-5 of the peak; light is not negative.
        np.maximum(stamp, 0.0, out=stamp)
        plane[ys, xs] += stamp[from_y, from_x]


def saturate(exposure: Exposure, objects: Array) -> None:
    """Set, in place, the saturation bit in the cores of saturated stars."""
    size = exposure.mask.shape[0]
    for row in objects[objects["saturated"]]:
        yy, xx = np.ogrid[:size, :size]
        exposure.mask[(xx - row["x"]) ** 2 + (yy - row["y"]) ** 2 < SATURATION_RADIUS**2] |= SATUR


def shot_variance(light: Array, exposure: Exposure, gain: float) -> Array:
    """Variance of the photons of ``light`` (nanomaggies per pixel), in nanomaggies squared."""
    photons = np.float32(gain) * np.maximum(exposure.nobs, 1).astype(np.float32)
    return np.asarray(light / photons, dtype=np.float32)


def noisy_image(rng: np.random.Generator, light: Array, exposure: Exposure, gain: float) -> Array:
    """Return light with the noise of the sky and of its own photons; blank or filled where unobserved."""
    sigma = np.sqrt(exposure.variance + shot_variance(light, exposure, gain))
    image = light + sigma * rng.standard_normal(light.shape, dtype=np.float32)
    return blank(image, exposure)


def blank(image: Array, exposure: Exposure) -> Array:
    """Put 0 where nothing was observed and the fill where everything is saturated, in place."""
    image[(exposure.mask & SATUR) > 0] = SATURATION_FILL
    image[exposure.nobs == 0] = 0.0
    return image


def inverse_variance(light: Array, exposure: Exposure, gain: float) -> Array:
    """Return 1 / (sky + source variance), 0 where unobserved or masked."""
    out = 1.0 / (exposure.variance + shot_variance(light, exposure, gain))
    out[(exposure.nobs == 0) | (exposure.mask != 0)] = 0.0
    return np.asarray(out, dtype=np.float32)


def dip(invvar: Array, objects: Array, fwhm: float) -> None:
    """Multiply ``invvar``, in place, by 1 - its dip * Gaussian PSF around each object's true position."""
    sigma = fwhm / PIXEL_SCALE / FWHM
    reach = int(np.ceil(5 * sigma))
    size = invvar.shape[0]
    for row in objects[objects["light_dip"] > 0]:
        xc, yc = round(float(row["x"])), round(float(row["y"]))
        ys, xs = overlap(yc, size, 2 * reach + 1)[0], overlap(xc, size, 2 * reach + 1)[0]
        yy, xx = np.ogrid[ys, xs]
        radius2 = (xx - row["x"]) ** 2 + (yy - row["y"]) ** 2
        invvar[ys, xs] *= (1.0 - row["light_dip"] * np.exp(-0.5 * radius2 / sigma**2)).astype(np.float32)
