"""The panel's AUC where failing quantities are held equal: do they explain what it detects?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from obiwan.dplearn.controls.battery import judge_controls
from obiwan.dplearn.controls.covariates import covariates
from obiwan.dplearn.controls.metadata import propensity, propensity_strata
from obiwan.dplearn.controls.questions import Question, questions
from obiwan.dplearn.controls.records import Control, Statistic
from obiwan.dplearn.evaluation.analysis import Baseline
from obiwan.dplearn.evaluation.ensemble import Scored
from obiwan.dplearn.evaluation.ruling import (
    OVERLAP,
    Equal,
    Levels,
    Outcome,
    Quantities,
    Ruling,
    failing_controls,
    panel_differs,
    quantities_fail,
    rule,
)
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.twosample.ranking import GUESS, stratified_auc, usable_strata
from obiwan.dplearn.twosample.summary import usable_bricks
from obiwan.dplearn.twosample.verdict import Verdict

MOST_HELD = 8  #: quantities that are held equal, those of the largest effects: more leave no strata
SIGNAL = "at equal signal to noise"
QUANTITIES = ("measured quantities", "")  #: title of the score of the classifier of measured quantities


@dataclass(frozen=True)
class Evidence:
    """Controls with what they compare, of n examples: the test examples first.

    Attributes
    ----------
    controls : tuple of Control
    asked : tuple of Question
        In their order; the numbers or labels have shape (n,).
    rows : structured ndarray, shape (n,)
        Of the example table.
    columns : mapping
        Their covariates.
    signal : ndarray, shape (n,)
        Signal to noise in the reference band.
    clusters : ndarray of str, shape (n,)
        Bricks, or groups of bricks that are not independent.
    """

    controls: tuple[Control, ...]
    asked: tuple[Question, ...]
    rows: Array
    columns: Mapping[str, Array]
    signal: Array
    clusters: Array

    @classmethod
    def of(cls, rows: Array, measured: Array, spec: StampSpec, clusters: Array) -> Evidence:
        """All controls run on examples, of which these are the rows of the example table."""
        label, bricks = rows["label"], np.char.strip(rows["brick"].astype(str))
        asked = tuple(questions(rows, measured, label, bricks, spec))
        controls = judge_controls(asked, label, clusters)
        columns = covariates(rows, measured, spec)
        return cls(controls, asked, rows, columns, measured[f"snr_{spec.reference}"], clusters)


def held_equal(
    scored: Scored,
    failing: Sequence[Control],
    evidence: Evidence,
    quantities: Array | None = None,
) -> Equal:
    """AUC of the tested score within strata in which failing quantities are alike in both classes.

    The quantities are those measured of each stamp, at equal signal to noise: what a shifted centroid or a
    larger width says about the class depends on how well it is measured.

    Parameters
    ----------
    scored : Scored
        The test examples.
    failing : sequence of Control
        The largest effects first.
    evidence : Evidence
    quantities : ndarray, shape (n,), optional
        Score of the classifier of measured quantities, where that fails.
    """
    values = {(one.name, one.band): given for one, given in evidence.asked}
    columns = {}
    for one in failing[:MOST_HELD]:
        given = values[one.name, one.band]
        composed = one.statistic == Statistic.COMPOSITION
        chosen = np.char.strip(given.astype(str)) == one.component if composed else given
        columns[one.name, one.band] = _known(np.asarray(chosen, np.float64))
    if quantities is not None:
        columns[QUANTITIES] = quantities
    titles, tests = tuple(columns), len(scored.labels)
    with_signal = {f"{name} {band}": one for (name, band), one in columns.items()} | {
        "": _known(evidence.signal)
    }
    strata = propensity_strata(propensity(with_signal, evidence.rows["label"])[:tests])
    overlap = float(usable_strata(scored.labels == 1, strata).mean()) if (strata >= 0).all() else 0.0
    if overlap < OVERLAP:
        return Equal(titles, Outcome.NO_OVERLAP, overlap=overlap)
    usable = usable_bricks(scored.labels, scored.clusters)
    auc = stratified_auc(scored.labels, scored.scores, strata, usable)
    return Equal(titles, Outcome.STAYS if auc.low > GUESS else Outcome.GONE, auc, overlap)


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
    both = [one for one in failing if one.statistic != Statistic.RECOVERY]  # real galaxies have no truth
    if panel_differs(verdict, levels) and (both or fails):
        score = baseline.result.scores if fails and baseline is not None else None
        equal = held_equal(scored, both, evidence, score)
    return rule(verdict, evidence.controls, quantities, equal, missing, levels)


def _known(values: Array) -> Array:
    """Numbers, those that are not known replaced by the median of the others."""
    known = np.isfinite(values)
    return np.where(known, values, np.median(values[known]) if known.any() else 0.0)
