"""The output directory: what is refused, what is taken up again, what is removed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from obiwan.dplearn.cutting.extraction import GroupTask, Receipt
from obiwan.dplearn.cutting.workspace import (
    begin,
    check_outdir,
    check_place,
    describe,
    finish,
    finished_receipt,
    training_directory,
)
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.plan import Plan
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.layouts import LAYOUTS, RELEASE, Root
from obiwan.dplearn.trainingset.examples import blank_examples
from obiwan.dplearn.trainingset.manifest import WORK
from plans import eligible_of, plan_of
from tables import write_shard

REQUEST = {"config": {"seed": 1}, "roots": []}


def test_a_request_names_roots_without_their_paths(tmp_path):
    roots = [Root(0, tmp_path / "x" / "runs", LAYOUTS[0]), Root(1, tmp_path / "dr9" / "south", RELEASE)]
    text = json.dumps(describe({"seed": 3}, roots))
    assert str(tmp_path) not in text
    assert [root["name"] for root in json.loads(text)["roots"]] == ["runs", "dr9/south"]


def test_states_of_an_outdir(tmp_path):
    outdir = tmp_path / "a" / "b"
    assert check_outdir(outdir, REQUEST, overwrite=False) is False  # it and its parent are not there yet
    begin(outdir, REQUEST, planned(), overwrite=False)
    assert check_outdir(outdir, REQUEST, overwrite=False) is False  # interrupted
    with pytest.raises(TrainingSetError, match=r"holds another training set \(config.seed was 1, is 2\)"):
        check_outdir(outdir, {**REQUEST, "config": {"seed": 2}}, overwrite=False)
    (outdir / "manifest.json").write_text(json.dumps({**REQUEST, "more": 1}))
    with pytest.raises(TrainingSetError, match=r"holds another training set \(config.seed was 1, is 2\)"):
        check_outdir(outdir, {**REQUEST, "config": {"seed": 2}}, overwrite=False)
    assert (outdir / WORK).exists()  # who is refused changes nothing
    assert check_outdir(outdir, REQUEST, overwrite=False) is True
    assert not (outdir / WORK).exists()  # left by a run that was killed at its very end
    assert check_outdir(outdir, {"config": 0, "roots": []}, overwrite=True) is False


def planned(x: float = 0.0) -> Plan:
    """Two examples at this column of their coadds."""
    plan = plan_of("0000p000", [0, 1], 10.0, np.array([0.0, 1.0]))
    plan.rows["x"] = x
    return Plan(eligible_of([plan]), np.zeros(2, np.int8), np.zeros(2, bool), TrainingConfig(seed=1))


def test_other_rows_are_other_inputs(tmp_path):
    begin(tmp_path / "out", REQUEST, planned(), overwrite=False)
    begin(tmp_path / "out", REQUEST, planned(), overwrite=False)
    with pytest.raises(TrainingSetError, match="rows_crc32 was"):
        begin(tmp_path / "out", REQUEST, planned(3.0), overwrite=False)
    begin(tmp_path / "out", REQUEST, planned(3.0), overwrite=True)


def test_only_our_own_files_are_removed(tmp_path):
    ours = ["xtrain_1.npy", "ytest_23.npy", "manifest.json", "sources.fits"]
    theirs = ["notes.txt", "xtrain.npy", "xmine_1.npy", "model.keras", "sources.fits.bak"]
    for name in ours + theirs:
        (tmp_path / name).touch()
    (tmp_path / WORK).mkdir()
    training_directory(tmp_path).clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(theirs)
    training_directory(tmp_path / "absent").clear()


def written(tmp_path) -> GroupTask:
    (tmp_path / WORK).mkdir()
    rows = blank_examples(3, StampSpec())
    rows["split"], rows["shard"], rows["row"] = "train", 1, np.arange(3)
    shard = write_shard(tmp_path, "train", 1, np.ones((3, 64, 64, 6), "<f4"), np.zeros(3, "u1"))
    task = GroupTask(0, tmp_path, tmp_path / WORK, StampSpec(), rows, {})
    content = {"shards": [vars(shard)], "not_finite": 4, "negative_invvar": 5, "coadds_crc32": 0}
    task.receipt.write_text(json.dumps(content))
    return task


def test_a_receipt_is_believed_while_its_shards_are_whole(tmp_path):
    task = written(tmp_path)
    receipt = finished_receipt(task)
    assert (receipt.examples, receipt.not_finite, receipt.negative_invvar) == (3, 4, 5)
    assert finished_receipt(replace(task, number=1)) is None


@pytest.mark.parametrize("name", ["xtrain_1.npy", "ytrain_1.npy"])
def test_a_receipt_of_damaged_shards_is_not(name, tmp_path):
    task = written(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1] + b"\x07")
    assert finished_receipt(task) is None
    (tmp_path / name).unlink()
    assert finished_receipt(task) is None


@pytest.mark.parametrize(
    "change",
    [
        {"shards": []},
        {"not_finite": float("inf")},
        {"negative_invvar": -1},
        {"coadds_crc32": 7},
        {"split": "val"},
        {"number": 2},
        {"rows": 2, "real": 2},
        {"real": 2, "fake": 1},
    ],
)
def test_a_receipt_of_something_else_is_none(change, tmp_path):
    """The checksums of its shards may be sound all the same."""
    task = written(tmp_path)
    for kind in "xy":  # files of the names that it might say
        for name in (f"{kind}val_1.npy", f"{kind}train_2.npy"):
            (tmp_path / name).write_bytes((tmp_path / f"{kind}train_1.npy").read_bytes())
    content = json.loads(task.receipt.read_text())
    of_shard = {name: value for name, value in change.items() if name in content["shards"][0]}
    content["shards"][0] |= of_shard
    content |= {name: value for name, value in change.items() if name not in of_shard}
    task.receipt.write_text(json.dumps(content))
    assert finished_receipt(task) is None


def test_a_manifest_vouches_for_all_that_was_planned(tmp_path):
    scratch = begin(tmp_path / "out", REQUEST, planned(), overwrite=False)
    with pytest.raises(TrainingSetError, match="0 examples were written and 2 planned"):
        finish(tmp_path / "out", scratch, REQUEST, planned(), [Receipt((), 0, 0)])
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_places_where_no_set_belongs(tmp_path):
    (tmp_path / "dr9").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "dr9")
    roots = [Root(1, tmp_path / "dr9", RELEASE)]
    check_place(tmp_path / "dr9b", roots)
    for name in ("dr9", "dr9/sets/new", "link/new"):
        with pytest.raises(TrainingSetError, match=r"lies in .*dr9, a tree that is read; choose an --outdir"):
            check_place(tmp_path / name, roots)


def test_a_link_to_nothing_is_no_place(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("link", "link/new"):
        with pytest.raises(TrainingSetError, match=r"cannot write there \(not a writable directory\)"):
            check_outdir(tmp_path / name, REQUEST, overwrite=False)


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"shards": [{}], "not_finite": 0}'])
def test_a_broken_receipt_is_no_receipt(content, tmp_path):
    task = written(tmp_path)
    task.receipt.write_text(content)
    assert finished_receipt(task) is None
