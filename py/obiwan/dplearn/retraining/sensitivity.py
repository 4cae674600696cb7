"""Sensitivity test: known differences planted in one half of a training set, and found again or not.

All examples get labels drawn at random within brick and class, so that nothing distinguishes the halves; then
a known difference is planted in one half (`obiwan.dplearn.retraining.planting`), and the same network is
trained with the same settings on the result.  "Equivalent" rests on the smallest amplitude that it detects.
"""

from __future__ import annotations

import math
import os
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.retraining.planting import galaxies_known, galaxy_of, plant_in, planted
from obiwan.dplearn.retraining.runs import Retrained, directory_name, retrain
from obiwan.dplearn.running.executors import process_pool, progress_bar, run_all
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.differences import Difference
from obiwan.dplearn.trainingset.stampset import Labels, Stamps, StampSet
from obiwan.dplearn.trainingset.views import Key, by_shard, halves, with_choice

if TYPE_CHECKING:
    from obiwan.dplearn.training.settings import RunConfig

ADDED = "added"  #: directory of the renderings while they are needed
MANY = 5000  #: renderings that are worth starting processes for


@dataclass(frozen=True)
class SensitivityResult(Retrained):
    """What the network made of one planted difference: a `Retrained`, label 1 the changed half.

    Attributes
    ----------
    kind : str
        One of `obiwan.dplearn.survey.differences.LIGHT`.
    amplitude : float
        In the kind's unit.
    detected : bool
        Whether the lower end of the interval is above 0.5.
    left_out : int
        Examples of the whole set whose model is not known (`planting.galaxies_known`), in neither half.
    """

    kind: str
    amplitude: float
    detected: bool
    left_out: int

    @property
    def difference(self) -> Difference:
        """What was planted."""
        return Difference(self.kind, self.amplitude)

    @property
    def power(self) -> float:
        """Power of a test of this size for such a difference, were the measured AUC the true one.

        A difference at the detection limit has 50 % power.
        """
        edge = float(norm.ppf(0.975))
        error = max((self.auc.high - self.auc.low) / (2 * edge), 1e-12)
        return float(norm.cdf((self.auc.value - 0.5) / error - edge))


@dataclass(frozen=True)
class SensitivitySummary:
    """Summary of the sensitivity test.

    Attributes
    ----------
    results : tuple of SensitivityResult
        One of each kind: the smallest amplitude that was detected or, where none was, the strongest.
    """

    results: tuple[SensitivityResult, ...]

    @property
    def detected(self) -> bool:
        """Whether of every kind that was planted the strongest amplitude was detected."""
        return bool(self.results) and all(result.detected for result in self.results)

    @property
    def weakest(self) -> float:
        """AUC of the weakest difference that was detected, of any kind; NaN where none was."""
        return min((result.auc.value for result in self.results if result.detected), default=math.nan)

    @property
    def left_out(self) -> int:
        """Examples in neither half, whose model is not known."""
        return max((result.left_out for result in self.results), default=0)


@dataclass(frozen=True)
class Plan:
    """Who is in which half.

    Attributes
    ----------
    rows : ndarray of `example_dtype`, shape (n,)
        Examples whose model is known, sorted by split and shard.
    label : ndarray of uint8, shape (n,)
        1 for the half that is changed.
    left_out : int
        Examples whose model is not known.
    spec : StampSpec
    """

    rows: Array
    label: Labels
    left_out: int
    spec: StampSpec

    def changed(self) -> dict[Key, Array]:
        """For each shard, the examples that get the difference."""
        return {key: self.rows[part][self.label[part] == 1] for key, part in by_shard(self.rows).items()}

    @property
    def checksum(self) -> str:
        """A name for who is changed, and for the models of these: eight hex digits."""
        return f"{zlib.crc32(self.rows[self.label == 1].tobytes()):08x}"


def make_plan(training_set: StampSet, seed: int) -> Plan:
    """Draw the halves; they are the same for every difference.

    Raises
    ------
    TrainingSetError
        If ``sources.fits`` is not there, or of no example the model is known.
    """
    rows = training_set.examples()
    known = galaxies_known(rows, training_set.spec)
    if not known.any():
        msg = (
            f"{training_set.directory}: no example has a fitted flux, shape and PSF width (psfsize), so "
            "nothing can be planted; make the set from catalogues that have them"
        )
        raise TrainingSetError(msg)
    left_out = int(np.count_nonzero(~known))
    return Plan(rows[known], halves(rows[known], seed), left_out, training_set.spec)


def check_planted(differences: Sequence[Difference], spec: StampSpec) -> None:
    """Refuse differences that such stamps cannot have.

    Raises
    ------
    TrainingSetError
    """
    instead = {"colour": "a flux", "band_offset": "an offset"}
    found = [one.kind for one in differences if one.kind in instead and len(spec.bands) == 1]
    if found:
        msg = (
            f"--sensitivity {found[0]}: stamps of one band, {spec.bands[0]}, have none between bands; "
            f"plant {instead[found[0]]}"
        )
        raise TrainingSetError(msg)


def _shape(spec: StampSpec) -> tuple[int, int, int]:
    """Shape of an addition."""
    return (spec.size, spec.size, len(spec.bands))


def _render_shard(task: tuple[Path, Array], difference: Difference, spec: StampSpec) -> None:
    """Write the additions of a shard, whole or not at all."""
    path, rows = task
    out = np.empty((len(rows), *_shape(spec)), np.float32)
    for image, row in zip(out, rows, strict=True):
        image[...] = planted(galaxy_of(row, spec), difference, spec)
    with atomic_write(path) as beside:
        np.save(beside, out)


def _readable(path: Path, count: int, spec: StampSpec) -> bool:
    """Whether a file of additions is there, whole and of the right number."""
    try:
        return bool(np.load(path, mmap_mode="r").shape == (count, *_shape(spec)))
    except (OSError, ValueError, EOFError):
        return False


def _addition(directory: Path, key: Key) -> Path:
    return directory / f"{key[0]}_{key[1]}.npy"


def render_additions(
    plan: Plan, difference: Difference, directory: Path, *, jobs: int | None = None, quiet: bool = False
) -> None:
    """Render what is added to each shard into a directory; what is there is not rendered again.

    Parameters
    ----------
    plan : Plan
    difference : Difference
    directory : Path
        One file for each shard, ``<split>_<number>.npy``: float32, shape (changed rows, size, size, bands).
    jobs : int, optional
        Processes; by default as many as there are processors, but one if there are few examples.
    quiet : bool
        No progress bar.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tasks = [(_addition(directory, key), rows) for key, rows in plan.changed().items()]
    todo = [(path, rows) for path, rows in tasks if not _readable(path, len(rows), plan.spec)]
    work = partial(_render_shard, difference=difference, spec=plan.spec)
    sizes = [len(rows) for _, rows in todo]
    if jobs is None:
        jobs = len(os.sched_getaffinity(0)) if sum(sizes) > MANY else 1
    with (
        process_pool(max(1, min(jobs, len(todo)))) as executor,
        progress_bar(sum(sizes), f"planting {difference}", "galaxy", disable=quiet) as bar,
    ):
        run_all(work, todo, executor, bar, size=sizes.__getitem__)


def planted_set(training_set: StampSet, plan: Plan, difference: Difference, directory: Path) -> StampSet:
    """The training set with the difference in the half of label 1, from renderings in a directory."""
    place = by_shard(plan.rows)

    def change(key: Key, x: Stamps) -> Stamps:
        return plant_in(x, plan.label[place[key]] == 1, np.load(_addition(directory, key)), plan.spec)

    return with_choice(training_set, f"{difference} {plan.checksum}", plan.rows, plan.label, change)


def run_sensitivity(
    difference: Difference,
    training_set: StampSet,
    config: RunConfig,
    outdir: Path,
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> SensitivityResult:
    """Plant a difference, train the same network with the same settings on it, and score the test split.

    Parameters
    ----------
    difference : Difference
        From `obiwan.dplearn.survey.differences.parse_amplitudes`.
    training_set : StampSet
        That of the run.
    config : RunConfig
        That of the run (`retraining.run_config_of`), whose seed also draws the halves.
    outdir : Path
        Work goes on, or its result is found, in ``outdir/sensitivity/<kind>_<amplitude>``.
    overwrite : bool
        Replace there what is of another run or training set; else that is an error.
    quiet : bool
        No progress bars.

    Raises
    ------
    TrainingSetError
        If nothing can be planted, or too little is left to train on.
    ModelError
        As for `retraining.retrain`.
    """
    plan = make_plan(training_set, config.feed.seed)
    place = outdir / "sensitivity" / directory_name([difference.kind, f"{difference.amplitude:g}"])
    added = place / f"{ADDED}_{plan.checksum}"  # what was left of other halves is of no use
    edited = planted_set(training_set, plan, difference, added)
    render, name = partial(render_additions, plan, difference, added, quiet=quiet), f"planted {difference}"
    found = retrain(edited, config, place, name=name, before=render, overwrite=overwrite, quiet=quiet)
    for useless in place.glob(f"{ADDED}_*"):  # a quarter of the set's size, and the result is written
        shutil.rmtree(useless, ignore_errors=True)
    detected, left_out = found.auc.low > 0.5, plan.left_out
    return SensitivityResult(**vars(found), **vars(difference), detected=detected, left_out=left_out)


def smallest_detected(results: Sequence[SensitivityResult]) -> SensitivityResult | None:
    """The weakest of one kind's differences that was detected with all stronger ones; None if none was."""
    found = None
    for result in sorted(results, key=lambda r: -r.difference.strength):
        if not result.detected:
            break
        found = result
    return found


def summarise(results: Sequence[SensitivityResult]) -> SensitivitySummary:
    """For each kind, in the order of the results, the smallest amplitude that was detected."""
    chosen = []
    for kind in dict.fromkeys(result.kind for result in results):
        tried = [result for result in results if result.kind == kind]
        chosen.append(smallest_detected(tried) or max(tried, key=lambda r: r.difference.strength))
    return SensitivitySummary(tuple(chosen))
