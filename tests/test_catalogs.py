"""Every flavour of catalogue gives the same record."""

from __future__ import annotations

import numpy as np
import pytest

from obiwan.dplearn.errors import CatalogError
from obiwan.dplearn.survey.catalogs import read_tractor, read_truth
from obiwan.dplearn.survey.ccds import read_cameras, read_exposures
from synthetic import FLAVOURS, Brick, objects, tractor_columns, truth_columns, write_table, write_tractor

BRICK = Brick("1211p060", 121.1, 6.0)


GRZ, GRIZ = ("g", "r", "z"), ("g", "r", "i", "z")


def rows(n: int = 3, bands=GRZ, **given):
    rng = np.random.default_rng(5)
    made = objects(BRICK, 50.0 + 30 * np.arange(n), 60.0 + 20 * np.arange(n), bands)
    for name in ("flux", "flux_ivar", "mw", "psfsize", "psfdepth"):
        made[name] = made[name] * rng.uniform(0.5, 1, (n, len(bands)))
    made["nobs"] = rng.integers(0, 9, (n, len(bands)))
    made["id"] = np.arange(n) * 11 + 3
    return {**made, **given}


BANDS_THERE = {"dr3": "ugrizY", "dr5": "ugrizY", "dr10": "griz", "dr11": "griz"}


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("bands", [GRZ, GRIZ])
def test_each_release_reads_alike(flavour, bands, tmp_path):
    made = rows(bands=bands, primary=np.array([True, False, True]))
    write_tractor(tmp_path / "t.fits", made, flavour, {"CMDLINE": "runbrick.py --all-blobs"})
    catalog = read_tractor(tmp_path / "t.fits")
    assert "".join(catalog.sources.bands) == BANDS_THERE.get(flavour, "".join(bands))
    got = catalog.sources.in_bands(bands)
    assert got.id.tolist() == made["id"].tolist()  # and no DUP or NUN row
    assert got.id.dtype == np.int64
    np.testing.assert_array_equal(got.ra, made["ra"])
    np.testing.assert_array_equal(got.dec, made["dec"])
    np.testing.assert_allclose(got.flux, made["flux"], rtol=1e-6)
    np.testing.assert_allclose(got.flux_ivar, made["flux_ivar"], rtol=1e-6)
    np.testing.assert_allclose(got.mw_transmission, made["mw"], rtol=1e-6)
    np.testing.assert_allclose(got.psfsize, made["psfsize"], rtol=1e-6)
    assert got.nobs.tolist() == made["nobs"].tolist()
    assert got.primary.tolist() == [True, False, True]
    assert got.type.tolist() == ["EXP"] * 3
    np.testing.assert_allclose(got.shape_r, 0.5)
    np.testing.assert_allclose([got.e1[0], got.e2[0]], [0.1, -0.05], rtol=1e-6)
    np.testing.assert_allclose(got.sersic, 1)
    np.testing.assert_allclose(got.ebv, 0.03, rtol=1e-6)
    assert catalog.command == "runbrick.py --all-blobs"
    assert catalog.dr9_columns == (flavour in {"dr9", "dr10", "dr11"})
    np.testing.assert_allclose(got.psfdepth, made["psfdepth"], rtol=1e-6)  # decam_depth in DR3


def test_dr3_in_capitals_has_all_six_bands(tmp_path):
    made = rows()
    columns = tractor_columns(made, "dr3")
    assert columns["DECAM_FLUX"].shape == (3, 6)
    columns["DECAM_FLUX"][:, 0] = [5, 6, 7]
    write_table(tmp_path / "t.fits", columns)
    got = read_tractor(tmp_path / "t.fits").sources
    assert got.of_band("flux", "u").tolist() == [5, 6, 7]
    np.testing.assert_allclose(got.in_bands(GRZ).flux, made["flux"], rtol=1e-6)


def test_a_band_that_a_catalogue_lacks_is_unknown(tmp_path):
    write_tractor(tmp_path / "t.fits", rows(bands=("g", "r")))
    got = read_tractor(tmp_path / "t.fits").sources
    assert got.bands == ("g", "r")
    assert np.isnan(got.of_band("flux", "z")).all()
    assert got.of_band("nobs", "z").tolist() == [-1] * 3
    wide = got.in_bands(("r", "z"))
    np.testing.assert_array_equal(wide.flux[:, 0], got.flux[:, 1])
    assert np.isnan(wide.mag[:, 1]).all()
    assert wide.nobs[:, 1].tolist() == [-1] * 3
    assert wide.nobs.dtype == got.nobs.dtype


@pytest.mark.parametrize("flavour", ["dr5", "dr9"])
def test_radius_and_sersic_of_every_type(flavour, tmp_path):
    round_or_free = "SER" if flavour == "dr9" else "SIMP"  # DR9 types have three characters
    types = ["PSF", round_or_free, "REX", "EXP", "DEV"]
    made = rows(5, type=np.array(types), shape_r=np.array([0.0, 0.45, 0.7, 0.6, 0.8]))
    made["sersic"] = np.array([0.0, 1, 1, 1, 4])
    write_tractor(tmp_path / "t.fits", made, flavour)
    got = read_tractor(tmp_path / "t.fits").sources
    assert got.type.tolist() == types
    np.testing.assert_allclose(got.shape_r, [0, 0.45, 0.7, 0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(got.sersic, [0, 1, 1, 1, 4])


def test_comp_is_weighted_by_fracdev(tmp_path):
    columns = tractor_columns(rows(1, type=np.array(["COMP"])), "dr5")
    columns |= {"shapeexp_r": np.array([1.0]), "shapedev_r": np.array([3.0]), "fracdev": np.array([0.25])}
    write_table(tmp_path / "t.fits", columns)
    assert read_tractor(tmp_path / "t.fits").sources.shape_r[0] == pytest.approx(1.5)


@pytest.mark.parametrize("spelling", ["EXP ", "exp", " EXP"])
def test_type_names_are_cleaned(spelling, tmp_path):
    write_table(tmp_path / "t.fits", {**tractor_columns(rows(1), "dr5"), "type": np.array([spelling])})
    assert read_tractor(tmp_path / "t.fits").sources.type.tolist() == ["EXP"]


def test_magnitudes_by_hand(tmp_path):
    made = rows(2)
    made["flux"][0] = [1.0, 10.0, 100.0]
    made["mw"][0] = [1.0, 0.5, 0.1]
    made["flux"][1] = [-1.0, 0.0, 2.0]
    write_tractor(tmp_path / "t.fits", made)
    mag = read_tractor(tmp_path / "t.fits").sources.mag
    np.testing.assert_allclose(mag[0], [22.5, 22.5 - 2.5 * np.log10(20), 15.0], rtol=1e-6)
    assert np.isnan(mag[1]).tolist() == [True, True, False]


@pytest.mark.parametrize("missing", ["ra", "type", "flux_r", "flux_ivar_z", "mw_transmission_g", "shape_r"])
def test_a_missing_column_is_named_with_the_file(missing, tmp_path):
    columns = tractor_columns(rows(), "dr9")
    del columns[missing]
    write_table(tmp_path / "tractor-1211p060.fits", columns)
    stem = "shapeexp_r" if missing == "shape_r" else missing.rsplit("_", 1)[0]
    with pytest.raises(CatalogError, match=rf"tractor-1211p060.fits.* no column.*{stem}"):
        read_tractor(tmp_path / "tractor-1211p060.fits")


def test_optional_columns_may_be_absent(tmp_path):
    columns = tractor_columns(rows(), "dr9")
    names = [n for n in columns if n.startswith(("psfsize", "psfdepth", "nobs", "ebv", "maskbits", "brick_"))]
    for name in names:
        del columns[name]
    write_table(tmp_path / "t.fits", columns)
    got = read_tractor(tmp_path / "t.fits").sources
    assert np.isnan(got.psfsize).all()
    assert (got.nobs == -1).all()
    assert got.primary.all()


def test_duplicate_ids_are_named(tmp_path):
    write_table(tmp_path / "t.fits", tractor_columns(rows(3, id=np.array([4, 9, 9])), "dr9"))
    with pytest.raises(CatalogError, match=r"t.fits: duplicate ids in the tractor catalogue \(9\)"):
        read_tractor(tmp_path / "t.fits")
    write_table(tmp_path / "u.fits", truth_columns("obiwan", rows(3, id=np.array([7, 7, 9]))))
    with pytest.raises(CatalogError, match=r"u.fits: duplicate ids in the truth table \(7\)"):
        read_truth(tmp_path / "u.fits")


@pytest.mark.parametrize("kind", ["DUP", "NUN"])
def test_rows_without_a_model_may_repeat_an_id(kind, tmp_path):
    columns = tractor_columns(rows(3, id=np.array([0, 1, 0])), "dr9")
    columns["type"] = np.array(["PSF", "PSF", kind])
    write_table(tmp_path / "t.fits", columns)
    assert read_tractor(tmp_path / "t.fits").sources.id.tolist() == [0, 1]


@pytest.mark.parametrize(
    "ids", [np.array([1.0, 2.0, 1e300]), np.array([1, 2, 2**64 - 1], "u8"), np.array([1, 2, 2.0**53 + 2])]
)
def test_ids_that_would_change(ids, tmp_path):
    made = rows()
    columns = {**truth_columns("obiwan", made), "id": ids}
    write_table(tmp_path / "t.fits", columns)
    with pytest.raises(CatalogError, match=r"t.fits: the ids in the truth table are beyond .*; number"):
        read_truth(tmp_path / "t.fits")


@pytest.mark.parametrize("dec", [1000.0, -91.0])
def test_positions_that_are_not_on_the_sky(dec, tmp_path):
    made = rows()
    made["dec"] = np.array([dec, 6.0, 6.1])
    write_tractor(tmp_path / "tractor.fits", made)
    write_table(tmp_path / "truth.fits", truth_columns("legacysim", made))
    for name, read in (("tractor", read_tractor), ("truth", read_truth)):
        with pytest.raises(CatalogError, match=rf"{name}.fits: dec in the {name} .*beyond 90 degrees; "):
            read(tmp_path / f"{name}.fits")


def test_files_that_are_no_catalogue(tmp_path):
    import fitsio

    image, text = tmp_path / "image.fits", tmp_path / "text.fits"
    fitsio.write(str(image), np.zeros((4, 4), "f4"))
    text.write_text("not FITS\n" * 400)
    with pytest.raises(CatalogError, match=r"image.fits: empty catalogue: .*--bricks"):
        read_tractor(image)
    with pytest.raises(CatalogError, match=r"text.fits: cannot read the tractor catalogue .*--bricks"):
        read_tractor(text)
    with pytest.raises(CatalogError, match=r"absent.fits: cannot read the truth table"):
        read_truth(tmp_path / "absent.fits")


def test_truncated_catalogue(tmp_path):
    path = tmp_path / "t.fits"
    write_tractor(path, rows(40))
    path.write_bytes(path.read_bytes()[:12000])
    with pytest.raises(CatalogError, match=r"t.fits: cannot read the tractor catalogue"):
        read_tractor(path)


def test_a_catalogue_without_rows_is_an_empty_record(tmp_path):
    columns = {name: value[:0] for name, value in tractor_columns(rows(), "dr9").items()}
    write_table(tmp_path / "t.fits", columns)
    assert len(read_tractor(tmp_path / "t.fits").sources) == 0


@pytest.mark.parametrize("kind", ["obiwan", "legacysim", "obiwan_code"])
@pytest.mark.parametrize("bands", [GRZ, GRIZ, ("r",)])
def test_each_truth_table_reads_alike(kind, bands, tmp_path):
    made = rows(bands=bands)
    write_table(tmp_path / "t.fits", truth_columns(kind, made))
    got = read_truth(tmp_path / "t.fits").sources
    assert got.bands == bands
    np.testing.assert_array_equal(got.ra, made["ra"])
    np.testing.assert_allclose(got.flux, made["flux"], rtol=1e-6)
    np.testing.assert_allclose(got.shape_r, 0.5)
    np.testing.assert_allclose(got.e1, 0.1)
    assert got.type.tolist() == ["EXP"] * 3
    assert got.id.tolist() == made["id"].tolist()
    if kind == "legacysim":  # its tables have none
        assert np.isnan(got.mw_transmission).all()
    else:
        np.testing.assert_allclose(got.mw_transmission, made["mw"], rtol=1e-6)


@pytest.mark.parametrize("obj", ["star", "qso"])
def test_point_sources_of_the_original_have_no_shapes(obj, tmp_path):
    columns = truth_columns("obiwan", rows(), obj)
    assert "rhalf" not in columns
    write_table(tmp_path / "t.fits", columns)
    got = read_truth(tmp_path / "t.fits").sources
    assert got.type.tolist() == ["PSF"] * 3
    assert (got.shape_r == 0).all()


def test_truth_types_follow_the_profile(tmp_path):
    made = rows(5, sersic=np.array([0, 1, 4, 2.5, 1.0]), shape_r=np.array([0.5, 0.5, 0.5, 0.5, 0.0]))
    write_table(tmp_path / "t.fits", truth_columns("legacysim", made))
    assert read_truth(tmp_path / "t.fits").sources.type.tolist() == ["PSF", "EXP", "DEV", "SER", "PSF"]


def test_collided_rows_are_not_injected(tmp_path):
    write_table(
        tmp_path / "t.fits", truth_columns("legacysim", rows(collided=np.array([False, True, False])))
    )
    assert read_truth(tmp_path / "t.fits").sources.injected.tolist() == [True, False, True]


def test_only_added_ids_are_injected(tmp_path):
    write_table(tmp_path / "t.fits", truth_columns("obiwan", rows()))
    write_table(tmp_path / "added.fits", {"id": np.array([14, 99], "i4")})
    got = read_truth(tmp_path / "t.fits", tmp_path / "added.fits").sources
    assert got.injected.tolist() == [False, True, False]  # ids 3, 14, 25
    got = read_truth(tmp_path / "t.fits", tmp_path / "absent.fits").sources
    assert got.injected.all()


def test_truth_without_fluxes(tmp_path):
    columns = truth_columns("obiwan", rows())
    del columns["rflux"]
    write_table(tmp_path / "t.fits", columns)
    assert read_truth(tmp_path / "t.fits").sources.bands == ("g", "z")
    del columns["gflux"], columns["zflux"]
    write_table(tmp_path / "t.fits", columns)
    with pytest.raises(CatalogError, match=r"t.fits: the truth table has no column gflux or flux_g"):
        read_truth(tmp_path / "t.fits")


def test_cameras(tmp_path):
    write_table(tmp_path / "c.fits", {"camera": np.array(["decam ", "90prime"])})
    assert read_cameras(tmp_path / "c.fits") == {"decam", "90prime"}
    assert read_cameras(tmp_path / "absent.fits") == set()


def test_exposures_of_a_brick(tmp_path):
    rows = {"camera": np.array(["decam ", "90PRIME", "decam"]), "expnum": np.array([7, 2**40, 7])}
    write_table(tmp_path / "c.fits", {**rows, "ccdname": np.array(["N1", "CCD1", "S2"])})
    assert read_exposures(tmp_path / "c.fits").tolist() == [(b"90prime", 2**40), (b"decam", 7)]
    assert read_exposures(tmp_path / "absent.fits") is None
    write_table(tmp_path / "c.fits", {"camera": rows["camera"]})
    assert read_exposures(tmp_path / "c.fits") is None
    (tmp_path / "c.fits").write_bytes(b"SIMPLE")
    with pytest.raises(CatalogError, match=r"c\.fits: cannot read the CCD table"):
        read_exposures(tmp_path / "c.fits")
