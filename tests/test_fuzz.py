"""Damaged and hostile files: clear errors only; nothing is unpickled, nothing outside is touched."""

from __future__ import annotations

import faulthandler
import json
import os
import pickle
import re
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import fuzz
from obiwan.dplearn import create_training
from obiwan.dplearn.errors import CatalogError, DplearnError, LayoutError, ModelError, TrainingSetError
from obiwan.dplearn.running import cli
from obiwan.dplearn.survey.bricklist import read_brick_list
from obiwan.dplearn.survey.catalogs import read_tractor, read_truth
from obiwan.dplearn.survey.tables import read_table
from obiwan.dplearn.training.checkpoints import load_checkpoint
from obiwan.dplearn.trainingset.manifest import MANIFEST, manifest_checksum
from obiwan.dplearn.trainingset.stampset import open_training_set
from synthetic import BRICK, objects, tractor_columns, truth_columns, write_table

CASES = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Path]:
    """Sound files of every kind."""
    return fuzz.prepare(tmp_path_factory.mktemp("sound"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_campaign(run_python, root):
    """A few cases of each kind; `bin/benchmark fuzz -- --cases 20000` is the long one."""
    path = (root / "py", root / "tests", root / "tests" / "benchmarks")
    words = ("-W", "ignore", root / "tests" / "benchmarks" / "fuzz.py", "--cases", "180", "--seed", "11")
    done = run_python(*words, path=path, env={"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "180 cases, 0 bad"
    found = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[:-1])
    assert set(found) == set(fuzz.TARGETS)
    assert sum("refused" in said for said in found.values()) >= 10  # the damage was felt


def test_the_campaign_tells_what_it_looks_for(places, tmp_path, monkeypatch):
    """A crash, a traceback, a hang that uses no processor, and memory without end."""

    monkeypatch.setattr(fuzz, "PATIENCE", 1)

    def crash(_):
        faulthandler.disable()  # pytest's would fill the log
        os.abort()

    def cases():
        yield lambda _: 1 / 0, "ZeroDivisionError"
        yield crash, "ended with status -6"
        yield lambda _: np.ones(1 << 40), "MemoryError"
        yield lambda _: time.sleep(600), "ended with status -14"
        yield lambda _: open_training_set(tmp_path / "absent"), "although it is sound"

    for read, expected in cases():
        target = fuzz.Target(MANIFEST, lambda *_: None, read)
        assert expected in fuzz.apart(target, places["manifest"], tmp_path, None)


# --- manifests ----------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries(
    {
        "split": st.sampled_from(["train", "val", "test", "../train", "train_1.npy/../../x", ""]) | JSON,
        **{key: st.integers(-1, 5) | JSON for key in ("number", "rows", "real", "fake")},
        **{key: st.integers(0, 2**32) | JSON for key in ("x_crc32", "y_crc32")},
    }
)


def says(error: Exception, *words: str) -> None:
    """An error must have at least one of these in it."""
    assert any(word in str(error) for word in words), str(error)


def read_all(directory: Path) -> None:
    """Whatever a manifest says: an error, or files of the set itself."""
    try:
        training = open_training_set(directory)
        for shard in training.shards:
            for name in (shard.x_name, shard.y_name):
                assert (directory / name).resolve().parent == directory.resolve()
            training.read(shard)
    except TrainingSetError as error:
        says(error, str(directory))


@CASES
@given(
    key=st.sampled_from(["format", "channels", "labels", "stamp", "shards"]), value=JSON, sealed=st.booleans()
)
def test_a_manifest_with_another_value(key, value, sealed, places, tmp_path):
    spoil_manifest(places, tmp_path, sealed=sealed, change={key: value})
    read_all(tmp_path)


@CASES
@given(entries=st.lists(ENTRY, min_size=1, max_size=3), sealed=st.booleans())
def test_a_manifest_with_other_shards(entries, sealed, places, tmp_path):
    spoil_manifest(places, tmp_path, sealed=sealed, change={"shards": entries})
    read_all(tmp_path)


def spoil_manifest(places, directory: Path, *, sealed: bool, change: dict) -> None:
    for path in places["manifest"].glob("*.npy"):
        if not (directory / path.name).exists():
            (directory / path.name).write_bytes(path.read_bytes())
    manifest = {**json.loads((places["manifest"] / MANIFEST).read_text()), **change}
    if sealed:
        manifest["manifest_crc32"] = manifest_checksum(manifest)
    (directory / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("text", ["1" * 10_000, "\0", '"\ud800"', "{}" * 2])
def test_json_that_is_no_manifest(text, tmp_path):
    (tmp_path / MANIFEST).write_text(text, errors="surrogatepass")
    with pytest.raises(TrainingSetError, match=r"manifest.json"):
        open_training_set(tmp_path)


@pytest.mark.parametrize(
    "split", ["../outside/xtrain", "/etc/passwd", "train_1.npy\0", "train/../../outside/train"]
)
def test_no_path_in_a_manifest_leaves_the_directory(split, places, tmp_path, monkeypatch):
    inside = tmp_path / "set"
    (inside / "x").mkdir(parents=True)
    opened = []
    spoil_manifest(places, inside, sealed=True, change={})
    manifest = json.loads((inside / MANIFEST).read_text())
    manifest["shards"][0]["split"] = split
    manifest["manifest_crc32"] = manifest_checksum(manifest)
    (inside / MANIFEST).write_text(json.dumps(manifest))
    real_open, real_stat = Path.open, Path.stat
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: opened.append(self) or real_open(self, *a, **k))
    monkeypatch.setattr(Path, "stat", lambda self, **k: opened.append(self) or real_stat(self, **k))
    with pytest.raises(TrainingSetError, match="makes no sense"):
        open_training_set(inside)
    assert opened
    monkeypatch.undo()
    assert {path for path in opened if path.resolve().parent != inside.resolve()} <= {inside}


def test_memory_is_not_asked_for_on_a_manifests_word(places, tmp_path):
    spoil_manifest(places, tmp_path, sealed=True, change={})
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["shards"][0] |= {"rows": 10**12, "real": 10**12, "fake": 0}
    (tmp_path / MANIFEST).write_text(json.dumps({**manifest, "manifest_crc32": manifest_checksum(manifest)}))
    with pytest.raises(TrainingSetError, match=r"xtrain_1.npy: truncated"):
        open_training_set(tmp_path)


# --- tables -------------------------------------------------------------------------------------------

KINDS = st.sampled_from(["S1", "S5", "?", "u1", "i2", "i4", "i8", "f4", "f8", "c8", "c16"])


@CASES
@given(data=st.data())
@pytest.mark.parametrize("table", ["dr3", "dr5", "dr9", "legacysim", "obiwan"])
def test_columns_of_any_type(table, data, tmp_path):
    """Read, or refused by name; what is read has a row of numbers for each source."""
    rows = objects(BRICK, [60.0, 100.0, 150.0], [80.0, 90.0, 70.0])
    columns = truth_columns(table, rows) if table in {"legacysim", "obiwan"} else tractor_columns(rows, table)
    for name in data.draw(st.lists(st.sampled_from(sorted(columns)), min_size=1, max_size=2, unique=True)):
        kind = np.dtype(data.draw(KINDS))
        raw = data.draw(st.binary(min_size=3 * kind.itemsize, max_size=3 * kind.itemsize))
        values = np.frombuffer(raw, kind) if kind != "?" else np.array([True, False, True])
        columns[name] = values.copy()
    path = tmp_path / "table.fits"
    write_table(path, columns)
    read = read_truth if table in {"legacysim", "obiwan"} else read_tractor
    try:
        sources = read(path).sources
    except CatalogError as error:
        says(error, str(path))
        says(error, "restore the file", "must be unique", "integers", "number them anew")
        return
    for name in ("flux", "flux_ivar", "mw_transmission", "psfsize"):
        assert getattr(sources, name).shape == (len(sources), len(sources.bands))
    for name in ("ra", "dec", "shape_r", "e1", "sersic", "ebv", "id"):
        assert getattr(sources, name).shape == (len(sources),)
    assert np.isfinite(sources.ra).all()


HOSTILE = st.text(max_size=20) | st.sampled_from(
    [
        "../../../etc/passwd",
        "..",
        "/",
        "",
        "a\nb",
        "'; rm -rf /",
        "{run}",
        "%s%n",
        "é" * 9,
    ]
)


@CASES
@given(brick=HOSTILE, run=HOSTILE, ra=HOSTILE | st.floats(), ident=HOSTILE | st.integers())
@pytest.mark.parametrize("suffix", ["csv", "ecsv"])
def test_hostile_words_in_a_users_table(suffix, brick, run, ra, ident, places, tmp_path):
    def quoted(word):
        return '"' + str(word).replace('"', '""') + '"'

    words = ",".join(map(quoted, (brick, run, ra, 5.0, ident)))
    head = "# %ECSV 1.0\n# ---\n# delimiter: ','\n# datatype:\n" if suffix == "ecsv" else ""
    kinds = {"ra": "float64", "dec": "float64", "id": "int64"}
    names = ("brick", "run", "ra", "dec", "id")
    if head:
        head += "".join(f"# - {{name: {n}, datatype: {kinds.get(n, 'string')}}}\n" for n in names)
    path = tmp_path / f"table.{suffix}"
    path.write_text(f"{head}{','.join(names)}\n{words}\n", errors="surrogatepass")
    try:
        table = read_table(path)
        config = create_training.TrainingConfig(select="none")
        create_training.resolve_inputs(fake=[places["csv"] / "fake"], fake_table=path, config=config)
    except (CatalogError, LayoutError):
        return
    assert np.isfinite(table.sources.ra).all()


def test_no_memory_is_one_line(capsys):
    def program():
        np.ones(1 << 55)

    assert cli.run(program, "cnn") == 1
    assert re.fullmatch(r"cnn: error: out of memory \(.*\); give it more, or .*\n", capsys.readouterr().err)


@CASES
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="replace")))
def test_any_list_of_bricks(content, tmp_path):
    path = tmp_path / "bricks.txt"
    path.write_bytes(content)
    try:
        names = read_brick_list([str(path)])
    except LayoutError as error:
        says(error, "--bricks")
    else:
        assert names
        assert "" not in names


# --- nothing is executed ------------------------------------------------------------------------------


class Exploit:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_nothing_is_unpickled_from_a_shard(places, tmp_path):
    fired = tmp_path / "fired"
    spoil_manifest(places, tmp_path, sealed=True, change={})
    path = tmp_path / "xtrain_1.npy"
    np.save(path, np.array([Exploit(fired)] * 60_000, dtype=object), allow_pickle=True)
    path.write_bytes(path.read_bytes().ljust(400_000, b"\0"))
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["shards"][0]["x_crc32"] = zlib.crc32(path.read_bytes())
    (tmp_path / MANIFEST).write_text(json.dumps({**manifest, "manifest_crc32": manifest_checksum(manifest)}))
    training = open_training_set(tmp_path)
    with pytest.raises(TrainingSetError, match=r"xtrain_1.npy: object of shape"):
        training.read(training.shards[0])
    assert not fired.exists()


def test_nothing_is_unpickled_from_a_checkpoint(tmp_path, caplog):
    fired = tmp_path / "fired"
    np.savez(tmp_path / "step_0000000001.npz", state=np.array([Exploit(fired)], dtype=object))
    (tmp_path / "step_0000000002.npz").write_bytes(pickle.dumps(Exploit(fired)))
    assert load_checkpoint(tmp_path) is None
    assert caplog.text.count("damaged") == 2
    assert not fired.exists()


def test_nothing_in_the_package_unpickles(root):
    """No module knows of pickles (`numpy.load` refuses them unless told otherwise) or of unsafe models."""
    paths = list((root / "py").rglob("*.py"))
    assert len(paths) > 50
    for path in paths:
        text = path.read_text()
        if path.name == "jax_ranks.py":  # messages of one job, as Horovod does it; no file
            assert "open(" not in text
            continue
        assert not re.search(r"^\s*(import|from) (pickle|marshal|shelve|dill|joblib)\b", text, re.M), path
        for words in ("allow_pickle=True", "safe_mode=False", "enable_unsafe_deserialization", "eval("):
            assert words not in text, path


@pytest.mark.slow
def test_saved_models_load_in_safe_mode(tmp_path):
    """A layer that is a piece of program, a class from elsewhere, and bytes that are no model."""
    import keras

    from obiwan.dplearn.stampspec import StampSpec
    from obiwan.dplearn.training.model import build_network, load_network
    from obiwan.dplearn.training.settings import network_config

    fired = tmp_path / "fired"
    path = tmp_path / "evil.keras"
    cutouts = keras.Input((64, 64, 6))
    code = f"__import__('pathlib').Path({str(fired)!r}).touch()"
    layer = keras.layers.Lambda(eval(f"lambda x: ({code}, x)[1]"), output_shape=(64, 64, 6))
    output = keras.layers.Dense(2)(keras.layers.Flatten()(layer(cutouts)))
    keras.Model(cutouts, output).save(path)
    fired.unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"evil.keras: not a readable model"):
        load_network(path)
    assert not fired.exists()

    sound = tmp_path / "sound.keras"
    build_network(network_config("lenet5", maps=(3, 4), kernel_size=3, dense=6), StampSpec()).save(sound)
    load_network(sound)
    with zipfile.ZipFile(sound) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    named = b'"module": "keras.layers", "class_name": "Dense"'
    assert named in parts["config.json"]
    other = parts["config.json"].replace(named, b'"module": "antigravity", "class_name": "fly"')
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**parts, "config.json": other}.items():
            archive.writestr(name, content)
    with pytest.raises(ModelError, match=r"evil.keras: "):
        load_network(path)
    assert "antigravity" not in sys.modules

    rng, whole = np.random.default_rng(5), sound.read_bytes()
    for _ in range(25):
        path.write_bytes(fuzz.damaged(whole, rng))
        try:
            load_network(path)
        except DplearnError as error:
            says(error, str(path))
