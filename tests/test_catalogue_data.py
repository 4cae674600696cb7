"""The catalogue of coadds that nothing was injected into, on real data; skipped where the data are absent."""

from __future__ import annotations

import fitsio
import numpy as np
import pytest

from obiwan.dplearn import inject
from obiwan.dplearn.injection.catalogue import write_catalogue
from obiwan.dplearn.injection.scene import open_scene
from obiwan.dplearn.survey.catalogs import read_tractor
from obiwan.dplearn.survey.layouts import RELEASE, Root, find_runs, layout_named

pytestmark = pytest.mark.data

BANDS = ("g", "r", "z")


def no_objects(n, *_):
    """A user's function that draws nothing."""
    return {f"flux_{band}": np.ones(n) for band in BANDS}


@pytest.mark.parametrize("region", ["decals_grz", "mzlsbass2", "bass_mzls_grz_wide"])
def test_nothing_injected_gives_the_catalogue_of_the_release(shared_data, tmp_path, region):
    """The images are written anew: fluxes differ by quantisation, one at the threshold may appear or go."""
    release = shared_data / "release_dr9" / region
    (run,) = find_runs(Root(0, release, RELEASE))
    words = (
        "--sources",
        "test_catalogue_data:no_objects",
        "--model",
        "star",
        "--density",
        "0",
        "--noise",
        "none",
    )
    words = (*words, "--psf", "moffat", "--outdir", str(tmp_path / "tree"))
    assert inject.main(["--release", str(release), *words]) == 0
    scene = open_scene(run, BANDS)
    write_catalogue(run, scene, tmp_path / "own.fits")
    (mine,) = find_runs(Root(0, tmp_path / "tree", layout_named("legacysim")))
    one, two = fitsio.read(tmp_path / "own.fits"), fitsio.read(mine.tractor)
    pairs = np.hypot(two["bx"][None] - one["bx"][:, None], two["by"][None] - one["by"][:, None]) < 2
    alone = np.r_[one["snr"][~pairs.any(1)], two["snr"][~pairs.any(0)]]
    assert len(alone) <= 1  # of what is at the threshold of detection
    assert (alone < 5).all()
    one, two = one[pairs.any(1)], two[pairs.argmax(1)[pairs.any(1)]]
    assert len(one) > 5
    moved = np.hypot(two["bx"] - one["bx"], two["by"] - one["by"])
    assert np.median(moved) < 0.002
    assert moved.max() < 0.1
    assert np.median(np.abs(two["shape_r"] / one["shape_r"] - 1)) < 0.01
    for band in BANDS:
        known = one[f"flux_ivar_{band}"] > 0
        assert (known == (two[f"flux_ivar_{band}"] > 0)).all()
        moved = np.abs(two[f"flux_{band}"] - one[f"flux_{band}"]) * np.sqrt(one[f"flux_ivar_{band}"])
        assert np.median(moved[known]) < 0.1  # of an error: a pixel more or less changes the ellipse
        for name in ("psfsize", "nobs", "mw_transmission"):
            np.testing.assert_allclose(two[f"{name}_{band}"], one[f"{name}_{band}"], rtol=1e-3)


def test_the_catalogue_agrees_with_tractors(shared_data, tmp_path):
    """Bright isolated sources are where tractor has them, and about as bright."""
    close, ratio = [], []
    for region in ("decals_grz", "mzlsbass2", "bass_mzls_grz_wide"):
        (run,) = find_runs(Root(0, shared_data / "release_dr9" / region, RELEASE))
        scene = open_scene(run, BANDS)
        write_catalogue(run, scene, tmp_path / "own.fits")
        mine, theirs = read_tractor(tmp_path / "own.fits").sources, scene.catalog.in_bands(BANDS)
        x, y = scene.frame.pixels(mine.ra, mine.dec)
        u, v = scene.frame.pixels(theirs.ra, theirs.dec)
        apart = np.hypot(u[:, None] - u, v[:, None] - v) + 1e9 * np.eye(len(u))
        snr = theirs.of_band("flux", "r") * np.sqrt(theirs.of_band("flux_ivar", "r"))
        for k in np.flatnonzero((snr > 15) & (apart.min(axis=1) > 12)):
            distance = np.hypot(x - u[k], y - v[k])
            close.append(distance.min())
            ratio.append(mine.of_band("flux", "r")[distance.argmin()] / theirs.of_band("flux", "r")[k])
    assert len(close) >= 6
    assert np.median(close) < 0.3
    assert np.median(ratio) == pytest.approx(1, abs=0.1)
