"""Rows on disk while a survey is planned: nothing is lost, nothing is mixed up."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from obiwan.dplearn.planning.rowfile import RowFile
from obiwan.dplearn.trainingset.examples import EXAMPLE_DTYPE, blank_examples


def test_rows_come_back_from_their_places(rng, tmp_path):
    rows = np.frombuffer(rng.bytes(500 * EXAMPLE_DTYPE.itemsize), EXAMPLE_DTYPE)
    file = RowFile(tmp_path)
    starts = [0, 0, 7, 230, 500]  # a part is empty
    places = [file.append(rows[a:b]) for a, b in itertools.pairwise(starts)]
    assert places == starts[:-1]
    assert list(tmp_path.iterdir()) == []
    for first, count in ((0, 500), (230, 270), (7, 1), (499, 1), (3, 0)):
        assert file.read(first, count).tobytes() == rows[first : first + count].tobytes()


def test_what_is_read_may_be_changed(tmp_path):
    file = RowFile(tmp_path)
    file.append(blank_examples(3))
    file.read(0, 3)["shard"] = 7
    assert not file.read(0, 3)["shard"].any()


def test_a_file_that_ends_too_early_is_an_error(tmp_path):
    file = RowFile(tmp_path)
    file.append(blank_examples(3))
    with pytest.raises(OSError, match="ends too early"):
        file.read(2, 2)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named_by_its_directory(tmp_path):
    """The file has no name of its own."""
    file = RowFile(tmp_path)
    with (
        Path("/dev/full").open("wb", buffering=0) as file._file,
        pytest.raises(OSError, match="No space left on device") as caught,
    ):
        file.append(blank_examples(3))
    assert caught.value.filename == str(tmp_path)
