"""Mosaics of training examples: real and injected galaxies, row by row, at equal brightness.

``python -m obiwan.dplearn.mosaic --data DIR --outdir DIR``
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from obiwan.dplearn.errors import DplearnError, TrainingSetError
from obiwan.dplearn.evaluation.ensemble import scores_of
from obiwan.dplearn.evaluation.gallery import GALLERIES, PERCENTILES, galleries_of, mosaics_of
from obiwan.dplearn.referees.network import load_network_referee
from obiwan.dplearn.running import cli, profiles
from obiwan.dplearn.trainingset.stampset import open_training_set

NAME = "mosaic"

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m obiwan.dplearn.{NAME}", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="training set")
    add("--outdir", type=Path, required=True, metavar="DIR", help="where the figures go")
    says = "trained network (.keras): adds galleries of examples with its highest and lowest scores"
    add("--model", type=Path, metavar="FILE", help=says)
    add("--rows", type=int, default=8, metavar="N", help="rows of a mosaic, half of them real")
    says = "which examples; no network was trained on val"
    add("--split", default="val", choices=("train", "val"), help=says)
    cli.add_config_option(parser)
    profiles.add_thread_options(add)
    add("--verbose", action="store_true", help="details, and tracebacks of errors")
    return parser


def draw(options: argparse.Namespace) -> int:
    """Draw the figures of a training set as PNG and PDF: a mosaic per percentile, and galleries of a network.

    Nothing is written before all is known that is to be drawn.  Figures of these names that an earlier run
    left, and this one would not draw again, are removed; galleries only where a network is given.  The test
    split is for `obiwan.dplearn.evaluate` alone.

    Returns
    -------
    int
        The exit status.

    Raises
    ------
    TrainingSetError, ModelError
        If the training set or the network is unusable.
    DplearnError
        If no figure can be drawn; where some cannot, the others are.
    """
    from obiwan.dplearn.report.figures import gallery_picture, mosaic_picture
    from obiwan.dplearn.report.pictures import write_if_possible

    split, model = options.split, options.model
    training_set = open_training_set(options.data)
    pictures = [mosaic_picture(mosaic) for mosaic in mosaics_of(training_set, split, options.rows)]
    if not pictures:
        band = training_set.spec.bluest
        msg = f"{options.data}: no real and fake example with a {band} magnitude in the {split} split"
        raise TrainingSetError(msg)
    left_out = {
        f"fake_real_mosaic_p{percentile:02d}": "the same examples again" for percentile in PERCENTILES
    }
    if model is not None:
        scores = scores_of(load_network_referee(model, training_set), training_set, split)
        pictures += [gallery_picture(gallery) for gallery in galleries_of(training_set, split, scores)]
        alike = f"{model} gives every example the score {scores[0]:.3f}"
        why = "there are no such examples" if np.ptp(scores) > 0 else alike
        left_out |= {f"gallery_{name}": why for name, *_ in GALLERIES}
    options.outdir.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        del left_out[picture.name]
    for name, why in left_out.items():
        log.warning("%s left out: %s", name, why)
    drawn = [one.name for one in pictures if write_if_possible(one, options.outdir) is not None]
    for name in {*left_out, *(one.name for one in pictures)}.difference(drawn):
        for suffix in (".png", ".pdf"):
            (options.outdir / (name + suffix)).unlink(missing_ok=True)
    for name in drawn:
        cli.say(str(options.outdir / f"{name}.png"))
    if not drawn:
        msg = f"{options.outdir}: no figure can be drawn; the warnings above tell why"
        raise DplearnError(msg)
    return 0


def program(options: argparse.Namespace) -> int:
    """The program's body, after the options are read; returns the exit status."""
    for line in profiles.set_environment(options, keras=options.model is not None)[1:]:
        log.info(line)
    return draw(options)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    options = cli.parse(parser, argv)
    if options.rows < 2 or options.rows % 2:
        parser.error(f"--rows must be even and at least 2, got {options.rows}: half of them are real")
    return cli.run(lambda: program(options), NAME, verbose=options.verbose, again="start it again")


if __name__ == "__main__":
    raise SystemExit(main())
