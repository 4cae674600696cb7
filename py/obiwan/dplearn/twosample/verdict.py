"""Verdict of the two-sample test: are two samples distinguishable or equivalent, and how far apart?

A verdict is a kind, the reasons for it and its numbers; `obiwan.dplearn.report` puts them into words.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.twosample.ranking import (
    GUESS,
    Estimate,
    Measured,
    bricks_of_rarer,
    design_effect,
    measure_auc,
)
from obiwan.dplearn.twosample.summary import detectable_excess, usable_bricks

#: AUC of the weakest detected difference above which a positive control proves little: three pairs of four
#: are ordered correctly, as for two Gaussians one standard deviation apart.
EASY = 0.75
EXTREME = 0.9999  #: AUCs nearer to 0 or 1 are taken for this one: no normals are so far apart
LEAST_MARGIN = 0.001  #: to show an AUC to be nearer to 0.5 would take millions of test examples


class Kind(StrEnum):
    """Kind of verdict."""

    DISTINGUISHABLE = "distinguishable"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    NOT_LEARNT = "not learnt"


class Reason(StrEnum):
    """Fact that a verdict rests on."""

    CONSTANT_SCORE = "constant score"  #: every example has the same score
    DIFFERS = "differs"  #: the interval of the AUC excludes 0.5
    WRONG_WAY = "wrong way"  #: the AUC is below 0.5
    WITHIN_MARGIN = "within margin"  #: the two one-sided tests place the AUC within the margin
    FEW_BRICKS = "few bricks"  #: too few bricks for the interval to rest on them
    NO_POSITIVE_CONTROL = "no positive control"
    POSITIVE_CONTROL_MISSED = "positive control missed"  #: a known difference was not detected
    POSITIVE_CONTROL_EASY = "positive control easy"  #: only differences above `EASY` were tried
    POSITIVE_CONTROL_FOUND = "positive control found"
    TRAINING_FAILED = "training failed"  #: the network did not fit its training set


class PositiveControl(Protocol):
    """Result of the same classifier on known differences."""

    @property
    def detected(self) -> bool:
        """Whether known differences were detected."""

    @property
    def weakest(self) -> float:
        """AUC of the weakest difference that was detected; NaN where none was."""


@dataclass(frozen=True)
class Effect:
    """Effect size.

    Attributes
    ----------
    pairs : float
        Pairs of one example of each class, of 100, in which label 1 has the higher score.
    sigmas : float
        Distance of two Gaussians that have the AUC, in standard deviations; negative below 0.5.
    others : float
        Lower bound on the total variation between the score distributions, from the lower end of the AUC's
        interval: they overlap by at most one less this fraction.  0 where it gives none.
    """

    pairs: float
    sigmas: float
    others: float


@dataclass(frozen=True)
class Numbers:
    """Numbers of a verdict.

    Attributes
    ----------
    auc : Estimate
        With its interval of coverage 1 - `level`.
    effect : Effect
        Size of the difference that the AUC stands for.
    margin : float
        Distance from 0.5 within which an AUC counts as equivalent.
    level : float
        Rate of wrong verdicts that is allowed.
    p : float
        Two-sided p-value of an AUC of 0.5; 1 where all scores are the same.
    tost_p : float
        p-value of the two one-sided tests: small where the AUC lies within the margin; NaN where all scores
        are the same.
    needed : int or None
        Further test examples that would decide, whatever the AUC turns out to be; None where more examples
        are not what is missing.
    detectable : float or None
        AUC that a ruling on a test of this size detects with a power of 80 %, at the level
        `obiwan.dplearn.twosample.summary.TESTED_AT`; None where the classifier learnt nothing, or where no
        AUC would be.
    design_effect : float
        Variance of the AUC over that of as many independent examples, at least 1; 1 where the interval does
        not rest on bricks.
    real, fake : int
        Test examples.
    bricks : int or None
        Bricks of the class that is found in fewer; None where bricks are not known.
    """

    auc: Estimate
    effect: Effect
    margin: float
    level: float
    p: float
    tost_p: float
    needed: int | None
    detectable: float | None
    design_effect: float
    real: int
    fake: int
    bricks: int | None


@dataclass(frozen=True)
class Verdict:
    """Verdict of the two-sample test.

    Attributes
    ----------
    kind : Kind
    reasons : tuple of Reason
        All that hold, in the order of the enum.
    numbers : Numbers
    """

    kind: Kind
    reasons: tuple[Reason, ...]
    numbers: Numbers


def decide(
    labels: Array,
    scores: Array,
    bricks: Array | None,
    *,
    margin: float = 0.02,
    level: float = 0.05,
    learnt: bool,
    positive: PositiveControl | None,
) -> Verdict:
    """Decide on the scores of a test split.

    Parameters
    ----------
    labels, scores : ndarray
        One of each per test example.
    bricks : ndarray or None
        Brick of each example.  The interval rests on bricks where each class is found in at least
        `obiwan.dplearn.twosample.summary.LEAST_CLUSTERS` of them.
    margin : float
        Distance from 0.5 within which an AUC counts as equivalent, from `LEAST_MARGIN` to below 0.5; declare
        it before the test.
    level : float
        Two-sided rate of "distinguishable" among equal populations; also that of "equivalent" at an AUC at
        the margin.
    learnt : bool
        Whether the classifier fitted its training set.  A difference on the test examples is one all the
        same, and a classifier that passes the positive control is taken to be able to learn: within a margin
        of 0.02 there is less to learn than shows in the loss.
    positive : PositiveControl or None
        Without it, or where it detected nothing below an AUC of `EASY`, the verdict is never equivalent.

    Raises
    ------
    ValueError
        If there is one class only, a score is not finite, or a class has one example.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    usable = usable_bricks(labels, bricks)
    measured = measure_auc(labels, scores, usable)
    auc, p = measured.interval(1 - level), tost(measured, margin)
    constant = bool(np.ptp(scores) == 0)
    holds = {
        Reason.CONSTANT_SCORE: constant,
        Reason.DIFFERS: not constant and not auc.low <= 0.5 <= auc.high,
        Reason.WRONG_WAY: not constant and auc.high < 0.5,
        Reason.WITHIN_MARGIN: not constant and p < level,
        Reason.FEW_BRICKS: usable is None,
        _control(positive): True,
        Reason.TRAINING_FAILED: not learnt,
    }
    reasons = tuple(reason for reason in Reason if holds.get(reason, False))
    kind = kind_of(reasons)
    open_ = kind == Kind.INCONCLUSIVE and Reason.WITHIN_MARGIN not in reasons
    effect = 1.0 if usable is None or constant else max(1.0, design_effect(labels, scores, usable))
    fake = int(np.count_nonzero(labels))
    numbers = Numbers(
        auc=auc,
        effect=effect_of(auc),
        margin=margin,
        level=level,
        p=1.0 if constant else measured.p_value(GUESS, "two-sided"),
        tost_p=float("nan") if constant else p,
        needed=further_examples(measured, len(scores), margin, level) if open_ else None,
        detectable=None if kind == Kind.NOT_LEARNT else _detectable(measured, usable, labels, effect),
        design_effect=effect,
        real=len(labels) - fake,
        fake=fake,
        bricks=None if bricks is None else bricks_of_rarer(labels, bricks),
    )
    return Verdict(kind, reasons, numbers)


def kind_of(reasons: tuple[Reason, ...]) -> Kind:
    """Kind of verdict that reasons lead to."""
    found = Reason.POSITIVE_CONTROL_FOUND in reasons
    backed = found and Reason.WITHIN_MARGIN in reasons and Reason.FEW_BRICKS not in reasons
    if Reason.CONSTANT_SCORE in reasons:
        return Kind.NOT_LEARNT
    if Reason.DIFFERS in reasons and not backed:
        return Kind.DISTINGUISHABLE
    # A classifier that passes the positive control can learn; that it finds nothing here is then an answer.
    if Reason.TRAINING_FAILED in reasons and not found:
        return Kind.NOT_LEARNT
    return Kind.EQUIVALENT if backed else Kind.INCONCLUSIVE


def _control(positive: PositiveControl | None) -> Reason:
    """State of the positive control."""
    if positive is None:
        return Reason.NO_POSITIVE_CONTROL
    if not positive.detected:
        return Reason.POSITIVE_CONTROL_MISSED
    return Reason.POSITIVE_CONTROL_EASY if positive.weakest > EASY else Reason.POSITIVE_CONTROL_FOUND


def _detectable(measured: Measured, usable: Array | None, labels: Array, effect: float) -> float | None:
    """AUC that is detected with a power of 80 %; None where no AUC would be."""
    fakes = int(np.count_nonzero(labels))
    freedom = np.inf if usable is None else measured.freedom
    excess = detectable_excess(len(labels) - fakes, fakes, effect, freedom=freedom)
    return 0.5 + excess if excess < 0.5 else None


def effect_of(auc: Estimate) -> Effect:
    """Effect size of an AUC and its interval."""
    shift = np.sqrt(2) * norm.ppf(np.clip(auc.value, 1 - EXTREME, EXTREME))
    return Effect(100 * auc.value, float(shift), max(0.0, 1 - float(np.sqrt(2 * (1 - auc.low)))))


def tost(measured: Measured, margin: float) -> float:
    """p-value of two one-sided tests that the AUC is between 0.5 - margin and 0.5 + margin (Schuirmann 1987).

    Below a level a exactly where the interval of coverage 1 - 2a lies inside the margin.
    """
    return max(measured.p_value(0.5 - margin, "greater"), measured.p_value(0.5 + margin, "less"))


def further_examples(measured: Measured, n: int, margin: float, level: float) -> int:
    """Number of further test examples that decide between distinguishable and equivalent.

    The answer is one or the other whatever the AUC turns out to be once the half-widths of the interval of
    coverage 1 - level and of that of coverage 1 - 2 level together are no more than the margin; the error
    falls as the root of the number of examples.

    Parameters
    ----------
    measured : Measured
        The AUC of the examples so far: its error carries the design effect of the bricks.
    n : int
        How many there are so far.
    margin, level : float
        Of the verdict.

    Returns
    -------
    int
        Rounded up to two digits.
    """
    widths = student.ppf([1 - level / 2, 1 - level], measured.freedom) * measured.error
    more = max(1.0, n * ((widths.sum() / margin) ** 2 - 1))
    digit = 10 ** max(0, int(np.floor(np.log10(more))) - 1)
    return int(np.ceil(more / digit) * digit)
