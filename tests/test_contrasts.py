"""Tests of two classes that share bricks: what is said when nothing differs, and when something does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, kstest, ncx2

from obiwan.dplearn.controls.contrasts import (
    Contrast,
    association,
    fractions,
    location,
    moments,
    noncentrality,
    shift,
)
from obiwan.dplearn.twosample.ranking import auc

DRAWS = 400


def p_of(contrasts: tuple[Contrast, ...]) -> float:
    """Of the clearest of several differences (Bonferroni)."""
    found = (one.difference.p_value(0.0, "two-sided") for one in contrasts)
    return min(1.0, len(contrasts) * min(found))


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
        given = (values, fake, bricks)
        p.append(p_of(shift(*given)[:1] if test == "shift" else moments(*given)))
    for level in (0.05, 0.2):
        rate, error = np.mean(np.array(p) < level), np.sqrt(level * (1 - level) / DRAWS)
        assert rate < level + 3 * error
        assert rate > 0.3 * level  # and the test is not simply deaf (three components share the level)


def test_without_clusters_the_bricks_are_mistaken_for_a_difference(rng: np.random.Generator):
    """What the clustering is for: the same sets with every example taken for independent."""
    sets = draws(rng, unbalanced=True, scatter=2.0)
    p = [p_of(shift(values, label == 1, None)[:1]) for label, _, values in sets]
    assert np.mean(np.array(p) < 0.05) > 0.15


def test_intervals_of_a_shift_cover_it(rng: np.random.Generator):
    covered = []
    for label, bricks, values in draws(rng, unbalanced=True, scatter=0.5):
        contrast, real, fake = shift(values + 0.7 * label, label == 1, bricks)
        covered.append(contrast.interval.low < 0.7 < contrast.interval.high)
        assert contrast.difference.value == pytest.approx(fake.value - real.value)
        assert contrast.pulls.sum() == pytest.approx(contrast.difference.value)
    assert 0.91 < np.mean(covered) <= 0.99


@pytest.mark.parametrize(
    "change",
    [lambda v: v + 0.5, lambda v: 2 * v, lambda v: np.where(v > 0, 3 * v, v)],
    ids=["shift", "spread", "skew"],
)
def test_every_kind_of_difference_is_found(change, rng: np.random.Generator):
    bricks, label = np.repeat(np.arange(15), 80), np.arange(1200) % 2
    values = rng.normal(size=1200)
    assert p_of(moments(values, label == 1, bricks)) > 0.01
    assert p_of(moments(np.where(label == 1, change(values), values), label == 1, bricks)) < 1e-4


def test_the_location_of_ranks_is_an_auc(rng: np.random.Generator):
    """By itself the number has that AUC, however many ties there are."""
    fake = rng.random(500) < 0.3
    for values in (rng.normal(size=500) + fake, rng.integers(0, 3, 500) + fake, fake.astype(float)):
        found = moments(values, fake, None)[0]
        assert found.difference.value == pytest.approx(auc(fake.astype(int), values) - 0.5)
        assert found.pulls.sum() == pytest.approx(found.difference.value)


def test_moments_of_ranks_have_one_scale(rng: np.random.Generator):
    """Where nothing differs each has the error of an AUC."""
    fake = np.arange(4000) % 2 == 1
    errors = [one.difference.error for one in moments(rng.normal(size=4000), fake, None)]
    assert errors == pytest.approx([np.sqrt(1 / 12 * (2 / 2000))] * 3, rel=0.03)


def test_intervals_of_moments_cover_them(rng: np.random.Generator):
    """Also where bricks differ: those of the populations' own differences."""
    covered = np.zeros(3)
    truth = [one.difference.value for one in moments(*wider(rng, 400_000), None)]
    for _ in range(300):
        values, fake = wider(rng, 600)
        bricks = np.arange(600) % 20
        ends = [one.interval for one in moments(values, fake, bricks)]
        covered += [end.low < one < end.high for end, one in zip(ends, truth, strict=True)]
    assert (covered / 300 > 0.91).all()


def wider(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of two classes, one of which is shifted and wider."""
    fake = rng.random(n) < 0.5
    return np.where(fake, 1.3, 1.0) * rng.normal(size=n) + 0.3 * fake, fake


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
    assert p_of(shift(same, fake, None)[:1]) == p_of(moments(same, fake, None)) == 1
    assert p_of(shift(other, fake, None)[:1]) < 1e-12
    assert shift(other, fake, None)[0].difference.value == 1
    assert p_of(moments(other, fake, None)) < 1e-6


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
        p.append(p_of(fractions(types, fake, bricks)))
        naive.append(association(types, fake, rng)[1])
    assert np.mean(np.array(p) < 0.05) < 0.08  # 0.05 and three standard errors
    assert np.mean(np.array(naive) < 0.05) > 0.2
    moved = np.where(fake & (rng.random(800) < 0.5), 1, types)
    assert p_of(fractions(moved, fake, bricks)) < 1e-3
    assert p_of(fractions(np.zeros(800), fake, bricks)) == 1


def test_association_measures_how_much(rng: np.random.Generator):
    keys = rng.integers(0, 6, 6000)
    share = np.array([0.4, 0.5, 0.6, 0.4, 0.5, 0.6])[keys]
    effect, p = association(keys, rng.random(6000) < share, rng)
    truth = np.std([0.4, 0.5, 0.6]) / 0.5  # phi, with two classes
    assert effect.value == pytest.approx(truth, abs=0.03)
    assert effect.low < truth < effect.high < effect.low + 0.06
    assert p < 1e-10
    nothing = association(keys, np.arange(6000) % 2 == 1, rng)[0]
    assert nothing.low == 0 <= nothing.value < 0.04
    single, p = association(np.zeros(10), np.arange(10) % 2 == 1, rng)
    assert (single.value, single.high, p) == (0, 0, 1)
    label = np.arange(100) % 2 == 1
    assert association(label.astype(int), label, rng)[0].value == pytest.approx(1, abs=0.02)


def test_intervals_of_an_association_cover_it(rng: np.random.Generator):
    """Also where it is 0, and where the classes are balanced to the last example."""
    for spread in (0.0, 0.08):
        share, covered = 0.5 + spread * np.array([-1, 0, 1, -1, 0, 1]), 0
        truth = np.std(share) / 0.5
        for _ in range(300):
            keys = rng.integers(0, 6, 2000)
            effect = association(keys, rng.random(2000) < share[keys], rng)[0]
            covered += effect.low <= truth <= effect.high
        assert covered / 300 > 0.92
    keys = np.arange(2000) // 2 % 6
    assert association(keys, np.arange(2000) % 2 == 1, rng)[0].high == 0


def test_noncentrality_of_chi_square():
    found = noncentrality(30.0, 4, 0.1)
    assert ncx2.cdf(30.0, 4, found) == pytest.approx(0.1)
    assert noncentrality(float(chi2.ppf(0.1, 4)), 4, 0.2) == 0


def test_the_error_of_a_shift_of_skewed_numbers_is_right(rng):
    """The scale of a skewed quantity is known no better than its location, and is one for both classes."""
    fake, seen = np.arange(1200) % 2 == 1, []
    for _ in range(300):
        values = np.where(rng.random(1200) < 0.6, 0.0, rng.exponential(1, 1200)) + 0.05 * rng.random(1200)
        one = shift(values, fake, None)[0].difference
        seen.append(one.value / one.error)
    assert np.std(seen) == pytest.approx(1, abs=0.12)


def test_classes_far_apart_do_not_widen_each_other(rng):
    values, fake = rng.standard_normal(400), np.arange(400) % 2 == 1
    apart, real, moved = shift(values + 100 * fake, fake, None)
    near = shift(values, fake, None)[0]
    assert apart.difference.value == pytest.approx(100 + near.difference.value)
    assert apart.difference.error == pytest.approx(near.difference.error)
    assert moved.value - real.value == pytest.approx(apart.difference.value)
