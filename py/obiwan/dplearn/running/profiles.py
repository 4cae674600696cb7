"""Thread profiles of nodes, as environment variables to be set before TensorFlow is imported.

A profile is the recipe of a kind of node; ``auto``, the default, looks at the node it is on.  The number
of threads is, in this order: ``--threads``; ``OMP_NUM_THREADS``, where the user has set it; the processors
that SLURM gave this rank; the cores of the node, or of the affinity mask, shared out over the node's ranks.

TensorFlow from PyPI has a thread pool of its own, which reads ``TF_NUM_*_THREADS`` and keeps within the
process's affinity mask, so that binding is the launcher's task (``srun --cpu-bind=cores``); JAX reads
``NPROC``.  The ``KMP_*`` variables are for builds on Intel's OpenMP.  ``OMP_PROC_BIND`` and ``OMP_PLACES``
are left alone: GNU's OpenMP ties the thread that loads it to one core, and every thread that is started
afterwards inherits that.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obiwan.dplearn.errors import DplearnError
from obiwan.dplearn.running.backends import settle_keras
from obiwan.dplearn.running.cli import positive
from obiwan.dplearn.running.launch import RANKS

AUTO = "auto"


@dataclass(frozen=True)
class Profile:
    """Thread profile of a kind of node.

    Attributes
    ----------
    summary : str
        What kind of node.
    cores : int or None
        Physical cores of a node; None where they are looked up.
    hardware_threads : int or None
        Of each core, each a processor in SLURM's count; None where they are looked up.
    interop : int
        Operations that TensorFlow runs at a time.
    variables : dict
        What else is set.
    """

    summary: str
    cores: int | None = None
    hardware_threads: int | None = None
    interop: int = 2
    variables: Mapping[str, str] = field(default_factory=dict)


_INTEL_OPENMP = {"KMP_BLOCKTIME": "1", "KMP_AFFINITY": "granularity=fine,compact,1,0"}

PROFILES: dict[str, Profile] = {
    AUTO: Profile("the node that it runs on"),
    "knl": Profile("Cori's Xeon Phi 7250, 68 cores, -C knl,quad,cache", 68, 4, 2, _INTEL_OPENMP),
    "perlmutter": Profile("two EPYC 7763 of 64 cores each, as Perlmutter's CPU nodes", 128, 2, 2),
    "small": Profile("two cores shared with others: a laptop, a virtual machine", 2, 1, 1),
}

_LOCAL_SIZES = (RANKS, "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "HOROVOD_LOCAL_SIZE")
_STEP_TASKS = "SLURM_STEP_TASKS_PER_NODE"  # "8(x3),4": eight ranks on each of three nodes, four on the last
_SLURM_CPUS, _OMP = "SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"
#: Variables that hold numbers of threads: in all, within an operation of TensorFlow, of its operations.
THREADS = (_OMP, "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
_JAX = "NPROC"  # the same for JAX
#: Environment of a process among as many as there are cores.
ONE_THREAD = dict.fromkeys((*THREADS, _JAX), "1")


@dataclass(frozen=True)
class Node:
    """Processors and cores of a node, and those of this process.

    Attributes
    ----------
    processors, cores : int
        Of the node: hardware threads, and physical cores.
    own_processors, own_cores : int
        Those in this process's affinity mask.
    """

    processors: int
    cores: int
    own_processors: int
    own_cores: int


def this_node(sysfs: Path = Path("/sys/devices/system/cpu")) -> Node:
    """Look at the node; where it does not tell of hardware threads, each processor counts as a core."""

    def core_of(processor: int) -> str:
        try:
            return (sysfs / f"cpu{processor}/topology/thread_siblings_list").read_text().strip()
        except OSError:
            return str(processor)

    everything = range(os.cpu_count() or 1)
    mask = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(everything)
    return Node(
        processors=len(everything),
        cores=len({core_of(i) for i in everything}),
        own_processors=len(mask),
        own_cores=len({core_of(i) for i in mask}),
    )


def _count(environ: Mapping[str, str], name: str) -> int | None:
    """A positive number from the environment, the first where there is a list; None where it is not set."""
    words = environ.get(name, "").split(",")[0].strip()
    if not words:
        return None
    if not words.isdecimal() or int(words) < 1:
        msg = f"{name}={environ[name]} in the environment is not a positive number"
        raise ValueError(msg)
    return int(words)


def local_ranks(environ: Mapping[str, str]) -> int:
    """How many ranks the launcher has put on this node; 1 without one.

    Examples
    --------
    >>> local_ranks({"SLURM_STEP_TASKS_PER_NODE": "8(x3),4"})
    8
    """
    for ranks in (_count(environ, name) for name in _LOCAL_SIZES):
        if ranks is not None:
            return ranks
    return max(map(int, re.findall(r"(\d+)(?:\(x\d+\))?", environ.get(_STEP_TASKS, ""))), default=1)


def _threads(profile: Profile, asked: int | None, environ: Mapping[str, str], node: Node) -> tuple[int, str]:
    """Threads of this rank, and what decided."""
    if asked is not None:
        return asked, "--threads"
    own = _count(environ, _OMP)
    if own is not None:
        return own, f"{_OMP} in the environment"
    share = max(1, (profile.cores or node.cores) // local_ranks(environ))
    source = "its cores" if profile.cores else "the cores of this node"
    if profile.cores is None and node.own_cores < share:
        share, source = node.own_cores, "the affinity mask"
    processors = _count(environ, _SLURM_CPUS)
    if processors is None:
        return share, source
    per_core = profile.hardware_threads or max(1, node.processors // node.cores)
    if profile.cores is None and node.own_processors < node.processors:
        per_core = 1  # the mask has told already how many cores the processors are
    granted = max(1, processors // per_core)
    return (granted, _SLURM_CPUS) if granted <= share else (share, source)


def settings(
    profile: str | None, threads: int | None, environ: Mapping[str, str], node: Node | None = None
) -> dict[str, str]:
    """The environment variables to set before TensorFlow is imported.

    Parameters
    ----------
    profile : str or None
        One of `PROFILES`; None is ``auto``.
    threads : int or None
        What ``--threads`` says; it wins over the profile and over the environment.
    environ : mapping
        The environment as it is.  What the user has set there is kept, ``--threads`` apart.
    node : Node, optional
        `this_node` by default.

    Returns
    -------
    dict
        Only what is to be changed.

    Raises
    ------
    ValueError
        If a number of threads in the environment is none.

    Examples
    --------
    >>> settings("knl", None, {"KMP_BLOCKTIME": "0"})["KMP_AFFINITY"]
    'granularity=fine,compact,1,0'
    """
    recipe = PROFILES[profile or AUTO]
    number, _ = _threads(recipe, threads, environ, node or this_node())
    counts = dict(zip(THREADS, map(str, (number, number, min(recipe.interop, number))), strict=True))
    if environ.get("KERAS_BACKEND") == "jax":
        counts[_JAX] = str(number)
    asked = counts if threads is not None else {}
    kept = {name for name, value in environ.items() if value} - set(asked)
    return {name: value for name, value in {**counts, **recipe.variables}.items() if name not in kept}


def describe(
    profile: str | None, threads: int | None, environ: Mapping[str, str], node: Node | None = None
) -> list[str]:
    """What `settings` does, in words for the log: a line, and one for each thing to beware of.

    Parameters
    ----------
    profile, threads, environ, node
        As for `settings`; `environ` is what it was before the settings were applied.
    """
    node = node or this_node()
    recipe = PROFILES[profile or AUTO]
    number, source = _threads(recipe, threads, environ, node)
    new = settings(profile, threads, environ, node)
    names = {*THREADS, *recipe.variables}
    kept = [f"{name}={environ[name]}" for name in sorted(names - set(new))]
    lines = [f"threads: {number} a rank, from {source} (profile {profile or AUTO}: {recipe.summary})"]
    if kept:
        lines[0] += f"; kept from the environment: {' '.join(kept)}"
    used = number * local_ranks(environ)
    if used > node.cores:
        lines.append(f"warning: {used} threads in all share the {node.cores} cores of this node")
    elif number > node.own_cores:
        lines.append(f"warning: {number} threads share the {node.own_cores} cores that this rank is bound to")
    ties = [f"{name}={environ[name]}" for name in ("OMP_PROC_BIND", "OMP_PLACES") if environ.get(name)]
    return lines + [f"warning: {tie} can tie all threads to one core; better unset it" for tie in ties]


def add_thread_options(add: Callable[..., Any]) -> None:
    """Add ``--profile`` and ``--threads`` with the ``add_argument`` of a parser or group."""
    add("--profile", choices=list(PROFILES), help="kind of node, for its threads (default: auto)")
    text = "processor threads of each rank (default: that of the profile)"
    add("--threads", type=positive, metavar="N", help=text)


def set_environment(options: argparse.Namespace, *, keras: bool = True) -> list[str]:
    """Set what Keras and TensorFlow must find in the environment when they are imported.

    Parameters
    ----------
    options : argparse.Namespace
        With those of `add_thread_options`.
    keras : bool
        Whether Keras is going to be imported.

    Returns
    -------
    list of str
        The result of `describe`, and what `settle_keras` has to say.

    Raises
    ------
    DplearnError
        If a number of threads in the environment is none, or the backend of Keras cannot be used.
    """
    notes = settle_keras(os.environ) if keras else []
    try:
        words = describe(options.profile, options.threads, os.environ)
        os.environ.update(settings(options.profile, options.threads, os.environ))
    except ValueError as error:
        raise DplearnError(str(error)) from None
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("jax").setLevel(logging.WARNING)  # it tells of every accelerator that is not there
    return [*words, *notes]
