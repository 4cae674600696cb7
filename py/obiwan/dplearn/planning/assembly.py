"""From the eligible examples of all bricks to the final list: balance, split, guard, groups."""

from __future__ import annotations

import logging

import numpy as np

from obiwan.dplearn.conventions import LABELS, SPLITS, Array
from obiwan.dplearn.errors import SelectionError
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.cutflow import CutFlow, count
from obiwan.dplearn.planning.eligible import Eligible
from obiwan.dplearn.planning.groups import Planned
from obiwan.dplearn.planning.rng import stream
from obiwan.dplearn.planning.sky import sharing_sky
from obiwan.dplearn.planning.splits import TEST, TRAIN, VAL, balanced, split_names

UNUSED = -1  # instead of a split
log = logging.getLogger(__name__)


def _tally(flows: dict[str, CutFlow], name: str, label: Array) -> None:
    for class_name, value in LABELS.items():
        count(flows[class_name], name, label == value)


def _need_both_classes(label: Array, flows: dict[str, CutFlow], where: str = "") -> None:
    """Raise `SelectionError` that names the classes lost, and the cut that took the last of each."""
    lost = [name for name, value in LABELS.items() if not (label == value).any()]
    if not lost:
        return
    reasons = []
    for name in lost:
        emptied = next((cut for cut, number in flows[name].items() if number == 0), None)
        at = f" (none is left after '{emptied}')" if emptied else ""
        reasons.append(f"no {name} example survives{where}{at}")
    msg = f"{'; '.join(reasons)}; loosen the cuts, give more bricks or runs, or change --balance or --edge"
    raise SelectionError(msg)


def _need_each_split(label: Array, split: Array, apart: Array) -> None:
    """Raise `SelectionError` where the guard against shared sky takes the last of a class from a split."""
    for value, name in enumerate(SPLITS):
        for class_name, code in LABELS.items():
            mine = (split == value) & (label == code)
            if mine.any() and not (mine & apart).any():
                n = np.count_nonzero(mine)
                msg = (
                    f"no {class_name} example survives in the {name} split: all {n} share sky with the "
                    "split of a neighbouring brick; give more bricks, bricks farther apart, or another "
                    "--seed, --val-fraction or --test-fraction"
                )
                raise SelectionError(msg)


def _guard(eligible: Eligible, split: Array) -> Array:
    """Whether an example shares sky with one of a later split that is not marked itself.

    Training gives way to validation and test, validation to test, so that without the marked examples no
    two stamps of different splits share sky.
    """
    shared = np.zeros(len(split), dtype=bool)
    for earlier, later in (((TRAIN, VAL), TEST), ((TRAIN,), VAL)):
        keepers = (split == later) & ~shared
        has_keepers = np.array([keepers[eligible.where(i)].any() for i in range(len(eligible.names))])
        for i in range(len(eligible.names)):
            mine = np.flatnonzero(np.isin(split[eligible.where(i)], earlier))
            near = [j for j in eligible.near(i) if has_keepers[j]] if len(mine) else []
            if near:
                rows = eligible.rows(i)[mine]
                others = np.concatenate([eligible.rows(j)[keepers[eligible.where(j)]] for j in near])
                found = sharing_sky(rows["ra"], rows["dec"], others["ra"], others["dec"])
                shared[eligible.where(i)][mine] |= found
    return shared


def _balance(eligible: Eligible, split: Array, config: TrainingConfig, flows: dict[str, CutFlow]) -> None:
    """Take out, in place, what one class has more than the other: in a brick, or in a split."""
    if config.balance == "none":
        return
    if config.balance == "brick":
        for i, name in enumerate(eligible.names):
            where = eligible.where(i)
            used = np.flatnonzero(split[where] != UNUSED)
            keep = balanced(eligible.label[where][used], stream(config.seed, "balance", name))
            split[where][used[~keep]] = UNUSED
    elif config.split == "brick":
        for value, name in enumerate(SPLITS):
            used = np.flatnonzero(split == value)
            keep = balanced(eligible.label[used], stream(config.seed, "balance", name))
            split[used[~keep]] = UNUSED
    else:  # there are no splits yet
        split[~balanced(eligible.label, stream(config.seed, "balance", "all"))] = UNUSED
    _tally(flows, f"balanced ({config.balance})", eligible.label[split != UNUSED])


def _split_by_brick(
    eligible: Eligible, config: TrainingConfig, flows: dict[str, CutFlow]
) -> tuple[Array, Array]:
    label = eligible.label
    parts = [label[eligible.where(i)] for i in range(len(eligible.names))]
    used = np.array([len(part) > 0 for part in parts], dtype=bool)
    if config.balance == "brick":
        used = np.array([all((part == value).any() for value in LABELS.values()) for part in parts], bool)
        survivors = label[np.repeat(used, eligible.sizes)]
        _tally(flows, "brick holds both classes", survivors)
        _need_both_classes(survivors, flows)
    of_brick = np.full(len(parts), UNUSED, dtype=np.int8)
    names = [eligible.names[i] for i in np.flatnonzero(used)]
    of_brick[used] = split_names(names, config.seed, config.test_fraction, config.val_fraction)
    split = np.repeat(of_brick, eligible.sizes)
    shared = _guard(eligible, split)
    apart = (split != UNUSED) & ~shared
    _tally(flows, "no sky shared with another split", label[apart])
    _need_each_split(label, split, apart)
    split[shared] = UNUSED
    _balance(eligible, split, config, flows)
    return split, np.zeros(len(split), dtype=bool)


def _split_by_object(
    eligible: Eligible, config: TrainingConfig, flows: dict[str, CutFlow]
) -> tuple[Array, Array]:
    split = np.zeros(len(eligible), dtype=np.int8)
    _balance(eligible, split, config, flows)
    _need_both_classes(eligible.label[split != UNUSED], flows)
    for name, value in LABELS.items():  # each class for itself, so that every split has both
        mine = np.flatnonzero((split != UNUSED) & (eligible.label == value))
        try:
            found = split_names(_keys(eligible, mine), config.seed, config.test_fraction, config.val_fraction)
        except SelectionError:
            msg = (
                f"{len(mine)} {name} examples are too few to split into train, val and test; "
                "--edge pad, --allow-injected-neighbours or --balance none would keep more"
            )
            raise SelectionError(msg) from None
        split[mine] = found
    shared = _guard(eligible, split)
    if shared.any():
        log.warning(
            "warning: %d of %d examples share sky with an example of another split (--split object): "
            "a held-out result on this set is optimistic",
            np.count_nonzero(shared),
            np.count_nonzero(split != UNUSED),
        )
    return split, shared


def _keys(eligible: Eligible, chosen: Array) -> list[str]:
    """What names the chosen examples, whatever other bricks and examples there are."""
    wanted = np.zeros(len(eligible), dtype=bool)
    wanted[chosen] = True
    return [
        f"{r['root']}/{r['brick']}/{r['run']}/{r['id']}/{float(r['ra']).hex()}/{float(r['dec']).hex()}"
        for i in range(len(eligible.names))
        for r in eligible.rows(i)[wanted[eligible.where(i)]]
    ]


def assemble(eligible: Eligible, config: TrainingConfig, flows: dict[str, CutFlow]) -> Planned:
    """Decide which examples are used, and give each its split, group, shard and row.

    Parameters
    ----------
    eligible : Eligible
    config : TrainingConfig
    flows : dict
        Cut flow per class; extended in place, so that it tells the story also when this fails.

    Returns
    -------
    Planned

    Raises
    ------
    SelectionError
        If a class does not survive, or the survivors cannot be split.
    """
    _need_both_classes(eligible.label, flows)
    by = _split_by_brick if config.split == "brick" else _split_by_object
    split, shared = by(eligible, config, flows)
    for value, name in enumerate(SPLITS):
        _need_both_classes(eligible.label[split == value], flows, f" in the {name} split")
    return Planned(eligible, split, shared, config.seed, config.shard_size)
