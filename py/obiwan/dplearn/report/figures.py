"""Figures of a report: which there are, their captions and their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from obiwan.dplearn.evaluation.analysis import BY_PERCENTILE, Calibration, Evaluation
from obiwan.dplearn.evaluation.bins import Bins
from obiwan.dplearn.evaluation.gallery import Shown
from obiwan.dplearn.evaluation.occlusion import Occlusion
from obiwan.dplearn.report import charts
from obiwan.dplearn.report.charts import COLUMN
from obiwan.dplearn.report.evidence import of_both_classes, of_the_set, of_the_test
from obiwan.dplearn.report.formatting import (
    catalogue,
    extents,
    kind_words,
    quantity_title,
    say,
    with_interval,
)
from obiwan.dplearn.report.pictures import Picture, chart
from obiwan.dplearn.report.stamps import MosaicLayout, colour_bands, draw_gallery, draw_mosaic
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.twosample.ranking import Estimate
from obiwan.dplearn.twosample.verdict import Kind

GALLERY_COLUMNS = 3
MEASURED = "catalogue quantities alone"


def stamp_width(spec: StampSpec) -> str:
    """Width of a stamp in words."""
    return f"{spec.size * spec.pixel_scale:.1f} arcsec wide"


def colours(spec: StampSpec) -> str:
    """How colour images show the bands, in words."""
    shown = colour_bands(spec)
    key = ("one_colour", "two_colours", "three_colours")[len(shown) - 1]
    return say("caption", key, blue=shown[0], green=shown[len(shown) // 2], red=shown[-1])


def gallery_picture(gallery: Shown) -> Picture:
    """Picture of a gallery: colour images, score and magnitude below each, and their median."""
    spec, title = gallery.spec, say("gallery", str(gallery.which))
    captions = [
        f"{score:.2f}   {spec.bluest} {magnitude:.1f}" if np.isfinite(magnitude) else f"{score:.2f}"
        for score, magnitude in zip(gallery.values, gallery.magnitudes, strict=True)
    ]
    values = {
        "count": len(captions),
        "title": title,
        "ends": f"{gallery.values.min():.2f} to {gallery.values.max():.2f}",
        "split": say("split", gallery.split),
        "band": spec.bluest,
        "width": stamp_width(spec),
        "colours": colours(spec),
    }
    return Picture(
        f"gallery_{gallery.which}",
        "galleries",
        (COLUMN, -(-(len(captions) + 1) // GALLERY_COLUMNS) * 1.55),
        lambda figure: draw_gallery(figure, gallery.stamps, captions, GALLERY_COLUMNS, spec),
        say("caption", "gallery", **values),
        say("alt", "gallery", **{**values, "title": title.lower()}),
    )


def ordinal(number: int) -> str:
    """A number as an ordinal.

    Examples
    --------
    >>> ordinal(1), ordinal(99), ordinal(11)
    ('1st', '99th', '11th')
    """
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def mosaic_picture(mosaic: Shown) -> Picture:
    """Picture of a mosaic: real and fake galaxies in turn, all their planes."""
    spec, width = mosaic.spec, stamp_width(mosaic.spec)
    where = f"{ordinal(int(mosaic.which))} percentile in brightness, {say('split', mosaic.split)}"
    layout = MosaicLayout(spec, len(mosaic.stamps), f"{where}; stamps are {width}")
    values = {
        "band": spec.bluest,
        "bands": ", ".join(spec.bands),
        "variances": say("caption", "variances") if spec.has_ivar else "",
        "colours": colours(spec),
    }
    ends = f"{mosaic.magnitudes.min():.1f} to {mosaic.magnitudes.max():.1f}"
    return Picture(
        f"fake_real_mosaic_p{mosaic.which:02}",
        "galleries",
        (layout.width, layout.height),
        lambda figure: draw_mosaic(figure, layout, mosaic.stamps, mosaic.values, mosaic.magnitudes),
        say("caption", "mosaic", **values, where=where, width=width),
        say("alt", "mosaic", band=spec.bluest, ends=ends),
    )


def _forest(evaluation: Evaluation, place: tuple[str, str], entries: list[tuple[str, Estimate]]) -> Picture:
    """A picture of AUCs one below the other."""
    shown, listed = say("forest", place[1]), "; ".join(f"{one} {with_interval(auc)}" for one, auc in entries)
    data, height = (entries, float(evaluation.settings["margin"])), 1.0 + 0.32 * len(entries)
    return chart(place, height, charts.draw_forest, *data, key="forest", shown=shown, entries=listed)


def _classifiers(evaluation: Evaluation) -> Picture:
    """All that separates the classes or does not: what is tested, its members, and measured quantities."""
    scored, answer, baseline = evaluation.scored, evaluation.answer, evaluation.baseline
    entries = [(scored.combined, answer.auc)]
    if len(scored.models) > 1:
        names = (catalogue()["member"].get(model.name, model.name) for model in scored.models)
        entries += zip(names, answer.singles, strict=True)
    if baseline is not None:
        entries.append((MEASURED, baseline.test_auc))
    if evaluation.conditional.stratified is not None:
        entries.append((say("forest", "equal", name=scored.combined), evaluation.conditional.stratified))
    return _forest(evaluation, ("summary", "classifiers"), entries)


def _answer_pictures(evaluation: Evaluation) -> Iterator[Picture]:
    scored, auc, baseline = evaluation.scored, evaluation.answer.auc, evaluation.baseline
    curves = [(scored.combined, scored.labels, scored.scores)]
    if baseline is not None:
        known = np.isfinite(baseline.scores)
        curves.append((MEASURED, scored.labels[known], baseline.scores[known]))
    shown, given = with_interval(auc), (scored.labels, scored.scores)
    yield chart(("answer", "scores"), 3.6, charts.draw_scores, *given, auc=shown)
    yield chart(("answer", "roc"), 3.6, charts.draw_roc, curves, auc=shown)


def _aucs(table: Bins) -> list[tuple[float, str]]:
    """AUC and extent of the bins that have one."""
    ends = extents(table)
    return [(b.auc.value, end) for b, end in zip(table.bins, ends, strict=True) if b.auc is not None]


def _drawn(table: Bins, spec: StampSpec) -> bool:
    """Whether bins have a chart; of brightness, one band's is enough."""
    others = {f"mag_{band}" for band in spec.bands if band != spec.reference}
    return not table.coarse and table.key not in {*others, BY_PERCENTILE} and bool(_aucs(table))


def _bin_picture(evaluation: Evaluation, table: Bins) -> Picture:
    """A chart of bins; its caption says where the AUC is least and greatest, and what is left out."""
    found, name = _aucs(table), quantity_title(table.quantity)
    ideal = evaluation.ideal if table.key == "sn" else None
    (low, least), (high, most) = min(found), max(found)
    unit = f" {table.quantity.unit}" if table.quantity.unit else ""
    ends = {"low": low, "least": least, "high": high, "most": most, "unit": unit}
    holds = {"range": len(found) > 1, "left_out": len(found) < len(table.bins), "ideal": ideal is not None}
    texts = {key: say("bins_caption", key, **ends) if wanted else "" for key, wanted in holds.items()}
    texts |= {"name": name, "points": ", ".join(f"{end}: {value:.2f}" for value, end in found)}
    data = (table, evaluation.answer.auc, float(evaluation.settings["margin"]), ideal)
    return chart(("where", f"auc_by_{table.key}"), 2.7, charts.draw_bins, *data, key="bins", **texts)


def _occlusion_picture(found: Occlusion, scale: float) -> Picture:
    points = "; ".join(
        f"{radius * scale:.1f} arcsec: within {inner.value:.2f}, beyond {outer.value:.2f}"
        for radius, inner, outer in zip(found.radii, found.inner, found.outer, strict=True)
    )
    line = say("caption", "half_light") if np.isfinite(found.half_light) else ""
    texts = {"points": points, "line": line, "auc": with_interval(found.whole)}
    return chart(("looks", "occlusion"), 3.0, charts.draw_occlusion, found, scale, **texts)


def _calibration_picture(found: Calibration) -> Picture:
    curves = [("as scored", found.raw.curve), ("recalibrated", found.recalibrated.curve)]
    raw, new, place = found.raw.ece, found.recalibrated.ece, ("calibration", "reliability")
    return chart(place, 4.2, charts.draw_reliability, curves, raw=raw, new=new)


def _retraining_pictures(evaluation: Evaluation) -> Iterator[Picture]:
    if evaluation.ablations:
        ablated = ((result.name, result.auc) for result in evaluation.ablations)
        entries = [(evaluation.scored.combined, evaluation.answer.auc), *ablated]
        yield _forest(evaluation, ("retraining", "ablations"), entries)
    network = (evaluation.network or evaluation.answer).auc  # which is what was retrained
    for kind in dict.fromkeys(result.kind for result in evaluation.sensitivity):
        found = sorted((r for r in evaluation.sensitivity if r.kind == kind), key=lambda r: r.amplitude)
        points = ", ".join(f"{r.amplitude:g}: {r.auc.value:.3f}" for r in found)
        place, texts = ("retraining", f"sensitivity_{kind}"), {"kind": kind_words(kind), "points": points}
        yield chart(place, 2.7, charts.draw_sensitivity, found, network, key="sensitivity", **texts)


def pictures_of(
    evaluation: Evaluation, galleries: Sequence[Shown], mosaics: Sequence[Shown]
) -> Iterator[Picture]:
    """All pictures of a report, in its order."""
    yield _classifiers(evaluation)
    yield from of_both_classes(evaluation)
    yield from _answer_pictures(evaluation)
    yield from of_the_test(evaluation)
    yield from of_the_set(evaluation)
    for table in evaluation.bins:
        if _drawn(table, evaluation.spec):
            yield _bin_picture(evaluation, table)
    if evaluation.occlusion is not None:
        yield _occlusion_picture(evaluation.occlusion, evaluation.spec.pixel_scale)
    if evaluation.verdict.kind != Kind.NOT_LEARNT:  # whose scores put nothing in order
        yield from map(gallery_picture, galleries)
    yield from map(mosaic_picture, mosaics)
    yield _calibration_picture(evaluation.calibration)
    yield from _retraining_pictures(evaluation)
