"""What every reader of FITS files needs: damage told in one line, and found before memory is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fitsio

from obiwan.dplearn.errors import DplearnError


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


@contextmanager
def explained(what: str, remedy: str, kind: type[DplearnError]) -> Iterator[None]:
    """Turn whatever a decoder raises into one line.

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
    except Exception as error:  # decoders raise classes of their own: zlib's, astropy's for tiles
        if isinstance(error, UnicodeDecodeError):
            _forget_messages()
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        msg = f"{what} ({reason}); {remedy}"
        raise kind(msg) from error


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
