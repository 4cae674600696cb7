"""Drawings of both classes side by side: mean stamps, profiles, noise, cuts, and where they lie on the sky.

Colours and markers are those of `charts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from obiwan.dplearn.controls.records import Control, State
from obiwan.dplearn.evaluation.appearance import Appearance, Compared
from obiwan.dplearn.evaluation.bricks import unwrapped
from obiwan.dplearn.planning.cutflow import CutFlow, merged
from obiwan.dplearn.report.charts import COLUMN, FAKE, GREY, NETWORK, REAL
from obiwan.dplearn.report.findings import Hazard
from obiwan.dplearn.report.formatting import control_title
from obiwan.dplearn.stampspec import SPLITS, Array, StampSpec
from obiwan.dplearn.twosample.ranking import Estimate

CLASSES = (("real", REAL, "o", "white"), ("injected", FAKE, "s", FAKE))
SHOWN = 16  #: pixels from the centre that mean stamps are shown to
SIGMAS = 5.0  #: of the difference that have the full colour
FAINT = 0.02  #: of the brightest pixel, below which the stretch is linear
PANEL = 1.12  #: inches, a panel of mean stamps
MARKERS = "os^Dvp"  #: of the bands


def mean_stamps_size(spec: StampSpec) -> tuple[float, float]:
    """Size of the figure of mean stamps (inches)."""
    return COLUMN, 0.3 + PANEL * len(spec.bands)


def draw_mean_stamps(figure: Figure, pixels: Compared, spec: StampSpec) -> None:
    """Mean real and mean injected stamp of each band, and their difference in units of its error."""
    half = min(SHOWN, spec.size // 2)
    inner = slice(spec.centre - half, spec.centre + half)
    reach = (-half - 0.5, half - 0.5)
    grid = figure.subplots(len(spec.bands), 3, squeeze=False)
    for axes_row, k in zip(grid, range(len(spec.bands)), strict=True):
        means = [one[inner, inner, k] for one in pixels.mean]
        brightest = float(np.nanmax(np.abs(means)))
        for axes, image in zip(axes_row, means, strict=False):
            shown = np.arcsinh(image / (FAINT * brightest))
            top = float(np.arcsinh(1 / FAINT))
            axes.imshow(shown, cmap="gray", vmin=-0.3, vmax=top, origin="lower", extent=(*reach, *reach))
        sigmas = pixels.sigmas[inner, inner, k]
        limits = {"vmin": -SIGMAS, "vmax": SIGMAS}
        drawn = axes_row[2].imshow(sigmas, cmap="RdBu_r", origin="lower", extent=(*reach, *reach), **limits)
        axes_row[0].set_ylabel(spec.bands[k], rotation=0, labelpad=8, va="center")
        for axes in axes_row:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, linewidth=0.6)
    for axes, title in zip(grid[0], ("real", "injected", "difference"), strict=True):
        axes.set_title(title, pad=3)
    bar = figure.colorbar(drawn, ax=grid[:, 2], shrink=min(1.0, 1.6 / len(spec.bands)), aspect=14, pad=0.03)
    bar.set_label("injected less real (sigma)")


def wide(spec: StampSpec) -> float:
    """Width of a figure with a panel per band (inches)."""
    return max(COLUMN, 0.6 + 2.1 * len(spec.bands))


def draw_profiles(figure: Figure, found: Appearance, spec: StampSpec) -> None:
    """Radial profiles of both classes in each band, and below them their ratio."""
    arcsec, profiles, half = found.radius * spec.pixel_scale, found.profiles, found.profiles.half
    grid = figure.subplots(2, len(spec.bands), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 2))
    least = np.nanmin(np.where(profiles.mean > 0, profiles.mean, np.nan))
    for k, (band, (upper, lower)) in enumerate(zip(spec.bands, grid.T, strict=True)):
        for (name, colour, marker, face), mean, error in zip(
            CLASSES, profiles.mean, profiles.error, strict=True
        ):
            style: dict[str, Any] = {
                "fmt": f"{marker}-",
                "color": colour,
                "markerfacecolor": face,
                "label": name,
            }
            upper.errorbar(arcsec, mean[:, k], yerr=half * error[:, k], **style)
        upper.set_yscale("log", nonpositive="mask")
        upper.set_ylim(bottom=least / 3)
        upper.set_title(band, pad=3)
        lower.axhline(1, color=GREY, linewidth=0.9)
        ratio, error = profiles.ratio[:, k], half * profiles.ratio_error[:, k]
        seen = error < 1  # beyond, the light is that of the sky
        lower.errorbar(arcsec[seen], ratio[seen], yerr=error[seen], fmt="o-", color=NETWORK)
        lower.set_xlabel("radius (arcsec)")
    grid[0, 0].set_ylabel("flux per pixel / flux in the window")
    grid[1, 0].set_ylabel("injected / real")
    grid[0, -1].legend()


def draw_noise(axes: Axes, found: Appearance, spec: StampSpec) -> None:
    """Correlation of sky pixels against their distance, in every band."""
    axes.axhline(0, color=GREY, linewidth=0.9)
    count, half = len(spec.bands), found.noise.half
    for (name, colour, _, face), mean, error, side in zip(
        CLASSES, found.noise.mean, found.noise.error, (-1, 1), strict=True
    ):
        for k, band in enumerate(spec.bands):
            aside = side * 0.06 + 0.24 * (k - (count - 1) / 2) / max(count - 1, 1)
            style: dict[str, Any] = {
                "fmt": MARKERS[k % len(MARKERS)],
                "color": colour,
                "markerfacecolor": face,
            }
            label = f"{name} {band}"
            axes.errorbar(found.lags + aside, mean[:, k], yerr=half * error[:, k], label=label, **style)
    axes.set(xlabel="distance (pixels)", ylabel="correlation of sky pixels")
    axes.set_xticks(found.lags)
    # A column of the legend, which fills them one by one, for each band.
    handles, labels = axes.get_legend_handles_labels()
    order = [k + part * count for k in range(count) for part in (0, 1)]
    place: dict[str, Any] = {
        "loc": "lower center",
        "bbox_to_anchor": (0.5, 1.0),
        "columnspacing": 0.8,
        "handletextpad": 0.2,
    }
    axes.legend([handles[k] for k in order], [labels[k] for k in order], ncols=count, **place)


def left(flow: CutFlow) -> dict[str, float]:
    """Fraction of a class that is left after each cut."""
    first = next(iter(flow.values()), 0)
    return {name: number / first for name, number in flow.items() if first}


def draw_cuts(axes: Axes, real: CutFlow, fake: CutFlow) -> None:
    """Fraction of each class that is left after each cut, and at the right injected over real."""
    fractions = [left(real), left(fake)]
    names = [name for name, *_ in merged(real, fake)]
    places = np.arange(len(names))
    for (name, colour, marker, face), mine in zip(CLASSES, fractions, strict=True):
        found = [(place, mine[cut]) for place, cut in zip(places, names, strict=True) if cut in mine]
        y, x = zip(*found, strict=True)
        axes.plot(x, y, marker=marker, color=colour, markerfacecolor=face, linewidth=0.8, label=name)
    for place, cut in enumerate(names):
        if all(mine.get(cut, 0) > 0 for mine in fractions):
            ratio = f"{fractions[1][cut] / fractions[0][cut]:.2f}"
            axes.text(1.02, place, ratio, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.text(1.02, -0.9, "ratio", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    least = min((value for mine in fractions for value in mine.values() if value > 0), default=1)
    axes.set(xlabel="fraction left", xlim=(least / 1.5, 1.3) if least < 0.2 else (0, 1.05))
    if least < 0.2:
        axes.set_xscale("log")
    axes.legend()


def draw_footprint(axes: Axes, places: Array) -> None:
    """Bricks of each split on the sky, east to the left."""
    ra = unwrapped(places["ra"])
    looks = ((GREY, "s", GREY), (GREY, "o", "white"), (FAKE, "D", FAKE))
    for split, (colour, marker, face) in zip(SPLITS, looks, strict=True):
        mine = places["split"] == split
        label = f"{split} ({mine.sum():,})"
        style: dict[str, Any] = {"s": 16, "marker": marker, "edgecolors": colour, "linewidths": 0.8}
        axes.scatter(ra[mine], places["dec"][mine], facecolors=face, label=label, **style)
    axes.set(xlabel="RA (deg)", ylabel="Dec (deg)")
    axes.invert_xaxis()
    axes.ticklabel_format(useOffset=False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=3, columnspacing=0.8, handletextpad=0.2)


#: Marker, colour and face of each state of a control.
STATES = {
    State.FAIL: ("s", FAKE, FAKE),
    State.WARN: ("^", "#E69F00", "#E69F00"),
    State.OPEN: ("o", REAL, "white"),
    State.PASS: ("o", "#009E73", "#009E73"),
}
LEAST, MOST = 0.02, 100.0  #: ends of the axis of effects in units of their limits


def over_limit(control: Control) -> Estimate:
    """Absolute effect of a control and its interval, in units of its limit."""
    ends = [one / control.threshold for one in (control.low, control.high)]
    low = 0.0 if ends[0] < 0 < ends[1] else min(map(abs, ends))
    return Estimate(control.excess, low, max(map(abs, ends)))


def draw_hazards(axes: Axes, hazards: Sequence[Hazard]) -> None:
    """Effect over limit of the worst control of each systematic, with its interval."""
    axes.axvspan(LEAST, 1, color=GREY, alpha=0.25, linewidth=0)
    used = dict.fromkeys(one.state for one in hazards if one.control is not None)
    for state in (one for one in STATES if one in used):
        marker, colour, face = STATES[state]
        places = [k for k, one in enumerate(hazards) if one.state == state]
        found = [over_limit(one.control) for one in hazards if one.control and one.state == state]
        ends = np.clip([(one.value, one.low, one.high) for one in found], LEAST, MOST)
        value, low, high = ends[:, 0], ends.min(1), ends.max(1)
        style: dict[str, Any] = {"fmt": marker, "color": colour, "markerfacecolor": face}
        axes.errorbar(value, places, xerr=(value - low, high - value), label=state.value, **style)
    names = [
        one.title if one.control is None else control_title(one.control.name, one.control.band)
        for one in hazards
    ]
    axes.set_yticks(
        range(len(hazards)), [f"{name}  {one.code}" for name, one in zip(names, hazards, strict=True)]
    )
    for one, label in zip(hazards, axes.get_yticklabels(), strict=True):
        label.set_color(GREY if one.control is None else NETWORK)
    axes.set_ylim(len(hazards) - 0.5, -0.5)
    axes.set(xscale="log", xlim=(LEAST, MOST), xlabel="difference over its limit")
    axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.legend(loc="lower center", bbox_to_anchor=(0.3, 1.0), ncols=4, columnspacing=0.8, handletextpad=0.2)
