"""The mock's galaxy fits: those of a fit to pixels, and their errors those of the noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

pytest.importorskip("galsim")

import galsim

from obiwan.dplearn.mock import catalog, fitting
from obiwan.dplearn.mock.config import PIXEL_SCALE
from obiwan.dplearn.mock.fitting import FAMILIES, Light, fit, observed
from obiwan.dplearn.mock.profiles import ellipse, radius_of, sersic_transform
from obiwan.dplearn.survey.rendering import Galaxy, render

PSF, REX, DEV, EXP, SER = FAMILIES
FWHM = np.array([1.3, 1.2, 1.1])
SIGMA = np.array([0.0032, 0.0052, 0.0135])  #: nanomaggies in a pixel
DEPTH = PIXEL_SCALE / SIGMA
FLUX = np.array([[1.2, 2.0, 4.0]])


def light(
    radius: float = 0.6,
    sersic: float = 1.0,
    e1: float = 0.2,
    e2: float = -0.15,
    *,
    n: int = 1,
    psf: float = 1.0,
    flux: float = 1.0,
) -> Light:
    """Light of equal objects, at the origin."""
    shape = ellipse(*(np.full(n, value) for value in (radius, e1, e2)))
    return Light(
        np.repeat(flux * FLUX, n, 0), np.zeros((n, 3)), np.tile(psf * FWHM, (n, 1)), shape, np.full(n, sersic)
    )


def fitted(one: Light, family: fitting.Family) -> fitting.Fit:
    return fit(one, family, FWHM, np.tile(DEPTH, (len(one.flux), 1)))


@pytest.mark.parametrize("index", [0.5, 0.83, 1.0, 2.3, 4.0, 5.9])
def test_transforms_are_those_of_galsim(index: float) -> None:
    q = np.geomspace(0.05, 12, 40)
    expected = [galsim.Sersic(index, half_light_radius=1.0).kValue(k, 0).real for k in q]
    assert sersic_transform(q**2, np.full(40, index))[0] == pytest.approx(np.array(expected), abs=2.5e-3)
    disc = sersic_transform(q**2, 1.0)
    for analytic, table in zip(disc[:2], sersic_transform(q**2, np.ones(40)), strict=False):
        assert analytic == pytest.approx(table, abs=1e-4)


@pytest.mark.parametrize("index", [1.0, 0.7, 3.1])
def test_slopes_of_the_transforms(index: float) -> None:
    q2, step = np.geomspace(1e-3, 100, 30), 1e-5
    n: np.ndarray | float = 1.0 if index == 1.0 else np.full(30, index)
    ahead, behind = (sersic_transform(q2 * (1 + way * step), n)[0] for way in (1, -1))
    assert sersic_transform(q2, n)[1] * 2 * step * q2 == pytest.approx(ahead - behind, rel=1e-4, abs=1e-12)
    if index != 1.0:
        ahead, behind = (sersic_transform(q2, n + way * step)[0] for way in (1, -1))
        assert sersic_transform(q2, n)[2] * 2 * step == pytest.approx(ahead - behind, rel=1e-4, abs=1e-12)


def test_shapes_and_back(rng: np.random.Generator) -> None:
    radius, angle, size = rng.uniform(0.1, 2, 50), rng.uniform(0, 2 * np.pi, 50), rng.uniform(0.01, 0.6, 50)
    given = radius, size * np.cos(angle), size * np.sin(angle)
    for expected, found in zip(given, radius_of(ellipse(*given)), strict=True):
        assert found == pytest.approx(expected)


def in_pixels(galaxy: Galaxy, model: str) -> tuple[np.ndarray, ...]:
    """Fit one galaxy's pixels under the noise of the sky: flux, x and y (arcsec), radius, e1, e2, index."""
    noise, middle = SIGMA, 40
    data = render(galaxy, 2 * middle, PIXEL_SCALE) / noise

    def rest(values: np.ndarray) -> np.ndarray:
        flux, (x, y, radius, e1, e2) = values[:3], values[3:8]
        index = values[8] if model == "SER" else 1.0
        place = (middle + x / PIXEL_SCALE, middle + y / PIXEL_SCALE)
        drawn = Galaxy(tuple(flux), tuple(FWHM), *place, radius, index, e1, e2)
        return (render(drawn, 2 * middle, PIXEL_SCALE) / noise - data).ravel()

    start = [*FLUX[0], 0.01, 0.01, 0.55, 0.15, -0.1, *([1.5] if model == "SER" else [])]
    found = least_squares(
        rest, start, diff_step=1e-4, x_scale=[1, 1, 1, 0.1, 0.1, 0.5, 0.1, 0.1, 1][: len(start)]
    )
    return found.x, 2 * found.cost


@pytest.mark.parametrize(
    ("sersic", "psf", "dx", "model"),
    [(1.0, 1.1, 0.0, "EXP"), (1.7, 1.0, 0.0, "EXP"), (1.0, 1.0, 0.8, "EXP"), (1.6, 1.05, 0.0, "SER")],
)
def test_a_fit_to_pixels_finds_the_same(sersic: float, psf: float, dx: float, model: str) -> None:
    """What the models cannot follow moves every parameter as in a real fit, and leaves the same chi^2.

    The drawn profile ends and those of the fit do not: fluxes differ by 2 % if the model has another index.
    """
    one = light(sersic=sersic, psf=psf)
    one.dx[:, 0] = dx * PIXEL_SCALE
    galaxy = Galaxy(tuple(FLUX[0]), tuple(psf * FWHM), 40.0, 40.0, 0.6, sersic, 0.2, -0.15, (dx, 0.0, 0.0))
    expected, chi2 = in_pixels(galaxy, model)
    family = {"EXP": EXP, "SER": SER}[model]
    found = fitted(one, family)
    (values,) = found.values
    assert values[:3] == pytest.approx(expected[:3], rel=0.01 if sersic == 1 else 0.02)
    assert values[3:5] == pytest.approx(expected[3:5], abs=2e-3)
    shape = [float(value[0]) for value in radius_of(found.values[:, 5:8])]
    assert shape == pytest.approx(expected[5:8], rel=0.03, abs=0.01)
    if model == "SER":
        assert values[8] == pytest.approx(expected[8], rel=0.05)
    assert found.chi2[0] == pytest.approx(chi2, rel=0.2, abs=2)
    if dx:  # by the weight of the band
        assert 0.1 * dx < values[3] / PIXEL_SCALE < 0.5 * dx


def test_light_of_the_models_is_found_as_it_is() -> None:
    for family, one in (
        (EXP, light()),
        (SER, light(sersic=2.5)),
        (DEV, light(sersic=4.0)),
        (REX, light(e1=0, e2=0)),
        (PSF, light(radius=0.0, sersic=0.0)),
    ):
        one.dx[:] = 0.3
        found = fitted(one, family)
        assert found.values[0, :5] == pytest.approx([*FLUX[0], 0.3, 0.0], rel=1e-3, abs=1e-3)
        assert found.chi2[0] < 0.01


def test_the_scatter_is_that_of_the_information(rng: np.random.Generator) -> None:
    n = 20_000
    one = fitted(light(), EXP)
    many = one.take(np.zeros(n, int))
    for actual in (1.0, 0.25):
        values, ivar = observed(many, np.full((n, 3), actual), rng.standard_normal((n, 9)))
        pull = (values - one.values) / np.sqrt(actual * np.diag(np.linalg.inv(one.information[0].sum(0))))
        assert pull.std(axis=0) == pytest.approx(1, abs=0.05)
        assert ivar[0] == pytest.approx(np.diag(one.information[0].sum(0)))


def test_noise_of_one_band_moves_its_own_flux_most(rng: np.random.Generator) -> None:
    many = fitted(light(), EXP).take(np.zeros(5000, int))
    actual = np.tile([1.0, 1e-6, 1e-6], (5000, 1))
    scatter = observed(many, actual, rng.standard_normal((5000, 9)))[0].std(axis=0)
    usual = observed(many, np.ones_like(actual), rng.standard_normal((5000, 9)))[0].std(axis=0)
    assert scatter[0] > 0.7 * usual[0]
    assert scatter[1] < 0.6 * usual[1]


def test_a_band_without_data_tells_nothing() -> None:
    depth = DEPTH * [0, 1, 1]
    found = fit(light(), EXP, FWHM, depth[None])
    assert found.values[0, 1:3] == pytest.approx(FLUX[0, 1:])
    values, ivar = observed(found, np.ones((1, 3)), np.ones((1, 9)))
    assert np.isfinite(values).all()
    assert ivar[0, 0] == 0


def types(one: Light, deviates: np.ndarray) -> np.ndarray:
    """Types that are chosen for copies of an object."""
    n = len(deviates)
    depth = np.tile(DEPTH, (1, 1))
    chi2 = np.array([[fit(one, family, FWHM, depth).chi2[0] for family in FAMILIES]])
    whole = fitting.light_chi2(one, FWHM, depth)
    kind = catalog.chosen(np.repeat(chi2, n, 0), np.repeat(whole, n), deviates)
    return np.array([family.name for family in FAMILIES])[kind]


def test_types_follow_the_light(rng: np.random.Generator) -> None:
    deviates = rng.standard_normal((400, 4))
    star = {"radius": 0.0, "sersic": 0.0, "e1": 0.0, "e2": 0.0}
    for kind, one in (
        (b"PSF", light(**star)),
        (b"PSF", light(**star, psf=1.02)),  # an error of the PSF is within the margin for bright objects
        (b"REX", light(**star, psf=1.3)),
        (b"REX", light(e1=0.0, e2=0.0)),
        (b"EXP", light(e1=0.4)),
        (b"DEV", light(sersic=4.0, e1=0.4)),
        (b"SER", light(sersic=2.3, e1=0.4, flux=4.0)),
    ):
        assert np.mean(types(one, deviates) == kind) > 0.9, kind
