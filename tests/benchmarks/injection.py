"""Speed of inject: a source against GalSim, a brick of full size against reading, writing and detecting.

    bin/benchmark injection [-- --sources 500 --size 3600 --exposures 5]

Every number is a ratio to its peer in the same run: the time of a source in a band, drawn by GalSim on the
same grid; and the time of a brick without sources, whose planes are read, written and searched with sep.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time

import galsim
import numpy as np
from astropy.table import Table

from obiwan.dplearn import inject
from obiwan.dplearn.injection.light import (
    grid_size,
    half_light_ellipse,
    moved,
    sersic_radius,
    sersic_transform,
    through,
)
from obiwan.dplearn.injection.psf import BandPsf
from obiwan.dplearn.injection.stars import moffat_image
from obiwan.dplearn.survey.rendering import axis_ratio, circularised, truncation
from released import BRICK, write_release
from synthetic import Brick

SCALE, FWHM = 0.262, 1.2  # arcsec
TO_PIXELS = np.diag([-1 / SCALE, 1 / SCALE])
#: Sersic index, half-light radius (arcsec): emission-line galaxies, and a large early one
GALAXIES = ((1.0, 0.4), (1.0, 0.8), (2.0, 0.6), (4.0, 0.5), (4.0, 1.5))
SHAPE, OFFSET = (0.2, 0.1), (0.3, -0.2)


def ours(sersic: float, radius: float, psf: BandPsf) -> np.ndarray:
    """A galaxy as ``inject`` draws it."""
    ellipse = half_light_ellipse(TO_PIXELS, radius, *SHAPE)
    size = grid_size(sersic_radius(ellipse, sersic), len(psf.image))
    spectrum = moved(sersic_transform(ellipse, sersic, size), *OFFSET, size)
    return through(psf.transform(psf.image, size), spectrum, size)


def galsims(sersic: float, radius: float, psf: galsim.GSObject, size: int) -> np.ndarray:
    """The same, convolved and drawn by GalSim."""
    small = float(circularised(radius, *SHAPE))
    scale = galsim.Sersic(sersic, half_light_radius=small).scale_radius
    disc = galsim.Sersic(sersic, scale_radius=scale, trunc=truncation(sersic) * small)
    angle = (np.degrees(np.arctan2(SHAPE[1], SHAPE[0])) / 2 + 90) * galsim.degrees
    disc = disc.shear(q=float(axis_ratio(*SHAPE)), beta=angle)
    image = galsim.Image(size, size, xmin=0, ymin=0, scale=SCALE, dtype=float)
    centre = galsim.PositionD(size // 2 + OFFSET[0], size // 2 + OFFSET[1])
    galsim.Convolve(disc, psf).drawImage(image=image, method="no_pixel", center=centre)
    return image.array


def best_of(function: Callable[[], object], seconds: float = 1.0) -> float:
    """Least time of a call, over as many as fit; what else the machine does only adds."""
    function()
    end, best = perf_counter() + seconds, np.inf
    while perf_counter() < end:
        start = perf_counter()
        function()
        best = min(best, perf_counter() - start)
    return best


def drawing() -> None:
    """Compare the drawing of single sources."""
    psf = moffat_image(FWHM / SCALE)
    sampled = galsim.Image(psf, scale=SCALE)
    same = galsim.InterpolatedImage(sampled, flux=1.0, x_interpolant="lanczos15")
    once = BandPsf("moffat", image=psf)  # as GalSim, it keeps what it needs of a PSF
    usual = galsim.InterpolatedImage(sampled, flux=1.0)
    print("index radius  grid   ms  GalSim/ours  largest difference / peak")
    for sersic, radius in GALAXIES:
        mine = ours(sersic, radius, once)
        theirs = galsims(sersic, radius, same, len(mine))
        worst = np.abs(mine - theirs).max() / theirs.max()
        fast = best_of(lambda: ours(sersic, radius, once))  # noqa: B023
        slow = best_of(lambda: galsims(sersic, radius, usual, len(mine)))  # noqa: B023
        times = f"{1e3 * fast:4.2f} {slow / fast:11.1f}"
        print(f"{sersic:5.1f} {radius:6.1f} {len(mine):5d} {times}  {worst:.1e}")


def table(brick: Brick, number: int, path: Path) -> Path:
    """Galaxies all over a brick."""
    rng = np.random.default_rng(number)
    ra, dec = brick.sky(*rng.uniform(60, brick.size - 60, (2, number)))
    kinds = np.array(GALAXIES)[rng.integers(0, len(GALAXIES) - 1, number)]
    columns = {"id": np.arange(number), "ra": ra, "dec": dec, "sersic": kinds[:, 0], "shape_r": kinds[:, 1]}
    columns |= {"shape_e1": rng.normal(0, 0.1, number), "shape_e2": rng.normal(0, 0.1, number)}
    columns |= {f"flux_{band}": rng.lognormal(0, 1, number) for band in "grz"}
    Table(columns).write(path)
    return path


def run(folder: Path, sources: Path, outdir: Path) -> float:
    """Seconds of processor that ``inject`` takes."""
    words = ["--release", folder / "dr9", "--calib", folder / "calib", "--sources", sources]
    words += ["--outdir", outdir]
    start = process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        if inject.main([*map(str, words), "--runs", "1", "--separation", "0"]):
            raise SystemExit(errors.getvalue())
    return process_time() - start


def brick(size: int, number: int, exposures: int, folder: Path) -> None:
    """Compare a brick with sources to one without."""
    full = Brick(BRICK.name, BRICK.ra, BRICK.dec, size)
    write_release(folder, full, exposures)
    counts = (1, number, 2 * number)
    times = []
    for count in counts:
        sources = table(full, count, folder / f"{count}.fits")
        times.append(run(folder, sources, folder / f"out{count}"))
        shutil.rmtree(folder / f"out{count}")
    print(f"{size} x {size} pixels, 3 bands, {exposures} exposures a band")
    for count, seconds in zip(counts, times, strict=True):
        print(f"  {count:5d} sources: {seconds:6.1f} s, {seconds / times[0]:.2f} times the brick without")
    added = [seconds - times[0] for seconds in times[1:]]
    print(f"  twice as many sources take {added[1] / added[0]:.2f} times as long to draw")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"  memory at most {peak:.2f} GB")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sources", type=int, default=500)
    parser.add_argument("--size", type=int, default=3600, help="pixels on a side of the brick")
    parser.add_argument("--exposures", type=int, default=5, help="in each band")
    parser.add_argument("--part", choices=("drawing", "brick"), help="only this part")
    options = parser.parse_args(argv)
    if options.part != "brick":
        drawing()
    if options.part != "drawing":
        with tempfile.TemporaryDirectory() as folder:
            brick(options.size, options.sources, options.exposures, Path(folder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
