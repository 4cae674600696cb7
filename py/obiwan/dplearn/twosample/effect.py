"""How large a difference is, as a cosmologist would want to hear it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from obiwan.dplearn.twosample.ranking import Estimate

EXTREME = 0.9999  #: AUCs nearer to 0 or 1 are taken for this one: no normals are so far apart


@dataclass(frozen=True)
class Effect:
    """What an AUC means.

    Attributes
    ----------
    pairs : float
        Of 100 pairs of a fake and a real galaxy, in how many the fake has the higher score.
    sigmas : float
        How many standard deviations apart two Gaussians are that have the AUC; negative below 0.5.
    others : float
        Share of the fakes that would have to be others for the classes to be alike, at least: of the total
        variation the bound that the lower end of the AUC's interval gives; 0 where it gives none.
    """

    pairs: float
    sigmas: float
    others: float


def effect_of(auc: Estimate) -> Effect:
    """What an AUC and its interval mean."""
    shift = np.sqrt(2) * norm.ppf(np.clip(auc.value, 1 - EXTREME, EXTREME))
    return Effect(100 * auc.value, float(shift), max(0.0, 1 - float(np.sqrt(2 * (1 - auc.low)))))


def effect_words(auc: Estimate) -> str:
    """The same in words: what is said to be so at least is so by the lower end of the interval.

    Examples
    --------
    >>> effect_words(Estimate(0.76, 0.74, 0.78))
    'of a fake and a real galaxy it picks the fake in 76 of 100 pairs (50 is guessing), as for two Gaussians
    1.0 standard deviations apart; at least 28 % ...'
    """
    found = effect_of(auc)
    pairs = f"{found.pairs:.0f}" if abs(auc.value - 0.5) >= 0.03 else f"{found.pairs:.1f}"
    side = "more than " if auc.value > EXTREME else ""
    shift = abs(found.sigmas)
    words = (
        f"of a fake and a real galaxy it picks the fake in {pairs} of 100 pairs (50 is guessing), as for two "
        f"Gaussians {side}{shift:.{1 if shift >= 0.095 else 2}f} standard deviations apart"
    )
    if found.others >= 0.01:
        words += f"; at least {100 * found.others:.0f} % of the fakes would have to be others to match"
    return words
