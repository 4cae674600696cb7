"""The control battery: does anything but the galaxy tell the classes apart?

Each control compares one number that is measured of every example in the same way
(`obiwan.dplearn.controls.measure`, `obiwan.dplearn.controls.covariates`) between fake and real.  Its light
is red where the difference is significant among all controls (Holm, 5 %) *and* greater than a stated size;
amber where it is significant but small; green otherwise; "not run" where it cannot be measured, with the
reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.controls.contrasts import (
    Groups,
    association,
    composition_pvalue,
    distance_beyond_chance,
    distribution_pvalue,
    location,
    shift,
)
from obiwan.dplearn.controls.covariates import CATALOGUED, LABELS, catalogued, covariates
from obiwan.dplearn.conventions import BANDS, FWHM, PIXEL_SCALE, Array
from obiwan.dplearn.trainingset.examples import FLAG_NEIGHBOUR, FLAG_PADDED
from obiwan.dplearn.twosample import brick_caveat, holm

LEAST = 5  #: examples of each class in which a number must have been measured
DISTANCE = 0.03  #: KS distance of two normals so far apart that the number alone gives an AUC of 0.52
ASSOCIATION = 0.035  #: Cramer's V that by itself gives an AUC of 0.52
OFFSET = 0.02  #: pixels; what placement can be held to (hazard D2)
LIGHTS = ("red", "amber", "green", "not run")
_NAN = float("nan")

SHIFT = "clustered t test of Huber locations"
DISTRIBUTION = "Kolmogorov-Smirnov distance beyond chance; clustered tests of three moments of ranks"
ASSOCIATED = "bias-corrected Cramer's V; chi-square or exact sampling"


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
        ``g``, ``r`` or ``z``; empty where it is of no band.
    statistic : str
        How, in words.
    effect : float
        Size of the difference, in `unit`: fake less real where it has a sign.
    unit : str
    low, high : float
        95 % interval of the effect; NaN for distances, which have none.
    p, p_holm : float
        p-value, and the one that allows for all controls that were run.
    threshold : float
        The effect above which a significant difference is red.
    light : str
        One of `LIGHTS`.
    note : str
        The two classes in numbers, or why it was not run.
    """

    name: str
    hazard: str
    band: str
    statistic: str
    effect: float
    unit: str
    low: float
    high: float
    p: float
    p_holm: float
    threshold: float
    light: str
    note: str

    @property
    def title(self) -> str:
        """Name and band."""
        return f"{self.name} {self.band}".strip()


@dataclass(frozen=True)
class _Question:
    """A control that is yet to be run: a column of numbers, or of labels."""

    name: str
    hazard: str
    band: str
    values: Array
    unit: str = ""
    threshold: float = DISTANCE
    kind: str = DISTRIBUTION
    shared: bool = False  # a label that examples of a brick have in common, more than by chance
    reason: str = ""  # why it cannot be run


def run_controls(
    rows: Array, measured: Array, label: Array, bricks: Array, *, level: float = 0.05
) -> tuple[Control, ...]:
    """Run every control on examples of both classes.

    Parameters
    ----------
    rows : ndarray of EXAMPLE_DTYPE, shape (n,)
        Their rows of the source table.
    measured : ndarray of MEASURE_DTYPE, shape (n,)
    label : ndarray, shape (n,)
        Real 0, fake 1.
    bricks : ndarray, shape (n,)
        Names; tests rest on whole bricks where each class is found in five or more.
    level : float
        Rate at which any control may be red or amber where nothing differs.

    Returns
    -------
    tuple of Control
        In a fixed order, those that were not run included.

    Raises
    ------
    ValueError
        If the arrays are not as many, or there is one class only.
    """
    label, bricks = np.asarray(label), np.asarray(bricks)
    if not len(rows) == len(measured) == len(label) == len(bricks):
        msg = f"{len(rows)} rows, {len(measured)} measured, {len(label)} labels, {len(bricks)} bricks"
        raise ValueError(msg)
    if set(np.unique(label).tolist()) != {0, 1}:
        msg = "labels must be 0 and 1, with at least one of each"
        raise ValueError(msg)
    questions = _questions(rows, measured, label == 1, bricks)
    run = [_answer(question, label, bricks) for question in questions]
    adjusted = holm(np.array([control.p for control in run]))
    return tuple(_lit(control, float(p), level) for control, p in zip(run, adjusted, strict=True))


def _lit(control: Control, p_holm: float, level: float) -> Control:
    """With its light, now that all p-values are known."""
    if control.light == "not run":
        return control
    light = "green"
    if p_holm < level:
        light = "red" if abs(control.effect) > control.threshold else "amber"
    return replace(control, p_holm=p_holm, light=light)


def _too_few(fake: NDArray[np.bool_]) -> str:
    n_fake, n = int(fake.sum()), len(fake)
    if min(n_fake, n - n_fake) >= LEAST:
        return ""
    return f"measured of {n - n_fake} real and {n_fake} fake examples; {LEAST} of each are needed"


def _answer(question: _Question, label: Array, bricks: Array) -> Control:
    """Run one control; its light is still to be decided."""
    control = Control(
        name=question.name,
        hazard=question.hazard,
        band=question.band,
        statistic=question.kind,
        effect=_NAN,
        unit=question.unit,
        low=_NAN,
        high=_NAN,
        p=_NAN,
        p_holm=_NAN,
        threshold=question.threshold,
        light="not run",
        note=question.reason,
    )
    if question.reason:
        return control
    if question.kind == ASSOCIATED:
        groups = Groups.of(label, bricks)
        control = _associated(replace(control, light=""), question.values, label)
        on_bricks = question.shared and groups.number is not None
        return replace(control, p=composition_pvalue(question.values, groups)) if on_bricks else control
    kept = np.isfinite(question.values)
    groups = Groups.of(label[kept], bricks[kept])
    if reason := _too_few(groups.fake):
        return replace(control, note=reason)
    compare = _shifted if question.kind == SHIFT else _distributed
    control = compare(replace(control, light=""), question.values[kept].astype(np.float64), groups)
    caveat = brick_caveat(label[kept], bricks[kept])
    return replace(control, note=f"{control.note}; {caveat}") if caveat else control


def _shifted(control: Control, values: Array, groups: Groups) -> Control:
    found = shift(values, groups)
    classes = [
        f"{name} {one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
        for name, one in (("fake", found.fake), ("real", found.real))
    ]
    difference = found.difference
    return replace(
        control,
        effect=difference.value,
        low=difference.low,
        high=difference.high,
        p=found.p,
        note="; ".join(classes),
    )


def _distributed(control: Control, values: Array, groups: Groups) -> Control:
    middle, word = (np.mean, "mean") if len(np.unique(values)) < 4 * LEAST else (np.median, "median")
    fake, real = (float(middle(values[members])) for members in (groups.fake, ~groups.fake))
    return replace(
        control,
        effect=distance_beyond_chance(values, groups.fake),
        p=distribution_pvalue(values, groups),
        note=f"{word} fake {fake:.4g}, real {real:.4g}",
    )


def _associated(control: Control, keys: Array, label: Array) -> Control:
    effect, p = association(keys, label == 1, np.random.default_rng(len(keys)))
    count = len(np.unique(keys))
    return replace(control, effect=effect, p=p, note=f"{count} different" if count > 1 else "only one")


def _questions(rows: Array, measured: Array, fake: NDArray[np.bool_], bricks: Array) -> Iterator[_Question]:
    """All controls, in the order in which a report shows them."""
    for band in BANDS:
        column = {stem: measured[f"{stem}_{band}"].astype(np.float64) for stem in _STEMS}
        yield _Question("centroid x", "D2", band, column["dx"], "px", OFFSET, SHIFT)
        yield _Question("centroid y", "D2", band, column["dy"], "px", OFFSET, SHIFT)
        yield _Question("centroid scatter", "D3", band, _scatter(column["dx"], column["dy"], fake))
        yield _Question("no centroid", "D10", band, np.isnan(column["dx"]).astype(float))
        for name, hazard, stem in _MEASURED:
            yield _Question(name, hazard, band, column[stem])
        for name, hazard, stem, unit, threshold in _SHIFTED:
            values = column[stem]
            if unit == "ln":  # a ratio: resampled noise is far below what ivar says, in both classes
                values = np.log(np.where(values > 0, values, np.nan))
            yield _Question(name, hazard, band, values, unit, threshold, SHIFT)
    yield _Question("ellipticity 1", "D17", "r", measured["e1_r"])
    yield _Question("ellipticity 2", "D17", "r", measured["e2_r"])
    with np.errstate(all="ignore"):
        magnitude = {band: -2.5 * np.log10(measured[f"core_{band}"].astype(np.float64)) for band in BANDS}
    yield _Question("pixel colour g - r", "D11", "", magnitude["g"] - magnitude["r"])
    yield _Question("pixel colour r - z", "D11", "", magnitude["r"] - magnitude["z"])
    yield from _of_samples(rows, measured)
    yield from _of_labels(rows, bricks)


_MEASURED = (
    ("ivar-flux slope", "D6", "slope"),
    ("ivar levels", "D9", "ivar_distinct"),
    ("ivar step", "D9", "ivar_step"),
    ("image levels", "D9", "distinct"),
    ("blank pixels", "D16", "blank"),
    ("blank core", "D16", "blank_core"),
    ("light around", "D12", "light"),
    ("pixel flux", "D17", "core"),
    ("width", "D5", "width"),
    ("concentration", "D5", "conc"),
)
_SHIFTED = (
    ("ivar dip", "D6", "dip", "fraction", 0.005),
    ("noise under the source", "D6", "noise_core", "ln", 0.02),
    ("noise of the sky", "D9", "noise_sky", "ln", 0.01),
    ("background", "D9", "sky", "sigma", 0.02),
)
_STEMS = ("dx", "dy", *(stem for _, _, stem in _MEASURED), *(stem for _, _, stem, _, _ in _SHIFTED))


def _scatter(dx: Array, dy: Array, fake: NDArray[np.bool_]) -> Array:
    """Distance of each centroid from the location of its own class: an offset is no scatter."""
    out = np.hypot(dx, dy)
    for members in (fake, ~fake):
        seen = members & np.isfinite(out)
        if seen.any():
            out[seen] = np.hypot(dx[seen] - location(dx[seen])[0], dy[seen] - location(dy[seen])[0])
    return np.asarray(out)


_HAZARDS = {
    **dict.fromkeys(("phase_x", "phase_y"), "D4"),
    **dict.fromkeys(("neighbours", "nearest"), "D12"),
    **dict.fromkeys((f"{stem}_{band}" for stem in ("psfsize", "psfdepth", "nobs") for band in BANDS), "D9"),
    "edge": "D15",
    "ebv": "D11",
    "sn": "D10",
}
_NOT_FITTED = "the catalogue's numbers have another origin for one class (truth or a table of the user)"


def _of_samples(rows: Array, measured: Array) -> Iterator[_Question]:
    """Controls of the population: every covariate, positions in the brick, what the flags tell."""
    comparable = catalogued(rows)
    reason_of_fit = "" if comparable else _NOT_FITTED
    for name, values in covariates(rows, measured).items():
        said, unit = LABELS[name]
        band = name[-1] if name[:-2] in ("mag", "psfsize", "psfdepth", "nobs") else ""
        said = said.removesuffix(f" in {band}").removeprefix(f"{band} ") if band else said
        reason = reason_of_fit if name in CATALOGUED else ""
        yield _Question(said, _HAZARDS.get(name, "D17"), band, values, unit, reason=reason)
    yield _Question("position in the coadd, x", "D12", "", rows["x"], "px")
    yield _Question("position in the coadd, y", "D12", "", rows["y"], "px")
    yield _Question("in a mask", "D12", "", (rows["maskbits"] != 0).astype(float), reason=reason_of_fit)
    yield _Question("padded cutouts", "D15", "", (rows["flags"] & FLAG_PADDED > 0).astype(float))
    yield _Question("injected neighbours", "D14", "", (rows["flags"] & FLAG_NEIGHBOUR > 0).astype(float))
    for band in BANDS:
        psf = rows[f"psfsize_{band}"] / (FWHM * PIXEL_SCALE)
        star = (rows["type"] == b"PSF") & (psf > 0)
        with np.errstate(all="ignore"):
            width = np.where(star, measured[f"width_{band}"] / psf, np.nan)
        yield _Question("width of stars", "D20", band, width, reason=reason_of_fit)


def _of_labels(rows: Array, bricks: Array) -> Iterator[_Question]:
    """Controls of where examples come from and stand: is the share of fakes the same everywhere?"""
    runs = np.char.add(np.char.add(rows["root"].astype("S6"), b"/"), rows["run"])
    reason = "" if catalogued(rows) else _NOT_FITTED
    for name, hazard, keys, shared, why in (
        ("fitted type", "D10", rows["type"], True, reason),
        ("brick", "D18", bricks, False, ""),
        ("run", "D9", runs, False, ""),
        ("shard", "D18", rows["shard"], False, ""),
    ):
        yield _Question(name, hazard, "", keys, "", ASSOCIATION, ASSOCIATED, shared, why)
