"""Occlusion: a network that looks in one place loses its answer with that place, and with no other."""

from __future__ import annotations

import numpy as np
import pytest

from obiwan.dplearn.evaluation.occlusion import (
    OCCLUSION_RADII,
    Occlusion,
    distances,
    half_light_radius,
    occlude,
    partners,
)
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.examples import blank_examples
from obiwan.dplearn.twosample.ranking import Estimate

SPEC = StampSpec()


def rows_for(labels, bricks=10):
    rows = blank_examples(len(labels), SPEC)
    rows["label"], rows["x"], rows["y"] = labels, 100.3, 200.0
    rows["brick"] = [f"{i // 2 % bricks:04d}p000".encode() for i in range(len(labels))]
    return rows


def told_at(rng, labels, places):
    """Stamps whose fakes are a standard deviation brighter at some pixels, on noise."""
    stamps = rng.normal(0, 1, (len(labels), 64, 64, 6)).astype(np.float32)
    for y, x, channel in places:
        stamps[:, y, x, channel] += 2 * labels
    return stamps


def looking_at(places):
    return lambda stamps, _: sum(stamps[:, y, x, channel] for y, x, channel in places)


@pytest.mark.parametrize(("place", "distance"), [((32, 32, 0), 0.3), ((32, 42, 4), 9.7)])
def test_the_answer_goes_with_the_pixels_that_it_comes_from(rng, place, distance):
    labels = np.arange(240) % 2
    rows = rows_for(labels)
    found = occlude(
        looking_at([place]),
        told_at(rng, labels, [place]),
        rows,
        SPEC,
        seen=rows,
        clusters=rows["brick"],
        seed=1,
    )
    assert distances(rows, SPEC)[0][place[:2]] == pytest.approx(distance)
    assert found.whole.value > 0.85
    for radius, inner, outer in zip(found.radii, found.inner, found.outer, strict=True):
        kept, lost = (inner, outer) if distance < radius else (outer, inner)
        assert kept == found.whole  # not a pixel that matters has changed
        assert lost.low < 0.5 < lost.high
    assert found.telling == next(i for i, radius in enumerate(OCCLUSION_RADII) if radius > distance)
    assert found.counts == (120, 120)
    assert np.isnan(found.half_light)  # no PSF is known


def test_the_partner_says_nothing_of_the_class_even_in_small_bricks(rng):
    """Any other example of a brick of two would always be of the other class."""
    labels = np.arange(400) % 2
    rows = rows_for(labels, bricks=200)
    chosen = partners(labels, rows["brick"], rng)
    assert not (chosen == np.arange(400)).any()
    for value in (0, 1):
        assert labels[chosen[labels == value]].mean() == 0.5


def test_partners_are_of_the_same_brick_where_that_can_be(rng):
    labels = np.arange(80) % 2
    rows = rows_for(labels, bricks=4)
    chosen = partners(labels, rows["brick"], rng)
    assert (rows["brick"][chosen] == rows["brick"]).all()
    rows["brick"][0] = b"9999p000"
    assert rows["brick"][partners(labels, rows["brick"], rng)[0]] != b"9999p000"


def some(whole, inner, outer):
    def estimates(values):
        return tuple(Estimate(value, value - 0.04, value + 0.04) for value in values)

    return Occlusion(
        np.array([4.0, 12.0]), (200, 200), *estimates([whole]), estimates(inner), estimates(outer)
    )


@pytest.mark.parametrize(
    ("found", "telling"),
    [
        (some(0.81, (0.6, 0.785), (0.78, 0.51)), 1),
        (some(0.81, (0.5, 0.55), (0.8, 0.75)), None),
        (some(0.56, (0.51, 0.52), (0.52, 0.51)), None),
        (some(0.52, (0.6, 0.5), (0.5, 0.5)), None),
    ],
)
def test_where_the_classes_differ(found, telling):
    assert found.telling == telling


def test_half_light_radii():
    rows = rows_for(np.zeros(4))
    rows["e1"] = rows["e2"] = 0
    rows["shape_r"] = [0, 0.6, np.nan, 0.6]
    rows["psfsize_r"] = [1.6, 1.6, 1.6, np.nan]
    assert half_light_radius(rows, SPEC) * SPEC.pixel_scale == pytest.approx([0.8, 1.0, 0.8, 1.0])
    rows["psfsize_r"] = np.nan
    assert np.isnan(half_light_radius(rows, SPEC)).all()


def test_distances_are_from_where_the_object_is():
    rows = rows_for(np.zeros(2))
    rows["x"] = 100.4, 99.6
    away = distances(rows, SPEC)
    assert away[0, 32, 32] == pytest.approx(0.4)
    assert away[1, 32, 32] == pytest.approx(0.4)
    assert away[0, 32, 33] == pytest.approx(0.6)
    assert away[1, 32, 31] == pytest.approx(0.6)
    assert away[0, 35, 32] == pytest.approx(np.hypot(3, 0.4))
