"""The files of an evaluation: one HTML page that needs nothing beside it, numbers, scores and figures."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import shutil
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn import prose
from obiwan.dplearn.covariates import LABELS
from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.evaluation import Evaluation
from obiwan.dplearn.pictures import Picture, write_picture
from obiwan.dplearn.shards import write_json

Array = NDArray[Any]

FORMAT = "obiwan.dplearn evaluation"
FORMAT_VERSION = 1
PAGE, METRICS, SCORES, FIGURES, SCRATCH = "report.html", "metrics.json", "scores.fits", "figures", ".work"
RETRAINED = ("ablations", "sensitivity")  #: where retrained networks are, which outlive the report
#: In the order in which they take their places: the page, which speaks for all, comes last.
FILES = (FIGURES, SCORES, METRICS, PAGE)
SYMBOLS = {
    "red": "\N{BLACK SQUARE}",
    "amber": "\N{BLACK UP-POINTING TRIANGLE}",
    "green": "\N{BLACK CIRCLE}",
    "not run": "\N{WHITE CIRCLE}",
}
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
}
_HERE = Path(__file__).parent / "html"
#: Results of so many numbers that they are in figures or tables and not in `METRICS`.
_BULKY = {"scored", "columns", "scores", "weights", "maps", "real_rows", "fake_rows"}


def plain(value: Any) -> Any:
    """Results as JSON has them: records as objects, arrays as lists, what is no number as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value) if f.name not in _BULKY]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, np.ndarray) and value.dtype.names:
        return [{name: plain(row[name]) for name in value.dtype.names} for row in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)


def metrics(evaluation: Evaluation) -> dict[str, Any]:
    """All numbers of an evaluation, as ``metrics.json`` has them."""
    models = [plain(model) for model in evaluation.scored.models]
    head = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "models": models,
        "looks": evaluation.scored.looks,
    }
    return {**head, **plain(evaluation)}


def write_scores_table(path: Path, evaluation: Evaluation) -> None:
    """Write ``scores.fits``: key, label, score of the networks and of the baseline, and covariates."""
    scored = evaluation.scored
    columns: dict[str, Array] = {
        name: scored.rows[name]
        for name in ("root", "brick", "run", "id", "shard", "row", "ra", "dec", "label")
    }
    columns["score"] = scored.scores
    if len(scored.singles) > 1:
        columns |= {f"score_{i}": single for i, single in enumerate(scored.singles, 1)}
    if evaluation.baseline is not None:
        columns["score_metadata"] = evaluation.baseline.scores
    taken = {name.lower() for name in columns}
    columns |= {name: values for name, values in evaluation.columns.items() if name.lower() not in taken}
    units = [LABELS.get(name, ("", ""))[1] or {"ra": "deg", "dec": "deg"}.get(name, "") for name in columns]
    header = {"TRAINSET": evaluation.data["checksum"], "SPLIT": "test"}
    header |= {f"MODEL{i}": model.checksum for i, model in enumerate(scored.models, 1)}
    path.unlink(missing_ok=True)
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        file.write(list(columns.values()), names=list(columns), units=units, header=header, extname="SCORES")


def _shown(picture: Picture, png: bytes) -> dict[str, Any]:
    """A picture as the template needs it."""
    return {
        "name": picture.name,
        "caption": picture.caption,
        "alt": picture.alt,
        "wide": picture.width > WIDE,
        "pixels": struct.unpack(">II", png[16:24]),  # of the IHDR chunk
        "base64": base64.b64encode(png).decode(),
    }


def retraining_rows(evaluation: Evaluation) -> list[tuple[str, Any, str]]:
    """Rows of the table of retrained networks."""
    rows = []
    for result in evaluation.ablations:
        rows.append((result.name, result.auc, "learnt" if result.learnt else "did not learn"))
    for result in evaluation.sensitivity:
        found = "would have been detected" if result.detected else "not detected"
        rows.append((f"planted {result.kind} {result.amplitude:g}", result.auc, found))
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
        "number": prose.number,
        "interval": prose.interval,
        "interval_of": prose.with_interval,
        "p": prose.probability,
        "thousands": prose.thousands,
        "sentence": prose.sentence,
        "effect": prose.effect,
        "extent": prose.extent,
    }
    lights = {light: [c for c in evaluation.controls if c.light == light] for light in SYMBOLS}
    importance = (
        [] if evaluation.baseline is None else list(evaluation.baseline.result.importance.items())[:8]
    )
    used = [key for key in TITLES if key != "retraining" or evaluation.ablations or evaluation.sensitivity]
    return environment.get_template(PAGE).render(
        css=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        e=evaluation,
        a=evaluation.answer,
        counts=evaluation.data["counts"]["test"],
        titles=TITLES,
        parts=[(key, TITLES[key]) for key in used],
        symbols=SYMBOLS,
        lights=lights,
        red=lights["red"],
        run=[c for c in evaluation.controls if c.light != "not run"],
        pictures={key: shown.get(key, []) for key in TITLES},
        answer_rows=prose.answer_rows(evaluation),
        tested=prose.tested(evaluation),
        flow=prose.cut_flow(evaluation.data),
        baseline_lines=prose.baseline_lines(evaluation),
        importance=[(LABELS.get(name, (name, ""))[0], loss) for name, loss in importance],
        bins_shown=sum(b.auc is not None for t in evaluation.bins for b in t.bins),
        bin_notes=prose.bin_notes(evaluation),
        looks_lines=prose.looks_lines(evaluation),
        calibration_lines=prose.calibration_lines(evaluation),
        retraining_lines=prose.retraining_lines(evaluation),
        retraining_rows=retraining_rows(evaluation),
        models=list(zip(evaluation.scored.models, evaluation.answer.singles, strict=True)),
        provenance=prose.provenance(evaluation),
    )


def claim(outdir: Path, identity: Mapping[str, Any], *, overwrite: bool) -> None:
    """Find that an output directory may be written: absent, empty, or of this evaluation.

    Parameters
    ----------
    outdir : Path
    identity : mapping
        ``data``, the checksum of the training set, and ``models``, those of the networks.
    overwrite : bool
        Whether the report of another evaluation may be replaced.

    Raises
    ------
    ModelError
        If it is a file, cannot be written, or holds something else.
    """
    import os

    remedy = "choose another --outdir"
    place = next(parent for parent in (outdir, *outdir.absolute().parents) if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        msg = f"{outdir}: cannot write there (not a writable directory); {remedy}"
        raise ModelError(msg)
    if not outdir.is_dir():
        return
    strangers = sorted(
        path.name for path in outdir.iterdir() if path.name not in (*FILES, SCRATCH, *RETRAINED)
    )
    if strangers:
        msg = f"{outdir}: holds {strangers[0]}, which no evaluation writes; {remedy}"
        raise ModelError(msg)
    path = outdir / METRICS
    if overwrite or not path.is_file():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same = found["format"] == FORMAT and {
            "data": found["data"]["checksum"],
            "models": [model["checksum"] for model in found["models"]],
        } == dict(identity)
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        msg = f"{outdir}: holds the report of other models or data; {remedy}, or give --overwrite"
        raise ModelError(msg)


def write_report(outdir: Path, evaluation: Evaluation, pictures: Iterable[Picture]) -> Path:
    """Write page, numbers, scores and figures, whole or not at all; returns the page.

    Everything is made in a scratch directory first.  The old page goes before anything takes its place and
    the new one comes last, so that a page that is there belongs to the files beside it.
    """
    work = outdir / SCRATCH
    shutil.rmtree(work, ignore_errors=True)
    (work / FIGURES).mkdir(parents=True)
    try:
        shown: dict[str, list[dict[str, Any]]] = {}
        for picture in pictures:
            png = write_picture(picture, work / FIGURES)
            shown.setdefault(picture.section, []).append(_shown(picture, png))
        write_scores_table(work / SCORES, evaluation)
        write_json(work / METRICS, metrics(evaluation))
        (work / PAGE).write_text(render(evaluation, shown), encoding="utf-8")
        (outdir / PAGE).unlink(missing_ok=True)
        shutil.rmtree(outdir / FIGURES, ignore_errors=True)
        for name in FILES:
            (work / name).replace(outdir / name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return outdir / PAGE
