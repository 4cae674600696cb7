"""Evaluation of up to six million test examples in 400 bricks: seconds and memory, stage by stage.

    bin/benchmark millions -- [--examples 200000 6000000] [--parts numbers whole] [--workdir DIR]

Rows and scores are synthetic.  *Numbers* is what needs all scores, on rows in memory.  *Whole* is the
program, from its options to the report: the stamps are those of a few packed shards, linked under the names
of all, so that reading and measuring them is as much work as with a set of its own, and the disk holds
little.  Each runs in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from assembly import apart, peak
from numpy.typing import NDArray
from scipy.special import expit

from obiwan.dplearn.controls.covariates import MEASURED, Covariates
from obiwan.dplearn.evaluation import analysis
from obiwan.dplearn.evaluation.bricks import auc_of_bricks, footprint
from obiwan.dplearn.evaluation.ensemble import ModelInfo, Scored
from obiwan.dplearn.evaluation.gallery import gallery_rows, pair_by_magnitude
from obiwan.dplearn.files.atomic import write_json
from obiwan.dplearn.stampspec import SPLITS, StampSpec
from obiwan.dplearn.trainingset.clusters import cluster, factorised
from obiwan.dplearn.trainingset.examples import blank_examples, write_sources
from obiwan.dplearn.trainingset.exposures import no_exposures
from obiwan.dplearn.trainingset.manifest import MANIFEST, SOURCES
from obiwan.dplearn.trainingset.shards import Shard
from planted import Planted, write_set
from quantised import pack_set
from sealing import seal

BRICKS = {"train": 40, "val": 20, "test": 400}
LINKED, ROWS = 4, 512  #: different shards, and their rows
OTHERS = 20_480  #: training and validation examples, each
PARTS = ("numbers", "whole")
EXAMPLES = (20_000, 200_000, 2_000_000, 6_000_000)
BLOCK = 200_000  #: rows that are repeated in other bricks
STRENGTH = 0.02  #: difference of the scores of the classes, in standard deviations
ODD = 0.1  #: scatter over bricks of the scores of either class

#: Stages that are timed: module, function.
STAGES = {
    "read the table": ("obiwan.dplearn.trainingset.stampset", "read_sources"),
    "read the scores": ("obiwan.dplearn.evaluation.judging", "judge_set"),
    "controls, measured": ("obiwan.dplearn.evaluation.study", "control_sample"),
    "controls, judged": ("obiwan.dplearn.evaluation.equal", "judge_controls"),
    "ruling, quantities": ("obiwan.dplearn.evaluation.study", "decided"),
    "AUC, permutations": ("obiwan.dplearn.evaluation.analysis", "answer"),
    "calibration": ("obiwan.dplearn.evaluation.analysis", "calibrate"),
    "equal quantities": ("obiwan.dplearn.evaluation.analysis", "conditional"),
    "bins": ("obiwan.dplearn.evaluation.analysis", "where"),
    "exhibits": ("obiwan.dplearn.evaluation.study", "exhibits_of"),
    "occlusion": ("obiwan.dplearn.evaluation.study", "_occlusion"),
    "galleries": ("obiwan.dplearn.evaluate", "galleries_of"),
    "mosaics": ("obiwan.dplearn.evaluate", "mosaics_of"),
    "report": ("obiwan.dplearn.report.output", "write_report"),
}


@dataclass(frozen=True)
class Cost:
    """Cost of a stage: seconds, and peak memory of the process when it ends (MB)."""

    seconds: float
    memory: float


def linked_shards(directory: Path, counts: dict[str, int]) -> dict[str, list[Shard]]:
    """Shards of all splits, whose files are links to those of a few; and these few."""
    few = directory / "few"
    if not (few / MANIFEST).is_file():
        write_set(
            few, Planted("none", 0.0), {"train": ROWS, "val": ROWS, "test": ROWS * LINKED}, 1, rows=ROWS
        )
        pack_set(few)
    entries = [Shard(**one) for one in json.loads((few / MANIFEST).read_text())["shards"]]
    tests, found = [one for one in entries if one.split == "test"], {}
    for split in SPLITS:
        found[split] = [
            replace(tests[k % LINKED], split=split, number=k + 1) for k in range(counts[split] // ROWS)
        ]
        for k, shard in enumerate(found[split]):
            for name, target in (
                (shard.x_name, tests[k % LINKED].x_name),
                (shard.y_name, tests[k % LINKED].y_name),
            ):
                (directory / name).symlink_to(few / target)
    return found


def rows_of(
    shards: list[Shard], labels: dict[int, NDArray[np.uint8]], split: str, spec: StampSpec
) -> NDArray:
    """Rows of the example table: brick after brick, galaxies of one population."""
    n = sum(shard.rows for shard in shards)
    rng, rows = np.random.default_rng([SPLITS.index(split), n]), blank_examples(n, spec)
    brick = np.arange(n) * BRICKS[split] // n
    names = np.array([f"{SPLITS.index(split)}{k:03d}p{k % 60:03d}" for k in range(BRICKS[split])], "S24")
    depth = 1 + 0.2 * rng.normal(size=BRICKS[split])
    rows["split"], rows["brick"], rows["run"], rows["id"] = split.encode(), names[brick], b"rs0", np.arange(n)
    rows["shard"] = np.repeat([shard.number for shard in shards], [shard.rows for shard in shards])
    rows["row"] = np.concatenate([np.arange(shard.rows) for shard in shards])
    rows["label"] = np.concatenate([labels[shard.x_crc32] for shard in shards])
    rows["type"], rows["mag_source"], rows["camera"] = b"EXP", b"measured", b"decam"
    rows["ra"], rows["dec"] = brick % 20 * 0.25 + rng.uniform(0, 0.25, n), brick // 20 * 0.25
    for axis in ("x", "y"):
        rows[axis] = rng.uniform(60, 3540, n)
    magnitude = rng.normal(22.5, 0.7, n)
    for k, band in enumerate(spec.bands):
        rows[f"mag_{band}"] = magnitude - 0.5 * k + rng.normal(0, 0.2, n)
        rows[f"flux_{band}"] = 10 ** (0.4 * (22.5 - rows[f"mag_{band}"]))
        rows[f"flux_ivar_{band}"] = rows[f"psfdepth_{band}"] = (900 / (k + 1) * depth**2)[brick]
        rows[f"psfsize_{band}"], rows[f"mw_transmission_{band}"] = (1.2 + 0.1 * depth)[brick], 0.95
        rows[f"nobs_{band}"] = 3
    rows["shape_r"], rows["sersic"] = rng.lognormal(-0.7, 0.4, n), 1.0
    rows["e1"], rows["e2"] = rng.normal(0, 0.2, (2, n))
    rows["ebv"] = (0.03 * np.abs(depth))[brick]
    return rows


def scores_of(rows: NDArray) -> NDArray[np.float64]:
    """Scores of examples, in which bricks are odd."""
    rng, names = np.random.default_rng(5), factorised(rows["brick"])[1]
    odd = rng.normal(0, ODD, (names.max() + 1, 2))[names, rows["label"]]
    return expit(0.5 * (rng.normal(size=len(rows)) + odd + STRENGTH * (rows["label"] - 0.5)))


def tiled_rows(n: int, spec: StampSpec) -> NDArray:
    """Rows of n test examples without files: a block of them, again and again in other bricks."""
    count, labels = min(n, BLOCK), np.arange(ROWS, dtype=np.uint8) % 2
    shard = Shard("test", 1, ROWS, ROWS // 2, ROWS // 2, 0, 0)
    shards = [replace(shard, number=k + 1) for k in range(-(-count // ROWS))]
    some = rows_of(shards, {0: labels}, "test", spec)
    rows = np.tile(some[:count], -(-n // count))[:n]
    brick = np.arange(n) * BRICKS["test"] // n
    names = np.array([f"{k:04d}p000" for k in range(BRICKS["test"])], "S24")
    rows["brick"], rows["id"] = names[brick], np.arange(n)
    return rows


def numbers_here(n: int) -> dict[str, Any]:
    """What needs all scores, on rows in memory: seconds and memory (MB) of each stage."""
    from obiwan.dplearn.report import charts, output

    spec, stages = StampSpec(), dict[str, Cost]()
    begin, before = time.perf_counter(), time.process_time()

    def stage(name: str, function: Any, *words: Any) -> Any:
        start = time.process_time()
        found = function(*words)
        stages[name] = Cost(time.process_time() - start, peak())
        return found

    rows = stage("(rows are made)", tiled_rows, n, spec)
    scores, val = scores_of(rows), np.random.default_rng(1).random(OTHERS)
    grouped = stage("clusters", cluster, rows["brick"], rows["label"], no_exposures(), {}, 5)
    models = (ModelInfo("run/best.keras", "0", "lenet5", learnt=True),)
    scored = Scored(rows, scores[None], np.arange(OTHERS) % 2, val, models, grouped=grouped)
    stage("ranks", lambda: scored.ranks)
    stage("AUC, permutations", analysis.answer, scored, 1)
    stage("verdict", analysis.verdict_of, scored, 0.02, None)
    stage("calibration", analysis.calibrate, scored)
    columns = Covariates.of(rows, np.zeros(n, [(name, "f4") for name in MEASURED]), spec)
    stage("bins", analysis.where, scored, columns, spec)
    stage("AUC of bricks", auc_of_bricks, scored.labels, scored.ranks, rows["brick"])
    stage("bricks on the sky", footprint, {"test": rows})
    stage("ROC curve", charts.roc, scored.labels, scored.scores)
    stage("galleries", gallery_rows, scored.labels, scored.scores, 1, True, 8)
    stage("mosaics", pair_by_magnitude, rows["mag_g"].astype(float), scored.labels, 99, 3)
    found = SimpleNamespace(scored=scored, baseline=None, columns=columns, spec=spec, data={"checksum": "0"})
    with tempfile.TemporaryDirectory() as place:
        stage("table of scores", output.write_scores_table, Path(place) / "scores.fits", found)
    clock, processor = time.perf_counter() - begin, time.process_time() - before
    costs = {name: asdict(cost) for name, cost in stages.items()}
    return {"clock": clock, "processor": processor, "memory": peak(), "stages": costs}


def make_set(directory: Path, tests: int) -> Path:
    """A training set with so many test examples, whole shards of them, and its path."""
    place = directory / f"set_{tests}"
    if (place / MANIFEST).is_file():
        return place
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    spec, counts = StampSpec(), {"train": OTHERS, "val": OTHERS, "test": -(-tests // ROWS) * ROWS}
    shards = linked_shards(place, counts)
    some = (shard for split in SPLITS for shard in shards[split])
    labels = {shard.x_crc32: np.load(place / shard.y_name) for shard in some}
    parts = (rows_of(shards[split], labels, split, spec) for split in SPLITS)
    write_sources(place / SOURCES, place, spec, parts)
    manifest = json.loads((place / "few" / MANIFEST).read_text())
    config = {
        "select": "elg",
        "reals_from": "injected",
        "centers": "truth",
        "balance": "brick",
        "split": "brick",
    }
    roots = [{"index": 0, "name": "south", "layout": "legacysim", "injected": True}]
    entries = [shard.to_manifest() for split in SPLITS for shard in shards[split]]
    manifest |= {"package_version": "0", "config": config, "roots": roots, "shards": entries}
    write_json(place / MANIFEST, manifest, place)
    seal(place)
    return place


def make_network(place: Path) -> Path:
    """A small network, with synthetic scores of the test split beside it."""
    path = place / "network" / "best.keras"
    if (path.parent / "scores_test.fits").is_file():
        return path
    import keras

    from obiwan.dplearn.referees.network import model_checksum
    from obiwan.dplearn.referees.scoring import Scores, write_scores
    from obiwan.dplearn.training.model import build_network
    from obiwan.dplearn.training.settings import NetworkConfig
    from obiwan.dplearn.trainingset.stampset import open_training_set

    path.parent.mkdir(exist_ok=True)
    keras.utils.set_random_seed(1)
    stamp_set = open_training_set(place, files=False)
    model = build_network(NetworkConfig("lenet5", (3, 4), 3, 4, 4, 6), stamp_set.spec)
    model.save(path)
    checksum = model_checksum(model)
    write_json(path.parent / "result.json", {"model": checksum, "learnt": True}, path.parent)
    rows = stamp_set.rows("test")
    score = scores_of(rows).astype(np.float32)
    given = Scores("test", rows["shard"], rows["row"], rows["label"], score, checksum, stamp_set.checksum)
    write_scores(path.parent / "scores_test.fits", given)
    return path


@contextlib.contextmanager
def timed() -> Iterator[dict[str, Cost]]:
    """Seconds and peak memory of every stage."""
    found: dict[str, Cost] = {}
    kept = []

    def timer(stage: str, function: Any) -> Any:
        @functools.wraps(function)
        def wrapped(*words: Any, **options: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*words, **options)
            finally:
                before = found[stage].seconds if stage in found else 0.0
                found[stage] = Cost(before + time.perf_counter() - begin, peak())

        return wrapped

    for stage, (module, name) in STAGES.items():
        owner = importlib.import_module(module)
        kept.append((owner, name, getattr(owner, name)))
        setattr(owner, name, timer(stage, kept[-1][2]))
    try:
        yield found
    finally:
        for owner, name, function in kept:
            setattr(owner, name, function)


def evaluate_here(place: Path, words: list[str]) -> dict[str, Any]:
    """Evaluate in this process: seconds, processor seconds and memory (MB) of the whole and of the stages."""
    from obiwan.dplearn import evaluate

    outdir = place / "report"
    shutil.rmtree(outdir, ignore_errors=True)
    given = ["--data", str(place), "--outdir", str(outdir), *words]
    with timed() as stages, contextlib.redirect_stdout(None):
        begin, before = time.perf_counter(), time.process_time()
        if evaluate.main(given):
            raise SystemExit("evaluate has failed")
        clock, processor = time.perf_counter() - begin, time.process_time() - before
    times = os.times()
    return {
        "clock": clock,
        "processor": processor,
        "workers": times.children_user + times.children_system,
        "memory": peak(),
        "stages": {name: asdict(cost) for name, cost in stages.items()},
    }


def show(title: str, found: dict[str, Any]) -> None:
    """Print what an evaluation took."""
    own, workers = found["processor"], found.get("workers", 0)
    took = f"{found['clock']:.0f} s ({own:.0f} s of processor, workers {workers:.0f} s)"
    print(f"{title}: {took}, at most {found['memory']:,.0f} MB")
    for name, cost in found["stages"].items():
        print(f"   {name:22} {cost['seconds']:8.1f} s   {cost['memory']:8,.0f} MB", flush=True)


def main() -> int:
    """Evaluate sets of growing size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--examples", type=int, nargs="+", default=EXAMPLES)
    parser.add_argument("--workdir", type=Path, help="where sets are kept (3 GB at 6,000,000); else removed")
    parser.add_argument("--here", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--make", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--numbers", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    workdir = options.workdir or Path(tempfile.mkdtemp(prefix="millions-"))
    if options.make:
        place = make_set(workdir, options.make)
        print(json.dumps({"network": str(make_network(place))}))
        return 0
    if options.numbers:
        print(json.dumps(numbers_here(options.numbers)))
        return 0
    if options.here:
        print(json.dumps(evaluate_here(Path(options.here[0]), options.here[1:])))
        return 0
    for examples in options.examples:
        if "numbers" in options.parts:
            show(f"{examples:,} scores", apart(__file__, "--numbers", examples))
        if "whole" in options.parts:
            network = apart(__file__, "--workdir", workdir, "--make", examples)["network"]
            place = Path(str(network)).parents[1]
            words = ["--referees=network", f"--model={network}", "--jobs=2"]
            show(f"{examples:,} test examples", apart(__file__, "--here", place, *words))
    if options.workdir is None:
        shutil.rmtree(workdir)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
