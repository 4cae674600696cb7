"""Text of a report: sentences and table rows from the facts and numbers of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from obiwan.dplearn.controls.battery import LEAST as LEAST_MEASURED
from obiwan.dplearn.controls.battery import Control, Obstacle, Statistic
from obiwan.dplearn.controls.covariates import quantities
from obiwan.dplearn.conventions import PIXEL_SCALE
from obiwan.dplearn.evaluation.analysis import DRAWS
from obiwan.dplearn.evaluation.bins import LEAST, LEAST_VALUES
from obiwan.dplearn.evaluation.notices import Fact, Notice, alarms
from obiwan.dplearn.evaluation.occlusion import Occlusion
from obiwan.dplearn.evaluation.records import BY_PERCENTILE, Evaluation
from obiwan.dplearn.report.formatting import (
    DASH,
    ablation_words,
    counted,
    effect,
    interval,
    number,
    probability,
    sensitivity_lines,
    sentence,
    together,
    with_interval,
)
from obiwan.dplearn.retraining.sensitivity import summarise
from obiwan.dplearn.twosample import FEW_BRICKS, LEAST_CLUSTERS
from obiwan.dplearn.twosample.effect import EXTREME
from obiwan.dplearn.twosample.verdict import EASY, Kind, Numbers, Reason, Verdict

MANY = 8  #: red controls, of which each is named with its size; more are named by quantity


@dataclass(frozen=True)
class Statement:
    """A verdict in words.

    Attributes
    ----------
    headline : str
        One sentence.
    explanation : tuple of str
        The sentences that follow it.
    """

    headline: str
    explanation: tuple[str, ...]


def statement(verdict: Verdict, sensitivity: Sequence[str] = ()) -> Statement:
    """Put a verdict into words.

    Parameters
    ----------
    verdict : Verdict
    sensitivity : sequence of str
        What the sensitivity test detected, a sentence each.
    """
    headline = _headline(verdict)
    lines = [] if Reason.CONSTANT_SCORE in verdict.reasons else [_interval_line(verdict.numbers)]
    lines += {
        Kind.DISTINGUISHABLE: _distinguishable,
        Kind.EQUIVALENT: _equivalent,
        Kind.INCONCLUSIVE: _inconclusive,
        Kind.NOT_LEARNT: _not_learnt,
    }[verdict.kind](verdict, [sentence(line) for line in sensitivity])
    return Statement(headline, (*lines, *_background(verdict)))


def _span(n: Numbers) -> str:
    return f"{0.5 - n.margin:g} to {0.5 + n.margin:g}"


def _interval_line(n: Numbers) -> str:
    ends = f"{n.auc.low:.4f} to {n.auc.high:.4f}"
    return f"AUC {n.auc.value:.4f}, {100 * (1 - n.level):g} % interval {ends}; 0.5 is guessing."


def _headline(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    n, reasons = verdict.numbers, verdict.reasons
    if verdict.kind == Kind.NOT_LEARNT:
        why = "did not fit its training set"
        if Reason.CONSTANT_SCORE in reasons:
            why = "gives every galaxy the same score"
        return f"Not learnt: the network {why}, so this is no test of the galaxies."
    if verdict.kind == Kind.DISTINGUISHABLE:
        text = "Distinguishable: the network separates injected from real galaxies"
        if Reason.WRONG_WAY in reasons:
            text = "Distinguishable in the wrong direction: the network gives real galaxies higher scores"
        return text + (
            f", by less than the margin of {n.margin:g} in AUC." if Reason.WITHIN_MARGIN in reasons else "."
        )
    if verdict.kind == Kind.EQUIVALENT:
        return f"Equivalent within the margin: the AUC of this network lies within {_span(n)}."
    if n.needed is not None:
        where = f", in {LEAST_CLUSTERS} or more bricks," if Reason.FEW_BRICKS in reasons else ""
        return (
            f"Inconclusive: neither a difference nor equivalence within {n.margin:g} in AUC is shown; about "
            f"{n.needed:,} more test examples{where} would decide."
        )
    if Reason.FEW_BRICKS in reasons:
        return "Inconclusive: the interval lies within the margin but rests on too few bricks."
    return "Inconclusive: the network detects no difference, and no sensitivity test shows that it could."


def effect_line(n: Numbers) -> str:
    """The size of the difference: pairs, standard deviations and overlap.

    What is said to be so at most is so by the lower end of the interval.
    """
    found = n.effect
    pairs = f"{found.pairs:.0f}" if abs(n.auc.value - 0.5) >= 0.03 else f"{found.pairs:.1f}"
    side = "more than " if n.auc.value > EXTREME else ""
    shift = abs(found.sigmas)
    text = (
        f"Of a real and an injected galaxy the injected one has the higher score in {pairs} of 100 pairs "
        f"(50 is guessing), as for two Gaussians {side}{shift:.{1 if shift >= 0.095 else 2}f} standard "
        "deviations apart."
    )
    if found.others >= 0.01:
        overlap = f"{100 * (1 - found.others):.0f} %"
        text += f" The score distributions of injected and real galaxies overlap by at most {overlap}."
    return text


def _distinguishable(verdict: Verdict, _: Sequence[str]) -> list[str]:
    n, reasons = verdict.numbers, verdict.reasons
    lines = [effect_line(n)]
    if Reason.WRONG_WAY in reasons:
        lines.append("An AUC below 0.5 means that test and training examples differ; check the splits.")
    if Reason.WITHIN_MARGIN in reasons:
        missing = "a sensitivity test that detects a weak planted difference (--sensitivity)"
        if Reason.POSITIVE_CONTROL_FOUND in reasons:
            missing = f"{LEAST_CLUSTERS} or more test bricks with both classes"
        lines.append(
            f"The difference is significant but lies within the margin ({_span(n)}); with {missing} the "
            "verdict would be equivalent."
        )
    if Reason.TRAINING_FAILED in reasons and Reason.POSITIVE_CONTROL_FOUND not in reasons:
        lines.append("The network did not fit its training set, yet the test examples show a difference.")
    return lines


def _equivalent(verdict: Verdict, sensitivity: Sequence[str]) -> list[str]:
    lines = [effect_line(verdict.numbers)]
    if Reason.DIFFERS in verdict.reasons:
        lines.append("The difference is significant but smaller than the margin.")
    return [
        *lines,
        "The same network detects planted differences (sensitivity test).",
        *sensitivity,
        "The verdict does not cover differences that this network cannot detect.",
    ]


def _inconclusive(verdict: Verdict, sensitivity: Sequence[str]) -> list[str]:
    n, reasons = verdict.numbers, verdict.reasons
    if n.needed is not None:
        text = f"Equivalence requires the AUC to be shown to lie within {_span(n)}"
        if Reason.POSITIVE_CONTROL_FOUND not in reasons:
            text += ", and a sensitivity test that detects a weak planted difference (--sensitivity)"
        return [text + "."]
    if Reason.FEW_BRICKS in reasons:
        return [f"Equivalence requires at least {LEAST_CLUSTERS} bricks with both classes."]
    if Reason.NO_POSITIVE_CONTROL in reasons:
        return [
            f"The interval lies within the margin ({_span(n)}), as it would for a network that can detect "
            "nothing; run --sensitivity to plant a difference."
        ]
    if Reason.POSITIVE_CONTROL_MISSED in reasons:
        return [
            "The same network does not detect what was planted, so that no detection means nothing.",
            *sensitivity,
        ]
    return [
        f"The planted differences that were detected are easy ones (AUC above {EASY:g}); plant smaller ones.",
        *sensitivity,
    ]


def _not_learnt(verdict: Verdict, _: Sequence[str]) -> list[str]:
    if Reason.CONSTANT_SCORE in verdict.reasons:
        return ["An AUC of 0.5 from such a network says nothing about the galaxies."]
    return ["Train it longer, on more examples, or with other settings."]


def _background(verdict: Verdict) -> list[str]:
    """Size of the test, its power, and the validity of the interval."""
    n = verdict.numbers
    total = n.real + n.fake
    lines = [f"Tested on {n.real:,} real and {n.fake:,} fake galaxies."]
    if n.design_effect > 1.1:
        lines.append(
            f"Galaxies of a brick share sky, depth and PSF: the {total:,} carry as much information as "
            f"{total / n.design_effect:,.0f} independent ones (design effect {n.design_effect:.1f})."
        )
    if n.detectable is not None:
        lines.append(f"This test set has 80 % power to detect a network AUC of {n.detectable:.3f}.")
    elif verdict.kind != Kind.NOT_LEARNT:
        lines.append("This test set is too small to detect even a network that is nearly always right.")
    caveat = brick_caveat(n.bricks)
    return [*lines, caveat] if caveat else lines


def brick_caveat(bricks: int | None) -> str:
    """What an interval is worth that rests on few bricks; empty for `FEW_BRICKS` or more.

    The relative error of a standard error with G - 1 degrees of freedom is 1/sqrt(2 (G - 1)).

    Examples
    --------
    >>> brick_caveat(4)
    'The interval ignores correlations within bricks and holds for these 4 bricks only.'
    """
    if bricks is None:
        return "The bricks are not known: the interval treats all examples as independent."
    if bricks >= FEW_BRICKS:
        return ""
    if bricks < LEAST_CLUSTERS:
        which = f"these {bricks} bricks" if bricks > 1 else "this brick"
        return f"The interval ignores correlations within bricks and holds for {which} only."
    wider = float(student.ppf(0.975, bricks - 1) / norm.ppf(0.975))
    return (
        f"The interval rests on {bricks} bricks: its width is uncertain by about "
        f"{100 / np.sqrt(2 * (bricks - 1)):.0f} %, and it is {wider:.1f} times as wide as for many bricks "
        "with the same scatter."
    )


#: Sentences of notices, with their values in braces; `notice` makes the rest.
NOTICES = {
    Notice.NULL_TEST: (
        "The test itself is broken: in the null test {name} the network separates random halves of one class "
        "(AUC {auc}).  Do not trust the results below before the cause is known; by chance this happens once "
        "in twenty tests."
    ),
    Notice.OTHER_DATA: (
        "{model} was trained on another training set ({trained_on}), which may contain bricks of this test "
        "set."
    ),
    Notice.NOT_LEARNT: (
        "{models} did not fit the training set; the score is the mean of all networks, as declared."
    ),
    Notice.AUGMENTED: (
        "The network was trained on flipped and rotated stamps (--augment): it cannot detect a difference "
        "that has a direction, such as an offset."
    ),
    Notice.CATALOGUES: (
        "Real galaxies have positions and fitted quantities from the data release (--real), injected ones "
        "from the injected run: these may differ where the pipeline versions do."
    ),
    Notice.SHARED_BRICKS: (
        "Objects of one brick are in several splits, and their stamps share sky: use this result for "
        "exploration only."
    ),
    Notice.NOT_LOGGED: (
        "This evaluation of the test set is not in the test-set log: the data directory cannot be written."
    ),
    Notice.OTHER_NETWORKS: (
        "The test set has been evaluated for {count:,} other network(s): the p-values hold for networks that "
        "were not selected by their test scores."
    ),
    Notice.OTHER_MARGINS: (
        "The test set has been evaluated {evaluations} times, with the margins {margins} in this order: only "
        "the first was declared before the test."
    ),
    Notice.FEW_NETWORKS: (
        "{wanted} networks of different seeds (--model): {given} given, so that the spread between trainings "
        "is not known."
    ),
    Notice.NO_SENSITIVITY: "The sensitivity test, which a verdict of equivalence requires: --sensitivity.",
    Notice.ABLATIONS_LEFT: "Ablations, --ablations: {names}.",
    Notice.CONTROL: "Control {name} {band}: {obstacle}.",
    Notice.NOTHING_PLANTED: "Nothing is planted in the mock survey: the ideal observer has an AUC of 0.5.",
    Notice.NO_CURVE: (
        "No ideal observer is shown for the planted differences ({planted}): only for an offset by itself is "
        "the scatter of the population not needed."
    ),
    Notice.IMAGES_ABSENT: (
        "The images of the mock survey are absent: the stamps could not be compared with them."
    ),
}


def notice(fact: Fact) -> str:
    """Put a notice into words."""
    values = dict(fact.values)
    if fact.kind == Notice.ABLATIONS_LEFT:
        values["names"] = [f"“{name}” ({ablation_words(name)})" for name in values["names"]]
    if fact.kind == Notice.CONTROL:
        values["obstacle"] = obstacle_words(values["obstacle"], values["counts"])
    for name, value in values.items():
        if isinstance(value, list | tuple):
            words = (f"{one:g}" if isinstance(one, float) else str(one).replace("_", " ") for one in value)
            values[name] = ", ".join(words)
    return NOTICES[fact.kind].format(**values).replace(" :", ":")  # of no band


def obstacle_words(obstacle: Obstacle, counts: tuple[int, int]) -> str:
    """Why a control was not run."""
    if obstacle == Obstacle.NO_IVAR:
        return "the stamps have no inverse variance planes"
    if obstacle == Obstacle.OTHER_ORIGIN:
        return "the catalogue's numbers have another origin for one class (truth or a table of the user)"
    return f"measured of {counts[0]} real and {counts[1]} fake examples; {LEAST_MEASURED} of each are needed"


def control_note(control: Control) -> str:
    """Where a control has the two classes, or why it was not run."""
    if control.obstacle is not None:
        return obstacle_words(control.obstacle, control.counts)
    if control.statistic == Statistic.ASSOCIATION:
        return f"{control.values} different" if control.values > 1 else "only one"
    parts = []
    for name, one in (("fake", control.fake), ("real", control.real)):
        if one is not None and control.statistic == Statistic.SHIFT:
            parts.append(f"{name} {one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f})")
        elif one is not None:
            parts.append(f"{name} {one.value:.4g}")
    caveat = brick_caveat(control.bricks)
    return "; ".join([*parts, caveat] if caveat else parts)


def verdict_lines(evaluation: Evaluation) -> Statement:
    """The verdict of an evaluation in words."""
    lines = sensitivity_lines(summarise(evaluation.sensitivity))
    return statement(evaluation.verdict, lines)


def answer_rows(evaluation: Evaluation) -> list[tuple[str, str, str, str]]:
    """The answer in numbers: quantity, value, interval, what chance gives."""
    a, c = evaluation.answer, evaluation.calibration
    rows = [
        ("AUC", number(a.auc.value, 4), interval(a.auc, 4), "0.5"),
        (f"p, labels exchanged within bricks ({DRAWS:,} times)", probability(a.permutation_p), DASH, DASH),
        (
            f"p, labels of whole bricks swapped ({DRAWS:,} times{_floor(evaluation)})",
            probability(a.flip_p),
            DASH,
            DASH,
        ),
        (
            "accuracy, fake if the score exceeds 0.5",
            number(a.accuracy.accuracy.value, 4),
            interval(a.accuracy.accuracy, 4),
            number(a.accuracy.no_information, 4),
        ),
        (
            "fakes called fake, reals called real",
            f"{a.accuracy.tpr:.3f}, {a.accuracy.tnr:.3f}",
            DASH,
            "add up to 1",
        ),
        ("p of the accuracy", probability(a.accuracy.p), DASH, DASH),
        ("design effect of sharing bricks", number(a.design_effect), DASH, "1"),
    ]
    which = "recalibrated" if c.helps else "as scored"
    variation, divergence = c.bounds_raw.total_variation_auc, c.best.jensen_shannon
    rows += [
        ("total variation, from the AUC, at least", number(variation.low, 4), DASH, "0"),
        (f"Jensen-Shannon divergence, {which} (nats), at least", number(divergence.low, 4), DASH, "0"),
        (
            f"cross-entropy, {which} (nats)",
            number(c.best.bce.value, 4),
            interval(c.best.bce, 4),
            "0.6931",
        ),
        (
            f"p of the test for equivalence (margin {evaluation.settings['margin']:g})",
            probability(evaluation.verdict.numbers.tost_p),
            DASH,
            DASH,
        ),
    ]
    return rows


def _floor(evaluation: Evaluation) -> str:
    """What the p-value of swapped bricks cannot be smaller than, where bricks are few."""
    scored = evaluation.scored
    both = np.intersect1d(*(scored.bricks[scored.labels == value] for value in (0, 1)))
    if len(both) >= FEW_BRICKS:
        return ""
    return f"; no smaller than {2.0 ** -len(both):.1g} with {counted(len(both), 'brick')}"


def baseline_lines(evaluation: Evaluation) -> list[str]:
    """The metadata baseline and the AUC at equal magnitude, colour and size."""
    lines = []
    found, network = evaluation.baseline, evaluation.answer.auc
    names = {one.key: one.title for one in quantities(evaluation.spec)}
    if found is None:
        lines.append(
            "Nothing but the pixels is known of these examples: there is no baseline to compare with."
        )
    else:
        by = "brick" if found.result.by == "bricks" else "example (bricks are too few)"
        text = (
            f"Gradient boosting on {len(found.result.names)} measured quantities alone, with no look at the "
            f"pixels and cross-fitted by {by}, has an AUC of {with_interval(found.result.auc)} on all "
            f"{found.examples:,} examples and {with_interval(found.test_auc)} on those of the test; the "
            f"network has {with_interval(network)} there."
        )
        if found.result.auc.low > 0.5:
            text += (
                " The classes are therefore not matched: part of what the network tells may be brightness, "
                "size or depth; see its AUC at equal quantities."
            )
        else:
            text += " By these quantities the classes are not seen to differ."
        if found.left_out:
            words = ", ".join(names[name] for name in found.left_out)
            text += f" Left out, for most examples of a class lack them: {words}."
        lines.append(text)
    equal = evaluation.conditional
    if equal.stratified is not None:
        words = ", ".join(names[name] for name in equal.names)
        lines.append(
            f"At equal {words} the network has an AUC of {with_interval(equal.stratified)} within "
            f"{equal.strata} strata in which they are alike (p {probability(equal.stratified_p)}, labels "
            "exchanged within bricks and strata)."
        )
    if equal.unknown:
        words = ", ".join(names[name] for name in equal.unknown)
        lines.append(f"Not known for most examples of both classes, and not held equal: {words}.")
    if equal.reason:
        lines.append(f"No AUC within strata: {sentence(equal.reason)}")
    return lines


def bin_notes(evaluation: Evaluation) -> list[str]:
    """What the charts of bins leave out."""
    notes = [notice(fact) for fact in evaluation.mock]
    empty = [t.label for t in evaluation.bins if not any(b.auc is not None for b in t.bins)]
    if empty:
        notes.append(f"Not known, the same for all, or too few examples or bricks: {', '.join(empty)}.")
    if "camera" not in {t.key for t in evaluation.bins}:
        notes.append("Cameras are not told apart: the examples have one at most that is known.")
    coarse = [t.label for t in evaluation.bins if t.coarse]
    if coarse:
        notes.append(
            f"Not drawn, for they have fewer than {LEAST_VALUES} values, those of "
            f"{counted(evaluation.answer.bricks, 'brick')}, and single bricks make no trend: "
            f"{', '.join(coarse)}. The numbers are in the tables."
        )
    notes.append(
        "PSF width and depth are divided in r alone: those of the other bands rise and fall with them, and "
        "every further bin makes the correction of all harsher."
    )
    small = sum(b.auc is None for t in evaluation.bins for b in t.bins)
    if small:
        on_bricks = evaluation.answer.rests_on_bricks
        bricks = f", or come from fewer than {LEAST_CLUSTERS} bricks," if on_bricks else ""
        notes.append(f"{small} bins have fewer than {LEAST} examples of a class{bricks} and no AUC.")
    missing = [f"{t.label} of {t.unknown:,}" for t in evaluation.bins if t.unknown and t.key != BY_PERCENTILE]
    if missing:
        notes.append(f"Not known for some examples: {', '.join(missing)}.")
    return notes


def occlusion_line(found: Occlusion, name: str) -> str:
    """Where in the stamp the classes differ to the network, in a sentence or two."""
    start = (
        f"On {found.counts[0]} real and {found.counts[1]} fake test examples the network ({name}) has an "
        f"AUC of {with_interval(found.whole)}"
    )
    if found.whole.low <= 0.5:
        return f"{start}: it is not seen to tell them apart, so that there is no place to ask for."
    last = len(found.radii) - 1 if found.telling is None else found.telling
    radius = f"{found.radii[last] * PIXEL_SCALE:.1f} arcsec"
    inner, outer = found.inner[last], found.outer[last]
    text = (
        f"{start}. With everything beyond {radius} taken from another example it has "
        f"{with_interval(inner)}, with everything within it {with_interval(outer)}: "
    )
    if found.telling is not None:
        return text + f"what tells the classes apart lies within {radius}; beyond it nothing is seen to."
    if outer.low > 0.5:
        return text + f"even beyond {radius} something tells the classes apart."
    return text + "so few examples do not say where the classes differ."


def looks_lines(evaluation: Evaluation) -> list[str]:
    """What occlusion says."""
    if evaluation.occlusion is None:
        return ["Occlusion was not run: the network gives every galaxy the same score."]
    return [occlusion_line(evaluation.occlusion, evaluation.scored.models[0].name)]


def calibration_lines(evaluation: Evaluation) -> list[str]:
    """How far scores mean what they say."""
    found = evaluation.calibration
    return [
        f"Expected calibration error {found.raw.ece:.3f} as scored, {found.recalibrated.ece:.3f} after "
        "isotonic recalibration on the validation split; perfect calibration would show "
        f"{found.raw.ece_noise:.3f} on so many examples. Brier score {found.raw.brier:.4f} as scored, "
        f"{found.recalibrated.brier:.4f} recalibrated; 0.25 is that of a network that knows nothing."
    ]


def retraining_lines(evaluation: Evaluation) -> list[str]:
    """What the networks that were trained again are for."""
    lines = []
    models = evaluation.scored.models
    if len(models) > 1:
        lines.append(
            f"Network and settings are those of {models[0].name}, the first of {len(models)}; the others "
            "were not trained again."
        )
    if evaluation.ablations:
        lines.append(
            "Ablations: what is left when a part of every cutout is taken away. With the object masked an "
            "AUC above 0.5 is leakage and not galaxies. By the inverse variances alone it is leakage, or a "
            "difference in brightness or size, which the photons of the galaxies leave there: look at the "
            "controls of flux, magnitude and size. Real against real must be 0.5. Each p is of a difference "
            "from 0.5, with all ablations considered (Holm)."
        )
    if evaluation.sensitivity:
        lines.append(
            "Positive control: labels drawn at random within brick and class, and a known difference "
            "planted in one half. What is found there is what such a network can find with so many "
            "examples; that it would have found as much between fakes and reals is likely, not proved."
        )
    return [*lines, *map(sentence, sensitivity_lines(summarise(evaluation.sensitivity)))]


def summary(evaluation: Evaluation) -> list[str]:
    """What the program prints: the verdict first, then what stands against it."""
    a, verdict = evaluation.answer, verdict_lines(evaluation)
    lines = [notice(alarm) for alarm in alarms(evaluation.ablations)]
    lines += [verdict.headline, *(f"  {line}" for line in verdict.explanation)]
    lines.append(
        f"Accuracy {with_interval(a.accuracy.accuracy)}; guessing the most numerous class: "
        f"{a.accuracy.no_information:.3f}."
    )
    if len(a.singles) > 1:
        spread = ", ".join(f"{single.value:.3f}" for single in a.singles)
        lines.append(f"The score is the mean of {len(a.singles)} networks, whose own AUCs are {spread}.")
    lines.append(control_summary(evaluation.controls))
    if evaluation.baseline is not None:
        lines.append(
            f"Measured quantities alone have an AUC of {with_interval(evaluation.baseline.result.auc)}."
        )
    lines += [f"Caution: {notice(fact)}" for fact in evaluation.cautions]
    return lines


def control_summary(controls: Sequence[Control]) -> str:
    """The controls in one line."""
    lights = {
        light: [c for c in controls if c.light == light] for light in ("red", "amber", "green", "not run")
    }
    counts = ", ".join(f"{len(found)} {light}" for light, found in lights.items())
    text = f"Controls: {counts}."
    red = lights["red"]
    if len(red) > MANY:
        text += f" Red: {', '.join(together(red))}."
    elif red:
        text += " Red: " + "; ".join(f"{c.title} {effect(c)}" for c in red) + "."
    return text
