"""Fixtures that any test may use; synthetic surveys are in `synthetic`."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

# TensorFlow tells what processor it found on every import; it reads this when it is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = Path(__file__).resolve().parents[1]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Every ``main`` sets up logging anew; the next test finds it as this one did."""
    logger = logging.getLogger()
    before = logger.handlers[:], logger.level
    yield
    logger.handlers[:], logger.level = before[0], before[1]


@pytest.fixture(scope="module")
def environment_as_it_was() -> Iterator[None]:
    """What programs set in the environment is put back after a module's tests."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that gives each test the same numbers, whichever tests run."""
    return np.random.default_rng(20171)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real pipeline output, beside the repository or where ``OBIWAN_DPLEARN_DATA`` says; else a skip."""
    place = Path(os.environ.get("OBIWAN_DPLEARN_DATA", ROOT.parent / "shared" / "data"))
    if not place.is_dir():
        pytest.skip(
            "no real pipeline output: ../shared/data is absent (OBIWAN_DPLEARN_DATA names another place)"
        )
    return place


@pytest.fixture
def run_python(tmp_path: Path) -> Run:
    """Run a fresh Python in an empty directory, with this tree and nothing else on its path.

    The words are the interpreter's; ``path``, ``cwd`` and ``env`` change what the child sees.
    """

    def run(
        *words: str | Path,
        path: Sequence[Path] = (ROOT / "py",),
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KERAS"))
        }
        environ |= {
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "PYTHONDONTWRITEBYTECODE": "1",
            **(env or {}),
        }
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=cwd or tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run
