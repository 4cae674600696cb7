"""Search space of hyperparameters: which settings of ``cnn`` are tried, as TOML and for Optuna."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import Trial

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.training.settings import ARCHITECTURES, FeedConfig, RunConfig, network_config

Distribution: TypeAlias = CategoricalDistribution | FloatDistribution | IntDistribution

NETWORK = "network"  #: parameter that chooses the architecture
DOCUMENTED = 0  #: number of the trial that trains the documented network, whatever the space
RUN, FEED = ("learning_rate", "epochs"), ("batch_size", "augment")
OF_NETWORK = ("kernel_size", "pool_size", "strides", "dense")
WIDEST = 4  #: maps of the last stages of the deep network, in those of the first


def maps_of(arch: str, width: int, depth: int) -> tuple[int, ...]:
    """Feature maps of each convolution (stage): they grow as those of the documented network do.

    Examples
    --------
    >>> maps_of("lenet5", 18, 3), maps_of("deep", 24, 4)
    ((18, 36, 54), (24, 48, 96, 96))
    """
    factors = (min(2**i, WIDEST) if arch == "deep" else i + 1 for i in range(depth))
    return tuple(width * factor for factor in factors)


@dataclass(frozen=True)
class Space:
    """Search space.

    Attributes
    ----------
    networks : tuple of str
        Architectures that are tried.
    shared : mapping
        Distributions of what all of them have, by option name.
    own : mapping
        By architecture: distributions of `OF_NETWORK`, ``width`` and ``depth``.
    """

    networks: tuple[str, ...]
    shared: Mapping[str, Distribution]
    own: Mapping[str, Mapping[str, Distribution]]

    def to_dict(self) -> dict[str, Any]:
        """The space as JSON has it."""
        shared = {name: json.loads(distribution_to_json(one)) for name, one in self.shared.items()}
        own = {
            arch: {name: json.loads(distribution_to_json(one)) for name, one in self.own[arch].items()}
            for arch in self.networks
        }
        return {"networks": list(self.networks), "shared": shared, "own": own}

    @property
    def most_epochs(self) -> int:
        """The largest number of epochs that a trial can have."""
        ends: Any = _examples(self.shared["epochs"])
        return int(max(ends))

    def draw(self, trial: Trial) -> dict[str, Any]:
        """Let the sampler choose the parameters of a trial; what was chosen before stays."""
        _ = trial.relative_params  # drawn together, before those that depend on the network
        arch = trial.suggest_categorical(NETWORK, self.networks)
        for name, distribution in self.of(arch):
            _suggest(trial, name, distribution)
        return dict(trial.params)

    def of(self, arch: str) -> Iterator[tuple[str, Distribution]]:
        """Names and distributions of the parameters of trials with an architecture."""
        yield from self.shared.items()
        for name, distribution in self.own[arch].items():
            yield f"{arch}.{name}", distribution

    @property
    def documented(self) -> dict[str, Any] | None:
        """Parameters of the documented network; None where the space does not contain it."""
        config = documented()
        network, arch = config.network, config.network.arch
        if arch not in self.networks:
            return None
        values = {name: getattr(config, name) for name in RUN}
        values |= {name: getattr(config.feed, name) for name in FEED}
        own = {name: getattr(network, name) for name in OF_NETWORK}
        own |= {"width": network.maps[0], "depth": len(network.maps)}
        values |= {f"{arch}.{name}": value for name, value in own.items()}
        inside = all(_contains(distribution, values[name]) for name, distribution in self.of(arch))
        return {NETWORK: arch, **values} if inside else None


def documented() -> RunConfig:
    """The settings that ``cnn`` has without options."""
    return RunConfig(network_config(), FeedConfig())


def config_of(number: int, params: Mapping[str, Any]) -> RunConfig:
    """Settings of a trial; its seed is the default.

    Raises
    ------
    ValueError
        If there is no such network.
    """
    if number == DOCUMENTED:
        return documented()
    arch = params[NETWORK]
    own = {name: params[f"{arch}.{name}"] for name in (*OF_NETWORK, "width", "depth")}
    maps = maps_of(arch, own.pop("width"), own.pop("depth"))
    feed = FeedConfig(**{name: params[name] for name in FEED})
    return RunConfig(network_config(arch, maps=maps, **own), feed, **{name: params[name] for name in RUN})


def _suggest(trial: Trial, name: str, distribution: Distribution) -> None:
    """Let the sampler choose one parameter."""
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(name, distribution.choices)
        return
    suggest: Any = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    suggest(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def _contains(distribution: Distribution, value: Any) -> bool:
    """Whether a value can be drawn."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    low, high, step = distribution.low, distribution.high, distribution.step
    return bool(low <= value <= high and (step is None or ((value - low) / step).is_integer()))


def _distribution(entry: Any) -> Distribution:
    """Distribution that an entry of a TOML file stands for; a ValueError or TypeError where there is none."""
    if not isinstance(entry, Mapping):
        return CategoricalDistribution(entry if isinstance(entry, list) else [entry])
    real = any(isinstance(one, float) for one in entry.values())
    kind: Any = FloatDistribution if real else IntDistribution
    distribution: Distribution = kind(**entry)
    return distribution


def _table(found: Any, known: Mapping[str, Distribution]) -> dict[str, Distribution]:
    """Distributions of a table, those that it does not name as they are; raises as `_distribution`."""
    if not isinstance(found, Mapping):
        msg = f"{found!r} stands where a table should be"
        raise ValueError(msg)
    entries = {name.replace("-", "_"): entry for name, entry in found.items()}
    if unknown := sorted({*entries} - {*known}):
        msg = f"{unknown[0]} is none of {', '.join(known)}"
        raise ValueError(msg)
    return {**known, **{name: _distribution(entry) for name, entry in entries.items()}}


def _default() -> Space:
    """The space of ``space.toml``."""
    content = tomllib.loads((files(__package__) / "space.toml").read_text(encoding="utf-8"))
    own = {arch: content.pop(arch) for arch in ARCHITECTURES}
    shared = dict.fromkeys((*RUN, *FEED), CategoricalDistribution([0]))
    inner = dict.fromkeys(("width", "depth", *OF_NETWORK), CategoricalDistribution([0]))
    return Space(
        tuple(own), _table(content, shared), {arch: _table(table, inner) for arch, table in own.items()}
    )


def _examples(distribution: Distribution) -> Sequence[Any]:
    """Values at the ends of a distribution, all of them where they are listed."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    return distribution.low, distribution.high


def _check(space: Space) -> None:
    """Raise the ValueError or TypeError of a setting that ``cnn`` would refuse."""
    for arch in space.networks:
        ranges = {name: _examples(distribution) for name, distribution in space.of(arch)}
        for name, values in ranges.items():
            for value in values:
                if isinstance(value, str) or isinstance(value, bool) != (name == "augment"):
                    msg = f"{name} cannot be {value!r}"
                    raise ValueError(msg)
        first = {NETWORK: arch, **{name: values[0] for name, values in ranges.items()}}
        for name, values in ranges.items():
            for value in values:
                config_of(DOCUMENTED + 1, {**first, name: value})


def read_space(path: Path | None, networks: Sequence[str]) -> Space:
    """The search space: the default one, with the entries of a TOML file in place of its own.

    Parameters
    ----------
    path : Path or None
        The file: ``learning-rate``, ``batch-size``, ``epochs`` and ``augment``; in a table for each
        architecture ``width``, ``depth``, ``kernel-size``, ``pool-size``, ``strides`` and ``dense``.
    networks : sequence of str
        Architectures that are tried.

    Raises
    ------
    ModelError
        If the file cannot be read, or asks for what ``cnn`` would refuse.
    """
    space = replace(_default(), networks=tuple(dict.fromkeys(networks)))
    try:
        content = {} if path is None else tomllib.loads(path.read_text(encoding="utf-8-sig"))
        tables = {arch: content.pop(arch, {}) for arch in ARCHITECTURES}
        own = {arch: _table(table, space.own[arch]) for arch, table in tables.items()}
        space = replace(space, shared=_table(content, space.shared), own=own)
        _check(space)
    except (ValueError, TypeError) as error:
        msg = f"--space {path}: {error}; see doc/howto/tuning.rst"
        raise ModelError(msg) from None
    return space
