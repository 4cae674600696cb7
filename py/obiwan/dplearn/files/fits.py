"""FITS files: opened under names that CFITSIO does not interpret, checks against truncation, fingerprints.

CFITSIO takes brackets, parentheses, a ``!`` in front, ``+1`` at the end and more for its file name syntax,
and fitsio expands ``~`` and ``$``.  Nothing else of the package therefore hands a path to either of them.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fitsio

from obiwan.dplearn.errors import DplearnError, explained

# Names that neither fitsio nor CFITSIO (its ffiurl) reads as anything but a name
_PLAIN = re.compile(r"(?!std(?:in|out))[\w/.](?:[\w./=,@ -]{0,900}\w)?", re.IGNORECASE)
_OPEN_FILES = Path("/proc/self/fd")  #: where Linux has the files and directories that a process has open
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


def can_hold_fits(directory: Path) -> bool:
    """Whether FITS files of plain names can be opened in a directory, which need not be there."""
    return bool(_PLAIN.fullmatch(str(directory))) or _OPEN_FILES.is_dir()


@contextmanager
def open_fits(path: Path, *, new: bool = False) -> Iterator[Any]:
    """FITS file, opened with fitsio whatever characters are in its path.

    A path that CFITSIO would interpret is opened through the descriptor of the file, or of the directory that
    a new one is in, which costs some 20 microseconds.

    Parameters
    ----------
    path : Path
        A plain, fpacked or gzipped file.
    new : bool
        Write a new one, in place of one that is there.

    Yields
    ------
    fitsio.FITS

    Raises
    ------
    OSError
        If there is no such file, it is no FITS file, or the path cannot be opened on this system.
    """
    with _as_is(path, new=new) as name, fitsio.FITS(name, "rw" if new else "r", clobber=new) as file:
        yield file


@contextmanager
def _as_is(path: Path, *, new: bool) -> Iterator[str]:
    """A name for a file in which CFITSIO finds nothing to interpret; a `new` file gets its own at the end."""
    if _PLAIN.fullmatch(str(path)):
        yield str(path)
        return
    if not _OPEN_FILES.is_dir():
        msg = f"{path}: CFITSIO would interpret its name; rename it to letters, digits, - and _"
        raise OSError(msg)
    number = os.open(path.parent if new else path, os.O_RDONLY)
    beside = path.with_name(f".{os.getpid()}.fits")  # the file's own name may be the one that is interpreted
    opened = _OPEN_FILES / str(number)
    try:
        yield str(opened / beside.name if new else opened)
        if new:
            beside.replace(path)
    finally:
        os.close(number)
        if new:
            beside.unlink(missing_ok=True)


def check_not_truncated(file: Any, path: Path) -> None:
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
