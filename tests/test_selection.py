"""The named cuts against numbers worked out by hand, and their counting."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import permutations

import numpy as np
import pytest

from obiwan.dplearn.errors import SelectionError
from obiwan.dplearn.planning.cutflow import added, count, flow_table
from obiwan.dplearn.planning.selection import (
    SELECTIONS,
    apply_cuts,
    find_selection,
)
from obiwan.dplearn.survey.sources import Sources, blank_sources

GRZ = ("g", "r", "z")
select_elg, select_elg2018 = SELECTIONS["elg"], SELECTIONS["elg2018"]


def source(g=22.5, r=22.0, z=21.5, **given) -> Sources:
    """One EXP source of these dereddened magnitudes, seen through some dust."""
    transmission = np.array([[0.8, 0.9, 0.95]])
    base = replace(
        blank_sources(1, GRZ),
        type=np.array([given.pop("kind", "EXP")]),
        flux=10 ** (-0.4 * (np.array([[g, r, z]]) - 22.5)) * transmission,
        flux_ivar=np.full((1, 3), 100.0),
        mw_transmission=transmission,
        nobs=np.full((1, 3), 2),
        psfsize=np.array([[1.6, 1.4, 1.2]]),
        shape_r=np.array([0.5]),
    )
    return replace(base, **{k: np.asarray(v) for k, v in given.items()})


def passes(selection, sources: Sources) -> bool:
    return bool(apply_cuts(sources, selection, np.ones(len(sources), bool), {})[0])


def failed(selection, sources: Sources) -> list[str]:
    return [name for name, mask in selection(sources).items() if not mask[0]]


def test_a_galaxy_in_the_middle_passes():
    assert failed(select_elg, source()) == []


# As in doc/explanation/data-model.rst: the first line is g-r <= 1.15 (r-z) + 0.61199, the second g-r <=
# -1.2 (r-z) + 2.38102, and -0.2 <= r-z <= 2.1.  Each edge from both sides, by 0.001 mag.
EDGES = [
    (22.0 + 1.15 * 0.3 + 0.61199, 22.0, 21.7, +1, "g"),  # first line at r-z = 0.3: g-r up to 0.95699
    (22.0 - 1.2 * 1.5 + 2.38102, 22.0, 20.5, +1, "g"),  # second line at r-z = 1.5: g-r up to 0.58102
    (21.8, 22.0, 22.2, +1, "z"),  # r-z = -0.2
    (21.4, 22.0, 19.9, -1, "z"),  # r-z = 2.1; the second line allows g-r up to -0.139
]


@pytest.mark.parametrize(("g", "r", "z", "outwards", "band"), EDGES)
def test_edges_of_the_colour_box(g, r, z, outwards, band):
    for step, inside in ((-0.001, True), (0.001, False)):
        mags = {"g": g, "r": r, "z": z}
        mags[band] += outwards * step
        assert ("elg colour box" not in failed(select_elg, source(**mags))) is inside, (mags, step)


@pytest.mark.parametrize(
    ("mags", "inside"),
    [
        ({"g": 24.499, "r": 23.6, "z": 22.9}, True),
        ({"g": 24.501, "r": 23.6, "z": 22.9}, False),
        ({"g": 24.2, "r": 23.899, "z": 22.9}, True),
        ({"g": 24.2, "r": 23.901, "z": 22.9}, False),
        ({"g": 23.5, "r": 23.3, "z": 22.999}, True),
        ({"g": 23.5, "r": 23.3, "z": 23.001}, False),
        ({"g": 20.6776, "r": 20.6, "z": 20.4}, True),
        ({"g": 20.6756, "r": 20.6, "z": 20.4}, False),
        ({"g": 20.8, "r": 20.4669, "z": 20.3}, True),
        ({"g": 20.8, "r": 20.4649, "z": 20.3}, False),
        ({"g": 20.9, "r": 20.6, "z": 19.4401}, True),
        ({"g": 20.9, "r": 20.6, "z": 19.4381}, False),
    ],
)
def test_magnitude_limits(mags, inside):
    assert passes(select_elg, source(**mags)) is inside


@pytest.mark.parametrize(
    ("radius", "inside"), [(0.130, False), (0.1311, True), (1.999, True), (2.001, False), (np.nan, False)]
)
def test_radius_of_extended_types(radius, inside):
    assert passes(select_elg, source(shape_r=[radius])) is inside


@pytest.mark.parametrize(("psfsize", "inside"), [(1.4, True), (3.99, True), (4.01, False), (0.25, False)])
def test_point_sources_have_half_the_mean_psf_size(psfsize, inside):
    sizes = [[psfsize - 0.1, psfsize, psfsize + 0.1]]
    assert passes(select_elg, source(kind="PSF", shape_r=[0.0], psfsize=sizes)) is inside


@pytest.mark.parametrize(
    ("kind", "elg", "elg2018", "psf", "galaxies"),
    [
        ("PSF", True, True, True, False),
        ("SIMP", True, False, False, True),
        ("REX", True, True, False, True),
        ("EXP", True, True, False, True),
        ("DEV", False, False, False, True),
        ("COMP", False, False, False, True),
        ("SER", False, False, False, True),
        ("DUP", False, False, False, False),
    ],
)
def test_types(kind, elg, elg2018, psf, galaxies):
    one = source(kind=kind)
    got = [passes(SELECTIONS[name], one) for name in ("elg", "elg2018", "psf", "galaxies", "none")]
    assert got == [elg, elg2018, psf, galaxies, True]


@pytest.mark.parametrize("band", range(3))
def test_quality_in_every_band(band):
    for name, value in (("flux", -0.1), ("flux", 0.0), ("flux_ivar", 0.0), ("nobs", 0)):
        one = source()
        changed = getattr(one, name).copy()
        changed[0, band] = value
        assert not passes(select_elg, replace(one, **{name: changed})), (name, value)


def test_unknown_quality_passes_and_unknown_measurement_fails():
    one = source(flux_ivar=[[np.nan] * 3], nobs=[[-1] * 3])
    assert passes(select_elg, one)
    assert not passes(select_elg, source(flux=[[np.nan] * 3]))


def test_dust_is_taken_out():
    # Observed g of 24.6 behind 0.2423 mag of dust is 24.358: kept.  Without the correction it would go.
    one = source(g=24.358, r=23.7, z=22.9)
    observed = 22.5 - 2.5 * np.log10(one.flux[0, 0])
    assert observed == pytest.approx(24.6003, abs=1e-3)
    assert passes(select_elg, one)


def test_elg2018_differs_in_simp_only(rng):
    n = 400
    many = replace(
        blank_sources(n, GRZ),
        type=rng.choice(["PSF", "SIMP", "REX", "EXP", "DEV"], n),
        flux=10 ** (-0.4 * (rng.uniform(20, 25, (n, 3)) - 22.5)),
        mw_transmission=np.ones((n, 3)),
        psfsize=np.full((n, 3), 1.4),
        shape_r=rng.uniform(0, 2.5, n),
    )
    new, old = (apply_cuts(many, s, np.ones(n, bool), {}) for s in (select_elg, select_elg2018))
    assert old.any()
    assert (new & ~old).any()
    assert set(many.type[new & ~old]) == {"SIMP"}
    assert not (old & ~new).any()


MODULE = """
def mask(sources):
    return sources.type == "EXP"

def mapping(sources):
    return {"is EXP": sources.type == "EXP", "is big": sources.shape_r > 1}

def wrong(sources):
    return [1.0] * len(sources)

def short(sources):
    return sources.type[:0] == ""

def fails(sources):
    return sources.mag_w1 < 20
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "my_cuts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "my_cuts", raising=False)


@pytest.mark.usefixtures("user_module")
def test_user_selection_mask_and_mapping():
    one = source()
    flow: dict[str, int] = {}
    assert apply_cuts(one, find_selection("my_cuts:mask", GRZ), np.ones(1, bool), flow).tolist() == [True]
    assert flow == {"my_cuts:mask": 1}
    flow = {}
    assert apply_cuts(one, find_selection("my_cuts:mapping", GRZ), np.ones(1, bool), flow).tolist() == [False]
    assert flow == {"is EXP": 1, "is big": 0}


def test_cuts_of_one_name_in_several_selections_are_all_applied(tmp_path, monkeypatch):
    for name, kept in (("strict", "False"), ("loose", "True")):
        text = f"import numpy\n\ndef f(sources):\n    return {{'bright': numpy.full(len(sources), {kept})}}\n"
        (tmp_path / f"{name}_cuts.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    flow: dict[str, int] = {}
    selection = find_selection("strict_cuts:f,loose_cuts:f", GRZ)
    assert apply_cuts(source(), selection, np.ones(1, bool), flow).tolist() == [False]
    assert flow == {"bright": 0, "bright (loose_cuts:f)": 0}


@pytest.mark.usefixtures("user_module")
@pytest.mark.parametrize("name", ["wrong", "short"])
def test_user_selection_that_returns_something_else(name):
    with pytest.raises(SelectionError, match=rf"my_cuts:{name}.*expected bool"):
        apply_cuts(source(), find_selection(f"my_cuts:{name}", GRZ), np.ones(1, bool), {})


@pytest.mark.usefixtures("user_module")
def test_user_selection_that_fails():
    with pytest.raises(
        SelectionError, match=r"my_cuts:fails: the function failed \(.*mag_w1.*\); correct it"
    ):
        apply_cuts(source(), find_selection("my_cuts:fails", GRZ), np.ones(1, bool), {})


def test_a_module_that_cannot_be_imported(tmp_path, monkeypatch):
    (tmp_path / "broken_cuts.py").write_text("def f(:")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"--select broken_cuts:f: .*invalid syntax"):
        find_selection("broken_cuts:f", GRZ)


@pytest.mark.parametrize("name", ["lrg", "no_such_module_xyz:f", "math:no_such_function"])
def test_unknown_selection(name):
    with pytest.raises(ValueError, match=f"--select {name}"):
        find_selection(name, GRZ)


def test_earlier_cuts_stay_cut():
    three = source().take(np.zeros(3, int))
    flow: dict[str, int] = {}
    keep = apply_cuts(three, select_elg, np.array([True, False, True]), flow)
    assert keep.tolist() == [True, False, True]
    assert set(flow.values()) == {2}


def test_flows_add_up_and_keep_their_order():
    flows = [{"rows": 3}, {"rows": 5, "a": 4, "b": 2}, {"rows": 1, "a": 1, "b": 0}, {"rows": 2, "c": 1}]
    for order in permutations(flows):
        assert list(reduce(added, order, {}).items()) == [("rows", 11), ("a", 5), ("b", 2), ("c", 1)]
    flow: dict[str, int] = {}
    count(flow, "x", np.array([True, False]))
    count(flow, "x", 4)
    assert flow == {"x": 5}


def test_table_of_flows():
    real, fake = {"rows": 1200, "far": 900, "box": 80}, {"rows": 7, "injected": 6, "recovered": 5, "box": 0}
    lines = flow_table(real, fake).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["rows", "far", "injected", "recovered", "box"]
    assert lines[1].split()[1:] == ["1,200", "7"]
    assert lines[2].split()[1:] == ["900", "-"]
    assert lines[3].split()[1:] == ["-", "6"]
    assert lines[5].split()[1:] == ["80", "0"]


@pytest.mark.parametrize(
    ("text", "g", "passed"),
    [
        ("mag_g<22.5", 22.4, True),
        ("mag_g < 22.5", 22.6, False),
        ("g-r>=0.45", 22.5, True),
        ("g-r>0.55", 22.5, False),
        ("mag_g<23,g-r<0.1", 22.5, False),
        ("elg,mag_g<23", 22.5, True),
        ("elg,mag_g<22", 22.5, False),
    ],
)
def test_conditions(text, g, passed):
    assert passes(find_selection(text, ("g", "r", "z")), source(g=g)) is passed


def test_conditions_on_sizes_noise_and_the_unknown():
    one = source(shape_r=np.array([0.9]), psfsize=np.array([[1.0, 1.2, 1.4]]))
    for text, passed in {
        "size>1.49": True,
        "size>1.51": False,
        "shape_r<=0.9": True,
        "shape_r<0.9": False,
    }.items():
        assert passes(find_selection(text, ("g", "r", "z")), one) is passed, text
    ivar = np.array([[9.0, 16.0, 0.0]]) / one.flux**2
    noisy = source(flux_ivar=ivar)
    assert passes(find_selection("snr_r>3.9,snr_r<4.1,snr>4.9,snr<5.1,snr_z<=0", ("g", "r", "z")), noisy)
    unknown = source(ebv=np.array([np.nan]), nobs=np.array([[-1, -1, -1]]))
    for text in ("ebv<1", "ebv>-1", "nobs_g<9", "nobs_g>-9"):
        assert not passes(find_selection(text, ("g", "r", "z")), unknown), text
    unseen = source(psfsize=np.zeros((1, 3)), flux_ivar=np.full((1, 3), -1.0))
    for text in ("size>1", "size<9", "snr_r>0", "snr>0", "snr<9"):
        assert not passes(find_selection(text, ("g", "r", "z")), unseen), text


def test_conditions_on_shapes_and_maps():
    one = source(e1=[0.3], e2=[-0.4], ebv=[0.05], maskbits=[2], nobs=[[3, 2, 1]])
    for text, passed in {
        "ellipticity>0.49,ellipticity<0.51": True,
        "ebv<0.06,ebv>0.04": True,
        "maskbits<1": False,
        "nobs_g>=3,nobs_z<2": True,
        "psfsize_r>1.39,psfsize_r<1.41": True,
    }.items():
        assert passes(find_selection(text, ("g", "r", "z")), one) is passed, text


def test_conditions_that_cannot_be_asked():
    with pytest.raises(ValueError, match=r"--select magr<22: no quantity magr; there are mag_B"):
        find_selection("magr<22", ("g", "r", "z"))
    with pytest.raises(SelectionError, match="asks for mag_i, and the catalogue has the bands g, r, z"):
        find_selection("mag_i<22", ("g", "r", "z"))(source())


def test_selections_by_type_need_types():
    with pytest.raises(SelectionError, match="--select psf needs the types of tractor"):
        find_selection("psf", ("g", "r", "z"))(source(type=np.array([""])))
