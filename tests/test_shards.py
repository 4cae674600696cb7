"""The format on disk: plain npy, whole or absent, vouched for by the manifest."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict

import numpy as np
import pytest

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.files.atomic import write_json
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.manifest import FORMAT, FORMAT_VERSION, MANIFEST, WORK
from obiwan.dplearn.trainingset.shards import Shard, read_shard
from obiwan.dplearn.trainingset.stampset import open_training_set
from sealing import seal
from tables import write_shard

SPEC = StampSpec()


@pytest.fixture
def stamps(rng) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(4, 64, 64, 6)).astype("<f4"), np.array([0, 1, 1, 0], "u1")


def finished(directory, stamps) -> dict:
    """A training set of one shard per split."""
    (directory / WORK).mkdir(parents=True)
    shards = [write_shard(directory, split, 1, *stamps) for split in ("train", "val", "test")]
    manifest = {
        **{"format": FORMAT, "format_version": FORMAT_VERSION, **SPEC.to_manifest()},
        "shards": [asdict(shard) for shard in shards],
    }
    (directory / MANIFEST).write_text(json.dumps(manifest))
    seal(directory)
    return manifest


def test_files_are_those_of_numpy_save(tmp_path, stamps):
    (tmp_path / WORK).mkdir()
    shard = write_shard(tmp_path, "val", 12, *stamps)
    assert (shard.rows, shard.real, shard.fake) == (4, 2, 2)
    for name, array, crc in (("x", stamps[0], shard.x_crc32), ("y", stamps[1], shard.y_crc32)):
        np.save(tmp_path / "reference.npy", array)
        content = (tmp_path / f"{name}val_12.npy").read_bytes()
        assert content == (tmp_path / "reference.npy").read_bytes()
        assert crc == zlib.crc32(content)
    assert list((tmp_path / WORK).iterdir()) == []
    x, y = read_shard(tmp_path, SPEC, shard)
    np.testing.assert_array_equal(x, stamps[0])
    np.testing.assert_array_equal(y, stamps[1])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x, y: (x.astype(">f4"), y),
        lambda x, y: (x.astype("f8"), y),
        lambda x, y: (x[:, :32], y),
        lambda x, y: (np.asfortranarray(x), y),
        lambda x, y: (x[..., :3], y),
        lambda x, y: (x, y[:3]),
        lambda x, y: (x, y.astype("i4")),
        lambda x, y: (x[:0], y[:0]),
    ],
)
def test_nothing_else_is_written(spoil, tmp_path, stamps):
    (tmp_path / WORK).mkdir()
    with pytest.raises(ValueError, match="must be"):
        write_shard(tmp_path, "train", 1, *spoil(*stamps))
    assert not list(tmp_path.glob("*.npy"))


def test_a_finished_set_opens(tmp_path, stamps):
    finished(tmp_path, stamps)
    training = open_training_set(tmp_path)
    assert [shard.split for shard in training.shards] == ["train", "val", "test"]
    assert training.count("test") == (2, 2)
    (shard,) = training.split("val")
    np.testing.assert_array_equal(training.read(shard)[0], stamps[0])
    before = training.checksum
    stamps[0][0, 0, 0, 0] += 1
    finished(tmp_path / "other", stamps)
    assert open_training_set(tmp_path / "other").checksum != before


@pytest.mark.parametrize("name", ["xtrain_1.npy", "ytest_1.npy"])
def test_a_corrupted_shard_is_named(name, tmp_path, stamps):
    finished(tmp_path, stamps)
    training = open_training_set(tmp_path)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1  # a single bit
    path.write_bytes(content)
    (shard,) = training.split(name[1:].split("_")[0])
    with pytest.raises(TrainingSetError, match=rf"{name}: checksum differs .*--overwrite"):
        training.read(shard)
    path.write_bytes(content[:-100])
    with pytest.raises(TrainingSetError, match=rf"{name}: checksum differs"):
        training.read(shard)
    path.unlink()
    with pytest.raises(TrainingSetError, match=rf"{name}: .*not there"):
        training.read(shard)
    with pytest.raises(TrainingSetError, match=rf"{name}: .*not there"):
        open_training_set(tmp_path)
    path.mkdir()
    with pytest.raises(TrainingSetError, match=rf"{name}: not a file; .*--overwrite"):
        open_training_set(tmp_path)


def test_one_of_many_ranks_looks_at_the_files(tmp_path, stamps):
    finished(tmp_path, stamps)
    path = tmp_path / "xval_1.npy"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(TrainingSetError, match=r"xval_1.npy: truncated, 5000 bytes"):
        open_training_set(tmp_path)
    training = open_training_set(tmp_path, files=False)  # reading finds out
    with pytest.raises(TrainingSetError, match=r"xval_1.npy: checksum differs"):
        training.read(training.split("val")[0])


def test_pickled_arrays_are_never_loaded(tmp_path):
    np.save(tmp_path / "xtrain_1.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "ytrain_1.npy", np.zeros(1, "u1"))
    crc = [zlib.crc32((tmp_path / f"{axis}train_1.npy").read_bytes()) for axis in "xy"]
    with pytest.raises(
        TrainingSetError, match=r"xtrain_1.npy: object of shape .* not what the manifest says"
    ):
        read_shard(tmp_path, SPEC, Shard("train", 1, 1, 1, 0, *crc))


def test_a_shard_of_another_size_than_the_manifest_says(tmp_path, stamps):
    (tmp_path / WORK).mkdir()
    shard = write_shard(tmp_path, "train", 1, *stamps)
    other = Shard("train", 1, 5, 3, 2, shard.x_crc32, shard.y_crc32)
    with pytest.raises(
        TrainingSetError, match=r"xtrain_1.npy: float32 of shape .* not what the manifest says"
    ):
        read_shard(tmp_path, SPEC, other)


@pytest.mark.parametrize("spoil", [lambda x: x.astype(">f4"), np.asfortranarray, lambda x: x.astype("f8")])
def test_a_file_of_another_kind_with_the_right_checksum(spoil, tmp_path, stamps):
    np.save(tmp_path / "xtrain_1.npy", spoil(stamps[0]))
    np.save(tmp_path / "ytrain_1.npy", stamps[1])
    crc = [zlib.crc32((tmp_path / f"{axis}train_1.npy").read_bytes()) for axis in "xy"]
    with pytest.raises(TrainingSetError, match=r"xtrain_1.npy: .*not what the manifest says"):
        read_shard(tmp_path, SPEC, Shard("train", 1, 4, 2, 2, *crc))


def test_damage_is_not_hidden(tmp_path, stamps):
    finished(tmp_path, stamps)
    training = open_training_set(tmp_path)
    shard = training.split("train")[0]
    path = tmp_path / shard.x_name
    content = path.read_bytes()
    for damaged in (content[:-4], content[:4000], content + b"\0" * 9000, b"", content[:-1] + b"\1"):
        path.write_bytes(damaged)
        with pytest.raises(TrainingSetError, match=rf"{shard.x_name}: checksum differs"):
            training.read(shard)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("channels", ["g", "r", "z"]),
        ("bands", ["g", "r", "w"]),
        ("planes", ["ivar"]),
        ("stamp", 32.5),
        ("format", "something"),
        ("format_version", 99),
        ("labels", {"real": 1}),
    ],
)
def test_another_format_is_refused(key, value, tmp_path, stamps):
    finished(tmp_path, stamps)
    seal(tmp_path, **{key: value})
    with pytest.raises(TrainingSetError, match=rf"manifest.json: .*{key[:5]}.*make the training set again"):
        open_training_set(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '{"format": 3}'])
def test_unreadable_manifest(content, tmp_path, stamps):
    finished(tmp_path, stamps)
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(TrainingSetError, match=r"manifest.json: .*make the training set again"):
        open_training_set(tmp_path)


@pytest.mark.parametrize(
    "change", [{"split": "../../etc/passwd"}, {"rows": 0}, {"number": "1"}, {"real": -1}, {"extra": 1}]
)
def test_entries_that_make_no_sense(change, tmp_path, stamps):
    manifest = finished(tmp_path, stamps)
    manifest["shards"][0] |= change
    seal(tmp_path, shards=manifest["shards"])
    with pytest.raises(TrainingSetError, match=r"manifest.json: not a readable manifest"):
        open_training_set(tmp_path)


def test_a_shard_that_is_listed_twice(tmp_path, stamps):
    entries = finished(tmp_path, stamps)["shards"]
    seal(tmp_path, shards=[*entries, *entries[:1] * 5])
    with pytest.raises(TrainingSetError, match=r"manifest.json: .*it names a shard twice"):
        open_training_set(tmp_path)


def test_a_manifest_without_its_checksum(tmp_path, stamps):
    manifest = finished(tmp_path, stamps)
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(TrainingSetError, match=r"manifest.json: .*its checksum does not fit its content"):
        open_training_set(tmp_path)


def test_sets_that_are_not_there(tmp_path, stamps):
    with pytest.raises(TrainingSetError, match="no such directory; make one with"):
        open_training_set(tmp_path / "absent")
    with pytest.raises(TrainingSetError, match="holds no training set"):
        open_training_set(tmp_path)
    finished(tmp_path, stamps)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(TrainingSetError, match="is not finished: start create_training again"):
        open_training_set(tmp_path)


def test_json_is_whole_or_absent(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()
    write_json(tmp_path / "a.json", {"x": [1]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1]}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
