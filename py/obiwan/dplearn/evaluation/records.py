"""What an evaluation has found, as records; `obiwan.dplearn.evaluation.analysis` fills most of them.

The order is that of the report: the answer, what stands against it (controls and the metadata baseline),
where the classes differ, and what the network looks at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from obiwan.dplearn.controls import metadata
from obiwan.dplearn.controls.battery import Control
from obiwan.dplearn.evaluation.bins import Bins
from obiwan.dplearn.evaluation.notices import Fact
from obiwan.dplearn.evaluation.occlusion import Occlusion
from obiwan.dplearn.referees.testlog import Ledger
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.twosample import calibration, summary
from obiwan.dplearn.twosample.ranking import Estimate
from obiwan.dplearn.twosample.verdict import Verdict

BY_PERCENTILE = "percentile"  #: key of the bins at percentiles in brightness


@dataclass(frozen=True)
class ModelInfo:
    """One of the referees whose mean score is tested.

    Attributes
    ----------
    name : str
        Last two parts of its path.
    checksum : str
        Of what it computes.
    arch : str
        Architecture.
    learnt : bool
        Whether its loss ever left that of a constant answer.
    trained_on : str
        Checksum of the training set that it was trained on; empty where that is not known.
    settings : mapping
        Epochs, batch, learning rate and seed, as far as they are known.
    augmented : bool
        Whether its training examples were flipped and turned; False where that is not known.
    """

    name: str
    checksum: str
    arch: str
    learnt: bool
    trained_on: str = ""
    settings: Mapping[str, float] = field(default_factory=dict)
    augmented: bool = False


@dataclass(frozen=True)
class Scored:
    """The test split as the networks scored it.

    Attributes
    ----------
    rows : structured ndarray, shape (n,)
        What is known of each example.
    singles : ndarray, shape (models, n)
        P(fake) of each network.
    val_labels, val_scores : ndarray, shape (m,)
        Labels and mean score of the validation split.
    models : tuple of ModelInfo
    ledger : Ledger or None
        Who has seen this test split; None where that could not be counted.
    """

    rows: Array
    singles: Array
    val_labels: Array
    val_scores: Array
    models: tuple[ModelInfo, ...]
    ledger: Ledger | None = None

    @property
    def labels(self) -> Array:
        """Real = 0, fake = 1, shape (n,)."""
        return np.asarray(self.rows["label"])

    @property
    def bricks(self) -> Array:
        """Brick names, shape (n,)."""
        return np.char.strip(self.rows["brick"].astype(str))

    @property
    def scores(self) -> Array:
        """The score that is tested: the mean over the networks, declared before any was looked at."""
        return np.asarray(self.singles.mean(0, dtype=np.float64))

    @property
    def learnt(self) -> bool:
        """Whether more than half of the networks learnt, so that their mean score is worth a verdict."""
        return 2 * sum(model.learnt for model in self.models) > len(self.models)


@dataclass(frozen=True)
class NetworkAnswer:
    """What the network's scores say.

    Attributes
    ----------
    auc : Estimate
        AUC with the interval of `ranking.auc_interval`.
    accuracy : AccuracyTest
        Of calling fake what scores above 0.5.
    singles : tuple of Estimate
        AUC of each network.
    permutation_p, flip_p : float
        Labels exchanged within bricks; labels of whole bricks swapped.
    design_effect : float
        Of sharing bricks; NaN for one brick.
    bricks : int
        That the test examples come from.
    rests_on_bricks : bool
        Whether the intervals do.
    """

    auc: Estimate
    accuracy: summary.AccuracyTest
    singles: tuple[Estimate, ...]
    permutation_p: float
    flip_p: float
    design_effect: float
    bricks: int
    rests_on_bricks: bool


@dataclass(frozen=True)
class Calibration:
    """Whether scores mean what they say, and what they prove about the populations.

    Attributes
    ----------
    raw, recalibrated : calibration.Reliability
        As scored, and after a recalibration that was fitted on the validation split.
    bounds_raw, bounds : calibration.Bounds
        The same.
    helps : bool
        Whether recalibration lowers the cross-entropy on the validation split (cross-fitted there).
    """

    raw: calibration.Reliability
    recalibrated: calibration.Reliability
    bounds_raw: calibration.Bounds
    bounds: calibration.Bounds
    helps: bool

    @property
    def best(self) -> calibration.Bounds:
        """The bounds to be read: which they are was decided on the validation split."""
        return self.bounds if self.helps else self.bounds_raw


@dataclass(frozen=True)
class Conditional:
    """The network's AUC at equal magnitude, colour and size, where these are known.

    Attributes
    ----------
    names : tuple of str
        What is held equal.
    unknown : tuple of str
        What should be, and is not known for most examples of both classes.
    strata : int
        Of the propensity score.
    stratified : Estimate or None
        AUC within strata; None where it could not be had, for which `reason` has the reason.
    stratified_p : float
        Labels exchanged within bricks and strata; NaN without strata.
    reason : str
    """

    names: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    strata: int = 0
    stratified: Estimate | None = None
    stratified_p: float = float("nan")
    reason: str = ""


@dataclass(frozen=True)
class Baseline:
    """What measured quantities alone tell.

    Attributes
    ----------
    result : metadata.MetadataResult
        Cross-fitted over all examples that were measured.
    test_auc : Estimate
        Of its scores on the test examples.
    examples : int
        How many it was cross-fitted over.
    scores : ndarray, shape (n,)
        On the test examples.
    left_out : tuple of str
        Covariates that are unknown for most examples of a class.
    """

    result: metadata.MetadataResult
    test_auc: Estimate
    examples: int
    scores: Array
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """Everything that a report says.

    Attributes
    ----------
    settings : dict
        Margin, level, seed.
    spec : StampSpec
    data : dict
        What the manifest says of the training set.
    scored : Scored
    columns : mapping
        Covariates of the test examples.
    verdict, answer, calibration, conditional, baseline
        See their classes.
    controls : tuple of Control
    control_examples : int
        Examples that the controls were run on.
    bins : tuple of Bins
        The last of them at percentiles in brightness.
    occlusion : Occlusion or None
        None where every score is the same, and in evaluations that were made of scores alone.
    ideal : tuple of ndarray or None
        Signal to noise and AUC of the ideal observer, for a mock whose planted offset is known.
    ablations, sensitivity : tuple
        Results of retraining; empty where none was asked for.
    not_run, cautions, mock : tuple of Fact
        What could have been run and was not; what limits the result; what is to be said of the mock survey
        that the training set was cut from.
    versions : dict
    """

    settings: dict[str, Any]
    spec: StampSpec
    data: dict[str, Any]
    scored: Scored
    columns: Mapping[str, Array]
    verdict: Verdict
    answer: NetworkAnswer
    calibration: Calibration
    conditional: Conditional
    baseline: Baseline | None
    controls: tuple[Control, ...]
    control_examples: int
    bins: tuple[Bins, ...]
    occlusion: Occlusion | None = None
    ideal: tuple[Array, Array] | None = None
    ablations: tuple[Any, ...] = ()
    sensitivity: tuple[Any, ...] = ()
    not_run: tuple[Fact, ...] = ()
    cautions: tuple[Fact, ...] = ()
    mock: tuple[Fact, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
