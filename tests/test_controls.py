"""No control fails where nothing differs, and the right one fails where something does."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.culprits import CULPRITS, by_state, controls_of, surprises
from obiwan.dplearn import create_training
from obiwan.dplearn.controls import battery as batteries
from obiwan.dplearn.controls.contrasts import fractions
from obiwan.dplearn.controls.measure import measure_stamps
from obiwan.dplearn.controls.records import LEAST, Control, Obstacle, State, Statistic
from obiwan.dplearn.mock.config import MockConfig, Plant
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.examples import FLAG_NEIGHBOUR, FLAG_PADDED
from stamps import BRICKS, FIELD, GRZ, Galaxies, cut, galaxies, in_bands, rows_of

N = 700  #: examples of each class
CLEAR = (State.PASS, State.OPEN)  #: states of controls that are not significant

Sets = tuple[np.ndarray, np.ndarray]


def run_controls(rows, found, label, bricks, spec: StampSpec = GRZ) -> tuple[Control, ...]:
    return batteries.run_controls(rows, found, label, bricks, spec)


def measured(sample: Galaxies, label: int, seed: int, **drawn: float) -> Sets:
    """Rows and measurements of one class; the cutouts are drawn and forgotten."""
    rows = rows_of(sample, label, seed)
    return rows, measure_stamps(cut(sample, seed, **drawn), rows, GRZ)


def battery(real: Sets, fake: Sets) -> tuple[Control, ...]:
    rows, found = (np.concatenate(pair) for pair in zip(real, fake, strict=True))
    return run_controls(rows, found, rows["label"], rows["brick"].astype(str))


@pytest.fixture(scope="module")
def reals() -> Sets:
    return measured(galaxies(N, 1), 0, 2)


@pytest.fixture(scope="module")
def fakes() -> Sets:
    """Of the same population, with nothing planted."""
    return measured(galaxies(N, 3), 1, 4)


def only(controls: tuple[Control, ...], name: str, band: str = "") -> Control:
    (found,) = [c for c in controls if c.name == name and c.band == band]
    return found


def of_class(control: Control, name: str) -> tuple[float, float, float]:
    """Where one class lies, with its interval."""
    found = getattr(control, name)
    return found.value, found.low, found.high


# --- nothing planted


def test_one_population_does_not_fail(reals: Sets, fakes: Sets):
    controls = battery(reals, fakes)
    assert {c.state for c in controls} <= {"pass", "open", "not run"}
    assert by_state(controls, "not run") == {"width of stars": "grz"}
    for control in controls:
        if control.name.startswith("centroid") and control.name != "centroid scatter":
            assert control.low < 0 < control.high
            assert control.high - control.low < 0.1
    titles = [(c.name, c.band) for c in controls]
    assert len(set(titles)) == len(titles)


def test_false_alarms_are_rare(reals: Sets):
    """Labels drawn at random: any that fails or warns in at most about one battery of twenty."""
    rows, found = reals
    rng = np.random.default_rng(6)
    alarms = 0
    for _ in range(25):
        label = rng.permutation(np.arange(len(rows)) % 2)
        controls = run_controls(rows, found, label, rows["brick"].astype(str))
        alarms += any(c.state in ("fail", "warn") for c in controls)
    assert alarms <= 4  # 1.25 expected; more than 4 with a probability of 1 %


# --- the differences that the mock can plant, here planted in drawn galaxies


def planted(kind: str) -> Sets:
    """Fakes with a difference of the kind that the mock's option of this name plants."""
    sample, drawn = galaxies(N, 3), {}
    if kind == "offset":  # the catalogue's position stays
        rows = rows_of(sample, 1, 4)
        return rows, measure_stamps(cut(replace(sample, x=sample.x + 0.2), 4), rows, GRZ)
    if kind == "offset-g":
        rows, stamps = rows_of(sample, 1, 4), cut(sample, 4)
        stamps[..., 0] = cut(replace(sample, x=sample.x + 0.3), 4)[..., 0]
        return rows, measure_stamps(stamps, rows, GRZ)
    if kind == "psf":  # the catalogue's PSF stays, what is wider passes for size
        wider = replace(sample, size=np.sqrt(sample.size**2 + 0.21 * (sample.psf**2).mean(1)))
        return measured(wider, 1, 4)
    if kind == "size":
        sample = replace(sample, size=1.3 * sample.size)
    if kind == "flux":
        sample = replace(sample, flux=1.4 * sample.flux)
    if kind == "colour":
        sample = replace(sample, flux=sample.flux * 10 ** (0.4 * np.array([0.1, 0, -0.1])))
    if kind == "sersic":
        sample = replace(sample, size=0.75 * sample.size, tail=np.full(N, 0.4))
    if kind == "ivar-dip":
        drawn = {"dip": 0.1}
    return measured(sample, 1, 4, **drawn)


def outside(kind: str, controls: tuple[Control, ...]) -> set[str]:
    """Controls that are significant and that this difference does not move."""
    alarmed = set(by_state(controls, "fail", "warn"))
    return alarmed - CULPRITS[kind].must - CULPRITS[kind].may


@pytest.mark.parametrize("kind", [kind for kind in CULPRITS if kind not in ("none", "no-shot-noise")])
def test_culprits_are_found_and_nothing_else(kind: str, reals: Sets):
    controls = battery(reals, planted(kind))
    assert surprises(kind, controls) == []
    assert outside(kind, controls) == set()


def test_missing_shot_noise_is_found_under_bright_galaxies():
    """It is a tenth of the noise under a typical one: here they are brighter, to do with fewer."""
    real = measured(galaxies(N, 1, bright=6), 0, 2)
    fake = measured(galaxies(N, 3, bright=6), 1, 4, shot=0.0)
    controls = battery(real, fake)
    assert surprises("no-shot-noise", controls) == []
    assert outside("no-shot-noise", controls) == set()


def test_every_difference_that_the_mock_can_plant_is_a_culprit():
    kinds = {field.name.replace("_", "-") for field in fields(Plant)}
    one_band = {"offset-r", "offset-i", "offset-z"}  # of the four kinds, the table has offset-g
    assert set(CULPRITS) == {"none", *kinds - one_band}
    assert one_band < kinds


def test_the_documented_table_is_of_these_culprits(root: Path):
    """What the benchmark measured on mock surveys, as the docs show it."""
    with (root / "doc/_static/culprits.csv").open() as stream:
        table = {row["planted"]: row for row in csv.DictReader(stream)}
    assert list(table) == list(CULPRITS)
    for kind, culprit in CULPRITS.items():
        fail = {re.sub(r" \([grz]+\)$", "", said) for said in table[kind]["fail"].split("; ") if said}
        assert culprit.must <= fail <= culprit.must | culprit.may
        warn = {re.sub(r" \([grz]+\)$", "", said) for said in table[kind]["warn"].split("; ") if said}
        assert warn <= culprit.must | culprit.may
        assert table[kind]["amplitude"] == ("" if culprit.amplitude is None else str(culprit.amplitude))


def test_the_offset_is_measured(reals: Sets):
    controls = battery(reals, planted("offset"))
    for band in "grz":
        control = only(controls, "centroid x", band)
        assert control.state == "fail"
        assert control.hazard == "D2"
        assert control.unit == "px"
        assert control.low < 0.2 < control.high
        assert only(controls, "centroid y", band).state in CLEAR
        value, low, high = of_class(control, "fake")
        assert low < 0.2 < high
        real, low, high = of_class(control, "real")
        assert low < 0.01
        assert high > -0.01
        assert value - real == pytest.approx(control.effect, abs=2e-4)


def test_a_difference_too_small_to_matter_warns(fakes: Sets):
    rows, found = fakes
    bricks = rows["brick"].astype(str)
    label = np.arange(len(rows)) % 2
    exact = found.copy()
    exact["dx_g"] = 0.015 * label + 1e-3 * np.random.default_rng(7).normal(size=len(rows))
    control = only(run_controls(rows, exact, label, bricks), "centroid x", "g")
    assert control.effect == pytest.approx(0.015, abs=1e-3)
    assert (control.state, control.threshold) == ("warn", 0.02)
    exact["dx_g"] += 0.01 * label
    assert only(run_controls(rows, exact, label, bricks), "centroid x", "g").state == "fail"


# --- every control sees what it is there for

Change = Callable[[np.ndarray, np.ndarray], None]


def _set(name: str, value: object, share: float = 0.2) -> Change:
    """Give some of the fakes another value, in the source table or among what was measured."""

    def change(rows: np.ndarray, found: np.ndarray) -> None:
        (rows if name in rows.dtype.names else found)[name][: int(share * len(rows))] = value

    return change


def _add(name: str, amount: float) -> Change:
    """Add so many standard deviations to a measured number of all fakes."""

    def change(_: np.ndarray, found: np.ndarray) -> None:
        found[name] += np.float32(amount * np.nanstd(found[name]))

    return change


def _times(name: str, factor: float) -> Change:
    def change(rows: np.ndarray, found: np.ndarray) -> None:
        (rows if name in rows.dtype.names else found)[name] *= factor

    return change


def _blind(_: np.ndarray, found: np.ndarray) -> None:
    found["dx_g"][::4] = np.nan


def _jitter(_: np.ndarray, found: np.ndarray) -> None:
    found["dx_r"] *= 2


def _quadrant(axis: str) -> Change:
    def change(_: np.ndarray, found: np.ndarray) -> None:
        found[f"phase_{axis}"] = found[f"phase_{axis}"] / 2 + 0.25

    return change


CHANGES: dict[str, tuple[Change, set[str]]] = {
    "centroid y": (_add("dy_r", 0.5), {"centroid y"}),
    "centroid scatter": (_jitter, {"centroid scatter"}),
    "no centroid": (_blind, {"no centroid"}),
    "phase x": (_quadrant("x"), {"position within the pixel, x"}),
    "phase y": (_quadrant("y"), {"position within the pixel, y"}),
    "ivar slope": (_times("slope_g", 1.5), {"ivar-flux slope"}),
    "ivar levels": (_add("ivar_distinct_r", -0.7), {"ivar levels"}),
    "ivar step": (_add("ivar_step_z", 2), {"ivar step"}),
    "image levels": (_set("distinct_g", 0.5), {"image levels"}),
    "blank": (_set("blank_r", 0.1), {"blank pixels"}),
    "blank core": (_set("blank_core_r", 0.1), {"blank core"}),
    "sky": (_add("sky_r", 0.7), {"background"}),
    "noise of the sky": (_times("noise_sky_z", 1.05), {"noise of the sky"}),
    "light around": (_add("light_g", 0.7), {"light around"}),
    "neighbours": (_add("peaks", 0.7), {"neighbours in the cutout"}),
    "nearest": (_times("nearest", 1.4), {"distance to the nearest neighbour"}),
    "e1": (_add("e1_r", 0.7), {"ellipticity 1"}),
    "e2": (_add("e2_r", -0.7), {"ellipticity 2"}),
    "ellipticity": (_times("e1", 2), {"ellipticity"}),
    "ebv": (_times("ebv", 1.5), {"E(B-V)"}),
    "psf": (_times("psfsize_g", 1.2), {"PSF width"}),
    "depth": (_times("psfdepth_z", 4.0), {"depth"}),
    "exposures": (_times("nobs_g", 3), {"exposures"}),
    "mask": (_set("maskbits", 2), {"in a mask"}),
    "padded": (_set("flags", FLAG_PADDED), {"padded cutouts"}),
    "injected neighbours": (_set("flags", FLAG_NEIGHBOUR), {"injected neighbours"}),
    "type": (_set("type", b"EXP"), {"fitted type"}),
    "run": (_set("run", b"release"), {"run"}),
    "root": (_set("root", 1), {"run"}),
    "shard": (_set("shard", 1), {"shard"}),
    "shard of another split": (_set("split", b"val"), {"shard"}),
    "brick": (_set("brick", b"1003p050"), {"brick"}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_each_control_sees_its_own(what: str, reals: Sets, fakes: Sets):
    change, expected = CHANGES[what]
    rows, found = fakes[0].copy(), fakes[1].copy()
    change(rows, found)
    assert set(by_state(battery(reals, (rows, found)), "fail")) == expected


def test_fitted_types_are_compared_by_brick(reals: Sets, fakes: Sets):
    rows = np.concatenate([reals[0], fakes[0]])
    rows["type"][::3] = b"EXP"
    found = run_controls(rows, np.concatenate([reals[1], fakes[1]]), rows["label"], rows["brick"].astype(str))
    expected = {
        one.name: one.difference.p_value(0.0, "two-sided")
        for one in fractions(rows["type"], rows["label"] == 1, rows["brick"])
    }
    control = only(found, "fitted type")
    assert control.p == expected[control.component]


@pytest.mark.parametrize("band", GRZ.bands)
def test_each_band_has_its_own_controls(band: str, reals: Sets, fakes: Sets):
    """Everything that is measured in one band is changed there: all of its controls fail, no others."""
    rows, found = fakes[0].copy(), fakes[1].copy()
    changed = {control.name for control in battery(reals, fakes) if control.band == "g"}
    for name in found.dtype.names:
        if name.endswith(f"_{band}") and not name.startswith(("e1", "e2")):
            positive = name.startswith(("noise", "core"))
            found[name] = found[name] * 1.5 if positive else found[name] + 0.7
    found[f"dx_{band}"] *= 3  # scatter; some are not measured at all
    found[f"dx_{band}"][: len(found) // 5] = np.nan
    rows[f"mag_{band}"] += 0.5
    rows[f"nobs_{band}"] += 3
    rows[f"psfdepth_{band}"] *= 4
    rows[f"psfsize_{band}"] *= 1.2
    controls = battery(reals, (rows, found))
    red = {(c.name, c.band) for c in controls if c.state == "fail" and c.band}
    unmoved = {"width of stars", "flux of fit over truth"}  # there are too few; it only warns
    assert {name for name, where in red if where == band} >= changed - unmoved
    assert {where for _, where in red} == {band}


@pytest.mark.parametrize("axis", ["x", "y"])
def test_places_in_the_coadd(axis: str, reals: Sets, fakes: Sets):
    place, edge = f"position in the coadd, {axis}", "distance to the edge of the coadd"
    rows = fakes[0].copy()
    rows[axis] = FIELD / 2 + (rows[axis] - FIELD / 2) / 2  # away from two of the edges
    assert edge in set(by_state(battery(reals, (rows, fakes[1])), "fail")) <= {place, edge}
    rows[axis] -= 100
    assert place in set(by_state(battery(reals, (rows, fakes[1])), "fail")) <= {place, edge}


def test_every_control_is_seen_to_fail(reals: Sets, fakes: Sets):
    """In this file: by a culprit of the mock, by a change above, or in a test of its own."""
    own = {
        *("position in the coadd, x", "position in the coadd, y", "distance to the edge of the coadd"),
        "width of stars",
        *("fit minus truth, x", "fit minus truth, y", "flux of fit over truth"),  # in test_recovery
    }
    seen = [*(culprit.must for culprit in CULPRITS.values()), *(expected for _, expected in CHANGES.values())]
    assert {control.name for control in battery(reals, fakes)} == own.union(*seen)


def test_stars_show_the_psf(reals: Sets, fakes: Sets):
    """Hazard D20: injected stars have the model's PSF, real ones the sky's."""
    both = [(rows.copy(), found.copy()) for rows, found in (reals, fakes)]
    for rows, _ in both:
        rows["type"][:300] = b"PSF"
    before = only(battery(*both), "width of stars", "z")
    both[1][1]["width_z"][:300] *= 0.9
    after = only(battery(*both), "width of stars", "z")
    assert before.state in CLEAR
    assert (after.state, after.hazard) == ("fail", "D20")


def test_the_page_of_hazards_names_every_control(root: Path, reals: Sets, fakes: Sets):
    """Under the hazard that it is for."""
    page = (root / "doc/explanation/giveaways.rst").read_text()
    said = dict(re.findall(r"^\*\*(D\d+)\*\*(.*?)(?=^\*\*D|\Z)", page, re.DOTALL | re.MULTILINE))
    assert set(said) == {f"D{number}" for number in range(1, 21)}
    for control in battery(reals, fakes):
        stem = re.sub(r",? [xy12]$", "", control.name)  # of two axes, one is written out
        assert f"``{stem}" in said[control.hazard], control.name


# --- what cannot be measured


def test_catalogued_numbers_of_another_origin_are_not_compared(reals: Sets, fakes: Sets):
    rows = fakes[0].copy()
    rows["mag_source"], rows["mag_r"] = b"truth", rows["mag_r"] + 1
    controls = battery(reals, (rows, fakes[1]))
    silent = by_state(controls, "not run")
    assert silent["magnitude"] == "grz"
    assert {"g - r", "signal to noise", "half-light radius", "ellipticity", "fitted type"} <= set(silent)
    assert not by_state(controls, "fail")
    assert only(controls, "magnitude", "r").obstacle == Obstacle.OTHER_ORIGIN


def test_runs_of_two_injectors_are_no_fault(reals: Sets, fakes: Sets):
    """Each class has runs of its own there, and nothing else changes."""
    injected, apart = (reals[0].copy(), reals[1]), (fakes[0].copy(), fakes[1])
    injected[0]["root"], apart[0]["root"] = 1, 0
    assert only(battery(injected, apart), "run").state == "fail"
    injected[0]["truth_ra"] = 150.0
    controls = battery(injected, apart)
    assert only(controls, "run").obstacle == Obstacle.TWO_INJECTORS
    assert only(controls, "brick").obstacle is None
    assert not by_state(controls, "fail")


def test_too_few_are_not_judged(reals: Sets, fakes: Sets):
    found = fakes[1].copy()
    found["dx_z"][LEAST - 1 :] = np.nan
    controls = battery(reals, (fakes[0], found))
    control = only(controls, "centroid x", "z")
    assert control.state == "not run"
    assert (control.obstacle, control.counts[1]) == (Obstacle.TOO_FEW, LEAST - 1)
    assert np.isnan([control.effect, control.p, control.p_family]).all()


@pytest.mark.parametrize("bands", [("g", "r", "i", "z"), ("r",)])
def test_other_bands_have_their_own_controls(bands: tuple[str, ...]):
    """An offset in all bands of griz, and of r alone: each fails, and no other control does."""
    spec, sets = StampSpec(bands), []
    for label, seed, offset in ((0, 1, 0.0), (1, 3, 0.3)):
        sample = in_bands(galaxies(250, seed), bands)
        rows = rows_of(sample, label, seed + 1)
        x = cut(replace(sample, x=sample.x + offset), seed + 1)
        sets.append((rows, measure_stamps(x, rows, spec)))
    rows, found = (np.concatenate(pair) for pair in zip(*sets, strict=True))
    controls = run_controls(rows, found, rows["label"], rows["brick"].astype(str), spec)
    assert by_state(controls, "fail") == {"centroid x": "".join(bands)}
    colours = [c.name for c in controls if c.name.startswith("pixel colour")]
    assert colours == [f"pixel colour {blue} - {red}" for blue, red in spec.colours]
    assert {c.band for c in controls} == {"", *bands}


def test_images_alone_are_judged_without_what_needs_ivar():
    spec, sets = StampSpec(planes=("image",)), []
    for label, seed in ((0, 1), (1, 3)):
        rows = rows_of(galaxies(150, seed), label, seed + 1)
        x = cut(galaxies(150, seed), seed + 1)[..., : len(spec.bands)]
        sets.append((rows, measure_stamps(x, rows, spec)))
    rows, found = (np.concatenate(pair) for pair in zip(*sets, strict=True))
    controls = run_controls(rows, found, rows["label"], rows["brick"].astype(str), spec)
    silent = {c.name for c in controls if c.obstacle == Obstacle.NO_IVAR}
    assert silent == {
        *("ivar-flux slope", "ivar levels", "ivar step", "ivar dip"),
        *("noise under the source", "noise of the sky"),
    }
    assert only(controls, "centroid x", "r").state in CLEAR
    assert only(controls, "blank core", "r").state in CLEAR


def test_few_bricks_are_said(reals: Sets, fakes: Sets):
    (rows, found), (others, seen) = ((r[:60].copy(), m[:60]) for r, m in (reals, fakes))
    rows["brick"] = others["brick"] = b"1000p050"
    controls = battery((rows, found), (others, seen))
    assert only(controls, "centroid x", "r").bricks == 1
    assert only(controls, "brick").state in CLEAR


def test_order_and_fields(reals: Sets, fakes: Sets):
    controls = battery(reals, fakes)
    assert {c.state for c in controls} <= set(State)
    assert {c.band for c in controls} == {"", "g", "r", "z"}
    assert all(c.hazard[0] == "D" and 1 <= int(c.hazard[1:]) <= 20 for c in controls)
    assert all(c.p_family >= c.p for c in controls if c.state != "not run")
    again = battery(reals, fakes)
    assert [str(c) for c in again] == [str(c) for c in controls]
    assert len(np.unique(reals[0]["brick"])) == BRICKS


# --- how states are decided, of numbers made up

TWENTY = (np.arange(2000) % 2, np.arange(2000) // 2 % 20)  #: labels and bricks
NUMBER = Control("width", "D5", "r")
LABEL = Control("run", "D17", statistic=Statistic.ASSOCIATION, threshold=0.035)


def judged(*asked: tuple[Control, np.ndarray], **levels: tuple[float, float]) -> tuple[Control, ...]:
    return batteries.judge_controls(asked, *TWENTY, **levels)


@pytest.mark.parametrize("levels", [(0.05, 1e-6), (1e-6, 0.05)])
def test_each_family_has_its_own_level(levels: tuple[float, float], rng: np.random.Generator):
    values = rng.normal(size=2000) + 0.3 * TWENTY[0]
    found = judged((replace(NUMBER, hazard="D9"), values), (NUMBER, values), levels=levels)
    assert [one.significant for one in found] == [level == 0.05 for level in levels[::-1]]


def test_rounding_is_no_difference(rng: np.random.Generator):
    """One example of each class in one brick has another value: bricks' sums are 0 but for rounding."""
    for _ in range(100):
        sizes = rng.integers(3, 12, rng.integers(10, 30))
        bricks = np.repeat(np.arange(len(sizes)), 2 * sizes)
        values, order = np.where(np.arange(len(bricks)) < 2, 0.5, 1.0), rng.permutation(len(bricks))
        (found,) = batteries.judge_controls([(NUMBER, values[order])], order % 2, bricks[order])
        assert (found.significant, found.p_family) == (False, 1)


def test_numbers_and_associations_share_a_level(rng: np.random.Generator):
    """Where a family has both; alone each kind has all of it, and several associations have equal parts."""
    values, keys = rng.normal(size=2000) + 0.05 * TWENTY[0], (rng.random((2, 2000)) * 4).astype(int)
    (alone,), (by_itself,) = judged((NUMBER, values)), judged((LABEL, keys[0]))
    not_asked = replace(LABEL, obstacle=Obstacle.TWO_INJECTORS)  # takes no part of the level
    number, *labels, _ = judged((NUMBER, values), *((LABEL, one) for one in keys), (not_asked, keys[0]))
    assert 0 < alone.p_family < 0.8
    assert number.p_family == pytest.approx(alone.p_family / batteries.NUMBERS)
    assert by_itself.p_family == by_itself.p
    parts = 2 / (1 - batteries.NUMBERS)
    assert [one.p_family for one in labels] == pytest.approx([min(1.0, parts * one.p) for one in labels])


def test_what_is_significant_decides_and_not_what_is_large_by_chance():
    """One value is rarer by more than the limit, differently in each brick; another by less, everywhere."""
    label, bricks = TWENTY
    by_chance = np.repeat([-0.05, 0.3], 10)  # of injected galaxies, in each brick
    place = (np.arange(2000) // 40 + 0.5) / 50  # within a brick and class
    odd, even = 0.3 - label * by_chance[bricks], 0.10 + 0.03 * label
    kinds = np.select([place < odd, place < odd + even], [b"ODD", b"EVEN"], b"REST")
    control = Control("fitted type", "D10", statistic=Statistic.COMPOSITION, threshold=0.04)
    (found,) = judged((control, kinds))
    assert (found.component, found.state) == ("EVEN", State.WARN)
    assert found.effect == pytest.approx(0.03, abs=0.011)


def test_what_can_only_warn_warns(rng: np.random.Generator):
    values = rng.normal(size=2000) + TWENTY[0]
    found = judged((NUMBER, values), (replace(NUMBER, gravest=State.WARN), values))
    assert [one.state for one in found] == [State.FAIL, State.WARN]


def test_what_is_detectable_is_detected_four_times_of_five(rng: np.random.Generator):
    control = Control("background", "D17", "r", Statistic.SHIFT, "sigma")
    (first,) = judged((control, rng.normal(size=2000)))
    moved = (rng.normal(size=2000) + first.detectable * TWENTY[0] for _ in range(150))
    rate = np.mean([judged((control, values))[0].significant for values in moved])
    assert 0.65 < rate < 0.93  # the error that it rests on is itself measured in 20 bricks


# --- a survey made by the mock, and real pipeline output


def of_mock(tmp_path: Path, plant: Plant, *words: str) -> tuple[Control, ...]:
    """Controls of a small mock survey, by the road of every training set."""
    pytest.importorskip("galsim")
    from obiwan.dplearn.mock.survey import make_survey

    config = MockConfig(bricks=12, brick_size=320, border=24, runs=5, seed=5, plant=plant)
    if not (tmp_path / "mock").is_dir():
        (tmp_path / "mock").mkdir()
        make_survey(config, tmp_path / "mock", 1)
    given = [
        "--fake",
        str(tmp_path / "mock" / "injected"),
        "--outdir",
        str(tmp_path / "training"),
        "--overwrite",
    ]
    assert create_training.main([*given, *words]) == 0
    return controls_of(tmp_path / "training")


@pytest.mark.slow
def test_an_offset_of_all_bands_shows_from_the_truth_alone(tmp_path: Path):
    """A fit follows it, away from the truth; around the true places the light is off by what was planted."""
    plant = Plant(offset=0.6)
    blind, seeing = (of_mock(tmp_path, plant, "--centers", word) for word in ("tractor", "truth"))
    assert surprises("none", blind) == ["fit minus truth, x fails"]
    for band in "grz":
        assert only(blind, "centroid x", band).state in CLEAR
        control = only(seeing, "centroid x", band)
        assert control.state == "fail"
        assert control.effect == pytest.approx(0.6, abs=control.high - control.low)  # some four sigma
        assert control.high - control.low < 0.2


@pytest.mark.slow
def test_an_offset_between_bands_survives_the_fit(tmp_path: Path):
    """The fit moves by the weight of the band, the band by the rest, the others the other way."""
    controls = of_mock(tmp_path, Plant(offset_g=0.6))
    green, red = (only(controls, "centroid x", band) for band in "gr")
    assert green.state == "fail"
    assert red.high < 0  # by itself; among all controls a dozen bricks do not show it
    assert green.effect - red.effect == pytest.approx(0.6, abs=2 * (green.high - green.low))
    assert red.effect < 0 < green.effect
    assert surprises("offset-g", controls) == []


def _training(tmp_path: Path, *words: str) -> tuple[Control, ...]:
    given = ["--outdir", str(tmp_path / "out"), "--select", "none", "--split", "object", "--shard-size", "7"]
    assert (
        create_training.main([*words, *given, "--edge", "pad", "--balance", "none", "--centers", "truth"])
        == 0
    )
    return controls_of(tmp_path / "out")


@pytest.mark.data
def test_the_injector_of_2018_is_off_by_a_pixel_and_a_half(shared_data: Path, tmp_path: Path):
    fake, real = shared_data / "injected_obiwan/decals_grz", shared_data / "release_dr9/decals_grz"
    controls = _training(tmp_path, "--fake", str(fake), "--real", str(real))
    for axis in "xy":
        for band in "grz":
            _, low, high = of_class(
                only(controls, f"centroid {axis}", band), "fake"
            )  # from where the truth is
            assert 0 < low < 1.6
            assert high > 1.3
        control = only(controls, f"centroid {axis}", "r")
        assert control.state == "fail"
        assert 1.3 < of_class(control, "fake")[0] < 1.6
        assert 1 < control.low < control.high < 2


@pytest.mark.data
def test_legacysim_puts_sources_where_it_says(shared_data: Path, tmp_path: Path):
    regions = sorted(str(path) for path in (shared_data / "injected_legacysim").iterdir())
    controls = _training(tmp_path, "--fake", *regions)
    for axis in "xy":
        for band in "grz":
            control = only(controls, f"centroid {axis}", band)
            assert control.state in CLEAR
            assert control.low < 0 < control.high


def test_a_location_that_fails_is_what_is_told(rng):
    """Where each class has one value, ranks differ most in skewness, which says nothing."""
    label = TWENTY[0]
    (one,) = judged((NUMBER, 1.0 + 0.1 * label))
    assert (one.state, one.component, one.effect) == ("fail", "location", pytest.approx(0.5))
    (one,) = judged((NUMBER, rng.standard_normal(len(label)) * (1 + label)))
    assert (one.state, one.component) == ("fail", "spread")
