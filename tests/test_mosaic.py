"""The examples as one sees them: which are chosen, how they are drawn, and the program that draws them."""

from __future__ import annotations

import struct

import keras
import numpy as np
import pytest

from benchmarks.planted import Planted
from evaluation_set import make_set
from obiwan.dplearn import mosaic
from obiwan.dplearn.evaluation import gallery
from obiwan.dplearn.report.stamps import colour_image, grey_image
from obiwan.dplearn.training.model import build_network
from obiwan.dplearn.training.settings import network_config
from obiwan.dplearn.training.trainer import save_model
from obiwan.dplearn.trainingset import shards
from obiwan.dplearn.trainingset.examples import read_sources, read_stamps, write_sources
from sealing import seal


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A training set and a network that was not trained."""
    place = tmp_path_factory.mktemp("mosaic")
    make_set(place / "set", Planted("offset", 1.5), {"train": 64, "val": 64, "test": 64})
    keras.utils.set_random_seed(1)
    save_model(
        build_network(network_config("lenet5", maps=(2, 2), kernel_size=3, dense=4)), place / "net.keras"
    )
    return place


def size(path):
    """Width and height of a PNG file."""
    return struct.unpack(">II", path.read_bytes()[16:24])


def test_the_five_figures_of_the_seed_page(data, tmp_path, capsys):
    assert mosaic.main(["--data", str(data / "set"), "--outdir", str(tmp_path), "--rows", "4"]) == 0
    names = [f"fake_real_mosaic_p{p:02d}.png" for p in (99, 75, 50, 25, 1)]
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in names]
    width, height = size(tmp_path / names[0])
    assert width > 800
    assert height == pytest.approx(width * (4 * 1.09 + 0.25) / 8, abs=2)
    assert len({(tmp_path / name).read_bytes() for name in names}) == 5


def test_galleries_are_of_the_validation_split(data, tmp_path, capsys):
    words = ["--data", str(data / "set"), "--outdir", str(tmp_path), "--rows", "2"]
    assert mosaic.main([*words, "--model", str(data / "net.keras"), "--split", "val"]) == 0
    said = capsys.readouterr().out
    drawn = {path.stem for path in tmp_path.glob("gallery_*.png")}
    assert drawn
    assert drawn <= {f"gallery_{name}" for name, *_ in gallery.GALLERIES}
    assert all(name in said for name in drawn)
    assert not (data / "set" / "test_looks.jsonl").exists()  # the test split is not looked at
    with pytest.raises(SystemExit):
        mosaic.main([*words, "--split", "test"])


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--data", "nowhere"], "nowhere"), (["--model", "no.keras"], "no.keras: no such file")],
)
def test_what_is_wrong_is_one_line(data, tmp_path, capsys, words, message):
    known = {"--data": str(data / "set"), "--outdir": str(tmp_path / "out"), "--rows": "2"}
    known |= dict(zip(words[::2], words[1::2], strict=True))
    assert mosaic.main([word for pair in known.items() for word in pair]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert message in lines[0]


def test_magnitudes_must_be_known(tmp_path, capsys):
    place = tmp_path / "set"
    make_set(place, Planted("offset", 1.5), {"train": 64, "val": 64, "test": 64})
    rows = read_sources(place)
    rows["mag_g"][rows["label"] == 1] = np.nan
    write_sources(place, place, rows)
    seal(place)
    assert mosaic.main(["--data", str(place), "--outdir", str(tmp_path / "out")]) == 1
    assert "no real and fake example with a g magnitude" in capsys.readouterr().err


def test_pairs_alternate_and_agree_in_magnitude(rng):
    magnitude, label = rng.uniform(20, 24, 400), np.arange(400) % 2
    magnitude[:9] = np.nan
    for percentile, near in ((99, 20), (50, 22), (1, 24)):
        chosen = gallery.pair_by_magnitude(magnitude, label, percentile, 3)
        assert label[chosen].tolist() == [0, 1] * 3
        assert len(set(chosen.tolist())) == 6
        assert np.abs(magnitude[chosen[::2]] - magnitude[chosen[1::2]]).max() < 0.2
        assert np.abs(magnitude[chosen] - near).max() < 0.3


def test_galleries_hold_what_their_titles_say():
    label = np.array([0, 0, 0, 1, 1, 1, 1])
    score = np.array([0.1, 0.7, 0.9, 0.2, 0.4, 0.6, 0.8])
    chosen = {
        name: gallery.gallery_rows(label, score, of, highest, 2).tolist()
        for name, _, of, highest in gallery.GALLERIES
    }
    assert chosen == {"fakest_fakes": [6, 5], "fakes_that_fooled": [3, 4], "rejected_reals": [2, 1]}
    nothing = np.full(7, 0.5)
    assert not any(
        len(gallery.gallery_rows(label, nothing, of, high, 2)) for _, _, of, high in gallery.GALLERIES
    )


def test_stamps_are_read_in_the_order_asked_for(data):
    training_set = shards.open_training_set(data / "set")
    rows = read_sources(data / "set")
    rows = rows[rows["split"] == b"train"]
    chosen = np.array([40, 3, 17])
    stamps = read_stamps(training_set, "train", rows, chosen)
    for stamp, row in zip(stamps, rows[chosen], strict=True):
        shard = next(s for s in training_set.split("train") if s.number == row["shard"])
        assert np.array_equal(stamp, training_set.read(shard)[0][row["row"]])


def test_padding_does_not_change_how_the_rest_is_shown(rng):
    image, ivar = rng.normal(0, 2, (64, 64)), np.full((64, 64), 0.25)
    image[30:34, 30:34] += 60
    whole = grey_image(image, ivar)
    assert whole[:20].mean() == pytest.approx(np.sqrt(2), abs=0.15)  # the sky is 2 sigma up
    assert whole[31, 31] > 5
    ivar[:, 40:], image[:, 40:] = 0, 0
    padded = grey_image(image, ivar)
    assert (padded[:, 40:] == 0).all()
    assert padded[:, :40] == pytest.approx(whole[:, :40], abs=0.2)
    assert (grey_image(image * 0, ivar * 0) == 0).all()


def test_colours():
    stamp = np.zeros((64, 64, 6))
    stamp[..., 3:] = 100
    stamp[10, 10, :3] = 1, 0.1, 0.01
    stamp[20, 20, :3] = 0.01, 0.1, 1
    stamp[:, 40:, 3:] = 0
    shown = colour_image(stamp).astype(int)
    assert shown[10, 10].argmax() == 2  # g is blue
    assert shown[20, 20].argmax() == 0  # z is red
    assert (shown[:, 40:] == 0).all()
    assert (shown[0, 0] > 0).all()
