"""Every layout is recognised, and its files are found where its program puts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from obiwan.dplearn.errors import CoaddError, LayoutError
from obiwan.dplearn.survey.layouts import (
    LAYOUT_NAMES,
    RELEASE_RUN,
    Root,
    available_bands,
    find_runs,
    identify,
    layout_named,
)
from synthetic import Brick, Place, bricks_apart, objects, planes, write_run

KINDS = ("release", "obiwan", "obiwan2017", "legacysim", "obiwan_code")
BRICK = Brick("1211p060", 121.1, 6.0, 64)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def make(place: Place, *, fitted: bool = True) -> None:
    """An empty file wherever one belongs: layouts opens none."""
    touch(place.plane("image", "g"))
    if fitted:
        touch(place.tractor)
    if place.kind != "release":
        touch(place.truth)


def roots(path: Path, layout: str | None = None) -> list[Root]:
    return [Root(i, tree, found) for i, (tree, found) in enumerate(identify(path, layout))]


@pytest.mark.parametrize("kind", KINDS)
def test_each_layout_is_detected_and_its_files_found(kind, tmp_path):
    place = Place(kind, tmp_path, "1211p060")
    make(place)
    (root,) = roots(tmp_path)
    assert root.layout.name == kind
    (run,) = find_runs(root)
    assert (run.brick, run.coadd, run.tractor) == ("1211p060", place.coadd, place.tractor)
    assert run.run == (RELEASE_RUN if kind == "release" else place.run or run.run)
    assert run.plane("image", "g") == place.plane("image", "g")
    assert run.ccds() == place.ccds
    assert run.truth == (None if kind == "release" else place.truth)
    if kind in {"obiwan", "obiwan2017"}:
        assert run.ids_added == place.ids_added


@pytest.mark.parametrize("kind", ["obiwan", "obiwan2017"])
@pytest.mark.parametrize("obj", ["star", "elg", "lrg", "qso"])
def test_every_object_type_of_the_original(kind, obj, tmp_path):
    place = Place(kind, tmp_path, "1211p060", "more_skip_rs300", obj)
    make(place)
    (root,) = roots(tmp_path)
    (run,) = find_runs(root)
    assert run.truth == place.truth
    assert run.run == "more_skip_rs300"


@pytest.mark.parametrize("kind", ["obiwan", "obiwan2017"])
def test_run_names_of_the_original(kind, tmp_path):
    names = ["rs0", "rs200", "skip_rs300", "more_rs0", "more_skip_rs12"]
    for name in [*names, "xrs0", "old", "rs"]:
        make(Place(kind, tmp_path, "1211p060", name))
    assert [run.run for run in find_runs(roots(tmp_path)[0])] == sorted(names)


def test_a_2017_tree_of_several_types_is_several_trees(tmp_path):
    for obj in ("elg", "star"):
        make(Place("obiwan2017", tmp_path, "1211p060", "rs0", obj))
    assert [root.path.name for root in roots(tmp_path)] == ["elg", "star"]


def test_north_and_south_of_a_release(tmp_path):
    for region in ("north", "south"):
        make(Place("release", tmp_path / region, "1211p060"))
    found = roots(tmp_path / ".")
    assert [root.path.name for root in found] == ["north", "south"]
    assert found[0].name == f"{tmp_path.name}/north"


def test_a_hint_where_the_tree_lies_one_level_down(tmp_path):
    make(Place("legacysim", tmp_path / "run7", "1211p060"))
    with pytest.raises(LayoutError, match=r"no runs found.*did you mean .*run7\?"):
        identify(tmp_path)


def test_missing_directory_and_nothing_known(tmp_path):
    with pytest.raises(LayoutError, match="no such directory"):
        identify(tmp_path / "absent")
    with pytest.raises(LayoutError, match=r"no runs found.*known layouts: legacysim"):
        identify(tmp_path)


def test_layout_may_be_named(tmp_path):
    make(Place("obiwan_code", tmp_path, "1211p060", "rs0"))
    assert identify(tmp_path, "obiwan_code")[0][1].name == "obiwan_code"
    with pytest.raises(LayoutError, match="no runs found"):
        identify(tmp_path, "obiwan")
    with pytest.raises(ValueError, match="unknown layout"):
        layout_named("desi")
    assert set(KINDS) == set(LAYOUT_NAMES)


def test_only_the_listed_bricks_are_looked_for(tmp_path):
    for brick in bricks_apart(4):
        make(Place("legacysim", tmp_path, brick.name))
    (root,) = roots(tmp_path)
    assert len(find_runs(root)) == 4
    assert [run.brick for run in find_runs(root, {"1025p051", "9999p000"})] == ["1025p051"]


class Counted(frozenset):
    """Names that know how often all of them were looked at."""

    looks = 0

    def __iter__(self):
        type(self).looks += 1
        return super().__iter__()


def test_the_list_of_bricks_is_not_gone_through_for_every_directory(tmp_path):
    names = [f"{i:03d}0p000" for i in range(30)]
    for name in names:
        path = tmp_path / f"tractor/{name[:3]}/tractor-{name}.fits"
        path.parent.mkdir(parents=True)
        path.touch()
    found = find_runs(Root(0, tmp_path, layout_named("release")), Counted([*names[:20], "9999p999"]))
    assert [run.brick for run in found] == names[:20]
    assert Counted.looks <= 3  # one for each walk


def test_a_brick_in_the_wrong_directory_is_no_brick(tmp_path):
    make(Place("legacysim", tmp_path, "1211p060"))
    stray = tmp_path / "file0_rs0_skip0/sim/999/injected-1211p060.fits"
    touch(stray)
    assert len(find_runs(roots(tmp_path)[0])) == 1


def test_two_truth_tables_of_one_run(tmp_path):
    for obj in ("elg", "star"):
        make(Place("obiwan", tmp_path, "1211p060", "rs0", obj))
    with pytest.raises(LayoutError, match=r"brick 1211p060 \(rs0\): two truth tables"):
        find_runs(roots(tmp_path)[0])


def test_early_trees_have_no_catalogue_but_a_lost_one_is_a_loss(tmp_path):
    early, normal = tmp_path / "early", tmp_path / "normal"
    for run in ("rs0", "rs12"):
        make(Place("obiwan", early, "1211p060", run), fitted=False)
        make(Place("obiwan", normal, "1211p060", run), fitted=run == "rs0")
    assert all(run.tractor is None for run in find_runs(roots(early)[0]))
    assert all(run.tractor is not None for run in find_runs(roots(normal)[0]))


@pytest.mark.parametrize("suffix", [".fits", ".fits.fz", ".fits.gz"])
def test_any_suffix_is_found(suffix, tmp_path):
    place = Place("release", tmp_path, BRICK.name)
    rows = objects(BRICK, [32.0], [32.0])
    write_run(place, BRICK, rows, data=planes(BRICK, rows), suffix=suffix)
    (run,) = find_runs(roots(tmp_path)[0])
    assert run.plane("invvar", "z").name == f"legacysurvey-1211p060-invvar-z{suffix}"


def test_a_missing_band_names_brick_file_and_remedy(tmp_path):
    make(Place("release", tmp_path, "1211p060"))
    (run,) = find_runs(roots(tmp_path)[0])
    with pytest.raises(
        CoaddError,
        match=r"brick 1211p060 \(release\): band r missing: no legacysurvey-1211p060-image-r.*--bricks",
    ):
        run.plane("image", "r")


@pytest.mark.parametrize("kind", KINDS)
def test_custom_bricks(kind, tmp_path):
    """Regions that the survey has no brick for: names of 19 characters, in directories called cus."""
    name = "custom-123456p00000"
    make(Place(kind, tmp_path, name))
    make(Place(kind, tmp_path, "1211p060"))
    (root,) = roots(tmp_path)
    assert root.layout.name == kind
    assert [run.brick for run in find_runs(root)] == ["1211p060", name]
    (run,) = find_runs(root, {name})
    assert run.brick == name
    assert "/cus/" in str(run.coadd)


def test_bands_that_a_tree_has(tmp_path):
    place = Place("release", tmp_path, BRICK.name)
    rows = objects(BRICK, [32.0], [32.0], ("g", "r"))
    write_run(place, BRICK, rows, data=planes(BRICK, rows), flavour="dr10")  # with i, W1 and W2 beside
    (run,) = find_runs(roots(tmp_path)[0])
    assert available_bands(run) == ("g", "r", "i")
    place.plane("image", "r").unlink()
    assert available_bands(run) == ("g", "i")
