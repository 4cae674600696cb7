"""Injection on real data against the pipeline's own injections; skipped where the data are absent.

The runs were made by legacysim with the tractor's stamps on the raw images: (run - release) is the light, and
the noise, that ``inject`` is to put there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.table import Table

from obiwan.dplearn import inject
from obiwan.dplearn.injection.exposures import read_exposures
from obiwan.dplearn.injection.psfex import read_psfex
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.coadds import read_frame, read_plane
from obiwan.dplearn.survey.layouts import RELEASE, BrickRun, Root, find_runs, layout_named

pytestmark = pytest.mark.data

BANDS = ("g", "r", "z")
MARGIN = 12  # pixels from the edge of the coadd
LANCZOS = (0.65, 0.95)  # what resampling leaves of the variance of photons a pixel


@dataclass(frozen=True)
class Tree:
    """Release, the pipeline's runs, and ours of the same names."""

    release: BrickRun
    pipeline: tuple[BrickRun, ...]
    mine: tuple[BrickRun, ...]


def level(run: BrickRun, band: str) -> float:
    """The sky level that the pipeline subtracted from a coadd: injected light moves it."""
    return float(fitsio.read_header(str(run.plane("image", band)), 1)[f"COSKY_{band.upper()}"])


def light(tree: Tree, run: BrickRun, band: str) -> np.ndarray:
    """What was added to the release's coadd."""
    moved = level(run, band) - level(tree.release, band)
    return read_plane(run, "image", band).astype(float) - read_plane(tree.release, "image", band) + moved


def redrawn(data: Path, kind: str, region: str, outdir: Path, noise: str) -> Tree:
    """The truth of a tree of the pipeline's, drawn again."""
    layout = layout_named("legacysim")
    release = find_runs(Root(0, data / "release_dr9" / region, RELEASE))[0]
    words = ["--release", release.root.path, "--sources", data / kind / region, "--outdir", outdir]
    words += ["--calib", data / "calib" / region, "--noise", noise]
    assert inject.main([*map(str, words)]) == 0
    manifest = json.loads((outdir / "injection.json").read_text())
    (entry,) = manifest["injected"].values()
    assert {facts["psf"] for facts in entry["bands"].values()} == {"psfex"}
    pipeline, mine = (tuple(find_runs(Root(0, tree, layout))) for tree in (data / kind / region, outdir))
    return Tree(release, pipeline, mine)


@pytest.fixture(scope="module")
def trees(shared_data: Path, tmp_path_factory) -> dict[str, Tree]:
    """Injections of ours without and with noise."""
    kind, folder = "injected_legacysim_tractor", tmp_path_factory.mktemp("injected")
    names = ("none", "poisson")
    return {noise: redrawn(shared_data, kind, "decals_grz", folder / noise, noise) for noise in names}


def alone(tree: Tree, band: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The light of each source in 17 x 17 pixels: the pipeline's, and ours."""
    for theirs, mine in zip(tree.pipeline, tree.mine, strict=True):
        assert theirs.run == mine.run
        rows = fitsio.read(mine.truth)
        x, y = (np.rint(rows[name]).astype(int) for name in ("bx", "by"))
        images = light(tree, theirs, band), light(tree, mine, band)
        ny, nx = images[0].shape
        for one in np.flatnonzero((np.minimum(x, y) >= MARGIN) & (x < nx - MARGIN) & (y < ny - MARGIN)):
            cut = slice(y[one] - 8, y[one] + 9), slice(x[one] - 8, x[one] + 9)
            yield tuple(image[cut] for image in images)


@pytest.mark.parametrize("band", BANDS)
def test_light_is_the_pipelines(trees, band):
    """Flux within 8 pixels, centroid and second moment; the pipeline's light has its photon noise."""
    v, u = np.mgrid[-8:9, -8:9]
    ratios, offsets, widths = [], [], []
    for pair in alone(trees["none"], band):
        offsets.append(offset(*pair))
        theirs, mine = (image * (np.hypot(u, v) <= 8) for image in pair)
        ratios.append(theirs.sum() / mine.sum())
        moments = [float((one * mine * (u**2 + v**2)).sum() / (one * mine).sum()) for one in (theirs, mine)]
        widths.append(moments[0] / moments[1])
    assert len(ratios) >= 20
    assert np.median(ratios) == pytest.approx(1, abs=0.01)
    assert np.median(widths) == pytest.approx(1, abs=0.01)
    places, information = (np.array(part) for part in zip(*offsets, strict=True))
    mean = (places * information).sum(0) / information.sum(0)
    scatter = np.sqrt(((places - mean) ** 2 * information).sum(0) / (len(places) - 1) / information.sum(0))
    # Photon noise leaves the mean of a centroid 0.007 pixels in r and z, and 0.015 in g.
    assert (scatter < 0.02).all()
    assert (np.abs(mean) < np.maximum(0.02, 2 * scatter)).all()


def offset(theirs: np.ndarray, mine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position of light against a model by least squares (x, y; pixels), and the information on it."""
    along_y, along_x = np.gradient(mine)
    weight = 1 / (np.maximum(mine, 0) + 1e-4 * mine.max())  # photon noise, up to a factor
    slopes = np.stack([one.ravel() for one in (mine, -along_x, -along_y)], 1)
    scaled = slopes * weight.ravel()[:, None]
    fitted = np.linalg.solve(slopes.T @ scaled, scaled.T @ theirs.ravel())
    return fitted[1:] / fitted[0], 1 / np.diag(np.linalg.inv(slopes.T @ scaled))[1:]


@pytest.mark.parametrize("region", ["decals_grz", "mzlsbass2"])
def test_stamps_of_galsim_are_told_by_their_positions(shared_data, trees, tmp_path, region):
    """Legacysim's GalSim stamps apply the sub-pixel shift twice: 0.29 pixels rms a side about the truth."""

    def scatter(tree: Tree) -> float:
        places = np.array([offset(*pair)[0] for pair in alone(tree, "z")])
        sides = 1.4826 * np.median(np.abs(places - np.median(places, axis=0)), axis=0)
        return float(np.sqrt((sides**2).mean()))

    tree = redrawn(shared_data, "injected_legacysim", region, tmp_path / "out", "none")
    assert scatter(tree) == pytest.approx(0.29, abs=0.1)
    assert scatter(trees["none"]) < 0.1


def test_noise_is_the_pipelines(trees):
    """What the pipeline's runs have beyond our noiseless light is photon noise, as what ours have."""
    noiseless, noisy = trees["none"], trees["poisson"]
    left = []
    for band in BANDS:
        (exposure,) = read_exposures(noiseless.release.ccds(), band) or ()
        variance, theirs, mine = 0.0, 0.0, 0.0
        for run, plain, grainy in zip(noiseless.pipeline, noiseless.mine, noisy.mine, strict=True):
            model = light(noiseless, plain, band)
            bright = (model > 0.004) & (read_plane(run, "invvar", band) > 0)
            variance += float(model[bright].sum()) * exposure.scaling(0.262) / exposure.electrons
            theirs += float(((light(noiseless, run, band) - model)[bright] ** 2).sum())
            mine += float(((light(noisy, grainy, band) - model)[bright] ** 2).sum())
        left.append((theirs / variance, mine / variance))
    # Some 20 sources a band tell it to 7 %.
    assert all(LANCZOS[0] < one < LANCZOS[1] for pair in left for one in pair), left
    theirs, mine = np.mean(left, axis=0)
    assert mine == pytest.approx(theirs, rel=0.1)


@pytest.mark.parametrize("band", BANDS)
def test_inverse_variance_is_the_pipelines(trees, band):
    tree, ratios = trees["poisson"], []
    for theirs, mine in zip(tree.pipeline, tree.mine, strict=True):
        model = light(trees["none"], trees["none"].mine[tree.mine.index(mine)], band)
        core = model >= np.sort(model.ravel())[-150]
        expected = read_plane(theirs, "invvar", band)[core]
        ratios.append(read_plane(mine, "invvar", band)[core][expected > 0] / expected[expected > 0])
    assert np.median(np.concatenate(ratios)) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("region", ["decals_grz", "mzlsbass2", "testcase6"])
def test_psfex_models_have_the_norm_of_the_ccd_table(shared_data, region):
    release = find_runs(Root(0, shared_data / "release_dr9" / region, RELEASE))[0]
    for band in BANDS:
        for exposure in read_exposures(release.ccds(), band) or ():
            model = read_psfex(shared_data / "calib" / region, exposure)
            height, width = exposure.shape
            assert model.norm(width // 2, height // 2) == pytest.approx(exposure.psfnorm, rel=1e-3)


@pytest.mark.parametrize("region", ["mzlsbass2", "testcase6"])
def test_stars_are_as_wide_as_the_release_says(shared_data, tmp_path, region):
    """BASS, MzLS and two exposures of DECam: a star has the noise area of the release's ``psfsize``."""
    release = find_runs(Root(0, shared_data / "release_dr9" / region, RELEASE))[0]
    frame = read_frame(release, StampSpec())
    x, y = np.array([70.3, 35.2]), np.array([70.6, 66.9])
    ra, dec = frame.wcs.all_pix2world(x, y, 0)
    table = {"id": [0, 1], "ra": ra, "dec": dec, **{f"flux_{band}": [300.0, 300.0] for band in BANDS}}
    Table(table).write(tmp_path / "stars.csv")
    words = [
        "--release",
        release.root.path,
        "--sources",
        tmp_path / "stars.csv",
        "--outdir",
        tmp_path / "out",
    ]
    words += [
        "--calib",
        shared_data / "calib" / region,
        "--model",
        "star",
        "--noise",
        "none",
        "--psf",
        "psfex",
    ]
    assert inject.main([*map(str, words), "--runs", "2"]) == 0
    v, u = np.mgrid[: frame.shape[0], : frame.shape[1]]
    for run in find_runs(Root(0, tmp_path / "out", layout_named("legacysim"))):
        for row in fitsio.read(run.truth):
            near = np.hypot(u - row["bx"], v - row["by"]) < 25
            for band in BANDS:
                added = read_plane(run, "image", band).astype(float) - read_plane(release, "image", band)
                observed = read_plane(release, "invvar", band) > 0
                assert (added[~observed & (read_plane(release, "image", band) == 0)] == 0).all()
                if not observed[near].all():
                    continue
                star = added[near]
                width = 2.3548 * 0.262 * np.sqrt(star.sum() ** 2 / (star**2).sum() / 4 / np.pi)
                expected = read_plane(release, "psfsize", band)[int(row["by"]), int(row["bx"])]
                assert width == pytest.approx(expected, rel=0.02)
                assert star.sum() / 300 == pytest.approx(1, abs=0.03)
