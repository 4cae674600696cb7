"""Versions of installed packages, for records of what numbers rest on."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from contextlib import suppress


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of packages by their names on the index; those that are not installed are left out."""
    found = {}
    for name in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
