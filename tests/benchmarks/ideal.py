"""The best AUC that any observer can reach on the populations of `planted`.

Where it can be written, this is the likelihood ratio of the noisy image.  For a shift of a continuous
parameter the image enters through its parameter estimates: they scatter about the truth with the
inverse Fisher matrix C of the noisy pixels (all other parameters, the PSF's width among them, unknown),
the truth scatters in the population with covariance P, so that the log likelihood ratio of a shift delta
of the population's mean is normal with mean +-d'^2/2 and variance d'^2 = delta^T (C + P)^-1 delta for
each object.  A parameter that neither class has (`OWN`) does not scatter; of a clump the place is taken for
known, which is a bound and not what an observer can reach.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import rankdata

from planted import GRZ, Planted, Population, Sample, correlated, draw_population, noiseless, plant

#: Parameters that are unknown only where they differ, and the kinds of difference
OWN = {"dev": "profile", "shift g": "band_offset", "wings": "wings", "clump": "clump"}
PARAMETERS = ("ln g", "ln r", "ln z", "x", "y", "ln size", "e1", "e2", "ln psf", *OWN)


def _moved(sample: Sample, name: str, step: float) -> Sample:
    """The sample with one parameter increased by a step."""
    if name in ("ln g", "ln r", "ln z"):
        factor = np.ones(3)
        factor[("ln g", "ln r", "ln z").index(name)] = np.exp(step)
        return replace(sample, flux=sample.flux * factor)
    if name == "ln size":
        return replace(sample, size=sample.size * np.exp(step))
    if name == "ln psf":
        return replace(sample, sigma=sample.sigma * np.exp(step))
    if name == "shift g":
        return replace(sample, shift=sample.shift + np.array([step, 0, 0]))
    return replace(sample, **{name: getattr(sample, name) + step})


def values(sample: Sample) -> NDArray[np.float64]:
    """The parameters as a table, shape (n, 13), columns as in `PARAMETERS`."""
    flux = np.log(sample.flux)
    psf = np.log(sample.sigma[:, 1])
    own = (sample.dev, sample.shift[:, 0], sample.wings, sample.clump)
    columns = (*flux.T, sample.x, sample.y, np.log(sample.size), sample.e1, sample.e2, psf, *own)
    return np.stack(columns, 1)


def fisher(sample: Sample, step: float = 0.01) -> NDArray[np.float64]:
    """Fisher matrices of the noisy images, shape (n, 13, 13), derivatives by central differences."""
    out = np.empty((len(sample), len(PARAMETERS), len(PARAMETERS)))
    for start in range(0, len(sample), 128):
        rows = slice(start, start + 128)
        part = sample.take(rows)
        sky = part.sky.astype(np.float32)[:, None, None, :]
        slopes = np.stack(
            [
                (noiseless(_moved(part, name, step)) - noiseless(_moved(part, name, -step)))
                / (2 * step * sky)
                for name in PARAMETERS
            ],
            axis=1,
        ).reshape(len(part), len(PARAMETERS), -1)
        out[rows] = slopes @ slopes.transpose(0, 2, 1)
    return out


def auc(y: NDArray[np.uint8], score: NDArray[np.float64]) -> float:
    """Area under the ROC curve by mid-ranks."""
    n1 = int(y.sum())
    n0 = len(y) - n1
    return float((rankdata(score)[y == 1].sum() - n1 * (n1 + 1) / 2) / (n0 * n1))


def _offset(information: NDArray[np.float64], planted: Planted, rng: np.random.Generator) -> float:
    """Uniform sub-pixel phase, measured with the image's error."""
    covariance = np.linalg.inv(information[:, :8, :8])
    sigma = np.repeat(np.sqrt(covariance[:, 3, 3]), 50)
    y = (np.arange(len(sigma)) % 2).astype(np.uint8)
    measured = rng.uniform(-0.5, 0.5, len(y)) + planted.amplitude * y + sigma * rng.standard_normal(len(y))

    def likelihood(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.maximum(ndtr((0.5 - np.abs(x)) / sigma) - ndtr((-0.5 - np.abs(x)) / sigma), 1e-300)

    return auc(y, np.log(likelihood(measured - planted.amplitude)) - np.log(likelihood(measured)))


def _shot(sample: Sample, planted: Planted, rng: np.random.Generator) -> float:
    """Exact likelihood ratio of two noise models, the noiseless image known."""
    score, y = [], []
    for start in range(0, len(sample), 128):
        part = sample.take(slice(start, start + 128))
        sky = part.sky[:, None, None, :] ** 2
        ratio = 1 + planted.amplitude * noiseless(part) / sky  # the reals' variance in units of the sky's
        for label in (0, 1):
            noise2 = rng.standard_normal(ratio.shape) ** 2 * (ratio if label == 0 else 1.0)
            score.append(0.5 * (np.log(ratio) - noise2 * (1 - 1 / ratio)).sum((1, 2, 3)))
            y.append(np.full(len(part), label, np.uint8))
    return auc(np.concatenate(y), np.concatenate(score))


def _correlation(sample: Sample, planted: Planted, rng: np.random.Generator) -> float:
    """Exact likelihood ratio of white and correlated noise, the noiseless image known.

    Rows are closed, so that the Fourier modes k of a row of N pixels are independent, with the variances
    1 + 2 c cos(2 pi k / N).
    """
    score, y, size = [], [], GRZ.size
    ratio = 1 + 2 * planted.amplitude * np.cos(2 * np.pi * np.arange(size) / size)[:, None]
    for _ in range(0, len(sample), 128):
        for label in (0, 1):
            noise = rng.standard_normal((128, size, size, len(GRZ.bands)))
            power = np.abs(np.fft.fft(correlated(noise, planted.amplitude * label), axis=2)) ** 2 / size
            score.append(0.5 * (power * (1 - 1 / ratio) - np.log(ratio)).sum((1, 2, 3)))
            y.append(np.full(128, label, np.uint8))
    return auc(np.concatenate(y), np.concatenate(score))


@cache
def _drawn(n: int, seed: int, population: Population) -> tuple[Sample, np.random.Generator]:
    """Galaxies, the same for every difference, and the generator after them."""
    rng = np.random.default_rng([seed, 99])
    return draw_population(n, population, rng), rng


@cache
def _information(n: int, seed: int, population: Population) -> NDArray[np.float64]:
    """Fisher matrices of these galaxies."""
    return fisher(_drawn(n, seed, population)[0])


@cache
def _scatter(n: int, seed: int, population: Population) -> tuple[NDArray[np.float64], np.random.Generator]:
    """Covariance of the parameters in the population, and the generator after it."""
    # From many more: a correlation by chance of size with anything else would count as knowledge.
    rng = deepcopy(_drawn(n, seed, population)[1])
    return np.cov(values(draw_population(8 * n, population, rng)).T), rng


def ideal_auc(planted: Planted, n: int = 1024, seed: int = 1, population: Population | None = None) -> float:
    """AUC of the ideal observer for a planted difference.

    Parameters
    ----------
    planted : Planted
        The difference.
    n : int
        Galaxies over which Fisher matrices are computed.
    seed : int
        For the galaxies and the scatter.
    population : Population, optional
        What both classes share.

    Returns
    -------
    float
        The AUC, good to about 0.01: C is that of the unchanged class, and likelihoods are not quite normal.
    """
    if planted.kind == "none" or planted.amplitude == 0:
        return 0.5
    if planted.kind == "dip":
        return 1.0  # the ivar planes carry no noise
    given = (n, seed, population or Population())
    sample, rng = deepcopy(_drawn(*given))
    if planted.kind == "offset":
        return _offset(_information(*given), planted, rng)
    if planted.kind == "shot":
        return _shot(sample, planted, rng)
    if planted.kind == "correlation":
        return _correlation(sample, planted, rng)
    shift = np.median(values(plant(sample, planted)) - values(sample), axis=0)
    scatter, rng = deepcopy(_scatter(*given))
    used = np.array([OWN.get(name, planted.kind) == planted.kind for name in PARAMETERS])
    error = np.linalg.inv(_information(*given)[:, used][:, :, used] + 1e-9 * np.eye(used.sum()))
    total = error + scatter[np.ix_(used, used)]
    # Both classes have e1, e2, x, y about the same centre; a PSF known from the stamp alone keeps its prior.
    dprime2 = np.einsum("i,nij,j->n", shift[used], np.linalg.inv(total), shift[used])
    dprime = np.repeat(np.sqrt(dprime2), 50)
    y = (np.arange(len(dprime)) % 2).astype(np.uint8)
    return auc(y, dprime * rng.standard_normal(len(y)) + (y - 0.5) * dprime**2)
