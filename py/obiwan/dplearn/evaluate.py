"""Evaluation of a training set by a panel of classifiers: a verdict, and a report with its evidence.

``python -m obiwan.dplearn.evaluate --data DIR --model FILE [FILE ...] --outdir DIR``

The verdict is the first thing that is printed; ``report.html`` in the output directory has all that stands
behind it.  The trained networks are one member of the panel; the others are trained here, and kept.  Scores
that lie beside a model are used again; every model that sees the test split is counted.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from obiwan.dplearn.evaluation.analysis import Evaluation
from obiwan.dplearn.evaluation.ensemble import load_networks
from obiwan.dplearn.evaluation.gallery import galleries_of, mosaics_of
from obiwan.dplearn.evaluation.judging import Planting, scored_part
from obiwan.dplearn.evaluation.study import Request, check_set, evaluate_referees
from obiwan.dplearn.referees import jury
from obiwan.dplearn.referees.network import read_record
from obiwan.dplearn.referees.plugins import load_plugin
from obiwan.dplearn.retraining import ablations, sensitivity
from obiwan.dplearn.retraining.detectable import AMPLITUDES, STAMPS, kinds_asked
from obiwan.dplearn.running import cli, profiles
from obiwan.dplearn.running.cli import between
from obiwan.dplearn.running.workers import add_rank_options, run_with_workers
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.differences import parse_amplitudes
from obiwan.dplearn.training.rundir import BEST, RUN
from obiwan.dplearn.trainingset.stampset import open_training_set
from obiwan.dplearn.twosample.verdict import LEAST_MARGIN

NAME = "evaluate"
MODULE = f"obiwan.dplearn.{NAME}"
MOSAIC_ROWS = 6
DEFAULT_MARGIN = 0.02
MOSAIC = (99,)  #: percentile in brightness of the mosaic; program mosaic makes them all
NONE = "none"  #: stands for no sensitivity test

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The command line; its long flags are also the keys of ``--config`` files."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=(__doc__ or "").split("\n")[0])
    files = parser.add_argument_group("input and output")
    add = files.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="training set, from create_training")
    add(
        "--model",
        type=Path,
        default=[],
        nargs="+",
        action="extend",
        metavar="FILE",
        help="trained network (.keras); of several, trained with different seeds, the mean score counts",
    )
    add("--outdir", type=Path, required=True, metavar="DIR", help="where report, numbers and figures go")
    add("--overwrite", action="store_true", help="replace the report of other models or data")
    says = "the mock survey that the data come from: shows what an observer of its offset would reach"
    add("--mock", type=Path, metavar="DIR", help=says)
    cli.add_config_option(files)
    _add_test_options(parser)
    add = parser.add_argument_group("running").add_argument
    profiles.add_thread_options(add)
    add_rank_options(add)
    return parser


def _add_test_options(parser: argparse.ArgumentParser) -> None:
    """Options of the panel, of the test and of what backs it."""
    add = parser.add_argument_group("the panel of referees").add_argument
    says = (
        f"its members, declared before the test: some of {' '.join(jury.MEMBERS)} (all but network need no "
    )
    says += "--model), or module:function of your own"
    add("--referees", nargs="+", action="extend", metavar="NAME", help=says)
    says = "examples of each split that are measured for panel and controls, at most"
    add("--examples", type=between(100), default=jury.EXAMPLES, metavar="N", help=says)
    says = "processes that measure and score stamps (default: as many as threads)"
    add("--jobs", type=cli.jobs, metavar="N", help=says)
    add = parser.add_argument_group("the test, and networks trained again to back it").add_argument
    says = (
        "AUCs within 0.5 +- X count as equivalent; or KIND=AMOUNT, such as psf=1.03 size=1.05: the smallest "
    )
    says += "differences that matter, whose AUC on this set is the margin; to be declared before"
    add("--margin", nargs="+", default=DEFAULT_MARGIN, metavar="X", help=says)
    says = "train again on parts of the stamps; all that the set has, or some of: "
    says += ", ".join(map(repr, ablations.names(StampSpec())))
    add("--ablations", nargs="*", action="extend", metavar="NAME", help=says)
    says = "train the network on what --ablations leave, too, and not the quick members of the panel alone"
    add("--ablate-network", action="store_true", help=says)
    says = "differences to plant.  KIND: find the smallest one that this test set detects "
    says += f"(kinds: {' '.join(AMPLITUDES)}; default: all of them with a panel; none: none).  "
    says += "KIND=AMOUNT, such as offset=0.1,0.2: train the network again on it"
    add("--sensitivity", nargs="+", action="extend", metavar="KIND[=AMOUNT]", help=says)
    says = "training stamps that differences are planted in, at most"
    add("--sensitivity-stamps", type=between(100), default=STAMPS, metavar="N", help=says)
    add("--seed", type=between(0), default=1, metavar="N", help="of draws and splits")


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Read what is to be planted; end with status 2 where options make no sense."""
    options.referees = options.referees or [
        name for name in jury.MEMBERS if options.model or name != jury.NETWORK
    ]
    try:
        jury.check_members(options.referees)
    except ValueError as error:
        parser.error(f"--referees: {error}")
    if bool(options.model) != (jury.NETWORK in options.referees):
        parser.error(
            "--referees network needs --model"
            if not options.model
            else "--model: name network among the --referees, too"
        )
    runs: dict[str, Path] = {}
    for model in dict.fromkeys(path.resolve() for path in options.model):
        record = read_record(model.parent / RUN)
        other = runs.setdefault(json.dumps(record, sort_keys=True) if record else str(model), model)
        if other != model:
            parser.error(
                f"--model: {other} and {model} are of one run, or of two with the same seed and settings, "
                f"which count once; give {BEST} of one"
            )
    _check_sensitivity(parser, options)
    _check_margin(parser, options)
    if options.ablate_network and not options.model:
        parser.error("--ablate-network trains a network again: give --model")


def _check_margin(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Tell a margin in AUC from one in amplitudes (``declared``), which needs the panel's detections."""
    words = options.margin if isinstance(options.margin, list) else [options.margin]
    declared = [word for word in words if "=" in str(word)]
    try:
        options.declared = parse_amplitudes(declared)
        options.margin = DEFAULT_MARGIN if declared else float(words[0])
    except ValueError as error:
        parser.error(f"--margin: {error}")
    if len(words) > max(1, len(declared)):
        parser.error(f"--margin {' '.join(map(str, words))}: give one number, or differences KIND=AMOUNT")
    if not LEAST_MARGIN <= options.margin < 0.5:
        parser.error(
            f"--margin must be between {LEAST_MARGIN:g} and 0.5 (an AUC's distance from 0.5; to show less "
            f"would take millions of examples), got {options.margin}"
        )
    kinds = [one.kind for one in options.declared]
    unknown = [kind for kind in kinds if kind not in AMPLITUDES]
    if unknown:
        parser.error(f"--margin: {unknown[0]} cannot be planted; kinds are {', '.join(AMPLITUDES)}")
    left = (
        [] if options.detect is None else [o.kind for o in options.declared if o.kind not in options.detect]
    )
    if left:
        parser.error(f"--margin {left[0]}=AMOUNT needs a panel, and {left[0]} among --sensitivity")


def _check_sensitivity(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Tell kinds of difference (``detect``) from differences that a network is trained again on."""
    asked, alone = list(dict.fromkeys(options.sensitivity or ())), options.referees == [jury.NETWORK]
    options.detect = [word for word in asked if "=" not in word and word != NONE]
    unknown = [kind for kind in options.detect if kind not in AMPLITUDES]
    if unknown or (NONE in asked and options.detect):
        parser.error(f"--sensitivity {' '.join(asked)}: kinds are {', '.join(AMPLITUDES)}, or {NONE}")
    if options.detect and alone:
        parser.error("--sensitivity KIND needs a panel; for a network alone give KIND=AMOUNT")
    if not options.detect and NONE not in asked and not alone:
        options.detect = None  # all that the stamps can have
    try:
        options.sensitivity = parse_amplitudes(word for word in asked if "=" in word)
    except ValueError as error:
        parser.error(f"--sensitivity: {error}")
    if options.sensitivity and not options.model:
        parser.error("--sensitivity KIND=AMOUNT trains a network again: give --model")


def ablations_asked(asked: Sequence[str] | None, spec: StampSpec) -> tuple[str, ...]:
    """The ablations that ``--ablations`` means: none without it, all where it names none.

    Raises
    ------
    TrainingSetError
        If such stamps have no ablation of a name.
    """
    ablations.check_names(asked or (), spec)
    return () if asked is None else tuple(asked or ablations.names(spec))


def request_of(options: argparse.Namespace, spec: StampSpec) -> Request:
    """Request that the options make of stamps of a specification.

    Raises
    ------
    TrainingSetError
        If such stamps have no ablation or difference that is asked for.
    """
    sensitivity.check_planted(options.sensitivity, spec)
    return Request(
        margin=options.margin,
        declared=options.declared,
        seed=options.seed,
        ablations=ablations_asked(options.ablations, spec),
        planted=options.sensitivity,
        mock=options.mock,
        jury=jury.Jury(tuple(options.referees), options.examples, options.seed),
        planting=Planting(kinds_asked(options.detect, spec), options.sensitivity_stamps),
        ablate_network=options.ablate_network,
    )


def prepare(options: argparse.Namespace) -> int:
    """Set the environment for threads; returns how many processes measure and score stamps."""
    for line in profiles.set_environment(options)[1:]:
        log.info(line)
    return int(options.jobs or os.environ["OMP_NUM_THREADS"].split(",")[0])


def evaluate(options: argparse.Namespace, executor: Executor | None = None) -> tuple[Evaluation, Path]:
    """Evaluate what checked options name, and write the report; returns all numbers and the page's path.

    Parameters
    ----------
    options : argparse.Namespace
        After `check_options` and `prepare`.
    executor : Executor, optional
        Workers that measure and score stamps; no number depends on them.
    """
    stamp_set = open_training_set(options.data)
    request = request_of(options, stamp_set.spec)
    check_set(stamp_set)
    for name in options.referees:
        if name not in jury.MEMBERS:
            load_plugin(name)  # which may not be there: known before anything is measured
    from obiwan.dplearn.report import figures, output  # only now: what is wrong is said at once

    referees = load_networks(options.model, stamp_set)
    checksums = [referee.checksum for referee in referees]
    identity = output.identity_of(stamp_set.checksum, checksums, options.referees)
    place = output.claim(options.outdir, identity, overwrite=options.overwrite)
    with place.lease() as scratch:
        found = evaluate_referees(
            stamp_set, referees, request, options.outdir, overwrite=options.overwrite, executor=executor
        )
        tested = scored_part(stamp_set, found.scored)
        galleries = galleries_of(tested, "test", found.scored.scores)
        shown = figures.pictures_of(found, galleries, mosaics_of(tested, "test", MOSAIC_ROWS, MOSAIC))
        return found, output.write_report(options.outdir, found, shown, scratch)


def program(options: argparse.Namespace, executor: Executor | None) -> int:
    """The program's body, in the process that hands out the work; returns the exit status."""
    found, page = evaluate(options, executor)
    from obiwan.dplearn.report import wording

    for line in wording.summary(found):
        cli.say(line)
    cli.say(f"Report: {page}")
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
        0; 1 for what is wrong with the data, a model or the output directory, said in one line.
    """
    parser = build_parser()
    return run_with_workers(parser, MODULE, argv, partial(check_options, parser), program, prepare)


if __name__ == "__main__":
    raise SystemExit(main())
