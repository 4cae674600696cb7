"""Packed shard: stamps as the integers that their coadds were quantised to, without loss.

An npz file (a zip archive of npy arrays, not compressed by zip) with these members:

``about``
    JSON as bytes: format, version, codec, shape (rows, size, size, channels), channel names and the number of
    stamps in a block.
``patches``
    Rectangles of stamps with the grid of their tile, rows of `patch_dtype`.
``lost``
    Number of pixels in each block that are not on the grid.
``image_<n>``, ``ivar_<n>``
    Of block n, the planes of a kind: the integer of every pixel less the one that stands for 0, int32, shape
    (bands, stamps, y, x), in pcodec's standalone format.
``places_<n>``, ``values_<n>``
    Pixels that are not on the grid, in the same format: their positions in the block, uint32, and values,
    float32; absent where there are none.  Where all are lost there are no positions.

A pixel that was padded or cleaned is not on the grid, nor is any of a plane that is not quantised.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, DeltaSpec, ModeSpec, PagingSpec, standalone

from obiwan.dplearn.files import memory
from obiwan.dplearn.stampspec import IMAGE, IVAR, Array, StampSpec
from obiwan.dplearn.trainingset.patches import Patches, check_patches, patch_dtype

FORMAT = "obiwan.dplearn packed shard"
VERSION = 2
CODEC = "pcodec"
BLOCK = 16  # stamps: their integers nearly fit the fast cache of a processor
#: Differences of neighbours that are coded; pcodec's own search takes a third more time for 1 % of the bytes.
_ORDER = {IMAGE: DeltaSpec.no_op(), IVAR: DeltaSpec.try_consecutive(1)}


def no_patches(spec: StampSpec) -> Array:
    """Table without patches, for stamps whose coadds are not known."""
    return np.empty(0, patch_dtype(len(spec.channels)))


def pack(stamps: NDArray[np.float32], spec: StampSpec, patches: Array) -> dict[str, Array]:
    """Arrays of a packed shard.

    Parameters
    ----------
    stamps : ndarray of float32, shape (n, size, size, channels)
    spec : StampSpec
    patches : ndarray of `patch_dtype`
        Of these stamps, sorted by stamp.  A wrong or missing one costs space and no accuracy: what its grid
        does not give back bit for bit is stored as a value.

    Returns
    -------
    dict
        From names to arrays, as the module describes them.
    """
    about = {
        "format": FORMAT,
        "version": VERSION,
        "codec": CODEC,
        "shape": list(stamps.shape),
        "channels": list(spec.channels),
        "block": BLOCK,
    }
    out = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8), "patches": patches}
    tiles, counts = Patches(patches, spec.size), []
    for number, start in enumerate(range(0, len(stamps), BLOCK)):
        block = stamps[start : start + BLOCK]
        integers, places, values = _to_integers(block, tiles, start)
        counts.append(len(values))
        for kind, planes in _by_kind(integers, spec).items():
            out[f"{kind}_{number}"] = _compress(planes, _ORDER[kind])
        if len(places):
            out[f"places_{number}"] = _compress(places.astype(np.uint32))
        if len(values):
            out[f"values_{number}"] = _compress(values)
    return {**out, "lost": np.array(counts, np.int64)}


def _by_kind(integers: Array, spec: StampSpec) -> dict[str, Array]:
    """Integers of each kind of planes, from those of all channels."""
    return dict(zip(spec.planes, np.split(integers, len(spec.planes)), strict=True))


def _to_integers(stamps: Array, tiles: Patches, start: int) -> tuple[Array, Array, Array]:
    """Integers of a block of stamps, (channels, stamps, y, x), and places and values of what they miss.

    Where they miss all there are no places.
    """
    count, size, _, channels = stamps.shape
    integers = np.empty((channels, count, size, size), np.int32)
    lost = np.empty(integers.shape, bool)
    for number, stamp in enumerate(stamps):
        integers[:, number] = tiles.integers(start + number, stamp)
        with np.errstate(all="ignore"):  # of integers that mean nothing
            again = tiles.values(start + number, integers[:, number]).astype(np.float32)
        differs = again.view(np.uint32) != stamp.view(np.uint32)
        lost[:, number] = differs.transpose(2, 0, 1) if differs.any() else False
    places, planes = np.flatnonzero(lost), stamps.transpose(3, 0, 1, 2)
    if len(places) > lost.size // 2:  # positions of most pixels are not worth their while
        return np.zeros_like(integers), places[:0], planes.reshape(-1)
    integers.reshape(-1)[places] = 0
    return integers, places, planes[np.unravel_index(places, planes.shape)]


def _compress(numbers: Array, order: DeltaSpec | None = None) -> NDArray[np.uint8]:
    """Numbers in pcodec's standalone format; integers, of which each plane is a chunk, with this order."""
    config = ChunkConfig()
    if order is not None:
        pages = PagingSpec.equal_pages_up_to(numbers[0].size)
        config = ChunkConfig(mode_spec=ModeSpec.classic(), delta_spec=order, paging_spec=pages)
    return np.frombuffer(standalone.simple_compress(numbers.reshape(-1), config), np.uint8)


def _decompress(member: Array, out: Array) -> Array:
    """Numbers of a member, written into a flat array.

    Raises
    ------
    ValueError
        If there are more or fewer of them, or they are of another type.
    """
    done = standalone.simple_decompress_into(member.tobytes(), out)
    if done.n_processed != out.size or not done.finished:
        msg = f"{done.n_processed} numbers where {out.size} should be"
        raise ValueError(msg)
    return out


def unpack(arrays: Mapping[str, Array], spec: StampSpec, rows: int) -> NDArray[np.float32]:
    """Stamps of a packed shard.

    Parameters
    ----------
    arrays : mapping
        As `pack` returns them.
    spec : StampSpec
    rows : int
        Number of stamps that there must be.

    Returns
    -------
    ndarray of float32, shape (rows, size, size, channels)

    Raises
    ------
    Exception
        Of any class, if the arrays are not those of such a shard.
    """
    about = json.loads(arrays["about"].tobytes())
    expected = {"format": FORMAT, "version": VERSION, "codec": CODEC, "shape": [rows, *spec.shape]}
    expected["channels"] = list(spec.channels)
    for key, value in expected.items():
        if about[key] != value:
            msg = f"{key} is {about[key]!r}, expected {value!r}"
            raise ValueError(msg)
    patches, block = arrays["patches"], int(about["block"])
    check_patches(patches, spec, rows)
    tiles = Patches(patches, spec.size)
    stamps = memory.empty((rows, *spec.shape), np.dtype("<f4"))
    space = memory.empty((stamps[:block].size,), np.int32)  # of the integers of one block after another
    with np.errstate(all="ignore"):
        for number, start in enumerate(range(0, rows, block)):
            some = stamps[start : start + block]
            integers = space[: some.size].reshape(len(spec.channels), -1, spec.size, spec.size)
            for kind, planes in _by_kind(integers, spec).items():
                _decompress(arrays[f"{kind}_{number}"], planes.reshape(-1))
            _unpack_block(arrays, number, integers, tiles, start, some)
    return stamps


def _unpack_block(
    arrays: Mapping[str, Array],
    number: int,
    integers: NDArray[np.int32],
    tiles: Patches,
    start: int,
    out: NDArray[np.float32],
) -> None:
    """Write the stamps of one block, shape (stamps, size, size, channels), from their integers."""
    for stamp in range(len(out)):
        out[stamp] = tiles.values(start + stamp, integers[:, stamp])
    lost = int(arrays["lost"][number])
    if not 0 <= lost <= out.size:
        msg = f"{lost} pixels of {out.size} are not on the grid"
        raise ValueError(msg)
    if not lost:
        return
    values = _decompress(arrays[f"values_{number}"], np.empty(lost, np.float32))
    if lost == out.size:
        out[...] = values.reshape(integers.shape).transpose(1, 2, 3, 0)
    else:
        places = _decompress(arrays[f"places_{number}"], np.empty(lost, np.uint32)).astype(np.int64)
        channel, pixel = np.divmod(places, out[..., 0].size)
        out.reshape(-1)[pixel * out.shape[-1] + channel] = values
