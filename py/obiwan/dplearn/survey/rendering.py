"""Model galaxies and their images, in the tractor's conventions: what is planted in a training set.

The tractor's ``shape_r`` is the half-light radius along the *major* axis (``EllipseE`` in its ellipses.py has
axes r and r b/a), e = (1 - b/a) / (1 + b/a), and the position angle, half of atan2(e2, e1), goes from North
(+y) through East (-x).  Profiles end at `truncation`, and ``shape_r`` is that of the profile without an end.
GalSim's profiles are round, and its shear keeps their area.  The PSF is a Moffat
profile whose width includes the pixel, so no pixel is convolved again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from obiwan.dplearn.stampspec import Array

if TYPE_CHECKING:
    import galsim

FWHM = 2.3548200450309493  #: of a Gaussian in units of its sigma, 2 sqrt(2 ln 2)
MOFFAT_BETA = 3.5  #: of the PSF, whose FWHM is ``psfsize``; its Fourier transform is analytic
FOLDING = 0.005  #: GalSim's folding threshold: the fraction of the light that the transform may fold back


@dataclass(frozen=True)
class Galaxy:
    """A model galaxy on a pixel grid, in one or more bands.

    Attributes
    ----------
    flux : tuple of float
        Nanomaggies, one a band.
    fwhm : tuple of float
        Of the PSF (arcsec), one a band.
    x, y : float
        0-based position on the grid (pixels).
    radius : float
        Half-light radius along the major axis (arcsec); 0 for a point source.
    sersic : float
        Sersic index; 0 for a point source.
    e1, e2 : float
        The tractor's ellipticity.
    dx : tuple of float
        Pixels by which each band is moved along +x; none if empty.
    """

    flux: tuple[float, ...]
    fwhm: tuple[float, ...]
    x: float
    y: float
    radius: float = 0.0
    sersic: float = 0.0
    e1: float = 0.0
    e2: float = 0.0
    dx: tuple[float, ...] = ()

    @property
    def extended(self) -> bool:
        """Whether it has a size, a shape and a profile."""
        return self.radius > 0 and self.sersic > 0


def axis_ratio(e1: Array | float, e2: Array | float) -> Array:
    """Minor over major axis, b/a = (1 - e) / (1 + e)."""
    ellipticity = np.hypot(e1, e2)
    return np.asarray((1 - ellipticity) / (1 + ellipticity))


def circularised(radius: Array | float, e1: Array | float, e2: Array | float) -> Array:
    """Radius of the circle with the ellipse's area, sqrt(a b), of a radius along the major axis.

    Examples
    --------
    >>> float(circularised(2.0, 0.6, 0.0))
    1.0
    """
    return np.asarray(radius * np.sqrt(axis_ratio(e1, e2)))


def along_major(radius: Array | float, e1: Array | float, e2: Array | float) -> Array:
    """The inverse of `circularised`."""
    return np.asarray(radius / np.sqrt(axis_ratio(e1, e2)))


def truncation(sersic: float) -> float:
    """Radius at which a profile ends, in half-light radii of the profile without an end.

    The tractor ends n = 1 at 4 and n = 4 at 8 half-light radii; between them the radius is interpolated here.
    """
    return float(np.interp(sersic, (1.0, 4.0), (4.0, 8.0)))


def profile(radius: float, sersic: float, e1: float, e2: float) -> galsim.GSObject:
    """GalSim profile of unit flux, before the PSF, from the parameters of a `Galaxy`."""
    import galsim

    radius = float(circularised(radius, e1, e2))
    end = truncation(sersic) * radius
    round_ = galsim.Sersic(sersic, half_light_radius=radius, trunc=end, flux_untruncated=True).withFlux(1.0)
    # An angle from North through East is one from +x less a right angle: both components change sign.
    return round_.shear(g1=-e1, g2=-e2)


@lru_cache(maxsize=64)
def _psf(fwhm: float) -> galsim.GSObject:
    import galsim

    return galsim.Moffat(beta=MOFFAT_BETA, fwhm=fwhm)


def render(
    galaxy: Galaxy, size: int, pixel_scale: float, *, dtype: Any = np.float64, folding: float = FOLDING
) -> Array:
    """Noiseless images of a galaxy.

    Parameters
    ----------
    galaxy : Galaxy
    size : int
        Pixels on a side of the grid.
    pixel_scale : float
        Arcseconds per pixel.
    dtype : type
        Float32 or float64.
    folding : float
        GalSim's folding threshold.  A larger one saves memory and time with large galaxies of high index.

    Returns
    -------
    ndarray, shape (size, size, bands)
        Nanomaggies per pixel, axes ``[y, x, band]``.
    """
    import galsim

    source = profile(galaxy.radius, galaxy.sersic, galaxy.e1, galaxy.e2) if galaxy.extended else None
    out = np.zeros((size, size, len(galaxy.flux)), dtype)
    for band, (flux, fwhm) in enumerate(zip(galaxy.flux, galaxy.fwhm, strict=True)):
        if flux == 0:
            continue
        light = _psf(round(fwhm, 9))
        if source is not None:
            accuracy = galsim.GSParams(folding_threshold=folding)
            light = galsim.Convolve(source, light, gsparams=accuracy)
        image = galsim.Image(size, size, xmin=0, ymin=0, scale=pixel_scale, dtype=dtype)
        x = galaxy.x + (galaxy.dx[band] if galaxy.dx else 0.0)
        light.withFlux(flux).drawImage(image=image, method="no_pixel", center=galsim.PositionD(x, galaxy.y))
        out[..., band] = image.array
    return out
