"""The tables that benchmarks write: what they count, and what made them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("galsim")

from benchmarks import (
    cross_fitting,
    injection_controls,
    linearity,
    null_sets,
    ranks,
    rulings,
    surveys,
    verdicts,
)
from benchmarks.scaling_model import Machine, Rates, table_of_surveys
from obiwan.dplearn import __version__
from obiwan.dplearn.controls.records import Control, Statistic

ROOT = Path(__file__).resolve().parents[1]


def test_the_table_of_margins_follows_from_that_of_linearity():
    with (ROOT / "doc/_static/linearity.csv").open() as stream:
        wanted = linearity.margins(csv.DictReader(stream))
    with (ROOT / "doc/_static/margins.csv").open() as stream:
        assert list(csv.DictReader(stream)) == wanted
    assert linearity.needed(linearity.DETECTED, 0.0282) == 1800  # of 2.895 sigma, sigma^2 = 1 / 6n, 1,757


def test_verdicts_are_counted_with_the_interval_of_their_rate():
    found = [
        {
            "kind": kind,
            "value": auc,
            "real": 400,
            "fake": 500,
            "version": "1",
            "ruling": ruling,
            "failing": names,
        }
        for kind, auc, ruling, names in (
            ("inconclusive", 0.49, "inconclusive", []),
            ("distinguishable", 0.56, "differ, explained", ["width"]),
            ("inconclusive", 0.51, "differ, unseen by the panel", ["width", "centroid x"]),
        )
    ]
    row = verdicts.row("psf", found)
    assert (row["planted"], row["seeds"], row["distinguishable"], row["inconclusive"]) == ("psf 1.1", 3, 1, 2)
    assert float(row["rate_low"]) < 1 / 3 < float(row["rate_high"])
    assert (row["auc_median"], row["auc_least"], row["auc_most"]) == ("0.510", "0.490", "0.560")
    assert (row["test_examples"], row["version"]) == (900, "1")
    assert [row[f"ruling: {kind}"] for kind in ("inconclusive", "differ, explained", "invalid set")] == [
        1,
        1,
        0,
    ]
    assert row["fails_most_often"] == "width 2; centroid x 1"


def test_controls_of_inject_are_told_in_a_row():
    metrics = {
        "ruling": {"kind": "differ, explained", "failing": ["width g", "concentration g"]},
        "verdict": {"auc": {"value": 0.8, "low": 0.71, "high": 0.9}, "real": 30, "fake": 31},
    }
    clean = {**metrics, "ruling": {"kind": "inconclusive", "failing": []}}
    row = injection_controls.row_of("stars, moffat", [metrics, metrics, clean])
    assert (row["seeds"], row["auc_median"], row["test_examples"]) == (3, "0.800", 61)
    assert row["rulings"] == "differ, explained 2; inconclusive 1"
    assert row["fail"] == "width g 2; concentration g 2"
    assert injection_controls.row_of("stars", [clean])["fail"] == "none"


def test_every_program_is_found_by_its_name(tmp_path: Path):
    """Without the environment, of which the last line would make one."""
    for name in ("bin", "tests"):
        (tmp_path / name).mkdir()
    for name in ("benchmark", "environment.sh"):
        shutil.copy(ROOT / "bin" / name, tmp_path / "bin")
    (tmp_path / "tests" / "benchmarks").symlink_to(ROOT / "tests" / "benchmarks")
    with (tmp_path / "bin" / "environment.sh").open("a") as stream:
        stream.write('\nmake_environment() { echo "made for: ${names[*]}"; exit 0; }\n')
    files = sorted((ROOT / "tests" / "benchmarks").glob("*.py"))
    programs = [path.stem for path in files if "\nif __name__ == " in path.read_text()]
    assert len(programs) > 20

    def start(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(tmp_path / "bin" / "benchmark"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = start(*programs)
    assert (done.returncode, done.stdout.split("made for: ")[-1].split()) == (0, programs), done.stderr
    wrong = start("nonsense")
    assert wrong.returncode != 0
    assert f"no benchmark nonsense; there are: {' '.join(programs)}" in wrong.stderr


def test_a_table_names_package_and_mock():
    assert surveys.version().startswith(__version__)
    assert f"mock {surveys.EDITION}" in surveys.version()


def test_cross_fitted_sets_are_null_on_average(rng):
    """In odd bricks the classes differ, in all bricks together they do not."""
    null = cross_fitting.Null(200, 100, odd=1.0)
    columns, label, bricks = null.draw(rng)
    assert len(columns) == cross_fitting.QUANTITIES
    values = columns["q0"]
    apart = np.array(
        [np.diff([values[(bricks == b) & (label == k)].mean() for k in (0, 1)])[0] for b in range(200)]
    )
    assert 0.85 < apart.std() < 1.2
    assert abs(apart.mean()) < 0.3
    found = np.array(list(cross_fitting.results(cross_fitting.Null(10, 40), 2, 1)), float)
    row = cross_fitting.row("nothing", 10, 400, found)
    assert (row["sets"], row["examples"]) == (2, 400)
    assert float(row["plain"]) <= float(row["widened"])


def test_relabelled_numbers_need_twice_the_variance(rng):
    numbers, bricks = rng.normal(size=(600, 20)), np.repeat(np.arange(20), 30)
    found = np.array(list(cross_fitting.relabelled(numbers, bricks, 300, 1)), float)
    row = cross_fitting.row("measured", 20, 600, found)
    assert 1.6 < float(row["needed"]) < 2.5
    assert float(row["plain"]) < 0.89
    assert 0.92 < float(row["widened"]) < 0.985


def test_labels_of_odd_bricks_follow_the_scores_of_their_brick_alone(rng):
    bricks = np.repeat(np.arange(100), 200)
    pool = null_sets.Pool(None, bricks, rng.normal(size=(len(bricks), 3)))
    for oddness in null_sets.ODDNESS:
        label = null_sets.drawn_labels(pool, oddness, rng)
        column = pool.scores[:, 1]
        apart = [
            np.diff([column[(bricks == b) & (label == k)].mean() for k in (0, 1)])[0] for b in range(100)
        ]
        noise = 2 / np.sqrt(200)  # of a difference of two means of 100
        assert np.std(apart) == pytest.approx(np.hypot(oddness, noise), rel=0.2)
        assert abs(np.mean(apart)) < 4 * np.hypot(oddness, noise) / 10
        assert label.mean() == pytest.approx(0.5, abs=0.02)


def test_null_sets_are_counted_by_oddness_and_bricks(tmp_path):
    record = tmp_path / "sets.jsonl"
    one = {"oddness": 0.1, "bricks": 5, "number": 1, "examples": 300, "version": "1"}
    lines = [one | {"kind": kind, "auc": 0.5} for kind in ("inconclusive", "distinguishable", "inconclusive")]
    record.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"oddness": 0.1, "bri')
    found = null_sets.read(record)
    assert {key: len(each) for key, each in found.items()} == {(0.1, 5): 3}
    null_sets.write_table(tmp_path / "table.csv", record)
    head, row = (tmp_path / "table.csv").read_text().split()[0], null_sets.row(0.1, 5, found[0.1, 5])
    assert head.startswith("oddness,test")
    assert (row["sets"], row["distinguishable"], row["rate"]) == (3, 1, "0.333")
    assert null_sets.read(tmp_path / "absent.jsonl") == {}


def test_rulings_of_null_sets_are_counted(rng):
    """Labels follow the quantities in odd bricks, and on average over bricks they do not."""
    values = rng.normal(size=(2000, 9))
    asked = [(Control(f"q{i}", "D3" if i == 0 else "D5", "r"), values[:, i]) for i in range(9)]
    pool = rulings.pool_of([*asked, (Control("other", "D5", "g"), values[:, 0])], "r")
    assert [control.name for control, _ in pool.asked] == [f"q{i}" for i in range(9)]
    assert pool.directions.std(0) == pytest.approx(1)
    chosen, brick, label = rulings.drawn(pool, 40, 1.0, rng)
    first = pool.directions[chosen][:, 0]
    apart = [np.diff([first[(brick == b) & (label == k)].mean() for k in (0, 1)])[0] for b in range(40)]
    assert np.std(apart) > 0.5
    assert abs(np.mean(apart)) < 0.4
    found = [{**rulings.null_set(pool, bricks, 0.0, 1), "version": "1"} for bricks in (4, 20)]
    assert {one["bricks"] for one in found} == {4, 20}
    alarms = [{**found[1], "differ": True, "here": False}, found[1] | {"differ": False, "here": True}]
    row = rulings.row(0.0, 20, alarms)
    assert (row["sets"], row["differ"], row["in these bricks"], row["version"]) == (2, "0.500", "0.500", "1")
    assert float(row["differ_low"]) < 0.5 < float(row["differ_high"])


def test_no_alarm_of_a_null_set_is_missed(rng, monkeypatch):
    """What is left out to save time is what no control is significant in."""
    values = rng.normal(size=(1200, 12))
    values[:, :3] = np.where(rng.random((1200, 3)) < 0.5, 0, values[:, :3] ** 2)  # skewed, and many equal
    statistics = [Statistic.SHIFT if i % 3 == 0 else Statistic.DISTRIBUTION for i in range(12)]
    values[7, 4], values[3:, 5] = np.nan, np.nan  # not measured, and of too few
    asked = [
        (Control(f"q{i}", "D3" if i < 4 else "D5", "r", one), values[:, i])
        for i, one in enumerate(statistics)
    ]
    pool = rulings.pool_of(asked, "r")
    sets = [(bricks, oddness, number) for bricks in (4, 20) for oddness in (0.0, 3.0) for number in (1, 2)]
    quick, tried = [rulings.null_set(pool, *one) for one in sets], []
    monkeypatch.setattr(rulings, "may_fail", lambda *given: tried.append(given) or True)
    assert [rulings.null_set(pool, *one) for one in sets] == quick
    assert len(tried) == len(sets)
    assert any(one["galaxies"] or one["set"] for one in quick)


def test_the_table_of_whole_surveys_is_what_the_scaling_model_gives():
    text = (Path(__file__).parents[1] / "doc" / "explanation" / "scaling.rst").read_text()
    head, *rows = table_of_surveys(Rates(), Machine())
    assert len(rows) == 9
    for line in [head, *rows]:
        assert line in text


def test_rates_of_ranks_are_ratios_within_a_round():
    """The machine is twice as fast in the second round: ratios do not see it."""
    rates = {"one process": 30.0, "one thread": 20.0, "one thread, jax": 8.0, "jax": 15.2, "horovodrun": 39.0}
    jobs = [
        ranks.Job("one process", "", 1, 2, 16),
        ranks.Job("one thread", "", 1, 1, 16),
        ranks.Job("horovodrun", "horovodrun", 2, 1, 16),
        ranks.Job("one thread, jax", "", 1, 1, 16, variables=ranks.ON_JAX),
        ranks.Job("jax", "jax", 2, 1, 16, variables=ranks.ON_JAX),
    ]
    rounds = [
        {name: ranks.Turn(speed * rate, 40 / rate, 0.1 * speed) for name, rate in rates.items()}
        for speed in (1, 2, 2)
    ]
    rounds[2]["jax"] = ranks.Turn(np.nan, np.nan, 0.2)  # without two steps
    rows = {row["job"]: row for row in ranks.rows_of(rounds, jobs)}
    assert list(rows) == [job.name for job in jobs]
    jax = rows["jax"]
    assert (jax["images/s"], jax["least"], jax["most"], jax["others"]) == ("22.8", "15.2", "30.4", "0.20")
    assert (jax["of as many times one thread"], jax["of one thread of TensorFlow"]) == ("0.950", "0.760")
    assert rows["horovodrun"]["of as many times one thread"] == "0.975"
    assert rows["one process"]["of as many times one thread"] == ""
    assert rows["one thread, jax"]["of one thread of TensorFlow"] == "0.400"


def test_the_time_that_all_processors_were_busy():
    ticks = os.sysconf("SC_CLK_TCK")
    text = f"cpu  {3 * ticks} {ticks} {2 * ticks} 777 88 0 {ticks} {ticks} 5 5\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
    assert ranks.busy_seconds(text) == pytest.approx(8)
    assert ranks.busy_seconds() > 0
