"""Where files are to go: found before any work that it can be written."""

from __future__ import annotations

import os
from pathlib import Path

from obiwan.dplearn.errors import DplearnError


def nearest_directory(directory: Path) -> Path:
    """A directory, or the first of those above it that is there already."""
    return next(parent for parent in (directory, *directory.absolute().parents) if parent.exists())


def check_writable(directory: Path, kind: type[DplearnError]) -> None:
    """Refuse an output directory in which nothing can be written; it need not be there yet.

    Parameters
    ----------
    directory : Path
    kind : type of DplearnError
        What to raise.

    Raises
    ------
    DplearnError
        Of that kind, if it, or the first of those above it that is there, is a file or not writable.
    """
    existing = nearest_directory(directory)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        msg = f"{directory}: cannot write there (not a writable directory); choose another --outdir"
        raise kind(msg)
