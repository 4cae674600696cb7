"""Model of a galaxy in a stamp: its parameters with their priors and bounds, its light and the slopes.

The model of a band is ``flux [(1 - dev) exponential + dev de Vaucouleurs]``, elliptical, seen through a PSF
of free width.  Each Gaussian of the mixtures has the covariance ::

    V = v r^2 [[1 + e1, e2], [e2, 1 - e1]] + p s^2 [[1, 0], [0, 1]]

with r the half-light radius, s the PSF's FWHM / 2.3548, and v and p the variances of `profiles`.  Hence e is
(a^2 - b^2) / (a^2 + b^2) of the axes, counted from +x to +y, and r^2 is the mean of the squared axes.
Lengths are pixels, positions are relative to the centre of the stamp's centre pixel, fluxes are nanomaggies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from obiwan.dplearn.galaxyfit.profiles import (
    FWHM,
    GALAXY_VARIANCES,
    PSF_VARIANCES,
    WEIGHTS_DEV,
    WEIGHTS_EXP,
)
from obiwan.dplearn.stampspec import Array, StampSpec

SIDE = 29  #: pixels on a side of what is fitted
SHARED = ("x", "y", "ln_size", "e1", "e2")  #: parameters that all bands share, before the PSF widths
SEEING = 1.2  #: FWHM of a PSF of which nothing is known (arcsec)
MOST_ELLIPTICAL = 0.95  #: bound of the modulus of (e1, e2)
SLOPES = 8  #: parameters that a band depends on
FLUX_SD = 1e6  #: of the prior on fluxes (nanomaggies): none, but for bands without data

_SIZE_PRIOR = 0.5  # arcsec
_PRIOR_SD = {"x": 0.7, "y": 0.7, "ln_size": 0.6, "e1": 0.35, "e2": 0.35, "ln_psf": 0.2, "dev": 0.5}
_POSITION = 4.0  # bound of |x| and |y|
_SIZES = (0.02, 4.0)  # bounds of the half-light radius, arcsec
_PSF_FACTOR = 2.0  # bound of a PSF's width, up and down
_ROUNDING = 1e-7
_DEV_MEAN, _DEV_BOUNDS = 0.3, (-1.0, 2.0)


@dataclass(frozen=True)
class Layout:
    """Order of the parameters, their priors and bounds for stamps of one specification.

    Attributes
    ----------
    names : tuple of str
        Parameters in order: fluxes, position, ln size, ellipticity, ln PSF widths, de Vaucouleurs fraction.
    of_band : ndarray of int, shape (bands, 8)
        Positions of the parameters that a band depends on: flux, x, y, ln_size, e1, e2, ln_psf, dev.
    mean, sd, low, high : ndarray, shape (parameters,)
        Of the Gaussian priors, and bounds.  Those of PSF widths are relative to the expected width.
    psf : slice
        Where the PSF widths are.
    """

    names: tuple[str, ...]
    of_band: Array
    mean: Array
    sd: Array
    low: Array
    high: Array
    psf: slice

    @property
    def bands(self) -> int:
        """Number of bands."""
        return len(self.of_band)

    @property
    def ellipticity(self) -> slice:
        """Positions of e1 and e2."""
        return slice(self.bands + 3, self.bands + 5)

    @property
    def precision(self) -> Array:
        """Inverse variances of the priors, shape (parameters,)."""
        return np.asarray(self.sd**-2.0)

    @classmethod
    @cache
    def of(cls, spec: StampSpec) -> Layout:
        """The layout for stamps of this specification."""
        bands, scale = len(spec.bands), spec.pixel_scale
        first = bands + len(SHARED)
        names = (*spec.columns("flux"), *SHARED, *spec.columns("ln_psf"), "dev")
        shared = range(bands, first)
        sizes = np.log(np.array([_SIZE_PRIOR, *_SIZES]) / scale)

        def fill(flux: float, inner: Sequence[float], psf: float, dev: float) -> Array:
            return np.array([flux] * bands + [*inner] + [psf] * bands + [dev])

        at, of = _POSITION, _PRIOR_SD
        inner_sd, factor = [of[name] for name in SHARED], np.log(_PSF_FACTOR)
        return cls(
            names=names,
            of_band=np.array([[b, *shared, first + b, first + bands] for b in range(bands)]),
            mean=fill(0.0, (0, 0, sizes[0], 0, 0), 0.0, _DEV_MEAN),
            sd=fill(FLUX_SD, inner_sd, of["ln_psf"], of["dev"]),
            low=fill(-np.inf, (-at, -at, sizes[1], -1, -1), -factor, _DEV_BOUNDS[0]),
            high=fill(np.inf, (at, at, sizes[2], 1, 1), factor, _DEV_BOUNDS[1]),
            psf=slice(first, first + bands),
        )

    def centred(self, ln_psf: Array) -> tuple[Array, Array, Array]:
        """Means, lower and upper bounds, each (n, parameters), from expected ln PSF widths (n, bands)."""
        out = []
        for row in (self.mean, self.low, self.high):
            rows = np.repeat(row[None], len(ln_psf), 0)
            rows[:, self.psf] += ln_psf
            out.append(rows)
        return out[0], out[1], out[2]


def posterior_covariance(information: Array, layout: Layout) -> Array:
    """Covariance of the parameters, shape (n, P, P), from the information of the likelihood and the priors'.

    Parameters are scaled to unit information first; there, single precision leaves `_ROUNDING` uncertain.
    """
    total = information.astype(np.float64) + np.diag(layout.precision)
    scale = 1 / np.sqrt(np.einsum("nii->ni", total))
    scale = scale[:, :, None] * scale[:, None]
    inverse = np.linalg.inv(total * scale + _ROUNDING * np.eye(len(layout.names)))
    return np.asarray((inverse + inverse.transpose(0, 2, 1)) / 2 * scale)


def expected_ln_psf(psf: Array | None, n: int, spec: StampSpec) -> Array:
    """Expected ln(FWHM / 2.3548) in pixels, shape (n, bands), of FWHMs in arcsec; `SEEING` where unknown."""
    fwhm = np.full((n, len(spec.bands)), np.nan) if psf is None else np.asarray(psf, np.float64)
    if fwhm.shape != (n, len(spec.bands)):
        msg = f"psf must have shape ({n}, {len(spec.bands)}), one FWHM a stamp and band, got {fwhm.shape}"
        raise ValueError(msg)
    known = np.isfinite(fwhm) & (fwhm > 0)
    return np.log(np.where(known, fwhm, SEEING) / FWHM / spec.pixel_scale)


@dataclass(frozen=True)
class Grid:
    """Pixels that are fitted: the central `SIDE` x `SIDE`, or what a smaller stamp has.

    Attributes
    ----------
    side : int
        Pixels on a side, odd.
    box : slice
        Where they are along either axis of the stamp.
    x, y, radius : ndarray of float32, shape (pixels,)
        Of each pixel, relative to the centre pixel.
    basis : ndarray of float32, shape (6, pixels)
        1, x, y, x^2, x y, y^2.
    """

    side: int
    box: slice
    x: Array
    y: Array
    radius: Array
    basis: Array

    @classmethod
    @cache
    def of(cls, size: int) -> Grid:
        """The pixels of stamps of this size (pixels on a side)."""
        centre = size // 2
        half = min(SIDE // 2, size - 1 - centre)
        line = np.arange(-half, half + 1, dtype=np.float32)
        y, x = (axis.ravel() for axis in np.meshgrid(line, line, indexing="ij"))
        basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])
        return cls(2 * half + 1, slice(centre - half, centre + half + 1), x, y, np.hypot(x, y), basis)


def light(theta: Array, layout: Layout, grid: Grid) -> tuple[Array, Array]:
    """Light of galaxies and its slopes.

    Parameters
    ----------
    theta : ndarray of float64, shape (n, parameters)
    layout : Layout
    grid : Grid

    Returns
    -------
    model : ndarray of float32, shape (n, bands, pixels)
        Nanomaggies per pixel.
    slopes : ndarray of float32, shape (n, bands, 8, pixels)
        Derivatives with respect to the parameters of `Layout.of_band`.
    """
    n, bands, pixels = len(theta), layout.bands, len(grid.x)
    model = np.empty((n, bands, pixels), np.float32)
    slopes = np.empty((n, bands, SLOPES, pixels), np.float32)
    at = theta[:, bands : bands + 2]
    dx, dy = (line - at[:, k, None].astype(np.float32) for k, line in enumerate((grid.x, grid.y)))
    squares = (dx * dx, dx * dy, dy * dy)
    for band, own in enumerate(layout.of_band):
        exponents, rows = _weights(theta[:, own])
        gaussians = np.exp(exponents @ grid.basis)
        sums = rows @ gaussians
        flux, out = theta[:, own[0], None].astype(np.float32), slopes[:, band]
        model[:, band] = flux * sums[:, 0]
        out[:, 0] = sums[:, 0]
        out[:, 1] = flux * (dx * sums[:, 2] + dy * sums[:, 3])
        out[:, 2] = flux * (dx * sums[:, 3] + dy * sums[:, 4])
        for k in range(4):
            of = sums[:, 5 + 4 * k : 9 + 4 * k]
            total = of[:, 0] + of[:, 1] * squares[0] + of[:, 2] * squares[1] + of[:, 3] * squares[2]
            out[:, 3 + k] = flux * total
        out[:, 7] = flux * sums[:, 1]
    return model, slopes


def image(theta: Array, layout: Layout, grid: Grid) -> Array:
    """The model of `light` alone, at a third of the cost."""
    out = np.empty((len(theta), layout.bands, len(grid.x)), np.float32)
    for band, own in enumerate(layout.of_band):
        exponents, rows = _weights(theta[:, own])
        flux = theta[:, own[0], None].astype(np.float32)
        out[:, band] = flux * (rows[:, :1] @ np.exp(exponents @ grid.basis))[:, 0]
    return out


def _weights(own: Array) -> tuple[Array, Array]:
    """Exponents of a band's K Gaussians in the pixels' basis, (n, K, 6), and rows of weights, (n, 21, K).

    The rows give, summed over the Gaussians: the light of unit flux; its derivative by dev; those by x and y
    as factors of the distances (3); and by ln_size, e1, e2, ln_psf as a constant and factors of dx^2, dx dy,
    dy^2.
    With a change D of the covariance V and Q its inverse, d ln G = (d^T Q D Q d - tr Q D) / 2.
    """
    e1, e2, ln_psf, dev = (own[:, k, None] for k in range(4, SLOPES))
    galaxy, psf = GALAXY_VARIANCES * np.exp(2 * own[:, 3, None]), PSF_VARIANCES * np.exp(2 * ln_psf)
    exponents, norm, (a, b, c) = gaussians(own, GALAXY_VARIANCES, PSF_VARIANCES)
    amplitude = norm * ((1 - dev) * WEIGHTS_EXP + dev * WEIGHTS_DEV)
    rows = [amplitude, norm * (WEIGHTS_DEV - WEIGHTS_EXP), amplitude * a, amplitude * b, amplitude * c]
    none = np.zeros_like(galaxy)
    changes = (
        (2 * galaxy * (1 + e1), 2 * galaxy * (1 - e1), 2 * galaxy * e2),
        (galaxy, -galaxy, none),
        (none, none, galaxy),
        (2 * psf, 2 * psf, none),
    )
    for along_x, along_y, across in changes:
        t1, t2 = a * along_x + b * across, a * across + b * along_y
        t3, t4 = b * along_x + c * across, b * across + c * along_y
        half = 0.5 * amplitude
        rows += [-half * (t1 + t4), half * (t1 * a + t2 * b)]
        rows += [half * (t1 * b + t2 * c + t3 * a + t4 * b), half * (t3 * b + t4 * c)]
    return exponents, np.stack(rows, 1).astype(np.float32)


def gaussians(own: Array, galaxy: Array, psf: Array) -> tuple[Array, Array, tuple[Array, Array, Array]]:
    """Elliptical Gaussians on the pixels.

    Parameters
    ----------
    own : ndarray, shape (n, 8)
        Parameters of a band, in the order of `Layout.of_band`.
    galaxy, psf : ndarray, shape (K,)
        Variances in squared half-light radii and squared PSF widths.

    Returns
    -------
    exponents : ndarray of float32, shape (n, K, 6)
        Factors of `Grid.basis`.
    norm : ndarray, shape (n, K)
        Heights of unit fluxes.
    inverse : tuple of ndarray, shape (n, K)
        xx, xy and yy of the inverse covariances.
    """
    x, y, ln_size, e1, e2, ln_psf = (own[:, k, None] for k in range(1, SLOPES - 1))
    galaxy, psf = galaxy * np.exp(2 * ln_size), psf * np.exp(2 * ln_psf)
    xx, yy, xy = galaxy * (1 + e1) + psf, galaxy * (1 - e1) + psf, galaxy * e2
    det = xx * yy - xy**2
    a, b, c = yy / det, -xy / det, xx / det
    terms = (-0.5 * (a * x * x + 2 * b * x * y + c * y * y), a * x + b * y, b * x + c * y)
    exponents = np.stack([*terms, -0.5 * a, -b, -0.5 * c], -1).astype(np.float32)
    return exponents, 1 / (2 * np.pi * np.sqrt(det)), (a, b, c)
