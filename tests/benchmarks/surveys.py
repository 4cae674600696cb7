"""Mock surveys and training sets of the benchmarks: each is made once, whoever asks for it.

A survey belongs to its options, its seed and the edition of the mock, a training set to its survey and the
options of ``create_training``.  Programs that ask for the same one at the same time wait for each other, what
was interrupted is done again or goes on, and what was removed to save space is made anew with the same bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from obiwan.dplearn import __version__
from obiwan.dplearn.mock import __main__ as mock
from obiwan.dplearn.mock.config import EDITION
from obiwan.dplearn.mock.survey import RECORD
from obiwan.dplearn.trainingset.manifest import MANIFEST


def key(mock_words: Sequence[str], cut_words: Sequence[str] | None = None) -> str:
    """Name of a survey, or of a training set that is cut from one: a digest of all that decides its bytes.

    Parameters
    ----------
    mock_words : sequence of str
        Options of ``python -m obiwan.dplearn.mock``; defaults that are written out change nothing.
    cut_words : sequence of str, optional
        Options of ``python -m obiwan.dplearn.create_training``, for a training set.
    """
    options = mock.parser().parse_args(["--outdir", "unused", *mock_words])
    decides = [EDITION, asdict(mock.config_from(options)), *(cut_words or ())]
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    return f"{'survey' if cut_words is None else 'set'}_{digest}"


def survey(directory: Path, mock_words: Sequence[str]) -> Path:
    """A mock survey with these options, under ``directory``."""
    place = directory / key(mock_words)
    with _locked(place):
        if not _complete(place):
            words = ["--outdir", str(place), "--jobs", "1", "--overwrite", *mock_words]
            _run("mock", words, place)
    return place


def training_set(directory: Path, mock_words: Sequence[str], cut_words: Sequence[str] = ()) -> Path:
    """A training set with these options of ``create_training``, from the survey with those of ``mock``.

    Its directory may be removed when its stamps have been measured: they take far more space than the survey,
    from which they can be cut again.
    """
    place = directory / key(mock_words, tuple(cut_words))
    with _locked(place):
        if not (place / MANIFEST).is_file():
            fakes = survey(directory, mock_words) / "injected"
            words = ["--fake", str(fakes), "--outdir", str(place), "--jobs", "1", *cut_words]
            _run("create_training", words, place)
    return place


def version() -> str:
    """Version of a table: that of the package, the commit where there is one, and the edition of the mock."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    parts = (__version__, found.stdout.strip(), f"mock {EDITION}")
    return " ".join(part for part in parts if part)


def _complete(place: Path) -> bool:
    """Whether a survey is finished."""
    record = place / RECORD
    return record.is_file() and bool(json.loads(record.read_text())["complete"])


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Nobody else makes this meanwhile; the lock of a process that has ended is free."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(program: str, words: Sequence[str], place: Path) -> None:
    """Run a program of the package; what it says is in a file beside its output."""
    log = place.with_suffix(".log")
    with log.open("w") as stream:
        command = [sys.executable, "-m", f"obiwan.dplearn.{program}", *words]
        status = subprocess.run(command, stdout=stream, stderr=stream, env=os.environ, check=False).returncode
    if status:
        raise SystemExit(f"{program} failed, see {log}")
