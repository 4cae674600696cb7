"""The final list of examples, group by group: which bricks, which of their examples, in which order."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np

from obiwan.dplearn.conventions import SPLITS, Array
from obiwan.dplearn.planning.eligible import Eligible
from obiwan.dplearn.planning.rng import stream
from obiwan.dplearn.trainingset.examples import FLAG_OVERLAP

GROUP_ROWS = 8192  #: most examples in a group of bricks that share their shards


def grouped(sizes: Mapping[str, int], rng: np.random.Generator) -> list[list[str]]:
    """Shuffle bricks and cut them into groups of at most `GROUP_ROWS` examples, or of one brick.

    Parameters
    ----------
    sizes : mapping
        Number of examples of each brick.
    rng : Generator

    Returns
    -------
    list of list of str
    """
    groups: list[list[str]] = []
    filled = GROUP_ROWS
    for name in rng.permutation(sorted(sizes)):
        if filled + sizes[name] > GROUP_ROWS:
            groups.append([])
            filled = 0
        groups[-1].append(str(name))
        filled += sizes[name]
    return groups


@dataclass(frozen=True, slots=True)
class Group:
    """Bricks of one split whose examples are shuffled over shards of their own: the unit of extraction.

    Attributes
    ----------
    split : int
        Position in `SPLITS`.
    bricks : tuple of int
        Positions in the names of `Eligible`.
    first_shard : int
    size : int
        Number of examples.
    """

    split: int
    bricks: tuple[int, ...]
    first_shard: int
    size: int


class Planned:
    """Every example of a training set, sorted by split, shard and row.

    Its rows are put together when they are asked for, a group at a time.

    Parameters
    ----------
    eligible : Eligible
    split : ndarray of int8, shape (n,)
        Of each eligible example its position in `SPLITS`, or -1 where it is not used.
    shared : ndarray of bool, shape (n,)
        Whether it shares sky with an example of another split.
    seed, shard_size : int

    Attributes
    ----------
    groups : tuple of Group
    """

    def __init__(self, eligible: Eligible, split: Array, shared: Array, seed: int, shard_size: int) -> None:
        self._eligible, self._split, self._shared = eligible, split, shared
        self._seed, self._shard_size = seed, shard_size
        self.groups: tuple[Group, ...] = tuple(
            group for value in range(len(SPLITS)) for group in self._groups_of(value)
        )

    def _groups_of(self, split: int) -> Iterator[Group]:
        mine = {
            name: (i, int(np.count_nonzero(self._split[self._eligible.where(i)] == split)))
            for i, name in enumerate(self._eligible.names)
        }
        sizes = {name: size for name, (_, size) in mine.items() if size}
        shard = 1
        for names in grouped(sizes, stream(self._seed, "group", SPLITS[split])):
            size = sum(sizes[name] for name in names)
            yield Group(split, tuple(mine[name][0] for name in names), shard, size)
            shard += ceil(size / self._shard_size)

    def __len__(self) -> int:
        return sum(group.size for group in self.groups)

    def bricks(self, split: int) -> int:
        """Number of bricks of a split."""
        return sum(len(group.bricks) for group in self.groups if group.split == split)

    def rows(self, number: int) -> Array:
        """The examples of a group: rows of EXAMPLE_DTYPE, sorted by shard and row."""
        group = self.groups[number]
        rows = np.concatenate([self._rows_of(brick, group.split) for brick in group.bricks])
        names = sorted(self._eligible.names[brick] for brick in group.bricks)
        rows = rows[stream(self._seed, "shuffle", SPLITS[group.split], *names).permutation(len(rows))]
        rows["split"] = SPLITS[group.split].encode()
        position = np.arange(len(rows))
        rows["shard"], rows["row"] = (
            group.first_shard + position // self._shard_size,
            position % self._shard_size,
        )
        return rows

    def _rows_of(self, brick: int, split: int) -> Array:
        where = self._eligible.where(brick)
        rows = self._eligible.rows(brick)
        rows["flags"][self._shared[where]] |= FLAG_OVERLAP
        mine: Array = rows[self._split[where] == split]
        return mine

    def __iter__(self) -> Iterator[Array]:
        for number in range(len(self.groups)):
            yield self.rows(number)

    @cached_property
    def crc32(self) -> int:
        """CRC-32 (zlib) of all rows."""
        value = 0
        for rows in self:
            value = zlib.crc32(rows.tobytes(), value)
        return value

    @cached_property
    def identity(self) -> dict[str, int]:
        """What a training set is made of, in two numbers: all its rows, and the coadds of their bricks."""
        coadds = np.array([self.coadds(number) for number in range(len(self.groups))], dtype="<u4")
        return {"rows_crc32": self.crc32, "coadds_crc32": zlib.crc32(coadds.tobytes())}

    def coadds(self, number: int) -> int:
        """CRC-32 (zlib) of what names the content of the coadds of a group's bricks."""
        return zlib.crc32(self._eligible.coadds[list(self.groups[number].bricks)].tobytes())
