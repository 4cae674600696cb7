"""Measured stamps: the galaxy fit of each, what it leaves, and the numbers that referees are given.

One measurement serves all referees that rest on numbers; it sees pixels and what both catalogues say of the
PSF, never a label.  Where one class has no PSF widths, neither class has the prior.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from obiwan.dplearn.controls.measure import measure_stamps
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.galaxyfit.fits import ARRAYS, StampFits, fit_stamps, residual_images
from obiwan.dplearn.referees.population import Population, fit_population
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.trainingset.shardwise import on_shards
from obiwan.dplearn.trainingset.stampset import Stamps, StampSet
from obiwan.dplearn.trainingset.visibility import psf_columns, psf_widths

MOST = 1000.0  #: of a residual image, either way
METHOD = 1  #: of measurement and of the numbers made of it: kept files of another one are made again
_NAMES = ("names", "statistic_names")
LEAST_SIZE = 16  #: pixels on a side


@dataclass(frozen=True)
class Measured:
    """Measurements of n stamps.

    Attributes
    ----------
    fits : StampFits
        The galaxy fits.
    light : structured ndarray, shape (n,)
        Numbers of `obiwan.dplearn.controls.measure`.
    prior : tuple of str
        Columns of PSF widths that were the centre of the fit's prior.
    residuals : ndarray of float16, shape (n, side, side, bands, 4), or None
        `obiwan.dplearn.galaxyfit.fits.residual_images`, where a referee needs them.
    """

    fits: StampFits
    light: Array
    prior: tuple[str, ...] = ()
    residuals: Array | None = None

    def __len__(self) -> int:
        """Number of stamps."""
        return len(self.light)

    @cached_property
    def population(self) -> Population:
        """The population that the fits come from, found without labels."""
        fits = self.fits
        fluxes = tuple(i for i, name in enumerate(fits.names) if name.startswith("flux_"))
        size = fits.names.index("ln_size")
        return fit_population(fits.values, fits.information, fits.gradient, fluxes, size)

    def take(self, chosen: Array) -> Measured:
        """Some of the stamps."""
        residuals = None if self.residuals is None else self.residuals[chosen]
        return Measured(self.fits.take(chosen), self.light[chosen], self.prior, residuals)

    def without_residuals(self) -> Measured:
        """The same without residual images."""
        return replace(self, residuals=None)


def concatenate(parts: Sequence[Measured]) -> Measured:
    """Measurements of several lots of stamps of one kind, in order."""
    residuals = [part.residuals for part in parts if part.residuals is not None]
    return Measured(
        StampFits.concatenate([part.fits for part in parts]),
        np.concatenate([part.light for part in parts]),
        parts[0].prior,
        np.concatenate(residuals) if len(residuals) == len(parts) else None,
    )


def measure(
    stamps: Stamps,
    rows: Array,
    spec: StampSpec,
    *,
    prior: tuple[str, ...] | None = None,
    residuals: bool = False,
) -> Measured:
    """Measure stamps.

    Parameters
    ----------
    stamps : ndarray of float32, shape (n, size, size, channels)
    rows : structured ndarray, shape (n,)
        As referees see them; the position in the pixel and the PSF widths are used.
    spec : StampSpec
    prior : tuple of str, optional
        Columns of PSF widths that may be used; by default all that the rows have.
    residuals : bool
        Keep the residual images, too: 20 kB a stamp of three bands.
    """
    known = psf_columns(rows.dtype.names or (), spec)
    prior = tuple(name for name in known if prior is None or name in prior)
    fits = fit_stamps(stamps, spec, psf_widths(rows, prior, spec))
    images = None
    if residuals:  # a saturated pixel is beyond the range of float16
        images = np.clip(residual_images(stamps, fits), -MOST, MOST).astype(np.float16)
    return Measured(fits, measure_stamps(stamps, rows, spec), prior, images)


def measure_set(
    stamp_set: StampSet,
    split: str,
    executor: Executor | None = None,
    *,
    residuals: bool = False,
    store: Path | None = None,
) -> Measured:
    """Measure every stamp of a split.

    Parameters
    ----------
    stamp_set : StampSet
    split : str
        ``train``, ``val`` or ``test``.
    executor : Executor, optional
        Workers that share the shards; this process by default.
    residuals : bool
        Keep the residual images, too.
    store : Path, optional
        Directory in which the measurements are kept, and found when they are asked for again.

    Returns
    -------
    Measured
        In the order of `StampSet.rows`.

    Raises
    ------
    TrainingSetError
        If a shard or the example table cannot be read.
    """
    path = None if store is None else store / f"{split}.npz"
    rows = stamp_set.visible(split)
    prior = psf_columns(rows.dtype.names or (), stamp_set.spec)
    key = " ".join([stamp_set.checksum, split, str(METHOD), *prior])
    if path is not None and (found := _read(path, key, stamp_set.spec, residuals=residuals)) is not None:
        return found
    work = partial(measure, spec=stamp_set.spec, residuals=residuals)
    parts = on_shards(work, stamp_set, split, rows, executor, "fit")
    found = concatenate([part for _, part in parts])
    if path is not None:
        _write(path, key, found)
    return found


def _write(path: Path, key: str, measured: Measured) -> None:
    """Keep measurements in a file."""
    fits = measured.fits
    arrays: dict[str, Any] = {name: getattr(fits, name) for name in ARRAYS}
    arrays |= {name: np.array(getattr(fits, name)) for name in _NAMES}
    arrays["prior"] = np.array(measured.prior, np.str_)
    if measured.residuals is not None:
        arrays["residuals"] = measured.residuals
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as beside:
        np.savez(beside, key=np.array(key), light=measured.light, **arrays)


def _read(path: Path, key: str, spec: StampSpec, *, residuals: bool) -> Measured | None:
    """Measurements that were kept; None where there are none of this key, or no residuals that are needed."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            if str(file["key"]) != key or (residuals and "residuals" not in file):
                return None
            names: dict[str, Any] = {name: tuple(file[name].tolist()) for name in _NAMES}
            fits = StampFits(spec=spec, **names, **{name: file[name] for name in ARRAYS})
            prior = tuple(file["prior"].tolist())
            return Measured(fits, file["light"], prior, file["residuals"] if residuals else None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # what is damaged is measured again


def check_measurable(spec: StampSpec) -> None:
    """Refuse stamps that are too small to be measured.

    Raises
    ------
    TrainingSetError
    """
    if spec.size < LEAST_SIZE:
        msg = f"stamps of {spec.size} px: a galaxy fit takes {LEAST_SIZE}; use --referees network alone"
        raise TrainingSetError(msg)
