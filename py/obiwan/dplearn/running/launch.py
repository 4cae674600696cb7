"""Launchers: rank and number of ranks, from the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO

# Rank and size as each launcher tells them.  SLURM_NTASKS is not among them: a batch script has it, too, and
# a program that the script starts without srun is alone.
LAUNCHERS = (
    ("horovodrun", "HOROVOD_RANK", "HOROVOD_SIZE"),
    ("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("mpiexec", "PMI_RANK", "PMI_SIZE"),
    ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


@dataclass(frozen=True)
class Launch:
    """Rank of this process.

    Attributes
    ----------
    launcher : str
        Its name; empty where there is none.
    rank, size : int
        Which process this is, and of how many.
    """

    launcher: str = ""
    rank: int = 0
    size: int = 1


def launched(environ: Mapping[str, str]) -> Launch:
    """Rank of this process from the variables of its launcher.

    Examples
    --------
    >>> launched({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4"})
    Launch(launcher='mpirun', rank=3, size=4)
    """
    for launcher, rank, size in LAUNCHERS:
        if environ.get(rank, "").isdecimal() and environ.get(size, "").isdecimal() and int(environ[size]) > 1:
            return Launch(launcher, int(environ[rank]), int(environ[size]))
    return Launch()


@contextmanager
def first_speaks(launch: Launch) -> Iterator[None]:
    """Silence all ranks but the first, which reports errors in the command line."""
    if launch.rank == 0:
        yield
        return
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield
