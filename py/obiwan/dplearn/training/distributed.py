"""Distributed training: one process, or one rank of many; the only module that imports Horovod.

The serial world is the default and does nothing; what a distributed one does has the same methods,
so that `obiwan.dplearn.training.batches` and `obiwan.dplearn.training.trainer` work with either.

Keras 3 and Horovod 0.28 know nothing of each other: Horovod's optimizer wrapper trains without
synchronising, and its tape fails.  What is used here are its operations on tensors alone.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from threading import Event, Thread, current_thread, main_thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import DplearnError, ModelError
from obiwan.dplearn.running.launch import Launch, rank_problem
from obiwan.dplearn.running.quiet import without_notes

log = logging.getLogger(__name__)

SETTINGS = {
    # Milliseconds between two rounds of messages on what is ready to be averaged.
    "HOROVOD_CYCLE_TIME": "1",
    # The start of all ranks, and any one message: file systems make some ranks late.
    "HOROVOD_GLOO_TIMEOUT_SECONDS": "300",
    "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": "1800",
    # Open MPI waits by looking again and again, in a thread of Horovod's, on the core of one that computes.
    "OMPI_MCA_mpi_yield_when_idle": "1",
}
"""Defaults of what Horovod and Open MPI read from the environment (``bin/benchmark ranks`` measures them)."""

# Gloo's messages go through sockets and threads of their own, and a round of them is dear.
GLOO_SETTINGS = {"HOROVOD_CYCLE_TIME": "3"}

_HEARING = 0.4  #: seconds until a rank that SIGTERM does not reach says so; Open MPI kills after one


@dataclass(frozen=True)
class World:
    """A serial run, and the base of a distributed one.

    Attributes
    ----------
    rank : int
        This process, from 0.
    size : int
        How many there are.
    """

    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        """Refuse a rank outside the world."""
        if not 0 <= self.rank < self.size:
            msg = f"rank must be in 0..{self.size - 1}, got {self.rank}"
            raise ValueError(msg)

    @property
    def leads(self) -> bool:
        """Whether this rank writes files, logs and bars."""
        return self.rank == 0

    def part(self, items: Sequence[Any]) -> list[Any]:
        """The stretch of a sequence that is this rank's; those of all ranks, in order, are the whole."""
        begin, end = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return list(items[begin:end])

    def average(self, tensors: Sequence[Any]) -> list[Any]:
        """Tensors averaged over the ranks; called inside the compiled train step."""
        return list(tensors)

    def broadcast(self, variables: Sequence[Any]) -> None:
        """Give every rank the first one's values of Keras variables."""

    def share(self, value: Any) -> Any:
        """The first rank's value, on every rank."""
        return value

    def gather(self, array: NDArray[Any]) -> NDArray[Any]:
        """The arrays of all ranks, joined along the first axis in the order of the ranks."""
        return array

    @contextmanager
    def together(self) -> Iterator[None]:
        """A stretch of work without messages between the ranks, after which all go on, or none.

        An error of one rank ends all; where several have one, the lowest of them tells it.
        """
        yield


SERIAL = World()


@dataclass(frozen=True)
class HorovodWorld(World):
    """One rank of many, joined by Horovod.

    Attributes
    ----------
    hvd : module
        ``horovod.tensorflow``, initialised.
    """

    hvd: Any = None

    def average(self, tensors: Sequence[Any]) -> list[Any]:
        """As one message, whatever the number of tensors."""
        return list(self.hvd.grouped_allreduce(list(tensors), op=self.hvd.Average, name="average"))

    def broadcast(self, variables: Sequence[Any]) -> None:
        """Once, before the first step."""
        self.hvd.broadcast_variables([variable.value for variable in variables], root_rank=0)

    def share(self, value: Any) -> Any:
        """Pickled on its way."""
        return self.hvd.broadcast_object(value, root_rank=0, name="share")

    def gather(self, array: NDArray[Any]) -> NDArray[Any]:
        """The first axis may be of another length on each rank."""
        import tensorflow as tf

        return np.asarray(self.hvd.allgather(tf.constant(array), name="gather").numpy())

    @contextmanager
    def together(self) -> Iterator[None]:
        """The ranks agree on who failed first; all but that one end without a word."""
        failure: Exception | None = None
        try:
            yield
        except (DplearnError, OSError) as error:
            failure = error
        failed = np.flatnonzero(self.gather(np.array([failure is not None], np.uint8)))
        if not len(failed):
            return
        if failure is not None and self.rank == failed[0]:
            raise failure
        raise SystemExit(1)


def _initialise(launch: Launch) -> World:
    """Start Horovod, and see that it counts as many ranks as the launcher does."""
    if importlib.util.find_spec("horovod") is None:
        msg = (
            f"{launch.launcher} started {launch.size} ranks, and more than one need Horovod, which is not "
            "installed; build it with bin/install_horovod, or start one process without a launcher"
        )
        raise ModelError(msg)
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend != "tensorflow":
        msg = f"training on {launch.size} ranks needs KERAS_BACKEND=tensorflow, not {backend}"
        raise ModelError(msg)
    for name, value in {**SETTINGS, **(GLOO_SETTINGS if launch.launcher == "horovodrun" else {})}.items():
        os.environ.setdefault(name, value)
    with without_notes():
        import horovod.tensorflow as hvd

    if problem := rank_problem(os.environ):
        msg = f"training on {launch.size} ranks: {problem}"
        raise ModelError(msg)
    hvd.init()
    if (hvd.rank(), hvd.size()) != (launch.rank, launch.size):
        msg = (
            f"{launch.launcher} started rank {launch.rank} of {launch.size}, but Horovod sees rank "
            f"{hvd.rank()} of {hvd.size()}: it was not built with this launcher's MPI; build it again with "
            "bin/install_horovod where that MPI's mpicxx is found, or start with horovodrun --gloo"
        )
        raise ModelError(msg)
    return HorovodWorld(hvd.rank(), hvd.size(), hvd)


def _rank_was_lost(error: Exception) -> bool:
    """Whether an exception comes from Horovod because another rank has ended.

    It says so itself, or passes on what a socket or MPI said, which then has the name of its operation
    or of its file beside it: TensorFlow puts both into the message.
    """
    from tensorflow import errors

    kinds = (errors.AbortedError, errors.FailedPreconditionError, errors.UnknownError)
    return isinstance(error, kinds) and "horovod" in str(error).lower()


@contextmanager
def _told_to_end(size: int) -> Iterator[None]:
    """Log SIGTERM where this rank cannot act on it, because it waits for a rank that has ended.

    Python calls a handler when the operation under way is over, which an average with a dead rank never
    is under MPI.  The launcher kills in the end, and without this nobody would have said how to go on.
    """
    if current_thread() is not main_thread():  # only that one hears of signals
        yield
        return
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    over = Event()

    def listen() -> None:
        while number := os.read(ear, 1):  # nothing, once the other end is closed
            if number[0] == signal.SIGTERM and not over.wait(_HEARING):
                log.error(
                    "error: training on %d ranks is ended by SIGTERM while it waits for another rank, which "
                    "may have died; start the job again to go on from the last checkpoint",
                    size,
                )
        os.close(ear)

    before = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    Thread(target=listen, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(mouth)


@contextmanager
def joined(launch: Launch) -> Iterator[World]:
    """The world of a launched process, for as long as the block lasts.

    Parameters
    ----------
    launch : Launch
        From `launched`.  One process needs no Horovod and gets a serial world.

    Raises
    ------
    ModelError
        If Horovod is missing or was built for another MPI; and on the first rank, if another rank ends
        in the middle of the block.  The others then end without a word.
    """
    if launch.size == 1:
        yield World()
        return
    try:
        world = _initialise(launch)
    except ModelError:
        if launch.rank == 0:
            raise
        raise SystemExit(1) from None
    try:
        with _told_to_end(world.size) if world.leads else nullcontext():
            yield world
    except Exception as error:
        if not _rank_was_lost(error):
            raise
        log.debug("rank %d of %d", world.rank, world.size, exc_info=True)
        if not world.leads:
            raise SystemExit(1) from None
        msg = (
            f"training on {world.size} ranks stopped because another rank ended; what it or the launcher "
            "says tells why; start the job again to go on from the last checkpoint"
        )
        raise ModelError(msg) from None
