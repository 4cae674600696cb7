"""One row per example: everything that is known of it, as it will stand in ``sources.fits``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import fitsio
import numpy as np

from obiwan.dplearn.conventions import BANDS, CHANNELS, STAMP, Array
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.files.fitsfile import check_whole, reading
from obiwan.dplearn.files.whole import file_crc32, replacing
from obiwan.dplearn.survey.sources import Sources
from obiwan.dplearn.trainingset.shards import SOURCES, TrainingSet, open_training_set

FLAG_PADDED = 1  #: the stamp reaches beyond the coadd (``--edge pad``)
FLAG_NEIGHBOUR = 2  #: another injection lies in the stamp (``--allow-injected-neighbours``)
FLAG_UNMATCHED = 4  #: a fake without a tractor match: its quantities are the truth's
FLAG_OVERLAP = 8  #: shares sky with an example of another split (``--split object``)

_PIECE = 1 << 13  # rows of `SOURCES` that are read at a time
_PER_BAND = ("flux", "flux_ivar", "mag", "mw_transmission", "psfsize", "psfdepth", "nobs")


def _bands(stem: str) -> list[tuple[str, str]]:
    return [(f"{stem}_{band}", "f4") for band in BANDS]


EXAMPLE_DTYPE = np.dtype(
    [
        *[("split", "S5"), ("shard", "i4"), ("row", "i4"), ("label", "u1"), ("root", "i2")],
        *[
            ("brick", "S8"),
            ("run", "S32"),
            ("id", "i8"),
            ("ra", "f8"),
            ("dec", "f8"),
            ("x", "f8"),
            ("y", "f8"),
        ],
        *[("truth_ra", "f8"), ("truth_dec", "f8"), ("match_dist", "f4"), ("type", "S4")],
        *_bands("flux"),
        *_bands("flux_ivar"),
        *_bands("mag"),
        *_bands("mw_transmission"),
        *[("mag_source", "S8"), ("shape_r", "f4"), ("e1", "f4"), ("e2", "f4"), ("sersic", "f4")],
        *_bands("psfsize"),
        *_bands("psfdepth"),
        *[(f"nobs_{band}", "i2") for band in BANDS],
        *[("maskbits", "i4"), ("camera", "S24"), ("ebv", "f4"), ("flags", "i4")],
    ]
)  #: columns of ``sources.fits``; design: one record from planning to disk

_UNITS = {
    **dict.fromkeys(("ra", "dec", "truth_ra", "truth_dec"), "deg"),
    **dict.fromkeys(("x", "y"), "pixel"),
    **dict.fromkeys(("match_dist", "shape_r"), "arcsec"),
    **{f"flux_{band}": "nanomaggy" for band in BANDS},
    **{f"{stem}_{band}": "1/nanomaggy^2" for stem in ("flux_ivar", "psfdepth") for band in BANDS},
    **{f"mag_{band}": "mag" for band in BANDS},
    **{f"psfsize_{band}": "arcsec" for band in BANDS},
    "ebv": "mag",
}


def blank_examples(n: int) -> Array:
    """Return `n` rows with numbers NaN where they can be, else 0."""
    rows = np.zeros(n, dtype=EXAMPLE_DTYPE)
    for name in EXAMPLE_DTYPE.names or ():
        if rows[name].dtype.kind == "f":
            rows[name] = np.nan
    return rows


def fill_measurements(rows: Array, sources: Sources) -> None:
    """Copy what the catalogue says of each source into example rows, in place."""
    for stem in _PER_BAND:
        values = getattr(sources, stem)
        for i, band in enumerate(BANDS):
            rows[f"{stem}_{band}"] = values[:, i]
    for name in ("shape_r", "e1", "e2", "sersic", "ebv", "maskbits"):
        rows[name] = getattr(sources, name)
    rows["type"] = sources.type.astype("S4")


def write_sources(directory: Path, scratch: Path, rows: Array | Iterable[Array]) -> None:
    """Write ``sources.fits``, whole or not at all; equal rows give equal bytes.

    Parameters
    ----------
    directory, scratch : Path
        The training set, and where to write before renaming.
    rows : ndarray of EXAMPLE_DTYPE, or several of them
        Sorted by split, shard and row; those of several need not be in memory at the same time.
    """
    units = [_UNITS.get(name, "") for name in EXAMPLE_DTYPE.names or ()]
    path = directory / SOURCES
    with replacing(path, scratch) as beside, fitsio.FITS(str(beside), "rw", clobber=True) as file:
        file.create_table_hdu(dtype=EXAMPLE_DTYPE, extname="SOURCES", units=units)
        for part in [rows] if isinstance(rows, np.ndarray) else rows:
            file[-1].append(part)


def check_sources(training_set: TrainingSet) -> None:
    """Compare ``sources.fits`` with its checksum: intervals rest on the bricks that it names.

    Raises
    ------
    TrainingSetError
        If the file is missing or differs.
    """
    path = training_set.directory / SOURCES
    with reading(f"{path}: cannot read it", "make the training set again", TrainingSetError):
        found = file_crc32(path)
    if found != training_set.manifest.get("sources_crc32", found):
        msg = (
            f"{path}: checksum differs from the manifest's, the table is corrupt; make the training set "
            "again (create_training --overwrite) or copy the file anew"
        )
        raise TrainingSetError(msg)


def read_sources(directory: Path, columns: Sequence[str] | None = None) -> Array:
    """Read ``sources.fits`` of a training set.

    Parameters
    ----------
    directory : Path
        The training set.
    columns : sequence of str, optional
        Those that are wanted; all by default.

    Returns
    -------
    ndarray of EXAMPLE_DTYPE, or of some of its fields
        A row per example, by split, shard and row; text columns are bytes without blanks, and ASCII.

    Raises
    ------
    TrainingSetError
        If the file is missing, unreadable or not the one that the manifest vouches for.
    """
    path = directory / SOURCES
    check_sources(open_training_set(directory, files=False))
    names = EXAMPLE_DTYPE.names if columns is None else tuple(columns)
    dtype = np.dtype([(name, EXAMPLE_DTYPE[name]) for name in names or ()])
    problem = reading(f"{path}: cannot read it", "make the training set again", TrainingSetError)
    with problem, fitsio.FITS(str(path)) as file:
        check_whole(file, path)
        table = file[1]
        rows = np.zeros(table.get_nrows(), dtype)
        for start in range(0, len(rows), _PIECE):  # lest a large table be in memory twice
            piece = table[start : start + _PIECE]
            for name in dtype.names or ():
                mine = rows[name][start : start + _PIECE]
                mine[:] = piece[name]
                if mine.dtype.kind == "S":
                    mine.astype(str)  # an error where it is not ASCII
    return rows


def split_rows(rows: Array, split: str) -> Array:
    """Rows of the source table that belong to a split, in the order of its shards."""
    mine: Array = rows[rows["split"] == split.encode()]
    return mine[np.lexsort((mine["row"], mine["shard"]))]


def read_stamps(training_set: TrainingSet, split: str, rows: Array, chosen: Array) -> Array:
    """Read chosen examples of a split, one shard at a time.

    Parameters
    ----------
    training_set : TrainingSet
    split : str
    rows : ndarray of EXAMPLE_DTYPE
        Of the split.
    chosen : ndarray of int
        Row numbers.

    Returns
    -------
    ndarray, shape (len(chosen), 64, 64, 6)
        In the order asked for.
    """
    if not len(chosen):
        return np.empty((0, STAMP, STAMP, len(CHANNELS)), np.float32)
    stamps: dict[int, Array] = {}
    for shard in training_set.split(split):
        mine = [i for i in chosen if rows["shard"][i] == shard.number]
        if mine:
            x, _ = training_set.read(shard)
            stamps |= {i: x[rows["row"][i]].copy() for i in mine}
    return np.stack([stamps[i] for i in chosen])
