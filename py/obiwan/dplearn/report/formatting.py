"""Numbers, intervals and phrases as one reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from obiwan.dplearn.controls.battery import NOT_RUN, Control, Statistic
from obiwan.dplearn.evaluation.bins import Bin
from obiwan.dplearn.retraining.sensitivity import SensitivityResult, SensitivitySummary
from obiwan.dplearn.survey.differences import FACTOR, KINDS
from obiwan.dplearn.twosample import Estimate

DASH = "\N{EN DASH}"
KIND_NAMES = {
    "psf": "PSF width",
    "sersic": "S\u00e9rsic index",
}  #: of planted differences, but for their keys
ABLATIONS = {
    "image only": "inverse variances flat: what the images say",
    "ivar only": "images zero: above 0.5 it is leakage, or brighter galaxies by their photons",
    "centre masked": "no pixels within a quarter of the size from the centre: above 0.5 it is the sky around",
    "outskirts masked": "no pixels beyond a quarter of the size from the centre: the object",
    "A/A real": "real against real galaxies, split at random: a null test",
    "A/A fake": "injected against injected galaxies, split at random: a null test",
}  #: what ablations say, but those of one band


def number(value: float | None, digits: int | None = None) -> str:
    """A number as one reads it: so many decimals, or three significant digits; a dash where there is none.

    Examples
    --------
    >>> number(0.80898, 3), number(1234.5), number(float("nan")) == DASH
    ('0.809', '1234', True)
    """
    if value is None or not math.isfinite(value):
        return DASH
    if digits is not None:
        return f"{value:.{digits}f}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def interval(estimate: Estimate, digits: int = 3) -> str:
    """The ends of an interval."""
    return f"{number(estimate.low, digits)} to {number(estimate.high, digits)}"


def with_interval(estimate: Estimate, digits: int = 3) -> str:
    """A number and its interval."""
    return f"{number(estimate.value, digits)} ({interval(estimate, digits)})"


def probability(p: float) -> str:
    """A p-value, no smaller than what such numbers are good for.

    Examples
    --------
    >>> probability(0.0312), probability(0.0000312), probability(1e-9)
    ('0.031', '0.000031', '< 0.000001')
    """
    if not math.isfinite(p):
        return DASH
    if p < 1e-6:
        return "< 0.000001"
    digits = 1 - math.floor(math.log10(p))  # two that count, and never as a power of ten
    return f"{p:.{digits}f}".rstrip("0") if p < 0.995 else "1"


def thousands(count: float | str) -> str:
    """A count with commas; a dash as it is."""
    return count if isinstance(count, str) else f"{count:,.0f}"


def counted(count: int, noun: str) -> str:
    """So many of something.

    Examples
    --------
    >>> counted(1, "brick"), counted(1200, "brick")
    ('1 brick', '1,200 bricks')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def sentence(text: str) -> str:
    """A phrase as a sentence."""
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""


def percent(share: float, digits: int = 0) -> str:
    """A share in per cent.

    Examples
    --------
    >>> percent(0.123), percent(-0.0004)
    ('12 %', '0 %')
    """
    return f"{round(100 * share, digits) + 0.0:.{digits}f} %"  # + 0.0 takes the sign off a zero


def ablation_words(name: str) -> str:
    """What an ablation says."""
    return ABLATIONS.get(name, f"{name} alone")


def kind_words(kind: str) -> str:
    """A kind of planted difference as people write it."""
    return KIND_NAMES.get(kind, kind)


def amplitude_words(kind: str, amplitude: float) -> str:
    """An amplitude with its unit, as people write it."""
    unit = KINDS[kind].unit
    return f"a factor of {amplitude:g}" if unit == FACTOR else f"{amplitude:g} {unit}"


def _detection_words(result: SensitivityResult) -> str:
    """Whether a planted difference was detected, and with what power."""
    planted = amplitude_words(result.kind, result.amplitude)
    if not result.detected:
        return f"not even {planted} was detected (AUC {result.auc})"
    power = f"{'more than ' if result.power > 0.99 else ''}{100 * min(result.power, 0.99):.0f} %"
    return f"{planted} was detected (AUC {result.auc}); the power of such a test is {power}"


def sensitivity_lines(summary: SensitivitySummary) -> tuple[str, ...]:
    """The smallest difference of each kind that was detected, and how many examples were left out."""
    lines = [f"{kind_words(result.kind)}: {_detection_words(result)}" for result in summary.results]
    if summary.left_out:
        which = f"{counted(summary.left_out, 'example')} {'is' if summary.left_out == 1 else 'are'}"
        lines.append(f"{which} in neither half: the fitted flux, shape or PSF width is unknown")
    return tuple(lines)


def limit(control: Control) -> str:
    """What a control's difference may be, in the unit of its effect."""
    unit = f" {control.unit}" if control.unit and math.isfinite(control.low) else ""
    return f"{number(control.threshold)}{unit}"


def effect(control: Control) -> str:
    """The size of a control's difference, with its interval where it has one."""
    if control.light == NOT_RUN or not math.isfinite(control.effect):
        return DASH
    if math.isfinite(control.low):
        unit = f" {control.unit}" if control.unit else ""
        return f"{control.effect:+.3g}{unit} ({control.low:+.3g} to {control.high:+.3g})"
    kind = "KS distance beyond chance" if control.statistic == Statistic.DISTRIBUTION else "association"
    return f"{kind} {control.effect:.3f}"


def together(controls: Sequence[Control]) -> list[str]:
    """Names of controls, those of one quantity in several bands as one."""
    bands: dict[str, list[str]] = {}
    for control in controls:
        bands.setdefault(control.name, []).extend([control.band] if control.band else [])
    return [f"{name} ({', '.join(found)})" if found else name for name, found in bands.items()]


def decimals(low: float, high: float) -> int | None:
    """Decimals that tell two ends apart to some per cent; None where they are the same."""
    width = high - low
    return max(0, 1 - math.floor(math.log10(width))) if width > 0 else None


def extent(one: Bin, digits: int | None) -> str:
    """The ends of a bin with so many decimals, or its name."""
    if one.name:
        return f"{one.name} (g {one.low:.2f} to {one.high:.2f})" if one.low != one.high else one.name
    return f"{number(one.low, digits)} to {number(one.high, digits)}"


def extents(bins: Sequence[Bin]) -> list[str]:
    """The ends of the bins of one quantity, all with the decimals that the narrowest needs.

    Examples
    --------
    >>> edges = (21.97, 22.31, 24.5)
    >>> extents([Bin("", *ends, 22.0, 9, 9, 1, None, 1.0, 1.0) for ends in zip(edges, edges[1:])])
    ['21.97 to 22.31', '22.31 to 24.50']
    """
    needed = [decimals(b.low, b.high) for b in bins if not b.name and math.isfinite(b.high - b.low)]
    digits = max((d for d in needed if d is not None), default=None)
    return [extent(b, digits) for b in bins]
