"""Store of planned rows: nothing is lost, nothing is mixed up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from obiwan.dplearn.planning.store import RowStore
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.examples import example_dtype
from plans import plan_of

SPEC = StampSpec()


def plans(sizes, rng, spec=SPEC):
    """Bricks of so many examples, with anything in their columns."""
    found = []
    for i, n in enumerate(sizes):
        plan = plan_of(f"{i:04d}p060", np.arange(n) % 2, 10.0 + i, 0.01 * np.arange(n))
        rows = np.frombuffer(bytearray(rng.bytes(n * example_dtype(spec).itemsize)), example_dtype(spec))
        for name in ("label", "ra", "dec"):
            rows[name] = plan.rows[name]
        found.append(plan.__class__(plan.brick, rows, plan.flows, plan.notes, coadds=i))
    return found


@pytest.mark.parametrize("spec", [SPEC, StampSpec(("r",), ("image",), 48)])
def test_rows_come_back_brick_by_brick(spec, rng, tmp_path):
    made = plans([7, 0, 223, 1], rng, spec)
    with RowStore(tmp_path, spec) as store:
        for plan in reversed(made):
            store.append(plan)
        assert list(tmp_path.iterdir()) == []  # it has no name
        eligible = store.eligible()
    for i, plan in enumerate(made):  # also when the file is closed
        assert eligible.rows_of(i).tobytes() == plan.rows.tobytes()
        np.testing.assert_array_equal(eligible.label[eligible.where(i)], plan.rows["label"])
    assert eligible.coadds.tolist() == [0, 1, 2, 3]
    assert len(eligible) == 231


def test_a_store_of_nothing(tmp_path):
    with RowStore(tmp_path, SPEC) as store:
        assert store.eligible().rows.dtype == example_dtype(SPEC)
        assert len(store.eligible()) == 0


def test_bricks_that_may_share_sky(rng, tmp_path):
    made = plans([5, 5, 0, 5], rng)
    made[1].rows["ra"] = made[0].rows["ra"] + 0.001
    with RowStore(tmp_path, SPEC) as store:
        for plan in made:
            store.append(plan)
        eligible = store.eligible()
    assert eligible.near(0, np.radians(0.002)) == eligible.near(1, np.radians(0.002)) == [0, 1]
    assert eligible.near(3, np.radians(0.002)) == [3]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named_by_its_directory(tmp_path):
    """The file has no name of its own."""
    with RowStore(tmp_path, SPEC) as store, Path("/dev/full").open("wb", buffering=0) as full:
        store._file.close()
        store._file = full
        with pytest.raises(OSError, match="No space left on device") as caught:
            store.append(plan_of("0000p060", [0, 1, 1], 10.0, np.arange(3.0)))
    assert caught.value.filename == str(tmp_path)
