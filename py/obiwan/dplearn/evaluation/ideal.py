"""Ideal observer of an offset planted in a mock survey: AUC against signal to noise.

The observer measures the position of the light along x as well as the noise allows (the Fisher information
of the galaxy's own model on its own pixels), and knows everything else about the galaxy except where the
centre of its stamp lies: stamps are cut around fitted positions, which have an error of their own.  For any
other difference the answer depends on the scatter of the population (a galaxy of another size may be a galaxy
of that size), which the catalogue of a test split does not give; `doc/explanation/learning.rst` has those for
populations that are known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
from astropy.coordinates import angular_separation
from scipy.special import ndtr

from obiwan.dplearn.errors import CoaddError, LayoutError, TrainingSetError
from obiwan.dplearn.evaluation.notices import Fact, Notice, of_mock
from obiwan.dplearn.files.atomic import read_json
from obiwan.dplearn.mock.config import Plant
from obiwan.dplearn.retraining.planting import galaxies_known, galaxy_of, model_of
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.coadds import read_windows
from obiwan.dplearn.survey.cutouts import clean_stamps
from obiwan.dplearn.survey.layouts import Root, find_runs, identify
from obiwan.dplearn.survey.rendering import Galaxy
from obiwan.dplearn.trainingset.stampset import StampSet
from obiwan.dplearn.twosample.ranking import auc

DRAWS = 20_000  #: positions drawn for each point of the curve
EXAMPLES = 200  #: test examples whose models are rendered
STEP = 0.1  #: pixels, of the central difference
HIDING = {Notice.FITS_FOLLOW, Notice.NO_NOISE}  #: notices for which there is no curve of an offset
TREES = ("injected", "injected_obiwan")  #: of a mock survey


def position_error(galaxy: Galaxy, ivar: Array, draw: Callable[[Galaxy], Array]) -> float:
    """Least error of a measurement of a galaxy's x, everything else about it being known.

    Parameters
    ----------
    galaxy : Galaxy
    ivar : ndarray, shape (size, size, bands)
        Inverse variance of each pixel (1/nanomaggies**2).
    draw : callable
        Noiseless images of a galaxy, of the same shape (nanomaggies per pixel).

    Returns
    -------
    float
        Pixels: one over the root of the Fisher information, the sum over pixels of (d model / dx)**2 ivar;
        infinite where there is none.
    """
    ahead, behind = (draw(replace(galaxy, x=galaxy.x + step)) for step in (STEP, -STEP))
    information = float(np.sum(((ahead - behind) / (2 * STEP)) ** 2 * ivar, dtype=np.float64))
    return information**-0.5 if information > 0 else float("inf")


def offset_auc(offset: float, errors: Array) -> float:
    """AUC of the likelihood ratio of one measured coordinate, for injections that lie `offset` pixels off.

    Parameters
    ----------
    offset : float
        Pixels.
    errors : ndarray, shape (n,)
        Of the position of each object in its stamp (pixels), which the observer knows: of its measurement
        and of the position around which the stamp was cut.

    Returns
    -------
    float
        Where stamps are cut around whole pixels the real galaxies' coordinate is uniform in -0.5..0.5, so
        that without noise the AUC is 1 - (1 - d)^2/2 for an offset d below 1, and 1 beyond.
    """
    rng = np.random.default_rng([0, 77])
    errors = np.clip(errors, 1e-6, 1e3)
    error = np.tile(np.repeat(errors, 2), -(-DRAWS // (2 * len(errors))))
    labels = np.arange(len(error)) % 2
    phase, noise = rng.uniform(-0.5, 0.5, len(error)), rng.standard_normal(len(error))
    measured = phase + offset * labels + error * noise

    def log_likelihood(x: Array) -> Array:
        inside = ndtr((0.5 - np.abs(x)) / error) - ndtr((-0.5 - np.abs(x)) / error)
        return np.asarray(np.log(np.maximum(inside, 1e-300)))

    return auc(labels, log_likelihood(measured - offset) - log_likelihood(measured))


def placing_error(rows: Array, pixel_scale: float) -> float:
    """Distance in one coordinate between the centres of stamps and the truth.

    Parameters
    ----------
    rows : structured ndarray, shape (n,)
        Of the example table; those without a truth tell nothing.
    pixel_scale : float
        Arcseconds per pixel.

    Returns
    -------
    float
        Pixels: the median distance over that of two Gaussians of width 1, the root of 2 ln 2; 0 where no
        truth is known.
    """
    known = rows[np.isfinite(rows["truth_ra"])]
    if not len(known):
        return 0.0
    positions = (np.radians(known[name]) for name in ("ra", "dec", "truth_ra", "truth_dec"))
    distance = 3600 * np.degrees(angular_separation(*positions))  # arcsec
    return float(np.median(distance) / np.sqrt(2 * np.log(2)) / pixel_scale)


def plant_of(mock: Path) -> Plant:
    """What was planted in a mock survey.

    Parameters
    ----------
    mock : Path
        The directory of the survey, or its ``mock.json``.

    Raises
    ------
    TrainingSetError
        If there is no readable ``mock.json``.
    """
    path = mock / "mock.json" if mock.is_dir() else mock
    try:
        return Plant(**read_json(path)["config"]["plant"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path}: no readable description of a mock survey ({error}); name the --outdir of mock"
        raise TrainingSetError(msg) from None


def planted_in(plant: Plant) -> tuple[str, ...]:
    """Kinds of difference that were planted."""
    neutral = asdict(Plant())
    return tuple(name for name, value in asdict(plant).items() if value != neutral[name])


def _stamp_in(trees: list[Path], row: np.void, spec: StampSpec) -> Array | None:
    """The stamp of an injection, cut from trees of a mock survey; None where they have not got its run."""
    brick, name = (row[key].decode().strip() for key in ("brick", "run"))
    roots = (Root(0, path, layout) for tree in trees for path, layout in identify(tree))
    for run in (run for root in roots for run in find_runs(root, [brick]) if run.run == name):
        cut = np.zeros((1, *spec.shape), np.float32)
        read_windows(run, spec, row["x"][None], row["y"][None], cut, np.array([0]))
        clean_stamps(cut, spec)
        return np.asarray(cut[0])
    return None


def check_same_survey(mock: Path, row: np.void, stamp: Array, spec: StampSpec) -> bool:
    """Whether the stamp of an injection was cut from this mock survey, pixel by pixel.

    Parameters
    ----------
    mock : Path
        As in `plant_of`.
    row : void
        Its row of the example table.
    stamp : ndarray, shape (size, size, channels)
        As it stands in the training set.
    spec : StampSpec

    Returns
    -------
    bool
        False where it cannot be told: the images of the survey are not there.

    Raises
    ------
    TrainingSetError
        If it was not.
    """
    directory = mock if mock.is_dir() else mock.parent
    trees = [directory / name for name in TREES if (directory / name).is_dir()]
    if not trees:
        return False
    try:
        cut = _stamp_in(trees, row, spec)
    except (CoaddError, LayoutError):
        cut = None
    if cut is None or not np.array_equal(cut, stamp):
        msg = (
            f"{mock}: the training set was not cut from this mock survey (brick {row['brick'].decode()}, "
            f"{row['run'].decode()}, id {row['id']}); name the --outdir of the mock that it was cut from, or "
            "leave out --mock"
        )
        raise TrainingSetError(msg)
    return True


def planted_offset(mock: Path | None, stamp_set: StampSet) -> tuple[float | None, tuple[Fact, ...]]:
    """The offset (pixels) planted in a mock survey, None where there is no curve for it; and notices.

    Raises
    ------
    TrainingSetError
        If there is no such survey, or the training set was not cut from it.
    """
    if mock is None:
        return None, ()
    plant, rows = plant_of(mock), stamp_set.rows("test")
    first = np.flatnonzero(rows["label"] == 1)[:1]
    checked = check_same_survey(mock, rows[first[0]], stamp_set.stamps("test", first)[0], stamp_set.spec)
    planted, centres = planted_in(plant), stamp_set.manifest["config"]["centers"]
    notices = of_mock(planted, stamp_set.spec, centres, checked=checked)
    shown = planted == ("offset",) and not {notice.kind for notice in notices} & HIDING
    return (plant.offset if shown else None), notices


def offset_curve(
    offset: float, rows: Array, stamps: Array, signal_to_noise: Array, spec: StampSpec, points: int = 10
) -> tuple[Array, Array]:
    """Signal to noise and AUC of the ideal observer over the range of some examples.

    Parameters
    ----------
    offset : float
        Planted (pixels).
    rows : structured ndarray, shape (n,)
        Of the example table; those whose model cannot be rendered are left out.
    stamps : ndarray, shape (n, size, size, channels)
        Of which the inverse variances are used.
    signal_to_noise : ndarray, shape (n,)
    spec : StampSpec
    points : int
        Each for as many examples.

    Returns
    -------
    tuple of ndarray
        Empty where nothing can be rendered, or there are no inverse variances.
    """
    ivar = spec.ivar(stamps)
    if ivar is None:
        return np.empty(0), np.empty(0)
    with np.errstate(invalid="ignore"):
        usable = galaxies_known(rows, spec) & np.isfinite(signal_to_noise) & (signal_to_noise > 0)
    order = np.argsort(signal_to_noise, kind="stable")
    known = order[usable[order]]
    draw = partial(model_of, spec=spec)
    curve = []
    for part in (part for part in np.array_split(known, points) if len(part)):
        errors = np.array([position_error(galaxy_of(rows[i], spec), ivar[i], draw) for i in part])
        errors = np.hypot(errors, placing_error(rows[part], spec.pixel_scale))
        curve.append((np.median(signal_to_noise[part]), offset_auc(offset, errors)))
    found = np.array(curve).reshape(-1, 2)
    return found[:, 0], found[:, 1]
