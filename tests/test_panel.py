"""The panel of referees: what its members see, store, score and refuse, and how they are combined."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from evaluation_set import make_set
from obiwan.dplearn import __version__
from obiwan.dplearn.errors import ModelError, TrainingSetError
from obiwan.dplearn.evaluation import ensemble
from obiwan.dplearn.referees import jury as juries
from obiwan.dplearn.referees import measured as measurements
from obiwan.dplearn.referees import stored
from obiwan.dplearn.referees.features import Scaling
from obiwan.dplearn.referees.jury import Jury, check_members, judge, samples_of, train_member
from obiwan.dplearn.referees.measured import check_measurable, measure, measure_set
from obiwan.dplearn.referees.panel import PRIOR_WEIGHT, fit_panel, log_odds
from obiwan.dplearn.referees.plugins import load_plugin
from obiwan.dplearn.referees.protocol import Referee, Trainable
from obiwan.dplearn.referees.stored import KINDS, file_name, read_referee, write_referee
from obiwan.dplearn.retraining.ablations import ablated, run_quick_ablation
from obiwan.dplearn.running.executors import process_pool
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.views import sampled
from obiwan.dplearn.twosample.ranking import auc
from planted import Planted

COUNTS = {"train": 640, "val": 192, "test": 320}
DIFFERENT = Planted("size", 2.0)


@pytest.fixture(scope="module")
def stamp_set(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("panel") / "set", DIFFERENT, COUNTS)


@pytest.fixture(scope="module")
def samples(stamp_set):
    return samples_of(stamp_set, Jury(tuple(KINDS)))


@pytest.fixture(scope="module")
def members(samples):
    return {kind: train_member(kind, samples["train"], 1) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_member_finds_a_large_difference(kind, members, samples):
    scores = samples["test"].scored_by(members[kind])
    assert auc(samples["test"].labels, scores) > (0.75 if kind == "residual" else 0.9)
    assert members[kind].learnt
    assert isinstance(members[kind], Referee)
    assert isinstance(members[kind], Trainable)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_raw_stamps(kind, members, samples, stamp_set):
    rows, chosen = stamp_set.visible("test"), np.array([3, 200, 41])
    alone = members[kind].predict(stamp_set.stamps("test", chosen), rows[chosen])
    assert alone.dtype == np.float32
    assert alone == pytest.approx(samples["test"].scored_by(members[kind])[chosen], abs=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_is_what_its_file_says(kind, members, samples, tmp_path):
    path = tmp_path / file_name(kind)
    write_referee(path, members[kind], {"seed": 1})
    again, header = read_referee(path)
    assert again.checksum == header["checksum"] == members[kind].checksum
    assert (again.learnt, again.spec, header["settings"]) == (
        True,
        samples["test"].stamp_set.spec,
        {"seed": 1},
    )
    assert samples["test"].scored_by(again) == pytest.approx(
        samples["test"].scored_by(members[kind]), abs=1e-6
    )
    assert replace(again, prior=("psfsize_g",)).checksum != again.checksum
    own = header["versions"]
    assert (own["obiwan.dplearn"], own["numpy"]) == (__version__, np.__version__)
    assert {"lightgbm", "keras", "scikit-learn"} < set(own)
    with np.load(path, allow_pickle=False) as file:  # nothing pickled
        assert all(file[name].dtype != object for name in file.files)


def test_a_logistic_regression_has_learnt_where_there_is_nothing_to_learn(samples):
    rng = np.random.default_rng(3)
    many = rng.integers(0, len(samples["train"].measured), 50_000)
    measured = samples["train"].measured.without_residuals().take(many)
    assert KINDS["scores"].train(measured, rng.integers(0, 2, len(many)), 1).learnt


def test_a_referee_refuses_stamps_of_another_shape(members, stamp_set):
    rows, stamps = stamp_set.visible("test")[:2], np.ones((2, 48, 48, 6), np.float32)
    with pytest.raises(ModelError, match=r"referee scores: it was trained on stamps of shape .*64.*48"):
        members["scores"].predict(stamps, rows)


def test_equal_trainings_give_equal_referees(members, samples):
    for kind in ("scores", "trees"):
        assert train_member(kind, samples["train"], 1).checksum == members[kind].checksum


@pytest.mark.parametrize(
    ("changed", "value"),
    [("METHOD", 99), ("__version__", "99"), ("FORMAT_VERSION", 99), ("header", None), (None, None)],
)
def test_a_kept_referee_of_another_version_is_trained_again(
    changed, value, samples, tmp_path, monkeypatch, caplog
):
    jury = Jury(("scores",))
    judge(jury, samples, outdir=tmp_path)
    if changed == "header":  # of the first format
        with np.load(path := tmp_path / file_name("scores")) as file:
            content = dict(file)
        header = json.loads(content["header"].tobytes())
        first = {name: header[name] for name in ("format", "kind", "checksum", "learnt", "spec", "settings")}
        first |= {"format_version": 1, "version": __version__}
        np.savez(path, **{**content, "header": np.frombuffer(json.dumps(first).encode(), np.uint8)})
    elif changed:
        monkeypatch.setattr(stored, changed, value)
    caplog.clear()
    with caplog.at_level("INFO"):
        judge(jury, samples, outdir=tmp_path)
    assert ("training referee scores" in caplog.text) == (changed is not None)


@pytest.mark.parametrize("damage", ["cut", "changed", "strange", "newer"])
def test_a_damaged_file_is_refused_in_one_line(damage, members, tmp_path):
    path = tmp_path / file_name("scores")
    referee = members["scores"]
    write_referee(path, replace(referee, intercept=referee.intercept + (damage == "changed")), {})
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "changed":
        with np.load(path) as file:
            content = dict(file)
        np.savez(path, **{**content, "intercept": np.asarray(referee.intercept)})
    elif damage == "strange":
        path.write_text("no such thing")
    else:
        with np.load(path) as file:
            content = dict(file)
        header = json.loads(content["header"].tobytes()) | {"format_version": 99}
        content["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        np.savez(path, **content)
    with pytest.raises(ModelError, match=r"referee_scores\.npz: .*start evaluate again") as caught:
        read_referee(path)
    assert "\n" not in str(caught.value)


def test_workers_measure_what_this_process_does(stamp_set):
    """Also what is edited or chosen as it is read."""
    with process_pool(2) as executor:
        for name in ("ivar only", "A/A fake"):
            part = ablated(name, stamp_set, 1)
            alone, shared = (measure_set(part, "val", one) for one in (None, executor))
            assert len(alone) == len(part.rows("val"))
            np.testing.assert_allclose(shared.fits.values, alone.fits.values, rtol=1e-4, atol=1e-5)


def test_measurements_are_kept_and_damaged_ones_made_again(stamp_set, tmp_path, monkeypatch):
    part = stamp_set.only(stamp_set.split("val")[:1])
    first = measure_set(part, "val", store=tmp_path)
    counted = []
    monkeypatch.setattr(
        measurements, "measure", lambda *given, **kind: counted.append(1) or measure(*given, **kind)
    )
    again = measure_set(part, "val", store=tmp_path)
    assert not counted
    assert (again.fits.values == first.fits.values).all()
    assert measure_set(part, "val", store=tmp_path, residuals=True).residuals is not None
    assert len(counted) == 1
    (tmp_path / "val.npz").write_bytes((tmp_path / "val.npz").read_bytes()[:5000])
    assert (measure_set(part, "val", store=tmp_path).fits.values == first.fits.values).all()
    assert len(counted) == 2
    other = stamp_set.only(stamp_set.split("val")[1:])
    assert len(measure_set(other, "val", store=tmp_path)) == sum(shard.rows for shard in other.shards)


def test_labels_do_not_reach_a_measurement(stamp_set):
    rows = stamp_set.rows("test")
    told = rows.copy()
    told["label"], told["run"], told["truth_ra"] = 1 - rows["label"], b"other", 5.0
    chosen = np.arange(8)
    stamps = stamp_set.stamps("test", chosen)
    seen = stamp_set.visible("test")
    given = [measure(stamps, one[chosen], stamp_set.spec) for one in (rows, told, seen)]
    for other in given[1:]:
        assert (other.fits.values == given[0].fits.values).all()
        assert other.light.tobytes() == given[0].light.tobytes()


def test_a_panel_believes_who_is_worth_it():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 4000)
    good, other = (labels * 1.0 + rng.standard_normal(4000) for _ in range(2))
    noise = rng.standard_normal(4000)
    singles = 1 / (1 + np.exp(-np.stack([good, other, noise])))
    panel = fit_panel(("good", "other", "noise"), singles[:, :2000], labels[:2000])
    held, scores = labels[2000:], panel.score(singles[:, 2000:])
    both = auc(held, singles[:2, 2000:].sum(0))
    assert auc(held, scores) == pytest.approx(both, abs=0.006)
    assert auc(held, scores) > auc(held, singles[0, 2000:]) + 0.04
    assert abs(panel.weights[2]) < 0.1 < min(panel.weights[:2])


def believed(scale):
    """AUC of a panel of a good and a useless member, combined on 60 stamps; the median of 20 draws."""
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = np.arange(4060) % 2
        logits = rng.standard_normal((2, 4060)) * [[1.0], [scale]]
        logits[0] += labels
        singles = expit(logits * 0.1)
        panel = fit_panel(("good", "noise"), singles[:, :60], labels[:60])
        found.append(auc(labels[60:], panel.score(singles[:, 60:])))
    return np.median(found)


def test_few_validation_stamps_do_not_turn_a_panel_round():
    # equal weights have d' = 1 / root 2, an AUC of 0.69; 60 stamps without a prior often choose worse ones
    assert believed(1.0) > 0.685


def test_it_does_not_matter_how_far_a_member_shrinks_its_odds():
    assert believed(10.0) == pytest.approx(believed(1.0), abs=1e-4)


def test_weights_follow_the_prior_where_nothing_is_known_and_the_stamps_where_much_is():
    odds = np.array([[1.0, -1.0] * 2, [3.0, -3.0] * 2])
    nothing = fit_panel(("a", "b"), expit(odds), np.array([0, 0, 1, 1]))
    assert nothing.weights[0] == pytest.approx(3 * nothing.weights[1], rel=1e-6)
    assert nothing.weights[0] == pytest.approx(PRIOR_WEIGHT / 2, rel=0.1)
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 200_000)
    line = 1.5 * rng.standard_normal(200_000) + labels  # the log odds are (x - 1/2) / 1.5^2
    much = fit_panel(("a",), expit(line)[None], labels)
    assert much.weights[0] == pytest.approx(1 / 1.5**2, rel=0.02)
    assert much.intercept == pytest.approx(-0.5 / 1.5**2, abs=0.02)


def test_a_member_that_says_the_same_of_all_has_no_weight():
    labels = np.arange(100) % 2
    given = np.stack([expit(labels + np.random.default_rng(1).standard_normal(100)), np.full(100, 0.5)])
    assert fit_panel(("a", "same"), given, labels).weights[1] == 0


def test_certainty_has_a_limit():
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()


def test_judgement_names_members_and_what_they_weigh(samples, stamp_set, tmp_path):
    rng = np.random.default_rng(4)
    networks = {split: rng.random(sum(stamp_set.count(split))) for split in ("val", "test")}
    jury = Jury(("network", "scores", "trees"))
    found = judge(jury, samples, networks, ["0123"], tmp_path, learnt=False)
    assert [member.learnt for member in found.members] == [False, True, True]
    assert [member.name for member in found.members] == ["network", "scores", "trees"]
    assert found.members[0].checksum == "0123"
    assert found.singles.shape == (3, COUNTS["test"])
    assert (found.singles[0] == networks["test"]).all()
    labels = samples["test"].labels
    assert auc(labels, found.scores) > 0.9
    assert {path.name for path in tmp_path.iterdir()} == {"referee_scores.npz", "referee_trees.npz"}
    assert judge(jury, samples, networks, ["0123"], tmp_path).checksum == found.checksum
    assert judge(Jury(("scores",)), samples, None, (), tmp_path).checksum != found.checksum


def test_a_panel_is_fitted_on_the_validation_split(samples):
    rng = np.random.default_rng(4)
    networks = {split: rng.random(sum(samples[split].stamp_set.count(split))) for split in ("val", "test")}
    found = judge(Jury(("network", "scores")), samples, networks, ["0123"])
    expected = fit_panel(("network", "scores"), found.val_singles, samples["val"].labels)
    assert found.panel == expected
    assert [member.weight for member in found.members] == list(expected.weights)


def test_scores_of_networks_are_those_of_the_sampled_examples(stamp_set):
    rng = np.random.default_rng(5)
    networks = {split: rng.random(sum(stamp_set.count(split))) for split in ("val", "test")}
    jury = Jury(("network", "scores"), examples=64)
    few = samples_of(stamp_set, jury)
    assert few["test"].positions[0] > 0  # not the first shard
    found = judge(jury, few, networks, ["0123"])
    assert (found.singles[0] == networks["test"][found.positions]).all()
    assert (found.val_singles[0] == networks["val"][found.val_positions]).all()


def test_the_score_of_a_panel_is_tested_and_not_the_mean(stamp_set, samples, tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble, "record_evaluation", lambda *_: None)
    rng = np.random.default_rng(6)
    networks = {split: rng.random(sum(stamp_set.count(split))) for split in ("val", "test")}
    judgement = judge(Jury(("network", "scores")), samples, networks, ["0123"], tmp_path, learnt=False)
    scored = ensemble.scored_by_panel(judgement, stamp_set)
    assert (scored.scores == judgement.panel.score(judgement.singles)).all()
    assert np.abs(scored.scores - judgement.singles.mean(0)).max() > 0.1
    assert (scored.val_scores == judgement.panel.score(judgement.val_singles)).all()
    assert scored.learnt  # one member is enough
    assert replace(scored, models=scored.models[:1]).learnt is False
    assert scored.checksum == judgement.checksum


def test_trained_members_are_found_again(samples, tmp_path, monkeypatch, caplog):
    judge(Jury(("scores",)), samples, outdir=tmp_path)
    monkeypatch.setattr(juries, "train_member", None)  # not called
    with caplog.at_level(logging.INFO):
        judge(Jury(("scores",)), samples, outdir=tmp_path)
    assert "from " in caplog.text
    with pytest.raises(TypeError):  # of another seed it must be trained
        judge(Jury(("scores",), seed=2), samples, outdir=tmp_path)


def test_a_sample_is_whole_shards(stamp_set):
    part, positions = sampled(stamp_set, "train", 200, 1)
    assert len(part.shards) == 3  # of 64 each
    assert len(positions) == sum(part.count("train")) == 192
    assert stamp_set.rows("train")[positions].tobytes() == part.rows("train").tobytes()
    assert len(sampled(stamp_set, "train", 1, 1)[1]) == 64
    everything, all_positions = sampled(stamp_set, "train", 10**6, 1)
    assert everything.shards == stamp_set.split("train")
    assert (all_positions == np.arange(COUNTS["train"])).all()
    assert any((sampled(stamp_set, "train", 200, seed)[1] != positions).any() for seed in (2, 3))


class Flux:
    """A referee of a user's, in ten lines."""

    def fit(self, stamps, rows, labels):
        assert not {"label", "run", "truth_ra"} & set(rows.dtype.names)
        flux = stamps[..., 1].sum((1, 2))
        self.middle, self.sign = np.median(flux), np.sign(np.corrcoef(flux, labels)[0, 1])

    def predict(self, stamps, rows):  # noqa: ARG002
        return 1 / (1 + np.exp(-self.sign * (stamps[..., 1].sum((1, 2)) - self.middle)))


def broken():
    """A function of a user's that fails."""
    msg = "no weights here"
    raise RuntimeError(msg)


class TooSure(Flux):
    """A referee whose scores are no probabilities."""

    def predict(self, stamps, rows):
        return 3 * super().predict(stamps, rows)


class Unlucky(Flux):
    def fit(self, *_given):
        raise RuntimeError("out of luck")


class Curious(Flux):
    def predict(self, _stamps, rows):
        return rows["label"]


def test_a_referee_of_the_user(samples, monkeypatch):
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])
    found = judge(Jury(("mine:Flux",)), samples)
    assert found.members[0].name == "mine:Flux"
    assert 0.3 < auc(samples["test"].labels, found.scores) < 0.7  # sizes differ, fluxes do not
    for name, said in (
        ("mine:broken", "no weights here"),
        ("mine:nothing", "has no attribute"),
        ("nowhere:x", "No module"),
        ("mine:object", "no referee|cannot be made"),
    ):
        with pytest.raises(ModelError, match=f"--referees {name}.*({said})"):
            load_plugin(name)
    for name, said in (
        ("TooSure", "predict must give .* from 0 to 1 .* it gave [0-9]+ that are not"),
        ("Unlucky", r"fit failed \(RuntimeError: out of luck\)"),
        ("Curious", r"predict failed \(ValueError: no field of name label\)"),
    ):
        with pytest.raises(ModelError, match=f"--referees mine:{name}: {said}"):
            judge(Jury((f"mine:{name}",)), samples)


def test_which_members_there_are():
    check_members(["network", "trees", "mine:Flux"])
    for names in (["forest"], ["trees", "trees"], []):
        with pytest.raises(ValueError, match="referee"):
            check_members(names)


def test_stamps_that_are_too_small():
    spec = StampSpec(size=12)
    with pytest.raises(TrainingSetError, match="12 px"):
        check_measurable(spec)


def test_numbers_of_any_scale_are_scaled():
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((500, 5)) * [1, 1e6, 1e-6, 0, 1]
    numbers[::7, 0], numbers[3, 1], numbers[:, 4] = np.nan, np.inf, np.nan
    scaled = Scaling.of(numbers).apply(numbers)
    assert scaled.shape == (500, 3)  # neither the constant nor the unknown one
    assert np.isfinite(scaled).all()
    assert scaled.std(0) == pytest.approx(1)
    far = Scaling.of(numbers).apply(numbers * 1e9)
    assert np.abs(far).max() < 10


def test_ablations_of_the_quick_members(stamp_set):
    jury = Jury(("scores", "trees"))
    found = {
        name: run_quick_ablation(name, stamp_set, jury)
        for name in ("outskirts masked", "ivar only", "A/A real")
    }
    assert found["outskirts masked"].auc.low > 0.8
    assert found["outskirts masked"].learnt
    assert (found["outskirts masked"].train, found["outskirts masked"].test) == (
        COUNTS["train"],
        COUNTS["test"],
    )
    assert found["ivar only"].auc.value == pytest.approx(0.5, abs=0.1)  # 3 standard errors
    null = found["A/A real"]
    assert (null.train, null.test) == (stamp_set.count("train")[0], stamp_set.count("test")[0])
    assert null.auc.value == pytest.approx(0.5, abs=0.15)  # 3 standard errors
    assert null.by == "scores and trees"


def test_ablations_train_no_member_that_the_panel_has_not(stamp_set, monkeypatch):
    monkeypatch.delattr(KINDS["trees"], "train")
    assert run_quick_ablation("outskirts masked", stamp_set, Jury(("scores", "residual"))).auc.low > 0.8
    assert Jury(("network", "trees", "scores")).quick == ("scores", "trees")
    assert Jury(("trees", "residual")).quick == ("trees",)
    assert Jury(("residual",)).quick == ("scores",)


@pytest.mark.parametrize(
    "spec",
    [StampSpec(("r",)), StampSpec(("g", "r", "i", "z"), size=48), StampSpec(("g", "z"), ("image",), size=32)],
    ids=str,
)
def test_stamps_of_any_kind(spec, tmp_path):
    counts = {"train": 256, "val": 128, "test": 128}
    stamps = make_set(tmp_path / "set", DIFFERENT, counts, spec=spec)
    found = judge(Jury(tuple(KINDS)), samples_of(stamps, Jury(tuple(KINDS))))
    assert auc(stamps.rows("test")["label"], found.scores) > 0.75
