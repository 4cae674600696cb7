"""Leftovers of a fit: numbers taken from what the model does not explain.

With r the residual, w the inverse variance, m the model and h the leverage of the fit at a pixel (the
variance of the fitted model times w), r^2 w + h has the expectation 1 for a perfect model and true inverse
variances.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from obiwan.dplearn.galaxyfit.model import Grid, Layout, posterior_covariance
from obiwan.dplearn.galaxyfit.noise import Pixels
from obiwan.dplearn.galaxyfit.score_tests import score_tests
from obiwan.dplearn.galaxyfit.solver import Point
from obiwan.dplearn.stampspec import Array, StampSpec

Named = Iterator[tuple[str, Array]]

ZONES = (2.0, 0.5, 0.1, 0.01, -1.0)  #: limits of the brightness zones, as fractions of the model's peak
PHOTON_NOISE = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)  #: variances per flux (nanomaggies) that ivar may not know
_MIDDLE = PHOTON_NOISE[2]  # that one is kept band by band, too
CORE = 6.0  #: radius (px) that divides correlations of the core from those of the rest
DIP_CORE = 5.0  #: radius (px) within which the scatter of ivar is taken
LAGS = {"x1": (0, 1), "y1": (1, 0), "d1": (1, 1), "x2": (0, 2), "y2": (2, 0)}
MULTIPOLES = (1, 2, 3, 4)
_TINY = 1e-30


def leftovers(point: Point, pixels: Pixels, spec: StampSpec) -> tuple[tuple[str, ...], Array]:
    """Numbers of what a fit leaves in each stamp.

    Parameters
    ----------
    point : Point
        The result of the fit.
    pixels : Pixels
        What was fitted, with neighbours.
    spec : StampSpec

    Returns
    -------
    names : tuple of str
    values : ndarray of float32, shape (n, names)
        NaN where there is nothing to measure.
    """
    with np.errstate(all="ignore"):
        found = dict(_everything(point, pixels, spec))
    columns: dict[str, Array] = {}
    for name, values in found.items():
        own = (name,) if values.ndim == 1 else spec.columns(name)
        columns.update(zip(own, np.atleast_2d(values.T), strict=True))
    values = np.stack(list(columns.values()), 1).astype(np.float32)
    values[~np.isfinite(values)] = np.nan
    return tuple(columns), values


def _everything(point: Point, pixels: Pixels, spec: StampSpec) -> Named:
    """Name and values of each statistic, shape (n,) or (n, bands)."""
    layout, grid = Layout.of(spec), Grid.of(spec.size)
    used = point.weight > 0
    squares = point.residual**2 * point.weight
    excess = np.where(used, squares - 1 + leverage(point, layout), np.float32(0))
    light = np.maximum(point.model, 0)
    seen = np.where(used.any(-1), np.float32(1), np.nan)  # NaN in bands without data
    yield "chi2_excess", np.where(used, squares - 1, 0).sum((1, 2)) / np.sqrt(2 * used.sum((1, 2)))
    yield from _zones(point, excess, light, seen)
    yield from _photon_noise(excess, light * point.weight, used, seen)
    yield "sky", np.where(seen == 1, pixels.ring_image * np.sqrt(pixels.ring_ivar), np.nan)
    yield "ln_ivar", np.where(seen == 1, np.log(pixels.ring_ivar), np.nan)
    if spec.has_ivar:
        yield from _ivar(pixels, light, grid)
    sigmas = (point.residual * np.sqrt(point.weight)).reshape(*used.shape[:2], grid.side, grid.side)
    yield from _correlations(sigmas, spec, grid)
    yield from _multipoles(point, light, layout, grid)
    yield from score_tests(point, layout, grid)


def leverage(point: Point, layout: Layout) -> Array:
    """Leverage of the fit at each pixel, shape (n, bands, pixels)."""
    covariance = posterior_covariance(point.information, layout)
    root = np.linalg.cholesky(covariance).astype(np.float32)
    out = np.empty_like(point.model)
    for band, own in enumerate(layout.of_band):
        moved = root[:, own].transpose(0, 2, 1) @ point.slopes[:, band]
        out[:, band] = (moved**2).sum(1) * point.weight[:, band]
    return out


def _zones(point: Point, excess: Array, light: Array, seen: Array) -> Named:
    """Excess of chi^2 and residual flux in zones of brightness, in units of their noise."""
    mean = light.mean(1, keepdims=True)
    relative = mean / (mean.max(-1, keepdims=True) + _TINY)
    root = np.sqrt(seen.shape[1])
    for k, (most, least) in enumerate(pairwise(ZONES)):
        zone = (relative < most) & (relative >= least) & (point.weight > 0)
        number, weight = zone.sum(-1), np.where(zone, point.weight, 0)
        chi2 = np.where(zone, excess, 0).sum(-1) / np.sqrt(2 * np.maximum(number, 1))
        flux = (weight * point.residual).sum(-1) / np.sqrt(weight.sum(-1) + _TINY)
        yield f"chi2_zone{k}", chi2 * seen
        yield f"flux_zone{k}", flux * seen
        yield f"chi2_zone{k}_all", chi2.sum(1) / root
        yield f"flux_zone{k}_all", flux.sum(1) / root


def _photon_noise(excess: Array, light: Array, used: Array, seen: Array) -> Named:
    """Scores of photon noise that ivar does not know; `light` is the model times the weight.

    With rho = 1 + a m w the ratio of the true variance to 1/w, the log likelihood ratio is
    1/2 sum [(r^2 w + h)(1 - 1/rho) - ln rho].
    """
    yield "shot", seen * (light * excess).sum(-1) / np.sqrt(2 * (light**2).sum(-1) + _TINY)
    for a in PHOTON_NOISE:
        rho = 1 + np.float32(a) * light
        terms = (excess + 1) * (1 - 1 / rho) - np.log(rho)
        score = 0.5 * np.where(used, terms, 0).sum(-1)
        yield f"noise_{1e6 * a:.0f}_all", score.sum(1)
        if a == _MIDDLE:
            yield f"noise_{1e6 * a:.0f}", score * seen


def _ivar(pixels: Pixels, light: Array, grid: Grid) -> Named:
    """Inverse variances under the light against those of the ring."""
    valid = pixels.weight > 0
    relative = pixels.weight / pixels.ring_ivar[..., None]
    mass = light * valid
    dip = (mass * (relative - 1)).sum(-1) / mass.sum(-1)
    core = valid & (grid.radius < DIP_CORE)
    number = core.sum(-1)
    mean = np.where(core, relative, 0).sum(-1) / number
    scatter = np.sqrt(np.where(core, (relative - mean[..., None]) ** 2, 0).sum(-1) / number)
    above = mass - mass.mean(-1, keepdims=True)
    variance = np.where(valid, 1 / pixels.weight, 0)
    yield "ivar_dip", dip
    yield "ivar_scatter", scatter
    yield "ivar_slope", (above * variance).sum(-1) / (above**2).sum(-1)
    known = np.isfinite(dip)
    yield "ivar_dip_all", np.where(known, dip, 0).sum(1) / known.sum(1)


def _correlations(sigmas: Array, spec: StampSpec, grid: Grid) -> Named:
    """Correlations of the residual (in sigma), of neighbouring pixels and of bands; core and rest."""
    side = grid.side
    inner = (grid.radius < CORE).reshape(side, side)
    root = np.sqrt(sigmas.shape[1])
    for name, (i, j) in LAGS.items():
        product = (sigmas[:, :, i:, j:] * sigmas[:, :, : side - i, : side - j]).sum(1)
        both = inner[i:, j:] & inner[: side - i, : side - j]
        yield f"corr_core_{name}", (product * both).sum((1, 2)) / np.sqrt(both.sum()) / root
        yield f"corr_rest_{name}", (product * ~both).sum((1, 2)) / np.sqrt((~both).sum()) / root
    for one, first in enumerate(spec.bands):
        for two in range(one + 1, len(spec.bands)):
            product, name = sigmas[:, one] * sigmas[:, two], first + spec.bands[two]
            yield f"corr_core_{name}", (product * inner).sum((1, 2)) / np.sqrt(inner.sum())
            yield f"corr_rest_{name}", (product * ~inner).sum((1, 2)) / np.sqrt((~inner).sum())


def _multipoles(point: Point, light: Array, layout: Layout, grid: Grid) -> Named:
    """Residual times the model times cos(k phi) or sin(k phi), in units of its noise, over the bands."""
    x, y = (point.theta[:, layout.bands + k, None].astype(np.float32) for k in (0, 1))
    angle = np.arctan2(grid.y - y, grid.x - x)
    weighted, squares = light * point.weight, light**2 * point.weight
    products, root = weighted * point.residual, np.sqrt(light.shape[1])
    for k in MULTIPOLES:
        for name, wave in (("c", np.cos(k * angle)), ("s", np.sin(k * angle))):
            up = (products @ wave[..., None])[..., 0]
            norm = (squares @ (wave**2)[..., None])[..., 0]
            yield f"multipole_{k}{name}", (up / np.sqrt(norm + _TINY)).sum(1) / root
