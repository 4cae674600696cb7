"""HATS catalogue: Parquet files partitioned by HEALPix, which ``lsdb.open_catalog`` opens.

One row for each example: all columns of the example table, and for each channel a list of size * size
float32, row by row (y, then x), named ``stamp_<channel>``.  The key ``obiwan.dplearn`` of the Parquet schema
holds the description of the stamps as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import DplearnError
from obiwan.dplearn.exporting.rows import text_columns
from obiwan.dplearn.stampspec import SPLITS, Array, StampSpec
from obiwan.dplearn.trainingset.stampset import StampSet

_NEEDS = "the HATS format needs the packages hats and pyarrow; pip install 'obiwan-dplearn[hats]'"
DEEPEST = 12  #: order of the smallest partitions, 50 arcsec on a side
_NUMBERS = 2**31 - 1  # in a column of lists, whose starts are int32


def check_packages() -> None:
    """Check that the packages of this format are there.

    Raises
    ------
    DplearnError
        If one is missing.
    """
    try:
        for name in ("hats.catalog", "pyarrow.parquet"):
            import_module(name)
    except ImportError as error:
        msg = f"{_NEEDS} ({error})"
        raise DplearnError(msg) from error


def write_catalogue(stamps: StampSet, directory: Path, name: str, most: int) -> Iterator[int]:
    """Write a training set as a HATS catalogue; yields the examples of each partition that is done.

    Parameters
    ----------
    stamps : StampSet
    directory : Path
        The catalogue.
    name : str
        Its name.
    most : int
        Examples in a partition, if its pixel can be divided further.

    Raises
    ------
    TrainingSetError
        If a shard or the example table is damaged.
    """
    import pyarrow.parquet
    from hats.catalog import PartitionInfo, TableProperties
    from hats.io import paths
    from hats.io.parquet_metadata import write_parquet_metadata
    from hats.pixel_math import HealpixPixel
    from hats.pixel_math.spatial_index import (
        SPATIAL_INDEX_COLUMN,
        SPATIAL_INDEX_ORDER,
        compute_spatial_index,
    )

    rows = {split: stamps.rows(split) for split in SPLITS}
    ra, dec = (np.concatenate([rows[split][axis] for split in SPLITS]) for axis in ("ra", "dec"))
    index = np.asarray(compute_spatial_index(ra, dec), np.int64)
    pixels = []
    for order, pixel, chosen in partitions(index, min(most, _NUMBERS // stamps.spec.size**2)):
        columns: dict[str, Any] = {SPATIAL_INDEX_COLUMN: index[chosen]}
        table, x = _examples_of(stamps, rows, chosen)
        columns |= text_columns(table) | stamp_columns(x, stamps.spec)
        place = HealpixPixel(order, pixel)
        path = Path(str(paths.pixel_catalog_file(directory, place)))
        path.parent.mkdir(parents=True, exist_ok=True)
        described = {"obiwan.dplearn": json.dumps(stamps.spec.to_manifest())}
        pyarrow.parquet.write_table(pyarrow.table(columns, metadata=described), path, compression="zstd")
        pixels.append(place)
        yield len(chosen)
    write_parquet_metadata(directory)
    PartitionInfo.from_healpix(pixels).write_to_file(directory / "partition_info.csv")
    properties = TableProperties(
        catalog_name=name,
        catalog_type="object",
        total_rows=len(index),
        ra_column="ra",
        dec_column="dec",
        healpix_column=SPATIAL_INDEX_COLUMN,
        healpix_order=SPATIAL_INDEX_ORDER,
        npix_suffix=".parquet",
    )
    properties.to_properties_file(directory)


def _examples_of(stamps: StampSet, rows: Mapping[str, Array], chosen: Array) -> tuple[Array, Array]:
    """Rows and stamps of some examples, by their positions in the rows of all splits, one after another."""
    table = np.empty(len(chosen), rows[SPLITS[0]].dtype)
    x = np.empty((len(chosen), *stamps.spec.shape), np.float32)
    start = 0
    for split in SPLITS:
        here = np.flatnonzero((chosen >= start) & (chosen < start + len(rows[split])))
        places = chosen[here] - start
        table[here], x[here] = rows[split][places], stamps.stamps(split, places)
        start += len(rows[split])
    return table, x


def stamp_columns(x: NDArray[np.float32], spec: StampSpec) -> dict[str, Any]:
    """Stamps as columns of lists, one a channel."""
    import pyarrow

    found = {}
    for channel, name in enumerate(spec.channels):
        flat = pyarrow.array(np.ascontiguousarray(x[..., channel]).reshape(-1))
        starts = np.arange(len(x) + 1, dtype=np.int32) * spec.size**2
        found[f"stamp_{name}"] = pyarrow.ListArray.from_arrays(pyarrow.array(starts), flat)
    return found


def partitions(index: NDArray[np.int64], most: int) -> Iterator[tuple[int, int, Array]]:
    """Divide positions into HEALPix pixels of at most `most` of them.

    Parameters
    ----------
    index : ndarray of int64
        Of every position, its pixel of order 29 (nested).
    most : int
        Positions in a pixel; those of order `DEEPEST` may have more.

    Yields
    ------
    order, pixel : int
    chosen : ndarray of int
        Its positions, by increasing index.
    """
    by_index = np.argsort(index, kind="stable")
    todo = [(0, by_index)]
    while todo:
        order, chosen = todo.pop()
        pixel = index[chosen] >> 2 * (29 - order)
        parts = np.split(chosen, np.flatnonzero(np.diff(pixel)) + 1)
        for part in reversed(parts):
            if len(part) > most and order < DEEPEST:
                todo.append((order + 1, part))
            elif len(part):
                yield order, int(index[part[0]] >> 2 * (29 - order)), part
