"""Detectable differences: what is planted, what the logistic referee makes of it, and how it is scaled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation_set import make_set
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.referees.jury import Jury, samples_of
from obiwan.dplearn.referees.scores import ScoresReferee
from obiwan.dplearn.retraining import detectable
from obiwan.dplearn.retraining.detectable import (
    AMPLITUDES,
    Detection,
    Detections,
    base_of,
    d_prime,
    detect,
    detect_all,
    kinds_of,
    plant,
)
from obiwan.dplearn.retraining.margins import margin_of
from obiwan.dplearn.retraining.planting import galaxy_of, model_of
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.differences import parse_amplitudes
from obiwan.dplearn.twosample.ranking import Estimate
from obiwan.dplearn.twosample.verdict import LEAST_MARGIN
from planted import Planted

COUNTS = {"train": 512, "val": 64, "test": 64}
BRICKS = {"train": 8, "val": 2, "test": 4}
SPEC = StampSpec()


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A sample of training stamps of one population."""
    stamps = make_set(tmp_path_factory.mktemp("detectable") / "set", Planted(), COUNTS, bricks=BRICKS)
    return samples_of(stamps, Jury(("scores",)))["train"]


@pytest.fixture(scope="module")
def base(sample):
    """All of them, measured."""
    return base_of(sample, 1)


def added(base, kind, amplitude, seed=1):
    """What planting adds, in images and in inverse variances."""
    changed = plant(base.stamps, base.rows, kind, amplitude, SPEC, seed) - base.stamps
    return SPEC.image(changed), SPEC.ivar(changed)


@pytest.mark.parametrize("kind", [kind for kind in AMPLITUDES if kind not in ("photon_noise", "ivar_dip")])
def test_light_is_planted_in_images_alone(kind, base):
    before = base.stamps.copy()
    image, ivar = added(base, kind, AMPLITUDES[kind])
    assert (base.stamps == before).all()
    assert not ivar.any()
    assert np.abs(image).max((1, 2, 3)).min() > 0


def test_photon_noise_has_the_variance_of_the_light(base):
    image, ivar = added(base, "photon_noise", 2e-4)
    assert not ivar.any()
    models = np.stack([np.maximum(model_of(galaxy_of(row, SPEC), SPEC), 0) for row in base.rows])
    bright = models > 0.1 * models.max((1, 2), keepdims=True)
    assert np.mean(image[bright] ** 2 / (2e-4 * models[bright])) == pytest.approx(1, abs=0.05)
    assert (added(base, "photon_noise", 2e-4, seed=2)[0] != image).any()


def test_a_dip_of_the_inverse_variance_is_deepest_at_the_peak(base):
    image, ivar = added(base, "ivar_dip", 0.05)
    assert not image.any()
    relative = ivar / SPEC.ivar(base.stamps)
    assert relative.min((1, 2)) == pytest.approx(-0.05, abs=1e-3)
    assert np.abs(relative[:, 0, 0]).max() < 1e-3


def test_stamps_without_ivar_have_no_dip(base):
    spec = StampSpec(planes=("image",))
    assert "ivar_dip" not in kinds_of(spec)
    assert set(kinds_of(StampSpec(("r",)))) == set(AMPLITUDES) - {"band_offset", "colour"}
    with pytest.raises(ValueError, match="no inverse variances"):
        plant(SPEC.image(base.stamps).copy(), base.rows, "ivar_dip", 0.05, spec, 1)


def test_a_strong_difference_is_detected_and_none_is_not(base, sample):
    population = sample.measured.population
    strong = detect(base, "flux", 2.0, population, 1)
    assert strong.detected
    assert strong.auc.value > 0.8
    assert strong.stamps == COUNTS["train"]
    weak = detect(base, "photon_noise", 1e-12, population, 1)
    assert weak.auc.value == pytest.approx(0.5, abs=0.05)


def test_a_referee_scores_bricks_that_it_was_not_trained_on(base, sample, monkeypatch):
    """Of each stamp it is trained on one version at most, and on none of the bricks that it scores."""
    trained, scored = [], []
    train, logits = ScoresReferee.train, ScoresReferee.logits

    def position(measured):
        return measured.light["phase_x"].tolist()  # tells stamps apart, whatever is planted

    def watched_train(measured, labels, *given):
        trained.append(position(measured))
        return train(measured, labels, *given)

    def watched_logits(self, measured):
        scored.append(position(measured))
        return logits(self, measured)

    monkeypatch.setattr(ScoresReferee, "train", watched_train)
    monkeypatch.setattr(ScoresReferee, "logits", watched_logits)
    detect(base, "flux", 1.3, sample.measured.population, 1)
    assert len(trained) == len(scored) == detectable.FOLDS
    brick_of = dict(zip(base.measured.light["phase_x"].tolist(), base.rows["brick"].tolist(), strict=True))
    for used, held in zip(trained, scored, strict=True):
        assert len(set(used)) == len(used)
        assert not {brick_of[one] for one in used} & {brick_of[one] for one in held}
    assert sum(map(len, scored)) == 2 * COUNTS["train"]


def test_amplitudes_scale_with_the_distance_of_the_classes():
    auc = Estimate(0.7, 0.65, 0.75)
    half = Detection("photon_noise", 2e-4, auc, 100).at(0.6)
    assert half.value == pytest.approx(2e-4 * d_prime(0.6) / d_prime(0.7))
    assert half.low == pytest.approx(2e-4 * d_prime(0.6) / d_prime(0.75))
    assert half.high == pytest.approx(2e-4 * d_prime(0.6) / d_prime(0.65))
    factor = Detection("psf", 1.1, auc, 100)
    assert np.log(factor.at(0.6).value) == pytest.approx(np.log(1.1) * d_prime(0.6) / d_prime(0.7))
    assert factor.at(0.7).value == pytest.approx(1.1)
    assert Detection("psf", 1.1, Estimate(0.5, 0.4, 0.6), 100).at(0.6).value == np.inf
    assert d_prime(0.76025) == pytest.approx(1, abs=1e-4)  # two Gaussians one sigma apart


def test_a_positive_control_takes_every_kind():
    found, missed = (Detection("psf", 1.1, Estimate(v, v - 0.05, v + 0.05), 100) for v in (0.7, 0.52))
    strong = replace(found, auc=Estimate(0.9, 0.85, 0.95))
    assert Detections((found, strong)).detected
    assert Detections((found, strong)).weakest == 0.7
    assert not Detections((found, missed)).detected
    assert Detections((found, missed)).weakest == 0.7
    assert not Detections(()).detected
    assert np.isnan(Detections((missed,)).weakest)


def test_galaxies_of_no_known_model_take_no_part(sample, caplog):
    rows = sample.stamp_set.rows("train").copy()
    rows["psfsize_r"][rows["brick"] != rows["brick"][0]] = np.nan  # known in one brick alone
    stamps = replace(sample.stamp_set, read_rows=lambda _: rows)
    with pytest.raises(TrainingSetError, match="in two bricks"):
        base_of(replace(sample, stamp_set=stamps), 1)
    assert detect_all(replace(sample, stamp_set=stamps), ("psf",), 1) == ()
    assert "in two bricks" in caplog.text
    assert detect_all(sample, (), 1) == ()


def test_an_amplitude_and_its_auc_are_one_curve():
    """Forth and back, for factors in their logarithm; a factor and its inverse are the same difference."""
    for kind, other in (("psf", 1.03), ("size", 0.9), ("band_offset", 0.05), ("photon_noise", 5e-5)):
        found = Detection(kind, AMPLITUDES[kind], Estimate(0.7, 0.68, 0.72), 2000)
        assert found.auc_at(found.amplitude).value == pytest.approx(0.7)
        there = found.auc_at(other)
        assert 0.5 < there.low < there.value < there.high
        back = found.at(there.value).value
        assert back == pytest.approx(1 / other if other == 0.9 else other)
    assert found.auc_at(0.0).high == 0.5


def test_a_margin_of_amplitudes_is_that_of_the_least_visible():
    psf = Detection("psf", 1.1, Estimate(0.7, 0.68, 0.72), 2000)
    size = Detection("size", 1.3, Estimate(0.9, 0.89, 0.91), 2000)
    missed = Detection("flux", 1.3, Estimate(0.52, 0.48, 0.56), 2000)
    found = (psf, size, missed)
    alone = [margin_of(found, parse_amplitudes([word])) for word in ("psf=1.03", "size=1.05")]
    assert alone == pytest.approx([psf.auc_at(1.03).low - 0.5, size.auc_at(1.05).low - 0.5])
    assert margin_of(found, parse_amplitudes(["psf=1.03", "size=1.05"])) == min(alone)
    assert margin_of(found, parse_amplitudes(["psf=2"])) == 0.49
    for word in ("flux=1.2", "colour=0.1"):  # not detected, not planted: no AUC excludes it
        assert margin_of(found, parse_amplitudes(["psf=1.03", word])) == LEAST_MARGIN
