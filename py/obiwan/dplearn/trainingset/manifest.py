"""Manifest of a training set: its format, checksum and shard entries, read and checked.

Format 2 names bands and planes.  Format 1, which had the channels of g, r, z alone, is still read.  Format 3
has packed shards among others.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from obiwan.dplearn.errors import TrainingSetError, explained
from obiwan.dplearn.files.atomic import read_json
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.shards import Shard

FORMAT = "obiwan.dplearn training set"
FORMAT_VERSION = 2
_PACKED_VERSION = 3  # which versions before packed shards refuse
MANIFEST = "manifest.json"
SOURCES = "sources.fits"
WORK = ".work"  #: scratch directory inside a training set that is being made

_FIRST = {"bands": ["g", "r", "z"], "planes": ["image", "ivar"]}  # what format 1 did not say
_AGAIN = "make the training set again with this version's create_training"


def manifest_checksum(manifest: Mapping[str, Any]) -> int:
    """CRC-32 of a manifest's content, without the entry that holds it."""
    content = {key: value for key, value in manifest.items() if key != "manifest_crc32"}
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def format_version(shards: Iterable[Shard]) -> int:
    """Format version of a training set with these shards."""
    return _PACKED_VERSION if any(shard.packed for shard in shards) else FORMAT_VERSION


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
    with explained(f"{path}: not a readable manifest", _AGAIN, TrainingSetError):
        manifest = read_json(path)
        version = _known(manifest, "format_version", (1, FORMAT_VERSION, _PACKED_VERSION))
        _known(manifest, "format", (FORMAT,))
        if manifest.get("manifest_crc32") != manifest_checksum(manifest):
            msg = "its checksum does not fit its content"
            raise ValueError(msg)
        spec = StampSpec.from_manifest(manifest if version > 1 else {**manifest, **_FIRST})
        shards = tuple(Shard(**entry) for entry in manifest["shards"])
        if len({shard.key for shard in shards}) < len(shards):
            msg = "it names a shard twice"
            raise ValueError(msg)
        return manifest, spec, shards


def _known(manifest: dict[str, Any], key: str, known: tuple[Any, ...]) -> Any:
    """An entry that must have one of the known values."""
    value = manifest.get(key)
    if value not in known:
        msg = f"{key} is {value!r}, expected {' or '.join(map(repr, known))}"
        raise ValueError(msg)
    return value
