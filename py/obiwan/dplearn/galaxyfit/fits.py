"""Galaxy fits: the model's parameters of every stamp with their information, chi^2, flags and leftovers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from obiwan.dplearn.galaxyfit.leftovers import leftovers
from obiwan.dplearn.galaxyfit.model import Grid, Layout, expected_ln_psf, posterior_covariance
from obiwan.dplearn.galaxyfit.neighbours import neighbours
from obiwan.dplearn.galaxyfit.noise import Pixels, pixels_of
from obiwan.dplearn.galaxyfit.solver import Point, Problem, evaluate, solve
from obiwan.dplearn.stampspec import Array, StampSpec

BATCH = 32  #: stamps at a time: what is worked on stays in the processor's cache
LEAST_PIXELS = 200  #: pixels of a band with data and without neighbours, below which a fit is flagged
CORE = 6.0  #: radius (px) within which pixels without data are flagged
#: Fields of `StampFits` with an entry for each stamp.
ARRAYS = ("values", "information", "gradient", "statistics", "chi2", "pixels", "flags")
CHANNELS = ("residual", "square", "model", "ivar")  #: of `residual_images`

#: Bits of `StampFits.flags`.
FLAGS = {
    "at_bound": 1,  # a parameter is at its bound
    "not_converged": 2,  # the last step still gained
    "neighbours_masked": 4,
    "few_pixels": 8,  # fewer than `LEAST_PIXELS` in a band
    "no_data": 16,  # none in a band: its flux is 0 with no information
    "blank_core": 32,  # a pixel without data within `CORE`
    "noise_from_sky": 64,  # there are no ivar planes
}


@dataclass(frozen=True)
class StampFits:
    """Galaxy fits of n stamps.

    Attributes
    ----------
    spec : StampSpec
        What the stamps are.
    names : tuple of str
        The P parameters: ``flux_<band>``, x, y, ln_size, e1, e2, ``ln_psf_<band>``, dev.
    values : ndarray of float32, shape (n, P)
        Fluxes in nanomaggies; x, y in pixels from the centre of the stamp's centre pixel; logarithms of the
        half-light radius and of the PSF's FWHM / 2.3548, both in pixels (`obiwan.dplearn.galaxyfit.model`).
    information : ndarray of float32, shape (n, P, P)
        Fisher information of the likelihood at `values`, without the priors.
    gradient : ndarray of float32, shape (n, P)
        Gradient of the log likelihood at `values`, without the priors.
    statistic_names : tuple of str
        The S numbers of `obiwan.dplearn.galaxyfit.leftovers`.
    statistics : ndarray of float32, shape (n, S)
        NaN where there is nothing to measure.
    chi2 : ndarray of float32, shape (n,)
        Of the pixels that were fitted, without the priors on parameters.
    pixels : ndarray of int32, shape (n,)
        How many they are, in all bands.
    flags : ndarray of uint8, shape (n,)
        Bits of `FLAGS`.
    """

    spec: StampSpec
    names: tuple[str, ...]
    values: Array
    information: Array
    gradient: Array
    statistic_names: tuple[str, ...]
    statistics: Array
    chi2: Array
    pixels: Array
    flags: Array

    def __len__(self) -> int:
        return len(self.values)

    def errors(self) -> Array:
        """Standard deviations of the parameters, shape (n, P), of the information with that of the priors."""
        covariance = posterior_covariance(self.information, Layout.of(self.spec))
        return np.asarray(np.sqrt(np.einsum("nii->ni", covariance)), np.float32)

    def column(self, name: str) -> Array:
        """Values of one parameter or statistic, shape (n,)."""
        if name in self.names:
            return np.asarray(self.values[:, self.names.index(name)])
        return np.asarray(self.statistics[:, self.statistic_names.index(name)])

    def flagged(self, name: str) -> Array:
        """Whether each fit has a flag of `FLAGS`."""
        return np.asarray((self.flags & FLAGS[name]) > 0)

    def take(self, rows: Array) -> StampFits:
        """Some of the fits, by index or mask."""
        return replace(self, **{name: getattr(self, name)[rows] for name in ARRAYS})

    @classmethod
    def concatenate(cls, parts: Sequence[StampFits]) -> StampFits:
        """The fits of several sets of stamps of one specification, one after the other.

        Raises
        ------
        ValueError
            If there are none, or they are of different specifications.
        """
        if len({part.spec for part in parts}) != 1:
            msg = f"fits to be joined must be of one specification, got {len({part.spec for part in parts})}"
            raise ValueError(msg)
        joined: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS
        }
        return replace(parts[0], **joined)


def fit_stamps(stamps: Array, spec: StampSpec, psf: Array | None = None, batch: int = BATCH) -> StampFits:
    """Fit the galaxy model to stamps.

    Parameters
    ----------
    stamps : ndarray of float32, shape (n, size, size, channels)
        As shards hold them.
    spec : StampSpec
    psf : ndarray, shape (n, bands), optional
        FWHM of the PSF from the catalogue (arcsec), the centre of the prior on its width; NaN where unknown.
    batch : int
        Stamps that are worked on at a time; the result does not depend on it.

    Raises
    ------
    ValueError
        If the arrays do not have the shapes of the specification.
    """
    if stamps.ndim != 4 or stamps.shape[1:] != spec.shape:
        msg = f"stamps must have shape (n, {', '.join(map(str, spec.shape))}), got {stamps.shape}"
        raise ValueError(msg)
    ln_psf = expected_ln_psf(psf, len(stamps), spec)
    if not len(stamps):
        return fit_stamps(np.zeros((1, *spec.shape), np.float32), spec).take(np.arange(0))
    starts = range(0, len(stamps), batch)
    return StampFits.concatenate(
        [_fit(stamps[start : start + batch], spec, ln_psf[start : start + batch]) for start in starts]
    )


def _fit(stamps: Array, spec: StampSpec, ln_psf: Array) -> StampFits:
    """The fits of one batch."""
    layout, grid, pixels = Layout.of(spec), Grid.of(spec.size), pixels_of(stamps, spec)
    problem = Problem.of(pixels, layout, grid, ln_psf)
    point, converged = solve(problem)
    names, statistics = leftovers(point, pixels, spec)
    return StampFits(
        spec=spec,
        names=layout.names,
        values=point.theta.astype(np.float32),
        information=point.information.astype(np.float32),
        gradient=point.gradient.astype(np.float32),
        statistic_names=names,
        statistics=statistics,
        chi2=point.chi2.astype(np.float32),
        pixels=(point.weight > 0).sum((1, 2)).astype(np.int32),
        flags=_flags(point, pixels, spec, problem.at_bound(point.theta), converged),
    )


def _flags(point: Point, pixels: Pixels, spec: StampSpec, at_bound: Array, converged: Array) -> Array:
    """Bits of `FLAGS`, shape (n,)."""
    used, valid = point.weight > 0, pixels.weight > 0
    number = used.sum(-1)
    core = Grid.of(spec.size).radius < CORE
    found = {
        "at_bound": at_bound,
        "not_converged": ~converged,
        "neighbours_masked": (valid & ~used).any((1, 2)),
        "few_pixels": (number < LEAST_PIXELS).any(1),
        "no_data": (number == 0).any(1),
        "blank_core": ~valid[:, :, core].all((1, 2)),
        "noise_from_sky": np.full(len(used), not spec.has_ivar),
    }
    bits = [np.where(where, FLAGS[name], 0).astype(np.uint8) for name, where in found.items()]
    return np.asarray(np.bitwise_or.reduce(bits))


def residual_images(stamps: Array, fits: StampFits, batch: int = BATCH) -> Array:
    """Images of what the fit leaves.

    Parameters
    ----------
    stamps : ndarray of float32, shape (n, size, size, channels)
    fits : StampFits
        Of these stamps.
    batch : int
        Stamps that are worked on at a time.

    Returns
    -------
    ndarray of float32, shape (n, side, side, bands, 4)
        The residual in sigma, its square less 1, asinh of the model in sigma, and the inverse variance over
        that of the ring (`CHANNELS`); all 0 in pixels without data and, but for the last, of neighbours.
    """
    starts = range(0, len(stamps), batch)
    parts = (slice(start, start + batch) for start in starts)
    side, bands = Grid.of(fits.spec.size).side, len(fits.spec.bands)
    images = [_residuals(stamps[part], fits.values[part], fits.spec) for part in parts]
    return np.concatenate([np.empty((0, side, side, bands, len(CHANNELS)), np.float32), *images])


def _residuals(stamps: Array, values: Array, spec: StampSpec) -> Array:
    """The images of one batch."""
    layout, grid, pixels = Layout.of(spec), Grid.of(spec.size), pixels_of(stamps, spec)
    problem = Problem.of(pixels, layout, grid, np.zeros((len(stamps), layout.bands)))
    theta, everything = values.astype(np.float64), np.arange(len(values))
    point = problem.point(theta, pixels.weight, everything)
    hidden = neighbours(pixels.image, point.model, pixels.weight, grid)
    weight = np.where(hidden, 0, point.weight)
    residual = evaluate(theta, pixels.image, weight, problem.sky_ivar, layout, grid).residual
    used, sigma = weight > 0, np.sqrt(weight)
    sigmas = residual * sigma
    ratio = pixels.weight / pixels.ring_ivar[..., None]
    planes = (sigmas, np.where(used, sigmas**2 - 1, 0), np.arcsinh(point.model * sigma), ratio)
    out = np.stack(planes, -1).astype(np.float32)
    n, bands = out.shape[:2]
    return np.moveaxis(out.reshape(n, bands, grid.side, grid.side, len(CHANNELS)), 1, 3)
