"""A training set and trained networks in, an answer that a referee accepts out.

``python -m obiwan.dplearn.evaluate --data DIR --model FILE [FILE ...] --outdir DIR``

The verdict is the first thing that is printed; ``report.html`` in the output directory has all that stands
behind it.  Scores that lie beside a model are used again; every model that sees the test split is counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from obiwan.dplearn.evaluation import evidence
from obiwan.dplearn.running import cli
from obiwan.dplearn.running.quiet import hush_drawing
from obiwan.dplearn.trainingset.stampset import StampSet, open_training_set

if TYPE_CHECKING:
    from obiwan.dplearn.evaluation.gallery import Gallery, Mosaic
    from obiwan.dplearn.evaluation.records import Scored

NAME = "evaluate"
MOSAIC_ROWS = 6


def build_parser() -> argparse.ArgumentParser:
    """The command line; its long flags are also the keys of ``--config`` files."""
    parser = argparse.ArgumentParser(
        prog=f"python -m obiwan.dplearn.{NAME}", description=(__doc__ or "").split("\n")[0]
    )
    _add_path_options(parser.add_argument_group("input and output"))
    _add_test_options(parser.add_argument_group("the test, and networks trained again to back it"))
    parser.add_argument("--verbose", action="store_true", help="details, and tracebacks of errors")
    return parser


def _add_path_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="training set, from create_training"
    )
    group.add_argument(
        "--model",
        type=Path,
        required=True,
        nargs="+",
        action="extend",
        metavar="FILE",
        help="trained network (.keras); of several, trained with different seeds, the mean score is tested",
    )
    group.add_argument(
        "--outdir", type=Path, required=True, metavar="DIR", help="where report, numbers and figures go"
    )
    group.add_argument("--overwrite", action="store_true", help="replace the report of other models or data")
    group.add_argument(
        "--mock",
        type=Path,
        metavar="DIR",
        help="the mock survey that the data come from: shows what an observer of its offset would reach",
    )
    cli.add_config_option(group)


def _add_test_options(group: argparse._ArgumentGroup) -> None:
    from obiwan.dplearn.retraining.ablations import names
    from obiwan.dplearn.stampspec import StampSpec

    group.add_argument(
        "--margin",
        type=float,
        default=0.02,
        metavar="X",
        help="AUCs within 0.5 +- X count as equivalent; to be declared before (default 0.02)",
    )
    group.add_argument(
        "--ablations",
        nargs="*",
        action="extend",
        metavar="NAME",
        help="train again on parts of the stamps; all that the set has, or some of: "
        f"{', '.join(map(repr, names(StampSpec())))}",
    )
    group.add_argument(
        "--sensitivity",
        nargs="+",
        action="extend",
        metavar="KIND=AMOUNT",
        help="train again on planted differences, such as offset=0.1,0.2 psf=1.05: the positive control",
    )
    group.add_argument("--seed", type=int, default=1, metavar="N", help="of draws and splits (default 1)")


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with status 2 where options are missing or make no sense."""
    from obiwan.dplearn.twosample.equivalence import LEAST_MARGIN

    if not LEAST_MARGIN <= options.margin < 0.5:
        parser.error(
            f"--margin must be between {LEAST_MARGIN:g} and 0.5 (an AUC's distance from 0.5; to show less "
            f"would take millions of examples), got {options.margin}"
        )
    if options.seed < 0:
        parser.error(f"--seed must be at least 0, got {options.seed}")
    from obiwan.dplearn.survey.differences import parse_amplitudes

    try:
        parse_amplitudes(options.sensitivity or ())
    except ValueError as error:
        parser.error(f"--sensitivity: {error}")


def analyse(options: argparse.Namespace, training_set: StampSet, members: Any) -> Any:
    """All numbers of the report, as an `obiwan.dplearn.evaluation.records.Evaluation`."""
    from obiwan.dplearn.controls.battery import run_controls
    from obiwan.dplearn.controls.covariates import covariates
    from obiwan.dplearn.evaluation import analysis, ensemble, notices
    from obiwan.dplearn.evaluation.records import Evaluation
    from obiwan.dplearn.retraining.sensitivity import summarise
    from obiwan.dplearn.survey.differences import parse_amplitudes

    names = evidence.ablations_asked(options.ablations, training_set.spec)
    offset, of_mock = evidence.mock_behind(options.mock, training_set)
    scored = ensemble.score_members(members, training_set)
    rows, measured, in_test = evidence.control_set(training_set)
    columns = covariates(rows, measured, training_set.spec)
    own = {name: values[in_test] for name, values in columns.items()}
    bricks = np.char.strip(rows["brick"].astype(str))
    controls = run_controls(rows, measured, rows["label"], bricks, training_set.spec)
    data = evidence.data_summary(training_set)
    planted = parse_amplitudes(options.sensitivity or ())
    ablations, sensitivity = evidence.retrained(
        training_set, members[0].path, options.outdir, names, planted, overwrite=options.overwrite
    )
    scored = dataclasses.replace(scored, ledger=evidence.ledger(training_set, members, options.margin, names))
    positive = summarise(sensitivity) if sensitivity else None
    seed = options.seed
    parts = np.ptp(scored.singles[0]) > 0  # a constant score has none
    return Evaluation(
        settings={"margin": options.margin, "level": analysis.LEVEL, "seed": seed},
        spec=training_set.spec,
        data=data,
        scored=scored,
        columns=own,
        verdict=analysis.verdict_of(scored, options.margin, positive),
        answer=analysis.answer(scored, seed),
        calibration=analysis.calibrate(scored),
        conditional=analysis.conditional(scored, own, analysis.held_equal(training_set.spec), seed),
        baseline=analysis.baseline(columns, rows, in_test, seed),
        controls=controls,
        control_examples=len(rows),
        bins=analysis.where(scored, own, training_set.spec),
        occlusion=evidence.occlusion(training_set, members[0], scored, seed) if parts else None,
        ideal=None if offset is None else evidence.ideal_curve(training_set, scored, own["sn"], offset, seed),
        mock=of_mock,
        ablations=ablations,
        sensitivity=sensitivity,
        not_run=notices.not_run(len(members), names, planted, controls, training_set.spec),
        cautions=notices.cautions(scored, data),
        versions=evidence.software(),
    )


def galleries(training_set: StampSet, scored: Scored) -> tuple[list[Gallery], list[Mosaic]]:
    """Stamps of the galleries and of the mosaics, from the test split."""
    from obiwan.dplearn.evaluation.gallery import GALLERY_SIZE, galleries_of, mosaics_of

    return (
        galleries_of(training_set, "test", scored.scores, GALLERY_SIZE),
        mosaics_of(training_set, "test", MOSAIC_ROWS),
    )


def evaluate(options: argparse.Namespace) -> int:
    """The program's body; returns the exit status."""
    training_set = open_training_set(options.data)
    evidence.check_set(training_set)
    from obiwan.dplearn.evaluation import ensemble  # Keras only now: what is wrong is said at once
    from obiwan.dplearn.report import figures, output, wording

    members = ensemble.load_members(options.model, training_set)
    identity = {"data": training_set.checksum, "models": [member.info.checksum for member in members]}
    place = output.claim(options.outdir, identity, overwrite=options.overwrite)
    with place.lease() as scratch:
        found = analyse(options, training_set, members)
        shown = figures.pictures_of(found, *galleries(training_set, found.scored))
        page = output.write_report(options.outdir, found, shown, scratch)
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
    options = cli.parse(parser, argv)
    check_options(parser, options)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
    hush_drawing()
    return cli.run(lambda: evaluate(options), NAME, verbose=options.verbose)


if __name__ == "__main__":
    raise SystemExit(main())
