"""One catalogue of each brick: that of the release which was injected into; one row of each injection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest

from obiwan.dplearn.errors import CatalogError
from obiwan.dplearn.planning.bricks import plan_brick
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.inputs import resolve_inputs
from obiwan.dplearn.planning.provenance import Origin, made_from
from synthetic import BRICK, FAKE, Objects, Place, at, both, fakes, reals, write_run

SOUTH, NORTH = at((180, 180), (150, 100), first=10), at((180, 181), (100, 200), first=20)
RUN = "file0_rs0_skip0"
DECAM, BOK = "decam", "90prime mosaic"


def put(place: Place, fitted: Objects, injected: Objects | None = None, **cards: Any) -> None:
    """A brick whose coadds and catalogue have these cards; of a camera in them the CCD table tells, too."""
    write_run(place, BRICK, fitted, injected, camera="" if "CAMS_G" in cards else cards.pop("camera", ""))
    for path in [*place.coadd.glob("*image*.fz"), *place.coadd.glob("*invvar*.fz"), place.tractor]:
        with fitsio.FITS(str(path), "rw") as file:
            for name, value in cards.items():
                file[0 if path == place.tractor else 1].write_key(name, value)


def of_release(root: Path, fitted: Objects, **cards: Any) -> Path:
    put(Place("release", root, BRICK.name), fitted, **cards)
    return root


def of_injection(root: Path, fitted: Objects, injected: Objects = FAKE, run: str = RUN, **cards: Any) -> Path:
    put(Place("legacysim", root, BRICK.name, run), both(fitted, injected), injected, **cards)
    return root


def cameras(names: str) -> dict[str, str]:
    return {f"CAMS_{band}": names for band in "GRZ"}


def planned(fake: list[Path], real: list[Path], **options: Any) -> Any:
    config = TrainingConfig(select="none", **options)
    (brick,) = resolve_inputs(fake=fake, real=real, config=config).bricks
    return plan_brick(brick, config)


@pytest.mark.parametrize("reals_from", ["injected", "release"])
@pytest.mark.parametrize(("injected", "ids"), [(DECAM, [10, 11]), (BOK, [20, 21])])
def test_north_and_south_by_their_cameras(injected, ids, reals_from, tmp_path):
    of_release(tmp_path / "dr9/south", SOUTH, **cameras(DECAM))
    of_release(tmp_path / "dr9/north", NORTH, **cameras(BOK))
    fake = of_injection(tmp_path / "fake", SOUTH, **cameras(injected))
    plan = planned([fake], [tmp_path / "dr9"], reals_from=reals_from)
    assert (reals(plan), fakes(plan)) == (ids, [500])
    flow = plan.flows["real"]
    assert [flow["catalogue rows"], flow["in the release that was injected into"]] == [4, 2]


@pytest.mark.parametrize("told_by", ["camera", "INSTRUME"])
def test_cameras_of_older_files(told_by, tmp_path):
    """No CAMS cards: the CCD table tells, else the name of the instrument."""
    names = {"camera": ("decam", "90prime"), "INSTRUME": ("DECam", "90prime")}[told_by]
    south = of_release(tmp_path / "dr7", SOUTH, **{told_by: names[0]})
    north = of_release(tmp_path / "dr6", NORTH, **{told_by: names[1]})
    fake = of_injection(tmp_path / "fake", NORTH, **{told_by: names[1]})
    assert reals(planned([fake], [south, north])) == [20, 21]


def test_two_releases_by_their_pipelines(tmp_path):
    releases = [
        of_release(tmp_path / f"dr{i}", rows, **cameras(DECAM), LSDR=f"DR{i}")
        for i, rows in ((8, SOUTH), (9, NORTH))
    ]
    fake = of_injection(tmp_path / "fake", SOUTH, **cameras(DECAM), LSDR="DR9", DRVERSIO=9999)
    assert reals(planned([fake], releases)) == [20, 21]


def test_headers_that_do_not_tell(tmp_path):
    one, two = (
        of_release(tmp_path / name, rows, **cameras(DECAM)) for name, rows in (("a", SOUTH), ("b", NORTH))
    )
    fake = of_injection(tmp_path / "fake", SOUTH, **cameras(DECAM))
    with pytest.raises(CatalogError, match=rf"1211p060: is in {one} .*several of them; give one with --real"):
        planned([fake], [one, two])
    north = of_injection(tmp_path / "north", SOUTH, **cameras(BOK))
    with pytest.raises(CatalogError, match=r"90prime\+mosaic\) may be made from none of them"):
        planned([north], [one, two])


def test_runs_that_were_made_from_different_releases(tmp_path):
    of_release(tmp_path / "dr9/south", SOUTH, **cameras(DECAM))
    of_release(tmp_path / "dr9/north", NORTH, **cameras(BOK))
    trees = [of_injection(tmp_path / name, SOUTH, **cameras(name)) for name in (DECAM, BOK)]
    with pytest.raises(CatalogError, match="made from different ones; make a training set of each"):
        planned(trees, [tmp_path / "dr9"])


def test_copies_of_a_release_are_one(tmp_path):
    copies = [of_release(tmp_path / name, SOUTH, **cameras(DECAM)) for name in ("dr9", "copy")]
    fake = of_injection(tmp_path / "fake", SOUTH, **cameras(DECAM))
    plan = planned([fake], copies)
    assert reals(plan) == [10, 11]
    assert set(plan.rows["root"]) == {0}
    assert plan.flows["real"]["catalogue rows"] == 4


@pytest.mark.parametrize("runs", [(RUN, RUN), (RUN, "file0_rs1_skip0")])
def test_an_injection_of_two_trees_is_one(runs, tmp_path):
    """Also under another number, and though its fits differ a little."""
    trees = []
    for i, run in enumerate(runs):
        injected = {**at((60, 60), (60, 140)), "id": np.array([500 + i, 600 + i])}
        trees.append(of_injection(tmp_path / f"tree{i}", SOUTH, injected, run))
    plan = planned(trees, [])
    assert [found // 100 for found in fakes(plan)] == [5, 6]
    flow = plan.flows["fake"]
    assert [flow["catalogue rows"], flow["one row per source"]] == [4, 2]


def test_one_release_has_no_row_of_its_own_in_the_cut_flow(tmp_path):
    south = of_release(tmp_path / "dr9", SOUTH)
    plan = planned([of_injection(tmp_path / "fake", SOUTH)], [south])
    assert "in the release that was injected into" not in plan.flows["real"]


@pytest.mark.parametrize(
    ("injected", "left"),
    [
        (Origin("decam", "DR9", "9010"), [0]),
        (Origin("decam", "DR9", "9011"), [0, 1]),
        (Origin("decam", "", ""), [0, 1, 3]),
        (Origin("90prime+mosaic", "DR9", ""), [2]),
        (Origin("decam", "DR10", "10000"), [3]),
        (Origin("mosaic", "DR9", ""), []),
        (Origin("", "", ""), [0, 1, 2, 3]),
    ],
)
def test_what_coadds_may_be_made_from(injected, left):
    releases = [
        Origin("decam", "DR9", "9010"),
        Origin("decam", "DR9", "9012"),
        Origin("90prime+mosaic", "DR9", "9011"),
        Origin("decam", "DR10", "10000"),
    ]
    assert made_from(injected, releases) == left
