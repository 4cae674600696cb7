"""The light of a catalogue's galaxy before the PSF, in the tractor's conventions.

The tractor's ``shape_r`` is the half-light radius along the *major* axis (``EllipseE`` in its ellipses.py has
axes r and r b/a), e = (1 - b/a) / (1 + b/a), and the position angle, half of atan2(e2, e1), goes from North
(+y) through East (-x).  GalSim's profiles are round, and its shear keeps their area.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from obiwan.dplearn.stampspec import Array

if TYPE_CHECKING:
    import galsim

MOFFAT_BETA = 3.5  #: of the PSF, whose FWHM is ``psfsize``; its Fourier transform is analytic


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


def galaxy(radius: float, sersic: float, e1: float, e2: float) -> galsim.GSObject:
    """A galaxy of unit flux.

    Parameters
    ----------
    radius : float
        Half-light radius along the major axis (arcsec).
    sersic : float
        Index.
    e1, e2 : float
        The tractor's ellipticity.
    """
    import galsim

    radius = float(circularised(radius, e1, e2))
    if sersic == 1:
        disc = galsim.Exponential(half_light_radius=radius)
    else:
        disc = galsim.Sersic(sersic, half_light_radius=radius)
    # An angle from North through East is one from +x less a right angle: both components change sign.
    return disc.shear(g1=-e1, g2=-e2)
