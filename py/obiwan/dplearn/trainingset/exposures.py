"""Exposures of the bricks of a training set: which bricks share PSF, sky and zero points.

``exposures.fits`` has a row for every brick and exposure.  There is no such file where no ``-ccds.fits``
beside the coadds says what they were made from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.files.atomic import atomic_write, file_crc32
from obiwan.dplearn.files.fits import check_not_truncated, open_fits, reading
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.ccds import EXPOSURE

EXPOSURES = "exposures.fits"
CHECKSUM = "exposures_crc32"  #: entry of the manifest
BRICK_EXPOSURE = np.dtype([("brick", "S24"), *EXPOSURE.descr])  #: one exposure of one brick
_AGAIN = "make the training set again (create_training --overwrite)"


def no_exposures() -> Array:
    """Table of exposures without rows."""
    return np.empty(0, BRICK_EXPOSURE)


def exposures_of(brick: str, exposures: Array) -> Array:
    """Rows of `BRICK_EXPOSURE` of one brick, from its exposures."""
    rows = np.empty(len(exposures), BRICK_EXPOSURE)
    rows["brick"] = brick.encode()
    for name in EXPOSURE.names or ():
        rows[name] = exposures[name]
    return rows


def write_exposures(path: Path, scratch: Path, rows: Array) -> int:
    """Write the table, completely or not at all; returns the CRC-32 (zlib) of the file."""
    with atomic_write(path, scratch) as beside, open_fits(beside, new=True) as file:
        file.write(rows, extname="EXPOSURES")
    return file_crc32(path)


def read_exposures(directory: Path, manifest: dict[str, Any]) -> Array:
    """Rows of `BRICK_EXPOSURE` of a training set; none where its exposures are not known.

    Raises
    ------
    TrainingSetError
        If the manifest names a table that is missing, unreadable or another one.
    """
    expected = manifest.get(CHECKSUM)
    if expected is None:
        return no_exposures()
    path = directory / EXPOSURES
    with reading(f"{path}: cannot read it", _AGAIN, TrainingSetError):
        if file_crc32(path) == expected:
            with open_fits(path) as file:
                check_not_truncated(file, path)
                return np.asarray(file[1].read(), BRICK_EXPOSURE)
    msg = f"{path}: checksum differs from the manifest's, the table is corrupt; {_AGAIN} or copy it anew"
    raise TrainingSetError(msg)
