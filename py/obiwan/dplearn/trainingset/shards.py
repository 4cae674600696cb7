"""The training set on disk: plain npy shards, a source table and a manifest that vouches for them.

``x<split>_<n>.npy`` holds little-endian float32 cutouts, shape (rows, 64, 64, 6) in C order, axes
``[row, y, x, channel]``; ``y<split>_<n>.npy`` holds labels, unsigned bytes, real = 0, fake = 1.
``numpy.load`` on either is all that a stranger needs.  The pixel convention is 0-based with centres
at integers; images are nanomaggies, inverse variances 1/nanomaggies**2, exactly as in the coadds.

A file is written under ``.work/`` and renamed into place, so it exists whole or not at all.
"""

from __future__ import annotations

import json
import reprlib
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.conventions import CHANNELS, LABELS, SPLITS, STAMP
from obiwan.dplearn.errors import TrainingSetError
from obiwan.dplearn.files.memory import Memory
from obiwan.dplearn.files.npyfile import load_npy, write_npy
from obiwan.dplearn.files.whole import read_json

FORMAT = "obiwan.dplearn training set"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SOURCES = "sources.fits"
WORK = ".work"  #: scratch directory inside a training set that is being made

X_DTYPE = np.dtype("<f4")
Y_DTYPE = np.dtype("|u1")


@dataclass(frozen=True)
class Shard:
    """One pair of files and what the manifest says of them.

    Attributes
    ----------
    split : str
        ``train``, ``val`` or ``test``.
    number : int
        The N of the file names, from 1.
    rows, real, fake : int
        Examples, and how many of each class.
    x_crc32, y_crc32 : int
        CRC-32 (zlib) of the whole files.
    """

    split: str
    number: int
    rows: int
    real: int
    fake: int
    x_crc32: int
    y_crc32: int

    @property
    def x_name(self) -> str:
        """File name of the cutouts."""
        return f"x{self.split}_{self.number}.npy"

    @property
    def y_name(self) -> str:
        """File name of the labels."""
        return f"y{self.split}_{self.number}.npy"


def write_shard(
    directory: Path,
    split: str,
    number: int,
    x: NDArray[np.float32],
    y: NDArray[np.uint8],
    scratch: Path | None = None,
) -> Shard:
    """Write one shard, whole or not at all.

    Parameters
    ----------
    directory : Path
        The training set.
    split, number
        Which shard.
    x : ndarray
        Cutouts, shape (rows, 64, 64, 6), little-endian float32, C-contiguous.
    y : ndarray
        Labels, shape (rows,), uint8.
    scratch : Path, optional
        Where the files are written before they are renamed, on the same file system; ``.work`` in the
        training set by default.

    Returns
    -------
    Shard
        The entry for the manifest.

    Raises
    ------
    ValueError
        If the arrays are not as the format has them.
    """
    stamp_shape = (STAMP, STAMP, len(CHANNELS))
    if x.shape[1:] != stamp_shape or x.dtype != X_DTYPE or not x.flags.c_contiguous:
        msg = f"cutouts must be C-contiguous {X_DTYPE.str} (n, 64, 64, 6), got {x.dtype.str} {x.shape}"
        raise ValueError(msg)
    if y.shape != (len(x),) or y.dtype != Y_DTYPE or len(x) == 0:
        msg = f"labels must be {Y_DTYPE.str} ({len(x)},) and not empty, got {y.dtype.str} {y.shape}"
        raise ValueError(msg)
    fakes = int(np.count_nonzero(y == LABELS["fake"]))
    blank = Shard(split, number, len(x), len(x) - fakes, fakes, 0, 0)
    scratch = scratch or directory / WORK
    x_crc32 = write_npy(directory / blank.x_name, scratch, x)
    y_crc32 = write_npy(directory / blank.y_name, scratch, y)
    return Shard(split, number, len(x), len(x) - fakes, fakes, x_crc32, y_crc32)


def read_shard(
    directory: Path, shard: Shard, memory: Memory | None = None
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Read one shard and check it against its manifest entry.

    Parameters
    ----------
    directory : Path
        The training set.
    shard : Shard
        Which one.
    memory : Memory, optional
        Lends the memory for the cutouts (`shard_memory`); fresh by default.

    Returns
    -------
    x : ndarray
        Cutouts, shape (rows, 64, 64, 6), float32 (nanomaggies and 1/nanomaggies**2).
    y : ndarray
        Labels, shape (rows,), uint8: real = 0, fake = 1.

    Raises
    ------
    TrainingSetError
        If a file is missing, corrupt, or of another shape than the manifest says.
    """
    shape = (shard.rows, STAMP, STAMP, len(CHANNELS))
    x = load_npy(directory / shard.x_name, shard.x_crc32, X_DTYPE, shape, memory)
    y = load_npy(directory / shard.y_name, shard.y_crc32, Y_DTYPE, (shard.rows,))
    return x, y


def shard_memory(shards: Sequence[Shard], spare: int) -> Memory:
    """Memory for reading these shards again and again, of which up to `spare` are at hand at a time."""
    header = 128  # of an npy file of this format
    rows = max(shard.rows for shard in shards)
    return Memory(header + rows * STAMP * STAMP * len(CHANNELS) * X_DTYPE.itemsize, spare)


@dataclass(frozen=True)
class TrainingSet:
    """A finished training set: where it is, what its manifest says.

    Attributes
    ----------
    directory : Path
        Where the files are.
    manifest : dict
        The content of ``manifest.json``.
    shards : tuple of Shard
        Every shard, in the order train, val, test, then number.
    """

    directory: Path
    manifest: dict[str, Any]
    shards: tuple[Shard, ...]

    def split(self, name: str) -> tuple[Shard, ...]:
        """The shards of one split, by number."""
        return tuple(shard for shard in self.shards if shard.split == name)

    def count(self, name: str) -> tuple[int, int]:
        """Numbers of real and of fake examples in a split."""
        shards = self.split(name)
        return sum(s.real for s in shards), sum(s.fake for s in shards)

    def read(
        self, shard: Shard, memory: Memory | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Read one shard with its checksum verified; see `read_shard`."""
        return read_shard(self.directory, shard, memory)

    @property
    def checksum(self) -> str:
        """A name for the content: CRC-32 over all shard checksums, eight hex digits."""
        words = " ".join(f"{s.x_name}:{s.x_crc32}:{s.y_crc32}" for s in self.shards)
        return f"{zlib.crc32(words.encode()):08x}"


def shard_entry(shard: Shard) -> dict[str, Any]:
    """A shard as it stands in the manifest."""
    return asdict(shard)


def manifest_checksum(manifest: dict[str, Any]) -> int:
    """CRC-32 of a manifest's content, without the entry that holds it."""
    content = {key: value for key, value in manifest.items() if key != "manifest_crc32"}
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _check_format(path: Path, manifest: dict[str, Any]) -> None:
    expected = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "channels": list(CHANNELS),
        "labels": LABELS,
        "stamp": STAMP,
    }
    for key, value in expected.items():
        if manifest.get(key) != value:
            msg = (
                f"{path}: {key} is {reprlib.repr(manifest.get(key))}, expected {value!r}; "
                "make the training set again with this version's create_training"
            )
            raise TrainingSetError(msg)


def open_training_set(directory: Path, *, files: bool = True) -> TrainingSet:
    """Read and check the manifest of a training set; shards are checked when they are read.

    Parameters
    ----------
    directory : Path
        What ``create_training --outdir`` made.
    files : bool
        Look at every shard's files, too: two metadata operations each, of which one of many ranks is enough.

    Raises
    ------
    TrainingSetError
        If there is no finished training set of this format, or a shard's file is missing or too small.
    """
    path = directory / MANIFEST
    if not directory.is_dir():
        msg = f"{directory}: no such directory; make one with python -m obiwan.dplearn.create_training"
        raise TrainingSetError(msg)
    if not path.is_file():
        unfinished = (directory / WORK).is_dir()
        state = "is not finished: start create_training again" if unfinished else "holds no training set"
        msg = f"{directory}: {state} ({MANIFEST} is missing)"
        raise TrainingSetError(msg)
    try:
        manifest = read_json(path)
        _check_format(path, manifest)
        if manifest.get("manifest_crc32") != manifest_checksum(manifest):
            msg = "its checksum does not fit its content"
            raise ValueError(msg)
        shards = tuple(Shard(**entry) for entry in manifest["shards"])
        if len({(shard.split, shard.number) for shard in shards}) < len(shards):
            msg = "it names a shard twice"
            raise ValueError(msg)
        _check_origins(manifest)
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path}: not a readable manifest ({error}); make the training set again"
        raise TrainingSetError(msg) from None
    for shard in shards:
        _check_entry(directory, shard)
        if files:
            _check_files(directory, shard)
    return TrainingSet(directory, manifest, shards)


def _check_origins(manifest: dict[str, Any]) -> None:
    """What a manifest may say of where the examples come from must be what a report reads of it.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    flow = manifest.get("cut_flow", {})
    right = {
        "config": isinstance(manifest.get("config", {}), dict),
        "roots": isinstance(roots := manifest.get("roots", []), list) and all(map(_is_root, roots)),
        "cut_flow": isinstance(flow, dict) and all(_is_flow(flow.get(name, [])) for name in LABELS),
    }
    wrong = [name for name, is_right in right.items() if not is_right]
    if wrong:
        msg = f"its {wrong[0]} is {reprlib.repr(manifest[wrong[0]])}"
        raise ValueError(msg)


def _is_root(root: Any) -> bool:
    """Whether this tells of an input tree: its number, and its words."""
    return (
        isinstance(root, dict)
        and type(root.get("index")) is int
        and all(isinstance(root.get(key, ""), str) for key in ("name", "layout"))
    )


def _is_flow(flow: Any) -> bool:
    """Whether this is a cut flow of one class: cuts, and how many examples were left after each."""
    return isinstance(flow, list) and all(
        isinstance(cut, list) and list(map(type, cut)) == [str, int] for cut in flow
    )


def _adds_up(shard: Shard) -> bool:
    return (
        shard.number >= 1 <= shard.rows
        and min(shard.real, shard.fake) >= 0
        and shard.real + shard.fake == shard.rows
    )


def _check_entry(directory: Path, shard: Shard) -> None:
    """A manifest entry must make sense, and name files of the set itself."""
    numbers = (shard.number, shard.rows, shard.real, shard.fake, shard.x_crc32, shard.y_crc32)
    if shard.split not in SPLITS or not all(type(n) is int for n in numbers) or not _adds_up(shard):
        msg = (
            f"{directory / MANIFEST}: entry {reprlib.repr(shard)} makes no sense; make the training set again"
        )
        raise TrainingSetError(msg)


def _check_files(directory: Path, shard: Shard) -> None:
    """The files of a shard must be there and large enough: nobody asks for memory that they do not fill."""
    pixels = STAMP * STAMP * len(CHANNELS) * X_DTYPE.itemsize
    for name, least in ((shard.x_name, shard.rows * pixels), (shard.y_name, shard.rows)):
        try:
            size = (directory / name).stat().st_size
        except OSError:
            msg = f"{directory / name}: the manifest names this shard but it is not there; make the set again"
            raise TrainingSetError(msg) from None
        if size < least:
            msg = f"{directory / name}: truncated, {size} bytes; make the training set again (--overwrite)"
            raise TrainingSetError(msg)
