"""Numbers from scores alone: strata and equal quantities."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from obiwan.dplearn.controls.metadata import propensity_strata
from obiwan.dplearn.evaluation import analysis
from obiwan.dplearn.evaluation.ensemble import ModelInfo, Scored
from obiwan.dplearn.report import opening
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.clusters import ClusteredBy, Clusters, factorised
from obiwan.dplearn.trainingset.examples import blank_examples
from obiwan.dplearn.twosample import ranking, resampling


def test_strata_of_propensity(rng):
    propensity = rng.uniform(0, 1, 900)
    strata = propensity_strata(propensity, per_stratum=100)
    assert np.unique(strata, return_counts=True)[1].tolist() == [100] * 9
    groups = [propensity[strata == s] for s in range(9)]
    assert all(a.max() < b.min() for a, b in itertools.pairwise(groups))
    assert len(np.unique(propensity_strata(propensity[:90]))) == 5  # never fewer
    assert len(np.unique(propensity_strata(rng.uniform(0, 1, 60_000)))) == 1000
    assert len(np.unique(propensity_strata(np.full(300, 0.5)))) == 1
    propensity[:30] = np.nan
    strata = propensity_strata(propensity)
    assert (strata[:30] == -1).all()
    assert (strata[30:] >= 0).all()


def test_the_network_at_equal_quantities(rng):
    """Scores that follow magnitude, of classes that differ in it: nothing is left at equal magnitude."""
    n = 12_000
    labels = np.arange(n) % 2
    columns = {name: rng.standard_normal(n) for name in ("mag_r", "g_r", "r_z", "shape_r")}
    columns["mag_r"] = columns["mag_r"] + 0.8 * labels
    scored = SimpleNamespace(
        labels=labels,
        scores=columns["mag_r"] + 0.3 * rng.standard_normal(n),
        bricks=(bricks := np.array([f"b{i}" for i in rng.integers(0, 20, n)])),
        clusters=bricks,
    )
    found = analysis.conditional(scored, columns, tuple(columns), 1)
    raw = ranking.auc(labels, scored.scores)
    assert raw > 0.68
    assert found.names == ("mag_r", "g_r", "r_z", "shape_r")
    assert found.strata == n // 60
    assert abs(found.stratified.value - 0.5) < 0.1 * (raw - 0.5)
    assert found.stratified_p > 0.01


def test_unknown_quantities_leave_nothing_to_hold_equal():
    n = 200
    columns = {name: np.full(n, np.nan) for name in ("mag_r", "g_r", "r_z", "shape_r")}
    scored = SimpleNamespace(labels=np.arange(n) % 2, scores=np.linspace(0, 1, n), bricks=np.array(["b"] * n))
    found = analysis.conditional(scored, columns, tuple(columns), 1)
    assert (found.names, found.stratified) == ((), None)
    assert found.unknown == tuple(columns)


def scored_in(rng, grouped: Clusters | None) -> Scored:
    """Scores whose differences between the classes are those of pairs of bricks: 6 independent ones."""
    n = 2400
    rows = blank_examples(n, StampSpec())
    rows["brick"] = [f"b{i:02d}".encode() for i in np.arange(n) % 12]
    rows["label"] = np.arange(n) // 12 % 2
    oddness = np.random.default_rng(5).normal(0, 0.5, 6)[np.arange(n) % 12 // 2]
    scores = 1 / (1 + np.exp(-np.random.default_rng(6).normal(oddness * rows["label"], 1)))
    some = rng.random(40)
    model = ModelInfo("run0/best.keras", "0", "lenet5", learnt=True)
    return Scored(rows, scores[None], np.arange(40) % 2, some, (model,), grouped=grouped)


def test_intervals_rest_on_groups_of_bricks(rng):
    alone = scored_in(rng, None)
    pairs = np.array([f"b{int(name[1:]) // 2 * 2:02d}" for name in alone.brick_names[alone.bricks]])
    paired = replace(alone, grouped=Clusters(*factorised(pairs), ClusteredBy.EXPOSURES, 6, 12, 6))
    by_brick, by_pair = (analysis.answer(one, 1) for one in (alone, paired))
    assert (by_brick.clusters, by_brick.bricks) == (12, 12)
    assert (by_pair.clusters, by_pair.bricks, by_pair.clustered_by) == (6, 12, ClusteredBy.EXPOSURES)
    assert by_pair.auc == ranking.auc_interval(alone.labels, alone.scores, pairs)
    assert by_pair.auc.high - by_pair.auc.low > 1.2 * (by_brick.auc.high - by_brick.auc.low)
    assert by_pair.permutation_p == by_brick.permutation_p  # labels are exchanged within bricks
    given = {"draws": analysis.DRAWS, "rng": np.random.default_rng([1, 2])}
    assert by_pair.flip_p == resampling.flip_test(alone.labels, alone.scores, pairs, **given)
    assert analysis.verdict_of(paired, 0.02, None).numbers.bricks == 6
    assert opening.clusters(by_pair) == "6 groups of bricks that share exposures"
    assert opening.clusters(by_brick) == "12 bricks"
    assert opening.clusters(replace(by_pair, clustered_by=ClusteredBy.CELL), 1) == "1 cell of the sky"


def test_groups_that_are_single_bricks_change_nothing(rng):
    alone = scored_in(rng, None)
    same = replace(alone, grouped=Clusters(alone.brick_names, alone.bricks, ClusteredBy.BRICK, 12, 12, 12))
    assert analysis.answer(same, 1) == analysis.answer(alone, 1)
