"""Coverage: which file decides, and what it says of every pixel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.io import fits

from obiwan.dplearn.create_training import main
from obiwan.dplearn.errors import CoaddError
from obiwan.dplearn.survey import coverage
from obiwan.dplearn.survey.coverage import find_coverage, observed, observed_plane
from obiwan.dplearn.survey.layouts import RELEASE, BrickRun, Root
from synthetic import BANDS, Place, Survey, bricks_apart, survey
from synthetic import KINDS as PLANES

SHAPE = (250, 330)  # tiles of 100 pixels, the last ones smaller
KINDS = ("all", "hole", "one", "negative", "constant", "step", "nan", "empty")


def plane(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Inverse variances as coadds have them."""
    data = (900 * (1 + 0.05 * rng.standard_normal(SHAPE))).astype("f4")
    if kind == "hole":
        data[80:140, 20:260] = 0
    elif kind == "one":
        data[150, 150] = 0
    elif kind == "negative":
        data[:100, :100] = -rng.random((100, 100))
    elif kind == "constant":
        data[:120] = 400
    elif kind == "step":
        data[:, 150:] *= 1e-4
    elif kind == "nan":
        data[30:40, 30:40], data[200, 300] = np.nan, np.nan
    elif kind == "empty":
        data[:] = 0
    return data


METHODS = ("NO_DITHER", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2")


def write(path: Path, data: np.ndarray, writer: str = "fitsio", method: str = "NO_DITHER") -> None:
    path.unlink(missing_ok=True)
    if writer == "fitsio":
        with fitsio.FITS(str(path), "rw") as file:
            options = {"compress": "rice", "tile_dims": [100, 100], "qlevel": 16, "qmethod": method}
            file.write(data, dither_seed=5 if "DITHER_" in method else None, **options)
    elif writer == "astropy":
        number = {"NO_DITHER": -1, "SUBTRACTIVE_DITHER_1": 1, "SUBTRACTIVE_DITHER_2": 2}[method]
        options = {"quantize_method": number, "quantize_level": 16, "tile_shape": (100, 100)}
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, **options)]).writeto(path)
    else:
        fits.PrimaryHDU(data).writeto(path)


def write_map(path: Path, data: np.ndarray) -> None:
    """Without loss, as the pipeline writes nexp (integers) and depth."""
    how = {"compress": "hcompress"} if data.dtype.kind in "iu" else {"compress": "gzip", "qlevel": 0}
    with fitsio.FITS(str(path), "rw") as file:
        file.write(data, tile_dims=[100, 100], **how)


def name(kind: str) -> str:
    return f"legacysurvey-0000p000-{kind}-r.fits.fz"


def written(tmp_path, data, writer: str, method: str) -> BrickRun:
    run = BrickRun(Root(0, tmp_path, RELEASE), "0000p000", "release", tmp_path, None, None, None)
    write(tmp_path / name("invvar"), data, writer, method)
    fits.PrimaryHDU(np.ones(data.shape, "f4")).writeto(tmp_path / name("image"))
    return run


def everywhere(run: BrickRun) -> np.ndarray:
    """What `observed` says of every pixel; `observed_plane` says the same."""
    y, x = (axis.ravel() for axis in np.indices(SHAPE))
    one = find_coverage(run, "r")
    found = observed(one, x, y, SHAPE).reshape(SHAPE)
    np.testing.assert_array_equal(found, observed_plane(one, SHAPE))
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("writer", ["fitsio", "astropy", "plain"])
def test_every_pixel(writer, method, kind, tmp_path, rng):
    data = plane(kind, rng)
    run = written(tmp_path, data, writer, method)
    with fits.open(tmp_path / name("invvar")) as hdus:
        stored = hdus[-1].data
    signed = writer != "plain" and method == "SUBTRACTIVE_DITHER_2"
    expected = (stored != 0) & np.isfinite(stored) if signed else stored > 0
    dithered = writer != "plain" and method == "SUBTRACTIVE_DITHER_1"
    if dithered:
        expected = data > 0
    try:
        np.testing.assert_array_equal(everywhere(run), expected)
    except CoaddError:  # a step of 1e4 may be too much for one step of the quantisation
        assert dithered
        assert kind == "step"
    assert bool(find_coverage(run, "r").dithered) == dithered


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("source", ["nexp", "depth"])
def test_a_map_beside_the_planes_decides(source, method, tmp_path, rng):
    """Also where an exposure counts that has less than half a step of weight."""
    data = plane("hole", rng)
    truth = data > 0
    data[:5, :5] = 1e-3
    run = written(tmp_path, data, "fitsio", method)
    write_map(tmp_path / name(source), truth.astype("i2") if source == "nexp" else truth * np.float32(80))
    assert find_coverage(run, "r").source == source
    np.testing.assert_array_equal(everywhere(run), truth)


def test_nexp_comes_before_depth_and_those_of_others_do_not_count(tmp_path, rng):
    run = written(tmp_path, plane("hole", rng), "fitsio", "SUBTRACTIVE_DITHER_1")
    (other := tmp_path / "other").mkdir()
    write_map(other / name("nexp"), np.ones(SHAPE, "i2"))
    sources = [find_coverage(run, "r").source]
    write_map(tmp_path / name("depth"), np.ones(SHAPE, "f4"))
    sources.append(find_coverage(run, "r").source)
    write_map(tmp_path / name("nexp"), np.ones(SHAPE, "i2"))
    sources.append(find_coverage(run, "r").source)
    assert sources == ["threshold", "depth", "nexp"]


@pytest.mark.parametrize("source", ["nexp", "threshold"])
def test_dithered_zeros_that_were_unpacked(source, tmp_path, rng):
    """The header does not tell of it; small values of both signs do."""
    data = plane("hole", rng)
    write(tmp_path / "first.fits.fz", data, method="SUBTRACTIVE_DITHER_1")
    run = written(tmp_path, fitsio.read(str(tmp_path / "first.fits.fz")), "plain", "")
    if source == "nexp":
        write_map(tmp_path / name("nexp"), (data > 0).astype("i2"))
    assert [one.source for one in find_coverage(run, "r").dithered] == [source]
    np.testing.assert_array_equal(everywhere(run), data > 0)


def test_a_map_of_another_shape_is_refused(tmp_path, rng):
    run = written(tmp_path, plane("hole", rng), "fitsio", "NO_DITHER")
    write_map(tmp_path / name("nexp"), np.ones((200, 200), "i2"))
    with pytest.raises(CoaddError, match=r"shapes disagree: .*nexp-r.fits.fz is \(200, 200\)"):
        observed(find_coverage(run, "r"), np.array([100]), np.array([100]), SHAPE)


def test_zeros_that_do_not_stand_clear_are_refused(tmp_path, rng):
    """An inverse variance that falls gently to 0 has no gap."""
    ramp = np.tile(np.maximum(np.arange(SHAPE[1]) - 100, 0) / 100, (SHAPE[0], 1))
    data = (900 * ramp * (1 + 0.5 * rng.standard_normal(SHAPE))).clip(0).astype("f4")
    run = written(tmp_path, data, "fitsio", "SUBTRACTIVE_DITHER_1")
    with pytest.raises(
        CoaddError, match=r"invvar-r.fits.fz does not keep zeros.*nexp or depth map of band r"
    ):
        observed(find_coverage(run, "r"), np.array([100]), np.array([100]), SHAPE)


@pytest.mark.parametrize("method", ["NO_DITHER", "SUBTRACTIVE_DITHER_2"])
@pytest.mark.parametrize("source", ["invvar", "nexp"])
def test_tiles_without_a_hole_are_not_decoded(source, method, tmp_path, rng, monkeypatch):
    data = plane("hole", rng)
    run = written(tmp_path, data, "fitsio", method)
    if source == "nexp":
        write_map(tmp_path / name("nexp"), (data > 0).astype("i2"))
    asked = []

    def counted(_run, kind, _band, x, y, _shape):
        assert kind == source
        asked.extend(zip((x // 100).astype(int).tolist(), (y // 100).astype(int).tolist(), strict=True))
        return np.ones(len(x))

    monkeypatch.setattr(coverage, "read_pixels", counted)
    y, x = (axis.ravel() for axis in np.indices(SHAPE))
    observed(find_coverage(run, "r"), x, y, SHAPE)
    assert set(asked) == {(i, j) for i in range(3) for j in range(2)}


# --- both classes, from the planes to the stamps -------------------------------------------------------

LAST = 150  # the rows beyond were never observed


def places(made: Survey) -> Iterator[Place]:
    yield from (place for _, _, place in made.places())
    yield from (Place("release", made.real, content.brick.name) for content in made.scenes)


def half_observed(tmp_path: Path, source: str | None) -> Survey:
    """A survey whose coadds end in the middle, their zeros dithered, with or without maps beside them."""
    made = survey(tmp_path, bricks=bricks_apart(3), runs=1, suffix=".fits.fz")
    bricks = {content.brick.name: content.brick for content in made.scenes}
    for place in places(made):
        cards = [{"name": k, "value": v} for k, v in bricks[place.brick].cards().items()]
        for kind, band in ((kind, band) for kind in PLANES for band in BANDS):
            path = place.plane(kind, band)
            data = fitsio.read(str(path))
            data[LAST + 1 :] = 0
            path.unlink()
            level = -1e-4 if kind == "image" else 16
            how = {"tile_dims": [100, 100], "qlevel": level, "qmethod": "SUBTRACTIVE_DITHER_1"}
            with fitsio.FITS(str(path), "rw") as file:
                file.write(data, header=cards, compress="rice", dither_seed=5, **how)
            if source and kind == "invvar":
                write_map(place.plane(source, band), (data > 0).astype("i2" if source == "nexp" else "f4"))
    return made


@pytest.mark.parametrize("source", ["nexp", "depth", None])
def test_what_was_never_observed_is_in_no_stamp(source, tmp_path, capsys):
    made, out = half_observed(tmp_path, source), tmp_path / "out"
    words = ["--fake", made.fake, "--real", made.real, "--outdir", out, "--reals-from", "release"]
    assert main([*map(str, words), "--shard-size", "5", "--balance", "none"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "zeros are not kept" in line]
    rows = fitsio.read(str(out / "sources.fits"), 1)
    assert set(rows["label"]) == {0, 1}
    assert rows["y"].max() < LAST + 0.5
    reached = set()
    for row in rows:
        split, number = row["split"].strip(), row["shard"]
        stamp = np.load(out / f"x{split}_{number}.npy")[row["row"]]
        first = int(np.floor(row["y"] + 0.5)) - 32
        seen = np.arange(first, first + 64) <= LAST
        assert (stamp[~seen] == 0).all()
        assert (stamp[seen][..., 3:] > 0).all()
        assert (stamp[seen][..., :3] != 0).mean() > 0.99
        if not seen.all():
            reached.add(int(row["label"]))
    assert reached == {0, 1}
    files = [place.plane(kind, band) for place in places(made) for kind in PLANES for band in BANDS]
    found = json.loads((out / "manifest.json").read_text())["dithered_files"]
    assert sorted(one["file"] for one in found) == sorted(str(path.relative_to(tmp_path)) for path in files)
    assert {one["quantisation"] for one in found} == {"SUBTRACTIVE_DITHER_1"}
    assert {one["source"] for one in found} == {source or "threshold"}
    (line,) = said
    assert found[0]["file"] in line
    assert f"and {len(files) - 1} more" in line
    assert ("threshold" in line) == (source is None)


def test_files_that_keep_zeros_are_not_named(tmp_path, capsys):
    made = survey(tmp_path, bricks=bricks_apart(3), suffix=".fits.fz", release=False)
    assert main(["--fake", str(made.fake), "--outdir", str(tmp_path / "out"), "--balance", "none"]) == 0
    assert "zeros" not in capsys.readouterr().err
    assert json.loads((tmp_path / "out/manifest.json").read_text())["dithered_files"] == []
