"""A user's own positions: FITS, ECSV and CSV."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table

from obiwan.dplearn.errors import CatalogError
from obiwan.dplearn.survey.tables import read_table

GOOD = {"brick": ["1211p060", "1211p060", "0001m002"], "ra": [121.1, 121.2, -0.1], "dec": [6.0, 6.1, -0.2]}


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".csv"])
def test_formats(suffix, tmp_path):
    path = tmp_path / f"mine{suffix}"
    Table({**GOOD, "id": [5, 6, 5], "mag_G": [20.0, 21.0, 22.5]}).write(path)
    table = read_table(path)
    assert table.brick.tolist() == GOOD["brick"]
    assert table.run.tolist() == ["release"] * 3
    assert table.sources.id.tolist() == [5, 6, 5]
    np.testing.assert_allclose(table.sources.ra, [121.1, 121.2, 359.9])
    np.testing.assert_allclose(table.sources.of_band("mag", "g"), [20, 21, 22.5])
    assert np.isnan(table.sources.in_bands(("r", "i", "z")).mag).all()
    assert len(table.of_brick("1211p060")) == 2


def test_the_rows_of_each_brick(tmp_path, rng):
    names = np.array([f"{i:04d}p{i:03d}" for i in rng.integers(0, 20, 300)])
    path = tmp_path / "mine.csv"
    Table({"brick": names, "ra": np.arange(300) / 10, "dec": np.zeros(300), "id": np.arange(300)}).write(path)
    table = read_table(path)
    for name in (*np.unique(names), "1234p567"):
        mine = table.of_brick(str(name))
        assert mine.sources.id.tolist() == np.flatnonzero(names == name).tolist()
        assert set(mine.brick) <= {name}
        assert len(mine.run) == len(mine.brick) == len(mine.sources)


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".csv"])
def test_run_and_other_spellings(suffix, tmp_path):
    path = tmp_path / f"mine{suffix}"
    columns = {"BRICKNAME": GOOD["brick"], "RA": GOOD["ra"], "DEC": GOOD["dec"], "Run": ["rs0", "", "rs1"]}
    Table(columns).write(path)
    table = read_table(path)
    assert table.run.tolist() == ["rs0", "release", "rs1"]
    assert table.sources.id.tolist() == [0, 1, 2]


def test_one_id_may_stand_in_two_bricks_but_not_twice_in_one(tmp_path):
    path = tmp_path / "mine.csv"
    Table({**GOOD, "id": [1, 2, 1]}).write(path)
    assert len(read_table(path)) == 3
    Table({**GOOD, "id": [2, 2, 1]}).write(path, overwrite=True)
    with pytest.raises(CatalogError, match=r"mine.csv: duplicate ids in the rows of 1211p060 .*\(2\)"):
        read_table(path)


@pytest.mark.parametrize("suffix", [".ecsv", ".csv"])
def test_byte_order_mark(suffix, tmp_path):
    path = tmp_path / f"mine{suffix}"
    Table(GOOD).write(path)
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read_table(path).brick.tolist() == GOOD["brick"]


@pytest.mark.parametrize("column", ["brick", "ra", "dec"])
def test_missing_column(column, tmp_path):
    path = tmp_path / "mine.csv"
    Table({name: value for name, value in GOOD.items() if name != column}).write(path)
    there = ", ".join(name for name in GOOD if name != column)
    with pytest.raises(CatalogError, match=rf"mine.csv: the table has no column {column}.*has {there}"):
        read_table(path)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"ra": [1.0, np.nan, 2]}, "not finite"),
        ({"dec": [0.0, 91.0, 0]}, "beyond 90"),
        ({"ra": [36000.0, 36001.0, 36002.0]}, "ra beyond 360"),  # arcsec
        ({"ra": ["here", "there", "x"]}, "column ra is not numbers"),
        ({"ra": ["00:40:00", "00:41:00", "00:42:00"]}, "column ra is not numbers; give it in deg"),
        ({"brick": ["1211p060", "", "0001m002"]}, r"1 row\(s\) without a brick"),
        ({"brickname": ["1211p060", "1212p060", "0001m002"]}, "brick and brickname disagree"),
    ],
)
def test_bad_positions(bad, message, tmp_path):
    path = tmp_path / "mine.csv"
    Table({**GOOD, **bad}).write(path)
    with pytest.raises(CatalogError, match=rf"mine.csv: .*{message}"):
        read_table(path)


def test_ids_that_would_change(tmp_path):
    path = tmp_path / "mine.fits"
    Table({**GOOD, "id": np.array([1, 2, 2**64 - 1], "u8")}).write(path)
    with pytest.raises(CatalogError, match=r"mine.fits: values of column id are beyond .* number them anew"):
        read_table(path)
    Table({**GOOD, "id": np.array([1, 2, 2**63 - 1], "u8")}).write(path, overwrite=True)
    assert read_table(path).sources.id.tolist() == [1, 2, 2**63 - 1]


def test_no_table(tmp_path):
    with pytest.raises(CatalogError, match=r"mine.csv: cannot read this table.*No such file"):
        read_table(tmp_path / "mine.csv")
    (tmp_path / "mine.fits").write_text("no FITS")
    with pytest.raises(CatalogError, match=r"mine.fits: cannot read this table"):
        read_table(tmp_path / "mine.fits")
    (tmp_path / "empty.csv").write_text("brick,ra,dec\n")
    with pytest.raises(CatalogError, match=r"empty.csv: empty catalogue"):
        read_table(tmp_path / "empty.csv")


def test_a_column_of_vectors(tmp_path):
    path = tmp_path / "mine.fits"
    Table({**GOOD, "ra": np.ones((3, 2))}).write(path)
    with pytest.raises(CatalogError, match=r"mine.fits: column ra is not numbers"):
        read_table(path)


@pytest.mark.parametrize(
    ("suffix", "unit", "scale"),
    [
        (".ecsv", "hourangle", 1 / 15),
        (".fits", "rad", np.pi / 180),
        (".ecsv", "rad", np.pi / 180),
        (".fits", "arcsec", 3600),
        (".fits", "deg", 1),
        (".ecsv", "Degrees", 1),
    ],
)
def test_declared_angles_are_converted(suffix, unit, scale, tmp_path):
    path = tmp_path / f"mine{suffix}"
    table = Table({**GOOD, "ra": np.array(GOOD["ra"]) * scale, "dec": np.array(GOOD["dec"]) * scale})
    table["ra"].unit = table["dec"].unit = unit
    table.write(path)
    sources = read_table(path).sources
    np.testing.assert_allclose(sources.ra, [121.1, 121.2, 359.9])
    np.testing.assert_allclose(sources.dec, GOOD["dec"])


@pytest.mark.parametrize(
    ("column", "unit"), [("ra", "h"), ("dec", "Jy"), ("mag_g", "nJy"), ("mag_g", "mag(ST)")]
)
def test_units_of_another_kind_are_refused(column, unit, tmp_path):
    path = tmp_path / "mine.ecsv"
    table = Table({**GOOD, "mag_g": [20.0, 21.0, 22.0]})
    table[column].unit = unit
    table.write(path)
    with pytest.raises(CatalogError) as caught:
        read_table(path)
    assert f"column {column} is in {unit}," in str(caught.value)


@pytest.mark.parametrize("unit", ["mag", "mag(AB)"])
def test_units_of_magnitudes(unit, tmp_path):
    path = tmp_path / "mine.ecsv"
    table = Table({**GOOD, "mag_g": [20.0, 21.0, 22.0]})
    table["mag_g"].unit = unit
    table.write(path)
    np.testing.assert_allclose(read_table(path).sources.of_band("mag", "g"), [20, 21, 22])


def test_two_columns_of_one_name(tmp_path):
    path = tmp_path / "mine.csv"
    Table({**GOOD, "RA": [1.0, 2.0, 3.0]}).write(path)
    with pytest.raises(CatalogError, match=r"mine.csv: columns ra and RA"):
        read_table(path)
    path.write_text("brick,ra,ra,dec\n1211p060,121.1,8.07,6\n")
    with pytest.raises(CatalogError, match=r"mine.csv: columns ra and ra_1, or ra twice"):
        read_table(path)
    Table({**GOOD, "z": [1.0, 2.0, 3.0], "Z": [1.0, 2.0, 3.0]}).write(path, overwrite=True)
    assert len(read_table(path)) == 3  # what is not used may be called as it likes


@pytest.mark.parametrize("unmeasured", [-99.0, 99.0, -999.0, -9.99, -1.0, 0.0, 1e20, np.inf, -np.inf, np.nan])
def test_magnitudes_that_mean_not_measured(unmeasured, tmp_path):
    path = tmp_path / "mine.fits"
    Table({**GOOD, "mag_g": [20.0, unmeasured, 22.0]}).write(path)
    sources = read_table(path).sources
    np.testing.assert_allclose(sources.of_band("mag", "g"), [20, np.nan, 22])
    assert np.isnan(sources.of_band("flux", "g")[1])


def test_columns_that_are_not_used(tmp_path):
    """May hold anything, in units that astropy does not know."""
    path = tmp_path / "mine.ecsv"
    table = Table({**GOOD, "coord": SkyCoord(GOOD["ra"], GOOD["dec"], unit="deg")})
    table.write(path)
    assert read_table(path).brick.tolist() == GOOD["brick"]
    columns = [fits.Column(name, "8A" if name == "brick" else "D", array=GOOD[name]) for name in GOOD]
    columns.append(fits.Column("flux_g", "E", unit="nanomaggy", array=[1.0, 2.0, 3.0]))
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "mine.fits")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_table(tmp_path / "mine.fits").brick.tolist() == GOOD["brick"]


@pytest.mark.parametrize("suffix", [".fits", ".ecsv"])
def test_positions_of_single_precision_are_warned_of(suffix, tmp_path):
    path = tmp_path / f"mine{suffix}"
    Table({**GOOD, "ra": np.array(GOOD["ra"], "f4")}).write(path)
    (warning,) = read_table(path).warnings
    assert "ra in single precision" in warning
    Table(GOOD).write(path, overwrite=True)
    assert read_table(path).warnings == ()
