"""Learning curves of the panel without networks, compared with the ideal observer; resumable.

    bin/benchmark panel -- --workdir DIR [--only offset size] [--table doc/_static/panel.csv]
    bin/benchmark panel -- --workdir DIR --finished --figure doc/_static/panel.png
    bin/benchmark panel -- --costs doc/_static/panel_costs.csv

Each kind of difference is a case: its fakes are drawn and measured, the members are trained on 2,048 and on
8,192 stamps and combined on 2,048 others, and the 16,384 test stamps are scored once.  The reals are the
same in all cases but one, and the fakes are the same galaxies with the same noise.  It takes half an hour of
one core.  What is finished is kept in DIR; the table is written anew after each case.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, ndtri
from scipy.stats import norm

from benchmarks.ideal import ideal_auc
from benchmarks.learning import PLANTED as USUAL
from obiwan.dplearn import __version__
from obiwan.dplearn.controls.measure import measure_stamps
from obiwan.dplearn.files.atomic import write_json
from obiwan.dplearn.galaxyfit.fits import fit_stamps, residual_images
from obiwan.dplearn.referees.measured import Measured, concatenate, measure
from obiwan.dplearn.referees.panel import fit_panel
from obiwan.dplearn.referees.stored import KINDS
from obiwan.dplearn.stampspec import SPLITS, Array
from obiwan.dplearn.twosample.ranking import measure_auc
from planted import GRZ, Planted, Population, Sample, draw_population, observe_class, plant
from tables import write_csv

#: Flaws that the trial of the panel had no number for.
OTHERS = {
    "band_offset": Planted("band_offset", 0.25),
    "wings": Planted("wings", 0.3),
    "clump": Planted("clump", 0.05),
    "correlation": Planted("correlation", 0.04),
}
PLANTED = USUAL | OTHERS
EXAMPLES = (2048, 8192)
COUNTS = {"train": max(EXAMPLES), "val": 2048, "test": 16384}
SEED = 1616  # of new draws, of which that of psf was used once
TRAINING = 1  # seed of what is random in the members' training
AT_ONCE = 512  # stamps drawn at a time
COSTED = 2048  # stamps that are drawn to time each stage
NETWORKS = Path(__file__).parents[2] / "doc" / "_static" / "learning.csv"


def cpu(work: Callable[[], Any]) -> tuple[Any, float]:
    """What some work returns, and the processor time (s) that it took."""
    start = time.process_time()
    return work(), time.process_time() - start


@cache
def galaxies(split: str, label: int, number: int) -> Sample:
    """Galaxies of one class before anything is planted, the same for every case."""
    rng = np.random.default_rng([SEED, SPLITS.index(split), label, number])
    return draw_population(AT_ONCE, Population(), rng)


def measured_class(split: str, label: int, planted: Planted) -> tuple[Measured, float]:
    """Measurements of half of the examples of a split, and the processor time of measuring them."""
    rows = np.zeros(AT_ONCE, [("x", "f8"), ("y", "f8")])  # the same for all: the phase is unknown
    parts, spent = [], 0.0
    for number in range(COUNTS[split] // 2 // AT_ONCE):
        sample = galaxies(split, label, number)
        noise = np.random.default_rng([SEED, SPLITS.index(split), label, number, 1])
        stamps = observe_class(plant(sample, planted) if label else sample, label, planted, noise)
        part, seconds = cpu(lambda stamps=stamps: measure(stamps, rows, GRZ, residuals=True))
        parts.append(part)
        spent += seconds
    return concatenate(parts), spent


@cache
def usual_reals(split: str) -> tuple[Measured, float]:
    """Reals of all cases in which they are plain observations."""
    return measured_class(split, 0, Planted())


def measured_split(split: str, planted: Planted) -> tuple[Measured, float]:
    """Measurements of a split, reals first, and the processor time of measuring them."""
    reals = measured_class(split, 0, planted) if planted.kind == "shot" else usual_reals(split)
    fakes = measured_class(split, 1, planted)
    return concatenate([reals[0], fakes[0]]), reals[1] + fakes[1]


def labels_of(count: int) -> Array:
    """Labels of a split, reals first."""
    return np.repeat([0, 1], count // 2)


def train_and_score(sets: dict[str, Measured], examples: int) -> dict[str, Any]:
    """AUCs of panel and members with errors, and processor times of training and scoring, of one training."""
    half, whole = examples // 2, len(sets["train"]) // 2
    train = sets["train"].take(np.r_[0:half, whole : whole + half])
    _, population = cpu(lambda: train.population)
    seconds, scores = {"population": population}, {"val": [], "test": []}
    for name, kind in KINDS.items():
        referee, spent = cpu(lambda kind=kind: kind.train(train, labels_of(examples), TRAINING))
        seconds[f"train {name}"] = spent
        for split, found in scores.items():
            logits, spent = cpu(lambda split=split, referee=referee: referee.logits(sets[split]))
            found.append(expit(logits))
            seconds[f"score {name}"] = spent  # of the test split, which comes last
    panel = fit_panel(tuple(KINDS), np.stack(scores["val"]), labels_of(COUNTS["val"]))
    test = np.stack(scores["test"])
    answers = {"panel": panel.score(test), **dict(zip(KINDS, test, strict=True))}
    aucs = {name: measure_auc(labels_of(COUNTS["test"]), score) for name, score in answers.items()}
    return {
        "auc": {name: [found.value, found.error] for name, found in aucs.items()},
        "weights": dict(zip(KINDS, panel.weights, strict=True)),
        "seconds": seconds,
    }


def run_case(workdir: Path, kind: str) -> dict[str, Any]:
    """Measure, train and score one kind, or find that it is done."""
    path = workdir / f"{kind}.json"
    if not path.is_file():
        planted = PLANTED[kind]
        split_and_time = {split: measured_split(split, planted) for split in SPLITS}
        sets = {split: found for split, (found, _) in split_and_time.items()}
        content = {
            "kind": kind,
            "amplitude": planted.amplitude,
            "ideal": ideal_auc(planted),
            "measuring": sum(spent for _, spent in split_and_time.values()),
            "version": version(),
            "seed": SEED,
            "trained": {str(examples): train_and_score(sets, examples) for examples in EXAMPLES},
        }
        write_json(path, content)
    return dict(json.loads(path.read_text()))


def version() -> str:
    """The package's version and the last commit that changed it."""
    package = str(Path(__file__).parents[2] / "py")
    words = ["git", "-C", package, "log", "-1", "--format=%h", "--", "."]
    commit = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return f"{__version__}+{commit or 'unknown'}"


def fraction_of_ideal(auc: float, error: float, ideal: float) -> tuple[float, float]:
    """Fraction of the ideal observer's d'^2, its error from that of the AUC; NaN where there is none."""
    if not 0.5 < ideal < 0.9999:
        return np.nan, np.nan
    z, best = ndtri(auc), ndtri(ideal) ** 2
    return z**2 / best * np.sign(z), abs(2 * z / best) * error / norm.pdf(z)


def row(case: dict[str, Any], examples: int) -> dict[str, str]:
    """A row of the table."""
    found = case["trained"][str(examples)]
    value, error = found["auc"]["panel"]
    fraction, uncertain = fraction_of_ideal(value, error, case["ideal"])
    training = sum(spent for name, spent in found["seconds"].items() if not name.startswith("score"))
    known = np.isfinite(fraction)
    return {
        "planted": case["kind"],
        "amplitude": f"{case['amplitude']:g}",
        "examples": str(examples),
        "panel": f"{value:.4f}",
        "error": f"{error:.4f}",
        **{name: f"{found['auc'][name][0]:.4f}" for name in KINDS},
        "ideal": f"{case['ideal']:.4f}",
        "fraction": f"{fraction:.2f}" if known else "",
        "fraction_error": f"{uncertain:.2f}" if known else "",
        "measuring_s": f"{case['measuring']:.0f}",
        "training_s": f"{training:.0f}",
        "seed": str(case["seed"]),
        "version": case["version"],
    }


def costs() -> list[dict[str, str]]:
    """Processor time of each stage of scoring, beside that of the documented network."""
    from obiwan.dplearn.training.model import build_network
    from obiwan.dplearn.training.settings import ARCHITECTURES, NetworkConfig

    rng = np.random.default_rng([SEED, len(SPLITS)])
    sample = draw_population(COSTED, Population(), rng)
    stamps, labels = observe_class(sample, 0, Planted(), rng), labels_of(COSTED)
    network = build_network(NetworkConfig("lenet5", **ARCHITECTURES["lenet5"]), GRZ)
    network.predict_on_batch(stamps[:AT_ONCE])  # its graph is made with the first batch
    batches = range(0, COSTED, AT_ONCE)
    seconds = {
        "network": cpu(lambda: [network.predict_on_batch(stamps[i : i + AT_ONCE]) for i in batches])[1]
    }
    fits, seconds["galaxy fit"] = cpu(lambda: fit_stamps(stamps, GRZ))
    images, seconds["residual images"] = cpu(lambda: residual_images(stamps, fits))
    rows = np.zeros(COSTED, [("x", "f8"), ("y", "f8")])
    light, seconds["numbers of the controls"] = cpu(lambda: measure_stamps(stamps, rows, GRZ))
    measured = Measured(fits, light, images.astype(np.float16))
    for name, kind in KINDS.items():
        referee = kind.train(measured, labels, TRAINING)
        referee.logits(measured.take(np.arange(AT_ONCE)))
        seconds[name] = cpu(lambda referee=referee: referee.logits(measured))[1]
    unit = seconds["network"]
    return [
        {"stage": name, "seconds": f"{spent / COSTED * 1e4:.1f}", "ratio": f"{spent / unit:.2f}"}
        for name, spent in seconds.items()
    ]


def draw_figure(path: Path, rows: list[dict[str, str]]) -> None:
    """Fractions of the ideal d'^2 of the panel and of the documented network, for what has one."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    with NETWORKS.open() as stream:
        networks = {
            (one["planted"], one["examples"]): float(one["fraction"])
            for one in csv.DictReader(stream)
            if one["network"] == "lenet5" and one["fraction"]
        }
    kinds = [one["planted"] for one in rows if one["fraction"] and one["examples"] == str(EXAMPLES[0])]
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    places = np.arange(len(kinds))
    for examples, colour, aside in zip(EXAMPLES, ("0.65", "tab:blue"), (-0.2, 0.2), strict=True):
        own = {one["planted"]: one for one in rows if one["examples"] == str(examples)}
        heights = [float(own[kind]["fraction"]) for kind in kinds]
        errors = [1.96 * float(own[kind]["fraction_error"]) for kind in kinds]
        label = f"panel, {examples:,} examples"
        axes.bar(places + aside, heights, 0.38, yerr=errors, color=colour, label=label)
    known = [i for i in places if (kinds[i], str(EXAMPLES[1])) in networks]
    heights = [networks[kinds[i], str(EXAMPLES[1])] for i in known]
    axes.plot(known, heights, "D", color="tab:red", label=f"LeNet-5, {EXAMPLES[1]:,} examples")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(
        places, [kind.replace("_", "\n").replace("correlation", "corr.\nnoise") for kind in kinds]
    )
    axes.set_ylabel("fraction of the ideal d'$^2$")
    axes.set_ylim(0, None)
    axes.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> int:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", type=Path, default=Path("/tmp/panel"))
    parser.add_argument("--table", type=Path, help="CSV file (default: panel.csv in the work directory)")
    parser.add_argument("--only", nargs="+", default=list(PLANTED), choices=list(PLANTED))
    parser.add_argument("--finished", action="store_true", help="only write the table of what is finished")
    parser.add_argument("--figure", type=Path, help="also draw the results to this file")
    parser.add_argument("--costs", type=Path, help="only time the stages of scoring, for this CSV file")
    options = parser.parse_args()
    if options.costs:
        write_csv(options.costs, costs())
        return 0
    options.workdir.mkdir(parents=True, exist_ok=True)
    kinds = [kind for kind in PLANTED if kind in options.only]
    if options.finished:
        kinds = [kind for kind in kinds if (options.workdir / f"{kind}.json").is_file()]
    rows: list[dict[str, str]] = []
    for kind in kinds:
        case = run_case(options.workdir, kind)
        rows += [row(case, examples) for examples in EXAMPLES]
        print(*(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
        write_csv(options.table or options.workdir / "panel.csv", rows)
    if options.figure:
        draw_figure(options.figure, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
