"""Blobs that a run fitted: all, or only those that hold an injection, so that real galaxies are missing.

The evidence, in this order: the command line recorded in the headers; a test of where the fitted sources lie;
what the program of the layout does by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import poisson

from obiwan.dplearn.errors import CatalogError, CoaddError, LayoutError
from obiwan.dplearn.planning.config import INJECTION_REACH, TrainingConfig
from obiwan.dplearn.planning.fields import Field, open_field
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.catalogs import TRACTOR
from obiwan.dplearn.survey.coadds import BandNotObservedError
from obiwan.dplearn.survey.layouts import BrickRun, Root

#: Beyond this distance from every injection a source cannot owe its blob to one (arcsec).
BLOB_REACH = 15.0
#: Least fraction of the expected far sources in runs that fitted all: sources cluster, and most of the area
#: may be unobserved.  Runs that fitted only blobs with injections have hardly any.
EMPTIEST = 0.3
LEVEL = 1e-4  #: probability below which a hypothesis is given up
_MOST_RUNS = 20  # that are read
_GRID = 40  # points on a side, by which areas are measured
_SAYS = {True: "--all-blobs", False: "--sim-blobs"}


@dataclass(frozen=True)
class Fitting:
    """Sources that runs fitted (all, or those near injections), and how that is known.

    Attributes
    ----------
    everything : bool or None
        Whether they fitted all sources; None where positions alone cannot tell.
    basis : str
        ``command``, ``positions`` or ``layout``.
    far : int
        Sources in primary areas farther than `BLOB_REACH` from every injection.
    expected : float
        How many they are on average if sources lie at random: those that are no injection, times the fraction
        of the area in which they can be that is so far.
    """

    everything: bool | None
    basis: str = "positions"
    far: int = 0
    expected: float = 0.0

    @property
    def probability(self) -> float:
        """Probability of so few far sources where all were fitted, and `EMPTIEST` of the area holds any."""
        return float(poisson.cdf(self.far, EMPTIEST * self.expected))


def judged(far: int, expected: float) -> Fitting:
    """Test of the number of far sources.

    It is compared with `EMPTIEST` times the expected: significantly fewer, only some blobs were fitted;
    significantly more, all were.
    """
    found = Fitting(None, far=far, expected=expected)
    if found.probability < LEVEL:
        return replace(found, everything=False)
    many = poisson.sf(far - 1, EMPTIEST * expected) < LEVEL
    return replace(found, everything=True) if many else found


def far_sources(field: Field) -> tuple[int, float]:
    """Sources of one field that are far from every injection, and how many are expected (`Fitting`).

    Outside the primary area there may be none: neither injections nor the sources of neighbouring bricks.
    """
    if field.fitted is None:
        return 0, 0.0
    x, y = (np.linspace(0, size - 1, _GRID) for size in reversed(field.frame.shape))
    grid_x, grid_y = np.meshgrid(x, y)
    points = field.frame.wcs.all_pix2world(grid_x.ravel(), grid_y.ravel(), 0)
    sources = _injection_distances(field, field.fitted.ra, field.fitted.dec)
    area = _injection_distances(field, *points)
    fraction = int((area > BLOB_REACH).sum()) / max(1, int((area > INJECTION_REACH).sum()))
    return int((sources > BLOB_REACH).sum()), fraction * int((sources > INJECTION_REACH).sum())


def _injection_distances(field: Field, ra: Array, dec: Array) -> Array:
    """Arcsec to the nearest injection from those positions that are in the primary area."""
    primary = field.frame.primary(ra, dec)
    distance = field.injection_distance(ra, dec)
    return distance if primary is None else distance[primary]


def what_was_fitted(root: Root, runs: Sequence[BrickRun], config: TrainingConfig) -> Fitting:
    """Find out whether the runs of a tree fitted all sources.

    Parameters
    ----------
    root : Root
    runs : sequence of BrickRun
        Of the tree; a few are read, until the answer is clear.
    config : TrainingConfig

    Raises
    ------
    LayoutError
        If the tree has no catalogues.
    CatalogError, CoaddError
        If a file is damaged, unless the bricks of such are to be left out.
    """
    found = Fitting(None)
    for run in runs[:_MOST_RUNS]:
        try:
            field = open_field(run, config.spec)
        except BandNotObservedError:
            continue  # such a brick is left out later, and noted; it is no evidence
        except (CatalogError, CoaddError):
            if config.skip_damaged:
                continue
            raise
        if field.catalog is None:
            msg = (
                f"{root.path}: early-coadds tree without tractor catalogues: it has no real galaxies of its "
                "own; give the data release with --real"
            )
            raise LayoutError(msg)
        if field.catalog.maker != TRACTOR:
            return Fitting(True, basis="layout")  # what is detected is measured, wherever it is
        far, expected = far_sources(field)
        found = judged(found.far + far, found.expected + expected)
        for everything, word in _SAYS.items():
            if word in field.catalog.command:
                return replace(found, everything=everything, basis="command")
        if found.everything is not None:
            return found
    return replace(found, everything=root.layout.all_blobs, basis="layout")


def refusal(root: Root, found: Fitting) -> str:
    """Error message: why the runs of a tree have no real galaxies of their own, and what to do."""
    seen = (
        f'{found.far} sources lie farther than {BLOB_REACH:g}" from every injection, where '
        f"{found.expected:.1f} are expected if all were fitted"
    )
    chance = f"probability {found.probability:.1g} at most, even if {1 - EMPTIEST:.0%} of the area is empty"
    why = {
        "command": "the command in their headers says --sim-blobs",
        "positions": f"{seen}: {chance}",
        "layout": f"as {root.layout.name} does by default; positions cannot tell: {seen}",
    }[found.basis]
    return (
        f"{root.path}: these runs fitted only blobs that hold an injection ({why}), so they have no clean "
        "real galaxies of their own; give the data release with --real, or --assume-all-blobs if you know "
        "better"
    )
