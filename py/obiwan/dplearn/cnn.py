"""Train a network on a training set, and score the test set once.

``python -m obiwan.dplearn.cnn --data DIR --outdir DIR``

Started again after any interruption it goes on from its last checkpoint; started again after its end
it prints its result again.  The test set is scored once, with the weights that were best on the
validation set.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.files.atomic import read_json, write_json
from obiwan.dplearn.files.outdir import holding_lease
from obiwan.dplearn.referees import scoring
from obiwan.dplearn.referees.network import model_checksum
from obiwan.dplearn.referees.testlog import record_evaluation
from obiwan.dplearn.running import cli, profiles
from obiwan.dplearn.running.backends import keras_backend, settle_keras
from obiwan.dplearn.running.cli import add_options, between, positive
from obiwan.dplearn.running.launch import STARTED_HERE, Launch, first_fails, first_speaks, launched
from obiwan.dplearn.running.quiet import without_notes
from obiwan.dplearn.running.ranks import start_ranks
from obiwan.dplearn.training.batches import check_splits, with_fitting_batches
from obiwan.dplearn.training.distributed import World
from obiwan.dplearn.training.engines import AGAIN, AUTO, ENGINES, LONGEST, PATIENCE, engine_of, joined
from obiwan.dplearn.training.rundir import BEST, HISTORY, RESULT, SCORES, RunLogs, run_directory
from obiwan.dplearn.training.settings import FeedConfig, NetworkConfig, RunConfig, run_config
from obiwan.dplearn.trainingset.stampset import StampSet, open_training_set
from obiwan.dplearn.twosample.summary import answer

if TYPE_CHECKING:
    from obiwan.dplearn.training.trainer import Fitted

NAME = "cnn"

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The command line; its long flags are also the keys of ``--config`` files."""
    parser = argparse.ArgumentParser(
        prog=f"python -m obiwan.dplearn.{NAME}", description=(__doc__ or "").split("\n")[0]
    )
    paths = parser.add_argument_group("input and output")
    paths.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="training set, from create_training"
    )
    paths.add_argument(
        "--outdir", type=Path, required=True, metavar="DIR", help="where the model, logs and result go"
    )
    paths.add_argument("--overwrite", action="store_true", help="replace another run in --outdir")
    cli.add_config_option(paths)
    network = parser.add_argument_group("network (default: the architecture's own)")
    add_options(network, NetworkConfig)
    add_options(parser.add_argument_group("training"), RunConfig, FeedConfig)
    add = parser.add_argument_group("running").add_argument
    says = "what joins ranks: auto is horovod under TensorFlow, jax under JAX; none refuses more than one"
    add("--engine", choices=ENGINES, default=AUTO, help=says)
    says = "processes to start on this machine, for KERAS_BACKEND=jax; others are started by a launcher"
    add("--ranks", type=positive, metavar="N", help=says)
    add("--oversubscribe", action="store_true", help="let --ranks be more than there are processors")
    says = "seconds that the start of all ranks may take"
    add("--start-timeout", type=between(1, LONGEST, float), default=PATIENCE, metavar="S", help=says)
    add("--checkpoint-steps", type=positive, default=500, metavar="N", help="steps between checkpoints")
    profiles.add_thread_options(add)
    add("--quiet", action="store_true", help="no progress bar")
    add("--verbose", action="store_true", help="details, and tracebacks of errors")
    return parser


def score_test(
    fitted: Fitted, stamp_set: StampSet, outdir: Path, world: World, scratch: Path | None
) -> scoring.Scores:
    """Score the test set, every rank a part, unless the scores of these weights are there."""
    model, checksum, path = fitted.model, model_checksum(fitted.model), outdir / SCORES
    with world.together():
        found = scoring.read_scores(path, checksum, stamp_set.checksum) if world.leads else None
    kept: scoring.Scores | None = world.share(found)
    if kept is not None:
        return kept
    scores = scoring.score_with(
        lambda x, _: model.predict_on_batch(x)[:, 1], checksum, stamp_set, "test", world
    )
    if world.leads:
        with holding_lease(scratch, outdir):
            scoring.write_scores(path, scores, scratch)
    return scores


def held_out(fitted: Fitted, stamp_set: StampSet, scores: scoring.Scores) -> dict[str, Any]:
    """What a network reached on the test set, as ``result.json`` has it; the test-set log records it first.

    Returns
    -------
    dict
        The fields of `obiwan.dplearn.twosample.Answer`; ``best_epoch`` (from 1) and ``learnt`` of the
        training; ``looks``, how many networks have scored this test set, None where that is not known;
        ``model`` and ``data``, the checksums of the network and of the training set.
    """
    looks = record_evaluation(stamp_set, scores)
    found = answer(scores.label, scores.score, scoring.bricks_of(stamp_set, scores))
    training = {"best_epoch": fitted.progress.best_epoch, "learnt": fitted.learnt}
    return {**asdict(found), **training, "looks": looks, "model": scores.model, "data": scores.data}


def result_text(found: Mapping[str, Any], options: argparse.Namespace) -> str:
    """The content of ``result.json`` in words, where the files are, and what to do next."""
    outdir: Path = options.outdir
    with_interval = "{0[value]:.3f} (95 % interval {0[low]:.3f} to {0[high]:.3f})"
    accuracy, auc = (with_interval.format(found[name]) for name in ("accuracy", "auc"))
    real, fake, bricks = found["real"], found["fake"], found["bricks"]
    lines = [
        f"Held-out result: {real + fake} test examples ({real} real, {fake} fake), scored with the weights "
        f"of epoch {found['best_epoch']}, the best in validation",
        f"  accuracy  {accuracy}; guessing the most numerous class: {found['majority']:.3f}",
        f"  AUC       {auc}, from {f'{bricks} bricks' if bricks else 'the examples taken one by one'}; "
        "guessing: 0.500",
    ]
    if not found["learnt"]:
        lines += [
            "The network did not learn: its loss stayed at that of a constant answer in both splits.",
            "This says nothing about the galaxies.  Use more examples or epochs, or another --learning-rate.",
        ]
    if (found["looks"] or 0) > 1:
        lines.append(f"{found['looks']} different networks have scored this test set: allow for that.")
    lines += [
        f"Model: {outdir / BEST}; test scores: {outdir / SCORES}; history: {outdir / HISTORY}",
        "For a verdict on the galaxies, with its controls: python -m obiwan.dplearn.evaluate "
        f"--data {quote(str(options.data))} --model {quote(str(outdir / BEST))} --outdir DIR",
    ]
    return "\n".join(lines)


def finished_text(options: argparse.Namespace) -> str | None:
    """The result of a finished run in words; None where there is none, or none that can be read.

    An unreadable one is removed with a warning: whoever goes on from the last checkpoint makes it again.
    """
    path: Path = options.outdir / RESULT
    if not path.is_file():
        return None
    try:
        return result_text(read_json(path), options)
    except (ValueError, KeyError, TypeError):
        log.warning("%s: not a readable result; it is made again from the last checkpoint", path)
        path.unlink(missing_ok=True)
        return None


def train(options: argparse.Namespace, world: World, threads: Sequence[str]) -> int:
    """Train, score the test set and print the result, as one of the ranks; returns the exit status.

    Lines on its threads are logged once it is known that there is something to train.
    """
    outdir: Path = options.outdir
    output = run_directory(outdir)
    text = scratch = None
    with world.together():
        stamp_set = open_training_set(options.data, files=world.leads)
        check_splits(stamp_set)
        config = with_fitting_batches(run_config(options, stamp_set.spec.size), stamp_set, world.size)
        with without_notes():  # Keras only now: what is wrong with the data is said at once
            from obiwan.dplearn.training.model import number_type
            from obiwan.dplearn.training.trainer import Trainer

        if world.leads:
            identity = {"data": stamp_set.checksum, **config.to_dict(), "keras": number_type()}
            output.check(identity, overwrite=options.overwrite)
            text = None if options.overwrite else finished_text(options)
            scratch = output.begin(identity, overwrite=options.overwrite) if text is None else None
    if world.share(text is not None):
        if text is not None:
            cli.say(f"{outdir}: this run is finished; its result again:\n{text}")
        return 0
    for line in threads:
        log.info(line)
    with world.together():
        logs = RunLogs(outdir, quiet=options.quiet, scratch=scratch) if world.leads else None
        kept = {"checkpoint_steps": options.checkpoint_steps, "logs": logs, "scratch": scratch}
        trainer = Trainer(config, stamp_set, outdir, world=world, **kept)
    fitted = trainer.fit()
    scores = score_test(fitted, stamp_set, outdir, world, scratch)
    if scratch is not None:
        found = held_out(fitted, stamp_set, scores)
        with holding_lease(scratch, outdir):
            write_json(outdir / RESULT, found, scratch)
        output.release(scratch)
        cli.say(result_text(found, options))
    return 0


def settle(options: argparse.Namespace, launch: Launch) -> list[str]:
    """Check ``--ranks`` and set the environment of Keras; returns lines on the threads."""
    if options.ranks not in (None, launch.size):
        begun = f"{launch.launcher} started {launch.size} ranks" if launch.launcher else "this is one process"
        msg = f"--ranks {options.ranks}: {begun}; leave --ranks out"
        raise ModelError(msg)
    return profiles.set_environment(options)


def program(options: argparse.Namespace, launch: Launch) -> int:
    """The program's body, after the options are read; returns the exit status."""
    if launch.rank > 0 and not options.verbose:
        logging.getLogger().setLevel(logging.ERROR)  # the first rank speaks for all
    with first_fails(launch):
        words = settle(options, launch)
    with joined(launch, options.engine, options.start_timeout) as world:
        return train(options, world, words)


def many(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Start this program as ranks of this machine; returns the exit status.

    Raises
    ------
    DplearnError
        If they could not be joined or are too many, or the backend of Keras cannot be used.
    """
    settle_keras(dict(os.environ))
    engine_of(options.engine, Launch(STARTED_HERE, 0, options.ranks), keras_backend(os.environ))
    usable = profiles.this_node().own_processors
    if options.ranks > usable and not options.oversubscribe:
        msg = (
            f"--ranks {options.ranks}: this process may use {usable} processor(s) of the machine; give "
            f"--ranks {usable}, or --oversubscribe to have ranks share processors"
        )
        raise ModelError(msg)
    command = [sys.executable, "-m", f"obiwan.dplearn.{NAME}", *words]
    return start_ranks(command, options.ranks, os.environ, AGAIN)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Parameters
    ----------
    argv : sequence of str, optional
        The command line; `sys.argv` by default.

    Returns
    -------
    int
        0; 1 for what is wrong with the data or the run, said in one line.
    """
    parser, launch = build_parser(), launched(os.environ)
    with first_speaks(launch):
        options = cli.parse(parser, argv)
    if launch.size == 1 and (options.ranks or 1) > 1:
        words = sys.argv[1:] if argv is None else argv
        return cli.run(lambda: many(options, words), NAME, verbose=options.verbose)
    return cli.run(lambda: program(options, launch), NAME, verbose=options.verbose, speaks=launch.rank == 0)


if __name__ == "__main__":
    raise SystemExit(main())
