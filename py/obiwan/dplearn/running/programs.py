"""Programs of the package by name, which ``dplearn PROGRAM`` starts."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Sequence
from pathlib import Path

from obiwan import dplearn

PROGRAMS = (
    "inject",
    "create_training",
    "measure",
    "cnn",
    "tune",
    "evaluate",
    "mosaic",
    "shards",
    "export",
    "mock",
)


def summary(program: str) -> str:
    """First line of a program's docstring, without importing it.

    Examples
    --------
    >>> summary("mosaic")
    'Mosaics of training examples: real and injected galaxies, row by row, at equal brightness.'
    """
    place = Path(dplearn.__file__).parent / program
    path = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def listing() -> str:
    """Programs with their summaries, a line each."""
    return "\n".join(f"  {name.replace('_', '-'):<16} {summary(name)}" for name in PROGRAMS)


def start(word: str, words: Sequence[str]) -> int:
    """Run a program; returns its exit status.

    Parameters
    ----------
    word : str
        Its name; ``-`` and ``_`` are the same.
    words : sequence of str
        Its command line.

    Raises
    ------
    ValueError
        If there is no such program.
    """
    name = word.replace("-", "_")
    if name not in PROGRAMS:
        known = ", ".join(one.replace("_", "-") for one in PROGRAMS)
        msg = f"no program {word!r}; there are {known}"
        raise ValueError(msg)
    dplearn._end_at_ctrl_c(name)
    package = f"{dplearn.__name__}.{name}"
    inner = f"{package}.__main__" if (Path(dplearn.__file__).parent / name).is_dir() else package
    status: int = importlib.import_module(inner).main(words)
    return status
