"""Report of an evaluation: an HTML page, figures, numbers and scores.

The input is an `obiwan.dplearn.evaluation.analysis.Evaluation`: facts and numbers.  All English
text is in ``html/text.toml``; `formatting`, `wording` and `sections` put facts into it; `charts` and `stamps`
draw -> `figures` (drawings with captions) -> `page` (HTML) -> `output` (files, written atomically).
"""

import importlib as _importlib
import os as _os

_asked = _os.environ.pop("MPLBACKEND", None)  # may name a backend that is not installed here; files need none
try:
    _importlib.import_module("matplotlib")
finally:
    if _asked is not None:
        _os.environ["MPLBACKEND"] = _asked
