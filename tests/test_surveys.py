"""The benchmarks' cache of mock surveys: made once, made again where it was interrupted, never mixed up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("galsim")

from benchmarks import surveys
from obiwan.dplearn.trainingset.stampset import open_training_set

WORDS = ["--bricks", "4", "--brick-size", "200", "--runs", "2", "--seed", "3"]
CUT = ["--select", "none", "--balance", "none", "--split", "object"]


def test_names_follow_what_decides_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert surveys.key(WORDS) == surveys.key([*WORDS, "--plant-psf", "1"])
    names = {surveys.key(WORDS), surveys.key([*WORDS, "--plant-psf", "1.1"]), surveys.key(WORDS, ())}
    names |= {surveys.key(WORDS, ("--centers", "truth")), surveys.key([*WORDS, "--seed", "4"])}
    assert len(names) == 5
    monkeypatch.setattr(surveys, "EDITION", 10**6)
    assert surveys.key(WORDS) not in names


def test_each_is_made_once_and_made_again_if_need_be(tmp_path: Path) -> None:
    place = surveys.training_set(tmp_path, WORDS, CUT)
    made = open_training_set(place)
    assert sum(made.count("train")) > 10
    mock = surveys.survey(tmp_path, WORDS)
    before = {path: path.stat().st_mtime_ns for path in (mock / "mock.json", place / "manifest.json")}
    assert surveys.training_set(tmp_path, WORDS, CUT) == place
    assert {path: path.stat().st_mtime_ns for path in before} == before
    shutil.rmtree(place)  # to save space
    assert open_training_set(surveys.training_set(tmp_path, WORDS, CUT)).checksum == made.checksum
    record = json.loads((mock / "mock.json").read_text())
    (mock / "mock.json").write_text(json.dumps({**record, "complete": False}))  # as an interrupted one has it
    assert json.loads((surveys.survey(tmp_path, WORDS) / "mock.json").read_text())["complete"]


def test_a_failure_names_its_log(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"create_training failed, see .*\.log"):
        surveys.training_set(tmp_path, WORDS, ["--bands", "i"])
