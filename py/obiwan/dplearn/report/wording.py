"""Wording: verdicts, notices and controls in words, for terminal, page and ``metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from obiwan.dplearn.controls.records import LEAST, Control, Obstacle, Statistic
from obiwan.dplearn.evaluation.analysis import Evaluation
from obiwan.dplearn.evaluation.ensemble import ModelInfo
from obiwan.dplearn.evaluation.notices import Fact, Notice, alarms
from obiwan.dplearn.report.formatting import (
    Statement,
    amplitude_estimate,
    amplitude_words,
    catalogue,
    control_title,
    counted,
    kind_words,
    say,
    with_interval,
)
from obiwan.dplearn.report.opening import advice, scope
from obiwan.dplearn.report.rulings import control_summary, ruling_statement
from obiwan.dplearn.retraining.ablations import A_A
from obiwan.dplearn.retraining.sensitivity import SensitivityResult, summarise
from obiwan.dplearn.twosample.ranking import Estimate
from obiwan.dplearn.twosample.summary import FEW_BRICKS, LEAST_CLUSTERS
from obiwan.dplearn.twosample.verdict import EASY, EXTREME, Kind, Numbers, Reason, Verdict


def statement(verdict: Verdict, sensitivity: Sequence[str] = (), detectable: Sequence[str] = ()) -> Statement:
    """Put a verdict into words.

    Parameters
    ----------
    verdict : Verdict
    sensitivity : sequence of str
        What the sensitivity test detected, a sentence each.
    detectable : sequence of str
        The smallest differences that the test set detects.
    """
    values, lines = _values(verdict.numbers), list[str]()
    given = {"sensitivity": sensitivity, "detectable": detectable}
    for key in _points(verdict):
        lines += given[key] if key in given else [say("verdict", key, **values)]
    caveat = brick_caveat(verdict.numbers.bricks)
    return Statement(say("headline", _headline(verdict), **values), (*lines, *([caveat] if caveat else ())))


def _values(n: Numbers) -> dict[str, Any]:
    """Values of the sentences of a verdict; bounds are by the lower end of the interval."""
    pairs, shift, total = n.effect.pairs, abs(n.effect.sigmas), n.real + n.fake
    return {
        "n": n,
        "low": 0.5 - n.margin,
        "high": 0.5 + n.margin,
        "coverage": 100 * (1 - n.level),
        "least": LEAST_CLUSTERS,
        "easy": EASY,
        "pairs": f"{pairs:.0f}" if abs(n.auc.value - 0.5) >= 0.03 else f"{pairs:.1f}",
        "shift": ("more than " if n.auc.value > EXTREME else "") + f"{shift:.{1 if shift >= 0.095 else 2}f}",
        "overlap": 100 * (1 - n.effect.others),
        "total": total,
        "worth": total / n.design_effect,
    }


def _headline(verdict: Verdict) -> str:
    """Key of the headline."""
    n, reasons = verdict.numbers, verdict.reasons
    if verdict.kind == Kind.NOT_LEARNT:
        return "constant" if Reason.CONSTANT_SCORE in reasons else "not_learnt"
    if verdict.kind == Kind.DISTINGUISHABLE:
        within = "slightly" if Reason.WITHIN_MARGIN in reasons else "distinguishable"
        return "wrong_way" if Reason.WRONG_WAY in reasons else within
    if verdict.kind == Kind.EQUIVALENT:
        return "equivalent"
    few = Reason.FEW_BRICKS in reasons
    if n.needed is not None:
        return "needed_bricks" if few else "needed"
    return "few_bricks" if few else "no_control"


def _points(verdict: Verdict) -> list[str]:
    """Keys of the sentences below the headline; some stand for given ones (`statement`)."""
    n, reasons, kind = verdict.numbers, verdict.reasons, verdict.kind
    tested, constant = Reason.POSITIVE_CONTROL_FOUND in reasons, Reason.CONSTANT_SCORE in reasons
    differs, alike = kind == Kind.DISTINGUISHABLE, kind == Kind.EQUIVALENT
    # An inconclusive verdict lacks the first of these.
    wanted = kind == Kind.INCONCLUSIVE and n.needed is not None
    few = kind == Kind.INCONCLUSIVE and not wanted and Reason.FEW_BRICKS in reasons
    lacking = kind == Kind.INCONCLUSIVE and not (wanted or few)
    untested = lacking and Reason.NO_POSITIVE_CONTROL in reasons
    missed = lacking and Reason.POSITIVE_CONTROL_MISSED in reasons
    points = {
        "interval": not constant,
        "constant": constant,
        "remedy": kind == Kind.NOT_LEARNT and not constant,
        "wanted": wanted and tested,
        "wanted_both": wanted and not tested,
        "few_bricks": few,
        "no_control": untested,
        "missed": missed,
        "easy": lacking and not (untested or missed),
        "effect": differs or alike,
        "overlap": (differs or alike) and n.effect.others >= 0.01,
        "wrong_way": differs and Reason.WRONG_WAY in reasons,
        "needs_bricks": differs and Reason.WITHIN_MARGIN in reasons and tested,
        "needs_sensitivity": differs and Reason.WITHIN_MARGIN in reasons and not tested,
        "unfitted": differs and Reason.TRAINING_FAILED in reasons and not tested,
        "significant": alike and Reason.DIFFERS in reasons,
        "backed": alike,
        "sensitivity": alike or (lacking and not untested),
        "limits": alike,
        "tested": True,
        "design": n.design_effect > 1.1,
        "no_power": kind != Kind.NOT_LEARNT and n.detectable is None,
        "power": kind != Kind.NOT_LEARNT and n.detectable is not None,
        "detectable": kind != Kind.NOT_LEARNT,
    }
    return [key for key, holds in points.items() if holds]


def brick_caveat(bricks: int | None, rests_on_bricks: bool | None = None) -> str:
    """Validity of an interval over few bricks; empty for `FEW_BRICKS` or more.

    It rests on bricks from `LEAST_CLUSTERS` on, unless it is said to or not to.

    The relative error of a standard error with G - 1 degrees of freedom is 1/sqrt(2 (G - 1)).

    Examples
    --------
    >>> brick_caveat(4)
    'The interval ignores correlations within bricks and holds for these 4 bricks only.'
    """
    if bricks is None:
        return say("bricks", "unknown")
    if bricks >= FEW_BRICKS:
        return ""
    if not (bricks >= LEAST_CLUSTERS if rests_on_bricks is None else rests_on_bricks):
        return say("bricks", "one" if bricks == 1 else "least", bricks=bricks)
    wider = student.ppf(0.975, bricks - 1) / norm.ppf(0.975)
    return say("bricks", "few", bricks=bricks, wider=wider, error=100 / np.sqrt(2 * (bricks - 1)))


def ablation_words(name: str) -> str:
    """Name and content of an ablation, such as ``“ivar only” (no images: ...)``."""
    known = catalogue()["ablation"]
    says = known["null"] if name in A_A else known.get(name) or known["band"]
    return f"“{name}” ({says})"


def notice(fact: Fact) -> str:
    """Put a notice into words."""
    values = dict(fact.values)
    if fact.kind == Notice.ABLATIONS_LEFT:
        values["names"] = [ablation_words(name) for name in values["names"]]
    if fact.kind == Notice.NO_CURVE:
        values["planted"] = [kind_words(kind) for kind in values["planted"]]
    if fact.kind == Notice.WRITERS:
        values["differences"] = [
            f"{name} {_plain(real) or 'none'} against {_plain(fake) or 'none'}"
            for name, (real, fake) in values["differences"].items()
        ]
    if fact.kind == Notice.DRAWN:
        values["psf"] = _psf_kinds(values["psf"], values.get("psf_rests_on", {}))
        values["software"] = [f"{name} {number}" for name, number in values["software"].items()]
        values["gain"] = "as exposures or coadds tell" if values["gain"] is None else values["gain"]
    if fact.kind == Notice.CONTROL:
        values["title"] = control_title(values["name"], values["band"])
        values["why"] = obstacle_words(values["obstacle"], values["counts"])
    return say("notice", fact.kind.name, **{name: _plain(value) for name, value in values.items()})


def _psf_kinds(counts: Mapping[str, int], rests_on: Mapping[str, Sequence[int]]) -> list[str]:
    """Kinds of PSF, in how many bands of bricks each was drawn, and of stacks how many stars they are of."""
    stacks = {"stars": " ({} to {} stars each)".format(*rests_on["stars"])} if "stars" in rests_on else {}
    return [f"{kind} in {number} band(s) of bricks{stacks.get(kind, '')}" for kind, number in counts.items()]


def _plain(value: Any) -> str:
    """A value as text."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, Estimate):
        return with_interval(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def obstacle_words(obstacle: Obstacle, counts: tuple[int, int]) -> str:
    """Reason why a control was not run."""
    return say("obstacle", obstacle.name, real=counts[0], fake=counts[1], least=LEAST)


def training_line(model: ModelInfo) -> str:
    """Settings of a network's training, as far as they are known."""
    words = [f"{name} {value:g}" for name, value in model.settings.items()]
    return ", ".join([*words, "flipped and rotated"] if model.augmented else words)


def control_note(control: Control) -> str:
    """Values of both classes in a control, or why it was not run."""
    if control.obstacle is not None:
        return obstacle_words(control.obstacle, control.counts)
    if control.statistic in (Statistic.ASSOCIATION, Statistic.COMPOSITION):
        return counted(control.values, "different value")
    shown = "{0.value:+.4f} ({0.low:+.4f} to {0.high:+.4f})"
    if control.statistic == Statistic.DISTRIBUTION:
        shown = "{0.value:.4g}"
    places = (("fake", control.fake), ("real", control.real))
    parts = [f"{name} {shown.format(one)}" for name, one in places if one is not None]
    return "; ".join(
        filter(None, [*parts, brick_caveat(control.bricks, control.rests_on_bricks).rstrip(".")])
    )


def sensitivity_lines(results: Sequence[SensitivityResult]) -> list[str]:
    """Smallest detected amplitude of each planted difference, and its power."""
    lines, summary = [], summarise(results)
    for one in summary.results:
        name, amplitude = kind_words(one.kind), amplitude_words(one.kind, one.amplitude)
        power = f"{'more than ' if one.power > 0.99 else ''}{100 * min(one.power, 0.99):.0f} %"
        values = {"kind": name[:1].upper() + name[1:], "amplitude": amplitude, "power": power}
        key = "detected" if one.detected else "missed"
        lines.append(say("sensitivity", key, **values, auc=with_interval(one.auc)))
    if summary.left_out:
        lines.append(say("sensitivity", "left_out", examples=counted(summary.left_out, "example")))
    return lines


def detectable_lines(evaluation: Evaluation) -> list[str]:
    """Smallest detectable amplitude of each kind of difference, and those that were not detected."""
    rows = detectable_rows(evaluation)
    parts = {
        "detectable": [f"{row.kind}, {row.smallest}" for row in rows if row.smallest],
        "undetected": [f"{row.kind}, {row.planted}" for row in rows if not row.smallest],
    }
    return [say("sensitivity", key, named="; ".join(named)) for key, named in parts.items() if named]


@dataclass(frozen=True)
class DetectableRow:
    """A kind of planted difference in words: what was planted, its AUC, and the smallest detectable one."""

    kind: str
    planted: str
    auc: Estimate
    smallest: str
    ends: str


def detectable_rows(evaluation: Evaluation) -> list[DetectableRow]:
    """A row for each kind of planted difference; no smallest one where nothing was detected."""
    goal, rows = evaluation.verdict.numbers.detectable, []
    for one in evaluation.detections:
        smallest = ends = ""
        if goal is not None and one.detected:
            smallest, ends = amplitude_estimate(one.kind, one.at(goal))
        planted = amplitude_words(one.kind, one.amplitude)
        rows.append(DetectableRow(kind_words(one.kind), planted, one.auc, smallest, ends))
    return rows


def verdict_lines(evaluation: Evaluation) -> Statement:
    """The verdict of an evaluation in words."""
    lines = sensitivity_lines(evaluation.sensitivity), detectable_lines(evaluation)
    return statement(evaluation.verdict, *lines)


def summary(evaluation: Evaluation) -> list[str]:
    """Lines that the program prints: alarms, the ruling, the panel's own verdict, and what limits it."""
    a, baseline, panel = evaluation.answer, evaluation.baseline, evaluation.scored.panel
    lines = [notice(alarm) for alarm in alarms(evaluation.ablations)]
    ruling, verdict = ruling_statement(evaluation), verdict_lines(evaluation)
    told = (scope(evaluation), *ruling.explanation, *advice(evaluation.controls))
    lines += [ruling.headline, *(f"  {line}" for line in told)]
    lines += [verdict.headline, *(f"  {line}" for line in verdict.explanation)]
    accuracy, key = with_interval(a.accuracy.accuracy), "accuracy" if panel is None else "panel_accuracy"
    lines.append(say("summary", key, accuracy=accuracy, guess=a.accuracy.no_information))
    lines += network_lines(evaluation)
    if panel is not None:
        lines.append(members_line(evaluation))
    elif len(a.singles) > 1:
        each = ", ".join(f"{single.value:.3f}" for single in a.singles)
        lines.append(say("summary", "mean", count=len(a.singles), each=each))
    lines.append(control_summary(evaluation.controls))
    if baseline is not None:
        auc = with_interval(baseline.result.auc)
        lines.append(say("summary", "baseline", auc=auc, examples=baseline.examples))
    return [*lines, *(say("summary", "caution", text=notice(fact)) for fact in evaluation.cautions)]


def networks_name(evaluation: Evaluation) -> str:
    """Name of the trained networks as one classifier."""
    count = len((evaluation.networks or evaluation.scored).models)
    return say("summary", "one_network" if count == 1 else "networks", count=count)


def network_lines(evaluation: Evaluation) -> list[str]:
    """The networks' own answer and verdict, beside those of a panel; none without a panel."""
    found, verdict = evaluation.network, evaluation.network_verdict
    if found is None or verdict is None:
        return []
    name, accuracy = networks_name(evaluation), with_interval(found.accuracy.accuracy)
    values = {"Networks": name[:1].upper() + name[1:], "auc": with_interval(found.auc), "accuracy": accuracy}
    return [say("summary", "network", **values, kind=verdict.kind.value)]


def members_line(evaluation: Evaluation) -> str:
    """Members of a panel with their AUCs."""
    pairs = zip(evaluation.scored.models, evaluation.answer.singles, strict=True)
    members = ", ".join(f"{model.name} (AUC {auc.value:.3f})" for model, auc in pairs)
    return say("summary", "members", members=members)
