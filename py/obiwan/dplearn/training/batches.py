"""Batches: from shards on disk to shuffled examples in memory, at constant memory.

The order of an epoch is a function of (seed, epoch) alone: the shards in random order, the rows of each in
random order, make one sequence; every rank owns an equal stretch of it, ``steps * batch_size`` examples
long, and mixes a window of a few shards at a time.  What does not fill a step on every rank is left
out, and is another remainder in every epoch.  A position in the sequence is all there is to remember,
so that a run goes on in the middle of an epoch without reading what it has seen.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.files import memory
from obiwan.dplearn.stampspec import SPLITS
from obiwan.dplearn.training.distributed import SERIAL, World
from obiwan.dplearn.training.settings import FeedConfig, RunConfig
from obiwan.dplearn.trainingset.shards import X_DTYPE, Y_DTYPE, Shard
from obiwan.dplearn.trainingset.stampset import StampSet

Batch = tuple[NDArray[np.float32], NDArray[np.uint8]]
Piece = tuple[Shard, NDArray[np.int64]]  # rows of one shard that a rank uses, in the order of the epoch
Part = tuple[int, int, list[Piece], int]  # epoch, number of the window, its pieces, examples to leave out
Window = tuple[list[Batch], list[tuple[int, int]]]  # shards, and an index and a row in them for each example
Item = TypeVar("Item")
Loaded = TypeVar("Loaded")

log = logging.getLogger(__name__)

BATCH = 128  #: stamps that are scored at a time

_SHARDS, _ROWS, _WINDOW, _TURNS = range(4)  # purposes of the random streams


class Batches:
    """The batches of one split, as one rank sees them.

    Parameters
    ----------
    stamp_set : StampSet
        Where the shards are.
    split : str
        ``train``, ``val`` or ``test``.
    config : FeedConfig
        How batches are made.
    world : World
        Which part this rank reads.

    Raises
    ------
    TrainingSetError
        If the split does not fill one step on every rank.
    """

    def __init__(self, stamp_set: StampSet, split: str, config: FeedConfig, world: World = SERIAL) -> None:
        self.stamp_set, self.split, self.config, self.world = stamp_set, split, config, world
        self.examples = sum(stamp_set.count(split))
        self.steps = self.examples // (self.world.size * config.batch_size)  #: in each epoch, on every rank
        if self.steps == 0:
            msg = (
                f"{stamp_set.directory}: {self.examples} {split} examples do not fill one batch "
                f"of {config.batch_size} on {self.world.size} rank(s); use a smaller --batch-size"
            )
            raise TrainingSetError(msg)

    def pieces(self, epoch: int) -> list[Piece]:
        """What this rank reads in an epoch: parts of shards, before the windows are mixed."""
        stretch = self.steps * self.config.batch_size
        begin, end = self.world.rank * stretch, (self.world.rank + 1) * stretch
        shards = self.stamp_set.split(self.split)
        order = self._stream(_SHARDS, epoch).permutation(len(shards))
        pieces, start = [], 0
        for shard in (shards[i] for i in order):
            first, last = max(begin - start, 0), min(end - start, shard.rows)
            start += shard.rows
            if first < last:  # ranks that share a shard draw the same permutation and take other parts of it
                rows = self._stream(_ROWS, epoch, shard.number).permutation(shard.rows)
                pieces.append((shard, rows[first:last]))
        return pieces

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on; parameters and yields as of `epochs`."""
        return self.epochs(epoch, epoch + 1, start)

    def epochs(self, first: int, end: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epochs, ``steps`` of each; the next one is being read while the last ones are used.

        Parameters
        ----------
        first, end : int
            Numbers of the first epoch and of that after the last, from 0; with the seed they determine the
            order.
        start : int
            Steps of the first epoch to leave out, without reading them.

        Yields
        ------
        x : ndarray
            Raw stamps, shape (batch_size, size, size, channels); a fresh array each time.
        y : ndarray
            Labels, shape (batch_size,).
        """
        size, spec = self.config.batch_size, self.stamp_set.spec
        filled, done = 0, first * self.steps + start
        for shards, places in ahead(self._load, self._windows(first, end, start * size)):
            for index, row in places:
                if not filled:
                    x, y = memory.empty((size, *spec.shape), X_DTYPE), np.empty(size, Y_DTYPE)
                x[filled], y[filled] = shards[index][0][row], shards[index][1][row]
                filled += 1
                if filled == size:
                    yield self._turned(x, *divmod(done, self.steps)), y
                    filled, done = 0, done + 1
            del shards  # its memory is free for the window after the next

    def _windows(self, first: int, end: int, skip: int) -> Iterator[Part]:
        """Windows of epochs, from example number `skip` of the first one on."""
        width = self.config.window
        for epoch in range(first, end):
            pieces = self.pieces(epoch)
            for number, begin in enumerate(range(0, len(pieces), width)):
                part = pieces[begin : begin + width]
                count = sum(len(rows) for _, rows in part)
                if skip < count:
                    yield epoch, number, part, skip
                skip = max(skip - count, 0)

    def _load(self, window: Part) -> Window:
        """The shards of a window, and where its examples are in them, mixed."""
        epoch, number, part, seen = window
        places = [(i, row) for i, (_, rows) in enumerate(part) for row in rows.tolist()]
        mixed = self._stream(_WINDOW, epoch, number, self.world.rank).permutation(len(places))[seen:]
        return [self.stamp_set.read(shard) for shard, _ in part], [places[i] for i in mixed]

    def _turned(self, x: NDArray[np.float32], epoch: int, step: int) -> NDArray[np.float32]:
        """The batch, each stamp in one of its eight positions if that is asked for."""
        if not self.config.augment:
            return x
        turns = self._stream(_TURNS, epoch, step, self.world.rank).integers(8, size=len(x))
        for stamp, turn in zip(x, turns, strict=True):
            stamp[...] = np.rot90(stamp[::-1] if turn >= 4 else stamp, turn % 4).copy()
        return x

    def _stream(self, *purpose: int) -> np.random.Generator:
        """A random stream of its own for each purpose."""
        return np.random.default_rng([self.config.seed, *purpose])


def ahead(load: Callable[[Item], Loaded], items: Iterable[Item]) -> Iterator[Loaded]:
    """Map `load` over items, the next one being loaded in a thread while the last is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as reader:
        pending: deque[Future[Loaded]] = deque()
        for item in items:
            pending.append(reader.submit(load, item))
            if len(pending) > 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def in_order(stamp_set: StampSet, split: str, size: int = BATCH) -> Iterator[Batch]:
    """All examples of a split in shard order, in batches of at most `size` that never span shards."""
    for x, y in ahead(stamp_set.read, stamp_set.split(split)):
        for start in range(0, len(y), size):
            yield x[start : start + size], y[start : start + size]
        del x, y  # the memory is free for the shard after the next


def sample(stamp_set: StampSet, split: str, count: int, seed: int) -> NDArray[np.float32]:
    """Up to `count` stamps of a split, drawn with a seed from a few of its shards."""
    rng = np.random.default_rng([seed, 99])
    shards = stamp_set.split(split)
    chosen = [shards[i] for i in rng.permutation(len(shards))[:4]]
    rows = rng.permutation(sum(shard.rows for shard in chosen))[:count]
    return stamp_set.only(chosen).stamps(split, np.sort(rows))


def with_fitting_batches(config: RunConfig, stamp_set: StampSet, ranks: int = 1) -> RunConfig:
    """The same run; of too few examples a batch is what there is for each rank: a tiny set must run too."""
    asked, examples = config.feed.batch_size, sum(stamp_set.count("train"))
    fitting = max(1, min(asked, examples // ranks))
    if fitting < asked:
        log.warning(
            "warning: only %d training examples: batches of %d, instead of %d", examples, fitting, asked
        )
    return replace(config, feed=replace(config.feed, batch_size=fitting))


def check_splits(stamp_set: StampSet) -> None:
    """Both classes must be in every split, or there is nothing to train on, choose by, or report.

    Raises
    ------
    TrainingSetError
        Naming the split.
    """
    for split in SPLITS:
        real, fake = stamp_set.count(split)
        if real == 0 or fake == 0:
            what = "no examples" if real + fake == 0 else f"{real} real and {fake} fake examples"
            msg = f"{stamp_set.directory}: the {split} split has {what}; make a set with more bricks"
            raise TrainingSetError(msg)
