"""The mock survey: null where nothing is planted, what is planted and nothing else where something is."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("galsim")

import fitsio
from astropy.io import fits
from astropy.wcs import WCS
from scipy.spatial import cKDTree
from scipy.stats import ks_2samp, kstest

from obiwan.dplearn import create_training
from obiwan.dplearn.controls.battery import run_controls
from obiwan.dplearn.controls.measure import measure_split
from obiwan.dplearn.controls.records import State
from obiwan.dplearn.mock import __main__ as mock
from obiwan.dplearn.mock import bricks as mock_bricks
from obiwan.dplearn.mock import catalog as mock_catalog
from obiwan.dplearn.mock import drawing
from obiwan.dplearn.mock import sky as mock_sky
from obiwan.dplearn.mock import survey as mock_survey
from obiwan.dplearn.mock import writers as mock_files
from obiwan.dplearn.mock.config import PIXEL_SCALE, MockConfig, Plant
from obiwan.dplearn.mock.survey import conditions_of, make_survey
from obiwan.dplearn.stampspec import SPLITS
from obiwan.dplearn.survey.rendering import MOFFAT_BETA, Galaxy, render
from obiwan.dplearn.trainingset.stampset import open_training_set

SMALL = MockConfig(bricks=4, brick_size=420, runs=2, seed=7, west=1, layout="both")
TINY = MockConfig(bricks=1, brick_size=256, runs=1, injections=12, density=1.0, seed=5)
STEP = 1e-4
BANDS = MockConfig.bands


def draw(flux: float, fwhm: float, size: int, centre: tuple[float, float], *shape: float) -> np.ndarray:
    """A stamp of one object in one band, as the mock draws it."""
    galaxy = Galaxy((flux,), (fwhm,), *centre, *shape)
    return render(galaxy, size, PIXEL_SCALE, dtype=np.float32)[..., 0]


def table(path: Path) -> np.ndarray:
    return fitsio.read(str(path), ext=1)


def plane(root: Path, brick: str, kind: str, band: str) -> np.ndarray:
    return fitsio.read(str(root / f"coadd/{brick[:3]}/{brick}/legacysurvey-{brick}-{kind}-{band}.fits.fz"))


def names(outdir: Path) -> list[str]:
    return (outdir / "bricks.txt").read_text().split()


def runs(outdir: Path) -> list[Path]:
    return sorted((outdir / "injected").iterdir())


def contents(outdir: Path) -> dict[str, bytes]:
    return {str(p.relative_to(outdir)): p.read_bytes() for p in sorted(outdir.rglob("*")) if p.is_file()}


def survey(config: MockConfig, outdir: Path, jobs: int = 1) -> Path:
    outdir.mkdir(parents=True)
    make_survey(config, outdir, jobs)
    return outdir


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return survey(SMALL, tmp_path_factory.mktemp("mock") / "small")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return survey(TINY, tmp_path_factory.mktemp("mock") / "tiny")


def classes(outdir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Measured rows of the real objects, and of the recovered injections that lie on no real object."""
    reals, fakes = [], []
    for brick in names(outdir):
        release = table(outdir / f"release/tractor/{brick[:3]}/tractor-{brick}.fits")
        reals.append(release[release["brick_primary"] & (release["allmask_r"] == 0)])
        seen = cKDTree(np.column_stack([release["bx"], release["by"]]))
        for run in runs(outdir):
            truth = table(run / f"sim/{brick[:3]}/injected-{brick}.fits")
            truth = truth[~truth["collided"]]
            rows = table(run / f"tractor/{brick[:3]}/tractor-{brick}.fits")
            where = np.column_stack([truth["bx"], truth["by"]])
            near, index = cKDTree(np.column_stack([rows["bx"], rows["by"]])).query(where)
            free = seen.query(where)[0] > 1.5 / PIXEL_SCALE
            rows = rows[index[(near < 1.5 / PIXEL_SCALE) & free]]
            fakes.append(rows[rows["brick_primary"] & (rows["allmask_r"] == 0)])
    return np.concatenate(reals), np.concatenate(fakes)


# --- the null survey


@pytest.mark.parametrize(
    "column",
    ["flux_g", "flux_r", "flux_z", "flux_ivar_r", "shape_r", "shape_e1", "shape_e2", "sersic", "bx", "by"],
)
def test_null_survey_measures_the_same_of_both_classes(small: Path, column: str) -> None:
    reals, fakes = classes(small)
    assert min(len(reals), len(fakes)) > 100
    assert ks_2samp(reals[column], fakes[column]).pvalue > 0.005


def test_subpixel_phase_is_uniform_in_both_classes(small: Path) -> None:
    for rows in classes(small):
        for axis in ("bx", "by"):
            assert kstest((rows[axis].astype(float) + 0.5) % 1, "uniform").pvalue > 0.005


def test_positions_fill_the_primary_box_evenly(small: Path) -> None:
    low, high = SMALL.span
    for rows in classes(small):
        assert kstest((rows["bx"].astype(float) - low) / (high - low), "uniform").pvalue > 0.005


def test_typical_share_of_each_type_is_the_same(small: Path) -> None:
    reals, fakes = classes(small)
    for kind in ("PSF", "REX", "EXP"):
        share = [np.mean(np.char.strip(rows["type"]) == kind) for rows in (reals, fakes)]
        pooled = np.mean(share)
        error = np.sqrt(pooled * (1 - pooled) * (1 / len(reals) + 1 / len(fakes)))
        assert pooled > 0.02
        assert abs(share[0] - share[1]) < 3.5 * error


def test_hard_core_neighbourhood_is_that_of_a_free_random_place() -> None:
    """What makes 'drop the coincident fakes' exact: the Palm distribution of a Gibbs process (GNZ)."""
    rng = np.random.default_rng(5)
    core, side = 6.0, 300.0
    around_point, around_place = [], []
    for _ in range(36):
        points = mock_sky.hard_core_positions(rng, 250.0, 0.0, side, core)
        tree = cKDTree(points)
        assert tree.query(points, k=2)[0][:, 1].min() > core
        inner = points[np.all((points > 30) & (points < side - 30), axis=1)]
        around_point += [len(f) - 1 for f in tree.query_ball_point(inner, 25.0)]
        places = rng.uniform(30, side - 30, (len(inner), 2))
        places = places[tree.query(places)[0] > core]
        around_place += [len(f) for f in tree.query_ball_point(places, 25.0)]
    error = np.hypot(np.std(around_point), np.std(around_place)) / np.sqrt(len(around_point) / 5)
    assert abs(np.mean(around_point) - np.mean(around_place)) < 3 * error
    assert error < 0.02 * np.mean(around_point) * 3


def band(size: int, number: int = 1, **conditions: object) -> drawing.Observed:
    """One band of a brick, as objects are drawn in it."""
    made = mock_bricks.draw_conditions(np.random.default_rng(0))
    return drawing.Observed(1, mock_bricks.Brick(0, 0, size, 20), replace(made, **conditions), number)


def light_of(objects: np.ndarray, at: drawing.Observed) -> np.ndarray:
    """The light of objects alone."""
    rows, size = objects.copy(), at.brick.size
    rows["light_shot"] = 0
    objects["ra"], objects["dec"] = at.brick.to_sky(objects["x"], objects["y"])
    empty = np.zeros((size, size), np.float32)
    return drawing.add_objects(empty, empty + 1, rows, at, "light")[0]


def test_noise_is_what_invvar_says_with_and_without_light() -> None:
    """Both classes: the pulls of the pixels have unit width wherever there is light."""
    rng, size = np.random.default_rng(2), 300
    at = band(size, sigma=(3e-3,) * 3, nobs=(3,) * 3)
    exposure = mock_bricks.Exposure(
        np.full((size, size), 3, np.uint8),
        np.zeros((size, size), np.int16),
        np.full((size, size), 9e-6, "f4"),
    )
    objects = mock_sky.draw_population(rng, 200, BANDS, np.ones(3))
    objects["light_flux"] = 40
    objects["x"], objects["y"] = rng.uniform(0, size, (2, 200))
    light = light_of(objects, at)
    empty = drawing.empty_sky(rng, exposure)
    image, invvar = drawing.add_objects(*empty, objects, at, "release")
    pull = (image - light) * np.sqrt(invvar)
    assert (light > 0.1).mean() > 0.2
    assert pull[light > 0.1].std() == pytest.approx(1, abs=0.02)
    assert pull[light < 0.01].std() == pytest.approx(1, abs=0.02)
    assert invvar == pytest.approx(1 / (9e-6 + light / (3 * at.conditions.gain[1])), rel=2e-2)
    once_more = drawing.add_objects(image, invvar, objects, at, "run 0")[0] - image - light
    assert once_more[light > 0.1].std() > 0
    assert np.corrcoef(once_more[light > 0.1], (image - light)[light > 0.1])[0, 1] < 0.05


def test_image_noise_on_disk_is_what_invvar_says(tmp_path: Path) -> None:
    empty = survey(
        MockConfig(bricks=1, brick_size=256, runs=1, injections=1, density=0.0), tmp_path / "empty"
    )
    (brick,) = names(empty)
    for band in BANDS:
        image, invvar = (plane(empty / "release", brick, kind, band) for kind in ("image", "invvar"))
        good = invvar > 0
        assert good.mean() > 0.7
        assert np.std(image[good] * np.sqrt(invvar[good])) == pytest.approx(1, abs=0.015)


def test_runs_share_the_background_of_the_release(small: Path) -> None:
    brick = names(small)[0]
    release = plane(small / "release", brick, "image", "r")
    for run in runs(small):
        truth = table(run / f"sim/{brick[:3]}/injected-{brick}.fits")
        far = np.ones(release.shape, bool)
        for row in truth[~truth["collided"]]:
            x, y = round(row["bx"]), round(row["by"])
            far[max(y - 40, 0) : y + 41, max(x - 40, 0) : x + 41] = False
        assert far.sum() > 1000
        assert np.abs(plane(run, brick, "image", "r") - release)[far].max() <= 1.01 * STEP


def test_real_objects_measure_the_same_in_every_run(small: Path) -> None:
    brick = names(small)[1]
    release = table(small / f"release/tractor/{brick[:3]}/tractor-{brick}.fits")
    run = runs(small)[0]
    truth = table(run / f"sim/{brick[:3]}/injected-{brick}.fits")
    clear = (
        cKDTree(np.column_stack([truth["bx"], truth["by"]])).query(
            np.column_stack([release["bx"], release["by"]])
        )[0]
        > 5 / PIXEL_SCALE
    )
    again = table(run / f"tractor/{brick[:3]}/tractor-{brick}.fits")
    rows = {(row["ra"], row["dec"], row["flux_r"]) for row in again}
    assert clear.sum() > 10
    assert all((row["ra"], row["dec"], row["flux_r"]) in rows for row in release[clear])


# --- light


def moments(stamp: np.ndarray) -> tuple[float, float, float, float, float]:
    yy, xx = np.mgrid[: stamp.shape[0], : stamp.shape[1]]
    total = stamp.sum(dtype=float)
    x, y = (stamp * xx).sum(dtype=float) / total, (stamp * yy).sum(dtype=float) / total
    var = [
        (stamp * (p - c) * (q - d)).sum(dtype=float) / total
        for p, c, q, d in ((xx, x, xx, x), (yy, y, yy, y), (xx, x, yy, y))
    ]
    return x, y, *var


@pytest.mark.parametrize("centre", [(32.0, 32.0), (31.5, 32.49), (30.2, 33.7)])
def test_render_puts_the_light_where_it_is_told(centre: tuple[float, float]) -> None:
    for shape in ((), (0.6, 1.0, 0.2, -0.1)):
        stamp = draw(3.0, 1.2, 64, centre, *shape)
        assert stamp.sum() == pytest.approx(3.0, rel=3e-3)
        assert moments(stamp)[:2] == pytest.approx(centre, abs=0.01)


def test_psf_is_not_convolved_with_another_pixel() -> None:
    """The central pixel holds the surface brightness there, not its mean over a pixel."""
    beta, fwhm = MOFFAT_BETA, 0.9
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    peak = (beta - 1) / (np.pi * alpha**2) * PIXEL_SCALE**2
    assert draw(1.0, fwhm, 64, (32, 32))[32, 32] == pytest.approx(peak, rel=3e-3)


def test_position_angle_runs_from_north_through_east() -> None:
    """North is +y, East is -x: angle 0 is upright, 45 degrees leans to the left."""
    *_, xx, yy, _ = moments(draw(1.0, 0.8, 96, (48, 48), 0.8, 1.0, 0.4, 0.0))
    assert yy > 1.5 * xx
    *_, xx, yy, xy = moments(draw(1.0, 0.8, 96, (48, 48), 0.8, 1.0, 0.0, 0.4))
    assert xx == pytest.approx(yy, rel=1e-3)
    assert xy < -0.2 * xx


def test_light_at_the_edge_is_cut_and_light_beyond_ignored() -> None:
    row = mock_sky.draw_population(np.random.default_rng(1), 3, BANDS, np.ones(3))
    row["x"], row["y"] = [0.0, 50.0, -500.0], [20.0, 99.0, 20.0]
    canvas = light_of(row, band(100))
    expected = row["light_flux"][:2, 1].sum() / 2
    assert canvas.sum() == pytest.approx(expected, rel=0.2)
    assert canvas[20, 0] > canvas[20, 5]


def test_objects_of_one_number_have_photons_of_their_own() -> None:
    """Objects of neighbouring bricks have equal numbers: the same light twice, and noise that differs."""
    at = band(200)
    rows = np.repeat(mock_sky.draw_population(np.random.default_rng(1), 1, BANDS, np.ones(3)), 2)
    rows["light_flux"], rows["x"], rows["y"] = 500.0, [50.0, 150.0], 100.0
    light = light_of(rows, at)
    dark = np.zeros((200, 200), np.float32)
    noise = drawing.add_objects(dark, dark + 1, rows, at, "release")[0] - light
    one, other = (noise[80:121, x - 20 : x + 21] for x in (50, 150))
    assert one.std() > 0
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.1


def test_neighbours_reach_into_a_brick() -> None:
    """Objects of other bricks are drawn where their light falls on the coadd."""
    here, there = mock_bricks.Brick(0, 1, 200, 20), mock_bricks.Brick(0, 0, 200, 20)
    rows = mock_sky.draw_population(np.random.default_rng(1), 3, BANDS, np.ones(3))
    place = np.array([-3.0, -40.0, -150.0])  # pixels from the eastern edge of the coadd
    rows["ra"], rows["dec"] = here.to_sky(199.5 - place, np.full(3, 90.0))
    rows["x"], rows["y"] = there.to_pixels(rows["ra"], rows["dec"])
    near = mock_survey._intruders(here, [rows])
    assert near["x"] == pytest.approx(199.5 - place[:2], abs=1e-3)
    image = light_of(near, band(200))
    assert image[85:96, 190:].max() > 3e-3 * near["light_flux"][0, 1]


def test_collisions_are_greedy_in_row_order() -> None:
    x = np.array([0.0, 3.0, 6.0, 20.0])
    assert mock_sky.collisions(x, np.zeros(4), 5.0).tolist() == [False, True, False, False]


# --- files


def test_headers_and_compression_are_those_of_the_pipeline(small: Path) -> None:
    brick = names(small)[0]
    folders = {
        "dr9": small / f"release/coadd/{brick[:3]}/{brick}",
        "legacysim": runs(small)[0] / f"coadd/{brick[:3]}/{brick}",
        "dr5": small / f"injected_obiwan/coadd/{brick[:3]}/{brick}/rs0",
    }
    for era, folder in folders.items():
        for kind in ("image", "invvar"):
            path = folder / f"legacysurvey-{brick}-{kind}-g.fits.fz"
            with fits.open(path, disable_image_compression=True) as hdus:
                raw = hdus[1].header
                assert len(hdus) == 2
                assert hdus[0].header["NAXIS"] == 0
                assert (raw["ZCMPTYPE"], raw["ZTILE1"], raw["ZTILE2"]) == ("RICE_1", 100, 100)
                dithered = kind == "image" or era == "dr5"
                assert raw["ZQUANTIZ"] == ("SUBTRACTIVE_DITHER_2" if dithered else "NO_DITHER")
                if kind == "image":
                    assert np.unique(hdus[1].data["ZSCALE"]) == pytest.approx([STEP])
            with fits.open(path) as hdus:
                header, data = hdus[1].header, hdus[1].data
            assert data.shape == (SMALL.brick_size, SMALL.brick_size)
            assert header["BRICKNAM" if era == "dr5" else "BRICK"] == brick
            assert header["FILTERX"] == "g"
            assert ("LEGSIMV" in header) == (era == "legacysim")
            assert header["BUNIT"] == ("nanomaggy" if kind == "image" else "1/nanomaggy^2")
            assert "DATE" not in header
            assert fitsio.read_header(str(path), ext=1)["RAMAX"] == header["RAMAX"]


def test_catalogued_pixels_agree_with_the_wcs(small: Path) -> None:
    for brick in names(small):
        header = fits.getheader(
            small / f"release/coadd/{brick[:3]}/{brick}/legacysurvey-{brick}-image-r.fits.fz", 1
        )
        wcs = WCS(header)
        assert abs(header["CD1_1"]) * 3600 == pytest.approx(PIXEL_SCALE)
        paths = [small / f"release/tractor/{brick[:3]}/tractor-{brick}.fits"]
        paths += [run / f"sim/{brick[:3]}/injected-{brick}.fits" for run in runs(small)]
        for path in paths:
            rows = table(path)
            x, y = wcs.all_world2pix(rows["ra"], rows["dec"], 0)
            assert np.abs(x - rows["bx"]).max() < 1e-4
            assert np.abs(y - rows["by"]).max() < 1e-4


def test_obiwan_layout_holds_the_same_run(small: Path) -> None:
    brick, run = names(small)[0], runs(small)[0]
    place = f"{brick[:3]}/{brick}/rs0"
    truth = table(run / f"sim/{brick[:3]}/injected-{brick}.fits")
    simcat = table(small / f"injected_obiwan/obiwan/{place}/simcat-elg-{brick}.fits")
    done = truth[~truth["collided"]]
    assert np.array_equal(simcat["id"], done["id"])
    assert np.allclose(simcat["x"], done["bx"] + 1)
    assert np.allclose(simcat["gflux"], done["flux_g"])
    skipped = [table(p)["ids"] for p in (small / "injected_obiwan/obiwan").rglob("skippedids-elg-*.fits")]
    collided = [t["id"][t["collided"]] for t in map(table, (small / "injected").rglob("injected-*.fits"))]
    assert sum(map(len, skipped)) == sum(map(len, collided)) > 0
    rows = table(run / f"tractor/{brick[:3]}/tractor-{brick}.fits")
    old = table(small / f"injected_obiwan/tractor/{place}/tractor-{brick}.fits")
    exponential = np.isin(np.char.strip(rows["type"]), ["EXP", "REX"])
    assert np.array_equal(old["shapeexp_r"][exponential], rows["shape_r"][exponential])
    assert np.array_equal(old["flux_z"], rows["flux_z"])
    assert not old["flux_Y"].any()
    headers = [
        fits.getheader(root / f"{where}/tractor-{brick}.fits", 1)
        for root, where in ((small / "injected_obiwan/tractor", place), (run / "tractor", brick[:3]))
    ]
    kinds = [{h[f"TTYPE{k}"]: h[f"TFORM{k}"] for k in range(1, h["TFIELDS"] + 1)} for h in headers]
    assert [k["type"] for k in kinds] == ["4A", "3A"]
    assert [k["bx"] for k in kinds] == ["E", "E"]
    coadd = fitsio.read(str(small / f"injected_obiwan/coadd/{place}/legacysurvey-{brick}-image-r.fits.fz"))
    assert np.array_equal(coadd, plane(run, brick, "image", "r"))
    assert table(small / f"injected_obiwan/obiwan/{place}/metacat-elg-{brick}.fits")["nobj"][0] == len(done)


def test_neighbouring_bricks_show_the_same_sky(small: Path) -> None:
    """West of RA 0 and east of it: what both coadds hold is at the same place in both catalogues."""
    west, east = names(small)[:2]
    assert (west, east) == ("3598p000", "0001p000")
    rows = {b: table(small / f"release/tractor/{b[:3]}/tractor-{b}.fits") for b in (west, east)}
    wcs = WCS(
        fits.getheader(small / f"release/coadd/{east[:3]}/{east}/legacysurvey-{east}-image-r.fits.fz", 1)
    )
    x, y = wcs.all_world2pix(rows[west]["ra"], rows[west]["dec"], 0)
    shared = (
        (x > 3)
        & (x < SMALL.brick_size - 4)
        & (rows[west]["flux_r"] > 1)
        & (y > 3)
        & (y < SMALL.brick_size - 4)
    )
    assert shared.sum() >= 5
    found = cKDTree(np.column_stack([rows[east]["bx"], rows[east]["by"]])).query(
        np.column_stack([x, y])[shared]
    )[0]
    assert np.mean(found < 2) > 0.9
    primary = {b: rows[b]["ra"][rows[b]["brick_primary"]] for b in rows}
    assert primary[west].min() > 359
    assert primary[east].max() < 1
    assert (rows[east]["ra"] > 359).any()


def test_saturated_core_and_uncovered_pixels() -> None:
    brick = mock_bricks.Brick(0, 0, 128, 20)
    conditions = mock_bricks.draw_conditions(np.random.default_rng(0))
    exposures = [mock_bricks.draw_exposure(np.random.default_rng(k), 128, 0.003, 2) for k in range(3)]
    exposures[0].nobs[:, :30] = 0
    objects = mock_sky.draw_population(np.random.default_rng(4), 2, BANDS, np.ones(3))
    objects["flux"] = objects["light_flux"] = [[2000.0] * 3, [20.0] * 3]
    objects["saturated"] = [True, False]
    objects["sersic"] = objects["light_sersic"] = objects["light_r"] = 0.0
    objects["x"], objects["y"] = [64.0, 15.0], [64.0, 90.0]
    for exposure in exposures:
        drawing.saturate(exposure, objects)
    objects["ra"], objects["dec"] = brick.to_sky(objects["x"], objects["y"])
    at = drawing.Observed(1, brick, conditions, 0)
    empty = drawing.empty_sky(np.random.default_rng(1), exposures[0])
    image, invvar = drawing.add_objects(*empty, objects, at, "release")
    assert image[64, 64] == drawing.SATURATION_FILL
    assert invvar[64, 64] == 0
    assert not image[:, :30].any()
    assert not invvar[:, :30].any()
    found = mock_catalog.detect(objects, brick, conditions, exposures)
    star, edge = mock_catalog.catalogue(found, objects[:1], brick)
    assert star["allmask_r"] & mock_bricks.SATUR
    assert star["maskbits"] & mock_catalog.MEDIUM
    assert (edge["nobs_g"], edge["flux_g"], edge["flux_ivar_g"], edge["psfsize_g"]) == (0, 0, 0, 0)
    assert edge["nobs_r"] > 0
    assert edge["maskbits"] & mock_catalog.NPRIMARY


def test_some_injections_are_lost_and_close_pairs_become_one() -> None:
    brick = mock_bricks.Brick(0, 0, 256, 20)
    conditions = mock_bricks.draw_conditions(np.random.default_rng(0))
    flat = mock_bricks.Exposure(
        np.full((256, 256), 3, np.uint8), np.zeros((256, 256), "i2"), np.ones((256, 256), "f4")
    )
    objects = mock_sky.draw_population(np.random.default_rng(4), 4, BANDS, np.ones(3))
    objects["light_flux"] = objects["flux"] = np.outer([3.0, 2.0, 3.0, 0.02], [1, 1, 1])
    objects["x"], objects["y"] = [50.0, 52.5, 90.0, 150.0], 60.0
    rows = mock_catalog.detect(objects, brick, conditions, [flat] * 3)
    assert len(rows) == 3
    rows = mock_catalog.catalogue(rows, objects[:0], brick)
    assert len(rows) == 2
    blend = rows[np.argmin(rows["bx"])]
    assert blend["flux_r"] == pytest.approx(5, abs=0.1 + 6 * float(blend["flux_ivar_r"]) ** -0.5)
    assert 50 < blend["bx"] < 52.5


def test_measurement_errors_are_what_the_ivars_say() -> None:
    rng = np.random.default_rng(8)
    brick = mock_bricks.Brick(0, 0, 2048, 20)
    conditions = mock_bricks.draw_conditions(rng)
    size = (2048, 2048)
    flat = [
        mock_bricks.Exposure(np.full(size, n, np.uint8), np.zeros(size, "i2"), np.ones(size, "f4"))
        for n in conditions.nobs
    ]
    objects = mock_sky.draw_population(rng, 1500, BANDS, np.ones(3))
    grid = np.stack(np.meshgrid(np.arange(40), np.arange(40)), -1).reshape(-1, 2)[:1500] * 50 + 30.0
    objects["x"], objects["y"] = grid[:, 0], grid[:, 1]
    rows = mock_catalog.detect(objects, brick, conditions, flat)
    near, index = cKDTree(grid).query(np.column_stack([rows["bx"], rows["by"]]))
    assert near.max() < 10
    truth = objects[index]
    faint = truth["flux"][:, 1] < 1
    for mask in (faint, ~faint):
        pull = (rows["flux_r"] - truth["flux"][:, 1])[mask] * np.sqrt(rows["flux_ivar_r"][mask])
        assert 1 < 1.483 * np.median(np.abs(pull)) < 2  # the tractor takes the shape for known
        pull = (rows["bx"] - truth["x"])[mask] * PIXEL_SCALE / 3600 * np.sqrt(rows["ra_ivar"][mask])
        assert pull.std() == pytest.approx(1, abs=0.15)
    assert np.median(rows["ra_ivar"][faint]) < 0.3 * np.median(rows["ra_ivar"][~faint])


# --- reproducible


def test_equal_seeds_give_equal_bytes_whatever_the_jobs(tmp_path: Path) -> None:
    config = MockConfig(bricks=2, brick_size=160, runs=1, seed=11, layout="both")
    first, second = (contents(survey(config, tmp_path / str(jobs), jobs)) for jobs in (1, 2))
    assert first == second
    assert len(first) > 40
    other = contents(
        survey(MockConfig(bricks=2, brick_size=160, runs=1, seed=12, layout="both"), tmp_path / "o")
    )
    planes = [name for name in first if name.endswith(".fz")]
    assert planes == [name for name in other if name.endswith(".fz")]
    assert all(first[name] != other[name] for name in planes)


def test_a_brick_does_not_depend_on_the_number_of_bricks_or_runs(tmp_path: Path) -> None:
    """Streams belong to brick and run, so a longer survey extends a shorter one (inner bricks aside)."""
    one = survey(MockConfig(bricks=1, brick_size=200, runs=1), tmp_path / "one")
    more = survey(MockConfig(bricks=1, brick_size=200, runs=2), tmp_path / "more")
    files, longer = contents(one), contents(more)
    assert all(longer[name] == data for name, data in files.items() if name != "mock.json")


def test_no_file_holds_a_path_or_a_time(tiny: Path) -> None:
    for name, data in contents(tiny).items():
        assert str(tiny).encode() not in data, name
        assert b"DATE" not in data[:30000], name
    assert json.loads((tiny / "mock.json").read_text())["complete"] is True


# --- planted


def planted(tmp_path: Path, null: Path, **amplitude: float) -> tuple[Path, set[str]]:
    """The tiny survey with something planted, and the kinds of file that differ from the null one's."""
    base = {"no_shot_noise": 1.0} if null.name == "noiseless" else {}
    values = {f: getattr(TINY, f) for f in ("bricks", "brick_size", "runs", "injections", "density", "seed")}
    outdir = survey(MockConfig(**values, plant=Plant(**{**base, **amplitude})), tmp_path / "planted")
    before, after = contents(null), contents(outdir)
    assert before.keys() == after.keys()
    changed = {name for name in after if after[name] != before[name]} - {"mock.json"}
    assert not any(name.startswith(("release", "truth", "bricks")) for name in changed)
    kinds = {"image": "-image-", "invvar": "-invvar-", "tractor": "tractor-", "truth": "injected-"}
    return outdir, {kind for kind, part in kinds.items() if any(part in name for name in changed)}


@pytest.fixture(scope="module")
def noiseless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = {f: getattr(TINY, f) for f in ("bricks", "brick_size", "runs", "injections", "density", "seed")}
    config = MockConfig(**values, plant=Plant(no_shot_noise=1.0))
    return survey(config, tmp_path_factory.mktemp("mock") / "noiseless")


def injected_light(outdir: Path, band: str) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Truth and conditions header of the lone, well-covered galaxies, and the light that was added there."""
    brick, (run,) = names(outdir)[0], runs(outdir)
    path = run / f"sim/{brick[:3]}/injected-{brick}.fits"
    truth = table(path)
    truth = truth[~truth["collided"]]
    added = plane(run, brick, "image", band).astype(float) - plane(outdir / "release", brick, "image", band)
    good = plane(outdir / "release", brick, "invvar", band) > 0
    out, rows = [], []
    where = np.column_stack([truth["bx"], truth["by"]])
    alone = cKDTree(where).query(where, k=2)[0][:, 1] > 36
    for row in truth[alone & (truth["sersic"] == 1) & (truth["flux_r"] > 0.5)]:
        x, y = round(row["bx"]), round(row["by"])
        box = (slice(y - 15, y + 16), slice(x - 15, x + 16))
        if good[y, x] and good[box].shape == (31, 31):
            out.append(added[box])
            rows.append(row)
    assert len(out) >= 3
    return np.array(rows), fitsio.read_header(str(path)), out


def drawn(row: np.void, band: str, fwhm: float) -> np.ndarray:
    """What truth says was drawn, rendered in a 31-px stamp around the object's pixel."""
    shape = (float(row[name]) for name in ("light_shape_r", "light_sersic", "shape_e1", "shape_e2"))
    x, y = (15 + row[axis] - round(row[axis]) for axis in ("bx", "by"))
    return draw(float(row[f"light_flux_{band}"]), fwhm, 31, (x, y), *shape)


@pytest.mark.parametrize("band", BANDS)
def test_injected_light_is_the_rendered_light(noiseless: Path, band: str) -> None:
    rows, header, stamps = injected_light(noiseless, band)
    for row, stamp in zip(rows, stamps, strict=True):
        model = drawn(row, band, header[f"FWHM_{band.upper()}"])
        # Each plane is rounded to STEP, and a masked pixel is not special: its light is there too.
        assert np.abs(stamp - model).max() < 1.5 * STEP + 1e-3 * model.max()
        assert stamp.sum() == pytest.approx(row[f"flux_{band}"], rel=0.06)


def test_planted_offset_moves_the_light_alone(tmp_path: Path, noiseless: Path) -> None:
    outdir, changed = planted(tmp_path, noiseless, offset=1.25)
    assert changed == {"image", "invvar", "tractor", "truth"}
    before, after = (injected_light(d, "r") for d in (noiseless, outdir))
    for name in before[0].dtype.names:
        if not name.startswith("light_dx"):
            assert np.array_equal(before[0][name], after[0][name])
    assert {float(x) for band in BANDS for x in after[0][f"light_dx_{band}"]} == {1.25}
    shift = [np.array(moments(b)[:2]) - moments(a)[:2] for a, b in zip(before[2], after[2], strict=True)]
    assert np.mean(shift, axis=0) == pytest.approx([1.25, 0], abs=0.06)
    stack = sum(s / s.sum() for s in after[2])
    centre = np.mean([[r["bx"] - round(r["bx"]), r["by"] - round(r["by"])] for r in after[0]], axis=0)
    assert np.array(moments(stack)[:2]) - 15 - centre == pytest.approx([1.25, 0], abs=0.1)


def test_planted_psf_widens_the_light(tmp_path: Path, noiseless: Path) -> None:
    outdir, _ = planted(tmp_path, noiseless, psf=1.3)
    before, after = (injected_light(d, "g") for d in (noiseless, outdir))
    for row, old, new in zip(before[0], before[2], after[2], strict=True):
        model = drawn(row, "g", 1.3 * before[1]["FWHM_G"])
        assert np.abs(new - model).max() < 1.5 * STEP + 1e-3 * model.max()
        assert new.max() < old.max()
    assert np.array_equal(before[0]["light_shape_r"], after[0]["light_shape_r"])


@pytest.mark.parametrize(
    ("amplitude", "ratios"),
    [
        ({"flux": 1.2}, (1.2, 1.2, 1.2)),
        ({"colour": 200.0}, (10**0.04, 1.0, 10**-0.04)),
        ({"size": 1.4}, (1.0, 1.0, 1.0)),
        ({"sersic": 0.5}, (1.0, 1.0, 1.0)),
    ],
)
def test_planted_photometry_and_shape(
    tmp_path: Path, noiseless: Path, amplitude: dict[str, float], ratios: tuple[float, ...]
) -> None:
    outdir, changed = planted(tmp_path, noiseless, **amplitude)
    assert changed == {"image", "invvar", "tractor", "truth"}
    for band, ratio in zip(BANDS, ratios, strict=True):
        before, after = (injected_light(d, band) for d in (noiseless, outdir))
        asked = [n for n in before[0].dtype.names if not n.startswith("light_")]
        assert all(np.array_equal(before[0][n], after[0][n]) for n in asked)
        assert after[0][f"light_flux_{band}"] == pytest.approx(ratio * before[0][f"flux_{band}"])
        sums = np.array([[s.sum() for s in d[2]] for d in (before, after)])
        if ratio != 1:
            assert np.median(sums[1] / sums[0]) == pytest.approx(ratio, rel=0.01)
    assert after[0]["light_shape_r"] == pytest.approx(amplitude.get("size", 1.0) * before[0]["shape_r"])
    assert after[0]["light_sersic"] == pytest.approx(amplitude.get("sersic", 0.0) + before[0]["sersic"])
    for row, old, new in zip(after[0], before[2], after[2], strict=True):
        model = drawn(row, "z", after[1]["FWHM_Z"])
        assert np.abs(new - model).max() < 1.5 * STEP + 1e-3 * model.max()
        assert np.abs(new - old).max() > 3 * STEP


def fits_of(outdir: Path, truth: np.ndarray) -> np.ndarray:
    """Rows of the catalogue of the run that are nearest to the truth."""
    (brick,) = names(outdir)
    rows = table(runs(outdir)[0] / f"tractor/{brick[:3]}/tractor-{brick}.fits")
    tree = cKDTree(np.column_stack([rows["bx"], rows["by"]]))
    return rows[tree.query(np.column_stack([truth["bx"], truth["by"]]))[1]]


def test_planted_size_is_measured(tmp_path: Path, noiseless: Path) -> None:
    outdir, _ = planted(tmp_path, noiseless, size=1.5, flux=2.0)
    truth = injected_light(outdir, "r")[0]
    found = [fits_of(d, truth) for d in (noiseless, outdir)]
    assert np.median(found[1]["flux_r"] / found[0]["flux_r"]) == pytest.approx(2, rel=0.1)
    extended = found[0]["shape_r"] > 0.3
    assert np.median(found[1]["shape_r"][extended] / found[0]["shape_r"][extended]) == pytest.approx(
        1.5, rel=0.15
    )


def test_fits_follow_the_light(tmp_path: Path, noiseless: Path) -> None:
    """Positions, sizes, fluxes and types are those of the light, whatever the truth says."""
    truth = injected_light(noiseless, "r")[0]
    before = fits_of(noiseless, truth)

    def after(**amplitude: float) -> np.ndarray:
        place = tmp_path / "_".join(amplitude)
        place.mkdir()
        return fits_of(planted(place, noiseless, **amplitude)[0], truth)

    together, alone = after(offset=1.25), after(offset_g=1.25)
    assert together["bx"] - before["bx"] == pytest.approx(1.25, abs=1e-3)
    assert together["shape_r"] == pytest.approx(before["shape_r"], rel=5e-3)
    moved = alone["bx"] - before["bx"]
    assert (moved > 0.1 * 1.25).all()
    assert (moved < 0.6 * 1.25).all()
    for rows in (together, alone):
        assert rows["by"] == pytest.approx(before["by"], abs=0.05)
    galaxy = before["shape_r"] > 0.3
    assert np.count_nonzero(galaxy) > 3
    wider, cuspy = after(psf=1.2), after(sersic=3.0)
    assert (wider["shape_r"][galaxy] > 1.05 * before["shape_r"][galaxy]).all()
    assert np.array_equal(wider["psfsize_r"], before["psfsize_r"])
    assert np.mean(cuspy["sersic"] - before["sersic"]) > 0.5
    bluer = after(colour=300.0)
    change = np.log10((bluer["flux_g"] / bluer["flux_z"]) / (before["flux_g"] / before["flux_z"]))
    assert np.median(2500 * change) == pytest.approx(300, abs=40)


def test_what_is_planted_scatters_from_brick_to_brick(tmp_path: Path) -> None:
    config = MockConfig(bricks=9, brick_size=160, runs=1, injections=2, density=0.0, plant_scatter=0.3)
    config = replace(config, plant=Plant(offset=1.0, flux=1.2, ivar_dip=0.9))
    outdir = survey(config, tmp_path / "m")
    truth = [table(runs(outdir)[0] / f"sim/{b[:3]}/injected-{b}.fits")[0] for b in names(outdir)]
    strength = np.array([row["light_dx_r"] for row in truth])
    assert 0.1 < strength.std() < 0.6
    assert strength.mean() == pytest.approx(1, abs=0.4)
    assert [row["light_flux_r"] / row["flux_r"] for row in truth] == pytest.approx(1.2**strength)
    assert [row["light_dip"] for row in truth] == pytest.approx(np.clip(0.9 * strength, 0, 1))


def test_bricks_differ_as_much_as_is_asked_for() -> None:
    def conditions(**scatter: float) -> np.ndarray:
        drawn = [mock_bricks.draw_conditions(np.random.default_rng(k), BANDS, **scatter) for k in range(800)]
        return np.log([[one.fwhm, one.sigma] for one in drawn])

    found = conditions(seeing_scatter=0.2, depth_scatter=0.05).std(axis=0)
    assert found[0] == pytest.approx(0.2, rel=0.1)
    assert found[1] == pytest.approx(0.05, rel=0.1)
    assert np.corrcoef(conditions()[:, 0].T)[0, 1] == pytest.approx(0.5, abs=0.1)
    assert conditions(seeing_scatter=0.0, depth_scatter=0.0).std(axis=0) == pytest.approx(0)


def test_missing_shot_noise_changes_the_image_alone(tmp_path: Path, tiny: Path) -> None:
    half, changed = planted(tmp_path, tiny, no_shot_noise=0.5)
    assert changed == {"image", "tractor", "truth"}
    whole = planted(tmp_path / "whole", tiny, no_shot_noise=1.0)[0]
    (brick,) = names(tiny)
    images = [plane(runs(d)[0], brick, "image", "g").astype(float) for d in (tiny, half, whole)]
    lost = [images[0] - images[k] for k in (1, 2)]
    shot = np.abs(lost[1]) > 5 * STEP
    assert shot.sum() > 20
    assert np.median(lost[0][shot] / lost[1][shot]) == pytest.approx(0.5, abs=0.05)
    assert np.abs(np.mean(lost[1])) < STEP
    run, release = plane(runs(tiny)[0], brick, "invvar", "g"), plane(tiny / "release", brick, "invvar", "g")
    bright = (release > 0) & (run > 0) & (run < 0.95 * release)
    pull = lost[1][bright] / np.sqrt(1 / run[bright].astype(float) - 1 / release[bright])
    assert bright.sum() > 50
    assert pull.std() == pytest.approx(1, abs=4 / np.sqrt(2 * bright.sum()))


def test_planted_dip_changes_invvar_alone(tmp_path: Path, tiny: Path) -> None:
    outdir, changed = planted(tmp_path, tiny, ivar_dip=0.3)
    assert changed == {"invvar", "tractor", "truth"}
    (brick,) = names(tiny)
    run = runs(tiny)[0]
    ratio = [plane(runs(d)[0], brick, "invvar", "r").astype(float) for d in (outdir, tiny)]
    good = ratio[1] > 0
    truth = table(run / f"sim/{brick[:3]}/injected-{brick}.fits")
    truth = truth[~truth["collided"]]
    centres = np.zeros_like(good)
    centres[np.round(truth["by"]).astype(int), np.round(truth["bx"]).astype(int)] = True
    yy, xx = np.mgrid[: good.shape[0], : good.shape[1]]
    far = cKDTree(np.column_stack([truth["bx"], truth["by"]])).query(
        np.column_stack([xx.ravel(), yy.ravel()])
    )[0]
    far = (far > 15).reshape(good.shape)
    assert np.mean((ratio[0] / np.where(good, ratio[1], 1))[centres & good]) == pytest.approx(0.71, abs=0.02)
    assert np.mean((ratio[0] / np.where(good, ratio[1], 1))[far & good]) == pytest.approx(1, abs=1e-3)


# --- bands


GRIZ = ("g", "r", "i", "z")


@pytest.fixture(scope="module", params=[GRIZ, ("r",)], ids="".join)
def banded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mock surveys of four bands and of one, without shot noise of the injections."""
    config = replace(SMALL, bands=request.param, bricks=4, brick_size=300, runs=1, west=0)
    config = replace(config, plant=Plant(no_shot_noise=1.0), density=1.5, seed=12)
    return survey(config, tmp_path_factory.mktemp("mock") / "".join(request.param))


def bands_of(outdir: Path) -> tuple[str, ...]:
    return tuple(json.loads((outdir / "mock.json").read_text())["config"]["bands"])


def test_files_have_the_bands_that_were_asked_for(banded: Path) -> None:
    bands, brick = bands_of(banded), names(banded)[0]
    for coadd in (banded / "release/coadd", runs(banded)[0] / "coadd", banded / "injected_obiwan/coadd"):
        found = {path.name.split("-")[-1][0] for path in coadd.rglob("*-image-*.fz")}
        assert found == set(bands)
    paths = [banded / f"release/tractor/{brick[:3]}/tractor-{brick}.fits"]
    paths += [banded / f"release/coadd/{brick[:3]}/{brick}/legacysurvey-{brick}-ccds.fits"]
    for path in paths:
        header = fitsio.read_header(str(path))
        assert (header["BANDS"], header["NBANDS"]) == ("".join(bands), len(bands))
        assert [header[f"CAMS_{band.upper()}"] for band in bands] == ["decam"] * len(bands)
        assert ("BRICK_I" in header) == ("i" in bands)
    columns = table(paths[0]).dtype.names or ()
    assert [name[-1] for name in columns if name.startswith("psfsize_")] == list(bands)
    assert set(table(paths[1])["filter"]) == set(bands)
    old = table(next((banded / "injected_obiwan/tractor").rglob("*.fits")))
    assert {band for band in "ugrizY" if old[f"flux_{band}"].any()} == set(bands)


def test_light_of_any_band_is_the_rendered_light(banded: Path) -> None:
    band = "i" if "i" in bands_of(banded) else "r"
    rows, header, stamps = injected_light(banded, band)
    for row, stamp in zip(rows, stamps, strict=True):
        model = drawn(row, band, header[f"FWHM_{band.upper()}"])
        assert np.abs(stamp - model).max() < 1.5 * STEP + 1e-3 * model.max()


def test_i_lies_between_r_and_z() -> None:
    conditions = mock_bricks.draw_conditions(np.random.default_rng(1), GRIZ)
    fluxes = mock_sky.draw_population(np.random.default_rng(1), 500, GRIZ, np.ones(4))["flux"]
    mags = 22.5 - 2.5 * np.log10(fluxes)
    assert mags[:, 2] == pytest.approx((mags[:, 1] + mags[:, 3]) / 2)
    transmission = conditions.transmission()
    assert (np.diff(transmission) > 0).all()
    grz = mock_bricks.draw_conditions(np.random.default_rng(1))
    for values in ("fwhm", "sigma", "nobs"):  # a band is observed alike, whichever others are
        g, r, _, z = getattr(conditions, values)
        assert getattr(grz, values) == (g, r, z)


def test_mask_bits_of_i_are_those_of_dr10() -> None:
    rows = np.zeros(3, mock_catalog.tractor_dtype(GRIZ))
    masks = np.zeros((3, 4), "i2")
    masks[1, 2], masks[2, 3] = mock_bricks.SATUR, mock_bricks.BADPIX
    rows["brick_primary"] = True
    objects = np.zeros(3, mock_sky.object_dtype(GRIZ))
    for k, band in enumerate(GRIZ):
        rows[f"allmask_{band}"] = masks[:, k]
    mock_catalog._masks(rows, objects[:0], GRIZ)
    assert rows["maskbits"].tolist() == [0, 0x4000 | 0x8000, 0x80]
    assert rows["allmask_i"].tolist() == [0, mock_bricks.SATUR, 0]


@pytest.mark.parametrize("layout", ["injected", "injected_obiwan"])
def test_a_training_set_of_the_bands(banded: Path, tmp_path: Path, layout: str) -> None:
    bands = bands_of(banded)
    words = ["--fake", banded / layout, "--real", banded / "release", "--bands", *bands, "--jobs", 1]
    words += ["--select", "none", "--balance", "none", "--outdir", tmp_path / "set"]
    assert create_training.main([str(word) for word in words]) == 0
    made = open_training_set(tmp_path / "set")
    assert made.spec.bands == bands
    for split in SPLITS:
        assert min(made.count(split)) > 0
    rows, x = made.rows("train"), made.stamps("train", np.arange(sum(made.count("train"))))
    measured = made.spec.image(x)[:, 22:43, 22:43].sum(axis=(1, 2))
    bright = np.flatnonzero(made.spec.per_band(rows, "flux").min(axis=1) > 2)
    ratio = measured[bright] / made.spec.per_band(rows[bright], "flux")
    assert np.median(ratio, axis=0) == pytest.approx(1, abs=0.2)  # every plane is that of its band


# --- bad input


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--brick-size", "100"], "must be 128 to 8192"),
        (["--brick-size", "200", "--injections", "500"], "do not fit"),
        (["--border", "120", "--brick-size", "256"], "no primary area"),
        (["--plant-ivar-dip", "2"], "plant-ivar-dip"),
        (["--plant-psf", "0"], "plant-psf"),
        (["--jobs", "0"], "must be 1 to 4096"),
        (["--seed", "-1"], "seed"),
        (["--bands", "g", "u"], "must be different ones of g r i z"),
        (["--bands", "g", "g"], "must be different ones of g r i z"),
        (["--bands", "r", "--plant-colour", "50"], "in one band, r"),
        (["--bands", "r", "--plant-offset-r", "1"], "--plant-offset-r cannot be planted in one band, r"),
        (["--plant-offset-i", "1"], "the survey has no band i"),
        (["--plant-scatter", "-1"], "plant-scatter"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        mock.main(["--outdir", str(tmp_path / "m"), *words])
    assert caught.value.code == 2
    assert expected in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "m").exists()


def test_overwrite_replaces_a_mock_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--outdir",
        str(tmp_path / "m"),
        "--bricks",
        "1",
        "--brick-size",
        "160",
        "--runs",
        "1",
        "--jobs",
        "1",
    ]
    assert mock.main(words) == 0
    (tmp_path / "m/release/stale").touch()
    assert mock.main(words) == 1
    assert "holds a mock survey already" in capsys.readouterr().err
    assert mock.main([*words, "--overwrite"]) == 0
    assert not (tmp_path / "m/release/stale").exists()
    (tmp_path / "m/thesis.tex").touch()
    assert mock.main([*words, "--overwrite"]) == 1
    (tmp_path / "dr9/release").mkdir(parents=True)
    assert mock.main(["--outdir", str(tmp_path / "dr9"), "--overwrite"]) == 1
    assert (tmp_path / "dr9/release").exists()
    assert "release, which is no part of a mock survey" in capsys.readouterr().err


def test_options_come_from_a_config_file_too(tmp_path: Path) -> None:
    (tmp_path / "mock.toml").write_text(
        "bricks = 1\nbrick-size = 160\nruns = 0\nplant-offset = 0.5\njobs = 1\n"
    )
    words = ["--config", str(tmp_path / "mock.toml"), "--outdir", str(tmp_path / "m"), "--seed", "5"]
    assert mock.main(words) == 0
    config = json.loads((tmp_path / "m/mock.json").read_text())["config"]
    assert (config["brick_size"], config["plant"]["offset"], config["seed"]) == (160, 0.5, 5)


def test_importing_the_package_loads_no_galsim(root: Path) -> None:
    code = "import sys, obiwan.dplearn; sys.exit('galsim' in sys.modules)"
    env = {"PYTHONPATH": str(root / "py")}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 0


def test_brick_names_and_boxes_tile_the_sky() -> None:
    grid = mock_bricks.brick_grid(MockConfig(bricks=9, brick_size=400, border=40, dec=30.0, west=1))
    assert len({b.name for b in grid}) == len({b.brickid for b in grid}) == 9
    west, east = grid[0], grid[1]
    assert (west.box[1], east.box[0]) == (360.0, 0.0)
    assert grid[3].box[2] == pytest.approx(west.box[3])
    assert (west.box[1] - west.box[0]) * np.cos(np.radians(30)) * 3600 == pytest.approx(320 * PIXEL_SCALE)
    edge = np.array([359.99999, 0.0, 0.00001])
    assert west.is_primary(edge, np.full(3, 30.0)).tolist() == [True, False, False]
    assert east.is_primary(edge, np.full(3, 30.0)).tolist() == [False, True, True]


def test_dr5_columns_turn_sersic_into_composite() -> None:
    rows = np.zeros(3, mock_catalog.tractor_dtype(BANDS))
    rows["type"], rows["shape_r"] = [b"SER", b"DEV", b"PSF"], [0.5, 0.7, 0.0]
    old = mock_files.dr5_columns(rows)
    assert old["type"].tolist() == [b"COMP", b"DEV ", b"PSF "]
    assert old["shapedev_r"] == pytest.approx([0.5, 0.7, 0.0])
    assert old["shapeexp_r"] == pytest.approx([0.5, 0.0, 0.0])
    assert old["fracdev"] == pytest.approx([0.5, 1.0, 0.0])


Observed = tuple[set[int], mock_bricks.Conditions]  # numbers of exposures, and how it was observed


def exposures_of(config: MockConfig, directory: Path) -> dict[tuple[int, int], Observed]:
    """Numbers of the exposures of each brick, by its row and column, and how it was observed."""
    found = {}
    for brick in mock_bricks.brick_grid(config):
        conditions = conditions_of(config, brick)
        mock_files.write_ccds(directory / "ccds.fits", brick, conditions)
        numbers = table(directory / "ccds.fits")["expnum"]
        found[brick.row, brick.col] = set(numbers.tolist()), conditions
    return found


def test_squares_of_bricks_share_exposures_and_conditions_on_request(tmp_path: Path) -> None:
    config = replace(SMALL, bricks=16, west=2)
    alone, shared = (exposures_of(replace(config, shared_exposures=n), tmp_path) for n in (1, 2))
    for one, other in itertools.combinations(shared, 2):
        square = [(row // 2, col // 2) for row, col in (one, other)]
        same = square[0] == square[1]
        assert bool(shared[one][0] & shared[other][0]) == same
        assert (shared[one][1] == shared[other][1]) == same
        assert not alone[one][0] & alone[other][0]
        assert alone[one][1] != alone[other][1]


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_an_offset_that_fits_follow_shows_in_fit_minus_truth(offset: float, tmp_path: Path) -> None:
    """Stamps are centred on fits, the default: no centroid sees it."""
    config = MockConfig(bricks=9, brick_size=280, runs=5, injections=30, density=0.6, seed=21)
    tree = survey(replace(config, plant=Plant(offset=offset)), tmp_path / "mock") / "injected"
    words = ["--fake", str(tree), "--outdir", str(tmp_path / "set"), "--select", "none", "--edge", "pad"]
    words += ["--split", "object", "--balance", "none", "--allow-injected-neighbours"]
    assert create_training.main(words) == 0
    stamp_set = open_training_set(tmp_path / "set")
    rows, measured = stamp_set.examples(), [measure_split(stamp_set, split) for split in SPLITS]
    bricks = np.char.strip(rows["brick"].astype(str))
    controls = run_controls(rows, np.concatenate(measured), rows["label"], bricks, stamp_set.spec)
    found = {(one.name, one.band): one for one in controls}
    along, across = (found[f"fit minus truth, {axis}", ""] for axis in ("x", "y"))
    assert along.effect == pytest.approx(offset, abs=0.02)
    assert along.low < offset < along.high
    assert along.state == (State.FAIL if offset else State.PASS)
    assert across.state == State.PASS
    for band in BANDS:
        assert found["centroid x", band].state != State.FAIL
        assert found["flux of fit over truth", band].state != State.FAIL
        assert abs(found["flux of fit over truth", band].effect) < 0.03
