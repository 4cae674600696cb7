"""Controls of inject on a mock release: right models pass, wrong ones are found, with the reason; two hours.

    bin/benchmark injection_controls -- --workdir DIR [--jobs 2] [--only stars] [--table FILE.csv]

Stars and galaxies of the mock's own populations are injected into its release, made a training set with cuts
on the one catalogue, and tested by the panel's quick members against the mock's own objects:

    stars          with the mock's PSF                        not distinguished
    stars, moffat  with --psf moffat                          distinguished: width or concentration fails
    galaxies       with the mock's PSF                        not distinguished
    galaxies, 50 % larger    half-light radii are 50 % too large        distinguished: a size fails

What is finished is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fitsio
import numpy as np

from benchmarks.surveys import version
from obiwan.dplearn import create_training, evaluate, inject
from obiwan.dplearn.injection.scene import Scene
from obiwan.dplearn.mock.__main__ import main as make_mock
from obiwan.dplearn.mock.drawing import psf_image
from obiwan.dplearn.mock.sky import draw_population
from tables import write_csv

MOCK = "INJECTION_CONTROLS_MOCK"  # variable that names the mock's directory, for worker processes
LARGER = 1.5
SEEDS = (2018, 11, 12, 13)
BRICKS = ("--bricks", "60", "--brick-size", "400", "--runs", "0")
STARS, GALAXIES = "mag_r<20.4,size<1.4", "mag_r>20.5,snr>15"
RIGHT = "injection_controls:psf"
#: Function that draws, model, PSF and cuts of each control
CONTROLS = {
    "stars": ("stars", "star", RIGHT, STARS),
    "stars, moffat": ("stars", "star", "moffat", STARS),
    "galaxies": ("galaxies", "sersic", RIGHT, GALAXIES),
    "galaxies, 50 % larger": ("larger", "sersic", RIGHT, GALAXIES),
}


def stars(n: int, _brick: Scene, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Stars with the magnitudes and colours of the mock's, without extinction."""
    r = rng.uniform(18.5, 20.2, n)
    return {"mag_g": r + rng.normal(1.4, 0.12, n), "mag_r": r, "mag_z": r - rng.normal(1.1, 0.15, n)}


def galaxies(n: int, brick: Scene, rng: np.random.Generator, factor: float = 1.0) -> dict[str, np.ndarray]:
    """Objects of the mock's population that are no stars."""
    rows = draw_population(rng, 2 * n + 50, brick.bands, np.ones(len(brick.bands)))
    rows = rows[rows["light_sersic"] > 0][:n]
    columns = {f"mag_{b}": 22.5 - 2.5 * np.log10(rows["light_flux"][:, k]) for k, b in enumerate(brick.bands)}
    columns |= {"sersic": rows["light_sersic"], "shape_r": factor * rows["light_r"]}
    return columns | {"shape_e1": rows["e1"], "shape_e2": rows["e2"]}


def larger(n: int, brick: Scene, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The same galaxies, larger."""
    return galaxies(n, brick, rng, LARGER)


def psf(brick: str, band: str, *_: float) -> np.ndarray:
    """PSF that the mock draws with."""
    header = fitsio.read_header(Path(os.environ[MOCK]) / "truth" / brick[:3] / f"real-{brick}.fits")
    return psf_image(float(header[f"FWHM_{band.upper()}"]))


def run(program: Callable[[Sequence[str]], int], *words: object) -> None:
    """Run a program of the package; an error ends the benchmark."""
    if status := program([str(word) for word in words]):
        sys.exit(status)


def control(name: str, seed: int, workdir: Path, bricks: int, jobs: int) -> dict[str, Any]:
    """What `evaluate` says of one control, in so many bricks, as its metrics have it."""
    sources, model, psf_name, cuts = CONTROLS[name]
    place = workdir / f"{'_'.join(name.replace('%', 'percent').replace(',', '').split())}_{seed}"
    tree, data, out = (place / part for part in ("tree", "training", "evaluation"))
    if not (out / "metrics.json").is_file():
        drawn = ("--sources", f"injection_controls:{sources}", "--model", model, "--psf", psf_name)
        names = (workdir / "mock" / "bricks.txt").read_text().split()[:bricks]
        where = ("--release", workdir / "mock" / "release", "--density", 60_000, "--runs", 2)
        same = ("--seed", seed, "--jobs", jobs)
        run(inject.main, *where, *drawn, *same, "--bricks", *names, "--outdir", tree)
        split = ("--test-fraction", 0.4)
        run(create_training.main, "--fake", tree, "--select", cuts, *split, *same, "--outdir", data)
        panel = ("--referees", "scores", "trees", "--sensitivity", "none")
        run(evaluate.main, "--data", data, *panel, "--outdir", out)
    return dict(json.loads((out / "metrics.json").read_text()))


def row_of(name: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row of the table, of several seeds."""
    aucs = np.array([one["verdict"]["auc"]["value"] for one in found])
    rulings = Counter(one["ruling"]["kind"] for one in found)
    failing = Counter(quantity for one in found for quantity in one["ruling"]["failing"])
    return {
        "control": name,
        "seeds": len(found),
        "rulings": "; ".join(f"{kind} {count}" for kind, count in rulings.most_common()),
        "auc_median": f"{np.median(aucs):.3f}",
        "auc_least": f"{aucs.min():.3f}",
        "auc_most": f"{aucs.max():.3f}",
        "fail": "; ".join(f"{quantity} {count}" for quantity, count in failing.most_common(8)) or "none",
        "test_examples": int(np.median([one["verdict"]["real"] + one["verdict"]["fake"] for one in found])),
        "version": version(),
    }


def main() -> None:
    """Run the controls, one row of the table after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=CONTROLS, default=list(CONTROLS))
    parser.add_argument("--table", type=Path)
    parser.add_argument("--bricks", type=int, default=60, help="of the mock's 60")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of injections and splits")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    mock = options.workdir / "mock"
    os.environ[MOCK] = str(mock.resolve())
    if not (mock / "mock.json").is_file():
        run(make_mock, "--outdir", mock, *BRICKS, "--jobs", options.jobs)
    words, rows = (options.workdir, options.bricks, options.jobs), []
    for name in options.only:
        rows.append(row_of(name, [control(name, seed, *words) for seed in options.seeds]))
        print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        if options.table:
            write_csv(options.table, rows)


if __name__ == "__main__":
    main()
