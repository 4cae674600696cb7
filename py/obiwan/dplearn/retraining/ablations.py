"""Ablations: what the same classifier reaches when it is trained again without a part of the stamps.

A classifier that still distinguishes the classes by the inverse variances alone, or with the galaxy masked,
has found an artefact of the processing.  Every edit is a function of the stamps alone, the same for both
classes and all splits.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.referees.jury import Jury
from obiwan.dplearn.retraining.runs import Retrained, directory_name, retrain, retrain_members
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.stampset import Stamps, StampSet
from obiwan.dplearn.trainingset.views import Edit, halves, with_choice, with_edit

if TYPE_CHECKING:
    from obiwan.dplearn.training.settings import RunConfig

log = logging.getLogger(__name__)
A_A = {f"A/A {name}": label for label, name in enumerate(StampSpec.labels)}  #: null tests, and their class


@dataclass(frozen=True)
class AblationResult(Retrained):
    """What the classifier reaches on what an ablation leaves.

    Attributes
    ----------
    name : str
        One of `names`.
    by : str
        What was trained: ``network``, or the names of quick members of a panel.
    """

    name: str
    by: str = "network"


def core_radius(spec: StampSpec) -> int:
    """Pixels from the central one within which the centre of a stamp is; beyond are the outskirts."""
    return spec.size // 4


def _image_only(x: Stamps, spec: StampSpec) -> Stamps:
    """Replace each ivar plane by its median over the stamp's valid pixels; those without data stay 0."""
    out = x.copy()
    for stamp in out:
        for channel in range(len(spec.bands), len(spec.channels)):
            plane = stamp[..., channel]  # a view
            valid = plane > 0
            plane[...] = np.where(valid, np.median(plane[valid]), 0) if valid.any() else 0
    return out


def _ivar_only(x: Stamps, spec: StampSpec) -> Stamps:
    """Set the images to 0."""
    out = x.copy()
    spec.image(out)[...] = 0
    return out


def _masked(x: Stamps, spec: StampSpec, *, centre: bool) -> Stamps:
    """Make the centre, or else the outskirts, pixels without data."""
    out = x.copy()
    yy, xx = np.ogrid[: spec.size, : spec.size]
    core = (xx - spec.centre) ** 2 + (yy - spec.centre) ** 2 <= core_radius(spec) ** 2
    out[:, core == centre] = 0
    return out


def _one_band(x: Stamps, spec: StampSpec, *, band: str) -> Stamps:
    """Leave one band: the others' images are 0 and their inverse variances 1 everywhere.

    Without inverse variances the others' images are one pattern of noise, the same in all stamps.
    """
    out = x.copy()
    others = np.array([other != band for other in spec.bands])
    image, ivar = spec.image(out), spec.ivar(out)
    if ivar is not None:
        image[..., others], ivar[..., others] = 0, 1  # 0 would leave no pixel to scale the plane by
    else:
        noise = np.random.default_rng(0).standard_normal(spec.shape[:2], np.float32)
        image[..., others] = noise[..., None]
    return out


def edits(spec: StampSpec) -> dict[str, Edit]:
    """Ablations that change the pixels of such stamps, by name."""
    found: dict[str, Edit] = {}
    if spec.has_ivar:
        found |= {"image only": partial(_image_only, spec=spec), "ivar only": partial(_ivar_only, spec=spec)}
    found["centre masked"] = partial(_masked, spec=spec, centre=True)
    found["outskirts masked"] = partial(_masked, spec=spec, centre=False)
    if len(spec.bands) > 1:
        found |= {f"band {band}": partial(_one_band, spec=spec, band=band) for band in spec.bands}
    return found


def names(spec: StampSpec) -> tuple[str, ...]:
    """Names of all ablations of such stamps: `edits`, then null tests of one class against itself."""
    return (*edits(spec), *A_A)


def check_names(asked: Sequence[str], spec: StampSpec) -> None:
    """Refuse ablations that such stamps do not have.

    Raises
    ------
    TrainingSetError
    """
    for name in asked:
        if name not in names(spec):
            msg = f"--ablations {name!r}: there is no such ablation; there are {', '.join(names(spec))}"
            raise TrainingSetError(msg)


def ablated(name: str, training_set: StampSet, seed: int) -> StampSet:
    """The view of a training set that an ablation leaves.

    Parameters
    ----------
    name : str
        One of `names`.
    training_set : StampSet
    seed : int
        Of the halves of a null test.

    Raises
    ------
    TrainingSetError
        If there is no such ablation.
    """
    check_names([name], training_set.spec)
    if name in A_A:
        rows = training_set.examples()
        rows = rows[rows["label"] == A_A[name]]
        return with_choice(training_set, f"{name} {seed}", rows, halves(rows, seed))
    return with_edit(training_set, name, edits(training_set.spec)[name])


def run_quick_ablation(
    name: str, training_set: StampSet, jury: Jury, executor: Executor | None = None
) -> AblationResult:
    """Train the quick members of a panel on what an ablation leaves, and score the test split.

    Parameters
    ----------
    name : str
        One of `names`.
    training_set : StampSet
    jury : Jury
        The panel; members that are not `obiwan.dplearn.referees.jury.Jury.quick` are left out.
    executor : Executor, optional
        Workers that measure.

    Raises
    ------
    TrainingSetError
        As for `ablated` and `retraining.runs.retrain_members`.
    """
    log.info("%s: training %s", name, " and ".join(jury.quick))
    edited = ablated(name, training_set, jury.seed)
    found = retrain_members(edited, replace(jury, members=jury.quick), executor)
    return AblationResult(**vars(found), name=name, by=" and ".join(jury.quick))


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
        One of `names`.
    training_set : StampSet
        That of the run.
    config : RunConfig
        That of the run (`retraining.run_config_of`); its seed also splits the classes of a null test.
    outdir : Path
        The training goes on, or its result is found, in ``outdir/ablations/<name>``.
    overwrite : bool
        Replace there what is of another run or training set; else that is an error.
    quiet : bool
        No progress bar.

    Raises
    ------
    TrainingSetError, ModelError
        As for `ablated` and `retraining.retrain`.
    """
    edited = ablated(name, training_set, config.feed.seed)
    directory = outdir / "ablations" / directory_name([name])
    found = retrain(edited, config, directory, name=name, overwrite=overwrite, quiet=quiet)
    return AblationResult(**vars(found), name=name)
