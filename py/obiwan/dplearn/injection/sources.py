"""Sources: the objects that are injected into a brick, from a table, an injection tree or a user's function.

Each gives the same record, `Placed`: for every run a structured array with the columns

- ``id`` (int64, unique in brick and run), ``ra``, ``dec`` (degrees), ``x``, ``y`` (0-based coadd pixels),
- ``flux_<band>`` for the bands of the scene: observed nanomaggies, Galactic extinction applied,
- ``sersic``, ``shape_r`` (half-light radius along the major axis, arcsec), ``shape_e1``, ``shape_e2``: the
  tractor's parameters, 0 for a point source,
- and whatever else the source has.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from astropy.table import Table

from obiwan.dplearn.errors import CatalogError, LayoutError, explained
from obiwan.dplearn.files.atomic import file_crc32
from obiwan.dplearn.injection.models import stamp_files
from obiwan.dplearn.injection.objects import (
    KNOWN,
    PLACES,
    SHAPES,
    Objects,
    objects_of,
    refuse,
    settled,
    tractor_shape,
)
from obiwan.dplearn.injection.placement import Placement, covered, masked, number_of, spread, uniform
from obiwan.dplearn.injection.scene import Box, Scene, box_width
from obiwan.dplearn.running.functions import function_checksum, load_function
from obiwan.dplearn.running.streams import stream
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.catalogs import read_truth
from obiwan.dplearn.survey.layouts import Root, find_runs, identify
from obiwan.dplearn.survey.sources import Sources
from obiwan.dplearn.survey.tables import load_table

NO_EXPOSURE, MASKED, TOO_CLOSE = "no exposure", "masked", "too close to another"  #: why objects are dropped


@dataclass(frozen=True)
class Placed:
    """Objects of one brick, each in its run.

    Attributes
    ----------
    runs : dict
        Name of a run to its objects, a structured array; every run is there, if with none.
    dropped : dict
        Reason to the number of objects that are not injected for it.
    """

    runs: dict[str, Array]
    dropped: dict[str, int] = field(default_factory=dict)


class SourceList(Protocol):
    """Source of injected objects, a table, tree or function; can be pickled for workers."""

    @property
    def description(self) -> str:
        """Names the source and what is in it, for comparison with an earlier run."""
        ...

    @property
    def placed(self) -> bool:
        """Whether it has positions, as far as is known before it is asked for objects."""
        ...

    def bricks(self) -> set[str] | None:
        """Names of the bricks that it is for; None where positions or nothing decide."""
        ...

    def files(self, brick: str) -> list[Path]:
        """Files that are read for a brick beyond what `description` tells."""
        ...

    def of_brick(self, scene: Scene) -> Placed:
        """Objects of one brick; they do not depend on other bricks."""
        ...


def open_sources(word: str, placement: Placement, needs: Iterable[str] = ("flux", *SHAPES[:2])) -> SourceList:
    """Recognise what ``--sources`` names: a file, a directory or ``module:function``.

    Parameters
    ----------
    word : str
    placement : Placement
    needs : iterable of str
        What the model needs of each object: ``flux`` (in every band), ``sersic``, ``shape_r``.

    Raises
    ------
    CatalogError, LayoutError
        If the table or tree cannot be read.
    ValueError
        If there is no such file, nor such a function.
    """
    path, wanted = Path(word).expanduser(), frozenset(needs)
    if path.is_dir():
        ((tree, layout), *others) = identify(path)
        if others or not layout.injected:
            what = "holds several trees; give one of them" if others else "is a data release: it has no truth"
            msg = f"--sources {path}: {what}"
            raise LayoutError(msg)
        return TreeSources(Root(0, tree, layout), placement)
    if path.is_file():
        objects = objects_of(str(path), load_table(path, KNOWN))
        content = file_crc32(path)
        for stamp in stamp_files(objects.columns) if "stamp" in wanted else ():
            content = zlib.crc32(b"%d" % file_crc32(stamp), content)
        return TableSources(objects, placement, wanted, f"{path.name}:{content:08x}")
    if ":" not in word:
        msg = f"--sources {word}: no such file or directory, and not module:function"
        raise ValueError(msg)
    return FunctionSources(word, placement, wanted, f"{word}:{function_checksum(word, '--sources')}")


def in_runs(rows: Array, run: Array, names: Sequence[str], scene: Scene, *, keep_off_masked: bool) -> Placed:
    """Objects run by run, without those that no run has room for, that are uncovered or masked."""
    reasons = {TOO_CLOSE: run < 0}
    reasons[NO_EXPOSURE] = ~reasons[TOO_CLOSE] & ~covered(scene, rows["x"], rows["y"])
    left = ~(reasons[TOO_CLOSE] | reasons[NO_EXPOSURE])
    if keep_off_masked:
        reasons[MASKED] = np.zeros(len(rows), dtype=bool)
        reasons[MASKED][left] = masked(scene, rows["x"][left], rows["y"][left])
        left &= ~reasons[MASKED]
    runs = {name: rows[left & (run == k)] for k, name in enumerate(names)}
    return Placed(runs, {reason: int(np.count_nonzero(some)) for reason, some in reasons.items()})


def _place(objects: Objects, scene: Scene, placement: Placement, needs: frozenset[str]) -> Placed:
    """Objects of one brick in the runs of a placement: where they are, or at random positions."""
    if objects.placed:
        rows = settled(objects, scene, needs)
        run = spread(rows["x"], rows["y"], placement)
    else:
        rng = stream(placement.seed, "positions", scene.brick)
        ra, dec, run = uniform(scene, len(objects), placement, rng)
        rows = settled(objects.with_columns(ra=ra, dec=dec), scene, needs)
    return in_runs(rows, run, placement.run_names, scene, keep_off_masked=placement.keep_off_masked)


@dataclass(frozen=True)
class TableSources:
    """Table of the user.

    With positions each object goes where it is.  Without, rows are drawn at random, with replacement, and
    spread uniformly.  The column ``row`` is their number in the table, from 1.
    """

    objects: Objects
    placement: Placement
    needs: frozenset[str]
    description: str

    @property
    def placed(self) -> bool:
        """Whether the table has positions."""
        return self.objects.placed

    def bricks(self) -> set[str] | None:
        """None: positions decide, or all bricks get some."""
        return None

    def files(self, _brick: str) -> list[Path]:
        """None: the description has the table's checksum."""
        return []

    def within(self, boxes: Iterable[Box]) -> list[TableSources]:
        """Table of the rows with positions in each of these primary areas (as `Scene.box`)."""
        ra, dec = (self.objects.columns[name] for name in PLACES)
        return [replace(self, objects=self.objects.take(_in_box(ra, dec, box))) for box in boxes]

    def of_brick(self, scene: Scene) -> Placed:
        """Objects of one brick."""
        columns = self.objects.columns
        if self.placed:
            mine = self.objects.take(_in_box(columns["ra"], columns["dec"], scene.box))
            return _place(mine.with_columns(row=mine.numbers), scene, self.placement, self.needs)
        rng = stream(self.placement.seed, "objects", scene.brick)
        n = number_of(scene, self.placement, rng)
        rows = rng.integers(len(self.objects), size=n)
        drawn = self.objects.take(rows).with_columns(id=np.arange(n), row=rows + 1)
        return _place(drawn, scene, self.placement, self.needs)


def _in_box(ra: Array, dec: Array, box: Box) -> Array:
    """Whether positions lie in a primary area."""
    ra_min, _, dec_min, dec_max = box
    return ((ra - ra_min) % 360 < box_width(box)) & (dec >= dec_min) & (dec < dec_max)


@dataclass(frozen=True)
class FunctionSources:
    """Function of the user, ``function(n, brick, rng)``, that draws n objects for a brick.

    ``brick`` is the `Scene`; what is returned is a table of astropy, a mapping of columns, or a structured
    array.
    """

    word: str
    placement: Placement
    needs: frozenset[str]
    description: str

    placed = False

    def bricks(self) -> set[str] | None:
        """None: all bricks get some."""
        return None

    def files(self, _brick: str) -> list[Path]:
        """None."""
        return []

    def of_brick(self, scene: Scene) -> Placed:
        """Objects of one brick, from a generator of its own."""
        rng = stream(self.placement.seed, "objects", scene.brick)
        n = number_of(scene, self.placement, rng)
        origin = f"--sources {self.word}"
        function: Any = load_function(self.word, "--sources")
        with explained(f"{origin}: {scene.run.label}: the function failed", "correct it", CatalogError):
            given = function(n, scene, rng)
            table = given if isinstance(given, Table) else Table(given)
        if n and not table.colnames:
            msg = f"{origin}: {scene.run.label}: the function gave no columns; return a table of n objects"
            raise CatalogError(msg)
        objects = objects_of(origin, table, scene.run.label)
        if len(objects) != n and not objects.placed:
            gave = f"the function gave {len(objects)} objects where {n} were asked for"
            msg = f"{origin}: {scene.run.label}: {gave}; return as many, or positions of their own (ra, dec)"
            raise CatalogError(msg)
        if objects.placed:
            outside = ~_in_box(objects.columns["ra"], objects.columns["dec"], scene.box)
            refuse(objects, outside, "its position is outside the brick", scene.run.label)
        return _place(objects, scene, self.placement, self.needs)


@dataclass(frozen=True)
class TreeSources:
    """Injection tree whose truth is drawn again, each run as a run of the same name.

    What was not injected (collided, on no CCD) is left out.  Separation and density are the tree's own.
    """

    root: Root
    placement: Placement

    placed = True

    @property
    def description(self) -> str:
        """Name and layout of the tree."""
        return f"{self.root.name} ({self.root.layout.name})"

    def bricks(self) -> set[str] | None:
        """Bricks of the tree."""
        return {run.brick for run in find_runs(self.root)}

    def files(self, brick: str) -> list[Path]:
        """Truth tables of its runs."""
        runs = find_runs(self.root, [brick])
        return [path for run in runs for path in (run.truth, run.ids_added) if path and path.is_file()]

    def of_brick(self, scene: Scene) -> Placed:
        """Injections of one brick, run by run."""
        runs: dict[str, Array] = {}
        dropped = dict.fromkeys((NO_EXPOSURE, MASKED), 0)
        for run in find_runs(self.root, [scene.brick]):
            truth = read_truth(run.truth, run.ids_added).sources if run.truth else None
            if truth is None:
                continue
            truth = truth.take(truth.injected)
            absent = [band for band in scene.bands if band not in truth.bands]
            if absent:
                lacks = f"no fluxes in band {', '.join(absent)}"
                msg = f"{run.truth}: {run.label}: {lacks}; leave it out with --bands"
                raise CatalogError(msg)
            rows = settled(_of_truth(truth, str(run.truth), sheared=_sheared(run.root)), scene)
            alone = in_runs(
                rows,
                np.zeros(len(rows), int),
                (run.run,),
                scene,
                keep_off_masked=self.placement.keep_off_masked,
            )
            runs |= alone.runs
            for reason in dropped:
                dropped[reason] += alone.dropped.get(reason, 0)
        return Placed(runs, dropped)


def _sheared(root: Root) -> bool:
    """Whether a truth's shapes are of a round galaxy that GalSim sheared, as the original obiwan's are."""
    return root.layout.placement == "shifted"


def _of_truth(truth: Sources, origin: str, *, sheared: bool) -> Objects:
    """Rows of a truth table as objects, with the tractor's shapes."""
    radius, e1, e2 = truth.shape_r, truth.e1, truth.e2
    if sheared:
        radius, e1, e2 = tractor_shape(radius, e1, e2)
    columns = {"id": truth.id, "ra": truth.ra, "dec": truth.dec, "sersic": truth.sersic}
    columns |= {f"flux_{band}".lower(): truth.of_band("flux", band) for band in truth.bands}
    return Objects(origin, {**columns, "shape_r": radius, "shape_e1": e1, "shape_e2": e2})
