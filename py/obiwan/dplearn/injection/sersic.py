"""Fourier transform of truncated Sersic profiles, the tractor's convention for galaxies.

The profile is exp(-b r^(1/n)) with r in half-light radii of the *untruncated* profile, cut off at
`obiwan.dplearn.survey.rendering.truncation` and normalised to unit flux.
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.special import gammaincinv, j0

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.rendering import truncation

SERSIC_LIMITS = (0.3, 6.2)  #: indices that can be drawn
_FOUR = 14  # number of the node n = 4; node 0 is n = 1: at both, the truncation has a kink
_STEP = np.log(4.0) / _FOUR  # of the nodes, in ln n
_QUADRATURE = np.polynomial.legendre.leggauss(1500)
_END, _DENSITY = 64, 256  # of the table: largest frequency, entries per unit
# Frequencies of the nodes, dense where the transform is large.
_FREQUENCIES = np.sinh(np.linspace(0, np.arcsinh(_END), 320))


@cache
def _node(number: int) -> Array:
    """Transform at `_FREQUENCIES` for the index exp(number `_STEP`)."""
    index = float(np.exp(number * _STEP))
    nodes, weights = _QUADRATURE
    power = max(1.0, index)
    v = (nodes + 1) / 2
    radius = truncation(index) * v**power  # crowds the nodes in the cusp
    light = v ** (2 * power - 1) * np.exp(-gammaincinv(2 * index, 0.5) * radius ** (1 / index)) * weights
    return np.asarray(j0(_FREQUENCIES[:, None] * radius) @ light / light.sum())


@lru_cache(maxsize=1024)
def _table(sersic: float) -> NDArray[np.float32]:
    """The transform at equal steps of frequency: cubic in ln n, a spline in frequency."""
    place = np.log(sersic) / _STEP
    first = int(np.floor(place)) - 1
    if place < 0:
        first = min(first, -3)
    elif place <= _FOUR:
        first = min(max(first, 0), _FOUR - 3)
    else:
        first = max(first, _FOUR)
    found = np.zeros(len(_FREQUENCIES))
    for i in range(4):
        weight = np.prod([(place - first - j) / (i - j) for j in range(4) if j != i])
        found += weight * _node(first + i)
    steps = np.arange(_END * _DENSITY + 1) / _DENSITY
    return np.asarray(CubicSpline(np.arcsinh(_FREQUENCIES), found)(np.arcsinh(steps)), np.float32)


def transform(frequency: Array, sersic: float) -> Array:
    """Fourier transform of a round truncated profile of unit flux and half-light radius 1.

    Parameters
    ----------
    frequency : ndarray
        2 pi times cycles per half-light radius, not negative.
    sersic : float
        Index, within `SERSIC_LIMITS`.

    Returns
    -------
    ndarray
        Beyond a frequency of 64 a power law, that of the profile's cusp.
    """
    table = _table(sersic)
    place = np.minimum(frequency * _DENSITY, len(table) - 1.01)
    low = place.astype(np.intp)
    below = table[low]
    found = below + (place - low) * (table[low + 1] - below)
    if frequency.max() > _END:
        found *= (np.maximum(frequency, _END) / _END) ** -(2 + 1 / sersic)
    return np.asarray(found)
