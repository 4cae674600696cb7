"""Retraining runs: a classifier trained again on an edited training set, and its AUC on the test split.

Ablations and the sensitivity test share this.  A network is trained with the settings of the run that is
examined, in a directory of its own where an interrupted run goes on.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from obiwan.dplearn.errors import ModelError, explained
from obiwan.dplearn.files.atomic import read_json, write_json
from obiwan.dplearn.files.outdir import State, holding_lease
from obiwan.dplearn.referees.jury import Jury, judge, samples_of
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.training.batches import check_splits, with_fitting_batches
from obiwan.dplearn.training.rundir import RESULT, RUN, run_directory
from obiwan.dplearn.trainingset.manifest import SOURCES
from obiwan.dplearn.trainingset.stampset import StampSet
from obiwan.dplearn.twosample.ranking import Estimate, auc_pvalue
from obiwan.dplearn.twosample.summary import LEAST_CLUSTERS, answer, usable_bricks

if TYPE_CHECKING:
    from obiwan.dplearn.training.settings import RunConfig

log = logging.getLogger(__name__)


def run_config_of(model: Path) -> RunConfig:
    """The network and the settings of a run, from the ``run.json`` beside its model.

    Raises
    ------
    ModelError
        If there is no such file, or it cannot be understood.
    """
    from obiwan.dplearn.training.settings import FeedConfig, NetworkConfig, RunConfig

    path = model.parent / RUN
    if not path.is_file():
        msg = f"{path}: not there; to train the same network again, give a model in the directory of its run"
        raise ModelError(msg)
    with explained(f"{path}: not the settings of a run", "train the model again", ModelError):
        found = read_json(path)
        parts = {"network": NetworkConfig(**found["network"]), "feed": FeedConfig(**found["feed"])}
        own = {one.name: found[one.name] for one in fields(RunConfig) if one.name in found}
        return RunConfig(**{**own, **parts})


@dataclass(frozen=True)
class Retrained:
    """What a classifier trained again reaches on the test split.

    Attributes
    ----------
    auc : Estimate
        Of label 1 against label 0.
    learnt : bool
        Whether it fitted its training set.
    train, test : int
        Examples.
    bricks : int
        Bricks, or groups of bricks, that the interval rests on; 0 where it rests on examples.
    p : float
        Of the AUC's difference from 0.5, two-sided; NaN for results of versions that did not keep it.
    """

    auc: Estimate
    learnt: bool
    train: int
    test: int
    bricks: int
    p: float = field(default=math.nan, kw_only=True)


def _judged(edited: StampSet, labels: Array, scores: Array, *, learnt: bool) -> Retrained:
    """The result of scores of the test split, in the order of its rows."""
    clusters = None
    if (edited.directory / SOURCES).is_file():
        clusters = edited.clusters(edited.rows("test"), LEAST_CLUSTERS).names
    found = answer(labels, scores, clusters)
    p = auc_pvalue(labels, scores, usable_bricks(labels, clusters), "two-sided")
    return Retrained(found.auc, learnt, sum(edited.count("train")), len(labels), found.bricks, p=p)


def _read_result(path: Path) -> Retrained:
    """A result that was written before."""
    with explained(f"{path}: not a readable result", "remove it and start again", ModelError):
        content = read_json(path)
        return Retrained(**{**content, "auc": Estimate(**content["auc"])})


def retrain_members(edited: StampSet, jury: Jury, executor: Executor | None = None) -> Retrained:
    """Train members of a panel on an edited set, and score the test split with their combination.

    Parameters
    ----------
    edited : StampSet
    jury : Jury
        Members, and how many examples of each split are measured.
    executor : Executor, optional
        Workers that measure.

    Raises
    ------
    TrainingSetError
        If a split of the edited set lacks one of the labels.
    """
    check_splits(edited)
    samples = samples_of(edited, jury, executor)
    found, tested = judge(jury, samples), samples["test"]
    result = _judged(tested.stamp_set, tested.labels, found.scores, learnt=found.learnt)
    return replace(result, train=len(samples["train"].positions))


def retrain(
    edited: StampSet,
    config: RunConfig,
    outdir: Path,
    *,
    name: str,
    before: Callable[[], None] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Retrained:
    """Train a network on an edited set and score its test split; what is finished is not done again.

    Parameters
    ----------
    edited : StampSet
        On what.
    config : RunConfig
        The network and settings of the run that is examined.
    outdir : Path
        A directory for this training alone; an interrupted one goes on from its last checkpoint there.
    name : str
        What is done to the data, for ``run.json`` and messages.
    before : callable, optional
        Called before training, unless the result is there.
    overwrite : bool
        Replace what is there of another network, other settings or another training set.
    quiet : bool
        No progress bar.

    Raises
    ------
    TrainingSetError
        If a split of the edited set lacks one of the labels.
    ModelError
        If the directory holds another training, or the training diverges.
    LeaseLostError
        If the same training was started there meanwhile, which goes on.
    """
    check_splits(edited)
    config = with_fitting_batches(config, edited)
    from obiwan.dplearn.training.model import number_type

    identity = {"edit": name, "data": edited.checksum, **config.to_dict(), "keras": number_type()}
    output = run_directory(outdir)
    overwrite = overwrite and output.state(identity) is State.FOREIGN
    if output.check(identity, overwrite=overwrite) is State.FINISHED:
        return _read_result(outdir / RESULT)
    if before is not None:
        before()
    from obiwan.dplearn.training.rundir import RunLogs
    from obiwan.dplearn.training.trainer import Trainer
    from obiwan.dplearn.training.validation import predictions

    log.info("%s: training the same network again, %d examples", name, sum(edited.count("train")))
    scratch = output.begin(identity, overwrite=overwrite)
    logs = RunLogs(outdir, quiet=quiet, scratch=scratch)
    fitted = Trainer(config, edited, outdir, logs=logs, scratch=scratch).fit()
    labels, scores = predictions(lambda x, _: fitted.model.predict_on_batch(x)[:, 1], edited, "test")
    found = _judged(edited, labels, scores, learnt=fitted.learnt)
    with holding_lease(scratch, outdir):
        write_json(outdir / RESULT, asdict(found), scratch)
    if scratch is not None:
        output.release(scratch)
    return found


def directory_name(words: Sequence[object]) -> str:
    """A file name of these words: letters, digits, points, and underscores for the rest."""
    text = "_".join(str(word) for word in words)
    return "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "_" for c in text)
