"""Population of galaxies: mean and covariance of their true parameters, and the scores of a shift of either.

Each stamp gives a Gaussian likelihood of its parameters (`obiwan.dplearn.galaxyfit`).  The parameters of the
population are taken for Gaussian, too; expectation maximisation finds their mean and covariance without
labels.  A difference between two classes that moves the mean of the population is then seen best, among all
functions of the fits, by a linear function of the scores ``u`` below, and one that changes its scatter by one
of the scores ``q`` (derivatives of the log of the marginal likelihood; Dempster, Laird & Rubin 1977, J. R.
Stat. Soc. B 39, 1; the fits as noisy members of a population: Bovy, Hogg & Roweis 2011, Ann. Appl. Stat. 5,
1657).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from obiwan.dplearn.stampspec import Array

#: Of expectation maximisation.  Further rounds fit tails of likelihoods that are not Gaussian, of PSF widths
#: above all: after 200 their scatter is 2.5 times the true one, and scores trained on 2,048 stamps have a
#: quarter less of the d'^2 of a PSF difference (``doc/explanation/learning.rst``).
ROUNDS = 20
EXAMPLES = 20_000  #: that the population is taken from, at most: its moments are known to 1 % then
SIZE_FLOOR = 1.0  #: pixels: of smaller galaxies the pixels measure the square of the size, not its logarithm
_STEEPEST = 50.0  #: of the slope of ln(r) against ln(r^2 + floor^2) / 2, reached by point sources
_LEAST = 1e-7  #: variance that is added to every parameter, so that the covariance can be inverted


@dataclass(frozen=True)
class Likelihoods:
    """Gaussian likelihoods of transformed parameters, one a stamp.

    Attributes
    ----------
    values : ndarray, shape (n, p)
        Where they are expanded.
    information : ndarray, shape (n, p, p)
        Second derivatives of minus the log likelihood there.
    gradient : ndarray, shape (n, p)
        First derivatives of the log likelihood there.
    """

    values: Array
    information: Array
    gradient: Array

    @property
    def linear(self) -> Array:
        """Coefficients of the linear term about 0, shape (n, p)."""
        return np.asarray((self.information @ self.values[..., None])[..., 0] + self.gradient)


@dataclass(frozen=True)
class Posterior:
    """Posterior of the parameters of each stamp, given the population.

    Attributes
    ----------
    mean : ndarray, shape (n, p)
    variance : ndarray, shape (n, p)
        Diagonal of the posterior covariance.
    u : ndarray, shape (n, p)
        Scores of the population's mean, whitened.
    v : ndarray, shape (n, p)
        Posterior variances in the whitened frame.
    """

    mean: Array
    variance: Array
    u: Array
    v: Array

    @property
    def q(self) -> Array:
        """Scores of the population's variances, shape (n, p)."""
        return np.asarray(self.u**2 + self.v - 1)


@dataclass(frozen=True)
class Population:
    """Gaussian population of galaxy parameters.

    Attributes
    ----------
    fluxes : tuple of int
        Which parameters are fluxes.
    size : int
        Which is the natural log of the half-light radius in pixels.
    soft : ndarray, shape (fluxes,)
        Flux at which the asinh scale turns linear: the median error.
    mean : ndarray, shape (p,)
    covariance : ndarray, shape (p, p)
    """

    fluxes: tuple[int, ...]
    size: int
    soft: Array
    mean: Array
    covariance: Array

    def posterior(self, values: Array, information: Array, gradient: Array) -> Posterior:
        """Posterior of the parameters of stamps; of one without data it is the population.

        Parameters
        ----------
        values, gradient : ndarray, shape (n, p)
        information : ndarray, shape (n, p, p)
            As `obiwan.dplearn.galaxyfit.StampFits` has them.
        """
        given = transformed(values, information, gradient, self.fluxes, self.size, self.soft)
        mean, covariance = _posterior(given, self.mean, self.covariance)
        whiten = np.linalg.inv(np.linalg.cholesky(self.covariance))
        return Posterior(
            mean=mean,
            variance=np.einsum("nii->ni", covariance),
            u=(mean - self.mean) @ whiten.T,
            v=np.einsum("ij,njk,ik->ni", whiten, covariance, whiten, optimize=True),
        )


def transformed(
    values: Array, information: Array, gradient: Array, fluxes: tuple[int, ...], size: int, soft: Array
) -> Likelihoods:
    """Likelihoods in parameters in which populations are nearer to Gaussian.

    Fluxes become ``asinh(F / 2 s)`` and sizes ``ln(r^2 + SIZE_FLOOR^2) / 2``.
    """
    values, gradient = (np.nan_to_num(np.asarray(part, np.float64)) for part in (values, gradient))
    information = np.nan_to_num(np.asarray(information, np.float64))
    slopes = np.ones_like(values)
    index = list(fluxes)
    flux = values[:, index]
    slopes[:, index] = np.hypot(flux, 2 * soft)
    values[:, index] = np.arcsinh(flux / (2 * soft))
    square = np.exp(2 * values[:, size])
    slopes[:, size] = np.minimum((square + SIZE_FLOOR**2) / square, _STEEPEST)
    values[:, size] = np.log(square + SIZE_FLOOR**2) / 2
    return Likelihoods(values, information * slopes[:, :, None] * slopes[:, None, :], gradient * slopes)


def fit_population(
    values: Array, information: Array, gradient: Array, fluxes: tuple[int, ...], size: int, seed: int = 0
) -> Population:
    """Find mean and covariance of a population by expectation maximisation, without labels.

    Parameters
    ----------
    values, gradient : ndarray, shape (n, p)
    information : ndarray, shape (n, p, p)
        As `obiwan.dplearn.galaxyfit.StampFits` has them; stamps without data do not count.
    fluxes : tuple of int
        Which parameters are fluxes.
    size : int
        Which is the log of the half-light radius.
    seed : int
        Of the choice of at most `EXAMPLES` stamps.

    Raises
    ------
    ValueError
        If fewer than two stamps have data.
    """
    diagonal = np.einsum("nii->ni", information)
    known = np.flatnonzero(np.isfinite(values).all(1) & (diagonal > 0).all(1))
    if len(known) < 2:
        msg = f"{len(known)} of {len(values)} stamps have data in every band; a population takes two"
        raise ValueError(msg)
    if len(known) > EXAMPLES:
        known = np.sort(np.random.default_rng([seed, 17]).permutation(known)[:EXAMPLES])
    error = 1 / np.sqrt(diagonal[known][:, list(fluxes)].astype(np.float64))
    soft = np.median(error, axis=0)
    given = transformed(values[known], information[known], gradient[known], fluxes, size, soft)
    mean = np.median(given.values, axis=0)
    covariance = np.diag((1.5 * np.std(given.values, axis=0)) ** 2 + 1e-4)
    for _ in range(ROUNDS):
        each, posterior = _posterior(given, mean, covariance)
        mean = each.mean(0)
        apart = each - mean
        covariance = apart.T @ apart / len(apart) + posterior.mean(0) + _LEAST * np.eye(len(mean))
    return Population(fluxes, size, soft, mean, covariance)


def _posterior(given: Likelihoods, mean: Array, covariance: Array) -> tuple[Array, Array]:
    """Posterior means, shape (n, p), and covariances, shape (n, p, p)."""
    prior = np.linalg.inv(covariance)
    posterior = np.linalg.inv(given.information + prior)
    return (posterior @ (given.linear + prior @ mean)[..., None])[..., 0], posterior


def population_from(arrays: Mapping[str, Array]) -> Population:
    """The population of arrays by field, as files have them."""
    fluxes = tuple(int(index) for index in arrays["fluxes"])
    return Population(fluxes, int(arrays["size"]), arrays["soft"], arrays["mean"], arrays["covariance"])
