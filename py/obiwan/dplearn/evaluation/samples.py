"""Samples of a training set that an evaluation reads beside the scores: for controls, occlusion, mocks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from obiwan.dplearn.controls.covariates import Columns, covariates
from obiwan.dplearn.controls.measure import measure_split
from obiwan.dplearn.evaluation import ideal, notices
from obiwan.dplearn.evaluation.occlusion import Occlusion, occlude
from obiwan.dplearn.evaluation.records import Scored
from obiwan.dplearn.referees.protocol import Referee
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.trainingset.stampset import StampSet

CONTROL_EXAMPLES = 50_000  #: that the controls are run on, at most but for the test split
OCCLUSION_EXAMPLES = 400  #: of the test split, half of each class

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ControlSet:
    """Examples that the controls are run on, those of the test split first.

    Attributes
    ----------
    rows, measured : structured ndarray, shape (n,)
        Of the example table, and as from `measure_split`.
    columns : dict of ndarray, shape (n,)
        Covariates.
    tests : int
        Test examples.
    """

    rows: Array
    measured: Array
    columns: Columns
    tests: int

    @property
    def in_test(self) -> Array:
        """Which are test examples, shape (n,)."""
        return np.arange(len(self.rows)) < self.tests

    @property
    def of_test(self) -> Columns:
        """Covariates of the test examples."""
        return {key: values[: self.tests] for key, values in self.columns.items()}


def control_set(stamp_set: StampSet) -> ControlSet:
    """Measure what the controls are run on.

    Controls learn nothing, so training examples serve as well as others: the test split first, then
    validation and training shards up to `CONTROL_EXAMPLES`.
    """
    left, rows, measured = CONTROL_EXAMPLES, [], []
    for split in ("test", "val", "train"):
        shards = []
        for shard in stamp_set.split(split):
            if split == "test" or shard.rows <= left:
                shards.append(shard)
                left -= shard.rows
        part = stamp_set.only(shards)
        rows.append(part.rows(split))
        measured.append(measure_split(part, split))
    every, found = np.concatenate(rows), np.concatenate(measured)
    return ControlSet(every, found, covariates(every, found, stamp_set.spec), len(rows[0]))


def _some_stamps(stamp_set: StampSet, labels: Array, count: int, seed: int) -> tuple[Array, Array]:
    """Positions and stamps of random test examples, at most half of `count` of each class."""
    rng = np.random.default_rng([seed, 40])
    drawn = [rng.permutation(np.flatnonzero(labels == value))[: count // 2] for value in (0, 1)]
    chosen = np.sort(np.concatenate(drawn))
    return chosen, stamp_set.stamps("test", chosen)


def occlusion_of(referee: Referee, stamp_set: StampSet, scored: Scored, seed: int) -> Occlusion:
    """AUC of a referee by parts of the stamp, on some test examples."""
    chosen, stamps = _some_stamps(stamp_set, scored.labels, OCCLUSION_EXAMPLES, seed)
    log.info("occlusion: scoring parts of %d test examples with %s", len(chosen), referee.name)
    return occlude(referee.predict, stamps, scored.rows[chosen], stamp_set.spec, seed=seed)


def planted_offset(mock: Path | None, stamp_set: StampSet) -> tuple[float | None, tuple[notices.Fact, ...]]:
    """The offset (pixels) planted in a mock survey, None where there is no curve for it; and notices.

    Raises
    ------
    TrainingSetError
        If there is no such survey, or the training set was not cut from it.
    """
    if mock is None:
        return None, ()
    plant = ideal.plant_of(mock)
    rows = stamp_set.rows("test")
    first = np.flatnonzero(rows["label"] == 1)[:1]
    stamp = stamp_set.stamps("test", first)[0]
    planted = ideal.planted_in(plant)
    checked = ideal.check_same_survey(mock, rows[first[0]], stamp, stamp_set.spec)
    facts = notices.of_mock(planted, stamp_set.spec, checked=checked)
    shown = planted == ("offset",) and stamp_set.spec.has_ivar
    return (plant.offset if shown else None), facts


def ideal_curve(
    stamp_set: StampSet, scored: Scored, signal_to_noise: Array, offset: float, seed: int
) -> tuple[Array, Array]:
    """Signal to noise and AUC of the ideal observer of an offset, from some test examples."""
    chosen, stamps = _some_stamps(stamp_set, scored.labels, ideal.EXAMPLES, seed)
    log.info("ideal observer: rendering %d test examples", len(chosen))
    rows = scored.rows[chosen]
    return ideal.offset_curve(offset, rows, stamps, signal_to_noise[chosen], stamp_set.spec)
