"""SIGTERM, which batch systems send before they kill, and Ctrl-C: one line and exit status 143 or 130.

Results are written beside their place, or in a scratch directory, and renamed, so that a program may end at
any moment.  Exceptions are TensorBoard's logs, the test-set log, to which lines are appended, and the mock
survey of `obiwan.dplearn.mock`.  What SIGTERM adds is that the log says so, and that training keeps the steps
it has taken.  Ctrl-C is a `KeyboardInterrupt`, so that the directory is tidied; libraries that lose one, or
turn it into an error of their own while they are imported, do not change how the program ends.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Timer, current_thread, main_thread
from typing import Any

INTERRUPTED = 128 + signal.SIGINT  #: exit status, 130: what a shell says of a program that Ctrl-C ended
ENDED = 128 + signal.SIGTERM  #: exit status, 143: what a shell says of a program that SIGTERM ended
GRACE = 20.0  #: seconds that a deferred end may take; SLURM kills 30 s after it asks (its KillWait)


def exit_at_once(status: int, text: str, stream: int = 2) -> Callable[..., None]:
    """Handler, of a signal or a timer, that ends the process at once; a text is written first.

    Not through a buffered stream: the signal may have come in the middle of one's own write.

    Parameters
    ----------
    status : int
        Exit status.
    text : str
    stream : int
        Descriptor that the text is written to.
    """

    def end(*_: object) -> None:
        with suppress(OSError):
            os.write(stream, text.encode())
        os._exit(status)

    return end


def ending_silently(status: int) -> None:
    """SIGTERM ends the process without a line, from here to the end of the block of `ending`.

    For a process that has said why it ends: launchers end all that are left of a job at once.

    Parameters
    ----------
    status : int
        Exit status.
    """
    if current_thread() is main_thread():
        signal.signal(signal.SIGTERM, exit_at_once(status, ""))


def _alarm(end: Callable[..., None]) -> Timer:
    """A timer that runs and calls a function after `GRACE`."""
    timer = Timer(GRACE, end)
    timer.daemon = True
    timer.start()
    return timer


@contextmanager
def ending(
    name: str, again: str = "start it again to go on where it stopped", *, speaks: bool = True
) -> Iterator[Callable[[], bool]]:
    """While the block lasts, SIGTERM ends the process at once, with a line and status `ENDED`.

    Ctrl-C raises a `KeyboardInterrupt`; a second one, and one that a library loses, end the process at once,
    and one that has not ended it does after `GRACE`.

    Parameters
    ----------
    name : str
        What lines begin with.
    again : str
        What to do next.
    speaks : bool
        Whether this process writes lines: of many ranks one does.

    Yields
    ------
    interrupted : callable
        Whether there was a Ctrl-C, so that an exception is its consequence.
    """
    if current_thread() is not main_thread():  # only that one may set handlers
        yield lambda: False
        return
    stream, unraisable = os.dup(2), sys.unraisablehook  # 2 leads elsewhere in `without_notes`
    heard: list[Timer] = []
    reason = "ended by SIGTERM: a rank died, or time is up"
    end = exit_at_once(ENDED, f"\n{name}: error: {reason}; {again}\n" if speaks else "", stream)
    give_up = exit_at_once(INTERRUPTED, f"\n{name}: interrupted; {again}\n" if speaks else "", stream)

    def interrupt(*_: object) -> None:
        if heard:
            give_up()
        heard.append(_alarm(give_up))
        raise KeyboardInterrupt

    def lost(error: Any) -> None:
        if error.exc_type is KeyboardInterrupt:
            give_up()
        unraisable(error)

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, end)}
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = lost
    try:
        yield lambda: bool(heard)
    finally:
        for timer in heard:
            timer.cancel()
        sys.unraisablehook = unraisable
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(stream)


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
            last_call.append(_alarm(end))

    signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: bool(last_call)
    finally:
        signal.signal(signal.SIGTERM, before)
        for timer in last_call:
            timer.cancel()
            signal.raise_signal(signal.SIGTERM)
