"""Pictures of a report: a drawing with its caption, and its files."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.report.charts import COLUMN
from obiwan.dplearn.report.formatting import HTML, say

log = logging.getLogger(__name__)

Draw = Callable[[Figure], None]

DPI = 160


@dataclass(frozen=True)
class Picture:
    """Figure with its caption.

    Attributes
    ----------
    name : str
        Of its files.
    section : str
        Part of the report that it belongs to.
    size : tuple of float
        Width and height (inches).
    draw : callable
        Draws it on an empty figure.
    caption : str
        What is seen, in sentences.
    alt : str
        Alternative text: what the figure shows and its result.
    """

    name: str
    section: str
    size: tuple[float, float]
    draw: Draw
    caption: str
    alt: str


def png_of(picture: Picture, pdf: Path | None = None) -> bytes:
    """Draw a picture as PNG, and as a PDF file too if its path is given.

    Neither holds a clock time or the name of the software, so that equal data give equal bytes.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # without the user's settings, which may ask for LaTeX
        matplotlib.rc_file(HTML / "report.mplstyle", use_default_template=False)
        figure = Figure(figsize=picture.size, dpi=DPI)
        picture.draw(figure)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", backend="agg", metadata={"Software": None})
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


def write_if_possible(picture: Picture, directory: Path) -> bytes | None:
    """Write a picture as `write_picture` does; None, with a warning, where it cannot be drawn.

    Numbers that took hours, and other figures, are worth more than one.
    """
    try:
        return write_picture(picture, directory)
    except (OSError, MemoryError):  # the disk is full: others could not be written either
        raise
    except Exception as error:
        log.warning("warning: figure %s is left out, it cannot be drawn: %s", picture.name, error)
        return None


def chart(
    place: tuple[str, str], height: float, draw: Callable[..., None], *data: Any, key: str = "", **values: Any
) -> Picture:
    """A picture that one chart fills, at a (section, name); its texts go by a key, the name by default."""

    def on(figure: Figure) -> None:
        draw(figure.subplots(), *data)

    return panels(place, (COLUMN, height), on, key=key, **values)


def panels(
    place: tuple[str, str], size: tuple[float, float], draw: Draw, *, key: str = "", **values: Any
) -> Picture:
    """A picture whose panels are laid out on a figure, as `chart` is."""
    section, name = place

    def on(figure: Figure) -> None:
        figure.set_layout_engine("constrained")
        draw(figure)

    caption, alt = (say(of, key or name, **values) for of in ("caption", "alt"))
    return Picture(name, section, size, on, caption, alt)
