"""Conversion of a training set between packed and npy shards, without loss.

``python -m obiwan.dplearn.shards DIR --outdir DIR --shards packed --coadds DIR...``

Every shard is read, written in its new form, read back and compared.  Started again after any interruption
it goes on.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from obiwan.dplearn.cutting.conversion import (
    Conversion,
    begin_conversion,
    convert_shard,
    finish_conversion,
    known_runs,
    without_patches,
)
from obiwan.dplearn.errors import DplearnError
from obiwan.dplearn.referees.testlog import copy_log
from obiwan.dplearn.running import cli
from obiwan.dplearn.running.executors import in_one_line, progress_bar, run_tasks
from obiwan.dplearn.running.workers import add_worker_options, run_with_workers
from obiwan.dplearn.trainingset.shards import FORMS, PACKED
from obiwan.dplearn.trainingset.stampset import StampSet, open_training_set

NAME = "shards"
MODULE = f"obiwan.dplearn.{NAME}"
log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("data", type=Path, metavar="DIR", help="training set")
    add("--outdir", type=Path, required=True, metavar="DIR", help="where the converted set goes")
    add("--shards", choices=FORMS, default=PACKED, help="form of its shards")
    says = "injection outputs and data releases that the set was cut from: without them files are larger"
    add("--coadds", nargs="+", action="extend", default=[], type=Path, metavar="DIR", help=says)
    add("--overwrite", action="store_true", help="replace a training set in --outdir")
    cli.add_config_option(parser)
    add_worker_options(add)
    return parser


def convert(
    source: StampSet,
    outdir: Path,
    form: str,
    coadds: Sequence[Path] = (),
    *,
    executor: Executor | None = None,
    overwrite: bool = False,
) -> bool:
    """Convert a training set.

    Parameters
    ----------
    source : StampSet
        As `obiwan.dplearn.trainingset.stampset.open_training_set` gives it.
    outdir : Path
        Where the converted set goes; an interrupted conversion of the same set is finished.
    form : str
        ``packed`` or ``npy``.
    coadds : sequence of Path
        Trees that the set was cut from, for the quantisation of their pixels.
    executor : Executor, optional
        Workers; the result does not depend on them.
    overwrite : bool
        Replace what an earlier run left there.

    Returns
    -------
    bool
        Whether there was anything to do.

    Raises
    ------
    DplearnError
        If a shard is damaged, a tree unknown, or `outdir` holds something else.
    """
    runs = known_runs(source.manifest, coadds) if form == PACKED else {}
    scratch = begin_conversion(source, outdir, form, overwrite=overwrite)
    if scratch is None:
        finished = open_training_set(outdir)  # its files are there
        if coadds and form == PACKED and without_patches(finished):
            log.warning(
                "warning: packed as floats before; for --coadds to tell, convert it again (--overwrite)"
            )
        copy_log(source, finished)
        return False
    roots = {one["index"]: f"{one['name']} ({one['layout']})" for one in source.manifest.get("roots", ())}
    if form == PACKED and not runs and not all(shard.packed for shard in source.shards):
        named = " ".join(roots.values())
        log.warning(
            "warning: no coadds of this set are known: pixels are packed as floats, 2 to 3 times larger; "
            "for integers convert it again (--overwrite) with --coadds: %s",
            named or "its manifest names none",
        )
    tasks = Conversion(source, outdir, scratch, form, runs)
    total = sum(shard.rows for shard in source.shards)
    with progress_bar(total, "convert", "cutout", unit_scale=True) as bar:
        made, errors = run_tasks(convert_shard, tasks, executor, bar, size=tasks.size)
    if errors:
        failed = f"{len(errors)} of {len(tasks)} shards failed, the others are done and kept"
        msg = f"{failed}: {in_one_line(errors)}; put that right and start again"
        raise DplearnError(msg)
    count, lacking = tasks.unknown()
    if count:
        log.warning(
            "warning: %d of %d stamps are packed as floats, 2 to 3 times larger: their coadds are not known; "
            "for integers convert the set again (--overwrite), with --coadds for these too: %s",
            count,
            total,
            " ".join(roots[one] for one in sorted(lacking) if one in roots),
        )
    finish_conversion(source, outdir, scratch, form, made)
    copy_log(source, open_training_set(outdir))
    return True


def program(options: argparse.Namespace, executor: Executor | None) -> int:
    """The program's body, in the process that hands out the work; returns the exit status."""
    source, outdir = open_training_set(options.data), options.outdir
    words = (source, outdir, options.shards, options.coadds)
    if not convert(*words, executor=executor, overwrite=options.overwrite):
        cli.say(f"{outdir} already holds this training set; nothing to do")
        return 0
    sizes = [_stamp_bytes(one) for one in (source, open_training_set(outdir))]
    cli.say(f"stamps: {sizes[0] / 1e6:,.1f} MB in {options.data}, {sizes[1] / 1e6:,.1f} MB in {outdir}")
    return 0


def _stamp_bytes(stamps: StampSet) -> int:
    """Bytes of the files of stamps of a training set."""
    return sum((stamps.directory / shard.x_name).stat().st_size for shard in stamps.shards)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_with_workers(build_parser(), MODULE, argv, lambda _: None, program)


if __name__ == "__main__":
    raise SystemExit(main())
