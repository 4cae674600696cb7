"""Report of an evaluation: an HTML page, figures, numbers and scores.

The input is an `obiwan.dplearn.evaluation.analysis.Evaluation`: facts and numbers.  All English
text is in ``html/text.toml``; `formatting`, `wording` and `sections` put facts into it; `charts` and `stamps`
draw -> `figures` (drawings with captions) -> `page` (HTML) -> `output` (files, written atomically).
"""

import importlib as _importlib
import os as _os

try:
    _importlib.import_module("matplotlib")
except ValueError:  # MPLBACKEND names a backend that is not installed here; files need none
    _asked = _os.environ.pop("MPLBACKEND", "")
    try:
        _importlib.import_module("matplotlib")
    finally:
        _os.environ["MPLBACKEND"] = _asked
