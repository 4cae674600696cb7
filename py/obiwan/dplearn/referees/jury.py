"""Training and scoring of a panel's members on samples of a training set."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.errors import ModelError, TrainingSetError
from obiwan.dplearn.referees.measured import Measured, check_measurable, measure_set
from obiwan.dplearn.referees.numbers import MeasuredReferee
from obiwan.dplearn.referees.panel import Panel, fit_panel
from obiwan.dplearn.referees.plugins import UserReferee, load_plugin
from obiwan.dplearn.referees.protocol import Referee
from obiwan.dplearn.referees.scoring import score_split
from obiwan.dplearn.referees.stored import KINDS, file_name, kept_referee, write_referee
from obiwan.dplearn.stampspec import SPLITS, Array
from obiwan.dplearn.trainingset.stampset import StampSet
from obiwan.dplearn.trainingset.views import sampled
from obiwan.dplearn.trainingset.visibility import psf_columns

NETWORK = "network"  #: name of the member that is the trained networks
MEMBERS = (NETWORK, *KINDS)  #: of the panel that is declared unless another one is asked for
QUICK = ("scores", "trees")  #: members that are trained in seconds
EXAMPLES = 50_000  #: of each split that are measured, at most
_STAMPS = 4 << 30  #: bytes of stamps that a referee of the user's is given to train on, at most

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Jury:
    """Members and settings of a panel.

    Attributes
    ----------
    members : tuple of str
        Names: some of `MEMBERS`, and ``module:function`` of the user's own.
    examples : int
        Of each split that are measured, at most.
    seed : int
        Of draws and trainings.
    """

    members: tuple[str, ...] = MEMBERS
    examples: int = EXAMPLES
    seed: int = 1

    @property
    def quick(self) -> tuple[str, ...]:
        """Members that are trained in seconds; ``scores`` if the panel has none of these."""
        return tuple(name for name in QUICK if name in self.members) or QUICK[:1]

    @property
    def alone(self) -> bool:
        """Whether the networks are the only member, so that there is nothing to combine."""
        return self.members == (NETWORK,)


def check_members(names: Sequence[str]) -> None:
    """Refuse members that there are not, or that are named twice.

    Raises
    ------
    ValueError
    """
    unknown = [name for name in names if name not in MEMBERS and ":" not in name]
    if unknown:
        msg = f"there is no referee {unknown[0]!r}; there are {', '.join(MEMBERS)} and module:function"
        raise ValueError(msg)
    if len(set(names)) < len(names) or not names:
        msg = "name each referee once, and one at least"
        raise ValueError(msg)


@dataclass(frozen=True)
class Sample:
    """Sample of a split: whole shards of its examples.

    Attributes
    ----------
    stamp_set : StampSet
        With these shards alone.
    split : str
    positions : ndarray of int
        Of the examples in the whole split.
    executor : Executor or None
        Workers that measure.
    residuals : bool
        Whether residual images are needed.
    store : Path or None
        Where measurements are kept.
    """

    stamp_set: StampSet
    split: str
    positions: Array
    executor: Executor | None = None
    residuals: bool = False
    store: Path | None = None

    @cached_property
    def measured(self) -> Measured:
        """The measurements of the examples, made when they are first asked for."""
        given = (self.stamp_set, self.split, self.executor)
        return measure_set(*given, residuals=self.residuals, store=self.store)

    @property
    def labels(self) -> Array:
        """Real = 0, fake = 1, shape (n,)."""
        return np.asarray(self.stamp_set.rows(self.split)["label"])

    def trained_on(self, name: str) -> int:
        """Number of examples that a member is trained on: limited for the user's own, which gets pixels."""
        most = max(2, _STAMPS // self.stamp_set.spec.stamp_bytes)
        return len(self.positions) if name in KINDS else min(most, len(self.positions))

    def scored_by(self, referee: Referee) -> Array:
        """Scores of a referee, shape (n,), in the order of the rows.

        Raises
        ------
        ModelError
            If they are not finite.
        """
        if isinstance(referee, MeasuredReferee) and referee.prior == self.measured.prior:
            scores = referee.score(self.measured)
        else:
            given = score_split(referee, self.stamp_set, self.split)
            scores = given.score[self.stamp_set.aligned(self.split, given.table)]
        if not np.isfinite(scores).all():
            msg = f"referee {referee.name}: scores are not finite"
            raise ModelError(msg)
        return np.asarray(scores, np.float64)


@dataclass(frozen=True)
class Member:
    """Member of a panel.

    Attributes
    ----------
    name : str
    checksum : str
        Of what it computes.
    learnt : bool
        Whether it fitted its training set.
    weight : float
        Of its log odds in the panel.
    examples : int
        That it was trained on; 0 for the networks, which were trained before.
    """

    name: str
    checksum: str
    learnt: bool
    weight: float
    examples: int


@dataclass(frozen=True)
class Judgement:
    """Scores of a panel and its members.

    Attributes
    ----------
    members : tuple of Member
    panel : Panel
    positions : ndarray of int, shape (n,)
        Of the scored examples in the test split.
    singles : ndarray, shape (members, n)
        Scores of each member on these.
    val_positions : ndarray of int, shape (m,)
    val_singles : ndarray, shape (members, m)
    """

    members: tuple[Member, ...]
    panel: Panel
    positions: Array
    singles: Array
    val_positions: Array
    val_singles: Array

    @property
    def scores(self) -> Array:
        """Of the panel on the test examples, shape (n,)."""
        return self.panel.score(self.singles)

    @property
    def val_scores(self) -> Array:
        """Of the panel on the validation examples, on which it was fitted, shape (m,)."""
        return self.panel.score(self.val_singles)

    @property
    def learnt(self) -> bool:
        """Whether any member fitted its training set."""
        return any(member.learnt for member in self.members)

    @property
    def checksum(self) -> str:
        """Name of what the panel computes."""
        parts = [(one.name, one.checksum, repr(one.weight)) for one in self.members]
        return hashlib.sha256(repr([*parts, repr(self.panel.intercept)]).encode()).hexdigest()[:16]


def samples_of(
    stamp_set: StampSet, jury: Jury, executor: Executor | None = None, outdir: Path | None = None
) -> dict[str, Sample]:
    """The samples of all splits that a panel is trained on and scores.

    Parameters
    ----------
    stamp_set : StampSet
    jury : Jury
    executor : Executor, optional
        Workers that measure.
    outdir : Path, optional
        Where measurements are kept.
    """
    residuals = any(KINDS[name].residuals for name in jury.members if name in KINDS)
    store = None if outdir is None else outdir / "measurements"
    found = {}
    for split in SPLITS:
        part, positions = sampled(stamp_set, split, jury.examples, jury.seed)
        found[split] = Sample(part, split, positions, executor, residuals, store)
    return found


def train_member(name: str, sample: Sample, seed: int) -> Referee:
    """Train a member on a sample of the training split.

    Raises
    ------
    ModelError
        If it cannot be made or trained.
    TrainingSetError
        If the stamps cannot be measured.
    """
    if name in KINDS:
        log.info("training referee %s on %d examples", name, len(sample.positions))
        check_measurable(sample.stamp_set.spec)
        try:
            return KINDS[name].train(sample.measured, sample.labels, seed)
        except ValueError as error:  # too few stamps with data
            msg = f"{sample.stamp_set.directory}: referee {name} cannot be trained: {error}"
            raise TrainingSetError(msg) from None
    user: UserReferee = load_plugin(name)
    rows = sample.stamp_set.visible(sample.split)
    chosen = np.sort(np.random.default_rng([seed, 29]).permutation(len(rows))[: sample.trained_on(name)])
    log.info("training referee %s on %d examples", name, len(chosen))
    stamps = sample.stamp_set.stamps(sample.split, chosen)
    return user.fit(stamps, rows[chosen], sample.labels[chosen])


def _trained(name: str, sample: Sample, jury: Jury, outdir: Path | None) -> Referee:
    """A member from its file, where that is of the same sample and settings, else trained and kept."""
    path = None if outdir is None or name not in KINDS else outdir / file_name(name)
    settings = {"data": sample.stamp_set.checksum, "seed": jury.seed, "examples": len(sample.positions)}
    settings["prior"] = list(psf_columns(sample.stamp_set.read_columns(), sample.stamp_set.spec))
    if path is not None and (kept := kept_referee(path, settings)) is not None:
        log.info("referee %s: from %s", name, path)
        return kept
    referee = train_member(name, sample, jury.seed)
    if path is not None and isinstance(referee, MeasuredReferee):
        write_referee(path, referee, settings)
    return referee


def judge(
    jury: Jury,
    samples: Mapping[str, Sample],
    networks: Mapping[str, Array] | None = None,
    checksums: Sequence[str] = (),
    outdir: Path | None = None,
    *,
    learnt: bool = True,
) -> Judgement:
    """Train the members, score validation and test split, and combine.

    Parameters
    ----------
    jury : Jury
    samples : mapping of str to Sample
        By split, of `samples_of`.
    networks : mapping of str to ndarray, optional
        Mean score of the trained networks on all examples of the validation and of the test split.
    checksums : sequence of str
        Of these networks.
    outdir : Path, optional
        Where trained members are kept, and found again.
    learnt : bool
        Whether the networks did.

    Raises
    ------
    ModelError, TrainingSetError
        As for `train_member` and `Sample.scored_by`.
    """
    train, val, test = (samples[split] for split in SPLITS)
    parts: dict[str, tuple[Any, Array, Array]] = {}
    for name in jury.members:
        if name == NETWORK:
            if networks:
                scores = [networks[one.split][one.positions] for one in (val, test)]
                parts[name] = (None, scores[0], scores[1])
        else:
            referee = _trained(name, train, jury, outdir)
            parts[name] = (referee, val.scored_by(referee), test.scored_by(referee))
    val_singles, singles = (np.stack([part[i] for part in parts.values()]) for i in (1, 2))
    panel = fit_panel(tuple(parts), val_singles, val.labels)
    members = []
    for (name, (referee, *_)), weight in zip(parts.items(), panel.weights, strict=True):
        if referee is None:
            members.append(Member(name, " ".join(checksums), learnt, weight, 0))
        else:
            examples = train.trained_on(name)
            members.append(Member(name, referee.checksum, referee.learnt, weight, examples))
    return Judgement(tuple(members), panel, test.positions, singles, val.positions, val_singles)
