"""Who trains: one process, or one rank of many.

The serial world is the default and does nothing; what a distributed one must do stands here as methods,
so that `obiwan.dplearn.batches` and `obiwan.dplearn.training` need not know which they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class World:
    """A serial run, or the base of a distributed one.

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

    def average_gradients(self, gradients: Sequence[Any]) -> list[Any]:
        """Gradients averaged over the ranks; called inside the compiled train step."""
        return list(gradients)

    def average(self, value: float) -> float:
        """A metric averaged over the ranks."""
        return value

    def broadcast(self, variables: Sequence[Any]) -> None:
        """Give every rank the first one's values of Keras variables."""
