"""The metadata baseline, on populations whose answer is known."""

import numpy as np
import pytest
from scipy.stats import norm

from obiwan.dplearn.controls.metadata import comparable, cross_fitted_auc, metadata_classifier
from obiwan.dplearn.twosample.ranking import auc, auc_interval, measure_auc

EQUAL = ("mag_r", "g_r", "r_z", "shape_r")


def population(rng, n, bricks=20, shift=0.0, name="mag_r"):
    """Four Gaussian covariates; the fakes' `name` is shifted by so many standard deviations."""
    label = rng.permutation(np.arange(n) % 2)
    covariates = {key: rng.normal(size=n) for key in EQUAL}
    covariates[name] = covariates[name] + shift * label
    return covariates, label, np.char.mod("%04d", rng.integers(bricks, size=n))


def test_a_known_difference_is_found_and_named(rng):
    covariates, label, bricks = population(rng, 4000, shift=0.5)
    found = metadata_classifier(covariates, label, bricks, seed=1)
    best = norm.cdf(0.5 / np.sqrt(2))  # of two Gaussians half a standard deviation apart
    assert best - 0.03 < found.auc.value < best + 0.01
    assert found.auc.low > 0.5
    assert next(iter(found.importance)) == "mag_r"
    assert list(found.importance.values()) == sorted(found.importance.values(), reverse=True)
    assert found.importance["mag_r"] > 5 * found.importance["g_r"]
    assert found.importance["mag_r"] == pytest.approx(found.auc.value - 0.5, abs=0.03)
    assert (found.by, found.folds, found.names) == ("bricks", 5, EQUAL)
    assert found.auc.value == auc(label, found.scores)


def test_alike_populations_are_not_told_apart(rng):
    """Also where the share of fakes varies from brick to brick, which must not turn into an AUC below 0.5."""
    covariates, _, bricks = population(rng, 4000, bricks=10)
    label = (rng.random(4000) < np.linspace(0.2, 0.8, 10)[bricks.astype(int)]).astype(int)
    found = metadata_classifier(covariates, label, bricks, seed=1)
    assert found.auc.low < 0.5 < found.auc.high
    assert max(found.importance.values()) < 0.02


def test_what_only_names_the_brick_is_of_no_use(rng):
    """A covariate that is a brick's own, and bricks nearly of one class: by examples it would be 1."""
    bricks = rng.integers(40, size=4000)
    label = (rng.random(4000) < np.where(rng.permutation(40)[bricks] < 20, 0.05, 0.95)).astype(int)
    psf = rng.permutation(40)[bricks].astype(float)
    found = metadata_classifier({"psfsize_r": psf}, label, bricks.astype(str), seed=1)
    assert found.by == "bricks"
    assert found.auc.value < 0.7
    alone = metadata_classifier({"psfsize_r": psf}, label, np.full(4000, "0001p000"), seed=1)
    assert alone.by == "examples"
    assert alone.auc.value > 0.9


def test_missing_values_are_information(rng):
    covariates, label, bricks = population(rng, 2000)
    covariates["ebv"] = np.where(label == 1, np.nan, 0.1)
    covariates["sn"] = np.where(rng.random(2000) < 0.5, np.inf, 1.0)
    found = metadata_classifier(covariates, label, bricks, seed=1)
    assert found.auc.value == 1
    assert next(iter(found.importance)) == "ebv"
    assert np.isfinite(found.scores).all()


def test_the_seed_is_all_that_is_random(rng):
    covariates, label, _ = population(rng, 600)
    bricks = np.full(600, "0001p000")
    one, two, other = (metadata_classifier(covariates, label, bricks, seed=s) for s in (1, 1, 2))
    assert np.array_equal(one.scores, two.scores)
    assert one.importance == two.importance
    assert not np.array_equal(one.scores, other.scores)


@pytest.mark.parametrize("bricks", [["a"] * 30, ["a"] * 15 + ["b"] * 15])
def test_few_bricks_and_examples(bricks):
    """Two bricks of one class each: nothing can be learnt from one about the other."""
    label = np.repeat([0, 1], 15)
    found = metadata_classifier({"mag_r": np.arange(30.0)}, label, np.array(bricks), seed=1)
    assert found.by == "examples"
    assert found.scores.shape == (30,)
    assert found.auc.value == 0.5  # leaves of 20 examples cannot be made of 24


def test_what_one_class_lacks_is_not_compared(rng):
    """A user's table of reals has no PSF widths: their absence would be the label."""
    covariates, label, _ = population(rng, 600)
    covariates["psfsize_r"] = np.where(label == 1, rng.normal(size=600), np.nan)
    covariates["sn"] = np.where(rng.random(600) < 0.2, np.nan, rng.normal(size=600))
    assert set(comparable(covariates, label)) == {*EQUAL, "sn"}


def test_scores_that_share_training_examples_have_a_wider_interval(rng):
    """By the factor of Nadeau and Bengio."""
    label, scores = np.arange(400) % 2, rng.normal(size=400)
    bricks = np.arange(400) % 12
    plain = auc_interval(label, scores, bricks)
    for share, factor in ((1.0, np.sqrt(2.25)), (0.2, np.sqrt(1.25))):
        found = cross_fitted_auc(label, scores, bricks, folds=5, share=share).interval()
        assert found.value == plain.value
        assert (found.high - found.low) / (plain.high - plain.low) == pytest.approx(factor)


def linear_scores(columns, label, bricks):
    """Cross-fitted scores of the difference of the classes' means, in five parts of whole bricks."""
    scores = np.empty(len(label))
    for part in range(5):
        held_out = bricks % 5 == part
        there, fake = columns[~held_out], label[~held_out] == 1
        weights = there[fake].mean(0) - there[~fake].mean(0)
        scores[held_out] = (columns[held_out] - there.mean(0)) @ weights / np.linalg.norm(weights)
    return scores


@pytest.mark.parametrize("odd", [0.0, 0.5])
def test_the_interval_covers_where_there_is_no_difference(odd):
    """With bricks that are alike, and with injections that look different in each; ``bin/benchmark
    cross_fitting`` has it for the baseline's own classifier.

    Where every pair of examples of two parts counts twice, the variance is twice that of a given classifier.
    """
    rng, holds, values, errors = np.random.default_rng(5), [], [], []
    bricks = np.repeat(np.arange(20), 20)
    for _ in range(300):
        label = rng.integers(2, size=len(bricks))
        shift = rng.normal(0, odd, (20, 10))[bricks]
        columns = rng.normal(size=shift.shape) + (label - 0.5)[:, None] * shift
        scores = linear_scores(columns, label, bricks)
        given = measure_auc(label, scores, bricks)
        both = given.interval(), cross_fitted_auc(label, scores, bricks, folds=5).interval()
        holds.append([one.low <= 0.5 <= one.high for one in both])
        values.append(given.value)
        errors.append(given.error)
    plain, widened = np.mean(holds, axis=0)
    assert plain < 0.89
    assert 0.92 < widened < 0.985
    assert 1.7 < np.var(values) / np.mean(np.square(errors)) < 2.4
