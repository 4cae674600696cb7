"""The networks' shapes and numbers, the scaling, and the saved file."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import obiwan.dplearn
from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.training.distributed import World
from obiwan.dplearn.training.model import MeanPooling, build_network, check_spec, load_network
from obiwan.dplearn.training.scaling import (
    LAST_GAIN,
    NOISE_UNIT,
    CutoutScaling,
    fit_scaling,
    prepare,
    sky_noise,
)
from obiwan.dplearn.training.settings import ARCHITECTURES, NetworkConfig, network_config
from obiwan.dplearn.training.steps import make_step, out_of_memory
from obiwan.dplearn.training.trainer import make_optimizer


def cutouts(n, seed=0):
    """Raw cutouts: noise, a source of its own brightness in the middle, ivar by band and stamp."""
    rng = np.random.default_rng(seed)
    sky = np.array([0.004, 0.006, 0.013]) * rng.lognormal(0, 0.1, (n, 1, 1, 3))
    grid = np.arange(64) - 32
    source = np.exp(-0.5 * (grid[:, None] ** 2 + grid**2) / 9)[None, ..., None] * rng.uniform(
        0, 0.2, (n, 1, 1, 1)
    )
    image = source + sky * rng.standard_normal((n, 64, 64, 3))
    return np.concatenate([image, np.broadcast_to(sky**-2.0, image.shape)], -1).astype("f4")


def trainable(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


def test_lenet5_is_the_table_of_the_docs():
    model = build_network(network_config("lenet5"), StampSpec())
    assert model.input_shape == (None, 64, 64, 6)
    assert trainable(model) == 353_786
    rows = [
        (type(layer).__name__, layer.output.shape[1:])
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D | MeanPooling | keras.layers.Dense)
    ]
    assert rows == [
        ("Conv2D", (64, 64, 18)),
        ("MeanPooling", (32, 32, 18)),
        ("Conv2D", (32, 32, 36)),
        ("MeanPooling", (16, 16, 36)),
        ("Conv2D", (16, 16, 54)),
        ("MeanPooling", (8, 8, 54)),
        ("Dense", (64,)),
        ("Dense", (2,)),
    ]
    pools = [layer for layer in model.layers if isinstance(layer, MeanPooling)]
    assert {(pool.pool_size, pool.strides) for pool in pools} == {(7, 2)}
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {(c.kernel_size, c.strides, c.padding) for c in convolutions} == {((7, 7), (1, 1), "same")}
    assert [layer.activation.__name__ for layer in (*convolutions, *model.layers[-2:])] == ["relu"] * 4 + [
        "softmax"
    ]


def test_the_2018_twin_differs_in_its_pools_alone():
    model = build_network(network_config("lenet5-2x2"), StampSpec())
    assert trainable(model) == 353_786
    assert {layer.pool_size for layer in model.layers if isinstance(layer, MeanPooling)} == {2}


def test_options_change_what_they_name():
    model = build_network(
        network_config("lenet5", maps=(4, 5), kernel_size=3, pool_size=5, strides=4, dense=7), StampSpec()
    )
    shapes = [layer.output.shape[1:] for layer in model.layers if isinstance(layer, MeanPooling)]
    assert shapes == [(16, 16, 4), (4, 4, 5)]
    assert model.layers[-2].units == 7


@pytest.mark.parametrize(
    ("pool", "stride", "side"), [(7, 2, 64), (2, 2, 16), (3, 2, 9), (7, 3, 10), (5, 1, 6)]
)
def test_padding_never_counts(pool, stride, side):
    images = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype("f4")
    found = np.asarray(MeanPooling(pool, stride)(images))
    out = -(-side // stride)
    before = max((out - 1) * stride + pool - side, 0) // 2
    for i in range(out):
        for j in range(out):
            y, x = (slice(max(k * stride - before, 0), k * stride - before + pool) for k in (i, j))
            assert found[:, i, j] == pytest.approx(images[:, y, x].mean((1, 2)), abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"arch": "vgg"}, "arch must be one of lenet5"),
        ({"maps": ()}, "maps"),
        ({"maps": (3, 0)}, "maps"),
        ({"dense": 0}, "dense must be at least 1"),
        ({"arch": "deep", "maps": (12,)}, "multiples of 8"),
    ],
)
def test_refusals(changes, match):
    with pytest.raises(ValueError, match=match):
        network_config(**changes)
    if changes == {"maps": ()}:
        with pytest.raises(ValueError, match="maps"):
            NetworkConfig("lenet5", (), 7, 7, 2, 64)


def test_scaling_is_fitted_and_masks_what_has_no_data():
    x = cutouts(32)
    x[:, :20, :, 4] = 0  # r has no data here
    x[:, :20, :, 1] = 0
    layer = CutoutScaling()
    layer.build(x.shape)
    fit_scaling(layer, x)
    out = np.asarray(layer(x))
    assert np.isfinite(out).all()
    assert not out[:, :20, :, [1, 4]].any()
    valid = x[..., 3:] > 0
    assert np.sqrt((out[..., :3][valid] ** 2).mean()) == pytest.approx(1, abs=0.05)
    ivar = x[0, 30, 30, 3:]
    expected = (np.log(ivar) - np.asarray(layer.log_ivar)) / NOISE_UNIT
    assert out[0, 30, 30, 3:] == pytest.approx(expected, abs=1e-5)
    signal = np.arcsinh(x[0, 32, 32, :3] * np.sqrt(ivar)) / np.asarray(layer.signal_rms)
    assert out[0, 32, 32, :3] == pytest.approx(signal, rel=1e-4, abs=1e-5)


def test_scaling_refuses_an_empty_band_and_other_channels():
    x = cutouts(4)
    x[..., 5] = 0
    layer = CutoutScaling()
    layer.build(x.shape)
    with pytest.raises(ValueError, match="no pixel of band z"):
        fit_scaling(layer, x)
    with pytest.raises(ValueError, match="6 channels g, r, z, ivar_g"):
        CutoutScaling().build((None, 64, 64, 5))


def test_extreme_pixels_stay_finite():
    x = cutouts(4)
    x[0, 10, 10, :3] = 1e6
    x[1, 10, 10, :3] = -1e6
    x[2, :, :, 3:] = 1e8
    model = build_network(network_config("lenet5", maps=(2, 2), dense=4), StampSpec())
    prepare(model, x)
    assert np.isfinite(model.predict_on_batch(x)).all()


def test_first_weights_let_the_input_through():
    """Without the balance the logits of different stamps differ by next to nothing."""
    keras.utils.set_random_seed(1)
    model = build_network(network_config("lenet5", maps=(6, 8, 10), dense=16), StampSpec())
    x = cutouts(64)
    prepare(model, x, balance=64)
    logits = np.log(model.predict_on_batch(x))
    assert np.ptp(logits, axis=1).std() > 0.3 * LAST_GAIN
    hidden = keras.Model(model.input, model.get_layer("dense").output).predict_on_batch(x)
    assert (hidden > 0).mean() == pytest.approx(0.5, abs=0.15)


def test_deep_network_sees_one_image_at_a_time():
    model = build_network(network_config("deep", maps=(8, 16)), StampSpec())
    prepare(model, cutouts(8))
    x = cutouts(6, seed=2)
    together = model.predict_on_batch(x)
    alone = np.concatenate([model.predict_on_batch(x[i : i + 1]) for i in range(6)])
    assert together == pytest.approx(alone, abs=1e-5)
    assert trainable(build_network(network_config("deep"), StampSpec())) < 1_000_000


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(ModelError, match="no such file"):
        load_network(path)
    path.write_bytes(b"PK nonsense")
    with pytest.raises(ModelError, match=r"model\.keras: not a readable model"):
        load_network(path)


@pytest.mark.parametrize("version", ["3.99.0", "4.0.0", keras.__version__])
def test_a_file_of_a_newer_keras_names_both_versions(version, tmp_path):
    path = tmp_path / "model.keras"
    build_network(network_config("lenet5"), StampSpec()).save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["metadata.json"] = json.dumps({"keras_version": version, "date_saved": "x"}).encode()
    known = b'"use_bias"'  # an option that layers of this Keras do not have stands before it
    assert known in parts["config.json"]
    for extra in (b"", b'"option_of_tomorrow": 1, '):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(
                    name, content.replace(known, extra + known) if name == "config.json" else content
                )
        if not extra:
            assert load_network(path)
            continue
        newer = version != keras.__version__
        remedy = "update Keras" if newer else "train it again"
        with pytest.raises(ModelError, match=rf"model\.keras.*{remedy}") as caught:
            load_network(path)
        assert (version in str(caught.value) and keras.__version__ in str(caught.value)) == newer


FRESH = """
import sys
import zipfile
from pathlib import Path
import keras, numpy as np
import obiwan.dplearn.training.model
x = np.load(Path(sys.argv[1]) / "x.npy")
for path in Path(sys.argv[1]).glob("*.keras"):
    model = keras.models.load_model(path)  # safe mode is the default: nothing pickled, no code in the file
    np.save(path.with_suffix(".npy"), model.predict(x, verbose=0))
"""


def test_saved_files_score_raw_cutouts_in_a_fresh_python(tmp_path):
    keras.utils.set_random_seed(3)
    x = cutouts(5)
    np.save(tmp_path / "x.npy", x)
    expected = {}
    for arch in ARCHITECTURES:
        model = build_network(network_config(arch, maps=(8, 8), dense=5), StampSpec())
        prepare(model, x)
        model.save(tmp_path / f"{arch}.keras", include_optimizer=False)
        expected[arch] = model.predict_on_batch(x)
        loaded = load_network(tmp_path / f"{arch}.keras")
        assert loaded.predict_on_batch(x) == pytest.approx(expected[arch], abs=1e-6)
    env = {**os.environ, "PYTHONPATH": str(Path(obiwan.dplearn.__file__).parents[2])}
    command = [sys.executable, "-c", FRESH, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    for arch, p in expected.items():
        assert np.load(tmp_path / f"{arch}.npy") == pytest.approx(p, abs=1e-6)


SPECS = {
    "griz": StampSpec(("g", "r", "i", "z")),
    "r": StampSpec(("r",)),
    "images": StampSpec(planes=("image",)),
    "gr images": StampSpec(("g", "r"), ("image",), 16),
    "16 px": StampSpec(size=16),
    "48 px": StampSpec(size=48),
    "96 px": StampSpec(size=96),
}


def stamps_of(spec, n=24, seed=1):
    """Noise of each band's own level, with inverse variances where there are any, and labels that differ."""
    rng = np.random.default_rng(seed)
    sky = 0.004 * 1.5 ** np.arange(len(spec.bands))
    labels = (np.arange(n) % 2).astype("u1")
    image = sky * rng.standard_normal((n, spec.size, spec.size, len(spec.bands)))
    middle = slice(spec.centre - 2, spec.centre + 3)
    image[:, middle, middle] += 0.05 * (1 + labels[:, None, None, None])
    planes = [image, np.broadcast_to(sky**-2.0, image.shape)][: len(spec.planes)]
    return np.concatenate(planes, -1).astype("f4"), labels


@pytest.mark.parametrize(
    ("name", "arch"),
    [*((name, "lenet5") for name in SPECS if name != "griz"), ("griz", "lenet5-2x2"), ("gr images", "deep")],
)
def test_a_network_for_any_stamps(name, arch, tmp_path):
    """Built, one step taken, saved, loaded, scored; and refused for other stamps."""
    spec = SPECS[name]
    keras.utils.set_random_seed(1)
    model = build_network(network_config(arch, maps=(8, 8), kernel_size=3, dense=5), spec)
    x, y = stamps_of(spec)
    prepare(model, x)
    optimizer = make_optimizer(1e-2, 0.0, 10)
    optimizer.build(model.trainable_variables)
    step = make_step(model, optimizer, World())
    before = [np.asarray(weight) for weight in model.trainable_weights]
    losses = [step(x, y)[0] for _ in range(3)]
    assert np.isfinite(losses).all()
    after = [np.asarray(weight) for weight in model.trainable_weights]
    assert not all(map(np.array_equal, before, after))
    model.save(tmp_path / "net.keras", include_optimizer=False)
    loaded = load_network(tmp_path / "net.keras")
    expected = model.predict_on_batch(x)
    assert expected.shape == (24, 2)
    assert loaded.predict_on_batch(x) == pytest.approx(expected, abs=1e-6)
    check_spec(tmp_path / "net.keras", loaded, spec)
    other = StampSpec(("g", "z"), size=spec.size)
    with pytest.raises(ModelError, match=f"net.keras: .*of {' '.join(spec.bands)} at .*of g z at"):
        check_spec(tmp_path / "net.keras", loaded, other)


def test_channels_of_one_number_are_not_taken_for_each_other(tmp_path):
    """Six planes are g, r, z with inverse variances or six bands' images: the layer knows which."""
    model = build_network(network_config("lenet5", maps=(2, 2), dense=3), StampSpec())
    with pytest.raises(ModelError, match="image of u g r i z Y"):
        check_spec(tmp_path / "x", model, StampSpec(("u", "g", "r", "i", "z", "Y"), ("image",)))


def test_images_alone_are_scaled_by_the_noise_of_their_sky():
    spec = StampSpec(("g", "z"), ("image",), 48)
    rng = np.random.default_rng(2)
    sky = np.array([0.003, 0.012])
    x = (sky * rng.standard_normal((40, 48, 48, 2))).astype("f4")
    x[:, 14:34, 14:34] += 0.5  # the galaxies do not count
    x[0, :, :20] = 0  # nor does padding, which stays what it is
    assert [sky_noise(x[..., band]) for band in range(2)] == pytest.approx(sky, rel=0.03)
    layer = CutoutScaling(spec.bands, spec.planes)
    layer.build(x.shape)
    fit_scaling(layer, x)
    assert np.asarray(layer.sky) == pytest.approx(sky, rel=0.03)
    out = np.asarray(layer(x))
    assert not out[0, :, :20].any()
    expected = np.arcsinh(x[3] / np.asarray(layer.sky)) / np.asarray(layer.signal_rms)
    assert out[3] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert np.sqrt((out[1:] ** 2).mean((0, 1, 2))) == pytest.approx(1, abs=0.05)
    with pytest.raises(ValueError, match="no pixel of band z"):
        fit_scaling(layer, x * np.array([1, 0], "f4"))
    x[:, :14], x[:, 34:], x[:, :, :14], x[:, :, 34:] = 0, 0, 0, 0  # as when the outskirts are masked
    assert [sky_noise(x[..., band]) for band in range(2)] == pytest.approx(sky, rel=0.1)


def test_files_that_name_no_bands_are_of_g_r_z():
    layer = CutoutScaling(name="scaling")
    config = layer.get_config()
    del config["bands"], config["planes"]
    assert CutoutScaling.from_config(config).spec == StampSpec()


def test_stamps_too_small_for_the_pools_are_refused():
    many = network_config("lenet5", maps=(2,) * 6)
    with pytest.raises(ValueError, match="16 px stamps cannot be pooled 6 times"):
        build_network(many, StampSpec(size=16))
    for arch in ARCHITECTURES:
        network_config(arch).check_size(16)
    build_network(many, StampSpec(size=64))


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("ResourceExhaustedError", "OOM when allocating a tensor", True),
        ("OutOfMemoryError", "CUDA out of memory", True),
        ("JaxRuntimeError", "RESOURCE_EXHAUSTED: Out of memory while trying to allocate", True),
        ("JaxRuntimeError", "INTERNAL: no such kernel", False),
        ("RuntimeError", "memory", False),
    ],
)
def test_memory_of_a_device_that_does_not_suffice(kind, text, expected):
    assert out_of_memory(type(kind, (Exception,), {})(text)) == expected
