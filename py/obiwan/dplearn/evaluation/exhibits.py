"""Exhibits: what figures show besides the test itself, as facts.

Appearance of both classes, bricks on the sky, AUC of each brick, training curves.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from obiwan.dplearn.evaluation.appearance import NOISE, Appearance, Drawn, appearance, bright, sample
from obiwan.dplearn.evaluation.bricks import auc_of_bricks, footprint
from obiwan.dplearn.evaluation.ensemble import Scored
from obiwan.dplearn.evaluation.measuring import ControlSample
from obiwan.dplearn.referees.network import NetworkReferee
from obiwan.dplearn.referees.protocol import Referee
from obiwan.dplearn.stampspec import SPLITS, Array
from obiwan.dplearn.trainingset.stampset import StampSet
from obiwan.dplearn.twosample.summary import LEAST_CLUSTERS, usable_bricks

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exhibits:
    """Facts behind figures.

    Attributes
    ----------
    appearance : Appearance or None
        Mean stamps, profiles and noise of test examples; None where a class has no galaxy that is seen.
    places, brick_aucs : ndarray
        Records of `obiwan.dplearn.evaluation.bricks`: every brick, and the AUC in each test brick.
    histories : mapping
        Training curves of networks, by name.
    """

    appearance: Appearance | None
    places: Array
    brick_aucs: Array
    histories: Mapping[str, Mapping[str, Sequence[float]]]


def exhibits_of(
    stamp_set: StampSet, scored: Scored, sample: ControlSample, referees: Sequence[Referee], seed: int
) -> Exhibits:
    """Exhibits of an evaluation.

    Parameters
    ----------
    stamp_set : StampSet
        With the scored test examples alone.
    scored : Scored
    sample : ControlSample
        Measured examples.
    referees : sequence of Referee
    seed : int
        Of the draws.
    """
    curves = {one.name: one.history for one in referees if isinstance(one, NetworkReferee)}
    return Exhibits(
        appearance=appearance_of(sample.stamp_set, sample.measured[: len(sample.tests)], seed),
        places=footprint({split: stamp_set.pieces(split) for split in SPLITS}),
        brick_aucs=auc_of_bricks(scored.labels, scored.ranks, scored.rows["brick"]),
        histories={name: curve for name, curve in curves.items() if curve},
    )


def appearance_of(stamp_set: StampSet, measured: Array, seed: int) -> Appearance | None:
    """Appearance of both classes in the test split; None where one has no galaxy that is seen.

    Parameters
    ----------
    stamp_set : StampSet
    measured : ndarray of `obiwan.dplearn.controls.measure.measure_dtype`
        Of all its test examples.
    seed : int
    """
    rows, spec = stamp_set.rows("test"), stamp_set.spec
    clusters = stamp_set.clusters(rows, LEAST_CLUSTERS).numbers
    galaxies, limit = bright(measured, rows["label"], spec, seed)
    if not len(galaxies):
        return None

    def drawn(chosen: Array) -> Drawn:
        usable = usable_bricks(rows["label"][chosen], clusters[chosen])
        return Drawn(stamp_set.stamps("test", chosen), rows[chosen], measured[chosen], usable)

    log.info("appearance: averaging %d test examples", len(galaxies))
    sky = sample(np.ones(len(rows), bool), rows["label"], NOISE, seed)
    return appearance(drawn(galaxies), limit, drawn(sky), spec)
