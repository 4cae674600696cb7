"""Functions of the user, named ``module:function``, imported with errors that name the option."""

from __future__ import annotations

import importlib
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
