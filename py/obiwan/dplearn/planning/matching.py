"""Matching on the sky: injections with tractor sources, sources of several runs, stamps that share sky.

All functions are pure.  Distances on the sky are great-circle distances in arcsec, computed from
unit vectors, so right ascension may wrap at 0 and declination may be anything.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from obiwan.dplearn.stampspec import Array, StampSpec

_ARCSEC = np.pi / 180 / 3600
_NOWHERE = 1e9  # a pixel coordinate that is in no stamp


def unit_vectors(ra: Array, dec: Array) -> Array:
    """Unit vectors, shape (n, 3), of positions in degrees."""
    lon, lat = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1).reshape(-1, 3)


def _tree(ra: Array, dec: Array) -> cKDTree:
    return cKDTree(unit_vectors(ra, dec))


def _chord(arcsec: float) -> float:
    return float(2 * np.sin(arcsec * _ARCSEC / 2))


def _angle(chord: Array) -> Array:
    return 2 * np.arcsin(np.clip(chord / 2, 0, 1)) / _ARCSEC


def nearest_distance(ra: Array, dec: Array, other_ra: Array, other_dec: Array) -> Array:
    """Distance of each position to the nearest of the others.

    Parameters
    ----------
    ra, dec : ndarray, shape (n,)
        Degrees.
    other_ra, other_dec : ndarray, shape (m,)
        Degrees.

    Returns
    -------
    ndarray, shape (n,)
        Arcsec; infinite where there are no others.
    """
    if len(other_ra) == 0 or len(ra) == 0:
        return np.full(len(ra), np.inf)
    chord, _ = _tree(other_ra, other_dec).query(unit_vectors(ra, dec))
    return _angle(chord)


def nearest_index(ra: Array, dec: Array, other_ra: Array, other_dec: Array) -> Array:
    """Row of the nearest of the others for each position (degrees); the others must not be empty."""
    return np.asarray(_tree(other_ra, other_dec).query(unit_vectors(ra, dec))[1])


def mutual_nearest(
    ra: Array, dec: Array, other_ra: Array, other_dec: Array, radius: float
) -> tuple[Array, Array]:
    """Match two lists where each is the other's nearest neighbour.

    Parameters
    ----------
    ra, dec : ndarray, shape (n,)
        Degrees; in practice the injected positions.
    other_ra, other_dec : ndarray, shape (m,)
        Degrees; in practice the tractor catalogue.
    radius : float
        Largest distance of a match, arcsec.

    Returns
    -------
    index : ndarray of int, shape (n,)
        Row in the other list, or -1.  No row occurs twice.
    distance : ndarray, shape (n,)
        Arcsec; NaN where there is no match.
    """
    index, distance = np.full(len(ra), -1), np.full(len(ra), np.nan)
    if len(ra) == 0 or len(other_ra) == 0:
        return index, distance
    here, there = unit_vectors(ra, dec), unit_vectors(other_ra, other_dec)
    chord, forward = cKDTree(there).query(here)
    _, backward = cKDTree(here).query(there)
    matched = (backward[forward] == np.arange(len(ra))) & (_angle(chord) <= radius)
    index[matched] = forward[matched]
    distance[matched] = _angle(chord)[matched]
    return index, distance


def sources_within(ra: Array, dec: Array, other_ra: Array, other_dec: Array, radius: float) -> Array:
    """Number of the others within a radius of each position.

    Parameters
    ----------
    ra, dec : ndarray, shape (n,)
        Degrees.
    other_ra, other_dec : ndarray, shape (m,)
        Degrees.
    radius : float
        Arcsec.

    Returns
    -------
    ndarray of int, shape (n,)
    """
    if not len(ra) or not len(other_ra):
        return np.zeros(len(ra), dtype=np.intp)
    near = _tree(other_ra, other_dec).query_ball_point(
        unit_vectors(ra, dec), _chord(radius), return_length=True
    )
    return np.asarray(near, dtype=np.intp)


def stamp_holds_other(
    x: Array, y: Array, own: Array, injected_x: Array, injected_y: Array, size: int
) -> Array:
    """Whether an injected position other than the example's own lies in its stamp.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        0-based pixel positions of the examples.
    own : ndarray of int, shape (n,)
        Index of the example's own injection in the other arrays, -1 for none.
    injected_x, injected_y : ndarray, shape (m,)
        0-based pixel positions of all injections of the run.
    size : int
        Pixels on a side of the stamps.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    holds = np.zeros(len(x), dtype=bool)
    if len(x) == 0 or len(injected_x) == 0:
        return holds
    # The stamp covers [c - size // 2, c - size // 2 + size): its middle may be between two pixels.
    middle = _on_grid(x, y, -_NOWHERE) - size // 2 + (size - 1) / 2
    injected = _on_grid(injected_x, injected_y, _NOWHERE)
    within = cKDTree(injected).query_ball_point(middle, size / 2 - 0.25, p=np.inf, return_length=True)
    has_own = own >= 0
    offset = np.abs(injected[own[has_own]] - middle[has_own]).max(axis=1)
    within[has_own] -= offset < size / 2  # a fake's own injection is in its stamp, or strayed from it
    return np.asarray(within > 0)


def _on_grid(x: Array, y: Array, nowhere: float) -> Array:
    """Centre pixels, shape (n, 2); `nowhere` where the sky position has none (the far side of the sky)."""
    pixel = np.floor(np.stack([x, y], axis=1) + 0.5)
    return np.where(np.isfinite(pixel), pixel, nowhere)


def same_source_groups(ra: Array, dec: Array, run: Array, radius: float) -> Array:
    """Number the sources that rows of several runs stand for.

    Rows of *different* runs closer than the radius are linked; linked rows get one number.  Two
    rows of one run are two sources, unless a row of another run lies within reach of both.

    Parameters
    ----------
    ra, dec : ndarray, shape (n,)
        Degrees.
    run : ndarray of int, shape (n,)
        Number of the run that each row comes from; all different to link rows of one run, too.
    radius : float
        Arcsec.

    Returns
    -------
    ndarray of int, shape (n,)
        Group numbers, from 0, in order of first appearance.
    """
    n = len(ra)
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    pairs = _tree(ra, dec).query_pairs(_chord(radius), output_type="ndarray")
    pairs = pairs[run[pairs[:, 0]] != run[pairs[:, 1]]]
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    renumber = np.empty(len(first), dtype=np.int64)
    renumber[component[np.sort(first)]] = np.arange(len(first))
    return np.asarray(renumber[component])


def one_row_per_source(
    group: Array, run: Array, rng: np.random.Generator, weight: Array | None = None
) -> Array:
    """Draw one row of each group: first its run among the runs it has, then the row.

    Parameters
    ----------
    group, run : ndarray of int, shape (n,)
        Group and run of each eligible row.
    rng : numpy.random.Generator
    weight : ndarray, optional
        Weight of each run, by its number; equal by default.  A run of weight 0 is drawn only where
        there is no other.

    Returns
    -------
    ndarray of int
        Chosen rows, ascending.
    """
    # The first of competing exponential clocks rings with a chance in proportion to its rate: a clock
    # per (group, run) settles the run, a random number per row the row within it.
    cells, cell = np.unique(np.stack([group, run], axis=1), axis=0, return_inverse=True)
    rate = np.ones(len(cells)) if weight is None else np.asarray(weight, float)[cells[:, 1]]
    with np.errstate(divide="ignore"):
        clock = (rng.exponential(size=len(cells)) / rate)[cell.reshape(-1)]
    order = np.lexsort((rng.random(len(group)), clock, group))
    _, first = np.unique(group[order], return_index=True)
    return np.sort(order[first])


def sharing_width(spec: StampSpec) -> float:
    """Width within which two stamps may share sky, degrees.

    The pixel grids of two bricks are shifted and turned against each other, so it is one pixel more on each
    side than a stamp has.
    """
    return (spec.size + 2) * spec.pixel_scale / 3600


def sharing_reach(width: float) -> float:
    """Distance of unit vectors beyond which two stamps share no sky, from `sharing_width`."""
    return float(np.radians(width * np.sqrt(2)) * 1.01)


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
