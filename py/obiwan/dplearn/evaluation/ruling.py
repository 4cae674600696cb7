"""Ruling: the answer of an evaluation, from the panel's test, the controls and what was planted.

The question is whether injected galaxies look real, not whether one classifier distinguishes them.  The panel
is *the* test: it has most of the family-wise level, for it sees whatever the stamps hold.  Controls and the
classifier of measured quantities say in what the classes differ, also where the panel does not see it, and
have the rest.  The ruling is a kind and facts; `obiwan.dplearn.report` puts it into words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from obiwan.dplearn.controls.battery import REALISM_LEVEL, VALIDITY_LEVEL
from obiwan.dplearn.controls.records import Control, State
from obiwan.dplearn.twosample.ranking import Estimate
from obiwan.dplearn.twosample.summary import LEAST_CLUSTERS, TESTED_AT
from obiwan.dplearn.twosample.verdict import Kind, Reason, Verdict

#: Controls of the set that a difference of the galaxies moves too, and its hazards: where one of them fails,
#: it is the cause.  Light that is far off, or wide, has a centroid that scatters more; that of large galaxies
#: reaches the annulus; ivar that dips has other steps.
CONSEQUENCES = {
    "centroid scatter": {"D2", "D5", "D17"},
    "background": {"D5", "D17"},
    "ivar step": {"D6"},
    "ivar levels": {"D6"},
}
OVERLAP = 0.2  #: fraction of examples in strata of both classes, below which nothing can be held equal


@dataclass(frozen=True)
class Levels:
    """Levels of a ruling: rates of a difference where there is none.

    Attributes
    ----------
    panel : float
        Of the panel's AUC, *the* test.
    controls : float
        Of any control of the galaxies.  Student's t of the clearest of some 200 numbers hardly depends on
        it (3.7 for 0.04, 4.1 for 0.008), whereas the panel's does; 8 bricks reach it with flips of signs.
    baseline : float
        Of the classifier of measured quantities.
    validity : float
        Of any control of how the set was made: a family of its own, which leads to no claim about galaxies.
    """

    panel: float = TESTED_AT
    controls: float = REALISM_LEVEL
    baseline: float = 0.002
    validity: float = VALIDITY_LEVEL

    @property
    def family(self) -> float:
        """Family-wise level of all claims that injected galaxies differ."""
        return self.panel + self.controls + self.baseline


class RulingKind(StrEnum):
    """Kind of ruling."""

    INVALID = "invalid set"  #: a control of how the set was made fails: there is no ruling on galaxies
    EXPLAINED = "differ, explained"  #: no more is shown where what fails is held equal
    MORE = "differ, and more"  #: it stays
    UNEXPLAINED = "differ, cause unknown"  #: the panel separates the classes, and nothing fails
    UNSEEN = "differ, unseen by the panel"  #: something fails, and the panel shows no difference
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    NOT_LEARNT = "not learnt"

    @property
    def differ(self) -> bool:
        """Whether injected galaxies are said to differ from real ones."""
        return self in (self.EXPLAINED, self.MORE, self.UNEXPLAINED, self.UNSEEN)


class Outcome(StrEnum):
    """Outcome of holding equal what fails."""

    GONE = "gone"  #: no difference is shown within strata
    STAYS = "stays"  #: the classes differ within strata
    NO_OVERLAP = "no overlap"  #: the classes share too few values: it explains all that can be explained


class Need(StrEnum):
    """What would decide an inconclusive ruling, or let a panel within the margin be equivalent."""

    EXAMPLES = "examples"  #: the panel's interval is too wide for its margin
    BRICKS = "bricks"  #: fewer than five
    PLANTED = "planted"  #: kinds of the fixed set that were not planted or detected, or were easy
    CONTROLS = "controls"  #: limits of controls that their intervals do not exclude


@dataclass(frozen=True)
class Equal:
    """The panel's AUC where failing quantities are held equal.

    Attributes
    ----------
    titles : tuple of (str, str)
        Name and band of what is held equal.
    outcome : Outcome
    auc : Estimate or None
        Within strata of the propensity score; None where no stratum has both classes.
    overlap : float
        Fraction of test examples in strata that have both classes.
    alone : float
        AUC of a classifier that sees only what is held equal.
    """

    titles: tuple[tuple[str, str], ...]
    outcome: Outcome
    auc: Estimate | None = None
    overlap: float = 0.0
    alone: float = 0.5


@dataclass(frozen=True)
class Quantities:
    """Test of a classifier that sees measured quantities alone.

    Attributes
    ----------
    auc : Estimate
        With its 95 % interval.
    p : float
        One-sided, for an AUC of 0.5.
    """

    auc: Estimate
    p: float


@dataclass(frozen=True)
class Ruling:
    """Answer of an evaluation.

    Attributes
    ----------
    kind : RulingKind
    failing : tuple of Control
        Controls that fail, those of the family that decides: of the set where it is invalid, else of the
        galaxies; the largest effect in units of its limit first.
    quantities_fail : bool
        Whether the classifier of measured quantities is above 0.5.
    equal : Equal or None
        What holding these equal leaves of the panel's AUC; None where it was not needed.
    panel_p : float
        Two-sided p-value of the panel's AUC.
    differs : bool
        Whether that is below the panel's level.
    levels : Levels
    in_these_bricks : bool
        Whether the ruling holds for these bricks only: that of the panel where a class is in fewer than
        five, that of controls in fewer than eight.
    bricks : int or None
        Bricks of the class that is found in fewer: of the test examples, or of the controls that decide.
    unbounded : tuple of Control
        Controls of the galaxies whose interval does not lie within their limit, whatever their state.
    needs : tuple of Need
        What would decide; empty where nothing is missing.
    missing : tuple of str
        Kinds of the fixed set of planted differences that were not planted, or not detected.
    """

    kind: RulingKind
    failing: tuple[Control, ...]
    quantities_fail: bool
    equal: Equal | None
    panel_p: float
    differs: bool
    levels: Levels
    in_these_bricks: bool
    bricks: int | None
    unbounded: tuple[Control, ...]
    needs: tuple[Need, ...]
    missing: tuple[str, ...]


def failing_controls(controls: Sequence[Control], *, validity: bool) -> tuple[Control, ...]:
    """Controls of one family that fail by themselves, by quantity: the largest effect over its limit first.

    Those of the set that are a consequence of a difference of the galaxies (`CONSEQUENCES`) are left out.
    """
    failing = [one for one in controls if one.state == State.FAIL]
    causes = {(one.hazard, one.band) for one in failing if not one.validity}
    found = [one for one in failing if one.validity == validity and not _follows(one, causes)]
    most = {one.name: max(other.excess for other in found if other.name == one.name) for one in found}
    return tuple(sorted(found, key=lambda one: -most[one.name]))


def _follows(control: Control, causes: set[tuple[str, str]]) -> bool:
    """Whether a control fails for one of these hazards, in its own band or in none."""
    possible = CONSEQUENCES.get(control.name, set())
    return any((hazard, band) in causes for hazard in possible for band in (control.band, ""))


def panel_differs(verdict: Verdict, levels: Levels) -> bool:
    """Whether the panel separates the classes at its level."""
    return verdict.numbers.p < levels.panel and Reason.CONSTANT_SCORE not in verdict.reasons


def quantities_fail(quantities: Quantities | None, levels: Levels) -> bool:
    """Whether the classifier of measured quantities separates the classes at its level."""
    return quantities is not None and quantities.p < levels.baseline


def rule(
    verdict: Verdict,
    controls: Sequence[Control],
    quantities: Quantities | None = None,
    equal: Equal | None = None,
    missing: Sequence[str] = (),
    levels: Levels | None = None,
) -> Ruling:
    """Combine the panel's test, the controls and what was planted.

    Parameters
    ----------
    verdict : Verdict
        Of the panel, or of the networks where there is none.
    controls : sequence of Control
    quantities : Quantities, optional
        Of the classifier of measured quantities.
    equal : Equal, optional
        What is left of the panel's AUC where failing quantities are held equal.
    missing : sequence of str
        Kinds of the fixed set of planted differences that were not planted, or not detected.
    levels : Levels, optional
    """
    levels = levels or Levels()
    invalid = failing_controls(controls, validity=True)
    failing = failing_controls(controls, validity=False)
    own = [one for one in controls if not one.validity and one.gravest == State.FAIL]
    unbounded = tuple(one for one in own if not (one.bounded or one.obstacle))
    differs, fails = panel_differs(verdict, levels), quantities_fail(quantities, levels)
    needs = _needs(verdict, unbounded, missing)
    kind = _kind(verdict, invalid, bool(failing) or fails, differs, equal, needs)
    decisive = invalid or failing
    few = verdict.numbers.bricks is not None and verdict.numbers.bricks < LEAST_CLUSTERS
    by_control = decisive and kind in (RulingKind.INVALID, RulingKind.UNSEEN)
    if kind == RulingKind.EQUIVALENT:  # every control bears it
        few = few or not all(one.rests_on_bricks for one in own if not one.obstacle)
    return Ruling(
        kind=kind,
        failing=decisive,
        quantities_fail=fails,
        equal=equal if kind in (RulingKind.EXPLAINED, RulingKind.MORE) else None,
        panel_p=verdict.numbers.p,
        differs=differs,
        levels=levels,
        in_these_bricks=few if not by_control else not any(one.rests_on_bricks for one in decisive),
        bricks=max(one.bricks for one in decisive) if by_control else verdict.numbers.bricks,
        unbounded=unbounded,
        needs=needs if kind in (RulingKind.INCONCLUSIVE, RulingKind.UNEXPLAINED) else (),
        missing=tuple(missing),
    )


def _needs(verdict: Verdict, unbounded: Sequence[Control], missing: Sequence[str]) -> tuple[Need, ...]:
    """What is missing for equivalence."""
    holds = {
        Need.EXAMPLES: Reason.WITHIN_MARGIN not in verdict.reasons,
        Need.BRICKS: Reason.FEW_BRICKS in verdict.reasons,
        Need.PLANTED: bool(missing) or Reason.POSITIVE_CONTROL_EASY in verdict.reasons,
        Need.CONTROLS: bool(unbounded),
    }
    return tuple(need for need in Need if holds[need])


def _kind(
    verdict: Verdict,
    invalid: Sequence[Control],
    fails: bool,
    differs: bool,
    equal: Equal | None,
    needs: Sequence[Need],
) -> RulingKind:
    """Kind of ruling; the first that holds."""
    gone = equal is not None and equal.outcome != Outcome.STAYS
    holds = {
        RulingKind.INVALID: bool(invalid),
        RulingKind.EXPLAINED: differs and fails and gone,
        RulingKind.MORE: differs and fails,
        RulingKind.UNSEEN: fails,
        RulingKind.EQUIVALENT: not needs and verdict.kind != Kind.NOT_LEARNT,
        RulingKind.UNEXPLAINED: differs,
        RulingKind.NOT_LEARNT: verdict.kind == Kind.NOT_LEARNT,
    }
    return next((kind for kind, holding in holds.items() if holding), RulingKind.INCONCLUSIVE)
