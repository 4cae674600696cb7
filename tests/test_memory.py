"""Memory of large arrays: used again when nobody holds a view of it, and never before."""

from __future__ import annotations

import gc
import pickle
import threading

import numpy as np
import pytest

from obiwan.dplearn.files import memory

COUNT = memory.SMALL // 4


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(memory, "_free", memory.defaultdict(list))


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_an_array_gets_the_memory_of_one_that_is_gone():
    first = memory.empty((COUNT,), np.float32)
    place = address(first)
    del first
    again = memory.empty((COUNT // 2, 4), np.dtype("<i2"))  # as many bytes
    assert address(again) == place
    assert (again.shape, again.dtype) == ((COUNT // 2, 4), np.dtype("<i2"))
    assert again.flags.writeable
    assert again.flags.c_contiguous
    assert address(memory.empty((COUNT,), np.float32)) != place


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[5],
        lambda x: x[::2].T,
        lambda x: x.view(np.uint32).reshape(-1)[7:9],
        lambda x: memoryview(x),
        lambda x: np.frombuffer(memoryview(x[1:3]).cast("B"), np.uint8),
    ],
)
def test_whoever_holds_a_view_keeps_the_memory(view):
    """Also a view of a view, and whatever is not an array."""
    array = memory.empty((COUNT // 64, 64), np.float32)
    array[...] = 1
    kept = view(array)
    del array
    gc.collect()
    others = [memory.empty((COUNT // 64, 64), np.float32) for _ in range(3)]
    for other in others:
        other[...] = 2
    assert 0x40 not in np.ascontiguousarray(kept).reshape(-1).view(np.uint8)  # the last byte of 2.0
    del kept
    assert sum(map(len, memory._free.values())) == 1


def test_copies_and_pickles_are_independent():
    array = memory.empty((COUNT,), np.float32)
    array[...] = 3
    copies = [array.copy(), pickle.loads(pickle.dumps(array))]
    del array
    memory.empty((COUNT,), np.float32)[...] = 4
    assert all((copy == 3).all() for copy in copies)


def test_small_arrays_and_more_than_some_are_not_kept():
    memory.empty((10,), np.float64)
    assert not memory._free
    held = [memory.empty((COUNT,), np.float32) for _ in range(memory.KEPT + 3)]
    held.clear()
    assert sum(map(len, memory._free.values())) == memory.KEPT


def test_threads_never_share_memory():
    wrong = []

    def work(number: int) -> None:
        for _ in range(200):
            array = memory.empty((COUNT,), np.float32)
            array[::4096] = number
            if (array[::4096] != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
