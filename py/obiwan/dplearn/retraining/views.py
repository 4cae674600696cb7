"""Training sets made from another one as it is read: cutouts edited, examples chosen, labels drawn."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.conventions import SPLITS, Array
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.files.memory import Memory
from obiwan.dplearn.trainingset.examples import read_sources
from obiwan.dplearn.trainingset.shards import SOURCES, Shard, TrainingSet

Cutouts = NDArray[np.float32]
Labels = NDArray[np.uint8]
Edit = Callable[[Cutouts], Cutouts]
Key = tuple[str, int]  # split and number of a shard


@dataclass(frozen=True)
class Choice:
    """What is kept of a shard, and under which labels.

    Attributes
    ----------
    rows : ndarray of int
        Rows of the shard, in order.
    label : ndarray of uint8
        Of these rows: 0 and 1, whatever they stand for.
    """

    rows: NDArray[np.int64]
    label: Labels


@dataclass(frozen=True)
class EditedSet(TrainingSet):
    """A training set that is made from another one as it is read.

    Attributes
    ----------
    base : TrainingSet
        The other one.
    edit : callable
        Given a shard's key, and cutouts and labels that are its own to change, returns cutouts and labels.
    """

    base: TrainingSet
    edit: Callable[[Key, Cutouts, Labels], tuple[Cutouts, Labels]]

    def read(self, shard: Shard, memory: Memory | None = None) -> tuple[Cutouts, Labels]:
        """Read a shard of the base, its checksum verified, and edit it."""
        key = (shard.split, shard.number)
        return self.edit(key, *self.base.read(self._originals[key], memory))

    @cached_property
    def _originals(self) -> dict[Key, Shard]:
        """The base's shards by key."""
        return {(shard.split, shard.number): shard for shard in self.base.shards}


def _renamed(shard: Shard, name: str, **changes: Any) -> Shard:
    """A shard of an edited set: its checksums, which make the set's, tell the original's and the edit."""
    x, y = (zlib.crc32(f"{crc32} {name}".encode()) for crc32 in (shard.x_crc32, shard.y_crc32))
    return replace(shard, x_crc32=x, y_crc32=y, **changes)


def with_edit(training_set: TrainingSet, name: str, edit: Edit) -> EditedSet:
    """A training set whose cutouts pass through a function of the cutouts alone: no label reaches it.

    Parameters
    ----------
    training_set : TrainingSet
    name : str
        Of the edit; it enters the new set's checksum.
    edit : callable
        From cutouts to cutouts of the same shape.
    """
    shards = tuple(_renamed(shard, name) for shard in training_set.shards)
    return EditedSet(
        training_set.directory,
        training_set.manifest,
        shards,
        training_set,
        lambda _, x, y: (edit(x), y),
    )


def with_choice(
    training_set: TrainingSet,
    name: str,
    choice: Mapping[Key, Choice],
    change: Callable[[Key, Cutouts], Cutouts] | None = None,
) -> EditedSet:
    """A training set of chosen examples with labels of their own.

    Parameters
    ----------
    training_set : TrainingSet
    name : str
        Of the choice, labels and change; it enters the new set's checksum.
    choice : mapping
        Of shards; one that is missing, or of which no row is chosen, is left out.
    change : callable, optional
        From a shard's key and its chosen cutouts to changed ones.
    """

    def edit(key: Key, x: Cutouts, _: Labels) -> tuple[Cutouts, Labels]:
        chosen = x[choice[key].rows]
        return (chosen if change is None else change(key, chosen)), choice[key].label.copy()

    shards = []
    for shard in training_set.shards:
        found = choice.get((shard.split, shard.number))
        if found is not None and len(found.rows):
            ones = int(np.count_nonzero(found.label))
            rows = len(found.rows)
            shards.append(_renamed(shard, name, rows=rows, fake=ones, real=rows - ones))
    return EditedSet(training_set.directory, training_set.manifest, tuple(shards), training_set, edit)


def rows_by_shard(training_set: TrainingSet) -> dict[Key, Array]:
    """Rows of ``sources.fits`` for each shard, in the shard's order.

    Raises
    ------
    TrainingSetError
        If the table is absent, unreadable, or not of these shards.
    """
    table = read_sources(training_set.directory)
    table = table[np.lexsort((table["row"], table["shard"], table["split"]))]
    split = np.char.strip(table["split"]).astype(str)
    found = {}
    for name in SPLITS:
        here = table[split == name]
        edges = np.searchsorted(here["shard"], [s.number for s in training_set.split(name)])
        for shard, start in zip(training_set.split(name), edges, strict=True):
            rows = here[start : start + shard.rows]
            same = len(rows) == shard.rows and np.array_equal(rows["row"], np.arange(shard.rows))
            if not same or (rows["shard"] != shard.number).any() or (rows["label"] == 1).sum() != shard.fake:
                path = training_set.directory / SOURCES
                msg = f"{path}: its rows are not those of {shard.x_name}; make the training set again"
                raise TrainingSetError(msg)
            found[name, shard.number] = rows
    return found


def halves(rows: Array, seed: int) -> Labels:
    """Draw one of two labels for each example: half of every (split, brick, class) gets each.

    Parameters
    ----------
    rows : ndarray of EXAMPLE_DTYPE, shape (n,)
    seed : int
        Of the draw, which depends on which examples there are and not on their order or their shards.

    Returns
    -------
    ndarray of uint8, shape (n,)
        0 or 1; where a group is odd, a coin decides who gets the one more.
    """
    out = np.zeros(len(rows), np.uint8)
    names = ("split", "brick", "label", "root", "run", "id", "ra", "dec")
    order = np.lexsort(tuple(rows[name] for name in reversed(names)))
    ordered = rows[order]
    same = np.ones(len(rows) - 1 if len(rows) else 0, bool)
    for name in ("split", "brick", "label"):
        same &= ordered[name][1:] == ordered[name][:-1]
    for group in np.split(order, np.flatnonzero(~same) + 1) if len(rows) else []:
        first = rows[group[0]]
        text = f"{first['split'].decode().strip()} {first['brick'].decode().strip()} {first['label']}"
        rng = np.random.default_rng([seed, zlib.crc32(text.encode())])
        ones = (len(group) + int(rng.integers(2))) // 2
        out[rng.permutation(group)[:ones]] = 1
    return out


def choose(
    rows: Mapping[Key, Array], keep: Callable[[Array], NDArray[np.bool_]], seed: int
) -> dict[Key, Choice]:
    """Keep some examples by their rows, and draw a label for each (`halves`)."""
    kept = {key: np.flatnonzero(keep(part)) for key, part in rows.items()}
    if not kept:
        return {}
    label = halves(np.concatenate([rows[key][index] for key, index in kept.items()]), seed)
    ends = np.cumsum([len(index) for index in kept.values()])[:-1]
    return {
        key: Choice(index, part)
        for (key, index), part in zip(kept.items(), np.split(label, ends), strict=True)
    }


def bricks_of_test(
    rows: Mapping[Key, Array], edited: EditedSet, choice: Mapping[Key, Choice] | None
) -> Array:
    """The brick of each test example of an edited set, in its order."""
    parts = []
    for shard in edited.split("test"):
        part = rows[shard.split, shard.number]["brick"]
        parts.append(part if choice is None else part[choice[shard.split, shard.number].rows])
    return np.char.strip(np.concatenate(parts)).astype(str)
