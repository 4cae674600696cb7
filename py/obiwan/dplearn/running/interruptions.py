"""SIGTERM, which batch systems send before they kill: one line and exit status 143.

Results are written beside their place, or in a scratch directory, and renamed, so that a program may end at
any moment.  Exceptions are TensorBoard's logs, the test-set log, to which lines are appended, and the mock
survey of `obiwan.dplearn.mock`.  What SIGTERM adds is that the log says so, and that training keeps the steps
it has taken.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer, current_thread, main_thread

ENDED = 128 + signal.SIGTERM  #: exit status, 143: what a shell says of a program that SIGTERM ended
GRACE = 20.0  #: seconds that a deferred end may take; SLURM kills 30 s after it asks (its KillWait)


@contextmanager
def ending(name: str, *, speaks: bool = True) -> Iterator[None]:
    """While the block lasts, SIGTERM ends the process at once, with a line and status `ENDED`.

    Parameters
    ----------
    name : str
        What the line begins with.
    speaks : bool
        Whether this process writes it: of many ranks one does.
    """
    if current_thread() is not main_thread():  # only that one may set handlers
        yield
        return
    text = (
        f"\n{name}: error: ended by SIGTERM: a rank died, or time is up; "
        "start again to go on where it stopped\n"
    ).encode()

    def end(_number: int, _frame: object) -> None:
        if speaks:
            os.write(2, text)  # no buffered stream: the signal may have come in the middle of one's own write
        os._exit(ENDED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """While the block lasts, SIGTERM is only noted, and takes effect at its end, or after `GRACE`.

    Yields
    ------
    asked : callable
        Whether there has been one: leave the block soon.
    """
    if current_thread() is not main_thread():
        yield lambda: False
        return
    last_call: list[Timer] = []
    before = signal.getsignal(signal.SIGTERM)

    def end() -> None:
        if callable(before):
            before(signal.SIGTERM, None)  # that of `ending`, which has the program's line
        os._exit(ENDED)

    def note(_number: int, _frame: object) -> None:
        if not last_call:
            last_call.append(Timer(GRACE, end))
            last_call[0].daemon = True
            last_call[0].start()

    signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: bool(last_call)
    finally:
        signal.signal(signal.SIGTERM, before)
        for timer in last_call:
            timer.cancel()
            signal.raise_signal(signal.SIGTERM)
