"""Inputs: from what the user typed to trees, runs and bricks; here is refused what cannot work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obiwan.dplearn.errors import LayoutError
from obiwan.dplearn.files.atomic import file_crc32
from obiwan.dplearn.planning.blobs import Fitting, refusal, what_was_fitted
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.injected import (
    check_two_injectors,
    drawn_by,
    share_one_catalogue,
    single_runs,
    warnings_of,
)
from obiwan.dplearn.stampspec import FILTERS, StampSpec
from obiwan.dplearn.survey.bricklist import read_brick_list
from obiwan.dplearn.survey.layouts import (
    BrickRun,
    Root,
    available_bands,
    find_runs,
    holds_injections,
    identify,
)
from obiwan.dplearn.survey.tables import UserTable, read_table
from obiwan.dplearn.trainingset.examples import example_dtype

_EXAMPLE = example_dtype(StampSpec())  # names are as long in all of them
_FIRST = 20  #: runs of a tree that are looked at to learn what it has
Runs = dict[str, tuple[BrickRun, ...]]  # of each brick
Trees = Mapping[Root, Sequence[BrickRun]]  # with their runs


@dataclass(frozen=True)
class BrickInputs:
    """Everything known of one brick before a file of it is opened.

    Attributes
    ----------
    brick : str
    runs : tuple of BrickRun
        Injection runs, of all roots.
    releases : tuple of BrickRun
        Data releases, given with ``--real``; the catalogue of reals is theirs.
    real_table, fake_table : UserTable or None
        A user's own positions in this brick.
    several_releases : bool
        Whether more than one release was given, so that some bricks may be in several.
    one_catalogue : bool
        Whether both classes come from the catalogues of the injection trees (`inject`).
    two_injectors : bool
        Whether injections of other trees are the class ``real`` (``--real-injected``).
    """

    brick: str
    runs: tuple[BrickRun, ...]
    releases: tuple[BrickRun, ...]
    real_table: UserTable | None = None
    fake_table: UserTable | None = None
    several_releases: bool = False
    one_catalogue: bool = False
    two_injectors: bool = False


@dataclass(frozen=True)
class Inputs:
    """Everything that a training set is to be made from.

    Attributes
    ----------
    roots : tuple of Root
        Injection trees first, then releases.
    bricks : tuple of BrickInputs
        Sorted by brick.
    warnings : tuple of str
        What the user should know before the result is believed.
    description : dict
        What identifies the inputs beside the roots, for the manifest.
    unused_bands : dict
        Path of a tree to the bands that it has and that are not cut out.
    drawn : tuple of dict
        How `inject` drew the objects of trees (`obiwan.dplearn.planning.injected.drawn_by`).
    partial_fits : dict
        Number of an injection tree to the evidence against it, where reals are taken from it nevertheless.
    """

    roots: tuple[Root, ...]
    bricks: tuple[BrickInputs, ...]
    warnings: tuple[str, ...]
    description: dict[str, Any]
    unused_bands: dict[Path, tuple[str, ...]]
    partial_fits: dict[int, Fitting] = field(default_factory=dict)
    drawn: tuple[dict[str, Any], ...] = ()


def resolve_inputs(
    *,
    fake: Sequence[Path],
    real: Sequence[Path] = (),
    real_injected: Sequence[Path] = (),
    bricks: Sequence[str] = (),
    layout: str | None = None,
    real_table: Path | None = None,
    fake_table: Path | None = None,
    config: TrainingConfig,
) -> Inputs:
    """Find trees, runs and bricks, and refuse what cannot be used.

    Parameters
    ----------
    fake, real : sequence of Path
        Injection trees and data releases.
    real_injected : sequence of Path
        Injection trees whose injections are the class ``real``.
    bricks : sequence of str
        Names, or files of names; all bricks of the injection trees by default.
    layout : str, optional
        Name of the layout of the injection trees.
    real_table, fake_table : Path, optional
        A user's own positions.
    config : TrainingConfig

    Raises
    ------
    LayoutError, CatalogError
        If a directory, brick or table is not as needed.
    """
    _check_flags(fake, real, real_table, fake_table, config)
    check_two_injectors(fake, real_injected, real_table or fake_table, config)
    roots = _roots(fake, real_injected, real, layout)
    wanted = read_brick_list(bricks)
    reals, fakes = (None if path is None else read_table(path) for path in (real_table, fake_table))
    listed = {str(brick) for table in (reals, fakes) if table is not None for brick in table.brick}
    trees = {root: runs for root in roots if root.layout.injected and (runs := find_runs(root, wanted))}
    injected = _by_brick(trees)
    one = share_one_catalogue(trees, released=bool(real))
    listed = listed if wanted is None else listed & wanted
    chosen = {*injected, *(() if one else listed)}
    release_trees = {root: find_runs(root, chosen) for root in roots if not root.layout.injected}
    releases = _by_brick(release_trees)
    unused = _unused_bands({**trees, **release_trees}, config.bands)
    absent = _absent_bricks(wanted, chosen, roots, config)
    _refuse_absent_bands(trees, config.bands)
    named = reals is not None or bool(real_injected)
    partial = {} if real or named else _partial_fits(trees, config)
    warnings = [f"--assume-all-blobs: {refusal(root, found)}" for root, found in partial.items()]
    warnings += _warnings(config, trees) + (warnings_of(config, named=named) if one else [])
    warnings += [line for table in (reals, fakes) if table is not None for line in table.warnings]
    if real and reals is None:
        chosen = _in_release(chosen, releases, real, warnings)
    if fakes is None:
        warnings += single_runs(injected, releases, one=one)
    brick_inputs = []
    for brick in sorted(chosen | absent):
        mine = injected.get(brick, ()), releases.get(brick, ())
        tables = [None if table is None else table.of_brick(brick) for table in (reals, fakes)]
        asked = (len(release_trees) > 1, one, bool(real_injected))
        brick_inputs.append(BrickInputs(brick, *mine, tables[0], tables[1], *asked))
    description = _description(wanted, real_table=real_table, fake_table=fake_table)
    doubted = {root.index: found for root, found in partial.items()}
    drawn = tuple(facts for root in trees if (facts := drawn_by(root)) is not None)
    return Inputs(tuple(roots), tuple(brick_inputs), tuple(warnings), description, unused, doubted, drawn)


def _description(wanted: set[str] | None, **tables: Path | None) -> dict[str, Any]:
    """Inputs beside the roots: the list of bricks, and users' tables by their names and what is in them."""
    named = {
        option: None if path is None else f"{path.name}:{file_crc32(path):08x}"
        for option, path in tables.items()
    }
    return {"bricks": None if wanted is None else sorted(wanted), **named}


def _check_flags(
    fake: object, real: object, real_table: object, fake_table: object, config: TrainingConfig
) -> None:
    """Refuse what names no injections, no images, or no coadds to cut reals from."""
    from_release = config.reals_from == "release"
    faults = {
        "--fake DIR (injection outputs) or --fake-table FILE is needed": not (fake or fake_table),
        "--fake DIR or --real DIR is needed: a table names positions, not images": not (fake or real),
        "without --fake there are no injected coadds; use --reals-from release": not (
            fake or real_table or from_release
        ),
        "--reals-from release needs --real DIR, the data release to cut from": from_release and not real,
    }
    for fault in (fault for fault, found in faults.items() if found):
        raise LayoutError(fault)


def _roots(
    fake: Sequence[Path], real_injected: Sequence[Path], real: Sequence[Path], layout: str | None
) -> list[Root]:
    """The trees that are given, each recognised and on its side."""
    roots: list[Root] = []
    given = [(path, "--fake", layout) for path in fake]
    given += [(path, "--real-injected", None) for path in real_injected]
    given += [(path, "--real", None) for path in real]
    for path, option, kind in given:
        injected = option != "--real"
        for tree, found in identify(path, kind):
            fault = ""
            if injected and not found.injected and holds_injections(tree):
                fault = f"is one run of an injection tree; give the directory above, {tree.resolve().parent}"
            elif injected and not found.injected:
                fault = f"is a data release without injections; give it with --real, not {option}"
            elif found.injected and not injected:
                fault = (
                    "is an injection tree; leave out --real to take the real galaxies from the injection "
                    "runs themselves, or give the data release there"
                )
            elif not injected and holds_injections(tree):
                fault = (
                    "is one run of an injection tree: its sources may be injections; give the tree that "
                    "holds it with --fake, and with --real the data release"
                )
            elif any(tree.resolve() == root.path.resolve() for root in roots):
                fault = "given twice"
            if fault:
                msg = f"{tree}: {fault}"
                raise LayoutError(msg)
            roots.append(Root(len(roots), tree, found, as_real=option == "--real-injected"))
    return roots


def _by_brick(trees: Trees) -> Runs:
    most = {name: _EXAMPLE[name].itemsize for name in ("brick", "run")}
    bricks: Runs = {}
    for run in (run for runs in trees.values() for run in runs):
        if len(run.brick) > most["brick"] or len(run.run) > most["run"]:
            limits = f"{most['brick']} (brick) or {most['run']} (run)"
            msg = f"{run.label}: names longer than {limits} characters do not fit sources.fits"
            raise LayoutError(msg)
        if not (run.brick.isascii() and run.run.isascii()):
            msg = f"{run.label}: names of bricks and runs must be ASCII, as FITS tables are"
            raise LayoutError(msg)
        bricks[run.brick] = (*bricks.get(run.brick, ()), run)
    return bricks


def _refuse_absent_bands(trees: Trees, bands: tuple[str, ...]) -> None:
    """Refuse bands of which no run of the injection trees has an image: every brick would be left out."""
    runs = [run for some in trees.values() for run in some]
    absent = [band for band in bands if not any(band in available_bands(run) for run in runs)]
    if runs and absent:
        there = {band for run in runs[:_FIRST] for band in available_bands(run)}
        have = " ".join(band for band in FILTERS if band in there)
        msg = (
            f"{', '.join(str(root.path) for root in trees)}: no coadd images in band {', '.join(absent)}; "
            f"there are {have}: choose --bands among them"
        )
        raise LayoutError(msg)


def _unused_bands(trees: Trees, bands: tuple[str, ...]) -> dict[Path, tuple[str, ...]]:
    """Bands that the first runs of each tree have, and that are not cut out.

    Injection trees that never had images are refused: obiwan_code's production runs wrote none.
    """
    unused = {}
    for root, runs in trees.items():
        found = {band for run in runs[:_FIRST] for band in available_bands(run)}
        if root.layout.injected and not found:
            msg = (
                f"{root.path}: a {root.layout.name} tree without coadd images (obiwan_code's production "
                "runs switched them off): there is nothing to cut from; rerun its bricks with coadds written"
            )
            raise LayoutError(msg)
        if others := tuple(band for band in FILTERS if band in found - set(bands)):
            unused[root.path] = others
    return unused


def _partial_fits(trees: Trees, config: TrainingConfig) -> dict[Root, Fitting]:
    """Trees that seem to have fitted only blobs with an injection: refused, unless the user knows better."""
    found = {root: what_was_fitted(root, runs, config) for root, runs in trees.items()}
    partial = {root: one for root, one in found.items() if not one.everything}
    for root, one in partial.items() if not config.assume_all_blobs else ():
        raise LayoutError(refusal(root, one))
    return partial


def _warnings(config: TrainingConfig, trees: Trees) -> list[str]:
    """Warnings of options and injection trees."""
    warnings = []
    if config.reals_from == "release":
        warnings.append(
            "--reals-from release: real and injected galaxies come from coadds of different runs, whose "
            "compression and invvar differ at nearly every pixel; the network may learn that and not the "
            "galaxies (systematic D9)"
        )
    if config.centers == "truth" and not any(root.as_real for root in trees):
        warnings.append(
            "--centers truth: injected galaxies are centred on true positions, real ones on fitted ones, "
            "so their centroids scatter differently; the network may learn that (systematic D3)"
        )
    for root, runs in trees.items():
        if any(run.tractor is None for run in runs):
            warnings.append(
                f"{root.path}: early-coadds tree: injections cannot be required to be recovered, and cuts "
                "use their true magnitudes where real galaxies have measured ones (systematic D10)"
            )
        if root.layout.placement == "shifted":
            warnings.append(
                f"{root.path}: the original injector puts sources 1.3 to 1.6 px from their truth (DECam); "
                "tractor centres absorb this, truth centres do not"
            )
    return warnings


def _in_release(bricks: set[str], releases: Runs, real: Sequence[Path], warnings: list[str]) -> set[str]:
    """Bricks that the data release has; warns of the others, whose fakes alone would be no examples."""
    chosen = bricks & set(releases)
    if not chosen:
        trees = ", ".join(map(str, real))
        msg = f"{trees}: has none of the bricks that were injected into; give the release of their region"
        raise LayoutError(msg)
    if others := sorted(bricks - chosen):
        what = "brick(s) that the data release of --real does not have"
        warnings.append(f"left out: {len(others)} {what}: {_few(others)}")
    return chosen


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _absent_bricks(
    wanted: set[str] | None, found: set[str], roots: Sequence[Root], config: TrainingConfig
) -> set[str]:
    """Bricks of the list that no tree has, where they may be left out; else refuses them."""
    absent, trees = (wanted or set()) - found, ", ".join(str(root.path) for root in roots)
    if absent and (not found or not config.skip_damaged):
        hint = "; correct the list, or leave them out with --skip-damaged" if found else ""
        msg = f"--bricks: no run of {_few(sorted(absent))} in {trees}{hint}"
        raise LayoutError(msg)
    if not found:
        msg = f"{trees}: no runs found"
        raise LayoutError(msg)
    return absent
