"""The command line of training: what it writes, says and refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import fitsio
import numpy as np
import pytest

from obiwan.dplearn import cnn
from obiwan.dplearn.errors import ModelError, TrainingSetError
from obiwan.dplearn.referees.network import load_network_referee
from obiwan.dplearn.referees.protocol import Referee
from obiwan.dplearn.referees.scoring import Scores, bricks_of, read_scores, score_split, write_scores
from obiwan.dplearn.referees.testlog import record_evaluation
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.training import rundir as claims
from obiwan.dplearn.trainingset import manifest as manifests
from obiwan.dplearn.trainingset import stampset
from obiwan.dplearn.trainingset.examples import blank_examples
from planted import Planted, write_set
from processes import ENV
from sealing import seal
from tables import write_table

NETWORK = ["--maps", "3", "4", "--kernel-size", "3", "--dense", "6", "--quiet"]
COUNTS = {"train": 64, "val": 32, "test": 48}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "set"
    write_set(directory, Planted("size", 2.5), COUNTS, seed=5, rows=32)
    return directory


@pytest.fixture
def data(made, tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "set"))


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in (
        "OMP_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
        "TF_CPP_MIN_LOG_LEVEL",
    ):
        monkeypatch.setenv(name, os.environ.get(name, "2"))


def run(data, outdir, *words):
    return cnn.main(["--data", str(data), "--outdir", str(outdir), *NETWORK, "--epochs", "1", *words])


def test_a_run_and_the_same_again(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(data, out) == 0
    said = capsys.readouterr().out
    assert "48 test examples" in said
    assert "guessing the most numerous class: 0." in said
    assert "AUC" in said
    assert "95 % interval" in said
    names = {path.name for path in out.iterdir()}
    assert names == set(claims.OURS)
    assert any((out / "tensorboard").iterdir())
    assert (out / "history.csv").read_text().startswith("epoch,loss,accuracy,val_loss,val_accuracy,val_auc")
    looks = (data / "test_looks.jsonl").read_text().splitlines()
    assert len(looks) == 1
    result = json.loads((out / "result.json").read_text())
    assert json.loads(looks[0])["model"] == result["model"]
    before = (out / "best.keras").stat().st_mtime_ns

    assert run(data, out) == 0
    again = capsys.readouterr().out
    assert "this run is finished" in again
    assert again.endswith(said)
    assert (out / "best.keras").stat().st_mtime_ns == before

    # The result lost, the scores are used again and the look is not a new one.
    scores = (out / "scores_test.fits").stat().st_mtime_ns
    (out / "result.json").unlink()
    assert run(data, out) == 0
    assert capsys.readouterr().out == said
    assert (out / "scores_test.fits").stat().st_mtime_ns == scores
    assert len((data / "test_looks.jsonl").read_text().splitlines()) == 1

    # Nor is it where the result cannot be read.
    damages = [json.dumps({**result, "auc": damage}) for damage in (7, {"value": "high"})]
    for damage in ("", "{}", "[]", *damages):
        (out / "result.json").write_text(damage)
        assert run(data, out) == 0
        found = capsys.readouterr()
        assert found.out == said
        assert "result.json: not a readable result" in found.err
    assert len((data / "test_looks.jsonl").read_text().splitlines()) == 1

    # Another seed is another run: refused, then allowed, and then a second look.
    assert run(data, out, "--seed", "9") == 1
    assert "holds another run (feed.seed was 1, is 9)" in capsys.readouterr().err
    (out / "mine.txt").write_text("kept")
    assert run(data, out, "--seed", "9", "--overwrite") == 0
    assert "2 different networks" in capsys.readouterr().out
    assert (out / "mine.txt").exists()
    assert len((data / "test_looks.jsonl").read_text().splitlines()) == 2


def test_scores_are_those_of_the_saved_model(data, tmp_path):
    from obiwan.dplearn.training.model import load_network

    assert run(data, tmp_path / "out") == 0
    table = fitsio.read(str(tmp_path / "out" / "scores_test.fits"))
    model = load_network(tmp_path / "out" / "best.keras")
    for number in (1, 2):
        here = table[table["shard"] == number]
        assert np.array_equal(here["row"], np.arange(len(here)))
        x, y = np.load(data / f"xtest_{number}.npy"), np.load(data / f"ytest_{number}.npy")
        assert np.array_equal(here["label"], y)
        assert here["score"] == pytest.approx(model.predict_on_batch(x)[:, 1], abs=1e-5)


@pytest.mark.parametrize(
    "spec",
    [StampSpec(("g", "r", "i", "z"), size=48), StampSpec(("r",), ("image",), 96)],
    ids=["griz 48 px", "r image 96 px"],
)
def test_a_set_of_other_stamps(spec, made, tmp_path, capsys):
    """Trained, and scored as any referee; where the network is of other stamps, one line names both."""
    write_set(tmp_path / "set", Planted("size", 2.5), COUNTS, seed=5, rows=32, spec=spec)
    assert run(tmp_path / "set", tmp_path / "out") == 0
    assert "48 test examples" in capsys.readouterr().out
    stamp_set = stampset.open_training_set(tmp_path / "set")
    model = tmp_path / "out" / "best.keras"
    referee = load_network_referee(model, stamp_set)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (referee.checksum, referee.learnt) == (result["model"], result["learnt"])
    assert isinstance(referee, Referee)
    kept = read_scores(tmp_path / "out" / "scores_test.fits", referee.checksum, stamp_set.checksum)
    write_table(tmp_path / "set", _table(kept, spec), spec)
    stamp_set = stampset.open_training_set(tmp_path / "set")
    np.testing.assert_allclose(score_split(referee, stamp_set, "test").score, kept.score, atol=1e-6)
    with pytest.raises(ModelError, match=f"best.keras: .*of {' '.join(spec.bands)} at .*of g r z at 64 px"):
        load_network_referee(model, stampset.open_training_set(made))


def test_a_network_that_did_not_learn_says_so(data, tmp_path, capsys):
    assert run(data, tmp_path / "out", "--learning-rate", "1e-12") == 0
    said = capsys.readouterr().out
    assert "did not learn" in said
    assert "says nothing about the galaxies" in said
    assert "cannot tell" not in said


def _edit_manifest(data, change):
    path = data / manifests.MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    seal(data)


def _flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def _without(split):
    return lambda m: m.update(shards=[s for s in m["shards"] if s["split"] != split])


SPOIL = {
    "no such directory": lambda d: shutil.rmtree(d),
    "holds no training set": lambda d: (d / manifests.MANIFEST).unlink(),
    "is not finished": lambda d: ((d / manifests.MANIFEST).unlink(), (d / manifests.WORK).mkdir()),
    "not a readable manifest": lambda d: (d / manifests.MANIFEST).write_text('{"format": '),
    "channels is": lambda d: _edit_manifest(d, lambda m: m.update(channels=["g", "r"])),
    "is not what the manifest says": lambda d: _edit_manifest(d, lambda m: m.update(stamp=32)),
    "the val split has no examples": lambda d: _edit_manifest(d, _without("val")),
    "the test split has no examples": lambda d: _edit_manifest(d, _without("test")),
    "xtrain_2.npy: checksum differs": lambda d: _flip(d / "xtrain_2.npy"),
    "xval_1.npy: checksum differs": lambda d: _flip(d / "xval_1.npy"),
    "ytest_1.npy: checksum differs": lambda d: _flip(d / "ytest_1.npy"),
    "xtrain_1.npy": lambda d: (d / "xtrain_1.npy").unlink(),
}


@pytest.mark.parametrize("message", SPOIL)
def test_spoilt_data_is_one_clear_line(data, tmp_path, capsys, message):
    SPOIL[message](data)
    assert run(data, tmp_path / "out") == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert message in lines[0]
    assert str(data) in lines[0]
    assert "Traceback" not in lines[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--learning-rate", "-1"], "learning_rate must be positive"),
        (["--arch", "deep"], "multiples of 8"),
        (["--maps", *"22222"], "cannot be pooled 7 times"),
    ],
)
def test_what_cannot_be_trained_is_one_clear_line(made, tmp_path, capsys, words, message):
    assert run(made, tmp_path / "out", *words) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "out").exists()


def test_fewer_examples_than_a_batch_are_one_batch(made, tmp_path, capsys):
    assert run(made, tmp_path / "out", "--batch-size", "65") == 0
    assert "only 64 training examples" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "run.json").read_text())["feed"]["batch_size"] == 64


@pytest.mark.parametrize("content", ["", "[]", "1.5", '{"feed": 7}'])
def test_a_run_that_cannot_be_read_is_not_taken_for_this_one(made, tmp_path, capsys, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text(content)
    assert run(made, tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds another run (" in line


def test_outdir_that_is_a_file_or_of_something_else(made, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(made, tmp_path / "file" / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'file' / 'out'}: cannot write there (not a writable directory)" in line
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "best.keras").write_text("precious")
    assert run(made, tmp_path / "other", "--overwrite") == 1
    assert "best.keras, which is no part of a run" in capsys.readouterr().err
    assert (tmp_path / "other" / "best.keras").read_text() == "precious"


def test_options_from_a_file_and_usage_errors(made, tmp_path, capsys):
    config = tmp_path / "cnn.toml"
    config.write_text(f'data = "{made}"\nlearning-rate = -1\nmaps = [3, 4]\naugment = true\n')
    assert cnn.main(["--config", str(config), "--outdir", str(tmp_path / "out")]) == 1
    assert "learning_rate must be positive" in capsys.readouterr().err
    both = ["--data", "x", "--outdir", "y"]
    wrong = [
        ["--seed", "-1"],
        ["--seed", "5000000000"],
        ["--threads", "0"],
        ["--epochs", "0"],
        ["--checkpoint-steps", "0"],
        ["--maps", "3", "-1"],
    ]
    for words in (["--outdir", "x"], ["--data", "x"], *([*both, *more] for more in wrong)):
        with pytest.raises(SystemExit) as caught:
            cnn.main(words)
        assert caught.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


def test_help_loads_no_keras():
    from obiwan.dplearn.training.settings import ARCHITECTURES

    code = "import sys; from obiwan.dplearn import cnn\ntry: cnn.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'keras', 'tensorflow', 'horovod'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "direction" in done.stdout  # why --augment is off
    assert f"{{{','.join(ARCHITECTURES)}}}" in done.stdout


def test_killed_and_started_again(made, tmp_path):
    """Kill -9 in the middle of an epoch; the networks are those of a run left alone, byte by byte."""

    def command(outdir):
        words = [
            "--data",
            str(made),
            "--outdir",
            str(outdir),
            *NETWORK,
            "--threads",
            "1",
            "--batch-size",
            "2",
        ]
        return [
            sys.executable,
            "-m",
            "obiwan.dplearn.cnn",
            *words,
            "--epochs",
            "4",
            "--checkpoint-steps",
            "3",
        ]

    victim = subprocess.Popen(command(tmp_path / "killed"), env=ENV, stderr=subprocess.DEVNULL)
    for _ in range(6000):
        numbers = [int(p.stem[5:]) for p in (tmp_path / "killed").glob("checkpoints/step_*.npz")]
        if numbers and max(numbers) % 32:
            break
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "result.json").exists()
    said = []
    for name in ("killed", "whole"):
        done = subprocess.run(command(tmp_path / name), env=ENV, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "threads: 1 a rank, from " in done.stderr
        said.append((done.stdout.split("Model:")[0], "going on after" in done.stderr))
    assert said[0][0] == said[1][0]
    assert [resumed for _, resumed in said] == [True, False]
    models = [
        json.loads((tmp_path / name / "result.json").read_text())["model"] for name in ("killed", "whole")
    ]
    assert models[0] == models[1]
    for file in (claims.BEST, claims.LAST):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def _scores(training_set, model="m"):
    rows = np.concatenate([np.arange(s.rows) for s in training_set.split("test")]).astype("i4")
    shard = np.repeat(
        [s.number for s in training_set.split("test")], [s.rows for s in training_set.split("test")]
    )
    labels = np.concatenate([training_set.read(s)[1] for s in training_set.split("test")])
    score = np.linspace(0, 1, len(rows), dtype="f4")
    return Scores("test", shard.astype("i4"), rows, labels, score, model, training_set.checksum)


def test_scores_round_trip_and_belong_to_a_model(made, tmp_path):
    scores = _scores(stampset.open_training_set(made))
    path = tmp_path / "scores.fits"
    assert read_scores(path, "m", scores.data) is None
    write_scores(path, scores)
    found = read_scores(path, "m", scores.data)
    for name in ("shard", "row", "label", "score"):
        assert np.array_equal(getattr(found, name), getattr(scores, name))
        assert getattr(found, name).dtype == getattr(scores, name).dtype
    assert read_scores(path, "other", scores.data) is None
    assert read_scores(path, "m", "00000000") is None


def _table(scores, spec=StampSpec()):  # noqa: B008
    """An example table of this set: the test rows, after those of the other splits, in six bricks."""
    n, others = len(scores.row), COUNTS["train"] + COUNTS["val"]
    table = blank_examples(others + n, spec)
    table["split"] = [b"train"] * COUNTS["train"] + [b"val"] * COUNTS["val"] + [b"test"] * n
    for name in ("shard", "row", "label"):
        table[name][others:] = getattr(scores, name)
    table["brick"] = [f"{i % 6:04d}p000" for i in range(len(table))]
    return table


def test_bricks_come_from_the_source_table(data):
    scores = _scores(stampset.open_training_set(data))
    assert bricks_of(stampset.open_training_set(data), scores) is None
    table = _table(scores)
    write_table(data, table)
    mixed = np.random.default_rng(0).permutation(len(scores.row))
    names = ("shard", "row", "label", "score")
    shuffled = replace(scores, **{name: getattr(scores, name)[mixed] for name in names})
    found = bricks_of(stampset.open_training_set(data), shuffled)
    assert np.array_equal(found, table["brick"][-len(mixed) :].astype(str)[mixed])
    table["label"] = 1 - table["label"]
    write_table(data, table)
    with pytest.raises(TrainingSetError, match="not those of the shards"):
        bricks_of(stampset.open_training_set(data), scores)


@pytest.mark.parametrize("column", ["split", "label", "brick", None])
def test_a_source_table_of_another_shape_is_one_line(column, data):
    """At the end of a training, where a traceback would hide the result."""
    training_set = stampset.open_training_set(data)
    scores = _scores(training_set)
    table = _table(scores)
    columns = {name: table[name] for name in table.dtype.names}
    if column is None:
        columns["brick"] = np.full(len(table), b"\xe9", "S8")  # as an old code page has it
    else:
        columns[column] = np.stack([columns[column]] * 2, axis=1)
    with fitsio.FITS(str(data / manifests.SOURCES), "rw", clobber=True) as file:
        file.write(list(columns.values()), names=list(columns))
    with pytest.raises(TrainingSetError, match=r"cannot read it .*make the training set again"):
        bricks_of(training_set, scores)


def test_bricks_come_from_the_table_that_the_manifest_vouches_for(data):
    fitsio.write(str(data / manifests.SOURCES), blank_examples(1, StampSpec()))
    seal(data)
    training_set = stampset.open_training_set(data)
    with (data / manifests.SOURCES).open("ab") as stream:
        stream.write(bytes(2880))
    with pytest.raises(TrainingSetError, match="checksum differs"):
        bricks_of(training_set, _scores(training_set))


def test_looks_by_different_models_are_counted(data):
    training_set = stampset.open_training_set(data)
    (data / "test_looks.jsonl").unlink(missing_ok=True)
    assert [record_evaluation(training_set, _scores(training_set, m)) for m in ("a", "a", "b", "a")] == [
        1,
        1,
        2,
        2,
    ]
    assert len((data / "test_looks.jsonl").read_text().splitlines()) == 2
    unhashable = {"model": [], "data": training_set.checksum}
    for nonsense in ("nonsense", "[]", json.dumps(unhashable)):
        (data / "test_looks.jsonl").write_text(f"{nonsense}\n")
        with pytest.raises(ModelError, match="not a readable test-set log"):
            record_evaluation(training_set, _scores(training_set))


def test_a_half_written_look_is_passed_over(data, caplog, monkeypatch):
    def torn(self, content):
        with self.open("wb") as stream:
            stream.write(content[:10])
        raise KeyboardInterrupt

    training_set, path = stampset.open_training_set(data), data / "test_looks.jsonl"
    path.unlink(missing_ok=True)
    for model in ("a", "b"):
        record_evaluation(training_set, _scores(training_set, model))
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{second[:20]}")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", torn)
        with pytest.raises(KeyboardInterrupt):
            record_evaluation(training_set, _scores(training_set, "c"))
    assert path.read_text() == f"{first}\n{second[:20]}"  # a death in the repair loses no look
    assert [record_evaluation(training_set, _scores(training_set, m)) for m in ("a", "c", "c")] == [1, 2, 2]
    assert caplog.text.count("half-written") == 3  # until something was written
    assert [json.loads(line)["model"] for line in path.read_text().splitlines()] == ["a", "c"]
    path.write_text(f"{first}\n{second}")  # nothing is lost where only the end of the line is
    assert record_evaluation(training_set, _scores(training_set, "c")) == 3
    assert caplog.text.count("half-written") == 3
