"""Training cutouts in, a trained network and its held-out result out.

``python -m obiwan.dplearn.cnn --data DIR --outdir DIR``

Started again after any interruption it goes on from its last checkpoint; started again after its end
it prints its result again.  The test split is scored once, with the weights that were best on the
validation split.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obiwan.dplearn import cli
from obiwan.dplearn.errors import ModelError, TrainingSetError
from obiwan.dplearn.shards import SPLITS, TrainingSet, open_training_set, write_json

if TYPE_CHECKING:
    from obiwan.dplearn.training import Fitted, RunConfig

NAME = "cnn"
ARCH_NAMES = ("lenet5", "lenet5-2x2", "deep")
RUN, RESULT, SCORES = "run.json", "result.json", "scores_test.fits"
BEST, LAST = "best.keras", "last.keras"
OURS = (RUN, RESULT, BEST, LAST, SCORES, "history.csv", "checkpoints", "tensorboard")  # all that a run writes

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
        "--batch-size", type=positive, default=16, metavar="N", help="examples a step (default 16)"
    )
    fit.add_argument(
        "--learning-rate",
        type=float,
        default=5e-4,
        metavar="X",
        help="Adam's highest: after a warm-up over 5 %% of the steps, before a cosine decay (default 5e-4)",
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
    running.add_argument("--threads", type=positive, metavar="N", help="processor threads (default: all)")
    running.add_argument("--quiet", action="store_true", help="no progress bar")
    running.add_argument("--verbose", action="store_true", help="details, and tracebacks of errors")
    return parser


def thread_settings(threads: int | None) -> dict[str, str]:
    """The environment that TensorFlow must find when it is imported."""
    settings = {"TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}
    if threads is not None:
        names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
        settings |= dict.fromkeys(names, str(threads))
        settings["TF_NUM_INTEROP_THREADS"] = str(min(threads, 2))
    return settings


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
    return RunConfig(network, feed, epochs=options.epochs, learning_rate=options.learning_rate)


def fitting_batch(asked: int, training_set: TrainingSet) -> int:
    """The batch size asked for, or all training examples where they are fewer: a tiny set must run too."""
    examples = sum(training_set.count("train"))
    if examples < asked:
        log.warning("warning: only %d training examples: one batch of them, instead of %d", examples, asked)
    return min(asked, examples)


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


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two nested configurations, as ``key: old, now new``."""
    found = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} was {a}, is {b}")
    return found


def claim_outdir(outdir: Path, identity: dict[str, Any], *, overwrite: bool) -> None:
    """Make an output directory this run's own, or find that it already is.

    Raises
    ------
    ModelError
        If another run is in it, or something else.
    """
    path = outdir / RUN
    if overwrite and path.is_file():
        for name in (*OURS[1:], RUN):  # the claim last, so that an interruption can be made good
            target = outdir / name
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            differing = _differences(found, identity)
        except (ValueError, AttributeError):
            differing = [f"{RUN} is not readable"]
        if differing:
            msg = f"{outdir}: holds another run ({'; '.join(differing)}); use another --outdir or --overwrite"
            raise ModelError(msg)
        return
    present = [name for name in OURS if (outdir / name).exists()]
    if present:
        msg = f"{outdir}: holds {present[0]} of something else; use another --outdir"
        raise ModelError(msg)
    outdir.mkdir(parents=True, exist_ok=True)
    write_json(path, identity)


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


def summarise(fitted: Fitted, training_set: TrainingSet, outdir: Path) -> Result:
    """Score the test split, once for a model, and put the result in words and numbers."""
    from obiwan.dplearn import scoring
    from obiwan.dplearn.twosample import answer

    checksum = scoring.model_checksum(fitted.model)
    scores = scoring.read_scores(outdir / SCORES, checksum, training_set.checksum)
    if scores is None:
        scores = scoring.score_split(fitted.model, training_set, "test")
        scoring.write_scores(outdir / SCORES, scores)
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
        "model": checksum,
        "data": scores.data,
    }
    return Result(tuple(lines), numbers)


def _tell(lines: Sequence[str], outdir: Path) -> None:
    """Print a result and where the files are."""
    for line in lines:
        cli.say(line)
    cli.say(f"Model: {outdir / BEST}; test scores: {outdir / SCORES}; history: {outdir / 'history.csv'}")


def train(options: argparse.Namespace) -> int:
    """The program's body, after the options are read and the threads set; returns the exit status."""
    training_set = open_training_set(options.data)
    check_splits(training_set)
    options.batch_size = fitting_batch(options.batch_size, training_set)
    from obiwan.dplearn.logs import RunLogs  # Keras only now: what is wrong with the data is said at once
    from obiwan.dplearn.training import Trainer

    try:
        config = run_config(options)
    except ValueError as error:
        raise ModelError(str(error)) from None
    outdir: Path = options.outdir
    identity = {"data": training_set.checksum, **config.to_dict()}
    claim_outdir(outdir, identity, overwrite=options.overwrite)
    if (outdir / RESULT).is_file():
        cli.say(f"{outdir}: this run is finished; its result again:")
        _tell(json.loads((outdir / RESULT).read_text(encoding="utf-8"))["lines"], outdir)
        return 0
    trainer = Trainer(
        config,
        training_set,
        outdir,
        checkpoint_steps=options.checkpoint_steps,
        logs=RunLogs(outdir, quiet=options.quiet),
    )
    fitted = trainer.fit()
    result = summarise(fitted, training_set, outdir)
    write_json(outdir / RESULT, {"lines": list(result.lines), **result.numbers})
    _tell(result.lines, outdir)
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
        0; 1 for what is wrong with the data or the run, said in one line.
    """
    parser = build_parser()
    options = cli.parse(parser, argv)
    for name in ("data", "outdir"):
        if getattr(options, name) is None:
            parser.error(f"--{name} is required")
    os.environ.update(thread_settings(options.threads))  # before TensorFlow is imported
    return cli.run(lambda: train(options), NAME, verbose=options.verbose)


if __name__ == "__main__":
    raise SystemExit(main())
