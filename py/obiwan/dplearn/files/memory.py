"""Memory of large arrays, used again: fresh pages take the system longer than reading what fills them."""

from __future__ import annotations

import math
import weakref
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALL = 1 << 20  #: bytes below which memory is not kept
KEPT = 16  #: blocks of one size that are kept while nobody uses them, at most

_free: defaultdict[int, list[NDArray[np.uint8]]] = defaultdict(list)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any] | type) -> NDArray[Any]:
    """Array with undefined values, as ``numpy.empty`` makes it, in memory that an earlier one has left.

    The memory is free again when the array and all views of it are gone.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype

    Returns
    -------
    ndarray
    """
    count = math.prod(shape) * np.dtype(dtype).itemsize
    if count < SMALL:
        return np.empty(shape, dtype)
    size = 1 << (count - 1).bit_length()  # what is never written to takes no memory
    try:
        block = _free[size].pop()
    except IndexError:
        block = np.empty(size, np.uint8)
    lent = np.frombuffer(block.data[:count], np.uint8)  # views of it refer to it, and not to the block
    weakref.finalize(lent, _take_back, block).atexit = False
    return lent.view(dtype).reshape(shape)


def _take_back(block: NDArray[np.uint8]) -> None:
    """Keep a block for the next array of its size."""
    kept = _free[block.size]
    if len(kept) < KEPT:
        kept.append(block)
