"""Versions of installed packages, for records of what numbers rest on."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Iterable
from contextlib import suppress

from obiwan.dplearn import __version__

PACKAGES = (
    *("numpy", "scipy", "astropy", "fitsio", "scikit-learn", "lightgbm", "keras", "tensorflow"),
    *("tensorflow-cpu", "torch", "jax", "matplotlib", "jinja2", "galsim"),
)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of packages by their names on the index; those that are not installed are left out."""
    found = {}
    for name in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def software() -> dict[str, str]:
    """Versions of this package, of Python and of what numbers may rest on, and the backend of Keras."""
    found = {"obiwan.dplearn": __version__, "python": platform.python_version(), **versions(PACKAGES)}
    if "keras" in sys.modules:
        found["keras backend"] = str(sys.modules["keras"].config.backend())
    return found
