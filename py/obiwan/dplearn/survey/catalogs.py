"""Tractor catalogues and truth tables of every flavour, read into one `Sources` record.

With `tables` the only module that knows column names.  Fluxes are *observed* nanomaggies (Galactic
extinction not removed), positions are ICRS degrees, sizes arcsec, as in the catalogues.

Sources of the names: the Legacy Survey catalogue descriptions (DR3 to DR10), legacypipe DR11.1.0
``format_catalog.py``, obiwan ``kenobi.py`` and legacysim ``catalog.py``.  Column names are compared without
case: documentation of DR3 and the sweeps use capitals, pipeline files do not.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fitsio
import numpy as np

from obiwan.dplearn.errors import CatalogError
from obiwan.dplearn.files.fits import check_not_truncated, reading
from obiwan.dplearn.stampspec import FILTERS, Array
from obiwan.dplearn.survey.sources import PER_BAND, Sources, blank_sources

SIMP_RADIUS = 0.45  #: arcsec; the fixed half-light radius of tractor's SIMP model
_SPELLINGS = tuple(f"{prefix}{stem}_{{}}" for prefix in ("", "decam_") for stem in PER_BAND[:3])
_NO_SOURCES = ("DUP", "NUN")  # a Gaia source dropped in favour of a galaxy, a source without a model
_SERSIC_OF_TYPE = {"PSF": 0.0, "SIMP": 1.0, "REX": 1.0, "EXP": 1.0, "DEV": 4.0}


class _Columns:
    """Case-blind access to the columns of one FITS table, read on demand."""

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        with self.explained(), fitsio.FITS(str(path)) as file:
            tables = [hdu for hdu in file if hdu.get_exttype() in {"BINARY_TBL", "ASCII_TBL"}]
            if not tables:
                msg = f"{path}: empty catalogue: the {what} holds no table; {self._remedy}"
                raise CatalogError(msg)
            check_not_truncated(file, path)
            self.header = dict(file[0].read_header())
            names = tables[0].get_colnames()
            self._column_of = {name.lower(): name for name in names}
            wanted = [name for name in names if _wanted(name.lower())]
            self._table = tables[0].read(columns=wanted) if wanted and tables[0].get_nrows() else None

    def explained(self) -> AbstractContextManager[None]:
        """Within it, whatever a decoder or a conversion raises becomes one line with file and remedy."""
        return reading(f"{self.path}: cannot read the {self.what}", self._remedy, CatalogError)

    _remedy = "restore the file, or leave the brick out with --bricks"

    def __len__(self) -> int:
        return 0 if self._table is None else len(self._table)

    def __contains__(self, name: str) -> bool:
        return name in self._column_of

    def get(self, *names: str) -> Array | None:
        """Return the first of these columns that is there, in native byte order."""
        for name in names:
            if name in self:
                if self._table is None:
                    return np.empty(0)
                return self._checked(name, np.asarray(self._table[self._column_of[name]]))
        return None

    def _checked(self, name: str, values: Array) -> Array:
        """Return a column in native byte order; raise `CatalogError` if it is not of its kind."""
        stem = name.removeprefix("decam_")
        kinds, what = ("SU", "text") if stem in _TEXT else ("biuf", "numbers")
        if values.dtype.kind not in kinds or values.ndim > (2 if stem in _STEMS else 1):
            msg = f"{self.path}: column {name} in the {self.what} is not {what}, one a row; {self._remedy}"
            raise CatalogError(msg)
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    def need(self, *names: str) -> Array:
        values = self.get(*names)
        if values is None:
            msg = f"{self.path}: the {self.what} has no column {' or '.join(names)}; {self._remedy}"
            raise CatalogError(msg)
        return values

    def need_position(self, name: str) -> Array:
        """Return ``ra`` or ``dec`` in degrees, every one of them a number."""
        values = self.need(name)
        if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            msg = (
                f"{self.path}: {name} in the {self.what} is not a finite number in every row; {self._remedy}"
            )
            raise CatalogError(msg)
        if name == "dec" and (np.abs(values.astype(np.float64)) > 90).any():
            msg = f"{self.path}: dec in the {self.what} is beyond 90 degrees; {self._remedy}"
            raise CatalogError(msg)
        return values.astype(np.float64)

    def filters(self, *spellings: str) -> tuple[str, ...]:
        """The bands of which there is a column in one of these spellings, such as ``flux_{}``."""
        return tuple(band for band in FILTERS if any(name.format(band.lower()) in self for name in spellings))

    def of_band(self, stem: str, band: str) -> Array | None:
        """A quantity in one band as floats, in any of the three spellings there have been."""
        if f"decam_{stem}" in self:  # DR3: vectors over ugrizY
            wide = self.need(f"decam_{stem}")
            return wide.reshape(len(self), len(FILTERS))[:, FILTERS.index(band)].astype(np.float64)
        column = self.get(f"{stem}_{band}".lower(), f"decam_{stem}_{band}".lower())
        return None if column is None else column.astype(np.float64)

    def per_band(self, stem: str, bands: tuple[str, ...], *, needed: bool = False) -> Array:
        """A quantity, shape (n, bands); NaN where there is no column, or an error if it is needed."""
        out = np.full((len(self), len(bands)), np.nan)
        for i, band in enumerate(bands):
            values = self.of_band(stem, band)
            if values is None and needed:
                self.need(f"{stem}_{band}".lower())
            out[:, i] = np.nan if values is None else values
        return out


_STEMS = (*PER_BAND, "depth")  # psfdepth is depth in DR3
_PLAIN = frozenset(
    {
        "objid", "id", "ids", "ra", "dec", "type", "brick_primary", "ebv", "maskbits", "fitbits",
        "sersic", "n", "shape_r", "shape_e1", "shape_e2", "shapeexp_r", "shapeexp_e1",
        "shapeexp_e2", "shapedev_r", "shapedev_e1", "shapedev_e2", "fracdev", "rhalf", "e1", "e2",
        "collided", "camera", *(f"{band}flux".lower() for band in FILTERS),
    }
)  # fmt: skip


_TEXT = frozenset({"type", "camera"})


def _wanted(name: str) -> bool:
    """Whether a column is worth reading: tractor rows are a kilobyte wide."""
    name = name.removeprefix("decam_")
    stem, _, band = name.rpartition("_")
    return name in _PLAIN or name in _STEMS or (stem in _STEMS and band in map(str.lower, FILTERS))


def _floats(values: Array | None, default: Array) -> Array:
    return default if values is None else values.astype(np.float64)


def _text(values: Array) -> Array:
    """Type names as clean capitals: bytes, blanks and case differ between releases."""
    if values.dtype.kind == "S":
        values = np.char.decode(values, "ascii", "replace")
    return np.char.upper(np.char.strip(values.astype("U8"))).astype("U4")


def signed(values: Array, path: Path, what: str) -> Array:
    """Return whole numbers as int64; raise `CatalogError` where that would change one."""
    limit = 2**53 if values.dtype.kind == "f" else 2**63 - 1  # floats are exact up to there
    if len(values) and (values.max() > limit or (values.dtype.kind != "u" and values.min() < -limit)):
        msg = f"{path}: {what} are beyond {limit}, where numbers would change; number them anew"
        raise CatalogError(msg)
    return values.astype(np.int64)


def unique_ids(ids: Array, path: Path, what: str) -> Array:
    """Return ids as int64; raise `CatalogError` if they are no such integers or one occurs twice."""
    if len(ids) and not (ids.dtype.kind in "iu" or (ids.dtype.kind == "f" and np.all(ids == np.floor(ids)))):
        msg = f"{path}: the ids in the {what} are not integers"
        raise CatalogError(msg)
    ids = signed(ids, path, f"the ids in the {what}")
    unique, count = np.unique(ids, return_counts=True)
    if len(unique) != len(ids):
        twice = ", ".join(str(i) for i in unique[count > 1][:5])
        msg = f"{path}: duplicate ids in the {what} ({twice}); ids must be unique within a brick and run"
        raise CatalogError(msg)
    return ids


def _tractor_shapes(columns: _Columns, types: Array) -> dict[str, Any]:
    """Half-light radius, ellipticity and Sersic index, from DR9 columns or from the older pairs."""
    n = len(types)
    sersic_of_type = np.array([_SERSIC_OF_TYPE.get(str(t), np.nan) for t in types]).reshape(n)
    if "shape_r" in columns:
        shapes = {
            "shape_r": _floats(columns.get("shape_r"), np.full(n, np.nan)),
            "e1": _floats(columns.get("shape_e1"), np.full(n, np.nan)),
            "e2": _floats(columns.get("shape_e2"), np.full(n, np.nan)),
            "sersic": _floats(columns.get("sersic"), sersic_of_type),
        }
    else:
        columns.need("shapeexp_r")
        columns.need("shapedev_r")
        fraction = np.where(types == "DEV", 1.0, 0.0)
        fraction = np.where(types == "COMP", _floats(columns.get("fracdev"), np.full(n, 0.5)), fraction)
        shapes = {
            name: (1 - fraction) * _floats(columns.get(f"shapeexp_{old}"), np.full(n, np.nan))
            + fraction * _floats(columns.get(f"shapedev_{old}"), np.full(n, np.nan))
            for name, old in (("shape_r", "r"), ("e1", "e1"), ("e2", "e2"))
        }
        shapes["sersic"] = sersic_of_type
    shapes["shape_r"] = np.where(types == "SIMP", SIMP_RADIUS, shapes["shape_r"])
    shapes["shape_r"] = np.where(np.isin(types, ("PSF", "DUP")), 0.0, shapes["shape_r"])
    return shapes


@dataclass(frozen=True)
class Catalog:
    """A table with what its header says.

    Attributes
    ----------
    sources : Sources
    path : Path
    command : str
        The command line that the pipeline recorded, or nothing.
    dr9_columns : bool
        Whether the tractor columns are those of DR9 and later.
    header : dict
        Keywords of the primary header.
    """

    sources: Sources
    path: Path
    command: str = ""
    dr9_columns: bool = False
    header: dict[str, Any] | None = None


def read_tractor(path: Path) -> Catalog:
    """Read a tractor catalogue of any release, DR3 to DR11, in all bands that it has.

    Rows without a model (DUP, a Gaia source dropped in favour of a galaxy; NUN) are left out: they are
    entries of the table, not sources of the fit.

    Raises
    ------
    CatalogError
        If the file is unreadable, empty of tables, lacks a column, or repeats an objid.
    """
    columns = _Columns(path, "tractor catalogue")
    with columns.explained():
        return _tractor(columns)


def _tractor(columns: _Columns) -> Catalog:
    path, types = columns.path, _text(columns.need("type"))
    bands = FILTERS if "decam_flux" in columns else columns.filters(*_SPELLINGS)
    if not bands:
        msg = (
            f"{path}: the tractor catalogue has no column flux_g, or of any other band; "
            "it is none of the known flavours (DR3 to DR11)"
        )
        raise CatalogError(msg)
    blank = blank_sources(len(types), bands)
    nobs, maskbits, primary = (
        columns.per_band("nobs", bands),
        columns.get("maskbits"),
        columns.get("brick_primary"),
    )
    depth = columns.per_band("psfdepth", bands)
    ids = columns.get("objid", "id")
    sources = replace(
        blank,
        id=unique_ids(blank.id if ids is None else ids, path, "tractor catalogue"),
        ra=columns.need_position("ra"),
        dec=columns.need_position("dec"),
        type=types,
        flux=columns.per_band("flux", bands, needed=True),
        flux_ivar=columns.per_band("flux_ivar", bands, needed=True),
        mw_transmission=columns.per_band("mw_transmission", bands, needed=True),
        nobs=np.where(np.isnan(nobs), -1, nobs).astype(np.int32),
        psfsize=columns.per_band("psfsize", bands),
        psfdepth=np.where(np.isnan(depth), columns.per_band("depth", bands), depth),
        ebv=_floats(columns.get("ebv"), blank.ebv),
        maskbits=blank.maskbits if maskbits is None else maskbits.astype(np.int32),
        primary=blank.primary if primary is None else primary.astype(bool),
        **_tractor_shapes(columns, types),
    )
    return Catalog(
        sources.take(~np.isin(sources.type, _NO_SOURCES)),
        path,
        command=str(columns.header.get("CMDLINE", "")),
        dr9_columns="fitbits" in columns,
        header=columns.header,
    )


def _truth_types(radius: Array, sersic: Array) -> Array:
    """The tractor type of the profile that was injected."""
    types = np.full(len(radius), "SER", dtype="U4")
    types[sersic == 1] = "EXP"
    types[sersic == 4] = "DEV"
    types[(sersic == 0) | (radius == 0)] = "PSF"
    return types


def read_truth(path: Path, ids_added: Path | None = None) -> Catalog:
    """Read a table of injected sources: obiwan simcat, obiwan_code simcat or legacysim injected.

    Parameters
    ----------
    path : Path
        The truth table.
    ids_added : Path, optional
        The original obiwan's ``sim_ids_added.fits``: ids with at least one pixel on a CCD.
        Where the file exists, only those rows count as injected.

    Raises
    ------
    CatalogError
        If the file is unreadable, empty of tables, lacks a column, or repeats an id.
    """
    columns = _Columns(path, "truth table")
    with columns.explained():
        return _truth(columns, ids_added)


def _truth(columns: _Columns, ids_added: Path | None) -> Catalog:
    path = columns.path
    ids = unique_ids(columns.need("id"), path, "truth table")
    n, bands = len(ids), columns.filters("{}flux", "flux_{}")
    if not bands:
        columns.need("gflux", "flux_g")
    blank = blank_sources(n, bands)
    fluxes = [columns.need(f"{band}flux".lower(), f"flux_{band}".lower()) for band in bands]
    # Stars of the original obiwan have no shape columns at all.
    radius = _floats(columns.get("rhalf", "shape_r"), np.zeros(n))
    sersic = _floats(columns.get("n", "sersic"), np.zeros(n))
    injected = np.ones(n, dtype=bool)
    collided = columns.get("collided")
    if collided is not None:
        injected &= ~collided.astype(bool)
    if ids_added is not None and ids_added.is_file():
        injected &= np.isin(ids, _Columns(ids_added, "table of added ids").need("id"))
    sources = replace(
        blank,
        id=ids,
        ra=columns.need_position("ra"),
        dec=columns.need_position("dec"),
        type=_truth_types(radius, sersic),
        flux=np.stack(fluxes, axis=1).astype(np.float64),
        mw_transmission=columns.per_band("mw_transmission", bands),
        shape_r=radius,
        e1=_floats(columns.get("e1", "shape_e1"), np.zeros(n)),
        e2=_floats(columns.get("e2", "shape_e2"), np.zeros(n)),
        sersic=sersic,
        ebv=_floats(columns.get("ebv"), blank.ebv),
        injected=injected,
    )
    return Catalog(sources, path, command=str(columns.header.get("CMDLINE", "")), header=columns.header)


def read_cameras(path: Path) -> set[str]:
    """Cameras named in a brick's CCD table; empty where there is no table."""
    if not path.is_file():
        return set()
    cameras = _Columns(path, "CCD table").get("camera")
    if cameras is None or not len(cameras):
        return set()
    text = np.char.decode(cameras, "ascii", "replace") if cameras.dtype.kind == "S" else cameras
    return {str(camera).strip().lower() for camera in text}
