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


def sky_cells(ra: Array, dec: Array, size: float) -> Array:
    """Names of the cells of the sky that positions are in.

    Rows of equal height in declination, as many as are nearest to `size`, are divided into cells of equal
    width in right ascension, as many as make them nearly square in their middle.

    Parameters
    ----------
    ra, dec : ndarray, shape (n,)
        Degrees.
    size : float
        Degrees on a side.

    Returns
    -------
    ndarray of str, shape (n,)
        Row from the south and column from RA 0, such as ``45-0``.

    Examples
    --------
    >>> sky_cells(np.array([0.5, 359.5, 0.5]), np.array([0.5, 0.5, 89.9]), 2.0).tolist()
    ['45-0', '45-179', '89-0']
    """
    rows = max(1, round(180 / size))
    row = np.clip(np.floor((np.asarray(dec) + 90) / 180 * rows), 0, rows - 1).astype(int)
    middle = np.radians((row + 0.5) * 180 / rows - 90)
    columns = np.maximum(1, np.rint(360 * np.cos(middle) / size)).astype(int)
    column = np.floor(np.asarray(ra) % 360 / 360 * columns).astype(int) % columns
    return np.char.add(np.char.add(row.astype(str), "-"), column.astype(str))


def split_names(
    names: Sequence[str], seed: int, test_fraction: float, val_fraction: float, what: str = "brick"
) -> Array:
    """Assign names (bricks, cells, or examples) to splits.

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
        several = f"1 {what} is" if n == 1 else f"{n} {what}s are"
        remedy = "a smaller --cell-size" if what == "cell" else "--split object for trees of one brick"
        msg = (
            f"{several} too few to split into train, val and test by {what}; give more bricks, "
            f"or use {remedy}"
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
