"""Candidates of both classes in one field, under the same rules.

Fakes are recovered injections, reals are sources that are no injection; from there on every rule is
the same function for both: primary area, cuts, foreign injections in the stamp, edge, coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from obiwan.dplearn.errors import LayoutError, SelectionError
from obiwan.dplearn.planning.config import INJECTION_REACH, TrainingConfig
from obiwan.dplearn.planning.cutflow import CutFlow, Flows, count
from obiwan.dplearn.planning.fields import Field, with_measured_surroundings
from obiwan.dplearn.planning.matching import (
    mutual_nearest,
    nearest_distance,
    sources_within,
    stamp_holds_other,
)
from obiwan.dplearn.planning.selection import apply_cuts, find_selection
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.coverage import Coverage, find_coverage, observed
from obiwan.dplearn.survey.cutouts import stamp_inside
from obiwan.dplearn.survey.layouts import RELEASE_RUN
from obiwan.dplearn.survey.sources import Sources
from obiwan.dplearn.trainingset.examples import (
    FLAG_NEIGHBOUR,
    FLAG_PADDED,
    FLAG_UNMATCHED,
    blank_examples,
    fill_measurements,
)

CANDIDATES = "catalogue rows"
LISTED = "listed once"
IN_RELEASE = "in the release that was injected into"
Positions = tuple[Array, Array]  # RA and Dec, degrees


@dataclass(frozen=True)
class Candidates:
    """Rows of one class in one field, before the common rules.

    Attributes
    ----------
    label : str
        ``real`` or ``fake``.
    field : Field
        Where they are to be cut from.
    fitted : Sources or None
        The catalogue in which they are, or beside which they lie; None where nothing was fitted.
    sources : Sources
        Their quantities; `ra`, `dec` are the centres to use.
    own : ndarray of int
        Index of each one's own injection in the field, -1 for none.
    keep : ndarray of bool
        What the rules of the class alone have left.
    truth : tuple of ndarray or None
        Their true positions; None where there is no truth.
    match_dist : ndarray
        Arcsec from there; NaN where there is no match.
    mag_source : str
        ``measured``, ``truth`` or ``table``.
    found : tuple of ndarray or None
        Where the injections among them were found, whatever centres are used; None where nothing was fitted.
    """

    label: str
    field: Field
    fitted: Sources | None
    sources: Sources
    own: Array
    keep: Array
    truth: Positions | None
    match_dist: Array
    mag_source: str
    found: Positions | None = None


def class_of(here: Field) -> str:
    """Name of the class that the injections of a field are."""
    return "real" if here.run.root.as_real else "fake"


def known_reals(fields_: Sequence[Field], releases: Sequence[Sources], radius: float) -> Positions:
    """Positions at which a brick is known to hold a real source.

    A release knows; without one, every source that a run of the brick fitted where it has no
    injection near.  What a run fitted far from its own injections lies on none of them, so that only
    the other runs can tell of an injection that it fell on a real source.
    """
    parts = [(rows.ra, rows.dec) for rows in releases]
    for field in fields_ if not releases else ():
        if field.fitted is not None:
            far = _far_from_injections(field, field.fitted, radius)
            parts.append((field.fitted.ra[far], field.fitted.dec[far]))
    ra, dec = (np.concatenate([np.empty(0), *(part[axis] for part in parts)]) for axis in (0, 1))
    return ra, dec


def _recovered(config: TrainingConfig) -> str:
    return f'recovered: mutual match in {config.match_radius:g}"'


def _far(config: TrainingConfig) -> str:
    return f'no injection within {max(config.match_radius, INJECTION_REACH):g}"'


def _far_from_injections(field: Field, sources: Sources, radius: float) -> Array:
    distance = field.injection_distance(sources.ra, sources.dec)
    far: Array = distance > max(radius, INJECTION_REACH)
    return far


def injected_candidates(
    here: Field, known: Positions, releases: Sequence[Sources], config: TrainingConfig, flows: Flows
) -> Candidates:
    """Injections of one field: injected, recovered, and not on top of a real source (`known_reals`)."""
    truth, label = here.injections, class_of(here)
    flow = flows[label]
    count(flow, CANDIDATES, len(here.truth))
    count(flow, "injected on a CCD", len(truth))
    own, distance, sources, mag_source = np.arange(len(truth)), np.full(len(truth), np.nan), truth, "truth"
    found = None
    if here.fitted is not None:
        index, distance = mutual_nearest(
            truth.ra, truth.dec, here.fitted.ra, here.fitted.dec, config.match_radius
        )
        own = np.flatnonzero(index >= 0)
        truth, distance, mag_source = truth.take(own), distance[own], "measured"
        sources = replace(here.fitted.take(index[own]), id=truth.id)
        found = (sources.ra, sources.dec)
        count(flow, _recovered(config), len(own))
    elif config.centers != "truth":
        msg = (
            f"{here.run.root.path}: early-coadds tree without tractor catalogues: injections can only be "
            "centred on their truth; use --centers truth (real galaxies stay centred on fitted positions, "
            "whose scatter the network may learn)"
        )
        raise LayoutError(msg)
    else:  # what an early tree does not tell of the surroundings, the release does
        for rows in releases:
            sources = with_measured_surroundings(sources, rows)
    if config.centers == "truth":
        sources = replace(sources, ra=truth.ra, dec=truth.dec)
    keep = nearest_distance(truth.ra, truth.dec, *known) > config.match_radius
    count(flow, "not on a real source", keep)
    true = (truth.ra, truth.dec)
    return Candidates(label, here, here.fitted, sources, own, keep, true, distance, mag_source, found)


def real_candidates(
    here: Field,
    sources: Sources,
    config: TrainingConfig,
    flow: CutFlow,
    *,
    once: Array | None = None,
    repeated: int | None = None,
) -> Candidates:
    """Sources to be cut from one field as reals: those that are far from every injection.

    A user's own are beside what was fitted there, others are it; `once` tells which of a user's rows count,
    one of each source.  `repeated` is the number of rows that other releases have of the brick, None where
    there is one release at most.
    """
    count(flow, CANDIDATES, len(sources) + (repeated or 0))
    if repeated is not None:
        count(flow, IN_RELEASE, len(sources))
    if once is not None:
        sources = sources.take(once)
        count(flow, LISTED, len(sources))
    keep = _far_from_injections(here, sources, config.match_radius)
    count(flow, _far(config), keep)
    own, distance = np.full(len(sources), -1), np.full(len(sources), np.nan)
    fitted, mag_source = (sources, "measured") if once is None else (here.fitted, "table")
    return Candidates("real", here, fitted, sources, own, keep, None, distance, mag_source)


def named_reals(here: Field, listed: Sources, config: TrainingConfig, flow: CutFlow) -> Candidates:
    """Sources of a field's catalogue that a user's table names as real, found as injections are.

    They are centred and measured as the catalogue has them; the table says which they are.
    """
    count(flow, CANDIDATES, len(listed))
    found = here.fitted
    if found is None:
        what = "no catalogue in which the objects of --real-table could be found"
        msg = f"{here.run.label}: {what}; finish the run, or leave the brick out with --bricks"
        raise LayoutError(msg)
    index, _ = mutual_nearest(listed.ra, listed.dec, found.ra, found.dec, config.match_radius)
    sources = found.take(index[index >= 0])
    count(flow, _recovered(config), len(sources))
    keep = _far_from_injections(here, sources, config.match_radius)
    count(flow, _far(config), keep)
    own, distance = np.full(len(sources), -1), np.full(len(sources), np.nan)
    return Candidates("real", here, found, sources, own, keep, None, distance, "measured")


def listed_fakes(
    here: Field,
    sources: Sources,
    once: Array,
    releases: Sequence[Sources],
    config: TrainingConfig,
    flow: CutFlow,
) -> Candidates:
    """A user's own fakes in one field: they need no match of truth and catalogue, else the rules of fakes.

    `once` tells which of the rows count, one of each source.
    """
    count(flow, CANDIDATES, len(sources))
    sources = sources.take(once)
    count(flow, LISTED, len(sources))
    injections, radius = here.injections, config.match_radius
    own, distance = mutual_nearest(sources.ra, sources.dec, injections.ra, injections.dec, radius)
    keep = np.ones(len(sources), dtype=bool)
    if here.run.run != RELEASE_RUN:  # in a release, a listed object is itself a release source
        keep = nearest_distance(sources.ra, sources.dec, *known_reals([], releases, radius)) > radius
    count(flow, "not on a real source", keep)
    places = (sources.ra, sources.dec)
    return Candidates("fake", here, here.fitted, sources, own, keep, places, distance, "table", places)


def screen(
    everything: Sequence[Candidates], config: TrainingConfig, flows: Flows
) -> tuple[list[Array], list[Coverage]]:
    """Apply to candidates the rules that both classes share, and make example rows of the survivors.

    The coverage of a field is read once, for all candidates of the field together.

    Parameters
    ----------
    everything : sequence of Candidates
        Of one brick, of either class.
    config : TrainingConfig
    flows : dict
        Cut flow per class name; counted on.

    Returns
    -------
    rows : list of ndarray of `example_dtype`
        The survivors of each of the candidates.
    coverages : list of Coverage
        What told, in each field and band, which pixels were observed.
    """
    spec, coverages = config.spec, []
    rows = [_without_pixels(one, config, flows[one.label]) for one in everything]
    for here in {id(one.field): one.field for one in everything}.values():
        mine = [i for i, one in enumerate(everything) if one.field is here]
        x, y = (np.concatenate([rows[i][axis] for i in mine]) for axis in ("x", "y"))
        seen = np.ones(len(x), dtype=bool)
        for band in spec.bands:
            left = np.flatnonzero(seen)
            coverages.append(find_coverage(here.run, band))
            seen[left] = observed(coverages[-1], x[left], y[left], here.frame.shape)
        ends = np.cumsum([len(rows[i]) for i in mine])
        for i, some in zip(mine, np.split(seen, ends[:-1]), strict=True):
            rows[i] = rows[i][some]
            name = f"invvar > 0 at the centre in {', '.join(spec.bands)}"
            count(flows[everything[i].label], name, len(rows[i]))
    return rows, coverages


def _without_pixels(candidates: Candidates, config: TrainingConfig, flow: CutFlow) -> Array:
    """Example rows of what the rules leave that need no pixels."""
    here, sources, size = candidates.field, candidates.sources, config.size
    keep = candidates.keep & _alone(candidates, config.match_radius)
    count(flow, f'no other source within {config.match_radius:g}"', keep)
    primary = here.frame.primary(sources.ra, sources.dec)
    keep &= sources.primary if primary is None else primary
    count(flow, "in the brick's primary area", keep)
    keep = _selected(candidates, keep, config, flow)
    x, y = here.frame.pixels(sources.ra, sources.dec)
    injected = here.frame.pixels(here.injections.ra, here.injections.dec)
    neighbour = stamp_holds_other(x, y, candidates.own, *injected, size)
    if not config.allow_injected_neighbours:
        keep = keep & ~neighbour
        count(flow, "no other injection in the stamp", keep)
    inside = stamp_inside(x, y, here.frame.shape, size)
    keep = keep & (inside if config.edge == "drop" else stamp_inside(x, y, here.frame.shape, 1))
    count(flow, "stamp inside the coadd" if config.edge == "drop" else "centre inside the coadd", keep)
    flags: Array = FLAG_PADDED * ~inside + FLAG_NEIGHBOUR * neighbour
    if candidates.mag_source == "truth":
        flags = flags + FLAG_UNMATCHED
    return _rows(candidates, np.flatnonzero(keep), (x, y), flags, config.spec)


def _selected(candidates: Candidates, keep: Array, config: TrainingConfig, flow: CutFlow) -> Array:
    """Candidates left by the named cuts, which see the bands of the stamps before others of the catalogue."""
    bands, sources = config.spec.bands, candidates.sources
    sources = sources.in_bands((*bands, *(band for band in sources.bands if band not in bands)))
    try:
        return apply_cuts(sources, find_selection(config.select, bands), keep, flow)
    except SelectionError as error:
        msg = f"{candidates.field.run.label}: {error}"
        raise SelectionError(msg) from error


def _alone(candidates: Candidates, radius: float) -> Array:
    """Whether no second source was fitted within a radius.

    A fake that fell on a real source is dropped; reals that stand as near to another would be the only close
    pairs, and the network would learn that.
    """
    if candidates.fitted is None:
        return np.ones(len(candidates.sources), dtype=bool)
    others = candidates.fitted.take(candidates.fitted.type != "DUP")  # the same object, fitted elsewhere
    near = sources_within(candidates.sources.ra, candidates.sources.dec, others.ra, others.dec, radius)
    return np.asarray(near <= 1)


def _rows(candidates: Candidates, index: Array, pixels: Positions, flags: Array, spec: StampSpec) -> Array:
    rows = blank_examples(len(index), spec)
    run, sources = candidates.field.run, candidates.sources.take(index)
    fill_measurements(rows, sources, spec)
    rows["label"] = spec.label_of[candidates.label]
    rows["root"], rows["brick"], rows["run"] = run.root.index, run.brick.encode(), run.run.encode()
    rows["camera"] = candidates.field.camera.encode("ascii", "replace")
    rows["id"], rows["ra"], rows["dec"] = sources.id, sources.ra, sources.dec
    rows["x"], rows["y"], rows["flags"] = pixels[0][index], pixels[1][index], flags[index]
    if candidates.truth is not None:
        rows["truth_ra"], rows["truth_dec"] = (values[index] for values in candidates.truth)
    rows["match_dist"] = candidates.match_dist[index]
    rows["mag_source"] = candidates.mag_source.encode()
    _fill_recovery(rows, candidates, index, spec)
    return rows


def _fill_recovery(rows: Array, candidates: Candidates, index: Array, spec: StampSpec) -> None:
    """Say, in place, what was injected, and how far from there it was found, in pixels of the coadd."""
    here, own = candidates.field, candidates.own[index]
    mine = np.flatnonzero(own >= 0)
    truth = here.injections.take(own[mine]).in_bands(spec.bands)
    for i, name in enumerate(spec.columns("truth_flux")):
        rows[name][mine] = truth.flux[:, i]
    if candidates.found is not None:
        found = here.frame.pixels(*(values[index][mine] for values in candidates.found))
        true = here.frame.pixels(truth.ra, truth.dec)
        for name, fitted, injected in zip(("truth_dx", "truth_dy"), found, true, strict=True):
            rows[name][mine] = fitted - injected
