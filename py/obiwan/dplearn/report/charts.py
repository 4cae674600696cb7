"""Charts of an evaluation, drawn on given Axes: no pyplot state, no files.

Colours are those of Okabe & Ito, which people with any kind of colour vision can tell apart; the classes
differ in line style or marker as well, so that a chart survives a grey printer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from obiwan.dplearn.evaluation.bins import Bin, Bins
from obiwan.dplearn.evaluation.occlusion import Occlusion
from obiwan.dplearn.report.formatting import quantity_title
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.twosample.ranking import GUESS, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


REAL, FAKE, NETWORK, OTHER, GREY = "#0072B2", "#D55E00", "#000000", "#CC79A7", "#999999"
COLUMN = 4.2  #: inches, the width of a chart: about a journal's column, and a phone's screen


@dataclass(frozen=True)
class Entry:
    """One line of `draw_forest`.

    Attributes
    ----------
    name : str
        What was tested.
    auc : Estimate
        Of the classes.
    main : bool
        Whether it is the network's own answer.
    """

    name: str
    auc: Estimate
    main: bool = False


def _arms(estimates: Sequence[Estimate]) -> Array:
    """Lengths of error bars below and above, shape (2, n)."""
    ends = [(max(0.0, e.value - e.low), max(0.0, e.high - e.value)) for e in estimates]
    return np.array(ends, float).reshape(-1, 2).T


def _auc_limits(estimates: Sequence[Estimate], margin: float) -> tuple[float, float]:
    """Limits of an AUC axis: all intervals, guessing and the margin, with some room."""
    low = min([GUESS - margin, *(e.low for e in estimates)])
    high = max([GUESS + margin, *(e.high for e in estimates)])
    room = 0.06 * (high - low)
    return max(0.0, low - room), min(1.0 + room / 2, high + room)


def draw_scores(axes: Axes, labels: Array, scores: Array) -> None:
    """Histograms of the network's score for both classes, each as fractions of its class."""
    edges = np.linspace(0, 1, 26)
    for value, name, colour, style in ((0, "real", REAL, "-"), (1, "fake", FAKE, "--")):
        mine = scores[labels == value]
        share = np.histogram(mine, edges)[0] / max(1, len(mine))
        label = f"{name} ({len(mine):,})"
        # Without a base line, which would be taken for a drop of the distribution at 0 and 1.
        axes.stairs(share, edges, baseline=None, color=colour, linestyle=style, label=label, linewidth=1.6)
    axes.set(xlabel="score: P(fake)", ylabel=f"fraction of the class per {edges[1]:g}", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    axes.legend()


def roc(labels: Array, scores: Array) -> tuple[Array, Array]:
    """ROC curve: fractions of reals and of fakes above every threshold, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    ends = np.r_[np.flatnonzero(np.diff(scores[order])), len(scores) - 1]  # ties are one step
    fakes = np.cumsum(labels[order] == 1)[ends]
    reals = ends + 1 - fakes
    return np.r_[0, reals] / max(1, reals[-1]), np.r_[0, fakes] / max(1, fakes[-1])


def draw_roc(axes: Axes, curves: Sequence[tuple[str, Array, Array]]) -> None:
    """ROC curves: (name, labels, scores) each, the network's first."""
    colours = ((NETWORK, "-"), (OTHER, "--"), (REAL, ":"))
    for (name, labels, scores), (colour, style) in zip(curves, colours, strict=False):
        axes.plot(*roc(labels, scores), color=colour, linestyle=style, label=name)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, label="guessing")
    axes.set(
        xlabel="false positive rate (reals called fake)",
        ylabel="true positive rate (fakes called fake)",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.set_aspect("equal")
    axes.legend(loc="lower right")


def _auc_axis(axes: Axes, margin: float, overall: Estimate) -> None:
    """Guessing, the margin around it and the AUC of all examples, behind a chart of AUCs."""
    axes.axhspan(GUESS - margin, GUESS + margin, color=GREY, alpha=0.25, linewidth=0)
    axes.axhline(GUESS, color=GREY, linewidth=0.9)
    axes.axhline(overall.value, color=NETWORK, linewidth=0.9, linestyle=":")
    axes.set_ylabel("AUC")


def _draw_points(axes: Axes, x: Array, bins: Sequence[Bin], widths: Array | None) -> None:
    """AUCs with intervals: filled where they differ from 0.5 with all bins considered."""
    estimates = [b.auc for b in bins if b.auc is not None]
    values = [e.value for e in estimates]
    if widths is not None:  # pale and with an end: neighbours' bars would join to a staircase
        axes.errorbar(x, values, xerr=widths, fmt="none", ecolor=GREY, elinewidth=0.9, capsize=2.5)
    axes.errorbar(x, values, yerr=_arms(estimates), fmt="none", ecolor=NETWORK, elinewidth=1.1)
    for differs, face in ((True, NETWORK), (False, "white")):
        here = [i for i, b in enumerate(bins) if b.differs == differs]
        axes.plot(
            np.asarray(x)[here],
            [estimates[i].value for i in here],
            "o",
            markersize=5,
            markerfacecolor=face,
            markeredgecolor=NETWORK,
        )


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
    shown = [(place, b) for place, b in enumerate(table.bins) if b.auc is not None]
    bins = [b for _, b in shown]
    _auc_axis(axes, margin, overall)
    estimates = [b.auc for b in bins if b.auc is not None]
    if ideal is not None:
        axes.plot(*ideal, color=OTHER, linestyle="--", label="ideal observer")
        axes.legend(loc="best")
    if table.bins and table.bins[0].name:
        _draw_points(axes, np.array([float(place) for place, _ in shown]), bins, None)
        axes.set_xticks(range(len(table.bins)), [_tick(b) for b in table.bins])
        axes.set_xlim(-0.6, len(table.bins) - 0.4)
    else:
        middle = np.array([b.middle for b in bins])
        ends = np.array([(b.middle - b.low, b.high - b.middle) for b in bins]).reshape(-1, 2).T
        _draw_points(axes, middle, bins, ends)
    unit = f" ({table.quantity.unit})" if table.quantity.unit else ""
    axes.set_xlabel(f"{quantity_title(table.quantity)}{unit}")
    best = [] if ideal is None else [Estimate(v, v, v) for v in map(float, ideal[1])]
    axes.set_ylim(*_auc_limits([*estimates, overall, *best], margin))


def _tick(one: Bin) -> str:
    """Name of a bin, with its ends below where it has any."""
    return f"{one.name}\n{one.low:.1f} to\n{one.high:.1f}" if one.low < one.high else one.name


def draw_forest(axes: Axes, entries: Sequence[Entry], margin: float) -> None:
    """AUCs of several tests one below the other, with intervals and the margin around guessing."""
    axes.axvspan(GUESS - margin, GUESS + margin, color=GREY, alpha=0.25, linewidth=0)
    axes.axvline(GUESS, color=GREY, linewidth=0.9)
    for place, entry in enumerate(entries):
        colour, marker = (NETWORK, "D") if entry.main else (REAL, "o")
        axes.errorbar(
            [entry.auc.value],
            [place],
            xerr=_arms([entry.auc]),
            fmt=marker,
            color=colour,
            markersize=6 if entry.main else 5,
            elinewidth=1.4,
        )
    axes.set_yticks(range(len(entries)), [entry.name for entry in entries])
    axes.set_ylim(len(entries) - 0.5, -0.5)
    axes.set_xlim(*_auc_limits([entry.auc for entry in entries], margin))
    axes.set_xlabel("AUC (0.5 is guessing; grey: the margin)")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def draw_reliability(axes: Axes, curves: Sequence[tuple[str, Array]]) -> None:
    """Reliability: observed fraction of fakes against the score; (name, `calibration.CURVE` records) each."""
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, label="perfect calibration")
    for (name, curve), (colour, marker, style) in zip(
        curves, ((NETWORK, "o", "-"), (REAL, "s", "--")), strict=False
    ):
        arms = np.stack(
            [curve["observed"] - curve["observed_low"], curve["observed_high"] - curve["observed"]]
        ).clip(0)
        axes.errorbar(
            curve["predicted"],
            curve["observed"],
            yerr=arms,
            color=colour,
            marker=marker,
            linestyle=style,
            markersize=4,
            linewidth=1.0,
            label=name,
        )
    axes.set(xlabel="score: P(fake)", ylabel="fraction of fakes", xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    axes.legend(loc="best")


def draw_occlusion(axes: Axes, occlusion: Occlusion, scale: float) -> None:
    """AUC by what lies within a radius, and by what lies beyond it.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    occlusion : Occlusion
    scale : float
        Arcseconds per pixel.
    """
    arcsec, half_light = occlusion.radii * scale, occlusion.half_light * scale
    whole = occlusion.whole
    axes.axhspan(whole.low, whole.high, color=GREY, alpha=0.2, linewidth=0)
    axes.axhline(whole.value, color=NETWORK, linewidth=0.9, linestyle=":")
    axes.axhline(GUESS, color=GREY, linewidth=0.9)
    for estimates, name, colour, style, side in (
        (occlusion.inner, "within the radius", NETWORK, "o-", -1),
        (occlusion.outer, "beyond the radius", OTHER, "s--", 1),
    ):
        axes.errorbar(
            arcsec + side * 0.03,
            [estimate.value for estimate in estimates],
            yerr=_arms(estimates),
            fmt=style,
            color=colour,
            markersize=4,
            elinewidth=1.0,
            linewidth=1.2,
            label=name,
        )
    if np.isfinite(half_light):
        axes.axvline(half_light, color=GREY, linewidth=0.9, linestyle=":")
    axes.set(xlabel="radius (arcsec)", ylabel="AUC", xlim=(0, arcsec[-1] * 1.04))
    axes.set_ylim(*_auc_limits([whole, *occlusion.inner, *occlusion.outer], 0.0))
    axes.legend(loc="best")


def draw_sensitivity(
    axes: Axes, amplitudes: Sequence[float], found: Sequence[Estimate], words: str, network: Estimate
) -> None:
    """AUC of the retrained network against the amplitude of what was planted.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    amplitudes : sequence of float
    found : sequence of Estimate
    words : str
        Kind and unit of the amplitude.
    network : Estimate
        AUC between fakes and reals, for comparison (dotted).
    """
    axes.axhline(GUESS, color=GREY, linewidth=0.9)
    axes.axhspan(network.low, network.high, color=GREY, alpha=0.2, linewidth=0)
    axes.axhline(network.value, color=NETWORK, linewidth=0.9, linestyle=":")
    axes.errorbar(
        amplitudes,
        [estimate.value for estimate in found],
        yerr=_arms(found),
        fmt="o-",
        color=REAL,
        markersize=5,
        elinewidth=1.2,
        linewidth=0.9,
    )
    axes.set(xlabel=words, ylabel="AUC")
    if len(set(amplitudes)) == 1:  # alone, it would have an axis of millionths around it
        axes.set_xticks([amplitudes[0]])
        axes.set_xlim(amplitudes[0] - 0.1 * abs(amplitudes[0]), amplitudes[0] + 0.1 * abs(amplitudes[0]))
    axes.set_ylim(*_auc_limits([*found, network], 0.0))
