"""Two-sample test: how well scores separate two samples, and what follows from it.

Labels are 0 (real) and 1 (fake); a score is the higher the more an example looks fake.
`doc/explanation/two-sample-test.rst` says what each number means.

The road inside: `ranking` (AUC, its variance), `conditional` (AUC at equal other things), `resampling`
(permutations) -> `summary` (accuracy, intervals, what could be seen) -> `calibration`
(probabilities, divergences), `verdict` (kind, reasons, numbers).  Most callers import from here.
"""

from __future__ import annotations

from obiwan.dplearn.twosample.conditional import stratified_auc as stratified_auc
from obiwan.dplearn.twosample.ranking import (
    GUESS as GUESS,
)
from obiwan.dplearn.twosample.ranking import (
    Estimate as Estimate,
)
from obiwan.dplearn.twosample.ranking import (
    Measured as Measured,
)
from obiwan.dplearn.twosample.ranking import (
    auc as auc,
)
from obiwan.dplearn.twosample.ranking import (
    auc_interval as auc_interval,
)
from obiwan.dplearn.twosample.ranking import (
    auc_pvalue as auc_pvalue,
)
from obiwan.dplearn.twosample.ranking import (
    design_effect as design_effect,
)
from obiwan.dplearn.twosample.ranking import (
    measure_auc as measure_auc,
)
from obiwan.dplearn.twosample.resampling import (
    flip_test as flip_test,
)
from obiwan.dplearn.twosample.resampling import (
    permutation_test as permutation_test,
)
from obiwan.dplearn.twosample.summary import (
    FEW_BRICKS as FEW_BRICKS,
)
from obiwan.dplearn.twosample.summary import (
    LEAST_CLUSTERS as LEAST_CLUSTERS,
)
from obiwan.dplearn.twosample.summary import (
    AccuracyTest as AccuracyTest,
)
from obiwan.dplearn.twosample.summary import (
    Answer as Answer,
)
from obiwan.dplearn.twosample.summary import (
    accuracy_test as accuracy_test,
)
from obiwan.dplearn.twosample.summary import (
    answer as answer,
)
from obiwan.dplearn.twosample.summary import (
    bricks_of_rarer as bricks_of_rarer,
)
from obiwan.dplearn.twosample.summary import (
    detectable_excess as detectable_excess,
)
from obiwan.dplearn.twosample.summary import (
    holm as holm,
)
from obiwan.dplearn.twosample.summary import (
    score_interval as score_interval,
)
from obiwan.dplearn.twosample.summary import (
    usable_bricks as usable_bricks,
)
