"""What a run is fit for: partial fits, displaced injections, trees without images or catalogues."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from obiwan.dplearn.errors import CatalogError, CoaddError, LayoutError
from obiwan.dplearn.mock.config import MockConfig
from obiwan.dplearn.mock.survey import make_survey
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.fields import open_field
from obiwan.dplearn.planning.inputs import resolve_inputs
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.layouts import Root, find_runs, layout_named
from obiwan.dplearn.trainingset.examples import FLAG_UNMATCHED
from synthetic import (
    FAKE,
    REAL,
    Case,
    Objects,
    at,
    both,
    bricks_apart,
    fakes,
    reals,
    survey,
)


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
        planned = case.plan()
        assert fakes(planned) == [500]
        assert set(planned.rows["camera"].tolist()) == {b"90prime"}


def test_the_catalogues_header_names_the_cameras_before_the_table_of_ccds(tmp_path):
    """It is read anyway; the table is one more file a brick."""
    tree = tmp_path / "mock"
    tree.mkdir()
    make_survey(MockConfig(bricks=1, brick_size=200, border=20, runs=1), tree)
    (run,) = find_runs(Root(0, tree / "injected", layout_named("legacysim")))
    if run.ccds().is_file():
        run.ccds().unlink()
    assert open_field(run, StampSpec()).camera == "decam"
    with fits.open(run.tractor, mode="update") as hdus:
        for band, camera in (("G", "90prime"), ("R", "90prime"), ("Z", "mosaic")):
            hdus[0].header[f"CAMS_{band}"] = camera
    assert open_field(run, StampSpec()).camera == "90prime+mosaic"


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
    with pytest.raises(LayoutError, match=r"no real galaxies of its own; give the data release with --real"):
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
    (note,) = plan.notes
    assert re.search(
        r"brick 1211p060 \(file0_rs0_skip0\): empty catalogue: .*tractor-1211p060.*--bricks", note
    )
    with_release = Case(tmp_path / "b", injected=(FAKE,), fitted=(both(REAL, FAKE),), release=empty).write()
    plan = with_release.plan()
    (note,) = plan.notes
    assert re.search(r"\(release\): empty catalogue: .*/real/.*tractor-1211p060", note)
    assert reals(plan) == []


def test_a_run_with_an_empty_catalogue_does_not_stop_the_others(tmp_path):
    empty = {name: value[:0] for name, value in REAL.items()}
    plan = Case(tmp_path, injected=(FAKE, FAKE), fitted=(empty, both(REAL, FAKE))).write().plan()
    assert (fakes(plan), reals(plan)) == ([500], [10])
    assert set(plan.rows["run"]) == {b"file0_rs1_skip0"}
    assert len(plan.notes) == 1


def test_legacysim_truth_gets_the_transmission_of_its_neighbourhood(tmp_path):
    Case(tmp_path, kind="legacysim", injected=(FAKE,), fitted=(both(REAL, FAKE),)).write()
    config = TrainingConfig(select="none")
    (brick,) = resolve_inputs(fake=[tmp_path / "fake"], config=config).bricks
    truth = open_field(brick.runs[0], StampSpec()).truth
    np.testing.assert_allclose(truth.mw_transmission, [[0.90, 0.93, 0.96]], rtol=1e-6)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("victim", ["image", "tractor", "ccds"])
def test_a_file_that_cannot_be_looked_at(code, victim, tmp_path, monkeypatch):
    """It is this brick's fault, of which the others know nothing."""
    made = survey(tmp_path, bricks=bricks_apart(1), runs=1, kind="obiwan", flavour="dr5")
    (run,) = find_runs(Root(0, made.fake, layout_named("obiwan")))
    open_field(run, StampSpec())
    stat = Path.stat

    def failing(path, **more):
        if victim in path.name:
            raise OSError(code, os.strerror(code), str(path))
        return stat(path, **more)

    monkeypatch.setattr(Path, "stat", failing)
    said = rf"brick 1000p051 \(rs0\): cannot read .*{victim}.* \({os.strerror(code)}\); restore the file"
    with pytest.raises(CoaddError, match=said):
        open_field(run, StampSpec())
