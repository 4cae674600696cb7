"""Ablations: what each leaves of a cutout, edited views of a training set, retraining that goes on."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from obiwan.dplearn.errors import LeaseLostError, ModelError, TrainingSetError
from obiwan.dplearn.retraining.ablations import core_radius, edits, names, run_ablation
from obiwan.dplearn.retraining.runs import directory_name, retrain, run_config_of
from obiwan.dplearn.retraining.sensitivity import run_sensitivity
from obiwan.dplearn.stampspec import SPLITS, StampSpec
from obiwan.dplearn.survey.differences import Difference
from obiwan.dplearn.training.rundir import SCRATCH, RunLogs
from obiwan.dplearn.training.settings import FeedConfig, RunConfig, network_config
from obiwan.dplearn.trainingset.examples import blank_examples
from obiwan.dplearn.trainingset.stampset import open_training_set
from obiwan.dplearn.trainingset.views import halves, with_choice, with_edit
from planted import Planted, write_set
from sealing import seal
from tables import read_table, write_table

SPEC = StampSpec()
EDITS = edits(SPEC)
TINY = network_config("lenet5", maps=(2, 2), kernel_size=3, dense=4)
CONFIG = RunConfig(TINY, FeedConfig(batch_size=8, seed=3), epochs=1, learning_rate=2e-3)


def make_rows(training_set, bricks=6):
    """A source table for a set that has none: bricks of a split of its own, both classes in each."""
    parts = []
    for split in SPLITS:
        for shard in training_set.split(split):
            rows = blank_examples(shard.rows, training_set.spec)
            rows["split"], rows["shard"], rows["row"] = split.encode(), shard.number, np.arange(shard.rows)
            rows["label"] = training_set.read(shard)[1]
            rows["brick"] = np.char.mod(f"{split[:3]}%d", np.arange(shard.rows) // 2 % bricks).astype("S8")
            rows["run"], rows["id"] = b"rs0", 1000 * shard.number + np.arange(shard.rows)
            rows["ra"] = rows["dec"] = 0.0
            parts.append(rows)
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "set"
    write_set(directory, Planted("flux", 3.0), {"train": 48, "val": 24, "test": 40}, seed=5, rows=24)
    training_set = open_training_set(directory)
    write_table(directory, make_rows(training_set))
    seal(directory)
    return open_training_set(directory)


SPECS = {
    "grz": SPEC,
    "griz 48": StampSpec(("g", "r", "i", "z"), size=48),
    "r": StampSpec(("r",), size=20),
    "images of g and r at 96": StampSpec(("g", "r"), ("image",), size=96),
}


@pytest.fixture(params=SPECS)
def spec(request):
    return SPECS[request.param]


def cutouts_of(spec, rng):
    x = rng.normal(size=(5, *spec.shape)).astype(np.float32)
    if spec.has_ivar:
        ivar = spec.ivar(x)
        ivar[...] = rng.uniform(10, 20, ivar.shape)
        ivar[0, 10:20, :, -1] = 0  # a band with a hole
        ivar[1, ..., -1] = 0  # a band without data
    return x


# --- what is left of a cutout


def test_names():
    assert names(SPEC) == (
        *("image only", "ivar only", "centre masked", "outskirts masked"),
        *("band g", "band r", "band z", "A/A real", "A/A fake"),
    )
    assert names(SPECS["griz 48"])[4:8] == ("band g", "band r", "band i", "band z")
    assert names(SPECS["r"])[2:] == ("centre masked", "outskirts masked", "A/A real", "A/A fake")
    assert names(SPECS["images of g and r at 96"])[:4] == (
        *("centre masked", "outskirts masked"),
        *("band g", "band r"),
    )


def test_every_edit_leaves_its_input_and_shape_alone(spec, rng):
    x = cutouts_of(spec, rng)
    before = x.copy()
    for name, edit in edits(spec).items():
        out = edit(x)
        assert np.array_equal(x, before), name
        assert (out.shape, out.dtype) == (before.shape, np.float32), name
        assert np.isfinite(out).all(), name
        assert not np.array_equal(out, before), name
        assert np.array_equal(edit(x[2:3])[0], out[2]), name  # a cutout by itself: no other matters


@pytest.mark.parametrize("spec", [s for s in SPECS.values() if s.has_ivar])
def test_image_only_and_ivar_only(spec, rng):
    x = cutouts_of(spec, rng)
    out, ivar = edits(spec)["image only"](x), spec.ivar(x)
    assert np.array_equal(spec.image(out), spec.image(x))
    assert np.array_equal(spec.ivar(out) > 0, ivar > 0)
    hole = ivar[0, ..., -1]
    assert set(np.unique(spec.ivar(out)[0, ..., -1])) == {np.float32(0), np.median(hole[hole > 0])}
    assert not spec.ivar(out)[0, 10:20, :, -1].any()
    assert not spec.ivar(out)[1, ..., -1].any()
    assert np.unique(spec.ivar(out)[2, ..., 0]).tolist() == [np.median(ivar[2, ..., 0])]
    out = edits(spec)["ivar only"](x)
    assert not spec.image(out).any()
    assert np.array_equal(spec.ivar(out), ivar)


def test_centre_and_outskirts_share_the_stamp(spec, rng):
    x, radius = cutouts_of(spec, rng), core_radius(spec)
    inner, outer = edits(spec)["outskirts masked"](x), edits(spec)["centre masked"](x)
    assert np.array_equal(inner + outer, x)
    yy, xx = np.nonzero((inner[3] != 0).all(axis=-1))
    squared = (xx - spec.centre) ** 2 + (yy - spec.centre) ** 2
    assert (squared.min(), squared.max()) == (0, radius**2)
    assert len(xx) == pytest.approx(np.pi * radius**2, rel=0.05)
    assert core_radius(SPEC) == 16


@pytest.mark.parametrize("spec", [s for s in SPECS.values() if len(s.bands) > 1])
def test_one_band(spec, rng):
    x = cutouts_of(spec, rng)
    for kept, band in enumerate(spec.bands):
        out = edits(spec)[f"band {band}"](x)
        for index in range(len(spec.bands)):
            planes = slice(index, None, len(spec.bands))
            if index == kept:
                assert np.array_equal(out[..., planes], x[..., planes])
            else:  # nothing of the stamp is left
                assert np.array_equal(
                    out[..., planes], np.broadcast_to(out[:1, ..., planes], out[..., planes].shape)
                )
                assert spec.has_ivar == (not out[..., index].any())
                assert spec.ivar(out) is None or (spec.ivar(out)[..., index] == 1).all()


# --- views of a training set


def test_an_edited_view(data):
    view = with_edit(data, "ivar only", EDITS["ivar only"])
    assert view.count("train") == data.count("train")
    assert (
        len({data.checksum, view.checksum, with_edit(data, "image only", EDITS["image only"]).checksum}) == 3
    )
    for shard, original in zip(view.shards, data.shards, strict=True):
        x, y = view.read(shard)
        raw, label = data.read(original)
        assert np.array_equal(x, EDITS["ivar only"](raw))
        assert np.array_equal(y, label)


def test_shards_are_looked_up_and_not_searched_for(data):
    """A pass over many shards must not take as many searches of as many."""

    class Counted(tuple):
        passes = 0

        def __iter__(self):
            Counted.passes += 1
            return super().__iter__()

    view = with_edit(replace(data, shards=Counted(data.shards)), "ivar only", EDITS["ivar only"])
    Counted.passes = 0
    for shard in view.shards:
        view.read(shard)
    assert Counted.passes <= 1 < len(view.shards)


def test_a_damaged_shard_is_noticed_through_a_view(tmp_path):
    write_set(tmp_path / "set", Planted(), {"train": 8, "val": 8, "test": 8}, seed=1, rows=8)
    own = open_training_set(tmp_path / "set")
    path = own.directory / own.shards[0].x_name
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    view = with_edit(own, "ivar only", EDITS["ivar only"])
    with pytest.raises(TrainingSetError, match="checksum"):
        view.read(view.shards[0])


def test_rows_must_be_those_of_the_shards(data, tmp_path):
    for shard in data.shards:
        rows = data.only([shard]).rows(shard.split)
        assert np.array_equal(rows["label"], data.read(shard)[1])
        assert (rows["split"] == shard.split.encode()).all()
        assert (rows["shard"] == shard.number).all()
        assert np.array_equal(rows["row"], np.arange(shard.rows))
    rows, copy = read_table(data.directory), tmp_path / "copy"
    shutil.copytree(data.directory, copy)
    rows["label"] = 1 - rows["label"]
    rows["label"][rows["split"] == b"val"] = 1
    write_table(copy, rows)
    seal(copy)
    with pytest.raises(TrainingSetError, match=r"sources.fits: its val rows"):
        open_training_set(copy).examples()


def test_chosen_examples_under_labels_of_their_own(data):
    rows = data.examples()
    reals = rows[rows["label"] == 0]
    label = halves(reals, seed=1)
    view = with_choice(data, "reals", reals, label)
    assert sum(view.count("train")) == data.count("train")[0]
    one, two = view.count("test")
    assert one + two == data.count("test")[0]
    for shard in view.shards:
        original = next(s for s in data.shards if (s.split, s.number) == (shard.split, shard.number))
        x, y = view.read(shard)
        raw, classes = data.read(original)
        assert np.array_equal(x, raw[classes == 0])
        assert (shard.rows, shard.fake) == (len(y), y.sum())
    bricks = view.bricks("test")
    expected = reals["brick"][reals["split"] == b"test"]
    assert bricks.tolist() == [name.decode() for name in expected]
    assert view.checksum != with_choice(data, "fakes", reals, label).checksum


def test_halves_of_every_brick_and_class(data, rng):
    rows = read_table(data.directory)
    label = halves(rows, seed=7)
    assert set(label) == {0, 1}
    for brick in np.unique(rows["brick"]):
        for kind in (0, 1):
            group = label[(rows["brick"] == brick) & (rows["label"] == kind)]
            assert abs(int(2 * group.sum()) - len(group)) <= 1
    order = rng.permutation(len(rows))
    assert np.array_equal(halves(rows[order], seed=7), label[order])
    moved = rows.copy()
    moved["shard"], moved["row"] = 99, rng.permutation(len(rows))
    assert np.array_equal(halves(moved, seed=7), label)
    assert not np.array_equal(halves(rows, seed=8), label)
    # Nor does it depend on who else is there.
    part = rows["brick"] == rows["brick"][0]
    assert np.array_equal(halves(rows[part], seed=7), label[part])
    assert len(halves(rows[:0], seed=7)) == 0


def test_the_odd_one_goes_either_way():
    rows = blank_examples(400, StampSpec())
    rows["brick"] = np.char.mod("%04d", np.arange(400)).astype("S8")
    assert 150 < halves(rows, seed=1).sum() < 250


# --- the settings of the run


def test_settings_come_from_the_run_beside_the_model(tmp_path):
    config = RunConfig(TINY, FeedConfig(seed=9, augment=True), epochs=3, warmup=0.2)
    (tmp_path / "run.json").write_text(json.dumps({"data": "1234abcd", **config.to_dict()}))
    assert run_config_of(tmp_path / "best.keras") == config


@pytest.mark.parametrize(
    "text", [None, "", "[]", "{}", '{"network": {"arch": "lenet5", "maps": [1]}, "feed": {}}']
)
def test_settings_that_are_not_there(tmp_path, text):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(ModelError, match=r"run\.json: not"):
        run_config_of(tmp_path / "best.keras")


@pytest.mark.parametrize(
    "change",
    [
        {"feed": []},
        {"feed": {"batch_size": 0}},
        {"network": {**CONFIG.to_dict()["network"], "pools": 2}},
        {"learning_rate": "1"},
    ],
)
def test_settings_of_another_version(change, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({**CONFIG.to_dict(), **change}))
    with pytest.raises(ModelError, match=r"run\.json: not the settings of a run"):
        run_config_of(tmp_path / "best.keras")


# --- retraining


class Death(BaseException):
    """An interruption."""


def test_an_interrupted_ablation_goes_on_and_a_finished_one_is_not_repeated(data, tmp_path, monkeypatch):
    name, steps = "band r", []
    directory = tmp_path / "ablations" / "band_r"

    def count(*arguments):
        steps.append(arguments)

    def die(*_):
        raise Death

    two = replace(CONFIG, epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(RunLogs, "end_epoch", die)
        with pytest.raises(Death):
            run_ablation(name, data, two, tmp_path)
    assert not (directory / "result.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(RunLogs, "step", count)
        found = run_ablation(name, data, two, tmp_path)
    assert len(steps) == 6  # the second epoch of two
    assert (found.name, found.train, found.test, found.bricks) == (name, 48, 40, 6)
    assert 0 <= found.auc.low <= found.auc.value <= found.auc.high <= 1
    with monkeypatch.context() as patch:
        patch.setattr("obiwan.dplearn.training.trainer.Trainer", None)
        assert run_ablation(name, data, two, tmp_path) == found
    with pytest.raises(ModelError, match=r"band_r: holds another run \(feed.seed was 3, is 4\)"):
        run_ablation(name, data, replace(two, feed=FeedConfig(batch_size=8, seed=4)), tmp_path)
    found = run_ablation(name, data, replace(two, epochs=1), tmp_path, overwrite=True)
    assert json.loads((directory / "run.json").read_text())["epochs"] == 1
    assert run_ablation(name, data, replace(two, epochs=1), tmp_path, overwrite=True) == found
    (directory / "result.json").write_text("{")
    with pytest.raises(ModelError, match=r"result.json: not a readable result"):
        run_ablation(name, data, replace(two, epochs=1), tmp_path)


def test_of_two_retrainings_in_one_directory_the_later_goes_on(data, tmp_path, monkeypatch):
    view, second = with_edit(data, "band r", EDITS["band r"]), []

    def begin_another(*_):
        monkeypatch.undo()
        second.append(retrain(view, CONFIG, tmp_path / "both", name="band r"))

    alone = retrain(view, CONFIG, tmp_path / "alone", name="band r")
    monkeypatch.setattr(RunLogs, "step", begin_another)
    with pytest.raises(LeaseLostError, match="another run was started here and has taken over"):
        retrain(view, CONFIG, tmp_path / "both", name="band r")
    assert second == [alone]
    assert not (tmp_path / "both" / SCRATCH).exists()


def test_reals_against_reals(data, tmp_path):
    found = run_ablation("A/A real", data, CONFIG, tmp_path)
    assert found.train == data.count("train")[0]
    assert found.test == data.count("test")[0]
    assert (tmp_path / "ablations" / "A_A_real" / "result.json").is_file()


def test_the_network_is_trained_on_the_edited_cutouts_and_scored_on_them(data, tmp_path):
    """Where the edit leaves nothing that differs, every score is the same and the AUC is exactly 0.5."""
    view = with_edit(data, "blank", lambda x: np.ones_like(x))
    found = retrain(view, CONFIG, tmp_path / "blank", name="blank")
    assert (found.auc.value, found.learnt, found.bricks) == (0.5, False, 6)


def test_more_examples_in_a_batch_than_there_are(data, tmp_path):
    many = replace(CONFIG, feed=FeedConfig(batch_size=512, seed=3))
    view = with_edit(data, "blank", lambda x: np.ones_like(x))
    assert retrain(view, many, tmp_path / "blank", name="blank").train == 48


def test_a_split_without_one_of_the_labels(data, tmp_path):
    rows = data.examples()
    few = rows[(rows["split"] != b"val") | (rows["row"] == 0)]
    with pytest.raises(TrainingSetError, match="the val split has"):
        retrain(with_choice(data, "few", few, halves(few, seed=1)), CONFIG, tmp_path / "few", name="few")
    assert not (tmp_path / "few").exists()


def test_without_a_source_table(tmp_path):
    write_set(tmp_path / "set", Planted(), {"train": 8, "val": 8, "test": 8}, seed=1, rows=8)
    own = open_training_set(tmp_path / "set")
    with pytest.raises(TrainingSetError, match=r"sources\.fits"):
        run_ablation("A/A fake", own, CONFIG, tmp_path)
    with pytest.raises(TrainingSetError, match=r"--ablations 'ivar'.*image only, ivar only"):
        run_ablation("ivar", own, CONFIG, tmp_path)
    assert not (tmp_path / "ablations").exists()


@pytest.mark.parametrize("name", ["griz 48", "images of g and r at 96"])
def test_other_stamps_are_trained_again(name, tmp_path):
    spec, directory = SPECS[name], tmp_path / "set"
    counts = {"train": 16, "val": 8, "test": 12}
    write_set(directory, Planted("flux", 3.0), counts, seed=5, rows=24, spec=spec)
    rows = make_rows(open_training_set(directory))
    rows["x"], rows["y"], rows["type"] = 100.0, 100.0, b"PSF"
    for quantity in ("flux", "psfsize"):
        for column in spec.columns(quantity):
            rows[column] = 1.3
    write_table(directory, rows, spec)
    seal(directory)
    made = open_training_set(directory)
    found = run_ablation(f"band {spec.bands[-1]}", made, CONFIG, tmp_path)
    assert (found.train, found.test) == (16, 12)
    found = run_sensitivity(Difference("flux", 2.0), made, CONFIG, tmp_path, quiet=True)
    assert (found.train, found.test, found.left_out) == (16, 12, 0)


def test_names_of_directories():
    assert [directory_name([name]) for name in names(SPEC)] == [
        *("image_only", "ivar_only", "centre_masked", "outskirts_masked"),
        *("band_g", "band_r", "band_z", "A_A_real", "A_A_fake"),
    ]
    assert directory_name(["offset", "-0.2"]) == "offset_-0.2"
