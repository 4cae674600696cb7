"""Plan of a training set: every example with its split, shard and row, in groups of bricks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np

from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.splits import sky_cells
from obiwan.dplearn.planning.store import Eligible
from obiwan.dplearn.running.streams import stream
from obiwan.dplearn.stampspec import SPLITS, Array
from obiwan.dplearn.trainingset.examples import FLAG_OVERLAP
from obiwan.dplearn.trainingset.exposures import exposures_of, no_exposures


def grouped(sizes: Mapping[str, int], most: int, rng: np.random.Generator) -> list[list[str]]:
    """Shuffle bricks and cut them into groups of at most `most` examples, or of one brick.

    Parameters
    ----------
    sizes : mapping
        Number of examples of each brick.
    most : int
    rng : Generator

    Returns
    -------
    list of list of str
    """
    groups: list[list[str]] = []
    filled = most
    for name in rng.permutation(sorted(sizes)):
        if filled + sizes[name] > most:
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
    start, size : int
        Where its examples begin in the plan, and how many they are.
    """

    split: int
    bricks: tuple[int, ...]
    first_shard: int
    start: int
    size: int

    @property
    def where(self) -> slice:
        """Positions of its examples in the plan."""
        return slice(self.start, self.start + self.size)


class Plan:
    """Every example of a training set, ordered by split, shard and row.

    Parameters
    ----------
    eligible : Eligible
    split : ndarray of int8, shape (n,)
        Of each eligible example its position in `SPLITS`, or -1 where it is not used.
    shared : ndarray of bool, shape (n,)
        Whether it shares sky with an example of another split.
    config : TrainingConfig

    Attributes
    ----------
    spec : StampSpec
    flows, writers, dithered, damaged
        As in `Eligible`.
    groups : tuple of Group
    """

    def __init__(self, eligible: Eligible, split: Array, shared: Array, config: TrainingConfig) -> None:
        self._eligible, self._split, self.spec = eligible, split, config.spec
        self.flows, self.writers, self.dithered = eligible.flows, eligible.writers, eligible.dithered
        self.damaged = eligible.damaged
        self._seed, self._shard_rows = config.seed, config.shard_rows
        self._cell_size = config.cell_size if config.split == "sky" else 0.0
        self._order = np.empty(int(np.count_nonzero(split >= 0)), np.uint32)  # positions in eligible.rows
        self._shared = np.empty(len(self._order), bool)
        self.groups: tuple[Group, ...] = tuple(self._grouped())
        for group in self.groups:
            self._shuffle(group, shared)

    def _grouped(self) -> Iterator[Group]:
        names, start = self._eligible.names, 0
        position = {name: i for i, name in enumerate(names)}
        for value, split in enumerate(SPLITS):
            counts = (len(self._used(i, value)) for i in range(len(names)))
            sizes = {name: size for name, size in zip(names, counts, strict=True) if size}
            shard = 1
            for members in grouped(sizes, self.spec.stamps_per_group, stream(self._seed, "group", split)):
                size = sum(sizes[name] for name in members)
                yield Group(value, tuple(position[name] for name in members), shard, start, size)
                shard, start = shard + ceil(size / self._shard_rows), start + size

    def _used(self, brick: int, split: int) -> Array:
        """Which examples of a brick are of a split, counted within the brick."""
        return np.flatnonzero(self._split[self._eligible.where(brick)] == split)

    def _shuffle(self, group: Group, shared: Array) -> None:
        """Put the examples of a group into their final order."""
        used = {brick: self._used(brick, group.split) for brick in group.bricks}
        first, where = self._eligible.first, self._eligible.where
        names = sorted(self._eligible.names[brick] for brick in group.bricks)
        rng, here = stream(self._seed, "shuffle", SPLITS[group.split], *names), group.where
        shuffled = rng.permutation(group.size)
        self._order[here] = np.concatenate([first[brick] + used[brick] for brick in used])[shuffled]
        self._shared[here] = np.concatenate([shared[where(brick)][used[brick]] for brick in used])[shuffled]

    def __len__(self) -> int:
        return len(self._order)

    def bricks(self, split: int) -> int:
        """Number of bricks of a split."""
        return sum(len(group.bricks) for group in self.groups if group.split == split)

    @property
    def cells(self) -> dict[str, str]:
        """Cell of the sky of each brick, where the set is split by cells; else nothing."""
        if not self._cell_size:
            return {}
        used = self._bricks
        ra, dec = self._eligible.places[used].T
        cells = sky_cells(ra, dec, self._cell_size)
        return dict(zip((self._eligible.names[i] for i in used), cells.tolist(), strict=True))

    def exposures(self) -> Array:
        """Exposures of its bricks, by brick: rows of `BRICK_EXPOSURE`; those of some may not be known."""
        known = [(self._eligible.names[i], self._eligible.exposures[i]) for i in self._bricks]
        parts = [exposures_of(name, some) for name, some in known if some is not None]
        return np.concatenate([no_exposures(), *parts])

    @cached_property
    def _bricks(self) -> list[int]:
        """Positions in `Eligible` of the bricks of all groups, sorted."""
        return sorted({brick for group in self.groups for brick in group.bricks})

    def rows(self, number: int) -> Array:
        """The examples of a group: rows of `example_dtype` in memory of their own, by shard and row."""
        group = self.groups[number]
        rows = self._eligible.rows[self._order[group.where]]
        rows["split"] = SPLITS[group.split].encode()
        rows["shard"], rows["row"] = np.divmod(np.arange(group.size), self._shard_rows)
        rows["shard"] += group.first_shard
        rows["flags"][self._shared[group.where]] |= FLAG_OVERLAP
        return rows

    def __iter__(self) -> Iterator[Array]:
        return (self.rows(number) for number in range(len(self.groups)))

    @cached_property
    def crc32(self) -> int:
        """CRC-32 (zlib) of all rows."""
        value = 0
        for rows in self:
            value = zlib.crc32(rows.tobytes(), value)
        return value

    @cached_property
    def identity(self) -> dict[str, int]:
        """Checksums of what a training set is made of: all its rows, and the coadds of their bricks."""
        coadds = np.array([self.coadds(number) for number in range(len(self.groups))], dtype="<u4")
        return {"rows_crc32": self.crc32, "coadds_crc32": zlib.crc32(coadds.tobytes())}

    def coadds(self, number: int) -> int:
        """CRC-32 (zlib) of what names the content of the coadds of a group's bricks."""
        return zlib.crc32(self._eligible.coadds[list(self.groups[number].bricks)].tobytes())
