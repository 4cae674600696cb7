"""Who goes where: hashes, fractions, shared sky, balance, groups of bricks."""

from __future__ import annotations

from decimal import Decimal
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obiwan.dplearn.errors import SelectionError
from obiwan.dplearn.planning.splits import balanced, hash_order, sky_cells, split_names
from obiwan.dplearn.running.streams import stream

deterministic = settings(derandomize=True, max_examples=50, deadline=None)
TRAIN, VAL, TEST = range(3)
NAMES = [f"{i:04d}p060" for i in range(0, 1000, 7)]


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


def area(ra: tuple[float, float], dec: tuple[float, float]) -> float:
    """Square degrees."""
    height = np.degrees(np.sin(np.radians(dec[1])) - np.sin(np.radians(dec[0])))
    return float((ra[1] - ra[0]) * height)


@pytest.mark.parametrize("size", [2.0, 3.3, 7.3])
def test_cells_are_of_the_size_asked_for_all_over_the_sky(size, rng):
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, 200_000)))
    ra = rng.uniform(0, 360, len(dec))
    inside = np.abs(dec) < 80  # close to a pole there are few columns
    cells, number = np.unique(sky_cells(ra, dec, size)[inside], return_counts=True)
    expected = area((0, 360), (-80, 80)) / size**2
    assert len(cells) == pytest.approx(expected, rel=0.1)
    assert number.max() / number.mean() < 2.5
    for name in cells[:: max(1, len(cells) // 20)]:
        mine = inside & (sky_cells(ra, dec, size) == name)
        assert np.ptp(dec[mine]) <= size * 1.1
        assert np.ptp(ra[mine]) * np.cos(np.radians(np.abs(dec[mine]).max())) <= size * 1.2


def test_a_cell_does_not_reach_over_right_ascension_0():
    west, east = sky_cells(np.array([359.99, 0.01]), np.array([10.0, 10.0]), 2.0)
    assert west != east
    assert sky_cells(np.array([360.01, -0.01]), np.array([10.0, 10.0]), 2.0).tolist() == [east, west]


def test_the_poles_are_in_cells():
    assert len(set(sky_cells(np.array([0.0, 10.0]), np.array([90.0, -90.0]), 2.0))) == 2
    assert len(set(sky_cells(np.linspace(0, 359, 50), np.full(50, 89.9), 90.0))) <= 4
