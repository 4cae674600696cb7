"""What every room takes for granted: bands and channels, labels and splits, the size of a cutout.

Pixels are 0-based with centres at integers, arrays are ``[y, x]``.  Images are nanomaggies, inverse variances
1/nanomaggies**2, as in the coadds.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # of numbers or records whose type the docstring tells

BANDS = ("g", "r", "z")
CHANNELS = ("g", "r", "z", "ivar_g", "ivar_r", "ivar_z")
LABELS = {"real": 0, "fake": 1}
SPLITS = ("train", "val", "test")
STAMP = 64  #: pixels on a side of a cutout
PIXEL_SCALE = 0.262  #: arcsec per pixel of the coadds
FWHM = 2.3548200450309493  #: of a Gaussian in units of its sigma, 2 sqrt(2 ln 2)
