"""Do the intervals cover, are the p-values uniform, and is the verdict as often wrong as it says?

    bin/benchmark coverage -- [--sets 2000] [--draws 299] [--seed 1] [--only intervals verdict ...]

Scores of many simulated test splits with bricks whose truth is known; every table is printed as
reStructuredText, for `doc/explanation/two-sample-test.rst`.  About six minutes of one core.

A score is ``shift * label + sky[brick] + (label - 1/2) * odd[brick] + noise``: `sky` moves all galaxies of a
brick alike; `odd` makes fakes look more fake in one brick and less in another, which averages out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import kstest, norm
from scipy.stats import t as student

from obiwan.dplearn.twosample import ranking, resampling, summary
from obiwan.dplearn.twosample.verdict import Kind, decide, further_examples

CONTROL = SimpleNamespace(detected=True, weakest=0.58)
Rows = list[tuple[object, ...]]


@dataclass(frozen=True)
class Survey:
    """Simulated test splits.

    Attributes
    ----------
    name : str
        For the tables.
    bricks, each : int
        Bricks, and examples in each.
    auc : float
        Probability that a fake scores above a real galaxy of another brick.
    sky, odd : float
        Standard deviations over bricks, in units of the noise.
    uneven : bool
        Whether the share of fakes varies from brick to brick, between 0.1 and 0.9.
    """

    name: str
    bricks: int
    each: int
    auc: float = 0.5
    sky: float = 0.0
    odd: float = 0.0
    uneven: bool = False

    @property
    def n(self) -> int:
        """Examples."""
        return self.bricks * self.each

    def draw(
        self, rng: np.random.Generator
    ) -> tuple[NDArray[np.int_], NDArray[np.float64], NDArray[np.int_]]:
        """Labels, scores and bricks of one split."""
        bricks = np.repeat(np.arange(self.bricks), self.each)
        share = rng.uniform(0.1, 0.9, self.bricks)[bricks] if self.uneven else np.full(self.n, 0.5)
        labels = (rng.random(self.n) < share).astype(int)
        sky, odd = (rng.normal(0, sigma, self.bricks)[bricks] for sigma in (self.sky, self.odd))
        shift = ndtri(self.auc) * np.sqrt(2 * (1 + self.sky**2) + self.odd**2 / 2)
        return labels, shift * labels + sky + (labels - 0.5) * odd + rng.normal(size=self.n), bricks


def splits(survey: Survey, sets: int, seed: int) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """That many splits of a survey."""
    rng = np.random.default_rng([seed, survey.bricks, survey.each, round(1e4 * survey.auc)])
    for _ in range(sets):
        yield survey.draw(rng)


def show(title: str, head: tuple[str, ...], rows: Rows) -> None:
    """Print a simple reStructuredText table."""
    cells = [tuple(f"{x:.3f}" if isinstance(x, float) else str(x) for x in row) for row in rows]
    widths = [max(len(row[i]) for row in (head, *cells)) for i in range(len(head))]
    rule = "  ".join("=" * width for width in widths)
    print(f"\n{title}\n")
    for line in (rule, head, rule, *cells, rule):
        words = (
            line
            if isinstance(line, str)
            else "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True))
        )
        print(words.rstrip(), flush=True)


def intervals(sets: int, draws: int, seed: int) -> None:
    """How often the 95 % interval of each kind holds the truth."""
    del draws
    surveys = [
        Survey("independent", 50, 20),
        Survey("independent", 50, 20, auc=0.76),
        Survey("independent", 50, 20, auc=0.95),
        Survey("sky", 50, 20, sky=0.5),
        *(Survey("odd bricks", bricks, 1000 // bricks, odd=0.7) for bricks in (5, 10, 20, 50)),
        Survey("odd bricks", 50, 20, auc=0.6, odd=0.7),
        Survey("sky, odd, uneven", 10, 100, sky=0.5, odd=0.7, uneven=True),
        Survey("sky, odd, uneven", 50, 20, sky=0.5, odd=0.7, uneven=True),
        Survey("sky, odd, uneven", 50, 20, auc=0.76, sky=0.5, odd=0.7, uneven=True),
    ]
    rows: Rows = []
    for survey in surveys:
        hits, effects = np.zeros(2), []
        for labels, scores, bricks in splits(survey, sets, seed):
            found = (
                ranking.auc_interval(labels, scores),
                ranking.auc_interval(labels, scores, bricks),
            )
            hits += [f.low <= survey.auc <= f.high for f in found]
            effects.append(ranking.design_effect(labels, scores, bricks))
        rows.append(
            (survey.name, survey.bricks, survey.n, survey.auc, float(np.mean(effects)), *(hits / sets))
        )
    head = (
        "bricks differ by",
        "bricks",
        "examples",
        "AUC",
        "design effect",
        "examples'",
        "bricks'",
    )
    show("Share of the 95 % intervals that hold the truth", head, rows)


def pvalues(sets: int, draws: int, seed: int) -> None:
    """How often each p-value of equal classes is below 0.05 and 0.01, and whether it is uniform."""
    surveys = [
        Survey("independent", 50, 10),
        Survey("sky", 50, 10, sky=0.5),
        Survey("sky", 6, 40, sky=0.5),
        Survey("sky, uneven", 50, 10, sky=0.5, uneven=True),
        Survey("odd bricks", 50, 10, odd=0.7),
        Survey("odd bricks", 6, 40, odd=0.7),
    ]
    tests: dict[str, Callable[..., float]] = {
        "rank sum": lambda y, s, _, __: ranking.auc_pvalue(y, s),
        "bricks' t": lambda y, s, b, _: ranking.auc_pvalue(y, s, b),
        "permuted in bricks": lambda y, s, b, rng: resampling.permutation_test(y, s, b, draws=draws, rng=rng),
        "bricks flipped": lambda y, s, b, rng: resampling.flip_test(y, s, b, draws=draws, rng=rng),
    }
    rows: Rows = []
    for survey in surveys:
        rng = np.random.default_rng(seed)
        drawn = list(splits(survey, sets, seed))
        for name, test in tests.items():
            p = np.array([test(*split, rng) for split in drawn])
            distance = float(kstest(p, "uniform").statistic)
            rows.append(
                (
                    survey.name,
                    survey.bricks,
                    name,
                    float((p <= 0.05).mean()),
                    float((p <= 0.01).mean()),
                    distance,
                )
            )
    head = ("bricks differ by", "bricks", "test", "p <= 0.05", "p <= 0.01", "distance from uniform")
    show("p-values of equal classes", head, rows)


def accuracy(sets: int, draws: int, seed: int) -> None:
    """The studentised accuracy and the binomial test where calls favour a class and know nothing."""
    del draws
    rng = np.random.default_rng(seed)
    rows: Rows = []
    for share in (0.05, 0.2, 0.5):
        studentised, binomial = [], []
        for _ in range(sets):
            labels = np.arange(1000) % 2
            found = summary.accuracy_test(labels, rng.random(1000) < share)
            studentised.append(found.p <= 0.05)
            binomial.append(found.p_no_information <= 0.05)
        rows.append((share, float(np.mean(studentised)), float(np.mean(binomial))))
    show("Accuracy of calls that know nothing", ("called fake", "studentised", "binomial"), rows)


def verdict(sets: int, draws: int, seed: int) -> None:
    """How often each verdict is given, beside what the error predicts."""
    del draws
    rows: Rows = []
    for each in (40, 400):
        for truth in (0.5, 0.51, 0.52, 0.53, 0.56, 0.6):
            survey = Survey("sky, odd", 50, each, auc=truth, sky=0.3, odd=0.1)
            kinds, errors = [], []
            for labels, scores, bricks in splits(survey, sets, seed):
                kinds.append(decide(labels, scores, bricks, learnt=True, positive=CONTROL).kind)
                errors.append(ranking.measure_auc(labels, scores, bricks).error)
            shares = [kinds.count(kind) / sets for kind in ("distinguishable", "equivalent", "inconclusive")]
            error = float(np.sqrt(np.mean(np.square(errors))))
            rows.append((survey.n, truth, error, *shares, *predicted(truth, error, survey.bricks - 1)))
    head = (
        "examples",
        "AUC",
        "error",
        "distinguishable",
        "equivalent",
        "inconclusive",
        "computed",
        "computed",
    )
    show("Verdicts with a positive control; the last two columns are the first two as computed", head, rows)


def predicted(truth: float, error: float, freedom: int, margin: float = 0.02) -> tuple[float, float]:
    """Probability of `distinguishable` and of `equivalent` for a normal AUC of known error."""
    far, near = student.ppf([0.975, 0.95], freedom) * error
    inside = [0.5 - margin + near, 0.5 + margin - near]
    equal = max(0.0, float(np.diff(norm.cdf(inside, truth, error))[0])) if inside[0] < inside[1] else 0.0
    differs = float(norm.sf(0.5 + far, truth, error) + norm.cdf(0.5 - far, truth, error))
    both = 0.0
    if 0.5 + far < inside[1]:
        ends = [0.5 + far, inside[1]], [inside[0], 0.5 - far]
        both = sum(float(np.diff(norm.cdf(end, truth, error))[0]) for end in ends)
    return differs - both, equal


def needed(sets: int, draws: int, seed: int) -> None:
    """How often a split decides that has as many examples as a smaller one said were needed."""
    del draws
    rows: Rows = []
    for truth in (0.5, 0.51, 0.52):
        small = Survey("sky, odd", 20, 100, auc=truth, sky=0.3, odd=0.1)
        decided, more = [], []
        rng = np.random.default_rng(seed)
        for labels, scores, bricks in splits(small, max(1, sets // 10), seed):
            measured = ranking.measure_auc(labels, scores, bricks)
            further = further_examples(measured, small.n, 0.02, 0.05)
            more.append(further)
            bricks_then = round((small.n + further) / small.each)
            large = Survey("sky, odd", bricks_then, small.each, auc=truth, sky=0.3, odd=0.1)
            then = decide(*large.draw(rng), learnt=True, positive=CONTROL)
            decided.append(then.kind != Kind.INCONCLUSIVE)
        rows.append((truth, int(np.median(more)), float(np.mean(decided))))
    show(
        "Splits of 2,000 that are given the further examples they ask for",
        ("AUC", "further", "decided"),
        rows,
    )


STUDIES = {f.__name__: f for f in (intervals, pvalues, accuracy, verdict, needed)}


def main() -> int:
    """Run the studies that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=299)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=STUDIES, default=list(STUDIES))
    options = parser.parse_args()
    for name in options.only:
        STUDIES[name](options.sets, options.draws, options.seed)
    print(f"\nstandard error of a share of 0.95 in {options.sets} sets: {np.sqrt(0.0475 / options.sets):.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
