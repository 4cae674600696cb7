"""Tests of two classes that share bricks: what is said when nothing differs, and when something does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp, kstest, norm

from obiwan.dplearn.controls.contrasts import (
    association,
    composition_pvalue,
    distance_beyond_chance,
    distribution_pvalue,
    location,
    shift,
)

DRAWS = 400


def draws(rng: np.random.Generator, *, unbalanced: bool, scatter: float):
    """Sets of 20 examples of each class in 12 bricks that differ among themselves."""
    for _ in range(DRAWS):
        bricks = np.repeat(np.arange(12), 20)
        share = rng.uniform(0.2, 0.8, 12) if unbalanced else np.full(12, 0.5)
        label = rng.random(240) < share[bricks]
        values = scatter * rng.normal(size=12)[bricks] + rng.standard_t(4, 240)
        yield label.astype(int), bricks, values


@pytest.mark.parametrize("scatter", [0.0, 1.0])
@pytest.mark.parametrize("test", ["shift", "distribution"])
def test_no_difference_is_seldom_found(test: str, scatter: float, rng: np.random.Generator):
    """At 5 % about 5 % of the time, also where bricks differ and hold the classes in unequal numbers."""
    p = []
    for label, bricks, values in draws(rng, unbalanced=scatter > 0, scatter=scatter):
        fake = label == 1
        p.append(
            shift(values, fake, bricks)[-1] if test == "shift" else distribution_pvalue(values, fake, bricks)
        )
    for level in (0.05, 0.2):
        rate, error = np.mean(np.array(p) < level), np.sqrt(level * (1 - level) / DRAWS)
        assert rate < level + 3 * error
        assert rate > 0.3 * level  # and the test is not simply deaf (three components share the level)


def test_without_clusters_the_bricks_are_mistaken_for_a_difference(rng: np.random.Generator):
    """What the clustering is for: the same sets with every example taken for independent."""
    p = [shift(values, label == 1, None)[-1] for label, _, values in draws(rng, unbalanced=True, scatter=2.0)]
    assert np.mean(np.array(p) < 0.05) > 0.15


def test_intervals_of_a_shift_cover_it(rng: np.random.Generator):
    covered = []
    for label, bricks, values in draws(rng, unbalanced=True, scatter=0.5):
        difference, real, fake, _ = shift(values + 0.7 * label, label == 1, bricks)
        covered.append(difference.low < 0.7 < difference.high)
        assert difference.value == pytest.approx(fake.value - real.value)
    assert 0.91 < np.mean(covered) <= 0.99


@pytest.mark.parametrize(
    "change",
    [lambda v: v + 0.5, lambda v: 2 * v, lambda v: np.where(v > 0, 3 * v, v)],
    ids=["shift", "spread", "skew"],
)
def test_every_kind_of_difference_is_found(change, rng: np.random.Generator):
    bricks, label = np.repeat(np.arange(15), 80), np.arange(1200) % 2
    values = rng.normal(size=1200)
    assert distribution_pvalue(values, label == 1, bricks) > 0.01
    assert distribution_pvalue(np.where(label == 1, change(values), values), label == 1, bricks) < 1e-4


@pytest.mark.parametrize("drawn", ["continuous", "rare", "few"])
@pytest.mark.parametrize("n", [60, 2000])
def test_chance_alone_is_no_distance(drawn: str, n: int, rng: np.random.Generator):
    """The mean square is what is taken off; where values are few, a little more than that."""
    draw = {
        "continuous": lambda: rng.normal(size=n),
        "rare": lambda: (rng.random(n) < 0.1).astype(float),
        "few": lambda: rng.integers(0, 4, n).astype(float),
    }[drawn]
    fake = np.arange(n) % 3 == 0
    squared, left = np.array(
        [
            (ks_2samp(values[fake], values[~fake]).statistic ** 2, distance_beyond_chance(values, fake) ** 2)
            for values in (draw() for _ in range(600))
        ]
    ).T
    taken = np.mean((squared - left)[left > 0])
    assert 0.9 * squared.mean() < taken < (1.2 if drawn == "continuous" else 2.5) * squared.mean()


def test_a_distance_beyond_chance_is_that_of_the_populations(rng: np.random.Generator):
    """Of two normals half a standard deviation apart, whatever the number of examples."""
    true = 2 * norm.cdf(0.25) - 1
    for n in (400, 20_000):
        fake = np.arange(n) % 2 == 1
        found = [distance_beyond_chance(rng.normal(size=n) + 0.5 * fake, fake) for _ in range(60)]
        assert np.mean(found) == pytest.approx(true, abs=0.02)


def test_location_withstands_outliers(rng: np.random.Generator):
    values = rng.normal(3, 1, 4000)
    values[:200] += 1e6 * rng.normal(size=200)
    centre, influence = location(values)
    assert centre == pytest.approx(3, abs=0.06)
    assert np.sqrt((influence**2).sum()) == pytest.approx(1 / np.sqrt(4000), rel=0.15)
    assert influence.sum() == pytest.approx(0, abs=1e-9)
    assert location(np.full(5, 7.0))[0] == 7
    assert location(np.array([0.0] * 9 + [1.0]))[0] == pytest.approx(0.1, abs=0.05)  # most are equal


def test_constants_are_equal_or_beyond_doubt():
    fake = np.arange(40) % 2 == 1
    same, other = np.full(40, 2.0), np.where(fake, 3.0, 2.0)
    assert shift(same, fake, None)[-1] == distribution_pvalue(same, fake, None) == 1
    assert shift(other, fake, None)[-1] < 1e-12
    assert shift(other, fake, None)[0].value == 1
    assert distribution_pvalue(other, fake, None) < 1e-6


@pytest.mark.parametrize("sparse", [False, True])
def test_association_under_the_null(sparse: bool, rng: np.random.Generator):
    """Chi-square where it holds, else tables with the same margins: uniform p-values either way."""
    many = 30 if sparse else 4
    p = [association(rng.integers(0, many, 90), rng.random(90) < 0.4, rng)[1] for _ in range(100)]
    assert kstest(p, "uniform").pvalue > 1e-3


def test_labels_that_bricks_share(rng: np.random.Generator):
    """Types vary from brick to brick, and so does the share of fakes: chi-square would alarm more often."""
    bricks, p, naive = np.repeat(np.arange(20), 40), [], []
    for _ in range(400):
        fake = rng.random(800) < rng.beta(0.7, 0.7, 20)[bricks]
        types = (rng.random(800) < rng.beta(0.7, 0.7, 20)[bricks]).astype(int) + (rng.random(800) < 0.3)
        p.append(composition_pvalue(types, fake, bricks))
        naive.append(association(types, fake, rng)[1])
    assert np.mean(np.array(p) < 0.05) < 0.08  # 0.05 and three standard errors
    assert np.mean(np.array(naive) < 0.05) > 0.2
    moved = np.where(fake & (rng.random(800) < 0.5), 1, types)
    assert composition_pvalue(moved, fake, bricks) < 1e-3
    assert composition_pvalue(np.zeros(800), fake, bricks) == 1


def test_association_measures_how_much(rng: np.random.Generator):
    keys = rng.integers(0, 6, 6000)
    share = np.array([0.4, 0.5, 0.6, 0.4, 0.5, 0.6])[keys]
    effect, p = association(keys, rng.random(6000) < share, rng)
    assert effect == pytest.approx(np.std([0.4, 0.5, 0.6]) / 0.5, abs=0.03)  # phi, with two classes
    assert p < 1e-10
    assert association(keys, np.arange(6000) % 2 == 1, rng)[0] < 0.04
    assert association(np.zeros(10), np.arange(10) % 2 == 1, rng) == (0, 1)
    label = np.arange(100) % 2 == 1
    assert association(label.astype(int), label, rng)[0] == pytest.approx(1, abs=0.02)
