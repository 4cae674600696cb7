"""The source table on disk."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
from astropy.io import fits
from numpy.lib.recfunctions import repack_fields

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.sources import Sources, blank_sources
from obiwan.dplearn.trainingset import examples
from obiwan.dplearn.trainingset.examples import (
    blank_examples,
    example_dtype,
    fill_measurements,
    read_sources,
)
from planted import Planted, write_set
from sealing import seal
from tables import read_table, write_table

SPEC = StampSpec()


def some(rng, n: int = 5) -> np.ndarray:
    """Rows of a set of one shard in each split."""
    rows = blank_examples(n, SPEC)
    rows["split"], rows["brick"], rows["run"] = "train", "1211p060", "file0_rs0_skip0"
    rows["split"][-2:] = ["val", "test"]
    rows["row"], rows["id"], rows["type"] = np.arange(n), 2**40 + np.arange(n), "EXP"
    for name in ("ra", "dec", "x", "y", "flux_g"):
        rows[name] = rng.normal(size=n)
    return rows


def make_set(directory, rows: np.ndarray | None = None):
    """A training set whose shards are of as many rows as its source table says."""
    n = 3 if rows is None else len(rows)
    counts = {"train": n - 2, "val": 1, "test": 1}
    write_set(directory, Planted("offset", 0.0), counts, seed=1, rows=n)
    if rows is not None:
        write_table(directory, rows)
        seal(directory)
    return directory


def test_a_row_that_was_changed(tmp_path, rng):
    """The intervals rest on the bricks, of which nothing else tells."""
    made = make_set(tmp_path, some(rng))
    with fits.open(made / "sources.fits", mode="update") as hdus:
        hdus[1].data["brick"][2] = "1211p061"
    with pytest.raises(TrainingSetError, match=r"sources.fits: checksum differs .*make the training set"):
        read_table(made)


def test_what_is_written_is_read_back(tmp_path, rng):
    rows = some(rng)
    made = make_set(tmp_path, rows)
    got = read_table(made)
    assert got.dtype == example_dtype(SPEC)
    for name in example_dtype(SPEC).names:
        np.testing.assert_array_equal(got[name], rows[name])


def test_a_stranger_reads_it(tmp_path, rng):
    rows = some(rng)
    write_table(tmp_path, rows)
    with fits.open(tmp_path / "sources.fits") as hdus:
        assert hdus[1].name == "SOURCES"
        assert hdus[1].columns.names == list(example_dtype(SPEC).names)
        assert hdus[1].columns["ra"].unit == "deg"
        assert hdus[1].columns["flux_g"].unit == "nanomaggy"
        np.testing.assert_array_equal(hdus[1].data["id"], rows["id"])  # 64 bits
        assert "DATE" not in hdus[0].header
        assert "DATE" not in hdus[1].header


def test_equal_rows_give_equal_bytes(tmp_path, rng):
    rows = some(rng)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name, rows)
    assert (tmp_path / "a/sources.fits").read_bytes() == (tmp_path / "b/sources.fits").read_bytes()


def test_what_a_catalogue_lacks_is_nan():
    rows = blank_examples(2, SPEC)
    fill_measurements(rows, blank_sources(2, ("g", "r", "z")), SPEC)
    assert np.isnan(rows["mag_g"]).all()
    assert np.isnan(rows["psfsize_z"]).all()
    assert np.isnan(rows["match_dist"]).all()
    assert rows["flags"].tolist() == [0, 0]


def test_every_band_lands_in_its_column():
    blank = vars(blank_sources(1, ("g", "r", "z")))
    values = {"flux": 10.0, "flux_ivar": 20.0, "mw_transmission": 0.5, "psfsize": 1.0, "psfdepth": 40.0}
    for stem, value in values.items():
        blank[stem] = value + np.array([[0.0, 0.1, 0.2]])
    rows = blank_examples(1, SPEC)
    fill_measurements(rows, Sources(**blank), SPEC)
    for stem, value in values.items():
        got = [float(rows[f"{stem}_{band}"][0]) for band in "grz"]
        assert got == pytest.approx([value, value + 0.1, value + 0.2], rel=1e-6)
    assert rows["mag_r"][0] == pytest.approx(22.5 - 2.5 * np.log10(10.1 / 0.6), rel=1e-6)


@pytest.mark.parametrize("content", [None, b"", b"SIMPLE"])
def test_unreadable_table(content, tmp_path):
    make_set(tmp_path)
    if content is not None:
        (tmp_path / "sources.fits").write_bytes(content)
        seal(tmp_path)
    with pytest.raises(TrainingSetError, match=r"sources.fits: cannot read it .*make the training set again"):
        read_table(tmp_path)


def test_a_table_without_a_column(tmp_path, rng):
    rows = some(rng)
    make_set(tmp_path)
    fits.BinTableHDU(rows[["ra", "dec"]]).writeto(tmp_path / "sources.fits")
    seal(tmp_path)
    with pytest.raises(TrainingSetError, match=r"sources.fits: cannot read it"):
        read_table(tmp_path)


def test_a_table_of_an_older_set_does_not_know_how_injections_were_recovered(tmp_path, rng):
    rows = some(rng)
    make_set(tmp_path, rows)
    newer = ("truth_dx", "truth_dy", "truth_flux_g", "truth_flux_r", "truth_flux_z")
    kept = repack_fields(rows[[name for name in rows.dtype.names if name not in newer]])
    fits.BinTableHDU(kept).writeto(tmp_path / "sources.fits", overwrite=True)
    seal(tmp_path)
    read = read_table(tmp_path)
    np.testing.assert_array_equal(read["flux_g"], rows["flux_g"])
    assert np.isnan([read[name] for name in newer]).all()


def test_a_large_table_is_read_in_pieces(tmp_path, rng, monkeypatch):
    rows = some(rng)
    made = make_set(tmp_path, rows)
    monkeypatch.setattr(examples, "_PIECE", 2)
    np.testing.assert_array_equal(read_table(made)["ra"], rows["ra"])


def test_what_the_catalogue_says_of_a_source_is_in_its_row():
    sources = dataclasses.replace(
        blank_sources(2, ("g", "r", "z")), nobs=np.array([[1, 2, 3], [4, 5, 6]]), maskbits=np.array([0, 2048])
    )
    rows = blank_examples(2, SPEC)
    fill_measurements(rows, sources, SPEC)
    assert [rows[f"nobs_{band}"].tolist() for band in "grz"] == [[1, 4], [2, 5], [3, 6]]
    assert rows["maskbits"].tolist() == [0, 2048]


def test_reading_holds_the_table_once(tmp_path):
    n = 150_000
    rows = blank_examples(n, SPEC)
    rows["split"] = "train"
    write_table(tmp_path, rows)
    read_sources(tmp_path, SPEC, 0, 3, "train")  # whatever is imported or kept at the first time
    tracemalloc.start()
    size = read_sources(tmp_path, SPEC, 0, n, "train").nbytes
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1.5 * size


@pytest.mark.parametrize("bands", [("r",), ("g", "r"), ("g", "r", "i", "z")])
def test_columns_follow_the_bands(bands):
    """A catalogue of g, r and z: what it has lands in its band's column, also where i lies between."""
    spec = StampSpec(bands)
    sources = blank_sources(2, ("g", "r", "z"))
    sources = dataclasses.replace(
        sources, flux=np.array([[1.0, 2.0, 3.0]] * 2), mw_transmission=np.ones((2, 3))
    )
    rows = blank_examples(2, spec)
    fill_measurements(rows, sources, spec)
    known = {"g": 1.0, "r": 2.0, "z": 3.0}
    assert [rows[f"flux_{band}"][0] for band in bands if band in known] == [
        known[band] for band in bands if band in known
    ]
    if "i" in bands:
        assert np.isnan(rows["flux_i"]).all()
        assert np.isnan(rows["mag_i"]).all()
        assert rows["nobs_i"].tolist() == [-1, -1]
    assert [name for name in rows.dtype.names if name.startswith("mag_") and name != "mag_source"] == [
        f"mag_{band}" for band in bands
    ]


def test_a_custom_brick_has_its_whole_name(tmp_path):
    rows = blank_examples(1, SPEC)
    rows["split"], rows["brick"] = "train", "custom-123456p00000"
    write_table(tmp_path, rows)
    assert read_sources(tmp_path, SPEC, 0, 1, "train")["brick"].tolist() == [b"custom-123456p00000"]
