"""Output directory of ``create_training``: refusal, resumption, manifest.

``.work/plan.json`` says what is being made; a receipt per group says what is written; the manifest,
written last, says that all is.  Whatever moment a run is stopped at, the next one finds one of these
states and ends with the same bytes.  Of two runs at a time the later one goes on (`outdir`).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from obiwan import dplearn
from obiwan.dplearn.cutting.extraction import GroupTask, Receipt
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.files.atomic import file_crc32, read_json, write_json
from obiwan.dplearn.files.outdir import Others, OutputDirectory, State, holding_lease
from obiwan.dplearn.planning.plan import Plan
from obiwan.dplearn.stampspec import SPLITS
from obiwan.dplearn.survey.layouts import Root
from obiwan.dplearn.trainingset.examples import check_sources, write_sources
from obiwan.dplearn.trainingset.exposures import CHECKSUM, EXPOSURES, write_exposures
from obiwan.dplearn.trainingset.manifest import (
    FORMAT,
    MANIFEST,
    SOURCES,
    WORK,
    format_version,
    manifest_checksum,
)
from obiwan.dplearn.trainingset.shards import Shard
from obiwan.dplearn.trainingset.stampset import open_training_set

_OURS = re.compile(
    rf"[xy](?:{'|'.join(SPLITS)})_\d+\.np[yz]|{re.escape(MANIFEST)}(?:\.part)?|{re.escape(SOURCES)}|"
    rf"{re.escape(EXPOSURES)}|{re.escape(WORK)}"
)
_REMEDY = "choose another --outdir, or give --overwrite"


def describe(config: dict[str, Any], roots: Sequence[Root]) -> dict[str, Any]:
    """Request of a training set, as it is stored and compared: options and trees, no paths."""
    return {
        "config": config,
        "roots": [
            {
                **{"index": one.index, "name": one.name},
                **{"layout": one.layout.name, "injected": one.layout.injected},
                **({"as_real": True} if one.as_real else {}),
            }
            for one in roots
        ],
    }


def check_place(directory: Path, roots: Sequence[Root]) -> None:
    """Refuse an output directory inside an input tree.

    Raises
    ------
    TrainingSetError
        If it lies in a tree that is read.
    """
    for root in roots:
        if directory.resolve().is_relative_to(root.path.resolve()):
            msg = f"{directory}: lies in {root.path}, a tree that is read; choose an --outdir outside of it"
            raise TrainingSetError(msg)


def training_directory(directory: Path, *more: str) -> OutputDirectory:
    """Output directory of ``create_training``; a request is `describe`'s, with `more` keys of a plan."""
    keys = ("config", "roots", *more)
    return OutputDirectory(
        directory,
        "training set",
        TrainingSetError,
        owned=_OURS,
        records=(MANIFEST, f"{WORK}/plan.json"),
        final=MANIFEST,
        scratch=f"{WORK}/running",
        others=Others.WITH_RECORD,
        identify=lambda content: {key: content[key] for key in keys if key in content},
    )


def check_outdir(directory: Path, request: dict[str, Any], *, overwrite: bool) -> bool:
    """Refuse an output directory that this request may not use, before any work.

    Returns
    -------
    bool
        Whether it already holds a finished training set of this request (`confirm_finished` then
        compares the plan and the files).

    Raises
    ------
    TrainingSetError
        If it holds something else, or cannot be written.
    """
    state = training_directory(directory).check(request, overwrite=overwrite)
    finished = state is State.FINISHED and not overwrite
    if finished:
        clear_work(directory)
    return finished


def clear_work(directory: Path) -> None:
    """Remove what lies beside a finished training set: its run may have been killed before it could."""
    shutil.rmtree(directory / WORK, ignore_errors=True)


def confirm_finished(directory: Path, planned: Plan) -> None:
    """Check that a finished training set is what today's inputs give, and that its files are there.

    Raises
    ------
    TrainingSetError
        If the inputs have changed, a file is missing or a shard too small, or the source table was changed.
    """
    training_set = open_training_set(directory)
    if {key: training_set.manifest.get(key) for key in planned.identity} != planned.identity:
        msg = f"{directory}: holds a training set made from other inputs than these; {_REMEDY}"
        raise TrainingSetError(msg)
    if not (directory / SOURCES).is_file():
        msg = f"{directory / SOURCES}: missing; give --overwrite to make the training set again"
        raise TrainingSetError(msg)
    check_sources(directory, training_set.manifest)
    training_set.read_exposures()


def begin(directory: Path, request: dict[str, Any], planned: Plan, *, overwrite: bool) -> Path | None:
    """Take over the directory and write its plan, or check that an earlier one is the same.

    Returns
    -------
    Path or None
        The scratch directory of this run; None where another run has finished this training set since
        `check_outdir` looked.

    Raises
    ------
    TrainingSetError
        If another run has finished a training set of another request meanwhile, or the inputs have changed
        since the interrupted run made its plan.
    """
    output = training_directory(directory, "rows_crc32")
    scratch = output.begin({**request, "rows_crc32": planned.crc32}, overwrite=overwrite)
    if scratch is None:
        clear_work(directory)
    return scratch


def finished_receipt(task: GroupTask) -> Receipt | None:
    """Receipt of a group that an earlier run finished; None if its rows, coadds or shards differ."""
    if not task.receipt.is_file():
        return None
    try:
        content = read_json(task.receipt)
        receipt = Receipt(
            tuple(Shard(**entry) for entry in content["shards"]),
            content["not_finite"],
            content["negative_invvar"],
        )
        if content["coadds_crc32"] != task.coadds or not _is_receipt_of(receipt, task):
            return None
        whole = all(
            file_crc32(task.directory / name) == expected
            for shard in receipt.shards
            for name, expected in shard.files.items()
        )
        return receipt if whole else None
    except (ValueError, KeyError, TypeError, OSError):
        return None


def _is_receipt_of(receipt: Receipt, task: GroupTask) -> bool:
    """Whether a receipt counts pixels, and has the shards of a task with its examples of either class."""
    said = [(one.split, one.number, one.real, one.fake, one.rows, one.packed) for one in receipt.shards]
    split, wanted = task.rows["split"][0].decode("ascii"), []
    for number in np.unique(task.rows["shard"]):
        label = task.rows["label"][task.rows["shard"] == number]
        real, fake = (int(np.count_nonzero(label == value)) for value in task.spec.label_of.values())
        wanted.append((split, int(number), real, fake, len(label), task.packed))
    counts = (receipt.not_finite, receipt.negative_invvar)
    return said == wanted and all(type(n) is int and n >= 0 for n in counts)


def _written_shards(directory: Path, receipts: Sequence[Receipt], examples: int) -> list[Shard]:
    """Shards of all receipts, by split and number; an error if they are not those of all the examples."""
    shards = [shard for receipt in receipts for shard in receipt.shards]
    made = sum(shard.rows for shard in shards)
    if made != examples:  # the manifest vouches for all of them
        msg = f"{directory}: {made} examples were written and {examples} planned; give --overwrite"
        raise TrainingSetError(msg)
    _refuse_lost(directory, shards)
    return sorted(shards, key=lambda shard: (SPLITS.index(shard.split), shard.number))


def _refuse_lost(directory: Path, shards: Sequence[Shard]) -> None:
    """Refuse to write a manifest of shards that somebody has removed meanwhile."""
    lost = {name for shard in shards for name in shard.files} - {
        entry.name for entry in os.scandir(directory)
    }
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        msg = (
            f"{directory / min(lost)}{more}: written by this run, and no longer there; "
            "start again to make what is missing"
        )
        raise TrainingSetError(msg)


def finish(
    directory: Path,
    scratch: Path,
    request: dict[str, Any],
    planned: Plan,
    receipts: Sequence[Receipt],
    doubted: Sequence[dict[str, Any]] = (),
    drawn: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Write the source table and, last, the manifest; then remove the scratch directory.

    Parameters
    ----------
    directory, scratch : Path
    request : dict
    planned : Plan
    receipts : sequence of Receipt
    doubted : sequence of dict
        Injection trees that reals were taken from against the evidence, for the manifest.
    drawn : sequence of dict
        How `obiwan.dplearn.inject` drew the objects of injection trees.

    Returns
    -------
    dict
        The manifest.
    """
    with holding_lease(scratch, directory):
        tables = _write_tables(directory, scratch, planned)
    shards = _written_shards(directory, receipts, len(planned))
    manifest = {
        "format": FORMAT,
        "format_version": format_version(shards),
        "package_version": dplearn.__version__,
        **request,
        **planned.identity,
        **planned.spec.to_manifest(),
        "units": {"image": "nanomaggies", "ivar": "1/nanomaggies^2"},
        "seed": request["config"]["seed"],
        "counts": {name: _counts(name, shards, planned) for name in SPLITS},
        "cut_flow": {
            name: [[cut, number] for cut, number in flow.items()] for name, flow in planned.flows.items()
        },
        "writers": {
            name: [asdict(writer) for writer in sorted(some)] for name, some in planned.writers.items()
        },
        "dithered_files": [asdict(file) for file in planned.dithered],
        "damaged_bricks": list(planned.damaged),
        "partial_fits": doubted,
        **({"drawn": list(drawn)} if drawn else {}),
        "cleaned_pixels": {
            "not_finite": sum(receipt.not_finite for receipt in receipts),
            "negative_invvar": sum(receipt.negative_invvar for receipt in receipts),
        },
        **tables,
        "shards": [shard.to_manifest() for shard in shards],
    }
    return write_manifest(directory, scratch, manifest)


def write_manifest(directory: Path, scratch: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest with its checksum, and remove the scratch directory; returns the manifest."""
    manifest = {**content, "manifest_crc32": manifest_checksum(content)}
    with holding_lease(scratch, directory):
        write_json(directory / MANIFEST, manifest, scratch)
    clear_work(directory)
    return manifest


def _write_tables(directory: Path, scratch: Path, planned: Plan) -> dict[str, Any]:
    """Write the tables of examples and, where they are known, exposures; returns entries of the manifest."""
    write_sources(directory / SOURCES, scratch, planned.spec, planned)
    (directory / EXPOSURES).unlink(missing_ok=True)  # an earlier run's, whose inputs may have been others
    exposures, cells = planned.exposures(), planned.cells
    entries: dict[str, Any] = {"sources_crc32": file_crc32(directory / SOURCES)}
    if cells:
        entries["cells"] = cells
    if len(exposures):
        entries[CHECKSUM] = write_exposures(directory / EXPOSURES, scratch, exposures)
    return entries


def _counts(split: str, shards: Sequence[Shard], planned: Plan) -> dict[str, int]:
    """Examples of each class in a split, and its bricks."""
    own = [(shard.real, shard.fake) for shard in shards if shard.split == split]
    real, fake = map(sum, zip(*own, strict=True)) if own else (0, 0)
    return {"real": real, "fake": fake, "bricks": planned.bricks(SPLITS.index(split))}
