"""Do the intervals of cross-fitted AUCs cover where there is no difference?  Some twenty minutes.

    bin/benchmark cross_fitting -- [--sets 200] [--seed 1] [--only nothing measured] [--table FILE.csv]

Sets of measured quantities with bricks, in which nothing tells the classes but chance: the baseline's
classifier is cross-fitted on each, as ``evaluate`` does it.  A quantity of a galaxy is
``sky[brick] + (label - 1/2) * odd[brick] + noise``; half of the quantities belong to the brick alone, as its
seeing.  ``needed`` is the variance of the AUC over the sets in units of the variance that takes the
classifier as given: what `obiwan.dplearn.controls.metadata.cross_fitted_auc` multiplies by.

``measured`` draws labels for the measured stamps of ``null_sets`` and cross-fits a linear classifier on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.null_sets import Pool, measured_pool
from benchmarks.surveys import version
from obiwan.dplearn.controls.metadata import cross_fitted_auc, metadata_classifier
from obiwan.dplearn.referees.features import Scaling, score_numbers
from obiwan.dplearn.twosample.ranking import measure_auc
from obiwan.dplearn.twosample.summary import score_interval, usable_bricks
from tables import write_csv

QUANTITIES = 12  #: half of them of galaxies, half of bricks
TESTED = 0.2  #: part of the bricks whose AUC is tested, as in ``evaluate``
PARTS = 5  #: of the cross-fit of measured stamps
RIDGE = 1.0  #: on numbers of unit variance, in units of one example's information
MEASURED = "measured"

Result = tuple[float, float, bool, bool, bool]


@dataclass(frozen=True)
class Null:
    """Sets without a difference on average over the sky.

    Attributes
    ----------
    bricks, each : int
        Bricks, and examples in each.
    sky, odd : float
        Scatter from brick to brick of all its galaxies, and of how its injected ones differ, in units of a
        quantity's scatter.
    uneven : bool
        Whether the fraction of injected galaxies varies from brick to brick, from 0.1 to 0.9.
    """

    bricks: int
    each: int
    sky: float = 0.0
    odd: float = 0.0
    uneven: bool = False

    def draw(self, rng: np.random.Generator) -> tuple[dict[str, NDArray], NDArray, NDArray]:
        """Quantities, labels and bricks of one set."""
        bricks = np.repeat(np.arange(self.bricks), self.each)
        fraction = rng.uniform(0.1, 0.9, self.bricks)[bricks] if self.uneven else np.full(len(bricks), 0.5)
        labels = (rng.random(len(bricks)) < fraction).astype(int)
        half = QUANTITIES // 2
        sky, odd = (rng.normal(0, size, (self.bricks, half))[bricks] for size in (self.sky, self.odd))
        own = sky + (labels - 0.5)[:, None] * odd + rng.normal(size=(len(bricks), half))
        shared = rng.normal(size=(self.bricks, half))[bricks]
        columns = np.hstack([own, shared]).T
        return {f"q{i}": column for i, column in enumerate(columns)}, labels, bricks


NULLS = {
    "nothing": Null(20, 50),
    "odd bricks": Null(20, 50, sky=0.3, odd=0.3),
    "sky, uneven": Null(20, 50, sky=0.5, uneven=True),
    "odd, ten bricks": Null(10, 100, sky=0.3, odd=0.3),
    "nothing, large": Null(40, 100),
}


def judged(labels: NDArray, scores: NDArray, bricks: NDArray, folds: int) -> Result:
    """AUC and its error with the classifier as given; which intervals hold 0.5: plain, all's, test's."""
    given = measure_auc(labels, scores, usable_bricks(labels, bricks))
    widened = cross_fitted_auc(labels, scores, bricks, folds=folds)
    test = bricks < max(5, round(TESTED * (bricks.max() + 1)))
    share = float(test.mean())
    tested = cross_fitted_auc(labels[test], scores[test], bricks[test], folds=folds, share=share)
    intervals = [one.interval() for one in (given, widened, tested)]
    plain, all_, test_ = (one.low <= 0.5 <= one.high for one in intervals)
    return given.value, given.error, plain, all_, test_


def results(null: Null, sets: int, seed: int) -> Iterator[Result]:
    """What is found of simulated sets, by the baseline's classifier."""
    rng = np.random.default_rng([seed, null.bricks, null.each, int(null.uneven), round(100 * null.odd)])
    for number in range(sets):
        columns, labels, bricks = null.draw(rng)
        found = metadata_classifier(columns, labels, bricks, seed=number)
        yield judged(labels, found.scores, bricks, found.folds)


def relabelled(numbers: NDArray, bricks: NDArray, sets: int, seed: int) -> Iterator[Result]:
    """What is found of given numbers, shape (n, k), with drawn labels, by a linear classifier."""
    parts = []
    for part in range(PARTS):
        train = bricks % PARTS != part
        middle = numbers[train].mean(0)
        centred = numbers[train] - middle
        inverse = np.linalg.inv(centred.T @ centred / 4 + RIDGE * np.eye(numbers.shape[1]))
        parts.append((train, inverse @ centred.T, numbers[~train] - middle))
    rng = np.random.default_rng([seed, 3])
    for _ in range(sets):
        labels, scores = rng.integers(2, size=len(bricks)), np.empty(len(bricks))
        for train, solution, held_out in parts:
            scores[~train] = held_out @ (solution @ (labels[train] - labels[train].mean()))
        yield judged(labels, scores, bricks, PARTS)


def scaled_scores(pool: Pool) -> NDArray:
    """The numbers of the logistic referee, scaled."""
    numbers = score_numbers(pool.measured, pool.measured.population)
    return np.asarray(Scaling.of(numbers).apply(numbers))


def row(name: str, bricks: int, examples: int, found: NDArray) -> dict[str, object]:
    """A row of the table, from `results` or `relabelled`, shape (sets, 5)."""
    values, errors = found[:, 0], found[:, 1]
    needed = float(values.var(ddof=1) / np.mean(errors**2))
    plain, widened, tested = (score_interval(share, len(found)) for share in found[:, 2:].mean(0))
    return {
        "bricks differ by": name,
        "bricks": bricks,
        "examples": examples,
        "sets": len(found),
        "AUC": f"{values.mean():.4f}",
        "scatter": f"{values.std(ddof=1):.4f}",
        "needed": f"{needed:.2f}",
        "error of needed": f"{needed * np.sqrt(2 / len(found)):.2f}",
        "plain": f"{plain.value:.3f}",
        "widened": f"{widened.value:.3f}",
        "widened, from": f"{widened.low:.3f}",
        "widened, to": f"{widened.high:.3f}",
        "test split": f"{tested.value:.3f}",
        "version": version(),
    }


def main() -> int:
    """Print and write a row for each kind of set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=[*NULLS, MEASURED], default=[*NULLS, MEASURED])
    parser.add_argument("--table", type=Path, default=Path("/tmp/cross_fitting.csv"))
    parser.add_argument("--workdir", type=Path, default=Path("/tmp/null_sets"), help="that of null_sets")
    parser.add_argument("--surveys", type=Path, help="directory of surveys that other benchmarks share")
    options = parser.parse_args()
    rows = []
    for name in options.only:
        if name == MEASURED:
            pool = measured_pool(options.workdir, options.surveys or options.workdir / "surveys")
            size = (int(pool.bricks.max()) + 1, len(pool.bricks))
            found = relabelled(scaled_scores(pool), pool.bricks, options.sets, options.seed)
        else:
            null = NULLS[name]
            size, found = (null.bricks, null.bricks * null.each), results(null, options.sets, options.seed)
        rows.append(row(name, *size, np.array(list(found), float)))
        print(rows[-1], flush=True)
        write_csv(options.table, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
