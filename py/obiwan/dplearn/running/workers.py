"""Worker processes on one machine: a thread of this process, a pipe and a process for each.

The pool of the standard library hands tasks over through one queue for all.  A worker that is killed leaves
the queue's thread writing to nobody (for ever, before Python 3.11), futures that are cancelled meanwhile
break the thread that would end the others, and semaphores are left behind.  Here every worker has a pipe of
its own, whose other end closes when it dies, and there is nothing else to clear away.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from queue import SimpleQueue
from threading import Thread
from typing import Any


class WorkerTraceback(Exception):
    """Where in a worker an error happened: the cause of that error here."""


@dataclass(frozen=True)
class Worker:
    """A process, and the way to it."""

    process: BaseProcess
    pipe: Connection


def start() -> Worker:
    """Start a worker; Ctrl-C does not reach it from its very first instruction on.

    Nor can a signal end this process in the middle, when the worker would wait for the rest of its orders.
    """
    # Spawned, not forked: a progress bar's thread must not be copied into the workers.
    context = get_context("spawn")
    resource_tracker.ensure_running()  # where this starts it, it unblocks the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # children inherit it
    try:
        pipe, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()  # only the worker has it, so that the pipe breaks when the worker dies
    return Worker(process, pipe)


def _end_with_parent() -> None:
    """In a worker: end when the parent does, even by kill -9, so that nobody writes on in the dark."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _serve(pipe: Connection) -> None:
    """In a worker: answer what comes through the pipe until its other end closes."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _end_with_parent()
    with suppress(EOFError, OSError):
        while True:
            pipe.send_bytes(_answer(pipe.recv_bytes()))


def _answer(message: bytes) -> Any:
    """The bytes of a result; or of an error, and of where it happened."""
    try:
        function, arguments = ForkingPickler.loads(message)
        return ForkingPickler.dumps((function(*arguments), None, ""))
    except Exception as error:
        where = traceback.format_exc()
        try:
            return ForkingPickler.dumps((None, error, where))
        except Exception:  # an error that cannot travel
            return ForkingPickler.dumps((None, RuntimeError(repr(error)), where))


class Workers(ThreadPoolExecutor):
    """An executor whose threads hand what they are given to a process each.

    Ctrl-C, which a terminal sends to all, is for this process alone: it ends the workers.

    Parameters
    ----------
    jobs : int
        The most processes; they are started with the first tasks, one with each.
    """

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs)
        self.jobs, self.started = jobs, list[Worker]()
        self._idle: SimpleQueue[Worker] = SimpleQueue()

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:  # type: ignore[override]
        """As of every executor; function, arguments and result must be picklable."""
        if len(self.started) < self.jobs:
            worker = start()
            self.started.append(worker)
            self._idle.put(worker)
        return super().submit(self._there, function, arguments)

    def _there(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """In a thread: the function's result, from a process that is idle.

        Raises
        ------
        BrokenProcessPool
            If the process has died.
        """
        worker = self._idle.get()
        try:
            worker.pipe.send((function, arguments))
            result, error, where = worker.pipe.recv()
        except (EOFError, OSError):  # of the pipe; the task's own errors come through it
            msg = "a worker process died"
            raise BrokenProcessPool(msg) from None
        finally:
            self._idle.put(worker)
        if error is not None:
            raise error from WorkerTraceback(f"\n{where}")
        return result

    def kill(self) -> None:
        """End the processes at once, whatever they are at, and with them what the threads wait for."""
        for worker in self.started:
            worker.process.kill()
        self.shutdown(cancel_futures=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As of every executor; the processes end after the last task."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        for worker in self.started if wait else ():
            worker.pipe.close()
            worker.process.join()
