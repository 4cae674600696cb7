"""The mock survey as a whole: its bricks, their objects, and the making of each brick.

A brick is one task and owns its files.  Every random number comes from a stream that belongs to the seed,
the brick and a purpose, so the result does not depend on how many processes share the work.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from obiwan.dplearn import __version__
from obiwan.dplearn.mock import bricks as mock_bricks
from obiwan.dplearn.mock import catalog, drawing, sky, writers
from obiwan.dplearn.mock.bricks import Brick, Conditions, Exposure, brick_stream
from obiwan.dplearn.mock.config import AREA, COLLISION_RADIUS, EDITION, PIXEL_SCALE, MockConfig, Plant
from obiwan.dplearn.running.executors import process_pool, progress_bar, run_all
from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.layouts import RELEASE, BrickRun, Root, layout_named

PROGRAM = "obiwan.dplearn.mock"
RECORD = "mock.json"


@dataclass(frozen=True)
class Task:
    """One brick to make: what real objects reach into it from its neighbours is known beforehand."""

    config: MockConfig
    outdir: Path
    brick: Brick
    conditions: Conditions
    plant: Plant
    real: Array
    neighbours: Array


def conditions_of(config: MockConfig, brick: Brick) -> Conditions:
    """Observing conditions of a brick."""
    rng = brick_stream(config.seed, brick.pointing.name, "conditions")
    return mock_bricks.draw_conditions(rng, brick.bands, config.seeing_scatter, config.depth_scatter)


def planted_in(config: MockConfig, brick: Brick) -> Plant:
    """The differences planted in a brick: in each of another strength, if they scatter."""
    if not config.plant_scatter:
        return config.plant
    deviate = brick_stream(config.seed, brick.pointing.name, "plant").standard_normal()
    return config.plant.times(1 + config.plant_scatter * float(deviate))


def real_objects(config: MockConfig, brick: Brick) -> Array:
    """Draw the real objects whose home is this brick, with their positions.

    The detectable ones keep a hard core; a fifth of the bricks also has one saturated star.
    """
    rng = brick_stream(config.seed, brick.name, "real")
    conditions = conditions_of(config, brick)
    expected = config.density * config.primary_area / AREA
    low, high = config.span
    pool = sky.draw_population(rng, int(2 * expected) + 50, brick.bands, conditions.transmission())
    bright = catalog.true_snr(pool, conditions) > catalog.DETECTION_SNR
    fraction = float(bright.mean())
    points = sky.hard_core_positions(rng, expected * fraction, low, high, sky.HARD_CORE / PIXEL_SCALE)
    loose = rng.uniform(low, high, (int(rng.poisson(expected * (1 - fraction))), 2))
    out = np.concatenate([pool[bright][: len(points)], pool[~bright][: len(loose)]])
    xy = np.concatenate([points[: int(bright.sum())], loose[: int((~bright).sum())]])
    out["x"], out["y"] = xy[:, 0], xy[:, 1]
    if rng.random() < 0.2 and len(out):
        flux = np.array([sky.SATURATED_STAR[band] for band in brick.bands]) * conditions.transmission()
        out["flux"][0], out["light_flux"][0], out["saturated"][0] = flux, flux, True
        for name in ("sersic", "shape_r", "e1", "e2", "light_sersic", "light_r"):
            out[name][0] = 0.0
    return _settle(out, brick, 0)


def _settle(objects: Array, brick: Brick, first_id: int) -> Array:
    """Fill in RA, Dec and ids, and drop what the curvature of the box puts outside it."""
    objects["ra"], objects["dec"] = brick.to_sky(objects["x"], objects["y"])
    objects = objects[brick.is_primary(objects["ra"], objects["dec"])]
    objects["id"] = first_id + np.arange(len(objects))
    return objects


def _exposures(task: Task) -> list[Exposure]:
    """Coverage of each band, with the cores of saturated stars."""
    brick, conditions = task.brick, task.conditions
    out = []
    for band, sigma, nobs in zip(brick.bands, conditions.sigma, conditions.nobs, strict=True):
        rng = brick_stream(task.config.seed, brick.name, "exposure", band)
        out.append(mock_bricks.draw_exposure(rng, brick.size, sigma, nobs))
        drawing.saturate(out[-1], np.concatenate([task.real, task.neighbours]))
    return out


def injections(config: MockConfig, task: Task, run: int) -> tuple[Array, Array]:
    """Draw the rows asked for in one run of one brick, and which of them collide.

    Returns
    -------
    tuple
        Objects with what is planted in their light, and the flags of those that are not injected.
    """
    rng = brick_stream(config.seed, task.brick.name, "injected", run)
    rows = sky.draw_population(rng, config.per_run, config.bands, task.conditions.transmission())
    low, high = config.span
    rows["x"], rows["y"] = rng.uniform(low, high, (2, len(rows)))
    rows = _settle(rows, task.brick, config.per_run * run)
    collided = sky.collisions(rows["x"], rows["y"], COLLISION_RADIUS / PIXEL_SCALE)
    return sky.plant_differences(rows, task.plant, config.bands), collided


def _trees(task: Task, run: int | None) -> list[BrickRun]:
    """Directories of the files of a run, in each layout asked for; None is the release."""
    if run is None:
        return [Root(0, task.outdir / "release", RELEASE).files(task.brick.name)]
    start = task.config.per_run * run
    folders = {
        "legacysim": ("injected", f"file0_rs{start}_skip0"),
        "obiwan": ("injected_obiwan", f"rs{start}"),
    }
    return [
        Root(0, task.outdir / folder, layout_named(name)).files(task.brick.name, run_name, obj="elg")
        for name, (folder, run_name) in folders.items()
        if task.config.layout in (name, "both")
    ]


def make_brick(task: Task) -> tuple[str, int, int]:
    """Draw and write one brick: the release and every run.

    Returns
    -------
    tuple
        Name, rows of the release catalogue, and injections over all runs.
    """
    config, brick, conditions = task.config, task.brick, task.conditions
    exposures = _exposures(task)
    real = np.concatenate([task.real, task.neighbours])
    runs = [injections(config, task, run) for run in range(config.runs)]
    for k in range(len(brick.bands)):
        _write_band(task, k, exposures[k], real, [rows[~collided] for rows, collided in runs])
    stars, found = real[real["saturated"]], catalog.detect(real, brick, conditions, exposures)
    release = catalog.catalogue(found, stars, brick)
    (tree,) = _trees(task, None)
    _write_catalogues(task, tree, release)
    cards = [*writers.brick_cards(brick), *writers.condition_cards(conditions)]
    rows = writers.truth_columns(task.real, brick, conditions)
    path = task.outdir / "truth" / brick.name[:3] / f"real-{brick.name}.fits"
    writers.write_table(path, rows, cards)
    for run, (rows, collided) in enumerate(runs):
        added = catalog.detect(rows[~collided], brick, conditions, exposures)
        catalogue = catalog.catalogue(np.concatenate([found, added]), stars, brick)
        asked = writers.truth_columns(rows, brick, conditions)
        yi, xi = (np.floor(rows[axis] + 0.5).astype(int) for axis in ("y", "x"))
        on_ccd = np.any([exposure.nobs[yi, xi] > 0 for exposure in exposures], axis=0)
        for tree in _trees(task, run):
            _write_catalogues(task, tree, catalogue)
            if tree.root.layout.name == "legacysim":
                writers.write_injected(
                    cast(Path, tree.truth), asked, collided, brick, conditions, config.seed
                )
            else:
                writers.write_simcat(cast(Path, tree.truth), asked, collided, on_ccd, brick)
    return brick.name, len(release), sum(int((~collided).sum()) for _, collided in runs)


def _write_band(task: Task, k: int, exposure: Exposure, real: Array, injected: list[Array]) -> None:
    """Draw and write one band: the release, then each run on the very same pixels and noise."""
    at = drawing.Observed(task.config.seed, task.brick, task.conditions, k)
    empty = drawing.empty_sky(brick_stream(at.seed, at.brick.name, "noise", at.name), exposure)
    release = drawing.add_objects(*empty, real, at, "release")
    (tree,) = _trees(task, None)
    writers.write_planes(tree.coadd, at.brick, at.name, *release)
    for run, rows in enumerate(injected):
        planes = drawing.add_objects(*release, rows, at, f"run {run}")
        for tree in _trees(task, run):
            writers.write_planes(tree.coadd, at.brick, at.name, *planes, tree.root.layout.name)


def _write_catalogues(task: Task, tree: BrickRun, catalogue: Array) -> None:
    """Write the tractor catalogue and the list of exposures."""
    writers.write_ccds(tree.ccds(), task.brick, task.conditions)
    writers.write_tractor(cast(Path, tree.tractor), catalogue, task.brick, tree.root.layout.name)


def _intruders(brick: Brick, others: Iterable[Array]) -> Array:
    """Return the neighbours' objects whose light reaches this brick's coadd, in its pixel frame."""
    found, half = [np.zeros(0, dtype=sky.object_dtype(brick.bands))], brick.size / 2
    for rows in others:
        moved = rows.copy()
        moved["x"], moved["y"] = brick.to_pixels(rows["ra"], rows["dec"])
        near = [np.abs(moved[axis] - half) < half + drawing.REACH for axis in ("x", "y")]
        found.append(moved[np.all(near, axis=0)])
    return np.concatenate(found)


def make_survey(config: MockConfig, outdir: Path, jobs: int = 1, progress: bool = False) -> tuple[int, int]:
    """Write a whole survey under ``outdir``, which must exist; the bytes do not depend on ``jobs``.

    Returns
    -------
    tuple of int
        Rows of the release catalogues, and injections.
    """
    bricks = mock_bricks.brick_grid(config)
    _write_record(config, outdir, complete=False)
    with (
        process_pool(jobs) as executor,
        progress_bar(len(bricks), "mock survey", "brick", disable=not progress) as bar,
    ):
        drawn = run_all(partial(real_objects, config), bricks, executor, bar, size=lambda _: 0)
        objects = dict(zip(bricks, drawn, strict=True))
        tasks = []
        for brick, own in objects.items():
            others = [rows for other, rows in objects.items() if other.is_beside(brick)]
            facts = conditions_of(config, brick), planted_in(config, brick)
            tasks.append(Task(config, outdir, brick, *facts, own, _intruders(brick, others)))
        made = run_all(make_brick, tasks, executor, bar)
    (outdir / "bricks.txt").write_text("".join(f"{brick.name}\n" for brick in bricks))
    _write_record(config, outdir, complete=True)
    return sum(rows for _, rows, _ in made), sum(fakes for _, _, fakes in made)


def _write_record(config: MockConfig, outdir: Path, *, complete: bool) -> None:
    """Write mock.json: first as the mark of a mock survey in the making, at the end as its record."""
    record = {"program": PROGRAM, "version": __version__, "edition": EDITION, "complete": complete}
    record["config"] = asdict(config)
    (outdir / RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
