"""Verdicts over seeds, on surveys with nothing and with something planted: how often each is given; hours.

    bin/benchmark verdicts -- --surveys DIR --prepare [--first 1] [--seeds 20] [--only none offset-g]
    bin/benchmark verdicts -- --surveys DIR --workdir DIR [--again] [--table FILE.csv]
    bin/benchmark verdicts -- --workdir DIR --finished [--table FILE.csv]

Each seed is a survey and a training set of its own.  ``--prepare`` only makes the training sets (0.15 GB
each; the coadds are removed).  Without it they are evaluated, as ``evaluate`` without a network does it;
measurements and trained members are kept, so that ``--again``, after a change of the verdict, takes seconds
each.  What is finished is kept, and the table holds what is finished so far; ``--finished`` only writes it.
"distinguishable" among those of ``none`` is a false alarm.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.surveys import key, training_set, version
from obiwan.dplearn.evaluation.ruling import RulingKind
from obiwan.dplearn.evaluation.study import Request, evaluate_referees
from obiwan.dplearn.files.atomic import write_json
from obiwan.dplearn.referees.jury import Jury
from obiwan.dplearn.trainingset.stampset import open_training_set
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
    "flux": ["--plant-flux", "1.15"],
    "colour": ["--plant-colour", "100"],
    "sersic": ["--plant-sersic", "1"],
    "offset": ["--plant-offset", "0.2"],
}
#: Of ``create_training``: fits follow light that is off in all bands, the true places do not
CENTRES = {"offset": ("--centers", "truth")}
#: Rulings that cannot be: without a sensitivity test no set is equivalent
UNREACHED = (RulingKind.EQUIVALENT, RulingKind.NOT_LEARNT)
REFEREES = ("scores", "trees", "residual")
BRICKS = ("--bricks", "24", "--brick-size", "400")
SPLITS = ("--test-fraction", "0.34", "--val-fraction", "0.15")  #: 12, 3 and 9 bricks


@dataclass(frozen=True)
class Run:
    """One survey, and the panel that is trained and judged on it.

    Attributes
    ----------
    kind : str
        One of `PLANTED`.
    seed : int
        Of the survey.
    surveys : Path
        Directory of training sets, which other benchmarks may share.
    place : Path
        Directory of the run's own: verdict, measurements and trained members.
    """

    kind: str
    seed: int
    surveys: Path
    place: Path

    @property
    def verdict(self) -> Path:
        """Where its verdict is kept."""
        return self.place / "verdict.json"

    def training_set(self) -> Path:
        """Its training set, made if need be; the coadds are removed."""
        words = [*BRICKS, "--seed", str(self.seed), *PLANTED[self.kind]]
        made = training_set(self.surveys, words, (*SPLITS, *CENTRES.get(self.kind, ())))
        shutil.rmtree(self.surveys / key(words), ignore_errors=True)
        return made


def finish(run: Run, *, again: bool = False) -> dict[str, Any]:
    """Evaluate a run, or find its verdict; returns it."""
    if run.verdict.is_file() and not again:
        return dict(json.loads(run.verdict.read_text()))
    request = Request(seed=run.seed, jury=Jury(REFEREES, seed=run.seed))
    found = evaluate_referees(open_training_set(run.training_set()), [], request, run.place)
    labels, auc = found.scored.labels, found.verdict.numbers.auc
    content = {
        "kind": str(found.verdict.kind),
        "real": int((labels == 0).sum()),
        "fake": int((labels == 1).sum()),
        "bricks": len(np.unique(found.scored.bricks)),
        **{"value": auc.value, "low": auc.low, "high": auc.high},
        "ruling": str(found.ruling.kind),
        "failing": list(dict.fromkeys(one.name for one in found.ruling.failing)),
        "members": dict(zip(REFEREES, (one.value for one in found.answer.singles), strict=True)),
        "version": version(),
    }
    write_json(run.verdict, content)
    return content


def row(kind: str, found: list[dict[str, Any]]) -> dict[str, object]:
    """A row of the table."""
    counts = Counter(str(verdict["kind"]) for verdict in found)
    rulings = Counter(str(verdict["ruling"]) for verdict in found)
    failing = Counter(name for verdict in found for name in verdict["failing"])
    aucs = np.array([verdict["value"] for verdict in found])
    rate = score_interval(counts[Kind.DISTINGUISHABLE] / len(found), len(found))
    examples = [verdict["real"] + verdict["fake"] for verdict in found]
    return {
        "planted": " ".join([*PLANTED[kind], *CENTRES.get(kind, ())]).replace("--plant-", "") or "nothing",
        "seeds": len(found),
        **{str(name): counts[name] for name in (Kind.DISTINGUISHABLE, Kind.INCONCLUSIVE, Kind.NOT_LEARNT)},
        **{f"ruling: {name}": rulings[name] for name in RulingKind if name not in UNREACHED},
        "fails_most_often": "; ".join(f"{name} {count}" for name, count in failing.most_common(2)),
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
    parser.add_argument(
        "--surveys", type=Path, help="directory of training sets (default: in the work directory)"
    )
    parser.add_argument("--prepare", action="store_true", help="only make the training sets")
    parser.add_argument("--again", action="store_true", help="evaluate again what is finished")
    parser.add_argument("--finished", action="store_true", help="only write the table of what is finished")
    parser.add_argument("--table", type=Path, help="CSV file (default: verdicts.csv in the work directory)")
    parser.add_argument("--first", type=int, default=1, help="first seed, to share seeds among processes")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", nargs="+", default=list(PLANTED), choices=list(PLANTED))
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in options.only}
    surveys = options.surveys or options.workdir / "surveys"
    table = options.table or options.workdir / "verdicts.csv"
    for seed in range(options.first, options.first + options.seeds):
        for kind in options.only:
            run = Run(kind, seed, surveys, options.workdir / f"{kind}_{seed}")
            if options.prepare:
                print(run.training_set(), flush=True)
            if options.prepare or (options.finished and not run.verdict.is_file()):
                continue
            verdict = finish(run, again=options.again)
            found[kind].append(verdict)
            print(f"{kind:8} seed {seed:2}: {verdict['kind']}, AUC {verdict['value']:.3f}", flush=True)
            write_csv(table, [row(name, verdicts) for name, verdicts in found.items() if verdicts])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
