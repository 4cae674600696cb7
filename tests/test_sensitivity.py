"""The positive control: what is planted, in whom, and what is made of it, on the mock survey."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from obiwan.dplearn import create_training
from obiwan.dplearn.controls.measure import measure_stamps
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.mock.config import MockConfig
from obiwan.dplearn.mock.survey import make_survey
from obiwan.dplearn.report.wording import sensitivity_lines
from obiwan.dplearn.retraining import planting, sensitivity
from obiwan.dplearn.retraining.planting import galaxies_known, galaxy_of, plant_in
from obiwan.dplearn.retraining.runs import Retrained
from obiwan.dplearn.retraining.sensitivity import (
    SensitivityResult,
    make_plan,
    planted_set,
    render_additions,
    run_sensitivity,
    smallest_detected,
    summarise,
)
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.differences import KINDS, LIGHT, Difference, parse_amplitudes
from obiwan.dplearn.survey.rendering import Galaxy
from obiwan.dplearn.training.settings import FeedConfig, RunConfig, network_config
from obiwan.dplearn.trainingset.examples import blank_examples
from obiwan.dplearn.trainingset.stampset import open_training_set
from obiwan.dplearn.trainingset.views import by_shard
from obiwan.dplearn.twosample.ranking import Estimate
from tables import read_table

SPEC = StampSpec()
BANDS, PIXEL_SCALE = SPEC.bands, SPEC.pixel_scale
DISC = Galaxy(
    flux=(1.0, 2.0, 3.0), fwhm=(1.4, 1.2, 1.0), x=32.3, y=31.8, radius=0.5, sersic=1.0, e1=0.1, e2=-0.2
)
TINY = network_config("lenet5", maps=(2, 2), kernel_size=3, dense=4)
CONFIG = RunConfig(TINY, FeedConfig(batch_size=8, seed=3), epochs=1, learning_rate=2e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A training set from the mock survey, by the road of every training set."""
    place = tmp_path_factory.mktemp("mock")
    config = MockConfig(bricks=4, brick_size=300, runs=2, seed=19)
    make_survey(config, place, 1)
    words = ["--select", "none", "--balance", "none", "--shard-size", "24", "--jobs", "1"]
    words += ["--fake", str(place / "injected"), "--outdir", str(place / "set")]
    logger = logging.getLogger()
    before = logger.handlers[:], logger.level
    assert create_training.main(words) == 0
    logger.handlers[:], logger.level = before
    return open_training_set(place / "set")


@pytest.mark.data
@pytest.mark.parametrize("region", ["decals_grz", "mzlsbass2"])
def test_the_model_explains_real_cutouts(shared_data, tmp_path, region):
    """DECam and BASS/MzLS: the light goes away with the model, and less so with another position angle."""
    words = ["--fake", str(shared_data / "injected_legacysim" / region), "--outdir", str(tmp_path / "set")]
    words += ["--real", str(shared_data / "release_dr9" / region), "--balance", "none", "--edge", "pad"]
    logger = logging.getLogger()
    before = logger.handlers[:], logger.level
    assert create_training.main([*words, "--select", "none", "--split", "object"]) == 0
    logger.handlers[:], logger.level = before
    training_set = open_training_set(tmp_path / "set")
    left, worse = [], []
    for shard in training_set.shards:
        rows = training_set.only([shard]).rows(shard.split)
        assert galaxies_known(rows, SPEC).all()
        for stamp, row in zip(training_set.read(shard)[0].astype(float), rows, strict=True):
            galaxy = galaxy_of(row, SPEC)
            flipped = replace(galaxy, e1=-galaxy.e1, e2=-galaxy.e2)
            nothing = np.zeros((64, 64, 3))
            light, rest, other = (excess(stamp, m) for m in (nothing, render(galaxy), render(flipped)))
            if light > 1:
                left.append(rest / light)
                if np.hypot(galaxy.e1, galaxy.e2) > 0.2:
                    worse.append(other - rest)
    assert len(left) >= 5
    assert np.median(left) < 0.25
    assert min(worse) > 0.04


def render(galaxy):
    return planting.model_of(galaxy, SPEC)


def planted(galaxy, difference):
    return planting.planted(galaxy, difference, SPEC)


def excess(stamp, model):
    """Mean chi squared of the pixels around the centre, less that of noise."""
    part = (slice(24, 41), slice(24, 41))
    ivar = stamp[part][..., 3:]
    return ((stamp[part][..., :3] - model[part]) ** 2 * ivar).sum() / (ivar > 0).sum() - 1


def moments(image):
    """Flux, centroid x and y, and variances along x and y of an image."""
    yy, xx = np.mgrid[: len(image), : len(image)]
    flux = image.sum()
    x, y = (image * xx).sum() / flux, (image * yy).sum() / flux
    return flux, x, y, (image * (xx - x) ** 2).sum() / flux, (image * (yy - y) ** 2).sum() / flux


# --- renderings


def test_the_model_is_where_it_is_told_and_as_bright():
    for band, image in enumerate(np.moveaxis(render(DISC), -1, 0)):
        flux, x, y, *_ = moments(image)
        assert flux == pytest.approx(DISC.flux[band], rel=1e-3)
        assert (x, y) == pytest.approx((32.3, 31.8), abs=2e-3)


@pytest.mark.parametrize("kind", LIGHT)
def test_a_difference_is_changed_model_less_model(kind):
    difference = Difference(kind, 1.2 if KINDS[kind].unit == "factor" else 0.2)
    added = planted(DISC, difference)
    assert (added.dtype, added.shape) == (np.float32, (64, 64, 3))
    changed = difference.apply(DISC)
    assert changed != DISC
    assert np.abs(added - (render(changed) - render(DISC))).max() < 1e-6
    star = replace(DISC, radius=0.0, sersic=0.0)
    assert planted(star, difference).any() == (not KINDS[kind].extended)


def test_what_each_kind_does():
    def changed(kind, amplitude):
        image = render(DISC) + planted(DISC, Difference(kind, amplitude))
        return np.array([moments(image[..., band]) for band in range(3)])

    before = np.array([moments(image) for image in np.moveaxis(render(DISC), -1, 0)])
    shifted = changed("offset", 0.25) - before
    assert shifted[:, 1] == pytest.approx(0.25, abs=2e-3)
    assert shifted[:, 2] == pytest.approx(0, abs=2e-3)
    assert changed("flux", 1.1)[:, 0] / before[:, 0] == pytest.approx(1.1)
    assert changed("colour", 0.1)[:, 0] / before[:, 0] == pytest.approx([10**-0.04, 1, 1])
    for kind, amplitude in (("psf", 1.2), ("size", 1.5)):
        wider = changed(kind, amplitude)
        assert (wider[:, 3:] > 1.1 * before[:, 3:]).all()
        assert wider[:, :3] == pytest.approx(before[:, :3], rel=1e-3)
    assert (changed("psf", 1.2)[:, 3] < 1.2**2 * before[:, 3]).all()  # the galaxy itself stays
    stretched = changed("shear", 0.1)
    assert (stretched[:, 3] > 1.03 * before[:, 3]).all()
    assert (stretched[:, 4] < 0.97 * before[:, 4]).all()
    assert (changed("sersic", 1.0)[:, 3] > before[:, 3]).all()


def test_shears_compose():
    """There and back is where it was; and of a round galaxy the tractor's e1 is minus the shear."""
    back = Difference("shear", -0.1).apply(Difference("shear", 0.1).apply(DISC))
    assert (back.e1, back.e2) == pytest.approx((DISC.e1, DISC.e2))
    round_ = Difference("shear", 0.1).apply(replace(DISC, e1=0.0, e2=0.0))
    assert (round_.e1, round_.e2) == pytest.approx((-0.1, 0))


# --- amplitudes


def test_words():
    assert parse_amplitudes(["offset=0.2", "psf=1.05,1.1", "flux=.9", "offset=0.2"]) == (
        Difference("offset", 0.2),
        Difference("psf", 1.05),
        Difference("psf", 1.1),
        Difference("flux", 0.9),
    )
    assert parse_amplitudes([]) == ()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("offset", "'offset' is not KIND=AMPLITUDE"),
        ("offset=", "'offset=' is not KIND=AMPLITUDE"),
        ("offset=much", "'offset=much' is not KIND=AMPLITUDE"),
        ("offset=nan", "is not KIND=AMPLITUDE"),
        ("=0.2", "no difference is called ''; there are offset, band_offset"),
        ("dip=0.2", "no difference is called 'dip'"),
        ("flux=1", "flux=1 changes nothing"),
        ("offset=0", "offset=0 changes nothing"),
        ("flux=-2", "flux=-2: the amplitude must be between 0.1 and 10"),
        ("offset=20", "offset=20: the amplitude must be between -8 and 8"),
    ],
)
def test_words_that_mean_nothing(word, said):
    with pytest.raises(ValueError, match=said):
        parse_amplitudes(["psf=1.1", word])


# --- who is changed


def test_rows_without_a_model_are_left_out_alike(data):
    rows = read_table(data.directory)
    assert galaxies_known(rows, SPEC).all()
    star = np.flatnonzero(rows["type"] == b"PSF")[0]
    galaxies = np.flatnonzero(rows["type"] != b"PSF")
    bad = [
        ("flux_g", np.nan),
        ("psfsize_z", 0.0),
        ("psfsize_r", np.nan),
        ("x", np.nan),
        ("shape_r", np.nan),
        ("shape_r", 30.0),
        ("sersic", np.nan),
        ("e1", 0.99),
    ]
    for index, (name, value) in zip(galaxies, bad, strict=False):
        rows[name][index] = value
    for name in ("shape_r", "e1", "e2", "sersic"):
        rows[name][star] = np.nan  # of a point source they say nothing
    expected = np.ones(len(rows), bool)
    expected[galaxies[: len(bad)]] = False
    assert np.array_equal(galaxies_known(rows, SPEC), expected)
    other = rows.copy()
    other["label"] = 1 - other["label"]
    assert np.array_equal(galaxies_known(other, SPEC), expected)

    def with_rows(changed):
        return replace(data, read_rows=lambda split: changed[changed["split"] == split.encode()])

    plan = make_plan(with_rows(rows), seed=1)
    assert plan.left_out == len(bad)
    assert len(plan.rows) == len(plan.label) == len(rows) - len(bad)
    rows["psfsize_g"] = np.nan
    with pytest.raises(TrainingSetError, match="no example has"):
        make_plan(with_rows(rows), seed=1)


def test_half_of_the_fakes_and_half_of_the_reals_of_each_brick(data):
    plan = make_plan(data, seed=1)
    rows, label = plan.rows, plan.label
    assert len(rows) == sum(sum(data.count(split)) for split in ("train", "val", "test"))
    for brick in np.unique(rows["brick"]):
        for kind in (0, 1):
            group = label[(rows["brick"] == brick) & (rows["label"] == kind)]
            assert abs(int(2 * group.sum()) - len(group)) <= 1


# --- what is planted


def view_of(data, directory, word):
    plan, (difference,) = make_plan(data, 1), parse_amplitudes([word])
    render_additions(plan, difference, directory)
    return plan, planted_set(data, plan, difference, directory)


def before_and_after(data, view, plan):
    """Cutouts of the whole set before and after, their rows, and who was changed."""
    parts = [[], [], [], []]
    for shard, original in zip(view.shards, data.shards, strict=True):
        raw, (x, y) = data.read(original)[0], view.read(shard)
        place = by_shard(plan.rows)[shard.key]
        assert (y == plan.label[place]).all()
        for part, values in zip(parts, (raw, x, plan.rows[place], y == 1), strict=True):
            part.append(values)
    return [np.concatenate(part) for part in parts]


def test_an_offset_moves_what_is_measured(data, tmp_path):
    plan, view = view_of(data, tmp_path, "offset=0.5")
    raw, x, rows, changed = before_and_after(data, view, plan)
    assert np.array_equal(raw[~changed], x[~changed])
    assert np.array_equal(raw[..., 3:], x[..., 3:])  # ivar is never touched
    assert not np.array_equal(raw[changed], x[changed])
    old, new = (
        measure_stamps(raw[changed], rows[changed], StampSpec()),
        measure_stamps(x[changed], rows[changed], StampSpec()),
    )
    label = rows["label"][changed]
    bright = old["snr_r"] > 30
    for kind in (0, 1):  # reals and fakes are moved alike
        mine = bright & (label == kind)
        assert mine.sum() >= 5
        for band in BANDS:
            assert np.median((new[f"dx_{band}"] - old[f"dx_{band}"])[mine]) == pytest.approx(0.5, abs=0.05)
            assert np.median((new[f"dy_{band}"] - old[f"dy_{band}"])[mine]) == pytest.approx(0, abs=0.03)


def test_a_flux_factor_is_measured(data, tmp_path):
    plan, view = view_of(data, tmp_path, "flux=1.2")
    raw, x, rows, changed = before_and_after(data, view, plan)
    old, new = (
        measure_stamps(raw[changed], rows[changed], StampSpec()),
        measure_stamps(x[changed], rows[changed], StampSpec()),
    )
    for kind in (0, 1):
        mine = (old["snr_r"] > 30) & (rows["label"][changed] == kind)
        for band in BANDS:
            ratio = (new[f"core_{band}"] / old[f"core_{band}"])[mine]
            assert np.median(ratio) == pytest.approx(1.2, abs=0.02)


def test_nothing_is_done_to_the_noise(data, tmp_path):
    """A changed cutout less its addition is the original to the last bit of rounding."""
    plan, view = view_of(data, tmp_path, "psf=1.1")
    shard = view.split("train")[0]
    x, y = view.read(shard)
    raw, _ = data.read(data.split("train")[0])
    row = int(np.flatnonzero(y == 1)[0])
    added = planted(galaxy_of(plan.rows[row], SPEC), Difference("psf", 1.1))
    valid = raw[row, ..., 3:] > 0
    error = np.abs(x[row, ..., :3] - added - raw[row, ..., :3])[valid]
    assert error.max() <= 4 * np.finfo(np.float32).eps * np.abs(raw[row, ..., :3]).max()


OTHERS = {
    "griz at 48": StampSpec(("g", "r", "i", "z"), size=48),
    "r": StampSpec(("r",), size=20),
    "images of g and r at 96": StampSpec(("g", "r"), ("image",), size=96),
}


@pytest.mark.parametrize("spec", [SPEC, *OTHERS.values()])
def test_pixels_without_data_stay(rng, spec):
    x = rng.normal(size=(3, *spec.shape)).astype(np.float32)
    if spec.has_ivar:
        spec.ivar(x)[...] = 1
        spec.ivar(x)[1, :, :7, -1] = 0
    else:
        x[1, :, :7, -1] = 0  # beyond the edge of the coadd
    before = x.copy()
    added = np.ones((1, spec.size, spec.size, len(spec.bands)), np.float32)
    out = plant_in(x, np.array([False, True, False]), added, spec)
    assert np.array_equal(out[[0, 2]], before[[0, 2]])
    old, new = spec.image(before)[1], spec.image(out)[1]
    assert np.array_equal(new[:, :7, -1], old[:, :7, -1])
    assert np.array_equal(new[:, 7:], old[:, 7:] + 1)
    if spec.has_ivar:
        assert np.array_equal(spec.ivar(out), spec.ivar(before))


@pytest.mark.parametrize("spec", OTHERS.values(), ids=OTHERS)
def test_planting_in_other_bands_and_sizes(spec):
    """The centre pixel of the stamp is where the catalogue's is, and the bluest band alone gets fainter."""
    rows = blank_examples(2, spec)
    rows["x"], rows["y"], rows["type"] = 100.4, 79.8, b"EXP"
    rows["shape_r"], rows["sersic"], rows["e1"], rows["e2"] = 0.4, 1.0, 0.1, 0.0
    for i, band in enumerate(spec.bands):
        rows[f"flux_{band}"], rows[f"psfsize_{band}"] = 2.0 + i, 1.2
    rows[f"psfsize_{spec.bands[-1]}"][1] = 0
    assert galaxies_known(rows, spec).tolist() == [True, False]
    galaxy = galaxy_of(rows[0], spec)
    assert (galaxy.x, galaxy.y) == pytest.approx((spec.centre + 0.4, spec.centre - 0.2))
    model = planting.model_of(galaxy, spec)
    assert model.shape == (spec.size, spec.size, len(spec.bands))
    peaks = [np.unravel_index(plane.argmax(), plane.shape) for plane in np.moveaxis(model, -1, 0)]
    assert set(peaks) == {(spec.centre, spec.centre)}
    change = planting.planted(galaxy, Difference("colour", 0.1), spec).sum(axis=(0, 1))
    assert change[0] / model[..., 0].sum() == pytest.approx(10**-0.04 - 1, rel=1e-4)
    assert not change[1:].any()
    moved = model + planting.planted(galaxy, Difference("offset", 1.0), spec)
    shifted = planting.model_of(replace(galaxy, x=galaxy.x + 1), spec)
    assert np.abs(moved - shifted).max() < 1e-6


def test_the_place_of_a_stamp_is_that_of_the_cut():
    rows = np.zeros(
        2,
        [("x", "f8"), ("y", "f8"), ("type", "S4")]
        + [(f"{stem}_{band}", "f4") for stem in ("flux", "psfsize") for band in BANDS],
    )
    rows["x"], rows["y"], rows["type"] = [99.5, 99.49], [10.25, 10.5], b"PSF"
    one, two = (galaxy_of(row, SPEC) for row in rows)
    assert (one.x, one.y) == pytest.approx((31.5, 32.25))  # floor(99.5 + 0.5) = 100 is pixel 32
    assert (two.x, two.y) == pytest.approx((32.49, 31.5))
    assert PIXEL_SCALE == 0.262


def test_additions_are_made_once_and_mended(data, tmp_path, monkeypatch):
    plan, difference = make_plan(data, 1), Difference("flux", 1.5)
    render_additions(plan, difference, tmp_path / "one")
    contents = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert set(contents) == {f"{split}_{number}.npy" for split, number in by_shard(plan.rows)}
    victim = tmp_path / "one" / "train_1.npy"
    victim.write_bytes(victim.read_bytes()[:-100])
    made = []
    original = sensitivity._render_shard

    def noted(task, **named):
        made.append(task[0].name)
        return original(task, **named)

    monkeypatch.setattr(sensitivity, "_render_shard", noted)
    render_additions(plan, difference, tmp_path / "one")
    assert made == ["train_1.npy"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()} == contents


@pytest.mark.slow
def test_processes_make_the_same_additions(data, tmp_path):
    plan, difference = make_plan(data, 1), Difference("offset", 1.0)
    for jobs in (1, 2):
        render_additions(plan, difference, tmp_path / str(jobs), jobs=jobs)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / str(jobs)).iterdir()} for jobs in (1, 2))
    assert one == two


# --- the whole


class Death(BaseException):
    """An interruption."""


def test_the_control_goes_on_where_it_stopped(data, tmp_path, monkeypatch):
    difference, original, made = Difference("flux", 2.0), sensitivity._render_shard, []

    def mortal(task, **named):
        if len(made) == 2:
            raise Death
        made.append(task[0].name)
        return original(task, **named)

    place = tmp_path / "sensitivity" / "flux_2"
    with monkeypatch.context() as patch:
        patch.setattr(sensitivity, "_render_shard", mortal)
        with pytest.raises(Death):
            run_sensitivity(difference, data, CONFIG, tmp_path, quiet=True)
    (added,) = place.glob("added_*")
    assert {path.name for path in added.iterdir()} == set(made)
    found = run_sensitivity(difference, data, CONFIG, tmp_path, quiet=True)
    assert (found.kind, found.amplitude, found.left_out) == ("flux", 2.0, 0)
    assert (found.train, found.test) == (sum(data.count("train")), sum(data.count("test")))
    assert found.detected == (found.auc.low > 0.5)
    assert not list(place.glob("added_*"))
    monkeypatch.setattr("obiwan.dplearn.training.trainer.Trainer", None)
    monkeypatch.setattr(sensitivity, "planted", None)
    assert run_sensitivity(difference, data, CONFIG, tmp_path, quiet=True) == found


def result(kind, amplitude, low, left_out=0):
    auc = Estimate(low + 0.05, low, low + 0.1)
    found = Retrained(auc, low > 0.5, train=100, test=50, bricks=6)
    return SensitivityResult(
        **vars(found), kind=kind, amplitude=amplitude, detected=low > 0.5, left_out=left_out
    )


def test_the_smallest_amplitude_that_would_have_been_detected():
    results = [result("psf", 1.02, 0.45), result("psf", 0.9, 0.7), result("psf", 1.05, 0.51)]
    assert smallest_detected(results).amplitude == 1.05
    results.append(result("psf", 1.08, 0.48))  # a stronger one that was missed: 1.05 was luck
    assert smallest_detected(results).amplitude == 0.9
    assert smallest_detected([result("psf", 0.8, 0.4), *results]) is None


def test_what_was_just_detected_would_be_missed_every_other_time(rng):
    just = result("offset", 0.1, 0.5 + 1e-9)
    assert just.power == pytest.approx(0.5, abs=1e-3)
    drawn = rng.normal(0.58, 0.1 / (2 * norm.ppf(0.975)), 20_000)  # AUCs of such tests, at a true 0.58
    assert result("offset", 0.1, 0.53).power == pytest.approx((drawn - 0.05 > 0.5).mean(), abs=0.01)


def test_the_summary_has_the_smallest_detected_amplitude_of_each_kind():
    found = summarise(
        [result("offset", 0.1, 0.4), result("offset", -0.2, 0.55), result("psf", 1.05, 0.6, left_out=3)]
    )
    assert [(one.kind, one.amplitude) for one in found.results] == [("offset", -0.2), ("psf", 1.05)]
    assert (found.detected, found.weakest, found.left_out) == (True, pytest.approx(0.6), 3)
    faint = [result("colour", 0.01, 0.4), result("colour", -0.02, 0.5)]
    missed = summarise([result("offset", 0.2, 0.55), *faint])
    assert [(one.kind, one.detected) for one in missed.results] == [("offset", True), ("colour", False)]
    assert missed.results[1].amplitude == -0.02  # the strongest that was tried
    assert (missed.detected, missed.weakest) == (False, pytest.approx(0.6))
    assert not summarise([]).detected
    assert np.isnan(summarise(faint).weakest)


def test_the_summary_in_words():
    tried = [result("offset", -0.2, 0.55), result("psf", 1.05, 0.6, left_out=1), result("colour", 0.01, 0.4)]
    offset, width, colour, left = sensitivity_lines(tried)
    assert "-0.2 px" in offset
    assert "98 %" in offset
    assert width.startswith("PSF width")
    assert "a factor of 1.05" in width
    assert "0.01 mag is not detected" in colour
    assert left.startswith("1 example")
