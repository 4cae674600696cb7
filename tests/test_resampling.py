"""Bootstrap and permutations, and the AUC at equal covariates, against enumeration and simulation."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import kstest, norm, rankdata

from obiwan.dplearn.twosample import (
    auc,
    auc_bootstrap,
    auc_interval,
    auc_pvalue,
    effective_number,
    flip_test,
    permutation_test,
    stratified_auc,
    weighted_auc,
)
from obiwan.dplearn.twosample.resampling import _pairwise, _weighted


def _split(rng, bricks=20, each=20, shift=0.0, sky=0.0, odd=0.0, share=None):
    """Labels, scores and bricks; `share` is that of fakes in each brick."""
    groups = np.repeat(np.arange(bricks), each)
    labels = (rng.random(len(groups)) < (0.5 if share is None else share[groups])).astype(int)
    common, own = rng.normal(0, 1, (2, bricks))[:, groups]
    scores = shift * labels + sky * common + odd * own * (labels - 0.5) + rng.normal(size=len(groups))
    return labels, scores, groups


@pytest.mark.parametrize("method", [_pairwise, _weighted])
def test_auc_of_drawn_bricks_is_that_of_repeated_examples(method):
    rng = np.random.default_rng(1)
    labels, scores, groups = _split(rng, 9, 8)
    labels[groups == 3], labels[groups == 5] = 0, 1
    scores, mixed = scores.round(1), rng.permutation(72)  # ties, and bricks in no order
    labels, scores, groups = labels[mixed], scores[mixed], groups[mixed]
    times = rng.integers(0, 4, (7, 9))
    times[6] = np.arange(9) == 3  # reals only
    found = method(labels == 1, scores, groups)(times.astype(float))
    each = times[:6, groups]
    np.testing.assert_allclose(found[:6], [auc(np.repeat(labels, n), np.repeat(scores, n)) for n in each])
    assert np.isnan(found[6])


def test_bootstrap_is_as_wide_as_the_formula():
    rng = np.random.default_rng(2)
    split = _split(rng, 100, 20, shift=0.5, odd=0.5)
    drawn, formula = auc_bootstrap(*split, draws=2000, rng=rng), auc_interval(*split)
    assert drawn.value == formula.value
    assert (drawn.high - drawn.low) / (formula.high - formula.low) == pytest.approx(1, abs=0.1)
    drawn, formula = auc_bootstrap(*split[:2], None, draws=2000, rng=rng), auc_interval(*split[:2])
    assert (drawn.high - drawn.low) / (formula.high - formula.low) == pytest.approx(1, abs=0.1)


def test_bootstrap_covers():
    rng = np.random.default_rng(3)
    truth = 0.6
    shift = norm.ppf(truth) * np.sqrt(2 + 0.7**2 / 2)
    found = [auc_bootstrap(*_split(rng, 12, 20, shift, odd=0.7), draws=300, rng=rng) for _ in range(400)]
    assert 365 <= sum(f.low <= truth <= f.high for f in found) <= 394


def test_bootstrap_of_too_few_bricks():
    rng = np.random.default_rng(4)
    labels, scores = np.arange(20) % 2, rng.normal(size=20)
    with pytest.raises(ValueError, match="one brick"):
        auc_bootstrap(labels, scores, np.zeros(20), rng=rng)
    fakes = np.where(labels == 1, 0, 1 + np.arange(20))  # one brick of eleven holds all fakes
    with pytest.raises(ValueError, match="one brick"):
        auc_bootstrap(labels, scores, fakes, draws=100, rng=rng)


def _exact(labels, values, groups):
    """p-value over all exchanges of labels within groups."""
    ways = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        ways.append([values[list(c)].sum() for c in combinations(rows, int(labels[rows].sum()))])
    sums = np.array([sum(way) for way in product(*ways)])
    return np.mean(sums >= values[labels == 1].sum() - 1e-9)


def test_permutations_approach_the_enumeration():
    rng = np.random.default_rng(5)
    groups = np.repeat([0, 1, 2], [6, 5, 4])
    labels = np.array([0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0, 1, 0, 0])
    scores = (rng.normal(size=15) + 0.8 * labels + groups).round(1)
    exact = _exact(labels, rankdata(scores), groups)
    assert 0.01 < exact < 0.5
    assert permutation_test(labels, scores, groups, draws=20_000, rng=rng) == pytest.approx(exact, abs=0.012)
    two = np.arange(15) % 2
    exact = _exact(labels, rankdata(scores), 2 * groups + two)
    assert permutation_test(labels, scores, groups, two, draws=20_000, rng=rng) == pytest.approx(
        exact, abs=0.012
    )
    calls = (scores > 0.5).astype(float)
    exact = _exact(labels, calls, groups)
    found = permutation_test(labels, scores, groups, draws=20_000, rng=rng, statistic="accuracy")
    assert found == pytest.approx(exact, abs=0.012)


@pytest.mark.parametrize("statistic", ["auc", "accuracy", "stratified"])
def test_permutation_p_values_are_uniform(statistic):
    """Fakes are where the sky is odd, and bins of magnitude differ: only exchanges within both are fair."""
    rng = np.random.default_rng(6)
    within, anywhere = [], []
    for _ in range(600):
        labels, scores, groups = _split(rng, 10, 30, share=np.linspace(0.2, 0.8, 10))
        magnitude = np.arange(300) % 3
        scores = scores + 0.1 * groups + 0.3 * magnitude
        labels = np.where((magnitude == 2) & (rng.random(300) < 0.3), 1, labels)
        within.append(
            permutation_test(labels, scores, groups, magnitude, draws=99, rng=rng, statistic=statistic)
        )
        anywhere.append(auc_pvalue(labels, scores))
    assert np.mean(np.array(anywhere) < 0.05) > 0.5
    side = "greater" if statistic == "accuracy" else "two-sided"  # ties of a count make it cautious
    spread = np.array(within) - 0.01 * rng.random(600)  # between the steps of 99 draws
    assert kstest(spread, "uniform", alternative=side).statistic < 0.072  # one in 250
    assert np.mean(np.array(within) <= 0.05) < 0.075


def test_permutations_have_power():
    rng = np.random.default_rng(7)
    shift = np.sqrt(2) * norm.ppf(0.5 + 0.0817)  # power 0.8 for 300 independent examples, one-sided 5 %
    found = [
        permutation_test(*_split(rng, 10, 30, shift, sky=0.3), draws=199, rng=rng) <= 0.05 for _ in range(500)
    ]
    assert 0.74 < np.mean(found) < 0.9


def test_permutations_at_the_ends():
    rng = np.random.default_rng(8)
    labels = np.arange(40) % 2
    groups = np.arange(40) // 10
    assert permutation_test(labels, labels + 0.0, groups, draws=99, rng=rng) == 0.01
    assert permutation_test(labels, 1.0 - labels, groups, draws=99, rng=rng) == 1
    assert permutation_test(labels, np.ones(40), groups, draws=99, rng=rng) == 1
    assert permutation_test(labels, labels + 0.0, labels, draws=99, rng=rng) == 1  # bricks of one class each
    assert (
        permutation_test(labels, labels + 0.0, np.arange(40), draws=99, rng=rng, statistic="stratified") == 1
    )
    with pytest.raises(ValueError, match="not finite"):
        permutation_test(labels, np.full(40, np.nan), groups, rng=rng)
    with pytest.raises(ValueError, match="one of auc, accuracy, stratified"):
        permutation_test(labels, labels, groups, rng=rng, statistic="loss")
    with pytest.raises(ValueError, match="for each of 40"):
        permutation_test(labels, labels, groups[:5], rng=rng)


def test_many_draws_agree_whatever_the_blocks(monkeypatch):
    rng = np.random.default_rng(9)
    labels, scores, groups = _split(rng, 5, 20, shift=0.3)
    whole = permutation_test(labels, scores, groups, draws=50, rng=np.random.default_rng(1))
    interval = auc_bootstrap(labels, scores, groups, draws=50, rng=np.random.default_rng(1))
    monkeypatch.setattr("obiwan.dplearn.twosample.resampling._AT_ONCE", 700)
    assert permutation_test(labels, scores, groups, draws=50, rng=np.random.default_rng(1)) == whole
    assert auc_bootstrap(labels, scores, groups, draws=50, rng=np.random.default_rng(1)) == interval
    monkeypatch.setattr("obiwan.dplearn.twosample.resampling._MOST_PAIRED", 3)
    other = auc_bootstrap(labels, scores, groups, draws=50, rng=np.random.default_rng(1))
    assert (other.low, other.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_flips_approach_the_enumeration():
    rng = np.random.default_rng(10)
    labels, scores, groups = np.tile([0, 1], 24), rng.normal(size=48), np.repeat(np.arange(6), 8)
    scores += 0.3 * labels
    ranks = rankdata(scores)
    contrasts = np.array(
        [
            ranks[(groups == g) & (labels == 1)].sum() - ranks[(groups == g) & (labels == 0)].sum()
            for g in range(6)
        ]
    )
    sums = np.array([np.array(signs) @ contrasts for signs in product([-1, 1], repeat=6)])
    exact = np.mean(sums >= contrasts.sum() - 1e-9)
    assert flip_test(labels, scores, groups, draws=20_000, rng=rng) == pytest.approx(exact, abs=0.012)


def test_flips_forgive_odd_bricks_and_permutations_do_not():
    rng = np.random.default_rng(11)
    flipped, permuted = [], []
    for _ in range(500):
        split = _split(rng, 15, 30, odd=0.8)
        flipped.append(flip_test(*split, draws=99, rng=rng))
        permuted.append(permutation_test(*split, draws=99, rng=rng))
    assert 0.025 < np.mean(np.array(flipped) <= 0.05) < 0.08
    assert np.mean(np.array(permuted) <= 0.05) > 0.12


def test_one_stratum_is_no_stratum():
    split = _split(np.random.default_rng(12), shift=0.4, odd=0.4)
    labels, scores, groups = split
    found, plain = stratified_auc(labels, scores, np.zeros(400), groups), auc_interval(*split)
    assert found.value == pytest.approx(plain.value, abs=1e-12)
    assert found.high - found.low == pytest.approx(plain.high - plain.low, rel=0.01)
    found, plain = stratified_auc(labels, scores, np.zeros(400)), auc_interval(labels, scores)
    assert found.high - found.low == pytest.approx(plain.high - plain.low, rel=0.01)


def test_stratified_auc_by_hand():
    labels = np.array([0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 1, 1])
    scores = np.array([1, 3, 2, 4, 1, 2, 3, 2, 9, 5, 6, 7.0])
    strata = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2])  # the third has one real only
    weights = np.array([2 * 2 / 5, 3 * 2 / 6])
    expected = weights @ [3 / 4, (1.5 + 3) / 6] / weights.sum()
    assert stratified_auc(labels, scores, strata).value == pytest.approx(expected)
    with pytest.raises(ValueError, match="no stratum holds two"):
        stratified_auc(labels, scores, np.arange(12))


def test_strata_take_a_difference_in_magnitude_away():
    rng = np.random.default_rng(13)
    hits = 0
    for _ in range(400):
        labels, scores, groups = _split(rng, 20, 20, odd=0.5)
        magnitude = np.clip(rng.poisson(1 + labels), 0, 3)
        scores = scores + magnitude
        found = stratified_auc(labels, scores, magnitude, groups)
        hits += found.low <= 0.5 <= found.high
    assert auc(labels, scores) > 0.6
    assert 368 <= hits <= 393


def test_small_strata_are_not_too_sure():
    """Strata of about four examples: the intervals must not shrink for being near their own means."""
    rng = np.random.default_rng(14)
    hits = 0
    for _ in range(300):
        labels, scores = np.tile([0, 0, 1, 1], 60), rng.normal(size=240)
        found = stratified_auc(labels, scores, np.arange(240) // 4)
        hits += found.low <= 0.5 <= found.high
    assert 274 <= hits <= 296


def test_weights_that_are_whole_numbers_are_repetitions():
    rng = np.random.default_rng(15)
    labels, scores, groups = _split(rng, shift=0.4)
    times = rng.integers(0, 4, 400)
    scores = scores.round(1)
    expected = auc(np.repeat(labels, times), np.repeat(scores, times))
    assert weighted_auc(labels, scores, times).value == pytest.approx(expected, abs=1e-12)
    equal, plain = (
        weighted_auc(labels, scores, np.full(400, 7.0), groups),
        auc_interval(labels, scores, groups),
    )
    assert (equal.low, equal.high) == (pytest.approx(plain.low), pytest.approx(plain.high))


def test_weights_make_magnitudes_equal():
    """Fakes are one sigma brighter, which is all there is to see; the ratio of densities takes it away."""
    rng = np.random.default_rng(16)
    hits = 0
    for _ in range(400):
        labels, noise, groups = _split(rng, 20, 30, odd=0.3)
        magnitude = rng.normal(size=600) + 0.7 * labels
        weights = np.where(labels == 1, 1, np.exp(0.7 * magnitude - 0.7**2 / 2))
        found = weighted_auc(labels, magnitude + noise, weights, groups)
        hits += found.low <= 0.5 <= found.high
    assert auc(labels, magnitude + noise) > 0.6
    assert 360 <= hits <= 394
    assert effective_number(np.ones(9)) == 9
    assert effective_number(np.array([1.0, 0, 0])) == 1


@pytest.mark.parametrize(("bad", "match"), [(-1, "not negative"), (np.nan, "finite"), (np.inf, "finite")])
def test_weights_are_checked(bad, match):
    labels = np.arange(10) % 2
    weights = np.ones(10)
    weights[3] = bad
    with pytest.raises(ValueError, match=match):
        weighted_auc(labels, np.arange(10.0), weights)
    with pytest.raises(ValueError, match="all zero"):
        weighted_auc(labels, np.arange(10.0), labels)
    with pytest.raises(ValueError, match="one per example"):
        weighted_auc(labels, np.arange(10.0), np.ones(9))
