"""Score tests of a fit: what the model holds fixed, tried one by one without fitting again.

For a further parameter t whose slope is the image s, the gradient of the log likelihood is u = sum w s r.  A
part of it went into the fit: with c the information that t shares with the fitted parameters and C their
covariance, u has the variance v = I - c C c, and z = u / sqrt(v) has unit variance where the model is true
(Rao 1948, Proc. Camb. Phil. Soc. 44, 50).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from obiwan.dplearn.galaxyfit.model import Grid, Layout, gaussians, posterior_covariance
from obiwan.dplearn.galaxyfit.profiles import (
    DE_VAUCOULEURS,
    EXPONENTIAL,
    PSF_FRACTIONS,
    PSF_SIGMAS,
    VARIANCES,
)
from obiwan.dplearn.galaxyfit.solver import Point
from obiwan.dplearn.stampspec import Array

TENSIONS = {"x": 1, "y": 2, "ln_size": 3, "e1": 4, "e2": 5, "dev": 7}  #: shared parameters, as of `light`
EXTRAS = (
    "wings",
    "halo",
    "point",
)  #: light moved from the PSF's core to its wings, to a halo; a point source
HALO = 4.0  #: sigma of the PSF's halo, in units of FWHM / 2.3548
CLUMPS = (5, 15)  #: percentages of the galaxy's light in a clump
CLUMP_RADII = (2.0, 3.5, 5.0)  #: px from the galaxy's centre at which clumps are tried,
CLUMP_ANGLES = 8  #: and at how many angles
_DEGENERATE = 1e-3  # of the information that the fit must leave


@dataclass(frozen=True)
class ScoreTests:
    """Score tests of T further parameters in each band.

    Attributes
    ----------
    score, information, absorbed : ndarray, shape (n, bands, T)
        u, I and c C c of each band.
    shared : ndarray, shape (n, T, parameters)
        c of all bands together.
    """

    score: Array
    information: Array
    absorbed: Array
    shared: Array


def score_tests(point: Point, layout: Layout, grid: Grid) -> Iterator[tuple[str, Array]]:
    """Name and z of each score test, of each band, (n, bands), and of all bands together, (n,)."""
    covariance = posterior_covariance(point.information, layout)

    def tried(band: int, own: Array) -> Array:
        of_band = point.slopes[:, band, [*TENSIONS.values()]]
        return np.concatenate([of_band, _extras(point.theta[:, own], grid)], 1)

    found = _tests(point, layout, covariance, tried)
    z = found.score / np.sqrt(_variance(found.information, found.absorbed))
    for k, name in enumerate((*TENSIONS, *EXTRAS)):
        yield ("tension_" if name in TENSIONS else "") + name, z[..., k]
    score, variance = _together(found, covariance)
    for k, name in enumerate(EXTRAS, len(TENSIONS)):
        yield f"{name}_all", score[:, k] / np.sqrt(variance[:, k])
    yield from _clumps(point, layout, grid, covariance)


def _tests(
    point: Point, layout: Layout, covariance: Array, tried: Callable[[int, Array], Array]
) -> ScoreTests:
    """Score tests of slopes, (n, T, pixels), which `tried` gives of a band and its parameters' positions."""
    score, information, absorbed, shared = [], [], [], []
    for band, own in enumerate(layout.of_band):
        slopes, weight = point.slopes[:, band], point.weight[:, band, None]
        extra = tried(band, own)
        weighted = extra * weight
        root = np.sqrt(point.sky_precision[:, band, None])
        mean, others = (part.sum(-1, dtype=np.float64) / root for part in (weighted, slopes * weight))
        across = weighted @ slopes.transpose(0, 2, 1) - mean[:, :, None] * others[:, None]
        score.append((weighted @ point.residual[:, band, :, None])[..., 0])
        information.append((weighted * extra).sum(-1) - mean**2)
        absorbed.append(((across @ covariance[:, own[:, None], own]) * across).sum(-1))
        whole = np.zeros((*across.shape[:2], len(layout.names)))
        whole[:, :, own] = across
        shared.append(whole)
    by_band = [np.stack(part, 1) for part in (score, information, absorbed)]
    return ScoreTests(by_band[0], by_band[1], by_band[2], np.sum(shared, axis=0))


def _variance(information: Array, absorbed: Array) -> Array:
    """Information that the fit leaves; not less than `_DEGENERATE` of it."""
    return np.asarray(np.maximum(information - absorbed, _DEGENERATE * information))


def _together(found: ScoreTests, covariance: Array) -> tuple[Array, Array]:
    """Scores of all bands together and their variances, each (n, T)."""
    absorbed = ((found.shared @ covariance) * found.shared).sum(-1)
    return found.score.sum(1), _variance(found.information.sum(1), absorbed)


@cache
def _extra_mixture() -> tuple[Array, Array, Array, Array]:
    """Gaussians of `EXTRAS`: variances of galaxy and PSF, (K,), and weights of both profiles, (3, K)."""
    sigmas = [*PSF_SIGMAS, HALO]
    core, wings = PSF_FRACTIONS
    # Rows: wings, halo, point; columns: core, wings, halo of the PSF.
    of_galaxy = np.array([[-1, 1, 0], [-core, -wings, 1], [-core, -wings, 0]])
    of_point = np.array([[0, 0, 0], [0, 0, 0], [core, wings, 0]])
    weights = [
        np.concatenate([(profile[:, None] * of_galaxy[:, None]).reshape(len(EXTRAS), -1), of_point], 1)
        for profile in (EXPONENTIAL, DE_VAUCOULEURS)
    ]
    galaxy = np.concatenate([np.repeat(VARIANCES, len(sigmas)), np.zeros(len(sigmas))])
    return galaxy, np.tile(np.square(sigmas), len(VARIANCES) + 1), weights[0], weights[1]


def _extras(own: Array, grid: Grid) -> Array:
    """Slopes of `EXTRAS` in one band, shape (n, 3, pixels), from its parameters (n, 8)."""
    galaxy, psf, exponential, dev_weights = _extra_mixture()
    exponents, norm, _ = gaussians(own, galaxy, psf)
    dev = own[:, -1, None, None]
    rows = own[:, 0, None, None] * norm[:, None] * ((1 - dev) * exponential + dev * dev_weights)
    return np.asarray(rows.astype(np.float32) @ np.exp(exponents @ grid.basis))


def _clumps(point: Point, layout: Layout, grid: Grid, covariance: Array) -> Iterator[tuple[str, Array]]:
    """Clumps of the galaxy's colours around its centre.

    ``clump_most`` and ``clump_least`` are the extremes of z over the places; ``clump_<a>`` is the log of the
    likelihood ratio of a clump with a percent of the light, averaged over them.
    """
    angle = np.arange(CLUMP_ANGLES) * 2 * np.pi / CLUMP_ANGLES
    offsets = np.outer(CLUMP_RADII, np.exp(1j * angle)).ravel()
    width = np.ones(1)

    def tried(_band: int, own: Array) -> Array:
        places = np.repeat(point.theta[:, own], len(offsets), 0)
        places[:, 1] += np.tile(offsets.real, len(point.theta))
        places[:, 2] += np.tile(offsets.imag, len(point.theta))
        exponents, norm, _ = gaussians(places, 0 * width, width)
        images = np.exp(exponents @ grid.basis)[:, 0] * (places[:, :1] * norm).astype(np.float32)
        return np.asarray(images.reshape(len(point.theta), len(offsets), -1))

    score, variance = _together(_tests(point, layout, covariance, tried), covariance)
    z = score / np.sqrt(variance)
    yield "clump_most", z.max(1)
    yield "clump_least", z.min(1)
    for percent in CLUMPS:
        ratio = percent / 100 * score - 0.5 * (percent / 100) ** 2 * variance
        yield f"clump_{percent}", np.logaddexp.reduce(ratio, 1) - np.log(len(offsets))
