"""FITS files: checks against truncation, and fingerprints."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fitsio

from obiwan.dplearn.errors import DplearnError, explained

_BLOCK = 2880  #: bytes of a FITS block
_SAMPLES = 8


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


def check_not_truncated(file: fitsio.FITS, path: Path) -> None:
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


def fingerprint(path: Path, header: tuple[int, int], value: int = 0) -> int:
    """Fingerprint of a file that changes when it is written anew: size, one header, eight blocks of the rest.

    The header has a checksum of the data (DATASUM) where the writer gave one, a gzipped file ends with its
    own, and in a compressed plane one changed pixel moves what comes behind it.

    Parameters
    ----------
    path : Path
    header : tuple of int
        First byte of the header and first byte behind it.
    value : int
        The fingerprint of other files, to be continued.

    Returns
    -------
    int
        CRC-32 (zlib).
    """
    with path.open("rb", buffering=0) as stream:
        number, size = stream.fileno(), os.fstat(stream.fileno()).st_size
        last = max(size - _BLOCK, 0)
        parts = [os.pread(number, header[1] - header[0], header[0])]
        parts += [os.pread(number, _BLOCK, last * i // (_SAMPLES - 1)) for i in range(_SAMPLES)]
    return zlib.crc32(b"".join([b"%d" % size, *parts]), value)


@contextmanager
def reading(what: str, remedy: str, kind: type[DplearnError]) -> Iterator[None]:
    """`obiwan.dplearn.errors.explained` for what CFITSIO reads, with the same parameters."""
    with explained(what, remedy, kind):
        try:
            yield
        except UnicodeDecodeError:
            _forget_messages()
            raise
