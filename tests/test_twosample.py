"""The statistics, against truth they cannot argue with."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import kstest, norm
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from obiwan.dplearn.twosample.ranking import (
    auc,
    auc_interval,
    auc_pvalue,
    bricks_of_rarer,
    design_effect,
    measure_auc,
)
from obiwan.dplearn.twosample.summary import (
    accuracy_test,
    answer,
    detectable_excess,
    holm,
    score_interval,
    usable_bricks,
)


def _scores(rng, n=400, shift=0.5, clusters=None, between=0.0):
    """Labels, scores and clusters of a Gaussian population with a common offset for each cluster."""
    labels = rng.integers(0, 2, n)
    groups = np.arange(n) if clusters is None else np.arange(n) % clusters
    common = rng.normal(0, between, groups.max() + 1)[groups] if between else 0
    return labels, shift * labels + rng.normal(size=n) + common * (2 * labels - 1), groups


def test_auc_is_scikit_learns_with_ties():
    rng = np.random.default_rng(1)
    labels, scores, _ = _scores(rng)
    scores = scores.round(1)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_wilson_of_newcombe_1998():
    found = score_interval(81 / 263, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert score_interval(0, 10).low == 0
    assert score_interval(1, 10).high == 1


def test_delong_variance_by_its_definition():
    labels, scores, _ = _scores(np.random.default_rng(2), n=60)
    fake, real = scores[labels == 1], scores[labels == 0]
    wins = (fake[:, None] > real) + 0.5 * (fake[:, None] == real)
    variance = wins.mean(1).var(ddof=1) / len(fake) + wins.mean(0).var(ddof=1) / len(real)
    found = auc_interval(labels, scores)
    freedom = min(len(fake), len(real)) - 1
    assert (found.high - found.low) / 2 == pytest.approx(
        student.ppf(0.975, freedom) * np.sqrt(variance), rel=1e-9
    )


def test_the_class_in_fewer_bricks_limits_the_interval():
    """Fakes in 5 bricks, reals in 60 others, scores that follow the brick: the interval still covers."""
    rng, hits, runs = np.random.default_rng(5), 0, 1500
    bricks = np.r_[np.repeat(np.arange(5), 60), 5 + np.repeat(np.arange(60), 5)]
    labels = (bricks < 5).astype(int)
    for _ in range(runs):
        scores = rng.normal(size=len(labels)) + rng.normal(size=65)[bricks]
        found = auc_interval(labels, scores, bricks)
        hits += found.low <= 0.5 <= found.high
    assert hits / runs > 0.925  # with the 64 degrees of freedom of all bricks it is below 0.90


@pytest.mark.parametrize("count", [5, 12])
def test_the_excess_that_is_said_to_be_noticed_is(count):
    rng, size, runs = np.random.default_rng(6), 100, 1500
    bricks = np.repeat(np.arange(count), size)
    labels = np.tile(np.arange(2), count * size // 2)
    excess = detectable_excess(count * size // 2, count * size // 2, level=0.05, freedom=count - 1)
    shift = np.sqrt(2) * norm.ppf(0.5 + excess)
    noticed = 0
    for _ in range(runs):
        noticed += auc_interval(labels, rng.normal(size=len(labels)) + shift * labels, bricks).low > 0.5
    assert noticed / runs == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize("count", [5, 12])
def test_accuracy_of_few_bricks(count):
    """Bricks that differ in how often calls are right: the accuracy's interval covers, in the answer too."""
    rng, size, runs = np.random.default_rng(7), 60, 1000
    bricks, hits = np.repeat(np.arange(count), size), {"test": 0, "answer": 0}
    labels = np.tile(np.arange(2), count * size // 2)
    for _ in range(runs):
        right = rng.random(len(labels)) < np.repeat(rng.beta(6, 4, count), size)  # 0.6 on average
        scores = np.where(right, labels, 1 - labels) * 0.5 + 0.25
        for name, found in (
            ("test", accuracy_test(labels, scores > 0.5, bricks).accuracy),
            ("answer", answer(labels, scores, bricks).accuracy),
        ):
            hits[name] += found.low <= 0.6 <= found.high
    assert hits["test"] == hits["answer"]
    assert hits["test"] / runs > 0.915


def test_clusters_of_one_are_no_clusters():
    labels, scores, groups = _scores(np.random.default_rng(3))
    alone, clustered = auc_interval(labels, scores), auc_interval(labels, scores, groups)
    assert clustered.low == pytest.approx(alone.low, abs=1e-12)


def test_intervals_cover_when_bricks_matter():
    rng = np.random.default_rng(4)
    truth = 0.5  # the offsets have mean zero and the classes the same distribution otherwise
    hits = {"bricks": 0, "examples": 0}
    for _ in range(300):
        labels, scores, groups = _scores(rng, shift=0.0, clusters=20, between=0.5)
        for name, clusters in (("bricks", groups), ("examples", None)):
            found = auc_interval(labels, scores, clusters)
            hits[name] += found.low <= truth <= found.high
    assert 270 <= hits["bricks"] <= 298
    assert hits["examples"] < 220  # what ignoring the bricks costs


def test_answer_of_a_scored_split():
    rng = np.random.default_rng(5)
    labels, scores, groups = _scores(rng, shift=2.0, clusters=40)
    p = 1 / (1 + np.exp(1 - scores))
    assert answer(labels, p, groups.astype(str)).auc.low > 0.5
    assert answer(labels, p, groups.astype(str)).bricks == 40
    shuffled = answer(labels, rng.permutation(p))
    assert shuffled.auc.low <= 0.5 <= shuffled.auc.high
    assert shuffled.bricks == 0
    assert answer(labels, p, np.full(len(labels), "one brick")).bricks == 0
    unbalanced = answer(np.arange(100) % 4 == 0, np.zeros(100))
    assert unbalanced.majority == 0.75
    assert unbalanced.accuracy.value == 0.75
    assert unbalanced.auc.value == 0.5


def test_perfect_separation_keeps_a_doubt():
    found = auc_interval(np.arange(40) % 2, np.arange(40) % 2)
    assert found.value == found.high == 1
    assert 0.9 < found.low < 1


@pytest.mark.parametrize(
    ("labels", "scores", "match"),
    [
        ([0, 0], [0.1, 0.2], "at least one of each"),
        ([0, 2], [0.1, 0.2], "0 and 1"),
        ([0, 1], [0.1, np.nan], "not finite"),
    ],
)
def test_refusals(labels, scores, match):
    with pytest.raises(ValueError, match=match):
        auc(np.array(labels), np.array(scores))


def test_one_cluster_has_no_variance():
    with pytest.raises(ValueError, match="no variance"):
        auc_interval(np.arange(10) % 2, np.arange(10.0), np.zeros(10))


def test_one_example_of_a_class_has_no_variance():
    with pytest.raises(ValueError, match="real examples: there is one"):
        auc_interval(np.array([0, 1, 1]), np.array([0.1, 0.2, 0.3]))


def test_ct_images_of_hanley_and_mcneil_1982():
    """Their table I, five grades of 58 normal and 51 abnormal images; DeLong's error as in Stata's manual."""
    normal, abnormal = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
    grades = np.repeat([1, 2, 3, 4, 5] * 2, normal + abnormal)
    found = measure_auc(np.repeat([0, 1], [58, 51]), grades)
    assert round(found.value, 4) == 0.8932
    assert round(found.error, 4) == 0.0307


def test_obuchowski_variance_by_its_definition():
    labels, scores, groups = _scores(np.random.default_rng(6), n=90, clusters=9, between=0.7)
    fake, real = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    wins = np.array([[(scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]) for j in real] for i in fake])
    area, m, n = wins.mean(), len(fake), len(real)
    a = np.array([sum(wins[k].mean() - area for k, i in enumerate(fake) if groups[i] == g) for g in range(9)])
    b = np.array(
        [sum(wins[:, k].mean() - area for k, j in enumerate(real) if groups[j] == g) for g in range(9)]
    )
    variance = 9 / 8 * ((a @ a) / m**2 + (b @ b) / n**2 + 2 * (a @ b) / (m * n))
    assert measure_auc(labels, scores, groups).error == pytest.approx(np.sqrt(variance), rel=1e-9)


def test_p_value_is_that_of_the_ranks():
    labels, scores, _ = _scores(np.random.default_rng(7), n=200, shift=0.2)
    m, n = labels.sum(), 200 - labels.sum()
    excess = (auc(labels, scores) - 0.5) * m * n
    sigma = np.sqrt(m * n * 201 / 12)
    assert auc_pvalue(labels, scores) == pytest.approx(norm.sf((excess - 0.5) / sigma), rel=1e-9)
    assert auc_pvalue(labels, scores, alternative="two-sided") == pytest.approx(
        2 * norm.sf((abs(excess) - 0.5) / sigma), rel=1e-9
    )
    assert auc_pvalue(labels, np.ones(200)) == 1


@pytest.mark.parametrize("between", [0.0, 0.7])
def test_p_values_over_bricks_are_uniform(between):
    rng = np.random.default_rng(8)
    p = [auc_pvalue(*_scores(rng, n=200, shift=0.0, clusters=20, between=between)) for _ in range(2000)]
    assert kstest(p, "uniform").statistic < 0.04  # 1.8 / sqrt(2000): one in 300
    assert 0.035 <= np.mean(np.array(p) <= 0.05) <= 0.065
    both = [
        auc_pvalue(*_scores(rng, n=200, shift=0.0, clusters=20), alternative="two-sided") for _ in range(500)
    ]
    assert 0.45 < np.mean(both) < 0.55


def test_power_is_as_computed():
    rng = np.random.default_rng(9)
    excess = detectable_excess(150, 150, level=0.1, power=0.8)
    shift = np.sqrt(2) * norm.ppf(0.5 + excess)
    labels = np.arange(300) % 2
    found = [auc_pvalue(labels, shift * labels + rng.normal(size=300)) <= 0.05 for _ in range(1500)]
    assert 0.77 < np.mean(found) < 0.83


@pytest.mark.parametrize(
    ("n", "excess"), [(410, 0.083), (40_000, 0.0084), (400_000, 0.0026), (12_000_000, 0.0005)]
)
def test_resolution_table(n, excess):
    assert detectable_excess(n // 2, n // 2) == pytest.approx(excess, rel=0.06)
    assert detectable_excess(n // 2, n // 2, effect=4) == pytest.approx(2 * detectable_excess(n // 2, n // 2))


def test_design_effect_is_the_ratio_of_true_variances():
    rng = np.random.default_rng(10)
    drawn = [_scores(rng, n=300, shift=0.0, clusters=30, between=0.4) for _ in range(800)]
    alone = [_scores(rng, n=300, shift=0.0) for _ in range(800)]
    spread = (
        2 * 0.4**2 + 2
    )  # variance of a pair of other bricks: the AUC of independent examples does not know it
    assert spread > 2
    truth = np.var([auc(y, s) for y, s, _ in drawn]) / np.var([auc(y, s) for y, s, _ in alone])
    assert np.mean([design_effect(*split) for split in drawn]) == pytest.approx(truth, rel=0.15)
    assert design_effect(np.arange(8) % 2, np.zeros(8), np.arange(8) // 2) == 1


def test_accuracy_by_hand():
    labels = np.repeat([1, 0], [100, 300])
    calls = np.concatenate([np.arange(100) < 60, np.arange(300) < 90])
    found = accuracy_test(labels, calls)
    assert (found.tpr, found.tnr, found.no_information) == (0.6, pytest.approx(0.7), 0.75)
    assert found.accuracy == score_interval(270 / 400, 400)
    assert found.z == pytest.approx(0.3 / np.sqrt(0.6 * 0.4 / 100 + 0.7 * 0.3 / 300))
    assert found.p == pytest.approx(norm.sf(found.z))
    assert found.p_no_information > 0.99  # below the majority's rate, and yet the classes differ


def test_accuracy_of_biased_calls_errs_at_its_rate():
    rng = np.random.default_rng(11)
    labels = np.arange(1000) % 2
    found = [accuracy_test(labels, rng.random(1000) < 0.05) for _ in range(2000)]
    assert 0.035 <= np.mean([f.p <= 0.05 for f in found]) <= 0.065
    assert np.mean([f.p_no_information <= 0.05 for f in found]) < 0.005  # the usual test hardly ever errs
    assert np.std([f.accuracy.value for f in found]) == pytest.approx(np.sqrt(0.05 * 0.95 / 1000), rel=0.05)


def test_accuracy_over_bricks_errs_at_its_rate():
    rng = np.random.default_rng(12)
    found = {"bricks": [], "examples": []}
    for _ in range(600):
        labels, scores, groups = _scores(rng, shift=0.0, clusters=20, between=0.7)
        found["bricks"].append(accuracy_test(labels, scores > 0, groups))
        found["examples"].append(accuracy_test(labels, scores > 0))
    assert 0.03 <= np.mean([f.p <= 0.05 for f in found["bricks"]]) <= 0.075
    assert np.mean([f.p <= 0.05 for f in found["examples"]]) > 0.15
    for name, share in (("bricks", 0.9), ("examples", 0.0)):
        held = np.mean([f.accuracy.low <= 0.5 <= f.accuracy.high for f in found[name]])
        assert held > share
        assert name == "bricks" or held < 0.8


@pytest.mark.parametrize("calls", [np.zeros(40), np.ones(40)])
def test_accuracy_of_one_answer_is_no_evidence(calls):
    found = accuracy_test(np.arange(40) % 2, calls)
    assert (found.z, found.p, found.accuracy.value) == (0, 1, 0.5)


def test_accuracy_of_perfect_calls():
    labels = np.arange(40) % 2
    right, wrong = accuracy_test(labels, labels), accuracy_test(labels, 1 - labels)
    assert right.z == pytest.approx(np.sqrt(40))
    assert right.p < 1e-9
    assert wrong.z == -right.z
    assert right.p_no_information == pytest.approx(0.5**40)


def test_holm_is_closed_testing_with_bonferroni():
    rng = np.random.default_rng(13)
    for _ in range(20):
        p = rng.random(5) ** 3
        sets = [c for size in range(1, 6) for c in combinations(range(5), size)]
        closed = [max(min(1, len(c) * p[list(c)].min()) for c in sets if i in c) for i in range(5)]
        np.testing.assert_allclose(holm(p), closed)


def test_holm_of_a_published_example():
    """That of Wikipedia's article on the method: the first and the last of four are rejected at 5 %."""
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert list(holm(p) <= 0.05) == [True, False, False, True]


def test_holm_leaves_out_what_was_not_run():
    np.testing.assert_allclose(holm(np.array([0.02, np.nan, 0.01])), [0.02, np.nan, 0.02])
    assert len(holm(np.array([]))) == 0


def test_what_few_bricks_are_worth():
    labels = np.arange(80) % 2
    own = np.where(labels == 1, 0, np.arange(80))  # all fakes in one brick
    for bricks, count in ((np.arange(80) // 4, 20), (np.arange(80) // 14, 6), (np.zeros(80), 1), (own, 1)):
        assert bricks_of_rarer(labels, bricks) == count
    assert usable_bricks(labels, own) is None
    assert usable_bricks(labels, None) is None
    assert usable_bricks(labels, np.arange(80) // 14) is not None


def test_bricks_of_one_class_count():
    """Every brick holds one class only, as where fakes were put into bricks of their own."""
    rng = np.random.default_rng(14)
    hits = 0
    for _ in range(400):
        groups = np.arange(400) % 40
        labels = groups % 2
        scores = rng.normal(size=400) + rng.normal(0, 0.7, 40)[groups]
        found = auc_interval(labels, scores, groups)
        hits += found.low <= 0.5 <= found.high
    assert 365 <= hits <= 393
