"""The mock survey as a whole: its configuration, and the making of each brick.

A brick is one task and owns its files.  Every random number comes from a stream that belongs to the seed,
the brick and a purpose, so the result does not depend on how many processes share the work.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn import __version__
from obiwan.dplearn.mock import catalog, sky, writers
from obiwan.dplearn.mock import truth as truths
from obiwan.dplearn.mock.bricks import (
    Brick,
    Conditions,
    Exposure,
    brick_grid,
    brick_stream,
    draw_conditions,
    draw_exposure,
)
from obiwan.dplearn.mock.config import AREA, COLLISION_RADIUS, PIXEL_SCALE, MockConfig
from obiwan.dplearn.running.executors import process_pool, progress_bar, run_all

PROGRAM = "obiwan.dplearn.mock"
RECORD = "mock.json"


@dataclass(frozen=True)
class Task:
    """One brick to make: what real objects reach into it from its neighbours is known beforehand."""

    config: MockConfig
    outdir: Path
    brick: Brick
    conditions: Conditions
    real: NDArray[np.void]
    neighbours: NDArray[np.void]


def conditions_of(config: MockConfig, brick: Brick) -> Conditions:
    """How a brick was observed."""
    return draw_conditions(brick_stream(config.seed, brick.name, "conditions"), brick.bands)


def real_objects(config: MockConfig, brick: Brick) -> NDArray[np.void]:
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


def _settle(objects: NDArray[np.void], brick: Brick, first_id: int) -> NDArray[np.void]:
    """Fill in RA, Dec and ids, and drop what the curvature of the box puts outside it."""
    objects["ra"], objects["dec"] = brick.to_sky(objects["x"], objects["y"])
    objects = objects[brick.is_primary(objects["ra"], objects["dec"])]
    objects["id"] = first_id + np.arange(len(objects))
    return objects


def _exposures(config: MockConfig, brick: Brick, conditions: Conditions) -> list[Exposure]:
    return [
        draw_exposure(
            brick_stream(config.seed, brick.name, "exposure", band),
            brick.size,
            conditions.sigma[k],
            conditions.nobs[k],
        )
        for k, band in enumerate(brick.bands)
    ]


def injections(config: MockConfig, task: Task, run: int) -> tuple[NDArray[np.void], NDArray[np.bool_]]:
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
    return sky.plant_differences(rows, config.plant), collided


def make_brick(task: Task) -> tuple[str, int, int]:
    """Draw and write one brick: the release and every run.

    Returns
    -------
    tuple
        Name, rows of the release catalogue, and injections over all runs.
    """
    config, brick = task.config, task.brick
    exposures = _exposures(config, brick, task.conditions)
    real = np.concatenate([task.real, task.neighbours])
    for exposure in exposures:
        sky.saturate(exposure, real)
    runs = [injections(config, task, run) for run in range(config.runs)]
    for k in range(len(brick.bands)):
        _write_band(task, k, exposures[k], real, [rows[~collided] for rows, collided in runs])
    release = catalog.measure(real, brick, task.conditions, exposures)
    root = task.outdir / "release"
    writers.write_tractor(root / "tractor" / brick.name[:3] / f"tractor-{brick.name}.fits", release, brick)
    _write_ccds(root / "coadd" / brick.name[:3] / brick.name, task)
    truth = truths.truth_columns(task.real, brick, task.conditions)
    writers.write_table(
        task.outdir / "truth" / brick.name[:3] / f"real-{brick.name}.fits",
        truth,
        [*writers.brick_cards(brick, "dr9", False), *truths.condition_cards(task.conditions)],
    )
    for run, (rows, collided) in enumerate(runs):
        catalogue = catalog.measure(
            np.concatenate([real, rows[~collided]]), brick, task.conditions, exposures
        )
        _write_run(task, run, rows, collided, catalogue, exposures)
    return brick.name, len(release), sum(int((~collided).sum()) for _, collided in runs)


def _write_band(
    task: Task, k: int, exposure: Exposure, real: NDArray[np.void], injected: list[NDArray[np.void]]
) -> None:
    """Draw and write one band: the release, then each run on the very same pixels and noise."""
    config, brick, conditions = task.config, task.brick, task.conditions
    fwhm, gain, band = conditions.fwhm[k], conditions.gain[k], brick.bands[k]
    light = np.zeros((brick.size, brick.size), dtype=np.float32)
    sky.add_light(light, real, k, fwhm)
    image = sky.noisy_image(brick_stream(config.seed, brick.name, "noise", band), light, exposure, gain)
    folder = task.outdir / "release" / "coadd" / brick.name[:3] / brick.name
    writers.write_planes(folder, brick, band, image, sky.inverse_variance(light, exposure, gain))
    for run, rows in enumerate(injected):
        added = np.zeros_like(light)
        sky.add_light(added, rows, k, fwhm)
        rng = brick_stream(config.seed, brick.name, "shot", band, run)
        noise = np.sqrt(sky.shot_variance(added, exposure, gain))
        noise *= rng.standard_normal(added.shape, dtype=np.float32) * np.float32(
            1 - config.plant.no_shot_noise
        )
        invvar = sky.inverse_variance(light + added, exposure, gain)
        if config.plant.ivar_dip:
            sky.dip(invvar, rows, config.plant.ivar_dip, fwhm)
        total = sky.blank(image + added + noise, exposure)
        for root, era in _roots(task, run):
            writers.write_planes(_coadd(root, brick, era), brick, band, total, invvar, era, simulated=True)


def _roots(task: Task, run: int) -> list[tuple[Path, str]]:
    """Directories in which a run is written, each with its era; `_coadd` knows the rest."""
    start = task.config.per_run * run
    out = []
    if task.config.layout in ("legacysim", "both"):
        out.append((task.outdir / "injected" / f"file0_rs{start}_skip0", "dr9"))
    if task.config.layout in ("obiwan", "both"):
        out.append((task.outdir / "injected_obiwan" / f"rs{start}", "dr5"))
    return out


def _coadd(root: Path, brick: Brick, era: str) -> Path:
    if era == "dr9":
        return root / "coadd" / brick.name[:3] / brick.name
    return root.parent / "coadd" / brick.name[:3] / brick.name / root.name


def _write_ccds(folder: Path, task: Task) -> None:
    writers.write_ccds(folder / f"legacysurvey-{task.brick.name}-ccds.fits", task.brick, task.conditions)


def _write_run(
    task: Task,
    run: int,
    rows: NDArray[np.void],
    collided: NDArray[np.bool_],
    catalogue: NDArray[np.void],
    exposures: list[Exposure],
) -> None:
    """Write the catalogues of one run in each layout asked for."""
    brick, name = task.brick, task.brick.name
    truth = truths.truth_columns(rows, brick, task.conditions)
    yi, xi = (np.floor(rows[c] + 0.5).astype(int) for c in ("y", "x"))
    on_ccd = np.any([e.nobs[yi, xi] > 0 for e in exposures], axis=0)
    for root, era in _roots(task, run):
        _write_ccds(_coadd(root, brick, era), task)
        if era == "dr9":
            tractor = root / "tractor" / name[:3]
            sim = root / "sim" / name[:3] / f"injected-{name}.fits"
            truths.write_injected(sim, truth, collided, brick, task.conditions, task.config.seed)
        else:
            tractor = root.parent / "tractor" / name[:3] / name / root.name
            truths.write_simcat(
                root.parent / "obiwan" / name[:3] / name / root.name, truth, collided, on_ccd, brick
            )
        writers.write_tractor(tractor / f"tractor-{name}.fits", catalogue, brick, era, simulated=True)


def _intruders(brick: Brick, others: Iterable[NDArray[np.void]]) -> NDArray[np.void]:
    """Return the neighbours' objects whose light reaches this brick's coadd, in its pixel frame."""
    found = [np.zeros(0, dtype=sky.object_dtype(brick.bands))]
    for rows in others:
        moved = rows.copy()
        moved["x"], moved["y"] = brick.to_pixels(rows["ra"], rows["dec"])
        reach = np.where(rows["saturated"], sky.DRAWN_SATURATED, sky.DRAWN) / 2
        near = (np.abs(moved["x"] - brick.size / 2) < brick.size / 2 + reach) & (
            np.abs(moved["y"] - brick.size / 2) < brick.size / 2 + reach
        )
        found.append(moved[near])
    return np.concatenate(found)


def make_survey(config: MockConfig, outdir: Path, jobs: int = 1, progress: bool = False) -> tuple[int, int]:
    """Write a whole survey under ``outdir``, which must exist; the bytes do not depend on ``jobs``.

    Returns
    -------
    tuple of int
        Rows of the release catalogues, and injections.
    """
    bricks = brick_grid(config)
    _write_record(config, outdir, complete=False)
    with (
        process_pool(jobs) as executor,
        progress_bar(len(bricks), "mock survey", "brick", disable=not progress) as bar,
    ):
        objects = run_all(_draw_real, [(config, brick) for brick in bricks], executor, bar, size=lambda _: 0)
        tasks = []
        for brick, own in zip(bricks, objects, strict=True):
            others = [
                r
                for b, r in zip(bricks, objects, strict=True)
                if b != brick and abs(b.row - brick.row) <= 1 and abs(b.col - brick.col) <= 1
            ]
            conditions = conditions_of(config, brick)
            tasks.append(Task(config, outdir, brick, conditions, own, _intruders(brick, others)))
        made = run_all(make_brick, tasks, executor, bar)
    (outdir / "bricks.txt").write_text("".join(f"{brick.name}\n" for brick in bricks))
    _write_record(config, outdir, complete=True)
    return sum(rows for _, rows, _ in made), sum(fakes for _, _, fakes in made)


def _write_record(config: MockConfig, outdir: Path, *, complete: bool) -> None:
    """Write mock.json: first as the mark of a mock survey in the making, at the end as its record."""
    record = {"program": PROGRAM, "version": __version__, "complete": complete, "config": asdict(config)}
    (outdir / RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def _draw_real(argument: tuple[MockConfig, Brick]) -> NDArray[np.void]:
    return real_objects(*argument)
