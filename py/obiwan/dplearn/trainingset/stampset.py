"""Stamp set: a finished training set opened for reading, or a view of one.

A `StampSet` is a stamp specification, a table of examples and shards of pixels.  Everything that reads a
training set reads it through this object, so that rows, labels and scores are matched in one place.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.stampspec import SPLITS, Array, StampSpec
from obiwan.dplearn.trainingset.clusters import Clusters, cluster
from obiwan.dplearn.trainingset.examples import blank_examples, check_sources, read_sources
from obiwan.dplearn.trainingset.exposures import no_exposures, read_exposures
from obiwan.dplearn.trainingset.manifest import SOURCES, read_manifest
from obiwan.dplearn.trainingset.shards import Shard, check_files, read_shard
from obiwan.dplearn.trainingset.visibility import EXAMPLES, visible_columns, visible_rows

Stamps: TypeAlias = NDArray[np.float32]
Labels: TypeAlias = NDArray[np.uint8]
#: rows of a split, 258 bytes each, above which splits are read in pieces where that suffices
LARGE = 2_000_000
PIECE = 1 << 16  #: rows
_AGAIN = "make the training set again"


@dataclass(frozen=True)
class StampSet:
    """Stamps with their labels and what is known of each.

    Attributes
    ----------
    directory : Path
        Where the files are.
    manifest : dict
        The content of ``manifest.json``.
    spec : StampSpec
        What the stamps are.
    shards : tuple of Shard
        In the order train, val, test, then number.
    read : callable
        Reads a shard with its checksum verified: stamps, shape (rows, size, size, channels), and labels; a
        `TrainingSetError` if a file is missing, corrupt, or of another shape than the manifest says.
    read_rows : callable
        Rows of the example table of a split, in the order of its shards; of all shards of the training set,
        also where `shards` are some of them.
    read_columns : callable
        Columns of the example table that both classes of the training set have, whatever labels a view has
        (`obiwan.dplearn.trainingset.visibility.visible_columns`).
    read_exposures : callable
        Exposures of all bricks, rows of `BRICK_EXPOSURE`; none where they are not known.
    read_pieces : callable or None
        The same as `read_rows`, a piece at a time, where the example table is too large to be held.
    read_part : callable or None
        Rows of the example table of one shard, where others need not be read for them.
    """

    directory: Path
    manifest: dict[str, Any]
    spec: StampSpec
    shards: tuple[Shard, ...]
    read: Callable[[Shard], tuple[Stamps, Labels]]
    read_rows: Callable[[str], Array]
    read_columns: Callable[[], tuple[str, ...]]
    read_exposures: Callable[[], Array] = no_exposures
    read_pieces: Callable[[str], Iterator[Array]] | None = None
    read_part: Callable[[Shard], Array] | None = None

    def split(self, name: str) -> tuple[Shard, ...]:
        """The shards of one split, by number."""
        return tuple(shard for shard in self.shards if shard.split == name)

    def count(self, name: str) -> tuple[int, int]:
        """Numbers of real and of fake examples in a split."""
        shards = self.split(name)
        return sum(s.real for s in shards), sum(s.fake for s in shards)

    def only(self, shards: Iterable[Shard]) -> StampSet:
        """The same set with these of its shards alone."""
        return replace(self, shards=tuple(shards))

    @property
    def checksum(self) -> str:
        """Checksum of the content: CRC-32 over all shard checksums, eight hex digits."""
        words = " ".join(shard.content for shard in self.shards)
        return f"{zlib.crc32(words.encode()):08x}"

    def rows(self, split: str) -> Array:
        """Rows of the example table that belong to the shards of a split, in their order; not to be changed.

        Raises
        ------
        TrainingSetError
            If the table is absent, unreadable, or not of these shards.
        """
        shards = self.split(split)
        number, size, fake = np.array([(s.number, s.rows, s.fake) for s in shards], int).reshape(-1, 3).T
        if self.read_pieces is not None and not self._whole(split):
            rows: Array = _some_rows(self.read_pieces, split, tuple(number.tolist()), self.spec)
        else:
            rows = self.read_rows(split)
            kept = np.isin(rows["shard"], number)
            rows = rows if kept.all() else rows[kept]
        row = np.concatenate([np.empty(0, int), *map(np.arange, size)])
        same = np.array_equal(rows["shard"], np.repeat(number, size)) and np.array_equal(rows["row"], row)
        if not same or (np.bincount(rows["shard"], rows["label"])[number] != fake).any():
            raise self._other_rows(split)
        return rows

    def _other_rows(self, split: str) -> TrainingSetError:
        """Error that the example table is not of these shards."""
        return TrainingSetError(
            f"{self.directory / SOURCES}: its {split} rows are not those of the shards; {_AGAIN}"
        )

    def shard_rows(self, shard: Shard) -> Array:
        """Rows of one shard, not to be changed; where that is possible those of no other are read.

        Raises
        ------
        TrainingSetError
            If the table is absent, unreadable, or not of the shards.
        """
        if self.read_part is None:
            return self.rows(shard.split)[self.parts()[shard.key]]
        rows = self.read_part(shard)
        same = (rows["shard"] == shard.number).all() and np.array_equal(rows["row"], np.arange(shard.rows))
        if not same or rows["label"].sum() != shard.fake:
            raise self._other_rows(shard.split)
        return rows

    def _whole(self, split: str) -> bool:
        """Whether it has all shards of a split that the training set has."""
        return len(self.split(split)) == [one["split"] for one in self.manifest["shards"]].count(split)

    def parts(self) -> dict[tuple[str, int], slice]:
        """Of each shard, by its key, the part of the `rows` of its split."""
        found, ends = {}, dict.fromkeys(SPLITS, 0)
        for shard in self.shards:
            start, ends[shard.split] = ends[shard.split], ends[shard.split] + shard.rows
            found[shard.key] = slice(start, ends[shard.split])
        return found

    def pieces(self, split: str) -> Iterator[Array]:
        """The `rows` of a split, a piece at a time: of a large one not all are in memory."""
        if self.read_pieces is None or not self._whole(split):
            yield self.rows(split)
        else:
            yield from self.read_pieces(split)

    def visible(self, split: str) -> Array:
        """The `rows` of a split as referees see them."""
        return visible_rows(self.rows(split), self.read_columns())

    def examples(self) -> Array:
        """The `rows` of all splits, in the order of `shards`."""
        return np.concatenate([self.rows(split) for split in SPLITS])

    def bricks(self, split: str) -> NDArray[np.str_]:
        """The brick of each example of a split, in the order of `rows`."""
        return np.char.strip(self.rows(split)["brick"].astype(str))

    def clusters(self, rows: Array, least: int) -> Clusters:
        """Clusters of some of its examples (`obiwan.dplearn.trainingset.clusters.cluster`)."""
        cells = self.manifest.get("cells") or {}
        return cluster(rows["brick"], rows["label"], self.read_exposures(), cells, least)

    def stamps(self, split: str, chosen: Array) -> Stamps:
        """Stamps of some examples of a split, read a shard at a time.

        Parameters
        ----------
        split : str
        chosen : ndarray of int
            Positions in `rows`.

        Returns
        -------
        ndarray of float32, shape (len(chosen), size, size, channels)
            In the order asked for.
        """
        chosen = np.asarray(chosen, dtype=np.intp)
        out = np.empty((len(chosen), *self.spec.shape), np.float32)
        start = 0
        for shard in self.split(split):
            here = np.flatnonzero((chosen >= start) & (chosen < start + shard.rows))
            if len(here):
                out[here] = self.read(shard)[0][chosen[here] - start]
            start += shard.rows
        return out

    def aligned(self, split: str, scores: Array) -> NDArray[np.intp]:
        """Positions of scores in the order of `rows`: ``scores["score"][positions]`` fits the rows.

        Parameters
        ----------
        split : str
        scores : structured ndarray
            With the columns shard, row and label, in any order.

        Raises
        ------
        TrainingSetError
            If they are not of the same examples.
        """
        rows, names = self.rows(split), ("shard", "row", "label")

        def fits(order: Any) -> bool:
            return all(np.array_equal(rows[name], scores[name][order]) for name in names)

        if fits(slice(None)):
            return np.arange(len(rows))
        order = np.lexsort((scores["row"], scores["shard"]))
        if not fits(order):
            msg = f"{self.directory / SOURCES}: its {split} rows are not those of the scores; {_AGAIN}"
            raise TrainingSetError(msg)
        return order


def every(step: int, pieces: Iterable[Array]) -> Array:
    """Every `step`-th row of a table that comes in pieces."""
    found, start = [], 0
    for piece in pieces:
        found.append(piece[-start % step :: step])
        start += len(piece)
    return np.concatenate(found)


@lru_cache(maxsize=8)
def _some_rows(
    read_pieces: Callable[[str], Iterator[Array]], split: str, numbers: tuple[int, ...], spec: StampSpec
) -> Array:
    """Rows of some shards of a split of a large table."""
    parts = (piece[np.isin(piece["shard"], numbers)] for piece in (read_pieces(split) if numbers else ()))
    rows = np.concatenate([blank_examples(0, spec), *parts])
    rows.flags.writeable = False
    return rows


def check_outside(directory: Path, stamps: StampSet) -> None:
    """Refuse an output directory in a training set that is read.

    Raises
    ------
    TrainingSetError
        If it lies there.
    """
    if directory.resolve().is_relative_to(stamps.directory.resolve()):
        msg = f"{directory}: lies in the training set that is read; choose another --outdir"
        raise TrainingSetError(msg)


def open_training_set(directory: Path, *, files: bool = True) -> StampSet:
    """Open a training set; its manifest is checked now, shards and example table when they are read.

    Parameters
    ----------
    directory : Path
        What ``create_training --outdir`` made.
    files : bool
        Look at every shard's files, too: two metadata operations each, of which one of many ranks is enough.

    Raises
    ------
    TrainingSetError
        If there is no finished training set of a known format, or a shard's file is missing or too small.
    """
    manifest, spec, shards = read_manifest(directory)
    for shard in shards if files else ():
        check_files(directory, spec, shard)

    counts = [sum(s.rows for s in shards if s.split == name) for name in SPLITS]
    ends, held = np.cumsum([0, *counts]).tolist(), dict[str, Array]()
    starts = np.cumsum([0, *(shard.rows for shard in shards)]).tolist()
    places = dict(zip((shard.key for shard in shards), pairwise(starts), strict=True))
    check, large = cache(partial(check_sources, directory, manifest)), max(counts) > LARGE

    def read_rows(split: str) -> Array:
        if split not in held:
            check()
            number = SPLITS.index(split)
            rows = read_sources(directory, spec, ends[number], ends[number + 1], split)
            rows.flags.writeable = False  # whoever asks has the same ones
            held[split] = rows
        return held[split]

    def read_pieces(split: str) -> Iterator[Array]:
        if split in held:
            yield held[split]
            return
        check()
        number = SPLITS.index(split)
        for start in range(ends[number], ends[number + 1], PIECE):
            yield read_sources(directory, spec, start, min(start + PIECE, ends[number + 1]), split)

    def read_part(shard: Shard) -> Array:
        check()
        return read_sources(directory, spec, *places[shard.key], shard.split)

    @cache
    def read_columns() -> tuple[str, ...]:
        if not large:
            return visible_columns(read_rows("train"))
        return visible_columns(every(max(1, counts[0] // EXAMPLES), read_pieces("train")))

    read = partial(read_shard, directory, spec)
    known = cache(partial(read_exposures, directory, manifest))
    pieces = read_pieces if large else None
    rows = (read_rows, read_columns, known, pieces, read_part)
    return StampSet(directory, manifest, spec, shards, read, *rows)
