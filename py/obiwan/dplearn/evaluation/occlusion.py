"""Where in the stamp the classes differ to the network: AUC when a part of each stamp is another example's.

Pixels are taken away, and the AUC is what is left.  They are replaced, images and inverse variances alike,
by those of another stamp of the same brick, which has the same sky, seeing and depth: an empty patch would
be a picture that the network has never seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.rendering import circularised
from obiwan.dplearn.twosample.ranking import Estimate, auc_interval
from obiwan.dplearn.twosample.summary import usable_bricks

BATCH = 128  #: stamps that are scored at a time
OCCLUSION_RADII = (2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0)  #: pixels, from the object


@dataclass(frozen=True)
class Occlusion:
    """What the network tells by parts of the stamp.

    Attributes
    ----------
    radii : ndarray, shape (m,)
        Pixels, from the object.
    counts : tuple of int
        Real and fake examples.
    whole : Estimate
        AUC on the stamps as they are.
    inner, outer : tuple of Estimate, length m
        AUC where each stamp keeps what lies within the radius, and what lies beyond it; all else is
        another example's.
    half_light : float
        Median half-light radius, the PSF included (pixels); NaN where no PSF is known.
    """

    radii: Array
    counts: tuple[int, int]
    whole: Estimate
    inner: tuple[Estimate, ...]
    outer: tuple[Estimate, ...]
    half_light: float = float("nan")

    @property
    def telling(self) -> int | None:
        """Index of the least radius within which the classes are distinguished and beyond which they are not.

        By whether the interval reaches 0.5.  None where there is no such radius, and where the classes
        are not distinguished by the whole stamps.
        """
        if self.whole.low <= 0.5:
            return None
        pairs = enumerate(zip(self.inner, self.outer, strict=True))
        return next((i for i, (inner, outer) in pairs if outer.low <= 0.5 < inner.low), None)


def half_light_radius(rows: Array, spec: StampSpec) -> Array:
    """Half-light radius of each example as it appears (pixels), the PSF of the reference band included.

    Parameters
    ----------
    rows : structured ndarray
        ``shape_r`` (arcsec; 0 for a point source, or if unknown), e1, e2 and psfsize (FWHM, arcsec).
    spec : StampSpec

    Returns
    -------
    ndarray
        Half the FWHM is the half-light radius of a Gaussian PSF; radii add in quadrature, exactly for
        Gaussians and within some per cent for galaxies.  The median stands in where the PSF is unknown; NaN
        where it is known nowhere.
    """
    psf = rows[f"psfsize_{spec.reference}"].astype(float)
    psf = np.where(np.isfinite(psf) & (psf > 0), psf, np.nan)
    if np.isfinite(psf).any():
        psf = np.where(np.isfinite(psf), psf, np.nanmedian(psf))
    shape = circularised(*(np.nan_to_num(rows[name].astype(float)) for name in ("shape_r", "e1", "e2")))
    return np.asarray(np.hypot(shape, psf / 2) / spec.pixel_scale)


def distances(rows: Array, spec: StampSpec) -> Array:
    """Distance of each pixel centre from the example's position (pixels), shape (n, size, size)."""
    grid = np.arange(spec.size, dtype=float)
    x, y = (
        rows[name][:, None] - np.floor(rows[name] + 0.5)[:, None] + spec.centre - grid for name in ("x", "y")
    )
    return np.asarray(np.hypot(y[:, :, None], x[:, None, :]))


def partners(labels: Array, bricks: Array, rng: np.random.Generator) -> Array:
    """Draw for each example another one whose class has nothing to do with its own.

    Parameters
    ----------
    labels, bricks : ndarray, shape (n,)
        Both classes, at least two examples of each.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int, shape (n,)
        For half of each class a real, for the other half a fake example, drawn from the same brick where it
        holds another one of that class.  (Any other example of a brick would more often be of the other
        class: one of its own class is taken, the example itself.)
    """
    wanted = np.empty(len(labels), dtype=int)
    for value in (0, 1):
        mine = rng.permutation(np.flatnonzero(labels == value))
        wanted[mine] = np.arange(len(mine)) % 2
    chosen = np.empty(len(labels), dtype=int)
    for i in range(len(labels)):
        others = labels == wanted[i]
        others[i] = False
        near = np.flatnonzero(others & (bricks == bricks[i]))
        chosen[i] = rng.choice(near if len(near) else np.flatnonzero(others))
    return chosen


def occlude(
    predict: Callable[[Array, Array], Array],
    stamps: Array,
    rows: Array,
    spec: StampSpec,
    *,
    seen: Array,
    clusters: Array,
    seed: int,
) -> Occlusion:
    """AUC of a referee when what lies within, or beyond, a radius is another example's.

    Parameters
    ----------
    predict : callable
        As `Referee.predict`: from stamps and visible rows to anything that rises with P(fake), shape (n,).
    stamps : ndarray, shape (n, size, size, channels)
        Raw pixels.
    rows : structured ndarray, shape (n,)
        Their rows of the example table; at least two of each class.  A part of a stamp is another
        example's, its row is not.
    spec : StampSpec
    seen : structured ndarray, shape (n,)
        These rows as the referee sees them.
    clusters : ndarray, shape (n,)
        Bricks, or groups of bricks, that intervals rest on.
    seed : int
        Of the choice of partners, the same at every radius.
    """
    labels, bricks = rows["label"], np.char.strip(rows["brick"].astype(str))
    others = stamps[partners(labels, bricks, np.random.default_rng([seed, 42]))]
    away = distances(rows, spec)[..., None]
    radii = [radius for radius in OCCLUSION_RADII if radius < spec.centre]
    usable = usable_bricks(labels, clusters)

    def score(pixels: Array) -> Estimate:
        starts = range(0, len(pixels), BATCH)
        parts = [predict(pixels[i : i + BATCH], seen[i : i + BATCH]) for i in starts]
        return auc_interval(labels, np.concatenate(parts), usable)

    fake = int(np.count_nonzero(labels))
    return Occlusion(
        radii=np.array(radii),
        counts=(len(labels) - fake, fake),
        whole=score(stamps),
        inner=tuple(score(np.where(away < radius, stamps, others)) for radius in radii),
        outer=tuple(score(np.where(away >= radius, stamps, others)) for radius in radii),
        half_light=float(np.median(half_light_radius(rows, spec))),
    )
