"""Arrays in npy files: atomic writes, reading with a checksum, and no unpickling."""

from __future__ import annotations

import math
import os
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import TrainingSetError, explained
from obiwan.dplearn.files.atomic import atomic_write

_BLOCK = 1 << 18  # bytes read and summed at a time: they fit the processor's cache


def write_npy(path: Path, scratch: Path, array: NDArray[Any]) -> int:
    """Write an array as npy (version 1.0), atomically.

    Parameters
    ----------
    path : Path
        Where it ends.
    scratch : Path
        Directory of the same file system in which it is written before it is renamed.
    array : ndarray
        C-contiguous.

    Returns
    -------
    int
        CRC-32 (zlib) of the whole file.
    """
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    header, data = stream.getvalue(), array.data.cast("B")
    with atomic_write(path, scratch) as beside, beside.open("wb", buffering=0) as file:
        file.write(header)
        written = 0
        while written < len(data):  # an unbuffered write may be partial
            written += file.write(data[written:])
    return zlib.crc32(data, zlib.crc32(header))


def load_npy(path: Path, expected_crc32: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Read an npy file whose checksum, type and shape must be the expected ones.

    Parameters
    ----------
    path : Path
        The file.
    expected_crc32 : int
        CRC-32 (zlib) of the whole file.
    dtype, shape
        Of the array.

    Returns
    -------
    ndarray
        A view on the bytes of the file.

    Raises
    ------
    TrainingSetError
        If the file is missing or anything differs.
    """
    remedy = "make the training set again (create_training --overwrite) or copy the file anew"
    try:
        with path.open("rb", buffering=0) as file:
            raw, crc32, filled = np.empty(os.fstat(file.fileno()).st_size, np.uint8), 0, 0
            while count := file.readinto(raw.data[filled : filled + _BLOCK]):
                crc32 = zlib.crc32(raw.data[filled : filled + count], crc32)
                filled += count
    except FileNotFoundError:
        msg = f"{path}: the manifest names this shard but it is not there; {remedy}"
        raise TrainingSetError(msg) from None
    if crc32 != expected_crc32:
        msg = f"{path}: checksum differs from the manifest's, the shard is corrupt; {remedy}"
        raise TrainingSetError(msg)
    with explained(f"{path}: not an npy file of version 1.0", remedy, TrainingSetError):
        stream = BytesIO(raw[: min(filled, 1024)].tobytes())
        np.lib.format.read_magic(stream)
        found = np.lib.format.read_array_header_1_0(stream)
    data = raw[stream.tell() : filled]
    if found != (shape, False, dtype) or len(data) != math.prod(shape) * dtype.itemsize:
        msg = (
            f"{path}: {found[2]} of shape {found[0]} in {len(data)} bytes is not what the manifest says "
            f"({dtype}, {shape}); {remedy}"
        )
        raise TrainingSetError(msg)
    # A view on the bytes just read: no second copy of 50 MB, and never anything pickled.
    return data.view(dtype).reshape(shape)
