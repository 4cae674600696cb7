"""The program ``inject`` on a small release: what is written, what is not touched, restarts, bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from obiwan.dplearn import inject
from obiwan.dplearn.injection.placement import Placement
from obiwan.dplearn.injection.sources import open_sources
from obiwan.dplearn.injection.survey import release_bricks
from obiwan.dplearn.survey.coadds import read_plane
from obiwan.dplearn.survey.layouts import BrickRun, Root, find_runs, layout_named
from released import BRICK, expected_psf, exposures, write_release
from synthetic import BANDS

RUN = "file0_rs0_skip0"
BROKEN = ["--model", "test_inject:broken"]


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> BrickRun:
    return write_release(tmp_path_factory.mktemp("release"))


def sources(path: Path, x: Any = (60.3, 140.8), y: Any = (120.6, 60.2), **columns: Any) -> Path:
    """A table of galaxies at pixels."""
    ra, dec = BRICK.sky(x, y)
    n = len(ra)
    table = {
        **{"id": np.arange(7, 7 + n), "ra": ra, "dec": dec},
        **{"flux_g": np.full(n, 20.0), "flux_r": np.full(n, 40.0), "flux_z": np.full(n, 80.0)},
        **{"sersic": np.resize([1.0, 4.0], n), "shape_r": np.resize([0.6, 0.9], n)},
        **{"shape_e1": np.resize([0.2, -0.1], n), "shape_e2": np.resize([0.0, 0.3], n), **columns},
    }
    Table({name: values for name, values in table.items() if values is not None}).write(path, overwrite=True)
    return path


def words(release: BrickRun, table: Path | str, outdir: Path, *more: str) -> list[str]:
    folder = release.root.path.parent
    start = ["--release", str(folder / "dr9"), "--sources", str(table), "--outdir", str(outdir)]
    return [*start, "--calib", str(folder / "calib"), *more]


def written(outdir: Path) -> BrickRun:
    return Root(0, outdir, layout_named("legacysim")).files(BRICK.name, RUN)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def added(release: BrickRun, outdir: Path, band: str) -> np.ndarray:
    return read_plane(written(outdir), "image", band).astype(float) - read_plane(release, "image", band)


def test_light_is_as_bright_as_asked_and_where_asked(release, tmp_path):
    """The distortion of DECam makes pixels 1.1 % larger than headers say; a PSF keeps its own centroid."""
    table = sources(tmp_path / "table.fits")
    assert inject.main(words(release, table, tmp_path / "out", "--noise", "none")) == 0
    v, u = np.mgrid[: BRICK.size, : BRICK.size]
    y, x = np.mgrid[-12:13, -12:13]
    for band, flux in (("g", 20.0), ("r", 40.0), ("z", 80.0)):
        light, expected, weights = added(release, tmp_path / "out", band), np.zeros(2), 0.0
        for one in exposures(band):
            psf = expected_psf(*(one.crpix[i] - 1 for i in (0, 1)))
            expected += np.array([(psf * x).sum(), (psf * y).sum()]) / one.sig1**2
            weights += one.sig1**-2
        for place in ((60.3, 120.6), (140.8, 60.2)):
            east, north = u - place[0], v - place[1]
            near = np.hypot(east, north) < 38
            total = light[near].sum()
            assert total / flux == pytest.approx(1.0112, abs=0.006)
            # The CCD's x runs down on the coadd, and its y to the left.
            on_ccd = -np.array([(light * north)[near].sum(), (light * east)[near].sum()]) / total
            assert on_ccd == pytest.approx(expected / weights, abs=0.05)


def test_what_is_not_injected_into_stays(release, tmp_path):
    table = sources(tmp_path / "table.fits", x=(60.3, 81.0), y=(60.0, 81.0))
    assert inject.main(words(release, table, tmp_path / "out")) == 0
    for band in BANDS:
        image, invvar = (read_plane(release, kind, band) for kind in ("image", "invvar"))
        changed, lowered = (read_plane(written(tmp_path / "out"), kind, band) for kind in ("image", "invvar"))
        assert np.abs(changed - image)[125:, 150:].max() < 6e-5
        assert (changed[:20] == 0).all()
        assert (lowered[invvar == 0] == 0).all()
        assert changed[80:84, 80:84] == pytest.approx(10, abs=2e-4)
        seen = invvar > 0
        ratio = lowered[seen] / invvar[seen]
        assert ratio.min() < 0.95
        assert ratio.max() < 1.01  # what quantisation does
    names = {path.name for path in written(tmp_path / "out").coadd.iterdir()}
    assert names == {path.name for path in release.coadd.iterdir()}
    for path in release.coadd.iterdir():
        if "-image-" not in path.name and "-invvar-" not in path.name:
            assert (written(tmp_path / "out").coadd / path.name).read_bytes() == path.read_bytes()


def cards(path: Path) -> dict[str, Any]:
    """Cards of a plane but those that its pixels decide."""
    header = fitsio.read_header(path, 1)
    skipped = ("NAXIS1", "PCOUNT", "TFORM1", "ZDITHER0", "CHECKSUM", "DATASUM")
    return {name: header[name] for name in header if name and name not in skipped}


def test_headers_are_those_of_the_release(release, tmp_path):
    assert inject.main(words(release, sources(tmp_path / "table.fits"), tmp_path / "out")) == 0
    for kind in ("image", "invvar"):
        old, new = (one.plane(kind, "r") for one in (release, written(tmp_path / "out")))
        assert "CHECKSUM" in fitsio.read_header(old, 1)  # of the release's pixels, not of these
        assert "CHECKSUM" not in fitsio.read_header(new, 1)
        assert cards(old) == cards(new)


def test_nothing_injected_is_the_release(release, tmp_path):
    """With no flux every pixel is that of the release, to half a step of its compression."""
    zero = np.zeros(2)
    table = sources(tmp_path / "table.fits", flux_g=zero, flux_r=zero, flux_z=zero)
    assert inject.main(words(release, table, tmp_path / "out")) == 0
    for band in BANDS:
        assert np.abs(added(release, tmp_path / "out", band)).max() < 6e-5
        old, new = (read_plane(one, "invvar", band) for one in (release, written(tmp_path / "out")))
        assert new == pytest.approx(old, rel=7e-3)


def test_truth_and_manifest_say_what_was_drawn(release, tmp_path):
    table = sources(tmp_path / "table.fits", age=np.array([3.0, 4.0]))
    assert inject.main(words(release, table, tmp_path / "out")) == 0
    (run,) = find_runs(Root(0, tmp_path / "out", layout_named("legacysim")))
    assert run.truth is not None
    truth, header = fitsio.read(run.truth), fitsio.read_header(run.truth)
    assert truth["bx"].tolist() == pytest.approx([60.3, 140.8], abs=1e-4)
    assert truth["id"].tolist() == [7, 8]
    assert truth["age"].tolist() == [3, 4]
    assert not truth["collided"].any()
    assert (header["PSF_G"], header["NOISE"], header["MODEL"]) == ("psfex", "poisson", "sersic")
    manifest = json.loads((tmp_path / "out" / "injection.json").read_text())
    entry = manifest["injected"][BRICK.name]
    assert entry["runs"][RUN]["injected"] == 2
    assert {facts["psf"] for facts in entry["bands"].values()} == {"psfex"}
    assert entry["bands"]["g"]["psf_rests_on"] == 2
    assert len(entry["bands"]["g"]["electrons"]) == 2
    assert run.tractor is not None
    assert len(fitsio.read(run.tractor)) == entry["runs"][RUN]["catalogue"] >= 2


def test_the_noise_of_an_object_is_its_own(release, tmp_path):
    """Whatever else is injected, in which order, and however many work."""
    x, y = np.array([50.3, 150.1, 150.2]), np.array([50.0, 50.0, 150.3])
    table = sources(tmp_path / "one.fits", x, y)
    order = [2, 0]
    other = sources(
        tmp_path / "two.fits",
        x[order],
        y[order],
        id=np.array([9, 7]),
        sersic=np.array([1.0, 1.0]),
        shape_r=np.array([0.6, 0.6]),
        shape_e1=np.array([0.2, 0.2]),
        shape_e2=np.zeros(2),
    )
    assert inject.main(words(release, table, tmp_path / "out1")) == 0
    assert inject.main(words(release, other, tmp_path / "out2", "--jobs", "2")) == 0
    first, second = added(release, tmp_path / "out1", "r"), added(release, tmp_path / "out2", "r")
    assert np.abs(first - second)[20:100, :100].max() < 1e-4
    assert np.abs(first - second)[100:, 100:].max() < 1e-4
    assert np.abs(first - second)[20:100, 100:].max() > 0.1
    third = inject.main(words(release, table, tmp_path / "out3", "--seed", "1"))
    assert third == 0
    noise = first - added(release, tmp_path / "out3", "r")
    assert 0.01 < np.abs(noise).max() < 0.3


def test_interrupted_and_started_again_gives_the_same_bytes(release, tmp_path, capsys):
    table = sources(tmp_path / "table.fits")
    given = words(release, table, tmp_path / "out")
    assert inject.main(given) == 0
    whole = contents(tmp_path / "out")
    half = tmp_path / "half"
    # As a kill leaves it: the record of the request, some files, no receipt.
    assert inject.main(words(release, table, half, "--seed", "0")) == 0
    record = json.loads((half / "injection.json").read_text())
    (half / "injection.json").unlink()
    (half / ".work").mkdir()
    keys = ("program", "package_version", "release", "bricks", "sources", "calib", "config")
    (half / ".work" / "injection.json").write_text(json.dumps({key: record[key] for key in keys}))
    written(half).plane("image", "z").unlink()
    assert inject.main(words(release, table, half)) == 0
    assert contents(half) == whole
    # Killed after the brick was done: it is not done again, unless what was read then has changed.
    entry = record["injected"][BRICK.name]
    for content, again in ((entry["content"], False), (entry["content"] + 1, True)):
        (half / ".work" / "bricks").mkdir(parents=True)
        receipt = half / ".work" / "bricks" / f"{BRICK.name}.json"
        receipt.write_text(json.dumps({**entry, "content": content}))
        (half / "injection.json").rename(half / ".work" / "injection.json")
        written_at = written(half).plane("image", "z").stat().st_mtime_ns
        assert inject.main(words(release, table, half)) == 0
        assert contents(half) == whole
        assert (written(half).plane("image", "z").stat().st_mtime_ns != written_at) == again
    assert inject.main(words(release, table, half)) == 0  # nothing to do
    assert inject.main(words(release, table, half, "--seed", "3")) == 1
    assert "holds another set of injections (config.seed was 0, is 3)" in capsys.readouterr().err
    assert inject.main(words(release, table, half, "--seed", "3", "--overwrite")) == 0


def killed_at(write: int, given: list[str]) -> bool:
    """Run in a process of its own that is killed before so many files have their names; whether it was."""
    child = os.fork()
    if child == 0:
        replace, left = Path.replace, iter(range(write, 0, -1))

        def mortal(path: Path, target: Path) -> Path:
            if next(left, 0) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(path, target)

        Path.replace = mortal  # type: ignore[method-assign]
        os._exit(inject.main(given))
    status = os.waitpid(child, 0)[1]
    return os.WIFSIGNALED(status)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_killed_at_any_file_it_ends_with_the_same_bytes(release, tmp_path):
    table = sources(tmp_path / "table.fits")
    assert inject.main(words(release, table, tmp_path / "out")) == 0
    whole, given = contents(tmp_path / "out"), words(release, table, tmp_path / "killed")
    for write in (1, 4, 10, 16):  # the request, a plane, what is copied, the receipt
        assert killed_at(write, given)
        assert not (tmp_path / "killed" / "injection.json").exists()
    assert inject.main(given) == 0
    assert contents(tmp_path / "killed") == whole


def refuses_another(path: Path, given: list[str], capsys: Any) -> bool:
    """Whether a finished tree is refused while other bytes are at the end of a file that was read."""
    whole = path.read_bytes()
    path.write_bytes(whole[:-3000] + whole[-3000:].replace(b"\0", b"\1"))
    status = inject.main(given)
    path.write_bytes(whole)
    return status == 1 and f"truth of brick {BRICK.name} were other files; choose" in capsys.readouterr().err


def test_a_finished_tree_of_files_that_were_replaced_is_refused(release, tmp_path, capsys):
    """The request is the same, the release is another one of the same name."""
    for part in ("dr9", "calib"):
        shutil.copytree(release.root.path.parent / part, tmp_path / part)
    given = ["--release", tmp_path / "dr9", "--sources", sources(tmp_path / "table.fits")]
    given = [*map(str, [*given, "--outdir", tmp_path / "out"])]
    assert inject.main(given) == 0
    (tmp_path / "out" / ".work" / "running").mkdir(parents=True)  # as a kill at the very end leaves it
    assert inject.main(given) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert not (tmp_path / "out" / ".work").exists()
    run = Root(0, tmp_path / "dr9", release.root.layout).files(BRICK.name)
    psfex = next(path for path in (tmp_path / "calib").rglob("*.fits"))
    for path in (run.plane("invvar", "r"), run.ccds(), psfex):
        assert refuses_another(path, given, capsys)
    assert inject.main(given) == 0


def test_a_finished_tree_of_another_catalogue_truth_or_copsf_image_is_refused(release, tmp_path, capsys):
    """The truth is drawn again; the catalogue gives extinctions and stars, the image the PSF."""
    assert inject.main(words(release, sources(tmp_path / "table.fits"), tmp_path / "first")) == 0
    first = written(tmp_path / "first")
    shutil.copytree(release.root.path, tmp_path / "dr9")
    run = Root(0, tmp_path / "dr9", release.root.layout).files(BRICK.name)
    run.tractor.parent.mkdir(parents=True)
    shutil.copy(first.tractor, run.tractor)
    copsf = run.coadd / f"legacysurvey-{BRICK.name}-copsf-r.fits"
    fits.PrimaryHDU(psf_of_mine()).writeto(copsf)
    given = ["--release", tmp_path / "dr9", "--sources", tmp_path / "first", "--outdir", tmp_path / "out"]
    given = [*map(str, given)]
    assert inject.main(given) == 0
    for path in (run.tractor, first.truth, copsf):
        assert refuses_another(path, given, capsys)
    assert inject.main(given) == 0


def test_a_tree_of_other_stamps_or_another_function_is_refused(release, tmp_path, monkeypatch, capsys):
    """A finished tree, or one that was interrupted: a model that was corrected must not be mixed with it."""
    monkeypatch.syspath_prepend(tmp_path)
    code, stamp = tmp_path / "my_models.py", tmp_path / "stamp.fits"
    text = "import numpy as np\n\ndef draw(n, brick, rng):\n    return {'flux_r': np.full(n, 9.0)}\n\n"
    code.write_text(text + "def trail(row, band, rng):\n    return np.full((1, 31), 0.5)\n")
    fits.PrimaryHDU(np.ones((5, 5)), fits.Header({"PIXSCALE": 0.2})).writeto(stamp)
    table = sources(tmp_path / "table.fits", stamp=np.full(2, str(stamp)))
    given = {
        "model": (table, "--model", "my_models:trail"),
        "stamps": (table, "--model", "stamps"),
        "drawn": ("my_models:draw", "--model", "star", "--density", "3000"),
    }

    def rerun(name: str, status: int) -> str:
        what, *more = given[name]
        assert inject.main(words(release, what, tmp_path / name, "--bands", "r", *more)) == status
        return "".join(capsys.readouterr())

    for name in given:
        rerun(name, 0)
        assert "nothing to do" in rerun(name, 0)
    code.write_text(code.read_text().replace("0.5", "0.6"))
    fits.PrimaryHDU(np.eye(5), fits.Header({"PIXSCALE": 0.2})).writeto(stamp, overwrite=True)
    assert "functions.my_models:trail was " in rerun("model", 1)
    assert "sources was table.fits:" in rerun("stamps", 1)
    assert "sources was my_models:draw:" in rerun("drawn", 1)


def test_a_brick_that_a_band_does_not_touch_is_left_out(release, tmp_path, capsys):
    for part in ("dr9", "calib"):
        shutil.copytree(release.root.path.parent / part, tmp_path / part)
    root, other = Root(0, tmp_path / "dr9", release.root.layout), "1103p235"
    partial = root.files(other)
    shutil.copytree(root.files(BRICK.name).coadd, partial.coadd)
    for path in partial.coadd.iterdir():
        path.rename(path.with_name(path.name.replace(BRICK.name, other)))
    for kind in ("image", "invvar"):
        partial.plane(kind, "z").unlink()
    with fitsio.FITS(partial.plane("image", "g"), "rw") as file:
        file[1].write_key("BRICK_Z", value=False)
    given = ["--release", tmp_path / "dr9", "--sources", sources(tmp_path / "table.fits"), "--outdir"]
    given = [*map(str, given)]
    assert inject.main([*given, str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "bricks left out, not observed in every band: 1\n" in said.out
    assert f"left out: brick {other} (release): band z missing" in said.err
    record = json.loads((tmp_path / "out" / "injection.json").read_text())
    assert list(record["injected"]) == [BRICK.name]
    assert list(record["left_out"]) == [other]
    assert {run.brick for run in find_runs(Root(0, tmp_path / "out", layout_named("legacysim")))} == {
        BRICK.name
    }
    assert inject.main([*given, str(tmp_path / "out")]) == 0
    assert inject.main([*given, str(tmp_path / "none"), "--bricks", other]) == 1
    assert f"inject: error: brick {other} (release): band z missing" in capsys.readouterr().err
    assert not (tmp_path / "none" / "injection.json").exists()


def test_of_a_brick_in_north_and_south_the_first_is_taken(release, tmp_path):
    for region in ("north", "south"):
        shutil.copytree(release.root.path, tmp_path / "dr9" / region)
    table = open_sources(str(sources(tmp_path / "table.fits")), Placement())
    (run,) = release_bricks(tmp_path / "dr9", None, table)
    assert run.root.path.name == "north"


def galaxy(row: Any, band: str, *_: Any) -> Any:
    import galsim

    return galsim.Exponential(half_light_radius=0.5, flux=row[f"flux_{band}"])


def trail(*_: Any) -> Any:
    return np.full((1, 31), 0.5)


def broken(row: Any, *_: Any) -> Any:
    what = {7: np.full((3, 3), np.nan), 8: np.zeros(3)}
    if row["id"] not in what:
        raise RuntimeError("no such model")
    return what[row["id"]]


def bright(*_: Any) -> Any:
    return np.full((3, 3), 1e38)


def unknown(row: Any, band: str, *_: Any) -> Any:
    import galsim

    return galsim.Exponential(half_light_radius=0.5) * row[f"flux_{band}"] * np.nan


def imaginary(*_: Any) -> Any:
    return np.full((3, 3), 1j)


def picture(*_: Any) -> Any:
    import galsim

    return galsim.Exponential(half_light_radius=0.5).drawImage(scale=0.262)


def brightening(row: Any, band: str, *_: Any) -> Any:
    row[f"flux_{band}"] *= 2
    return galaxy(row, band)


def leaving(*_: Any) -> Any:
    sys.exit(0)


def psf_of_mine(*_: Any) -> np.ndarray:
    v, u = np.mgrid[-20:21, -20:21]
    return np.exp(-0.5 * (u**2 + v**2) / 2.0**2)


def test_functions_of_the_user_are_drawn(release, tmp_path):
    here = "test_inject"
    table = sources(tmp_path / "table.fits")
    given = ("--noise", "none", "--psf", f"{here}:psf_of_mine")
    for name in ("galaxy", "trail"):
        assert inject.main(words(release, table, tmp_path / name, "--model", f"{here}:{name}", *given)) == 0
    light = added(release, tmp_path / "galaxy", "r")
    assert light[100:140, 40:80].sum() == pytest.approx(40, rel=0.01)
    v, u = np.mgrid[: BRICK.size, : BRICK.size]
    near = np.hypot(u - 60.3, v - 120.6) < 20
    assert (light * (u - 60.3))[near].sum() / light[near].sum() == pytest.approx(0, abs=0.02)
    light = added(release, tmp_path / "trail", "r")
    assert light[121, 45:76] == pytest.approx(0.5, abs=1e-4)
    assert np.abs(light[119:124, 30:90]).sum() == pytest.approx(15.5, abs=0.05)


def test_stars_and_stamps_are_drawn(release, tmp_path, capsys):
    """A stamp of a known profile on pixels of its own equals that profile."""
    import galsim

    profile = galsim.Convolve(galsim.Exponential(half_light_radius=0.6), galsim.Gaussian(sigma=0.1))
    stamp = profile.drawImage(nx=101, ny=101, scale=0.1, method="no_pixel").array
    header = fits.Header({"PIXSCALE": 0.1})
    fits.PrimaryHDU(stamp, header).writeto(tmp_path / "stamp.fits")
    fits.PrimaryHDU(stamp).writeto(tmp_path / "bare.fits")
    given = ("--noise", "none", "--psf", "test_inject:psf_of_mine")
    table = sources(tmp_path / "bare.csv", stamp=np.full(2, str(tmp_path / "bare.fits")))
    assert inject.main(words(release, table, tmp_path / "bare", "--model", "stamps", *given)) == 1
    assert "bare.fits: no pixel scale; give the card PIXSCALE" in capsys.readouterr().err
    table = sources(tmp_path / "table.fits", stamp=np.full(2, str(tmp_path / "stamp.fits")))
    for model in ("star", "stamps"):
        assert inject.main(words(release, table, tmp_path / model, "--model", model, *given)) == 0
    star, galaxy = (added(release, tmp_path / model, "r") for model in ("star", "stamps"))
    psf = galsim.Gaussian(sigma=2 * 0.262)
    for light, source in ((star, galsim.DeltaFunction()), (galaxy, profile)):
        image = galsim.Image(41, 41, xmin=40, ymin=101, scale=0.262, dtype=float)
        whole = galsim.Convolve(source, psf).withFlux(40)
        whole.drawImage(image=image, method="no_pixel", center=galsim.PositionD(60.3, 120.6))
        assert light[101:142, 40:81] == pytest.approx(image.array, abs=0.003 * image.array.max())


@pytest.mark.parametrize(
    ("given", "columns", "message"),
    [
        (["--psf", "psfex", "--calib", "."], {}, "no PSFEx file of decam 1000 S9, such as psfex/decam"),
        (["--calib", "nowhere"], {}, "--calib nowhere: no such directory; give the one that has psfex, or"),
        (["--psf", "copsf"], {}, f"brick {BRICK.name}, band g: the release has no copsf image; choose"),
        (["--psf", "stars"], {}, "too few isolated point sources"),
        (["--bands", "g", "i"], {"flux_i": np.ones(2)}, "band i missing"),
        ([], {"sersic": np.array([1.0, 9.0])}, f"brick {BRICK.name} ({RUN}), band g, source 8, row 2: "),
        (BROKEN, {}, "source 7, row 1: cannot be drawn (it gave pixels that are not finite)"),
        (BROKEN, {"id": [8, 9]}, "source 8, row 1: cannot be drawn (it gave ndarray, an array of shape (3,)"),
        (BROKEN, {"id": [9, 7]}, "source 9, row 1: cannot be drawn (no such model)"),
        ([], {"dec": np.array([23.5, 24.5])}, "1 row(s) lie in no brick of the release (2); remove them"),
        ([], {"flux_g": None}, "flux_g"),
        ([], {"flux_g": [1.0, np.nan]}, "table.fits: brick 1102p235 (release): row 2: flux_g or"),
        ([], {"mag_g": np.full(2, 18.0)}, "table.fits: flux_g and mag_g are both there; remove one"),
        (["--density", "9"], {}, "--density: --sources "),
        (["--model", "test_inject:bright"], {}, "source 7, row 1: cannot be drawn (it gives more than 1e+10"),
        (["--model", "test_inject:unknown"], {}, "source 7, row 1: cannot be drawn (its flux is nan)"),
        (["--model", "test_inject:imaginary"], {}, "an array of shape (3, 3) and type complex128; return"),
        (["--model", "test_inject:picture"], {}, "it gave Image, an array of shape () and type object"),
        (["--model", "test_inject:brightening"], {}, "cannot be drawn (assignment destination is read-only)"),
        (["--model", "test_inject:leaving"], {}, "source 7, row 1: cannot be drawn (0)"),
        (["--noise", "none", "--model", "test_inject:bright"], {}, "(it gives more than 1e+10 nanomaggies"),
        (["--bricks", "0000p000"], {}, "no brick 0000p000; choose others with --bricks"),
        (["--sources", "nowhere.fits"], {}, "nowhere.fits"),
        (["--sources", "nomodule:function"], {}, "nomodule"),
    ],
)  # fmt: skip
def test_bad_input_is_told_in_one_line(release, tmp_path, capsys, given, columns, message):
    table = sources(tmp_path / "table.fits", **columns)
    assert inject.main(words(release, table, tmp_path / "out", *given)) == 1
    (line,) = re.findall(r"^inject: error: .*", capsys.readouterr().err, re.MULTILINE)
    assert message in line


def test_without_sep_nothing_is_written(release, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sep", None)
    table = sources(tmp_path / "table.fits")
    assert inject.main(words(release, table, tmp_path / "out")) == 1
    assert "needs sep: pip install" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_runs_of_others_are_never_removed(release, tmp_path, capsys):
    kept = tmp_path / "out" / "file0_rs0_skip0" / "kept"
    kept.mkdir(parents=True)
    table = sources(tmp_path / "table.fits")
    assert inject.main(words(release, table, tmp_path / "out", "--overwrite")) == 1
    assert "file0_rs0_skip0" in capsys.readouterr().err
    assert kept.is_dir()
    assert inject.main(words(release, tmp_path / "out", tmp_path / "out", "--overwrite")) == 1
    assert "is read as well" in capsys.readouterr().err


def test_columns_of_the_table_with_names_of_the_truth_are_left_out(release, tmp_path):
    table = sources(tmp_path / "table.fits", bx=np.zeros(2), BY=np.zeros(2))
    assert inject.main(words(release, table, tmp_path / "out")) == 0
    truth = fitsio.read(written(tmp_path / "out").truth)
    assert truth["bx"] == pytest.approx([60.3, 140.8], abs=1e-3)
    assert truth["by"] == pytest.approx([120.6, 60.2], abs=1e-3)


def test_calibrations_beside_a_release_are_found(release, tmp_path, capsys):
    table = sources(tmp_path / "table.fits")
    given = ["--release", release.root.path, "--sources", table, "--outdir", tmp_path / "out"]
    assert inject.main([*map(str, given)]) == 0
    assert "PSF in g (bricks): psfex 1" in capsys.readouterr().out


def test_of_chosen_bricks_other_positions_are_left_out(release, tmp_path, capsys):
    table = sources(tmp_path / "table.fits", dec=np.array([23.5, 24.5]))
    assert inject.main(words(release, table, tmp_path / "out", "--bricks", BRICK.name)) == 0
    assert "1 sources injected into 1 bricks" in capsys.readouterr().out
    nowhere = sources(tmp_path / "nowhere.fits", dec=np.array([24.5, 24.5]))
    assert inject.main(words(release, nowhere, tmp_path / "out2", "--bricks", BRICK.name)) == 1
    assert "2 row(s) lie in no brick of the release (1, 2)" in capsys.readouterr().err


def test_without_anything_better_a_moffat_is_drawn_with_a_warning(release, tmp_path, capsys):
    table = sources(tmp_path / "table.fits")
    shutil.copytree(release.root.path, tmp_path / "dr9")
    given = ["--release", tmp_path / "dr9", "--sources", table, "--outdir", tmp_path / "out"]
    assert inject.main([*map(str, given)]) == 0
    assert (
        "1 brick(s) have a Moffat PSF in g: its shape alone lets a classifier separate stars"
        in capsys.readouterr().err
    )


def test_options_that_make_no_sense_end_at_once(release, tmp_path, capsys):
    for given in (["--model", "spiral"], ["--psf", "best"], ["--model", "nowhere:thing"]):
        with pytest.raises(SystemExit):
            inject.main(words(release, "table.fits", tmp_path / "out", *given))
        assert f"{given[0]} {given[1]}" in capsys.readouterr().err
