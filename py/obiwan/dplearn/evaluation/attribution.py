"""What the network looks at: integrated gradients, averaged per class on centred objects.

An attribution divides the network's answer among the pixels (Sundararajan, Taly & Yan 2017,
arXiv:1703.01365): the gradient of the log odds of being fake, averaged on the way from an empty stamp to
the observed one, times what was added to each pixel.  All this is done behind the network's scaling, where a
pixel is asinh of its signal over noise; raw nanomaggies would need many more steps.  The empty stamp has
no light in its images and the median in each inverse-variance plane; pixels without data stay without
data.  The attributions of a stamp add up to the difference between its log odds and the empty stamp's.

Noise takes attribution everywhere, so that a share of the absolute attribution is to be compared with the
share of the area.  Where the *classes* differ `obiwan.dplearn.evaluation.occlusion` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from obiwan.dplearn.conventions import PIXEL_SCALE, STAMP, Array
from obiwan.dplearn.evaluation.gradients import (
    STEPS,
    empty_stamps,
    gradient_of,
    integrated_gradients,
    outputs,
    split_network,
)
from obiwan.dplearn.survey.rendering import circularised
from obiwan.dplearn.twosample import Estimate

RADII = np.arange(1.0, STAMP // 2 + 1)  #: pixels, of the curve of growth
CLASSES = ("real", "fake")


@dataclass(frozen=True)
class Attribution:
    """Attributions averaged over examples.

    Attributes
    ----------
    counts : tuple of int
        Real and fake examples.
    maps : ndarray, shape (2, 64, 64)
        Mean attribution of each pixel (log odds, all planes together) for real and for fake examples:
        positive where the pixel speaks for a fake.
    planes : ndarray, shape (2, 6)
        Share of each plane in the absolute attribution, by class.
    radii : ndarray, shape (m,)
        `RADII`, pixels.
    growth : ndarray, shape (2, m)
        Share of the absolute attribution within so many pixels of the object, by class.
    share : tuple of Estimate
        Share of the absolute attribution within the object's half-light radius, by class.
    area : float
        Mean share of the stamp's area within that radius: the share of a network that looks everywhere alike.
    radius : float
        Median half-light radius, the PSF included (pixels); NaN, as `share` and `area` then are, where no PSF
        is known.
    residual : float
        Rms failure of the attributions of a stamp to add up, over the rms of what they should add up to:
        what the finite number of steps costs.
    """

    counts: tuple[int, int]
    maps: Array
    planes: Array
    radii: Array
    growth: Array
    share: tuple[Estimate, Estimate]
    area: float
    radius: float
    residual: float


def half_light_radius(rows: Array) -> Array:
    """Half-light radius of each example as it appears (pixels), the r-band PSF included.

    Parameters
    ----------
    rows : ndarray of EXAMPLE_DTYPE
        ``shape_r`` (arcsec; 0 for a point source, or if unknown), e1, e2 and ``psfsize_r`` (FWHM, arcsec).

    Returns
    -------
    ndarray
        Half the FWHM is the half-light radius of a Gaussian PSF; radii add in quadrature, exactly for
        Gaussians and within some per cent for galaxies.  The median stands in where the PSF is unknown; NaN
        where it is known nowhere.
    """
    psf = rows["psfsize_r"].astype(float)
    psf = np.where(np.isfinite(psf) & (psf > 0), psf, np.nan)
    if np.isfinite(psf).any():
        psf = np.where(np.isfinite(psf), psf, np.nanmedian(psf))
    shape = circularised(*(np.nan_to_num(rows[name].astype(float)) for name in ("shape_r", "e1", "e2")))
    return np.asarray(np.hypot(shape, psf / 2) / PIXEL_SCALE)


def distances(rows: Array) -> Array:
    """Distance of each pixel centre from the example's position (pixels), shape (n, 64, 64)."""
    grid = np.arange(STAMP, dtype=float)
    x, y = (
        rows[name][:, None] - np.floor(rows[name] + 0.5)[:, None] + STAMP // 2 - grid for name in ("x", "y")
    )
    return np.asarray(np.hypot(y[:, :, None], x[:, None, :]))


def _mean(values: Array) -> Estimate:
    """A mean with its 95 % interval from the scatter of the values."""
    mean = float(np.mean(values))
    half = 1.96 * float(np.std(values, ddof=1)) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return Estimate(mean, mean - half, mean + half)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def summarise(attributions: Array, log_odds: Array, empty_odds: Array, rows: Array) -> Attribution:
    """Average attributions per class, on centred objects.

    Parameters
    ----------
    attributions : ndarray, shape (n, 64, 64, 6)
        From `integrated_gradients`.
    log_odds, empty_odds : ndarray, shape (n,)
        The network's answers for the stamps and for their empty stamps.
    rows : ndarray of EXAMPLE_DTYPE, shape (n,)
        What is known of the examples, both classes among them.

    Raises
    ------
    ValueError
        If a class is missing.
    """
    fake = rows["label"] == 1
    if not fake.any() or fake.all():
        msg = "attribution needs examples of both classes"
        raise ValueError(msg)
    together = attributions.sum(-1, dtype=np.float64)
    size = np.abs(together)
    whole = np.maximum(size.sum((1, 2)), np.finfo(float).tiny)
    away, radius = distances(rows), half_light_radius(rows)
    inside = away < radius[:, None, None]
    known = bool(np.isfinite(radius).all())
    share = (size * inside).sum((1, 2)) / whole if known else np.full(len(rows), np.nan)
    growth = np.stack([(size * (away < r)).sum((1, 2)) / whole for r in RADII], 1)
    by_plane = np.abs(attributions).sum((1, 2), dtype=np.float64)
    by_plane /= np.maximum(by_plane.sum(1, keepdims=True), np.finfo(float).tiny)
    added = log_odds - empty_odds
    classes = (~fake, fake)
    return Attribution(
        counts=(int((~fake).sum()), int(fake.sum())),
        maps=np.stack([together[m].mean(0) for m in classes]),
        planes=np.stack([by_plane[m].mean(0) for m in classes]),
        radii=RADII,
        growth=np.stack([growth[m].mean(0) for m in classes]),
        share=(_mean(share[~fake]), _mean(share[fake])),
        area=float(inside.mean()) if known else float("nan"),
        radius=float(np.median(radius)),
        residual=_rms(together.sum((1, 2)) - added) / max(_rms(added), np.finfo(float).tiny),
    )


def attribute(model: Any, stamps: Array, rows: Array, *, steps: int = STEPS) -> Attribution:
    """What a network looks at in some examples.

    Parameters
    ----------
    model : keras.Model
        A network of this package.
    stamps : ndarray, shape (n, 64, 64, 6)
        Raw cutouts.
    rows : ndarray of EXAMPLE_DTYPE, shape (n,)
        Their rows in ``sources.fits``.
    steps : int
        Of the integration.

    Raises
    ------
    ModelError
        If the network has another head, or the Keras backend no gradients.
    """
    scale, odds = split_network(model)
    scaled = outputs(scale, stamps)
    attributions = integrated_gradients(gradient_of(odds), scaled, steps)
    answer, empty = (outputs(odds, inputs)[:, 0].astype(float) for inputs in (scaled, empty_stamps(scaled)))
    return summarise(attributions, answer, empty, rows)
