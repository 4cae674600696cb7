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
    try:
        content = path.read_bytes() if path.is_file() else b""
        whole = _whole(content)
        if len(whole) < len(content):
            log.warning("%s: its last line is half-written and is left out: a look may be missing", path)
        looks = _looks(whole.decode("utf-8"), scores.data)
        if scores.model not in looks:
            entry = {
                "model": scores.model,
                "data": scores.data,
                "n": len(scores.label),
                "version": __version__,
            }
            if whole != content:
                path.write_bytes(whole)
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")
            looks.add(scores.model)
    except OSError as error:
        log.warning("%s: this look at the test split is not counted (%s)", path, error.strerror)
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        msg = f"{path}: not a readable list of looks; put it right or remove it"
        raise ModelError(msg) from None
    return len(looks)


def _whole(content: bytes) -> bytes:
    """The lines of a list without a last one that was not written to its end."""
    lines, last = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
    try:
        json.loads(last)
    except (ValueError, RecursionError):
        return lines
    return content + b"\n"  # somebody's editor ends no last line


def _looks(text: str, data: str) -> set[str]:
    """The models that have seen this test split; whatever is raised says that the list is not readable."""
    entries = [json.loads(line) for line in text.split("\n")[:-1]]
    return {entry["model"] for entry in entries if entry["data"] == data}
