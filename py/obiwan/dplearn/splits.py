"""Bricks to train, validation and test; class balance; groups of bricks; rows of shards.  Pure.

Every random choice comes from a stream named by (seed, purpose, ...), so that the result does not
depend on the number of workers or the order in which they finish.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from obiwan.dplearn.errors import SelectionError
from obiwan.dplearn.shards import LABELS, PIXEL_SCALE, SPLITS, STAMP

Array = NDArray[Any]
GROUP_ROWS = 8192  #: most examples in a group of bricks that share their shards

_AT_A_TIME = 100_000  # rows whose neighbours are looked up together

TRAIN, VAL, TEST = range(3)  # positions in SPLITS


def stream(seed: int, *purpose: str) -> np.random.Generator:
    """Return the random generator of one purpose, for example ``stream(seed, "balance", brick)``."""
    return np.random.default_rng(np.random.SeedSequence([seed, _hash(*purpose)]))


def _hash(*words: str) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(words).encode()).digest()[:8], "little")


def hash_order(names: Sequence[str], seed: int) -> list[int]:
    """Return positions of the names in the order of a seeded hash of each name."""
    return sorted(range(len(names)), key=lambda i: (_hash(str(seed), names[i]), names[i]))


def _part(fraction: float, n: int) -> int:
    """Return the ceiling of a fraction of n, the fraction as written in decimals: 0.1 of 30 is 3, not 4."""
    return ceil(Fraction(repr(float(fraction))) * n)


def split_names(names: Sequence[str], seed: int, test_fraction: float, val_fraction: float) -> Array:
    """Assign names (bricks, or examples) to splits.

    In the order of a seeded hash, the first ``ceil(test_fraction * n)`` are test, the next
    ``ceil(val_fraction * rest)`` validation, what remains is for training.

    Returns
    -------
    ndarray of int, shape (n,)
        Positions in `SPLITS`.

    Raises
    ------
    SelectionError
        If a split would be empty.
    """
    n = len(names)
    tests = _part(test_fraction, n)
    vals = _part(val_fraction, n - tests)
    if min(tests, vals, n - tests - vals) < 1:
        bricks = "1 brick is" if n == 1 else f"{n} bricks are"
        msg = (
            f"{bricks} too few to split into train, val and test by brick; give more bricks, or use "
            "--split object for trees of one brick"
        )
        raise SelectionError(msg)
    split = np.full(n, TRAIN, dtype=np.int8)
    order = hash_order(names, seed)
    split[order[:tests]] = TEST
    split[order[tests : tests + vals]] = VAL
    return split


def overlapping(ra: Array, dec: Array, split: Array) -> Array:
    """Whether an example's stamp overlaps on the sky that of an example in a later split.

    Training gives way to validation and test, validation to test, so that after dropping the
    marked examples no two stamps of different splits share sky.

    Parameters
    ----------
    ra, dec : ndarray, shape (n,)
        Degrees.
    split : ndarray of int, shape (n,)

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    marked = np.zeros(len(ra), dtype=bool)
    # Two bricks' pixel grids are shifted and turned against each other: one pixel more on each side.
    width = (STAMP + 2) * PIXEL_SCALE / 3600  # degrees
    lon, lat = np.radians(ra), np.radians(dec)
    vectors = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    reach = np.radians(width * np.sqrt(2)) * 1.01
    for earlier, later in (((TRAIN, VAL), TEST), ((TRAIN,), VAL)):
        keepers = np.flatnonzero((split == later) & ~marked)
        rows = np.flatnonzero(np.isin(split, earlier))
        if not len(keepers) or not len(rows):
            continue
        tree = cKDTree(vectors[keepers])
        for part in np.array_split(rows, len(rows) // _AT_A_TIME + 1):  # a list of neighbours a row is dear
            for row, near in zip(part, tree.query_ball_point(vectors[part], reach), strict=True):
                if near:
                    j = keepers[near]
                    d_ra = (ra[j] - ra[row] + 180) % 360 - 180
                    apart = np.maximum(np.abs(d_ra) * np.cos(lat[row]), np.abs(dec[j] - dec[row]))
                    marked[row] |= bool((apart < width).any())
    return marked


def balanced_rows(label: Array, unit: Array, rng: dict[int, np.random.Generator]) -> Array:
    """Choose equally many real and fake rows within each unit (brick, or split).

    Parameters
    ----------
    label : ndarray, shape (n,)
        0 real, 1 fake.
    unit : ndarray of int, shape (n,)
        What to balance within.
    rng : dict
        A generator for each unit.

    Returns
    -------
    ndarray of bool, shape (n,)
        Rows kept; none of a unit that has one class only.
    """
    keep = np.zeros(len(label), dtype=bool)
    order = np.argsort(unit, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(unit[order]) != 0]) if len(order) else np.empty(0, int)
    for rows in np.split(order, starts[1:]):
        if not len(rows):
            continue
        classes = [rows[label[rows] == value] for value in LABELS.values()]
        n = min(len(members) for members in classes)
        for members in classes:
            keep[rng[int(unit[rows[0]])].permutation(members)[:n]] = True
    return keep


@dataclass(frozen=True)
class Placement:
    """Where every example goes.

    Attributes
    ----------
    group : ndarray of int32, shape (n,)
        Number of the extraction task, from 0; tasks own whole shards.
    shard, row : ndarray of int32, shape (n,)
        Shard number within the split, from 1, and row within the shard, from 0.
    """

    group: Array
    shard: Array
    row: Array


def place(brick: Array, split: Array, seed: int, shard_size: int) -> Placement:
    """Give every example its shard and row.

    Within a split the bricks are shuffled and cut into groups of whole bricks of at most
    `GROUP_ROWS` examples (or one brick); a group's examples are shuffled over its own shards, of
    which the last may be short.

    Parameters
    ----------
    brick : ndarray of str, shape (n,)
    split : ndarray of int, shape (n,)
    seed, shard_size : int
    """
    n = len(brick)
    group, shard, row = (np.zeros(n, dtype=np.int32) for _ in range(3))
    number = 0
    for value, name in enumerate(SPLITS):
        rows = np.flatnonzero(split == value)
        rows = rows[np.argsort(brick[rows], kind="stable")]
        names, starts = np.unique(brick[rows].astype("S"), return_index=True)
        members = (
            dict(zip(np.char.decode(names, "ascii").tolist(), np.split(rows, starts[1:]), strict=True))
            if len(rows)
            else {}
        )
        first_shard = 1
        for bricks in _groups(members, stream(seed, "group", name)):
            together = np.concatenate([members[b] for b in bricks])
            together = stream(seed, "shuffle", name, *sorted(bricks)).permutation(together)
            position = np.arange(len(together))
            group[together] = number
            shard[together] = first_shard + position // shard_size
            row[together] = position % shard_size
            number += 1
            first_shard += ceil(len(together) / shard_size)
    return Placement(group, shard, row)


def _groups(members: dict[str, Array], rng: np.random.Generator) -> list[list[str]]:
    groups: list[list[str]] = []
    filled = GROUP_ROWS
    for name in rng.permutation(sorted(members)):
        if filled + len(members[name]) > GROUP_ROWS:
            groups.append([])
            filled = 0
        groups[-1].append(str(name))
        filled += len(members[name])
    return groups
