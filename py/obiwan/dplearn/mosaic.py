"""Mosaics of training examples: real and fake, row by row, at equal brightness.

``python -m obiwan.dplearn.mosaic --data DIR --outdir DIR``
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.evaluation.gallery import (
    GALLERIES,
    GALLERY_SIZE,
    PERCENTILES,
    Gallery,
    Mosaic,
    galleries_of,
    mosaics_of,
)
from obiwan.dplearn.running import cli
from obiwan.dplearn.trainingset.stampset import StampSet, open_training_set

NAME = "mosaic"

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m obiwan.dplearn.{NAME}", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="training set")
    parser.add_argument("--outdir", type=Path, required=True, metavar="DIR", help="where the figures go")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="trained network (.keras): adds galleries of examples with its highest and lowest scores",
    )
    parser.add_argument(
        "--rows", type=int, default=8, metavar="N", help="rows of a mosaic, half of them real"
    )
    parser.add_argument(
        "--split",
        default="val",
        choices=("train", "val"),
        help="which examples; no network was trained on val",
    )
    cli.add_config_option(parser)
    parser.add_argument("--verbose", action="store_true", help="details, and tracebacks of errors")
    return parser


def mosaics(training_set: StampSet, split: str, rows: int) -> list[Mosaic]:
    """The mosaics of a split; says which are left out.

    Raises
    ------
    TrainingSetError
        If there are no two examples of known magnitude.
    """
    found = mosaics_of(training_set, split, rows)
    if not found:
        band = training_set.spec.bluest
        msg = (
            f"{training_set.directory}: no real and fake example with a {band} magnitude in the {split} split"
        )
        raise TrainingSetError(msg)
    drawn = {mosaic.percentile for mosaic in found}
    for percentile in PERCENTILES:
        if percentile not in drawn:
            log.warning("percentile %d left out: it would show the same examples again", percentile)
    return found


def galleries(training_set: StampSet, split: str, model: Path) -> list[Gallery]:
    """The galleries of a network; says which would be empty.

    Raises
    ------
    ModelError
        If the network cannot be used.
    """
    from obiwan.dplearn.evaluation.ensemble import scores_of
    from obiwan.dplearn.referees.network import load_network_referee

    scores = scores_of(load_network_referee(model, training_set), training_set, split)
    if np.ptp(scores) == 0:
        log.warning("no galleries: %s gives every example the score %.3f", model, scores[0])
        return []
    found = galleries_of(training_set, split, scores, GALLERY_SIZE)
    drawn = {gallery.name for gallery in found}
    for name, *_ in GALLERIES:
        if name not in drawn:
            log.warning("gallery_%s left out: there are no such examples", name)
    return found


def draw(
    data: Path, outdir: Path, *, rows: int = 8, split: str = "val", model: Path | None = None
) -> list[Path]:
    """Draw the figures of a training set as PNG and PDF: a mosaic per percentile, and galleries of a network.

    Nothing is written before all is known that is to be drawn.  Figures of these names that an earlier run
    left, and this one would not draw again, are removed; galleries only where a network is given.

    Parameters
    ----------
    data, outdir : Path
    rows : int
        Rows of a mosaic, half of them real.
    split : str
        Which examples; those of the test split are for `obiwan.dplearn.evaluate` alone.
    model : Path, optional
        A trained network, a ``.keras`` file, whose galleries are added.

    Returns
    -------
    list of Path
        The PNG files.

    Raises
    ------
    TrainingSetError, ModelError
        If the training set or the network is unusable.
    """
    from obiwan.dplearn.report.pictures import gallery_picture, mosaic_picture, write_picture

    training_set = open_training_set(data)
    pictures = [mosaic_picture(mosaic) for mosaic in mosaics(training_set, split, rows)]
    old = [f"fake_real_mosaic_p{percentile:02d}" for percentile in PERCENTILES]
    if model is not None:
        pictures += [gallery_picture(gallery) for gallery in galleries(training_set, split, model)]
        old += [f"gallery_{name}" for name, *_ in GALLERIES]
    outdir.mkdir(parents=True, exist_ok=True)
    for name in set(old) - {picture.name for picture in pictures}:
        for suffix in (".png", ".pdf"):
            (outdir / (name + suffix)).unlink(missing_ok=True)
    for picture in pictures:
        write_picture(picture, outdir)
    return [outdir / f"{picture.name}.png" for picture in pictures]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    options = cli.parse(parser, argv)
    if options.rows < 2 or options.rows % 2:
        parser.error(f"--rows must be even and at least 2, got {options.rows}: half of them are real")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported

    def program() -> int:
        words = {"rows": options.rows, "split": options.split, "model": options.model}
        for path in draw(options.data, options.outdir, **words):
            cli.say(str(path))
        return 0

    return cli.run(program, NAME, verbose=options.verbose)


if __name__ == "__main__":
    raise SystemExit(main())
