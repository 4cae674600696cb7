"""Known differences for the positive control: what is added to a cutout so that its galaxy is another.

To the pixels of an example ``changed model - model`` is added, two noiseless renderings by GalSim of the
galaxy that the catalogue has fitted.  The pixels themselves are never interpolated, convolved or rescaled:
a network would find their smoothing.  The inverse variances stay as they are.

Conventions: pixels are 0-based with centres at integers; radii and shapes are the tractor's
(`obiwan.dplearn.survey.rendering`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.conventions import BANDS, PIXEL_SCALE, STAMP
from obiwan.dplearn.survey import rendering
from obiwan.dplearn.survey.cutouts import HALF, centre_pixel

if TYPE_CHECKING:
    import galsim

SERSIC_RANGE = (0.5, 6.0)  #: the tractor's own limits, well inside GalSim's
LARGEST = 4.0  #: half-light radius (arcsec): a quarter of a stamp
THINNEST = 0.8  #: ellipticity: an axis ratio of 1 : 9
FOLDING = 0.02
"""GalSim's folding threshold.

Of a large galaxy so much light may come back from the far side of the transform, very smoothly; with the
usual 0.005 the transforms of high indices would take gigabytes.  Small galaxies do not notice.
"""
SERSIC_STEP = 0.1
"""Fitted indices are rounded to this in both renderings: GalSim makes a table of 0.1 s for each index."""


@dataclass(frozen=True)
class Galaxy:
    """A fitted source on its stamp.

    Attributes
    ----------
    flux : tuple of float
        Observed nanomaggies in g, r, z.
    fwhm : tuple of float
        Of the PSF (arcsec) in g, r, z; it includes the pixel.
    x, y : float
        0-based position on the stamp (pixels).
    radius : float
        Half-light radius along the major axis (arcsec); 0 for a point source.
    sersic : float
        Index; 0 for a point source.
    e1, e2 : float
        Ellipticity.
    """

    flux: tuple[float, ...]
    fwhm: tuple[float, ...]
    x: float
    y: float
    radius: float
    sersic: float
    e1: float
    e2: float

    @property
    def extended(self) -> bool:
        """Whether it has a size, a shape and a profile that could change."""
        return self.radius > 0 and self.sersic > 0


@dataclass(frozen=True)
class Kind:
    """A kind of difference.

    Attributes
    ----------
    unit : str
        Of the amplitude; ``factor`` where it multiplies.
    what : str
        In words.
    apply : callable
        Changes a galaxy by an amplitude.
    extended : bool
        Whether it means nothing for point sources, which stay as they are.
    limits : tuple of float
        The amplitude must lie between them.
    """

    unit: str
    what: str
    apply: Callable[[Galaxy, float], Galaxy]
    extended: bool
    limits: tuple[float, float]

    @property
    def neutral(self) -> float:
        """The amplitude that changes nothing."""
        return 1.0 if self.unit == "factor" else 0.0


def _scaled(values: Iterable[float], factor: float) -> tuple[float, ...]:
    return tuple(value * factor for value in values)


def _coloured(galaxy: Galaxy, step: float) -> Galaxy:
    green, *others = galaxy.flux
    return replace(galaxy, flux=(green * 10 ** (-0.4 * step), *others))


def _sheared(galaxy: Galaxy, shear: float) -> Galaxy:
    """Reduced shear along x, minus as much in e1, composed with the galaxy's own; its area is kept."""
    own = complex(galaxy.e1, galaxy.e2)
    both = (own - shear) / (1 - shear * own)
    area = float(rendering.circularised(galaxy.radius, own.real, own.imag))
    radius = float(rendering.along_major(area, both.real, both.imag))
    return replace(galaxy, radius=radius, e1=both.real, e2=both.imag)


def _sersic(galaxy: Galaxy, step: float) -> Galaxy:
    return replace(galaxy, sersic=min(max(galaxy.sersic + step, SERSIC_RANGE[0]), SERSIC_RANGE[1]))


KINDS: dict[str, Kind] = {
    "offset": Kind(
        "px", "shifted along x", lambda g, a: replace(g, x=g.x + a), extended=False, limits=(-8, 8)
    ),
    "psf": Kind(
        "factor",
        "seen through a PSF of another FWHM",
        lambda g, a: replace(g, fwhm=_scaled(g.fwhm, a)),
        extended=False,
        limits=(0.5, 2),
    ),
    "flux": Kind(
        "factor",
        "of another flux in all bands",
        lambda g, a: replace(g, flux=_scaled(g.flux, a)),
        extended=False,
        limits=(0.1, 10),
    ),
    "size": Kind(
        "factor",
        "of another half-light radius",
        lambda g, a: replace(g, radius=g.radius * a),
        extended=True,
        limits=(0.5, 2),
    ),
    "colour": Kind("mag", "fainter in g alone", _coloured, extended=False, limits=(-2.5, 2.5)),
    "shear": Kind("reduced shear", "stretched along x", _sheared, extended=True, limits=(-0.3, 0.3)),
    "sersic": Kind("index", "of another Sersic index", _sersic, extended=True, limits=(-3, 3)),
}  #: every difference that can be planted


@dataclass(frozen=True)
class Difference:
    """What is planted: one of `KINDS` and its amplitude.

    Raises
    ------
    ValueError
        If there is no such kind, or the amplitude is out of its range or changes nothing.
    """

    kind: str
    amplitude: float

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.kind not in KINDS:
            msg = f"no difference is called {self.kind!r}; there are {', '.join(KINDS)}"
            raise ValueError(msg)
        low, high = KINDS[self.kind].limits
        if not low <= self.amplitude <= high:  # NaN, too
            msg = f"{self.kind}={self.amplitude:g}: the amplitude must be between {low:g} and {high:g}"
            raise ValueError(msg)
        if self.amplitude == KINDS[self.kind].neutral:
            msg = f"{self.kind}={self.amplitude:g} changes nothing"
            raise ValueError(msg)

    @property
    def strength(self) -> float:
        """How large it is, whichever way it goes."""
        if KINDS[self.kind].unit == "factor":
            return abs(math.log(self.amplitude))
        return abs(self.amplitude)

    def __str__(self) -> str:
        return f"{self.kind}={self.amplitude:g}"

    def apply(self, galaxy: Galaxy) -> Galaxy:
        """Return the galaxy with this difference; a point source has no size, shape or profile to change."""
        kind = KINDS[self.kind]
        return galaxy if kind.extended and not galaxy.extended else kind.apply(galaxy, self.amplitude)


def parse_amplitudes(words: Iterable[str]) -> tuple[Difference, ...]:
    """Read what to plant from words such as ``offset=0.2`` or ``psf=1.02,1.05``.

    Raises
    ------
    ValueError
        Naming the word that cannot be understood.

    Examples
    --------
    >>> [str(difference) for difference in parse_amplitudes(["offset=0.1,0.2", "psf=1.05"])]
    ['offset=0.1', 'offset=0.2', 'psf=1.05']
    """
    found: dict[Difference, None] = {}
    for word in words:
        kind, equals, amplitudes = word.partition("=")
        for text in amplitudes.split(","):
            try:
                amplitude = float(text)
            except ValueError:
                amplitude = float("nan")
            if not equals or amplitude != amplitude:
                msg = f"{word!r} is not KIND=AMPLITUDE, for instance offset=0.2 or psf=1.02,1.05"
                raise ValueError(msg)
            found[Difference(kind, amplitude)] = None
    return tuple(found)


def galaxies_known(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which rows of a source table have all that a rendering needs, by the same rule for both classes.

    Parameters
    ----------
    rows : ndarray of EXAMPLE_DTYPE, shape (n,)

    Returns
    -------
    ndarray of bool, shape (n,)
        Position, flux and PSF width in every band and, unless it is a point source, size (up to `LARGEST`),
        shape (up to `THINNEST`) and index; the composite profiles of releases before DR9 have no single one.
    """
    known = np.isfinite(rows["x"]) & np.isfinite(rows["y"])
    for band in BANDS:
        known &= np.isfinite(rows[f"flux_{band}"]) & (rows[f"psfsize_{band}"] > 0)
        known &= np.isfinite(rows[f"psfsize_{band}"])
    with np.errstate(invalid="ignore"):
        shape = (rows["shape_r"] >= 0) & (rows["shape_r"] <= LARGEST) & (rows["sersic"] >= 0)
        shape &= np.hypot(rows["e1"], rows["e2"]) <= THINNEST
    return np.asarray(known & (shape | _point_sources(rows)))


def _point_sources(rows: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(np.char.strip(rows["type"]) == b"PSF")


def galaxy_of(row: Any) -> Galaxy:
    """Make the model of a row for which `galaxies_known`, on its stamp."""
    point = row["type"].strip() == b"PSF"
    sersic = 0.0 if point else float(row["sersic"])
    if sersic > 0:
        sersic = min(max(round(sersic / SERSIC_STEP) * SERSIC_STEP, SERSIC_RANGE[0]), SERSIC_RANGE[1])
    x, y = (float(row[name] - centre_pixel(row[name]) + HALF) for name in ("x", "y"))
    return Galaxy(
        flux=tuple(float(row[f"flux_{band}"]) for band in BANDS),
        fwhm=tuple(float(row[f"psfsize_{band}"]) for band in BANDS),
        x=x,
        y=y,
        radius=0.0 if point else float(row["shape_r"]),
        sersic=sersic,
        e1=0.0 if point else float(row["e1"]),
        e2=0.0 if point else float(row["e2"]),
    )


def _profile(galaxy: Galaxy) -> galsim.GSObject | None:
    """The galaxy before the PSF, of unit flux; None for a point source."""
    if not galaxy.extended:
        return None
    return rendering.galaxy(galaxy.radius, round(galaxy.sersic, 6), galaxy.e1, galaxy.e2)


def _drawn(profile: galsim.GSObject | None, galaxy: Galaxy, band: int) -> NDArray[np.float64]:
    """A unit-flux stamp; the PSF's width includes the pixel, so no pixel is convolved again."""
    import galsim

    light = galsim.Moffat(beta=rendering.MOFFAT_BETA, fwhm=galaxy.fwhm[band])
    if profile is not None:
        light = galsim.Convolve(profile, light, gsparams=galsim.GSParams(folding_threshold=FOLDING))
    image = galsim.ImageD(STAMP, STAMP, xmin=0, ymin=0, scale=PIXEL_SCALE)
    light.drawImage(image=image, method="no_pixel", center=galsim.PositionD(galaxy.x, galaxy.y))
    return np.asarray(image.array)


def render(galaxy: Galaxy) -> NDArray[np.float64]:
    """Noiseless images in g, r, z, shape (64, 64, 3), nanomaggies per pixel."""
    profile = _profile(galaxy)
    return np.stack([flux * _drawn(profile, galaxy, i) for i, flux in enumerate(galaxy.flux)], axis=-1)


def planted(galaxy: Galaxy, difference: Difference) -> NDArray[np.float32]:
    """Changed model less model: what is added to the images of an example.

    Returns
    -------
    ndarray of float32, shape (64, 64, 3)
        Nanomaggies per pixel in g, r, z.
    """
    changed = difference.apply(galaxy)
    out = np.zeros((STAMP, STAMP, len(BANDS)), np.float32)
    if changed == galaxy:
        return out
    old, new = _profile(galaxy), _profile(changed)
    same_shape = replace(changed, flux=galaxy.flux) == galaxy
    for band, (before, after) in enumerate(zip(galaxy.flux, changed.flux, strict=True)):
        if not same_shape:
            out[..., band] = after * _drawn(new, changed, band) - before * _drawn(old, galaxy, band)
        elif after != before:  # one shape with two fluxes: one rendering tells both
            out[..., band] = (after - before) * _drawn(old, galaxy, band)
    return out
