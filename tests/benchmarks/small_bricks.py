"""A tree of hundreds of small bricks with thousands of catalogue rows each, written in a minute or two.

The planes of all bricks are copies of a few, with headers of their own: what is rehearsed is the work on
many bricks and rows, not what is in the pixels.  Most catalogue rows are too faint to be used, as in a real
catalogue.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.spatial import cKDTree

from obiwan.dplearn.mock import writers
from obiwan.dplearn.mock.bricks import Brick
from obiwan.dplearn.mock.catalog import tractor_dtype
from obiwan.dplearn.stampspec import StampSpec

BANDS = StampSpec().bands

RUN = "file0_rs0_skip0"
SIZE, BORDER = 640, 8
APART = 21.0  # pixels: a little more than the 5 arcsec that reals keep from injections
PATTERNS = 8  #: different sets of planes and positions
ELG = {"g": 1.0, "r": 1.6, "z": 2.5}  # nanomaggies, in the middle of the elg box
FAINT = 0.05
TRUTH = np.dtype(
    [("id", "i8"), *((k, "f8") for k in ("ra", "dec", "sersic", "shape_r")), ("collided", "?")]
    + [(f"flux_{band}", "f8") for band in BANDS]
)


@dataclass(frozen=True)
class Size:
    """How large a tree is: bricks, catalogue rows a brick, examples of each class a brick."""

    bricks: int
    rows: int = 2500
    each: int = 128

    @property
    def name(self) -> str:
        """Of its directory."""
        return f"rehearsal-{self.bricks}x{self.rows}x{self.each}"


@dataclass(frozen=True)
class Pattern:
    """What bricks that look alike have: positions (0-based pixels), injections first, and six files."""

    x: np.ndarray
    y: np.ndarray
    planes: dict[str, bytes]


def _apart(n: int, rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    kept = np.empty((0, 2))
    while len(kept) < n:
        more = rng.uniform(low, high, (n, 2))
        kept = np.r_[kept, more[cKDTree(np.r_[kept, more]).query(more, k=2)[0][:, 1] > APART]]
    return kept[:n]


def _pattern(number: int, size: Size, scratch: Path) -> Pattern:
    rng = np.random.default_rng([7, number])
    low, high = BORDER + 33.0, SIZE - BORDER - 33.0
    fakes = _apart(size.each, rng, low, high)
    far = rng.uniform(low, high, (40 * size.each, 2))
    reals = far[cKDTree(fakes).query(far)[0] > APART][: size.each]
    faint = rng.uniform(BORDER + 1, SIZE - BORDER - 1, (size.rows - 2 * size.each, 2))
    x, y = np.r_[fakes, reals, faint].T
    brick = Brick(row=0, col=0, size=SIZE, border=BORDER)
    for band in BANDS:
        image = rng.normal(0, 0.005, (SIZE, SIZE)).astype(np.float32)
        invvar = (4e4 * (1 + 0.02 * rng.standard_normal((SIZE, SIZE)))).astype(np.float32)
        writers.write_planes(scratch, brick, band, image, invvar, "legacysim")
    stem = f"legacysurvey-{brick.name}"
    return Pattern(x, y, {path.name.removeprefix(stem): path.read_bytes() for path in scratch.iterdir()})


def _with_cards(content: bytes, cards: dict[str, object]) -> bytes:
    """A FITS file with other values in some of its header cards, which are 80 bytes each."""
    whole = bytearray(content)
    for name, value in cards.items():
        at = whole.index(f"{name:<8}= ".encode())
        whole[at : at + 80] = fits.Card(name, value).image.encode()
    return bytes(whole)


def _write_brick(tree: Path, brick: Brick, pattern: Pattern, size: Size) -> None:
    ra_min, ra_max, dec_min, dec_max = brick.box
    cards = {"CRVAL1": brick.ra, "CRVAL2": brick.dec, "RAMIN": ra_min, "RAMAX": ra_max, "DECMIN": dec_min}
    cards |= {"DECMAX": dec_max, "BRICK": brick.name}
    folder = tree / RUN / "coadd" / brick.name[:3] / brick.name
    folder.mkdir(parents=True)
    for rest, content in pattern.planes.items():
        (folder / f"legacysurvey-{brick.name}{rest}").write_bytes(_with_cards(content, cards))
    table = np.zeros(size.rows, dtype=tractor_dtype(brick.bands))
    table["objid"], table["brickname"], table["type"] = np.arange(size.rows), brick.name, b"EXP"
    table["bx"], table["by"], table["brick_primary"] = pattern.x, pattern.y, True
    table["ra"], table["dec"] = brick.to_sky(pattern.x, pattern.y)
    table["sersic"], table["shape_r"] = 1, 0.5
    truth = np.zeros(size.each, TRUTH)
    for band, flux in ELG.items():
        table[f"flux_{band}"] = np.where(np.arange(size.rows) < 2 * size.each, flux, FAINT * flux)
        table[f"flux_ivar_{band}"], table[f"nobs_{band}"], table[f"mw_transmission_{band}"] = 400, 3, 1
        truth[f"flux_{band}"] = flux
    truth["id"], truth["sersic"], truth["shape_r"] = np.arange(size.each), 1, 0.5
    truth["ra"], truth["dec"] = table["ra"][: size.each], table["dec"][: size.each]
    head = [*writers.brick_cards(brick, "legacysim"), ("CMDLINE", "legacysim --all-blobs", "")]
    writers.write_table(tree / RUN / "tractor" / brick.name[:3] / f"tractor-{brick.name}.fits", table, head)
    writers.write_table(tree / RUN / "sim" / brick.name[:3] / f"injected-{brick.name}.fits", truth)


def bricks_of(size: Size) -> list[Brick]:
    """Every second brick of a grid, so that none shares sky with another."""
    side = int(np.ceil(np.sqrt(size.bricks)))
    return [
        Brick(row=2 * (i // side), col=2 * (i % side), size=SIZE, border=BORDER) for i in range(size.bricks)
    ]


def build(workdir: Path, size: Size) -> Path:
    """Write a tree, unless an earlier call left it there; returns its directory."""
    tree = workdir / size.name
    marker = tree.with_suffix(".done")
    if marker.is_file():
        return tree
    shutil.rmtree(tree, ignore_errors=True)
    patterns = []
    for number in range(PATTERNS):
        with tempfile.TemporaryDirectory(dir=workdir) as scratch:
            patterns.append(_pattern(number, size, Path(scratch)))
    for number, brick in enumerate(bricks_of(size)):
        _write_brick(tree, brick, patterns[number % PATTERNS], size)
    marker.touch()
    return tree
