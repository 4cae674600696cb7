"""Files of a report: the HTML page, ``metrics.json``, ``scores.fits`` and the figures."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.controls.covariates import quantities
from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.evaluation.analysis import Evaluation
from obiwan.dplearn.evaluation.judging import REFEREES
from obiwan.dplearn.evaluation.notices import alarms
from obiwan.dplearn.files.atomic import read_json, write_json
from obiwan.dplearn.files.fits import open_fits
from obiwan.dplearn.files.outdir import Others, OutputDirectory, State, holding_lease
from obiwan.dplearn.referees.jury import NETWORK
from obiwan.dplearn.report import formatting, opening, rulings, wording
from obiwan.dplearn.report.page import embedded, render
from obiwan.dplearn.report.pictures import Picture, write_if_possible
from obiwan.dplearn.stampspec import Array

FORMAT = "obiwan.dplearn evaluation"
FORMAT_VERSION = 1
PAGE, METRICS, SCORES, FIGURES, SCRATCH = "report.html", "metrics.json", "scores.fits", "figures", ".work"
#: Where trained referees and retrained networks are, which outlive the report.
LASTING = (REFEREES, "ablations", "sensitivity")
#: In the order in which they take their places: first what says that the directory is ours (`claim`), last
#: the page, which speaks for all.
FILES = (METRICS, FIGURES, SCORES, PAGE)
CAPTIONS = "captions.txt"  #: among the figures, which go into papers and talks without the page
#: Columns of the table of examples that `SCORES` begins with.
KEYS = ("root", "brick", "run", "id", "shard", "row", "ra", "dec", "label")
FITS_UNITS = {"px": "pixel"}  #: standard names of units
_PIECE = 1 << 16  # rows of `SCORES` that are made at a time
#: Results of so many numbers that they are in figures or tables and not in `METRICS`.
_BULKY = {
    "pixels",
    "scored",
    "networks",
    "columns",
    "scores",
    "weights",
    "maps",
    "real_rows",
    "fake_rows",
    "mock",
}


def plain(value: Any) -> Any:
    """JSON form of results: records as objects, arrays as lists, enums by name, NaN as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value) if f.name not in _BULKY]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, np.ndarray | np.generic):
        fields, value = value.dtype.names, value.tolist()
        return plain(value if fields is None else [dict(zip(fields, row, strict=True)) for row in value])
    match value:
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set():
            return [plain(item) for item in value]
        case Enum():
            return value.name
        case bytes():
            return value.decode()
        case float():
            return value if math.isfinite(value) else None
        case str() | int() | None:
            return value
    return str(value)


def metrics(evaluation: Evaluation) -> dict[str, Any]:
    """Content of ``metrics.json``: all numbers of an evaluation, its verdict and notices."""
    ledger = evaluation.scored.ledger
    networks = evaluation.scored if evaluation.scored.panel is None else evaluation.networks
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "models": plain(evaluation.scored.models),
        "referees": list(evaluation.scored.referees),
        "networks": plain([] if networks is None else networks.models),
        "looks": None if ledger is None else ledger.looks,
        "openings": None if ledger is None else plain(ledger.openings),
        **plain(evaluation),
        **_texts(evaluation),
    }


def _texts(evaluation: Evaluation) -> dict[str, Any]:
    """The entries of `METRICS` that have words: the ruling, the verdict and the notices."""
    verdict, first = evaluation.verdict, alarms(evaluation.ablations)
    words = wording.verdict_lines(evaluation)
    told = {"alarms": first, "cautions": evaluation.cautions, "not_run": evaluation.not_run}
    mock, answer, ruling = evaluation.mock, rulings.ruling_statement(evaluation), evaluation.ruling
    return {
        "ruling": {
            **plain(ruling),
            "kind": ruling.kind.value,
            "headline": answer.headline,
            "scope": opening.scope(evaluation),
            "explanation": list(answer.explanation),
            "remedies": opening.advice(evaluation.controls),
            "failing": [formatting.control_title(one.name, one.band) for one in ruling.failing],
            "unbounded": [formatting.control_title(one.name, one.band) for one in ruling.unbounded],
        },
        "verdict": {
            "kind": verdict.kind.value,
            "reasons": plain(verdict.reasons),
            "headline": words.headline,
            "explanation": [*map(wording.notice, first), *words.explanation],
            **plain(verdict.numbers),
        },
        **{name: [wording.notice(fact) for fact in facts] for name, facts in told.items()},
        "ideal_note": " ".join(map(wording.notice, mock)),
        "notices": {name: plain(facts) for name, facts in {**told, "mock": mock}.items()},
    }


def _scores_rows(evaluation: Evaluation, part: slice) -> dict[str, Array]:
    """Columns of `SCORES` of some of the test examples."""
    scored, rows = evaluation.scored, evaluation.scored.rows[part]
    columns: dict[str, Array] = {name: rows[name] for name in KEYS}
    columns["score"] = scored.scores[part]
    if len(scored.singles) > 1:
        named = scored.panel is not None and all(model.name.isidentifier() for model in scored.models)
        names = [model.name if named else str(i) for i, model in enumerate(scored.models, 1)]
        columns |= {f"score_{name}": one[part] for name, one in zip(names, scored.singles, strict=True)}
    if evaluation.baseline is not None:
        columns["score_metadata"] = evaluation.baseline.scores[part]
    taken = {name.lower() for name in columns}
    covariates = evaluation.columns.take(part).items()
    return columns | {name: values for name, values in covariates if name.lower() not in taken}


def write_scores_table(path: Path, evaluation: Evaluation) -> None:
    """Write ``scores.fits``: key, label, score of the networks and of the baseline, and covariates."""
    header = {"TRAINSET": evaluation.data["checksum"], "SPLIT": "test"}
    header |= {f"MODEL{i}": model.checksum for i, model in enumerate(evaluation.scored.models, 1)}
    first = _scores_rows(evaluation, slice(0))
    dtype = np.dtype([(name, values.dtype) for name, values in first.items()])
    unit_of = {"ra": "deg", "dec": "deg"} | {one.key: one.unit for one in quantities(evaluation.spec)}
    units = [FITS_UNITS.get(unit, unit) for unit in (unit_of.get(name, "") for name in first)]
    path.unlink(missing_ok=True)
    with open_fits(path, new=True) as file:
        file.create_table_hdu(dtype=dtype, units=units, extname="SCORES")
        file[-1].write_keys(header)
        for start in range(0, len(evaluation.scored.rows), _PIECE):
            columns = _scores_rows(evaluation, slice(start, start + _PIECE))
            piece = np.empty(len(columns["score"]), dtype)
            for name, values in columns.items():
                piece[name] = values
            file[-1].append(piece)


def identity_of(data: str, models: Sequence[str], referees: Sequence[str]) -> dict[str, Any]:
    """Identity of an evaluation: checksums of training set and networks, and the members of a panel."""
    panel = {} if list(referees) == [NETWORK] else {"referees": list(referees)}
    return {"data": data, "models": list(models), **panel}


def _identity(report: dict[str, Any]) -> dict[str, Any] | None:
    """Training set and networks of a report; None of what is no report."""
    if report.get("format") != FORMAT:
        return None
    try:
        networks = report.get("networks", report["models"])  # the same before there were panels
        models = [model["checksum"] for model in networks]
        return identity_of(report["data"]["checksum"], models, report.get("referees", [NETWORK]))
    except (KeyError, TypeError):
        return {}


def report_directory(outdir: Path) -> OutputDirectory:
    """The output directory of ``evaluate``; a request is an `identity_of`."""
    return OutputDirectory(
        outdir,
        "report",
        ModelError,
        owned=re.compile("|".join(map(re.escape, FILES))),
        records=(METRICS,),
        final="",  # an evaluation is always made again
        scratch=SCRATCH,
        lasting=frozenset(LASTING),
        others=Others.REFUSED,
        identify=_identity,
    )


def claim(outdir: Path, identity: Mapping[str, Any], *, overwrite: bool) -> OutputDirectory:
    """Check that an output directory may be written: absent, empty, or of this evaluation.

    Raises
    ------
    ModelError
        If it is a file, cannot be written, or holds something else, also among the figures of its report.
    """
    output = report_directory(outdir)
    if output.check(identity, overwrite=overwrite) is not State.EMPTY and (outdir / FIGURES).is_dir():
        listed = read_json(outdir / METRICS).get("figures")
        names = {path.name for path in (outdir / FIGURES).iterdir()}
        if isinstance(listed, list) and (strangers := names.difference(map(str, listed))):
            name = f"{FIGURES}/{min(strangers)}"
            msg = f"{outdir}: holds {name}, which is no part of a report; choose another --outdir"
            raise ModelError(msg)
    return output


def write_report(outdir: Path, evaluation: Evaluation, pictures: Iterable[Picture], scratch: Path) -> Path:
    """Write page, numbers, scores and figures atomically; returns the page.

    Everything is made in a scratch directory first.  The old page goes before anything takes its place and
    the new one comes last, so that a page that is there belongs to the files beside it.

    Parameters
    ----------
    outdir : Path
    evaluation : Evaluation
    pictures : iterable of Picture
    scratch : Path
        That of the directory's lease.

    Raises
    ------
    LeaseLostError
        If another evaluation has begun in the directory: its report is the one that counts.
    """
    with holding_lease(scratch, outdir):
        _make(scratch, evaluation, pictures)
        # Old files go into the scratch directory, too: without one nothing of another report can be removed.
        for name in (PAGE, FIGURES):
            if (outdir / name).exists():
                (outdir / name).replace(scratch / f"old-{name}")
        for name in FILES:
            (scratch / name).replace(outdir / name)
    return outdir / PAGE


def _make(work: Path, evaluation: Evaluation, pictures: Iterable[Picture]) -> None:
    """Make the files of a report in a scratch directory."""
    (work / FIGURES).mkdir()
    shown: dict[str, list[dict[str, Any]]] = {}
    captions = []
    for picture in pictures:
        png = write_if_possible(picture, work / FIGURES)
        if png is None:
            continue
        shown.setdefault(picture.section, []).append(embedded(picture, png))
        captions.append(f"{picture.name}: {picture.caption}\n")
    (work / FIGURES / CAPTIONS).write_text("\n".join(captions), encoding="utf-8")
    figures = sorted(path.name for path in (work / FIGURES).iterdir())
    write_scores_table(work / SCORES, evaluation)
    write_json(work / METRICS, {**metrics(evaluation), "figures": figures})
    (work / PAGE).write_text(render(evaluation, shown), encoding="utf-8")
