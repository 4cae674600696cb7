"""Other Keras backends, in processes of their own: a saved network scores the same, and training works."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import fitsio
import keras
import numpy as np
import pytest

from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.training.checkpoints import load_checkpoint
from obiwan.dplearn.training.model import build_network, load_network
from obiwan.dplearn.training.scaling import prepare
from obiwan.dplearn.training.settings import ARCHITECTURES, network_config
from obiwan.dplearn.training.validation import predictions
from obiwan.dplearn.trainingset.stampset import open_training_set
from planted import Planted, write_set

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compares others with TensorFlow"),
]

# TensorFlow is kept out: what runs on another backend must not need it.
SCORE = """
import sys
sys.modules["tensorflow"] = None
from pathlib import Path
import keras
import numpy as np
from obiwan.dplearn.training.model import load_network

x = np.load(Path(sys.argv[1]) / "cutouts.npy")
for path in Path(sys.argv[1]).glob("*.keras"):
    np.save(path.with_suffix(".npy"), np.asarray(load_network(path).predict_on_batch(x)))
print(keras.backend.backend())
"""

# Steps from given weights with given batches; what was learnt is written beside them.
STEPS = """
import sys
sys.modules["tensorflow"] = None
sys.path.append(sys.argv[2])
from pathlib import Path
from test_backends import take_steps

take_steps(Path(sys.argv[1]))
"""

# Killed, as by kill -9, right after the given number of checkpoints; 0 is never.
TRAIN = """
import os, signal, sys
sys.modules["tensorflow"] = None
from obiwan.dplearn import cnn
from obiwan.dplearn.training import checkpoints as training

left, save = int(sys.argv[1]), training.save_checkpoint

def save_and_die(*given):
    global left
    save(*given)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

training.save_checkpoint = save_and_die
sys.exit(cnn.main(sys.argv[2:]))
"""


def take_steps(place: Path) -> None:
    """Train the network of a file with some batches, and write losses and weights beside it, by optimizer."""
    from obiwan.dplearn.training.checkpoints import values
    from obiwan.dplearn.training.distributed import World
    from obiwan.dplearn.training.model import load_network
    from obiwan.dplearn.training.steps import make_step
    from obiwan.dplearn.training.trainer import make_optimizer

    found = {}
    for name, optimizer in {"sgd": keras.optimizers.SGD(0.05), "adam": make_optimizer(5e-3, 0.2, 12)}.items():
        model = load_network(place / "begin.keras")
        optimizer.build(model.trainable_variables)
        step = make_step(model, optimizer, World())
        batches = zip(np.load(place / "x.npy"), np.load(place / "y.npy"), strict=True)
        found[name] = [step(x, y) for x, y in batches]
        for i, array in enumerate(values(model.trainable_variables)):
            found[f"{name} {i}"] = array
    np.savez(place / f"{keras.backend.backend()}.npz", **found)


@pytest.fixture(scope="module", params=["jax", "torch"])
def backend(request) -> str:
    """A backend that is installed."""
    if importlib.util.find_spec(request.param) is None:
        extra = "the extra `test` has it" if request.param == "jax" else "large, and in no extra"
        pytest.skip(f"{request.param} is not installed ({extra})")
    return request.param


@pytest.fixture(scope="module")
def on_backend(backend, root):
    """Run a program on it."""

    def run(program: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "KERAS_BACKEND": backend}
        environ["PYTHONPATH"] = os.pathsep.join([str(root / "py"), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-c", program, *map(str, words)]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=1200)

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A tiny training set with a difference that a network can learn."""
    directory = tmp_path_factory.mktemp("data") / "set"
    write_set(directory, Planted("size", 2.5), {"train": 48, "val": 24, "test": 24}, seed=5, rows=16)
    return directory


def test_files_score_the_same(on_backend, backend, data, tmp_path):
    """Including what has no data, negative pixels, and pixels of seven decades."""
    x = np.load(data / "xtest_1.npy")
    x[0, 20:40, :30, 3:] = 0
    x[1, :, :, :3] *= -1
    x[2, 30:34, 30:34, :3] = 1e4
    np.save(tmp_path / "cutouts.npy", x)
    expected = {}
    for arch in ARCHITECTURES:
        keras.utils.set_random_seed(3)
        model = build_network(network_config(arch), StampSpec())
        prepare(model, np.load(data / "xtrain_1.npy"))
        model.save(tmp_path / f"{arch}.keras", include_optimizer=False)
        expected[arch] = model.predict_on_batch(x)
        assert np.ptp(expected[arch][:, 1]) > 0.01  # or all would agree on nothing
    done = on_backend(SCORE, tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{backend}\n"), done.stderr
    for arch, p in expected.items():
        assert np.load(tmp_path / f"{arch}.npy") == pytest.approx(p, abs=1e-5)


def test_steps_are_the_same(on_backend, backend, data, root, tmp_path):
    """From the same weights, with the same batches: losses, and where the weights have moved, to rounding."""
    x, y = (np.concatenate([np.load(data / f"{name}train_{k}.npy") for k in (1, 2)])[:30] for name in "xy")
    keras.utils.set_random_seed(4)
    model = build_network(network_config("lenet5", maps=(3, 4), kernel_size=3, dense=6), StampSpec())
    prepare(model, x)
    begin = [np.asarray(weight) for weight in model.trainable_variables]
    model.save(tmp_path / "begin.keras", include_optimizer=False)
    np.save(tmp_path / "x.npy", x.reshape(10, 3, *x.shape[1:]))
    np.save(tmp_path / "y.npy", y.reshape(10, 3))
    done = on_backend(STEPS, tmp_path, root / "tests")
    assert done.returncode == 0, done.stderr
    take_steps(tmp_path)
    there, here = np.load(tmp_path / f"{backend}.npz"), np.load(tmp_path / "tensorflow.npz")
    for name, least in (("sgd", 1e-3), ("adam", 0.01)):  # Adam magnifies rounding where a gradient is near 0
        assert here[name] == pytest.approx(there[name], abs=1e-4)
        assert len(set(here[name][:, 0])) == 10
        for i, weight in enumerate(begin):
            one, other = here[f"{name} {i}"], there[f"{name} {i}"]
            moved = np.abs(one - weight).max()
            assert moved > 1e-3
            assert np.abs(one - other).max() < least * moved


def test_training_and_going_on(on_backend, data, tmp_path):
    """Two epochs at one go, or killed in the second and started again: one result, the same on TensorFlow."""
    words = ["--data", data, "--maps", "3", "4", "--kernel-size", "3", "--dense", "6", "--threads", "1"]
    words += [
        "--epochs",
        "2",
        "--batch-size",
        "8",
        "--checkpoint-steps",
        "4",
        "--learning-rate",
        "0.01",
        "--quiet",
    ]
    done = on_backend(TRAIN, 0, *words, "--outdir", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    assert "Held-out result: 24 test examples" in done.stdout
    assert "Unable to initialize backend" not in done.stderr

    # Step 4 of the first epoch, its last step, its end after validation; step 4 of the second.
    assert on_backend(TRAIN, 4, *words, "--outdir", tmp_path / "twice").returncode == -9
    assert not (tmp_path / "twice" / "result.json").exists()
    done = on_backend(TRAIN, 0, *words, "--outdir", tmp_path / "twice")
    assert done.returncode == 0, done.stderr
    assert "going on after 1 finished epochs and 4 steps" in done.stderr
    results = {name: json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "twice")}
    assert results["whole"]["model"] == results["twice"]["model"]  # checksums of the weights
    history = (tmp_path / "whole" / "history.csv").read_text()
    assert (tmp_path / "twice" / "history.csv").read_text() == history

    scores = fitsio.read(str(tmp_path / "whole" / "scores_test.fits"), ext="SCORES")["score"]
    model = load_network(tmp_path / "whole" / "best.keras")
    _, here = predictions(lambda x, _: model.predict_on_batch(x)[:, 1], open_training_set(data), "test")
    assert here == pytest.approx(scores, abs=1e-5)
    assert np.ptp(scores) > 0.01


def test_ranks_that_cannot_be_joined(on_backend, backend, data, tmp_path, monkeypatch):
    """PyTorch's not at all, and JAX's not where nothing tells the address of the first."""
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    done = on_backend(TRAIN, 0, "--data", data, "--outdir", tmp_path / "out")
    assert done.returncode == 1
    assert not (tmp_path / "out").exists()
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    expected = {
        "torch": "training on 2 ranks needs KERAS_BACKEND=tensorflow or jax, not torch",
        "jax": "set JAX_COORDINATOR_ADDRESS to HOST:PORT of the first rank",
    }
    assert expected[backend] in line


@pytest.mark.parametrize("to_tensorflow", [False, True])
def test_a_run_goes_on_under_another_backend(to_tensorflow, on_backend, backend, data, tmp_path):
    """The weights and the optimizer's state are the same arrays: it ends where a run of one backend does."""
    words = ["--data", data, "--maps", "3", "4", "--kernel-size", "3", "--dense", "6", "--threads", "1"]
    words += ["--epochs", "2", "--batch-size", "8", "--checkpoint-steps", "4", "--quiet"]
    here = TRAIN.replace('sys.modules["tensorflow"] = None', 'os.environ["KERAS_BACKEND"] = "tensorflow"')
    first, second = (TRAIN, here) if to_tensorflow else (here, TRAIN)
    assert on_backend(first, 4, *words, "--outdir", tmp_path / "moved").returncode == -9
    done = on_backend(second, 0, *words, "--outdir", tmp_path / "moved")
    assert done.returncode == 0, done.stderr
    names = (backend, "tensorflow") if to_tensorflow else ("tensorflow", backend)
    assert f"KERAS_BACKEND {names[1]} now, {names[0]} before: equal up to rounding" in done.stderr
    assert "going on after 1 finished epochs and 4 steps" in done.stderr
    # The first weights are drawn by the backend, so the whole run is one of the first.
    assert on_backend(first, 0, *words, "--outdir", tmp_path / "whole").returncode == 0
    moved, whole = (load_checkpoint(tmp_path / name / "checkpoints") for name in ("moved", "whole"))
    assert [a.shape for a in moved.optimizer] == [a.shape for a in whole.optimizer]
    assert int(moved.optimizer[0]) == int(whole.optimizer[0]) == 12
    for a, b in zip(moved.weights, whole.weights, strict=True):
        assert np.abs(a - b).mean() < 5e-5  # a tenth of one step of Adam
