"""Injection: put model objects into the coadds of a data release, as the pipeline would.

``python -m obiwan.dplearn.inject --release DIR --sources FILE|TREE|module:function --outdir DIR``

Writes a tree in legacysim's layout that ``create_training --fake`` reads: coadds, what was injected, and a
catalogue of the injected coadds.  Started again after an interruption it ends with the same bytes.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from obiwan.dplearn.errors import CatalogError, LayoutError
from obiwan.dplearn.injection.catalogue import write_catalogue
from obiwan.dplearn.injection.config import InjectionConfig, is_function
from obiwan.dplearn.injection.detection import require_sep
from obiwan.dplearn.injection.models import NEEDS, model_named
from obiwan.dplearn.injection.sources import open_sources
from obiwan.dplearn.injection.survey import Injection, calibrations_of, inject, release_bricks
from obiwan.dplearn.running import cli
from obiwan.dplearn.running.functions import load_function
from obiwan.dplearn.running.workers import add_worker_options, run_with_workers
from obiwan.dplearn.survey.bricklist import read_brick_list

NAME = "inject"
MODULE = f"obiwan.dplearn.{NAME}"
_MOFFAT = (
    "its shape alone lets a classifier separate stars with an AUC of 0.86; give the calibrations with "
    "--calib, or a release with a catalogue of stars"
)
log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The command line; its long flags are also the keys of ``--config`` files."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=(__doc__ or "").split("\n")[0])
    add = (files := parser.add_argument_group("input and output")).add_argument
    add("--release", type=Path, required=True, metavar="DIR", help="data release that is injected into")
    says = "what is injected: a table, an injection tree whose truth is drawn again, or a function of yours"
    add("--sources", required=True, metavar="FILE|DIR|module:function", help=says)
    add("--outdir", type=Path, required=True, metavar="DIR", help="where the injection tree goes")
    several: Any = {"nargs": "+", "action": "extend", "default": []}
    add("--bricks", **several, metavar="FILE|NAME", help="inject into these bricks only")
    says = "calibrations, with the PSFEx models; a directory calib in or beside the release needs no option"
    add("--calib", type=Path, metavar="DIR", help=says)
    add("--overwrite", action="store_true", help="replace an injection tree in --outdir")
    cli.add_config_option(files)
    cli.add_options(parser.add_argument_group("what is drawn"), InjectionConfig)
    add_worker_options(parser.add_argument_group("running").add_argument)
    return parser


def check_options(options: argparse.Namespace) -> None:
    """Add the configuration as ``injection_config``; `ValueError` if it makes no sense."""
    config = InjectionConfig(**cli.chosen(InjectionConfig, options))
    model_named(config.model)
    if is_function(config.psf):
        load_function(config.psf, "--psf")
    options.injection_config = config


def _report(manifest: dict[str, Any]) -> None:
    """Say what was injected, and how."""
    entries = manifest["injected"].values()
    total = sum(run["injected"] for entry in entries for run in entry["runs"].values())
    cli.say(f"{total:,} sources injected into {len(entries):,} bricks")
    for reason in manifest["left_out"].values():
        log.warning("left out: %s", reason)
    if number := len(manifest["left_out"]):
        cli.say(f"bricks left out, not observed in every band: {number:,}")
    for reason in sorted({reason for entry in entries for reason in entry["dropped"]}):
        if number := sum(entry["dropped"].get(reason, 0) for entry in entries):
            cli.say(f"not injected, {reason}: {number:,}")
    for band in manifest["config"]["bands"]:
        facts = [entry["bands"][band] for entry in entries]
        kinds = [one["psf"] for one in facts]
        counts = [f"{kind} {kinds.count(kind):,}" for kind in sorted(set(kinds))]
        if stars := [one["psf_rests_on"] for one in facts if one["psf"] == "stars"]:
            counts.append(f"{min(stars)} to {max(stars)} stars each")
        cli.say(f"PSF in {band} (bricks): {', '.join(counts)}")
        if number := kinds.count("moffat"):
            log.warning("warning: %s brick(s) have a Moffat PSF in %s: %s", number, band, _MOFFAT)


def program(options: argparse.Namespace, executor: Executor | None) -> int:
    """The program's body, in the process that hands out the work; returns the exit status."""
    config: InjectionConfig = options.injection_config
    needs = NEEDS.get(config.model, ())
    for given in (options.release, options.sources):
        if Path(given).absolute() == options.outdir.absolute():
            msg = f"--outdir {options.outdir}: is read as well; choose another"
            raise LayoutError(msg)
    if options.calib is not None and not options.calib.is_dir():
        msg = f"--calib {options.calib}: no such directory; give the one that has psfex, or leave --calib out"
        raise LayoutError(msg)
    require_sep()
    try:
        sources = open_sources(options.sources, config.placement, needs)
    except ValueError as error:
        raise CatalogError(str(error)) from None
    if sources.placed and config.density is not None:
        msg = f"--density: --sources {options.sources} has positions of its own; leave out one of them"
        raise CatalogError(msg)
    bricks = release_bricks(options.release, read_brick_list(options.bricks), sources)
    calib = options.calib or calibrations_of(options.release)
    injection = Injection(bricks, sources, config, calib, chosen=bool(options.bricks))
    outdir, overwrite = options.outdir, options.overwrite
    manifest = inject(injection, outdir, write_catalogue, executor=executor, overwrite=overwrite)
    if manifest is None:
        cli.say(f"{outdir} already holds these injections; nothing to do")
        return 0
    _report(manifest)
    cli.say(f"injections: {outdir}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_with_workers(build_parser(), MODULE, argv, check_options, program)


if __name__ == "__main__":
    raise SystemExit(main())
