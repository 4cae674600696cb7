"""From what the user typed to trees, runs and bricks; here is refused what cannot work."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obiwan.dplearn.errors import LayoutError
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.fields import refuse_partial_fits
from obiwan.dplearn.survey.layouts import BrickRun, Root, find_runs, holds_injections, identify
from obiwan.dplearn.survey.tables import UserTable, read_table


@dataclass(frozen=True)
class BrickInputs:
    """Everything known of one brick before a file of it is opened.

    Attributes
    ----------
    brick : str
    runs : tuple of BrickRun
        Injection runs, of all roots.
    releases : tuple of BrickRun
        Data releases, given with ``--real``.
    reals_are_release_rows : bool
        Whether the catalogue of reals is the release's (``--real`` was given).
    real_table, fake_table : UserTable or None
        A user's own positions in this brick.
    """

    brick: str
    runs: tuple[BrickRun, ...]
    releases: tuple[BrickRun, ...]
    reals_are_release_rows: bool
    real_table: UserTable | None = None
    fake_table: UserTable | None = None


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
    """

    roots: tuple[Root, ...]
    bricks: tuple[BrickInputs, ...]
    warnings: tuple[str, ...]
    description: dict[str, Any]


def _roots(fake: Sequence[Path], real: Sequence[Path], layout: str | None) -> list[Root]:
    roots: list[Root] = []
    for paths, injected in ((fake, True), (real, False)):
        for path in paths:
            for tree, found in identify(path, layout if injected else None):
                if found.injected != injected:
                    msg = (
                        f"{tree}: is a data release without injections; give it with --real, not --fake"
                        if injected
                        else f"{tree}: is an injection tree; leave out --real to take the reals from the "
                        "injection runs themselves, or give the data release there"
                    )
                    raise LayoutError(msg)
                if not injected and holds_injections(tree):
                    msg = (
                        f"{tree}: is one run of an injection tree: its sources may be injections; give the "
                        "tree that holds it with --fake, and with --real the data release"
                    )
                    raise LayoutError(msg)
                if any(tree.resolve() == root.path.resolve() for root in roots):
                    msg = f"{tree}: given twice"
                    raise LayoutError(msg)
                roots.append(Root(len(roots), tree, found))
    return roots


def read_brick_list(words: Sequence[str]) -> set[str] | None:
    """Brick names given as such or in files of one name per line (# begins a comment).

    Returns
    -------
    set of str or None
        None where no list was given.
    """
    if not words:
        return None
    names: set[str] = set()
    for word in words:
        path = Path(word)
        if path.is_file():
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except UnicodeDecodeError:
                msg = f"--bricks {word}: not a text file of one brick name per line"
                raise LayoutError(msg) from None
            names |= {line.split("#")[0].strip() for line in lines} - {""}
        elif "/" in word or "." in word:
            msg = f"--bricks {word}: no such file"
            raise LayoutError(msg)
        else:
            names.add(word)
    if not names:
        msg = f"--bricks {' '.join(words)}: the list is empty"
        raise LayoutError(msg)
    return names


def _by_brick(runs: Sequence[BrickRun]) -> dict[str, tuple[BrickRun, ...]]:
    bricks: dict[str, list[BrickRun]] = {}
    for run in runs:
        if len(run.brick) > 8 or len(run.run) > 32:
            msg = f"{run.label}: names longer than 8 (brick) or 32 (run) characters do not fit sources.fits"
            raise LayoutError(msg)
        if not (run.brick.isascii() and run.run.isascii()):
            msg = f"{run.label}: names of bricks and runs must be ASCII, as FITS tables are"
            raise LayoutError(msg)
        bricks.setdefault(run.brick, []).append(run)
    return {brick: tuple(bricks[brick]) for brick in sorted(bricks)}


def _refuse_without_coadds(root: Root, runs: Sequence[BrickRun]) -> None:
    """Refuse trees that never had images: obiwan_code's production runs wrote none."""
    if not any(run.coadd.is_dir() and any(run.coadd.glob("*-image-*.fits*")) for run in runs[:20]):
        msg = (
            f"{root.path}: a {root.layout.name} tree without coadd images (obiwan_code's production "
            "runs switched them off): there is nothing to cut from; rerun its bricks with coadds written"
        )
        raise LayoutError(msg)


def _tables(
    real_table: Path | None, fake_table: Path | None, wanted: set[str] | None
) -> tuple[UserTable | None, UserTable | None, set[str]]:
    tables = [None if path is None else read_table(path) for path in (real_table, fake_table)]
    named = {str(b) for table in tables if table is not None for b in table.brick}
    return tables[0], tables[1], named if wanted is None else named & wanted


def _check_flags(
    fake: Sequence[Path],
    real: Sequence[Path],
    real_table: Path | None,
    fake_table: Path | None,
    config: TrainingConfig,
) -> None:
    if not fake and fake_table is None:
        msg = "--fake DIR (injection outputs) or --fake-table FILE is needed"
        raise LayoutError(msg)
    if not fake and not real:
        msg = "--fake DIR or --real DIR is needed: a table names positions, not images"
        raise LayoutError(msg)
    if not fake and real_table is None and config.reals_from == "injected":
        msg = "without --fake there are no injected coadds; use --reals-from release"
        raise LayoutError(msg)
    if config.reals_from == "release" and not real:
        msg = "--reals-from release needs --real DIR, the data release to cut from"
        raise LayoutError(msg)


def _warnings(
    config: TrainingConfig, roots: Sequence[Root], injected: Mapping[str, tuple[BrickRun, ...]]
) -> list[str]:
    """What the user should know of options and trees."""
    warnings = []
    if config.reals_from == "release":
        warnings.append(
            "--reals-from release: reals and fakes come from coadds of different runs, whose compression and "
            "invvar differ at nearly every pixel; the network may learn that and not the galaxies (hazard D9)"
        )
    if config.centers == "truth":
        warnings.append(
            "--centers truth: fakes are centred on their true positions, reals on fitted ones, so their "
            "centroids scatter differently; the network may learn that (hazard D3)"
        )
    every = (run for runs in injected.values() for run in runs)
    early = sorted({str(run.root.path) for run in every if run.tractor is None})
    warnings += [
        f"{path}: early-coadds tree: fakes cannot be required to be recovered, and cuts use their true "
        "magnitudes where reals have measured ones (hazard D10)"
        for path in early
    ]
    for root in roots:
        if root.layout.placement == "shifted":
            warnings.append(
                f"{root.path}: the original injector puts sources 1.3 to 1.6 px from their truth (DECam); "
                "tractor centres absorb this, truth centres do not"
            )
    return warnings


def resolve_inputs(
    *,
    fake: Sequence[Path],
    real: Sequence[Path] = (),
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
    roots = _roots(fake, real, layout)
    wanted = read_brick_list(bricks)
    reals, fakes, named = _tables(real_table, fake_table, wanted)
    found = _find(roots, wanted, named)
    _check_runs(found, roots, wanted, reals_among_fakes=not real and real_table is None)
    warnings, chosen = _warnings(config, roots, found.injected), found.bricks
    if real and reals is None:
        chosen, left_out = _in_release(found, real)
        warnings += left_out
    if fakes is None:
        warnings += _warnings_of_single_runs(found)
    brick_inputs = tuple(
        BrickInputs(
            brick,
            found.injected.get(brick, ()),
            found.releases.get(brick, ()),
            bool(real),
            None if reals is None else reals.of_brick(brick),
            None if fakes is None else fakes.of_brick(brick),
        )
        for brick in sorted(chosen)
    )
    tables = {
        name: None if path is None else f"{path.name}:{zlib.crc32(path.read_bytes()):08x}"
        for name, path in (("real_table", real_table), ("fake_table", fake_table))
    }
    description = {"bricks": None if wanted is None else sorted(wanted), **tables}
    return Inputs(tuple(roots), brick_inputs, tuple(warnings), description)


@dataclass(frozen=True)
class _Found:
    """What the trees have of the bricks that are wanted.

    Attributes
    ----------
    trees : tuple
        Injection trees, each with its runs.
    injected, releases : dict
        Brick to its injection runs, and to its data releases.
    bricks : set of str
        All that have injection runs, or are named by a user's table.
    """

    trees: tuple[tuple[Root, Sequence[BrickRun]], ...]
    injected: dict[str, tuple[BrickRun, ...]]
    releases: dict[str, tuple[BrickRun, ...]]
    bricks: set[str]


def _find(roots: Sequence[Root], wanted: set[str] | None, named: set[str]) -> _Found:
    """Look for the runs of bricks; `named` are those of a user's tables."""
    trees = tuple((root, find_runs(root, wanted)) for root in roots if root.layout.injected)
    injected = _by_brick([run for _, runs in trees for run in runs])
    bricks = set(injected) | named
    releases = [run for root in roots if not root.layout.injected for run in find_runs(root, bricks)]
    return _Found(trees, injected, _by_brick(releases), bricks)


def _check_runs(
    found: _Found, roots: Sequence[Root], wanted: set[str] | None, *, reals_among_fakes: bool
) -> None:
    """Refuse runs without images, bricks without runs, and trees without the reals that they must have."""
    trees = [(root, runs) for root, runs in found.trees if runs]
    for root, runs in trees:
        _refuse_without_coadds(root, runs)
    _check_bricks(wanted, found.bricks, roots)
    if reals_among_fakes:
        for root, runs in trees:
            refuse_partial_fits(root, runs)


def _in_release(found: _Found, real: Sequence[Path]) -> tuple[set[str], list[str]]:
    """Bricks that the data release has; a warning of the others, whose fakes alone would be no examples."""
    chosen = found.bricks & set(found.releases)
    if not chosen:
        trees = ", ".join(map(str, real))
        msg = f"{trees}: has none of the bricks that were injected into; give the release of their region"
        raise LayoutError(msg)
    others = sorted(found.bricks - chosen)
    if not others:
        return chosen, []
    names = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
    return chosen, [
        f"left out: {len(others)} brick(s) that the data release of --real does not have: {names}"
    ]


def _warnings_of_single_runs(found: _Found) -> list[str]:
    """A warning of bricks in which neither a release nor another run tells what lies under a fake."""
    single = sum(len(runs) == 1 and brick not in found.releases for brick, runs in found.injected.items())
    if not single:
        return []
    return [
        f"{single} brick(s) with one run and no data release: fakes that fell on a real source cannot be "
        "told there; give more runs, or the release with --real"
    ]


def _check_bricks(wanted: set[str] | None, found: set[str], roots: Sequence[Root]) -> None:
    unknown = sorted((wanted or set()) - found)
    if unknown:
        trees = ", ".join(str(root.path) for root in roots)
        msg = f"--bricks: no run of {', '.join(unknown[:5])}{'...' if len(unknown) > 5 else ''} in {trees}"
        raise LayoutError(msg)
    if not found:
        msg = f"{', '.join(str(root.path) for root in roots)}: no runs found"
        raise LayoutError(msg)
