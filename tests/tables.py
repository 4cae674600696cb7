"""Example tables of training sets, read and written as no program does, and CSV tables of benchmarks."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
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


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table of a benchmark: rows of equal keys, one at least, whose first has the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
