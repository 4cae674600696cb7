"""Ranks of one machine, started without a launcher: one command, as many processes, for JAX.

They end together: where one fails, the others have a while to end by themselves, and are ended then.  They
end, too, when the process that started them is killed (`end_with_starter`).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from threading import Thread

from obiwan.dplearn.running.interruptions import ENDED, GRACE
from obiwan.dplearn.running.launch import RANK, RANKS

PATIENCE = 20.0  #: seconds that the other ranks have after one has failed
STARTER = "DPLEARN_STARTER"  #: descriptor of a pipe that only the process that started the ranks can write to
_LOOK = 0.05  #: seconds between two looks at them

log = logging.getLogger(__name__)


def _free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rank_environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """Variables that tell a rank its number, the address of the first one, and which GPU is its own."""
    address = f"127.0.0.1:{port}"
    return {
        RANK: str(rank),
        RANKS: str(ranks),
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_COORDINATOR_BIND_ADDRESS": address,
        "JAX_LOCAL_DEVICE_IDS": str(rank),
    }


def start_ranks(command: Sequence[str], ranks: int, environ: Mapping[str, str], again: str) -> int:
    """Run a command as ranks of this machine, to the end of the last.

    Parameters
    ----------
    command : sequence of str
        Program and words.
    ranks : int
        How many.
    environ : mapping
        Environment, to which `rank_environment` is added.
    again : str
        What to do when a rank has died, for the log.

    Returns
    -------
    int
        0; else the status of the rank that failed first, 128 and the signal's number of one that was killed.
    """
    port = _free_port()
    processes: list[subprocess.Popen[bytes]] = []
    with _passing_on(processes), _pipe() as ear:
        try:
            for rank in range(ranks):  # the machine may refuse one, and the others must not be left alone
                own = {**environ, **rank_environment(rank, ranks, port), STARTER: str(ear)}
                processes.append(subprocess.Popen(command, env=own, pass_fds=[ear]))
            failed = _first_failure(processes)
            if failed is None:
                return 0
            status = int(processes[failed].returncode)
            if status < 0:
                name = signal.Signals(-status).name
                log.error("error: rank %d of %d was ended by %s; %s", failed, ranks, name, again)
            _await(processes, PATIENCE)
        finally:
            _end(processes)
    return status if status > 0 else 128 - status


@contextmanager
def _pipe() -> Iterator[int]:
    """The end of a pipe to read from; the other one is this process's alone, and closes when it dies."""
    ear, mouth = os.pipe()
    try:
        yield ear
    finally:
        os.close(ear)
        os.close(mouth)


def end_with_starter(environ: MutableMapping[str, str], again: str, grace: float = GRACE) -> None:
    """Have this rank end when the process that started the ranks does, even by kill -9.

    The rank gets SIGTERM, so that it keeps its steps; where it does not end within `grace`, since it waits
    in a library, it is ended.  A process that was not started by `start_ranks` is left alone.

    Parameters
    ----------
    environ : mapping
        Environment; `STARTER` is taken out of it, for programs that the rank starts.
    again : str
        What to do, for the log of the first rank.
    grace : float
        Seconds.
    """
    ear = environ.pop(STARTER, "")
    if not ear:
        return
    leads = environ.get(RANK) == "0"

    def watch() -> None:
        os.read(int(ear), 1)  # nothing is written: it returns when the other end is closed
        if leads:
            log.error("error: the process that started the ranks was killed, and they end; %s", again)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        os._exit(ENDED)

    Thread(target=watch, daemon=True).start()


def _first_failure(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """The rank that fails first; None where none does."""
    while True:
        states = [process.poll() for process in processes]
        failed = [rank for rank, state in enumerate(states) if state]
        if failed:  # one that another's death has ended aborts (SIGABRT) or leaves with 1
            return min(failed, key=lambda rank: states[rank] in (1, -signal.SIGABRT))
        if None not in states:
            return None
        time.sleep(_LOOK)


def _await(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    """Wait until all have ended, or for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(process.poll() is None for process in processes):
        time.sleep(_LOOK)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End those that are left."""
    for how in (subprocess.Popen.terminate, subprocess.Popen.kill):
        for process in processes:
            if process.poll() is None:
                how(process)
        _await(processes, PATIENCE)


@contextmanager
def _passing_on(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Pass SIGTERM on to the ranks; Ctrl-C reaches them from the terminal."""

    def pass_on(number: int, _frame: object) -> None:
        for process in processes:
            if process.poll() is None:
                os.kill(process.pid, number)

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, pass_on)}
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # which the ranks would inherit
        before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
