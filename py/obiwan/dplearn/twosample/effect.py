"""Effect size: what an AUC says about how far two samples are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from obiwan.dplearn.twosample.ranking import Estimate

EXTREME = 0.9999  #: AUCs nearer to 0 or 1 are taken for this one: no normals are so far apart


@dataclass(frozen=True)
class Effect:
    """Effect size.

    Attributes
    ----------
    pairs : float
        Pairs of one example of each class, of 100, in which label 1 has the higher score.
    sigmas : float
        Distance of two Gaussians that have the AUC, in standard deviations; negative below 0.5.
    others : float
        Lower bound on the total variation between the score distributions, from the lower end of the AUC's
        interval: they overlap by at most one less this fraction.  0 where it gives none.
    """

    pairs: float
    sigmas: float
    others: float


def effect_of(auc: Estimate) -> Effect:
    """Effect size of an AUC and its interval."""
    shift = np.sqrt(2) * norm.ppf(np.clip(auc.value, 1 - EXTREME, EXTREME))
    return Effect(100 * auc.value, float(shift), max(0.0, 1 - float(np.sqrt(2 * (1 - auc.low)))))
