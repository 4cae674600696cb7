"""Example table: one row per example with everything known of it, as in ``sources.fits``."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.files.atomic import atomic_write, file_crc32
from obiwan.dplearn.files.fits import check_not_truncated, open_fits, reading
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.sources import PER_BAND, Sources, unit_of
from obiwan.dplearn.trainingset.manifest import SOURCES

FLAG_PADDED = 1  #: the stamp reaches beyond the coadd (``--edge pad``)
FLAG_NEIGHBOUR = 2  #: another injection lies in the stamp (``--allow-injected-neighbours``)
FLAG_UNMATCHED = 4  #: a fake without a tractor match: its quantities are the truth's
FLAG_OVERLAP = 8  #: shares sky with an example of another split (``--split object``)

_PIECE = 1 << 13  # rows of `SOURCES` that are read at a time
_PER_BAND = (*PER_BAND, "mag")
_RECOVERY = ("truth_dx", "truth_dy", "truth_flux")  # of injections; NaN where a set is older than they
_AGAIN = "make the training set again (create_training --overwrite)"


_COLUMNS = {
    **{"split": "S5", "shard": "i4", "row": "i4", "label": "u1", "root": "i2"},
    **{"brick": "S24", "run": "S32", "id": "i8"},
    **dict.fromkeys(("ra", "dec", "x", "y", "truth_ra", "truth_dec"), "f8"),
    **{"match_dist": "f4", "type": "S4"},
    **dict.fromkeys(("flux", "flux_ivar", "mag", "mw_transmission"), "f4"),
    "mag_source": "S8",
    **dict.fromkeys(_RECOVERY, "f4"),
    **dict.fromkeys(("shape_r", "e1", "e2", "sersic", "psfsize", "psfdepth"), "f4"),
    **{"nobs": "i2", "maskbits": "i4", "camera": "S24", "ebv": "f4", "flags": "i4"},
}


@cache
def example_dtype(spec: StampSpec) -> np.dtype[Any]:
    """Record type of the example table for these bands: one record from planning to disk."""
    per_band = (*_PER_BAND, "truth_flux")
    names = {name: spec.columns(name) if name in per_band else (name,) for name in _COLUMNS}
    return np.dtype([(column, _COLUMNS[name]) for name, columns in names.items() for column in columns])


def blank_examples(n: int, spec: StampSpec) -> Array:
    """Example rows, `n` of them, with numbers NaN where they can be, else 0."""
    rows = np.zeros(n, dtype=example_dtype(spec))
    for name in rows.dtype.names or ():
        if rows[name].dtype.kind == "f":
            rows[name] = np.nan
    return rows


def fill_measurements(rows: Array, sources: Sources, spec: StampSpec) -> None:
    """Copy what the catalogue says of each source into example rows, in place; NaN in bands that it lacks."""
    sources = sources.in_bands(spec.bands)
    for stem in _PER_BAND:
        values = getattr(sources, stem)
        for i, name in enumerate(spec.columns(stem)):
            rows[name] = values[:, i]
    for name in ("shape_r", "e1", "e2", "sersic", "ebv", "maskbits"):
        rows[name] = getattr(sources, name)
    rows["type"] = sources.type.astype("S4")


def write_sources(path: Path, scratch: Path, spec: StampSpec, parts: Iterable[Array]) -> None:
    """Write ``sources.fits``, completely or not at all; equal rows give equal bytes.

    Parameters
    ----------
    path : Path
    scratch : Path
        Directory in which it is written before it is renamed.
    spec : StampSpec
    parts : iterable of ndarray
        Rows sorted by split, shard and row, in parts that need not be in memory at the same time.
    """
    dtype = example_dtype(spec)
    units = [unit_of(name) for name in dtype.names or ()]
    with atomic_write(path, scratch) as beside, open_fits(beside, new=True) as file:
        file.create_table_hdu(dtype=dtype, extname="SOURCES", units=units)
        for part in parts:
            file[-1].append(part)


def check_sources(directory: Path, manifest: dict[str, Any]) -> None:
    """Compare ``sources.fits`` with its checksum: intervals rest on the bricks that it names.

    Raises
    ------
    TrainingSetError
        If the file is missing or differs.
    """
    path = directory / SOURCES
    with reading(f"{path}: cannot read it", _AGAIN, TrainingSetError):
        found = file_crc32(path)
    if found != manifest.get("sources_crc32", found):
        msg = f"{path}: checksum differs from the manifest's, the table is corrupt; {_AGAIN} or copy it anew"
        raise TrainingSetError(msg)


def read_sources(directory: Path, spec: StampSpec, start: int, stop: int, split: str) -> Array:
    """Read the rows of one split from ``sources.fits``, whose checksum is not looked at.

    Parameters
    ----------
    directory : Path
        The training set.
    spec : StampSpec
    start, stop : int
        Where the split's rows are, from the sizes of its shards.
    split : str

    Returns
    -------
    ndarray of `example_dtype`
        By shard and row; text columns are bytes without blanks, and ASCII.

    Raises
    ------
    TrainingSetError
        If the file is missing, unreadable, lacks a column, or has other rows there.
    """
    path, dtype = directory / SOURCES, example_dtype(spec)
    with reading(f"{path}: cannot read it", _AGAIN, TrainingSetError), open_fits(path) as file:
        check_not_truncated(file, path)
        table, rows = file[1], blank_examples(stop - start, spec)
        older = {name for name in dtype.names or () if name.startswith(_RECOVERY)} - set(table.get_colnames())
        for first in range(0, len(rows), _PIECE):  # lest a large table be in memory twice
            piece = table[start + first : min(start + first + _PIECE, stop)]
            for name in (name for name in dtype.names or () if name not in older):
                mine = rows[name][first : first + _PIECE]
                mine[:] = piece[name]
                if mine.dtype.kind == "S":
                    mine.astype(str)  # an error where it is not ASCII
    if (rows["split"] != split.encode()).any():
        msg = f"{path}: its {split} rows are not those of the shards; {_AGAIN}"
        raise TrainingSetError(msg)
    return rows
