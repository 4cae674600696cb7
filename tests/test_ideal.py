"""The observer of an offset: closed forms of what noise allows, and which mock survey it may speak for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.evaluation import ideal
from obiwan.dplearn.mock.config import MockConfig, Plant
from obiwan.dplearn.mock.survey import make_survey
from obiwan.dplearn.retraining.planting import model_of
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.coadds import read_planes
from obiwan.dplearn.survey.cutouts import clean_stamps, cut_stamps
from obiwan.dplearn.survey.layouts import Root, find_runs, layout_named
from obiwan.dplearn.survey.rendering import MOFFAT_BETA, Galaxy
from obiwan.dplearn.trainingset.examples import blank_examples

POINT = Galaxy((3.0, 5.0, 8.0), (1.5, 1.4, 1.3), 32.2, 31.9, 0.0, 0.0, 0.0, 0.0)
SPEC = StampSpec()
IVAR = np.broadcast_to([400.0, 200.0, 60.0], (64, 64, 3))


def position_error(galaxy, ivar=IVAR):
    return ideal.position_error(galaxy, ivar, lambda moved: model_of(moved, SPEC))


def test_a_gaussian_has_the_error_of_the_textbook():
    """sqrt(2) sigma over the signal to noise of a matched filter."""
    sigma, y, x = 2.3, *np.mgrid[:64, :64]

    def draw(galaxy):
        shape = np.exp(-((x - galaxy.x) ** 2 + (y - galaxy.y) ** 2) / (2 * sigma**2))
        return (shape / (2 * np.pi * sigma**2))[..., None] * np.array(galaxy.flux)

    signal_to_noise = np.sqrt(np.sum(draw(POINT) ** 2 * IVAR))
    found = ideal.position_error(POINT, IVAR, draw)
    assert found == pytest.approx(np.sqrt(2) * sigma / signal_to_noise, rel=1e-3)


def test_a_point_source_has_the_error_of_its_moffat():
    """The integral of (d Moffat / dx)^2 is (b - 1)^2 b / (pi a^4 (2 b + 1))."""
    beta, information = MOFFAT_BETA, 0.0
    for flux, fwhm, ivar in zip(POINT.flux, POINT.fwhm, IVAR[0, 0], strict=True):
        scale = fwhm / SPEC.pixel_scale / (2 * np.sqrt(2 ** (1 / beta) - 1))
        information += flux**2 * ivar * (beta - 1) ** 2 * beta / (np.pi * scale**4 * (2 * beta + 1))
    assert position_error(POINT) == pytest.approx(information**-0.5, rel=0.01)


def test_a_galaxy_with_a_cusp_is_better_placed_than_its_radius_says():
    """A Gaussian of its half-light radius would have the error of the disc, or more, for both."""
    disc, cusp = (replace(POINT, radius=1.5, sersic=n) for n in (1.0, 4.0))
    errors = [position_error(galaxy) for galaxy in (POINT, cusp, disc)]
    assert errors[0] < errors[1] < 0.9 * errors[2]


def test_pixels_without_data_tell_nothing():
    half = np.array(IVAR)
    half[:, 32:] = 0
    assert position_error(POINT, half) > 1.2 * position_error(POINT)
    assert position_error(POINT, half * 0) == np.inf


@pytest.mark.parametrize("offset", [0.2, 0.5, 1.5])
def test_without_noise_only_the_phase_in_the_pixel_is_left(offset):
    expected = 1 - max(0.0, 1 - offset) ** 2 / 2
    assert ideal.offset_auc(offset, np.array([1e-9])) == pytest.approx(expected, abs=0.01)


def test_with_much_noise_it_is_that_of_two_gaussians():
    expected = norm.cdf(1.5 / np.sqrt(4.0 + 1 / 12) / np.sqrt(2))
    assert ideal.offset_auc(1.5, np.array([2.0])) == pytest.approx(expected, abs=0.01)
    assert ideal.offset_auc(1.5, np.array([np.inf])) == pytest.approx(0.5, abs=0.01)
    mixed = ideal.offset_auc(1.5, np.array([1e-9, np.inf]))
    assert mixed == pytest.approx(
        0.875, abs=0.01
    )  # only where both are guesses, in a quarter of the pairs, half are wrong


def test_the_curve_rises_from_the_faintest_to_the_brightest():
    rows = blank_examples(30, StampSpec())
    rows["x"], rows["y"], rows["type"] = 100.2, 80.1, b"PSF"
    flux = np.linspace(0.2, 6, 30)
    for band in "grz":
        rows[f"flux_{band}"], rows[f"psfsize_{band}"] = flux, 1.4
    rows["type"][3], rows["flux_g"][4] = b"COMP", np.nan  # of these no model can be rendered
    stamps = np.full((30, 64, 64, 6), 3000.0, np.float32)
    sn, found = ideal.offset_curve(0.4, rows, stamps, flux * 10, SPEC, points=4)
    assert len(sn) == len(found) == 4
    assert (np.diff(sn) > 0).all()
    assert (np.diff(found) > 0).all()
    assert found[-1] == pytest.approx(1 - 0.6**2 / 2, abs=0.03)


def scattered(n, pixels, rng):
    """Bright point sources whose stamps are centred so many pixels from their truth in each coordinate."""
    rows = blank_examples(n, StampSpec())
    rows["x"], rows["y"], rows["type"] = 100.0, 80.0, b"PSF"
    for band in "grz":
        rows[f"flux_{band}"], rows[f"psfsize_{band}"] = 1000.0, 1.4
    rows["ra"], rows["dec"] = 200.0, 60.0
    x, y = rng.normal(0, pixels * SPEC.pixel_scale / 3600, (2, n))
    rows["truth_ra"], rows["truth_dec"] = 200 + x / np.cos(np.radians(60)), 60 + y
    return rows


def test_who_does_not_know_the_middle_of_the_stamp_cannot_know_the_offset(rng):
    """Without noise there is the scatter of the positions, and the phase, left."""
    rows, stamps = scattered(400, 1.3, rng), np.full((400, 64, 64, 6), 3000.0, np.float32)
    assert ideal.placing_error(rows, SPEC.pixel_scale) == pytest.approx(1.3, rel=0.1)
    _, found = ideal.offset_curve(1.5, rows, stamps, np.arange(1.0, 401), SPEC, points=1)
    assert found[0] == pytest.approx(norm.cdf(1.5 / np.sqrt(2 * (1.3**2 + 1 / 12))), abs=0.02)
    rows["ra"], rows["dec"] = rows["truth_ra"], rows["truth_dec"]  # --centers truth
    assert ideal.offset_curve(1.5, rows, stamps, np.arange(1.0, 401), SPEC, points=1)[1] == pytest.approx(
        [1.0]
    )
    reals = blank_examples(3, StampSpec())
    reals["truth_ra"] = np.nan
    assert ideal.placing_error(reals, SPEC.pixel_scale) == 0


def test_what_is_planted_is_named():
    assert ideal.planted_in(Plant()) == ()
    assert ideal.planted_in(Plant(offset=0.7, ivar_dip=0.1)) == ("offset", "ivar_dip")


@pytest.fixture(scope="module")
def surveys(tmp_path_factory):
    """Two mock surveys that differ in nothing but what is planted, and one with another seed."""
    place = tmp_path_factory.mktemp("surveys")
    for name, seed, offset in (("own", 1, 1.5), ("plant", 1, 0.5), ("seed", 2, 1.5)):
        (place / name).mkdir()
        config = MockConfig(
            bricks=1, brick_size=200, border=20, runs=1, seed=seed, plant=Plant(offset=offset)
        )
        make_survey(config, place / name)
    return place


def test_a_stamp_is_of_the_survey_that_it_was_cut_from(surveys):
    root = Root(0, surveys / "own" / "injected", layout_named("legacysim"))
    (run,) = find_runs(root)
    row = blank_examples(1, StampSpec())
    row["brick"], row["run"], row["x"], row["y"], row["label"] = run.brick, run.run, 90.0, 104.0, 1
    stamps = np.zeros((1, 64, 64, 6), np.float32)
    cut_stamps(read_planes(run, SPEC), row["x"], row["y"], stamps, np.array([0]))
    clean_stamps(stamps, SPEC)
    assert ideal.check_same_survey(surveys / "own", row[0], stamps[0], SPEC)
    assert ideal.check_same_survey(surveys / "own" / "mock.json", row[0], stamps[0], SPEC)
    assert ideal.plant_of(surveys / "own").offset == 1.5
    for other in ("plant", "seed"):
        with pytest.raises(TrainingSetError, match="was not cut from this mock survey"):
            ideal.check_same_survey(surveys / other, row[0], stamps[0], SPEC)
    row["brick"] = b"9999p000"
    with pytest.raises(TrainingSetError, match="brick 9999p000"):
        ideal.check_same_survey(surveys / "own", row[0], stamps[0], SPEC)
    assert not ideal.check_same_survey(surveys, row[0], stamps[0], SPEC)  # no images there: it cannot be told


def test_what_is_no_mock_survey(tmp_path):
    with pytest.raises(TrainingSetError, match="no readable description of a mock survey"):
        ideal.plant_of(tmp_path)
