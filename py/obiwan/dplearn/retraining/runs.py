"""Train the same network again on an edited training set, and say how well it tells the classes apart.

Ablations and the positive control share this: the network and the settings of the run that is examined, a
training set edited as it is read (`obiwan.dplearn.retraining.views`), a directory of its own where an
interrupted run goes on, and the AUC on the test split.
"""

from __future__ import annotations

import logging
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.files.atomic import read_json, write_json
from obiwan.dplearn.files.lease import holding_lease
from obiwan.dplearn.files.outdir import State
from obiwan.dplearn.training.batches import check_splits, fitting_batch
from obiwan.dplearn.training.rundir import RESULT, RUN, run_directory
from obiwan.dplearn.trainingset.manifest import SOURCES
from obiwan.dplearn.trainingset.stampset import StampSet
from obiwan.dplearn.twosample import Estimate, answer, auc_pvalue, usable_bricks

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
    try:
        found = read_json(path)
        maps = tuple(_typed("maps", size, "int") for size in found["network"]["maps"])
        network = NetworkConfig(maps=maps, **_known(found["network"], NetworkConfig, "maps"))
        feed = FeedConfig(**_known(found["feed"], FeedConfig))
        return RunConfig(network, feed, **_known(found, RunConfig, "network", "feed"))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        msg = f"{path}: not the settings of a run ({error}); train the model again"
        raise ModelError(msg) from None


_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (float, int), "bool": (bool,), "str": (str,)}


def _typed(name: str, value: Any, kind: str) -> Any:
    """A value that must be of a type; a TypeError where it is of another."""
    if type(value) not in _TYPES[kind]:  # True is an int to isinstance
        msg = f"{name} is {reprlib.repr(value)}, not of type {kind}"
        raise TypeError(msg)
    return value


def _known(content: Mapping[str, Any], kind: type[Any], *but: str) -> dict[str, Any]:
    """The entries that are fields of a dataclass, but for some, and of their types."""
    if not isinstance(content, dict):
        msg = f"{reprlib.repr(content)} is no object"
        raise TypeError(msg)
    mine = [own for own in fields(kind) if own.name in content and own.name not in but]
    return {own.name: _typed(own.name, content[own.name], str(own.type)) for own in mine}


@dataclass(frozen=True)
class Retrained:
    """What a network trained again reaches on the test split.

    Attributes
    ----------
    auc : Estimate
        Of label 1 against label 0.
    learnt : bool
        Whether its loss ever left that of a constant answer.
    train, test : int
        Examples.
    bricks : int
        Bricks that the interval rests on; 0 where it rests on examples.
    p : float
        Of the AUC's difference from 0.5, two-sided; NaN for results of versions that did not keep it.
    """

    auc: Estimate
    learnt: bool
    train: int
    test: int
    bricks: int
    p: float = field(default=math.nan, kw_only=True)


def _read_result(path: Path) -> Retrained:
    """A result that was written before."""
    try:
        content = read_json(path)
        auc = Estimate(**_known(content["auc"], Estimate))
        return Retrained(auc, **_known(content, Retrained, "auc"))
    except (ValueError, TypeError, KeyError) as error:
        msg = f"{path}: not a readable result ({error}); remove it and start again"
        raise ModelError(msg) from None


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
    batch = fitting_batch(config.feed.batch_size, edited)
    config = replace(config, feed=replace(config.feed, batch_size=batch))
    identity = {"edit": name, "data": edited.checksum, **config.to_dict()}
    output = run_directory(outdir)
    overwrite = overwrite and output.state(identity) is State.FOREIGN
    if output.check(identity, overwrite=overwrite) is State.FINISHED:
        return _read_result(outdir / RESULT)
    if before is not None:
        before()
    from obiwan.dplearn.training.logs import RunLogs
    from obiwan.dplearn.training.trainer import Trainer
    from obiwan.dplearn.training.validation import predictions

    log.info("%s: training the same network again, %d examples", name, sum(edited.count("train")))
    scratch = output.begin(identity, overwrite=overwrite)
    logs = RunLogs(outdir, quiet=quiet, scratch=scratch)
    fitted = Trainer(config, edited, outdir, logs=logs, scratch=scratch).fit()
    label, score = predictions(lambda x, _: fitted.model.predict_on_batch(x)[:, 1], edited, "test")
    bricks = edited.bricks("test") if (edited.directory / SOURCES).is_file() else None
    found = answer(label, score, bricks)
    content = {
        "auc": vars(found.auc),
        "learnt": fitted.learnt,
        "train": sum(edited.count("train")),
        "test": len(label),
        "bricks": found.bricks,
        "p": auc_pvalue(label, score, usable_bricks(label, bricks), "two-sided"),
    }
    with holding_lease(scratch, outdir):
        write_json(outdir / RESULT, content, scratch)
    if scratch is not None:
        output.release(scratch)
    return _read_result(outdir / RESULT)


def directory_name(words: Sequence[object]) -> str:
    """A file name of these words: letters, digits, points, and underscores for the rest."""
    text = "_".join(str(word) for word in words)
    return "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "_" for c in text)
