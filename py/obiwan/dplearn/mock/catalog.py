"""What a tractor would measure of the mock's objects: one set of formulas for both classes.

Nothing is fitted to pixels.  Errors are those of a matched filter on background-limited Gaussians
whose width is that of the PSF and the galaxy in quadrature (photon noise added to the flux errors), and
each object carries its own standard normal deviates, so that a real object measures the same in every
run over the same pixels.  The measurement follows the light that was drawn, except that positions
scatter about the *catalogued* position: `Plant.offset` is an error of injection that no catalogue knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from obiwan.dplearn.mock.bricks import SATUR, Brick, Conditions, Exposure
from obiwan.dplearn.mock.config import PIXEL_SCALE
from obiwan.dplearn.mock.sky import FLUX_DEVIATE
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.rendering import FWHM, along_major, circularised

DETECTION_SNR = 6.0
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


class Seen:
    """How well each object of a list is seen in a brick: the intermediate numbers of `measure`.

    Parameters
    ----------
    objects : ndarray of `object_dtype`, shape (n,)
        Objects whose x, y are inside the coadd.
    conditions : Conditions
        Seeing, depth and gain of the brick.
    nobs : ndarray of int, shape (n, bands) or (bands,)
        Exposures at each object.
    """

    def __init__(self, objects: Array, conditions: Conditions, nobs: Array) -> None:
        self.nobs = np.broadcast_to(nobs, objects["flux"].shape)
        self.psf_sigma = np.array(conditions.fwhm) / FWHM
        widened = self.psf_sigma * objects["light_psf"][:, None]
        radius = circularised(objects["light_r"], objects["e1"], objects["e2"])
        size2 = (radius[:, None] / HALF_LIGHT) ** 2
        total2 = widened**2 + size2
        # A PSF wider than the catalogue's model passes for size, a narrower one for none.
        self.size = np.sqrt(np.maximum(total2 - self.psf_sigma**2, 0.0))
        self.sky = np.array(conditions.sigma) ** 2 * np.array(conditions.nobs) / np.maximum(self.nobs, 1)
        area = 4.0 * np.pi * total2 / PIXEL_SCALE**2
        gain = np.array(conditions.gain) * np.maximum(self.nobs, 1)
        self.variance = area * self.sky + objects["light_flux"] / gain
        self.covered = self.nobs > 0
        noise = objects["dev"][:, [FLUX_DEVIATE[band] for band in conditions.bands]]
        self.flux = np.where(self.covered, objects["light_flux"] + np.sqrt(self.variance) * noise, 0.0)
        weight = np.where(self.covered, objects["light_flux"] ** 2 / self.variance, 0.0)
        self.snr = np.sqrt(weight.sum(axis=1))
        weight /= np.maximum(weight.sum(axis=1), 1e-30)[:, None]
        self.total = (weight * np.sqrt(total2)).sum(axis=1)
        self.psf = (weight * self.psf_sigma).sum(axis=1)
        self.galaxy = (weight * self.size).sum(axis=1)
        self.measured_snr = np.sqrt(
            (np.where(self.covered, np.maximum(self.flux, 0.0) ** 2 / self.variance, 0.0)).sum(axis=1)
        )


def true_snr(objects: Array, conditions: Conditions) -> Array:
    """Signal to noise of the noiseless light at the usual depth of the brick, all bands together."""
    return np.asarray(Seen(objects, conditions, np.array(conditions.nobs)).snr)


def measure(objects: Array, brick: Brick, conditions: Conditions, exposures: Sequence[Exposure]) -> Array:
    """Return the tractor-like catalogue of whatever is detected.

    Parameters
    ----------
    objects : ndarray of `object_dtype`
        Everything whose light is in the coadd, in its pixel frame; those outside its edges are ignored.
    brick, conditions, exposures
        The brick, how it was observed, and its coverage in each band.

    Returns
    -------
    ndarray of `tractor_dtype`
        Rows with a measured S/N above `DETECTION_SNR`; of detections within `BLEND_RADIUS` of a brighter
        one, only their flux is left, in its row.
    """
    edge = brick.size - 0.5
    inside = [np.abs(objects[axis] - edge / 2 + 0.25) < edge / 2 + 0.25 for axis in ("x", "y")]
    objects = objects[np.logical_and(*inside)]
    stars = objects[objects["saturated"]]
    nobs, mask = _at(objects, exposures)
    objects = objects[Seen(objects, conditions, nobs).measured_snr > DETECTION_SNR]
    nobs, mask = _at(objects, exposures)
    seen = Seen(objects, conditions, nobs)
    out = np.zeros(len(objects), dtype=tractor_dtype(brick.bands))
    _positions(out, objects, seen, brick)
    _fluxes(out, seen, conditions)
    _shapes(out, objects, seen)
    _masks(out, objects, stars, np.where(seen.covered, mask, 0), brick.bands)
    out["release"], out["brickid"], out["brickname"] = RELEASE, brick.brickid, brick.name.encode()
    out["ebv"] = conditions.ebv
    out = _blend(out, seen.measured_snr, brick)
    # Rows run from high to low x, as in the real files; order must say nothing of the class.
    out = out[np.argsort(-out["bx"], kind="stable")]
    out["objid"] = np.arange(len(out))
    return out


def _at(objects: Array, exposures: Sequence[Exposure]) -> tuple[Array, Array]:
    """Exposures and mask bits of each band in the pixel of each object, shape (n, bands)."""
    yi, xi = (np.floor(objects[axis] + 0.5).astype(int) for axis in ("y", "x"))
    nobs = np.stack([exposure.nobs[yi, xi] for exposure in exposures], axis=1)
    return nobs.astype(np.int64), np.stack([exposure.mask[yi, xi] for exposure in exposures], axis=1)


def _positions(out: Array, objects: Array, seen: Seen, brick: Brick) -> None:
    """Centroid error of a matched filter: sqrt(2) * width / (S/N)."""
    error = np.sqrt(2.0) * seen.total / np.maximum(seen.snr, 1e-3)
    x = objects["x"] + error / PIXEL_SCALE * objects["dev"][:, 3]
    y = objects["y"] + error / PIXEL_SCALE * objects["dev"][:, 4]
    out["bx"], out["by"] = x, y
    out["ra"], out["dec"] = brick.to_sky(x, y)
    out["ra_ivar"] = out["dec_ivar"] = (3600.0 / error) ** 2
    out["brick_primary"] = brick.is_primary(out["ra"], out["dec"])


def _fluxes(out: Array, seen: Seen, conditions: Conditions) -> None:
    """Fluxes, their errors, and the depths that go with them."""
    per_area = 4.0 * np.pi * seen.sky / PIXEL_SCALE**2
    sigma2 = seen.psf_sigma**2
    columns = {
        "flux": seen.flux,
        "flux_ivar": 1.0 / seen.variance,
        "rchisq": 1.0,
        "fracin": 1.0,
        "psfsize": conditions.fwhm,
        "psfdepth": 1.0 / (per_area * sigma2),
        # legacypipe's galdepth is for a round exponential of 0.45 arcsec.
        "galdepth": 1.0 / (per_area * (sigma2 + (0.45 / HALF_LIGHT) ** 2)),
    }
    found = {name: np.where(seen.covered, values, 0.0) for name, values in columns.items()}
    found |= {
        "nobs": seen.nobs,
        "mw_transmission": np.broadcast_to(conditions.transmission(), seen.nobs.shape),
    }
    for name, values in found.items():
        for band, column in zip(conditions.bands, values.T, strict=True):
            out[f"{name}_{band}"] = column


def _shapes(out: Array, objects: Array, seen: Seen) -> None:
    """Measure radius, ellipticity and index, and give each row the simplest type that explains it.

    Two Gaussians of widths a and b overlap by 2ab / (a^2 + b^2), which says by how much chi^2 falls when
    a galaxy replaces a point source; a simpler type is kept unless that fall exceeds 9.
    """
    dev, snr = objects["dev"], np.maximum(seen.snr, 1e-3)
    overlap = 2.0 * seen.psf * seen.total / (seen.psf**2 + seen.total**2)
    resolution = np.maximum((seen.galaxy / seen.total) ** 2, 0.05)
    r_error = 1.5 * seen.total / snr / np.sqrt(resolution)
    e_error = 2.0 / snr / resolution
    n_error = 4.0 * np.maximum(objects["light_sersic"], 1.0) / snr / resolution
    ellipticity = np.hypot(objects["e1"], objects["e2"])
    extended = snr * np.sqrt(1.0 - overlap**2) + dev[:, 9] > 3.0
    elongated = ellipticity / e_error + dev[:, 10] > 3.0
    index = objects["light_sersic"] + n_error * dev[:, 8]
    kind = np.where(elongated, b"EXP", b"REX")
    kind = np.where((index > 2.5) & (n_error < 1.0), b"DEV", kind)
    between = (np.abs(index - 1.0) > np.maximum(0.5, 3 * n_error)) & (np.abs(index - 4.0) > 3 * n_error)
    kind = np.where(between & (n_error < 0.3), b"SER", kind)
    kind = np.where(extended & (objects["light_sersic"] > 0), kind, b"PSF")
    out["type"] = kind
    galaxy, shaped = kind != b"PSF", np.isin(kind, [b"EXP", b"DEV", b"SER"])
    for k, name in enumerate(("e1", "e2")):
        out[f"shape_{name}"] = np.where(
            shaped, np.clip(objects[name] + e_error * dev[:, 6 + k], -0.7, 0.7), 0.0
        )
        out[f"shape_{name}_ivar"] = np.where(shaped, e_error**-2.0, 0.0)
    size = np.where(galaxy, np.maximum(seen.galaxy * HALF_LIGHT + r_error * dev[:, 5], 0.01), 0.0)
    out["shape_r"] = along_major(size, out["shape_e1"], out["shape_e2"])
    stretch = np.where(galaxy, out["shape_r"] / np.maximum(size, 0.01), 1.0)
    out["shape_r_ivar"] = np.where(galaxy, (r_error * stretch) ** -2.0, 0.0)
    fixed = np.select([kind == b"PSF", kind == b"DEV", kind == b"SER"], [0.0, 4.0, index], 1.0)
    out["sersic"] = np.clip(fixed, 0.0, 6.0)
    out["sersic_ivar"] = np.where(kind == b"SER", n_error**-2.0, 0.0)
    gain = np.broadcast_arrays(overlap**2, 1.0, 0.9, 1.0, 1.0)
    out["dchisq"] = (seen.measured_snr**2 * gain).T


def _masks(out: Array, objects: Array, stars: Array, masks: Array, bands: Sequence[str]) -> None:
    """Mask bits of the central pixel, and the neighbourhood of saturated stars."""
    bits = np.where(out["brick_primary"], 0, NPRIMARY).astype(np.int64)
    for band, mask in zip(bands, masks.T, strict=True):
        saturated, masked = MASKBITS[band]
        out[f"allmask_{band}"] = out[f"anymask_{band}"] = mask
        bits |= np.where(mask & SATUR, saturated, 0) | np.where(mask != 0, masked, 0)
    for star in stars:
        near = np.hypot(objects["x"] - star["x"], objects["y"] - star["y"]) < MEDIUM_RADIUS
        bits |= np.where(near, MEDIUM, 0)
    out["maskbits"] = bits


def _blend(table: Array, snr: Array, brick: Brick) -> Array:
    """Merge each detection into the brightest one within the blend radius."""
    order = np.argsort(-snr, kind="stable")
    table = table[order]
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
