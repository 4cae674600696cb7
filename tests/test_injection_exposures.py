"""Exposures of a brick, their PSFEx models, photon noise, and PSFs from stars."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.wcs import WCS

from obiwan.dplearn.errors import CoaddError
from obiwan.dplearn.injection.exposures import Exposure, read_exposures
from obiwan.dplearn.injection.noise import fit_electrons, invvar_of, photon_noise, photons_on_grid
from obiwan.dplearn.injection.psfex import find_psfex, read_psfex
from obiwan.dplearn.injection.stars import good_stars, moffat_image, stack
from obiwan.dplearn.survey.sources import blank_sources
from released import DECAM, ccd_row, expected_psf, write_psfex


def written(path: Path, rows: np.ndarray) -> Path:
    fitsio.write(path, rows, clobber=True)
    return path


def test_positions_are_those_of_a_tan_projection():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], DECAM.crval
    wcs.wcs.crpix, wcs.wcs.cd = DECAM.crpix, DECAM.cd
    pixels = np.array([[0.0, 0.0], [2045.0, 4093.0], [700.0, 3000.0]])
    assert DECAM.pixels(*wcs.all_pix2world(pixels, 0).T) == pytest.approx(pixels, abs=1e-6)
    places = np.array([[-0.5, 0], [2046, 5], [2045.4, 4093.4], [3, -0.6]])
    assert DECAM.covers(places).tolist() == [True, False, True, False]


def test_exposures_are_read_by_band(tmp_path):
    offset = 0.3
    rows = [
        ccd_row(DECAM, gain=3.8, ccdraoff=offset, ccddecoff=offset),
        ccd_row(replace(DECAM, band="r"), gain=3.8, ccddecoff=0.0),
    ]
    path = written(tmp_path / "ccds.fits", np.concatenate(rows))
    (found,) = read_exposures(path, "g") or ()
    dec = DECAM.crval[1] + offset / 3600
    ra = DECAM.crval[0] + offset / 3600 / np.cos(np.radians(dec))  # offsets are angles on the sky
    assert found.crval == pytest.approx((ra, dec), abs=1e-9, rel=0)
    zeropoint = 25.0 + 2.5 * np.log10(90)
    assert found.electrons == pytest.approx(10 ** ((zeropoint - 22.5) / 2.5) * 3.8)
    (chosen,) = read_exposures(path, "g", gain=4.3) or ()
    assert chosen.electrons == pytest.approx(found.electrons * 4.3 / 3.8)
    assert read_exposures(path, "z") == ()


def test_electrons_of_bass_and_mzls_take_the_exposure_time_for_the_gain(tmp_path):
    path = written(tmp_path / "ccds.fits", ccd_row(replace(DECAM, camera="90prime")))
    (found,) = read_exposures(path, "g") or ()
    assert found.electrons == pytest.approx(10 ** ((25.0 - 22.5) / 2.5) * 90)


def test_tables_that_do_not_tell_are_no_exposures(tmp_path):
    rows = ccd_row(DECAM)
    short = rows[[name for name in rows.dtype.names if name != "ccdzpt"]]
    assert read_exposures(written(tmp_path / "ccds.fits", short), "g") is None
    assert read_exposures(tmp_path / "none.fits", "g") is None
    path = written(tmp_path / "bad.fits", ccd_row(replace(DECAM, sig1=np.nan)))
    with pytest.raises(CoaddError, match="exposure 802955 S9 has no CD matrix, sig1"):
        read_exposures(path, "g")


def with_norm(one: Exposure) -> Exposure:
    psf = expected_psf(one.shape[1] // 2, one.shape[0] // 2)
    return replace(one, psfnorm=float(np.sqrt((psf**2).sum())))


@pytest.mark.parametrize("layout", ["old", "dr9"])
def test_psfex_models_of_both_layouts(tmp_path, layout):
    one = with_norm(DECAM)
    path = write_psfex(tmp_path, layout, one)
    assert find_psfex(tmp_path, one) == path
    model = read_psfex(tmp_path, one)
    terms = model.terms(300.0, 3500.0)
    psf = np.tensordot(terms, model.basis, 1)
    assert psf / psf.sum() == pytest.approx(expected_psf(300.0, 3500.0), abs=1e-6)


def test_psfex_models_of_other_exposures_are_refused(tmp_path):
    one = with_norm(DECAM)
    write_psfex(tmp_path, "dr9", one)
    with pytest.raises(
        CoaddError, match=r"has a norm of 0\.14.*give the calibrations of this release with --calib"
    ):
        read_psfex(tmp_path, replace(one, psfnorm=one.psfnorm * 1.02))
    with pytest.raises(CoaddError, match=r"decam 802955 N1 \(no row of this CCD\); give the calibrations"):
        read_psfex(tmp_path, replace(one, ccdname="N1"))
    with pytest.raises(
        CoaddError, match=r"no PSFEx file of decam 7 S9, such as psfex/decam/other-psfex\.fits"
    ):
        read_psfex(tmp_path, replace(one, expnum=7, image="decam/other.fits.fz"))


@pytest.mark.parametrize("scaling", [1.0, 0.334])
def test_photon_noise_has_the_variance_of_lanczos_resampled_photons(scaling):
    """On pixels as large as the coadd's 0.75 to 0.81 of it are left; from large pixels it is smoother."""
    electrons, light = 4000.0, np.full((128, 128), 0.05)
    noise = np.array([photon_noise(np.random.default_rng(i), light, scaling, electrons) for i in range(8)])
    inner = noise[:, 20:-20, 20:-20]
    left = inner.var() / (0.05 * scaling / electrons)
    if scaling == 1:
        assert 0.70 < left < 0.85
    assert abs(inner.mean()) < 4 * np.sqrt(0.05 * scaling / electrons / inner.size * 3)
    steps = (inner[:, 1:] * inner[:, :-1]).mean() / inner.var()
    assert (steps > 0.4) == (scaling < 1)


def test_photons_are_counted_in_ccd_pixels():
    """The sum of noise over an area is that of its photons, whatever the pixels."""
    electrons, sums = 100.0, []
    v, u = np.mgrid[-32:32, -32:32]
    light = np.exp(-0.5 * (u**2 + v**2) / 25.0)
    for i in range(400):
        sums.append(photon_noise(np.random.default_rng(i), light, 0.334, electrons).sum())
    assert np.var(sums) == pytest.approx(light.sum() / electrons, rel=0.25)


def test_inverse_variances_take_each_exposures_photons():
    sky = np.array([0.01, np.inf])
    light = np.full(2, 2.0)
    parts = [invvar_of(sky, light, fraction, variance) for fraction, variance in ((0.25, 1e-3), (0.75, 2e-3))]
    expected = 1 / (0.01 / 0.25 + 2e-3) + 1 / (0.01 / 0.75 + 4e-3)
    assert sum(parts).tolist() == pytest.approx([expected, 0.0])


def test_the_photon_noise_of_a_coadd_is_fitted_from_its_bright_pixels():
    rng = np.random.default_rng(3)
    v, u = np.mgrid[:300, :300]
    light = sum(
        0.5 * np.exp(-0.5 * ((u - x) ** 2 + (v - y) ** 2) / 9) for x in range(20, 300, 50) for y in (70, 220)
    )
    depth = np.where(np.arange(300) < 150, 1.0, 2.0)[None]  # exposures
    sky, electrons = 0.004**2 / depth, 4000.0 * depth
    variance = sky + light / electrons
    image = light + rng.normal(size=light.shape) * np.sqrt(variance)
    assert fit_electrons(image, 1 / variance) == pytest.approx(0.004**2 * 4000, rel=0.05)
    assert fit_electrons(image * 0, 1 / variance) is None


def test_the_gain_is_fitted_where_the_number_of_exposures_changes():
    """A step in the depth through a bright star does not carry the fit away; faint bricks are fitted too."""
    rng = np.random.default_rng(3)
    v, u = np.mgrid[:200, :200]
    nobs = np.where(u < 100, 1, 4)
    image = np.zeros((200, 200))
    stars = [(99.0, 100.0, 3.0), *((x, y, 0.4) for x in (25, 60, 130, 170) for y in (30, 90, 150))]
    for x, y, peak in stars:
        image += peak * np.exp(-((u - x) ** 2 + (v - y) ** 2) / 8)
    variance = (0.004**2 + image / 4000) / nobs
    seen = image + rng.normal(size=image.shape) * np.sqrt(variance)
    assert fit_electrons(seen, 1 / variance) == pytest.approx(0.004**2 * 4000, rel=0.08)
    faint = 0.035 * np.minimum(image, 0.4) / 0.4  # less than ten standard deviations
    variance = 0.004**2 + faint / 4000
    assert fit_electrons(faint, 1 / variance) == pytest.approx(0.004**2 * 4000, rel=0.05)


def sky_with_stars(n: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    image = rng.normal(0, 0.01, (400, 400))
    x, y = (rng.permutation(np.linspace(50, 350, n)) + rng.uniform(-0.5, 0.5, n) for _ in range(2))
    flux = rng.uniform(20, 60, n)
    v, u = np.mgrid[:400, :400]
    alpha2 = 3.5**2
    for one in range(n):
        radius2 = ((u - x[one]) / 1.1) ** 2 + ((v - y[one]) * 1.1) ** 2
        image += flux[one] * 1.5 / np.pi / alpha2 * (1 + radius2 / alpha2) ** -2.5
    return image, np.full(image.shape, 1e4), x, y, flux


def test_stars_stack_to_their_psf():
    image, invvar, x, y, flux = sky_with_stars()
    invvar[200:203] = 0
    image[200:203] = 10
    found = stack(image, invvar, x, y, flux, np.column_stack([x, y]))
    assert found is not None
    psf, number = found
    assert 6 <= number <= 12
    v, u = np.mgrid[-31:32, -31:32]
    truth = 1.5 / np.pi / 3.5**2 * (1 + ((u / 1.1) ** 2 + (v * 1.1) ** 2) / 3.5**2) ** -2.5
    core = np.hypot(u, v) < 6
    assert np.abs(psf - truth)[core].max() < 0.02 * truth.max()
    assert psf.sum() == pytest.approx(1, abs=0.03)
    assert psf.min() > -0.002 * psf.max()


def test_a_few_stars_in_a_crowd_stack_to_their_psf():
    """Five stars among forty faint sources: flux, width and position are the PSF's to 2 %."""
    image, invvar, x, y, flux = sky_with_stars(5)
    v, u = np.mgrid[:400, :400]
    rng = np.random.default_rng(8)
    places = rng.uniform(20, 380, (40, 2))
    for (px, py), faint in zip(places, rng.uniform(0.1, 0.4, 40), strict=True):
        image += faint * 1.5 / np.pi / 3.5**2 * (1 + ((u - px) ** 2 + (v - py) ** 2) / 3.5**2) ** -2.5
    found = stack(image, invvar, x, y, flux, np.concatenate([np.column_stack([x, y]), places]))
    assert found is not None
    psf, number = found
    assert number == 5
    v, u = np.mgrid[-31:32, -31:32]
    truth = 1.5 / np.pi / 3.5**2 * (1 + ((u / 1.1) ** 2 + (v * 1.1) ** 2) / 3.5**2) ** -2.5
    near = np.hypot(u, v) <= 8
    assert psf[near].sum() / truth[near].sum() == pytest.approx(1, abs=0.02)
    assert (psf**2).sum() / (truth**2).sum() == pytest.approx(1, abs=0.02)
    weight = np.where(near, truth, 0)
    for axis in (u, v):
        assert (psf * weight * axis).sum() / (psf * weight).sum() == pytest.approx(0, abs=0.02)
        moments = [(one * weight * axis**2).sum() / (one * weight).sum() for one in (psf, truth)]
        assert moments[0] / moments[1] == pytest.approx(1, abs=0.02)


def test_too_few_stars_are_no_psf():
    image, invvar, x, y, flux = sky_with_stars()
    assert stack(image, invvar, x[:2], y[:2], flux[:2], np.column_stack([x, y])) is None


def test_stars_are_bright_alone_and_unmasked():
    x, y = np.array([10.0, 100, 110, 200, 300, 400, 500, 505]), np.full(8, 50.0)
    flux = np.array([10.0, 10, 10, 1, 10, 10, 10, 0.1])
    sources = replace(
        blank_sources(8, ("r",)),
        type=np.array(["PSF"] * 4 + ["EXP"] + ["PSF"] * 3),
        flux=flux[:, None],
        flux_ivar=np.full((8, 1), 100.0),
        maskbits=np.array([0, 0, 0, 0, 0, 2, 0, 0], "i4"),
    )
    assert good_stars(sources, "r", x, y, 0.262).tolist() == [0, 6]


def test_moffat_profiles_have_the_noise_area_of_psfsize():
    psf = moffat_image(4.6)
    sigma = 4.6 / 2.3548
    assert 1 / (psf**2).sum() == pytest.approx(4 * np.pi * sigma**2, rel=0.01)
    assert psf.sum() == pytest.approx(1)


def test_photons_of_unknown_exposures_are_as_many_as_invvar_says():
    """No pixel knows of its neighbours, and the variance is light over electrons."""
    light = np.full((400, 400), 0.05)
    noise = photons_on_grid(np.random.default_rng(5), light, 4000.0)
    assert noise.var() == pytest.approx(0.05 / 4000, rel=0.02)
    assert abs(np.mean(noise[1:] * noise[:-1])) < 0.02 * noise.var()
    resampled = photon_noise(np.random.default_rng(5), light, 1.0, 4000.0)
    assert resampled[20:-20, 20:-20].var() < 0.95 * 0.05 / 4000
