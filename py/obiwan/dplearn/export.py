"""Export of a training set for other tools: a HATS catalogue or WebDataset archives.

``python -m obiwan.dplearn.export --data DIR --outdir DIR --format hats``

Stamps and tables are exported bit for bit, from npy and packed shards alike.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.exporting.hats import check_packages, write_catalogue
from obiwan.dplearn.exporting.webdataset import write_archives
from obiwan.dplearn.files.atomic import write_json
from obiwan.dplearn.files.outdir import Others, OutputDirectory, State, holding_lease
from obiwan.dplearn.running import cli
from obiwan.dplearn.running.executors import progress_bar
from obiwan.dplearn.stampspec import SPLITS
from obiwan.dplearn.trainingset.stampset import StampSet, check_outside, open_training_set

NAME = "export"
MODULE = f"obiwan.dplearn.{NAME}"
FORMATS = (HATS, WEBDATASET) = ("hats", "webdataset")
RECORD = "export.json"
_BEGUN = ".export.json"
_OURS = re.compile(
    rf"(?:{'|'.join(SPLITS)})-\d+\.tar|dataset|hats\.properties|properties|partition_info\.csv|"
    rf"{re.escape(RECORD)}|{re.escape(_BEGUN)}"
)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="training set")
    add("--outdir", type=Path, required=True, metavar="DIR", help="where the files go")
    add("--format", choices=FORMATS, default=HATS, help="what they are")
    add("--rows", type=int, default=2048, metavar="N", help="examples in a partition of a HATS catalogue")
    add("--overwrite", action="store_true", help="replace an export in --outdir")
    cli.add_config_option(parser)
    add("--verbose", action="store_true", help="details, and tracebacks of errors")
    return parser


def export(stamps: StampSet, outdir: Path, form: str, rows: int, *, overwrite: bool = False) -> bool:
    """Export a training set.

    Parameters
    ----------
    stamps : StampSet
    outdir : Path
        Where the files go.
    form : str
        ``hats`` or ``webdataset``.
    rows : int
        Examples in a partition of a HATS catalogue, at most.
    overwrite : bool
        Replace another export.

    Returns
    -------
    bool
        Whether there was anything to do.

    Raises
    ------
    DplearnError
        If the set is damaged, a package is missing, or `outdir` holds something else.
    """
    check_outside(outdir, stamps)
    request = {"format": form, "checksum": stamps.checksum, "rows": rows if form == HATS else None}
    output = OutputDirectory(
        outdir,
        "training-set export",
        TrainingSetError,
        owned=_OURS,
        records=(RECORD, _BEGUN),
        final=RECORD,
        scratch=".work/running",
        others=Others.REFUSED,
    )
    if output.check(request, overwrite=overwrite) is State.FINISHED and not overwrite:
        return False
    if form == HATS:
        check_packages()  # before another export is removed
    scratch = output.begin(request, overwrite=overwrite)
    if scratch is None:
        return False
    total = sum(shard.rows for shard in stamps.shards)
    with holding_lease(scratch, outdir), progress_bar(total, NAME, "cutout", unit_scale=True) as bar:
        if form == HATS:
            done = write_catalogue(stamps, outdir, stamps.directory.resolve().name, rows, scratch)
        else:
            done = write_archives(stamps, outdir, scratch)
        for number in done:
            bar.update(number)
        write_json(outdir / RECORD, request, scratch)
    (outdir / _BEGUN).unlink(missing_ok=True)
    output.release(scratch)
    return True


def program(options: argparse.Namespace) -> int:
    """The program's body, after the options are read; returns the exit status."""
    words = (open_training_set(options.data), options.outdir, options.format, options.rows)
    done = export(*words, overwrite=options.overwrite)
    cli.say(f"exported: {options.outdir}" if done else f"{options.outdir} already holds this export")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    options = cli.parse(parser, argv)
    if options.rows < 1:
        parser.error(f"--rows must be at least 1, got {options.rows}")
    return cli.run(lambda: program(options), NAME, verbose=options.verbose, again="start it again")


if __name__ == "__main__":
    raise SystemExit(main())
