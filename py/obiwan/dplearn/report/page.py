"""The page: an HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from obiwan.dplearn.controls.covariates import quantities
from obiwan.dplearn.evaluation.notices import alarms
from obiwan.dplearn.evaluation.records import Evaluation
from obiwan.dplearn.report import formatting, provenance, wording
from obiwan.dplearn.report.glossary import GLOSSARY
from obiwan.dplearn.report.pictures import Picture
from obiwan.dplearn.retraining.ablations import A_A
from obiwan.dplearn.twosample import holm

if TYPE_CHECKING:
    from markupsafe import Markup

SYMBOLS = {
    "red": "\N{BLACK SQUARE}",
    "amber": "\N{BLACK UP-POINTING TRIANGLE}",
    "green": "\N{BLACK CIRCLE}",
    "not run": "\N{WHITE CIRCLE}",
}
LEAST_LOSS = 0.0005  #: of AUC; what contributes less is not listed
WIDE = 6.0  #: inches; wider pictures have a row of the page to themselves
TITLES = {
    "answer": "The number",
    "tested": "What was tested",
    "controls": "Controls, before any claim",
    "baseline": "What can be told without the pixels",
    "where": "Where they differ",
    "looks": "What the network looks at",
    "galleries": "The examples",
    "calibration": "Do the scores mean what they say?",
    "retraining": "The network trained again",
    "notrun": "What was not run",
    "provenance": "Where everything comes from",
    "glossary": "Words",
}
_HERE = Path(__file__).parent / "html"


def embedded(picture: Picture, png: bytes) -> dict[str, Any]:
    """A picture as the template needs it, its file inside."""
    return {
        "name": picture.name,
        "caption": picture.caption,
        "alt": picture.alt,
        "wide": picture.width > WIDE,
        "pixels": struct.unpack(">II", png[16:24]),  # of the IHDR chunk
        "base64": base64.b64encode(png).decode(),
    }


def flags(text: str) -> Markup:
    """A sentence as HTML, its options set like code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(--[a-z]+)", r"<code>\1</code>", str(escape(text))))


def retraining_rows(evaluation: Evaluation) -> list[tuple[str, Any, float, str, str]]:
    """Rows of the table of retrained networks: what on, AUC, corrected p, light, words."""
    rows = []
    known = np.array([result.p for result in evaluation.ablations], float)
    found = np.full(len(known), np.nan)
    found[np.isfinite(known)] = holm(known[np.isfinite(known)])
    for result, p in zip(evaluation.ablations, found, strict=True):
        light, says = "", "learnt" if result.learnt else "did not learn"
        if result.name in A_A:
            light, says = ("red", "must be 0.5") if alarms([result]) else ("green", "0.5, as it must be")
        rows.append((result.name, result.auc, float(p), light, says))
    for result in evaluation.sensitivity:
        says = f"detected; power {min(result.power, 0.99):.2f}" if result.detected else "not detected"
        if not result.learnt:
            says += "; did not learn"
        amplitude = formatting.amplitude_words(result.kind, result.amplitude)
        planted = f"planted: {formatting.kind_words(result.kind)}, {amplitude}"
        rows.append((planted, result.auc, math.nan, "", says))
    return rows


def render(evaluation: Evaluation, shown: Mapping[str, list[dict[str, Any]]]) -> str:
    """The page.

    Parameters
    ----------
    evaluation : Evaluation
    shown : mapping
        Pictures by section, as the template needs them.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    environment.filters |= {
        "number": formatting.number,
        "interval": formatting.interval,
        "interval_of": formatting.with_interval,
        "p": formatting.probability,
        "thousands": formatting.thousands,
        "sentence": formatting.sentence,
        "effect": formatting.effect,
        "note": wording.control_note,
        "extents": formatting.extents,
        "limit": formatting.limit,
        "together": formatting.together,
        "flags": flags,
        "notice": wording.notice,
    }
    lights = {light: [c for c in evaluation.controls if c.light == light] for light in SYMBOLS}
    importance = (
        [] if evaluation.baseline is None else list(evaluation.baseline.result.importance.items())[:8]
    )
    names = {one.key: one.title for one in quantities(evaluation.spec)}
    used = [key for key in TITLES if key != "retraining" or evaluation.ablations or evaluation.sensitivity]
    return environment.get_template("report.html").render(
        css=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        e=evaluation,
        verdict=wording.verdict_lines(evaluation),
        a=evaluation.answer,
        counts=evaluation.data["counts"]["test"],
        titles=TITLES,
        parts=[(key, TITLES[key]) for key in used],
        alarms=alarms(evaluation.ablations),
        symbols=SYMBOLS,
        lights=lights,
        red=lights["red"],
        run=[c for c in evaluation.controls if c.light != "not run"],
        pictures={key: shown.get(key, []) for key in TITLES},
        answer_rows=wording.answer_rows(evaluation),
        tested=provenance.tested(evaluation),
        flow=provenance.cut_flow(evaluation.data),
        baseline_lines=wording.baseline_lines(evaluation),
        importance=[(names[name], loss) for name, loss in importance if loss >= LEAST_LOSS],
        bins_shown=sum(b.auc is not None for t in evaluation.bins for b in t.bins),
        bin_notes=wording.bin_notes(evaluation),
        looks_lines=wording.looks_lines(evaluation),
        calibration_lines=wording.calibration_lines(evaluation),
        retraining_lines=wording.retraining_lines(evaluation),
        retraining_rows=retraining_rows(evaluation),
        models=list(zip(evaluation.scored.models, evaluation.answer.singles, strict=True)),
        glossary=GLOSSARY,
        provenance=provenance.provenance(evaluation),
    )
