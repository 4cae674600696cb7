"""Figures of the evidence: how both classes look, what the set holds, and what the test would detect."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import norm

from obiwan.dplearn.controls.records import State
from obiwan.dplearn.evaluation.analysis import Evaluation
from obiwan.dplearn.evaluation.appearance import Appearance
from obiwan.dplearn.evaluation.exhibits import Exhibits
from obiwan.dplearn.evaluation.power import PowerCurve, power_curve
from obiwan.dplearn.report import charts, comparisons
from obiwan.dplearn.report.charts import COLUMN
from obiwan.dplearn.report.findings import hazards
from obiwan.dplearn.report.formatting import amplitude_estimate, counted, kind_words, number
from obiwan.dplearn.report.pictures import Picture, chart, panels
from obiwan.dplearn.stampspec import SPLITS, StampSpec


def power_curves(evaluation: Evaluation) -> list[PowerCurve]:
    """Power against amplitude for every kind of difference that was planted and detected."""
    least, level = evaluation.verdict.numbers.detectable, evaluation.ruling.levels.panel
    found = [] if least is None else [power_curve(one, least, level) for one in evaluation.detections]
    return [one for one in found if one is not None]


def of_both_classes(evaluation: Evaluation) -> Iterator[Picture]:
    """Controls by systematic, mean stamps, radial profiles and noise of real and injected galaxies."""
    yield _hazards(evaluation)
    found = None if evaluation.exhibits is None else evaluation.exhibits.appearance
    if found is not None:
        yield _mean_stamps(found, evaluation.spec)
        yield _profiles(found, evaluation.spec)
        yield _noise(found, evaluation.spec)


def _hazards(evaluation: Evaluation) -> Picture:
    found = hazards(evaluation.controls)
    codes = {state: ", ".join(one.code for one in found if one.state == state) or "none" for state in State}
    values = {state.name.lower(): codes[state] for state in (State.FAIL, State.WARN, State.OPEN)}
    draw = comparisons.draw_hazards
    return chart(("summary", "hazards"), 4.6, draw, found, passed=codes[State.PASS], **values)


def _mean_stamps(found: Appearance, spec: StampSpec) -> Picture:
    half = min(comparisons.SHOWN, spec.size // 2)
    inner = slice(spec.centre - half, spec.centre + half)
    sigmas = np.abs(found.pixels.sigmas[inner, inner])
    real, fake = found.counts
    values: dict[str, Any] = {"real": f"{real:,}", "fake": f"{fake:,}", "least": f"{found.least_sn:.0f}"}
    values |= {"most": f"{np.nanmax(sigmas):.1f}", "width": f"{2 * half * spec.pixel_scale:.1f}"}
    draw = partial(comparisons.draw_mean_stamps, pixels=found.pixels, spec=spec)
    size = comparisons.mean_stamps_size(spec)
    return panels(("summary", "mean_stamps"), size, draw, **values, chance=_by_chance(sigmas.size))


def _by_chance(count: int) -> str:
    """Largest of so many independent normal deviates that is expected, in sigma."""
    return f"{norm.isf(0.5 / max(count, 1) / 2):.1f}"


def _profiles(found: Appearance, spec: StampSpec) -> Picture:
    draw = partial(comparisons.draw_profiles, found=found, spec=spec)
    ratios = [f"{band} {number(float(found.profiles.ratio[0, k]), 2)}" for k, band in enumerate(spec.bands)]
    real, fake = found.counts
    values: dict[str, Any] = {"real": f"{real:,}", "fake": f"{fake:,}", "ratios": ", ".join(ratios)}
    return panels(("appearance", "profiles"), (comparisons.wide(spec), 4.0), draw, **values)


def _noise(found: Appearance, spec: StampSpec) -> Picture:
    (real, fake), first = found.noise_counts, found.noise.mean[:, 0]
    neighbours = [f"{band} {first[0, k]:.3f} and {first[1, k]:.3f}" for k, band in enumerate(spec.bands)]
    values: dict[str, Any] = {"real": f"{real:,}", "fake": f"{fake:,}", "neighbours": "; ".join(neighbours)}
    return chart(("appearance", "noise"), 3.0, comparisons.draw_noise, found, spec, **values)


def of_the_test(evaluation: Evaluation) -> Iterator[Picture]:
    """AUC of each brick, and power against amplitude."""
    found = None if evaluation.exhibits is None else evaluation.exhibits.brick_aucs
    if found is not None and len(found) > 1:
        auc, margin = evaluation.answer.auc, float(evaluation.settings["margin"])
        away = int(((found["low"] > auc.value) | (found["high"] < auc.value)).sum())
        values: dict[str, Any] = {"count": len(found), "away": away, "chance": f"{0.05 * len(found):.1f}"}
        values |= {"least": f"{found['auc'].min():.2f}", "most": f"{found['auc'].max():.2f}"}
        yield chart(("answer", "brick_aucs"), 2.9, charts.draw_brick_aucs, found, auc, margin, **values)
    curves = power_curves(evaluation)
    if curves:
        rows = -(-len(curves) // charts.POWER_COLUMNS)
        width = COLUMN if len(curves) < charts.POWER_COLUMNS else 7.0
        points = "; ".join(
            f"{kind_words(one.kind)} {amplitude_estimate(one.kind, one.at)[0]}" for one in curves
        )
        draw = partial(charts.draw_power, curves=curves)
        yield panels(("answer", "power"), (width, 0.2 + 1.85 * rows), draw, points=points)


def of_the_set(evaluation: Evaluation) -> Iterator[Picture]:
    """Fractions left after each cut, footprint, and training curves."""
    real, fake = (dict(evaluation.data["cut_flow"].get(name, ())) for name in ("real", "fake"))
    if real and fake:
        ends = {
            name: f"{100 * list(comparisons.left(flow).values())[-1]:.3g}"
            for name, flow in (("real", real), ("fake", fake))
        }
        height = 1.0 + 0.21 * len({**real, **fake})
        yield chart(("tested", "cuts"), height, comparisons.draw_cuts, real, fake, **ends)
    if evaluation.exhibits is not None:
        yield from _bricks_and_curves(evaluation.exhibits)


def _bricks_and_curves(exhibits: Exhibits) -> Iterator[Picture]:
    places, histories = exhibits.places, exhibits.histories
    counts = [counted(int((places["split"] == split).sum()), f"{split} brick") for split in SPLITS]
    yield chart(("tested", "footprint"), 3.2, comparisons.draw_footprint, places, named=", ".join(counts))
    if histories:
        last = next(iter(histories.values()))
        values = {name: f"{last[name][-1]:.3f}" for name in ("loss", "val_loss")}
        values["epochs"] = str(len(last["epoch"]))
        yield chart(("tested", "history"), 2.7, charts.draw_history, histories, **values)
