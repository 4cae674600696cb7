"""Galaxy fits: fit a galaxy model to every stamp of a training set, and write tables.

``python -m obiwan.dplearn.measure --data DIR --outdir DIR``

``fits-<split>.fits`` has a row per stamp in the order of ``sources.fits``: parameters, errors, chi^2, flags,
and statistics of what the fit leaves.  Started again after an interruption it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from obiwan import dplearn
from obiwan.dplearn.errors import DplearnError, TrainingSetError
from obiwan.dplearn.files.atomic import write_json
from obiwan.dplearn.files.outdir import OutputDirectory, State, holding_lease
from obiwan.dplearn.galaxyfit.fits import FLAGS
from obiwan.dplearn.galaxyfit.table import FitTask, fit_shard, read_table, write_table
from obiwan.dplearn.running import cli
from obiwan.dplearn.running.executors import in_one_line, progress_bar, run_tasks
from obiwan.dplearn.running.workers import add_worker_options, run_with_workers
from obiwan.dplearn.stampspec import SPLITS
from obiwan.dplearn.trainingset.stampset import StampSet, open_training_set
from obiwan.dplearn.trainingset.visibility import psf_widths

NAME = "measure"
MODULE = f"obiwan.dplearn.{NAME}"
FORMAT = "obiwan.dplearn galaxy fits"
RECORD, WORK = "measure.json", ".work"
_PIECES = f"{WORK}/shards"


def build_parser() -> argparse.ArgumentParser:
    """The command line; its long flags are also the keys of ``--config`` files."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=(__doc__ or "").split("\n")[0])
    add = (files := parser.add_argument_group("input and output")).add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="training set, from create_training")
    add("--outdir", type=Path, required=True, metavar="DIR", help="where the tables go")
    says = f"which splits, some of {' '.join(SPLITS)} (default: all)"
    add("--splits", nargs="+", action="extend", default=[], choices=SPLITS, metavar="NAME", help=says)
    add("--overwrite", action="store_true", help="replace the tables of another training set in --outdir")
    cli.add_config_option(files)
    add_worker_options(parser.add_argument_group("running").add_argument)
    return parser


def table_name(split: str) -> str:
    """File name of the table of a split."""
    return f"fits-{split}.fits"


def fits_directory(outdir: Path) -> OutputDirectory:
    """The output directory of ``measure``; a request is the set's checksum, splits and version."""
    keys = ("format", "package_version", "data", "splits")
    return OutputDirectory(
        outdir,
        "set of galaxy fits",
        TrainingSetError,
        owned=re.compile("|".join(map(re.escape, [*map(table_name, SPLITS), RECORD, WORK]))),
        records=(RECORD, f"{WORK}/{RECORD}"),
        final=RECORD,
        scratch=f"{WORK}/running",
        identify=lambda content: {key: content[key] for key in keys if key in content},
    )


def _tasks(stamp_set: StampSet, splits: Sequence[str], outdir: Path, scratch: Path) -> Iterator[FitTask]:
    """A task for each shard, in order."""
    parts = stamp_set.parts()
    for split in splits:
        psf = psf_widths(stamp_set.rows(split), stamp_set.read_columns(), stamp_set.spec)
        for shard in stamp_set.split(split):
            path = outdir / _PIECES / f"{split}_{shard.number}.fits"
            own = psf[parts[shard.key]]
            yield FitTask(stamp_set.directory, stamp_set.spec, shard, own, outdir, scratch, path)


def measure(
    stamp_set: StampSet,
    splits: Sequence[str],
    outdir: Path,
    *,
    executor: Executor | None = None,
    overwrite: bool = False,
) -> dict[str, int] | None:
    """Fit the galaxy model to the stamps of some splits and write their tables.

    Parameters
    ----------
    stamp_set : StampSet
    splits : sequence of str
    outdir : Path
        An interrupted run of the same request is finished.
    executor : Executor, optional
        Workers that see the same files; the result does not depend on them.
    overwrite : bool
        Replace what an earlier run left there.

    Returns
    -------
    dict or None
        How many stamps have each flag; None where the tables were there already.

    Raises
    ------
    DplearnError
        If shards cannot be read (the others are done, and stay done), or `outdir` holds something else.
    """
    request = {"format": FORMAT, "package_version": dplearn.__version__, "data": stamp_set.checksum}
    request["splits"] = " ".join(splits)
    place = fits_directory(outdir)
    state = place.check(request, overwrite=overwrite)
    scratch = None
    if state is not State.FINISHED or overwrite:
        scratch = place.begin(request, overwrite=overwrite)
    if scratch is None:
        return None
    with holding_lease(scratch, outdir):
        (outdir / _PIECES).mkdir(exist_ok=True)
    tasks = list(_tasks(stamp_set, splits, outdir, scratch))
    with progress_bar(sum(task.shard.rows for task in tasks), "fit", "stamp", unit_scale=True) as bar:
        _, errors = run_tasks(fit_shard, tasks, executor, bar, size=lambda number: tasks[number].shard.rows)
    if errors:
        msg = (
            f"{outdir}: {len(errors)} of {len(tasks)} shards cannot be fitted, the others are done and kept: "
            f"{in_one_line(errors)}; put that right and start again"
        )
        raise DplearnError(msg)
    return _finish(request, tasks, splits, outdir, scratch)


def _finish(
    request: dict[str, Any], tasks: Sequence[FitTask], splits: Sequence[str], outdir: Path, scratch: Path
) -> dict[str, int]:
    """Join the shards' rows into tables, write the record, and remove what it replaces."""
    flagged, rows = dict.fromkeys(FLAGS, 0), dict.fromkeys(splits, 0)

    def parts(split: str) -> Iterator[Any]:
        """Rows of a split, shard by shard; counts them and their flags."""
        for task in tasks:
            if task.shard.split == split:
                part = read_table(task.path)
                rows[split] += len(part)
                for name, bit in FLAGS.items():
                    flagged[name] += int(((part["flags"] & bit) > 0).sum())
                yield part

    with holding_lease(scratch, outdir):
        for split in splits:
            header = {"TRAINSET": request["data"], "SPLIT": split}
            write_table(outdir / table_name(split), parts(split), tasks[0].spec, header, scratch)
        content = {**request, "flags": FLAGS, "rows": rows, "flagged": flagged}
        write_json(outdir / RECORD, content, scratch)
    shutil.rmtree(outdir / WORK, ignore_errors=True)
    return flagged


def program(options: argparse.Namespace, executor: Executor | None) -> int:
    """The program's body, in the process that hands out the work; returns the exit status."""
    stamp_set = open_training_set(options.data)
    splits = [split for split in SPLITS if split in options.splits or not options.splits]
    flagged = measure(stamp_set, splits, options.outdir, executor=executor, overwrite=options.overwrite)
    if flagged is None:
        cli.say(f"{options.outdir} already holds these galaxy fits; nothing to do")
        return 0
    number = sum(shard.rows for split in splits for shard in stamp_set.split(split))
    cli.say(f"{number:,} stamps; flagged: " + ", ".join(f"{name} {n:,}" for name, n in flagged.items()))
    for split in splits:
        cli.say(str(options.outdir / table_name(split)))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_with_workers(build_parser(), MODULE, argv, lambda _: None, program)


if __name__ == "__main__":
    raise SystemExit(main())
