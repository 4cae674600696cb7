"""The examples as one sees them: which are chosen, how they are drawn, and the program that draws them."""

from __future__ import annotations

import shutil
import struct
from dataclasses import replace

import keras
import numpy as np
import pytest

from evaluation_set import make_set
from obiwan.dplearn import mosaic
from obiwan.dplearn.evaluation import gallery
from obiwan.dplearn.report import figures
from obiwan.dplearn.report.figures import gallery_picture, mosaic_picture
from obiwan.dplearn.report.formatting import catalogue
from obiwan.dplearn.report.pictures import png_of
from obiwan.dplearn.report.stamps import WEIGHTS, MosaicLayout, colour_bands, colour_image, grey_image
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.training.model import build_network, load_network
from obiwan.dplearn.training.settings import network_config
from obiwan.dplearn.training.trainer import save_model
from obiwan.dplearn.trainingset import stampset
from planted import Planted
from sealing import seal
from tables import read_table, write_table

GRZ = StampSpec()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A training set and a network that was not trained."""
    place = tmp_path_factory.mktemp("mosaic")
    make_set(place / "set", Planted("offset", 1.5), {"train": 64, "val": 64, "test": 64})
    keras.utils.set_random_seed(1)
    network = network_config("lenet5", maps=(2, 2), kernel_size=3, dense=4)
    save_model(build_network(network, StampSpec()), place / "net.keras")
    return place


@pytest.fixture
def brightest(monkeypatch):
    """One mosaic instead of five, for what is about something else."""
    for module in (mosaic, gallery):
        monkeypatch.setattr(module, "PERCENTILES", (99,))


def size(path):
    """Width and height of a PNG file."""
    return struct.unpack(">II", path.read_bytes()[16:24])


def names(place):
    return {path.name for path in place.iterdir()}


def test_the_five_figures_of_the_seed_page(data, tmp_path, capsys):
    assert mosaic.main(["--data", str(data / "set"), "--outdir", str(tmp_path), "--rows", "4"]) == 0
    stems = [f"fake_real_mosaic_p{p:02d}" for p in (99, 75, 50, 25, 1)]
    assert capsys.readouterr().out.split() == [str(tmp_path / f"{stem}.png") for stem in stems]
    assert names(tmp_path) == {f"{stem}.{kind}" for stem in stems for kind in ("png", "pdf")}
    width, height = size(tmp_path / f"{stems[0]}.png")
    assert width > 800
    layout = MosaicLayout(GRZ, 4, "title")
    assert height == pytest.approx(width * layout.height / layout.width, abs=2)
    assert len({(tmp_path / f"{stem}.png").read_bytes() for stem in stems}) == 5


@pytest.mark.usefixtures("brightest")
def test_what_no_network_was_trained_on_is_shown(data, tmp_path, capsys, monkeypatch):
    asked = []
    whole = mosaic.mosaics_of
    monkeypatch.setattr(mosaic, "mosaics_of", lambda *words: asked.append(whole(*words)) or asked[-1])
    words = ["--data", str(data / "set"), "--outdir", str(tmp_path), "--rows", "2"]
    assert mosaic.main([*words, "--model", str(data / "net.keras")]) == 0
    assert {m.split for m in asked[0]} == {"val"}
    rows = read_table(data / "set")
    assert np.isin(asked[0][0].magnitudes, rows["mag_g"][rows["split"] == b"val"]).all()
    said = capsys.readouterr().out
    drawn = {path.stem for path in tmp_path.glob("gallery_*.png")}
    assert drawn
    assert drawn <= {f"gallery_{name}" for name, *_ in gallery.GALLERIES}
    assert all(name in said for name in drawn)
    assert not (data / "set" / "test_looks.jsonl").exists()  # the test split is not looked at
    with pytest.raises(SystemExit):
        mosaic.main([*words, "--split", "test"])


@pytest.mark.parametrize("rows", ["0", "1", "3"])
def test_rows_are_pairs(data, tmp_path, capsys, rows):
    with pytest.raises(SystemExit):
        mosaic.main(["--data", str(data / "set"), "--outdir", str(tmp_path), "--rows", rows])
    assert "--rows must be even and at least 2" in capsys.readouterr().err


def network(path, value):
    """A network whose last layer has but one weight."""
    model = load_network(path.parent / "net.keras")
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * 0, bias * 0 + value])
    save_model(model, path)
    return str(path)


@pytest.mark.usefixtures("brightest")
def test_a_network_that_gives_no_numbers_is_an_error_and_nothing_is_drawn(data, tmp_path, capsys):
    words = ["--data", str(data / "set"), "--outdir", str(tmp_path / "out"), "--rows", "2"]
    assert mosaic.main([*words, "--model", network(data / "nan.keras", np.nan)]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert "64 of 64 scores are not finite" in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("brightest")
def test_a_network_that_gives_one_number_has_no_galleries_nor_those_of_another(data, tmp_path, capsys):
    for name in ("gallery_rejected_reals.png", "gallery_rejected_reals.pdf", "gallery_of_mine.png"):
        (tmp_path / name).write_text("of another network")
    words = ["--data", str(data / "set"), "--outdir", str(tmp_path), "--rows", "2"]
    assert mosaic.main([*words, "--model", network(data / "constant.keras", np.array([0, 0.3]))]) == 0
    assert "gives every example the score" in capsys.readouterr().err
    assert {name for name in names(tmp_path) if name.startswith("gallery")} == {"gallery_of_mine.png"}


def test_a_percentile_that_shows_the_same_again_is_left_out(data, tmp_path, capsys):
    place, out = tmp_path / "set", tmp_path / "out"
    shutil.copytree(data / "set", place)
    rows = read_table(place)
    for label in (0, 1):
        mine = np.flatnonzero((rows["split"] == b"val") & (rows["label"] == label))
        rows["mag_g"][mine[2:]] = np.nan
    write_table(place, rows)
    seal(place)
    out.mkdir()
    (out / "fake_real_mosaic_p50.png").write_text("of another training set")
    assert mosaic.main(["--data", str(place), "--outdir", str(out), "--rows", "6"]) == 0
    said = capsys.readouterr()
    assert len(said.out.split()) == 1
    assert "fake_real_mosaic_p50 left out" in said.err
    assert "pruned" not in said.err  # what the writer of PDF files does to fonts
    assert names(out) == {"fake_real_mosaic_p99.png", "fake_real_mosaic_p99.pdf"}


@pytest.mark.usefixtures("brightest")
def test_rows_of_another_set_are_refused(data, tmp_path, capsys):
    shutil.copytree(data / "set", tmp_path / "set")
    rows = read_table(tmp_path / "set")
    rows["label"][rows["split"] == b"val"] = 1 - rows["label"][rows["split"] == b"val"]
    write_table(tmp_path / "set", rows)
    seal(tmp_path / "set")
    words = ["--data", str(tmp_path / "set"), "--outdir", str(tmp_path / "out"), "--rows", "2"]
    assert mosaic.main([*words, "--model", str(data / "net.keras")]) == 1
    assert "its val rows are not those of" in capsys.readouterr().err


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
    assert not (tmp_path / "out").exists()


def test_magnitudes_must_be_known(tmp_path, capsys):
    place = tmp_path / "set"
    make_set(place, Planted("offset", 1.5), {"train": 64, "val": 64, "test": 64})
    rows = read_table(place)
    rows["mag_g"][rows["label"] == 1] = np.nan
    write_table(place, rows)
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
        for name, of, highest in gallery.GALLERIES
    }
    assert chosen == {"fakest_fakes": [6, 5], "fakes_that_fooled": [3, 4], "rejected_reals": [2, 1]}
    nothing = np.full(7, 0.5)
    assert not any(
        len(gallery.gallery_rows(label, nothing, of, high, 2)) for _, of, high in gallery.GALLERIES
    )


def test_stamps_are_read_in_the_order_asked_for(data):
    training_set = stampset.open_training_set(data / "set")
    rows = read_table(data / "set")
    rows = rows[rows["split"] == b"train"]
    chosen = np.array([40, 3, 17])
    stamps = training_set.stamps("train", chosen)
    for stamp, row in zip(stamps, rows[chosen], strict=True):
        shard = next(s for s in training_set.split("train") if s.number == row["shard"])
        assert np.array_equal(stamp, training_set.read(shard)[0][row["row"]])


def test_padding_does_not_change_how_the_rest_is_shown(rng):
    image, ivar = rng.normal(0, 2, (64, 64)), np.full((64, 64), 0.25)
    image[30:34, 30:34] += 60
    whole = grey_image(image, ivar > 0)
    assert whole[:20].mean() == pytest.approx(np.sqrt(2), abs=0.15)  # the sky is 2 sigma up
    assert whole[31, 31] > 5
    ivar[:, 40:], image[:, 40:] = 0, 0
    padded = grey_image(image, ivar > 0)
    assert (padded[:, 40:] == 0).all()
    assert padded[:, :40] == pytest.approx(whole[:, :40], abs=0.2)
    assert (grey_image(image * 0, ivar < 0) == 0).all()


def sky(rng, spec):
    """A stamp of noise, which is white when weighted."""
    weights = np.array([WEIGHTS[band] for band in spec.bands])
    stamp = np.ones(spec.shape)
    spec.image(stamp)[...] = rng.normal(0, 1, (spec.size, spec.size, 1)) / weights
    return stamp


SPECS = [
    *(StampSpec(bands) for bands in (("g", "r", "z"), ("g", "r", "i", "z"), ("g", "z"), ("r",), ("i", "z"))),
    *(StampSpec(("g", "r", "i", "z"), size=size) for size in (16, 48, 96, 65)),
    *(StampSpec(bands, ("image",), 48) for bands in (("r",), ("g", "r", "z"))),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_colours_follow_the_wavelength(spec, rng):
    """Light of the bluest band is blue, of the reddest red; one band is grey; what has no data is black."""
    stamp = sky(rng, spec)
    c, edge = spec.centre, spec.size - 3
    image, ivar = spec.image(stamp), spec.ivar(stamp)
    image[c, c - 4, 0], image[c, c + 4, -1] = 100, 100
    image[:, edge:] = 0
    if ivar is not None:
        ivar[:, edge:] = 0
    shown = colour_image(stamp, spec).astype(int)
    assert shown.shape == (spec.size, spec.size, 3)
    blue, red = shown[c, c - 4], shown[c, c + 4]
    if len(spec.bands) == 1:
        assert blue.min() == blue.max() > 150
    else:
        assert blue.argmax() == 2
        assert red.argmax() == 0
    assert (shown[:, edge:] == 0).all()
    assert (shown[:, : edge - 1].max(-1) > 0).mean() > 0.9


def test_bands_of_a_colour_image():
    assert colour_bands(StampSpec(("g", "r", "i", "z"))) == ("g", "r", "z")
    assert colour_bands(StampSpec(("r", "i", "z"))) == ("r", "i", "z")
    assert colour_bands(StampSpec(("u", "g", "i", "z", "Y"))) == ("u", "i", "Y")
    assert colour_bands(StampSpec(("g", "z"))) == ("g", "z")
    # Light of a band between them is not taken for that of another.
    stamp = np.ones(StampSpec(("g", "r", "i", "z")).shape)
    stamp[..., :4] = 0
    stamp[10, 10, 2] = 100
    assert np.ptp(colour_image(stamp, StampSpec(("g", "r", "i", "z"))).reshape(-1, 3), axis=0).max() == 0


def test_noise_is_grey_and_as_bright_at_any_depth(rng):
    stamp = np.ones((64, 64, 6))
    weights = np.array([WEIGHTS[band] for band in GRZ.bands])
    noise = rng.normal(0, 1, (64, 64, 3)) / weights
    shown = []
    for depth in (0.01, 1.0):
        stamp[..., :3] = noise * depth
        shown.append(colour_image(stamp, GRZ).astype(int))
        assert np.ptp(shown[-1], axis=-1).mean() < 8  # of 255
    assert np.abs(shown[0].mean() - shown[1].mean()) < 3
    assert 20 < shown[0].mean() < 110


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_pictures_of_any_stamps(spec, rng):
    """Columns, captions and scale follow the specification, and every picture can be drawn."""
    stamps = np.stack([sky(rng, spec) for _ in range(4)]).astype(np.float32)
    known = np.array([20.0, 20.1, 20.2, 20.3])
    shown = mosaic_picture(gallery.Shown(99, "val", stamps, np.array([0, 1, 0, 1]), known, spec))
    extremes = gallery.Shown("fakest_fakes", "val", stamps, known / 30, known, spec)
    for picture in (shown, gallery_picture(extremes)):
        assert f"{spec.size * spec.pixel_scale:.1f} arcsec" in picture.caption
        assert f"{spec.bands[0]} magnitude" in picture.caption
        width, height = struct.unpack(">II", png_of(picture)[16:24])
        assert (width, height) == tuple(int(160 * inches) for inches in picture.size)
    assert f"images in {', '.join(spec.bands)}" in shown.caption
    assert (f"{spec.bands[-1]} as red" in shown.caption) == (len(spec.bands) > 1)
    assert ("inverse variances" in shown.caption) == spec.has_ivar
    layout = MosaicLayout(spec, 4, "one two " * 20)
    assert len(layout.columns) == 1 + len(spec.channels)
    assert ("colour" in layout.columns) == (len(spec.bands) > 1)
    assert " ".join(layout.lines) == ("one two " * 20).strip()
    assert (len(layout.lines) > 2) == (layout.width < 6)


def test_every_gallery_has_a_title():
    assert set(catalogue()["gallery"]) == {name for name, *_ in gallery.GALLERIES}


def test_a_figure_that_cannot_be_drawn_costs_no_other(data, tmp_path, capsys, monkeypatch):
    whole = figures.mosaic_picture
    words = ["--data", str(data / "set"), "--outdir", str(tmp_path), "--rows", "2"]

    def broken(mosaic_, fails=("fake_real_mosaic_p75",)):
        picture = whole(mosaic_)
        if picture.name not in fails and fails:
            return picture
        return replace(picture, draw=lambda _: 1 / 0)

    for kind in ("png", "pdf"):
        (tmp_path / f"fake_real_mosaic_p75.{kind}").write_text("of another run")
    monkeypatch.setattr(figures, "mosaic_picture", broken)
    assert mosaic.main(words) == 0
    stems = {f"fake_real_mosaic_p{p:02d}" for p in (99, 50, 25, 1)}
    said = capsys.readouterr()
    assert set(said.out.split()) == {str(tmp_path / f"{stem}.png") for stem in stems}
    assert names(tmp_path) == {f"{stem}.{kind}" for stem in stems for kind in ("png", "pdf")}
    assert "figure fake_real_mosaic_p75 is left out, it cannot be drawn: division by zero" in said.err
    monkeypatch.setattr(figures, "mosaic_picture", lambda one: broken(one, ()))
    assert mosaic.main(words) == 1
    assert "no figure can be drawn" in capsys.readouterr().err.splitlines()[-1]
