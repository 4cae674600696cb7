"""Injection into the bricks of a release: in parallel, resumed after an interruption, with a manifest."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from obiwan import dplearn
from obiwan.dplearn.errors import CatalogError, DplearnError, LayoutError
from obiwan.dplearn.files.atomic import write_json
from obiwan.dplearn.files.outdir import Others, OutputDirectory, State, holding_lease
from obiwan.dplearn.injection.brick import BrickTask, Catalogue, inject_brick
from obiwan.dplearn.injection.config import InjectionConfig
from obiwan.dplearn.injection.scene import open_scene
from obiwan.dplearn.injection.sources import SourceList, TableSources
from obiwan.dplearn.running.executors import in_one_line, progress_bar, run_tasks
from obiwan.dplearn.survey.layouts import BrickRun, Root, available_bands, identify, layout_named
from obiwan.dplearn.survey.templates import expand

PROGRAM = "obiwan.dplearn.inject"
RECORD, WORK = "injection.json", ".work"
_RECEIPTS = f"{WORK}/bricks"
_REQUEST = ("program", "package_version", "release", "bricks", "sources", "calib", "config")
_SOFTWARE = ("numpy", "scipy", "astropy", "fitsio", "galsim", "sep")


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
        return {
            "program": PROGRAM,
            "package_version": dplearn.__version__,
            "release": sorted({run.root.name for run in self.bricks}),
            "bricks": names,
            "sources": self.sources.description,
            "calib": None if self.calib is None else self.calib.name,
            "config": self.config.to_manifest(),
        }


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


def _box(run: BrickRun, config: InjectionConfig) -> tuple[float, float, float, float]:
    """Primary area of a brick."""
    return open_scene(run, config.bands).box


def _with_sources(injection: Injection, executor: Executor | None) -> tuple[BrickRun, ...]:
    """The bricks that a table of positions has sources in; all of them for other sources.

    Raises
    ------
    DplearnError
        If a brick cannot be read, a row lies in none of them, or of chosen bricks, all rows.
    """
    sources, bricks = injection.sources, injection.bricks
    if not (isinstance(sources, TableSources) and sources.objects.placed):
        return bricks
    with progress_bar(len(bricks), "look", "brick") as bar:
        boxes, errors = run_tasks(partial(_box, config=injection.config), bricks, executor, bar)
    if errors:
        raise DplearnError(in_one_line(errors))
    outside = sources.outside(boxes)
    if len(outside) and (not injection.chosen or len(outside) == len(sources.objects)):
        rows = ", ".join(map(str, outside[:5])) + (", ..." if len(outside) > 5 else "")
        name = sources.description.partition(":")[0]
        msg = f"--sources {name}: {len(outside)} row(s) lie in no brick of the release ({rows}); "
        msg += "remove them, or give the release and --bricks of their region"
        raise CatalogError(msg)
    number = len(sources.objects)
    return tuple(run for run, box in zip(bricks, boxes, strict=True) if len(sources.outside([box])) < number)


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
    if place.check(request, overwrite=overwrite) is State.FINISHED and not overwrite:
        return None
    bricks = _with_sources(injection, executor)
    scratch = place.begin(request, overwrite=overwrite)
    if scratch is None:
        return None
    root = Root(0, outdir, layout_named("legacysim"))

    def task(run: BrickRun) -> BrickTask:
        receipt = outdir / _RECEIPTS / f"{run.brick}.json"
        return BrickTask(run, injection.sources, injection.config, injection.calib, root, scratch, receipt)

    function: Callable[[BrickTask], dict[str, Any]] = partial(inject_brick, catalogue=catalogue)
    with progress_bar(len(bricks), "inject", "brick") as bar:
        entries, errors = run_tasks(function, [task(run) for run in bricks], executor, bar)
    if errors:
        msg = f"{outdir}: {len(errors)} of {len(bricks)} bricks failed, the others are done and kept: "
        raise DplearnError(msg + in_one_line(errors) + "; put that right and start again")
    names = [run.brick for run in bricks]
    content = {**request, "software": _software(), "injected": dict(zip(names, entries, strict=True))}
    with holding_lease(scratch, outdir):
        write_json(outdir / RECORD, content, scratch)
    shutil.rmtree(outdir / WORK, ignore_errors=True)
    return content


def _software() -> dict[str, str]:
    """Versions of the packages that decide what is written."""
    found = {}
    for name in _SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
