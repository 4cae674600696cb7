"""Geometry of stamps: which pixel is the centre, what lies where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.cutouts import (
    centre_pixel,
    clean_stamps,
    cut_stamps,
    overlap,
    stamp_inside,
)

deterministic = settings(derandomize=True, max_examples=60, deadline=None)


@pytest.mark.parametrize(
    ("position", "pixel"),
    [(0.0, 0), (0.49, 0), (0.5, 1), (1.5, 2), (2.5, 3), (-0.5, 0), (-0.51, -1), (99.999, 100)],
)
def test_centre_is_floor_of_x_plus_half(position, pixel):
    assert centre_pixel(np.array([position])).tolist() == [pixel]  # no rounding to even


@pytest.mark.parametrize(("x", "y"), [(100, 80), (100.49, 79.5), (99.5, 80.4)])
def test_a_delta_function_lands_in_pixel_32(x, y):
    planes = [np.zeros((200, 220), np.float32) for _ in range(6)]
    for channel, plane in enumerate(planes):
        plane[80, 100] = channel + 1
    out = np.full((3, 64, 64, 6), 9, np.float32)
    whole = cut_stamps(planes, np.array([x]), np.array([y]), out, np.array([1]))
    assert whole.tolist() == [True]
    assert (out[[0, 2]] == 9).all()
    assert out[1, 32, 32].tolist() == [1, 2, 3, 4, 5, 6]
    assert np.count_nonzero(out[1]) == 6


def test_window_is_c_minus_32_to_c_plus_32_and_axes_are_y_x():
    plane = np.arange(200 * 220, dtype=np.float32).reshape(200, 220)
    out = np.empty((1, 64, 64, 1), np.float32)
    cut_stamps([plane], np.array([70.0]), np.array([100.0]), out, np.array([0]))
    np.testing.assert_array_equal(out[0, :, :, 0], plane[68:132, 38:102])


@pytest.mark.parametrize(
    ("x", "y", "inside"),
    [
        *[(32, 32, True), (31.4, 32, False), (31.5, 32, True), (32, 31, False)],
        *[(188, 168, True), (189, 168, False), (188.5, 168, False), (188, 169, False)],
    ],
)
def test_stamp_inside(x, y, inside):
    shape = (200, 220)  # ny, nx
    assert stamp_inside(np.array([x]), np.array([y]), shape, 64).tolist() == [inside]


def test_whose_centre_is_inside():
    x, y = np.array([-0.5, -0.6, 219.4, 219.5, 10, 10]), np.array([0, 0, 0, 0, 199.4, 199.5])
    assert stamp_inside(x, y, (200, 220), 1).tolist() == [True, False, True, False, True, False]


SIZES = st.integers(1, 100)


@deterministic
@given(st.integers(-150, 400), st.integers(1, 300), SIZES)
def test_overlap_against_a_padded_line(centre, n, size):
    line = np.arange(1, n + 1)
    padded = np.pad(line, 600)
    stamp = np.zeros(size, int)
    in_image, in_stamp = overlap(centre, n, size)
    stamp[in_stamp] = line[in_image]
    first = 600 + centre - size // 2
    np.testing.assert_array_equal(stamp, padded[first : first + size])


@deterministic
@given(st.floats(-40, 140), st.floats(-40, 120), st.integers(0, 2**31), SIZES)
def test_stamps_of_any_size_are_padded_with_zero_beyond_the_edge(x, y, seed, size):
    """Odd sizes, too: no pixel stays as it was, and no other pixel than the window's comes in."""
    plane = np.random.default_rng(seed).normal(size=(80, 100)).astype(np.float32)
    out = np.full((1, size, size, 1), 9, np.float32)
    whole = cut_stamps([plane], np.array([x]), np.array([y]), out, np.array([0]))
    left, low = (int(np.floor(position + 0.5)) - size // 2 for position in (x, y))
    padded = np.pad(plane, 200)
    expected = padded[200 + low : 200 + low + size, 200 + left : 200 + left + size]
    np.testing.assert_array_equal(out[0, :, :, 0], expected)
    assert whole[0] == (0 <= left <= 100 - size and 0 <= low <= 80 - size)
    assert stamp_inside(np.array([x]), np.array([y]), plane.shape, size)[0] == whole[0]


@pytest.mark.parametrize("size", [48, 65, 96])
def test_the_source_is_in_the_pixel_that_the_specification_calls_the_centre(size):
    plane = np.zeros((200, 220), np.float32)
    plane[80, 100] = 1
    out = np.empty((1, size, size, 1), np.float32)
    cut_stamps([plane], np.array([99.6]), np.array([80.4]), out, np.array([0]))
    centre = StampSpec(size=size).centre
    assert out[0, centre, centre, 0] == out.sum() == 1


def test_cleaning_zeroes_and_counts():
    stamps = np.ones((2, 64, 64, 6), np.float32)
    stamps[0, 1, 2, 0] = np.nan  # image g
    stamps[0, 1, 3, 4] = np.inf  # ivar r
    stamps[1, 5, 5, 5] = -2.0  # ivar z
    stamps[1, 6, 6, 2] = -3.0  # a negative image is a measurement
    stamps[1, 7, 7, 1] = -np.inf
    stamps[1, 7, 7, 4] = -1.0  # already counted as not finite
    assert clean_stamps(stamps, StampSpec()) == (3, 1)
    assert stamps[0, 1, 2].tolist() == [0, 1, 1, 0, 1, 1]  # image and invvar of the band
    assert stamps[0, 1, 3].tolist() == [1, 0, 1, 1, 0, 1]
    assert stamps[1, 5, 5].tolist() == [1, 1, 1, 1, 1, 0]
    assert stamps[1, 6, 6].tolist() == [1, 1, -3, 1, 1, 1]
    assert stamps[1, 7, 7].tolist() == [1, 0, 1, 1, 0, 1]
    assert np.isfinite(stamps).all()
    assert clean_stamps(stamps, StampSpec()) == (0, 0)


def test_cleaning_any_bands():
    spec = StampSpec(("g", "r", "i", "z"), size=8)
    stamps = np.ones((1, *spec.shape), np.float32)
    stamps[0, 1, 2, 2] = np.nan  # image i
    stamps[0, 3, 3, 7] = -1  # ivar z
    assert clean_stamps(stamps, spec) == (1, 1)
    assert stamps[0, 1, 2].tolist() == [1, 1, 0, 1, 1, 1, 0, 1]
    assert stamps[0, 3, 3].tolist() == [1] * 7 + [0]


def test_cleaning_images_alone():
    spec = StampSpec(("r",), planes=("image",), size=8)
    stamps = np.full((2, *spec.shape), -1, np.float32)
    stamps[1, 2, 3] = np.inf
    assert clean_stamps(stamps, spec) == (1, 0)
    assert stamps[1, 2, 3, 0] == 0
    assert np.count_nonzero(stamps == -1) == 2 * 64 - 1
