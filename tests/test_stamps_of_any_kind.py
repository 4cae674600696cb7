"""Training sets of any bands, planes and size: every pixel and column against an independent reading."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.io import fits

from obiwan.dplearn.create_training import main
from obiwan.dplearn.errors import CatalogError, SelectionError
from obiwan.dplearn.planning.bricks import plan_brick
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.inputs import resolve_inputs
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.stampset import open_training_set
from synthetic import Place, Reader, Survey, bricks_apart, survey

GRIZ = ("g", "r", "i", "z")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Survey:
    """Four bricks with one run, in g, r, i and z."""
    return survey(tmp_path_factory.mktemp("griz"), bricks=bricks_apart(4), runs=1, bands=GRIZ)


def words(made: Survey, outdir: Path, *more: str) -> list[str]:
    return ["--fake", str(made.fake), "--real", str(made.real), "--outdir", str(outdir), *more]


def options(spec: StampSpec) -> list[str]:
    return ["--bands", *spec.bands, "--planes", *spec.planes, "--size", str(spec.size)]


@pytest.mark.parametrize(
    "spec",
    [
        StampSpec(GRIZ),
        StampSpec(("g", "r")),
        StampSpec(("r",)),
        StampSpec(("g", "r", "z"), ("image",)),
        StampSpec(GRIZ, ("image",), 48),
        StampSpec(("g", "r", "z"), size=96),
        StampSpec(("i",), size=16),
    ],
    ids=lambda spec: f"{''.join(spec.bands)}-{spec.size}-{len(spec.planes)}",
)
def test_every_pixel_and_magnitude(spec, made, tmp_path, capsys):
    """The elg cuts need g, r and z, whatever is cut out."""
    outdir = tmp_path / "out"
    given = words(made, outdir, "--edge", "pad", "--allow-injected-neighbours", *options(spec))
    assert main(given) == 0
    others = [band for band in GRIZ if band not in spec.bands]
    said = [line for line in capsys.readouterr().err.splitlines() if "--bands does not name" in line]
    assert len(said) == (2 if others else 0)  # a line for each tree
    assert all(f" {' '.join(others)}, " in line for line in said)
    training_set = open_training_set(outdir)
    assert training_set.spec == spec
    assert training_set.manifest["config"]["size"] == spec.size
    assert all(shard.rows <= spec.stamps_per_file for shard in training_set.shards)
    kinds = ("image", "invvar") if spec.has_ivar else ("image",)
    reader, n = Reader(spec.bands, spec.size, kinds), 0
    for split in ("train", "val", "test"):
        rows = training_set.rows(split)
        stamps = training_set.stamps(split, np.arange(len(rows)))
        assert stamps.shape == (len(rows), *spec.shape)
        for row, stamp in zip(rows, stamps, strict=True):
            brick, run = row["brick"].decode(), row["run"].decode()
            coadd = Place(made.kind, made.fake, brick, run).coadd
            np.testing.assert_array_equal(stamp, reader.stamp(coadd, brick, row["x"], row["y"]))
            flux = catalogue(made, row)
            for band in spec.bands:
                assert row[f"flux_{band}"] == flux[f"flux_{band}"]
                magnitude = 22.5 - 2.5 * np.log10(flux[f"flux_{band}"] / flux[f"mw_transmission_{band}"])
                assert row[f"mag_{band}"] == pytest.approx(magnitude, abs=1e-5)
                for name in ("psfsize", "psfdepth", "nobs", "flux_ivar"):
                    assert row[f"{name}_{band}"] == flux[f"{name}_{band}"]
            n += 1
    assert n == 24


def catalogue(made: Survey, row: np.void) -> np.void:
    """The tractor row of an example: of its run if it is fake, else of the release."""
    kind, root, run = (
        (made.kind, made.fake, row["run"].decode()) if row["label"] else ("release", made.real, "")
    )
    table = fitsio.read(str(Place(kind, root, row["brick"].decode(), run).tractor))
    distance = np.hypot((table["ra"] - row["ra"]) * np.cos(np.radians(row["dec"])), table["dec"] - row["dec"])
    return table[np.argmin(distance)]


def test_the_order_of_bands_does_not_matter(made, tmp_path):
    for name, bands in (("a", "z g r"), ("b", "g r z")):
        assert main(words(made, tmp_path / name, "--bands", *bands.split(), "--size", "32")) == 0
    assert (tmp_path / "a/manifest.json").read_bytes() == (tmp_path / "b/manifest.json").read_bytes()


def test_options_of_a_file(made, tmp_path):
    (tmp_path / "mine.toml").write_text('bands = ["r", "g"]\nplanes = ["image"]\nsize = 32\n')
    assert main(words(made, tmp_path / "out", "--config", str(tmp_path / "mine.toml"))) == 0
    assert open_training_set(tmp_path / "out").spec == StampSpec(("g", "r"), ("image",), 32)


def test_an_example_needs_room_for_its_stamp(made):
    """With 96 pixels those within 48 of an edge are dropped, with 48 those within 24."""
    kept = {}
    for size in (48, 96):
        config = TrainingConfig(size=size, select="none", allow_injected_neighbours=True)
        (brick, *_) = resolve_inputs(fake=[made.fake], real=[made.real], config=config).bricks
        rows = plan_brick(brick, config).rows
        kept[size] = len(rows)
        for axis in ("x", "y"):
            assert rows[axis].min() > size // 2 - 1
            assert rows[axis].max() < 256 - size // 2 + 0.5
    assert kept[96] < kept[48]


def test_no_two_splits_share_sky_at_any_size(tmp_path):
    bricks = [
        b.__class__(b.name, 100.0 + i * 190 * 0.262 / 3600, 0.0, b.size)
        for i, b in enumerate(bricks_apart(9))
    ]
    made = survey(tmp_path, bricks=bricks, runs=1)
    kept = {}
    for size in (32, 64):
        outdir = tmp_path / str(size)
        assert main(words(made, outdir, "--balance", "none", "--size", str(size), "--seed", "5")) == 0
        with fits.open(outdir / "sources.fits") as hdus:
            rows = hdus[1].data
            x, y = -rows["ra"] * 3600 / 0.262, rows["dec"] * 3600 / 0.262
            other = rows["split"][:, None] != rows["split"]
        apart = np.maximum(np.abs(x[:, None] - x), np.abs(y[:, None] - y))[other].min()
        assert apart >= size - 0.1
        kept[size] = len(rows)
    assert kept[32] > kept[64]


# --- cuts and bands ---------------------------------------------------------------------------------


def flow_of(made: Survey, **options: object) -> dict[str, int]:
    config = TrainingConfig(**options)
    (brick, *_) = resolve_inputs(fake=[made.fake], real=[made.real], config=config).bricks
    return plan_brick(brick, config).flows["real"]


def test_cuts_name_the_bands_that_they_look_at(made):
    flow = flow_of(made, bands=("g", "i"), select="galaxies")
    assert {"flux > 0 in g, i", "flux_ivar > 0 in g, i", "invvar > 0 at the centre in g, i"} <= set(flow)
    flow = flow_of(made, bands=("i",), select="elg")
    assert {"flux > 0 in g, r, z", "nobs >= 1 in g, r, z", "invvar > 0 at the centre in i"} <= set(flow)


def test_a_users_cut_sees_the_bands_of_the_stamps_first(made, tmp_path, monkeypatch):
    lines = ["seen = []", "def cut(s):", "    seen.append((s.bands, s.mag.shape[1]))"]
    lines += ["    return s.of_band('mag', 'z') < 30"]
    (tmp_path / "cut_by_z.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    flow = flow_of(made, bands=("r", "i"), select="cut_by_z:cut")
    assert set(__import__("cut_by_z").seen) == {(("r", "i", "g", "z"), 4)}
    assert flow["cut_by_z:cut"] > 0


def without_columns(made: Survey, copied: Path, name: str) -> Survey:
    """A copy of the first brick whose injection run's catalogue lacks columns."""
    mine = Survey(copied, made.real, made.kind, made.scenes[:1], made.runs)
    for _, _, place in mine.places():
        source = Place(made.kind, made.fake, place.brick, made.runs[0])
        shutil.copytree(source.coadd, place.coadd)
        for what in ("tractor", "truth"):
            getattr(place, what).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(getattr(source, what), getattr(place, what))
        table = fitsio.read(str(place.tractor))
        kept = [column for column in table.dtype.names if not column.endswith(f"_{name}")]
        place.tractor.unlink()
        fitsio.write(str(place.tractor), table[kept])
    return mine


def test_a_catalogue_without_a_band(made, tmp_path):
    mine = without_columns(made, tmp_path / "fake", "z")
    with pytest.raises(CatalogError, match=r"brick 1000p051 .*tractor-1000p051.fits.* flux_z.*--bands"):
        flow_of(mine, bands=("g", "z"), select="none")
    with pytest.raises(SelectionError, match=r"brick 1000p051 .* g, r, z.* none in z.*--select"):
        flow_of(mine, bands=("g", "i"), select="elg")
    assert flow_of(mine, bands=("g", "i"), select="galaxies")["catalogue rows"] > 0


def test_a_brick_that_lacks_a_band_is_left_out_and_noted(made, tmp_path, capsys):
    copied = Survey(tmp_path / "fake", made.real, made.kind, made.scenes, made.runs)
    shutil.copytree(made.fake, copied.fake)
    place = next(place for _, _, place in copied.places())
    for kind in ("image", "invvar"):
        place.plane(kind, "i").unlink()
    for path in place.coadd.glob("*-[grz].fits.fz"):
        fitsio.FITS(str(path), "rw")[1].write_key("BRICK_I", False)
    assert main(words(copied, tmp_path / "grz", "--edge", "pad")) == 0
    assert main(words(copied, tmp_path / "griz", "--edge", "pad", "--bands", *GRIZ)) == 0
    assert "left out: brick 1000p051" in capsys.readouterr().err
    bricks = {}
    for name in ("grz", "griz"):
        opened = open_training_set(tmp_path / name)
        bricks[name] = {brick for split in ("train", "val", "test") for brick in opened.bricks(split)}
    assert bricks["grz"] - bricks["griz"] == {"1000p051"}


# --- writers ----------------------------------------------------------------------------------------


def test_coadds_written_otherwise_are_told_of_in_one_line(tmp_path, capsys):
    """Reals from a release of the days of dithered invvar, fakes in coadds of today."""
    bricks = bricks_apart(4)
    old = survey(tmp_path / "old", bricks=bricks, runs=1, flavour="dr8", suffix=".fits.fz")
    new = survey(tmp_path / "new", bricks=bricks, runs=1, suffix=".fits.fz")
    alike = words(Survey(new.fake, new.real, new.kind, new.scenes, new.runs), tmp_path / "alike")
    assert main([*alike, "--reals-from", "release"]) == 0
    assert "written differently" not in capsys.readouterr().err
    assert main([*words(new, tmp_path / "out"), "--reals-from", "injected"]) == 0
    mixed = Survey(new.fake, old.real, new.kind, new.scenes, new.runs)
    assert main([*words(mixed, tmp_path / "mixed"), "--reals-from", "release"]) == 0
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "written differently" in line]
    writers = json.loads((tmp_path / "mixed/manifest.json").read_text())["writers"]
    (real,), (fake,) = writers["real"], writers["fake"]
    assert real != fake
    assert any(real[name] in said and fake[name] in said for name in real if real[name] != fake[name])
    assert "D9" in said
