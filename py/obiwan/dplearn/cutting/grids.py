"""Grids of stamps: in which tiles of which coadds the pixels of examples lie, so that they can be packed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from obiwan.dplearn.errors import CoaddError
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.coadds import plane_names
from obiwan.dplearn.survey.cutouts import centre_pixel
from obiwan.dplearn.survey.layouts import BrickRun
from obiwan.dplearn.survey.quantisation import TileGrid, read_grid
from obiwan.dplearn.trainingset.patches import patch_dtype, stamp_patches

Key = tuple[int, str, str]  # root, brick, run


def row_keys(rows: Array) -> list[Key]:
    """Root, brick and run of each example row."""
    return [
        (int(root), brick.decode("ascii"), run.decode("ascii"))
        for root, brick, run in zip(rows["root"], rows["brick"], rows["run"], strict=True)
    ]


@lru_cache(maxsize=512)  # those of a group's coadds, half a megabyte each at most
def _grids(run: BrickRun, spec: StampSpec) -> list[TileGrid | None]:
    """Grids of the planes of a coadd, in channel order; None for a plane that is not there."""

    def grid(kind: str, band: str) -> TileGrid | None:
        try:
            return read_grid(run.plane(kind, band))
        except CoaddError:
            return None

    return [grid(kind, band) for kind, band in plane_names(spec)]


def shard_patches(rows: Array, runs: Mapping[Key, BrickRun], spec: StampSpec) -> Array:
    """Patches of the stamps of a shard (`obiwan.dplearn.trainingset.patches.patch_dtype`).

    Parameters
    ----------
    rows : ndarray of `example_dtype`
        Its examples, in their order.
    runs : mapping
        Files of the coadds that the rows name; those of others count as not quantised.
    spec : StampSpec
    """
    corners = np.stack([centre_pixel(rows[axis]) - spec.size // 2 for axis in ("y", "x")], axis=-1)
    found = []
    for number, (key, corner) in enumerate(zip(row_keys(rows), corners.tolist(), strict=True)):
        if key in runs:
            found += stamp_patches(number, tuple(corner), spec.size, _grids(runs[key], spec))
    return np.array(found, patch_dtype(len(spec.channels)))
