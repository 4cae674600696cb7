"""Reusable read buffers: the first touch of fresh memory costs more than reading a shard into it."""

from __future__ import annotations

import os
import weakref
import zlib
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 18  # bytes read and summed at a time: they fit the processor's cache


class BufferPool:
    """Buffers of one size, each lent as an array and back by itself when the array and its views are gone.

    Nothing is overwritten that somebody still looks at: a reader that keeps its arrays keeps their
    memory, and the next loan is a fresh buffer.  Loans may be taken and let go in different threads.

    Parameters
    ----------
    size : int
        Bytes of a buffer; larger loans are never kept.
    spare : int
        Most buffers kept while nobody uses them.
    """

    def __init__(self, size: int, spare: int) -> None:
        self.size = size
        self._spare: deque[bytearray] = deque(maxlen=spare)  # one too many pushes the oldest out

    def take(self, size: int) -> NDArray[np.uint8]:
        """Lend an array of this many bytes, its content undefined."""
        if size > self.size:
            return np.empty(size, np.uint8)
        try:
            buffer = self._spare.pop()
        except IndexError:
            buffer = bytearray(self.size)
        # Views of this array, and views of those, all refer to it: its end is the end of them all.
        array = np.frombuffer(buffer, np.uint8, count=size)
        weakref.finalize(array, self._spare.append, buffer).atexit = False
        return array


def read_file(path: Path, memory: BufferPool | None = None) -> tuple[NDArray[np.uint8], int]:
    """Read a file into lent or fresh memory; returns its bytes and their CRC-32 (zlib)."""
    with path.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        raw = memory.take(size) if memory else np.empty(size, np.uint8)
        data, crc32, filled = raw.data, 0, 0
        while count := stream.readinto(data[filled : filled + _BLOCK]):
            crc32 = zlib.crc32(data[filled : filled + count], crc32)
            filled += count
    return raw[:filled], crc32
