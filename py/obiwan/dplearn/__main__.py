"""Preflight: checks of the import path and of the installed packages; ``dplearn PROGRAM`` starts a program.

    python -m obiwan.dplearn --need train mock

ends with status 0 when the programs of the package can start in this environment, and 1 when they cannot.
The order of the path decides which ``obiwan`` is imported.  Where another tree hides this one, ``-m`` fails
in Python itself, for the others have no ``__main__``; this file, run by its own path, then names the other::

    python /path/to/py/obiwan/dplearn/__main__.py

It therefore imports nothing of the package at its top, and nothing heavy unless asked.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[2]  # the directory that has to be on the path, first
LAUNCHERS = ("mpirun", "srun", "horovodrun")  # of several ranks


@dataclass(frozen=True)
class Package:
    """Third-party package: the extra that installs it, its names on the index, the module that is loaded."""

    module: str
    extra: str
    distributions: tuple[str, ...] = ()
    loads: str = ""

    def version(self) -> str:
        """The installed version, from its metadata, without importing it."""
        for name in self.distributions or (self.module,):
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return "version unknown"

    def origin(self) -> Path | None:
        """The file or directory that an import would take, or None when there is none."""
        spec = importlib.util.find_spec(self.module)
        if spec is None:
            return None
        places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or [])
        return Path(places[0]) if places and places[0] else None


PACKAGES = (
    Package("numpy", "core"),
    Package("scipy", "core"),
    Package("astropy", "core"),
    Package("fitsio", "core"),
    Package("pcodec", "core"),
    Package("tqdm", "core"),
    Package("keras", "train"),
    Package("tensorboard", "train"),
    Package("tensorflow", "train", ("tensorflow", "tensorflow-cpu", "tensorflow-intel")),
    Package("optuna", "tune"),
    Package("galsim", "evaluate"),
    Package("matplotlib", "figures"),
    Package("horovod", "horovod", loads="horovod.tensorflow"),
    Package("sep", "inject"),
    Package("mpi4py", "mpi", loads="mpi4py.MPI"),
    Package("jinja2", "evaluate"),
    Package("lightgbm", "evaluate"),
    Package("sklearn", "evaluate", ("scikit-learn",)),
)
EXTRAS = tuple(dict.fromkeys(package.extra for package in PACKAGES if package.extra != "core"))


def with_backend(packages: Iterable[Package], backend: str) -> list[Package]:
    """The packages, with the backend that Keras will use instead of TensorFlow and its TensorBoard."""
    other, absent = Package(backend, "train"), {"tensorboard"} if backend != "tensorflow" else set()
    found = [other if one.module == "tensorflow" != backend else one for one in packages]
    return [one for one in found if one.module not in absent]


def trees(path: Iterable[str]) -> list[Path]:
    """Entries of an import path that hold an ``obiwan`` directory, resolved, each once."""
    found = (Path(entry or os.curdir).resolve() for entry in path)
    return list(dict.fromkeys(entry for entry in found if (entry / "obiwan").is_dir()))


def winner(found: Sequence[Path]) -> Path | None:
    """The entry whose ``obiwan`` Python imports: one with ``__init__.py`` beats all without."""
    regular = [entry for entry in found if (entry / "obiwan" / "__init__.py").is_file()]
    return next(iter([*regular, *found]), None)


def path_problems(path: Sequence[str], *, starts_here: bool) -> list[str]:
    """Errors in the order of a path; `starts_here`: Python itself put the current directory first."""
    remedy = f"put {TREE} first on PYTHONPATH, before obiwan and legacypipe"
    first = winner(trees(path))
    if first is None:
        return [f"no obiwan on the path: {remedy}, or pip install obiwan-dplearn"]
    if first != TREE:
        return [f"`obiwan` is imported from {first}, not from {TREE}: {remedy}"]
    elsewhere = winner(trees(path[1:])) if starts_here else first
    if elsewhere not in (None, TREE):
        return [f"only this current directory makes ours the first; elsewhere {elsewhere} wins: {remedy}"]
    return []


def path_notes(path: Sequence[str], *, starts_here: bool) -> list[str]:
    """Remarks on a path whose order is right."""
    notes = [
        f"{entry / 'obiwan' / 'dplearn'} is hidden by ours, which comes first"
        if (entry / "obiwan" / "dplearn").is_dir()
        else f"the modules of {entry / 'obiwan'} import beside ours"
        for entry in trees(path)
        if entry != TREE
    ]
    if starts_here and not trees(path[1:]):
        notes.append(f"found through the current directory alone; put {TREE} on PYTHONPATH to work elsewhere")
    here = Path.cwd().resolve()
    if (here / "obiwan").is_dir() and here != TREE and here not in trees(path):
        notes.append(f"{here} holds another obiwan: without PYTHONSAFEPATH=1, `python -m` would run that")
    return notes


def shadowed(packages: Iterable[Package]) -> list[str]:
    """Files of the current directory that hide packages."""
    here = Path.cwd().resolve()
    taken = []
    for package in packages:
        origin = package.origin()
        top = origin and (origin.parent if origin.name == "__init__.py" else origin)
        if top and top.resolve().parent == here:
            taken.append(f"{top} hides the package {package.module}: start from another directory")
    return taken


def imported() -> tuple[str, str | None]:
    """Version of the package that an import gives, and why it is not that of this file's tree."""
    try:
        package = importlib.import_module("obiwan.dplearn")
    except ImportError as error:
        return "(not importable)", f"`import obiwan.dplearn` fails: {error}"
    taken = Path(package.__file__ or "nowhere").resolve().parent
    ours = taken == TREE / "obiwan" / "dplearn"
    version = getattr(package, "__version__", "(no version)")
    return version, None if ours else f"`obiwan.dplearn` is imported from {taken}"


def load(package: Package) -> str:
    """Import a package; returns the seconds that it took, or the error, which begins with ``fails``."""
    start = time.perf_counter()
    try:
        if package.module == "mpi4py":
            # Starting MPI outside a job can end the whole process; that the library loads is enough.
            importlib.import_module("mpi4py").rc.initialize = False
        importlib.import_module(package.loads or package.module)
    except Exception as error:  # whatever a broken installation raises is the answer
        return f"fails: {type(error).__name__}: {error}"
    return f"loads in {time.perf_counter() - start:.1f} s"


def remedy(extra: str) -> str:
    """How to get the packages of an extra."""
    if extra == "horovod":
        return "pip alone cannot build it beside a recent TensorFlow, see doc/howto/install.rst"
    return "pip install obiwan-dplearn" if extra == "core" else f"pip install 'obiwan-dplearn[{extra}]'"


def controllers(horovod: Path) -> str:
    """Controllers of an installed Horovod: ``gloo`` (horovodrun), ``mpi`` (mpirun, srun).

    Its library is searched and not loaded, which would load TensorFlow.
    """
    found = set()
    for library in horovod.glob("tensorflow/mpi_lib*.so"):
        # Gloo is linked in, so that its C++ names are there; MPI is a library that it asks for.
        marks = {"gloo": rb"N4gloo", "mpi": rb"libmpi[\w.-]*\.so"}
        content = library.read_bytes()
        found |= {name for name, mark in marks.items() if re.search(mark, content)}
    return f"with {' and '.join(sorted(found))}" if found else "not built for TensorFlow"


def launchers(path: str | None = None) -> str:
    """The programs on the path that start ranks, with their places."""
    places = [place for name in LAUNCHERS if (place := shutil.which(name, path=path))]
    return ", ".join(places) or f"none of {', '.join(LAUNCHERS)}"


def package_report(
    packages: Iterable[Package], needed: Sequence[str], *, loading: bool
) -> tuple[list[str], list[str]]:
    """The table of packages, a line each, and the problems of those whose extra is needed."""
    lines, problems = [], []
    for package in packages:
        origin = package.origin()
        words = package.version() if origin else "absent"
        outcome = load(package) if origin and loading else ""
        kind = controllers(origin.parent) if origin and package.module == "horovod" else ""
        detail = ", ".join(filter(None, [kind, outcome]))
        lines.append(f"  {package.module:<12} {package.extra:<8} {words:<12} {detail}".rstrip())
        if package.extra in needed and not origin:
            problems.append(f"{package.module} is missing: {remedy(package.extra)}")
        elif package.extra in needed and outcome.startswith("fails"):
            problems.append(f"{package.module} cannot be imported: {outcome}")
    return lines, problems


def mpi_problems(needed: Sequence[str], kind: str) -> list[str]:
    """Problems that keep srun from starting ranks of the MPI of Horovod or mpi4py, whichever is needed.

    Parameters
    ----------
    needed : sequence of str
        Extras.
    kind : str
        Srun's ``--mpi``; empty for the default of the user or of the site.
    """
    launch = importlib.import_module("obiwan.dplearn.running.launch")
    libraries: set[Path] = set()
    for package in (package for package in PACKAGES if package.extra in {"horovod", "mpi"} & set(needed)):
        origin = package.origin()
        if origin and package.module == "horovod":
            libraries |= launch.linked_libraries(*origin.parent.glob("tensorflow/mpi_lib*.so"))
        elif origin and not load(package).startswith("fails"):  # which loads the MPI that it finds
            libraries |= launch.loaded_libraries()
    kind = kind or launch.default_pmi(os.environ)
    problem: str = launch.pmi_problem(kind, launch.offered_pmi(), sorted(libraries))
    return [problem] if problem else []


def keras_backend() -> tuple[str, str]:
    """The backend that Keras will choose, and what is wrong with it if there is no such backend."""
    backends = importlib.import_module("obiwan.dplearn.running.backends")
    backend, known = backends.keras_backend(os.environ), ", ".join(backends.BACKENDS)
    return backend, "" if backend in backends.BACKENDS else f"KERAS_BACKEND={backend} is none of {known}"


def programs() -> Any:
    """The module of the programs; None where another tree hides this one."""
    try:
        return importlib.import_module("obiwan.dplearn.running.programs")
    except ImportError:
        return None


def build_parser() -> argparse.ArgumentParser:
    """The parser of the preflight's command line."""
    known, name = programs(), "dplearn" if Path(sys.argv[0]).name == "dplearn" else "python -m obiwan.dplearn"
    parser = argparse.ArgumentParser(
        prog=name,
        usage=f"{name} PROGRAM ... | [options]",
        description="Start a program (PROGRAM --help lists its options), or, without one, say what would run "
        "here and where it comes from; fail when something needed is missing.",
        epilog=f"programs:\n{known.listing()}" if known else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--need",
        nargs="+",
        choices=EXTRAS,
        default=[],
        metavar="EXTRA",
        help=f"also fail when the packages of these extras are missing: {', '.join(EXTRAS)}",
    )
    parser.add_argument(
        "--srun",
        nargs="?",
        const="",
        metavar="MPI",
        help="also fail when srun, with this --mpi or its default, cannot start the MPI that is needed",
    )
    parser.add_argument("--load", action="store_true", help="import each package, which takes a while")
    parser.add_argument("--version", action="store_true", help="say the version of the package, and end")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; returns 0 where the programs can start, and 1 where they cannot."""
    options = build_parser().parse_args(argv)
    if options.version:
        version, reason = imported()
        print(f"obiwan.dplearn {version}" if not reason else f"PROBLEM: {reason}")  # noqa: T201 - as below
        return 1 if reason else 0
    needed = ["core", *options.need]
    # Run as a file, this file's own directory stands first; in a job it will not.
    path = [entry for entry in sys.path if Path(entry or os.curdir).resolve() != TREE / "obiwan" / "dplearn"]
    safe = getattr(sys.flags, "safe_path", False) or not __package__
    here = not safe and bool(path) and Path(path[0] or os.curdir).resolve() == Path.cwd().resolve()

    problems = path_problems(path, starts_here=here)
    version, reason = imported()
    if not problems and reason:
        problems.append(reason)
    backend, unknown = ("tensorflow", "") if reason else keras_backend()
    problems += [unknown] if unknown else []
    packages = with_backend(PACKAGES, backend)
    problems += shadowed(package for package in packages if package.extra in needed)
    lines, missing = package_report(packages, needed, loading=options.load)
    problems += missing
    if options.srun is not None and not problems:
        problems += mpi_problems(needed, options.srun)

    report = [
        f"obiwan.dplearn {version} in {TREE}",
        f"python {sys.version.split()[0]} in {sys.executable}; Keras backend {backend}",
        *lines,
        f"launchers: {launchers()}",
        *(f"note: {text}" for text in path_notes(path, starts_here=here)),
        *(f"PROBLEM: {text}" for text in problems),
        f"preflight: {'ok' if not problems else f'failed, {len(problems)} problem(s)'}",
    ]
    print("\n".join(report))  # noqa: T201 - does nothing where stdout is closed
    return 1 if problems else 0


def command() -> int | str:
    """`main` on a terminal or in a pipe: no traceback for Ctrl-C, a reader that has gone, or a full disk."""
    if sys.argv[1:] and not sys.argv[1].startswith("-") and (known := programs()):
        try:
            return int(known.start(sys.argv[1], sys.argv[2:]))
        except ValueError as error:
            build_parser().error(str(error))
    status: int | str | None = 0
    try:
        try:
            status = main()
        except SystemExit as done:  # of --help, too
            status = done.code
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is to be flushed at the end
        if not isinstance(error, BrokenPipeError):  # else the reader has what it wanted
            return f"preflight: error: cannot write the report ({error.strerror})"
    except KeyboardInterrupt:
        return 130
    return int(status or 0)


if __name__ == "__main__":
    sys.exit(command())
