"""From what the user typed to trees, runs and bricks."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from obiwan.dplearn.errors import LayoutError
from obiwan.dplearn.planning.bricks import plan_brick
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.injected import single_runs
from obiwan.dplearn.planning.inputs import resolve_inputs
from synthetic import (
    BRICK,
    FAKE,
    REAL,
    Case,
    Place,
    at,
    both,
    bricks_apart,
    fakes,
    join,
    objects,
    reals,
    write_run,
    write_table,
)


def test_warnings_of_a_risky_choice(tmp_path):
    case = Case(tmp_path, kind="obiwan", injected=(FAKE,), fitted=(None,), release=REAL).write()
    config = TrainingConfig(select="none", reals_from="release", centers="truth")
    inputs = resolve_inputs(fake=[tmp_path / "fake"], real=[tmp_path / "real"], config=config)
    text = "\n".join(inputs.warnings)
    for word in ("D9", "--centers truth", "early-coadds tree", "1.3 to 1.6 px"):
        assert word in text
    assert case.plan(reals_from="release", centers="truth").rows["run"][0] == b"release"


def test_bands_that_no_tree_has_are_refused_before_any_brick_is_planned(tmp_path):
    place = Place("legacysim", tmp_path / "fake", BRICK.name, "file0_rs0_skip0")
    write_run(place, BRICK, both(REAL, FAKE), FAKE, suffix=".fits")

    def resolve(*bands: str) -> object:
        config = TrainingConfig(bands=bands, select="none")
        return resolve_inputs(fake=[tmp_path / "fake"], config=config)

    resolve("g", "r", "z")
    with pytest.raises(LayoutError, match=r"band u, i; there are g r z.*--bands"):
        resolve("u", "g", "i")


def test_several_roots_are_one_brick_together(tmp_path):
    for name, injected in (("a", FAKE), ("b", at((60, 140), first=500))):
        place = Place("legacysim", tmp_path / name, BRICK.name, "file0_rs0_skip0")
        write_run(place, BRICK, both(REAL, injected), injected, suffix=".fits")
    config = TrainingConfig(select="none")
    inputs = resolve_inputs(fake=[tmp_path / "a", tmp_path / "b"], config=config)
    (brick,) = inputs.bricks
    plan = plan_brick(brick, config)
    assert fakes(plan) == [500, 500]
    assert sorted(plan.rows["root"][plan.rows["label"] == 1]) == [0, 1]
    assert reals(plan) == [10]
    with pytest.raises(LayoutError, match="given twice"):
        resolve_inputs(fake=[tmp_path / "a", tmp_path / "a" / ".." / "a"], config=config)


def test_bricks_of_a_list(tmp_path):
    for brick in bricks_apart(3):
        inject, real = objects(brick, [60], [60]), objects(brick, [180], [180])
        place = Place("legacysim", tmp_path / "fake", brick.name)
        write_run(place, brick, join(real, inject), inject, suffix=".fits")
    config = TrainingConfig(select="none")
    listed = tmp_path / "bricks.txt"
    listed.write_text("# mine\n1000p051\n\n1050p051  # the third\n")

    def names(*words: str) -> list[str]:
        found = resolve_inputs(fake=[tmp_path / "fake"], bricks=words, config=config)
        return [brick.brick for brick in found.bricks]

    assert names(str(listed)) == ["1000p051", "1050p051"]
    assert names("1025p051", str(listed)) == ["1000p051", "1025p051", "1050p051"]
    with pytest.raises(LayoutError, match=r"--bricks: no run of 9999p000"):
        names("1025p051", "9999p000")
    with pytest.raises(LayoutError, match=r"--bricks .*absent.txt: no such file"):
        names(str(tmp_path / "absent.txt"))
    listed.write_text("1000p051\n", encoding="utf-8-sig")
    assert names(str(listed)) == ["1000p051"]
    listed.write_text("# nothing\n")
    with pytest.raises(LayoutError, match="the list is empty"):
        names(str(listed))


def test_trees_on_the_wrong_side(tmp_path):
    Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, FAKE),), release=REAL).write()
    config = TrainingConfig(select="none")
    with pytest.raises(LayoutError, match="give it with --real, not --fake"):
        resolve_inputs(fake=[tmp_path / "real"], config=config)
    with pytest.raises(LayoutError, match="is an injection tree; leave out --real"):
        resolve_inputs(fake=[tmp_path / "fake"], real=[tmp_path / "fake"], config=config)
    with pytest.raises(LayoutError, match="--fake DIR"):
        resolve_inputs(fake=[], real=[tmp_path / "real"], config=config)


@pytest.mark.parametrize("kind", ["legacysim", "obiwan_code"])
def test_one_run_of_an_injection_tree_is_neither_tree_nor_release(kind, tmp_path):
    """It looks like one, and its injections would be labelled real."""
    place = Place(kind, tmp_path / "fake", BRICK.name, "file0_rs0_skip0" if kind == "legacysim" else "rs0")
    write_run(place, BRICK, both(REAL, FAKE), FAKE, suffix=".fits")
    run = tmp_path / "fake" / place.run
    with pytest.raises(LayoutError, match=r"is one run of an injection tree.*--real the data release"):
        resolve_inputs(fake=[tmp_path / "fake"], real=[run], config=TrainingConfig(select="none"))
    with pytest.raises(LayoutError, match=rf"one run of an injection tree.*{tmp_path / 'fake'}$"):
        resolve_inputs(fake=[run], config=TrainingConfig(select="none"))


def test_bricks_that_the_release_does_not_have_are_left_out(tmp_path):
    one, two = bricks_apart(2)
    for brick in (one, two):
        rows = join(objects(brick, [60], [60]), objects(brick, [180], [180]))
        place = Place("legacysim", tmp_path / "fake", brick.name, "file0_rs0_skip0")
        write_run(place, brick, rows, objects(brick, [60], [60]), suffix=".fits")
    write_run(Place("release", tmp_path / "real", one.name), one, objects(one, [180], [180]), suffix=".fits")
    config = TrainingConfig(select="none")
    inputs = resolve_inputs(fake=[tmp_path / "fake"], real=[tmp_path / "real"], config=config)
    assert [brick.brick for brick in inputs.bricks] == [one.name]
    assert any("left out: 1 brick(s)" in warning and two.name in warning for warning in inputs.warnings)
    with pytest.raises(LayoutError, match="none of the bricks that were injected into"):
        resolve_inputs(fake=[tmp_path / "fake"], real=[tmp_path / "real"], bricks=[two.name], config=config)


def test_nothing_is_logged_while_planning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, FAKE),)).write().plan()
    assert not caplog.records


def test_positions_of_single_precision_are_warned_of(tmp_path):
    Case(tmp_path, injected=(FAKE,), fitted=(both(REAL, FAKE),)).write()
    path = tmp_path / "mine.fits"
    write_table(path, {"brick": np.array([BRICK.name]), "ra": np.float32([1]), "dec": np.float32([2])})
    inputs = resolve_inputs(fake=[tmp_path / "fake"], fake_table=path, config=TrainingConfig(select="none"))
    assert any("mine.fits: ra and dec in single precision" in warning for warning in inputs.warnings)


def test_bricks_of_one_run_without_a_release_are_warned_of():
    """Not those of several runs, or in a release; and trees of inject take no release."""
    runs = {"a": ["run"], "b": ["run", "other"], "c": ["run"]}
    (line,) = single_runs(runs, {"c": ["release"]}, one=False)
    assert line.startswith("1 brick(s) with one run and no data release")
    assert line.endswith("give more runs, or the release with --real")
    (line,) = single_runs(runs, {}, one=True)
    assert line.startswith("2 brick(s)")
    assert line.endswith("give more runs")
    assert single_runs({"b": ["run", "other"]}, {}, one=False) == []


# --- two injectors ---------------------------------------------------------------------------------


def two_trees(tmp_path, **options):
    """Trees of one brick and one list of injections, one of which each tree did not recover."""
    injected = at((60, 60), (60, 180), (180, 60), first=500)
    for name, lost in (("a", 1), ("b", 2)):
        place = Place("legacysim", tmp_path / name, BRICK.name, f"file0_rs{lost}_skip0")
        found = {key: np.delete(values, lost, axis=0) for key, values in injected.items()}
        fitted = both(REAL, {**found, "id": found["id"] - 400})
        write_run(place, BRICK, fitted, injected, suffix=".fits", **options)
    return tmp_path / "a", tmp_path / "b"


def planned(fake, real_injected, **options):
    inputs = resolve_inputs(fake=[fake], real_injected=[real_injected], config=TrainingConfig(**options))
    (brick,) = inputs.bricks
    return inputs, plan_brick(brick, TrainingConfig(**options))


def test_injections_of_another_tree_are_the_class_real(tmp_path):
    one, other = two_trees(tmp_path)
    inputs, plan = planned(one, other, select="none")
    assert [root.as_real for root in inputs.roots] == [False, True]
    assert (fakes(plan), reals(plan)) == ([500, 502], [500, 501])
    assert np.isfinite(plan.rows["truth_ra"]).all()
    assert set(plan.rows["mag_source"]) == {b"measured"}
    assert plan.flows["real"]['recovered: mutual match in 1.5"'] == 2
    # The classes are made alike: with the trees exchanged, everything but label and tree is exchanged.
    swapped = planned(other, one, select="none")[1]
    columns = [name for name in plan.rows.dtype.names if name not in ("label", "root")]
    for label in (0, 1):
        mine, theirs = plan.rows[plan.rows["label"] == label], swapped.rows[swapped.rows["label"] != label]
        for name in columns:
            np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


def test_close_injections_of_several_runs_are_several_examples_in_either_class(tmp_path):
    one, other = two_trees(tmp_path)
    close = at((62, 60), first=600)  # half an arcsec from an injection of the other run
    found = both(REAL, {**close, "id": close["id"] - 400})
    write_run(Place("legacysim", other, BRICK.name, "file0_rs9_skip0"), BRICK, found, close, suffix=".fits")
    assert reals(planned(one, other, select="none")[1]) == [500, 501, 600]
    assert fakes(planned(other, one, select="none")[1]) == [500, 501, 600]


def test_two_injectors_need_no_real_galaxies_of_the_runs(tmp_path):
    """Runs that fitted only blobs with an injection have none."""
    _, plan = planned(*two_trees(tmp_path, command="runbrick.py --sim-blobs"), select="none")
    assert (fakes(plan), reals(plan)) == ([500, 502], [500, 501])


def test_two_injectors_on_truth_centres_scatter_alike(tmp_path):
    inputs, plan = planned(*two_trees(tmp_path), select="none", centers="truth")
    assert not any("scatter differently" in line for line in inputs.warnings)
    assert plan.rows["ra"].tolist() == plan.rows["truth_ra"].tolist()


def test_a_brick_of_one_injector_has_one_class(tmp_path):
    """What a run fitted beside its injections does not stand in for the other injector's."""
    one, other = two_trees(tmp_path)
    brick = bricks_apart(2)[1]
    fake = objects(brick, np.array([60.0]), np.array([60.0]))
    beside = objects(brick, np.array([180.0]), np.array([180.0]))
    write_run(Place("legacysim", one, brick.name, "file0_rs1_skip0"), brick, join(fake, beside), fake)
    inputs = resolve_inputs(fake=[one], real_injected=[other], config=TrainingConfig(select="none"))
    (mine,) = (one for one in inputs.bricks if one.brick == brick.name)
    plan = plan_brick(mine, TrainingConfig(select="none"))
    assert (len(fakes(plan)), len(reals(plan))) == (1, 0)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"fake": []}, "--fake"),
        ({"real_table": True}, "leave out --real-table"),
        ({"fake_table": True}, "leave out --real-table and --fake-table"),
        ({"reals_from": "release"}, "leave out --reals-from release"),
        ({"real_injected": "released"}, "give it with --real, not --real-injected"),
    ],
)
def test_what_has_no_meaning_for_two_injectors_is_refused(options, fault, tmp_path):
    one, other = two_trees(tmp_path)
    table = tmp_path / "table.csv"
    table.write_text(f"brick,ra,dec\n{BRICK.name},121.1,6.0\n")
    given = {"fake": [one], "real_injected": [other], **options}
    if given["real_injected"] == "released":
        write_run(Place("release", tmp_path / "dr9", BRICK.name), BRICK, REAL)
        given["real_injected"] = [tmp_path / "dr9"]
    config = TrainingConfig(select="none", reals_from=given.pop("reals_from", "injected"))
    if config.reals_from == "release":
        write_run(Place("release", tmp_path / "dr9", BRICK.name), BRICK, REAL)
        given["real"] = [tmp_path / "dr9"]
    given |= {name: table for name in ("real_table", "fake_table") if name in given}
    with pytest.raises(LayoutError, match=fault):
        resolve_inputs(**given, config=config)
