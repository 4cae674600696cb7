"""Seeded random choices: splits of bricks or examples, class balance.

A choice depends on the seed and its purpose alone, not on who makes it or when.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil

import numpy as np

from obiwan.dplearn.errors import SelectionError
from obiwan.dplearn.running.streams import hashed
from obiwan.dplearn.stampspec import Array

TRAIN, VAL, TEST = range(3)  # positions in SPLITS


def hash_order(names: Sequence[str], seed: int) -> list[int]:
    """Return positions of the names in the order of a seeded hash of each name."""
    return sorted(range(len(names)), key=lambda i: (hashed(str(seed), names[i]), names[i]))


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


def balanced(label: Array, rng: np.random.Generator) -> Array:
    """Choose equally many real and fake examples.

    Parameters
    ----------
    label : ndarray, shape (n,)
        0 real, 1 fake.
    rng : Generator

    Returns
    -------
    ndarray of bool, shape (n,)
        Examples kept; none where one class is missing.
    """
    keep = np.zeros(len(label), dtype=bool)
    classes = [np.flatnonzero(label == value) for value in (0, 1)]
    n = min(len(members) for members in classes)
    for members in classes:
        keep[rng.permutation(members)[:n]] = True
    return keep
