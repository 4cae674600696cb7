"""Numbers from scores alone: strata and equal quantities."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np

from obiwan.dplearn.controls.metadata import propensity_strata
from obiwan.dplearn.evaluation import analysis
from obiwan.dplearn.twosample import ranking


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
        bricks=np.array([f"b{i}" for i in rng.integers(0, 20, n)]),
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
