"""The training examples as one sees them: real and fake, row by row, at equal brightness.

``python -m obiwan.dplearn.mosaic --data DIR --outdir DIR``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.evaluation.gallery import GALLERIES, PERCENTILES, gallery_rows, pair_by_magnitude
from obiwan.dplearn.running import cli
from obiwan.dplearn.trainingset.examples import read_sources, read_stamps
from obiwan.dplearn.trainingset.shards import open_training_set

NAME = "mosaic"


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
        help="trained network (.keras): adds galleries of what it takes for fakes, and of what fooled it",
    )
    parser.add_argument("--rows", type=int, default=8, metavar="N", help="rows of a figure (default 8)")
    parser.add_argument(
        "--split", default="train", choices=("train", "val"), help="which examples (default train)"
    )
    cli.add_config_option(parser)
    parser.add_argument("--verbose", action="store_true", help="details, and tracebacks of errors")
    return parser


def draw_mosaics(data: Path, outdir: Path, *, rows: int = 8, split: str = "train") -> list[Path]:
    """Draw the figures of a training set, one per percentile in brightness.

    Parameters
    ----------
    data, outdir : Path
    rows : int
        Rows of a figure, half of them real.
    split : str
        Which examples; the test split is not for looking at.

    Returns
    -------
    list of Path
        The PNG files.

    Raises
    ------
    TrainingSetError
        If the training set is unusable, or has no two examples of known magnitude.
    """
    from matplotlib.figure import Figure

    from obiwan.dplearn.report.stamps import draw_mosaic

    training_set = open_training_set(data)
    sources = read_sources(data)
    sources = sources[sources["split"] == split.encode()]
    outdir.mkdir(parents=True, exist_ok=True)
    written = []
    for percentile in PERCENTILES:
        chosen = pair_by_magnitude(sources["mag_g"].astype(float), sources["label"], percentile, rows // 2)
        if not len(chosen):
            msg = f"{data}: no real and fake example with a g magnitude in the {split} split"
            raise TrainingSetError(msg)
        figure = Figure(figsize=(8.0, 1.09 * len(chosen) + 0.25), dpi=110)
        stamps = read_stamps(training_set, split, sources, chosen)
        draw_mosaic(figure, stamps, sources["label"][chosen], sources["mag_g"][chosen])
        path = outdir / f"fake_real_mosaic_p{percentile:02d}.png"
        figure.savefig(path, metadata={"Software": None})
        written.append(path)
    return written


def draw_galleries(
    data: Path, model: Path, outdir: Path, *, split: str = "val", count: int = 8
) -> list[Path]:
    """Draw what a network takes for fakes, and what fooled it.

    Parameters
    ----------
    data, outdir : Path
    model : Path
        A trained network, a ``.keras`` file.
    split : str
        Whose examples; those of the test split are for `obiwan.dplearn.evaluate` alone.
    count : int
        Examples of a gallery.

    Returns
    -------
    list of Path
        The PNG files.

    Raises
    ------
    TrainingSetError, ModelError
        If the training set or the network is unusable.
    """
    from obiwan.dplearn.report.pictures import Gallery, gallery_picture, png_of
    from obiwan.dplearn.training.model import load_network
    from obiwan.dplearn.training.scoring import score_split

    training_set = open_training_set(data)
    rows = read_sources(data)
    rows = rows[rows["split"] == split.encode()]
    score = score_split(load_network(model), training_set, split).score
    outdir.mkdir(parents=True, exist_ok=True)
    written = []
    for name, title, of, highest in GALLERIES:
        chosen = gallery_rows(rows["label"], score, of, highest, count)
        if len(chosen):
            stamps = read_stamps(training_set, split, rows, chosen)
            gallery = Gallery(name, title, stamps, score[chosen], rows["mag_g"][chosen].astype(float))
            path = outdir / f"gallery_{name}.png"
            path.write_bytes(png_of(gallery_picture(gallery)))
            written.append(path)
    return written


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    options = cli.parse(parser, argv)
    if options.rows < 2:
        parser.error(f"--rows must be at least 2, got {options.rows}")

    def program() -> int:
        for path in draw_mosaics(options.data, options.outdir, rows=options.rows, split=options.split):
            cli.say(str(path))
        if options.model is not None:
            for path in draw_galleries(options.data, options.model, options.outdir, split=options.split):
                cli.say(str(path))
        return 0

    return cli.run(program, NAME, verbose=options.verbose)


if __name__ == "__main__":
    raise SystemExit(main())
