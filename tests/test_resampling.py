"""Permutations, and the AUC at equal covariates, against enumeration and simulation."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import kstest, norm, rankdata

from obiwan.dplearn.twosample.ranking import auc, auc_interval, auc_pvalue, stratified_auc
from obiwan.dplearn.twosample.resampling import flip_test, permutation_test


def _split(rng, bricks=20, each=20, shift=0.0, sky=0.0, odd=0.0, share=None):
    """Labels, scores and bricks; `share` is that of fakes in each brick."""
    groups = np.repeat(np.arange(bricks), each)
    labels = (rng.random(len(groups)) < (0.5 if share is None else share[groups])).astype(int)
    common, own = rng.normal(0, 1, (2, bricks))[:, groups]
    scores = shift * labels + sky * common + odd * own * (labels - 0.5) + rng.normal(size=len(groups))
    return labels, scores, groups


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
    values = np.zeros(15)
    for stratum in (0, 1):
        here = two == stratum
        values[here] = rankdata(scores[here]) / (here.sum() + 1)
    exact = _exact(labels, values, 2 * groups + two)
    assert permutation_test(labels, scores, groups, two, draws=20_000, rng=rng) == pytest.approx(
        exact, abs=0.012
    )


def test_permutation_p_values_are_uniform():
    """Fakes are where the sky is odd, and bins of magnitude differ: only exchanges within both are fair."""
    rng = np.random.default_rng(6)
    within, anywhere = [], []
    for _ in range(600):
        labels, scores, groups = _split(rng, 10, 30, share=np.linspace(0.2, 0.8, 10))
        magnitude = np.arange(300) % 3
        scores = scores + 0.1 * groups + 0.3 * magnitude
        labels = np.where((magnitude == 2) & (rng.random(300) < 0.3), 1, labels)
        within.append(permutation_test(labels, scores, groups, magnitude, draws=99, rng=rng))
        anywhere.append(auc_pvalue(labels, scores))
    assert np.mean(np.array(anywhere) < 0.05) > 0.5
    spread = np.array(within) - 0.01 * rng.random(600)  # between the steps of 99 draws
    assert kstest(spread, "uniform").statistic < 0.072  # one in 250
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
    assert permutation_test(labels, labels + 0.0, strata=np.arange(40), draws=99, rng=rng) == 1
    with pytest.raises(ValueError, match="not finite"):
        permutation_test(labels, np.full(40, np.nan), groups, rng=rng)


def test_many_draws_agree_whatever_the_blocks(monkeypatch):
    rng = np.random.default_rng(9)
    labels, scores, groups = _split(rng, 5, 20, shift=0.3)
    whole = permutation_test(labels, scores, groups, draws=50, rng=np.random.default_rng(1))
    monkeypatch.setattr("obiwan.dplearn.twosample.resampling._AT_ONCE", 700)
    assert permutation_test(labels, scores, groups, draws=50, rng=np.random.default_rng(1)) == whole


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


@pytest.mark.parametrize("shift", [0.0, 0.12])
def test_moments_of_rank_sums_give_the_p_value_of_many_draws(monkeypatch, shift):
    rng = np.random.default_rng(14)
    labels, scores, groups = _split(rng, 12, 60, shift, sky=0.5, share=np.linspace(0.15, 0.6, 12))
    strata = np.arange(720) % 3
    for given in ((labels, scores, groups), (labels, scores.round(1), groups, strata), (labels, scores)):
        drawn = permutation_test(*given, draws=20_000, rng=rng)
        with monkeypatch.context() as patch:
            patch.setattr("obiwan.dplearn.twosample.resampling.DRAWN", 0)
            by_moments = permutation_test(*given, draws=20_000, rng=rng)
        assert 0.001 < drawn < 0.9
        assert by_moments == pytest.approx(drawn, abs=4 * np.sqrt(drawn * (1 - drawn) / 20_000) + 0.001)


def test_the_third_moment_counts_where_most_scores_are_equal(monkeypatch):
    scores, labels = np.maximum(np.arange(1000) - 800.0, 0), np.zeros(1000, int)
    labels[:18], labels[810::20] = 1, 1
    draws, rng = 50_000, np.random.default_rng(16)
    drawn = permutation_test(labels, scores, draws=draws, rng=rng)
    monkeypatch.setattr("obiwan.dplearn.twosample.resampling.DRAWN", 0)
    by_moments = permutation_test(labels, scores, draws=draws, rng=rng)
    assert by_moments == pytest.approx(drawn, abs=4 * np.sqrt(drawn * (1 - drawn) / draws))


def test_moments_at_the_ends(monkeypatch):
    """No p-value below that of as many draws, and 1 where nothing can be exchanged."""
    monkeypatch.setattr("obiwan.dplearn.twosample.resampling.DRAWN", 0)
    rng, labels = np.random.default_rng(15), np.arange(40) % 2
    groups = np.arange(40) // 10
    assert permutation_test(labels, labels + 0.0, groups, draws=99, rng=rng) == 0.01
    assert permutation_test(labels, 1.0 - labels, groups, draws=99, rng=rng) == pytest.approx(1)
    assert permutation_test(labels, np.ones(40), groups, draws=99, rng=rng) == 1
    assert permutation_test(labels, labels + 0.0, labels, draws=99, rng=rng) == 1


def test_scores_of_whole_bricks_tell_no_classes_apart(monkeypatch):
    """One score in each brick: nothing that an exchange would change, also where means are rounded."""
    rng = np.random.default_rng(0)
    groups, labels, strata = (
        rng.integers(0, 30, 20_000),
        rng.integers(0, 2, 20_000),
        rng.integers(0, 5, 20_000),
    )
    scores = rng.random(30)[groups]
    for drawn in (0, 20_000):
        monkeypatch.setattr("obiwan.dplearn.twosample.resampling.DRAWN", drawn)
        assert permutation_test(labels, scores, groups, strata, draws=20, rng=rng) == 1
