"""Notes that TensorFlow writes while it is imported, and gloo at its first message, left out."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_NOTES = (b"All log messages before absl::InitializeLog", b"oneDNN custom operations are on", b"[Gloo] Rank ")


@contextmanager
def without_notes(stream: int = 2) -> Iterator[None]:
    """Leave out the notes that TensorFlow writes while it is imported, whatever its log level.

    There are four on each rank.  What else is written meanwhile is passed on.

    Parameters
    ----------
    stream : int
        Standard error; 1, standard output, is gloo's.
    """
    (sys.stdout if stream == 1 else sys.stderr).flush()
    kept = os.dup(stream)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), stream)
        try:
            yield
        finally:
            os.dup2(kept, stream)
            os.close(kept)
            caught.seek(0)
            for line in caught:
                if not any(note in line for note in _NOTES):
                    os.write(stream, line)
