"""Ranks stand for scores, and numbers for names: whatever rests on them stays the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from obiwan.dplearn.evaluation.bins import auc_at_percentiles, auc_by
from obiwan.dplearn.trainingset.clusters import factorised
from obiwan.dplearn.twosample import calibration, ranking, resampling, signflips, summary
from obiwan.dplearn.twosample.ranks import Strata, count_different, numbered, placements
from obiwan.dplearn.twosample.verdict import decide

N, BRICKS = 4000, 20


@pytest.fixture
def given(rng):
    """Labels, scores with ties, names of bricks, and strata."""
    labels, brick = rng.integers(0, 2, N), rng.integers(0, BRICKS, N)
    scores = 1 / (1 + np.exp(-(rng.normal(0.2 * labels + 0.1 * brick).round(2))))
    return labels, scores, np.array([f"{k:04d}p{k % 7:03d}" for k in brick]), rng.integers(0, 5, N)


def test_numbers_of_values(rng):
    for values in (
        rng.normal(size=300).round(1),
        rng.integers(0, 90, 300),
        rng.integers(-5, 5, 300),
        rng.integers(0, 2**40, 300),
        rng.random(300) < 0.3,
        np.array([f"b{k}" for k in rng.integers(0, 30, 300)]),
    ):
        expected = np.unique(values, return_inverse=True)[1].ravel()
        assert np.array_equal(numbered(values), expected)
        assert np.array_equal(numbered(expected), expected)
        assert count_different(values) == len(np.unique(values))
    assert len(numbered(np.empty(0))) == count_different(np.empty(0, int)) == 0


def test_ranks_and_placements_within_strata(given):
    labels, scores, _, strata = given
    order, placed = Strata.of(scores, strata), placements(labels == 1, scores, strata)
    for stratum in range(5):
        here = strata == stratum
        assert np.array_equal(order.midranks()[here], rankdata(scores[here]))
        mine, other = scores[here & (labels == 1)], scores[here & (labels == 0)]
        wins = (mine[:, None] > other) + 0.5 * (mine[:, None] == other)
        assert placed[here & (labels == 1)] == pytest.approx(wins.mean(1), abs=1e-14)
        assert placed[here & (labels == 0)] == pytest.approx(wins.mean(0), abs=1e-14)


def numbers_of(labels, scores, bricks, strata, *, draws=60):
    """All that an evaluation makes of scores and bricks."""
    streams = [np.random.default_rng(seed) for seed in (1, 2, 3)]
    found = decide(labels, scores, bricks, learnt=True, positive=None)
    usable = summary.usable_bricks(labels, bricks)
    one = ranking.stratified_auc(labels, scores, strata, usable)
    units, on_bricks = signflips.flip_units(labels, bricks)
    columns = [*auc_by(strata + labels / 9, labels, scores, bricks)]
    columns += auc_at_percentiles(np.arange(N) * 1.0, labels, scores, bricks)
    return [
        *(getattr(found.numbers.auc, name) for name in ("value", "low", "high")),
        *(getattr(found.numbers, name) for name in ("p", "tost_p", "design_effect", "detectable")),
        *(one.value, one.low, one.high),
        resampling.permutation_test(labels, scores, bricks, draws=draws, rng=streams[0]),
        resampling.permutation_test(labels, scores, bricks, strata, draws=draws, rng=streams[1]),
        resampling.flip_test(labels, scores, bricks, draws=draws, rng=streams[2]),
        ranking.auc(labels, scores),
        ranking.auc_pvalue(labels, scores, None, "two-sided"),
        *(number for b in columns if b.auc for number in (b.auc.value, b.auc.low, b.auc.high, b.p, b.bricks)),
        float(units.sum()),
        float(on_bricks),
    ]


@pytest.mark.parametrize("drawn", [10**9, 0], ids=["drawn", "by moments"])
def test_everything_is_the_same_of_ranks_and_of_scores(given, monkeypatch, drawn):
    monkeypatch.setattr(resampling, "DRAWN", drawn)
    labels, scores, bricks, strata = given
    expected = numbers_of(labels, scores, bricks, strata)
    found = numbers_of(labels, numbered(scores), factorised(bricks)[1], strata)
    assert len(expected) > 30
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)
    bounds = [calibration.bounds(labels, scores, bricks, ranks=ranks) for ranks in (None, numbered(scores))]
    assert bounds[0] == bounds[1]


def test_names_of_bytes_and_of_text(rng):
    names = np.array([f"{k:04d}m{k % 11:03d}" for k in rng.integers(0, 700, 5000)])
    table = np.zeros(5000, [("flag", "u1"), ("brick", "S24")])  # with other columns between them
    table["brick"] = names
    for given in (names, table["brick"], names.astype("S8"), np.char.add(names, "  ").astype("S10")):
        kinds, numbers = factorised(given)
        assert np.array_equal(kinds, np.unique(names))
        assert np.array_equal(kinds[numbers], names)
    assert [part.tolist() for part in factorised(np.zeros(0, "S5"))] == [[], []]


def test_names_whose_numbers_collide_are_still_apart(monkeypatch, rng):
    names, unique = rng.integers(0, 9, 50).astype("S3"), np.unique

    def all_alike(values, **options):
        return unique(np.zeros_like(values) if values.dtype == np.uint64 else values, **options)

    monkeypatch.setattr(np, "unique", all_alike)
    kinds, numbers = factorised(names)
    assert np.array_equal(kinds[numbers], names.astype(str))
