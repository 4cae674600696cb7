"""Stamps from files to shards: both classes, both readers, batches, unclean pixels."""

from __future__ import annotations

import json
import shutil

import fitsio
import numpy as np
import pytest

from obiwan.dplearn.cutting import extraction
from obiwan.dplearn.cutting.extraction import GroupTask, extract_group, row_keys
from obiwan.dplearn.errors import CoaddError
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.layouts import LAYOUTS, BrickRun, Root
from obiwan.dplearn.trainingset.examples import blank_examples
from obiwan.dplearn.trainingset.manifest import WORK
from synthetic import BRICK, Case, Place, Reader, at, both, content_of, move, planes, write_coadd

LEGACYSIM = LAYOUTS[0]
RUN = "file0_rs0_skip0"


@pytest.fixture(params=[True, False], ids=["windows", "dense"])
def by_windows(request, monkeypatch) -> bool:
    """Force one way of reading, then the other."""
    monkeypatch.setattr(extraction, "windows_pay", lambda *_: request.param)
    return request.param


def brick_run(tmp_path, run: str = RUN) -> BrickRun:
    place = Place("legacysim", tmp_path / "fake", BRICK.name, run)
    root = Root(0, tmp_path / "fake", LEGACYSIM)
    return BrickRun(root, BRICK.name, run, place.coadd, place.tractor, place.truth, None)


def example_rows(xy, label, shard=None, run: str = RUN) -> np.ndarray:
    rows = blank_examples(len(xy), StampSpec())
    rows["x"], rows["y"] = np.array(xy, float).T
    rows["label"], rows["run"], rows["brick"], rows["split"] = label, run, BRICK.name, "train"
    rows["shard"] = 1 if shard is None else shard
    for number in np.unique(rows["shard"]):
        mine = rows["shard"] == number
        rows["row"][mine] = np.arange(np.count_nonzero(mine))
    return rows


def extract(tmp_path, rows, runs, name="out", spec=StampSpec()):  # noqa: B008
    directory = tmp_path / name
    (directory / WORK).mkdir(parents=True)
    mine = {key: runs[key] for key in set(row_keys(rows))}
    receipt = extract_group(GroupTask(0, directory, directory / WORK, spec, rows, mine))
    return receipt, np.load(directory / "xtrain_1.npy")


STAR = (100.37, 140.81)


@pytest.mark.usefixtures("by_windows")
@pytest.mark.parametrize("suffix", [".fits", ".fits.fz", ".fits.gz"])
def test_a_star_gives_the_same_cutout_as_a_real_and_as_a_fake(suffix, tmp_path):
    """One star at one place: injected and recovered in one tree, fitted and no injection in another."""
    star, elsewhere = at(STAR, first=500), at((200, 60), first=900)
    data = planes(BRICK, both(star, elsewhere), noise=1e-4)
    examples = {}
    for name, injected in (("as_fake", star), ("as_real", elsewhere)):
        fitted = both(move(BRICK, star, 0.04, -0.03), elsewhere)
        fitted["id"] = np.array([0, 1])
        case = Case(tmp_path / name, injected=(injected,), fitted=(fitted,), data=data).write()
        place = Place("legacysim", tmp_path / name / "fake", BRICK.name, RUN)
        shutil.rmtree(place.coadd)
        write_coadd(place.coadd, BRICK, data, "dr9", suffix)
        plan = case.plan()
        label = 1 if name == "as_fake" else 0
        near = np.hypot(plan.rows["x"] - STAR[0], plan.rows["y"] - STAR[1]) < 1
        (examples[name],) = plan.rows[near & (plan.rows["label"] == label)]
        examples[name] = np.array([examples[name]])
    fake, real = examples["as_fake"], examples["as_real"]
    assert (fake["x"], fake["y"]) == (real["x"], real["y"])
    for rows in (fake, real):
        rows["split"], rows["shard"] = "train", 1
    stamps = {}
    for name, rows in examples.items():
        run = brick_run(tmp_path / name)
        _, stamps[name] = extract(tmp_path, rows, {(0, BRICK.name, RUN): run}, f"out_{name}")
    assert stamps["as_fake"].tobytes() == stamps["as_real"].tobytes()
    j, i = np.unravel_index(stamps["as_fake"][0, :, :, 1].argmax(), (64, 64))
    assert (j, i) == (32, 32)  # floor(140.78 + 0.5) is 141, where the star's light is


def test_both_ways_of_reading_give_the_same_shards(tmp_path, monkeypatch, rng):
    data = planes(BRICK, at(STAR))
    data["image", "g"][30:90, 40:60] = np.nan
    data["invvar", "r"][100:130, 100:110] = -5
    data["invvar", "z"][100:101, 90:200] = np.inf
    Case(tmp_path, injected=(at(STAR),), fitted=(at(STAR),), data=data).write()
    rows = example_rows(rng.uniform(0, 256, (40, 2)), np.arange(40) % 2)
    runs = {(0, BRICK.name, RUN): brick_run(tmp_path)}
    results = {}
    for windows in (True, False):
        monkeypatch.setattr(extraction, "windows_pay", lambda *_, answer=windows: answer)
        receipt, _ = extract(tmp_path, rows, runs, f"out{windows}")
        results[windows] = receipt, content_of(tmp_path / f"out{windows}")
    assert results[True] == results[False]
    receipt = results[True][0]
    assert min(receipt.not_finite, receipt.negative_invvar) > 0
    reader = Reader()
    x = np.load(tmp_path / "outTrue" / "xtrain_1.npy")
    for row, stamp in zip(rows, x, strict=True):
        np.testing.assert_array_equal(
            stamp, reader.stamp(runs[0, BRICK.name, RUN].coadd, BRICK.name, row["x"], row["y"])
        )


@pytest.mark.usefixtures("by_windows")
def test_rows_of_several_runs_are_mixed_in_their_order(tmp_path, rng):
    runs = {}
    for i in range(3):
        run = f"file0_rs{i}_skip0"
        runs[0, BRICK.name, run] = brick_run(tmp_path, run)
    injected = tuple(at(STAR, (60 + 20 * i, 60)) for i in range(3))
    Case(tmp_path, injected=injected, fitted=injected).write()
    rows = np.concatenate(
        [example_rows(rng.uniform(40, 200, (9, 2)), 0, run=f"file0_rs{i}_skip0") for i in range(3)]
    )[rng.permutation(27)]
    rows["shard"] = np.arange(27) // 10 + 4  # shards 4, 5 and a short 6
    rows["row"] = np.arange(27) % 10
    directory = tmp_path / "out"
    (directory / WORK).mkdir(parents=True)
    receipt = extract_group(GroupTask(7, directory, directory / WORK, StampSpec(), rows, runs))
    assert [(s.number, s.rows) for s in receipt.shards] == [(4, 10), (5, 10), (6, 7)]
    reader = Reader()
    for row in rows:
        x = np.load(directory / f"xtrain_{row['shard']}.npy")
        coadd = runs[0, BRICK.name, row["run"].decode()].coadd
        np.testing.assert_array_equal(x[row["row"]], reader.stamp(coadd, BRICK.name, row["x"], row["y"]))
    written = json.loads((directory / WORK / "group-000007.json").read_text())
    assert [entry["number"] for entry in written["shards"]] == [4, 5, 6]


@pytest.mark.usefixtures("by_windows")
def test_nothing_of_an_earlier_group_stays_in_the_buffer(tmp_path):
    """The buffer is used again: a padded stamp must be 0 outside, not what was there before."""
    Case(tmp_path, injected=(at(STAR),), fitted=(at(STAR),)).write()
    runs = {(0, BRICK.name, RUN): brick_run(tmp_path)}
    extract(tmp_path, example_rows([(128, 128)] * 5, 0), runs, "first")
    _, x = extract(tmp_path, example_rows([(0, 0), (255, 255)], 0), runs, "second")
    assert (x[0, :32] == 0).all()
    assert (x[0, :, :32] == 0).all()
    assert (x[1, 33:] == 0).all()
    assert (x[1, :, 33:] == 0).all()
    assert np.count_nonzero(x[0, 32:, 32:, 3]) == 32 * 32


@pytest.mark.usefixtures("by_windows")
@pytest.mark.parametrize(
    ("kind", "values", "counts"),
    [
        ("image", [np.nan], (1, 0)),
        ("image", [np.inf, -np.inf], (2, 0)),  # of both signs: a sum of them is not finite either
        ("image", [-5.0], (0, 0)),  # a negative image is a measurement
        ("image", [3e38, 3e38, -3e38], (0, 0)),  # a sum that overflows is no reason to change anything
        ("invvar", [-np.inf], (1, 0)),
        ("invvar", [-1e-9], (0, 1)),
        ("invvar", [np.nan, -2.0], (1, 1)),
    ],
)
def test_one_bad_pixel_is_noticed(kind, values, counts, tmp_path):
    data = planes(BRICK, at(STAR))
    data[kind, "r"][130, 90 : 90 + len(values)] = values
    Case(tmp_path, injected=(at(STAR),), fitted=(at(STAR),), data=data).write()
    run = brick_run(tmp_path)
    rows = example_rows([(60, 200), STAR], [0, 1])  # the first stamp is clean
    receipt, x = extract(tmp_path, rows, {(0, BRICK.name, RUN): run})
    assert (receipt.not_finite, receipt.negative_invvar) == counts
    reader = Reader()
    for row, stamp in zip(rows, x, strict=True):
        np.testing.assert_array_equal(stamp, reader.stamp(run.coadd, BRICK.name, row["x"], row["y"]))


@pytest.mark.usefixtures("by_windows")
def test_all_damaged_coadds_of_a_group_are_named(tmp_path):
    runs = {}
    for i in range(3):
        run = f"file0_rs{i}_skip0"
        runs[0, BRICK.name, run] = brick_run(tmp_path, run)
    Case(tmp_path, injected=(at(STAR),) * 3, fitted=(at(STAR),) * 3).write()
    rows = np.concatenate([example_rows([STAR], 0, run=f"file0_rs{i}_skip0") for i in range(3)])
    rows["row"] = np.arange(3)
    for i in (0, 2):
        next(runs[0, BRICK.name, f"file0_rs{i}_skip0"].coadd.glob("*image-g*")).write_text("no image")
    with pytest.raises(CoaddError) as caught:
        extract(tmp_path, rows, runs)
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        f"brick {BRICK.name} (file0_rs{i}_skip0)" for i in (0, 2)
    ]
    assert list((tmp_path / "out").rglob("*.npy")) == []
    assert list((tmp_path / "out" / WORK).iterdir()) == []


def test_a_garbled_header_accuses_no_other_file(tmp_path):
    """CFITSIO keeps messages, and fitsio stumbles over bytes in them when it opens the next file."""
    runs = {
        (0, BRICK.name, f"file0_rs{i}_skip0"): brick_run(tmp_path, f"file0_rs{i}_skip0") for i in range(2)
    }
    data = planes(BRICK, at(STAR))
    for run in runs.values():
        write_coadd(run.coadd, BRICK, data, "dr9", ".fits.fz")
    rows = np.concatenate([example_rows([STAR], 0, run=f"file0_rs{i}_skip0") for i in range(2)])
    rows["row"] = np.arange(2)
    path = next(runs[0, BRICK.name, "file0_rs0_skip0"].coadd.glob("*image-g*"))
    content = path.read_bytes()
    with fitsio.FITS(str(path)) as file:
        begin = file[1].get_offsets()["data_start"] - 2880  # the end of the header, too
    path.write_bytes(content[:begin] + b"\xff" * (len(content) - begin))
    with pytest.raises(CoaddError) as caught:
        extract(tmp_path, rows, runs)
    (line,) = str(caught.value).splitlines()
    assert str(path) in line


SPECS = {
    "griz": StampSpec(("g", "r", "i", "z")),
    "size 96": StampSpec(size=96),
    "griz, images": StampSpec(("g", "r", "i", "z"), planes=("image",)),
    "r, images, 33": StampSpec(("r",), planes=("image",), size=33),
}


@pytest.mark.usefixtures("by_windows")
@pytest.mark.parametrize("name", SPECS)
def test_every_pixel_of_any_specification(name, tmp_path, rng):
    spec = SPECS[name]
    star = at(STAR, bands=("g", "r", "i", "z"))
    data = planes(BRICK, star)
    data["image", "r"][30:90, 40:60] = np.nan
    data["image", "z"][200, 100:103] = np.inf
    data["invvar", "r"][100:130, 100:110] = -5
    Case(tmp_path, injected=(star,), fitted=(star,), data=data).write()
    runs = {(0, BRICK.name, RUN): brick_run(tmp_path)}
    rows = example_rows(rng.uniform(0, 256, (40, 2)), np.arange(40) % 2)
    receipt, x = extract(tmp_path, rows, runs, spec=spec)
    assert x.shape == (40, *spec.shape)
    reader = Reader(spec.bands, spec.size, ("image", "invvar")[: len(spec.planes)])
    for row, stamp in zip(rows, x, strict=True):
        coadd = runs[0, BRICK.name, RUN].coadd
        np.testing.assert_array_equal(stamp, reader.stamp(coadd, BRICK.name, row["x"], row["y"]))
    assert receipt.not_finite > 0
    assert (receipt.negative_invvar > 0) is spec.has_ivar


def test_images_alone_ask_for_no_inverse_variances(tmp_path, monkeypatch):
    """None is decoded for the stamps: they may be gone after the plan was made."""
    Case(tmp_path, injected=(at(STAR),), fitted=(at(STAR),)).write()
    run = brick_run(tmp_path)
    for path in run.coadd.glob("*invvar*"):
        path.unlink()
    for windows in (True, False):
        monkeypatch.setattr(extraction, "windows_pay", lambda *_, answer=windows: answer)
        spec = StampSpec(planes=("image",))
        receipt, x = extract(
            tmp_path, example_rows([STAR], [0]), {(0, BRICK.name, RUN): run}, f"out{windows}", spec
        )
        assert x.shape == (1, 64, 64, 3)
        assert receipt.negative_invvar == 0
