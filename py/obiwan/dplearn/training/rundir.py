"""Output directory of a training run: its files, and the result that a finished run left."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.files.atomic import read_json
from obiwan.dplearn.files.outdir import OutputDirectory

RUN, RESULT, SCORES = "run.json", "result.json", "scores_test.fits"
BEST, LAST = "best.keras", "last.keras"
HISTORY, CHECKPOINTS, TENSORBOARD = "history.csv", "checkpoints", "tensorboard"
SCRATCH = ".scratch"  # while a run goes on
OURS = (RUN, RESULT, BEST, LAST, SCORES, HISTORY, CHECKPOINTS, TENSORBOARD)  # all that a run writes

log = logging.getLogger(__name__)


def run_directory(outdir: Path) -> OutputDirectory:
    """The output directory of one training, of ``cnn`` or of a network trained again."""
    return OutputDirectory(
        outdir,
        "run",
        ModelError,
        owned=re.compile("|".join(map(re.escape, OURS))),
        records=(RUN,),
        final=RESULT,
        scratch=SCRATCH,
    )


def finished_lines(outdir: Path) -> list[str] | None:
    """The result that a finished run has printed; None where there is none, or none that can be read.

    An unreadable one is removed with a warning: whoever goes on from the last checkpoint makes it again.
    """
    path = outdir / RESULT
    if not path.is_file():
        return None
    try:
        lines = read_json(path)["lines"]
        if isinstance(lines, list) and all(isinstance(line, str) for line in lines):
            return lines
    except (ValueError, KeyError):
        pass
    log.warning("%s: not a readable result; it is made again from the last checkpoint", path)
    path.unlink(missing_ok=True)
    return None
