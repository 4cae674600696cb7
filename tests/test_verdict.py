"""The verdict: which it is, for which reasons, how often it errs, and its words."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm

from obiwan.dplearn.report.wording import brick_caveat, statement
from obiwan.dplearn.twosample.ranking import Estimate, auc_interval, measure_auc
from obiwan.dplearn.twosample.verdict import Kind, Reason, decide, effect_of, further_examples, kind_of, tost

SEEN, UNSEEN, EASILY = (
    SimpleNamespace(detected=detected, weakest=weakest)
    for detected, weakest in ((True, 0.56), (False, np.nan), (True, 0.99))
)


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


def _decide(split, learnt=True, positive=SEEN, **options):
    return decide(*split, learnt=learnt, positive=positive, **options)


def _words(verdict):
    """All that is said of a verdict."""
    said = statement(verdict, ("Offset: 0.2 px is detected.",))
    return " ".join([said.headline, *said.explanation])


@pytest.fixture(scope="module")
def alike():
    """A split of equal classes that is large enough for the interval to lie within the margin."""
    return _split(np.random.default_rng(1), 40_000)


def test_distinguishable():
    found = _decide(_split(np.random.default_rng(2), area=0.76), positive=None)
    assert found.kind == Kind.DISTINGUISHABLE
    assert found.reasons == (Reason.DIFFERS, Reason.NO_POSITIVE_CONTROL)
    assert found.numbers.needed is None
    assert found.numbers.tost_p > 0.99
    assert found.numbers.auc.low > 0.7
    assert found.numbers.real + found.numbers.fake == 2000
    assert found.numbers.bricks == 40


def test_equivalent(alike):
    found = _decide(alike)
    assert found.kind == Kind.EQUIVALENT
    assert found.reasons == (Reason.WITHIN_MARGIN, Reason.POSITIVE_CONTROL_FOUND)
    assert found.numbers.tost_p < 0.001
    assert "0.48 to 0.52" in statement(found).headline
    assert "Offset: 0.2 px is detected." in _words(found)


@pytest.mark.parametrize(
    ("positive", "reason"),
    [
        (None, Reason.NO_POSITIVE_CONTROL),
        (UNSEEN, Reason.POSITIVE_CONTROL_MISSED),
        (EASILY, Reason.POSITIVE_CONTROL_EASY),
    ],
)
def test_without_a_positive_control_nothing_is_equivalent(alike, positive, reason):
    found = _decide(alike, positive=positive)
    assert found.kind == Kind.INCONCLUSIVE
    assert found.reasons == (Reason.WITHIN_MARGIN, reason)
    assert found.numbers.needed is None
    assert found.numbers.tost_p < 0.001
    assert ("Offset: 0.2 px" in _words(found)) == (positive is not None)


def test_inconclusive_has_how_many_more():
    split = _split(np.random.default_rng(3))
    found = _decide(split)
    assert found.kind == Kind.INCONCLUSIVE
    needed = found.numbers.needed
    assert needed == further_examples(measure_auc(*split), 2000, 0.02, 0.05)
    assert f"{needed:,}" in statement(found).headline


def test_small_but_certain():
    rng = np.random.default_rng(4)
    split = _split(rng, 200_000, area=0.507)
    backed, alone = _decide(split), _decide(split, positive=None)
    assert backed.kind == Kind.EQUIVALENT
    assert alone.kind == Kind.DISTINGUISHABLE
    assert {Reason.DIFFERS, Reason.WITHIN_MARGIN} <= set(backed.reasons) & set(alone.reasons)
    assert "margin" in statement(alone).headline
    strict = _decide(split, margin=0.004)
    assert strict.kind == Kind.DISTINGUISHABLE
    assert Reason.WITHIN_MARGIN not in strict.reasons
    assert "margin" not in statement(strict).headline


def test_not_learnt(alike):
    for positive in (None, UNSEEN, EASILY):
        found = _decide(alike, learnt=False, positive=positive)
        assert found.kind == Kind.NOT_LEARNT
        assert Reason.TRAINING_FAILED in found.reasons
    # What it finds when something is planted it could have learnt here: nothing was to be learnt.
    assert _decide(alike, learnt=False, positive=SEEN).kind == Kind.EQUIVALENT
    constant = _decide((alike[0], np.full(len(alike[0]), 0.5), alike[2]))
    assert constant.kind == Kind.NOT_LEARNT
    assert constant.reasons == (Reason.CONSTANT_SCORE, Reason.POSITIVE_CONTROL_FOUND)
    assert "same score" in statement(constant).headline
    seen_all_the_same = _decide(_split(np.random.default_rng(5), area=0.7), learnt=False, positive=None)
    assert seen_all_the_same.kind == Kind.DISTINGUISHABLE
    assert Reason.TRAINING_FAILED in seen_all_the_same.reasons


def test_the_wrong_way_round():
    found = _decide(_split(np.random.default_rng(6), area=0.3))
    assert found.kind == Kind.DISTINGUISHABLE
    assert {Reason.DIFFERS, Reason.WRONG_WAY} <= set(found.reasons)
    assert "wrong direction" in statement(found).headline


def test_perfect_separation():
    labels = np.arange(400) % 2
    found = _decide((labels, labels + 0.0, np.arange(400) // 20))
    assert found.kind == Kind.DISTINGUISHABLE
    assert "100 of 100 pairs" in _words(found)


@pytest.mark.parametrize("bricks", [1, 3, 7])
def test_few_bricks_limit_the_interval(bricks):
    found = _decide(_split(np.random.default_rng(7), 40_000, bricks=bricks))
    assert found.numbers.bricks == bricks
    assert found.kind == (Kind.EQUIVALENT if bricks == 7 else Kind.INCONCLUSIVE)
    assert (Reason.FEW_BRICKS in found.reasons) == (bricks < 5)
    assert found.numbers.needed is None
    assert brick_caveat(bricks) in _words(found)


def test_unknown_bricks(alike):
    found = _decide((*alike[:2], None))
    assert found.kind == Kind.INCONCLUSIVE
    assert Reason.FEW_BRICKS in found.reasons
    assert found.numbers.bricks is None
    assert brick_caveat(None) in _words(found)


def test_caveats():
    assert not brick_caveat(10)
    assert "32 %" in brick_caveat(6)
    assert "1.3 times" in brick_caveat(6)
    assert "2 bricks only" in brick_caveat(2)
    assert "this brick only" in brick_caveat(1)


def test_design_effect_is_told():
    split = _split(np.random.default_rng(8), odd=0.8)
    found = _decide(split)
    assert found.numbers.design_effect > 1.1
    assert f"design effect {found.numbers.design_effect:.1f}" in _words(found)


def test_every_set_of_reasons_has_a_kind_and_words(alike):
    """No reason is left without a kind, and none makes the words fail."""
    numbers = _decide(alike).numbers
    controls = [reason for reason in Reason if "POSITIVE" in reason.name]
    others = [reason for reason in Reason if reason not in controls]
    kinds = set()
    for control, chosen in product(controls, product((False, True), repeat=len(others))):
        chosen = {reason for reason, holds in zip(others, chosen, strict=True) if holds} | {control}
        reasons = tuple(reason for reason in Reason if reason in chosen)
        kind = kind_of(reasons)
        kinds.add(kind)
        equivalent = kind == Kind.EQUIVALENT
        assert not equivalent or control == Reason.POSITIVE_CONTROL_FOUND
        assert not equivalent or Reason.FEW_BRICKS not in reasons
        for needed in (None, 1200):
            verdict = SimpleNamespace(
                kind=kind, reasons=reasons, numbers=SimpleNamespace(**{**vars(numbers), "needed": needed})
            )
            said = statement(verdict, ("one.",))
            assert said.headline.endswith(".")
            assert all(line.endswith(".") for line in said.explanation)
    assert kinds == set(Kind)


@pytest.mark.parametrize(
    ("labels", "scores", "options", "match"),
    [
        (np.zeros(8), np.arange(8.0), {}, "at least one of each"),
        (np.arange(8) % 2, np.full(8, np.nan), {}, "8 of 8 scores are not finite"),
        (np.arange(8) == 0, np.arange(8.0), {}, "fake examples: there is one"),
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
        if first.numbers.needed is None:
            continue
        asked += 1
        n = 500 + first.numbers.needed
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


def _effect_words(auc):
    """What is said of a difference of this AUC."""
    rng = np.random.default_rng(15)
    found = _decide(_split(rng, area=0.8), positive=None)
    numbers = replace(found.numbers, auc=auc, effect=effect_of(auc), level=0.05)
    return " ".join(statement(replace(found, numbers=numbers)).explanation[1:3])


def test_effect_in_words():
    assert "76 of 100 pairs" in _effect_words(_sure(0.76))
    assert "1.0 standard deviations" in _effect_words(_sure(0.76))
    assert "50.7 of 100" in _effect_words(_sure(0.507))
    assert "more than" in _effect_words(_sure(1.0))
    assert "%" not in _effect_words(_sure(0.5))
    assert "at most 69 %" in _effect_words(_sure(0.76))


def test_bounds_come_from_the_lower_end_of_the_interval():
    auc = Estimate(0.76, 0.7, 0.82)
    assert "at most 77 %" in _effect_words(auc)
    assert effect_of(auc).others == pytest.approx(1 - np.sqrt(0.6))
    assert effect_of(Estimate(0.6, 0.49, 0.71)).others == 0
    assert "%" not in _effect_words(Estimate(0.6, 0.49, 0.71))


def test_a_network_that_learnt_nothing_would_notice_nothing(alike):
    labels, _, bricks = alike
    constant = _decide((labels, np.full(len(labels), 0.5), bricks))
    assert np.isnan(constant.numbers.tost_p)
    for found in (constant, _decide(alike, learnt=False, positive=None)):
        assert found.kind == Kind.NOT_LEARNT
        assert found.numbers.detectable is None
        assert "power" not in _words(found)
    learnt = _decide(alike)
    assert f"classifier AUC of {learnt.numbers.detectable:.3f}" in _words(learnt)


def test_the_least_margin_needs_millions(alike):
    assert _decide(alike, margin=0.001).numbers.needed > 10**6
