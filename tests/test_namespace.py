"""Beside an upstream obiwan and a legacypipe, which both ship an ``obiwan`` of their own.

The path decides: ours first, and all three import; any other order hides ours, and that must be
loud, because upstream has an older ``obiwan.dplearn`` that would run without a word.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path

import pytest

WHO = "import obiwan.dplearn as d; print(d.__file__)"
HEAVY = {"tensorflow", "keras", "jax", "torch", "horovod", "mpi4py", "galsim", "matplotlib", "sklearn"}


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


@pytest.fixture
def upstream(tmp_path):
    """The path entry of an upstream obiwan: modules, an old dplearn, and no ``__main__``."""
    py = tmp_path / "upstream" / "py"
    write(py / "obiwan" / "__init__.py", "__version__ = '0'\n")
    write(py / "obiwan" / "kenobi.py", "WHOSE = 'upstream'\n")
    write(py / "obiwan" / "common.py", "from obiwan.kenobi import WHOSE\n")
    write(py / "obiwan" / "dplearn" / "__init__.py")
    write(py / "obiwan" / "dplearn" / "cnn.py", "WHOSE = 'upstream'\n")
    return py


@pytest.fixture
def legacypipe(tmp_path):
    """The path entry of a legacypipe, whose ``obiwan`` is an empty regular package."""
    py = tmp_path / "legacypipe" / "py"
    write(py / "obiwan" / "__init__.py")
    write(py / "legacypipe" / "__init__.py")
    write(py / "legacypipe" / "survey.py", "WHOSE = 'legacypipe'\n")
    return py


@pytest.fixture
def ours(root):
    return root / "py"


def preflight(run_python, **where):
    return run_python("-m", "obiwan.dplearn", **where)


def test_ours_first_all_three_import(run_python, ours, upstream, legacypipe):
    path = [ours, upstream, legacypipe]
    done = run_python("-c", WHO, path=path)
    assert Path(done.stdout.strip()).parent == ours / "obiwan" / "dplearn"
    others = "import obiwan.common as a, legacypipe.survey as b; print(a.WHOSE, b.WHOSE)"
    assert run_python("-c", others, path=path).stdout.split() == ["upstream", "legacypipe"]

    done = preflight(run_python, path=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{upstream / 'obiwan' / 'dplearn'} is hidden by ours" in done.stdout
    assert f"the modules of {legacypipe / 'obiwan'} import beside ours" in done.stdout


@pytest.mark.parametrize("order", [["upstream", "ours"], ["upstream", "ours", "legacypipe"]])
def test_upstream_first_is_loud(request, run_python, upstream, ours, order):
    path = [request.getfixturevalue(name) for name in order]
    done = run_python("-c", WHO, path=path)
    assert Path(done.stdout.strip()).parent == upstream / "obiwan" / "dplearn"  # the silent hazard itself

    done = preflight(run_python, path=path)
    assert done.returncode == 1
    assert "__main__" in done.stderr  # upstream has none: Python itself refuses

    done = run_python(ours / "obiwan" / "dplearn" / "__main__.py", path=path)
    assert done.returncode == 1
    assert f"PROBLEM: `obiwan` is imported from {upstream}, not from {ours}" in done.stdout
    assert f"put {ours} first" in done.stdout


def test_legacypipe_first_is_loud(run_python, ours, legacypipe):
    path = [legacypipe, ours]
    done = preflight(run_python, path=path)
    assert done.returncode == 1
    assert "No module named obiwan.dplearn" in done.stderr

    done = run_python(ours / "obiwan" / "dplearn" / "__main__.py", path=path)
    assert done.returncode == 1
    assert f"`obiwan` is imported from {legacypipe}" in done.stdout


@pytest.mark.parametrize("other", ["upstream", "legacypipe"])
def test_installed_ours_is_hidden_by_a_path(request, run_python, ours, tmp_path, other):
    installed = tmp_path / "site"
    shutil.copytree(ours, installed, ignore=shutil.ignore_patterns("__pycache__"))
    path = [request.getfixturevalue(other), installed]
    assert preflight(run_python, path=path).returncode == 1
    done = run_python(installed / "obiwan" / "dplearn" / "__main__.py", path=path)
    assert done.returncode == 1
    assert f"put {installed} first" in done.stdout


@pytest.mark.parametrize("ours_owns_init", [True, False])
def test_wheels_of_both_in_one_directory(run_python, ours, legacypipe, tmp_path, ours_owns_init):
    """Two wheels share one ``obiwan`` directory, and the last one installed owns its ``__init__``."""
    site = tmp_path / "site"
    shutil.copytree(ours, site, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(legacypipe / "legacypipe", site / "legacypipe")
    if not ours_owns_init:
        shutil.copy(legacypipe / "obiwan" / "__init__.py", site / "obiwan" / "__init__.py")
    assert preflight(run_python, path=[site]).returncode == 0
    assert run_python("-c", "import obiwan.dplearn, legacypipe.survey", path=[site]).returncode == 0


def test_a_directory_without_init_does_not_hide_ours(run_python, ours, tmp_path):
    (tmp_path / "stray" / "obiwan").mkdir(parents=True)
    done = preflight(run_python, path=[tmp_path / "stray", ours])
    assert done.returncode == 0, done.stdout + done.stderr


def test_current_directory_of_upstream_is_loud(run_python, ours, upstream):
    done = preflight(run_python, path=[ours], cwd=upstream)
    assert done.returncode == 1


@pytest.mark.skipif(sys.version_info < (3, 11), reason="PYTHONSAFEPATH came with Python 3.11")
def test_safe_path_cures_the_current_directory(run_python, ours, upstream):
    done = preflight(run_python, path=[ours], cwd=upstream, env={"PYTHONSAFEPATH": "1"})
    assert done.returncode == 0, done.stdout
    assert f"note: {upstream} holds another obiwan" in done.stdout


def test_ours_first_by_the_current_directory_alone_is_loud(run_python, ours, upstream):
    done = preflight(run_python, path=[upstream, ours], cwd=ours)
    assert done.returncode == 1
    assert f"only this current directory makes ours the first; elsewhere {upstream} wins" in done.stdout


def test_shim_is_only_the_shim(root):
    lines = (root / "py" / "obiwan" / "__init__.py").read_text().split('"""')[-1].split("\n")
    assert [line for line in lines if line] == [
        "from pkgutil import extend_path",
        "__path__ = extend_path(__path__, __name__)",
    ]


@pytest.mark.parametrize(
    "module", ["obiwan.dplearn", "obiwan.dplearn.__main__", "obiwan.dplearn.create_training"]
)
def test_import_loads_nothing_heavy(run_python, root, module):
    if (
        not (root / "py" / Path(*module.split("."))).with_suffix(".py").exists()
        and module != "obiwan.dplearn"
    ):
        pytest.skip(f"{module} does not exist yet")
    report = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = run_python("-c", report)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stdout.split())
