"""Atomic file replacement, checksums, and JSON objects."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: Path, scratch: Path | None = None, *, synced: bool = False) -> Iterator[Path]:
    """Temporary file that replaces its target when the block ends, and is removed if the block fails.

    Parameters
    ----------
    path : Path
        The target; an existing file is replaced.
    scratch : Path, optional
        Directory of the same file system in which the file is written; that of the target by default.
    synced : bool
        Wait until the file is on the disk.  Files that can be made again do without: their checksum tells.

    Yields
    ------
    Path
        Name with the same suffix, of no file, that no other process of this machine writes to.
    """
    beside = (scratch or path.parent) / f".{os.getpid()}-{path.name}"
    beside.unlink(missing_ok=True)
    try:
        yield beside
        if synced:
            with beside.open("rb") as stream:
                os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and not error.filename:  # as of a write to a full disk
            error.filename = str(path)
        raise


def copy_file(source: Path, path: Path, scratch: Path | None = None) -> None:
    """Copy a file's content, atomically (`atomic_write`)."""
    with atomic_write(path, scratch) as beside:
        shutil.copyfile(source, beside)


def file_crc32(path: Path) -> int:
    """CRC-32 (zlib) of a file."""
    value = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If the content is not JSON, or not an object.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        msg = f"a JSON {type(content).__name__} where an object should be"
        raise ValueError(msg)
    return content


def write_json(path: Path, content: dict[str, Any], scratch: Path | None = None) -> None:
    """Write a JSON object without NaN, atomically (`atomic_write`)."""
    with atomic_write(path, scratch) as beside:
        beside.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
