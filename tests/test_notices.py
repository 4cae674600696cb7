"""Notices: when there is one, and when there is none; and that each can be put into words."""

from __future__ import annotations

from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

from obiwan.dplearn.controls.records import Control, Obstacle, State, Statistic
from obiwan.dplearn.evaluation.ensemble import ModelInfo, Scored
from obiwan.dplearn.evaluation.notices import (
    Fact,
    Notice,
    alarms,
    cautions,
    not_run,
    of_mock,
    sampled,
    unknown_exposures,
)
from obiwan.dplearn.referees.testlog import Ledger, Opening
from obiwan.dplearn.report import wording
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.writers import Writer
from obiwan.dplearn.trainingset.clusters import ClusteredBy, Clusters
from obiwan.dplearn.trainingset.examples import blank_examples
from obiwan.dplearn.twosample.ranking import Estimate

DATA = {
    "checksum": "d",
    "config": {"split": "brick", "reals_from": "injected"},
    "roots": [{"injected": True}],
}


def network(name: str = "run0/best.keras", **changes: object) -> ModelInfo:
    return ModelInfo(**{"name": name, "checksum": name, "arch": "lenet5", "learnt": True, **changes})


def scored(*models: ModelInfo) -> Scored:
    blank = np.zeros((len(models), 4))
    return Scored(
        blank_examples(4, StampSpec()),
        blank,
        blank[0],
        blank[0],
        models,
        ledger=Ledger((models[0].checksum,)),
    )


def test_nothing_is_said_where_there_is_nothing_to_say():
    assert cautions(scored(network(trained_on="d")), DATA) == ()


@pytest.mark.parametrize(
    ("model", "data", "kind"),
    [
        ({"augmented": True}, {}, Notice.AUGMENTED),
        ({"trained_on": "other"}, {}, Notice.OTHER_DATA),
        ({}, {"config": {"split": "object"}}, Notice.SHARED_BRICKS),
        ({}, {"roots": [{"injected": True}, {"injected": False}]}, Notice.CATALOGUES),
        ({}, {"roots": [{"name": "b", "as_real": True}, {"injected": False}]}, Notice.TWO_INJECTORS),
    ],
)
def test_each_caution_is_given_alone(model, data, kind):
    (found,) = cautions(scored(network(**model)), {**DATA, **data})
    assert found.kind == kind
    if kind == Notice.OTHER_DATA:
        assert found.values == {"model": "run0/best.keras", "trained_on": "other"}


def grouped(by: ClusteredBy, count: int, linked: int) -> Clusters:
    return Clusters(np.array(["b"]), np.zeros(4, int), by, count, bricks=12, linked=linked)


def test_bricks_that_share_exposures():
    data = {**DATA, "exposures": {"known": 12, "shared": 0}}
    tested = scored(network())
    for by, count, linked in (
        (ClusteredBy.BRICK, 12, 12),
        (ClusteredBy.EXPOSURES, 7, 7),
        (ClusteredBy.CELL, 6, 6),
    ):
        assert cautions(replace(tested, grouped=grouped(by, count, linked)), data) == ()
    (found,) = cautions(tested, {**data, "exposures": {"known": 12, "shared": 9}})
    assert "9 of 12 test bricks share an exposure with training bricks" in wording.notice(found)
    (found,) = cautions(replace(tested, grouped=grouped(ClusteredBy.BRICK, 12, 3)), data)
    assert "12 test bricks share exposures and make 3 group(s)" in wording.notice(found)


def test_exposures_may_not_be_known():
    assert unknown_exposures({"exposures": {"known": 1, "shared": 0}}) == ()
    (found,) = unknown_exposures({"exposures": {"known": 0, "shared": 0}})
    assert "no -ccds.fits" in wording.notice(found)


def test_reals_cut_from_the_release_are_no_news():
    """That is asked for in words, and ``create_training`` has warned of it."""
    data = {**DATA, "config": {"reals_from": "release"}, "roots": [{"injected": True}, {"injected": False}]}
    assert cautions(scored(network()), data) == ()


@pytest.mark.parametrize(
    ("learnt", "worth", "named"), [(4, True, 1), (2, False, 0), (5, True, 0), (0, False, 0)]
)
def test_most_networks_must_have_learnt(learnt, worth, named):
    """Of five; a few that did not are named, and with more of them it is no answer."""
    found = scored(*(network(f"run{i}/best.keras", learnt=i < learnt) for i in range(5)))
    assert found.learnt == worth
    said = [fact for fact in cautions(found, DATA) if fact.kind == Notice.NOT_LEARNT]
    assert [fact.values["models"] for fact in said] == [("run4/best.keras",)] * named


def test_who_else_evaluated_the_test_set():
    first = scored(network())
    openings = tuple(Opening(("run0/best.keras",), margin) for margin in (0.05, 0.02, 0.05))
    ledger = Ledger(("run0/best.keras", "x", "y"), openings=openings)
    others, margins = cautions(replace(first, ledger=ledger), DATA)
    assert (others.kind, others.values["count"]) == (Notice.OTHER_NETWORKS, 2)
    assert margins.kind == Notice.OTHER_MARGINS
    assert margins.values == {"evaluations": 3, "margins": (0.05, 0.02)}
    (missing,) = cautions(replace(first, ledger=None), DATA)
    assert missing.kind == Notice.NOT_LOGGED


def test_trials_of_tuning_are_named():
    first = scored(network())
    ledger = replace(first.ledger, tuned={"a": 30, "b": 12})
    (found,) = cautions(replace(first, ledger=ledger), DATA)
    assert (found.kind, found.values) == (Notice.TUNED, {"trials": 42})
    assert "42 trials were compared on the validation split" in wording.notice(found)


def test_coadds_that_were_written_differently():
    one = Writer("NO_DITHER", "NO_DITHER", "grz", "", "100x100", "DR9")
    other = replace(one, invvar="SUBTRACTIVE_DITHER_2")
    alike = {"real": [asdict(one)], "fake": [asdict(one)]}
    assert cautions(scored(network()), {**DATA, "writers": alike}) == ()
    (found,) = cautions(scored(network()), {**DATA, "writers": {**alike, "fake": [asdict(other)]}})
    assert found.kind == Notice.WRITERS
    assert "NO_DITHER against SUBTRACTIVE_DITHER_2" in wording.notice(found)


def test_bricks_that_were_left_out_and_runs_of_partial_fits():
    data = {"config": {}, "roots": [], "checksum": "c", "damaged_bricks": ["0001p000", "0004p000"]}
    partial = {"root": 0, "everything": False, "basis": "positions", "far": 3, "expected": 41.2345}
    scored = SimpleNamespace(models=(), ledger=Ledger(()), learnt=True, panel=None, grouped=None)
    found = {fact.kind: fact for fact in cautions(scored, {**data, "partial_fits": [partial]})}
    assert set(found) == {Notice.DAMAGED, Notice.PARTIAL_FITS}
    assert "2 brick(s)" in (words := wording.notice(found[Notice.DAMAGED]))
    assert "0001p000, 0004p000" in words
    assert "3 of their sources" in (words := wording.notice(found[Notice.PARTIAL_FITS]))
    assert "41.2 are expected" in words


def test_injections_that_were_drawn_into_released_coadds():
    drawn = {
        "root": 0,
        "model": "star",
        "noise": "poisson",
        "gain": None,
        "psf": {"moffat": 2, "psfex": 40},
        "software": {"sep": "1.4.1", "inject": "0.3"},
        "left_out": ["detection", "sky estimation"],
    }
    (fact,) = cautions(scored(network()), {**DATA, "drawn": [drawn]})
    assert fact.kind == Notice.DRAWN
    words = wording.notice(fact)
    for said in (
        "model star",
        "moffat in 2",
        "psfex in 40",
        "gain as exposures",
        "inject 0.3",
        "leaves out",
    ):
        assert said in words
    assert "detection, sky estimation" in words
    assert "gain 4" in wording.notice(Fact(fact.kind, {**drawn, "gain": 4.0}))


def test_what_was_not_run():
    controls = [
        Control("width", "D5", "g", Statistic.DISTRIBUTION, "", 0.03, obstacle=Obstacle.TOO_FEW),
        Control("width", "D5", "r", Statistic.DISTRIBUTION, "", 0.02, State.PASS),
    ]
    assert [fact.kind for fact in not_run(1, (), (), controls, StampSpec())] == [
        Notice.FEW_NETWORKS,
        Notice.NO_SENSITIVITY,
        Notice.ABLATIONS_LEFT,
        Notice.CONTROL,
    ]
    left = not_run(5, ("image only",), ("offset",), (), StampSpec())
    assert [fact.kind for fact in left] == [Notice.ABLATIONS_LEFT]
    assert "image only" not in left[0].values["names"]
    assert "A/A real" in left[0].values["names"]


@pytest.mark.parametrize(
    ("planted", "kinds"),
    [
        (("offset",), []),
        ((), [Notice.NOTHING_PLANTED]),
        (("offset", "ivar_dip"), [Notice.NO_CURVE]),
        (("size",), [Notice.NO_CURVE]),
    ],
)
def test_which_mocks_have_an_ideal_observer(planted, kinds):
    assert [fact.kind for fact in of_mock(planted, StampSpec(), "truth", checked=True)] == kinds
    assert [fact.kind for fact in of_mock(planted, StampSpec(), "truth", checked=False)] == [
        *kinds,
        Notice.IMAGES_ABSENT,
    ]
    images = StampSpec(planes=("image",))
    found = of_mock(planted, images, "truth", checked=True)
    assert [fact.kind for fact in found] == (kinds or [Notice.NO_NOISE])
    found = of_mock(planted, StampSpec(), "tractor", checked=True)
    assert [fact.kind for fact in found] == (kinds or [Notice.FITS_FOLLOW])


def test_every_notice_has_words():
    result = SimpleNamespace(name="A/A real", auc=Estimate(0.6, 0.55, 0.65))
    (alarm,) = alarms([result])
    values = {
        **alarm.values,
        "model": "run0",
        "trained_on": "d",
        "models": ("run0", "run1"),
        "trees": ("tractor_stamps",),
        "count": 2,
        "scored": "1,000",
        **{"shared": 3, "known": 12, "bricks": 12, "linked": 4},
        "total": "2,000",
        "evaluations": 3,
        "margins": (0.02, 0.05),
        "given": 1,
        "wanted": 5,
        "names": ("A/A real",),
        "far": 3,
        "expected": 41.2,
        "band": "g",
        "obstacle": Obstacle.TOO_FEW,
        "counts": (4, 300),
        "planted": ("ivar_dip",),
        "differences": {"invvar": (("NO_DITHER",), ("SUBTRACTIVE_DITHER_2",))},
        **{"noise": "poisson", "gain": 4.0, "psf": {"stars": 3}, "software": {"sep": "1.4.1"}},
        "left_out": ["detection"],
        "trials": 40,
    }
    for kind in Notice:
        words = wording.notice(Fact(kind, values))
        assert words.endswith(".")
        assert "{" not in words
    assert "0.02, 0.05" in wording.notice(Fact(Notice.OTHER_MARGINS, values))
    assert "dip of the inverse variance" in wording.notice(Fact(Notice.NO_CURVE, values))


def test_samples_of_the_test_set_are_said():
    assert sampled(2000, 2000, 2000) == ()
    of_panel, of_controls = sampled(1000, 1500, 2000)
    assert of_panel == Fact(Notice.SAMPLED, {"scored": "1,500", "total": "2,000"})
    assert of_controls == Fact(Notice.CONTROLS_SAMPLED, {"scored": "1,000", "total": "1,500"})
    assert sampled(1500, 1500, 2000) == (of_panel,)
    assert sampled(1000, 2000, 2000) == (
        Fact(Notice.CONTROLS_SAMPLED, {"scored": "1,000", "total": "2,000"}),
    )
