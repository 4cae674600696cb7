"""How often each verdict is given over seeds, for surveys with nothing and with something planted: hours.

    bin/benchmark verdicts -- --workdir DIR [--first 1] [--seeds 20] [--only none offset-g] [--table FILE.csv]

Each seed is a survey, a training set and a network of its own, made and trained as ``bin/demo`` does it.
Cutouts are removed once the network is judged; what is finished in DIR is kept, and the table holds what is
finished so far.  "distinguishable" among those of ``none`` is a false alarm.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.surveys import training_set
from obiwan.dplearn.files.atomic import write_json
from obiwan.dplearn.referees.scoring import bricks_of, read_scores
from obiwan.dplearn.training.rundir import RESULT, SCORES
from obiwan.dplearn.trainingset.stampset import open_training_set
from obiwan.dplearn.twosample.summary import score_interval
from obiwan.dplearn.twosample.verdict import Verdict, decide

PLANTED = {
    "none": [],
    "offset-g": ["--plant-offset-g", "1.5"],
    "size": ["--plant-size", "1.5"],
    "psf": ["--plant-psf", "1.2"],
}

BRICK_SIZE = 400  #: pixels, as in bin/demo


@dataclass(frozen=True)
class Run:
    """One survey, and the network that is trained on it."""

    kind: str
    seed: int
    bricks: int
    epochs: int
    place: Path
    cache: Path

    @property
    def verdict(self) -> Path:
        """Where its verdict is kept."""
        return self.place / "verdict.json"


def call(place: Path, program: str, *words: object) -> None:
    """Run a program of the package, its output in a log beside the run."""
    command = [sys.executable, "-m", f"obiwan.dplearn.{program}", *map(str, words)]
    log = place / f"{program}.log"
    with log.open("w") as stream:
        status = subprocess.run(command, stdout=stream, stderr=stream, env=os.environ, check=False).returncode
    if status:
        raise SystemExit(f"{place.name} failed, see {log}")


def judged(place: Path, data: Path) -> Verdict:
    """The verdict on the network of a run, by the scores that it left."""
    stamps, result = open_training_set(data), json.loads((place / "cnn" / RESULT).read_text())
    scores = read_scores(place / "cnn" / SCORES, result["model"], stamps.checksum)
    if scores is None:
        raise SystemExit(f"{place}: the scores are those of another model; remove it and start again")
    bricks = bricks_of(stamps, scores)
    return decide(scores.label, scores.score, bricks, learnt=bool(result["learnt"]), positive=None)


def finish(run: Run) -> dict[str, object]:
    """Do what is left of a run; returns its verdict."""
    if run.verdict.is_file():
        return dict(json.loads(run.verdict.read_text()))
    run.place.mkdir(parents=True, exist_ok=True)
    size = ["--bricks", str(run.bricks), "--brick-size", str(BRICK_SIZE), "--seed", str(run.seed)]
    data = training_set(run.cache, [*size, *PLANTED[run.kind]])
    words = ("--epochs", run.epochs, "--seed", run.seed, "--threads", 1, "--quiet")
    call(run.place, "cnn", "--data", data, "--outdir", run.place / "cnn", *words)
    found = judged(run.place, data)
    auc = found.numbers.auc
    content = {"kind": found.kind.value, "auc": auc.value, "low": auc.low, "high": auc.high}
    write_json(run.verdict, content)
    shutil.rmtree(data)
    return content


def row(kind: str, found: list[dict[str, object]]) -> dict[str, object]:
    """A row of the table."""
    counts = Counter(str(verdict["kind"]) for verdict in found)
    aucs = np.array([verdict["auc"] for verdict in found], float)
    rate = score_interval(counts["distinguishable"] / len(found), len(found))
    return {
        "planted": " ".join(PLANTED[kind]).replace("--plant-", "") or "nothing",
        "seeds": len(found),
        **{name: counts[name] for name in ("distinguishable", "inconclusive", "not learnt")},
        "rate_low": f"{rate.low:.3f}",
        "rate_high": f"{rate.high:.3f}",
        "auc_median": f"{np.median(aucs):.3f}",
        "auc_least": f"{aucs.min():.3f}",
        "auc_most": f"{aucs.max():.3f}",
    }


def main() -> int:
    """Do the runs, seed by seed, so that the table is even while it grows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", type=Path, default=Path("/tmp/verdicts"))
    parser.add_argument("--table", type=Path, help="CSV file (default: verdicts.csv in the work directory)")
    parser.add_argument("--first", type=int, default=1, help="first seed, to share seeds among processes")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--bricks", type=int, default=60)
    parser.add_argument("--surveys", type=Path, help="directory of surveys that other benchmarks share")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--only", nargs="+", default=list(PLANTED), choices=list(PLANTED))
    options = parser.parse_args()
    found: dict[str, list[dict[str, object]]] = {kind: [] for kind in options.only}
    table = options.table or options.workdir / "verdicts.csv"
    for seed in range(options.first, options.first + options.seeds):
        for kind in options.only:
            place = options.workdir / f"{kind}_{seed}"
            cache = options.surveys or options.workdir / "surveys"
            verdict = finish(Run(kind, seed, options.bricks, options.epochs, place, cache))
            found[kind].append(verdict)
            print(f"{kind:8} seed {seed:2}: {verdict['kind']}, AUC {verdict['auc']:.3f}", flush=True)
            rows = [row(name, verdicts) for name, verdicts in found.items() if verdicts]
            table.parent.mkdir(parents=True, exist_ok=True)
            with table.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
