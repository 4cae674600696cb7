"""Referees: any object with a few attributes scores a split; Keras is not needed for it."""

# ruff: noqa: ARG002
import os
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from evaluation_set import make_set
from obiwan.dplearn.controls.measure import measure_split
from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.referees import network, scoring
from obiwan.dplearn.referees.protocol import Referee, Trainable
from obiwan.dplearn.referees.scoring import score_split
from obiwan.dplearn.running.executors import process_pool
from obiwan.dplearn.training.distributed import World
from obiwan.dplearn.trainingset.stampset import open_training_set
from planted import Planted
from pool_tasks import Elsewhere
from processes import ENV


@dataclass(frozen=True)
class Brightness:
    """A logistic regression on the flux of a stamp, as scikit-learn would do it."""

    slope: float = 1.0
    middle: float = 0.0
    name: str = "brightness"
    learnt: bool = True

    @property
    def checksum(self):
        return f"{self.slope:.6g}/{self.middle:.6g}"

    def predict(self, stamps, rows):
        assert len(stamps) == len(rows)
        flux = stamps[..., 1].sum((1, 2))
        return (1 / (1 + np.exp(-self.slope * (flux - self.middle)))).astype("f4")

    def fit(self, stamps, rows, labels):
        flux = stamps[..., 1].sum((1, 2))
        means = [flux[labels == label].mean() for label in (0, 1)]
        return Brightness(float(np.sign(means[1] - means[0])), float(np.mean(means)))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "set"
    make_set(directory, Planted(), {"train": 32, "val": 16, "test": 48})
    return open_training_set(directory)


def test_protocols():
    assert isinstance(Brightness(), Referee)
    assert isinstance(Brightness(), Trainable)
    assert not isinstance(object(), Referee)


def test_any_referee_scores_a_split(data):
    shards = data.split("train")
    stamps, labels = (np.concatenate(part) for part in zip(*map(data.read, shards), strict=True))
    referee = Brightness().fit(stamps, data.visible("train"), labels)
    scores = score_split(referee, data, "test")
    x = np.concatenate([data.read(shard)[0] for shard in data.split("test")])
    rows = data.rows("test")
    np.testing.assert_array_equal(scores.score, referee.predict(x, rows))
    np.testing.assert_array_equal(scores.label, rows["label"])
    np.testing.assert_array_equal(data.aligned("test", scores.table), np.arange(48))
    assert (scores.model, scores.data, scores.split) == (referee.checksum, data.checksum, "test")
    assert scores.score.dtype == np.float32


def test_rows_go_along_with_their_stamps(data):
    """In batches, and on each rank: a referee of the table alone gives each example its own."""

    class Catalogue(Brightness):
        def predict(self, stamps, rows):
            assert "label" not in rows.dtype.names
            return rows["mag_r"] / 100

    expected = data.rows("test")["mag_r"] / 100
    assert len(np.unique(expected)) > 40
    np.testing.assert_array_equal(score_split(Catalogue(), data, "test").score, expected)

    @dataclass(frozen=True)
    class Apart(World):
        """One of several ranks that gathers nothing."""

    parts = [score_with_own_shards(Catalogue(), data, Apart(rank, 3)) for rank in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), expected)


def score_with_own_shards(referee, data, world):
    from obiwan.dplearn.training.validation import predictions

    rows = data.visible("test")
    return predictions(lambda x, here: referee.predict(x, rows[here]), data, "test", world)[1]


def test_workers_score_and_measure_to_the_same_bytes(data, monkeypatch):
    monkeypatch.setattr(scoring, "WORTH", 49)
    alone, measured = score_split(Elsewhere(0), data, "test"), measure_split(data, "test")
    with process_pool(2) as workers:
        few = score_split(Elsewhere(0), data, "test", executor=workers)  # of so few, in this process
        monkeypatch.setattr(scoring, "WORTH", 48)
        shared = score_split(Elsewhere(os.getpid()), data, "test", executor=workers)
        assert measure_split(data, "test", workers).tobytes() == measured.tobytes()
    assert alone.table.tobytes() == few.table.tobytes() == shared.table.tobytes()
    assert len(np.unique(alone.score)) > 40


def test_a_worker_loads_a_network_with_one_thread_and_without_another_projects_settings(
    tmp_path, monkeypatch
):
    """An MPI rank has its own environment, in which nobody has looked for a keras.json."""
    seen, given = {}, {"KERAS_HOME": str(tmp_path), "NPROC": "8", "OMP_NUM_THREADS": "8"}
    (tmp_path / "keras.json").write_text('{"floatx": "float16"}')
    stub = SimpleNamespace(load_network=lambda _: seen.update(os.environ))
    monkeypatch.setitem(sys.modules, "obiwan.dplearn.training.model", stub)
    monkeypatch.setattr(network, "model_checksum", lambda _: "same")
    monkeypatch.setattr(os, "environ", given)
    network._loaded.__wrapped__(tmp_path / "best.keras", "same", "jax")
    assert (seen["KERAS_HOME"], seen["NPROC"], seen["OMP_NUM_THREADS"]) == (os.devnull, "1", "1")
    assert seen["KERAS_BACKEND"] == "jax"  # as the process that asks has it


def test_scores_of_another_shape_are_refused(data):
    class Two(Brightness):
        def predict(self, stamps, rows):
            return np.zeros((len(stamps), 2), "f4")

    with pytest.raises(ModelError, match="shape"):
        score_split(Two(), data, "test")


def test_no_keras_is_needed():
    code = "import sys\nimport obiwan.dplearn.referees.scoring, obiwan.dplearn.referees.network\n"
    code += "assert not {'keras', 'tensorflow', 'horovod'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
