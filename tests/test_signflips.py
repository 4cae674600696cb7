"""Sign flips of whole bricks: false alarms of many differences at once, and what few bricks can show."""

from __future__ import annotations

import numpy as np
import pytest

from obiwan.dplearn.twosample.signflips import (
    LEAST_FLIPPED,
    MOST_GROUPS,
    family_test,
    flip_units,
)

SETS = 400


def contributions(rng: np.random.Generator, bricks: int, *, oddness: float, numbers: int = 40) -> np.ndarray:
    """What bricks add to correlated differences; in odd bricks the classes differ, and on average do not."""
    size = rng.integers(10, 60, bricks)
    mixing = rng.normal(size=(8, numbers))
    noise = rng.normal(size=(bricks, 8)) @ mixing / np.sqrt(size)[:, None]
    odd = oddness * rng.normal(size=(bricks, 8)) @ mixing
    return size[:, None] * (noise + odd) / size.sum()


@pytest.mark.parametrize("oddness", [0.0, 0.2])
@pytest.mark.parametrize("bricks", [8, 12, 30])
def test_false_alarms_of_a_family_keep_the_level(bricks: int, oddness: float, rng: np.random.Generator):
    for level in (0.05, 0.2):
        alarms = np.mean(
            [
                family_test(contributions(rng, bricks, oddness=oddness), seed).p.min() <= level
                for seed in range(SETS)
            ]
        )
        error = np.sqrt(level * (1 - level) / SETS)
        assert 0.4 * level < alarms < level + 3 * error


def test_differences_are_found_and_the_others_are_not(rng: np.random.Generator):
    given = contributions(rng, 25, oddness=0.1)
    given[:, 3] += 0.02
    found = family_test(given)
    assert found.p[3] < 0.005
    assert found.statistic[3] > 3.5
    assert (np.delete(found.p, 3) > 0.05).all()


def test_correlated_numbers_cost_nothing(rng: np.random.Generator):
    """A number and its copies are one test, which they are not for a correction by their count."""
    one = rng.normal(0.5, 1, (40, 1))
    alone, copied = family_test(one), family_test(np.repeat(one, 50, axis=1))
    assert copied.p == pytest.approx(np.repeat(alone.p, 50))


def test_what_is_clear_costs_the_others_nothing(rng: np.random.Generator):
    """Step-down: after a difference that is significant, the others are tested as if it were not there."""
    given = rng.normal(size=(40, 6)) + 0.2
    clear = given[:, :1] + 3
    found, others = family_test(np.hstack([clear, given])), family_test(given)
    assert found.p[0] < 0.001
    assert found.p[1:] == pytest.approx(others.p)
    assert len(np.unique(others.p)) > 3


def test_the_less_clear_is_never_more_significant(rng: np.random.Generator):
    for seed in range(50):
        found = family_test(contributions(rng, 15, oddness=0.0), seed)
        assert (np.diff(found.p[np.argsort(-np.abs(found.statistic))]) >= 0).all()


def test_few_bricks_reach_no_small_level():
    for bricks in (2, 5, 8, 11):
        found = family_test(np.ones((bricks, 1)))
        assert found.p[0] == 2.0 ** (1 - bricks)
        assert found.critical_t(0.9 * 2.0 ** (1 - bricks)) == np.inf
    assert family_test(np.ones((LEAST_FLIPPED, 1))).p[0] < 0.008


def test_the_critical_t_is_that_of_what_is_significant(rng: np.random.Generator):
    """The clearest difference is significant where its Student's t reaches the critical one, only there."""
    level, significant = 0.2, []
    for _ in range(200):
        given = contributions(rng, 15, oddness=0.0)
        found, bricks = family_test(given), len(given)
        total, squares = given.sum(0), (given**2).sum(0)
        t = total / np.sqrt((squares - total**2 / bricks) * bricks / (bricks - 1))
        significant.append(bool(found.p.min() <= level))
        assert (np.abs(t).max() >= found.critical_t(level) * (1 - 1e-9)) == significant[-1]
    assert 10 < sum(significant) < 80
    moved = given + np.where(np.arange(given.shape[1]) == 0, 3 * np.abs(given).max(), 0)
    assert family_test(moved).p[0] <= 0.05


def test_units_are_bricks_or_examples():
    label = np.arange(4000) % 2
    numbers, bricks = flip_units(label, np.arange(4000) // 2 % 10)
    assert bricks
    assert numbers.max() == 9
    few, bricks = flip_units(label, np.arange(4000) // 2 % (LEAST_FLIPPED - 1))
    assert not bricks
    assert len(np.unique(few)) == MOST_GROUPS
    many, bricks = flip_units(label, np.arange(4000) // 2)
    assert bricks
    assert len(np.unique(many)) == MOST_GROUPS
    assert (many[::2] == many[1::2]).all()  # whole bricks
    nothing = family_test(np.zeros((9, 2)))
    assert nothing.p.tolist() == [1, 1]
