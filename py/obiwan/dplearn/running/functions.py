"""Functions of the user, named ``module:function``: their import, and a checksum of their code."""

from __future__ import annotations

import importlib
import zlib
from pathlib import Path
from typing import Any


def load_function(word: str, option: str) -> Any:
    """Import what ``module:function`` names.

    Parameters
    ----------
    word : str
    option : str
        Of the command line, such as ``--select``.

    Raises
    ------
    ValueError
        If the word has no colon, the module cannot be imported, or has nothing of this name.
    """
    module_name, colon, name = word.partition(":")
    if not colon:
        msg = f"{option} {word}: not module:function"
        raise ValueError(msg)
    try:
        return getattr(importlib.import_module(module_name), name)
    except (Exception, SystemExit) as error:  # a module that is imported may do anything
        msg = f"{option} {word}: {error}; is the module on PYTHONPATH?"
        raise ValueError(msg) from None


def function_checksum(word: str, option: str) -> str:
    """Checksum of the file of a function's module, so that a changed model is another one.

    Parameters
    ----------
    word, option : str
        As for `load_function`.

    Returns
    -------
    str
        Empty where the module has no file.
    """
    load_function(word, option)
    path = getattr(importlib.import_module(word.partition(":")[0]), "__file__", None)
    return f"{zlib.crc32(Path(path).read_bytes()):08x}" if path else ""
