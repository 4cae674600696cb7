"""Smallest detectable differences: whether d' is in proportion to the amplitude, for each kind.

    bin/benchmark linearity -- --workdir DIR [--examples 3000] [--only psf size] [--table FILE.csv]
    bin/benchmark linearity -- --from FILE.csv --margins MARGINS.csv

``evaluate`` plants each kind at one amplitude and scales (`obiwan.dplearn.retraining.detectable`).  Here half
and twice that amplitude are planted in the same stamps, too; the table has d' over that of the amplitude.
``--margins`` is the table of what a margin means: from d' of the planted amplitude, in proportion, the AUC of
smaller ones and the galaxies of each class that detect or exclude them.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scipy.stats import norm

from benchmarks.panel import version
from benchmarks.sensitivity import make_set
from obiwan.dplearn.referees.jury import Jury, Sample, samples_of
from obiwan.dplearn.report.wording import kind_words
from obiwan.dplearn.retraining.detectable import AMPLITUDES, Detection, base_of, d_prime, detect
from obiwan.dplearn.survey.differences import FACTOR, KINDS
from obiwan.dplearn.twosample.summary import TESTED_AT
from tables import write_csv

STEPS = (0.5, 1.0, 2.0)  #: of the amplitude that evaluate plants
#: Amplitudes of the table of margins, by kind, and how they are written.
MARGINS = {
    "band_offset": {0.03: "0.03 px", 0.1: "0.1 px"},
    "psf": {1.02: "2 %", 1.05: "5 %"},
    "size": {1.05: "5 %", 1.1: "10 %"},
    "flux": {1.01: "1 %", 1.03: "3 %"},
    "colour": {0.01: "0.01 mag", 0.03: "0.03 mag"},
    "sersic": {0.1: "0.1", 0.3: "0.3"},
    "photon_noise": {2e-5: "0.00002"},
}
LEVEL, POWER = 0.05, 0.8
COUNTED = ("detected with 80 % power", "excluded with 80 % power if absent")  #: columns
#: Sums of quantiles: of the panel's two-sided test with this power, and of two one-sided tests (TOST) which
#: both reject so often where the AUC is 0.5.
DETECTED = float(norm.ppf(1 - TESTED_AT / 2) + norm.ppf(POWER))
EXCLUDED = float(norm.ppf(1 - LEVEL) + norm.ppf((1 + POWER) / 2))


def amplitude(kind: str, step: float) -> float:
    """A multiple of the amplitude that evaluate plants; of factors the logarithm is multiplied."""
    planted = AMPLITUDES[kind]
    return math.exp(step * math.log(planted)) if KINDS[kind].unit == FACTOR else step * planted


def row_of(kind: str, found: list[Detection]) -> dict[str, object]:
    """A row of the table: d' of each step, and its ratio to proportion."""
    values = [d_prime(one.auc.value) for one in found]
    errors = [(d_prime(one.auc.high) - d_prime(one.auc.low)) / 3.92 for one in found]
    row: dict[str, object] = {"kind": kind, "amplitude": AMPLITUDES[kind], "stamps": found[0].stamps}
    for step, value, error in zip(STEPS, values, errors, strict=True):
        row |= {f"d_prime_{step:g}": f"{value:.3f}", f"error_{step:g}": f"{error:.3f}"}
    middle = values[STEPS.index(1.0)]
    for step, value in zip(STEPS, values, strict=True):
        if step != 1:
            row[f"ratio_{step:g}"] = f"{value / (step * middle):.2f}"
    return {**row, "version": version()}


def needed(quantiles: float, excess: float) -> int:
    """Galaxies of each class for an excess of the AUC over 0.5, rounded up to two digits.

    The standard error of the AUC of n galaxies of each class is sqrt((2 n + 1) / (12 n^2)) where classes do
    not differ (Mann & Whitney 1947, Ann. Math. Stat. 18, 50).
    """
    part = (quantiles / excess) ** 2 / 12
    exact = part + math.sqrt(part**2 + part)
    digit = 10 ** max(0, math.floor(math.log10(exact)) - 1)
    return math.ceil(exact / digit) * digit


def margins(table: Iterable[dict[str, Any]]) -> list[dict[str, object]]:
    """Rows of the table of margins, from those of the table of linearity."""
    rows: list[dict[str, object]] = []
    found = {row["kind"]: row for row in table}
    for kind, wanted in MARGINS.items():
        measured, title = found[kind], kind_words(kind)
        size = math.log if KINDS[kind].unit == FACTOR else float
        slope = float(measured["d_prime_1"]) / size(float(measured["amplitude"]))
        for value, text in wanted.items():
            auc = float(norm.cdf(slope * size(value) / math.sqrt(2)))
            counts = [f"{needed(one, auc - 0.5):,}" for one in (DETECTED, EXCLUDED)]
            shown = f"{auc:.3f}" if auc >= 0.51 else f"{auc:.4f}"
            row = {"difference": title, "amplitude": text, "AUC": shown}
            rows.append({**row, **dict(zip(COUNTED, counts, strict=True))})
            title = ""
    return rows


def measure(sample: Sample, kinds: list[str], table: Path | None) -> None:
    """Print a row for each kind, and write all of them after each."""
    base, population, rows = base_of(sample, 1), sample.measured.population, []
    for kind in kinds:
        found = [detect(base, kind, amplitude(kind, step), population, 1) for step in STEPS]
        rows.append(row_of(kind, found))
        print(rows[-1], flush=True)
        if table is not None:
            write_csv(table, rows)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--workdir", type=Path, default=Path("/tmp/linearity"))
    parser.add_argument("--from", dest="measured", type=Path, help="a table that was measured before")
    parser.add_argument("--margins", type=Path, help="CSV file of the table of margins")
    parser.add_argument("--examples", type=int, default=3000)
    parser.add_argument("--only", nargs="+", choices=list(AMPLITUDES), default=list(AMPLITUDES))
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    if (options.measured is None) != (options.margins is None):
        parser.error("--from and --margins belong together")
    if options.measured is not None:
        with options.measured.open(encoding="utf-8") as stream:
            write_csv(options.margins, margins(csv.DictReader(stream)))
        return
    stamps = make_set(options.workdir / "set", options.examples)
    sample = samples_of(stamps, Jury(("scores",)), outdir=options.workdir)["train"]
    measure(sample, options.only, options.table)


if __name__ == "__main__":
    main()
