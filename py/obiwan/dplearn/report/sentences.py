"""Sentences of the report by kind of fact, read from ``html/text.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

HTML = Path(__file__).parent / "html"  #: the page's template, its style and all sentences


@cache
def catalogue() -> Mapping[str, Mapping[str, str]]:
    """All sentences, by section and key."""
    return tomllib.loads((HTML / "text.toml").read_text(encoding="utf-8"))


def say(section: str, key: str, /, **values: Any) -> str:
    """A sentence with values in its braces.

    Examples
    --------
    >>> say("alt", "scores", auc="0.512")
    'Histograms of the scores of both classes; the AUC between them is 0.512.'
    """
    return catalogue()[section][key].format(**values)
