"""The galaxy fit finds what was drawn, says how well it knows it, and goes its own way for every stamp."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import gammainc, gammaincinv

from obiwan.dplearn.create_training import main as create_training
from obiwan.dplearn.galaxyfit import model, profiles, score_tests
from obiwan.dplearn.galaxyfit.fits import FLAGS, StampFits, fit_stamps, residual_images
from obiwan.dplearn.galaxyfit.model import SEEING, Grid, Layout, expected_ln_psf, image, light
from obiwan.dplearn.galaxyfit.solver import evaluate
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.stampset import open_training_set
from planted import (
    FWHM,
    GRZ,
    SKY,
    Planted,
    Population,
    Sample,
    draw,
    draw_population,
    noiseless,
    observe,
    plant,
)

NONE = Planted("none", 0.0)
LAYOUT, GRID = Layout.of(GRZ), Grid.of(GRZ.size)
SPECS = (
    StampSpec(bands=("r",)),
    StampSpec(bands=("g", "r")),
    StampSpec(bands=("g", "r", "i", "z")),
    StampSpec(planes=("image",)),
    StampSpec(size=20),
)


def parameters(n: int, seed: int, spec: StampSpec = GRZ, flux: float = 100.0) -> np.ndarray:
    """Parameters drawn from the priors, but half as wide, and fluxes near a given one."""
    rng, layout = np.random.default_rng(seed), Layout.of(spec)
    mean = layout.centred(expected_ln_psf(None, n, spec))[0]
    theta = mean + 0.5 * layout.sd * rng.normal(size=mean.shape)
    theta[:, : layout.bands] = flux * rng.lognormal(0, 0.3, (n, layout.bands))
    return theta


def images(theta: np.ndarray, spec: StampSpec, seed: int | None = None) -> np.ndarray:
    """Stamps of the fit's own model, with the noise of `SKY` unless the seed is None."""
    bands, sky = spec.bands, np.array([SKY[band] for band in spec.bands], np.float32)
    whole = Grid.of(2 * (spec.size // 2) + 1)
    line = np.arange(spec.size, dtype=np.float32) - spec.size // 2
    y, x = (axis.ravel() for axis in np.meshgrid(line, line, indexing="ij"))
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])
    grid = replace(whole, x=x, y=y, radius=np.hypot(x, y), basis=basis)
    stamps = light(theta, Layout.of(spec), grid)[0].reshape(len(theta), len(bands), spec.size, spec.size)
    stamps = np.moveaxis(stamps, 1, -1)
    if seed is not None:
        stamps = stamps + sky * np.random.default_rng(seed).standard_normal(stamps.shape, np.float32)
    return np.concatenate([stamps, np.broadcast_to(sky**-2, stamps.shape)], -1)[..., : len(spec.channels)]


def truth_of(sample: Sample) -> np.ndarray:
    """Parameters of planted galaxies; the FWHM of their PSF is 2.4257 of its core's sigma."""
    columns = [sample.x, sample.y, np.log(sample.size / GRZ.pixel_scale), sample.e1, sample.e2]
    ln_psf = np.log(sample.sigma * 2.4257 / profiles.FWHM)
    return np.column_stack([sample.flux, *columns, ln_psf, sample.dev])


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, Sample, StampFits]:
    x, _, sample = draw(512, NONE, np.random.default_rng(1), Population(median_snr=150.0))
    return x, sample, fit_stamps(x, GRZ)


@pytest.mark.parametrize(
    ("index", "ends", "weights"), [(1, 4.0, profiles.EXPONENTIAL), (4, 8.0, profiles.DE_VAUCOULEURS)]
)
def test_mixtures_enclose_the_flux_of_the_truncated_profiles(index, ends, weights):
    """Sersic's enclosed flux is an incomplete gamma function of b (r / r_e)^(1/n)."""
    b = gammaincinv(2 * index, 0.5)

    def enclosed(radius):
        inside = gammainc(2 * index, b * np.minimum(radius, ends) ** (1 / index))
        return inside / gammainc(2 * index, b * ends ** (1 / index))

    def mixture(radius):
        return (weights * (1 - np.exp(-(np.asarray(radius)[..., None] ** 2) / 2 / profiles.VARIANCES))).sum(
            -1
        )

    radius = np.geomspace(0.1, 20, 200)
    np.testing.assert_allclose(mixture(radius), enclosed(radius), atol=0.007)
    fine = np.linspace(0.5, 1.5, 20001)
    half = [fine[np.searchsorted(curve(fine), 0.5)] for curve in (mixture, enclosed)]
    assert half[0] == pytest.approx(half[1], rel=0.005)
    assert weights.sum() == pytest.approx(1, abs=1e-12)


def test_psf_has_the_fwhm_that_it_is_named_after():
    def height(radius):
        return (
            profiles.PSF_FRACTIONS
            / profiles.PSF_SIGMAS**2
            * np.exp(-(radius**2) / 2 / profiles.PSF_SIGMAS**2)
        ).sum()

    assert height(profiles.FWHM / 2) / height(0.0) == pytest.approx(0.5, abs=1e-4)
    assert profiles.PSF_FRACTIONS.sum() == 1


def test_model_is_what_galsim_draws():
    """Flux within 8 px, and pixels, of both profiles truncated like the mixtures, through the same PSF."""
    galsim = pytest.importorskip("galsim")
    grid = Grid.of(65)
    inside = grid.radius <= 8
    for index, ends, dev in ((1, 4.0, 0.0), (4, 8.0, 1.0)):
        theta = np.array([[1.0, 0.2, -0.3, np.log(2.0), 0.0, 0.0, np.log(2.0), dev]])
        found = light(theta, Layout.of(SPECS[0]), grid)[0][0, 0]
        scale = galsim.Sersic(index, half_light_radius=2.0).scale_radius
        profile = galsim.Sersic(index, scale_radius=scale, trunc=ends * 2.0)
        widths = profiles.PSF_SIGMAS * 2.0
        psf = galsim.Add(
            [galsim.Gaussian(sigma=s, flux=f) for s, f in zip(widths, profiles.PSF_FRACTIONS, strict=True)]
        )
        image = galsim.Image(grid.side, grid.side, scale=1.0, dtype=float)
        galsim.Convolve(profile, psf).drawImage(image, method="no_pixel", offset=(0.2, -0.3))
        drawn = image.array.ravel()
        assert found[inside].sum() == pytest.approx(drawn[inside].sum(), rel=0.005)
        np.testing.assert_allclose(found, drawn, atol=0.01 * drawn.max())


def test_slopes_are_finite_differences():
    theta = parameters(20, 3, flux=1.0)
    model, slopes = light(theta, LAYOUT, GRID)
    for k in range(len(LAYOUT.names)):
        step = np.zeros_like(theta)
        step[:, k] = 0.01
        numeric = (light(theta + step, LAYOUT, GRID)[0] - light(theta - step, LAYOUT, GRID)[0]) / 0.02
        for band, own in enumerate(LAYOUT.of_band):
            where = np.flatnonzero(own == k)
            expected = slopes[:, band, where[0]] if len(where) else np.zeros_like(numeric[:, band])
            np.testing.assert_allclose(numeric[:, band], expected, atol=2e-3 * np.abs(model).max())


def test_gradient_and_information_are_those_of_chi2():
    """The sky that is integrated out is in all three."""
    theta, layout = parameters(4, 5, flux=1.0), LAYOUT
    x = images(theta, GRZ, 6)[:, GRID.box, GRID.box]
    image, weight = (
        np.moveaxis(p, -1, 1).reshape(4, 3, -1).astype(np.float32) for p in (x[..., :3], x[..., 3:])
    )
    sky = weight[:, :, 0] / 0.05**2

    def at(moved):
        return evaluate(moved, image, weight, sky, layout, GRID)

    middle = at(theta + 0.001)
    for k in range(len(layout.names)):
        step = np.zeros_like(theta)
        step[:, k] = 0.003
        up, down = at(theta + 0.001 + step), at(theta + 0.001 - step)
        slope = (down.chi2 - up.chi2) / 0.012
        np.testing.assert_allclose(
            slope, middle.gradient[:, k], rtol=0.02, atol=0.02 * np.abs(middle.gradient).max()
        )
    direct = np.zeros_like(middle.information[0])
    for band, own in enumerate(layout.of_band):
        w, slopes = weight[0, band].astype(float), middle.slopes[0, band].astype(float)
        covariance = np.diag(1 / w) + 1 / sky[0, band]
        direct[np.ix_(own, own)] += slopes @ np.linalg.solve(covariance, slopes.T)
    np.testing.assert_allclose(middle.information[0], direct, rtol=1e-3, atol=1e-4 * np.abs(direct).max())


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: "".join(s.bands) + f"{len(s.planes)}-{s.size}")
def test_parameters_are_recovered_with_the_errors_that_are_said(spec):
    """Galaxies of the model itself, bright enough for the likelihood to outweigh the priors."""
    theta = parameters(300, 7, spec)
    fits = fit_stamps(images(theta, spec, 8), spec)
    fine = ~fits.flagged("at_bound") & ~fits.flagged("neighbours_masked")
    assert fine.mean() > 0.6
    assert not fits.flagged("not_converged").any()
    assert fits.flagged("noise_from_sky").all() == (not spec.has_ivar)
    pulls = ((fits.values - theta) / fits.errors())[fine]
    np.testing.assert_allclose(np.median(pulls, 0), 0, atol=0.25)
    spread = 1.4826 * np.median(np.abs(pulls - np.median(pulls, 0)), 0)
    np.testing.assert_allclose(spread, 1, atol=0.25)
    assert np.mean(fits.chi2[fine] / (fits.pixels[fine] - len(fits.names))) == pytest.approx(1, abs=0.06)


def test_planted_galaxies_are_recovered(planted):
    """Another code's mixtures and another PSF: scatter within the errors, offsets below a third of them."""
    _, sample, fits = planted
    difference = fits.values - truth_of(sample)
    pulls = difference / fits.errors()
    assert (np.abs(np.median(pulls[:, 3:5], 0)) < 0.15).all()
    np.testing.assert_allclose(pulls[:, 3:7].std(0), 1, atol=0.3)
    np.testing.assert_allclose(np.median(fits.values[:, :3] / sample.flux, 0), 1, atol=0.03)
    assert np.median(fits.chi2 / fits.pixels) == pytest.approx(1, abs=0.03)
    assert not fits.flagged("not_converged").any()


def test_information_is_the_scatter_over_draws_of_the_noise():
    mean = LAYOUT.centred(expected_ln_psf(None, 400, GRZ))[0]
    theta = np.where(np.arange(len(LAYOUT.names)) < LAYOUT.bands, 30.0, mean)
    fits = fit_stamps(images(theta, GRZ, 12), GRZ)
    precision = np.diag(LAYOUT.precision)
    information = fits.information.astype(float)
    posterior = np.linalg.inv(information + precision)
    variances = np.einsum("nii->ni", posterior @ information @ posterior)  # the priors hold estimates back
    expected = np.sqrt(np.median(variances, 0))
    np.testing.assert_allclose(fits.values.std(0), expected, rtol=0.2)


def test_psf_widths_of_the_catalogue_are_the_centre_of_their_prior():
    """Faint galaxies have the width that is expected, bright ones their own."""
    faint = images(parameters(50, 13, flux=0.01), GRZ, 14)
    for fwhm in (1.0, 1.5):
        fits = fit_stamps(faint, GRZ, np.full((50, 3), fwhm))
        found = np.exp(np.median(fits.values[:, LAYOUT.psf], 0)) * profiles.FWHM * GRZ.pixel_scale
        np.testing.assert_allclose(found, fwhm, rtol=0.05)
    unknown = fit_stamps(faint, GRZ, np.full((50, 3), np.nan))
    np.testing.assert_array_equal(unknown.values, fit_stamps(faint, GRZ).values)
    np.testing.assert_array_equal(unknown.values, fit_stamps(faint, GRZ, np.full((50, 3), SEEING)).values)


def test_neighbours_are_masked():
    x, _, sample = draw(300, NONE, np.random.default_rng(15))
    alone, rng = fit_stamps(x, GRZ), np.random.default_rng(16)
    angle, distance = rng.uniform(0, 2 * np.pi, len(x)), rng.uniform(9, 14, len(x))
    other = replace(sample, x=distance * np.cos(angle), y=distance * np.sin(angle))
    fits = fit_stamps(x + np.concatenate([noiseless(other), np.zeros_like(x[..., 3:])], -1), GRZ)
    assert fits.flagged("neighbours_masked").mean() > 0.95
    assert alone.flagged("neighbours_masked").mean() < 0.02
    moved = (fits.values - alone.values) / alone.errors()
    assert (np.median(np.abs(moved), 0) < 0.65).all()
    assert (fits.pixels < alone.pixels).mean() > 0.95


def test_pixels_without_data_have_no_say(planted):
    """Whatever stands in them: 0, the fill of saturated pixels, NaN."""
    x = planted[0][:64].copy()
    x[:, 30:33, 34:40, 3:] = 0
    x[:, :, 44:, 3:] = 0  # padded
    zeros, fills, nans = x.copy(), x.copy(), x.copy()
    for stamps, value in ((zeros, 0), (fills, 10), (nans, np.nan)):
        stamps[..., :3][x[..., 3:] == 0] = value
    fits = [fit_stamps(stamps, GRZ) for stamps in (zeros, fills, nans)]
    for other in fits[1:]:
        for name in ("values", "information", "statistics", "chi2", "flags"):
            np.testing.assert_array_equal(getattr(other, name), getattr(fits[0], name))
    assert fits[0].flagged("blank_core").all()
    assert np.isfinite(fits[0].statistics).all()
    pulls = (fits[0].values - truth_of(planted[1].take(slice(0, 64)))) / fits[0].errors()
    np.testing.assert_allclose(pulls[:, 3:5].std(0), 1, atol=0.35)


@pytest.mark.parametrize("spec", [GRZ, StampSpec(planes=("image",))], ids=["ivar", "image"])
def test_a_band_without_data_leaves_the_others_as_they_are(spec):
    theta = parameters(40, 17)
    x = images(theta, spec, 18)
    x[..., [k for k, name in enumerate(spec.channels) if name.endswith("z")]] = 0
    fits = fit_stamps(x, spec)
    assert fits.flagged("no_data").all()
    assert (fits.column("flux_z") == 0).all()
    assert (fits.information[:, LAYOUT.names.index("flux_z")] == 0).all()
    assert np.isnan(fits.column("shot_z")).all()
    assert np.isfinite(fits.column("shot_r")).all()
    gr = StampSpec(bands=("g", "r"), planes=spec.planes)
    kept = [k for k, name in enumerate(spec.channels) if not name.endswith("z")]
    alone = fit_stamps(np.ascontiguousarray(x[..., kept]), gr)
    np.testing.assert_allclose(fits.column("ln_size"), alone.column("ln_size"), atol=0.02)
    nothing = fit_stamps(np.zeros((2, *spec.shape), np.float32), spec)
    assert (nothing.pixels == 0).all()
    assert (nothing.information == 0).all()
    assert np.isfinite(nothing.values).all()


def test_one_stamp_is_fitted_alike_alone_and_in_any_company(planted):
    x, _, fits = planted
    order = np.random.default_rng(19).permutation(len(x))[:100]
    among = fit_stamps(x[order], GRZ, batch=7)
    alone = fit_stamps(x[order[:1]], GRZ)
    for name in ("values", "chi2", "statistics"):
        expected = getattr(fits.take(order), name)
        np.testing.assert_allclose(getattr(among, name), expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(getattr(alone, name), expected[:1], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(fit_stamps(x[:50], GRZ).values, fit_stamps(x[:50], GRZ).values)


@pytest.mark.parametrize("size", [1, 2, 5, 9, 16, 28, 29, 30])
def test_small_stamps_use_the_pixels_that_they_have(size):
    spec = StampSpec(size=size)
    fits = fit_stamps(images(parameters(5, 20), spec, 21), spec)
    assert len(fits) == 5
    side = min(29, 2 * ((size - 1) // 2) + 1)
    assert (fits.pixels <= 3 * side**2).all()
    assert fits.flagged("few_pixels").all() == (side < 15)
    assert residual_images(images(parameters(5, 20), spec, 21), fits).shape == (5, side, side, 3, 4)
    assert np.isfinite(fits.values).all()


def test_what_is_no_galaxy_ends_within_the_bounds():
    """Stars, emptiness, a hole, a bright edge, damage: finite parameters, and flags."""
    rng = np.random.default_rng(22)
    star = parameters(10, 23, flux=3e4)
    star[:, 5] = np.log(0.01)
    x = images(star, GRZ, 24)
    empty = images(parameters(10, 25, flux=0.0), GRZ, 26)
    hole = images(parameters(10, 27, flux=-5.0), GRZ, 28)
    edge = empty.copy()
    edge[:, :, 40:, :3] += 1e3
    damage = empty.copy()
    damage[..., :3] *= 10 ** rng.uniform(-30, 30, damage[..., :3].shape).astype(np.float32)
    fits = fit_stamps(np.concatenate([x, empty, hole, edge, damage]), GRZ)
    low, high = LAYOUT.centred(expected_ln_psf(None, 1, GRZ))[1:]
    assert ((fits.values >= low - 1e-5) & (fits.values <= high + 1e-5)).all()
    for name in ("values", "information", "gradient", "chi2"):
        assert np.isfinite(getattr(fits, name)).all()
    np.testing.assert_allclose(fits.values[:10, :3], star[:, :3], rtol=0.03)
    assert np.exp(fits.values[:10, 5]).max() < 1
    assert np.abs(fits.values[10:20, 0] / fits.errors()[10:20, 0]).max() < 6
    assert (fits.values[20:30, :3] < 0).all()


def test_large_bright_galaxies_are_neither_masked_nor_mistaken_for_wide_psfs():
    for arcsec in (2.0, 3.5):
        theta = parameters(20, 29, flux=300.0)
        theta[:, 5] = np.log(arcsec / GRZ.pixel_scale)
        fits = fit_stamps(images(theta, GRZ, 30), GRZ)
        found = np.exp(fits.column("ln_size") - theta[:, 5])
        assert np.mean(np.abs(found - 1) < 0.02) >= 0.9
        assert fits.flagged("neighbours_masked").mean() <= 0.1


def test_bounds_are_flagged():
    large, flat = parameters(20, 29, flux=30.0), parameters(20, 29, flux=5.0)
    large[:, 5] = np.log(12 / GRZ.pixel_scale)
    flat[:, 6:8] = 0.99, 0.1
    fits = [fit_stamps(images(theta, GRZ, 30), GRZ) for theta in (large, flat)]
    for one in fits:
        assert one.flagged("at_bound").mean() > 0.4
        assert not one.flagged("not_converged").any()
    large, flat = (one.take(one.flagged("at_bound")) for one in fits)
    np.testing.assert_allclose(large.column("ln_size"), np.log(4 / GRZ.pixel_scale), atol=1e-5)
    np.testing.assert_allclose(np.hypot(flat.column("e1"), flat.column("e2")), 0.95, atol=1e-3)


def test_leftovers_are_of_unit_variance_where_the_model_is_true():
    fits = fit_stamps(images(parameters(600, 31, flux=3.0), GRZ, 32), GRZ)
    fine = ~fits.flagged("neighbours_masked") & ~fits.flagged("at_bound")
    for name in fits.statistic_names:
        if name.startswith(("chi2_", "shot", "corr_", "multipole_4")):
            values = fits.column(name)[fine]
            assert np.std(values) == pytest.approx(1, abs=0.15), name
    for name in ("chi2_zone0_all", "chi2_zone1_all", "shot_r"):
        assert np.mean(fits.column(name)[fine]) == pytest.approx(0, abs=0.25), name


def test_leftovers_see_noise_that_ivar_does_not_know():
    sample = draw_population(300, Population(), np.random.default_rng(33))
    quiet, noisy = (fit_stamps(observe(sample, np.random.default_rng(34), shot=s), GRZ) for s in (0.0, 5e-4))
    for name in ("shot_g", "noise_100_all", "noise_100_g"):
        gap = noisy.column(name).mean() - quiet.column(name).mean()
        assert gap > 0.7 * quiet.column(name).std(), name
    dipped = fit_stamps(observe(sample, np.random.default_rng(34), dip=0.1), GRZ)
    assert np.median(dipped.column("ivar_dip_all")) < -0.02
    assert np.abs(quiet.column("ivar_dip_all")).max() < 1e-5


def test_slopes_of_the_score_tests_are_finite_differences(monkeypatch):
    theta, step = parameters(5, 40, flux=1.0), 1e-3
    own = LAYOUT.of_band[0]
    found = score_tests._extras(theta[:, own], GRID)
    before = image(theta, LAYOUT, GRID)[:, 0]
    for name, profile in (("EXP", profiles.EXPONENTIAL), ("DEV", profiles.DE_VAUCOULEURS)):
        fractions = profiles.PSF_FRACTIONS + np.array([-step, step])
        monkeypatch.setattr(model, f"WEIGHTS_{name}", np.outer(profile, fractions).ravel())
    wings = (image(theta, LAYOUT, GRID)[:, 0] - before) / step
    monkeypatch.undo()
    np.testing.assert_allclose(found[:, 0], wings, atol=1e-3)
    star = theta.copy()
    star[:, 5] = -9
    np.testing.assert_allclose(found[:, 2], image(star, LAYOUT, GRID)[:, 0] - before, atol=1e-3)
    centre = np.abs(found[:, 1]).max()
    assert (found[:, 1][:, GRID.radius > 10] >= -1e-6).all()
    assert (found[:, 1][:, GRID.radius < 1] < -0.1 * centre).all()


@pytest.fixture(scope="module")
def drawn() -> tuple[Sample, StampFits]:
    sample = draw_population(400, Population(), np.random.default_rng(41))
    return sample, fit_stamps(observe(sample, np.random.default_rng(42)), GRZ)


def separation(one: StampFits, other: StampFits, name: str) -> float:
    """Difference of two means over the scatter of the first."""
    return float((other.column(name).mean() - one.column(name).mean()) / one.column(name).std())


def test_score_tests_have_unit_variance_where_the_fit_is_free(drawn):
    for name in ("x", "y", "e1", "e2"):
        for band in GRZ.bands:
            values = drawn[1].column(f"tension_{name}_{band}")
            assert np.std(values) == pytest.approx(1, abs=0.12)
            assert np.mean(values) == pytest.approx(0, abs=0.15)


def test_score_tests_see_what_the_model_does_not_have(drawn):
    """A shifted band, wider wings, clumps: each by the number that is made for it."""
    sample, quiet = drawn
    stamps = observe(sample, np.random.default_rng(42))
    shifted = stamps.copy()
    shifted[..., 1] += (noiseless(replace(sample, x=sample.x + 0.25)) - noiseless(sample))[..., 1]
    assert separation(quiet, fit_stamps(shifted, GRZ), "tension_x_r") > 1
    rng = np.random.default_rng(43)
    angle, distance = rng.uniform(0, 2 * np.pi, len(sample)), rng.uniform(2, 5, len(sample))
    place = {"x": sample.x + distance * np.cos(angle), "y": sample.y + distance * np.sin(angle)}
    clump = replace(sample, flux=0.1 * sample.flux, size=np.full(len(sample), 0.01), **place)
    clumpy = stamps.copy()
    clumpy[..., :3] += noiseless(clump) - 0.1 * noiseless(sample)
    found = fit_stamps(clumpy, GRZ)
    assert separation(quiet, found, "clump_5") > 0.7
    assert separation(quiet, found, "clump_most") > 0.5
    winged = fit_stamps(observe(plant(sample, Planted("wings", 0.4)), np.random.default_rng(42)), GRZ)
    assert separation(quiet, winged, "wings_all") > 0.5


def test_residual_images(planted):
    x, _, fits = planted
    found = residual_images(x[:200], fits.take(np.arange(200)), batch=37)
    assert found.shape == (200, 29, 29, 3, 4)
    assert found.dtype == np.float32
    assert found[..., 0].std() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(found[..., 1], found[..., 0] ** 2 - 1, atol=1e-4)
    image = x[:200, GRID.box, GRID.box, :3] * np.sqrt(x[:200, GRID.box, GRID.box, 3:])
    np.testing.assert_allclose(np.sinh(found[..., 2]) + found[..., 0], image, atol=0.5)
    np.testing.assert_allclose(found[..., 3], 1, atol=1e-5)
    blank = x[:5].copy()
    blank[:, 32, 32] = 0
    assert (residual_images(blank, fit_stamps(blank, GRZ))[:, 14, 14] == 0).all()


def test_results_are_joined_and_taken_apart(planted):
    fits = planted[2]
    halves = [fits.take(np.arange(len(fits)) < 100), fits.take(slice(100, None))]
    joined = StampFits.concatenate(halves)
    np.testing.assert_array_equal(joined.values, fits.values)
    np.testing.assert_array_equal(joined.column("dev"), fits.values[:, -1])
    with pytest.raises(ValueError, match="one specification"):
        StampFits.concatenate([])
    with pytest.raises(ValueError, match="of one specification"):
        StampFits.concatenate([fits, replace(fits, spec=StampSpec(size=32))])
    assert len(fit_stamps(np.empty((0, *GRZ.shape), np.float32), GRZ)) == 0
    assert len(set(FLAGS.values())) == len(FLAGS)


def test_arrays_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"stamps must have shape \(n, 64, 64, 6\), got \(2, 64, 64, 3\)"):
        fit_stamps(np.zeros((2, 64, 64, 3), np.float32), GRZ)
    with pytest.raises(ValueError, match=r"psf must have shape \(2, 3\)"):
        fit_stamps(np.zeros((2, *GRZ.shape), np.float32), GRZ, np.ones(2))


@pytest.mark.benchmark
def test_ten_thousand_stamps_take_less_than_a_minute_of_one_core_and_no_more_memory(planted):
    """Processor time, of which a busy machine needs more; the first call has made the caches."""
    x = planted[0]
    start = time.process_time()
    fit_stamps(x, GRZ)
    assert (time.process_time() - start) / len(x) * 10_000 < 60
    peaks = []
    for stamps in (x[:128], np.concatenate([x, x])):
        tracemalloc.start()
        fit_stamps(stamps, GRZ)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 5e6  # the results of 900 more


@pytest.mark.data
def test_real_stamps_converge(shared_data: Path, tmp_path: Path):
    """Real noise, neighbours and masks: fluxes are the catalogue's, positions the middle of the stamps."""
    regions = sorted((shared_data / "injected_legacysim").iterdir())
    words = ["--fake", *map(str, regions), "--outdir", str(tmp_path), "--select", "none"]
    assert create_training([*words, "--split", "object", "--edge", "pad"]) == 0
    stamp_set = open_training_set(tmp_path)
    rows = stamp_set.examples()
    x = np.concatenate([stamp_set.read(shard)[0] for shard in stamp_set.shards])
    fits = fit_stamps(x, stamp_set.spec, stamp_set.spec.per_band(rows, "psfsize"))
    assert len(fits) > 20
    assert fits.flagged("not_converged").mean() < 0.1
    for name in ("values", "information", "chi2"):
        assert np.isfinite(getattr(fits, name)).all()
    bright = (rows["flux_r"] > 2) & ~fits.flagged("no_data")
    ratio = fits.column("flux_r")[bright] / rows["flux_r"][bright]
    assert np.median(ratio) == pytest.approx(1, abs=0.15)
    assert np.median(np.abs(fits.values[bright, 3:5])) < 0.6
    assert np.median(fits.chi2 / fits.pixels) < 1.5
    assert set(FWHM) >= set(stamp_set.spec.bands)
