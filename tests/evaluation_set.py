"""A training set with rows for every example, scores without a network, and an evaluation made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from obiwan.dplearn.controls.covariates import Covariates
from obiwan.dplearn.controls.measure import measure_split
from obiwan.dplearn.evaluation import analysis
from obiwan.dplearn.evaluation.decision import ruling_of
from obiwan.dplearn.evaluation.description import data_summary
from obiwan.dplearn.evaluation.ensemble import ModelInfo, Scored
from obiwan.dplearn.evaluation.equal import Evidence
from obiwan.dplearn.evaluation.exhibits import exhibits_of
from obiwan.dplearn.evaluation.measuring import ControlSample
from obiwan.dplearn.evaluation.notices import Fact, Notice
from obiwan.dplearn.referees.testlog import Ledger, Opening
from obiwan.dplearn.retraining.margins import missing_kinds
from obiwan.dplearn.running.software import software
from obiwan.dplearn.stampspec import SPLITS, StampSpec
from obiwan.dplearn.trainingset.examples import blank_examples
from obiwan.dplearn.trainingset.manifest import MANIFEST, manifest_checksum
from obiwan.dplearn.trainingset.stampset import StampSet, open_training_set
from planted import GRZ, Planted, Sample, write_set
from sealing import seal
from tables import read_table, write_table

BRICKS = {"train": 4, "val": 2, "test": 12}
HISTORY = {"epoch": [1.0, 2.0], "loss": [0.69, 0.5], "val_loss": [0.7, 0.6]}
FLOW = {
    "real": [
        ["catalogue rows", 900],
        ['no injection within 5"', 700],
        ["elg colour box", 400],
        ["balanced", 320],
    ],
    "fake": [["catalogue rows", 800], ["injected on a CCD", 750], ["elg colour box", 380], ["balanced", 320]],
}


def rows_of(split: str, training_set: StampSet, sample: Sample, bricks: int) -> np.ndarray:
    """Rows of the source table that say of each example what it was drawn with."""
    shards = training_set.split(split)
    n = sum(shard.rows for shard in shards)
    rows = blank_examples(n, training_set.spec)
    rows["split"] = split.encode()
    rows["shard"] = np.repeat([shard.number for shard in shards], [shard.rows for shard in shards])
    rows["row"] = np.concatenate([np.arange(shard.rows) for shard in shards])
    rows["label"] = np.concatenate([training_set.read(shard)[1] for shard in shards])
    first = {"train": 0, "val": 100, "test": 200}[split]
    rows["brick"] = [f"{first + i % bricks:04d}p000".encode() for i in range(n)]
    rows["run"], rows["id"], rows["type"] = b"rs0", np.arange(n), b"EXP"
    rng = np.random.default_rng(first)
    rows["x"], rows["y"] = rng.integers(60, 3540, (2, n)) + np.stack([sample.x, sample.y]).round(3) * 0
    rows["x"] += sample.x
    rows["y"] += sample.y
    rows["ra"], rows["dec"] = rng.uniform(0, 1, (2, n))
    for i, band in enumerate(training_set.spec.bands):
        rows[f"flux_{band}"] = sample.flux[:, i]
        rows[f"flux_ivar_{band}"] = 1 / (20 * sample.sky[:, i] ** 2)
        rows[f"mag_{band}"] = 22.5 - 2.5 * np.log10(sample.flux[:, i])
        rows[f"mw_transmission_{band}"] = 0.95
        rows[f"psfsize_{band}"] = sample.sigma[:, i] * 2.3548 * training_set.spec.pixel_scale
        rows[f"psfdepth_{band}"] = 1 / (20 * sample.sky[:, i] ** 2)
    rows["mag_source"], rows["sersic"] = b"measured", 1.0
    rows["shape_r"], rows["e1"], rows["e2"] = sample.size, sample.e1, sample.e2
    rows["ebv"] = rng.uniform(0.01, 0.05, n)
    return rows


def make_set(
    directory: Path,
    planted: Planted,
    counts: dict[str, int],
    *,
    seed: int = 3,
    bricks: dict[str, int] | None = None,
    spec: StampSpec = GRZ,
) -> StampSet:
    """Write a training set with shards, source table and a manifest like create_training's."""
    samples = write_set(directory, planted, counts, seed, rows=64, spec=spec)
    path = directory / MANIFEST
    manifest = json.loads(path.read_text())
    manifest |= {
        "package_version": "0",
        "config": {
            "select": "elg",
            "reals_from": "injected",
            "centers": "truth",
            "balance": "brick",
            "split": "brick",
        },
        "roots": [{"index": 0, "name": "south", "layout": "legacysim", "injected": True}],
        "cut_flow": FLOW,
    }
    manifest["manifest_crc32"] = manifest_checksum(manifest)
    path.write_text(json.dumps(manifest))
    training_set = open_training_set(directory)
    parts = [rows_of(split, training_set, samples[split], (bricks or BRICKS)[split]) for split in SPLITS]
    write_table(directory, np.concatenate(parts), spec)
    seal(directory)
    return open_training_set(directory)


def scored_by_hand(
    training_set: StampSet, strength: float, *, models: int = 1, seed: int = 0, learnt: bool = True
) -> Scored:
    """Scores as a network might give them: fakes higher by `strength` standard deviations."""
    table = read_table(training_set.directory)
    rng = np.random.default_rng(seed)

    def draw(labels: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-(rng.standard_normal(len(labels)) + strength * (labels - 0.5))))

    rows, val = table[table["split"] == b"test"], table[table["split"] == b"val"]
    return Scored(
        rows=rows,
        singles=np.stack([draw(rows["label"].astype(float)) for _ in range(models)]),
        val_labels=val["label"],
        val_scores=draw(val["label"].astype(float)),
        models=tuple(ModelInfo(f"run{i}/best.keras", f"{i:016x}", "lenet5", learnt) for i in range(models)),
        ledger=Ledger(
            tuple(f"{i:016x}" for i in range(models)),
            openings=(Opening(tuple(f"{i:016x}" for i in range(models)), 0.02),),
        ),
    )


def make_evaluation(training_set: StampSet, scored: Scored, **changes) -> analysis.Evaluation:
    """An evaluation of scores, with all that needs no network."""
    rows, measured = scored.rows, measure_split(training_set, "test")
    spec, tests = training_set.spec, np.arange(len(rows))
    columns = Covariates.of(rows, measured, spec)
    data = data_summary(training_set)
    evidence = Evidence.of(rows, measured, spec, scored.clusters, tests)
    if "controls" in changes:
        evidence = replace(evidence, controls=changes["controls"])
    verdict = changes.get("verdict") or analysis.verdict_of(scored, 0.02, None)
    baseline = analysis.baseline(columns, rows, tests, 1, scored.clusters, len(rows))
    missing = missing_kinds(changes.get("detections", ()), spec)
    everything = {
        "verdict": verdict,
        "ruling": ruling_of(scored, verdict, evidence, baseline, missing),
        "controls": evidence.controls,
        "baseline": baseline,
        "settings": {"margin": 0.02, "level": 0.05, "seed": 1},
        "spec": spec,
        "data": data,
        "scored": scored,
        "columns": columns,
        "answer": analysis.answer(scored, 1),
        "calibration": analysis.calibrate(scored),
        "conditional": analysis.conditional(scored, columns, analysis.strata_keys(spec), 1),
        "control_examples": len(rows),
        "control_tests": len(rows),
        "bins": analysis.where(scored, columns, spec),
        "not_run": (Fact(Notice.NO_SENSITIVITY),),
        "versions": software(),
        "exhibits": replace(
            exhibits_of(training_set, scored, ControlSample(training_set, tests, rows, measured), (), 1),
            histories={"run0/best.keras": HISTORY},
        ),
    }
    return analysis.Evaluation(**{**everything, **changes})
