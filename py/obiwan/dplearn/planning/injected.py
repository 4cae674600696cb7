"""Trees of ``inject``, whose one catalogue has both classes, how their objects were drawn; two injectors.

There real galaxies are the other sources of the same catalogue, or those of them that a user's table names:
a second catalogue would give one class positions and quantities of another origin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from obiwan.dplearn.errors import LayoutError, explained
from obiwan.dplearn.files.atomic import read_json
from obiwan.dplearn.planning.config import TrainingConfig
from obiwan.dplearn.survey.catalogs import TRACTOR, read_maker
from obiwan.dplearn.survey.layouts import BrickRun, Root

RECORD = "injection.json"  #: what `inject` leaves in a tree
#: What a test on such coadds leaves out of the pipeline
LEFT_OUT = ("detection", "deblending", "model fitting", "outlier masking", "sky estimation")


def has_one_catalogue(runs: Sequence[BrickRun]) -> bool:
    """Whether the catalogues of a tree were not made by tractor, by the first that there is."""
    tractors = (run.tractor for run in runs if run.tractor is not None and run.tractor.is_file())
    first = next(tractors, None)
    return first is not None and read_maker(first) != TRACTOR


def share_one_catalogue(trees: Mapping[Root, Sequence[BrickRun]], *, released: bool) -> bool:
    """Whether both classes come from one catalogue in each of these trees.

    Parameters
    ----------
    trees : mapping
        Injection trees with their runs.
    released : bool
        Whether a data release was given.

    Raises
    ------
    LayoutError
        If this holds for some trees only, or a data release was given.
    """
    one = [root.path for root, runs in trees.items() if has_one_catalogue(runs)]
    if not one:
        return False
    fault = ""
    if len(one) < len(trees):
        fault = "the catalogues of other trees of --fake are tractor's; make a training set of each kind"
    elif released:
        fault = (
            "its catalogue has both classes, measured alike; leave out --real and --reals-from release, "
            "whose galaxies were measured otherwise"
        )
    if fault:
        msg = f"{one[0]}: a tree of inject: {fault}"
        raise LayoutError(msg)
    return True


def warnings_of(config: TrainingConfig, *, named: bool) -> list[str]:
    """Warnings where both classes come from one catalogue."""
    if named or config.select != "none":
        return []
    return [
        "--select none without --real-table: every other source of the images is a real example, whatever it "
        "is; choose the kind that is modelled by measured quantities (--select 'mag_r<22,size<1.4') or name "
        "its real objects (--real-table)"
    ]


def drawn_by(root: Root) -> dict[str, Any] | None:
    """Facts of how the objects of a tree were drawn, from the record of `inject`; None where there is none.

    Returns
    -------
    dict or None
        ``root``; ``model``, ``noise``, ``gain`` (None: of the exposures); ``psf``, the number of bricks and
        bands drawn with each kind; ``psf_rests_on``, for a kind the least and the largest number of stars or
        exposures; ``software``, with versions; ``left_out``.

    Raises
    ------
    LayoutError
        If the record cannot be read.
    """
    path = root.path / RECORD
    if not path.is_file():
        return None
    with explained(f"{path}: not a readable record", "inject again with this version", LayoutError):
        record = read_json(path)
        bands = [band for entry in record["injected"].values() for band in entry["bands"].values()]
        psf = Counter(str(band["psf"]) for band in bands)
        numbers = {kind: [one.get("psf_rests_on") for one in bands if one["psf"] == kind] for kind in psf}
        rests = {kind: [min(some), max(some)] for kind, some in numbers.items() if None not in some}
        config, software = record["config"], {**record["software"], "inject": record["package_version"]}
        return {
            "root": root.index,
            "model": config["model"],
            "noise": config["noise"],
            "gain": config["gain"],
            "psf": dict(sorted(psf.items())),
            "psf_rests_on": dict(sorted(rests.items())),
            "software": software,
            "left_out": list(LEFT_OUT),
        }


def check_two_injectors(
    fake: Sequence[Path], real_injected: Sequence[Path], table: Path | None, config: TrainingConfig
) -> None:
    """Two injectors: refuse what has no meaning where both classes are injections (``--real-injected``).

    Raises
    ------
    LayoutError
    """
    faults = {
        "give the injection outputs of the other class with --fake": not fake,
        "a table of positions has no meaning here; leave out --real-table and --fake-table": table,
        "leave out --reals-from release: no real galaxies are used": config.reals_from == "release",
    }
    for fault in (fault for fault, found in faults.items() if real_injected and found):
        msg = f"--real-injected: {fault}"
        raise LayoutError(msg)


def single_runs(
    injected: Mapping[str, Sequence[BrickRun]], releases: Mapping[str, Sequence[BrickRun]], *, one: bool
) -> list[str]:
    """A warning of bricks in which nothing tells that an injection fell on a real source."""
    single = sum(len(runs) == 1 and brick not in releases for brick, runs in injected.items())
    if not single:
        return []
    return [
        f"{single} brick(s) with one run and no data release: injections on real sources cannot "
        f"be told there; give more runs{'' if one else ', or the release with --real'}"
    ]
