"""Leases on output directories: of two runs in one directory the later goes on and the earlier ends.

A lock would outlive a run that was killed, and parallel file systems are slow at locks or have none.
Instead each run writes through a scratch directory of its own and renames into place.  A run that
begins moves away the scratch directories that it finds, after which their owners cannot put another
file anywhere; and what killed runs left half-written is gone with them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from obiwan.dplearn.errors import LeaseLostError

_GONE = "gone-"


def revoke_leases(parent: Path, mine: Path | None = None) -> None:
    """End other runs by moving their scratch directories away, and remove half-written files."""
    for old in sorted(parent.iterdir()) if parent.is_dir() else ():
        if old == mine:
            continue
        grave = old if old.name.startswith(_GONE) else Path(tempfile.mkdtemp(prefix=_GONE, dir=parent))
        if grave != old:
            with suppress(FileNotFoundError):  # somebody else was quicker
                old.replace(grave / old.name)  # at once and for good; file by file would leave gaps
        shutil.rmtree(grave, ignore_errors=True)


def acquire_lease(parent: Path) -> Path:
    """Make a scratch directory, and end other runs that have one in the same place.

    Parameters
    ----------
    parent : Path
        Holds the scratch directories of one output directory; made if need be.

    Returns
    -------
    Path
        The new one.
    """
    parent.mkdir(parents=True, exist_ok=True)
    # First mine, then theirs: of two runs that begin at the same moment both may end, but never none.
    mine = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
    revoke_leases(parent, mine)
    return mine


@contextmanager
def holding_lease(scratch: Path | None, directory: Path) -> Iterator[None]:
    """Raise `LeaseLostError` instead of an OSError where the scratch directory is no longer there.

    Raises
    ------
    LeaseLostError
        If another run has begun in the directory, or somebody has cleared it away.
    """
    try:
        yield
    except OSError:
        if scratch is None or scratch.is_dir():
            raise
        msg = (
            f"{directory}: the scratch directory of this run is gone: another run was started here and has "
            "taken over, or it was cleared away; this one ends"
        )
        raise LeaseLostError(msg) from None
