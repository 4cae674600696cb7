"""Sign-flip test of many differences between two classes at once, with whole bricks as the units.

Each difference is a sum of what the bricks contribute.  If the classes do not differ on average over bricks,
a brick's contribution is as likely to be positive as negative; the signs of whole bricks are flipped, the
same for all differences, so that their correlations are kept.  Bricks in which the classes differ at random
(other PSF, other sky) are part of the null hypothesis, which they are not if labels are permuted within
bricks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.twosample.ranks import cluster_numbers
from obiwan.dplearn.twosample.summary import usable_bricks

LEAST_FLIPPED = 8  #: bricks of each class; G bricks give no p-value below 2^(1 - G), which is 0.008 for 8
DRAWS = 2000  #: flips; all 2^(G - 1) where those are no more
MOST_GROUPS = 1024  #: units that are flipped; more bricks, or single examples, are put together at random
_TIE = 1e-9  #: sums in another order are the same sum


@dataclass(frozen=True)
class FamilyTest:
    """Result of a family of differences.

    Attributes
    ----------
    p : ndarray, shape (numbers,)
        Family-wise p-values: those below a level err in any of them at most that often.
    statistic : ndarray, shape (numbers,)
        Sum over the root of the sum of squares of what the units contribute, between plus and minus the root
        of their number.
    largest : ndarray, shape (flips,)
        Largest absolute statistic of the family in each flip, in rising order.
    units : int
        Bricks, or groups of examples.
    """

    p: Array
    statistic: Array
    largest: Array
    units: int

    def critical_t(self, level: float) -> float:
        """Student's t above which a difference is significant at a family-wise level; infinite if none is."""
        reached = int(np.floor(level * len(self.largest) * (1 + _TIE)))
        if reached < 1 or not len(self.p):
            return np.inf
        critical = float(self.largest[-reached]) ** 2
        rest = self.units - critical
        return float(np.sqrt(critical * (self.units - 1) / rest)) if rest > 1e-6 * self.units else np.inf


def flip_units(labels: Array, bricks: Array) -> tuple[Array, bool]:
    """Units whose signs are flipped: the number of each example's, from 0, and whether they are bricks.

    Bricks if each class is in `LEAST_FLIPPED` or more of them; else examples, and the test holds for these
    bricks only.
    """
    n = len(labels)
    usable = usable_bricks(labels, bricks, LEAST_FLIPPED)
    numbers = cluster_numbers(usable, n)
    count = int(numbers.max()) + 1
    if count > MOST_GROUPS:
        numbers = (np.random.default_rng(n).permutation(count) % MOST_GROUPS)[numbers]
    return numbers, usable is not None


def _signs(units: int, seed: int) -> Array:
    """Signs of each flip, shape (flips, units); the first flip is none."""
    if 2 ** (units - 1) <= DRAWS + 1:  # both signs of a sum have one absolute value
        bits = (np.arange(2 ** (units - 1))[:, None] >> np.arange(units)) & 1
        return np.asarray(1.0 - 2.0 * bits)
    signs = np.random.default_rng([seed, units]).choice([-1.0, 1.0], (DRAWS + 1, units))
    signs[0] = 1.0
    return np.asarray(signs)


def family_test(contributions: Array, seed: int = 0) -> FamilyTest:
    """Test many differences together.

    Parameters
    ----------
    contributions : ndarray of float64, shape (units, numbers)
        What each unit adds to each difference.
    seed : int
        Of the flips.

    Returns
    -------
    FamilyTest
        Step-down max-T of Westfall & Young (1993, Resampling-Based Multiple Testing, algorithm 4.1): each
        difference is compared with the largest of all that are no clearer.  As the sum of squares does not
        change with signs, its root studentises the sums in every flip alike (Lehmann & Romano 2005, Testing
        Statistical Hypotheses, section 15.2).
    """
    units, numbers = contributions.shape
    scale = np.sqrt((contributions**2).sum(0))
    unit = contributions / np.where(scale > 0, scale, 1.0)
    statistic = unit.sum(0)
    flipped = np.abs(_signs(units, seed) @ unit)
    order = np.argsort(-np.abs(statistic), kind="stable")
    below = np.maximum.accumulate(flipped[:, order[::-1]], axis=1)[:, ::-1]
    p = np.empty(numbers)
    reached = (below >= np.abs(statistic)[order] - _TIE).mean(0)
    p[order] = np.maximum.accumulate(reached)
    largest = np.sort(below[:, 0]) if numbers else np.zeros(0)
    return FamilyTest(p, statistic, largest, units)
