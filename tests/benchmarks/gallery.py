"""Gallery of reports for the documentation: one with nothing planted, one for each planted difference.

    bin/benchmark gallery -- --workdir DIR [--surveys DIR] [--only none psf]

Each is a training set of ``bin/benchmark verdicts``, evaluated by the panel without a network: some minutes.
What is finished in DIR is kept.  Writes ``doc/explanation/gallery.rst`` and its pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.surveys import version
from benchmarks.verdicts import BRICKS, PLANTED, REFEREES, Run

DOC = Path(__file__).parents[2] / "doc"
PAGE, STATIC = DOC / "explanation" / "gallery.rst", DOC / "_static" / "gallery"
PICTURES = ("classifiers", "hazards")
TITLES = {
    "none": "Nothing",
    "psf": "A PSF that is 10 % too wide",
    "shot": "No photon noise of the injected light",
    "dip": "Inverse variance 10 % too low at the centre",
    "size": "Half-light radii 20 % too large",
    "offset-g": "An offset of 0.3 pixels in g",
    "flux": "Fluxes 15 % too high",
    "colour": "Colours g - z 0.1 mag too blue",
    "sersic": "Sersic indices higher by one",
    "offset": "An offset of 0.2 pixels in all bands, stamps centred on true positions",
}
COLOURS = 32  #: of a picture in the documentation

HEAD = """Gallery of reports
==================

The first screen of reports on mock surveys of {bricks} bricks, one with nothing planted and one for each
difference: headline, test set, AUCs, and the control of each systematic that is farthest from passing.
:doc:`../howto/report` explains the figures.  Made by ``bin/benchmark gallery`` ({version}).
"""
SECTION = """
{title}
{line}

    **{headline}**

    {scope}

.. image:: ../_static/gallery/{kind}_classifiers.png
   :alt: AUCs of the panel, its members and measured quantities, with intervals
   :width: 45%

.. image:: ../_static/gallery/{kind}_hazards.png
   :alt: Effect over limit of the worst control of each systematic
   :width: 45%
"""


def evaluated(kind: str, options: argparse.Namespace) -> Path:
    """Output directory of an evaluation that is finished."""
    outdir = options.workdir / kind
    if not (outdir / "report.html").is_file():
        data = Run(kind, 1, options.surveys or options.workdir / "surveys", outdir).training_set()
        words = ["--data", data, "--outdir", outdir, "--overwrite", "--referees", *REFEREES]
        words += ["--sensitivity", "none", "--jobs", 1, "--threads", 1]
        command = [sys.executable, "-m", "obiwan.dplearn.evaluate", *map(str, words)]
        with outdir.with_suffix(".log").open("w") as stream:
            subprocess.run(command, stdout=stream, stderr=stream, env=os.environ, check=True)
    return Path(outdir)


def section(kind: str, found: dict[str, Any]) -> str:
    """Part of the page on one survey."""
    title, ruling = TITLES[kind], found["ruling"]
    values = {"headline": ruling["headline"], "scope": ruling["scope"], "kind": kind}
    return SECTION.format(title=title, line="-" * len(title), **values)


def main() -> int:
    """Make what is missing, and write page and pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", type=Path, default=Path("/tmp/gallery"))
    parser.add_argument("--surveys", type=Path, help="directory of surveys that other benchmarks share")
    parser.add_argument("--only", nargs="+", default=list(PLANTED), choices=list(PLANTED))
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    STATIC.mkdir(parents=True, exist_ok=True)
    parts = [HEAD.format(bricks=BRICKS[1], version=version())]
    for kind in options.only:
        outdir = evaluated(kind, options)
        for name in PICTURES:
            image = Image.open(outdir / "figures" / f"{name}.png").convert("RGB")
            small = image.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            small.save(STATIC / f"{kind}_{name}.png", optimize=True)
        parts.append(section(kind, json.loads((outdir / "metrics.json").read_text())))
        PAGE.write_text("".join(parts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
