"""Light of injected models: transforms, ellipses, sub-pixel positions, against an independent drawing."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
from astropy.wcs import WCS
from scipy.special import gammaincinv, j0

from obiwan.dplearn.injection.light import (
    frequencies,
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
from obiwan.dplearn.injection.sersic import transform, truncation
from obiwan.dplearn.injection.stars import moffat_image
from obiwan.dplearn.mock.profiles import ellipse, moffat_transform
from obiwan.dplearn.mock.profiles import sersic_transform as untruncated
from obiwan.dplearn.mock.sky import add_light, draw_population
from obiwan.dplearn.survey.coadds import Frame

SCALE = 0.262
FWHM = 4.6  # pixels, of the Gaussian of equal noise area
NORTH_UP = np.diag([-1 / SCALE, 1 / SCALE])
ACCURATE = galsim.GSParams(folding_threshold=1e-4, maxk_threshold=1e-4, kvalue_accuracy=1e-6)


def drawn(sersic: float, radius: float, e1: float, e2: float, x: float, y: float) -> np.ndarray:
    ellipse = half_light_ellipse(NORTH_UP, radius, e1, e2)
    size = grid_size(sersic_radius(ellipse, sersic), 63)
    spectrum = moved(sersic_transform(ellipse, sersic, size), x, y, size)
    return through(psf_transform(moffat_image(FWHM), size), spectrum, size)


def galsims(sersic: float, radius: float, e1: float, e2: float, x: float, y: float, size: int) -> np.ndarray:
    """The same, from the tractor's definitions and GalSim alone: major axis, angle, truncation, Moffat 3."""
    e = np.hypot(e1, e2)
    ratio = (1 - e) / (1 + e)
    round_radius = radius * np.sqrt(ratio)
    whole = galsim.Sersic(sersic, half_light_radius=round_radius)
    cut = {1.0: 4.0, 4.0: 8.0}[sersic] * round_radius
    profile = galsim.Sersic(sersic, scale_radius=whole.scale_radius, trunc=cut, gsparams=ACCURATE)
    # From north (+y) through east (-x): 90 degrees more from +x.
    angle = (np.degrees(np.arctan2(e2, e1)) / 2 + 90) * galsim.degrees
    profile = profile.shear(q=ratio, beta=angle)
    sigma = FWHM / 2.3548200450309493 * SCALE
    psf = galsim.Moffat(beta=3, scale_radius=sigma * np.sqrt(16 / 5), gsparams=ACCURATE)
    image = galsim.Image(size, size, xmin=0, ymin=0, scale=SCALE, dtype=float)
    centre = galsim.PositionD(size // 2 + x, size // 2 + y)
    light = galsim.Convolve(profile, psf, gsparams=ACCURATE)
    light.drawImage(image=image, method="no_pixel", center=centre)
    return image.array


def test_the_mock_draws_what_this_code_draws():
    """Ellipse, position and convolution of its population: GalSim's there, ours here, of one profile each.

    The mock's profiles are not truncated, and its PSF is a Moffat profile of index 3.5.
    """
    objects = draw_population(np.random.default_rng(2), 60, ("r",), np.ones(1))
    objects["x"], objects["y"] = np.random.default_rng(3).uniform(99.5, 100.5, (2, len(objects)))
    assert {0.0, 1.0, 4.0} <= set(objects["sersic"].tolist())
    size, fwhm = 256, 1.3
    kx, ky = (2 * np.pi * one / SCALE for one in frequencies(size))
    psf = moffat_transform(fwhm, np.hypot(kx, ky))
    for row in objects:
        plane = np.zeros((200, 200), np.float32)
        add_light(plane, objects[objects["x"] == row["x"]], 0, fwhm)
        profile: np.ndarray | float = 1.0
        if row["sersic"] > 0:
            shape = ellipse(*(np.array([row[name]]) for name in ("shape_r", "e1", "e2")))[0]
            square = shape[0] * kx**2 + shape[1] * ky**2 + 2 * shape[2] * kx * ky
            index = np.full(square.shape, row["sersic"]) if row["sersic"] != 1 else 1.0
            profile = untruncated(square, index)[0]
            axes = half_light_ellipse(NORTH_UP, row["shape_r"], row["e1"], row["e2"]) * SCALE
            both = axes @ axes.T
            assert shape == pytest.approx([both[0, 0], both[1, 1], both[0, 1]], rel=1e-6, abs=1e-9)
        spectrum = moved(profile * row["flux"][0], row["x"] - 100, row["y"] - 100, size)
        image = through(psf, spectrum, size)[96:160, 96:160]
        assert plane[68:132, 68:132] == pytest.approx(np.maximum(image, 0), abs=4e-5 * image.max())


@pytest.mark.parametrize("sersic", [1.0, 4.0])
@pytest.mark.parametrize("shape", [(0.4, 0.0, 0.0), (0.9, 0.3, -0.2), (1.3, -0.1, 0.45)])
def test_galaxies_equal_those_of_galsim(sersic, shape):
    mine = drawn(sersic, *shape, 0.31, -0.44)
    theirs = galsims(sersic, *shape, 0.31, -0.44, len(mine))
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
