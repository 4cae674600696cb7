"""Shards of a training set: plain npy files of stamps and labels, with checksums.

``x<split>_<n>.npy`` holds little-endian float32 stamps, shape (rows, size, size, channels) in C order, axes
``[row, y, x, channel]``; ``y<split>_<n>.npy`` holds labels, unsigned bytes, real = 0, fake = 1.
``numpy.load`` on either is all that a stranger needs.  Images are nanomaggies, inverse variances
1/nanomaggies**2, exactly as in the coadds.

A file is written under ``.work/`` and renamed into place, so it exists complete or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.files.npy import load_npy, write_npy
from obiwan.dplearn.stampspec import SPLITS, StampSpec

X_DTYPE = np.dtype("<f4")
Y_DTYPE = np.dtype("|u1")


@dataclass(frozen=True)
class Shard:
    """One pair of files and what the manifest says of them.

    Attributes
    ----------
    split : str
        ``train``, ``val`` or ``test``.
    number : int
        The N of the file names, from 1.
    rows, real, fake : int
        Examples, and how many of each class.
    x_crc32, y_crc32 : int
        CRC-32 (zlib) of the whole files.

    Raises
    ------
    ValueError
        If the numbers do not fit each other, or there is no such split.
    """

    split: str
    number: int
    rows: int
    real: int
    fake: int
    x_crc32: int
    y_crc32: int

    @property
    def key(self) -> tuple[str, int]:
        """Split and number, which name it."""
        return self.split, self.number

    @property
    def x_name(self) -> str:
        """File name of the stamps."""
        return f"x{self.split}_{self.number}.npy"

    @property
    def y_name(self) -> str:
        """File name of the labels."""
        return f"y{self.split}_{self.number}.npy"

    def __post_init__(self) -> None:
        sound = self.split in SPLITS and self.number >= 1 <= self.rows == self.real + self.fake
        if not sound or min(self.real, self.fake) < 0:
            msg = f"{self} makes no sense"
            raise ValueError(msg)


def write_shard(
    directory: Path,
    spec: StampSpec,
    split: str,
    number: int,
    x: NDArray[np.float32],
    y: NDArray[np.uint8],
    scratch: Path,
) -> Shard:
    """Write one shard, completely or not at all.

    Parameters
    ----------
    directory : Path
        The training set.
    spec : StampSpec
        What its stamps are.
    split, number
        Which shard.
    x : ndarray
        Stamps, shape (rows, size, size, channels), little-endian float32, C-contiguous.
    y : ndarray
        Labels, shape (rows,), uint8.
    scratch : Path
        Where the files are written before they are renamed, on the same file system.

    Returns
    -------
    Shard
        The entry for the manifest.

    Raises
    ------
    ValueError
        If the arrays are not as the format has them.
    """
    if x.shape[1:] != spec.shape or x.dtype != X_DTYPE or not x.flags.c_contiguous:
        shape = ", ".join(map(str, spec.shape))
        msg = f"stamps must be C-contiguous {X_DTYPE.str} (n, {shape}), got {x.dtype.str} {x.shape}"
        raise ValueError(msg)
    if y.shape != (len(x),) or y.dtype != Y_DTYPE or len(x) == 0:
        msg = f"labels must be {Y_DTYPE.str} ({len(x)},) and not empty, got {y.dtype.str} {y.shape}"
        raise ValueError(msg)
    fakes = int(np.count_nonzero(y))
    blank = Shard(split, number, len(x), len(x) - fakes, fakes, 0, 0)
    x_crc32 = write_npy(directory / blank.x_name, scratch, x)
    y_crc32 = write_npy(directory / blank.y_name, scratch, y)
    return Shard(split, number, len(x), len(x) - fakes, fakes, x_crc32, y_crc32)


def read_shard(
    directory: Path, spec: StampSpec, shard: Shard
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Read one shard and check it against its manifest entry.

    Parameters
    ----------
    directory : Path
        The training set.
    spec : StampSpec
        What its stamps are.
    shard : Shard
        Which one.

    Returns
    -------
    x : ndarray
        Stamps, shape (rows, size, size, channels), float32 (nanomaggies and 1/nanomaggies**2).
    y : ndarray
        Labels, shape (rows,), uint8: real = 0, fake = 1.

    Raises
    ------
    TrainingSetError
        If a file is missing, corrupt, or of another shape than the manifest says.
    """
    x = load_npy(directory / shard.x_name, shard.x_crc32, X_DTYPE, (shard.rows, *spec.shape))
    y = load_npy(directory / shard.y_name, shard.y_crc32, Y_DTYPE, (shard.rows,))
    return x, y


def check_files(directory: Path, spec: StampSpec, shard: Shard) -> None:
    """Check that a shard's files are there and large enough: no memory is asked for that they do not fill.

    Raises
    ------
    TrainingSetError
        If a file is missing or too small.
    """
    for name, least in ((shard.x_name, shard.rows * spec.stamp_bytes), (shard.y_name, shard.rows)):
        try:
            size = (directory / name).stat().st_size
        except OSError:
            msg = f"{directory / name}: the manifest names this shard but it is not there; make the set again"
            raise TrainingSetError(msg) from None
        if size < least:
            msg = f"{directory / name}: truncated, {size} bytes; make the training set again (--overwrite)"
            raise TrainingSetError(msg)
