"""What runs fitted, as a test: small dense bricks are not refused wrongly, and partial fits are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from obiwan.dplearn.errors import LayoutError
from obiwan.dplearn.planning.blobs import Fitting, far_sources, judged
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.fields import Field
from obiwan.dplearn.planning.inputs import resolve_inputs
from obiwan.dplearn.survey.catalogs import Catalog
from obiwan.dplearn.survey.coadds import Frame
from obiwan.dplearn.survey.layouts import LAYOUTS, BrickRun, Root
from obiwan.dplearn.survey.sources import Sources, blank_sources
from synthetic import FAKE, REAL, Brick, Case, both
from synthetic import at as place


@pytest.mark.parametrize(
    ("far", "expected", "everything"),
    [(60, 60.0, True), (2, 60.0, False), (0, 35.0, False), (3, 10.0, None), (2, 10.0, None), (0, 0.0, None)],
)
def test_few_sources_tell_nothing(far, expected, everything):
    assert judged(far, expected).everything is everything


def test_the_probability_is_that_of_poisson():
    assert Fitting(None, far=0, expected=10).probability == pytest.approx(np.exp(-3))
    assert Fitting(None, far=1, expected=10).probability == pytest.approx(4 * np.exp(-3))


BRICK = Brick("1000p051", 100.0, 5.125, 256)


def at(brick: Brick, x: np.ndarray, y: np.ndarray) -> Sources:
    """Sources at pixels of a brick."""
    ra, dec = brick.sky(x, y)
    sources = blank_sources(len(ra), ("g", "r", "z"))
    return type(sources)(**{**vars(sources), "ra": ra, "dec": dec})


def crowded(
    rng: np.random.Generator,
    *,
    border: int,
    injections: int = 30,
    everything: bool = True,
    clusters: int = 70,
) -> Field:
    """One run of a small brick: injections and 70 real galaxies, none of either in its border."""
    low, high = border, 256 - border
    injected = rng.uniform(low, high, (2, injections))
    real = rng.uniform(low, high, (2, clusters)).repeat(70 // clusters, axis=1)
    if clusters < 70:
        real = np.clip(real + rng.normal(0, 20, (2, 70)), low, high)
    if not everything:  # a blob reaches a few arcsec
        apart = np.hypot(*(real[:, :, None] - injected[:, None, :])).min(axis=1) * 0.262
        real = real[:, apart < 8]
    high_dec = 5.125 + (128 - border) * 0.262 / 3600
    high_ra = 100 + (high_dec - 5.125) / np.cos(np.radians(5.125))
    frame = Frame(BRICK.wcs(), (256, 256), (200 - high_ra, high_ra, 10.25 - high_dec, high_dec), 0)
    run = BrickRun(Root(0, Path("tree"), LAYOUTS[0]), BRICK.name, "rs0", Path("c"), None, None, None)
    fitted = at(BRICK, *np.concatenate([real, injected], axis=1))
    return Field(run, frame, at(BRICK, *injected), Catalog(fitted, {}))


def verdict(seed: int, bricks: int = 40, **kind: object) -> Fitting:
    """What the bricks of a survey tell, one after the other, as they are read."""
    rng, found = np.random.default_rng(seed), Fitting(None)
    for _ in range(bricks):
        far, expected = far_sources(crowded(rng, **kind))
        found = judged(found.far + far, found.expected + expected)
        if found.everything is not None:
            break
    return found


@pytest.mark.parametrize("clusters", [70, 10])
@pytest.mark.parametrize("border", [8, 24, 48])
def test_small_dense_bricks_are_not_refused_wrongly(border, clusters):
    """Forty bricks: with counts of a few sources, one seed of two was refused."""
    found = [verdict(seed, border=border, clusters=clusters) for seed in range(8)]
    assert [one for one in found if one.everything is False] == []


def test_partial_fits_are_found():
    found = [verdict(seed, everything=False, injections=6, border=24) for seed in range(8)]
    assert {one.everything for one in found} == {False}
    whole = [verdict(seed, injections=6, border=24) for seed in range(8)]
    assert {one.everything for one in whole} == {True}
    assert max(one.probability for one in found) < 1e-4


def test_the_numbers_are_said_and_the_user_may_know_better(tmp_path):
    rng = np.random.default_rng(3)
    angle = rng.uniform(0, 2 * np.pi, 60)
    near = place(*np.stack([FAKE["x"] + 25 * np.cos(angle), FAKE["y"] + 25 * np.sin(angle)], 1))
    case = Case(tmp_path, injected=(FAKE,), fitted=(both(near, FAKE),)).write()
    said = r'0 sources lie farther than 15" from every injection, where \d\d.\d are exp.*: probability \de-'
    with pytest.raises(LayoutError, match=said):
        case.plan()
    config = TrainingConfig(select="none", assume_all_blobs=True)
    inputs = resolve_inputs(fake=[tmp_path / "fake"], config=config)
    assert inputs.partial_fits[0].far == 0
    assert inputs.partial_fits[0].basis == "positions"
    assert any("--assume-all-blobs" in line and "expected" in line for line in inputs.warnings)
    assert len(case.plan(assume_all_blobs=True).rows)


def test_the_default_of_a_layout_is_named_as_such(tmp_path):
    case = Case(tmp_path, kind="obiwan", injected=(FAKE,), fitted=(both(REAL, FAKE),)).write()
    with pytest.raises(LayoutError, match=r"as obiwan does by default; positions cannot tell: 1 sources lie"):
        case.plan()
