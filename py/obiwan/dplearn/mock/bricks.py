"""Bricks of the mock survey: where they are, how they were observed, their random streams.

Pure: nothing here reads or writes a file, or draws a galaxy.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.wcs import WCS

from obiwan.dplearn.mock.config import FILTERS, PIXEL_SCALE, Filter, MockConfig
from obiwan.dplearn.stampspec import Array, StampSpec

LABEL_STEP = 0.25  #: Real bricks are a quarter of a degree; the names of the mock's bricks step as theirs do

BADPIX, SATUR = 1, 2  #: Bits of allmask and anymask that the mock sets


@dataclass(frozen=True)
class Brick:
    """One brick: a primary box on the sky, and a square coadd that is wider by a border.

    Parameters
    ----------
    row, col : int
        Place in the grid; columns run along RA, column 0 begins at RA = 0, rows run along Dec.
    size : int
        Pixels on a side of the coadd.
    border : int
        Pixels on each side of the coadd outside the primary box.
    dec0 : float
        Declination of the centre of row 0, in degrees.
    bands : tuple of str
        In which it was observed.
    shared : int
        Bricks on a side of the square of the grid that share exposures.
    """

    row: int
    col: int
    size: int
    border: int
    dec0: float = 0.0
    bands: tuple[str, ...] = StampSpec.bands
    shared: int = 1

    @property
    def pointing(self) -> Brick:
        """The first brick of those that share its exposures: the exposures are named after it."""
        row, col = (place // self.shared * self.shared for place in (self.row, self.col))
        return replace(self, row=row, col=col)

    @property
    def side(self) -> float:
        """Degrees on a side of the primary box."""
        return (self.size - 2 * self.border) * PIXEL_SCALE / 3600.0

    @property
    def dec(self) -> float:
        """Declination of the centre, in degrees."""
        return self.dec0 + self.row * self.side

    @property
    def ra(self) -> float:
        """Right ascension of the centre, in degrees."""
        return 0.5 * (self.box[0] + self.box[1])

    @property
    def box(self) -> tuple[float, float, float, float]:
        """RAMIN, RAMAX, DECMIN, DECMAX in degrees; no brick straddles RA 0, as in the real survey."""
        width = self.side / math.cos(math.radians(self.dec))
        turn = 360.0 if self.col < 0 else 0.0
        ramin, ramax = turn + self.col * width, turn + (self.col + 1) * width
        return ramin, ramax, self.dec - self.side / 2, self.dec + self.side / 2

    @property
    def name(self) -> str:
        """RRRr[pm]DDd of the quarter-degree brick that has this place in the grid.

        Smaller bricks would share names if the names followed their own positions.
        """
        ra10 = int(((self.col + 0.5) * LABEL_STEP % 360.0) * 10)
        dec = self.dec0 + self.row * LABEL_STEP
        return f"{ra10:04d}{'m' if dec < 0 else 'p'}{int(abs(dec) * 10 + 1e-6):03d}"

    @property
    def brickid(self) -> int:
        """A number that is unique within the grid."""
        return 100000 + 1000 * self.row + self.col + 500

    def is_beside(self, other: Brick) -> bool:
        """Whether bricks touch, at a side or a corner."""
        return self != other and max(abs(self.row - other.row), abs(self.col - other.col)) <= 1

    def wcs(self) -> WCS:
        """TAN projection at 0.262 arcsec per pixel, North up, East left, centred on the brick."""
        out = WCS(naxis=2)
        out.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        out.wcs.crval = [self.ra, self.dec]
        out.wcs.crpix = [self.size / 2 + 0.5, self.size / 2 + 0.5]
        out.wcs.cd = np.diag([-PIXEL_SCALE / 3600.0, PIXEL_SCALE / 3600.0])
        return out

    def to_sky(self, x: Array, y: Array) -> tuple[Any, Any]:
        """RA in [0, 360) and Dec, in degrees, of 0-based pixel positions."""
        ra, dec = self.wcs().all_pix2world(x, y, 0)
        return np.mod(ra, 360.0), dec

    def to_pixels(self, ra: Array, dec: Array) -> tuple[Any, Any]:
        """0-based pixel positions of RA and Dec, in degrees."""
        x, y = self.wcs().all_world2pix(ra, dec, 0)
        return x, y

    def is_primary(self, ra: Array, dec: Array) -> Array:
        """Whether positions lie in the primary box (half open, as in legacypipe)."""
        ramin, ramax, decmin, decmax = self.box
        # RA 359.999 is outside a brick that begins at RA 0.
        near = self.ra + np.mod(ra - self.ra + 180.0, 360.0) - 180.0
        inside: Array = (near >= ramin) & (near < ramax) & (dec >= decmin) & (dec < decmax)
        return inside


@dataclass(frozen=True)
class Conditions:
    """Observing conditions of one brick; the tuples have one value for each of its bands.

    Parameters
    ----------
    bands : tuple of str
        In which it was observed.
    fwhm : tuple of float
        Width of the PSF (pixel included), in arcseconds.
    sigma : tuple of float
        Sky noise per coadd pixel where ``nobs`` exposures overlap, in nanomaggies.
    nobs : tuple of int
        Number of exposures over most of the brick.
    ebv : float
        Galactic reddening E(B-V), in magnitudes.
    """

    bands: tuple[str, ...]
    fwhm: tuple[float, ...]
    sigma: tuple[float, ...]
    nobs: tuple[int, ...]
    ebv: float

    @property
    def filters(self) -> list[Filter]:
        """The filter of each band."""
        return [FILTERS[band] for band in self.bands]

    @property
    def gain(self) -> tuple[float, ...]:
        """Photo-electrons per nanomaggy in one exposure."""
        return tuple(one.gain for one in self.filters)

    def transmission(self) -> Array:
        """Fraction of the light that the Milky Way lets through in each band."""
        extinction = np.array([one.extinction for one in self.filters])
        return np.asarray(10.0 ** (-0.4 * self.ebv * extinction), dtype=np.float64)


@dataclass(frozen=True)
class Exposure:
    """Coverage and depth of one band of a brick; planes are ``(size, size)``.

    Parameters
    ----------
    nobs : ndarray of uint8
        Number of exposures; 0 where there is no data.
    mask : ndarray of int16
        Bits of what every exposure of a pixel suffers from; 0 is good.
    variance : ndarray of float32
        Variance of the sky noise, in nanomaggies squared (finite where nobs is 0, but without meaning).
    """

    nobs: Array
    mask: Array
    variance: Array


def brick_grid(config: MockConfig) -> list[Brick]:
    """Return a nearly square grid of bricks, row by row; ``config.west`` columns precede RA 0."""
    ncol = math.ceil(math.sqrt(config.bricks))
    common = (config.brick_size, config.border, config.dec, config.bands, config.shared_exposures)
    return [Brick(k // ncol, k % ncol - config.west, *common) for k in range(config.bricks)]


def brick_stream(seed: int, brick: str, *purpose: str | int) -> np.random.Generator:
    """Return the random generator of one purpose in one brick, whoever asks and in whatever order.

    Not `obiwan.dplearn.running.streams.stream`, which derives its seeds in another way: with it every mock
    survey would have other bytes.
    """
    words = [key if isinstance(key, int) else zlib.crc32(key.encode()) for key in (brick, *purpose)]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


def draw_conditions(
    rng: np.random.Generator,
    bands: tuple[str, ...] = StampSpec.bands,
    seeing_scatter: float = MockConfig.seeing_scatter,
    depth_scatter: float = MockConfig.depth_scatter,
) -> Conditions:
    """Draw seeing, depth and reddening of a brick around the medians of `FILTERS`.

    All bands are drawn, whichever were observed: first those of `StampSpec`, then the others.  The scatters
    are those of `MockConfig`.
    """
    common = rng.normal(0.0, np.sqrt(0.5), 2)

    def draw(names: Sequence[str]) -> dict[str, tuple[float, float, int]]:
        filters, n = [FILTERS[name] for name in names], len(names)
        own = common[:, None] + rng.normal(0.0, np.sqrt(0.5), (2, n))
        fwhm = np.array([one.fwhm for one in filters]) * np.exp(seeing_scatter * own[0])
        sigma = np.array([one.sigma for one in filters]) * np.exp(depth_scatter * own[1])
        values = zip(fwhm.tolist(), sigma.tolist(), rng.integers(2, 5, n).tolist(), strict=True)
        return dict(zip(names, values, strict=True))

    drawn = draw(StampSpec.bands)
    ebv = float(np.clip(np.exp(rng.normal(np.log(0.04), 0.5)), 0.005, 0.2))
    drawn |= draw([name for name in FILTERS if name not in StampSpec.bands])
    fwhm, sigma, nobs = zip(*(drawn[band] for band in bands), strict=True)
    return Conditions(bands, fwhm, sigma, nobs, ebv)


def draw_exposure(rng: np.random.Generator, size: int, sigma: float, nobs: int) -> Exposure:
    """Draw the coverage of one band: an edge of a CCD, at times a strip without data, bad pixels.

    The weight varies by 1 % from pixel to pixel, as flat fields make it do; without that the
    invvar compresses losslessly, which no real invvar does.
    """
    count = np.full((size, size), nobs, dtype=np.uint8)
    edge = int(rng.integers(size // 4, 3 * size // 4))
    if rng.random() < 0.5:
        count[:, edge:] += 1
    else:
        count[:edge, :] -= 1
    if rng.random() < 0.1:
        width = int(rng.integers(size // 16, size // 6))
        count[:, :width] = 0
    mask = np.zeros((size, size), dtype=np.int16)
    spots = rng.integers(0, size - 2, (max(1, size * size // 20000), 2))
    for y, x in spots:
        mask[y : y + 2, x : x + 2] |= BADPIX
    flat = np.exp(rng.normal(0.0, 0.01, (size, size)).astype(np.float32))
    depth = np.maximum(count, 1).astype(np.float32) / np.float32(nobs)
    return Exposure(count, mask, (np.float32(sigma**2) * flat / depth).astype(np.float32))
