"""Study of hyperparameters: Optuna's journal, the next trial, and what becomes of a trial whose process died.

The journal holds parameters, epochs and results; a lease (`obiwan.dplearn.tuning.leases`) tells whether a
trial without a result is being trained.  If it is not, the next process that looks for work goes on with it.
"""

from __future__ import annotations

import logging
import math
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeAlias

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.search_space import intersection_search_space
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from obiwan.dplearn.errors import LeaseLostError, ModelError, explained
from obiwan.dplearn.files.atomic import read_json, write_json
from obiwan.dplearn.files.outdir import holding_lease
from obiwan.dplearn.training.settings import RunConfig
from obiwan.dplearn.tuning.leases import TIMING, Timing, is_held, leased
from obiwan.dplearn.tuning.objective import EpochEnded, TrialFailedError
from obiwan.dplearn.tuning.space import DOCUMENTED, Space, config_of

JOURNAL, TRIALS, STARTS = "journal.log", "trials", "starts.json"
PRUNERS = ("median", "hyperband", "none")
STARTS_IN_VAIN = 2  #: starts of a trial without a new checkpoint, after which it has failed
SURPLUS, REASON = "surplus", "reason"  #: attributes of trials: one beyond the budget; why it failed
FIRST_PRUNED = 2  #: epochs that no trial is pruned in by the median rule

Objective: TypeAlias = Callable[[RunConfig, Path, Path, EpochEnded], float]
log = logging.getLogger(__name__)


class OutOfTimeError(Exception):
    """The time of this process is over; the trial goes on in another."""


class _Lock(JournalFileSymlinkLock):
    """Lock of the journal, which removes a line that a killed process has not written to its end."""

    def __init__(self, path: Path, grace: int) -> None:
        super().__init__(str(path), grace)
        self.path = path

    def acquire(self) -> bool:
        """Wait for the lock."""
        done = super().acquire()
        with self.path.open("rb+") as stream:
            end = stream.seek(0, os.SEEK_END)
            tail = b""
            while end and not tail.endswith(b"\n"):
                size = min(end, 1 << 16)
                stream.seek(end - size)
                kept = stream.read(size).rfind(b"\n") + 1
                end, tail = end - size + kept, b"\n" if kept else b""
            stream.truncate(end)
        return done


class SeededSampler(BaseSampler):
    """Tree-structured Parzen estimator whose draws depend on a seed, the trial and the parameter alone.

    An interrupted study of one process therefore draws what an undisturbed one does (Bergstra et al. 2011,
    NeurIPS 24, 2546).

    Parameters
    ----------
    seed : int
    documented : mapping or None
        Parameters of the documented network, which trial `DOCUMENTED` has.
    """

    def __init__(self, seed: int, documented: Mapping[str, Any] | None) -> None:
        self.seed, self.documented = seed, documented

    def _sampler(self, trial: FrozenTrial, purpose: str) -> TPESampler:
        """Sampler for one purpose."""
        return TPESampler(seed=zlib.crc32(f"{self.seed} {trial.number} {purpose}".encode()))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Parameters that are drawn together: those that all trials have."""
        if trial.number == DOCUMENTED:
            return {}
        trials = study.get_trials(deepcopy=False)
        if self.documented is None:  # it has no parameters, and would leave none in common
            trials = trials[DOCUMENTED + 1 :]
        common = intersection_search_space(trials, include_pruned=True)
        return {name: one for name, one in common.items() if not one.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of parameters that are drawn together."""
        return self._sampler(trial, "").sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Value of one parameter."""
        if trial.number == DOCUMENTED and self.documented is not None:
            return self.documented[param_name]
        sampler = self._sampler(trial, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)


def make_pruner(name: str, most_epochs: int) -> BasePruner:
    """Pruner, one of `PRUNERS`, for trials of at most so many epochs."""
    if name == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=most_epochs)
    return MedianPruner(n_warmup_steps=FIRST_PRUNED) if name == "median" else NopPruner()


def open_study(outdir: Path, space: Space, *, pruner: str, seed: int, timing: Timing = TIMING) -> Study:
    """The study in an output directory, made if need be.

    Raises
    ------
    ModelError
        If the journal cannot be read.
    """
    optuna.logging.disable_default_handler()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = outdir / JOURNAL
    with explained(f"{path}: not a readable journal", "choose another --outdir", ModelError):
        storage = JournalStorage(JournalFileBackend(str(path), _Lock(path, timing.lock)))
        return optuna.create_study(
            storage=storage,
            study_name="tune",
            direction="maximize",
            sampler=SeededSampler(seed, space.documented),
            pruner=make_pruner(pruner, space.most_epochs),
            load_if_exists=True,
        )


def place_of(outdir: Path, number: int) -> Path:
    """Directory of a trial."""
    return outdir / TRIALS / f"{number:04d}"


def counted(study: Study) -> list[FrozenTrial]:
    """The trials, without those that processes asked for at one moment beyond the budget."""
    return [trial for trial in study.get_trials(deepcopy=False) if not trial.user_attrs.get(SURPLUS)]


def _waiting(study: Study, outdir: Path, timing: Timing) -> FrozenTrial | None:
    """The first trial that is without a result and in no running process."""
    while True:
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        held = [(trial, is_held(place_of(outdir, trial.number), timing)) for trial in running]
        for trial, alive in held:
            if alive is False:
                return trial
        began = [trial for trial, alive in held if alive is None]
        if not began:
            return None
        sleep(timing.grace)  # whoever has just asked for it has a lease by then
        for trial in began:
            if is_held(place_of(outdir, trial.number), timing) is None:
                return trial


def next_trial(study: Study, outdir: Path, budget: int, timing: Timing = TIMING) -> int | None:
    """Number of the trial to train next: one whose process died, else a new one.

    Parameters
    ----------
    study : Study
    outdir : Path
    budget : int
        How many trials there are to be in all.
    timing : Timing

    Returns
    -------
    int or None
        None where all have a result or are in other processes.
    """
    found = _waiting(study, outdir, timing)
    if found is not None:
        return found.number
    return study.ask().number if len(counted(study)) < budget else None


def _start(place: Path, scratch: Path) -> int:
    """Record a start of a trial; returns how many there were since its newest checkpoint."""
    checkpoints = sorted(str(path.relative_to(place)) for path in place.rglob("*.npz"))
    path = place / STARTS
    with explained(f"{path}: not readable", "remove it and start again", ModelError):
        before = read_json(path) if path.is_file() else {}
        starts = before["starts"] + 1 if before.get("checkpoints") == checkpoints else 1
    with holding_lease(scratch, place):
        write_json(path, {"starts": starts, "checkpoints": checkpoints}, scratch)
    return starts


@dataclass(frozen=True)
class Worker:
    """One process of a study.

    Attributes
    ----------
    study : Study
    space : Space
    objective : callable
        From settings, directory of the trial, lease, and what is called after each epoch, to the value.
    outdir : Path
    until : float
        When to stop, by `time.monotonic`.
    timing : Timing
    """

    study: Study
    space: Space
    objective: Objective
    outdir: Path
    until: float = math.inf
    timing: Timing = TIMING

    def work(self, budget: int) -> None:
        """Train trials until there are as many as the budget, or until the time is over."""
        while monotonic() < self.until:
            number = next_trial(self.study, self.outdir, budget, self.timing)
            if number is None:
                return
            place = place_of(self.outdir, number)
            try:
                with leased(place, self.timing) as scratch:
                    self._run(number, place, scratch, budget)
            except (LeaseLostError, UpdateFinishedTrialError) as error:
                log.warning("trial %d is in another process: %s", number, error)
            except OutOfTimeError:
                log.info("trial %d: this process is out of time; started again, it goes on", number)
                return

    def _frozen(self, number: int) -> FrozenTrial:
        """A trial as the journal has it."""
        return self.study.get_trials(deepcopy=False)[number]

    def _run(self, number: int, place: Path, scratch: Path, budget: int) -> None:
        """Train a trial whose lease is held, and record the result."""
        if self._frozen(number).state.is_finished():  # another process was quicker
            return
        trial = Trial(self.study, self._frozen(number)._trial_id)
        if sum(one.number < number for one in counted(self.study)) >= budget:
            trial.set_user_attr(SURPLUS, True)
            self._tell(trial, place, scratch, TrialState.FAIL)
            return
        try:
            if _start(place, scratch) > STARTS_IN_VAIN:
                msg = f"its process ended {STARTS_IN_VAIN} times without a new checkpoint"
                raise TrialFailedError(msg)
            log.info("trial %d begins", number)
            value = self._value(trial, place, scratch)
        except optuna.TrialPruned:
            log.info("trial %d: pruned", number)
            self._tell(trial, place, scratch, TrialState.PRUNED)
        except TrialFailedError as error:
            log.warning("trial %d failed: %s", number, error)
            trial.set_user_attr(REASON, str(error))
            self._tell(trial, place, scratch, TrialState.FAIL)
        except BaseException:
            (place / STARTS).unlink(missing_ok=True)  # an end that is announced is no start in vain
            raise
        else:
            log.info("trial %d: validation AUC %.3f", number, value)
            self._tell(trial, place, scratch, TrialState.COMPLETE, value)

    def _value(self, trial: Trial, place: Path, scratch: Path) -> float:
        """Objective of a trial; reports its epochs."""
        documented = trial.number == DOCUMENTED
        params = {} if documented and self.space.documented is None else self.space.draw(trial)
        try:
            config = config_of(trial.number, params)
        except ValueError as error:
            raise TrialFailedError(str(error)) from None

        def ended(training: int, aucs: Sequence[float]) -> None:
            if training == 0:
                known = self._frozen(trial.number).intermediate_values
                for epoch, value in enumerate(aucs, 1):
                    if epoch not in known:
                        trial.report(value, epoch)
            if training == 0 and len(aucs) == config.epochs:
                return
            if training == 0 and not documented and trial.should_prune():
                raise optuna.TrialPruned
            if monotonic() >= self.until:
                raise OutOfTimeError

        return self.objective(config, place, scratch, ended)

    def _tell(
        self, trial: Trial, place: Path, scratch: Path, state: TrialState, value: float | None = None
    ) -> None:
        """Record a result, if the lease is still held."""
        with holding_lease(scratch, place):
            os.utime(scratch)
        self.study.tell(trial.number, value, state=state, skip_if_finished=True)
