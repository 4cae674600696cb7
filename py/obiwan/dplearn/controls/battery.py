"""Control battery: numbers other than the network's score that may differ between the classes.

Each control compares one number that is measured of every example in the same way
(`obiwan.dplearn.controls.measure`, `obiwan.dplearn.controls.covariates`) between fake and real.  Controls are
of two families: those of how a set was made, whose failure makes it invalid, and those of the galaxies
themselves.  Each family has a level of its own at which any of its controls may be significant where nothing
differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import chi2
from scipy.stats import t as student

from obiwan.dplearn.controls.contrasts import (
    MOMENTS,
    Contrast,
    association,
    fractions,
    moments,
    noncentrality,
    place,
    shift,
)
from obiwan.dplearn.controls.questions import Question, questions
from obiwan.dplearn.controls.records import LEAST, Control, Obstacle, State, Statistic
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.twosample.ranking import Estimate, bricks_of_rarer
from obiwan.dplearn.twosample.signflips import family_test, flip_units

NUMBERS = 0.8  #: part of the level of a family that its numbers have; associations have the rest
REALISM_LEVEL = 0.008  #: rate at which any control of the galaxies may be significant where nothing differs
VALIDITY_LEVEL = 0.01  #: the same of controls of how the set was made
POWER = 0.8  #: of what is called detectable
#: Sums of a brick below this part of the error of a difference are none: where what examples add cancels, the
#: rest has one sign in all bricks, and a test by signs would find it.
ROUNDING = 1e-9


@dataclass(frozen=True)
class _Run:
    """A control that was measured, and all that its state is decided by."""

    control: Control
    contrasts: tuple[Contrast, ...] = ()  # empty for an association, and where it was not run
    kept: Array | None = None  # which examples they are of


def run_controls(
    rows: Array,
    measured: Array,
    label: Array,
    bricks: Array,
    spec: StampSpec,
) -> tuple[Control, ...]:
    """Run every control on examples of both classes.

    Parameters
    ----------
    rows : structured ndarray, shape (n,)
        Their rows of the example table.
    measured : ndarray of `obiwan.dplearn.controls.measure.measure_dtype`, shape (n,)
    label : ndarray, shape (n,)
        Real 0, fake 1; there are both.
    bricks : ndarray, shape (n,)
        Names; tests and intervals rest on whole bricks where each class is found in
        `obiwan.dplearn.twosample.signflips.LEAST_FLIPPED` or more, else they hold for these bricks only.
    spec : StampSpec

    Returns
    -------
    tuple of Control
        In a fixed order, those that were not run included.
    """
    return judge_controls(questions(rows, measured, label, bricks, spec), label, bricks)


def judge_controls(
    asked: Sequence[Question],
    label: Array,
    bricks: Array,
    levels: tuple[float, float] = (REALISM_LEVEL, VALIDITY_LEVEL),
) -> tuple[Control, ...]:
    """Answer `obiwan.dplearn.controls.questions.questions` and decide the state of each control.

    Parameters
    ----------
    asked : sequence of Question
    label, bricks : ndarray, shape (n,)
        As for `run_controls`.
    levels : tuple of float
        Of the controls of the galaxies, and of those of how the set was made.
    """
    units, on_bricks = flip_units(label, bricks)
    runs = [_measure(control, values, label, bricks, on_bricks) for control, values in asked]
    states = dict[int, Control]()
    for family, level in zip((False, True), levels, strict=True):
        members = [i for i, run in enumerate(runs) if run.control.validity == family]
        found = _decide([runs[i] for i in members], units, level)
        states |= dict(zip(members, found, strict=True))
    return tuple(states[i] for i in range(len(runs)))


def _measure(control: Control, values: Array, label: Array, bricks: Array, on_bricks: bool) -> _Run:
    """Run one control; its state is still to be decided."""
    if control.statistic == Statistic.RECOVERY:
        return _recovered(control, values, label, bricks, on_bricks)
    if control.obstacle is not None:
        return _Run(control)
    number = control.statistic in (Statistic.SHIFT, Statistic.DISTRIBUTION)
    kept = np.isfinite(values) if number else np.ones(len(values), bool)
    values, label, bricks = values[kept], label[kept], bricks[kept]
    fake = label == 1
    control = replace(control, counts=(int((~fake).sum()), int(fake.sum())), values=len(np.unique(values)))
    if number and min(control.counts) < LEAST:
        return _Run(replace(control, obstacle=Obstacle.TOO_FEW))
    count = bricks_of_rarer(label, bricks)
    control = replace(control, bricks=count, rests_on_bricks=on_bricks and count > 1)
    clusters = bricks if control.rests_on_bricks else None
    if control.statistic == Statistic.ASSOCIATION:
        effect, p = association(values, fake, np.random.default_rng(len(values)))
        return _Run(replace(control, effect=effect.value, low=effect.low, high=effect.high, p=p))
    if control.statistic == Statistic.COMPOSITION:
        return _Run(control, fractions(values, fake, clusters), kept)
    values = values.astype(np.float64)
    if control.statistic == Statistic.SHIFT:
        apart, at_real, at_fake = shift(values, fake, clusters)
        return _Run(replace(control, real=at_real, fake=at_fake), (apart,), kept)
    middle = np.mean if control.values < 4 * LEAST else np.median
    at_real, at_fake = (Estimate(float(middle(values[members])), np.nan, np.nan) for members in (~fake, fake))
    return _Run(replace(control, real=at_real, fake=at_fake), moments(values, fake, clusters), kept)


def _recovered(control: Control, values: Array, label: Array, bricks: Array, on_bricks: bool) -> _Run:
    """Run one control of the injections alone."""
    kept = np.isfinite(values) & (label == 1)
    values, bricks = values[kept], bricks[kept]
    count = len(np.unique(bricks))
    control = replace(control, counts=(0, len(values)), values=len(np.unique(values)), bricks=count)
    if len(values) < LEAST:
        return _Run(replace(control, obstacle=Obstacle.NO_TRUTH))
    control = replace(control, rests_on_bricks=on_bricks and count > 1)
    found = place(values, bricks if control.rests_on_bricks else None)
    control = replace(control, fake=found.interval)
    if control.obstacle is not None:  # it is information, and no test of the family
        ends = found.interval
        return _Run(replace(control, effect=ends.value, low=ends.low, high=ends.high))
    return _Run(control, (found,), kept)


def _decide(runs: Sequence[_Run], units: Array, level: float) -> list[Control]:
    """Controls of one family with their states.

    Differences of numbers are tested together by flips of signs, and have `NUMBERS` of the level: flips of
    eight bricks have no p-value below 1/128.  An association has no sign; those of a family share the rest
    (Bonferroni).
    """
    contrasts = [(one, run.kept) for run in runs for one in run.contrasts]
    contributions = np.zeros((int(units.max()) + 1, len(contrasts)))
    for column, (one, kept) in enumerate(contrasts):
        sums = np.bincount(units[kept], one.pulls, len(contributions))
        contributions[:, column] = np.where(np.abs(sums) > ROUNDING * one.difference.error, sums, 0.0)
    tested = (run.control for run in runs if run.control.obstacle is None)
    associations = sum(one.statistic == Statistic.ASSOCIATION for one in tested)
    share = (NUMBERS if associations else 1.0) if contrasts else 0.0
    parts = associations / (1 - share) if associations else 1.0
    family = family_test(contributions)
    decided, start = [], 0
    for run in runs:
        own = slice(start, start + len(run.contrasts))
        start = own.stop
        if run.control.obstacle is not None:
            decided.append(run.control)
        elif run.contrasts:
            p = np.minimum(1.0, family.p[own] / share)
            decided.append(_state(run, p, level, family.critical_t(level * share)))
        else:
            decided.append(_associated(run.control, parts, level))
    return decided


def _state(run: _Run, p_family: Array, level: float, critical_t: float) -> Control:
    """Control of numbers with its state, and the component that decides it."""
    control, limit = run.control, run.control.threshold
    ends = [one.interval for one in run.contrasts]
    significant = p_family < level
    sizes = np.abs([one.difference.value for one in run.contrasts])
    outermost = np.array([max(abs(end.low), abs(end.high)) for end in ends])
    # What is shown is what decides: the largest of significant differences, else the least bounded one.  A
    # location that fails comes first: what is higher or lower needs no skewness.
    chosen = int(np.argmax(np.where(significant, sizes, -1) if significant.any() else outermost))
    if run.contrasts[0].name == MOMENTS[0] and significant[0] and sizes[0] > limit:
        chosen = 0
    bounded, apart = bool((outermost <= limit).all()), run.contrasts[chosen].difference
    state = State.PASS if bounded else State.OPEN
    if significant.any():
        state = control.gravest if sizes[chosen] > limit else State.WARN
    return replace(
        control,
        state=state,
        effect=apart.value,
        component=run.contrasts[chosen].name,
        low=ends[chosen].low,
        high=ends[chosen].high,
        bounded=bounded,
        p=apart.p_value(0.0, "two-sided"),
        p_family=float(p_family[chosen]),
        detectable=float(critical_t + student.ppf(POWER, apart.freedom)) * apart.error,
    )


def _associated(control: Control, parts: float, level: float) -> Control:
    """Control of a label with its state."""
    p, bounded, freedom = min(1.0, parts * control.p), control.high <= control.threshold, control.values - 1
    state = State.PASS if bounded else State.OPEN
    if p < level:
        state = State.FAIL if control.effect > control.threshold else State.WARN
    detectable = 0.0
    if freedom:
        critical = float(chi2.isf(level / parts, freedom))
        detectable = float(np.sqrt(noncentrality(critical, freedom, 1 - POWER) / sum(control.counts)))
    return replace(control, state=state, bounded=bounded, p_family=p, detectable=detectable)
