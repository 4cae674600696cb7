"""FITS files: damage is found before memory is asked for, and told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fitsio

from obiwan.dplearn.errors import DplearnError, explained


def _forget_messages() -> None:
    """Empty CFITSIO's stack of messages, which may hold bytes that fitsio cannot decode.

    What a garbled header leaves there would else be taken for an error in the next file.
    """
    for _ in range(100):
        with suppress(UnicodeDecodeError):
            try:
                fitsio.FITS("/dev/null/none")  # whose error carries away a few messages
            except OSError:
                return


def check_whole(file: fitsio.FITS, path: Path) -> None:
    """Compare a file's size with what its headers promise.

    A truncated file opens without complaint, and a damaged header may promise more than there is memory for.

    Raises
    ------
    OSError
        If it is smaller.
    """
    if path.suffix == ".gz":
        return
    end, size = max(hdu.get_offsets()["data_end"] for hdu in file), path.stat().st_size
    if size < end:
        msg = f"truncated: {size} bytes of {end}"
        raise OSError(msg)


@contextmanager
def reading(what: str, remedy: str, kind: type[DplearnError]) -> Iterator[None]:
    """`obiwan.dplearn.errors.explained` for what CFITSIO reads, with the same parameters."""
    with explained(what, remedy, kind):
        try:
            yield
        except UnicodeDecodeError:
            _forget_messages()
            raise
