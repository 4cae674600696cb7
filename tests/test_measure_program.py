"""measure writes the fits of every stamp, whoever makes them and whatever interrupts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from evaluation_set import rows_of
from obiwan.dplearn import measure
from obiwan.dplearn.files.atomic import read_json
from obiwan.dplearn.galaxyfit import table
from obiwan.dplearn.galaxyfit.fits import FLAGS, fit_stamps
from obiwan.dplearn.stampspec import SPLITS, StampSpec
from obiwan.dplearn.trainingset.stampset import StampSet, open_training_set
from planted import Planted, write_set
from tables import write_table

SPEC = StampSpec(bands=("g", "r"), size=32)
COUNTS = {"train": 24, "val": 8, "test": 12}


def make(directory: Path) -> StampSet:
    samples = write_set(directory, Planted("none", 0.0), COUNTS, 5, rows=8, spec=SPEC)
    opened = open_training_set(directory)
    write_table(directory, np.concatenate([rows_of(s, opened, samples[s], 3) for s in SPLITS]), SPEC)
    return open_training_set(directory)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> StampSet:
    return make(tmp_path_factory.mktemp("measure") / "set")


@pytest.fixture(scope="module")
def made(data, tmp_path_factory) -> Path:
    outdir = tmp_path_factory.mktemp("made") / "fits"
    assert measure.main(["--data", str(data.directory), "--outdir", str(outdir)]) == 0
    return outdir


def test_tables_are_the_fits_of_the_stamps_in_the_order_of_the_sources(data, made):
    assert sorted(path.name for path in made.iterdir()) == [
        *(f"fits-{split}.fits" for split in sorted(SPLITS)),
        "measure.json",
    ]
    for split in SPLITS:
        with fits.open(made / f"fits-{split}.fits") as hdus:
            found, header, columns = np.array(hdus[1].data), hdus[1].header, hdus[1].columns
        rows = data.rows(split)
        assert found["shard"].tolist() == rows["shard"].tolist()
        assert found["row"].tolist() == rows["row"].tolist()
        stamps = data.stamps(split, np.arange(len(rows)))
        expected = fit_stamps(stamps, SPEC, SPEC.per_band(rows, "psfsize"))
        for name in expected.names:
            np.testing.assert_allclose(found[name], expected.column(name), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found["err_ln_size"], expected.errors()[:, 4], rtol=1e-4)
        np.testing.assert_allclose(found["chi2"], expected.chi2, rtol=1e-5)
        assert found["flags"].tolist() == expected.flags.tolist()
        for name in expected.statistic_names:
            np.testing.assert_allclose(found[name], expected.column(name), rtol=1e-3, atol=1e-4)
        units = dict(zip(columns.names, columns.units, strict=True))
        named = [units[name] for name in ("flux_g", "x", "err_flux_r", "ivar_slope_r", "ln_size", "sky_g")]
        assert named == ["nanomaggy", "pixel", "nanomaggy", "nanomaggy", "", ""]
        assert header["SPLIT"] == split
        assert {header[f"FLAG{bit}"]: bit for bit in FLAGS.values()} == FLAGS
    record = read_json(made / "measure.json")
    assert record["rows"] == COUNTS
    assert record["data"] == data.checksum


def test_any_number_of_workers_gives_the_same_bytes(data, made, tmp_path):
    words = ["--data", str(data.directory), "--outdir", str(tmp_path / "two"), "--jobs", "2"]
    assert measure.main(words) == 0
    for path in made.iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes(), path.name


def test_ranks_of_mpi_give_the_same_bytes(data, made, tmp_path, root):
    pytest.importorskip("mpi4py", reason="mpi4py is not installed (the extra `mpi`)")
    mpirun = Path(sys.executable).parent / "mpirun"
    if not mpirun.exists():
        pytest.skip("no mpirun beside this Python")
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1"}
    environ = {**os.environ, **allowed, "PYTHONPATH": str(root / "py")}
    command = [
        str(mpirun),
        "--oversubscribe",
        "-n",
        "2",
        sys.executable,
        "-m",
        "obiwan.dplearn.measure",
        "--mpi",
    ]
    words = ["--data", str(data.directory), "--outdir", str(tmp_path / "ranks")]
    subprocess.run([*command, *words], env=environ, check=True, capture_output=True, timeout=120)
    for path in made.iterdir():
        assert (tmp_path / "ranks" / path.name).read_bytes() == path.read_bytes(), path.name


def test_an_interrupted_run_goes_on(data, made, tmp_path, monkeypatch):
    fitted = []

    def stopped(*given, **named):
        if len(fitted) == 2:
            raise KeyboardInterrupt
        fitted.append(1)
        return fit_stamps(*given, **named)

    monkeypatch.setattr(table, "fit_stamps", stopped)
    words = ["--data", str(data.directory), "--outdir", str(tmp_path / "out")]
    assert measure.main(words) == 130
    monkeypatch.setattr(table, "fit_stamps", fit_stamps)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob(".work/shards/*.fits")}
    assert kept
    seen = []
    whole = table.read_shard
    monkeypatch.setattr(table, "read_shard", lambda *given: seen.append(given[2]) or whole(*given))
    assert measure.main(words) == 0
    assert len(seen) == len(data.shards) - len(kept)
    for path in made.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_finished_directory_is_kept_and_another_request_refused(data, made, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    words = ["--data", str(data.directory), "--outdir", str(made)]
    assert measure.main(words) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert measure.main([*words, "--splits", "val"]) == 1
    assert "splits was train val test, is val" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in made.iterdir()} == before


def test_overwrite_replaces_the_tables(data, tmp_path):
    words = ["--data", str(data.directory), "--outdir", str(tmp_path)]
    (tmp_path / "notes.txt").write_text("mine")
    assert measure.main([*words, "--splits", "val", "test"]) == 0
    assert measure.main([*words, "--splits", "val", "--overwrite"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fits-val.fits", "measure.json", "notes.txt"]


def test_a_damaged_shard_is_named_and_the_others_are_kept(tmp_path, capsys):
    made = make(tmp_path / "set")
    path = tmp_path / "set" / made.split("train")[1].x_name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    words = ["--data", str(tmp_path / "set"), "--outdir", str(tmp_path / "out")]
    assert measure.main(words) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{path}: checksum differs" in said
    assert "1 of 6 shards cannot be fitted, the others are done and kept" in said
    assert len(list((tmp_path / "out" / ".work" / "shards").iterdir())) == 5
    path.write_bytes(whole)
    assert measure.main(words) == 0


def test_a_data_directory_without_a_training_set(tmp_path, capsys):
    assert measure.main(["--data", str(tmp_path / "absent"), "--outdir", str(tmp_path / "out")]) == 1
    assert "no such directory" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
