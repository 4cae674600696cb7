"""Covariates are physical quantities with one origin for both classes."""

from __future__ import annotations

import numpy as np
import pytest

from obiwan.dplearn.controls.covariates import (
    CATALOGUED,
    LABELS,
    catalogued,
    coadd_size,
    covariates,
    edge_distance,
)
from obiwan.dplearn.controls.measure import MEASURE_DTYPE
from obiwan.dplearn.trainingset.examples import FLAG_PADDED
from stamps import galaxies, rows_of


@pytest.fixture
def rows() -> np.ndarray:
    return rows_of(galaxies(400, 1), 0, 2)


def blank(n: int) -> np.ndarray:
    measured = np.zeros(n, MEASURE_DTYPE)
    measured["peaks"], measured["nearest"] = np.arange(n), np.arange(n) / 2
    measured["phase_x"], measured["phase_y"] = 0.25, -0.25
    return measured


def test_values(rows: np.ndarray):
    found = covariates(rows, blank(400))
    assert list(found) == list(LABELS)
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
    before = covariates(rows, blank(400))
    other = rows.copy()
    for name in ("truth_ra", "truth_dec", "match_dist", "id", "root", "ra", "dec", "label", "shard", "row"):
        other[name] = 9
    other["run"], other["brick"], other["type"], other["split"] = b"rs9", b"0000p000", b"PSF", b"test"
    after = covariates(other, blank(400))
    assert all(np.array_equal(before[name], after[name]) for name in LABELS)
    assert not {"match_dist", "run", "root", "id", "mag_source", "flags"} & set(LABELS)


@pytest.mark.parametrize("origins", [(b"measured", b"truth"), (b"measured", b"table"), (b"truth", b"truth")])
def test_fitted_values_need_one_origin(rows: np.ndarray, origins: tuple[bytes, bytes]):
    assert catalogued(rows)
    rows["mag_source"] = np.where(np.arange(400) % 2, *origins)
    assert not catalogued(rows)
    found = covariates(rows, blank(400))
    assert all(np.isnan(found[name]).all() for name in CATALOGUED)
    assert all(np.isfinite(found[name]).all() for name in set(LABELS) - set(CATALOGUED))
    rows["mag_source"] = b"table"
    assert catalogued(rows)


def test_bands_without_data_are_not_known(rows: np.ndarray):
    rows["psfsize_g"][:3], rows["psfdepth_z"][3:6] = 0, 0
    found = covariates(rows, blank(400))
    assert np.isnan(found["psfsize_g"]).sum() == np.isnan(found["psfdepth_z"]).sum() == 3


def test_edges_of_standard_coadds_and_of_others(rows: np.ndarray):
    rows = rows[:4]
    rows["x"], rows["y"] = [31.6, 1800, 3400, 50], [1800, 3549.4, 3400, 700]
    assert coadd_size(rows) == 3600
    # A pixel's centre is at its integer: the first pixel begins at -0.5.
    np.testing.assert_allclose(edge_distance(rows), [32.1, 50.1, 199.5, 50.5])
    rows["x"], rows["y"] = [32, 600, 300, 320], [320, 320, 607.4, 608]
    assert coadd_size(rows) == 640
    np.testing.assert_allclose(edge_distance(rows), [32.5, 39.5, 32.1, 31.5])
    np.testing.assert_allclose(edge_distance(rows, 700), [32.5, 99.5, 92.1, 91.5])
    np.testing.assert_allclose(covariates(rows, blank(4), size=700)["edge"], [32.5, 99.5, 92.1, 91.5])


def test_padded_stamps_do_not_stretch_the_coadd(rows: np.ndarray):
    rows["x"][:2], rows["y"][:2] = [3, 636.2], 300
    rows["flags"][:2] = FLAG_PADDED
    assert coadd_size(rows) <= 640
    rows["flags"] = FLAG_PADDED
    assert coadd_size(rows) == 637
    assert len(edge_distance(rows[:0])) == 0
