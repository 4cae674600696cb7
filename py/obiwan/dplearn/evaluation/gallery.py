"""Galleries and mosaics: the examples that a report shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.trainingset.stampset import StampSet

#: Percentiles in brightness of the five mosaics, and of the AUC that stands beside them: 99 is the brightest.
PERCENTILES = (99, 75, 50, 25, 1)
GALLERY_SIZE = 8  #: examples of a gallery, at most
CALL = 0.5  #: score above which the network calls an example fake
#: The galleries: name, label, and whether the highest scores come first.
GALLERIES = (("fakest_fakes", 1, True), ("fakes_that_fooled", 1, False), ("rejected_reals", 0, True))


@dataclass(frozen=True)
class Gallery:
    """Examples to be shown side by side.

    Attributes
    ----------
    name : str
        Of the picture's files.
    split : str
        Whose examples.
    stamps : ndarray, shape (n, size, size, channels)
    scores, magnitudes : ndarray, shape (n,)
        P(fake), and magnitude (AB) in the bluest band.
    spec : StampSpec
    """

    name: str
    split: str
    stamps: Array
    scores: Array
    magnitudes: Array
    spec: StampSpec


@dataclass(frozen=True)
class Mosaic:
    """Real and fake examples in turn at a percentile in brightness.

    Attributes
    ----------
    percentile : float
        99 is the brightest.
    split : str
        Whose examples.
    stamps : ndarray, shape (n, size, size, channels)
    labels, magnitudes : ndarray, shape (n,)
        Real = 0, fake = 1; magnitude (AB) in the bluest band.
    spec : StampSpec
    """

    percentile: float
    split: str
    stamps: Array
    labels: Array
    magnitudes: Array
    spec: StampSpec


def pair_by_magnitude(magnitude: Array, label: Array, percentile: float, pairs: int) -> Array:
    """Choose examples near a percentile in brightness, a real one and the fake most like it in turn.

    Parameters
    ----------
    magnitude : ndarray, shape (n,)
        NaN is never chosen.
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
    reals, fakes = (np.flatnonzero(usable & (label == value)) for value in (0, 1))
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


def gallery_rows(label: Array, score: Array, of: int, highest: bool, count: int) -> Array:
    """Choose the examples of a gallery: those that the network took for fakes, or for reals, most clearly.

    Parameters
    ----------
    label, score : ndarray, shape (n,)
        P(fake) for the score.
    of : int
        Real = 0, fake = 1.
    highest : bool
        Scores above 0.5, the highest first; else scores below 0.5, the lowest first.
    count : int

    Returns
    -------
    ndarray of int
        Row numbers; fewer than asked where there are fewer.
    """
    beyond = score > CALL if highest else score < CALL
    mine = np.flatnonzero((label == of) & beyond)
    order = np.argsort(-score[mine] if highest else score[mine], kind="stable")
    return np.asarray(mine[order[:count]])


def galleries_of(
    training_set: StampSet, split: str, scores: Array, count: int = GALLERY_SIZE
) -> list[Gallery]:
    """The galleries of a network that are not empty; none if it gives all examples the same score.

    Parameters
    ----------
    training_set : StampSet
    split : str
    scores : ndarray, shape (n,)
        P(fake) of each example, in the order of `StampSet.rows`.
    count : int
        Examples of a gallery, at most.
    """
    found, rows, spec = [], training_set.rows(split), training_set.spec
    for name, of, highest in GALLERIES:
        chosen = gallery_rows(rows["label"], scores, of, highest, count)
        if len(chosen) and np.ptp(scores) > 0:
            stamps = training_set.stamps(split, chosen)
            magnitudes = rows[f"mag_{spec.bluest}"][chosen].astype(float)
            found.append(Gallery(name, split, stamps, scores[chosen], magnitudes, spec))
    return found


def mosaics_of(training_set: StampSet, split: str, count: int) -> list[Mosaic]:
    """Mosaics at `PERCENTILES` in brightness; of a very small set those that show what others do not.

    Parameters
    ----------
    training_set : StampSet
    split : str
    count : int
        Rows of a mosaic, at most; half of them real.
    """
    rows, spec = training_set.rows(split), training_set.spec
    magnitude = rows[f"mag_{spec.bluest}"].astype(float)
    found: list[Mosaic] = []
    before: list[Array] = []
    for percentile in PERCENTILES:
        chosen = pair_by_magnitude(magnitude, rows["label"], percentile, count // 2)
        if len(chosen) and not any(np.array_equal(chosen, other) for other in before):
            before.append(chosen)
            stamps, labels = training_set.stamps(split, chosen), rows["label"][chosen]
            found.append(Mosaic(percentile, split, stamps, labels, magnitude[chosen], spec))
    return found
