"""The whole program: what it writes, whatever happens on the way, and what it says of bad input."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
import time
import zlib
from pathlib import Path
from tempfile import gettempdir

import fitsio
import numpy as np
import pytest
from astropy.io import fits

from obiwan.dplearn.create_training import main
from obiwan.dplearn.cutting import workspace
from obiwan.dplearn.trainingset.stampset import open_training_set
from synthetic import (
    Place,
    Reader,
    Survey,
    bricks_apart,
    content_of,
    survey,
    tractor_columns,
    write_plane,
    write_table,
)

CHECKOUT = Path(__file__).resolve().parents[1]
SPLITS = ("train", "val", "test")
# architecture.md, "The training set on disk"
COLUMNS = [
    "split",
    "shard",
    "row",
    "label",
    "root",
    "brick",
    "run",
    "id",
    "ra",
    "dec",
    "x",
    "y",
    "truth_ra",
    "truth_dec",
    "match_dist",
    "type",
    "flux_g",
    "flux_r",
    "flux_z",
    "flux_ivar_g",
    "flux_ivar_r",
    "flux_ivar_z",
    "mag_g",
    "mag_r",
    "mag_z",
    "mw_transmission_g",
    "mw_transmission_r",
    "mw_transmission_z",
    "mag_source",
    "truth_dx",
    "truth_dy",
    "truth_flux_g",
    "truth_flux_r",
    "truth_flux_z",
    "shape_r",
    "e1",
    "e2",
    "sersic",
    "psfsize_g",
    "psfsize_r",
    "psfsize_z",
    "psfdepth_g",
    "psfdepth_r",
    "psfdepth_z",
    "nobs_g",
    "nobs_r",
    "nobs_z",
    "maskbits",
    "camera",
    "ebv",
    "flags",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Survey:
    """Six bricks, two runs each, and their release."""
    return survey(tmp_path_factory.mktemp("survey"), bricks=bricks_apart(6))


def words(made: Survey, outdir: Path, *more: str, real: bool = True) -> list[str]:
    given = ["--fake", str(made.fake), "--outdir", str(outdir), "--shard-size", "5", *more]
    return [*given, "--real", str(made.real)] if real else given


@pytest.fixture(scope="module")
def training(made, tmp_path_factory) -> Path:
    """The training set of `made`."""
    outdir = tmp_path_factory.mktemp("training") / "out"
    logger = logging.getLogger()
    before = logger.handlers[:], logger.level
    assert main(words(made, outdir)) == 0
    logger.handlers[:], logger.level = before[0], before[1]
    return outdir


def manifest_of(outdir: Path) -> dict:
    return json.loads((outdir / "manifest.json").read_text())


def sources_of(outdir: Path) -> np.ndarray:
    with fits.open(outdir / "sources.fits", character_as_bytes=True) as hdus:
        return np.array(hdus[1].data.view(np.ndarray))


def shards_of(outdir: Path, split: str) -> list[np.ndarray]:
    n = len(list(outdir.glob(f"x{split}_*.npy")))
    return [np.load(outdir / f"x{split}_{i + 1}.npy", allow_pickle=False) for i in range(n)]


def check_pixels(outdir: Path, coadd_of) -> int:
    """Compare every cutout with the coadd; returns how many there were."""
    reader, rows = Reader(), sources_of(outdir)
    loaded = {
        (split, i + 1): (x, np.load(outdir / f"y{split}_{i + 1}.npy"))
        for split in SPLITS
        for i, x in enumerate(shards_of(outdir, split))
    }
    for row in rows:
        text = {name: row[name].decode().strip() for name in ("split", "brick", "run")}
        x, y = loaded[text["split"], int(row["shard"])]
        directory = coadd_of(int(row["root"]), text["brick"], text["run"])
        expected = reader.stamp(directory, text["brick"], row["x"], row["y"])
        np.testing.assert_array_equal(x[row["row"]], expected)
        assert y[row["row"]] == row["label"]
    assert sum(len(x) for x, _ in loaded.values()) == len(rows)
    return len(rows)


def coadd_in(made: Survey):
    def coadd(root: int, brick: str, run: str) -> Path:
        kind, path = (made.kind, made.fake) if root == 0 else ("release", made.real)
        return Place(kind, path, brick, run, made.obj).coadd

    return coadd


# --- the format -----------------------------------------------------------------------------------


def test_every_cutout_is_its_piece_of_the_coadd(training, made):
    assert check_pixels(training, coadd_in(made)) == 72


def test_sources_lie_where_the_survey_put_them(training, made):
    rows = sources_of(training)
    of_brick = {content.brick.name: content for content in made.scenes}
    for row in rows:
        content = of_brick[row["brick"].decode().strip()]
        i = made.runs.index(row["run"].decode().strip())
        if row["label"]:
            (j,) = np.flatnonzero(content.injected[i]["id"] == row["id"])
            truth = content.injected[i]
            assert (row["truth_ra"], row["truth_dec"]) == (truth["ra"][j], truth["dec"][j])
            assert 0 < row["match_dist"] < 0.2 * 0.262
            x, y = content.fitted(i)["x"][6 + j], content.fitted(i)["y"][6 + j]
        else:
            x, y = content.reals["x"][row["id"]], content.reals["y"][row["id"]]
        assert (row["x"], row["y"]) == pytest.approx((x, y), abs=1e-5)
        ra, dec = content.brick.sky(row["x"], row["y"])
        assert (row["ra"], row["dec"]) == pytest.approx((ra[0], dec[0]), abs=1e-9)


def test_names_types_and_order_of_the_shards(training):
    manifest = manifest_of(training)
    expected = {"manifest.json", "sources.fits"}
    for entry in manifest["shards"]:
        names = [f"{axis}{entry['split']}_{entry['number']}.npy" for axis in "xy"]
        x, y = (np.load(training / name, allow_pickle=False) for name in names)
        assert (x.dtype.str, x.shape, x.flags.c_contiguous) == ("<f4", (entry["rows"], 64, 64, 6), True)
        assert (y.dtype.str, y.shape) == ("|u1", (entry["rows"],))
        assert (int((y == 0).sum()), int((y == 1).sum())) == (entry["real"], entry["fake"])
        for name in names:
            assert zlib.crc32((training / name).read_bytes()) == entry[f"{name[0]}_crc32"]
        expected |= set(names)
    assert set(content_of(training)) == expected  # nothing else, no .work
    for split in SPLITS:
        mine = [entry for entry in manifest["shards"] if entry["split"] == split]
        assert [entry["number"] for entry in mine] == list(range(1, len(mine) + 1))
        sizes = [entry["rows"] for entry in mine]
        assert all(size == 5 for size in sizes[:-1])  # one group: only the last may be short
        assert 0 < sizes[-1] <= 5
        counts = manifest["counts"][split]
        assert sum(sizes) == counts["real"] + counts["fake"]
    assert [entry["split"] for entry in manifest["shards"]] == sorted(
        [entry["split"] for entry in manifest["shards"]], key=SPLITS.index
    )


def test_source_table(training):
    rows = sources_of(training)
    assert list(rows.dtype.names) == COLUMNS
    kinds = {"shard": "i4", "row": "i4", "label": "u1", "root": "i2", "id": "i8", "ra": "f8", "x": "f8"}
    kinds |= {"flags": "i4", "split": "S5", "brick": "S24", "run": "S32", "type": "S4", "mag_source": "S8"}
    for name, kind in kinds.items():
        assert rows.dtype[name] == np.dtype(kind).newbyteorder(rows.dtype[name].byteorder), name
    key = [(SPLITS.index(r["split"].decode()), r["shard"], r["row"]) for r in rows]
    assert key == sorted(key)
    assert len(set(key)) == len(key)
    unique = {(r["root"], r["brick"], r["run"], r["id"], r["label"]) for r in rows}
    assert len(unique) == len(rows)
    assert set(rows["mag_source"]) == {b"measured"}
    np.testing.assert_allclose(rows["mag_g"], 22.5 - 2.5 * np.log10(rows["flux_g"] / 0.9), rtol=1e-5)
    assert np.isnan(rows["match_dist"]).tolist() == (rows["label"] == 0).tolist()


def test_split_is_by_brick_and_shards_mix(training):
    rows, manifest = sources_of(training), manifest_of(training)
    of_brick: dict[bytes, set] = {}
    for row in rows:
        of_brick.setdefault(row["brick"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in of_brick.values())
    assert [manifest["counts"][s]["bricks"] for s in SPLITS] == [
        3,
        1,
        2,
    ]  # ceil(1.2), ceil(0.4)
    first = rows[(rows["split"] == b"train") & (rows["shard"] <= 4)]
    assert len(set(first["brick"])) > 1
    assert len(set(first["label"])) == 2


def test_classes_are_balanced_in_every_brick(training):
    rows = sources_of(training)
    for brick in set(rows["brick"]):
        label = rows["label"][rows["brick"] == brick]
        assert np.count_nonzero(label == 0) == np.count_nonzero(label == 1) > 0


def test_manifest(training):
    manifest = manifest_of(training)
    assert manifest["channels"] == ["g", "r", "z", "ivar_g", "ivar_r", "ivar_z"]
    assert manifest["labels"] == {"real": 0, "fake": 1}
    assert (manifest["pixel_scale"], manifest["seed"]) == (0.262, 2018)
    assert [(root["layout"], root["injected"]) for root in manifest["roots"]] == [
        ("legacysim", True),
        ("release", False),
    ]
    assert manifest["config"]["shard_size"] == 5
    assert manifest["sources_crc32"] == zlib.crc32((training / "sources.fits").read_bytes())


def test_no_clock_host_or_path_in_any_file(training, made):
    year = time.strftime("%Y-")
    for name, content in content_of(training).items():
        if name.endswith(".npy"):
            content = content[:128]
        for word in (str(training.parent), str(made.fake.parent), f"{gettempdir()}/", str(CHECKOUT), year):
            assert word.encode() not in content, (name, word)
        if len(socket.gethostname()) > 3:
            assert socket.gethostname().encode() not in content


def test_cut_flow_is_printed_as_it_is_stored(made, tmp_path, capsys):
    assert main(words(made, tmp_path / "out")) == 0
    printed: dict[str, dict[str, int]] = {"real": {}, "fake": {}}
    table, _, _ = capsys.readouterr().out.partition("\n\n")
    for line in table.splitlines()[1:]:
        name, *cells = (part.strip() for part in line.split("  ") if part.strip())
        for column, cell in zip(("real", "fake"), cells, strict=True):
            if cell != "-":
                printed[column][name] = int(cell.replace(",", ""))
    stored = manifest_of(tmp_path / "out")["cut_flow"]
    assert {name: dict(flow) for name, flow in stored.items()} == printed
    for flow in stored.values():
        numbers = [number for _, number in flow]
        assert numbers == sorted(numbers, reverse=True)
        assert numbers[-1] == 36


def test_no_two_splits_share_sky(tmp_path):
    """Neighbouring bricks overlap here by a stamp and more, as the survey's do."""
    bricks = [
        b.__class__(b.name, 100.0 + i * 190 * 0.262 / 3600, 0.0, b.size)
        for i, b in enumerate(bricks_apart(9))
    ]
    made = survey(tmp_path, bricks=bricks, runs=1, release=False)
    assert main(words(made, tmp_path / "out", "--edge", "pad", "--balance", "none", real=False)) == 0
    rows = sources_of(tmp_path / "out")
    flow = dict(manifest_of(tmp_path / "out")["cut_flow"]["real"])
    assert (
        len(rows[rows["label"] == 0]) == flow["no sky shared with another split"] < flow["one row per source"]
    )
    x, y = -rows["ra"] * 3600 / 0.262, rows["dec"] * 3600 / 0.262
    apart = np.maximum(np.abs(x[:, None] - x), np.abs(y[:, None] - y))
    other = rows["split"][:, None] != rows["split"]
    assert apart[other].min() >= 63.9


@pytest.mark.parametrize(
    ("kind", "flavour", "suffix", "obj"),
    [
        ("obiwan", "dr3", ".fits", "elg"),
        ("obiwan", "dr5", ".fits.fz", "star"),
        ("obiwan", "dr8", None, "elg"),  # Obi-Metallica
        ("obiwan2017", "dr4", ".fits", "lrg"),
        ("obiwan2017", "dr5", ".fits.gz", "qso"),
        ("legacysim", "dr10", None, "elg"),
    ],
)
def test_each_layout_and_flavour_from_end_to_end(kind, flavour, suffix, obj, tmp_path):
    made = survey(tmp_path, kind=kind, flavour=flavour, suffix=suffix, bricks=bricks_apart(1), obj=obj)
    assert main(words(made, tmp_path / "out", "--split", "object")) == 0
    assert check_pixels(tmp_path / "out", coadd_in(made)) == 12
    assert manifest_of(tmp_path / "out")["roots"][0]["layout"] == kind


def test_split_by_object_warns_of_shared_sky(made, tmp_path, capsys):
    more = ("--split", "object", "--bricks", "1000p051", "--select", "none")
    assert main(words(made, tmp_path / "out", *more)) == 0
    assert "share sky with an example of another split" in capsys.readouterr().err
    flags = set(sources_of(tmp_path / "out")["flags"])
    assert 8 in flags <= {0, 8}


def test_reals_from_release_warns_and_cuts_from_it(made, tmp_path, capsys):
    assert main(words(made, tmp_path / "out", "--reals-from", "release")) == 0
    assert "systematic D9" in capsys.readouterr().err
    rows = sources_of(tmp_path / "out")
    assert set(rows["run"][rows["label"] == 0]) == {b"release"}
    assert set(rows["root"][rows["label"] == 0]) == {1}
    check_pixels(tmp_path / "out", coadd_in(made))


def test_unclean_pixels_are_zeroed_and_counted(tmp_path):
    made = survey(tmp_path, bricks=bricks_apart(1), suffix=".fits")
    first, second = (place for _, _, place in made.places())
    hurt = [("g", "image", np.nan), ("r", "invvar", np.inf), ("z", "invvar", -3.0), ("z", "image", -np.inf)]
    for i, (band, kind, value) in enumerate(hurt):
        path = first.plane(kind, band, ".fits")
        plane = fitsio.read(str(path))
        plane[i::16, ::3] = value
        plane[plane.shape[0] - 1, 0] = value
        write_plane(path, plane, made.scenes[0].brick.cards())
    assert main(words(made, tmp_path / "out", "--split", "object", "--balance", "none")) == 0
    assert check_pixels(tmp_path / "out", coadd_in(made)) > 0
    expected = {"not_finite": 0, "negative_invvar": 0}
    reader = Reader()
    for row in sources_of(tmp_path / "out"):
        place = first if row["run"] == made.runs[0].encode() else second
        cube = reader.cube(place.coadd, row["brick"].decode())
        cx, cy = (int(np.floor(row[axis] + 0.5)) for axis in "xy")
        part = cube[cy - 32 : cy + 32, cx - 32 : cx + 32]
        bad = ~np.isfinite(part[..., :3]) | ~np.isfinite(part[..., 3:])
        expected["not_finite"] += int(bad.sum())
        expected["negative_invvar"] += int((~bad & (part[..., 3:] < 0)).sum())
    assert min(expected.values()) > 0
    assert manifest_of(tmp_path / "out")["cleaned_pixels"] == expected
    x = np.concatenate([shard for split in SPLITS for shard in shards_of(tmp_path / "out", split)])
    assert np.isfinite(x).all()
    assert x[..., 3:].min() >= 0


# --- the same bytes -------------------------------------------------------------------------------


def test_same_bytes_for_two_jobs_and_any_order_of_the_list(made, training, tmp_path):
    assert main(words(made, tmp_path / "out", "--jobs", "2")) == 0
    assert content_of(tmp_path / "out") == content_of(training)
    names = [content.brick.name for content in made.scenes[:3]]
    for outdir, listed in ((tmp_path / "a", names), (tmp_path / "b", names[::-1])):
        assert main(words(made, outdir, "--bricks", *listed)) == 0
    assert content_of(tmp_path / "a") == content_of(tmp_path / "b")


def test_another_seed_gives_another_set(made, training, tmp_path):
    assert main(words(made, tmp_path / "out", "--seed", "1")) == 0
    assert content_of(tmp_path / "out")["ytrain_1.npy"] != content_of(training)["ytrain_1.npy"] or (
        content_of(tmp_path / "out")["xtrain_1.npy"] != content_of(training)["xtrain_1.npy"]
    )


def test_finished_is_finished(made, training, tmp_path, capsys):
    outdir = tmp_path / "out"
    shutil.copytree(training, outdir)
    times = {path: path.stat().st_mtime_ns for path in outdir.iterdir()}
    assert main(words(made, outdir)) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert times == {path: path.stat().st_mtime_ns for path in outdir.iterdir()}


def test_another_configuration_is_refused_unless_overwritten(made, training, tmp_path, capsys):
    outdir = tmp_path / "out"
    shutil.copytree(training, outdir)
    (outdir / "notes.txt").write_text("mine")
    before = content_of(outdir)
    assert main(words(made, outdir, "--seed", "7")) == 1
    assert "choose another --outdir, or give --overwrite" in capsys.readouterr().err
    assert content_of(outdir) == before
    assert main(words(made, outdir, "--seed", "7", "--overwrite")) == 0
    assert manifest_of(outdir)["seed"] == 7
    assert (outdir / "notes.txt").read_text() == "mine"  # not ours to remove
    assert main(words(made, tmp_path / "fresh", "--seed", "7")) == 0
    after = content_of(outdir)
    del after["notes.txt"]
    assert after == content_of(tmp_path / "fresh")


def test_inputs_that_changed_since_the_interruption(made, tmp_path, monkeypatch, capsys):
    copied = tmp_path / "injected"
    shutil.copytree(made.fake, copied)
    mine = Survey(copied, made.real, made.kind, made.scenes, made.runs)
    with monkeypatch.context() as patch:
        patch.setattr(workspace, "write_sources", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        assert main(words(mine, tmp_path / "out")) == 130
    (_, _, place), *_ = mine.places()
    shutil.rmtree(mine.fake / place.run)
    assert main(words(mine, tmp_path / "out")) == 1
    assert "rows_crc32 was " in capsys.readouterr().err


# --- bad input ------------------------------------------------------------------------------------


def refusal(given: list[str], outdir: Path, capsys, status: int = 1) -> str:
    """Run; the one error line.  Nothing is left that looks like a training set."""
    assert main(given) == status
    err = capsys.readouterr().err
    assert "Traceback" not in err
    lines = [line for part in err.split("\n") for line in part.split("\r") if ": error:" in line]
    assert len(lines) == 1, err
    assert err.rstrip().endswith(lines[0])
    assert lines[0].startswith("create_training: error: ")
    assert not (outdir / "manifest.json").exists()
    for path in outdir.rglob("*.npy") if outdir.is_dir() else ():
        np.load(path)  # whole, or absent
    return lines[0]


@pytest.fixture
def copy(made, tmp_path) -> Survey:
    """Three bricks of the survey, to be damaged."""
    scenes = made.scenes[:3]
    mine = Survey(tmp_path / "injected", tmp_path / "release", made.kind, scenes, made.runs)
    for content, i, place in mine.places():
        source = Place(made.kind, made.fake, content.brick.name, made.runs[i])
        shutil.copytree(source.coadd, place.coadd)
        for name in ("tractor", "truth"):
            getattr(place, name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(getattr(source, name), getattr(place, name))
    return mine


def damage(copy: Survey) -> Place:
    """The files of the first brick's first run."""
    return next(iter(copy.places()))[2]


BRICK_RUN = "brick 1000p051 (file0_rs0_skip0)"


def test_exposures_of_the_bricks_are_recorded(copy, tmp_path, capsys):
    """Of both runs of a brick; neighbours in the list share one.  They go where the next set has none."""
    names, outdir = [content.brick.name for content in copy.scenes], tmp_path / "out"
    given, camera = words(copy, outdir, real=False), {"camera": np.array(["decam"] * 3)}
    for _, i, place in copy.places():
        number = names.index(place.brick)
        write_table(place.ccds, {**camera, "expnum": np.array([100 + number, 101 + number, 150 + i])})
    assert main(given) == 0
    rows = open_training_set(outdir).read_exposures()
    assert list(dict.fromkeys(rows["brick"].astype(str))) == sorted(names)
    for number, name in enumerate(names):
        own = rows["expnum"][rows["brick"] == name.encode()]
        assert own.tolist() == [100 + number, 101 + number, 150, 151]
    assert manifest_of(outdir)["exposures_crc32"] == zlib.crc32((outdir / "exposures.fits").read_bytes())
    capsys.readouterr()
    assert main(given) == 0
    assert "nothing to do" in capsys.readouterr().out
    for _, _, place in copy.places():
        write_table(place.ccds, camera)
    assert main([*given, "--overwrite"]) == 0
    assert not (outdir / "exposures.fits").exists()
    assert "exposures_crc32" not in manifest_of(outdir)


def test_missing_directory(copy, tmp_path, capsys):
    absent = Survey(tmp_path / "absent", copy.real, copy.kind, copy.scenes, copy.runs)
    line = refusal(words(absent, tmp_path / "out", real=False), tmp_path / "out", capsys)
    assert f"{absent.fake}: no such directory" in line
    assert not (tmp_path / "out").exists()


def test_no_runs(copy, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    empty = Survey(tmp_path / "empty", copy.real, copy.kind, copy.scenes, copy.runs)
    line = refusal(words(empty, tmp_path / "out", real=False), tmp_path / "out", capsys)
    assert "no runs found" in line
    assert "known layouts" in line


def _lose_band(place: Place) -> str:
    place.plane("image", "r").unlink()
    return "band r missing"


def _truncate(place: Place) -> str:
    path = place.plane("invvar", "z")
    path.write_bytes(path.read_bytes()[:20000])
    return str(path)


def _no_fits(place: Place) -> str:
    place.plane("image", "g").write_text("not an image\n" * 300)
    return str(place.plane("image", "g"))


def _other_shape(place: Place) -> str:
    write_plane(place.plane("image", "z"), np.zeros((200, 256), "f4"), {"CTYPE1": "RA---TAN"})
    return "coadd shapes disagree"


def _no_tractor(place: Place) -> str:
    place.tractor.unlink()
    return str(place.tractor)


@pytest.mark.parametrize("hurt", [_lose_band, _truncate, _no_fits, _other_shape, _no_tractor])
@pytest.mark.parametrize("real", [True, False])
def test_damaged_brick(hurt, real, copy, made, tmp_path, capsys):
    expected = hurt(damage(copy))
    given = words(copy, tmp_path / "out", real=False)
    given += ["--real", str(made.real)] if real else []
    line = refusal(given, tmp_path / "out", capsys)
    assert BRICK_RUN in line
    assert expected in line
    assert "--bricks" in line
    assert not (tmp_path / "out").exists()


def _drop_column(place: Place) -> str:
    table = fitsio.read(str(place.tractor))
    write_table(place.tractor, {n: table[n] for n in table.dtype.names if n != "flux_r"})
    return "no column flux_r"


def _drop_truth_column(place: Place) -> str:
    table = fitsio.read(str(place.truth))
    write_table(place.truth, {n: table[n] for n in table.dtype.names if n != "dec"})
    return "no column dec"


def _repeat_id(place: Place) -> str:
    table = fitsio.read(str(place.truth))
    table["id"] = 5
    write_table(place.truth, {n: table[n] for n in table.dtype.names})
    return "duplicate ids"


def _no_table(place: Place) -> str:
    place.tractor.unlink()
    fitsio.write(str(place.tractor), np.zeros((3, 3)))
    return "empty catalogue"


@pytest.mark.parametrize("hurt", [_drop_column, _drop_truth_column, _repeat_id, _no_table])
def test_damaged_catalogue(hurt, copy, tmp_path, capsys):
    place = damage(copy)
    expected = hurt(place)
    line = refusal(words(copy, tmp_path / "out", real=False), tmp_path / "out", capsys)
    assert expected in line
    assert place.brick in line  # by the file's name
    assert (
        str(place.truth if "truth" in hurt.__name__ or "repeat" in hurt.__name__ else place.tractor) in line
    )


def _spoil(place: Place) -> str:
    """Pixels that cannot be decoded, behind a header that can be read."""
    path = place.plane("image", "r")
    content = bytearray(path.read_bytes())
    with fitsio.FITS(str(path)) as file:
        start = file[1].get_offsets()["data_start"]
    content[start : start + 72] = b"\xff" * 72  # lengths and places of the tiles
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("hurt", [_no_tractor, _no_table, _repeat_id, _truncate, _lose_band, _spoil])
def test_damaged_bricks_may_be_left_out(hurt, made, tmp_path, capsys):
    """For both classes, as if the brick had never been; counted and named."""
    fake = tmp_path / "fake"
    shutil.copytree(made.fake, fake)
    damaged = Survey(fake, made.real, made.kind, made.scenes, made.runs)
    content, _, place = next(iter(damaged.places()))
    reason = hurt(place)
    given = words(damaged, tmp_path / "out")
    assert main(given) == 1
    line = [line for line in capsys.readouterr().err.splitlines() if "error:" in line][-1]
    assert hurt is _spoil or line.endswith("; --skip-damaged leaves out all such bricks")
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert main([*given, "--skip-damaged", "--jobs", "2"]) == 0
    said = capsys.readouterr()
    assert "left out: " in said.err
    assert reason in said.err
    bricks = [one.brick.name for one in made.scenes]
    assert re.search(rf"bricks +{len(bricks)} +{len(bricks)}\n", said.out)
    assert re.search(rf"bricks without damaged files +{len(bricks) - 1} +{len(bricks) - 1}\n", said.out)
    manifest = manifest_of(tmp_path / "out")
    assert manifest["damaged_bricks"] == [content.brick.name]
    assert content.brick.name.encode() not in sources_of(tmp_path / "out")["brick"]
    others = [name for name in bricks if name != content.brick.name]
    assert main([*words(made, tmp_path / "others"), "--bricks", *others]) == 0
    for name, bytes_ in content_of(tmp_path / "others").items():
        assert name == "manifest.json" or content_of(tmp_path / "out")[name] == bytes_, name
    assert main([*given, "--skip-damaged"]) == 0  # finished is finished
    assert "nothing to do" in capsys.readouterr().out


def test_a_table_may_name_bricks_that_no_tree_has(made, tmp_path, capsys):
    rows = [
        (one.brick.name, ra, dec)
        for one in made.scenes
        for ra, dec in zip(one.reals["ra"], one.reals["dec"], strict=True)
    ]
    table = tmp_path / "reals.csv"
    lines = [f"{brick},release,{ra},{dec}" for brick, ra, dec in [*rows, ("9999p051", 10.0, 5.0)]]
    table.write_text("brick,run,ra,dec\n" + "\n".join(lines) + "\n")
    given = [*words(made, tmp_path / "out"), "--real-table", str(table), "--reals-from", "release"]
    given += ["--select", "none"]
    assert "9999p051" in refusal(given, tmp_path / "out", capsys)
    assert main([*given, "--skip-damaged"]) == 0
    assert "9999p051" in capsys.readouterr().err
    assert manifest_of(tmp_path / "out")["damaged_bricks"] == ["9999p051"]


def test_a_list_may_name_bricks_that_no_tree_has(made, tmp_path, capsys):
    names = [one.brick.name for one in made.scenes]
    given = words(made, tmp_path / "out", "--bricks", *names, "9999p051")
    assert refusal(given, tmp_path / "out", capsys).endswith("or leave them out with --skip-damaged")
    assert main([*given, "--skip-damaged"]) == 0
    said = capsys.readouterr()
    assert "left out: brick 9999p051: no tree of --fake or --real has it" in said.err
    assert re.search(rf"bricks +{len(names) + 1} +{len(names) + 1}\n", said.out)
    assert manifest_of(tmp_path / "out")["damaged_bricks"] == ["9999p051"]


@pytest.mark.parametrize("skip", [[], ["--skip-damaged"]])
def test_a_brick_without_real_galaxies_gives_no_injections(skip, made, tmp_path, capsys):
    """Its injections alone would tell the class by the sky, and are screened against no real source."""
    name, real = made.scenes[0].brick.name, tmp_path / "real"
    shutil.copytree(made.real, real)
    columns = tractor_columns(made.scenes[0].reals, "dr9")
    path = next(real.rglob(f"tractor-{name}.fits"))
    write_table(path, {column: value[:0] for column, value in columns.items()})
    mine = Survey(made.fake, real, made.kind, made.scenes, made.runs)
    assert main([*words(mine, tmp_path / "out", "--balance", "none"), *skip]) == 0
    assert f"left out: brick {name} (release): empty catalogue" in capsys.readouterr().err
    assert name.encode() not in sources_of(tmp_path / "out")["brick"]
    assert manifest_of(tmp_path / "out")["damaged_bricks"] == ([name] if skip else [])


def test_where_all_bricks_are_damaged_the_reason_is_said(copy, tmp_path, capsys):
    for _, _, place in copy.places():
        place.tractor.write_text("no table")
    line = refusal([*words(copy, tmp_path / "out", real=False), "--skip-damaged"], tmp_path / "out", capsys)
    assert "cannot read the header" in line


def test_empty_catalogues_are_named(copy, tmp_path, capsys):
    for content, _, place in copy.places():
        columns = tractor_columns(content.reals, "dr9")
        write_table(place.tractor, {name: value[:0] for name, value in columns.items()})
    assert main(words(copy, tmp_path / "out", real=False)) == 1
    printed = capsys.readouterr()
    said = printed.err.splitlines()[-1]
    assert "brick 1000p051 (file0_rs0_skip0): empty catalogue: " in said
    assert said.endswith("p051.fits has no sources; restore the file, or leave the brick out with --bricks")
    assert not (tmp_path / "out").exists()


def test_no_survivor_of_the_cuts(made, tmp_path, capsys):
    assert main(words(made, tmp_path / "out", "--select", "psf")) == 1
    printed = capsys.readouterr()
    assert "no fake example survives (none is left after 'type is PSF')" in printed.err
    assert [line.split() for line in printed.out.splitlines() if line.startswith("type is PSF")] == [
        ["type", "is", "PSF", "0", "0"]
    ]
    assert not (tmp_path / "out").exists()


def test_unknown_brick(made, tmp_path, capsys):
    line = refusal(words(made, tmp_path / "out", "--bricks", "9999p000"), tmp_path / "out", capsys)
    assert "--bricks: no run of 9999p000" in line


def test_too_few_bricks(made, tmp_path, capsys):
    given = words(made, tmp_path / "out", "--bricks", "1000p051", "1025p051")
    line = refusal(given, tmp_path / "out", capsys)
    assert "2 bricks are too few to split into train, val and test by brick" in line
    assert "--split object" in line


def test_outdir_that_is_no_place_to_write(made, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for outdir in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/out")):
        line = refusal(words(made, outdir), outdir, capsys)
        assert str(outdir) in line
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    line = refusal(words(made, tmp_path / "mine"), tmp_path / "mine", capsys)
    assert (
        "holds thesis.tex, which is no part of a training set; choose another --outdir, or give --overwrite"
        in line
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_outdir(made, tmp_path, capsys):
    outdir = tmp_path / "out"
    outdir.mkdir(mode=0o500)
    line = refusal(words(made, outdir), outdir, capsys)
    assert "cannot write there" in line


@pytest.mark.parametrize("content", ["{", "[]", '{"config": 1}', ""])
def test_broken_manifest_or_plan(content, made, training, tmp_path, capsys):
    outdir = tmp_path / "out"
    shutil.copytree(training, outdir)
    (outdir / "manifest.json").write_text(content)
    assert main(words(made, outdir)) == 1
    err = capsys.readouterr().err
    assert "--overwrite" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--select", "lrg"], "--select lrg"),
        (["--test-fraction", "1.5"], "between 0 and 1"),
        (["--match-radius", "0"], "match_radius must"),
        (["--shard-size", "0"], "shard_size must be"),
        (["--jobs", "0"], "--jobs: must be 1 to 4096"),
        (["--size", "63"], "size must be even"),
        (["--size", "258"], "size must be even"),
        (["--bands", "g", "q"], "--bands"),
        (["--bands", "g", "g"], "bands must be different"),
        (["--planes", "ivar"], "planes must be"),
        (["--seed", "-1"], "seed must be"),
        (["--balance", "all"], "--balance"),
        (["--no-such-flag"], "no-such-flag"),
    ],
)
def test_bad_options_end_with_status_2(more, message, made, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words(made, tmp_path / "out", *more))
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert message in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_outdir_is_needed(made, capsys):
    with pytest.raises(SystemExit):
        main(["--fake", str(made.fake)])
    assert "required: --outdir" in capsys.readouterr().err


def test_user_selection_that_fails_is_told_in_one_line(made, tmp_path, capsys, monkeypatch):
    (tmp_path / "bad_cuts.py").write_text("def three(sources):\n    return [1, 2, 3]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    line = refusal(words(made, tmp_path / "out", "--select", "bad_cuts:three"), tmp_path / "out", capsys)
    assert "bad_cuts:three" in line


# --- coadds that only cutting finds damaged --------------------------------------------------------


def spoil(path: Path) -> bytes:
    """Overwrite the compressed pixels; headers and size stay as they were.  Returns the sound content."""
    sound = path.read_bytes()
    with fitsio.FITS(str(path)) as file:
        offsets = file[1].get_offsets()
    begin, end = offsets["data_start"], offsets["data_end"]
    path.write_bytes(sound[:begin] + b"\xff" * (end - begin) + sound[end:])
    return sound


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_damaged_group_does_not_stop_the_others(jobs, copy, tmp_path, capsys):
    """A brick that only cutting finds damaged: the others are made, and stay as they are."""
    outdir = tmp_path / "out"
    assert main(words(copy, tmp_path / "whole", real=False)) == 0
    capsys.readouterr()
    places = [place for _, i, place in copy.places() if i == 0]
    hurt = [place.plane("image", "r") for place in places[:2]]
    sound = [spoil(path) for path in hurt]
    given = words(copy, outdir, "--jobs", jobs, real=False)

    line = refusal(given, outdir, capsys)
    assert "2 of 3 groups of bricks failed, the others are done and kept" in line
    for place, path in zip(places, hurt, strict=False):
        assert f"brick {place.brick} (file0_rs0_skip0): cannot read {path}" in line
    assert line.endswith("put that right and start again to make what is missing")
    kept = {path: path.stat().st_mtime_ns for path in outdir.glob("x*.npy")}
    assert kept

    hurt[0].write_bytes(sound[0])
    line = refusal(given, outdir, capsys)
    assert "1 of 3 groups" in line
    assert str(hurt[0]) not in line
    assert f"cannot read {hurt[1]}" in line
    assert "restore the file" in line  # the remedy, where there is one thing to do

    hurt[1].write_bytes(sound[1])
    assert main(given) == 0
    assert content_of(outdir) == content_of(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_all_bricks_that_cannot_be_planned_are_named(copy, made, tmp_path, capsys):
    places = [place for _, i, place in copy.places() if i == 0][:2]
    for place in places:
        _truncate(place)
    given = [*words(copy, tmp_path / "out", real=False), "--real", str(made.real)]
    line = refusal(given, tmp_path / "out", capsys)
    assert all(str(place.plane("invvar", "z")) in line for place in places), line
