"""Light of injected models: transforms, ellipses, sub-pixel positions, against an independent drawing."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
from astropy.wcs import WCS
from scipy.special import gammaincinv, j0

from obiwan.dplearn.injection.light import (
    grid_size,
    half_light_ellipse,
    jacobians,
    moved,
    psf_transform,
    sersic_radius,
    sersic_transform,
    split_position,
    through,
)
from obiwan.dplearn.injection.resampling import interpolate, matrix, resample
from obiwan.dplearn.injection.sersic import transform
from obiwan.dplearn.injection.stars import moffat_image
from obiwan.dplearn.mock.bricks import Brick, draw_conditions
from obiwan.dplearn.mock.drawing import Observed, add_objects
from obiwan.dplearn.mock.profiles import ellipse
from obiwan.dplearn.mock.sky import draw_population
from obiwan.dplearn.survey.coadds import Frame
from obiwan.dplearn.survey.rendering import truncation

SCALE = 0.262
FWHM = 4.6  # pixels, of the Gaussian of equal noise area
NORTH_UP = np.diag([-1 / SCALE, 1 / SCALE])
ACCURATE = galsim.GSParams(folding_threshold=1e-4, maxk_threshold=1e-4, kvalue_accuracy=1e-6)


def drawn(sersic: float, radius: float, e1: float, e2: float, x: float, y: float) -> np.ndarray:
    ellipse = half_light_ellipse(NORTH_UP, radius, e1, e2)
    size = grid_size(sersic_radius(ellipse, sersic), 63)
    spectrum = moved(sersic_transform(ellipse, sersic, size), x, y, size)
    return through(psf_transform(moffat_image(FWHM), size), spectrum, size)


def galsims(sersic: float, radius: float, e1: float, e2: float, psf: galsim.GSObject) -> galsim.GSObject:
    """The same of unit flux, from the tractor's definitions and GalSim alone: axes, angle, truncation."""
    e = np.hypot(e1, e2)
    ratio = (1 - e) / (1 + e)
    round_radius = radius * np.sqrt(ratio)
    whole = galsim.Sersic(sersic, half_light_radius=round_radius)
    cut = {1.0: 4.0, 4.0: 8.0}[sersic] * round_radius
    profile = galsim.Sersic(sersic, scale_radius=whole.scale_radius, trunc=cut, gsparams=ACCURATE)
    # From north (+y) through east (-x): 90 degrees more from +x.
    angle = (np.degrees(np.arctan2(e2, e1)) / 2 + 90) * galsim.degrees
    return galsim.Convolve(profile.shear(q=ratio, beta=angle), psf, gsparams=ACCURATE)


def pixels(light: galsim.GSObject, size: int, x: float, y: float) -> np.ndarray:
    """Surface brightness at the pixels of an image, of light at a place."""
    image = galsim.Image(size, size, xmin=0, ymin=0, scale=SCALE, dtype=float)
    light.drawImage(image=image, method="no_pixel", center=galsim.PositionD(x, y))
    return image.array


def test_the_mock_is_drawn_as_galsim_draws_it():
    """Ellipse, position, truncation, PSF and flux of its population, drawn by the code of `inject`."""
    objects = draw_population(np.random.default_rng(2), 60, ("r",), np.ones(1))
    assert {0.0, 1.0, 4.0} <= set(objects["sersic"].tolist())
    brick = Brick(0, 0, 201, 20, bands=("r",))
    at = Observed(1, brick, draw_conditions(np.random.default_rng(0), ("r",)), 0)
    objects["x"], objects["y"] = np.random.default_rng(3).uniform(99.5, 100.5, (2, len(objects)))
    objects["ra"], objects["dec"] = brick.to_sky(objects["x"], objects["y"])
    objects["light_shot"] = 0
    psf = galsim.Moffat(beta=3.5, fwhm=at.fwhm, gsparams=ACCURATE)
    worst = 0.0
    for k, row in enumerate(objects):
        empty = np.zeros((201, 201), np.float32)
        mine = add_objects(empty, empty + 1, objects[k : k + 1], at, "light")[0]
        light = psf
        if row["sersic"] > 0:
            light = galsims(*(row[name] for name in ("sersic", "shape_r", "e1", "e2")), psf)
            shape = ellipse(*(np.array([row[name]]) for name in ("shape_r", "e1", "e2")))[0]
            axes = half_light_ellipse(NORTH_UP, row["shape_r"], row["e1"], row["e2"]) * SCALE
            both = axes @ axes.T
            assert shape == pytest.approx([both[0, 0], both[1, 1], both[0, 1]], rel=1e-6, abs=1e-9)
        theirs = pixels(light.withFlux(row["flux"][0]), 201, row["x"], row["y"])
        worst = max(worst, np.abs(mine - theirs).max() / theirs.max())
    assert worst < 1e-3


@pytest.mark.parametrize("sersic", [1.0, 4.0])
@pytest.mark.parametrize("shape", [(0.4, 0.0, 0.0), (0.9, 0.3, -0.2), (1.3, -0.1, 0.45)])
def test_galaxies_equal_those_of_galsim(sersic, shape):
    mine = drawn(sersic, *shape, 0.31, -0.44)
    sigma, middle = FWHM / 2.3548200450309493 * SCALE, len(mine) // 2
    psf = galsim.Moffat(beta=3, scale_radius=sigma * np.sqrt(16 / 5), gsparams=ACCURATE)
    theirs = pixels(galsims(sersic, *shape, psf), len(mine), middle + 0.31, middle - 0.44)
    assert np.abs(mine - theirs).max() < 1e-3 * theirs.max()


def test_galaxies_keep_their_flux_and_truncation():
    assert drawn(4.0, 1.0, 0.2, 0.1, 0.0, 0.0).sum() == pytest.approx(1, abs=1e-5)
    radius = np.linspace(0, 8, 100001)[1:]
    light = radius * np.exp(-7.66924944 * radius**0.25)
    inside = light[radius < 1].sum() / light.sum()
    assert inside > 0.52  # of an untruncated profile it is one half
    frequency = np.array([0.0, 0.5, 3.0])
    expected = [float((light * j0(q * radius)).sum() / light.sum()) for q in frequency]
    assert transform(frequency, 4.0) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("sersic", [0.31, 0.73, 1.0, 1.37, 2.5, 3.9, 4.0, 4.1, 6.1])
def test_transforms_between_the_nodes_of_the_table(sersic):
    v = (np.arange(20000) + 0.5) / 20000
    power = max(1.0, sersic)
    radius = truncation(sersic) * v**power
    light = v ** (2 * power - 1) * np.exp(-gammaincinv(2 * sersic, 0.5) * radius ** (1 / sersic))
    frequency = np.linspace(0, 20, 37)
    expected = j0(frequency[:, None] * radius) @ light / light.sum()
    assert np.abs(transform(frequency, sersic) - expected).max() < 4e-4


def test_transforms_fall_as_a_power_law_at_the_end():
    ends = transform(np.array([63.999, 64.001, 128.0]), 2.0)
    assert ends[1] == pytest.approx(ends[0], rel=1e-2)
    assert ends[2] == pytest.approx(ends[1] * 2**-2.5, rel=1e-2)


def test_point_sources_are_the_psf_at_their_place():
    psf = moffat_image(FWHM)
    size = grid_size(0.0, 63)
    assert size == 64
    seen = psf_transform(psf, size)
    image = through(seen, moved(2.0, 0.0, 0.0, size), size)
    assert image[1:, 1:] == pytest.approx(2 * psf, abs=1e-6)
    image = through(seen, moved(1.0, 0.25, -0.5, size), size)
    y, x = np.mgrid[:size, :size] - size // 2
    assert (image * x).sum() == pytest.approx(0.25, abs=1e-2)
    assert (image * y).sum() == pytest.approx(-0.5, abs=1e-2)


def test_positions_round_half_up():
    assert split_position(10.5) == (11, -0.5)
    assert split_position(10.25) == (10, 0.25)


@pytest.mark.parametrize("dec", [0.0, 60.0, 84.0])
def test_jacobians_follow_the_sky(dec):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [10.0, dec], [1800.5, 1800.5]
    wcs.wcs.cd = np.diag([-SCALE / 3600, SCALE / 3600])
    frame = Frame(wcs, (3600, 3600), None, 0)
    ra, declination = wcs.all_pix2world([1799.5, 100.0], [1799.5, 100.0], 0)
    middle, corner = jacobians(frame, ra, declination)
    assert middle == pytest.approx(NORTH_UP, abs=1e-4)
    # North turns away from up towards the corners of a brick, the more the nearer the pole.
    turned = np.degrees(np.arctan2(corner[0, 1], corner[1, 1]))
    across = (ra[1] - ra[0]) * np.sin(np.radians(declination.mean()))
    assert abs(turned) == pytest.approx(abs(across), abs=0.01)


def test_a_major_axis_points_from_north_through_east():
    north = half_light_ellipse(NORTH_UP, 1.0, 0.5, 0.0)
    assert north[:, 0] == pytest.approx([0, 1 / SCALE])
    assert np.hypot(*north[:, 1]) == pytest.approx(1 / SCALE / 3)
    east = half_light_ellipse(NORTH_UP, 1.0, -0.5, 0.0)
    assert abs(east[0, 0]) == pytest.approx(1 / SCALE)
    half = half_light_ellipse(NORTH_UP, 1.0, 0.0, 0.5)  # 45 degrees: up and to the left
    assert half[0, 0] * half[1, 0] < 0


def test_lanczos_weights_are_those_of_the_definition():
    at = np.array([3.0, 3.25, 4.999, 6.5])
    offsets = at[:, None] - np.arange(12)
    kernel = np.where(abs(offsets) < 3, np.sinc(offsets) * np.sinc(offsets / 3), 0)
    assert matrix(at, 12) == pytest.approx(kernel / kernel.sum(1, keepdims=True), abs=1e-3)


def test_interpolation_is_the_same_sparse_and_dense(monkeypatch):
    image = np.random.default_rng(1).normal(size=(40, 50))
    lines, columns = np.arange(38) * 1.03 - 0.4, np.arange(30) * 1.7 + 2
    dense = interpolate(image, lines, columns)
    monkeypatch.setattr("obiwan.dplearn.injection.resampling._DENSE", 10)
    assert interpolate(image, lines, columns) == pytest.approx(dense, abs=1e-5)


@pytest.mark.parametrize("turn", [0.0, 0.3, np.pi / 2])
def test_resampled_images_turn_and_shrink(turn):
    """A Gaussian on CCD pixels, on a grid that is turned and finer: known everywhere."""
    v, u = np.mgrid[-15:16, -15:16]
    sigma = np.array([[9.0, 2.0], [2.0, 5.0]])

    def gaussian(at):
        return np.exp(-0.5 * np.einsum("i...,ij,j...->...", at, np.linalg.inv(sigma), at))

    cos, sin = np.cos(turn), np.sin(turn)
    jacobian = 0.6 * np.array([[cos, -sin], [sin, cos]])
    (found,) = resample(gaussian(np.stack([u, v]))[None], jacobian, largest=33)
    half = len(found) // 2
    rows, columns = np.mgrid[-half : half + 1, -half : half + 1]
    expected = gaussian(np.tensordot(jacobian, np.stack([columns, rows]), 1))
    assert found == pytest.approx(expected, abs=6e-3)  # of the peak, as exact as Lanczos is
