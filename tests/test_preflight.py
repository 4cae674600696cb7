"""The preflight's own judgement; what it says of other trees is in `test_namespace`."""

from __future__ import annotations

import json

import pytest

from obiwan.dplearn import __main__ as preflight
from obiwan.dplearn import __version__

ABSENT = preflight.Package("no_such_module_anywhere", "mock")


def test_report_names_version_tree_and_packages(run_python, root):
    done = run_python("-m", "obiwan.dplearn")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"obiwan.dplearn {__version__} in {root / 'py'}\n")
    assert done.stdout.endswith("preflight: ok\n")
    for package in preflight.PACKAGES:
        assert f"\n  {package.module} " in done.stdout


def test_core_package_that_is_absent_fails(run_python):
    # -S leaves site-packages out, so that nothing third-party can be imported.
    done = run_python("-S", "-m", "obiwan.dplearn")
    assert done.returncode == 1
    assert "PROBLEM: numpy is missing: pip install obiwan-dplearn\n" in done.stdout
    assert "keras is missing" not in done.stdout


def test_extra_is_needed_only_when_named():
    assert preflight.package_report([ABSENT], ["core"], loading=True)[1] == []
    _, problems = preflight.package_report([ABSENT], ["core", "mock"], loading=False)
    assert problems == ["no_such_module_anywhere is missing: pip install 'obiwan-dplearn[mock]'"]


def test_unknown_extra_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        preflight.main(["--need", "teapot"])
    assert "teapot" in capsys.readouterr().err


def test_horovod_is_not_promised_by_pip():
    assert "doc/howto/install.rst" in preflight.remedy("horovod")


def test_load_tells_of_a_broken_package(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("raise OSError('libmissing.so')\n")
    monkeypatch.syspath_prepend(tmp_path)
    lines, problems = preflight.package_report(
        [preflight.Package("broken_package", "mock")], ["mock"], loading=True
    )
    assert "fails: OSError: libmissing.so" in lines[0]
    assert problems == ["broken_package cannot be imported: fails: OSError: libmissing.so"]


def test_load_of_a_sound_package():
    assert preflight.load(preflight.Package("json", "core")).startswith("loads in ")


def test_package_hidden_by_the_current_directory(run_python, tmp_path):
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("")
    done = run_python("-m", "obiwan.dplearn")
    assert done.returncode == 1
    assert f"{tmp_path / 'numpy'} hides the package numpy" in done.stdout


@pytest.mark.parametrize(
    ("environ", "configured", "expected"),
    [
        ({}, None, "tensorflow"),
        ({}, {"backend": "jax"}, "jax"),
        ({"KERAS_BACKEND": "torch"}, {"backend": "jax"}, "torch"),
        ({"KERAS_BACKEND": ""}, {"floatx": "float32"}, "tensorflow"),
        ({}, [], "tensorflow"),
    ],
)
def test_keras_backend(tmp_path, environ, configured, expected):
    if configured is not None:
        (tmp_path / "keras.json").write_text(json.dumps(configured))
    assert preflight.keras_backend({"KERAS_HOME": str(tmp_path), **environ}) == expected


def test_backend_takes_the_place_of_tensorflow(run_python):
    modules = [package.module for package in preflight.with_backend(preflight.PACKAGES, "jax")]
    assert "jax" in modules
    assert "tensorflow" not in modules
    done = run_python("-m", "obiwan.dplearn", env={"KERAS_BACKEND": "abacus"})
    assert done.returncode == 1
    assert "KERAS_BACKEND=abacus is none of" in done.stdout


def test_no_obiwan_on_the_path():
    assert "no obiwan on the path" in preflight.path_problems([], starts_here=False)[0]


def test_metadata_may_be_absent():
    assert preflight.Package("json", "core").version() == "version unknown"
