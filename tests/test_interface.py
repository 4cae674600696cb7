"""Functions for notebooks: the programs' work, options and checks, with records in place of exit statuses."""

from __future__ import annotations

import gc
import inspect
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

import obiwan.dplearn as dp
from evaluation_set import make_set
from obiwan.dplearn import cnn, create_training, evaluate, interface
from obiwan.dplearn.errors import LayoutError, ModelError, TrainingSetError
from obiwan.dplearn.evaluation import study
from planted import Planted
from synthetic import bricks_apart, survey

pytestmark = pytest.mark.usefixtures("environment_as_it_was")

COUNTS = {"train": 128, "val": 64, "test": 128}
TINY = {"maps": (3, 4), "kernel_size": 3, "dense": 6, "epochs": 2, "learning_rate": 3e-3, "quiet": True}
HEAVY = ("numpy", "astropy", "keras", "tensorflow", "sklearn", "galsim", "matplotlib", "lightgbm")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A training set whose injected galaxies are larger."""
    return make_set(tmp_path_factory.mktemp("interface") / "set", Planted("size", 3.0), COUNTS)


@pytest.fixture(scope="module")
def network(data):
    return dp.train_network(data, data.directory.parent / "cnn", **TINY)


@pytest.fixture(scope="module")
def result(data, network):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "MOSAIC_ROWS", 2)
        patch.setattr(study, "OCCLUSION_EXAMPLES", 40)
        return dp.run_evaluation(str(data.directory), network, referees=("network", "scores"), margin=0.03)


def test_importing_the_package_loads_nothing(run_python):
    code = f"import sys, obiwan.dplearn as dp; dir(dp); print([m for m in {HEAVY} if m in sys.modules])"
    assert run_python("-c", code).stdout == "[]\n"


def test_asking_for_a_function_does_not_load_tensorflow(run_python):
    code = f"import sys, obiwan.dplearn as dp; print([m for m in {HEAVY[2:]} if m in sys.modules])"
    code = code.replace("print", "dp.run_evaluation; print")
    assert run_python("-c", code).stdout == "[]\n"


def test_no_function_has_the_name_of_a_module():
    package = Path(dp.__file__).parent
    modules = {path.stem for path in package.iterdir()}
    assert not modules & set(dp.__all__)
    assert set(dp.__all__) <= set(dir(dp))
    for name in dp.__all__:
        assert getattr(dp, name) is getattr(interface, name)
    with pytest.raises(AttributeError, match="no attribute 'run_nothing'"):
        dp.run_nothing  # noqa: B018


@pytest.mark.parametrize(
    ("function", "program"),
    [
        ("make_training_set", create_training),
        ("train_network", cnn),
        ("run_evaluation", evaluate),
        ("make_mock_survey", interface.mock),
    ],
)
def test_every_option_is_a_documented_keyword(function, program):
    build = getattr(program, "build_parser", None) or program.parser
    flags = {action.dest for action in build()._actions} - set(interface.NOT_HERE)
    called = getattr(dp, function)
    keywords = {"model" if name == "models" else name for name in inspect.signature(called).parameters}
    assert keywords == flags
    missing = [name for name in flags if f"\n{name.removesuffix('model')}" not in called.__doc__]
    assert missing == []


def test_a_network_has_its_file_and_result(network, data):
    assert network.model.is_file()
    assert os.fspath(network) == str(network.model)
    assert network.result["data"] == data.checksum
    assert repr(network).startswith(f"TrainedNetwork('{network.model}'): AUC 0.")
    again = dp.train_network(str(data.directory), str(network.outdir), **TINY)
    assert again.result == network.result


def test_a_result_is_that_of_the_program(result, network):
    written = json.loads((result.report.parent / "metrics.json").read_text())
    assert result.report.name == "report.html"
    assert result.evaluation.settings["margin"] == 0.03
    assert written["answer"]["auc"]["value"] == result.evaluation.answer.auc.value
    assert written["models"][0]["checksum"] == network.result["model"]
    assert result.panel_verdict.kind.value == written["verdict"]["kind"]
    assert result.verdict.kind.value == written["ruling"]["kind"]


def test_a_result_shows_the_verdict(result):
    assert repr(result).splitlines()[0] == result.statement.headline
    assert result.statement.headline in result.summary
    shown = result._repr_html_()
    assert result.statement.headline in shown.replace("&#x27;", "'")
    assert "The network alone: AUC" in shown
    assert "The network alone: AUC" in repr(result)
    assert result.report.as_uri() in shown


def test_controls_are_a_table(result):
    table = result.controls
    assert len(table) == len(result.evaluation.controls)
    first = result.evaluation.controls[0]
    assert (table["name"][0], table["hazard"][0]) == (first.name, first.hazard)
    assert set(table["state"]) <= {"fail", "warn", "pass", "open", "not run"}
    assert np.isfinite(table["effect"]).any()
    assert table["n_real"][0] == first.counts[0]


def test_without_outdir_files_last_as_long_as_the_result(data, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(evaluate, "evaluate", lambda options, _: (None, options.outdir / "report.html"))
    found = dp.run_evaluation(data, referees=["trees"])
    assert found.report.parent.is_dir()
    del found
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_what_programs_refuse_is_raised(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="--margin must be between"):
        dp.run_evaluation(data, margin=0.7)
    with pytest.raises(ValueError, match="unknown option 'merge'"):
        dp.run_evaluation(data, merge=1)
    with pytest.raises(ValueError, match="'mpi'; --mpi is of the command line"):
        dp.make_training_set(tmp_path / "x", fake="y", mpi=True)
    with pytest.raises(ValueError, match="must be 1 to 4096"):
        dp.make_training_set(tmp_path / "x", fake="y", jobs=0)
    with pytest.raises(TrainingSetError, match="absent"):
        dp.open_training_set(tmp_path / "absent")
    with pytest.raises(LayoutError):
        dp.make_training_set(tmp_path / "x", fake=str(tmp_path))
    with pytest.raises(ModelError):
        dp.run_evaluation(data, tmp_path / "absent.keras")
    assert list(tmp_path.iterdir()) == []  # no temporary directory is left
    assert capsys.readouterr().err == ""


def test_a_training_set_is_made_and_opened(tmp_path):
    made = survey(tmp_path / "survey", bricks=bricks_apart(6))
    found = dp.make_training_set(tmp_path / "set", fake=made.fake, real=made.real)
    assert found.checksum == dp.open_training_set(str(tmp_path / "set")).checksum
    assert sum(found.count("train")) > 0
