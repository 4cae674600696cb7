"""Light in the tractor's conventions: what radius, ellipticity and angle mean."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
from scipy.special import gammainc, gammaincinv

from obiwan.dplearn.survey.rendering import along_major, axis_ratio, circularised, profile


@pytest.mark.parametrize("sersic", [1.0, 4.0])
@pytest.mark.parametrize(("e1", "e2"), [(0.0, 0.0), (0.5, 0.0), (-0.3, 0.0), (0.0, 0.4), (0.2, -0.3)])
def test_half_of_the_light_is_in_the_ellipse_that_the_catalogue_tells(sersic, e1, e2):
    """The ellipse is drawn from the tractor's definition: axes r and r b/a, angle from North through East."""
    radius, scale, n = 1.5, 0.05, 2400
    image = profile(radius, sersic, e1, e2).drawImage(nx=n, ny=n, scale=scale, method="no_pixel").array
    north, east = np.mgrid[:n, :n] - (n - 1) / 2
    east = -east  # East is left
    angle, ratio = 0.5 * np.arctan2(e2, e1), (1 - np.hypot(e1, e2)) / (1 + np.hypot(e1, e2))
    major = (north * np.cos(angle) + east * np.sin(angle)) * scale
    minor = (-north * np.sin(angle) + east * np.cos(angle)) * scale
    inside = np.hypot(major, minor / ratio) < radius
    end = {1.0: 4.0, 4.0: 8.0}[sersic]  # in half-light radii of the profile without an end
    whole = gammainc(2 * sersic, gammaincinv(2 * sersic, 0.5) * end ** (1 / sersic))
    assert image[inside].sum() == pytest.approx(0.5 / whole, abs=0.01)
    assert image.sum() == pytest.approx(1, abs=0.015)  # some is in pixels beyond
    assert image[np.hypot(major, minor / ratio) > 1.01 * end * radius].sum() == pytest.approx(0, abs=1e-4)


def test_the_profile_has_unit_flux():
    assert profile(1.0, 2.5, 0.2, 0.1).flux == pytest.approx(1.0)
    assert isinstance(profile(1.0, 1.0, 0.0, 0.0), galsim.GSObject)


def test_radii():
    e1, e2 = np.array([0.0, 0.6, 0.0]), np.array([0.0, 0.0, -0.2])
    np.testing.assert_allclose(axis_ratio(e1, e2), [1, 0.25, 2 / 3])
    np.testing.assert_allclose(circularised(2.0, e1, e2), [2, 1, 2 * np.sqrt(2 / 3)])
    np.testing.assert_allclose(along_major(circularised(2.0, e1, e2), e1, e2), 2.0)
