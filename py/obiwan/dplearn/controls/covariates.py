"""Covariates: physical quantities of examples, taken in the same way for both classes.

They describe the sample: a classifier that sees only these says whether the two classes were drawn from one
population, AUC is shown against them, and they can be held equal.  What only one class has, or has in another
way, is not among them: distances to the truth, runs, ids, flags.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.cutouts import centre_pixel
from obiwan.dplearn.trainingset.examples import FLAG_PADDED
from obiwan.dplearn.trainingset.visibility import same_fit

Columns = dict[str, Array]

STANDARD_SIZE = 3600  #: pixels on a side of a Legacy Survey brick's coadd
_NEARLY = 3000  #: no coadd reaches so far that is not a standard one


@dataclass(frozen=True)
class Quantity:
    """A covariate; how it is called in a sentence is for the report to say.

    Attributes
    ----------
    key : str
        Its column, such as ``psfsize_r``.
    name : str
        What is measured, such as ``PSF width``.
    band : str
        Empty where it is of no band, or of several.
    unit : str
    hazard : str
        The hazard that a difference in it points to, ``D1`` to ``D20``.
    fitted : bool
        Whether it comes from a fit: only comparable where the same software fitted both classes.
    """

    key: str
    name: str
    band: str = ""
    unit: str = ""
    hazard: str = "D17"
    fitted: bool = False


def quantities(spec: StampSpec) -> tuple[Quantity, ...]:
    """The covariates of stamps of these bands, in the order of `covariates`."""
    return tuple(_quantities(spec))


def _quantities(spec: StampSpec) -> Iterator[Quantity]:
    for band in spec.bands:
        yield Quantity(f"mag_{band}", "magnitude", band, "mag", fitted=True)
    for blue, red in spec.colours:
        yield Quantity(f"{blue}_{red}", f"{blue} - {red}", unit="mag", fitted=True)
    yield Quantity("sn", "signal to noise", hazard="D10", fitted=True)
    yield Quantity("shape_r", "half-light radius", unit="arcsec", fitted=True)
    yield Quantity("e", "ellipticity", fitted=True)
    for stem, name, unit in (
        ("psfsize", "PSF width", "arcsec"),
        ("psfdepth", "depth", "mag"),
        ("nobs", "exposures", ""),
    ):
        for band in spec.bands:
            yield Quantity(f"{stem}_{band}", name, band, unit, "D9")
    yield Quantity("ebv", "E(B-V)", unit="mag", hazard="D11")
    yield Quantity("edge", "distance to the edge of the coadd", unit="px", hazard="D15")
    for axis in ("x", "y"):
        yield Quantity(f"phase_{axis}", f"position within the pixel, {axis}", unit="px", hazard="D4")
    yield Quantity("neighbours", "neighbours in the cutout", hazard="D12")
    yield Quantity("nearest", "distance to the nearest neighbour", unit="px", hazard="D12")


def covariates(rows: Array, measured: Array, spec: StampSpec) -> Columns:
    """Physical quantities of examples, by key.

    Parameters
    ----------
    rows : structured ndarray, shape (n,)
        Their rows of the example table.
    measured : ndarray of `obiwan.dplearn.controls.measure.measure_dtype`, shape (n,)
    spec : StampSpec

    Returns
    -------
    dict of ndarray of float64, shape (n,)
        In the order of `quantities`.  Magnitudes are corrected for extinction; depths are 5 sigma for a point
        source; what is not known is NaN.  Where `same_fit` says no, all that is fitted is NaN.
    """
    found = _fitted(rows, spec)
    with np.errstate(divide="ignore"):
        for band in spec.bands:
            sigma = 1 / np.sqrt(_positive(rows[f"psfdepth_{band}"]))
            found[f"psfsize_{band}"] = _positive(rows[f"psfsize_{band}"])
            found[f"psfdepth_{band}"] = 22.5 - 2.5 * np.log10(5 * sigma)
            found[f"nobs_{band}"] = _positive(rows[f"nobs_{band}"])
    found["ebv"] = rows["ebv"].astype(np.float64)
    found["edge"] = edge_distance(rows, spec)
    for key, column in (("phase_x",) * 2, ("phase_y",) * 2, ("neighbours", "peaks"), ("nearest",) * 2):
        found[key] = measured[column].astype(np.float64)
    if not same_fit(rows):
        found |= {one.key: np.full(len(rows), np.nan) for one in quantities(spec) if one.fitted}
    return {one.key: found[one.key] for one in quantities(spec)}


def coadd_size(rows: Array, spec: StampSpec) -> int:
    """Pixels on a side of the coadds that examples were cut from, as far as their positions tell.

    Standard coadds have 3600.  Of smaller ones (the mock's, test regions) it is the end of the last stamp,
    which is the coadd's within a few pixels once there are hundreds of examples.
    """
    if not len(rows):
        return spec.size
    inside = rows[rows["flags"] & FLAG_PADDED == 0]
    used, beyond = (inside, spec.size - spec.centre) if len(inside) else (rows, 1)
    last = max(int(centre_pixel(used[axis]).max()) for axis in ("x", "y")) + beyond
    return STANDARD_SIZE if last > _NEARLY else last


def edge_distance(rows: Array, spec: StampSpec) -> Array:
    """Distance of each example to the nearest edge of its coadd (px)."""
    end = coadd_size(rows, spec) - 0.5
    distances = [distance for axis in ("x", "y") for distance in (rows[axis] + 0.5, end - rows[axis])]
    return np.asarray(np.min(distances, axis=0), np.float64)


def _positive(values: Array) -> Array:
    """Float64, NaN where not positive: bands without data hold 0."""
    values = values.astype(np.float64)
    return np.where(values > 0, values, np.nan)


def _fitted(rows: Array, spec: StampSpec) -> Columns:
    """What the catalogue says of the object itself."""
    out: Columns = {name: rows[name].astype(np.float64) for name in spec.columns("mag")}
    for blue, red in spec.colours:
        out[f"{blue}_{red}"] = out[f"mag_{blue}"] - out[f"mag_{red}"]
    flux, ivar = (spec.per_band(rows, name) for name in ("flux", "flux_ivar"))
    out["sn"] = np.sqrt(np.sum(flux.astype(np.float64) ** 2 * ivar, axis=-1))
    out["shape_r"] = rows["shape_r"].astype(np.float64)
    out["e"] = np.hypot(rows["e1"], rows["e2"]).astype(np.float64)
    return out
