"""A figure with its words and its files; and those figures that show cutouts."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from obiwan.dplearn.conventions import PIXEL_SCALE, STAMP
from obiwan.dplearn.evaluation.gallery import Gallery, Mosaic
from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.report import charts
from obiwan.dplearn.report.stamps import MOSAIC_WIDTH, draw_gallery, draw_mosaic, mosaic_height

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[["Figure"], None]

DPI = 160
GALLERY_COLUMNS = 3
WIDTH = STAMP * PIXEL_SCALE  #: of a stamp (arcsec)
SCALE = f"Stamps are {WIDTH:.1f} arcsec wide; the marks point at the centre."
SPLITS = {"train": "training split", "val": "validation split", "test": "test split"}


@dataclass(frozen=True)
class Picture:
    """A figure and its words.

    Attributes
    ----------
    name : str
        Of its files.
    section : str
        Part of the report that it belongs to.
    caption : str
        What is seen, in sentences.
    alt : str
        The same for those who do not see it: what it shows and how it comes out.
    width, height : float
        Inches.
    draw : callable
        Draws it on an empty figure.
    """

    name: str
    section: str
    caption: str
    alt: str
    width: float
    height: float
    draw: Draw


def png_of(picture: Picture, pdf: Path | None = None) -> bytes:
    """Draw a picture as PNG, and as a PDF file too if its path is given.

    Neither holds a clock time or the name of the software, so that equal data give equal bytes.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(charts.STYLE):
        figure = Figure(figsize=(picture.width, picture.height), dpi=DPI)
        picture.draw(figure)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": None})
        if pdf is not None:
            figure.savefig(pdf, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return stream.getvalue()


def write_picture(picture: Picture, directory: Path) -> bytes:
    """Write a picture as PNG and PDF into a directory, each whole or not at all; returns the PNG."""
    with atomic_write(directory / f"{picture.name}.pdf") as beside:
        png = png_of(picture, beside)
    with atomic_write(directory / f"{picture.name}.png") as beside:
        beside.write_bytes(png)
    return png


def gallery_picture(gallery: Gallery) -> Picture:
    """A gallery in colour, the score and the magnitude below each stamp, and their median."""
    captions = [
        f"{score:.2f}   g {magnitude:.1f}" if np.isfinite(magnitude) else f"{score:.2f}"
        for score, magnitude in zip(gallery.scores, gallery.magnitudes, strict=True)
    ]
    rows = -(-(len(captions) + 1) // GALLERY_COLUMNS)
    spread = f"{gallery.scores.min():.2f} to {gallery.scores.max():.2f}"
    return Picture(
        f"gallery_{gallery.name}",
        "galleries",
        f"{gallery.title}, {SPLITS[gallery.split]}. Below each: its score P(fake), and its g magnitude; the "
        f"last is their median, pixel by pixel. {SCALE} Colours are smoothed a little, as bright as the "
        "noise of the sky allows, and grey where there is nothing but noise.",
        f"{len(captions)} colour stamps and their median, {gallery.title.lower()}, with scores {spread}.",
        charts.COLUMN,
        rows * 1.55,
        lambda figure: draw_gallery(figure, gallery.stamps, captions, GALLERY_COLUMNS),
    )


def ordinal(number: float) -> str:
    """A number as an ordinal.

    Examples
    --------
    >>> ordinal(1), ordinal(99), ordinal(11)
    ('1st', '99th', '11th')
    """
    whole = int(number)
    ending = "th" if whole % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(whole % 10, "th")
    return f"{whole}{ending}"


def mosaic_picture(mosaic: Mosaic) -> Picture:
    """A mosaic as the seed page has it."""
    where = f"{ordinal(mosaic.percentile)} percentile in brightness, {SPLITS[mosaic.split]}"
    return Picture(
        f"fake_real_mosaic_p{mosaic.percentile:02.0f}",
        "galleries",
        "Real (R) and fake (F) in turn, paired by g magnitude (on the right), at the "
        f"{where}: in colour, then the images in g, r, z and their inverse variances. {SCALE}",
        f"Rows of real and fake galaxies at equal brightness, g {mosaic.magnitudes.min():.1f} to "
        f"{mosaic.magnitudes.max():.1f}.",
        MOSAIC_WIDTH,
        mosaic_height(len(mosaic.stamps)),
        lambda figure: draw_mosaic(
            figure,
            mosaic.stamps,
            mosaic.labels,
            mosaic.magnitudes,
            f"{where}; stamps are {WIDTH:.1f} arcsec wide",
        ),
    )
