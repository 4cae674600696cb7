"""Sections of the report: the sentences and table rows of each part of the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from obiwan.dplearn.controls.covariates import quantities
from obiwan.dplearn.evaluation.analysis import BY_PERCENTILE, DRAWS, Baseline, Conditional, Evaluation
from obiwan.dplearn.evaluation.bins import LEAST, LEAST_VALUES, Bins
from obiwan.dplearn.evaluation.notices import alarms, networks_among, own_checksums
from obiwan.dplearn.planning.cutflow import merged
from obiwan.dplearn.referees.testlog import Ledger
from obiwan.dplearn.report import wording
from obiwan.dplearn.report.findings import remedies
from obiwan.dplearn.report.formatting import (
    DASH,
    amplitude_words,
    counted,
    interval,
    kind_words,
    number,
    probability,
    quantity_title,
    say,
    with_interval,
)
from obiwan.dplearn.report.opening import clusters, input_trees, scope
from obiwan.dplearn.report.rulings import ruling_statement
from obiwan.dplearn.retraining.ablations import A_A
from obiwan.dplearn.twosample.ranking import Estimate
from obiwan.dplearn.twosample.summary import FEW_BRICKS, LEAST_CLUSTERS, holm

LEAST_LOSS = 0.0005  #: of AUC; what contributes less is not listed
MOST_IMPORTANT = 8  #: quantities that are listed

Row = tuple[str, str, str, str]
Names = Mapping[str, str]


def text_of(evaluation: Evaluation) -> dict[str, Any]:
    """All sentences and table rows of a report that depend on the evaluation, by part of the page."""
    names = {one.key: quantity_title(one) for one in quantities(evaluation.spec)}
    ruling, to_mend = ruling_statement(evaluation), remedies(evaluation.controls)
    baseline, found = evaluation.baseline, evaluation.calibration
    return {
        "ruling": ruling,
        "scope": scope(evaluation),
        "remedies": to_mend,
        "lead": [] if to_mend else ruling.explanation[:1],
        "noticed": wording.detectable_lines(evaluation),
        "verdict": wording.verdict_lines(evaluation),
        "network": wording.network_lines(evaluation),
        "alarms": [wording.notice(fact) for fact in alarms(evaluation.ablations)],
        "cautions": [wording.notice(fact) for fact in evaluation.cautions],
        "not_run": [wording.notice(fact) for fact in evaluation.not_run],
        "answer": answer_rows(evaluation),
        "tested": tested(evaluation),
        "flow": merged(*(dict(evaluation.data["cut_flow"].get(name, ())) for name in ("real", "fake"))),
        "baseline": [
            *baseline_lines(baseline, evaluation.answer.auc, names),
            *conditional_lines(evaluation.conditional, names),
        ],
        "importance": importance(baseline, names),
        "bins": [*map(wording.notice, evaluation.mock), *bin_notes(evaluation)],
        "occlusion": [" ".join(occlusion_lines(evaluation))],
        "calibration": [say("calibration", "ece", raw=found.raw, new=found.recalibrated)],
        "retraining": list(retraining_lines(evaluation)),
        "detectable": wording.detectable_rows(evaluation),
        "retrained": retrained(evaluation),
        "provenance": provenance(evaluation),
    }


def answer_rows(evaluation: Evaluation) -> list[Row]:
    """The result in numbers: quantity, value, interval, value by chance."""
    a, c, verdict = evaluation.answer, evaluation.calibration, evaluation.verdict.numbers
    accuracy = a.accuracy
    named = {"draws": DRAWS, "floor": _floor(evaluation), "margin": verdict.margin}
    named["networks"], own = wording.networks_name(evaluation), evaluation.network

    def row(key: str, value: str, chance: str = DASH, ends: str = DASH) -> Row:
        return say("row", key, **named), value, ends, chance

    def estimate(key: str, one: Estimate, chance: str) -> Row:
        return row(key, number(one.value, 3), chance, interval(one, 3))

    alone: list[Row] = []
    if own is not None:
        rate, guess = own.accuracy.accuracy, number(own.accuracy.no_information, 3)
        alone = [estimate("network", own.auc, "0.5"), estimate("network_accuracy", rate, guess)]
    return [
        estimate("auc" if evaluation.scored.panel is None else "panel", a.auc, "0.5"),
        row("permutation", probability(a.permutation_p)),
        row("flip", probability(a.flip_p)),
        estimate("accuracy", accuracy.accuracy, number(accuracy.no_information, 3)),
        row("rates", f"{accuracy.tpr:.3f}, {accuracy.tnr:.3f}", "sum is 1"),
        row("design", number(a.design_effect), "1"),
        row("clusters", clusters(a) if a.rests_on_bricks else say("row", "examples")),
        row("variation", number(c.bounds_raw.total_variation_auc.low, 3), "0"),
        row("tost", probability(verdict.tost_p)),
        *alone,
    ]


def _floor(evaluation: Evaluation) -> str:
    """Least p-value of swapped bricks, where bricks are few."""
    scored = evaluation.scored
    both = np.intersect1d(*(scored.clusters[scored.labels == value] for value in (0, 1)))
    if len(both) >= FEW_BRICKS:
        return ""
    return say("row", "floor", least=2.0 ** -len(both), bricks=clusters(evaluation.answer, len(both)))


def _listed(keys: Sequence[str], names: Names) -> str:
    return ", ".join(names[key] for key in keys)


def baseline_lines(found: Baseline | None, classifier: Estimate, names: Names) -> list[str]:
    """The metadata baseline beside the tested score."""
    if found is None:
        return [say("baseline", "none")]
    auc = found.result.auc
    values = {
        "count": len(found.result.names),
        "by": "brick" if found.result.by == "bricks" else "example (there are too few bricks)",
        "examples": found.examples,
    }
    aucs = zip(("auc", "test", "classifier"), (auc, found.test_auc, classifier), strict=True)
    parts = [say("baseline", "auc", **values, **{key: with_interval(one) for key, one in aucs})]
    parts.append(say("baseline", "differs" if auc.low > 0.5 else "alike"))
    if found.left_out:
        parts.append(say("baseline", "left_out", names=_listed(found.left_out, names)))
    return [" ".join(parts)]


def conditional_lines(equal: Conditional, names: Names) -> list[str]:
    """The AUC at equal magnitude, colour and size."""
    lines = []
    if equal.stratified is not None:
        auc, p = with_interval(equal.stratified), probability(equal.stratified_p)
        held = _listed(equal.names, names)
        lines.append(say("baseline", "equal", names=held, auc=auc, strata=equal.strata, p=p))
    if equal.unknown:
        lines.append(say("baseline", "unequal", names=_listed(equal.unknown, names)))
    if equal.reason:
        lines.append(say("baseline", "no_strata", reason=equal.reason.rstrip(".")))
    return lines


def importance(found: Baseline | None, names: Names) -> list[tuple[str, float]]:
    """Quantities that the baseline uses most, with the loss of AUC when one is shuffled."""
    first = [] if found is None else list(found.result.importance.items())[:MOST_IMPORTANT]
    return [(names[name], loss) for name, loss in first if loss >= LEAST_LOSS]


def bin_notes(evaluation: Evaluation) -> Iterator[str]:
    """Notes on what the charts of bins leave out."""
    tables, spec = evaluation.bins, evaluation.spec

    def named(chosen: Sequence[Bins]) -> str:
        return ", ".join(quantity_title(table.quantity) for table in chosen)

    empty = [table for table in tables if not any(b.auc is not None for b in table.bins)]
    if empty:
        yield say("bins", "empty", names=named(empty))
    if "camera" not in {table.key for table in tables}:
        yield say("bins", "camera")
    coarse = [table for table in tables if table.coarse]
    if coarse:
        bricks = counted(evaluation.answer.bricks, "brick")
        yield say("bins", "coarse", bricks=bricks, least=LEAST_VALUES, names=named(coarse))
    if len(spec.bands) > 1:
        yield say("bins", "reference", band=spec.reference)
    small = sum(b.auc is None for table in tables for b in table.bins)
    if small:
        key = "small_bricks" if evaluation.answer.rests_on_bricks else "small"
        yield say("bins", key, count=small, least=LEAST, bricks=LEAST_CLUSTERS)
    unknown = [table for table in tables if table.unknown and table.key != BY_PERCENTILE]
    if unknown:
        missing = (f"{quantity_title(table.quantity)} of {table.unknown:,}" for table in unknown)
        yield say("bins", "missing", names=", ".join(missing))


def occlusion_lines(evaluation: Evaluation) -> Iterator[str]:
    """Radius within which the network detects the difference."""
    found = evaluation.occlusion
    if found is None:
        yield say("occlusion", "none")
        return
    name, (real, fake) = networks_among(evaluation.scored, evaluation.networks)[0].name, found.counts
    yield say("occlusion", "whole", real=real, fake=fake, name=name, auc=with_interval(found.whole))
    if found.whole.low <= 0.5:
        yield say("occlusion", "alike")
        return
    last = len(found.radii) - 1 if found.telling is None else found.telling
    radius, outer = f"{found.radii[last] * evaluation.spec.pixel_scale:.1f} arcsec", found.outer[last]
    parts = {"inner": with_interval(found.inner[last]), "outer": with_interval(outer)}
    yield say("occlusion", "parts", radius=radius, **parts)
    key = "within" if found.telling is not None else "beyond" if outer.low > 0.5 else "unclear"
    yield say("occlusion", key, radius=radius)


def retraining_lines(evaluation: Evaluation) -> Iterator[str]:
    """Purpose of the retrained networks, and what they detect."""
    models = networks_among(evaluation.scored, evaluation.networks)
    if len(models) > 1 and (evaluation.ablations or evaluation.sensitivity):
        yield say("retraining", "first", name=models[0].name, count=len(models))
    if evaluation.ablations:
        yield say("retraining", "ablations")
    if evaluation.detections:
        yield say("sensitivity", "planted", stamps=max(one.stamps for one in evaluation.detections))
    if evaluation.sensitivity:
        yield say("retraining", "sensitivity")
    yield from wording.sensitivity_lines(evaluation.sensitivity)


def retrained(evaluation: Evaluation) -> list[tuple[str, Estimate, float, str, str]]:
    """Rows of retrained networks: trained on, AUC, corrected p, state of a null test, result."""
    rows = []
    adjusted = holm(np.array([result.p for result in evaluation.ablations], float))
    for result, p in zip(evaluation.ablations, adjusted, strict=True):
        state, says = "", f"{result.by}, {'learnt' if result.learnt else 'did not learn'}"
        if result.name in A_A:
            state, says = ("fail", "must be 0.5") if alarms([result]) else ("pass", "0.5, as it must be")
        rows.append((result.name, result.auc, float(p), state, says))
    for one in evaluation.sensitivity:
        says = f"detected; power {min(one.power, 0.99):.2f}" if one.detected else "not detected"
        says += "" if one.learnt else "; did not learn"
        amplitude = amplitude_words(one.kind, one.amplitude)
        name = say("retraining", "planted", kind=kind_words(one.kind), amplitude=amplitude)
        rows.append((name, one.auc, math.nan, "", says))
    return rows


def tested(evaluation: Evaluation) -> str:
    """The test set in a few sentences."""
    data, config, ledger = evaluation.data, evaluation.data["config"], evaluation.scored.ledger
    counts = data["counts"]["test"]
    key = "object" if config.get("split") == "object" else "one" if counts["bricks"] == 1 else "many"
    values = {**counts, "bricks": counted(counts["bricks"], "brick"), "where": say("tested", key)}
    parts = [say("tested", "counts", **values)]
    if config:
        names = ("select", "reals_from", "centers", "balance", "split")
        parts.append(say("tested", "config", **{name: config.get(name) for name in names}))
    if ledger is not None:
        if own_checksums(evaluation.scored, evaluation.networks).issuperset(ledger.networks):
            key = "retrained" if ledger.retrained else "alone"
            parts.append(say("tested", key, count=len(ledger.retrained)))
        if len(ledger.openings) > 1:
            parts.append(say("tested", "again", count=len(ledger.openings)))
    return " ".join(parts)


def provenance(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Origin of data, settings and software: what, and which."""
    data = evaluation.data

    def listed(values: Mapping[str, Any]) -> str:
        return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)

    return [
        ("training set", say("provenance", "checksum", **data)),
        *(("input tree", tree) for tree in input_trees(data)),
        ("selection and seed", listed(data["config"])),
        ("settings of this evaluation", listed(evaluation.settings)),
        ("evaluations of this test set", _ledger(evaluation.scored.ledger)),
        ("software", listed(evaluation.versions)),
    ]


def _ledger(ledger: Ledger | None) -> str:
    """The test-set log in one line."""
    if ledger is None:
        return say("provenance", "unlogged")
    kinds = {"networks": ledger.networks, "retrained": ledger.retrained, "evaluations": ledger.openings}
    text = say("provenance", "log", **{kind: len(found) for kind, found in kinds.items()})
    margins = dict.fromkeys(opening.margin for opening in ledger.openings)
    return text + "".join(f", margin {margin:g}" for margin in margins)
