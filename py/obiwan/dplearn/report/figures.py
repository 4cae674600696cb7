"""Figures of a report: which there are, and their captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from obiwan.dplearn.evaluation.analysis import BY_PERCENTILE, Evaluation
from obiwan.dplearn.evaluation.bins import Bins
from obiwan.dplearn.evaluation.gallery import Gallery, Mosaic
from obiwan.dplearn.report import charts
from obiwan.dplearn.report.charts import COLUMN
from obiwan.dplearn.report.formatting import extents, kind_words, quantity_title, with_interval
from obiwan.dplearn.report.pictures import Draw, Picture, gallery_picture, mosaic_picture
from obiwan.dplearn.report.sentences import say
from obiwan.dplearn.survey.differences import KINDS
from obiwan.dplearn.twosample.verdict import Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _chart(draw: Callable[..., None], *data: Any) -> Draw:
    """A picture of one chart that fills it."""

    def on(figure: Figure) -> None:
        figure.set_layout_engine("constrained")
        draw(figure.subplots(), *data)

    return on


def forest_entries(evaluation: Evaluation) -> list[charts.Entry]:
    """Every AUC of the report by name, the network's first."""
    found = [charts.Entry("network", evaluation.answer.auc, main=True)]
    if evaluation.baseline is not None:
        found.append(charts.Entry("measured quantities alone", evaluation.baseline.test_auc))
    if evaluation.conditional.stratified is not None:
        found.append(charts.Entry("network, within strata", evaluation.conditional.stratified))
    return found


def _forest(evaluation: Evaluation, name: str, section: str, entries: Sequence[charts.Entry]) -> Picture:
    """A picture of AUCs one below the other."""
    named = "; ".join(f"{one.name} {with_interval(one.auc)}" for one in entries)
    return Picture(
        name=name,
        section=section,
        caption=say("caption", name, forest=say("caption", "forest")),
        alt=say("alt", "forest", entries=named),
        size=(COLUMN, 1.0 + 0.32 * len(entries)),
        draw=_chart(charts.draw_forest, entries, float(evaluation.settings["margin"])),
    )


def _answer_pictures(evaluation: Evaluation) -> Iterator[Picture]:
    scored, auc = evaluation.scored, evaluation.answer.auc
    curves = [("network", scored.labels, scored.scores)]
    if evaluation.baseline is not None:
        curves.append(("measured quantities alone", scored.labels, evaluation.baseline.scores))
    draws = {
        "scores": _chart(charts.draw_scores, scored.labels, scored.scores),
        "roc": _chart(charts.draw_roc, curves),
    }
    for name, draw in draws.items():
        alt = say("alt", name, auc=with_interval(auc))
        yield Picture(name, "answer", say("caption", name), alt, (COLUMN, 3.6), draw)
    if len(scored.models) > 1:
        entries = [charts.Entry("mean score", auc, main=True)]
        singles = zip(scored.models, evaluation.answer.singles, strict=True)
        entries += [charts.Entry(model.name, single) for model, single in singles]
        yield _forest(evaluation, "models", "answer", entries)


def _aucs(table: Bins) -> list[tuple[float, str]]:
    """AUC and extent of the bins that have one."""
    ends = extents(table)
    return [(b.auc.value, end) for b, end in zip(table.bins, ends, strict=True) if b.auc is not None]


def _bin_caption(evaluation: Evaluation, table: Bins) -> str:
    """Caption of a chart of bins: where its AUC is least and greatest."""
    if table.key == BY_PERCENTILE:
        count = max(b.real + b.fake for b in table.bins)
        return say("caption", "percentile", count=count, band=table.quantity.band)
    found, ends = _aucs(table), ""
    if len(found) > 1:
        (low, least), (high, most) = min(found), max(found)
        unit = f" {table.quantity.unit}" if table.quantity.unit else ""
        ends = say("caption", "range", low=low, least=least, high=high, most=most, unit=unit)
    parts = [say("caption", "bins", name=quantity_title(table.quantity), range=ends)]
    if any(b.auc is None for b in table.bins):
        parts.append(say("caption", "bins_left_out"))
    if evaluation.ideal is not None and table.key == "sn":
        parts.append(say("caption", "ideal"))
    return " ".join(parts)


def _bin_picture(evaluation: Evaluation, table: Bins) -> Picture:
    margin, auc = float(evaluation.settings["margin"]), evaluation.answer.auc
    points = ", ".join(f"{end}: {value:.2f}" for value, end in _aucs(table))
    ideal = evaluation.ideal if table.key == "sn" else None
    return Picture(
        name=f"auc_by_{table.key}",
        section="where",
        caption=_bin_caption(evaluation, table),
        alt=say("alt", "bins", name=quantity_title(table.quantity), points=points),
        size=(COLUMN, 3.0 if table.key == BY_PERCENTILE else 2.7),
        draw=_chart(charts.draw_bins, table, auc, margin, ideal),
    )


def _occlusion_pictures(evaluation: Evaluation) -> Iterator[Picture]:
    found, scale = evaluation.occlusion, evaluation.spec.pixel_scale
    if found is None:
        return
    points = "; ".join(
        f"{radius * scale:.1f} arcsec: within {inner.value:.2f}, beyond {outer.value:.2f}"
        for radius, inner, outer in zip(found.radii, found.inner, found.outer, strict=True)
    )
    line = say("caption", "half_light") if np.isfinite(found.half_light) else ""
    yield Picture(
        name="occlusion",
        section="looks",
        caption=say("caption", "occlusion", line=line),
        alt=say("alt", "occlusion", points=points, auc=with_interval(found.whole)),
        size=(COLUMN, 3.0),
        draw=_chart(charts.draw_occlusion, found, scale),
    )


def _calibration_picture(evaluation: Evaluation) -> Picture:
    found = evaluation.calibration
    curves = [("as scored", found.raw.curve), ("recalibrated", found.recalibrated.curve)]
    return Picture(
        name="reliability",
        section="calibration",
        caption=say("caption", "reliability"),
        alt=say("alt", "reliability", raw=found.raw.ece, new=found.recalibrated.ece),
        size=(COLUMN, 4.2),
        draw=_chart(charts.draw_reliability, curves),
    )


def _retraining_pictures(evaluation: Evaluation) -> Iterator[Picture]:
    network, ablations = evaluation.answer.auc, evaluation.ablations
    if ablations:
        entries = [charts.Entry("network", network, main=True)]
        entries += [charts.Entry(result.name, result.auc) for result in ablations]
        yield _forest(evaluation, "ablations", "retraining", entries)
    for kind in dict.fromkeys(result.kind for result in evaluation.sensitivity):
        found = sorted((r for r in evaluation.sensitivity if r.kind == kind), key=lambda r: r.amplitude)
        amplitudes, aucs, name = [r.amplitude for r in found], [r.auc for r in found], kind_words(kind)
        points = ", ".join(f"{r.amplitude:g}: {r.auc.value:.3f}" for r in found)
        label = f"{name} ({KINDS[kind].unit})"
        yield Picture(
            name=f"sensitivity_{kind}",
            section="retraining",
            caption=say("caption", "sensitivity", kind=name),
            alt=say("alt", "sensitivity", kind=name, points=points),
            size=(COLUMN, 2.7),
            draw=_chart(charts.draw_sensitivity, amplitudes, aucs, label, network),
        )


def pictures_of(
    evaluation: Evaluation, galleries: Sequence[Gallery], mosaics: Sequence[Mosaic]
) -> Iterator[Picture]:
    """All pictures of a report, in its order."""
    yield from _answer_pictures(evaluation)
    yield _forest(evaluation, "comparison", "baseline", forest_entries(evaluation))
    for table in evaluation.bins:
        if not table.coarse and _aucs(table):
            yield _bin_picture(evaluation, table)
    yield from _occlusion_pictures(evaluation)
    if evaluation.verdict.kind != Kind.NOT_LEARNT:  # whose scores put nothing in order
        yield from map(gallery_picture, galleries)
    yield from map(mosaic_picture, mosaics)
    yield _calibration_picture(evaluation)
    yield from _retraining_pictures(evaluation)
