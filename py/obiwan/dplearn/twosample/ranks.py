"""Ranks: scores and names as numbers from 0, also within strata; millions of them are sorted once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from obiwan.dplearn.stampspec import Array

_SPARSE = 8  #: whole numbers below so many times their count are numbered without sorting them


def numbered(values: Array) -> Array:
    """Dense ranks: numbers from 0 in the order of the values, equal ones alike; whole numbers are not sorted.

    Everything here that rests on ranks gives the same numbers for scores and for their dense ranks, so that
    millions of scores need be sorted once.

    Examples
    --------
    >>> numbered(np.array([0.3, 0.1, 0.3, 7.0])), numbered(np.array([5, 2, 5, 9]))
    (array([1, 0, 1, 2]), array([1, 0, 1, 2]))
    """
    values = np.asarray(values)
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    if (
        values.dtype.kind in "iu"
        and len(values)
        and values.min() >= 0
        and values.max() < _SPARSE * len(values)
    ):
        present = np.zeros(int(values.max()) + 1, np.intp)
        present[values] = 1
        return np.asarray((np.cumsum(present) - 1)[values])
    return np.unique(values, return_inverse=True)[1].ravel()


def count_different(values: Array) -> int:
    """Number of different values."""
    return int(numbered(values).max(initial=-1)) + 1


def cluster_numbers(clusters: Array | None, n: int) -> Array:
    """The clusters of n examples as numbers from 0, each its own without any."""
    return np.arange(n) if clusters is None else numbered(clusters)


@dataclass(frozen=True)
class Strata:
    """Order of scores within strata.

    Attributes
    ----------
    number : ndarray of int, shape (n,)
        Stratum of each example, from 0.
    place : ndarray of int, shape (n,)
        Dense rank of each example by stratum, then score.
    stratum : ndarray of int, shape (places,)
        Stratum of each place.
    first : ndarray of int, shape (strata,)
        First place of each stratum.
    """

    number: Array
    place: Array
    stratum: Array
    first: Array

    @classmethod
    def of(cls, scores: Array, strata: Array | None = None) -> Strata:
        """Order of scores within strata; in one stratum without any."""
        level = numbered(scores)
        number = np.zeros(len(level), np.intp) if strata is None else numbered(strata)
        place = level if strata is None else numbered(number * (level.max(initial=0) + 1) + level)
        stratum = np.zeros(place.max(initial=-1) + 1, np.intp)
        stratum[place] = number
        return cls(number, place, stratum, np.searchsorted(stratum, np.arange(number.max(initial=-1) + 1)))

    def counts(self, members: Array | None = None) -> Array:
        """Number of (some) examples in each stratum."""
        return np.bincount(self._some(self.number, members), minlength=len(self.first))

    def below(self, members: Array | None = None) -> Array:
        """Number of (some) examples of its stratum below each place, those at it half."""
        here = np.bincount(self._some(self.place, members), minlength=len(self.stratum))
        before = np.concatenate([[0], np.cumsum(here)])
        return np.asarray(before[1:] - here / 2 - before[self.first][self.stratum])

    def midranks(self) -> Array:
        """Mid-rank of each example in its stratum, from 1."""
        return np.asarray(self.below()[self.place] + 0.5)

    @staticmethod
    def _some(values: Array, members: Array | None) -> Array:
        return values if members is None else values[members]


def placements(fake: Array, scores: Array, strata: Array | None = None) -> Array:
    """Placement of each example: the fraction of its stratum's other class that it is on the right side of.

    NaN in strata that lack the other class.
    """
    order, placed = Strata.of(scores, strata), np.empty(len(scores))
    for name, members in (("fake", fake), ("real", ~fake)):
        with np.errstate(invalid="ignore"):
            below = order.below(~members) / order.counts(~members)[order.stratum]
        placed[members] = (below if name == "fake" else 1 - below)[order.place[members]]
    return placed
