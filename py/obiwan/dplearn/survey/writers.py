"""Writer fingerprint: which software wrote a coadd, as far as it can be seen in the pixels.

Real and injected galaxies that are cut from files written otherwise differ in pixels without a difference of
the galaxies.  Source of the cards: the headers of legacypipe (DR3 to DR11), obiwan and legacysim coadds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

PLAIN = "not compressed"


@dataclass(frozen=True, order=True)
class Writer:
    """How the planes of one coadd were written; in the order of what matters.

    Attributes
    ----------
    invvar, image : str
        Quantisation of the planes of either kind (``ZQUANTIZ``): ``SUBTRACTIVE_DITHER_2``, ``NO_DITHER``, ...
    sky : str
        Bands from which a sky level was subtracted (a number in ``COSKY_<band>``), such as ``grz``.
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
    """The writer of a coadd.

    Parameters
    ----------
    headers : mapping
        From (kind, band) of the planes, kind ``image`` or ``invvar``, to their headers.
    """
    images = {band: header for (kind, band), header in headers.items() if kind == "image"}

    def values(kind: str, card: str, default: str) -> str:
        found = {str(header.get(card) or default) for (k, _), header in headers.items() if k == kind}
        return "+".join(sorted(found))

    # DR11 writes the string 'None' where no sky was subtracted.
    sky = [band for band, header in images.items() if _is_number(header.get(f"COSKY_{band.upper()}"))]
    names = {_kind_of_name(str(header.get("EXTNAME") or ""), band) for band, header in images.items()}
    tiles = {f"{header.get('ZTILE1', 0)}x{header.get('ZTILE2', 0)}" for header in images.values()} - {"0x0"}
    releases = {str(header.get("LSDR") or header.get("DECALSDR") or "").strip() for header in images.values()}
    return Writer(
        invvar=values("invvar", "ZQUANTIZ", PLAIN),
        image=values("image", "ZQUANTIZ", PLAIN),
        sky="".join(sky),
        extname="+".join(sorted(names)),
        tiles="+".join(sorted(tiles)),
        pipeline="+".join(sorted(releases)),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind_of_name(name: str, band: str) -> str:
    """An HDU's name without its band, which is none of the writer."""
    return f"{name[: -len(band)]}<band>" if name.endswith(f"_{band}") else name


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
