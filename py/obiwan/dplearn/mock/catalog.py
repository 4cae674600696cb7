"""Catalogue of the mock: what a tractor would measure of its objects, by one pipeline for both classes.

Models are fitted to the light that was drawn (`fitting`), without noise, and the noise of a real fit is added
from the Fisher information: positions, fluxes, sizes, shapes and types follow the light and not the truth.
Each object carries its own standard normal deviates, so that a real object measures the same in every run
over the same pixels.  Errors are those of the tractor, from the diagonal of the information.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from obiwan.dplearn.mock.bricks import SATUR, Brick, Conditions, Exposure
from obiwan.dplearn.mock.config import PIXEL_SCALE
from obiwan.dplearn.mock.fitting import FAMILIES, Family, Light, fit, light_chi2, observed
from obiwan.dplearn.mock.profiles import ellipse, radius_of
from obiwan.dplearn.mock.sky import FLUX_DEVIATE
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.rendering import FWHM, circularised

DETECTION_SNR = 6.0
MARGIN = 9.0  #: by which a fit must be better in chi^2 for a more complex type
LEAST_RADIUS = 0.01  #: arcsec, of a galaxy that is not resolved
#: Which of an object's deviates are the noise of x, y, shape and index, and of the choices between types
FIT_DEVIATES, TYPE_DEVIATES = [3, 4, 5, 6, 7, 8], [9, 10, 12, 13]
BLEND_RADIUS = 1.2  #: Arcseconds within which two detections become one row
RELEASE = 9010
NPRIMARY, MEDIUM = 1, 0x800  #: maskbits: not primary, near a bright star
#: maskbits: saturated, and masked, in a band (SATUR_G, ALLMASK_G, ... of DR10).
MASKBITS = {"g": (0x4, 0x20), "r": (0x8, 0x40), "z": (0x10, 0x80), "i": (0x4000, 0x8000)}
MEDIUM_RADIUS = 60.0
#: Half-light radius of a Gaussian in units of its sigma: half its FWHM
HALF_LIGHT = np.sqrt(2.0 * np.log(2.0))

#: Columns that there are once for each band, with their types
PER_BAND = {
    **dict.fromkeys(("flux", "flux_ivar", "mw_transmission"), "f4"),
    "nobs": "i2",
    **dict.fromkeys(("rchisq", "fracflux", "fracmasked", "fracin"), "f4"),
    **dict.fromkeys(("anymask", "allmask"), "i2"),
    **dict.fromkeys(("psfsize", "psfdepth", "galdepth"), "f4"),
}
SHAPES = ("shape_r", "shape_e1", "shape_e2")


@cache
def tractor_dtype(bands: tuple[str, ...]) -> np.dtype[Any]:
    """Columns of a tractor catalogue of DR9 that the mock can fill (no Gaia, WISE or aperture columns).

    The mask bits of i need a wider column, as in DR10.
    """
    wide = max(max(MASKBITS[band]) for band in bands) > np.iinfo("i2").max
    identity = [("release", "i2"), ("brickid", "i4"), ("brickname", "S8"), ("objid", "i4")]
    flags = [("brick_primary", "?"), ("maskbits", "i4" if wide else "i2"), ("fitbits", "i2"), ("type", "S3")]
    place = [("ra", "f8"), ("dec", "f8"), *((name, "f4") for name in ("ra_ivar", "dec_ivar", "bx", "by"))]
    other = [("dchisq", "f4", (5,)), ("ebv", "f4"), ("ref_cat", "S2"), ("ref_id", "i8")]
    fluxes = [(f"{name}_{band}", kind) for name, kind in PER_BAND.items() for band in bands]
    shapes = [(name + end, "f4") for name in ("sersic", *SHAPES) for end in ("", "_ivar")]
    return np.dtype([*identity, *flags, *place, *other, *fluxes, *shapes])


@dataclass(frozen=True)
class Noise:
    """Noise and PSF with which objects are seen in each band; shapes (n, bands).

    Attributes
    ----------
    nobs : ndarray of int
        Exposures; 0 where a band was not observed.
    sky : ndarray
        Variance of the sky in a pixel (nanomaggies^2).
    variance : ndarray
        Of a flux measured with a matched filter (nanomaggies^2), as invvar has it.
    actual : ndarray
        The noise that there is in units of that, as a variance: other than 1 where invvar is wrong.
    depth : ndarray
        One over the noise in a square arcsecond (1/nanomaggies), as invvar has it; 0 where not observed.
    """

    nobs: Array
    sky: Array
    variance: Array
    actual: Array
    depth: Array


def noise_of(objects: Array, conditions: Conditions, nobs: Array) -> Noise:
    """Noise of objects in a brick.

    Light counts as Gaussian here, of the width of PSF and galaxy in quadrature: photons of the object add to
    the noise of the sky under it, and a dip in invvar weighs as much of it as lies under the dip.

    Parameters
    ----------
    objects : ndarray of `object_dtype`, shape (n,)
    conditions : Conditions
        Seeing, depth and gain of the brick.
    nobs : ndarray of int, shape (n, bands) or (bands,)
        Exposures at each object.
    """
    nobs = np.broadcast_to(nobs, objects["flux"].shape)
    exposures, psf = np.maximum(nobs, 1), np.array(conditions.fwhm) / FWHM
    radius = circularised(objects["light_r"], objects["e1"], objects["e2"])
    total2 = (psf * objects["light_psf"][:, None]) ** 2 + (radius[:, None] / HALF_LIGHT) ** 2
    sky = np.array(conditions.sigma) ** 2 * np.array(conditions.nobs) / exposures
    background = 4.0 * np.pi * total2 / PIXEL_SCALE**2 * sky
    shot = objects["light_flux"] / (np.array(conditions.gain) * exposures)
    kept = 1.0 - objects["light_dip"][:, None] / (1.0 + total2 / (2.0 * psf**2))
    variance = (background + shot) / kept
    actual = (background + objects["light_shot"][:, None] ** 2 * shot) / variance
    depth = np.where(nobs > 0, PIXEL_SCALE * np.sqrt(background / variance / sky), 0.0)
    return Noise(nobs, sky, variance, actual, depth)


def true_snr(objects: Array, conditions: Conditions) -> Array:
    """Signal to noise of the noiseless light at the usual depth of the brick, all bands together."""
    noise = noise_of(objects, conditions, np.array(conditions.nobs))
    return _snr(objects["light_flux"], 1.0 / noise.variance)


def _snr(flux: Array, ivar: Array) -> Array:
    """Signal to noise of fluxes, all bands together."""
    return np.asarray(np.sqrt((np.maximum(flux, 0.0) ** 2 * ivar).sum(axis=1)))


def detect(objects: Array, brick: Brick, conditions: Conditions, exposures: Sequence[Exposure]) -> Array:
    """Return a row for each object that is detected, each by itself.

    Parameters
    ----------
    objects : ndarray of `object_dtype`
        Objects of a coadd, in its pixel frame; those outside its edges are ignored.
    brick, conditions, exposures
        The brick, how it was observed, and its coverage in each band.

    Returns
    -------
    ndarray of `tractor_dtype`
        Rows with a measured S/N above `DETECTION_SNR`.
    """
    place = np.stack([objects["x"] + objects["light_dx"].mean(axis=1), objects["y"]])
    inside = (np.abs(place - (brick.size - 1) / 2) < brick.size / 2).all(axis=0)
    xi, yi = np.floor(place[:, inside] + 0.5).astype(int)
    objects = objects[inside]
    nobs = np.stack([exposure.nobs[yi, xi] for exposure in exposures], axis=1).astype(np.int64)
    mask = np.stack([exposure.mask[yi, xi] for exposure in exposures], axis=1)
    noise, covered = noise_of(objects, conditions, nobs), nobs > 0
    deviates = objects["dev"][:, [FLUX_DEVIATE[band] for band in conditions.bands]]
    flux = objects["light_flux"] + np.sqrt(noise.actual * noise.variance) * deviates
    seen = _snr(flux, covered / noise.variance) > DETECTION_SNR
    noise = Noise(*(getattr(noise, own.name)[seen] for own in fields(Noise)))
    out = np.zeros(np.count_nonzero(seen), dtype=tractor_dtype(brick.bands))
    for band, bits in zip(brick.bands, np.where(nobs > 0, mask, 0)[seen].T, strict=True):
        out[f"allmask_{band}"] = out[f"anymask_{band}"] = bits
    _conditions(out, noise, conditions, brick)
    _fitted(out, objects[seen], noise, conditions, brick)
    return out


def catalogue(rows: Array, stars: Array, brick: Brick) -> Array:
    """Return the catalogue of a brick from the rows of `detect`, of saturated stars (objects) and detections.

    Of detections within `BLEND_RADIUS` of a brighter one only their flux is left, in its row.
    """
    out = _blend(rows, brick)
    _masks(out, stars, brick.bands)
    # Rows run from high to low x, as in the real files; order must say nothing of the class.
    out = out[np.argsort(-out["bx"], kind="stable")]
    out["objid"] = np.arange(len(out))
    return out


def _conditions(out: Array, noise: Noise, conditions: Conditions, brick: Brick) -> None:
    """Columns that say where and how something was observed."""
    out["release"], out["brickid"], out["brickname"] = RELEASE, brick.brickid, brick.name.encode()
    out["ebv"] = conditions.ebv
    sigma2, per_area = (np.array(conditions.fwhm) / FWHM) ** 2, 4.0 * np.pi * noise.sky / PIXEL_SCALE**2
    columns = {
        "rchisq": 1.0,
        "fracin": 1.0,
        "psfsize": conditions.fwhm,
        "psfdepth": 1.0 / (per_area * sigma2),
        # legacypipe's galdepth is for a round exponential of 0.45 arcsec.
        "galdepth": 1.0 / (per_area * (sigma2 + (0.45 / HALF_LIGHT) ** 2)),
    }
    found = {name: np.where(noise.nobs > 0, values, 0.0) for name, values in columns.items()}
    found |= {"nobs": noise.nobs}
    found |= {"mw_transmission": np.broadcast_to(conditions.transmission(), noise.nobs.shape)}
    for name, values in found.items():
        for band, column in zip(conditions.bands, values.T, strict=True):
            out[f"{name}_{band}"] = column


def _fitted(out: Array, objects: Array, noise: Noise, conditions: Conditions, brick: Brick) -> None:
    """Fit the light, choose a type, and fill in what the fit of that type measures."""
    light = Light(
        flux=objects["light_flux"],
        dx=objects["light_dx"] * PIXEL_SCALE,
        fwhm=np.array(conditions.fwhm) * objects["light_psf"][:, None],
        shape=ellipse(objects["light_r"], objects["e1"], objects["e2"]),
        sersic=objects["light_sersic"],
    )
    fits = [fit(light, family, np.array(conditions.fwhm), noise.depth) for family in FAMILIES]
    chi2 = np.stack([one.chi2 for one in fits], axis=1)
    whole = light_chi2(light, np.array(conditions.fwhm), noise.depth)[:, None]
    out["dchisq"] = np.maximum(whole - chi2, 0.0)
    kind = chosen(chi2, whole[:, 0], objects["dev"][:, TYPE_DEVIATES])
    out["type"] = np.array([family.name for family in FAMILIES])[kind]
    deviates = objects["dev"][:, [FLUX_DEVIATE[band] for band in conditions.bands] + FIT_DEVIATES]
    for number, one in enumerate(fits):
        rows = np.flatnonzero(kind == number)
        values, ivar = observed(one.take(rows), noise.actual[rows], deviates[rows])
        _record(out, rows, one.family, values, ivar, conditions.bands)
        x = objects["x"][rows] + values[:, len(conditions.bands)] / PIXEL_SCALE
        y = objects["y"][rows] + values[:, len(conditions.bands) + 1] / PIXEL_SCALE
        out["bx"][rows], out["by"][rows] = x, y
        out["ra"][rows], out["dec"][rows] = brick.to_sky(x, y)
    out["brick_primary"] = brick.is_primary(out["ra"], out["dec"])


def chosen(chi2: Array, whole: Array, deviates: Array) -> Array:
    """Choose the family of each object as legacypipe does: the simplest that explains the light.

    Parameters
    ----------
    chi2 : ndarray, shape (n, families)
        Of what each of `FAMILIES` leaves of the noiseless light.
    whole : ndarray, shape (n,)
        Of the light itself.
    deviates : ndarray, shape (n, 4)
        Noise of the comparisons, standard normal: chi^2 of light that one model explains and another does not
        has an error of twice the root of its expectation.

    Returns
    -------
    ndarray of int, shape (n,)
        Indices of `FAMILIES`.
    """
    point, round_, dev, exp, ser = chi2.T

    def gains(worse: Array, better: Array, noise: Array) -> Array:
        return np.asarray(np.maximum(np.sqrt(np.maximum(worse - better, 0.0)) + noise, 0.0) ** 2)

    # By a hundredth of chi^2 as well: an error of the PSF makes no galaxies of bright stars.
    extended = gains(point, round_, deviates[:, 0]) > np.maximum(MARGIN, 0.01 * (whole - point))
    cuspy = exp - dev + 2.0 * np.sqrt(exp + dev) * deviates[:, 2] > 0.0
    best = np.where(cuspy, dev, exp)
    shaped = gains(round_, best, deviates[:, 1]) > MARGIN
    free = gains(best, ser, deviates[:, 3]) > MARGIN
    return np.where(extended, np.where(shaped, np.where(free, 4, np.where(cuspy, 2, 3)), 1), 0)


def _record(
    out: Array, rows: Array, family: Family, values: Array, ivar: Array, bands: Sequence[str]
) -> None:
    """Write values of a family's parameters, and their inverse variances, into columns."""
    n = len(bands)
    for k, band in enumerate(bands):
        covered = out[f"nobs_{band}"][rows] > 0
        out[f"flux_{band}"][rows] = np.where(covered, values[:, k], 0.0)
        out[f"flux_ivar_{band}"][rows] = np.where(covered, ivar[:, k], 0.0)
    out["ra_ivar"][rows], out["dec_ivar"][rows] = (3600.0**2 * ivar[:, n : n + 2]).T
    out["sersic"][rows] = values[:, -1] if family.free else family.sersic if family.shapes else 0.0
    out["sersic_ivar"][rows] = ivar[:, -1] if family.free else 0.0
    if not family.shapes:
        return
    shape = values[:, n + 2 : n + 2 + family.shapes]
    shape = shape if family.shapes > 1 else np.concatenate([shape, shape, 0 * shape], axis=1)
    radius, e1, e2 = radius_of(shape)
    radius = np.maximum(radius, LEAST_RADIUS)
    # d(r^2) = 2 r dr, and ellipticities of roundish galaxies are (sxx - syy) / (4 r^2) and sxy / (2 r^2).
    size = ivar[:, n + 2 : n + 2 + min(family.shapes, 2)].sum(axis=1)
    for name, value, error in (
        ("r", radius, 2 * radius),
        ("e1", e1, 2 * radius**2),
        ("e2", e2, 2 * radius**2),
    ):
        out[f"shape_{name}"][rows] = value
        out[f"shape_{name}_ivar"][rows] = size * error**2 if name == "r" or family.shapes > 1 else 0.0


def _masks(out: Array, stars: Array, bands: Sequence[str]) -> None:
    """Mask bits of the central pixel, and the neighbourhood of saturated stars."""
    bits = np.where(out["brick_primary"], 0, NPRIMARY).astype(np.int64)
    for band in bands:
        mask, (saturated, masked) = out[f"allmask_{band}"], MASKBITS[band]
        bits |= np.where(mask & SATUR, saturated, 0) | np.where(mask != 0, masked, 0)
    for star in stars:
        near = np.hypot(out["bx"] - star["x"], out["by"] - star["y"]) < MEDIUM_RADIUS
        bits |= np.where(near, MEDIUM, 0)
    out["maskbits"] = bits


def _blend(table: Array, brick: Brick) -> Array:
    """Merge each detection into the brightest one within the blend radius."""
    flux, ivar = (np.stack([table[f"{name}_{b}"] for b in brick.bands], 1) for name in ("flux", "flux_ivar"))
    table = table[np.argsort(-_snr(flux, ivar), kind="stable")]
    kept = np.ones(len(table), dtype=np.bool_)
    tree = cKDTree(np.column_stack([table["bx"], table["by"]]))
    flux = table[f"flux_{StampSpec(brick.bands).reference}"]
    for first, second in sorted(tree.query_pairs(BLEND_RADIUS / PIXEL_SCALE)):
        if not (kept[first] and kept[second]):
            continue
        kept[second] = False
        fraction = float(flux[second] / max(flux[first] + flux[second], 1e-9))
        for axis in ("bx", "by"):
            table[axis][first] += np.clip(fraction, 0, 0.5) * (table[axis][second] - table[axis][first])
        for band in brick.bands:
            table[f"flux_{band}"][first] += table[f"flux_{band}"][second]
    merged = table[kept]
    merged["ra"], merged["dec"] = brick.to_sky(merged["bx"].astype(float), merged["by"].astype(float))
    return merged
