"""Damaged and hostile files: is every one of them read, or refused with one clear error?

    python tests/benchmarks/fuzz.py [--cases 2000] [--seed 1] [--only image truth ...]

A case is a file of a small survey or training set with something wrong: truncated, bits flipped, cards of a
header exchanged or set to absurd values, blocks zeroed, doubled or left out, columns of another type, JSON
with other values in it.  What is read from it runs in a process of its own, which may take 2 GB, 20 s of
processor and two minutes by the clock.  It must end well or with a `DplearnError` that says something;
anything else is shown with the number that makes it again (--case).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import fitsio
import numpy as np

from obiwan.dplearn import cnn
from obiwan.dplearn.cutting.extraction import GroupTask, extract_group, row_keys
from obiwan.dplearn.cutting.workspace import begin, check_outdir, finished_receipt
from obiwan.dplearn.errors import DplearnError, ModelError
from obiwan.dplearn.evaluation.description import data_summary
from obiwan.dplearn.evaluation.ideal import plant_of, planted_in
from obiwan.dplearn.files.npy import write_npz
from obiwan.dplearn.mock.config import Plant
from obiwan.dplearn.planning.bricks import plan_brick
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.cutflow import merged
from obiwan.dplearn.planning.inputs import resolve_inputs
from obiwan.dplearn.referees.scoring import Scores, bricks_of, read_scores, write_scores
from obiwan.dplearn.referees.testlog import record_evaluation
from obiwan.dplearn.report import output as report_files
from obiwan.dplearn.retraining import runs as retraining
from obiwan.dplearn.running import cli
from obiwan.dplearn.stampspec import SPLITS, StampSpec
from obiwan.dplearn.survey.tables import read_table
from obiwan.dplearn.training.checkpoints import Checkpoint, Progress, load_checkpoint, save_checkpoint
from obiwan.dplearn.training.rundir import run_directory
from obiwan.dplearn.training.settings import FeedConfig, RunConfig, network_config
from obiwan.dplearn.trainingset.examples import blank_examples
from obiwan.dplearn.trainingset.manifest import FORMAT, FORMAT_VERSION, MANIFEST, WORK, manifest_checksum
from obiwan.dplearn.trainingset.stampset import StampSet, open_training_set
from quantised import pack_set
from synthetic import BRICK, Case, Place, at, both
from tables import write_shard, write_table

MEMORY, SECONDS, PATIENCE = 2 << 30, 20, 120  # bytes, of processor, by the clock
RNG = np.random.Generator
ABSURD = (b"-1", b"0", b"1", b"99999999999", b"9223372036854775807", b"NaN", b"T", b"'AAAAAAAAAA'", b"''")
DTYPES = ("S1", "S9", "?", "u1", "i2", "i8", "f4", "f8", "c16", "3f4", "2S3", "0f8")
VALUES = (
    "",
    "x" * 10000,
    "../../etc/passwd",
    "é\u202e",
    "NaN",
    "train\0",
    "1",
    None,
    True,
    -1,
    0,
    1.5,
)
VALUES = (*VALUES, 1e300, 10**30, 2**31, 2**63, [], {}, [[]], ["g"], {"split": "train"})


# --- damage -------------------------------------------------------------------------------------------


def damaged(content: bytes, rng: RNG) -> bytes:
    """Bytes with something wrong."""
    raw, n = bytearray(content), len(content)
    near = int(rng.choice([min(n, 5760), n]))  # headers are what a reader believes
    for _ in range(int(rng.integers(1, 4))):
        at_byte = int(rng.integers(max(1, min(near, len(raw)))))
        way = rng.integers(6)
        if way == 0:
            del raw[at_byte:]
        elif way == 1:
            for place in rng.integers(max(1, min(near, len(raw))), size=int(rng.integers(1, 20))):
                if raw:
                    raw[place % len(raw)] ^= 1 << int(rng.integers(8))
        elif way == 2:  # a card of the header
            card = at_byte // 80 * 80
            raw[card + 10 : card + 80] = ABSURD[int(rng.integers(len(ABSURD)))].rjust(20).ljust(70)[:70]
        elif way == 3:
            other = int(rng.integers(max(1, len(raw)))) // 80 * 80
            raw[at_byte // 80 * 80 : at_byte // 80 * 80 + 80] = raw[other : other + 80]
        elif way == 4:
            size = int(rng.choice([1, 80, 2880]))
            raw[at_byte : at_byte + size] = rng.bytes(size) if rng.integers(2) else bytes(size)
        else:
            size = int(rng.choice([1, 80, 2880]))
            raw[at_byte:at_byte] = raw[at_byte : at_byte + size]
    return bytes(raw)


def other_columns(path: Path, rng: RNG) -> None:
    """Rewrite a table with some columns of another type, of wild values, or left out."""
    with fitsio.FITS(str(path)) as file:
        head, table = file[0].read_header(), file[1].read()
    columns = {name: table[name] for name in table.dtype.names}
    for name in rng.choice(sorted(columns), size=int(rng.integers(1, 4)), replace=False):
        way, n = rng.integers(4), len(table)
        if way == 0:
            del columns[name]
        elif way == 1:
            kind = np.dtype(str(rng.choice(DTYPES)))
            columns[name] = np.frombuffer(rng.bytes(kind.itemsize * n), kind.base).reshape(n, *kind.shape)
        else:
            values = columns[name].copy()
            wild = {"f": [np.nan, np.inf, -1e38, 1e38, 0], "i": [-1, 0, 2**15 - 1], "u": [0, 255]}
            values[rng.integers(n)] = rng.choice(wild.get(values.dtype.kind, [0]))
            columns[name] = values
    columns = {name: values for name, values in columns.items() if values.dtype.itemsize and values.size}
    path.unlink()
    with fitsio.FITS(str(path), "rw") as file:
        file.write(None, header=head)
        if columns:
            file.write(list(columns.values()), names=list(columns))


def other_json(content: object, rng: RNG) -> object:
    """JSON with another value somewhere in it."""
    if isinstance(content, (dict, list)) and content and rng.integers(8):
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        key = keys[int(rng.integers(len(keys)))]
        copy = content.copy()
        if rng.integers(10) == 0:
            del copy[key]
        else:
            copy[key] = other_json(content[key], rng)
        return copy
    return VALUES[int(rng.integers(len(VALUES)))]


# --- what is damaged, and what reads it ---------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes
    ----------
    file : str
        Which one, relative to the place that `prepare` fills.
    spoil : callable
        Damages it, given its path and a generator.
    read : callable
        Reads it and everything that belongs to it, given the place.
    """

    file: str
    spoil: Callable[[Path, RNG], None]
    read: Callable[[Path], None]


def _spoil_bytes(path: Path, rng: RNG) -> None:
    path.write_bytes(damaged(path.read_bytes(), rng))


def _spoil_table(path: Path, rng: RNG) -> None:
    (other_columns if rng.integers(2) else _spoil_bytes)(path, rng)


def _spoil_json(path: Path, rng: RNG) -> None:
    """Another content of a manifest, half of the time with a checksum that fits."""
    content = other_json(json.loads(path.read_text()), rng)
    if isinstance(content, dict) and "manifest_crc32" in content and rng.integers(2):
        content["manifest_crc32"] = manifest_checksum(content)
    path.write_text(json.dumps(content))


def _spoil_shard(path: Path, rng: RNG) -> None:
    """Damage a shard and let the manifest vouch for it."""
    _spoil_bytes(path, rng)
    manifest = json.loads((path.parent / MANIFEST).read_text())
    manifest["shards"][0]["x_crc32"] = zlib.crc32(path.read_bytes())
    manifest["manifest_crc32"] = manifest_checksum(manifest)
    (path.parent / MANIFEST).write_text(json.dumps(manifest))


def _spoil_packed_shard(path: Path, rng: RNG) -> None:
    """Damage a packed shard, or one array in it, and let the manifest vouch for it."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    if rng.integers(3):
        name = str(rng.choice(sorted(arrays)))
        raw = bytearray(arrays[name].tobytes())
        for _ in range(int(rng.integers(1, 4)) if raw else 0):
            raw[rng.integers(len(raw))] = rng.integers(256)
        cut = len(raw) - int(rng.integers(len(raw) + 1)) * int(rng.integers(4) == 0)
        spoilt = np.frombuffer(bytes(raw[:cut]), np.uint8)
        fits = spoilt.size % arrays[name].dtype.itemsize == 0
        write_npz(path, path.parent, {**arrays, name: spoilt.view(arrays[name].dtype) if fits else spoilt})
    else:
        _spoil_bytes(path, rng)
    manifest = json.loads((path.parent / MANIFEST).read_text())
    manifest["shards"][0]["packed_crc32"] = zlib.crc32(path.read_bytes())
    manifest["manifest_crc32"] = manifest_checksum(manifest)
    (path.parent / MANIFEST).write_text(json.dumps(manifest))


def _read_survey(place: Path) -> None:
    config = TrainingConfig(select="none", allow_injected_neighbours=True)
    (brick,) = resolve_inputs(fake=[place / "fake"], real=[place / "real"], config=config).bricks
    rows = plan_brick(brick, config).rows
    rows["split"], rows["shard"], rows["row"] = b"train", 1, np.arange(len(rows))
    runs = {(run.root.index, run.brick, run.run): run for run in brick.runs}
    (place / "set" / WORK).mkdir(parents=True)
    if len(rows):
        mine = {key: runs[key] for key in set(row_keys(rows))}
        extract_group(GroupTask(0, place / "set", place / "set" / WORK, StampSpec(), rows, mine))


def _read_set(place: Path) -> None:
    found = open_training_set(place)
    for shard in found.shards:
        assert (place / shard.x_name).resolve().parent == place.resolve()
        found.read(shard)
    told = data_summary(found)  # and what a report says of it
    any(root.get("injected") is False for root in told["roots"])
    merged(*(dict(told["cut_flow"].get(name, ())) for name in ("real", "fake")))
    ", ".join(f"{key} {value}" for key, value in told["config"].items())


def _empty(place: Path) -> StampSet:
    """A set of no shards."""
    return StampSet(place, {}, StampSpec(), (), lambda *_: (_, _), lambda _: np.empty(0), lambda: ())


def _read_user_table(place: Path) -> None:
    for path in place.glob("table.*"):
        table = read_table(path)
        for brick in np.unique(table.brick)[:5]:
            table.of_brick(str(brick))
        config = TrainingConfig(select="none")
        inputs = resolve_inputs(fake=[place / "fake"], fake_table=path, config=config)
        for one in inputs.bricks[:3]:
            plan_brick(one, config)


def _read_sources(place: Path) -> None:
    """Whole, as ``evaluate`` does, and for the bricks of some scores, as ``cnn`` does at its end."""
    found, ones = open_training_set(place), np.ones(4, "i4")
    assert [len(found.rows(split)) for split in SPLITS] == [4, 4, 4]
    scores = Scores("test", ones, np.arange(4, dtype="i4"), np.array([0, 1, 0, 1], "u1"), ones / 2, "m", "d")
    bricks = bricks_of(found, scores)
    if bricks is None or len(bricks) != 4:
        raise ValueError
    data_summary(found)


def _read_scores(place: Path) -> None:
    read_scores(place / "scores.fits", "m", "d")


def _read_checkpoint(place: Path) -> None:
    logging.disable()
    found = load_checkpoint(place)
    if found is None:
        msg = "no checkpoint: its run begins anew"
        raise ModelError(msg)
    found.progress.step += found.progress.epoch + found.progress.best_epoch + found.progress.ranks
    found.progress.loss_sum += found.progress.correct + sum(row["loss"] for row in found.progress.history)


def _read_run(place: Path) -> None:
    run_directory(place).check(IDENTITY)


def _read_result(place: Path) -> None:
    logging.disable()
    text = cnn.finished_text(argparse.Namespace(outdir=place, data=place))
    if text is None:
        msg = "no result: it is made again"
        raise ModelError(msg)
    cli.say(text)


def _read_looks(place: Path) -> None:
    logging.disable()
    labels, ones = np.array([0, 1], "u1"), np.ones(2, "i4")
    scores = Scores("test", ones, ones, labels, np.zeros(2, "f4"), "another", "d")
    record_evaluation(_empty(place), scores)


def _read_settings(place: Path) -> None:
    """As what is trained again does, which counts with them."""
    config = retraining.run_config_of(place / "best.keras")
    for number in (config.epochs, config.feed.batch_size, config.feed.window, *config.network.maps):
        range(number)
    json.dumps(config.to_dict())


def _read_retrained(place: Path) -> None:
    found = retraining._read_result(place / "result.json")
    f"{found.auc} {found.p:.2g} {found.train + found.test + found.bricks}"


def _read_metrics(place: Path) -> None:
    report_files.claim(place, {"data": "d", "models": ["m"]}, overwrite=False)


def _read_mock(place: Path) -> None:
    planted_in(plant_of(place))


def _read_receipt(place: Path) -> None:
    rows = _example_rows(np.array([0, 1, 0, 1], "u1"))[:4]
    receipt = finished_receipt(GroupTask(0, place, place / WORK, StampSpec(), rows, {}))
    if receipt is None:
        msg = "no receipt: its shards are made again"
        raise ModelError(msg)
    assert receipt.examples + receipt.not_finite + receipt.negative_invvar == 4


def _read_plan(place: Path) -> None:
    check_outdir(place, REQUEST, overwrite=False)
    begin(place, REQUEST, SimpleNamespace(crc32=7), overwrite=False)


def _read_options(place: Path) -> None:
    """As a program does, whose parser ends it with status 2."""
    options = cli.parse(cnn.build_parser(), ["--config", str(place / "cnn.toml")])
    cnn.run_config(options, StampSpec().size)
    for path in (options.data, options.outdir):
        path.exists()


_HALF = {"value": 0.5, "low": 0.4, "high": 0.6}
RESULT = {"real": 2, "fake": 2, "accuracy": _HALF, "majority": 0.5, "auc": _HALF, "bricks": 0}
RESULT |= {"best_epoch": 1, "learnt": True, "looks": 1, "model": "m", "data": "d"}
KERAS = {"floatx": "float32"}
IDENTITY = {"data": "0123abcd", **RunConfig(network_config(), FeedConfig()).to_dict(), "keras": KERAS}
REQUEST = {"config": {"seed": 1}, "roots": []}  # of a training set
ORIGINS = {
    "package_version": "0",
    "config": {"select": "elg", "seed": 1},
    "roots": [{"index": 0, "name": "dr9/south", "layout": "legacysim", "injected": True}],
    "cut_flow": {
        "real": [["rows", 9], ["balanced", 6]],
        "fake": [["rows", 8], ["matched", 7], ["balanced", 6]],
    },
}  # what a manifest says of where the examples come from
RUN = Place("legacysim", Path("fake"), BRICK.name, "file0_rs0_skip0")
TARGETS = {
    "tractor": Target(str(RUN.tractor), _spoil_table, _read_survey),
    "truth": Target(str(RUN.truth), _spoil_table, _read_survey),
    "image": Target(str(RUN.plane("image", "g", ".fits")), _spoil_bytes, _read_survey),
    "invvar": Target(str(RUN.plane("invvar", "r", ".fits")), _spoil_bytes, _read_survey),
    "packed": Target("packed/" + RUN.plane("image", "z").name, _spoil_bytes, _read_survey),
    "release": Target(str(Place("release", Path("real"), BRICK.name).tractor), _spoil_table, _read_survey),
    "manifest": Target(MANIFEST, _spoil_json, _read_set),
    "shard": Target("xtrain_1.npy", _spoil_shard, _read_set),
    "packed_shard": Target("xtrain_1.npz", _spoil_packed_shard, _read_set),
    "sources": Target("sources.fits", _spoil_table, _read_sources),
    "csv": Target("table.csv", _spoil_bytes, _read_user_table),
    "ecsv": Target("table.ecsv", _spoil_bytes, _read_user_table),
    "table": Target("table.fits", _spoil_table, _read_user_table),
    "scores": Target("scores.fits", _spoil_bytes, _read_scores),
    "checkpoint": Target("step_0000000003.npz", _spoil_bytes, _read_checkpoint),
    "run": Target("run.json", _spoil_bytes, _read_run),
    "result": Target("result.json", _spoil_bytes, _read_result),
    "looks": Target("test_looks.jsonl", _spoil_bytes, _read_looks),
    "options": Target("cnn.toml", _spoil_bytes, _read_options),
    "settings": Target("run.json", _spoil_bytes, _read_settings),
    "retrained": Target("result.json", _spoil_bytes, _read_retrained),
    "metrics": Target(report_files.METRICS, _spoil_bytes, _read_metrics),
    "mock": Target("mock.json", _spoil_bytes, _read_mock),
    "receipt": Target(f"{WORK}/group-000000.json", _spoil_bytes, _read_receipt),
    "plan": Target(f"{WORK}/plan.json", _spoil_bytes, _read_plan),
}


def prepare(base: Path) -> dict[str, Path]:
    """Write sound files; returns the place of each target's."""
    survey = base / "survey"
    sources = at((60, 60), (120, 70), (180, 180), (90, 150))
    injected = at((60, 60), (120, 70), first=500)
    Case(survey, injected=(injected,), fitted=(both(sources, injected),), release=sources).write()
    places = dict.fromkeys(("tractor", "truth", "image", "invvar", "release"), survey)
    places["packed"] = _packed(survey, base / "packed")
    training = base / "training"
    (training / WORK).mkdir(parents=True)
    rng = np.random.default_rng(3)
    stamps, labels = rng.normal(size=(4, 64, 64, 6)).astype("<f4"), np.array([0, 1, 0, 1], "u1")
    shards = [write_shard(training, split, 1, stamps, labels) for split in SPLITS]
    write_table(training, _example_rows(labels))
    shutil.rmtree(training / WORK)
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, **StampSpec().to_manifest()}
    manifest |= {"shards": [vars(shard) for shard in shards], **ORIGINS}
    manifest["manifest_crc32"] = manifest_checksum(manifest)
    (training / MANIFEST).write_text(json.dumps(manifest))
    places |= dict.fromkeys(("manifest", "shard", "sources"), training)
    places["packed_shard"] = base / "training_packed"
    shutil.copytree(training, places["packed_shard"])
    pack_set(places["packed_shard"])
    for name in ("csv", "ecsv", "table"):
        places[name] = _user_table(survey, base / name, name)
    run = base / "run"
    run.mkdir()
    score, ones = np.linspace(0, 1, 4, dtype="f4"), np.ones(4, "i4")
    write_scores(
        run / "scores.fits",
        Scores("test", ones, ones, labels, score, "m", "d"),
    )
    progress = Progress(1, 3, best_epoch=1, best_loss=0.6, history=[{"epoch": 1, "loss": 0.7}])
    save_checkpoint(run, Checkpoint(progress, [np.arange(99.0)], [np.int64(3)], []), 3)
    (run / "run.json").write_text(json.dumps(IDENTITY))
    (run / "result.json").write_text(json.dumps(RESULT))
    looks = [{"model": model, "data": "d", "n": 2, "version": "1"} for model in "abc"]
    (run / "test_looks.jsonl").write_text("".join(json.dumps(look) + "\n" for look in looks))
    options = (Path(__file__).parents[2] / "etc" / "cnn.toml").read_text()
    (run / "cnn.toml").write_text(f'{options}outdir = "out"\nmaps = [18, 36]\n')
    places |= dict.fromkeys(("scores", "checkpoint", "run", "result", "looks", "options", "settings"), run)
    return {**places, **_records(base, stamps, labels)}


def _records(base: Path, stamps: np.ndarray, labels: np.ndarray) -> dict[str, Path]:
    """What programs leave for themselves and for each other: the place of each."""
    places = {name: base / name for name in ("retrained", "metrics", "mock", "receipt", "plan")}
    for place in places.values():
        (place / WORK).mkdir(parents=True)
    auc = {"value": 0.6, "low": 0.5, "high": 0.7}
    result = {"auc": auc, "learnt": True, "train": 9, "test": 4, "bricks": 3, "p": 0.1}
    (places["retrained"] / "result.json").write_text(json.dumps(result))
    report = {"format": report_files.FORMAT, "format_version": report_files.FORMAT_VERSION}
    report |= {"models": [{"checksum": "m"}], "data": {"checksum": "d"}, "figures": ["scores.png"]}
    (places["metrics"] / report_files.METRICS).write_text(json.dumps(report))
    (places["metrics"] / report_files.FIGURES).mkdir()
    (places["metrics"] / report_files.FIGURES / "scores.png").touch()
    mock = {"config": {"bricks": 4, "plant": vars(Plant(offset=0.5))}}
    (places["mock"] / "mock.json").write_text(json.dumps(mock))
    shard = write_shard(places["receipt"], "train", 1, stamps, labels)
    receipt = {"shards": [vars(shard)], "not_finite": 0, "negative_invvar": 0, "coadds_crc32": 0}
    (places["receipt"] / WORK / "group-000000.json").write_text(json.dumps(receipt))
    (places["plan"] / WORK / "plan.json").write_text(json.dumps({**REQUEST, "rows_crc32": 7}))
    return places


def _example_rows(labels: np.ndarray) -> np.ndarray:
    """Rows of one shard of each split with these labels."""
    rows = blank_examples(len(SPLITS) * len(labels), StampSpec())
    rows["split"], rows["shard"] = np.repeat(np.array(SPLITS, "S5"), len(labels)), 1
    rows["row"], rows["label"] = np.tile(np.arange(len(labels)), len(SPLITS)), np.tile(labels, len(SPLITS))
    rows["brick"] = BRICK.name.encode()
    return rows


def _packed(survey: Path, place: Path) -> Path:
    """The survey with one plane as legacypipe compresses it, which the target's path is a link to."""
    from synthetic import write_plane

    shutil.copytree(survey, place)
    plain = place / RUN.plane("image", "z", ".fits")
    with fitsio.FITS(str(plain)) as file:
        data = file[0].read()
    plain.unlink()
    (place / "packed").mkdir()
    path = place / RUN.plane("image", "z")
    write_plane(place / "packed" / path.name, data, BRICK.cards())
    path.symlink_to(place / "packed" / path.name)
    return place


def _user_table(survey: Path, place: Path, name: str) -> Path:
    from astropy.table import Table

    shutil.copytree(survey / "fake", place / "fake")
    ra, dec = BRICK.sky([100.0, 140.0], [100.0, 150.0])
    columns = {
        "brick": [BRICK.name] * 2,
        "run": [RUN.run] * 2,
        "ra": ra,
        "dec": dec,
        "id": [1, 2],
        "mag_g": [21.0, 22],
    }
    suffix = {"table": "fits"}.get(name, name)
    Table(columns).write(
        place / f"table.{suffix}", format={"csv": "ascii.csv", "ecsv": "ascii.ecsv"}.get(name)
    )
    return place


# --- the campaign -------------------------------------------------------------------------------------


def attempt(target: Target, place: Path, rng: RNG | None) -> str:
    """Read a place whose file is spoilt, in this process: what came of it, in a word or a traceback."""
    if rng is not None:
        target.spoil(place / target.file, rng)
    try:
        target.read(place)
    except DplearnError as error:
        lines = str(error).splitlines()
        if rng is None:
            return f"refused although it is sound: {error}"
        return "refused" if lines and all(lines) else f"an error without words: {error!r}"
    except SystemExit as error:  # of a command line's parser
        return "refused" if rng is not None and error.code == 2 else traceback.format_exc()
    except BaseException:  # whatever it is: it is what is looked for
        return traceback.format_exc()
    return "read"


def apart(target: Target, source: Path, scratch: Path, seed: list[int] | None) -> str:
    """As `attempt`, on a copy and in a process of its own with little memory and time."""
    place, answer = scratch / "place", scratch / "answer"
    shutil.rmtree(place, ignore_errors=True)
    answer.unlink(missing_ok=True)
    shutil.copytree(source, place, symlinks=True)
    for link in (path for path in place.rglob("*") if path.is_symlink()):
        link.unlink()
        link.symlink_to(place / "packed" / link.name)
    child = os.fork()
    if child == 0:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)  # one that waits for something uses no processor
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        answer.write_text(attempt(target, place, seed and np.random.default_rng(seed)), errors="replace")
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return answer.read_text() if status == 0 and answer.is_file() else f"ended with status {status}"


def main() -> int:
    """Run the campaign; returns 1 where something came out that should not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=int, default=2000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=sorted(TARGETS), default=sorted(TARGETS))
    parser.add_argument("--case", type=int, help="this one alone")
    options = parser.parse_args()
    outcomes = {name: Counter[str]() for name in options.only}
    with tempfile.TemporaryDirectory() as name, contextlib.suppress(KeyboardInterrupt):  # told so far
        places = prepare(Path(name))
        for case in range(options.cases) if options.case is None else [options.case]:
            kind = options.only[case % len(options.only)]
            # The first of each kind is sound: a reader that refuses everything has not been tried.
            sound = options.case is None and case < len(options.only)
            seed = None if sound else [options.seed, zlib.crc32(kind.encode()), case]
            said = apart(TARGETS[kind], places[kind], Path(name), seed)
            outcomes[kind][said if said in {"read", "refused"} else "BAD"] += 1
            if said not in {"read", "refused"}:
                print(f"{kind}, case {case}, seed {options.seed}: {said}", flush=True)
    bad = sum(found["BAD"] for found in outcomes.values())
    for kind, found in outcomes.items():
        print(f"{kind:<12} {', '.join(f'{word} {n}' for word, n in sorted(found.items()) if n)}")
    print(f"{sum(sum(found.values()) for found in outcomes.values())} cases, {bad} bad")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
