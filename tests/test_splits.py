"""Who goes where: hashes, fractions, shared sky, balance, groups and shards."""

from __future__ import annotations

from decimal import Decimal
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obiwan.dplearn import splits
from obiwan.dplearn.errors import SelectionError
from obiwan.dplearn.splits import (
    balanced_rows,
    hash_order,
    overlapping,
    place,
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
def test_stamps_of_different_splits_that_overlap(dx, dy, shares, ra, dec):
    position = sky(dx, dy, ra, dec)
    assert overlapping(*position, np.array([TRAIN, TEST])).tolist() == [shares, False]
    assert overlapping(*position, np.array([TEST, VAL])).tolist() == [False, shares]
    assert overlapping(*position, np.array([TRAIN, VAL])).tolist() == [shares, False]
    assert not overlapping(*position, np.array([VAL, VAL])).any()


def test_a_dropped_validation_example_costs_no_training_example():
    # test - val - train in a row, 50 px apart: val goes for test, and then train may stay.
    ra, dec = np.zeros(3), np.arange(3) * 50 * PIX
    assert overlapping(ra, dec, np.array([TEST, VAL, TRAIN])).tolist() == [False, True, False]


@deterministic
@given(st.integers(0, 2**31), st.integers(2, 60))
def test_what_is_left_shares_no_sky(seed, n):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 600, (2, n))
    split = rng.integers(0, 3, n)
    keep = ~overlapping((0.02 - x * PIX) % 360, y * PIX, split)
    for i in np.flatnonzero(keep):
        for j in np.flatnonzero(keep & (split != split[i])):
            assert max(abs(x[i] - x[j]), abs(y[i] - y[j])) >= 64 - 1e-3
    assert keep[split == TEST].all()


def test_balance_within_units():
    label = np.array([0] * 5 + [1] * 2 + [0] * 1 + [1] * 4 + [0] * 3)
    unit = np.array([0] * 7 + [1] * 5 + [2] * 3)
    keep = balanced_rows(label, unit, {u: stream(1, str(u)) for u in range(3)})
    for u, n in ((0, 2), (1, 1), (2, 0)):  # unit 2 has one class only
        assert [np.count_nonzero(keep & (unit == u) & (label == c)) for c in (0, 1)] == [n, n]
    again = balanced_rows(label, unit, {u: stream(1, str(u)) for u in range(3)})
    assert keep.tolist() == again.tolist()
    draws = {tuple(balanced_rows(label, unit, {u: stream(s, str(u)) for u in range(3)})) for s in range(9)}
    assert len(draws) > 1
    assert balanced_rows(label[:0], unit[:0], {}).shape == (0,)


def test_balance_draws_evenly():
    label, unit = np.array([0] * 4 + [1]), np.zeros(5, int)
    kept = sum(balanced_rows(label, unit, {0: stream(seed, "x")}).astype(int) for seed in range(400))
    assert kept[4] == 400
    np.testing.assert_allclose(kept[:4] / 400, 0.25, atol=4 * np.sqrt(0.25 * 0.75 / 400))


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(splits, "GROUP_ROWS", 100)


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("shard_size", [7, 16, 100])
def test_groups_hold_whole_bricks_and_shards_have_no_gaps(shard_size, rng):
    sizes = rng.integers(1, 45, 30)
    sizes[4] = 230  # a brick larger than a group is a group of its own
    brick = np.repeat(NAMES[:30], sizes)
    split = np.repeat(rng.permutation([TRAIN] * 20 + [VAL] * 4 + [TEST] * 6), sizes)
    scrambled = rng.permutation(len(brick))
    brick, split = brick[scrambled], split[scrambled]
    placed = place(brick, split, 1, shard_size)
    for value in range(3):
        mine = split == value
        numbers = np.unique(placed.shard[mine])
        assert numbers.tolist() == list(range(1, len(numbers) + 1))
        for group in np.unique(placed.group[mine]):
            members = placed.group == group
            assert (split[members] == value).all()
            bricks = set(brick[members])
            assert not bricks & set(brick[~members])  # whole bricks
            assert np.count_nonzero(members) <= 100 or len(bricks) == 1
            shards, rows = np.unique(placed.shard[members], return_counts=True)
            assert shards.tolist() == list(range(shards[0], shards[-1] + 1))
            assert (rows[:-1] == shard_size).all()  # only a group's last shard is short
            assert 0 < rows[-1] <= shard_size
            for shard in shards:
                inside = np.sort(placed.row[members & (placed.shard == shard)])
                assert inside.tolist() == list(range(len(inside)))
    assert sorted(set(placed.group)) == list(range(placed.group.max() + 1))


@pytest.mark.usefixtures("small_groups")
def test_bricks_and_classes_are_mixed_within_a_group():
    brick, split = np.repeat(NAMES[:2], 50), np.zeros(100, int)
    placed = place(brick, split, 1, 10)
    assert len(np.unique(placed.group)) == 1
    first = brick[placed.shard == 1]
    assert len(set(first)) == 2


def test_placement_does_not_depend_on_the_order_of_the_bricks(rng):
    brick = np.repeat(NAMES[:6], 20)
    split = np.repeat([0, 0, 0, 1, 2, 0], 20)
    order = np.argsort(rng.permutation(6)[np.arange(120) // 20], kind="stable")
    one, two = place(brick, split, 5, 8), place(brick[order], split[order], 5, 8)
    for name in ("group", "shard", "row"):
        np.testing.assert_array_equal(getattr(one, name)[order], getattr(two, name))
    other = place(brick, split, 6, 8)
    assert (other.row != one.row).any()
