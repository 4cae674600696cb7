"""Scores of networks and of the panel: checked, recorded in the test-set log, aligned with the rows.

Scores of a referee that has a file, as a network has, are kept in a file beside it and read from there.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.referees import scoring
from obiwan.dplearn.referees.jury import NETWORK, Judgement, Member
from obiwan.dplearn.referees.network import NetworkReferee, load_network_referee
from obiwan.dplearn.referees.protocol import Referee
from obiwan.dplearn.referees.testlog import Ledger, record_evaluation
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.training.rundir import SCORES
from obiwan.dplearn.trainingset.clusters import Clusters, factorised
from obiwan.dplearn.trainingset.stampset import StampSet
from obiwan.dplearn.twosample.ranks import numbered
from obiwan.dplearn.twosample.summary import LEAST_CLUSTERS

ALIKE = 0.5  #: correlation of the weights of two networks above which they have the same first ones

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelInfo:
    """Referee whose score is part of the one that is tested.

    Attributes
    ----------
    name : str
        Last two parts of its path.
    checksum : str
        Of what it computes.
    arch : str
        Architecture.
    learnt : bool
        Whether its loss ever left that of a constant answer.
    trained_on : str
        Checksum of the training set that it was trained on; empty where that is not known.
    settings : mapping
        Epochs, batch, learning rate and seed, as far as they are known.
    augmented : bool
        Whether its training examples were flipped and turned; False where that is not known.
    weight : float
        Of its log odds in a panel; NaN where scores are averaged.
    """

    name: str
    checksum: str
    arch: str
    learnt: bool
    trained_on: str = ""
    settings: Mapping[str, float] = field(default_factory=dict)
    augmented: bool = False
    weight: float = math.nan


@dataclass(frozen=True)
class Scored:
    """Test examples as some referees scored them.

    Attributes
    ----------
    rows : structured ndarray, shape (n,)
        What is known of each example.
    singles : ndarray, shape (models, n)
        P(fake) of each referee.
    val_labels, val_scores : ndarray, shape (m,)
        Labels and combined score of the validation split.
    models : tuple of ModelInfo
    panel : ndarray, shape (n,), or None
        The score of a panel; None where the score is the mean.
    checksum : str
        Of the panel; empty without one.
    ledger : Ledger or None
        Who has seen this test split; None where that could not be counted.
    grouped : Clusters or None
        Which of them are not independent; None where bricks are all that is known.
    """

    rows: Array
    singles: Array
    val_labels: Array
    val_scores: Array
    models: tuple[ModelInfo, ...]
    panel: Array | None = None
    checksum: str = ""
    ledger: Ledger | None = None
    grouped: Clusters | None = None

    @property
    def labels(self) -> Array:
        """Real = 0, fake = 1, shape (n,)."""
        return np.asarray(self.rows["label"])

    @cached_property
    def _bricks(self) -> tuple[Array, Array]:
        return factorised(self.rows["brick"])

    @property
    def brick_names(self) -> Array:
        """Names of the bricks, sorted."""
        return self._bricks[0]

    @property
    def bricks(self) -> Array:
        """Brick of each example, shape (n,): its position in `brick_names`."""
        return self._bricks[1]

    @property
    def clusters(self) -> Array:
        """Numbers of what intervals and swaps of labels rest on, shape (n,): bricks, or groups of bricks."""
        return self.bricks if self.grouped is None else self.grouped.numbers

    @cached_property
    def scores(self) -> Array:
        """The score that is tested: the panel's, else the mean; declared before any was looked at."""
        return np.asarray(self.singles.mean(0, dtype=np.float64)) if self.panel is None else self.panel

    @cached_property
    def ranks(self) -> Array:
        """Dense ranks of `scores`, shape (n,): what rests on ranks takes them, and sorts nothing."""
        return numbered(self.scores)

    @property
    def single_ranks(self) -> tuple[Array, ...]:
        """The same of each referee; of one alone those of the mean."""
        alone = self.panel is None and len(self.singles) == 1
        return (self.ranks,) if alone else tuple(map(numbered, self.singles))

    def take(self, chosen: Array) -> Scored:
        """The same of some test examples."""
        if len(chosen) == len(self.rows):
            return self
        return replace(
            self,
            rows=self.rows[chosen],
            singles=self.singles[:, chosen],
            panel=None if self.panel is None else self.panel[chosen],
            grouped=None if self.grouped is None else self.grouped.take(chosen),
        )

    @property
    def combined(self) -> str:
        """Name of the score that is tested: ``panel``, else ``network`` or ``mean score``."""
        return "panel" if self.panel is not None else "network" if len(self.models) == 1 else "mean score"

    @property
    def referees(self) -> tuple[str, ...]:
        """Kinds of referee whose scores are combined."""
        return (NETWORK,) if self.panel is None else tuple(model.name for model in self.models)

    @property
    def learnt(self) -> bool:
        """Whether the combined score is worth a verdict.

        Of a panel one member must have learnt, for the others then have no weight; of an average more than
        half.
        """
        learnt = sum(model.learnt for model in self.models)
        return learnt > 0 if self.panel is not None else 2 * learnt > len(self.models)


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
        If a file is absent, no network for these stamps, computes what another one does, or is of its run.
    """
    found: dict[str, NetworkReferee] = {}
    for path in paths:
        referee = load_network_referee(path, stamp_set)
        same = found.setdefault(referee.checksum, referee)
        if same is not referee:
            msg = f"{path}: the same network as {same.path}; name each --model once"
            raise ModelError(msg)
    for one, other in combinations(found.values(), 2):
        if _began_alike(one, other):
            msg = (
                f"{other.path}: of the same run as {one.path}, or of one with the same seed: no independent "
                "networks; give one network of each run, trained with different --seed"
            )
            raise ModelError(msg)
    return tuple(found.values())


def _began_alike(one: NetworkReferee, other: NetworkReferee) -> bool:
    """Whether two networks have the same first weights, as best and last of a run have.

    Weights of independent networks do not correlate, however similar what they compute.
    """
    if one.kernels.shape != other.kernels.shape or not (one.kernels.any() and other.kernels.any()):
        return False
    return bool(np.corrcoef(one.kernels, other.kernels)[0, 1] > ALIKE)


def info_of(referee: Referee) -> ModelInfo:
    """What is known of a referee; of a network also how it was trained, as far as its run's record says."""
    run: Mapping[str, Any] = getattr(referee, "run", {})
    feed = run.get("feed")
    feed = feed if isinstance(feed, dict) else {}
    named = {
        "epochs": run.get("epochs"),
        "batch": feed.get("batch_size"),
        "learning rate": run.get("learning_rate"),
        "seed": feed.get("seed"),
    }
    return ModelInfo(
        name=referee.name,
        checksum=referee.checksum,
        arch=str(getattr(referee, "arch", "")),
        learnt=referee.learnt,
        trained_on=str(run.get("data", "")),
        settings={name: value for name, value in named.items() if isinstance(value, int | float)},
        augmented=feed.get("augment") is True,
    )


def scores_of(referee: Referee, stamp_set: StampSet, split: str, executor: Executor | None = None) -> Array:
    """Scores that a referee gives a split, in the order of its rows; those of the test split are recorded.

    Raises
    ------
    ModelError
        If scores are not finite.
    """
    kept = _kept(referee, stamp_set) if split == "test" else None
    scores = kept or scoring.score_split(referee, stamp_set, split, executor=executor)
    bad = int(np.count_nonzero(~np.isfinite(scores.score)))
    if bad:
        where, count = getattr(referee, "path", referee.name), len(scores.score)
        msg = f"{where}: {bad} of {count} scores are not finite: the network is broken; train again"
        raise ModelError(msg)
    aligned = scores.score[stamp_set.aligned(split, scores.table)].astype(np.float64)
    if split == "test":
        record_evaluation(stamp_set, scores)  # before anything of it is seen
        if kept is None:
            _keep(referee, scores)
    return aligned


def score_all(referees: Sequence[Referee], stamp_set: StampSet, executor: Executor | None = None) -> Scored:
    """Score the test and the validation split with every referee; each is recorded in the test-set log.

    Raises
    ------
    ModelError
        If scores are not finite.
    """
    given = (stamp_set, "test", executor), (stamp_set, "val", executor)
    pairs = [[scores_of(referee, *one) for one in given] for referee in referees]
    singles, validation = zip(*pairs, strict=True)
    return Scored(
        grouped=stamp_set.clusters(stamp_set.rows("test"), LEAST_CLUSTERS),
        rows=stamp_set.rows("test"),
        singles=np.stack(singles),
        val_labels=np.asarray(stamp_set.rows("val")["label"]),
        val_scores=np.mean(validation, axis=0),
        models=tuple(map(info_of, referees)),
    )


def scored_by_panel(judgement: Judgement, stamp_set: StampSet) -> Scored:
    """Test examples as a panel scored them; its evaluation is recorded in the test-set log."""
    rows, val_rows = (stamp_set.rows(split) for split in ("test", "val"))
    chosen, scores = rows[judgement.positions], judgement.scores
    record_evaluation(
        stamp_set,
        scoring.Scores(
            split="test",
            shard=chosen["shard"],
            row=chosen["row"],
            label=chosen["label"],
            score=scores.astype(np.float32),
            model=judgement.checksum,
            data=stamp_set.checksum,
        ),
    )
    return Scored(
        grouped=stamp_set.clusters(chosen, LEAST_CLUSTERS),
        rows=chosen,
        singles=judgement.singles,
        val_labels=np.asarray(val_rows["label"][judgement.val_positions]),
        val_scores=judgement.val_scores,
        models=tuple(map(_member_info, judgement.members)),
        panel=scores,
        checksum=judgement.checksum,
    )


def _member_info(member: Member) -> ModelInfo:
    """Description of a member of a panel."""
    settings = {"examples": float(member.examples)} if member.examples else {}
    return ModelInfo(member.name, member.checksum, "", member.learnt, settings=settings, weight=member.weight)


def _files(referee: Referee) -> tuple[Path, ...]:
    """Where scores of a referee with a file may be: the file of its run, and one of its own beside it."""
    path: Path | None = getattr(referee, "path", None)
    if path is None:
        return ()
    first = path.parent / SCORES
    return first, first.with_name(f"{first.stem}_{path.stem}{first.suffix}")


def _kept(referee: Referee, stamp_set: StampSet) -> scoring.Scores | None:
    """Scores of the test split from a file beside the referee's; None where there are none."""
    for path in _files(referee):
        found = scoring.read_scores(path, referee.checksum, stamp_set.checksum)
        if found is not None and found.split == "test":
            log.info("%s: its scores are in %s", referee.name, path)
            return found
    return None


def _keep(referee: Referee, scores: scoring.Scores) -> None:
    """Write scores beside the referee's file, if it has one and that can be done."""
    files = _files(referee)
    if not files:
        return
    path = files[1] if files[0].exists() else files[0]
    try:
        scoring.write_scores(path, scores)
    except OSError as error:
        log.warning("warning: %s: the scores are not kept (%s)", path, error)
