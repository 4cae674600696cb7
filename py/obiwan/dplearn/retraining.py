"""Train the same network again on an edited training set, and say how well it tells the classes apart.

Ablations and the positive control share this: an edit made as the shards are read, the network and the
settings of the run that is examined, a directory of its own where an interrupted run goes on, and the AUC on
the test split.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.claims import RESULT, RUN, claim_outdir
from obiwan.dplearn.cnn import check_splits, fitting_batch
from obiwan.dplearn.errors import ModelError, TrainingSetError
from obiwan.dplearn.examples import read_sources
from obiwan.dplearn.memory import Memory
from obiwan.dplearn.shards import SOURCES, SPLITS, Shard, TrainingSet, write_json
from obiwan.dplearn.twosample import Estimate, answer

if TYPE_CHECKING:
    from obiwan.dplearn.training import RunConfig

log = logging.getLogger(__name__)

Array = NDArray[Any]
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
        original = next(s for s in self.base.shards if (s.split, s.number) == key)
        return self.edit(key, *self.base.read(original, memory))


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


def run_config_of(model: Path) -> RunConfig:
    """The network and the settings of a run, from the ``run.json`` beside its model.

    Raises
    ------
    ModelError
        If there is no such file, or it cannot be understood.
    """
    from obiwan.dplearn.batches import FeedConfig
    from obiwan.dplearn.model import NetworkConfig
    from obiwan.dplearn.training import RunConfig

    path = model.parent / RUN
    if not path.is_file():
        msg = f"{path}: not there; to train the same network again, give a model in the directory of its run"
        raise ModelError(msg)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        network = NetworkConfig(**{**found["network"], "maps": tuple(found["network"]["maps"])})
        feed = FeedConfig(**_known(found["feed"], FeedConfig))
        rest = {key: value for key, value in found.items() if key not in ("network", "feed")}
        return RunConfig(network, feed, **_known(rest, RunConfig))
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path}: not the settings of a run ({error}); train the model again"
        raise ModelError(msg) from None


def _known(content: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    """The entries that are fields of a dataclass."""
    return {field.name: content[field.name] for field in fields(kind) if field.name in content}


@dataclass(frozen=True)
class Retrained:
    """What a network trained again reaches on the test split.

    Attributes
    ----------
    auc : Estimate
        Of label 1 against label 0.
    learnt : bool
        Whether its loss ever left that of a constant answer.
    train, test : int
        Examples.
    bricks : int
        Bricks that the interval rests on; 0 where it rests on examples.
    """

    auc: Estimate
    learnt: bool
    train: int
    test: int
    bricks: int


def bricks_of_test(
    rows: Mapping[Key, Array], edited: EditedSet, choice: Mapping[Key, Choice] | None
) -> Array:
    """The brick of each test example of an edited set, in its order."""
    parts = []
    for shard in edited.split("test"):
        part = rows[shard.split, shard.number]["brick"]
        parts.append(part if choice is None else part[choice[shard.split, shard.number].rows])
    return np.char.strip(np.concatenate(parts)).astype(str)


def _read_result(path: Path) -> Retrained:
    """A result that was written before."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Retrained(**{**content, "auc": Estimate(**content["auc"])})
    except (ValueError, TypeError, KeyError) as error:
        msg = f"{path}: not a readable result ({error}); remove it and start again"
        raise ModelError(msg) from None


def retrain(
    edited: EditedSet,
    config: RunConfig,
    outdir: Path,
    *,
    name: str,
    bricks: Array | None = None,
    before: Callable[[], None] | None = None,
    quiet: bool = True,
) -> Retrained:
    """Train a network on an edited set and score its test split; what is finished is not done again.

    Parameters
    ----------
    edited : EditedSet
        On what.
    config : RunConfig
        The network and settings of the run that is examined.
    outdir : Path
        A directory for this training alone; an interrupted one goes on from its last checkpoint there.
    name : str
        What is done to the data, for ``run.json`` and messages.
    bricks : ndarray, optional
        Of the test examples.
    before : callable, optional
        Called before training, once the directory is claimed, unless the result is there.
    quiet : bool
        No progress bar.

    Raises
    ------
    TrainingSetError
        If a split of the edited set lacks one of the labels.
    ModelError
        If the directory holds another training, or the training diverges.
    """
    check_splits(edited)
    batch = fitting_batch(config.feed.batch_size, edited)
    config = replace(config, feed=replace(config.feed, batch_size=batch))
    claim_outdir(outdir, {"edit": name, "data": edited.checksum, **config.to_dict()}, overwrite=False)
    if (outdir / RESULT).is_file():
        return _read_result(outdir / RESULT)
    if before is not None:
        before()
    from obiwan.dplearn.batches import in_order
    from obiwan.dplearn.logs import RunLogs
    from obiwan.dplearn.training import Trainer, probabilities

    log.info("%s: training the same network again, %d examples", name, sum(edited.count("train")))
    fitted = Trainer(config, edited, outdir, logs=RunLogs(outdir, quiet=quiet)).fit()
    label, outputs = probabilities(fitted.model, in_order(edited, "test"))
    found = answer(label, outputs[:, 1], bricks)
    content = {
        "auc": vars(found.auc),
        "learnt": fitted.learnt,
        "train": sum(edited.count("train")),
        "test": len(label),
        "bricks": found.bricks,
    }
    write_json(outdir / RESULT, content)
    return _read_result(outdir / RESULT)


def directory_name(words: Sequence[object]) -> str:
    """A file name of these words: letters, digits, points, and underscores for the rest."""
    text = "_".join(str(word) for word in words)
    return "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "_" for c in text)
