"""What can be an example: candidates of both classes in one field, on one road.

Fakes are recovered injections, reals are sources that are no injection; from there on every rule is
the same function for both: primary area, cuts, foreign injections in the stamp, edge, coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from obiwan.dplearn.conventions import BANDS, LABELS, Array
from obiwan.dplearn.errors import LayoutError
from obiwan.dplearn.planning.config import INJECTION_REACH, TrainingConfig
from obiwan.dplearn.planning.cutflow import CutFlow, count
from obiwan.dplearn.planning.fields import Field, with_measured_surroundings
from obiwan.dplearn.planning.matching import (
    mutual_nearest,
    nearest_distance,
    sources_within,
    stamp_holds_other,
)
from obiwan.dplearn.planning.selection import apply_cuts, find_selection
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.coadds import read_pixels
from obiwan.dplearn.survey.cutouts import centre_inside, stamp_inside
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
    truth_ra, truth_dec, match_dist : ndarray
        Degrees and arcsec; NaN where there is no truth or match.
    mag_source : str
        ``measured``, ``truth`` or ``table``.
    """

    label: str
    field: Field
    fitted: Sources | None
    sources: Sources
    own: Array
    keep: Array
    truth_ra: Array
    truth_dec: Array
    match_dist: Array
    mag_source: str = "measured"


def known_reals(fields_: Sequence[Field], releases: Sequence[Sources], radius: float) -> tuple[Array, Array]:
    """Positions (RA, Dec, degrees) at which a brick is known to hold a real source.

    A release knows; without one, every source that a run of the brick fitted where it has no
    injection near.  What a run fitted far from its own injections lies on none of them, so that only
    the other runs can tell of an injection that it fell on a real source.
    """
    parts = [(rows.ra, rows.dec) for rows in releases]
    if not releases:
        for field in fields_:
            if field.catalog is not None:
                rows = field.catalog.sources
                far = field.injection_distance(rows.ra, rows.dec) > max(radius, INJECTION_REACH)
                parts.append((rows.ra[far], rows.dec[far]))
    ra, dec = ([part[axis] for part in parts] for axis in (0, 1))
    return np.concatenate([np.empty(0), *ra]), np.concatenate([np.empty(0), *dec])


def fake_candidates(
    here: Field,
    known: tuple[Array, Array],
    releases: Sequence[Sources],
    config: TrainingConfig,
    flow: CutFlow,
) -> Candidates:
    """Injections of one field: injected, recovered, and not on top of a real source (`known_reals`)."""
    count(flow, CANDIDATES, len(here.truth))
    truth = here.injections
    count(flow, "injected on a CCD", len(truth))
    own, unmatched = np.arange(len(truth)), np.full(len(truth), np.nan)
    if here.catalog is None:
        if config.centers != "truth":
            msg = (
                f"{here.run.root.path}: early-coadds tree without tractor catalogues: fakes can only be "
                "centred on their truth; use --centers truth (reals stay centred on fitted positions, "
                "whose scatter the network may learn)"
            )
            raise LayoutError(msg)
        # What an early tree does not tell of the surroundings, the release does.
        for rows in releases:
            truth = with_measured_surroundings(truth, rows)
        sources, distance, mag_source = truth, unmatched, "truth"
    else:
        index, distance = mutual_nearest(
            truth.ra, truth.dec, here.catalog.sources.ra, here.catalog.sources.dec, config.match_radius
        )
        own = own[index >= 0]
        truth, distance = truth.take(own), distance[own]
        sources, mag_source = here.catalog.sources.take(index[own]), "measured"
        count(flow, f'recovered: mutual match in {config.match_radius:g}"', len(own))
        sources = replace(sources, id=truth.id)
        if config.centers == "truth":
            sources = replace(sources, ra=truth.ra, dec=truth.dec)
    keep = nearest_distance(truth.ra, truth.dec, *known) > config.match_radius
    count(flow, "not on a real source", keep)
    ra, dec = truth.ra, truth.dec
    return Candidates("fake", here, _fitted(here), sources, own, keep, ra, dec, distance, mag_source)


def real_candidates(here: Field, sources: Sources, config: TrainingConfig, flow: CutFlow) -> Candidates:
    """Sources to be cut from one field as reals: those that are far from every injection."""
    count(flow, CANDIDATES, len(sources))
    reach = max(config.match_radius, INJECTION_REACH)
    keep = here.injection_distance(sources.ra, sources.dec) > reach
    count(flow, f'no injection within {reach:g}"', keep)
    none = np.full(len(sources), np.nan)
    return Candidates("real", here, sources, sources, np.full(len(sources), -1), keep, none, none, none)


def listed_reals(here: Field, sources: Sources, config: TrainingConfig, flow: CutFlow) -> Candidates:
    """A user's own reals in one field: the rules of reals, beside what was fitted there."""
    found = real_candidates(here, sources, config, flow)
    return replace(found, fitted=_fitted(here), mag_source="table")


def listed_fakes(
    here: Field,
    sources: Sources,
    releases: Sequence[Sources],
    config: TrainingConfig,
    flow: CutFlow,
) -> Candidates:
    """A user's own fakes in one field: they need no match of truth and catalogue, else the rules of fakes."""
    count(flow, CANDIDATES, len(sources))
    own, distance = mutual_nearest(
        sources.ra, sources.dec, here.injections.ra, here.injections.dec, config.match_radius
    )
    keep = np.ones(len(sources), dtype=bool)
    if here.run.run != RELEASE_RUN:  # in a release, a listed object is itself a release source
        known = known_reals([], releases, config.match_radius)
        keep &= nearest_distance(sources.ra, sources.dec, *known) > config.match_radius
    count(flow, "not on a real source", keep)
    ra, dec = sources.ra, sources.dec
    return Candidates("fake", here, _fitted(here), sources, own, keep, ra, dec, distance, "table")


def _fitted(here: Field) -> Sources | None:
    return None if here.catalog is None else here.catalog.sources


@dataclass(frozen=True)
class _Screened:
    """Candidates after the rules that need no pixels.

    Attributes
    ----------
    candidates : Candidates
    index : ndarray of int
        Rows that are left.
    x, y : ndarray
        0-based pixel positions of all rows.
    flags : ndarray of int
        Of all rows.
    """

    candidates: Candidates
    index: Array
    x: Array
    y: Array
    flags: Array


def screen(
    everything: Sequence[Candidates], config: TrainingConfig, flows: dict[str, CutFlow]
) -> list[Array]:
    """Apply to candidates the rules that both classes share, and make example rows of the survivors.

    Each inverse variance plane of a field is read once, for all candidates of the field together.

    Parameters
    ----------
    everything : sequence of Candidates
        Of one brick, of either class.
    config : TrainingConfig
    flows : dict
        Cut flow per class name; counted on.

    Returns
    -------
    list of ndarray of EXAMPLE_DTYPE
        The survivors of each of the candidates.
    """
    screened = [_without_pixels(candidates, config, flows[candidates.label]) for candidates in everything]
    rows = [blank_examples(0)] * len(screened)
    for here in {id(one.candidates.field): one.candidates.field for one in screened}.values():
        mine = [i for i, one in enumerate(screened) if one.candidates.field is here]
        for i, index in zip(mine, _covered(here, [screened[i] for i in mine]), strict=True):
            one = screened[i]
            count(flows[one.candidates.label], "invvar > 0 at the centre in g, r, z", len(index))
            rows[i] = _rows(one.candidates, index, one.x, one.y, one.flags)
    return rows


def _without_pixels(candidates: Candidates, config: TrainingConfig, flow: CutFlow) -> _Screened:
    here, sources, keep = candidates.field, candidates.sources, candidates.keep
    keep = keep & _alone(candidates, config.match_radius)
    count(flow, f'no other source within {config.match_radius:g}"', keep)
    primary = here.frame.primary(sources.ra, sources.dec)
    keep = keep & (sources.primary if primary is None else primary)
    count(flow, "in the brick's primary area", keep)
    keep = apply_cuts(sources.in_bands(BANDS), find_selection(config.select), keep, flow)
    x, y = here.frame.pixels(sources.ra, sources.dec)
    neighbour = stamp_holds_other(x, y, candidates.own, here.injected_x, here.injected_y)
    if not config.allow_injected_neighbours:
        keep = keep & ~neighbour
        count(flow, "no other injection in the stamp", keep)
    inside = stamp_inside(x, y, here.frame.shape, StampSpec().size)
    keep = keep & (inside if config.edge == "drop" else centre_inside(x, y, here.frame.shape))
    count(flow, "stamp inside the coadd" if config.edge == "drop" else "centre inside the coadd", keep)
    flags: Array = FLAG_PADDED * ~inside + FLAG_NEIGHBOUR * neighbour
    if candidates.mag_source == "truth":
        flags = flags + FLAG_UNMATCHED
    return _Screened(candidates, np.flatnonzero(keep), x, y, flags)


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


def _covered(here: Field, screened: Sequence[_Screened]) -> list[Array]:
    """Rows, of each of one field's candidates, whose centre pixel was observed in all three bands."""
    part = np.repeat(np.arange(len(screened)), [len(one.index) for one in screened])
    index = np.concatenate([one.index for one in screened])
    x = np.concatenate([one.x[one.index] for one in screened])
    y = np.concatenate([one.y[one.index] for one in screened])
    for band in BANDS:
        seen = read_pixels(here.run, band, x, y, here.frame.shape) > 0
        part, index, x, y = part[seen], index[seen], x[seen], y[seen]
    return [index[part == i] for i in range(len(screened))]


def _rows(candidates: Candidates, index: Array, x: Array, y: Array, flags: Array) -> Array:
    rows = blank_examples(len(index))
    run, sources = candidates.field.run, candidates.sources.take(index)
    fill_measurements(rows, sources)
    rows["label"] = LABELS[candidates.label]
    rows["root"], rows["brick"], rows["run"] = run.root.index, run.brick.encode(), run.run.encode()
    rows["camera"] = candidates.field.camera.encode("ascii", "replace")
    rows["id"], rows["ra"], rows["dec"] = sources.id, sources.ra, sources.dec
    rows["x"], rows["y"], rows["flags"] = x[index], y[index], flags[index]
    rows["truth_ra"], rows["truth_dec"] = candidates.truth_ra[index], candidates.truth_dec[index]
    rows["match_dist"] = candidates.match_dist[index]
    rows["mag_source"] = candidates.mag_source.encode()
    return rows
