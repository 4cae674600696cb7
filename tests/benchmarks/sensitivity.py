"""The positive control at work: renderings a second, and what a network finds of each amplitude.

    bin/benchmark sensitivity -- --workdir DIR [--examples 8192] [--plant offset=0.25,0.5,1 ...] [--rate]

Both classes are one population (`planted`, nothing planted in it), with a source table as create_training
writes it.  Then ``--plant`` is done to it as ``evaluate --sensitivity`` does it.  Started again it goes on.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obiwan.dplearn.report.wording import sensitivity_lines
from obiwan.dplearn.retraining.planting import planted
from obiwan.dplearn.retraining.sensitivity import run_sensitivity
from obiwan.dplearn.stampspec import SPLITS, StampSpec
from obiwan.dplearn.survey.differences import KINDS, LIGHT, Difference, parse_amplitudes
from obiwan.dplearn.survey.rendering import Galaxy
from obiwan.dplearn.training.settings import ARCHITECTURES, FeedConfig, RunConfig, network_config
from obiwan.dplearn.trainingset.examples import blank_examples
from obiwan.dplearn.trainingset.stampset import StampSet, open_training_set
from planted import PIXEL, Planted, Sample, write_set
from tables import write_table

BRICK = 64  #: examples of a brick


def table(training_set: StampSet, samples: dict[str, Sample]) -> NDArray[np.void]:
    """The source table of a set that was drawn, with the true parameters as the fitted ones."""
    parts = []
    for split in SPLITS:
        sample, shards = samples[split], training_set.split(split)
        rows = blank_examples(len(sample), StampSpec())
        rows["split"], rows["run"], rows["type"] = split.encode(), b"rs0", b"EXP"
        rows["shard"] = np.repeat([s.number for s in shards], [s.rows for s in shards])
        rows["row"] = np.concatenate([np.arange(s.rows) for s in shards])
        rows["label"] = np.concatenate([training_set.read(s)[1] for s in shards])
        rows["id"] = np.arange(len(sample))
        rows["brick"] = np.char.mod(f"{split[:2]}%05d", rows["id"] // BRICK).astype("S8")
        rows["x"], rows["y"] = 100 + sample.x, 100 + sample.y
        rows["ra"] = rows["dec"] = 0.0
        for band, name in enumerate(training_set.spec.bands):
            rows[f"flux_{name}"] = sample.flux[:, band]
            rows[f"psfsize_{name}"] = sample.sigma[:, band] * PIXEL * 2.3548
        rows["shape_r"], rows["sersic"] = sample.size, 1.0
        # From (a^2 - b^2) / (a^2 + b^2) along +x to the tractor's (a - b) / (a + b) along +y.
        modulus = np.hypot(sample.e1, sample.e2)
        share = -1 / (1 + np.sqrt(1 - modulus**2))
        rows["e1"], rows["e2"] = share * sample.e1, share * sample.e2
        parts.append(rows)
    return np.concatenate(parts)


def make_set(directory: Path, examples: int) -> StampSet:
    """The training set, made if need be."""
    if not (directory / "sources.fits").is_file():
        held_out = {"val": max(256, examples // 8), "test": max(512, examples // 4)}
        samples = write_set(directory, Planted(), {"train": examples, **held_out}, seed=11)
        write_table(directory, table(open_training_set(directory), samples))
    return open_training_set(directory)


def rates(count: int = 300) -> None:
    """Print how many additions are rendered in a second of one core, for discs, bulges and stars."""
    rng, spec = np.random.default_rng(1), StampSpec()
    for name, sersic, radius in (("star", 0.0, 0.0), ("disc", 1.0, 0.5), ("de Vaucouleurs", 4.0, 0.8)):
        for kind in LIGHT:
            difference = Difference(kind, 1.05 if KINDS[kind].unit == "factor" else 0.1)
            start = time.process_time()
            for factor, phase in zip(rng.lognormal(0, 0.3, count), rng.random(count), strict=True):
                fwhm, size = (1.3 + phase / 10, 1.2, 1.1), radius * factor
                planted(Galaxy((1, 2, 3), fwhm, 32 + phase, 32, size, sersic, 0.1, 0.2), difference, spec)
            print(f"{name:15} {kind:8} {count / (time.process_time() - start):8.0f} additions/s")


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", type=Path, default=Path("/tmp/sensitivity"))
    parser.add_argument("--examples", type=int, default=8192, help="training examples")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--arch", choices=list(ARCHITECTURES), default="lenet5")
    parser.add_argument("--plant", nargs="+", default=["offset=0.25,0.5,1", "psf=1.05,1.1", "flux=1.1,1.3"])
    parser.add_argument("--rate", action="store_true", help="only measure the renderings")
    options = parser.parse_args()
    if options.rate:
        rates()
        return 0
    differences = parse_amplitudes(options.plant)
    training_set = make_set(options.workdir / f"set_{options.examples}", options.examples)
    config = RunConfig(network_config(options.arch), FeedConfig(seed=7), epochs=options.epochs)
    outdir = options.workdir / f"{options.arch}_{options.examples}_{options.epochs}"
    results = []
    for difference in differences:
        results.append(run_sensitivity(difference, training_set, config, outdir))
        print(f"{difference}: AUC {results[-1].auc}, learnt {results[-1].learnt}", flush=True)
    print("\n".join(sensitivity_lines(results)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
