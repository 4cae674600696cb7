"""WebDataset: tar archives of examples, one a shard, which ``webdataset.WebDataset(...).decode()`` reads.

``<split>-<n>.tar``, n from 000000, has three files for every example: ``.npy`` its stamp, float32, shape
(size, size, channels); ``.cls`` its label; ``.json`` its row of the example table.  The name in front is
split, shard and row.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from obiwan.dplearn.exporting.rows import Plain, plain_rows
from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.stampspec import SPLITS, Array
from obiwan.dplearn.trainingset.shards import Shard
from obiwan.dplearn.trainingset.stampset import StampSet


def write_archives(stamps: StampSet, directory: Path, scratch: Path) -> Iterator[int]:
    """Write the archives of a training set; yields the examples of each that is done.

    Raises
    ------
    TrainingSetError
        If a shard or the example table is damaged.
    """
    for split in SPLITS:
        for number, shard in enumerate(stamps.split(split)):
            path = directory / f"{split}-{number:06d}.tar"
            with atomic_write(path, scratch) as beside, tarfile.open(beside, "w") as archive:
                _add_examples(archive, shard, stamps.read(shard)[0], plain_rows(stamps.shard_rows(shard)))
            yield shard.rows


def _add_examples(archive: tarfile.TarFile, shard: Shard, x: Array, rows: list[dict[str, Plain]]) -> None:
    """Add the examples of one shard to an open archive."""
    for number, (stamp, row) in enumerate(zip(x, rows, strict=True)):
        stream = io.BytesIO()
        np.save(stream, stamp)
        files = {
            "npy": stream.getvalue(),
            "cls": str(row["label"]).encode(),
            "json": json.dumps(row).encode(),  # with NaN, as Python's decoder takes it
        }
        for suffix, content in files.items():
            entry = tarfile.TarInfo(f"{shard.split}-{shard.number:06d}-{number:06d}.{suffix}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
