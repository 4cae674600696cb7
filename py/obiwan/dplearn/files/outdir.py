"""Output directories: what one holds, whether it may be written, and the run that writes there.

A directory is empty, holds an unfinished or a finished run of the same request, or is foreign: it holds
another request's run or files of somebody else.  The request is stored in a JSON file, the record.

Of two runs in one directory the later goes on and the earlier ends.  A lock would outlive a run that was
killed, and parallel file systems are slow at locks or have none.  Instead each run writes through a scratch
directory of its own, its lease, and renames into place.  A run that begins moves away the scratch directories
that it finds, after which their owners cannot put another file anywhere; and what killed runs left
half-written is gone with them.
"""

from __future__ import annotations

import os
import re
import reprlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from obiwan.dplearn.errors import DplearnError, LeaseLostError
from obiwan.dplearn.files.atomic import read_json, write_json
from obiwan.dplearn.files.fits import can_hold_fits

_MOST_DIFFERENCES = 4
_HELD, _GONE = "run-", "gone-"


class State(Enum):
    """What an output directory holds, for one request."""

    EMPTY = auto()
    UNFINISHED = auto()
    FINISHED = auto()
    FOREIGN = auto()


class Others(Enum):
    """Whether files that the program does not write may stand in its output directory."""

    LEFT = auto()  #: they may; only names that the program writes are refused where there is no record
    WITH_RECORD = auto()  #: beside a record; a directory without one must be empty, but for ``--overwrite``
    REFUSED = auto()


def nearest_directory(directory: Path) -> Path:
    """A directory, or the first of those above it that is there already, if only as a link to nothing."""
    return next(parent for parent in (directory, *directory.absolute().parents) if os.path.lexists(parent))


def _differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Entries that differ between two nested requests, as ``key was old, is new``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        inner = f"{prefix}." if prefix else ""
        keys = sorted({*old, *new})
        return [line for key in keys for line in _differences(old.get(key), new.get(key), f"{inner}{key}")]
    was, is_ = (v if isinstance(v, str) and len(v) < 80 else reprlib.repr(v) for v in (old, new))
    return [] if old == new else [f"{prefix} was {was}, is {is_}"]


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


def held_leases(parent: Path) -> list[Path]:
    """Scratch directories that have not been released, of running processes or of dead ones."""
    return sorted(parent.glob(f"{_HELD}*"))


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
    mine = Path(tempfile.mkdtemp(prefix=_HELD, dir=parent))
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


@dataclass(frozen=True)
class OutputDirectory:
    """The output directory of one program.

    Attributes
    ----------
    path : Path
        It need not exist.
    holds : str
        What the program makes, for messages: ``training set``.
    error : type of DplearnError
        What refusals raise.
    owned : re.Pattern
        Top-level names that the program writes and `clear` removes.
    records : tuple of str
        Files that hold a request, the first that is there counts; `begin` writes the last.
    final : str
        The file that a finished run writes last; empty where runs are never taken as finished.
    scratch : str
        The directory of the scratch directories of running writers (`acquire_lease`).
    lasting : frozenset of str
        Names beside `scratch` that may be there without a record and are not cleared.
    others : Others
        Whether files of others are accepted.
    identify : callable
        The request in a record's content; None where the record is not of this program.
    """

    path: Path
    holds: str
    error: type[DplearnError]
    owned: re.Pattern[str]
    records: tuple[str, ...]
    final: str
    scratch: str
    lasting: frozenset[str] = frozenset()
    others: Others = Others.LEFT
    identify: Callable[[dict[str, Any]], dict[str, Any] | None] = dict

    def state(self, request: Mapping[str, Any]) -> State:
        """What the directory holds; looks only."""
        return self._look(request)[0]

    def check(self, request: Mapping[str, Any], *, overwrite: bool = False) -> State:
        """Refuse a directory that this request may not use; changes nothing.

        Parameters
        ----------
        request : mapping
            As JSON gives it back.
        overwrite : bool
            Accept another request's run, which is then FOREIGN and to be removed by `clear`.

        Raises
        ------
        DplearnError
            Of the kind `error`, if the directory holds what may not be replaced, or cannot be written.
        """
        state, reason, replaceable = self._look(request, overwrite=overwrite)
        existing = nearest_directory(self.path)
        writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
        if not writable and (state is not State.FINISHED or overwrite):  # a finished run is only read
            msg = f"{self.path}: cannot write there (not a writable directory); choose another --outdir"
            raise self.error(msg)
        if not can_hold_fits(self.path):
            msg = f"{self.path}: CFITSIO would interpret this name; choose an --outdir of letters and digits"
            raise self.error(msg)
        if reason and not (overwrite and replaceable):
            raise self.error(reason)
        return state

    def _look(self, request: Mapping[str, Any], *, overwrite: bool = False) -> tuple[State, str, bool]:
        """State; of a foreign directory, why it is refused, and whether ``--overwrite`` would replace it."""
        if not self.path.is_dir():
            return State.EMPTY, "", False
        record, remedy = self._record(), "choose another --outdir"
        if stranger := self._stranger(recorded=record is not None, overwrite=overwrite):
            remedy += ", or give --overwrite" if self.others is Others.WITH_RECORD else ""
            reason = f"{self.path}: holds {stranger}, which is no part of a {self.holds}; {remedy}"
            return State.FOREIGN, reason, False
        if record is None:
            return State.EMPTY, "", False
        if differing := _differences(record, request) if record else ["its record is damaged"]:
            more = ["..."] if len(differing) > _MOST_DIFFERENCES else []
            which = "; ".join(differing[:_MOST_DIFFERENCES] + more)
            reason = f"{self.path}: holds another {self.holds} ({which}); {remedy}, or give --overwrite"
            return State.FOREIGN, reason, True
        ended = self.final and (self.path / self.final).is_file()
        return State.FINISHED if ended else State.UNFINISHED, "", False

    def _record(self) -> dict[str, Any] | None:
        """The request that a record holds, an empty one where it is damaged; None where there is none."""
        for name in self.records:
            if (self.path / name).is_file():
                try:
                    return self.identify(read_json(self.path / name))
                except ValueError:
                    return self.identify({})
        return None

    def _stranger(self, *, recorded: bool, overwrite: bool) -> str | None:
        """The first file for which the directory is refused."""
        lasting = {Path(self.scratch).parts[0], *self.lasting}
        names = sorted(entry.name for entry in self.path.iterdir() if entry.name not in lasting)
        if self.others is Others.REFUSED:
            names = [name for name in names if not (recorded and self.owned.fullmatch(name))]
        elif recorded or (overwrite and self.others is Others.WITH_RECORD):
            return None
        elif self.others is Others.LEFT:
            names = [name for name in names if self.owned.fullmatch(name)]
        return names[0] if names else None

    def clear(self) -> None:
        """Remove what the program wrote, and nothing else, after ending a run that still writes."""
        if not self.path.is_dir():
            return
        if self.final:
            (self.path / self.final).unlink(missing_ok=True)
        revoke_leases(self.path / self.scratch)
        records = {Path(name).parts[0] for name in self.records}
        names = [entry.name for entry in self.path.iterdir() if self.owned.fullmatch(entry.name)]
        for name in sorted(names, key=lambda name: name in records):  # interrupted, it is still known as ours
            path = self.path / name
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)

    def begin(self, request: Mapping[str, Any], *, overwrite: bool = False) -> Path | None:
        """Take over the directory: store the request, make a scratch directory, and end other runs there.

        Parameters
        ----------
        request, overwrite
            As for `check`; what may be overwritten is removed first.

        Returns
        -------
        Path or None
            The scratch directory; None where a run of this request has finished meanwhile.

        Raises
        ------
        DplearnError
            As of `check`, before another run is ended.
        """
        if overwrite:
            self.clear()
        state, reason, _ = self._look(request, overwrite=overwrite)
        if not reason and state is not State.FINISHED:
            scratch = acquire_lease(self.path / self.scratch)
            # Another may have been quicker; none can finish now.
            state, reason, _ = self._look(request, overwrite=overwrite)
            if not reason and state is not State.FINISHED:
                if state is State.EMPTY:
                    with holding_lease(scratch, self.path):
                        write_json(self.path / self.records[-1], dict(request), scratch)
                return scratch
            self.release(scratch)
        if reason:
            raise self.error(reason)
        return None

    def release(self, scratch: Path) -> None:
        """Remove a scratch directory after its run, and what held it unless another run has begun."""
        shutil.rmtree(scratch, ignore_errors=True)
        with suppress(OSError):
            while (scratch := scratch.parent) != self.path:
                scratch.rmdir()

    @contextmanager
    def lease(self) -> Iterator[Path]:
        """Hold a scratch directory in the block; another run that had one here ends.

        A directory that was made for it and is still empty is removed.
        """
        made = not self.path.exists()
        scratch = acquire_lease(self.path / self.scratch)
        try:
            yield scratch
        finally:
            self.release(scratch)
            if made:
                with suppress(OSError):
                    self.path.rmdir()
