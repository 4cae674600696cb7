"""Planted differences: each changes what it names, in one class only, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from benchmarks.ideal import ideal_auc
from benchmarks.panel import fraction_of_ideal
from planted import (
    CLUMP_RADII,
    DIFFERENCES,
    GRZ,
    Planted,
    Population,
    correlated,
    draw,
    draw_population,
    noiseless,
    observe_class,
    plant,
)

SAMPLE = draw_population(40, Population(), np.random.default_rng(5))
IMAGE = noiseless(SAMPLE).astype(float)
AMPLITUDES = {"size": 1.3, "psf": 1.1, "flux": 1.3, "shot": 2e-4}  # of others 0.25


def centroid_x(image):
    """Of each band, relative to the central pixel, shape (n, bands)."""
    return np.einsum("nyxc,x->nc", image, np.arange(GRZ.size) - GRZ.size // 2) / image.sum((1, 2))


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_only_the_class_that_is_named_differs(kind):
    planted = Planted(kind, AMPLITUDES.get(kind, 0.25))
    for label in (0, 1):
        sample = plant(SAMPLE, planted) if label else SAMPLE
        stamps = observe_class(sample, label, planted, np.random.default_rng(1))
        plain = observe_class(SAMPLE, label, Planted(), np.random.default_rng(1))
        differs = kind != "none" and (label == 0) == (kind == "shot")
        assert (stamps != plain).any() == differs
        assert (stamps[..., 3:] != plain[..., 3:]).any() == (differs and kind == "dip")


def test_one_band_is_shifted():
    moved = centroid_x(noiseless(plant(SAMPLE, Planted("band_offset", 0.25)))) - centroid_x(IMAGE)
    assert moved == pytest.approx(np.tile([0.25, 0, 0], (40, 1)), abs=2e-3)


def test_wings_take_light_from_the_core_of_the_psf():
    """The PSF's variance is a mean of those of core and wings, (1 + 3 f) sigma^2."""
    point = replace(SAMPLE, size=np.full(40, 1e-3), sigma=np.full_like(SAMPLE.sigma, 2.0))
    images = [noiseless(one) for one in (point, plant(point, Planted("wings", 0.3)))]
    grid = np.arange(GRZ.size) - GRZ.size // 2
    for image, fraction in zip(images, (0.2, 0.3), strict=True):
        assert image.sum((1, 2)) == pytest.approx(point.flux, rel=1e-3)
        second = np.einsum("nyxc,x->nc", image, grid**2) / point.flux - centroid_x(image) ** 2
        assert second == pytest.approx(np.full((40, 3), 4 * (1 + 3 * fraction)), rel=0.01)


def test_a_clump_is_light_of_the_galaxy_at_its_place():
    clumped = plant(SAMPLE, Planted("clump", 0.05))
    radius = np.hypot(clumped.clump_x, clumped.clump_y)
    assert (CLUMP_RADII[0] <= radius).all()
    assert (radius <= CLUMP_RADII[1]).all()
    image = noiseless(clumped)
    assert image.sum((1, 2)) == pytest.approx(SAMPLE.flux, rel=0.02)
    expected = centroid_x(IMAGE) + 0.05 * SAMPLE.clump_x[:, None]
    assert centroid_x(image) == pytest.approx(expected, abs=0.03)


def test_noise_is_correlated_in_rows_and_has_the_variance_of_before():
    noise = correlated(np.random.default_rng(2).standard_normal((60, 64, 64, 3), np.float32), 0.04)
    pairs = {
        "row": (noise, np.roll(noise, 1, 2)),
        "next": (noise, np.roll(noise, 2, 2)),
        "column": (noise, np.roll(noise, 1, 1)),
    }
    found = {name: float((one * other).mean()) for name, (one, other) in pairs.items()}
    error = noise.size**-0.5
    assert found == pytest.approx({"row": 0.04, "next": 0, "column": 0}, abs=4 * error)
    assert noise.var() == pytest.approx(1, abs=6 * error)


def test_what_is_planted_in_one_class_leaves_the_draws_of_the_other():
    plain, labels, _ = draw(32, Planted(), np.random.default_rng(8))
    for kind in ("clump", "wings", "correlation", "band_offset"):
        stamps, again, _ = draw(32, Planted(kind, 0.1), np.random.default_rng(8))
        assert (again == labels).all()
        assert (stamps[labels == 0] == plain[labels == 0]).all()
        assert (stamps[labels == 1] != plain[labels == 1]).any()


def test_the_bound_of_correlated_noise_is_that_of_the_textbook():
    """Each pair of neighbours adds c^2 to d'^2."""
    pairs = GRZ.size**2 * len(GRZ.bands)
    expected = norm.cdf(0.01 * np.sqrt(pairs / 2))
    assert ideal_auc(Planted("correlation", 0.01)) == pytest.approx(expected, abs=0.03)


def test_the_bound_of_a_shifted_band_is_that_of_a_point_source():
    """Its place in one band, with the error sqrt(v) / S, against that in the others."""
    width = 2 * GRZ.pixel_scale
    bright = Population(median_snr=60, snr_scatter=0, median_size=1e-3 * width, ellipticity=0)
    sample = draw_population(64, bright, np.random.default_rng([1, 99]))
    slopes = np.diff(noiseless(sample), axis=2, append=0) / sample.sky[:, None, None, :]
    information = np.square(slopes.astype(float)).sum((1, 2))
    variance = 1 / information[:, 0] + 1 / (information[:, 1:].sum(1) + 12)
    dprime = 0.05 / np.sqrt(variance)
    found = ideal_auc(Planted("band_offset", 0.05), 64, population=bright)
    assert found == pytest.approx(norm.cdf(dprime / np.sqrt(2)).mean(), abs=0.03)


def test_fraction_of_the_ideal_and_its_error():
    ideal = norm.cdf(1.0)
    assert fraction_of_ideal(ideal, 0.01, ideal) == pytest.approx((1, 2 * 0.01 / norm.pdf(1)))
    assert fraction_of_ideal(norm.cdf(-0.5), 0.01, ideal)[0] == pytest.approx(-0.25)
    assert np.isnan(fraction_of_ideal(0.5, 0.01, 0.5)).all()
    assert np.isnan(fraction_of_ideal(0.99, 0.001, 1.0)).all()
