"""Where the files are: data releases and the trees that injection runs leave behind.

A layout is a set of path templates, the same questions answered for every kind of tree; nothing
here opens a file.  ``{bri}`` is the first three characters of the brick name, ``{run}`` the name
of one injection run (``rs0``, ``skip_rs300``, ``file0_rs0_skip0``), ``{obj}`` the injected object
type of the original obiwan.

Sources: legacypipe ``survey.find_file`` (DR3 to DR11); obiwan ``kenobi.py`` (final and 2017
trees, shared by Obi-Metallica and obiwan_dr9m); legacysim ``survey.py``; obiwan_code
``filesystem.py``.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from obiwan.dplearn.errors import CoaddError, LayoutError
from obiwan.dplearn.stampspec import FILTERS
from obiwan.dplearn.survey.templates import expand, listing

RELEASE_RUN = "release"  #: the run name of everything that is in a data release
IMAGE_SUFFIXES = (".fits.fz", ".fits", ".fits.gz")


@dataclass(frozen=True)
class Layout:
    """Path templates of one kind of tree, relative to its root.

    Attributes
    ----------
    name : str
        What ``--layout`` takes.
    coadd, tractor : str
        Directory of the coadds, and tractor catalogue, of one brick and run.
    truth : str or None
        Catalogue of the injected sources; None in a data release.
    run_names : str
        Regular expression of run names.
    ids_added : str or None
        Table of the injected ids that touched a CCD, where the layout has one.
    all_blobs : bool
        Whether the runs fit all sources by default, not only blobs that hold an injection.
    placement : str
        ``exact``, or ``shifted`` where the injector is known to displace sources in CCD axes.
    """

    name: str
    coadd: str
    tractor: str
    truth: str | None = None
    run_names: str = RELEASE_RUN
    ids_added: str | None = None
    all_blobs: bool = True
    placement: str = "exact"

    @property
    def injected(self) -> bool:
        """Whether trees of this layout hold injections."""
        return self.truth is not None


_RS_NAMES = r"(?:more_)?(?:skip_)?rs\d+"

RELEASE = Layout("release", "coadd/{bri}/{brick}", "tractor/{bri}/tractor-{brick}.fits")
LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "legacysim",
        "{run}/coadd/{bri}/{brick}",
        "{run}/tractor/{bri}/tractor-{brick}.fits",
        truth="{run}/sim/{bri}/injected-{brick}.fits",
        # `inject` keeps the names that runs of other layouts have, where it draws their truth again.
        run_names=r"file[^/]*_rs[^/]*_skip[^/]*|[^/]*rs\d+[^/]*",
    ),
    Layout(
        "obiwan_code",
        "{run}/coadd/{bri}/{brick}",
        "{run}/tractor/{bri}/tractor-{brick}.fits",
        truth="{run}/coadd/{bri}/{brick}/legacysurvey-simcat-{brick}.fits",
        run_names=r"[^/]*rs\d+[^/]*",
        all_blobs=False,
    ),
    Layout(
        "obiwan",
        "coadd/{bri}/{brick}/{run}",
        "tractor/{bri}/{brick}/{run}/tractor-{brick}.fits",
        truth="obiwan/{bri}/{brick}/{run}/simcat-{obj}-{brick}.fits",
        run_names=_RS_NAMES,
        ids_added="obiwan/{bri}/{brick}/{run}/sim_ids_added.fits",
        all_blobs=False,
        placement="shifted",
    ),
    Layout(
        "obiwan2017",
        "{bri}/{brick}/{run}/coadd",
        "{bri}/{brick}/{run}/tractor/tractor-{brick}.fits",
        truth="{bri}/{brick}/{run}/obiwan/simcat-{obj}-{brick}.fits",
        run_names=_RS_NAMES,
        ids_added="{bri}/{brick}/{run}/obiwan/sim_ids_added.fits",
        all_blobs=False,
        placement="shifted",
    ),
    RELEASE,
)
LAYOUT_NAMES = tuple(layout.name for layout in LAYOUTS)


@dataclass(frozen=True)
class Root:
    """One directory tree given by the user; injection trees come first.

    Attributes
    ----------
    index : int
    path : Path
    layout : Layout
    as_real : bool
        Whether its injections are the class ``real`` (``--real-injected``).
    """

    index: int
    path: Path
    layout: Layout
    as_real: bool = False

    @property
    def name(self) -> str:
        """The last one or two words of the path: enough to recognise it, nothing of the machine."""
        path = Path(os.path.abspath(self.path))  # noqa: PTH100 - resolve() would follow links
        return path.name if path.name not in {"north", "south"} else f"{path.parent.name}/{path.name}"

    def files(self, brick: str, run: str = RELEASE_RUN, **fields: str) -> BrickRun:
        """The files of one brick in one run, whether they are there or not.

        Parameters
        ----------
        brick, run : str
        **fields
            Of the layout's templates: ``obj``, where they name it.
        """
        one, names = self.layout, {**fields, "bri": brick[:3], "brick": brick, "run": run}
        files = (
            None if template is None else self.path / template.format(**names)
            for template in (one.tractor, one.truth, one.ids_added)
        )
        return BrickRun(self, brick, run, self.path / one.coadd.format(**names), *files)


@dataclass(frozen=True)
class BrickRun:
    """The files of one brick in one run (or in a release).

    Attributes
    ----------
    root : Root
    brick, run : str
    coadd : Path
        Directory of the coadds.
    tractor : Path or None
        None in an early-coadds tree, which has no fitted catalogue.
    truth, ids_added : Path or None
        As in `Layout`.
    """

    root: Root
    brick: str
    run: str
    coadd: Path
    tractor: Path | None
    truth: Path | None
    ids_added: Path | None

    @property
    def label(self) -> str:
        """Name in messages."""
        return f"brick {self.brick} ({self.run})"

    def plane(self, kind: str, band: str) -> Path:
        """Path of a coadd plane.

        Parameters
        ----------
        kind : {'image', 'invvar', 'nexp', 'depth', 'psfsize', 'maskbits'}
        band : str
            Empty for a plane of all bands (``maskbits``).

        Raises
        ------
        CoaddError
            If no file of any known suffix is there, or the directory cannot be looked into.
        """
        stem = "-".join(filter(None, ("legacysurvey", self.brick, kind, band)))
        for suffix in IMAGE_SUFFIXES:
            path = self.coadd / (stem + suffix)
            try:
                if path.is_file():
                    return path
            except OSError as error:  # no permission, a disk that fails: of this brick, not of the others
                raise self.unreadable(error) from error
        msg = (
            f"{self.label}: {f'band {band}' if band else kind} missing: no {stem}.fits[.fz|.gz] in "
            f"{self.coadd}; restore the file, or leave the brick out with --bricks"
        )
        raise CoaddError(msg)

    def has_map(self, kind: str, band: str = "") -> bool:
        """Whether a plane is there that not every tree has, such as ``nexp``, ``psfsize`` or ``maskbits``."""
        try:
            self.plane(kind, band)
        except CoaddError:
            return False
        return True

    def unreadable(self, error: OSError) -> CoaddError:
        """Error to raise where the operating system cannot even look at one of these files."""
        return CoaddError(
            f"{self.label}: cannot read {error.filename or self.coadd} ({error.strerror or error}); "
            "restore the file, or leave the brick out with --bricks"
        )

    def ccds(self) -> Path:
        """Path of the brick's CCD table (it need not exist)."""
        return self.coadd / f"legacysurvey-{self.brick}-ccds.fits"


def available_bands(run: BrickRun) -> tuple[str, ...]:
    """The bands, by increasing wavelength, of which a brick has an image in the directory of its coadds.

    Raises
    ------
    CoaddError
        If the directory cannot be looked into.
    """
    try:
        names = set(listing(run.coadd))
    except OSError as error:
        raise run.unreadable(error) from error
    stems = {band: f"legacysurvey-{run.brick}-image-{band}" for band in FILTERS}
    return tuple(band for band in FILTERS if any(stems[band] + suffix in names for suffix in IMAGE_SUFFIXES))


def layout_named(name: str) -> Layout:
    """Layout of this name; raises `ValueError` if there is none."""
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    msg = f"unknown layout {name!r}; known are {', '.join(LAYOUT_NAMES)}"
    raise ValueError(msg)


def _has(root: Path, template: str, run_names: str = RELEASE_RUN) -> bool:
    return next(expand(root, template, run_names, None), None) is not None


def _is_layout(path: Path, layout: Layout) -> bool:
    if layout.truth is not None:
        return _has(path, layout.truth, layout.run_names)
    return _has(path, layout.tractor) or _has(path, layout.coadd + "/legacysurvey-{brick}-image-{obj}")


def identify(path: Path, layout: str | None = None) -> list[tuple[Path, Layout]]:
    """Find out what a directory given by the user is.

    A directory may hold several trees one level down: ``north`` and ``south`` of a data release,
    or ``elg``, ``star``... of a 2017 tree; each is a tree of its own.

    Parameters
    ----------
    path : Path
        The directory.
    layout : str, optional
        Name of the layout, where the user says it.

    Returns
    -------
    list of (Path, Layout)
        At least one.

    Raises
    ------
    LayoutError
        If the directory is missing or nothing known is in it.
    """
    if not path.is_dir():
        msg = f"{path}: no such directory"
        raise LayoutError(msg)
    candidates = LAYOUTS if layout is None else (layout_named(layout),)

    def found(tree: Path) -> Layout | None:
        return next((one for one in candidates if _is_layout(tree, one)), None)

    here = found(path)
    if here is not None:
        return [(path, here)]
    inside = [(path / name, one) for name in listing(path) if (one := found(path / name)) is not None]
    released = all(not one.injected for _, one in inside)
    trees = [
        (child, one)
        for child, one in inside
        if one.name == "obiwan2017" or (released and child.name in {"north", "south"})
    ]
    if trees:
        return trees
    hint = f"; did you mean {inside[0][0]}?" if inside else f"; known layouts: {', '.join(LAYOUT_NAMES)}"
    msg = f"{path}: no runs found: neither injection outputs nor a data release are in this directory{hint}"
    raise LayoutError(msg)


def holds_injections(path: Path) -> bool:
    """Whether what looks like a data release is one run of an injection tree: its truth lies in it."""
    bricks = (found["brick"] for found in expand(path, RELEASE.tractor, RELEASE_RUN, None))
    first = list(islice(bricks, 1))  # one brick tells: a release has very many
    truths = [one.truth for one in LAYOUTS if one.truth is not None and one.truth.startswith("{run}/")]
    return any(any(expand(path, truth.removeprefix("{run}/"), RELEASE_RUN, first)) for truth in truths)


def find_runs(root: Root, bricks: Collection[str] | None = None) -> list[BrickRun]:
    """List the bricks and runs of a tree, sorted by brick and run.

    Parameters
    ----------
    root : Root
    bricks : collection of str, optional
        Look for these bricks only.

    Raises
    ------
    LayoutError
        If one run directory holds several truth tables.
    """
    layout, path = root.layout, root.path
    found = list(expand(path, layout.truth or layout.tractor, layout.run_names, bricks))
    # Whether runs were fitted at all is a property of the tree; a single missing catalogue is a loss.
    fitted = (
        layout.truth is None
        or _has(path, layout.tractor, layout.run_names)
        or any((path / layout.tractor.format(**fields)).is_file() for fields in found)
    )
    runs: dict[tuple[str, str], BrickRun] = {}
    for fields in found:
        one = root.files(**fields)
        key = (one.brick, one.run)
        if key in runs:
            msg = f"{one.label}: two truth tables, {runs[key].truth} and {one.truth}; keep one"
            raise LayoutError(msg)
        runs[key] = one if fitted else replace(one, tractor=None)
    return [runs[key] for key in sorted(runs)]
