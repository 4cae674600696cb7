"""Imports without circles, heavy packages only where they are needed, short functions and files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import obiwan.dplearn
from obiwan.dplearn.running.programs import PROGRAMS
from obiwan.dplearn.stampspec import FILTERS

PACKAGE = Path(obiwan.dplearn.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").strip("."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of every import, wherever in the file, except those that only types need."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((name.name, "") for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, name.name) for name in node.names)


def ours(path: Path) -> set[str]:
    """Which modules of the package a file imports."""
    found = set()
    for module, name in imported(path):
        if module.split(".")[:2] == ["obiwan", "dplearn"]:
            base = ".".join(module.split(".")[2:])
            inner = f"{base}.{name}".strip(".")
            found.add(inner if inner in MODULES else base)
    return found - {""}  # the package's own version


def test_imports_have_no_circle():
    graph = {name: ours(path) - {name} for name, path in MODULES.items() if name}
    for name in graph:
        package = name.rpartition(".")[0]
        graph[name] -= {package}  # a module of a package may ask for what its siblings gave to the package
    order = tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names them
    assert len(order) == len(MODULES) - 1


def is_program(path: Path) -> bool:
    """Whether ``python -m`` runs a module."""
    return (
        re.search('^if __name__ == "__main__":', path.read_text(encoding="utf-8"), re.MULTILINE) is not None
    )


def test_programs_are_not_imported():
    """What a command line needs of another's work is in a module of its own; `interface` calls programs."""
    programs = {name for name, path in MODULES.items() if is_program(path)}
    assert {"create_training", "cnn", "evaluate", "mosaic"} < programs
    for name, path in MODULES.items():
        assert not ours(path) & (programs - {name}) or name == "interface", name


def test_the_command_knows_every_program():
    found = {name.removesuffix(".__main__") for name, path in MODULES.items() if is_program(path)}
    assert found == {"__main__", *PROGRAMS}


def packages() -> dict[str, set[str]]:
    """Every package, or module of the top level, with those that it imports."""
    found: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        if name:
            mine = name.split(".")[0]
            found.setdefault(mine, set()).update({other.split(".")[0] for other in ours(path)} - {mine})
    return found


def test_packages_have_no_circle():
    """The same for packages taken as one with all that is in them."""
    assert set(TopologicalSorter(packages()).static_order()) == set(packages())


def test_the_picture_shows_the_code():
    """Packages, arrows and modules of the page are those of the code, and arrows point upwards."""
    page = (ROOT / "doc" / "explanation" / "architecture.rst").read_text(encoding="utf-8")
    arrows, modules = {}, set()
    for line in page.partition("::\n")[2].partition("\nNo modules")[0].splitlines():
        if found := re.match(r"    (\w+) +<- ?((?:\w+(?:, )?)*)(?:  |$)", line):
            package = found[1]
            arrows[package] = set(filter(None, found[2].split(", ")))
            assert arrows[package] <= set(arrows), f"{package} stands above what it imports"
        elif found := re.match(r"        (\w+(?:, \w+)*)", line):
            modules |= {f"{package}.{module}" for module in found[1].split(", ")}
    shared = {"stampspec", "errors"}
    assert arrows == {name: on - shared for name, on in packages().items() if name in arrows}
    inner = {name for name in MODULES if "." in name}
    assert set(arrows) == {name.split(".")[0] for name in inner}
    assert modules == {name for name in inner if not name.endswith("__main__")}


@pytest.mark.parametrize(
    ("engine", "expected"),
    [("horovod", {"training.horovod_ranks"}), ("jax", {"training.jax_ranks", "training.steps"})],
)
def test_engines_have_a_door_each(engine, expected):
    imports = {(name, module.split(".")[0]) for name, path in MODULES.items() for module, _ in imported(path)}
    assert {name for name, module in imports if module == engine} == expected


def test_cfitsio_has_one_door():
    """It interprets names: brackets, parentheses, a leading ! or ~, +1 at the end."""
    doors = {name for name, path in MODULES.items() for module, _ in imported(path) if module == "fitsio"}
    assert doors == {"files.fits"}
    code = (PACKAGE / "files" / "fits.py").read_text(encoding="utf-8")
    assert re.findall(r"fitsio\.\w+\((.*?)[,)]", code) == ['"/dev/null/none"', "name"]


@pytest.mark.parametrize(
    ("heavy", "allowed"),
    [
        ("galsim", ("survey.rendering", "injection.models")),
        ("sklearn", ("twosample", "controls", "evaluation", "referees")),
        ("matplotlib", ("report", "mosaic", "tuning", "__main__")),
        ("optuna", ("tuning",)),
        ("mpi4py", ("running", "training", "__main__")),
    ],
)
def test_heavy_packages_stay_in_their_rooms(heavy, allowed):
    for name, path in MODULES.items():
        if any(module.split(".")[0] == heavy for module, _ in imported(path)):
            assert name in allowed or name.split(".")[0] in allowed, f"{name} imports {heavy}"


def code_lines(source: str, tree: ast.Module) -> set[int]:
    """The lines of a module that are neither blank, comment nor docstring."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        line
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node)
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    lines = enumerate(source.splitlines(), 1)
    return {i for i, line in lines if line.strip() and not line.lstrip().startswith("#")} - docstrings


def test_functions_and_files_are_short():
    long = []
    for name, path in MODULES.items():
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        if source.count("\n") > 350:
            long.append(name)
        code = code_lines(source, tree)
        functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
        long += [
            f"{name}.{f.name}" for f in functions if len(code & {*range(f.lineno, f.end_lineno + 1)}) > 50
        ]
    assert long == []


def test_bands_are_data():
    """A specification is handed on; an ELG box is of three bands, whatever is cut out, and so is format 1."""
    fixed = set()
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Tuple | ast.List) and len(node.elts) > 1:
                values = [element.value for element in node.elts if isinstance(element, ast.Constant)]
                if len(values) == len(node.elts) and {*values} <= {*FILTERS}:
                    fixed.add(name)
    assert fixed == {"stampspec", "planning.selection", "trainingset.manifest"}
