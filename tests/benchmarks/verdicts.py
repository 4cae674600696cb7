"""How often the panel gives each verdict over seeds: surveys with nothing and with something planted; hours.

    bin/benchmark verdicts -- --workdir DIR [--first 1] [--seeds 20] [--only none offset-g] [--table FILE.csv]

Each seed is a survey, a training set and a panel of its own: mock, create_training, and evaluate without a
network.  Cutouts and stamps are removed once the panel is judged; what is finished in DIR is kept, and the
table holds what is finished so far.  "distinguishable" among those of ``none`` is a false alarm.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.surveys import training_set, version
from obiwan.dplearn.files.atomic import write_json
from obiwan.dplearn.twosample.summary import score_interval
from obiwan.dplearn.twosample.verdict import Kind
from tables import write_csv

PLANTED = {
    "none": [],
    "psf": ["--plant-psf", "1.1"],
    "shot": ["--plant-no-shot-noise", "1"],
    "dip": ["--plant-ivar-dip", "0.1"],
    "size": ["--plant-size", "1.2"],
    "offset-g": ["--plant-offset-g", "0.3"],
}
REFEREES = ("scores", "trees", "residual")
BRICK_SIZE = 400  #: pixels, as in bin/demo


@dataclass(frozen=True)
class Run:
    """One survey, and the panel that is trained and judged on it.

    Attributes
    ----------
    kind : str
        One of `PLANTED`.
    seed, bricks : int
        Of the survey.
    place : Path
        Directory of its own.
    surveys : Path or None
        Directory of surveys that are to be kept; None for one that is removed.
    """

    kind: str
    seed: int
    bricks: int
    place: Path
    surveys: Path | None

    @property
    def verdict(self) -> Path:
        """Where its verdict is kept."""
        return self.place / "verdict.json"


def evaluate(data: Path, outdir: Path, seed: int) -> dict[str, Any]:
    """What ``evaluate`` says of a training set, its output in a log beside its directory."""
    words = ["--data", data, "--outdir", outdir, "--overwrite", "--referees", *REFEREES]
    words += ["--sensitivity", "none", "--jobs", 1, "--threads", 1, "--seed", seed]
    command = [sys.executable, "-m", "obiwan.dplearn.evaluate", *map(str, words)]
    log = outdir.with_suffix(".log")
    with log.open("w") as stream:
        status = subprocess.run(command, stdout=stream, stderr=stream, env=os.environ, check=False).returncode
    if status:
        raise SystemExit(f"evaluate failed, see {log}")
    return dict(json.loads((outdir / "metrics.json").read_text()))


def finish(run: Run) -> dict[str, Any]:
    """Do what is left of a run; returns its verdict."""
    if run.verdict.is_file():
        return dict(json.loads(run.verdict.read_text()))
    cache, outdir = run.surveys or run.place / "survey", run.place / "evaluation"
    run.place.mkdir(parents=True, exist_ok=True)
    size = ["--bricks", str(run.bricks), "--brick-size", str(BRICK_SIZE), "--seed", str(run.seed)]
    data = training_set(cache, [*size, *PLANTED[run.kind]])
    found = evaluate(data, outdir, run.seed)
    told = found["verdict"]
    content = {
        **{name: told[name] for name in ("kind", "real", "fake", "bricks")},
        **told["auc"],
        "members": {
            name: one["value"] for name, one in zip(REFEREES, found["answer"]["singles"], strict=True)
        },
        "version": version(),
    }
    write_json(run.verdict, content)
    for place in (outdir, data if run.surveys else cache):
        shutil.rmtree(place)
    return content


def row(kind: str, found: list[dict[str, Any]]) -> dict[str, object]:
    """A row of the table."""
    counts = Counter(str(verdict["kind"]) for verdict in found)
    aucs = np.array([verdict["value"] for verdict in found])
    rate = score_interval(counts[Kind.DISTINGUISHABLE] / len(found), len(found))
    examples = [verdict["real"] + verdict["fake"] for verdict in found]
    return {
        "planted": " ".join(PLANTED[kind]).replace("--plant-", "") or "nothing",
        "seeds": len(found),
        **{str(name): counts[name] for name in (Kind.DISTINGUISHABLE, Kind.INCONCLUSIVE, Kind.NOT_LEARNT)},
        "rate_low": f"{rate.low:.3f}",
        "rate_high": f"{rate.high:.3f}",
        "auc_median": f"{np.median(aucs):.3f}",
        "auc_least": f"{aucs.min():.3f}",
        "auc_most": f"{aucs.max():.3f}",
        "test_examples": int(np.median(examples)),
        "version": " ".join(sorted({str(verdict["version"]) for verdict in found})),
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
    parser.add_argument("--only", nargs="+", default=list(PLANTED), choices=list(PLANTED))
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in options.only}
    table = options.table or options.workdir / "verdicts.csv"
    for seed in range(options.first, options.first + options.seeds):
        for kind in options.only:
            place = options.workdir / f"{kind}_{seed}"
            verdict = finish(Run(kind, seed, options.bricks, place, options.surveys))
            found[kind].append(verdict)
            print(f"{kind:8} seed {seed:2}: {verdict['kind']}, AUC {verdict['value']:.3f}", flush=True)
            write_csv(table, [row(name, verdicts) for name, verdicts in found.items() if verdicts])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
