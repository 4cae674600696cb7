"""Keras backend: from ``KERAS_BACKEND`` or ``keras.json``, as Keras chooses it.

Nothing else is used of that file, which may be another project's: the number type, epsilon and order of axes
in it would change what is computed, so Keras is made to start without it.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from obiwan.dplearn.errors import DplearnError

BACKENDS = ("tensorflow", "jax", "torch", "openvino")
FLOATX = "float32"  #: Keras' default, in which networks are trained and score


def _config(environ: Mapping[str, str]) -> tuple[Path, dict[str, Any]]:
    """Configuration file of Keras, and what is in it; nothing where it cannot be read."""
    path = Path(environ.get("KERAS_HOME") or Path("~/.keras").expanduser()).expanduser() / "keras.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    return path, content if isinstance(content, dict) else {}


def keras_backend(environ: Mapping[str, str]) -> str:
    """The backend that Keras will choose: the variable, its configuration file, or TensorFlow."""
    return environ.get("KERAS_BACKEND") or str(_config(environ)[1].get("backend") or "tensorflow")


def settle_keras(environ: MutableMapping[str, str]) -> list[str]:
    """Set what Keras must find in the environment when it is imported: a backend and no configuration file.

    Parameters
    ----------
    environ : mapping
        Changed in place.

    Returns
    -------
    list of str
        What is not used of the file, for the log.

    Raises
    ------
    DplearnError
        If there is no such backend, or it is not installed.
    """
    path, content = _config(environ)
    backend = keras_backend(environ)
    source = (
        "KERAS_BACKEND" if environ.get("KERAS_BACKEND") else path if "backend" in content else "the default"
    )
    if backend not in BACKENDS:
        known = ", ".join(BACKENDS)
        msg = f"Keras backend {backend} ({source}) is none of {known}; set KERAS_BACKEND=tensorflow"
        raise DplearnError(msg)
    if importlib.util.find_spec(backend) is None:
        others = "" if backend == "tensorflow" else ", or set KERAS_BACKEND=tensorflow"
        extras = {"tensorflow": "'obiwan-dplearn[train]'", "jax": "'obiwan-dplearn[train-jax]'"}
        package = extras.get(backend, backend)
        msg = f"Keras backend {backend} ({source}) is not installed; pip install {package}{others}"
        raise DplearnError(msg)
    environ["KERAS_BACKEND"] = backend
    environ["KERAS_HOME"] = os.devnull  # where no file is, nor can be written
    floatx = content.get("floatx", FLOATX)
    return [] if floatx == FLOATX else [f"{path}: floatx {floatx} is not used: networks are in {FLOATX}"]
