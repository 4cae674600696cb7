"""What an observer reaches on a mock whose planted difference is known: AUC against signal to noise.

Only for fakes whose light is off by so many pixels in x, and nothing else: an observer who measures that
coordinate as well as the noise allows (the Fisher information of the galaxy's own model on its own pixels),
and knows all else about the galaxy but where the middle of its stamp lies: stamps are cut around fitted
positions, which have an error of their own.  For any other difference the answer hangs on the scatter of the
population (a galaxy of another size may be a galaxy of that size), which the catalogue of a test split does
not give; `doc/explanation/learning.rst` has those for populations that are known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from astropy.coordinates import angular_separation
from scipy.special import ndtr

from obiwan.dplearn.conventions import BANDS, CHANNELS, PIXEL_SCALE, STAMP, Array
from obiwan.dplearn.errors import CoaddError, LayoutError, TrainingSetError
from obiwan.dplearn.files.atomic import read_json
from obiwan.dplearn.mock.config import Plant
from obiwan.dplearn.retraining.planting import Galaxy, galaxies_known, galaxy_of, render
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.coadds import read_windows
from obiwan.dplearn.survey.cutouts import clean_stamps
from obiwan.dplearn.survey.layouts import Root, find_runs, identify
from obiwan.dplearn.twosample import auc

Render = Callable[[Galaxy], Array]

DRAWS = 20_000  #: positions drawn for each point of the curve
EXAMPLES = 200  #: test examples whose models are rendered
STEP = 0.1  #: pixels, of the central difference
TREES = ("injected", "injected_obiwan")  #: of a mock survey


def position_error(galaxy: Galaxy, ivar: Array, draw: Render = render) -> float:
    """The least error with which noise lets one measure the x of a galaxy that is known otherwise.

    Parameters
    ----------
    galaxy : Galaxy
    ivar : ndarray, shape (64, 64, 3)
        Inverse variance of each pixel (1/nanomaggies**2).
    draw : callable
        Noiseless images of a galaxy, shape (64, 64, 3), nanomaggies per pixel.

    Returns
    -------
    float
        Pixels: one over the root of the Fisher information, the sum over pixels of (d model / dx)**2 ivar;
        infinite where there is none.
    """
    ahead, behind = (draw(replace(galaxy, x=galaxy.x + step)) for step in (STEP, -STEP))
    information = float(np.sum(((ahead - behind) / (2 * STEP)) ** 2 * ivar, dtype=np.float64))
    return information**-0.5 if information > 0 else float("inf")


def offset_auc(offset: float, errors: Array, *, seed: int = 0) -> float:
    """AUC of the likelihood ratio of one measured coordinate, for fakes that lie `offset` pixels off.

    Parameters
    ----------
    offset : float
        Pixels.
    errors : ndarray, shape (n,)
        Of the position of each object in its stamp (pixels), which the observer knows: of its measurement
        and of the position around which the stamp was cut.
    seed : int

    Returns
    -------
    float
        Where stamps are cut around whole pixels the reals' coordinate is uniform in -0.5..0.5, so that
        without noise the AUC is 1 - (1 - d)^2/2 for an offset d below 1, and 1 beyond.
    """
    rng = np.random.default_rng([seed, 77])
    errors = np.clip(errors, 1e-6, 1e3)
    error = np.tile(np.repeat(errors, 2), -(-DRAWS // (2 * len(errors))))
    labels = np.arange(len(error)) % 2
    phase, noise = rng.uniform(-0.5, 0.5, len(error)), rng.standard_normal(len(error))
    measured = phase + offset * labels + error * noise

    def likelihood(x: Array) -> Array:
        return np.asarray(
            np.maximum(ndtr((0.5 - np.abs(x)) / error) - ndtr((-0.5 - np.abs(x)) / error), 1e-300)
        )

    ratio = np.log(likelihood(measured - offset)) - np.log(likelihood(measured))
    return auc(labels, ratio)


def placing_error(rows: Array) -> float:
    """How far from the truth stamps are centred, in one coordinate.

    Parameters
    ----------
    rows : ndarray of EXAMPLE_DTYPE, shape (n,)
        Of which those without a truth tell nothing.

    Returns
    -------
    float
        Pixels: the median distance over that of two Gaussians of width 1, the root of 2 ln 2; 0 where no
        truth is known.
    """
    known = rows[np.isfinite(rows["truth_ra"])]
    if not len(known):
        return 0.0
    places = (np.radians(known[name]) for name in ("ra", "dec", "truth_ra", "truth_dec"))
    distance = 3600 * np.degrees(angular_separation(*places))  # arcsec
    return float(np.median(distance) / np.sqrt(2 * np.log(2)) / PIXEL_SCALE)


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


def _stamp_in(trees: list[Path], row: np.void) -> Array | None:
    """The stamp of an injection, cut from trees of a mock survey; None where they have not got its run."""
    brick, name = (row[key].decode().strip() for key in ("brick", "run"))
    for tree in trees:
        for path, layout in identify(tree):
            for run in find_runs(Root(0, path, layout), [brick]):
                if run.run == name:
                    cut = np.zeros((1, STAMP, STAMP, len(CHANNELS)), np.float32)
                    read_windows(run, StampSpec(), row["x"][None], row["y"][None], cut, np.array([0]))
                    clean_stamps(cut, StampSpec())
                    return np.asarray(cut[0])
    return None


def check_same_survey(mock: Path, row: np.void, stamp: Array) -> bool:
    """Whether the stamp of a fake was cut from this mock survey, pixel by pixel.

    Parameters
    ----------
    mock : Path
        As in `plant_of`.
    row : void of EXAMPLE_DTYPE
        Of a fake.
    stamp : ndarray, shape (64, 64, 6)
        As it stands in the training set.

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
        cut = _stamp_in(trees, row)
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


def offset_curve(
    offset: float, rows: Array, stamps: Array, signal_to_noise: Array, points: int = 10
) -> tuple[Array, Array]:
    """Signal to noise and AUC of the ideal observer over the range of some examples.

    Parameters
    ----------
    offset : float
        Planted (pixels).
    rows : ndarray of EXAMPLE_DTYPE, shape (n,)
        Their models; those that cannot be rendered are left out.
    stamps : ndarray, shape (n, 64, 64, 6)
        Their cutouts, of which the inverse variances are used.
    signal_to_noise : ndarray, shape (n,)
    points : int
        Each for as many examples.

    Returns
    -------
    tuple of ndarray
        Empty where nothing can be rendered.
    """
    with np.errstate(invalid="ignore"):
        known = np.flatnonzero(galaxies_known(rows) & np.isfinite(signal_to_noise) & (signal_to_noise > 0))
    known = known[np.argsort(signal_to_noise[known], kind="stable")]
    errors = np.array([position_error(galaxy_of(rows[i]), stamps[i][..., len(BANDS) :]) for i in known])
    parts = [part for part in np.array_split(np.arange(len(known)), points) if len(part)]
    placing = [placing_error(rows[known[part]]) for part in parts]
    curve = [
        (np.median(signal_to_noise[known[part]]), offset_auc(offset, np.hypot(errors[part], placed)))
        for part, placed in zip(parts, placing, strict=True)
    ]
    found = np.array(curve).reshape(-1, 2)
    return found[:, 0], found[:, 1]
