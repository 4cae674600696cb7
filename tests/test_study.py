"""Evaluation of referees that are no networks, on stamps of any bands, planes and size."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from evaluation_set import make_set
from obiwan.dplearn.controls.measure import measure_split
from obiwan.dplearn.controls.records import Obstacle
from obiwan.dplearn.errors import ModelError, TrainingSetError
from obiwan.dplearn.evaluation import ensemble, measuring
from obiwan.dplearn.evaluation.measuring import control_sample
from obiwan.dplearn.evaluation.study import Request, evaluate_referees
from obiwan.dplearn.referees.jury import Jury, samples_of
from obiwan.dplearn.referees.scoring import read_scores, write_scores
from obiwan.dplearn.report.figures import pictures_of
from obiwan.dplearn.report.page import render
from obiwan.dplearn.report.wording import summary
from obiwan.dplearn.stampspec import StampSpec
from planted import Planted
from processes import ENV

COUNTS = {"train": 64, "val": 64, "test": 256}


@dataclass(frozen=True)
class Asymmetry:
    """Light on the right of the centre less that on the left, in all bands: it sees an offset in x."""

    spec: StampSpec
    scale: float = 1.0
    name: str = "asymmetry"
    learnt: bool = True

    @property
    def checksum(self) -> str:
        return f"{self.scale:g} {self.spec.size}"

    def predict(self, stamps, rows):  # noqa: ARG002
        image = self.spec.image(stamps).sum(-1)
        centre = self.spec.centre
        right, left = image[..., centre + 1 : centre + 6], image[..., centre - 5 : centre]
        middle = slice(centre - 5, centre + 6)
        excess = right[:, middle].sum((1, 2)) - left[:, middle].sum((1, 2))
        total = np.abs(image[:, middle, middle]).sum((1, 2))
        return (1 / (1 + np.exp(-5 * self.scale * excess / total))).astype(np.float32)


SPECS = {
    "griz": StampSpec(("g", "r", "i", "z")),
    "r": StampSpec(("r",)),
    "gr": StampSpec(("g", "r")),
    "image": StampSpec(planes=("image",)),
    "48": StampSpec(size=48),
    "96": StampSpec(size=96),
    "16": StampSpec(size=16),
}


@pytest.fixture(scope="module", params=SPECS)
def stamp_set(request, tmp_path_factory):
    place = tmp_path_factory.mktemp(f"set_{request.param}") / "set"
    return make_set(place, Planted("offset", 1.5), COUNTS, spec=SPECS[request.param])


def test_an_offset_is_found_in_any_stamps(stamp_set):
    """The right controls fail, the columns are those of the bands, and the report can be written."""
    spec = stamp_set.spec
    found = evaluate_referees(stamp_set, [Asymmetry(spec)], Request())
    assert found.verdict.kind == "distinguishable"
    fail = {(one.name, one.band) for one in found.controls if one.state == "fail"}
    assert {band for name, band in fail if name == "centroid x"} == set(spec.bands)
    assert {name for name, _ in fail} <= {"centroid x", "centroid scatter"}  # rows follow whole pixels
    assert {one.name for one in found.controls if one.obstacle == Obstacle.NO_IVAR} == (
        set()
        if spec.has_ivar
        else {
            *("ivar-flux slope", "ivar levels", "ivar step", "ivar dip"),
            *("noise under the source", "noise of the sky"),
        }
    )
    keys = [table.key for table in found.bins]
    assert [key for key in keys if key.startswith("mag_")] == [f"mag_{band}" for band in spec.bands]
    assert {f"psfsize_{spec.reference}", f"psfdepth_{spec.reference}"} <= set(keys)
    by_brightness = found.bins[-1].bins
    assert np.nanmax(found.columns[f"mag_{spec.bluest}"]) == by_brightness[-1].high
    expected = (f"mag_{spec.reference}", *(f"{a}_{b}" for a, b in spec.colours), "shape_r")
    assert found.conditional.names == expected
    assert found.occlusion is not None
    assert max(found.occlusion.radii) < spec.centre
    assert found.occlusion.inner[-1].low > 0.5
    assert summary(found)
    assert "<html" in render(found, {})
    assert all(picture.caption for picture in pictures_of(found, [], []))


@pytest.fixture(scope="module")
def grz(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("grz") / "set", Planted("offset", 1.5), COUNTS)


def test_the_mean_of_any_number_of_referees_is_tested(grz, monkeypatch):
    monkeypatch.setattr(measuring, "CONTROL_EXAMPLES", 1)
    both = [Asymmetry(grz.spec), Asymmetry(grz.spec, 0.5, "weaker", learnt=False)]
    found = evaluate_referees(grz, both, Request(margin=0.05, seed=3))
    assert found.scored.scores == pytest.approx(found.scored.singles.mean(0))
    assert [model.name for model in found.scored.models] == ["asymmetry", "weaker"]
    assert [model.learnt for model in found.scored.models] == [True, False]
    assert found.scored.ledger.looks == 2
    assert [opening.margin for opening in found.scored.ledger.openings][-1] == 0.05
    assert found.settings == {"margin": 0.05, "level": 0.05, "seed": 3}


def test_scores_are_kept_beside_the_file_of_a_referee_that_has_one(grz, tmp_path):
    @dataclass(frozen=True)
    class Filed(Asymmetry):
        path: Path = tmp_path / "referee.bin"

    referee = Filed(grz.spec)
    first = ensemble.score_all([referee], grz)
    known = read_scores(tmp_path / "scores_test.fits", referee.checksum, grz.checksum)
    assert known.score == pytest.approx(first.singles[0])
    write_scores(tmp_path / "scores_test.fits", replace(known, score=known.score / 2))
    second = ensemble.score_all([referee], grz)
    assert second.singles == pytest.approx(first.singles / 2)
    assert [path.name for path in tmp_path.iterdir()] == ["scores_test.fits"]


def test_scores_that_are_no_numbers_are_refused_before_they_are_counted(grz):
    @dataclass(frozen=True)
    class Broken(Asymmetry):
        checksum: str = "broken"

        def predict(self, stamps, rows):  # noqa: ARG002
            return np.full(len(stamps), np.nan, np.float32)

    with pytest.raises(ModelError, match="256 of 256 scores are not finite"):
        evaluate_referees(grz, [Broken(grz.spec)], Request())
    assert "broken" not in (grz.directory / "test_looks.jsonl").read_text()


def test_a_split_of_one_class_is_refused(grz):
    one_class = replace(grz, shards=tuple(replace(s, fake=0, real=s.rows) for s in grz.shards))
    with pytest.raises(TrainingSetError, match="split"):
        evaluate_referees(one_class, [Asymmetry(grz.spec)], Request())


@pytest.mark.parametrize("augment", [True, False])
def test_how_a_network_was_trained_is_read_from_its_run(augment):
    feed = {"batch_size": 16, "seed": 3, "augment": augment}
    run = {"epochs": 8, "learning_rate": 5e-4, "feed": feed, "data": "abc"}
    network = SimpleNamespace(name="a/b", checksum="c", learnt=True, arch="lenet5", run=run)
    found = ensemble.info_of(network)
    assert found.settings == {"epochs": 8, "batch": 16, "learning rate": 5e-4, "seed": 3}
    assert (found.augmented, found.trained_on, found.arch) == (augment, "abc", "lenet5")
    network.run = {"feed": [], "epochs": "many"}
    assert ensemble.info_of(network).settings == {}
    other = ensemble.info_of(Asymmetry(StampSpec()))
    assert (other.name, other.arch, other.settings) == ("asymmetry", "", {})


def test_controls_take_what_a_panel_has_measured(grz, monkeypatch):
    samples, asked = samples_of(grz, Jury(("scores",), examples=64)), []
    first = control_sample(grz, {}, Jury())
    spy = lambda *given: asked.append(given[1]) or measure_split(*given)  # noqa: E731
    monkeypatch.setattr(measuring, "measure_split", spy)
    again = control_sample(grz, samples, Jury())
    assert asked == ["test"]  # of which the panel has 64 of 256
    assert again.tests.tolist() == list(range(256))
    assert again.rows.tobytes() == first.rows.tobytes()
    assert again.measured.tobytes() == first.measured.tobytes()
    scored = grz.only(shard for one in samples.values() for shard in one.stamp_set.shards)
    reused = control_sample(scored, samples, Jury())
    assert asked == ["test"]
    assert len(reused.tests) == 64
    assert (
        reused.measured.tobytes()
        == np.concatenate([measure_split(scored, s) for s in ("test", "val", "train")]).tobytes()
    )


CODE = """
import sys
from pathlib import Path
from obiwan.dplearn.evaluation.study import Request, evaluate_referees
from obiwan.dplearn.trainingset.stampset import open_training_set
from test_study import Asymmetry
stamps = open_training_set(Path(sys.argv[1]))
found = evaluate_referees(stamps, [Asymmetry(stamps.spec)], Request())
assert found.verdict.kind == "distinguishable"
assert not {"keras", "tensorflow", "torch", "jax"} & set(sys.modules)
"""


def test_an_evaluation_needs_no_keras(grz, root):
    environment = {**ENV, "PYTHONPATH": f"{root / 'tests'}:{root / 'py'}"}
    words = [sys.executable, "-c", CODE, str(grz.directory)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
