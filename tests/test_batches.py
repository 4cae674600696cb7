"""Order, ranks and resumption of the batches; every example carries its number in a pixel."""

import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest

from numbered_set import make_set
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.training.batches import Batches, ahead, in_order, sample
from obiwan.dplearn.training.distributed import World
from obiwan.dplearn.training.settings import FeedConfig


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_set(
        tmp_path_factory.mktemp("set") / "set", {"train": [9, 9, 9, 9, 5], "val": [4, 3], "test": [4]}
    )


def numbers(batches, epoch, start=0):
    """The example numbers of an epoch, shape (steps, batch)."""
    return np.array([x[:, 0, 0, 0] for x, _ in batches.epoch(epoch, start)], int)


def test_each_example_at_most_once_and_labels_go_along(small):
    batches = Batches(small, "train", FeedConfig(batch_size=4, seed=1, window=2))
    assert batches.steps == 10
    seen = []
    for x, y in batches.epoch(0):
        assert x.shape == (4, 64, 64, 6)
        assert np.array_equal(x[:, 0, 0, 0] % 2, y)
        seen += x[:, 0, 0, 0].tolist()
    assert len(set(seen)) == len(seen) == 40


def test_order_is_of_seed_and_epoch(small):
    config = FeedConfig(batch_size=4, seed=1, window=2)
    first = numbers(Batches(small, "train", config), 0)
    assert np.array_equal(first, numbers(Batches(small, "train", config), 0))
    assert not np.array_equal(first, numbers(Batches(small, "train", config), 1))
    other = FeedConfig(batch_size=4, seed=2, window=2)
    assert not np.array_equal(first, numbers(Batches(small, "train", other), 0))


def test_windows_mix_shards_and_every_window_is_used(small):
    one = numbers(Batches(small, "train", FeedConfig(batch_size=9, seed=1, window=1)), 0)
    many = numbers(Batches(small, "train", FeedConfig(batch_size=9, seed=1, window=5)), 0)
    assert np.mean([len(set(row // 9)) for row in one]) < 2.1
    assert min(len(set(row // 9)) for row in many) >= 3


@pytest.mark.parametrize("size", range(1, 8))
def test_ranks_take_equal_steps_of_different_examples(small, size):
    config = FeedConfig(batch_size=3, seed=4, window=2)
    for epoch in range(2):
        parts = [numbers(Batches(small, "train", config, World(rank, size)), epoch) for rank in range(size)]
        assert {len(part) for part in parts} == {41 // (3 * size)}
        seen = np.concatenate(parts).ravel()
        assert len(set(seen)) == len(seen)


def test_remainder_rotates(small):
    batches = Batches(small, "train", FeedConfig(batch_size=20, seed=0))
    left_out = {(set(range(41)) - set(numbers(batches, epoch).ravel())).pop() for epoch in range(6)}
    assert len(left_out) > 2


@pytest.mark.parametrize("start", [0, 1, 4, 5, 9, 10])
@pytest.mark.parametrize("augment", [False, True])
def test_resumes_in_mid_epoch(small, start, augment):
    batches = Batches(small, "train", FeedConfig(batch_size=4, seed=1, window=2, augment=augment))
    whole = [x for x, _ in batches.epoch(3)]
    rest = [x for x, _ in batches.epoch(3, start)]
    assert len(rest) == 10 - start
    assert all(np.array_equal(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_resuming_does_not_read_what_was_seen(small):
    read = []
    watched = replace(small, read=lambda shard: read.append(shard) or small.read(shard))
    batches = Batches(watched, "train", FeedConfig(batch_size=4, seed=1, window=1))
    list(batches.epoch(0, 9))
    assert len(read) <= 2


def test_augmentation_turns_and_flips(small):
    batches = Batches(small, "train", FeedConfig(batch_size=40, seed=1, augment=True))
    ((x, _),) = batches.epoch(0)
    (plain,) = (x for x, _ in Batches(small, "train", FeedConfig(batch_size=40, seed=1)).epoch(0))
    corners = x[:, [0, 0, 63, 63], [0, 63, 0, 63], 0]
    assert np.array_equal(corners.sum(1), plain[:, 0, 0, 0])
    assert len(set(corners.argmax(1)[corners.any(1)])) == 4
    stamp = np.arange(64 * 64 * 6, dtype="f4").reshape(64, 64, 6)
    turned = batches._turned(np.stack([stamp] * 200), 0, 0)
    assert len({t.tobytes() for t in turned}) == 8
    assert all(np.array_equal(np.sort(t[..., 5].ravel()), np.sort(stamp[..., 5].ravel())) for t in turned[:8])


def test_in_order_and_sample(small):
    labels = np.concatenate([y for _, y in in_order(small, "val", 2)])
    rows = np.concatenate([x[:, 0, 0, 0] for x, _ in in_order(small, "val", 2)])
    assert np.array_equal(rows, np.arange(7))
    assert np.array_equal(labels, rows % 2)
    drawn = sample(small, "train", 12, seed=0)[:, 0, 0, 0]
    assert len(set(drawn)) == 12
    assert np.array_equal(drawn, sample(small, "train", 12, seed=0)[:, 0, 0, 0])
    assert len(sample(small, "train", 1000, seed=0)) <= 41


def shards_alive(stamp_set):
    """The same set, and a function that counts its shards in memory."""
    known = []

    def noted(shard):
        x, y = stamp_set.read(shard)
        known.append(weakref.ref(x.base if x.base is not None else x))
        return x, y

    return replace(stamp_set, read=noted), lambda: sum(one() is not None for one in known)


def test_two_windows_are_in_memory_at_most(small):
    """The one in use and the next."""
    watched, alive = shards_alive(small)
    batches = Batches(watched, "train", FeedConfig(batch_size=4, seed=1, window=2))
    assert max(alive() for epoch in range(3) for _ in batches.epoch(epoch)) <= 4
    assert alive() == 0


@pytest.mark.parametrize("start", [0, 3, 10])
@pytest.mark.parametrize("augment", [False, True])
def test_epochs_follow_each_other(small, start, augment):
    batches = Batches(small, "train", FeedConfig(batch_size=4, seed=1, window=2, augment=augment))
    alone = [*batches.epoch(1, start), *batches.epoch(2), *batches.epoch(3)]
    together = list(batches.epochs(1, 4, start))
    assert len(together) == 3 * batches.steps - start
    for (x, y), (other_x, other_y) in zip(alone, together, strict=True):
        assert np.array_equal(x, other_x)
        assert np.array_equal(y, other_y)


def test_the_next_epoch_is_read_while_the_last_batches_are_used(small):
    read = threading.Semaphore(0)

    def counted(shard):
        read.release()
        return small.read(shard)

    batches = Batches(replace(small, read=counted), "train", FeedConfig(batch_size=4, seed=1, window=2))
    stream = batches.epochs(0, 2)
    for _ in range(batches.steps):
        next(stream)
    assert all(read.acquire(timeout=20) for _ in range(5 + 2))  # shards of one epoch, and a window
    assert not read.acquire(timeout=0.1)
    stream.close()


def test_epochs_side_by_side_do_not_overwrite_each_other(small):
    batches = Batches(small, "train", FeedConfig(batch_size=4, seed=1, window=2))
    alone = [numbers(batches, epoch) for epoch in (0, 1)]
    pairs = [
        (a[0][:, 0, 0, 0], b[0][:, 0, 0, 0]) for a, b in zip(batches.epoch(0), batches.epoch(1), strict=True)
    ]
    together = np.array(pairs, int).swapaxes(0, 1)
    assert np.array_equal(together, alone)


def test_two_shards_are_in_memory_in_order(tmp_path):
    many, alive = shards_alive(make_set(tmp_path / "set", {"train": [3] * 12}))
    seen = [(x[:, 0, 0, 0].copy(), alive()) for x, _ in in_order(many, "train", 2)]
    assert np.array_equal(np.concatenate([x for x, _ in seen]), np.arange(36))
    assert max(count for _, count in seen) <= 2


def test_reads_one_ahead_and_no_more():
    started = []
    gate = threading.Event()

    def load(i):
        started.append(i)
        gate.set()
        return i

    stream = ahead(load, range(10))
    assert next(stream) == 0
    gate.wait(5)
    assert max(started) <= 1
    assert list(stream) == list(range(1, 10))


def test_a_corrupt_shard_ends_the_epoch(tmp_path):
    made = make_set(tmp_path / "set", {"train": [4, 4]})
    path = made.directory / "xtrain_2.npy"
    raw = bytearray(path.read_bytes())
    raw[5000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(TrainingSetError, match=r"xtrain_2\.npy: checksum differs"):
        list(Batches(made, "train", FeedConfig(batch_size=2)).epoch(0))


def test_refusals(small):
    with pytest.raises(TrainingSetError, match="smaller --batch-size"):
        Batches(small, "train", FeedConfig(batch_size=42))
    with pytest.raises(TrainingSetError, match=r"on 7 rank\(s\)"):
        Batches(small, "train", FeedConfig(batch_size=6), World(0, 7))
    for bad in ({"batch_size": 0}, {"seed": -1}, {"window": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            FeedConfig(**bad)
    with pytest.raises(ValueError, match="rank"):
        World(2, 2)
