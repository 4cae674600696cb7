"""What a report says of where everything comes from: examples, looks, settings, cuts."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from obiwan.dplearn.evaluation.records import Evaluation
from obiwan.dplearn.planning.cutflow import merged
from obiwan.dplearn.referees.testlog import Ledger
from obiwan.dplearn.report.formatting import DASH, counted


def tested(evaluation: Evaluation) -> str:
    """What was tested, in two or three sentences."""
    data, config = evaluation.data, evaluation.data["config"]
    counts = data["counts"]["test"]
    one = counts["bricks"] == 1
    if config.get("split") == "object":
        where = "parts of which are"
    else:
        where = "which is not" if one else "none of which is"
    text = (
        f"{counts['real']:,} real and {counts['fake']:,} fake examples of "
        f"{counted(counts['bricks'], 'brick')}, {where} in the training split."
    )
    if config:
        text += (
            f" Selection “{config.get('select')}”; reals cut from the {config.get('reals_from')} coadds; "
            f"centred on {config.get('centers')} positions; classes balanced by {config.get('balance')}; "
            f"split by {config.get('split')}."
        )
    ledger = evaluation.scored.ledger
    if ledger is not None:
        text += _seen_by(ledger, {model.checksum for model in evaluation.scored.models})
    return text


def _seen_by(ledger: Ledger, own: Container[str]) -> str:
    """Who else has seen the test split."""
    text = ""
    if all(network in own for network in ledger.networks):
        text += " No other network has looked at this test split"
        if ledger.retrained:
            text += f", but for {len(ledger.retrained)} trained again on parts of the cutouts"
        text += "."
    if len(ledger.openings) > 1:
        text += f" It has been evaluated {len(ledger.openings)} times, with other networks or margins."
    return text


def provenance(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Where everything comes from."""
    data, settings = evaluation.data, evaluation.settings
    rows = [
        ("training set", f"checksum {data['checksum']}, made by obiwan.dplearn {data['package_version']}")
    ]
    rows += [("input tree", f"{root.get('name')} ({root.get('layout')})") for root in data["roots"]]
    rows.append(
        ("selection and seed", ", ".join(f"{k} {v}" for k, v in data["config"].items() if v is not None))
    )
    rows.append(("settings of this evaluation", ", ".join(f"{k} {v}" for k, v in settings.items())))
    rows.append(("who has seen this test split", _ledger_words(evaluation.scored.ledger)))
    rows.append(("software", ", ".join(f"{name} {version}" for name, version in evaluation.versions.items())))
    return rows


def _ledger_words(ledger: Ledger | None) -> str:
    """The ledger of looks in one line."""
    if ledger is None:
        return "not counted"
    words = f"{counted(len(ledger.networks), 'network')}, {len(ledger.retrained)} trained again on parts of "
    words += f"the cutouts; {counted(len(ledger.openings), 'evaluation')}"
    margins = dict.fromkeys(opening.margin for opening in ledger.openings)
    return words + "".join(f", margin {margin:g}" for margin in margins)


def cut_flow(data: dict[str, Any]) -> list[tuple[str, str | int, str | int]]:
    """Rows of the cut flow of both classes, merged in order; a dash where a rule is of one class only."""
    flows = (dict(data["cut_flow"].get(name, ())) for name in ("real", "fake"))
    return [
        (name, DASH if real is None else real, DASH if fake is None else fake)
        for name, real, fake in merged(*flows)
    ]
