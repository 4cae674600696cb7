"""Work on the stamps of a split, shard by shard: workers read the shards themselves, and see no label."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

from threadpoolctl import threadpool_limits

from obiwan.dplearn.running.executors import progress_bar, run_all
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.trainingset.shards import Shard
from obiwan.dplearn.trainingset.stampset import Labels, Stamps, StampSet

Result = TypeVar("Result")


@dataclass(frozen=True)
class _Task(Generic[Result]):
    """One shard that is to be worked on; its stamps are read where that is done."""

    work: Callable[[Stamps, Array], Result]
    read: Callable[[Shard], tuple[Stamps, Labels]]
    shard: Shard
    rows: Array

    def run(self) -> tuple[Labels, Result]:
        """Read the shard and work on it, on one thread: no number depends on how many there are."""
        stamps, labels = self.read(self.shard)
        with threadpool_limits(1):
            return labels, self.work(stamps, self.rows)


def on_shards(
    work: Callable[[Stamps, Array], Result],
    stamp_set: StampSet,
    split: str,
    rows: Array,
    executor: Executor | None,
    verb: str,
) -> list[tuple[Labels, Result]]:
    """Labels of every shard of a split, and what a function makes of its stamps and rows; in order.

    Parameters
    ----------
    work : callable
        From stamps and their rows to a result; can be pickled.
    stamp_set : StampSet
    split : str
        ``train``, ``val`` or ``test``.
    rows : ndarray, shape (n,)
        What `work` is told of each stamp of the split.
    executor : Executor or None
        Workers that share the shards; None for this process.
    verb : str
        What is done, for the progress bar.

    Raises
    ------
    DplearnError
        If a shard cannot be read.
    """
    shards, parts = stamp_set.split(split), stamp_set.parts()
    tasks = [_Task(work, stamp_set.read, shard, rows[parts[shard.key]]) for shard in shards]
    with progress_bar(len(rows), f"{verb} {split}", "stamp", unit_scale=True) as bar:
        return run_all(_Task.run, tasks, executor, bar, size=lambda number: shards[number].rows)
