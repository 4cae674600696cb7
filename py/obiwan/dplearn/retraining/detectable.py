"""Detectable amplitudes: how large a known difference must be for a test set to detect it.

A difference is planted at one amplitude in a few thousand training stamps, which are measured again; the
logistic referee (`obiwan.dplearn.referees.scores`) is trained on some bricks and scores others.  For small
differences d' is proportional to the amplitude, so that one amplitude tells all others: the one that a test
set detects with a power of 80 % is that at which d' is that of the least AUC that the set detects.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import norm

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.referees.jury import Sample
from obiwan.dplearn.referees.measured import Measured, concatenate, measure
from obiwan.dplearn.referees.population import Population
from obiwan.dplearn.referees.scores import ScoresReferee
from obiwan.dplearn.retraining.planting import galaxies_known, galaxy_of, model_of, plant_in, planted
from obiwan.dplearn.running.executors import progress_bar, run_all
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.differences import FACTOR, KINDS, LIGHT, Difference
from obiwan.dplearn.twosample.ranking import Estimate, measure_auc
from obiwan.dplearn.twosample.summary import usable_bricks

STAMPS = 2000  #: that a difference is planted in, at most
FOLDS = 4
PIECE = 256  #: stamps that one process plants and measures at a time
PHOTON_NOISE, IVAR = "photon_noise", "ivar_dip"  #: kinds that are no property of a galaxy
#: What is planted: kind and amplitude, each so large that some 2,000 stamps show it and not much larger.
AMPLITUDES = {
    "band_offset": 0.3,
    "psf": 1.1,
    "size": 1.3,
    "flux": 1.3,
    "colour": 0.2,
    "sersic": 0.7,
    PHOTON_NOISE: 2e-4,
    IVAR: 0.05,
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Detection:
    """Result of the logistic referee on one planted difference.

    Attributes
    ----------
    kind : str
        One of `AMPLITUDES`.
    amplitude : float
        That was planted, in the kind's unit.
    auc : Estimate
        Between changed and unchanged stamps of bricks that the referee was not trained on.
    stamps : int
        How many there are.
    """

    kind: str
    amplitude: float
    auc: Estimate
    stamps: int

    @property
    def detected(self) -> bool:
        """Whether the interval of the AUC is above 0.5."""
        return self.auc.low > 0.5

    def at(self, auc: float) -> Estimate:
        """Amplitude with a given AUC, and the ends of its interval; NaN and infinite where nothing was found.

        Parameters
        ----------
        auc : float
            Above 0.5, such as the least that a test set detects with a power of 80 %.
        """
        goal = d_prime(auc)
        ends = [_scaled(self, goal, end) for end in (self.auc.value, self.auc.high, self.auc.low)]
        order = sorted(ends[1:])
        return Estimate(ends[0], order[0], order[1])

    def auc_at(self, amplitude: float) -> Estimate:
        """AUC of another amplitude, and the ends of its interval.

        Parameters
        ----------
        amplitude : float
            In the kind's unit; of a factor and its inverse the AUC is the same.
        """
        ratio = abs(_size(self.kind, amplitude) / _size(self.kind, self.amplitude))
        seen = (
            norm.cdf(ratio * d_prime(one) / math.sqrt(2))
            for one in (self.auc.value, self.auc.low, self.auc.high)
        )
        return Estimate(*map(float, seen))


def d_prime(auc: float) -> float:
    """Distance of two Gaussians of an AUC in standard deviations."""
    return float(math.sqrt(2) * norm.ppf(min(max(auc, 1e-6), 1 - 1e-6)))


def _size(kind: str, amplitude: float) -> float:
    """What d' is in proportion to: of factors the logarithm."""
    return math.log(amplitude) if KINDS[kind].unit == FACTOR else amplitude


def _scaled(found: Detection, goal: float, auc: float) -> float:
    """Amplitude of a d' if the planted one has an AUC; factors are in proportion by their logarithm."""
    seen = d_prime(auc)
    if seen <= 0:
        return math.inf
    size = _size(found.kind, found.amplitude) * goal / seen
    return math.exp(size) if KINDS[found.kind].unit == FACTOR else size


@dataclass(frozen=True)
class Detections:
    """Planted differences of several kinds: the positive control of a verdict.

    Attributes
    ----------
    found : tuple of Detection
    """

    found: tuple[Detection, ...]

    @property
    def detected(self) -> bool:
        """Whether every kind was detected."""
        return bool(self.found) and all(one.detected for one in self.found)

    @property
    def weakest(self) -> float:
        """AUC of the weakest difference that was detected; NaN where none was."""
        return min((one.auc.value for one in self.found if one.detected), default=math.nan)


def kinds_of(spec: StampSpec) -> tuple[str, ...]:
    """Kinds that such stamps can have."""
    needs = {"band_offset": len(spec.bands) > 1, "colour": len(spec.bands) > 1, IVAR: spec.has_ivar}
    return tuple(kind for kind in AMPLITUDES if needs.get(kind, True))


def kinds_asked(asked: Sequence[str] | None, spec: StampSpec) -> tuple[str, ...]:
    """Kinds that are to be planted: those asked for, or all that such stamps can have.

    Raises
    ------
    TrainingSetError
        If such stamps cannot have one.
    """
    known = kinds_of(spec)
    absent = [kind for kind in asked or () if kind not in known]
    if absent:
        msg = f"--sensitivity {absent[0]}: stamps with {', '.join(spec.channels)} cannot have it; there are "
        raise TrainingSetError(msg + ", ".join(known))
    return known if asked is None else tuple(kind for kind in known if kind in asked)


def plant(stamps: Array, rows: Array, kind: str, amplitude: float, spec: StampSpec, seed: int) -> Array:
    """Stamps with a difference planted in each.

    Parameters
    ----------
    stamps : ndarray of float32, shape (n, size, size, channels)
    rows : structured ndarray, shape (n,)
        For which `galaxies_known`.
    kind : str
        One of `AMPLITUDES`.
    amplitude : float
        For ``photon_noise`` the variance per flux that ivar does not know (nanomaggies), for ``ivar`` the
        fraction by which it dips at the peak of the light.
    spec : StampSpec
    seed : int
        Of the noise.
    """
    out = stamps.copy()
    every = np.ones(len(stamps), bool)
    if kind in LIGHT:
        difference = Difference(kind, amplitude)
        added = np.stack([planted(galaxy_of(row, spec), difference, spec) for row in rows])
        return plant_in(out, every, added, spec)
    models = np.stack([np.maximum(model_of(galaxy_of(row, spec), spec), 0) for row in rows])
    if kind == PHOTON_NOISE:
        rng = np.random.default_rng([seed, 31])
        noise = rng.standard_normal(models.shape) * np.sqrt(amplitude * models)
        return plant_in(out, every, noise.astype(np.float32), spec)
    ivar = spec.ivar(out)
    if ivar is None:
        msg = f"{kind}: these stamps have no inverse variances"
        raise ValueError(msg)
    peak = models.max((1, 2), keepdims=True)
    ivar *= (1 - amplitude * models / np.where(peak > 0, peak, 1)).astype(np.float32)
    return out


@dataclass(frozen=True)
class Base:
    """Stamps that differences are planted in.

    Attributes
    ----------
    stamps : ndarray of float32, shape (n, size, size, channels)
    rows : structured ndarray, shape (n,)
    measured : Measured
        Before anything is planted.
    spec : StampSpec
    """

    stamps: Array
    rows: Array
    measured: Measured
    spec: StampSpec


def base_of(sample: Sample, seed: int, most: int = STAMPS) -> Base:
    """Draw stamps of known galaxies from a sample, of either class alike.

    Raises
    ------
    TrainingSetError
        If fewer than two galaxies are known in each of two bricks.
    """
    stamp_set, rows = sample.stamp_set, sample.stamp_set.rows(sample.split)
    known = np.flatnonzero(galaxies_known(rows, stamp_set.spec))
    chosen = np.sort(np.random.default_rng([seed, 37]).permutation(known)[:most])
    if len(np.unique(rows["brick"][chosen])) < 2:
        msg = (
            f"{stamp_set.directory}: {len(known)} training examples have a fitted flux, shape and PSF width "
            "(psfsize); to plant differences takes some in two bricks"
        )
        raise TrainingSetError(msg)
    stamps = stamp_set.stamps(sample.split, chosen)
    return Base(stamps, rows[chosen], sample.measured.without_residuals().take(chosen), stamp_set.spec)


def _measure_planted(
    piece: tuple[Array, Array],
    base: tuple[StampSpec, tuple[str, ...]],
    planting: tuple[str, float, int],
) -> Measured:
    """Plant a difference (kind, amplitude, seed) in some stamps and measure them as their base was."""
    (stamps, rows), (spec, prior), (kind, amplitude, seed) = piece, base, planting
    return measure(plant(stamps, rows, kind, amplitude, spec, seed), rows, spec, prior=prior)


def detect(
    base: Base,
    kind: str,
    amplitude: float,
    population: Population,
    seed: int,
    executor: Executor | None = None,
) -> Detection:
    """Plant a difference in stamps and find out whether the logistic referee detects it.

    Parameters
    ----------
    base : Base
    kind, amplitude
        See `plant`.
    population : Population
        Of the training set.
    seed : int
        Of noise, halves and folds.
    executor : Executor, optional
        Workers that plant and measure.
    """
    count = len(base.stamps)
    pieces = [(base.stamps[i : i + PIECE], base.rows[i : i + PIECE]) for i in range(0, count, PIECE)]
    work = partial(_measure_planted, base=(base.spec, base.measured.prior), planting=(kind, amplitude, seed))
    with progress_bar(count, f"planting {kind}", "stamp") as bar:
        changed = concatenate(run_all(work, pieces, executor, bar, size=lambda i: len(pieces[i][0])))
    both = concatenate([base.measured, changed])
    labels = np.repeat([0, 1], count)
    bricks = np.char.strip(base.rows["brick"].astype(str))
    half = np.random.default_rng([seed, 41]).permutation(count) % 2  # whether it trains changed or unchanged
    scores, fold = np.empty(2 * count), _folds(bricks, seed)
    for number in range(fold.max() + 1):
        held = np.tile(fold == number, 2)
        trained = np.flatnonzero(~held & (labels == np.tile(half, 2)))
        referee = ScoresReferee.train(both.take(trained), labels[trained], seed, population)
        scores[held] = referee.logits(both.take(np.flatnonzero(held)))
    usable = usable_bricks(labels, np.tile(bricks, 2))
    auc = measure_auc(labels, scores, np.tile(np.arange(count), 2) if usable is None else usable).interval()
    return Detection(kind, amplitude, auc, count)


def _folds(bricks: Array, seed: int) -> Array:
    """A part of the cross-fit for each example: whole bricks."""
    names, number = np.unique(bricks, return_inverse=True)
    order = np.random.default_rng([seed, 43]).permutation(len(names))
    return np.asarray((order % min(FOLDS, len(names)))[number])


def detect_all(
    sample: Sample,
    kinds: Sequence[str],
    seed: int,
    executor: Executor | None = None,
    most: int = STAMPS,
) -> tuple[Detection, ...]:
    """Detection of each kind of difference, planted at the amplitudes of `AMPLITUDES` in a sample.

    Nothing, which is warned about, where too few galaxies are known.
    """
    if not kinds:
        return ()
    try:
        base = base_of(sample, seed, most)
    except TrainingSetError as error:
        log.warning("warning: %s", error)
        return ()
    population = sample.measured.population
    return tuple(detect(base, kind, AMPLITUDES[kind], population, seed, executor) for kind in kinds)
