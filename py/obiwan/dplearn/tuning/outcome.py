"""Outcome of a study: the best trial, and whether it beats the documented network beyond chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.training.settings import RunConfig
from obiwan.dplearn.tuning.objective import Fold, read_scores
from obiwan.dplearn.tuning.space import DOCUMENTED, config_of
from obiwan.dplearn.tuning.study import counted, place_of
from obiwan.dplearn.twosample.ranking import Estimate, auc_difference, mean_of

LEVEL = 0.95  #: coverage of the interval, for all trials together


@dataclass(frozen=True)
class Best:
    """Trial with the highest validation AUC.

    Attributes
    ----------
    number : int
    value : float
        Validation AUC, mean over folds and seeds.
    config : RunConfig
        Settings.
    """

    number: int
    value: float
    config: RunConfig


@dataclass(frozen=True)
class Outcome:
    """Outcome of a study so far.

    Attributes
    ----------
    counts : mapping
        Numbers of trials: ``COMPLETE``, ``PRUNED``, ``FAIL`` and ``RUNNING``.
    folds, seeds : int
        Each trial has a training for each pair.
    best : Best or None
        None where no trial is complete.
    documented : float or None
        Validation AUC of the documented network.
    difference : Estimate or None
        AUC of the best trial less that of the documented network, with an interval that holds for all
        compared trials together (Bonferroni), since the best one was chosen by these examples.
    compared : int
        How many complete trials there are beside the documented network.
    """

    counts: Counter[str]
    folds: int
    seeds: int
    best: Best | None = None
    documented: float | None = None
    difference: Estimate | None = None
    compared: int = 0

    @property
    def trials(self) -> int:
        """How many trials have been begun."""
        return self.counts.total()


def outcome_of(study: Study, outdir: Path, folds: Sequence[Fold], seeds: Sequence[int]) -> Outcome:
    """The outcome of a study as it stands.

    Parameters
    ----------
    study : Study
    outdir : Path
        Where the scores of trials are.
    folds : sequence of Fold
    seeds : sequence of int
        Of the trainings of each fold.
    """
    trials = counted(study)
    counts = Counter(trial.state.name for trial in trials)
    complete = {trial.number: trial for trial in trials if trial.state == TrialState.COMPLETE}
    sizes = len(folds), len(seeds)
    if not complete:
        return Outcome(counts, *sizes)
    first = max(complete.values(), key=lambda trial: (_value(trial), -trial.number))
    best = Best(first.number, _value(first), config_of(first.number, first.params))
    if DOCUMENTED not in complete:
        return Outcome(counts, *sizes, best)
    compared, value = len(complete) - 1, _value(complete[DOCUMENTED])
    if best.number == DOCUMENTED:
        return Outcome(counts, *sizes, best, value, None, compared)
    differences = []
    for fold in folds:
        labels, ours = _scores(fold, place_of(outdir, best.number), seeds)
        _, theirs = _scores(fold, place_of(outdir, DOCUMENTED), seeds)
        differences.append(auc_difference(labels, ours, theirs, fold.bricks))
    found = mean_of(differences).interval(1 - (1 - LEVEL) / compared, least=-1.0)
    return Outcome(counts, *sizes, best, value, found, compared)


def _value(trial: FrozenTrial) -> float:
    """Validation AUC of a complete trial."""
    return float(trial.values[0])


def _scores(fold: Fold, trial: Path, seeds: Sequence[int]) -> tuple[Array, Array]:
    """Labels, shape (n,), and scores, shape (seeds, n), of a fold in a trial."""
    found = [read_scores(fold.place(trial, seed)) for seed in seeds]
    return found[0][0], np.stack([scores for _, scores in found])


def conclusion(outcome: Outcome) -> list[str]:
    """The outcome in sentences."""
    counts, best = outcome.counts, outcome.best
    told = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "not finished"}
    states = ", ".join(f"{counts[state]} {word}" for state, word in told.items() if counts[state])
    lines = [f"Trials: {outcome.trials}{f' ({states})' if states else ''}."]
    if best is None:
        return [*lines, "No trial is complete: there is no best one yet."]
    mean = f", mean of {outcome.folds} folds" if outcome.folds > 1 else ""
    lines.append(f"Best: trial {best.number}, validation AUC {best.value:.3f}{mean}.")
    if outcome.documented is None:
        lines.append("The documented network (trial 0) has no result to compare with.")
    elif outcome.difference is None:
        lines.append("It is the documented network: no trial is better.")
    else:
        found, n = outcome.difference, outcome.compared
        verdict = "better" if found.low > 0 else "not better"
        choice = f", which allows for the choice among {n} trials" if n > 1 else ""
        lines.append(
            f"It is {verdict} than the documented network (AUC {outcome.documented:.3f}) beyond the noise of "
            f"validation: the difference is {found.value:+.3f} (95 % interval {found.low:+.3f} to "
            f"{found.high:+.3f}{choice})."
        )
        if outcome.seeds == 1:
            lines.append("The interval leaves out the scatter between trainings; --seeds 3 includes it.")
    return lines
