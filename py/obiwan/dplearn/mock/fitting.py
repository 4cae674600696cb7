"""Galaxy fits of the mock: what a fit of the tractor's models finds of the light that was drawn.

Light and models are compared in Fourier space, where a convolution is a product and the noise of the sky is
white: by Parseval's theorem the chi^2 of an image is the integral of ``|difference|^2`` over frequencies.
The PSF of the model is that of the brick's catalogue, whatever the light was drawn with, so that light which
the models cannot follow moves all parameters, as in a real fit.  Nothing here knows of classes.
Drawn profiles end, and those here do not, neither of the light nor of the models: fluxes agree where both
have one index, else to 2 %.

A model has one flux a band, and one position, shape and Sersic index for all bands.  The shape is the matrix
of ``q^2 = sxx kx^2 + syy ky^2 + 2 sxy kx ky``, in which round, unresolved and elongated galaxies are regular
points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from obiwan.dplearn.mock.profiles import (
    LARGEST,
    Floats,
    moffat_scale,
    moffat_transform,
    possible,
    sersic_transform,
)
from obiwan.dplearn.survey.differences import SERSIC_RANGE

RADII, ANGLES = 12, 8  #: frequencies of the polar grid, over half a turn
HIGHEST = (
    7.0  #: largest frequency over the inverse scale of the PSF; its power there is below 5e-4 of its peak
)
ITERATIONS, CLOSE = 12, 1e-4  #: of the fit: at most so many, until chi^2 falls by less
#: Inverse variances that no measurement is worse than: of x and y (1/arcsec^2), shape (1/arcsec^4) and index
LEAST_KNOWN = (0.25, 0.25, 0.25)


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes
    ----------
    name : bytes
        Of its type in a tractor catalogue.
    shapes : int
        Free numbers of its shape: 0 for a point source, 1 if round, 3 for an ellipse.
    sersic : float
        Its index, or where the fit of a free one begins.
    free : bool
        Whether the index is free.
    """

    name: bytes
    shapes: int
    sersic: float = 1.0
    free: bool = False


#: In the order of the tractor's ``dchisq``
FAMILIES = (
    Family(b"PSF", 0),
    Family(b"REX", 1),
    Family(b"DEV", 3, 4.0),
    Family(b"EXP", 3),
    Family(b"SER", 3, 1.0, free=True),
)


@dataclass(frozen=True)
class Light:
    """Light as it was drawn, of n objects in some bands.

    Attributes
    ----------
    flux : ndarray, shape (n, bands)
        Nanomaggies.
    dx : ndarray, shape (n, bands)
        Arcseconds along +x from a common origin.
    fwhm : ndarray, shape (n, bands)
        Of the PSF (arcsec).
    shape : ndarray, shape (n, 3)
        Matrix sxx, syy, sxy of half-light ellipses (arcsec^2), from `ellipse`.
    sersic : ndarray, shape (n,)
    """

    flux: Floats
    dx: Floats
    fwhm: Floats
    shape: Floats
    sersic: Floats


@dataclass(frozen=True)
class Fit:
    """The fit of one family to n objects, P parameters: one flux a band, x, y, shape, index.

    Attributes
    ----------
    family : Family
    values : ndarray, shape (n, P)
    information : ndarray, shape (n, bands, P, P)
        Fisher information that each band contributes, at the values.
    chi2 : ndarray, shape (n,)
        Of what the fit leaves of the noiseless light.
    """

    family: Family
    values: Floats
    information: Floats
    chi2: Floats

    def take(self, which: Any) -> Fit:
        """Some of the objects."""
        return Fit(self.family, self.values[which], self.information[which], self.chi2[which])


@dataclass(frozen=True)
class Frequencies:
    """Frequencies at which light is compared, and the PSF of the models there, in units of the noise.

    Attributes
    ----------
    kx, ky : ndarray, shape (k,)
        Radians per arcsec.
    weight : ndarray, shape (k,)
        Of each frequency in the integral over both half planes, (2 pi)^-2 included; its root.
    fwhm : ndarray, shape (bands,)
        Of the catalogue's PSF (arcsec).
    """

    kx: Floats
    ky: Floats
    weight: Floats
    fwhm: Floats

    @classmethod
    def of(cls, fwhm: Floats) -> Frequencies:
        """A polar grid that suits these PSFs."""
        nodes, weights = np.polynomial.legendre.leggauss(RADII)
        highest = HIGHEST / moffat_scale(float(np.min(fwhm)))
        k, step = highest / 2 * (nodes + 1), highest / 2 * weights
        angle = np.pi * (np.arange(ANGLES) + 0.5) / ANGLES
        area = np.repeat(2 * np.pi / ANGLES * k * step, ANGLES) / (2 * np.pi) ** 2
        kx, ky = (np.outer(k, axis).ravel() for axis in (np.cos(angle), np.sin(angle)))
        return cls(kx, ky, np.sqrt(area), fwhm)

    def psf(self, fwhm: Floats) -> Floats:
        """Transform of the PSFs, times the root of the weight; an axis more than `fwhm`."""
        return self.weight * moffat_transform(fwhm[..., None], np.hypot(self.kx, self.ky))

    @property
    def quadratic(self) -> Floats:
        """Quadratic forms that shape matrices are multiplied with, shape (3, k)."""
        return np.stack([self.kx**2, self.ky**2, 2 * self.kx * self.ky])


def transform(light: Light, at: Frequencies, depth: Floats) -> Floats:
    """Fourier transform of light in units of the noise: real and imaginary parts, shape (n, bands, 2 k).

    Parameters
    ----------
    light : Light
    at : Frequencies
    depth : ndarray, shape (n, bands)
        One over the noise in a square arcsecond (1/nanomaggies).
    """
    value = np.empty((len(light.flux), len(at.kx)))
    q2 = light.shape @ at.quadratic
    disc = light.sersic == 1.0
    value[disc] = sersic_transform(q2[disc], 1.0)[0]
    other = ~disc
    index = np.clip(light.sersic[other], *SERSIC_RANGE)[:, None]
    value[other] = sersic_transform(q2[other], index)[0]
    amplitude = (light.flux * depth)[..., None] * value[:, None] * at.psf(light.fwhm)
    phase = light.dx[..., None] * at.kx
    return np.concatenate([amplitude * np.cos(phase), amplitude * np.sin(phase)], axis=-1)


def _model(values: Floats, family: Family, at: Frequencies, psf: Floats) -> tuple[Floats, Floats]:
    """Transform of models, shape (n, bands, 2 k), and its slopes, shape (n, bands, slopes, 2 k).

    The slopes of a band are in its own flux, x, y, shape and index; ``psf`` is in units of the noise.
    """
    bands, k = psf.shape[1:]
    flux, (x, y) = values[:, :bands], values[:, bands : bands + 2].T
    phase = np.outer(x, at.kx) + np.outer(y, at.ky)
    wave = np.concatenate([np.cos(phase), np.sin(phase)], axis=-1)
    turned = np.concatenate([-wave[:, k:], wave[:, :k]], axis=-1)
    shapes = [turned * np.tile(at.kx, 2), turned * np.tile(at.ky, 2)]
    if family.shapes:
        own = at.quadratic if family.shapes == 3 else at.quadratic[:2].sum(0, keepdims=True)
        q2 = np.maximum(values[:, bands + 2 : bands + 2 + family.shapes] @ own, 0)
        index = values[:, -1:] if family.free else family.sersic
        value, by_q2, by_index = sersic_transform(q2, index)
        value = np.tile(value, 2)
        shapes = [slope * value for slope in shapes]
        shapes += [np.tile(by_q2 * one, 2) * wave for one in own]
        shapes += [np.tile(by_index, 2) * wave] if family.free else []
        wave = wave * value
    unit = np.tile(psf, 2) * wave[:, None]
    slopes = np.stack(shapes, 1)[:, None] * (flux[..., None] * np.tile(psf, 2))[:, :, None]
    return flux[..., None] * unit, np.concatenate([unit[:, :, None], slopes], axis=2)


def _normal(slopes: Floats, rest: Floats) -> tuple[Floats, Floats]:
    """Fisher information of each band, (n, bands, P, P), and the gradient of the log likelihood, (n, P)."""
    n, bands, own = slopes.shape[:3]
    blocks = slopes @ slopes.swapaxes(-1, -2)
    score = (slopes @ rest[..., None])[..., 0]
    information = np.zeros((n, bands, bands + own - 1, bands + own - 1))
    gradient = np.zeros((n, bands + own - 1))
    for band in range(bands):
        where = np.array([band, *range(bands, bands + own - 1)])
        information[:, band, where[:, None], where] = blocks[:, band]
        gradient[:, where] += score[:, band]
    return information, gradient


def _bounded(values: Floats, family: Family, bands: int) -> Floats:
    """Values within what a galaxy can be."""
    if family.shapes == 3:
        values[:, bands + 2 : bands + 5] = possible(values[:, bands + 2 : bands + 5])
    elif family.shapes:
        values[:, -1] = np.clip(values[:, -1], 0, LARGEST)
    if family.free:
        values[:, -1] = np.clip(values[:, -1], *SERSIC_RANGE)
    return values


def _start(light: Light, family: Family) -> Floats:
    """Start of a fit."""
    x = light.dx.mean(axis=1)
    parts = [light.flux, np.stack([x, 0 * x], axis=1)]
    if family.shapes == 3:
        parts.append(possible(light.shape))
    elif family.shapes:
        parts.append(
            np.sqrt(np.maximum(light.shape[:, :1] * light.shape[:, 1:2] - light.shape[:, 2:] ** 2, 0))
        )
    if family.free:
        index = np.where(light.sersic > 0, light.sersic, family.sersic)
        parts.append(np.clip(index, *SERSIC_RANGE)[:, None])
    return np.concatenate(parts, axis=1)


def fit(light: Light, family: Family, fwhm: Floats, depth: Floats) -> Fit:
    """Fit a family of models to light without noise, by the method of Levenberg and Marquardt.

    Parameters
    ----------
    light : Light
        Of n objects.
    family : Family
    fwhm : ndarray, shape (bands,)
        Of the catalogue's PSF (arcsec).
    depth : ndarray, shape (n, bands)
        One over the noise in a square arcsecond (1/nanomaggies); 0 where a band was not observed.
    """
    at = Frequencies.of(fwhm)
    data, bands = transform(light, at, depth), depth.shape[1]
    psf = at.psf(fwhm) * depth[..., None]
    values = _start(light, family)
    model, slopes = _model(values, family, at, psf)
    chi2 = ((data - model) ** 2).sum((1, 2))
    information, gradient = _normal(slopes, data - model)
    damping, going = np.full(len(values), 1e-3), np.arange(len(values))
    for _ in range(ITERATIONS):
        if not len(going):
            break
        whole = information[going].sum(1)
        step = np.einsum("nii->ni", whole)
        step += damping[going, None] * step + np.where(step > 0, 0, 1.0)
        new = values[going] + np.linalg.solve(whole, gradient[going][..., None])[..., 0]
        new = _bounded(new, family, bands)
        model, slopes = _model(new, family, at, psf[going])
        trial = ((data[going] - model) ** 2).sum((1, 2))
        gain = chi2[going] - trial
        better = gain >= 0
        kept = going[better]
        values[kept], chi2[kept] = new[better], trial[better]
        information[kept], gradient[kept] = _normal(slopes[better], (data[going] - model)[better])
        damping[going] *= np.where(better, 0.1, 10)
        going = going[~better | (gain > CLOSE)]
    return Fit(family, values, information, chi2)


def light_chi2(light: Light, fwhm: Floats, depth: Floats) -> Floats:
    """Chi^2 of light itself, shape (n,); parameters as of `fit`."""
    return np.asarray((transform(light, Frequencies.of(fwhm), depth) ** 2).sum((1, 2)))


def observed(found: Fit, actual: Floats, deviates: Floats) -> tuple[Floats, Floats]:
    """Measured values of a fit in the presence of noise, to first order in it.

    The gradient that noise gives the likelihood has the information as its covariance, or a multiple of it in
    a band whose noise is not what the inverse variance says.

    Parameters
    ----------
    found : Fit
        Of n objects.
    actual : ndarray, shape (n, bands)
        Variance of the noise, in units of what the information was computed for.
    deviates : ndarray, shape (n, >= P)
        Standard normal, for the parameters in their order.

    Returns
    -------
    values : ndarray, shape (n, P)
    ivar : ndarray, shape (n, P)
        Diagonal of the information, as the tractor has it (its lsqr_optimizer): the other parameters
        count as known.
    """
    bands, parameters = actual.shape[1], found.values.shape[1]
    information = found.information.sum(1)
    ivar = np.einsum("nii->ni", information)
    scale = np.sqrt(np.where(ivar > 0, ivar, 1.0))
    there = np.einsum("nb,nbij->nij", actual, found.information) / scale[:, :, None] / scale[:, None, :]
    root = np.linalg.cholesky(there + 1e-9 * np.eye(parameters))
    noise = scale * np.einsum("nij,nj->ni", root, deviates[:, :parameters])
    place, shape, index = LEAST_KNOWN
    least = np.full(parameters, shape)
    least[:bands], least[bands : bands + 2] = 1e-12, place
    if found.family.free:
        least[-1] = index
    errors = np.linalg.solve(information + np.diag(least), noise[..., None])[..., 0]
    return _bounded(found.values + errors, found.family, bands), ivar
