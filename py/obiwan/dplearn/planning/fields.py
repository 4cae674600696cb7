"""Fields: one brick of one run, opened, with its frame on the sky, its injections and its fitted sources.

A run whose injector displaced sources is refused with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from obiwan.dplearn.errors import CatalogError, LayoutError
from obiwan.dplearn.planning.matching import nearest_distance, nearest_index
from obiwan.dplearn.planning.provenance import cameras_of
from obiwan.dplearn.stampspec import Array, StampSpec
from obiwan.dplearn.survey.catalogs import Catalog, read_tractor, read_truth
from obiwan.dplearn.survey.ccds import read_exposures
from obiwan.dplearn.survey.coadds import Frame, read_frame
from obiwan.dplearn.survey.layouts import BrickRun
from obiwan.dplearn.survey.sources import Sources, blank_sources

NORTHERN = {"mosaic", "mosaic3", "90prime", "bok"}


@dataclass(frozen=True)
class Field:
    """The coadd of one brick in one run, with what was injected and what was fitted in it.

    Attributes
    ----------
    run : BrickRun
    frame : Frame
    truth : Sources
        All rows of the truth table; empty in a release.
    catalog : Catalog or None
        The tractor catalogue; None in an early-coadds tree.
    camera : str
        With which the images were taken, several joined by ``+``; empty where no file says.
    """

    run: BrickRun
    frame: Frame
    truth: Sources
    catalog: Catalog | None
    camera: str = ""

    @cached_property
    def injections(self) -> Sources:
        """The truth rows that really went into the images."""
        return self.truth.take(self.truth.injected)

    @cached_property
    def exposures(self) -> Array | None:
        """Exposures that the coadds were made from; None where no file says."""
        return read_exposures(self.run.ccds())

    @cached_property
    def centre(self) -> tuple[float, float]:
        """RA and Dec of the middle of the coadd, degrees."""
        ny, nx = self.frame.shape
        ra, dec = self.frame.wcs.all_pix2world((nx - 1) / 2, (ny - 1) / 2, 0)
        return float(ra), float(dec)

    @property
    def fitted(self) -> Sources | None:
        """The fitted sources; None in an early-coadds tree."""
        return None if self.catalog is None else self.catalog.sources

    def injection_distance(self, ra: Array, dec: Array) -> Array:
        """Arcsec from each position to the nearest injection; infinite where there is none."""
        return nearest_distance(ra, dec, self.injections.ra, self.injections.dec)


def open_field(run: BrickRun, spec: StampSpec) -> Field:
    """Read frame, truth and catalogue of a brick's run.

    Raises
    ------
    CoaddError, CatalogError
        If a file is missing or unusable.
    LayoutError
        If the injector of this tree is known to have put sources elsewhere than its truth says,
        differently in each band.
    """
    try:
        frame = read_frame(run, spec)
        truth = blank_sources(0, spec.bands)
        if run.truth is not None:
            truth = read_truth(run.truth, run.ids_added).sources
        catalog = read_fitted(run, spec)
        cameras = _cameras(run, catalog, spec)
    except OSError as error:
        raise run.unreadable(error) from error
    if catalog is not None:
        truth = with_measured_surroundings(truth, catalog.sources)
    return Field(run, frame, truth, catalog, "+".join(sorted(cameras)))


def read_fitted(run: BrickRun, spec: StampSpec) -> Catalog | None:
    """Read the tractor catalogue of a brick's run; None in an early-coadds tree.

    Raises
    ------
    CatalogError
        If it is missing or unusable, or has no fluxes in a band of the stamps.
    """
    if run.tractor is None:
        return None
    if not run.tractor.is_file():
        msg = (
            f"{run.label}: no tractor catalogue {run.tractor} although its siblings have one; "
            "finish the run, or leave the brick out with --bricks"
        )
        raise CatalogError(msg)
    catalog = read_tractor(run.tractor)
    if missing := [f"flux_{band}" for band in spec.bands if band not in catalog.sources.bands]:
        msg = (
            f"{run.label}: the tractor catalogue {run.tractor} has no column {', '.join(missing)}; "
            "restore the file, leave the band out with --bands, or the brick with --bricks"
        )
        raise CatalogError(msg)
    return catalog


def with_measured_surroundings(truth: Sources, fitted: Sources) -> Sources:
    """Fill what truth rows do not say from the nearest fitted source.

    legacysim's truth has no Galactic transmission, and no truth has a PSF size; both vary slowly.
    """
    if not len(fitted) or not len(truth):
        return truth
    near = fitted.in_bands(truth.bands).take(nearest_index(truth.ra, truth.dec, fitted.ra, fitted.dec))
    filled = {
        name: np.where(np.isnan(getattr(truth, name)), getattr(near, name), getattr(truth, name))
        for name in ("mw_transmission", "psfsize", "psfdepth", "ebv")
    }
    return replace(truth, **filled)


def _cameras(run: BrickRun, catalog: Catalog | None, spec: StampSpec) -> set[str]:
    """Cameras of a brick's images, from the header of the catalogue (DR8 on), else from the CCD table.

    Northern cameras are refused in trees of the original injector.  It draws injections about 1.5 CCD pixels
    off, and BASS and MzLS detectors do not lie alike, so that there the images in g and r are displaced
    otherwise than that in z (``doc/explanation/defects-2018.rst``).
    """
    cameras = cameras_of(run, (catalog and catalog.header) or {}, spec.bands)
    northern = ", ".join(sorted(cameras & NORTHERN))
    corrected = catalog is not None and catalog.dr9_columns  # obiwan_dr9m shares the paths of the original
    if northern and run.root.layout.placement == "shifted" and not corrected:
        msg = (
            f"{run.root.path}: {run.label} has images of {northern}: the original obiwan displaces "
            "injections on BASS and MzLS detectors by different amounts in g, r and z (up to 1.5 arcsec); "
            "use legacysim runs, or give DECam bricks with --bricks"
        )
        raise LayoutError(msg)
    return cameras
