"""Injection into the bricks of a release: in parallel, resumed after an interruption, with a manifest."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from obiwan import dplearn
from obiwan.dplearn.errors import CatalogError, CoaddError, DplearnError, LayoutError
from obiwan.dplearn.files.atomic import read_json, write_json
from obiwan.dplearn.files.outdir import Others, OutputDirectory, State, holding_lease
from obiwan.dplearn.injection.brick import BrickTask, Catalogue, inject_brick
from obiwan.dplearn.injection.config import InjectionConfig, is_function
from obiwan.dplearn.injection.inputs import primary_area
from obiwan.dplearn.injection.sources import SourceList, TableSources
from obiwan.dplearn.running.executors import in_one_line, progress_bar, run_tasks
from obiwan.dplearn.running.functions import function_checksum
from obiwan.dplearn.running.software import versions
from obiwan.dplearn.survey.coadds import BandNotObservedError
from obiwan.dplearn.survey.layouts import BrickRun, Root, available_bands, identify, layout_named
from obiwan.dplearn.survey.templates import expand

PROGRAM = "obiwan.dplearn.inject"
RECORD, WORK = "injection.json", ".work"
_RECEIPTS = f"{WORK}/bricks"
_REQUEST = ("program", "package_version", "release", "bricks", "sources", "calib", "config", "functions")
_AFTER = " (with --overwrite, where the table, a stamp or a function is another one now)"
_SOFTWARE = ("numpy", "scipy", "astropy", "fitsio", "galsim", "sep")  #: packages that decide what is written


@dataclass(frozen=True)
class Injection:
    """Injection into a release: which objects, and which bricks.

    Attributes
    ----------
    bricks : tuple of BrickRun
        Of the release, sorted by name.
    sources : SourceList
    config : InjectionConfig
    calib : Path or None
        Directory of calibrations.
    chosen : bool
        Whether the user chose the bricks: then positions elsewhere are no mistake.
    """

    bricks: tuple[BrickRun, ...]
    sources: SourceList
    config: InjectionConfig
    calib: Path | None = None
    chosen: bool = False

    @property
    def request(self) -> dict[str, Any]:
        """What decides the bytes that are written, as JSON holds it."""
        names = [run.brick for run in self.bricks]
        given = {self.config.model: "--model", self.config.psf: "--psf"}
        functions = {word: function_checksum(word, given[word]) for word in given if is_function(word)}
        return {
            "program": PROGRAM,
            "package_version": dplearn.__version__,
            "release": sorted({run.root.name for run in self.bricks}),
            "bricks": names,
            "sources": self.sources.description,
            "calib": None if self.calib is None else self.calib.name,
            "config": self.config.to_manifest(),
        } | ({"functions": functions} if functions else {})


def release_bricks(
    release: Path, wanted: Collection[str] | None, sources: SourceList
) -> tuple[BrickRun, ...]:
    """Bricks of a data release to inject into.

    Parameters
    ----------
    release : Path
    wanted : collection of str or None
        Only these.
    sources : SourceList

    Raises
    ------
    LayoutError
        If the directory is no release, or lacks a brick.
    """
    trees = identify(release)
    if any(layout.injected for _, layout in trees):
        msg = f"--release {release}: is an injection tree; give the data release that was injected into"
        raise LayoutError(msg)
    own = sources.bricks()
    names = own if wanted is None else set(wanted) if own is None else own & set(wanted)
    runs: dict[str, BrickRun] = {}
    for i, (path, layout) in enumerate(trees):
        root = Root(i, path, layout)
        for fields in expand(path, layout.coadd, layout.run_names, names):
            run = root.files(fields["brick"])
            if available_bands(run):
                runs.setdefault(run.brick, run)  # of a brick in north and south, the first
    absent = sorted((set() if names is None else set(names)) - set(runs))
    if absent or not runs:
        what = f"no brick {', '.join(absent[:5])}" if absent else "no brick to inject into"
        msg = f"--release {release}: {what}; choose others with --bricks, or give the release of that region"
        raise LayoutError(msg)
    return tuple(runs[name] for name in sorted(runs))


def calibrations_of(release: Path) -> Path | None:
    """The directory of calibrations of a release where it is beside or in it, as releases are published."""
    places = (release / "calib", release.absolute().parent / "calib")
    return next((place for place in places if place.is_dir()), None)


def output_directory(outdir: Path) -> OutputDirectory:
    """The output directory of an injection: one directory a run, in the layout of legacysim."""
    layout = layout_named("legacysim")
    return OutputDirectory(
        outdir,
        "set of injections",
        DplearnError,
        owned=re.compile(f"{layout.run_names}|{re.escape(RECORD)}|{re.escape(WORK)}"),
        records=(RECORD, f"{WORK}/{RECORD}"),
        final=RECORD,
        scratch=f"{WORK}/running",
        others=Others.LEFT,
        identify=lambda content: {key: content[key] for key in _REQUEST if key in content},
    )


def _with_sources(injection: Injection, executor: Executor | None) -> list[tuple[BrickRun, SourceList]]:
    """Bricks with their sources: of a table with positions, each brick that has some, with its rows.

    Raises
    ------
    DplearnError
        If the headers of a brick cannot be read, a row lies in none of them, or of chosen bricks, all rows.
    """
    sources, bricks = injection.sources, injection.bricks
    if not (isinstance(sources, TableSources) and sources.placed):
        return [(run, sources) for run in bricks]
    with progress_bar(len(bricks), "look", "brick") as bar:
        boxes, errors = run_tasks(primary_area, bricks, executor, bar)
    if errors:
        raise DplearnError(in_one_line(errors))
    parts = sources.within(boxes)
    inside = np.unique(np.concatenate([part.objects.numbers for part in parts]))
    outside = np.setdiff1d(sources.objects.numbers, inside)
    if len(outside) and (not injection.chosen or not len(inside)):
        rows = ", ".join(map(str, outside[:5])) + (", ..." if len(outside) > 5 else "")
        name = sources.description.partition(":")[0]
        msg = f"--sources {name}: {len(outside)} row(s) lie in no brick of the release ({rows}); "
        msg += "remove them, or give the release and --bricks of their region"
        raise CatalogError(msg)
    return [(run, part) for run, part in zip(bricks, parts, strict=True) if len(part.objects)]


def _checksum(task: BrickTask) -> int | None:
    """Checksum of what is read of a brick; None where a band does not touch it."""
    try:
        return task.checksum()
    except BandNotObservedError:
        return None


def _confirm(outdir: Path, tasks: list[BrickTask], executor: Executor | None) -> None:
    """Check that a finished tree was made from the files that there are today.

    Raises
    ------
    DplearnError
        If a file was replaced, or cannot be read.
    """
    shutil.rmtree(outdir / WORK, ignore_errors=True)  # its run may have been killed before it could
    with progress_bar(len(tasks), "check", "brick") as bar:
        contents, errors = run_tasks(_checksum, tasks, executor, bar)
    if errors:
        raise DplearnError(in_one_line(errors))
    made = read_json(outdir / RECORD)["injected"]
    pairs = zip((task.release.brick for task in tasks), contents, strict=True)
    if changed := [brick for brick, content in pairs if made.get(brick, {}).get("content") != content]:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        what = f"the release, calibrations or truth of brick {changed[0]}{more} were other files"
        msg = f"{outdir}: was made when {what}; choose another --outdir, or give --overwrite"
        raise DplearnError(msg)


def inject(
    injection: Injection,
    outdir: Path,
    catalogue: Catalogue,
    *,
    executor: Executor | None = None,
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """Inject into all bricks.

    Parameters
    ----------
    injection : Injection
    outdir : Path
        Where the tree goes; an interrupted run of the same request is finished.
    catalogue : callable
        Writes the catalogue of a run.
    executor : Executor, optional
        Workers that see the same files; the result does not depend on them.
    overwrite : bool
        Replace what an earlier run left there.

    Returns
    -------
    dict or None
        The manifest; None where the tree was there already.

    Raises
    ------
    DplearnError
        If bricks or sources cannot be used (other bricks are done, and stay done), or `outdir` holds
        something else.
    """
    place, request = output_directory(outdir), injection.request
    finished = place.check(request, overwrite=overwrite) is State.FINISHED and not overwrite
    parts = _with_sources(injection, executor)
    tasks = partial(_tasks, injection, parts, outdir)
    scratch = None if finished else place.begin(request, overwrite=overwrite)
    if scratch is None:
        _confirm(outdir, tasks(outdir), executor)
        return None
    function: Callable[[BrickTask], dict[str, Any]] = partial(inject_brick, catalogue=catalogue)
    with progress_bar(len(parts), "inject", "brick") as bar:
        entries, errors = run_tasks(function, tasks(scratch), executor, bar)
    if errors:
        msg = f"{outdir}: {len(errors)} of {len(parts)} bricks failed, the others are done and kept: "
        raise DplearnError(msg + in_one_line(errors) + f"; put that right and start again{_AFTER}")
    done = _entries([run.brick for run, _ in parts], entries)
    content = {**request, "software": versions(_SOFTWARE), **done}
    with holding_lease(scratch, outdir):
        write_json(outdir / RECORD, content, scratch)
    shutil.rmtree(outdir / WORK, ignore_errors=True)
    return content


def _tasks(
    injection: Injection, parts: list[tuple[BrickRun, SourceList]], outdir: Path, scratch: Path
) -> list[BrickTask]:
    """A task for each brick."""
    root, receipts = Root(0, outdir, layout_named("legacysim")), outdir / _RECEIPTS
    return [
        BrickTask(
            run, sources, injection.config, injection.calib, root, scratch, receipts / f"{run.brick}.json"
        )
        for run, sources in parts
    ]


def _entries(names: list[str], entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Entries of the manifest: bricks that were injected into, and why others were left out.

    Raises
    ------
    CoaddError
        If all were.
    """
    pairs = list(zip(names, entries, strict=True))
    left_out = {name: entry["left_out"] for name, entry in pairs if "left_out" in entry}
    if len(left_out) == len(pairs):
        raise CoaddError(next(iter(left_out.values())))
    return {"injected": {name: entry for name, entry in pairs if name not in left_out}, "left_out": left_out}
