"""Detection rates of the panel and of other two-sample tests on planted differences; hours, resumable.

    bin/benchmark power -- --workdir DIR [--sizes 500 2000] [--repetitions 200] [--networks 20] [--tests ...]

The stamps of each difference are drawn and measured once; every repetition takes n of them, half of each
class, for all tests alike; with nothing planted their labels are exchanged.  Intervals are those of the
repetitions, and not of another draw of stamps.  Tests that learn train on half of these (the panel combines
its members on an eighth) and test on the others.  Each rejects at 5 % of the permutations of labels; for an
AUC that is the test of Mann and Whitney.  The amplitudes are half of those of the benchmark ``panel``, at
which all is found.

The peers see the central pixels in units of their noise:

- ``c2st``: accuracy of a multilayer perceptron on the leading principal components (Lopez-Paz & Oquab 2017,
  International Conference on Learning Representations);
- ``mmd``: maximum mean discrepancy with a Gaussian kernel of median width (Gretton et al. 2012, J. Mach.
  Learn. Res. 13, 723);
- ``mmd_learned``: the same, the width chosen for its power on half of the stamps (Sutherland et al. 2017,
  International Conference on Learning Representations);
- ``frechet``: Frechet distance of Gaussians fitted to the leading principal components (Heusel et al. 2017,
  Adv. Neural Inf. Process. Syst. 30);
- ``network``: the documented network, at 2,000 stamps, drawn anew each time.

What is finished is kept in DIR; the table counts what is finished so far.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import eigh
from scipy.stats import norm

from benchmarks.panel import PLANTED, version
from obiwan.dplearn.referees.measured import Measured, concatenate, measure
from obiwan.dplearn.referees.panel import fit_panel
from obiwan.dplearn.referees.stored import KINDS
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.twosample.ranking import auc
from obiwan.dplearn.twosample.summary import score_interval
from planted import GRZ, Planted, Population, draw_population, observe_class, plant, write_set
from tables import append_record, read_record, write_csv

FACTORS = ("size", "psf", "flux")  #: kinds whose amplitude is a factor
FLAWS = ("none", "offset", "size", "psf", "flux", "colour", "profile", "shot", "dip", "band_offset")
SIZES = (500, 2000, 8000)
POOL = 16000  #: stamps of a kind, of which every repetition takes some
LEVEL = 0.05
SEED = 2525  # of new draws, after those of 2121 had shown that the panel's weights need a prior
AT_ONCE = 500
HALF = 12  #: the peers see pixels so far from the centre
COMPONENTS = 32  #: principal components of these pixels
DRAWS = 99  #: permutations
WIDTHS = 2.0 ** np.arange(-3, 4)  #: of kernels, in units of the median distance
EPOCHS = 12  #: of the network, as in the benchmark ``learning`` at 2,048 stamps
NETWORK_EXAMPLES = 2000


def amplitude(kind: str) -> Planted:
    """What is planted: half of the benchmark ``panel``'s amplitude, of factors the root."""
    usual = PLANTED[kind]
    value = np.sqrt(usual.amplitude) if kind in FACTORS else usual.amplitude / 2
    return replace(usual, amplitude=float(value))


@dataclass(frozen=True)
class Pool:
    """Stamps of one difference, measured, real and injected in turn.

    Attributes
    ----------
    measured : Measured
    pixels : ndarray of float32, shape (n, pixels)
        Central pixels in units of their noise.
    labels : ndarray of int, shape (n,)
    drawn : tuple of Pool and ndarray of int, optional
        The stamps that these were taken from, and their rows there.
    """

    measured: Measured
    pixels: Array
    labels: Array
    drawn: tuple[Pool, Array] | None = None

    def take(self, rows: Array) -> Pool:
        """Some of the stamps."""
        of, own = self.drawn or (self, np.arange(len(self.labels)))
        return Pool(self.measured.take(rows), self.pixels[rows], self.labels[rows], (of, own[rows]))

    @cached_property
    def square(self) -> Array:
        """Squared distances of the pixels of all pairs, taken from those of all drawn."""
        if self.drawn:
            of, rows = self.drawn
            return np.asarray(of.square[np.ix_(rows, rows)])
        return distances(self.pixels)

    @cached_property
    def components(self) -> Array:
        """Leading principal components of the pixels, of unit variance."""
        apart = self.pixels - self.pixels.mean(0)
        few = len(apart) < apart.shape[1]
        square = apart @ apart.T if few else apart.T @ apart
        _, vectors = eigh(square, subset_by_index=(len(square) - COMPONENTS, len(square) - 1))
        found = (vectors if few else apart @ vectors)[:, ::-1]
        return np.asarray(found / found.std(0))


def draw_pool(planted: Planted, count: int = POOL, seed: int = SEED) -> Pool:
    """Draw and measure stamps."""
    parts: list[tuple[Measured, Array, Array]] = []
    for number in range(count // (2 * AT_ONCE)):
        for label in (0, 1):
            rng = np.random.default_rng([seed, label, number])
            sample = draw_population(AT_ONCE, Population(), rng)
            stamps = observe_class(plant(sample, planted) if label else sample, label, planted, rng)
            rows = np.zeros(AT_ONCE, [("x", "f8"), ("y", "f8")])
            parts.append((measure(stamps, rows, GRZ), central(stamps), np.full(AT_ONCE, label)))
    measured, pixels, labels = zip(*parts, strict=True)
    return Pool(concatenate(measured), np.concatenate(pixels), np.concatenate(labels))


def central(stamps: Array) -> Array:
    """Central pixels of stamps in units of their noise, compressed: asinh of the image times root ivar."""
    box = slice(GRZ.centre - HALF, GRZ.centre + HALF)
    inside = stamps[:, box, box]
    sigmas = inside[..., : len(GRZ.bands)] * np.sqrt(np.maximum(inside[..., len(GRZ.bands) :], 0))
    return np.arcsinh(sigmas).reshape(len(stamps), -1)


def by_permutation(found: float, labels: Array, statistic: Callable[[Array], float], rng: Any) -> float:
    """P-value of a statistic that is large where classes differ: its rank among permuted labels."""
    others = np.array([statistic(rng.permutation(labels)) for _ in range(DRAWS)])
    return float((1 + (others >= found).sum()) / (1 + DRAWS))


def mann_whitney(value: float, real: int, fake: int) -> float:
    """P-value of an AUC, one-sided, under permutations of the labels."""
    return float(norm.sf((value - 0.5) / np.sqrt((real + fake + 1) / (12 * real * fake))))


def split(pool: Pool, fractions: tuple[float, ...], rng: Any) -> list[Array]:
    """Rows of random parts of a pool, with these fractions of each class; the last has the rest."""
    parts: list[list[Array]] = []
    for value in (0, 1):
        own = rng.permutation(np.flatnonzero(pool.labels == value))
        parts.append(np.split(own, np.cumsum([int(one * len(own)) for one in fractions])))
    return [np.sort(np.concatenate(both)) for both in zip(*parts, strict=True)]


def panel(pool: Pool, rng: Any, kinds: tuple[str, ...] = ("scores", "trees")) -> dict[str, float]:
    """P-values of the panel's quick members and of their combination."""
    train, val, test = split(pool, (0.5, 0.125), rng)
    learnt, population = pool.take(train), pool.measured.take(train).population
    singles = []
    for kind in kinds:
        referee = KINDS[kind].train(learnt.measured, learnt.labels, 1, population)
        singles.append([referee.score(pool.measured.take(rows)) for rows in (val, test)])
    combined = fit_panel(kinds, np.stack([one[0] for one in singles]), pool.labels[val])
    scores = {kind: one[1] for kind, one in zip(kinds, singles, strict=True)}
    scores["panel"] = combined.score(np.stack([one[1] for one in singles]))
    half = len(test) // 2
    return {name: mann_whitney(auc(pool.labels[test], found), half, half) for name, found in scores.items()}


def c2st(pool: Pool, rng: Any) -> dict[str, float]:
    """P-value of the accuracy of a classifier of pixels on half of the stamps."""
    from sklearn.neural_network import MLPClassifier

    numbers = pool.components
    train, test = split(pool, (0.5,), rng)
    network = MLPClassifier((64,), alpha=3.0, learning_rate_init=3e-3, max_iter=30, tol=0, random_state=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it stops after 30 epochs, before it converges: later it overfits
        guess = network.fit(numbers[train], pool.labels[train]).predict(numbers[test])

    def accuracy(labels: Array) -> float:
        return float((guess == labels).mean())

    own = pool.labels[test]
    return {"c2st": by_permutation(accuracy(own), own, accuracy, rng)}


def distances(pixels: Array) -> Array:
    """Squared distances of all pairs."""
    squares = np.einsum("np,np->n", pixels, pixels)
    out = pixels @ pixels.T
    out *= -2
    out += squares[:, None]
    out += squares
    return np.maximum(out, 0, out=out)


def gaussian(square: Array, width: float) -> Array:
    """Kernel of this squared width at these squared distances."""
    out = square * np.float32(-1 / width)
    return np.exp(out, out=out)


def mmd_test(kernel: Array, labels: Array, rng: Any) -> float:
    """P-value of the maximum mean discrepancy of a kernel's classes."""
    signs = np.stack([2.0 * labels - 1, *(2.0 * rng.permutation(labels) - 1 for _ in range(DRAWS))], 1)
    found = np.einsum("nk,nk->k", signs, kernel @ signs.astype(kernel.dtype))
    return float((1 + (found[1:] >= found[0]).sum()) / (1 + DRAWS))


def mmd_power(kernel: Array) -> float:
    """The discrepancy over its standard deviation where classes differ, which the power follows.

    The first half of the kernel's rows is one class.
    """
    half = len(kernel) // 2
    cross = kernel[:half, half:]
    pairs = kernel[:half, :half] + kernel[half:, half:] - cross - cross.T
    np.fill_diagonal(pairs, 0)
    mean = pairs.sum() / (half * (half - 1))
    variance = 4 * np.var(pairs.sum(1) / (half - 1)) + 1e-8
    return float(mean / np.sqrt(variance))


def mmd(pool: Pool, rng: Any) -> dict[str, float]:
    """P-values of the maximum mean discrepancy with the median and with a learned width."""
    few = min(len(pool.labels), 500)
    median = np.median(pool.square[np.triu_indices(few, 1)])
    train, test = split(pool, (0.5,), rng)
    inner = pool.square[np.ix_(*2 * [train[np.argsort(pool.labels[train], kind="stable")]])]
    scores = [mmd_power(gaussian(inner, width**2 * median)) for width in WIDTHS]
    best = WIDTHS[int(np.argmax(scores))]
    kernel = gaussian(pool.square[np.ix_(test, test)], best**2 * median)
    return {
        "mmd": mmd_test(gaussian(pool.square, median), pool.labels, rng),
        "mmd_learned": mmd_test(kernel, pool.labels[test], rng),
    }


def frechet(pool: Pool, rng: Any) -> dict[str, float]:
    """P-value of the Frechet distance of pixels."""
    numbers = pool.components

    def distance(labels: Array) -> float:
        parts = [numbers[labels == value] for value in (0, 1)]
        one, other = (np.cov(part.T) for part in parts)
        cross = np.sqrt(np.maximum(np.linalg.eigvals(one @ other).real, 0)).sum()
        apart = parts[0].mean(0) - parts[1].mean(0)
        return float(apart @ apart + np.trace(one) + np.trace(other) - 2 * cross)

    return {"frechet": by_permutation(distance(pool.labels), pool.labels, distance, rng)}


def network(kind: str, number: int) -> dict[str, float]:
    """P-value of the documented network's AUC on stamps of its own."""
    counts = {"train": NETWORK_EXAMPLES // 2, "val": NETWORK_EXAMPLES // 8}
    counts["test"] = NETWORK_EXAMPLES - sum(counts.values())
    with tempfile.TemporaryDirectory() as place:
        data, outdir = Path(place) / "data", Path(place) / "run"
        write_set(data, amplitude(kind), counts, SEED + number)
        words = ["--data", data, "--outdir", outdir, "--epochs", EPOCHS, "--threads", 1]
        command = [sys.executable, "-m", "obiwan.dplearn.cnn", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
        if done.returncode:
            raise SystemExit(f"cnn failed: {done.stderr[-2000:]}")
        value = json.loads((outdir / "result.json").read_text())["auc"]["value"]
    return {"network": mann_whitney(value, counts["test"] // 2, counts["test"] // 2)}


TESTS: dict[str, Callable[[Pool, Any], dict[str, float]]] = {
    "panel": panel,
    "c2st": c2st,
    "mmd": mmd,
    "frechet": frechet,
}


def repetitions(
    kind: str, sizes: Sequence[int], groups: Sequence[str], count: int, done: set[tuple[int, int, str]]
) -> Iterator[list[dict[str, Any]]]:
    """Results of the cheap tests of one kind that are not done, by group of tests."""
    keys = [(n, number, group) for number in range(count) for n in sizes for group in groups]
    left = [each for each in keys if each not in done]
    if not left:
        return
    pool = draw_pool(amplitude(kind), max(POOL, 2 * max(sizes)))
    for examples, number, group in left:
        rng = np.random.default_rng([SEED, examples, number])
        own = pool.take(split(pool, (examples / len(pool.labels),), rng)[0])
        if kind == "none":  # what the stamps of the pool differ by chance in would be in every repetition
            own = replace(own, labels=rng.permutation(own.labels))
        one = {"planted": kind, "examples": examples, "number": number, "group": group}
        yield [{**one, "test": test, "p": p} for test, p in TESTS[group](own, rng).items()]


def networks(kind: str, count: int, done: set[tuple[int, int, str]]) -> Iterator[list[dict[str, Any]]]:
    """Results of the network's tests of one kind that are not done."""
    for number in range(count):
        if (NETWORK_EXAMPLES, number, "network") not in done:
            one = {"planted": kind, "examples": NETWORK_EXAMPLES, "number": number, "group": "network"}
            yield [{**one, "test": test, "p": p} for test, p in network(kind, number).items()]


def rows_of(found: list[dict[str, Any]]) -> list[dict[str, object]]:
    """Rows of the table: the rate of detection by each test, by difference and number of stamps."""
    groups = defaultdict(list)
    for one in found:
        groups[FLAWS.index(one["planted"]), one["examples"]].append(one)
    return [_row(FLAWS[kind], examples, each) for (kind, examples), each in sorted(groups.items())]


def _row(kind: str, examples: int, found: list[dict[str, Any]]) -> dict[str, object]:
    """One row; of the panel and of the network, which has fewer repetitions, with the 95 % interval."""
    detected = defaultdict(list)
    for one in found:
        detected[one["test"]].append(one["p"] <= LEVEL)

    def rate(test: str, *, interval: bool = False) -> str:
        if test not in detected:
            return ""
        mean, many = float(np.mean(detected[test])), len(detected[test])
        bounds = score_interval(mean, many)
        return f"{mean:.2f}" + (f" ({bounds.low:.2f} to {bounds.high:.2f})" if interval else "")

    return {
        "planted": kind,
        "amplitude": f"{amplitude(kind).amplitude:.3g}",
        "stamps": examples,
        "repetitions": max((len(each) for test, each in detected.items() if test != "network"), default=0),
        "panel": rate("panel", interval=True),
        **{test: rate(test) for test in ("scores", "trees", "c2st", "mmd", "mmd_learned", "frechet")},
        "network": rate("network", interval=True),
        "of the network": len(detected.get("network", ())) or "",
        "version": " ".join(sorted({one["version"] for one in found})),
    }


def main() -> int:
    """Do what is not done; the table is written after each kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", type=Path, default=Path("/tmp/power"))
    parser.add_argument("--table", type=Path, help="CSV file (default: power.csv in the work directory)")
    parser.add_argument("--repetitions", type=int, default=200, help="of tests without a network")
    parser.add_argument("--networks", type=int, default=20, help="of the network")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of stamps")
    parser.add_argument("--only", nargs="+", default=list(FLAWS), choices=FLAWS)
    parser.add_argument(
        "--tests", nargs="+", default=list(TESTS), choices=list(TESTS), help="groups of tests"
    )
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    record, made_by = options.workdir / "tests.jsonl", version()
    table = options.table or options.workdir / "power.csv"
    for kind in options.only:
        found = [one for one in read_record(record) if one["planted"] == kind]
        done = {(one["examples"], one["number"], one["group"]) for one in found}
        cheap = repetitions(kind, options.sizes, options.tests, options.repetitions, done)
        for results in chain(cheap, networks(kind, options.networks, done)):
            append_record(record, results, made_by)
        write_csv(table, rows_of(read_record(record)))
        print(f"{kind}: finished", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
