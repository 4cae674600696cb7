"""Views of a stamp set: edited pixels, chosen examples, other labels, all made as they are read."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.trainingset.shards import Shard
from obiwan.dplearn.trainingset.stampset import Labels, Stamps, StampSet

Edit: TypeAlias = Callable[[Stamps], Stamps]
Key: TypeAlias = tuple[str, int]  # split and number of a shard


@dataclass(frozen=True)
class Choice:
    """What is kept of a shard, and under which labels.

    Attributes
    ----------
    rows : ndarray of int
        Rows of the shard, in order.
    label : ndarray of uint8
        Of these rows: 0 and 1, whatever they stand for.
    """

    rows: NDArray[np.int64]
    label: Labels


def _renamed(shard: Shard, name: str, **changes: Any) -> Shard:
    """A shard of a view: its checksums, which make the set's, stand for the original's and the edit."""
    x, y = (zlib.crc32(f"{crc32} {name}".encode()) for crc32 in (shard.x_crc32, shard.y_crc32))
    return replace(shard, x_crc32=x, y_crc32=y, **changes)


def with_edit(stamps: StampSet, name: str, edit: Edit) -> StampSet:
    """A view whose stamps pass through a function of the stamps alone: no label reaches it.

    Parameters
    ----------
    stamps : StampSet
    name : str
        Of the edit; it enters the view's checksum.
    edit : callable
        From stamps, which are its own to change, to stamps of the same shape.
    """
    originals = {shard.key: shard for shard in stamps.shards}

    def read_pixels(shard: Shard) -> tuple[Stamps, Labels]:
        x, y = stamps.read(originals[shard.key])
        return edit(x), y

    shards = tuple(_renamed(shard, name) for shard in stamps.shards)
    return replace(stamps, shards=shards, read_pixels=read_pixels)


def with_choice(
    stamps: StampSet,
    name: str,
    choice: Mapping[Key, Choice],
    change: Callable[[Key, Stamps], Stamps] | None = None,
) -> StampSet:
    """A view of chosen examples with labels of their own.

    Parameters
    ----------
    stamps : StampSet
    name : str
        Of the choice, labels and change; it enters the view's checksum.
    choice : mapping
        Of shards; one that is missing, or of which no row is chosen, is left out.
    change : callable, optional
        From a shard's key and its chosen stamps to changed ones.
    """
    originals = {shard.key: shard for shard in stamps.shards}
    kept = {key: one for key, one in choice.items() if key in originals and len(one.rows)}

    def read_pixels(shard: Shard) -> tuple[Stamps, Labels]:
        one = kept[shard.key]
        chosen = stamps.read(originals[shard.key])[0][one.rows]
        return (chosen if change is None else change(shard.key, chosen)), one.label.copy()

    @cache
    def read_rows(split: str) -> Array:
        rows = stamps.rows(split)
        parts = [rows[:0]]
        for shard in stamps.split(split):
            if (one := kept.get(shard.key)) is not None:
                part = rows[rows["shard"] == shard.number][one.rows]
                part["label"], part["row"] = one.label, np.arange(len(part))
                parts.append(part)
        return np.concatenate(parts)

    shards = []
    for shard in stamps.shards:
        if (one := kept.get(shard.key)) is not None:
            rows, ones = len(one.rows), int(np.count_nonzero(one.label))
            shards.append(_renamed(shard, name, rows=rows, fake=ones, real=rows - ones))
    return replace(stamps, shards=tuple(shards), read_pixels=read_pixels, read_rows=read_rows)
