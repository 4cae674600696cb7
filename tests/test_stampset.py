"""Stamp specification, stamp set and its views: what is read, which rows belong to it, what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict

import fitsio
import numpy as np
import pytest

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.stampspec import SPLITS, StampSpec
from obiwan.dplearn.trainingset import stampset
from obiwan.dplearn.trainingset.examples import blank_examples
from obiwan.dplearn.trainingset.manifest import FORMAT, FORMAT_VERSION, MANIFEST, SOURCES, WORK
from obiwan.dplearn.trainingset.shards import write_shard
from obiwan.dplearn.trainingset.stampset import StampSet, open_training_set
from obiwan.dplearn.trainingset.views import with_choice, with_edit
from sealing import seal
from tables import write_table

SPECS = {
    "grz": StampSpec(size=8),
    "griz": StampSpec(("z", "g", "i", "r"), size=9),
    "r": StampSpec(("r",), planes=("image",), size=16),
}


def make_set(directory, spec: StampSpec, sizes: tuple[int, ...] = (5, 3)) -> StampSet:
    """A set of shards of these sizes in each split; pixels hold 100 times the shard plus the row."""
    (directory / WORK).mkdir(parents=True)
    shards, parts = [], []
    for index, split in enumerate(SPLITS):
        for number, n in enumerate(sizes, 1):
            rows = blank_examples(n, spec)
            rows["split"], rows["shard"], rows["row"] = split, number, np.arange(n)
            rows["label"], rows["brick"] = (np.arange(n) + index) % 2, f"000{number}p000"
            x = np.broadcast_to((100 * number + np.arange(n))[:, None, None, None], (n, *spec.shape))
            x, y = np.ascontiguousarray(x, "<f4"), rows["label"].astype("u1")
            shards.append(asdict(write_shard(directory, spec, split, number, x, y, directory / WORK)))
            parts.append(rows)
    write_table(directory, np.concatenate(parts), spec)
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, **spec.to_manifest(), "shards": shards}
    (directory / MANIFEST).write_text(json.dumps(manifest))
    seal(directory)
    return open_training_set(directory)


@pytest.fixture
def stamps(tmp_path) -> StampSet:
    return make_set(tmp_path, SPECS["grz"])


# --- specification --------------------------------------------------------------------------------


def test_the_documented_stamp():
    spec = StampSpec()
    assert spec.channels == ("g", "r", "z", "ivar_g", "ivar_r", "ivar_z")
    assert (spec.shape, spec.centre, spec.stamps_per_file, spec.stamps_per_group) == (
        (64, 64, 6),
        32,
        512,
        8192,
    )
    assert (spec.reference, spec.bluest, spec.label_of) == ("r", "g", {"real": 0, "fake": 1})


def test_bands_are_in_the_order_of_wavelength_and_colours_are_of_neighbours():
    spec = StampSpec(("z", "i", "g"))
    assert spec.bands == ("g", "i", "z")
    assert spec.colours == (("g", "i"), ("i", "z"))
    assert spec.reference == "i"
    assert StampSpec(("z",)).colours == ()
    assert spec.columns("mag") == ("mag_g", "mag_i", "mag_z")


@pytest.mark.parametrize("size", [16, 48, 65, 96, 256])
@pytest.mark.parametrize("bands", ["r", "grz", "griz"])
def test_a_file_is_near_50_megabytes(size, bands):
    spec = StampSpec(tuple(bands), size=size)
    assert 40e6 < spec.stamps_per_file * spec.stamp_bytes <= 512 * 64 * 64 * 6 * 4


def test_planes_are_views():
    spec = SPECS["griz"]
    stamps = np.arange(2 * np.prod(spec.shape), dtype=float).reshape(2, *spec.shape)
    image, ivar = spec.image(stamps), spec.ivar(stamps)
    np.testing.assert_array_equal(image, stamps[..., :4])
    np.testing.assert_array_equal(ivar, stamps[..., 4:])
    image[:], ivar[:] = 0, 1
    assert stamps.sum() == stamps[..., 4:].size
    assert SPECS["r"].ivar(np.zeros((2, *SPECS["r"].shape))) is None


@pytest.mark.parametrize(
    "given",
    [
        {"bands": ()},
        {"bands": ("g", "g")},
        {"bands": ("g", "W1")},
        {"planes": ("ivar",)},
        {"size": 0},
        {"pixel_scale": float("nan")},
        {"labels": ("real",)},
    ],
)
def test_what_makes_no_sense_is_refused(given):
    with pytest.raises(ValueError, match="must be"):
        StampSpec(**given)


# --- stamp set ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPECS)
def test_a_set_tells_its_own_specification(kind, tmp_path):
    stamps = make_set(tmp_path, SPECS[kind])
    assert stamps.spec == SPECS[kind]
    x, y = stamps.read(stamps.split("val")[1])
    assert x.shape == (3, *SPECS[kind].shape)
    assert x[:, 0, 0, 0].tolist() == [200, 201, 202]
    assert y.tolist() == stamps.rows("val")["label"][5:].tolist()
    assert set(stamps.spec.columns("flux")) < set(stamps.rows("val").dtype.names)


def test_rows_and_stamps_go_together(stamps):
    rows, chosen = stamps.rows("test"), np.array([6, 0, 4, 6])
    got = stamps.stamps("test", chosen)
    np.testing.assert_array_equal(got[:, 3, 2, 1], 100 * rows["shard"][chosen] + rows["row"][chosen])
    assert stamps.bricks("test").tolist() == ["0001p000"] * 5 + ["0002p000"] * 3
    assert stamps.stamps("test", np.array([], int)).shape == (0, *stamps.spec.shape)


def test_rows_of_some_shards(stamps):
    second = stamps.only(shard for shard in stamps.shards if shard.number == 2)
    assert second.count("train") == (2, 1)
    assert second.rows("train")["shard"].tolist() == [2] * 3
    assert second.stamps("train", np.array([1]))[0, 0, 0, 0] == 201
    for some in (stamps, second):
        for shard in some.shards:
            assert (some.rows(shard.split)[some.parts()[shard.key]]["shard"] == shard.number).all()
            assert len(some.rows(shard.split)[some.parts()[shard.key]]) == shard.rows
    none = stamps.only(())
    assert len(none.rows("train")) == 0


@pytest.mark.parametrize("change", ["label", "row", "shard"])
def test_a_table_of_other_shards_is_refused(change, tmp_path):
    stamps = make_set(tmp_path, SPECS["grz"])
    rows = np.concatenate([stamps.rows(split) for split in SPLITS])
    rows[change][2] += 1
    write_table(tmp_path, rows, stamps.spec)
    seal(tmp_path)
    for read in (lambda one: one.rows("train"), lambda one: one.shard_rows(one.shards[0])):
        with pytest.raises(TrainingSetError, match="train rows are not those"):
            read(open_training_set(tmp_path))


def test_rows_of_one_shard(stamps, monkeypatch):
    """The same rows; no others are read, of a view of chosen examples neither."""
    chosen = with_choice(stamps, "some", (rows := stamps.examples()[::2]), rows["label"].astype("u1"))
    for one in (stamps, chosen):
        for shard in one.shards:
            assert same(one.shard_rows(shard), one.rows(shard.split)[one.parts()[shard.key]])
    again, asked = open_training_set(stamps.directory), []
    read = stampset.read_sources
    monkeypatch.setattr(stampset, "read_sources", lambda *given: asked.append(given[2:4]) or read(*given))
    for shard in again.shards:
        again.shard_rows(shard)
    assert asked == [(0, 5), (5, 8), (8, 13), (13, 16), (16, 21), (21, 24)]


def test_scores_in_any_order_find_their_rows(stamps, rng):
    rows = stamps.rows("val")
    order = rng.permutation(len(rows))
    scores = rows[["shard", "row", "label"]][order]
    found = stamps.aligned("val", scores)
    np.testing.assert_array_equal(scores[found], rows[["shard", "row", "label"]])
    for wrong in (scores[1:], scores[[0, *range(len(scores) - 1)]]):
        with pytest.raises(TrainingSetError, match="not those of the scores"):
            stamps.aligned("val", wrong)
    with pytest.raises(TrainingSetError, match="not those of the scores"):
        stamps.aligned("test", scores)  # whose labels are others


# --- views ----------------------------------------------------------------------------------------


def test_an_edit_changes_pixels_and_the_checksum_alone(stamps):
    view = with_edit(stamps, "half", lambda x: x / 2)
    assert view.checksum != stamps.checksum
    assert view.checksum != with_edit(stamps, "third", lambda x: x / 2).checksum
    for before, after in zip(stamps.shards, view.shards, strict=True):
        np.testing.assert_array_equal(view.read(after)[0], stamps.read(before)[0] / 2)
        np.testing.assert_array_equal(view.read(after)[1], stamps.read(before)[1])
    assert view.rows("train").tobytes() == stamps.rows("train").tobytes()
    assert view.stamps("train", np.array([7]))[0, 0, 0, 0] == 101


def test_a_choice_has_its_own_labels_and_rows(stamps):
    first, last = stamps.rows("train"), stamps.rows("test")
    last = last[(last["shard"] == 2) & (last["row"] == 2)]
    chosen, label = np.concatenate([first[[4, 1]], last]), np.array([1, 0, 1], "u1")
    changed = []

    def change(key, chosen):
        changed.append(key)
        return chosen + 0.5

    view = with_choice(stamps, "some", chosen, label, change)
    assert [(s.split, s.number, s.rows, s.fake) for s in view.shards] == [
        ("train", 1, 2, 1),
        ("test", 2, 1, 1),
    ]
    x, y = view.read(view.shards[0])
    assert x[:, 0, 0, 0].tolist() == [104.5, 101.5]
    assert y.tolist() == [1, 0]
    assert changed == [("train", 1)]
    rows = view.rows("train")
    assert (rows["label"].tolist(), rows["row"].tolist()) == ([1, 0], [0, 1])
    assert len(view.rows("val")) == 0
    assert view.stamps("test", np.array([0]))[0, 0, 0, 0] == 202.5
    assert stamps.rows("train")["row"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]  # the original's stay
    both = with_edit(view, "negative", lambda x: -x)
    assert both.read(both.shards[1])[0][0, 0, 0, 0] == -202.5
    assert len({stamps.checksum, view.checksum, both.checksum}) == 3


# --- format 1 -------------------------------------------------------------------------------------


def test_a_set_of_format_1_is_read(tmp_path):
    """Of before bands and planes were named; its brick names were of eight characters."""
    made = make_set(tmp_path, SPECS["grz"])
    manifest = {k: v for k, v in made.manifest.items() if k not in {"bands", "planes"}}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    rows = np.concatenate([made.rows(split) for split in SPLITS])
    narrow = [(name, "S8" if name == "brick" else rows.dtype[name]) for name in rows.dtype.names]
    fitsio.write(str(tmp_path / SOURCES), rows.astype(narrow), clobber=True)
    seal(tmp_path, format_version=1)
    found = open_training_set(tmp_path)
    assert found.spec == made.spec
    assert found.rows("test").tobytes() == made.rows("test").tobytes()
    np.testing.assert_array_equal(found.read(found.shards[0])[0], made.read(made.shards[0])[0])


def test_a_set_of_format_1_has_three_bands(tmp_path):
    made = make_set(tmp_path, SPECS["griz"])
    manifest = {k: v for k, v in made.manifest.items() if k not in {"bands", "planes"}}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    seal(tmp_path, format_version=1)
    with pytest.raises(TrainingSetError, match=r"channels is .*make the training set again"):
        open_training_set(tmp_path)


# --- tables that do not fit into memory -------------------------------------------------------------


def same(rows: np.ndarray, others: np.ndarray) -> bool:
    """Whether rows are equal, NaN for NaN."""
    return rows.dtype == others.dtype and rows.tobytes() == others.tobytes()


def test_a_large_table_is_read_in_pieces(tmp_path, monkeypatch):
    """Rows of all shards, of some and of none, and the visible columns, are those of a table that is held."""
    small = make_set(tmp_path, SPECS["grz"], (5, 3, 4))
    held, asked, read = [small.rows(split) for split in SPLITS], [], stampset.read_sources
    assert [len(rows) for rows in held] == [12, 12, 12]
    monkeypatch.setattr(stampset, "LARGE", 5)
    monkeypatch.setattr(stampset, "PIECE", 2)

    def spy(directory, spec, start, stop, split):
        asked.append((split, stop - start))
        return read(directory, spec, start, stop, split)

    monkeypatch.setattr(stampset, "read_sources", spy)
    large = open_training_set(tmp_path)
    pieces = list(large.pieces("train"))
    assert same(np.concatenate(pieces), small.rows("train"))
    assert [len(piece) for piece in pieces] == [2] * 6
    for numbers in ((1,), (2, 3), ()):
        parts = [one.only(s for s in one.shards if s.number in numbers) for one in (small, large)]
        for split in SPLITS:
            found = [part.rows(split) for part in parts]
            assert same(*found)
            assert len(found[0]) == sum(parts[0].count(split))
            assert same(np.concatenate(list(parts[1].pieces(split))), found[0])
    assert large.read_columns() == small.read_columns()
    assert {number for _, number in asked} == {2}  # nothing was held
    assert same(large.rows("test"), small.rows("test"))
    assert asked[-1] == ("test", 12)
    before = len(asked)
    assert same(np.concatenate(list(large.pieces("test"))), small.rows("test"))
    assert len(asked) == before  # what is held is not read again
    with pytest.raises(ValueError, match="read-only"):
        large.rows("test")["label"] = 0


def test_every_so_manieth_row_of_pieces():
    whole = np.arange(23)
    for step in (1, 2, 5, 30):
        assert np.array_equal(stampset.every(step, np.split(whole, [4, 4, 9, 20])), whole[::step])
