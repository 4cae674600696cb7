"""A training set whose examples are told apart by a number in one of their pixels."""

import json

import numpy as np

from obiwan.dplearn import conventions
from obiwan.dplearn.trainingset import shards
from sealing import seal


def make_set(directory, rows_by_split):
    """A training set whose cutouts are 0 but for their number (from 0 in each split) in pixel (0, 0, 0)."""
    (directory / shards.WORK).mkdir(parents=True)
    entries = []
    for split, rows in rows_by_split.items():
        start = 0
        for number, count in enumerate(rows, 1):
            x = np.zeros((count, 64, 64, 6), "<f4")
            x[:, 0, 0, 0] = np.arange(start, start + count)
            y = (np.arange(start, start + count) % 2).astype("u1")
            entries.append(shards.shard_entry(shards.write_shard(directory, split, number, x, y)))
            start += count
    manifest = {
        "format": shards.FORMAT,
        "format_version": shards.FORMAT_VERSION,
        "channels": list(conventions.CHANNELS),
        "labels": conventions.LABELS,
        "stamp": conventions.STAMP,
        "shards": entries,
    }
    (directory / shards.MANIFEST).write_text(json.dumps(manifest))
    seal(directory)
    return shards.open_training_set(directory)
