"""What is measured on cutouts is what was put there, whatever stands beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from obiwan.dplearn.controls import measure
from obiwan.dplearn.controls.contrasts import location
from obiwan.dplearn.controls.measure import CHUNK, NEED_IVAR, measure_dtype, measure_split
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset import manifest as manifests
from obiwan.dplearn.trainingset import stampset
from obiwan.dplearn.trainingset.shards import read_shard
from stamps import GRZ, SHOT, SKY, Galaxies, cut, galaxies, in_bands, light, rows_of
from tables import write_shard

BANDS = GRZ.bands


def measure_stamps(x: np.ndarray, rows: np.ndarray, spec: StampSpec = GRZ) -> np.ndarray:
    return measure.measure_stamps(x, rows, spec)


def flat(image: np.ndarray) -> np.ndarray:
    """Cutouts of these images with an ivar that is the same everywhere."""
    ivar = np.broadcast_to((SKY**-2.0).astype(np.float32), image.shape)
    return np.concatenate([image, ivar], axis=-1)


def same(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether records are equal, NaN to NaN."""
    return all(np.array_equal(one[k], two[k], equal_nan=one[k].dtype.kind == "f") for k in one.dtype.names)


def finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)].astype(float)


@pytest.fixture(scope="module")
def crowd() -> Galaxies:
    return galaxies(1500, 1)


@pytest.mark.parametrize("offset", [0.0, 1.5])
def test_mean_centroid_among_neighbours_is_right_to_a_fiftieth_of_a_pixel(crowd: Galaxies, offset: float):
    x = cut(replace(crowd, x=crowd.x + offset, y=crowd.y - offset / 2), 2, nearest=6.5)
    found = measure_stamps(x, rows_of(crowd, 0, 3))
    for axis, expected in (("x", offset), ("y", -offset / 2)):
        for band in BANDS:
            values = finite(found[f"d{axis}_{band}"])
            assert len(values) > 0.95 * len(crowd)
            assert location(values)[0] == pytest.approx(expected, abs=0.02)


def test_each_centroid_is_exact_without_noise():
    sample = galaxies(200, 4, bright=5)
    rng = np.random.default_rng(5)
    dx, dy = rng.uniform(-2.5, 2.5, (2, 200))
    found = measure_stamps(
        flat(light(replace(sample, x=sample.x + dx, y=sample.y + dy))), rows_of(sample, 0, 6)
    )
    for band in BANDS:
        np.testing.assert_allclose(found[f"dx_{band}"], dx, atol=0.004)
        np.testing.assert_allclose(found[f"dy_{band}"], dy, atol=0.004)


@pytest.mark.parametrize(("distance", "pull"), [(7.0, 0.2), (9.0, 0.15), (12.0, 0.02)])
def test_a_neighbour_on_one_side_hardly_pulls(distance: float, pull: float):
    """Always on the same side, as no sky has it, and as bright as the galaxy."""
    sample = replace(galaxies(150, 7, bright=5), size=np.full(150, 1.2), tail=np.zeros(150))
    image = light(sample) + light(replace(sample, x=sample.x + distance))
    x = flat(image + SKY.astype(np.float32) * np.random.default_rng(1).standard_normal(image.shape))
    found = measure_stamps(x.astype(np.float32), rows_of(sample, 0, 8))
    assert (found["nearest"] < distance + 2).all()
    for band in BANDS:
        assert abs(np.nanmedian(found[f"dx_{band}"])) < pull
        assert abs(np.nanmedian(found[f"dy_{band}"])) < 0.01


def test_widths_concentrations_and_ellipticities():
    sample = replace(galaxies(100, 9, bright=5), tail=np.zeros(100), e=np.zeros(100))
    rows = rows_of(sample, 0, 10)
    found = measure_stamps(flat(light(sample)), rows)
    for k, band in enumerate(BANDS):
        true = np.hypot(sample.size, sample.psf[:, k])
        np.testing.assert_allclose(found[f"width_{band}"], true, rtol=0.02)
        window = [sample.flux[:, k] * s**2 / (s**2 + true**2) for s in (2.5, 1.25)]
        np.testing.assert_allclose(found[f"core_{band}"], window[0], rtol=0.02)
        np.testing.assert_allclose(found[f"conc_{band}"], window[1] / window[0], rtol=0.02)
        assert np.abs(found[f"e1_{band}"]).max() < 0.01


def test_ellipticities_are_those_of_the_light_in_the_window():
    """A Gaussian of variance s is seen with s w / (s + w) along each axis, w the window's."""
    sample = replace(galaxies(100, 9, bright=5), tail=np.zeros(100), e=np.full(100, 0.3))
    found = measure_stamps(flat(light(sample)), rows_of(sample, 0, 10))
    for k, band in enumerate(BANDS):
        s = np.stack([sample.size**2 * stretch + sample.psf[:, k] ** 2 for stretch in (1.3, 0.7)])
        seen = s * 2.5**2 / (s + 2.5**2)
        np.testing.assert_allclose(found[f"e1_{band}"], (seen[0] - seen[1]) / seen.sum(0), atol=0.005)
        assert np.abs(found[f"e2_{band}"]).max() < 0.005


def test_light_along_the_diagonal_has_the_other_ellipticity():
    sample = replace(galaxies(100, 9, bright=5), tail=np.zeros(100), e=np.zeros(100), size=np.full(100, 1.6))
    image = light(replace(sample, x=sample.x + 0.8, y=sample.y + 0.8))
    image += light(replace(sample, x=sample.x - 0.8, y=sample.y - 0.8))
    found = measure_stamps(flat(image), rows_of(sample, 0, 10))
    for k, band in enumerate(BANDS):
        across = 1.6**2 + sample.psf[:, k] ** 2
        s = np.stack([across + 2 * 0.8**2, across])  # along the diagonal it is wider
        seen = s * 2.5**2 / (s + 2.5**2)
        np.testing.assert_allclose(found[f"e2_{band}"], (seen[0] - seen[1]) / seen.sum(0), atol=0.01)
        assert np.abs(found[f"e1_{band}"]).max() < 0.005


def test_ivar_says_shot_noise_and_dips():
    sample = galaxies(300, 11)
    rows = rows_of(sample, 0, 12)
    honest, dipped = (measure_stamps(cut(sample, 13, dip=dip), rows) for dip in (0.0, 0.1))
    for band in BANDS:
        assert np.nanmedian(honest[f"slope_{band}"]) == pytest.approx(SHOT, rel=0.03)
        deeper = np.nanmedian(dipped[f"dip_{band}"] - honest[f"dip_{band}"])
        assert -0.06 < deeper < -0.03  # a window about as wide as the dip sees 0.4 of it
        assert np.nanmedian(dipped[f"slope_{band}"]) > 1.3 * SHOT
        assert np.mean(dipped[f"dx_{band}"] == honest[f"dx_{band}"]) > 0.95  # ivar decides what is faint only
    flat_ivar = measure_stamps(flat(light(sample)), rows)
    assert np.abs(finite(flat_ivar["dip_r"])).max() < 1e-5


def test_noise_is_what_ivar_says_unless_it_is_not():
    sample = galaxies(300, 14)
    rows = rows_of(sample, 0, 15)
    x = cut(sample, 16)
    honest, silent = measure_stamps(x, rows), measure_stamps(cut(sample, 16, shot=0.0), rows)
    wrong = x.copy()
    wrong[..., 3:] *= 2
    doubled = measure_stamps(wrong, rows)
    for band in BANDS:
        assert np.nanmean(honest[f"noise_core_{band}"]) == pytest.approx(1, abs=0.06)
        assert np.nanmean(honest[f"noise_sky_{band}"]) == pytest.approx(1, abs=0.01)
        # Some per cent of the variance under a typical galaxy is its own.
        assert np.nanmean(honest[f"noise_core_{band}"] - silent[f"noise_core_{band}"]) > 0.02
        np.testing.assert_allclose(silent[f"noise_sky_{band}"], honest[f"noise_sky_{band}"], atol=0.03)
        np.testing.assert_allclose(doubled[f"noise_sky_{band}"], 2 * honest[f"noise_sky_{band}"], rtol=0.05)


def test_noiseless_galaxies_leave_no_noise():
    sample = galaxies(100, 17)
    found = measure_stamps(flat(light(sample)), rows_of(sample, 0, 18))
    assert max(np.nanmax(found[f"noise_core_{band}"]) for band in BANDS) < 0.02


def test_background_is_in_units_of_noise():
    sample = galaxies(100, 19)
    x = cut(sample, 20, nearest=None)
    x[..., :3] += 0.5 * SKY.astype(np.float32)
    found = measure_stamps(x, rows_of(sample, 0, 21))
    for band in BANDS:
        assert np.nanmean(found[f"sky_{band}"]) == pytest.approx(0.52, abs=0.05)


def test_blank_pixels_are_counted_and_nothing_is_measured_beside_them():
    sample = galaxies(4, 22)
    x = cut(sample, 23, nearest=None)
    x[0, 32, 34, (1, 4)] = 0  # in the core of one band
    x[1, :, 50:, :] = 0  # far away, as at the edge of a coadd
    x[2, 60, 60, (0, 3)] = (10, 0)  # a saturated pixel holds a fill
    found = measure_stamps(x, rows_of(sample, 0, 24))
    assert found["blank_r"][0] == pytest.approx(1 / 4096)
    assert found["blank_core_r"][0] == pytest.approx(1 / 113)
    assert np.isnan(
        [found[f"{name}_r"][0] for name in ("dx", "dip", "noise_core", "core", "width", "snr")]
    ).all()
    assert np.isfinite([found[f"{name}_{b}"][0] for name in ("dx", "dip", "noise_core") for b in "gz"]).all()
    assert found["blank_z"][1] == pytest.approx(14 / 64)
    assert found["blank_core_z"][1] == 0
    for name in ("dx", "dy", "dip", "noise_core", "noise_sky", "sky", "slope"):
        assert all(np.isfinite(found[f"{name}_{band}"][1:]).all() for band in BANDS)


def test_nothing_but_blank_pixels_measures_nothing():
    found = measure_stamps(np.zeros((2, 64, 64, 6), np.float32), rows_of(galaxies(2, 25), 0, 26))
    assert (found["blank_g"] == 1).all()
    assert (found["peaks"] == 0).all()
    for name in ("dx_g", "snr_r", "sky_z", "dip_g", "noise_sky_r", "ivar_distinct_z", "ivar_step_g"):
        assert np.isnan(found[name]).all()


def test_neighbours_are_counted_and_the_nearest_is_told():
    sample = replace(galaxies(50, 27, bright=4), x=np.zeros(50), y=np.zeros(50))
    image = light(sample) + light(replace(sample, x=np.full(50, 12.0), y=np.full(50, -9.0)))
    image += light(replace(sample, x=np.full(50, -20.0), y=np.full(50, 3.0)))
    rng = np.random.default_rng(28)
    image += SKY.astype(np.float32) * rng.standard_normal(image.shape, np.float32)
    found = measure_stamps(flat(image), rows_of(sample, 0, 29))
    assert np.mean(found["peaks"] == 2) > 0.9
    assert np.median(found["nearest"]) == pytest.approx(15, abs=0.5)
    lone = measure_stamps(cut(sample, 30, nearest=None), rows_of(sample, 0, 29))
    assert np.mean(lone["peaks"] == 0) > 0.9
    assert lone["nearest"].max() == pytest.approx(32 * np.sqrt(2))
    # The neighbour at 20 px lies beyond 16, that at 15 in part.
    assert np.median(found["light_r"] - lone["light_r"]) > np.median(sample.flux[:, 1])


def test_quantisation_levels():
    sample = galaxies(20, 31)
    x = cut(sample, 32, nearest=None)
    rows = rows_of(sample, 0, 34)
    fine = measure_stamps(x, rows)
    x[..., 4] = np.round(x[..., 4] / 300) * 300
    x[..., 2] = np.round(x[..., 2] / 0.01) * 0.01
    coarse = measure_stamps(x, rows)
    assert (fine["ivar_distinct_r"] > 0.95).all()
    assert (coarse["ivar_distinct_r"] < 0.25).all()
    np.testing.assert_allclose(coarse["ivar_step_r"], np.log10(300 / SKY[1] ** -2), atol=0.05)
    assert (coarse["distinct_z"] < 0.3).all()
    assert (coarse["distinct_r"] > 0.95).all()
    np.testing.assert_array_equal(coarse["ivar_step_g"], fine["ivar_step_g"])


def test_phase_is_the_place_in_the_pixel():
    sample = galaxies(300, 35)
    rows = rows_of(sample, 0, 36)
    rows["x"][0], rows["y"][0] = 100.5, 99.4999
    found = measure_stamps(cut(sample, 37), rows)
    assert found["phase_x"][0] == pytest.approx(-0.5)  # half-integers round up, as when stamps are cut
    assert found["phase_y"][0] == pytest.approx(0.4999, abs=1e-4)
    np.testing.assert_allclose(found["phase_x"][1:], sample.x[1:], atol=1e-4)


def test_measurements_do_not_depend_on_company():
    """One by one, in another order, whatever the rows say beside x and y: the same numbers."""
    sample = galaxies(CHUNK + 40, 38)
    x, rows = cut(sample, 39), rows_of(sample, 0, 40)
    found = measure_stamps(x, rows)
    order = np.random.default_rng(41).permutation(len(x))
    other = rows[order]
    other["label"], other["flux_r"], other["id"], other["shape_r"] = 1, -5, 77, np.nan
    assert same(measure_stamps(x[order], other), found[order])
    assert found.dtype == measure_dtype(GRZ)
    assert len(measure_stamps(x[:0], rows[:0])) == 0


# --- other bands, sizes and planes


@pytest.mark.parametrize("bands", [("g", "r", "i", "z"), ("r",), ("g", "z")])
def test_other_bands_are_measured_alike(bands: tuple[str, ...]):
    """A band by itself says what it says among others: only neighbours are sought in all bands together."""
    sample, spec = galaxies(80, 50), StampSpec(bands)
    every = StampSpec(("g", "r", "i", "z"))
    x = cut(in_bands(sample, every.bands), 51, nearest=None)
    rows = rows_of(in_bands(sample, every.bands), 0, 52)
    channels = [every.channels.index(name) for name in spec.channels]
    found, four = measure_stamps(x[..., channels], rows, spec), measure_stamps(x, rows, every)
    assert found.dtype == measure_dtype(spec)
    alone = (found["peaks"] == 0) & (four["peaks"] == 0)
    assert alone.mean() > 0.9
    for band in bands:
        for stem in ("dx", "core", "dip", "noise_sky", "distinct", "light"):
            name = f"{stem}_{band}"
            np.testing.assert_allclose(found[name][alone], four[name][alone], rtol=1e-5, atol=1e-5)
        assert np.nanmedian(found[f"dx_{band}"]) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("bands", [("r",), ("g", "r"), ("g", "r", "i", "z")])
def test_noise_makes_as_few_neighbours_in_any_number_of_bands(bands: tuple[str, ...]):
    """The sum of all bands has the noise of one after division by the root of their number."""
    rng = np.random.default_rng(53)
    image = rng.standard_normal((400, len(bands), 64, 64)).astype(np.float32)
    smooth = []

    def record(values, _):
        smooth.append(values)
        return values

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure.centroids, "maximum_filter", record)
        measure.centroids.neighbours(image, np.ones_like(image))
    assert smooth[0][:, 4:-4, 4:-4].std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("size", [16, 20, 24, 32, 48, 65, 96, 128])
def test_other_sizes(size: int):
    """Centroids are right at any size; what there is no room for is NaN, and nothing else."""
    sample, spec = galaxies(120, 54, bright=3), StampSpec(size=size)
    moved = replace(sample, x=sample.x + 1.0)
    rows = rows_of(sample, 0, 55)
    found = measure_stamps(cut(moved, 56, nearest=None, size=size), rows, spec)
    assert np.nanmedian(found["dx_r"]) == pytest.approx(1.0, abs=0.05)
    assert np.nanmedian(found["dy_r"]) == pytest.approx(0.0, abs=0.05)
    assert np.nanmedian(found["slope_r"]) == pytest.approx(SHOT, rel=0.3 if size < 28 else 0.05)
    nowhere = {"ivar_distinct": 36, "noise_sky": 46, "light": 24}  # the least size that has room
    for stem, least in nowhere.items():
        assert np.isfinite(found[f"{stem}_r"]).all() == (size >= least), stem
    assert found["nearest"].max() == pytest.approx(np.hypot(size // 2, size // 2))


def test_rows_far_from_the_centre_are_far_at_any_size():
    """Quantised rows near the centre of a large stamp do not count; those far from it do."""
    sample, spec = galaxies(10, 57), StampSpec(size=96)
    rows, fine = rows_of(sample, 0, 59), cut(sample, 58, nearest=None, size=96)
    near, far = fine.copy(), fine.copy()
    near[:, 32:65] = np.round(near[:, 32:65], 1)
    far[:, :32], far[:, 65:] = np.round(far[:, :32], 1), np.round(far[:, 65:], 1)
    expected = measure_stamps(fine, rows, spec)["distinct_r"]
    np.testing.assert_array_equal(measure_stamps(near, rows, spec)["distinct_r"], expected)
    assert (measure_stamps(far, rows, spec)["distinct_r"] < 0.3 * expected).all()


def test_images_alone_take_their_noise_from_their_sky():
    sample, spec = galaxies(200, 60), StampSpec(planes=("image",))
    rows, x = rows_of(sample, 0, 61), cut(sample, 62, nearest=None)
    x[0, :, 50:] = 0  # beyond the edge of the coadd
    found, full = measure_stamps(x[..., :3], rows, spec), measure_stamps(x, rows)
    for band in BANDS:
        assert np.nanmedian(found[f"snr_{band}"] / full[f"snr_{band}"]) == pytest.approx(1, abs=0.1)
        both = np.isfinite(found[f"dx_{band}"]) & np.isfinite(full[f"dx_{band}"])
        assert both.mean() > 0.9
        np.testing.assert_allclose(found[f"dx_{band}"][both], full[f"dx_{band}"][both], atol=1e-3)
        assert found[f"blank_{band}"][0] == pytest.approx(14 / 64)
        for stem in NEED_IVAR:
            assert np.isnan(found[f"{stem}_{band}"]).all()
    assert np.isfinite(found["distinct_g"]).all()


# --- a split on disk


@pytest.fixture
def on_disk(tmp_path):
    """A training set of two shards with a table of its sources, rows of two splits mixed."""
    sample = galaxies(60, 42)
    x, rows = cut(sample, 43), rows_of(sample, 0, 44)
    rows["label"] = np.arange(60) % 2
    rows["shard"], rows["row"] = 1 + np.arange(60) // 40, np.arange(60) % 40
    (tmp_path / manifests.WORK).mkdir()
    made = [
        write_shard(tmp_path, "train", n, np.ascontiguousarray(x[part]), rows["label"][part].copy())
        for n, part in ((1, slice(0, 40)), (2, slice(40, 60)))
    ]

    def read_pixels(shard):
        return read_shard(tmp_path, GRZ, shard)

    return stampset.StampSet(tmp_path, {}, GRZ, tuple(made), read_pixels, lambda _: rows, lambda: ()), x, rows


def test_a_split_is_measured_in_the_order_of_its_shards(on_disk):
    stamp_set, x, rows = on_disk
    assert same(measure_split(stamp_set, "train"), measure_stamps(x, rows))


def test_a_table_of_another_set_is_refused(on_disk):
    stamp_set, _, rows = on_disk
    with pytest.raises(TrainingSetError, match=r"sources\.fits: .*make the training set again"):
        measure_split(replace(stamp_set, read_rows=lambda _: rows[:-1]), "train")


def test_one_shard_at_a_time(on_disk, monkeypatch):
    """Memory is that of a shard: none is read before the one before it has been measured."""
    stamp_set, _, _ = on_disk
    events = []
    measure_them = measure.measure_stamps

    def reading(shard):
        events.append(f"read {shard.number}")
        return stamp_set.read(shard)

    def measuring(x, rows, spec):
        events.append(f"measure {len(x)}")
        return measure_them(x, rows, spec)

    monkeypatch.setattr("obiwan.dplearn.controls.measure.measure_stamps", measuring)
    measure_split(replace(stamp_set, read=reading), "train")
    assert events == ["read 1", "measure 40", "read 2", "measure 20"]
