"""Launchers: rank and number of ranks, from the environment; which MPI srun can start.

Ranks of srun find each other through a process management interface (PMI), whose kind is srun's ``--mpi``.
Open MPI takes PMIx alone, apart from builds of its versions before 5 with SLURM's own libraries; with another
kind each rank ends in `MPI_Init`, before Python can say anything.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from obiwan.dplearn.errors import DplearnError

STARTED_HERE = "cnn --ranks"  #: launcher of ranks that a program starts itself, on one machine
RANK, RANKS = "DPLEARN_RANK", "DPLEARN_RANKS"

# Rank and size as each launcher tells them.  SLURM_NTASKS is not among them: a batch script has it, too, and
# a program that the script starts without srun is alone.
LAUNCHERS = (
    (STARTED_HERE, RANK, RANKS),
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


@contextmanager
def first_fails(launch: Launch) -> Iterator[None]:
    """Errors that all ranks have alike: the first raises its own, the others end without a word."""
    try:
        yield
    except DplearnError:
        if launch.rank == 0:
            raise
        raise SystemExit(1) from None


def rank_pmi(environ: Mapping[str, str]) -> str:
    """Kind of PMI by which srun started this rank, as its ``--mpi`` names it; empty without srun.

    Examples
    --------
    >>> rank_pmi({"SLURM_STEP_ID": "0", "PMI_FD": "11"})
    'pmi2'
    """
    # Open MPI's mpirun has a PMI of its own.
    if "SLURM_STEP_ID" not in environ or "OMPI_COMM_WORLD_RANK" in environ:
        return ""
    return "pmix" if "PMIX_RANK" in environ else "pmi2" if "PMI_FD" in environ else "none"


def _said(*words: str) -> str:
    """Output of a command; nothing where there is none."""
    program = shutil.which(words[0])
    if program is None:
        return ""
    done = subprocess.run(
        [program, *words[1:]], capture_output=True, text=True, errors="replace", check=False
    )
    return done.stdout + done.stderr


def default_pmi(environ: Mapping[str, str]) -> str:
    """Kind of PMI that srun uses without ``--mpi``: the user's, or the site's."""
    site = re.search(r"^MpiDefault\s*=\s*(\S+)", _said("scontrol", "show", "config"), re.MULTILINE)
    return environ.get("SLURM_MPI_TYPE") or (site[1] if site else "")


def offered_pmi() -> list[str]:
    """Kinds of PMI that srun has."""
    return re.findall(r"^\s+(?:srun:\s*)?([\w.]+)\s*$", _said("srun", "--mpi=list"), re.MULTILINE)


def linked_libraries(*files: Path) -> set[Path]:
    """The shared libraries that files load, by ``ldd``, without loading them here."""
    text = "".join(_said("ldd", str(file)) for file in files)
    return {Path(path) for path in re.findall(r"=> (/.*) \(0x", text)}


def loaded_libraries() -> set[Path]:
    """The shared libraries that this process has loaded; none on systems other than Linux."""
    try:
        text = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    return {Path(path) for path in re.findall(r" (/.*\.so[.\d]*)$", text, re.MULTILINE)}


def pmi_problem(kind: str, offered: Collection[str], libraries: Iterable[Path]) -> str:
    """Problem that keeps srun from starting the ranks of an MPI; empty where nothing speaks against it.

    Parameters
    ----------
    kind : str
        Of the PMI, as srun's ``--mpi`` names it; empty where it is not known.
    offered : collection of str
        Kinds that this srun has; empty where they are not known.
    libraries : iterable of Path
        Shared libraries of the MPI; Open MPI is recognised by its ``libopen-pal``.
    """
    if kind and offered and kind.partition("_v")[0] not in offered:
        return f"this srun has no --mpi={kind}; it has {', '.join(offered)} (srun --mpi=list)"
    core = next((path for path in libraries if path.name.startswith("libopen-pal.")), None)
    if core is None or not kind or kind.startswith("pmix"):
        return ""
    with_slurm = kind.startswith("pmi") and (
        (core.parent / "openmpi" / "mca_pmix_s2.so").exists() or b"mca_pmix_s2" in core.read_bytes()
    )
    if with_slurm:
        return ""
    begin = f"srun --mpi={kind} cannot start Open MPI ({core.parent}), which needs PMIx"
    if offered and not any(one.startswith("pmix") for one in offered):
        return (
            f"{begin}; this SLURM has none (srun --mpi=list: {', '.join(offered)}): load an MPI of the site "
            "and build mpi4py and Horovod with it"
        )
    return f"{begin}: set SRUN_MPI=pmix before sbatch, or give srun --mpi=pmix"


def rank_problem(environ: Mapping[str, str]) -> str:
    """Problem that keeps the MPI that this rank has loaded from starting; empty where nothing is known."""
    kind = rank_pmi(environ)
    # Nothing is asked for in the usual case: hundreds of ranks come by here.
    return pmi_problem(kind, offered_pmi(), loaded_libraries()) if kind in ("none", "pmi2") else ""
