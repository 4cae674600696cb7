"""Physical quantities of examples, measured in the same way for both classes.

They describe the sample: a classifier that sees only these says whether the two classes were drawn from one
population, AUC is shown against them, and they can be made equal by weights or pairs.  What only one class
has, or has in another way, is not among them: distances to the truth, runs, ids, flags.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.conventions import BANDS, STAMP, Array
from obiwan.dplearn.survey.cutouts import HALF, centre_pixel
from obiwan.dplearn.trainingset.examples import FLAG_PADDED

Columns = dict[str, NDArray[np.float64]]

STANDARD_SIZE = 3600  #: pixels on a side of a Legacy Survey brick's coadd
_NEARLY = 3000  #: no coadd reaches so far that is not a standard one

LABELS: dict[str, tuple[str, str]] = {
    **{f"mag_{band}": (f"{band} magnitude", "mag") for band in BANDS},
    "g_r": ("g - r", "mag"),
    "r_z": ("r - z", "mag"),
    "sn": ("signal to noise", ""),
    "shape_r": ("half-light radius", "arcsec"),
    "e": ("ellipticity", ""),
    **{f"psfsize_{band}": (f"PSF width in {band}", "arcsec") for band in BANDS},
    **{f"psfdepth_{band}": (f"depth in {band}", "mag") for band in BANDS},
    **{f"nobs_{band}": (f"exposures in {band}", "") for band in BANDS},
    "ebv": ("E(B-V)", "mag"),
    "edge": ("distance to the edge of the coadd", "px"),
    "phase_x": ("position within the pixel, x", "px"),
    "phase_y": ("position within the pixel, y", "px"),
    "neighbours": ("neighbours in the cutout", ""),
    "nearest": ("distance to the nearest neighbour", "px"),
}  #: name and unit of each covariate, as figures say them


CATALOGUED = ("mag_g", "mag_r", "mag_z", "g_r", "r_z", "sn", "shape_r", "e")
"""Those that come from a fit: only comparable where the same software fitted both classes."""


def covariates(rows: Array, measured: Array, *, size: int | None = None) -> Columns:
    """Physical quantities of examples, by name.

    Parameters
    ----------
    rows : ndarray of EXAMPLE_DTYPE, shape (n,)
        Their rows of the source table.
    measured : ndarray of MEASURE_DTYPE, shape (n,)
        As from `obiwan.dplearn.controls.measure.measure_split`.
    size : int, optional
        Pixels on a side of the coadds; without it `coadd_size` says.

    Returns
    -------
    dict of ndarray of float64, shape (n,)
        In the order of `LABELS`.  Magnitudes are corrected for extinction; depths are 5 sigma for a point
        source; what is not known is NaN.  Where `catalogued` says no, all that is fitted is NaN.
    """
    wide = _fitted(rows)
    wide |= {f"psfsize_{band}": _positive(rows[f"psfsize_{band}"]) for band in BANDS}
    with np.errstate(divide="ignore"):
        for band in BANDS:
            sigma = 1 / np.sqrt(_positive(rows[f"psfdepth_{band}"]))
            wide[f"psfdepth_{band}"] = 22.5 - 2.5 * np.log10(5 * sigma)
            wide[f"nobs_{band}"] = np.where(rows[f"nobs_{band}"] > 0, rows[f"nobs_{band}"], np.nan)
    wide["ebv"] = rows["ebv"].astype(np.float64)
    wide["edge"] = edge_distance(rows, size)
    for name, column in (("phase_x",) * 2, ("phase_y",) * 2, ("neighbours", "peaks"), ("nearest",) * 2):
        wide[name] = measured[column].astype(np.float64)
    return {name: wide[name] for name in LABELS}


def catalogued(rows: Array) -> bool:
    """Whether the fitted quantities of all examples have one origin.

    They have not where fakes of a tree without tractor catalogues carry the truth, or where a table of the
    user stands for one class: then they say which class it is by what they are, not by what the galaxy is.
    """
    origins = set(np.unique(rows["mag_source"]).tolist())
    return len(origins) == 1 and b"truth" not in origins


def coadd_size(rows: Array) -> int:
    """Pixels on a side of the coadds that examples were cut from, as far as their positions tell.

    Standard coadds have 3600.  Of smaller ones (the mock's, test regions) it is the end of the last stamp,
    which is the coadd's within a few pixels once there are hundreds of examples.
    """
    inside = rows[rows["flags"] & FLAG_PADDED == 0]
    if len(inside):
        last = max(int(centre_pixel(inside[axis]).max()) for axis in ("x", "y")) + HALF
    else:
        last = max(int(centre_pixel(rows[axis]).max()) for axis in ("x", "y")) + 1 if len(rows) else STAMP
    return STANDARD_SIZE if last > _NEARLY else last


def edge_distance(rows: Array, size: int | None = None) -> NDArray[np.float64]:
    """Distance of each example to the nearest edge of its coadd (px), `size` pixels wide or `coadd_size`."""
    end = (coadd_size(rows) if size is None else size) - 0.5
    distances = [distance for axis in ("x", "y") for distance in (rows[axis] + 0.5, end - rows[axis])]
    return np.min(distances, axis=0).astype(np.float64) if len(rows) else np.zeros(0)


def _positive(values: Array) -> NDArray[np.float64]:
    """Float64, NaN where not positive: bands without data hold 0."""
    values = values.astype(np.float64)
    return np.where(values > 0, values, np.nan)


def _fitted(rows: Array) -> Columns:
    """What the catalogue says of the object itself, or NaN where it cannot be compared."""
    if not catalogued(rows):
        return {name: np.full(len(rows), np.nan) for name in CATALOGUED}
    out: Columns = {f"mag_{band}": rows[f"mag_{band}"].astype(np.float64) for band in BANDS}
    out["g_r"], out["r_z"] = out["mag_g"] - out["mag_r"], out["mag_r"] - out["mag_z"]
    weight = [rows[f"flux_{b}"].astype(np.float64) ** 2 * rows[f"flux_ivar_{b}"] for b in BANDS]
    out["sn"] = np.sqrt(np.sum(weight, axis=0))
    out["shape_r"] = rows["shape_r"].astype(np.float64)
    out["e"] = np.hypot(rows["e1"], rows["e2"]).astype(np.float64)
    return out
