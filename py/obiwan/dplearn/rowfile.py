"""The examples of a whole survey: a few bytes of each in memory, the rest in a file without a name.

A row of ``sources.fits`` has 240 bytes, and sixty million of them, copied as they are sorted, would
fill a node.  To decide what is used, and where it goes, a fifth of that is enough.
"""

from __future__ import annotations

import os
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.examples import EXAMPLE_DTYPE

Array = NDArray[Any]

_KEPT = ("split", "shard", "row", "label", "brick", "ra", "dec", "flags")
_NAMED = ("root", "run", "id")  # what names an example
_GAP = 64  # rows that are read and thrown away rather than sought over


def _dtype(*, named: bool) -> np.dtype[Any]:
    names = (*_KEPT, *_NAMED) if named else _KEPT
    return np.dtype([("at", "i8"), *((name, EXAMPLE_DTYPE[name]) for name in names)])


class RowFile:
    """Rows of examples, appended brick by brick in any order.

    Parameters
    ----------
    directory : Path
        On whose file system they are kept; the file has no name there and ends with the program.
    named : bool
        Whether `append` keeps root, run and id in memory.
    """

    def __init__(self, directory: Path, *, named: bool = False) -> None:
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - lives as long as this
        weakref.finalize(self, self._file.close)
        self._dtype = _dtype(named=named)
        self._length = 0

    def append(self, rows: Array) -> Array:
        """Store rows; returns what is kept of them in memory, with their place here as ``at``."""
        data = np.ascontiguousarray(rows).view(np.uint8).data
        written = 0
        while written < len(data):  # an unbuffered write may be partial
            written += self._file.write(data[written:])
        kept = np.empty(len(rows), self._dtype)
        kept["at"] = np.arange(self._length, self._length + len(rows))
        for name in self._dtype.names[1:]:  # type: ignore[index]
            kept[name] = rows[name]
        self._length += len(rows)
        return kept

    def read(self, at: Array) -> Array:
        """The rows at these places, in their order, neighbours together."""
        out = np.empty(len(at), EXAMPLE_DTYPE)
        order = np.argsort(at, kind="stable")
        breaks = np.flatnonzero(np.diff(at[order]) > _GAP) + 1
        for members in np.split(order, breaks) if len(at) else ():
            first, last = int(at[members[0]]), int(at[members[-1]])
            out[members] = self._stretch(first, last + 1)[at[members] - first]
        return out

    def _stretch(self, first: int, last: int) -> Array:
        size, data = EXAMPLE_DTYPE.itemsize, bytearray()
        while len(data) < (last - first) * size:
            part = os.pread(self._file.fileno(), (last - first) * size - len(data), first * size + len(data))
            if not part:
                msg = "the file of planned rows ends too early"
                raise OSError(msg)
            data += part
        return np.frombuffer(data, EXAMPLE_DTYPE)


@dataclass(frozen=True)
class Planned:
    """Every example of a training set, in the order of splits, shards and rows, group by group.

    Attributes
    ----------
    kept : ndarray
        What `RowFile.append` gave of the examples that are used, in their final order.
    starts : ndarray of int
        First row of each extraction task, and the number of examples at the end.
    file : RowFile
        Where the rest is.
    """

    kept: Array
    starts: Array
    file: RowFile

    @property
    def groups(self) -> int:
        """Number of extraction tasks."""
        return len(self.starts) - 1

    def __len__(self) -> int:
        return len(self.kept)

    def group(self, number: int) -> Array:
        """The examples of one task, whole."""
        kept = self.kept[self.starts[number] : self.starts[number + 1]]
        rows = self.file.read(kept["at"])
        for name in ("split", "shard", "row", "flags"):
            rows[name] = kept[name]
        return rows

    def __iter__(self) -> Iterator[Array]:
        for number in range(self.groups):
            yield self.group(number)

    @property
    def crc32(self) -> int:
        """CRC-32 (zlib) of all rows, which names what a training set is made of."""
        value = 0
        for rows in self:
            value = zlib.crc32(rows.tobytes(), value)
        return value


def sorted_groups(kept: Array, group: Array, file: RowFile) -> Planned:
    """Put what `assembly.assemble` decided together; a group's rows follow each other."""
    starts = np.flatnonzero(np.r_[True, np.diff(group) != 0, True])
    return Planned(kept, starts, file)
