"""Functions for notebooks and scripts: make a training set, train a network, evaluate it.

Each function does what the program of its step does.  It takes the program's long flags as keyword arguments
(``--test-fraction 0.2`` is ``test_fraction=0.2``, a switch is True or False), checks them in the same way,
and raises `ValueError` or a class of `obiwan.dplearn.errors` where the program ends with an error.  The
functions are names of ``obiwan.dplearn``::

    import obiwan.dplearn as dp

    data = dp.make_training_set("training", fake="injected", real="dr9/south", jobs=8)
    network = dp.train_network(data, "cnn", epochs=20)
    result = dp.run_evaluation(data, network)
    result.controls

Worker processes (``jobs`` above 1, the default of some functions) import the main module: a script calls
these functions under ``if __name__ == "__main__":``.  A notebook needs nothing.
"""

from __future__ import annotations

import argparse
import inspect
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from astropy.table import Table

from obiwan.dplearn import cnn, create_training, evaluate
from obiwan.dplearn.controls.records import Control
from obiwan.dplearn.evaluation.analysis import Evaluation
from obiwan.dplearn.evaluation.ruling import Ruling
from obiwan.dplearn.files.atomic import read_json
from obiwan.dplearn.mock import __main__ as mock
from obiwan.dplearn.running.cli import help_of, parse_keywords
from obiwan.dplearn.running.executors import process_pool
from obiwan.dplearn.running.launch import Launch
from obiwan.dplearn.training.rundir import BEST, RESULT
from obiwan.dplearn.trainingset import stampset
from obiwan.dplearn.trainingset.stampset import StampSet
from obiwan.dplearn.twosample.verdict import Verdict

if TYPE_CHECKING:
    from obiwan.dplearn.report.formatting import Statement

NOT_HERE = ("help", "version", "config", "mpi", "verbose")  #: flags that stand for no keyword argument

PathLike = str | os.PathLike[str]
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class TrainedNetwork:
    """Trained network with its result on the test set.

    Attributes
    ----------
    outdir : Path
        Output directory of the run.
    result : mapping
        Content of ``result.json``: AUC and accuracy with their intervals, best epoch, ...
    """

    outdir: Path
    result: Mapping[str, Any] = field(repr=False)

    @property
    def model(self) -> Path:
        """The ``.keras`` file with the weights that were best on the validation set."""
        return self.outdir / BEST

    def __fspath__(self) -> str:
        return str(self.model)

    def __repr__(self) -> str:
        auc = "AUC {value:.3f} ({low:.3f} to {high:.3f})".format(**self.result["auc"])
        return f"TrainedNetwork({str(self.model)!r}): {auc} on the test set"


@dataclass(frozen=True, eq=False)
class Result:
    """Result of an evaluation: the verdict, the controls, and all numbers of the report.

    Attributes
    ----------
    evaluation : Evaluation
        All numbers.
    report : Path
        The page, ``report.html``.
    """

    evaluation: Evaluation
    report: Path

    @property
    def verdict(self) -> Ruling:
        """The answer of the report: what the panel, the controls and the planted differences say together."""
        return self.evaluation.ruling

    @property
    def panel_verdict(self) -> Verdict:
        """The verdict of the panel's own test."""
        return self.evaluation.verdict

    @property
    def controls(self) -> Table:
        """The controls, a row each, with the attributes of `obiwan.dplearn.controls.records.Control`."""
        return controls_table(self.evaluation.controls)

    @property
    def summary(self) -> tuple[str, ...]:
        """Lines that ``evaluate`` prints, the ruling's sentence first unless there is an alarm."""
        from obiwan.dplearn.report import wording

        return tuple(wording.summary(self.evaluation))

    @property
    def statement(self) -> Statement:
        """The verdict in words: a headline, and the sentences that explain it."""
        from obiwan.dplearn.report import rulings

        return rulings.ruling_statement(self.evaluation)

    @property
    def _lines(self) -> tuple[str, ...]:
        """What explains the headline, and the network's own answer."""
        from obiwan.dplearn.report import wording

        return (*self.statement.explanation, *wording.network_lines(self.evaluation))

    def __repr__(self) -> str:
        return "\n".join((self.statement.headline, *(f"  {line}" for line in self._lines)))

    def _repr_html_(self) -> str:
        said, page = self.statement, escape(self.report.absolute().as_uri(), quote=True)
        lines = "".join(f"<li>{escape(line)}</li>" for line in self._lines)
        link = f'<p><a href="{page}">Report</a></p>'
        return f"<p><strong>{escape(said.headline)}</strong></p><ul>{lines}</ul>{link}"


def controls_table(controls: Iterable[Control]) -> Table:
    """Table of controls, a row each, of words and numbers: of a location, its value without the interval."""
    rows = []
    for one in controls:
        row = {own.name: getattr(one, own.name) for own in fields(one)}
        row["obstacle"] = row["obstacle"] or ""
        row["n_real"], row["n_fake"] = row.pop("counts")
        row |= {name: math.nan if row[name] is None else row[name].value for name in ("real", "fake")}
        rows.append({name: value.value if isinstance(value, Enum) else value for name, value in row.items()})
    table = Table(rows=rows)
    for column in table.itercols():
        if column.dtype.kind == "f":
            column.info.format = ".4g"
    return table


def _with_options(
    build: Callable[[], argparse.ArgumentParser], *named: str
) -> Callable[[_Function], _Function]:
    """Give a function the options of a parser, but those that it names, in its docstring and signature."""

    def documented(function: _Function) -> _Function:
        own = inspect.signature(function)
        parameters = [one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        lines = ["", "", "Other Parameters", "----------------"]
        for action in build()._actions:
            if action.dest in (*NOT_HERE, *named, *own.parameters):
                continue
            default = None if action.default == [] else action.default
            parameters.append(inspect.Parameter(action.dest, inspect.Parameter.KEYWORD_ONLY, default=default))
            lines += [action.dest, f"    {help_of(action)}"]
        function.__doc__ = inspect.cleandoc(function.__doc__ or "") + "\n".join(lines)
        function.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        return function

    return documented


def _options(parser: argparse.ArgumentParser, given: Mapping[str, Any]) -> argparse.Namespace:
    """Checked options; `ValueError` names a keyword that no function has."""
    for name in NOT_HERE:
        if name in given:
            msg = f"no keyword argument {name!r}; --{name} is of the command line alone"
            raise ValueError(msg)
    return parse_keywords(parser, given)


def open_training_set(directory: PathLike) -> StampSet:
    """Open a training set: its pixels, labels, rows of its examples and its manifest.

    Parameters
    ----------
    directory : path
        What ``create_training --outdir`` or `make_training_set` made.

    Raises
    ------
    TrainingSetError
        If there is no finished training set of a known format, or a file is missing or too small.
    """
    return stampset.open_training_set(Path(directory).expanduser())


@_with_options(create_training.build_parser)
def make_training_set(outdir: PathLike, **options: Any) -> StampSet:
    """Training set from injection outputs and data releases, as ``create_training`` makes it.

    A finished set of the same request is opened; an unfinished one is completed.

    Parameters
    ----------
    outdir : path
        Where the training set goes.

    Raises
    ------
    ValueError
        If an option makes no sense.
    DplearnError
        If the inputs cannot be used, no example survives, or `outdir` holds something else.
    """
    chosen = _options(create_training.build_parser(), {"outdir": outdir, **options})
    create_training.check_options(chosen)
    with process_pool(chosen.jobs) as executor:
        create_training.program(chosen, executor)
    return open_training_set(chosen.outdir)


@_with_options(cnn.build_parser)
def train_network(data: PathLike | StampSet, outdir: PathLike, **options: Any) -> TrainedNetwork:
    """Network trained on a training set and scored once on its test set, as ``cnn`` does it.

    A finished run of the same request is read; an unfinished one goes on from its last checkpoint.
    Threads are set in the environment, which TensorFlow reads when it is imported.

    Parameters
    ----------
    data : path or StampSet
        The training set.
    outdir : path
        Where the network, its logs and its result go.

    Raises
    ------
    ValueError
        If an option makes no sense.
    DplearnError
        If the training set cannot be used, or `outdir` holds another run.
    """
    chosen = _options(cnn.build_parser(), {"data": _directory(data), "outdir": outdir, **options})
    cnn.program(chosen, Launch())
    return TrainedNetwork(chosen.outdir, read_json(chosen.outdir / RESULT))


@_with_options(evaluate.build_parser, "model")
def run_evaluation(
    data: PathLike | StampSet,
    models: PathLike | TrainedNetwork | Iterable[PathLike | TrainedNetwork] = (),
    *,
    outdir: PathLike | None = None,
    **options: Any,
) -> Result:
    """Evaluation of a training set by a panel of classifiers, as ``evaluate`` does it.

    Every evaluation is recorded in the test-set log of the training set.

    Parameters
    ----------
    data : path or StampSet
        The training set.
    models : path, TrainedNetwork, or several of them
        Trained networks; the panel does without where there is none.
    outdir : path, optional
        Where report, numbers and figures go; by default a temporary directory that lasts as long as the
        result.

    Returns
    -------
    Result
        The verdict, the controls and all numbers.

    Raises
    ------
    ValueError
        If an option makes no sense.
    DplearnError
        If the data, a network or the output directory cannot be used.
    """
    files = [
        os.fspath(one)
        for one in ([models] if isinstance(models, str | os.PathLike | TrainedNetwork) else models)
    ]
    kept = outdir is not None
    place = outdir if outdir is not None else tempfile.mkdtemp(prefix="dplearn-")
    parser = evaluate.build_parser()
    try:
        given = {"data": _directory(data), "outdir": place, "model": files or None, **options}
        chosen = _options(parser, given)
        evaluate.check_options(parser, chosen)
        with process_pool(evaluate.prepare(chosen)) as executor:
            result = Result(*evaluate.evaluate(chosen, executor))
    except BaseException:
        if not kept:
            shutil.rmtree(place, ignore_errors=True)
        raise
    if not kept:
        weakref.finalize(result, shutil.rmtree, place, ignore_errors=True)
    return result


@_with_options(mock.parser)
def make_mock_survey(outdir: PathLike, **options: Any) -> Path:
    """Mock survey with injections, made with GalSim, as ``mock`` makes it; returns its directory.

    Parameters
    ----------
    outdir : path
        Where the survey goes; empty or absent.

    Raises
    ------
    ValueError
        If an option makes no sense.
    DplearnError
        If `outdir` holds something.
    """
    chosen = _options(mock.parser(), {"outdir": outdir, **options})
    mock.program(chosen, mock.config_from(chosen))
    return Path(chosen.outdir)


def _directory(data: PathLike | StampSet) -> PathLike:
    """Directory of a training set."""
    return data.directory if isinstance(data, StampSet) else data
