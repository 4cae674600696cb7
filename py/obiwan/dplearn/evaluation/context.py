"""Context of an evaluation: the training set in numbers, and versions of software."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from typing import Any

import numpy as np

from obiwan.dplearn import __version__
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.stampspec import SPLITS
from obiwan.dplearn.training.batches import check_splits
from obiwan.dplearn.trainingset.stampset import StampSet

LEAST_TEST = 2  #: test examples of each class without which there is no variance
SOFTWARE = (
    *("numpy", "scipy", "astropy", "fitsio", "scikit-learn", "keras", "tensorflow", "tensorflow-cpu"),
    *("torch", "jax", "matplotlib", "jinja2", "galsim"),
)


def software() -> dict[str, str]:
    """Versions of what the numbers rest on."""
    found = {"obiwan.dplearn": __version__, "python": platform.python_version()}
    for name in SOFTWARE:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if "keras" in sys.modules:
        found["keras backend"] = str(sys.modules["keras"].config.backend())
    return found


def data_summary(stamp_set: StampSet) -> dict[str, Any]:
    """What a report says of a training set."""
    manifest = stamp_set.manifest
    counts = {}
    for split in SPLITS:
        real, fake = stamp_set.count(split)
        counts[split] = {"real": real, "fake": fake, "bricks": len(np.unique(stamp_set.bricks(split)))}
    return {
        "checksum": stamp_set.checksum,
        "package_version": str(manifest.get("package_version", "unknown")),
        "counts": counts,
        **{key: manifest.get(key) or {} for key in ("config", "cut_flow", "writers")},
        "roots": manifest.get("roots") or [],
    }


def check_set(stamp_set: StampSet) -> None:
    """Check that every split holds both classes, and the test split two of each: else there is no interval.

    Raises
    ------
    TrainingSetError
    """
    check_splits(stamp_set)
    real, fake = stamp_set.count("test")
    if min(real, fake) < LEAST_TEST:
        msg = (
            f"{stamp_set.directory}: {real} real and {fake} fake test examples; {LEAST_TEST} of each are "
            "needed for an interval: make a set with more bricks"
        )
        raise TrainingSetError(msg)
