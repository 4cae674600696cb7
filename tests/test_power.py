"""The benchmark of power: every test holds its level, and finds what is large."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import power
from obiwan.dplearn.referees.measured import Measured
from tables import read_record


def pixels_of(rng: np.random.Generator, count: int, apart: float) -> power.Pool:
    """Pixels of which the leading ones differ between the classes."""
    labels = np.arange(count) % 2
    pixels = rng.normal(size=(count, 60)).astype(np.float32) * np.linspace(3, 1, 60, dtype=np.float32)
    pixels[:, :5] += apart * labels[:, None]
    return power.Pool(Unmeasured(), pixels, labels)


class Unmeasured(Measured):
    """Measurements that nobody looks at."""

    def __init__(self) -> None: ...

    def take(self, chosen: np.ndarray) -> Measured:  # noqa: ARG002
        return self


@pytest.mark.parametrize("test", [power.mmd, power.frechet, power.c2st])
def test_peers_find_what_is_large_and_hold_their_level(test, rng):
    assert all(p <= power.LEVEL for p in test(pixels_of(rng, 300, 2.0), rng).values())
    null = np.array([list(test(pixels_of(rng, 120, 0.0), rng).values()) for _ in range(12)])
    assert (null <= power.LEVEL).mean() < 0.3
    assert null.mean() > 0.25


def test_the_learned_width_is_that_of_the_difference(rng):
    """Classes of equal mean whose pixels have different small scatter: a wide kernel hardly sees it."""
    labels = np.repeat([0, 1], 200)
    pixels = rng.normal(size=(400, 2)) * np.where(labels, 1.0, 0.7)[:, None]
    square = power.distances(pixels)
    scores = [power.mmd_power(power.gaussian(square, w**2 * np.median(square))) for w in power.WIDTHS]
    assert np.argmax(scores) < len(scores) - 2
    assert power.mmd_test(power.gaussian(square, np.median(square)), labels, rng) <= power.LEVEL


def test_distances_are_those_of_the_stamps_that_were_taken(rng):
    pool = pixels_of(rng, 30, 0.0)
    few = pool.take(np.array([4, 9, 20, 3])).take(np.array([3, 1]))
    own = pool.pixels[[3, 9]]
    assert few.square == pytest.approx(((own[:, None] - own) ** 2).sum(2), abs=1e-4)


def test_parts_hold_as_many_of_either_class(rng):
    pool = pixels_of(rng, 200, 0.0)
    parts = power.split(pool, (0.5, 0.125), rng)
    assert [len(part) for part in parts] == [100, 24, 76]
    assert sorted(np.concatenate(parts).tolist()) == list(range(200))
    assert all(pool.labels[part].mean() == 0.5 for part in parts)


def test_p_of_an_auc_is_that_of_permuted_labels(rng):
    labels, scores = np.arange(200) % 2, rng.normal(size=200)
    found = power.auc(labels, scores + 0.2 * labels)
    p = power.by_permutation(found, labels, lambda one: power.auc(one, scores + 0.2 * labels), rng)
    assert power.mann_whitney(found, 100, 100) == pytest.approx(p, abs=0.1)


def test_the_table_counts_what_is_finished(tmp_path: Path):
    record = tmp_path / "tests.jsonl"
    one = {"planted": "psf", "examples": 500, "number": 0, "group": "panel", "test": "panel", "version": "1"}
    lines = [json.dumps({**one, "p": p}) for p in (0.01, 0.05, 0.2, 0.9)]
    record.write_text("\n".join(lines) + "\n" + lines[0][:20])
    (row,) = power.rows_of(read_record(record))
    assert (row["stamps"], row["repetitions"], row["amplitude"], row["network"]) == (500, 4, "1.05", "")
    assert row["panel"] == "0.50 (0.15 to 0.85)"
