"""What must grow no faster than the survey: memory of planning, looks at the file system; and no locks."""

from __future__ import annotations

import os
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from obiwan.dplearn.planning.assembly import assemble
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.survey.layouts import Root, find_runs, layout_named
from plans import eligible_of, plan_of
from synthetic import Place

BRICK_EXAMPLES = 500


def peak_of_assembly(bricks: int, **options: object) -> int:
    """Most bytes that deciding over so many bricks holds, beside what it is given."""
    label, dec = np.arange(BRICK_EXAMPLES) % 2, 0.01 * np.arange(BRICK_EXAMPLES)
    eligible = eligible_of([plan_of(f"{i:04d}p060", label, 10.0 + i, dec) for i in range(bricks)])
    config = TrainingConfig(select="none", **options)
    tracemalloc.start()
    try:
        planned = assemble(eligible, config)
        assert len(planned) > 0
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_planning_holds_few_bytes_for_each_example():
    peak_of_assembly(20)  # what is imported or kept at the first time
    few, many = peak_of_assembly(40), peak_of_assembly(160)
    each = (many - few) / (120 * BRICK_EXAMPLES)
    assert 1 < each < 40, each  # a row of the source table has 224
    assert many < 4.4 * few


@pytest.mark.parametrize("kind", ["legacysim", "obiwan"])
@pytest.mark.parametrize("listed", [False, True])
def test_finding_runs_looks_as_often_as_there_are_bricks(kind, listed, tmp_path, monkeypatch):
    """Metadata calls are what costs on a parallel file system, and a survey has 300,000 bricks."""
    looks = 0

    def counted(function):
        def counting(*args, **kwargs):
            nonlocal looks
            looks += 1
            return function(*args, **kwargs)

        return counting

    for name in ("scandir", "stat", "lstat", "listdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    monkeypatch.setattr(Path, "stat", counted(Path.stat))
    needed = []
    for bricks in (20, 40, 80):
        names = [f"0{i:03d}p060" for i in range(bricks)]
        tree = tmp_path / str(bricks)
        for name in names:
            place = Place(kind, tree, name)
            for path in (place.truth, place.tractor):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        looks = 0
        found = find_runs(Root(0, tree, layout_named(kind)), names if listed else None)
        assert len(found) == bricks
        needed.append(looks)
    assert needed[2] - needed[1] <= 2.2 * (needed[1] - needed[0]), needed
    assert needed[2] < 10 * 80, needed


def test_nothing_is_locked(root):
    """Locks outlive what made them, and parallel file systems are slow at them or have none."""
    paths = list((root / "py").rglob("*.py"))
    assert len(paths) > 50
    for path in paths:
        text = path.read_text(encoding="utf-8")
        found = re.search(r"\b(flock|lockf|fcntl|O_EXCL|O_CREAT|filelock|portalocker|fasteners)\b", text)
        assert found is None, (path, found)
        assert not re.search(r"""open\([^)]*["']x[bt+]*["']""", text), path
