"""Provenance: the release that a brick's injected coadds were made from, where several list the brick.

DR8 and DR9 have the bricks around declination +32 to +34 in ``north`` and in ``south``, under one name and
with the same pixels; two releases, or copies of one, have all bricks in common.  One catalogue of each brick
is used, or an object would count twice, processed by two pipelines.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from obiwan.dplearn.errors import CatalogError
from obiwan.dplearn.files.atomic import file_crc32
from obiwan.dplearn.survey.catalogs import read_tractor
from obiwan.dplearn.survey.ccds import read_cameras
from obiwan.dplearn.survey.coadds import open_image
from obiwan.dplearn.survey.layouts import BrickRun, available_bands

_UNNUMBERED = "9999"  # DRVERSIO of runs that nobody numbered
_INSTRUMENTS = ("INSTRUME", *(f"INSTRUM{i}" for i in range(1, 10)))
_CAMERA_OF = {"mosaic3": "mosaic"}  # where an instrument is not called as its camera


@dataclass(frozen=True)
class Origin:
    """Origin of a brick: what it was made from, as far as its headers say; empty where they do not.

    Attributes
    ----------
    cameras : str
        Joined by ``+``.
    pipeline : str
        Release of the pipeline (``LSDR``, before DR8 ``DECALSDR``), such as ``DR9``.
    release : str
        Number of the release (``DRVERSIO``).
    """

    cameras: str
    pipeline: str
    release: str

    def __str__(self) -> str:
        return ", ".join(filter(None, astuple(self))) or "unknown"


def cameras_of(run: BrickRun, header: Mapping[str, Any], bands: Collection[str]) -> set[str]:
    """Cameras of a brick's images: from a header (``CAMS_X``), the CCD table, or the names of instruments."""
    named = " ".join(str(header.get(f"CAMS_{band.upper()}", "") or "") for band in bands)
    instruments = {str(header[name]).strip().lower() for name in _INSTRUMENTS if header.get(name)}
    told = set(named.lower().split()) or read_cameras(run.ccds())
    return told or {_CAMERA_OF.get(name, name) for name in instruments}


def origin_of(run: BrickRun, bands: Collection[str]) -> Origin:
    """Origin of a brick in one run or release, from the headers of a coadd and of the catalogue.

    Raises
    ------
    CoaddError, CatalogError
        If a file cannot be read.
    """
    header: dict[str, Any] = {}
    for band in available_bands(run)[:1]:
        with open_image(run, run.plane("image", band)) as (_, hdu):
            header |= dict(hdu.read_header())
    if run.tractor is not None:
        header |= read_tractor(run.tractor).header
    release = str(header.get("DRVERSIO", "")).strip()
    return Origin(
        cameras="+".join(sorted(cameras_of(run, header, bands))),
        pipeline=str(header.get("LSDR") or header.get("DECALSDR") or "").strip(),
        release="" if release == _UNNUMBERED else release,
    )


def made_from(injected: Origin, releases: Sequence[Origin]) -> list[int]:
    """Releases that injected coadds may have been made from.

    Cameras must be the same; of several that have them, those of the same pipeline, then of the same number.

    Parameters
    ----------
    injected : Origin
    releases : sequence of Origin

    Returns
    -------
    list of int
        Positions in `releases`.
    """
    cameras = ("", injected.cameras)
    left = [i for i, one in enumerate(releases) if not injected.cameras or one.cameras in cameras]
    for name in ("cameras", "pipeline", "release"):
        said = getattr(injected, name)
        if alike := [i for i in left if said and getattr(releases[i], name) == said]:
            left = alike
    return left


def _content(release: BrickRun) -> int:
    """CRC-32 of a catalogue."""
    try:
        return file_crc32(release.tractor) if release.tractor else 0
    except OSError as error:
        raise release.unreadable(error) from error


def release_of(
    runs: Sequence[BrickRun], releases: Sequence[BrickRun], bands: Collection[str]
) -> BrickRun | None:
    """Find the one release that the injected coadds of a brick were made from.

    Parameters
    ----------
    runs, releases : sequence of BrickRun
        Of one brick.  Releases with the same catalogue, byte by byte, are one.
    bands : collection of str

    Returns
    -------
    BrickRun or None
        None where there is no release.

    Raises
    ------
    CatalogError
        If the headers do not tell, or tell of several.
    """
    if len(releases) < 2:
        return next(iter(releases), None)
    different = list({_content(one): one for one in reversed(releases)}.values())[::-1]
    if len(different) == 1:
        return different[0]
    origins = [origin_of(one, bands) for one in different]
    listed = " and ".join(
        f"{one.root.path} ({origin})" for one, origin in zip(different, origins, strict=True)
    )
    start = f"brick {releases[0].brick}: is in {listed}"
    remedy = f"give one with --real, such as {different[0].root.path}, or leave the brick out with --bricks"
    if not runs:
        msg = f"{start}, and there are no injected coadds to tell which is meant; {remedy}"
        raise CatalogError(msg)
    chosen: set[int] = set()
    for run in runs:
        injected = origin_of(run, bands)
        fitting = made_from(injected, origins)
        if len(fitting) != 1:
            which = "several" if fitting else "none"
            coadds = f"the coadds of {run.run} ({injected})"
            msg = f"{start}; {coadds} may be made from {which} of them; {remedy}"
            raise CatalogError(msg)
        chosen.update(fitting)
    if len(chosen) > 1:
        msg = f"{start}; its injection runs were made from different ones; make a training set of each"
        raise CatalogError(msg)
    return different[chosen.pop()]
