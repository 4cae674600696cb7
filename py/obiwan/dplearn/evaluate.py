"""A training set and trained networks in, an answer that a referee accepts out.

``python -m obiwan.dplearn.evaluate --data DIR --model FILE [FILE ...] --outdir DIR``

The verdict is the first thing that is printed; ``report.html`` in the output directory has all that stands
behind it.  Scores that lie beside a model are used again; every model that sees the test split is counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import logging
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn import __version__, cli
from obiwan.dplearn.errors import ModelError, TrainingSetError
from obiwan.dplearn.shards import TrainingSet, open_training_set

Array = NDArray[Any]
NAME = "evaluate"
CONTROL_EXAMPLES = 50_000  #: that the controls are run on, at most but for the test split
ATTRIBUTION_EXAMPLES = 200  #: of the test split, half of each class
GALLERY = 8  #: stamps of a gallery
MOSAIC_ROWS = 6
LEAST_TEST = 2  #: test examples of each class without which there is no variance
SOFTWARE = (
    *(
        "numpy",
        "scipy",
        "astropy",
        "fitsio",
        "scikit-learn",
        "keras",
        "tensorflow",
        "tensorflow-cpu",
        "torch",
    ),
    *("jax", "matplotlib", "jinja2", "galsim"),
)

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The command line; its long flags are also the keys of ``--config`` files."""
    from obiwan.dplearn.ablations import ABLATIONS

    parser = argparse.ArgumentParser(
        prog=f"python -m obiwan.dplearn.{NAME}", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="training set, from create_training")
    parser.add_argument(
        "--model",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="trained network (.keras); of several, trained with different seeds, the mean score is tested",
    )
    parser.add_argument("--outdir", type=Path, metavar="DIR", help="where report, numbers and figures go")
    parser.add_argument("--overwrite", action="store_true", help="replace the report of other models or data")
    cli.add_config_option(parser)
    parser.add_argument(
        "--margin",
        type=float,
        default=0.02,
        metavar="X",
        help="AUCs within 0.5 +- X count as equivalent; to be declared before (default 0.02)",
    )
    parser.add_argument(
        "--ablations",
        nargs="*",
        choices=list(ABLATIONS),
        metavar="NAME",
        help=f"train again on parts of the cutouts; all, or some of: {', '.join(map(repr, ABLATIONS))}",
    )
    parser.add_argument(
        "--sensitivity",
        nargs="+",
        metavar="KIND=AMOUNT",
        help="train again on planted differences, such as offset=0.1,0.2 psf=1.05: the positive control",
    )
    parser.add_argument(
        "--mock",
        type=Path,
        metavar="DIR",
        help="the mock survey that the data come from: shows what an ideal observer would reach",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of draws and splits (default 1)")
    parser.add_argument("--verbose", action="store_true", help="details, and tracebacks of errors")
    return parser


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with status 2 where options are missing or make no sense."""
    for name in ("data", "model", "outdir"):
        if not getattr(options, name):
            parser.error(f"--{name} is required")
    if not 0 < options.margin < 0.5:
        parser.error(f"--margin must be between 0 and 0.5 (an AUC's distance from 0.5), got {options.margin}")
    if options.seed < 0:
        parser.error(f"--seed must be at least 0, got {options.seed}")
    from obiwan.dplearn.sensitivity import parse_amplitudes

    try:
        parse_amplitudes(options.sensitivity or ())
    except ValueError as error:
        parser.error(f"--sensitivity: {error}")


def software() -> dict[str, str]:
    """Versions of what the numbers rest on."""
    found = {"obiwan.dplearn": __version__, "python": platform.python_version()}
    for name in SOFTWARE:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def data_summary(training_set: TrainingSet, table: Array) -> dict[str, Any]:
    """What a report says of a training set; counts are those of its source table."""
    manifest = training_set.manifest
    counts = {}
    for split in ("train", "val", "test"):
        mine = table[table["split"] == split.encode()]
        fake = int(np.count_nonzero(mine["label"]))
        counts[split] = {"real": len(mine) - fake, "fake": fake, "bricks": len(np.unique(mine["brick"]))}
    return {
        "checksum": training_set.checksum,
        "package_version": str(manifest.get("package_version", "unknown")),
        "counts": counts,
        "config": manifest.get("config") or {},
        "roots": manifest.get("roots") or [],
        "cut_flow": manifest.get("cut_flow") or {},
    }


def control_set(training_set: TrainingSet, table: Array) -> tuple[Array, Array, Array]:
    """Rows and measurements of what the controls are run on, and which of them are the test examples.

    Controls learn nothing, so training examples serve as well as others: the test split first, then
    validation and training shards up to `CONTROL_EXAMPLES`.
    """
    from obiwan.dplearn.measure import measure_split, split_rows

    room, rows, measured = CONTROL_EXAMPLES, [], []
    for split in ("test", "val", "train"):
        shards = []
        for shard in training_set.split(split):
            if split == "test" or shard.rows <= room:
                shards.append(shard)
                room -= shard.rows
        part = dataclasses.replace(training_set, shards=tuple(shards))
        mine = split_rows(table, split)
        mine = mine[np.isin(mine["shard"], [shard.number for shard in shards])]
        rows.append(mine)
        measured.append(measure_split(part, split, mine))
    in_test = np.arange(sum(map(len, rows))) < len(rows[0])
    return np.concatenate(rows), np.concatenate(measured), in_test


def cautions(scored: Any, data: dict[str, Any]) -> tuple[str, ...]:
    """What a reader must know before believing the number."""
    found = []
    for model in scored.models:
        if model.trained_on and model.trained_on != data["checksum"]:
            found.append(
                f"{model.name} was trained on another training set ({model.trained_on}): it may have seen "
                "bricks of this test split."
            )
    if data["config"].get("split") == "object":
        found.append(
            "Objects of one brick are in several splits, and their stamps share sky: good for a look, not "
            "for a claim."
        )
    if scored.looks is None:
        found.append(
            "This look at the test split could not be counted: the data directory cannot be written."
        )
    return tuple(found)


def galleries(training_set: TrainingSet, scored: Any) -> tuple[list[Any], list[Any]]:
    """Stamps of the galleries and of the mosaics, from the test split."""
    from obiwan.dplearn import mosaic, pictures

    rows, scores, labels = scored.rows, scored.scores, scored.labels
    magnitude = rows["mag_g"].astype(float)
    shown = []
    for name, title, of, highest in mosaic.GALLERIES:
        chosen = mosaic.gallery_rows(labels, scores, of, highest, GALLERY)
        stamps = mosaic.read_stamps(training_set, "test", rows, chosen)
        shown.append(pictures.Gallery(name, title, stamps, scores[chosen], magnitude[chosen]))
    mosaics = []
    for percentile in mosaic.PERCENTILES:
        chosen = mosaic.pair_by_magnitude(magnitude, labels, percentile, MOSAIC_ROWS // 2)
        if len(chosen):
            stamps = mosaic.read_stamps(training_set, "test", rows, chosen)
            mosaics.append(pictures.Mosaic(percentile, stamps, labels[chosen], magnitude[chosen]))
    return shown, mosaics


def attribution(training_set: TrainingSet, member: Any, scored: Any, seed: int) -> tuple[Any, str]:
    """Attribution of the first network on some test examples, or None and the reason."""
    from obiwan.dplearn.attribution import attribute
    from obiwan.dplearn.mosaic import read_stamps

    rng = np.random.default_rng([seed, 40])
    chosen = np.sort(
        np.concatenate(
            [
                rng.permutation(np.flatnonzero(scored.labels == value))[: ATTRIBUTION_EXAMPLES // 2]
                for value in (0, 1)
            ]
        )
    )
    stamps = read_stamps(training_set, "test", scored.rows, chosen)
    log.info("attribution: what %s looks at in %d test examples", member.info.name, len(chosen))
    try:
        return attribute(member.model, stamps, scored.rows[chosen], seed=seed), ""
    except ModelError as error:
        return None, str(error)


def retrained(
    options: argparse.Namespace, training_set: TrainingSet, members: Sequence[Any]
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Results of the ablations and of the planted differences that were asked for.

    The network and its settings are those of the first model; what is finished in the output directory is
    not trained again.
    """
    from obiwan.dplearn.ablations import ABLATIONS, run_ablation
    from obiwan.dplearn.retraining import run_config_of
    from obiwan.dplearn.sensitivity import parse_amplitudes, run_sensitivity

    names = [] if options.ablations is None else options.ablations or list(ABLATIONS)
    planted = parse_amplitudes(options.sensitivity or ())
    if not names and not planted:
        return (), ()
    config = run_config_of(members[0].path)
    return (
        tuple(run_ablation(name, training_set, config, options.outdir) for name in names),
        tuple(run_sensitivity(difference, training_set, config, options.outdir) for difference in planted),
    )


def not_run(options: argparse.Namespace, controls: Sequence[Any]) -> tuple[str, ...]:
    """What could have been run and was not, each with how, or why."""
    from obiwan.dplearn.ablations import ABLATIONS

    done = [] if options.ablations is None else options.ablations or list(ABLATIONS)
    left = []
    if not options.sensitivity:
        left.append("The positive control, without which nothing can be called equivalent: --sensitivity.")
    names = [f"“{name}” ({says})" for name, says in ABLATIONS.items() if name not in done]
    if names:
        left.append(f"Training again on parts of the cutouts, --ablations: {', '.join(names)}.")
    left += [f"Control {c.title}: {c.note}." for c in controls if c.light == "not run"]
    return tuple(left)


def check_set(training_set: TrainingSet) -> None:
    """Every split must hold both classes, and the test split two of each, or there is no interval.

    Raises
    ------
    TrainingSetError
    """
    from obiwan.dplearn.cnn import check_splits

    check_splits(training_set)
    real, fake = training_set.count("test")
    if min(real, fake) < LEAST_TEST:
        msg = (
            f"{training_set.directory}: {real} real and {fake} fake test examples; {LEAST_TEST} of each are "
            "needed for an interval: make a set with more bricks"
        )
        raise TrainingSetError(msg)


def analyse(options: argparse.Namespace, training_set: TrainingSet, table: Array, members: Any) -> Any:
    """All numbers of the report, as an `obiwan.dplearn.evaluation.Evaluation`."""
    from obiwan.dplearn import ensemble, evaluation
    from obiwan.dplearn.attribution import half_light_radius
    from obiwan.dplearn.controls import run_controls
    from obiwan.dplearn.covariates import covariates
    from obiwan.dplearn.ideal import offset_curve, planted_offset
    from obiwan.dplearn.sensitivity import summarise

    offset = None if options.mock is None else planted_offset(options.mock)
    scored = ensemble.score_members(members, training_set, table)
    rows, measured, in_test = control_set(training_set, table)
    columns = covariates(rows, measured)
    own = {name: values[in_test] for name, values in columns.items()}
    controls = run_controls(rows, measured, rows["label"], np.char.strip(rows["brick"].astype(str)))
    data = data_summary(training_set, table)
    ablations, sensitivity = retrained(options, training_set, members)
    positive = summarise(sensitivity) if sensitivity else None
    looked, why_not = attribution(training_set, members[0], scored, options.seed)
    return evaluation.Evaluation(
        settings={"margin": options.margin, "level": evaluation.LEVEL, "seed": options.seed},
        data=data,
        scored=scored,
        columns=own,
        verdict=evaluation.verdict_of(scored, options.margin, positive),
        answer=evaluation.answer(scored, options.seed),
        calibration=evaluation.calibrate(scored),
        conditional=evaluation.conditional(scored, own, options.seed),
        baseline=evaluation.baseline(columns, rows, in_test, options.seed),
        controls=controls,
        control_examples=len(rows),
        bins=evaluation.where(scored, own, evaluation.cameras(scored.rows, data["roots"])),
        attribution=looked,
        attribution_note=why_not,
        ideal=offset_curve(offset, own["sn"], half_light_radius(scored.rows)) if offset else None,
        ablations=ablations,
        sensitivity=sensitivity,
        not_run=not_run(options, controls),
        cautions=cautions(scored, data),
        versions=software(),
    )


def evaluate(options: argparse.Namespace) -> int:
    """The program's body; returns the exit status."""
    from obiwan.dplearn.examples import read_sources

    training_set = open_training_set(options.data)
    check_set(training_set)
    table = read_sources(options.data)
    from obiwan.dplearn import ensemble, prose, report  # Keras only now: what is wrong is said at once
    from obiwan.dplearn.pictures import pictures_of

    members = ensemble.load_members(options.model, training_set)
    identity = {"data": training_set.checksum, "models": [member.info.checksum for member in members]}
    report.claim(options.outdir, identity, overwrite=options.overwrite)
    found = analyse(options, training_set, table, members)
    shown = pictures_of(found, *galleries(training_set, found.scored))
    page = report.write_report(options.outdir, found, shown)
    for line in prose.summary(found):
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
    for library in ("fontTools", "matplotlib", "PIL"):  # whose details are no use with --verbose
        logging.getLogger(library).setLevel(logging.WARNING)
    return cli.run(lambda: evaluate(options), NAME, verbose=options.verbose)


if __name__ == "__main__":
    raise SystemExit(main())
