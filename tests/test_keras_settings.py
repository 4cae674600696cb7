"""A keras.json of another project: of it only the backend is used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import obiwan.dplearn
from obiwan.dplearn import mosaic
from obiwan.dplearn.errors import DplearnError
from obiwan.dplearn.running.backends import settle_keras
from obiwan.dplearn.training.rundir import run_directory
from planted import Planted, write_set

TINY = (
    "--maps 3 4 --kernel-size 3 --dense 6 --learning-rate 1e-2 --quiet --threads 1 --epochs 1 --batch-size 8"
)


def settled(place: Path, content: str | None, **environ: str) -> tuple[list[str], dict[str, str]]:
    """What is said of a keras.json, and the environment afterwards."""
    environ = {"KERAS_HOME": str(place), **environ}
    if content is not None:
        (place / "keras.json").write_text(content)
    return settle_keras(environ), environ


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (None, ""),
        ('{"floatx": "float32"}', ""),
        ('{"floatx": "float16", "backend": "tensorflow"}', "floatx float16 is not used"),
        ('{"floatx": "float99", "epsilon": 1, "image_data_format": "none"}', "floatx float99 is not used"),
        ("{", ""),
        ("[]", ""),
    ],
)
def test_nothing_but_the_backend_is_used(content, note, tmp_path):
    notes, environ = settled(tmp_path, content)
    assert [note in line for line in notes] == [True] * bool(note)
    assert (environ["KERAS_BACKEND"], environ["KERAS_HOME"]) == ("tensorflow", os.devnull)
    assert settle_keras(environ) == []  # nor when it is asked again


@pytest.mark.parametrize(
    ("content", "environ", "words"),
    [
        (
            '{"backend": "torch"}',
            {},
            r"Keras backend torch \(.*keras.json\) is not installed; .*KERAS_BACKEND=tensor",
        ),
        (None, {"KERAS_BACKEND": "torch"}, r"Keras backend torch \(KERAS_BACKEND\) is not installed"),
        ('{"backend": "theano"}', {}, r"Keras backend theano \(.*keras.json\) is none of tensorflow, jax"),
        (None, {}, r"Keras backend tensorflow \(the default\) is not installed; pip install 'obiwan"),
    ],
)
def test_a_backend_that_cannot_be_used(content, environ, words, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DplearnError, match=words):
        settled(tmp_path, content, **environ)


def cnn(data: Path, outdir: Path, home: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own."""
    words = [sys.executable, "-m", "obiwan.dplearn.cnn", "--data", str(data), "--outdir", str(outdir)]
    own = {"KERAS_HOME": str(home), "PYTHONPATH": str(Path(obiwan.dplearn.__file__).parents[2])}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KERAS")}
    return subprocess.run(
        [*words, *TINY.split()], env={**kept, **own, **environ}, capture_output=True, text=True, check=False
    )


def test_the_result_does_not_depend_on_it(tmp_path):
    write_set(tmp_path / "set", Planted("size", 2.5), {"train": 48, "val": 24, "test": 24}, seed=5, rows=16)
    results = []
    for floatx in ("float32", "float64", "float16"):
        home = tmp_path / floatx
        home.mkdir()
        config = {"floatx": floatx, "epsilon": 0.1, "image_data_format": "channels_first"}
        (home / "keras.json").write_text(json.dumps(config))
        done = cnn(tmp_path / "set", home / "run", home)
        assert done.returncode == 0, done.stderr
        assert (f"floatx {floatx} is not used" in done.stderr) == (floatx != "float32")
        record = json.loads((home / "run" / "run.json").read_text())
        assert record["keras"] == {"floatx": "float32"}
        results.append(json.loads((home / "run" / "result.json").read_text()))
    assert results[0] == {**results[1], "looks": 1}
    assert results[0] == {**results[2], "looks": 1}


def test_it_is_refused_before_anything_heavy_is_imported(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "abacus"}')
    done = cnn(tmp_path, tmp_path / "run", tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert len(lines) == 1
    assert "abacus" in lines[0]
    assert "tensorflow" not in done.stderr.replace(lines[0], "")


def test_who_needs_no_keras_asks_for_no_backend(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "abacus")
    assert mosaic.main(["--data", str(tmp_path), "--outdir", str(tmp_path / "out")]) == 1
    assert "abacus" not in capsys.readouterr().err
    assert mosaic.main(["--data", str(tmp_path), "--outdir", str(tmp_path / "out"), "--model", "x"]) == 1
    assert "Keras backend abacus" in capsys.readouterr().err


@pytest.mark.parametrize("keras", ["", ', "keras": {"backend": "jax", "floatx": "float32"}'])
def test_a_run_goes_on_under_another_backend_but_not_in_another_number_type(keras, tmp_path):
    """Records of earlier versions tell nothing, or the backend, too."""
    (tmp_path / "run.json").write_text('{"epochs": 1' + keras + "}")
    output = run_directory(tmp_path)
    assert output.check({"epochs": 1, "keras": {"floatx": "float32"}})
    with pytest.raises(DplearnError, match=r"keras.floatx was float32, is float16"):
        output.check({"epochs": 1, "keras": {"floatx": "float16"}})
