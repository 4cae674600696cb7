"""Mock survey: real galaxies on simulated sky, and injections among them, drawn with GalSim.

``python -m obiwan.dplearn.mock --outdir DIR``
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from obiwan.dplearn.errors import DplearnError
from obiwan.dplearn.files.outdir import Others, OutputDirectory, State
from obiwan.dplearn.mock.config import MockConfig, Plant
from obiwan.dplearn.mock.survey import PROGRAM, RECORD, make_survey
from obiwan.dplearn.running import cli

OWN_ENTRIES = ("release", "injected", "injected_obiwan", "truth", "bricks.txt", RECORD)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    out = argparse.ArgumentParser(
        prog="python -m obiwan.dplearn.mock", description=(__doc__ or "").split("\n")[0]
    )
    cli.add_config_option(out)
    out.add_argument("--outdir", type=Path, required=True, help="where to write; must be empty or absent")
    out.add_argument("--overwrite", action="store_true", help="replace a mock survey that is there")
    out.add_argument("--jobs", type=cli.jobs, default=os.cpu_count() or 1, help="processes")
    cli.add_options(out, MockConfig)
    plants = out.add_argument_group("differences planted in the light of the injected objects")
    cli.add_options(plants, Plant, prefix="plant-")
    return out


def config_from(options: argparse.Namespace) -> MockConfig:
    """Return the configuration that parsed options ask for; `ValueError` if it makes no sense."""
    plant = Plant(**cli.chosen(Plant, options, "plant_"))
    return MockConfig(**cli.chosen(MockConfig, options), plant=plant)


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


def program(options: argparse.Namespace, config: MockConfig) -> int:
    """The program's body, after the options are read; returns the exit status."""
    prepare_outdir(options.outdir, options.overwrite)
    rows, fakes = make_survey(config, options.outdir, min(options.jobs, config.bricks), progress=True)
    cli.say(
        f"{config.bricks} bricks, {rows} sources in the release, {fakes} injections in {config.runs} runs"
    )
    cli.say(f"written: {options.outdir}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Make a mock survey as the command line asks; return the exit status."""
    words = parser()
    options = cli.parse(words, argv)
    try:
        config = config_from(options)
    except ValueError as error:
        words.error(str(error))
    return cli.run(lambda: program(options, config), "mock", again="start it again with --overwrite")


if __name__ == "__main__":
    raise SystemExit(main())
