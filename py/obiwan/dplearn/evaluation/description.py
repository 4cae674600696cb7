"""Description of the training set that an evaluation rests on."""

from __future__ import annotations

from typing import Any

import numpy as np

from obiwan.dplearn.stampspec import SPLITS, Array
from obiwan.dplearn.trainingset.clusters import factorised, sharing_exposures
from obiwan.dplearn.trainingset.stampset import StampSet


def data_summary(stamp_set: StampSet) -> dict[str, Any]:
    """What a report says of a training set."""
    manifest = stamp_set.manifest
    counts, bricks = {}, {split: _bricks(stamp_set, split) for split in SPLITS}
    for split in SPLITS:
        real, fake = stamp_set.count(split)
        counts[split] = {"real": real, "fake": fake, "bricks": len(bricks[split])}
    return {
        "name": "/".join(stamp_set.directory.resolve().parts[-2:]),
        "checksum": stamp_set.checksum,
        "package_version": str(manifest.get("package_version", "unknown")),
        "counts": counts,
        **{key: manifest.get(key) or {} for key in ("config", "cut_flow", "writers")},
        "exposures": _exposures(stamp_set, bricks["test"], bricks["train"]),
        **{key: manifest.get(key) or [] for key in ("roots", "partial_fits", "damaged_bricks")},
        **{key: manifest[key] for key in ("drawn",) if manifest.get(key)},
    }


def _bricks(stamp_set: StampSet, split: str) -> Array:
    """Names of the bricks of a split."""
    parts = [factorised(piece["brick"])[0] for piece in stamp_set.pieces(split)]
    return np.unique(np.concatenate(parts))


def _exposures(stamp_set: StampSet, test: Array, train: Array) -> dict[str, int]:
    """Test bricks whose exposures are known, and those of them that share one with training bricks."""
    known, shared = sharing_exposures(test, train, stamp_set.read_exposures())
    return {"known": known, "shared": shared}
