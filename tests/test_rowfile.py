"""Rows on disk while a survey is planned: nothing is lost, nothing is mixed up, little is in memory."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from obiwan.dplearn.examples import EXAMPLE_DTYPE, blank_examples
from obiwan.dplearn.rowfile import RowFile, sorted_groups


@pytest.fixture
def rows(rng) -> np.ndarray:
    """Rows of which every column is random."""
    out = np.frombuffer(rng.bytes(500 * EXAMPLE_DTYPE.itemsize), EXAMPLE_DTYPE).copy()
    out["brick"], out["run"] = rng.integers(1000, size=500).astype("S8"), b"rs0"
    out["split"] = b"train"
    return out


def test_rows_come_back_in_the_order_asked_for(rows, rng, tmp_path):
    file = RowFile(tmp_path)
    kept = np.concatenate([file.append(part) for part in np.split(rows, [0, 7, 230, 480])])
    assert list(tmp_path.iterdir()) == []
    for at in (np.arange(500), rng.permutation(500), np.array([499, 0, 3, 3]), np.empty(0, int)):
        assert file.read(kept["at"][at]).tobytes() == rows[at].tobytes()


def test_what_is_kept_is_small(rows, tmp_path):
    kept, named = RowFile(tmp_path).append(rows), RowFile(tmp_path, named=True).append(rows)
    assert kept.itemsize <= 60 < EXAMPLE_DTYPE.itemsize / 3
    for name in kept.dtype.names[1:]:
        np.testing.assert_array_equal(kept[name], rows[name])
    assert {"root", "run", "id"} <= set(named.dtype.names)


def test_groups_have_what_was_decided(rows, rng, tmp_path):
    file = RowFile(tmp_path)
    kept = file.append(rows)[rng.permutation(500)[:300]]
    group = np.sort(rng.integers(5, size=300))
    kept["shard"], kept["row"], kept["split"] = group + 1, np.arange(300), b"val"
    kept["flags"] |= 8
    planned = sorted_groups(kept, group, file)
    assert (planned.groups, len(planned)) == (5, 300)
    expected = rows[kept["at"]]
    for name in ("split", "shard", "row", "flags"):
        expected[name] = kept[name]
    assert np.concatenate(list(planned)).tobytes() == expected.tobytes()
    assert planned.crc32 == zlib.crc32(expected.tobytes())
    assert [set(part["shard"]) for part in planned] == [{number} for number in range(1, 6)]


def test_a_file_that_ends_too_early_is_an_error(tmp_path):
    file = RowFile(tmp_path)
    file.append(blank_examples(3))
    with pytest.raises(OSError, match="ends too early"):
        file.read(np.array([2, 3]))
