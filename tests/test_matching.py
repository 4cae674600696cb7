"""Matching on the sky: who became whom, who lies too near."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from obiwan.dplearn.planning.matching import (
    mutual_nearest,
    nearest_distance,
    one_row_per_source,
    same_source_groups,
    stamp_holds_other,
)

ARCSEC = 1 / 3600
deterministic = settings(derandomize=True, max_examples=40, deadline=None)


def line(*arcsec: float, ra: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Positions along declination, in arcsec."""
    return np.full(len(arcsec), ra), np.array(arcsec, float) * ARCSEC


@pytest.mark.parametrize("dec", [0.0, 61.0, -89.9])
@pytest.mark.parametrize("ra", [0.0002, 123.4, 359.9998])
def test_distance_agrees_with_astropy_also_across_ra_zero(ra, dec, rng):
    here = (ra + rng.uniform(-1, 1, 20) / 600) % 360, dec + rng.uniform(-1, 1, 20) * 1e-3
    there = (ra + rng.uniform(-1, 1, 20) / 600) % 360, dec + rng.uniform(-1, 1, 20) * 1e-3
    a, b = SkyCoord(*here, unit="deg"), SkyCoord(*there, unit="deg")
    expected = a[:, None].separation(b[None, :]).to_value(u.arcsec).min(axis=1)
    np.testing.assert_allclose(nearest_distance(*here, *there), expected, rtol=1e-6, atol=1e-6)


def test_distance_without_others_is_infinite():
    assert np.isinf(nearest_distance(*line(1, 2), np.empty(0), np.empty(0))).all()
    assert nearest_distance(np.empty(0), np.empty(0), *line(1)).shape == (0,)


def test_a_row_is_claimed_once_by_the_nearest():
    # Two injections at 0" and 1.0", one source at 0.9": the second has it, the first goes without.
    index, distance = mutual_nearest(*line(0, 1.0), *line(0.9), 1.5)
    assert index.tolist() == [-1, 0]
    assert np.isnan(distance[0])
    assert distance[1] == pytest.approx(0.1, abs=1e-6)


def test_one_sided_nearest_is_no_match():
    # The source at 0.5 is the nearest of the injection at 0, but it is nearer to the one at 0.7.
    index, _ = mutual_nearest(*line(0, 0.7), *line(0.5, 9.0), 1.5)
    assert index.tolist() == [-1, 0]


@pytest.mark.parametrize(("offset", "matched"), [(1.499, True), (1.501, False)])
def test_radius(offset, matched):
    index, _ = mutual_nearest(*line(0), *line(offset), 1.5)
    assert (index[0] == 0) is np.bool_(matched)


def test_match_across_ra_zero():
    index, distance = mutual_nearest(
        np.array([359.9999]), np.array([10.0]), np.array([0.0001, 180.0]), np.array([10.0, 10.0]), 1.5
    )
    assert index.tolist() == [0]
    assert distance[0] == pytest.approx(0.0002 * 3600 * np.cos(np.radians(10)), rel=1e-4)


def test_empty_lists():
    for n, m in ((0, 0), (0, 3), (3, 0)):
        index, distance = mutual_nearest(np.zeros(n), np.zeros(n), np.zeros(m), np.zeros(m), 1.5)
        assert index.shape == distance.shape == (n,)
        assert (index == -1).all()


@deterministic
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
def test_mutual_nearest_against_all_pairs(seed, n, m):
    rng = np.random.default_rng(seed)
    here, there = line(*rng.uniform(0, 12, n)), line(*rng.uniform(0, 12, m))
    table = np.abs(here[1][:, None] - there[1][None, :]) / ARCSEC
    index, _ = mutual_nearest(*here, *there, 1.5)
    for i in range(n):
        j = int(table[i].argmin())
        mutual = int(table[:, j].argmin()) == i and table[i, j] <= 1.5
        assert index[i] == (j if mutual else -1)
    claimed = index[index >= 0]
    assert len(set(claimed.tolist())) == len(claimed)


@pytest.mark.parametrize(
    ("dx", "dy", "holds"),
    [
        *[(-32, 0, True), (-33, 0, False), (31, 0, True), (32, 0, False)],
        *[(0, -32, True), (0, -33, False), (0, 31, True), (0, 32, False), (31, 32, False)],
        (31.49, 0, True),  # the pixel 31 still
        (31.5, 0, False),  # half-integers belong to the pixel above
    ],
)
def test_stamp_is_half_open(dx, dy, holds):
    x, y = np.array([100.0]), np.array([200.0])
    got = stamp_holds_other(x, y, np.array([-1]), np.array([100.0 + dx]), np.array([200.0 + dy]), 64)
    assert got.tolist() == [holds]


def test_own_injection_does_not_count_but_a_second_one_does():
    injected = np.array([100.0, 110.0]), np.array([100.0, 100.0])
    own = np.array([0])
    at = np.array([100.2]), np.array([100.0])
    assert not stamp_holds_other(*at, own, injected[0][:1], injected[1][:1], 64)[0]
    assert stamp_holds_other(*at, own, *injected, 64)[0]


@deterministic
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(0, 40), st.booleans())
def test_stamps_against_all_pairs(seed, n, m, on_ties):
    rng = np.random.default_rng(seed)
    (x, y), (ix, iy) = rng.uniform(0, 150, (2, n)), rng.uniform(-20, 170, (2, m))
    if on_ties:  # pixels and half-pixels, stamps whose borders meet the injections
        x, y, ix, iy = (np.round(2 * values) / 2 for values in (x, y, ix, iy))
        some = min(n, m)
        ix[:some] = x[:some] + rng.choice([-32.5, -32, -31.5, 31, 31.5, 32], some)
    for values in (x, ix):
        values[rng.random(len(values)) < 0.05] = np.nan
    own = rng.integers(-1, m, n) if m else np.full(n, -1)
    expected = [
        any(
            j != own[i]
            and -32 <= np.floor(ix[j] + 0.5) - np.floor(x[i] + 0.5) < 32
            and -32 <= np.floor(iy[j] + 0.5) - np.floor(y[i] + 0.5) < 32
            for j in range(m)
        )
        for i in range(n)
    ]
    assert stamp_holds_other(x, y, own, ix, iy, 64).tolist() == expected


def test_groups_link_runs_not_rows_of_one_run():
    # Runs 0 and 1 saw the source at 0"; two rows of run 0 at 5" and 5.5" are two sources.
    ra, dec = line(0, 5.0, 5.5, 0.8)
    assert same_source_groups(ra, dec, np.array([0, 0, 0, 1]), 1.0).tolist() == [0, 1, 2, 0]
    assert same_source_groups(ra, dec, np.array([0, 0, 0, 1]), 0.7).tolist() == [0, 1, 2, 3]
    assert same_source_groups(np.empty(0), np.empty(0), np.empty(0, int), 1.0).shape == (0,)


def test_groups_across_ra_zero():
    ra, dec = np.array([359.99995, 0.00005]), np.array([0.0, 0.0])
    assert same_source_groups(ra, dec, np.array([0, 1]), 1.0).tolist() == [0, 0]


def test_one_row_of_each_group_from_an_evenly_drawn_run():
    # 3,000 sources, each twice in run 0 and once in runs 1 and 2: the run is drawn, not the row.
    group = np.repeat(np.arange(3000), 4)
    run = np.tile([0, 0, 1, 2], 3000)
    chosen = one_row_per_source(group, run, np.random.default_rng(1))
    assert group[chosen].tolist() == list(range(3000))
    share = np.bincount(run[chosen]) / 3000
    np.testing.assert_allclose(share, 1 / 3, atol=4 * np.sqrt(2 / 9 / 3000))
    doubles = np.bincount(chosen[run[chosen] == 0] % 4, minlength=2)
    assert abs(doubles[0] / doubles[:2].sum() - 0.5) < 4 * 0.5 / np.sqrt(1000)


def test_one_row_is_seeded():
    group, run = np.repeat(np.arange(50), 2), np.tile([0, 1], 50)
    first, again, other = (one_row_per_source(group, run, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
    assert one_row_per_source(group[:0], run[:0], np.random.default_rng(1)).shape == (0,)


def test_a_run_is_drawn_in_proportion_to_its_weight():
    group = np.repeat(np.arange(20_000), 3)
    run = np.tile([0, 1, 2], 20_000)
    chosen = one_row_per_source(group, run, np.random.default_rng(7), np.array([30, 10, 0]))
    share = np.bincount(run[chosen], minlength=3) / 20_000
    assert share[2] == 0
    assert abs(share[0] - 0.75) < 0.015  # five standard deviations


def test_a_run_without_weight_is_drawn_where_there_is_no_other():
    chosen = one_row_per_source(
        np.array([0, 1]), np.array([1, 1]), np.random.default_rng(7), np.array([5, 0])
    )
    assert chosen.tolist() == [0, 1]
