"""What was known of a network's training, as far as the record of its run says."""

from __future__ import annotations

import json

import pytest

from obiwan.dplearn.evaluation import ensemble


@pytest.mark.parametrize("augment", [True, False])
def test_how_a_network_was_trained_is_read_from_its_run(tmp_path, augment):
    feed = {"batch_size": 16, "seed": 3, "augment": augment}
    (tmp_path / "run.json").write_text(json.dumps({"epochs": 8, "learning_rate": 5e-4, "feed": feed}))
    run = ensemble._record(tmp_path / "run.json")
    words = "epochs 8, batch 16, learning rate 0.0005, seed 3"
    assert ensemble._training_words(run) == words + (", flipped and turned" if augment else "")
    assert ensemble._training_words({"feed": [], "epochs": "many"}) == ""
