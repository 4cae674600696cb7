"""Stamps on the grids of coadds that never were: quantised and dithered as a writer of FITS files does it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.quantisation import TileGrid
from obiwan.dplearn.trainingset.manifest import WORK, format_version
from obiwan.dplearn.trainingset.patches import Patches, patch_dtype, stamp_patches
from obiwan.dplearn.trainingset.shards import write_shard
from obiwan.dplearn.trainingset.stampset import open_training_set
from sealing import seal

SIDE, TILE = 3600, 100  # pixels of a brick of the survey, and of its tiles
LEVELS = 4.0  # steps in the noise of a pixel: legacypipe's


def quantise(x: np.ndarray, spec: StampSpec, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Stamps rounded to the grids of coadds in which they lie anywhere, and the table of their patches."""
    tiles, found = (SIDE // TILE) ** 2, []
    grids = []
    for channel in range(x.shape[-1]):
        image = channel < len(spec.bands)
        spread = np.median(np.abs(np.diff(x[..., channel], axis=2))) or np.median(x[..., channel]) / 10
        scale = spread / LEVELS * rng.uniform(0.9, 1.1, tiles)
        method = "SUBTRACTIVE_DITHER_2" if image else "NO_DITHER"
        zero = scale * (2**31 - 11) if image else np.zeros(tiles)
        grids.append(TileGrid(method, (SIDE, SIDE), (TILE, TILE), scale, zero, int(rng.integers(10_000))))
    for number in range(len(x)):
        corner = rng.integers(0, SIDE - spec.size, 2)
        found += stamp_patches(number, tuple(corner.tolist()), spec.size, grids)
    table = np.array(found, patch_dtype(x.shape[-1]))
    patches, out = Patches(table, spec.size), np.empty_like(x)
    for number, stamp in enumerate(x):
        out[number] = patches.values(number, patches.integers(number, stamp))
    return out, table


def pack_set(directory: Path, seed: int = 1) -> None:
    """Turn a training set into one of packed shards, its stamps quantised."""
    whole, shards = open_training_set(directory), []
    (directory / WORK).mkdir()
    for number, shard in enumerate(whole.shards):
        x, y = whole.read(shard)
        x, table = quantise(x, whole.spec, np.random.default_rng([seed, number]))
        made = write_shard(directory, whole.spec, *shard.key, x, y, directory / WORK, table)
        (directory / shard.x_name).unlink()
        shards.append(made)
    (directory / WORK).rmdir()
    entries = [shard.to_manifest() for shard in shards]
    seal(directory, shards=entries, format_version=format_version(shards))
