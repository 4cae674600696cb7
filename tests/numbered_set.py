"""A training set whose examples are told apart by a number in one of their pixels."""

import json
from dataclasses import asdict

import numpy as np

from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset import manifest as manifests
from obiwan.dplearn.trainingset import stampset
from sealing import seal
from tables import write_shard


def make_set(directory, rows_by_split):
    """A training set whose cutouts are 0 but for their number (from 0 in each split) in pixel (0, 0, 0)."""
    (directory / manifests.WORK).mkdir(parents=True)
    entries = []
    for split, rows in rows_by_split.items():
        start = 0
        for number, count in enumerate(rows, 1):
            x = np.zeros((count, 64, 64, 6), "<f4")
            x[:, 0, 0, 0] = np.arange(start, start + count)
            y = (np.arange(start, start + count) % 2).astype("u1")
            entries.append(asdict(write_shard(directory, split, number, x, y)))
            start += count
    manifest = {
        "format": manifests.FORMAT,
        "format_version": manifests.FORMAT_VERSION,
        **StampSpec().to_manifest(),
        "shards": entries,
    }
    (directory / manifests.MANIFEST).write_text(json.dumps(manifest))
    seal(directory)
    return stampset.open_training_set(directory)
