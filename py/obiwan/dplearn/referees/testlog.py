"""Test-set log: which networks have scored the test set of a training set, and with which margin.

A test set that is evaluated until it says what one hopes for proves nothing: whoever reads a result must
know how many evaluations came before it.

``test_looks.jsonl`` has a line for each network, for each network that was trained again on parts of the
stamps with the true labels, and for each evaluation: some networks and the margin that was declared.  Studies
of hyperparameters do not score the test set; their lines have the number of trials.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from obiwan.dplearn import __version__
from obiwan.dplearn.errors import ModelError, explained
from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.referees.scoring import Scores
from obiwan.dplearn.trainingset.stampset import StampSet

LOOKS = "test_looks.jsonl"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opening:
    """One evaluation of a test set; the same networks and margin again are the same one.

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
    """Log of a test set: what has scored it, in the order in which it did.

    Attributes
    ----------
    networks : tuple of str
        Checksums of different networks.
    retrained : tuple of str
        Of networks trained again on parts of the stamps: which part, and the checksum of the network whose
        settings they have.
    openings : tuple of Opening
        Different evaluations.
    tuned : mapping
        Trials that were compared on the validation split, by study.
    """

    networks: tuple[str, ...] = ()
    retrained: tuple[str, ...] = ()
    openings: tuple[Opening, ...] = ()
    tuned: Mapping[str, int] = field(default_factory=dict)

    @property
    def looks(self) -> int:
        """Number of networks that have scored the test set."""
        return len(self.networks) + len(self.retrained)


def _whole(content: bytes) -> bytes:
    """The lines of a list without a last one that was not written to its end."""
    lines, last = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
    try:
        json.loads(last)
    except ValueError:
        return lines
    return content + b"\n"  # somebody's editor ends no last line


def _entries(whole: bytes, checksum: str) -> list[dict[str, Any]]:
    """Entries of a log that are of the training set with this checksum."""
    lines = map(json.loads, whole.decode("utf-8").split("\n")[:-1])
    return [line for line in lines if line["data"] == checksum]


def _ledger(entries: Sequence[dict[str, Any]]) -> Ledger:
    """Log that these lines make, each entry once."""
    networks: dict[str, None] = {}
    retrained: dict[str, None] = {}
    openings: dict[Opening, None] = {}
    tuned: dict[str, int] = {}
    for entry in entries:
        if "margin" in entry:
            openings[Opening(tuple(sorted(map(str, entry["models"]))), float(entry["margin"]))] = None
        elif "trials" in entry:
            tuned[entry["study"]] = max(int(entry["trials"]), tuned.get(entry["study"], 0))
        elif "part" in entry:
            retrained[f"{entry['part']} {entry['model']}"] = None
        else:
            networks[entry["model"]] = None
    return Ledger(tuple(networks), tuple(retrained), tuple(openings), tuned)


def _count(stamp_set: StampSet, entry: dict[str, Any]) -> Ledger | None:
    """Add a line to the ledger, unless it says what is known; None where that cannot be written."""
    path = stamp_set.directory / LOOKS
    entry = {"version": __version__, **entry, "data": stamp_set.checksum}
    try:
        content = path.read_bytes() if path.is_file() else b""
        whole = _whole(content)
        if len(whole) < len(content):
            log.warning("%s: its last line is half-written and left out: an evaluation may be missing", path)
        entries = _entries(whole, stamp_set.checksum)
        before, after = _ledger(entries), _ledger([*entries, entry])
        if after != before:
            if whole != content:
                with atomic_write(path) as beside:  # no append, which others may do meanwhile
                    beside.write_bytes(whole)
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")
    except OSError as error:
        log.warning("%s: this evaluation of the test set is not recorded (%s)", path, error.strerror)
        return None
    except (ValueError, KeyError, TypeError):
        msg = f"{path}: not a readable test-set log; repair or remove it"
        raise ModelError(msg) from None
    return after


def copy_log(source: StampSet, made: StampSet) -> None:
    """Copy the log of a test set to the same set in another form; a line that is there is not written again.

    Raises
    ------
    ModelError
        If the log cannot be read.
    """
    path = source.directory / LOOKS
    if not path.is_file():
        return
    with explained(f"{path}: not a readable test-set log", "repair or remove it", ModelError):
        entries = _entries(_whole(path.read_bytes()), made.checksum)
    for entry in entries:
        _count(made, entry)


def record_evaluation(stamp_set: StampSet, scores: Scores) -> int | None:
    """Record that a referee has scored the test set; one that did so before is not counted again.

    Returns
    -------
    int or None
        How many different ones have scored this test set, this one included; None where the data
        directory cannot be written, which is warned about.
    """
    found = _count(stamp_set, {"model": scores.model, "n": len(scores.label)})
    return None if found is None else found.looks


def record_retraining(stamp_set: StampSet, model: str, part: str) -> Ledger | None:
    """Record that a network trained again on a part of the stamps, with the true labels, has scored them too.

    Parameters
    ----------
    stamp_set : StampSet
    model : str
        Checksum of the network whose settings it has.
    part : str
        Of the stamps.

    Returns
    -------
    Ledger or None
        As for `record_evaluation`.
    """
    return _count(stamp_set, {"model": model, "part": part})


def record_tuning(stamp_set: StampSet, study: str, trials: int) -> Ledger | None:
    """Record how many trials of a study were compared on the validation split.

    Parameters
    ----------
    stamp_set : StampSet
    study : str
        Its name.
    trials : int
        Of the study so far.

    Returns
    -------
    Ledger or None
        As for `record_evaluation`.
    """
    return _count(stamp_set, {"study": study, "trials": trials})


def record_report(stamp_set: StampSet, models: Sequence[str], margin: float) -> Ledger | None:
    """Record an evaluation: the margin is declared before the first of them and before no other.

    Parameters
    ----------
    stamp_set : StampSet
    models : sequence of str
        Checksums.
    margin : float
        That was declared.

    Returns
    -------
    Ledger or None
        As for `record_evaluation`.
    """
    return _count(stamp_set, {"models": sorted(models), "margin": margin})
