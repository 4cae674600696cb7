"""Probabilities and what they prove, against Gaussian populations whose distances are known."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss

from obiwan.dplearn.twosample.calibration import (
    LN2,
    bounds,
    recalibrate,
    recalibration_helps,
    reliability,
)

SHIFT = 0.8


def _posteriors(rng, n, share=0.5, shift=SHIFT):
    """Labels and probabilities of being fake, for equal classes, of Gaussians `shift` sigma apart."""
    labels = (rng.random(n) < share).astype(int)
    return labels, expit(shift * (shift * labels + rng.normal(size=n)) - shift**2 / 2)


def _total_variation(shift=SHIFT):
    return 2 * norm.cdf(shift / 2) - 1


def _jensen_shannon(shift=SHIFT):
    def entropy(x):
        p, q = norm.pdf(x), norm.pdf(x, shift)
        return (p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))) / 2

    return quad(entropy, -12, 12)[0]


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_bounds_of_gaussians_are_reached_by_their_posterior(share):
    labels, prob = _posteriors(np.random.default_rng(1), 200_000, share)
    found = bounds(labels, prob)
    assert found.total_variation.value == pytest.approx(_total_variation(), abs=0.01)
    assert found.jensen_shannon.value == pytest.approx(_jensen_shannon(), abs=0.005)
    assert found.jensen_shannon.low < _jensen_shannon() < found.jensen_shannon.high
    assert found.bce.value == pytest.approx(LN2 - found.jensen_shannon.value)
    area = norm.cdf(SHIFT / np.sqrt(2))
    assert found.total_variation_auc.value == pytest.approx(1 - np.sqrt(2 * (1 - area)), abs=0.01)
    assert found.total_variation_auc.value < _total_variation()
    if share == 0.5:
        assert found.bce.value == pytest.approx(log_loss(labels, prob), abs=2e-4)


@pytest.mark.parametrize("distort", [lambda p: p**3, lambda p: p / 2, lambda p: (p > 0.5) * 1.0, np.round])
def test_bad_calibration_never_proves_too_much(distort):
    labels, prob = _posteriors(np.random.default_rng(2), 20_000)
    found = bounds(labels, distort(prob))
    assert found.total_variation.low < _total_variation()
    assert found.jensen_shannon.low < _jensen_shannon()
    assert 0 <= found.jensen_shannon.low <= found.jensen_shannon.value <= found.jensen_shannon.high < LN2
    assert np.isfinite(found.bce.high)


def test_bounds_cover_over_bricks():
    """The probabilities of a brick are off together; the truth is the mean over the sky."""
    rng = np.random.default_rng(3)

    def split(bricks):
        groups = np.repeat(np.arange(bricks), 25)
        labels = rng.integers(0, 2, len(groups))
        off = 0.8 * rng.normal(size=bricks)[groups]
        scores = SHIFT * labels + off + rng.normal(size=len(groups))
        return labels, expit(SHIFT * scores - SHIFT**2 / 2), groups

    truth = bounds(*split(40_000))
    hits = np.zeros(2)
    for _ in range(400):
        found = bounds(*split(30))
        hits[0] += found.bce.low <= truth.bce.value <= found.bce.high
        hits[1] += found.total_variation.low <= truth.total_variation.value <= found.total_variation.high
    assert (hits >= 365).all()
    assert (hits <= 394).all()


def test_bounds_of_a_network_that_knows_nothing():
    labels = np.arange(200) % 2
    found = bounds(labels, np.full(200, 0.5), np.arange(200) // 10)
    assert found.bce.value == pytest.approx(LN2)
    for bound in (found.total_variation, found.total_variation_auc, found.jensen_shannon):
        assert (bound.value, bound.low) == (pytest.approx(0, abs=1e-12), 0)


def test_bounds_of_certainty():
    labels = np.arange(200) % 2
    right, wrong = bounds(labels, labels), bounds(labels, 1 - labels)
    assert right.total_variation.value == right.total_variation_auc.value == 1
    assert right.jensen_shannon.value == pytest.approx(LN2)
    assert wrong.total_variation.value == wrong.jensen_shannon.value == 0
    assert 10 < wrong.bce.value < 20


@pytest.mark.parametrize(
    ("labels", "prob", "match"),
    [
        ([0, 1, 1], [0.2, 1.2, 0.5], r"in 0\.\.1, got 0\.2 to 1\.2"),
        ([0, 1, 1], [0.2, np.nan, 0.5], "1 of 3 scores are not finite"),
        ([1, 1, 1], [0.2, 0.3, 0.5], "one of each"),
    ],
)
@pytest.mark.parametrize("function", [bounds, reliability, recalibrate])
def test_refusals(function, labels, prob, match):
    with pytest.raises(ValueError, match=match):
        function(np.array(labels), np.array(prob))


def test_reliability_is_scikit_learns():
    rng = np.random.default_rng(4)
    labels, prob = _posteriors(rng, 1000, share=0.3)
    found = reliability(labels, prob, equal_classes=False)
    observed, predicted = calibration_curve(labels, prob, n_bins=10, strategy="quantile")
    np.testing.assert_allclose(found.curve["observed"], observed)
    np.testing.assert_allclose(found.curve["predicted"], predicted)
    assert found.brier == pytest.approx(brier_score_loss(labels, prob))
    assert found.ece == pytest.approx(np.mean(np.abs(observed - predicted)))
    assert (found.curve["n"] == 100).all()
    assert (found.curve["observed_low"] < observed).all()
    assert (found.curve["observed_high"] > observed).all()


def test_posteriors_are_reliable_for_equal_classes_whatever_their_numbers():
    rng = np.random.default_rng(5)
    found = [reliability(*_posteriors(rng, 2000, share=0.2)) for _ in range(60)]
    assert np.mean([f.ece for f in found]) == pytest.approx(np.mean([f.ece_noise for f in found]), rel=0.1)
    inside = [
        (f.curve["observed_low"] <= f.curve["predicted"]) & (f.curve["predicted"] <= f.curve["observed_high"])
        for f in found
    ]
    assert 0.92 < np.mean(inside) < 0.98
    labels, prob = _posteriors(rng, 2000, share=0.2)
    assert reliability(labels, prob, equal_classes=False).ece > 0.15


def test_ece_of_a_known_miscalibration():
    labels = np.repeat([0, 1, 0, 1], [800, 200, 200, 800])
    prob = np.repeat([0.1, 0.9], 1000)  # the shares are 0.2 and 0.8
    found = reliability(labels, prob)
    assert found.ece == pytest.approx(0.1)
    assert found.brier == pytest.approx(0.2 * 0.81 + 0.8 * 0.01)
    assert len(found.curve) == 2
    assert list(found.curve["observed"]) == [pytest.approx(0.2), pytest.approx(0.8)]


def test_constant_probabilities_make_one_bin():
    found = reliability(np.arange(40) % 4 == 0, np.full(40, 0.5))
    assert len(found.curve) == 1
    assert found.curve["n"][0] == 40
    assert (found.ece, found.brier) == (pytest.approx(0), pytest.approx(0.25))


def test_recalibration_undoes_a_distortion():
    rng = np.random.default_rng(6)
    labels, prob = _posteriors(rng, 40_000, share=0.3)
    val, test = slice(0, 20_000), slice(20_000, None)
    distorted = prob**4 / 2
    mend = recalibrate(labels[val], distorted[val])
    mended = mend(distorted[test])
    before, after = (reliability(labels[test], p) for p in (distorted[test], mended))
    assert before.ece > 0.2
    assert after.ece < 0.02
    assert after.brier < before.brier
    best = bounds(labels[test], prob[test]).bce.value
    assert bounds(labels[test], mended).bce.value == pytest.approx(best, abs=0.003)
    assert np.abs(mended - prob[test]).mean() < 0.02
    assert (np.diff(mend(np.linspace(0, 1, 500))) >= 0).all()


def test_recalibration_is_scikit_learns():
    rng = np.random.default_rng(7)
    labels, prob = np.arange(300) % 2, rng.random(300)
    fit = IsotonicRegression(out_of_bounds="clip").fit(prob, labels)
    points = np.linspace(0, 1, 101)
    np.testing.assert_allclose(
        recalibrate(labels, prob)(points), np.clip(fit.predict(points), 1 / 302, 301 / 302)
    )


def test_recalibration_at_the_ends():
    labels = np.arange(48) % 2
    perfect = recalibrate(labels, labels)
    np.testing.assert_allclose(perfect(np.array([0.0, 1.0])), [1 / 50, 49 / 50])
    assert np.isfinite(bounds(labels, perfect(1 - labels)).bce.value)
    constant = recalibrate(np.arange(48) % 4 == 0, np.full(48, 0.3))
    np.testing.assert_allclose(constant(np.array([0.1, 0.3, 0.8])), 0.5)
    backward = recalibrate(labels, 1 - labels)
    np.testing.assert_allclose(backward(labels), 0.5)


def test_scikit_learn_waits_until_it_is_needed(run_python):
    modules = "obiwan.dplearn.twosample.calibration, obiwan.dplearn.twosample.verdict"
    code = f"import sys, {modules}; print('sklearn' in sys.modules)"
    assert run_python("-c", code).stdout.strip() == "False"


def test_recalibration_helps_where_it_generalises():
    rng = np.random.default_rng(8)
    labels = np.arange(2000) % 2
    logit = rng.normal(labels - 0.5, 1)
    honest = 1 / (1 + np.exp(-logit))  # the likelihood ratio of these normals
    boastful = 1 / (1 + np.exp(-6 * logit))
    assert recalibration_helps(labels, boastful)
    assert not recalibration_helps(labels[:80], honest[:80])  # fitted on few, it only adds noise
    assert not recalibration_helps(labels[:3], honest[:3])
