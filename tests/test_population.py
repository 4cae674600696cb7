"""Population scores: what expectation maximisation finds, and what the scores are worth."""

import numpy as np
import pytest

from obiwan.dplearn.referees.measured import measure
from obiwan.dplearn.referees.population import (
    SIZE_FLOOR,
    fit_population,
    population_from,
    transformed,
)
from obiwan.dplearn.twosample.ranking import auc
from planted import GRZ, Planted, draw

FLUXES, SIZE = (0, 1), 3


def drawn(n, seed, shift=0.0):
    """True parameters in the asinh and size frame, and Gaussian likelihoods of a known noise."""
    rng = np.random.default_rng(seed)
    flux = np.exp(rng.normal(2.0, 0.4, (n, 1)) + rng.normal(0, 0.1, (n, 2)))
    other = rng.normal([0.1 + shift, 0.8], [0.5, 0.3], (n, 2))
    truth = np.hstack([flux, other])
    error = np.array([0.05, 0.05, 0.4, 0.2])
    values = truth + rng.normal(0, error, (n, 4))
    information = np.broadcast_to(np.diag(1 / error**2), (n, 4, 4)).copy()
    return truth, values, information, np.zeros((n, 4))


def test_mean_and_covariance_of_a_population_behind_its_noise():
    truth, *fits = drawn(4000, 1)
    found = fit_population(*fits, FLUXES, SIZE)
    assert found.mean[2] == pytest.approx(0.1, abs=0.03)
    assert np.sqrt(found.covariance[2, 2]) == pytest.approx(0.5, rel=0.05)  # not hypot(0.5, 0.4)
    # Both fluxes rise together: in asinh of F / 2s, ln F but for a constant.
    inner = found.covariance[:2, :2]
    assert inner[0, 1] / np.sqrt(inner[0, 0] * inner[1, 1]) == pytest.approx(0.16 / 0.17, abs=0.03)
    size = np.log(np.exp(2 * truth[:, SIZE]) + SIZE_FLOOR**2) / 2
    assert found.mean[SIZE] == pytest.approx(size.mean(), abs=0.03)


def test_scores_of_a_shift_are_near_the_ideal_observer():
    _, *old = drawn(4000, 2)
    _, *new = drawn(4000, 3, shift=0.3)
    both = [np.concatenate(pair) for pair in zip(old, new, strict=True)]
    labels = np.repeat([0, 1], 4000)
    posterior = fit_population(*both, FLUXES, SIZE).posterior(*both)
    found = auc(labels, posterior.mean[:, 2])
    ideal = auc(labels, both[0][:, 2])  # one noise for all: the value itself ranks ideally
    assert found == pytest.approx(ideal, abs=0.003)
    assert 0.6 < ideal < 0.7


def test_scores_have_no_mean_in_the_population_itself():
    _, *fits = drawn(4000, 4)
    posterior = fit_population(*fits, FLUXES, SIZE).posterior(*fits)
    assert np.abs(posterior.u.mean(0)).max() < 0.05
    assert np.abs(posterior.q.mean(0)).max() < 0.15
    assert (posterior.v > 0).all()


def test_a_stamp_without_data_is_any_of_the_population():
    _, values, information, gradient = drawn(500, 5)
    population = fit_population(values, information, gradient, FLUXES, SIZE)
    values[0], information[0], gradient[0] = np.nan, 0, np.nan
    posterior = population.posterior(values, information, gradient)
    assert posterior.u[0] == pytest.approx(0, abs=1e-6)
    assert posterior.v[0] == pytest.approx(1, abs=1e-6)
    assert fit_population(values, information, gradient, FLUXES, SIZE).mean == pytest.approx(
        population.mean, abs=0.01
    )


def test_likelihoods_keep_their_slope_through_a_change_of_parameters():
    value, slope = np.array([[2.0, 3.0, 0.0, -0.4]]), np.array([[0.3, -0.2, 1.0, 0.7]])
    soft, step = np.array([0.1, 0.2]), 1e-6
    here = transformed(value, np.zeros((1, 4, 4)), slope, FLUXES, SIZE, soft)
    for k in range(4):
        moved = value.copy()
        moved[0, k] += step
        there = transformed(moved, np.zeros((1, 4, 4)), slope, FLUXES, SIZE, soft)
        assert here.gradient[0, k] == pytest.approx(
            slope[0, k] * step / (there.values - here.values)[0, k], rel=1e-3
        )


def test_too_few_stamps_are_no_population():
    _, values, information, gradient = drawn(5, 6)
    information[1:] = 0
    with pytest.raises(ValueError, match="1 of 5 stamps have data"):
        fit_population(values, information, gradient, FLUXES, SIZE)


def test_a_population_is_what_its_arrays_say():
    _, *fits = drawn(200, 7)
    found = fit_population(*fits, FLUXES, SIZE)
    again = population_from({name: np.asarray(value) for name, value in vars(found).items()})
    assert again.fluxes == found.fluxes
    assert again.posterior(*fits).u == pytest.approx(found.posterior(*fits).u)


def test_widths_of_the_psf_scatter_no_more_than_they_do():
    """Further rounds fit the tails of likelihoods that are not Gaussian: after 40 the scatter is 0.13."""
    rng = np.random.default_rng(7)
    stamps = draw(512, Planted(), rng)[0]
    rows = np.zeros(len(stamps), [("x", "f8"), ("y", "f8")])
    found = measure(stamps, rows, GRZ)
    widths = [found.fits.names.index(name) for name in GRZ.columns("ln_psf")]
    scatter = np.sqrt(np.diag(found.population.covariance))[widths].mean()
    assert 0.05 < scatter < 0.11  # true: 0.05, and something for what the wings of the model lack
