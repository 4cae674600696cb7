"""Calibration of probabilities, and lower bounds on the distance between the two populations.

Labels are 0 (real) and 1 (fake); probabilities are those of being fake.  Both classes weigh the same
throughout, however many examples they have: a probability is that of a galaxy drawn with equal chance from
either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.twosample.ranking import Estimate, Measured, checked, measure_auc
from obiwan.dplearn.twosample.summary import score_interval, usable_bricks

LN2 = float(np.log(2))
TINY = 1e-7  #: probabilities are kept so far from 0 and 1, as Keras keeps them: no loss is infinite
_COLUMNS = ("low", "high", "n", "predicted", "observed", "observed_low", "observed_high")
CURVE = np.dtype([(name, "i8" if name == "n" else "f8") for name in _COLUMNS])


def _probabilities(labels: Array, prob: Array) -> tuple[Array, Array]:
    fake, prob = checked(labels, prob)
    if ((prob < 0) | (prob > 1)).any():
        msg = f"probabilities must be in 0..1, got {prob.min():g} to {prob.max():g}"
        raise ValueError(msg)
    return fake, prob


def _class_weights(fake: Array) -> Array:
    """Weights of the examples that sum to one, one half for each class."""
    return np.asarray(0.5 / np.where(fake, fake.sum(), (~fake).sum()))


@dataclass(frozen=True)
class Bounds:
    """Lower bounds on the distance between two populations, from held-out probabilities.

    Values and ends of the intervals of the first three are lower bounds of a distance between the
    populations: the populations differ by at least `low` with the confidence of the interval, and may
    differ by far more than `high`, for a better network may find more.

    Attributes
    ----------
    total_variation : Estimate
        From the calls at a probability of 0.5: TPR + TNR - 1.  Between 0 and 1, the fraction of one
        population that must be replaced to obtain the other.
    total_variation_auc : Estimate
        The same distance from the AUC: 1 - sqrt(2 (1 - AUC)).
    jensen_shannon : Estimate
        Jensen-Shannon divergence in nats, ln 2 - BCE, between 0 and ln 2.
    bce : Estimate
        Binary cross-entropy in nats, the mean of the two classes' means; ln 2 for a network that knows
        nothing.
    """

    total_variation: Estimate
    total_variation_auc: Estimate
    jensen_shannon: Estimate
    bce: Estimate


def bounds(
    labels: Array,
    prob: Array,
    bricks: Array | None = None,
    level: float = 0.95,
    ranks: Array | None = None,
) -> Bounds:
    """Lower bounds on the distance between the populations, from probabilities of held-out examples.

    Parameters
    ----------
    labels, prob : ndarray
        One of each per example.
    bricks : ndarray, optional
        The brick of each example; intervals rest on them where `usable_bricks` has them.
    level : float
        Coverage of the intervals.
    ranks : ndarray of int, optional
        Dense ranks of the probabilities, where these are known.

    Returns
    -------
    Bounds
        For any function D of the image into 0..1, P_fake(D > 1/2) - P_real(D > 1/2) is at most the total
        variation, and ln 2 plus half the mean of ln D over fakes plus half that of ln(1 - D) over reals at
        most the Jensen-Shannon divergence (Goodfellow et al. 2014, arXiv:1406.2661, theorem 1), so that
        neither needs calibrated probabilities; badly calibrated ones make the second bound weak.

    Raises
    ------
    ValueError
        If a probability is outside 0..1, or there is no variance to estimate.
    """
    fake, prob = _probabilities(labels, prob)
    bricks = usable_bricks(fake, bricks)
    calls = measure_auc(fake, prob > 0.5, bricks).interval(level)
    ordered = measure_auc(fake, prob if ranks is None else ranks, bricks).interval(level)
    loss, weights = _losses(fake, prob), _class_weights(fake)
    entropy = float(weights @ loss)
    means = np.where(fake, loss[fake].mean(), loss[~fake].mean())
    bce = Measured.of(entropy, weights * (loss - means), fake, bricks).interval(level, 0.0, np.inf)
    return Bounds(
        total_variation=_mapped(calls, lambda a: 2 * a - 1),
        total_variation_auc=_mapped(ordered, lambda a: 1 - float(np.sqrt(2 * (1 - a)))),
        jensen_shannon=_mapped(Estimate(bce.value, bce.high, bce.low), lambda b: LN2 - b),
        bce=bce,
    )


def _losses(fake: Array, prob: Array) -> Array:
    """Cross-entropy of each example in nats."""
    return np.asarray(-np.log(np.clip(np.where(fake, prob, 1 - prob), TINY, 1)))


def _mapped(estimate: Estimate, function: Any) -> Estimate:
    """The estimate under an increasing function, no less than 0."""
    value, low, high = (max(0.0, function(x)) for x in (estimate.value, estimate.low, estimate.high))
    return Estimate(value, low, high)


@dataclass(frozen=True)
class Reliability:
    """Reliability of probabilities: observed against predicted fractions of fakes.

    Attributes
    ----------
    curve : structured ndarray
        A row per bin: its ends (`low`, `high`), examples (`n`), mean probability (`predicted`), fraction
        of fakes (`observed`) and its 95 % Wilson interval (`observed_low`, `observed_high`).
    ece : float
        Expected calibration error: mean of the distance between `predicted` and `observed` (Naeini et al.
        2015).
    ece_noise : float
        The ECE that a perfectly calibrated network would show on so many examples.
    brier : float
        Mean squared distance of the probability from the label (Brier 1950); 0.25 for a network that knows
        nothing.
    """

    curve: Array
    ece: float
    ece_noise: float
    brier: float


def reliability(labels: Array, prob: Array, bins: int = 10, equal_classes: bool = True) -> Reliability:
    """Reliability curve in bins of equal numbers of examples, expected calibration error and Brier score.

    Parameters
    ----------
    labels, prob : ndarray
        One of each per example.
    bins : int
        How many; fewer where probabilities are tied.  Bins of equal numbers, because an untrained network's
        probabilities are all close to 0.5.
    equal_classes : bool
        Whether the two classes weigh the same; otherwise every example does.

    Raises
    ------
    ValueError
        If a probability is outside 0..1.
    """
    fake, prob = _probabilities(labels, prob)
    weights = _class_weights(fake) if equal_classes else np.full(len(fake), 1 / len(fake))
    edges = np.unique(np.quantile(prob, np.linspace(0, 1, bins + 1)))
    number = np.searchsorted(edges[1:-1], prob, side="right")
    curve = np.zeros(max(1, len(edges) - 1), CURVE)
    shares, noise = np.zeros(len(curve)), np.zeros(len(curve))
    for row in np.unique(number):
        here = number == row
        own = weights[here]
        shares[row], trials = own.sum(), own.sum() ** 2 / (own @ own)  # Kish 1965
        predicted, observed = np.average(prob[here], weights=own), np.average(fake[here], weights=own)
        interval = score_interval(observed, trials)
        ends = edges[row], edges[min(row + 1, len(edges) - 1)]
        curve[row] = (*ends, here.sum(), predicted, observed, interval.low, interval.high)
        noise[row] = np.sqrt(2 * predicted * (1 - predicted) / (np.pi * trials))
    return Reliability(
        curve=curve[curve["n"] > 0],
        ece=float(shares @ np.abs(curve["predicted"] - curve["observed"])),
        ece_noise=float(shares @ noise),
        brier=float(weights @ (prob - fake) ** 2),
    )


def recalibrate(val_labels: Array, val_prob: Array) -> Callable[[Array], Array]:
    """Isotonic recalibration (Zadrozny & Elkan 2002), fitted on the validation split.

    Parameters
    ----------
    val_labels, val_prob : ndarray
        Of the validation split: fitted on the test split it would see the answer.

    Returns
    -------
    callable
        Rising function from probabilities to calibrated ones, which stay 1/(n + 2) away from 0 and 1 for n
        validation examples, so that the cross-entropy stays finite.  Scores that it maps to the same
        probability are tied afterwards: take the AUC from the network's own.

    Raises
    ------
    ValueError
        If there is one class only, or a probability is not in 0..1.
    """
    from sklearn.isotonic import IsotonicRegression

    fake, prob = _probabilities(val_labels, val_prob)
    least = 1 / (len(fake) + 2)
    fit = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
    fit.fit(prob, fake, sample_weight=_class_weights(fake))
    return lambda prob: np.asarray(fit.predict(np.asarray(prob, np.float64)))


def recalibration_helps(val_labels: Array, val_prob: Array) -> bool:
    """Whether recalibration lowers the cross-entropy of validation examples that it was not fitted on.

    Each half of either class, every other example, is recalibrated with what the other half says; with fewer
    than two examples of a class there are no halves.

    Parameters
    ----------
    val_labels, val_prob : ndarray
        As for `recalibrate`.
    """
    fake, prob = _probabilities(val_labels, val_prob)
    if min(fake.sum(), (~fake).sum()) < 2:
        return False
    half = np.zeros(len(fake), int)
    for members in (fake, ~fake):
        half[members] = np.arange(members.sum()) % 2
    better = np.empty_like(prob)
    for number in (0, 1):
        better[half == number] = recalibrate(fake[half != number], prob[half != number])(prob[half == number])
    weights = _class_weights(fake)
    return bool(weights @ _losses(fake, better) < weights @ _losses(fake, prob))
