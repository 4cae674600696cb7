"""AUC in bins: edges that know no label, small bins without an AUC, one correction for all."""

import numpy as np
import pytest
from scipy.stats import norm

from obiwan.dplearn.controls.covariates import Quantity
from obiwan.dplearn.evaluation import bins
from obiwan.dplearn.evaluation.bins import (
    Bins,
    auc_at_percentiles,
    auc_by,
    auc_by_name,
    bin_everything,
    corrected,
    corrected_together,
    quantile_edges,
)
from obiwan.dplearn.twosample.ranking import auc, auc_interval, auc_pvalue
from obiwan.dplearn.twosample.summary import LEAST_CLUSTERS, holm


@pytest.fixture
def examples(rng):
    """Scores whose classes are apart where the quantity is small, and alike where it is large."""
    n = 4000
    labels = np.arange(n) % 2
    values = rng.uniform(20, 24, n)
    scores = rng.standard_normal(n) + 2.0 * labels * (values < 22)
    bricks = np.array([f"b{i:02d}" for i in rng.integers(0, 16, n)])
    return values, labels, scores, bricks


def test_the_difference_is_found_where_it_is(examples):
    values, labels, scores, bricks = examples
    found = corrected(auc_by(values, labels, scores, bricks, edges=[20, 21, 22, 23, 24]))
    expected = norm.cdf(2 / np.sqrt(2))
    assert [b.differs for b in found] == [True, True, False, False]
    for b in found[:2]:
        assert b.auc.value == pytest.approx(expected, abs=0.03)
    for b in found[2:]:
        assert b.auc.low < 0.5 < b.auc.high


def test_a_bin_is_what_its_examples_say(examples):
    values, labels, scores, bricks = examples
    one = auc_by(values, labels, scores, bricks, edges=[20, 21, 24])[0]
    inside = values < 21
    assert (one.real, one.fake) == tuple(np.bincount(labels[inside]))
    assert one.bricks == 16
    assert one.middle == np.median(values[inside])
    assert one.auc == auc_interval(labels[inside], scores[inside], bricks[inside])


def test_a_bin_of_few_bricks_has_the_p_value_of_ranks(examples):
    values, labels, scores, bricks = examples
    one = auc_by(values, labels, scores, np.where(bricks < "b08", "east", "west"), edges=[22, 22.5, 24])[0]
    inside = (values >= 22) & (values < 22.5)
    assert one.p == auc_pvalue(labels[inside], scores[inside], alternative="two-sided")


def test_every_known_example_is_in_one_bin(examples):
    values, labels, scores, bricks = examples
    values = values.copy()
    values[:100] = np.nan
    found = auc_by(values, labels, scores, bricks, quantile_edges(values[100:], 5))
    assert sum(b.real + b.fake for b in found) == len(values) - 100
    counts = [b.real + b.fake for b in found]
    assert max(counts) - min(counts) <= 2
    assert found[-1].high == np.nanmax(values)  # the largest value is inside


def test_edges_do_not_know_the_label(examples):
    values, labels, scores, bricks = examples
    ends = [[(b.low, b.high) for b in auc_by(values, y, scores, bricks)] for y in (labels, 1 - labels)]
    assert ends[0] == ends[1]
    assert len(ends[0]) == bins.MOST_BINS


def test_small_bins_have_no_auc_and_take_no_part_in_the_correction(examples):
    values, labels, scores, bricks = examples
    rare = (values < 21) & (labels == 1)
    keep = ~rare | (np.cumsum(rare) < bins.LEAST)
    values, labels, scores, bricks = (a[keep] for a in (values, labels, scores, bricks))
    found = corrected(auc_by(values, labels, scores, bricks, edges=[20, 21, 22, 24]))
    assert found[0].auc is None
    assert not found[0].differs
    assert np.isnan(found[0].p_holm)
    assert [b.p_holm for b in found[1:]] == pytest.approx(holm(np.array([b.p for b in found[1:]])))


def test_repeated_values_make_fewer_bins():
    values = np.repeat([1.0, 2.0, 3.0], 100)
    labels = np.tile([0, 1], 150)
    edges = quantile_edges(values, 6)
    found = auc_by(values, labels, np.arange(300.0), np.array(["b"] * 300), edges)
    assert [b.real + b.fake for b in found] == [100, 200]


@pytest.mark.parametrize("values", [np.full(300, 7.0), np.full(300, np.nan)])
def test_a_quantity_that_says_nothing_has_no_bins(values):
    labels = np.tile([0, 1], 150)
    assert auc_by(values, labels, np.arange(300.0), np.array(["b"] * 300)) == ()


def test_words_are_bins_too(rng):
    labels = np.tile([0, 1], 200)
    names = np.array(["DECam", "", "90Prime", "DECam"] * 100)
    scores = rng.standard_normal(400) + 3 * labels * (names == "DECam")
    found = auc_by_name(names, labels, scores, np.array(["b"] * 400))
    assert [b.name for b in found] == ["90Prime", "DECam"]
    assert [b.differs for b in found] == [False, True]
    assert found[1].real + found[1].fake == 200


def test_percentiles_in_brightness(rng):
    magnitude = rng.permutation(np.linspace(20, 24, 1001))
    labels = rng.integers(0, 2, 1001)
    found = auc_at_percentiles(magnitude, labels, -magnitude * labels, np.array(["b"] * 1001))
    assert [b.name for b in found] == ["99", "75", "50", "25", "1"]
    assert found[0].low == 20
    assert found[-1].high == 24
    assert [b.middle for b in found] == pytest.approx([20.2, 21, 22, 23, 23.8], abs=0.01)
    assert {b.real + b.fake for b in found} <= {100, 101}


def test_small_tests_have_wider_percentiles(rng):
    labels = np.tile([0, 1], 150)
    found = auc_at_percentiles(
        rng.uniform(20, 24, 300), labels, rng.uniform(0, 1, 300), np.array(["b"] * 300)
    )
    assert [b.real + b.fake for b in found] == [60] * 5


def test_percentiles_without_magnitudes():
    nothing = np.full(100, np.nan)
    found = auc_at_percentiles(nothing, np.tile([0, 1], 50), np.arange(100.0), np.array(["b"] * 100))
    assert all(b.auc is None for b in found)


def test_all_tables_are_one_family(examples, rng):
    values, labels, scores, bricks = examples
    columns = [
        (Quantity("a", "first", unit="mag"), values),
        (Quantity("b", "second"), rng.uniform(0, 1, len(values))),
        (Quantity("word", "third"), np.where(values < 22, "x", "y")),
    ]
    tables = corrected_together(bin_everything(columns, labels, scores, bricks))
    assert [(t.key, t.quantity) for t in tables] == [(q.key, q) for q, _ in columns]
    every = [b for t in tables for b in t.bins]
    assert [b.p_holm for b in every] == pytest.approx(holm(np.array([b.p for b in every])))
    again = corrected_together([*tables, Bins("c", Quantity("c", "fourth"), tables[0].bins)])
    assert again[0].bins[0].p_holm > 0
    assert again[1].bins[0].p_holm >= tables[1].bins[0].p_holm


def test_bins_of_nothing_stay_within_their_rate(rng):
    """Null scores in bricks: any bin of ten called different at most as often as 5 % (and a bit)."""
    wrong = 0
    for _ in range(200):
        values, labels = rng.uniform(0, 1, 600), np.tile([0, 1], 300)
        bricks = rng.integers(0, 12, 600).astype(str)
        found = auc_by(values, labels, rng.standard_normal(600), bricks, quantile_edges(values, 5))
        wrong += any(b.differs for b in corrected(found))
    assert wrong <= 22  # binomial(200, 0.05): 10 expected, more than 22 once in ten thousand


def test_odd_bricks_make_no_trend(rng):
    """Null on average, some bricks easier than others, and quantities that each brick has one value of.

    Bins of a few bricks whose examples are taken for independent would be called different in nearly every
    report.
    """
    wrong, count = 0, 20
    bricks, labels = np.repeat(np.arange(count), 50), np.tile([0, 1], 25 * count)
    quantities = [Quantity(name, name) for name in ("depth", "psf", "ebv")]
    for _ in range(60):
        scores = rng.standard_normal(len(labels)) + labels * rng.normal(0, 0.7, count)[bricks]
        columns = [(quantity, rng.uniform(size=count)[bricks]) for quantity in quantities]
        tables = corrected_together(bin_everything(columns, labels, scores, bricks.astype(str)))
        assert all(b.bricks >= LEAST_CLUSTERS for table in tables for b in table.bins)
        wrong += any(b.differs for table in tables for b in table.bins)
    assert wrong <= 9  # binomial(60, 0.05): 3 expected, more than 9 once in a thousand


def test_a_bin_of_too_few_bricks_has_no_auc(rng):
    labels, values = np.tile([0, 1], 300), np.arange(600.0)
    bricks = (np.arange(600) // 50).astype(str)
    first, last = auc_by(values, labels, rng.standard_normal(600), bricks, edges=[0, 199, 600])
    assert (first.bricks, last.bricks) == (4, 9)
    assert first.auc is None
    assert last.auc is not None
    few = np.minimum(np.arange(600) // 150, 3).astype(str)  # of a test that cannot rest on bricks
    assert auc_by(values, labels, rng.standard_normal(600), few, edges=[0, 199, 600])[0].auc is not None


def test_intervals_rest_on_bricks_where_there_are_enough(rng):
    labels, scores = np.tile([0, 1], 100), rng.standard_normal(200)
    for bricks, clusters in ((np.arange(200) // 2 % 10, True), (np.arange(200) // 2 % 3, False)):
        names = bricks.astype(str)
        (found,) = auc_by(np.arange(200.0), labels, scores, names, edges=[0, 199])
        assert found.auc == auc_interval(labels, scores, names if clusters else None)
        assert found.auc.value == auc(labels, scores)
