"""Worker processes: the standard library's process pool, whose workers end with their parent."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from threading import Thread
from typing import Any

_SIGNALS = {signal.SIGINT, signal.SIGTERM}


def _end_with_parent() -> None:
    """In a worker: exit when the parent does, also after kill -9; Ctrl-C stays blocked, SIGTERM ends it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    parent = parent_process()
    if parent is not None:

        def watch() -> None:
            wait([parent.sentinel])
            os._exit(1)

        Thread(target=watch, daemon=True).start()


class Workers(ProcessPoolExecutor):
    """Process pool in which Ctrl-C, which a terminal sends to all processes, reaches the parent alone.

    Parameters
    ----------
    jobs : int
        The most processes; they are started as tasks come.
    """

    def __init__(self, jobs: int) -> None:
        # The tracker removes the semaphores of a program that SIGTERM ended, and need not warn of them.
        sys.warnoptions.append("ignore:resource_tracker")
        resource_tracker.ensure_running()
        sys.warnoptions.pop()
        # Spawned, not forked: a progress bar's thread must not be copied into the workers.
        super().__init__(jobs, get_context("spawn"), _end_with_parent)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As of every executor; the processes that it starts inherit the blocked signals."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            return super().submit(function, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def check(self) -> None:
        """Kill all where one has died: one that died while it wrote a large result holds up the others."""
        if any(process.exitcode is not None for process in list((self._processes or {}).values())):
            self.kill()

    def kill(self) -> None:
        """End the processes at once; futures that are not done get a `BrokenProcessPool`."""
        for process in list((self._processes or {}).values()):
            process.kill()
        if self._result_queue is not None:  # its reader may wait for the rest of a result
            self._result_queue._writer.close()  # type: ignore[attr-defined]
        self.shutdown()
