"""Painting of sources into one band of a brick: noise of each, masked pixels, exposures, PSFs."""

from __future__ import annotations

import shutil
from dataclasses import replace

import fitsio
import numpy as np
import pytest

from obiwan.dplearn.errors import CoaddError
from obiwan.dplearn.injection.brick import open_band
from obiwan.dplearn.injection.config import InjectionConfig
from obiwan.dplearn.injection.models import sersic, star
from obiwan.dplearn.injection.objects import SHAPES
from obiwan.dplearn.injection.painting import Band, paint
from obiwan.dplearn.injection.psf import BandPsf
from obiwan.dplearn.injection.scene import open_scene
from obiwan.dplearn.injection.stars import moffat_image
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.layouts import BrickRun, Root
from released import BRICK, write_release
from synthetic import BANDS

X, Y = 120, 100
MIDDLE = slice(Y - 8, Y + 9), slice(X - 8, X + 9)


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> BrickRun:
    return write_release(tmp_path_factory.mktemp("release"))


def band_of(release: BrickRun, name: str, **options) -> Band:
    config = InjectionConfig(**options)
    calib = release.root.path.parent / "calib"
    return open_band(release, open_scene(release, BANDS), name, config, calib)


def a_star(x: float = X, y: float = Y, flux: float = 40.0) -> Array:
    ra, dec = BRICK.sky(x, y)
    kinds = [("id", "i8"), *((name, "f8") for name in ("ra", "dec", "x", "y", "flux_g", "flux_r"))]
    return np.array([(3, ra[0], dec[0], x, y, flux, flux)], dtype=kinds)


def light(band: Band, rows: Array, run: str = "run") -> Array:
    return paint(band, rows, star, 0, run, noise=False)[0].astype(float) - band.image


def noise(band: Band, run: str) -> Array:
    noisy, _ = paint(band, a_star(), star, 0, run, noise=True)
    return (noisy - band.image - light(band, a_star(), run))[MIDDLE].ravel()


def test_photon_noise_is_drawn_anew_for_each_run_and_band(release):
    g, r = (band_of(release, name) for name in "gr")
    first = noise(g, "one")
    assert (noise(g, "one") == first).all()
    for other in (noise(g, "two"), noise(r, "one")):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.4


def test_masked_pixels_get_light_where_the_pipeline_patched_them(release):
    """Of a value of their own; saturated ones have 10 nanomaggies, and what was never observed 0."""
    band = band_of(release, "r")
    image, invvar = band.image.copy(), band.invvar.copy()
    image[Y, X : X + 3], invvar[Y, X : X + 3] = (0.5, 10.0, 0.0), 0
    masked, lowered = paint(replace(band, image=image, invvar=invvar), a_star(), star, 0, "run", noise=True)
    assert masked[Y, X] > 1
    assert masked[Y, X + 1 : X + 3].tolist() == [10.0, 0.0]
    assert (lowered[Y, X : X + 3] == 0).all()


def test_a_source_on_no_ccd_is_seen_by_the_nearest(release):
    band = band_of(release, "r")
    layers = tuple(replace(one, light=1.0 + i) for i, one in enumerate(band.psf.layers))
    rows = a_star()
    places = [one.pixels(rows["ra"], rows["dec"])[0] for one in band.exposures]
    for near in (0, 1):
        exposures = tuple(
            replace(one, crpix=tuple(np.array(one.crpix) - place - (10 if i == near else 3000)))
            for i, (one, place) in enumerate(zip(band.exposures, places, strict=True))
        )
        assert not any(one.covers(one.pixels(rows["ra"], rows["dec"])).any() for one in exposures)
        alone = replace(band, exposures=exposures, psf=replace(band.psf, layers=layers))
        assert light(alone, rows).sum() == pytest.approx(40 * (1 + near), rel=0.01)


def test_without_exposures_the_coadd_tells_the_photon_noise(release):
    """The balance is a surface brightness: where the sky is as noisy, photons add as much again."""
    psf = BandPsf("moffat", image=moffat_image(4.6))
    band = replace(band_of(release, "r"), exposures=(), balance=0.05, psf=psf)
    added = light(band, a_star())
    _, lowered = paint(band, a_star(), star, 0, "run", noise=True)
    sky = 1 / float(np.median(band.invvar[Y - 32 : Y + 32, X - 32 : X + 32]))
    variance = 1 / lowered[MIDDLE].astype(float) - 1 / band.invvar[MIDDLE]
    assert variance == pytest.approx(sky * added[MIDDLE] / 0.05, rel=0.01, abs=0.01 * sky)


def test_where_nothing_was_observed_around_a_source_its_light_beyond_has_noise(release):
    """Of the sky beyond the hole; where the band observed nothing at all, nothing is drawn."""
    whole = replace(
        band_of(release, "r"), exposures=(), balance=0.05, psf=BandPsf("moffat", image=moffat_image(4.6))
    )
    hole = slice(Y - 36, Y + 36), slice(X - 36, X + 36)
    image, invvar = whole.image.copy(), whole.invvar.copy()
    image[hole], invvar[hole] = 0, 0
    rows = np.zeros(1, [*a_star().dtype.descr, *((name, "f8") for name in SHAPES)])
    for name in a_star().dtype.names:
        rows[name] = a_star(flux=3000.0)[name]
    rows["sersic"], rows["shape_r"] = 1, 5.0
    band = replace(whole, image=image, invvar=invvar)
    quiet, _ = paint(band, rows, sersic, 0, "run", noise=False)
    painted, lowered = paint(band, rows, sersic, 0, "run", noise=True)
    assert not painted[hole].any()
    assert not lowered[hole].any()
    ring = slice(Y + 36, Y + 50), slice(X - 20, X + 20)
    sky, added = 1 / float(np.median(invvar[invvar > 0])), (quiet - image)[ring]
    expected = sky * added / 0.05
    assert 1 / lowered[ring] - 1 / invvar[ring] == pytest.approx(expected, rel=0.02, abs=0.02 * sky)
    assert ((painted - quiet)[ring] ** 2 / expected).mean() == pytest.approx(1, abs=0.25)
    empty = replace(whole, image=np.zeros_like(image), invvar=np.zeros_like(invvar))
    assert not any(plane.any() for plane in paint(empty, rows, sersic, 0, "run", noise=True))


def test_a_gain_takes_the_place_of_that_of_the_exposures(release):
    electrons = [band_of(release, "r", **given).facts["electrons"] for given in ({}, {"gain": 8.0})]
    assert electrons[1] == pytest.approx([2 * one for one in electrons[0]], rel=1e-5)


def test_the_width_of_the_psf_is_that_of_observed_pixels(release, tmp_path):
    shutil.copytree(release.root.path, tmp_path / "dr9")
    run = Root(0, tmp_path / "dr9", release.root.layout).files(BRICK.name)
    path = run.coadd / f"legacysurvey-{BRICK.name}-psfsize-r.fits.fz"
    sizes = np.zeros((BRICK.size, BRICK.size), "f4")
    sizes[:20], sizes[20:40] = 1.5, np.nan
    fitsio.write(path, sizes, compress="GZIP", qlevel=0, clobber=True)
    assert open_scene(run, BANDS).psfsize("r") == pytest.approx(1.5)
    path.unlink()
    scene = open_scene(run, BANDS)
    assert scene.psfsize("r") is None
    with pytest.raises(CoaddError, match="band r: neither plane nor catalogue has a psfsize"):
        open_band(run, scene, "r", InjectionConfig(psf="moffat"), None)


def test_a_copsf_image_of_the_release_goes_before_psfex_models(release, tmp_path):
    assert band_of(release, "r").psf.kind == "psfex"
    shutil.copytree(release.root.path, tmp_path / "dr9")
    run = Root(0, tmp_path / "dr9", release.root.layout).files(BRICK.name)
    image = 3 * moffat_image(5.0).astype("f4")
    path = run.coadd / f"legacysurvey-{BRICK.name}-copsf-r.fits.fz"
    fitsio.write(path, image, compress="RICE", qlevel=-1e-7, qmethod="NO_DITHER")
    band = open_band(run, open_scene(run, BANDS), "r", InjectionConfig(), release.root.path.parent / "calib")
    assert band.psf.kind == "copsf"
    assert band.psf.image == pytest.approx(image / 3, abs=1e-6)
    assert light(band, a_star()).sum() == pytest.approx(40, rel=1e-3)
