"""Injection into one brick: its planes read once, every run's sources painted, its files written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.wcs.utils import proj_plane_pixel_scales

from obiwan.dplearn.files.atomic import atomic_write, read_json, write_json
from obiwan.dplearn.files.outdir import holding_lease
from obiwan.dplearn.injection.coadds import copy_products, write_plane, write_truth
from obiwan.dplearn.injection.config import InjectionConfig
from obiwan.dplearn.injection.exposures import read_exposures
from obiwan.dplearn.injection.inputs import checksum
from obiwan.dplearn.injection.models import model_named
from obiwan.dplearn.injection.painting import Band, balance_of, paint
from obiwan.dplearn.injection.psf import PsfRequest, choose_psf
from obiwan.dplearn.injection.scene import Scene, open_scene
from obiwan.dplearn.injection.sources import SourceList
from obiwan.dplearn.survey.coadds import BandNotObservedError, read_plane
from obiwan.dplearn.survey.layouts import BrickRun, Root

Catalogue = Callable[[BrickRun, Scene, Path], int]  #: writes the catalogue of a run to a path; its rows


@dataclass(frozen=True)
class BrickTask:
    """One brick of a release to inject into.

    Attributes
    ----------
    release : BrickRun
    sources : SourceList
    config : InjectionConfig
    calib : Path or None
        Directory of calibrations.
    root : Root
        Tree that is written.
    scratch : Path
        Directory in which files are written before they get their names.
    receipt : Path
        What was done, written last.
    """

    release: BrickRun
    sources: SourceList
    config: InjectionConfig
    calib: Path | None
    root: Root
    scratch: Path
    receipt: Path

    def checksum(self) -> int:
        """`obiwan.dplearn.injection.inputs.checksum` of the brick."""
        return checksum(self.release, self.sources, self.config, self.calib)


def inject_brick(task: BrickTask, catalogue: Catalogue) -> dict[str, Any]:
    """Write every run of one brick; returns its entry of the manifest.

    An entry that an earlier, interrupted run left is taken as it is, unless what was read then has changed.
    Of a brick that a band does not touch nothing is written, and the entry has only ``left_out``, the reason.

    Parameters
    ----------
    task : BrickTask
    catalogue : callable
        Writes a catalogue of a run's coadds.

    Raises
    ------
    CoaddError, CatalogError
        If a file of the release cannot be used, or a source cannot be drawn.
    LeaseLostError
        If another run has begun in the same output directory.
    """
    try:
        content = task.checksum()
    except BandNotObservedError as error:
        return {"left_out": str(error)}
    if task.receipt.is_file() and (done := read_json(task.receipt)).get("content") == content:
        return done
    scene = open_scene(task.release, task.config.bands)
    placed = task.sources.of_brick(scene)
    runs = {name: task.root.files(scene.brick, name) for name in placed.runs}
    with holding_lease(task.scratch, task.root.path):
        bands = {name: _inject_band(task, scene, name, runs, placed.runs) for name in scene.bands}
        entry: dict[str, Any] = {
            "content": content,
            "box": list(scene.box),
            "dropped": placed.dropped,
            "bands": bands,
            "runs": {},
        }
        for name, run in runs.items():
            copy_products(task.release, run, scene.bands, task.scratch)
            write_truth(run, placed.runs[name], _cards(task.config, bands), task.scratch)
            rows = _write_catalogue(run, scene, catalogue, task.scratch)
            entry["runs"][name] = {"injected": len(placed.runs[name]), "catalogue": rows}
        task.receipt.parent.mkdir(parents=True, exist_ok=True)
        write_json(task.receipt, entry, task.scratch)
    return entry


def _inject_band(
    task: BrickTask, scene: Scene, name: str, runs: dict[str, BrickRun], rows: dict[str, Any]
) -> dict[str, Any]:
    """Paint and write one band of every run; returns how it was drawn."""
    band = open_band(task.release, scene, name, task.config, task.calib)
    model = model_named(task.config.model)
    noisy = task.config.noise != "none"
    for run_name, run in runs.items():
        image, invvar = paint(band, rows[run_name], model, task.config.seed, run_name, noise=noisy)
        write_plane(task.release, run, "image", name, image, task.scratch)
        write_plane(task.release, run, "invvar", name, invvar, task.scratch)
    return band.facts


def open_band(
    release: BrickRun, scene: Scene, name: str, config: InjectionConfig, calib: Path | None
) -> Band:
    """One band of a brick, with its planes, PSF and exposures.

    Raises
    ------
    CoaddError, CatalogError
        If the files for the PSF or the noise that is asked for are missing or unusable.
    """
    image, invvar = (read_plane(release, kind, name) for kind in ("image", "invvar"))
    scale = 3600 * float(np.mean(proj_plane_pixel_scales(scene.frame.wcs)))
    exposures = read_exposures(release.ccds(), name, config.gain) or ()
    label = f"brick {release.brick}, band {name}"
    request = PsfRequest(label, scene, name, scale, exposures, calib, image, invvar)
    psf = choose_psf(request, config.psf)
    needs_fit = config.noise != "none" and not exposures
    balance = balance_of(image, invvar, label) if needs_fit else None
    return Band(release.brick, name, scene.frame, scale, image, invvar, psf, exposures, balance)


def _cards(config: InjectionConfig, bands: dict[str, Any]) -> dict[str, Any]:
    """Header cards of a truth table: how its sources were drawn."""
    cards: dict[str, Any] = {"MODEL": config.model, "NOISE": config.noise, "SEED": config.seed}
    return cards | {f"PSF_{band}": facts["psf"] for band, facts in bands.items()}


def _write_catalogue(run: BrickRun, scene: Scene, catalogue: Catalogue, scratch: Path) -> int:
    """Catalogue of what is in the coadds that were written."""
    if run.tractor is None:
        msg = f"{run.label}: a tree without a place for catalogues"
        raise ValueError(msg)
    run.tractor.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(run.tractor, scratch) as beside:
        return catalogue(run, scene, beside)
