"""Tune the hyperparameters of the network on the validation split of a training set.

``python -m obiwan.dplearn.tune --data DIR --outdir DIR``

Any number of processes, started with ``--resume`` and the same options, work on one study.  Killed at any
moment and started again, they go on.  The test set is not read.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.files.atomic import write_json
from obiwan.dplearn.files.outdir import State
from obiwan.dplearn.referees.testlog import record_tuning
from obiwan.dplearn.running import cli, profiles
from obiwan.dplearn.running.cli import between, positive
from obiwan.dplearn.running.quiet import without_notes
from obiwan.dplearn.training.settings import ARCHITECTURES, MAX_SEED

if TYPE_CHECKING:
    from obiwan.dplearn.trainingset.stampset import StampSet
    from obiwan.dplearn.tuning.objective import Fold
    from obiwan.dplearn.tuning.outcome import Outcome
    from obiwan.dplearn.tuning.study import Worker

NAME = "tune"
NETWORKS = ("lenet5", "deep")  #: that are tried by default
PRUNERS = ("median", "hyperband", "none")
MOST_SEEDS = MOST_FOLDS = 100

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The command line; its long flags are also the keys of ``--config`` files."""
    parser = argparse.ArgumentParser(
        prog=f"python -m obiwan.dplearn.{NAME}", description=(__doc__ or "").split("\n")[0]
    )
    paths = parser.add_argument_group("input and output")
    add = paths.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="training set, from create_training")
    add("--outdir", type=Path, required=True, metavar="DIR", help="where the study and its results go")
    add("--resume", action="store_true", help="go on with the study in --outdir, or join it, if there is one")
    add("--overwrite", action="store_true", help="replace another study in --outdir")
    cli.add_config_option(paths)
    add = parser.add_argument_group("search").add_argument
    says = "trials of the study in all; the first is the documented network"
    add("--trials", type=positive, default=50, metavar="N", help=says)
    says = "hours after which this process ends, when the epoch that is being trained has ended"
    add("--hours", type=between(0, kind=float), metavar="H", help=says)
    says = f"architectures that are tried (default {' '.join(NETWORKS)})"
    add("--network", nargs="+", action="extend", choices=list(ARCHITECTURES), help=says)
    add("--space", type=Path, metavar="FILE.toml", help="replaces entries of the search space")
    says = "networks trained for each trial, with different seeds; the mean validation AUC counts"
    add("--seeds", type=between(1, MOST_SEEDS), default=1, metavar="N", help=says)
    says = "parts of the bricks for training and validation, each validated by networks trained on the others"
    add("--folds", type=between(1, MOST_FOLDS), default=1, metavar="K", help=says)
    says = "how bad trials are stopped early: against the median of others, in rounds, or not at all"
    add("--pruner", choices=PRUNERS, default="median", help=says)
    says = "of the sampler and of the first network of each trial"
    add("--seed", type=between(0, MAX_SEED - MOST_SEEDS), default=1, metavar="N", help=says)
    add = parser.add_argument_group("running").add_argument
    profiles.add_thread_options(add)
    add("--verbose", action="store_true", help="details, and tracebacks of errors")
    return parser


def claim(options: argparse.Namespace, identity: dict[str, Any]) -> None:
    """Make the output directory of a new study, or join one.

    Raises
    ------
    ModelError
        If the directory holds another study, or this one and ``--resume`` is not given.
    """
    from obiwan.dplearn.tuning.files import STUDY, study_directory

    output = study_directory(options.outdir)
    state = output.check(identity, overwrite=options.overwrite)
    if options.overwrite:
        output.clear()
    elif state is State.UNFINISHED and not options.resume:
        msg = f"{options.outdir}: holds a study; give --resume to go on with it, or choose another --outdir"
        raise ModelError(msg)
    options.outdir.mkdir(parents=True, exist_ok=True)
    if not (options.outdir / STUDY).is_file():
        write_json(options.outdir / STUDY, identity)


def worker_of(options: argparse.Namespace, folds: Sequence[Fold], identity: dict[str, Any]) -> Worker:
    """Worker of this process, which has claimed the output directory."""
    from obiwan.dplearn.tuning.objective import Objective
    from obiwan.dplearn.tuning.space import read_space
    from obiwan.dplearn.tuning.study import Worker, open_study

    until = math.inf if options.hours is None else time.monotonic() + 3600 * options.hours
    space = read_space(options.space, options.network or NETWORKS)
    claim(options, identity | {"space": space.to_dict()})
    study = open_study(options.outdir, space, pruner=options.pruner, seed=options.seed)
    return Worker(study, space, Objective(tuple(folds), tuple(identity["seeds"])), options.outdir, until)


def report(
    worker: Worker, folds: Sequence[Fold], seeds: Sequence[int], whole: StampSet, name: str
) -> Outcome:
    """Write and record the outcome; again, if another process has finished a trial meanwhile."""
    from obiwan.dplearn.tuning.files import write_files
    from obiwan.dplearn.tuning.outcome import conclusion, outcome_of
    from obiwan.dplearn.tuning.study import counted

    def states() -> list[str]:
        return [trial.state.name for trial in counted(worker.study)]

    while True:
        before = states()
        outcome = outcome_of(worker.study, worker.outdir, folds, seeds)
        record_tuning(whole, name, outcome.trials)
        write_files(worker.outdir, worker.study, outcome.best, seeds[0], conclusion(outcome))
        if states() == before:
            return outcome


def program(options: argparse.Namespace) -> int:
    """The program's body, after the options are read; returns the exit status."""
    for line in profiles.set_environment(options):
        log.info(line)
    from obiwan.dplearn.tuning.files import BEST
    from obiwan.dplearn.tuning.objective import folds_of, open_for_tuning
    from obiwan.dplearn.tuning.outcome import conclusion

    whole, used = open_for_tuning(options.data)
    folds = folds_of(used, options.folds, options.seed)
    with without_notes():  # Keras only now: what is wrong with the data is said at once
        from obiwan.dplearn.training.model import keras_settings
    seeds = [options.seed + number for number in range(options.seeds)]
    identity = {"data": whole.checksum, "seeds": seeds, "folds": options.folds, "pruner": options.pruner}
    identity["keras"] = keras_settings()
    worker = worker_of(options, folds, identity)
    worker.work(options.trials)
    name = f"{zlib.crc32(json.dumps(identity | worker.space.to_dict(), sort_keys=True).encode()):08x}"
    outcome = report(worker, folds, seeds, whole, name)
    for line in conclusion(outcome):
        cli.say(line)
    if outcome.best is not None:
        cli.say(
            f"To train it: python -m obiwan.dplearn.cnn --config {quote(str(options.outdir / BEST))} "
            f"--data {quote(str(options.data))} --outdir DIR"
        )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Parameters
    ----------
    argv : sequence of str, optional
        The command line; `sys.argv` by default.

    Returns
    -------
    int
        0; 1 for what is wrong with the data, the search space or the output directory, said in one line.
    """
    parser = build_parser()
    options = cli.parse(parser, argv)
    if options.resume and options.overwrite:
        parser.error("--overwrite removes the study that --resume would go on with; give one of them")
    again = "start it again with --resume to go on where it stopped"
    return cli.run(lambda: program(options), NAME, verbose=options.verbose, again=again)


if __name__ == "__main__":
    raise SystemExit(main())
