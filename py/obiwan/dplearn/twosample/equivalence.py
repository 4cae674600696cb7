"""Equivalence test of an AUC with 0.5 within a margin, and the test examples that it needs."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student

from obiwan.dplearn.twosample import Measured

LEAST_MARGIN = 0.001  #: to show an AUC to be nearer to 0.5 would take millions of test examples


def tost(measured: Measured, margin: float) -> float:
    """p-value of two one-sided tests that the AUC is between 0.5 - margin and 0.5 + margin (Schuirmann 1987).

    Below a level a exactly where the interval of coverage 1 - 2a lies inside the margin.
    """
    above = measured.p_value(0.5 - margin, "greater")
    below = measured.p_value(0.5 + margin, "less")
    return max(above, below)


def further_examples(measured: Measured, n: int, margin: float, level: float) -> int:
    """Number of further test examples that decide between distinguishable and equivalent.

    The answer is one or the other whatever the AUC turns out to be once the half-widths of the interval of
    coverage 1 - level and of that of coverage 1 - 2 level together are no more than the margin; the error
    falls as the root of the number of examples.

    Parameters
    ----------
    measured : Measured
        The AUC of the examples so far: its error carries the design effect of the bricks.
    n : int
        How many there are so far.
    margin, level : float
        Of the verdict.

    Returns
    -------
    int
        Rounded up to two digits.
    """
    widths = student.ppf([1 - level / 2, 1 - level], measured.freedom) * measured.error
    more = max(1.0, n * ((widths.sum() / margin) ** 2 - 1))
    digit = 10 ** max(0, int(np.floor(np.log10(more))) - 1)
    return int(np.ceil(more / digit) * digit)
