"""Bricks of a training set: where they lie, and the AUC in each test brick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.trainingset.clusters import factorised
from obiwan.dplearn.twosample.ranking import auc_interval

LEAST = 5  #: examples of each class without which a brick has no AUC
#: A brick on the sky: its split, the middle of its examples (degrees), and how many there are.
PLACE = np.dtype(
    [("brick", "U24"), ("split", "U5"), ("ra", "f8"), ("dec", "f8"), ("real", "i8"), ("fake", "i8")]
)
#: AUC of the examples of a brick, which are independent within it.
OWN_AUC = np.dtype(
    [("brick", "U24"), ("real", "i8"), ("fake", "i8"), ("auc", "f8"), ("low", "f8"), ("high", "f8")]
)


def footprint(pieces_of: Mapping[str, Iterable[Array]]) -> Array:
    """Place of every brick, as records of `PLACE`.

    Parameters
    ----------
    pieces_of : mapping
        Rows of the example table by split, in pieces.
    """
    found = []
    for split, pieces in pieces_of.items():
        sums: dict[str, Array] = {}
        for rows in pieces:
            for name, own in zip(*_sums(rows), strict=True):
                sums[name] = sums.get(name, 0.0) + own
        total, fakes, east, north, dec = np.array([sums[name] for name in sorted(sums)]).reshape(-1, 5).T
        part = np.zeros(len(sums), PLACE)
        part["brick"], part["split"] = sorted(sums), split
        part["ra"], part["dec"] = np.degrees(np.arctan2(east, north)) % 360, dec / np.maximum(total, 1)
        part["real"], part["fake"] = total - fakes, fakes
        found.append(part)
    return np.concatenate(found) if found else np.zeros(0, PLACE)


def _sums(rows: Array) -> tuple[list[str], Array]:
    """Names of bricks, and for each the number of examples and of fakes, and sums that say where it lies."""
    names, number = factorised(rows["brick"])
    angle = np.radians(rows["ra"])  # a mean of angles would fail at RA 0
    parts = (None, rows["label"], np.sin(angle), np.cos(angle), rows["dec"])
    return names.tolist(), np.stack([np.bincount(number, one, len(names)) for one in parts], axis=1)


def unwrapped(ra: Array) -> Array:
    """Right ascensions (degrees) in one piece: those beyond the widest gap are less by 360.

    Examples
    --------
    >>> unwrapped(np.array([359.0, 1.0, 0.5]))
    array([-1. ,  1. ,  0.5])
    """
    if not len(ra):
        return ra
    ordered = np.sort(ra)
    gaps = np.diff(np.r_[ordered, ordered[0] + 360])
    last = ordered[int(np.argmax(gaps))]
    return np.where(ra > last, ra - 360, ra) if last < ordered[-1] else ra


def auc_of_bricks(labels: Array, scores: Array, bricks: Array) -> Array:
    """AUC in each brick with `LEAST` or more examples of either class, as records of `OWN_AUC`.

    Parameters
    ----------
    labels, scores, bricks : ndarray, shape (n,)
        Real = 0, fake = 1; P(fake) or its ranks; names.
    """
    names, number = factorised(bricks)
    found, order = [], np.argsort(number, kind="stable")
    ends = np.cumsum(np.bincount(number, minlength=len(names)))
    for name, mine in zip(names.tolist(), np.split(order, ends[:-1]), strict=True):
        fakes = int(labels[mine].sum())
        if min(fakes, len(mine) - fakes) >= LEAST:
            auc = auc_interval(labels[mine], scores[mine])
            found.append((name, len(mine) - fakes, fakes, auc.value, auc.low, auc.high))
    return np.array(found, OWN_AUC)
