"""Levenberg-Marquardt fit of the galaxy model to many stamps at a time.

The sky of each band is not a parameter: its likelihood, with a Gaussian prior around 0, is integrated
analytically.  With S the sum of a band's weights w and the prior's precision, and r the residual, ::

    chi2 = sum w r^2 - (sum w r)^2 / S        (and the same for the information and the gradient)

Each stamp goes its own way: it ends when a step gains less than `GAIN`, whatever the others of its batch do.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from obiwan.dplearn.galaxyfit.model import MOST_ELLIPTICAL, Grid, Layout, image, light
from obiwan.dplearn.galaxyfit.neighbours import neighbours
from obiwan.dplearn.galaxyfit.noise import Pixels
from obiwan.dplearn.stampspec import Array

MOST_STEPS = 50
FIRST_SIZES = (0.5, 1.0, 2.0, 4.0, 7.0)  #: half-light radii to begin with, in units of the prior's mean
GAIN = 1e-3  #: a step that lowers chi^2 by less than this, and by 1e-6 of it, is the last
LOOKS = (1, 4)  #: steps after which neighbours are looked for
LAST_LOOKS = 2  #: how often they are looked for again where the fit has converged
SKY_SD = 0.05  #: of the prior on the sky, in units of the noise of a pixel
_LEAST_FLUX = 1e-3  # nanomaggies, where the fit begins
_DAMPING, _EASIER, _HARDER, _STUCK = 1e-2, 0.2, 8.0, 1e8


@dataclass(frozen=True)
class Point:
    """The likelihood of n stamps at their parameters, without the priors.

    Attributes
    ----------
    theta : ndarray, shape (n, parameters)
    residual, model, weight : ndarray of float32, shape (n, bands, pixels)
        Image less model and sky, model, inverse variances.
    slopes : ndarray of float32, shape (n, bands, 8, pixels)
        As of `obiwan.dplearn.galaxyfit.model.light`.
    sky, sky_precision : ndarray, shape (n, bands)
        Nanomaggies per pixel, and the inverse variance of the sky.
    chi2 : ndarray, shape (n,)
    information, gradient : ndarray, shape (n, parameters, parameters) and (n, parameters)
        Fisher information, and gradient of the log likelihood.
    """

    theta: Array
    residual: Array
    model: Array
    weight: Array
    slopes: Array
    sky: Array
    sky_precision: Array
    chi2: Array
    information: Array
    gradient: Array


@dataclass
class _State:
    """State of the fit of each stamp: what a step needs; `cost` is chi^2 with the priors'."""

    theta: Array
    cost: Array
    information: Array
    gradient: Array
    model: Array

    def put(self, rows: Array, other: _State, chosen: Array) -> None:
        """Replace some rows by the chosen ones of another state."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(other, field.name)[chosen]


def evaluate(theta: Array, seen: Array, weight: Array, sky_ivar: Array, layout: Layout, grid: Grid) -> Point:
    """The likelihood of stamps at given parameters.

    Parameters
    ----------
    theta : ndarray, shape (n, parameters)
    seen, weight : ndarray of float32, shape (n, bands, pixels)
        Images and inverse variances.
    sky_ivar : ndarray, shape (n, bands)
        Precision of the prior on the sky; infinite where there is none to be fitted.
    layout, grid
        As of `obiwan.dplearn.galaxyfit.model.light`.
    """
    model, slopes = light(theta, layout, grid)
    residual = seen - model
    total = weight.sum(-1, dtype=np.float64) + sky_ivar
    weighted = (weight * residual).sum(-1, dtype=np.float64)
    sky = weighted / total
    residual -= sky[..., None].astype(np.float32)
    residual *= weight > 0
    n, parameters = theta.shape
    information, gradient = np.zeros((n, parameters, parameters)), np.zeros((n, parameters))
    # With the sky's own prior, sum w (r - s)^2 + s^2 / var(s).
    prior = np.where(np.isfinite(sky_ivar), sky_ivar, 0) * sky**2
    chi2 = (residual**2 * weight).sum((1, 2), dtype=np.float64) + prior.sum(1)
    for band, own in enumerate(layout.of_band):
        weighted = slopes[:, band] * weight[:, band, None]
        mean = weighted.sum(-1, dtype=np.float64) / np.sqrt(total[:, band, None])
        products = weighted @ slopes[:, band].transpose(0, 2, 1) - mean[:, :, None] * mean[:, None]
        information[:, own[:, None], own] += products
        gradient[:, own] += (weighted @ residual[:, band, :, None])[..., 0]
    return Point(theta, residual, model, weight, slopes, sky, total, chi2, information, gradient)


@dataclass(frozen=True)
class Problem:
    """Least-squares problem: pixels of stamps, priors and bounds.

    Attributes
    ----------
    pixels : Pixels
    layout : Layout
    grid : Grid
    mean, low, high : ndarray, shape (n, parameters)
        Of the priors, and bounds.
    sky_ivar : ndarray, shape (n, bands)
        Precision of the prior on the sky.
    """

    pixels: Pixels
    layout: Layout
    grid: Grid
    mean: Array
    low: Array
    high: Array
    sky_ivar: Array

    @classmethod
    def of(cls, pixels: Pixels, layout: Layout, grid: Grid, ln_psf: Array) -> Problem:
        """The problem with the priors of `layout`, given the expected ln PSF widths (n, bands)."""
        return cls(pixels, layout, grid, *layout.centred(ln_psf), pixels.ring_ivar / SKY_SD**2)

    def within(self, theta: Array, rows: Array) -> Array:
        """The nearest parameters within the bounds."""
        theta = np.clip(theta, self.low[rows], self.high[rows])
        e = self.layout.ellipticity
        modulus = np.hypot(*theta[:, e].T)
        theta[:, e] *= np.where(modulus > MOST_ELLIPTICAL, MOST_ELLIPTICAL / np.maximum(modulus, 1e-9), 1)[
            :, None
        ]
        return np.asarray(theta)

    def at_bound(self, theta: Array) -> Array:
        """Whether a parameter is at its bound, shape (n,)."""
        near = 1e-6
        out = ((theta <= self.low + near) | (theta >= self.high - near)).any(1)
        e = self.layout.ellipticity
        return np.asarray(out | (np.hypot(*theta[:, e].T) >= MOST_ELLIPTICAL - near))

    def point(self, theta: Array, weight: Array, rows: Array) -> Point:
        """`evaluate` for some of the stamps; `theta` is theirs, `weight` that of all."""
        seen, sky = self.pixels.image[rows], self.sky_ivar[rows]
        return evaluate(theta, seen, weight[rows], sky, self.layout, self.grid)

    def posterior(self, theta: Array, weight: Array, rows: Array) -> _State:
        """The same with the priors."""
        point, precision = self.point(theta, weight, rows), self.layout.precision
        off = theta - self.mean[rows]
        information = point.information + np.diag(precision)
        cost = point.chi2 + (precision * off**2).sum(1)
        gradient = point.gradient - precision * off
        return _State(theta, cost, information, gradient, point.model)


def _start(problem: Problem, weight: Array) -> Array:
    """Start of the fit: the priors' means, but for the best of `FIRST_SIZES` with the best fluxes."""
    bands, seen = problem.layout.bands, problem.pixels.image
    best, least = problem.mean, np.full(len(problem.mean), np.inf)
    for size in FIRST_SIZES:
        theta = problem.mean.copy()
        theta[:, :bands] = 1
        theta[:, bands + 2] += np.log(size)
        model = image(theta, problem.layout, problem.grid)
        product = (model * seen * weight).sum(-1, dtype=np.float64)
        norm = (model**2 * weight).sum(-1, dtype=np.float64)
        flux = np.maximum(product / np.where(norm > 0, norm, 1), _LEAST_FLUX)
        theta[:, :bands] = np.where(norm > 0, flux, 0)
        chi2 = (flux * (flux * norm - 2 * product)).sum(1)  # less that of an empty stamp
        best, least = np.where((chi2 < least)[:, None], theta, best), np.fmin(chi2, least)
    return best


def _step(problem: Problem, state: _State, damping: Array, rows: Array) -> Array:
    """New parameters of some stamps; those at a bound that would go beyond it are held."""
    theta, gradient = state.theta[rows], state.gradient[rows]
    held = ((theta <= problem.low[rows]) & (gradient < 0)) | ((theta >= problem.high[rows]) & (gradient > 0))
    e = problem.layout.ellipticity
    outwards = (theta[:, e] * gradient[:, e]).sum(1) > 0
    held[:, e] |= (outwards & (np.hypot(*theta[:, e].T) >= MOST_ELLIPTICAL))[:, None]
    matrix = np.where(held[:, :, None] | held[:, None], 0, state.information[rows])
    diagonal = np.einsum("nii->ni", matrix)
    diagonal *= 1 + damping[rows, None]
    diagonal[held] = 1
    step = np.linalg.solve(matrix, np.where(held, 0, gradient)[..., None])[..., 0]
    return problem.within(theta + step, rows)


def solve(problem: Problem) -> tuple[Point, Array]:
    """Fit the model to stamps.

    Returns
    -------
    point : Point
        The likelihood at the result; neighbours have weight 0.
    converged : ndarray of bool, shape (n,)
    """
    everything = np.arange(len(problem.mean))
    seen, weight = problem.pixels.image, problem.pixels.weight
    weight = np.where(neighbours(seen, np.zeros_like(seen), weight, problem.grid), 0, weight)
    state = problem.posterior(_start(problem, weight), weight, everything)
    damping = np.full(len(everything), _DAMPING)
    sound = np.isfinite(state.cost)
    live, looks = sound.copy(), np.zeros(len(everything), int)
    for number in range(MOST_STEPS):
        rows = np.flatnonzero(live)
        if not len(rows):
            break
        new = problem.posterior(_step(problem, state, damping, rows), weight, rows)
        gain = state.cost[rows] - new.cost
        better = gain >= 0
        live[rows] = np.where(better, gain > GAIN + 1e-6 * new.cost, damping[rows] < _STUCK)
        state.put(rows[better], new, better)
        damping[rows] *= np.where(better, _EASIER, _HARDER)
        ended = rows[~live[rows] & (looks[rows] < LAST_LOOKS)]
        looks[ended] += 1
        again = _hide(problem, state, weight, rows if number in LOOKS else ended)
        live[again], damping[again] = True, _DAMPING
    return problem.point(state.theta, weight, everything), sound & ~live


def _hide(problem: Problem, state: _State, weight: Array, rows: Array) -> Array:
    """Set the weights anew, in place: none where neighbours are; returns the stamps in which that changed.

    Early, a large galaxy has light far beyond its model, which comes back when the model has grown.
    """
    if not len(rows):
        return rows
    all_weight, model = problem.pixels.weight[rows], state.model[rows]
    found = neighbours(problem.pixels.image[rows], model, all_weight, problem.grid)
    new = np.where(found, 0, all_weight)
    changed = (new != weight[rows]).any((1, 2))
    some = rows[changed]
    if len(some):
        weight[some] = new[changed]
        state.put(some, problem.posterior(state.theta[some], weight, some), np.arange(len(some)))
    return np.asarray(some)
