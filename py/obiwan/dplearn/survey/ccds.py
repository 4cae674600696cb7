"""CCD tables beside coadds (``-ccds.fits``): with which cameras, in which exposures a brick was observed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from obiwan.dplearn.stampspec import Array
from obiwan.dplearn.survey.catalogs import decoded, open_table, signed

#: An exposure: cameras may number theirs alike
EXPOSURE = np.dtype([("camera", "S16"), ("expnum", "<i8")])


def read_cameras(path: Path) -> set[str]:
    """Cameras named in a brick's CCD table; empty where there is no table."""
    if not path.is_file():
        return set()
    with open_table(path, "CCD table") as table:
        cameras = table.columns.get("camera", np.empty(0, "U"))
        return {str(name).lower() for name in np.char.strip(decoded(cameras))} - {""}


def read_exposures(path: Path) -> Array | None:
    """Exposures of a brick's coadds, from its CCD table, each once.

    Returns
    -------
    ndarray of `EXPOSURE`, or None
        Sorted; None where there is no table, or it does not number exposures.
    """
    if not path.is_file():
        return None
    with open_table(path, "CCD table") as table:
        if not table.rows or "camera" not in table or "expnum" not in table:
            return None
        found = np.empty(table.rows, EXPOSURE)
        found["camera"] = np.char.lower(np.char.strip(decoded(table.need("camera")))).astype("S")
        found["expnum"] = signed(table.need("expnum"), path, "the exposure numbers")
        return np.unique(found)
