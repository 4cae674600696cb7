"""Cost of training on many ranks and of whole surveys, on paper: a step, an epoch, and all programs.

    bin/benchmark scaling_model -- [--rate 2000] [--batch 16] [--latency 2e-6] [--bandwidth 3e9] ...

Prints the tables of doc/explanation/scaling.rst, where the assumptions are explained.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from statistics import NormalDist

GRADIENTS = 353_786 * 4  #: bytes of the documented network's gradients
EXAMPLE = 64 * 64 * 6 * 4  #: bytes of a cutout
RANKS = (1, 2, 4, 8, 16, 64, 256, 1024, 4096)


@dataclass(frozen=True)
class Machine:
    """Assumptions.

    Attributes
    ----------
    rate : float
        Images/s of one rank that trains alone.
    batch : int
        Examples per step and rank.
    latency : float
        Seconds for the smallest message between two ranks.
    bandwidth : float
        Bytes/s between two ranks while all of them talk.
    reduce : float
        Bytes/s at which one thread adds two arrays.
    cycle : float
        Seconds between two looks of Horovod for tensors that are ready.
    jitter : float
        Scatter of the step's time, as a fraction of it; independent between ranks.
    reading : float
        Bytes/s that the file system gives all ranks together.
    ratio : float
        Bytes of a cutout over those of a packed one.
    decoding : float
        Bytes/s of cutouts that one thread unpacks.
    cores : int
        Of a rank, one of which unpacks.
    """

    rate: float = 2000.0
    batch: int = 16
    latency: float = 2e-6
    bandwidth: float = 3e9
    reduce: float = 4e9
    cycle: float = 1e-3
    jitter: float = 0.03
    reading: float = 100e9
    ratio: float = 4.17
    decoding: float = 0.69e9
    cores: int = 16


@dataclass(frozen=True)
class Cost:
    """Seconds of one step, part by part."""

    compute: float
    wait: float
    negotiate: float
    allreduce: float
    read: float

    @property
    def step(self) -> float:
        """Reading is done beside the rest, in a thread of its own, and shows where it takes longer."""
        return max(self.compute + self.wait + self.negotiate + self.allreduce, self.read)


def ring(ranks: int, size: float, machine: Machine) -> float:
    """Seconds around a ring, in 2 (N - 1) messages of 1/N of the data (Patarasuk & Yuan 2009)."""
    rounds = 2 * (ranks - 1)
    part = size / ranks
    return rounds * (machine.latency + part / machine.bandwidth) + (ranks - 1) * part / machine.reduce


def halving(ranks: int, size: float, machine: Machine) -> float:
    """Seconds by recursive halving and doubling: as many bytes in 2 log2 N messages (Thakur et al. 2005)."""
    rounds = 2 * math.ceil(math.log2(ranks))
    bytes_sent = 2 * size * (ranks - 1) / ranks
    return rounds * machine.latency + bytes_sent / machine.bandwidth + bytes_sent / 2 / machine.reduce


def tree(ranks: int, size: float, machine: Machine) -> float:
    """Seconds of a reduction to one rank and a broadcast from it, along a binomial tree."""
    levels = math.ceil(math.log2(ranks))
    return levels * (2 * machine.latency + 2 * size / machine.bandwidth + size / machine.reduce)


ALLREDUCE = {"ring": ring, "halving": halving, "tree": tree}


def slowest(ranks: int, jitter: float) -> float:
    """Distance of the slowest of N normal steps from the mean, as a fraction of it (Blom 1958)."""
    if ranks == 1:
        return 0.0
    return jitter * NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25))


def cost(
    ranks: int,
    machine: Machine,
    algorithm: str = "ring",
    size: float = GRADIENTS,
    *,
    packed: bool = False,
) -> Cost:
    """One step of `ranks` ranks; unpacking is done by the reading thread, which takes a core meanwhile."""
    compute = machine.batch / machine.rate
    read = ranks * machine.batch * EXAMPLE / machine.reading
    if packed:
        unpack = machine.batch * EXAMPLE / machine.decoding
        read, compute = read / machine.ratio + unpack, compute + unpack / machine.cores
    if ranks == 1:
        return Cost(compute, 0.0, 0.0, 0.0, read)
    # Half a cycle until Horovod looks, then a word to all ranks and one back that all tensors are ready.
    negotiate = machine.cycle / 2 + 2 * math.ceil(math.log2(ranks)) * machine.latency
    wait = compute * slowest(ranks, machine.jitter)
    return Cost(compute, wait, negotiate, ALLREDUCE[algorithm](ranks, size, machine), read)


def fastest(ranks: int, machine: Machine, *, packed: bool = False) -> Cost:
    """One step by the algorithm that takes least time."""
    costs = [cost(ranks, machine, algorithm, packed=packed) for algorithm in ALLREDUCE]
    return min(costs, key=lambda one: one.step)


def efficiency(found: Cost, machine: Machine) -> float:
    """Images/s of N ranks over N times those of one that reads npy files."""
    return cost(1, machine).compute / found.step


def epoch(examples: float, ranks: int, machine: Machine) -> float:
    """Seconds of a pass over the examples."""
    return examples / (ranks * machine.batch) * fastest(ranks, machine).step


def table(machine: Machine) -> list[str]:
    """Lines: a row for each number of ranks."""
    head = (
        "ranks  compute    wait  negotiate    ring  halving    tree    read  efficiency    2 M     60 M"
        "   packed: read  efficiency"
    )
    unit = (
        "            ms      ms         ms      ms       ms      ms      ms       best      s/epoch s/epoch"
        "             ms        best"
    )
    lines = [head, unit]
    for ranks in RANKS:
        one, packed = fastest(ranks, machine), fastest(ranks, machine, packed=True)
        words = [
            f"{ranks:5}",
            f"{1e3 * one.compute:8.2f}",
            f"{1e3 * one.wait:7.2f}",
            f"{1e3 * one.negotiate:10.3f}",
        ]
        words += [f"{1e3 * average(ranks, GRADIENTS, machine):7.2f}" for average in ALLREDUCE.values()]
        words += [f"{1e3 * one.read:8.3f}", f"{efficiency(one, machine):10.3f}"]
        words += [f"{epoch(examples, ranks, machine):9.1f}" for examples in (2e6, 60e6)]
        words += [f"{1e3 * packed.read:13.3f}", f"{efficiency(packed, machine):11.3f}"]
        lines.append(" ".join(words))
    return lines


@dataclass(frozen=True)
class Rates:
    """What examples cost; measured unless said otherwise.

    Attributes
    ----------
    per_brick : float
        Examples of a brick and run; assumed, the density of the survey.
    brick, run, example, cutout : float
        Seconds: of a core to plan a brick, of one process to find the files of a run and to place an
        example, of a core to cut a stamp.
    placed, of_run, task, worker : float
        Bytes: of an example and of a run in the process that plans, of a task in progress, of a worker.
    node, files : float
        Bytes/s of the file system to a node, and to all; assumed.
    cores, ranks : int
        Of a node: cores, and ranks that train; assumed.
    tests : float
        Fraction of the examples that are test examples; assumed, and the same for validation.
    score : float
        Stamps that one core scores in a second.
    panel, trained : float
        Seconds of one core to measure the samples of a panel, and of one process to train and judge it.
    read, judged, judge : float
        Seconds of one process to read a row of the example table, for a test example, and for any set.
    row, test, base : float
        Bytes of `evaluate`: of a row, of a test example more than that, and without any.
    """

    per_brick: float = 200.0
    brick: float = 0.105
    run: float = 65e-6
    example: float = 10e-6
    cutout: float = 2.75e-3
    placed: float = 9.0
    of_run: float = 2.3e3
    task: float = 2e6
    worker: float = 1.2e9
    node: float = 5e9
    files: float = 100e9
    cores: int = 128
    ranks: int = 8
    tests: float = 0.1
    score: float = 900.0
    panel: float = 150_000 * 2.8e-3
    trained: float = 150.0
    read: float = 2.5e-6
    judged: float = 12e-6
    judge: float = 60.0
    row: float = 258.0
    test: float = 190.0
    base: float = 1.6e9


SIZES, NODES = (2e6, 60e6, 600e6), (1, 10, 100)


def hours(examples: float, nodes: int, rates: Rates, machine: Machine) -> dict[str, float]:
    """Hours of each program on some nodes; cutting and writing overlap, and so do scoring and reading."""
    cores, files = nodes * rates.cores, min(nodes * rates.node, rates.files)
    bricks, tests = examples / rates.per_brick, rates.tests * examples
    planning = bricks * rates.brick / cores + bricks * rates.run + examples * rates.example
    cutting = max(examples * rates.cutout / cores, examples * EXAMPLE / files)
    scoring = max(tests / rates.score / cores, tests * EXAMPLE / files)
    rows = 3 * examples - 2 * 2 * tests  # those of training thrice: for columns, bricks and their places
    ruling = rates.panel / cores + rates.trained + rows * rates.read + tests * rates.judged + rates.judge
    training = epoch(examples, nodes * rates.ranks, machine)
    found = {"plan": planning, "cut": cutting, "epoch": training, "evaluate": scoring + ruling}
    return {name: seconds / 3600 for name, seconds in found.items()}


def memory(examples: float, nodes: int, rates: Rates) -> dict[str, float]:
    """Bytes of the largest process of `create_training`, tasks in progress included, and of `evaluate`."""
    tasks = 1.125 * nodes * rates.cores * rates.task
    planned = examples * rates.placed + examples / rates.per_brick * rates.of_run + tasks
    tests = rates.tests * examples  # of the others, those of validation alone are held
    judged = rates.base + 2 * tests * rates.row + tests * rates.test
    return {"create_training": max(planned, rates.worker), "evaluate": judged}


def table_of_surveys(rates: Rates, machine: Machine) -> list[str]:
    """Lines: a row for each number of examples and of nodes."""
    lines = ["examples  nodes   plan, h    cut, h  epoch, h  evaluate, h  create_training, GB  evaluate, GB"]
    for examples in SIZES:
        for nodes in NODES:
            took, used = hours(examples, nodes, rates, machine), memory(examples, nodes, rates)
            words = [f"{examples / 1e6:6.0f} M  {nodes:5}"]
            words += [f"{took[name]:9.3f}" for name in ("plan", "cut", "epoch")]
            words += [f"{took['evaluate']:12.3f}"]
            words += [f"{used['create_training'] / 1e9:20.1f}  {used['evaluate'] / 1e9:12.1f}"]
            lines.append(" ".join(words))
    return lines


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name, value in vars(Machine()).items():
        parser.add_argument("--" + name, type=type(value), default=value)
    machine = Machine(**vars(parser.parse_args()))
    print("  ".join(f"{name} {value:g}" for name, value in vars(machine).items()))
    print("\n".join(table(machine)))
    print("\n".join(["", *table_of_surveys(Rates(), machine)]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
