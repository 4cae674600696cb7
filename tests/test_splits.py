"""Who goes where: hashes, fractions, shared sky, balance, groups of bricks."""

from __future__ import annotations

import itertools
from decimal import Decimal
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obiwan.dplearn import splits
from obiwan.dplearn.errors import SelectionError
from obiwan.dplearn.splits import (
    balanced,
    grouped,
    hash_order,
    sharing_sky,
    split_names,
    stream,
)

deterministic = settings(derandomize=True, max_examples=50, deadline=None)
TRAIN, VAL, TEST = range(3)
NAMES = [f"{i:04d}p060" for i in range(0, 1000, 7)]
PIX = 0.262 / 3600


def test_streams_are_named():
    draws = {
        words: tuple(stream(seed, *rest).integers(0, 2**60, 3))
        for words in [(1, "a"), (1, "b"), (2, "a"), (1, "a", "b"), (1, "ab")]
        for seed, *rest in [words]
    }
    assert len(set(draws.values())) == len(draws)
    assert tuple(stream(1, "a").integers(0, 2**60, 3)) == draws[1, "a"]


@deterministic
@given(st.integers(3, 140), st.floats(0.05, 0.5), st.floats(0.05, 0.4), st.integers(0, 1000))
def test_fractions_are_rounded_up(n, test, val, seed):
    tests = ceil(Decimal(repr(test)) * n)
    vals = ceil(Decimal(repr(val)) * (n - tests))
    if n - tests - vals < 1:
        with pytest.raises(SelectionError, match="too few to split"):
            split_names(NAMES[:n], seed, test, val)
        return
    split = split_names(NAMES[:n], seed, test, val)
    assert np.bincount(split, minlength=3).tolist() == [n - tests - vals, vals, tests]


@pytest.mark.parametrize(
    ("n", "test", "val", "expected"),
    [(30, 0.1, 0.1, (24, 3, 3)), (100, 0.07, 0.1, (83, 10, 7)), (31, 0.1, 0.5, (13, 14, 4))],
)
def test_a_tenth_of_thirty_is_three(n, test, val, expected):
    assert tuple(np.bincount(split_names(NAMES[:n], 1, test, val))) == expected


def test_the_split_of_a_brick_follows_its_hash_not_its_position():
    forward = dict(zip(NAMES, split_names(NAMES, 1, 0.2, 0.1), strict=True))
    backward = dict(zip(NAMES[::-1], split_names(NAMES[::-1], 1, 0.2, 0.1), strict=True))
    assert forward == backward
    assert forward != dict(zip(NAMES, split_names(NAMES, 2, 0.2, 0.1), strict=True))
    order = [NAMES[i] for i in hash_order(NAMES, 1)]
    assert sorted(order) == sorted(NAMES) != order
    assert all(forward[name] == TEST for name in order[: ceil(0.2 * len(NAMES))])


def test_one_brick_more_moves_few_others():
    # The order is that of a hash of each name, so it does not depend on who else is there.
    order = [NAMES[i] for i in hash_order(NAMES, 1)]
    fewer = [NAMES[:-1][i] for i in hash_order(NAMES[:-1], 1)]
    assert [name for name in order if name != NAMES[-1]] == fewer


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_names(n):
    with pytest.raises(SelectionError, match=r"too few to split.*--split object"):
        split_names(NAMES[:n], 1, 0.2, 0.1)


def sky(dx: float, dy: float, ra: float = 0.0, dec: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two positions this many pixels apart."""
    return (
        np.array([ra, ra + dx * PIX / np.cos(np.radians(dec))]) % 360,
        np.array([dec, dec + dy * PIX]),
    )


@pytest.mark.parametrize(
    ("dx", "dy", "shares"),
    [(63, 0, True), (67, 0, False), (0, 63, True), (0, 67, False), (63, 63, True), (63, 67, False)],
)
@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.999, 30.0), (180.0, 60.0)])
def test_stamps_that_overlap(dx, dy, shares, ra, dec):
    (ra1, ra2), (dec1, dec2) = sky(dx, dy, ra, dec)
    far = np.array([(ra + 90) % 360]), np.array([dec])
    one, other = (np.array([ra1]), np.array([dec1])), (np.array([ra2]), np.array([dec2]))
    assert sharing_sky(*one, *other).tolist() == sharing_sky(*other, *one).tolist() == [shares]
    both = (np.r_[o, f] for o, f in zip(other, far, strict=True))
    assert sharing_sky(*one, *both).tolist() == [shares]
    assert sharing_sky(*far, *one).tolist() == [False]
    assert sharing_sky(*one, np.empty(0), np.empty(0)).tolist() == [False]


def test_balance():
    label = np.array([0] * 5 + [1] * 2)
    keep = balanced(label, stream(1, "a"))
    assert [np.count_nonzero(keep & (label == c)) for c in (0, 1)] == [2, 2]
    assert keep.tolist() == balanced(label, stream(1, "a")).tolist()
    assert len({tuple(balanced(label, stream(seed, "a"))) for seed in range(9)}) > 1
    assert not balanced(label[:5], stream(1, "a")).any()  # one class only
    assert balanced(label[:0], stream(1, "a")).shape == (0,)


def test_balance_draws_evenly():
    label = np.array([0] * 4 + [1])
    kept = sum(balanced(label, stream(seed, "x")).astype(int) for seed in range(400))
    assert kept[4] == 400
    np.testing.assert_allclose(kept[:4] / 400, 0.25, atol=4 * np.sqrt(0.25 * 0.75 / 400))


def test_groups_of_bricks(monkeypatch, rng):
    monkeypatch.setattr(splits, "GROUP_ROWS", 100)
    sizes = dict(zip(NAMES[:30], rng.integers(1, 45, 30).tolist(), strict=True))
    sizes[NAMES[4]] = 230  # a brick larger than a group is a group of its own
    groups = grouped(sizes, stream(1, "a"))
    assert sorted(name for group in groups for name in group) == sorted(sizes)
    for group in groups:
        assert sum(sizes[name] for name in group) <= 100 or group == [NAMES[4]]
    for group, following in itertools.pairwise(groups):
        assert sum(sizes[name] for name in [*group, following[0]]) > 100  # no group is shorter than need be
    backward = dict(reversed(sizes.items()))
    assert grouped(backward, stream(1, "a")) == groups != grouped(sizes, stream(2, "a"))
    assert grouped({}, stream(1, "a")) == []
