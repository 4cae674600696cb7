"""Views of a stamp set: edited pixels, chosen examples, other labels, all made as they are read."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from obiwan.dplearn.stampspec import SPLITS, Array
from obiwan.dplearn.trainingset.shards import Shard
from obiwan.dplearn.trainingset.stampset import Labels, Stamps, StampSet

Edit: TypeAlias = Callable[[Stamps], Stamps]
Read: TypeAlias = Callable[[Shard], tuple[Stamps, Labels]]
Key: TypeAlias = tuple[str, int]  # split and number of a shard


def by_shard(rows: Array) -> dict[Key, slice]:
    """Positions of the examples of each shard in a table sorted by split and shard."""
    change = (rows["split"][1:] != rows["split"][:-1]) | (rows["shard"][1:] != rows["shard"][:-1])
    starts = [0, *(np.flatnonzero(change) + 1).tolist()] if len(rows) else []
    first = rows[starts]
    keys = zip(np.char.decode(first["split"]).tolist(), first["shard"].tolist(), strict=True)
    return {key: slice(*ends) for key, ends in zip(keys, pairwise([*starts, len(rows)]), strict=True)}


def _renamed(shard: Shard, name: str, **changes: Any) -> Shard:
    """A shard of a view: its checksums, which make the set's, stand for the original's and the edit."""
    x, y = (zlib.crc32(f"{crc32} {name}".encode()) for crc32 in (shard.x_crc32, shard.y_crc32))
    return replace(shard, x_crc32=x, y_crc32=y, **changes)


# What reads a shard of a view is sent to workers, which a function inside a function cannot be.
def _read_edited(
    shard: Shard, read: Read, originals: Mapping[Key, Shard], edit: Edit
) -> tuple[Stamps, Labels]:
    """Stamps and labels of a shard of `with_edit`."""
    x, y = read(originals[shard.key])
    return edit(x), y


def _read_chosen(
    shard: Shard,
    read: Read,
    originals: Mapping[Key, Shard],
    chosen: Mapping[Key, tuple[Array, Labels]],
    change: Callable[[Key, Stamps], Stamps] | None,
) -> tuple[Stamps, Labels]:
    """Stamps and labels of a shard of `with_choice`."""
    rows, label = chosen[shard.key]
    stamps = read(originals[shard.key])[0][rows]
    return (stamps if change is None else change(shard.key, stamps)), label.copy()


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
    read = partial(_read_edited, read=stamps.read, originals=originals, edit=edit)
    shards = tuple(_renamed(shard, name) for shard in stamps.shards)
    return replace(stamps, shards=shards, read=read)


def with_choice(
    stamps: StampSet,
    name: str,
    rows: Array,
    label: Labels,
    change: Callable[[Key, Stamps], Stamps] | None = None,
) -> StampSet:
    """A view of chosen examples with labels of their own.

    Parameters
    ----------
    stamps : StampSet
    name : str
        Of the choice, labels and change; it enters the view's checksum.
    rows : ndarray of `example_dtype`, shape (n,)
        Some of `StampSet.examples`, sorted by split and shard; a shard of which none is chosen is left out.
    label : ndarray of uint8, shape (n,)
        Of these: 0 and 1, whatever they stand for.
    change : callable, optional
        From a shard's key and its chosen stamps to changed ones.
    """
    originals, place = {shard.key: shard for shard in stamps.shards}, by_shard(rows)

    chosen = {key: (rows["row"][part].copy(), label[part].copy()) for key, part in place.items()}
    read = partial(_read_chosen, read=stamps.read, originals=originals, chosen=chosen, change=change)

    @cache
    def read_rows(split: str) -> Array:
        mine = rows["split"] == split.encode()
        out: Array = rows[mine]
        out["label"] = label[mine]
        for part in by_shard(out).values():
            out["row"][part] = np.arange(part.stop - part.start)
        return out

    shards = []
    for shard in stamps.shards:
        if (part := place.get(shard.key)) is not None:
            number, ones = part.stop - part.start, int(np.count_nonzero(label[part]))
            shards.append(_renamed(shard, name, rows=number, fake=ones, real=number - ones))
    return replace(stamps, shards=tuple(shards), read=read, read_rows=read_rows, read_pieces=None)


def sampled(stamps: StampSet, split: str, most: int, seed: int) -> tuple[StampSet, Array]:
    """Some whole shards of a split, drawn at random, so that no more files are read than are needed.

    Parameters
    ----------
    stamps : StampSet
    split : str
    most : int
        Examples, at most; one shard is taken however many it holds.
    seed : int
        Of the draw.

    Returns
    -------
    StampSet
        The set with these shards of the split and without other splits.
    ndarray of int
        Positions of their examples in `StampSet.rows` of the whole set.
    """
    shards = stamps.split(split)
    rows = np.array([shard.rows for shard in shards])
    order = np.random.default_rng([seed, SPLITS.index(split)]).permutation(len(shards))
    drawn = order[: max(1, int(np.count_nonzero(np.cumsum(rows[order]) <= most)))]
    chosen = np.sort(drawn) if rows.sum() > most else np.arange(len(shards))
    ends = np.cumsum([0, *rows])
    positions = np.concatenate([np.arange(ends[i], ends[i + 1]) for i in chosen] or [np.arange(0)])
    return stamps.only(shards[i] for i in chosen), positions


def halves(rows: Array, seed: int) -> Labels:
    """Draw one of two labels for each example: half of every (split, brick, class) gets each.

    Parameters
    ----------
    rows : ndarray of `example_dtype`, shape (n,)
    seed : int
        Of the draw, which depends on which examples there are and not on their order or their shards.

    Returns
    -------
    ndarray of uint8, shape (n,)
        0 or 1; where a group is odd, a coin decides who gets the one more.
    """
    out = np.zeros(len(rows), np.uint8)
    names = ("split", "brick", "label", "root", "run", "id", "ra", "dec")
    order = np.lexsort(tuple(rows[name] for name in reversed(names)))
    ordered = rows[order]
    same = np.ones(len(rows) - 1 if len(rows) else 0, bool)
    for name in ("split", "brick", "label"):
        same &= ordered[name][1:] == ordered[name][:-1]
    for group in np.split(order, np.flatnonzero(~same) + 1) if len(rows) else []:
        first = rows[group[0]]
        text = f"{first['split'].decode().strip()} {first['brick'].decode().strip()} {first['label']}"
        rng = np.random.default_rng([seed, zlib.crc32(text.encode())])
        ones = (len(group) + int(rng.integers(2))) // 2
        out[rng.permutation(group)[:ones]] = 1
    return out
