"""Referees of the user: any Python object with ``fit`` and ``predict``, named ``module:function``."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.stampspec import Array


@dataclass(frozen=True)
class UserReferee:
    """Referee of the user's code.

    Attributes
    ----------
    name : str
        ``module:function``.
    make : callable
        Makes an object with ``fit(stamps, rows, labels)`` and ``predict(stamps, rows)``.
    fitted : object or None
        Such an object after its ``fit``.
    """

    name: str
    make: Callable[[], Any]
    fitted: Any = None
    learnt: bool = True  # what it made of its training set is its own affair

    @property
    def checksum(self) -> str:
        """A name for the code it comes from; the object itself is not stored."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:16]

    def fit(self, stamps: NDArray[np.float32], rows: Array, labels: NDArray[np.uint8]) -> UserReferee:
        """Train a new object of the user's.

        Raises
        ------
        ModelError
            If its ``fit`` raises anything.
        """
        made = self.make()
        with _named(self.name, "fit"):
            result = made.fit(stamps, rows, labels)
        return UserReferee(self.name, self.make, made if result is None else result)

    def predict(self, stamps: NDArray[np.float32], rows: Array) -> NDArray[np.float32]:
        """Scores of the user's object, from 0 (real) to 1 (fake).

        Raises
        ------
        ModelError
            If its ``predict`` raises anything, or they are not one finite number from 0 to 1 a stamp.
        """
        with _named(self.name, "predict"):
            scores = np.asarray(self.fitted.predict(stamps, rows), np.float32)
        fault = ""
        if scores.shape != (len(stamps),):
            fault = f"an array of shape {scores.shape}"
        elif bad := int(np.count_nonzero(~((scores >= 0) & (scores <= 1)))):
            fault = f"{bad} that are not"
        if fault:
            msg = f"--referees {self.name}: predict must give a number from 0 to 1 for each of {len(stamps)} "
            msg += f"stamps; it gave {fault}"
            raise ModelError(msg)
        return scores


@contextmanager
def _named(name: str, method: str) -> Iterator[None]:
    """Say in one line which referee's method failed."""
    try:
        yield
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        msg = f"--referees {name}: {method} failed ({type(error).__name__}: {error}); --verbose shows where"
        raise ModelError(msg) from error


def load_plugin(name: str) -> UserReferee:
    """The referee that ``module:function`` names.

    Raises
    ------
    ModelError
        If the module cannot be imported, has no such function, or what this makes is no referee.
    """
    module, _, function = name.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
        made = make()
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        msg = (
            f"--referees {name}: cannot be made ({type(error).__name__}: {error}); it must be an importable "
        )
        msg += "module:function that returns an object with fit and predict (see PYTHONPATH)"
        raise ModelError(msg) from error
    if not all(callable(getattr(made, method, None)) for method in ("fit", "predict")):
        msg = f"--referees {name}: {type(made).__name__} has no methods fit(stamps, rows, labels) and "
        msg += "predict(stamps, rows)"
        raise ModelError(msg)
    return UserReferee(name, make)
