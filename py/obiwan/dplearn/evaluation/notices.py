"""Notices of an evaluation: alarms, cautions and what was not run, as facts with a kind and values.

`obiwan.dplearn.report` puts them into words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from obiwan.dplearn.controls.records import Control
from obiwan.dplearn.evaluation.ensemble import ModelInfo, Scored
from obiwan.dplearn.referees.testlog import Ledger
from obiwan.dplearn.retraining.ablations import A_A, AblationResult, names
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.writers import Writer, differences
from obiwan.dplearn.trainingset.clusters import ClusteredBy
from obiwan.dplearn.twosample.ranking import GUESS

NAMED = 5  #: bricks that are named, of many
NETWORKS = 5  #: of different seeds, whose spread shows how much one training differs from another


class Notice(StrEnum):
    """Kind of notice, with the values that it has."""

    # Alarms.
    NULL_TEST = "null test failed"  #: name, auc
    # Cautions.
    OTHER_DATA = "trained on other data"  #: model, trained_on
    NOT_LEARNT = "some networks not learnt"  #: models
    AUGMENTED = "augmented"
    CATALOGUES = "catalogues of two pipelines"
    WRITERS = "coadds written differently"  #: differences (of `survey.writers.differences`)
    TWO_INJECTORS = "two injectors"  #: trees
    PARTIAL_FITS = "runs of partial fits"  #: far, expected (of `planning.blobs.Fitting`)
    #: model, psf, noise, gain, software, left_out (of `planning.injected.drawn_by`)
    DRAWN = "drawn into released coadds"
    DAMAGED = "damaged bricks left out"  #: count, names
    SHARED_BRICKS = "bricks in several splits"
    SHARED_EXPOSURES = "exposures in test and training"  #: shared, known (test bricks)
    LINKED_BRICKS = "bricks linked by exposures"  #: bricks, linked
    NOT_LOGGED = "evaluation not logged"
    OTHER_NETWORKS = "other networks evaluated"  #: count
    TUNED = "hyperparameters tuned"  #: trials
    OTHER_MARGINS = "several margins"  #: evaluations, margins (the first one first)
    # What was not run.
    FEW_NETWORKS = "few networks"  #: given, wanted
    NO_SENSITIVITY = "no sensitivity test"
    SAMPLED = "a sample of the test set scored"  #: scored, total
    CONTROLS_SAMPLED = "controls of a sample of the test set"  #: scored, total
    UNKNOWN_EXPOSURES = "exposures not known"
    ABLATIONS_LEFT = "ablations left out"  #: names
    CONTROL = "control not run"  #: name, band, obstacle, counts
    # The ideal observer of a mock survey.
    NOTHING_PLANTED = "nothing planted"
    NO_CURVE = "no ideal observer"  #: planted
    FITS_FOLLOW = "stamps are centred on fits, which follow an offset common to all bands"
    NO_NOISE = "no ideal observer without inverse variances"
    IMAGES_ABSENT = "images of the mock absent"


@dataclass(frozen=True)
class Fact:
    """One notice.

    Attributes
    ----------
    kind : Notice
    values : mapping
        By the names that `Notice` lists for the kind.
    """

    kind: Notice
    values: Mapping[str, Any] = field(default_factory=dict)


def _facts(*told: tuple[object, Notice, Mapping[str, Any]]) -> tuple[Fact, ...]:
    """Notices whose condition holds, from condition, kind and values of each."""
    return tuple(Fact(kind, values) for holds, kind, values in told if holds)


def networks_among(scored: Scored, networks: Scored | None) -> tuple[ModelInfo, ...]:
    """The trained networks of an evaluation: those beside a panel, or those whose mean is tested."""
    return () if scored.panel is not None and networks is None else (networks or scored).models


def own_checksums(scored: Scored, networks: Scored | None) -> set[str]:
    """Checksums under which an evaluation stands in the test-set log: its networks', and its panel's."""
    models = {model.checksum for model in networks_among(scored, networks)}
    return models | ({scored.checksum} if scored.panel is not None else set())


def alarms(ablations: Sequence[AblationResult]) -> tuple[Fact, ...]:
    """Null tests that failed: random halves of one class that the network distinguishes."""
    return tuple(
        Fact(Notice.NULL_TEST, {"name": result.name, "auc": result.auc})
        for result in ablations
        if result.name in A_A and not result.auc.low <= GUESS <= result.auc.high
    )


def cautions(scored: Scored, data: Mapping[str, Any], networks: Scored | None = None) -> tuple[Fact, ...]:
    """Limits on the validity of the result.

    Parameters
    ----------
    scored : Scored
        What is tested.
    data : mapping
        What the manifest says of the training set (`data_summary`).
    networks : Scored, optional
        The networks, where a panel is tested.
    """
    config, ledger = data["config"], scored.ledger or Ledger(())
    models = networks_among(scored, networks)
    failed = tuple(model.name for model in models if not model.learnt)
    released = any(root.get("injected") is False for root in data["roots"])
    stand_in = tuple(str(root["name"]) for root in data["roots"] if root.get("as_real"))
    writers = {name: [Writer(**one) for one in some] for name, some in data.get("writers", {}).items()}
    differ = differences(writers.get("real", ()), writers.get("fake", ()))
    partial = [
        {"far": one["far"], "expected": round(one["expected"], 1)} for one in data.get("partial_fits", ())
    ]
    damaged = tuple(data.get("damaged_bricks", ()))
    others = len({*ledger.networks} - own_checksums(scored, networks))
    margins = tuple(dict.fromkeys(opening.margin for opening in ledger.openings))
    evaluations = {"evaluations": len(ledger.openings), "margins": margins}
    exposures, grouped = data.get("exposures") or {}, scored.grouped
    linked = grouped is not None and grouped.by is ClusteredBy.BRICK and grouped.linked < grouped.bricks
    links = {"bricks": grouped.bricks, "linked": grouped.linked} if grouped is not None else {}
    trained = [{"model": model.name, "trained_on": model.trained_on} for model in models]
    return _facts(
        *((one["trained_on"] not in ("", data["checksum"]), Notice.OTHER_DATA, one) for one in trained),
        (failed and (networks or scored).learnt, Notice.NOT_LEARNT, {"models": failed}),
        (any(model.augmented for model in models), Notice.AUGMENTED, {}),
        (stand_in, Notice.TWO_INJECTORS, {"trees": stand_in}),
        (released and not stand_in and config.get("reals_from") == "injected", Notice.CATALOGUES, {}),
        (differ, Notice.WRITERS, {"differences": differ}),
        *((True, Notice.PARTIAL_FITS, one) for one in partial),
        *((True, Notice.DRAWN, one) for one in data.get("drawn", ())),
        (damaged, Notice.DAMAGED, {"count": len(damaged), "names": damaged[:NAMED]}),
        (config.get("split") == "object", Notice.SHARED_BRICKS, {}),
        (exposures.get("shared"), Notice.SHARED_EXPOSURES, exposures),
        (linked, Notice.LINKED_BRICKS, links),
        (scored.ledger is None, Notice.NOT_LOGGED, {}),
        (others, Notice.OTHER_NETWORKS, {"count": others}),
        (ledger.tuned, Notice.TUNED, {"trials": sum(ledger.tuned.values())}),
        (len(margins) > 1, Notice.OTHER_MARGINS, evaluations),
    )


def sampled(controls: int, scored: int, total: int) -> tuple[Fact, ...]:
    """Notices that not all test examples are scored, and that controls rest on fewer than are."""
    some, of, all_ = (f"{number:,}" for number in (controls, scored, total))
    return _facts(
        (scored < total, Notice.SAMPLED, {"scored": of, "total": all_}),
        (controls < scored, Notice.CONTROLS_SAMPLED, {"scored": some, "total": of}),
    )


def unknown_exposures(data: Mapping[str, Any]) -> tuple[Fact, ...]:
    """Notice that no file says which bricks share exposures."""
    return _facts((not data["exposures"]["known"], Notice.UNKNOWN_EXPOSURES, {}))


def not_run(
    networks: int,
    ablations: Sequence[str],
    planted: Sequence[Any],
    controls: Sequence[Control],
    spec: StampSpec,
) -> tuple[Fact, ...]:
    """Tests that could have been run and were not.

    Parameters
    ----------
    networks : int
        How many there are.
    ablations : sequence of str
        Names of those that were run.
    planted : sequence
        Planted differences that were tried.
    controls : sequence of Control
    spec : StampSpec
        Of the training set: it says which ablations there are.
    """
    others = tuple(name for name in names(spec) if name not in ablations)
    return (
        *_facts(
            (networks < NETWORKS, Notice.FEW_NETWORKS, {"given": networks, "wanted": NETWORKS}),
            (not planted, Notice.NO_SENSITIVITY, {}),
            (others, Notice.ABLATIONS_LEFT, {"names": others}),
        ),
        *(
            Fact(
                Notice.CONTROL, {name: getattr(one, name) for name in ("name", "band", "obstacle", "counts")}
            )
            for one in controls
            if one.obstacle is not None
        ),
    )


def of_mock(planted: Sequence[str], spec: StampSpec, centres: str, *, checked: bool) -> tuple[Fact, ...]:
    """Notices on the ideal observer of a mock, and on whether the stamps are known to be the mock's.

    Parameters
    ----------
    planted : sequence of str
        Kinds of difference in the mock survey.  There is a curve for an offset by itself: for others the
        scatter of the population would have to be known.
    spec : StampSpec
        Of the training set: without inverse variances the noise of a pixel is not known.
    centres : str
        Of the stamps of injections: ``truth`` or ``tractor``.
    checked : bool
        Whether a stamp was compared with the images of the survey.
    """
    planted = tuple(planted)
    return _facts(
        (not planted, Notice.NOTHING_PLANTED, {}),
        (planted not in ((), ("offset",)), Notice.NO_CURVE, {"planted": planted}),
        (planted == ("offset",) and centres != "truth", Notice.FITS_FOLLOW, {}),
        (planted == ("offset",) and centres == "truth" and not spec.has_ivar, Notice.NO_NOISE, {}),
        (not checked, Notice.IMAGES_ABSENT, {}),
    )
