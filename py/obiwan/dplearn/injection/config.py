"""Options of an injection: what is drawn, with which PSF and noise, and where."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from obiwan.dplearn.injection.placement import Placement
from obiwan.dplearn.running.cli import between, option, positive
from obiwan.dplearn.stampspec import FILTERS, StampSpec

MODELS = ("sersic", "star", "stamps")
PSF_KINDS = ("copsf", "psfex", "stars", "moffat")  #: in the order in which ``auto`` tries them
AUTO = "auto"
NOISES = ("poisson", "none")
_FUNCTION = "module:function"


def is_function(word: str) -> bool:
    """Whether an option names a function of the user's, ``module:function``."""
    module, colon, function = word.partition(":")
    return bool(colon and function.isidentifier() and all(part.isidentifier() for part in module.split(".")))


@dataclass(frozen=True)
class InjectionConfig:
    """Options of ``inject`` that decide what is written.

    Raises
    ------
    ValueError
        If an option makes no sense.
    """

    model: str = option(
        "what is drawn: sersic (tractor's conventions), star, stamps (FITS images), or module:function",
        "sersic", metavar=f"NAME|{_FUNCTION}",
    )  # fmt: skip
    bands: tuple[str, ...] = option(
        "bands that are written: some of " + " ".join(FILTERS),
        StampSpec.bands,
        nargs="+",
        choices=FILTERS,
        metavar="BAND",
    )
    psf: str = option(
        "PSF: auto takes the first that there is of " + ", ".join(PSF_KINDS) + "; or module:function",
        AUTO, metavar=f"NAME|{_FUNCTION}",
    )  # fmt: skip
    noise: str = option("photon noise of what is injected", "poisson", choices=NOISES)
    gain: float | None = option(
        "electrons per unit of the DECam images, in place of that of the exposures", None,
        type=between(1e-6, kind=float, name="gain"), metavar="X",
    )  # fmt: skip
    density: float | None = option(
        "sources per square degree, where --sources has no positions", None,
        type=between(0, 1e9, kind=float, name="density"), metavar="N",
    )  # fmt: skip
    separation: float = option(
        "least distance of sources of one run in arcsec", 5.0,
        type=between(0, kind=float, name="separation"), metavar="ARCSEC",
    )  # fmt: skip
    runs: int = option(
        "runs over which the sources are split", 1,
        type=positive, metavar="N",
    )  # fmt: skip
    keep_off_masked: bool = option(
        "draw no source whose pixel has a bit of maskbits set", False, action="store_true"
    )
    seed: int = option("seed of positions and noise", 0, type=between(0, name="seed"), metavar="N")

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", StampSpec(bands=tuple(self.bands)).bands)
        for name, word, known in (("model", self.model, MODELS), ("psf", self.psf, (AUTO, *PSF_KINDS))):
            if word not in known and not is_function(word):
                msg = f"--{name} {word}: not one of {', '.join(known)}, and not {_FUNCTION}"
                raise ValueError(msg)

    @property
    def placement(self) -> Placement:
        """Where objects go."""
        given = {} if self.density is None else {"density": self.density}
        return Placement(
            **given,
            separation=self.separation,
            runs=self.runs,
            keep_off_masked=self.keep_off_masked,
            seed=self.seed,
        )

    @property
    def spec(self) -> StampSpec:
        """The planes of the coadds that are read and written."""
        return StampSpec(bands=self.bands)

    def to_manifest(self) -> dict[str, Any]:
        """The options as a manifest holds them."""
        return {**asdict(self), "bands": list(self.bands)}
