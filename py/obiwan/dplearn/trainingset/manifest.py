"""Manifest of a training set: its format, checksum and shard entries, read and checked.

Format 2 names bands and planes.  Format 1, which had the channels of g, r, z alone, is still read.
"""

from __future__ import annotations

import json
import reprlib
import zlib
from pathlib import Path
from typing import Any

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.files.atomic import read_json
from obiwan.dplearn.stampspec import SPLITS, StampSpec
from obiwan.dplearn.trainingset.shards import Shard

FORMAT = "obiwan.dplearn training set"
FORMAT_VERSION = 2
MANIFEST = "manifest.json"
SOURCES = "sources.fits"
WORK = ".work"  #: scratch directory inside a training set that is being made

_FIRST = {"bands": ["g", "r", "z"], "planes": ["image", "ivar"]}  # what format 1 did not say
_AGAIN = "make the training set again with this version's create_training"


def manifest_checksum(manifest: dict[str, Any]) -> int:
    """CRC-32 of a manifest's content, without the entry that holds it."""
    content = {key: value for key, value in manifest.items() if key != "manifest_crc32"}
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def read_manifest(directory: Path) -> tuple[dict[str, Any], StampSpec, tuple[Shard, ...]]:
    """Read and check the manifest of a training set.

    Returns
    -------
    manifest : dict
    spec : StampSpec
    shards : tuple of Shard
        In the order train, val, test, then number.

    Raises
    ------
    TrainingSetError
        If there is no finished training set of a known format.
    """
    path = directory / MANIFEST
    if not directory.is_dir():
        msg = f"{directory}: no such directory; make one with python -m obiwan.dplearn.create_training"
        raise TrainingSetError(msg)
    if not path.is_file():
        unfinished = (directory / WORK).is_dir()
        state = "is not finished: start create_training again" if unfinished else "holds no training set"
        msg = f"{directory}: {state} ({MANIFEST} is missing)"
        raise TrainingSetError(msg)
    try:
        manifest = read_json(path)
        if manifest.get("manifest_crc32") != manifest_checksum(manifest):
            _refuse_other_format(path, manifest)
            msg = "its checksum does not fit its content"
            raise ValueError(msg)
        spec = _spec(path, manifest)
        shards = tuple(Shard(**entry) for entry in manifest["shards"])
        if len({(shard.split, shard.number) for shard in shards}) < len(shards):
            msg = "it names a shard twice"
            raise ValueError(msg)
        _check_provenance(manifest, spec)
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path}: not a readable manifest ({error}); make the training set again"
        raise TrainingSetError(msg) from None
    for shard in shards:
        if shard.split not in SPLITS or not shard.adds_up:
            msg = f"{path}: entry {reprlib.repr(shard)} makes no sense; make the training set again"
            raise TrainingSetError(msg)
    return manifest, spec, shards


def _refuse_other_format(path: Path, manifest: dict[str, Any]) -> None:
    """Raise `TrainingSetError` for a file of another format or a newer version."""
    for key, known in (("format", (FORMAT,)), ("format_version", (1, FORMAT_VERSION))):
        value = manifest.get(key)
        if type(value) is not type(known[0]) or value not in known:
            expected = " or ".join(map(repr, known))
            msg = f"{path}: {key} is {reprlib.repr(value)}, expected {expected}; {_AGAIN}"
            raise TrainingSetError(msg)


def _spec(path: Path, manifest: dict[str, Any]) -> StampSpec:
    """The stamp specification; that of format 1 is completed."""
    _refuse_other_format(path, manifest)
    entries = manifest if manifest["format_version"] == FORMAT_VERSION else {**manifest, **_FIRST}
    try:
        return StampSpec.from_manifest(entries)
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path}: stamps of an unknown kind ({error}); {_AGAIN}"
        raise TrainingSetError(msg) from None


def _check_provenance(manifest: dict[str, Any], spec: StampSpec) -> None:
    """Raise `ValueError` unless configuration, roots and cut flow are what a report reads of them."""
    flow = manifest.get("cut_flow", {})
    right = {
        "config": isinstance(manifest.get("config", {}), dict),
        "roots": isinstance(roots := manifest.get("roots", []), list) and all(map(_is_root, roots)),
        "cut_flow": isinstance(flow, dict) and all(_is_flow(flow.get(name, [])) for name in spec.labels),
    }
    wrong = [name for name, is_right in right.items() if not is_right]
    if wrong:
        msg = f"its {wrong[0]} is {reprlib.repr(manifest[wrong[0]])}"
        raise ValueError(msg)


def _is_root(root: Any) -> bool:
    """Whether this is an entry of an input tree: its number and its texts."""
    return (
        isinstance(root, dict)
        and type(root.get("index")) is int
        and all(isinstance(root.get(key, ""), str) for key in ("name", "layout"))
    )


def _is_flow(flow: Any) -> bool:
    """Whether this is a cut flow of one class: cuts, and how many examples were left after each."""
    return isinstance(flow, list) and all(
        isinstance(cut, list) and list(map(type, cut)) == [str, int] for cut in flow
    )
