"""Files of a study: best.toml for ``cnn --config``, trials.csv, and Optuna's figures."""

from __future__ import annotations

import csv
import json
import logging
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.files.atomic import atomic_write
from obiwan.dplearn.files.outdir import OutputDirectory
from obiwan.dplearn.training.settings import RunConfig
from obiwan.dplearn.tuning.outcome import Best
from obiwan.dplearn.tuning.space import DOCUMENTED, FEED, OF_NETWORK, RUN, config_of
from obiwan.dplearn.tuning.study import JOURNAL, REASON, TRIALS, counted

STUDY, BEST, TABLE = "study.json", "best.toml", "trials.csv"
VALUE = "validation AUC"
FIGURES = {  #: names of files, and of the functions of Optuna
    "history": "plot_optimization_history",
    "importance": "plot_param_importances",
    "parallel": "plot_parallel_coordinate",
}

log = logging.getLogger(__name__)


def study_directory(outdir: Path) -> OutputDirectory:
    """Output directory of a study; it never counts as finished, for more trials can be asked for."""
    names = (STUDY, JOURNAL, TRIALS, BEST, TABLE, *(f"{name}.png" for name in FIGURES))
    return OutputDirectory(
        outdir,
        "study",
        ModelError,
        owned=re.compile("|".join(map(re.escape, names))),
        records=(STUDY,),
        final="",
        scratch=".scratch",
    )


def options_of(config: RunConfig) -> dict[str, Any]:
    """Settings by the names of the flags of ``cnn``, but for the seed."""
    network, feed = config.network, config.feed
    found = {"arch": network.arch, "maps": list(network.maps)}
    for own, names in ((network, OF_NETWORK), (feed, FEED), (config, RUN)):
        found |= {name.replace("_", "-"): getattr(own, name) for name in names}
    return found


def best_text(best: Best, seed: int, lines: Iterable[str]) -> str:
    """Content of ``best.toml``: options of ``cnn`` under sentences as comments."""
    comments = [f"# {line}" for line in lines]
    # JSON's strings, numbers, switches and lists of them are TOML's.
    entries = [
        f"{name} = {json.dumps(value)}" for name, value in {**options_of(best.config), "seed": seed}.items()
    ]
    return "\n".join([*comments, "", *entries]) + "\n"


def trial_row(trial: FrozenTrial) -> dict[str, Any]:
    """Row of ``trials.csv``: number, state, validation AUC, epochs trained, settings, why it failed."""
    settings: dict[str, Any] = {}
    if trial.number == DOCUMENTED or trial.params:
        try:
            settings = options_of(config_of(trial.number, trial.params))
        except (KeyError, ValueError):  # killed while they were drawn, or of no network
            settings = {}
    if settings:
        settings["maps"] = " ".join(map(str, settings["maps"]))
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "val_auc": "" if trial.values is None else f"{trial.values[0]:.6f}",
        "epochs_trained": len(trial.intermediate_values),
        **settings,
        "reason": trial.user_attrs.get(REASON, ""),
    }


def _write_table(path: Path, trials: Sequence[FrozenTrial], scratch: Path) -> None:
    """Write ``trials.csv``, a row per trial."""
    names = list(trial_row(create_trial(state=TrialState.FAIL)))
    names[-1:-1] = options_of(config_of(DOCUMENTED, {}))
    with atomic_write(path, scratch) as beside, beside.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, names, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(map(trial_row, trials))


def _write_figures(outdir: Path, study: Study, scratch: Path) -> None:
    """Write the figures that the trials suffice for, as Optuna draws them with matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as drawn

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len({trial.values[0] for trial in complete}) < 2:
        log.info("no figures yet: they need two complete trials")
        return
    values: dict[str, set[Any]] = {}
    for name, value in (item for trial in complete for item in trial.params.items()):
        values.setdefault(name, set()).add(value)
    varied = sorted(name for name, some in values.items() if len(some) > 1)
    of_best = [name for name in varied if name in study.best_trial.params]  # all would be too many axes
    params: dict[str, dict[str, Any]] = {"importance": {"params": varied}, "parallel": {"params": of_best}}
    for name, function in FIGURES.items():
        if not params.get(name, {"params": True})["params"]:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental functions; few trials, which the figure shows
            figure: Any = getattr(drawn, function)(study, target_name=VALUE, **params.get(name, {})).figure
        figure.set_size_inches(12, 5)
        with atomic_write(outdir / f"{name}.png", scratch) as beside:
            figure.savefig(beside, bbox_inches="tight", dpi=120)
        pyplot.close(figure)


def write_files(outdir: Path, study: Study, best: Best | None, seed: int, lines: Sequence[str]) -> None:
    """Write all files of the study as it stands; several processes may do so at a time."""
    with TemporaryDirectory(prefix=".writing-", dir=outdir) as scratch:
        beside = Path(scratch)
        _write_table(outdir / TABLE, counted(study), beside)
        if best is not None:
            with atomic_write(outdir / BEST, beside) as file:
                file.write_text(best_text(best, seed, lines), encoding="utf-8")
        _write_figures(outdir, study, beside)
