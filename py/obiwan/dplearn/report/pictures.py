"""Pictures: figures with their captions and files; those that show stamps are made here."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from obiwan.dplearn.evaluation.gallery import Gallery, Mosaic
from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.report import charts
from obiwan.dplearn.report.sentences import HTML, say
from obiwan.dplearn.report.stamps import MosaicLayout, colour_bands, draw_gallery, draw_mosaic
from obiwan.dplearn.stampspec import StampSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[["Figure"], None]

DPI = 160
GALLERY_COLUMNS = 3


@dataclass(frozen=True)
class Picture:
    """Figure with its caption.

    Attributes
    ----------
    name : str
        Of its files.
    section : str
        Part of the report that it belongs to.
    caption : str
        What is seen, in sentences.
    alt : str
        Alternative text: what the figure shows and its result.
    size : tuple of float
        Width and height (inches).
    draw : callable
        Draws it on an empty figure.
    """

    name: str
    section: str
    caption: str
    alt: str
    size: tuple[float, float]
    draw: Draw


def png_of(picture: Picture, pdf: Path | None = None) -> bytes:
    """Draw a picture as PNG, and as a PDF file too if its path is given.

    Neither holds a clock time or the name of the software, so that equal data give equal bytes.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(fname=str(HTML / "report.mplstyle")):
        figure = Figure(figsize=picture.size, dpi=DPI)
        picture.draw(figure)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": None})
        if pdf is not None:
            figure.savefig(pdf, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return stream.getvalue()


def write_picture(picture: Picture, directory: Path) -> bytes:
    """Write a picture as PNG and PDF into a directory, each atomically; returns the PNG."""
    with atomic_write(directory / f"{picture.name}.pdf") as beside:
        png = png_of(picture, beside)
    with atomic_write(directory / f"{picture.name}.png") as beside:
        beside.write_bytes(png)
    return png


def stamp_width(spec: StampSpec) -> str:
    """Width of a stamp in words."""
    return f"{spec.size * spec.pixel_scale:.1f} arcsec wide"


def colours(spec: StampSpec) -> str:
    """How colour images show the bands, in words."""
    shown = colour_bands(spec)
    return say("caption", f"colours{len(shown)}", blue=shown[0], green=shown[len(shown) // 2], red=shown[-1])


def gallery_picture(gallery: Gallery) -> Picture:
    """Picture of a gallery: colour images, score and magnitude below each, and their median."""
    spec, title = gallery.spec, say("gallery", gallery.name)
    captions = [
        f"{score:.2f}   {spec.bluest} {magnitude:.1f}" if np.isfinite(magnitude) else f"{score:.2f}"
        for score, magnitude in zip(gallery.scores, gallery.magnitudes, strict=True)
    ]
    rows = -(-(len(captions) + 1) // GALLERY_COLUMNS)
    ends = f"{gallery.scores.min():.2f} to {gallery.scores.max():.2f}"
    split, width = say("split", gallery.split), stamp_width(spec)
    return Picture(
        name=f"gallery_{gallery.name}",
        section="galleries",
        caption=say(
            "caption",
            "gallery",
            title=title,
            split=split,
            band=spec.bluest,
            width=width,
            colours=colours(spec),
        ),
        alt=say("alt", "gallery", count=len(captions), title=title.lower(), ends=ends),
        size=(charts.COLUMN, rows * 1.55),
        draw=lambda figure: draw_gallery(figure, gallery.stamps, captions, GALLERY_COLUMNS, spec),
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
    """Picture of a mosaic: real and fake galaxies in turn, all their planes."""
    spec, width = mosaic.spec, stamp_width(mosaic.spec)
    where = f"{ordinal(mosaic.percentile)} percentile in brightness, {say('split', mosaic.split)}"
    layout = MosaicLayout(spec, len(mosaic.stamps), f"{where}; stamps are {width}")
    variances = " and their inverse variances" if spec.has_ivar else ""
    values = {"band": spec.bluest, "bands": ", ".join(spec.bands), "colours": colours(spec)}
    ends = f"{mosaic.magnitudes.min():.1f} to {mosaic.magnitudes.max():.1f}"
    return Picture(
        name=f"fake_real_mosaic_p{mosaic.percentile:02.0f}",
        section="galleries",
        caption=say("caption", "mosaic", **values, variances=variances, where=where, width=width),
        alt=say("alt", "mosaic", band=spec.bluest, ends=ends),
        size=(layout.width, layout.height),
        draw=lambda figure: draw_mosaic(figure, layout, mosaic.stamps, mosaic.labels, mosaic.magnitudes),
    )
