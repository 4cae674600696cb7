"""The final list: groups of whole bricks, shuffled over shards of their own."""

from __future__ import annotations

import itertools
import zlib

import numpy as np
import pytest

from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.plan import Plan, grouped
from obiwan.dplearn.planning.splits import TEST, TRAIN, VAL
from obiwan.dplearn.running.streams import stream
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.examples import FLAG_OVERLAP
from plans import all_rows, eligible_of, plan_of

NAMES = [f"{i:04d}p060" for i in range(30)]


def survey(sizes):
    """Bricks of so many examples."""
    plans = [
        plan_of(name, np.arange(n) % 2, 10.0 + i, 0.01 * np.arange(n))
        for i, (name, n) in enumerate(zip(NAMES, sizes, strict=False))
    ]
    return plans, eligible_of(plans)


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(StampSpec, "stamps_per_group", 100)


def used(rows):
    """What identifies the examples of a list."""
    return sorted(zip(rows["brick"].tolist(), rows["id"].tolist(), strict=True))


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("shard_size", [7, 16, 100])
def test_groups_hold_whole_bricks_and_shards_have_no_gaps(shard_size, rng):
    sizes = rng.integers(1, 45, 30)
    sizes[4] = 230
    plans, eligible = survey(sizes)
    of_brick = rng.permutation([TRAIN] * 20 + [VAL] * 4 + [TEST] * 6)
    split = np.repeat(of_brick, sizes).astype(np.int8)
    split[rng.random(len(split)) < 0.1] = -1
    planned = Plan(eligible, split, np.zeros(len(split), bool), TrainingConfig(seed=1, shard_size=shard_size))
    everything = np.concatenate([plan.rows for plan in plans])
    assert used(all_rows(planned)) == used(everything[split >= 0])
    assert len(planned) == np.count_nonzero(split >= 0)
    for value, name in enumerate((b"train", b"val", b"test")):
        parts = [planned.rows(i) for i, group in enumerate(planned.groups) if group.split == value]
        bricks = [set(part["brick"]) for part in parts]
        assert sum(map(len, bricks)) == len(set().union(*bricks)) == planned.bricks(value)  # whole bricks
        assert {NAMES.index(b.decode()) for b in set().union(*bricks)} <= set(
            np.flatnonzero(of_brick == value)
        )
        following = 1
        for part, inside in zip(parts, bricks, strict=True):
            assert set(part["split"]) == {name}
            assert len(part) <= 100 or len(inside) == 1
            shards, rows = np.unique(part["shard"], return_counts=True)
            assert shards.tolist() == list(range(following, following + len(shards)))
            assert (rows[:-1] == shard_size).all()  # only a group's last shard is short
            assert 0 < rows[-1] <= shard_size
            np.testing.assert_array_equal(part["row"], np.concatenate([np.arange(n) for n in rows]))
            following += len(shards)
    assert [group.size for group in planned.groups] == [len(part) for part in planned]


@pytest.mark.usefixtures("small_groups")
def test_bricks_and_classes_are_mixed_within_a_group():
    _, eligible = survey([50, 50])
    planned = Plan(
        eligible, np.zeros(100, np.int8), np.zeros(100, bool), TrainingConfig(seed=1, shard_size=10)
    )
    (rows,) = planned
    first = rows[rows["shard"] == 1]
    assert len(set(first["brick"])) == len(set(first["label"])) == 2
    other = Plan(
        eligible, np.zeros(100, np.int8), np.zeros(100, bool), TrainingConfig(seed=2, shard_size=10)
    ).rows(0)
    assert (rows["id"] != other["id"]).any()


def test_rows_keep_what_the_brick_said(rng):
    plans, eligible = survey([5, 3, 4])
    split, shared = np.array([0] * 5 + [1] * 3 + [2] * 4, np.int8), rng.random(12) < 0.5
    planned = Plan(eligible, split, shared, TrainingConfig(seed=3, shard_size=8))
    rows = all_rows(planned)
    everything = np.concatenate([plan.rows for plan in plans])
    for row in rows:
        (at,) = np.flatnonzero((everything["brick"] == row["brick"]) & (everything["id"] == row["id"]))
        for name in ("label", "run", "ra", "dec"):
            assert row[name] == everything[at][name]
        assert row["flags"] == FLAG_OVERLAP * shared[at]
    assert planned.crc32 == zlib.crc32(rows.tobytes())


def test_groups_of_bricks(rng):
    sizes = dict(zip(NAMES[:30], rng.integers(1, 45, 30).tolist(), strict=True))
    sizes[NAMES[4]] = 230  # a brick larger than a group is a group of its own
    found = grouped(sizes, 100, stream(1, "a"))
    assert sorted(name for group in found for name in group) == sorted(sizes)
    for group in found:
        assert sum(sizes[name] for name in group) <= 100 or group == [NAMES[4]]
    for group, following in itertools.pairwise(found):
        assert sum(sizes[name] for name in [*group, following[0]]) > 100  # no group is shorter than need be
    backward = dict(reversed(sizes.items()))
    assert grouped(backward, 100, stream(1, "a")) == found != grouped(sizes, 100, stream(2, "a"))
    assert grouped({}, 100, stream(1, "a")) == []
