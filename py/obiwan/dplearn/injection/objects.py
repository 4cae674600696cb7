"""Objects to inject: columns of a table or of a user's function, in the units of the coadds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from astropy.table import Table

from obiwan.dplearn.errors import CatalogError
from obiwan.dplearn.injection.scene import Scene
from obiwan.dplearn.stampspec import FILTERS, Array
from obiwan.dplearn.survey.catalogs import unique_ids
from obiwan.dplearn.survey.rendering import along_major
from obiwan.dplearn.survey.tables import integers, numbers

SHAPES = ("sersic", "shape_r", "shape_e1", "shape_e2")
_FLUXES = {f"flux_{band}".lower(): f"flux_{band}" for band in FILTERS}
_MAGNITUDES = {f"mag_{band}".lower(): f"mag_{band}" for band in FILTERS}
PLACES = ("ra", "dec")
_UNITS = {
    **dict.fromkeys(PLACES, "deg"),
    **dict.fromkeys(_FLUXES, "nmgy"),
    **dict.fromkeys(_MAGNITUDES, "mag"),
    **{f"mw_transmission_{band}".lower(): "" for band in FILTERS},
    **dict.fromkeys(SHAPES, ""),
    "shape_r": "arcsec",
}
KNOWN = ("id", *_UNITS)
_REMEDY = "correct it or leave the row out"


def core_dtype(bands: Sequence[str]) -> list[tuple[str, str]]:
    """Columns that the objects of any source have."""
    numbers_ = ("ra", "dec", "x", "y", *(f"flux_{band}" for band in bands), *SHAPES)
    return [("id", "i8"), *((name, "f8") for name in numbers_)]


@dataclass(frozen=True)
class Objects:
    """Columns of a table of objects, before anything is known of a brick.

    Attributes
    ----------
    origin : str
        How messages name it.
    columns : dict
        Arrays of equal length; the known ones have names in lower case, and the units of
        `obiwan.dplearn.injection.sources`.
    rows : ndarray of int, or None
        Their numbers in the user's table, from 1; None: they are in its order.
    """

    origin: str
    columns: dict[str, Array]
    rows: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def placed(self) -> bool:
        """Whether they have positions."""
        return set(PLACES) <= self.columns.keys()

    @property
    def numbers(self) -> Array:
        """Number, from 1, of each in the user's table."""
        return np.arange(1, len(self) + 1) if self.rows is None else self.rows

    def take(self, rows: Array) -> Objects:
        """Rows by index or mask."""
        taken = {name: values[rows] for name, values in self.columns.items()}
        return Objects(self.origin, taken, self.numbers[rows])

    def with_columns(self, **columns: Array) -> Objects:
        """With more columns, or others."""
        return replace(self, columns={**self.columns, **columns})


def objects_of(origin: str, table: Table, where: str = "") -> Objects:
    """Columns of a table, known ones as numbers in the units of `obiwan.dplearn.injection.sources`.

    Parameters
    ----------
    origin : str
        How messages name the table.
    table : Table
    where : str
        The brick, for messages, where it is known.

    Raises
    ------
    CatalogError
        If a column that is known is not numbers, or of another unit, or only one of ra and dec is there.
    """
    columns: dict[str, Array] = {}
    for name in table.colnames:
        known = name.lower() if name.lower() in KNOWN else name
        if known in columns:
            msg = f"{origin}: columns of the name {known} differ in case alone; remove or rename all but one"
            raise CatalogError(msg)
        if known == "id":
            columns[known] = integers(Path(origin), name, table[name])
        elif known in _UNITS:
            columns[known] = numbers(Path(origin), name, table[name], _UNITS[known])
        else:
            values = np.ma.asarray(getattr(table[name], "value", table[name]))
            if values.dtype != object:
                columns[known] = np.ma.filled(values)
    if not columns:
        msg = f"{origin}: no column that can be used; {_REMEDY}"
        raise CatalogError(msg)
    for band in FILTERS:
        if f"flux_{band}".lower() in columns and f"mag_{band}".lower() in columns:
            msg = (
                f"{origin}: flux_{band} and mag_{band} are both there; remove one (fluxes are observed ones)"
            )
            raise CatalogError(msg)
    if sum(name in columns for name in PLACES) == 1:
        msg = f"{origin}: the table has one of ra and dec; give both, or neither for random positions"
        raise CatalogError(msg)
    found = Objects(origin, columns)
    for name in PLACES if found.placed else ():
        refuse(
            found, ~(np.abs(columns[name]) <= (90 if name == "dec" else 360)), f"{name} is no position", where
        )
    return found


def refuse(objects: Objects, bad: Array, fault: str, where: str = "") -> None:
    """Raise an error that names the first bad row, by its number in the user's table, and a brick."""
    if bad.any():
        row, origin = int(objects.numbers[bad][0]), ": ".join(filter(None, (objects.origin, where)))
        more = f" ({np.count_nonzero(bad)} such rows)" if np.count_nonzero(bad) > 1 else ""
        msg = f"{origin}: row {row}: {fault}{more}; {_REMEDY}"
        raise CatalogError(msg)


def settled(objects: Objects, scene: Scene, needs: frozenset[str] = frozenset()) -> Array:
    """Objects with positions as a structured array of `core_dtype`, and of their other columns.

    Parameters
    ----------
    objects : Objects
    scene : Scene
        Whose WCS gives pixels, and whose catalogue the extinction of magnitudes.
    needs : frozenset of str
        As for `obiwan.dplearn.injection.sources.open_sources`.

    Raises
    ------
    CatalogError
        If a needed column is absent, or a number of it is not finite.
    """
    columns = objects.columns
    origin, n, core = f"{objects.origin}: {scene.run.label}", len(objects), core_dtype(scene.bands)
    fault = partial(refuse, objects, where=scene.run.label)
    lower = {name for name, _ in core} | {*_FLUXES, *_MAGNITUDES}
    others = [(name, values.dtype, values.shape[1:]) for name, values in columns.items() if name not in lower]
    out = np.zeros(n, dtype=[*core, *others])
    out["id"] = columns.get("id", objects.numbers - 1)
    out["ra"], out["dec"] = columns["ra"] % 360, columns["dec"]
    out["x"], out["y"] = scene.frame.pixels(out["ra"], out["dec"])
    transmission = scene.near("mw_transmission", out["ra"], out["dec"])
    for k, band in enumerate(scene.bands):
        flux = _flux(columns, band, transmission[:, k])
        if flux is None and "flux" in needs:
            msg = f"{origin}: no column flux_{band} or mag_{band}; add it, or leave the band out with --bands"
            raise CatalogError(msg)
        out[f"flux_{band}"] = np.nan if flux is None else flux
        if flux is not None:
            fault(
                ~np.isfinite(flux),
                f"flux_{band} or mag_{band} gives no finite flux (magnitudes need the release's extinction)",
            )
    for name in sorted(needs - {"flux", *SHAPES}):
        if name not in columns and any(f"{name}_{band}" not in columns for band in scene.bands):
            msg = f"{origin}: no column {name}; add it, or one for each band, such as {name}_{scene.bands[0]}"
            raise CatalogError(msg)
    for name in SHAPES:
        if name in needs and name not in columns:
            msg = f"{origin}: no column {name}; add it, or choose a --model without it (star)"
            raise CatalogError(msg)
        out[name] = columns.get(name, 0.0)
        fault(~np.isfinite(out[name]), f"{name} is not a finite number")
    fault(out["shape_r"] < 0, "shape_r is negative")
    fault(~(np.hypot(out["shape_e1"], out["shape_e2"]) < 1), "its ellipticity is not below 1")
    for name, *_ in others:
        out[name] = columns[name]
    unique_ids(out["id"], Path(objects.origin), f"objects of {scene.run.label}")
    return out


def _flux(columns: Mapping[str, Array], band: str, transmission: Array) -> Array | None:
    """Observed fluxes of a band, from fluxes or dereddened magnitudes; None where there are neither."""
    names = (f"{stem}_{band}".lower() for stem in ("flux", "mag", "mw_transmission"))
    flux, mag, own = (columns.get(name) for name in names)
    if flux is None and mag is not None:
        flux = 10 ** (-0.4 * (mag - 22.5)) * (transmission if own is None else own)
    return flux


def tractor_shape(radius: Array, e1: Array, e2: Array) -> tuple[Array, Array, Array]:
    """Tractor's shape of a galaxy that the original obiwan drew.

    Its truth has the half-light radius of the round galaxy, and the distortion ``(1 - q**2) / (1 + q**2)``
    that GalSim sheared it by, in the pixel frame (obiwan ``kenobi.py``); the shear keeps the area.

    Parameters
    ----------
    radius, e1, e2 : ndarray, shape (n,)
        Arcsec, and components of the distortion.

    Returns
    -------
    shape_r, shape_e1, shape_e2 : ndarray, shape (n,)
    """
    factor = -1 / (1 + np.sqrt(np.maximum(1 - e1**2 - e2**2, 0)))
    return along_major(radius, factor * e1, factor * e2), factor * e1, factor * e2
