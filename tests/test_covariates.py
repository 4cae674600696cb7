"""Covariates are physical quantities with one origin for both classes."""

from __future__ import annotations

import numpy as np
import pytest

from obiwan.dplearn.controls.covariates import (
    coadd_size,
    covariates,
    edge_distance,
    quantities,
)
from obiwan.dplearn.controls.measure import measure_dtype
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.examples import FLAG_PADDED
from obiwan.dplearn.trainingset.visibility import same_fit
from stamps import GRZ, galaxies, in_bands, rows_of

KEYS = [one.key for one in quantities(GRZ)]
FITTED = {one.key for one in quantities(GRZ) if one.fitted}


@pytest.fixture
def rows() -> np.ndarray:
    return rows_of(galaxies(400, 1), 0, 2)


def blank(n: int, spec: StampSpec = GRZ) -> np.ndarray:
    measured = np.zeros(n, measure_dtype(spec))
    measured["peaks"], measured["nearest"] = np.arange(n), np.arange(n) / 2
    measured["phase_x"], measured["phase_y"] = 0.25, -0.25
    return measured


def test_values(rows: np.ndarray):
    found = covariates(rows, blank(400), GRZ)
    assert list(found) == KEYS
    assert all(values.shape == (400,) and values.dtype == np.float64 for values in found.values())
    np.testing.assert_allclose(found["g_r"], found["mag_g"] - found["mag_r"])
    np.testing.assert_allclose(found["r_z"], found["mag_r"] - found["mag_z"])
    snr2 = sum(rows[f"flux_{band}"].astype(float) ** 2 * rows[f"flux_ivar_{band}"] for band in "grz")
    np.testing.assert_allclose(found["sn"] ** 2, snr2, rtol=1e-6)
    np.testing.assert_allclose(found["e"], np.hypot(rows["e1"], rows["e2"]), rtol=1e-6)
    # 5 sigma of a point source, in magnitudes: the surveys' definition of depth.
    np.testing.assert_allclose(found["psfdepth_r"], 22.5 - 2.5 * np.log10(5 / np.sqrt(rows["psfdepth_r"])))
    assert found["neighbours"].tolist() == list(range(400))
    assert (found["phase_x"] == 0.25).all()


def test_what_tells_the_class_by_its_origin_is_not_used(rows: np.ndarray):
    before = covariates(rows, blank(400), GRZ)
    other = rows.copy()
    for name in ("truth_ra", "truth_dec", "match_dist", "id", "root", "ra", "dec", "label", "shard", "row"):
        other[name] = 9
    other["run"], other["brick"], other["type"], other["split"] = b"rs9", b"0000p000", b"PSF", b"test"
    after = covariates(other, blank(400), GRZ)
    assert all(np.array_equal(before[name], after[name]) for name in KEYS)
    assert not {"match_dist", "run", "root", "id", "mag_source", "flags"} & set(KEYS)


@pytest.mark.parametrize("origins", [(b"measured", b"truth"), (b"measured", b"table"), (b"truth", b"truth")])
def test_fitted_values_need_one_origin(rows: np.ndarray, origins: tuple[bytes, bytes]):
    assert same_fit(rows)
    rows["mag_source"] = np.where(np.arange(400) % 2, *origins)
    assert not same_fit(rows)
    found = covariates(rows, blank(400), GRZ)
    assert all(np.isnan(found[name]).all() for name in FITTED)
    assert all(np.isfinite(found[name]).all() for name in set(KEYS) - FITTED)
    rows["mag_source"] = b"table"
    assert same_fit(rows)


def test_bands_without_data_are_not_known(rows: np.ndarray):
    rows["psfsize_g"][:3], rows["psfdepth_z"][3:6] = 0, 0
    found = covariates(rows, blank(400), GRZ)
    assert np.isnan(found["psfsize_g"]).sum() == np.isnan(found["psfdepth_z"]).sum() == 3


def test_edges_of_standard_coadds_and_of_others(rows: np.ndarray):
    rows = rows[:4]
    rows["x"], rows["y"] = [31.6, 1800, 3400, 50], [1800, 3549.4, 3400, 700]
    assert coadd_size(rows, GRZ) == 3600
    # A pixel's centre is at its integer: the first pixel begins at -0.5.
    np.testing.assert_allclose(edge_distance(rows, coadd_size(rows, GRZ)), [32.1, 50.1, 199.5, 50.5])
    rows["x"], rows["y"] = [32, 600, 300, 320], [320, 320, 607.4, 608]
    assert coadd_size(rows, GRZ) == 640
    np.testing.assert_allclose(edge_distance(rows, coadd_size(rows, GRZ)), [32.5, 39.5, 32.1, 31.5])
    np.testing.assert_allclose(covariates(rows, blank(4), GRZ)["edge"], [32.5, 39.5, 32.1, 31.5])


def test_padded_stamps_do_not_stretch_the_coadd(rows: np.ndarray):
    rows["x"][:2], rows["y"][:2] = [3, 636.2], 300
    rows["flags"][:2] = FLAG_PADDED
    assert coadd_size(rows, GRZ) <= 640
    rows["flags"] = FLAG_PADDED
    assert coadd_size(rows, GRZ) == 637
    assert len(edge_distance(rows[:0], coadd_size(rows[:0], GRZ))) == 0


@pytest.mark.parametrize(
    ("bands", "colours", "reference"),
    [(("g", "r", "i", "z"), ["g_r", "r_i", "i_z"], "r"), (("g", "r"), ["g_r"], "r"), (("z",), [], "z")],
)
def test_other_bands(bands: tuple[str, ...], colours: list[str], reference: str):
    """Colours are of neighbours in wavelength, and no band is taken for another."""
    spec = StampSpec(bands)
    rows = rows_of(in_bands(galaxies(50, 3), bands), 0, 4)
    found = covariates(rows, blank(50, spec), spec)
    assert [key for key in found if key.startswith("mag_")] == [f"mag_{band}" for band in bands]
    assert list(found)[len(bands) : len(bands) + len(colours)] == colours
    for colour in colours:
        blue, red = colour.split("_")
        np.testing.assert_array_equal(found[colour], found[f"mag_{blue}"] - found[f"mag_{red}"])
    snr2 = sum(rows[f"flux_{band}"].astype(float) ** 2 * rows[f"flux_ivar_{band}"] for band in bands)
    np.testing.assert_allclose(found["sn"] ** 2, snr2, rtol=1e-6)
    assert np.isfinite(found[f"psfdepth_{reference}"]).all()
    one = next(q for q in quantities(spec) if q.key == f"psfsize_{reference}")
    assert (one.name, one.band, one.unit, one.hazard) == ("PSF width", reference, "arcsec", "D9")


def test_the_size_of_stamps_says_where_the_coadd_ends(rows: np.ndarray):
    rows = rows[:4]
    rows["x"], rows["y"] = [48, 592, 300, 320], [320, 320, 592, 592]
    assert coadd_size(rows, StampSpec(size=96)) == 640
    assert coadd_size(rows, StampSpec(size=95)) == 592 + 48
