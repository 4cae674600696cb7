"""Files of referees that rest on numbers: arrays and JSON in one npz file, and nothing pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn import __version__
from obiwan.dplearn.errors import ModelError, explained
from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.referees.numbers import MeasuredReferee
from obiwan.dplearn.referees.residual import ResidualReferee
from obiwan.dplearn.referees.scores import ScoresReferee
from obiwan.dplearn.referees.trees import TreesReferee
from obiwan.dplearn.stampspec import StampSpec

FORMAT = "obiwan.dplearn referee"
FORMAT_VERSION = 1
HEADER = "header"  #: name of the array of JSON
KINDS: dict[str, type[MeasuredReferee]] = {
    kind.kind: kind for kind in (ScoresReferee, TreesReferee, ResidualReferee)
}


def file_name(kind: str) -> str:
    """Name of the file of a kind of referee."""
    return f"referee_{kind}.npz"


def write_referee(path: Path, referee: MeasuredReferee, settings: Mapping[str, Any]) -> None:
    """Write a referee, atomically.

    Parameters
    ----------
    path : Path
    referee : MeasuredReferee
    settings : mapping
        What it was trained with and on, for JSON.
    """
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": referee.kind,
        "checksum": referee.checksum,
        "learnt": referee.learnt,
        "prior": list(referee.prior),
        "spec": referee.spec.to_manifest(),
        "settings": dict(settings),
        "version": __version__,
    }
    arrays: dict[str, Any] = {HEADER: np.frombuffer(json.dumps(header).encode(), np.uint8), **referee.content}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as beside:
        np.savez(beside, **arrays)


def read_referee(path: Path) -> tuple[MeasuredReferee, dict[str, Any]]:
    """Read a referee and its header.

    Raises
    ------
    ModelError
        If there is no such file, it cannot be read, is of another format, or is not what its checksum says.
    """
    if not path.is_file():
        msg = f"{path}: no such file; a referee is written by evaluate"
        raise ModelError(msg)
    again = "remove it and start evaluate again"
    with explained(f"{path}: not a readable referee", again, ModelError):
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        header: dict[str, Any] = json.loads(content.pop(HEADER).tobytes())
        if (header["format"], header["format_version"]) != (FORMAT, FORMAT_VERSION):
            msg = f"format {header['format']!r} {header['format_version']}, not {FORMAT!r} {FORMAT_VERSION}"
            raise ValueError(msg)
        spec = StampSpec.from_manifest(header["spec"])
        prior = tuple(header.get("prior", spec.columns("psfsize")))  # all, before it was written
        referee = KINDS[header["kind"]].of(spec, content, prior=prior, learnt=bool(header["learnt"]))
    if referee.checksum != header["checksum"]:
        msg = f"{path}: the file is damaged (its checksum differs); {again}"
        raise ModelError(msg)
    return referee, header
