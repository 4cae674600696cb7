"""Questions of the control battery: which numbers and labels are compared, and in what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from obiwan.dplearn.controls.contrasts import location
from obiwan.dplearn.controls.covariates import covariates, quantities
from obiwan.dplearn.controls.measure import NEED_IVAR
from obiwan.dplearn.controls.records import (
    ASSOCIATION,
    FLUX,
    FRACTION,
    OFFSET,
    Control,
    Obstacle,
    State,
    Statistic,
)
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.rendering import FWHM
from obiwan.dplearn.trainingset.examples import FLAG_NEIGHBOUR, FLAG_PADDED
from obiwan.dplearn.trainingset.visibility import same_fit

BRIGHT = 20  #: true signal to noise above which fitted fluxes are compared with the truth
Question = tuple[Control, Array]  #: a control that is yet to be run, and what it compares


def questions(rows: Array, measured: Array, label: Array, bricks: Array, spec: StampSpec) -> list[Question]:
    """All controls, in a fixed order, with what they compare.

    Parameters
    ----------
    rows, measured, label, bricks, spec
        As for `obiwan.dplearn.controls.battery.run_controls`.
    """
    fitted = None if same_fit(rows) else Obstacle.OTHER_ORIGIN  # of what only catalogues of one kind share
    return [
        *_of_pixels(measured, label == 1, spec),
        *_of_samples(rows, measured, spec, fitted),
        *_of_recovery(rows, spec, fitted),
        *_of_labels(rows, label, bricks, fitted),
    ]


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


def _expected_scatter(measured: Array, band: str) -> Array:
    """Error of a centroid from noise alone, up to a factor: brighter galaxies are not better centred."""
    return np.asarray(measured[f"width_{band}"] / measured[f"snr_{band}"], np.float64)


def _of_pixels(measured: Array, fake: Array, spec: StampSpec) -> Iterator[Question]:
    """Controls of what was measured on the stamps."""
    for band in spec.bands:
        dx, dy = (measured[f"{stem}_{band}"].astype(np.float64) for stem in ("dx", "dy"))
        yield Control("centroid x", "D2", band, _SHIFT, "px", OFFSET), dx
        yield Control("centroid y", "D2", band, _SHIFT, "px", OFFSET), dy
        scatter = _scatter(dx, dy, fake) / _expected_scatter(measured, band)
        yield Control("centroid scatter", "D3", band), scatter
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


def _of_samples(rows: Array, measured: Array, spec: StampSpec, fitted: Obstacle | None) -> Iterator[Question]:
    """Controls of the population: every covariate, positions in the brick, what the flags tell."""
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


def _of_recovery(rows: Array, spec: StampSpec, fitted: Obstacle | None) -> Iterator[Question]:
    """Controls of the injections alone: were they found where, and as bright as, they were put in?

    Nothing but the truth shows an offset that fits follow.  Fluxes of faint sources are biased by selection,
    and those of others by the shapes that are fitted: they only warn.
    """
    by_tractor = fitted is None and (rows["type"] != b"").all()  # other programs give no type
    obstacle = None if by_tractor else Obstacle.NOT_JUDGED
    recovery = Control("", "D2", "", Statistic.RECOVERY, "px", OFFSET, obstacle=obstacle)
    for axis in ("x", "y"):
        yield replace(recovery, name=f"fit minus truth, {axis}"), rows[f"truth_d{axis}"].astype(np.float64)
    recovery = replace(recovery, name="flux of fit over truth", hazard="D11", unit="ln")
    recovery = replace(recovery, threshold=FLUX, gravest=State.WARN)
    for band in spec.bands:
        truth, flux, ivar = (
            rows[f"{stem}_{band}"].astype(np.float64) for stem in ("truth_flux", "flux", "flux_ivar")
        )
        with np.errstate(all="ignore"):
            known = (truth * np.sqrt(ivar) > BRIGHT) & (flux > 0)
            values = np.log(np.where(known, flux, np.nan) / truth)
        yield replace(recovery, band=band), values


def _of_labels(rows: Array, label: Array, bricks: Array, fitted: Obstacle | None) -> Iterator[Question]:
    """Controls of where examples come from and stand: is the fraction of fakes the same everywhere?

    Where both classes are injections, each has runs of its own, as the user asked.
    """
    runs = np.char.add(np.char.add(rows["root"].astype("S6"), b"/"), rows["run"])
    control = Control("fitted type", "D10", "", Statistic.COMPOSITION, "", FRACTION, obstacle=fitted)
    yield control, rows["type"]
    # Every split numbers its shards from 1.
    shards = np.char.add(np.char.add(rows["split"], b"/"), rows["shard"].astype("S11"))
    both_injected = Obstacle.TWO_INJECTORS if np.isfinite(rows["truth_ra"][label == 0]).any() else None
    for name, hazard, keys, obstacle in (
        ("brick", "D18", bricks, None),
        ("run", "D9", runs, both_injected),
        ("shard", "D18", shards, None),
    ):
        yield Control(name, hazard, "", Statistic.ASSOCIATION, "", ASSOCIATION, obstacle=obstacle), keys
