"""What is left when a part of the cutouts is taken away: the same network, trained again without it.

A network that still tells the classes apart by the ivar planes alone, or with the galaxy masked, has found
the plumbing.  Every edit is a function of the cutouts alone, the same for both classes and all splits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.conventions import BANDS, LABELS, STAMP, Array
from obiwan.dplearn.retraining.halves import choose, rows_by_shard
from obiwan.dplearn.retraining.runs import Retrained, directory_name, retrain
from obiwan.dplearn.trainingset.stampset import Stamps as Cutouts
from obiwan.dplearn.trainingset.stampset import StampSet
from obiwan.dplearn.trainingset.views import Edit, with_choice, with_edit

if TYPE_CHECKING:
    from obiwan.dplearn.training.settings import RunConfig

CORE = 16  #: radius (pixels) around the central pixel that is the centre; the rest are the outskirts

_IMAGE, _IVAR = slice(None, len(BANDS)), slice(len(BANDS), None)


@dataclass(frozen=True)
class AblationResult(Retrained):
    """What the network reaches on what an ablation leaves: a `Retrained` of this name.

    Attributes
    ----------
    name : str
        One of `ABLATIONS`.
    """

    name: str


def image_only(x: Cutouts) -> Cutouts:
    """Replace each ivar plane by its median over the cutout's valid pixels; those without data stay 0."""
    out = x.copy()
    ivar = out[..., _IVAR]
    valid = ivar > 0
    for stamp, good in zip(ivar, valid, strict=True):
        for band in range(len(BANDS)):
            if good[..., band].any():
                stamp[..., band] = np.median(stamp[..., band][good[..., band]])
    ivar[~valid] = 0
    return out


def ivar_only(x: Cutouts) -> Cutouts:
    """Set the images to 0."""
    out = x.copy()
    out[..., _IMAGE] = 0
    return out


def _core() -> NDArray[np.bool_]:
    """Pixels of the centre, shape (64, 64)."""
    yy, xx = np.ogrid[:STAMP, :STAMP]
    return np.asarray((xx - STAMP // 2) ** 2 + (yy - STAMP // 2) ** 2 <= CORE**2)


def centre_masked(x: Cutouts) -> Cutouts:
    """Make the pixels within `CORE` of the central one pixels without data: the surroundings are left."""
    out = x.copy()
    out[:, _core()] = 0
    return out


def outskirts_masked(x: Cutouts) -> Cutouts:
    """Make the pixels beyond `CORE` of the central one pixels without data: the object is left."""
    out = x.copy()
    out[:, ~_core()] = 0
    return out


def one_band(x: Cutouts, band: str) -> Cutouts:
    """Leave one band: the others' images are 0 and their inverse variances 1 everywhere."""
    out = x.copy()
    for index, other in enumerate(BANDS):
        if other != band:
            out[..., index] = 0
            out[..., len(BANDS) + index] = 1  # 0 would leave no pixel to scale the plane by
    return out


EDITS: dict[str, Edit] = {
    "image only": image_only,
    "ivar only": ivar_only,
    "centre masked": centre_masked,
    "outskirts masked": outskirts_masked,
    **{f"band {band}": partial(one_band, band=band) for band in BANDS},
}
A_A = {"A/A real": LABELS["real"], "A/A fake": LABELS["fake"]}
ABLATIONS: dict[str, str] = {
    "image only": "inverse variances flat: what the images say",
    "ivar only": "images zero: above 0.5 it is leakage, or brighter galaxies by their photons",
    "centre masked": f"only what is beyond {CORE} pixels: above 0.5 it is mostly the surroundings",
    "outskirts masked": f"only what is within {CORE} pixels: the object",
    **{f"band {band}": f"{band} alone" for band in BANDS},
    "A/A real": "reals against reals, split at random: must not be told apart",
    "A/A fake": "fakes against fakes, split at random: must not be told apart",
}  #: name to what it says


def _of_class(label: int) -> Callable[[Array], NDArray[np.bool_]]:
    return lambda rows: np.asarray(rows["label"] == label)


def run_ablation(
    name: str,
    training_set: StampSet,
    config: RunConfig,
    outdir: Path,
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> AblationResult:
    """Train the same network with the same settings on what an ablation leaves, and score the test split.

    Parameters
    ----------
    name : str
        One of `ABLATIONS`.
    training_set : StampSet
        That of the run.
    config : RunConfig
        That of the run (`retraining.run_config_of`); its seed also splits the classes of an A/A test.
    outdir : Path
        The training goes on, or its result is found, in ``outdir/ablations/<name>``.
    overwrite : bool
        Replace there what is of another run or training set; else that is an error.
    quiet : bool
        No progress bar.

    Raises
    ------
    ValueError
        If there is no such ablation.
    TrainingSetError, ModelError
        As for `retraining.retrain`.
    """
    if name not in ABLATIONS:
        msg = f"no ablation is called {name!r}; there are {', '.join(ABLATIONS)}"
        raise ValueError(msg)
    if name in A_A:
        choice = choose(rows_by_shard(training_set), _of_class(A_A[name]), config.feed.seed)
        edited = with_choice(training_set, f"{name} {config.feed.seed}", choice)
    else:
        edited = with_edit(training_set, name, EDITS[name])
    place = outdir / "ablations" / directory_name([name])
    found = retrain(edited, config, place, name=name, overwrite=overwrite, quiet=quiet)
    return AblationResult(**vars(found), name=name)
