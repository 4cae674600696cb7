"""A small data release with PSFEx calibrations, in the pipeline's formats, of which everything is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import fitsio
import numpy as np

from obiwan.dplearn.injection.exposures import Exposure
from obiwan.dplearn.survey.layouts import RELEASE, BrickRun, Root
from synthetic import BANDS, PIXEL, Brick

BRICK = Brick("1102p235", 110.25, 23.5, 200)
SKY = {"g": 0.004, "r": 0.006, "z": 0.015}
DECAM = Exposure(
    camera="decam",
    image="decam/CP/V4.8.2a/CP20181213/c4d_181214_050844_ooi_g_ls9.fits.fz",
    ccdname="S9",
    expnum=802955,
    band="g",
    crpix=(-5000.0, 3000.0),
    crval=(110.5, 23.5),
    cd=np.array([[1e-7, PIXEL], [-PIXEL, 2e-7]]),
    shape=(4094, 2046),
    sig1=0.004,
    psfnorm=0.15,
    electrons=4000.0,
)


def ccd_row(one: Exposure, **others: object) -> np.ndarray:
    """A row of a CCD table, with the columns of DR9 that are read."""
    height, width = one.shape
    row = {
        **{"image_filename": one.image, "camera": one.camera, "ccdname": one.ccdname, "expnum": one.expnum},
        **{"filter": one.band, "exptime": 90.0, "ccdzpt": 25.0, "sig1": one.sig1, "psfnorm": one.psfnorm},
        **{"crpix1": one.crpix[0], "crpix2": one.crpix[1], "crval1": one.crval[0], "crval2": one.crval[1]},
        **{f"cd{i + 1}_{j + 1}": one.cd[i, j] for i in (0, 1) for j in (0, 1)},
        **{"width": width, "height": height, "ccdraoff": 0.0, "ccddecoff": 0.0, **others},
    }
    kinds = [(name, f"S{max(len(v), 1)}" if isinstance(v, str) else type(v)) for name, v in row.items()]
    return np.array([tuple(row.values())], dtype=kinds)


def basis(size: int = 25) -> np.ndarray:
    """Six images of a polynomial of degree 2, the first a PSF and the others small changes of it."""
    v, u = np.mgrid[-(size // 2) : size // 2 + 1, -(size // 2) : size // 2 + 1]
    psf = np.exp(-0.5 * ((u - 0.2) ** 2 + (v + 0.1) ** 2) / 2.0**2)
    others = [u * psf, (u**2 - 4) * psf, v * psf, u * v * psf, (v**2 - 4) * psf]
    return np.array([3 * psf, *(0.05 * one for one in others)], dtype="f4")


def expected_psf(x: float, y: float) -> np.ndarray:
    """The PSF of `basis` at a position, of unit sum."""
    dx, dy = (x - 1000.0) / 900.0, (y - 2000.0) / 1900.0
    values = np.array([1, dx, dx**2, dy, dx * dy, dy**2])
    psf = np.tensordot(values, basis().astype(float), 1)
    return psf / psf.sum()


def write_psfex(calib: Path, layout: str, one: Exposure) -> Path:
    """A PSFEx file as releases have it: before DR9 one a CCD, then a row per CCD, padded to the largest."""
    numbers = {"polzero1": 1000.0, "polzero2": 2000.0, "polscal1": 900.0, "polscal2": 1900.0}
    numbers |= {"poldeg1": 2, "psf_samp": 1.0}
    masks = basis()
    if layout == "old":
        number = f"{one.expnum:08d}"
        path = calib / "decam" / "psfex" / number[:5] / number / f"decam-{number}-{one.ccdname}.fits"
        table, header = np.array([(masks,)], dtype=[("PSF_MASK", "f4", masks.shape)]), numbers
    else:
        stem = "c4d_181214_050844_ooi_g_ls9-psfex.fits"
        path = calib / "psfex" / "decam" / "CP" / "V4.8.2a" / "CP20181213" / stem
        padded = np.zeros((6, 31, 31), "f4")
        padded[:, :25, :25] = masks
        numbers |= {"psfaxis1": 25, "psfaxis2": 25, "psfaxis3": 6}
        kinds = [("expnum", "i8"), ("ccdname", "S4"), ("psf_mask", "f4", padded.shape)]
        kinds += [(name, "f8") for name in numbers]
        rows = [
            (one.expnum, name, mask, *numbers.values())
            for name, mask in ((b"S8", 0 * padded + 1), (one.ccdname, padded))
        ]
        table, header = np.array(rows, dtype=kinds), {}
    path.parent.mkdir(parents=True)
    with fitsio.FITS(path, "rw") as file:
        file.write(None)
        file.write(table, header={name.upper(): value for name, value in header.items()})
    return path


def exposures(band: str, brick: Brick = BRICK, number: int = 2) -> list[Exposure]:
    """CCDs that have the whole brick, turned and shifted as those of DECam are."""
    found = []
    for i in range(number):
        wide = 2 * brick.size + 4000
        one = replace(
            DECAM,
            band=band,
            expnum=1000 + 10 * i + BANDS.index(band),
            crval=(brick.ra, brick.dec),
            crpix=(wide / 2 + 50.0 * i, wide / 2 - 100.0 * i),
            shape=(wide, wide),
            image=f"decam/CP/V4.8.2a/{band}{i}.fits.fz",
            sig1=SKY[band] * (1 + 0.5 * i),
        )
        psf = expected_psf(wide // 2, wide // 2)
        found.append(replace(one, psfnorm=float(np.sqrt((psf**2).sum()))))
    return found


def write_release(folder: Path, brick: Brick = BRICK, number: int = 2) -> BrickRun:
    """A release of one brick: sky noise, a saturated hole, a strip that nothing covers; with calibrations.

    Parameters
    ----------
    folder : Path
        Gets ``dr9`` and ``calib``.
    brick : Brick
    number : int
        Of exposures in each band.
    """
    run = Root(0, folder / "dr9", RELEASE).files(brick.name)
    run.coadd.mkdir(parents=True)
    rng = np.random.default_rng(1)
    shape = (brick.size, brick.size)

    def write(kind: str, band: str, plane: np.ndarray, **how: Any) -> None:
        path = run.coadd / f"legacysurvey-{brick.name}-{kind}-{band}.fits.fz"
        with fitsio.FITS(path, "rw") as file:
            file.write(
                plane, header={**brick.cards(), "LSDR": "DR9"}, compress="RICE", tile_dims=(100, 100), **how
            )
            file[-1].write_checksum()

    for band in BANDS:
        image = SKY[band] * rng.standard_normal(shape, "f4")
        invvar = np.exp(0.01 * rng.standard_normal(shape, "f4")) / np.float32(SKY[band] ** 2)
        image[:20], invvar[:20] = 0, 0
        image[80:84, 80:84], invvar[80:84, 80:84] = 10, 0
        write("image", band, image, qlevel=-1e-4, qmethod="SUBTRACTIVE_DITHER_2", dither_seed=77)
        write("invvar", band, invvar, qlevel=16, qmethod="NO_DITHER")
        write("nexp", band, np.full(shape, number, "i2"))
        write("psfsize", band, np.full(shape, 1.25, "f4"))
    rows = [one for band in BANDS for one in exposures(band, brick, number)]
    fitsio.write(run.ccds(), np.concatenate([ccd_row(one) for one in rows]))
    for one in rows:
        write_psfex(folder / "calib", "old", one)
    return run
