"""One catalogue of injected and real sources: how it is measured, read, and used for training sets."""

from __future__ import annotations

import json
import re
import shutil
import sys

import fitsio
import numpy as np
import pytest

import synthetic
from obiwan.dplearn import create_training, inject
from obiwan.dplearn.errors import CoaddError, DplearnError, LayoutError, SelectionError
from obiwan.dplearn.evaluation.description import data_summary
from obiwan.dplearn.evaluation.notices import Fact, Notice
from obiwan.dplearn.injection.catalogue import ellipticity, write_catalogue
from obiwan.dplearn.injection.detection import measure, summed
from obiwan.dplearn.injection.scene import open_scene
from obiwan.dplearn.planning import blobs
from obiwan.dplearn.planning.bricks import plan_brick
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.inputs import resolve_inputs
from obiwan.dplearn.report.wording import notice
from obiwan.dplearn.survey.catalogs import SEP, read_tractor
from obiwan.dplearn.survey.layouts import RELEASE, Root, find_runs, layout_named
from obiwan.dplearn.trainingset.stampset import open_training_set

BRICK = synthetic.BRICK
SIGMA = 2.0  # pixels


def gaussians(x, y, flux, shape=(120, 140), sigma=SIGMA, stretch=1.0):
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape)
    for x0, y0, f in zip(x, y, flux, strict=True):
        r2 = ((xx - x0) / stretch) ** 2 + (yy - y0) ** 2
        image += f / (2 * np.pi * sigma**2 * stretch) * np.exp(-0.5 * r2 / sigma**2)
    return image


def reader(images, noise=0.01, seed=1):
    rng = np.random.default_rng(seed)
    planes = {("image", b): (i + noise * rng.normal(size=i.shape)).astype("f4") for b, i in images.items()}
    planes |= {("invvar", b): np.full(i.shape, noise**-2, "f4") for b, i in images.items()}
    return planes, lambda kind, band: planes[kind, band]


def test_positions_fluxes_and_radii():
    x, y, flux = [30.3, 80.7, 110.1], [40.2, 60.9, 90.5], [3.0, 10.0, 40.0]
    image = gaussians(x, y, flux)
    _, read = reader({"g": image, "r": 2 * image})
    rows, fluxes, ivar = measure(read, ("g", "r"), 2.3548 * SIGMA, "brick")
    assert len(rows) == 3
    order = np.argsort(rows["x"])
    rows, fluxes, ivar = rows[order], fluxes[order], ivar[order]
    np.testing.assert_allclose(rows["x"], x, atol=0.06)
    np.testing.assert_allclose(rows["y"], y, atol=0.06)
    np.testing.assert_allclose(fluxes[:, 0], flux, rtol=0.1)
    np.testing.assert_allclose(fluxes[1:, 1], 2 * np.array(flux[1:]), rtol=0.06)
    np.testing.assert_allclose(rows["radius"], SIGMA * np.sqrt(2 * np.log(2)), rtol=0.08)
    assert (fluxes[:, 0] * np.sqrt(ivar[:, 0]) > 5).all()


def test_a_star_has_one_profile_at_all_fluxes():
    """The noise of a bright source's own light, in the inverse variance, does not make it larger."""
    image = gaussians([40.0, 100.0], [60.0, 60.0], [5.0, 500.0])
    planes, read = reader({"r": image})
    planes["invvar", "r"] = (1 / (0.01**2 + np.maximum(image, 0) / 1000)).astype("f4")
    rows, *_ = measure(read, ("r",), 2.3548 * SIGMA, "brick")
    faint, bright = rows["radius"][np.argsort(rows["snr"])]
    assert bright == pytest.approx(faint, rel=0.03)


def test_unobserved_pixels_are_left_out():
    image = gaussians([40.0, 100.0], [60.0, 60.0], [20.0, 20.0])
    planes, read = reader({"g": image, "r": image})
    planes["invvar", "g"][:, 70:] = 0
    planes["image", "g"][:, 70:] = np.nan
    planes["image", "r"][:, 120:], planes["invvar", "r"][:, 120:] = 1e5, 0
    rows, flux, ivar = measure(read, ("g", "r"), 2.3548 * SIGMA, "brick")
    assert len(rows) == 2
    right = int(np.argmax(rows["x"]))
    assert flux[right, 0] == ivar[right, 0] == 0
    assert flux[right, 1] == pytest.approx(20, rel=0.1)
    total, err, light, blank = summed([np.ones((2, 3))] * 2, [np.array([[0, 1, 4.0]] * 2), np.zeros((2, 3))])
    assert total[0].tolist() == [0, 1, 2]
    assert err.max() == 1
    assert blank[0].tolist() == [True, False, False]
    assert np.ptp(light) == 0


def test_an_empty_coadd_has_an_empty_catalogue():
    _, read = reader({"r": np.zeros((50, 60))})
    rows, flux, ivar = measure(read, ("r",), 2.3548 * SIGMA, "brick")
    assert len(rows) == 0
    assert flux.shape == ivar.shape == (0, 1)


def test_a_source_may_have_more_pixels_than_sep_holds_by_default():
    image = gaussians([350.0], [350.0], [1e9], (700, 700), sigma=62.0)
    assert np.count_nonzero(image > 0.1) > 300_000
    rows, *_ = measure(reader({"r": image})[1], ("r",), 5.0, "brick")
    assert len(rows)


def test_what_sep_cannot_take_apart_is_one_line(monkeypatch):
    sep = pytest.importorskip("sep")
    monkeypatch.setattr(sep, "extract", lambda *_, **__: 1 / 0)
    with pytest.raises(CoaddError, match=r"brick 7: sep cannot find sources.*--bricks"):
        measure(reader({"r": np.zeros((50, 60))})[1], ("r",), 5.0, "brick 7")


def test_without_sep_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sep", None)
    with pytest.raises(DplearnError, match=r"needs sep: pip install 'obiwan-dplearn\[inject\]'"):
        measure(reader({"r": np.zeros((50, 60))})[1], ("r",), 5.0, "brick 7")


@pytest.mark.parametrize(("angle", "e1", "e2"), [(0, 1, 0), (90, -1, 0), (45, 0, 1), (135, 0, -1)])
def test_ellipticity_is_tractors(angle, e1, e2):
    """The angle goes from north (+y) to east (-x)."""
    theta = np.radians(90 + angle)  # counter-clockwise from +x
    found = ellipticity(np.array([2.0]), np.array([1.0]), np.array([theta]))
    np.testing.assert_allclose(np.ravel(found), np.array([e1, e2]) / 3, atol=1e-12)


# --- a tree -----------------------------------------------------------------------------------------

REALS = ((50.0, 60.0), (200.0, 60.0), (120.0, 210.0))
FAKES = (((60.0, 150.0), (190.0, 200.0)), ((128.0, 130.0), (200.0, 62.0)))  # one falls on a real source


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """A release, and two runs injected into it, with the catalogue of sep."""
    tmp = tmp_path_factory.mktemp("survey")
    real = synthetic.at(*REALS, flux=4.0)
    place = synthetic.Place("release", tmp / "release", BRICK.name)
    synthetic.write_run(place, BRICK, real, data=synthetic.planes(BRICK, real), suffix=".fits")
    scene = open_scene(Root(0, tmp / "release", RELEASE).files(BRICK.name), synthetic.BANDS)
    root = Root(0, tmp / "injected", layout_named("legacysim"))
    for run, places in enumerate(FAKES):
        injected = synthetic.at(*places, first=500 + 10 * run, flux=4.0)
        name = f"file0_rs{run}_skip0"
        data = synthetic.planes(BRICK, synthetic.both(real, injected))
        place = synthetic.Place("legacysim", tmp / "injected", BRICK.name, name)
        synthetic.write_run(place, BRICK, real, injected, data=data, suffix=".fits")
        files = root.files(BRICK.name, name)
        write_catalogue(files, scene, files.tractor)
    return tmp, scene, root


def test_the_catalogue_of_a_run(survey):
    _, scene, root = survey
    catalog = read_tractor(root.files(BRICK.name, "file0_rs0_skip0").tractor)
    assert catalog.maker == SEP
    assert catalog.header["CATALOG"].split()[0] == "sep"
    rows = catalog.sources
    assert len(rows) == 5
    assert set(rows.type.tolist()) == {""}
    x, y = scene.frame.pixels(rows.ra, rows.dec)
    wanted = np.array([*REALS, *FAKES[0]])
    assert np.hypot(x[:, None] - wanted[:, 0], y[:, None] - wanted[:, 1]).min(axis=1).max() < 0.1
    np.testing.assert_allclose(rows.flux, 4.0, rtol=0.1)
    np.testing.assert_allclose(
        rows.mw_transmission[0], [synthetic.DUST[b] for b in synthetic.BANDS], rtol=1e-6
    )
    np.testing.assert_allclose(rows.psfsize[0], [synthetic.SEEING[b] for b in synthetic.BANDS], rtol=1e-6)
    assert (rows.nobs == 2).all()
    assert rows.primary.all()
    assert np.isnan(rows.sersic).all()


def test_maps_of_the_release_go_before_its_catalogue(survey, tmp_path):
    tmp, _, root = survey
    shutil.copytree(tmp / "release", tmp_path / "release")
    folder = tmp_path / "release" / "coadd" / BRICK.name[:3] / BRICK.name
    for kind, value in {"psfsize": 1.75, "depth": 55.0, "nexp": 7}.items():
        plane = np.full((BRICK.size, BRICK.size), value, "f4")
        synthetic.write_plane(folder / f"legacysurvey-{BRICK.name}-{kind}-r.fits", plane, BRICK.cards())
    scene = open_scene(Root(0, tmp_path / "release", RELEASE).files(BRICK.name), synthetic.BANDS)
    path = tmp_path / "some.fits"
    write_catalogue(root.files(BRICK.name, "file0_rs0_skip0"), scene, path)
    rows = read_tractor(path).sources
    assert set(rows.of_band("psfsize", "r").tolist()) == {1.75}
    assert set(rows.of_band("psfdepth", "r").tolist()) == {55.0}
    assert set(rows.of_band("nobs", "r").tolist()) == {7}
    assert set(rows.of_band("nobs", "g").tolist()) == {2}


def test_nothing_injected_gives_the_catalogue_of_the_release(survey, tmp_path):
    """Bytes of the table too: nothing in it depends on the run but its pixels."""
    _, scene, root = survey
    files = root.files(BRICK.name, "file0_rs9_skip0")
    try:
        shutil.copytree(scene.run.coadd, files.coadd)
        write_catalogue(files, scene, tmp_path / "one.fits")
        write_catalogue(scene.run, scene, tmp_path / "two.fits")
    finally:
        shutil.rmtree(files.coadd.parents[2])
    one, two = (fitsio.read(tmp_path / name) for name in ("one.fits", "two.fits"))
    assert len(one) == len(REALS)
    assert one.tobytes() == two.tobytes()


def inputs_of(survey, **options):
    tmp, _, _ = survey
    tables = {name: options.pop(name) for name in ("real", "real_table") if name in options}
    config = TrainingConfig(**{"select": "none", "size": 32, **options})
    return resolve_inputs(fake=[tmp / "injected"], config=config, **tables), config


def plan(survey, **options):
    inputs, config = inputs_of(survey, **options)
    (brick,) = inputs.bricks
    return plan_brick(brick, config)


def test_a_training_set_takes_both_classes_from_the_one_catalogue(survey):
    """Reals and fakes lie where sep put them, and a fake on a real source is none."""
    planned = plan(survey)
    assert synthetic.fakes(planned) == [500, 501, 510]
    rows = planned.rows
    assert np.count_nonzero(rows["label"] == 0) == 3
    measured = {
        run: read_tractor(survey[2].files(BRICK.name, run).tractor).sources
        for run in set(rows["run"].astype(str))
    }
    for row in rows:
        catalogue = measured[row["run"].decode()]
        assert row["ra"] in catalogue.ra
        assert row["mag_source"] == b"measured"


def test_selection_by_what_was_measured(survey):
    planned = plan(survey, select="mag_r<30,snr>20,size<1.4")
    assert {"mag_r<30", "snr>20", "size<1.4"} <= set(planned.flows["fake"])
    assert len(planned.rows) == 6
    assert len(plan(survey, select="size>1.4").rows) == 0
    with pytest.raises(SelectionError, match=r"--select elg needs the types of tractor.*'mag_r<22"):
        plan(survey, select="elg")


def test_named_real_objects_are_taken_from_the_catalogue(survey, tmp_path):
    """Their table says which they are; where they are and what they look like the catalogue says."""
    ra, dec = BRICK.sky([REALS[0][0] + 1.2, 30.0], [REALS[0][1], 200.0])
    path = tmp_path / "stars.csv"
    path.write_text(
        "brick,ra,dec\n" + "".join(f"{BRICK.name},{a:.7f},{d:.7f}\n" for a, d in zip(ra, dec, strict=True))
    )
    planned = plan(survey, real_table=path)
    (real,) = planned.rows[planned.rows["label"] == 0]
    assert (real["x"], real["y"]) == pytest.approx(REALS[0], abs=0.1)
    assert real["mag_source"] == b"measured"
    assert planned.flows["real"]['recovered: mutual match in 1.5"'] == 2  # in either run, once each
    assert not any("--real-table" in line for line in inputs_of(survey, real_table=path)[0].warnings)


def test_a_named_real_object_is_no_injection(survey, tmp_path):
    """A table that names injections, or what lies beside them, gives no real examples there."""
    (x, y), _ = FAKES[0]
    ra, dec = BRICK.sky([x, REALS[0][0]], [y, REALS[0][1]])
    path = tmp_path / "stars.csv"
    lines = [f"{BRICK.name},file0_rs0_skip0,{a:.7f},{d:.7f}\n" for a, d in zip(ra, dec, strict=True)]
    path.write_text("brick,run,ra,dec\n" + "".join(lines))
    planned = plan(survey, real_table=path)
    flow = planned.flows["real"]
    assert flow['recovered: mutual match in 1.5"'] == 2
    assert flow['no injection within 5"'] == 1
    (real,) = planned.rows[planned.rows["label"] == 0]
    assert (real["x"], real["y"]) == pytest.approx(REALS[0], abs=0.1)
    assert real["run"] == b"file0_rs0_skip0"


def test_without_cuts_all_else_is_real_and_a_warning_says_so(survey):
    assert any("every other source" in line for line in inputs_of(survey)[0].warnings)
    assert not any("every other source" in line for line in inputs_of(survey, select="snr>9")[0].warnings)


def test_a_release_is_refused(survey):
    tmp, _, _ = survey
    with pytest.raises(
        LayoutError, match=r"a tree of inject: its catalogue has both classes.*leave out --real"
    ):
        inputs_of(survey, real=[tmp / "release"])
    with pytest.raises(LayoutError, match="leave out --real"):
        inputs_of(survey, real=[tmp / "release"], reals_from="release")


def test_a_tree_with_catalogues_of_tractor_beside_it_is_refused(survey, tmp_path):
    real, injected = synthetic.at(*REALS, flux=4.0), synthetic.at(*FAKES[0], first=500, flux=4.0)
    place = synthetic.Place("legacysim", tmp_path / "pipeline", BRICK.name, "file0_rs0_skip0")
    synthetic.write_run(place, BRICK, real, injected)
    trees = [survey[0] / "injected", tmp_path / "pipeline"]
    for fake in (trees, trees[::-1]):
        with pytest.raises(LayoutError, match=r"injected: a tree of inject: .*training set of each kind"):
            resolve_inputs(fake=fake, config=TrainingConfig(select="none", size=32))


def test_a_single_run_is_warned_of_without_a_remedy_that_is_refused(survey, tmp_path):
    run = "file0_rs0_skip0"
    shutil.copytree(survey[0] / "injected" / run, tmp_path / run)
    warnings = resolve_inputs(fake=[tmp_path], config=TrainingConfig(select="snr>9", size=32)).warnings
    (line,) = (one for one in warnings if "with one run" in one)
    assert line.endswith("give more runs")


def test_sources_that_sep_detects_are_not_taken_for_those_of_some_blobs(survey, monkeypatch):
    """However few of them lie far from injections."""
    monkeypatch.setattr(blobs, "far_sources", lambda _: (0, 1000.0))
    root = survey[2]
    assert blobs.what_was_fitted(
        root, find_runs(root, None), TrainingConfig(select="none", size=32)
    ).everything


def test_the_record_of_a_tree_travels(survey):
    tmp, *_ = survey
    assert inputs_of(survey)[0].drawn == ()
    bands = {b: {"psf": kind} for b, kind in zip("grz", ("psfex", "psfex", "moffat"), strict=True)}
    record = {
        "package_version": "1.2",
        "config": {"model": "star", "noise": "poisson", "gain": None},
        "software": {"sep": "1.4.1"},
        "injected": {BRICK.name: {"bands": bands}},
    }
    path = tmp / "injected" / "injection.json"
    path.write_text(json.dumps(record))
    (drawn,) = inputs_of(survey)[0].drawn
    assert drawn["psf"] == {"moffat": 1, "psfex": 2}
    assert (drawn["model"], drawn["software"]) == ("star", {"sep": "1.4.1", "inject": "1.2"})
    record["injected"]["0001p050"] = {"bands": {"g": {"psf": "moffat"}}}
    path.write_text(json.dumps(record))
    assert inputs_of(survey)[0].drawn[0]["psf"] == {"moffat": 2, "psfex": 2}  # of all bricks
    stacks = {band: {"psf": "stars", "psf_rests_on": number} for band, number in (("g", 4), ("r", 9))}
    record["injected"]["0001p050"] = {"bands": stacks}
    path.write_text(json.dumps(record))
    (drawn,) = inputs_of(survey)[0].drawn
    assert drawn["psf_rests_on"] == {"stars": [4, 9]}
    said = notice(Fact(Notice.DRAWN, drawn))
    assert "psfex in 2 band(s) of bricks, stars in 2 band(s) of bricks (4 to 9 stars each)" in said
    path.write_text("{}")
    with pytest.raises(LayoutError, match=r"injection.json: not a readable record"):
        inputs_of(survey)
    path.unlink()


# --- from a release to examples, with the programs -------------------------------------------------------


def draw_stars(n, brick, rng):
    """A user's function: stars as bright as the sources of the release."""
    return {f"flux_{band}": rng.uniform(3, 6, n) for band in brick.bands}


def draw_few(n, brick, rng):
    """A user's function that forgets some."""
    return {name: values[1:] for name, values in draw_stars(n, brick, rng).items()}


DRAWN = ("--model", "star", "--psf", "moffat", "--noise", "none")


@pytest.fixture(scope="module")
def injected(survey, tmp_path_factory):
    """A tree that `inject` wrote into the release."""
    tmp, *_ = survey
    out = tmp_path_factory.mktemp("drawn") / "tree"
    many = ("--density", "50000", "--runs", "2", "--separation", "9")
    words = ("--release", str(tmp / "release"), "--sources", "test_injection_catalogue:draw_stars", *many)
    assert inject.main([*words, *DRAWN, "--outdir", str(out)]) == 0
    return out


def test_a_function_gives_as_many_objects_as_it_is_asked_for(survey, tmp_path, capsys):
    words = ("--release", str(survey[0] / "release"), "--sources", "test_injection_catalogue:draw_few")
    given = (*words, "--density", "50000", *DRAWN, "--outdir", str(tmp_path / "tree"))
    assert inject.main(given) == 1
    said = capsys.readouterr().err
    assert re.search(
        r"draw_few: brick \S+ \(release\): the function gave \d+ objects where \d+ were asked", said
    )
    assert not (tmp_path / "tree" / "injection.json").exists()


def test_what_inject_writes_becomes_examples(injected):
    config = TrainingConfig(select="snr>20", size=32)
    inputs = resolve_inputs(fake=[injected], config=config)
    (drawn,) = inputs.drawn
    assert (drawn["model"], drawn["noise"], drawn["psf"]) == ("star", "none", {"moffat": 3})
    assert drawn["software"]["sep"]
    assert drawn["software"]["inject"]
    (brick,) = inputs.bricks
    planned = plan_brick(brick, config)
    fakes = planned.rows[planned.rows["label"] == 1]
    assert len(fakes) >= 5
    assert np.count_nonzero(planned.rows["label"] == 0) >= 2
    assert np.median(fakes["match_dist"]) < 0.02
    for band in synthetic.BANDS:
        ratio = fakes[f"flux_{band}"] / fakes[f"truth_flux_{band}"]
        assert np.median(ratio) == pytest.approx(0.96, abs=0.05)  # Kron apertures leave some light out


def test_runs_of_other_programs_keep_their_names(survey, tmp_path):
    """The truth of an obiwan tree drawn again, and the tree that this gives read by create_training."""
    tmp, *_ = survey
    truth = synthetic.at((60.0, 150.0), (190.0, 200.0), first=70, flux=4.0)
    place = synthetic.Place("obiwan", tmp_path / "old", BRICK.name, "skip_rs300")
    synthetic.write_run(place, BRICK, truth, truth)
    out = tmp_path / "tree"
    words = ("--release", str(tmp / "release"), "--sources", str(tmp_path / "old"), "--outdir", str(out))
    assert inject.main([*words, *DRAWN]) == 0
    config = TrainingConfig(select="none", size=32)
    (brick,) = resolve_inputs(fake=[out], config=config).bricks
    assert [run.run for run in brick.runs] == ["skip_rs300"]
    assert synthetic.fakes(plan_brick(brick, config)) == [70, 71]


def test_the_training_set_says_how_its_injections_were_drawn(injected, tmp_path, capsys):
    words = ["--select", "snr>5", "--split", "object", "--size", "16", "--edge", "pad", "--balance", "none"]
    given = ["--fake", str(injected), *words, "--allow-injected-neighbours"]
    assert create_training.main([*given, "--outdir", str(tmp_path / "set")]) == 0
    capsys.readouterr()
    stamp_set = open_training_set(tmp_path / "set")
    (drawn,) = data_summary(stamp_set)["drawn"]
    assert drawn == stamp_set.manifest["drawn"][0]
    assert (drawn["model"], drawn["psf"]) == ("star", {"moffat": 3})
    assert "deblending" in drawn["left_out"]
