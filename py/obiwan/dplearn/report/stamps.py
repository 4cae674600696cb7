"""Pictures of stamps: colour images, single planes, mosaics and galleries.

Data and a Figure in, nothing else: no pyplot state, no files.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.visualization import make_lupton_rgb
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from obiwan.dplearn.stampspec import Array, StampSpec

#: Factors on the bands that give an ordinary galaxy a neutral colour.
WEIGHTS = {"u": 18.0, "g": 6.0, "r": 3.4, "i": 2.7, "z": 2.2, "Y": 2.0}
SMOOTHING = 1.0  #: sigma (pixels) of the Gaussian that the colours are seen through: noise would drown them
BELOW, STRETCH, SOFTENING = 3.0, 8.0, 8.0  #: of the colours: black, and the linear part, in sigmas of the sky
COLOURED = 5.0  #: sigmas of the sky above which light has its colour, while noise is grey
MARKS = (9 / 64, 13 / 64)  #: distances from the centre between which its marks run, in sizes of the stamp
#: Inches: a column of a mosaic, what stands beside the columns, a row, what is above the rows, a line.
COLUMN, LEFT, RIGHT, ROW, ABOVE, BELOW_ROWS, LINE = 7.12 / 7, 0.32, 0.56, 1.05, 0.47, 0.05, 0.17
CHARACTERS = 13  #: of a mosaic's title in an inch


def spread(values: Array) -> tuple[float, float]:
    """Median, and standard deviation from the median absolute deviation: the sky and its noise."""
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))


def data_mask(stamps: Array, spec: StampSpec) -> Array:
    """Pixels that have data, shape (..., bands): of positive inverse variance, else images other than 0."""
    ivar = spec.ivar(stamps)
    return np.asarray(spec.image(stamps) != 0 if ivar is None else ivar > 0)


def colour_bands(spec: StampSpec) -> tuple[str, ...]:
    """Bands of a colour image, by wavelength: the bluest, one between (r where it is), and the reddest.

    Examples
    --------
    >>> colour_bands(StampSpec(("g", "r", "i", "z"))), colour_bands(StampSpec(("g", "z")))
    (('g', 'r', 'z'), ('g', 'z'))
    """
    bands = spec.bands
    if len(bands) < 3:
        return bands
    middle = spec.reference if spec.reference in bands[1:-1] else bands[len(bands) // 2]
    return (bands[0], middle, bands[-1])


def colour_image(stamp: Array, spec: StampSpec) -> Array:
    """Colour image on an asinh stretch (Lupton et al. 2004, PASP 116, 133).

    Parameters
    ----------
    stamp : ndarray, shape (size, size, channels)
    spec : StampSpec
        Of more than three bands `colour_bands` are shown as blue, green and red; of two, green is their mean;
        one is grey.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
        Smoothed a little; the stretch follows the noise of the sky, so that stamps of any depth are equally
        dark, and noise is grey.  Pixels without data are black.
    """
    bands = colour_bands(spec)
    chosen = [spec.bands.index(band) for band in bands]
    image, valid = spec.image(stamp)[..., chosen], data_mask(stamp, spec)[..., chosen]
    seen = valid.any(-1)
    if not seen.any():
        return np.zeros((*seen.shape, 3), np.uint8)
    planes = np.stack(
        [
            gaussian_filter(np.where(valid[..., i], image[..., i] * WEIGHTS[band], 0.0), SMOOTHING)
            for i, band in enumerate(bands)
        ]
    )
    light = planes.mean(0)
    sky, noise = spread(light[seen])
    noise = noise or 0.02
    colour = 1 - np.exp(-(((light - sky) / noise).clip(0) ** 2) / COLOURED**2)
    shown = light + colour * (planes - light)
    blue, red = shown[0], shown[-1]
    green = shown[1] if len(shown) == 3 else light
    bottom = sky - BELOW * noise
    out = np.array(make_lupton_rgb(red, green, blue, minimum=bottom, stretch=STRETCH * noise, Q=SOFTENING))
    out[~seen] = 0
    return out


def grey_image(image: Array, valid: Array) -> Array:
    """Image on a square-root scale from 2 sigma below the sky; 0 where there are no data.

    Parameters
    ----------
    image : ndarray, shape (size, size)
    valid : ndarray of bool, shape (size, size)
        Pixels with data; sky and sigma are their median and the spread about it.
    """
    if not valid.any():
        return np.zeros(image.shape)
    middle, sigma = spread(image[valid])
    return np.where(valid, np.sqrt(np.clip((image - middle) / (sigma or 1.0) + 2, 0, None)), 0.0)


def mark_centre(axes: Axes, spec: StampSpec) -> None:
    """Four short lines that point at the centre pixel and leave it free."""
    centre = spec.centre
    near, far = (spec.size * mark for mark in MARKS)
    for side in (-1, 1):
        along, across = [centre + side * near, centre + side * far], [centre, centre]
        axes.plot(along, across, color="white", linewidth=0.5)
        axes.plot(across, along, color="white", linewidth=0.5)


def _show_plane(axes: Axes, stamp: Array, channel: int, spec: StampSpec) -> None:
    """One channel in grey: images as `grey_image`, ivar from 0 to its largest."""
    plane, top = stamp[..., channel], 6.0
    if channel < len(spec.bands):
        plane = grey_image(plane, data_mask(stamp, spec)[..., channel])
    else:
        top = float(plane.max()) or 1.0
    axes.imshow(plane, cmap="gray", vmin=0, vmax=top, origin="lower", interpolation="nearest")


@dataclass(frozen=True)
class MosaicLayout:
    """Layout of a mosaic: a row per stamp; a column for the colour image and for each channel.

    Attributes
    ----------
    spec : StampSpec
    rows : int
    title : str
        Above all, broken into lines where the mosaic is narrow.
    """

    spec: StampSpec
    rows: int
    title: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns; one band has no colours, but is smoothed as they are."""
        first = "colour" if len(self.spec.bands) > 1 else "smoothed"
        return (first, *(name.replace("_", " ") for name in self.spec.channels))

    @property
    def width(self) -> float:
        """Width (inches)."""
        return LEFT + RIGHT + len(self.columns) * COLUMN

    @property
    def lines(self) -> list[str]:
        """Lines of the title."""
        return textwrap.wrap(self.title, int(CHARACTERS * self.width))

    @property
    def above(self) -> float:
        """Height (inches) of what is above the rows."""
        return ABOVE + LINE * (len(self.lines) - 1)

    @property
    def height(self) -> float:
        """Height (inches)."""
        return self.rows * ROW + self.above + BELOW_ROWS

    def grid(self, figure: Figure) -> Array:
        """Axes of an empty figure of this width and height, with the title; shape (rows, columns)."""
        left, right, height = LEFT / self.width, 1 - RIGHT / self.width, self.height
        top, bottom = 1 - self.above / height, BELOW_ROWS / height
        figure.subplots_adjust(left=left, right=right, top=top, bottom=bottom, wspace=0.03, hspace=0.03)
        figure.text(left, 1 - 0.07 / height, "\n".join(self.lines), fontsize=10, va="top")
        return np.asarray(figure.subplots(self.rows, len(self.columns), squeeze=False))


def draw_mosaic(
    figure: Figure, layout: MosaicLayout, stamps: Array, labels: Array, magnitudes: Array
) -> None:
    """Draw one row per example: colour, then the channels; class on the left, magnitude on the right.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Empty, of the layout's size.
    layout : MosaicLayout
    stamps : ndarray, shape (rows, size, size, channels)
    labels : ndarray, shape (rows,)
        0 real (R), 1 fake (F).
    magnitudes : ndarray, shape (rows,)
        In the bluest band, AB, corrected for extinction.
    """
    spec, grid = layout.spec, layout.grid(figure)
    for row, (axes_row, stamp) in enumerate(zip(grid, stamps, strict=True)):
        axes_row[0].imshow(colour_image(stamp, spec), origin="lower", interpolation="nearest")
        for channel, axes in enumerate(axes_row[1:]):
            _show_plane(axes, stamp, channel, spec)
        for column, axes in enumerate(axes_row):
            if column <= len(spec.bands):
                mark_centre(axes, spec)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set(visible=True, linewidth=0.6)
        right = {"transform": axes_row[-1].transAxes}
        axes_row[0].set_ylabel("F" if labels[row] else "R", rotation=0, fontsize=11, labelpad=9, va="center")
        axes_row[-1].text(1.06, 0.5, f"{magnitudes[row]:.1f}", fontsize=10, va="center", **right)
    for axes, name in zip(grid[0], layout.columns, strict=True):
        axes.set_title(name, fontsize=9, pad=3)
    grid[0, -1].text(1.06, 1.04, f"{spec.bluest} (AB)", transform=grid[0, -1].transAxes, fontsize=9)


def draw_gallery(
    figure: Figure, stamps: Array, captions: Sequence[str], columns: int, spec: StampSpec
) -> None:
    """Draw colour images side by side, each with a line of text below, and last their median.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Empty.
    stamps : ndarray, shape (n, size, size, channels)
    captions : sequence of str
        One for each.
    columns : int
        Images in a row.
    spec : StampSpec
    """
    shown = np.concatenate([stamps, np.median(stamps, axis=0, keepdims=True)])
    words = [*captions, f"median of these {len(stamps)}"]
    rows = -(-len(shown) // columns)
    grid = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.995, bottom=0.1 / rows, wspace=0.05, hspace=0.16)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, stamp, line in zip(grid.ravel(), shown, words, strict=False):
        axes.imshow(colour_image(stamp, spec), origin="lower", interpolation="nearest")
        mark_centre(axes, spec)
        axes.text(0.5, -0.03, line, transform=axes.transAxes, ha="center", va="top", fontsize=8.5)
