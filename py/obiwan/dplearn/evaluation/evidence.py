"""What stands behind a verdict, gathered from a training set and trained networks.

`obiwan.dplearn.evaluation.analysis` makes numbers of scores; here shards are read, networks are asked and
trained again.
"""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from obiwan.dplearn import __version__
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.trainingset.stampset import StampSet

if TYPE_CHECKING:
    from obiwan.dplearn.evaluation.ensemble import Member
    from obiwan.dplearn.evaluation.notices import Fact
    from obiwan.dplearn.evaluation.occlusion import Occlusion
    from obiwan.dplearn.evaluation.records import Scored
    from obiwan.dplearn.referees.testlog import Ledger
    from obiwan.dplearn.retraining.ablations import AblationResult
    from obiwan.dplearn.retraining.sensitivity import SensitivityResult
    from obiwan.dplearn.stampspec import StampSpec
    from obiwan.dplearn.survey.differences import Difference

CONTROL_EXAMPLES = 50_000  #: that the controls are run on, at most but for the test split
OCCLUSION_EXAMPLES = 400  #: of the test split, half of each class
LEAST_TEST = 2  #: test examples of each class without which there is no variance
SOFTWARE = (
    *(
        "numpy",
        "scipy",
        "astropy",
        "fitsio",
        "scikit-learn",
        "keras",
        "tensorflow",
        "tensorflow-cpu",
        "torch",
    ),
    *("jax", "matplotlib", "jinja2", "galsim"),
)

log = logging.getLogger(__name__)


def software() -> dict[str, str]:
    """Versions of what the numbers rest on."""
    found = {"obiwan.dplearn": __version__, "python": platform.python_version()}
    for name in SOFTWARE:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if "keras" in sys.modules:
        found["keras backend"] = str(sys.modules["keras"].config.backend())
    return found


def data_summary(training_set: StampSet) -> dict[str, Any]:
    """What a report says of a training set."""
    manifest = training_set.manifest
    counts = {}
    for split in ("train", "val", "test"):
        real, fake = training_set.count(split)
        bricks = len(np.unique(training_set.rows(split)["brick"]))
        counts[split] = {"real": real, "fake": fake, "bricks": bricks}
    return {
        "checksum": training_set.checksum,
        "package_version": str(manifest.get("package_version", "unknown")),
        "counts": counts,
        "config": manifest.get("config") or {},
        "roots": manifest.get("roots") or [],
        "cut_flow": manifest.get("cut_flow") or {},
        "writers": manifest.get("writers") or {},
    }


def control_set(training_set: StampSet) -> tuple[Array, Array, Array]:
    """Rows and measurements of what the controls are run on, and which of them are the test examples.

    Controls learn nothing, so training examples serve as well as others: the test split first, then
    validation and training shards up to `CONTROL_EXAMPLES`.
    """
    from obiwan.dplearn.controls.measure import measure_split

    room, rows, measured = CONTROL_EXAMPLES, [], []
    for split in ("test", "val", "train"):
        shards = []
        for shard in training_set.split(split):
            if split == "test" or shard.rows <= room:
                shards.append(shard)
                room -= shard.rows
        part = training_set.only(shards)
        rows.append(part.rows(split))
        measured.append(measure_split(part, split))
    in_test = np.arange(sum(map(len, rows))) < len(rows[0])
    return np.concatenate(rows), np.concatenate(measured), in_test


def ledger(
    training_set: StampSet, members: Sequence[Member], margin: float, ablations: Sequence[str]
) -> Ledger | None:
    """Who has seen the test split, this evaluation and what was trained again for it counted."""
    from obiwan.dplearn.referees.testlog import record_report, record_retraining
    from obiwan.dplearn.retraining.ablations import A_A

    for name in ablations:
        if name not in A_A:  # whose labels are not those of real and fake
            record_retraining(training_set, members[0].info.checksum, name)
    return record_report(training_set, [member.info.checksum for member in members], margin)


def _some_stamps(training_set: StampSet, scored: Scored, count: int, seed: int) -> tuple[Array, Array]:
    """Numbers and cutouts of some test examples, drawn at random, at most half of `count` of each class."""
    rng = np.random.default_rng([seed, 40])
    drawn = [rng.permutation(np.flatnonzero(scored.labels == value))[: count // 2] for value in (0, 1)]
    chosen = np.sort(np.concatenate(drawn))
    return chosen, training_set.stamps("test", chosen)


def occlusion(training_set: StampSet, member: Member, scored: Scored, seed: int) -> Occlusion:
    """What the first network tells by parts of the stamp, on some test examples."""
    from obiwan.dplearn.evaluation.occlusion import occlude

    chosen, stamps = _some_stamps(training_set, scored, OCCLUSION_EXAMPLES, seed)
    log.info("occlusion: what %s tells by parts of %d test examples", member.info.name, len(chosen))
    rows = scored.rows[chosen]
    return occlude(member.referee.predict, stamps, rows, training_set.spec, seed=seed)


def mock_behind(mock: Path | None, training_set: StampSet) -> tuple[float | None, tuple[Fact, ...]]:
    """The offset (pixels) planted in a mock survey, None where there is no curve for it; and notices.

    Raises
    ------
    TrainingSetError
        If there is no such survey, or the training set was not cut from it.
    """
    from obiwan.dplearn.evaluation.ideal import check_same_survey, plant_of, planted_in
    from obiwan.dplearn.evaluation.notices import of_mock

    if mock is None:
        return None, ()
    plant = plant_of(mock)
    rows = training_set.rows("test")
    first = np.flatnonzero(rows["label"] == 1)[:1]
    stamp = training_set.stamps("test", first)[0]
    planted = planted_in(plant)
    facts = of_mock(planted, checked=check_same_survey(mock, rows[first[0]], stamp, training_set.spec))
    return (plant.offset if planted == ("offset",) else None), facts


def ideal_curve(
    training_set: StampSet, scored: Scored, signal_to_noise: Array, offset: float, seed: int
) -> tuple[Array, Array]:
    """Signal to noise and AUC of the ideal observer of an offset, from some test examples."""
    from obiwan.dplearn.evaluation.ideal import EXAMPLES, offset_curve

    chosen, stamps = _some_stamps(training_set, scored, EXAMPLES, seed)
    log.info("ideal observer: rendering %d test examples", len(chosen))
    return offset_curve(offset, scored.rows[chosen], stamps, signal_to_noise[chosen], training_set.spec)


def ablations_asked(asked: Sequence[str] | None, spec: StampSpec) -> tuple[str, ...]:
    """The ablations that ``--ablations`` means: none without it, all where it names none."""
    from obiwan.dplearn.retraining.ablations import check_names, names

    check_names(asked or (), spec)
    return () if asked is None else tuple(asked or names(spec))


def retrained(
    training_set: StampSet,
    model: Path,
    outdir: Path,
    ablations: Sequence[str],
    planted: Sequence[Difference],
    *,
    overwrite: bool = False,
) -> tuple[tuple[AblationResult, ...], tuple[SensitivityResult, ...]]:
    """Results of ablations and of planted differences; what is finished in `outdir` is not trained again.

    Parameters
    ----------
    training_set : StampSet
    model : Path
        Whose network and settings are used.
    outdir : Path
    ablations : sequence of str
    planted : sequence of Difference
    overwrite : bool
        Replace what is there of another network or training set; else that is an error.
    """
    from obiwan.dplearn.retraining.ablations import run_ablation
    from obiwan.dplearn.retraining.runs import run_config_of
    from obiwan.dplearn.retraining.sensitivity import run_sensitivity

    if not ablations and not planted:
        return (), ()
    config = run_config_of(model)
    return (
        tuple(run_ablation(name, training_set, config, outdir, overwrite=overwrite) for name in ablations),
        tuple(
            run_sensitivity(difference, training_set, config, outdir, overwrite=overwrite)
            for difference in planted
        ),
    )


def check_set(training_set: StampSet) -> None:
    """Every split must hold both classes, and the test split two of each, or there is no interval.

    Raises
    ------
    TrainingSetError
    """
    from obiwan.dplearn.training.batches import check_splits

    check_splits(training_set)
    real, fake = training_set.count("test")
    if min(real, fake) < LEAST_TEST:
        msg = (
            f"{training_set.directory}: {real} real and {fake} fake test examples; {LEAST_TEST} of each are "
            "needed for an interval: make a set with more bricks"
        )
        raise TrainingSetError(msg)
