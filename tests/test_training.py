"""Training by training: resumption to the same weights, checkpoints, schedule, verdict."""

import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.training import trainer
from obiwan.dplearn.training.checkpoints import (
    Checkpoint,
    Progress,
    load_checkpoint,
    save_checkpoint,
    values,
)
from obiwan.dplearn.training.model import load_network
from obiwan.dplearn.training.rundir import Logs
from obiwan.dplearn.training.settings import FeedConfig, RunConfig, network_config
from obiwan.dplearn.training.trainer import Trainer, make_optimizer
from obiwan.dplearn.training.validation import has_learnt
from obiwan.dplearn.trainingset.stampset import open_training_set
from planted import Planted, write_set
from processes import ENV

RESUME = Path(__file__).parent / "resume_program.py"
TINY = network_config("lenet5", maps=(3, 4), kernel_size=3, dense=6)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "set"
    write_set(directory, Planted("size", 2.5), {"train": 96, "val": 32, "test": 32}, seed=5, rows=32)
    return open_training_set(directory)


def test_a_resumed_run_ends_where_an_uninterrupted_one_ends(data, tmp_path):
    command = [sys.executable, str(RESUME), str(data.directory), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENV, check=False)
    assert done.returncode == 0, done.stderr
    results, steps_taken = json.loads(done.stdout.strip().splitlines()[-1])
    whole = results.pop("whole")
    assert whole["learnt"]
    assert len({row["val_loss"] for row in whole["history"]}) == 3
    for name, found in results.items():
        assert {**found, "starts": 1} == whole, name
    assert results["9"]["starts"] > 3
    assert results["damaged"]["starts"] >= 2
    assert results["validating"]["starts"] == 2
    assert steps_taken == [*range(1, 13)] * 3


def test_weights_change_with_the_seed(data, tmp_path):
    """What makes the equality above worth something."""
    trainers = [
        Trainer(RunConfig(TINY, FeedConfig(seed=seed)), data, tmp_path / str(seed)) for seed in (1, 1, 2)
    ]
    kernels = [np.asarray(t.model.weights[2]) for t in trainers]
    assert np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def _checkpoint(step):
    arrays = [np.arange(1000.0) + step]
    return Checkpoint(Progress(step=step, history=[{"loss": 0.1 + 0.2}]), arrays, [np.int64(step)], [])


def test_checkpoints_round_trip_and_two_are_kept(tmp_path):
    assert load_checkpoint(tmp_path) is None
    for step in (3, 6, 9):
        save_checkpoint(tmp_path, _checkpoint(step), step)
    assert len(list(tmp_path.iterdir())) == 2
    found = load_checkpoint(tmp_path)
    assert found.progress == _checkpoint(9).progress
    assert np.array_equal(found.weights[0], _checkpoint(9).weights[0])
    assert found.optimizer[0] == 9
    assert found.best == []


def test_what_stands_beside_checkpoints_is_let_be(tmp_path):
    """Copies that a careful user made are no checkpoints, neither the newest nor one to remove."""
    beside = ["step_0000000052_backup.npz", "step_good_backup.npz", "step_00000000099.npz", "notes.txt"]
    for name in beside:
        (tmp_path / name).write_text("mine")
    for step in (3, 6, 9):
        save_checkpoint(tmp_path, _checkpoint(step), step)
    assert load_checkpoint(tmp_path).progress.step == 9
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {*beside, "step_0000000006.npz", "step_0000000009.npz"}


def test_numbers_of_checkpoints(tmp_path):
    """The newest has the largest; the one after a validation takes the place of the one before it."""
    for step, number in ((1, 6), (2, 6), (3, 4), (4, 5)):
        save_checkpoint(tmp_path, _checkpoint(step), number)
    assert load_checkpoint(tmp_path).progress.step == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_0000000007.npz", "step_0000000008.npz"]


def test_a_checkpoint_of_another_version_falls_back(data, tmp_path, caplog):
    trainer = Trainer(RunConfig(TINY, FeedConfig(batch_size=8)), data, tmp_path)
    for trainer.progress.step in (3, 6):
        trainer._save()
    path = tmp_path / "checkpoints" / "step_0000000006.npz"
    with np.load(path) as file:
        arrays = dict(file)
    state = json.loads(arrays["state"].tobytes()) | {"mood": "good"}
    np.savez(path, **{**arrays, "state": np.frombuffer(json.dumps(state).encode(), np.uint8)})
    content = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        trainer.begin()
    assert trainer.progress.step == 3
    assert "step_0000000006.npz: damaged" in caplog.text
    assert path.with_name(path.name + ".damaged").read_bytes() == content  # perhaps it is not so bad
    assert not path.exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "text"])
def test_a_damaged_checkpoint_falls_back(tmp_path, damage, caplog):
    for step in (3, 6):
        save_checkpoint(tmp_path, _checkpoint(step), step)
    newest = sorted(tmp_path.iterdir())[-1]
    raw = bytearray(newest.read_bytes())
    raw[4000] ^= 1
    bad = {"truncated": raw[:5000], "empty": b"", "flipped": raw, "text": b"not a zip file"}[damage]
    newest.write_bytes(bad)
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(tmp_path).progress.step == 3
    assert newest.name in caplog.text


def test_a_read_error_takes_no_checkpoint_away(tmp_path, monkeypatch, caplog):
    for step in (3, 6):
        save_checkpoint(tmp_path, _checkpoint(step), step)
    newest = sorted(tmp_path.iterdir())[-1]
    real = Path.open

    def failing(self, *args, **kwargs):
        if self == newest:
            raise OSError(5, "Input/output error", str(self))
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Path, "open", failing)
        assert load_checkpoint(tmp_path).progress.step == 3
    assert "Input/output error" in caplog.text
    assert load_checkpoint(tmp_path).progress.step == 6  # the disk has thought better of it


def test_learning_rate_warms_up_and_falls():
    schedule = make_optimizer(1e-2, 0.1, 100)._learning_rate
    rates = np.array([float(schedule(step)) for step in range(101)])
    assert rates[0] == 0
    assert rates.argmax() == 10
    assert rates.max() == pytest.approx(1e-2, rel=1e-5)
    assert rates[100] == pytest.approx(0, abs=1e-8)
    assert (np.diff(rates[10:]) <= 0).all()


def test_divergence_is_said(data, tmp_path):
    config = RunConfig(TINY, FeedConfig(batch_size=8, seed=0), learning_rate=1e30, epochs=2)
    with pytest.raises(ModelError, match=r"the loss is (nan|inf) at epoch .* lower --learning-rate"):
        Trainer(config, data, tmp_path / "run").fit()


def test_learnt_or_not():
    counts = {"train": (20_000, 20_000), "val": (2_000, 2_000)}
    stuck = [{"loss": 0.6932, "val_loss": math.log(2)}, {"loss": 0.6931, "val_loss": 0.6930}]
    assert not has_learnt(stuck, counts)
    assert has_learnt([*stuck, {"loss": 0.60, "val_loss": 0.8}], counts)  # by heart, but it did
    assert has_learnt([*stuck, {"loss": 0.69, "val_loss": 0.68}], counts)
    unbalanced = {"train": (30_000, 10_000), "val": (3_000, 1_000)}
    constant = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert not has_learnt([{"loss": constant, "val_loss": constant}], unbalanced)
    assert not has_learnt([{"loss": 0.69, "val_loss": 0.68}], {"train": (40, 40), "val": (16, 16)})


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"learning_rate": 0.0}, {"learning_rate": math.nan}])
def test_refusals(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        RunConfig(TINY, FeedConfig(), **bad)


def test_the_documented_pools_learn(tmp_path):
    """Seven-pixel average pools, fewer maps, an easy difference: this must not stay at ln 2."""
    directory = tmp_path / "set"
    write_set(directory, Planted("offset", 2.0), {"train": 640, "val": 128, "test": 2}, seed=6, rows=128)
    network = network_config("lenet5", maps=(6, 8, 8), dense=16)
    config = RunConfig(network, FeedConfig(batch_size=16, seed=1), epochs=4, learning_rate=2e-3)
    fitted = Trainer(config, open_training_set(directory), tmp_path / "run").fit()
    assert fitted.learnt
    assert max(row["val_auc"] for row in fitted.progress.history) > 0.9


def test_the_best_epoch_is_what_a_run_ends_with(data, tmp_path, monkeypatch):
    """Validation gets worse after the second of four epochs: its weights are the result, not the last."""
    losses = iter([0.6, 0.5, 0.7, 0.8])

    def worse(*_, **__):
        return {"loss": next(losses), "accuracy": 0.5, "auc": 0.5}

    monkeypatch.setattr(trainer, "measure", worse)
    seen: list[list[np.ndarray]] = []
    monkeypatch.setattr(Logs, "end_epoch", lambda *_: seen.append(values(run.model.trainable_weights)))
    run = Trainer(RunConfig(TINY, FeedConfig(batch_size=8, seed=1), epochs=4), data, tmp_path)
    fitted = run.fit()
    assert fitted.progress.best_epoch == 2
    best, last = (load_network(tmp_path / name) for name in ("best.keras", "last.keras"))
    for model, epoch in ((fitted.model, 2), (best, 2), (last, 4)):
        for mine, then in zip(values(model.trainable_weights), seen[epoch - 1], strict=True):
            np.testing.assert_array_equal(mine, then)
    assert not np.array_equal(seen[1][0], seen[3][0])
