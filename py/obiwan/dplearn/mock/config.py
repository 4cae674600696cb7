"""Configuration of a mock survey: everything that decides its bytes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.differences import KINDS

COLLISION_RADIUS = 5.0
"""Arcseconds between injections of one run, as in obiwan and legacysim."""
LAYOUTS = ("legacysim", "obiwan", "both")
PIXEL_SCALE = 0.262
"""Arcseconds per pixel of the coadds."""
AREA = 64.0**2
"""Square pixels of a documented stamp, to which densities refer."""


@dataclass(frozen=True)
class Filter:
    """How the mock survey observes in one band.

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


FILTERS = {
    "g": Filter(3.214, 1.30, 0.0032, 4000.0),
    "r": Filter(2.165, 1.20, 0.0052, 3000.0),
    "i": Filter(1.592, 1.15, 0.0085, 3000.0),
    "z": Filter(1.211, 1.10, 0.0135, 3000.0),
}
"""Bands that a mock survey can have: medians of DR9 for DECam, and for i values between those of r and z."""


@dataclass(frozen=True)
class Plant:
    """Differences planted in the light of the injected objects; the defaults plant nothing.

    Kinds, neutral amplitudes and limits are those of `obiwan.dplearn.survey.differences.KINDS`.

    Parameters
    ----------
    offset : float
        Pixels by which the light is moved along +x; the catalogued positions stay.
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

    Raises
    ------
    ValueError
        If an amplitude is outside its range.
    """

    offset: float = KINDS["offset"].neutral
    psf: float = KINDS["psf"].neutral
    size: float = KINDS["size"].neutral
    flux: float = KINDS["flux"].neutral
    colour: float = KINDS["colour"].neutral
    sersic: float = KINDS["sersic"].neutral
    no_shot_noise: float = KINDS["no_shot_noise"].neutral
    ivar_dip: float = KINDS["ivar_dip"].neutral

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self)):
            scale = 1000 if name == "colour" else 1  # in millimagnitudes here
            low, high = (scale * limit for limit in KINDS[name].limits)
            if not low <= getattr(self, name) <= high:
                msg = f"plant {name} is {getattr(self, name)}: must be within [{low:g}, {high:g}]"
                raise ValueError(msg)


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
    plant : Plant
        Differences between the classes.

    Raises
    ------
    ValueError
        If a value is out of range or the injections do not fit.
    """

    bricks: int = 20
    bands: tuple[str, ...] = StampSpec.bands
    brick_size: int = 640
    border: int = 40
    runs: int = 6
    injections: int = 0
    density: float = 2.4
    dec: float = 0.0
    west: int = 0
    seed: int = 1
    layout: str = "legacysim"
    plant: Plant = field(default_factory=Plant)

    def __post_init__(self) -> None:
        """Check what would otherwise fail late or silently make nonsense."""
        bands = tuple(self.bands)
        checks = (
            (1 <= self.bricks <= 1000, f"bricks is {self.bricks}: must be 1 to 1000"),
            (
                0 < len(bands) == len(set(bands)) and set(bands) <= set(FILTERS),
                f"bands is {' '.join(bands)!r}: must be different ones of {' '.join(FILTERS)}",
            ),
            (128 <= self.brick_size <= 8192, f"brick size is {self.brick_size} px: must be 128 to 8192"),
            (self.border >= 0, f"border is {self.border} px: must not be negative"),
            (
                self.primary_area >= AREA and self.brick_size > 2 * self.border,
                f"border of {self.border} px leaves no primary area",
            ),
            (0 <= self.runs <= 1000, f"runs is {self.runs}: must be 0 to 1000"),
            (self.injections >= 0, f"injections is {self.injections}: must not be negative"),
            (0 <= self.density <= 10, f"density is {self.density}: must be 0 to 10 per stamp"),
            (-70 <= self.dec <= 70, f"dec is {self.dec}: must be -70 to 70 degrees"),
            (self.west >= 0, f"west is {self.west}: must not be negative"),
            (self.seed >= 0, f"seed is {self.seed}: must not be negative"),
            (self.layout in LAYOUTS, f"layout is {self.layout}: must be one of {', '.join(LAYOUTS)}"),
        )
        for good, message in checks:
            if not good:
                raise ValueError(message)
        object.__setattr__(self, "bands", tuple(band for band in FILTERS if band in bands))
        radius = COLLISION_RADIUS / PIXEL_SCALE
        most = int(0.5 * self.primary_area / radius**2)
        if self.per_run > most:
            msg = (
                f"{self.per_run} injections per run at least {COLLISION_RADIUS:g} arcsec apart do not fit in "
                f"bricks of {self.brick_size} px: at most {most}; use larger bricks or more runs"
            )
            raise ValueError(msg)

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
