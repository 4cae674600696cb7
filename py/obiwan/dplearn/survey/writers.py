"""Writer fingerprint: which software wrote a coadd, as far as it can be seen in the pixels.

Real and injected galaxies that are cut from files written otherwise differ in pixels without a difference of
the galaxies.  Source of the cards: the headers of legacypipe (DR3 to DR11), obiwan and legacysim coadds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

PLAIN = "not compressed"


@dataclass(frozen=True, order=True)
class Writer:
    """Writer of the planes of one coadd; fields in the order of what matters.

    Attributes
    ----------
    invvar, image : str
        Quantisation of the planes of either kind (``ZQUANTIZ``): ``SUBTRACTIVE_DITHER_2``, ``NO_DITHER``, ...
    sky : str
        Bands from which a sky level was subtracted (a number in ``COSKY_<band>``), such as ``g+r+z``.
    extname : str
        Kind of the HDU's name: ``IMAGE_<band>`` (DR10.3 on), ``COMPRESSED_IMAGE`` (astropy), or nothing.
    tiles : str
        Of the compression, such as ``100x100``.
    pipeline : str
        Release of the pipeline (``LSDR``, before DR8 ``DECALSDR``), such as ``DR9``.
    """

    invvar: str
    image: str
    sky: str
    extname: str
    tiles: str
    pipeline: str


def writer_of(headers: Mapping[tuple[str, str], Mapping[str, Any]]) -> Writer:
    """Writer of a coadd.

    Parameters
    ----------
    headers : mapping
        From (kind, band) of the planes, kind ``image`` or ``invvar``, to their headers.
    """

    def values(kind: str, value: Callable[[Mapping[str, Any], str], Any]) -> str:
        found = {str(value(header, band) or "") for (k, band), header in headers.items() if k == kind}
        return "+".join(sorted(found - {""}))

    def subtracted(header: Mapping[str, Any], band: str) -> str:
        level = header.get(f"COSKY_{band.upper()}")  # DR11 writes the string 'None' where none was
        return band if isinstance(level, (int, float)) else ""

    def name(header: Mapping[str, Any], band: str) -> str:
        return str(header.get("EXTNAME") or "").replace(f"_{band}", "_<band>")

    def tiles(header: Mapping[str, Any], _: str) -> str:
        return f"{header['ZTILE1']}x{header['ZTILE2']}" if header.get("ZTILE1") else ""

    return Writer(
        invvar=values("invvar", lambda header, _: header.get("ZQUANTIZ") or PLAIN),
        image=values("image", lambda header, _: header.get("ZQUANTIZ") or PLAIN),
        sky=values("image", subtracted),
        extname=values("image", name),
        tiles=values("image", tiles),
        pipeline=values("image", lambda header, _: header.get("LSDR") or header.get("DECALSDR")),
    )


def differences(
    one: Collection[Writer], other: Collection[Writer]
) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """In which respects two sets of coadds were written otherwise.

    Parameters
    ----------
    one, other : collection of Writer
        Of the coadds of either class.

    Returns
    -------
    dict
        From the name of each field of `Writer` that differs, most important first, to its values in either
        set, sorted.  Empty where nothing differs, or a set is empty.
    """
    if not one or not other:
        return {}

    def values(name: str, writers: Collection[Writer]) -> tuple[str, ...]:
        return tuple(sorted({getattr(writer, name) for writer in writers}))

    pairs = {field.name: (values(field.name, one), values(field.name, other)) for field in fields(Writer)}
    return {name: (mine, theirs) for name, (mine, theirs) in pairs.items() if mine != theirs}
