"""Objects of the mock survey: one population, one position process.

Both classes come out of the functions here.  What makes the null survey null:

* Injections and real objects are of the population of `draw_population`, and
  `obiwan.dplearn.mock.drawing.add_objects` adds the light, and its noise, of both.
* Every position is uniform over the primary box, so the sub-pixel phase is uniform too.  Real objects
  keep `HARD_CORE` from one another as a Gibbs process (birth and death).  Injections ignore the real
  objects, as real injections do; those that land within the match radius of a real object are
  dropped later as coincident, and what is left sees exactly the neighbourhood that a member of a
  hard-core Gibbs process sees (Georgii, Nguyen and Zessin).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from obiwan.dplearn.mock.config import Plant
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.differences import SERSIC_RANGE
from obiwan.dplearn.survey.rendering import along_major

#: Nanomaggies of a star with a saturated core, before extinction
SATURATED_STAR = {"g": 700.0, "r": 1500.0, "i": 2000.0, "z": 2500.0}
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
