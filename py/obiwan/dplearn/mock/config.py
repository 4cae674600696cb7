"""Configuration of a mock survey: everything that decides its bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from obiwan.dplearn.running.cli import between, option
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.differences import FACTOR, KINDS, Kind

EDITION = 3  #: of what a configuration gives: raised whenever the same one gives other bytes
COLLISION_RADIUS = 5.0  #: Arcseconds between injections of one run, as in obiwan and legacysim
LAYOUTS = ("legacysim", "obiwan", "both")
PIXEL_SCALE = 0.262  #: Arcseconds per pixel of the coadds
AREA = 64.0**2  #: Square pixels of a documented stamp, to which densities refer


@dataclass(frozen=True)
class Filter:
    """Seeing and depth of the mock survey in one band.

    Attributes
    ----------
    extinction : float
        A_band / E(B-V): the DR9 and DR10 coefficients for DECam.
    fwhm : float
        Median width of the PSF (arcsec).
    sigma : float
        Median sky noise per coadd pixel (nanomaggies).
    gain : float
        Photo-electrons per nanomaggy in one exposure, of which the sky noise is the photon noise of a sky of
        about 21.9, 21.1 and 19.1 mag per square arcsecond in g, r and z, so that the shot noise of objects
        weighs as it should.
    """

    extinction: float
    fwhm: float
    sigma: float
    gain: float


#: Bands that a mock survey can have: medians of DR9 for DECam, and for i values between those of r and z
FILTERS = {
    "g": Filter(3.214, 1.30, 0.0032, 4000.0),
    "r": Filter(2.165, 1.20, 0.0052, 3000.0),
    "i": Filter(1.592, 1.15, 0.0085, 3000.0),
    "z": Filter(1.211, 1.10, 0.0135, 3000.0),
}


#: Option of `Plant` for the offset of each band
OFFSETS = {band: f"offset_{band}" for band in FILTERS}
MILLI = 1000.0  #: colours are planted in millimagnitudes


def _kind_of(name: str) -> Kind:
    """The kind of difference that an option of `Plant` plants."""
    return KINDS["band_offset" if name in OFFSETS.values() else name]


def _limits(name: str) -> tuple[float, float]:
    """Of an option of `Plant`, in its own unit."""
    low, high = _kind_of(name).limits
    return (MILLI * low, MILLI * high) if name == "colour" else (low, high)


def _planted(name: str, unit: str, text: str) -> Any:
    """An amplitude of `Plant`."""
    return option(text, _kind_of(name).neutral, type=between(*_limits(name), float), metavar=unit)


def _offset_of(band: str) -> Any:
    return _planted(OFFSETS[band], "PX", f"moved by PX pixels along +x in {band} alone")


@dataclass(frozen=True)
class Plant:
    """Differences planted in the light of the injected objects; the defaults plant nothing.

    Kinds, neutral amplitudes and limits are those of `obiwan.dplearn.survey.differences.KINDS`.

    Parameters
    ----------
    offset : float
        Pixels by which the light is moved along +x from where the truth says; fits follow it.
    offset_g, offset_r, offset_i, offset_z : float
        Pixels by which the light of one band is moved along +x against the others.
    psf : float
        Factor on the width of the PSF.
    size : float
        Factor on the half-light radius.
    flux : float
        Factor on the flux in every band.
    colour : float
        Millimagnitudes by which the light becomes bluer from the bluest to the reddest band (g - z), half in
        either; the bands between them stay.
    sersic : float
        Added to the Sersic index of the galaxies.
    no_shot_noise : float
        Fraction of the shot noise's amplitude that is missing.
    ivar_dip : float
        Fractional dip of invvar at the centre, with the profile of a Gaussian PSF.

    """

    offset: float = _planted("offset", "PX", "moved by PX pixels along +x from the truth; fits follow")
    offset_g: float = _offset_of("g")
    offset_r: float = _offset_of("r")
    offset_i: float = _offset_of("i")
    offset_z: float = _offset_of("z")
    psf: float = _planted("psf", "F", "PSF wider by the factor F")
    size: float = _planted("size", "F", "half-light radius times F")
    flux: float = _planted("flux", "F", "flux times F")
    colour: float = _planted(
        "colour", "MMAG", "bluest minus reddest band (g-z) bluer by MMAG millimagnitudes"
    )
    sersic: float = _planted("sersic", "DN", "Sersic index plus DN")
    no_shot_noise: float = _planted("no_shot_noise", "F", "fraction F of the shot noise is missing")
    ivar_dip: float = _planted("ivar_dip", "F", "invvar lower by the fraction F at the centre")

    @property
    def between_bands(self) -> tuple[str, ...]:
        """Planted differences that set bands apart: names of options."""
        return tuple(name for name in ("colour", *OFFSETS.values()) if getattr(self, name))

    def shifts(self, bands: tuple[str, ...]) -> tuple[float, ...]:
        """Pixels along +x by which the light of each band is moved."""
        return tuple(self.offset + float(getattr(self, OFFSETS[band])) for band in bands)

    def times(self, strength: float) -> Plant:
        """Each difference so many times as strong, within its limits; factors to this power."""
        out = {}
        for own in fields(self):
            (low, high), value = _limits(own.name), getattr(self, own.name)
            changed = value**strength if _kind_of(own.name).unit == FACTOR else value * strength
            out[own.name] = min(max(changed, low), high)
        return Plant(**out)


@dataclass(frozen=True)
class MockConfig:
    """Everything that decides the bytes of a mock survey.

    Parameters
    ----------
    bricks : int
        Number of bricks, laid out in a nearly square grid from RA 0.
    bands : tuple of str
        Some of `FILTERS`; stored by increasing wavelength.
    brick_size, border : int
        Pixels on a side of a coadd, and of the part on each side that is outside the primary box.
    runs : int
        Injection runs over each brick.
    injections : int
        Rows asked for per brick and run; 0 for 0.8 in the area of a 64x64 stamp.
    density : float
        Real objects in the area of a 64x64 stamp.
    dec : float
        Declination of the first row of bricks, in degrees.
    west : int
        Columns of bricks that lie west of RA 0, whose RA is just below 360 degrees.
    seed : int
        Of everything random.
    layout : str
        Which injection trees to write: one of `LAYOUTS`.
    seeing_scatter, depth_scatter : float
        Scatter of the PSF's width and of the noise from brick to brick, of their logarithms; half of the
        variance is common to all bands.
    shared_exposures : int
        Bricks on a side of the squares that share exposures: all that else scatters from brick to brick is
        the same in them.
    plant : Plant
        Differences between the classes.
    plant_scatter : float
        Scatter of the strength of these differences from brick to brick, as a fraction of it.

    Raises
    ------
    ValueError
        If there is no such band, or the injections do not fit.
    """

    bricks: int = option("number of bricks", 20, type=between(1, 1000))
    brick_size: int = option("pixels on a side of a coadd", 640, type=between(128, 8192))
    border: int = option("pixels outside the primary box, on each side", 40, type=between(0))
    runs: int = option("injection runs over each brick", 6, type=between(0, 1000))
    injections: int = option("per brick and run; 0: 0.8 per area of a 64-px stamp", 0, type=between(0))
    density: float = option("real objects per area of a 64-px stamp", 2.4, type=between(0, 10, float))
    west: int = option("columns of bricks west of RA 0", 0, type=between(0))
    dec: float = option("declination of the first row of bricks", 0.0, type=between(-70, 70, float))
    seed: int = option("of everything random", 1, type=between(0))
    bands: tuple[str, ...] = option(
        f"of the coadds and catalogues, some of {' '.join(FILTERS)}",
        StampSpec.bands,
        nargs="+",
        metavar="BAND",
    )
    layout: str = option("of the injection trees", "legacysim", choices=LAYOUTS)
    seeing_scatter: float = option(
        "of the PSF's width from brick to brick, a fraction", 0.1, type=between(0, 0.5, float), metavar="F"
    )
    depth_scatter: float = option(
        "of the sky noise from brick to brick, a fraction", 0.1, type=between(0, 0.5, float), metavar="F"
    )
    shared_exposures: int = option(
        "bricks on a side of squares that share exposures, with their seeing and depth",
        1,
        type=between(1, 1000),
        metavar="N",
    )
    plant: Plant = field(default_factory=Plant)
    plant_scatter: float = option(
        "of what is planted from brick to brick, a fraction of it",
        0.0,
        type=between(0, 2, float),
        metavar="F",
    )

    def __post_init__(self) -> None:
        """Check how the values fit each other; the command line checks each alone."""
        bands, msg = tuple(self.bands), ""
        if not bands or len(set(bands)) < len(bands) or not set(bands) <= set(FILTERS):
            msg = f"bands are {' '.join(bands)!r}: must be different ones of {' '.join(FILTERS)}"
        elif len(bands) == 1 and (apart := self.plant.between_bands):
            flag = "--plant-" + apart[0].replace("_", "-")
            msg = f"{flag} cannot be planted in one band, {bands[0]}: give more bands"
        elif absent := [b for b, name in OFFSETS.items() if b not in bands and getattr(self.plant, name)]:
            msg = f"--plant-offset-{absent[0]}: the survey has no band {absent[0]}; give it with --bands"
        elif self.brick_size - 2 * self.border < math.sqrt(AREA):
            msg = f"border of {self.border} px leaves no primary area"
        elif self.per_run > (most := int(0.5 * self.primary_area * (PIXEL_SCALE / COLLISION_RADIUS) ** 2)):
            msg = (
                f"{self.per_run} injections per run at least {COLLISION_RADIUS:g} arcsec apart do not fit in "
                f"bricks of {self.brick_size} px: at most {most}; use larger bricks or more runs"
            )
        if msg:
            raise ValueError(msg)
        object.__setattr__(self, "bands", tuple(band for band in FILTERS if band in bands))

    @property
    def primary_area(self) -> float:
        """Square pixels of a brick's primary box."""
        return float((self.brick_size - 2 * self.border) ** 2)

    @property
    def per_run(self) -> int:
        """Rows asked for per brick and run."""
        return self.injections or max(1, round(0.8 * self.primary_area / AREA))

    @property
    def span(self) -> tuple[float, float]:
        """First and last pixel coordinate of the primary box."""
        return self.border - 0.5, self.brick_size - self.border - 0.5
