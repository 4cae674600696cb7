"""The ledger of looks: which networks have seen the test split of a training set (requirement R9)."""

from __future__ import annotations

import json
import logging

from obiwan.dplearn import __version__
from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.training.scoring import Scores
from obiwan.dplearn.trainingset.shards import TrainingSet

LOOKS = "test_looks.jsonl"
log = logging.getLogger(__name__)


def count_look(training_set: TrainingSet, scores: Scores) -> int | None:
    """Record that a model has seen the test split; a model that has seen it before is not counted again.

    Returns
    -------
    int or None
        How many different models have looked at this test split, this one included; None where the data
        directory cannot be written, which is warned about.
    """
    path = training_set.directory / LOOKS
    looks = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            entry = json.loads(line)
            if entry["data"] == scores.data:
                looks.append(entry["model"])
        if scores.model not in looks:
            entry = {
                "model": scores.model,
                "data": scores.data,
                "n": len(scores.label),
                "version": __version__,
            }
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")
            looks.append(scores.model)
    except OSError as error:
        log.warning("%s: this look at the test split is not counted (%s)", path, error.strerror)
        return None
    except (ValueError, KeyError, TypeError):
        msg = f"{path}: not a readable list of looks; put it right or remove it"
        raise ModelError(msg) from None
    return len(set(looks))
