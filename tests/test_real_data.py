"""create_training on the real pipeline output beside the repository; skipped where that is absent."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from obiwan.dplearn import evaluate
from obiwan.dplearn.create_training import main
from obiwan.dplearn.referees.measured import concatenate, measure_set
from obiwan.dplearn.retraining.planting import galaxy_of, model_of
from obiwan.dplearn.survey.cutouts import centre_pixel
from obiwan.dplearn.survey.layouts import RELEASE, BrickRun, Root, find_runs, identify
from obiwan.dplearn.survey.rendering import circularised
from obiwan.dplearn.trainingset.stampset import open_training_set
from synthetic import Place, Reader

pytestmark = pytest.mark.data

SPLITS = ("train", "val", "test")
ONE_BRICK = ("--select", "none", "--split", "object", "--shard-size", "7")


def sources_of(outdir: Path) -> np.ndarray:
    with fits.open(outdir / "sources.fits", character_as_bytes=True) as hdus:
        return np.array(hdus[1].data.view(np.ndarray))


def check(outdir: Path, coadd_of: Callable[[int, str, str], Path]) -> np.ndarray:
    """Compare every cutout with an independent reading of its coadd; returns the source table."""
    reader, rows, seen = Reader(), sources_of(outdir), 0
    for split in SPLITS:
        for path in sorted(outdir.glob(f"x{split}_*.npy")):
            number = int(path.stem.split("_")[1])
            x, y = np.load(path), np.load(outdir / f"y{split}_{number}.npy")
            mine = rows[(rows["split"] == split.encode()) & (rows["shard"] == number)]
            assert mine["row"].tolist() == list(range(len(x)))
            assert mine["label"].tolist() == y.tolist()
            for row, stamp in zip(mine, x, strict=True):
                brick, run = row["brick"].decode().strip(), row["run"].decode().strip()
                directory = coadd_of(int(row["root"]), brick, run)
                np.testing.assert_array_equal(stamp, reader.stamp(directory, brick, row["x"], row["y"]))
            seen += len(x)
    assert seen == len(rows) > 0
    assert len({tuple(row[["root", "brick", "run", "id", "label"]]) for row in rows}) == len(rows)
    return rows


def fluxes_agree(rows: np.ndarray, outdir: Path) -> None:
    """The light of an example is in the middle of its stamp: the centring is right on real data too."""
    for split in SPLITS:
        for path in sorted(outdir.glob(f"x{split}_*.npy")):
            number = int(path.stem.split("_")[1])
            mine = rows[(rows["split"] == split.encode()) & (rows["shard"] == number)]
            for row, stamp in zip(mine, np.load(path), strict=True):
                if row["flux_r"] > 5 and row["flags"] == 0:
                    core = stamp[28:37, 28:37, 1]
                    j, i = np.unravel_index(core.argmax(), core.shape)
                    assert max(abs(int(j) - 4), abs(int(i) - 4)) <= 2


def test_three_legacysim_regions_together(shared_data, tmp_path):
    """One region has no recovered fake, one is northern: together they make a set."""
    regions = sorted((shared_data / "injected_legacysim").iterdir())
    given = ["--fake", *map(str, regions), "--outdir", str(tmp_path / "out"), *ONE_BRICK, "--edge", "pad"]
    assert main(given) == 0
    rows = check(
        tmp_path / "out", lambda root, brick, run: Place("legacysim", regions[root], brick, run).coadd
    )
    fluxes_agree(rows, tmp_path / "out")
    assert len(set(rows["brick"])) > 1
    fakes = rows[rows["label"] == 1]
    assert (fakes["match_dist"] <= 1.5).all()
    assert (rows["label"] == 0).sum() == len(fakes)


@pytest.mark.parametrize("edge", ["drop", "pad"])
def test_packed_shards_of_real_coadds(edge, shared_data, tmp_path):
    """The same stamps as plain files hold; all pixels that are not 0 are integers of their tiles."""
    region = shared_data / "injected_legacysim" / "decals_grz"
    for form in ("npy", "packed"):
        given = ["--fake", str(region), "--outdir", str(tmp_path / form), *ONE_BRICK, "--edge", edge]
        assert main([*given, "--shards", form]) == 0
    plain, packed = (open_training_set(tmp_path / form) for form in ("npy", "packed"))
    assert plain.checksum == packed.checksum
    for shard in packed.shards:
        stamps, _ = packed.read(shard)  # which compares them with the checksum of the plain file
        with np.load(tmp_path / "packed" / shard.x_name) as file:
            assert file["lost"].sum() <= np.count_nonzero(stamps == 0)
    size = {form: sum(p.stat().st_size for p in (tmp_path / form).glob("x*")) for form in ("npy", "packed")}
    assert size["npy"] > 2.5 * size["packed"]  # of some ten stamps, whose tables count


@pytest.mark.parametrize("reals_from", ["injected", "release"])
@pytest.mark.parametrize("release", ["release_dr9", "release_dr10"])
def test_original_obiwan_with_a_release(release, reals_from, shared_data, tmp_path, capsys):
    fake, real = shared_data / "injected_obiwan/decals_grz", shared_data / release / "decals_grz"
    given = ["--fake", str(fake), "--real", str(real), "--outdir", str(tmp_path / "out"), *ONE_BRICK]
    assert main([*given, "--edge", "pad", "--reals-from", reals_from]) == 0

    def coadd(root: int, brick: str, run: str) -> Path:
        kind = "release" if run == "release" else "obiwan"
        return Place(kind, (fake, real)[root], brick, run).coadd

    rows = check(tmp_path / "out", coadd)
    real_runs = set(rows["run"][rows["label"] == 0])
    assert (real_runs == {b"release"}) == (reals_from == "release")
    assert ("systematic D9" in capsys.readouterr().err) == (reals_from == "release")


def test_the_original_tree_alone_is_refused(shared_data, tmp_path, capsys):
    fake = shared_data / "injected_obiwan/decals_grz"
    assert main(["--fake", str(fake), "--outdir", str(tmp_path / "out"), *ONE_BRICK]) == 1
    assert "fitted only blobs that hold an injection" in capsys.readouterr().err


def test_exposures_of_real_bricks(shared_data, tmp_path):
    """Two regions of different cameras: as many rows as their CCD tables have different exposures."""
    regions = [shared_data / "injected_legacysim" / name for name in ("decals_grz", "mzlsbass2")]
    given = ["--fake", *map(str, regions), "--outdir", str(tmp_path / "out"), *ONE_BRICK, "--edge", "pad"]
    assert main(given) == 0
    rows = open_training_set(tmp_path / "out").read_exposures()
    expected = set()
    for path in (path for region in regions for path in region.glob("*/coadd/*/*/*-ccds.fits")):
        with fits.open(path) as hdus:
            table, brick = hdus[1].data, path.name.split("-")[1]
            expected |= {(brick, row["camera"].strip(), int(row["expnum"])) for row in table}
    assert {(row["brick"].decode(), row["camera"].decode(), int(row["expnum"])) for row in rows} == expected
    assert len(rows) == len(expected) > 4
    assert {row["camera"] for row in rows} >= {b"decam", b"90prime", b"mosaic"}


def test_early_tree_on_truth_centres(shared_data, tmp_path, capsys):
    fake, real = shared_data / "injected_obiwan/decals_grz_early", shared_data / "release_dr9/decals_grz"
    given = ["--fake", str(fake), "--real", str(real), "--outdir", str(tmp_path / "out"), *ONE_BRICK]
    assert main([*given, "--edge", "pad"]) == 1
    assert "use --centers truth" in capsys.readouterr().err
    assert main([*given, "--edge", "pad", "--centers", "truth"]) == 0
    assert "early-coadds tree" in capsys.readouterr().err
    rows = check(tmp_path / "out", lambda _root, brick, run: Place("obiwan", fake, brick, run).coadd)
    assert set(rows["mag_source"][rows["label"] == 1]) == {b"truth"}


def test_no_fake_was_recovered(shared_data, tmp_path, capsys):
    fake = shared_data / "injected_legacysim/testcase6"
    assert main(["--fake", str(fake), "--outdir", str(tmp_path / "out"), *ONE_BRICK, "--edge", "pad"]) == 1
    printed = capsys.readouterr()
    assert "no fake example survives (none is left after 'recovered" in printed.err
    assert "Traceback" not in printed.err
    assert printed.out.startswith("after the cut")
    assert not (tmp_path / "out").exists()


def test_one_band_only(shared_data, tmp_path, capsys):
    fake = shared_data / "injected_obiwan/decals_z"
    given = ["--fake", str(fake), "--outdir", str(tmp_path / "out"), *ONE_BRICK]
    assert main([*given, "--real", str(shared_data / "release_dr9/decals_z")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "band g, r; there are z" in line
    assert "--bands" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("release", ["release_dr9", "release_dr10"])
def test_pixels_of_the_catalogue(release, shared_data):
    """Our positions agree with the pipeline's own bx, by: 0-based, whatever the zoom."""
    from obiwan.dplearn.stampspec import StampSpec
    from obiwan.dplearn.survey.coadds import read_frame

    compared = 0
    for region in sorted((shared_data / release).iterdir()):
        if region.name == "decals_z":
            continue
        for path, layout in identify(region):
            assert layout is RELEASE
            for run in find_runs(Root(0, path, layout)):
                assert isinstance(run, BrickRun)
                table = fits.getdata(run.tractor, 1)
                x, y = read_frame(run, StampSpec()).pixels(table["ra"], table["dec"])
                np.testing.assert_allclose(x, table["bx"], atol=1e-3)
                np.testing.assert_allclose(y, table["by"], atol=1e-3)
                compared += len(table)
    assert compared > 20


@pytest.mark.parametrize("region", ["decals_grz", "mzlsbass2"])
def test_the_model_of_the_positive_control_is_the_galaxy(region, shared_data, tmp_path):
    """Elongated galaxies: less their model, nearly noise is left; not so with the radius of a circle."""
    words = ["--fake", str(shared_data / "injected_legacysim" / region), "--outdir", str(tmp_path / "set")]
    words += ["--real", str(shared_data / "release_dr9" / region), "--balance", "none", "--edge", "pad"]
    assert main([*words, *ONE_BRICK]) == 0
    training_set, core = open_training_set(tmp_path / "set"), (slice(24, 41), slice(24, 41))
    left = []
    for shard in training_set.shards:
        rows = training_set.only([shard]).rows(shard.split)
        for row, stamp in zip(rows, training_set.read(shard)[0].astype(float), strict=True):
            if not 0.25 < np.hypot(row["e1"], row["e2"]) < 0.8 or row["flux_r"] > 100:
                continue
            image, ivar = stamp[core][..., :3], stamp[core][..., 3:]
            galaxy = galaxy_of(row, training_set.spec)
            ratio = float(circularised(1.0, galaxy.e1, galaxy.e2))
            models = (
                0,
                model_of(galaxy, training_set.spec)[core],
                model_of(replace(galaxy, radius=galaxy.radius / ratio), training_set.spec)[core],
            )
            light, model, round_one = (
                float(((image - m) ** 2 * ivar).sum() / (ivar > 0).sum()) - 1 for m in models
            )
            if light > 1:
                left.append((model / light, round_one / light))
    assert left
    model, round_one = np.median(left, axis=0)
    assert model < 0.1
    assert model < 0.5 * round_one


def fitted_positions(tree: Path, outdir: Path, *options: str) -> tuple[np.ndarray, float]:
    """Fitted less true positions of injections (px), shape (2, n), and the error of a fit."""
    words = ("--centers", "truth", "--balance", "none", "--size", "32", *ONE_BRICK)
    assert main(["--fake", str(tree), "--outdir", str(outdir), *words, *options]) == 0
    stamps = open_training_set(outdir)
    rows = stamps.examples()
    fitted = concatenate([measure_set(stamps, split) for split in SPLITS]).fits
    assert np.quantile(fitted.chi2 / fitted.pixels, 0.9) < 1.3  # neighbours, masks, noise of a real pipeline
    error = fitted.errors()[:, fitted.names.index("x")]
    sharp = (rows["label"] == 1) & (error < 0.25)
    assert sharp.sum() >= 8
    moved = [(fitted.column(name) - rows[name] + centre_pixel(rows[name]))[sharp] for name in ("x", "y")]
    return np.array(moved), float(np.sqrt(np.mean(error[sharp] ** 2)))


def test_the_galaxy_fit_tells_wrong_injectors_from_a_right_one(shared_data, tmp_path):
    """GalSim stamps of legacysim apply the sub-pixel shift twice: 0.29 px rms a side; tractor ones do not."""
    names = ("injected_legacysim", "injected_legacysim_tractor")
    twice, once = (fitted_positions(shared_data / name / "decals_grz", tmp_path / name) for name in names)
    wrong, right = (float(np.sqrt(np.mean(moved**2))) for moved, _ in (twice, once))
    assert np.sqrt(wrong**2 - twice[1] ** 2) == pytest.approx(0.29, abs=0.1)
    assert right < 1.2 * once[1]


def test_the_galaxy_fit_finds_the_offset_of_2018(shared_data, tmp_path):
    """The injector of 2018 puts the light 1.3 to 1.6 px beside the truth, in x and in y."""
    tree, real = shared_data / "injected_obiwan" / "decals_grz", shared_data / "release_dr9" / "decals_grz"
    moved, _ = fitted_positions(tree, tmp_path / "out", "--real", str(real), "--edge", "pad")
    assert np.median(moved, axis=1) == pytest.approx([1.45, 1.45], abs=0.3)


# --- verdicts: two injectors on truth centres, against each other and against the release ------------


def ruled(outdir: Path, *words: str) -> tuple[dict[str, Any], dict[tuple[str, str], dict[str, Any]]]:
    """Numbers of an evaluation on truth centres, and its controls by name and band."""
    given = ["--centers", "truth", *ONE_BRICK, "--edge", "pad", "--test-fraction", "0.5"]
    assert main([*words, *given, "--allow-injected-neighbours", "--outdir", str(outdir)]) == 0
    asked = ["--referees", "scores", "--sensitivity", "none", "--jobs", "1"]
    assert evaluate.main(["--data", str(outdir), "--outdir", str(outdir / "report"), *asked]) == 0
    found = json.loads((outdir / "report" / "metrics.json").read_text())
    return found, {(one["name"], one["band"]): one for one in found["controls"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "other"), [("--real", "release_dr9"), ("--real-injected", "injected_legacysim_tractor")]
)
def test_a_verdict_on_the_injector_of_2018(option, other, shared_data, tmp_path):
    """Its light is 1.3 to 1.6 px off; catalogues of two releases have other PSF widths."""
    fake, real = shared_data / "injected_obiwan" / "decals_grz", shared_data / other / "decals_grz"
    found, controls = ruled(tmp_path / "set", "--fake", str(fake), option, str(real))
    assert found["ruling"]["kind"] == "invalid set"
    for axis in ("x", "y"):
        one = controls[f"fit minus truth, {axis}", ""]
        assert (one["state"], one["effect"]) == ("FAIL", pytest.approx(1.5, abs=0.2))
        assert controls[f"centroid {axis}", "r"]["effect"] == pytest.approx(1.5, abs=0.3)
        assert controls[f"centroid {axis}", "r"]["state"] == "FAIL"
    assert controls["PSF width", "r"]["state"] == "FAIL"


@pytest.mark.slow
def test_a_verdict_on_two_kinds_of_stamps(shared_data, tmp_path):
    """GalSim stamps of legacysim against tractor's: far too few to tell, and nothing fails by the way."""
    fake, real = (shared_data / f"injected_legacysim{kind}" / "decals_grz" for kind in ("", "_tractor"))
    found, controls = ruled(tmp_path / "set", "--fake", str(fake), "--real-injected", str(real))
    assert found["ruling"]["kind"] == "inconclusive"
    assert controls["run", ""]["obstacle"] == "TWO_INJECTORS"
    assert {one["state"] for one in controls.values()} <= {"OPEN", "PASS", "NOT_RUN"}
    assert controls["centroid x", "r"]["low"] < 0 < controls["centroid x", "r"]["high"]
