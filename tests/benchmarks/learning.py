"""Learning curves of the networks, compared with the ideal observer; hours, resumable.

    bin/benchmark learning -- --workdir DIR [--jobs 2] [--only offset size] [--table doc/_static/learning.csv]

Each case is a run of ``python -m obiwan.dplearn.cnn`` on one thread, in its own directory under DIR:
stopped and started again, finished cases are kept and the others go on from their checkpoints.  The
table is written anew after each case.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock

from scipy.special import ndtri

from benchmarks.ideal import ideal_auc
from obiwan.dplearn.files.atomic import write_json
from obiwan.dplearn.trainingset import manifest as manifests
from obiwan.dplearn.trainingset import stampset
from planted import Planted, write_set
from tables import write_csv

PLANTED = {
    "offset": Planted("offset", 0.5),
    "size": Planted("size", 1.3),
    "psf": Planted("psf", 1.1),
    "flux": Planted("flux", 1.3),
    "colour": Planted("colour", 0.2),
    "profile": Planted("profile", 0.5),
    "shot": Planted("shot", 2e-4),
    "dip": Planted("dip", 0.1),
    "none": Planted(),
}
EPOCHS = {2048: 12, 4096: 8, 8192: 4, 16384: 4, 40000: 4}  # about as long as each still gains
MANY, USUAL = 40000, 8192
HELD_OUT = {"val": 2048, "test": 4096}
SEED = 11


@dataclass(frozen=True)
class Case:
    """One run: what is planted, the network, the number of training examples."""

    kind: str
    arch: str
    examples: int

    @property
    def name(self) -> str:
        """Of the run's directory."""
        return f"{self.kind}_{self.arch}_{self.examples}"


def cases(only: list[str]) -> list[Case]:
    """All cases, those that matter most first."""
    found = [Case(kind, "lenet5", MANY) for kind in ("offset", "size")]
    found += [Case(kind, "lenet5", USUAL) for kind in PLANTED]
    found += [Case(kind, arch, USUAL) for arch in ("lenet5-2x2", "deep") for kind in ("offset", "size")]
    found += [
        Case(kind, "lenet5", n) for n in EPOCHS for kind in ("offset", "size") if n not in (MANY, USUAL)
    ]
    return [case for case in found if not only or case.kind in only]


def data_for(workdir: Path, kind: str) -> Path:
    """The largest training set with this difference, made if need be."""
    directory = workdir / "data" / kind
    if not (directory / manifests.MANIFEST).is_file():
        many = MANY if kind in ("offset", "size") else USUAL
        write_set(directory, PLANTED[kind], {"train": many, **HELD_OUT}, SEED)
    return directory


def subset(directory: Path, examples: int, outdir: Path) -> Path:
    """A training set of the first examples of another, by links; the held-out examples are the same."""
    whole = stampset.open_training_set(directory)
    outdir.mkdir(parents=True, exist_ok=True)
    kept, count = [], 0
    for shard in whole.shards:
        if shard.split == "train":
            if count >= examples:
                continue
            count += shard.rows
        kept.append(shard)
        for name in (shard.x_name, shard.y_name):
            if not (outdir / name).is_symlink():
                (outdir / name).symlink_to((directory / name).resolve())
    manifest = {**whole.manifest, "shards": [asdict(shard) for shard in kept]}
    write_json(outdir / manifests.MANIFEST, manifest)
    return outdir


def run_case(workdir: Path, case: Case, lock: Lock) -> dict[str, object]:
    """Train and score one case, or find that it is done; returns its row of the table."""
    outdir = workdir / "runs" / case.name
    if not (outdir / "result.json").is_file():
        with lock:
            data = subset(data_for(workdir, case.kind), case.examples, workdir / "sets" / case.name)
        words = ["--data", data, "--outdir", outdir, "--arch", case.arch, "--epochs", EPOCHS[case.examples]]
        command = [sys.executable, "-m", "obiwan.dplearn.cnn", *map(str, words), "--threads", "1"]
        log = workdir / f"{case.name}.log"
        with log.open("a") as stream:
            status = subprocess.run(
                command, stdout=stream, stderr=stream, env=os.environ, check=False
            ).returncode
        if status:
            raise SystemExit(f"{case.name} failed, see {log}")
    auc = json.loads((outdir / "result.json").read_text())["auc"]
    planted = PLANTED[case.kind]
    with lock:
        ideal = ideal_auc(planted)

    def dprime2(value: float) -> float:
        return 2 * ndtri(value) ** 2

    usable = 0.5 < ideal < 1
    return {
        "planted": case.kind,
        "amplitude": planted.amplitude,
        "network": case.arch,
        "examples": case.examples,
        "epochs": EPOCHS[case.examples],
        "auc": f"{auc['value']:.4f}",
        "low": f"{auc['low']:.4f}",
        "high": f"{auc['high']:.4f}",
        "ideal": f"{ideal:.4f}",
        "fraction": f"{dprime2(auc['value']) / dprime2(ideal):.2f}" if usable else "",
    }


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    """The results so far as CSV, in a fixed order."""
    order = list(PLANTED)
    rows = sorted(
        rows, key=lambda r: (order.index(str(r["planted"])), str(r["network"]), int(str(r["examples"])))
    )
    write_csv(path, rows)


def main() -> int:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", type=Path, default=Path("/tmp/learning"))
    parser.add_argument("--table", type=Path, help="CSV file (default: learning.csv in the work directory)")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time, each on one thread")
    parser.add_argument("--only", nargs="+", default=[], choices=list(PLANTED))
    parser.add_argument("--finished", action="store_true", help="only write the table of what is finished")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    lock = Lock()
    wanted = cases(options.only)
    if options.finished:
        wanted = [case for case in wanted if (options.workdir / "runs" / case.name / "result.json").is_file()]
    with ThreadPoolExecutor(options.jobs) as pool:
        for future in as_completed([pool.submit(run_case, options.workdir, case, lock) for case in wanted]):
            rows.append(future.result())
            print(rows[-1], flush=True)
            write_table(options.table or options.workdir / "learning.csv", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
