"""Controls of inject on a mock release: right models pass, wrong ones are found, with the reason.

Stars and galaxies of the mock's own populations are injected into its release, made a training set with cuts
on the one catalogue, and tested by the panel's quick members against the mock's own objects:

    stars, PSF of the mock            not distinguished
    stars, --psf moffat               distinguished: the width or the concentration fails
    galaxies, as the mock draws them  not distinguished
    galaxies, 15 % larger             distinguished: the width fails
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from pathlib import Path

import fitsio
import numpy as np

from obiwan.dplearn import create_training, evaluate, inject
from obiwan.dplearn.mock.__main__ import main as make_mock
from obiwan.dplearn.mock.sky import draw_population
from obiwan.dplearn.survey.rendering import Galaxy, render

MOCK = "INJECTION_CONTROLS_MOCK"  # variable that names the mock's directory, for workers
LARGER = 1.15
STARS = "mag_r<20.4,mag_r>18.3"
GALAXIES = "mag_r>20.5,snr>15"
CONTROLS = {
    "stars, PSF of the mock": ("stars", "star", "injection_controls:psf", STARS, False),
    "stars, --psf moffat": ("stars", "star", "moffat", STARS, True),
    "galaxies, as the mock draws them": ("galaxies", "sersic", "injection_controls:psf", GALAXIES, False),
    "galaxies, 15 % larger": ("larger", "sersic", "injection_controls:psf", GALAXIES, True),
}


def stars(n, _brick, rng):
    """Stars with the magnitudes and colours of the mock's, without extinction."""
    r = rng.uniform(18.5, 20.2, n)
    return {"mag_g": r + rng.normal(1.4, 0.12, n), "mag_r": r, "mag_z": r - rng.normal(1.1, 0.15, n)}


def galaxies(n, brick, rng, factor=1.0):
    """Objects of the mock's population that are no stars."""
    rows = draw_population(rng, 2 * n + 50, brick.bands, np.ones(len(brick.bands)))
    rows = rows[rows["light_sersic"] > 0][:n]
    columns = {
        f"mag_{band}": 22.5 - 2.5 * np.log10(rows["light_flux"][:, k]) for k, band in enumerate(brick.bands)
    }
    shape = {"sersic": "light_sersic", "shape_e1": "e1", "shape_e2": "e2"}
    return {
        **columns,
        "shape_r": factor * rows["light_r"],
        **{name: rows[own] for name, own in shape.items()},
    }


def larger(n, brick, rng):
    """The same galaxies, larger."""
    return galaxies(n, brick, rng, LARGER)


def psf(brick, band, *_):
    """PSF that the mock draws with."""
    header = fitsio.read_header(Path(os.environ[MOCK]) / "truth" / brick[:3] / f"real-{brick}.fits")
    galaxy = Galaxy(flux=(1.0,), fwhm=(float(header[f"FWHM_{band.upper()}"]),), x=31.0, y=31.0)
    return render(galaxy, 63, 0.262)[..., 0]


def run(program, *words):
    """Run a program of the package; an error ends the benchmark."""
    if status := program([str(word) for word in words]):
        sys.exit(status)


def control(name, folder, jobs):
    """One control: AUC with its interval, the verdict and what fails."""
    sources, model, psf_name, cuts, differs = CONTROLS[name]
    place = folder / name.replace(" ", "_").replace(",", "").replace("%", "percent")
    tree, data, out = place / "tree", place / "training", place / "evaluation"
    start = time.perf_counter()
    words = ("--release", folder / "mock" / "release", "--sources", f"injection_controls:{sources}")
    run(
        inject.main, *words, "--model", model, "--psf", psf_name, "--density", 40_000, "--runs", 2,
        "--jobs", jobs, "--outdir", tree,
    )  # fmt: skip
    run(
        create_training.main,
        "--fake",
        tree,
        "--select",
        cuts,
        "--outdir",
        data,
        "--test-fraction",
        0.4,
        "--jobs",
        jobs,
    )
    run(
        evaluate.main,
        "--data",
        data,
        "--outdir",
        out,
        "--referees",
        "scores",
        "trees",
        "--sensitivity",
        "none",
    )
    metrics = json.loads((out / "metrics.json").read_text())
    return {
        "control": name,
        "differs": differs,
        **facts(metrics),
        "seconds": round(time.perf_counter() - start),
    }


def facts(metrics):
    """What a row of the table has."""
    return {"metrics": sorted(metrics)}


def main():
    """Run the controls, one row of the table after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--outdir", type=Path, required=True, help="where everything goes; finished parts are kept"
    )
    parser.add_argument("--bricks", type=int, default=24)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=CONTROLS, default=list(CONTROLS))
    options = parser.parse_args()
    mock = options.outdir / "mock"
    os.environ[MOCK] = str(mock.resolve())
    if not (mock / "mock.json").is_file():
        size = ("--brick-size", 1000, "--runs", 0, "--seed", 17)
        run(make_mock, "--outdir", mock, "--bricks", options.bricks, *size, "--jobs", options.jobs)
    writer = None
    for name in options.only:
        row = control(name, options.outdir, options.jobs)
        writer = writer or csv.DictWriter(sys.stdout, list(row))
        if row["control"] == options.only[0]:
            writer.writeheader()
        writer.writerow(row)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
