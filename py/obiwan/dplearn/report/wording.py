"""What a report says in words: sentences and table rows from the numbers of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from obiwan.dplearn.controls.battery import Control
from obiwan.dplearn.controls.covariates import LABELS
from obiwan.dplearn.conventions import PIXEL_SCALE
from obiwan.dplearn.evaluation.analysis import DRAWS, alarms
from obiwan.dplearn.evaluation.bins import LEAST, LEAST_VALUES
from obiwan.dplearn.evaluation.occlusion import Occlusion
from obiwan.dplearn.evaluation.records import BY_PERCENTILE, Evaluation
from obiwan.dplearn.report.formatting import (
    DASH,
    counted,
    effect,
    interval,
    number,
    probability,
    sentence,
    together,
    with_interval,
)
from obiwan.dplearn.retraining.sensitivity import summarise
from obiwan.dplearn.twosample import FEW_BRICKS, LEAST_CLUSTERS

MANY = 8  #: red controls, of which each is named with its size; more are named by quantity


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
            probability(evaluation.verdict.tost_p),
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
            words = ", ".join(LABELS[name][0] for name in found.left_out)
            text += f" Left out, for most examples of a class lack them: {words}."
        lines.append(text)
    equal = evaluation.conditional
    if equal.stratified is not None:
        words = ", ".join(LABELS[name][0] for name in equal.names)
        lines.append(
            f"At equal {words} the network has an AUC of {with_interval(equal.stratified)} within "
            f"{equal.strata} strata in which they are alike (p {probability(equal.stratified_p)}, labels "
            "exchanged within bricks and strata)."
        )
    if equal.unknown:
        words = ", ".join(LABELS[name][0] for name in equal.unknown)
        lines.append(f"Not known for most examples of both classes, and not held equal: {words}.")
    if equal.reason:
        lines.append(f"No AUC within strata: {sentence(equal.reason)}")
    return lines


def bin_notes(evaluation: Evaluation) -> list[str]:
    """What the charts of bins leave out."""
    notes = [evaluation.ideal_note] if evaluation.ideal_note else []
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
    lines += [sentence(line) for line in summarise(evaluation.sensitivity).lines if evaluation.sensitivity]
    return lines


def summary(evaluation: Evaluation) -> list[str]:
    """What the program prints: the verdict first, then what stands against it."""
    a, verdict = evaluation.answer, evaluation.verdict
    first = alarms(evaluation.ablations)
    reasons = verdict.explanation[len(first) :]
    lines = [*first, verdict.headline, *(f"  {line}" for line in reasons)]
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
    lines += [f"Caution: {line}" for line in evaluation.cautions]
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
