"""Views of a stamp set: edited pixels, chosen examples, other labels, all made as they are read."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise, product
from typing import Any, TypeAlias

import numpy as np

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.running.streams import hashed
from obiwan.dplearn.stampspec import SPLITS, Array
from obiwan.dplearn.trainingset.clusters import factorised
from obiwan.dplearn.trainingset.shards import Shard
from obiwan.dplearn.trainingset.stampset import Labels, Stamps, StampSet

Edit: TypeAlias = Callable[[Stamps], Stamps]
Read: TypeAlias = Callable[[Shard], tuple[Stamps, Labels]]
Key: TypeAlias = tuple[str, int]  # split and number of a shard
_IN_MEMORY: dict[str, Any] = {"read_pieces": None, "read_part": None}  # of views whose rows are held

FOLDED = ("train", "val")  #: splits that folds are made of


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
    return replace(stamps, shards=tuple(shards), read=read, read_rows=read_rows, **_IN_MEMORY)


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


def brick_folds(stamps: StampSet, count: int, seed: int) -> tuple[StampSet, ...]:
    """Folds for cross-validation: views without a test split, each with other bricks in validation.

    The bricks of the splits `FOLDED` are dealt out in the order of a seeded hash, whole ones, or whole cells
    of the sky where the set is split by these.  A fold is the validation split of its view, and all other
    folds are the training split.

    Parameters
    ----------
    stamps : StampSet
    count : int
        Folds.
    seed : int
        Of the hash.

    Raises
    ------
    TrainingSetError
        If there are fewer bricks than folds, or the example table is not that of the set.
    """
    tables, cells = {split: stamps.rows(split) for split in FOLDED}, stamps.manifest.get("cells") or {}
    names, numbers = factorised(np.concatenate([rows["brick"] for rows in tables.values()]))
    units = [cells.get(name, name) for name in map(str.strip, names.tolist())]
    order = sorted(set(units), key=lambda unit: hashed(str(seed), "fold", unit))
    if len(order) < count:
        what = "cells of the sky" if cells else "bricks"
        msg = (
            f"{stamps.directory}: its training and validation splits have {len(order)} {what}, too few for "
            f"{count} folds; use fewer --folds"
        )
        raise TrainingSetError(msg)
    dealt = {unit: position % count for position, unit in enumerate(order)}
    fold = np.array([dealt[unit] for unit in units])[numbers]
    first = len(tables[FOLDED[0]])
    return tuple(
        _fold(stamps, tables, dict(zip(FOLDED, np.split(fold == one, [first]), strict=True)), f"{one} {seed}")
        for one in range(count)
    )


def _fold(
    stamps: StampSet, tables: Mapping[str, Array], validation: Mapping[str, Array], name: str
) -> StampSet:
    """A view: the marked examples of the splits `FOLDED` are for validation, the others for training."""
    shards: list[Shard] = []
    originals: dict[Key, Shard] = {}
    chosen: dict[Key, tuple[Array, Labels]] = {}
    parts, numbers = stamps.parts(), Counter[str]()
    for split, shard in product(FOLDED, stamps.shards):
        if shard.split not in FOLDED:
            continue
        marked = validation[shard.split][parts[shard.key]]
        rows = np.flatnonzero(marked if split == "val" else ~marked)
        if not len(rows):
            continue
        label = tables[shard.split]["label"][parts[shard.key]][rows].astype(np.uint8)
        numbers[split] += 1
        number, fake = numbers[split], int(np.count_nonzero(label))
        changes = {"rows": len(rows), "fake": fake, "real": len(rows) - fake}
        shards.append(_renamed(shard, f"fold {name}", split=split, number=number, **changes))
        originals[split, number], chosen[split, number] = shard, (rows, label)

    @cache
    def read_rows(split: str) -> Array:
        found = [tables[FOLDED[0]][:0]]
        for shard in (one for one in shards if one.split == split):
            original, (rows, _) = originals[shard.key], chosen[shard.key]
            out = tables[original.split][parts[original.key]][rows]
            out["split"], out["shard"], out["row"] = split.encode(), shard.number, np.arange(len(rows))
            found.append(out)
        return np.concatenate(found)

    read = partial(_read_chosen, read=stamps.read, originals=originals, chosen=chosen, change=None)
    return replace(stamps, shards=tuple(shards), read=read, read_rows=read_rows, **_IN_MEMORY)


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
