"""Formatting: sentences of ``html/text.toml``, numbers, intervals and names as text."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from obiwan.dplearn.controls.covariates import Quantity
from obiwan.dplearn.controls.records import Control, Statistic
from obiwan.dplearn.evaluation.bins import Bins
from obiwan.dplearn.survey.differences import FACTOR, KINDS
from obiwan.dplearn.twosample.ranking import Estimate

DASH = "\N{EN DASH}"
HTML = Path(__file__).parent / "html"  #: the page's template, its style and all sentences


@dataclass(frozen=True)
class Statement:
    """Ruling or verdict in words.

    Attributes
    ----------
    headline : str
        One sentence.
    explanation : tuple of str
        The sentences that follow it.
    """

    headline: str
    explanation: tuple[str, ...]


@cache
def catalogue() -> Mapping[str, Mapping[str, str]]:
    """All sentences, by section and key."""
    return tomllib.loads((HTML / "text.toml").read_text(encoding="utf-8"))


def say(section: str, key: str, /, **values: Any) -> str:
    """A sentence with values in its braces.

    Examples
    --------
    >>> say("alt", "scores", auc="0.512")
    'Histograms of the scores of both classes; the AUC between them is 0.512.'
    """
    return catalogue()[section][key].format(**values)


def number(value: float | None, digits: int | None = None) -> str:
    """Number with so many decimals, or three significant digits; a dash where there is none.

    Examples
    --------
    >>> number(0.80898, 3), number(1234.5), number(8.4e-5), number(float("nan")) == DASH
    ('0.809', '1234', '0.000084', True)
    """
    if value is None or not math.isfinite(value):
        return DASH
    if digits is not None:
        return f"{value:.{digits}f}"
    if 0 < abs(value) < 1e-4:  # never as a power of ten
        return _decimal(value, 3)
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


def thousands(count: float | None) -> str:
    """A count with commas; a dash where there is none."""
    return DASH if count is None else f"{count:,.0f}"


def counted(count: int, noun: str) -> str:
    """Count with its noun.

    Examples
    --------
    >>> counted(1, "brick"), counted(1200, "brick")
    ('1 brick', '1,200 bricks')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


#: Unit of the effect of a control whose statistic has one of its own.
UNITS = {Statistic.DISTRIBUTION: "AUC", Statistic.COMPOSITION: "", Statistic.ASSOCIATION: ""}


def _in_unit(value: float, control: Control) -> str:
    """A number in the unit of a control's effect."""
    unit = UNITS.get(control.statistic, control.unit)
    return number(value) + (f"\N{NO-BREAK SPACE}{unit}" if unit else "")


def limit(control: Control) -> str:
    """Limit of a control, in the unit of its effect."""
    return _in_unit(control.threshold, control)


def least_detectable(control: Control) -> str:
    """Effect that a control finds with a power of 80 %, in its unit; ``none`` where the set finds nothing.

    Examples
    --------
    >>> least_detectable(Control("type", "D10", statistic=Statistic.COMPOSITION, detectable=0.0123))
    '0.012'
    >>> least_detectable(Control("width", "D5", "r", detectable=math.inf))
    'none'
    """
    if math.isnan(control.detectable):
        return DASH
    if math.isinf(control.detectable):
        return "none"
    return _in_unit(float(f"{control.detectable:.2g}"), control)


def effect(control: Control) -> str:
    """Effect of a control with its interval.

    Examples
    --------
    >>> effect(Control("width", "D5", "r", effect=0.031, component="location", low=0.012, high=0.05))
    'location +0.031 AUC (+0.012 to +0.05)'
    """
    if not math.isfinite(control.effect):
        return DASH
    if control.statistic == Statistic.ASSOCIATION:
        return f"association {control.effect:.3f} ({control.low:.3f} to {control.high:.3f})"
    unit = UNITS.get(control.statistic, control.unit)
    plain = control.statistic in (Statistic.SHIFT, Statistic.RECOVERY)
    named = "" if plain else f"{control.component} "
    size = f"{control.effect:+.3g}" + (f" {unit}" if unit else "")
    return f"{named}{size} ({control.low:+.3g} to {control.high:+.3g})"


def together(titles: Iterable[tuple[str, str]]) -> list[str]:
    """Names of controls from name and band of each, those of one quantity in several bands as one.

    Examples
    --------
    >>> together([("width", "g"), ("brick", ""), ("width", "r")])
    ['width (g, r)', 'brick']
    """
    bands: dict[str, list[str]] = {}
    for name, band in titles:
        bands.setdefault(name, []).extend([band] if band else [])
    return [f"{name} ({', '.join(found)})" if found else name for name, found in bands.items()]


def extents(table: Bins) -> list[str]:
    """Ends of the bins of one quantity, with the decimals that the narrowest needs, or their names."""
    widths = [b.high - b.low for b in table.bins if not b.name and 0 < b.high - b.low < math.inf]
    digits = max(0, 1 - math.floor(math.log10(min(widths)))) if widths else None
    found = []
    for b in table.bins:
        ends = f"{number(b.low, 2 if b.name else digits)} to {number(b.high, 2 if b.name else digits)}"
        named = f"{b.name} ({table.quantity.band} {ends})" if b.low != b.high else b.name
        found.append(named if b.name else ends)
    return found


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
    """Name of a planted difference.

    Examples
    --------
    >>> kind_words("psf"), kind_words("size")
    ('PSF width', 'size')
    """
    return catalogue()["kind"].get(kind, kind.replace("_", " "))


def amplitude_words(kind: str, amplitude: float) -> str:
    """Amplitude of a planted difference with its unit.

    Examples
    --------
    >>> amplitude_words("offset", 0.2), amplitude_words("psf", 1.05), amplitude_words("ivar_dip", 0.05)
    ('0.2 px', 'a factor of 1.05', '5 %')
    """
    return _with_unit(kind, _decimal(_in_percent(kind, amplitude), 6))


def amplitude_estimate(kind: str, found: Estimate) -> tuple[str, str]:
    """A measured amplitude with its unit, and the ends of its interval, with two digits of what it changes.

    Examples
    --------
    >>> amplitude_estimate("psf", Estimate(1.0412, 1.0288, 1.068))
    ('a factor of 1.041', '1.029 to 1.068')
    >>> amplitude_estimate("photon_noise", Estimate(4.21e-5, 3.1e-5, 0.00013))
    ('0.000042 nanomaggies', '0.000031 to 0.00013 nanomaggies')
    """
    value, *ends = (_in_percent(kind, one) for one in (found.value, found.low, found.high))
    shift = KINDS[kind].neutral
    low, high = (_decimal(end, 2, shift) for end in ends)
    factor = KINDS[kind].unit == FACTOR
    span = f"{low} to {high}"
    return _with_unit(kind, _decimal(value, 2, shift)), span if factor else _with_unit(kind, span)


def _in_percent(kind: str, amplitude: float) -> float:
    return 100 * amplitude if KINDS[kind].unit == "fraction" else amplitude


def _with_unit(kind: str, number: str) -> str:
    """A number with the unit of a kind; of a step in an index, which has none, only that it is a step."""
    say_unit = {FACTOR: "a factor of {}", "fraction": "{} %", "index": "a step of {}"}
    return say_unit.get(KINDS[kind].unit, f"{{}} {KINDS[kind].unit}").format(number)


def _decimal(value: float, digits: int, shift: float = 0.0) -> str:
    """A number whose distance from `shift` has so many significant digits, never as a power of ten."""
    if not math.isfinite(value):
        return DASH
    away = abs(value - shift)
    decimals = max(0, digits - 1 - math.floor(math.log10(away))) if away > 0 else 0
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if digits > 2 and "." in text else text
