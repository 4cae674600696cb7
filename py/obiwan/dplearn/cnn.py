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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.files.atomic import write_json
from obiwan.dplearn.files.lease import holding_lease
from obiwan.dplearn.referees.heldout import HeldOut, score_test, summarise
from obiwan.dplearn.running import cli, profiles
from obiwan.dplearn.running.cli import add_options, chosen, option, positive
from obiwan.dplearn.running.launch import Launch, first_speaks, launched
from obiwan.dplearn.running.quiet import without_notes
from obiwan.dplearn.training.batches import check_splits, fitting_batch
from obiwan.dplearn.training.distributed import World, joined
from obiwan.dplearn.training.logs import Logs, RunLogs
from obiwan.dplearn.training.rundir import (
    BEST,
    HISTORY,
    RESULT,
    SCORES,
    finished_lines,
    run_directory,
)
from obiwan.dplearn.training.settings import FeedConfig, NetworkConfig, RunConfig, network_config
from obiwan.dplearn.trainingset.stampset import StampSet, open_training_set

NAME = "cnn"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunningOptions:
    """How a run is carried out, which changes nothing about its result."""

    checkpoint_steps: int = option("steps between checkpoints", 500, type=positive, metavar="N")
    profile: str | None = option(
        "kind of node, for its threads (default auto)", None, choices=list(profiles.PROFILES)
    )
    threads: int | None = option(
        "processor threads of each rank (default that of the profile)", None, type=positive, metavar="N"
    )
    quiet: bool = option("no progress bar", value=False, action="store_true")
    verbose: bool = option("details, and tracebacks of errors", value=False, action="store_true")


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
    network = parser.add_argument_group("network (defaults are the architecture's own)")
    add_options(network, NetworkConfig)
    add_options(parser.add_argument_group("training"), RunConfig, FeedConfig)
    add_options(parser.add_argument_group("running"), RunningOptions)
    return parser


def set_environment(options: argparse.Namespace) -> list[str]:
    """Set what TensorFlow must find in the environment when it is imported; returns it in words."""
    try:
        words = profiles.describe(options.profile, options.threads, os.environ)
        os.environ.update(profiles.settings(options.profile, options.threads, os.environ))
    except ValueError as error:
        raise ModelError(str(error)) from None
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("jax").setLevel(logging.WARNING)  # it tells of every accelerator that is not there
    return words


def run_config(options: argparse.Namespace, stamp_set: StampSet, ranks: int) -> RunConfig:
    """The configuration of a run on a training set.

    Raises
    ------
    ModelError
        If the options ask for what cannot be.
    """
    try:
        network = network_config(**chosen(NetworkConfig, options))
        network.check_size(stamp_set.spec.size)
        config = RunConfig(network, FeedConfig(**chosen(FeedConfig, options)), **chosen(RunConfig, options))
    except ValueError as error:
        raise ModelError(str(error)) from None
    batch = fitting_batch(config.feed.batch_size, stamp_set, ranks)
    return replace(config, feed=replace(config.feed, batch_size=batch))


def result_lines(found: HeldOut) -> list[str]:
    """What a network reached, in words."""
    numbers = found.answer
    with_interval = "{0.value:.3f} (95 % interval {0.low:.3f} to {0.high:.3f})"
    accuracy, auc = with_interval.format(numbers.accuracy), with_interval.format(numbers.auc)
    basis = f"{numbers.bricks} bricks" if numbers.bricks else "the examples taken one by one"
    lines = [
        f"Held-out result: {numbers.real + numbers.fake} test examples ({numbers.real} real, "
        f"{numbers.fake} fake), scored with the weights of epoch {found.best_epoch}, the best in validation",
        f"  accuracy  {accuracy}; guessing the most numerous class: {numbers.majority:.3f}",
        f"  AUC       {auc}, from {basis}; guessing: 0.500",
    ]
    if not found.learnt:
        lines += [
            "The network did not learn: its loss stayed at that of a constant answer in both splits.",
            "This says nothing about the fakes.  Use more examples or epochs, or another --learning-rate.",
        ]
    if found.looks is not None and found.looks > 1:
        lines.append(f"{found.looks} different networks have scored this test set: allow for that.")
    return lines


def _tell(lines: Sequence[str], options: argparse.Namespace) -> None:
    """Print a result, where the files are, and what to do next."""
    outdir = options.outdir
    for line in lines:
        cli.say(line)
    cli.say(f"Model: {outdir / BEST}; test scores: {outdir / SCORES}; history: {outdir / HISTORY}")
    cli.say(
        "For a verdict on the galaxies, with its controls: python -m obiwan.dplearn.evaluate "
        f"--data {options.data} --model {outdir / BEST} --outdir DIR"
    )


def train(options: argparse.Namespace, world: World) -> int:
    """Train, score the test set and print the result, as one of the ranks; returns the exit status."""
    outdir: Path = options.outdir
    output = run_directory(outdir)
    with world.together():
        stamp_set = open_training_set(options.data, files=world.leads)
        check_splits(stamp_set)
        config = run_config(options, stamp_set, world.size)
        with without_notes():  # Keras only now: what is wrong with the data is said at once
            from obiwan.dplearn.training.trainer import Trainer

        lines = scratch = None
        identity = {"data": stamp_set.checksum, **config.to_dict()}
        if world.leads:
            output.check(identity, overwrite=options.overwrite)
            lines = None if options.overwrite else finished_lines(outdir)
            scratch = output.begin(identity, overwrite=options.overwrite) if lines is None else None
    if world.share(lines is not None):
        if lines is not None:
            cli.say(f"{outdir}: this run is finished; its result again:")
            _tell(lines, options)
        return 0
    with world.together():
        logs = RunLogs(outdir, quiet=options.quiet, scratch=scratch) if world.leads else Logs()
        steps = options.checkpoint_steps
        trainer = Trainer(
            config, stamp_set, outdir, world=world, checkpoint_steps=steps, logs=logs, scratch=scratch
        )
    fitted = trainer.fit()
    scores = score_test(fitted, stamp_set, outdir, world, scratch)
    if scratch is not None:
        found = summarise(fitted, stamp_set, scores)
        lines = result_lines(found)
        with holding_lease(scratch, outdir):
            write_json(outdir / RESULT, {"lines": lines, **found.to_dict()}, scratch)
        output.release(scratch)
        _tell(lines, options)
    return 0


def program(options: argparse.Namespace, launch: Launch) -> int:
    """The program's body, after the options are read; returns the exit status."""
    if launch.rank > 0 and not options.verbose:
        logging.getLogger().setLevel(logging.ERROR)  # the first rank speaks for all
    words = set_environment(options)
    with joined(launch) as world:
        for line in words if world.size > 1 else words[1:]:
            log.info(line)
        return train(options, world)


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
    return cli.run(lambda: program(options, launch), NAME, verbose=options.verbose, speaks=launch.rank == 0)


if __name__ == "__main__":
    raise SystemExit(main())
