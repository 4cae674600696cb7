"""Charts of an evaluation, drawn on given Axes: no pyplot state, no files.

Colours are those of Okabe & Ito, which people with any kind of colour vision can tell apart; the classes
differ in line style or marker as well, so that a chart survives a grey printer.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from obiwan.dplearn.evaluation.bins import Bin, Bins
from obiwan.dplearn.evaluation.occlusion import Occlusion
from obiwan.dplearn.evaluation.power import POWER, PowerCurve
from obiwan.dplearn.report.formatting import kind_words, quantity_title
from obiwan.dplearn.retraining.sensitivity import SensitivityResult
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.differences import KINDS
from obiwan.dplearn.twosample.ranking import GUESS, Estimate

REAL, FAKE, NETWORK, OTHER, GREY = "#0072B2", "#D55E00", "#000000", "#CC79A7", "#999999"
ROC_POINTS = 10_000  #: of a curve, at most: a chart has fewer pixels
COLUMN = 4.2  #: inches, the width of a chart: about a journal's column, and a phone's screen


def _columns(estimates: Sequence[Estimate]) -> tuple[Array, Array]:
    """Values of estimates, and the lengths of their error bars below and above, shape (2, n)."""
    value, low, high = np.array([(e.value, e.low, e.high) for e in estimates], float).reshape(-1, 3).T
    return value, np.stack([value - low, high - value]).clip(0)


def _auc_limits(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Limits of an AUC axis: all intervals and guessing, with some room."""
    low, high = min([GUESS, *(e.low for e in estimates)]), max([GUESS, *(e.high for e in estimates)])
    room = 0.06 * (high - low)
    return max(0.0, low - room), min(1.0 + room / 2, high + room)


def _errorbar(axes: Axes, x: Any, estimates: Sequence[Estimate], **style: Any) -> None:
    """Values of estimates at x, with their intervals."""
    values, arms = _columns(estimates)
    axes.errorbar(x, values, yerr=arms, **style)


def _around_guessing(margin: float) -> Estimate:
    return Estimate(GUESS, GUESS - margin, GUESS + margin)


def _auc_axis(axes: Axes, band: Estimate, line: Estimate, shown: Sequence[Estimate]) -> None:
    """A vertical axis of AUCs: guessing, a grey band, a dotted line, and room for all that is shown."""
    axes.axhspan(band.low, band.high, color=GREY, alpha=0.25, linewidth=0)
    axes.axhline(GUESS, color=GREY, linewidth=0.9)
    axes.axhline(line.value, color=NETWORK, linewidth=0.9, linestyle=":")
    axes.set_ylabel("AUC")
    axes.set_ylim(*_auc_limits([band, line, *shown]))


def draw_scores(axes: Axes, labels: Array, scores: Array) -> None:
    """Histograms of the network's score for both classes, each as fractions of its class."""
    edges = np.linspace(0, 1, 26)
    for value, name, colour, style in ((0, "real", REAL, "-"), (1, "fake", FAKE, "--")):
        mine = scores[labels == value]
        fractions = np.histogram(mine, edges)[0] / max(1, len(mine))
        label = f"{name} ({len(mine):,})"
        # Without a base line, which would be taken for a drop of the distribution at 0 and 1.
        axes.stairs(
            fractions, edges, baseline=None, color=colour, linestyle=style, label=label, linewidth=1.6
        )
    axes.set(xlabel="score: P(fake)", ylabel=f"fraction of the class per {edges[1]:g}", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    axes.legend()


def roc(labels: Array, scores: Array) -> list[Array]:
    """ROC curve: fractions of real and of injected galaxies at or above every threshold, from 0 to 1.

    Of more than `ROC_POINTS` different scores, so many are taken, evenly by rank.
    """
    different = np.unique(scores)[::-1]
    if len(different) > ROC_POINTS:
        different = different[np.linspace(0, len(different) - 1, ROC_POINTS).round().astype(int)]
    thresholds = np.r_[np.inf, different]
    classes = (np.sort(scores[labels == value]) for value in (0, 1))
    return [np.asarray(1 - np.searchsorted(mine, thresholds) / max(1, len(mine))) for mine in classes]


def draw_roc(axes: Axes, curves: Sequence[tuple[str, Array, Array]]) -> None:
    """ROC curves: (name, labels, scores) each, the network's first."""
    for (name, labels, scores), colour, style in zip(curves, (NETWORK, OTHER), ("-", "--"), strict=False):
        axes.plot(*roc(labels, scores), color=colour, linestyle=style, label=name)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, label="guessing")
    axes.set(xlabel="fraction of real galaxies called fake", ylabel="fraction of injected ones called fake")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(loc="lower right")


def draw_bins(
    axes: Axes, table: Bins, overall: Estimate, margin: float, ideal: tuple[Array, Array] | None = None
) -> None:
    """AUC in bins of a quantity.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    table : Bins
        Bins without an AUC are left out; those with names, cameras or percentiles, keep their place.
    overall : Estimate
        AUC of all examples, drawn dotted.
    margin : float
        Half-height of the band around 0.5.
    ideal : tuple of ndarray, optional
        Quantity and AUC of the ideal observer, drawn as a curve.
    """
    shown = [(place, b, b.auc) for place, b in enumerate(table.bins) if b.auc is not None]
    estimates = [auc for *_, auc in shown]
    values, arms = _columns(estimates)
    if ideal is not None:
        axes.plot(*ideal, color=OTHER, linestyle="--", label="ideal observer")
        axes.legend()
        estimates += [Estimate(v, v, v) for v in map(float, ideal[1])]
    if table.bins[0].name:
        x = np.array([float(place) for place, *_ in shown])
        axes.set_xticks(range(len(table.bins)), [_tick(b) for b in table.bins])
        axes.set_xlim(-0.6, len(table.bins) - 0.4)
    else:
        x, widths = _columns([Estimate(b.middle, b.low, b.high) for _, b, _ in shown])
        # Pale and with an end: neighbours' bars would join to a staircase.
        axes.errorbar(x, values, xerr=widths, fmt="none", ecolor=GREY, elinewidth=0.9, capsize=2.5)
    axes.errorbar(x, values, yerr=arms, fmt="none", ecolor=NETWORK, elinewidth=1.1)
    faces = [NETWORK if b.differs else "white" for _, b, _ in shown]
    axes.scatter(x, values, s=25, facecolors=faces, edgecolors=NETWORK, zorder=3)
    unit = f" ({table.quantity.unit})" if table.quantity.unit else ""
    axes.set_xlabel(f"{quantity_title(table.quantity)}{unit}")
    _auc_axis(axes, _around_guessing(margin), overall, estimates)


def _tick(one: Bin) -> str:
    """Name of a bin, with its ends below where it has any."""
    return f"{one.name}\n{one.low:.1f} to\n{one.high:.1f}" if one.low < one.high else one.name


def draw_forest(axes: Axes, entries: Sequence[tuple[str, Estimate]], margin: float) -> None:
    """AUCs by name, one below the other, with intervals; the first is marked as the main one."""
    band, estimates = _around_guessing(margin), [auc for _, auc in entries]
    axes.axvspan(band.low, band.high, color=GREY, alpha=0.25, linewidth=0)
    axes.axvline(GUESS, color=GREY, linewidth=0.9)
    (values, arms), places = _columns(estimates), np.arange(len(entries))
    for chosen, style, colour in ((slice(1), "D", NETWORK), (slice(1, None), "o", REAL)):
        axes.errorbar(values[chosen], places[chosen], xerr=arms[:, chosen], fmt=style, color=colour)
    axes.set_yticks(places, [name for name, _ in entries])
    axes.set_ylim(len(entries) - 0.5, -0.5)
    axes.set_xlim(*_auc_limits([band, *estimates]))
    axes.set_xlabel("AUC (0.5 is guessing; grey: the margin)")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def draw_reliability(axes: Axes, curves: Sequence[tuple[str, Array]]) -> None:
    """Reliability: fraction of injected galaxies by score; (name, `calibration.CURVE` records) each."""
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, label="perfect calibration")
    for (name, curve), colour, style in zip(curves, (NETWORK, REAL), ("o-", "s--"), strict=True):
        ends = curve[["observed", "observed_low", "observed_high"]].tolist()
        found = [Estimate(*one) for one in ends]
        _errorbar(axes, curve["predicted"], found, color=colour, fmt=style, label=name)
    axes.set(xlabel="score: P(fake)", ylabel="fraction of injected galaxies")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend()


def draw_occlusion(axes: Axes, occlusion: Occlusion, scale: float) -> None:
    """AUC by what lies within a radius, and by what lies beyond it; `scale` is in arcseconds per pixel."""
    arcsec, inner, outer = occlusion.radii * scale, occlusion.inner, occlusion.outer
    _auc_axis(axes, occlusion.whole, occlusion.whole, [*inner, *outer])
    for found, name, colour, style, aside in (
        (inner, "within the radius", NETWORK, "o-", -0.03),
        (outer, "beyond the radius", OTHER, "s--", 0.03),
    ):
        _errorbar(axes, arcsec + aside, found, fmt=style, color=colour, label=name)
    if np.isfinite(occlusion.half_light):
        axes.axvline(occlusion.half_light * scale, color=GREY, linewidth=0.9, linestyle=":")
    axes.set(xlabel="radius (arcsec)", xlim=(0, arcsec[-1] * 1.04))
    axes.legend()


def draw_sensitivity(axes: Axes, found: Sequence[SensitivityResult], network: Estimate) -> None:
    """AUC of the retrained network against the amplitude of what was planted.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    found : sequence of SensitivityResult
        Of one kind.
    network : Estimate
        AUC between injected and real galaxies, for comparison (dotted).
    """
    amplitudes, aucs, kind = [one.amplitude for one in found], [one.auc for one in found], found[0].kind
    _errorbar(axes, amplitudes, aucs, fmt="o-", color=REAL)
    axes.set_xlabel(f"{kind_words(kind)} ({KINDS[kind].unit})")
    if len(amplitudes) == 1:  # alone, it would have an axis of millionths around it
        axes.set_xticks(amplitudes)
    _auc_axis(axes, network, network, aucs)


def draw_brick_aucs(axes: Axes, found: Array, overall: Estimate, margin: float) -> None:
    """AUC in each test brick with its interval, from the lowest to the highest; `bricks.OWN_AUC` records."""
    ordered = np.sort(found, order="auc")
    estimates = [Estimate(*one) for one in ordered[["auc", "low", "high"]].tolist()]
    few = len(estimates) <= 60
    style = {"fmt": "o", "markersize": 3.5 if few else 1.5, "elinewidth": 1.0 if few else 0.4}
    _errorbar(axes, np.arange(1, len(estimates) + 1), estimates, color=REAL, **style)
    axes.set_xlabel("test brick, by its AUC")
    axes.set_xlim(0, len(estimates) + 1)
    _auc_axis(axes, _around_guessing(margin), overall, estimates)


POWER_COLUMNS, WORDS = 4, 20  #: panels in a row; characters of a line above one
LEAST_TICK = 1e-3  #: end of an axis below which its numbers have many zeros


def draw_power(figure: Figure, curves: Sequence[PowerCurve]) -> None:
    """Power against amplitude, a panel for each kind of difference."""
    columns = min(POWER_COLUMNS, len(curves))
    grid = figure.subplots(-(-len(curves) // columns), columns, sharey=True, squeeze=False)
    for axes in grid.ravel()[len(curves) :]:
        axes.set_axis_off()
    for axes, one in zip(grid.ravel(), curves, strict=False):
        axes.fill_between(one.amplitude, one.low, one.high, color=REAL, alpha=0.2, linewidth=0)
        axes.plot(one.amplitude, one.power, color=REAL)
        axes.axhline(POWER, color=GREY, linewidth=0.8, linestyle=":")
        axes.plot([one.at.value] * 2, [0, POWER], color=GREY, linewidth=0.8, linestyle=":")
        axes.set(xlim=(one.amplitude[0], one.amplitude[-1]), ylim=(0, 1.02))
        axes.set_title(textwrap.fill(kind_words(one.kind), WORDS), pad=3)
        axes.set_xlabel(KINDS[one.kind].unit)
        axes.locator_params(axis="x", nbins=4 if one.amplitude[-1] > LEAST_TICK else 2)
        axes.ticklabel_format(axis="x", style="plain")
    for axes in grid[:, 0]:
        axes.set_ylabel("power")


def draw_history(axes: Axes, histories: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Loss of networks against the epoch, on the training and on the validation split."""
    for key, colour, style, label in (
        ("loss", REAL, "-", "training"),
        ("val_loss", FAKE, "--", "validation"),
    ):
        for number, history in enumerate(histories.values()):
            name = label if number == 0 else None
            axes.plot(history["epoch"], history[key], color=colour, linestyle=style, label=name)
    axes.axhline(np.log(2), color=GREY, linewidth=0.9)
    axes.set(xlabel="epoch", ylabel="cross-entropy (nats)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
