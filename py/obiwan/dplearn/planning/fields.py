"""One brick of one run, opened: its frame on the sky, its injections, its fitted sources.

Here is decided what can be used at all: a run whose injector displaced sources, or that has no
clean real sources of its own, is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from obiwan.dplearn.conventions import Array
from obiwan.dplearn.errors import CatalogError, LayoutError
from obiwan.dplearn.planning.config import INJECTION_REACH
from obiwan.dplearn.planning.matching import BLOB_REACH, fitted_everywhere, nearest_distance, nearest_index
from obiwan.dplearn.stampspec import FILTERS, StampSpec
from obiwan.dplearn.survey.catalogs import Catalog, read_cameras, read_tractor, read_truth
from obiwan.dplearn.survey.coadds import BandNotObservedError, Frame, read_frame
from obiwan.dplearn.survey.layouts import BrickRun, Root
from obiwan.dplearn.survey.sources import Sources, blank_sources

NORTHERN = {"mosaic", "mosaic3", "90prime", "bok"}
_EVIDENCE_RUNS = 20  # runs read at most to learn what a tree fitted
_GRID = 40  # points on a side, by which areas are measured


@dataclass(frozen=True)
class Field:
    """The coadd of one brick in one run, with what was injected and what was fitted in it.

    Attributes
    ----------
    run : BrickRun
    frame : Frame
    truth : Sources
        All rows of the truth table; empty in a release.
    injected_x, injected_y : ndarray
        0-based pixel positions of the rows of `injections`.
    catalog : Catalog or None
        The tractor catalogue; None in an early-coadds tree.
    camera : str
        With which the images were taken, several joined by ``+``; empty where no file says.
    """

    run: BrickRun
    frame: Frame
    truth: Sources
    injected_x: Array
    injected_y: Array
    catalog: Catalog | None
    camera: str = ""

    @property
    def injections(self) -> Sources:
        """The truth rows that really went into the images."""
        return self.truth.take(self.truth.injected)

    def injection_distance(self, ra: Array, dec: Array) -> Array:
        """Arcsec from each position to the nearest injection; infinite where there is none."""
        injections = self.injections
        return nearest_distance(ra, dec, injections.ra, injections.dec)

    def far_fraction(self, reach: float) -> float:
        """Fraction of the coadd farther than `reach` arcsec from every injection, on a grid of points."""
        x, y = (np.linspace(0, size - 1, _GRID) for size in reversed(self.frame.shape))
        grid_x, grid_y = np.meshgrid(x, y)
        ra, dec = self.frame.wcs.all_pix2world(grid_x.ravel(), grid_y.ravel(), 0)
        return float(np.mean(self.injection_distance(ra, dec) > reach))


def open_field(run: BrickRun) -> Field:
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
        return _opened(run)
    except OSError as error:
        raise run.unreadable(error) from error


def _opened(run: BrickRun) -> Field:
    frame = read_frame(run, StampSpec())
    truth = blank_sources(0, ()) if run.truth is None else read_truth(run.truth, run.ids_added).sources
    if run.tractor is not None and not run.tractor.is_file():
        msg = (
            f"{run.label}: no tractor catalogue {run.tractor} although its siblings have one; "
            "finish the run, or leave the brick out with --bricks"
        )
        raise CatalogError(msg)
    catalog = None if run.tractor is None else read_tractor(run.tractor)
    cameras = _cameras(run, catalog)
    _refuse_displaced(run, catalog, cameras)
    if catalog is not None:
        truth = with_measured_surroundings(truth, catalog.sources)
    injected = truth.take(truth.injected)
    x, y = frame.pixels(injected.ra, injected.dec)
    return Field(run, frame, truth, x, y, catalog, "+".join(sorted(cameras)))


def with_measured_surroundings(truth: Sources, fitted: Sources) -> Sources:
    """Fill what truth rows do not say from the nearest fitted source.

    legacysim's truth has no Galactic transmission, and no truth has a PSF size; both vary slowly.
    """
    if not len(fitted) or not len(truth):
        return truth
    index = nearest_index(truth.ra, truth.dec, fitted.ra, fitted.dec)
    bands = tuple(band for band in FILTERS if band in {*truth.bands, *fitted.bands})
    truth, fitted = truth.in_bands(bands), fitted.in_bands(bands)
    filled = {
        name: np.where(np.isnan(getattr(truth, name)), getattr(fitted, name)[index], getattr(truth, name))
        for name in ("mw_transmission", "psfsize", "psfdepth", "ebv")
    }
    return replace(truth, **filled)


def _cameras(run: BrickRun, catalog: Catalog | None) -> set[str]:
    """Cameras of a brick's images, from the header of the catalogue (DR8 on), else from the CCD table."""
    if catalog is not None and catalog.header is not None:
        named = " ".join(str(catalog.header.get(f"CAMS_{band}", "") or "") for band in "GRZ")
        if cameras := set(named.lower().split()):
            return cameras
    return read_cameras(run.ccds())


def _refuse_displaced(run: BrickRun, catalog: Catalog | None, cameras: set[str]) -> None:
    """Refuse northern cameras in trees of the original injector.

    It draws injections about 1.5 CCD pixels off.  BASS and MzLS detectors do not lie alike, so that there the
    images in g and r are displaced otherwise than that in z (``doc/explanation/defects-2018.rst``).
    """
    if run.root.layout.placement != "shifted" or (catalog is not None and catalog.dr9_columns):
        return  # obiwan_dr9m shares the paths and corrected the placement
    northern = sorted(cameras & NORTHERN)
    if northern:
        msg = (
            f"{run.root.path}: {run.label} has images of {', '.join(northern)}: the original obiwan displaces"
            " injections on BASS and MzLS detectors by different amounts in g, r and z (up to 1.5 arcsec); "
            "use legacysim runs, or give DECam bricks with --bricks"
        )
        raise LayoutError(msg)


def refuse_partial_fits(root: Root, runs: Sequence[BrickRun]) -> None:
    """Refuse to take reals from runs that fitted only the blobs which hold an injection.

    The evidence, in this order: the command line recorded in the headers, where the fitted sources
    lie (`matching.fitted_everywhere`), and what the layout's program does by default.

    Raises
    ------
    LayoutError
        If the tree has no clean reals of its own.
    """
    far_rows, expected = 0, 0.0
    verdict: bool | None = None
    for run in runs[:_EVIDENCE_RUNS]:
        try:
            field = open_field(run)
        except BandNotObservedError:
            continue  # such a brick is left out later, and noted; it is no evidence
        if field.catalog is None:
            msg = (
                f"{root.path}: early-coadds tree without tractor catalogues: it has no reals of its own; "
                "give the data release with --real"
            )
            raise LayoutError(msg)
        command = field.catalog.command
        if "--all-blobs" in command:
            return
        if "--sim-blobs" in command:
            verdict = False
            break
        distance = field.injection_distance(field.catalog.sources.ra, field.catalog.sources.dec)
        far_rows += int(np.count_nonzero(distance > BLOB_REACH))
        expected += field.far_fraction(BLOB_REACH) * int(np.count_nonzero(distance > INJECTION_REACH))
        verdict = fitted_everywhere(far_rows, expected)
        if verdict is not None:
            break
    if not (root.layout.all_blobs if verdict is None else verdict):
        msg = (
            f"{root.path}: these runs fitted only blobs that hold an injection (no --all-blobs, or "
            "--sim-blobs), so they have no clean reals of their own; give the data release with --real"
        )
        raise LayoutError(msg)
