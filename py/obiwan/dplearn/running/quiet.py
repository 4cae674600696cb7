"""Notes that TensorFlow writes while it is imported, and gloo at its first message, left out."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_NOTES = (b"All log messages before absl::InitializeLog", b"oneDNN custom operations are on", b"[Gloo] Rank ")


@contextmanager
def without_notes() -> Iterator[None]:
    """Leave out the notes that TensorFlow writes while it is imported, whatever its log level.

    There are four on each rank, and gloo's.  What else is written to standard error meanwhile is passed on.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            for line in caught:
                if not any(note in line for note in _NOTES):
                    os.write(2, line)
