"""Judging: a test set scored by networks and a panel, and the smallest differences that the panel detects."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

from obiwan.dplearn.evaluation.ensemble import Scored, score_all, scored_by_panel
from obiwan.dplearn.referees.jury import Jury, Sample, judge, samples_of
from obiwan.dplearn.referees.protocol import Referee
from obiwan.dplearn.referees.stored import KINDS
from obiwan.dplearn.retraining.detectable import STAMPS, Detection, Detections, detect_all
from obiwan.dplearn.trainingset.stampset import StampSet

REFEREES = "referees"  #: directory of the panel's members and measurements

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planting:
    """Differences that are planted to find the smallest detectable ones.

    Attributes
    ----------
    kinds : tuple of str
        Of `obiwan.dplearn.retraining.detectable.AMPLITUDES`.
    stamps : int
        Training stamps, at most.
    """

    kinds: tuple[str, ...] = ()
    stamps: int = STAMPS


@dataclass(frozen=True)
class Judged:
    """Test set with the scores of a panel or of networks.

    Attributes
    ----------
    scored : Scored
        What is tested: the panel or, where there is none, the networks.
    stamp_set : StampSet
        The training set with the scored test examples alone.
    networks : Scored or None
        The networks on all test examples, where a panel is tested.
    detections : tuple of Detection
        Of planted differences; empty without a panel.
    samples : mapping of str to Sample
        What a panel has measured, by split; empty where no member rests on measurements.
    """

    scored: Scored
    stamp_set: StampSet
    networks: Scored | None = None
    detections: tuple[Detection, ...] = ()
    samples: Mapping[str, Sample] = field(default_factory=dict)

    @property
    def checksums(self) -> list[str]:
        """Of the networks or, where there are none, of the panel."""
        if self.networks is None and self.scored.panel is not None:
            return [self.scored.checksum]
        return [model.checksum for model in (self.networks or self.scored).models]

    @property
    def detected(self) -> Detections | None:
        """Positive control of the panel: whether it detects what was planted."""
        return Detections(self.detections) if self.detections else None


def judge_set(
    stamp_set: StampSet,
    referees: Sequence[Referee],
    jury: Jury,
    planting: Planting,
    executor: Executor | None = None,
    outdir: Path | None = None,
) -> Judged:
    """Score a test set.

    Parameters
    ----------
    stamp_set : StampSet
    referees : sequence of Referee
        Trained networks.
    jury : Jury
        Members of the panel; none is made of networks alone.
    planting : Planting
    executor : Executor, optional
        Workers that measure and score stamps.
    outdir : Path, optional
        Where the panel is kept.

    Raises
    ------
    TrainingSetError, ModelError
        As for `obiwan.dplearn.referees.jury.judge` and `score_all`.
    """
    networks = score_all(referees, stamp_set, executor) if referees else None
    if networks is not None and jury.alone:
        return Judged(networks, stamp_set)
    place = None if outdir is None else outdir / REFEREES
    samples = samples_of(stamp_set, jury, executor, place)
    given = {} if networks is None else {"val": networks.val_scores, "test": networks.scores}
    known = [] if networks is None else [model.checksum for model in networks.models]
    judgement = judge(jury, samples, given, known, place, learnt=networks is not None and networks.learnt)
    scored, every = len(judgement.positions), sum(stamp_set.count("test"))
    if scored < every:
        log.info("the panel scores %d of %d test examples (--examples)", scored, every)
    found = detect_all(samples["train"], planting.kinds, jury.seed, executor, planting.stamps)
    by_panel = scored_by_panel(judgement, stamp_set)
    measured = samples if any(name in KINDS for name in jury.members) else {}
    return Judged(by_panel, scored_part(stamp_set, by_panel), networks, found, measured)


def scored_part(stamp_set: StampSet, scored: Scored) -> StampSet:
    """Training set with the scored test examples alone, whole shards of them."""
    kept = set(scored.rows["shard"].tolist())
    return stamp_set.only(s for s in stamp_set.shards if s.split != "test" or s.number in kept)
