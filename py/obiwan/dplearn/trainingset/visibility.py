"""Visible columns: what a referee may see of the example table, decided from the training split.

A column that one class lacks tells the class by its absence, and so does a value that stands for "unknown".
Only columns that both classes have are visible, to every referee and as prior of the galaxy fit.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.lib.recfunctions import repack_fields

from obiwan.dplearn.stampspec import Array, StampSpec

#: Columns that tell the class, where an example is stored or, to the last digit, where it was put in the sky;
#: so do all whose names begin with ``truth_``
HIDDEN = frozenset(
    ("label", "run", "root", "id", "match_dist", "mag_source", "flags", "split", "shard", "row", "ra", "dec")
)
FITTED = ("type", "flux", "flux_ivar", "mag", "shape_r", "e1", "e2", "sersic")  #: of a catalogue's fit
POSITION = ("x", "y")  #: visible as the offset from the centre of the stamp's centre pixel
MOST = 0.5  #: part of each class for which a quantity must be known
UNEVEN = 0.1  #: of a class: by so much more a column may be unknown in it, or vary where the other does not
EXAMPLES = 200_000  #: that decide, about
_POSITIVE = ("psfsize", "psfdepth", "mw_transmission", "flux_ivar", "nobs")  # 0 and -1 stand for unknown


def same_fit(rows: Array) -> bool:
    """Whether the fitted quantities of all examples have one origin.

    They have not where fakes of a tree without tractor catalogues carry the truth, or where a table of the
    user stands for one class: then they say which class it is by what they are, not by what the galaxy is.
    """
    origin = rows["mag_source"]
    return bool(len(origin) and origin[0] != b"truth" and (origin == origin[0]).all())


def known_to_both(known: Array, label: Array) -> bool:
    """Whether a quantity is known for most examples of either class; of a class without examples it is not.

    Parameters
    ----------
    known : ndarray of bool, shape (n,)
    label : ndarray, shape (n,)
        Real = 0, fake = 1.
    """
    return all((label == value).any() and known[label == value].mean() >= MOST for value in (0, 1))


def visible_columns(rows: Array) -> tuple[str, ...]:
    """Names of the columns that both classes have, in the table's order.

    Parameters
    ----------
    rows : structured ndarray, shape (n,)
        Of the training split.

    Returns
    -------
    tuple of str
        Columns that are not `HIDDEN` and known for `MOST` examples of either class, equally often within
        `UNEVEN`, and that do not have a single value in one class where they vary in the other.  Fitted
        quantities (`FITTED`) only where `same_fit` holds.
    """
    rows = rows[:: max(1, len(rows) // EXAMPLES)]
    label, one_origin = rows["label"], same_fit(rows)
    return tuple(
        name
        for name in rows.dtype.names or ()
        if name not in HIDDEN
        and not name.startswith("truth_")
        and (one_origin or _stem(name) not in FITTED)
        and (name in POSITION or _alike(rows[name], _known(name, rows[name]), label))
    )


def _stem(column: str) -> str:
    """Quantity of a column, without the band."""
    for stem in (*FITTED, *_POSITIVE):
        if column == stem or column.rpartition("_")[0] == stem:
            return stem
    return column


def _known(name: str, values: Array) -> Array:
    """Which values of a column are known."""
    if values.dtype.kind == "S":
        return np.asarray(np.char.strip(values) != b"")
    finite = np.isfinite(values)
    return finite & (values > 0) if _stem(name) in _POSITIVE else finite


def _alike(values: Array, known: Array, label: Array) -> bool:
    """Whether neither absence nor a single value of one class tells it from the other."""
    classes = [label == value for value in (0, 1)]
    if not all(one.any() for one in classes):
        return True
    if not known_to_both(known, label) or np.ptp([known[one].mean() for one in classes]) > UNEVEN:
        return False
    parts = [values[one & known] for one in classes]
    for own, other in (parts, parts[::-1]):
        if (own == own[0]).all() and (other != own[0]).mean() > UNEVEN:
            return False
    return True


def visible_rows(rows: Array, columns: tuple[str, ...]) -> Array:
    """Rows as a referee sees them.

    Parameters
    ----------
    rows : structured ndarray, shape (n,)
        Of the example table.
    columns : tuple of str
        Of `visible_columns`.

    Returns
    -------
    structured ndarray, shape (n,)
        A copy; ``x`` and ``y`` are offsets from the centre of the stamp's centre pixel (px).
    """
    out = repack_fields(rows[list(columns)])  # a copy: a view would still hold the bytes of what is hidden
    for name in POSITION:
        if name in columns:
            out[name] -= np.floor(out[name] + 0.5)  # of `cutouts.centre_pixel`; an unknown position stays so
    return out


def psf_columns(columns: Iterable[str], spec: StampSpec) -> tuple[str, ...]:
    """Those columns that hold PSF widths."""
    found = set(columns)
    return tuple(name for name in spec.columns("psfsize") if name in found)


def psf_widths(rows: Array, columns: tuple[str, ...], spec: StampSpec) -> Array:
    """PSF FWHM of each example and band (arcsec), shape (n, bands); NaN in bands without such a column."""
    unknown = np.full(len(rows), np.nan)
    return np.stack([rows[name] if name in columns else unknown for name in spec.columns("psfsize")], axis=-1)
