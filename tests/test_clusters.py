"""Clusters of examples: what shares exposures or a cell, and the table that says so."""

from __future__ import annotations

import json

import numpy as np
import pytest

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.survey.ccds import EXPOSURE
from obiwan.dplearn.trainingset import exposures
from obiwan.dplearn.trainingset.clusters import ClusteredBy, Clusters, sharing_exposures
from obiwan.dplearn.trainingset.clusters import cluster as cluster_of_classes
from obiwan.dplearn.trainingset.manifest import MANIFEST
from obiwan.dplearn.trainingset.stampset import open_training_set
from obiwan.dplearn.twosample.ranking import auc_interval
from planted import Planted, write_set
from sealing import seal

LEAST = 5


def cluster(bricks, known, cells, least) -> Clusters:
    """Clusters of examples that are of both classes, in every brick."""
    labels = np.repeat([0, 1], len(bricks))
    found = cluster_of_classes(np.tile(bricks, 2), labels, known, cells, least)
    return found.take(slice(len(bricks)))


def table(**numbers: list[int]) -> np.ndarray:
    """Exposures of bricks: their numbers, of DECam; below 0 of the Bok telescope's camera."""
    parts = [exposures.no_exposures()]
    for brick, some in numbers.items():
        rows = [("90prime" if n < 0 else "decam", abs(n)) for n in some]
        parts.append(exposures.exposures_of(brick, np.array(rows, EXPOSURE)))
    return np.concatenate(parts)


def test_bricks_that_share_an_exposure_are_one_cluster_however_far_the_chain_goes():
    known = table(a=[1], b=[1, 2], c=[2], d=[3, 4], e=[4], f=[5], g=[6], h=[7])
    bricks = np.array(["c", "a", "e", "d", "b", "f", "a", "g", "h"])
    found = cluster(bricks, known, {}, LEAST)
    assert found.names.tolist() == ["a", "a", "d", "d", "a", "f", "a", "g", "h"]
    assert (found.by, found.count, found.bricks, found.linked) == (ClusteredBy.EXPOSURES, 5, 8, 5)


def test_a_brick_between_two_that_is_not_among_the_examples_does_not_link_them():
    known = table(a=[1], b=[1, 2], c=[2], d=[3], e=[3], f=[4], g=[5])
    found = cluster(np.array(list("acdefg")), known, {}, LEAST)
    assert found.names.tolist() == list("acddfg")


def test_cameras_number_their_exposures_alike():
    found = cluster(np.array(list("abcdef")), table(a=[1], b=[-1], c=[2], d=[-2], e=[3], f=[3]), {}, LEAST)
    assert found.names.tolist() == list("abcdee")


@pytest.mark.parametrize(
    ("known", "linked"),
    [
        (table(), 8),  # nobody knows
        (table(a=[1], b=[2], c=[3], d=[4], e=[5], f=[6], g=[7], h=[8]), 8),
        (table(a=[1], b=[1], c=[1], d=[1, 2], e=[2], f=[3], g=[4], h=[5]), 4),
        (table(a=[1], b=[1], c=[2], d=[2], e=[3], f=[3], g=[4], h=[4]), 4),
        (table(a=[1], b=[1], c=[1], d=[1], e=[1], f=[1], g=[1], h=[1]), 1),
    ],
    ids=["unknown", "none shared", "most in one", "too few", "all in one"],
)
def test_bricks_are_the_clusters_where_exposures_make_no_use(known, linked):
    bricks = np.array(list("hgfedcba"))
    found = cluster(bricks, known, {}, LEAST)
    np.testing.assert_array_equal(found.names, bricks)
    assert (found.by, found.count, found.bricks, found.linked) == (ClusteredBy.BRICK, 8, 8, linked)


def test_most_is_more_than_half():
    known = table(a=[1], b=[1], c=[1], d=[1], e=[2], f=[3], g=[4], h=[5])
    assert cluster(np.array(list("abcdefgh")), known, {}, LEAST).by is ClusteredBy.EXPOSURES
    assert cluster(np.array(list("abcdefg")), known, {}, 4).by is ClusteredBy.BRICK


def test_each_class_is_in_enough_clusters():
    """A class that few linked groups hold rests on its bricks, which are more."""
    known = table(a=[1], b=[1], c=[2], d=[2], e=[3], f=[3], g=[4], h=[5], i=[6])
    bricks = np.array(list("abcdefghi"))
    assert cluster(bricks, known, {}, LEAST).by is ClusteredBy.EXPOSURES
    few = np.r_[bricks, list("abcde")], np.r_[np.zeros(9, int), np.ones(5, int)]
    found = cluster_of_classes(*few, known, {}, LEAST)
    assert (found.by, found.linked) == (ClusteredBy.BRICK, 6)
    assert cluster_of_classes(*few, known, {}, 3).by is ClusteredBy.EXPOSURES


def test_cells_of_a_split_by_cells_are_the_clusters():
    cells = {"a": "1-1", "b": "1-1", "c": "1-2", "d": "1-3", "e": "1-4", "f": "1-5"}
    shared = table(a=[1], c=[1])
    found = cluster(np.array(list("fabcde")), shared, cells, LEAST)
    assert found.names.tolist() == ["1-5", "1-1", "1-1", "1-2", "1-3", "1-4"]
    assert (found.by, found.count) == (ClusteredBy.CELL, 5)
    assert cluster(np.array(list("abcd")), shared, cells, LEAST).by is ClusteredBy.BRICK


def test_bricks_that_share_exposures_with_another_split_are_counted():
    known = table(a=[1], b=[1, 2], c=[3], d=[2], e=[4])
    assert sharing_exposures(np.array(["a", "c", "a", "x"]), np.array(["b", "d"]), known) == (2, 1)
    assert sharing_exposures(np.array(["a"]), np.array(["b"]), table()) == (0, 0)


def written(directory, rows):
    """A training set with this table of exposures."""
    write_set(directory, Planted("offset", 0.0), {"train": 4, "val": 2, "test": 2}, seed=1, rows=4)
    crc32 = exposures.write_exposures(directory / exposures.EXPOSURES, directory, rows)
    path = directory / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), exposures.CHECKSUM: crc32}))
    seal(directory)
    return directory


def test_the_table_comes_back(tmp_path):
    rows = table(a=[1, 2**40], b=[-7])
    read = open_training_set(written(tmp_path, rows)).read_exposures()
    assert read.dtype == rows.dtype
    np.testing.assert_array_equal(read, rows)


def test_a_set_without_the_table(tmp_path):
    write_set(tmp_path, Planted("offset", 0.0), {"train": 4, "val": 2, "test": 2}, seed=1, rows=4)
    opened = open_training_set(tmp_path)
    assert len(opened.read_exposures()) == 0
    rows = np.array([(b"a", 0), (b"b", 1)], [("brick", "S4"), ("label", "u1")])
    assert opened.clusters(rows, LEAST).by is ClusteredBy.BRICK


@pytest.mark.parametrize("damage", ["lost", "changed", "garbled"])
def test_a_damaged_table(damage, tmp_path):
    path = written(tmp_path, table(a=[1], b=[2])) / exposures.EXPOSURES
    if damage == "lost":
        path.unlink()
    elif damage == "changed":
        exposures.write_exposures(path, tmp_path, table(a=[1], b=[1]))
    else:
        path.write_bytes(b"SIMPLE")
    with pytest.raises(TrainingSetError, match=r"exposures\.fits: .*make the training set again"):
        open_training_set(tmp_path).read_exposures()


def test_intervals_over_bricks_that_share_exposures_are_too_narrow_and_those_over_groups_are_not(rng):
    """Injected galaxies of eight groups of four bricks score higher, or lower, in the whole group."""
    n, bricks, covered = 1280, 32, np.zeros(2)
    brick, label = np.arange(n) % bricks, np.arange(n) // bricks % 2
    names = np.array([f"b{i:02d}" for i in range(bricks)])
    known = table(**{name: [number // 4] for number, name in enumerate(names)})
    groups = cluster(names[brick], known, {}, LEAST)
    assert groups.count == 8
    for _ in range(200):
        scores = rng.normal(rng.normal(0, 0.3, 8)[brick // 4] * label, 1)
        for i, clusters in enumerate((brick, groups.names)):
            found = auc_interval(label, scores, clusters)
            covered[i] += found.low <= 0.5 <= found.high
    assert covered[0] / 200 < 0.87 < 0.9 < covered[1] / 200
