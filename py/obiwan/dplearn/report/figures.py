"""The figures of a report: which there are, and what stands under them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from obiwan.dplearn.conventions import PIXEL_SCALE
from obiwan.dplearn.evaluation.bins import Bins
from obiwan.dplearn.evaluation.gallery import Gallery, Mosaic
from obiwan.dplearn.evaluation.occlusion import Occlusion
from obiwan.dplearn.evaluation.records import BY_PERCENTILE, Evaluation
from obiwan.dplearn.report import charts
from obiwan.dplearn.report.formatting import extents, kind_words, with_interval
from obiwan.dplearn.report.pictures import Draw, Picture, gallery_picture, mosaic_picture
from obiwan.dplearn.survey.differences import KINDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


IDEAL_WORDS = (
    "The dashed curve is an observer who measures the planted offset as well as the noise allows, and knows "
    "all else about the galaxy but the error of the position around which its stamp was cut."
)


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


def _answer_pictures(evaluation: Evaluation) -> Iterator[Picture]:
    scored, margin = evaluation.scored, float(evaluation.settings["margin"])
    auc = evaluation.answer.auc
    yield Picture(
        "scores",
        "answer",
        "The network's score of every test example, real (blue, solid) and fake (orange, dashed), as "
        "shares of their class in bins of 0.04. Were the classes alike to the network, the two outlines "
        "would agree but for noise.",
        "Two outlines of the distribution of scores, real and fake; the AUC between them is "
        f"{with_interval(auc)}.",
        charts.COLUMN,
        3.6,
        _chart(charts.draw_scores, scored.labels, scored.scores),
    )
    curves = [("network", scored.labels, scored.scores)]
    if evaluation.baseline is not None:
        curves.append(("measured quantities alone", scored.labels, evaluation.baseline.scores))
    yield Picture(
        "roc",
        "answer",
        "At every threshold of the score: the share of fakes that are called fake against the share of "
        "reals that are. The area under the curve is the AUC.",
        f"ROC curve of the network with an area of {with_interval(auc)}, above a diagonal that stands for "
        "guessing.",
        charts.COLUMN,
        3.6,
        _chart(charts.draw_roc, curves),
    )
    if len(scored.models) > 1:
        names = [model.name for model in scored.models]
        spread = ", ".join(f"{single.value:.3f}" for single in evaluation.answer.singles)
        yield Picture(
            "models",
            "answer",
            "AUC of each network by itself, and of their mean score, which was declared to be the test "
            "before.",
            f"AUC of {len(names)} networks: {spread}; of their mean score {with_interval(auc)}.",
            charts.COLUMN,
            1.2 + 0.3 * (len(names) + 1),
            _chart(charts.draw_seeds, names, evaluation.answer.singles, auc, margin),
        )


def _baseline_pictures(evaluation: Evaluation) -> Iterator[Picture]:
    entries = forest_entries(evaluation)
    margin = float(evaluation.settings["margin"])
    alt = "; ".join(f"{entry.name} {with_interval(entry.auc)}" for entry in entries)
    yield Picture(
        "comparison",
        "baseline",
        "AUC with 95 % intervals: the network (diamond), what measured quantities alone tell without a "
        "look at the pixels, and the network's at equal magnitude, colour and size. The grey band is the "
        "margin around guessing.",
        f"AUCs with intervals: {alt}.",
        charts.COLUMN,
        1.0 + 0.32 * len(entries),
        _chart(charts.draw_forest, entries, margin),
    )


def _bin_caption(table: Bins) -> str:
    """What a chart of bins shows: where the AUC is least and where it is greatest."""
    named = zip(table.bins, extents(table.bins), strict=True)
    found = [(b.auc.value, ends) for b, ends in named if b.auc is not None]
    text = f"AUC by {table.label}"
    if len(found) > 1:
        (low, least), (high, most) = min(found), max(found)
        unit = f" {table.unit}" if table.unit else ""
        text += f": from {low:.2f} ({least}) to {high:.2f} ({most}{unit})"
    return text + "."


def _bins_with_intervals(table: Bins) -> str:
    """How the AUC comes out over bins, in a sentence."""
    parts = [
        f"{b.name or ends}: {b.auc.value:.2f}"
        for b, ends in zip(table.bins, extents(table.bins), strict=True)
        if b.auc is not None
    ]
    return f"AUC by {table.label}: {', '.join(parts)}"


def _bin_pictures(evaluation: Evaluation) -> Iterator[Picture]:
    margin, auc = float(evaluation.settings["margin"]), evaluation.answer.auc
    for table in evaluation.bins:
        if table.coarse or not any(b.auc is not None for b in table.bins):
            continue
        if table.key == BY_PERCENTILE:
            yield Picture(
                "auc_by_percentile",
                "where",
                "AUC around five percentiles in brightness, the brightest on the left, each for the "
                f"{max(b.real + b.fake for b in table.bins):,} examples around it; below, their g "
                "magnitudes.",
                _bins_with_intervals(table) + ".",
                charts.COLUMN,
                3.0,
                _chart(charts.draw_percentiles, table.bins, auc, margin),
            )
        else:
            some = any(b.auc is None for b in table.bins)
            ideal = evaluation.ideal if table.key == "sn" else None
            yield Picture(
                f"auc_by_{table.key}",
                "where",
                _bin_caption(table)
                + (" Bins with too few examples or bricks are left out." if some else "")
                + (f" {IDEAL_WORDS}" if ideal is not None else ""),
                _bins_with_intervals(table) + ".",
                charts.COLUMN,
                2.7,
                _chart(charts.draw_bins, table, auc, margin, ideal),
            )


def _occlusion_picture(found: Occlusion) -> Picture:
    half_light = found.half_light * PIXEL_SCALE
    line = " The vertical line is the half-light radius." if np.isfinite(half_light) else ""
    points = "; ".join(
        f"{radius * PIXEL_SCALE:.1f} arcsec: within {inner.value:.2f}, beyond {outer.value:.2f}"
        for radius, inner, outer in zip(found.radii, found.inner, found.outer, strict=True)
    )
    return Picture(
        "occlusion",
        "looks",
        "AUC of the network by a part of each stamp: what lies within a radius of the object (black), or "
        "beyond it (pink, dashed); all else is another example's, of either class by chance. "
        f"Bars are 95 % intervals; the dotted line and its grey band are the AUC on whole stamps.{line}",
        f"AUC by radius. {points}. On whole stamps {with_interval(found.whole)}.",
        charts.COLUMN,
        3.0,
        _chart(charts.draw_occlusion, found, half_light),
    )


def _calibration_pictures(evaluation: Evaluation) -> Iterator[Picture]:
    found = evaluation.calibration
    curves = [("as scored", found.raw.curve), ("recalibrated", found.recalibrated.curve)]
    yield Picture(
        "reliability",
        "calibration",
        "Of the test examples that the network scores so, the share that are fakes, with 95 % intervals: "
        "as it scores, and after a recalibration that was fitted on the validation split.",
        f"Reliability curves; expected calibration error {found.raw.ece:.3f} as scored and "
        f"{found.recalibrated.ece:.3f} recalibrated.",
        charts.COLUMN,
        4.2,
        _chart(charts.draw_reliability, curves),
    )


def _retraining_pictures(evaluation: Evaluation) -> Iterator[Picture]:
    network, margin = evaluation.answer.auc, float(evaluation.settings["margin"])
    if evaluation.ablations:
        entries = [charts.Entry("network", network, main=True)]
        entries += [charts.Entry(result.name, result.auc) for result in evaluation.ablations]
        alt = "; ".join(f"{entry.name} {with_interval(entry.auc)}" for entry in entries)
        yield Picture(
            "ablations",
            "retraining",
            "AUC of the same network trained again on parts of the cutouts, with 95 % intervals; the grey "
            "band is the margin around guessing.",
            f"AUCs with intervals: {alt}.",
            charts.COLUMN,
            1.0 + 0.32 * len(entries),
            _chart(charts.draw_forest, entries, margin),
        )
    for kind in dict.fromkeys(result.kind for result in evaluation.sensitivity):
        found = sorted((r for r in evaluation.sensitivity if r.kind == kind), key=lambda r: r.amplitude)
        amplitudes, aucs = [r.amplitude for r in found], [r.auc for r in found]
        words = f"{kind_words(kind)} ({KINDS[kind].unit})"
        points = ", ".join(f"{a:g}: {e.value:.3f}" for a, e in zip(amplitudes, aucs, strict=True))
        yield Picture(
            f"sensitivity_{kind}",
            "retraining",
            f"What the same network makes of a planted difference ({kind_words(kind)}), with 95 % intervals. "
            "The dotted line and its grey band are the network's AUC between fakes and reals.",
            f"AUC by amplitude of a planted difference ({kind_words(kind)}): {points}.",
            charts.COLUMN,
            2.7,
            _chart(charts.draw_sensitivity, amplitudes, aucs, words, network),
        )


def pictures_of(
    evaluation: Evaluation, galleries: Sequence[Gallery], mosaics: Sequence[Mosaic]
) -> Iterator[Picture]:
    """All pictures of a report, in its order."""
    yield from _answer_pictures(evaluation)
    yield from _baseline_pictures(evaluation)
    yield from _bin_pictures(evaluation)
    if evaluation.occlusion is not None:
        yield _occlusion_picture(evaluation.occlusion)
    if evaluation.verdict.kind != "not learnt":  # whose scores put nothing in order
        yield from map(gallery_picture, galleries)
    yield from map(mosaic_picture, mosaics)
    yield from _calibration_pictures(evaluation)
    yield from _retraining_pictures(evaluation)
