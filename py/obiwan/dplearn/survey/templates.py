"""Path templates, and the files on disk that match them: brick, run and object of each."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import chain, groupby
from pathlib import Path

_FIELDS = {"bri": r"[^/]{3}", "brick": r"[^/]+?", "obj": r"[^/]+?"}


def _part_regex(part: str, run_names: str, fixed: dict[str, str]) -> re.Pattern[str]:
    """Turn one component of a template into a pattern whose groups are the template's fields."""

    def group(match: re.Match[str]) -> str:
        field = match.group(1)
        if field in fixed:
            return re.escape(fixed[field])
        return f"(?P<{field}>{run_names if field == 'run' else _FIELDS[field]})"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", group, re.escape(part)))


def listing(directory: Path) -> list[str]:
    """Names in a directory, sorted; none where it does not exist."""
    try:
        return sorted(entry.name for entry in os.scandir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _names(
    directory: Path,
    part: str,
    pattern: re.Pattern[str],
    fixed: dict[str, str],
    bricks: Mapping[str, list[str]] | None,
) -> list[str]:
    """Names in a directory that one component may match: by listing only where they are not known.

    The wanted bricks come sorted, by their first three characters: there are as many directories of those.
    """
    unknown = set(pattern.groupindex)
    if not unknown:
        known = [part.format(**fixed)]
    elif bricks is not None and unknown == {"bri"}:
        known = sorted(part.format(bri=bri, **fixed) for bri in bricks)
    elif bricks is not None and unknown == {"brick"}:
        mine = bricks.get(fixed["bri"], []) if "bri" in fixed else chain(*bricks.values())
        known = [part.format(brick=brick, **fixed) for brick in mine]
    else:
        return listing(directory)
    return [name for name in known if (directory / name).exists()]


def _is_of_brick(found: dict[str, str], bricks: Collection[str] | None) -> bool:
    """Whether what a path says of its brick is consistent, and wanted."""
    brick = found.get("brick")
    consistent = brick is None or brick[:3] == found.get("bri", brick[:3])
    return consistent and (brick is None or bricks is None or brick in bricks)


def expand(
    root: Path, template: str, run_names: str, bricks: Collection[str] | None
) -> Iterator[dict[str, str]]:
    """Walk a template; yields the fields of every file that is there, in sorted order.

    A template's fields are ``{run}``, ``{bri}``, ``{brick}`` and ``{obj}``; ``{bri}`` is the first
    three characters of the brick name.  With ``bricks``, only those bricks' directories are looked
    at: on a parallel file system the metadata calls are what costs.
    """
    parts = template.split("/")
    by_bri: dict[str, list[str]] | None = None
    if bricks is not None:
        by_bri = {bri: list(names) for bri, names in groupby(sorted(bricks), lambda name: name[:3])}

    def descend(directory: Path, depth: int, fixed: dict[str, str]) -> Iterator[dict[str, str]]:
        pattern = _part_regex(parts[depth], run_names, fixed)
        for name in _names(directory, parts[depth], pattern, fixed, by_bri):
            match = pattern.fullmatch(name)
            found = {**fixed, **match.groupdict()} if match else {}
            if match is None or not _is_of_brick(found, bricks):
                continue
            if depth == len(parts) - 1:
                yield found
            else:
                yield from descend(directory / name, depth + 1, found)

    yield from descend(root, 0, {})
