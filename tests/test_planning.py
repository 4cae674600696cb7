"""The rules of who may be an example, each in a brick made for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from obiwan.dplearn.errors import CatalogError
from obiwan.dplearn.planning import candidates
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.survey.coverage import observed
from obiwan.dplearn.trainingset.examples import FLAG_NEIGHBOUR, FLAG_PADDED
from synthetic import (
    BRICK,
    FAKE,
    REAL,
    Brick,
    Case,
    Objects,
    at,
    both,
    fakes,
    move,
    objects,
    pick,
    planes,
    reals,
)

PX = 0.262  # arcsec


# --- matching -------------------------------------------------------------------------------------


def test_a_recovered_fake_is_centred_on_its_tractor_position(tmp_path):
    seen = move(BRICK, FAKE, 2.0, 1.0)
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, {**seen, "id": np.array([11])}),)).write()
    plan = case.plan()
    (fake,) = plan.rows[plan.rows["label"] == 1]
    assert (fake["x"], fake["y"]) == pytest.approx((62, 61), abs=1e-6)
    assert (fake["ra"], fake["dec"]) == pytest.approx((seen["ra"][0], seen["dec"][0]), abs=1e-12)
    assert (fake["truth_ra"], fake["truth_dec"]) == pytest.approx((FAKE["ra"][0], FAKE["dec"][0]), abs=1e-12)
    assert fake["match_dist"] == pytest.approx(np.hypot(2, 1) * PX, rel=1e-3)
    assert fake["id"] == 500  # the truth's
    assert fake["mag_source"] == b"measured"
    assert (fake["brick"], fake["run"], fake["root"]) == (b"1211p060", b"file0_rs0_skip0", 0)
    (real,) = plan.rows[plan.rows["label"] == 0]
    assert real["id"] == 10
    assert np.isnan(real["match_dist"])
    assert np.isnan(real["truth_ra"])
    assert (fake["truth_dx"], fake["truth_dy"]) == pytest.approx((2, 1), abs=1e-5)
    assert fake["truth_flux_r"] == np.float32(FAKE["flux"][0, 1])
    assert np.isnan([real[name] for name in ("truth_dx", "truth_dy", "truth_flux_r")]).all()


def test_centers_truth(tmp_path):
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, move(BRICK, FAKE, 2, 1)),)).write()
    (fake,) = case.plan(centers="truth").rows[1:]
    assert (fake["x"], fake["y"]) == pytest.approx((60, 60), abs=1e-6)
    assert fake["match_dist"] > 0.5
    assert (fake["truth_dx"], fake["truth_dy"]) == pytest.approx((2, 1), abs=1e-5)  # of the fit nevertheless


@pytest.mark.parametrize(
    ("pixels", "radius", "recovered"), [(5.6, 1.5, True), (5.9, 1.5, False), (5.6, 1.0, False)]
)
def test_default_radius_is_one_and_a_half_arcsec(pixels, radius, recovered, tmp_path):
    assert TrainingConfig().match_radius == 1.5
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, move(BRICK, FAKE, pixels)),)).write()
    assert fakes(case.plan(match_radius=radius)) == ([500] if recovered else [])


def test_a_tractor_row_is_claimed_once(tmp_path):
    # Two injections 4 px apart, one fitted source at the second.
    pair = at((60, 60), (64, 60), first=500)
    fitted = both(REAL, {**move(BRICK, pick(pair, [1]), 0.5), "id": np.array([11])})
    case = Case(tmp_path, injected=(pair,), fitted=(fitted,)).write()
    assert fakes(case.plan(allow_injected_neighbours=True)) == [501]


def test_collided_rows_are_no_injections(tmp_path):
    pair = {**at((60, 60), (60, 180), first=500), "collided": np.array([False, True])}
    fitted = both(pick(pair, [0, 1]), REAL)
    fitted["id"] = np.array([1, 2, 10])
    plan = Case(tmp_path, injected=(pair,), fitted=(fitted,)).write().plan()
    assert fakes(plan) == [500]
    assert reals(plan) == [2, 10]  # what stands where nothing was injected is real
    assert plan.flows["fake"]["catalogue rows"] == 2
    assert plan.flows["fake"]["injected on a CCD"] == 1


def test_sim_ids_added_is_respected(tmp_path):
    pair = at((60, 60), (60, 180), first=500)
    fitted = both(pair, REAL)
    case = Case(tmp_path, kind="obiwan", injected=(pair,), fitted=(fitted,), release=REAL, added=(501,))
    assert fakes(case.write().plan()) == [501]


# --- coincidence with a real source ----------------------------------------------------------------


@pytest.mark.parametrize(("pixels", "kept"), [(5.6, []), (5.9, [500])])
def test_coincident_with_a_release_source(pixels, kept, tmp_path):
    release = both(REAL, {**move(BRICK, FAKE, pixels), "id": np.array([11])})
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, FAKE),), release=release).write()
    plan = case.plan()
    assert fakes(plan) == kept
    assert plan.flows["fake"]["not on a real source"] == len(kept)


def test_coincident_with_a_source_of_another_run(tmp_path):
    # Without a release, run 1 shows what lies under the injection of run 0: it injected elsewhere.
    there = at((60, 150), first=600)
    under = {**move(BRICK, FAKE, 1.0), "id": np.array([12])}
    case = Case(tmp_path, injected=(FAKE, there), fitted=(both(REAL, FAKE), both(REAL, both(under, there))))
    assert fakes(case.write().plan()) == [600]


def test_a_fitted_injection_of_another_run_is_no_real_source(tmp_path):
    # Run 1 injected at nearly the same place: its row there is its own injection.
    again = {**move(BRICK, FAKE, 2.0), "id": np.array([600])}
    case = Case(tmp_path, injected=(FAKE, again), fitted=(both(REAL, FAKE), both(REAL, again)))
    assert fakes(case.write().plan()) == [500, 600]


def test_with_a_release_other_runs_are_not_asked(tmp_path):
    there = at((60, 150), first=600)
    under = {**move(BRICK, FAKE, 1.0), "id": np.array([12])}
    fitted = (both(REAL, FAKE), both(REAL, both(under, there)))
    case = Case(tmp_path, injected=(FAKE, there), fitted=fitted, release=REAL).write()
    assert fakes(case.plan()) == [500, 600]


@pytest.mark.parametrize(("radius", "kept"), [(1.5, ([], [])), (1.0, ([500], [10, 11]))])
def test_close_pairs_of_either_class(radius, kept, tmp_path):
    """Two reals 1.2" apart, and a fake with a second source as near: fakes alone would never be in a pair."""
    pair = both(REAL, {**move(BRICK, REAL, 1.2 / PX), "id": np.array([11])})
    fragment = {**move(BRICK, FAKE, 1.2 / PX), "id": np.array([12])}
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(pair, both(FAKE, fragment)),), release=pair).write()
    plan = case.plan(match_radius=radius)
    assert (fakes(plan), reals(plan)) == kept
    for name, ids in zip(("fake", "real"), kept, strict=True):
        assert plan.flows[name][f'no other source within {radius:g}"'] == len(ids)


def test_duplicates_that_the_pipeline_marks_are_no_pairs(tmp_path):
    twin = {**move(BRICK, REAL, 2.0), "id": np.array([11]), "type": np.array(["DUP"])}
    plan = Case(tmp_path, injected=(FAKE,), fitted=(both(both(REAL, twin), FAKE),)).write().plan()
    assert reals(plan) == [10]


def test_the_run_of_a_real_is_drawn_like_the_fakes(tmp_path):
    """Run 0 has five injections and run 1 has one: of reals in both, five in six are cut from run 0."""
    injected = at((20, 20), (20, 60), (20, 100), (20, 140), (20, 180), first=500), at((20, 20), first=600)
    stars = at(*((80 + 30 * i, 40 + 30 * j) for i in range(4) for j in range(5)), first=10)
    case = Case(tmp_path, injected=injected, fitted=tuple(both(stars, rows) for rows in injected)).write()
    runs = []
    for seed in range(12):
        plan = case.plan(seed=seed, allow_injected_neighbours=True, edge="pad")
        runs += plan.rows["run"][plan.rows["label"] == 0].tolist()
    assert len(runs) == 12 * 20
    assert runs.count(b"file0_rs0_skip0") / len(runs) == pytest.approx(5 / 6, abs=0.08)


# --- reals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arcsec", "kept"), [(4.95, [10]), (5.05, [10, 11])])
@pytest.mark.parametrize("with_release", [True, False])
def test_reals_lie_five_arcsec_from_any_injection(arcsec, kept, with_release, tmp_path):
    near = {**move(BRICK, FAKE, arcsec / PX), "id": np.array([11])}
    fitted = both(FAKE, both(REAL, near))
    release = both(REAL, near) if with_release else None
    case = Case(tmp_path, injected=(FAKE,), fitted=(fitted,), release=release).write()
    assert reals(case.plan(allow_injected_neighbours=True)) == kept


def test_unrecovered_injections_keep_reals_away_too(tmp_path):
    near = {**move(BRICK, FAKE, 10), "id": np.array([11])}
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, near),)).write()
    assert reals(case.plan(allow_injected_neighbours=True)) == [10]


def test_release_positions_are_cut_from_the_injected_coadd(tmp_path):
    release = {**move(BRICK, REAL, 0.3), "id": np.array([77])}
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, FAKE),), release=release).write()
    plan = case.plan()
    (real,) = plan.rows[plan.rows["label"] == 0]
    assert (real["id"], real["run"], real["root"]) == (77, b"file0_rs0_skip0", 0)
    plan = case.plan(reals_from="release")
    (real,) = plan.rows[plan.rows["label"] == 0]
    assert (real["id"], real["run"], real["root"]) == (77, b"release", 1)


def runs_with_one_real(tmp_path: Path, brick: Brick, n: int = 3) -> Case:
    injected = tuple(replace_at(brick, 60, 60 + 5 * i, 500) for i in range(n))
    real = replace_at(brick, 180, 180, 10)
    fitted = tuple(both({**move(brick, real, 0.5 * i), "id": np.array([i])}, injected[i]) for i in range(n))
    return Case(tmp_path, brick, injected=injected, fitted=fitted).write()


def replace_at(brick: Brick, x: float, y: float, number: int) -> Objects:
    return {**objects(brick, [x], [y]), "id": np.array([number])}


def test_one_row_per_source_across_runs(tmp_path):
    case = runs_with_one_real(tmp_path, BRICK)
    plan = case.plan()
    assert len(reals(plan)) == 1
    assert plan.flows["real"]["one row per source"] == 1
    assert len(fakes(plan)) == 3
    drawn = [case.plan(seed=seed).rows["run"][0] for seed in range(24)]
    share = np.unique(drawn, return_counts=True)[1]
    assert len(share) == 3  # every run is drawn
    assert share.min() >= 3
    assert drawn[0] == case.plan(seed=0).rows["run"][0]


def test_the_run_is_drawn_among_those_where_the_source_is_eligible(tmp_path):
    # In run 0 an injection lies in the source's stamp: it can only come from run 1.
    injected = (at((160, 180), first=500), at((60, 60), first=600))
    fitted = tuple(both(REAL, rows) for rows in injected)
    case = Case(tmp_path, injected=injected, fitted=fitted).write()
    runs = {bytes(case.plan(seed=seed).rows["run"][0]) for seed in range(12)}
    assert runs == {b"file0_rs1_skip0"}


def test_rows_of_two_runs_farther_than_one_arcsec_are_two_sources(tmp_path):
    injected = (FAKE, {**FAKE, "id": np.array([600])})
    fitted = (both(REAL, FAKE), both({**move(BRICK, REAL, 1.1 / PX), "id": np.array([4])}, FAKE))
    assert reals(Case(tmp_path, injected=injected, fitted=fitted).write().plan()) == [4, 10]


# --- the stamp ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dx", "shares"), [(31, True), (32, False), (-32, True), (-33, False)])
def test_no_foreign_injection_in_a_stamp_of_either_class(dx, shares, tmp_path):
    # An unrecovered injection dx from the fake, and dx from the real.
    lone = at((100 + dx, 60), (100 + dx, 180), first=900)
    injected = both(at((100, 60), first=500), lone)
    fitted = both(at((100, 60), first=20), at((100, 180), first=10))
    case = Case(tmp_path, injected=(injected,), fitted=(fitted,)).write()
    plan = case.plan()
    assert fakes(plan) == ([] if shares else [500])
    assert reals(plan) == ([] if shares else [10])
    lifted = case.plan(allow_injected_neighbours=True)
    assert fakes(lifted) == [500]
    assert reals(lifted) == [10]
    assert (lifted.rows["flags"] == (FLAG_NEIGHBOUR if shares else 0)).all()
    assert "no other injection in the stamp" not in lifted.flows["real"]


def test_edge_drop_and_pad(tmp_path):
    inject, real = at((31, 60), (32, 180), first=500), at((225, 60), (224, 180), first=10)
    case = Case(tmp_path, injected=(inject,), fitted=(both(real, inject),)).write()
    plan = case.plan()
    assert (fakes(plan), reals(plan)) == ([501], [11])
    plan = case.plan(edge="pad")
    assert (fakes(plan), reals(plan)) == ([500, 501], [10, 11])
    flag_of = dict(zip(plan.rows["id"].tolist(), plan.rows["flags"].tolist(), strict=True))
    assert flag_of == {500: FLAG_PADDED, 501: 0, 10: FLAG_PADDED, 11: 0}


def test_coverage_in_all_three_bands_for_both_classes(tmp_path):
    inject = at((50, 50), (50, 130), (50, 210), (120, 50), first=500)
    real = at((200, 50), (200, 130), (200, 210), (130, 210), first=10)
    data = planes(BRICK, both(inject, real))
    for i, band in enumerate("grz"):
        for rows in (inject, real):
            data["invvar", band][int(rows["y"][i]), int(rows["x"][i])] = 0
    case = Case(tmp_path, injected=(inject,), fitted=(both(real, inject),), data=data).write()
    plan = case.plan()
    assert (fakes(plan), reals(plan)) == ([503], [13])


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_negative_or_unknown_invvar_at_the_centre_is_no_coverage(value, tmp_path):
    data = planes(BRICK, both(FAKE, REAL))
    data["invvar", "z"][60, 60] = value
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, FAKE),), data=data).write()
    assert (fakes(case.plan()), reals(case.plan())) == ([], [10])


@pytest.mark.parametrize("ra", [121.1, 0.0, 359.999])
def test_primary_area_of_both_classes(ra, tmp_path):
    # The synthetic primary area begins at 8 px; stamps are padded so that the edge does not decide.
    brick = replace(BRICK, ra=ra)
    inject = {**objects(brick, [7.0, 9.0], [60, 180.0]), "id": np.array([500, 501])}
    real = {**objects(brick, [248.0, 246.0], [60, 180.0]), "id": np.array([10, 11])}
    case = Case(tmp_path, brick, injected=(inject,), fitted=(both(real, inject),)).write()
    plan = case.plan(edge="pad")
    assert (fakes(plan), reals(plan)) == ([501], [11])


def test_dup_rows_are_neither_reals_nor_matches(tmp_path):
    fitted = both(REAL, FAKE)
    fitted["type"] = np.array(["EXP", "DUP"])
    case = Case(tmp_path, injected=(FAKE,), fitted=(fitted,)).write()  # and a DUP row on REAL
    plan = case.plan()
    assert (fakes(plan), reals(plan)) == ([], [10])
    assert plan.flows["real"]["catalogue rows"] == 1


def test_the_same_cuts_on_both_classes_on_measured_values(tmp_path):
    # The truth is within the cuts, what was measured is not.
    faint = {**FAKE, "flux": FAKE["flux"] * 0.01}
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, faint),)).write()
    assert (fakes(case.plan(select="elg")), reals(case.plan(select="elg"))) == ([], [10])


# --- a user's own tables ---------------------------------------------------------------------------


def table(path: Path, rows: Objects, **columns) -> Path:
    n = len(rows["id"])
    data = {"brick": ["1211p060"] * n, "ra": rows["ra"], "dec": rows["dec"], "id": rows["id"], **columns}
    Table(data).write(path, overwrite=True)
    return path


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".csv"])
def test_a_table_of_fakes_in_the_release_against_its_reals(suffix, tmp_path):
    listed = at((70, 70), (20, 70), first=300)
    case = Case(tmp_path, release=both(REAL, at((180, 60), first=14))).write()
    path = table(tmp_path / f"mine{suffix}", listed)
    plan = case.plan({"fake_table": path}, reals_from="release")
    assert (fakes(plan), reals(plan)) == ([300], [10, 14])  # the second stamp leaves the coadd
    fake = plan.rows[plan.rows["label"] == 1][0]
    assert (fake["run"], fake["mag_source"]) == (b"release", b"table")
    assert (fake["x"], fake["y"]) == pytest.approx((70, 70), abs=1e-5)


def test_a_table_of_fakes_in_injected_coadds_obeys_the_other_rules(tmp_path):
    injected = at((60, 60), (60, 180), (181, 180), first=500)
    listed = at((60, 60), (80, 180), (181, 180), first=300)
    case = Case(tmp_path, injected=(injected,), fitted=(both(REAL, injected),), release=REAL).write()
    path = table(tmp_path / "mine.csv", listed, run=["file0_rs0_skip0"] * 3)
    # 300 is an injection; a foreign one lies in the stamp of 301; 302 is an injection on a real source.
    assert fakes(case.plan({"fake_table": path})) == [300]
    assert fakes(case.plan({"fake_table": path}, allow_injected_neighbours=True)) == [300, 301]


def test_no_pixel_carries_both_labels(tmp_path):
    """What the user lists as a fake is not a real as well, whatever the catalogue says."""
    listed = {**move(BRICK, REAL, 2.0), "id": np.array([300])}
    case = Case(tmp_path, release=both(REAL, at((100, 100), first=14))).write()
    path = table(tmp_path / "mine.csv", listed)
    plan = case.plan({"fake_table": path}, reals_from="release")
    assert (fakes(plan), reals(plan)) == ([300], [14])
    assert plan.flows["real"]["not in the table of fakes"] == 1


def test_a_table_of_reals(tmp_path):
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, FAKE),)).write()
    listed = at((150, 150), (65, 60), first=300)
    path = table(tmp_path / "mine.ecsv", listed, run=["file0_rs0_skip0"] * 2)
    plan = case.plan({"real_table": path})
    assert (fakes(plan), reals(plan)) == ([500], [300])  # the other is 1.3" from an injection


def test_a_source_that_a_table_of_reals_repeats_is_used_once(tmp_path):
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, FAKE),)).write()
    listed = at((150, 150), (150, 151), (150, 90), (150, 150))  # 0.26" apart, and equal
    path = table(tmp_path / "mine.csv", listed, run=["file0_rs0_skip0"] * 4)
    plan = case.plan({"real_table": path})
    assert reals(plan) == [0, 2]
    assert [plan.flows["real"][name] for name in ("catalogue rows", "listed once")] == [4, 2]
    assert any("mine.csv" in note and "2 row(s)" in note for note in plan.notes)


def test_an_injection_that_a_table_of_fakes_repeats_is_used_once(tmp_path):
    """Nor is its second row an injection beside it."""
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, FAKE),)).write()
    listed = {"ra": np.repeat(FAKE["ra"], 2), "dec": np.repeat(FAKE["dec"], 2), "id": np.arange(2)}
    path = table(tmp_path / "mine.csv", listed, run=["file0_rs0_skip0"] * 2)
    plan = case.plan({"fake_table": path})
    assert fakes(plan) == [0]
    assert [plan.flows["fake"][name] for name in ("catalogue rows", "listed once")] == [2, 1]


def test_a_table_that_names_an_unknown_run(tmp_path):
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, FAKE),)).write()
    path = table(tmp_path / "mine.csv", REAL, run=["rs77"])
    with pytest.raises(CatalogError, match=r"mine.csv: brick 1211p060 \(rs77\): no tree given"):
        case.plan({"real_table": path})


def test_magnitudes_of_a_table_pass_through_the_cuts(tmp_path, monkeypatch):
    case = Case(tmp_path, release=REAL).write()
    listed = at((60, 60), (60, 130), first=300)
    path = table(tmp_path / "mine.csv", listed, mag_g=[22.0, 30.0])
    (tmp_path / "cuts_of_table.py").write_text("def bright(s):\n    return s.mag[:, 0] < 25\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plan = case.plan({"fake_table": path}, reals_from="release", select="cuts_of_table:bright")
    assert fakes(plan) == [300]
    assert plan.rows["mag_g"][plan.rows["label"] == 1] == pytest.approx(22.0)


def test_each_invvar_plane_of_a_run_is_read_once_for_both_classes(tmp_path, monkeypatch):
    read = []

    def counted(coverage, x, y, shape):
        read.append((coverage.run.run, coverage.band))
        return observed(coverage, x, y, shape)

    monkeypatch.setattr(candidates, "observed", counted)
    case = Case(tmp_path, injected=(FAKE, FAKE), fitted=(both(REAL, FAKE), both(REAL, FAKE))).write()
    plan = case.plan(allow_injected_neighbours=True)
    assert {row["label"] for row in plan.rows} == {0, 1}
    runs = ("file0_rs0_skip0", "file0_rs1_skip0")
    assert sorted(read) == [(run, band) for run in runs for band in "grz"]
