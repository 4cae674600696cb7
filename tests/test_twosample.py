"""The statistics, against truth they cannot argue with."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from obiwan.dplearn.twosample import answer, auc, auc_interval, wilson


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
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 10).low == 0
    assert wilson(10, 10).high == 1


def test_delong_variance_by_its_definition():
    labels, scores, _ = _scores(np.random.default_rng(2), n=60)
    fake, real = scores[labels == 1], scores[labels == 0]
    wins = (fake[:, None] > real) + 0.5 * (fake[:, None] == real)
    variance = wins.mean(1).var(ddof=1) / len(fake) + wins.mean(0).var(ddof=1) / len(real)
    found = auc_interval(labels, scores)
    from scipy.stats import t

    assert (found.high - found.low) / 2 == pytest.approx(t.ppf(0.975, 59) * np.sqrt(variance), rel=1e-9)


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


def test_answer_tells_and_does_not_tell():
    rng = np.random.default_rng(5)
    labels, scores, groups = _scores(rng, shift=2.0, clusters=40)
    p = 1 / (1 + np.exp(1 - scores))
    assert answer(labels, p, groups.astype(str)).tells
    assert answer(labels, p, groups.astype(str)).bricks == 40
    shuffled = answer(labels, rng.permutation(p))
    assert not shuffled.tells
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
        ([0, 1, 1], [0.1, 0.2], "as many"),
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
