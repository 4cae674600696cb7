"""HATS catalogue: Parquet files partitioned by HEALPix, which ``lsdb.open_catalog`` opens.

One row for each example: all columns of the example table, and for each channel a list of size * size
float32, row by row (y, then x), named ``stamp_<channel>``.  The key ``obiwan.dplearn`` of the Parquet schema
holds the description of the stamps as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import DplearnError
from obiwan.dplearn.exporting.rows import text_columns
from obiwan.dplearn.stampspec import SPLITS, Array, StampSpec
from obiwan.dplearn.trainingset.examples import example_dtype
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


def write_catalogue(stamps: StampSet, directory: Path, name: str, most: int, scratch: Path) -> Iterator[int]:
    """Write a training set as a HATS catalogue; yields the examples of each partition that is done.

    Every shard is read once.  Its examples wait for those of other shards in a file of each partition in
    `scratch`, so that only a shard or a partition is in memory, and 24 bytes for each example.

    Parameters
    ----------
    stamps : StampSet
    directory : Path
        The catalogue.
    name : str
        Its name.
    most : int
        Examples in a partition, if its pixel can be divided further.
    scratch : Path
        For files that are removed again, in all as large as npy shards.

    Raises
    ------
    TrainingSetError
        If a shard or the example table is damaged.
    """
    from hats.catalog import PartitionInfo
    from hats.io.parquet_metadata import write_parquet_metadata
    from hats.pixel_math import HealpixPixel
    from hats.pixel_math.spatial_index import compute_spatial_index

    rows = (piece for split in SPLITS for piece in stamps.pieces(split))
    parts = [np.asarray(compute_spatial_index(some["ra"], some["dec"]), np.int64) for some in rows]
    index = np.concatenate(parts)
    del parts
    pixels: list[HealpixPixel] = []
    partition = np.empty(len(index), np.int32)
    for order, pixel, chosen in partitions(index, min(most, _NUMBERS // stamps.spec.size**2)):
        partition[chosen] = len(pixels)
        pixels.append(HealpixPixel(order, pixel))
    _scatter(stamps, index, partition, scratch)
    for number, place in enumerate(pixels):
        yield _write_partition(stamps.spec, directory, place, scratch / str(number))
    write_parquet_metadata(directory)
    PartitionInfo.from_healpix(pixels).write_to_file(directory / "partition_info.csv")
    _write_properties(directory, name, len(index))


def _example_dtype(spec: StampSpec) -> np.dtype[Any]:
    """An example as it waits for others: its position, its row and its stamp."""
    return np.dtype([("index", "<i8"), ("row", example_dtype(spec)), ("stamp", "<f4", spec.shape)])


def _scatter(stamps: StampSet, index: NDArray[np.int64], partition: NDArray[np.int32], scratch: Path) -> None:
    """Append the examples of every shard to the files of their partitions, in the order of the set."""
    start = 0
    for shard in stamps.shards:
        here = slice(start, start + shard.rows)
        some = np.empty(shard.rows, _example_dtype(stamps.spec))
        some["index"], some["row"] = index[here], stamps.shard_rows(shard)
        some["stamp"] = stamps.read(shard)[0]
        for number in np.unique(partition[here]).tolist():
            with (scratch / str(number)).open("ab") as file:
                some[partition[here] == number].tofile(file)
        start += shard.rows


def _write_partition(spec: StampSpec, directory: Path, place: Any, waiting: Path) -> int:
    """Write one partition and remove the file that its examples wait in; returns how many there are."""
    import pyarrow.parquet
    from hats.io import paths
    from hats.pixel_math.spatial_index import SPATIAL_INDEX_COLUMN

    some = np.fromfile(waiting, _example_dtype(spec))
    waiting.unlink()
    order = np.argsort(some["index"], kind="stable")
    columns: dict[str, Any] = {SPATIAL_INDEX_COLUMN: some["index"][order]}
    columns |= text_columns(some["row"][order]) | stamp_columns(some["stamp"], order, spec)
    path = Path(str(paths.pixel_catalog_file(directory, place)))
    path.parent.mkdir(parents=True, exist_ok=True)
    described = {"obiwan.dplearn": json.dumps(spec.to_manifest())}
    pyarrow.parquet.write_table(pyarrow.table(columns, metadata=described), path, compression="zstd")
    return len(some)


def _write_properties(directory: Path, name: str, rows: int) -> None:
    """Write the properties of a catalogue, which name its columns of positions."""
    from hats.catalog import TableProperties
    from hats.pixel_math.spatial_index import SPATIAL_INDEX_COLUMN, SPATIAL_INDEX_ORDER

    properties = TableProperties(
        catalog_name=name,
        catalog_type="object",
        total_rows=rows,
        ra_column="ra",
        dec_column="dec",
        healpix_column=SPATIAL_INDEX_COLUMN,
        healpix_order=SPATIAL_INDEX_ORDER,
        npix_suffix=".parquet",
    )
    properties.to_properties_file(directory)


def stamp_columns(x: NDArray[np.float32], order: Array, spec: StampSpec) -> dict[str, Any]:
    """Stamps in this order as columns of lists, one a channel."""
    import pyarrow

    found = {}
    for channel, name in enumerate(spec.channels):
        flat = pyarrow.array(x[order, :, :, channel].reshape(-1))
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
