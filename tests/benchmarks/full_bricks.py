"""A tree of full-size bricks with thousands of sources, written as legacysim and legacypipe write theirs.

Only what the speed of extraction depends on is realistic: size, compression, numbers and positions.  The
pixels are noise (compressed to about the size of real coadds), the sources have no light.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from obiwan.dplearn.mock import writers
from obiwan.dplearn.mock.bricks import Brick
from obiwan.dplearn.mock.catalog import tractor_dtype
from obiwan.dplearn.stampspec import StampSpec

BANDS = StampSpec().bands

RUN = "file0_rs0_skip0"
SIZE, BORDER = 3600, 82
SKY = {"g": 0.003, "r": 0.004, "z": 0.010}  # nanomaggies per pixel
APART = 21.0  # pixels: a little more than the 5 arcsec that reals keep from injections
_VERSION = "1"


def _planes(folder: Path, brick: Brick, rng: np.random.Generator) -> None:
    ccd = np.kron(rng.uniform(0.6, 1.0, (2, 4)), np.ones((1800, 900)))  # depth varies from CCD to CCD
    for band in BANDS:
        sigma = SKY[band]
        image = rng.standard_normal((SIZE, SIZE), dtype=np.float32) * np.float32(sigma)
        noise = 1 + 0.02 * rng.standard_normal((SIZE, SIZE), dtype=np.float32)
        invvar = (ccd / sigma**2 * noise).astype(np.float32)
        image[:60, :400], invvar[:60, :400] = 0, 0  # uncovered
        writers.write_planes(folder, brick, band, image, invvar, "legacysim")


def _positions(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pixel positions of n injections and n reals, all far enough from injections to be used."""
    inside = (BORDER + 5, SIZE - BORDER - 5)
    kept = np.empty((0, 2))
    while len(kept) < n:  # 5 arcsec between injections, as the injectors have it
        more = rng.uniform(*inside, (n, 2))
        far = cKDTree(np.r_[kept, more]).query(more, k=2)[0][:, 1] > APART
        kept = np.r_[kept, more[far]]
    fakes = kept[:n]
    reals = rng.uniform(*inside, (20 * n, 2))
    reals = reals[cKDTree(fakes).query(reals)[0] > APART][:n]
    return fakes, reals


def _tables(root: Path, brick: Brick, n: int, rng: np.random.Generator) -> None:
    fakes, reals = _positions(n, rng)
    x, y = np.r_[fakes, reals].T
    table = np.zeros(len(x), dtype=tractor_dtype(brick.bands))
    table["objid"], table["brickname"], table["type"] = np.arange(len(x)), brick.name, b"EXP"
    table["bx"], table["by"], table["brick_primary"] = x, y, True
    table["ra"], table["dec"] = brick.to_sky(x, y)
    table["sersic"], table["shape_r"] = 1, 0.5
    for band in BANDS:
        table[f"flux_{band}"], table[f"flux_ivar_{band}"] = 2, 100
        table[f"mw_transmission_{band}"], table[f"nobs_{band}"] = 1, 3
    rows = table[rng.permutation(len(table))]
    writers.write_tractor(root / RUN / "tractor" / brick.name[:3] / f"tractor-{brick.name}.fits", rows, brick)
    truth = np.zeros(
        n, dtype=[("id", "i8"), *((k, "f8") for k in ("ra", "dec", "sersic", "shape_r")), ("collided", "?")]
        + [(f"flux_{band}", "f8") for band in BANDS],
    )  # fmt: skip
    truth["id"], truth["ra"], truth["dec"] = np.arange(n), table["ra"][:n], table["dec"][:n]
    truth["sersic"], truth["shape_r"] = 1, 0.5
    for band in BANDS:
        truth[f"flux_{band}"] = 2
    writers.write_table(root / RUN / "sim" / brick.name[:3] / f"injected-{brick.name}.fits", truth)


def build(root: Path, bricks: int, sources: int) -> Path:
    """Write the tree, unless an earlier call left it there; returns the injection tree."""
    tree, done = root / f"tree-{_VERSION}-{bricks}x{sources}", f"{bricks} bricks, {sources} of each class"
    marker = tree.with_suffix(".done")
    if marker.is_file():
        return tree
    for i in range(bricks):
        rng = np.random.default_rng([1, i])
        brick = Brick(row=0, col=2 * i, size=SIZE, border=BORDER)  # every second: no sky is shared
        _planes(tree / RUN / "coadd" / brick.name[:3] / brick.name, brick, rng)
        _tables(tree, brick, sources, rng)
        print(f"   wrote brick {brick.name} ({i + 1} of {bricks})", flush=True)
    marker.write_text(done + "\n", encoding="utf-8")
    return tree
