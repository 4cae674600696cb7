"""Pictures: data and Axes in, nothing else.  No pyplot state, no files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from astropy.visualization import make_lupton_rgb
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from obiwan.dplearn.conventions import BANDS, CHANNELS, STAMP, Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: Weights of g, r, z that give an ordinary galaxy a neutral colour.
RGB_WEIGHTS = (6.0, 3.4, 2.2)
SMOOTHING = 1.0  #: sigma (pixels) of the Gaussian that the colours are seen through: noise would drown them
BELOW, STRETCH, SOFTENING = 3.0, 8.0, 8.0  #: of the colours: black, and the linear part, in sigmas of the sky
COLOURED = 5.0  #: sigmas of the sky above which light has its colour, while noise is grey
COLUMNS = ("colour", *(name.replace("_", " ") for name in CHANNELS))
MOSAIC_WIDTH, ROW, ABOVE = 8.0, 1.05, 0.47  #: inches: of a mosaic, of a row, of what is above the rows
MARKS = (9.0, 13.0)  #: pixels from the centre between which its marks run


def spread(values: Array) -> tuple[float, float]:
    """Median, and the standard deviation that the median deviation from it stands for: sky and its noise."""
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))


def colour_image(stamp: Array) -> NDArray[np.uint8]:
    """The colours one sees: z, r, g as red, green, blue on an asinh stretch (Lupton et al. 2004).

    Parameters
    ----------
    stamp : ndarray, shape (64, 64, 6)
        Nanomaggies and 1/nanomaggies**2.

    Returns
    -------
    ndarray of uint8, shape (64, 64, 3)
        Smoothed a little; the stretch is tied to the noise of the sky, so that a stamp is as dark as
        another whatever its depth, and what is no more than noise is grey.  Pixels without data are black.
    """
    valid = stamp[..., len(BANDS) :] > 0
    seen = valid.any(-1)
    if not seen.any():
        return np.zeros((*seen.shape, 3), np.uint8)
    planes = np.stack(
        [
            gaussian_filter(np.where(valid[..., i], stamp[..., i] * weight, 0.0), SMOOTHING)
            for i, weight in enumerate(RGB_WEIGHTS)
        ]
    )
    light = planes.mean(0)
    sky, noise = spread(light[seen])
    noise = noise or 0.02
    colour = 1 - np.exp(-(((light - sky) / noise).clip(0) ** 2) / COLOURED**2)
    blue, green, red = light + colour * (planes - light)
    bottom = sky - BELOW * noise
    image = np.array(make_lupton_rgb(red, green, blue, minimum=bottom, stretch=STRETCH * noise, Q=SOFTENING))
    image[~seen] = 0
    return image


def grey_image(image: Array, ivar: Array) -> Array:
    """An image on a square-root scale from 2 sigma below the sky; 0 where there is no data.

    Parameters
    ----------
    image, ivar : ndarray, shape (64, 64)
        Sky and sigma are the median and the spread about it of the pixels that have data.
    """
    valid = ivar > 0
    if not valid.any():
        return np.zeros(image.shape)
    middle, sigma = spread(image[valid])
    return np.where(valid, np.sqrt(np.clip((image - middle) / (sigma or 1.0) + 2, 0, None)), 0.0)


def mark_centre(axes: Axes) -> None:
    """Four short lines that point at the centre pixel and leave it free."""
    centre = STAMP // 2
    near, far = MARKS
    for side in (-1, 1):
        along, across = [centre + side * near, centre + side * far], [centre, centre]
        axes.plot(along, across, color="white", linewidth=0.5)
        axes.plot(across, along, color="white", linewidth=0.5)


def _show_plane(axes: Axes, stamp: Array, channel: int) -> None:
    """One channel in grey: images as `grey_image`, ivar from 0 to its largest."""
    plane, top = stamp[..., channel], 6.0
    if channel < len(BANDS):
        plane = grey_image(plane, stamp[..., channel + len(BANDS)])
    else:
        top = float(plane.max()) or 1.0
    axes.imshow(plane, cmap="gray", vmin=0, vmax=top, origin="lower", interpolation="nearest")


def mosaic_height(rows: int) -> float:
    """Height (inches) of a mosaic that is `MOSAIC_WIDTH` wide: square stamps, and two lines above them."""
    return rows * ROW + ABOVE + 0.05


def draw_mosaic(figure: Figure, stamps: Array, labels: Array, magnitudes: Array, title: str) -> None:
    """Draw one row per example: colour, then the six channels; class on the left, g on the right.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Empty, `MOSAIC_WIDTH` and `mosaic_height`.
    stamps : ndarray, shape (n, 64, 64, 6)
    labels : ndarray, shape (n,)
        0 real (R), 1 fake (F).
    magnitudes : ndarray, shape (n,)
        g, AB, corrected for extinction.
    title : str
        A line above all.
    """
    grid = figure.subplots(len(stamps), len(COLUMNS), squeeze=False)
    height = mosaic_height(len(stamps))
    figure.subplots_adjust(
        left=0.04, right=0.93, top=1 - ABOVE / height, bottom=0.05 / height, wspace=0.03, hspace=0.03
    )
    figure.text(0.04, 1 - 0.07 / height, title, fontsize=10, va="top")
    for row, (axes_row, stamp) in enumerate(zip(grid, stamps, strict=True)):
        axes_row[0].imshow(colour_image(stamp), origin="lower", interpolation="nearest")
        for channel, axes in enumerate(axes_row[1:]):
            _show_plane(axes, stamp, channel)
        for column, axes in enumerate(axes_row):
            if column <= len(BANDS):
                mark_centre(axes)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set(visible=True, linewidth=0.6)
            if row == 0:
                axes.set_title(COLUMNS[column], fontsize=9, pad=3)
                if column == len(COLUMNS) - 1:
                    axes.text(1.06, 1.04, "g (AB)", transform=axes.transAxes, fontsize=9)
        axes_row[0].set_ylabel("F" if labels[row] else "R", rotation=0, fontsize=11, labelpad=9, va="center")
        axes_row[-1].text(
            1.06, 0.5, f"{magnitudes[row]:.1f}", transform=axes_row[-1].transAxes, fontsize=10, va="center"
        )


def draw_gallery(figure: Figure, stamps: Array, captions: Sequence[str], columns: int) -> None:
    """Draw colour images side by side, each with a line of words below, and last their median.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Empty.
    stamps : ndarray, shape (n, 64, 64, 6)
    captions : sequence of str
        One for each.
    columns : int
        Images in a row.
    """
    shown = np.concatenate([stamps, np.median(stamps, axis=0, keepdims=True)])
    words = [*captions, f"median of these {len(stamps)}"]
    rows = -(-len(shown) // columns)
    grid = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.995, bottom=0.1 / rows, wspace=0.05, hspace=0.16)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, stamp, line in zip(grid.ravel(), shown, words, strict=False):
        axes.imshow(colour_image(stamp), origin="lower", interpolation="nearest")
        mark_centre(axes)
        axes.text(0.5, -0.03, line, transform=axes.transAxes, ha="center", va="top", fontsize=8.5)
