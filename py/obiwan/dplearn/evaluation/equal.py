"""The panel's AUC where failing quantities are held equal: do they explain what it detects?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import logit

from obiwan.dplearn.controls.battery import judge_controls
from obiwan.dplearn.controls.covariates import covariates
from obiwan.dplearn.controls.metadata import SETTINGS, folds_of, propensity_strata
from obiwan.dplearn.controls.questions import Question, questions
from obiwan.dplearn.controls.records import AUC, Control, Statistic
from obiwan.dplearn.evaluation.ensemble import Scored
from obiwan.dplearn.evaluation.ruling import OVERLAP, Equal, Outcome
from obiwan.dplearn.referees.features import Scaling
from obiwan.dplearn.referees.jury import Sample
from obiwan.dplearn.referees.scores import logistic
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.trainingset.clusters import factorised
from obiwan.dplearn.twosample.ranking import GUESS, auc, stratified_auc, usable_strata
from obiwan.dplearn.twosample.summary import usable_bricks

SHAPE = (
    "u_ln_",
    "u_dev",
    "u_e1",
    "u_e2",
    "tension_ln_size_",
    "tension_dev_",
    "tension_e",
    "light_width",
    "light_conc",
    "light_snr",
)
MOST_HELD = 8  #: quantities that are held equal, those of the largest effects: more leave no strata
STRENGTH = 0.1  #: inverse of the ridge penalty on coefficients of numbers of unit variance
ELLIPTICITY = ("u_e1", "u_e2", "tension_e")
#: What a galaxy fit says of the thing that a control, else its hazard, is about: beginnings of the names of
#: its numbers.
RELATED = {
    "D2": ("u_x", "u_y", "tension_x_", "tension_y_", "light_dx", "light_dy", "light_snr"),
    "D5": SHAPE,
    "D6": ("noise_", "ivar_dip", "ivar_slope", "shot_", "light_dip", "light_slope", "light_noise_core"),
    "D10": ("u_flux_", *SHAPE),
    "D11": ("u_flux_", "light_core"),
    "D20": SHAPE,
    # Of the population, by name: a failing magnitude says nothing of shapes.
    "magnitude": ("u_flux_",),
    "pixel flux": ("u_flux_",),
    "half-light radius": SHAPE,
    "ellipticity": ELLIPTICITY,
    "ellipticity 1": ELLIPTICITY,
    "ellipticity 2": ELLIPTICITY,
    "signal to noise": ("u_flux_",),
}
QUANTITIES = ("measured quantities", "")  #: title of the score of the classifier of measured quantities
PLACE = ("place of the light", "")  #: title of what stamps show where only the truth shows an offset


@dataclass(frozen=True)
class Evidence:
    """Controls with what they compare, of n examples: the test examples first.

    Attributes
    ----------
    controls : tuple of Control
    asked : tuple of Question
        In their order; the numbers or labels have shape (n,).
    rows : structured ndarray, shape (n,)
        Of the example table.
    columns : mapping
        Their covariates.
    signal : ndarray, shape (n,)
        Signal to noise in the reference band.
    clusters : ndarray of str, shape (n,)
        Bricks, or groups of bricks that are not independent.
    tests : ndarray of int, shape (m,)
        Positions of the test examples, the first m, among those that are scored.
    fits : mapping of str to ndarray, shape (n,)
        Numbers of the panel's galaxy fits, and (``light_``) those measured of the stamps.
    """

    controls: tuple[Control, ...]
    asked: tuple[Question, ...]
    rows: Array
    columns: Mapping[str, Array]
    signal: Array
    clusters: Array
    tests: Array
    fits: Mapping[str, Array] = field(default_factory=dict)

    def of_tests(self, scored: Scored) -> Scored:
        """The scored test examples that the controls were run on."""
        return scored.take(self.tests)

    @classmethod
    def of(
        cls,
        rows: Array,
        measured: Array,
        spec: StampSpec,
        clusters: Array,
        tests: Array,
        samples: Mapping[str, Sample] | None = None,
    ) -> Evidence:
        """All controls run on examples.

        Parameters
        ----------
        rows : structured ndarray, shape (n,)
            Of the example table.
        measured : structured ndarray, shape (n,)
        spec : StampSpec
        clusters : ndarray, shape (n,)
        tests : ndarray of int, shape (m,)
            Positions of the test examples, the first m, among those that are scored.
        samples : mapping of str to Sample, optional
            What a panel has measured, by split.
        """
        label, bricks = rows["label"], factorised(rows["brick"])[1]
        asked = tuple(questions(rows, measured, label, bricks, spec))
        controls = judge_controls(asked, label, clusters)
        columns = covariates(rows, measured, spec)
        signal, fits = measured[f"snr_{spec.reference}"], fit_numbers(samples or {}, rows)
        fits |= {f"light_{name}": measured[name] for name in measured.dtype.names or ()}
        return cls(controls, asked, rows, columns, signal, clusters, tests, fits)


def held_equal(
    scored: Scored,
    failing: Sequence[Control],
    evidence: Evidence,
    quantities: Array | None = None,
) -> Equal:
    """What is left of the tested score where what fails is alike in both classes.

    A classifier, trained on other bricks, is given the failing quantities, the signal to noise and what the
    galaxy fit says of the same thing (`RELATED`): a panel measures an offset better than a centroid in a
    window shows it.  The score is then compared within strata of that classifier's.

    Parameters
    ----------
    scored : Scored
        The test examples, those that the controls were run on.
    failing : sequence of Control
        The largest effects first.  Of those that need the truth, which real galaxies do not have, only what
        the fit says of the same thing is held equal.
    evidence : Evidence
    quantities : ndarray, shape (n,), optional
        Score of the classifier of measured quantities, where that fails.

    Returns
    -------
    Equal
        A difference stays where it is significant within strata *and* more than
        `obiwan.dplearn.controls.records.AUC` of an AUC: what is measured with an error cannot be held equal
        to the last digit.  So much more the score must have than the classifier, or both together than
        either.
    """
    values = {(one.name, one.band): given for one, given in evidence.asked}
    columns = {}
    of_both = [one for one in failing if one.statistic != Statistic.RECOVERY]
    for one in of_both[:MOST_HELD]:
        given = values[one.name, one.band]
        composed = one.statistic == Statistic.COMPOSITION
        chosen = np.char.strip(given.astype(str)) == one.component if composed else given
        columns[one.name, one.band] = np.asarray(chosen, np.float64)
    if quantities is not None:
        columns[QUANTITIES] = quantities
    related = tuple({name for one in failing for name in related_to(one)})
    fits = [given for name, given in evidence.fits.items() if related and name.startswith(related)]
    numbers = np.column_stack([*columns.values(), evidence.signal, *fits]).astype(np.float64)
    titles, tests, labels = tuple(columns) or (PLACE,), len(scored.labels), scored.labels
    odds = cross_fitted_odds(numbers, evidence.rows["label"], evidence.clusters)[:tests]
    strata = propensity_strata(odds)
    overlap = float(usable_strata(labels == 1, strata).mean())
    alone = auc(labels, odds)
    if overlap < OVERLAP:
        return Equal(titles, Outcome.NO_OVERLAP, overlap=overlap, alone=alone)
    try:
        left = stratified_auc(labels, scored.scores, strata, usable_bricks(labels, scored.clusters))
    except ValueError:  # what is left of a class lies in one brick
        return Equal(titles, Outcome.NO_OVERLAP, overlap=overlap, alone=alone)
    panel = auc(labels, scored.scores)
    gain = max(panel - alone, _together(labels, odds, scored.scores) - max(panel, alone))
    more = left.high < GUESS or (left.low > GUESS and gain > AUC)
    return Equal(titles, Outcome.STAYS if more else Outcome.GONE, left, overlap, alone)


def related_to(control: Control) -> tuple[str, ...]:
    """Beginnings of the names of the numbers of a galaxy fit that are held equal with a control's."""
    return RELATED.get(control.name, RELATED.get(control.hazard, ()))


def cross_fitted_odds(numbers: Array, label: Array, clusters: Array) -> Array:
    """Log odds of being injected from some numbers, by classifiers that were trained on other bricks.

    Of a logistic regression, which is efficient for small differences, and of boosted trees, which see what
    is not linear, combined by their weights in another logistic regression.

    Parameters
    ----------
    numbers : ndarray, shape (n, k)
        NaN where not known.
    label, clusters : ndarray, shape (n,)
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    found = np.zeros((len(label), 2))
    for train, held in folds_of(label == 1, clusters, 1)[0]:
        scaling = Scaling.of(numbers[train])
        weights, intercept = logistic(scaling.apply(numbers[train]), label[train], STRENGTH)
        trees = HistGradientBoostingClassifier(**SETTINGS, random_state=1).fit(numbers[train], label[train])
        linear = scaling.apply(numbers[held]) @ weights + intercept
        found[held] = np.column_stack([linear, trees.decision_function(numbers[held])])
    weights, intercept = logistic(found, label, 1.0)
    return np.asarray(found @ weights + intercept)


def _together(labels: Array, odds: Array, scores: Array) -> float:
    """AUC of two scores combined by a logistic regression."""
    both = np.column_stack([odds, logit(np.clip(scores, 1e-6, 1 - 1e-6))])
    weights, _ = logistic(both, labels, 1.0)
    return auc(labels, both @ weights)


def fit_numbers(samples: Mapping[str, Sample], rows: Array) -> dict[str, Array]:
    """Numbers of the galaxy fits of a panel for examples, by name; NaN where it did not measure them.

    Parameters
    ----------
    samples : mapping of str to Sample
        By split.
    rows : structured ndarray, shape (n,)
        Of the example table.
    """
    found: dict[str, Array] = {}
    key = ["split", "shard", "row"]  # every split numbers its shards from 1
    place = {one: i for i, one in enumerate(rows[key].tolist())}
    for split, sample in samples.items():
        measured, own = sample.measured, sample.stamp_set.rows(split)[key].tolist()
        fits = measured.fits
        scores = measured.population.posterior(fits.values, fits.information, fits.gradient).u
        named = {f"u_{name}": scores[:, i] for i, name in enumerate(fits.names)}
        named |= {name: fits.column(name) for name in fits.statistic_names}
        pairs = [(place[one], i) for i, one in enumerate(own) if one in place]
        there, here = np.array(pairs, int).reshape(-1, 2).T
        for name, values in named.items():
            found.setdefault(name, np.full(len(rows), np.nan))[there] = values[here]
    return found
