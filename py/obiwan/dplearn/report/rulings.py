"""Ruling and controls in words, for terminal, page and ``metrics.json``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from obiwan.dplearn.controls.records import AUC, Control, State
from obiwan.dplearn.evaluation.analysis import Evaluation
from obiwan.dplearn.evaluation.equal import QUANTITIES
from obiwan.dplearn.evaluation.ruling import Equal, Need, Outcome, RulingKind
from obiwan.dplearn.report.findings import differences
from obiwan.dplearn.report.formatting import (
    Statement,
    amplitude_estimate,
    control_title,
    counted,
    effect,
    kind_words,
    probability,
    say,
    together,
    with_interval,
)
from obiwan.dplearn.twosample.ranking import GUESS
from obiwan.dplearn.twosample.summary import LEAST_CLUSTERS
from obiwan.dplearn.twosample.verdict import Kind, Reason

MANY = 8  #: failing controls, of which each is named with its size; more are named by quantity


def by_state(controls: Sequence[Control]) -> dict[State, list[Control]]:
    """Controls of each state."""
    return {state: [control for control in controls if control.state == state] for state in State}


def control_summary(controls: Sequence[Control]) -> str:
    """The controls in one line."""
    states = by_state(controls)
    text = f"All controls: {', '.join(f'{len(found)} {state.value}' for state, found in states.items())}."
    failing = states[State.FAIL]
    return f"{text} Fail: {listed(failing)}." if failing else text


def _titles(controls: Sequence[Control]) -> list[tuple[str, str]]:
    return [(one.name, one.band) for one in controls]


def listed(controls: Sequence[Control]) -> str:
    """Controls with their effects, or their names where they are many."""
    if len(controls) > MANY:
        return ", ".join(together(_titles(controls)))
    return "; ".join(f"{control_title(one.name, one.band)} {effect(one)}" for one in controls)


def ruling_statement(evaluation: Evaluation) -> Statement:
    """The answer of an evaluation: a headline, and what it rests on."""
    ruling = evaluation.ruling
    values = {
        "names": _failing_names(evaluation),
        "where": _where(evaluation),
        "classifier": _classifier(evaluation),
        "margin": evaluation.verdict.numbers.margin,
        "percent": 100 * ruling.levels.panel / 2,  # its test is two-sided
    }
    wrong_way = ruling.kind == RulingKind.UNEXPLAINED and Reason.WRONG_WAY in evaluation.verdict.reasons
    key = ("ruling_part", "wrong_way") if wrong_way else ("ruling", ruling.kind.name)
    headline = say(*key, **values)
    return Statement(headline, tuple(_points(evaluation)))


def _classifier(evaluation: Evaluation) -> str:
    """What is tested, as a noun."""
    panel = evaluation.scored.panel is not None
    return say("ruling_part", "panel" if panel else "networks")


def _where(evaluation: Evaluation) -> str:
    """That the ruling holds for these bricks only; else nothing."""
    ruling = evaluation.ruling
    if not ruling.in_these_bricks:
        return ""
    one = ruling.bricks == 1
    return say("ruling_part", "this_brick" if one else "these_bricks", bricks=ruling.bricks)


def _failing_names(evaluation: Evaluation) -> str:
    """Quantities that fail, the largest effects first."""
    ruling = evaluation.ruling
    names = differences(ruling.failing)
    if not names and ruling.quantities_fail:
        names = [QUANTITIES[0]]
    return "; ".join(names)


def _points(evaluation: Evaluation) -> Iterator[str]:
    """The sentences below the headline."""
    ruling = evaluation.ruling
    if ruling.failing:
        yield say("ruling_point", "failing", listed=listed(ruling.failing))
    if ruling.quantities_fail and evaluation.baseline is not None:
        yield say("ruling_point", "quantities", auc=with_interval(evaluation.baseline.result.auc))
    if ruling.equal is not None:
        yield _equal_line(ruling.equal, _classifier(evaluation))
    if evaluation.verdict.kind == Kind.DISTINGUISHABLE and not ruling.differs:
        level, p = ruling.levels.panel, probability(ruling.panel_p)
        yield say("ruling_point", "close", p=p, level=level, classifier=_classifier(evaluation))
    if ruling.needs and ruling.kind == RulingKind.INCONCLUSIVE:
        yield say("ruling_point", "needs", needs="; ".join(_needs(evaluation)))
    yield from _margin_lines(evaluation)
    yield say("ruling_point", "states", **_counts(evaluation))
    levels = {name: 100 * value for name, value in vars(ruling.levels).items()}
    yield say(
        "ruling_point",
        "levels",
        **levels,
        family=100 * ruling.levels.family,
        classifier=_classifier(evaluation),
    )


def _equal_line(equal: Equal, classifier: str) -> str:
    """What is left of the AUC where failing quantities are held equal."""
    names = ", ".join(together(equal.titles))
    known = {Outcome.GONE: "gone", Outcome.STAYS: "stays", Outcome.NO_OVERLAP: "no_overlap"}
    auc = "" if equal.auc is None else with_interval(equal.auc)
    traces = equal.outcome == Outcome.GONE and equal.auc is not None and equal.auc.low > GUESS
    key = "traces" if traces else known[equal.outcome]
    values = {"names": names, "auc": auc, "overlap": 100 * equal.overlap, "classifier": classifier}
    values |= {"alone": equal.alone, "limit": AUC}
    return say("ruling_point", key, **values)


def _needs(evaluation: Evaluation) -> Iterator[str]:
    """What would decide, a phrase each."""
    ruling, numbers = evaluation.ruling, evaluation.verdict.numbers
    for need in ruling.needs:
        match need:
            case Need.EXAMPLES if numbers.needed is None:
                yield say("ruling_need", "more")
            case Need.EXAMPLES:
                yield say("ruling_need", "examples", needed=numbers.needed)
            case Need.BRICKS:
                yield say("ruling_need", "bricks", least=LEAST_CLUSTERS)
            case Need.PLANTED:
                key = "planted" if ruling.missing else "weaker"
                yield say("ruling_need", key, kinds=", ".join(map(kind_words, ruling.missing)))
            case Need.CONTROLS:
                yield say("ruling_need", "controls", controls=counted(len(ruling.unbounded), "control"))


def _margin_lines(evaluation: Evaluation) -> Iterator[str]:
    """The margin as amplitudes of each planted kind of difference, or the AUC of declared ones."""
    margin = evaluation.settings["margin"]
    if "declared" in evaluation.settings:
        yield say("ruling_point", "declared", declared=evaluation.settings["declared"], margin=margin)
    named = []
    for one in evaluation.detections:
        if one.detected:
            value, ends = amplitude_estimate(one.kind, one.at(GUESS + margin))
            named.append(f"{kind_words(one.kind)} {value} ({ends})")
    if named:
        yield say("ruling_point", "margin", margin=margin, named="; ".join(named))


def _counts(evaluation: Evaluation) -> dict[str, int]:
    """How many controls of the galaxies are of each state."""
    own = [one for one in evaluation.controls if not one.validity]
    return {state.name.lower(): len(found) for state, found in by_state(own).items()} | {"all": len(own)}
