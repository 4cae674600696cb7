"""False alarms of controls, panel and ruling on sets whose classes do not differ; minutes, resumable.

    bin/benchmark rulings -- --workdir DIR [--sets 400] [--bricks 30] [--oddness 0.2] [--table FILE.csv]

The stamps of a mock survey with nothing planted are measured once.  Each set draws galaxies for as many
bricks as asked for, and their labels; the controls of one band and of the catalogue are judged as
``evaluate`` does it.  The panel is stood in for by a score of the same galaxies, half noise and half a random
direction in their quantities.  Bricks are odd if labels follow the quantities with slopes of their own in
each brick, normal with mean zero: with slopes of that scatter, the classes of a brick are so many standard
deviations apart in each direction, and on average they are not.  The classifier of measured quantities, with
0.2 % of the level, is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri
from scipy.stats import rankdata

from benchmarks.culprits import set_of
from benchmarks.surveys import version
from obiwan.dplearn.controls.battery import REALISM_LEVEL, VALIDITY_LEVEL, judge_controls
from obiwan.dplearn.controls.contrasts import moments, shift
from obiwan.dplearn.controls.measure import measure_split
from obiwan.dplearn.controls.questions import Question, questions
from obiwan.dplearn.controls.records import LEAST, Statistic
from obiwan.dplearn.evaluation.ruling import rule
from obiwan.dplearn.stampspec import SPLITS
from obiwan.dplearn.trainingset.stampset import open_training_set
from obiwan.dplearn.twosample.signflips import family_test, flip_units
from obiwan.dplearn.twosample.summary import score_interval
from obiwan.dplearn.twosample.verdict import decide
from tables import append_record, grouped, read_record, write_csv

ODDNESS = (0.0, 0.1, 0.2)
BRICKS = (2, 3, 4, 5, 8, 12, 20, 30, 50)
PER_BRICK = 40  #: galaxies
DIRECTIONS = 8  #: principal components of the quantities that labels follow in odd bricks
NUMBERS = (Statistic.SHIFT, Statistic.DISTRIBUTION)
ALARMS = ("panel", "galaxies", "set", "differ")


@dataclass(frozen=True)
class Pool:
    """Galaxies of which sets are made.

    Attributes
    ----------
    asked : tuple of Question
        Controls of numbers, each of shape (n,).
    directions : ndarray, shape (n, DIRECTIONS)
        Of mean zero and unit variance, not correlated.
    """

    asked: tuple[Question, ...]
    directions: NDArray[np.float64]


def pool_of(asked: list[Question], band: str) -> Pool:
    """A pool from all questions: those of numbers in one band or none."""
    chosen = [
        (control, np.asarray(values, np.float64))
        for control, values in asked
        if control.statistic in NUMBERS and control.obstacle is None and control.band in ("", band)
    ]
    columns = []
    for _, values in chosen:
        known = np.isfinite(values)
        filled = np.where(known, values, np.median(values[known]) if known.any() else 0.0)
        if np.ptp(filled) > 0:
            columns.append(ndtri((rankdata(filled) - 0.5) / len(filled)))
    scaled = np.stack(columns, 1)
    scaled -= scaled.mean(0)
    found = np.linalg.svd(scaled, full_matrices=False)[0][:, :DIRECTIONS]
    return Pool(tuple(chosen), found * np.sqrt(len(found)))


def drawn(pool: Pool, bricks: int, oddness: float, rng: np.random.Generator) -> tuple[NDArray, ...]:
    """Galaxies of a set (positions in the pool), their bricks and labels."""
    chosen = rng.permutation(len(pool.directions))[: bricks * PER_BRICK]
    brick = np.arange(len(chosen)) % bricks
    tilt = (pool.directions[chosen] * rng.normal(0, oddness, (bricks, DIRECTIONS))[brick]).sum(1)
    middle = np.bincount(brick, tilt) / np.bincount(brick)
    return chosen, brick, (rng.random(len(chosen)) < expit(tilt - middle[brick])).astype(int)


def may_fail(asked: Sequence[Question], label: NDArray, brick: NDArray) -> bool:
    """Whether any control may be significant: p-values of all numbers, without states and intervals.

    Twice their levels are asked for, so that nothing hangs on the last digit.
    """
    units, on_bricks = flip_units(label, brick)
    fake, starts = label == 1, np.argsort(units, kind="stable")
    edges = np.searchsorted(units[starts], np.arange(units.max() + 1))
    sign = np.where(fake, 1 / fake.sum(), -1 / (~fake).sum())
    for family, level in ((False, REALISM_LEVEL), (True, VALIDITY_LEVEL)):
        found = [np.empty((len(edges), 0))]
        for control, values in (one for one in asked if one[0].validity == family):
            known = np.isfinite(values)
            if min(np.count_nonzero(known & fake), np.count_nonzero(known & ~fake)) < LEAST:
                continue
            if control.statistic == Statistic.DISTRIBUTION and known.all():
                u = (rankdata(values) - 0.5) / len(values)
                each = np.stack([2 * u - 1, 6 * u**2 - 6 * u + 1, 20 * u**3 - 30 * u**2 + 12 * u - 1], 1)
                each -= (each[fake].mean(0) + each[~fake].mean(0)) / 2
                found.append(np.add.reduceat((each * sign[:, None])[starts], edges))
            else:
                clusters = brick[known] if on_bricks else None
                contrast = shift if control.statistic == Statistic.SHIFT else moments
                some = contrast(values[known], fake[known], clusters)
                some = some[:1] if contrast is shift else some
                found += [np.bincount(units[known], one.pulls, len(edges))[:, None] for one in some]
        p = family_test(np.concatenate(found, 1)).p
        if len(p) and p.min() < 2 * level:
            return True
    return False


def null_set(pool: Pool, bricks: int, oddness: float, number: int) -> dict[str, Any]:
    """The ruling on one set."""
    rng = np.random.default_rng([number, bricks, round(100 * oddness)])
    chosen, brick, label = drawn(pool, bricks, oddness, rng)
    weights = rng.normal(size=DIRECTIONS)
    seen = pool.directions[chosen] @ (weights / np.linalg.norm(weights))
    scores = expit(seen + rng.normal(size=len(seen)))
    verdict = decide(label, scores, brick, learnt=True, positive=None)
    asked = [(control, values[chosen]) for control, values in pool.asked]
    controls = judge_controls(asked, label, brick) if may_fail(asked, label, brick) else ()
    ruling = rule(verdict, controls)
    only_set = rule(verdict, [replace(one, state="open") for one in controls if not one.validity])
    return {
        "oddness": oddness,
        "bricks": bricks,
        "number": number,
        "panel": only_set.differs,
        "galaxies": any(one.significant for one in controls if not one.validity),
        "set": any(one.significant for one in controls if one.validity),
        "differ": ruling.kind.differ and not ruling.in_these_bricks,
        "here": ruling.kind.differ and ruling.in_these_bricks,
    }


def row(oddness: float, bricks: int, found: list[dict[str, Any]]) -> dict[str, object]:
    """A row of the table: rates of false alarms."""
    rates = {name: sum(bool(one[name]) for one in found) / len(found) for name in (*ALARMS, "here")}
    ends = score_interval(rates["differ"], len(found))
    return {
        "oddness": oddness,
        "bricks": bricks,
        "sets": len(found),
        "panel": f"{rates['panel']:.3f}",
        "controls of galaxies": f"{rates['galaxies']:.3f}",
        "controls of the set": f"{rates['set']:.3f}",
        "differ": f"{rates['differ']:.3f}",
        "differ_low": f"{ends.low:.3f}",
        "differ_high": f"{ends.high:.3f}",
        "in these bricks": f"{rates['here']:.3f}",
        "version": " ".join(sorted({str(one["version"]) for one in found})),
    }


def measured_pool(workdir: Path, surveys: Path) -> Pool:
    """The pool of a survey with nothing planted; its measurements are kept."""
    stamps, kept = open_training_set(set_of(surveys, "none", 20, 11)), workdir / "measured.npy"
    if not kept.is_file():
        np.save(kept, np.concatenate([measure_split(stamps, split) for split in SPLITS]))
    measured, rows = np.load(kept), np.concatenate([stamps.rows(split) for split in SPLITS])
    asked = questions(rows, measured, rows["label"], rows["brick"], stamps.spec)
    return pool_of(asked, stamps.spec.reference)


def main() -> int:
    """Do the sets that are not done, evenly over oddness and numbers of bricks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", type=Path, default=Path("/tmp/rulings"))
    parser.add_argument("--surveys", type=Path, help="directory of surveys that other benchmarks share")
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--oddness", nargs="+", type=float, default=ODDNESS)
    parser.add_argument("--bricks", nargs="+", type=int, default=BRICKS, help="numbers of bricks in a set")
    parser.add_argument("--table", type=Path, help="CSV file (default: rulings.csv in the work directory)")
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    pool = measured_pool(options.workdir, options.surveys or options.workdir)
    record, made_by = options.workdir / "sets.jsonl", version()
    done = {(one["oddness"], one["bricks"], one["number"]) for one in read_record(record)}
    for number in range(1, options.sets + 1):
        every = [(odd, count) for odd in options.oddness for count in options.bricks]
        wanted = [key for key in every if (*key, number) not in done]
        append_record(record, [null_set(pool, count, odd, number) for odd, count in wanted], made_by)
        if number % 20 == 0 or number == options.sets:
            table = options.table or options.workdir / "rulings.csv"
            found = grouped(read_record(record), "oddness", "bricks")
            write_csv(table, [row(*key, sets) for key, sets in sorted(found.items())])
            print(f"{number} of {options.sets} sets", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
