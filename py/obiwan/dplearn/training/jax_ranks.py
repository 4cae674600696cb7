"""JAX: ranks that average with its own collectives, gloo's between processors, NCCL's between GPUs.

A rank is one process with one device.  The first one is the coordinator, whose address the others learn
from SLURM, from Open MPI, or from ``JAX_COORDINATOR_ADDRESS``.
"""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import pickle
import re
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.running.interruptions import INTERRUPTED
from obiwan.dplearn.running.launch import STARTED_HERE, Launch
from obiwan.dplearn.running.quiet import without_notes
from obiwan.dplearn.training.distributed import Ranks, World

#: Bytes in a message, from each rank: longer ones are sent in pieces, and take no more memory.
PIECE = 1 << 26
#: Seconds after which a rank that cannot be reached ends all; a connection that breaks does at once.
HEARTBEAT = 100


@dataclass(frozen=True)
class JaxWorld(Ranks):
    """One rank of many, joined by JAX.

    Attributes
    ----------
    rows : jax.sharding.Sharding
        Of an array with a row on each rank.
    mean : callable
        From such an array to the mean of its rows, on every rank.
    """

    rows: Any = None
    mean: Any = None

    def average(self, tensors: Sequence[Any]) -> list[Any]:
        """Average of tensors, one message each; between compiled functions, not inside one."""
        import jax

        averaged = []
        for tensor in tensors:
            shape = (self.size, *tensor.shape)
            whole = jax.make_array_from_single_device_arrays(shape, self.rows, [tensor[None]])
            averaged.append(self.mean(whole).addressable_data(0))
        return averaged

    def broadcast(self, variables: Sequence[Any]) -> None:
        """Broadcast of the first rank's values, before the first step."""
        from obiwan.dplearn.training.checkpoints import assign, values

        assign(variables, self.share(values(variables) if self.leads else None))

    def share(self, value: Any) -> Any:
        """Value of the first rank, pickled on its way."""
        from jax.experimental.multihost_utils import broadcast_one_to_all

        message = np.frombuffer(pickle.dumps(value) if self.leads else b"", np.uint8)
        (length,) = _numbers(broadcast_one_to_all(_words(len(message))))
        message = message if self.leads else np.zeros(length, np.uint8)
        pieces = (message[start : start + PIECE] for start in range(0, length, PIECE))
        return pickle.loads(b"".join(np.asarray(broadcast_one_to_all(one)).tobytes() for one in pieces))

    def gather(self, array: NDArray[Any]) -> NDArray[Any]:
        """Arrays of any length on each rank; as bytes, since JAX has no 64-bit numbers."""
        from jax.experimental.multihost_utils import process_allgather

        message = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        lengths = _numbers(process_allgather(_words(len(message))))
        parts: list[list[bytes]] = [[] for _ in lengths]
        for start in range(0, max(lengths), PIECE):
            padded = np.zeros(min(PIECE, max(lengths) - start), np.uint8)
            mine = message[start : start + len(padded)]
            padded[: len(mine)] = mine
            for part, piece, length in zip(parts, process_allgather(padded), lengths, strict=True):
                part.append(np.asarray(piece)[: max(0, length - start)].tobytes())
        whole = b"".join(piece for part in parts for piece in part)
        return np.frombuffer(whole, array.dtype).reshape(-1, *array.shape[1:]).copy()


def _words(number: int) -> NDArray[np.uint32]:
    """A number of 64 bits as two of 32, which is what JAX has."""
    return np.array([number], np.uint64).view(np.uint32)


def _numbers(words: Any) -> list[int]:
    """The numbers that `_words` made, of one rank or of all."""
    found: list[int] = np.ascontiguousarray(words, np.uint32).view(np.uint64).ravel().tolist()
    return found


def start(launch: Launch, limit: int) -> World:
    """Start JAX on all ranks.

    Parameters
    ----------
    launch : Launch
    limit : int
        Seconds after which JAX aborts the process if the ranks do not find each other.

    Raises
    ------
    ModelError
        If JAX is missing, or the ranks do not find each other.
    """
    if importlib.util.find_spec("jax") is None:
        msg = "JAX, which is to join the ranks, is not installed; pip install 'obiwan-dplearn[train-jax]'"
        raise ModelError(msg)
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    logging.getLogger("jax").setLevel(logging.WARNING)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]  # a proxy does not lead from rank to rank, and gRPC would ask it
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    try:
        jax.distributed.initialize(
            num_processes=launch.size,
            process_id=launch.rank,
            initialization_timeout=limit,
            heartbeat_timeout_seconds=HEARTBEAT,
        )
        devices = {device.process_index: device for device in reversed(jax.devices())}  # the first of each
    except (RuntimeError, ValueError) as error:
        raise ModelError(_refusal(str(error), launch)) from None
    atexit.register(_leave_at_once)
    mesh = Mesh(np.array([devices[rank] for rank in range(launch.size)]), "ranks")
    mean = jax.jit(lambda rows: rows.mean(0), out_shardings=NamedSharding(mesh, PartitionSpec()))
    world = JaxWorld(launch.rank, launch.size, NamedSharding(mesh, PartitionSpec("ranks")), mean)
    with without_notes(1):  # gloo tells of its first message
        world.gather(np.zeros(1))
    return world


def _refusal(error: str, launch: Launch) -> str:
    """Why JAX does not start, and what to do."""
    address = os.environ.get("JAX_COORDINATOR_ADDRESS", "")
    if "gloo" in error:
        remedy = f"this host's name, {socket.gethostname()}, cannot be looked up: add it to /etc/hosts"
    elif launch.launcher == STARTED_HERE and "RPC server" not in error:
        remedy = "where there are GPUs, each rank needs one of its own"
    elif launch.launcher == STARTED_HERE:
        remedy = f"another program has taken {address} meanwhile: start again"
    elif address:
        remedy = f"JAX_COORDINATOR_ADDRESS={address}: choose another port"
    else:
        remedy = "set JAX_COORDINATOR_ADDRESS to HOST:PORT of the first rank"
    return f"training on {launch.size} ranks: JAX does not start ({error.splitlines()[0]}); {remedy}"


def finish(world: World) -> None:
    """Wait for all ranks, and part."""
    import jax

    world.gather(np.zeros(1))
    jax.distributed.shutdown()
    atexit.unregister(_leave_at_once)


def interrupted() -> None:
    """Have the process end with the status of an interruption."""
    atexit.unregister(_leave_at_once)
    atexit.register(_leave_at_once, INTERRUPTED)


def _leave_at_once(status: int = 1) -> None:
    """End a process that has failed without JAX's own farewell, which waits for ranks that may be gone."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def rank_was_lost(error: Exception) -> bool:
    """Whether an exception comes from JAX because another rank has ended."""
    from jax.errors import JaxRuntimeError

    return isinstance(error, JaxRuntimeError) and bool(
        re.search("gloo|nccl|coordination", str(error), re.IGNORECASE)
    )
