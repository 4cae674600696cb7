"""Engines of distributed training, Horovod and JAX, and the world that a launched process joins by one."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import ceil
from threading import Event, Thread, Timer, current_thread, main_thread

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.running.backends import keras_backend
from obiwan.dplearn.running.interruptions import exit_at_once
from obiwan.dplearn.running.launch import STARTED_HERE, Launch, first_fails
from obiwan.dplearn.running.ranks import end_with_starter
from obiwan.dplearn.training import horovod_ranks, jax_ranks
from obiwan.dplearn.training.distributed import World

log = logging.getLogger(__name__)

AUTO, NONE = "auto", "none"
OF_BACKEND = {"tensorflow": "horovod", "jax": "jax"}  #: the engine of each backend of Keras that has one
ENGINES = (AUTO, *OF_BACKEND.values(), NONE)
AGAIN = "start the job again to go on from the last checkpoint"  #: when a rank is gone
PATIENCE = 300.0  #: seconds that the start of all ranks may take: file systems make some late
LONGEST = 86_400  #: seconds that they may be given
_LATER = 10.0  #: seconds that the other ranks wait longer than the first, which speaks for all
_HEARING = 0.4  #: seconds until a rank that SIGTERM does not reach says so; Open MPI kills after one


def engine_of(asked: str, launch: Launch, backend: str) -> str:
    """The engine for so many ranks on a backend of Keras; `NONE` for one process.

    Parameters
    ----------
    asked : str
        One of `ENGINES`.
    launch : Launch
    backend : str
        Of Keras.

    Raises
    ------
    ModelError
        If they do not go together.

    Examples
    --------
    >>> engine_of("auto", Launch("srun", 0, 8), "jax")
    'jax'
    """
    if asked not in (AUTO, NONE, OF_BACKEND.get(backend)):
        needed = next(name for name, engine in OF_BACKEND.items() if engine == asked)
        msg = f"--engine {asked} needs KERAS_BACKEND={needed}, not {backend}"
        raise ModelError(msg)
    if launch.size == 1:
        return NONE
    if asked == NONE:
        msg = f"--engine none does not join the {launch.size} ranks of {launch.launcher}; leave one out"
        raise ModelError(msg)
    if backend not in OF_BACKEND:
        msg = f"training on {launch.size} ranks needs KERAS_BACKEND={' or '.join(OF_BACKEND)}, not {backend}"
        raise ModelError(msg)
    engine = OF_BACKEND[backend]
    if engine != "jax" and launch.launcher == STARTED_HERE:
        msg = f"{STARTED_HERE} needs KERAS_BACKEND=jax; start Horovod's ranks with horovodrun, mpirun or srun"
        raise ModelError(msg)
    return engine


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
                    "may have died; %s",
                    size,
                    AGAIN,
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
def _starting(launch: Launch, patience: float) -> Iterator[None]:
    """End this process with a line if the ranks have not all started in time.

    The second rank speaks where the first one, if it had been there, would have ended the job before.
    """
    speaks = launch.rank == 0 or (launch.rank == 1 and launch.launcher != STARTED_HERE)
    text = (
        f"error: training on {launch.size} ranks: not all of them have started within {patience:g} s; see "
        f"what {launch.launcher} says of the others, or give them longer by --start-timeout\n"
    )
    stream = os.dup(2)  # 2 leads elsewhere in `without_notes`
    give_up = exit_at_once(1, text if speaks else "", stream)
    timer = Timer(patience + (_LATER if launch.rank else 0), give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        os.close(stream)


@contextmanager
def joined(launch: Launch, engine: str = AUTO, patience: float = PATIENCE) -> Iterator[World]:
    """The world of a launched process, for as long as the block lasts.

    Parameters
    ----------
    launch : Launch
        From `launched`.  One process needs no engine and gets a serial world.
    engine : str
        One of `ENGINES`.
    patience : float
        Seconds that the start of all ranks may take; after that the process ends, with a line and status 1.

    Raises
    ------
    ModelError
        If the engine cannot start; and on the first rank, if another rank ends in the middle of the block.
        The others then end without a word.
    """
    with first_fails(launch):
        name = engine_of(engine, launch, keras_backend(os.environ))
        module = {"horovod": horovod_ranks, "jax": jax_ranks}.get(name)
        if module is None:
            world = World()
        else:
            end_with_starter(os.environ, AGAIN)
            with _starting(launch, patience):
                # Its own limit comes later: it would end in a trace of its library.
                world = module.start(launch, ceil(patience + 6 * _LATER))
    if module is None:
        yield world
        return
    try:
        with _told_to_end(world.size) if world.leads else nullcontext():
            yield world
            module.finish(world)
    except KeyboardInterrupt:
        module.interrupted()
        raise
    except Exception as error:
        if not module.rank_was_lost(error):
            raise
        log.debug("rank %d of %d", world.rank, world.size, exc_info=True)
        if not world.leads:
            raise SystemExit(1) from None
        msg = (
            f"training on {world.size} ranks stopped because another rank ended; what it or the launcher "
            f"says tells why; {AGAIN}"
        )
        raise ModelError(msg) from None
