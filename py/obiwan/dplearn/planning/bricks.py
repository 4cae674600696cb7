"""Bricks: each one from its files to its eligible examples."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from obiwan.dplearn.errors import CatalogError, CoaddError
from obiwan.dplearn.planning.candidates import (
    Candidates,
    injected_candidates,
    known_reals,
    listed_fakes,
    named_reals,
    real_candidates,
    screen,
)
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.cutflow import CutFlow, Flows, count
from obiwan.dplearn.planning.fields import Field, open_field, read_fitted
from obiwan.dplearn.planning.inputs import BrickInputs
from obiwan.dplearn.planning.matching import nearest_distance, one_row_per_source, same_source_groups
from obiwan.dplearn.planning.provenance import release_of
from obiwan.dplearn.running.streams import stream
from obiwan.dplearn.stampspec import IMAGE, IVAR, Array, StampSpec
from obiwan.dplearn.survey.coadds import BandNotObservedError, plane_names, read_plane
from obiwan.dplearn.survey.coverage import DitheredFile, content_of
from obiwan.dplearn.survey.layouts import RELEASE_RUN, BrickRun
from obiwan.dplearn.survey.sources import Sources
from obiwan.dplearn.survey.tables import UserTable
from obiwan.dplearn.survey.writers import Writer
from obiwan.dplearn.trainingset.examples import blank_examples

SAME_SOURCE = 1.0  #: arcsec; rows of several runs, or of a user's table, closer than this are one source
SAME_INJECTION = 0.01  #: arcsec; injections of several runs closer than this are one, drawn into each
_NOWHERE = (math.nan, math.nan)
UNIQUE = "one row per source"
BRICKS = ("bricks", "bricks without damaged files")  #: counted with ``--skip-damaged``


@dataclass(frozen=True)
class BrickPlan:
    """The eligible examples of one brick.

    Attributes
    ----------
    brick : str
    rows : ndarray of `example_dtype`
        Without split, shard and row.
    flows : dict
        Cut flow per class name.
    notes : tuple of str
        What was left out and why.
    coadds : int
        Names what is in the files of its coadds (`Frame.content`).
    writers : dict
        Per class name the writers of the coadds that its examples are in.
    dithered : frozenset of DitheredFile
        Planes of its coadds in whose files unobserved pixels are not 0.
    damage : str
        Why the brick was left out (``--skip-damaged``); empty where it was not.
    exposures : ndarray of `EXPOSURE`, or None
        That its coadds were made from; None where no file says.
    centre : tuple of float
        RA and Dec of the middle of its coadds, degrees.
    """

    brick: str
    rows: Array
    flows: Flows
    notes: tuple[str, ...]
    coadds: int = 0
    writers: dict[str, frozenset[Writer]] = field(default_factory=dict)
    dithered: frozenset[DitheredFile] = frozenset()
    damage: str = ""
    exposures: Array | None = None
    centre: tuple[float, float] = _NOWHERE


def plan_brick(inputs: BrickInputs, config: TrainingConfig) -> BrickPlan:
    """Find every eligible example of one brick.

    With ``--skip-damaged`` a brick of which any file is at fault has none, of either class.

    Parameters
    ----------
    inputs : BrickInputs
    config : TrainingConfig

    Returns
    -------
    BrickPlan

    Raises
    ------
    DplearnError
        If a file of the brick is missing, unreadable or refused.
    """
    flows: Flows = {name: {} for name in config.spec.labels}
    if not config.skip_damaged:
        return _plan(inputs, config, flows)
    damage = ""
    try:
        found = _plan(inputs, config, {name: dict.fromkeys(BRICKS, 1) for name in flows})
    except (CatalogError, CoaddError) as error:
        damage = str(error)
    if not damage:
        return found
    flows = {name: dict(zip(BRICKS, (1, 0), strict=True)) for name in flows}
    return BrickPlan(inputs.brick, blank_examples(0, config.spec), flows, (), damage=damage)


def _plan(inputs: BrickInputs, config: TrainingConfig, flows: Flows) -> BrickPlan:
    """As `plan_brick`, into cut flows; any fault is an error."""
    _check_known(inputs)
    notes: list[str] = []
    runs = _open_fields(inputs.runs, config, notes)
    release = release_of([here.run for here in runs], inputs.releases, config.bands)
    chosen = () if release is None else (release,)
    needs_coadds = config.reals_from == "release" or inputs.real_table or inputs.fake_table
    releases = _open_fields(chosen, config, notes) if needs_coadds else []
    release_rows = _release_rows(chosen, config, notes)
    if chosen and not release_rows and inputs.real_table is None:  # injections alone are no examples
        return BrickPlan(inputs.brick, blank_examples(0, config.spec), flows, tuple(notes))

    at = _Opened(runs, releases, release_rows)
    fields_ = at.fields
    if config.skip_damaged:
        _check_pixels(fields_, config.spec)
    fakes, stand_ins = _injections(inputs, at, config, flows, notes)
    reals = stand_ins
    if not inputs.two_injectors:
        elsewhere = _rows_elsewhere(inputs, release, config.spec)
        reals = _reals(inputs, at, elsewhere, config, flows["real"], notes)

    parts, coverages = screen([*fakes, *reals], config, flows)
    fake_rows = _once(parts[: len(fakes)], config, inputs.brick, flows["fake"])
    real_parts = parts[len(fakes) :]
    if inputs.fake_table is not None:
        real_parts = [_not_listed(part, inputs.fake_table, config, flows["real"]) for part in real_parts]
    if inputs.two_injectors:
        real_rows = _once(real_parts, config, inputs.brick, flows["real"])
    else:
        real_rows = _unique(real_parts, fake_rows, config, inputs.brick, flows["real"])
    content = np.array([here.frame.content for here in fields_], "<u4").tobytes()
    coadds = zlib.crc32(content + content_of(coverages))
    dithered = frozenset(file for one in coverages for file in one.dithered)
    writers = {"real": _writers(real_rows, fields_), "fake": _writers(fake_rows, fields_)}
    rows, noted = np.concatenate([real_rows, fake_rows]), tuple(dict.fromkeys(notes))
    return BrickPlan(inputs.brick, rows, flows, noted, coadds, writers, dithered, "", *_taken(fields_))


@dataclass(frozen=True)
class _Opened:
    """A brick's injection runs and releases that are cut from, and catalogues of the release."""

    runs: Sequence[Field]
    releases: Sequence[Field]
    rows: Sequence[Sources]

    @property
    def fields(self) -> list[Field]:
        return [*self.runs, *self.releases]


def _injections(
    inputs: BrickInputs, at: _Opened, config: TrainingConfig, flows: Flows, notes: list[str]
) -> tuple[list[Candidates], list[Candidates]]:
    """Candidates that are injections, or the user's own: fakes, and what stands for real galaxies."""
    if inputs.fake_table is not None:
        listed = _listed(inputs.fake_table, at.fields, notes)
        return [listed_fakes(*one, at.rows, config, flows["fake"]) for one in listed], []
    known = known_reals(at.runs, at.rows, config.match_radius)
    found = [injected_candidates(here, known, at.rows, config, flows) for here in at.runs]
    fakes, stand_ins = ([one for one in found if one.label == name] for name in ("fake", "real"))
    return fakes, stand_ins


def _reals(
    inputs: BrickInputs,
    at: _Opened,
    elsewhere: int | None,
    config: TrainingConfig,
    flow: CutFlow,
    notes: list[str],
) -> list[Candidates]:
    """Candidates that are no injections: of a user's table, else of the release or the runs themselves."""
    if inputs.real_table is not None:
        return _of_table(inputs, inputs.real_table, at.fields, config, flow, notes)
    own = at.releases if config.reals_from == "release" else at.runs
    pairs = [(here, here.fitted) for here in own if here.fitted is not None]
    if inputs.releases and config.reals_from == "injected":
        pairs = [(here, rows) for here in at.runs for rows in at.rows]
    return [real_candidates(here, rows, config, flow, repeated=elsewhere) for here, rows in pairs]


def _check_known(inputs: BrickInputs) -> None:
    """Refuse a brick that is only in the list of ``--bricks``."""
    if not (inputs.runs or inputs.releases or inputs.fake_table or inputs.real_table):
        msg = f"brick {inputs.brick}: no tree of --fake or --real has it; take it off the list of --bricks"
        raise CatalogError(msg)


def _check_pixels(fields_: Sequence[Field], spec: StampSpec) -> None:
    """Decode all planes: when stamps are cut it is too late to leave a brick out."""
    for here in fields_:
        for kind, band in plane_names(replace(spec, planes=(IMAGE, IVAR))):
            read_plane(here.run, kind, band)


def _open_fields(runs: Sequence[BrickRun], config: TrainingConfig, notes: list[str]) -> list[Field]:
    opened = []
    for run in runs:
        try:
            here = open_field(run, config.spec)
        except BandNotObservedError as error:
            notes.append(str(error))
            continue
        if here.fitted is None or _has_sources(run, here.fitted, config, notes):
            opened.append(here)
    return opened


def _release_rows(runs: Sequence[BrickRun], config: TrainingConfig, notes: list[str]) -> list[Sources]:
    catalogs = [(run, one.sources) for run in runs if (one := read_fitted(run, config.spec)) is not None]
    return [sources for run, sources in catalogs if _has_sources(run, sources, config, notes)]


def _rows_elsewhere(inputs: BrickInputs, release: BrickRun | None, spec: StampSpec) -> int | None:
    """Number of rows that the other releases have of a brick; None where there is one release at most."""
    others = [read_fitted(one, spec) for one in inputs.releases if one is not release]
    return sum(len(one.sources) for one in others if one) if inputs.several_releases else None


def _has_sources(run: BrickRun, fitted: Sources, config: TrainingConfig, notes: list[str]) -> bool:
    """Whether there is a source in a catalogue; a note if not, with ``--skip-damaged`` an error."""
    if not len(fitted):
        notes.append(
            f"{run.label}: empty catalogue: {run.tractor} has no sources; "
            "restore the file, or leave the brick out with --bricks"
        )
        if config.skip_damaged:
            raise CatalogError(notes[-1])
    return len(fitted) > 0


def _listed(
    table: UserTable, fields_: Sequence[Field], notes: list[str]
) -> list[tuple[Field, Sources, Array]]:
    """A user's rows run by run: the field that they lie in, they, and which are the first of their source.

    Tables that were joined list a source several times; notes how many rows.
    """
    parts = []
    for run in np.unique(table.run):
        here = [one for one in fields_ if one.run.run == run]
        if len(here) != 1:
            what = "several trees have" if here else "no tree given with --fake or --real has"
            msg = (
                f"{table.path}: brick {table.brick[0]} ({run}): {what} such a run; "
                "correct the table's run column, or the directories"
            )
            raise CatalogError(msg)
        rows = table.sources.take(table.run == run)
        group = same_source_groups(rows.ra, rows.dec, np.arange(len(rows)), SAME_SOURCE)
        once = np.isin(np.arange(len(rows)), np.unique(group, return_index=True)[1])
        if not once.all():
            notes.append(
                f"{table.path}: brick {table.brick[0]} ({run}): {np.count_nonzero(~once)} row(s) within "
                f"{SAME_SOURCE:g} arcsec of an earlier one: the same source"
            )
        parts.append((here[0], rows, once))
    return parts


def _of_table(
    inputs: BrickInputs,
    table: UserTable,
    fields_: Sequence[Field],
    config: TrainingConfig,
    flow: CutFlow,
    notes: list[str],
) -> list[Candidates]:
    """Reals that a user lists: his positions, or what he names of the one catalogue of both classes.

    There rows that name no run name objects of each.
    """
    if inputs.one_catalogue:
        rows = [(table.run == here.run.run) | (table.run == RELEASE_RUN) for here in fields_]
        pairs = zip(fields_, rows, strict=True)
        return [named_reals(here, table.sources.take(mine), config, flow) for here, mine in pairs]
    listed = _listed(table, fields_, notes)
    return [real_candidates(here, rows, config, flow, once=once) for here, rows, once in listed]


def _not_listed(part: Array, table: UserTable, config: TrainingConfig, flow: CutFlow) -> Array:
    """Reals that the user's table of fakes does not claim: no pixel may carry both labels."""
    distance = nearest_distance(part["ra"], part["dec"], table.sources.ra, table.sources.dec)
    part = part[distance > config.match_radius]
    count(flow, "not in the table of fakes", len(part))
    return part


def _once(parts: Sequence[Array], config: TrainingConfig, brick: str, flow: CutFlow) -> Array:
    """One row per injection: copies of a run, or a table, may have it in several trees or runs."""
    rows = np.concatenate([blank_examples(0, config.spec), *parts])
    run = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    group = same_source_groups(rows["truth_ra"], rows["truth_dec"], run, SAME_INJECTION)
    chosen = one_row_per_source(group, run, stream(config.seed, "injection", brick))
    count(flow, UNIQUE, len(chosen))
    return rows[chosen]


def _unique(parts: Sequence[Array], fakes: Array, config: TrainingConfig, brick: str, flow: CutFlow) -> Array:
    """One row per real source, its run drawn among those in which it is eligible.

    Runs are drawn in proportion to the fakes that they give: drawn evenly, a run of few injections
    would hold mostly reals, and the run (its depth, its writer) would carry the label.
    """
    rows = np.concatenate([blank_examples(0, config.spec), *parts])
    run = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    group = same_source_groups(rows["ra"], rows["dec"], run, SAME_SOURCE)
    places = [fakes[["root", "run"]] == part[["root", "run"]][0] if len(part) else False for part in parts]
    weight = np.array([np.count_nonzero(place) for place in places])
    chosen = one_row_per_source(group, run, stream(config.seed, "run", brick), weight)
    count(flow, UNIQUE, len(chosen))
    return rows[chosen]


def _taken(fields_: Sequence[Field]) -> tuple[Array | None, tuple[float, float]]:
    """Exposures of a brick in all its runs, None where no file says, and the middle of its coadds."""
    known = [here.exposures for here in fields_ if here.exposures is not None]
    exposures = np.unique(np.concatenate(known)) if known else None
    return exposures, fields_[0].centre if fields_ else _NOWHERE


def _writers(rows: Array, fields_: Sequence[Field]) -> frozenset[Writer]:
    """The writers of the coadds that examples are in."""
    used = set(zip(rows["root"].tolist(), rows["run"].tolist(), strict=True))
    mine = (here for here in fields_ if (here.run.root.index, here.run.run.encode()) in used)
    return frozenset(here.frame.writer for here in mine if here.frame.writer is not None)
