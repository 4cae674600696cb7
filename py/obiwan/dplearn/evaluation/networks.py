"""Trained networks of an evaluation: loaded, their scores kept in files beside them, trained again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.evaluation.study import Request, Retraining
from obiwan.dplearn.referees import scoring
from obiwan.dplearn.referees.network import NetworkReferee, load_network_referee
from obiwan.dplearn.retraining.ablations import run_ablation
from obiwan.dplearn.retraining.runs import run_config_of
from obiwan.dplearn.retraining.sensitivity import run_sensitivity
from obiwan.dplearn.training.rundir import SCORES
from obiwan.dplearn.training.settings import RunConfig
from obiwan.dplearn.trainingset.stampset import StampSet

log = logging.getLogger(__name__)


def load_networks(paths: Sequence[Path], stamp_set: StampSet) -> tuple[NetworkReferee, ...]:
    """Load networks, each once.

    Parameters
    ----------
    paths : sequence of Path
        ``.keras`` files.
    stamp_set : StampSet
        On which they will be tested.

    Raises
    ------
    ModelError
        If a file is absent, no network for these stamps, or computes what another one does.
    """
    found: dict[str, NetworkReferee] = {}
    for path in paths:
        referee = load_network_referee(path, stamp_set)
        same = found.setdefault(referee.checksum, referee)
        if same is not referee:
            msg = f"{path}: the same network as {same.path}; name each --model once"
            raise ModelError(msg)
    return tuple(found.values())


def _files(network: Path) -> tuple[Path, Path]:
    """Where scores of a network may be: the file of its run, and one of its own beside it."""
    first = network.parent / SCORES
    return first, first.with_name(f"{first.stem}_{network.stem}{first.suffix}")


def scores_beside(referee: NetworkReferee, stamp_set: StampSet) -> scoring.Scores | None:
    """Scores of the test split from a file beside the network; None where there are none.

    Raises
    ------
    ModelError
        If there is a file that cannot be read.
    """
    for path in _files(referee.path):
        found = scoring.read_scores(path, referee.checksum, stamp_set.checksum)
        if found is not None and found.split == "test":
            log.info("%s: its scores are in %s", referee.path, path)
            return found
    return None


def keep_beside(referee: NetworkReferee, scores: scoring.Scores) -> None:
    """Write scores beside their network, if that can be done."""
    first, own = _files(referee.path)
    path = own if first.exists() else first
    try:
        scoring.write_scores(path, scores)
    except OSError as error:
        log.warning("warning: %s: the scores are not kept (%s)", path, error)


def retrain_networks(
    request: Request, stamp_set: StampSet, model: Path, outdir: Path, *, overwrite: bool
) -> Retraining:
    """Train a network again for ablations and planted differences; finished ones in `outdir` are read.

    Parameters
    ----------
    request : Request
    stamp_set : StampSet
    model : Path
        Whose architecture and settings are used.
    outdir : Path
    overwrite : bool
        Replace what is there of another network or training set; else that is an error.
    """
    if not request.ablations and not request.planted:
        return (), ()
    config = run_config_of(model)
    given: tuple[StampSet, RunConfig, Path] = (stamp_set, config, outdir)
    return (
        tuple(run_ablation(name, *given, overwrite=overwrite) for name in request.ablations),
        tuple(run_sensitivity(one, *given, overwrite=overwrite) for one in request.planted),
    )
