"""Which stamps share sky."""

from __future__ import annotations

import numpy as np
import pytest

from obiwan.dplearn.planning.matching import sharing_sky, sharing_width
from obiwan.dplearn.stampspec import StampSpec

PIX = 0.262 / 3600


def sky(dx: float, dy: float, ra: float = 0.0, dec: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two positions this many pixels apart."""
    return (
        np.array([ra, ra + dx * PIX / np.cos(np.radians(dec))]) % 360,
        np.array([dec, dec + dy * PIX]),
    )


@pytest.mark.parametrize(
    ("dx", "dy", "shares"),
    [(63, 0, True), (67, 0, False), (0, 63, True), (0, 67, False), (63, 63, True), (63, 67, False)],
)
@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.999, 30.0), (180.0, 60.0)])
def test_stamps_that_overlap(dx, dy, shares, ra, dec):
    (ra1, ra2), (dec1, dec2) = sky(dx, dy, ra, dec)
    far = np.array([(ra + 90) % 360]), np.array([dec])
    one, other = (np.array([ra1]), np.array([dec1])), (np.array([ra2]), np.array([dec2]))
    width = sharing_width(StampSpec())
    assert sharing_sky(*one, *other, width).tolist() == sharing_sky(*other, *one, width).tolist() == [shares]
    both = (np.r_[o, f] for o, f in zip(other, far, strict=True))
    assert sharing_sky(*one, *both, width).tolist() == [shares]
    assert sharing_sky(*far, *one, width).tolist() == [False]
    assert sharing_sky(*one, np.empty(0), np.empty(0), width).tolist() == [False]
