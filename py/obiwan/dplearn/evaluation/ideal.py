"""The best that any observer can do on a mock whose planted difference is known: AUC against signal to noise.

So far for the one difference that can be written down without a model of the population: an offset of the
fakes, seen by an observer who measures positions as well as the noise allows and knows nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from obiwan.dplearn.conventions import Array
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.mock.config import Plant
from obiwan.dplearn.twosample import auc

DRAWS = 20_000  #: positions drawn for each signal to noise
GAUSSIAN = 1.1774  #: half-light radius of a Gaussian in units of its sigma


def position_error(signal_to_noise: float, radius: float) -> float:
    """Error of a coordinate of the centre of light (pixels), the least that noise allows.

    Parameters
    ----------
    signal_to_noise : float
        Of the flux, by matched filter, all bands together.
    radius : float
        Half-light radius with the PSF (pixels).

    Returns
    -------
    float
        ``sqrt(2) sigma / (S/N)`` of a Gaussian of that half-light radius: the inverse of the Fisher
        information, the sum over pixels of (d model / dx)^2 over the noise's variance.
    """
    return float(np.sqrt(2) * radius / GAUSSIAN / signal_to_noise)


def offset_auc(offset: float, error: float, *, seed: int = 0) -> float:
    """AUC of the likelihood ratio of one measured coordinate, for fakes that lie `offset` pixels off.

    Parameters
    ----------
    offset : float
        Pixels.
    error : float
        Of the measurement (pixels).
    seed : int

    Returns
    -------
    float
        Where stamps are cut around whole pixels the reals' coordinate is uniform in -0.5..0.5, so that
        without noise the AUC is 1 - (1 - d)^2/2 for an offset d below 1, and 1 beyond.
    """
    rng = np.random.default_rng([seed, 77])
    labels = np.arange(DRAWS) % 2
    error = max(error, 1e-6)
    measured = rng.uniform(-0.5, 0.5, DRAWS) + offset * labels + error * rng.standard_normal(DRAWS)

    def likelihood(x: Array) -> Array:
        return np.asarray(
            np.maximum(ndtr((0.5 - np.abs(x)) / error) - ndtr((-0.5 - np.abs(x)) / error), 1e-300)
        )

    ratio = np.log(likelihood(measured - offset)) - np.log(likelihood(measured))
    return auc(labels, ratio)


def planted_offset(mock: Path) -> float | None:
    """The offset that was planted in a mock survey (pixels), None where something else was planted too.

    Parameters
    ----------
    mock : Path
        The directory of the survey, or its ``mock.json``.

    Raises
    ------
    TrainingSetError
        If there is no readable ``mock.json``.
    """
    path = mock / "mock.json" if mock.is_dir() else mock
    try:
        plant = Plant(**json.loads(path.read_text(encoding="utf-8"))["config"]["plant"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path}: no readable description of a mock survey ({error}); name the --outdir of mock"
        raise TrainingSetError(msg) from None
    return plant.offset if plant == Plant(offset=plant.offset) else None


def offset_curve(
    offset: float, signal_to_noise: Array, radius: Array, points: int = 12
) -> tuple[Array, Array]:
    """Signal to noise and AUC of the ideal observer over the range of some examples.

    Parameters
    ----------
    offset : float
        Planted (pixels).
    signal_to_noise, radius : ndarray, shape (n,)
        Of the examples; the median radius (pixels) at each signal to noise is used.
    points : int

    Returns
    -------
    tuple of ndarray
    """
    known = np.isfinite(signal_to_noise) & np.isfinite(radius) & (signal_to_noise > 0)
    sn, size = signal_to_noise[known], radius[known]
    if not len(sn):
        return np.empty(0), np.empty(0)
    edges = np.unique(np.quantile(sn, np.linspace(0, 1, points + 1)))
    number = np.clip(np.searchsorted(edges, sn, side="right") - 1, 0, max(0, len(edges) - 2))
    middles = [(np.median(sn[number == i]), np.median(size[number == i])) for i in np.unique(number)]
    curve = [(x, offset_auc(offset, position_error(float(x), float(r)))) for x, r in middles]
    found = np.array(curve)
    return found[:, 0], found[:, 1]
