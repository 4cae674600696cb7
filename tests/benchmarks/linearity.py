"""Smallest detectable differences: whether d' is in proportion to the amplitude, for each kind.

    bin/benchmark linearity -- --workdir DIR [--examples 3000] [--only psf size] [--table FILE.csv]

``evaluate`` plants each kind at one amplitude and scales (`obiwan.dplearn.retraining.detectable`).  Here half
and twice that amplitude are planted in the same stamps, too; the table has d' over that of the amplitude.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from sensitivity import make_set

from obiwan.dplearn.referees.jury import Jury, Sample, samples_of
from obiwan.dplearn.retraining.detectable import AMPLITUDES, Detection, base_of, d_prime, detect
from obiwan.dplearn.survey.differences import FACTOR, KINDS
from tables import write_csv

STEPS = (0.5, 1.0, 2.0)  #: of the amplitude that evaluate plants


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
    return row


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
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=3000)
    parser.add_argument("--only", nargs="+", choices=list(AMPLITUDES), default=list(AMPLITUDES))
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    stamps = make_set(options.workdir / "set", options.examples)
    sample = samples_of(stamps, Jury(("scores",)), outdir=options.workdir)["train"]
    measure(sample, options.only, options.table)


if __name__ == "__main__":
    main()
