"""Random halves of a stamp set: labels drawn within brick and class, so that nothing tells them apart."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.stampspec import SPLITS, Array
from obiwan.dplearn.trainingset.stampset import Labels, StampSet
from obiwan.dplearn.trainingset.views import Choice, Key


def rows_by_shard(stamps: StampSet) -> dict[Key, Array]:
    """Rows of the example table for each shard, in the shard's order."""
    found: dict[Key, Array] = {}
    for split in SPLITS:
        shards, rows = stamps.split(split), stamps.rows(split)
        ends = np.cumsum([shard.rows for shard in shards])[:-1]
        for shard, part in zip(shards, np.split(rows, ends) if shards else [], strict=True):
            found[split, shard.number] = part
    return found


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


def choose(
    rows: Mapping[Key, Array], keep: Callable[[Array], NDArray[np.bool_]], seed: int
) -> dict[Key, Choice]:
    """Keep some examples by their rows, and draw a label for each (`halves`)."""
    kept = {key: np.flatnonzero(keep(part)) for key, part in rows.items()}
    if not kept:
        return {}
    label = halves(np.concatenate([rows[key][index] for key, index in kept.items()]), seed)
    ends = np.cumsum([len(index) for index in kept.values()])[:-1]
    return {
        key: Choice(index, part)
        for (key, index), part in zip(kept.items(), np.split(label, ends), strict=True)
    }
