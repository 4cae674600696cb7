"""Planted differences: their kinds, units and limits, and how each changes a model galaxy.

The mock survey plants them in its injections (``mock --plant-<kind>``), the sensitivity test in one half of a
training set (``evaluate --sensitivity <kind>=<amplitude>``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from obiwan.dplearn.survey import rendering
from obiwan.dplearn.survey.rendering import Galaxy

FACTOR = "factor"  #: unit of amplitudes that multiply
SERSIC_RANGE = (0.5, 6.0)  #: the tractor's own limits, well inside GalSim's


@dataclass(frozen=True)
class Kind:
    """A kind of difference.

    Attributes
    ----------
    unit : str
        Of the amplitude; `FACTOR` where it multiplies.
    limits : tuple of float
        The amplitude must lie between them.
    change : callable or None
        Changes a galaxy by an amplitude; None for what is no property of a galaxy but of the noise, which
        only the mock survey can plant.
    extended : bool
        Whether point sources stay as they are.
    """

    unit: str
    limits: tuple[float, float]
    change: Callable[[Galaxy, float], Galaxy] | None = None
    extended: bool = False

    @property
    def neutral(self) -> float:
        """The amplitude that changes nothing."""
        return 1.0 if self.unit == FACTOR else 0.0


def _scaled(values: Iterable[float], factor: float) -> tuple[float, ...]:
    return tuple(value * factor for value in values)


def _coloured(galaxy: Galaxy, magnitudes: float) -> Galaxy:
    """Fainter in the bluest band alone."""
    bluest, *others = galaxy.flux
    return replace(galaxy, flux=(bluest * 10 ** (-0.4 * magnitudes), *others))


def _dispersed(galaxy: Galaxy, pixels: float) -> Galaxy:
    """Moved along +x in the bluest band alone."""
    bluest, *others = galaxy.dx or (0.0,) * len(galaxy.flux)
    return replace(galaxy, dx=(bluest + pixels, *others))


def _sheared(galaxy: Galaxy, shear: float) -> Galaxy:
    """Reduced shear along x, minus as much in e1, composed with the galaxy's own; its area is kept."""
    own = complex(galaxy.e1, galaxy.e2)
    both = (own - shear) / (1 - shear * own)
    area = float(rendering.circularised(galaxy.radius, own.real, own.imag))
    radius = float(rendering.along_major(area, both.real, both.imag))
    return replace(galaxy, radius=radius, e1=both.real, e2=both.imag)


def _concentrated(galaxy: Galaxy, step: float) -> Galaxy:
    # GalSim makes a table for each index: rounded, so that equal ones are equal.
    index = min(max(galaxy.sersic + step, SERSIC_RANGE[0]), SERSIC_RANGE[1])
    return replace(galaxy, sersic=round(index, 6))


#: Every kind of planted difference, by name.
KINDS: dict[str, Kind] = {
    "offset": Kind("px", (-8, 8), lambda g, a: replace(g, x=g.x + a)),  # along +x
    "band_offset": Kind("px", (-8, 8), _dispersed),  # of the bluest band from the others
    "psf": Kind(FACTOR, (0.5, 2), lambda g, a: replace(g, fwhm=_scaled(g.fwhm, a))),
    "flux": Kind(FACTOR, (0.1, 10), lambda g, a: replace(g, flux=_scaled(g.flux, a))),
    "size": Kind(FACTOR, (0.5, 2), lambda g, a: replace(g, radius=g.radius * a), extended=True),
    "colour": Kind("mag", (-2.5, 2.5), _coloured),
    "shear": Kind("reduced shear", (-0.3, 0.3), _sheared, extended=True),
    "sersic": Kind("index", (-3, 3), _concentrated, extended=True),
    "no_shot_noise": Kind("fraction", (0, 1)),  # of the shot noise's amplitude that is missing
    "photon_noise": Kind("nanomaggies", (0, 1)),  # variance per flux that the inverse variance does not know
    "ivar_dip": Kind("fraction", (0, 1)),  # by which the inverse variance dips at the centre
}
LIGHT = tuple(name for name, kind in KINDS.items() if kind.change)  #: kinds that change a galaxy


@dataclass(frozen=True)
class Difference:
    """A difference in the light of a galaxy: one of `LIGHT` and its amplitude.

    Raises
    ------
    ValueError
        If there is no such kind, or the amplitude is out of its range or changes nothing.
    """

    kind: str
    amplitude: float

    def __post_init__(self) -> None:
        if self.kind not in LIGHT:
            msg = f"no difference is called {self.kind!r}; there are {', '.join(LIGHT)}"
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
        """Size of the difference, whichever way it goes."""
        factor = KINDS[self.kind].unit == FACTOR
        return abs(math.log(self.amplitude) if factor else self.amplitude)

    def __str__(self) -> str:
        return f"{self.kind}={self.amplitude:g}"

    def apply(self, galaxy: Galaxy) -> Galaxy:
        """Galaxy with this difference; a point source has no size, shape or profile to change."""
        kind = KINDS[self.kind]
        if kind.change is None or (kind.extended and not galaxy.extended):
            return galaxy
        return kind.change(galaxy, self.amplitude)


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
