"""How often the panel calls classes distinguishable that do not differ: measured stamps, drawn labels; hours.

    bin/benchmark null_sets -- --workdir DIR [--sets 400] [--table FILE.csv]

The stamps of a mock survey with nothing planted are measured once.  Each set takes some of its bricks for
training, validation and test, draws the labels, trains the panel's members that rest on numbers, combines
them and decides, as ``evaluate`` does it.  Bricks are odd if labels follow the scores of the population with
slopes of their own in each brick, normal with mean zero: injections look different in every brick, and on
average do not.  With slopes of that scatter, the classes of a brick are so many standard deviations apart in
each score.

Finished sets are kept in DIR; the table counts those that are finished so far.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from benchmarks.surveys import training_set, version
from obiwan.dplearn.referees.measured import Measured, concatenate, measure_set
from obiwan.dplearn.referees.panel import fit_panel
from obiwan.dplearn.referees.stored import KINDS
from obiwan.dplearn.stampspec import SPLITS
from obiwan.dplearn.trainingset.stampset import open_training_set
from obiwan.dplearn.twosample.summary import score_interval
from obiwan.dplearn.twosample.verdict import Kind, decide
from tables import append_record, grouped, read_record, write_csv

SURVEY = ("--bricks", "60", "--brick-size", "400", "--seed", "1")
MEMBERS = ("scores", "trees")  #: those that need no pixels
ODDNESS = (0.0, 0.1, 0.2)
TESTED = (5, 10, 30)  #: test bricks; the smaller sets are part of the larger ones
TRAIN, VAL = 14, 8  #: bricks


@dataclass(frozen=True)
class Pool:
    """Measured stamps of which sets are made.

    Attributes
    ----------
    measured : Measured
        Of n stamps.
    bricks : ndarray of int, shape (n,)
        Numbers from 0.
    scores : ndarray, shape (n, p)
        Of the population's mean, of unit variance.
    """

    measured: Measured
    bricks: NDArray[np.int_]
    scores: NDArray[np.float64]


def pool_of(measured: Measured, bricks: NDArray) -> Pool:
    """A pool from measured stamps and the names of their bricks."""
    fits = measured.fits
    scores = measured.population.posterior(fits.values, fits.information, fits.gradient).u
    spread = scores.std(0)
    return Pool(measured, np.unique(bricks, return_inverse=True)[1].ravel(), (scores / spread).astype(float))


def drawn_labels(pool: Pool, oddness: float, rng: np.random.Generator) -> NDArray[np.int_]:
    """Labels of all stamps, which no quantity tells on average over bricks."""
    slopes = rng.normal(0, oddness, (pool.bricks.max() + 1, pool.scores.shape[1]))
    tilt = (pool.scores * slopes[pool.bricks]).sum(1)
    count = np.bincount(pool.bricks)
    middle = np.bincount(pool.bricks, tilt) / count
    return (rng.random(len(tilt)) < expit(tilt - middle[pool.bricks])).astype(int)


def null_set(pool: Pool, oddness: float, number: int) -> Iterator[dict[str, Any]]:
    """The verdict of one set on each number of test bricks."""
    rng = np.random.default_rng([number, round(100 * oddness)])
    labels = drawn_labels(pool, oddness, rng)
    order = rng.permutation(pool.bricks.max() + 1)
    parts = np.split(order, [TRAIN, TRAIN + VAL])
    train, val, test = (np.flatnonzero(np.isin(pool.bricks, part)) for part in parts)
    population, singles = pool.measured.population, []
    for name in MEMBERS:
        referee = KINDS[name].train(pool.measured.take(train), labels[train], number, population)
        singles.append([referee.score(pool.measured.take(rows)) for rows in (val, test)])
    panel = fit_panel(MEMBERS, np.stack([one[0] for one in singles]), labels[val])
    scores = panel.score(np.stack([one[1] for one in singles]))
    for count in TESTED:
        inside = np.isin(pool.bricks[test], parts[2][:count])
        given = (labels[test][inside], scores[inside], pool.bricks[test][inside])
        found = decide(*given, learnt=True, positive=None)
        yield {
            "oddness": oddness,
            "bricks": count,
            "number": number,
            "examples": int(inside.sum()),
            "kind": str(found.kind),
            "auc": found.numbers.auc.value,
        }


def row(oddness: float, bricks: int, found: list[dict[str, Any]]) -> dict[str, object]:
    """A row of the table."""
    aucs = np.array([one["auc"] for one in found])
    alarms = sum(one["kind"] == Kind.DISTINGUISHABLE for one in found)
    rate = score_interval(alarms / len(found), len(found))
    return {
        "oddness": oddness,
        "test bricks": bricks,
        "test examples": int(np.median([one["examples"] for one in found])),
        "sets": len(found),
        "distinguishable": alarms,
        "rate": f"{rate.value:.3f}",
        "rate_low": f"{rate.low:.3f}",
        "rate_high": f"{rate.high:.3f}",
        "auc_mean": f"{aucs.mean():.4f}",
        "auc_scatter": f"{aucs.std():.4f}",
        "version": " ".join(sorted({str(one["version"]) for one in found})),
    }


def read(record: Path) -> dict[tuple[float, int], list[dict[str, Any]]]:
    """Finished sets, by oddness and number of test bricks."""
    return grouped(read_record(record), "oddness", "bricks")


def write_table(path: Path, record: Path) -> None:
    """Write the table of what is finished."""
    write_csv(path, [row(*key, found) for key, found in sorted(read(record).items())])


def measured_pool(workdir: Path, cache: Path) -> Pool:
    """The pool of the survey; its measurements are kept."""
    stamps = open_training_set(training_set(cache, SURVEY))
    parts = [measure_set(stamps, split, store=workdir / "measurements") for split in SPLITS]
    return pool_of(concatenate(parts), np.concatenate([stamps.bricks(split) for split in SPLITS]))


def main() -> int:
    """Do the sets that are not done, evenly over oddness."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", type=Path, default=Path("/tmp/null_sets"))
    parser.add_argument("--surveys", type=Path, help="directory of surveys that other benchmarks share")
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--table", type=Path, help="CSV file (default: null_sets.csv in the work directory)")
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    pool = measured_pool(options.workdir, options.surveys or options.workdir / "surveys")
    record, made_by = options.workdir / "sets.jsonl", version()
    done = {(one["oddness"], one["number"]) for one in read_record(record)}
    for number in range(1, options.sets + 1):
        for oddness in ODDNESS:
            if (oddness, number) not in done:
                append_record(record, list(null_set(pool, oddness, number)), made_by)
        if number % 10 == 0 or number == options.sets:
            write_table(options.table or options.workdir / "null_sets.csv", record)
            print(f"{number} of {options.sets} sets", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
