"""Whose an output directory of training is: what a run writes there, and which run it is of."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.files.atomic import read_json, write_json
from obiwan.dplearn.files.lease import revoke_leases
from obiwan.dplearn.files.outdir import check_writable

RUN, RESULT, SCORES = "run.json", "result.json", "scores_test.fits"
BEST, LAST = "best.keras", "last.keras"
HISTORY, CHECKPOINTS, TENSORBOARD = "history.csv", "checkpoints", "tensorboard"
SCRATCH = ".scratch"  # while a run goes on; see `takeover`
OURS = (RUN, RESULT, BEST, LAST, SCORES, HISTORY, CHECKPOINTS, TENSORBOARD)  # all that a run writes

log = logging.getLogger(__name__)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two nested configurations, as ``key: old, now new``."""
    found = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} was {a}, is {b}")
    return found


def finished_lines(outdir: Path) -> list[str] | None:
    """The result that a finished run has printed; None where there is none, or none that can be read.

    Of the latter a warning tells: whoever goes on from the last checkpoint makes it again.
    """
    path = outdir / RESULT
    if not path.is_file():
        return None
    try:
        lines = read_json(path)["lines"]
        if isinstance(lines, list) and all(isinstance(line, str) for line in lines):
            return lines
    except (ValueError, KeyError):
        pass
    log.warning("%s: not a readable result; it is made again from the last checkpoint", path)
    return None


def claim_outdir(outdir: Path, identity: dict[str, Any], *, overwrite: bool) -> None:
    """Make an output directory this run's own, or find that it already is.

    Raises
    ------
    ModelError
        If another run is in it, or something else, or it cannot be written.
    """
    path = outdir / RUN
    if overwrite or not (outdir / RESULT).is_file():  # a finished run only says its result again
        check_writable(outdir, ModelError)
    if overwrite and path.is_file():
        revoke_leases(outdir / SCRATCH)  # before its files are removed, lest it write others
        for name in (*OURS[1:], RUN):  # the claim last, so that an interruption can be made good
            target = outdir / name
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    if path.is_file():
        try:
            differing = _differences(read_json(path), identity)
        except ValueError:
            differing = [f"{RUN} is not readable"]
        if differing:
            msg = f"{outdir}: holds another run ({'; '.join(differing)}); use another --outdir or --overwrite"
            raise ModelError(msg)
        return
    present = [name for name in OURS if (outdir / name).exists()]
    if present:
        msg = f"{outdir}: holds {present[0]} of something else; use another --outdir"
        raise ModelError(msg)
    outdir.mkdir(parents=True, exist_ok=True)
    write_json(path, identity)
