"""Errors that a caller may want to catch; every message names file and remedy.

Bad arguments raise `ValueError`.  The classes here are for what is wrong with the
user's *data*; the command lines print them as one line and exit with status 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class DplearnError(Exception):
    """Base class: something about the user's input that a message can explain."""


class LayoutError(DplearnError):
    """A directory is not (or not usefully) one of the known trees."""


class CatalogError(DplearnError):
    """A tractor, truth or user table lacks what is needed."""


class CoaddError(DplearnError):
    """A coadd plane is missing, unreadable or disagrees with its siblings."""


class SelectionError(DplearnError):
    """No example survives, or the survivors cannot be split."""


class TrainingSetError(DplearnError):
    """A training set on disk is absent, incomplete, corrupt or of another format."""


class LeaseLostError(DplearnError):
    """Another run has begun in the same output directory, and this one must end."""


class ModelError(DplearnError):
    """A saved model, checkpoint or training run cannot be used as asked."""


class DivergedError(ModelError):
    """The loss of a training run is no longer finite."""


@contextmanager
def explained(what: str, remedy: str, kind: type[DplearnError]) -> Iterator[None]:
    """Turn any exception of a decoder into an error of one line.

    Parameters
    ----------
    what : str
        What cannot be done, with the file's name.
    remedy : str
        What to do about it.
    kind : type
        The class of the error that is raised.
    """
    try:
        yield
    except (DplearnError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # of any kind: zlib has its own, a model may exit
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        msg = f"{what} ({reason}); {remedy}"
        raise kind(msg) from error
