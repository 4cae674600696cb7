"""``python -m obiwan.dplearn.mock``: the command line."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from obiwan.dplearn.errors import DplearnError
from obiwan.dplearn.files.outdir import Others, OutputDirectory, State
from obiwan.dplearn.mock.config import FILTERS, LAYOUTS, MockConfig, Plant
from obiwan.dplearn.mock.survey import PROGRAM, RECORD, make_survey
from obiwan.dplearn.running import cli

OWN_ENTRIES = ("release", "injected", "injected_obiwan", "truth", "bricks.txt", RECORD)

OPTIONS = {
    "bricks": "number of bricks",
    "brick_size": "pixels on a side of a coadd",
    "border": "pixels outside the primary box, on each side",
    "runs": "injection runs over each brick",
    "injections": "per brick and run; 0: 0.8 per area of a 64-px stamp",
    "density": "real objects per area of a 64-px stamp",
    "west": "columns of bricks west of RA 0",
    "dec": "declination of the first row of bricks",
    "seed": "of everything random",
}
PLANTS = {
    "offset": ("PX", "moved by PX pixels along +x; catalogued positions stay"),
    "psf": ("F", "PSF wider by the factor F"),
    "size": ("F", "half-light radius times F"),
    "flux": ("F", "flux times F"),
    "colour": ("MMAG", "bluest minus reddest band (g-z) bluer by MMAG millimagnitudes"),
    "sersic": ("DN", "Sersic index plus DN"),
    "no_shot_noise": ("F", "fraction F of the shot noise is missing"),
    "ivar_dip": ("F", "invvar lower by the fraction F at the centre"),
}


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    default = MockConfig()
    out = argparse.ArgumentParser(
        prog="python -m obiwan.dplearn.mock", description="Make a mock survey with GalSim."
    )
    cli.add_config_option(out)
    out.add_argument("--outdir", type=Path, required=True, help="where to write; must be empty or absent")
    out.add_argument("--overwrite", action="store_true", help="replace a mock survey that is there")
    out.add_argument("--jobs", type=cli.jobs, default=os.cpu_count() or 1, help="processes [%(default)s]")
    known, ours = f"of the coadds and catalogues, of {' '.join(FILTERS)}", " ".join(default.bands)
    out.add_argument(
        "--bands",
        nargs="+",
        metavar="BAND",
        default=default.bands,
        help=f"{known} [{ours}]",
    )
    for name, text in OPTIONS.items():
        value = getattr(default, name)
        flag = f"--{name.replace('_', '-')}"
        out.add_argument(flag, type=type(value), default=value, help=f"{text} [%(default)s]")
    out.add_argument(
        "--layout", choices=LAYOUTS, default=default.layout, help="of the injection trees [%(default)s]"
    )
    plants = out.add_argument_group("differences planted in the light of the injected objects")
    for name, (unit, text) in PLANTS.items():
        plants.add_argument(
            f"--plant-{name.replace('_', '-')}",
            type=float,
            metavar=unit,
            help=f"{text} [%(default)s]",
            default=getattr(default.plant, name),
        )
    return out


def config_from(options: argparse.Namespace) -> MockConfig:
    """Return the configuration that parsed options ask for; `ValueError` if it makes no sense."""
    plant = Plant(**{f.name: getattr(options, f"plant_{f.name}") for f in fields(Plant)})
    values = {name: getattr(options, name) for name in OPTIONS}
    return MockConfig(**values, bands=tuple(options.bands), layout=options.layout, plant=plant)


def prepare_outdir(outdir: Path, overwrite: bool) -> None:
    """Make the output directory; where it is not empty, refuse, or with ``overwrite`` remove the mock there.

    Raises
    ------
    DplearnError
        If the directory holds something and ``overwrite`` is not given, or holds what no mock wrote.
    """
    request = {"program": PROGRAM}
    output = OutputDirectory(
        outdir,
        "mock survey",
        DplearnError,
        owned=re.compile("|".join(map(re.escape, OWN_ENTRIES))),
        records=(RECORD,),
        final="",  # a mock survey starts from nothing
        scratch=".work",
        others=Others.REFUSED,
        identify=lambda record: request if record.get("program") == PROGRAM else None,
    )
    if output.check(request, overwrite=overwrite) is not State.EMPTY and not overwrite:
        msg = f"{outdir}: holds a mock survey already; choose another --outdir, or give --overwrite"
        raise DplearnError(msg)
    output.clear()
    outdir.mkdir(parents=True, exist_ok=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Make a mock survey as the command line asks; return the exit status."""
    words = parser()
    options = cli.parse(words, argv)
    try:
        config = config_from(options)
    except ValueError as error:
        words.error(str(error))

    def body() -> int:
        prepare_outdir(options.outdir, options.overwrite)
        rows, fakes = make_survey(config, options.outdir, min(options.jobs, config.bricks), progress=True)
        cli.say(
            f"{config.bricks} bricks, {rows} sources in the release, {fakes} injections in {config.runs} runs"
        )
        cli.say(f"written: {options.outdir}")
        return 0

    return cli.run(body, "mock")


if __name__ == "__main__":
    raise SystemExit(main())
