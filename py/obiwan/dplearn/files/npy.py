"""Arrays in npy and npz files: atomic writes, reading with a checksum, and no unpickling."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import TrainingSetError, explained
from obiwan.dplearn.files import memory
from obiwan.dplearn.files.atomic import atomic_write

_BLOCK = 1 << 18  # bytes read and summed at a time: they fit the processor's cache
_REMEDY = "make the training set again (create_training --overwrite) or copy the file anew"


def _npy_header(array: NDArray[Any]) -> bytes:
    """Header of an npy file: what stands before the numbers."""
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    return stream.getvalue()


def npy_crc32(array: NDArray[Any]) -> int:
    """CRC-32 (zlib) of the npy file that `write_npy` makes of a C-contiguous array."""
    return zlib.crc32(array.data.cast("B"), zlib.crc32(_npy_header(array)))


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
    header, data = _npy_header(array), array.data.cast("B")
    with atomic_write(path, scratch) as beside, beside.open("wb", buffering=0) as file:
        _write(file, header)
        _write(file, data)
    return zlib.crc32(data, zlib.crc32(header))


def write_npz(path: Path, scratch: Path, arrays: Mapping[str, NDArray[Any]]) -> int:
    """Write arrays as an npz file whose bytes depend on nothing else, atomically; see `write_npy`.

    Returns
    -------
    int
        CRC-32 (zlib) of the whole file.
    """
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():  # a ZipInfo of a name alone has the date of 1980
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), _npy_header(array) + array.tobytes())
    content = stream.getbuffer()
    with atomic_write(path, scratch) as beside, beside.open("wb", buffering=0) as file:
        _write(file, content)
    return zlib.crc32(content)


def _write(file: Any, data: Any) -> None:
    """Write all bytes to an unbuffered file, whose writes may be partial."""
    data, written = memoryview(data), 0
    while written < len(data):
        written += file.write(data[written:])


def _checked(path: Path, expected_crc32: int) -> NDArray[np.uint8]:
    """The bytes of a file of a shard, whose checksum must be the expected one."""
    try:
        with path.open("rb", buffering=0) as file:
            raw, crc32, filled = memory.empty((os.fstat(file.fileno()).st_size,), np.uint8), 0, 0
            while count := file.readinto(raw.data[filled : filled + _BLOCK]):
                crc32 = zlib.crc32(raw.data[filled : filled + count], crc32)
                filled += count
    except FileNotFoundError:
        msg = f"{path}: the manifest names this shard but it is not there; {_REMEDY}"
        raise TrainingSetError(msg) from None
    if crc32 != expected_crc32:
        raise TrainingSetError(corrupt(path))
    return raw[:filled]


def corrupt(path: Path) -> str:
    """Message on a file whose content is not what the manifest vouches for."""
    return f"{path}: checksum differs from the manifest's, the shard is corrupt; {_REMEDY}"


def _parsed(raw: NDArray[np.uint8]) -> tuple[tuple[tuple[int, ...], bool, np.dtype[Any]], NDArray[np.uint8]]:
    """Shape, order and type in the header of an npy file, and the bytes of its numbers."""
    stream = BytesIO(raw[:1024].tobytes())
    np.lib.format.read_magic(stream)
    found = np.lib.format.read_array_header_1_0(stream)
    return found, raw[stream.tell() :]


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
    raw = _checked(path, expected_crc32)
    with explained(f"{path}: not an npy file of version 1.0", _REMEDY, TrainingSetError):
        found, data = _parsed(raw)
    if found != (shape, False, dtype) or len(data) != math.prod(shape) * dtype.itemsize:
        msg = (
            f"{path}: {found[2]} of shape {found[0]} in {len(data)} bytes is not what the manifest says "
            f"({dtype}, {shape}); {_REMEDY}"
        )
        raise TrainingSetError(msg)
    # A view on the bytes just read: no second copy of 50 MB, and never anything pickled.
    return data.view(dtype).reshape(shape)


def load_npz(path: Path, expected_crc32: int) -> dict[str, NDArray[Any]]:
    """Read the arrays of an npz file whose checksum must be the expected one.

    Raises
    ------
    TrainingSetError
        If the file is missing, its checksum differs, or it holds anything but uncompressed arrays.
    """
    raw, out = _checked(path, expected_crc32), {}
    with (
        explained(f"{path}: not an npz file", _REMEDY, TrainingSetError),
        zipfile.ZipFile(BytesIO(raw.data)) as archive,
    ):
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or not member.filename.endswith(".npy"):
                msg = f"{member.filename} is no array, or is compressed"
                raise ValueError(msg)
            (shape, fortran, dtype), data = _parsed(np.frombuffer(archive.read(member), np.uint8))
            if fortran or dtype.hasobject or len(data) != math.prod(shape) * dtype.itemsize:
                msg = f"{member.filename}: {len(data)} bytes are not {dtype} of shape {shape}"
                raise ValueError(msg)
            out[member.filename.removesuffix(".npy")] = data.view(dtype).reshape(shape)
    return out
