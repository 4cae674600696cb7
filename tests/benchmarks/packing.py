"""Packed shards of real coadds and of the mock, compared with general codecs: bytes and speed.

    bin/benchmark packing -- [--data ../shared/data] [--mock]

Stamps of 64 pixels that do not overlap, of all coadds below a folder, each band with its inverse variance.
Of each codec the table has the ratio of bytes (image, inverse variance, both) and MB/s of stamps, by
processor time of one thread; `integers` are those of packed shards, whose rates include the arithmetic.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from astropy.io import fits

from obiwan.dplearn.mock.__main__ import main as make_mock
from obiwan.dplearn.stampspec import StampSpec
from obiwan.dplearn.survey.cutouts import clean_stamps
from obiwan.dplearn.survey.quantisation import TileGrid, read_grid
from obiwan.dplearn.trainingset import packed
from obiwan.dplearn.trainingset.packed import no_patches, pack, unpack
from obiwan.dplearn.trainingset.patches import patch_dtype, stamp_patches

SIZE = 64
REQUIRED = {"image": 3.3, "ivar": 3.4, "both": 3.5}


@dataclass
class Stamps:
    """Stamps of one band, cleaned as `create_training` does it, with the table of their patches."""

    spec: StampSpec
    pixels: np.ndarray
    patches: np.ndarray

    def plane(self, channel: int) -> tuple[np.ndarray, np.ndarray, StampSpec]:
        """One plane alone, as if it were an image."""
        table = np.zeros(len(self.patches), patch_dtype(1))
        for name in table.dtype.names or ():
            one = self.patches[name]
            table[name] = one[:, channel : channel + 1] if one.ndim == 2 else one
        return self.pixels[..., channel : channel + 1].copy(), table, StampSpec(("r",), ("image",), SIZE)


def planes_of(path: Path) -> tuple[list[np.ndarray], list[TileGrid | None]]:
    """Image and inverse variance of one band, and their grids."""
    paths = [path, path.with_name(path.name.replace("-image-", "-invvar-"))]
    planes = []
    for one in paths:
        with fits.open(one) as hdus:
            found = [hdu.data for hdu in hdus if hdu.is_image and hdu.data is not None and hdu.data.ndim == 2]
        planes.append(np.asarray(found[0], "<f4"))
    return planes, [read_grid(one) for one in paths]


def stamps_of(folder: Path, band: str) -> Stamps | None:
    """All stamps of a band below a folder."""
    spec, pixels, patches = StampSpec((band,), size=SIZE), [], []
    for path in sorted(folder.rglob(f"*-image-{band}.fits*")):
        if not path.with_name(path.name.replace("-image-", "-invvar-")).exists():
            continue
        planes, grids = planes_of(path)
        ny, nx = planes[0].shape
        for y in range(0, ny - SIZE + 1, SIZE):
            for x in range(0, nx - SIZE + 1, SIZE):
                patches += stamp_patches(len(pixels), (y, x), SIZE, grids)
                pixels.append(np.stack([plane[y : y + SIZE, x : x + SIZE] for plane in planes], axis=-1))
    if not pixels:
        return None
    stamps = np.array(pixels, "<f4")
    clean_stamps(stamps, spec)
    return Stamps(spec, stamps, np.array(patches, patch_dtype(2)))


@dataclass
class Result:
    """Bytes before and after, and seconds of processor time."""

    raw: int = 0
    packed: int = 0
    there: float = 0.0
    back: float = 0.0

    def add(self, pixels: np.ndarray, encode: Callable[[], Any], decode: Callable[[Any], Any]) -> None:
        """Encode, decode and compare bit for bit."""
        start = time.process_time()
        code = encode()
        middle = time.process_time()
        again = decode(code)
        self.back += time.process_time() - middle
        self.there += middle - start
        if np.asarray(again).tobytes() != pixels.tobytes():
            msg = "stamps changed"
            raise RuntimeError(msg)
        self.raw += pixels.nbytes
        sizes = [array.nbytes for array in code.values()] if isinstance(code, dict) else [len(code)]
        self.packed += sum(sizes)


def general_codecs() -> Iterator[tuple[str, Callable[[bytes], bytes], Callable[[bytes], bytes]]]:
    """Lossless codecs of bytes of float32 that are installed, each at two levels."""
    import blosc2
    import zstandard
    from numcodecs import Shuffle, Zstd

    for level in (3, 9):
        zstd = zstandard.ZstdCompressor(level)
        yield f"zstandard {level}", zstd.compress, zstandard.ZstdDecompressor().decompress

        def blosc(content: bytes, level: int = level) -> bytes:
            return blosc2.compress2(content, codec=blosc2.Codec.ZSTD, clevel=level, typesize=4, nthreads=1)

        yield f"blosc2 zstd {level}, shuffled", blosc, blosc2.decompress2
        shuffle, inner = Shuffle(4), Zstd(level)

        def numcodecs(content: bytes, shuffle: Any = shuffle, inner: Any = inner) -> bytes:
            return inner.encode(shuffle.encode(np.frombuffer(content, np.uint8)))

        def back(content: bytes, shuffle: Any = shuffle, inner: Any = inner) -> bytes:
            return shuffle.decode(inner.decode(content))

        yield f"numcodecs zstd {level}, shuffled", numcodecs, back


def measure(found: list[Stamps]) -> dict[str, dict[str, Result]]:
    """Results of every codec for the image, the inverse variance and both."""
    results: dict[str, dict[str, Result]] = {}
    for stamps in found:
        for channel, kind in enumerate(("image", "ivar")):
            pixels, table, spec = stamps.plane(channel)
            for name, patches in (("pcodec, integers", table), ("pcodec, floats", no_patches(spec))):
                result = results.setdefault(name, {}).setdefault(kind, Result())
                back_again = partial(unpack, spec=spec, rows=len(pixels))
                with patch.dict(packed._ORDER, image=packed._ORDER[kind]):  # as which either is packed here
                    result.add(pixels, partial(pack, pixels, spec, patches), back_again)
            for name, there, back in general_codecs():
                result = results.setdefault(name, {}).setdefault(kind, Result())
                result.add(pixels, lambda p=pixels, f=there: f(p.tobytes()), back_to_floats(back))
    return results


def back_to_floats(back: Callable[[bytes], bytes]) -> Callable[[bytes], np.ndarray]:
    """A decoder of bytes as one of numbers."""
    return lambda code: np.frombuffer(back(code), "<f4")


def say(title: str, results: dict[str, dict[str, Result]]) -> dict[str, float]:
    """Print a table; returns the ratios of packed shards."""
    print(f"{title:<32}{'image':>8}{'ivar':>8}{'both':>8}{'pack MB/s':>11}{'unpack MB/s':>13}")
    for name, kinds in results.items():
        raw, packed = (sum(getattr(kind, part) for kind in kinds.values()) for part in ("raw", "packed"))
        there, back = (sum(getattr(kind, part) for kind in kinds.values()) for part in ("there", "back"))
        ratios = [kind.raw / kind.packed for kind in kinds.values()] + [raw / packed]
        cells = "".join(f"{ratio:8.2f}" for ratio in ratios)
        print(f"{name:<32}{cells}{raw / there / 1e6:11.0f}{raw / back / 1e6:13.0f}")
    mine = results["pcodec, integers"]
    both = sum(kind.raw for kind in mine.values()) / sum(kind.packed for kind in mine.values())
    return {**{name: kind.raw / kind.packed for name, kind in mine.items()}, "both": both}


def main() -> int:
    """Measure and print; the status tells whether the real coadds became as small as they must."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default, help="folder of coadds")
    parser.add_argument("--mock", action="store_true", help="also stamps of the mock survey")
    options = parser.parse_args()
    found = [stamps for band in "grz" if (stamps := stamps_of(options.data, band))]
    number = sum(len(stamps.pixels) for stamps in found)
    ratios = say(f"{number} stamps of one band", measure(found))
    enough = all(ratios[kind] >= least for kind, least in REQUIRED.items())
    print(", ".join(f"{kind} {ratios[kind]:.2f} of {least}" for kind, least in REQUIRED.items()))
    if options.mock:
        with tempfile.TemporaryDirectory() as scratch:
            make_mock(["--outdir", scratch, "--bricks", "2", "--runs", "1", "--seed", "1"])
            found = [stamps for band in "grz" if (stamps := stamps_of(Path(scratch), band))]
            say("mock survey", measure(found))
    return 0 if enough else 1


if __name__ == "__main__":
    raise SystemExit(main())
