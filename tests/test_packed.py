"""Packed shards: the same stamps bit for bit, in fewer bytes, and one line where a file is damaged."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from pathlib import Path

import fitsio
import numpy as np
import pytest

from obiwan.dplearn import create_training
from obiwan.dplearn import shards as conversion
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.files.npy import npy_crc32, write_npz
from obiwan.dplearn.referees.testlog import LOOKS, record_report
from obiwan.dplearn.stampspec import SPLITS, StampSpec
from obiwan.dplearn.survey import quantisation
from obiwan.dplearn.survey.quantisation import RANDOMS, dither_of, read_grid
from obiwan.dplearn.trainingset import packed
from obiwan.dplearn.trainingset.manifest import MANIFEST, WORK
from obiwan.dplearn.trainingset.packed import no_patches, pack, unpack
from obiwan.dplearn.trainingset.patches import patch_dtype, stamp_patches
from obiwan.dplearn.trainingset.shards import Shard, read_shard, write_shard
from obiwan.dplearn.trainingset.stampset import open_training_set
from sealing import seal
from synthetic import Survey, bricks_apart, content_of, survey

SPEC = StampSpec(("r",), size=64)  # two channels: an image and its inverse variance
METHODS = ("NO_DITHER", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2")
CORNERS = [
    (0, 0),
    (70, 80),
    (100, 100),
    (146, 160),
    (-20, 30),
    (150, 190),
]  # (y, x); the last two reach beyond


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype == np.dtype("<f4") and one.tobytes() == other.tobytes()


def packed_bytes(arrays: dict[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays.values())


def compressed(path: Path, method: str, seed: int, tile: tuple[int, int], zeros: bool) -> np.ndarray:
    """A noisy plane of 210 x 230 pixels in a file, and what fitsio decodes of it."""
    rng = np.random.default_rng(seed)
    plane = rng.normal(size=(210, 230)).astype("f4")
    plane[40, 50] = 3e4  # a star
    if zeros:
        plane[90:, 150:] = 0
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        words = {"compress": "RICE", "qlevel": 16.0, "dither_seed": seed, "qmethod": method}
        file.write(plane, tile_dims=list(tile), **words)
    with fitsio.FITS(str(path)) as file:
        return file[1].read()


def cut(planes: list[np.ndarray]) -> np.ndarray:
    """Stamps at the corners, padded with 0."""
    stamps = np.zeros((len(CORNERS), SPEC.size, SPEC.size, len(planes)), "<f4")
    for stamp, (y, x) in zip(stamps, CORNERS, strict=True):
        for channel, plane in enumerate(planes):
            padded = np.pad(plane, 64)
            stamp[..., channel] = padded[y + 64 : y + 128, x + 64 : x + 128]
    return stamps


def table_of(grids: list) -> np.ndarray:
    places = enumerate(CORNERS)
    found = [patch for i, corner in places for patch in stamp_patches(i, corner, SPEC.size, grids)]
    return np.array(found, patch_dtype(len(grids)))


def test_the_random_numbers_of_the_convention():
    """The last seed of the generator is in the appendix of the convention."""
    randoms, starts = quantisation._randoms()
    assert round((randoms[-1] + 0.5) * 2147483647) == pytest.approx(1043618065, abs=64)  # float32
    assert randoms.min() >= -0.5
    assert 0 <= min(starts) <= max(starts) < 500


@pytest.mark.parametrize("first", [0, 9_000, 9_450, 9_873, 9_990, 15_000])
@pytest.mark.parametrize("seed", [0, 77, RANDOMS - 1])
def test_dither_goes_on_where_the_next_seed_starts(seed, first):
    """Against the loop of the convention, pixel by pixel."""
    randoms, starts = quantisation._randoms()
    width = 110
    expected, index, now = [], starts[seed], seed
    for _ in range(first + 7 * width):
        expected.append(randoms[index])
        index += 1
        if index == RANDOMS:
            now = (now + 1) % RANDOMS
            index = starts[now]
    expected = np.reshape(expected[first:], (7, width))[:, :64]
    found = np.full(expected.shape, np.nan)
    for rows, dither in dither_of(seed, first, width, (7, 64)):
        assert np.isnan(found[rows]).all()
        found[rows] = dither
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("tile", [(100, 100), (230, 1), (64, 150)])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [1, 9_999])
def test_every_pixel_is_an_integer_of_its_tile(seed, method, tile, zeros, tmp_path):
    """All pixels but padding and zeros that the writer kept lie on the grid; the stamps come back."""
    image = compressed(tmp_path / "image.fits.fz", method, seed, tile, zeros)
    ivar = compressed(tmp_path / "ivar.fits.fz", "NO_DITHER", seed + 1, tile, zeros)
    stamps = cut([image, ivar])
    grids = [read_grid(tmp_path / f"{name}.fits.fz") for name in ("image", "ivar")]
    arrays = pack(stamps, SPEC, table_of(grids))
    assert same_bits(unpack(arrays, SPEC, len(stamps)), stamps)
    assert arrays["lost"].sum() <= np.count_nonzero(stamps == 0)
    if not zeros:
        assert packed_bytes(arrays) < 0.4 * stamps.nbytes


def test_pixels_off_the_grid(tmp_path, rng):
    """Whatever is in a stamp comes back: special values, and more of them than pixels on the grid."""
    image = compressed(tmp_path / "image.fits.fz", METHODS[2], 3, (100, 100), False)
    grid = read_grid(tmp_path / "image.fits.fz")
    stamps = cut([image, image])
    stamps.reshape(-1)[:8] = [np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38, -3.4e38, 1]
    stamps[2] = rng.integers(0, 2**32, stamps[2].shape, np.uint32).view("f4")
    stamps[3] = 0
    arrays = pack(stamps, SPEC, table_of([grid, grid]))
    assert same_bits(unpack(arrays, SPEC, len(stamps)), stamps)
    assert 0 < arrays["lost"].sum() < stamps.size


def test_a_wrong_grid_costs_space_alone(tmp_path):
    image = compressed(tmp_path / "image.fits.fz", METHODS[2], 3, (100, 100), False)
    compressed(tmp_path / "other.fits.fz", METHODS[2], 4, (100, 100), False)
    stamps = cut([image, image])
    sizes = []
    for name in ("image", "other"):
        grid = read_grid(tmp_path / f"{name}.fits.fz")
        arrays = pack(stamps, SPEC, table_of([grid, grid]))
        assert same_bits(unpack(arrays, SPEC, len(stamps)), stamps)
        sizes.append(packed_bytes(arrays))
    assert sizes[1] > 1.5 * sizes[0]


@pytest.mark.parametrize("rows", [1, 64, 65, 130])
def test_stamps_without_a_grid(rows, rng):
    spec = StampSpec(("g", "r"), ("image",), 16)
    stamps = rng.normal(size=(rows, *spec.shape)).astype("<f4")
    assert same_bits(unpack(pack(stamps, spec, no_patches(spec)), spec, rows), stamps)


def test_planes_of_which_one_is_quantised(tmp_path):
    """An inverse variance that is not compressed, or is tiled otherwise, beside an image that is."""
    image = compressed(tmp_path / "image.fits.fz", METHODS[2], 3, (100, 100), False)
    ivar = compressed(tmp_path / "ivar.fits.fz", METHODS[0], 3, (230, 1), False)
    grid, other = read_grid(tmp_path / "image.fits.fz"), read_grid(tmp_path / "ivar.fits.fz")
    stamps = cut([image, ivar])
    for second in (None, other):
        arrays = pack(stamps, SPEC, table_of([grid, second]))
        assert same_bits(unpack(arrays, SPEC, len(stamps)), stamps)
        assert np.count_nonzero(stamps[..., 1]) <= arrays["lost"].sum() < 0.8 * stamps.size


def test_a_file_that_is_not_quantised_has_no_grid(tmp_path):
    fitsio.write(str(tmp_path / "plain.fits"), np.zeros((20, 20), "f4"))
    with fitsio.FITS(str(tmp_path / "extension.fits"), "rw", clobber=True) as file:
        file.write(None)
        file.write(np.zeros((20, 20), "f4"))
    (tmp_path / "text.fits.fz").write_text("no FITS")
    compressed(tmp_path / "damaged.fits.fz", METHODS[0], 3, (100, 100), False)
    content = (tmp_path / "damaged.fits.fz").read_bytes()
    (tmp_path / "damaged.fits.fz").write_bytes(content.replace(b"ZNAXIS2 = ", b"ZNAXIS2 =?", 1))
    names = (
        "plain.fits",
        "extension.fits",
        "text.fits.fz",
        "damaged.fits.fz",
        "absent.fits.fz",
        "absent.fits.gz",
    )
    for name in names:
        assert read_grid(tmp_path / name) is None


# --- the file -----------------------------------------------------------------------------------------


@pytest.fixture
def shard(tmp_path, rng) -> Shard:
    """A packed shard of 70 stamps in a directory of its own."""
    (tmp_path / WORK).mkdir()
    spec = StampSpec(size=16)
    stamps = rng.normal(size=(70, *spec.shape)).astype("<f4")
    label = np.arange(70, dtype="u1") % 2
    return write_shard(tmp_path, spec, "val", 3, stamps, label, tmp_path / WORK, no_patches(spec))


def test_the_file_is_an_npz(shard, tmp_path):
    """Self-describing, without pickles, with checksums of the file and of the stamps; deterministic."""
    path = tmp_path / "xval_3.npz"
    assert list(shard.files) == ["xval_3.npz", "yval_3.npy"]
    assert shard.packed_crc32 == zlib.crc32(path.read_bytes())
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(file["about"].tobytes())
        write_npz(tmp_path / "again.npz", tmp_path, {name: file[name] for name in file.files})
    assert about["shape"] == [70, 16, 16, 6]
    assert (about["format"], about["version"]) == ("obiwan.dplearn packed shard", 2)
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()
    x, y = read_shard(tmp_path, StampSpec(size=16), shard)
    assert npy_crc32(x) == shard.x_crc32
    assert y.tolist() == [0, 1] * 35


def test_channels_of_another_set_are_refused(shard, tmp_path):
    """As many channels in another order are other stamps."""
    path = tmp_path / "xval_3.npz"
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(arrays["about"].tobytes())
    about["channels"].reverse()
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    sealed = Shard("val", 3, 70, 35, 35, shard.x_crc32, shard.y_crc32, write_npz(path, tmp_path, arrays))
    with pytest.raises(TrainingSetError, match=r"xval_3.npz: not a packed shard .*channels is"):
        read_shard(tmp_path, StampSpec(size=16), sealed)


def test_damage_is_named(shard, tmp_path):
    path, spec = tmp_path / "xval_3.npz", StampSpec(size=16)
    content = path.read_bytes()
    for damaged in (content[:-4], content[:500], content + b"\0", b""):
        path.write_bytes(damaged)
        with pytest.raises(TrainingSetError, match=r"xval_3.npz: checksum differs .*--overwrite"):
            read_shard(tmp_path, spec, shard)
        sealed = Shard("val", 3, 70, 35, 35, shard.x_crc32, shard.y_crc32, zlib.crc32(damaged))
        if damaged != content + b"\0":  # which zip does not mind
            with pytest.raises(TrainingSetError, match=r"xval_3.npz: not an npz file"):
                read_shard(tmp_path, spec, sealed)
    path.unlink()
    with pytest.raises(TrainingSetError, match=r"xval_3.npz: .*not there"):
        read_shard(tmp_path, spec, shard)


@pytest.mark.parametrize("name", ["about", "patches", "lost", "image_0", "ivar_1", "values_1"])
def test_members_that_make_no_sense(name, shard, tmp_path, rng):
    """Whatever stands in a member, sealed: one line, or the stamps that the manifest vouches for."""
    spec, path = StampSpec(size=16), tmp_path / "xval_3.npz"
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    raw = np.frombuffer(arrays[name].tobytes(), np.uint8)
    refusals: list[str] = []
    spoilt = [None, raw[:-1], np.zeros(3), rng.integers(0, 256, max(raw.size, 20)).astype(np.uint8)]
    for _ in range(20):
        flipped = raw.copy()
        if raw.size:
            flipped[rng.integers(raw.size)] ^= 1 << rng.integers(8)
        spoilt.append(flipped.view(arrays[name].dtype) if name != "patches" else flipped)
    for member in spoilt:
        others = {key: value for key, value in arrays.items() if key != name}
        crc = write_npz(path, tmp_path, others if member is None else {**others, name: member})
        sealed = Shard("val", 3, 70, 35, 35, shard.x_crc32, shard.y_crc32, crc)
        try:
            found = npy_crc32(read_shard(tmp_path, spec, sealed)[0])
        except TrainingSetError as error:
            refusals.append(str(error))
        else:
            assert found == shard.x_crc32
    assert len(refusals) > 10
    assert all("xval_3.npz: " in said for said in refusals)


def test_pixels_off_the_grid_are_as_many_as_their_places(tmp_path):
    image = compressed(tmp_path / "image.fits.fz", METHODS[2], 3, (100, 100), False)
    grid = read_grid(tmp_path / "image.fits.fz")
    stamps = cut([image, image])
    stamps[0, 3, 4] = np.nan
    arrays = pack(stamps, SPEC, table_of([grid, grid]))
    lost = int(arrays["lost"][0])
    for number in (lost - 1, lost + 1):
        spoilt = {**arrays, "places_0": packed._compress(np.arange(number, dtype=np.uint32))}
        with pytest.raises(ValueError, match="numbers where"):
            unpack(spoilt, SPEC, len(stamps))
    for name in ("places_0", "values_0"):
        with pytest.raises(KeyError):
            unpack({key: value for key, value in arrays.items() if key != name}, SPEC, len(stamps))


def test_patches_that_lie_nowhere(tmp_path):
    image = compressed(tmp_path / "image.fits.fz", METHODS[2], 3, (100, 100), False)
    grid = read_grid(tmp_path / "image.fits.fz")
    stamps, table = cut([image, image]), table_of([grid, grid])
    changes = {"stamp": 6, "y1": 65, "x1": 0, "first": 1 << 31, "width": 3, "seed": RANDOMS}
    for name, value in changes.items():
        spoilt = table.copy()
        spoilt[name][-1] = value
        arrays = {**pack(stamps, SPEC, table), "patches": spoilt}
        with pytest.raises(ValueError, match="table of patches makes no sense"):
            unpack(arrays, SPEC, len(stamps))


def test_a_compressed_member_is_refused(shard, tmp_path):
    """No zip bombs."""
    path = tmp_path / "xval_3.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("about.npy", b"0" * 1000)
    sealed = Shard("val", 3, 70, 35, 35, shard.x_crc32, shard.y_crc32, zlib.crc32(path.read_bytes()))
    with pytest.raises(TrainingSetError, match=r"xval_3.npz: not an npz file \(about.npy .*compressed"):
        read_shard(tmp_path, StampSpec(size=16), sealed)


def test_stamps_of_another_checksum(shard, tmp_path):
    """What a decoder gives must be what was packed, whatever the machine."""
    other = Shard("val", 3, 70, 35, 35, shard.x_crc32 ^ 1, shard.y_crc32, shard.packed_crc32)
    with pytest.raises(TrainingSetError, match=r"xval_3.npz: checksum differs"):
        read_shard(tmp_path, StampSpec(size=16), other)


# --- training sets ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Survey:
    return survey(tmp_path_factory.mktemp("survey"), bricks=bricks_apart(5))


def run(made: Survey, outdir: Path, *more: str) -> int:
    given = ["--fake", str(made.fake), "--real", str(made.real), "--outdir", str(outdir)]
    return create_training.main([*given, "--shard-size", "5", "--jobs", "1", *more])


@pytest.fixture(scope="module")
def sets(made, tmp_path_factory) -> dict[str, Path]:
    """The same set in either form."""
    found = {form: tmp_path_factory.mktemp("sets") / form for form in ("npy", "packed")}
    for form, outdir in found.items():
        assert run(made, outdir, "--shards", form) == 0
    return found


def test_the_same_set_in_either_form(sets):
    npy, packed = (open_training_set(sets[form]) for form in ("npy", "packed"))
    assert npy.checksum == packed.checksum
    assert (npy.manifest["format_version"], packed.manifest["format_version"]) == (2, 3)
    assert "shards" not in npy.manifest["config"]
    assert packed.manifest["config"]["shards"] == "packed"
    assert not list(sets["packed"].glob("x*.npy"))
    for one, other in zip(npy.shards, packed.shards, strict=True):
        assert same_bits(npy.read(one)[0], packed.read(other)[0])
    for split in SPLITS:
        assert npy.rows(split).tobytes() == packed.rows(split).tobytes()
    size = {form: sum(path.stat().st_size for path in sets[form].glob("x*")) for form in sets}
    assert size["packed"] < 0.6 * size["npy"]


def test_the_other_form_is_another_request(made, sets, tmp_path, capsys):
    shutil.copytree(sets["npy"], tmp_path / "set")
    assert run(made, tmp_path / "set", "--shards", "packed") == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(made, tmp_path / "set", "--shards", "packed", "--overwrite") == 0
    assert content_of(tmp_path / "set") == content_of(sets["packed"])


@pytest.mark.parametrize("lost", ["xtrain_1.npz", "ytrain_1.npy", "damaged"])
def test_an_interrupted_packed_set_is_finished(lost, made, sets, tmp_path, monkeypatch):
    """A shard that was lost or damaged meanwhile is made again, and the bytes are the same."""
    outdir = tmp_path / "set"

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(create_training, "finish", interrupted)
    assert run(made, outdir, "--shards", "packed") != 0
    monkeypatch.undo()
    if lost == "damaged":
        path = outdir / "xtrain_1.npz"
        path.write_bytes(path.read_bytes()[:-1])
    else:
        (outdir / lost).unlink()
    assert run(made, outdir, "--shards", "packed") == 0
    assert content_of(outdir) == content_of(sets["packed"])


def test_any_mixture_of_forms(sets, tmp_path):
    """Shards of either form in one split and in different ones; an older version refuses by the format."""
    shutil.copytree(sets["npy"], tmp_path / "set")
    entries = json.loads((sets["npy"] / MANIFEST).read_text())["shards"]
    others = json.loads((sets["packed"] / MANIFEST).read_text())["shards"]
    for number in range(0, len(entries), 2):
        entries[number] = others[number]
        one, other = Shard(**entries[number]), Shard(**others[number])
        shutil.copy(sets["packed"] / other.x_name, tmp_path / "set")
        (tmp_path / "set" / f"x{one.split}_{one.number}.npy").unlink()
    seal(tmp_path / "set", shards=entries, format_version=3)
    whole, mixed = open_training_set(sets["npy"]), open_training_set(tmp_path / "set")
    assert mixed.checksum == whole.checksum
    for split in SPLITS:
        count = sum(mixed.count(split))
        assert same_bits(mixed.stamps(split, range(count)), whole.stamps(split, range(count)))


# --- conversion ---------------------------------------------------------------------------------------


def convert(source: Path, outdir: Path, form: str, *more: str) -> int:
    return conversion.main([str(source), "--outdir", str(outdir), "--shards", form, *more])


def test_conversion_gives_the_bytes_of_create_training(made, sets, tmp_path, capsys):
    """Either way; and again there is nothing to do, for `create_training` neither."""
    coadds = ("--coadds", str(made.fake), str(made.real))
    assert convert(sets["npy"], tmp_path / "packed", "packed", *coadds) == 0
    assert content_of(tmp_path / "packed") == content_of(sets["packed"])
    assert convert(tmp_path / "packed", tmp_path / "npy", "npy") == 0
    assert content_of(tmp_path / "npy") == content_of(sets["npy"])
    capsys.readouterr()
    (tmp_path / "npy" / WORK).mkdir()  # as a run leaves it that is killed after the manifest
    assert convert(tmp_path / "packed", tmp_path / "npy", "npy") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert not (tmp_path / "npy" / WORK).exists()
    assert run(made, tmp_path / "packed", "--shards", "packed") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_conversion_without_coadds(made, sets, tmp_path, capsys):
    """The same stamps, as floats; the log says which trees would help, now or later."""
    assert convert(sets["npy"], tmp_path / "set", "packed") == 0
    assert "--coadds: injected (legacysim)" in capsys.readouterr().err
    whole, floating = open_training_set(sets["npy"]), open_training_set(tmp_path / "set")
    assert floating.checksum == whole.checksum
    for shard in floating.shards:
        floating.read(shard)  # verifies
    floats, npy, packed = map(bytes_of_stamps, (tmp_path / "set", sets["npy"], sets["packed"]))
    assert packed < floats < npy
    assert convert(tmp_path / "set", tmp_path / "copy", "packed") == 0  # in the form that it has
    assert "--coadds" not in capsys.readouterr().err
    assert content_of(tmp_path / "copy") == content_of(tmp_path / "set")
    coadds = ("--coadds", str(made.fake), str(made.real))
    assert convert(tmp_path / "set", tmp_path / "integers", "packed", *coadds) == 0  # packed again
    assert content_of(tmp_path / "integers") == content_of(sets["packed"])


def test_conversion_with_the_coadds_of_others(made, sets, tmp_path, capsys):
    """No example is of the release: the log says which tree is lacking."""
    release = ("--coadds", str(made.real))
    assert convert(sets["npy"], tmp_path / "set", "packed", *release) == 0
    total = sum(shard.rows for shard in open_training_set(sets["npy"]).shards)
    said = capsys.readouterr().err
    assert f"warning: {total} of {total} stamps are packed as floats" in said
    assert "with --coadds for these too: injected (legacysim)" in said
    assert convert(sets["npy"], tmp_path / "set", "packed", "--coadds", str(made.fake)) == 0
    said = capsys.readouterr()
    assert "packed as floats before; for --coadds to tell, convert it again (--overwrite)" in said.err
    assert "nothing to do" in said.out
    assert convert(sets["npy"], tmp_path / "set", "packed", "--coadds", str(made.fake), "--overwrite") == 0
    assert "warning" not in capsys.readouterr().err
    assert content_of(tmp_path / "set") == content_of(sets["packed"])


def test_the_log_of_the_test_set_goes_along(sets, tmp_path):
    """Scores are valid for either form, and earlier evaluations count; none is counted twice."""
    source = tmp_path / "source"
    shutil.copytree(sets["npy"], source)
    whole = open_training_set(source)
    record_report(whole, ["one"], 0.02)
    (source / LOOKS).write_text(
        (source / LOOKS).read_text() + json.dumps({"data": "other", "model": "x"}) + "\n"
    )
    assert convert(source, tmp_path / "set", "packed") == 0
    assert len((tmp_path / "set" / LOOKS).read_text().splitlines()) == 1
    record_report(whole, ["two"], 0.02)
    for _ in range(2):  # there is nothing else to do
        assert convert(source, tmp_path / "set", "packed") == 0
    made_here = open_training_set(tmp_path / "set")
    assert len((tmp_path / "set" / LOOKS).read_text().splitlines()) == 2
    assert len(record_report(made_here, ["two"], 0.02).openings) == 2


def test_a_converted_set_that_lacks_a_shard(sets, tmp_path, capsys):
    assert convert(sets["npy"], tmp_path / "set", "packed") == 0
    min((tmp_path / "set").glob("x*.npz")).unlink()
    assert convert(sets["npy"], tmp_path / "set", "packed") == 1
    assert "is not there; make the set again (--overwrite)" in capsys.readouterr().err


def bytes_of_stamps(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("x*"))


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_an_interrupted_conversion_goes_on(made, sets, tmp_path, monkeypatch):
    """Sound shards are kept, damaged ones are written again."""
    outdir, coadds = tmp_path / "set", ("--coadds", str(made.fake))
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "finish_conversion", interrupted)
        assert convert(sets["npy"], outdir, "packed", *coadds) != 0
    paths = sorted(outdir.glob("x*.npz"))
    kept = {path: path.stat().st_mtime_ns for path in paths[1:]}
    paths[0].write_bytes(paths[0].read_bytes()[:-9])
    assert convert(sets["npy"], outdir, "packed", *coadds) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert content_of(outdir) == content_of(sets["packed"])


def test_a_conversion_that_goes_on_with_coadds(made, sets, tmp_path, monkeypatch):
    """Shards packed as floats are packed again; those packed as integers are kept without coadds."""
    outdir, coadds = tmp_path / "set", ("--coadds", str(made.fake))
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "finish_conversion", interrupted)
        assert convert(sets["npy"], outdir, "packed") != 0
        floats = bytes_of_stamps(outdir)
        assert convert(sets["npy"], outdir, "packed", *coadds) != 0
        assert bytes_of_stamps(outdir) < 0.8 * floats
    assert convert(sets["npy"], outdir, "packed") == 0
    assert content_of(outdir) == content_of(sets["packed"])


def test_what_cannot_be_converted(sets, tmp_path, capsys):
    source = tmp_path / "source"
    shutil.copytree(sets["npy"], source)
    assert convert(source, source / "inside", "packed") == 1
    assert "lies in the training set that is read" in capsys.readouterr().err
    path = source / "xtrain_1.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert convert(source, tmp_path / "set", "packed") == 1
    assert "xtrain_1.npy: checksum differs" in capsys.readouterr().err
    assert not (tmp_path / "set" / MANIFEST).exists()
