"""Neighbours in a stamp: pixels with light that is not the fitted galaxy's."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, uniform_filter

from obiwan.dplearn.galaxyfit.model import Grid
from obiwan.dplearn.stampspec import Array

SIGMAS = 5.0  #: of the residual, summed over 3x3 pixels and all bands, in units of its noise
FRACTION = 0.5  #: the residual is at least this fraction of the model there
ASYMMETRY = 0.75  #: and at least this fraction of it is missing on the other side of the centre
NEAREST = 3.0  #: px from the centre within which light is the galaxy's
GROWN = 3  #: px around what is found


def neighbours(image: Array, model: Array, weight: Array, grid: Grid) -> Array:
    """Pixels that belong to neighbours.

    What the model lacks on both sides of the centre is the galaxy's own: of one larger than the model, say.

    Parameters
    ----------
    image, model, weight : ndarray of float32, shape (n, bands, pixels)
        Nanomaggies, and inverse variances.
    grid : Grid

    Returns
    -------
    ndarray of bool, shape (n, 1, pixels)
    """
    n, bands, _ = image.shape
    sigma = np.sqrt(weight)
    seen, expected = ((part * sigma).sum(1).reshape(n, grid.side, grid.side) for part in (image, model))
    excess, expected, uneven = (
        9 * uniform_filter(part, (1, 3, 3), mode="constant")
        for part in (seen - expected, expected, seen - seen[:, ::-1, ::-1])
    )
    bad = (excess > SIGMAS * np.sqrt(9 * bands)) & (excess > FRACTION * expected)
    bad &= (uneven > ASYMMETRY * excess) & (grid.radius.reshape(grid.side, grid.side) > NEAREST)
    if bad.any():
        width = 2 * GROWN + 1
        bad = binary_dilation(bad, np.ones((1, width, width), bool))
    return np.asarray(bad).reshape(n, 1, -1)
