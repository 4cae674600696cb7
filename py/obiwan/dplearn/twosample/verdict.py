"""The answer in words: can the network tell fake galaxies from real ones?

Four answers: distinguishable, equivalent within a margin declared before, inconclusive, and a network that
learnt nothing, which is no answer about the galaxies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.twosample import (
    LEAST_CLUSTERS,
    Estimate,
    Measured,
    brick_caveat,
    design_effect,
    detectable_excess,
    measure_auc,
    usable_bricks,
)
from obiwan.dplearn.twosample.effect import Effect, effect_of, effect_words
from obiwan.dplearn.twosample.equivalence import LEAST_MARGIN, further_examples, tost

Kind = Literal["distinguishable", "equivalent", "inconclusive", "not learnt"]
#: AUC of the weakest planted difference that was found, above which finding it proves little: three of four
#: pairs are told apart, as for two Gaussians one standard deviation apart.
EASY = 0.75


@dataclass(frozen=True)
class SensitivitySummary:
    """What the positive control said: the same network trained on a planted difference.

    Attributes
    ----------
    detected : bool
        Whether a planted difference was found.
    lines : tuple of str
        What was detected, for instance ``offset: 0.2 px was detected``.
    weakest : float
        AUC of the weakest difference that was found, of any kind; NaN where none was.
    """

    detected: bool
    lines: tuple[str, ...]
    weakest: float

    @property
    def easy(self) -> bool:
        """Whether nothing was found but what is hard to miss."""
        return self.weakest > EASY


@dataclass(frozen=True)
class Verdict:
    """The answer.

    Attributes
    ----------
    kind : str
        ``distinguishable``, ``equivalent``, ``inconclusive`` or ``not learnt``.
    headline : str
        One sentence.
    explanation : tuple of str
        What stands behind it, sentence by sentence.
    needed : int or None
        How many more test examples would decide, whatever the AUC turns out to be; None where more examples
        are not what is missing.
    tost_p : float
        p-value of the two one-sided tests: small where the AUC lies within the margin; NaN where all scores
        are the same.
    margin : float
        How far from 0.5 an AUC may be and still count as equivalent.
    auc : Estimate
        With its interval of coverage 1 - `level`.
    level : float
        Rate of wrong answers that was allowed.
    effect : Effect
        What the AUC means.
    detectable : float or None
        The AUC that would be noticed four times out of five; None where the network learnt nothing, or where
        there are too few examples for any.
    """

    kind: Kind
    headline: str
    explanation: tuple[str, ...]
    needed: int | None
    tost_p: float
    margin: float
    auc: Estimate
    level: float
    effect: Effect
    detectable: float | None


def decide(
    labels: NDArray[Any],
    scores: NDArray[Any],
    bricks: NDArray[Any] | None,
    *,
    margin: float = 0.02,
    level: float = 0.05,
    learnt: bool,
    sensitivity: SensitivitySummary | None,
) -> Verdict:
    """Give the verdict on the scores of a test split.

    Parameters
    ----------
    labels, scores : ndarray
        One of each per test example.
    bricks : ndarray or None
        The brick of each example.  The interval rests on bricks where each class is found in at least
        `obiwan.dplearn.twosample.summary.LEAST_CLUSTERS` of them.
    margin : float
        How far from 0.5 an AUC may be and still count as equivalent; to be declared before looking.
    level : float
        Two-sided rate of "distinguishable" among equal populations; also that of "equivalent" at an AUC at
        the margin.
    learnt : bool
        Whether the network learnt its training examples.  A difference that shows on the test examples is
        one all the same, and a network that finds what is planted is taken to be able to learn: within a
        margin of 0.02 there is less to be learnt than shows in the loss.
    sensitivity : SensitivitySummary or None
        The positive control; without it, or where it found nothing but what is hard to miss (an AUC above
        `EASY`), the verdict is never ``equivalent``.

    Raises
    ------
    ValueError
        If there is one class only, a score is not finite, a class has one example, or margin or level make
        no sense.
    """
    if not (LEAST_MARGIN <= margin < 0.5 and 0 < level < 0.5):
        span = f"between 0 and 0.5, the margin at least {LEAST_MARGIN:g}"
        msg = f"margin and level must be {span}, got {margin:g} and {level:g}"
        raise ValueError(msg)
    scores = np.asarray(scores)
    usable = usable_bricks(labels, bricks)
    measured = measure_auc(labels, scores, usable)
    facts = _Facts(
        measured=measured,
        auc=measured.interval(1 - level),
        margin=margin,
        level=level,
        inside=tost(measured, margin) < level,
        on_bricks=usable is not None,
        further=further_examples(measured, len(scores), margin, level),
        positive=sensitivity,
    )
    constant = bool(np.ptp(scores) == 0)
    kind, headline, reasons, needed = _ruling(facts, learnt, constant)
    labels = np.asarray(labels)
    effect = 1.0 if usable is None or constant else max(1.0, design_effect(labels, scores, usable))
    seen = None if kind == "not learnt" else _detectable(facts, labels, effect)
    background = _background(labels, bricks, effect, seen, kind != "not learnt")
    return Verdict(
        kind,
        headline,
        (*reasons, *background),
        needed,
        float("nan") if constant else tost(measured, margin),
        margin,
        facts.auc,
        level,
        effect_of(facts.auc),
        seen,
    )


@dataclass(frozen=True)
class _Facts:
    """What the ruling is made from."""

    measured: Measured
    auc: Estimate
    margin: float
    level: float
    inside: bool
    on_bricks: bool
    further: int
    positive: SensitivitySummary | None

    @property
    def control_found(self) -> bool:
        """Whether a positive control was run and found what was planted, something weak among it."""
        return self.positive is not None and self.positive.detected and not self.positive.easy

    @property
    def interval(self) -> str:
        coverage = f"{100 * (1 - self.level):g} %"
        return (
            f"AUC {self.auc.value:.4f}, {coverage} interval {self.auc.low:.4f} to {self.auc.high:.4f}; "
            "0.5 is guessing."
        )

    @property
    def within(self) -> str:
        return f"{0.5 - self.margin:g} to {0.5 + self.margin:g}"


_Ruling = tuple[Kind, str, tuple[str, ...], int | None]


def _ruling(facts: _Facts, learnt: bool, constant: bool) -> _Ruling:
    """Kind, headline, reasons, and how many further examples would decide."""
    if constant:
        headline = "The network gives every galaxy the same score: it learnt nothing, so this is no answer."
        reasons = ("An AUC of 0.5 from such a network says nothing about the fakes.",)
        return "not learnt", headline, reasons, None
    differs = facts.auc.low > 0.5 or facts.auc.high < 0.5
    backed = facts.inside and facts.on_bricks and facts.control_found
    # A network that finds what is planted can learn; that it finds nothing here is then an answer.
    learns = learnt or facts.control_found
    if differs and not backed:
        return _distinguishable(facts, learns)
    if not learns:
        headline = "The network did not learn its training examples, so this is no answer about the galaxies."
        remedy = "Train it longer, on more examples, or otherwise."
        return "not learnt", headline, (facts.interval, remedy), None
    if backed:
        return _equivalent(facts, differs)
    return _inconclusive(facts)


def _distinguishable(facts: _Facts, learns: bool) -> _Ruling:
    reasons = [facts.interval, f"What it means: {effect_words(facts.auc)}."]
    headline = "Distinguishable: the network tells fake galaxies from real ones"
    if facts.auc.high < 0.5:
        headline = "Distinguishable, but the wrong way round: the network calls real galaxies fake more often"
        reasons.append(
            "A score that is wrong more often than chance means that test and training examples differ; look "
            "at how they were split."
        )
    if facts.inside:
        headline += f", by less than the margin of {facts.margin:g} in AUC"
        missing = (
            f"{LEAST_CLUSTERS} or more test bricks with both classes"
            if facts.control_found
            else "a positive control that finds something weak that is planted (--sensitivity)"
        )
        reasons.append(
            f"The difference is real but lies within the margin ({facts.within}); with {missing} this would "
            "be equivalent."
        )
    if not learns:
        reasons.append("The training did not go as it should, yet the test examples show a difference.")
    return "distinguishable", headline + ".", tuple(reasons), None


def _equivalent(facts: _Facts, differs: bool) -> _Ruling:
    headline = f"Equivalent within the margin: for this network the AUC is {facts.within}."
    reasons = [facts.interval, f"What it means: {effect_words(facts.auc)}."]
    if differs:
        reasons.append("The difference can be measured, but it is smaller than the margin.")
    weakest = f" down to an AUC of {facts.positive.weakest:.3f}" if facts.positive else ""
    reasons.append(f"A positive control stands behind this: the same network finds what is planted{weakest}.")
    reasons += [line.rstrip(".") + "." for line in (facts.positive.lines if facts.positive else ())]
    reasons.append("It says nothing of differences that this network cannot see.")
    return "equivalent", headline, tuple(reasons), None


def _inconclusive(facts: _Facts) -> _Ruling:
    if not facts.inside:
        where = "" if facts.on_bricks else f", in {LEAST_CLUSTERS} or more bricks,"
        headline = (
            f"Inconclusive: neither a difference nor equivalence within {facts.margin:g} in AUC is shown; "
            f"about {facts.further:,} more test examples{where} would decide."
        )
        wanted = f"To be called equivalent the AUC must be shown to lie in {facts.within}"
        if not facts.control_found:
            wanted += ", and a positive control must find something weak that is planted (--sensitivity)"
        return "inconclusive", headline, (facts.interval, wanted + "."), facts.further
    if not facts.on_bricks:
        headline = "Inconclusive: the interval lies within the margin but does not rest on enough bricks."
        more = f"At least {LEAST_CLUSTERS} bricks with both classes are needed to call it equivalent."
        return "inconclusive", headline, (facts.interval, more), None
    headline = "Inconclusive: no difference is seen, but no positive control stands behind that."
    if facts.positive is None:
        why = (
            f"The interval lies within the margin ({facts.within}), but a network that could not see any "
            "difference would give the same; run --sensitivity to plant one."
        )
        return "inconclusive", headline, (facts.interval, why), None
    why = "The same network did not find what was planted, so that its finding nothing here means nothing."
    if facts.positive.detected:
        why = (
            f"What was planted and found is hard to miss (AUC {facts.positive.weakest:.3f} at the weakest, "
            f"more than {EASY:g}): whether the network sees less was not tried; plant smaller differences."
        )
    lines = tuple(line.rstrip(".") + "." for line in facts.positive.lines)
    return "inconclusive", headline, (facts.interval, why, *lines), None


def _detectable(facts: _Facts, labels: NDArray[Any], effect: float) -> float | None:
    """The AUC that would be noticed four times out of five; None where none would."""
    fakes = int(np.count_nonzero(labels))
    freedom = facts.measured.freedom if facts.on_bricks else np.inf
    excess = detectable_excess(len(labels) - fakes, fakes, effect, facts.level / 2, freedom=freedom)
    return 0.5 + excess if excess < 0.5 else None


def _background(
    labels: NDArray[Any],
    bricks: NDArray[Any] | None,
    effect: float,
    detectable: float | None,
    learnt: bool,
) -> tuple[str, ...]:
    """How many examples, what sharing bricks costs, what could be seen, what the interval is worth."""
    n, fakes = len(labels), int(np.count_nonzero(labels))
    lines = [f"Tested on {n - fakes:,} real and {fakes:,} fake galaxies."]
    if effect > 1.1:
        lines.append(
            f"Galaxies of a brick share sky, depth and PSF: the {n:,} are worth {n / effect:,.0f} "
            f"independent ones (design effect {effect:.1f})."
        )
    if detectable is not None:
        lines.append(f"A true AUC of {detectable:.3f} would be noticed four times out of five.")
    elif learnt:
        lines.append("So few cannot even be relied on to show a network that is nearly always right.")
    caveat = brick_caveat(labels, bricks)
    if caveat:
        lines.append(caveat[0].upper() + caveat[1:] + ".")
    return tuple(lines)
