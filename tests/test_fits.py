"""FITS files under any name: what CFITSIO would interpret is part of the name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from obiwan.dplearn.errors import DplearnError
from obiwan.dplearn.files import fits as files
from obiwan.dplearn.files.fits import can_hold_fits, open_fits
from obiwan.dplearn.files.outdir import OutputDirectory
from synthetic import write_plane

#: A directory and a file each; CFITSIO or fitsio takes all but the first two for something else.
NAMES = [
    ("plain", "a.fits"),
    ("of two words", "a b,c=d@e.fits"),
    ("a[b]", "a.fits"),
    ("a(b)", "a.fits"),
    ("!a", "!a.fits"),
    ("~", "~a.fits"),
    ("a+1", "a.fits+1"),
    ("$HOME", "$HOME.fits"),
    ("stdin", "stdout.fits"),
    (" a ", " a.fits "),
    ("mem:", "-"),
    ("a*{b}?", "'a';\\&|.fits"),
    ("d\u00e9j\u00e0", "\u661f.fits"),
    (os.fsdecode(b"caf\xe9"), os.fsdecode(b"\xff.fits")),
    ("a[1:2,3]" * 20, "a" * 200 + ".fits"),
]
TABLE = np.array([(1, 2.5), (3, 4.5)], [("id", "i4"), ("ra", "f8")])


@pytest.mark.parametrize(("directory", "name"), NAMES)
def test_a_name_is_a_name(directory, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(directory).mkdir()
    for place in (Path(directory), tmp_path / directory):
        for _ in range(2):  # in place of one that is there
            with open_fits(place / name, new=True) as file:
                file.write(TABLE)
        with open_fits(place / name) as file:
            assert (file[1].read() == TABLE).all()
        assert [path.name for path in place.iterdir()] == [name]
        (place / name).unlink()
    assert [path.name for path in tmp_path.iterdir()] == [directory]


@pytest.mark.parametrize("suffix", [".fits", ".fits.fz", ".fits.gz"])
def test_planes_of_every_kind_are_read(suffix, tmp_path):
    data = np.arange(200 * 200, dtype=np.float32).reshape(200, 200)
    plain = tmp_path / f"legacysurvey-b-invvar-g{suffix}"
    write_plane(plain, data, {})
    (tmp_path / "a[b](c)").mkdir()
    named = tmp_path / "a[b](c)" / f"x+2{suffix}"
    named.write_bytes(plain.read_bytes())
    found = []
    for path in (plain, named):
        with open_fits(path) as file:
            hdu = file[1 if suffix.endswith("fz") else 0]
            found.append((hdu.read(), hdu[50:60, 90:120]))
    for one, other in zip(*found, strict=True):
        assert (one == other).all()
    assert (found[1][0] == fits.getdata(plain)).all()


def fill(path: Path, error: type[Exception] | None = None) -> None:
    """Write a file, or fail in the middle of it."""
    with open_fits(path, new=True) as file:
        file.write(TABLE)
        if error:
            raise error


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_nothing_half_written_and_no_descriptor_is_left(tmp_path):
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    path, before = tmp_path / "a[b].fits", opened()
    with pytest.raises(ZeroDivisionError):
        fill(path, ZeroDivisionError)
    assert (list(tmp_path.iterdir()), opened()) == ([], before)
    fill(path)
    with open_fits(path):
        assert opened() > before
    assert opened() == before


@pytest.mark.parametrize("name", ["a.fits", "a[b].fits"])
def test_a_file_that_is_not_there(name, tmp_path):
    with pytest.raises(OSError, match=r"No such file|could not open"), open_fits(tmp_path / name):
        pass


def test_where_names_cannot_be_passed_by_they_are_refused_before_work(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_OPEN_FILES", tmp_path / "no such system")
    assert can_hold_fits(tmp_path / "a-b_1.2")
    assert not can_hold_fits(tmp_path / "a[b]")
    with (
        pytest.raises(OSError, match=r"a\[b\].fits: CFITSIO would interpret"),
        open_fits(tmp_path / "a[b].fits"),
    ):
        pass

    place = OutputDirectory(tmp_path / "a(b)", "set", DplearnError, re.compile("x"), ("r",), "r", ".work")
    with pytest.raises(DplearnError, match=r"a\(b\): CFITSIO would interpret this name; choose"):
        place.check({})
