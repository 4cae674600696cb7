"""Notices of an evaluation: alarms, cautions and what was not run, as facts with a kind and values.

`obiwan.dplearn.report` puts them into words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from obiwan.dplearn.retraining.ablations import A_A, names
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.writers import Writer, differences
from obiwan.dplearn.twosample.ranking import GUESS

if TYPE_CHECKING:
    from obiwan.dplearn.controls.battery import Control
    from obiwan.dplearn.evaluation.records import Scored
    from obiwan.dplearn.referees.testlog import Ledger
    from obiwan.dplearn.retraining.ablations import AblationResult

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
    SHARED_BRICKS = "bricks in several splits"
    NOT_LOGGED = "evaluation not logged"
    OTHER_NETWORKS = "other networks evaluated"  #: count
    OTHER_MARGINS = "several margins"  #: evaluations, margins (the first one first)
    # What was not run.
    FEW_NETWORKS = "few networks"  #: given, wanted
    NO_SENSITIVITY = "no sensitivity test"
    ABLATIONS_LEFT = "ablations left out"  #: names
    CONTROL = "control not run"  #: name, band, obstacle, counts
    # The ideal observer of a mock survey.
    NOTHING_PLANTED = "nothing planted"
    NO_CURVE = "no ideal observer"  #: planted
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


def alarms(ablations: Sequence[AblationResult]) -> tuple[Fact, ...]:
    """Null tests that failed: random halves of one class that the network distinguishes."""
    return tuple(
        Fact(Notice.NULL_TEST, {"name": result.name, "auc": result.auc})
        for result in ablations
        if result.name in A_A and not result.auc.low <= GUESS <= result.auc.high
    )


def cautions(scored: Scored, data: Mapping[str, Any]) -> tuple[Fact, ...]:
    """Limits on the validity of the result.

    Parameters
    ----------
    scored : Scored
    data : mapping
        What the manifest says of the training set (`data_summary`).
    """
    found = [
        Fact(Notice.OTHER_DATA, {"model": model.name, "trained_on": model.trained_on})
        for model in scored.models
        if model.trained_on and model.trained_on != data["checksum"]
    ]
    failed = tuple(model.name for model in scored.models if not model.learnt)
    config = data["config"]
    released = any(root.get("injected") is False for root in data["roots"])
    if failed and scored.learnt:
        found.append(Fact(Notice.NOT_LEARNT, {"models": failed}))
    if any(model.augmented for model in scored.models):
        found.append(Fact(Notice.AUGMENTED))
    if released and config.get("reals_from") == "injected":
        found.append(Fact(Notice.CATALOGUES))
    writers = {name: [Writer(**one) for one in some] for name, some in data.get("writers", {}).items()}
    differ = differences(writers.get("real", ()), writers.get("fake", ()))
    if differ:
        found.append(Fact(Notice.WRITERS, {"differences": differ}))
    if config.get("split") == "object":
        found.append(Fact(Notice.SHARED_BRICKS))
    if scored.ledger is None:
        return (*found, Fact(Notice.NOT_LOGGED))
    return (*found, *_of_ledger(scored.ledger, {model.checksum for model in scored.models}))


def _of_ledger(ledger: Ledger, own: set[str]) -> list[Fact]:
    """Evaluations of the test set by other networks, and with other margins."""
    found = []
    others = sum(network not in own for network in ledger.networks)
    if others:
        found.append(Fact(Notice.OTHER_NETWORKS, {"count": others}))
    margins = tuple(dict.fromkeys(opening.margin for opening in ledger.openings))
    if len(margins) > 1:
        values = {"evaluations": len(ledger.openings), "margins": margins}
        found.append(Fact(Notice.OTHER_MARGINS, values))
    return found


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
        How many are tested.
    ablations : sequence of str
        Names of those that were run.
    planted : sequence
        Planted differences that were tried.
    controls : sequence of Control
    spec : StampSpec
        Of the training set: it says which ablations there are.
    """
    left = []
    if networks < NETWORKS:
        left.append(Fact(Notice.FEW_NETWORKS, {"given": networks, "wanted": NETWORKS}))
    if not planted:
        left.append(Fact(Notice.NO_SENSITIVITY))
    others = tuple(name for name in names(spec) if name not in ablations)
    if others:
        left.append(Fact(Notice.ABLATIONS_LEFT, {"names": others}))
    for one in controls:
        if one.obstacle is not None:
            values = {"name": one.name, "band": one.band, "obstacle": one.obstacle, "counts": one.counts}
            left.append(Fact(Notice.CONTROL, values))
    return tuple(left)


def of_mock(planted: Sequence[str], spec: StampSpec, *, checked: bool) -> tuple[Fact, ...]:
    """Notices on the ideal observer of a mock, and on whether the stamps are known to be the mock's.

    Parameters
    ----------
    planted : sequence of str
        Kinds of difference in the mock survey.  There is a curve for an offset by itself: for others the
        scatter of the population would have to be known.
    spec : StampSpec
        Of the training set: without inverse variances the noise of a pixel is not known.
    checked : bool
        Whether a stamp was compared with the images of the survey.
    """
    found = [] if checked else [Fact(Notice.IMAGES_ABSENT)]
    if not planted:
        found.insert(0, Fact(Notice.NOTHING_PLANTED))
    elif tuple(planted) != ("offset",):
        found.insert(0, Fact(Notice.NO_CURVE, {"planted": tuple(planted)}))
    elif not spec.has_ivar:
        found.insert(0, Fact(Notice.NO_NOISE))
    return tuple(found)
