"""Assembly of a training set from the eligible examples of all bricks: balance, split, guard, order."""

from __future__ import annotations

import logging

import numpy as np

from obiwan.dplearn.errors import SelectionError
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.cutflow import Flows, count
from obiwan.dplearn.planning.matching import sharing_reach, sharing_sky, sharing_width
from obiwan.dplearn.planning.plan import Plan
from obiwan.dplearn.planning.splits import TEST, TRAIN, VAL, balanced, sky_cells, split_names
from obiwan.dplearn.planning.store import Eligible
from obiwan.dplearn.running.streams import stream
from obiwan.dplearn.stampspec import SPLITS, Array

UNUSED = -1  # instead of a split
log = logging.getLogger(__name__)


def _tally(flows: Flows, name: str, label: Array) -> None:
    for value, flow in enumerate(flows.values()):
        count(flow, name, label == value)


def _need_both_classes(label: Array, flows: Flows, where: str = "") -> None:
    """Raise `SelectionError` that names the classes lost, and the cut that took the last of each."""
    reasons = []
    for value, (name, flow) in enumerate(flows.items()):
        if not (label == value).any():
            emptied = next((cut for cut, number in flow.items() if number == 0), None)
            at = f" (none is left after '{emptied}')" if emptied else ""
            reasons.append(f"no {name} example survives{where}{at}")
    if reasons:
        msg = (
            f"{'; '.join(reasons)}; loosen the cuts, give more bricks (or some farther apart) or runs, "
            "change --balance or --edge, or try another --seed, --val-fraction or --test-fraction"
        )
        raise SelectionError(msg)


def shared_sky(eligible: Eligible, split: Array, width: float) -> Array:
    """Whether an example shares sky with one of a later split that is not marked itself.

    Training gives way to validation and test, validation to test, so that without the marked examples no
    two stamps of different splits share sky.

    Parameters
    ----------
    eligible : Eligible
    split : ndarray of int8, shape (n,)
    width : float
        `sky.sharing_width` of the stamps.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    shared = np.zeros(len(split), dtype=bool)
    bricks = range(len(eligible.names))
    for earlier, later in (((TRAIN, VAL), TEST), ((TRAIN,), VAL)):
        keepers = (split == later) & ~shared
        has_keepers = [keepers[eligible.where(i)].any() for i in bricks]
        for i in bricks:
            mine = np.flatnonzero(np.isin(split[eligible.where(i)], earlier))
            near = [j for j in eligible.near(i, sharing_reach(width)) if has_keepers[j]] if len(mine) else []
            if near:
                rows = eligible.rows_of(i)[mine]
                others = [eligible.rows_of(j)[keepers[eligible.where(j)]] for j in near]
                ra, dec = (np.concatenate([part[name] for part in others]) for name in ("ra", "dec"))
                shared[eligible.where(i)][mine] |= sharing_sky(rows["ra"], rows["dec"], ra, dec, width)
    return shared


def _balance(eligible: Eligible, split: Array, config: TrainingConfig) -> None:
    """Take out, in place, what one class has more than the other: in a brick, or in a split."""
    parts: dict[str, slice | Array] = {"all": split != UNUSED}  # by name of the random stream
    if config.balance == "none":
        return
    if config.balance == "brick":
        parts = {name: eligible.where(i) for i, name in enumerate(eligible.names)}
    elif config.split != "object":  # else there are no splits yet
        parts = {name: split == value for value, name in enumerate(SPLITS)}
    for name, part in parts.items():
        here = split[part]
        used = np.flatnonzero(here != UNUSED)
        keep = balanced(eligible.label[part][used], stream(config.seed, "balance", name))
        here[used[~keep]] = UNUSED
        split[part] = here
    _tally(eligible.flows, f"balanced ({config.balance})", eligible.label[split != UNUSED])


def _split_by_place(eligible: Eligible, config: TrainingConfig) -> tuple[Array, Array]:
    label = eligible.label
    parts = [label[eligible.where(i)] for i in range(len(eligible.names))]
    if config.balance == "brick":
        used = np.array([0 < np.count_nonzero(part) < len(part) for part in parts], dtype=bool)
        survivors = label[np.repeat(used, eligible.sizes)]
        _tally(eligible.flows, "brick holds both classes", survivors)
        _need_both_classes(survivors, eligible.flows)
    else:
        used = eligible.sizes > 0
    of_brick = np.full(len(parts), UNUSED, dtype=np.int8)
    names, unit = np.array(eligible.names)[used], "brick"
    if config.split == "sky":
        ra, dec = eligible.places[used].T
        names, unit = sky_cells(ra, dec, config.cell_size), "cell"
    whole, of_name = np.unique(names, return_inverse=True)
    fractions = config.test_fraction, config.val_fraction
    of_brick[used] = split_names(whole.tolist(), config.seed, *fractions, unit)[of_name]
    split = np.repeat(of_brick, eligible.sizes)
    shared = shared_sky(eligible, split, sharing_width(config.spec))
    apart = (split != UNUSED) & ~shared
    _tally(eligible.flows, "no sky shared with another split", label[apart])
    for value, name in enumerate(SPLITS):
        emptied = f" in the {name} split that shares no sky with that of a neighbouring brick"
        _need_both_classes(label[apart & (split == value)], eligible.flows, emptied)
    split[shared] = UNUSED
    _balance(eligible, split, config)
    return split, np.zeros(len(split), dtype=bool)


def _split_by_object(eligible: Eligible, config: TrainingConfig) -> tuple[Array, Array]:
    split = np.zeros(len(eligible), dtype=np.int8)
    _balance(eligible, split, config)
    _need_both_classes(eligible.label[split != UNUSED], eligible.flows)
    for value, name in enumerate(eligible.flows):  # each class for itself, so that every split has both
        mine = (split != UNUSED) & (eligible.label == value)
        try:
            found = split_names(_keys(eligible, mine), config.seed, config.test_fraction, config.val_fraction)
        except SelectionError:
            msg = (
                f"{np.count_nonzero(mine)} {name} examples are too few to split into train, val and test; "
                "--edge pad, --allow-injected-neighbours or --balance none would keep more"
            )
            raise SelectionError(msg) from None
        split[mine] = found
    shared = shared_sky(eligible, split, sharing_width(config.spec))
    if shared.any():
        log.warning(
            "warning: %d of %d examples share sky with an example of another split (--split object): "
            "a held-out result on this set is optimistic",
            np.count_nonzero(shared),
            np.count_nonzero(split != UNUSED),
        )
    return split, shared


def _keys(eligible: Eligible, wanted: Array) -> list[str]:
    """Names of the wanted examples, whatever other bricks and examples there are."""
    return [
        f"{r['root']}/{r['brick']}/{r['run']}/{r['id']}/{float(r['ra']).hex()}/{float(r['dec']).hex()}"
        for i in range(len(eligible.names))
        for r in eligible.rows_of(i)[wanted[eligible.where(i)]]
    ]


def assemble(eligible: Eligible, config: TrainingConfig) -> Plan:
    """Decide which examples are used, and give each its split, group, shard and row.

    Parameters
    ----------
    eligible : Eligible
        Its cut flows are extended in place, so that they tell the story also when this fails.
    config : TrainingConfig

    Returns
    -------
    Plan

    Raises
    ------
    SelectionError
        If a class does not survive, or the survivors cannot be split.
    """
    _need_both_classes(eligible.label, eligible.flows)
    by = _split_by_object if config.split == "object" else _split_by_place
    split, shared = by(eligible, config)
    for value, name in enumerate(SPLITS):
        _need_both_classes(eligible.label[split == value], eligible.flows, f" in the {name} split")
    return Plan(eligible, split, shared, config)
