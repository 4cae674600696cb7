"""Tasks and a referee for worker processes, which must find them by a name that is on their path."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np

from obiwan.dplearn.errors import CoaddError, LeaseLostError


def triple(number: int) -> int:
    """A task; some numbers have something wrong with them."""
    if number % 5 == 4:
        msg = f"task {number}: damaged; repair it"
        raise CoaddError(msg)
    return 3 * number


def full_disk(number: int) -> int:
    if number == 2:
        raise OSError(28, "No space left on device", "shard")
    return number


def die(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def over(number: int) -> int:
    msg = f"{number}: another run has taken over"
    raise LeaseLostError(msg)


def die_of_large(task: tuple[int, bytes]) -> int:
    """A task larger than what a pipe holds."""
    return die(task[0]) + len(task[1])


def die_while_answering(number: int) -> bytes:
    """A worker that is killed when it has written a part of its result."""
    if number == 1:

        def half(self: Connection, content: bytes) -> None:
            os.write(self.fileno(), bytes(content[: len(content) // 2]))
            os.kill(os.getpid(), signal.SIGKILL)

        Connection._send = half
    return bytes(1 << 20)


def unpicklable(number: int) -> object:
    """A result that cannot travel, or an error that cannot."""
    if number == 1:
        error = ValueError("a lambda within")
        error.args = (lambda: None,)
        raise error
    return lambda: number


@dataclass(frozen=True)
class Elsewhere:
    """A referee that scores in any process but one: sums of pixels, and a magnitude."""

    here: int
    name: str = "elsewhere"
    checksum: str = "elsewhere"
    learnt: bool = True

    def portable(self) -> Elsewhere:
        return self

    def predict(self, stamps: np.ndarray, rows: np.ndarray) -> np.ndarray:
        assert os.getpid() != self.here
        return stamps.sum((1, 2, 3)) + rows["mag_r"] / 100
