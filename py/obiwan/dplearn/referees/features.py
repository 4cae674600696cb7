"""Numbers of a stamp for referees, from its galaxy fit, the population and what the fit leaves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from obiwan.dplearn.referees.measured import Measured
from obiwan.dplearn.referees.population import Population
from obiwan.dplearn.stampspec import Array

#: Beginnings of the names of statistics that are linear in what a fit leaves, or in its square.
LEFTOVERS = (
    *("tension_", "corr_", "multipole_", "chi2_zone", "flux_zone"),
    *("wings", "halo", "point", "clump_"),
)
LIMIT = 6.0  #: robust standard deviations at which numbers are clipped
#: What a stamp's light tells most of: combined over the bands with weights of signal to noise squared.
COMBINED = ("dx", "dy", "width", "conc", "dip", "noise_core")


def score_numbers(measured: Measured, population: Population) -> Array:
    """Numbers of the logistic referee: scores of population and noise, shape (n, k).

    Scores of the population's mean and variances, posterior variances, log likelihood ratios of photon noise
    and the inverse variance under the light: the efficient scores of what injectors get wrong.
    """
    fits = measured.fits
    posterior = population.posterior(fits.values, fits.information, fits.gradient)
    noise = [fits.column(name) for name in fits.statistic_names if is_noise(name)]
    return np.column_stack([posterior.u, posterior.q, posterior.v, *noise])


def leftover_numbers(measured: Measured) -> Array:
    """Numbers of what the fit leaves, shape (n, k): of use where a flaw is none of the model's parameters."""
    fits = measured.fits
    return np.column_stack([fits.column(name) for name in fits.statistic_names if name.startswith(LEFTOVERS)])


def is_noise(name: str) -> bool:
    """Whether a statistic of the fit is one of noise: of photon noise, or of ivar under all light."""
    return name.startswith("noise_") or name == "ivar_dip_all"


def all_numbers(measured: Measured, population: Population) -> Array:
    """Numbers of the referee of trees, shape (n, k): all there are; NaN where unknown."""
    fits, light = measured.fits, measured.light
    posterior = population.posterior(fits.values, fits.information, fits.gradient)
    names = light.dtype.names or ()
    numbers = [light[name].astype(np.float64) for name in names]
    parts = [posterior.mean, np.log(posterior.variance), posterior.u, fits.statistics, *numbers]
    return np.column_stack([*parts, *_combined(measured)])


def _combined(measured: Measured) -> list[Array]:
    """Numbers of single bands, averaged over the bands with weights of signal to noise squared."""
    spec, light = measured.fits.spec, measured.light
    weight = np.nan_to_num(spec.per_band(light, "snr").astype(np.float64)) ** 2
    out = []
    for name in COMBINED:
        values = spec.per_band(light, name).astype(np.float64)
        known = np.isfinite(values) & (weight > 0)
        total = np.where(known, weight, 0).sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            out.append(np.where(known, values * weight, 0).sum(1) / total)
    return out


@dataclass(frozen=True)
class Scaling:
    """Robust scaling of numbers: centred, divided by their scatter, clipped, and of unit variance.

    A referee may divide by other deviations.

    Attributes
    ----------
    keep : ndarray of int, shape (k,)
        Columns that vary.
    median, scatter : ndarray, shape (k,)
        Of these columns; an unknown number becomes the median.
    mean, deviation : ndarray, shape (k,)
        Of the clipped numbers.
    """

    keep: Array
    median: Array
    scatter: Array
    mean: Array
    deviation: Array

    @classmethod
    def of(cls, numbers: Array) -> Scaling:
        """The scaling of a training set's numbers, shape (n, k)."""
        numbers = np.where(np.isfinite(numbers), numbers, np.nan)
        known = np.flatnonzero(np.isfinite(numbers).any(0))
        numbers = numbers[:, known]
        median = np.nanmedian(numbers, axis=0)
        numbers = np.where(np.isnan(numbers), median, numbers)
        low, high = np.quantile(numbers, [0.16, 0.84], axis=0)
        spread, scatter = numbers.std(0), (high - low) / 2
        # Most of a column may have one value, as of a count of neighbours: its scatter is that of the others.
        scatter = np.where(scatter > 1e-3 * spread, scatter, spread)
        keep = np.flatnonzero(scatter > 0)
        clipped = np.clip((numbers[:, keep] - median[keep]) / scatter[keep], -LIMIT, LIMIT)
        mean, deviation = clipped.mean(0), clipped.std(0)
        varies = deviation > 1e-6
        keep = keep[varies]
        return cls(known[keep], median[keep], scatter[keep], mean[varies], deviation[varies])

    def apply(self, numbers: Array) -> Array:
        """Numbers of any stamps, scaled; shape (n, k)."""
        numbers = numbers[:, self.keep]
        numbers = np.where(np.isfinite(numbers), numbers, self.median)
        clipped = np.clip((numbers - self.median) / self.scatter, -LIMIT, LIMIT)
        return np.asarray((clipped - self.mean) / self.deviation)
