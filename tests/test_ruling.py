"""The ruling: each kind from facts, what it says is missing, and what holding quantities equal explains."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import expit, logit

from obiwan.dplearn.controls.battery import judge_controls
from obiwan.dplearn.controls.metadata import MetadataResult
from obiwan.dplearn.controls.records import AUC, VALIDITY, Control, Obstacle, State, Statistic
from obiwan.dplearn.evaluation.analysis import Baseline
from obiwan.dplearn.evaluation.decision import ruling_of
from obiwan.dplearn.evaluation.ensemble import ModelInfo, Scored
from obiwan.dplearn.evaluation.equal import (
    MOST_HELD,
    PLACE,
    QUANTITIES,
    Evidence,
    fit_numbers,
    held_equal,
    related_to,
)
from obiwan.dplearn.evaluation.ruling import (
    CONSEQUENCES,
    Equal,
    Levels,
    Need,
    Outcome,
    Quantities,
    Ruling,
    RulingKind,
    failing_controls,
    rule,
)
from obiwan.dplearn.retraining.detectable import AMPLITUDES, kinds_of
from obiwan.dplearn.retraining.margins import missing_kinds
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.examples import blank_examples
from obiwan.dplearn.twosample.ranking import Estimate, auc
from obiwan.dplearn.twosample.verdict import Kind, Reason, Verdict, decide, effect_of, kind_of

GRZ = StampSpec()


def verdict(p: float = 0.5, *, within: bool = False, bricks: int = 20, learnt: bool = True) -> Verdict:
    """A panel's verdict with a p-value, in so many bricks."""
    auc = Estimate(0.6, 0.55, 0.65) if p < 0.05 else Estimate(0.5, 0.49, 0.51)
    holds = {
        Reason.DIFFERS: p < 0.05,
        Reason.WITHIN_MARGIN: within,
        Reason.FEW_BRICKS: bricks < 5,
        Reason.POSITIVE_CONTROL_FOUND: learnt,
        Reason.TRAINING_FAILED: not learnt,
    }
    reasons = tuple(reason for reason, holding in holds.items() if holding)
    rng = np.random.default_rng(1)
    found = decide(np.arange(400) % 2, rng.random(400), np.arange(400) // 2 % 20, learnt=True, positive=None)
    numbers = replace(found.numbers, auc=auc, effect=effect_of(auc), p=p, bricks=bricks)
    return Verdict(kind_of(reasons), reasons, numbers)


def control(state: str, hazard: str = "D5", name: str = "width", effect: float = 0.01, **more) -> Control:
    bounded = state == "pass"
    given = {"statistic": Statistic.DISTRIBUTION, "rests_on_bricks": True, "bounded": bounded, **more}
    return Control(name, hazard, "r", state=State(state), effect=effect, **given)


PASS = (control("pass"), control("pass", "D9", "run"))
FAILS = (control("fail", effect=0.1), control("pass", "D17", "magnitude"))
OPEN = (control("open"),)
GONE = Equal((("width", "r"),), Outcome.GONE, Estimate(0.51, 0.47, 0.55), 0.9)
STAYS = replace(GONE, outcome=Outcome.STAYS, auc=Estimate(0.6, 0.56, 0.64))
ABOVE = Quantities(Estimate(0.6, 0.55, 0.65), 1e-4)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (RulingKind.EXPLAINED, {"verdict": verdict(1e-4), "controls": FAILS, "equal": GONE}),
        (
            RulingKind.EXPLAINED,
            {"verdict": verdict(1e-4), "controls": FAILS, "equal": replace(GONE, outcome=Outcome.NO_OVERLAP)},
        ),
        (RulingKind.MORE, {"verdict": verdict(1e-4), "controls": FAILS, "equal": STAYS}),
        (RulingKind.MORE, {"verdict": verdict(1e-4), "controls": PASS, "quantities": ABOVE, "equal": STAYS}),
        (RulingKind.UNEXPLAINED, {"verdict": verdict(1e-4), "controls": PASS}),
        (RulingKind.UNSEEN, {"verdict": verdict(), "controls": FAILS}),
        (RulingKind.UNSEEN, {"verdict": verdict(within=True), "controls": FAILS}),
        (RulingKind.UNSEEN, {"verdict": verdict(), "controls": PASS, "quantities": ABOVE}),
        (RulingKind.UNSEEN, {"verdict": verdict(learnt=False), "controls": FAILS}),
        (RulingKind.EQUIVALENT, {"verdict": verdict(within=True), "controls": PASS}),
        (RulingKind.EQUIVALENT, {"verdict": verdict(0.01, within=True), "controls": PASS}),
        (RulingKind.INCONCLUSIVE, {"verdict": verdict(within=True), "controls": OPEN}),
        (RulingKind.INCONCLUSIVE, {"verdict": verdict(), "controls": PASS}),
        (RulingKind.INCONCLUSIVE, {"verdict": verdict(0.045), "controls": PASS}),
        (RulingKind.INCONCLUSIVE, {"verdict": verdict(within=True), "controls": PASS, "missing": ("psf",)}),
        (RulingKind.INCONCLUSIVE, {"verdict": verdict(within=True, bricks=4), "controls": PASS}),
        (RulingKind.NOT_LEARNT, {"verdict": verdict(learnt=False), "controls": OPEN}),
        (
            RulingKind.INVALID,
            {"verdict": verdict(1e-4), "controls": (*FAILS, control("fail", "D9", "run")), "equal": GONE},
        ),
    ],
)
def test_each_kind_follows_from_its_facts(kind: RulingKind, given: dict):
    assert rule(**given).kind == kind


def test_what_would_decide_is_named():
    found = rule(verdict(bricks=3), OPEN, missing=("psf", "size"))
    assert found.needs == (Need.EXAMPLES, Need.BRICKS, Need.PLANTED, Need.CONTROLS)
    assert found.missing == ("psf", "size")
    assert found.unbounded == OPEN
    assert rule(verdict(within=True), PASS).needs == ()


def test_few_bricks_are_the_scope():
    """Of the panel below five; of controls that rest on examples."""
    here = (replace(FAILS[0], rests_on_bricks=False), FAILS[1])
    assert rule(verdict(1e-4, bricks=4), PASS).in_these_bricks
    assert not rule(verdict(1e-4, bricks=5), PASS).in_these_bricks
    assert rule(verdict(bricks=20), here).in_these_bricks
    assert not rule(verdict(bricks=4), FAILS).in_these_bricks
    there = (replace(PASS[0], rests_on_bricks=False), PASS[1])
    assert rule(verdict(within=True), there).in_these_bricks
    assert not rule(verdict(within=True), PASS).in_these_bricks


def test_a_warning_is_no_failure():
    warns = control("warn", effect=0.01)
    assert rule(verdict(), (warns,)).kind == RulingKind.INCONCLUSIVE
    assert rule(verdict(within=True), (warns,)).unbounded == (warns,)
    bounded = replace(warns, bounded=True)
    assert rule(verdict(within=True), (bounded,)).kind == RulingKind.EQUIVALENT


def test_controls_that_cannot_fail_or_were_not_run_leave_nothing_open():
    for one in (control("open", gravest=State.WARN), control("not run", obstacle=Obstacle.NO_IVAR)):
        found = rule(verdict(within=True), (one,))
        assert (found.kind, found.unbounded) == (RulingKind.EQUIVALENT, ())


def test_the_classifier_of_quantities_has_a_level_of_its_own():
    level = Levels().baseline
    assert rule(verdict(), PASS, replace(ABOVE, p=0.9 * level)).kind == RulingKind.UNSEEN
    found = rule(verdict(), PASS, replace(ABOVE, p=1.1 * level))
    assert (found.kind, found.quantities_fail) == (RulingKind.INCONCLUSIVE, False)


def test_a_ruling_carries_only_what_it_rests_on():
    """A difference needs nothing to be decided; only what was held equal to explain it is told."""
    invalid = (*FAILS, control("fail", "D9", "run"))
    assert rule(verdict(), FAILS).needs == ()
    assert rule(verdict(1e-4), PASS).needs != ()
    assert rule(verdict(1e-4), FAILS, equal=GONE).equal == GONE
    assert rule(verdict(1e-4), invalid, equal=GONE).equal is None


def test_who_learnt_nothing_backs_no_equivalence():
    assert rule(verdict(within=True, learnt=False), PASS).kind == RulingKind.NOT_LEARNT


def test_what_a_difference_of_the_galaxies_moves_is_no_fault_of_the_set():
    for name, cause in ((name, cause) for name, causes in CONSEQUENCES.items() for cause in sorted(causes)):
        hazard = "D3" if name == "centroid scatter" else "D9"
        moved, reason = control("fail", hazard, name), control("fail", cause, "its cause", effect=0.2)
        assert hazard in VALIDITY
        assert cause not in VALIDITY
        assert rule(verdict(), (moved,)).kind == RulingKind.INVALID
        assert rule(verdict(), (moved, reason)).kind == RulingKind.UNSEEN
        assert rule(verdict(), (moved, reason)).failing == (reason,)


def test_a_cause_in_another_band_is_none():
    moved, reason = control("fail", "D9", "background"), control("fail", "D5", "width", effect=0.2)
    assert rule(verdict(), (moved, reason)).kind == RulingKind.UNSEEN
    assert rule(verdict(), (moved, replace(reason, band="g"))).kind == RulingKind.INVALID


def test_easy_differences_back_no_equivalence():
    backed = verdict(within=True)
    easy = replace(backed, reasons=(Reason.POSITIVE_CONTROL_EASY, Reason.WITHIN_MARGIN))
    assert rule(backed, PASS).kind == RulingKind.EQUIVALENT
    assert rule(easy, PASS).needs == (Need.PLANTED,)


def test_what_was_not_held_equal_explains_nothing():
    found = rule(verdict(1e-4), (control("fail", "D2", "fit minus truth, x", 0.5),))
    assert (found.kind, found.equal) == (RulingKind.MORE, None)


def test_bricks_are_those_of_what_decides():
    fails = replace(FAILS[0], bricks=7, rests_on_bricks=False)
    found = rule(verdict(bricks=3), (fails,))
    assert (found.kind, found.in_these_bricks, found.bricks) == (RulingKind.UNSEEN, True, 7)


def test_failing_controls_come_by_size_and_quantity():
    named = [("a", "D5", 0.03), ("b", "D17", 0.09), ("a", "D5", 0.1), ("c", "D17", 0.05)]
    found = failing_controls([control("fail", h, n, -size) for n, h, size in named] + [*OPEN], validity=False)
    assert [(one.name, one.effect) for one in found] == [
        ("a", -0.03),
        ("a", -0.1),
        ("b", -0.09),
        ("c", -0.05),
    ]
    assert found[0].excess == pytest.approx(0.03 / AUC)


def test_levels_are_one_family():
    assert Levels().family == pytest.approx(0.05)
    assert Levels().panel > 10 * Levels().baseline


def test_the_fixed_set_of_planted_kinds_counts():
    def found(*kinds: str) -> list:
        return [type("Found", (), {"kind": kind, "detected": kind != "psf"}) for kind in kinds]

    assert missing_kinds([], GRZ) == kinds_of(GRZ) == tuple(AMPLITUDES)
    assert missing_kinds(found(*AMPLITUDES), GRZ) == ("psf",)
    alone = StampSpec(("r",), planes=("image",))
    assert set(missing_kinds([], alone)) == set(AMPLITUDES) - {"band_offset", "colour", "ivar_dip"}


# --- holding equal


def scene(
    rng: np.random.Generator, *, seen: float, other: float, n: int = 3000
) -> tuple[Scored, Evidence, Control]:
    """Galaxies of which a width differs by half its scatter; a score that sees it, and what else differs."""
    label = np.arange(n) % 2
    width, rest = rng.normal(size=n) + 0.5 * label, rng.normal(size=n) + other * label
    score = 1 / (1 + np.exp(-(seen * width + rest)))
    rows = blank_examples(n, GRZ)
    rows["label"] = label
    rows["brick"] = [f"{i:04d}p000".encode() for i in np.arange(n) // 2 % 30]
    asked = ((Control("width", "D5", "r"), width),)
    bricks = rows["brick"].astype(str)
    controls = judge_controls(asked, label, bricks)
    model = ModelInfo("scores", "0", "", learnt=True)
    scored = Scored(rows, score[None], label, score, (model,))
    found = Evidence(controls, asked, rows, {}, np.full(n, 10.0), bricks, np.arange(n))
    return scored, found, controls[0]


@pytest.mark.parametrize(("other", "outcome"), [(0.0, Outcome.GONE), (0.5, Outcome.STAYS)])
def test_what_fails_explains_what_the_score_sees_of_it(other: float, outcome: Outcome, rng):
    scored, evidence, failing = scene(rng, seen=1.0, other=other)
    assert failing.state == State.FAIL
    found = held_equal(scored, [failing], evidence)
    assert found.outcome == outcome
    assert found.titles == (("width", "r"),)
    assert found.overlap > 0.9


def test_what_the_fit_measures_better_is_held_equal_too(rng):
    """The control sees a width with an error, the score without: what is left is the error."""
    scored, evidence, failing = scene(rng, seen=3.0, other=0.0)
    width = evidence.asked[0][1]
    blurred = replace(evidence, asked=((failing, width + 3 * rng.normal(size=len(width))),))
    assert held_equal(scored, [failing], blurred).outcome == Outcome.STAYS
    known = replace(blurred, fits={"u_ln_size": width, "noise_all": scored.labels})
    found = held_equal(scored, [failing], known)
    assert found.outcome == Outcome.GONE
    assert found.alone == pytest.approx(0.64, abs=0.03)


def test_nothing_is_held_equal_where_the_classes_share_no_values(rng):
    scored, evidence, failing = scene(rng, seen=1.0, other=0.0)
    apart = evidence.asked[0][1] + 9 * scored.labels
    found = held_equal(scored, [failing], replace(evidence, asked=((failing, apart),)))
    assert (found.outcome, found.auc) == (Outcome.NO_OVERLAP, None)
    assert found.overlap < 0.1


def test_nothing_is_held_equal_where_one_brick_has_all_counterparts(rng):
    """Strata hold both classes, and injected galaxies of one brick: no error can be estimated."""
    scored, evidence, failing = scene(rng, seen=1.0, other=0.0, n=3600)  # a stratum ends where they do
    elsewhere = (scored.labels == 1) & (scored.bricks > 0)
    values = rng.normal(size=len(elsewhere)) + 9 * elsewhere
    found = held_equal(scored, [failing], replace(evidence, asked=((failing, values),)))
    assert (found.outcome, found.auc) == (Outcome.NO_OVERLAP, None)
    assert found.overlap > 0.2


def test_the_classifier_of_quantities_is_held_equal_by_its_score(rng):
    scored, evidence, _ = scene(rng, seen=1.0, other=0.0)
    found = held_equal(scored, [], evidence, evidence.asked[0][1])
    assert found.titles == (QUANTITIES,)
    assert found.outcome == Outcome.GONE


def test_numbers_that_are_not_known_leave_nobody_out(rng):
    scored, evidence, failing = scene(rng, seen=1.0, other=0.5)
    holes = evidence.asked[0][1].copy()
    holes[::7] = np.nan
    found = held_equal(scored, [failing], replace(evidence, asked=((failing, holes),)))
    assert found.overlap > 0.9


def test_an_error_of_what_is_held_equal_leaves_traces_and_no_difference(rng):
    """The score sees the width itself: within strata of a blurred one it differs, and sees no more."""
    scored, evidence, failing = scene(rng, seen=3.0, other=0.0)
    width = evidence.asked[0][1]
    blurred = width + 0.6 * rng.normal(size=len(width))
    found = held_equal(scored, [failing], replace(evidence, asked=((failing, blurred),)))
    assert found.auc.low > 0.5
    assert found.outcome == Outcome.GONE


def test_a_score_below_a_half_within_strata_differs(rng):
    """Whatever the failing quantity makes of it: such a score knows of something else."""
    scored, evidence, failing = scene(rng, seen=1.0, other=-0.5)
    noisy = expit(logit(scored.singles) / 2 + rng.normal(size=scored.singles.shape))
    found = held_equal(replace(scored, singles=noisy), [failing], evidence)
    assert found.auc.high < 0.5
    assert found.outcome == Outcome.STAYS


def test_signal_to_noise_is_held_equal_too(rng):
    scored, evidence, failing = scene(rng, seen=1.0, other=0.5)
    rest = logit(scored.scores) - evidence.asked[0][1]
    assert held_equal(scored, [failing], replace(evidence, signal=rest)).outcome == Outcome.GONE


def test_the_largest_effects_are_held_equal(rng):
    scored, evidence, failing = scene(rng, seen=1.0, other=0.0)
    several = [replace(failing, name=f"width {k}") for k in range(MOST_HELD + 2)]
    asked = tuple((one, evidence.asked[0][1]) for one in several)
    found = held_equal(scored, several, replace(evidence, asked=asked))
    assert [name for name, _ in found.titles] == [one.name for one in several[:MOST_HELD]]


def test_the_value_of_a_label_that_differs_is_held_equal(rng):
    scored, evidence, _ = scene(rng, seen=0.0, other=0.0)
    kinds = np.array([b"PSF", b"EXP", b"DEV"])[rng.integers(0, 3, len(scored.labels))]
    kinds[(scored.labels == 1) & (rng.random(len(kinds)) < 0.4)] = b"EXP"
    asked = Control("fitted type", "D10", statistic=Statistic.COMPOSITION, component="EXP")
    seen = replace(scored, singles=expit(logit(scored.singles) + 2 * (kinds == b"EXP")))
    found = held_equal(seen, [asked], replace(evidence, asked=((asked, kinds.astype("S4")),)))
    assert auc(seen.labels, seen.scores) > 0.58
    assert found.auc.value == pytest.approx(0.5, abs=0.03)
    assert found.alone > 0.58


def test_what_is_held_equal_is_what_real_galaxies_have(rng):
    """A difference from the truth fails of injections alone; a score of quantities stands for itself."""
    scored, evidence, failing = scene(rng, seen=1.0, other=0.0)
    off = control("fail", "D2", "fit minus truth, x", 0.5, statistic=Statistic.RECOVERY)
    width, truth = evidence.asked[0][1], np.where(scored.labels == 1, 0.5, np.nan)
    evidence = replace(evidence, asked=((failing, width), (off, truth)))
    result = MetadataResult(("width",), width, ABOVE.auc, {}, "bricks", 5, ABOVE.p)
    baseline = Baseline(result, ABOVE.auc, len(width), width, ())

    def held(controls: tuple, quantities: Baseline | None, **fits: np.ndarray) -> tuple:
        noise = {"light_dx": rng.normal(size=len(width))}
        given = replace(evidence, controls=controls, fits=noise | fits)
        found = ruling_of(scored, verdict(1e-4), given, quantities, ())
        return found.kind, found.equal.titles

    assert held((off, failing), None) == (RulingKind.EXPLAINED, (("width", "r"),))
    assert held((off,), baseline) == (RulingKind.EXPLAINED, (QUANTITIES,))
    assert held((failing,), baseline) == (RulingKind.EXPLAINED, (("width", "r"), QUANTITIES))
    # An offset that fits follow is in no stamp: it explains what the panel sees if the fits show that place.
    assert held((off,), None) == (RulingKind.MORE, (PLACE,))
    assert held((off,), None, u_ln_size=width) == (RulingKind.MORE, (PLACE,))
    assert held((off,), None, u_x=width) == (RulingKind.EXPLAINED, (PLACE,))


def test_a_ruling_says_what_it_rests_on():
    found = rule(verdict(1e-4), FAILS, equal=STAYS)
    assert isinstance(found, Ruling)
    assert (found.differs, found.panel_p, found.equal) == (True, 1e-4, STAYS)
    assert found.failing == FAILS[:1]
    assert found.kind.differ
    assert rule(verdict(), PASS).equal is None
    assert verdict(1e-4).kind == Kind.DISTINGUISHABLE


def test_what_is_held_equal_beside_a_control_is_of_the_same_thing():
    """A failing magnitude holds fluxes equal and no shapes; a failing radius the other way round."""
    flux, shape = (related_to(Control(name, "D17")) for name in ("magnitude", "half-light radius"))
    assert flux == related_to(Control("pixel flux", "D17")) == related_to(Control("signal to noise", "D10"))
    assert not set(flux) & set(shape)
    assert set(related_to(Control("ellipticity 1", "D17"))) < set(shape)
    assert set(shape) == set(related_to(Control("width", "D5")))
    assert related_to(Control("position in the coadd, x", "D12")) == ()


def test_fits_are_those_of_the_example_though_all_splits_number_shards_from_1():
    samples, parts = {}, []
    for split, first in (("train", 100.0), ("val", 200.0), ("test", 300.0)):
        own = blank_examples(6, StampSpec())
        own["split"], own["shard"], own["row"] = split, np.repeat([1, 2], 3), np.tile(np.arange(3), 2)
        values = first + np.arange(6)
        fits = SimpleNamespace(
            names=("dx",),
            values=None,
            information=None,
            gradient=None,
            statistic_names=("chi2",),
            column=lambda _, values=values: -values,
        )
        posterior = SimpleNamespace(u=values[:, None])
        population = SimpleNamespace(posterior=lambda *_, found=posterior: found)
        measured = SimpleNamespace(fits=fits, population=population)
        stamp_set = SimpleNamespace(rows=lambda _, own=own: own)
        samples[split] = SimpleNamespace(measured=measured, stamp_set=stamp_set)
        parts.append((own, values))
    (train, _), (val, of_val), (test, of_test) = parts
    found = fit_numbers(samples, np.concatenate([test[3:], val, train[:0]]))
    np.testing.assert_array_equal(found["u_dx"], [*of_test[3:], *of_val])
    np.testing.assert_array_equal(found["chi2"], -found["u_dx"])
    found = fit_numbers({"test": samples["test"]}, np.concatenate([test, train]))
    np.testing.assert_array_equal(found["u_dx"], [*of_test, *[np.nan] * 6])
