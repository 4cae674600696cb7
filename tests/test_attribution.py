"""Attribution: it adds up, it finds the pixels that decide, and its shares are those of known maps."""

import keras
import numpy as np
import pytest
from keras import layers

from obiwan.dplearn.conventions import PIXEL_SCALE
from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.evaluation import gradients
from obiwan.dplearn.evaluation.attribution import RADII, attribute, distances, half_light_radius, summarise
from obiwan.dplearn.evaluation.gradients import empty_stamps
from obiwan.dplearn.training.model import build_network
from obiwan.dplearn.training.scaling import CutoutScaling
from obiwan.dplearn.training.settings import network_config
from obiwan.dplearn.trainingset.examples import blank_examples


def rows_for(labels, x=100.0, y=200.0):
    rows = blank_examples(len(labels))
    rows["label"], rows["x"], rows["y"] = labels, x, y
    rows["shape_r"], rows["psfsize_r"] = 0.6, 1.6
    return rows


def linear_network(pixel_weights, bias=0.3):
    """A network of this package's form whose log odds are a weighted sum of scaled pixels."""
    cutouts = keras.Input((64, 64, 6))
    scaled = CutoutScaling(name="scaling")(cutouts)
    output = layers.Dense(2, activation="softmax", name="probabilities")
    model = keras.Model(cutouts, output(layers.Flatten()(scaled)))
    kernel = np.stack([np.zeros(pixel_weights.size), pixel_weights.ravel()], 1)
    output.set_weights([kernel.astype("f4"), np.array([0.1, 0.1 + bias], "f4")])
    return model


@pytest.fixture
def stamps(rng):
    """Noise and an object, with some pixels and one whole plane without data."""
    x = np.empty((24, 64, 64, 6), np.float32)
    x[..., :3] = rng.normal(0, 0.1, (24, 64, 64, 3))
    x[:, 30:35, 30:35, :3] += 1
    x[..., 3:] = rng.uniform(50, 150, (24, 64, 64, 3))
    x[:4, :8] = 0
    x[5, ..., 3 + 2] = 0
    x[5, ..., 2] = 0
    return x


def test_of_a_linear_network_it_is_weight_times_what_is_there(stamps, rng):
    weights = rng.normal(0, 0.01, (64, 64, 6))
    model = linear_network(weights)
    scale, odds = gradients.split_network(model)
    scaled = gradients.outputs(scale, stamps)
    found = gradients.integrated_gradients(gradients.gradient_of(odds), scaled, steps=2)
    assert found == pytest.approx(weights * (scaled - empty_stamps(scaled)), abs=1e-5)
    p = model.predict_on_batch(stamps)
    assert gradients.outputs(odds, scaled)[:, 0] == pytest.approx(np.log(p[:, 1] / p[:, 0]), abs=1e-3)


def test_the_empty_stamp(stamps):
    scale, _ = gradients.split_network(linear_network(np.zeros((64, 64, 6))))
    scaled = gradients.outputs(scale, stamps)
    empty = empty_stamps(scaled)
    assert (empty[..., :3] == 0).all()
    assert (empty[:4, :8] == 0).all()
    assert (empty[5, ..., 5] == 0).all()
    for i in (0, 7):
        for band in (3, 4, 5):
            valid = scaled[i, ..., band] != 0
            assert empty[i, ..., band][valid] == pytest.approx(np.median(scaled[i, ..., band][valid]))


def test_it_adds_up_for_the_documented_network(stamps):
    keras.utils.set_random_seed(4)
    model = build_network(network_config("lenet5", maps=(4, 6), kernel_size=3, dense=8))
    found = attribute(model, stamps, rows_for(np.arange(24) % 2))
    coarse = attribute(model, stamps, rows_for(np.arange(24) % 2), steps=1)
    assert found.residual < 0.05
    assert found.residual < coarse.residual
    assert found.counts == (12, 12)


def test_what_decides_is_where_the_attribution_is(stamps, rng):
    """A network that looks at a ring alone has no share within and all beyond it."""
    rows = rows_for(np.arange(24) % 2)
    away = distances(rows)[0]
    weights = np.zeros((64, 64, 6))
    weights[(away > 10) & (away < 14), :3] = rng.normal(
        0, 1, (np.count_nonzero((away > 10) & (away < 14)), 3)
    )
    found = attribute(linear_network(weights), stamps, rows)
    assert found.share[0].value == pytest.approx(0, abs=1e-6)
    growth = dict(zip(RADII, found.growth[0], strict=True))
    assert growth[10.0] == pytest.approx(0, abs=1e-6)
    assert growth[14.0] == pytest.approx(1, abs=1e-6)
    assert found.planes.sum(1) == pytest.approx([1, 1])
    assert found.planes[:, 3:].sum() == pytest.approx(0, abs=1e-6)


def maps(rng, labels, inside, outside):
    """Attributions whose sums within 3 pixels and at a far pixel are given by label, on noise."""
    out = rng.normal(0, 1e-3, (len(labels), 64, 64, 6))
    out[:, 32, 32, 0] += np.where(labels == 1, inside, -inside)
    out[:, 60, 60, 1] += np.where(labels == 1, outside, -outside)
    return out


def test_maps_are_means_by_class(rng):
    labels = np.arange(200) % 2
    given = maps(rng, labels, 3, 1)
    found = summarise(given, given.sum((1, 2, 3)), np.zeros(200), rows_for(labels))
    assert found.maps[1, 32, 32] == pytest.approx(3, abs=0.01)
    assert found.maps[0, 60, 60] == pytest.approx(-1, abs=0.01)
    assert found.residual < 1e-9


def test_noise_takes_attribution_by_area(rng):
    labels = np.arange(200) % 2
    given = rng.normal(0, 1, (200, 64, 64, 6))
    found = summarise(given, given.sum((1, 2, 3)), np.zeros(200), rows_for(labels))
    assert found.share[0].value == pytest.approx(found.area, rel=0.1)


def test_a_network_that_says_nothing_has_nothing_to_divide():
    labels = np.arange(8) % 2
    found = summarise(np.zeros((8, 64, 64, 6)), np.full(8, -0.4), np.full(8, -0.4), rows_for(labels))
    assert found.share[1].value == 0
    assert found.residual == 0


def test_what_is_missing_shows_in_the_residual(rng):
    labels = np.arange(50) % 2
    given = maps(rng, labels, 2, 0)
    odds = given.sum((1, 2, 3)) * 1.1
    assert summarise(given, odds, np.zeros(50), rows_for(labels)).residual == pytest.approx(
        0.1 / 1.1, rel=0.02
    )


def test_half_light_radii():
    rows = rows_for(np.zeros(4))
    rows["shape_r"] = [0, 0.6, np.nan, 0.6]
    rows["psfsize_r"] = [1.6, 1.6, 1.6, np.nan]
    assert half_light_radius(rows) * PIXEL_SCALE == pytest.approx([0.8, 1.0, 0.8, 1.0])
    rows["psfsize_r"] = np.nan
    assert np.isnan(half_light_radius(rows)).all()


def test_where_no_psf_is_known_there_is_no_radius_but_a_map(rng):
    labels = np.arange(40) % 2
    rows = rows_for(labels)
    rows["psfsize_r"] = np.nan
    given = maps(rng, labels, 2, 0)
    found = summarise(given, given.sum((1, 2, 3)), np.zeros(40), rows)
    assert np.isnan([found.radius, found.area, found.share[0].value]).all()
    assert found.growth[1, 2] > 0.05
    assert found.maps[1, 32, 32] == pytest.approx(2, abs=0.01)


def test_distances_are_from_where_the_object_is():
    rows = rows_for(np.zeros(2), x=np.array([100.4, 99.6]), y=200.0)
    away = distances(rows)
    assert away[0, 32, 32] == pytest.approx(0.4)
    assert away[1, 32, 32] == pytest.approx(0.4)
    assert away[0, 32, 33] == pytest.approx(0.6)
    assert away[1, 32, 31] == pytest.approx(0.6)
    assert away[0, 35, 32] == pytest.approx(np.hypot(3, 0.4))


def test_one_class_or_another_head_is_refused(rng):
    with pytest.raises(ValueError, match="both classes"):
        summarise(rng.normal(0, 1, (4, 64, 64, 6)), np.ones(4), np.zeros(4), rows_for(np.ones(4)))
    inputs = keras.Input((64, 64, 6))
    other = keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.Flatten()(inputs)))
    with pytest.raises(ModelError, match="scaling"):
        gradients.split_network(other)
    scaled = CutoutScaling()(inputs)
    other = keras.Model(inputs, layers.Dense(2, activation="sigmoid")(layers.Flatten()(scaled)))
    with pytest.raises(ModelError, match="softmax"):
        gradients.split_network(other)


def test_a_backend_without_gradients_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(ModelError, match="openvino has no gradients"):
        gradients.gradient_of(None)


CODE = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
from test_attribution import linear_network
from obiwan.dplearn.evaluation import gradients
weights = np.random.default_rng(1).normal(0, 0.01, (64, 64, 6))
scale, odds = gradients.split_network(linear_network(weights))
scaled = gradients.outputs(scale, np.random.default_rng(2).uniform(0.5, 1, (3, 64, 64, 6)).astype("f4"))
found = gradients.integrated_gradients(gradients.gradient_of(odds), scaled, steps=1)
expected = weights * (scaled - gradients.empty_stamps(scaled))
assert np.abs(found - expected).max() < 1e-5, np.abs(found - expected).max()
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends(backend, run_python, root):
    pytest.importorskip(backend)
    done = run_python("-c", CODE, root / "tests", env={"KERAS_BACKEND": backend})
    assert done.returncode == 0, done.stderr
