"""Painting: sources into one band of a brick, with the noise of their photons.

What a source adds depends on itself, the seed and the release alone, so that neither the order nor other
objects change it.  Where stamps overlap, inverse variances are lowered one source after another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from obiwan.dplearn.errors import CatalogError, CoaddError, explained
from obiwan.dplearn.injection.exposures import Exposure
from obiwan.dplearn.injection.light import LARGEST_SIZE, grid_size, jacobians, moved, split_position, through
from obiwan.dplearn.injection.models import Light, Model
from obiwan.dplearn.injection.noise import fit_electrons, invvar_of, photon_noise, photons_on_grid
from obiwan.dplearn.injection.psf import BandPsf
from obiwan.dplearn.running.streams import stream
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.coadds import Frame
from obiwan.dplearn.survey.cutouts import overlap

SATURATION_FILL = 10.0  #: nanomaggies that the pipeline puts where every exposure is saturated
_MOST = 1e10  # nanomaggies in a pixel: magnitude -2.5, brighter than any star
_SKY = 64  # pixels on a side of the area whose sky noise a source has; more where none of it was observed


@dataclass(frozen=True)
class Band:
    """One band of a brick of a release, as sources are painted into it.

    Attributes
    ----------
    brick, name : str
    frame : Frame
    pixel_scale : float
        Arcsec.
    image, invvar : ndarray of float32, shape (ny, nx)
    psf : BandPsf
    exposures : tuple of Exposure
        Empty where they are not known.
    balance : float or None
        Without exposures: nanomaggies per pixel at which photon noise equals the sky's (`fit_electrons`).
    """

    brick: str
    name: str
    frame: Frame
    pixel_scale: float
    image: Array
    invvar: Array
    psf: BandPsf
    exposures: tuple[Exposure, ...]
    balance: float | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """How sources are drawn in this band, for truth tables and manifest."""
        return {
            "psf": self.psf.kind,
            "psf_rests_on": self.psf.rests_on,
            "exposures": len(self.exposures),
            "electrons": [round(one.electrons, 3) for one in self.exposures],
            "balance": self.balance,
        }


@dataclass(frozen=True)
class Seen:
    """Exposures of a band at one source.

    Attributes
    ----------
    fractions : ndarray, shape (n,)
        Fraction of the coadd's weight that each has.
    psf : list of ndarray, shape (m, m)
        A single one where they do not differ.
    scalings, electrons : ndarray, shape (n,)
        Area of a coadd pixel over that of the CCD; electrons per nanomaggy.
    resampled : bool
        Whether their noise is resampled to the coadd; else nothing is known of them.
    """

    fractions: Array
    psf: list[Array]
    scalings: Array
    electrons: Array
    resampled: bool = True


def balance_of(image: Array, invvar: Array, label: str) -> float:
    """`fit_electrons`, or an error that names the brick and band.

    Raises
    ------
    CoaddError
        If the photon noise cannot be told.
    """
    found = fit_electrons(image, invvar)
    if found is None:
        lacks = "no zero points in its CCD table, and too few bright pixels that show the photon noise"
        msg = f"{label}: {lacks}; give --noise none, or leave the brick out with --bricks"
        raise CoaddError(msg)
    return found


def paint(band: Band, rows: Array, model: Model, seed: int, run: str, *, noise: bool) -> tuple[Array, Array]:
    """Image and inverse variance of a band with sources in it.

    Parameters
    ----------
    band : Band
    rows : ndarray
        Sources, with the columns of `obiwan.dplearn.injection.sources`.
    model : Model
    seed : int
    run : str
        Of the injection.
    noise : bool
        Whether their photon noise is added, and inverse variances are lowered by it.

    Returns
    -------
    ndarray of float32, shape (ny, nx)
        Twice.

    Raises
    ------
    CatalogError
        If the model fails on a row; names it.
    """
    image, invvar = band.image.copy(), band.invvar.copy()
    rows = rows.view()
    rows.flags.writeable = False  # a model that changes its row would change what is told of other bands
    slopes = jacobians(band.frame, rows["ra"], rows["dec"])
    places = [one.pixels(rows["ra"], rows["dec"]) for one in band.exposures]
    on_ccds = np.stack(places, 1) if places else np.empty((len(rows), 0, 2))
    for row, slope, on_ccd in zip(rows, slopes, on_ccds, strict=True):
        name = f"{row['id']}"
        number = f", row {row['row']}" if "row" in row.dtype.names else ""
        what = f"brick {band.brick} ({run}), band {band.name}, source {name}{number}: cannot be drawn"
        with explained(what, "correct the row or the model, or remove the row", CatalogError):
            light = model(row, band.name, slope, stream(seed, "model", band.brick, run, name))
            seen = _seen(band, float(row["x"]), float(row["y"]), on_ccd)
            stamp = _Stamp(light, seen, float(row["x"]), float(row["y"]))
            rng = stream(seed, "photons", band.brick, run, name, band.name) if noise else None
            _add(image, invvar, stamp, band.psf, rng)
    return image, invvar


class _Stamp:
    """Pixels that one source reaches, and its light in each exposure."""

    def __init__(self, light: Light, seen: Seen, x: float, y: float) -> None:
        self.light, self.seen = light, seen
        (self.column, dx), (self.line, dy) = split_position(x), split_position(y)
        if light.image is not None:
            self.shape: tuple[int, int] = light.image.shape
            return
        if not 0 <= light.radius < LARGEST_SIZE / 2 or light.transform is None:
            msg = f"it reaches {light.radius:.4g} pixels; at most {LARGEST_SIZE // 2} can be drawn"
            raise ValueError(msg)
        size = grid_size(light.radius, len(seen.psf[0]))
        self.shape = (size, size)
        self.spectrum = moved(light.transform(size), dx, dy, size)
        if not np.isfinite(self.spectrum).all():
            msg = "the model gave values that are not finite"
            raise ValueError(msg)

    def images(self, psf: BandPsf) -> Iterator[Array]:
        """Noiseless light in each exposure."""
        alike = self.light.image
        for i in range(len(self.seen.fractions)):
            if self.light.image is None and i < len(self.seen.psf):
                size = self.shape[0]
                alike = through(psf.transform(self.seen.psf[i], size), self.spectrum, size)
            yield np.asarray(alike)


def _sky_near(invvar: Array, x: float, y: float) -> float | np.float32:
    """Median inverse variance around a position, of the smallest area that was observed; else infinite.

    Of a source beyond an edge, that at the edge.
    """
    middles = [min(max(int(at), 0), n) for at, n in zip((y, x), invvar.shape, strict=True)]
    reach = _SKY // 2
    while True:
        area = invvar[tuple(slice(max(0, middle - reach), middle + reach) for middle in middles)]
        if (area > 0).any():
            return np.float32(np.median(area[area > 0]))
        if reach > max(invvar.shape):
            return np.inf
        reach *= 2


def _seen(band: Band, x: float, y: float, on_ccd: Array) -> Seen:
    """The exposures whose CCD has a position; near an edge, where none seems to, the nearest."""
    if not band.exposures:
        electrons = np.full(1, np.inf)
        if band.balance is not None:
            electrons[:] = band.balance * _sky_near(band.invvar, x, y)
        psf = band.psf.at(x, y, np.empty(0), on_ccd)
        return Seen(np.ones(1), psf, np.ones(1), electrons, resampled=False)
    which = np.array([one.covers(place) for one, place in zip(band.exposures, on_ccd, strict=True)])
    if not which.any():
        away = [
            np.abs(place / one.shape[::-1] - 0.5).max()
            for one, place in zip(band.exposures, on_ccd, strict=True)
        ]
        which[np.argmin(away)] = True
    (rows,) = np.nonzero(which)
    mine = [band.exposures[i] for i in rows]
    weights = np.array([one.weight(band.pixel_scale) for one in mine])
    scalings = np.array([one.scaling(band.pixel_scale) for one in mine])
    psf = band.psf.at(x, y, rows, on_ccd[rows])
    return Seen(weights / weights.sum(), psf, scalings, np.array([one.electrons for one in mine]))


def _add(image: Array, invvar: Array, stamp: _Stamp, psf: BandPsf, rng: np.random.Generator | None) -> None:
    """Add a source to image and, where there is noise, to the inverse variance, in place."""
    (ys, from_y), (xs, from_x) = (
        overlap(centre, n, size)
        for centre, n, size in zip((stamp.line, stamp.column), image.shape, stamp.shape, strict=True)
    )
    added = np.zeros((ys.stop - ys.start, xs.stop - xs.start))
    if not added.size:
        return
    with np.errstate(divide="ignore"):
        sky, lowered = 1 / invvar[ys, xs].astype(np.float64), np.zeros_like(added)
    seen = stamp.seen
    for i, light in enumerate(stamp.images(psf)):
        if not np.abs(light).max() < _MOST:
            msg = f"it gives more than {_MOST:g} nanomaggies in a pixel"
            raise ValueError(msg)
        added += seen.fractions[i] * light[from_y, from_x]
        if rng is not None:
            noise = (
                photon_noise(rng, light, seen.scalings[i], seen.electrons[i])
                if seen.resampled
                else photons_on_grid(rng, light, seen.electrons[i])
            )
            added += seen.fractions[i] * noise[from_y, from_x]
            variance = seen.scalings[i] / seen.electrons[i]
            lowered += invvar_of(sky, light[from_y, from_x], seen.fractions[i], variance)
    seen_well, before = invvar[ys, xs] > 0, image[ys, xs]
    # Where all exposures are masked the pipeline patches the pixel from those around it, unless saturated.
    patched = ~seen_well & (before != 0) & (np.abs(before - SATURATION_FILL) > 1e-3)
    before += np.where(seen_well | patched, added, 0)
    if rng is not None:
        np.copyto(invvar[ys, xs], lowered, where=seen_well, casting="same_kind")
