"""The ledger of looks: who has seen the test split of a training set, and what was asked of it.

A test split that is looked at until it says what one hopes for proves nothing: whoever reads a result must
know how many looks came before it.

A line of ``test_looks.jsonl`` for each network, for each network that was trained again on parts of the
cutouts with the true labels, and for each evaluation: some networks and the margin that was declared.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from obiwan.dplearn import __version__
from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.referees.scoring import Scores
from obiwan.dplearn.trainingset.stampset import StampSet

LOOKS = "test_looks.jsonl"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opening:
    """One evaluation of a test split; the same networks and margin again are the same one.

    Attributes
    ----------
    models : tuple of str
        Checksums, in alphabetical order.
    margin : float
        That was declared.
    """

    models: tuple[str, ...]
    margin: float


@dataclass(frozen=True)
class Ledger:
    """Who has seen a test split, in the order in which they did.

    Attributes
    ----------
    networks : tuple of str
        Checksums of different networks.
    retrained : tuple of str
        Of networks trained again on parts of the cutouts: which part, and the checksum of the network whose
        settings they have.
    openings : tuple of Opening
        Different evaluations.
    """

    networks: tuple[str, ...] = ()
    retrained: tuple[str, ...] = ()
    openings: tuple[Opening, ...] = ()

    @property
    def looks(self) -> int:
        """How many networks have looked."""
        return len(self.networks) + len(self.retrained)


def _whole(content: bytes) -> bytes:
    """The lines of a list without a last one that was not written to its end."""
    lines, last = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
    try:
        json.loads(last)
    except ValueError:
        return lines
    return content + b"\n"  # somebody's editor ends no last line


def _entries(text: str, data: str) -> list[dict[str, Any]]:
    """The lines about a training set; what is raised says that the list is not readable."""
    entries = [json.loads(line) for line in text.split("\n")[:-1]]
    return [entry for entry in entries if entry["data"] == data]


def _ledger(entries: Sequence[dict[str, Any]]) -> Ledger:
    """What these lines say, each once."""
    networks: dict[str, None] = {}
    retrained: dict[str, None] = {}
    openings: dict[Opening, None] = {}
    for entry in entries:
        if "margin" in entry:
            openings[Opening(tuple(sorted(map(str, entry["models"]))), float(entry["margin"]))] = None
        elif "part" in entry:
            retrained[f"{entry['part']} {entry['model']}"] = None
        else:
            networks[entry["model"]] = None
    return Ledger(tuple(networks), tuple(retrained), tuple(openings))


def _count(training_set: StampSet, entry: dict[str, Any]) -> Ledger | None:
    """Add a line to the ledger, unless it says what is known; None where that cannot be written."""
    path = training_set.directory / LOOKS
    entry = {**entry, "data": training_set.checksum, "version": __version__}
    try:
        content = path.read_bytes() if path.is_file() else b""
        whole = _whole(content)
        if len(whole) < len(content):
            log.warning("%s: its last line is half-written and is left out: a look may be missing", path)
        entries = _entries(whole.decode("utf-8"), training_set.checksum)
        before, after = _ledger(entries), _ledger([*entries, entry])
        if after != before:
            if whole != content:
                with atomic_write(path) as beside:  # no append, which others may do meanwhile
                    beside.write_bytes(whole)
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")
    except OSError as error:
        log.warning("%s: this look at the test split is not counted (%s)", path, error.strerror)
        return None
    except (ValueError, KeyError, TypeError, OverflowError):
        msg = f"{path}: not a readable list of looks; put it right or remove it"
        raise ModelError(msg) from None
    return after


def record_evaluation(training_set: StampSet, scores: Scores) -> int | None:
    """Record that a model has seen the test split; a model that has seen it before is not counted again.

    Returns
    -------
    int or None
        How many different models have looked at this test split, this one included; None where the data
        directory cannot be written, which is warned about.
    """
    found = _count(training_set, {"model": scores.model, "n": len(scores.label)})
    return None if found is None else found.looks


def record_retraining(training_set: StampSet, model: str, part: str) -> Ledger | None:
    """Record that a network trained again on a part of the cutouts, with the true labels, has seen them too.

    Parameters
    ----------
    training_set : StampSet
    model : str
        Checksum of the network whose settings it has.
    part : str
        Of the cutouts.

    Returns
    -------
    Ledger or None
        As for `record_evaluation`.
    """
    return _count(training_set, {"model": model, "part": part})


def record_report(training_set: StampSet, models: Sequence[str], margin: float) -> Ledger | None:
    """Record an evaluation: the margin is declared before the first of them and before no other.

    Parameters
    ----------
    training_set : StampSet
    models : sequence of str
        Checksums.
    margin : float
        That was declared.

    Returns
    -------
    Ledger or None
        As for `record_evaluation`.
    """
    return _count(training_set, {"models": sorted(models), "margin": margin})
