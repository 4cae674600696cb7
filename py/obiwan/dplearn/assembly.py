"""From the eligible examples of all bricks to the final list: balance, split, guard, shard and row."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.config import TrainingConfig
from obiwan.dplearn.errors import SelectionError
from obiwan.dplearn.examples import FLAG_OVERLAP, blank_examples
from obiwan.dplearn.planning import BrickPlan
from obiwan.dplearn.selection import CutFlow, count, merge_flows
from obiwan.dplearn.shards import LABELS, SPLITS
from obiwan.dplearn.splits import balanced_rows, overlapping, place, split_names, stream

Array = NDArray[Any]
log = logging.getLogger(__name__)


def total_flows(plans: Sequence[BrickPlan]) -> dict[str, CutFlow]:
    """Add up the cut flows of all bricks, per class."""
    return {name: merge_flows([plan.flows[name] for plan in plans]) for name in LABELS}


def _tally(flows: dict[str, CutFlow], name: str, label: Array) -> None:
    for class_name, value in LABELS.items():
        count(flows[class_name], name, label == value)


def _need_both_classes(rows: Array, flows: dict[str, CutFlow], where: str = "") -> None:
    """Raise `SelectionError` that names the classes lost, and the cut that took the last of each."""
    lost = [name for name, value in LABELS.items() if not (rows["label"] == value).any()]
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


def _codes(values: Array) -> tuple[Array, Array]:
    names, codes = np.unique(values, return_inverse=True)
    return np.char.decode(names, "ascii"), codes.reshape(-1)


def _balance(rows: Array, unit: Array, names: Sequence[str], config: TrainingConfig) -> Array:
    return balanced_rows(
        rows["label"], unit, {i: stream(config.seed, "balance", name) for i, name in enumerate(names)}
    )


def _both_classes(rows: Array) -> Array:
    """Rows of bricks that hold both classes."""
    _, brick = _codes(rows["brick"])
    both = np.ones(brick.max() + 1 if len(brick) else 0, dtype=bool)
    for value in LABELS.values():
        both &= np.bincount(brick[rows["label"] == value], minlength=len(both)) > 0
    return both[brick]


def _split_by_brick(rows: Array, config: TrainingConfig, flows: dict[str, CutFlow]) -> tuple[Array, Array]:
    if config.balance == "brick":
        rows = rows[_both_classes(rows)]
        _tally(flows, "brick holds both classes", rows["label"])
        _need_both_classes(rows, flows)
    names, brick = _codes(rows["brick"])
    split = split_names(names.tolist(), config.seed, config.test_fraction, config.val_fraction)[brick]
    apart = ~overlapping(rows["ra"], rows["dec"], split)
    _tally(flows, "no sky shared with another split", rows["label"][apart])
    _need_each_split(rows["label"], split, apart)
    rows, split, brick = rows[apart], split[apart], brick[apart]
    if config.balance != "none":
        by_brick = config.balance == "brick"
        keep = _balance(rows, brick if by_brick else split, names.tolist() if by_brick else SPLITS, config)
        rows, split = rows[keep], split[keep]
        _tally(flows, f"balanced ({config.balance})", rows["label"])
    return rows, split


def _split_by_object(rows: Array, config: TrainingConfig, flows: dict[str, CutFlow]) -> tuple[Array, Array]:
    if config.balance != "none":
        names, unit = _codes(rows["brick"])
        if config.balance == "global":
            names, unit = np.array(["all"]), np.zeros(len(rows), dtype=int)
        rows = rows[_balance(rows, unit, names.tolist(), config)]
        _tally(flows, f"balanced ({config.balance})", rows["label"])
    _need_both_classes(rows, flows)
    split = np.zeros(len(rows), dtype=np.int8)
    for name, value in LABELS.items():  # each class for itself, so that every split has both
        mine = np.flatnonzero(rows["label"] == value)
        keys = [
            f"{r['root']}/{r['brick']}/{r['run']}/{r['id']}/{float(r['ra']).hex()}/{float(r['dec']).hex()}"
            for r in rows[mine]
        ]
        try:
            split[mine] = split_names(keys, config.seed, config.test_fraction, config.val_fraction)
        except SelectionError:
            msg = (
                f"{len(mine)} {name} examples are too few to split into train, val and test; "
                "--edge pad, --allow-injected-neighbours or --balance none would keep more"
            )
            raise SelectionError(msg) from None
    shared = overlapping(rows["ra"], rows["dec"], split)
    rows["flags"][shared] |= FLAG_OVERLAP
    if shared.any():
        log.warning(
            "warning: %d of %d examples share sky with an example of another split (--split object): "
            "a held-out result on this set is optimistic",
            np.count_nonzero(shared),
            len(rows),
        )
    return rows, split


def assemble(
    plans: Sequence[BrickPlan], config: TrainingConfig, flows: dict[str, CutFlow]
) -> tuple[Array, Array]:
    """Decide which examples are used, and give each its split, shard and row.

    Parameters
    ----------
    plans : sequence of BrickPlan
        Sorted by brick.
    config : TrainingConfig
    flows : dict
        Cut flow per class; extended in place, so that it tells the story also when this fails.

    Returns
    -------
    rows : ndarray
        Those of the plans that are used, of their type (`EXAMPLE_DTYPE`, or what `rowfile.RowFile` keeps
        of it), sorted by split (train, val, test), shard and row.
    group : ndarray of int32
        Number of the extraction task of each row.

    Raises
    ------
    SelectionError
        If a class does not survive, or the survivors cannot be split.
    """
    rows = np.concatenate([plan.rows for plan in plans]) if plans else blank_examples(0)
    _need_both_classes(rows, flows)
    by = _split_by_brick if config.split == "brick" else _split_by_object
    rows, split = by(rows, config, flows)
    for value, name in enumerate(SPLITS):
        _need_both_classes(rows[split == value], flows, f" in the {name} split")
    placement = place(rows["brick"], split, config.seed, config.shard_size)
    rows["split"] = np.array(SPLITS, dtype="S5")[split]
    rows["shard"], rows["row"] = placement.shard, placement.row
    order = np.lexsort((rows["row"], rows["shard"], split))
    return rows[order], placement.group[order]
