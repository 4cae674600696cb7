"""Bricks to train, validation and test; stamps that share sky; class balance; groups of bricks.  Pure.

Every random choice comes from a stream named by (seed, purpose, ...), so that the result does not
depend on the number of workers or the order in which they finish.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from obiwan.dplearn.errors import SelectionError
from obiwan.dplearn.shards import LABELS, PIXEL_SCALE, STAMP

Array = NDArray[Any]
GROUP_ROWS = 8192  #: most examples in a group of bricks that share their shards
#: Width within which two stamps may share sky, degrees: the pixel grids of two bricks are shifted and turned
#: against each other, so one pixel more on each side than a stamp has.
WIDTH = (STAMP + 2) * PIXEL_SCALE / 3600
#: Two stamps whose centres are farther apart than this share no sky: a distance of unit vectors.
REACH = float(np.radians(WIDTH * np.sqrt(2)) * 1.01)

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


def unit_vectors(ra: Array, dec: Array) -> Array:
    """Unit vectors, shape (n, 3), of positions in degrees."""
    lon, lat = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def sharing_sky(ra: Array, dec: Array, other_ra: Array, other_dec: Array) -> Array:
    """Whether an example's stamp overlaps on the sky that of any of the others.

    Parameters
    ----------
    ra, dec : ndarray, shape (n,)
        Degrees.
    other_ra, other_dec : ndarray, shape (m,)

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    shared = np.zeros(len(ra), dtype=bool)
    if not len(ra) or not len(other_ra):
        return shared
    near = cKDTree(unit_vectors(other_ra, other_dec)).query_ball_point(unit_vectors(ra, dec), REACH)
    for i, members in enumerate(near):
        if members:
            d_ra = (other_ra[members] - ra[i] + 180) % 360 - 180
            apart = np.maximum(np.abs(d_ra) * np.cos(np.radians(dec[i])), np.abs(other_dec[members] - dec[i]))
            shared[i] = (apart < WIDTH).any()
    return shared


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
    classes = [np.flatnonzero(label == value) for value in LABELS.values()]
    n = min(len(members) for members in classes)
    for members in classes:
        keep[rng.permutation(members)[:n]] = True
    return keep


def grouped(sizes: Mapping[str, int], rng: np.random.Generator) -> list[list[str]]:
    """Shuffle bricks and cut them into groups of at most `GROUP_ROWS` examples, or of one brick.

    Parameters
    ----------
    sizes : mapping
        Number of examples of each brick.
    rng : Generator

    Returns
    -------
    list of list of str
    """
    groups: list[list[str]] = []
    filled = GROUP_ROWS
    for name in rng.permutation(sorted(sizes)):
        if filled + sizes[name] > GROUP_ROWS:
            groups.append([])
            filled = 0
        groups[-1].append(str(name))
        filled += sizes[name]
    return groups
