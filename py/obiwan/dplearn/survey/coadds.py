"""Coadds of a brick: image and inverse variance planes with their WCS.

The data are the first two-dimensional HDU of a file, whatever its suffix says: fpacked coadds hold
them in HDU 1, plain ones in HDU 0.  Two decoders give bitwise the same pixels: astropy decodes a
whole fpacked plane faster, fitsio reads the tiles under a few windows faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from obiwan.dplearn.errors import CoaddError
from obiwan.dplearn.files.fits import check_not_truncated, fingerprint, open_fits, reading
from obiwan.dplearn.stampspec import IMAGE, IVAR, Array, StampSpec
from obiwan.dplearn.survey.cutouts import centre_pixel, overlap
from obiwan.dplearn.survey.layouts import BrickRun, available_bands
from obiwan.dplearn.survey.writers import Writer, writer_of

_KINDS = {IMAGE: "image", IVAR: "invvar"}  # planes of a stamp, and what their files are called
SCALE_TOLERANCE = 0.01  #: by which the pixels of a coadd may differ from those of the stamps
_NO_IMAGE = "no two-dimensional image in it"
_TILE = 100  # pixels on a side of the tiles that legacypipe compresses by


class BandNotObservedError(CoaddError):
    """A band is absent, and the headers say that no exposure of it touches the brick."""


def plane_names(spec: StampSpec) -> list[tuple[str, str]]:
    """Kind (``image``, ``invvar``) and band of each channel of a stamp."""
    return [(_KINDS[plane], band) for plane in spec.planes for band in spec.bands]


def _naming(run: BrickRun, path: Path) -> AbstractContextManager[None]:
    """Turn whatever a decoder raises into one line that names brick, file and remedy."""
    remedy = "restore the file, or leave the brick out with --bricks"
    return reading(f"{run.label}: cannot read {path}", remedy, CoaddError)


@contextmanager
def open_image(run: BrickRun, path: Path) -> Iterator[tuple[Any, Any]]:
    """A file, and the first HDU in it that is an image of two dimensions."""
    with _naming(run, path), open_fits(path) as file:
        for hdu in file:
            if hdu.get_exttype() == "IMAGE_HDU" and len(hdu.get_dims()) == 2:
                yield file, hdu
                return
        raise OSError(_NO_IMAGE)


@dataclass(frozen=True)
class Frame:
    """Pixel grid of one brick's coadds on the sky.

    Attributes
    ----------
    wcs : astropy.wcs.WCS
    shape : tuple of int
        (ny, nx).
    box : tuple of float or None
        RA min, RA max, Dec min, Dec max (degrees) of the brick's primary area, where the header
        has it.
    content : int
        Names what is in the files of all planes (`fingerprint`).
    writer : Writer or None
        What wrote the planes.
    """

    wcs: WCS
    shape: tuple[int, int]
    box: tuple[float, float, float, float] | None
    content: int
    writer: Writer | None = None

    def pixels(self, ra: Array, dec: Array) -> tuple[Array, Array]:
        """0-based pixel positions (x, y) of sky positions in degrees."""
        if len(ra) == 0:
            return np.empty(0), np.empty(0)
        x, y = self.wcs.all_world2pix(ra, dec, 0)
        return np.asarray(x, float), np.asarray(y, float)

    def primary(self, ra: Array, dec: Array) -> Array | None:
        """Whether positions lie in the brick's primary area; None where the header is silent."""
        if self.box is None:
            return None
        ra_min, ra_max, dec_min, dec_max = self.box
        # Offsets from the western edge, so that a brick may straddle RA = 0.
        width = (ra_max - ra_min) % 360 or 360.0  # the cap around a pole has all right ascensions
        offset = (np.asarray(ra) - ra_min) % 360
        return (offset < width) & (dec >= dec_min) & (dec < dec_max)


def _plane_paths(run: BrickRun, spec: StampSpec) -> dict[tuple[str, str], Path]:
    """Paths of image and invvar planes; tells a band that never was from one that was lost."""
    paths: dict[tuple[str, str], Path] = {}
    missing: dict[tuple[str, str], CoaddError] = {}
    for kind in _KINDS.values():
        for band in spec.bands:
            try:
                paths[kind, band] = run.plane(kind, band)
            except CoaddError as absent:
                missing[kind, band] = absent
    for (_, band), error in missing.items():
        if not any((kind, band) in paths for kind in _KINDS.values()) and not _touches(run, band):
            raise BandNotObservedError(str(error)) from None
    if missing:
        raise next(iter(missing.values()))
    return paths


def _touches(run: BrickRun, band: str) -> bool:
    """Whether the headers of other bands leave open that an exposure in this band touches the brick.

    ``BRICK_X`` says it, else ``CAMS_X``, else the list of the bands (``grz``, from DR10.3 ``g,r,z``).
    """
    for other in available_bands(run)[:1]:
        path = run.plane("image", other)
        with open_image(run, path) as (_, hdu):
            header = hdu.read_header()
        known = (f"BRICK_{band.upper()}", f"CAMS_{band.upper()}")
        for card in known:
            if header.get(card) is not None:
                return bool(str(header[card]).strip()) and header[card] is not False
        bands = header.get("BANDS") or header.get("BRICKBND")
        return bands is None or band in str(bands)
    return True


def read_frame(run: BrickRun, spec: StampSpec) -> Frame:
    """Read WCS, shape, primary area and writer of a brick's coadds, and check that all planes fit.

    Inverse variances are looked at also where stamps have none: examples must be observed.

    Raises
    ------
    BandNotObservedError
        If a band is missing and the headers say that it does not touch the brick.
    CoaddError
        If a plane is missing, unreadable or truncated, the planes' shapes differ, or their pixels are not as
        large as those of the stamps.
    """
    paths = _plane_paths(run, spec)
    headers, shapes, content = {}, {}, 0
    for name, path in paths.items():
        with open_image(run, path) as (file, hdu):
            check_not_truncated(file, path)
            offsets = hdu.get_offsets()
            content = fingerprint(path, (offsets["header_start"], offsets["data_start"]), content)
            ny, nx = hdu.get_dims()
            shapes[path] = (int(ny), int(nx))
            headers[name] = hdu.read_header()
    first, shape = next(iter(shapes.items()))
    for path, other in shapes.items():
        if other != shape:
            msg = (
                f"{run.label}: coadd shapes disagree: {path} is {other}, {first.name} is {shape}; "
                "restore the files of one run together, or leave the brick out with --bricks"
            )
            raise CoaddError(msg)
    with _naming(run, first):
        header = next(iter(headers.values()))
        frame = Frame(_wcs(header), shape, _box(header), content, writer_of(headers))
        _check_on_sky(frame.wcs, frame.shape)
    scale = float(np.mean(proj_plane_pixel_scales(frame.wcs))) * 3600
    if abs(scale / spec.pixel_scale - 1) > SCALE_TOLERANCE:
        msg = (
            f'{run.label}: {first} has pixels of {scale:.4g}", the stamps of {spec.pixel_scale:g}"; '
            "leave the brick out with --bricks, or make coadds of that scale"
        )
        raise CoaddError(msg)
    return frame


def _wcs(header: Any) -> WCS:
    """The celestial WCS, from the few cards that matter (the rest is hundreds of lines of history)."""
    stems = ("CTYPE", "CRVAL", "CRPIX", "CUNIT", "CDELT")
    card_names = [f"{stem}{axis}" for axis in (1, 2) for stem in stems]
    card_names += [f"{stem}{i}_{j}" for stem in ("CD", "PC") for i in (1, 2) for j in (1, 2)] + ["EQUINOX"]
    cards = fits.Header([(name, header[name]) for name in card_names if header.get(name) is not None])
    if "CTYPE1" not in cards or "CRVAL1" not in cards:
        msg = "its header has no celestial WCS"
        raise ValueError(msg)
    return WCS(cards)


def _check_on_sky(wcs: WCS, shape: tuple[int, int]) -> None:
    """Raise `ValueError` unless the middle and two corners go to the sky and come back to the same pixels."""
    pixels = np.outer((0.0, 0.5, 1.0), (shape[1] - 1, shape[0] - 1))
    with np.errstate(all="ignore"):
        back = wcs.all_world2pix(wcs.all_pix2world(pixels, 0), 0)
    if not np.allclose(back, pixels, atol=0.01):
        msg = "the WCS in its header does not lead from its pixels to the sky and back"
        raise ValueError(msg)


def _box(header: Any) -> tuple[float, float, float, float] | None:
    values = [header.get(name) for name in ("RAMIN", "RAMAX", "DECMIN", "DECMAX")]
    if None in values:
        return None
    ra_min, ra_max, dec_min, dec_max = map(float, values)
    if not np.isfinite([ra_min, ra_max, dec_min, dec_max]).all():
        msg = "RAMIN, RAMAX, DECMIN or DECMAX in its header is not finite"
        raise ValueError(msg)
    return ra_min, ra_max, dec_min, dec_max


def read_plane(run: BrickRun, kind: str, band: str) -> Array:
    """Decode one whole plane.

    Returns
    -------
    ndarray of float32, shape (ny, nx)

    Raises
    ------
    CoaddError
        If the plane is missing or cannot be decoded.
    """
    path = run.plane(kind, band)
    with _naming(run, path), fits.open(path.absolute(), memmap=False) as hdus:
        for hdu in hdus:
            if hdu.is_image and len(hdu.shape) == 2:
                return np.asarray(hdu.data, dtype=np.float32)
        raise OSError(_NO_IMAGE)


def _few(n: int, tiles_each: float, shape: tuple[int, int], path: Path) -> bool:
    """Whether reading only the tiles that are needed beats decoding the plane."""
    tiles = -(-shape[0] // _TILE) * -(-shape[1] // _TILE)
    return path.suffix != ".gz" and n * tiles_each < tiles


def read_pixels(run: BrickRun, kind: str, band: str, x: Array, y: Array, shape: tuple[int, int]) -> Array:
    """Value of a plane at the centre pixel of each source.

    Parameters
    ----------
    run : BrickRun
    kind, band : str
        As in `BrickRun.plane`.
    x, y : ndarray, shape (n,)
        0-based positions whose centre pixels lie inside the coadd.
    shape : tuple of int
        (ny, nx) of the coadd.

    Returns
    -------
    ndarray of float32, shape (n,)
    """
    if not _few(len(x), 2.0, shape, run.plane(kind, band)):
        return read_plane(run, kind, band)[centre_pixel(y), centre_pixel(x)]
    values = np.empty((len(x), 1, 1), dtype=np.float32)
    _copy_windows(run, kind, band, x, y, values, np.arange(len(x)))
    return values[:, 0, 0]


def windows_pay(n: int, run: BrickRun, spec: StampSpec) -> bool:
    """Whether `n` stamps are few enough to read by windows rather than by whole planes."""
    path = run.plane("image", spec.bands[0])
    tiles_each = 1.5 * (1 + spec.size / _TILE) ** 2  # on average, each half as dear again as in a whole plane
    with open_image(run, path) as (_, hdu):
        return _few(n, tiles_each, hdu.get_dims(), path)


def read_planes(
    run: BrickRun, spec: StampSpec, store: Callable[[tuple[int, ...]], Array] | None = None
) -> Array:
    """Decode the planes of a stamp specification in channel order; see `read_plane`.

    Parameters
    ----------
    run : BrickRun
    spec : StampSpec
    store : callable, optional
        Gives an array of float32 of a shape, fresh by default; memory that was used before saves touching
        new pages, which may cost as much as the decoding.

    Returns
    -------
    ndarray of float32, shape (channels, ny, nx)
    """
    planes: Array | None = None
    for channel, (kind, band) in enumerate(plane_names(spec)):
        plane = read_plane(run, kind, band)
        if planes is None:
            shape = (len(spec.channels), *plane.shape)
            planes = store(shape) if store else np.empty(shape, np.float32)
        planes[channel] = plane
    return np.asarray(planes)


def read_windows(
    run: BrickRun, spec: StampSpec, x: Array, y: Array, out: NDArray[np.float32], rows: Array
) -> None:
    """Copy stamps straight from the files, reading only the tiles under them.

    The same pixels as `cutouts.cut_stamps` gives from whole planes.

    Parameters
    ----------
    run : BrickRun
    spec : StampSpec
    x, y : ndarray, shape (n,)
        0-based positions.
    out : ndarray of float32, shape (m, size, size, channels)
        Written in place; 0 outside the coadd.
    rows : ndarray of int, shape (n,)
        Row of `out` for each source.
    """
    for channel, (kind, band) in enumerate(plane_names(spec)):
        _copy_windows(run, kind, band, x, y, out[..., channel], rows)


def _copy_windows(
    run: BrickRun, kind: str, band: str, x: Array, y: Array, out: NDArray[np.float32], rows: Array
) -> None:
    """Copy windows of one plane to rows of an array of shape (m, size, size); 0 outside the coadd."""
    cx, cy, size = centre_pixel(x), centre_pixel(y), out.shape[1]
    with open_image(run, run.plane(kind, band)) as (_, hdu):
        ny, nx = hdu.get_dims()
        for i in np.lexsort((cx, cy // _TILE)):  # neighbours share a decoded tile
            (from_y, to_y), (from_x, to_x) = overlap(int(cy[i]), ny, size), overlap(int(cx[i]), nx, size)
            target = out[rows[i]]
            if from_y.stop - from_y.start < size or from_x.stop - from_x.start < size:
                target[...] = 0
            target[to_y, to_x] = hdu[from_y, from_x]
