"""Tuning: the search space, leases, studies that are killed and shared, what a study says and leaves."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from textwrap import indent

import numpy as np
import pytest
from optuna.trial import TrialState

import tune_program
from obiwan.dplearn import cnn, tune
from obiwan.dplearn.errors import LeaseLostError, ModelError, TrainingSetError
from obiwan.dplearn.files.outdir import acquire_lease, holding_lease
from obiwan.dplearn.referees.testlog import record_tuning
from obiwan.dplearn.running import cli
from obiwan.dplearn.training.rundir import HISTORY
from obiwan.dplearn.training.settings import FeedConfig, RunConfig, network_config, run_config
from obiwan.dplearn.trainingset.stampset import open_training_set
from obiwan.dplearn.trainingset.views import brick_folds
from obiwan.dplearn.tuning import files, leases, outcome, study
from obiwan.dplearn.tuning.objective import (
    SCORES,
    Fold,
    Objective,
    TrialFailedError,
    folds_of,
    open_for_tuning,
    read_scores,
)
from obiwan.dplearn.tuning.space import DOCUMENTED, config_of, documented, maps_of, read_space
from obiwan.dplearn.tuning.study import OutOfTimeError, Worker, counted, place_of
from obiwan.dplearn.twosample.ranking import Estimate, Measured, auc, auc_difference, mean_of
from planted import Planted, write_set
from processes import ENV
from tune_program import TIMING, Formula, worker

PROGRAM = Path(tune_program.__file__)
KILLS = 4


def process(*words, code=None):
    start = ["-c", code] if code else [str(PROGRAM)]
    return subprocess.Popen([sys.executable, *start, *map(str, words)], env=ENV)


def epochs_of(log):
    """Number of epochs that the processes of a study began."""
    return len(log.read_text().splitlines()) if log.exists() else 0


def results(found):
    return [(one.state.name, one.params, one.values) for one in counted(found)]


# The search space.


def test_the_documented_network_is_in_the_default_space():
    space = read_space(None, ["lenet5", "deep"])
    assert config_of(DOCUMENTED, {}) == documented() == RunConfig(network_config(), FeedConfig())
    assert config_of(7, space.documented) == documented()
    for arch in ("lenet5", "lenet5-2x2", "deep"):
        own = network_config(arch).maps
        assert maps_of(arch, own[0], len(own)) == own
    assert read_space(None, ["deep"]).documented is None


def test_the_page_shows_the_default_space(root):
    page = (root / "doc" / "howto" / "tuning.rst").read_text()
    space = (Path(files.__file__).parent / "space.toml").read_text()
    assert indent(space, "   ") in page


def test_a_file_narrows_the_space(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text("learning-rate = 1e-3\nepochs = {low = 3, high = 6}\n[deep]\nkernel_size = [3]\n")
    space = read_space(path, ["deep"])
    assert space.shared["learning_rate"].choices == (1e-3,)
    assert space.shared["batch_size"] == read_space(None, ["deep"]).shared["batch_size"]
    assert (space.own["deep"]["kernel_size"].choices, space.most_epochs) == ((3,), 6)
    assert space.documented is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning = 3", "learning is none of"),
        ("[lenet5]\nkernel = 3", "kernel is none of"),
        ("learning-rate = -1.0", "learning_rate must be positive"),
        ("[deep]\nwidth = [8, 12]", "multiples of 8"),
        ("batch-size = [16, true]", "cannot be True"),
        ('epochs = "many"', "epochs cannot be 'many'"),
        ("epochs = {low = 8, high = 4}", "low"),
        ("epochs = {least = 8}", "least"),
        ("lenet5 = 3", "3 stands where a table should be"),
        ("epochs = ", "Invalid value"),
    ],
)
def test_a_space_that_cannot_be_is_one_line(tmp_path, text, message):
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(ModelError, match=f"space.toml: .*{message}"):
        read_space(path, ["lenet5", "deep"])


# Leases.


def test_a_lease_is_held_until_it_is_released(tmp_path):
    place = tmp_path / "0003"
    assert leases.is_held(place, TIMING) is None
    with leases.leased(place, TIMING):
        assert leases.is_held(place, TIMING) is True
    assert leases.is_held(place, TIMING) is False


def test_a_killed_process_of_this_machine_is_dead_at_once(tmp_path):
    code = "import sys, time; from pathlib import Path; from obiwan.dplearn.tuning.leases import leased\n"
    code += "with leased(Path(sys.argv[1])): print(1, flush=True); time.sleep(60)"
    words = [sys.executable, "-c", code, str(tmp_path / "0")]
    holder = subprocess.Popen(words, env=ENV, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "1\n"
    assert leases.is_held(tmp_path / "0") is True
    holder.kill()
    deadline = time.monotonic() + 10
    while leases.is_held(tmp_path / "0") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert leases.is_held(tmp_path / "0") is False  # not waited for: its corpse is no process
    holder.communicate()
    assert leases.is_held(tmp_path / "0") is False


@pytest.mark.parametrize("owner", ['{"machine": "elsewhere", "pid": 1, "birth": "1"}', '{"mach', None])
def test_a_process_of_another_machine_is_dead_when_its_heart_stops(tmp_path, owner):
    lease = acquire_lease(tmp_path / "0" / leases.SCRATCH)
    if owner is not None:
        (lease / leases.OWNER).write_text(owner)
    timing = replace(TIMING, patience=100)
    assert leases.is_held(tmp_path / "0", timing) is True
    os.utime(lease, times=(time.time() - 90,) * 2)
    assert leases.is_held(tmp_path / "0", timing) is True
    os.utime(lease, times=(time.time() - 110,) * 2)
    assert leases.is_held(tmp_path / "0", timing) is False


def test_a_process_that_has_the_number_of_a_dead_one_does_not_hold_its_lease(tmp_path):
    with leases.leased(tmp_path / "0", TIMING) as lease:
        owner = json.loads((lease / leases.OWNER).read_text())
    lease = acquire_lease(tmp_path / "0" / leases.SCRATCH)
    for birth, held in ((owner["birth"], True), ("1", False)):
        (lease / leases.OWNER).write_text(json.dumps({**owner, "birth": birth}))
        assert leases.is_held(tmp_path / "0", TIMING) is held


def test_the_heart_beats_and_a_lost_lease_writes_nothing(tmp_path):
    with leases.leased(tmp_path / "0", replace(TIMING, beat=0.02)) as lease:
        os.utime(lease, times=(1, 1))
        deadline = time.monotonic() + 5
        while lease.stat().st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lease.stat().st_mtime > 2
        with leases.leased(tmp_path / "0", TIMING):
            with pytest.raises(LeaseLostError), holding_lease(lease, tmp_path):
                (lease / "file").touch()
            assert leases.is_held(tmp_path / "0", TIMING) is True


# Studies.


@pytest.mark.slow
def test_a_study_killed_again_and_again_ends_as_one_left_alone(tmp_path):
    """Kill -9: the same trials and best one, none lost or run twice, and epochs go on from checkpoints."""
    rng, trials, log = random.Random(4), 10, tmp_path / "killed" / "epochs.log"
    for _ in range(KILLS):
        enough = epochs_of(log) + rng.randint(2, 6)  # by progress: machines differ in speed
        running = process(tmp_path / "killed", trials, 0.05)
        while epochs_of(log) < enough:
            assert running.poll() is None
            time.sleep(0.005)
        time.sleep(0.06 * rng.random())  # anywhere in an epoch
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert process(tmp_path / "killed", trials, 0).wait(timeout=120) == 0
    whole = worker(tmp_path / "whole", Formula())
    whole.work(trials)
    killed = worker(tmp_path / "killed", Formula())
    assert results(killed.study) == results(whole.study)
    assert killed.study.best_trial.number == whole.study.best_trial.number
    assert {one.state for one in counted(killed.study)} == {TrialState.COMPLETE}
    assert len(counted(killed.study)) == trials
    journal = (tmp_path / "killed" / study.JOURNAL).read_text().splitlines()
    finished = [line for line in map(json.loads, journal) if line.get("values")]
    assert Counter(line["trial_id"] for line in finished) == Counter(range(trials))
    lines = (tmp_path / "killed" / "epochs.log").read_text().splitlines()
    epochs = {(f"{one.number:04d}", n) for one in counted(whole.study) for n in one.intermediate_values}
    assert {(word.split()[0], int(word.split()[1])) for word in lines} == epochs
    assert len(lines) <= len(epochs) + KILLS


def test_processes_share_a_study_and_one_of_them_is_killed(tmp_path):
    many = [process(tmp_path, 9, 0.2) for _ in range(3)]
    log = tmp_path / "epochs.log"
    deadline = time.monotonic() + 60
    while epochs_of(log) < 8 and time.monotonic() < deadline:
        time.sleep(0.02)
    many[0].kill()
    assert [one.wait(timeout=120) for one in many] == [-signal.SIGKILL, 0, 0]
    found = worker(tmp_path, Formula(log=log))
    found.work(9)  # what the killed one had, if the others had ended before
    assert Counter(one.state for one in counted(found.study)) == {TrialState.COMPLETE: 9}
    lines = Counter(log.read_text().splitlines())
    assert len(lines) == sum(len(one.intermediate_values) for one in counted(found.study))
    assert lines.total() <= len(lines) + 1  # the epoch that was killed


def test_a_trial_that_two_processes_asked_for_beyond_the_budget_does_not_count(tmp_path):
    one = worker(tmp_path, Formula())
    for _ in range(5):
        one.study.ask()
    one.work(3)
    assert [trial.number for trial in counted(one.study)] == [0, 1, 2]
    one.work(4)
    assert [trial.number for trial in counted(one.study)] == [0, 1, 2, 5]
    assert {trial.state for trial in counted(one.study)} == {TrialState.COMPLETE}


def test_a_journal_with_a_half_written_line_goes_on(tmp_path):
    one = worker(tmp_path, Formula())
    one.work(2)
    with (tmp_path / study.JOURNAL).open("ab") as stream:
        stream.write(b'{"op_code":4,"worker')
    again = worker(tmp_path, Formula())
    again.work(3)
    assert len(counted(worker(tmp_path, Formula()).study)) == 3
    assert (tmp_path / study.JOURNAL).read_bytes().count(b'"worker') == len(
        (tmp_path / study.JOURNAL).read_text().splitlines()
    )


def test_time_is_up_after_an_epoch_and_the_trial_goes_on_later(tmp_path, monkeypatch):
    log = tmp_path / "epochs.log"
    log.touch()
    first = worker(tmp_path, Formula(0, log), until=3)
    monkeypatch.setattr(study, "monotonic", lambda: len(log.read_text().splitlines()))
    first.work(2)
    (begun,) = counted(first.study)
    assert begun.state == TrialState.RUNNING
    assert len(begun.intermediate_values) == 3
    worker(tmp_path, Formula(0, log)).work(2)
    assert len(set(log.read_text().splitlines())) == len(log.read_text().splitlines())
    assert {one.state for one in counted(first.study)} == {TrialState.COMPLETE}


def test_a_trial_that_kills_its_process_is_repeated_once(tmp_path):
    code = f"import os, sys; from pathlib import Path; sys.path.insert(0, {str(PROGRAM.parent)!r})\n"
    code += "from tune_program import *\n"
    code += "class Deadly(Formula):\n    def __call__(self, config, place, *more):\n"
    code += "        if place.name == '0001': os._exit(9)\n"
    code += "        return super().__call__(config, place, *more)\n"
    code += "worker(Path(sys.argv[1]), Deadly()).work(3)"
    assert [process(tmp_path, code=code).wait(timeout=60) for _ in range(3)] == [9, 9, 0]
    trials = counted(worker(tmp_path, Formula()).study)
    assert [one.state.name for one in trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert "without a new checkpoint" in trials[1].user_attrs[study.REASON]


def test_the_documented_network_outside_the_space_does_not_keep_parameters_apart(tmp_path):
    one = worker(tmp_path, Formula())
    space = replace(one.space, networks=("deep",))
    found = study.open_study(tmp_path, space, pruner="none", seed=3, timing=TIMING)
    Worker(found, space, Formula(), tmp_path, timing=TIMING).work(13)
    trials = counted(found)
    assert trials[DOCUMENTED].params == {}
    common = found.sampler.infer_relative_search_space(found, trials[-1])
    assert {"learning_rate", "epochs", "deep.width"} <= set(common)
    assert "network" not in common  # there is one


def test_an_error_of_the_program_ends_it_and_does_not_use_up_the_trial(tmp_path):
    def broken(*_):
        raise OSError(28, "No space left on device")

    for _ in range(4):
        with pytest.raises(OSError, match="No space"):
            worker(tmp_path, broken).work(1)
    worker(tmp_path, Formula()).work(1)
    assert [one.state.name for one in counted(worker(tmp_path, Formula()).study)] == ["COMPLETE"]


def test_a_trial_that_was_taken_over_ends_here(tmp_path, caplog):
    def robbed(config, place, scratch, ended):
        if place.name == "0001" and robbed.first:
            robbed.first = False
            with leases.leased(place, TIMING):
                pass
        return Formula()(config, place, scratch, ended)

    robbed.first = True
    worker(tmp_path, robbed).work(3)
    assert "trial 1 is in another process" in caplog.text
    assert [one.state.name for one in counted(worker(tmp_path, robbed).study)] == ["COMPLETE"] * 3


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_bad_trials_are_pruned_and_the_documented_network_is_not(tmp_path, pruner):
    one = worker(tmp_path, Formula(), pruner)
    one.work(14)
    trials = counted(one.study)
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert trials[0].state == TrialState.COMPLETE
    assert all(len(trial.intermediate_values) < trial.params["epochs"] for trial in pruned)


def test_the_documented_network_is_trained_to_the_end_after_better_ones(tmp_path):
    """As in a study whose first process died: its trial goes on when others have results."""

    def poor(config, place, scratch, ended):
        if place.name != "0000":
            return Formula()(config, place, scratch, ended)
        for epoch in range(1, config.epochs + 1):
            ended(0, [0.1] * epoch)
        return 0.1

    one = worker(tmp_path, poor, "median")
    one.study.ask()
    with leases.leased(place_of(tmp_path, DOCUMENTED), TIMING):
        one.work(8)
    assert counted(one.study)[DOCUMENTED].state == TrialState.RUNNING
    one.work(8)
    assert counted(one.study)[DOCUMENTED].state == TrialState.COMPLETE


# What a study says and leaves.


def scored(outdir, number, labels, *scores, name=""):
    """Scores of a trial's trainings, as the objective leaves them."""
    for seed, one in enumerate(scores, 1):
        place = place_of(outdir, number) / f"{name}seed_{seed}"
        place.mkdir(parents=True, exist_ok=True)
        np.savez(place / SCORES, label=labels, score=one)


@pytest.fixture
def finished(tmp_path):
    """A study with results, and labels and bricks of its validation split."""
    rng = np.random.default_rng(5)
    found = worker(tmp_path, Formula())
    found.work(4)
    labels, bricks = np.tile([0, 1], 400), np.repeat(np.arange(40), 20)
    return found, labels, bricks, rng


def table(outdir):
    """Rows of ``trials.csv``."""
    return list(csv.DictReader((outdir / files.TABLE).read_text().splitlines()))


def outcome_with(finished, best_shift, seeds=1):
    found, labels, bricks, rng = finished
    best = found.study.best_trial.number
    assert best != DOCUMENTED
    common = rng.normal(size=len(labels))
    for number, power in ((DOCUMENTED, 0.8), (best, 0.8 + best_shift)):
        noise = common + 0.2 * rng.normal(size=(seeds, len(labels)))
        scored(found.outdir, number, labels, *(power * labels + noise))
    return outcome.outcome_of(found.study, found.outdir, [Fold("", None, bricks)], range(1, seeds + 1))


def test_a_better_network_is_called_better_and_an_equal_one_is_not(finished):
    better, equal = outcome_with(finished, 0.5), outcome_with(finished, 0.01)
    assert (better.trials, better.compared, better.counts["COMPLETE"]) == (4, 3, 4)
    assert better.difference.low > 0.02
    assert any("is better than the documented network" in line for line in outcome.conclusion(better))
    assert equal.difference.low < 0 < equal.difference.high
    (line,) = (line for line in outcome.conclusion(equal) if "documented" in line)
    assert "is not better than the documented network (AUC " in line
    assert "choice among 3 trials" in line
    assert any("--seeds 3" in line for line in outcome.conclusion(equal))
    assert not any("--seeds" in line for line in outcome.conclusion(outcome_with(finished, 0.5, seeds=3)))


def test_the_interval_allows_for_the_choice_of_the_best_trial(finished):
    found = outcome_with(finished, 0.1)
    study_, labels, bricks, _ = finished
    ours, theirs = (
        read_scores(place_of(study_.outdir, number) / "seed_1")[1][None]
        for number in (found.best.number, DOCUMENTED)
    )
    estimate = auc_difference(labels, ours, theirs, bricks)
    assert found.difference == estimate.interval(1 - 0.05 / 3, least=-1.0)
    assert found.difference.low < estimate.interval(0.95).low


def test_folds_are_compared_one_by_one(finished):
    """The interval is that of the mean of independent differences, each with its own bricks."""
    found, labels, bricks, rng = finished
    best, differences = found.study.best_trial.number, []
    folds = [Fold(f"fold_{number}_", None, bricks + number) for number in (1, 2, 3)]
    for fold in folds:
        ours, theirs = (power * labels + rng.normal(size=(2, len(labels))) for power in (1.2, 0.8))
        scored(found.outdir, DOCUMENTED, labels, *theirs, name=fold.name)
        scored(found.outdir, best, labels, *ours, name=fold.name)
        differences.append(auc_difference(labels, ours, theirs, fold.bricks))
    result = outcome.outcome_of(found.study, found.outdir, folds, (1, 2))
    assert (result.folds, result.seeds, result.compared) == (3, 2, 3)
    assert result.difference == mean_of(differences).interval(1 - 0.05 / 3, least=-1.0)
    assert result.difference.value == pytest.approx(np.mean([one.value for one in differences]))
    assert f"validation AUC {result.best.value:.3f}, mean of 3 folds." in outcome.conclusion(result)[1]
    assert "folds" not in " ".join(outcome.conclusion(outcome_with(finished, 0.3)))


def test_the_error_of_a_mean_of_measurements():
    parts = [Measured(0.1, 0.03, 4), Measured(0.3, 0.04, 9)]
    found = mean_of(parts)
    assert (found.value, found.error) == pytest.approx((0.2, 0.025))
    assert found.freedom == int((9 + 16) ** 2 / (81 / 4 + 256 / 9))
    assert mean_of(parts[:1]) == parts[0]
    assert mean_of([Measured(0.1, 0.0, 4)] * 2) == Measured(0.1, 0.0, 4)
    alike = mean_of([Measured(0.1, 0.03, 7)] * 5)
    assert (alike.error, alike.freedom) == (pytest.approx(0.03 / 5**0.5), 35)


def test_studies_without_an_answer_say_so(tmp_path):
    def failing(*_):
        raise TrialFailedError("out of memory")

    one = worker(tmp_path, failing)
    one.work(2)
    found = outcome.outcome_of(one.study, tmp_path, [Fold("", None, None)], (1,))
    assert outcome.conclusion(found) == [
        "Trials: 2 (2 failed).",
        "No trial is complete: there is no best one yet.",
    ]
    files.write_files(tmp_path, one.study, found.best, 1, outcome.conclusion(found))
    rows = table(tmp_path)
    assert [(row["state"], row["reason"]) for row in rows] == [("fail", "out of memory")] * 2
    assert not (tmp_path / files.BEST).exists()
    worker(tmp_path, Formula()).work(3)
    rest = outcome.outcome_of(one.study, tmp_path, [Fold("", None, None)], (1,))
    assert "no result to compare with" in outcome.conclusion(rest)[-1]
    documented_alone = replace(found, best=outcome.Best(0, 0.7, documented()), documented=0.7, compared=2)
    assert outcome.conclusion(documented_alone)[-1] == "It is the documented network: no trial is better."


def test_cnn_takes_the_best_settings_as_they_are(finished):
    found, *_ = finished
    result = outcome_with(finished, 0.3)
    files.write_files(found.outdir, found.study, result.best, 5, outcome.conclusion(result))
    words = ["--config", str(found.outdir / files.BEST), "--data", "d", "--outdir", "o"]
    options = cli.parse(cnn.build_parser(), words)
    expected = result.best.config
    assert run_config(options, 64) == replace(expected, feed=replace(expected.feed, seed=5))
    rows = table(found.outdir)
    assert [int(row["trial"]) for row in rows] == [0, 1, 2, 3]
    assert rows[0]["maps"] == "18 36 54"
    assert float(rows[result.best.number]["val_auc"]) == pytest.approx(result.best.value, abs=1e-6)
    for name in files.FIGURES:
        assert (found.outdir / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_interval_of_a_difference_covers_the_truth():
    """Of two scores of the same power on shared bricks, 95 % of the intervals contain zero."""
    rng, inside = np.random.default_rng(8), 0
    labels, bricks = np.tile([0, 1], 150), np.repeat(np.arange(30), 10)
    for _ in range(300):
        common = rng.normal(size=300) + 0.5 * rng.normal(size=30)[bricks] * (2 * labels - 1)
        scores, others = (labels + common + 0.5 * rng.normal(size=(2, 300)) for _ in range(2))
        found = auc_difference(labels, scores, others, bricks)
        estimate = found.interval(least=-1.0)
        inside += estimate.low <= 0 <= estimate.high
    means = [np.mean([auc(labels, one) for one in some]) for some in (scores, others)]
    assert found.value == pytest.approx(means[0] - means[1])
    assert 0.92 < inside / 300 <= 0.99


def test_the_scatter_of_trainings_widens_the_interval():
    rng, labels = np.random.default_rng(9), np.tile([0, 1], 500)
    noise = rng.normal(size=1000)
    one = np.array([labels * power + noise for power in (0.4, 0.8, 1.2)])
    other = np.array([labels * 0.5 + noise] * 3)
    found, alone = auc_difference(labels, one, other), auc_difference(labels, one[1:2], other[:1])
    assert found.error > 2 * alone.error
    assert found.freedom < 5 < alone.freedom
    assert auc_difference(labels, other, other).interval(least=-1.0) == Estimate(0.0, 0.0, 0.0)


# The program.

SMALL = """
learning-rate = 1e-3
batch-size = 16
epochs = 2
augment = false
[lenet5]
width = [2, 3, 4]
depth = 2
kernel-size = 3
pool-size = 2
strides = 3
dense = 4
"""


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """A training set without the files of its test split."""
    directory = tmp_path_factory.mktemp("data") / "set"
    write_set(directory, Planted("size", 2.5), {"train": 64, "val": 32, "test": 32}, seed=5, rows=32)
    for shard in open_training_set(directory).split("test"):
        (directory / shard.x_name).unlink()
        (directory / shard.y_name).unlink()
    return directory


@pytest.mark.slow
def test_a_real_study_never_reads_the_test_split(sealed, tmp_path, capsys):
    """And is joined with --resume only; the number of trials is recorded."""
    with pytest.raises(TrainingSetError, match="is not there"):
        open_training_set(sealed)
    (tmp_path / "space.toml").write_text(SMALL)
    outdir = tmp_path / "tuned"
    words = ["--data", sealed, "--outdir", outdir, "--space", tmp_path / "space.toml", "--network", "lenet5"]
    words = [*map(str, words), "--seeds", "2", "--threads", "1", "--pruner", "none"]
    assert tune.main([*words, "--trials", "1", "--hours", "1"]) == 0
    assert "It is the documented network: no trial is better." in capsys.readouterr().out
    assert tune.main([*words, "--trials", "2"]) == 1
    assert "give --resume to go on with it" in capsys.readouterr().err
    assert tune.main([*words, "--trials", "2", "--resume"]) == 0
    said = capsys.readouterr().out
    assert "Trials: 2 (2 complete)." in said
    assert "than the documented network" in said or "It is the documented network" in said
    assert f"--config {outdir / files.BEST}" in said
    assert tune.main([*words, "--trials", "2", "--resume", "--seeds", "1"]) == 1
    assert "holds another study" in capsys.readouterr().err
    left = {path.name for path in (outdir / "trials" / "0001" / "seed_2").iterdir()}
    assert left == {SCORES, HISTORY}
    _, scores = read_scores(outdir / "trials" / "0001" / "seed_2")
    assert len(scores) == 32
    lines = [json.loads(line) for line in (sealed / "test_looks.jsonl").read_text().splitlines()]
    assert [line["trials"] for line in lines if line["study"] not in "xy"] == [1, 2]


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    """A training set of eight bricks for training and validation, without the files of its test split."""
    from evaluation_set import make_set

    directory = tmp_path_factory.mktemp("data") / "set"
    counts = {"train": 90, "val": 48, "test": 32}
    made = make_set(directory, Planted("size", 2.5), counts, bricks={"train": 5, "val": 3, "test": 2})
    for shard in made.split("test"):
        (directory / shard.x_name).unlink()
        (directory / shard.y_name).unlink()
    return directory


def test_folds_are_whole_bricks_each_once_in_validation(folded):
    _, used = open_for_tuning(folded)
    stamps = {split: used.stamps(split, np.arange(len(used.rows(split)))) for split in ("train", "val")}
    whole = np.concatenate([used.rows(split) for split in stamps])
    pixels = dict(
        zip(zip(whole["brick"], whole["id"], strict=True), np.concatenate([*stamps.values()]), strict=True)
    )
    validated = []
    for number, view in enumerate(brick_folds(used, 3, seed=4)):
        bricks = {split: set(view.bricks(split)) for split in ("train", "val")}
        assert not bricks["train"] & bricks["val"]
        assert len(bricks["train"] | bricks["val"]) == 8
        assert view.split("test") == ()
        for split in bricks:
            rows = view.rows(split)
            read = [view.read(shard) for shard in view.split(split)]
            x, y = (np.concatenate(some) for some in zip(*read, strict=True))
            assert np.array_equal(y, rows["label"])
            assert (view.count(split)[1], len(y)) == (y.sum(), len(rows))
            assert all(
                np.array_equal(stamp, pixels[row["brick"], row["id"]])
                for stamp, row in zip(x, rows, strict=True)
            )
        validated += sorted(bricks["val"])
        again = brick_folds(used, 3, seed=4)[number]
        assert again.checksum == view.checksum != used.checksum
        assert again.shards == view.shards
    assert len(validated) == len(set(validated)) == 8
    assert max(len(view.bricks("val")) for view in brick_folds(used, 8, 4)) < 60
    others = [sorted(set(view.bricks("val"))) for view in brick_folds(used, 3, seed=5)]
    assert [brick for some in others for brick in some] != validated


def test_folds_keep_cells_of_the_sky_together(folded):
    _, used = open_for_tuning(folded)
    names = sorted({*used.bricks("train"), *used.bricks("val")})
    cells = {name: f"cell {position // 2}" for position, name in enumerate(names)}
    whole = replace(used, manifest={**used.manifest, "cells": cells})
    for view in brick_folds(whole, 4, seed=1):
        inside = {cells[name] for name in view.bricks("val")}
        assert len(inside) == 1
        assert len(set(view.bricks("val"))) == 2
        assert inside.isdisjoint(cells[name] for name in view.bricks("train"))
    with pytest.raises(TrainingSetError, match="have 4 cells of the sky, too few for 5 folds"):
        brick_folds(whole, 5, seed=1)


def test_folds_that_cannot_be_are_refused(folded, sealed, tmp_path, capsys):
    _, used = open_for_tuning(folded)
    with pytest.raises(TrainingSetError, match="have 8 bricks, too few for 9 folds; use fewer --folds"):
        folds_of(used, 9, 1)
    rows = {split: used.rows(split).copy() for split in ("train", "val")}
    for some in rows.values():  # a brick of one class
        some["brick"][some["label"] == 0] = b"0000p000"
    one_class = replace(used, read_rows=rows.__getitem__)
    with pytest.raises(TrainingSetError, match=r"fold \d of 4 has fewer than 2 examples of a class"):
        folds_of(one_class, 4, 1)
    assert tune.main(["--data", str(sealed), "--outdir", str(tmp_path / "tuned"), "--folds", "2"]) == 1
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("tune: error: ")
    assert "examples.fits" in line or "sources" in line


@pytest.mark.slow
def test_a_study_of_folds_never_reads_the_test_split(folded, tmp_path, capsys):
    (tmp_path / "space.toml").write_text(SMALL)
    outdir = tmp_path / "tuned"
    words = ["--data", folded, "--outdir", outdir, "--space", tmp_path / "space.toml", "--network", "lenet5"]
    words = [*map(str, words), "--threads", "1", "--pruner", "none", "--trials", "2", "--folds"]
    assert tune.main([*words, "2"]) == 0
    said = capsys.readouterr().out
    assert "Trials: 2 (2 complete)." in said
    assert ", mean of 2 folds." in said
    for row in table(outdir):
        place = place_of(outdir, int(row["trial"]))
        scores = [read_scores(place / f"fold_{fold}_seed_1") for fold in (1, 2)]
        assert sum(len(label) for label, _ in scores) == 90 + 48
        assert float(row["val_auc"]) == pytest.approx(np.mean([auc(*some) for some in scores]), abs=1e-6)
    assert tune.main([*words, "1", "--resume"]) == 1
    assert "holds another study" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupted_trial_has_the_value_of_one_left_alone(sealed, tmp_path):
    """The network's own checkpoints; the second training, too."""
    _, used = open_for_tuning(sealed)
    config = replace(config_of(0, {}), network=network_config(maps=(3, 4), dense=4, kernel_size=3), epochs=2)
    objective, calls = Objective(folds_of(used, 1, 1), (1, 2)), []

    def ended(training, aucs):
        calls.append((training, len(aucs)))
        if len(calls) in (1, 4):
            raise OutOfTimeError

    with leases.leased(tmp_path / "a", TIMING) as scratch:
        for _ in range(2):
            with pytest.raises(OutOfTimeError):
                objective(config, tmp_path / "a", scratch, ended)
        value = objective(config, tmp_path / "a", scratch, ended)
    with leases.leased(tmp_path / "b", TIMING) as scratch:
        assert objective(config, tmp_path / "b", scratch, lambda *_: None) == value
    assert calls == [(0, 1), (0, 2), (0, 2), (1, 1), (1, 2), (1, 2)]


def test_settings_that_cannot_be_trained_fail_and_do_not_end_the_study(sealed, tmp_path):
    _, used = open_for_tuning(sealed)
    for config, message in (
        (replace(config_of(0, {}), learning_rate=1e30, epochs=1), "diverged"),
        (replace(config_of(0, {}), network=network_config(strides=9)), "cannot be pooled"),
    ):
        with (
            leases.leased(tmp_path / message[:4], TIMING) as scratch,
            pytest.raises(TrialFailedError, match=message),
        ):
            Objective(folds_of(used, 1, 1), (1,))(config, tmp_path / message[:4], scratch, lambda *_: None)


def test_another_study_is_replaced_on_request_only(tmp_path):
    outdir = tmp_path / "tuned"

    def claim(data, *words):
        options = cli.parse(tune.build_parser(), ["--data", "d", "--outdir", str(outdir), *words])
        tune.claim(options, {"data": data})

    claim("a")
    worker(outdir, Formula()).work(1)
    (outdir / "notes").touch()
    with pytest.raises(ModelError, match="holds a study; give --resume"):
        claim("a")
    claim("a", "--resume")
    with pytest.raises(ModelError, match=r"another study .data was a, is b.*--overwrite"):
        claim("b", "--resume")
    assert (outdir / study.JOURNAL).is_file()
    claim("b", "--overwrite")
    left = {path.name for path in outdir.iterdir()}
    assert left == {files.STUDY, "notes", "space.toml"}


def test_the_log_counts_the_trials_of_each_study_once(sealed):
    whole, _ = open_for_tuning(sealed)
    for name, trials in (("x", 3), ("x", 7), ("y", 2), ("x", 5)):
        found = record_tuning(whole, name, trials)
    assert {name: found.tuned[name] for name in "xy"} == {"x": 7, "y": 2}
    assert found.looks == 0


def test_help_loads_neither_keras_nor_optuna():
    code = (
        "import sys; from obiwan.dplearn import tune\ntry: tune.main(['--help'])\nexcept SystemExit: pass\n"
    )
    code += "assert not {'keras', 'tensorflow', 'optuna'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert tuple(tune.PRUNERS) == study.PRUNERS
