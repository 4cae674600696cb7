"""The examples of a whole survey, in a file without a name while it is planned.

A row of ``sources.fits`` has 240 bytes, and sixty million of them would fill a node's memory.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path

import numpy as np

from obiwan.dplearn.conventions import Array
from obiwan.dplearn.trainingset.examples import EXAMPLE_DTYPE


class RowFile:
    """Rows of examples, appended brick by brick in any order.

    Parameters
    ----------
    directory : Path
        On whose file system they are kept; the file has no name there and ends with the program.
    """

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - lives as long as this
        self._directory = directory
        weakref.finalize(self, self._file.close)
        self._length = 0

    def append(self, rows: Array) -> int:
        """Store rows; returns the place of the first."""
        first, data = self._length, np.ascontiguousarray(rows).view(np.uint8).data
        written = 0
        try:
            while written < len(data):  # an unbuffered write may be partial
                written += self._file.write(data[written:])
        except OSError as error:
            error.filename = str(self._directory)  # the file itself has no name
            raise
        self._length += len(rows)
        return first

    def read(self, first: int, count: int) -> Array:
        """So many rows from a place on, in memory of their own."""
        size, data = EXAMPLE_DTYPE.itemsize, bytearray()
        while len(data) < count * size:
            part = os.pread(self._file.fileno(), count * size - len(data), first * size + len(data))
            if not part:
                msg = "the file of planned rows ends too early"
                raise OSError(msg)
            data += part
        return np.frombuffer(data, EXAMPLE_DTYPE)
