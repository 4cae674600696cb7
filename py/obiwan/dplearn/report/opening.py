"""Opening of the report: what was tested and what to do, in a few sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from obiwan.dplearn.controls.records import Control
from obiwan.dplearn.evaluation.analysis import Answer, Evaluation
from obiwan.dplearn.evaluation.bricks import unwrapped
from obiwan.dplearn.report.findings import remedies
from obiwan.dplearn.report.formatting import counted, say


def clusters(answer: Answer, count: int | None = None) -> str:
    """Number of bricks, or of groups of them, that intervals rest on, or another number of such."""
    count = answer.clusters if count is None else count
    named = {f"{noun}s": counted(count, noun) for noun in ("brick", "group", "cell")}
    return say("clusters", answer.clustered_by.name, **named)


def input_trees(data: Mapping[str, Any]) -> list[str]:
    """Names of the input trees, each with what made it: `inject`, or the program whose layout it has."""
    ours, found = {drawn["root"] for drawn in data.get("drawn", ())}, []
    for root in data["roots"]:
        tree = f"{root.get('name')} ({'inject' if root.get('index') in ours else root.get('layout')})"
        found.append(say("opening", "stand_in", tree=tree) if root.get("as_real") else tree)
    return found


def scope(evaluation: Evaluation) -> str:
    """Test set in a sentence: galaxies, bricks and groups of them, region of the sky, tree."""
    n = evaluation.verdict.numbers
    bricks = counted(evaluation.answer.bricks, "brick")
    if (found := clusters(evaluation.answer)) != bricks:
        bricks += f" ({found})"
    parts = [say("opening", "counts", real=n.real, fake=n.fake, bricks=bricks)]
    if evaluation.exhibits is not None:
        parts.append(say("opening", "region", **_region(evaluation.exhibits.places)))
    if trees := input_trees(evaluation.data):
        parts.append(say("opening", "trees", trees=", ".join(trees)))
    return ", ".join(parts) + "."


def _region(places: Any) -> dict[str, str]:
    """Ends of the test bricks on the sky, with the digits that their extent needs."""
    mine = places[places["split"] == "test"]
    ra, dec = unwrapped(mine["ra"]), mine["dec"]
    extent = max(float(np.ptp(ra)), float(np.ptp(dec)), 1e-3)
    digits = max(0, 1 - int(np.floor(np.log10(extent))))
    ends = {"left": ra.min() % 360, "right": ra.max() % 360, "bottom": dec.min(), "top": dec.max()}
    return {name: f"{value:.{digits}f}" for name, value in ends.items()}


def advice(controls: Sequence[Control]) -> list[str]:
    """What to do about each systematic that fails, a line each."""
    found = remedies(controls)
    return [say("opening", "remedy", hazard=hazard, remedy=remedy) for hazard, _, remedy in found]
