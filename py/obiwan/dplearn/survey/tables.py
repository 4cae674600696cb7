"""Tables of positions that a user gives for either class: any object type against real examples."""

from __future__ import annotations

import warnings
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.table import Table
from astropy.units import Unit, UnitsWarning

from obiwan.dplearn.errors import CatalogError
from obiwan.dplearn.files.fits import reading
from obiwan.dplearn.stampspec import FILTERS, Array
from obiwan.dplearn.survey.catalogs import signed, unique_ids
from obiwan.dplearn.survey.layouts import RELEASE_RUN
from obiwan.dplearn.survey.sources import Sources, blank_sources

_MAGNITUDES = {f"mag_{band}".lower(): i for i, band in enumerate(FILTERS)}
_COLUMNS = ("brick", "brickname", "run", "id", "ra", "dec", *_MAGNITUDES)
#: Units as other programs spell them, in lower case.
_UNITS = {
    **dict.fromkeys(("deg", "degree", "degrees"), "deg"),
    **dict.fromkeys(("mag", "mag(ab)", "abmag"), "mag"),
    **dict.fromkeys(("nanomaggy", "nanomaggies", "nmgy"), "nmgy"),
}
_REMEDY = "correct it or leave it out"
_MEASURED = (0.0, 50.0)  #: magnitudes between these are measured; 99, -99, -1 and 0 stand for "not measured"


@dataclass(frozen=True)
class UserTable:
    """Positions in coadds, as the user listed them.

    Attributes
    ----------
    path : Path
    brick, run : ndarray of str, shape (n,)
        Which coadd; the run is ``release`` where the table names none.
    sources : Sources
        In all `FILTERS`; fluxes and magnitudes are as given, taken to be corrected for extinction.
    warnings : tuple of str
        What the user should know of the whole table.
    """

    path: Path
    brick: Array
    run: Array
    sources: Sources
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.brick)

    @cached_property
    def _rows_of_brick(self) -> dict[str, Array]:
        return dict(rows_by_value(self.brick))

    def of_brick(self, brick: str) -> UserTable:
        """The rows of one brick; all bricks together take one look at the table."""
        rows = self._rows_of_brick.get(brick, np.empty(0, dtype=np.intp))
        return UserTable(self.path, self.brick[rows], self.run[rows], self.sources.take(rows))


def rows_by_value(values: Array) -> Iterator[tuple[str, Array]]:
    """Each distinct value with the rows that have it, in their order."""
    order = np.argsort(values, kind="stable")
    distinct, starts = np.unique(values[order], return_index=True)
    yield from zip(distinct.tolist(), np.split(order, starts[1:]), strict=True)


def read_table(path: Path) -> UserTable:
    """Read a table of positions.

    Parameters
    ----------
    path : Path
        FITS, ECSV or CSV with columns ``brick`` (or ``brickname``), ``ra``, ``dec`` in degrees or in
        the angle that the file declares, and optionally ``id``, ``run`` and magnitudes such as ``mag_g``
        (AB, corrected for Galactic extinction; not between 0 and 50: not measured); names in any case.

    Raises
    ------
    CatalogError
        If the file cannot be read, is empty, lacks a column or has it twice, declares a unit of another
        kind, has rows without a brick or a position on the sky, or repeats an id within a brick and run.
    """
    table = load_table(path, _COLUMNS)
    with reading(f"{path}: cannot read this table", _REMEDY, CatalogError):
        return _user_table(path, table)


def load_table(path: Path, columns: Iterable[str]) -> Table:
    """Table of a user: FITS, ECSV or CSV, with the names of these columns in lower case.

    Raises
    ------
    CatalogError
        If the file cannot be read, is empty, or has one of the columns twice.
    """
    formats = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv"}
    what = f"{path}: cannot read this table as FITS, ECSV or CSV"
    with reading(what, _REMEDY, CatalogError), warnings.catch_warnings():
        warnings.simplefilter("ignore", UnitsWarning)  # of columns that are not used
        with path.open("rb") as stream:
            marked = stream.read(3) == BOM_UTF8  # as spreadsheets write; else the faster reader
        encoding = {"encoding": "utf-8-sig"} if marked else {}
        table = Table.read(path.absolute(), format=formats.get(path.suffix.lower()), **encoding)
        if not len(table):
            msg = f"{path}: empty catalogue: the table has no rows"
            raise CatalogError(msg)
        _rename(path, table, columns)
        return table


def _rename(path: Path, table: Table, columns: Iterable[str]) -> None:
    """Give the columns that are used their names in lower case; refuse two that would have one name.

    What a file has twice is read as ``ra`` and ``ra_1``.
    """
    for name in columns:
        spelled = [one for one in table.colnames if one.lower() == name]
        if len(spelled) > 1:
            msg = (
                f"{path}: columns {' and '.join(spelled)} differ in case alone; remove or rename all but one"
            )
            raise CatalogError(msg)
        for one in spelled:
            if f"{one}_1" in table.colnames:
                msg = f"{path}: columns {one} and {one}_1, or {one} twice; remove or rename all but one"
                raise CatalogError(msg)
            table.rename_column(one, name)


def _strings(values: Array) -> Array:
    """A column as text without blanks; cells without a value are empty."""
    text: Array = np.ma.asarray(values)
    text = np.char.decode(text, "utf-8") if text.dtype.kind == "S" else text.astype(str)
    return np.char.strip(np.ma.filled(text, ""))


def numbers(path: Path, name: str, column: Array, unit: str) -> Array:
    """A column as floats in a unit, converted from the one that the file declares; empty cells are NaN."""
    declared = str(getattr(column, "unit", None) or "") or unit
    try:
        scale = Unit(_UNITS.get(declared.lower(), declared)).to(unit)
    except ValueError:
        msg = f"{path}: column {name} is in {declared}, which cannot be converted; give it in {unit}"
        raise CatalogError(msg) from None
    values = np.ma.asarray(getattr(column, "value", column))
    try:
        found: Array = scale * np.ma.filled(values.astype(np.float64), np.nan).reshape(len(values))
    except (TypeError, ValueError):
        msg = f"{path}: column {name} is not numbers; give it in {unit}, and leave unknown cells empty"
        raise CatalogError(msg) from None
    return found


def integers(path: Path, name: str, values: Array) -> Array:
    """A column as int64, exactly: ids may exceed what a float can hold."""
    if np.ma.is_masked(values) or np.asarray(values).dtype.kind not in "iu":
        msg = f"{path}: column {name} must hold an integer in every row"
        raise CatalogError(msg)
    return signed(np.asarray(values), path, f"values of column {name}")


def _bricks(path: Path, table: Table) -> Array:
    """The brick of each row, of which there must be one."""
    names = [_strings(table[name]) for name in ("brick", "brickname") if name in table.colnames]
    if any((one != names[0]).any() for one in names):
        msg = f"{path}: columns brick and brickname disagree; remove or rename one"
        raise CatalogError(msg)
    if empty := np.count_nonzero(names[0] == ""):
        msg = f"{path}: {empty} row(s) without a brick; correct or remove them"
        raise CatalogError(msg)
    return names[0]


def _user_table(path: Path, table: Table) -> UserTable:
    brick_name = "brickname" if "brickname" in table.colnames else "brick"
    for name in (brick_name, "ra", "dec"):
        if name not in table.colnames:
            there = ", ".join(table.colnames)
            msg = f"{path}: the table has no column {name}; it needs brick, ra and dec, and has {there}"
            raise CatalogError(msg)
    n = len(table)
    brick = _bricks(path, table)
    run = _strings(table["run"]) if "run" in table.colnames else np.full(n, RELEASE_RUN)
    run = np.where((run == "") | (run == "N/A"), RELEASE_RUN, run)
    ra, dec = (numbers(path, name, table[name], "deg") for name in ("ra", "dec"))
    if not ((np.abs(ra) <= 360) & (np.abs(dec) <= 90)).all():
        msg = (
            f"{path}: ra or dec is not finite, dec is beyond 90 or ra beyond 360 degrees; "
            "correct or remove those rows"
        )
        raise CatalogError(msg)
    blank = blank_sources(n, FILTERS)
    ids = integers(path, "id", table["id"]) if "id" in table.colnames else blank.id
    for name, rows in rows_by_value(np.char.add(np.char.add(brick, " in run "), run)):
        unique_ids(ids[rows], path, f"rows of {name}")
    flux = blank.flux
    for name, i in _MAGNITUDES.items():
        if name in table.colnames:
            mag = numbers(path, name, table[name], "mag")
            measured = (mag > _MEASURED[0]) & (mag < _MEASURED[1])
            flux[:, i] = 10 ** (-0.4 * (np.where(measured, mag, np.nan) - 22.5))
    transmission = np.ones_like(flux)
    sources = replace(blank, id=ids, ra=ra % 360, dec=dec, flux=flux, mw_transmission=transmission)
    return UserTable(path, brick, run, sources, _warnings(path, table))


def _warnings(path: Path, table: Table) -> tuple[str, ...]:
    """Warnings of a table: positions of single precision."""
    kinds = {name: table[name].dtype for name in ("ra", "dec")}
    rounded = [name for name, kind in kinds.items() if kind.kind == "f" and kind.itemsize < 8]
    if not rounded:
        return ()
    return (
        f"{path}: {' and '.join(rounded)} in single precision: rounded by up to 0.06 arcsec; give float64",
    )
