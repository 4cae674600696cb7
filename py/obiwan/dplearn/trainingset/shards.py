"""Shards of a training set: files of stamps and labels, plain npy or packed, with checksums.

``x<split>_<n>.npy`` holds little-endian float32 stamps, shape (rows, size, size, channels) in C order, axes
``[row, y, x, channel]``; ``y<split>_<n>.npy`` holds labels, unsigned bytes, real = 0, fake = 1.
``numpy.load`` on either is all that a stranger needs.  Images are nanomaggies, inverse variances
1/nanomaggies**2, exactly as in the coadds.  In a packed shard (`obiwan.dplearn.trainingset.packed`) the same
stamps, bit for bit, are in ``x<split>_<n>.npz``, four times smaller.

A file is written under ``.work/`` and renamed into place, so it exists complete or not at all.
"""

from __future__ import annotations

import stat
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import TrainingSetError, explained
from obiwan.dplearn.files.npy import corrupt, load_npy, load_npz, npy_crc32, write_npy, write_npz
from obiwan.dplearn.stampspec import SPLITS, Array, StampSpec
from obiwan.dplearn.trainingset.packed import pack, unpack

X_DTYPE = np.dtype("<f4")
Y_DTYPE = np.dtype("|u1")
FORMS = (NPY, PACKED) = ("npy", "packed")  #: of the file of stamps


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
        CRC-32 (zlib) of the npy files; of a packed shard's stamps, of the npy file that they would make.
    packed_crc32 : int or None
        CRC-32 of the npz file of a packed shard.

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
    packed_crc32: int | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Split and number, which name it."""
        return self.split, self.number

    @property
    def packed(self) -> bool:
        """Whether its stamps are packed."""
        return self.packed_crc32 is not None

    @property
    def x_name(self) -> str:
        """File name of the stamps."""
        return f"x{self.split}_{self.number}.{'npz' if self.packed else 'npy'}"

    @property
    def y_name(self) -> str:
        """File name of the labels."""
        return f"y{self.split}_{self.number}.npy"

    @property
    def files(self) -> dict[str, int]:
        """Names of its files, and their checksums."""
        x = self.x_crc32 if self.packed_crc32 is None else self.packed_crc32
        return {self.x_name: x, self.y_name: self.y_crc32}

    @property
    def content(self) -> str:
        """Name of its stamps and labels, the same in either form."""
        return f"x{self.split}_{self.number}.npy:{self.x_crc32}:{self.y_crc32}"

    def to_manifest(self) -> dict[str, Any]:
        """Entry in a manifest."""
        return {key: value for key, value in asdict(self).items() if value is not None}

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
    patches: Array | None = None,
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
    patches : ndarray of `obiwan.dplearn.trainingset.patches.patch_dtype`, optional
        Write a packed shard; see `obiwan.dplearn.trainingset.packed.pack`.

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
    if patches is None:
        made = replace(blank, x_crc32=write_npy(directory / blank.x_name, scratch, x))
    else:
        blank = replace(blank, x_crc32=npy_crc32(x), packed_crc32=0)
        packed_crc32 = write_npz(directory / blank.x_name, scratch, pack(x, spec, patches))
        made = replace(blank, packed_crc32=packed_crc32)
    return replace(made, y_crc32=write_npy(directory / blank.y_name, scratch, y))


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
    path = directory / shard.x_name
    if shard.packed_crc32 is None:
        x = load_npy(path, shard.x_crc32, X_DTYPE, (shard.rows, *spec.shape))
    else:
        arrays = load_npz(path, shard.packed_crc32)
        remedy = "make the set again (create_training --overwrite), or pack its npy form again"
        with explained(f"{path}: not a packed shard of {shard.rows} stamps", remedy, TrainingSetError):
            x = unpack(arrays, spec, shard.rows)
        if npy_crc32(x) != shard.x_crc32:
            raise TrainingSetError(corrupt(path))
    y = load_npy(directory / shard.y_name, shard.y_crc32, Y_DTYPE, (shard.rows,))
    return x, y


def check_files(directory: Path, spec: StampSpec, shard: Shard) -> None:
    """Check that a shard's files are there and large enough: no memory is asked for that they do not fill.

    Raises
    ------
    TrainingSetError
        If a file is missing or too small.
    """
    stamps = 1 if shard.packed else spec.stamp_bytes  # a packed one may be nearly nothing
    for name, least in ((shard.x_name, shard.rows * stamps), (shard.y_name, shard.rows)):
        path = directory / name
        try:
            found = path.stat()
        except OSError:
            lacks = "the manifest names this shard but it is not there"
            msg = f"{path}: {lacks}; make the set again (--overwrite)"
            raise TrainingSetError(msg) from None
        if not stat.S_ISREG(found.st_mode):
            msg = f"{path}: not a file; make the set again (--overwrite)"
            raise TrainingSetError(msg)
        if found.st_size < least:
            msg = f"{path}: truncated, {found.st_size} bytes; make the training set again (--overwrite)"
            raise TrainingSetError(msg)
