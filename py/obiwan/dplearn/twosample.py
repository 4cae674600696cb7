"""How well scores tell two samples apart: accuracy and AUC, with intervals.

Labels are 0 (real) and 1 (fake); a score is the higher the more an example looks fake.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from scipy.stats import t as student

LEAST_CLUSTERS = 5  #: bricks of which each class must be found in so many, for the interval to rest on bricks


@dataclass(frozen=True)
class Estimate:
    """A number and its interval.

    Attributes
    ----------
    value, low, high : float
        The estimate and the ends of the interval.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} (95 % interval {self.low:.3f} to {self.high:.3f})"


def wilson(successes: int, trials: int, level: float = 0.95) -> Estimate:
    """A proportion with its score interval (Wilson 1927, JASA 22, 209).

    Examples
    --------
    >>> wilson(81, 263)
    Estimate(value=0.307..., low=0.255..., high=0.366...)
    """
    if not 0 <= successes <= trials or trials == 0:
        msg = f"successes must be in 0..trials and trials positive, got {successes} of {trials}"
        raise ValueError(msg)
    z2 = float(norm.ppf(0.5 + level / 2)) ** 2
    share = successes / trials
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = np.sqrt(z2 * (share * (1 - share) + z2 / (4 * trials)) / trials) / (1 + z2 / trials)
    return Estimate(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def _checked(labels: NDArray[Any], scores: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Labels as booleans (fake) and scores as float64, or a ValueError."""
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    if labels.shape != scores.shape or labels.ndim != 1:
        msg = f"labels and scores must be one-dimensional and as many, got {labels.shape} and {scores.shape}"
        raise ValueError(msg)
    if not np.isin(labels, (0, 1)).all() or len(np.unique(labels)) < 2:
        msg = "labels must be 0 and 1, with at least one of each"
        raise ValueError(msg)
    if not np.isfinite(scores).all():
        msg = f"{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} scores are not finite"
        raise ValueError(msg)
    return labels == 1, scores


def _placements(fake: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """AUC and each example's placement: the share of the other class that it is on the right side of."""
    ranks = rankdata(scores)
    placed = np.empty(len(scores))
    n_fake, n_real = int(fake.sum()), int((~fake).sum())
    placed[fake] = (ranks[fake] - rankdata(scores[fake])) / n_real
    placed[~fake] = 1 - (ranks[~fake] - rankdata(scores[~fake])) / n_fake
    return float(placed[fake].mean()), placed


def auc(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """Area under the ROC curve by mid-ranks: the probability that a fake scores above a real one, ties half.

    Examples
    --------
    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    return _placements(*_checked(labels, scores))[0]


def auc_interval(
    labels: NDArray[Any], scores: NDArray[Any], clusters: NDArray[Any] | None = None, level: float = 0.95
) -> Estimate:
    """AUC with an interval that knows which examples share a brick.

    Parameters
    ----------
    labels, scores : ndarray
        One of each per example.
    clusters : ndarray, optional
        The brick of each example; examples of one brick share sky, depth and PSF and are not independent.
        Without it every example stands for itself.
    level : float
        Coverage.

    Returns
    -------
    Estimate
        The interval is DeLong's (DeLong et al. 1988, Biometrics 44, 837), in Obuchowski's form for clustered
        data (1997, Biometrics 53, 567) with Student's t for the number of clusters.

    Raises
    ------
    ValueError
        If there are not two classes, or too few clusters for a variance.
    """
    fake, scores = _checked(labels, scores)
    value, placed = _placements(fake, scores)
    groups = np.arange(len(fake)) if clusters is None else np.unique(clusters, return_inverse=True)[1].ravel()
    count = int(groups.max()) + 1
    sums = {}
    for name, members in (("fake", fake), ("real", ~fake)):
        rest = np.bincount(groups[members], placed[members] - value, count)
        holding = len(np.unique(groups[members]))
        if holding < 2:
            msg = f"{name} examples in {holding} cluster(s): no variance can be estimated"
            raise ValueError(msg)
        sums[name] = (rest / members.sum(), holding / (holding - 1))
    (a, ca), (b, cb) = sums["fake"], sums["real"]
    variance = ca * (a @ a) + cb * (b @ b)
    if clusters is not None:
        variance += 2 * count / (count - 1) * (a @ b)
    # A perfect separation has no spread to estimate from: no less than one example's worth of doubt.
    variance = max(float(variance), (1 / min(fake.sum(), (~fake).sum()) / 2) ** 2)
    half = float(student.ppf(0.5 + level / 2, count - 1)) * np.sqrt(variance)
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))


@dataclass(frozen=True)
class Answer:
    """What a scored split says.

    Attributes
    ----------
    real, fake : int
        Examples of each class.
    accuracy : Estimate
        Share of examples on their side of a score of 0.5.
    majority : float
        What guessing the most numerous class gets.
    auc : Estimate
        Area under the ROC curve.
    bricks : int
        Bricks that the AUC's interval rests on; 0 where it rests on examples.
    """

    real: int
    fake: int
    accuracy: Estimate
    majority: float
    auc: Estimate
    bricks: int

    @property
    def tells(self) -> bool:
        """Whether fakes were told from reals: the AUC's interval lies above 0.5."""
        return self.auc.low > 0.5


def answer(labels: NDArray[Any], scores: NDArray[Any], bricks: NDArray[Any] | None = None) -> Answer:
    """Accuracy and AUC of probabilities of being fake.

    Parameters
    ----------
    labels, scores : ndarray
        One per example; scores in 0..1.
    bricks : ndarray, optional
        Names; the interval rests on them where each class is found in at least `LEAST_CLUSTERS`.
    """
    fake, scores = _checked(labels, scores)
    if bricks is not None:
        holding = min(len(np.unique(bricks[fake])), len(np.unique(bricks[~fake])))
        bricks = bricks if holding >= LEAST_CLUSTERS else None
    n_fake, n = int(fake.sum()), len(fake)
    return Answer(
        real=n - n_fake,
        fake=n_fake,
        accuracy=wilson(int(((scores > 0.5) == fake).sum()), n),
        majority=max(n_fake, n - n_fake) / n,
        auc=auc_interval(labels, scores, bricks),
        bricks=0 if bricks is None else len(np.unique(bricks)),
    )
