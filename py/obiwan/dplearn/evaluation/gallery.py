"""Galleries and mosaics: the examples that a report shows."""

from __future__ import annotations

from collections.abc import Sequence
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
class Shown:
    """Examples that one picture shows: those of a gallery, or of a mosaic.

    Attributes
    ----------
    which : str or int
        Name of the gallery, or the mosaic's percentile in brightness (99 is the brightest).
    split : str
        Whose examples.
    stamps : ndarray, shape (n, size, size, channels)
    values, magnitudes : ndarray, shape (n,)
        P(fake) in a gallery, labels (real = 0, fake = 1) in a mosaic; magnitude (AB) in the bluest band.
    spec : StampSpec
    """

    which: str | int
    split: str
    stamps: Array
    values: Array
    magnitudes: Array
    spec: StampSpec


def _shown(stamp_set: StampSet, which: str | int, split: str, chosen: Array, values: Array) -> Shown:
    """The chosen rows of a split, with a value of every row."""
    magnitudes = stamp_set.rows(split)[f"mag_{stamp_set.spec.bluest}"][chosen].astype(float)
    return Shown(which, split, stamp_set.stamps(split, chosen), values[chosen], magnitudes, stamp_set.spec)


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
    reals, fakes = (np.flatnonzero(np.isfinite(magnitude) & (label == value)) for value in (0, 1))
    pairs = min(pairs, len(reals), len(fakes))
    reals = reals[np.argsort(magnitude[reals], kind="stable")]
    first = round((1 - percentile / 100) * len(reals) - pairs / 2)
    reals = reals[max(0, min(first, len(reals) - pairs)) :][:pairs]
    chosen: list[int] = []
    free = magnitude[fakes]  # infinite once it is taken
    for real in reals:
        nearest = int(np.argmin(np.abs(free - magnitude[real])))
        free[nearest] = np.inf
        chosen += [int(real), int(fakes[nearest])]
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


def galleries_of(training_set: StampSet, split: str, scores: Array, count: int = GALLERY_SIZE) -> list[Shown]:
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
    labels = training_set.rows(split)["label"]
    galleries = GALLERIES if np.ptp(scores) > 0 else ()
    chosen = {name: gallery_rows(labels, scores, of, top, count) for name, of, top in galleries}
    return [_shown(training_set, name, split, rows, scores) for name, rows in chosen.items() if len(rows)]


def mosaics_of(
    training_set: StampSet, split: str, count: int, percentiles: Sequence[int] | None = None
) -> list[Shown]:
    """Mosaics at percentiles in brightness; of a very small set those that show what others do not.

    Parameters
    ----------
    training_set : StampSet
    split : str
    count : int
        Rows of a mosaic, at most; half of them real.
    percentiles : sequence of int, optional
        99 is the brightest; `PERCENTILES` by default.
    """
    labels = training_set.rows(split)["label"]
    magnitude = training_set.rows(split)[f"mag_{training_set.spec.bluest}"].astype(float)
    found: dict[bytes, Shown] = {}
    for percentile in percentiles or PERCENTILES:
        chosen = pair_by_magnitude(magnitude, labels, percentile, count // 2)
        if len(chosen) and chosen.tobytes() not in found:
            found[chosen.tobytes()] = _shown(training_set, percentile, split, chosen, labels)
    return list(found.values())
