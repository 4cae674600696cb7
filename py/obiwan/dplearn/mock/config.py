"""What decides the bytes of a mock survey, and which differences are planted in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from obiwan.dplearn.conventions import PIXEL_SCALE

COLLISION_RADIUS = 5.0
"""Arcseconds between injections of one run, as in obiwan and legacysim."""
LAYOUTS = ("legacysim", "obiwan", "both")


@dataclass(frozen=True)
class Plant:
    """Differences planted in the light of the injected objects; the defaults plant nothing.

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
        Millimagnitudes by which g - z becomes bluer, half in g and half in z.
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

    offset: float = 0.0
    psf: float = 1.0
    size: float = 1.0
    flux: float = 1.0
    colour: float = 0.0
    sersic: float = 0.0
    no_shot_noise: float = 0.0
    ivar_dip: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        checks = (
            ("offset", -16.0, 16.0),
            ("psf", 0.5, 2.0),
            ("size", 0.1, 5.0),
            ("flux", 0.0, 10.0),
            ("colour", -2000.0, 2000.0),
            ("sersic", -0.5, 2.0),
            ("no_shot_noise", 0.0, 1.0),
            ("ivar_dip", 0.0, 1.0),
        )
        for name, low, high in checks:
            if not low <= getattr(self, name) <= high:
                msg = f"plant {name} is {getattr(self, name)}: must be within [{low}, {high}]"
                raise ValueError(msg)


@dataclass(frozen=True)
class MockConfig:
    """Everything that decides the bytes of a mock survey.

    Parameters
    ----------
    bricks : int
        Number of bricks, laid out in a nearly square grid from RA 0.
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
        checks = (
            (1 <= self.bricks <= 1000, f"bricks is {self.bricks}: must be 1 to 1000"),
            (128 <= self.brick_size <= 8192, f"brick size is {self.brick_size} px: must be 128 to 8192"),
            (self.border >= 0, f"border is {self.border} px: must not be negative"),
            (self.brick_size - 2 * self.border >= 64, f"border of {self.border} px leaves no primary area"),
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
        return self.injections or max(1, round(0.8 * self.primary_area / 64**2))

    @property
    def span(self) -> tuple[float, float]:
        """First and last pixel coordinate of the primary box."""
        return self.border - 0.5, self.brick_size - self.border - 0.5
