"""Made-up plans of bricks, and what the package makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import gettempdir

import numpy as np

from obiwan.dplearn.planning.assembly import assemble
from obiwan.dplearn.planning.bricks import BrickPlan
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.planning.cutflow import CutFlow
from obiwan.dplearn.planning.plan import Plan
from obiwan.dplearn.planning.store import Eligible, RowStore
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.trainingset.examples import blank_examples

SPEC = StampSpec()


def plan_of(name: str, label: Sequence[int] | np.ndarray, ra: float, dec: np.ndarray) -> BrickPlan:
    """A brick with examples of these labels, at one right ascension."""
    rows = blank_examples(len(label), SPEC)
    rows["brick"], rows["run"], rows["id"] = name, "rs0", np.arange(len(label))
    rows["label"], rows["ra"], rows["dec"] = label, ra, dec
    flows = {name: {"rows": int((rows["label"] == value).sum())} for name, value in SPEC.label_of.items()}
    return BrickPlan(name, rows, flows, ())


def eligible_of(plans: Sequence[BrickPlan]) -> Eligible:
    """All their examples; they are put into the file in an order that is not that of the bricks."""
    with RowStore(Path(gettempdir()), SPEC) as store:
        for plan in reversed(plans):
            store.append(plan)
        return store.eligible()


def assembled(plans: Sequence[BrickPlan], **options: object) -> tuple[Plan, dict[str, CutFlow]]:
    """The final list and the cut flows of some bricks."""
    planned = assemble(eligible_of(plans), TrainingConfig(select="none", **options))
    return planned, planned.flows


def all_rows(planned: Plan) -> np.ndarray:
    """Every example of a training set."""
    return np.concatenate(list(planned))
