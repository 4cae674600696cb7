"""Coverage told by the tables of tiles, against all pixels as astropy decodes them."""

from __future__ import annotations

import fitsio
import numpy as np
import pytest
from astropy.io import fits

from obiwan.dplearn.survey import coverage
from obiwan.dplearn.survey.coverage import observed
from obiwan.dplearn.survey.layouts import RELEASE, BrickRun, Root

SHAPE = (250, 330)  # tiles of 100 pixels, the last ones smaller
KINDS = ("all", "hole", "one", "negative", "constant", "step", "nan", "empty")


def plane(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Inverse variances as coadds have them."""
    data = (900 * (1 + 0.05 * rng.standard_normal(SHAPE))).astype("f4")
    if kind == "hole":
        data[80:140, 20:260] = 0
    elif kind == "one":
        data[150, 150] = 0
    elif kind == "negative":
        data[:100, :100] = -rng.random((100, 100))
    elif kind == "constant":
        data[:120] = 400
    elif kind == "step":
        data[:, 150:] *= 1e-4
    elif kind == "nan":
        data[30:40, 30:40], data[200, 300] = np.nan, np.nan
    elif kind == "empty":
        data[:] = 0
    return data


def written(tmp_path, data, writer: str, method: str) -> BrickRun:
    run = BrickRun(Root(0, tmp_path, RELEASE), "0000p000", "release", tmp_path, None, None, None)
    path = tmp_path / "legacysurvey-0000p000-invvar-r.fits.fz"
    if writer == "fitsio":
        with fitsio.FITS(str(path), "rw") as file:
            options = {"compress": "rice", "tile_dims": [100, 100], "qlevel": 16, "qmethod": method}
            file.write(data, dither_seed=5 if "DITHER_" in method else None, **options)
    elif writer == "astropy":
        number = {"NO_DITHER": -1, "SUBTRACTIVE_DITHER_1": 1, "SUBTRACTIVE_DITHER_2": 2}[method]
        options = {"quantize_method": number, "quantize_level": 16, "tile_shape": (100, 100)}
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, **options)]).writeto(path)
    else:
        fits.PrimaryHDU(data).writeto(path)
    return run


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["NO_DITHER", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2"])
@pytest.mark.parametrize("writer", ["fitsio", "astropy", "plain"])
def test_every_pixel(writer, method, kind, tmp_path, rng):
    run = written(tmp_path, plane(kind, rng), writer, method)
    with fits.open(tmp_path / "legacysurvey-0000p000-invvar-r.fits.fz") as hdus:
        expected = hdus[-1].data > 0
    y, x = (axis.ravel() for axis in np.indices(SHAPE))
    np.testing.assert_array_equal(observed(run, "r", x, y, SHAPE), expected[y, x])


@pytest.mark.parametrize("method", ["NO_DITHER", "SUBTRACTIVE_DITHER_2"])
def test_tiles_without_a_hole_are_not_decoded(method, tmp_path, rng, monkeypatch):
    run = written(tmp_path, plane("hole", rng), "fitsio", method)
    asked = []

    def counted(_run, _band, x, y, _shape):
        asked.extend(zip((x // 100).astype(int).tolist(), (y // 100).astype(int).tolist(), strict=True))
        return np.ones(len(x))

    monkeypatch.setattr(coverage, "read_pixels", counted)
    y, x = (axis.ravel() for axis in np.indices(SHAPE))
    observed(run, "r", x, y, SHAPE)
    assert set(asked) == {(i, j) for i in range(3) for j in range(2)}
