"""Measured sample of an evaluation: the examples that controls, metadata and mean galaxies rest on."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from obiwan.dplearn.controls.covariates import MEASURED, Covariates, coadd_size
from obiwan.dplearn.controls.measure import measure_split
from obiwan.dplearn.referees.jury import Jury, Sample
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.trainingset.stampset import StampSet
from obiwan.dplearn.trainingset.views import sampled
from obiwan.dplearn.trainingset.visibility import same_fit

CONTROL_EXAMPLES = 50_000  #: that the controls are run on, at most


@dataclass(frozen=True)
class ControlSample:
    """Measured examples, those of the test split first.

    Attributes
    ----------
    stamp_set : StampSet
        With their test shards alone.
    tests : ndarray of int
        Positions of the test examples in the test split.
    rows : structured ndarray, shape (n,)
        Of the example table.
    measured : ndarray of `obiwan.dplearn.controls.measure.measure_dtype`, shape (n,)
    """

    stamp_set: StampSet
    tests: Array
    rows: Array
    measured: Array

    def covariates_of(self, rows: Array) -> Covariates:
        """Covariates of all examples of the test split; NaN where a number is measured, and this one is not.

        Parameters
        ----------
        rows : structured ndarray
            Of the whole test split.
        """
        found = np.full(len(rows), np.nan, [(name, "f4") for name in MEASURED])
        for name in MEASURED:
            found[name][self.tests] = self.measured[name][: len(self.tests)]
        spec = self.stamp_set.spec
        return Covariates(rows, found, spec, coadd_size(self.rows, spec), same_fit(self.rows))


def _light(part: StampSet, split: str, known: Sample | None, executor: Executor | None) -> Array:
    """Measurements of the shards of a split: those of a panel's sample where it has all of them."""
    wanted = [shard.number for shard in part.split(split)]
    if known is None or not set(wanted) <= {shard.number for shard in known.stamp_set.shards}:
        return measure_split(part, split, executor)
    return known.measured.light[np.isin(known.stamp_set.rows(split)["shard"], wanted)]


def control_sample(
    stamp_set: StampSet,
    known: Mapping[str, Sample],
    jury: Jury,
    executor: Executor | None = None,
) -> ControlSample:
    """Examples that the controls are run on.

    Controls learn nothing, so training examples serve as well as others: the test split first, whole shards
    of it drawn at random where it has more than `CONTROL_EXAMPLES`; then validation and training shards up
    to that number.

    Parameters
    ----------
    stamp_set : StampSet
    known : mapping of str to Sample
        What a panel has measured, by split; it is not measured again.
    jury : Jury
        Its examples, of the test split, where they are more than `CONTROL_EXAMPLES`; its seed.
    executor : Executor, optional
        Workers that measure.
    """
    part, tests = sampled(stamp_set, "test", max(CONTROL_EXAMPLES, jury.examples), jury.seed)
    left, parts = CONTROL_EXAMPLES - len(tests), {"test": part}
    for split in ("val", "train"):
        shards = []
        for shard in stamp_set.split(split):
            if shard.rows <= left:
                shards.append(shard)
                left -= shard.rows
        parts[split] = stamp_set.only(shards)
    rows = [one.rows(split) for split, one in parts.items()]
    measured = [_light(one, split, known.get(split), executor) for split, one in parts.items()]
    return ControlSample(part, tests, np.concatenate(rows), np.concatenate(measured))
