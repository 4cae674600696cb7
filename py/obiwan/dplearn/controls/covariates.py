"""Covariates: physical quantities of examples, taken in the same way for both classes.

They describe the sample: a classifier that sees only these says whether the two classes were drawn from one
population, AUC is shown against them, and they can be held equal.  What only one class has, or has in another
way, is not among them: distances to the truth, runs, ids, flags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.cutouts import centre_pixel
from obiwan.dplearn.trainingset.examples import FLAG_PADDED
from obiwan.dplearn.trainingset.visibility import same_fit

Columns = dict[str, Array]

STANDARD_SIZE = 3600  #: pixels on a side of a Legacy Survey brick's coadd
#: Column of a measurement that a covariate is.
_COLUMNS = {"phase_x": "phase_x", "phase_y": "phase_y", "neighbours": "peaks", "nearest": "nearest"}
MEASURED = tuple(_COLUMNS.values())
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


@dataclass(frozen=True, eq=False)
class Covariates(Mapping[str, Array]):
    """Physical quantities of examples, by key in the order of `quantities`; each is made when asked for.

    Values are float64, shape (n,).  Magnitudes are corrected for extinction; depths are 5 sigma for a point
    source; what is not known is NaN.  Where `same_fit` says no, all that is fitted is NaN.

    Attributes
    ----------
    rows : structured ndarray, shape (n,)
        Rows of the example table.
    measured : structured ndarray, shape (n,)
        With the columns `MEASURED` of `obiwan.dplearn.controls.measure.measure_dtype`.
    spec : StampSpec
    size : int
        Pixels on a side of the coadds.
    one_origin : bool
        Whether fitted quantities have one origin.
    """

    rows: Array
    measured: Array
    spec: StampSpec
    size: int
    one_origin: bool

    @classmethod
    def of(cls, rows: Array, measured: Array, spec: StampSpec) -> Covariates:
        """Covariates of examples; the coadds' size and the origin of fits are those of these examples."""
        return cls(rows, measured, spec, coadd_size(rows, spec), same_fit(rows))

    def take(self, chosen: Array | slice) -> Covariates:
        """The same of some examples."""
        return replace(self, rows=self.rows[chosen], measured=self.measured[chosen])

    def __iter__(self) -> Iterator[str]:
        """Keys, in the order of `quantities`."""
        return (one.key for one in quantities(self.spec))

    def __len__(self) -> int:
        """Number of quantities."""
        return len(quantities(self.spec))

    def __getitem__(self, key: str) -> Array:
        """Values of one quantity."""
        found = {one.key: one for one in quantities(self.spec)}[key]
        if found.fitted and not self.one_origin:
            return np.full(len(self.rows), np.nan)
        return np.asarray(self._values(key, found.name), np.float64)

    def _values(self, key: str, name: str) -> Array:
        """Values of a quantity, given its key and name."""
        rows = self.rows
        if key == "sn":
            flux, ivar = (self.spec.per_band(rows, stem) for stem in ("flux", "flux_ivar"))
            return np.asarray(np.sqrt(np.sum(flux.astype(np.float64) ** 2 * ivar, axis=-1)))
        if key == "e":
            return np.asarray(np.hypot(rows["e1"], rows["e2"]))
        if key == "edge":
            return edge_distance(rows, self.size)
        if name == "depth":
            with np.errstate(divide="ignore"):
                return np.asarray(22.5 - 2.5 * np.log10(5 * (1 / np.sqrt(_positive(rows[key])))))
        if name in ("PSF width", "exposures"):
            return _positive(rows[key])
        if key in _COLUMNS:
            return np.asarray(self.measured[_COLUMNS[key]])
        colours = {f"{blue}_{red}": (f"mag_{blue}", f"mag_{red}") for blue, red in self.spec.colours}
        first, *second = colours.get(key, (key,))
        values = rows[first].astype(np.float64)
        return np.asarray(values - rows[second[0]] if second else values)


def covariates(rows: Array, measured: Array, spec: StampSpec) -> Columns:
    """All `Covariates` of examples."""
    return dict(Covariates.of(rows, measured, spec))


def coadd_size(rows: Array, spec: StampSpec) -> int:
    """Pixels on a side of the coadds that examples were cut from, as far as their positions tell.

    Standard coadds have 3600.  Of smaller ones (the mock's, test regions) it is the end of the last stamp,
    which is the coadd's within a few pixels once there are hundreds of examples.
    """
    if not len(rows):
        return spec.size
    inside = rows["flags"] & FLAG_PADDED == 0
    used, beyond = (inside, spec.size - spec.centre) if inside.any() else (slice(None), 1)
    last = max(int(centre_pixel(rows[axis][used]).max()) for axis in ("x", "y")) + beyond
    return STANDARD_SIZE if last > _NEARLY else last


def edge_distance(rows: Array, size: int) -> Array:
    """Distance of each example to the nearest edge of its coadd (px), which has so many pixels on a side."""
    end = size - 0.5
    distances = [distance for axis in ("x", "y") for distance in (rows[axis] + 0.5, end - rows[axis])]
    return np.asarray(np.min(distances, axis=0), np.float64)


def _positive(values: Array) -> Array:
    """Float64, NaN where not positive: bands without data hold 0."""
    values = values.astype(np.float64)
    return np.where(values > 0, values, np.nan)
