"""Conversion of training sets between npy and packed shards: the same set, bit for bit, in another form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from obiwan.dplearn.cutting.grids import Key, row_keys, shard_patches
from obiwan.dplearn.cutting.workspace import clear_work, training_directory, write_manifest
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.files.atomic import copy_file, file_crc32
from obiwan.dplearn.files.npy import load_npz
from obiwan.dplearn.files.outdir import State, holding_lease
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.layouts import BrickRun, Root, find_runs, identify
from obiwan.dplearn.trainingset.exposures import EXPOSURES
from obiwan.dplearn.trainingset.manifest import SOURCES, format_version
from obiwan.dplearn.trainingset.packed import no_patches
from obiwan.dplearn.trainingset.shards import NPY, PACKED, Shard, read_shard, write_shard
from obiwan.dplearn.trainingset.stampset import StampSet, check_outside

Runs = Mapping[Key, BrickRun]


@dataclass(frozen=True)
class ConversionTask:
    """Task of a conversion: one shard, and where it goes.

    Attributes
    ----------
    source, directory, scratch : Path
        The set that is read, the one that is made, and where its files are written first.
    spec : StampSpec
    shard : Shard
        As the set that is read has it.
    packed : bool
        The form that it gets.
    rows : ndarray of `example_dtype`, optional
        Its examples, where their coadds are known.
    runs : mapping
        Files of these coadds.
    """

    source: Path
    directory: Path
    scratch: Path
    spec: StampSpec
    shard: Shard
    packed: bool
    rows: Array | None
    runs: Runs


class Conversion(Sequence[ConversionTask]):
    """Tasks of a conversion, each made when it is asked for; parameters as of `ConversionTask`."""

    def __init__(self, source: StampSet, directory: Path, scratch: Path, form: str, runs: Runs) -> None:
        self._place = (source.directory, directory, scratch, source.spec)
        self._source, self._packed, self._runs = source, form == PACKED, runs
        self._unknown: dict[int, tuple[int, frozenset[int]]] = {}

    def __len__(self) -> int:
        return len(self._source.shards)

    def __getitem__(self, number: Any) -> Any:
        """Task of this number."""
        shard = self._source.shards[number]
        rows, runs = None, {}
        if self._packed and self._runs:
            rows = self._source.shard_rows(shard)
            keys = row_keys(rows)
            runs = {key: self._runs[key] for key in set(keys) if key in self._runs}
            others = [key[0] for key in keys if key not in runs]
            self._unknown[number] = len(others), frozenset(others)
        return ConversionTask(*self._place, shard, self._packed, rows, runs)

    def size(self, number: int) -> int:
        """Number of examples of a task."""
        return self._source.shards[number].rows

    def unknown(self) -> tuple[int, set[int]]:
        """Number of stamps whose coadds are not known, of the tasks so far, and their roots."""
        found = self._unknown.values()
        return sum(count for count, _ in found), {root for _, roots in found for root in roots}


def known_runs(manifest: Mapping[str, Any], trees: Sequence[Path]) -> dict[Key, BrickRun]:
    """Files of the coadds that a set was cut from.

    Parameters
    ----------
    manifest : mapping
        Of the set, which names its trees.
    trees : sequence of Path
        Injection outputs and data releases; those that the manifest does not name are left out.

    Raises
    ------
    LayoutError
        If a directory is none of the known trees.
    """
    found: dict[Key, BrickRun] = {}
    for path in trees:
        for tree, layout in identify(path):
            for one in manifest.get("roots", ()):
                root = Root(int(one["index"]), tree, layout)
                if (root.name, layout.name) == (one["name"], one["layout"]):
                    found |= {(root.index, run.brick, run.run): run for run in find_runs(root)}
    return found


def without_patches(stamps: StampSet) -> bool:
    """Whether the first packed shard of a set has no stamp whose coadd is known."""
    packed = ((stamps.directory / one.x_name, one.packed_crc32) for one in stamps.shards)
    first = next((load_npz(path, crc32) for path, crc32 in packed if crc32 is not None), None)
    return first is not None and not len(first["patches"])


def convert_shard(task: ConversionTask) -> Shard:
    """Write one shard in its new form and read it back; one that is already there and sound is kept.

    Raises
    ------
    TrainingSetError
        If the shard that is read is damaged, or what was written does not give the same stamps.
    """
    patches = None if task.rows is None else shard_patches(task.rows, task.runs, task.spec)
    made = _already(task, patches)
    if made is not None:
        return made
    if task.shard.packed == task.packed and patches is None:
        return _copied(task)
    x, y = read_shard(task.source, task.spec, task.shard)
    if task.packed and patches is None:
        patches = no_patches(task.spec)
    with holding_lease(task.scratch, task.directory):
        made = write_shard(task.directory, task.spec, *task.shard.key, x, y, task.scratch, patches)
    read_shard(task.directory, task.spec, made)
    if made.content != task.shard.content:
        msg = f"{task.directory / made.x_name}: other stamps than those of {task.source}; convert it again"
        raise TrainingSetError(msg)
    return made


def _copied(task: ConversionTask) -> Shard:
    """A shard that has the form already."""
    for name in task.shard.files:
        with holding_lease(task.scratch, task.directory):
            copy_file(task.source / name, task.directory / name, task.scratch)
    read_shard(task.directory, task.spec, task.shard)
    return task.shard


def _already(task: ConversionTask, patches: Array | None) -> Shard | None:
    """The shard that an earlier run has written; None where there is none, or it is damaged or another."""
    wanted = replace(task.shard, packed_crc32=0 if task.packed else None)
    try:
        if task.packed:
            path = task.directory / wanted.x_name
            wanted = replace(wanted, packed_crc32=(crc32 := file_crc32(path)))
            if patches is not None and patches.tobytes() != load_npz(path, crc32)["patches"].tobytes():
                return None  # packed when fewer coadds were known
        read_shard(task.directory, task.spec, wanted)
    except (TrainingSetError, OSError, KeyError):
        return None
    return wanted


def begin_conversion(source: StampSet, directory: Path, form: str, *, overwrite: bool) -> Path | None:
    """Take over the output directory of a conversion.

    Returns
    -------
    Path or None
        The scratch directory; None where the set is there already.

    Raises
    ------
    TrainingSetError
        If it holds something else, lies in the set that is read, or cannot be written.
    """
    check_outside(directory, source)
    request = _request(source.manifest, form)
    output = training_directory(directory, "rows_crc32")
    finished = output.check(request, overwrite=overwrite) is State.FINISHED and not overwrite
    scratch = None if finished else output.begin(request, overwrite=overwrite)
    if scratch is None:
        clear_work(directory)
    return scratch


def _request(manifest: Mapping[str, Any], form: str) -> dict[str, Any]:
    """What `create_training` would have been asked for a set in this form."""
    config = {key: value for key, value in manifest.get("config", {}).items() if key != "shards"}
    config = config if form == NPY else {"shards": form, **config}
    kept = {key: manifest[key] for key in ("roots", "rows_crc32") if key in manifest}
    return {"config": config, **kept}


def finish_conversion(
    source: StampSet, directory: Path, scratch: Path, form: str, shards: Sequence[Shard]
) -> None:
    """Copy the tables and, last, write the manifest; then remove the scratch directory."""
    for name in (SOURCES, EXPOSURES):
        if (source.directory / name).is_file():
            with holding_lease(scratch, directory):
                copy_file(source.directory / name, directory / name, scratch)
    manifest = {
        **source.manifest,
        **_request(source.manifest, form),
        "format_version": format_version(shards),
        "shards": [shard.to_manifest() for shard in shards],
    }
    write_manifest(directory, scratch, manifest)
