"""Placement of injections in a brick: uniform positions, a least separation, coverage and masks.

Separations are arcsec in the plane of the coadd, positions its 0-based pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from obiwan.dplearn.errors import CatalogError
from obiwan.dplearn.injection.scene import Scene, box_width
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.coadds import read_pixels
from obiwan.dplearn.survey.coverage import find_coverage, observed
from obiwan.dplearn.survey.cutouts import stamp_inside

MASKBITS = "maskbits"
#: Bits of ``maskbits`` that say nothing of the optical images: outside the primary area, and WISE's
HARMLESS = 0x1 | 0x100 | 0x200
_TRIES = 300  # in a row that find no room, after which a brick is full
PIXEL_SCALE = StampSpec.pixel_scale


@dataclass(frozen=True)
class Placement:
    """Options that decide where objects go.

    Attributes
    ----------
    density : float
        Objects a square degree, over all runs, where a table gives no positions.
    separation : float
        Arcsec: no two of one run are closer.
    runs : int
        Number of runs that the objects of a brick are split over.
    keep_off_masked : bool
        Leave out positions on pixels that ``maskbits`` flags.
    seed : int
    """

    density: float = 8000.0
    separation: float = 5.0
    runs: int = 1
    keep_off_masked: bool = False
    seed: int = 0

    @property
    def run_names(self) -> tuple[str, ...]:
        """Names of the runs, as legacysim gives them."""
        return tuple(f"file0_rs{run}_skip0" for run in range(self.runs))


def number_of(scene: Scene, placement: Placement, rng: np.random.Generator) -> int:
    """Number of objects in a brick: density times area, rounded at random."""
    return int(placement.density * scene.area + rng.random())


def uniform(
    scene: Scene, n: int, placement: Placement, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Positions spread uniformly over the primary area of a brick, each in one of the runs in turn.

    Parameters
    ----------
    scene : Scene
    n : int
    placement : Placement
    rng : numpy.random.Generator

    Returns
    -------
    ra, dec : ndarray, shape (n,)
        Degrees.
    run : ndarray of int, shape (n,)

    Raises
    ------
    CatalogError
        If so many do not fit that far apart.
    """
    ra_min, _, *declinations = scene.box
    width, (low, high) = box_width(scene.box), np.sin(np.radians(declinations))
    kept: list[list[tuple[float, float]]] = [[] for _ in range(placement.runs)]
    out = np.empty((2, n))
    for i in range(n):
        mine = kept[i % placement.runs]
        others = np.array(mine).reshape(-1, 2)
        ra = (ra_min + width * rng.random(_TRIES)) % 360
        dec = np.degrees(np.arcsin(rng.uniform(low, high, _TRIES)))
        here = np.stack(scene.frame.pixels(ra, dec), axis=1)
        chosen = next((k for k in range(_TRIES) if _clear(here[k], others, placement)), None)
        if chosen is None:
            msg = (
                f"{scene.run.label}: no room for {n} objects, {placement.separation:g} arcsec apart in each "
                f"of {placement.runs} run(s); give more --runs, or a smaller --density or --separation"
            )
            raise CatalogError(msg)
        mine.append((here[chosen, 0], here[chosen, 1]))
        out[:, i] = ra[chosen], dec[chosen]
    return out[0], out[1], np.arange(n) % placement.runs


def _clear(point: Array, others: Array, placement: Placement) -> bool:
    """Whether a pixel position is far from all others."""
    least = placement.separation / PIXEL_SCALE
    return not len(others) or bool((((others - point) ** 2).sum(axis=1) >= least**2).all())


def spread(x: Array, y: Array, placement: Placement) -> Array:
    """Runs of given positions, so that no two of one run are too close.

    Each position goes to the first run that has room, from its own number on, so that runs fill evenly.

    Returns
    -------
    ndarray of int, shape (n,)
        -1 where no run has room.
    """
    kept: list[list[Array]] = [[] for _ in range(placement.runs)]
    run = np.full(len(x), -1)
    for i, point in enumerate(np.stack([x, y], axis=1)):
        for k in ((i + step) % placement.runs for step in range(placement.runs)):
            if _clear(point, np.array(kept[k]).reshape(-1, 2), placement):
                kept[k].append(point)
                run[i] = k
                break
    return run


def covered(scene: Scene, x: Array, y: Array) -> Array:
    """Whether an exposure of any band covers the centre pixel of each position."""
    inside = stamp_inside(x, y, scene.frame.shape, 1)
    seen, rows = np.zeros(len(x), dtype=bool), np.flatnonzero(inside)
    for band in scene.bands:
        seen[rows] |= observed(find_coverage(scene.run, band), x[rows], y[rows], scene.frame.shape)
    return seen


def masked(scene: Scene, x: Array, y: Array) -> Array:
    """Whether the centre pixel of each position is masked: by ``maskbits``, without it for want of invvar.

    The positions lie inside the coadd.
    """
    shape, files = scene.frame.shape, scene.run
    if files.has_map(MASKBITS):
        bits = read_pixels(files, MASKBITS, "", x, y, shape).astype(np.int64)
        return np.asarray(bits & ~HARMLESS != 0)
    good = [observed(find_coverage(files, band), x, y, shape) for band in scene.bands]
    return np.asarray(~np.all(good, axis=0))
