"""HTML page of a report; it needs no other file."""

from __future__ import annotations

import base64
import inspect
import re
import struct
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from obiwan.dplearn.evaluation.analysis import Answer, Evaluation
from obiwan.dplearn.evaluation.ensemble import ModelInfo, Scored
from obiwan.dplearn.report import formatting, rulings, wording
from obiwan.dplearn.report.formatting import HTML, catalogue
from obiwan.dplearn.report.pictures import Picture
from obiwan.dplearn.report.sections import text_of
from obiwan.dplearn.twosample.ranking import Estimate

WIDE = 6.0  #: inches; wider pictures have a row of the page to themselves


def embedded(picture: Picture, png: bytes) -> dict[str, Any]:
    """A picture as the template needs it, its file inside."""
    pixels, data = struct.unpack(">II", png[16:24]), base64.b64encode(png).decode()  # IHDR has the size
    return {**vars(picture), "wide": picture.size[0] > WIDE, "pixels": pixels, "base64": data}


def flags(text: str) -> Markup:
    """A sentence as HTML, its options set like code."""
    return Markup(re.sub(r"(--[a-z][a-z-]*)", r"<code>\1</code>", str(escape(text))))


def _environment() -> Environment:
    """The templates' environment, with what they format numbers with."""
    found = Environment(loader=FileSystemLoader(HTML), autoescape=True, undefined=StrictUndefined)
    for module in (formatting, wording):
        found.filters |= {name: value for name, value in vars(module).items() if inspect.isfunction(value)}
    found.filters["flags"] = flags
    return found


def _with_aucs(scored: Scored | None, answer: Answer | None) -> list[tuple[ModelInfo, Estimate]]:
    """Referees with their AUCs; none where there are no scores."""
    return [] if scored is None or answer is None else list(zip(scored.models, answer.singles, strict=True))


def render(evaluation: Evaluation, shown: Mapping[str, list[dict[str, Any]]]) -> str:
    """Render the page.

    Parameters
    ----------
    evaluation : Evaluation
    shown : mapping
        Pictures by section, as `embedded` makes them.
    """
    words = catalogue()
    tested: tuple[Scored | None, Answer | None] = (evaluation.scored, evaluation.answer)
    networks = tested if evaluation.scored.panel is None else (evaluation.networks, evaluation.network)
    retrained = evaluation.ablations or evaluation.sensitivity or evaluation.detections
    titles = {key: title for key, title in words["title"].items() if key != "retraining" or retrained}
    return (
        _environment()
        .get_template("report.html")
        .render(
            css=Markup((HTML / "report.css").read_text(encoding="utf-8")),
            e=evaluation,
            text=text_of(evaluation),
            titles=titles,
            pictures={key: shown.get(key, []) for key in (*titles, "summary")},
            symbols=words["symbol"],
            states=rulings.by_state(evaluation.controls),
            bins_shown=sum(b.auc is not None for t in evaluation.bins for b in t.bins),
            members=_with_aucs(evaluation.scored, evaluation.answer),
            networks=_with_aucs(*networks),
            glossary=words["glossary"],
        )
    )
