"""HTML page of a report; it needs no other file."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from obiwan.dplearn.evaluation.analysis import Evaluation
from obiwan.dplearn.report import formatting, wording
from obiwan.dplearn.report.pictures import Picture
from obiwan.dplearn.report.sections import text_of
from obiwan.dplearn.report.sentences import HTML, catalogue

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

SYMBOLS = {
    "red": "\N{BLACK SQUARE}",
    "amber": "\N{BLACK UP-POINTING TRIANGLE}",
    "green": "\N{BLACK CIRCLE}",
    "not run": "\N{WHITE CIRCLE}",
}
WIDE = 6.0  #: inches; wider pictures have a row of the page to themselves
TITLES = {
    "answer": "Result",
    "tested": "Test set",
    "controls": "Controls",
    "baseline": "Baseline without the pixels",
    "where": "AUC by brightness, size, depth and seeing",
    "looks": "Occlusion",
    "galleries": "Examples",
    "calibration": "Calibration",
    "retraining": "Ablations and sensitivity",
    "notrun": "Not run",
    "provenance": "Provenance",
    "glossary": "Glossary",
}


def embedded(picture: Picture, png: bytes) -> dict[str, Any]:
    """A picture as the template needs it, its file inside."""
    return {
        "name": picture.name,
        "caption": picture.caption,
        "alt": picture.alt,
        "wide": picture.size[0] > WIDE,
        "pixels": struct.unpack(">II", png[16:24]),  # of the IHDR chunk
        "base64": base64.b64encode(png).decode(),
    }


def flags(text: str) -> Markup:
    """A sentence as HTML, its options set like code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(--[a-z]+)", r"<code>\1</code>", str(escape(text))))


def _environment() -> Environment:
    """The templates' environment, with what they format numbers with."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(loader=FileSystemLoader(HTML), autoescape=True, undefined=StrictUndefined)
    found.filters |= {
        "number": formatting.number,
        "interval": formatting.interval,
        "interval_of": formatting.with_interval,
        "p": formatting.probability,
        "thousands": formatting.thousands,
        "effect": formatting.effect,
        "note": wording.control_note,
        "name_of": lambda control: formatting.control_title(control.name, control.band),
        "title": formatting.quantity_title,
        "training": wording.training_line,
        "extents": formatting.extents,
        "limit": formatting.limit,
        "flags": flags,
    }
    return found


def render(evaluation: Evaluation, shown: Mapping[str, list[dict[str, Any]]]) -> str:
    """Render the page.

    Parameters
    ----------
    evaluation : Evaluation
    shown : mapping
        Pictures by section, as `embedded` makes them.
    """
    from markupsafe import Markup

    retrained = evaluation.ablations or evaluation.sensitivity
    return (
        _environment()
        .get_template("report.html")
        .render(
            css=Markup((HTML / "report.css").read_text(encoding="utf-8")),
            e=evaluation,
            text=text_of(evaluation),
            titles={key: title for key, title in TITLES.items() if key != "retraining" or retrained},
            pictures={key: shown.get(key, []) for key in TITLES},
            symbols=SYMBOLS,
            lights=wording.by_light(evaluation.controls),
            bins_shown=sum(b.auc is not None for t in evaluation.bins for b in t.bins),
            models=list(zip(evaluation.scored.models, evaluation.answer.singles, strict=True)),
            glossary=catalogue()["glossary"],
        )
    )
