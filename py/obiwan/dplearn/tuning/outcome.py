"""Outcome of a study: the best trial, and whether it beats the documented network beyond chance."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.training.settings import RunConfig
from obiwan.dplearn.tuning.objective import read_scores
from obiwan.dplearn.tuning.space import DOCUMENTED, config_of
from obiwan.dplearn.tuning.study import counted, place_of
from obiwan.dplearn.twosample.ranking import Estimate, auc_difference

LEVEL = 0.95  #: coverage of the interval, for all trials together


@dataclass(frozen=True)
class Best:
    """Trial with the highest validation AUC.

    Attributes
    ----------
    number : int
    value : float
        Validation AUC, mean over seeds.
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
    seeds : int
        Trainings of each trial.
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
    seeds: int
    best: Best | None = None
    documented: float | None = None
    difference: Estimate | None = None
    compared: int = 0

    @property
    def trials(self) -> int:
        """How many trials have been begun."""
        return self.counts.total()


def outcome_of(study: Study, outdir: Path, seeds: tuple[int, ...], bricks: Array | None) -> Outcome:
    """The outcome of a study as it stands.

    Parameters
    ----------
    study : Study
    outdir : Path
        Where the scores of trials are.
    seeds : tuple of int
        Of the trainings of each trial.
    bricks : ndarray or None
        The brick of each validation example; None where the interval has to rest on examples.
    """
    trials = counted(study)
    counts = Counter(trial.state.name for trial in trials)
    complete = {trial.number: trial for trial in trials if trial.state == TrialState.COMPLETE}
    if not complete:
        return Outcome(counts, len(seeds))
    first = max(complete.values(), key=lambda trial: (_value(trial), -trial.number))
    best = Best(first.number, _value(first), config_of(first.number, first.params))
    if DOCUMENTED not in complete:
        return Outcome(counts, len(seeds), best)
    compared, value = len(complete) - 1, _value(complete[DOCUMENTED])
    if best.number == DOCUMENTED:
        return Outcome(counts, len(seeds), best, value, None, compared)
    labels, ours = _scores(outdir, best.number, seeds)
    _, theirs = _scores(outdir, DOCUMENTED, seeds)
    found = auc_difference(labels, ours, theirs, bricks).interval(1 - (1 - LEVEL) / compared, least=-1.0)
    return Outcome(counts, len(seeds), best, value, found, compared)


def _value(trial: FrozenTrial) -> float:
    """Validation AUC of a complete trial."""
    return float(trial.values[0])


def _scores(outdir: Path, number: int, seeds: tuple[int, ...]) -> tuple[Array, Array]:
    """Labels, shape (n,), and scores, shape (seeds, n), of a trial."""
    found = [read_scores(place_of(outdir, number) / f"seed_{seed}") for seed in seeds]
    return found[0][0], np.stack([scores for _, scores in found])


def conclusion(outcome: Outcome) -> list[str]:
    """The outcome in sentences."""
    counts, best = outcome.counts, outcome.best
    told = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "not finished"}
    states = ", ".join(f"{counts[state]} {word}" for state, word in told.items() if counts[state])
    lines = [f"Trials: {outcome.trials}{f' ({states})' if states else ''}."]
    if best is None:
        return [*lines, "No trial is complete: there is no best one yet."]
    lines.append(f"Best: trial {best.number}, validation AUC {best.value:.3f}.")
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
