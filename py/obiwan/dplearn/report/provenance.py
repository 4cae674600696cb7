"""Provenance: the test set, its cuts and evaluations, settings and software, as the report names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from obiwan.dplearn.evaluation.analysis import Evaluation
from obiwan.dplearn.planning.cutflow import merged
from obiwan.dplearn.referees.testlog import Ledger
from obiwan.dplearn.report.formatting import DASH, counted
from obiwan.dplearn.report.sentences import say


def tested(evaluation: Evaluation) -> str:
    """The test set in a few sentences."""
    data, config, ledger = evaluation.data, evaluation.data["config"], evaluation.scored.ledger
    counts = data["counts"]["test"]
    key = "object" if config.get("split") == "object" else "one" if counts["bricks"] == 1 else "many"
    values = {**counts, "bricks": counted(counts["bricks"], "brick"), "where": say("tested", key)}
    parts = [say("tested", "counts", **values)]
    if config:
        names = ("select", "reals_from", "centers", "balance", "split")
        parts.append(say("tested", "config", **{name: config.get(name) for name in names}))
    if ledger is not None:
        own = {model.checksum for model in evaluation.scored.models}
        if own.issuperset(ledger.networks):
            key = "retrained" if ledger.retrained else "alone"
            parts.append(say("tested", key, count=len(ledger.retrained)))
        if len(ledger.openings) > 1:
            parts.append(say("tested", "again", count=len(ledger.openings)))
    return " ".join(parts)


def provenance(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Origin of data, settings and software: what, and which."""
    data = evaluation.data

    def listed(values: Mapping[str, Any]) -> str:
        return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)

    return [
        ("training set", say("provenance", "checksum", **data)),
        *(("input tree", f"{root.get('name')} ({root.get('layout')})") for root in data["roots"]),
        ("selection and seed", listed(data["config"])),
        ("settings of this evaluation", listed(evaluation.settings)),
        ("evaluations of this test set", _ledger(evaluation.scored.ledger)),
        ("software", listed(evaluation.versions)),
    ]


def _ledger(ledger: Ledger | None) -> str:
    """The test-set log in one line."""
    if ledger is None:
        return say("provenance", "unlogged")
    networks, retrained = counted(len(ledger.networks), "network"), len(ledger.retrained)
    evaluations = counted(len(ledger.openings), "evaluation")
    text = say("provenance", "log", networks=networks, retrained=retrained, evaluations=evaluations)
    margins = dict.fromkeys(opening.margin for opening in ledger.openings)
    return text + "".join(f", margin {margin:g}" for margin in margins)


def cut_flow(data: dict[str, Any]) -> list[tuple[str, str | int, str | int]]:
    """Rows of the cut flow of both classes, merged in order; a dash where a cut is of one class only."""
    flows = (dict(data["cut_flow"].get(name, ())) for name in ("real", "fake"))
    return [
        (name, DASH if real is None else real, DASH if fake is None else fake)
        for name, real, fake in merged(*flows)
    ]
