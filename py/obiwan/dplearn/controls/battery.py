"""Control battery: numbers other than the network's score that may differ between the classes.

Each control compares one number that is measured of every example in the same way
(`obiwan.dplearn.controls.measure`, `obiwan.dplearn.controls.covariates`) between fake and real.  Its light
is red where the difference is significant among all controls (Holm, 5 %) *and* greater than a stated size;
amber where it is significant but small; green otherwise; "not run" where it cannot be measured, with the
reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from obiwan.dplearn.controls.contrasts import (
    association,
    composition_pvalue,
    distance_beyond_chance,
    distribution_pvalue,
    location,
    shift,
)
from obiwan.dplearn.controls.covariates import covariates, quantities
from obiwan.dplearn.controls.measure import NEED_IVAR
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.rendering import FWHM
from obiwan.dplearn.trainingset.examples import FLAG_NEIGHBOUR, FLAG_PADDED
from obiwan.dplearn.trainingset.visibility import same_fit
from obiwan.dplearn.twosample.ranking import Estimate, bricks_of_rarer
from obiwan.dplearn.twosample.summary import holm, usable_bricks

LEAST = 5  #: examples of each class in which a number must have been measured
DISTANCE = 0.03  #: KS distance of two normals so far apart that the number alone gives an AUC of 0.52
ASSOCIATION = 0.035  #: Cramer's V that by itself gives an AUC of 0.52
OFFSET = 0.02  #: pixels; what placement can be held to (hazard D2)
LIGHTS = ("red", "amber", "green", "not run")
NOT_RUN = LIGHTS[-1]
_NAN = float("nan")


class Statistic(Enum):
    """How the classes are compared."""

    SHIFT = "shift"  #: clustered t test of Huber locations
    DISTRIBUTION = "distribution"
    """Kolmogorov-Smirnov distance beyond chance; clustered tests of three moments of ranks."""
    ASSOCIATION = "association"  #: bias-corrected Cramer's V; chi-square or exact sampling
    COMPOSITION = "composition"  #: the same of a label that examples of a brick share; clustered tests


class Obstacle(Enum):
    """Why a control was not run."""

    OTHER_ORIGIN = "other origin"  #: one class has its catalogue's numbers from truth or a table of the user
    NO_IVAR = "no ivar"  #: the stamps have no inverse variance planes
    TOO_FEW = "too few"  #: measured of fewer than `LEAST` examples of a class


@dataclass(frozen=True)
class Control:
    """One comparison of the classes.

    Attributes
    ----------
    name : str
        What is compared, such as ``centroid x``.
    hazard : str
        The hazard that it looks for, ``D1`` to ``D20``.
    band : str
        Empty where it is of no band.
    statistic : Statistic
    unit : str
        Of the effect.
    threshold : float
        The effect above which a significant difference is red.
    light : str
        One of `LIGHTS`.
    obstacle : Obstacle or None
        Why it was not run.
    effect : float
        Size of the difference: fake less real where it has a sign.
    low, high : float
        95 % interval of the effect; NaN for distances, which have none.
    p, p_holm : float
        p-value, and the one that allows for all controls that were run.
    real, fake : Estimate or None
        Where each class lies: its location with an interval, else its median (mean where values are few).
    counts : tuple of int
        Real and fake examples in which it was measured.
    bricks : int
        Bricks of the class that is found in fewer.
    values : int
        Different values.
    """

    name: str
    hazard: str
    band: str = ""
    statistic: Statistic = Statistic.DISTRIBUTION
    unit: str = ""
    threshold: float = DISTANCE
    light: str = NOT_RUN
    obstacle: Obstacle | None = None
    effect: float = _NAN
    low: float = _NAN
    high: float = _NAN
    p: float = _NAN
    p_holm: float = _NAN
    real: Estimate | None = None
    fake: Estimate | None = None
    counts: tuple[int, int] = (0, 0)
    bricks: int = 0
    values: int = 0


_Question = tuple[Control, Array]  # one that is yet to be run, and the numbers or labels that it compares


def run_controls(
    rows: Array, measured: Array, label: Array, bricks: Array, spec: StampSpec, *, level: float = 0.05
) -> tuple[Control, ...]:
    """Run every control on examples of both classes.

    Parameters
    ----------
    rows : structured ndarray, shape (n,)
        Their rows of the example table.
    measured : ndarray of `obiwan.dplearn.controls.measure.measure_dtype`, shape (n,)
    label : ndarray, shape (n,)
        Real 0, fake 1; there are both.
    bricks : ndarray, shape (n,)
        Names; tests rest on whole bricks where each class is found in five or more.
    spec : StampSpec
    level : float
        Rate at which any control may be red or amber where nothing differs.

    Returns
    -------
    tuple of Control
        In a fixed order, those that were not run included.
    """
    of_pixels, of_samples = _of_pixels(measured, label == 1, spec), _of_samples(rows, measured, spec)
    questions = [*of_pixels, *of_samples, *_of_labels(rows, bricks)]
    run = [_answer(control, values, label, bricks) for control, values in questions]
    adjusted = holm(np.array([control.p for control in run]))
    return tuple(_lit(control, float(p), level) for control, p in zip(run, adjusted, strict=True))


def _lit(control: Control, p_holm: float, level: float) -> Control:
    """With its light, now that all p-values are known."""
    if control.obstacle is not None:
        return control
    significant = "red" if abs(control.effect) > control.threshold else "amber"
    return replace(control, p_holm=p_holm, light=significant if p_holm < level else "green")


def _answer(control: Control, values: Array, label: Array, bricks: Array) -> Control:
    """Run one control; its light is still to be decided."""
    if control.obstacle is not None:
        return control
    number = control.statistic in (Statistic.SHIFT, Statistic.DISTRIBUTION)
    kept = np.isfinite(values) if number else np.ones(len(values), bool)
    values, label, bricks = values[kept], label[kept], bricks[kept]
    fake, clusters = label == 1, usable_bricks(label, bricks)
    control = replace(control, counts=(int((~fake).sum()), int(fake.sum())), values=len(np.unique(values)))
    if number and min(control.counts) < LEAST:
        return replace(control, obstacle=Obstacle.TOO_FEW)
    control = replace(control, bricks=bricks_of_rarer(label, bricks))
    if not number:
        effect, p = association(values, fake, np.random.default_rng(len(values)))
        if control.statistic == Statistic.COMPOSITION and clusters is not None:
            p = composition_pvalue(values, fake, clusters)
        return replace(control, effect=effect, p=p)
    values = values.astype(np.float64)
    if control.statistic == Statistic.SHIFT:
        apart, at_real, at_fake, p = shift(values, fake, clusters)
        control = replace(control, effect=apart.value, low=apart.low, high=apart.high)
        return replace(control, p=p, real=at_real, fake=at_fake)
    middle = np.mean if control.values < 4 * LEAST else np.median
    at_real, at_fake = (Estimate(float(middle(values[members])), _NAN, _NAN) for members in (~fake, fake))
    effect, p = distance_beyond_chance(values, fake), distribution_pvalue(values, fake, clusters)
    return replace(control, effect=effect, p=p, real=at_real, fake=at_fake)


_SHIFT = Statistic.SHIFT
#: Controls of each band, and the measurement that they compare.
_OF_BANDS = (
    (Control("ivar-flux slope", "D6"), "slope"),
    (Control("ivar levels", "D9"), "ivar_distinct"),
    (Control("ivar step", "D9"), "ivar_step"),
    (Control("image levels", "D9"), "distinct"),
    (Control("blank pixels", "D16"), "blank"),
    (Control("blank core", "D16"), "blank_core"),
    (Control("light around", "D12"), "light"),
    (Control("pixel flux", "D17"), "core"),
    (Control("width", "D5"), "width"),
    (Control("concentration", "D5"), "conc"),
    (Control("ivar dip", "D6", "", _SHIFT, "fraction", 0.005), "dip"),
    (Control("noise under the source", "D6", "", _SHIFT, "ln", 0.02), "noise_core"),
    (Control("noise of the sky", "D9", "", _SHIFT, "ln", 0.01), "noise_sky"),
    (Control("background", "D9", "", _SHIFT, "sigma", 0.02), "sky"),
)


def _scatter(dx: Array, dy: Array, fake: Array) -> Array:
    """Distance of each centroid from the location of its own class: an offset is no scatter."""
    out = np.hypot(dx, dy)
    for members in (fake, ~fake):
        seen = members & np.isfinite(out)
        if seen.any():
            out[seen] = np.hypot(dx[seen] - location(dx[seen])[0], dy[seen] - location(dy[seen])[0])
    return np.asarray(out)


def _of_pixels(measured: Array, fake: Array, spec: StampSpec) -> Iterator[_Question]:
    """Controls of what was measured on the stamps."""
    for band in spec.bands:
        dx, dy = (measured[f"{stem}_{band}"].astype(np.float64) for stem in ("dx", "dy"))
        yield Control("centroid x", "D2", band, _SHIFT, "px", OFFSET), dx
        yield Control("centroid y", "D2", band, _SHIFT, "px", OFFSET), dy
        yield Control("centroid scatter", "D3", band), _scatter(dx, dy, fake)
        yield Control("no centroid", "D10", band), np.isnan(dx).astype(float)
        for control, stem in _OF_BANDS:
            values = measured[f"{stem}_{band}"].astype(np.float64)
            if control.unit == "ln":  # a ratio: resampled noise is far below what ivar says, in both classes
                values = np.log(np.where(values > 0, values, np.nan))
            missing = stem in NEED_IVAR and not spec.has_ivar
            yield replace(control, band=band, obstacle=Obstacle.NO_IVAR if missing else None), values
    for part in (1, 2):
        yield Control(f"ellipticity {part}", "D17", spec.reference), measured[f"e{part}_{spec.reference}"]
    with np.errstate(all="ignore"):
        magnitude = {b: -2.5 * np.log10(measured[f"core_{b}"].astype(np.float64)) for b in spec.bands}
    for blue, red in spec.colours:
        yield Control(f"pixel colour {blue} - {red}", "D11"), magnitude[blue] - magnitude[red]


def _of_samples(rows: Array, measured: Array, spec: StampSpec) -> Iterator[_Question]:
    """Controls of the population: every covariate, positions in the brick, what the flags tell."""
    fitted = None if same_fit(rows) else Obstacle.OTHER_ORIGIN
    values = covariates(rows, measured, spec)
    for one in quantities(spec):
        control = Control(
            one.name, one.hazard, one.band, unit=one.unit, obstacle=fitted if one.fitted else None
        )
        yield control, values[one.key]
    for axis in ("x", "y"):
        yield Control(f"position in the coadd, {axis}", "D12", unit="px"), rows[axis]
    yield Control("in a mask", "D12", obstacle=fitted), (rows["maskbits"] != 0).astype(float)
    yield Control("padded cutouts", "D15"), (rows["flags"] & FLAG_PADDED > 0).astype(float)
    yield Control("injected neighbours", "D14"), (rows["flags"] & FLAG_NEIGHBOUR > 0).astype(float)
    for band in spec.bands:
        psf = rows[f"psfsize_{band}"] / (FWHM * spec.pixel_scale)
        star = (rows["type"] == b"PSF") & (psf > 0)
        with np.errstate(all="ignore"):
            width = np.where(star, measured[f"width_{band}"] / psf, np.nan)
        yield Control("width of stars", "D20", band, obstacle=fitted), width


def _of_labels(rows: Array, bricks: Array) -> Iterator[_Question]:
    """Controls of where examples come from and stand: is the fraction of fakes the same everywhere?"""
    runs = np.char.add(np.char.add(rows["root"].astype("S6"), b"/"), rows["run"])
    fitted = None if same_fit(rows) else Obstacle.OTHER_ORIGIN
    control = Control("fitted type", "D10", "", Statistic.COMPOSITION, "", ASSOCIATION, obstacle=fitted)
    yield control, rows["type"]
    shards = rows["shard"]
    for name, hazard, keys in (("brick", "D18", bricks), ("run", "D9", runs), ("shard", "D18", shards)):
        yield Control(name, hazard, "", Statistic.ASSOCIATION, "", ASSOCIATION), keys
