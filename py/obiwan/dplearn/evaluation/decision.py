"""Decision: the verdict of the tested score, the ruling, and what the networks say by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from obiwan.dplearn.evaluation.analysis import Baseline, answer, baseline, verdict_of
from obiwan.dplearn.evaluation.ensemble import Scored
from obiwan.dplearn.evaluation.equal import Evidence, held_equal
from obiwan.dplearn.evaluation.ruling import (
    Levels,
    Quantities,
    Ruling,
    failing_controls,
    panel_differs,
    quantities_fail,
    rule,
)
from obiwan.dplearn.twosample.verdict import PositiveControl, Verdict


def decided(
    scored: Scored,
    evidence: Evidence,
    positive: PositiveControl | None,
    missing: Sequence[str],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Fields of an evaluation: its ruling, and what that is made of.

    Parameters
    ----------
    scored : Scored
    evidence : Evidence
    positive : PositiveControl or None
    missing : sequence of str
        Kinds of planted difference that were not planted, or not detected.
    settings : mapping
        Margin and seed.
    """
    verdict = verdict_of(scored, settings["margin"], positive)
    known = (evidence.columns, evidence.rows, evidence.tests, settings["seed"], evidence.clusters)
    quantities = baseline(*known, len(scored.rows))
    return {
        "verdict": verdict,
        "ruling": ruling_of(scored, verdict, evidence, quantities, missing),
        "baseline": quantities,
        "controls": evidence.controls,
        "control_examples": len(evidence.rows),
        "control_tests": len(evidence.tests),
    }


def of_networks(
    networks: Scored | None, positive: PositiveControl | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Fields of an evaluation of a panel: what the networks say by themselves; none without networks."""
    if networks is None:
        return {}
    return {
        "networks": networks,
        "network": answer(networks, settings["seed"]),
        "network_verdict": verdict_of(networks, settings["margin"], positive),
    }


def ruling_of(
    scored: Scored,
    verdict: Verdict,
    evidence: Evidence,
    baseline: Baseline | None,
    missing: Sequence[str],
) -> Ruling:
    """The ruling on scores and controls, with what fails held equal where the scores separate the classes.

    Parameters
    ----------
    scored : Scored
        The test examples.
    verdict : Verdict
        Of the scores alone.
    evidence : Evidence
    baseline : Baseline or None
    missing : sequence of str
        Kinds of planted difference that were not planted, or not detected.
    """
    levels, failing = Levels(), failing_controls(evidence.controls, validity=False)
    quantities = None if baseline is None else Quantities(baseline.result.auc, baseline.result.p)
    fails, equal = quantities_fail(quantities, levels), None
    if panel_differs(verdict, levels) and (failing or fails):
        score = baseline.result.scores if fails and baseline is not None else None
        equal = held_equal(evidence.of_tests(scored), failing, evidence, score)
    return rule(verdict, evidence.controls, quantities, equal, missing, levels)
