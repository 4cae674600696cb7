"""The verdict: which it is, how often it errs, and what it says."""

import numpy as np
import pytest
from scipy.stats import norm

from obiwan.dplearn.twosample import Estimate, auc_interval, measure_auc
from obiwan.dplearn.twosample.effect import effect_of, effect_words
from obiwan.dplearn.twosample.equivalence import further_examples, tost
from obiwan.dplearn.twosample.verdict import (
    SensitivitySummary,
    decide,
)

SEEN = SensitivitySummary(True, ("offset: 0.2 px was detected", "psf: 5 % was detected."), 0.56)
UNSEEN = SensitivitySummary(False, ("offset: 0.5 px was not detected",), np.nan)
EASILY = SensitivitySummary(True, ("offset: 8 px was detected",), 0.99)


def _split(rng, n=2000, area=0.5, bricks=40, odd=0.0):
    """Labels, scores and bricks of Gaussians whose AUC is `area`."""
    groups = np.arange(n) % bricks
    labels = rng.integers(0, 2, n)
    shift = norm.ppf(area) * np.sqrt(2 + odd**2 / 2)
    return (
        labels,
        shift * labels + (labels - 0.5) * odd * rng.normal(size=bricks)[groups] + rng.normal(size=n),
        groups,
    )


def _decide(split, learnt=True, sensitivity=SEEN, **options):
    return decide(*split, learnt=learnt, sensitivity=sensitivity, **options)


@pytest.fixture(scope="module")
def alike():
    """A split of equal classes that is large enough for the interval to lie within the margin."""
    return _split(np.random.default_rng(1), 40_000)


def test_distinguishable():
    found = _decide(_split(np.random.default_rng(2), area=0.76), sensitivity=None)
    assert found.kind == "distinguishable"
    assert found.needed is None
    assert found.tost_p > 0.99
    text = " ".join(found.explanation)
    assert "of 100 pairs (50 is guessing)" in text
    assert "standard deviations apart" in text
    assert "real and" in text
    assert found.auc.low > 0.7


def test_equivalent(alike):
    found = _decide(alike)
    assert found.kind == "equivalent"
    assert found.tost_p < 0.001
    assert "0.48 to 0.52" in found.headline
    assert "offset: 0.2 px was detected." in found.explanation
    assert "psf: 5 % was detected." in found.explanation


@pytest.mark.parametrize(
    ("sensitivity", "says"),
    [
        (None, "--sensitivity"),
        (UNSEEN, "did not find what was planted"),
        (EASILY, "hard to miss (AUC 0.990 at the weakest, more than 0.75)"),
    ],
)
def test_without_a_positive_control_nothing_is_equivalent(alike, sensitivity, says):
    found = _decide(alike, sensitivity=sensitivity)
    assert found.kind == "inconclusive"
    assert found.needed is None
    assert "positive control" in found.headline
    assert says in " ".join(found.explanation)
    assert found.tost_p < 0.001


def test_inconclusive_says_how_many_more():
    split = _split(np.random.default_rng(3))
    found = _decide(split)
    assert found.kind == "inconclusive"
    assert found.needed == further_examples(measure_auc(*split), 2000, 0.02, 0.05)
    assert f"{found.needed:,}" in found.headline


def test_small_but_certain():
    rng = np.random.default_rng(4)
    split = _split(rng, 200_000, area=0.507)
    backed, alone = _decide(split), _decide(split, sensitivity=None)
    assert backed.kind == "equivalent"
    assert any("can be measured" in line for line in backed.explanation)
    assert alone.kind == "distinguishable"
    assert "less than the margin" in alone.headline
    strict = _decide(split, margin=0.004)
    assert strict.kind == "distinguishable"
    assert "less than the margin" not in strict.headline


def test_not_learnt(alike):
    for sensitivity in (None, UNSEEN, EASILY):
        found = _decide(alike, learnt=False, sensitivity=sensitivity)
        assert found.kind == "not learnt"
        assert "did not learn" in found.headline
    # What it finds when something is planted it could have learnt here: nothing was to be learnt.
    assert _decide(alike, learnt=False, sensitivity=SEEN).kind == "equivalent"
    constant = _decide((alike[0], np.full(len(alike[0]), 0.5), alike[2]))
    assert constant.kind == "not learnt"
    assert "same score" in constant.headline
    seen_all_the_same = _decide(_split(np.random.default_rng(5), area=0.7), learnt=False, sensitivity=None)
    assert seen_all_the_same.kind == "distinguishable"
    assert any("did not go as it should" in line for line in seen_all_the_same.explanation)


def test_the_wrong_way_round():
    found = _decide(_split(np.random.default_rng(6), area=0.3))
    assert found.kind == "distinguishable"
    assert "wrong way round" in found.headline


def test_perfect_separation():
    labels = np.arange(400) % 2
    found = _decide((labels, labels + 0.0, np.arange(400) // 20))
    assert found.kind == "distinguishable"
    assert "100 of 100 pairs" in " ".join(found.explanation)


@pytest.mark.parametrize(
    ("bricks", "says"), [(1, "only one brick"), (3, "only 3 bricks"), (7, "only 7 bricks")]
)
def test_few_bricks_say_what_the_interval_is_worth(bricks, says):
    found = _decide(_split(np.random.default_rng(7), 40_000, bricks=bricks))
    assert says in found.explanation[-1].lower()
    assert found.kind == ("equivalent" if bricks == 7 else "inconclusive")
    if bricks < 5:
        assert "bricks" in found.headline
        assert found.needed is None


def test_unknown_bricks(alike):
    found = _decide((*alike[:2], None))
    assert found.kind == "inconclusive"
    assert "not known" in found.explanation[-1]


def test_design_effect_is_told():
    found = _decide(_split(np.random.default_rng(8), odd=0.8))
    assert any("design effect" in line for line in found.explanation)


@pytest.mark.parametrize(
    ("labels", "scores", "options", "match"),
    [
        (np.zeros(8), np.arange(8.0), {}, "at least one of each"),
        (np.arange(8) % 2, np.full(8, np.nan), {}, "8 of 8 scores are not finite"),
        (np.arange(8) == 0, np.arange(8.0), {}, "fake examples: there is one"),
        (np.arange(8) % 2, np.arange(8.0), {"margin": 0.5}, "margin and level"),
        (np.arange(8) % 2, np.arange(8.0), {"level": 0}, "margin and level"),
    ],
)
def test_refusals(labels, scores, options, match):
    with pytest.raises(ValueError, match=match):
        _decide((labels, scores, np.arange(8)), **options)


def test_tost_is_the_interval_of_twice_the_level():
    rng = np.random.default_rng(9)
    outcomes = set()
    for _ in range(200):
        split = _split(rng, 1500, area=0.51)
        interval = auc_interval(*split, level=0.9)
        inside = interval.low > 0.46 and interval.high < 0.54
        assert (tost(measure_auc(*split), 0.04) < 0.05) == inside
        outcomes.add(inside)
    assert outcomes == {True, False}


@pytest.mark.parametrize("odd", [0.0, 0.6])
def test_equal_classes_are_called_distinguishable_at_the_stated_rate(odd):
    rng = np.random.default_rng(10)
    kinds = [_decide(_split(rng, 400, bricks=20, odd=odd)).kind for _ in range(1000)]
    assert 0.03 < kinds.count("distinguishable") / 1000 < 0.072


def test_classes_at_the_margin_are_called_equivalent_at_the_stated_rate():
    rng = np.random.default_rng(11)
    found = [_decide(_split(rng, 2000, area=0.56), margin=0.06).kind for _ in range(600)]
    assert 0.025 < found.count("equivalent") / 600 < 0.075


def test_power_is_as_computed():
    rng = np.random.default_rng(12)
    splits = [_split(rng, 600, area=0.56) for _ in range(500)]
    error = np.sqrt(np.mean([measure_auc(*split).error ** 2 for split in splits]))
    power = norm.sf((2.02 * error - 0.06) / error)
    found = np.mean([_decide(split).kind == "distinguishable" for split in splits])
    assert 0.6 < power < 0.9
    assert found == pytest.approx(power, abs=0.05)


@pytest.mark.parametrize("area", [0.5, 0.52, 0.54])
def test_as_many_examples_as_needed_decide(area):
    """Whatever the truth: no difference, half the margin, all of it."""
    rng = np.random.default_rng(13)
    decided = asked = 0
    while asked < 60:
        small = _split(rng, 500, area=area, bricks=25, odd=0.2)
        first = _decide(small, margin=0.04)
        if first.needed is None:
            continue
        asked += 1
        n = 500 + first.needed
        large = _split(rng, n, area=area, bricks=n // 20, odd=0.2)
        decided += _decide(large, margin=0.04).kind != "inconclusive"
    assert decided >= 54


def test_further_examples_fall_with_the_margin():
    measured = measure_auc(*_split(np.random.default_rng(14)))
    assert further_examples(measured, 2000, 0.4, 0.05) == 1
    loose, tight = (further_examples(measured, 2000, margin, 0.05) for margin in (0.02, 0.01))
    assert tight == pytest.approx(4 * loose + 6000, rel=0.06)


def _sure(value):
    return Estimate(value, value, value)


def test_effect_in_words():
    assert "76 of 100 pairs" in effect_words(_sure(0.76))
    assert "1.0 standard deviations" in effect_words(_sure(0.76))
    assert "50.7 of 100" in effect_words(_sure(0.507))
    assert "more than" in effect_words(_sure(1.0))
    assert "%" not in effect_words(_sure(0.5))
    assert "at least 31 % of the fakes" in effect_words(_sure(0.76))


def test_what_is_said_to_be_so_at_least_is_so_by_the_lower_end_of_the_interval():
    auc = Estimate(0.76, 0.7, 0.82)
    assert "at least 23 % of the fakes" in effect_words(auc)
    assert effect_of(auc).others == pytest.approx(1 - np.sqrt(0.6))
    assert effect_of(Estimate(0.6, 0.49, 0.71)).others == 0
    assert "%" not in effect_words(Estimate(0.6, 0.49, 0.71))


def test_a_network_that_learnt_nothing_would_notice_nothing(alike):
    labels, _, bricks = alike
    constant = _decide((labels, np.full(len(labels), 0.5), bricks))
    assert np.isnan(constant.tost_p)
    for found in (constant, _decide(alike, learnt=False, sensitivity=None)):
        assert found.kind == "not learnt"
        assert found.detectable is None
        assert not any("noticed" in line or "relied on" in line for line in found.explanation)
    learnt = _decide(alike)
    assert f"A true AUC of {learnt.detectable:.3f} would be noticed" in " ".join(learnt.explanation)


def test_a_margin_that_nothing_can_show_is_refused(alike):
    for margin in (1e-300, 0.0009):
        with pytest.raises(ValueError, match=r"at least, got|at least 0\.001"):
            _decide(alike, margin=margin)
    assert _decide(alike, margin=0.001).needed > 10**6
