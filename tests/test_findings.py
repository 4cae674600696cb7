"""Differences in the field's units, the worst control of each systematic, and what to do about failures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from obiwan.dplearn.controls.covariates import quantities
from obiwan.dplearn.controls.measure import measure_dtype
from obiwan.dplearn.controls.questions import questions
from obiwan.dplearn.controls.records import Control, Obstacle, State, Statistic
from obiwan.dplearn.report.comparisons import over_limit
from obiwan.dplearn.report.findings import difference, differences, hazards, remedies
from obiwan.dplearn.report.formatting import catalogue
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.examples import blank_examples
from obiwan.dplearn.twosample.ranking import Estimate

NAN = float("nan")


def placed(name, hazard, real, fake, **more):
    """A control of a distribution whose classes lie at two values."""
    ends = (Estimate(value, NAN, NAN) for value in (real, fake))
    given = {"component": "location", "effect": 0.1, "low": 0.05, "high": 0.15, "state": State.FAIL} | more
    return Control(name, hazard, **given, **dict(zip(("real", "fake"), ends, strict=True)))


@pytest.mark.parametrize(
    ("control", "words"),
    [
        (placed("width", "D5", 2.0, 2.1, band="g"), "light 5.0 % broader in g"),
        (placed("concentration", "D5", 0.5, 0.49, band="r"), "light 2.0 % less concentrated in r"),
        (placed("magnitude", "D17", 22.5, 22.4, band="z", unit="mag"), "0.10 mag brighter in z"),
        (placed("pixel colour g - r", "D11", 0.5, 0.52), "0.020 mag redder in pixel colour g - r"),
        (placed("g - r", "D17", 0.5, 0.48, unit="mag"), "0.020 mag bluer in g - r"),
        (placed("half-light radius", "D17", 0.4, 0.5, unit="arcsec"), "half-light radius 25 % larger"),
        (
            placed("half-light radius", "D17", 0.0, 0.5, unit="arcsec"),
            "half-light radius higher (0.5 against 0 arcsec)",
        ),
        (placed("depth", "D9", 24.0, 24.2, band="g", unit="mag"), "depth g higher (24.2 against 24 mag)"),
        (placed("ivar-flux slope", "D6", 0.0, 0.1, band="g"), "ivar-flux slope g higher (0.1 against 0)"),
        (placed("width", "D5", 2.0, 2.1, component="spread"), "spread of width differs"),
        (placed("in a mask", "D12", 0.0, 0.0), "location of in a mask differs"),
        (
            Control("centroid x", "D2", "g", Statistic.SHIFT, "px", effect=-1.5),
            "light -1.50 px off in x in g",
        ),
        (
            Control("noise under the source", "D6", "r", Statistic.SHIFT, "ln", effect=0.0953),
            "noise under the source +10.0 % in variance in r",
        ),
        (
            Control("fit minus nothing", "D2", "", Statistic.SHIFT, "mag", effect=0.05),
            "fit minus nothing +0.05 mag",
        ),
        (
            Control("fitted type", "D10", "", Statistic.COMPOSITION, effect=-0.12, component="EXP"),
            "fraction of fitted type EXP -12 %",
        ),
        (
            Control("shard", "D18", "", Statistic.ASSOCIATION, effect=0.3),
            "fraction of injected galaxies differs from shard to shard",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_differences_are_in_the_units_of_the_field(control, words):
    assert difference(control) == words


def test_a_headline_names_each_quantity_once():
    found = [placed("width", "D5", 2.0, 2.2, band=band) for band in "rgz"]
    others = [placed(name, "D17", 1.0, 2.0) for name in ("a", "b", "c", "d")]
    assert differences(found) == ["light 10.0 % broader in r (also g, z)"]
    assert differences([*found, *others])[-1] == "and 2 more"
    assert len(differences([*found, *others])) == 4


def test_bands_of_the_opposite_sign_are_no_also():
    """Fits follow one band's offset, and the others appear on the other side: that is no common offset."""
    light = Control("centroid x", "D2", "g", Statistic.SHIFT, "px", component="location", effect=0.7)
    others = [replace(light, band=band, effect=effect) for band, effect in (("r", -0.3), ("z", 0.2))]
    assert differences([light, *others]) == ["light +0.70 px off in x in g (also z; opposite in r)"]
    assert differences([light, others[0]]) == ["light +0.70 px off in x in g (opposite in r)"]
    spread = replace(others[0], component="spread")  # has no direction in common with a location
    assert differences([light, spread]) == ["light +0.70 px off in x in g (also r)"]


def test_the_worst_control_stands_for_a_systematic():
    """A failure before a larger difference that is not shown; what was not run stands for nothing."""
    controls = [
        placed("width", "D5", 2.0, 2.1, effect=0.03, band="g"),
        placed("width", "D5", 2.0, 2.1, effect=0.2, band="r", state=State.OPEN),
        placed("light around", "D12", 1, 2, state=State.PASS, effect=0.001),
        placed("peaks", "D12", 1, 2, state=State.PASS, effect=0.002),
        Control("ivar dip", "D6", obstacle=Obstacle.NO_IVAR),
    ]
    found = {one.code: one for one in hazards(controls)}
    assert list(found) == [f"D{number}" for number in range(1, 21)]
    assert (found["D5"].control.band, found["D5"].count) == ("g", 2)
    assert found["D12"].control.name == "peaks"
    assert found["D6"].state == State.NOT_RUN
    ((title, what, remedy),) = remedies(controls)
    assert title == "D5, pixel convolved twice"
    assert what == "light 5.0 % broader in g"
    assert remedy == catalogue()["remedy"]["D5"]


def test_a_remedy_names_the_largest_difference_first():
    ends = {"hazard": "D5", "real": 2.0, "fake": 2.1}
    small, large = (
        placed("width", band=band, effect=size, **ends) for band, size in (("g", 0.1), ("z", 0.3))
    )
    other = placed("concentration", effect=-0.2, **{**ends, "fake": 1.9}, band="r")
    passes = replace(large, band="r", state=State.PASS)
    ((_, what, _),) = remedies([small, passes, other, large])
    assert what == "light 5.0 % broader in z (also g); light 5.0 % less concentrated in r"


def test_every_systematic_has_a_name_and_a_remedy():
    assert list(catalogue()["hazard"]) == list(catalogue()["remedy"])
    assert {one.hazard for one in quantities(StampSpec())} <= set(catalogue()["hazard"])
    assert set(catalogue()["more"]) == set(catalogue()["less"])
    rows, measured = blank_examples(4, StampSpec()), np.ones(4, measure_dtype(StampSpec()))
    rows["x"] = rows["y"] = 30
    asked = questions(rows, measured, np.arange(4) % 2, np.repeat("b", 4), StampSpec())
    known = {control.name for control, _ in asked} | {
        "label",
        "composition",
        "shape",
        "shift",
        "colour",
        "other",
    }
    assert set(catalogue()["differs"]) | set(catalogue()["more"]) <= known


def test_intervals_in_units_of_the_limit():
    control = Control(
        "centroid x", "D2", "g", Statistic.SHIFT, "px", 0.02, effect=-0.03, low=-0.05, high=-0.01
    )
    assert over_limit(control) == Estimate(pytest.approx(1.5), pytest.approx(0.5), pytest.approx(2.5))
    across = replace(control, effect=0.01, low=-0.02, high=0.04)
    assert over_limit(across) == Estimate(pytest.approx(0.5), 0.0, pytest.approx(2))


def test_the_gallery_has_a_headline_and_small_pictures_for_each_survey():
    """What ``bin/benchmark gallery`` wrote: a part of the page for each picture that is there."""
    doc = Path(__file__).parents[1] / "doc"
    page = (doc / "explanation" / "gallery.rst").read_text(encoding="utf-8")
    pictures = sorted((doc / "_static" / "gallery").glob("*.png"))
    assert len(pictures) >= 6
    assert all(f"gallery/{path.name}" in page and path.stat().st_size < 60_000 for path in pictures)
    assert page.count("    **") == len(pictures) // 2
