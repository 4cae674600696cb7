"""FITS tables of galaxy fits: one row per stamp, in the order of ``sources.fits``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.files.fits import open_fits
from obiwan.dplearn.files.outdir import holding_lease
from obiwan.dplearn.galaxyfit.fits import FLAGS, StampFits, fit_stamps
from obiwan.dplearn.stampspec import FILTERS, Array, StampSpec
from obiwan.dplearn.trainingset.shards import Shard, read_shard

EXTENSION = "GALAXYFIT"
_UNITS = {"flux": "nanomaggy", "x": "pixel", "y": "pixel", "ivar_slope": "nanomaggy"}


def unit_of(column: str) -> str:
    """Unit of a column; empty for logarithms, ratios and what is in units of its noise."""
    name = column.removeprefix("err_")
    stem, _, band = name.rpartition("_")
    return _UNITS.get(name, _UNITS.get(stem, "") if band in FILTERS else "")


def table_of(fits: StampFits, shard: int = 0) -> Array:
    """Rows of a table: values, errors, chi^2, pixels, flags and statistics.

    Parameters
    ----------
    fits : StampFits
        Of the stamps of a shard, in order.
    shard : int
        Its number; with ``row`` it joins the table to ``sources.fits``.

    Returns
    -------
    ndarray of records, shape (n,)
        Columns ``shard``, ``row``, the parameters, their errors (``err_<parameter>``), ``chi2``, ``pixels``,
        ``flags``, and the statistics.
    """
    columns: dict[str, Array] = {
        "shard": np.full(len(fits), shard, np.int32),
        "row": np.arange(len(fits), dtype=np.int32),
        **dict(zip(fits.names, fits.values.T, strict=True)),
        **{f"err_{name}": values for name, values in zip(fits.names, fits.errors().T, strict=True)},
        **{name: getattr(fits, name) for name in ("chi2", "pixels", "flags")},
        **dict(zip(fits.statistic_names, fits.statistics.T, strict=True)),
    }
    out = np.empty(len(fits), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        out[name] = values
    return out


@dataclass(frozen=True)
class FitTask:
    """The fits of one shard.

    Attributes
    ----------
    training : Path
        The training set.
    spec : StampSpec
    shard : Shard
    psf : ndarray, shape (rows, bands)
        FWHM of the PSF from the catalogue (arcsec), NaN where unknown.
    directory, scratch, path : Path
        The output directory, this run's scratch directory, and where the rows are kept meanwhile.
    """

    training: Path
    spec: StampSpec
    shard: Shard
    psf: Array
    directory: Path
    scratch: Path
    path: Path


def fit_shard(task: FitTask) -> Path:
    """Fit the stamps of a shard and write their rows, unless an earlier run has; returns the path.

    Raises
    ------
    TrainingSetError
        If a file of the shard is missing or corrupt.
    LeaseLostError
        If another run has begun in the output directory.
    """
    if not task.path.is_file():
        stamps, _ = read_shard(task.training, task.spec, task.shard)
        rows = table_of(fit_stamps(stamps, task.spec, task.psf), task.shard.number)
        with holding_lease(task.scratch, task.directory):
            write_table(task.path, [rows], task.spec, {}, task.scratch)
    return task.path


def write_table(
    path: Path, parts: Iterable[Array], spec: StampSpec, header: dict[str, Any], scratch: Path
) -> None:
    """Write a table, complete or not at all.

    Parameters
    ----------
    path : Path
    parts : iterable of ndarray
        Rows of `table_of`, which need not be in memory at the same time.
    spec : StampSpec
        Of the stamps.
    header : dict
        Further cards; the bits of ``flags`` have some of their own, ``FLAG<bit>``.
    scratch : Path
        Where the file is written before it is renamed.
    """
    dtype = table_of(fit_stamps(np.empty((0, *spec.shape), np.float32), spec)).dtype
    cards = {**header, **{f"FLAG{bit}": name for name, bit in FLAGS.items()}}
    with atomic_write(path, scratch) as beside, open_fits(beside, new=True) as file:
        units = [unit_of(name) for name in dtype.names or ()]
        file.create_table_hdu(dtype=dtype, extname=EXTENSION, units=units)
        file[-1].write_keys(cards)
        for part in parts:
            file[-1].append(part)


def read_table(path: Path) -> Array:
    """The rows of a table that `write_table` has written."""
    with open_fits(path) as file:
        return np.asarray(file[EXTENSION].read())
