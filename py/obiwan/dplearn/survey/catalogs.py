"""Tractor catalogues and truth tables of every flavour, read into one `Sources` record.

With `tables` the only module that knows column names.  Fluxes are *observed* nanomaggies (Galactic
extinction not removed), positions are ICRS degrees, sizes arcsec, as in the catalogues.

Sources of the names: the Legacy Survey catalogue descriptions (DR3 to DR10), legacypipe DR11.1.0
``format_catalog.py``, obiwan ``kenobi.py`` and legacysim ``catalog.py``.  Column names are compared without
case: documentation of DR3 and the sweeps use capitals, pipeline files do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.errors import CatalogError
from obiwan.dplearn.files.fits import check_not_truncated, open_fits, reading
from obiwan.dplearn.stampspec import FILTERS, Array
from obiwan.dplearn.survey.sources import PER_BAND, Sources, blank_sources

SIMP_RADIUS = 0.45  #: arcsec; the fixed half-light radius of tractor's SIMP model
_SPELLINGS = tuple(f"{prefix}{stem}_{{}}" for prefix in ("", "decam_") for stem in PER_BAND[:3])
MADE_BY = "CATALOG"  #: card of a catalogue that tractor did not make: the program, and its version
TRACTOR, SEP = "tractor", "sep"  #: programs that make catalogues
_NO_SOURCES = ("DUP", "NUN")  # a Gaia source dropped in favour of a galaxy, a source without a model
_SERSIC_OF_TYPE = {"PSF": 0.0, "SIMP": 1.0, "REX": 1.0, "EXP": 1.0, "DEV": 4.0}


_REMEDY = "restore the file, or leave the brick out with --bricks"
_STEMS = (*PER_BAND, "depth")  # psfdepth is depth in DR3
_PLAIN = frozenset(
    {
        "objid", "id", "ids", "ra", "dec", "type", "brick_primary", "ebv", "maskbits", "fitbits",
        "sersic", "n", "fracdev", "rhalf", "e1", "e2", "collided", "camera", "expnum",
        *(f"{band}flux".lower() for band in FILTERS),
        *(f"shape{profile}_{part}" for profile in ("", "exp", "dev") for part in ("r", "e1", "e2")),
    }
)  # fmt: skip


def _wanted(name: str) -> bool:
    """Whether a column is worth reading: tractor rows are a kilobyte wide."""
    name = name.removeprefix("decam_")
    stem, _, band = name.rpartition("_")
    return name in _PLAIN or name in _STEMS or (stem in _STEMS and band in map(str.lower, FILTERS))


@dataclass(frozen=True)
class _Table:
    """The wanted columns of a FITS table by their lower-case names, and the cards of its primary header."""

    path: Path
    what: str
    rows: int
    columns: dict[str, Array]
    header: dict[str, Any]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def need(self, *names: str) -> Array:
        """The first of these columns that is there, or an error."""
        for name in names:
            if name in self.columns:
                return self.columns[name]
        msg = f"{self.path}: the {self.what} has no column {' or '.join(names)}; {_REMEDY}"
        raise CatalogError(msg)

    def get(self, default: Array, *names: str) -> Array:
        """The first of these columns that is there, in the type of a default, or that."""
        present = [self.columns[name] for name in names if name in self.columns]
        return present[0].astype(default.dtype) if present else default

    def need_position(self, name: str) -> Array:
        """``ra`` or ``dec`` in degrees, every one of them a number."""
        values = self.need(name).astype(np.float64)
        most = 90 if name == "dec" else np.inf
        if not (np.isfinite(values) & (np.abs(values) <= most)).all():
            msg = (
                f"{self.path}: {name} in the {self.what} is not a finite number in every row, or beyond 90 "
                f"degrees; {_REMEDY}"
            )
            raise CatalogError(msg)
        return values

    def filters(self, *spellings: str) -> tuple[str, ...]:
        """The bands of which there is a column in one of these spellings, such as ``flux_{}``."""
        return tuple(band for band in FILTERS if any(name.format(band.lower()) in self for name in spellings))

    def per_band(self, stem: str, bands: tuple[str, ...], *, needed: bool = False) -> Array:
        """A quantity, shape (n, bands), in any of the three spellings there have been.

        NaN where there is no column, or an error if it is needed.
        """
        if f"decam_{stem}" in self:  # DR3: vectors over ugrizY
            wide = self.columns[f"decam_{stem}"].reshape(self.rows, len(FILTERS))
            return wide[:, [FILTERS.index(band) for band in bands]].astype(np.float64)
        unknown, columns = np.full(self.rows, np.nan), []
        for band in bands:
            names = (f"{stem}_{band}".lower(), f"decam_{stem}_{band}".lower())
            columns.append(self.need(*names).astype(np.float64) if needed else self.get(unknown, *names))
        return np.array(columns).reshape(len(bands), self.rows).T


@contextmanager
def open_table(path: Path, what: str) -> Iterator[_Table]:
    """A table; whatever a decoder or a conversion raises within is one line with file and remedy."""
    with reading(f"{path}: cannot read the {what}", _REMEDY, CatalogError), open_fits(path) as file:
        tables = [hdu for hdu in file if hdu.get_exttype() in {"BINARY_TBL", "ASCII_TBL"}]
        if not tables:
            msg = f"{path}: empty catalogue: the {what} holds no table; {_REMEDY}"
            raise CatalogError(msg)
        check_not_truncated(file, path)
        names = [name for name in tables[0].get_colnames() if _wanted(name.lower())]
        n = tables[0].get_nrows()
        table = tables[0].read(columns=names) if names and n else None
        columns = {name.lower(): np.empty(0) if table is None else np.array(table[name]) for name in names}
        yield _Table(path, what, n, columns, dict(file[0].read_header()))


def decoded(values: Array) -> Array:
    """A column of text as it is, or as bytes are read."""
    return np.char.decode(values, "ascii", "replace") if values.dtype.kind == "S" else values.astype("U")


def _text(values: Array) -> Array:
    """Type names as clean capitals: bytes, blanks and case differ between releases."""
    return np.char.upper(np.char.strip(decoded(values).astype("U8"))).astype("U4")


def signed(values: Array, path: Path, what: str) -> Array:
    """Whole numbers as int64; raises `CatalogError` where that would change one."""
    limit = 2**53 if values.dtype.kind == "f" else 2**63 - 1  # floats are exact up to there
    if len(values) and (values.max() > limit or (values.dtype.kind != "u" and values.min() < -limit)):
        msg = f"{path}: {what} are beyond {limit}, where numbers would change; number them anew"
        raise CatalogError(msg)
    return values.astype(np.int64)


def unique_ids(ids: Array, path: Path, what: str) -> Array:
    """Ids as int64; raises `CatalogError` if they are no such integers or one occurs twice."""
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


def _tractor_shapes(table: _Table, types: Array) -> dict[str, Any]:
    """Half-light radius, ellipticity and Sersic index, from DR9 columns or from the older pairs."""
    unknown = np.full(len(types), np.nan)
    sersic = np.array([_SERSIC_OF_TYPE.get(str(t), np.nan) for t in types]).reshape(len(types))

    def measured(profile: str) -> Array:
        """Rows of radius and both ellipticities."""
        return np.stack([table.get(unknown, f"shape{profile}_{part}") for part in ("r", "e1", "e2")])

    if "shape_r" in table:
        found, sersic = measured(""), table.get(sersic, "sersic")
    else:
        table.need("shapeexp_r")
        table.need("shapedev_r")
        fraction = np.where(types == "DEV", 1.0, 0.0)
        fraction = np.where(types == "COMP", table.get(np.full(len(types), 0.5), "fracdev"), fraction)
        found = (1 - fraction) * measured("exp") + fraction * measured("dev")
    shapes = dict(zip(("shape_r", "e1", "e2"), found, strict=True))
    shapes["shape_r"] = np.where(types == "SIMP", SIMP_RADIUS, shapes["shape_r"])
    shapes["shape_r"] = np.where(np.isin(types, ("PSF", "DUP")), 0.0, shapes["shape_r"])
    return {**shapes, "sersic": sersic}


@dataclass(frozen=True)
class Catalog:
    """A table with what its header says.

    Attributes
    ----------
    sources : Sources
    header : dict
        Keywords of the primary header.
    dr9_columns : bool
        Whether the tractor columns are those of DR9 and later.
    """

    sources: Sources
    header: dict[str, Any]
    dr9_columns: bool = False

    @property
    def maker(self) -> str:
        """Program that made it: `TRACTOR` or `SEP`, whose sources have no types."""
        return made_by(self.header)

    @property
    def command(self) -> str:
        """The command line that the pipeline recorded, or nothing."""
        return str(self.header.get("CMDLINE", ""))


def made_by(header: Mapping[str, Any]) -> str:
    """Program that made a catalogue, by the header of its file."""
    return SEP if str(header.get(MADE_BY, "")).split()[:1] == [SEP] else TRACTOR


def read_maker(path: Path) -> str:
    """Program that made a catalogue, of which only the header is read.

    Raises
    ------
    CatalogError
        If the file is unreadable.
    """
    with reading(f"{path}: cannot read the header", _REMEDY, CatalogError), open_fits(path) as file:
        return made_by(dict(file[0].read_header()))


def read_tractor(path: Path) -> Catalog:
    """Read a tractor catalogue of any release, DR3 to DR11, or one of sep, in all bands that it has.

    Sources of sep have no type (empty) and no Sersic index; their radius is that of half the light as the
    image has it, PSF included.

    Rows without a model (DUP, a Gaia source dropped in favour of a galaxy; NUN) are left out: they are
    entries of the table, not sources of the fit.

    Raises
    ------
    CatalogError
        If the file is unreadable, empty of tables, lacks a column, or repeats an objid among its sources.
    """
    with open_table(path, "tractor catalogue") as table:
        typed = made_by(table.header) == TRACTOR
        types = _text(table.need("type")) if typed else np.full(table.rows, "", "U4")
        bands = FILTERS if "decam_flux" in table else table.filters(*_SPELLINGS)
        if not bands:
            msg = (
                f"{path}: the tractor catalogue has no column flux_g, or of any other band; "
                "it is none of the known flavours (DR3 to DR11)"
            )
            raise CatalogError(msg)
        blank = blank_sources(len(types), bands)
        nobs, depth = table.per_band("nobs", bands), table.per_band("psfdepth", bands)
        sources = replace(
            blank,
            ra=table.need_position("ra"),
            dec=table.need_position("dec"),
            type=types,
            flux=table.per_band("flux", bands, needed=True),
            flux_ivar=table.per_band("flux_ivar", bands, needed=True),
            mw_transmission=table.per_band("mw_transmission", bands, needed=True),
            nobs=np.where(np.isnan(nobs), -1, nobs).astype(np.int32),
            psfsize=table.per_band("psfsize", bands),
            psfdepth=np.where(np.isnan(depth), table.per_band("depth", bands), depth),
            ebv=table.get(blank.ebv, "ebv"),
            maskbits=table.get(blank.maskbits, "maskbits"),
            primary=table.get(blank.primary, "brick_primary"),
            **_tractor_shapes(table, types),
        )
        ids = table.columns.get("objid", table.columns.get("id", blank.id))
        modelled = ~np.isin(types, _NO_SOURCES)  # first: other rows may repeat an id
        fitted = replace(sources.take(modelled), id=unique_ids(ids[modelled], path, table.what))
        return Catalog(fitted, table.header, dr9_columns="fitbits" in table)


def _truth_types(radius: Array, sersic: Array) -> Array:
    """The tractor type of the profile that was injected."""
    point = (sersic == 0) | (radius == 0)
    return np.select([point, sersic == 1, sersic == 4], ["PSF", "EXP", "DEV"], "SER").astype("U4")


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
    with open_table(path, "truth table") as table:
        ids = unique_ids(table.need("id"), path, table.what)
        n, bands = len(ids), table.filters("{}flux", "flux_{}")
        if not bands:
            table.need("gflux", "flux_g")
        blank, zero = blank_sources(n, bands), np.zeros(n)
        fluxes = [table.need(f"{band}flux".lower(), f"flux_{band}".lower()) for band in bands]
        # Stars of the original obiwan have no shape columns at all.
        radius, sersic = table.get(zero, "rhalf", "shape_r"), table.get(zero, "n", "sersic")
        injected = ~table.get(np.zeros(n, dtype=bool), "collided")
        if ids_added is not None and ids_added.is_file():
            with open_table(ids_added, "table of added ids") as added:
                injected &= np.isin(ids, added.need("id"))
        sources = replace(
            blank,
            id=ids,
            ra=table.need_position("ra"),
            dec=table.need_position("dec"),
            type=_truth_types(radius, sersic),
            flux=np.stack(fluxes, axis=1).astype(np.float64),
            mw_transmission=table.per_band("mw_transmission", bands),
            shape_r=radius,
            e1=table.get(zero, "e1", "shape_e1"),
            e2=table.get(zero, "e2", "shape_e2"),
            sersic=sersic,
            ebv=table.get(blank.ebv, "ebv"),
            injected=injected,
        )
        return Catalog(sources, table.header)
