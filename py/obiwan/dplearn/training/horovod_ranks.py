"""Horovod: ranks of TensorFlow; the only module that imports it.

Keras 3 and Horovod 0.28 know nothing of each other: Horovod's optimizer wrapper trains without
synchronising, and its tape fails.  What is used here are its operations on tensors alone.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.running.launch import Launch, rank_problem
from obiwan.dplearn.running.quiet import without_notes
from obiwan.dplearn.training.distributed import Ranks, World

SETTINGS = {
    # Milliseconds between two rounds of messages on what is ready to be averaged.
    "HOROVOD_CYCLE_TIME": "1",
    "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": "1800",
    # Open MPI waits by looking again and again, in a thread of Horovod's, on the core of one that computes.
    "OMPI_MCA_mpi_yield_when_idle": "1",
}
"""Defaults of what Horovod and Open MPI read from the environment (``bin/benchmark ranks`` measures them)."""

#: Seconds that gloo waits for any one message, at least: file systems make some ranks late.
GLOO_PATIENCE = 300

# Gloo's messages go through sockets and threads of their own, and a round of them is dear.
GLOO_SETTINGS = {"HOROVOD_CYCLE_TIME": "3"}


@dataclass(frozen=True)
class HorovodWorld(Ranks):
    """One rank of many, joined by Horovod.

    Attributes
    ----------
    hvd : module
        ``horovod.tensorflow``, initialised.
    """

    hvd: Any = None

    def average(self, tensors: Sequence[Any]) -> list[Any]:
        """Average of tensors, in one message whatever their number."""
        return list(self.hvd.grouped_allreduce(list(tensors), op=self.hvd.Average, name="average"))

    def broadcast(self, variables: Sequence[Any]) -> None:
        """Broadcast of the first rank's values, before the first step."""
        self.hvd.broadcast_variables([variable.value for variable in variables], root_rank=0)

    def share(self, value: Any) -> Any:
        """Value of the first rank, pickled on its way."""
        return self.hvd.broadcast_object(value, root_rank=0, name="share")

    def gather(self, array: NDArray[Any]) -> NDArray[Any]:
        """Arrays of any length on each rank, joined."""
        import tensorflow as tf

        return np.asarray(self.hvd.allgather(tf.constant(array), name="gather").numpy())


def start(launch: Launch, limit: int) -> World:
    """Start Horovod, and see that it counts as many ranks as the launcher does.

    Parameters
    ----------
    launch : Launch
    limit : int
        Seconds that gloo waits for the ranks to find each other.

    Raises
    ------
    ModelError
        If Horovod is missing, or was built for another MPI.
    """
    if importlib.util.find_spec("horovod") is None:
        msg = (
            f"{launch.launcher} started {launch.size} ranks, and more than one need Horovod, which is not "
            "installed; build it with bin/install_horovod, or start one process without a launcher"
        )
        raise ModelError(msg)
    given = {**SETTINGS, "HOROVOD_GLOO_TIMEOUT_SECONDS": str(max(limit, GLOO_PATIENCE))}
    for name, value in {**given, **(GLOO_SETTINGS if launch.launcher == "horovodrun" else {})}.items():
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


def finish(_world: World) -> None:
    """Nothing: Horovod parts at the end of the process."""


def interrupted() -> None:
    """Nothing: the process ends with the status of its program."""


def rank_was_lost(error: Exception) -> bool:
    """Whether an exception comes from Horovod because another rank has ended.

    It says so itself, or passes on what a socket or MPI said, which then has the name of its operation
    or of its file beside it: TensorFlow puts both into the message.
    """
    from tensorflow import errors

    kinds = (errors.AbortedError, errors.FailedPreconditionError, errors.UnknownError)
    return isinstance(error, kinds) and "horovod" in str(error).lower()
