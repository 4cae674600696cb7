"""The rules of who may be an example, each in a brick made for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from obiwan.dplearn.config import TrainingConfig
from obiwan.dplearn.errors import CatalogError, LayoutError
from obiwan.dplearn.examples import FLAG_NEIGHBOUR, FLAG_PADDED, FLAG_UNMATCHED
from obiwan.dplearn.fields import open_field
from obiwan.dplearn.inputs import resolve_inputs
from obiwan.dplearn.planning import BrickPlan, plan_brick
from synthetic import (
    Brick,
    Objects,
    Place,
    bricks_apart,
    join,
    move,
    objects,
    pick,
    planes,
    write_run,
)

BRICK = Brick("1211p060", 121.1, 6.0)
PX = 0.262  # arcsec
NONE = objects(BRICK, [], [])


@dataclass(frozen=True)
class Case:
    """One brick: what each run injected and fitted, and what its release lists."""

    tmp: Path
    brick: Brick = BRICK
    kind: str = "legacysim"
    injected: tuple[Objects, ...] = ()
    fitted: tuple[Objects | None, ...] = ()
    release: Objects | None = None
    data: dict = field(default_factory=dict)
    added: tuple[int, ...] | None = None
    command: str = "runbrick.py"
    camera: str = "decam"
    flavour: str = "dr9"

    def write(self) -> Case:
        names = {"legacysim": "file0_rs{}_skip0"}.get(self.kind, "rs{}")
        for i, (injected, fitted) in enumerate(zip(self.injected, self.fitted, strict=True)):
            write_run(
                Place(self.kind, self.tmp / "fake", self.brick.name, names.format(i)),
                self.brick,
                fitted,
                injected,
                data=self.data or planes(self.brick, injected),
                suffix=".fits",
                added=self.added,
                command=self.command,
                camera=self.camera,
                flavour=self.flavour,
            )
        if self.release is not None:
            write_run(
                Place("release", self.tmp / "real", self.brick.name),
                self.brick,
                self.release,
                suffix=".fits",
                flavour=self.flavour,
            )
        return self

    def plan(self, tables: dict | None = None, **options) -> BrickPlan:
        config = TrainingConfig(**{"select": "none", **options})
        fake = [self.tmp / "fake"] if (self.tmp / "fake").is_dir() else []
        real = [self.tmp / "real"] if self.release is not None else []
        inputs = resolve_inputs(fake=fake, real=real, config=config, **(tables or {}))
        (brick,) = inputs.bricks
        return plan_brick(brick, config)


def ids(plan: BrickPlan, label: int) -> list[int]:
    return sorted(plan.rows["id"][plan.rows["label"] == label].tolist())


def reals(plan: BrickPlan) -> list[int]:
    return ids(plan, 0)


def fakes(plan: BrickPlan) -> list[int]:
    return ids(plan, 1)


def at(*xy: tuple[float, float], first: int = 0, **given) -> Objects:
    x, y = np.array(xy, float).T
    return {**objects(BRICK, x, y, **given), "id": np.arange(first, first + len(xy))}


def both(one: Objects, two: Objects) -> Objects:
    """One after the other, ids kept."""
    return {**join(one, two), "id": np.r_[one["id"], two["id"]]}


FAKE = at((60, 60), first=500)
REAL = at((180, 180), first=10)


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


def test_centers_truth(tmp_path):
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, move(BRICK, FAKE, 2, 1)),)).write()
    (fake,) = case.plan(centers="truth").rows[1:]
    assert (fake["x"], fake["y"]) == pytest.approx((60, 60), abs=1e-6)
    assert fake["match_dist"] > 0.5


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


# --- whole trees that are refused or warned about --------------------------------------------------


def crowd(n: int, rng: np.random.Generator, where: Objects | None = None) -> Objects:
    if where is None:
        return at(*rng.uniform(20, 236, (n, 2)))
    i = rng.integers(0, len(where["id"]), n)
    angle = rng.uniform(0, 2 * np.pi, n)
    x, y = where["x"][i] + 25 * np.cos(angle), where["y"][i] + 25 * np.sin(angle)
    return at(*np.stack([x, y], 1))


@pytest.mark.parametrize("kind", ["obiwan", "obiwan2017"])
def test_partial_fits_are_refused_without_a_release(kind, tmp_path):
    case = Case(tmp_path, kind=kind, injected=(FAKE,), fitted=(both(REAL, FAKE),)).write()
    with pytest.raises(LayoutError, match=r"fitted only blobs that hold an injection.*--real"):
        case.plan()
    case = Case(tmp_path / "b", kind=kind, injected=(FAKE,), fitted=(both(REAL, FAKE),), release=REAL)
    assert fakes(case.write().plan()) == [500]


def test_the_command_line_of_the_runs_is_believed(tmp_path):
    def case(name: str, kind: str, command: str) -> Case:
        made = Case(tmp_path / name, kind=kind, injected=(FAKE,), fitted=(both(REAL, FAKE),), command=command)
        return made.write()

    assert reals(case("a", "obiwan", "kenobi.py --all-blobs -b x").plan()) == [10]
    with pytest.raises(LayoutError, match="fitted only blobs"):
        case("b", "legacysim", "runbrick.py --sim-blobs").plan()


def test_positions_tell_what_was_fitted(tmp_path, rng):
    everywhere, near = crowd(60, rng), crowd(60, rng, FAKE)
    near = {**near, "id": np.arange(60)}
    all_blobs = Case(tmp_path / "a", kind="obiwan", injected=(FAKE,), fitted=(both(everywhere, FAKE),))
    assert reals(all_blobs.write().plan())
    sim_blobs = Case(tmp_path / "b", injected=(FAKE,), fitted=(both(near, FAKE),))
    with pytest.raises(LayoutError, match="fitted only blobs"):
        sim_blobs.write().plan()


@pytest.mark.parametrize("camera", ["90prime", "mosaic", "Mosaic3"])
def test_northern_cameras_are_refused_in_original_trees(camera, tmp_path):
    case = Case(
        tmp_path,
        kind="obiwan",
        injected=(FAKE,),
        fitted=(both(REAL, FAKE),),
        release=REAL,
        camera=camera,
        flavour="dr5",
    ).write()
    with pytest.raises(
        LayoutError, match=rf"brick 1211p060 \(rs0\) has images of {camera.lower()}.*--bricks"
    ):
        case.plan()


def test_northern_cameras_are_fine_elsewhere(tmp_path):
    for kind, flavour in (("legacysim", "dr9"), ("obiwan", "dr9")):  # the second is obiwan_dr9m
        case = Case(
            tmp_path / kind,
            kind=kind,
            injected=(FAKE,),
            fitted=(both(REAL, FAKE),),
            release=REAL,
            camera="90prime",
            flavour=flavour,
        ).write()
        assert fakes(case.plan()) == [500]


def test_trees_without_coadds_are_refused(tmp_path):
    case = Case(tmp_path, kind="obiwan_code", injected=(FAKE,), fitted=(both(REAL, FAKE),), release=REAL)
    case.write()
    for plane in (tmp_path / "fake").rglob("*-image-*"):
        plane.unlink()
    with pytest.raises(LayoutError, match=r"obiwan_code tree without coadd images.*rerun"):
        case.plan()


def test_early_trees_need_truth_centres_and_a_release(tmp_path):
    case = Case(tmp_path, kind="obiwan", injected=(FAKE,), fitted=(None,), release=REAL).write()
    with pytest.raises(LayoutError, match=r"early-coadds tree .*use --centers truth"):
        case.plan()
    plan = case.plan(centers="truth", select="elg")
    assert (fakes(plan), reals(plan)) == ([500], [10])
    fake = plan.rows[plan.rows["label"] == 1][0]
    assert fake["mag_source"] == b"truth"
    assert fake["flags"] == FLAG_UNMATCHED
    assert (fake["x"], fake["y"]) == pytest.approx((60, 60), abs=1e-6)
    assert np.isnan(fake["match_dist"])
    alone = Case(tmp_path / "alone", kind="obiwan", injected=(FAKE,), fitted=(None,)).write()
    with pytest.raises(LayoutError, match=r"no reals of its own; give the data release with --real"):
        alone.plan(centers="truth")


def test_a_lost_catalogue_is_an_error(tmp_path):
    case = Case(tmp_path, injected=(FAKE, FAKE), fitted=(both(REAL, FAKE), None), release=REAL).write()
    with pytest.raises(
        CatalogError, match=r"brick 1211p060 \(file0_rs1_skip0\): no tractor catalogue.*--bricks"
    ):
        case.plan()


def test_an_empty_catalogue_leaves_nothing(tmp_path):
    empty = {name: value[:0] for name, value in REAL.items()}
    plan = Case(tmp_path, injected=(FAKE,), fitted=(empty,)).write().plan()
    assert len(plan.rows) == 0
    assert plan.flows["fake"]['recovered: mutual match in 1.5"'] == 0


def test_legacysim_truth_gets_the_transmission_of_its_neighbourhood(tmp_path):
    Case(tmp_path, kind="legacysim", injected=(FAKE,), fitted=(both(REAL, FAKE),)).write()
    config = TrainingConfig(select="none")
    (brick,) = resolve_inputs(fake=[tmp_path / "fake"], config=config).bricks
    truth = open_field(brick.runs[0]).truth
    np.testing.assert_allclose(truth.mw_transmission, [[0.90, 0.93, 0.96]], rtol=1e-6)


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
    injected = at((60, 60), (60, 180), first=500)
    on_real = {**move(BRICK, REAL, 1), "id": np.array([302])}
    listed = both(at((60, 60), (80, 180), first=300), on_real)
    case = Case(tmp_path, injected=(injected,), fitted=(both(REAL, injected),), release=REAL).write()
    path = table(tmp_path / "mine.csv", listed, run=["file0_rs0_skip0"] * 3)
    plan = case.plan({"fake_table": path})
    # 300 is an injection itself; a foreign injection lies in the stamp of 301; 302 lies on a real source.
    assert fakes(plan) == [300]
    assert fakes(case.plan({"fake_table": path}, allow_injected_neighbours=True)) == [300, 301]


def test_a_table_of_reals(tmp_path):
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, FAKE),)).write()
    listed = at((150, 150), (65, 60), first=300)
    path = table(tmp_path / "mine.ecsv", listed, run=["file0_rs0_skip0"] * 2)
    plan = case.plan({"real_table": path})
    assert (fakes(plan), reals(plan)) == ([500], [300])  # the other is 1.3" from an injection


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


# --- inputs of several trees ------------------------------------------------------------------------


def test_warnings_of_a_risky_choice(tmp_path):
    case = Case(tmp_path, kind="obiwan", injected=(FAKE,), fitted=(None,), release=REAL).write()
    config = TrainingConfig(select="none", reals_from="release", centers="truth")
    inputs = resolve_inputs(fake=[tmp_path / "fake"], real=[tmp_path / "real"], config=config)
    text = "\n".join(inputs.warnings)
    for word in ("D9", "--centers truth", "early-coadds tree", "1.3 to 1.6 px"):
        assert word in text
    assert case.plan(reals_from="release", centers="truth").rows["run"][0] == b"release"


def test_several_roots_are_one_brick_together(tmp_path):
    for name, run in (("a", "file0_rs0_skip0"), ("b", "file0_rs0_skip0")):
        write_run(
            Place("legacysim", tmp_path / name, BRICK.name, run),
            BRICK,
            both(REAL, FAKE),
            FAKE,
            suffix=".fits",
        )
    config = TrainingConfig(select="none")
    inputs = resolve_inputs(fake=[tmp_path / "a", tmp_path / "b"], config=config)
    (brick,) = inputs.bricks
    plan = plan_brick(brick, config)
    assert fakes(plan) == [500, 500]
    assert sorted(plan.rows["root"][plan.rows["label"] == 1]) == [0, 1]
    assert reals(plan) == [10]
    with pytest.raises(LayoutError, match="given twice"):
        resolve_inputs(fake=[tmp_path / "a", tmp_path / "a" / ".." / "a"], config=config)


def test_bricks_of_a_list(tmp_path):
    for brick in bricks_apart(3):
        inject, real = objects(brick, [60], [60]), objects(brick, [180], [180])
        place = Place("legacysim", tmp_path / "fake", brick.name)
        write_run(place, brick, join(real, inject), inject, suffix=".fits")
    config = TrainingConfig(select="none")
    listed = tmp_path / "bricks.txt"
    listed.write_text("# mine\n1000p051\n\n1050p051  # the third\n")

    def names(*words: str) -> list[str]:
        found = resolve_inputs(fake=[tmp_path / "fake"], bricks=words, config=config)
        return [brick.brick for brick in found.bricks]

    assert names(str(listed)) == ["1000p051", "1050p051"]
    assert names("1025p051", str(listed)) == ["1000p051", "1025p051", "1050p051"]
    with pytest.raises(LayoutError, match=r"--bricks: no run of 9999p000"):
        names("1025p051", "9999p000")
    with pytest.raises(LayoutError, match=r"--bricks .*absent.txt: no such file"):
        names(str(tmp_path / "absent.txt"))
    listed.write_text("# nothing\n")
    with pytest.raises(LayoutError, match="the list is empty"):
        names(str(listed))


def test_trees_on_the_wrong_side(tmp_path):
    Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, FAKE),), release=REAL).write()
    config = TrainingConfig(select="none")
    with pytest.raises(LayoutError, match="give it with --real, not --fake"):
        resolve_inputs(fake=[tmp_path / "real"], config=config)
    with pytest.raises(LayoutError, match="is an injection tree; leave out --real"):
        resolve_inputs(fake=[tmp_path / "fake"], real=[tmp_path / "fake"], config=config)
    with pytest.raises(LayoutError, match="--fake DIR"):
        resolve_inputs(fake=[], real=[tmp_path / "real"], config=config)


def test_nothing_is_logged_while_planning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, FAKE),)).write().plan()
    assert not caplog.records
