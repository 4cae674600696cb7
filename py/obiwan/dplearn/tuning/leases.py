"""Leases of trials, with a heartbeat: which trial is trained by a running process, and which by a dead one.

A lease is a scratch directory of `obiwan.dplearn.files.outdir`, through which the process writes all files of
the trial.  A thread renews its modification time.  A process whose lease was taken over, because it hung for
too long, cannot write any more and ends the trial.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from obiwan.dplearn.files.atomic import read_json, write_json
from obiwan.dplearn.files.outdir import acquire_lease, held_leases, holding_lease

SCRATCH = ".scratch"  #: in the directory of a trial, holds the leases
OWNER = "owner.json"  #: in a lease


@dataclass(frozen=True)
class Timing:
    """Times that distinguish a dead process from a running one.

    Attributes
    ----------
    beat : float
        Seconds between renewals of a lease.
    patience : float
        Age (seconds) at which a lease counts as that of a dead process.  File systems show changes of other
        nodes after up to a minute.
    grace : float
        Seconds between the request for a trial and its lease, at most.
    lock : int
        Seconds after which a lock of the journal counts as left by a dead process.
    """

    beat: float = 20.0
    patience: float = 180.0
    grace: float = 5.0
    lock: int = 30


TIMING = Timing()


def _machine() -> str:
    """Name of this boot of the machine, or container, in which process numbers are unique; or empty."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - a name, not a path
    except OSError:
        return ""


def _birth(pid: int) -> str:
    """When a process of this machine began, in ticks since the boot; empty where it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]


def _owner() -> dict[str, Any]:
    """What another process can recognise this one by."""
    return {"machine": _machine(), "pid": os.getpid(), "birth": _birth(os.getpid())}


def _alive(lease: Path, now: float, patience: float) -> bool:
    """Whether the process that holds a lease still runs."""
    try:
        age = now - lease.stat().st_mtime
        owner = read_json(lease / OWNER)
    except FileNotFoundError:
        return lease.is_dir() and age < patience  # it has just begun, or has just been released
    except (OSError, ValueError):
        return age < patience
    if owner["machine"] and owner["machine"] == _machine():
        return bool(_birth(owner["pid"]) == owner["birth"])
    return age < patience


def is_held(place: Path, timing: Timing = TIMING) -> bool | None:
    """Whether a running process holds the lease of a trial.

    Parameters
    ----------
    place : Path
        Directory of the trial.
    timing : Timing

    Returns
    -------
    bool or None
        None where there never was a lease: whoever asked for the trial has not begun, or died at once.
    """
    parent = place / SCRATCH
    if not parent.is_dir():
        return None
    with tempfile.TemporaryFile(dir=place) as probe:
        now = os.fstat(probe.fileno()).st_mtime  # of the file system's clock, which renews leases, too
    return any(_alive(lease, now, timing.patience) for lease in held_leases(parent))


def _renew(lease: Path, ended: Event, beat: float) -> None:
    """Renew a lease until the end, or until it is taken over."""
    while not ended.wait(beat):
        try:
            os.utime(lease)
        except FileNotFoundError:
            return
        except OSError:  # a file system's trouble may pass
            continue


@contextmanager
def leased(place: Path, timing: Timing = TIMING) -> Iterator[Path]:
    """Hold the lease of a trial while the block lasts; a process that had it before loses it.

    Parameters
    ----------
    place : Path
        Directory of the trial, made if need be.
    timing : Timing

    Yields
    ------
    Path
        The scratch directory through which files are written.

    Raises
    ------
    LeaseLostError
        If another process takes the lease at the same moment.
    """
    lease = acquire_lease(place / SCRATCH)
    ended, thread = Event(), None
    try:
        with holding_lease(lease, place):
            write_json(lease / OWNER, _owner())
        thread = Thread(target=_renew, args=(lease, ended, timing.beat), daemon=True, name="heartbeat")
        thread.start()
        yield lease
    finally:
        ended.set()
        if thread is not None:
            thread.join()
        with suppress(OSError):
            shutil.rmtree(lease)
