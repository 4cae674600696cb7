"""Training cutouts in, a trained network and its held-out result out.

``python -m obiwan.dplearn.cnn --data DIR --outdir DIR``

Started again after any interruption it goes on from its last checkpoint; started again after its end
it prints its result again.  The test split is scored once, with the weights that were best on the
validation split.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.files.atomic import write_json
from obiwan.dplearn.files.lease import acquire_lease, holding_lease, release_lease
from obiwan.dplearn.running import cli, profiles
from obiwan.dplearn.running.cli import positive
from obiwan.dplearn.running.launch import Launch, first_speaks, launched
from obiwan.dplearn.running.quiet import without_notes
from obiwan.dplearn.training.batches import check_splits, fitting_batch
from obiwan.dplearn.training.distributed import World, joined
from obiwan.dplearn.training.heldout import score_test, summarise
from obiwan.dplearn.training.logs import Logs, RunLogs
from obiwan.dplearn.training.rundir import (
    BEST,
    HISTORY,
    RESULT,
    SCORES,
    SCRATCH,
    claim_outdir,
    finished_lines,
)
from obiwan.dplearn.training.settings import (
    ARCHITECTURES,
    LR_SCALINGS,
    MAX_SEED,
    FeedConfig,
    RunConfig,
    network_config,
)
from obiwan.dplearn.trainingset.stampset import open_training_set

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
    _add_network_options(parser.add_argument_group("network (defaults are the architecture's own)"))
    _add_training_options(parser.add_argument_group("training"))
    _add_running_options(parser.add_argument_group("running"))
    return parser


def _add_network_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--arch",
        choices=list(ARCHITECTURES),
        default="lenet5",
        help="the documented LeNet-5, the 2018 code's with 2x2 pools, or a residual network (default lenet5)",
    )
    group.add_argument(
        "--maps",
        nargs="+",
        action="extend",
        type=positive,
        metavar="N",
        help="feature maps of each convolution",
    )
    group.add_argument("--kernel-size", type=positive, metavar="N", help="side of the convolutions, pixels")
    group.add_argument("--pool-size", type=positive, metavar="N", help="side of the average pools, pixels")
    group.add_argument("--strides", type=positive, metavar="N", help="step of the pools, pixels")
    group.add_argument("--dense", type=positive, metavar="N", help="units of the fully connected layer")


def _add_training_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--epochs",
        type=positive,
        default=RunConfig.epochs,
        metavar="N",
        help="passes over the data (default %(default)s)",
    )
    group.add_argument(
        "--batch-size",
        type=positive,
        default=FeedConfig.batch_size,
        metavar="N",
        help="examples a step and rank (default %(default)s)",
    )
    group.add_argument(
        "--learning-rate",
        type=float,
        default=RunConfig.learning_rate,
        metavar="X",
        help="Adam's highest: after a warm-up over 5 %% of the steps, before a cosine decay "
        "(default %(default)s)",
    )
    group.add_argument(
        "--lr-scaling",
        choices=LR_SCALINGS,
        default=RunConfig.lr_scaling,
        help="how the learning rate grows with the number of ranks (default %(default)s; sqrt suits Adam)",
    )
    group.add_argument(
        "--seed",
        type=cli.between(0, MAX_SEED),
        default=FeedConfig.seed,
        metavar="N",
        help="of weights and shuffles (default %(default)s)",
    )
    group.add_argument(
        "--augment",
        action="store_true",
        help="random flips and quarter turns: eight times the data, but they hide every give-away that has a "
        "direction (a centroid offset, say), so they are off by default; turn them on for few examples, "
        "once centroids are known to agree",
    )


def _add_running_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--checkpoint-steps",
        type=positive,
        default=500,
        metavar="N",
        help="steps between checkpoints (default 500)",
    )
    group.add_argument(
        "--profile", choices=list(profiles.PROFILES), help="kind of node, for its threads (default: auto)"
    )
    group.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="processor threads of each rank (default: the profile's)",
    )
    group.add_argument("--quiet", action="store_true", help="no progress bar")
    group.add_argument("--verbose", action="store_true", help="details, and tracebacks of errors")


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


def run_config(options: argparse.Namespace) -> RunConfig:
    """The configuration that a command line asks for; a ValueError says what is wrong with it."""
    network = network_config(
        options.arch,
        maps=None if options.maps is None else tuple(options.maps),
        kernel_size=options.kernel_size,
        pool_size=options.pool_size,
        strides=options.strides,
        dense=options.dense,
    )
    feed = FeedConfig(batch_size=options.batch_size, seed=options.seed, augment=options.augment)
    return RunConfig(
        network,
        feed,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        lr_scaling=options.lr_scaling,
    )


def _tell(lines: Sequence[str], outdir: Path) -> None:
    """Print a result and where the files are."""
    for line in lines:
        cli.say(line)
    cli.say(f"Model: {outdir / BEST}; test scores: {outdir / SCORES}; history: {outdir / HISTORY}")


def train(options: argparse.Namespace, world: World) -> int:
    """Train, score the test split and say the result, as one of the ranks; returns the exit status."""
    outdir: Path = options.outdir
    with world.together():
        training_set = open_training_set(options.data, files=world.leads)
        check_splits(training_set)
        options.batch_size = fitting_batch(options.batch_size, training_set, world.size)
        with without_notes():  # Keras only now: what is wrong with the data is said at once
            from obiwan.dplearn.training.trainer import Trainer

        try:
            config = run_config(options)
        except ValueError as error:
            raise ModelError(str(error)) from None
        lines = None
        if world.leads:
            identity = {"data": training_set.checksum, **config.to_dict()}
            claim_outdir(outdir, identity, overwrite=options.overwrite)
            lines = finished_lines(outdir)
    if world.share(lines is not None):
        if lines is not None:
            cli.say(f"{outdir}: this run is finished; its result again:")
            _tell(lines, outdir)
        return 0
    with world.together():
        scratch = acquire_lease(outdir / SCRATCH) if world.leads else None
        logs = RunLogs(outdir, quiet=options.quiet, scratch=scratch) if world.leads else Logs()
        steps = options.checkpoint_steps
        trainer = Trainer(
            config, training_set, outdir, world=world, checkpoint_steps=steps, logs=logs, scratch=scratch
        )
    fitted = trainer.fit()
    scores = score_test(fitted, training_set, outdir, world, scratch)
    if world.leads:
        result = summarise(fitted, training_set, scores)
        with holding_lease(scratch, outdir):
            write_json(outdir / RESULT, {"lines": list(result.lines), **result.numbers}, scratch)
        if scratch is not None:
            release_lease(scratch)
        _tell(result.lines, outdir)
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
