"""Referee protocol: what scores stamps, whatever it is made of."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.stampspec import Array


@runtime_checkable
class Referee(Protocol):
    """Anything that scores stamps.

    Attributes
    ----------
    name : str
        For people.
    checksum : str
        Name of what it computes: equal where all scores are equal.
    learnt : bool
        Whether it fitted its training set; what has not learnt says nothing about galaxies.
    """

    @property
    def name(self) -> str:
        """Name for people."""

    @property
    def checksum(self) -> str:
        """Name of what it computes."""

    @property
    def learnt(self) -> bool:
        """Whether it fitted its training set."""

    def predict(self, stamps: NDArray[np.float32], rows: Array) -> NDArray[np.float32]:
        """Score stamps.

        Parameters
        ----------
        stamps : ndarray of float32, shape (n, size, size, channels)
            Raw pixels, as the training set has them.
        rows : structured ndarray, shape (n,)
            What the catalogue says of each (`obiwan.dplearn.trainingset.visibility.visible_rows`).

        Returns
        -------
        ndarray of float32, shape (n,)
            From 0 (real) to 1 (fake).
        """
        ...


@runtime_checkable
class Portable(Referee, Protocol):
    """A referee that can be sent to workers."""

    def portable(self) -> Referee | None:
        """A referee that can be pickled and gives the same scores; None where this process alone should."""


@runtime_checkable
class Trainable(Referee, Protocol):
    """A referee that can be trained anew, as ablations and the sensitivity test need it."""

    def fit(self, stamps: NDArray[np.float32], rows: Array, labels: NDArray[np.uint8]) -> Referee:
        """Train a new referee of the same kind; this one stays as it is.

        Parameters
        ----------
        stamps, rows
            As for `Referee.predict`.
        labels : ndarray of uint8, shape (n,)
            0 (real) or 1 (fake).
        """
        ...
