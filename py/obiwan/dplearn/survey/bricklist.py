"""Brick lists: names of bricks as they are typed, or from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from obiwan.dplearn.errors import LayoutError


def read_brick_list(words: Sequence[str]) -> set[str] | None:
    """Brick names given as such or in files of one name per line (# begins a comment).

    Returns
    -------
    set of str or None
        None where no list was given.
    """
    if not words:
        return None
    names: set[str] = set()
    for word in words:
        path = Path(word)
        if path.is_file():
            try:
                lines = path.read_text(encoding="utf-8-sig").splitlines()
            except UnicodeDecodeError:
                msg = f"--bricks {word}: not a text file of one brick name per line"
                raise LayoutError(msg) from None
            names |= {line.split("#")[0].strip() for line in lines} - {""}
        elif "/" in word or "." in word:
            msg = f"--bricks {word}: no such file"
            raise LayoutError(msg)
        else:
            names.add(word)
    if not names:
        msg = f"--bricks {' '.join(words)}: the list is empty"
        raise LayoutError(msg)
    return names
