"""Example tables of training sets, read and written as no program does; results and tables of benchmarks."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.stampspec import SPLITS, StampSpec
from obiwan.dplearn.trainingset import shards
from obiwan.dplearn.trainingset.examples import write_sources
from obiwan.dplearn.trainingset.manifest import SOURCES, WORK
from obiwan.dplearn.trainingset.stampset import open_training_set


def read_table(directory: Path) -> np.ndarray:
    """Every row, by split, shard and row."""
    opened = open_training_set(directory, files=False)
    return np.concatenate([opened.read_rows(split) for split in SPLITS])


def write_table(directory: Path, rows: np.ndarray, spec: StampSpec = StampSpec()) -> None:  # noqa: B008
    """Write rows as ``sources.fits`` of a directory."""
    write_sources(directory / SOURCES, directory, spec, [rows])


def write_shard(
    directory: Path,
    split: str,
    number: int,
    x: np.ndarray,
    y: np.ndarray,
    spec: StampSpec | None = None,
) -> shards.Shard:
    """Write a shard, of g, r, z with inverse variances by default, through a program's scratch directory."""
    spec = spec or spec_of(x)
    (directory / WORK).mkdir(exist_ok=True)
    return shards.write_shard(directory, spec, split, number, x, y, directory / WORK)


def spec_of(x: np.ndarray) -> StampSpec:
    """The default specification, of the size of these stamps."""
    return StampSpec(size=x.shape[1])


def read_record(path: Path) -> list[dict[str, Any]]:
    """Results that a benchmark has written, one a line; a line that is incomplete does not count."""
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def append_record(path: Path, results: Iterable[Mapping[str, Any]], version: str) -> None:
    """Add results, each with the version that they are of, to the record of a benchmark."""
    with path.open("a") as stream:
        stream.writelines(f"{json.dumps({**one, 'version': version})}\n" for one in results)


def grouped(results: Iterable[dict[str, Any]], *names: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Results of a benchmark by the values of some of their entries."""
    found = defaultdict(list)
    for one in results:
        found[tuple(one[name] for name in names)].append(one)
    return found


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table of a benchmark: rows of equal keys, one at least, whose first has the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
