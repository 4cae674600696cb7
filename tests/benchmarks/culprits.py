"""Which controls fail for each difference that the mock can plant; some 30 minutes, resumable.

    bin/benchmark culprits -- --workdir DIR [--only offset-g psf] [--table doc/_static/culprits.csv]

Each difference gets a mock survey of its own and a training set from it; what is finished in DIR is kept.
Controls that fail and are not among those stated here are an error.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.surveys import training_set
from obiwan.dplearn.controls.battery import run_controls
from obiwan.dplearn.controls.measure import measure_split
from obiwan.dplearn.controls.records import Control
from obiwan.dplearn.stampspec import SPLITS
from obiwan.dplearn.trainingset.stampset import open_training_set
from tables import write_csv


@dataclass(frozen=True)
class Culprit:
    """A planted difference, and what it moves.

    Attributes
    ----------
    amplitude : float or None
        For the mock's ``--plant-`` option; None plants nothing.
    must : frozenset of str
        Controls (names without band) of which at least one band must fail.
    may : frozenset of str
        Controls that it moves as well, by less or only with more examples.
    centres : str
        Of the stamps of injections; a fit follows what moves all bands together.
    """

    amplitude: float | None
    must: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    centres: str = "tractor"


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(";") if name.strip())


BRIGHTER = "magnitude; pixel flux; signal to noise; ivar dip; flux of fit over truth"
# Whatever changes the signal to noise changes how far everything scatters that is measured or fitted.
EASIER = (
    "no centroid; centroid scatter; half-light radius; ellipticity; ellipticity 1; ellipticity 2; "
    "fitted type; width; concentration; ivar-flux slope"
)
WIDER = "width; concentration; half-light radius"
CULPRITS = {
    "none": Culprit(None),
    "offset": Culprit(
        0.2, _names("centroid x"), _names("centroid scatter; fit minus truth, x"), centres="truth"
    ),
    "offset-g": Culprit(0.3, _names("centroid x"), _names("centroid scatter; fit minus truth, x")),
    "psf": Culprit(
        1.1, _names("width; concentration"), _names(f"width of stars; {WIDER}; {BRIGHTER}; {EASIER}")
    ),
    "size": Culprit(1.2, _names(WIDER), _names(f"{BRIGHTER}; {EASIER}")),
    "flux": Culprit(1.3, _names("magnitude; pixel flux; signal to noise"), _names(f"{BRIGHTER}; {EASIER}")),
    "colour": Culprit(
        200.0, _names("g - r; r - z; pixel colour g - r; pixel colour r - z"), _names(BRIGHTER)
    ),
    "sersic": Culprit(1.0, _names("concentration"), _names(f"{WIDER}; {BRIGHTER}; {EASIER}")),
    "no-shot-noise": Culprit(1.0, _names("noise under the source")),
    "ivar-dip": Culprit(
        0.1,
        _names("ivar dip; ivar-flux slope"),
        _names("noise under the source; ivar step"),  # what is multiplied has other levels
    ),
}


def set_of(workdir: Path, kind: str, bricks: int, seed: int) -> Path:
    """A training set with this difference, made if need be."""
    culprit = CULPRITS[kind]
    plant = [] if culprit.amplitude is None else [f"--plant-{kind}", str(culprit.amplitude)]
    words = ["--bricks", str(bricks), "--seed", str(seed), *plant]
    return training_set(workdir, words, ["--centers", culprit.centres])


def controls_of(directory: Path) -> tuple[Control, ...]:
    """The battery on all splits together."""
    whole = open_training_set(directory)
    measured = np.concatenate([measure_split(whole, split) for split in SPLITS])
    rows = np.concatenate([whole.rows(split) for split in SPLITS])
    return run_controls(rows, measured, rows["label"], rows["brick"].astype(str), whole.spec)


def by_state(controls: tuple[Control, ...], *states: str) -> dict[str, str]:
    """Names of the controls of some states, and the bands."""
    found: dict[str, str] = {}
    for control in controls:
        if control.state in states:
            found[control.name] = found.get(control.name, "") + control.band
    return found


def surprises(kind: str, controls: tuple[Control, ...]) -> list[str]:
    """What fails and should not, what does not fail and should."""
    culprit, failing = CULPRITS[kind], set(by_state(controls, "fail"))
    return [
        *(f"{name} fails" for name in sorted(failing - culprit.must - culprit.may)),
        *(f"{name} does not fail" for name in sorted(culprit.must - failing)),
    ]


def main() -> int:
    """Make and measure the cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", type=Path, default=Path("/tmp/culprits"))
    parser.add_argument("--table", type=Path, help="CSV file (default: culprits.csv in the work directory)")
    parser.add_argument("--bricks", type=int, default=20)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--only", nargs="+", default=list(CULPRITS), choices=list(CULPRITS))
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    wrong, lines = 0, []
    for number, kind in enumerate(CULPRITS):
        if kind not in options.only:
            continue
        controls = controls_of(set_of(options.workdir, kind, options.bricks, options.seed + number))
        told = {state: by_state(controls, state) for state in ("fail", "warn")}
        lines.append(
            {
                "planted": kind,
                "amplitude": CULPRITS[kind].amplitude,
                **{k: "; ".join(f"{n} ({b})" if b else n for n, b in v.items()) for k, v in told.items()},
            }
        )
        print(lines[-1], flush=True)
        for surprise in surprises(kind, controls):
            wrong += 1
            print(f"SURPRISE {kind}: {surprise}", flush=True)
    write_csv(options.table or options.workdir / "culprits.csv", lines)
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
