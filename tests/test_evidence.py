"""What a reader must know before believing a number: when it is said, and when it is not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from obiwan.dplearn.evaluation import ensemble
from obiwan.dplearn.evaluation.evidence import cautions
from obiwan.dplearn.evaluation.records import ModelInfo, Scored
from obiwan.dplearn.training.testlog import Ledger
from obiwan.dplearn.trainingset.examples import blank_examples

DATA = {
    "checksum": "d",
    "config": {"split": "brick", "reals_from": "injected"},
    "roots": [{"injected": True}],
}


def network(name: str = "run0/best.keras", **changes: object) -> ModelInfo:
    return ModelInfo(**{"name": name, "checksum": name, "arch": "lenet5", "learnt": True, **changes})


def scored(*models: ModelInfo) -> Scored:
    blank = np.zeros((len(models), 4))
    return Scored(blank_examples(4), blank, blank[0], blank[0], models, ledger=Ledger((models[0].checksum,)))


def test_nothing_is_said_where_there_is_nothing_to_say():
    assert cautions(scored(network(trained_on="d")), DATA) == ()


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        ({"augmented": True}, {}, "cannot see a difference that has a direction"),
        ({"trained_on": "other"}, {}, "trained on another training set (other)"),
        ({}, {"config": {"split": "object"}}, "Objects of one brick are in several splits"),
        ({}, {"roots": [{"injected": True}, {"injected": False}]}, "Reals have the positions and fitted"),
    ],
)
def test_each_caution_is_said_alone(model, data, words):
    (said,) = cautions(scored(network(**model)), {**DATA, **data})
    assert words in said


def test_reals_cut_from_the_release_are_no_news():
    """That is asked for in words, and ``create_training`` has warned of it."""
    data = {**DATA, "config": {"reals_from": "release"}, "roots": [{"injected": True}, {"injected": False}]}
    assert cautions(scored(network()), data) == ()


@pytest.mark.parametrize(
    ("learnt", "worth", "named"), [(4, True, 1), (2, False, 0), (5, True, 0), (0, False, 0)]
)
def test_most_networks_must_have_learnt(learnt, worth, named):
    """Of five; a few that did not are named, and with more of them it is no answer."""
    found = scored(*(network(f"run{i}/best.keras", learnt=i < learnt) for i in range(5)))
    assert found.learnt == worth
    said = [line for line in cautions(found, DATA) if "did not learn" in line]
    assert len(said) == named
    assert all("run4/best.keras" in line and "run3" not in line for line in said)


@pytest.mark.parametrize("augment", [True, False])
def test_how_a_network_was_trained_is_read_from_its_run(tmp_path, augment):
    feed = {"batch_size": 16, "seed": 3, "augment": augment}
    (tmp_path / "run.json").write_text(json.dumps({"epochs": 8, "learning_rate": 5e-4, "feed": feed}))
    run = ensemble._record(tmp_path / "run.json")
    words = "epochs 8, batch 16, learning rate 0.0005, seed 3"
    assert ensemble._training_words(run) == words + (", flipped and turned" if augment else "")
    assert ensemble._training_words({"feed": [], "epochs": "many"}) == ""
