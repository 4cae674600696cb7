"""Which examples to look at: real and fake of equal brightness, and what a network was surest of."""

from __future__ import annotations

import numpy as np

from obiwan.dplearn.conventions import LABELS, Array

#: Percentiles in brightness of the seed page's five figures: 99 is the brightest.
PERCENTILES = (99, 75, 50, 25, 1)
CALL = 0.5  #: score above which the network calls an example fake
#: The galleries: name, what is seen, class, and whether the highest scores come first.
GALLERIES = (
    ("fakest_fakes", "The most fake-looking fakes", "fake", True),
    ("fakes_that_fooled", "The fakes that fooled the network", "fake", False),
    ("rejected_reals", "The real galaxies that it rejected", "real", True),
)


def pair_by_magnitude(magnitude: Array, label: Array, percentile: float, pairs: int) -> Array:
    """Choose examples near a percentile in brightness, a real one and the fake most like it in turn.

    Parameters
    ----------
    magnitude : ndarray, shape (n,)
        g magnitudes; NaN is never chosen.
    label : ndarray, shape (n,)
    percentile : float
        In brightness: 99 is the brightest.
    pairs : int

    Returns
    -------
    ndarray of int
        Row numbers: real, fake, real, fake...; fewer than asked where a class has fewer.
    """
    usable = np.isfinite(magnitude)
    reals, fakes = (np.flatnonzero(usable & (label == LABELS[name])) for name in ("real", "fake"))
    pairs = min(pairs, len(reals), len(fakes))
    reals = reals[np.argsort(magnitude[reals], kind="stable")]
    first = round((1 - percentile / 100) * len(reals) - pairs / 2)
    reals = reals[max(0, min(first, len(reals) - pairs)) :][:pairs]
    chosen: list[int] = []
    free = set(fakes.tolist())
    for real in reals:
        fake = min(free, key=lambda i: (abs(magnitude[i] - magnitude[real]), i))
        free.discard(fake)
        chosen += [int(real), fake]
    return np.array(chosen, dtype=int)


def gallery_rows(label: Array, score: Array, of: str, highest: bool, count: int) -> Array:
    """Choose the examples of a gallery: those that the network took for fakes, or for reals, most clearly.

    Parameters
    ----------
    label, score : ndarray, shape (n,)
        P(fake) for the score.
    of : str
        ``real`` or ``fake``.
    highest : bool
        Scores above 0.5, the highest first; else scores below 0.5, the lowest first.
    count : int

    Returns
    -------
    ndarray of int
        Row numbers; fewer than asked where there are fewer.
    """
    beyond = score > CALL if highest else score < CALL
    mine = np.flatnonzero((label == LABELS[of]) & beyond)
    order = np.argsort(-score[mine] if highest else score[mine], kind="stable")
    return np.asarray(mine[order[:count]])
