"""Directions on the sky as unit vectors, and which stamps share sky.  Pure."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from obiwan.dplearn.stampspec import Array, StampSpec


def sharing_width(spec: StampSpec) -> float:
    """Width within which two stamps may share sky, degrees.

    The pixel grids of two bricks are shifted and turned against each other, so it is one pixel more on each
    side than a stamp has.
    """
    return (spec.size + 2) * spec.pixel_scale / 3600


def sharing_reach(width: float) -> float:
    """Distance of unit vectors beyond which two stamps share no sky, from `sharing_width`."""
    return float(np.radians(width * np.sqrt(2)) * 1.01)


def unit_vectors(ra: Array, dec: Array) -> Array:
    """Unit vectors, shape (n, 3), of positions in degrees."""
    lon, lat = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1).reshape(-1, 3)


def sharing_sky(ra: Array, dec: Array, other_ra: Array, other_dec: Array, width: float) -> Array:
    """Whether an example's stamp overlaps on the sky that of any of the others.

    Parameters
    ----------
    ra, dec : ndarray, shape (n,)
        Degrees.
    other_ra, other_dec : ndarray, shape (m,)
    width : float
        `sharing_width` of the stamps.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    shared = np.zeros(len(ra), dtype=bool)
    if not len(ra) or not len(other_ra):
        return shared
    tree = cKDTree(unit_vectors(other_ra, other_dec))
    for i, members in enumerate(tree.query_ball_point(unit_vectors(ra, dec), sharing_reach(width))):
        if members:
            d_ra = (other_ra[members] - ra[i] + 180) % 360 - 180
            apart = np.maximum(np.abs(d_ra) * np.cos(np.radians(dec[i])), np.abs(other_dec[members] - dec[i]))
            shared[i] = (apart < width).any()
    return shared
