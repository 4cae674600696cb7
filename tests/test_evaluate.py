"""The road to the answer from the command line: what it says, keeps, counts and refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fitsio
import numpy as np
import pytest

from evaluation_set import make_set
from obiwan.dplearn import cnn, evaluate
from obiwan.dplearn.errors import ModelError, TrainingSetError
from obiwan.dplearn.evaluation import ensemble, measuring, study
from obiwan.dplearn.referees import scoring
from obiwan.dplearn.referees.jury import Jury
from obiwan.dplearn.retraining.sensitivity import check_planted
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.differences import Difference
from obiwan.dplearn.trainingset import manifest as manifests
from obiwan.dplearn.trainingset import stampset
from planted import Planted
from tables import read_table, write_shard

pytestmark = pytest.mark.usefixtures("environment_as_it_was")

NETWORK = ["--maps", "3", "4", "--kernel-size", "3", "--dense", "6", "--quiet", "--learning-rate", "3e-3"]
COUNTS = {"train": 192, "val": 64, "test": 256}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training set whose fakes are larger, and two networks trained on it."""
    place = tmp_path_factory.mktemp("trained")
    make_set(place / "set", Planted("size", 3.0), COUNTS)
    for seed in (1, 2):
        words = ["--data", str(place / "set"), "--outdir", str(place / f"cnn{seed}"), "--seed", str(seed)]
        assert cnn.main([*words, *NETWORK, "--epochs", "3"]) == 0
    return place


@pytest.fixture
def place(trained, tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(trained, tmp_path / "trained"))


def run(place, *words, models=("cnn1",), outdir="report", referees=("network",)):
    files = [str(place / name / "best.keras") for name in models]
    given = ["--data", str(place / "set"), "--outdir", str(place / outdir), "--referees", *referees]
    return evaluate.main([*given, *(["--model", *files] if files else []), *words])


def numbers(place):
    return json.loads((place / "report" / "metrics.json").read_text())


def errors(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if "error" in line]


@pytest.fixture(scope="module")
def evaluated(trained, capsys_module):
    """One whole run with both networks, and what it printed."""
    place = Path(shutil.copytree(trained, trained.parent / "evaluated"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "MOSAIC_ROWS", 2)
        patch.setattr(study, "OCCLUSION_EXAMPLES", 40)
        assert run(place, models=("cnn1", "cnn2")) == 0
    return place, capsys_module.readouterr().out


@pytest.fixture(scope="module")
def capsys_module(request):
    """Like capsys, for a module."""
    from _pytest.capture import CaptureFixture, SysCapture

    manager = request.config.pluginmanager.getplugin("capturemanager")
    with manager.global_and_fixture_disabled():
        fixture = CaptureFixture(SysCapture, request, _ispytest=True)
        fixture._start()
        yield fixture
        fixture.close()


def test_the_verdict_is_the_first_thing_said(evaluated):
    place, said = evaluated
    lines = said.splitlines()
    assert lines[0].startswith("Injected galaxies differ from real ones: half-light radius 2")
    assert any(line.startswith("  AUC 0.") for line in lines)
    assert lines[-1] == f"Report: {place / 'report' / 'report.html'}"
    assert "mean of 2 networks" in said
    assert "All controls:" in said


def test_what_a_run_leaves(evaluated):
    place, _ = evaluated
    names = {path.name for path in (place / "report").iterdir()}
    assert names == {"report.html", "metrics.json", "scores.fits", "figures"}
    metrics = json.loads((place / "report" / "metrics.json").read_text())
    assert metrics["verdict"]["kind"] == "distinguishable"
    assert metrics["answer"]["auc"]["low"] > 0.5
    assert metrics["occlusion"]["counts"] == [20, 20]
    assert metrics["looks"] == 2
    assert [model["learnt"] for model in metrics["models"]] == [True, True]
    assert [model["name"] for model in metrics["models"]] == ["cnn1/best.keras", "cnn2/best.keras"]
    assert metrics["verdict"]["effect"]["pairs"] == pytest.approx(100 * metrics["answer"]["auc"]["value"])
    assert 0.5 < metrics["verdict"]["detectable"] < 1
    assert metrics["control_examples"] == sum(COUNTS.values())
    table = fitsio.read(str(place / "report" / "scores.fits"))
    parts = [fitsio.read(str(place / name / "scores_test.fits"))["score"] for name in ("cnn1", "cnn2")]
    assert table["score"] == pytest.approx(np.mean(parts, axis=0), abs=1e-6)
    page = (place / "report" / "report.html").read_text()
    assert str(place) not in page  # nothing about the machine
    assert 'id="retraining"' not in page
    assert "--ablations" in page


def test_scores_beside_the_model_are_used_and_a_look_is_counted_once(evaluated):
    place, _ = evaluated
    assert len((place / "set" / "test_looks.jsonl").read_text().splitlines()) == 2 + 1  # and an evaluation
    assert not list(place.glob("cnn*/scores_test_*.fits"))


def score(referees, stamp_set):
    return ensemble.score_all(referees, stamp_set)


def members(place, *names):
    training_set = stampset.open_training_set(place / "set")
    return ensemble.load_networks([place / name for name in names], training_set), training_set


def test_scores_are_made_where_they_are_not_and_kept_apart(place):
    (place / "cnn1" / "scores_test.fits").unlink()
    (place / "set" / "test_looks.jsonl").unlink()
    shutil.copy(place / "cnn2" / "best.keras", place / "cnn1" / "other.keras")
    both, training_set = members(place, "cnn1/best.keras", "cnn1/other.keras")
    first = score(both[:1], training_set)
    assert (place / "cnn1" / "scores_test.fits").is_file()
    assert study.ledger(training_set, [both[0].checksum], 0.02, ()).looks == 1
    second = score(both, training_set)
    assert (place / "cnn1" / "scores_test_other.fits").is_file()
    assert study.ledger(training_set, [one.checksum for one in both], 0.02, ()).looks == 2
    assert np.array_equal(second.singles[0], first.singles[0])
    other = fitsio.read(str(place / "cnn2" / "scores_test.fits"))["score"]
    assert second.singles[1] == pytest.approx(other, abs=1e-6)
    assert second.scores == pytest.approx(second.singles.mean(0))


def test_scores_stand_beside_their_rows(place):
    """Rows and scores agree whatever the order of the scores' file."""
    training_set = stampset.open_training_set(place / "set")
    ((member,), _) = members(place, "cnn1/best.keras")
    scores = scoring.read_scores(place / "cnn1" / "scores_test.fits", member.checksum, training_set.checksum)
    order = np.random.default_rng(0).permutation(len(scores.row))
    mixed = scoring.Scores(
        "test",
        *(getattr(scores, name)[order] for name in ("shard", "row", "label", "score")),
        scores.model,
        scores.data,
    )
    scoring.write_scores(place / "cnn1" / "scores_test.fits", mixed)
    table = read_table(training_set.directory)
    found = score((member,), training_set)
    assert found.singles[0] == pytest.approx(scores.score)
    rows = table[table["split"] == b"test"]
    assert np.array_equal(found.labels, rows["label"])
    assert found.brick_names[found.bricks].tolist() == [b.decode() for b in rows["brick"]]


def test_whether_a_network_without_a_record_learnt(place, tmp_path):
    import keras

    from obiwan.dplearn.training.model import load_network
    from obiwan.dplearn.training.trainer import save_model

    training_set = stampset.open_training_set(place / "set")
    recorded = json.loads((place / "cnn1" / "result.json").read_text())["learnt"]
    shutil.copy(place / "cnn1" / "best.keras", tmp_path / "alone.keras")
    (alone,) = ensemble.load_networks([tmp_path / "alone.keras"], training_set)
    assert alone.learnt is recorded is True
    assert ensemble.info_of(alone).trained_on == ""
    model = load_network(tmp_path / "alone.keras")
    model.layers[-1].set_weights([np.zeros((6, 2)), np.zeros(2)])
    save_model(model, tmp_path / "nothing.keras")
    keras.utils.clear_session()
    (nothing,) = ensemble.load_networks([tmp_path / "nothing.keras"], training_set)
    assert nothing.learnt is False


def test_every_evaluation_is_counted_and_the_same_one_once(place):
    both, training_set = members(place, "cnn1/best.keras", "cnn2/best.keras")
    names = ["ivar only", "A/A real"]
    for margin, parts in ((0.02, ()), (0.3, names), (0.02, names)):
        found = study.ledger(training_set, [one.checksum for one in both], margin, parts)
        assert found is not None
    assert [opening.margin for opening in found.openings] == [0.02, 0.3]
    assert set(found.openings[0].models) == {member.checksum for member in both}
    assert found.retrained == (f"ivar only {both[0].checksum}",)  # A/A labels are not real and fake
    assert len(found.networks) == 2
    assert found.looks == 3


def test_a_broken_network_leaves_no_scores(place):
    """What is refused is neither counted nor kept beside the model."""
    broken(place / "cnn1" / "best.keras")
    (place / "cnn1" / "scores_test.fits").unlink()
    before = (place / "set" / "test_looks.jsonl").read_text()
    found, training_set = members(place, "cnn1/best.keras")
    with pytest.raises(ModelError, match="not finite"):
        score(found, training_set)
    assert not list((place / "cnn1").glob("scores_*"))
    assert (place / "set" / "test_looks.jsonl").read_text() == before


def test_scores_that_were_seen_are_counted_even_if_they_cannot_be_kept(place, monkeypatch):
    (place / "cnn1" / "scores_test.fits").unlink()
    (place / "set" / "test_looks.jsonl").unlink()

    def full(*_):
        assert (place / "set" / "test_looks.jsonl").is_file()  # counted before anything is written
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scoring, "write_scores", full)
    found, training_set = members(place, "cnn1/best.keras")
    score(found, training_set)
    assert len((place / "set" / "test_looks.jsonl").read_text().splitlines()) == 1


def constant(path):
    """A network that gives every stamp the same score, in the place of another."""
    from obiwan.dplearn.training.model import load_network
    from obiwan.dplearn.training.trainer import save_model

    model = load_network(path)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * 0, bias])
    save_model(model, path)


def broken(path):
    """A network that gives no numbers."""
    from obiwan.dplearn.training.model import load_network
    from obiwan.dplearn.training.trainer import save_model

    model = load_network(path)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel * np.nan, bias])
    save_model(model, path)


def other_shape(path, shape, classes=2):
    """A network for other images, or with other answers."""
    import keras

    inputs = keras.Input(shape)
    keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Flatten()(inputs))).save(path)


def without(place, split):
    """A training set without a split."""
    path = place / "set" / manifests.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["shards"] = [entry for entry in manifest["shards"] if entry["split"] != split]
    manifest["manifest_crc32"] = manifests.manifest_checksum(manifest)
    path.write_text(json.dumps(manifest))


def cut(path, share):
    """A file that was not written to its end."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])


def relabel(place, split, label):
    """All examples of a split are of one class."""
    training_set = stampset.open_training_set(place / "set")
    path = place / "set" / manifests.MANIFEST
    manifest = json.loads(path.read_text())
    for entry in manifest["shards"]:
        if entry["split"] == split:
            x, _ = training_set.read(
                next(s for s in training_set.split(split) if s.number == entry["number"])
            )
            (place / "set" / manifests.WORK).mkdir(exist_ok=True)
            y = np.full(len(x), label, np.uint8)
            entry.update(vars(write_shard(place / "set", split, entry["number"], x.copy(), y)))
    manifest["manifest_crc32"] = manifests.manifest_checksum(manifest)
    path.write_text(json.dumps(manifest))


REFUSED = {
    "no such file; train a model": lambda p: (p / "cnn1" / "best.keras").unlink(),
    "not a readable model": lambda p: (p / "cnn1" / "best.keras").write_text("what"),
    "best.keras: not a readable model (": lambda p: cut(p / "cnn1" / "best.keras", 0.6),
    "takes (None, 64, 64, 4)": lambda p: other_shape(p / "cnn1" / "best.keras", (64, 64, 4)),
    "takes (None, 32, 32, 6)": lambda p: other_shape(p / "cnn1" / "best.keras", (32, 32, 6)),
    "gives (None, 3)": lambda p: other_shape(p / "cnn1" / "best.keras", (64, 64, 6), classes=3),
    "256 of 256 scores are not finite": lambda p: broken(p / "cnn1" / "best.keras"),
    "the test split has 0 real and 256 fake": lambda p: relabel(p, "test", 1),
    "the test split has no examples": lambda p: without(p, "test"),
    "the val split has no examples": lambda p: without(p, "val"),
    "sources.fits: cannot read it": lambda p: (p / "set" / "sources.fits").unlink(),
    "xtest_1.npy: checksum differs": lambda p: (p / "set" / "xtest_1.npy").write_bytes(
        (p / "set" / "xtest_1.npy").read_bytes()[:-4] + b"nope"
    ),
    "holds no training set": lambda p: (p / "set" / "manifest.json").unlink(),
    "holds thesis.tex, which is no part of a report": lambda p: (
        (p / "report").mkdir(),
        (p / "report" / "thesis.tex").write_text("precious"),
    ),
    "report: cannot write there": lambda p: (p / "report").write_text("a file"),
    "not a readable table of scores": lambda p: (p / "cnn1" / "scores_test.fits").write_text("what"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_wrong_is_one_clear_line(place, capsys, message):
    REFUSED[message](place)
    assert run(place) == 1
    lines = errors(capsys)
    assert len(lines) == 1, lines
    assert message in lines[0]
    assert str(place) in lines[0]
    assert "Traceback" not in lines[0]
    if (place / "report").is_dir():  # as it was: nothing half-written
        assert [path.name for path in (place / "report").iterdir()] == ["thesis.tex"]


def test_one_network_twice_is_refused(place, capsys):
    shutil.copytree(place / "cnn1", place / "copy")
    (place / "copy" / "run.json").unlink()  # which would tell before
    assert run(place, models=("cnn1", "copy")) == 1
    (line,) = errors(capsys)
    assert "the same network as" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--margin", "0"], "--margin must be between 0.001 and 0.5"),
        (["--margin", "0.7"], "--margin must be between 0.001 and 0.5"),
        (["--margin", "1e-300"], "to show less would take millions"),
        (["--margin", "small"], "could not convert string to float: 'small'"),
        (["--margin", "0.02", "0.03"], "give one number, or differences KIND=AMOUNT"),
        (["--margin", "0.02", "psf=1.03"], "give one number, or differences KIND=AMOUNT"),
        (["--margin", "offset=0.1"], "offset cannot be planted; kinds are band_offset, psf"),
        (["--margin", "psf=wide"], "'psf=wide' is not KIND=AMPLITUDE"),
        (["--margin", "psf=1.03"], "--margin psf=AMOUNT needs a panel"),
        (["--margin", "nan"], "--margin must be between 0.001 and 0.5"),
        (["--seed", "-1"], "--seed: must be at least 0"),
        (["--sensitivity", "offset"], "kinds are band_offset, psf"),
        (["--sensitivity", "smell=2"], "no difference is called 'smell'"),
    ],
)
def test_usage_errors(trained, capsys, words, message):
    with pytest.raises(SystemExit) as caught:
        run(trained, *words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_an_ablation_that_the_stamps_have_not_is_refused(trained, capsys):
    assert run(trained, "--ablations", "band i") == 1
    (line,) = errors(capsys)
    assert "'band i'" in line
    assert "band z" in line  # what there is


def test_one_band_has_no_colour_to_plant():
    colour, flux = Difference("colour", 0.1), Difference("flux", 1.1)
    check_planted([colour, flux], StampSpec(("g", "r")))
    check_planted([flux], StampSpec(("r",)))
    with pytest.raises(TrainingSetError, match="one band, r"):
        check_planted([flux, colour], StampSpec(("r",)))


@pytest.mark.parametrize("missing", ["data", "outdir"])
def test_what_must_be_given(capsys, missing):
    words = {"data": ["--data", "d"], "model": ["--model", "m"], "outdir": ["--outdir", "o"]}
    del words[missing]
    with pytest.raises(SystemExit):
        evaluate.main([word for part in words.values() for word in part])
    assert f"required: --{missing}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--referees", "network"), "needs --model"),
        (("--referees", "scores", "--model", "m.keras"), "name network"),
        (("--referees", "scores", "scores"), "each referee once"),
        (("--referees", "forest"), "no referee 'forest'"),
    ],
)
def test_which_referees_there_are(words, said, capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["--data", "d", "--outdir", "o", *words])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "independent"), [("cnn1", False), ("copy", False), ("cnn2", True), ("unknown", True)]
)
def test_two_networks_of_one_run_are_no_ensemble(place, independent, tmp_path, capsys):
    runs = {"cnn1": '{"feed": {"seed": 1}}', "copy": '{"feed":{"seed":1}}', "cnn2": '{"feed": {"seed": 2}}'}
    for run_name in (*runs, "unknown"):
        (tmp_path / run_name).mkdir()
        (tmp_path / run_name / "run.json").write_text(runs.get(run_name, ""))
    models = [tmp_path / "cnn1" / "best.keras", tmp_path / place / "last.keras"]
    parser = evaluate.build_parser()
    options = parser.parse_args(["--data", "d", "--outdir", "o", "--model", *map(str, models)])
    if independent:
        evaluate.check_options(parser, options)
        return
    with pytest.raises(SystemExit) as caught:
        evaluate.check_options(parser, options)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "best.keras" in said
    assert "last.keras" in said


def test_copies_of_one_run_are_told_by_their_weights(place, tmp_path):
    """Without a record beside them, after the training of a run went on."""
    from obiwan.dplearn.training.model import load_network
    from obiwan.dplearn.training.trainer import save_model

    model, rng = load_network(place / "cnn1" / "best.keras"), np.random.default_rng(1)
    for weight in model.trainable_weights:
        weight.assign(np.asarray(weight) + rng.normal(0, 0.3 * np.std(np.asarray(weight)), weight.shape))
    save_model(model, tmp_path / "later.keras")
    shutil.copy(place / "cnn1" / "best.keras", tmp_path / "best.keras")
    training_set = stampset.open_training_set(place / "set")
    with pytest.raises(ModelError, match=r"later.keras: of the same run as .*best.keras"):
        ensemble.load_networks([tmp_path / "best.keras", tmp_path / "later.keras"], training_set)
    both = ensemble.load_networks([tmp_path / "later.keras", place / "cnn2" / "best.keras"], training_set)
    assert len(both) == 2
    assert abs(np.corrcoef(both[0].kernels, both[1].kernels)[0, 1]) < 0.2


def test_help_loads_no_keras(run_python):
    code = "import sys; from obiwan.dplearn import evaluate\n"
    code += "try: evaluate.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'keras', 'tensorflow', 'matplotlib', 'sklearn', 'galsim'} & set(sys.modules)"
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "--sensitivity" in done.stdout


@pytest.fixture
def quick(monkeypatch):
    """Few figures and few occluded stamps: a run of seconds."""
    from obiwan.dplearn.report import figures

    whole = figures.pictures_of
    monkeypatch.setattr(evaluate, "galleries_of", lambda *_: [])
    monkeypatch.setattr(evaluate, "mosaics_of", lambda *_: [])
    monkeypatch.setattr(
        figures,
        "pictures_of",
        lambda *words: (p for p in whole(*words) if p.name in ("scores", "auc_by_sn")),
    )
    monkeypatch.setattr(study, "OCCLUSION_EXAMPLES", 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        StampSpec(("g", "r", "i", "z"), size=48),
        StampSpec(("r",), size=96),
        StampSpec(("g", "r"), ("image",), size=32),
    ],
    ids=["griz 48", "r 96", "gr images 32"],
)
@pytest.mark.usefixtures("quick")
def test_stamps_of_any_bands_planes_and_size(tmp_path, spec):
    """From the shards to the report, by way of a network that is trained on them."""
    make_set(tmp_path / "set", Planted("size", 3.0), {"train": 64, "val": 32, "test": 64}, spec=spec)
    words = ["--data", str(tmp_path / "set"), "--outdir", str(tmp_path / "cnn1")]
    assert cnn.main([*words, *NETWORK, "--pool-size", "2", "--epochs", "1"]) == 0
    assert run(tmp_path) == 0
    found = numbers(tmp_path)
    assert found["spec"]["bands"] == list(spec.bands)
    assert {one["band"] for one in found["controls"]} == {"", *spec.bands}
    table = fitsio.read(str(tmp_path / "report" / "scores.fits"))
    assert [name for name in table.dtype.names if name.startswith("mag_")] == list(spec.columns("mag"))
    with pytest.raises(TrainingSetError, match="band"):
        evaluate.ablations_asked(["band Y"], spec)
    left = next(n for n in found["notices"]["not_run"] if n["kind"] == "ABLATIONS_LEFT")["values"]["names"]
    assert [name for name in left if name.startswith("band")] == (
        [f"band {band}" for band in spec.bands] if len(spec.bands) > 1 else []
    )


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_constant_scores_say_that_nothing_was_learnt(place, capsys):
    constant(place / "cnn1" / "best.keras")
    assert run(place) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "Injected galaxies differ from real ones: "
    )  # the controls see what the network does not
    assert "which the network does not detect" in said
    assert "Not learnt" in said
    assert "Occlusion was not run" in (place / "report" / "report.html").read_text()
    found = numbers(place)
    assert found["verdict"]["kind"] == "not learnt"
    assert "CONSTANT_SCORE" in found["verdict"]["reasons"]
    assert found["occlusion"] is found["verdict"]["tost_p"] is found["verdict"]["detectable"] is None
    assert found["versions"]["keras backend"]


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_few_bricks_and_another_training_set_are_said(trained, tmp_path, capsys):
    make_set(tmp_path / "set", Planted("size", 3.0), COUNTS, seed=9, bricks={"train": 4, "val": 2, "test": 3})
    shutil.copytree(trained / "cnn1", tmp_path / "cnn1")
    assert run(tmp_path, "--margin", "0.1") == 0
    found = numbers(tmp_path)
    assert (found["answer"]["bricks"], found["answer"]["rests_on_bricks"]) == (3, False)
    assert [notice["kind"] for notice in found["notices"]["cautions"]] == ["OTHER_DATA"]
    assert "trained on another training set" in (tmp_path / "report" / "report.html").read_text()
    assert "trained on another training set" in capsys.readouterr().out
    # Once more with the other network: refused, then allowed, and a second evaluation of the test set.
    shutil.copytree(trained / "cnn2", tmp_path / "cnn2")
    assert run(tmp_path, models=("cnn2",)) == 1
    assert "holds another report (models was [" in errors(capsys)[0]
    assert run(tmp_path, "--overwrite", models=("cnn2",)) == 0
    found = numbers(tmp_path)
    (others,) = (n["values"] for n in found["notices"]["cautions"] if n["kind"] == "OTHER_NETWORKS")
    assert others == {"count": 1}
    assert found["looks"] == 2
    assert len((tmp_path / "set" / "test_looks.jsonl").read_text().splitlines()) == 2 + 2
    # And with another margin: it was not declared before.
    assert run(tmp_path, "--margin", "0.3", models=("cnn2",)) == 0
    found = numbers(tmp_path)
    (margins,) = (n["values"] for n in found["notices"]["cautions"] if n["kind"] == "OTHER_MARGINS")
    assert margins == {"evaluations": 3, "margins": [0.1, 0.02, 0.3]}
    assert [opening["margin"] for opening in found["openings"]] == [0.1, 0.02, 0.3]


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_retraining_on_request(place, capsys):
    words = ["--ablations", "ivar only", "--sensitivity", "offset=3", "--mock", str(place / "mock.json")]
    plant = {"offset": 1.5, "psf": 1.0, "size": 1.0, "flux": 1.0, "colour": 0.0, "sersic": 0.0}
    plant |= {"no_shot_noise": 0.0, "ivar_dip": 0.0}
    (place / "mock.json").write_text(json.dumps({"config": {"plant": plant}}))
    assert run(place, *words) == 0
    found = json.loads((place / "report" / "metrics.json").read_text())
    assert [result["name"] for result in found["ablations"]] == ["ivar only"]
    assert 0 <= found["ablations"][0]["p"] <= 1
    assert found["looks"] == 3  # both networks, and that which was trained again
    assert "FEW_NETWORKS" in [fact["kind"] for fact in found["notices"]["not_run"]]
    assert [result["kind"] for result in found["sensitivity"]] == ["offset"]
    assert len(found["ideal"][0]) == len(found["ideal"][1]) > 3
    page = (place / "report" / "report.html").read_text()
    assert 'id="retraining"' in page
    assert "ideal observer of the planted offset" in page
    # There are no images beside this mock.json.
    assert [fact["kind"] for fact in found["notices"]["mock"]] == ["IMAGES_ABSENT"]
    assert found["ideal_note"] in page
    assert "NO_SENSITIVITY" not in {fact["kind"] for fact in found["notices"]["not_run"]}
    # What another run left in the same place: refused, and replaced on request.
    other = place / "report" / "ablations" / "ivar_only" / "run.json"
    other.write_text(json.dumps({**json.loads(other.read_text()), "epochs": 99}))
    capsys.readouterr()
    assert run(place, *words) == 1
    assert "epochs was 99" in errors(capsys)[0]
    assert run(place, *words, "--overwrite") == 0
    capsys.readouterr()


def test_retraining_needs_the_record_of_the_run(place, capsys):
    (place / "cnn1" / "run.json").unlink()
    assert run(place, "--ablations", "ivar only") == 1
    assert "run.json" in errors(capsys)[0]


def test_controls_take_the_test_split_and_others_as_far_as_there_is_room(trained, monkeypatch):
    training_set = stampset.open_training_set(trained / "set")
    table = read_table(training_set.directory)
    table = table[table["split"] == b"test"]
    for room, asked, expected, tests in (
        (10_000, 0, 512, 256),
        (COUNTS["test"] + 100, 0, 256 + 64, 256),
        (COUNTS["test"] - 1, 0, 192, 192),  # whole shards
        (1, 0, 64, 64),
        (1, 200, 192, 192),
    ):
        monkeypatch.setattr(measuring, "CONTROL_EXAMPLES", room)
        found = measuring.control_sample(training_set, {}, Jury(examples=asked))
        assert len(found.rows) == len(found.measured) == expected
        assert len(found.tests) == tests
        assert found.rows[:tests].tobytes() == table[found.tests].tobytes()


def test_a_panel_without_a_network(place, capsys):
    words = ("--sensitivity", "flux", "ivar_dip", "--sensitivity-stamps", "100", "--jobs", "2")
    assert run(place, *words, models=(), referees=("scores", "trees")) == 0
    said = capsys.readouterr().out
    assert said.startswith("Injected galaxies differ from real ones: ")
    assert "The panel combines scores (AUC" in said
    assert "network alone" not in said
    found = numbers(place)
    assert found["referees"] == ["scores", "trees"]
    assert (found["networks"], found["network"]) == ([], None)
    assert found["answer"]["auc"]["low"] > 0.5
    assert [one["kind"] for one in found["detections"]] == ["flux", "ivar_dip"]
    assert found["detections"][1]["auc"]["low"] > 0.5  # ivar is nearly free of noise
    names = {path.name for path in (place / "report" / "referees").iterdir()}
    assert names == {"referee_scores.npz", "referee_trees.npz", "measurements"}
    table = fitsio.read(str(place / "report" / "scores.fits"))
    assert {"score", "score_scores", "score_trees"} <= set(table.dtype.names)
    page = (place / "report" / "report.html").read_text()
    assert "Smallest detectable differences" in page
    assert "Smallest differences that this test set detects with 80 % power: " in said
    dip = re.search(r"dip of the inverse variance, ([0-9.]+) %", said)
    assert dip is not None
    assert f"<td>{dip[1]} %</td>" in page
    assert "Occlusion was not run: it is of a network" in page
    assert "evaluated for 2 other network(s) or panel(s)" in said  # the panel itself is none of them
    assert not re.search(r"\de-\d", page.split('id="retraining"')[1].split("<img")[0])
    files = sorted((place / "report" / "referees").glob("*.npz"))
    written = [path.stat().st_mtime_ns for path in files]
    assert run(place, *words, models=(), referees=("scores", "trees")) == 0
    assert [path.stat().st_mtime_ns for path in files] == written  # the members were there already
    assert numbers(place)["looks"] == found["looks"]  # the same evaluation once more
    capsys.readouterr()
    assert run(place, *words[:1], "none", models=(), referees=("scores",)) == 1
    assert "holds another report (referees" in errors(capsys)[0]


def test_a_panel_that_scores_a_sample(place):
    words = ("--sensitivity", "none", "--jobs", "1", "--examples", "130")
    assert run(place, *words, referees=("network", "scores")) == 0
    found = numbers(place)
    kinds = {one["kind"]: one["values"] for one in found["notices"]["not_run"]}
    assert kinds["SAMPLED"] == {"scored": "128", "total": "256"}
    assert found["network"]["auc"]["value"] > 0.5  # of all of them
    table = fitsio.read(str(place / "report" / "scores.fits"))
    assert len(table) == 128
    assert "128 of 256 test examples" in (place / "report" / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--referees", "trees", "absent:module"), "--referees absent:module: cannot be made"),
        (
            ("--referees", "trees", "--sensitivity", "psf", "colour"),
            "--sensitivity colour: stamps with r, ivar_r",
        ),
    ],
)
def test_what_a_panel_cannot_have_is_known_before_anything_is_measured(tmp_path, capsys, words, said):
    counts = {"train": 8, "val": 8, "test": 8}
    make_set(tmp_path / "set", Planted("size", 3.0), counts, spec=StampSpec(("r",)))
    place = ["--data", str(tmp_path / "set"), "--outdir", str(tmp_path / "report")]
    assert evaluate.main([*place, *words]) == 1
    assert said in errors(capsys)[0]
    assert not (tmp_path / "report").exists()


def test_a_panel_and_its_network(place, capsys):
    assert run(place, "--sensitivity", "none", "--jobs", "1", referees=("network", "scores")) == 0
    alone, said = "The network alone: AUC {} (", capsys.readouterr().out
    found = numbers(place)
    own = found["network"]["auc"]["value"]
    page = (place / "report" / "report.html").read_text()
    assert alone.format(f"{own:.3f}") in said
    assert "Accuracy of the panel" in said
    assert alone.format(f"{own:.3f}") in page.split("<figure", 1)[0]
    rest = page.split("<nav", 1)[1]
    assert f"AUC of the network alone</th><td>{own:.3f}</td>" in rest
    checksum = found["networks"][0]["checksum"]
    assert f"cnn1/best.keras</th><td>lenet5</td><td><code>{checksum}</code>" in rest
    assert [one["name"] for one in found["models"]] == ["network", "scores"]
    assert [one["name"] for one in found["networks"]] == ["cnn1/best.keras"]
    assert found["network"]["auc"]["value"] == pytest.approx(found["answer"]["singles"][0]["value"], abs=1e-6)
    assert found["answer"]["auc"]["value"] > found["network"]["auc"]["value"] - 0.05


def test_controls_of_a_sample_of_the_test_set(place, monkeypatch):
    """All examples are scored, and what is measured rests on whole shards of them, as the report says."""
    monkeypatch.setattr(measuring, "CONTROL_EXAMPLES", 150)
    monkeypatch.setattr(stampset, "LARGE", 10)  # as if the table did not fit into memory
    assert run(place, "--examples", "100", "--jobs", "1") == 0
    found = numbers(place)
    kinds = {one["kind"]: one["values"] for one in found["notices"]["not_run"]}
    assert kinds["CONTROLS_SAMPLED"] == {"scored": "128", "total": "256"}
    assert (found["control_tests"], found["control_examples"]) == (128, 128)
    assert found["verdict"]["real"] + found["verdict"]["fake"] == 256
    assert sum(one["real"] + one["fake"] for one in found["bins"][0]["bins"]) == 256
    assert found["baseline"]["examples"] == 128
    table = fitsio.read(str(place / "report" / "scores.fits"))
    assert len(table) == 256
    measured = np.isfinite(table["neighbours"])
    assert measured.sum() == np.isfinite(table["score_metadata"]).sum() == 128
    assert set(np.unique(table["shard"][measured], return_counts=True)[1]) == {64}
    assert np.isfinite(table["mag_r"]).all()
    assert "rest on 128 of 256" in (place / "report" / "report.html").read_text()
    monkeypatch.undo()
    assert run(place, "--jobs", "1") == 0
    whole = numbers(place)
    for name in ("answer", "calibration", "bins", "data"):  # which rest on all examples
        assert whole[name] == found[name]
    assert whole["exhibits"]["brick_aucs"] == found["exhibits"]["brick_aucs"]
    assert whole["verdict"]["auc"] == found["verdict"]["auc"]


SCORED_BY_WORKERS = """
import sys
from obiwan.dplearn import evaluate
from obiwan.dplearn.referees import scoring
scoring.WORTH = 0  # however small the set
sys.exit(evaluate.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["jobs", "mpi"])
def test_workers_measure_and_score_to_the_same_bytes(place, root, launcher):
    """One process, worker processes and MPI ranks: equal scores, controls and numbers."""
    ranks = []
    if launcher == "mpi":
        pytest.importorskip("mpi4py")
        found = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if found is None:
            pytest.skip("no mpirun on this machine")
        text = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        ranks = [found, *(["--oversubscribe"] if "Open MPI" in text else []), "-n", "3"]
    results = []
    for words in (["--jobs", "1"], ["--jobs", "2"] if launcher == "jobs" else ["--mpi"]):
        for path in [*place.glob("cnn1/scores_test*.fits"), place / "set" / "test_looks.jsonl"]:
            path.unlink(missing_ok=True)
        given = ["--data", str(place / "set"), "--outdir", str(place / "report"), "--overwrite", *words]
        given += ["--model", str(place / "cnn1" / "best.keras"), "--referees", "network"]
        program = [sys.executable, "-c", SCORED_BY_WORKERS, *given]
        environ = {**os.environ, "PYTHONPATH": str(root / "py"), "OMP_NUM_THREADS": "1"}
        environ |= dict.fromkeys(("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"), "1")
        command = program if words[0] == "--jobs" else [*ranks, *program]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        table = fitsio.read(str(place / "report" / "scores.fits")).tobytes()
        metrics = numbers(place)
        results.append((fitsio.read(str(place / "cnn1" / "scores_test.fits")).tobytes(), table, metrics))
    assert results[0] == results[1]
