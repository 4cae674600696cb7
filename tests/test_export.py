"""Exports: HATS catalogues and WebDataset archives hold the same examples, bit for bit."""

from __future__ import annotations

import gc
import io
import json
import sys
import tarfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from obiwan.dplearn import export
from obiwan.dplearn.export import main
from obiwan.dplearn.exporting.hats import _example_dtype, _scatter, partitions
from obiwan.dplearn.exporting.rows import plain_rows
from obiwan.dplearn.exporting.webdataset import write_archives
from obiwan.dplearn.stampspec import SPLITS, StampSpec
from obiwan.dplearn.trainingset.examples import blank_examples
from obiwan.dplearn.trainingset.shards import Shard
from obiwan.dplearn.trainingset.stampset import StampSet, open_training_set
from planted import Planted, write_set
from quantised import pack_set
from sealing import seal
from synthetic import content_of
from tables import write_table

COUNTS = {"train": 7, "val": 3, "test": 4}


@pytest.fixture(scope="module", params=["npy", "packed"])
def made(request, tmp_path_factory) -> StampSet:
    """A small set of several shards whose examples are all over the sky."""
    directory, spec = tmp_path_factory.mktemp("set") / "set", StampSpec(size=16)
    write_set(directory, Planted(), COUNTS, seed=1, rows=4, spec=spec)
    if request.param == "packed":
        pack_set(directory)
    stamps, rng = open_training_set(directory), np.random.default_rng(2)
    parts = []
    for shard in stamps.shards:
        rows = blank_examples(shard.rows, spec)
        rows["split"], rows["shard"], rows["row"] = shard.split.encode(), shard.number, np.arange(shard.rows)
        rows["label"] = stamps.read(shard)[1]
        rows["ra"], rows["dec"] = rng.uniform(0, 360, shard.rows), rng.uniform(-90, 90, shard.rows)
        rows["flux_r"] = rng.normal(size=shard.rows)
        rows["brick"], rows["id"] = b"1211p060", rng.integers(0, 2**62, shard.rows)
        parts.append(rows)
    write_table(directory, np.concatenate(parts), spec)
    seal(directory)
    return open_training_set(directory)


def run(made: StampSet, outdir: Path, form: str, *more: str) -> int:
    return main(["--data", str(made.directory), "--outdir", str(outdir), "--format", form, *more])


def same(row: dict, expected: dict) -> bool:
    """NaN is NaN, all else is equal."""
    return row.keys() == expected.keys() and all(
        value == expected[name] or (value != value and expected[name] != expected[name])
        for name, value in row.items()
    )


def test_tar_files_hold_every_example(made, tmp_path):
    """With the standard library alone, in the order of the set; the same bytes again."""
    assert run(made, tmp_path / "one", "webdataset") == 0
    for split in SPLITS:
        found = []
        for path in sorted((tmp_path / "one").glob(f"{split}-*.tar")):
            with tarfile.open(path) as archive:
                found += [(entry.name, archive.extractfile(entry).read()) for entry in archive]
        files = [[content for name, content in found if name.endswith(end)] for end in ("npy", "cls", "json")]
        x = np.stack([np.load(io.BytesIO(content)) for content in files[0]])
        assert x.tobytes() == made.stamps(split, range(COUNTS[split])).tobytes()
        rows = made.rows(split)
        assert [int(content) for content in files[1]] == rows["label"].tolist()
        told = [json.loads(content) for content in files[2]]
        assert all(same(*pair) for pair in zip(told, plain_rows(rows), strict=True))
        again = np.array([row["flux_r"] for row in told], "f4")
        assert again.tobytes() == rows["flux_r"].tobytes()
    assert run(made, tmp_path / "two", "webdataset") == 0
    assert content_of(tmp_path / "one") == content_of(tmp_path / "two")


@pytest.mark.filterwarnings("ignore")  # it leaves closing files to the garbage collector
def test_webdataset_opens_them(made, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    assert run(made, tmp_path / "set", "webdataset") == 0
    paths = sorted(map(str, (tmp_path / "set").glob("train-*.tar")))
    found = list(webdataset.WebDataset(paths, shardshuffle=False).decode())
    x = np.stack([one["npy"] for one in found])
    assert x.tobytes() == made.stamps("train", range(COUNTS["train"])).tobytes()
    assert [one["cls"] for one in found] == made.rows("train")["label"].tolist()
    assert [one["json"]["id"] for one in found] == made.rows("train")["id"].tolist()
    gc.collect()


@pytest.mark.filterwarnings("ignore")  # of dask and its like
def test_lsdb_opens_the_catalogue(made, tmp_path):
    """All columns and stamps, found by position as well."""
    lsdb = pytest.importorskip("lsdb")
    assert run(made, tmp_path / "set", "hats", "--rows", "3") == 0
    assert not (tmp_path / "set" / ".work").exists()
    catalogue = lsdb.open_catalog(tmp_path / "set")
    table = catalogue.compute()
    assert len(table) == sum(COUNTS.values())
    assert catalogue.get_healpix_pixels()
    number = 0
    for split in SPLITS:
        rows, mine = made.rows(split), table[table["split"] == split].sort_values(["shard", "row"])
        for name in rows.dtype.names:
            values = mine[name].to_numpy().astype(rows.dtype[name])
            assert values.tobytes() == rows[name].tobytes(), name
        x = made.stamps(split, range(len(rows)))
        for channel, name in enumerate(made.spec.channels):
            found = np.stack([np.asarray(one, "f4") for one in mine[f"stamp_{name}"]])
            assert found.tobytes() == np.ascontiguousarray(x[..., channel]).tobytes()
        number += len(rows)
    row = made.rows("test")[0]
    near = catalogue.cone_search(ra=row["ra"], dec=row["dec"], radius_arcsec=1).compute()
    assert near["id"].tolist() == [row["id"]]


def test_partitions_hold_everybody_once():
    index = np.random.default_rng(1).integers(0, 12 * 4**29, 500)
    index[:40] = index[0]  # more than fit the smallest partition
    found = list(partitions(index, 20))
    assert sorted(np.concatenate([chosen for *_, chosen in found]).tolist()) == list(range(500))
    for order, pixel, chosen in found:
        assert (index[chosen] >> 2 * (29 - order) == pixel).all()
        assert (np.diff(index[chosen]) >= 0).all()
        assert len(chosen) <= 20 or (index[chosen] == index[0]).sum() == 40
    ranges = sorted((pixel << 2 * (29 - order), (pixel + 1) << 2 * (29 - order)) for order, pixel, _ in found)
    assert all(one[1] <= other[0] for one, other in pairwise(ranges))


def by_shards(made: StampSet, read: list[tuple[str, int]]) -> StampSet:
    """The set, which notes what shards are read and has no table of a whole split."""

    def no_table(split: str) -> np.ndarray:
        raise AssertionError(split)

    def reading(shard: Shard) -> tuple[np.ndarray, np.ndarray]:
        read.append(shard.key)
        return made.read(shard)

    return replace(made, read=reading, read_rows=no_table)


def test_examples_wait_for_others_of_their_partition(made, tmp_path):
    """Every shard is read once, and no table of a split."""
    total, read = sum(COUNTS.values()), []
    index = np.random.default_rng(3).integers(0, 2**60, total)
    partition = (index % 3).astype(np.int32)
    _scatter(by_shards(made, read), index, partition, tmp_path)
    assert read == [shard.key for shard in made.shards]
    x = np.concatenate([made.stamps(split, range(COUNTS[split])) for split in SPLITS])
    for number in range(3):
        found = np.fromfile(tmp_path / str(number), _example_dtype(made.spec))
        assert found["index"].tolist() == index[partition == number].tolist()
        assert found["row"].tobytes() == made.examples()[partition == number].tobytes()
        assert found["stamp"].tobytes() == x[partition == number].tobytes()
    assert len(list(tmp_path.iterdir())) == 3


def test_archives_are_made_shard_by_shard(made, tmp_path):
    read: list[tuple[str, int]] = []
    assert list(write_archives(by_shards(made, read), tmp_path, tmp_path)) == [s.rows for s in made.shards]
    assert read == [shard.key for shard in made.shards]


def test_places_of_others(made, tmp_path, capsys):
    assert run(made, tmp_path / "set", "webdataset") == 0
    assert run(made, tmp_path / "set", "webdataset") == 0
    assert "already holds this export" in capsys.readouterr().out
    (tmp_path / "set" / "mine.txt").write_text("mine")
    assert run(made, tmp_path / "set", "hats", "--overwrite") == 1
    assert "mine.txt" in capsys.readouterr().err
    assert (tmp_path / "set" / "mine.txt").read_text() == "mine"
    assert run(made, made.directory / "export", "webdataset") == 1
    assert "lies in the training set that is read; choose another --outdir" in capsys.readouterr().err
    assert not (made.directory / "export").exists()


def test_an_interrupted_export_is_finished(made, tmp_path, monkeypatch):
    """The same files as of one that was not, and no others."""
    assert run(made, tmp_path / "whole", "webdataset") == 0

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(export, "write_json", interrupted)
        assert run(made, tmp_path / "set", "webdataset") != 0
    assert not (tmp_path / "set" / export.RECORD).exists()
    (tmp_path / "set" / "test-000000.tar").unlink()
    assert run(made, tmp_path / "set", "webdataset") == 0
    assert content_of(tmp_path / "set") == content_of(tmp_path / "whole")
    assert not [path.name for path in (tmp_path / "set").iterdir() if path.name.startswith(".")]


def test_a_missing_package_costs_no_other_export(made, tmp_path, capsys, monkeypatch):
    """It is told before anything is removed."""
    assert run(made, tmp_path / "set", "webdataset") == 0
    kept = content_of(tmp_path / "set")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert run(made, tmp_path / "set", "hats", "--overwrite") == 1
    assert "needs the packages hats and pyarrow" in capsys.readouterr().err
    assert content_of(tmp_path / "set") == kept


def test_a_set_without_its_table(tmp_path, capsys):
    directory = tmp_path / "set"
    write_set(directory, Planted(), COUNTS, seed=1, rows=4, spec=StampSpec(size=16))
    assert main(["--data", str(directory), "--outdir", str(tmp_path / "out"), "--format", "webdataset"]) == 1
    assert "sources.fits" in capsys.readouterr().err
