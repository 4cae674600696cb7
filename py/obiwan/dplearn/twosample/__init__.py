"""Two-sample test: how well scores separate two samples, and what follows from it.

Labels are 0 (real) and 1 (fake); a score is the higher the more an example looks fake.
`doc/explanation/two-sample-test.rst` says what each number means.

Modules in order: `ranking` (AUC, also within strata, its variance), `resampling` (permutations) -> `summary`
(accuracy, intervals, power) -> `calibration` (probabilities, divergences), `verdict` (kind, reasons,
numbers).  What most callers need can be imported from here.
"""

from __future__ import annotations

from obiwan.dplearn.twosample.ranking import (
    GUESS,
    Estimate,
    Measured,
    auc,
    auc_interval,
    auc_pvalue,
    bricks_of_rarer,
    design_effect,
    measure_auc,
    stratified_auc,
)
from obiwan.dplearn.twosample.resampling import flip_test, permutation_test
from obiwan.dplearn.twosample.summary import (
    FEW_BRICKS,
    LEAST_CLUSTERS,
    AccuracyTest,
    Answer,
    accuracy_test,
    answer,
    detectable_excess,
    holm,
    score_interval,
    usable_bricks,
)

__all__ = [
    "FEW_BRICKS",
    "GUESS",
    "LEAST_CLUSTERS",
    "AccuracyTest",
    "Answer",
    "Estimate",
    "Measured",
    "accuracy_test",
    "answer",
    "auc",
    "auc_interval",
    "auc_pvalue",
    "bricks_of_rarer",
    "design_effect",
    "detectable_excess",
    "flip_test",
    "holm",
    "measure_auc",
    "permutation_test",
    "score_interval",
    "stratified_auc",
    "usable_bricks",
]
