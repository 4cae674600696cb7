"""Mean stamps, profiles and noise of both classes, and the bricks of a set."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from evaluation_set import make_set
from obiwan.dplearn.controls.measure import measure_split
from obiwan.dplearn.evaluation import appearance
from obiwan.dplearn.evaluation.bricks import LEAST, auc_of_bricks, footprint, unwrapped
from obiwan.dplearn.evaluation.exhibits import appearance_of
from obiwan.dplearn.evaluation.power import power_curve
from obiwan.dplearn.referees.network import read_history
from obiwan.dplearn.retraining.detectable import Detection
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.twosample.ranking import Estimate, clustered_variance
from planted import Planted

SPEC = StampSpec(("g",), size=32)


@pytest.fixture(scope="module", params=["none", "offset", "size"])
def seen(request, tmp_path_factory):
    """What was planted, and the appearance of a set with it."""
    planted = {"none": Planted(), "offset": Planted("offset", 1.0), "size": Planted("size", 1.3)}
    counts = {"train": 16, "val": 16, "test": 320}
    data = make_set(tmp_path_factory.mktemp("set") / "set", planted[request.param], counts)
    return request.param, data.spec, appearance_of(data, measure_split(data, "test"), 1)


def test_mean_stamps_show_what_is_planted(seen):
    """An offset along x is a dipole along x; nothing planted is noise of one sigma."""
    kind, spec, found = seen
    middle = spec.centre
    inner = found.pixels.sigmas[middle - 8 : middle + 8, middle - 8 : middle + 8]
    if kind == "none":
        assert np.abs(inner).max() < 5
        assert np.std(inner) == pytest.approx(1, abs=0.35)
    if kind == "offset":
        left, right = inner[:, :8].mean(), inner[:, 8:].mean()
        assert right > 1
        assert left < -1
        assert abs(inner[:8].mean()) < 1
    assert found.pixels.mean.shape == (2, spec.size, spec.size, len(spec.bands))
    assert min(found.counts) > 50


def test_profiles_are_those_of_the_galaxies(seen):
    kind, _, found = seen
    ratio, error = found.profiles.ratio[:6], found.profiles.ratio_error[:6]
    away = np.abs(ratio - 1) / error
    if kind == "none":
        assert np.median(away) < 1.5
    if kind == "size":  # broader: less light within, more without
        assert (ratio[0] < 1).all()
        assert (ratio[5] > 1).all()
    assert (np.diff(found.profiles.mean[0, :6], axis=0) < 0).all()


def test_errors_of_means_are_right():
    """Over many draws the difference scatters by its error, with bricks that are odd as well."""
    rng, sigmas, errors = np.random.default_rng(1), [], []
    bricks, fake = np.repeat(np.arange(12), 20), np.arange(240) % 2 == 1
    for _ in range(300):
        odd = rng.standard_normal((12, 3))[bricks]
        values = odd + rng.standard_normal((240, 3))
        found = appearance.compare(values, fake, bricks)
        sigmas.append(found.sigmas)
        errors.append((found.error[0], found.difference_error))
    assert np.std(sigmas) == pytest.approx(1, abs=0.15)
    of_class, of_difference = np.mean(errors, axis=(0, 2))
    assert of_class > 2 * of_difference  # what a brick does to both classes cancels


def test_the_error_of_a_ratio_is_right():
    """Bricks in which everything is brighter change no ratio."""
    rng, ratios, errors = np.random.default_rng(4), [], []
    bricks, fake = np.repeat(np.arange(12), 20), np.arange(240) % 2 == 1
    for _ in range(300):
        brighter = rng.uniform(0.5, 1.5, (12, 3))[bricks]
        values = brighter * (1 + 0.5 * fake[:, None]) * (1 + 0.3 * rng.standard_normal((240, 3)))
        found = appearance.compare(values, fake, bricks)
        ratios.append(found.ratio)
        errors.append(found.ratio_error)
    assert np.mean(ratios) == pytest.approx(1.5, abs=0.02)
    assert np.std(ratios) == pytest.approx(np.mean(errors), rel=0.15)


def test_a_neighbour_carries_no_pixel_off():
    """Of both classes alike, whichever has it; and pixels without data stay so."""
    values = np.random.default_rng(5).standard_normal((200, 2, 1, 1)).astype(np.float32)
    values[7, 0], values[8, 0], values[9, 1] = 1e4, -1e4, np.nan
    found = appearance.clipped(values)
    assert np.nanmax(np.abs(found)) < 4
    assert np.isnan(found[9, 1, 0, 0])
    assert found.dtype == np.float32
    same = np.abs(values) < 1.5
    assert np.array_equal(found[same], values[same])


def test_rings_lie_around_the_expected_position():
    rows = np.zeros(1, [("x", "f8"), ("y", "f8")])
    rows["x"], rows["y"] = 100.4, 99.6
    y, x = np.mgrid[:32, :32]
    away = np.hypot(x - 16.4, y - 15.6)[None, :, :, None]
    empty, near, ring = appearance.profiles(away, rows, [0, 0.5, 1, 2])[0, :, 0]
    assert np.isnan(empty)
    assert near == pytest.approx(np.hypot([0.4, 0.6, 0.4, 0.6], [0.4, 0.4, 0.6, 0.6]).mean())
    assert 1 < ring < 2


@pytest.mark.parametrize("planes", [("image", "ivar"), ("image",)])
def test_pixels_without_data_are_left_out_of_means(planes):
    spec = StampSpec(("g",), size=32, planes=planes)
    stamps, measured = np.full((2, *spec.shape), 3, np.float32), np.zeros(2, [("core_g", "f4")])
    stamps[1, 5, 6], measured["core_g"] = 0, (1.5, 6)
    found = appearance.normalised(stamps, measured, spec)[..., 0]
    assert np.argwhere(np.isnan(found)).tolist() == [[1, 5, 6]]
    assert found[:, 0, 0].tolist() == [2, 0.5]


def test_errors_are_those_of_the_ruling_where_a_class_is_in_few_bricks():
    """As scores have them: the class that is in fewer bricks limits what is known of the error."""
    rng = np.random.default_rng(6)
    bricks, fake = np.r_[np.repeat(np.arange(30), 10), np.repeat(np.arange(6), 50)], np.arange(600) >= 300
    values = rng.standard_normal(600) + 0.3 * rng.standard_normal(30)[bricks]
    found = appearance.compare(values[:, None], fake, bricks)
    centred = (values - np.where(fake, values[fake].mean(), values[~fake].mean())) / 300
    expected = clustered_variance(fake, np.where(fake, centred, -centred), bricks)
    assert found.difference_error[0] == pytest.approx(np.sqrt(expected))
    assert found.freedom == 5


def test_what_is_not_measured_does_not_count():
    values = np.array([[1.0], [np.nan], [3.0], [4.0], [5.0]])
    found = appearance.compare(values, np.array([False, False, False, True, True]), None)
    assert found.mean[:, 0].tolist() == [2, 4.5]
    assert found.ratio[0] == pytest.approx(2.25)
    beyond = appearance.Compared(np.array([[0.0], [900.0]]), np.ones((2, 1)), np.ones(1), np.ones(1), 1000)
    assert 30 < beyond.sigmas[0] < 40  # so rare that no number holds it


def test_the_correlation_of_resampled_noise():
    """White noise has none; that of pixels averaged with their neighbour one half, one pixel apart only."""
    noise = np.random.default_rng(2).standard_normal((60, 65, 65)).astype(np.float32)
    spec = StampSpec(("g",), size=64)

    def found(image):
        stamps = np.stack([image, np.ones_like(image)], axis=-1)
        return np.nanmean(appearance.autocorrelation(stamps, spec, [1, 2]), axis=0)[:, 0]

    assert found(noise[:, :64, :64]) == pytest.approx([0, 0], abs=0.01)
    mixed = (noise[:, 1:, 1:] + noise[:, :-1, 1:] + noise[:, 1:, :-1] + noise[:, :-1, :-1]) / 2
    assert found(mixed) == pytest.approx([0.5, 0], abs=0.02)
    objects = mixed.copy()
    objects[:, 3:9, 3:9] += 30  # light of a neighbour is no noise
    assert found(objects) == pytest.approx([0.5, 0], abs=0.03)


def test_a_stamp_without_data_has_no_noise():
    stamps = np.zeros((3, *SPEC.shape), np.float32)
    assert np.isnan(appearance.autocorrelation(stamps, SPEC, [1])).all()


def test_faint_sets_are_averaged_above_a_lower_limit():
    dtype = [("snr_g", "f4"), ("core_g", "f4")]
    measured = np.zeros(400, dtype)
    measured["snr_g"], measured["core_g"] = np.linspace(6, 50, 400), 1
    label = np.arange(400) % 2
    chosen, limit = appearance.bright(measured, label, SPEC, 1)
    assert 20 < limit < 40
    assert np.bincount(label[chosen]).min() >= appearance.ENOUGH
    measured["snr_g"] += 40
    chosen, limit = appearance.bright(measured, label, SPEC, 1)
    assert limit == appearance.LEAST_SN
    measured["core_g"][200:] = -1  # no light in the window to divide by
    chosen, _ = appearance.bright(measured, label, SPEC, 1)
    assert chosen.max() < 200
    measured["snr_g"] = np.where(label == 1, 1, 50)  # injected galaxies are not seen
    assert len(appearance.bright(measured, label, SPEC, 1)[0]) == 0


def test_bricks_on_both_sides_of_ra_0():
    rows = np.zeros(6, [("brick", "S8"), ("ra", "f8"), ("dec", "f8"), ("label", "u1")])
    rows["brick"] = [b"a", b"a", b"b", b"b", b"c", b"c"]
    rows["ra"], rows["label"] = [359.9, 0.1, 1, 1, 358, 358], [0, 1, 0, 0, 1, 1]
    found = footprint({"test": [rows[:3], rows[3:]]})
    assert np.cos(np.radians(found["ra"][0])) == pytest.approx(1)
    assert np.sort(unwrapped(found["ra"])) == pytest.approx([-2, 0, 1], abs=1e-6)
    assert found[["real", "fake"]].tolist() == [(1, 1), (2, 0), (0, 2)]
    assert unwrapped(np.array([10.0, 11.0])).tolist() == [10, 11]


def test_every_brick_with_enough_of_both_has_an_auc():
    rng = np.random.default_rng(3)
    bricks = np.repeat(["a", "b", "c"], [40, 40, LEAST])
    labels = np.arange(len(bricks)) % 2
    scores = rng.standard_normal(len(bricks)) + 3 * labels * (bricks == "b")
    found = auc_of_bricks(labels, scores, bricks)
    assert found["brick"].tolist() == ["a", "b"]
    assert found["auc"][1] > 0.9
    assert found["low"][0] < 0.5 < found["high"][0]


def test_power_is_what_it_is_called():
    """80 % at the detectable amplitude, the level without any difference, nothing for what was missed."""
    found = Detection("psf", 1.1, Estimate(0.7, 0.66, 0.74), 500)
    curve = power_curve(found, 0.56, 0.05)
    assert np.interp(curve.at.value, curve.amplitude, curve.power) == pytest.approx(0.8, abs=0.01)
    assert (curve.amplitude[0], curve.power[0]) == pytest.approx((1, 0.025))
    assert (curve.low <= curve.high).all()
    assert curve.power[-1] > 0.99
    missed = dataclasses.replace(found, auc=Estimate(0.52, 0.48, 0.56))
    assert power_curve(missed, 0.56, 0.05) is None


def test_a_training_curve_that_is_not_there(tmp_path):
    path = tmp_path / "history.csv"
    assert read_history(path) == {}
    path.write_text("epoch,loss\n1,0.7\n2,0.6\n")
    assert read_history(path) == {"epoch": [1, 2], "loss": [0.7, 0.6]}
    path.write_text("epoch,loss\n1\n")
    assert read_history(path) == {}
