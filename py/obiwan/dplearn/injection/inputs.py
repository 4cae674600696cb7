"""Inputs of an injection into one brick: its primary area, and a checksum of the files that are read."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from obiwan.dplearn.files.atomic import file_crc32
from obiwan.dplearn.files.fits import fingerprint
from obiwan.dplearn.injection.coadds import products
from obiwan.dplearn.injection.config import AUTO, InjectionConfig
from obiwan.dplearn.injection.exposures import read_exposures
from obiwan.dplearn.injection.psfex import find_psfex
from obiwan.dplearn.injection.scene import Box, Scene
from obiwan.dplearn.injection.sources import SourceList
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.coadds import read_frame
from obiwan.dplearn.survey.layouts import BrickRun, available_bands


def primary_area(release: BrickRun) -> Box:
    """Primary area of a brick, from the headers of one band.

    Raises
    ------
    CoaddError
        If they cannot be read.
    """
    spec = StampSpec(available_bands(release)[:1])
    return Scene(release, read_frame(release, spec), spec.bands).box


def checksum(release: BrickRun, sources: SourceList, config: InjectionConfig, calib: Path | None) -> int:
    """Checksum of what is read of a brick: that of another release of the same name is another one.

    Planes and PSFEx models count by `obiwan.dplearn.files.fits.fingerprint`, smaller files byte by byte.

    Raises
    ------
    BandNotObservedError
        If no exposure in a band touches the brick.
    CoaddError
        If a file is missing or cannot be read.
    """
    value = read_frame(release, config.spec).content
    try:
        for path in _files(release, sources, config):
            value = zlib.crc32(b"%d" % file_crc32(path), value)
        for path in sorted(set(_models(release, config, calib))):
            value = fingerprint(path, (0, 0), value)
    except OSError as error:
        raise release.unreadable(error) from error
    return value


def _files(release: BrickRun, sources: SourceList, config: InjectionConfig) -> Iterator[Path]:
    """Files that decide what is written, but for image, inverse variance and PSFEx models."""
    yield from products(release, config.bands, "copsf")
    if release.tractor is not None and release.tractor.is_file():
        yield release.tractor
    yield from sources.files(release.brick)


def _models(release: BrickRun, config: InjectionConfig, calib: Path | None) -> Iterator[Path]:
    """PSFEx files of the exposures, where they may be used: one file may have many CCDs."""
    if calib is None or config.psf not in (AUTO, "psfex"):
        return
    for band in config.bands:
        for exposure in read_exposures(release.ccds(), band) or ():
            if (path := find_psfex(calib, exposure)) is not None:
                yield path
