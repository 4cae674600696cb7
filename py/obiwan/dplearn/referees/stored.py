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
from obiwan.dplearn.referees.measured import METHOD
from obiwan.dplearn.referees.numbers import MeasuredReferee
from obiwan.dplearn.referees.residual import ResidualReferee
from obiwan.dplearn.referees.scores import ScoresReferee
from obiwan.dplearn.referees.trees import TreesReferee
from obiwan.dplearn.running.software import software
from obiwan.dplearn.stampspec import Array, StampSpec

FORMAT = "obiwan.dplearn referee"
FORMAT_VERSION = 2  #: to be raised, as `METHOD`, when a change makes kept referees others
HEADER = "header"  #: name of the array of JSON
_AGAIN = "remove it and start evaluate again"
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
        **_made_by(),
        "kind": referee.kind,
        "checksum": referee.checksum,
        "learnt": referee.learnt,
        "prior": list(referee.prior),
        "spec": referee.spec.to_manifest(),
        "settings": dict(settings),
        "versions": software(),
    }
    arrays: dict[str, Any] = {HEADER: np.frombuffer(json.dumps(header).encode(), np.uint8), **referee.content}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as beside:
        np.savez(beside, **arrays)


def kept_referee(path: Path, settings: Mapping[str, Any]) -> MeasuredReferee | None:
    """The referee of a file; None if that is not there, or is of other settings or another version.

    Versions are those of this package, of the file's format and of the way of measuring.

    Raises
    ------
    ModelError
        If the file is damaged.
    """
    if not path.is_file():
        return None
    header, content = _read(path)
    wanted = {**_made_by(), "settings": dict(settings)}
    if any(header.get(name) != value for name, value in wanted.items()):
        return None
    return _referee(path, header, content)


def read_referee(path: Path) -> tuple[MeasuredReferee, dict[str, Any]]:
    """Read a referee and its header.

    Raises
    ------
    ModelError
        If there is no such file, it cannot be read, is of another format or way of measuring, or is not what
        its checksum says.
    """
    if not path.is_file():
        msg = f"{path}: no such file; a referee is written by evaluate"
        raise ModelError(msg)
    header, content = _read(path)
    for name in ("format_version", "method"):
        if header.get(name) != (own := _made_by()[name]):
            msg = f"{path}: {name} {header.get(name)}, this version of the package has {own}; "
            raise ModelError(msg + "start evaluate again, which trains it anew")
    return _referee(path, header, content), header


def _made_by() -> dict[str, Any]:
    """What of a header tells whether this version of the package would train the same referee."""
    return {"format_version": FORMAT_VERSION, "method": METHOD, "package_version": __version__}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """The header of a file, of whatever version, and its arrays."""
    with explained(f"{path}: not a readable referee", _AGAIN, ModelError):
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        header: dict[str, Any] = json.loads(content.pop(HEADER).tobytes())
        if header["format"] != FORMAT:
            msg = f"format {header['format']!r}, not {FORMAT!r}"
            raise ValueError(msg)
    return header, content


def _referee(path: Path, header: Mapping[str, Any], content: Mapping[str, Array]) -> MeasuredReferee:
    """The referee of a header and arrays."""
    with explained(f"{path}: not a readable referee", _AGAIN, ModelError):
        spec, prior = StampSpec.from_manifest(header["spec"]), tuple(header["prior"])
        referee = KINDS[header["kind"]].of(spec, content, prior=prior, learnt=bool(header["learnt"]))
    if referee.checksum != header["checksum"]:
        msg = f"{path}: the file is damaged (its checksum differs); {_AGAIN}"
        raise ModelError(msg)
    return referee
