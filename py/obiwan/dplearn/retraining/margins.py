"""Margins: what planted differences say of a margin in AUC, and which are missing for equivalence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from obiwan.dplearn.retraining.detectable import Detection, kinds_of
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.differences import Difference
from obiwan.dplearn.twosample.ranking import GUESS
from obiwan.dplearn.twosample.verdict import LEAST_MARGIN


def margin_of(found: Sequence[Detection], declared: Sequence[Difference]) -> float:
    """Margin in AUC that excludes every declared amplitude: that of the one which is seen least.

    Parameters
    ----------
    found : sequence of Detection
        Of planted differences; those that are declared are among them.
    declared : sequence of Difference

    Returns
    -------
    float
        Distance from 0.5, from `LEAST_MARGIN` (which also stands for what was not found) to 0.49.  It is that
        of the lower ends of the intervals, so that the error of the curve is allowed for.
    """
    known = {one.kind: one for one in found}
    aucs = [known[one.kind].auc_at(one.amplitude).low if one.kind in known else GUESS for one in declared]
    return min(max(min(aucs) - GUESS, LEAST_MARGIN), 0.49)


def missing_kinds(tried: Sequence[Any], spec: StampSpec) -> tuple[str, ...]:
    """Kinds that such stamps can have and that were not planted, or not detected.

    Parameters
    ----------
    tried : sequence
        Results with a ``kind`` and whether it was ``detected``.
    spec : StampSpec
    """
    detected = {one.kind for one in tried if one.detected}
    return tuple(kind for kind in kinds_of(spec) if kind not in detected)
