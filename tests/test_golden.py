"""Golden records: what the programs gave on the day on which these records were written, number for number.

A refactoring must not change them.  So that it may change everything else, the code is reached through the
``main`` of the five programs alone, and what they leave is read as files, without help of the package.

The records are in ``tests/golden``: JSON files, each of them paths and values; a small trained network; and
scores of the mock's test split, which an evaluation finds beside the network, so that all its later numbers
follow from the scores exactly.  The scores are the network's, rounded to three digits: an evaluation that did
not take them would give other numbers.

Paths that are new are no failure: a program may come to say more.  Paths that are gone, or whose value is
another one, are, and each is named; what may go or change on purpose is named in `ALLOWED`, with the reason.
To write the records anew, for which there should be a better reason than that a test fails::

    PYTHONPATH=py python tests/test_golden.py --write

The network and its scores are made where they are absent: remove both before, to have new ones.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import importlib.metadata
import json
import logging
import math
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest

for needed in ("galsim", "keras", "matplotlib", "sklearn"):
    pytest.importorskip(needed)

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
NETWORK, SCORES = "best.keras", "scores_test.fits"
Record = dict[str, Any]

#: What may go or change after the records were written: the beginning of ``record:path``, and why.
ALLOWED: dict[str, str] = {}

#: Everything not named here must agree to this, relatively; whole numbers, words and checksums exactly.
EXACT = 1e-12
#: Beginnings of ``record:path`` that may differ by more, relatively and absolutely, and why.
LOOSE: dict[str, tuple[float, str]] = {
    "metrics:calibration/": (1e-5, "the network scores the validation split anew, in float32"),
    "metrics:controls/ellipticity": (1e-5, "moments of float32 pixels, whose sums may be in another order"),
    "metrics:occlusion/": (1e-6, "scores of the network, in float32"),
    "metrics:baseline/": (1e-6, "boosted trees, whose sums may be taken in another order"),
    "scores:": (1e-5, "a network in float32"),
    "training:": (1e-5, "many steps in float32, one upon the other"),
}

#: A number that is none of the analysis.  What else tells of file formats and software is in words.
UNPINNED = ("format_version",)
#: The few words of metrics.json that are results.
WORDS = ("kind", "state", "by")

PROGRAMS = {
    "create_training": "obiwan.dplearn.create_training",
    "cnn": "obiwan.dplearn.cnn",
    "evaluate": "obiwan.dplearn.evaluate",
    "mosaic": "obiwan.dplearn.mosaic",
    "mock": "obiwan.dplearn.mock.__main__",
}
#: Defaults that are the machine's; they are recorded in words.
OF_THE_MACHINE = {("mock", "--jobs"): (os.cpu_count() or 1, "processors")}

#: A survey of a few seconds: bricks on both sides of RA 0, fakes 4 px off their place, so that a small
#: network finds it around the true places.
MOCK = "--bricks 12 --brick-size 320 --border 24 --runs 5 --seed 5 --west 1 --layout both --plant-offset 4"
#: Training sets of the mock; words that begin with @ are places in it.  The first is trained on and judged.
OF_MOCK = {
    "mock": "--fake @injected --centers truth --test-fraction 0.4 --val-fraction 0.3 --shard-size 64",
    "mock obiwan": "--fake @injected_obiwan --real @release --balance global --select psf",
    "mock release": "--fake @injected --real @release --reals-from release --edge pad --seed 3",
    "mock truth": "--fake @injected --centers truth --allow-injected-neighbours --balance none",
}
TRAIN = "--maps 3 4 --kernel-size 3 --dense 6 --learning-rate 1e-2 --quiet --threads 1"


def _of_real_data() -> dict[str, str]:
    """Training sets of the real pipeline output; words that begin with @ are places in it.

    ``table:`` is a list of every other source of a release, made for the test: a region without injections
    gives a set, too, when some of its sources are called fakes.
    """
    cases, crowded = {}, "--allow-injected-neighbours --balance none"
    sims = {
        "legacysim decals_grz": "injected_legacysim/decals_grz",
        "legacysim mzlsbass2": "injected_legacysim/mzlsbass2",
        "legacysim testcase6": "injected_legacysim/testcase6",  # no fake was recovered
        "legacysim tractor": "injected_legacysim_tractor/decals_grz",
    }
    for name, place in sims.items():
        cases[name] = f"--fake @{place}"
        cases[f"{name} crowded"] = f"--fake @{place} {crowded} --centers truth"
        region = place.split("/")[1]
        cases[f"{name} release"] = (
            f"--fake @{place} --real @release_dr9/{region} --reals-from release --balance none"
        )
    places = (f"@{place}" for place in sims.values() if place.startswith("injected_legacysim/"))
    cases["legacysim together"] = f"--fake {' '.join(places)}"
    for name in ("decals_grz", "decals_grz_early", "decals_z"):
        place, region = f"--fake @injected_obiwan/{name}", name.replace("_early", "")
        cases[f"obiwan {name} alone"] = place
        cases[f"obiwan {name}"] = f"{place} --real @release_dr9/{region}"
        cases[f"obiwan {name} crowded"] = f"{place} --real @release_dr9/{region} {crowded} --centers truth"
    dr10 = "--fake @injected_obiwan/decals_grz --real @release_dr10/decals_grz"
    cases["obiwan decals_grz dr10"] = dr10
    cases["obiwan decals_grz dr10 release"] = f"{dr10} --reals-from release --balance none"
    releases = {
        "release_dr9": ("decals_grz", "mzlsbass2", "testcase6", "bass_mzls_grz_wide", "decals_z"),
        "release_dr10": ("decals_grz", "mzlsbass2"),
    }
    for release, regions in releases.items():
        for region in regions:
            place = f"{release}/{region}"
            cases[f"{release} {region}"] = (
                f"--fake-table table:{place} --real @{place} --reals-from release --balance none"
            )
    rest = "--select none --edge pad --split object --shard-size 7"
    return {name: f"{words} {rest}" for name, words in cases.items()}


OF_REAL_DATA = _of_real_data()


# --- records and their comparison -----------------------------------------------------------------


def recorded(name: str) -> Record:
    return dict(json.loads((GOLDEN / f"{name}.json").read_text()))


def write(name: str, found: Record) -> None:
    """A path a line, in order: a change of the records is then a change that one can read."""
    (GOLDEN / f"{name}.json").write_text(json.dumps(found, indent=0, sort_keys=True, allow_nan=False) + "\n")


def tolerance(where: str) -> float:
    return next((found for start, (found, _) in LOOSE.items() if where.startswith(start)), EXACT)


def agree(was: Any, now: Any, within: float) -> bool:
    """Numbers to a relative tolerance, where it is not the exact one also to an absolute one; else equal."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (was, now))
    if numbers and not (isinstance(was, int) and isinstance(now, int)):
        return math.isclose(was, now, rel_tol=within, abs_tol=0 if within == EXACT else within)
    return type(was) is type(now) and was == now


def differences(name: str, golden: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Every path of a record that is gone, or has another value, but for what is allowed."""
    wrong = []
    for path, was in golden.items():
        where = f"{name}:{path}"
        if any(where.startswith(start) for start in ALLOWED):
            continue
        if path not in found:
            wrong.append(f"{where}: gone (was {was!r})")
        elif not agree(was, found[path], tolerance(where)):
            wrong.append(f"{where}: was {was!r}, is {found[path]!r}")
    return wrong


def versions() -> Record:
    """Of what the numbers rest on; the records are for those of etc/constraints.txt."""
    names = ("numpy", "scipy", "fitsio", "galsim", "keras", "tensorflow-cpu", "scikit-learn", "matplotlib")
    found = dict.fromkeys(names, "absent")
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def check(name: str, found: Record, start: str = "") -> None:
    """Compare with a record, or with those of its paths that begin so."""
    golden = {path: value for path, value in recorded(name).items() if path.startswith(start)}
    assert golden
    wrong = differences(name, golden, found)
    other = differences("versions", recorded("versions"), versions())
    if wrong and other:  # which may be why
        wrong += ["The records were written with other software:", *other]
    if wrong:
        pytest.fail("\n".join(["not what the golden records say:", *wrong]), pytrace=False)


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Numbers of a JSON document with where they stand; members of a list go by names that they have.

    A control or a cut that is added between others thus changes no other path.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flat(item, f"{path}/{key}" if path else str(key))
    elif isinstance(value, list) and value and all(_is_pair(item) for item in value):
        yield from flat(dict(value), path)
    elif isinstance(value, list):
        names = [_name(item) for item in value]
        if len(set(names)) < len(names) or "" in names:
            names = [str(i) for i in range(len(value))]
        for key, item in zip(names, value, strict=True):
            yield from flat(item, f"{path}/{key}")
    elif not isinstance(value, str) or path.rpartition("/")[2] in WORDS:
        yield path, value


def _is_pair(item: Any) -> bool:
    """A name and its number, as the cut flow has them."""
    return isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)


def _name(item: Any) -> str:
    if not isinstance(item, dict):
        return ""
    return " ".join(str(item[key]) for key in ("key", "name", "band") if item.get(key))


# --- what is recorded -----------------------------------------------------------------------------


def main_of(program: str) -> Callable[[list[str]], int]:
    found: Callable[[list[str]], int] = importlib.import_module(PROGRAMS[program]).main
    return found


def run(program: str, *words: str | Path) -> None:
    assert main_of(program)([str(word) for word in words]) == 0


class _Kinds(logging.Handler):
    """The classes of errors that a program tells of: they are kept, however the message is worded."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0]:
            self.found.append(record.exc_info[0].__name__)


def crc32(data: bytes) -> str:
    return f"{zlib.crc32(data):08x}"


def table_of_every_other(release: Path, path: Path) -> Path:
    """Positions of every other source of a release of one brick."""
    (catalogue,) = release.glob("tractor/*/tractor-*.fits")
    rows = fitsio.read(str(catalogue), columns=["ra", "dec", "objid"], ext=1)[1::2]
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["brick", "id", "ra", "dec"])
        for row in rows:
            table.writerow([catalogue.stem.split("-")[1], row["objid"], repr(float(row["ra"])), row["dec"]])
    return path


def training_set(words: str, data: Path, outdir: Path) -> Record:
    """Make a training set; what it holds, or which kind of error was told."""
    given: list[str | Path] = []
    for word in words.split():
        kind, _, place = word.partition(":")
        if kind == "table":
            given.append(table_of_every_other(data / place, outdir.with_suffix(".csv")))
        else:
            given.append(data / word[1:] if word.startswith("@") else word)
    given += ["--outdir", outdir, "--verbose"]  # only then is it told of which class an error is
    kinds, logger = _Kinds(), logging.getLogger("obiwan")
    logger.addHandler(kinds)
    try:
        status = main_of("create_training")([str(word) for word in given])
    finally:
        logger.removeHandler(kinds)
    assert (status == 0) == (not kinds.found)
    if status:
        return {"error": " ".join(kinds.found)}
    files = sorted(path for path in outdir.iterdir() if path.name[0] in "xy" and path.suffix == ".npy")
    found: Record = {"error": "", "files/number": len(files)}
    found |= {f"files/{path.name}": crc32(path.read_bytes()) for path in files}
    table = fitsio.read(str(outdir / "sources.fits"), ext=1)
    found["rows"] = len(table)
    for name in table.dtype.names:
        column = table[name].astype(table[name].dtype.newbyteorder("<"))
        if name == "brick":  # wider since, for custom bricks; the names are compared as they were
            column = column.astype("<U8")
        found[f"columns/{name}"] = f"{column.dtype.str} {crc32(column.tobytes())}"
    manifest = json.loads((outdir / "manifest.json").read_text())
    wanted = {key: manifest[key] for key in ("counts", "cut_flow", "cleaned_pixels")}
    return found | dict(flat(wanted))


def under(name: str, found: Record) -> Record:
    return {f"{name}/{path}": value for path, value in found.items()}


def make_mock(place: Path) -> None:
    run("mock", "--outdir", place / "survey", "--jobs", "1", *MOCK.split())


def set_of_mock(name: str, place: Path) -> Record:
    return under(name, training_set(OF_MOCK[name], place / "survey", place / name))


def set_of_real_data(name: str, data: Path, place: Path) -> Record:
    return under(name, training_set(OF_REAL_DATA[name], data, place / name))


def train(place: Path, outdir: str, epochs: int) -> Path:
    """Train on a copy of the training set: in the set itself the look at its test split would be counted."""
    copy = shutil.copytree(place / "mock", place / f"{outdir} set")
    run("cnn", "--data", copy, "--outdir", place / outdir, "--epochs", str(epochs), *TRAIN.split())
    return place / outdir


def history(place: Path) -> Record:
    """What two epochs of training lead to: order of the examples, first weights, steps, rates."""
    with (train(place, "short", 2) / "history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return {f"{row['epoch']}/{name}": float(value) for row in rows for name, value in row.items()}


def evaluate(place: Path, run_name: str, report: str) -> Path:
    words = ["--data", place / "mock", "--model", place / run_name / NETWORK, "--outdir", place / report]
    run("evaluate", *words, "--mock", place / "survey", "--referees", "network")
    return place / report


def compute_scores(place: Path) -> Record:
    """Scores that an evaluation computes, for it finds none beside the network."""
    (place / "alone").mkdir()
    shutil.copy(GOLDEN / NETWORK, place / "alone")
    evaluate(place, "alone", "report alone")
    table = fitsio.read(str(place / "alone" / SCORES), ext=1)
    return {f"{row['shard']}/{row['row']}": row["score"].item() for row in table}


def compute_metrics(place: Path) -> Record:
    """Numbers that follow from the scores of the records.

    They are put into the table that `compute_scores` left, which says of which network and training set it
    is as today's code does: how these two are named is no number to be kept.
    """
    given = fitsio.read(str(GOLDEN / SCORES), ext=1)
    beside = place / "given" / SCORES
    beside.parent.mkdir()
    shutil.copy(GOLDEN / NETWORK, beside.parent)
    shutil.copy(place / "alone" / SCORES, beside)
    with fitsio.FITS(str(beside), "rw") as file:
        table = file[1].read()
        for name in ("shard", "row", "label"):
            assert np.array_equal(table[name], given[name])
        file[1].write_column("score", given["score"])
    before = beside.read_bytes()
    report = evaluate(place, "given", "report")
    assert beside.read_bytes() == before
    assert {path.name for path in beside.parent.iterdir()} == {NETWORK, SCORES}  # nothing was scored again
    found = dict(flat(json.loads((report / "metrics.json").read_text())))
    return {path: value for path, value in found.items() if path not in UNPINNED}


def draw_mosaics(place: Path) -> Record:
    """Pixels of what `mosaic` draws, as they are decoded: a PNG may be compressed in another way."""
    from PIL import Image

    words = ["--data", place / "mock", "--outdir", place / "mosaics", "--model", GOLDEN / NETWORK]
    run("mosaic", *words, "--rows", "4")
    found: Record = {}
    for path in sorted((place / "mosaics").glob("*.png")):
        with Image.open(path) as image:
            pixels = image.convert("RGB")
        found[f"{path.stem}/size"] = "{} x {}".format(*pixels.size)
        found[f"{path.stem}/pixels"] = crc32(pixels.tobytes())
    return found


class _CaughtError(Exception):
    """Carries a program's parser out of its ``main``."""


def parser_of(program: str) -> argparse.ArgumentParser:
    """The parser that a program's ``main`` reads its words with, whatever makes it."""

    def catch(self: argparse.ArgumentParser, *_args: Any, **_words: Any) -> None:
        raise _CaughtError(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", catch)
        with pytest.raises(_CaughtError) as caught:
            main_of(program)([])
    found: argparse.ArgumentParser = caught.value.args[0]
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def flags(program: str) -> Record:
    """What a program's flags take, and what they are without a word; a choice more is a path more."""
    found: Record = {}
    for action in parser_of(program)._actions:
        for flag in action.option_strings:
            default = _plain(action.default)
            number, words = OF_THE_MACHINE.get((program, flag), (None, ""))
            path = f"{program}/{flag}"
            found[f"{path}/default"] = words if number is not None and default == number else default
            found[f"{path}/type"] = getattr(action.type, "__name__", None)
            found[f"{path}/nargs"] = action.nargs
            found[f"{path}/required"] = action.required
            found |= {f"{path}/choices/{choice}": True for choice in action.choices or ()}
    return found


# --- tests ----------------------------------------------------------------------------------------

pytestmark = pytest.mark.usefixtures("environment_as_it_was")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the mock survey is, and all that is made of it."""
    found = tmp_path_factory.mktemp("golden")
    make_mock(found)
    return found


@pytest.fixture(scope="module")
def first_set(place):
    """The training set that is trained on and judged."""
    return set_of_mock("mock", place)


@pytest.fixture(scope="module")
def scores(first_set, place):
    """Scores of the network of the records, computed."""
    assert first_set["mock/error"] == ""
    return compute_scores(place)


def test_the_training_set_of_the_mock(first_set):
    check("sets_of_mock", first_set, "mock/")


@pytest.mark.parametrize("name", list(OF_MOCK)[1:])
def test_other_training_sets_of_the_mock(name, place):
    check("sets_of_mock", set_of_mock(name, place), f"{name}/")


@pytest.mark.data
@pytest.mark.parametrize("name", OF_REAL_DATA)
def test_training_sets_of_real_data(name, shared_data, tmp_path):
    check("sets_of_real_data", set_of_real_data(name, shared_data, tmp_path), f"{name}/")


def test_every_record_is_compared():
    for record, cases in (("sets_of_mock", OF_MOCK), ("sets_of_real_data", OF_REAL_DATA)):
        assert {path.partition("/")[0] for path in recorded(record)} == set(cases)


def test_a_short_training(first_set, place):
    assert first_set["mock/error"] == ""
    check("training", history(place))


def test_scores_that_the_network_gives(scores):
    check("scores", scores)


@pytest.mark.usefixtures("scores")
def test_numbers_of_an_evaluation(place):
    check("metrics", compute_metrics(place))


def test_pixels_of_the_mosaics(first_set, place):
    assert first_set["mock/error"] == ""
    check("mosaics", draw_mosaics(place))


@pytest.mark.parametrize("program", PROGRAMS)
def test_flags(program):
    check("flags", flags(program), f"{program}/")


def test_a_difference_is_named(monkeypatch):
    golden = {"a/b": 1.0, "a/c": 2, "d": "red", "e": None, "f": True}
    found = {"a/b": 1 + 1e-11, "d": "green", "e": None, "f": 1, "new": 3}
    assert differences("x", golden, found) == [
        "x:a/b: was 1.0, is 1.00000000001",
        "x:a/c: gone (was 2)",
        "x:d: was 'red', is 'green'",
        "x:f: was True, is 1",
    ]
    assert differences("x", golden, {**golden, "a/b": 1 + 1e-13}) == []
    monkeypatch.setitem(ALLOWED, "x:a/", "for this test")
    monkeypatch.setitem(ALLOWED, "x:f", "for this test")
    assert differences("x", golden, found) == ["x:d: was 'red', is 'green'"]
    monkeypatch.setitem(LOOSE, "y:", (1e-3, "for this test"))
    assert differences("y", {"a": 0.0, "b": 2.0, "c": 5}, {"a": 1e-4, "b": 2.001, "c": 6}) == [
        "y:c: was 5, is 6"
    ]


def test_members_of_lists_go_by_their_names():
    document = {"flow": [["all", 3], ["good", 2]], "list": [{"name": "x", "n": 1, "note": "-"}], "v": [5, 6]}
    assert dict(flat(document)) == {"flow/all": 3, "flow/good": 2, "list/x/n": 1, "v/0": 5, "v/1": 6}


# --- writing the records anew ---------------------------------------------------------------------


def make_network(place: Path) -> None:
    """Train the network of the records, and have its scores, rounded, beside it."""
    trained = train(place, "long", 30)
    shutil.copy(trained / NETWORK, GOLDEN)
    table = fitsio.read(str(trained / SCORES), ext=1)
    table["score"] = np.clip(np.round(table["score"], 3), 0.001, 0.999)
    with fitsio.FITS(str(GOLDEN / SCORES), "rw", clobber=True) as file:
        file.write(table, extname="SCORES")


def write_all(place: Path, data: Path) -> None:
    GOLDEN.mkdir(exist_ok=True)
    make_mock(place)
    sets: Record = {}
    for name in OF_MOCK:
        sets |= set_of_mock(name, place)
    write("sets_of_mock", sets)
    if data.is_dir():
        (place / "real").mkdir()
        sets = {}
        for name in OF_REAL_DATA:
            sets |= set_of_real_data(name, data, place / "real")
        write("sets_of_real_data", sets)
    write("training", history(place))
    if not ((GOLDEN / NETWORK).exists() and (GOLDEN / SCORES).exists()):
        make_network(place)
    write("scores", compute_scores(place))
    write("metrics", compute_metrics(place))
    write("mosaics", draw_mosaics(place))
    write("flags", {path: value for program in PROGRAMS for path, value in flags(program).items()})
    write("versions", versions())


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as directory:
        shared = Path(os.environ.get("OBIWAN_DPLEARN_DATA", ROOT.parent / "shared" / "data"))
        write_all(Path(directory), shared)
