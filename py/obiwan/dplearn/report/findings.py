"""Findings of controls: differences in the field's units, the clearest of each systematic, remedies."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from obiwan.dplearn.controls.records import Control, State, Statistic
from obiwan.dplearn.report.formatting import catalogue, control_title, number, say

COLOUR = re.compile(r"\w+ - \w+$")  #: name of a colour, such as ``g - r``
NAMED = 3  #: differences that a sentence names


def difference(control: Control) -> str:
    """A difference between the classes in the field's units, injected less real.

    Examples
    --------
    >>> from obiwan.dplearn.twosample.ranking import Estimate
    >>> nan = float("nan")
    >>> difference(Control("centroid x", "D2", "g", Statistic.SHIFT, "px", effect=0.7))
    'light +0.70 px off in x in g'
    >>> difference(Control("fit minus truth, x", "D2", "", Statistic.RECOVERY, "px", effect=1.5))
    'light +1.50 px off in x from where it was injected'
    >>> real, fake = Estimate(2.0, nan, nan), Estimate(2.1, nan, nan)
    >>> difference(Control("width", "D5", "r", component="location", real=real, fake=fake))
    'light 5.0 % broader in r'
    """
    effect, name = control.effect, control.name
    values = {
        "name": name,
        "title": control_title(name, control.band),
        "where": f" in {control.band}" if control.band else "",
        "unit": f" {control.unit}" if control.unit else "",
        "component": control.component,
        "effect": effect,
        "hundred": 100 * effect,
        "ln": 100 * math.expm1(effect) if control.unit == "ln" else math.nan,
    }
    if control.statistic in (Statistic.SHIFT, Statistic.RECOVERY):
        return say("differs", name if name in catalogue()["differs"] else "shift", **values)
    if control.statistic in (Statistic.ASSOCIATION, Statistic.COMPOSITION):
        key = "label" if control.statistic == Statistic.ASSOCIATION else "composition"
        return say("differs", key, **values)
    real, fake = (math.nan if one is None else one.value for one in (control.real, control.fake))
    if control.component not in ("", "location") or not (fake > real or fake < real):
        return say("differs", "shape", **values)
    section = "more" if fake > real else "less"
    key = "colour" if COLOUR.search(name) else name
    ratio = 100 * abs(fake / real - 1) if real else math.nan
    known = key in catalogue()[section] and (math.isfinite(ratio) or key in ("colour", "magnitude"))
    values |= {"ratio": ratio, "change": abs(fake - real), "fake": number(fake), "real": number(real)}
    return say(section, key if known else "other", **values)


def differences(controls: Sequence[Control], most: int = NAMED) -> list[str]:
    """Differences of controls, those of one quantity in several bands as one phrase with the largest.

    Bands in which it has the opposite sign are named as such.

    Parameters
    ----------
    controls : sequence of Control
        The largest effects first.
    most : int
        Phrases, at most; of others their number.
    """
    of_name: dict[str, list[Control]] = {}
    for one in controls:
        of_name.setdefault(one.name, []).append(one)
    phrases = []
    for first, *others in of_name.values():
        phrases.append(difference(first) + _other_bands(first, others))
    rest = len(phrases) - most
    return [*phrases[:most], *([say("finding", "others", count=rest)] if rest > 0 else [])]


def _other_bands(first: Control, others: Sequence[Control]) -> str:
    """Bands in which the same quantity differs, by the sign of the difference, in brackets."""
    bands: dict[str, list[str]] = {"also": [], "opposite": []}
    for one in others:
        against = one.component == first.component and one.effect * first.effect < 0
        bands["opposite" if against else "also"] += [one.band] if one.band else []
    parts = [say("finding", key, bands=", ".join(found)) for key, found in bands.items() if found]
    return f" ({'; '.join(parts)})" if parts else ""


@dataclass(frozen=True)
class Hazard:
    """A systematic with the control that is farthest from passing.

    Attributes
    ----------
    code : str
        ``D1`` to ``D20``.
    title : str
    control : Control or None
        The worst of its controls; None where it has none that was run.
    count : int
        How many of its controls were run.
    """

    code: str
    title: str
    control: Control | None
    count: int

    @property
    def state(self) -> State:
        """State of its worst control."""
        return State.NOT_RUN if self.control is None else self.control.state

    @property
    def remedy(self) -> str:
        """What to do about a failure."""
        return catalogue()["remedy"][self.code]


_ORDER = (State.FAIL, State.WARN, State.OPEN, State.PASS)


def hazards(controls: Iterable[Control]) -> list[Hazard]:
    """All systematics in their order, each with its worst control: by state, then by effect over limit."""
    run: dict[str, list[Control]] = {}
    for one in controls:
        if one.state != State.NOT_RUN:
            run.setdefault(one.hazard, []).append(one)
    found = []
    for code, title in catalogue()["hazard"].items():
        mine = sorted(run.get(code, []), key=lambda one: (_ORDER.index(one.state), -one.excess))
        found.append(Hazard(code, title, mine[0] if mine else None, len(mine)))
    return found


def remedies(controls: Sequence[Control]) -> list[tuple[str, str, str]]:
    """Code and title of each systematic that fails, its differences, and what to do about them."""
    rows = []
    for one in hazards(controls):
        if one.state == State.FAIL:
            failing = [c for c in controls if c.hazard == one.code and c.state == State.FAIL]
            failing.sort(key=lambda c: -c.excess)
            rows.append((f"{one.code}, {one.title}", "; ".join(differences(failing)), one.remedy))
    return rows
