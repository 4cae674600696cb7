"""Objects to inject: tables, trees and functions, and where they go."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from astropy.table import Table

import synthetic
from obiwan.dplearn.errors import CatalogError, LayoutError
from obiwan.dplearn.injection.objects import tractor_shape
from obiwan.dplearn.injection.placement import Placement, spread
from obiwan.dplearn.injection.scene import open_scene
from obiwan.dplearn.injection.sources import MASKED, NO_EXPOSURE, TOO_CLOSE, open_sources
from obiwan.dplearn.survey.layouts import RELEASE, Root
from obiwan.dplearn.survey.rendering import circularised

BRICK = synthetic.Brick("0001p000", 0.001, 0.02)  # its primary area straddles RA 0
FLUXES = {"flux_g": 1.0, "flux_r": 2.0, "flux_z": 3.0}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A release of one brick, of which a corner has no exposures and a column is masked."""
    root = tmp_path_factory.mktemp("release")
    place = synthetic.Place("release", root, BRICK.name)
    rows = synthetic.objects(BRICK, [100.0, 150.0], [100.0, 120.0])
    planes = synthetic.planes(BRICK, rows)
    for plane in planes.values():
        plane[:60, :60] = 0
    synthetic.write_run(place, BRICK, rows, data=planes)
    bits = np.zeros((BRICK.size, BRICK.size), np.int32)
    bits[:, 200:210], bits[:, 100:110] = 2, 1  # a bright star; outside the primary area says nothing
    folder = root / "coadd" / BRICK.name[:3] / BRICK.name
    synthetic.write_plane(folder / f"legacysurvey-{BRICK.name}-maskbits.fits", bits, BRICK.cards())
    return open_scene(Root(0, root, RELEASE).files(BRICK.name), synthetic.BANDS)


def table_at(path, x, y, **columns):
    ra, dec = BRICK.sky(x, y)
    n = len(ra)
    columns = {**FLUXES, "sersic": 1.0, "shape_r": 0.5, **columns}
    Table({"ra": ra, "dec": dec, **{k: np.broadcast_to(v, n) for k, v in columns.items()}}).write(path)
    return str(path)


def test_a_table_with_positions(scene, tmp_path):
    path = table_at(tmp_path / "some.csv", [80.25, 120.5], [90.0, 140.75], note=["a", "b"])
    sources = pickle.loads(pickle.dumps(open_sources(path, Placement())))
    (rows,) = sources.of_brick(scene).runs.values()
    np.testing.assert_allclose(rows["x"], [80.25, 120.5], atol=1e-6)
    np.testing.assert_allclose(rows["y"], [90.0, 140.75], atol=1e-6)
    assert rows["flux_r"].tolist() == [2.0, 2.0]
    assert rows["shape_e1"].tolist() == [0.0, 0.0]
    assert rows["note"].tolist() == ["a", "b"]
    assert rows["row"].tolist() == [1, 2]
    west, _, south, north = scene.box
    middle = float(scene.frame.wcs.all_pix2world([[100.0, 100.0]], 0)[0, 0])  # RA falls along x
    whole, part = sources.within([scene.box, (west, middle, south, north)])
    assert whole.objects.numbers.tolist() == [1, 2]
    (rows,) = part.of_brick(scene).runs.values()
    assert (rows["row"].tolist(), rows["id"].tolist(), rows["note"].tolist()) == ([2], [1], ["b"])


def test_magnitudes_are_dereddened(scene, tmp_path):
    mags = {f"mag_{band}": 20.0 for band in synthetic.BANDS}
    path = tmp_path / "mags.fits"
    ra, dec = BRICK.sky([120.0], [120.0])
    Table({"RA": ra, "DEC": dec, **{k.upper(): [v] for k, v in mags.items()}}).write(path)
    (rows,) = open_sources(str(path), Placement(), needs=("flux",)).of_brick(scene).runs.values()
    for band in synthetic.BANDS:
        assert rows[f"flux_{band}"][0] == pytest.approx(10 * synthetic.DUST[band])
    own = {f"mw_transmission_{band}": [0.5] for band in synthetic.BANDS}  # goes before the release's
    Table({"ra": ra, "dec": dec, **{k: [v] for k, v in mags.items()}, **own}).write(tmp_path / "own.fits")
    given = open_sources(str(tmp_path / "own.fits"), Placement(), needs=("flux",))
    (rows,) = given.of_brick(scene).runs.values()
    assert rows["flux_r"].tolist() == pytest.approx([5.0])


def test_uncovered_and_masked_positions_are_dropped_and_counted(scene, tmp_path):
    path = table_at(tmp_path / "some.ecsv", [30.0, 205.0, 105.0], [30.0, 150.0, 150.0])
    placed = open_sources(path, Placement(keep_off_masked=True)).of_brick(scene)
    assert placed.dropped == {TOO_CLOSE: 0, NO_EXPOSURE: 1, MASKED: 1}
    assert [len(rows) for rows in placed.runs.values()] == [1]
    assert sum(map(len, open_sources(path, Placement()).of_brick(scene).runs.values())) == 2


def test_close_positions_go_to_other_runs(scene, tmp_path):
    x = [100.0, 110.0, 120.0, 180.0]  # 2.6 arcsec apart, but the last
    path = table_at(tmp_path / "some.csv", x, [100.0] * 4)
    one = open_sources(path, Placement()).of_brick(scene)
    assert one.dropped[TOO_CLOSE] == 1
    two = open_sources(path, Placement(runs=2)).of_brick(scene)
    assert two.dropped[TOO_CLOSE] == 0
    assert list(two.runs) == ["file0_rs0_skip0", "file0_rs1_skip0"]
    for rows in two.runs.values():
        assert (np.diff(rows["x"]) * 0.262 >= 5).all()


def test_spread_fills_runs_evenly():
    x = np.arange(40) * 100.0
    run = spread(x, x, Placement(runs=4))
    assert np.bincount(run).tolist() == [10] * 4


def test_random_positions(scene, tmp_path):
    """Uniform over the primary area, apart within a run, the same again, and drawn from the table."""
    path = tmp_path / "models.csv"
    Table({**{k: [v, 2 * v] for k, v in FLUXES.items()}, "sersic": [1.0, 4.0], "shape_r": [0.5, 1.0]}).write(
        path
    )
    placement = Placement(density=5e5, runs=3, separation=6.0)
    placed = open_sources(str(path), placement).of_brick(scene)
    again = open_sources(str(path), placement).of_brick(scene)
    n = sum(map(len, placed.runs.values())) + sum(placed.dropped.values())
    assert n == pytest.approx(5e5 * scene.area, abs=1)
    for name, rows in placed.runs.items():
        assert (rows == again.runs[name]).all()
        assert scene.frame.primary(rows["ra"], rows["dec"]).all()
        apart = np.hypot(*(rows[a][:, None] - rows[a][None] for a in "xy")) + 1e9 * np.eye(len(rows))
        assert apart.min() * 0.262 >= 6.0
        assert (rows["flux_g"] == np.where(rows["row"] == 1, 1.0, 2.0)).all()
    with pytest.raises(CatalogError, match=r"brick 0001p000.*no room for \d+ objects.*--runs"):
        open_sources(str(path), Placement(density=2e7)).of_brick(scene)


@pytest.mark.parametrize("kind", ["legacysim", "obiwan", "obiwan_code"])
def test_the_truth_of_a_tree_is_drawn_again(scene, tmp_path, kind):
    run = {"legacysim": "file0_rs7_skip1", "obiwan": "skip_rs300", "obiwan_code": "rs5"}[kind]
    injected = synthetic.objects(BRICK, [100.0, 130.0, 160.0], [150.0, 150.0, 150.0])
    injected["collided"][1] = kind == "legacysim"
    synthetic.write_run(synthetic.Place(kind, tmp_path, BRICK.name, run), BRICK, injected, injected)
    sources = open_sources(str(tmp_path), Placement())
    assert sources.bricks() == {BRICK.name}
    ((name, rows),) = sources.of_brick(scene).runs.items()
    assert name == run
    keep = ~injected["collided"] if kind == "legacysim" else np.ones(3, bool)
    np.testing.assert_allclose(rows["ra"], injected["ra"][keep])
    np.testing.assert_allclose(rows["flux_z"], injected["flux"][keep, 2])
    shape = tuple(injected[name] for name in ("shape_r", "e1", "e2"))
    for name, wanted in zip(
        ("shape_r", "shape_e1", "shape_e2"),
        tractor_shape(*shape) if kind == "obiwan" else shape,
        strict=True,
    ):
        np.testing.assert_allclose(rows[name], wanted[keep], rtol=1e-6)


def test_shapes_of_the_original_obiwan():
    """A galaxy of axis ratio 0.5 along north, as kenobi.py writes it."""
    r, e = 0.8, 1 / 3
    e1 = -2 * e / (1 + e**2)
    assert e1 == pytest.approx(-(1 - 0.25) / (1 + 0.25))
    shape = tractor_shape(circularised(r, e, 0.0), np.array(e1), np.array(0.0))
    np.testing.assert_allclose(shape, (r, e, 0.0), atol=1e-12)
    np.testing.assert_allclose(tractor_shape(np.array(1.0), np.array(0.0), np.array(0.0)), (1.0, 0.0, 0.0))


def draw_stars(n, brick, rng):
    """A user's function: stars of magnitude 20."""
    return {f"MAG_{band}": 19 + rng.random(n) for band in brick.bands}


def fail(*_):
    raise ArithmeticError("no such star")


def far_away(n, *_):
    return {"ra": np.full(n, 100.0), "dec": np.zeros(n), **{k: np.ones(n) for k in FLUXES}}


def test_a_function(scene):
    placement = Placement(density=1e5)
    (rows,) = open_sources("test_sources:draw_stars", placement, ("flux",)).of_brick(scene).runs.values()
    assert len(rows) > 10
    assert (rows["flux_r"] > 9).all()
    with pytest.raises(CatalogError, match=r"--sources test_sources:fail: brick 0001p000.*no such star"):
        open_sources("test_sources:fail", placement).of_brick(scene)
    with pytest.raises(CatalogError, match=r"brick 0001p000.*: row 1: its position is outside the brick"):
        open_sources("test_sources:far_away", placement, ("flux",)).of_brick(scene)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"flux_g": [1.0, np.nan]},
            r"row 2: flux_g or mag_g gives no finite flux.*; correct it or leave the row out",
        ),
        ({"shape_r": [0.5, -1.0]}, r"brick 0001p000.*row 2: shape_r is negative"),
        ({"shape_e1": [1.0, 0.0]}, r"row 1: its ellipticity is not below 1"),
        ({"id": [3, 3]}, r"duplicate ids"),
    ],
)
def test_bad_rows_are_named(scene, tmp_path, columns, message):
    path = table_at(tmp_path / "bad.fits", [100.0, 180.0], [100.0, 180.0], **columns)
    with pytest.raises(CatalogError, match=message):
        open_sources(path, Placement()).of_brick(scene)


def test_bad_tables(scene, tmp_path):
    ra, dec = BRICK.sky([100.0], [100.0])
    bare = tmp_path / "bare.csv"
    Table({"ra": ra, "dec": dec, "flux_g": [1.0]}).write(bare)
    with pytest.raises(CatalogError, match=r"bare.csv: brick 0001p000.*no column flux_r or mag_r.*--bands"):
        open_sources(str(bare), Placement(), ("flux",)).of_brick(scene)
    with pytest.raises(CatalogError, match=r"bare.csv: brick 0001p000.*no column stamp; .* such as stamp_g"):
        open_sources(str(bare), Placement(), ("stamp",)).of_brick(scene)
    half = tmp_path / "half.csv"
    Table({"ra": ra}).write(half)
    with pytest.raises(CatalogError, match="one of ra and dec"):
        open_sources(str(half), Placement())
    south = tmp_path / "south.csv"
    Table({"ra": ra, "dec": [-100.0]}).write(south)
    with pytest.raises(CatalogError, match="row 1: dec is no position"):
        open_sources(str(south), Placement())
    with pytest.raises(ValueError, match="no such file or directory, and not module:function"):
        open_sources(str(tmp_path / "absent.fits"), Placement())
    with pytest.raises(LayoutError, match="is a data release: it has no truth"):
        open_sources(str(scene.run.root.path), Placement())
