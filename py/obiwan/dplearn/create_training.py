"""Training sets: cut stamps of injected and of real galaxies from injection outputs and data releases.

``python -m obiwan.dplearn.create_training --fake DIR... [--real DIR...] --outdir DIR``

First a plan: catalogues are read, matched, cut, balanced and split, and every example gets its shard
and row.  Then extraction: independent tasks, each owning whole shards.  Started again after any
interruption it ends with the same bytes.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from obiwan.dplearn.cutting.extraction import GroupTask, Receipt, Tasks, extract_group
from obiwan.dplearn.cutting.workspace import (
    begin,
    check_outdir,
    check_place,
    confirm_finished,
    describe,
    finish,
    finished_receipt,
)
from obiwan.dplearn.errors import CatalogError, CoaddError, DplearnError, TrainingSetError
from obiwan.dplearn.files.outdir import nearest_directory
from obiwan.dplearn.planning.assembly import assemble
from obiwan.dplearn.planning.bricks import BRICKS, plan_brick
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.cutflow import flow_table
from obiwan.dplearn.planning.inputs import Inputs, resolve_inputs
from obiwan.dplearn.planning.plan import Plan
from obiwan.dplearn.planning.store import Eligible, RowStore
from obiwan.dplearn.running import cli
from obiwan.dplearn.running.executors import in_one_line, progress_bar, run_tasks
from obiwan.dplearn.running.workers import add_worker_options, run_with_workers
from obiwan.dplearn.survey.coverage import of_dithered
from obiwan.dplearn.survey.layouts import LAYOUT_NAMES
from obiwan.dplearn.survey.writers import differences

NAME = "create_training"
MODULE = f"obiwan.dplearn.{NAME}"
MANY = 20  #: bricks that cannot be planned, after which there is no use in planning the others
log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The command line; its long flags are also the keys of ``--config`` files."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=(__doc__ or "").split("\n")[0])
    add = (paths := parser.add_argument_group("input and output")).add_argument
    several: Any = {"nargs": "+", "action": "extend", "default": []}
    add("--fake", **several, type=Path, metavar="DIR", help="injection outputs")
    add("--real", **several, type=Path, metavar="DIR", help="data releases: the catalogue of real galaxies")
    text = (
        "other injection outputs, whose injections take the place of real galaxies: a test of two injectors"
    )
    add("--real-injected", **several, type=Path, metavar="DIR", help=text)
    add("--outdir", type=Path, required=True, metavar="DIR", help="where the training set goes")
    add("--bricks", **several, metavar="FILE|NAME", help="use these bricks only")
    add("--layout", choices=LAYOUT_NAMES, help="layout of --fake, where detection fails")
    add("--real-table", type=Path, metavar="FILE", help="your own positions of real galaxies")
    add("--fake-table", type=Path, metavar="FILE", help="your own positions of injected galaxies")
    add("--overwrite", action="store_true", help="replace a training set in --outdir")
    cli.add_config_option(paths)
    cli.add_options(parser.add_argument_group("what becomes an example"), TrainingConfig)
    add_worker_options(parser.add_argument_group("running").add_argument)
    return parser


def _eligible(inputs: Inputs, config: TrainingConfig, executor: Executor | None, outdir: Path) -> Eligible:
    """Eligible examples of all bricks; an error where some cannot be planned, or all were left out."""
    try:
        store = RowStore(nearest_directory(outdir), config.spec)
    except OSError as error:
        msg = f"{outdir}: cannot write there ({error.strerror}); choose another --outdir"
        raise TrainingSetError(msg) from None
    function = partial(plan_brick, config=config)
    with store, progress_bar(len(inputs.bricks), "plan", "brick") as bar:
        _, errors = run_tasks(function, inputs.bricks, executor, bar, most_errors=MANY, keep=store.append)
        eligible = store.eligible()
    if errors:
        damaged = all(isinstance(error, CatalogError | CoaddError) for error in errors)
        hint = "; --skip-damaged leaves out all such bricks" if damaged else ""
        raise DplearnError(in_one_line(errors) + hint)
    reasons = [*eligible.damaged.values(), *eligible.notes]
    for reason in reasons:
        log.warning("left out: %s", reason)
    candidates = (flow[name] for flow in eligible.flows.values() for name in flow if name not in BRICKS)
    if reasons and not any(candidates):
        raise DplearnError(reasons[0])  # every run was left out: the reason is the answer
    return eligible


def plan(inputs: Inputs, config: TrainingConfig, executor: Executor | None, outdir: Path) -> Plan:
    """Decide what becomes an example, and where it goes; says the cut flow, also where nothing survives.

    Parameters
    ----------
    inputs, config, executor
        As for `create_training`.
    outdir : Path
        On whose file system the rows are kept meanwhile.

    Raises
    ------
    DplearnError
        As for `create_training`.
    """
    eligible = _eligible(inputs, config, executor, outdir)
    if found := differences(*eligible.writers.values()):
        pairs = {name: " against ".join(", ".join(some) or "none" for some in found[name]) for name in found}
        log.warning(
            "warning: the coadds of real and injected galaxies were written differently (%s); "
            "the network may learn that and not the galaxies (systematic D9)",
            "; ".join(f"{name}: {pair}" for name, pair in pairs.items()),
        )
    if eligible.dithered:
        log.warning("warning: %s", of_dithered(eligible.dithered))
    try:
        return assemble(eligible, config)
    finally:
        cli.say(flow_table(*eligible.flows.values()))


def take_group(task: GroupTask) -> Receipt:
    """The receipt of a group: an earlier run's, where its shards are whole, or after cutting it."""
    return finished_receipt(task) or extract_group(task)


def _extract(tasks: Tasks, executor: Executor | None) -> list[Receipt]:
    """Receipts of all groups, in their order.

    Raises
    ------
    DplearnError
        If some groups failed, naming their files; the others are done, and stay done.
    """
    with progress_bar(len(tasks.planned), "extract", "cutout", unit_scale=True) as bar:
        receipts, errors = run_tasks(take_group, tasks, executor, bar, size=tasks.size)
    if errors:
        msg = (
            f"{len(errors)} of {len(tasks)} groups of bricks failed, the others are done and kept: "
            f"{in_one_line(errors)}; put that right and start again to make what is missing"
        )
        raise DplearnError(msg)
    return receipts


def create_training(
    inputs: Inputs,
    config: TrainingConfig,
    outdir: Path,
    *,
    executor: Executor | None = None,
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """Make a training set.

    Parameters
    ----------
    inputs : Inputs
        Trees and bricks; see `obiwan.dplearn.planning.inputs.resolve_inputs`.
    config : TrainingConfig
    outdir : Path
        Where the files go; an interrupted run of the same request is finished.
    executor : Executor, optional
        Workers that see the same files (`process_pool`, `mpi_pool`); the result does not
        depend on them.
    overwrite : bool
        Replace what an earlier run left there.

    Returns
    -------
    dict or None
        The manifest; None where the training set was there already.

    Raises
    ------
    DplearnError
        If the inputs cannot be used, no example survives, or `outdir` holds something else.  Where coadds
        turn out to be damaged only when they are cut, all other groups are finished first.
    """
    request = describe({**config.to_manifest(), **inputs.description}, inputs.roots)
    check_place(outdir, inputs.roots)
    finished = check_outdir(outdir, request, overwrite=overwrite)
    planned = plan(inputs, config, executor, outdir)
    scratch = None if finished else begin(outdir, request, planned, overwrite=overwrite)
    if scratch is None:
        confirm_finished(outdir, planned)
        return None
    tasks = Tasks(planned, inputs, config.spec, outdir, scratch, packed=config.packed)
    receipts = _extract(tasks, executor)
    doubted = [{"root": root, **asdict(one)} for root, one in inputs.partial_fits.items()]
    return finish(outdir, scratch, request, planned, receipts, doubted, inputs.drawn)


def _report(manifest: dict[str, Any] | None, outdir: Path) -> None:
    """Say what the training set holds."""
    if manifest is None:
        cli.say(f"{outdir} already holds this training set; nothing to do")
        return
    cli.say()
    for name, counts in manifest["counts"].items():
        cli.say(
            f"{name:<6} {counts['real']:>9,} real  {counts['fake']:>9,} fake  {counts['bricks']:>7,} bricks"
        )
    cleaned = manifest["cleaned_pixels"]
    if any(cleaned.values()):
        cli.say(
            f"set to 0: {cleaned['not_finite']:,} pixels that are not finite, "
            f"{cleaned['negative_invvar']:,} negative invvar"
        )
    cli.say(f"training set: {outdir}")


def check_options(options: argparse.Namespace) -> None:
    """Add the configuration that the options ask for as ``training``; `ValueError` if it makes no sense."""
    given = cli.chosen(TrainingConfig, options)
    options.training = TrainingConfig(**{name: value for name, value in given.items() if value is not None})


def program(options: argparse.Namespace, executor: Executor | None) -> int:
    """The program's body, in the process that hands out the work; returns the exit status."""
    names = ("fake", "real", "real_injected", "bricks", "layout", "real_table", "fake_table")
    inputs = resolve_inputs(**{name: getattr(options, name) for name in names}, config=options.training)
    for warning in inputs.warnings:
        log.warning("warning: %s", warning)
    for path, bands in inputs.unused_bands.items():
        log.info("%s: has the band(s) %s, too, which --bands does not name", path, " ".join(bands))
    outdir, overwrite = options.outdir, options.overwrite
    manifest = create_training(inputs, options.training, outdir, executor=executor, overwrite=overwrite)
    _report(manifest, outdir)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_with_workers(build_parser(), MODULE, argv, check_options, program)


if __name__ == "__main__":
    raise SystemExit(main())
