"""Balance, split and guard on made-up plans."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obiwan.dplearn.errors import SelectionError
from obiwan.dplearn.planning import assembly
from obiwan.dplearn.planning.bricks import BrickPlan
from obiwan.dplearn.planning.matching import sharing_width
from obiwan.dplearn.planning.splits import TEST, TRAIN, VAL
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.ccds import EXPOSURE
from obiwan.dplearn.trainingset.examples import FLAG_OVERLAP
from plans import all_rows, assembled, eligible_of, plan_of

PIX = StampSpec().pixel_scale / 3600
deterministic = settings(derandomize=True, max_examples=50, deadline=None)


def plan(i: int, real: int, fake: int, spacing: float = 0.01) -> BrickPlan:
    """A brick with so many examples, no two of which share sky unless the spacing says so."""
    label = np.r_[np.zeros(real, int), np.ones(fake, int)]
    return plan_of(f"{i:04d}p060", label, 10.0 + i, spacing * np.arange(real + fake))


def run(plans, **options):
    planned, flows = assembled(plans, **options)
    rows = all_rows(planned)
    return rows, np.repeat(np.arange(len(planned.groups)), [group.size for group in planned.groups]), flows


def per_brick(rows):
    return {
        name.decode(): tuple(int(((rows["brick"] == name) & (rows["label"] == c)).sum()) for c in (0, 1))
        for name in np.unique(rows["brick"])
    }


UNEVEN = [plan(i, real=3 + i, fake=12 - i) for i in range(10)]


def test_balance_by_brick():
    rows, _, flows = run(UNEVEN)
    assert per_brick(rows) == {f"{i:04d}p060": (min(3 + i, 12 - i),) * 2 for i in range(10)}
    assert flows["real"]["balanced (brick)"] == flows["fake"]["balanced (brick)"] == len(rows) / 2


def test_balance_global_is_within_each_split():
    rows, _, _ = run(UNEVEN, balance="global")
    uneven = 0
    for split in (b"train", b"val", b"test"):
        label = rows["label"][rows["split"] == split]
        assert 0 < np.count_nonzero(label == 0) == np.count_nonzero(label == 1)
    for real, fake in per_brick(rows).values():
        uneven += real != fake
    assert uneven > 0


def test_balance_none_keeps_all():
    rows, _, flows = run(UNEVEN, balance="none")
    assert per_brick(rows) == {f"{i:04d}p060": (3 + i, 12 - i) for i in range(10)}
    assert not any("balanced" in name for name in flows["real"])


def test_bricks_of_one_class_are_dropped_and_counted():
    plans = [*UNEVEN[:5], plan(20, 7, 0), plan(21, 0, 4)]
    rows, _, flows = run(plans)
    assert {"0020p060", "0021p060"}.isdisjoint(per_brick(rows))
    assert flows["real"]["rows"] - flows["real"]["brick holds both classes"] == 7
    assert flows["fake"]["rows"] - flows["fake"]["brick holds both classes"] == 4
    rows, _, _ = run(plans, balance="global")
    assert any(name in per_brick(rows) for name in ("0020p060", "0021p060"))


def test_the_fractions_count_bricks_that_are_left():
    plans = [*UNEVEN, *(plan(20 + i, 3, 0) for i in range(10))]  # ten of them fall out first
    rows, _, _ = run(plans, test_fraction=0.25, val_fraction=0.2)
    bricks = {s: len(set(rows["brick"][rows["split"] == s])) for s in (b"train", b"val", b"test")}
    assert bricks == {b"test": 3, b"val": 2, b"train": 5}


def test_shared_sky_is_dropped_before_balancing():
    # Brick 1 lies upon brick 0, pixel by pixel; the others are far.
    upon = plan(1, 6, 6)
    upon.rows["ra"] = 10.0
    plans = [plan(0, 6, 6), upon, *(plan(i, 6, 6) for i in range(2, 9))]
    lost = 0
    for seed in range(12):
        rows, _, flows = run(plans, seed=seed, val_fraction=0.3)
        split_of = {row["brick"]: row["split"] for row in rows}
        got = per_brick(rows)
        assert all(real == fake for real, fake in got.values())
        if len(got) == 8:
            lost += 1
            assert flows["real"]["no sky shared with another split"] == 48
        else:
            assert split_of[b"0000p060"] == split_of[b"0001p060"]
    assert lost > 0


def test_a_split_emptied_by_shared_sky_is_named_with_the_remedy():
    # All bricks lie upon each other: training and validation give way to the test split.
    upon = [plan(i, 6, 6) for i in range(10)]
    for one in upon:
        one.rows["ra"] = 10.0
    message = r"in the train split that shares no sky .*another --seed, --val-fraction or --test-fraction"
    with pytest.raises(SelectionError, match=message):
        run(upon)


def test_the_result_does_not_depend_on_the_order_of_rows_within_other_bricks():
    alone, _, _ = run(UNEVEN)
    more, _, _ = run([*UNEVEN, plan(50, 9, 9)])
    kept = {(r["brick"], r["id"]) for r in alone}
    again = {(r["brick"], r["id"]) for r in more if r["brick"] != b"0050p060"}
    assert kept == again  # each brick's balance has a stream of its own


def test_split_by_object_gives_each_class_its_share(caplog):
    with caplog.at_level(logging.WARNING):
        rows, _, _ = run([plan(0, 20, 15)], split="object")
    for label in (0, 1):
        split = rows["split"][rows["label"] == label]
        assert [int((split == s).sum()) for s in (b"test", b"val", b"train")] == [3, 2, 10]
    assert not caplog.records
    assert (rows["flags"] == 0).all()


def test_split_by_object_counts_shared_sky(caplog):
    with caplog.at_level(logging.WARNING):
        rows, _, _ = run([plan(0, 10, 10, spacing=0.001)], split="object")
    (record,) = caplog.records
    marked = int(np.count_nonzero(rows["flags"] & FLAG_OVERLAP))
    assert 0 < marked < 20
    assert f"{marked} of 20 examples share sky" in record.getMessage()


@pytest.mark.parametrize("balance", ["brick", "global", "none"])
def test_no_example_of_a_class(balance):
    plans = [plan(i, 5, 0) for i in range(5)]
    with pytest.raises(SelectionError, match=r"no fake example survives \(none is left after 'rows'\)"):
        run(plans, balance=balance)


def test_one_class_per_brick_cannot_be_balanced_by_brick():
    plans = [plan(i, 5 * (i % 2), 5 * (1 - i % 2)) for i in range(10)]
    with pytest.raises(SelectionError, match="'brick holds both classes'"):
        run(plans)


def test_every_split_needs_both_classes():
    plans = [plan(i, 5, 5 if i == 0 else 0) for i in range(6)]
    with pytest.raises(SelectionError, match=r"no fake example survives in the (train|val|test) split"):
        run(plans, balance="none")


def test_too_few():
    with pytest.raises(SelectionError, match="2 bricks are too few to split"):
        run([plan(0, 5, 5), plan(1, 5, 5)])
    with pytest.raises(SelectionError, match="2 real examples are too few"):
        run([plan(0, 2, 2)], split="object")
    with pytest.raises(SelectionError, match="no real example survives"):
        run([])


def test_rows_come_sorted_and_grouped():
    rows, group, _ = run(UNEVEN, shard_size=4)
    key = [((b"train", b"val", b"test").index(r["split"]), r["shard"], r["row"]) for r in rows]
    assert key == sorted(key)
    assert group.tolist() == sorted(group.tolist())
    assert rows["shard"].min() == 1
    assert (np.unique(rows["shard"][rows["split"] == b"train"]) > 0).all()


def guarded(ra, dec, split, bricks) -> np.ndarray:
    """What `shared_sky` marks of examples, spread over bricks as they lie on the sky."""
    order = np.argsort(bricks, kind="stable")
    plans = []
    for name in np.unique(bricks):
        mine = order[bricks[order] == name]
        one = plan_of(f"{name:04d}p000", np.zeros(len(mine), int), 0.0, dec[mine])
        one.rows["ra"] = ra[mine]
        plans.append(one)
    shared = np.zeros(len(ra), dtype=bool)
    shared[order] = assembly.shared_sky(
        eligible_of(plans), split[order].astype(np.int8), sharing_width(StampSpec())
    )
    return shared


def test_a_dropped_validation_example_costs_no_training_example():
    # test - val - train in a row, 50 px apart: val goes for test, and then train may stay.
    ra, dec, split = np.zeros(3), np.arange(3) * 50 * PIX, np.array([TEST, VAL, TRAIN])
    for bricks in (np.zeros(3, int), np.arange(3), np.array([2, 0, 1])):
        assert guarded(ra, dec, split, bricks).tolist() == [False, True, False]


def test_examples_that_are_not_used_are_in_nobodys_way():
    ra, dec = np.zeros(3), np.arange(3) * 50 * PIX
    assert not guarded(ra, dec, np.array([assembly.UNUSED, VAL, assembly.UNUSED]), np.arange(3)).any()


@deterministic
@given(st.integers(0, 2**31), st.integers(2, 60), st.integers(1, 5))
def test_what_is_left_shares_no_sky(seed, n, across):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 600, (2, n))
    split = rng.integers(0, 3, n)
    brick = (x * across // 600).astype(int) * across + (y * across // 600).astype(int)
    ra, dec = (0.02 - x * PIX) % 360, y * PIX
    shared = guarded(ra, dec, split, brick)
    np.testing.assert_array_equal(shared, guarded(ra, dec, split, np.zeros(n, int)))
    for i in np.flatnonzero(~shared):
        for j in np.flatnonzero(~shared & (split != split[i])):
            assert max(abs(x[i] - x[j]), abs(y[i] - y[j])) >= 64 - 1e-3
    for i in np.flatnonzero(shared):  # and nothing is dropped in vain
        later = ~shared & (split > split[i])
        assert (np.maximum(abs(x[i] - x[later]), abs(y[i] - y[later])) < 67).any()
    assert not shared[split == TEST].any()


def on_a_grid(side=6, step=0.25):
    """Bricks of a square of the sky, with where their middles are."""
    places = [(10.1 + step * i, 0.3 + step * j) for i in range(side) for j in range(side)]
    return [replace(plan(k, real=4, fake=4), centre=place) for k, place in enumerate(places)]


def test_whole_cells_go_to_one_split():
    one_class = replace(plan(99, real=4, fake=0), centre=(10.1, 0.3))  # not used
    planned, _ = assembled([*on_a_grid(), one_class], split="sky", cell_size=0.5)
    splits = {}
    for row in all_rows(planned):
        splits.setdefault(planned.cells[row["brick"].decode()], set()).add(row["split"])
    assert 9 <= len(splits) <= 16
    assert all(len(some) == 1 for some in splits.values())
    assert {split for some in splits.values() for split in some} == {b"train", b"val", b"test"}
    assert len(planned.cells) == 36
    tests = sum(some == {b"test"} for some in splits.values())
    assert tests == int(np.ceil(0.2 * len(splits)))


def test_a_cell_follows_its_place_and_not_the_other_bricks():
    every, _ = assembled(on_a_grid(), split="sky", cell_size=0.5)
    some, _ = assembled(on_a_grid()[:20], split="sky", cell_size=0.5)
    assert some.cells.items() <= every.cells.items()


def test_cells_may_be_too_few():
    with pytest.raises(SelectionError, match=r"1 cell is too few .* by cell; .* a smaller --cell-size"):
        assembled(on_a_grid(2), split="sky", cell_size=20)


def test_other_splits_have_no_cells():
    planned, _ = assembled(on_a_grid())
    assert planned.cells == {}


def test_exposures_of_the_bricks_that_are_used():
    exposures = np.array([("decam", 5), ("decam", 9)], EXPOSURE)
    plans = [replace(one, exposures=exposures[: 1 + k % 2]) for k, one in enumerate(UNEVEN)]
    plans[3] = replace(plans[3], exposures=None)
    plans.append(replace(plan(30, 7, 0), exposures=exposures))  # of one class: not used
    found = assembled(plans)[0].exposures()
    assert found["brick"].tolist() == sorted(found["brick"].tolist())
    counts = {name.decode(): int((found["brick"] == name).sum()) for name in np.unique(found["brick"])}
    assert counts == {f"{k:04d}p060": 1 + k % 2 for k in range(10) if k != 3}
    assert set(found["expnum"][found["brick"] == b"0001p060"]) == {5, 9}
