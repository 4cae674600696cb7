"""Training cutouts in, a trained network and its held-out result out.

``python -m obiwan.dplearn.cnn --data DIR --outdir DIR``

Started again after any interruption it goes on from its last checkpoint; started again after its end
it prints its result again.  The test split is scored once, with the weights that were best on the
validation split.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obiwan.dplearn import cli, profiles
from obiwan.dplearn.claims import BEST, RESULT, SCORES, SCRATCH, claim_outdir
from obiwan.dplearn.distributed import Launch, World, joined, launched
from obiwan.dplearn.errors import ModelError, TrainingSetError
from obiwan.dplearn.logs import Logs, RunLogs, without_notes
from obiwan.dplearn.shards import SPLITS, TrainingSet, open_training_set, write_json
from obiwan.dplearn.takeover import owned, take_over

if TYPE_CHECKING:
    from obiwan.dplearn.scoring import Scores
    from obiwan.dplearn.training import Fitted, RunConfig

NAME = "cnn"
ARCH_NAMES = ("lenet5", "lenet5-2x2", "deep")
LR_SCALINGS = ("sqrt", "linear", "none")

log = logging.getLogger(__name__)


def positive(word: str) -> int:
    """A command-line number that must be at least 1."""
    number = int(word)
    if number < 1:
        msg = f"must be at least 1, got {number}"
        raise argparse.ArgumentTypeError(msg)
    return number


def build_parser() -> argparse.ArgumentParser:
    """The command line; its long flags are also the keys of ``--config`` files."""
    parser = argparse.ArgumentParser(
        prog=f"python -m obiwan.dplearn.{NAME}", description=(__doc__ or "").split("\n")[0]
    )
    paths = parser.add_argument_group("input and output")
    paths.add_argument("--data", type=Path, metavar="DIR", help="training set, from create_training")
    paths.add_argument("--outdir", type=Path, metavar="DIR", help="where the model, logs and result go")
    paths.add_argument("--overwrite", action="store_true", help="replace another run in --outdir")
    cli.add_config_option(paths)
    network = parser.add_argument_group("network (defaults are the architecture's own)")
    network.add_argument(
        "--arch",
        choices=ARCH_NAMES,
        default="lenet5",
        help="the documented LeNet-5, the 2018 code's with 2x2 pools, or a residual network (default lenet5)",
    )
    network.add_argument(
        "--maps", nargs="+", type=positive, metavar="N", help="feature maps of each convolution"
    )
    network.add_argument("--kernel-size", type=positive, metavar="N", help="side of the convolutions, pixels")
    network.add_argument("--pool-size", type=positive, metavar="N", help="side of the average pools, pixels")
    network.add_argument("--strides", type=positive, metavar="N", help="step of the pools, pixels")
    network.add_argument("--dense", type=positive, metavar="N", help="units of the fully connected layer")
    fit = parser.add_argument_group("training")
    fit.add_argument(
        "--epochs", type=positive, default=8, metavar="N", help="passes over the data (default 8)"
    )
    fit.add_argument(
        "--batch-size", type=positive, default=16, metavar="N", help="examples a step and rank (default 16)"
    )
    fit.add_argument(
        "--learning-rate",
        type=float,
        default=5e-4,
        metavar="X",
        help="Adam's highest: after a warm-up over 5 %% of the steps, before a cosine decay (default 5e-4)",
    )
    fit.add_argument(
        "--lr-scaling",
        choices=LR_SCALINGS,
        default="sqrt",
        help="how the learning rate grows with the number of ranks (default sqrt, which suits Adam)",
    )
    fit.add_argument("--seed", type=int, default=1, metavar="N", help="of weights and shuffles (default 1)")
    fit.add_argument(
        "--augment",
        action="store_true",
        help="random flips and quarter turns: eight times the data, but they hide every give-away that has a "
        "direction (a centroid offset, say), so they are off by default; turn them on for few examples, "
        "once centroids are known to agree",
    )
    running = parser.add_argument_group("running")
    running.add_argument(
        "--checkpoint-steps",
        type=positive,
        default=500,
        metavar="N",
        help="steps between checkpoints (default 500)",
    )
    running.add_argument(
        "--profile", choices=list(profiles.PROFILES), help="kind of node, for its threads (default: auto)"
    )
    running.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="processor threads of each rank (default: the profile's)",
    )
    running.add_argument("--quiet", action="store_true", help="no progress bar")
    running.add_argument("--verbose", action="store_true", help="details, and tracebacks of errors")
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


def run_config(options: argparse.Namespace) -> RunConfig:
    """The configuration that a command line asks for; a ValueError says what is wrong with it."""
    from obiwan.dplearn.batches import FeedConfig
    from obiwan.dplearn.model import network_config
    from obiwan.dplearn.training import RunConfig

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


def fitting_batch(asked: int, training_set: TrainingSet, ranks: int = 1) -> int:
    """The batch size asked for, or this rank's share of too few examples: a tiny set must run too."""
    examples = sum(training_set.count("train"))
    fitting = max(1, min(asked, examples // ranks))
    if fitting < asked:
        log.warning(
            "warning: only %d training examples: batches of %d, instead of %d", examples, fitting, asked
        )
    return fitting


def check_splits(training_set: TrainingSet) -> None:
    """Both classes must be in every split, or there is nothing to train on, choose by, or report.

    Raises
    ------
    TrainingSetError
        Naming the split.
    """
    for split in SPLITS:
        real, fake = training_set.count(split)
        if real == 0 or fake == 0:
            what = "no examples" if real + fake == 0 else f"{real} real and {fake} fake examples"
            msg = f"{training_set.directory}: the {split} split has {what}; make a set with more bricks"
            raise TrainingSetError(msg)


@dataclass(frozen=True)
class Result:
    """What is said at the end, as ``result.json`` has it.

    Attributes
    ----------
    lines : tuple of str
        The text that is printed.
    numbers : dict
        The same for programs.
    """

    lines: tuple[str, ...]
    numbers: dict[str, Any]


def _verdict(answer: Any, fitted: Fitted) -> tuple[str, ...]:
    """The result in plain words."""
    if not fitted.learnt:
        return (
            "The network did not learn: its loss never left ln 2 = 0.693, in training or in validation.",
            "This says nothing about the fakes.  Use more examples or epochs, or another --learning-rate.",
        )
    if answer.tells:
        return ("The network can tell fakes from real galaxies.",)
    return (
        "The network cannot tell fakes from real galaxies on examples it has not seen.",
        f"That does not prove them alike: an AUC up to {answer.auc.high:.3f} is compatible with this test.",
    )


def score_test(
    fitted: Fitted, training_set: TrainingSet, outdir: Path, world: World, scratch: Path | None
) -> Scores:
    """Score the test split once for a model, every rank its share; the first writes the scores down."""
    from obiwan.dplearn import scoring

    checksum = scoring.model_checksum(fitted.model)
    with world.together():
        kept = scoring.read_scores(outdir / SCORES, checksum, training_set.checksum) if world.leads else None
    kept = world.share(kept)
    if isinstance(kept, scoring.Scores):
        return kept
    scores = scoring.score_split(fitted.model, training_set, "test", world=world)
    if world.leads:
        with owned(scratch, outdir):
            scoring.write_scores(outdir / SCORES, scores, scratch)
    return scores


def summarise(fitted: Fitted, training_set: TrainingSet, scores: Scores) -> Result:
    """Put the result on the test split in words and numbers."""
    from obiwan.dplearn import scoring
    from obiwan.dplearn.twosample import answer

    looks = scoring.count_look(training_set, scores)
    bricks = scoring.bricks_of(training_set, scores)
    found = answer(scores.label, scores.score, bricks)
    basis = f"{found.bricks} bricks" if found.bricks else "the examples taken one by one"
    lines = [
        f"Held-out result: {found.real + found.fake} test examples ({found.real} real, {found.fake} fake), "
        f"scored with the weights of epoch {fitted.progress.best_epoch}, the best in validation",
        f"  accuracy  {found.accuracy}; guessing the most numerous class: {found.majority:.3f}",
        f"  AUC       {found.auc}, from {basis}; guessing: 0.500",
        *_verdict(found, fitted),
    ]
    if looks is not None and looks > 1:
        lines.append(f"This test split has now been looked at by {looks} different models: allow for that.")
    numbers = {
        **asdict(found),
        "learnt": fitted.learnt,
        "looks": looks,
        "model": scores.model,
        "data": scores.data,
    }
    return Result(tuple(lines), numbers)


def _tell(lines: Sequence[str], outdir: Path) -> None:
    """Print a result and where the files are."""
    for line in lines:
        cli.say(line)
    cli.say(f"Model: {outdir / BEST}; test scores: {outdir / SCORES}; history: {outdir / 'history.csv'}")


def _tell_again(outdir: Path) -> None:
    """Print the result of a run that is finished."""
    cli.say(f"{outdir}: this run is finished; its result again:")
    _tell(json.loads((outdir / RESULT).read_text(encoding="utf-8"))["lines"], outdir)


def train(options: argparse.Namespace, world: World) -> int:
    """Train, score the test split and say the result, as one of the ranks; returns the exit status."""
    outdir: Path = options.outdir
    with world.together():
        training_set = open_training_set(options.data, files=world.leads)
        check_splits(training_set)
        options.batch_size = fitting_batch(options.batch_size, training_set, world.size)
        with without_notes():  # Keras only now: what is wrong with the data is said at once
            from obiwan.dplearn.training import Trainer

        try:
            config = run_config(options)
        except ValueError as error:
            raise ModelError(str(error)) from None
        finished = False
        if world.leads:
            identity = {"data": training_set.checksum, **config.to_dict()}
            claim_outdir(outdir, identity, overwrite=options.overwrite)
            finished = (outdir / RESULT).is_file()
    if world.share(finished):
        if world.leads:
            _tell_again(outdir)
        return 0
    with world.together():
        scratch = take_over(outdir / SCRATCH) if world.leads else None
        logs = RunLogs(outdir, quiet=options.quiet, scratch=scratch) if world.leads else Logs()
        steps = options.checkpoint_steps
        trainer = Trainer(
            config, training_set, outdir, world=world, checkpoint_steps=steps, logs=logs, scratch=scratch
        )
    fitted = trainer.fit()
    scores = score_test(fitted, training_set, outdir, world, scratch)
    if world.leads:
        result = summarise(fitted, training_set, scores)
        with owned(scratch, outdir):
            write_json(outdir / RESULT, {"lines": list(result.lines), **result.numbers}, scratch)
        shutil.rmtree(outdir / SCRATCH, ignore_errors=True)
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
    with contextlib.ExitStack() as stack:
        if launch.rank > 0:  # of many complaints about the same command line one is enough
            for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr):
                stack.enter_context(redirect(io.StringIO()))
        options = cli.parse(parser, argv)
        for name in ("data", "outdir"):
            if getattr(options, name) is None:
                parser.error(f"--{name} is required")
    return cli.run(lambda: program(options, launch), NAME, verbose=options.verbose)


if __name__ == "__main__":
    raise SystemExit(main())
