"""Formatting: numbers, intervals and names as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from obiwan.dplearn.controls.battery import NOT_RUN, Control, Statistic
from obiwan.dplearn.controls.covariates import Quantity
from obiwan.dplearn.evaluation.bins import Bin, Bins
from obiwan.dplearn.survey.differences import KINDS
from obiwan.dplearn.twosample.ranking import Estimate

DASH = "\N{EN DASH}"


def number(value: float | None, digits: int | None = None) -> str:
    """Number with so many decimals, or three significant digits; a dash where there is none.

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
    """p-value with two significant digits, no smaller than 0.000001.

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
    """Count with its noun.

    Examples
    --------
    >>> counted(1, "brick"), counted(1200, "brick")
    ('1 brick', '1,200 bricks')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(share: float, digits: int = 0) -> str:
    """Fraction in per cent.

    Examples
    --------
    >>> percent(0.123), percent(-0.0004)
    ('12 %', '0 %')
    """
    return f"{round(100 * share, digits) + 0.0:.{digits}f} %"  # + 0.0 takes the sign off a zero


def limit(control: Control) -> str:
    """Limit of a control, in the unit of its effect."""
    unit = f" {control.unit}" if control.unit and math.isfinite(control.low) else ""
    return f"{number(control.threshold)}{unit}"


def effect(control: Control) -> str:
    """Effect of a control, with its interval where it has one."""
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


def extent(one: Bin, digits: int | None, band: str) -> str:
    """The ends of a bin with so many decimals, or its name."""
    if one.name:
        return f"{one.name} ({band} {one.low:.2f} to {one.high:.2f})" if one.low != one.high else one.name
    return f"{number(one.low, digits)} to {number(one.high, digits)}"


def extents(table: Bins) -> list[str]:
    """The ends of the bins of one quantity, all with the decimals that the narrowest needs."""
    needed = [decimals(b.low, b.high) for b in table.bins if not b.name and math.isfinite(b.high - b.low)]
    digits = max((d for d in needed if d is not None), default=None)
    return [extent(b, digits, table.quantity.band) for b in table.bins]


def quantity_title(quantity: Quantity) -> str:
    """Name of a covariate with its band.

    Examples
    --------
    >>> quantity_title(Quantity("mag_g", "magnitude", "g"))
    'g magnitude'
    >>> quantity_title(Quantity("nobs_g", "exposures", "g"))
    'exposures in g'
    """
    if not quantity.band:
        return quantity.name
    before = quantity.name == "magnitude"
    return f"{quantity.band} {quantity.name}" if before else f"{quantity.name} in {quantity.band}"


def control_title(name: str, band: str) -> str:
    """Name of a control with its band.

    Examples
    --------
    >>> control_title("centroid x", "g"), control_title("brick", "")
    ('centroid x g', 'brick')
    """
    return f"{name} {band}".strip()


def kind_words(kind: str) -> str:
    """Name of a planted difference."""
    return {"psf": "PSF width", "sersic": "S\u00e9rsic index"}.get(kind, kind.replace("_", " "))


def amplitude_words(kind: str, amplitude: float) -> str:
    """Amplitude of a planted difference with its unit.

    Examples
    --------
    >>> amplitude_words("offset", 0.2), amplitude_words("psf", 1.05)
    ('0.2 px', 'a factor of 1.05')
    """
    unit = KINDS[kind].unit
    return f"a factor of {amplitude:g}" if unit == "factor" else f"{amplitude:g} {unit}"
