"""Reading planes: any suffix, any HDU, both decoders, and what is refused."""

from __future__ import annotations

import gzip
from dataclasses import replace

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from obiwan.dplearn.errors import CoaddError
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.coadds import (
    BandNotObservedError,
    Frame,
    plane_names,
    read_frame,
    read_pixels,
    read_plane,
    read_planes,
    read_windows,
    windows_pay,
)
from obiwan.dplearn.survey.cutouts import cut_stamps
from obiwan.dplearn.survey.layouts import RELEASE, BrickRun, Root
from synthetic import (
    BANDS,
    KINDS,
    Brick,
    Place,
    Reader,
    objects,
    planes,
    write_coadd,
    write_plane,
)

GRZ = StampSpec()
GRIZ = StampSpec(("g", "r", "i", "z"))
BRICK = Brick("1211p060", 121.1, 6.0, 230)  # not a multiple of the tile
SUFFIXES = (".fits", ".fits.fz", ".fits.gz")
ROWS = objects(BRICK, [60.3, 120.0, 200.5], [60.0, 150.5, 30.0])


def open_run(place: Place) -> BrickRun:
    return BrickRun(
        Root(0, place.root, RELEASE), place.brick, "release", place.coadd, place.tractor, None, None
    )


@pytest.fixture
def place(tmp_path) -> Place:
    return Place("release", tmp_path, BRICK.name)


def make(place: Place, suffix: str = ".fits.fz", flavour: str = "dr9", data=None) -> BrickRun:
    write_coadd(place.coadd, BRICK, planes(BRICK, ROWS) if data is None else data, flavour, suffix)
    return open_run(place)


def independent(place: Place, suffix: str) -> list[np.ndarray]:
    """The six planes by astropy, HDU chosen by suffix."""
    hdu = 1 if suffix.endswith(".fz") else 0
    return [fits.getdata(place.plane(kind, band, suffix), hdu) for kind in KINDS for band in BANDS]


def test_channels_are_images_then_invvars():
    assert plane_names(GRZ) == [(kind, band) for kind in ("image", "invvar") for band in "grz"]
    assert plane_names(StampSpec(("z", "r"), planes=("image",))) == [("image", "r"), ("image", "z")]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("flavour", ["dr5", "dr8", "dr9", "dr10"])
def test_planes_and_frame_of_any_file(suffix, flavour, place):
    run = make(place, suffix, flavour)  # DR8 to DR10 have other bands beside, of another size
    for got, expected in zip(read_planes(run, GRZ), independent(place, suffix), strict=True):
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, expected)
    frame = read_frame(run, GRZ)
    assert frame.shape == (230, 230)
    ra, dec = BRICK.sky([0.0, 100.25, 229.0], [0.0, 50.75, 229.0])
    x, y = frame.pixels(ra, dec)
    np.testing.assert_allclose(x, [0, 100.25, 229], atol=1e-6)  # 0-based
    np.testing.assert_allclose(y, [0, 50.75, 229], atol=1e-6)
    assert frame.pixels(ra[:0], dec[:0])[0].shape == (0,)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_uncompressed_data_in_hdu_1_and_in_a_file_named_fz(suffix, place):
    """DR9's blobmodel files are fz by name only: the first 2-D HDU counts, whatever the suffix says."""
    place.coadd.mkdir(parents=True)
    data = planes(BRICK, ROWS)
    for (kind, band), plane in data.items():
        header = fits.Header(BRICK.cards().items())
        fits.HDUList(
            [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((3, 4, 5), "f4")), fits.ImageHDU(plane, header)]
        ).writeto(place.plane(kind, band, suffix))
    run = open_run(place)
    assert read_frame(run, GRZ).shape == (230, 230)
    np.testing.assert_array_equal(read_plane(run, "invvar", "r"), data["invvar", "r"])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("flavour", ["dr5", "dr9"])
def test_windows_and_whole_planes_are_bitwise_equal(suffix, flavour, place, rng):
    data = planes(BRICK, ROWS)
    data["image", "g"][40:120, 60:] = 0  # uncovered: the dither keeps exact zeros
    data["image", "r"][150, 100] = 10.0  # saturation fill
    data["invvar", "z"][:100, :100] = 0
    run = make(place, suffix, flavour, data)
    x, y = rng.uniform(-5, 235, (2, 30))  # also beyond the edges
    order = rng.permutation(30)
    dense, sparse = (np.full((30, 64, 64, 6), 7, np.float32) for _ in range(2))
    cut_stamps(read_planes(run, GRZ), x, y, dense, order)
    read_windows(run, GRZ, x, y, sparse, order)
    assert dense.tobytes() == sparse.tobytes()
    whole = np.stack(independent(place, suffix), axis=-1)
    padded = np.pad(whole, ((64, 64), (64, 64), (0, 0)))
    for i, row in enumerate(order):
        cx, cy = int(np.floor(x[i] + 0.5)), int(np.floor(y[i] + 0.5))
        np.testing.assert_array_equal(dense[row], padded[cy + 32 : cy + 96, cx + 32 : cx + 96])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("n", [0, 1, 400])
def test_pixels_at_the_centres(suffix, n, place, rng):
    run = make(place, suffix)
    x, y = rng.uniform(-0.5, 229.49, (2, n))
    expected = independent(place, suffix)[4][np.floor(y + 0.5).astype(int), np.floor(x + 0.5).astype(int)]
    np.testing.assert_array_equal(read_pixels(run, "invvar", "r", x, y, (230, 230)), expected)


def test_windows_pay_for_few_stamps_only(place):
    run = make(place)
    assert windows_pay(1, run, GRZ)
    assert not windows_pay(300, run, GRZ)


def test_windows_never_pay_in_a_gzipped_file(place):
    assert not windows_pay(1, make(place, ".fits.gz"), GRZ)


@pytest.mark.parametrize("ra", [0.0, 0.003, 359.997, 121.1])
def test_primary_area_also_across_ra_zero(ra, place):
    brick = replace(BRICK, ra=ra)
    write_coadd(place.coadd, brick, planes(brick, ROWS))
    frame = read_frame(open_run(place), GRZ)
    # The synthetic primary area ends 8 px inside the coadd, on either side of the middle at 114.5.
    x = np.array([7.4, 7.7, 221.3, 221.6, 100, 100])
    y = np.array([100, 100, 100, 100, 7.3, 221.7])
    assert frame.primary(*brick.sky(x, y)).tolist() == [False, True, True, False, False, False]


def test_the_cap_around_a_pole_has_all_right_ascensions():
    frame = Frame(WCS(naxis=2), (10, 10), (0.0, 360.0, 89.9, 90.0), content=0)
    ra, dec = np.array([0.0, 123.0, 359.9]), np.array([89.95, 89.95, 89.8])
    assert frame.primary(ra, dec).tolist() == [True, True, False]


def test_header_without_primary_area(place):
    cards = {k: v for k, v in BRICK.cards().items() if not k.startswith(("RAM", "DECM"))}
    place.coadd.mkdir(parents=True)
    for (kind, band), plane in planes(BRICK, ROWS).items():
        write_plane(place.plane(kind, band), plane, cards)
    assert read_frame(open_run(place), GRZ).primary(np.array([1.0]), np.array([1.0])) is None


def test_missing_band(place):
    run = make(place)
    place.plane("invvar", "g").unlink()
    message = r"brick 1211p060 \(release\): band g missing: no legacysurvey-1211p060-invvar-g.*--bricks"
    with pytest.raises(CoaddError, match=message) as caught:
        read_frame(run, GRZ)
    assert not isinstance(caught.value, BandNotObservedError)


@pytest.mark.parametrize(
    ("cards", "never"),
    [
        ({"BRICK_I": False}, True),
        ({"BRICK_I": True, "BANDS": "grz"}, False),
        ({"BANDS": "grz"}, True),
        ({"BANDS": "g,r,z"}, True),  # from DR10.3
        ({"BANDS": "g,r,i,z"}, False),
        ({"BRICKBND": "grz"}, True),  # DR3 to DR7
        ({"CAMS_I": "", "BANDS": "g,r,i,z"}, True),
        ({"CAMS_I": "decam"}, False),
        ({}, False),
    ],
)
@pytest.mark.parametrize("spec", [GRIZ, StampSpec(("i",))], ids=["griz", "i"])
def test_a_band_that_never_was_is_told_from_one_that_was_lost(cards, never, spec, place):
    place.coadd.mkdir(parents=True)
    for (kind, band), plane in planes(BRICK, ROWS).items():
        write_plane(place.plane(kind, band), plane, {**BRICK.cards(), **cards})
    with pytest.raises(CoaddError, match=r"band i missing") as caught:
        read_frame(open_run(place), spec)
    assert isinstance(caught.value, BandNotObservedError) is never


def test_a_band_of_which_one_plane_is_there_was_lost(place):
    """DR11's i is forced: neither BANDS nor BRICK_I tell of it."""
    place.coadd.mkdir(parents=True)
    for (kind, band), plane in planes(BRICK, objects(BRICK, [60.0], [60.0], GRIZ.bands)).items():
        if (kind, band) != ("invvar", "i"):
            write_plane(place.plane(kind, band), plane, {**BRICK.cards(), "BANDS": "g,r,z"})
    with pytest.raises(CoaddError, match=r"band i missing: no .*invvar-i") as caught:
        read_frame(open_run(place), GRIZ)
    assert not isinstance(caught.value, BandNotObservedError)
    assert read_frame(open_run(place), GRZ).shape == (230, 230)


@pytest.mark.parametrize(
    "spec",
    [
        GRIZ,
        StampSpec(("g", "r"), size=48),
        StampSpec(("r",), planes=("image",), size=33),
        StampSpec(size=96),
        StampSpec(GRIZ.bands, planes=("image",), size=16),
    ],
    ids=["griz", "gr 48", "r image 33", "grz 96", "griz image 16"],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_windows_and_planes_of_any_specification(spec, suffix, place, rng):
    rows = objects(BRICK, [60.3, 120.0], [60.0, 150.5], GRIZ.bands)
    run = make(place, suffix, "dr10", planes(BRICK, rows))
    x, y = rng.uniform(-5, 235, (2, 20))
    order = rng.permutation(20)
    dense, sparse = (np.full((20, *spec.shape), 7, np.float32) for _ in range(2))
    cut_stamps(read_planes(run, spec), x, y, dense, order)
    read_windows(run, spec, x, y, sparse, order)
    assert dense.tobytes() == sparse.tobytes()
    reader = Reader(spec.bands, spec.size, KINDS[: len(spec.planes)])
    for i, row in enumerate(order):
        np.testing.assert_array_equal(dense[row], reader.stamp(place.coadd, BRICK.name, x[i], y[i]))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_plane(suffix, place):
    run = make(place, suffix)
    path = place.plane("image", "z", suffix)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    message = r"brick 1211p060 \(release\): cannot read .*image-z.*--bricks"
    with pytest.raises(CoaddError, match=message):
        # A gzipped file tells only when it is read.
        read_plane(run, "image", "z") if suffix == ".fits.gz" else read_frame(run, GRZ)


@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", b"SIMPLE  =                    T" + b" " * 3000]
)
def test_not_a_fits_file(content, place):
    run = make(place)
    place.plane("invvar", "r").write_bytes(content)
    with pytest.raises(CoaddError, match=r"brick 1211p060 \(release\): cannot read .*invvar-r.*--bricks"):
        read_frame(run, GRZ)


def test_gzip_that_is_none(place):
    run = make(place, ".fits.gz")
    place.plane("image", "g", ".fits.gz").write_bytes(gzip.compress(b"nothing"))
    with pytest.raises(CoaddError, match=r"cannot read .*image-g.fits.gz"):
        read_frame(run, GRZ)


def test_a_file_without_an_image(place):
    run = make(place)
    path = place.plane("image", "g")
    path.unlink()
    fitsio.write(str(path), np.zeros(3, dtype=[("a", "f4")]))
    with pytest.raises(CoaddError, match=r"image-g.fits.fz \(no two-dimensional image in it\)"):
        read_frame(run, GRZ)


def test_shapes_that_disagree(place):
    run = make(place)
    other = Brick(BRICK.name, BRICK.ra, BRICK.dec, 200)
    write_plane(place.plane("invvar", "z"), np.ones((200, 200), "f4"), other.cards())
    message = (
        r"brick 1211p060 \(release\): coadd shapes disagree: .*invvar-z.* \(200, 200\)"
        r".*\(230, 230\).*--bricks"
    )
    with pytest.raises(CoaddError, match=message):
        read_frame(run, GRZ)


def test_header_without_wcs(place):
    place.coadd.mkdir(parents=True)
    for (kind, band), plane in planes(BRICK, ROWS).items():
        write_plane(place.plane(kind, band), plane, {"BUNIT": "nanomaggy"})
    with pytest.raises(CoaddError, match=r"brick 1211p060 .*has no celestial WCS"):
        read_frame(open_run(place), GRZ)


@pytest.mark.parametrize(
    ("card", "value", "said"),
    [
        ("CRPIX1", 1e300, "WCS"),
        ("CD1_1", 0.0, "cannot read"),
        ("CRVAL2", 200.0, "cannot read"),
        ("CRVAL1", "NaN", "cannot read"),
        ("RAMIN", "NaN", "is not finite"),
        ("DECMAX", "inf", "is not finite"),
    ],
)
def test_headers_that_lead_nowhere(card, value, said, place):
    place.coadd.mkdir(parents=True)
    for (kind, band), plane in planes(BRICK, ROWS).items():
        write_plane(place.plane(kind, band, ".fits"), plane, BRICK.cards() | {card: value})
        if isinstance(value, str):  # as no library would write it
            path = place.plane(kind, band, ".fits")
            content = path.read_bytes()
            text = f"'{value:<8}'".encode()
            assert content.count(text) == 1
            path.write_bytes(content.replace(text, f"{value:>10}".encode()))
    with pytest.raises(CoaddError, match=rf"brick 1211p060 .*{said}.*restore the file"):
        read_frame(open_run(place), GRZ)


def test_pixels_of_another_scale_are_refused(place):
    """Stamps of two splits would share sky that was believed to be apart."""
    run = make(place)
    assert read_frame(run, GRZ).shape == read_frame(run, replace(GRZ, pixel_scale=0.2625)).shape
    with pytest.raises(CoaddError, match=r"1211p060.*legacysurvey-1211p060-image-g.*0\.262.*0\.524"):
        read_frame(run, replace(GRZ, pixel_scale=0.524))
