"""Distributed training: one process, or one rank of many.

The serial world is the default and does nothing; what a distributed one does has the same methods,
so that `obiwan.dplearn.training.batches` and `obiwan.dplearn.training.trainer` work with either.
`obiwan.dplearn.training.engines` makes the world of a launched process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import DplearnError


@dataclass(frozen=True)
class World:
    """A serial run, and the base of a distributed one.

    Attributes
    ----------
    rank : int
        This process, from 0.
    size : int
        How many there are.
    """

    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        """Refuse a rank outside the world."""
        if not 0 <= self.rank < self.size:
            msg = f"rank must be in 0..{self.size - 1}, got {self.rank}"
            raise ValueError(msg)

    @property
    def leads(self) -> bool:
        """Whether this rank writes files, logs and bars."""
        return self.rank == 0

    def part(self, items: Sequence[Any]) -> list[Any]:
        """The stretch of a sequence that is this rank's; those of all ranks, in order, are the whole."""
        begin, end = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return list(items[begin:end])

    def average(self, tensors: Sequence[Any]) -> list[Any]:
        """Tensors averaged over the ranks; called inside the train step."""
        return list(tensors)

    def broadcast(self, variables: Sequence[Any]) -> None:
        """Give every rank the first one's values of Keras variables."""

    def share(self, value: Any) -> Any:
        """The first rank's value, on every rank."""
        return value

    def gather(self, array: NDArray[Any]) -> NDArray[Any]:
        """The arrays of all ranks, joined along the first axis in the order of the ranks."""
        return array

    @contextmanager
    def together(self) -> Iterator[None]:
        """A stretch of work without messages between the ranks, after which all go on, or none.

        An error of one rank ends all; where several have one, the lowest of them tells it.
        """
        yield


SERIAL = World()


@dataclass(frozen=True)
class Ranks(World):
    """One rank of many, whatever the engine."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """The ranks agree on who failed first; all but that one end without a word."""
        failure: Exception | None = None
        try:
            yield
        except (DplearnError, OSError) as error:
            failure = error
        failed = np.flatnonzero(self.gather(np.array([failure is not None], np.uint8)))
        if not len(failed):
            return
        if failure is not None and self.rank == failed[0]:
            raise failure
        raise SystemExit(1)
